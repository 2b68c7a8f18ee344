//! The metrics of the cluster, on a daemon that is one of several.

use super::family::{Families, MetricValues, one};
use crate::counter::Counter;
use crate::metrics::{ClusterMetrics, LossReason};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::fmt::Error;
use std::sync::Arc;

/// The counters of the cluster's thread at the moment of a scrape.
#[derive(Debug)]
pub(super) struct ClusterSnapshot(pub(super) Arc<ClusterMetrics>);

impl Collector for ClusterSnapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let out = &mut Families(&mut encoder);
        let metrics = &self.0;
        let about = "Whether NATS is connected and will do";
        out.gauge("cluster_connected", about, metrics.connected.get())?;
        out.gauge("cluster_peers", "Other nodes that live", metrics.peers.get())?;
        let about = "Time of a message to the slowest other node and back";
        out.time_gauge("cluster_hop", about, metrics.round_trip_us.get())?;
        let about = "Other nodes whose settings differ from this node's";
        out.gauge("cluster_settings_differ", about, metrics.settings_differ.get())?;
        let partitions = vec![
            (vec![("state", "owned")], metrics.partitions_owned.get()),
            (vec![("state", "orphaned")], metrics.partitions_orphaned.get()),
        ];
        let about = "Partitions of presence that this node owns, and that no node is known to own";
        out.family(MetricType::Gauge, None, "cluster_partitions", about, partitions)?;
        let about = "Whether JetStream fails to store or read what presence decides";
        out.gauge("cluster_journal_failing", about, metrics.journal_failing.get())?;

        let about = "Lost connections to NATS";
        out.counter("cluster_reconnects", about, count(&metrics.reconnects))?;
        let about = "Events handed to NATS, and events of other nodes handed to the shards";
        out.counter("cluster_events", about, ways(&metrics.events_out, &metrics.events_in))?;
        let about = "Bytes of messages handed to NATS, and of messages from it";
        out.counter("cluster_bytes", about, ways(&metrics.bytes_out, &metrics.bytes_in))?;
        let lost = LossReason::ALL
            .map(|(why, name)| (vec![("why", name)], metrics.lost[why as usize].get()));
        let about = "Events that do not reach another node, by the reason";
        out.counter("cluster_lost", about, lost.into())?;
        let ignored = metrics.ignored.get() + metrics.unreadable.get();
        let about = "Messages and events of other nodes that this release cannot read";
        out.counter("cluster_ignored", about, one(ignored))?;

        let about = "Partitions of presence that this node has taken";
        out.counter("cluster_takeovers", about, count(&metrics.takeovers))?;
        let about = "Partitions of presence that another node has taken from this one";
        out.counter("cluster_fenced", about, count(&metrics.fenced))?;
        let about = "Links to owners of partitions that began anew because a message was lost";
        out.counter("cluster_link_resets", about, count(&metrics.link_resets))?;
        let about = "Joins and inquiries that no owner answered in time";
        out.counter("cluster_unanswered", about, count(&metrics.unanswered))
    }
}

fn count(counter: &Counter) -> MetricValues {
    one(counter.get())
}

fn ways(out: &Counter, inwards: &Counter) -> MetricValues {
    vec![(vec![("way", "out")], out.get()), (vec![("way", "in")], inwards.get())]
}
