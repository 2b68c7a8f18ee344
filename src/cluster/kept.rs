//! The retained publications of all nodes, in the order that all nodes agree on.
//!
//! Every node hears every retained publication and retains the last of each topic. Two nodes may
//! publish to one topic at the same moment, and the others hear the two in either order, so a
//! publication that is retained carries a [`KeptStamp`]: a Lamport clock's number, then its node's
//! name. The highest stamp of a topic wins everywhere. The clock is at least the time of day, so
//! that a node that has started again, and has heard nothing yet, does not lose to its own past;
//! otherwise clocks may differ as they like.
//!
//! The bound of a group drops its lowest stamps, which are the same on every node. The time of a
//! publication is measured from its acceptance, and other nodes are told the rest of it. One whose
//! time is over is remembered for a little longer ([`STALE_S`]): an older one that is late must not
//! take its place.
//!
//! `exchange` gets what a node has not heard from the others. This file does not know how
//! publications travel.

mod exchange;

pub use self::exchange::{KeptExchange, answer};

use super::node::NodeName;
use crate::frame::Publication;
use crate::retained::{Group, expires_at_ns, group_of, has_expired};
use crate::wheel::{Now, SECOND_NS};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

/// Seconds for which a publication whose time is over keeps older ones of its topic out. The engine
/// delivers within milliseconds or not at all; a sender's queue may be some seconds long.
const STALE_S: u64 = 30;

/// Bits of a number below the milliseconds of the time of day: the clock keeps to the time unless a
/// node retains more than a million publications a second.
const NUMBER_BITS: u32 = 10;

/// The highest number that is believed, far above any time of day: with a higher one, a faulty node
/// could leave no room for later numbers.
const NUMBER_MAX: u64 = 1 << 62;

/// The place of a retained publication in the order of all nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeptStamp {
    /// Higher than all that its node had heard of.
    pub number: u64,
    /// The node that accepted the publication; it tells equal numbers apart.
    pub node: NodeName,
}

/// A place in the list of all retained publications: one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPlace {
    /// Its topic's group.
    pub group: Box<[u8]>,
    /// Its stamp.
    pub stamp: KeptStamp,
}

/// The retained publications of all nodes, as one of them knows them.
pub struct KeptPublications {
    me: NodeName,
    /// The highest number heard of or given.
    clock: u64,
    groups: BTreeMap<Box<[u8]>, Group<KeptStamp>>,
}

impl KeptPublications {
    /// Nothing, as this node knows it.
    #[must_use]
    pub fn new(me: NodeName) -> Self {
        Self { me, clock: 0, groups: BTreeMap::new() }
    }

    /// Keeps a publication that this node has accepted, and returns the number of its stamp; 0 for
    /// one that is not retained. `entries_max` is the bound of its group: 0 for none, `None` when
    /// the group retains nothing.
    pub fn accept(
        &mut self,
        publication: &Arc<Publication>,
        entries_max: Option<usize>,
        now: Now,
    ) -> u64 {
        if publication.retain_s == 0 {
            return 0;
        }
        self.clock = (self.clock + 1).max(now.unix_ms << NUMBER_BITS).min(NUMBER_MAX);
        let stamp = KeptStamp { number: self.clock, node: self.me.clone() };
        if let Some(entries_max) = entries_max {
            self.keep(publication, stamp, entries_max);
        }
        self.clock
    }

    /// Takes a publication that another node has accepted, with the number of its stamp. Returns it
    /// as this node's subscribers get it: not retained if a later one of its topic is known.
    pub fn heard(
        &mut self,
        mut publication: Publication,
        stamp: KeptStamp,
        entries_max: Option<usize>,
        now: Now,
    ) -> Arc<Publication> {
        let entries_max = entries_max.filter(|max| self.is_kept(&publication, &stamp, *max, now));
        if entries_max.is_none() {
            publication.retain_s = 0;
        }
        let publication = Arc::new(publication);
        if let Some(entries_max) = entries_max {
            self.keep(&publication, stamp, entries_max);
        }
        publication
    }

    /// Takes a publication that another node keeps. Returns it if the shards must keep it too; it
    /// is not for those who subscribe already.
    pub fn restore(
        &mut self,
        publication: Publication,
        stamp: KeptStamp,
        entries_max: Option<usize>,
        now: Now,
    ) -> Option<Arc<Publication>> {
        let entries_max =
            entries_max.filter(|max| self.is_kept(&publication, &stamp, *max, now))?;
        let publication = Arc::new(publication);
        self.keep(&publication, stamp, entries_max);
        Some(publication)
    }

    /// Whether nothing is kept of a topic and this is the first miss since something was.
    /// `entries_max` bounds the misses that are remembered, as in
    /// [`Retained::miss`](crate::retained::Retained::miss).
    pub fn miss(&mut self, topic: &[u8], entries_max: usize, now: Now) -> bool {
        let group = self.groups.entry(group_of(topic).into()).or_default();
        group.miss(topic, entries_max, now)
    }

    /// The last publication of a topic, unless its time is over.
    #[must_use]
    pub fn last(&self, topic: &[u8], now: Now) -> Option<&Arc<Publication>> {
        self.groups.get(group_of(topic))?.last(topic, now)
    }

    /// The publications whose stamps have a higher number than `since`, in the order of their
    /// places from the first one behind `after`.
    pub fn list<'a>(
        &'a self,
        since: u64,
        after: Option<&'a KeptPlace>,
        now: Now,
    ) -> impl Iterator<Item = (&'a KeptStamp, &'a Arc<Publication>)> {
        // The group of that place, from there on, and all groups behind it.
        let rest = after.into_iter().flat_map(|place| {
            let group = self.groups.get(&place.group);
            group.into_iter().flat_map(|group| group.list(Some(&place.stamp)))
        });
        let from = after.map_or(Unbounded, |place| Excluded(&*place.group));
        let others = self.groups.range::<[u8], _>((from, Unbounded));
        rest.chain(others.flat_map(|(_, group)| group.list(None)))
            .filter(move |(stamp, kept)| stamp.number > since && !has_expired(kept, now))
    }

    /// The number of publications, those included whose time is over.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.values().map(Group::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Applies new limits, as [`Retained::trim`](crate::retained::Retained::trim) does.
    pub fn trim(&mut self, entries_max: impl Fn(&[u8]) -> Option<usize>) {
        self.groups.retain(|name, group| {
            let Some(entries_max) = entries_max(name) else { return false };
            group.trim(entries_max);
            true
        });
    }

    /// Drops publications whose time is long over, from the lowest stamp on: one with a shorter
    /// time waits for those before it.
    pub fn sweep(&mut self, now: Now) {
        let is_stale = |kept: &Publication| {
            now.monotonic_ns >= expires_at_ns(kept).saturating_add(STALE_S * SECOND_NS)
        };
        self.groups.retain(|_, group| group.sweep(is_stale));
    }

    /// Whether a publication of another node is to be kept: its stamp is higher than that of its
    /// topic, and its group has room for it. Its number is noted.
    fn is_kept(
        &mut self,
        publication: &Publication,
        stamp: &KeptStamp,
        entries_max: usize,
        now: Now,
    ) -> bool {
        let is_retained = publication.retain_s > 0 && !has_expired(publication, now);
        if !is_retained || stamp.number > NUMBER_MAX {
            return false;
        }
        self.clock = self.clock.max(stamp.number);

        let Some(group) = self.groups.get(group_of(publication.topic())) else { return true };
        if let Some(known) = group.key(publication.topic()) {
            return known < stamp;
        }
        let is_full = entries_max > 0 && group.len() >= entries_max;
        // In a full group the lowest goes, which may be this one.
        !is_full || group.lowest().is_some_and(|lowest| lowest < stamp)
    }

    /// Keeps a publication in place of its topic's last one.
    fn keep(&mut self, publication: &Arc<Publication>, stamp: KeptStamp, entries_max: usize) {
        let group = group_of(publication.topic());
        // Not by `entry` alone, which would copy the group's name each time.
        let group = match self.groups.get_mut(group) {
            Some(group) => group,
            None => self.groups.entry(group.into()).or_default(),
        };
        group.keep(publication, stamp, entries_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Draft;
    use crate::retained::Retained;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const ANY: Option<usize> = Some(0);

    fn at(second: u64) -> Now {
        Now { monotonic_ns: second * SECOND_NS, unix_ms: 0 }
    }

    pub(super) fn publication(topic: &[u8], text: &str, retain_s: u32, now: Now) -> Publication {
        let mut draft = Draft::default();
        draft.address(&[topic], b"");
        draft.retain(retain_s);
        draft.text(|out| out.extend_from_slice(text.as_bytes()));
        draft.finish(now)
    }

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn stamp(number: u64, name: &str) -> KeptStamp {
        KeptStamp { number, node: node(name) }
    }

    fn text(publication: &Publication) -> &str {
        std::str::from_utf8(&publication.frame(0)[2..]).unwrap()
    }

    /// The text that is kept of a topic.
    fn kept<'a>(all: &'a KeptPublications, topic: &[u8], now: Now) -> Option<&'a str> {
        all.last(topic, now).map(|publication| text(publication))
    }

    fn hear(all: &mut KeptPublications, said: &str, stamp: KeptStamp, now: Now) -> u32 {
        all.heard(publication(b"a\0x", said, 10, now), stamp, ANY, now).retain_s
    }

    #[test]
    fn the_highest_stamp_of_a_topic_wins_and_a_name_settles_a_tie() {
        let mut all = KeptPublications::new(node("b"));
        assert_eq!(hear(&mut all, "five", stamp(5, "b"), at(0)), 10);
        for (number, name) in [(4, "z"), (5, "a"), (5, "b")] {
            assert_eq!(hear(&mut all, "late", stamp(number, name), at(0)), 0);
        }
        assert_eq!(kept(&all, b"a\0x", at(0)), Some("five"));
        assert_eq!(hear(&mut all, "tie", stamp(5, "c"), at(0)), 10);
        assert_eq!(kept(&all, b"a\0x", at(0)), Some("tie"));

        let own = Arc::new(publication(b"a\0x", "own", 10, at(1)));
        assert_eq!(all.accept(&own, ANY, at(1)), 6, "higher than all that was heard of");
        assert_eq!(kept(&all, b"a\0x", at(1)), Some("own"));
        assert_eq!(all.accept(&Arc::new(publication(b"a\0x", "", 0, at(1))), ANY, at(1)), 0);
    }

    #[test]
    fn a_node_that_has_lost_its_clock_continues_by_the_time_of_day() {
        let noon = Now { monotonic_ns: 0, unix_ms: 1_800_000_000_000 };
        let accept = |all: &mut KeptPublications, now| {
            all.accept(&Arc::new(publication(b"a\0x", "", 10, now)), ANY, now)
        };
        let mut before = KeptPublications::new(node("a"));
        let last = (0..1000).map(|_| accept(&mut before, noon)).last().unwrap();
        let mut after = KeptPublications::new(node("a"));
        let later = Now { monotonic_ns: 0, unix_ms: noon.unix_ms + 1 };
        assert!(accept(&mut after, later) > last);
        // Another node's clock is an hour ahead.
        let ahead = (noon.unix_ms + 3_600_000) << NUMBER_BITS;
        hear(&mut after, "", stamp(ahead, "b"), later);
        assert_eq!(accept(&mut after, later), ahead + 1);
    }

    #[test]
    fn a_number_beyond_belief_is_neither_kept_nor_counted_on() {
        let mut all = KeptPublications::new(node("a"));
        assert_eq!(hear(&mut all, "", stamp(u64::MAX, "b"), at(0)), 0);
        assert!(all.is_empty());
        assert_eq!(hear(&mut all, "", stamp(NUMBER_MAX, "b"), at(0)), 10);
        let own = Arc::new(publication(b"a\0y", "", 10, at(0)));
        assert_eq!(all.accept(&own, ANY, at(0)), NUMBER_MAX);
        assert_eq!(all.accept(&own, ANY, at(0)), NUMBER_MAX, "without an overflow");
    }

    #[test]
    fn a_late_publication_does_not_take_the_place_of_one_whose_time_is_over() {
        let mut all = KeptPublications::new(node("a"));
        hear(&mut all, "last", stamp(5, "b"), at(0));
        assert_eq!(kept(&all, b"a\0x", at(10)), None);
        all.sweep(at(10 + STALE_S - 1));
        assert_eq!(hear(&mut all, "late", stamp(4, "b"), at(10 + STALE_S - 1)), 0);
        all.sweep(at(10 + STALE_S));
        assert!(all.is_empty());
    }

    #[test]
    fn a_full_group_drops_its_lowest_stamp_and_takes_none_below() {
        let mut all = KeptPublications::new(node("a"));
        let mut hear = |topic: &[u8], number, entries_max| {
            all.heard(publication(topic, "", 10, at(0)), stamp(number, "b"), entries_max, at(0))
                .retain_s
        };
        assert_eq!(hear(b"a\0x", 5, Some(2)), 10);
        assert_eq!(hear(b"a\0y", 3, Some(2)), 10);
        assert_eq!(hear(b"a\0z", 2, Some(2)), 0, "it would be the lowest");
        assert_eq!(hear(b"a\0z", 4, Some(2)), 10);
        assert_eq!(hear(b"b\0x", 1, None), 0, "its group retains nothing");
        assert_eq!(hear(b"b\0x", 1, Some(2)), 10);
        let topics: Vec<_> = all.list(0, None, at(0)).map(|(_, kept)| kept.topic()).collect();
        assert_eq!(topics, [b"a\0z", b"a\0x", b"b\0x"]);
        all.trim(|group| (group == b"a").then_some(1));
        let topics: Vec<_> = all.list(0, None, at(0)).map(|(_, kept)| kept.topic()).collect();
        assert_eq!(topics, [b"a\0x"]);
    }

    #[test]
    fn a_number_that_is_given_twice_leaves_no_trace_of_the_first() {
        let mut all = KeptPublications::new(node("a"));
        for topic in [b"a\0x", b"a\0y"] {
            all.heard(publication(topic, "", 10, at(0)), stamp(5, "b"), ANY, at(0));
        }
        assert_eq!(all.len(), 1);
        assert!(all.last(b"a\0x", at(0)).is_none() && all.last(b"a\0y", at(0)).is_some());
    }

    #[test]
    fn a_topic_is_missed_once_until_something_is_kept_of_it() {
        let mut all = KeptPublications::new(node("a"));
        assert!(all.miss(b"a\0x", 2, at(0)) && !all.miss(b"a\0x", 2, at(0)));
        hear(&mut all, "", stamp(5, "b"), at(0));
        assert!(!all.miss(b"a\0x", 2, at(9)), "nobody misses what is there");
        assert!(all.miss(b"a\0x", 2, at(10)) && !all.miss(b"a\0x", 2, at(10)));
        assert!(all.miss(b"a\0y", 2, at(10)) && all.miss(b"a\0z", 2, at(10)));
        assert!(all.miss(b"a\0x", 2, at(10)), "no memory grows");
    }

    #[test]
    fn the_list_goes_on_from_any_place() {
        let mut all = KeptPublications::new(node("a"));
        for (number, topic) in [b"a\0x", b"c\0x", b"a\0y", b"b\0x"].into_iter().enumerate() {
            let stamp = stamp(number as u64 + 1, "b");
            all.heard(publication(topic, "", 10, at(0)), stamp, ANY, at(0));
        }
        let whole: Vec<_> = all.list(0, None, at(0)).map(|(stamp, _)| stamp.number).collect();
        assert_eq!(whole, [1, 3, 4, 2]);
        let groups: [&[u8]; 4] = [b"a", b"a", b"b", b"c"];
        for (index, group) in groups.into_iter().enumerate() {
            let place = KeptPlace { group: group.into(), stamp: stamp(whole[index], "b") };
            let rest = all.list(0, Some(&place), at(0)).map(|(stamp, _)| stamp.number);
            assert_eq!(rest.collect::<Vec<_>>(), whole[index + 1..]);
        }
        // A place that has gone meanwhile is one all the same.
        let gone = KeptPlace { group: b"a"[..].into(), stamp: stamp(2, "b") };
        assert_eq!(all.list(2, Some(&gone), at(0)).count(), 2);
        assert_eq!(all.list(0, None, at(10)).count(), 0, "their time is over");
    }

    /// A node of the model: what it keeps, what one of its shards keeps, and what is on its way.
    struct ModelNode {
        all: KeptPublications,
        shard: Retained,
        /// From each other node, in order.
        inbound: [VecDeque<(Vec<u8>, String, KeptStamp)>; 3],
    }

    proptest! {
        #[test]
        fn all_nodes_agree_however_their_publications_cross(
            steps in proptest::collection::vec((0usize..3, 0usize..4, 0u8..6, 0u64..2), 0..200),
        ) {
            let names = ["a", "b", "c"];
            let mut nodes = names.map(|name| ModelNode {
                all: KeptPublications::new(node(name)),
                shard: Retained::default(),
                inbound: Default::default(),
            });
            let mut count = 0;
            let hear = |model: &mut ModelNode, from: usize| {
                let Some((topic, said, stamp)) = model.inbound[from].pop_front() else { return };
                let publication = publication(&topic, &said, 1000, at(0));
                let publication = model.all.heard(publication, stamp, ANY, at(0));
                model.shard.keep(&publication, 0, at(0));
            };
            for (here, action, topic, ms) in steps {
                count += ms;
                if action < 3 {
                    hear(&mut nodes[here], action);
                    continue;
                }
                // Nodes whose clocks are far apart.
                let now = Now { unix_ms: here as u64 * 1000 + count / 50, ..at(0) };
                let (topic, said) = ([b'a' + topic % 2, 0, topic], format!("{here}-{count}"));
                let own = Arc::new(publication(&topic, &said, 1000, now));
                let number = nodes[here].all.accept(&own, ANY, now);
                nodes[here].shard.keep(&own, 0, now);
                for there in (0..3).filter(|there| *there != here) {
                    let stamp = stamp(number, names[here]);
                    nodes[there].inbound[here].push_back((topic.to_vec(), said.clone(), stamp));
                }
                count += 1;
            }
            for model in &mut nodes {
                while let Some(from) = (0..3).find(|from| !model.inbound[*from].is_empty()) {
                    hear(model, from);
                }
            }
            for topic in 0..6 {
                let topic = [b'a' + topic % 2, 0, topic];
                let last = kept(&nodes[0].all, &topic, at(0));
                for model in &nodes {
                    prop_assert_eq!(kept(&model.all, &topic, at(0)), last);
                    let of_shard = model.shard.last(&topic, at(0)).map(|kept| text(kept));
                    prop_assert_eq!(of_shard, last);
                }
            }
        }
    }
}
