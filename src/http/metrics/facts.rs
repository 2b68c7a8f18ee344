//! What the metrics tell beside the counters: the build, the process, the limits, the last reload, certificates, the
//! store and its room, and the largest of what has names: backlogs of subscriptions, topics, apps.

use super::family::family;
use crate::service::topic::{Holding, TopicBacklog};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
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
    /// The apps of `echo`, as many as are told apart, and all others together.
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

    fn tell(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let (gauge, bytes) = (MetricType::Gauge, Some(&Unit::Bytes));
        let about = "Bytes of the files of the store";
        family(out, gauge, bytes, "store_size", about, one(self.size_bytes))?;
        let about = "Bytes of them that are needed, about";
        family(out, gauge, bytes, "store_needed", about, one(self.needed_bytes))?;
        let about = "Bytes that are free on the store's file system";
        family(out, gauge, bytes, "store_free", about, one(self.free_bytes))?;
        let about = "Bytes that the store's file system has";
        family(out, gauge, bytes, "store_volume", about, one(self.volume_bytes))?;
        family(out, gauge, None, "store_segments", "Segments of the logs", one(self.segments))?;
        let about = "Messages that wait for their time";
        family(out, gauge, None, "store_delayed_messages", about, one(self.delayed))?;
        let held: Vec<_> =
            self.holdings.iter().map(|it| (vec![("topic", it.topic.clone())], it.bytes)).collect();
        if held.is_empty() {
            return Ok(());
        }
        let about =
            "Bytes that the messages of a topic take in the store, for the topics that hold most";
        family(out, gauge, bytes, "topic_held", about, held)?;
        let date = |it: &Holding| Some((vec![("topic", it.topic.clone())], it.oldest_ms? / 1000));
        let about = "When the oldest message of such a topic was published";
        let oldest = self.holdings.iter().filter_map(date).collect();
        family(out, gauge, Some(&Unit::Seconds), "topic_oldest_message_timestamp", about, oldest)
    }
}

/// An app of `echo`.
#[derive(Clone, Debug)]
pub struct AppFacts {
    /// Its id.
    pub id: Arc<str>,
    /// Its connections.
    pub connections: u64,
    /// Events that were taken for it.
    pub events: u64,
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

/// One value without labels.
pub(super) fn one(value: u64) -> Vec<(Vec<(&'static str, &'static str)>, u64)> {
    vec![(vec![], value)]
}

impl Facts {
    fn limits(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let gauge = MetricType::Gauge;
        let about = "Connections that may be open";
        family(out, gauge, None, "connections_max", about, one(self.connections_max))?;
        let about = "Entries that the tries may have";
        family(out, gauge, None, "subscriptions_max", about, one(self.subscriptions_max))?;
        let about = "Bytes that may wait for one socket";
        family(out, gauge, Some(&Unit::Bytes), "outbox_max", about, one(self.outbox_bytes_max))?;
        let about = "Bytes that what clients have sent in part may take";
        family(out, gauge, Some(&Unit::Bytes), "partial_max", about, one(self.partial_bytes_max))?;
        if let Some(most) = self.connections_per_address_max {
            let about = "Connections that an address may have";
            family(out, gauge, None, "connections_per_address_max", about, one(most))?;
        }
        let Some(topics_max) = self.topics_max else { return Ok(()) };
        family(out, gauge, None, "topics_max", "Durable topics that may be", one(topics_max))
    }

    fn configuration(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let gauge = MetricType::Gauge;
        let about = "Whether the configuration was taken when it was last read";
        family(
            out,
            gauge,
            None,
            "config_last_reload_successful",
            about,
            one(self.is_configured.into()),
        )?;
        let (seconds, about) = (Some(&Unit::Seconds), "When a configuration was last taken");
        let name = "config_last_reload_success_timestamp";
        family(out, gauge, seconds, name, about, one(self.configured_s))?;
        let label = |(listener, end): &(String, u64)| (vec![("listener", listener.clone())], *end);
        let ends: Vec<_> = self.certificates.iter().map(label).collect();
        if ends.is_empty() {
            return Ok(());
        }
        let about = "When the certificate of a listener ends";
        family(out, gauge, seconds, "certificate_expiry_timestamp", about, ends)
    }

    fn store(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(room) = &self.room else { return Ok(()) };
        room.tell(out)?;
        let label = |backlog: &TopicBacklog| {
            let TopicBacklog { topic, subscription, messages } = backlog;
            (vec![("topic", topic.clone()), ("subscription", subscription.clone())], *messages)
        };
        let backlogs: Vec<_> = self.backlogs.iter().map(label).collect();
        if backlogs.is_empty() {
            return Ok(());
        }
        let about = "Messages that wait in a subscription, for those where most do";
        family(out, MetricType::Gauge, None, "subscription_backlog", about, backlogs)
    }

    fn apps(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        if self.apps.is_empty() {
            return Ok(());
        }
        let values = |value: fn(&AppFacts) -> u64| {
            self.apps.iter().map(|app| (vec![("app", Arc::clone(&app.id))], value(app))).collect()
        };
        let about = "Connections of an app of echo";
        family(
            out,
            MetricType::Gauge,
            None,
            "app_connections",
            about,
            values(|app| app.connections),
        )?;
        let about = "Events that were taken for an app of echo";
        family(out, MetricType::Counter, None, "app_events", about, values(|app| app.events))
    }
}

impl Collector for Facts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let out = &mut encoder;
        let version = vec![(vec![("version", env!("CARGO_PKG_VERSION"))], 1)];
        family(out, MetricType::Gauge, None, "build_info", "The version that runs", version)?;
        self.limits(out)?;
        self.configuration(out)?;
        self.store(out)?;
        self.apps(out)
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let out = &mut encoder;
        let (gauge, bytes, seconds) = (MetricType::Gauge, Some(&Unit::Bytes), Some(&Unit::Seconds));
        let about = "Processor time, of the user and of the system";
        out.encode_descriptor("process_cpu", about, seconds, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&self.cpu_s, None)?;
        family(
            out,
            gauge,
            None,
            "process_open_fds",
            "Descriptors that are open",
            one(self.open_fds),
        )?;
        family(
            out,
            gauge,
            None,
            "process_max_fds",
            "Descriptors that may be open",
            one(self.max_fds),
        )?;
        let about = "Memory that is held";
        family(out, gauge, bytes, "process_resident_memory", about, one(self.resident_bytes))?;
        let about = "Memory that could be touched";
        family(out, gauge, bytes, "process_virtual_memory", about, one(self.virtual_bytes))?;
        family(out, gauge, None, "process_threads", "Threads of the process", one(self.threads))?;
        let about = "When the process started";
        out.encode_descriptor("process_start_time", about, seconds, gauge)?
            .encode_gauge(&self.start_s)
    }
}
