//! Sockets that a service manager listens with: found by their addresses, shared by all shards, and kept while a daemon
//! is replaced by the next.

use crate::harness::{Client, Daemon, PATH, Setup, event, eventually, head};
use rustix::process::Signal;
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a service manager holds.
struct Manager {
    clients: TcpListener,
    feed: UnixListener,
}

impl Manager {
    /// Its sockets, and a daemon's configuration that names them.
    fn of(setup: Setup) -> (Self, Setup) {
        let clients = TcpListener::bind("127.0.0.1:0").unwrap();
        let feed = UnixListener::bind(setup.path("events.sock")).unwrap();
        let manager = Self { clients, feed };
        let setup = setup.set("listen.0.address", manager.address());
        let setup = setup.inheriting(&manager.clients, &manager.feed);
        (manager, setup)
    }

    fn address(&self) -> SocketAddr {
        self.clients.local_addr().unwrap()
    }
}

/// Clients that come one after the other, each of which stays for a while.
struct Visitors {
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Visitors {
    /// Clients that must all be let in, or only connect if the daemon may be killed under them.
    fn of(address: SocketAddr, are_let_in: bool) -> Self {
        let (is_over, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..4).map(|_| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            std::thread::spawn(move || {
                let mut staying = VecDeque::new();
                while !is_over.load(Relaxed) {
                    // It panics when it is refused.
                    let mut client = Client::raw(address);
                    if are_let_in {
                        client.bytes(head(PATH).as_bytes());
                        assert_eq!(client.answer(), 101);
                    } else if client.try_bytes(head(PATH).as_bytes()) {
                        client.answer();
                    }
                    served.fetch_add(1, Relaxed);
                    staying.push_back(client);
                    if staying.len() > 5 {
                        staying.pop_front();
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        });
        let threads = threads.collect();
        Self { is_over, served, threads }
    }

    /// Waits until more of them have been served.
    fn await_more(&self) {
        let before = self.served.load(Relaxed);
        eventually("clients are served", || self.served.load(Relaxed) > before + 20);
    }

    fn end(self) {
        self.is_over.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Replaces the daemon by others while clients come.
fn replaced_by(signal: Signal, are_let_in: bool) -> Daemon {
    let setup = Setup::new().set("threads", 2).set("drain_spread_s", 1);
    let (manager, setup) = Manager::of(setup);
    let mut daemon = setup.start();
    let visitors = Visitors::of(manager.address(), are_let_in);
    for _ in 0..5 {
        visitors.await_more();
        daemon.signal(signal);
        daemon.wait();
        daemon = daemon.again();
    }
    visitors.await_more();
    visitors.end();
    daemon
}

#[test]
fn no_client_is_refused_while_a_daemon_stops_and_the_next_starts() {
    replaced_by(Signal::TERM, true).assert_works();
}

#[test]
fn no_client_is_refused_while_a_daemon_is_killed_and_the_next_starts() {
    replaced_by(Signal::KILL, false).assert_works();
}

#[test]
fn what_comes_while_no_daemon_runs_waits_for_the_next() {
    let (manager, setup) = Manager::of(Setup::new());
    let mut daemon = setup.start();
    let mut reader = daemon.subscriber();
    daemon.publisher().send(event("first", "1"));
    assert!(reader.text().contains("first"));
    daemon.signal(Signal::TERM);
    assert_eq!(reader.close_code(), 1001);
    drop(reader);
    assert_eq!(daemon.wait().code(), Some(0));

    // As a client and as a publisher.
    let mut early = Client::raw(manager.address());
    early.bytes(head(PATH).as_bytes());
    let mut publisher = daemon.publisher();
    publisher.send(event("waited", "1"));
    let daemon = daemon.again();
    assert_eq!(early.answer(), 101);
    assert_eq!(publisher.receipt(), (1, 0));
    daemon.assert_works();
}

#[test]
fn sockets_that_the_configuration_does_not_name_are_warned_of() {
    let (manager, setup) = Manager::of(Setup::new());
    let other = setup.path("other.sock");
    let daemon =
        setup.set("listen.0.address", "127.0.0.1:0").set("feed.unix.path", other.display());
    let daemon = daemon.start();
    let left = [manager.address().to_string(), daemon.socket().display().to_string()];
    for left in left {
        assert_eq!(daemon.logged(&format!("the service manager has {left} for")).len(), 1);
    }
    assert!(daemon.address != manager.address() && other.exists());
    drop(daemon.client());
}

#[test]
fn a_listener_that_a_reload_adds_is_found_among_the_sockets_and_one_that_it_removes_is_warned_of() {
    let (manager, setup) = Manager::of(Setup::new().set("threads", 3));
    let setup = setup.set("listen.0.address", "127.0.0.1:0");
    let daemon = setup.start();
    let mut early = Client::raw(manager.address());
    early.bytes(head(PATH).as_bytes());
    let file = daemon.path("fanfare.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let more = format!(
        "[[listen]]\naddress = \"{}\"\ndialects = [\"personium-event\"]\n[admin]",
        manager.address()
    );
    std::fs::write(&file, before.replace("[admin]", &more)).unwrap();
    daemon.signal(Signal::HUP);
    assert_eq!(early.answer(), 101);
    for _ in 0..6 {
        Client::connect(manager.address());
    }
    std::fs::write(&file, before).unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_log("the service manager still listens on", 1);
}
