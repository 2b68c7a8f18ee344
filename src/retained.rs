//! The last publication of each topic that retains one, for later subscribers.
//!
//! A publication says itself for how long it is retained ([`Publication::retain_s`]). Each group of
//! topics, named by the bytes before a topic's first NUL, has its own bound and drops its oldest
//! publications first, so a busy group takes nothing away from the others. A publication is one
//! allocation that all shards share.
//!
//! Misses are remembered too: a topic that was looked up in vain is reported to its publisher once.
//!
//! This file does not know who subscribes, nor what a group is to a dialect.

mod group;

pub(crate) use self::group::{Group, expires_at_ns, has_expired};

use crate::frame::Publication;
use crate::wheel::Now;
use ahash::AHashMap;
use std::sync::Arc;

/// The retained publications of one shard.
#[derive(Default)]
pub struct Retained {
    groups: AHashMap<Box<[u8]>, Group<u64>>,
    /// The number of publications kept so far, which orders them by age.
    sequence: u64,
}

impl Retained {
    /// Retains a publication in place of its topic's last one, unless its time is 0 or over. Its
    /// group keeps at most `entries_max` publications; 0: any number.
    pub fn keep(&mut self, publication: &Arc<Publication>, entries_max: usize, now: Now) {
        if publication.retain_s == 0 || has_expired(publication, now) {
            return;
        }

        self.sequence += 1;
        let group = group_of(publication.topic());
        // Not by `entry` alone, which would copy the group's name each time.
        let group = match self.groups.get_mut(group) {
            Some(group) => group,
            None => self.groups.entry(group.into()).or_default(),
        };

        // The newest of its topic is also the youngest of its group, however old the topic.
        group.keep(publication, self.sequence, entries_max);
    }

    /// The last publication of a topic, unless it has expired.
    #[must_use]
    pub fn last(&self, topic: &[u8], now: Now) -> Option<&Arc<Publication>> {
        self.groups.get(group_of(topic))?.last(topic, now)
    }

    /// Notes a lookup of `topic`. Returns whether nothing is retained of it and this is the first
    /// miss since something was. A group remembers at most `entries_max` misses (0: as many as
    /// are retained by default); one more clears them all, so that topics are reported again rather
    /// than never.
    pub fn miss(&mut self, topic: &[u8], entries_max: usize, now: Now) -> bool {
        let group = match self.groups.get_mut(group_of(topic)) {
            Some(group) => group,
            None => self.groups.entry(group_of(topic).into()).or_default(),
        };
        group.miss(topic, entries_max, now)
    }

    /// All of them, of each group from the oldest on.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Publication>> {
        self.groups.values().flat_map(|group| group.list(None)).map(|(_, publication)| publication)
    }

    /// The number of retained publications, expired ones that [`Retained::sweep`] has not seen yet
    /// included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.values().map(Group::len).sum()
    }

    /// Whether nothing is retained.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Applies new limits: `entries_max` gives the maximum of a group (0: any number), or `None` to
    /// drop the group.
    pub fn trim(&mut self, entries_max: impl Fn(&[u8]) -> Option<usize>) {
        self.groups.retain(|name, group| {
            let Some(entries_max) = entries_max(name) else { return false };
            group.trim(entries_max);
            true
        });
    }

    /// Drops expired publications, from the oldest on: one with a shorter time waits for those
    /// before it.
    pub fn sweep(&mut self, now: Now) {
        self.groups.retain(|_, group| group.sweep(|kept| has_expired(kept, now)));
    }
}

/// The group of a topic: its bytes before the first NUL.
pub(crate) fn group_of(topic: &[u8]) -> &[u8] {
    &topic[..memchr::memchr(0, topic).unwrap_or(topic.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Draft;
    use proptest::prelude::*;

    fn at(second: u64) -> Now {
        Now { monotonic_ns: second * 1_000_000_000, unix_ms: 0 }
    }

    fn publication(topic: &[u8], text: &str, retain_s: u32, second: u64) -> Arc<Publication> {
        let mut draft = Draft::default();
        draft.address(&[topic], b"");
        draft.retain(retain_s);
        draft.text(|out| out.extend_from_slice(text.as_bytes()));
        Arc::new(draft.finish(at(second)))
    }

    #[test]
    fn the_last_of_a_topic_is_kept_for_its_time() {
        let mut retained = Retained::default();
        retained.keep(&publication(b"a\0x\0", "one", 10, 0), 5, at(0));
        retained.keep(&publication(b"a\0x\0", "two", 10, 5), 5, at(5));
        retained.keep(&publication(b"a\0y\0", "never", 0, 5), 5, at(5));
        assert_eq!(
            retained.last(b"a\0x\0", at(14)).map(|kept| kept.frame(0)),
            Some(&b"\x81\x03two"[..])
        );
        assert!(
            retained.last(b"a\0y\0", at(5)).is_none() && retained.last(b"a\0", at(5)).is_none()
        );
        assert!(retained.last(b"a\0x\0", at(15)).is_none());
        assert_eq!(retained.len(), 1);
        retained.sweep(at(15));
        assert!(retained.is_empty());
    }

    #[test]
    fn a_topic_is_missed_once_until_something_is_kept_of_it() {
        let mut retained = Retained::default();
        let miss =
            |retained: &mut Retained, topic: &[u8], second| retained.miss(topic, 2, at(second));
        assert!(miss(&mut retained, b"a\0x\0", 0) && !miss(&mut retained, b"a\0x\0", 1));
        retained.sweep(at(2));
        assert!(!miss(&mut retained, b"a\0x\0", 2) && retained.is_empty());
        retained.keep(&publication(b"a\0x\0", "", 10, 3), 2, at(3));
        assert!(!miss(&mut retained, b"a\0x\0", 4), "nobody misses what is there");
        assert!(
            miss(&mut retained, b"a\0x\0", 13) && !miss(&mut retained, b"a\0x\0", 14),
            "its time is over"
        );
        // Other groups have a memory of their own, and no memory grows.
        assert!(miss(&mut retained, b"a\0y\0", 14) && miss(&mut retained, b"b\0x\0", 14));
        assert!(miss(&mut retained, b"a\0z\0", 14) && miss(&mut retained, b"a\0x\0", 14));
        assert!(!miss(&mut retained, b"b\0x\0", 14));
        assert!(miss(&mut retained, b"a\0y\0", 14), "a third miss has cleared the others");
        retained.trim(|group| (group == b"b").then_some(2));
        assert!(
            miss(&mut retained, b"a\0y\0", 15),
            "nothing is remembered of a group that is gone"
        );
    }

    #[test]
    fn of_a_group_the_oldest_go_first_and_other_groups_lose_nothing() {
        let mut retained = Retained::default();
        retained.keep(&publication(b"b\0x\0", "", 10, 0), 2, at(0));
        for topic in [b"a\0x\0", b"a\0y\0", b"a\0x\0", b"a\0z\0"] {
            retained.keep(&publication(topic, "", 10, 0), 2, at(0));
        }
        let kept = |topic: &[u8]| retained.last(topic, at(1)).is_some();
        assert!(kept(b"a\0x\0") && !kept(b"a\0y\0") && kept(b"a\0z\0") && kept(b"b\0x\0"));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_list_would_keep(
            steps in proptest::collection::vec((0u8..3, 0u8..6, 0u32..5, 0u64..3, any::<bool>()), 0..200)
        ) {
            let (mut retained, mut second) = (Retained::default(), 0);
            let mut model: Vec<Arc<Publication>> = Vec::new();
            for (group, topic, retain_s, passed, sweeps) in steps {
                second += passed;
                let topic = [group, 0, topic];
                let new = publication(&topic, "", retain_s, second);
                retained.keep(&new, 3, at(second));
                if retain_s > 0 {
                    model.retain(|kept| kept.topic() != topic);
                    model.push(new);
                    let of_group = |kept: &Arc<Publication>| kept.topic()[0] == group;
                    if model.iter().filter(|kept| of_group(kept)).count() > 3 {
                        let oldest = model.iter().position(of_group).unwrap();
                        model.remove(oldest);
                    }
                }
                if sweeps {
                    retained.sweep(at(second));
                }
                prop_assert!(retained.len() <= 9);
                // Nothing that could be had is lost. What has expired may have made room for others
                // either way.
                for kept in model.iter().filter(|kept| !has_expired(kept, at(second))) {
                    let found = retained.last(kept.topic(), at(second));
                    prop_assert!(found.is_some_and(|found| Arc::ptr_eq(found, kept)));
                }
            }
            retained.sweep(at(second + 10));
            prop_assert!(retained.is_empty());
        }
    }
}
