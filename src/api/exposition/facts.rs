//! What the metrics tell beside the counters: the build, the process, the limits, the last reload, certificates, the
//! store, and the largest of what has names: backlogs of subscriptions, apps.

use super::family;
use crate::topic::Backlog;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
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
    /// Bytes of the store, and those that are free on its file system.
    pub store_bytes: Option<(u64, u64)>,
    /// The largest backlogs.
    pub backlogs: Vec<Backlog>,
    /// The apps of `echo`, as many as are told apart, and all others together.
    pub apps: Vec<App>,
}

/// An app of `echo`.
#[derive(Clone, Debug)]
pub struct App {
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
        family(out, gauge, None, "config_last_reload_successful", about, one(self.is_configured.into()))?;
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
        let (gauge, bytes) = (MetricType::Gauge, Some(&Unit::Bytes));
        let Some((size, free)) = self.store_bytes else { return Ok(()) };
        family(out, gauge, bytes, "store_size", "Bytes of the files of the store", one(size))?;
        let about = "Bytes that are free on the store's file system";
        family(out, gauge, bytes, "store_free", about, one(free))?;
        let label = |backlog: &Backlog| {
            let Backlog { topic, subscription, messages } = backlog;
            (vec![("topic", topic.clone()), ("subscription", subscription.clone())], *messages)
        };
        let backlogs: Vec<_> = self.backlogs.iter().map(label).collect();
        if backlogs.is_empty() {
            return Ok(());
        }
        let about = "Messages that wait in a subscription, for those where most do";
        family(out, gauge, None, "subscription_backlog", about, backlogs)
    }

    fn apps(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        if self.apps.is_empty() {
            return Ok(());
        }
        let values = |value: fn(&App) -> u64| {
            self.apps.iter().map(|app| (vec![("app", Arc::clone(&app.id))], value(app))).collect()
        };
        let about = "Connections of an app of echo";
        family(out, MetricType::Gauge, None, "app_connections", about, values(|app| app.connections))?;
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
        family(out, gauge, None, "process_open_fds", "Descriptors that are open", one(self.open_fds))?;
        family(out, gauge, None, "process_max_fds", "Descriptors that may be open", one(self.max_fds))?;
        let about = "Memory that is held";
        family(out, gauge, bytes, "process_resident_memory", about, one(self.resident_bytes))?;
        let about = "Memory that could be touched";
        family(out, gauge, bytes, "process_virtual_memory", about, one(self.virtual_bytes))?;
        family(out, gauge, None, "process_threads", "Threads of the process", one(self.threads))?;
        let about = "When the process started";
        out.encode_descriptor("process_start_time", about, seconds, gauge)?.encode_gauge(&self.start_s)
    }
}
