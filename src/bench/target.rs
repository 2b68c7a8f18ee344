//! The daemon under test: one of our own, started for the measurement and ended after it, or one
//! that runs already.
//!
//! Our own is this very program with a configuration in a temporary directory, pinned to the
//! processors of its shards; the generator keeps to the last processor. Dropping the target ends
//! the daemon, also after an error.

use super::clients::BenchClients;
use super::connect::{self, ConnectPlan, Texts, upgrade_request};
use super::error::{failed, no_feed, no_tls, no_token_made, unreadable};
use super::http::Http;
use super::options::{BenchNode, BenchOptions};
use super::proc::{Cpus, ProcessMemory};
use super::wire::{Sampled, Template, own_site, topic_name};
use super::{disk, interrupt, proc, secure, side};
use crate::cli::CliError;
use crate::cli::answer::{HttpAnswer, exchange};
use crate::cli::certificates;
use crate::dialect::Kind;
use crate::dialect::client::{DialectClient, DurableProducer, NUMBER_DIGITS, Site, Subscriber};
use crate::io::runtime::Driver;
use crate::text::hex;
use crate::token::{Algorithm, mint};
use rustix::process::{Signal, kill_process};
use rustls::ClientConfig;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// How long a daemon may take until it is ready: far longer than it should, so that a slow start is
/// told as a figure.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a daemon may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A daemon that answers.
pub(super) struct BenchTarget {
    options: BenchOptions,
    address: SocketAddr,
    host: String,
    client: &'static dyn DialectClient,
    /// The path of a running daemon's URL.
    path: Option<String>,
    site: Site,
    /// What tokens are signed with, where the daemon is our own; else the token is given.
    secret: String,
    socket: Option<PathBuf>,
    tls: Option<Arc<ClientConfig>>,
    /// The process whose time and memory are read, if known.
    pub(super) pid: Option<u32>,
    /// The processors of its shards, and the generator's.
    pub(super) cpus: Cpus,
    daemon: Option<StartedDaemon>,
    /// What our own daemon stores in; outlasts the daemon.
    store: Option<TempDir>,
}

impl BenchTarget {
    /// Starts a daemon, or finds the one that the options name.
    pub(super) fn open(options: &BenchOptions) -> Result<Self, CliError> {
        let cpus = Cpus::of_this_machine(options.shards)?;
        let takes_requests = options.dialect.client().request_signer("").is_some();
        // Requests are signed with the app's secret, which is known of our own daemon alone; its
        // API speaks no TLS here.
        if options.http && (!takes_requests || options.url.is_some() || options.tls) {
            return Err(CliError::usage(
                "--http is for --dialect echo and a daemon that is started for the measurement, \
                 without --tls",
            ));
        }
        match &options.url {
            None => Self::start(options, cpus),
            Some(_) if options.tls => Err(CliError::usage(
                "--tls is for a daemon that is started for the measurement: leave --url out",
            )),
            Some(url) => Self::attach(url, options, cpus),
        }
    }

    fn start(options: &BenchOptions, cpus: Cpus) -> Result<Self, CliError> {
        let (address, admin) = (free_address()?, free_address()?);
        let secret = random_secret()?;
        let directory = tempfile::Builder::new().prefix(disk::PREFIX).tempdir();
        let directory = directory.map_err(failed("make a temporary directory"))?;
        let socket = directory.path().join("events.sock");
        let client = options.dialect.client();

        // Apart from the configuration: it is to be on a disk, where temporary files may be in
        // memory.
        let store = client.stores().then(|| disk::directory(options.store.as_deref()));
        let store = store.transpose()?;
        let identity = options.tls.then(|| certificates::self_signed(directory.path()));
        let identity = identity.transpose().map_err(no_tls)?;
        let tls = identity.as_ref().map(|(certificate, _)| secure::config(certificate));
        let tls = tls.transpose()?;

        let kind = options.dialect;
        let mut configuration = configuration(kind, &cpus.shards, address, admin, &socket, &secret);
        if let Some((certificate, key)) = identity {
            configuration += &format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n");
        }
        if let Some(store) = &store {
            let (path, writers) = (store.path().join("store"), options.writers.max(1));
            configuration += &format!("[store]\npath = {path:?}\nwriters = {writers}\n");
        }

        configuration += &options.node.as_ref().map_or_else(String::new, BenchNode::table);

        let daemon = StartedDaemon::start(options, &cpus, directory, admin, &configuration)?;
        Ok(Self {
            options: options.clone(),
            address,
            host: address.to_string(),
            client,
            path: None,
            site: own_site(),
            secret,
            socket: Some(socket),
            tls,
            pid: Some(daemon.child.id()),
            cpus,
            daemon: Some(daemon.ready()?),
            store,
        })
    }

    fn attach(url: &str, options: &BenchOptions, mut cpus: Cpus) -> Result<Self, CliError> {
        let unusable = || {
            CliError::usage(format!(
                "{url:?} is not an address to measure: give --url ws://HOST:PORT/CELL/__event"
            ))
        };
        let (host, path) = split_url(url).ok_or_else(unusable)?;
        // Its secret is not known, so none can be minted for it.
        if options.token.is_none() {
            return Err(CliError::usage(
                "a running daemon is measured with a token of its own: give --token, `fanfare \
                 token` mints one",
            ));
        }
        let resolved = host.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        let address = resolved.ok_or_else(unusable)?;
        proc::pin(&[cpus.generator]).map_err(failed("pin this process"))?;
        // The floor stands where the daemon stands, as far as that can be seen.
        if let Some(pid) = options.pid {
            cpus.shards = proc::allowed_cpus(pid).map_err(unreadable(pid))?;
            cpus.shards.truncate(options.shards.max(1));
        }
        Ok(Self {
            // Where its threads run was decided at its start.
            options: BenchOptions { roams: false, ..options.clone() },
            address,
            host: host.into(),
            client: options.dialect.client(),
            path: Some(path.into()),
            site: Site::of_path(path),
            secret: String::new(),
            socket: options.socket.clone(),
            tls: None,
            pid: options.pid,
            cpus,
            daemon: None,
            store: None,
        })
    }

    /// The processes whose time is read.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.pid.into_iter().collect()
    }

    /// Whether no shard runs on the generator's processor.
    pub(super) fn generator_is_alone(&self) -> bool {
        !self.options.roams && !self.cpus.shards.contains(&self.cpus.generator)
    }

    /// What subscribers speak, where they acknowledge what they get.
    pub(super) fn acknowledges(&self) -> Option<&'static dyn DialectClient> {
        Some(self.client).filter(|client| client.stores())
    }

    /// The memory of its process.
    pub(super) fn memory(&self) -> Result<ProcessMemory, CliError> {
        let pid = self.pid.unwrap_or_default();
        proc::memory(pid).map_err(unreadable(pid))
    }

    /// The directory of our own daemon's store, with room for files beside it.
    pub(super) fn store(&self) -> Result<&Path, CliError> {
        self.store.as_ref().map(TempDir::path).ok_or_else(no_feed)
    }

    /// A producer of a durable topic.
    pub(super) fn producer(&self, topic: &str) -> Result<DurableProducer, CliError> {
        self.client.producer(&self.site, topic).ok_or_else(no_feed)
    }

    /// How to open so many producers, of each of these topics in turn.
    pub(super) fn producers(
        &self,
        topics: &[String],
        count: usize,
    ) -> Result<ConnectPlan, CliError> {
        let (mut requests, mut greetings) = (Texts::default(), Texts::default());
        for topic in topics.iter().cycle().take(count) {
            let path = self.producer(topic)?.path;
            // A producer says nothing before its first message.
            requests.push(|out| out.extend(upgrade_request(&self.host, &path, "")));
            greetings.push(|_| {});
        }
        let (addresses, client) = (vec![self.address], self.client);
        Ok(ConnectPlan {
            addresses,
            requests,
            greetings,
            client,
            answers: 0,
            concurrency: 1,
            tls: None,
        })
    }

    /// The value of a metric of our own daemon that has no labels.
    pub(super) fn metric(&self, name: &str) -> Result<f64, CliError> {
        let admin = self.daemon.as_ref().ok_or_else(no_feed)?.admin;
        let (_, text) = get(admin, "/metrics").map_err(failed("read the daemon's metrics"))?;
        let value =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.ok_or_else(|| CliError::new(format!("the daemon's metrics have no {name}")))
    }

    /// Ends our own daemon by this signal and starts it again; returns how long it took from its
    /// start to be ready.
    pub(super) fn restart(&mut self, by: Signal) -> Result<Duration, CliError> {
        let daemon = self.daemon.take().ok_or_else(no_feed)?.again(by)?.ready()?;
        self.pid = Some(daemon.child.id());
        let elapsed = daemon.started.elapsed();
        self.daemon = Some(daemon);
        Ok(elapsed)
    }

    /// How long our own daemon has been running.
    pub(super) fn since_restart(&self) -> Duration {
        self.daemon.as_ref().map_or(Duration::ZERO, |daemon| daemon.started.elapsed())
    }

    /// How to open `connections` subscribers; with `topics` each has its own topic, else all have
    /// one.
    pub(super) fn plan(
        &self,
        connections: usize,
        topics: bool,
        concurrency: usize,
    ) -> Result<ConnectPlan, CliError> {
        let (client, mut answers) = (self.client, 0);
        let (mut requests, mut greetings) = (Texts::default(), Texts::default());
        for index in 0..connections {
            let topic = topic_name(topics.then_some(index));
            let given = self.path.as_deref();
            let subscriber = Subscriber { given, site: &self.site, index, topic: &topic };
            let token = self.token(&subscriber)?;
            let (path, header) =
                client.profile().request(&client.path(&subscriber), token.as_deref());
            let header =
                header.map_or_else(String::new, |token| format!("X-Auth-Token: {token}\r\n"));
            requests.push(|out| out.extend(upgrade_request(&self.host, &path, &header)));
            answers = greetings.greet(&subscriber, client, token);
        }
        let (addresses, tls) = (vec![self.address], self.tls.clone());
        Ok(ConnectPlan { addresses, requests, greetings, client, answers, concurrency, tls })
    }

    /// Opens `connections` subscribers; with `topics` each has its own topic, else all have one.
    /// `progress` is told how many stand.
    pub(super) fn subscribers(
        &self,
        connections: usize,
        topics: bool,
        concurrency: usize,
        progress: impl FnMut(usize),
    ) -> Result<BenchClients, CliError> {
        let mut clients = BenchClients::new(false)?;
        connect::open(&mut clients, &self.plan(connections, topics, concurrency)?, progress)?;
        Ok(clients)
    }

    /// The unix feed.
    pub(super) fn socket(&self) -> Result<&Path, CliError> {
        self.socket.as_deref().ok_or_else(no_feed)
    }

    /// An event for subscribers, who get it with exactly `size` bytes.
    pub(super) fn sample(&self, size: usize, topics: bool) -> Result<Sampled, CliError> {
        Sampled::new(self.client, &self.site, size, topics)
    }

    /// A line of the feed for the topic of all durable subscribers, with a payload of so many
    /// bytes.
    pub(super) fn payload_line(&self, bytes: usize) -> Result<Template, CliError> {
        let topic = topic_name(None);
        let (head, tail) = (self.producer(&topic)?.numbered)(&vec![b'x'; bytes]);
        let size = head.len() + NUMBER_DIGITS + tail.len();
        let address = self.client.sample(&self.site, &topic, size).address;
        Ok(Template::new(&head, tail, size)?.feed_line(&address))
    }

    /// A publisher by requests to our own daemon, over so many connections.
    pub(super) fn http(
        &self,
        body: Template,
        connections: usize,
        order: Vec<u32>,
    ) -> Result<Http, CliError> {
        let signer = self.client.request_signer(&self.secret).ok_or_else(no_feed)?;
        Http::connect(self.address, signer, body, connections, order)
    }

    /// Waits until the daemon has nothing to do, so that the clean-up of one step is not measured
    /// in the next.
    pub(super) fn settle(&self) -> Result<(), CliError> {
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        const QUIET_NS: u64 = 1_000_000;
        const LOOKS_MAX: usize = 50;
        let mut before = side::usage(&self.pids())?;
        for _ in 0..LOOKS_MAX {
            std::thread::sleep(LOOK_EVERY);
            let now = side::usage(&self.pids())?;
            // A daemon is never quite idle: its timers go on.
            if now.since(before).cpu_ns < QUIET_NS {
                break;
            }
            before = now;
        }
        Ok(())
    }

    fn token(&self, subscriber: &Subscriber<'_>) -> Result<Option<String>, CliError> {
        const DAY_S: u64 = 86_400;
        if self.options.url.is_some() {
            return Ok(self.options.token.clone());
        }
        let Some(mut claims) = self.client.claims(subscriber) else { return Ok(None) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        claims.insert("exp".into(), (now.as_secs() + DAY_S).into());
        let token = mint(Algorithm::HS256, self.secret.as_bytes(), &claims);
        token.map(Some).map_err(no_token_made)
    }
}

/// Our own daemon. Dropping it ends the process before its directory, which has a secret in it, is
/// removed.
#[derive(Debug)]
struct StartedDaemon {
    child: Child,
    program: PathBuf,
    directory: TempDir,
    admin: SocketAddr,
    /// The processors that it may use, and the generator's.
    cpus: Cpus,
    driver: Option<Driver>,
    started: Instant,
}

impl StartedDaemon {
    fn start(
        options: &BenchOptions,
        cpus: &Cpus,
        directory: TempDir,
        admin: SocketAddr,
        configuration: &str,
    ) -> Result<Self, CliError> {
        let file = directory.path().join("fanfare.toml");
        fs::write(&file, configuration).map_err(failed("write the daemon's configuration"))?;
        let program = match &options.daemon {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(failed("find this program's own file"))?,
        };
        // With a store the daemon has more threads than shards, and the generator sleeps while they
        // write.
        let mut cpus = cpus.clone();
        if options.roams {
            let all = proc::own_cpus().map_err(failed("read this process's processors"))?;
            cpus.shards = all.to_vec();
        }
        let child = spawn(&program, directory.path(), &cpus, options.driver)
            .map_err(failed("start the daemon (give its program with --daemon FILE)"))?;
        let (driver, started) = (options.driver, Instant::now());
        Ok(Self { child, program, directory, admin, cpus, driver, started })
    }

    /// Ends it by this signal and starts it again.
    fn again(mut self, by: Signal) -> Result<Self, CliError> {
        self.end(by);
        self.started = Instant::now();
        self.child = spawn(&self.program, self.directory.path(), &self.cpus, self.driver)
            .map_err(failed("start the daemon again"))?;
        Ok(self)
    }

    /// Ends it by this signal, or at last by SIGKILL.
    fn end(&mut self, by: Signal) {
        if let Some(pid) = proc::to_pid(self.child.id()) {
            let _ = kill_process(pid, by);
        }
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            // A daemon that hangs must not keep the generator from ending.
            if start.elapsed() > STOP_WITHIN {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it is ready.
    fn ready(mut self) -> Result<Self, CliError> {
        let start = Instant::now();
        while !get(self.admin, "/readyz").is_ok_and(|(status, _)| status == 200) {
            interrupt::check()?;
            // One that ended has said why; waiting longer would hide it.
            let ended = self.child.try_wait().ok().flatten().is_some();
            if ended || start.elapsed() > READY_WITHIN {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                return Err(CliError::new(format!(
                    "the daemon {} before /readyz answered 200; it said:\n{}",
                    if ended { "ended" } else { "took too long" },
                    last_lines(&log, 10)
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }
}

impl Drop for StartedDaemon {
    fn drop(&mut self) {
        self.end(Signal::TERM);
    }
}

fn spawn(
    program: &Path,
    directory: &Path,
    cpus: &Cpus,
    driver: Option<Driver>,
) -> std::io::Result<Child> {
    // To a file: a pipe that is not read would block the daemon once it is full.
    let log = fs::File::create(directory.join("log"))?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(directory.join("fanfare.toml"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    if let Some(driver) = driver {
        // Stronger than the environment of this process, which may name another.
        command.env("FANFARE_DRIVER", driver.key());
    }
    proc::spawn_on(&mut command, &cpus.shards, cpus.generator)
}

/// The listener comes last, so that its TLS can follow.
fn configuration(
    kind: Kind,
    cpus: &[usize],
    address: SocketAddr,
    admin: SocketAddr,
    socket: &Path,
    secret: &str,
) -> String {
    let (threads, table, dialect) = (cpus.len(), kind.client().table(secret), kind.name());
    format!(
        r#"threads = {threads}
cpus = {cpus:?}
max_connections = 100000
[admin]
address = "{admin}"
[feed.unix]
path = {socket:?}
{table}
[[listen]]
address = "{address}"
dialects = ["{dialect}"]
"#
    )
}

/// Status and text of a page of the daemon.
fn get(admin: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let socket = TcpStream::connect(admin)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let answer = exchange(socket, request.as_bytes())?;
    let head = HttpAnswer::read(&answer).ok().flatten();
    let head = head.ok_or_else(|| std::io::Error::other("the answer is not HTTP"))?;
    Ok((head.status, String::from_utf8_lossy(&answer[head.head_bytes..]).into_owned()))
}

/// `ws://host:port/path` as `host:port` and `/path`.
fn split_url(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("ws://")?;
    let slash = rest.find('/')?;
    let (host, path) = rest.split_at(slash);
    host.contains(':').then_some((host, path))
}

pub(super) fn free_address() -> Result<SocketAddr, CliError> {
    let listener = TcpListener::bind(("127.0.0.1", 0));
    listener.and_then(|listener| listener.local_addr()).map_err(failed("find a free port"))
}

fn random_secret() -> Result<String, CliError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(no_token_made)?;
    Ok(hex(&bytes))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_host_and_path() {
        assert_eq!(split_url("ws://h:8080/cell/__event"), Some(("h:8080", "/cell/__event")));
        for wrong in ["http://h:1/c", "ws://h/c", "ws://h:1"] {
            assert_eq!(split_url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_configuration_is_toml() {
        let address: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let socket = Path::new("/tmp/a b/events.sock");
        let text = configuration(Kind::ALL[0], &[0, 1], address, address, socket, "00ff");
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["cpus"].as_array().unwrap().len(), 2);
        assert_eq!(table["feed"]["unix"]["path"].as_str(), Some("/tmp/a b/events.sock"));
        assert_eq!(table["personium"]["token"]["jwt"]["secret"].as_str(), Some("00ff"));
    }

    #[test]
    fn the_last_lines_of_a_log_are_shown() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("", 2), "");
    }
}
