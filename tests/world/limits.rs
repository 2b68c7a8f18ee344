//! The bounds of the daemon: connections, descriptors, subscriptions.

use crate::harness::{Client, PATH, Setup, eventually, head, http, token};
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use std::path::Path;
use std::time::Duration;

#[test]
fn connections_beyond_the_limit_are_shed_and_later_ones_work_again() {
    let daemon = Setup::new().set("max_connections", 10).set("threads", 2).start();
    let mut clients: Vec<Client> = (0..10).map(|_| daemon.subscriber()).collect();
    for _ in 0..5 {
        let (status, rest) = http(daemon.address, head(PATH).as_bytes());
        assert!(status == 503 && rest.contains("Retry-After: "), "{status} {rest}");
    }
    assert_eq!(daemon.metric("handshakes_total{outcome=\"shed\"}"), 5);
    drop(clients.pop());
    daemon.await_metric("connections", 9);
    daemon.assert_works();
    for client in &mut clients {
        assert!(client.text().contains("works"));
    }
}

#[test]
fn clients_do_not_get_the_descriptors_that_others_need() {
    let limited = ["sh", "-c", "ulimit -n 160 && exec \"$@\"", "sh"];
    let daemon = Setup::new().by(&limited).set("max_connections", 1000).start();
    let noted = daemon.logged("max_connections = 1000, and 160 descriptors allow ");
    assert_eq!(noted.len(), 1, "{:?}", daemon.log());
    let most = daemon.metric("connections_max");
    assert!((1..160 - 64).contains(&most), "{most}");

    let mut clients: Vec<Client> = (0..200).map(|_| Client::raw(daemon.address)).collect();
    for client in &mut clients {
        client.bytes(head(PATH).as_bytes());
    }
    let answers = clients.iter_mut().map(|client| client.answer_within(Duration::from_secs(20)));
    let mut let_in = 0;
    for status in answers {
        let status = status.unwrap();
        assert!([101, 503].contains(&status), "{status}");
        let_in += u64::from(status == 101);
    }
    assert_eq!(let_in, most);
    // Every descriptor that clients may have is taken, and operators and publishers have theirs.
    assert_eq!(daemon.metric("connections"), most);
    let _publisher = daemon.publisher();
    daemon.await_metric("publishers", 1);
    assert_eq!(daemon.metric("accept_errors_total"), 0);

    drop(clients);
    daemon.await_metric("connections", 0);
    daemon.assert_works();
}

#[test]
fn without_descriptors_the_daemon_waits_quietly_and_recovers() {
    let limited = ["sh", "-c", "ulimit -n 300 && exec \"$@\"", "sh"];
    let daemon = Setup::new().by(&limited).start();
    let mut subscriber = daemon.subscriber();
    let mut publisher = daemon.publisher();
    // More than descriptors are kept for: those of clients.
    let _others: Vec<_> = (0..99).map(|_| daemon.publisher()).collect();
    // Connected is not accepted yet, and there will be no descriptor for it.
    daemon.await_metric("publishers", 100);
    // Enough to fill the table; the rest waits in the backlog or is told to come again.
    let mut clients: Vec<Client> = (0..250).map(|_| Client::raw(daemon.address)).collect();
    let mut refused = clients.len();
    for client in &mut clients {
        client.bytes(head(PATH).as_bytes());
    }
    assert_eq!(clients.last_mut().unwrap().answer_within(Duration::from_millis(300)), None);
    let before = daemon.cpu_time();
    assert!(subscriber.is_silent_for(Duration::from_secs(1)));
    let spent = daemon.cpu_time() - before;
    assert!(spent < Duration::from_millis(300), "{spent:?} of a second with nothing to do");
    publisher.send(crate::harness::event("meanwhile", "served"));
    assert!(subscriber.text().contains("meanwhile"));
    refused -= clients
        .iter_mut()
        .filter_map(|client| client.answer_within(Duration::ZERO))
        .filter(|s| *s == 101)
        .count();
    assert!(refused > 40, "{refused} were not accepted");
    drop(clients);
    daemon.await_metric("connections", 1);
    assert!(daemon.metric("accept_errors_total") > 0);
    let logged = daemon.logged("descriptors (").len();
    assert!((1..=5).contains(&logged), "{logged} lines");
    // Those that have gone still wait to be accepted, and may fill the table once more.
    eventually("a client is let in again", || {
        let mut client = Client::raw(daemon.address);
        client.bytes(head(PATH).as_bytes());
        client.answer_within(Duration::from_secs(2)) == Some(101)
    });
    daemon.await_metric("connections", 1);
    daemon.assert_works();
}

#[test]
fn an_operator_is_answered_with_the_last_descriptor() {
    let daemon = Setup::new().start();
    daemon.assert_works();
    daemon.await_metric("connections", 0);
    // The lowest number is the next one's, and the last that there may be.
    let table = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
    let is_free = |number: &u64| !Path::new(&format!("{table}/{number}")).is_symlink();
    let limit = (0..).find(is_free).map(|number| number + 1);
    // A higher hard limit takes a privilege.
    let limit = Rlimit { current: limit, maximum: limit };
    prlimit(Some(daemon.pid()), Resource::Nofile, limit).unwrap();
    for _ in 0..20 {
        assert_eq!(daemon.page("/healthz").0, 200);
    }
}

#[test]
fn subscriptions_are_limited_per_session_and_in_all() {
    let daemon = Setup::new()
        .set("personium.subscriptions_max", 10)
        .set("limits.subscriptions_max", 25)
        .start();
    let rule = |n: usize| format!("{{\"subscribe\":{{\"Type\":\"t{n}\",\"Object\":\"*\"}}}}");
    let mut clients: Vec<Client> = (0..2).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.ask(&format!("{{\"access_token\":\"{}\"}}", token()));
        for n in 0..10 {
            assert!(client.ask(&rule(n)).contains("success"));
        }
        assert!(client.ask(&rule(10)).contains("format error"));
    }
    let mut last = daemon.client();
    last.ask(&format!("{{\"access_token\":\"{}\"}}", token()));
    for n in 0..5 {
        assert!(last.ask(&rule(n)).contains("success"));
    }
    last.say(&rule(5));
    let close = loop {
        let frame = last.next().unwrap();
        if frame.first == 0x88 {
            break frame.payload;
        }
    };
    assert_eq!(close[..2], 1013u16.to_be_bytes());
    assert_eq!(daemon.metric("session_ends_total{reason=\"limit\"}"), 1);
    daemon.await_metric("subscriptions", 20);
    daemon.assert_works();
}

#[test]
fn a_connection_that_never_shows_a_token_is_closed() {
    let daemon = Setup::new().set("personium.token_timeout_s", 1).start();
    let mut silent = daemon.client();
    assert_eq!(silent.close_code(), 1000);
}

#[test]
fn a_client_that_leaves_pings_unanswered_is_closed() {
    let daemon = Setup::new()
        .set("personium.ping_interval_s", 1)
        .set("personium.ping_misses_max", 2)
        .start();
    let mut answering = daemon.subscriber();
    let mut deaf = daemon.subscriber();
    for _ in 0..2 {
        let ping = deaf.next().unwrap();
        assert_eq!(ping.first, 0x89);
        assert_eq!(answering.next().unwrap().first, 0x89);
        answering.frame(0x8a, &ping.payload);
    }
    assert_eq!(deaf.close_code(), 1000);
    assert_eq!(daemon.metric("session_ends_total{reason=\"unanswered\"}"), 1);
    assert_eq!(answering.next().unwrap().first, 0x89);
}

#[test]
fn a_time_limit_may_be_so_long_that_it_never_comes() {
    let never = u32::MAX;
    let daemon = Setup::new()
        .set("personium.ping_interval_s", never)
        .set("personium.token_timeout_s", never)
        .set("personium.session_s_max", never)
        .set("limits.handshake_timeout_s", never)
        .set("limits.close_timeout_s", never)
        .start();
    let mut tokenless = daemon.client();
    let mut subscriber = daemon.subscriber();
    assert!(subscriber.is_silent_for(Duration::from_millis(1500)));
    assert!(tokenless.is_silent_for(Duration::from_millis(1)));
    daemon.assert_works();
}

#[test]
fn too_few_descriptors_end_the_start_with_what_to_do() {
    for few in ["40", "64"] {
        let limited = ["sh", "-c", &format!("ulimit -n {few} && exec \"$@\""), "sh"];
        let output = Setup::new().by(&limited).command().output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("{few} descriptors are too few")), "{said}");
        assert!(said.contains("LimitNOFILE=") && said.contains("ulimit -n"), "{said}");
    }
}

#[test]
fn files_that_may_not_be_large_end_the_start_of_a_store_with_what_to_do_and_are_told_otherwise() {
    let limited = ["sh", "-c", "ulimit -f 2000 && exec \"$@\"", "sh"];
    let mut daemon = Setup::new().by(&limited).start();
    assert_eq!(daemon.logged("RLIMIT_FSIZE").len(), 1, "{:?}", daemon.log());
    daemon.assert_works();
    // What a write that is too long sends.
    daemon.signal(Signal::XFSZ);
    daemon.assert_works();
    assert!(daemon.runs());
    let setup = Setup::new().by(&limited).set("listen.0.dialects", "[\"pulsar\"]");
    let store = setup.path("store").display().to_string();
    let setup = setup.set("store.path", store).set("pulsar.anonymous", true);
    let output = setup.command().output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("RLIMIT_FSIZE") && said.contains("LimitFSIZE=infinity"), "{said}");
}
