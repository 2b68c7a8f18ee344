//! A RabbitMQ of a test's own, on loopback, in a temporary directory, with a port mapper of its own. Both end
//! with the thread that started them, however it ends.

use super::{Authority, DEADLINE, Signed, clean, eventually_within};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Where Debian has the scripts that do not change the user.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// A broker, and what it takes to start it again in the same place.
pub(crate) struct Broker {
    directory: TempDir,
    output: File,
    mapper: Child,
    mapper_port: u16,
    peers_port: u16,
    server: Option<Child>,
    starts: usize,
    port: u16,
    tls_port: u16,
}

impl Broker {
    /// A broker that does not run yet; `None` where RabbitMQ is not installed.
    pub(crate) fn new() -> Option<Self> {
        if !Path::new(SCRIPTS).join("rabbitmq-server").exists() {
            super::skip("RabbitMQ", "rabbitmq-server is not installed");
            return None;
        }
        let directory = TempDir::with_prefix("fanfare-broker-").unwrap();
        let [port, tls_port, mapper_port, peers_port] = free_ports();
        let authority = Authority::new();
        let Signed { certificate, key } = authority.sign();
        for (name, pem) in
            [("authority.pem", authority.pem), ("certificate.pem", certificate), ("key.pem", key)]
        {
            std::fs::write(directory.path().join(name), pem).unwrap();
        }
        let file = |name: &str| directory.path().join(name).display().to_string();
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlisteners.ssl.1 = 127.0.0.1:{tls_port}\n\
             ssl_options.certfile = {}\nssl_options.keyfile = {}\nlog.console.level = warning\n",
            file("certificate.pem"),
            file("key.pem"),
        );
        std::fs::write(directory.path().join("rabbitmq.conf"), configuration).unwrap();
        std::fs::write(directory.path().join("plugins"), "[].").unwrap();
        let output = File::create(directory.path().join("output")).unwrap();
        let mapper = bound("epmd", &["-address", "127.0.0.1", "-port", &mapper_port.to_string()])
            .stdout(Stdio::null())
            .stderr(output.try_clone().unwrap())
            .spawn()
            .unwrap();
        Some(Self {
            directory,
            output,
            mapper,
            mapper_port,
            peers_port,
            server: None,
            starts: 0,
            port,
            tls_port,
        })
    }

    /// A broker that takes connections.
    pub(crate) fn started() -> Option<Self> {
        let mut broker = Self::new()?;
        broker.start();
        Some(broker)
    }

    /// Starts it and waits until it takes connections. What was durable is there again.
    pub(crate) fn start(&mut self) {
        self.starts += 1;
        let mut command = bound(&format!("{SCRIPTS}/rabbitmq-server"), &[]);
        let (out, err) = (self.output.try_clone().unwrap(), self.output.try_clone().unwrap());
        self.server = Some(self.place(&mut command).stdout(out).stderr(err).spawn().unwrap());
        eventually_within(3 * DEADLINE, "the broker runs", || {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the broker ended: {}", self.log());
            self.log().matches("completed with").count() == self.starts
        });
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        self.url_of("guest:guest", "%2F")
    }

    /// Its port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its address for somebody, in a virtual host.
    pub(crate) fn url_of(&self, user: &str, vhost: &str) -> String {
        format!("amqp://{user}@127.0.0.1:{}/{vhost}", self.port)
    }

    /// Its address for those who want TLS.
    pub(crate) fn url_with_tls(&self) -> String {
        format!("amqps://guest:guest@127.0.0.1:{}", self.tls_port)
    }

    /// Whoever has signed its certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// Runs `rabbitmqctl` and returns what it prints.
    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        let mut command = clean(&format!("{SCRIPTS}/rabbitmqctl"), arguments);
        let Output { status, stdout, stderr } = self.place(&mut command).output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Messages that wait in the broker's queues or are not acknowledged.
    pub(crate) fn messages(&self) -> u64 {
        let listed = self.control(&["--silent", "list_queues", "messages"]);
        listed.lines().filter_map(|line| line.trim().parse::<u64>().ok()).sum()
    }

    /// Somebody who publishes.
    pub(crate) fn publisher(&self, exchange: &str, kind: ExchangeKind) -> BusPublisher {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (connection, channel) = runtime.block_on(async {
            let connection =
                Connection::connect(&self.url(), ConnectionProperties::default()).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
            channel
                .exchange_declare(exchange.into(), kind, durable, FieldTable::default())
                .await
                .unwrap();
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            (connection, channel)
        });
        BusPublisher { runtime, _connection: connection, channel, exchange: exchange.into() }
    }

    /// Everything that the server and the port mapper need to know.
    fn place<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let path = |name: &str| self.directory.path().join(name);
        command
            // Makes the script become the server.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("HOME", self.directory.path())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("RABBITMQ_NODENAME", "fanfare@localhost")
            .env("RABBITMQ_DIST_PORT", self.peers_port.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_LOGS", "-")
            // One thread that does not spin: there are other tests.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
            )
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("output")).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        for child in self.server.iter_mut().chain([&mut self.mapper]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the broker's log:\n{}", self.log());
        }
    }
}

/// A program that is killed when the thread that starts it ends.
pub(super) fn bound(program: &str, arguments: &[&str]) -> Command {
    let mut words = vec!["--pdeathsig", "KILL", program];
    words.extend(arguments);
    clean("setpriv", &words)
}

/// Ports that nobody has, outside of the range that the kernel gives from, and others each time.
pub(super) fn free_ports<const N: usize>() -> [u16; N] {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let start =
        10_000 + (std::process::id() % 2_000) as u16 * 10 + GIVEN.fetch_add(N as u16, Relaxed);
    let mut free = (start..).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    std::array::from_fn(|_| free.next().unwrap())
}

/// Publishes on an exchange.
pub(crate) struct BusPublisher {
    runtime: Runtime,
    _connection: Connection,
    channel: Channel,
    exchange: String,
}

impl BusPublisher {
    /// Publishes messages in their order and waits until the broker has all of them.
    pub(crate) fn publish(
        &self,
        messages: impl IntoIterator<Item = (FieldTable, impl AsRef<[u8]>)>,
    ) {
        self.runtime.block_on(async {
            let mut confirms = Vec::new();
            for (headers, body) in messages {
                let properties = BasicProperties::default().with_headers(headers);
                let (exchange, options) =
                    (self.exchange.as_str().into(), BasicPublishOptions::default());
                let published = self.channel.basic_publish(
                    exchange,
                    "some.key".into(),
                    options,
                    body.as_ref(),
                    properties,
                );
                confirms.push(published.await.unwrap());
            }
            for confirm in confirms {
                assert!(confirm.await.unwrap().is_ack());
            }
        });
    }
}

/// Headers as Wazo writes them: texts, `true`, and nothing.
pub(crate) fn headers(values: &[(&str, Option<&str>)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in values {
        let value = match *value {
            None => AMQPValue::Void,
            Some("true") => AMQPValue::Boolean(true),
            Some(text) => AMQPValue::LongString(text.into()),
        };
        table.insert((*name).into(), value);
    }
    table
}
