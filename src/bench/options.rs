//! What can be asked of a measurement, each option once; a command line has those of its command.

use super::error::BenchError;
use crate::dialect::Kind;
use std::path::PathBuf;

/// The dialect that is measured where none is named: the first of the list.
pub(super) const USUAL: Kind = Kind::ALL[0];

/// Events outstanding at most: more only fill buffers.
const IN_FLIGHT_MAX: u64 = 65_536;

/// Seconds of a measurement: a day.
const SECONDS_MAX: f64 = 86_400.0;

/// What to measure, and of which daemon.
#[derive(Debug, Clone)]
pub(super) struct BenchOptions {
    /// Subscribers.
    pub(super) connections: usize,
    /// Connections opened at the same time.
    pub(super) concurrency: usize,
    /// Producers of durable topics.
    pub(super) producers: usize,
    /// Topics among which they are divided.
    pub(super) topics: usize,
    /// Whether each subscriber has a topic of its own, instead of all the same.
    pub(super) own_topics: bool,
    /// Messages to store.
    pub(super) messages: u64,
    /// How often they are.
    pub(super) rounds: usize,
    /// Events outstanding at most, or messages of each producer.
    pub(super) in_flight: u64,
    /// Events per second, instead of as many as can be.
    pub(super) rate: Option<f64>,
    /// Bytes of an event, or of a payload.
    pub(super) size: usize,
    /// Length of each measurement.
    pub(super) seconds: f64,
    /// Measurements of each side.
    pub(super) runs: usize,
    /// Shards of the daemon, and senders of the floor.
    pub(super) shards: usize,
    /// Writers of the store.
    pub(super) writers: usize,
    /// What subscribers speak.
    pub(super) dialect: Kind,
    /// Whether the daemon that is started speaks TLS, with a certificate of its own.
    pub(super) tls: bool,
    /// Whether events are published by requests.
    pub(super) http: bool,
    /// The endpoint of a daemon that runs.
    pub(super) url: Option<String>,
    /// Its unix feed.
    pub(super) socket: Option<PathBuf>,
    /// A token that it accepts.
    pub(super) token: Option<String>,
    /// Its process.
    pub(super) pid: Option<u32>,
    /// The program to start as daemon.
    pub(super) daemon: Option<PathBuf>,
    /// Where the store of durable topics is made.
    pub(super) store: Option<PathBuf>,
    /// Whether the daemon may use the generator's processor too, which then never spins: its store has a thread of
    /// its own.
    pub(super) roams: bool,
    /// Whether this process is the floor's sender.
    pub(super) sender: bool,
    /// Whether the result is JSON.
    pub(super) json: bool,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            connections: 1,
            concurrency: 1,
            producers: 1,
            topics: 1,
            own_topics: false,
            messages: 1,
            rounds: 1,
            in_flight: 1,
            rate: None,
            size: 128,
            seconds: 3.0,
            runs: 5,
            shards: 1,
            writers: 1,
            dialect: USUAL,
            tls: false,
            http: false,
            url: None,
            socket: None,
            token: None,
            pid: None,
            daemon: None,
            store: None,
            roams: false,
            sender: false,
            json: false,
        }
    }
}

impl BenchOptions {
    /// The same for durable topics: their dialect, and a daemon that shares the generator's processor.
    pub(super) fn durable(&self) -> Result<Self, BenchError> {
        let is_durable = |kind: &&Kind| kind.client().stores();
        let dialect = Kind::ALL.iter().find(is_durable).copied();
        let none = || BenchError::Argument("no dialect has durable topics".into());
        Ok(Self { dialect: dialect.ok_or_else(none)?, roams: true, ..self.clone() })
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
    pub(super) fn check(&self) -> Result<(), BenchError> {
        let counts = [
            ("--connections", self.connections),
            ("--concurrency", self.concurrency),
            ("--producers", self.producers),
            ("--topics", self.topics),
            ("--messages", self.messages as usize),
            ("--rounds", self.rounds),
            ("--size", self.size),
            ("--runs", self.runs),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(BenchError::Argument(format!("{name} must be at least 1")));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            let reason = format!("--in-flight must be at least 1 and at most {IN_FLIGHT_MAX}");
            return Err(BenchError::Argument(reason));
        }
        if !(self.seconds > 0.0 && self.seconds <= SECONDS_MAX) {
            let reason = format!("--seconds must be above 0 and at most {SECONDS_MAX}");
            return Err(BenchError::Argument(reason));
        }
        Ok(())
    }
}
