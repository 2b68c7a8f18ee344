//! Counters of each namespace, for the metrics of Pulsar's WebSocket proxy, and totals, for our own
//! metrics.

use super::backlog::KnownBacklogs;

/// Limit on the namespaces counted separately; all others are counted together.
const NAMESPACES_MAX: usize = 10_000;
/// The period over which rates are computed (ns).
const PERIOD_NS: u64 = 60_000_000_000;
/// Upper bounds of the latency classes (µs), as in Pulsar's proxy.
pub(super) const LATENCIES_US: [u64; 9] =
    [500, 1000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 1_000_000];
/// The name under which namespaces beyond the limit are counted.
const OTHERS: &str = "others";

/// Current numbers of topics and connections, and totals of messages since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicCensus {
    /// Stored topics.
    pub topics: u64,
    /// Topics in memory.
    pub loaded: u64,
    /// Producers of stored topics.
    pub producers: u64,
    /// Consumers and readers of stored topics.
    pub consumers: u64,
    /// Acknowledged messages, once for each subscription.
    pub acknowledged: u64,
    /// Messages delivered again because they were not acknowledged.
    pub redelivered: u64,
    /// Messages sent to dead-letter topics.
    pub dead: u64,
    /// Messages not stored.
    pub refused: u64,
    /// Subscriptions deleted after too long without consumers.
    pub expired: u64,
    /// Topics deleted after too long unused.
    pub idle: u64,
}

/// The counters of all namespaces, for the current period and the previous one.
#[derive(Debug, Default)]
pub(super) struct Counters {
    names: std::collections::HashMap<Box<str>, usize, ahash::RandomState>,
    spaces: Vec<CountedNamespace>,
    pub(super) backlogs: KnownBacklogs,
    /// Totals since the start.
    pub(super) total: TopicCensus,
    since_ns: u64,
    /// Length of the previous period; 0 when there was none.
    before_ns: u64,
}

/// The counters of one namespace.
#[derive(Debug, Default)]
struct CountedNamespace {
    name: Box<str>,
    now: NamespaceCounts,
    before: NamespaceCounts,
}

/// The counters.
#[derive(Clone, Debug, Default)]
pub(super) struct NamespaceCounts {
    pub(super) published: u64,
    pub(super) published_bytes: u64,
    pub(super) failed: u64,
    pub(super) delivered: u64,
    pub(super) delivered_bytes: u64,
    pub(super) acknowledged: u64,
    pub(super) latencies: [u64; LATENCIES_US.len() + 1],
}

impl Counters {
    /// The index under which a namespace is counted.
    pub(super) fn namespace(&mut self, name: &str) -> usize {
        // Clients may make up namespaces, and each takes memory and a place in every answer.
        let name = if self.spaces.len() < NAMESPACES_MAX || self.names.contains_key(name) {
            name
        } else {
            OTHERS
        };
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let number = self.spaces.len();
        self.names.insert(name.into(), number);
        self.spaces.push(CountedNamespace { name: name.into(), ..CountedNamespace::default() });
        number
    }

    /// The counters with this index, which is one of [`Counters::namespace`]: none is removed.
    fn at(&mut self, namespace: usize) -> &mut NamespaceCounts {
        &mut self.spaces[namespace].now
    }

    pub(super) fn published(&mut self, namespace: usize, bytes: usize) {
        let counts = self.at(namespace);
        counts.published += 1;
        counts.published_bytes += bytes as u64;
    }

    /// Counts a message committed `lasted_us` after its arrival.
    pub(super) fn stored(&mut self, namespace: usize, lasted_us: u64) {
        let class = LATENCIES_US.partition_point(|end_us| *end_us < lasted_us);
        self.at(namespace).latencies[class] += 1;
    }

    pub(super) fn failed(&mut self, namespace: usize) {
        self.total.refused += 1;
        self.at(namespace).failed += 1;
    }

    pub(super) fn delivered(&mut self, namespace: usize, bytes: usize) {
        let counts = self.at(namespace);
        counts.delivered += 1;
        counts.delivered_bytes += bytes as u64;
    }

    pub(super) fn acknowledged(&mut self, namespace: usize) {
        self.total.acknowledged += 1;
        self.at(namespace).acknowledged += 1;
    }

    /// Starts a new period if the current one is over.
    pub(super) fn roll(&mut self, now_ns: u64) {
        let lasted_ns = now_ns.saturating_sub(self.since_ns);
        if lasted_ns >= PERIOD_NS {
            for space in &mut self.spaces {
                space.before = std::mem::take(&mut space.now);
            }
            (self.since_ns, self.before_ns) = (now_ns, lasted_ns);
        }
    }

    /// Each namespace with its counters for about the last minute, and the exact length in seconds.
    pub(super) fn all(&self, now_ns: u64) -> impl Iterator<Item = (&str, &NamespaceCounts, f64)> {
        // At least a second, so that the rates are sensible right after a start.
        let now_s = now_ns.saturating_sub(self.since_ns).max(1_000_000_000) as f64 / 1e9;
        let before_s = self.before_ns as f64 / 1e9;
        self.spaces.iter().map(move |space| match self.before_ns {
            0 => (&*space.name, &space.now, now_s),
            _ => (&*space.name, &space.before, before_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let mut counters = Counters::default();
        let space = counters.namespace("t/n");
        assert_eq!(counters.namespace("t/n"), space);
        counters.roll(PERIOD_NS);
        (0..120).for_each(|_| counters.published(space, 10));
        counters.stored(space, 500);
        counters.stored(space, 501);
        counters.stored(space, 9_000_000);
        counters.roll(2 * PERIOD_NS);
        let (name, counts, seconds) = counters.all(2 * PERIOD_NS).next().unwrap();
        assert_eq!(
            (name, counts.published, counts.published_bytes, seconds),
            ("t/n", 120, 1200, 60.0)
        );
        assert_eq!((counts.latencies[0], counts.latencies[1], counts.latencies[9]), (1, 1, 1));
    }
}
