//! What the metrics tell beside the counters: the build, the process, the limits, the last reload, certificates, the
//! store and its room, and the largest of what has names: backlogs of subscriptions, topics, apps.

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

/// What is true at the moment. What is not known is left out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The process.
    pub process: Process,
    /// Connections that may be.
    pub connections_max: u64,
    /// Subscriptions that may be.
    pub subscriptions_max: u64,
    /// Bytes that may wait for one client.
    pub outbox_bytes_max: u64,
    /// Bytes that what clients have sent in part may take.
    pub partial_bytes_max: u64,
    /// Connections that an address may have, if that is limited.
    pub connections_per_address_max: Option<u64>,
    /// Durable topics that may be.
    pub topics_max: Option<u64>,
    /// Whether the last reload, or the start, took the configuration.
    pub is_configured: bool,
    /// When a configuration was last taken, in seconds of unix time.
    pub configured_s: u64,
    /// When the certificate of each listener ends, in seconds of unix time.
    pub certificates: Vec<(String, u64)>,
    /// The room that the store takes.
    pub room: Option<Room>,
    /// The largest backlogs.
    pub backlogs: Vec<TopicBacklog>,
    /// The apps, as many as are told apart, and all others together.
    pub apps: Vec<AppFacts>,
}

/// The room that the store takes and has.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Bytes of them that are needed.
    pub needed_bytes: u64,
    /// Bytes that are free on its file system.
    pub free_bytes: u64,
    /// Bytes that the file system has for everybody.
    pub volume_bytes: u64,
    /// Segments of its logs.
    pub segments: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// The topics that hold most.
    pub holdings: Vec<Holding>,
}

impl Room {
    /// The same for people and programs.
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

    fn tell(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        out.byte_gauge("store_size", "Bytes of the files of the store", self.size_bytes)?;
        let about = "Bytes of them that are needed, about";
        out.byte_gauge("store_needed", about, self.needed_bytes)?;
        let about = "Bytes that are free on the store's file system";
        out.byte_gauge("store_free", about, self.free_bytes)?;
        let about = "Bytes that the store's file system has";
        out.byte_gauge("store_volume", about, self.volume_bytes)?;
        out.gauge("store_segments", "Segments of the logs", self.segments)?;
        out.gauge("store_delayed_messages", "Messages that wait for their time", self.delayed)?;

        let held = self.holdings.iter().map(|it| (vec![("topic", it.topic.clone())], it.bytes));
        let about =
            "Bytes that the messages of a topic take in the store, for the topics that hold most";
        out.family(MetricType::Gauge, Some(&Unit::Bytes), "topic_held", about, held.collect())?;
        let oldest = self
            .holdings
            .iter()
            .filter_map(|it| Some((vec![("topic", it.topic.clone())], it.oldest_ms? / 1000)));
        let about = "When the oldest message of such a topic was published";
        dates(out, "topic_oldest_message_timestamp", about, oldest.collect())
    }
}

/// What the system knows of the process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Processor time.
    pub cpu_s: f64,
    /// Descriptors that are open.
    pub open_fds: u64,
    /// Those that may be.
    pub max_fds: u64,
    /// Memory it holds.
    pub resident_bytes: u64,
    /// Memory it could touch.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, in seconds of unix time.
    pub start_s: f64,
}

/// Points of unix time in seconds.
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
        out.gauge("connections_max", "Connections that may be open", self.connections_max)?;
        out.gauge("subscriptions_max", "Entries that the tries may have", self.subscriptions_max)?;
        out.byte_gauge("outbox_max", "Bytes that may wait for one socket", self.outbox_bytes_max)?;
        let about = "Bytes that what clients have sent in part may take";
        out.byte_gauge("partial_max", about, self.partial_bytes_max)?;
        if let Some(most) = self.connections_per_address_max {
            let about = "Connections that an address may have";
            out.gauge("connections_per_address_max", about, most)?;
        }
        if let Some(most) = self.topics_max {
            out.gauge("topics_max", "Durable topics that may be", most)?;
        }
        Ok(())
    }

    fn configuration(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let about = "Whether the configuration was taken when it was last read";
        out.gauge("config_last_reload_successful", about, self.is_configured.into())?;
        let last = one(self.configured_s);
        let about = "When a configuration was last taken";
        dates(out, "config_last_reload_success_timestamp", about, last)?;
        let ends = self.certificates.iter();
        let ends = ends.map(|(listener, end)| (vec![("listener", listener.clone())], *end));
        let about = "When the certificate of a listener ends";
        dates(out, "certificate_expiry_timestamp", about, ends.collect())
    }

    fn store(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let Some(room) = &self.room else { return Ok(()) };
        room.tell(out)?;
        let backlogs =
            self.backlogs.iter().map(|TopicBacklog { topic, subscription, messages }| {
                (vec![("topic", topic.clone()), ("subscription", subscription.clone())], *messages)
            });
        let about = "Messages that wait in a subscription, for those where most do";
        out.family(MetricType::Gauge, None, "subscription_backlog", about, backlogs.collect())
    }

    fn apps(&self, out: &mut Families<'_, '_>) -> Result<(), Error> {
        let values = |value: fn(&AppFacts) -> u64| {
            self.apps.iter().map(|app| (vec![("app", Arc::clone(&app.id))], value(app))).collect()
        };
        let connections = values(|app| app.connections);
        let about = "Connections of an app of echo";
        out.family(MetricType::Gauge, None, "app_connections", about, connections)?;
        let events = values(|app| app.events);
        let about = "Events that were taken for an app of echo";
        out.family(MetricType::Counter, None, "app_events", about, events)
    }
}

impl Collector for Facts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let out = &mut Families(&mut encoder);
        let version = vec![(vec![("version", env!("CARGO_PKG_VERSION"))], 1)];
        out.family(MetricType::Gauge, None, "build_info", "The version that runs", version)?;
        self.limits(out)?;
        self.configuration(out)?;
        self.store(out)?;
        self.apps(out)
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let seconds = Some(&Unit::Seconds);
        let about = "Processor time, of the user and of the system";
        encoder
            .encode_descriptor("process_cpu", about, seconds, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&self.cpu_s, None)?;
        let out = &mut Families(&mut encoder);
        out.gauge("process_open_fds", "Descriptors that are open", self.open_fds)?;
        out.gauge("process_max_fds", "Descriptors that may be open", self.max_fds)?;
        out.byte_gauge("process_resident_memory", "Memory that is held", self.resident_bytes)?;
        let about = "Memory that could be touched";
        out.byte_gauge("process_virtual_memory", about, self.virtual_bytes)?;
        out.gauge("process_threads", "Threads of the process", self.threads)?;
        encoder
            .encode_descriptor(
                "process_start_time",
                "When the process started",
                seconds,
                MetricType::Gauge,
            )?
            .encode_gauge(&self.start_s)
    }
}
