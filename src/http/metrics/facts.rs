//! The metrics that are no counters: the build, the process, the limits, the last reload,
//! certificates, the store and its size, and the largest backlogs, topics and apps by name.

use super::family::{Families, MetricValues, one};
use crate::dialect::AppFacts;
use crate::service::topic::{Holding, TopicBacklog};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use serde_json::{Value, json};
use std::fmt::Error;
use std::sync::Arc;

/// Values at the moment of a scrape. Unknown ones are left out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The process.
    pub process: Process,
    /// Maximum number of connections.
    pub connections_max: u64,
    /// Maximum number of subscriptions.
    pub subscriptions_max: u64,
    /// Maximum bytes waiting for one client.
    pub outbox_bytes_max: u64,
    /// Maximum bytes of incomplete messages and requests.
    pub partial_bytes_max: u64,
    /// Maximum number of connections of one address, if limited.
    pub connections_per_address_max: Option<u64>,
    /// Maximum number of durable topics, with a store.
    pub topics_max: Option<u64>,
    /// Whether the last reload, or the start, applied the configuration.
    pub is_configured: bool,
    /// The last application of a configuration, in seconds of unix time.
    pub configured_s: u64,
    /// The end of each listener's certificate, in seconds of unix time.
    pub certificates: Vec<(String, u64)>,
    /// Lines of the log that were dropped.
    pub log_lines_dropped: u64,
    /// How exports to a collector went, with one.
    pub exports: Option<ExportFacts>,
    /// The size of the store.
    pub room: Option<Room>,
    /// The largest backlogs.
    pub backlogs: Vec<TopicBacklog>,
    /// The busiest apps, and all others together.
    pub apps: Vec<AppFacts>,
}

/// The size of the store, and of the volume it is on.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// Bytes of the store's files.
    pub size_bytes: u64,
    /// Bytes of these that hold live records.
    pub needed_bytes: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Bytes of the file system in all.
    pub volume_bytes: u64,
    /// Segments of the logs.
    pub segments: u64,
    /// Messages delayed until a later time.
    pub delayed: u64,
    /// The largest topics.
    pub holdings: Vec<Holding>,
}

impl Room {
    /// The answer to `/topics/room`.
    #[must_use]
    pub fn json(&self) -> Value {
        let topics = self.holdings.iter().map(|Holding { topic, bytes, oldest_ms }| {
            json!({ "topic": topic, "heldBytes": bytes, "oldestPublishTime": oldest_ms })
        });
        json!({
            "sizeBytes": self.size_bytes,
            "neededBytes": self.needed_bytes,
            "freeBytes": self.free_bytes,
            "volumeBytes": self.volume_bytes,
            "segments": self.segments,
            "delayedMessages": self.delayed,
            "topics": topics.collect::<Vec<_>>(),
        })
    }

    fn encode(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        out.byte_gauge("store_size", "Bytes of the store's files", self.size_bytes)?;
        let about = "Approximate bytes of the store's files that hold live records";
        out.byte_gauge("store_needed", about, self.needed_bytes)?;
        let about = "Free bytes of the store's file system";
        out.byte_gauge("store_free", about, self.free_bytes)?;
        let about = "Bytes of the store's file system in all";
        out.byte_gauge("store_volume", about, self.volume_bytes)?;
        out.gauge("store_segments", "Segments of the store's logs", self.segments)?;
        out.gauge("store_delayed_messages", "Messages delayed until a later time", self.delayed)?;

        let held = self.holdings.iter().map(|it| (vec![("topic", it.topic.clone())], it.bytes));
        let about = "Bytes of a topic's messages in the store, for the largest topics";
        out.family(MetricType::Gauge, Some(&Unit::Bytes), "topic_held", about, held.collect())?;

        // An empty topic has no oldest message, and no sample.
        let oldest = self
            .holdings
            .iter()
            .filter_map(|it| Some((vec![("topic", it.topic.clone())], it.oldest_ms? / 1000)));
        let about = "Publish time of the oldest message of a topic, for the largest topics";
        dates(out, "topic_oldest_message_timestamp", about, oldest.collect())
    }
}

/// How exports to a collector went.
#[derive(Clone, Copy, Debug)]
pub struct ExportFacts {
    /// Exports that were taken.
    pub sent: u64,
    /// Exports that were not.
    pub failed: u64,
    /// Ended sessions that are never exported.
    pub dropped: u64,
}

impl ExportFacts {
    fn encode(self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let Self { sent, failed, dropped } = self;
        let exports = [("sent", sent), ("failed", failed)];
        let exports = exports.map(|(outcome, count)| (vec![("outcome", outcome)], count));
        out.counter("otlp_exports", "Exports over OTLP, by outcome", exports.into())?;
        let about = "Ended sessions dropped because the collector did not take them";
        out.counter("otlp_sessions_dropped", about, one(dropped))
    }
}

/// The kernel's figures of the process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Processor time in seconds, of user and system.
    pub cpu_s: f64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Maximum number of descriptors.
    pub max_fds: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Start in seconds of unix time.
    pub start_s: f64,
}

/// Writes a metric of points in time, in seconds of unix time.
fn dates<V: EncodeLabelValue>(
    out: &mut Families<'_, '_>,
    name: &str,
    about: &str,
    values: MetricValues<V>,
) -> Result<(), Error> {
    out.family(MetricType::Gauge, Some(&Unit::Seconds), name, about, values)
}

impl Facts {
    fn limits(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        out.gauge("connections_max", "Maximum number of connections", self.connections_max)?;
        out.gauge("subscriptions_max", "Maximum number of subscriptions", self.subscriptions_max)?;
        out.byte_gauge(
            "outbox_max",
            "Maximum bytes that wait to be sent to one client",
            self.outbox_bytes_max,
        )?;
        let about = "Maximum memory of incomplete requests and messages";
        out.byte_gauge("partial_max", about, self.partial_bytes_max)?;
        if let Some(most) = self.connections_per_address_max {
            let about = "Maximum number of connections of one address";
            out.gauge("connections_per_address_max", about, most)?;
        }
        if let Some(most) = self.topics_max {
            out.gauge("topics_max", "Maximum number of durable topics", most)?;
        }
        Ok(())
    }

    fn configuration(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let about = "Whether the last reload of the configuration succeeded";
        out.gauge("config_last_reload_successful", about, self.is_configured.into())?;
        let last = one(self.configured_s);
        let about = "Time of the last successful reload of the configuration";
        dates(out, "config_last_reload_success_timestamp", about, last)?;

        let ends = self
            .certificates
            .iter()
            .map(|(listener, end)| (vec![("listener", listener.clone())], *end));
        let about = "Expiry of a listener's certificate";
        dates(out, "certificate_expiry_timestamp", about, ends.collect())
    }

    fn store(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let Some(room) = &self.room else { return Ok(()) };
        room.encode(out)?;
        let backlogs =
            self.backlogs.iter().map(|TopicBacklog { topic, subscription, messages }| {
                (vec![("topic", topic.clone()), ("subscription", subscription.clone())], *messages)
            });
        let about = "Messages waiting in a subscription, for the largest backlogs";
        out.family(MetricType::Gauge, None, "subscription_backlog", about, backlogs.collect())
    }

    fn apps(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let connections = self.by_app(|app| app.connections);
        let about = "Connections of an Echo app";
        out.family(MetricType::Gauge, None, "app_connections", about, connections)?;
        let events = self.by_app(|app| app.events);
        let about = "Events accepted for an Echo app";
        out.family(MetricType::Counter, None, "app_events", about, events)
    }

    fn by_app(&self, value: fn(&AppFacts) -> u64) -> MetricValues<Arc<str>> {
        self.apps.iter().map(|app| (vec![("app", Arc::clone(&app.id))], value(app))).collect()
    }
}

impl Collector for Facts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let out = &mut Families(&mut encoder);
        let version = vec![(vec![("version", env!("CARGO_PKG_VERSION"))], 1)];
        out.family(
            MetricType::Gauge,
            None,
            "build_info",
            "Version of the running daemon",
            version,
        )?;
        self.limits(out)?;
        self.configuration(out)?;
        self.store(out)?;
        let about = "Lines of the log dropped while its reader was behind";
        out.counter("log_lines_dropped", about, one(self.log_lines_dropped))?;
        if let Some(exports) = self.exports {
            exports.encode(out)?;
        }
        self.apps(out)
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        // These two are fractions, which `Families` does not write; the rest are whole numbers.
        let seconds = Some(&Unit::Seconds);
        let about = "User and system CPU time";
        encoder
            .encode_descriptor("process_cpu", about, seconds, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&self.cpu_s, None)?;
        let out = &mut Families(&mut encoder);
        out.gauge("process_open_fds", "Open file descriptors", self.open_fds)?;
        out.gauge("process_max_fds", "Maximum number of open file descriptors", self.max_fds)?;
        out.byte_gauge("process_resident_memory", "Resident memory", self.resident_bytes)?;
        let about = "Virtual memory";
        out.byte_gauge("process_virtual_memory", about, self.virtual_bytes)?;
        out.gauge("process_threads", "Threads of the process", self.threads)?;
        encoder
            .encode_descriptor(
                "process_start_time",
                "Start time of the process",
                seconds,
                MetricType::Gauge,
            )?
            .encode_gauge(&self.start_s)
    }
}
