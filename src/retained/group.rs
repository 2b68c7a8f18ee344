//! The publications of one group, by topic and by key, and the topics that were looked up in vain.
//!
//! A key is the place of a publication in the group's order: its age in a shard, its stamp where
//! nodes agree on the order. This file does not know where keys come from.

use crate::frame::Publication;
use crate::wheel::{Now, SECOND_NS};
use ahash::{AHashMap, AHashSet};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

/// Maximum number of missed topics of a group that sets no limit of its own: as many as it retains
/// by default.
const MISSED_MAX: usize = 10_000;

/// The last publications of a group's topics, in the order of their keys.
pub(crate) struct Group<K> {
    last: AHashMap<Kept, K>,
    order: BTreeMap<K, Arc<Publication>>,
    /// Topics that were looked up in vain.
    missed: AHashSet<Box<[u8]>>,
}

/// A publication as the key of a map: it compares by its topic, which is not stored twice.
struct Kept(Arc<Publication>);

// Derived, it would want a default of the key.
impl<K> Default for Group<K> {
    fn default() -> Self {
        Self { last: AHashMap::default(), order: BTreeMap::default(), missed: AHashSet::default() }
    }
}

impl<K: Ord + Clone> Group<K> {
    /// Keeps a publication in place of its topic's last one. At most `entries_max` stay; 0: any
    /// number.
    pub(crate) fn keep(&mut self, publication: &Arc<Publication>, key: K, entries_max: usize) {
        self.forget(publication.topic());
        // Misses are rare: an empty set costs no hash.
        if !self.missed.is_empty() {
            self.missed.remove(publication.topic());
        }

        // A node that has lost its clock with a start may give a stamp again.
        if let Some(other) = self.order.insert(key.clone(), Arc::clone(publication)) {
            self.last.remove(other.topic());
        }
        self.last.insert(Kept(Arc::clone(publication)), key);
        self.trim(entries_max);
    }

    /// The last publication of a topic, unless it has expired.
    pub(crate) fn last(&self, topic: &[u8], now: Now) -> Option<&Arc<Publication>> {
        let (Kept(publication), _) = self.last.get_key_value(topic)?;
        (!has_expired(publication, now)).then_some(publication)
    }

    /// Notes a lookup of `topic`. Returns whether nothing is kept of it and this is the first miss
    /// since something was. At most `entries_max` misses are remembered (0: [`MISSED_MAX`]); one
    /// more clears them all, so that topics are reported again rather than never.
    pub(crate) fn miss(&mut self, topic: &[u8], entries_max: usize, now: Now) -> bool {
        if self.last(topic, now).is_some() || self.missed.contains(topic) {
            return false;
        }

        let missed_max = if entries_max == 0 { MISSED_MAX } else { entries_max };
        if self.missed.len() >= missed_max {
            self.missed.clear();
        }
        self.missed.insert(topic.into())
    }

    /// The key of a topic's publication, expired or not.
    pub(crate) fn key(&self, topic: &[u8]) -> Option<&K> {
        self.last.get(topic)
    }

    /// The lowest key.
    pub(crate) fn lowest(&self) -> Option<&K> {
        self.order.first_key_value().map(|(key, _)| key)
    }

    /// The number of publications, expired ones that [`Group::sweep`] has not seen yet included.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The publications from the lowest key on, or above a key.
    pub(crate) fn list(&self, above: Option<&K>) -> impl Iterator<Item = (&K, &Arc<Publication>)> {
        self.order.range((above.map_or(Unbounded, Excluded), Unbounded))
    }

    /// Drops the lowest until at most `entries_max` are left; 0: any number.
    pub(crate) fn trim(&mut self, entries_max: usize) {
        while entries_max > 0 && self.order.len() > entries_max {
            self.forget_lowest();
        }
    }

    /// Drops publications that are over, from the lowest key on: one with a shorter time waits for
    /// those before it. Returns whether there is anything left to remember.
    pub(crate) fn sweep(&mut self, is_over: impl Fn(&Publication) -> bool) -> bool {
        while self.order.first_key_value().is_some_and(|(_, lowest)| is_over(lowest)) {
            self.forget_lowest();
        }

        // The misses of an empty group stay, or each would be reported again after every sweep.
        !(self.order.is_empty() && self.missed.is_empty())
    }

    fn forget(&mut self, topic: &[u8]) {
        if let Some(key) = self.last.remove(topic) {
            self.order.remove(&key);
        }
    }

    fn forget_lowest(&mut self) {
        if let Some((_, lowest)) = self.order.pop_first() {
            self.last.remove(lowest.topic());
        }
    }
}

/// Whether the time for which a publication is retained is over.
pub(crate) fn has_expired(publication: &Publication, now: Now) -> bool {
    now.monotonic_ns >= expires_at_ns(publication)
}

/// When (ns of the monotonic clock) the time for which a publication is retained is over.
pub(crate) fn expires_at_ns(publication: &Publication) -> u64 {
    let kept_ns = u64::from(publication.retain_s) * SECOND_NS;
    publication.accepted.monotonic_ns.saturating_add(kept_ns)
}

impl Borrow<[u8]> for Kept {
    fn borrow(&self) -> &[u8] {
        self.0.topic()
    }
}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.topic().hash(state);
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.0.topic() == other.0.topic()
    }
}

impl Eq for Kept {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Draft;

    fn at(second: u64) -> Now {
        Now { monotonic_ns: second * SECOND_NS, unix_ms: 0 }
    }

    /// A publication of second 0 that is retained for 10 s.
    fn publication(topic: &[u8]) -> Arc<Publication> {
        let mut draft = Draft::default();
        draft.address(&[topic], b"");
        draft.retain(10);
        Arc::new(draft.finish(at(0)))
    }

    fn topics(group: &Group<u8>, above: Option<u8>) -> Vec<&[u8]> {
        group.list(above.as_ref()).map(|(_, kept)| kept.topic()).collect()
    }

    #[test]
    fn a_full_group_drops_its_lowest_key_however_late_it_came() {
        let mut group = Group::default();
        for (topic, key) in [(b"x", 5), (b"y", 3), (b"z", 4)] {
            group.keep(&publication(topic), key, 2);
        }
        assert_eq!(topics(&group, None), [b"z", b"x"]);
        assert_eq!(topics(&group, Some(4)), [b"x"]);
        assert_eq!((group.lowest(), group.key(b"y"), group.key(b"x")), (Some(&4), None, Some(&5)));

        group.keep(&publication(b"y"), 2, 2);
        assert_eq!((group.len(), group.key(b"y")), (2, None), "its own key is the lowest");
        group.keep(&publication(b"z"), 6, 2);
        assert_eq!(topics(&group, None), [b"x", b"z"]);
        group.trim(0);
        assert_eq!(group.len(), 2);
        group.trim(1);
        assert_eq!(topics(&group, None), [b"z"]);
    }

    #[test]
    fn a_key_that_is_given_twice_leaves_no_trace_of_the_first() {
        let mut group = Group::default();
        group.keep(&publication(b"x"), 5, 0);
        group.keep(&publication(b"y"), 5, 0);
        assert_eq!(topics(&group, None), [b"y"]);
        assert!(group.last(b"x", at(0)).is_none() && group.key(b"x").is_none());
    }

    #[test]
    fn a_topic_is_missed_once_until_something_is_kept_of_it() {
        let mut group = Group::default();
        assert!(group.miss(b"x", 2, at(0)) && !group.miss(b"x", 2, at(0)));
        group.keep(&publication(b"x"), 1, 0);
        assert!(!group.miss(b"x", 2, at(9)), "it is there");
        assert!(group.miss(b"x", 2, at(10)) && !group.miss(b"x", 2, at(10)), "its time is over");

        assert!(group.miss(b"y", 2, at(10)) && group.miss(b"z", 2, at(10)));
        assert_eq!(group.missed.len(), 1, "no memory grows");
        assert!(group.miss(b"x", 2, at(10)), "what is forgotten is reported again");
    }

    #[test]
    fn a_group_is_over_when_neither_a_publication_nor_a_miss_is_left() {
        let mut group = Group::default();
        group.keep(&publication(b"x"), 1, 0);
        assert!(group.sweep(|kept| has_expired(kept, at(9))) && group.len() == 1);
        assert!(!group.sweep(|kept| has_expired(kept, at(10))) && topics(&group, None).is_empty());
        group.miss(b"x", 0, at(10));
        assert!(group.sweep(|kept| has_expired(kept, at(10))));
    }
}
