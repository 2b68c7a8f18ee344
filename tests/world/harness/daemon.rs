//! A daemon in a process of its own, with its configuration, socket and log in a temporary directory.

use super::{Authority, Client, DEADLINE, Publisher, SECRET, eventually, http};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a test wants to be different.
pub(crate) struct Setup {
    directory: TempDir,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    inherited: Option<(OwnedFd, OwnedFd)>,
}

/// The program with arguments and without anything of the tests' own environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    clean(env!("CARGO_BIN_EXE_fanfare"), arguments)
}

pub(crate) fn clean(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FANFARE_")) {
        command.env_remove(name);
    }
    command
}

impl Setup {
    /// One shard, one listener, the unix feed, tokens signed with [`SECRET`].
    pub(crate) fn new() -> Self {
        let directory = TempDir::with_prefix("fanfare-").unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("jwt.secret"), SECRET).unwrap();
        let configuration = format!(
            "threads = 1\npin = false\ndrain_s = 10\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\ndialects = [\"personium-event\"]\n\
             [admin]\naddress = \"127.0.0.1:0\"\n\
             [feed.unix]\npath = {:?}\n\
             [log]\nformat = \"json\"\n\
             [personium]\ntoken = {{ jwt = {{ algorithms = [\"HS256\"], secret_file = {:?} }} }}\n",
            path("events.sock"),
            path("jwt.secret"),
        );
        std::fs::write(path("fanfare.toml"), configuration).unwrap();
        // All tests run once more on the driver that is not usual.
        let driver = std::env::var("FANFARE_TEST_DRIVER").ok();
        let driver = driver.map(|driver| ("FANFARE_DRIVER".to_owned(), driver));
        Self {
            directory,
            environment: driver.into_iter().collect(),
            wrapper: Vec::new(),
            inherited: None,
        }
    }

    /// Sets a key of the configuration, by its variable in the environment.
    pub(crate) fn set(mut self, key: &str, value: impl ToString) -> Self {
        let name = format!("FANFARE_{}", key.replace('.', "_").to_uppercase());
        self.environment.push((name, value.to_string()));
        self
    }

    /// Sets a variable of the environment that is no key.
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.into(), value.to_string()));
        self
    }

    /// Lets tokens be judged by what this line of TOML says.
    pub(crate) fn verified_by(self, token: &str) -> Self {
        verified_by(&self.path("fanfare.toml"), token);
        self
    }

    /// Lets its listener speak TLS, with a certificate of an authority, whose own is in `ca.pem`.
    pub(crate) fn tls(self, authority: &Authority) -> Self {
        std::fs::write(self.path("ca.pem"), &authority.pem).unwrap();
        authority.sign().install(self.directory.path());
        let file = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let (certificate, key) = (file("cert.pem"), file("key.pem"));
        self.set("listen.0.tls.certificate", certificate).set("listen.0.tls.key", key)
    }

    /// Runs the daemon by another program, which has to become it.
    pub(crate) fn by(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// Has it find these sockets at its start, as a service manager hands them over.
    pub(crate) fn inheriting(mut self, clients: &TcpListener, feed: &UnixListener) -> Self {
        let sockets = (clients.try_clone().unwrap().into(), feed.try_clone().unwrap().into());
        self.inherited = Some(sockets);
        let script = "LISTEN_FDS=2 LISTEN_PID=$$ exec \"$@\" 3<&0 4<&1 </dev/null >/dev/null";
        self.by(&["sh", "-c", script, "sh"])
    }

    /// Has it find this at its start, as what a service manager has kept by a name.
    pub(crate) fn finding(mut self, name: &str, kept: OwnedFd) -> Self {
        // The second is that of the other way, of which nothing is passed on.
        self.inherited = Some((kept, File::open("/dev/null").unwrap().into()));
        let script = format!(
            "LISTEN_FDS=1 LISTEN_FDNAMES={name} LISTEN_PID=$$ exec \"$@\" 3<&0 </dev/null >/dev/null"
        );
        self.by(&["sh", "-c", &script, "sh"])
    }

    /// A file of the daemon's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The command that runs it.
    pub(crate) fn command(&self) -> Command {
        let file = self.path("fanfare.toml");
        let mut words: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        words.extend([env!("CARGO_BIN_EXE_fanfare"), "serve", "--config", file.to_str().unwrap()]);
        let mut command = clean(words[0], &words[1..]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(self) -> Daemon {
        let command = self.command();
        Daemon::start(command, self)
    }
}

/// Replaces the verifier in a file of [`Setup`].
fn verified_by(file: &Path, token: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    let (before, _) = text.split_once("token = {").unwrap();
    std::fs::write(file, format!("{before}token = {{ {token} }}\n")).unwrap();
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    /// Where clients connect; of several listeners, to the first.
    pub(crate) address: SocketAddr,
    /// All of them.
    #[allow(dead_code)]
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where health and metrics are.
    pub(crate) admin: SocketAddr,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    logger: Option<JoinHandle<()>>,
    setup: Setup,
}

impl Daemon {
    fn start(mut command: Command, setup: Setup) -> Self {
        match &setup.inherited {
            Some((clients, feed)) => {
                command.stdin(clients.try_clone().unwrap()).stdout(feed.try_clone().unwrap());
            }
            None => {
                command.stdout(Stdio::null());
            }
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, stderr) = (Arc::clone(&log), BufReader::new(child.stderr.take().unwrap()));
        let logger = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let nowhere = ([0; 4], 0).into();
        let logger = Some(logger);
        let (address, admin, addresses) = (nowhere, nowhere, Vec::new());
        let mut daemon = Self { address, addresses, admin, child, log, logger, setup };
        let mut listening = None;
        eventually("the daemon listens", || {
            listening = daemon.logged("\"listening on ").pop();
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended, {ended:?}: {:?}", daemon.log());
            listening.is_some()
        });
        let listening: Value = serde_json::from_str(&listening.unwrap()).unwrap();
        let field = |name: &str| listening["fields"][name].as_str().unwrap();
        let first = |text: &str| text.split(' ').next().unwrap().parse().unwrap();
        daemon.addresses = field("addresses").split(' ').map(first).collect();
        (daemon.address, daemon.admin) = (daemon.addresses[0], first(field("admin")));
        daemon
    }

    /// Starts another daemon in the same place, after this one has ended.
    pub(crate) fn again(self) -> Self {
        self.again_with(|setup| setup)
    }

    /// The same with another setup.
    pub(crate) fn again_with(mut self, change: impl FnOnce(Setup) -> Setup) -> Self {
        assert!(self.child.try_wait().unwrap().is_some(), "the daemon still runs");
        let setup = std::mem::replace(&mut self.setup, Setup::new());
        change(setup).start()
    }

    /// A client whose handshake was accepted.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A client with a token that follows every event, in the classic spelling.
    pub(crate) fn subscriber(&self) -> Client {
        let mut client = self.client();
        client.follow();
        client
    }

    /// A publisher on the unix feed.
    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::connect(&self.socket())
    }

    /// The path of the unix feed.
    pub(crate) fn socket(&self) -> PathBuf {
        self.setup.path("events.sock")
    }

    /// A file of the daemon's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// The directory that everything is in.
    pub(crate) fn directory(&self) -> &Path {
        self.setup.directory.path()
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The lines of the log that contain a text.
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        self.log().into_iter().filter(|line| line.contains(text)).collect()
    }

    /// Waits until the log has so many lines with a text.
    #[track_caller]
    pub(crate) fn await_log(&self, text: &str, count: usize) {
        eventually(&format!("{count} lines of the log have {text}"), || {
            self.logged(text).len() == count
        });
    }

    /// Status and body of a page of the admin listener.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        http(self.admin, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    /// What the API answers an operator with this token.
    #[track_caller]
    pub(crate) fn ask(&self, token: &str, method: &str, target: &str) -> Value {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let (status, answer) = http(self.admin, request.as_bytes());
        assert_eq!(status, 200, "{target}: {answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// The value of one metric, named with its labels and without the prefix.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.page("/metrics").1;
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("fanfare_{name} ")));
        value.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
    }

    /// Waits for a metric's value.
    #[track_caller]
    pub(crate) fn await_metric(&self, name: &str, value: u64) {
        eventually(&format!("{name} is {value}"), || self.metric(name) == value);
    }

    /// Lets tokens be judged by what this line of TOML says, from now on.
    pub(crate) fn reload_verified_by(&self, token: &str) {
        verified_by(&self.path("fanfare.toml"), token);
        let before = self.logged("reloaded").len();
        self.signal(Signal::HUP);
        self.await_log("reloaded", before + 1);
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for its end and the end of its log.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the daemon has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        if let Some(logger) = self.logger.take() {
            logger.join().unwrap();
        }
        status.unwrap()
    }

    /// Whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Bytes of memory it holds (RSS).
    pub(crate) fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The names of its threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One that has ended meanwhile has none.
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .collect()
    }

    /// The number of the thread with this name.
    pub(crate) fn thread(&self, name: &str) -> Option<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let found = tasks.map_while(Result::ok).find(|task| {
            std::fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|comm| comm.trim_end() == name)
        });
        found?.file_name().to_str()?.parse().ok()
    }

    /// Processor time it has had, over all threads; the kernel counts it in hundredths of a second.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields 14 and 15, counted behind the name, which may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let hundredths: u64 =
            fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(hundredths * 10)
    }

    /// The daemon lives, answers a newcomer and carries an event to it.
    #[track_caller]
    pub(crate) fn assert_works(&self) {
        let start = Instant::now();
        let mut client = self.subscriber();
        let mut publisher = self.publisher();
        publisher.send(super::event("works", "now"));
        assert!(client.text().contains("\"Info\":\"now\""));
        assert!(start.elapsed() < DEADLINE);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log().join("\n"));
        }
    }
}
