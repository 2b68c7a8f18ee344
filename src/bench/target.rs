//! The daemon under test: one of our own, started for the measurement and ended after it, or one that runs already.
//!
//! Our own is this very program with a configuration in a temporary directory, pinned to the processors of its
//! shards; the generator keeps to the last processor. Dropping the target ends the daemon, also after an error.

use super::clients::BenchClients;
use super::connect::{self, ConnectPlan, Texts, upgrade_request};
use super::disk::Directory;
use super::error::BenchError;
use super::http::Api;
use super::options::BenchOptions;
use super::proc::ProcessMemory;
use super::wire::{Sampled, Template, own_site, topic_name};
use super::{interrupt, proc, secure, side};
use crate::cli::answer::HttpAnswer;
use crate::cli::certificates;
use crate::dialect::Kind;
use crate::dialect::client::{DialectClient, DurableProducer, NUMBER_DIGITS, Site, Subscriber};
use crate::text::hex;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustix::process::{Signal, kill_process};
use rustls::ClientConfig;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a daemon may take until it is ready: far longer than it should, so that a slow start is told as a figure.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a daemon may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A daemon that answers.
pub(super) struct BenchTarget {
    address: SocketAddr,
    host: String,
    client: &'static dyn DialectClient,
    /// The path of a running daemon's URL.
    path: Option<String>,
    site: Site,
    tokens: Tokens,
    socket: Option<PathBuf>,
    tls: Option<Arc<ClientConfig>>,
    /// Whether events are published over HTTP.
    pub(super) http: bool,
    /// The process whose time and memory are read, if known.
    pub(super) pid: Option<u32>,
    /// The processors of its shards.
    pub(super) cpus: Vec<usize>,
    /// The processor of the generator.
    pub(super) generator_cpu: usize,
    admin: Option<SocketAddr>,
    daemon: Option<StartedDaemon>,
    /// What it stores in; outlasts the daemon.
    store: Option<Directory>,
    roams: bool,
}

#[derive(Debug)]
enum Tokens {
    Signed { secret: String },
    Given(String),
}

impl BenchTarget {
    /// Starts a daemon, or finds the one that the options name.
    pub(super) fn open(options: &BenchOptions) -> Result<Self, BenchError> {
        let cpus = Cpus::of_this_machine(options.shards)?;
        let takes_requests = options.dialect.client().request_signer("").is_some();
        if options.http && (!takes_requests || options.url.is_some() || options.tls) {
            return Err(BenchError::Argument(
                "--http is for --dialect echo and a daemon that is started for the measurement, without --tls".into(),
            ));
        }
        match &options.url {
            None => Self::start(options, cpus),
            Some(_) if options.tls => Err(BenchError::Argument(
                "--tls is for a daemon that is started for the measurement: leave --url out".into(),
            )),
            Some(url) => Self::attach(url, options, cpus),
        }
    }

    fn start(options: &BenchOptions, cpus: Cpus) -> Result<Self, BenchError> {
        let (address, admin) = (free_address()?, free_address()?);
        let secret = random_hex()?;
        let directory = temporary_directory()?;
        let socket = directory.join("events.sock");
        let mut configuration =
            configuration(options.dialect, &cpus.shards, address, admin, &socket, &secret);
        let client = options.dialect.client();
        let store =
            client.stores().then(|| Directory::new(options.store.as_deref(), &temporary_name()?));
        let store = store.transpose()?;
        if let Some(store) = &store {
            let (path, writers) = (store.path().join("store"), options.writers.max(1));
            configuration += &format!("[store]\npath = {path:?}\nwriters = {writers}\n");
        }
        let mut tls = None;
        if options.tls {
            let made = certificates::self_signed(&directory);
            let (certificate, key) =
                made.map_err(|error| BenchError::Tls { reason: error.to_string() })?;
            let line =
                format!("[[listen]]\ntls = {{ certificate = {certificate:?}, key = {key:?} }}");
            configuration = configuration.replace("[[listen]]", &line);
            tls = Some(secure::config(&certificate)?);
        }
        let daemon = StartedDaemon::start(options, &cpus, directory, &configuration)?;
        let mut target = Self {
            address,
            host: address.to_string(),
            client,
            path: None,
            site: own_site(),
            tokens: Tokens::Signed { secret },
            socket: Some(socket),
            tls,
            http: options.http,
            pid: Some(daemon.child.id()),
            cpus: cpus.shards,
            generator_cpu: cpus.generator,
            admin: Some(admin),
            daemon: None,
            store,
            roams: options.roams,
        };
        target.daemon = Some(daemon.wait_until_ready(admin)?);
        Ok(target)
    }

    fn attach(url: &str, options: &BenchOptions, cpus: Cpus) -> Result<Self, BenchError> {
        let (host, path) = split_url(url).ok_or_else(|| BenchError::Url { url: url.into() })?;
        let token = options.token.clone().ok_or(BenchError::NoToken)?;
        let resolved = host.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        let address = resolved.ok_or_else(|| BenchError::Url { url: url.into() })?;
        proc::pin(&[cpus.generator])
            .map_err(|source| BenchError::Io { what: "pin this process", source })?;
        // The floor stands where the daemon stands, as far as that can be seen.
        let shards = match options.pid {
            Some(pid) => {
                let cpus = proc::allowed_cpus(pid);
                let mut cpus = cpus.map_err(|source| BenchError::Process { pid, source })?;
                cpus.truncate(options.shards.max(1));
                cpus
            }
            None => cpus.shards,
        };
        Ok(Self {
            address,
            host: host.into(),
            client: options.dialect.client(),
            path: Some(path.into()),
            site: Site::of_path(path),
            tokens: Tokens::Given(token),
            socket: options.socket.clone(),
            tls: None,
            http: false,
            pid: options.pid,
            cpus: shards,
            generator_cpu: cpus.generator,
            admin: None,
            daemon: None,
            store: None,
            roams: false,
        })
    }

    /// The processes whose time is read.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.pid.into_iter().collect()
    }

    /// Whether no shard runs on the generator's processor.
    pub(super) fn generator_is_alone(&self) -> bool {
        !self.roams && !self.cpus.contains(&self.generator_cpu)
    }

    /// What subscribers speak, where they acknowledge what they get.
    pub(super) fn acknowledges(&self) -> Option<&'static dyn DialectClient> {
        Some(self.client).filter(|client| client.stores())
    }

    /// The memory of its process.
    pub(super) fn memory(&self) -> Result<ProcessMemory, BenchError> {
        let pid = self.pid.unwrap_or_default();
        proc::memory(pid).map_err(|source| BenchError::Process { pid, source })
    }

    /// The directory of our own daemon's store, with room for files beside it.
    pub(super) fn store(&self) -> Result<&Path, BenchError> {
        self.store.as_ref().map(Directory::path).ok_or(BenchError::NoSocket)
    }

    /// A producer of a durable topic.
    pub(super) fn producer(&self, topic: &str) -> Result<DurableProducer, BenchError> {
        self.client.producer(&self.site, topic).ok_or(BenchError::NoSocket)
    }

    /// How to open so many producers, of each of these topics in turn.
    pub(super) fn producers(
        &self,
        topics: &[String],
        count: usize,
    ) -> Result<ConnectPlan, BenchError> {
        let (mut requests, mut greetings) = (Texts::default(), Texts::default());
        for topic in topics.iter().cycle().take(count) {
            let path = self.producer(topic)?.path;
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
    pub(super) fn metric(&self, name: &str) -> Result<f64, BenchError> {
        let read = |source| BenchError::Io { what: "read the daemon's metrics", source };
        let admin = self.admin.ok_or(BenchError::NoSocket)?;
        let text = get(admin, "/metrics").map_err(read)?;
        let value =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.ok_or_else(|| {
            read(std::io::Error::new(std::io::ErrorKind::NotFound, format!("no {name}")))
        })
    }

    /// Ends our own daemon by this signal and starts it again; returns how long it took from its start to be ready.
    pub(super) fn restart(&mut self, by: Signal) -> Result<Duration, BenchError> {
        let (Some(daemon), Some(admin)) = (self.daemon.take(), self.admin) else {
            return Err(BenchError::NoSocket);
        };
        let daemon = daemon.again(by)?.wait_until_ready(admin)?;
        self.pid = Some(daemon.child.id());
        let elapsed = daemon.started.elapsed();
        self.daemon = Some(daemon);
        Ok(elapsed)
    }

    /// How long our own daemon has been running.
    pub(super) fn since_restart(&self) -> Duration {
        self.daemon.as_ref().map_or(Duration::ZERO, |daemon| daemon.started.elapsed())
    }

    /// How to open `connections` subscribers; with `topics` each has its own topic, else all have one.
    pub(super) fn plan(
        &self,
        connections: usize,
        topics: bool,
        concurrency: usize,
    ) -> Result<ConnectPlan, BenchError> {
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

    /// Opens `connections` subscribers; with `topics` each has its own topic, else all have one. `progress` is told how
    /// many stand.
    pub(super) fn subscribers(
        &self,
        connections: usize,
        topics: bool,
        concurrency: usize,
        progress: impl FnMut(usize),
    ) -> Result<BenchClients, BenchError> {
        let mut clients = BenchClients::new(false)?;
        connect::open(&mut clients, &self.plan(connections, topics, concurrency)?, progress)?;
        Ok(clients)
    }

    /// The unix feed.
    pub(super) fn socket(&self) -> Result<&Path, BenchError> {
        self.socket.as_deref().ok_or(BenchError::NoSocket)
    }

    /// An event for subscribers, who get it with exactly `size` bytes.
    pub(super) fn sample(&self, size: usize, topics: bool) -> Result<Sampled, BenchError> {
        Ok(Sampled::new(self.client, &self.site, size, topics)?)
    }

    /// A line of the feed for the topic of all durable subscribers, with a payload of so many bytes.
    pub(super) fn payload_line(&self, bytes: usize) -> Result<Template, BenchError> {
        let topic = topic_name(None);
        let (head, tail) = (self.producer(&topic)?.numbered)(&vec![b'x'; bytes]);
        let size = head.len() + NUMBER_DIGITS + tail.len();
        let address = self.client.sample(&self.site, &topic, size).address;
        Ok(Template::new(&head, tail, size)?.feed_line(&address))
    }

    /// Where our own daemon takes requests that publish events with such a body.
    pub(super) fn api(&self, body: Template) -> Result<Api, BenchError> {
        let Tokens::Signed { secret } = &self.tokens else { return Err(BenchError::NoSocket) };
        let signer = self.client.request_signer(secret).ok_or(BenchError::NoSocket)?;
        Ok(Api { address: self.address, signer, body })
    }

    /// Waits until the daemon has nothing to do, so that the clean-up of one step is not measured in the next.
    pub(super) fn settle(&self) -> Result<(), BenchError> {
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        const QUIET_NS: u64 = 1_000_000;
        const LOOKS_MAX: usize = 50;
        let mut before = side::usage(&self.pids())?;
        for _ in 0..LOOKS_MAX {
            std::thread::sleep(LOOK_EVERY);
            let now = side::usage(&self.pids())?;
            if now.since(before).cpu_ns < QUIET_NS {
                break;
            }
            before = now;
        }
        Ok(())
    }

    fn token(&self, subscriber: &Subscriber<'_>) -> Result<Option<String>, BenchError> {
        const DAY_S: u64 = 86_400;
        let secret = match &self.tokens {
            Tokens::Given(token) => return Ok(Some(token.clone())),
            Tokens::Signed { secret } => secret,
        };
        let Some(mut claims) = self.client.claims(subscriber) else { return Ok(None) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        claims.insert("exp".into(), (now.as_secs() + DAY_S).into());
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key);
        token.map(Some).map_err(|error| BenchError::Sign { reason: error.to_string() })
    }
}

/// Which processors the shards and the generator use.
#[derive(Debug)]
pub(super) struct Cpus {
    pub(super) shards: Vec<usize>,
    pub(super) generator: usize,
}

impl Cpus {
    /// The first `shards` processors, and the last for the generator: its own, unless there are too few.
    pub(super) fn of_this_machine(shards: usize) -> Result<Self, BenchError> {
        let allowed = proc::own_cpus()
            .map_err(|source| BenchError::Io { what: "read this process's processors", source })?;
        let cpus = Self::choose(allowed, shards.max(1));
        cpus.ok_or(BenchError::TooFewCpus { have: allowed.len(), shards })
    }

    fn choose(allowed: &[usize], shards: usize) -> Option<Self> {
        let generator = *allowed.last()?;
        let shards = allowed.get(..shards)?.to_vec();
        Some(Self { shards, generator })
    }
}

#[derive(Debug)]
struct StartedDaemon {
    child: Child,
    program: PathBuf,
    directory: PathBuf,
    /// The processors that it may use, and the generator's.
    cpus: (Vec<usize>, usize),
    started: Instant,
}

impl StartedDaemon {
    fn start(
        options: &BenchOptions,
        cpus: &Cpus,
        directory: PathBuf,
        configuration: &str,
    ) -> Result<Self, BenchError> {
        let io = |what| move |source| BenchError::Io { what, source };
        let file = directory.join("fanfare.toml");
        fs::write(&file, configuration).map_err(io("write the daemon's configuration"))?;
        let program = match &options.daemon {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(io("find this program's own file"))?,
        };
        let allowed = if options.roams {
            proc::own_cpus().map_err(io("read this process's processors"))?
        } else {
            &cpus.shards
        };
        let cpus = (allowed.to_vec(), cpus.generator);
        match Self::spawn(&program, &directory, &cpus) {
            Ok(child) => Ok(Self { child, program, directory, cpus, started: Instant::now() }),
            Err(source) => {
                // It has a secret in it.
                let _ = fs::remove_dir_all(&directory);
                Err(BenchError::Io {
                    what: "start the daemon (give its program with --daemon FILE)",
                    source,
                })
            }
        }
    }

    fn spawn(
        program: &Path,
        directory: &Path,
        cpus: &(Vec<usize>, usize),
    ) -> std::io::Result<Child> {
        let log = fs::File::create(directory.join("log"))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(directory.join("fanfare.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        proc::spawn_on(&mut command, &cpus.0, cpus.1)
    }

    /// Ends it by this signal and starts it again.
    fn again(mut self, by: Signal) -> Result<Self, BenchError> {
        self.end(by);
        self.started = Instant::now();
        self.child = Self::spawn(&self.program, &self.directory, &self.cpus)
            .map_err(|source| BenchError::Io { what: "start the daemon again", source })?;
        Ok(self)
    }

    /// Ends it by this signal, or at last by SIGKILL.
    fn end(&mut self, by: Signal) {
        if let Some(pid) = proc::to_pid(self.child.id()) {
            let _ = kill_process(pid, by);
        }
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > STOP_WITHIN {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_until_ready(mut self, admin: SocketAddr) -> Result<Self, BenchError> {
        let start = Instant::now();
        while !is_ready(admin) {
            interrupt::check()?;
            let ended = self.child.try_wait().ok().flatten().is_some();
            if ended || start.elapsed() > READY_WITHIN {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                return Err(BenchError::DaemonNotReady { ended, log: last_lines(&log, 10) });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }
}

impl Drop for StartedDaemon {
    fn drop(&mut self) {
        self.end(Signal::TERM);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn configuration(
    dialect: Kind,
    cpus: &[usize],
    address: SocketAddr,
    admin: SocketAddr,
    socket: &Path,
    secret: &str,
) -> String {
    let (threads, table, dialect) = (cpus.len(), dialect.client().table(secret), dialect.name());
    format!(
        r#"threads = {threads}
cpus = {cpus:?}
max_connections = 100000
[[listen]]
address = "{address}"
dialects = ["{dialect}"]
[admin]
address = "{admin}"
[feed.unix]
path = {socket:?}
{table}
"#
    )
}

fn is_ready(admin: SocketAddr) -> bool {
    let status = |answer: String| {
        HttpAnswer::read(answer.as_bytes()).ok().flatten().map(|answer| answer.status)
    };
    get(admin, "/readyz").is_ok_and(|answer| status(answer) == Some(200))
}

/// The whole answer of a page.
fn get(admin: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// `ws://host:port/path` as `host:port` and `/path`.
fn split_url(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("ws://")?;
    let slash = rest.find('/')?;
    let (host, path) = rest.split_at(slash);
    host.contains(':').then_some((host, path))
}

fn free_address() -> Result<SocketAddr, BenchError> {
    let listener = TcpListener::bind(("127.0.0.1", 0));
    listener
        .and_then(|listener| listener.local_addr())
        .map_err(|source| BenchError::Io { what: "find a free port", source })
}

fn random_hex() -> Result<String, BenchError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| BenchError::Sign { reason: error.to_string() })?;
    Ok(hex(&bytes))
}

fn temporary_directory() -> Result<PathBuf, BenchError> {
    let directory = std::env::temp_dir().join(temporary_name()?);
    let made = fs::DirBuilder::new().mode(0o700).create(&directory);
    made.map_err(|source| BenchError::Io { what: "make a temporary directory", source })?;
    Ok(directory)
}

fn temporary_name() -> Result<String, BenchError> {
    Ok(format!("fanfare-bench-{}", &random_hex()?[..12]))
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
    fn the_generator_takes_the_last_processor_and_the_shards_the_first() {
        let cpus = Cpus::choose(&[0, 1, 4, 5], 2).unwrap();
        assert_eq!((cpus.shards, cpus.generator), (vec![0, 1], 5));
        assert!(Cpus::choose(&[0, 1], 3).is_none());
    }

    #[test]
    fn the_configuration_is_toml() {
        let address: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let text = configuration(
            Kind::ALL[0],
            &[0, 1],
            address,
            address,
            Path::new("/tmp/a b/events.sock"),
            "00ff",
        );
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
