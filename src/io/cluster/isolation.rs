//! What becomes of sessions while the node is cut off from the others.

use crate::cluster::{ClusterSettings, OnIsolation};
use crate::wheel::{Now, SECOND_NS};

/// The parts in which sessions end, one a second: so many clients at once would be a storm for the
/// other nodes.
pub(super) const PARTS: u32 = 30;

/// The course of an isolation.
pub(super) struct Isolation {
    closes: bool,
    patience_ns: u64,
    /// Since when the node is cut off.
    since_ns: Option<u64>,
    /// The parts that were to end so far, those of sessions that have come meanwhile again.
    ended: u32,
}

impl Isolation {
    pub(super) fn new(settings: &ClusterSettings) -> Self {
        Self {
            closes: settings.on_isolation == OnIsolation::Close,
            patience_ns: u64::from(settings.isolation_s) * SECOND_NS,
            since_ns: None,
            ended: 0,
        }
    }

    /// Notes whether the node is cut off. Returns the part of the sessions that is to end now.
    pub(super) fn look(&mut self, is_cut_off: bool, now: Now) -> Option<u32> {
        if !is_cut_off {
            (self.since_ns, self.ended) = (None, 0);
            return None;
        }
        let since_ns = *self.since_ns.get_or_insert(now.monotonic_ns);
        let due_ns = since_ns + self.patience_ns + u64::from(self.ended) * SECOND_NS;
        if !self.closes || now.monotonic_ns < due_ns {
            return None;
        }
        if self.ended == 0 {
            tracing::warn!(
                "cut off from the other nodes for {} s: sessions end over the next {PARTS} s \
                 (cluster.on_isolation)",
                self.patience_ns / SECOND_NS
            );
        }
        let part = self.ended % PARTS;
        self.ended += 1;
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Now {
        Now { monotonic_ns: second * SECOND_NS, unix_ms: 0 }
    }

    #[test]
    fn sessions_end_part_by_part_from_the_end_of_patience_on() {
        let settings =
            ClusterSettings { on_isolation: OnIsolation::Close, ..ClusterSettings::default() };
        let mut isolation = Isolation::new(&settings);
        let parts: Vec<_> =
            (100..150).filter_map(|second| isolation.look(true, at(second))).collect();
        assert_eq!(parts[..31], (0..30).chain([0]).collect::<Vec<_>>());
        assert_eq!(parts.len(), 35, "15 s of patience");
        assert_eq!(isolation.look(false, at(150)), None);
        assert_eq!((151..166).find_map(|second| isolation.look(true, at(second))), None);
    }

    #[test]
    fn sessions_stay_unless_it_is_asked_for() {
        let mut isolation = Isolation::new(&ClusterSettings::default());
        assert_eq!((0..100).find_map(|second| isolation.look(true, at(second))), None);
    }
}
