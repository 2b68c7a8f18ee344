//! What clients have sent in part, and who has to go when it is too much.

use crate::harness::{
    Authority, Client, Daemon, PATH, Setup, echo_setup, eventually, head, post, token,
};
use std::time::Duration;

/// 150 strangers with a message of a megabyte less a byte each once had 161 MiB held for them.
#[test]
fn what_clients_have_sent_in_part_has_a_bound_and_the_longest_parts_go() {
    const MAX: u64 = 4 << 20;
    let daemon = echo_setup()
        .set("threads", 1)
        .set("personium.text_bytes_max", 1 << 20)
        .set("limits.partial_bytes_max", MAX)
        .start();
    let mut patient = daemon.client();
    let command = format!("{{\"access_token\":\"{}\"}}", token());
    patient.frame(0x01, &command.as_bytes()[..20]);
    let before = daemon.memory_bytes();
    let part =
        [&[0x82, 0xff, 0, 0, 0, 0, 0, 0x0f, 0xff, 0xff, 0, 0, 0, 0][..], &[b' '; 700_000]].concat();
    let mut strangers: Vec<Client> = (0..30).map(|_| daemon.client()).collect();
    for stranger in &mut strangers {
        stranger.bytes(&part);
    }
    // What is left of it fits, so that most have gone.
    let left = |daemon: &Daemon| 30 - daemon.metric("session_ends_total{reason=\"partial_limit\"}");
    eventually("most are told to come again", || left(&daemon) <= MAX / 700_000);
    assert!(daemon.metric("partial_bytes") <= MAX);
    let grown = daemon.memory_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes for 20 MB that strangers have sent");
    let mut told = 0;
    for stranger in &mut strangers {
        if !stranger.is_silent_for(Duration::from_millis(5)) {
            assert_eq!(stranger.close_code(), 1013);
            // The rest of the message is no message; the close behind it is found.
            stranger.bytes(&[b' '; 0xfffff - 700_000]);
            stranger.frame(0x88, b"\x03\xf5");
            assert!(stranger.ends_within(Duration::from_secs(3)));
            told += 1;
        }
    }
    assert!(told >= 20, "{told} were told");
    drop(strangers);
    daemon.await_metric("connections", 1);
    // The same for bodies.
    let mut publishers: Vec<Client> = (0..10).map(|_| Client::raw(daemon.address)).collect();
    let body = post("/apps/7/events", &" ".repeat(900_000), "Content-Length: 1000000\r\n");
    for publisher in &mut publishers {
        publisher.try_bytes(body.as_bytes());
    }
    let shed = || daemon.metric("handshakes_total{outcome=\"shed\"}");
    eventually("some are told to come again", || shed() >= 6);
    let answers = publishers.iter_mut().filter_map(|it| it.answer_within(Duration::from_millis(5)));
    let answers: Vec<u16> = answers.collect();
    assert!(answers.len() >= 6 && answers.iter().all(|status| *status == 503), "{answers:?}");
    let evictions = daemon.metric("partial_evictions_total");
    assert_eq!(evictions, told + answers.len() as u64);
    // A short part is nobody's first choice.
    patient.frame(0x80, &command.as_bytes()[20..]);
    assert!(patient.text().contains("expires_in"));
    drop(publishers);
    daemon.await_metric("partial_bytes", 0);
    daemon.assert_works();
}

/// Before a handshake of TLS there is nobody who could be asked for a token.
#[test]
fn what_has_come_of_records_of_tls_counts_too() {
    const MAX: u64 = 1 << 20;
    let authority = Authority::new();
    let daemon = Setup::new().tls(&authority).set("limits.partial_bytes_max", MAX).start();
    let hello = [&[0x16, 3, 1, 0x40, 0][..], &[1, 0, 0x3f, 0xfc], &[0; 16_000]].concat();
    let mut strangers: Vec<Client> = (0..200).map(|_| Client::raw(daemon.address)).collect();
    strangers.iter_mut().for_each(|stranger| stranger.bytes(&hello));
    let evicted = || daemon.metric("partial_evictions_total");
    eventually("those beyond it are cut off", || evicted() >= 200 - MAX / 16_000);
    assert!(daemon.metric("partial_bytes") <= MAX);
    let mut client = Client::secure(daemon.address, &authority.client()).unwrap();
    client.bytes(head(PATH).as_bytes());
    assert_eq!(client.answer(), 101);
    client.follow();
    drop((strangers, client));
    daemon.await_metric("partial_bytes", 0);
}
