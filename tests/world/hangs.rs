//! A thread that hangs: it is named, the service manager is asked for a restart when it goes on, and a stop ends all the
//! same.

use crate::harness::{Client, Daemon, Frozen, Setup, eventually};
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DRAIN_S: u64 = 1;

/// With two shards, a store and a bridge.
fn with_everything(setup: Setup) -> Setup {
    let store = setup.path("store").display().to_string();
    setup
        .set("threads", 2)
        .set("drain_s", DRAIN_S)
        .set("listen.0.dialects", "[\"personium-event\", \"pulsar\"]")
        .set("pulsar.anonymous", true)
        .set("store.path", store)
        // Nobody listens there.
        .set("feed.redis.url", "redis://127.0.0.1:1")
}

fn daemon() -> Daemon {
    with_everything(Setup::new()).start()
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

#[test]
fn a_stop_does_not_wait_for_a_shard_that_hangs() {
    let mut daemon = Setup::new().set("threads", 2).set("drain_s", 30).start();
    let Some(frozen) = Frozen::thread(&daemon, "shard-1") else { return };
    await_named(&daemon, "shard-1");
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(daemon.logged("the stop does not wait for the thread shard-1").len(), 1);
    drop(frozen);
}

/// A service manager whose watchdog wants to hear that all is well every two seconds.
struct Manager(UnixDatagram);

const PERIOD: Duration = Duration::from_secs(2);
/// Of a machine under load.
const PATIENCE: Duration = Duration::from_secs(20);

impl Manager {
    fn of(setup: Setup) -> (Self, Setup) {
        let path = setup.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let setup =
            setup.with("NOTIFY_SOCKET", path.display()).with("WATCHDOG_USEC", PERIOD.as_micros());
        (Self(socket), setup)
    }

    /// Whether it is told this within this time.
    fn is_told(&self, state: &str, time: Duration) -> bool {
        let start = Instant::now();
        let mut said = [0; 4096];
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.0.set_read_timeout(Some(left)).unwrap();
            match self.0.recv(&mut said) {
                Ok(count) => {
                    let mut lines = said[..count].split(|byte| *byte == b'\n');
                    if lines.any(|line| line == state.as_bytes()) {
                        return true;
                    }
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        false
    }

    /// Forgets what it was told until now.
    fn forget(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 4096]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }
}

const WELL: &str = "WATCHDOG=1";
const STUCK: &str = "WATCHDOG=trigger";

#[test]
fn the_service_manager_is_asked_for_a_restart_in_less_than_ten_seconds_when_a_thread_is_stuck() {
    let (manager, setup) = Manager::of(Setup::new().set("threads", 2));
    let daemon = setup.start();
    for _ in 0..3 {
        assert!(manager.is_told(WELL, PATIENCE));
    }
    let Some(frozen) = Frozen::thread(&daemon, "shard-1") else { return };
    let start = Instant::now();
    await_named(&daemon, "shard-1");
    manager.forget();
    assert!(manager.is_told(WELL, PERIOD), "it is ended for a pause");
    assert!(manager.is_told(STUCK, PATIENCE));
    // An idle shard may have turned two seconds before it stopped.
    let time = start.elapsed().as_secs_f64();
    assert!((4.9..9.0).contains(&time), "{time}");
    daemon.await_log("the thread shard-1 is stuck", 1);

    // A manager that does not know that word ends it for its silence.
    assert!(!manager.is_told(WELL, 2 * PERIOD), "it is not ended");
    drop(frozen);
    assert!(manager.is_told(WELL, PATIENCE));
    eventually("it is ready again", || daemon.page("/readyz").0 == 200);
    daemon.await_log("the thread shard-1 turns again", 1);
    daemon.assert_works();
}

#[test]
fn the_service_manager_leaves_a_store_its_time_whose_disk_stalls() {
    let (manager, setup) = Manager::of(with_everything(Setup::new()));
    let daemon = setup.start();
    let Some(frozen) = Frozen::thread(&daemon, "store") else { return };
    await_named(&daemon, "store");
    assert!(!manager.is_told(STUCK, Duration::from_secs(6)));
    manager.forget();
    assert!(manager.is_told(WELL, PATIENCE));
    drop(frozen);
    daemon.await_log("the thread store turns again", 1);
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
    // Each reload is told in a line.
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
    let mut producer = Client::upgraded(daemon.address, "/ws/v2/producer/persistent/t/n/x");
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
