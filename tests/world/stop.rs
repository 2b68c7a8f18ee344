//! Stopping, being killed, starting again and reloading.

use crate::harness::{
    Client, PATH, SECRET, Setup, event, eventually, eventually_within, head, http, token_with,
};
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn hello(secret: &str) -> String {
    format!("{{\"access_token\":\"{}\"}}", token_with(secret, "event-read"))
}

#[test]
fn a_stop_delivers_what_is_queued_and_then_says_going_away() {
    const EVENTS: usize = 2000;
    let mut daemon =
        Setup::new().set("threads", 2).set("limits.outbox_bytes_max", 64 * 1024 * 1024).start();
    let mut idle = daemon.subscriber();
    let mut stalled = daemon.subscriber();
    let mut tokenless = daemon.client();
    let mut headless = Client::raw(daemon.address);
    headless.bytes(b"GET /demo/__event HTTP/1.1\r\n");
    let mut publisher = daemon.publisher();
    let info = "x".repeat(8 * 1024);
    let reader = std::thread::spawn(move || {
        for place in 0..EVENTS {
            assert!(idle.text().contains(&format!("\"Object\":\"{place}\"")));
        }
        assert_eq!(idle.close_code(), 1001);
        idle.frame(0x88, b"\x03\xe9");
        assert!(idle.ends_within(Duration::from_secs(3)));
    });
    for place in 0..EVENTS {
        publisher.send(event(&place.to_string(), &info));
    }
    assert_eq!(publisher.receipt(), (EVENTS as u64, 0));
    eventually("the stalled client stalls", || daemon.metric("outbox_bytes") > 1024 * 1024);
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(tokenless.close_code(), 1001);
    tokenless.frame(0x88, b"");
    for place in 0..EVENTS {
        assert!(stalled.text().contains(&format!("\"Object\":\"{place}\"")));
    }
    assert_eq!(stalled.close_code(), 1001);
    stalled.frame(0x88, b"\x03\xe9");
    assert!(stalled.ends_within(Duration::from_secs(3)));
    reader.join().unwrap();
    assert_eq!(headless.response().0, 503);
    drop(headless);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(daemon.logged("\"stopped\"").len(), 1, "{:?}", daemon.log());
}

#[test]
fn what_publishers_had_sent_before_a_stop_is_delivered() {
    let mut daemon = Setup::new().set("limits.outbox_bytes_max", 64 * 1024 * 1024).start();
    let mut subscriber = daemon.subscriber();
    let mut publisher = daemon.publisher();
    assert_eq!(publisher.receipt(), (0, 0));
    daemon.signal(Signal::STOP);
    publisher.send((0..50).map(|n| event("late", &n.to_string())).collect::<String>());
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    for n in 0..50 {
        assert!(subscriber.text().contains(&format!("\"Info\":\"{n}\"")));
    }
    assert_eq!(subscriber.close_code(), 1001);
    drop(subscriber);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_daemon_that_drains_is_not_ready_and_takes_nobody() {
    let mut daemon = Setup::new().set("drain_s", 1).set("limits.close_timeout_s", 60).start();
    let page = daemon.page("/readyz");
    assert!(page.0 == 200 && page.1.ends_with("ready\n"));
    assert_eq!(daemon.page("/healthz").0, 200);
    assert_eq!(daemon.page("/nothing").0, 404);
    assert_eq!(http(daemon.admin, b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").0, 405);
    let mut stubborn = daemon.subscriber();
    // The last of them are told in the second half of the time.
    let _others: Vec<Client> = (0..10).map(|_| daemon.client()).collect();
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(stubborn.close_code(), 1001);
    let page = daemon.page("/readyz");
    assert!(page.0 == 503 && page.1.ends_with("draining\n"), "{page:?}");
    assert_eq!(daemon.page("/healthz").0, 200);
    assert!(
        std::net::TcpStream::connect(daemon.address).is_err(),
        "a draining daemon still accepts"
    );
    assert!(std::os::unix::net::UnixStream::connect(daemon.socket()).is_err());
    assert_eq!(daemon.wait().code(), Some(0));
    let elapsed = start.elapsed();
    assert!((1..4).contains(&elapsed.as_secs()), "drain_s = 1 took {elapsed:?}");
    assert_eq!(daemon.logged("had not closed; drain_s = ").len(), 1);
}

#[test]
fn a_second_signal_stops_at_once_when_it_comes_a_second_after_the_first() {
    for second in [Signal::TERM, Signal::INT] {
        let mut daemon = Setup::new().set("drain_s", 600).set("drain_spread_s", 300).start();
        // Enough for a spread that lasts longer than the test.
        let _others: Vec<Client> = (0..50).map(|_| daemon.client()).collect();
        let mut first = daemon.subscriber();
        let start = Instant::now();
        // As GNU timeout does, to the process and to its group.
        daemon.signal(Signal::TERM);
        daemon.signal(second);
        assert_eq!(first.close_code(), 1001);
        let ended = || {
            daemon.signal(second);
            !daemon.runs()
        };
        eventually("it has stopped", ended);
        assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(daemon.wait().code(), Some(1));
        assert_eq!(daemon.logged("stopped at once").len(), 1);
    }
}

#[test]
fn signals_for_other_programs_change_nothing() {
    let mut daemon = Setup::new().start();
    let mut subscriber = daemon.subscriber();
    for signal in [Signal::USR1, Signal::USR2] {
        daemon.signal(signal);
    }
    // The next signal is taken after them.
    daemon.signal(Signal::HUP);
    daemon.await_log("reloaded", 1);
    daemon.publisher().send(event("still", "here"));
    assert!(subscriber.text().contains("still"));
    assert!(daemon.runs());
}

#[test]
fn clients_are_told_to_go_one_after_the_other_once_the_feeds_have_ended() {
    const CLIENTS: usize = 300;
    const SPREAD: Duration = Duration::from_secs(2);
    let mut daemon = Setup::new().set("threads", 2).set("drain_spread_s", 2).start();
    let mut publisher = daemon.publisher();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| daemon.subscriber()).collect();
    publisher.send(event("last", "words"));
    assert_eq!(publisher.receipt(), (1, 0));
    let waiting = clients.drain(..).map(|mut client| {
        std::thread::spawn(move || {
            assert!(client.text().contains("last"));
            assert_eq!(client.close_code(), 1001);
            let told = Instant::now();
            client.frame(0x88, b"\x03\xe9");
            told
        })
    });
    let waiting: Vec<_> = waiting.collect();
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    let told = waiting.into_iter().map(|client| client.join().unwrap().duration_since(start));
    let mut told: Vec<Duration> = told.collect();
    told.sort_unstable();
    // A machine under load wakes the clients late, but not all of them at once.
    let gap = told.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(gap < Duration::from_millis(500), "{gap:?}");
    assert!(
        told[CLIENTS - 1] - told[0] > SPREAD * 3 / 4,
        "{:?} to {:?}",
        told[0],
        told[CLIENTS - 1]
    );
    let half = told.iter().filter(|at| **at - told[0] < SPREAD / 2).count();
    assert!((CLIENTS / 4..CLIENTS * 3 / 4).contains(&half), "{half} in the first half");
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(start.elapsed() < SPREAD + Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_deaf_client_holds_up_a_stop_for_a_second() {
    let mut daemon = Setup::new().start();
    let mut deaf = daemon.subscriber();
    let mut half_closed = daemon.subscriber();
    half_closed.frame(0x88, b"\x03\xe8");
    assert_eq!(half_closed.close_code(), 1000);
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(deaf.close_code(), 1001);
    assert_eq!(daemon.wait().code(), Some(0));
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_millis(2500), "{elapsed:?}");
    assert_eq!(daemon.logged("\"stopped\"").len(), 1, "{:?}", daemon.log());
}

#[test]
fn a_handshake_that_has_begun_before_a_stop_becomes_a_session_that_is_told_to_go() {
    let mut daemon = Setup::new().set("threads", 2).start();
    let _others: Vec<Client> = (0..20).map(|_| daemon.client()).collect();
    let mut late = Client::raw(daemon.address);
    daemon.await_metric("connections", 21);
    daemon.signal(Signal::TERM);
    let refused = || std::net::TcpStream::connect(daemon.address).is_err();
    eventually("nobody is taken any more", refused);
    late.bytes(head(PATH).as_bytes());
    assert_eq!(late.answer(), 101);
    assert_eq!(late.close_code(), 1001);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn an_idle_daemon_stops_promptly() {
    let mut daemon = Setup::new().set("threads", 2).start();
    let _publisher = daemon.publisher();
    let start = Instant::now();
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_killed_daemon_starts_again_on_the_same_socket() {
    let mut daemon = Setup::new().start();
    for _ in 0..8 {
        let mut subscriber = daemon.subscriber();
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.wait().code(), None);
        assert!(subscriber.next().is_none());
        daemon = daemon.again();
        daemon.assert_works();
    }
}

#[test]
fn a_reload_swaps_the_secret_and_keeps_connections() {
    const NEW: &str = "another secret that is as long as the first one was";
    let daemon = Setup::new().set("threads", 2).start();
    let mut old = daemon.subscriber();
    std::fs::write(daemon.path("jwt.secret"), NEW).unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_log("reloaded: keys", 1);
    eventually("the new secret is in use", || {
        daemon.client().ask(&hello(NEW)).contains("expires_in")
    });
    let mut refused = daemon.client();
    refused.say(&hello(SECRET));
    assert_eq!(refused.close_code(), 1000);
    daemon.publisher().send(event("still", "here"));
    assert!(old.text().contains("still"));

    for broken in ["personium = 1", "[[listen]", "treads = 1"] {
        let good = std::fs::read_to_string(daemon.path("fanfare.toml")).unwrap();
        std::fs::write(daemon.path("fanfare.toml"), format!("{broken}\n{good}")).unwrap();
        let before = daemon.logged("not reloaded").len();
        daemon.signal(Signal::HUP);
        daemon.await_log("not reloaded", before + 1);
        std::fs::write(daemon.path("fanfare.toml"), good).unwrap();
    }
    std::fs::write(daemon.path("jwt.secret"), "short").unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_log("not reloaded", 4);
    assert!(daemon.client().ask(&hello(NEW)).contains("expires_in"));
    daemon.publisher().send(event("and", "still"));
    assert!(old.text().contains("and"));
    assert!(daemon.logged("short").iter().all(|line| !line.contains(NEW)));
}

#[test]
fn a_reload_changes_limits_for_new_connections() {
    let daemon = Setup::new().start();
    let _first = daemon.subscriber();
    let text = std::fs::read_to_string(daemon.path("fanfare.toml")).unwrap();
    std::fs::write(daemon.path("fanfare.toml"), format!("max_connections = 1\n{text}")).unwrap();
    daemon.signal(Signal::HUP);
    eventually("no more connections are taken", || {
        Client::try_connect(daemon.address).err() == Some(503)
    });
}

#[test]
fn a_log_that_nobody_reads_any_more_does_not_end_the_daemon() {
    let setup = Setup::new();
    let text = std::fs::read_to_string(setup.path("fanfare.toml")).unwrap();
    let mut child = setup.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the daemon ended");
    }
    drop(log);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let admin = line["fields"]["admin"].as_str().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    // Each reload is a line that goes nowhere.
    for connections_max in 101..104 {
        let changed = format!("max_connections = {connections_max}\n{text}");
        std::fs::write(setup.path("fanfare.toml"), changed).unwrap();
        rustix::process::kill_process(pid, Signal::HUP).unwrap();
        let shown = format!("fanfare_connections_max {connections_max}\n");
        eventually("the reload is done", || {
            http(admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").1.contains(&shown)
        });
    }
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_stop_ends_accepting_at_once_however_much_is_still_to_be_delivered() {
    let (mut daemon, crowd, flood) = crate::slow::flooded("auto");
    crate::slow::await_lag(&daemon);
    daemon.signal(Signal::TERM);
    let refused = || std::net::TcpStream::connect(daemon.address).is_err();
    eventually_within(Duration::from_millis(300), "nobody is taken any more", refused);
    assert!(refused());
    drop(crowd);
    flood.join().unwrap();
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_stop_in_a_flood_closes_clients_while_there_is_time() {
    let (mut daemon, mut crowd, flood) = crate::slow::flooded("auto");
    crate::slow::await_lag(&daemon);
    daemon.signal(Signal::TERM);
    for client in &mut crowd {
        assert_eq!(client.close_code(), 1001);
    }
    drop(crowd);
    flood.join().unwrap();
    assert_eq!(daemon.wait().code(), Some(0));
}
