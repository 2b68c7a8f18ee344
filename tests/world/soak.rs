//! Clients of all manners that come and go, on either driver: what they leave behind is nothing.

use crate::harness::{Client, Daemon, Setup, event, eventually, head};
use fanfare::inspect::ENDS_MAX;
use fanfare::io::foundation::try_io_uring;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Connections that stay.
const STEADY: usize = 50;
/// Connections of one round.
const ROUND: usize = 40;
/// Memory that may be added between the end of the warm-up and the end.
const GROWTH_BYTES_MAX: u64 = 4 * 1024 * 1024;

const TOKEN: &str = "admin-token-0123456789abcdef";
/// Maximum number of ends that one answer has.
const ROWS_MAX: u64 = 1000;
/// The reasons that are logged at `debug`.
const QUIET: [&str; 3] = ["client", "gone", "drain"];

/// The drivers of a daemon.
const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

fn is_permitted(driver: &str) -> bool {
    driver == "epoll"
        || try_io_uring(1).inspect_err(|error| eprintln!("skipped: io_uring: {error}")).is_ok()
}

/// How long clients come and go.
fn duration() -> Duration {
    let is_long = std::env::var_os("FANFARE_LONG").is_some();
    Duration::from_secs(if is_long { 600 } else { 5 })
}

fn descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid().as_raw_nonzero())).unwrap().count()
}

/// A client in one of the manners of clients.
fn visit(daemon: &Daemon, manner: usize) -> Option<Client> {
    match manner % 8 {
        // Goes without a word, or in the midst of its request.
        0 => drop(daemon.client()),
        1 => daemon.client().bytes(b"GET /demo/__ev"),
        // Asks something, and what is no request.
        2 => daemon.client().bytes(b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n"),
        3 => daemon.client().bytes(b"\x16\x03\x01\x02\x00\x01"),
        // Follows, and says goodbye or does not.
        4 => daemon.subscriber().frame(0x88, b"\x03\xe8"),
        5 => drop(daemon.subscriber()),
        // Leaves in the midst of a long message.
        6 => daemon.subscriber().bytes(&[0x81, 0xfe, 0x40, 0, 0, 0, 0, 0, b'x', b'x']),
        // Sends its request behind what it has to say.
        _ => {
            let mut client = daemon.client();
            client.bytes(&[head("/demo/__event").as_bytes(), b"\x89\x80\0\0\0\0"].concat());
            return Some(client);
        }
    }
    None
}

/// One round of visits, with an event for those that follow.
fn round(daemon: &Daemon, steady: &mut [Client], number: usize) {
    let staying: Vec<Client> =
        (0..ROUND).filter_map(|visitor| visit(daemon, number + visitor)).collect();
    let mut publisher = daemon.publisher();
    let text = number.to_string();
    publisher.send(event("soak", &text));
    for client in steady {
        assert!(client.text().contains(&format!("\"Info\":\"{text}\"")));
        client.frame(0x89, b"ping");
        // The daemon's own pings come between.
        while client.next().unwrap().payload != b"ping" {}
    }
    drop(staying);
}

/// Asserts that each end is kept as it was counted, as far as there is room, and that each reason is in the log.
fn assert_ends_are_told(daemon: &Daemon) {
    let totals = daemon.ask(TOKEN, "GET", "/v1/status")["totals"].clone();
    let ends = totals["ends"].as_object().unwrap();
    let all: u64 = ends.values().map(|count| count.as_u64().unwrap()).sum();
    assert!(ends.len() >= 3, "{ends:?}");
    for (reason, count) in ends {
        let found =
            daemon.ask(TOKEN, "GET", &format!("/v1/ended?reason={reason}&count={ROWS_MAX}"));
        let found = found["ended"].as_array().unwrap();
        let kept = found.iter().filter(|end| end["refused"] == false).count() as u64;
        let count = count.as_u64().unwrap();
        if all <= ENDS_MAX as u64 && found.len() < ROWS_MAX as usize {
            assert_eq!(kept, count, "{reason}");
        }
        // One that was reset before its end was seen has no address any more.
        assert!(kept > 0 && found.iter().any(|end| end["address"].is_string()), "{reason}");
        let lines = daemon.logged(&format!(": {reason} ("));
        assert_eq!(lines.is_empty(), QUIET.contains(&reason.as_str()), "{reason}");
    }
    println!("{all} ends: {ends:?}");
}

#[test]
fn memory_and_descriptors_stay_while_clients_come_and_go() {
    for driver in DRIVERS.into_iter().filter(|driver| is_permitted(driver)) {
        let mut daemon = Setup::new().set("driver", driver).set("admin.token", TOKEN).start();
        let mut steady: Vec<Client> = (0..STEADY).map(|_| daemon.subscriber()).collect();
        // Tables and pools grow to what they need, and every shared buffer is used once.
        (0..20).for_each(|number| round(&daemon, &mut steady, number));
        daemon.await_metric("connections", STEADY as u64);
        let before = (daemon.memory_bytes(), descriptors(&daemon));

        let (start, mut number) = (Instant::now(), 20);
        while start.elapsed() < duration() {
            round(&daemon, &mut steady, number);
            number += 1;
        }
        daemon.await_metric("connections", STEADY as u64);
        eventually("descriptors are closed", || descriptors(&daemon) <= before.1);
        let after = daemon.memory_bytes();
        assert!(
            after <= before.0 + GROWTH_BYTES_MAX,
            "{} bytes became {after} in {number} rounds on {driver}",
            before.0
        );
        assert_ends_are_told(&daemon);
        println!("{driver}: {number} rounds, {} and {after} bytes", before.0);

        daemon.signal(Signal::TERM);
        drop(steady);
        assert_eq!(daemon.wait().code(), Some(0));
    }
}
