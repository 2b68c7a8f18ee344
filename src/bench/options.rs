//! What can be asked of a measurement, each option once; a command line has those of its command.

use crate::cli::CliError;
use crate::dialect::Kind;
use crate::io::runtime::Driver;
use std::path::PathBuf;

/// The dialect that is measured where none is named: the first of the list.
pub(super) const USUAL: Kind = Kind::ALL[0];

/// Events outstanding at most: more only fill buffers.
const IN_FLIGHT_MAX: u64 = 65_536;

/// Seconds of a measurement: a day.
const SECONDS_MAX: f64 = 86_400.0;

/// When the next event is published.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// As soon as fewer than so many are outstanding.
    Closed { window: u64 },
    /// At so many per second.
    Rate { per_second: f64 },
}

/// What makes a daemon a node.
#[derive(Clone, Debug)]
pub(super) struct BenchNode {
    pub(super) name: &'static str,
    /// The URLs of its NATS servers.
    pub(super) urls: String,
}

impl BenchNode {
    /// Its table of the configuration.
    pub(super) fn table(&self) -> String {
        let Self { name, urls } = self;
        format!("[cluster]\nname = \"bench\"\nnode = \"{name}\"\nurl = \"{urls}\"\nreplicas = 1\n")
    }
}

/// The options, each with what it is where a command does not have it.
macro_rules! options {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $option:ident: $type:ty = $usual:expr,)* }) => {
        $(#[$about])*
        pub(super) struct $name {
            $($(#[$doc])* pub(super) $option: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($option: $usual,)* }
            }
        }
    };
}

options! {
    /// What to measure, and of which daemon.
    #[derive(Debug, Clone)]
    BenchOptions {
        /// Subscribers.
        connections: usize = 1,
        /// Connections opened at the same time.
        concurrency: usize = 1,
        /// Producers of durable topics.
        producers: usize = 1,
        /// Topics among which they are divided.
        topics: usize = 1,
        /// Whether each subscriber has a topic of its own, instead of all the same.
        own_topics: bool = false,
        /// Messages to store.
        messages: u64 = 1,
        /// How often they are.
        rounds: usize = 1,
        /// Events outstanding at most, or messages of each producer.
        in_flight: u64 = 1,
        /// Events per second, instead of as many as possible.
        rate: Option<f64> = None,
        /// Bytes of an event, or of a payload.
        size: usize = 128,
        /// Length of each measurement.
        seconds: f64 = 3.0,
        /// Measurements of each side.
        runs: usize = 5,
        /// Shards of the daemon, and senders of the floor.
        shards: usize = 1,
        /// Writers of the store.
        writers: usize = 1,
        /// What subscribers speak.
        dialect: Kind = USUAL,
        /// Whether the daemon that is started speaks TLS, with a certificate of its own.
        tls: bool = false,
        /// Whether events are published by requests.
        http: bool = false,
        /// The endpoint of a daemon that runs.
        url: Option<String> = None,
        /// Its unix feed.
        socket: Option<PathBuf> = None,
        /// A token that it accepts.
        token: Option<String> = None,
        /// Its process.
        pid: Option<u32> = None,
        /// The driver of the daemon that is started.
        driver: Option<Driver> = None,
        /// The program to start as daemon.
        daemon: Option<PathBuf> = None,
        /// What makes the daemon a node.
        node: Option<BenchNode> = None,
        /// The program of the NATS server.
        nats_server: Option<PathBuf> = None,
        /// NATS servers.
        servers: usize = 1,
        /// Where the store of durable topics is made.
        store: Option<PathBuf> = None,
        /// Whether the daemon may use the generator's processor too, which then never spins: its
        /// store has a thread of its own.
        roams: bool = false,
        /// Whether this process is the floor's sender.
        sender: bool = false,
        /// Whether the result is JSON.
        json: bool = false,
    }
}

impl BenchOptions {
    /// The same for durable topics: their dialect, and a daemon that shares the generator's
    /// processor.
    pub(super) fn durable(&self) -> Result<Self, CliError> {
        let mut kinds = Kind::ALL.iter().copied();
        let dialect = kinds
            .find(|kind| kind.client().stores())
            .ok_or_else(|| CliError::usage("no dialect has durable topics"))?;

        Ok(Self { dialect, roams: true, ..self.clone() })
    }

    /// When events are published.
    pub(super) fn pace(&self) -> Pace {
        match self.rate {
            Some(per_second) => Pace::Rate { per_second },
            None => Pace::Closed { window: self.in_flight },
        }
    }

    /// What the names of figures end with, where it is not the usual daemon.
    pub(super) fn suffix(&self) -> String {
        let dialect = format!(", {}", self.dialect.name());
        let ways = [
            (self.dialect != USUAL, &*dialect),
            (self.tls, ", over TLS"),
            (self.http, ", published over HTTP"),
        ];
        ways.into_iter().filter(|way| way.0).map(|way| way.1).collect()
    }

    /// Refuses what makes no sense.
    pub(super) fn check(&self) -> Result<(), CliError> {
        let counts = [
            ("--connections", self.connections),
            ("--concurrency", self.concurrency),
            ("--producers", self.producers),
            ("--topics", self.topics),
            ("--messages", self.messages as usize),
            ("--rounds", self.rounds),
            ("--size", self.size),
            ("--runs", self.runs),
            ("--servers", self.servers),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(CliError::usage(format!("{name} must be at least 1")));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            return Err(CliError::usage(format!(
                "--in-flight must be at least 1 and at most {IN_FLIGHT_MAX}"
            )));
        }
        if !(self.seconds > 0.0 && self.seconds <= SECONDS_MAX) {
            return Err(CliError::usage(format!(
                "--seconds must be above 0 and at most {SECONDS_MAX}"
            )));
        }
        Ok(())
    }
}
