//! A thread that hangs: it is named, the service manager is not told that all is well, and a stop ends all the same.

use crate::harness::{Client, Daemon, Frozen, Setup, eventually, head};
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DRAIN_S: u64 = 1;

/// With two shards, a store and a bridge.
fn daemon() -> Daemon {
    let setup = Setup::new();
    let store = setup.path("store").display().to_string();
    setup
        .set("threads", 2)
        .set("drain_s", DRAIN_S)
        .set("listen.0.dialects", "[\"personium-event\", \"pulsar\"]")
        .set("pulsar.anonymous", true)
        .set("store.path", store)
        // Nobody listens there.
        .set("feed.redis.url", "redis://127.0.0.1:1")
        .start()
}

#[track_caller]
fn await_named(daemon: &Daemon, thread: &str) {
    let named = format!("the thread {thread} hangs");
    eventually("the log names the thread", || daemon.logged(&named).len() == 1);
    if thread != "admin" {
        for path in ["/readyz", "/healthz", "/readyz?dialect=personium-event"] {
            let (status, reason) = daemon.page(path);
            assert!(status == 503 && reason.contains(&named), "{path}: {status} {reason}");
        }
    }
}

/// Whatever hangs, a signal to stop ends the process.
#[track_caller]
fn assert_stops(daemon: &mut Daemon) {
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert!(start.elapsed() < Duration::from_secs(DRAIN_S + 5), "{:?}", start.elapsed());
}

#[track_caller]
fn hangs(thread: &str) {
    let mut daemon = daemon();
    assert_eq!(daemon.page("/readyz").0, 200);
    let Some(frozen) = Frozen::thread(&daemon, thread) else { return };
    await_named(&daemon, thread);
    assert_stops(&mut daemon);
    drop(frozen);
}

#[test]
fn a_shard_that_hangs_is_named_and_keeps_nobody_from_stopping() {
    hangs("shard-1");
}

#[test]
fn the_first_shard_may_hang_as_any_other() {
    hangs("shard-0");
}

#[test]
fn a_store_that_hangs_is_named_and_keeps_nobody_from_stopping() {
    hangs("store");
}

#[test]
fn a_bridge_that_hangs_is_named_and_keeps_nobody_from_stopping() {
    hangs("bridge");
}

#[test]
fn an_admin_listener_that_hangs_is_named_and_keeps_nobody_from_stopping() {
    hangs("admin");
}

#[test]
fn a_thread_that_takes_signals_and_the_watchdog_may_hang_too_when_a_stop_is_asked_for() {
    for thread in ["fanfare", "watchdog", "stopper"] {
        let mut daemon = daemon();
        let Some(frozen) = Frozen::thread(&daemon, thread) else { return };
        assert_stops(&mut daemon);
        drop(frozen);
    }
}

/// Whether the watchdog of a service manager is told that all is well within this time.
fn is_fed(manager: &UnixDatagram, time: Duration) -> bool {
    let start = Instant::now();
    let mut said = [0; 4096];
    loop {
        let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
            return false;
        };
        manager.set_read_timeout(Some(left)).unwrap();
        match manager.recv(&mut said) {
            Ok(count)
                if said[..count].split(|byte| *byte == b'\n').any(|line| line == b"WATCHDOG=1") =>
            {
                return true;
            }
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn the_service_managers_watchdog_is_told_that_all_is_well_only_while_every_thread_turns() {
    let setup = Setup::new();
    let path = setup.path("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    let daemon = setup
        .set("threads", 2)
        .with("NOTIFY_SOCKET", path.display())
        .with("WATCHDOG_USEC", 2_000_000)
        .start();
    let period = Duration::from_secs(2);
    let patience = Duration::from_secs(20);
    for _ in 0..3 {
        assert!(is_fed(&manager, patience));
    }
    let Some(frozen) = Frozen::thread(&daemon, "shard-1") else { return };
    await_named(&daemon, "shard-1");
    // What was said before.
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut [0; 4096]).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    assert!(!is_fed(&manager, 2 * period), "it would not be ended");
    drop(frozen);
    assert!(is_fed(&manager, patience));
    eventually("it is ready again", || daemon.page("/readyz").0 == 200);
    daemon.await_log("the thread shard-1 turns again", 1);
    daemon.assert_works();
}

#[test]
fn a_stop_ends_although_nobody_reads_the_log_which_is_full() {
    let setup = Setup::new().set("drain_s", DRAIN_S);
    let mut child = setup.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::with_capacity(1, child.stderr.take().unwrap());
    rustix::pipe::fcntl_setpipe_size(log.get_ref(), 4096).unwrap();
    let mut line = String::new();
    while !line.contains("listening on ") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the daemon ended");
    }
    let pid = rustix::process::Pid::from_child(&child);
    // Each reload is told in a line, until the thread that takes signals waits for somebody to read them.
    let waiting = || rustix::io::ioctl_fionread(log.get_ref()).unwrap();
    eventually("nothing fits into the log any more", || {
        let before = waiting();
        rustix::process::kill_process(pid, Signal::HUP).unwrap();
        // A line has more bytes.
        before + 100 > 4096 || (before > 3000 && waiting() == before)
    });
    let start = Instant::now();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    eventually("it has ended", || child.try_wait().unwrap().is_some());
    assert!(start.elapsed() < Duration::from_secs(DRAIN_S + 5), "{:?}", start.elapsed());
}

#[test]
fn a_start_that_hangs_ends_when_a_stop_is_asked_for() {
    let setup = Setup::new();
    // Whoever reads it waits for somebody who writes it.
    std::fs::remove_file(setup.path("jwt.secret")).unwrap();
    let made = Command::new("mkfifo").arg(setup.path("jwt.secret")).status().unwrap();
    assert!(made.success());
    let mut child = setup.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let threads = format!("/proc/{}/task", child.id());
    eventually("it takes signals", || std::fs::read_dir(&threads).unwrap().count() > 1);
    let start = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    eventually("it has ended", || child.try_wait().unwrap().is_some());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_disk_that_does_not_answer_is_told_to_whoever_asks_for_pulsar() {
    let daemon = daemon();
    let Some(frozen) = Frozen::thread(&daemon, "sync") else { return };
    let mut producer = Client::raw(daemon.address);
    producer.bytes(head("/ws/v2/producer/persistent/t/n/x").as_bytes());
    assert_eq!(producer.answer(), 101);
    // The disk is waited for elsewhere when there is much at once.
    for _ in 0..200 {
        producer.say(r#"{"payload":"eA=="}"#);
    }
    let told = "a sync of the store has taken more than 10 s";
    eventually("readiness tells of it", || {
        let (status, page) = daemon.page("/readyz?dialect=pulsar");
        status == 503 && page.contains(told)
    });
    let (status, page) = daemon.page("/readyz");
    assert!(status == 200 && page.contains(told), "{status} {page}");
    assert_eq!(daemon.logged(told).len(), 1);
    drop(frozen);
    for _ in 0..200 {
        assert!(producer.text().contains("ok"));
    }
    eventually("it is ready again", || daemon.page("/readyz?dialect=pulsar").0 == 200);
    daemon.await_log("the disk answers again", 1);
}
