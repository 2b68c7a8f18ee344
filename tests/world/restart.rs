//! A daemon that is restarted by a service manager, which keeps the connections while no process runs.

use crate::channel::{join, setup};
use crate::handover::{CHANNELS, publish, read, user, visit};
use crate::harness::{Authority, Client, Daemon, Going, PATH, Setup, eventually, head};
use crate::quiet::assert_reported;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::Signal;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// The name of what a process leaves.
const NAME: &str = "fanfare-left";

/// What a service manager keeps, by name.
type Kept = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// A service manager: hears what the daemon tells it, and keeps what it is given.
struct Manager {
    directory: TempDir,
    kept: Kept,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    /// One whose unit lets the daemon leave so many descriptors.
    fn keeping(count: usize) -> Self {
        let directory = TempDir::with_prefix("fanfare-manager-").unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        // So that it sees its end.
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (kept, is_over) = (Kept::default(), Arc::<AtomicBool>::default());
        let (for_thread, until) = (Arc::clone(&kept), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let mut refused = Vec::new();
            while !until.load(Relaxed) {
                hear(&socket, &for_thread, &mut refused, count);
            }
        });
        Self { directory, kept, is_over, thread: Some(thread) }
    }

    /// Its daemon, as its unit starts it.
    fn of(&self, setup: Setup) -> Setup {
        let setup = setup.with("NOTIFY_SOCKET", self.directory.path().join("notify").display());
        setup.with("RUNTIME_DIRECTORY", self.directory.path().display())
    }

    /// What `ExecStop=` makes.
    fn sign(&self) -> PathBuf {
        self.directory.path().join("restart")
    }

    /// Ends a daemon as in a restart, and starts the next with a changed setup. It gets all that was
    /// kept, as it would be: the descriptor of this name.
    fn restart(&self, mut daemon: Daemon, change: impl FnOnce(Setup) -> Setup) -> Daemon {
        std::fs::create_dir(self.sign()).unwrap();
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(!self.sign().exists(), "it would count for the next stop");
        assert_reported(&daemon);
        let kept = self.kept.lock().unwrap();
        let left =
            kept.iter().find(|(name, _)| name == NAME).map(|(_, fd)| fd.try_clone().unwrap());
        drop(kept);
        let daemon = daemon.again_with(|setup| match left {
            Some(left) => change(setup).finding(NAME, left),
            None => change(setup).by(&[]),
        });
        eventually("nothing is kept for another process", || self.kept.lock().unwrap().is_empty());
        daemon
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

/// Hears the next word, if one comes soon, as sd_notify(3) has it. What finds no room is closed when
/// there is nothing else to do, as systemd 254 and later have it.
fn hear(socket: &UnixDatagram, kept: &Kept, refused: &mut Vec<OwnedFd>, count: usize) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4096];
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let Ok(received) = received else { return refused.clear() };
    let mut passed = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            passed.extend(descriptors);
        }
    }
    let text = str::from_utf8(&bytes[..received.bytes]).unwrap();
    let has = |line: &str| text.lines().any(|other| other == line);
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
    let mut kept = kept.lock().unwrap();
    if has("FDSTOREREMOVE=1") {
        kept.retain(|(other, _)| Some(other.as_str()) != name);
    } else if has("FDSTORE=1") {
        assert!(has("FDPOLL=0"), "it would be dropped as soon as the process has gone: {text}");
        for fd in passed {
            match kept.len() < count {
                true => kept.push((name.unwrap().to_owned(), fd)),
                false => refused.push(fd),
            }
        }
    }
}

/// How often the log has what the next process says of those that it has taken over.
fn taken_over(daemon: &Daemon) -> usize {
    daemon.logged("connections of the process before go on here").len()
}

#[test]
fn clients_and_publishers_talk_on_over_restarts_and_nothing_is_lost_or_comes_twice() {
    let manager = Manager::keeping(4);
    let mut daemon = manager.of(setup().set("threads", 2)).start();
    let clients: Vec<Client> = (0..100).map(|id| join(&daemon, &user(id % CHANNELS, id))).collect();
    daemon.await_metric("subscriptions", 100);

    let published = Arc::<AtomicU64>::default();
    let mut feed = Going::new();
    publish(&daemon, &mut feed, Arc::clone(&published));
    let mut visitors = Going::new();
    visit(daemon.address, &mut visitors);
    let await_more = || {
        let before = published.load(Relaxed);
        eventually("events are published", || published.load(Relaxed) > before + 50);
    };
    for round in 1..=3 {
        await_more();
        daemon = manager.restart(daemon, |setup| setup);
        assert_eq!(taken_over(&daemon), 1, "round {round}: {:?}", daemon.log());
        assert!(daemon.metric("handover_sessions_total{outcome=\"passed\"}") >= 100);
        assert_eq!(daemon.metric("handover_sessions_total{outcome=\"told\"}"), 0);
        assert_reported(&daemon);
    }
    await_more();
    assert!(visitors.end()[0] > 10);
    let count = feed.end()[0];
    for mut client in clients {
        read(&mut client, &mut 0, count);
    }
}

#[test]
fn a_stop_that_is_no_restart_says_goodbye_and_leaves_nothing() {
    let manager = Manager::keeping(4);
    // Of an earlier stop that came to nothing.
    std::fs::create_dir(manager.sign()).unwrap();
    let mut daemon = manager.of(setup()).start();
    let mut client = join(&daemon, &user(1, 1));
    daemon.signal(Signal::TERM);
    assert_eq!(client.close_code(), 1001);
    drop(client);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(manager.kept.lock().unwrap().is_empty());
    assert!(daemon.logged("restarting").is_empty());
    assert_eq!(daemon.logged("stopping: ").len(), 1);
}

/// A restart for which clients have to be told to come back, with the reason that is logged.
fn ends(manager: &Manager, setup: Setup, break_it: impl FnOnce(&Daemon), reason: &str) {
    let mut daemon = manager.of(setup).start();
    let mut client = join(&daemon, &user(1, 1));
    break_it(&daemon);
    std::fs::create_dir(manager.sign()).unwrap();
    daemon.signal(Signal::TERM);
    assert_eq!(client.close_code(), 1001, "{reason}");
    drop(client);
    assert_eq!(daemon.wait().code(), Some(0));
    let logged = daemon.logged("the connections end with the restart");
    assert!(logged.len() == 1 && logged[0].contains(reason), "{reason}: {:?}", daemon.log());
    assert_eq!(daemon.logged("stopping: ").len(), 1);
    assert!(manager.kept.lock().unwrap().is_empty(), "{reason}");
}

#[test]
fn a_restart_that_cannot_keep_connections_is_a_stop_and_says_why() {
    let none = Manager::keeping(0);
    ends(&none, setup(), |_| (), "FileDescriptorStoreMax=");
    let manager = Manager::keeping(4);
    let break_it = |daemon: &Daemon| {
        std::fs::write(daemon.path("fanfare.toml"), "nonsense = 1").unwrap();
    };
    ends(&manager, setup(), break_it, "nonsense");
    let break_it = |daemon: &Daemon| {
        let file = daemon.path("fanfare.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let cluster = "[cluster]\nurl = \"nats://127.0.0.1:1\"\nname = \"one\"\nnode = \"a\"\n";
        std::fs::write(file, text + cluster).unwrap();
    };
    ends(&manager, setup(), break_it, "[cluster]");
    // Neither is anything lost of what the next daemon would do.
    let setup = setup().with("NOTIFY_SOCKET", "/nonexistent");
    let setup = setup.with("RUNTIME_DIRECTORY", manager.directory.path().display());
    let mut daemon = setup.start();
    std::fs::create_dir(manager.sign()).unwrap();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
    assert_eq!(daemon.logged("the service manager keeps nothing").len(), 1);
}

#[test]
fn clients_over_tls_come_back_and_all_others_stay() {
    let authority = Authority::new();
    let manager = Manager::keeping(4);
    let setup = Setup::new().tls(&authority).set("threads", 2).set("drain_spread_s", 1);
    let setup = setup
        .set("listen.1.address", "127.0.0.2:0")
        .set("listen.1.dialects", r#"["personium-event"]"#);
    let daemon = manager.of(setup).start();
    let plain = plain_address(&daemon);
    let config = authority.client();
    let connect = |address: SocketAddr| Client::secure_session(address, &config).unwrap();
    let mut secure: Vec<Client> = (0..20).map(|_| connect(daemon.address)).collect();
    let mut others: Vec<Client> = (0..20).map(|_| followed(plain)).collect();
    let reading = std::thread::spawn(move || {
        // Read by one who answers the goodbye.
        secure.iter_mut().for_each(|client| assert_eq!(client.close_code(), 1001));
    });
    let daemon = manager.restart(daemon, |setup| setup);
    reading.join().unwrap();
    assert_eq!(daemon.metric("handover_sessions_total{outcome=\"told\"}"), 20);
    assert_eq!(daemon.metric("handover_sessions_total{outcome=\"passed\"}"), 20);
    connect(daemon.address);
    let mut publisher = daemon.publisher();
    publisher.send(crate::harness::event("stays", "now"));
    others.iter_mut().for_each(|client| assert!(client.text().contains("stays")));
}

/// The address of the second listener.
fn plain_address(daemon: &Daemon) -> SocketAddr {
    let line = daemon.logged("\"listening on ").remove(0);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let addresses = line["fields"]["addresses"].as_str().unwrap();
    addresses.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A client that follows every event.
fn followed(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.follow();
    client
}

#[test]
fn the_next_process_may_have_fewer_threads() {
    let manager = Manager::keeping(4);
    // A stop that takes no time leaves enough for a restart.
    let daemon = manager.of(setup().set("threads", 3).set("drain_s", 0)).start();
    let mut clients: Vec<Client> = (0..9).map(|id| join(&daemon, &user(id, id))).collect();
    let daemon = manager.restart(daemon, |setup| setup.set("threads", 2));
    assert_eq!(daemon.metric("handover_sessions_total{outcome=\"passed\"}"), 9);
    clients.iter_mut().for_each(|client| assert!(client.ask(r#"{"data":{}}"#).contains("ok")));
    // From each socket of the two that are left.
    (0..20).for_each(|id| drop(join(&daemon, &user(1, id))));
}

#[test]
fn a_listener_may_change_to_an_address_with_the_same_port() {
    let manager = Manager::keeping(4);
    let daemon = manager.of(setup()).start();
    let mut client = join(&daemon, &user(1, 1));
    let everywhere = SocketAddr::from(([0; 4], daemon.address.port()));
    let daemon = manager.restart(daemon, |setup| setup.set("listen.0.address", everywhere));
    assert_eq!(daemon.address, everywhere);
    assert!(client.ask(r#"{"data":{}}"#).contains("ok"));
    join(&daemon, &user(1, 2));
}

#[test]
fn sockets_in_the_file_system_are_as_the_configuration_has_them_now() {
    let manager = Manager::keeping(4);
    let daemon = manager.of(Setup::new().set("feed.unix.mode", "0660")).start();
    let path = daemon.socket();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o660);
    let daemon = manager.restart(daemon, |setup| setup.set("feed.unix.mode", "0600"));
    assert_eq!(mode(), 0o600);
    // By mistake.
    std::fs::remove_file(&path).unwrap();
    let daemon = manager.restart(daemon, |setup| setup);
    daemon.assert_works();
}

#[test]
fn those_whom_the_next_process_does_not_take_over_are_told_to_come_back() {
    let authority = Authority::new();
    let manager = Manager::keeping(4);
    let daemon = manager.of(setup()).start();
    let mut clients: Vec<Client> = (0..9).map(|id| join(&daemon, &user(1, id))).collect();
    // A listener with TLS has no session without.
    let daemon = manager.restart(daemon, |setup| setup.tls(&authority));
    clients.iter_mut().for_each(|client| assert_eq!(client.close_code(), 1001));
    assert_eq!(daemon.metric("handover_sessions_total{outcome=\"told\"}"), 9);
    assert_eq!(daemon.metric("handover_sessions_total{outcome=\"passed\"}"), 0);
}

/// Messages in a channel.
struct Left {
    sender: OwnedFd,
    receiver: OwnedFd,
}

impl Left {
    fn new() -> Self {
        let flags = SocketFlags::CLOEXEC;
        let (sender, receiver) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        Self { sender, receiver }
    }

    fn say(self, text: &str, descriptors: &[BorrowedFd<'_>]) -> Self {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let bytes = [IoSlice::new(text.as_bytes())];
        sendmsg(&self.sender, &bytes, &mut control, SendFlags::empty()).unwrap();
        self
    }

    fn listeners(self) -> Self {
        self.say(r#"{"Listeners":{"listeners":[],"follow":false}}"#, &[])
    }

    fn state(self, paused_ns: u64, state: &[u8]) -> Self {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("state", flags).unwrap());
        file.write_all(state).unwrap();
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        self.say(&format!(r#"{{"State":{{"paused_ns":{paused_ns}}}}}"#), &[file.as_fd()])
    }

    fn go(self) -> Self {
        self.say(r#"{"Go":{"told":0}}"#, &[])
    }
}

#[test]
fn what_cannot_be_taken_over_is_dropped_with_one_warning_and_the_daemon_works() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now_ns = now.tv_sec as u64 * 1_000_000_000;
    let all = [
        (Left::new(), "the old process is silent"),
        (Left::new().say("nonsense", &[]), "the old process is silent"),
        (Left::new().listeners(), "the old process is silent"),
        (
            Left::new().listeners().state(now_ns, b"fanfare\0\x01\0\0\0"),
            "the old process is silent",
        ),
        (Left::new().listeners().state(now_ns, b"other").go(), "it is no state of fanfare"),
        (Left::new().listeners().state(now_ns, b"fanfare\0\xff\0\0\0").go(), "format 255"),
        (Left::new().listeners().state(now_ns, b"fanfare\0\x01\0\0\0").go(), "cut off"),
        (Left::new().listeners().state(0, b"other").go(), "more than 60 s ago"),
        (Left::new().listeners().go().go(), "passes no state"),
    ];
    let manager = Manager::keeping(4);
    for (left, reason) in all {
        let Left { sender, receiver } = left;
        drop(sender);
        let kept = (NAME.to_owned(), receiver.try_clone().unwrap());
        manager.kept.lock().unwrap().push(kept);
        let daemon = manager.of(Setup::new()).finding(NAME, receiver).start();
        let warnings = daemon.logged("\"WARN\"");
        assert!(
            warnings.len() == 1 && warnings[0].contains(reason),
            "{reason}: {:?}",
            daemon.log()
        );
        eventually("it is forgotten", || manager.kept.lock().unwrap().is_empty());
        daemon.assert_works();
    }
}

#[test]
fn who_comes_while_none_runs_is_served_by_the_next() {
    let manager = Manager::keeping(4);
    let mut daemon = manager.of(Setup::new()).start();
    let address = daemon.address;
    std::fs::create_dir(manager.sign()).unwrap();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
    let mut early = Client::raw(address);
    early.bytes(head(PATH).as_bytes());
    let left = manager.kept.lock().unwrap()[0].1.try_clone().unwrap();
    let daemon = daemon.again_with(|setup| setup.finding(NAME, left));
    assert_eq!(daemon.address, address);
    assert_eq!(early.answer(), 101);
    daemon.assert_works();
}

#[test]
fn consumers_of_pulsar_stay_and_are_told_to_come_back_for_another_number_of_writers() {
    let manager = Manager::keeping(4);
    let setup = Setup::new().set("threads", 2);
    let store = setup.path("store").display().to_string();
    let setup = setup
        .set("listen.0.dialects", r#"["personium-event", "pulsar"]"#)
        .set("store.path", store)
        .set("pulsar.anonymous", true);
    let mut daemon = manager.of(setup).start();
    let path = "/ws/v2/consumer/persistent/t/n/orders/billing";
    let mut consumer = Client::upgraded(daemon.address, path);
    for payload in ["AAAA", "BBBB", "CCCC"] {
        let mut publisher = daemon.publisher();
        publisher.send(format!("pulsar/persistent/t/n/orders {{\"payload\":\"{payload}\"}}\n"));
        assert_eq!(publisher.receipt(), (1, 0));
        let next = consumer.text();
        assert!(next.contains(payload), "something is missing, or comes again: {next}");
        daemon = manager.restart(daemon, |setup| setup);
        assert_eq!(daemon.metric("handover_sessions_total{outcome=\"told\"}"), 0);
    }
    let daemon = manager.restart(daemon, |setup| {
        // Topics are divided among the writers that a store was made with.
        let other = setup.path("other-store").display().to_string();
        setup.set("store.path", other).set("store.writers", 2)
    });
    assert_eq!(consumer.close_code(), 1001);
    assert_eq!(daemon.metric("handover_sessions_total{outcome=\"told\"}"), 1);
    Client::upgraded(daemon.address, path);
}
