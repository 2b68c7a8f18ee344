//! Who wants this event? A trie of subscriptions in two dimensions: a *topic prefix* and a *facet
//! prefix*.
//!
//! A subscription matches an event if the event's topic starts with the one and its facet with the
//! other. Topics are many (object names, a million of them) and facets few (type names, some
//! hundreds), so the two are not treated alike:
//!
//! 1. Facet prefixes are interned: a small radix trie of their own gives each a number, counted by
//!    use.
//! 2. An event's facet walks that trie first; what it passes is the short list of facet numbers
//!    that match.
//! 3. The event's topic then walks the large trie once. Each node on the way holds entries `facet
//!    number << 32 | subscriber`, ascending, and those of a matching number are visited.
//!
//! What a match costs is cache misses, so each node is one contiguous record of odd size in a
//! chunked arena ([`node`], [`arena`]) and not a struct of vectors: a leaf with one subscriber
//! takes some 24 bytes. A node is rewritten to be changed, which is cheap because a node with many
//! entries keeps them in a B-tree beside ([`radix`]). Rust's many trie crates have one dimension,
//! and one dimension of this with a filter behind would visit everyone who watches an object for
//! any reason.
//!
//! The trie does not know what the bytes mean, how a topic is put together, who a subscriber is or
//! whether two matches lead to the same one. It has no clock and no lock; a shard owns one.

mod arena;
mod node;
mod radix;

use slab::Slab;

use arena::{Arena, CHUNKS_MAX};
use node::{LABEL_BYTES_MAX, LIST_MAX, Node, Stored, Values, View, insert_value, remove_value};
use radix::{Radix, RadixValues};

/// Longest topic prefix and longest facet prefix, in bytes. A prefix may become one node's label,
/// whose length has 13 bits. Object names are URLs, for which servers commonly take 8 KB as a whole
/// request line and half of that is ample; NATS advises 256 bytes, MQTT permits 65,535.
pub const PREFIX_BYTES_MAX: usize = LABEL_BYTES_MAX;

/// Most subscriptions of one trie: a facet's uses are counted in 32 bits.
pub const SUBSCRIPTIONS_MAX: usize = u32::MAX as usize;

/// Most bytes of one trie's nodes, topics and facets each: a child link has 32 bits and counts 8
/// bytes.
pub const NODE_BYTES_MAX: usize = CHUNKS_MAX * arena::CHUNK_BYTES;

/// Why a subscription was refused; the trie is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrieFull {
    /// The subscriber's fault: a prefix is longer than [`PREFIX_BYTES_MAX`].
    #[error("a prefix is longer than {PREFIX_BYTES_MAX} bytes")]
    Prefix,
    /// Ours: there are [`SUBSCRIPTIONS_MAX`] subscriptions.
    #[error("there are {SUBSCRIPTIONS_MAX} subscriptions already")]
    Subscriptions,
    /// Ours: the nodes take [`NODE_BYTES_MAX`].
    #[error("the nodes take {NODE_BYTES_MAX} bytes already")]
    Nodes,
}

/// A set of subscriptions `(topic prefix, facet prefix, subscriber)`.
///
/// ```
/// let mut trie = fanfare::trie::Trie::new();
/// trie.insert(b"https://unit.example/box/", b"odatacol.", 7)?;
/// trie.insert(b"", b"chat", 8)?;
/// let mut seen = Vec::new();
/// trie.matches(b"https://unit.example/box/col", b"odatacol.entity.create", |subscriber| seen.push(subscriber));
/// assert_eq!(seen, [7]);
/// # Ok::<(), fanfare::trie::TrieFull>(())
/// ```
pub struct Trie {
    /// Topic prefix → `facet number << 32 | subscriber`.
    topics: Radix,
    /// Facet prefix → its number.
    facets: Radix,
    /// Facet number → how many entries of `topics` have it.
    uses: Slab<u32>,
    /// The numbers that match the facet at hand, ascending; kept for its capacity.
    matching: Vec<u32>,
    len: usize,
}

impl Default for Trie {
    fn default() -> Self {
        Self::new()
    }
}

impl Trie {
    /// A trie without subscriptions.
    pub fn new() -> Self {
        let (topics, facets) = (Radix::new(), Radix::new());
        Self { topics, facets, uses: Slab::new(), matching: Vec::new(), len: 0 }
    }

    /// Adds a subscription. `Ok(false)`: it was there already. An empty prefix matches everything.
    pub fn insert(
        &mut self,
        prefix: &[u8],
        facet: &[u8],
        subscriber: u32,
    ) -> Result<bool, TrieFull> {
        if prefix.len().max(facet.len()) > PREFIX_BYTES_MAX {
            return Err(TrieFull::Prefix);
        }
        if self.len >= SUBSCRIPTIONS_MAX {
            return Err(TrieFull::Subscriptions);
        }
        // Before anything is written: a refusal halfway would leave a facet that no entry uses.
        if !self.topics.has_room() || !self.facets.has_room() {
            return Err(TrieFull::Nodes);
        }

        // Each facet prefix has exactly one value, its number.
        let number = match self.facets.first(facet) {
            Some(number) => number as u32,
            None => self.intern(facet),
        };

        // With a number just given no entry exists, so it is used at once.
        let fresh = self.topics.insert(prefix, entry(number, subscriber));
        if fresh {
            self.uses[number as usize] += 1;
            self.len += 1;
        }
        Ok(fresh)
    }

    /// Removes a subscription; false if there was none. Frees memory once most of it is unused.
    pub fn remove(&mut self, prefix: &[u8], facet: &[u8], subscriber: u32) -> bool {
        let Some(number) = self.facets.first(facet) else { return false };
        let number = number as u32;
        if !self.topics.remove(prefix, entry(number, subscriber)) {
            return false;
        }

        self.len -= 1;
        let uses = &mut self.uses[number as usize];
        *uses -= 1;
        if *uses == 0 {
            self.release(facet, number);
        }
        true
    }

    /// Visits the subscriber of every subscription that matches: one with two that do, twice.
    /// Shorter topic prefixes come first; of the same prefix, the order is unspecified.
    pub fn matches(&mut self, topic: &[u8], facet: &[u8], mut visit: impl FnMut(u32)) {
        let matching = &mut self.matching;
        matching.clear();
        self.facets.walk(facet, |found| found.each(|number| matching.push(number as u32)));
        if matching.is_empty() {
            return;
        }

        // Numbers are reused, so prefix order is not their order.
        matching.sort_unstable();
        self.topics.walk(topic, |found| visit_matching(&found, matching, &mut visit));
    }

    /// Visits the subscriber of every subscription whose topic prefix matches, whatever its facet
    /// prefix.
    pub fn matches_any_facet(&self, topic: &[u8], mut visit: impl FnMut(u32)) {
        // The lower half of an entry is the subscriber.
        self.topics.walk(topic, |found| found.each(|entry| visit(entry as u32)));
    }

    /// Subscriptions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no subscription is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heap bytes held, unused capacity included, the allocator's overhead excluded.
    /// Exact but for nodes with more than 256 subscriptions, whose B-trees are estimated.
    pub fn bytes(&self) -> usize {
        let uses = self.uses.capacity() * size_of::<(usize, u32)>();
        self.topics.bytes()
            + self.facets.bytes()
            + uses
            + self.matching.capacity() * size_of::<u32>()
    }

    /// Gives a facet prefix a number; the caller adds its first use.
    fn intern(&mut self, facet: &[u8]) -> u32 {
        if self.uses.len() == self.uses.capacity() {
            // A slack of an eighth, where a Vec would double.
            self.uses.reserve_exact(self.uses.len() / 8 + 4);
        }
        let number = self.uses.insert(0);
        self.facets.insert(facet, number as u64);
        u32::try_from(number).expect("at most SUBSCRIPTIONS_MAX facets are in use")
    }

    fn release(&mut self, facet: &[u8], number: u32) {
        self.uses.remove(number as usize);
        self.facets.remove(facet, u64::from(number));
        if self.uses.is_empty() {
            // The last facet has gone: the capacity of the busiest moment goes with it.
            self.uses = Slab::new();
            self.matching = Vec::new();
        }
    }
}

fn entry(facet: u32, subscriber: u32) -> u64 {
    u64::from(facet) << 32 | u64::from(subscriber)
}

/// Visits a node's subscribers of matching facets, by iterating over the shorter side and searching
/// the longer.
fn visit_matching(found: &RadixValues<'_>, matching: &[u32], visit: &mut impl FnMut(u32)) {
    if found.len() <= 2 * matching.len() {
        return found.each(|entry| {
            if matching.binary_search(&((entry >> 32) as u32)).is_ok() {
                visit(entry as u32);
            }
        });
    }
    for &facet in matching {
        found.each_within(entry(facet, 0), entry(facet, u32::MAX), |entry| visit(entry as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(trie: &mut Trie, topic: &[u8], facet: &[u8]) -> Vec<u32> {
        let mut seen = Vec::new();
        trie.matches(topic, facet, |subscriber| seen.push(subscriber));
        seen.sort_unstable();
        seen
    }

    #[test]
    fn both_prefixes_must_match() {
        let mut trie = Trie::new();
        for (prefix, facet, subscriber) in [
            ("", "", 1),
            ("a", "x", 2),
            ("ab", "", 3),
            ("ab", "xy", 4),
            ("ac", "", 5),
            ("abcd", "x", 6),
        ] {
            assert_eq!(trie.insert(prefix.as_bytes(), facet.as_bytes(), subscriber), Ok(true));
        }
        assert_eq!(seen(&mut trie, b"abc", b"x"), [1, 2, 3]);
        assert_eq!(seen(&mut trie, b"abc", b"xyz"), [1, 2, 3, 4]);
        assert_eq!(seen(&mut trie, b"abcd", b"x"), [1, 2, 3, 6]);
        assert_eq!(seen(&mut trie, b"ac", b""), [1, 5]);
        assert_eq!(seen(&mut trie, b"", b""), [1]);
    }

    #[test]
    fn a_subscription_is_held_once_and_removed_once() {
        let mut trie = Trie::new();
        assert_eq!(trie.insert(b"t", b"f", 1), Ok(true));
        assert_eq!(trie.insert(b"t", b"f", 1), Ok(false));
        assert_eq!(trie.len(), 1);
        assert!(
            !trie.remove(b"t", b"f", 2) && !trie.remove(b"t", b"", 1) && !trie.remove(b"", b"f", 1)
        );
        assert!(trie.remove(b"t", b"f", 1) && !trie.remove(b"t", b"f", 1));
        assert!(trie.is_empty());
    }

    #[test]
    fn a_subscriber_is_visited_once_for_each_subscription_that_matches() {
        let mut trie = Trie::new();
        for prefix in [&b""[..], b"a", b"ab", b"abc", b"abcd"] {
            trie.insert(prefix, b"", 9).unwrap();
        }
        assert_eq!(seen(&mut trie, b"abc\0", b"any"), [9, 9, 9, 9]);
    }

    #[test]
    fn a_nul_byte_is_a_byte_like_any_other() {
        let mut trie = Trie::new();
        trie.insert(b"a\0", b"\0", 1).unwrap();
        trie.insert(b"a\0\0", b"", 2).unwrap();
        trie.insert(b"a", b"", 3).unwrap();
        assert_eq!(seen(&mut trie, b"a\0\0", b"\0x"), [1, 2, 3]);
        assert_eq!(seen(&mut trie, b"a\x01", b""), [3]);
    }

    #[test]
    fn nodes_and_facets_no_longer_used_are_freed() {
        let mut trie = Trie::new();
        let empty = trie.bytes();
        for round in 0..50 {
            for n in 0..1000_u32 {
                let (topic, facet) =
                    (format!("topic-{:x}", n * 7919 % 1000 + round), format!("facet-{n}"));
                trie.insert(topic.as_bytes(), facet.as_bytes(), n).unwrap();
            }
            assert!(trie.bytes() < 130_000, "{} bytes in round {round}", trie.bytes());
            for n in 0..1000_u32 {
                let (topic, facet) =
                    (format!("topic-{:x}", n * 7919 % 1000 + round), format!("facet-{n}"));
                assert!(trie.remove(topic.as_bytes(), facet.as_bytes(), n));
            }
            assert!(trie.uses.is_empty() && trie.facets.first(b"facet-1").is_none());
            assert!(trie.bytes() < empty + (80 << 10), "{} bytes left", trie.bytes());
        }
    }

    #[test]
    fn a_crowd_at_one_node_is_searched_and_not_gone_through() {
        let mut trie = Trie::new();
        for n in 0..5000_u32 {
            trie.insert(b"*", format!("{n:04}").as_bytes(), n).unwrap();
            trie.insert(b"*", b"", n).unwrap();
        }
        assert_eq!(seen(&mut trie, b"*", b"1234.more").len(), 5001);
        for n in 0..5000_u32 {
            assert!(trie.remove(b"*", b"", n));
            assert_eq!(
                seen(&mut trie, b"*", format!("{n:04}").as_bytes()).len(),
                5000 - n as usize
            );
            if n == 200 {
                break;
            }
        }
    }

    #[test]
    fn a_name_as_long_as_permitted_costs_no_stack() {
        let mut trie = Trie::new();
        let name = vec![b'a'; PREFIX_BYTES_MAX];
        for len in 0..=PREFIX_BYTES_MAX {
            trie.insert(&name[..len], &name[..len % 100], len as u32).unwrap();
        }
        assert_eq!(seen(&mut trie, &[&name[..], b"b"].concat(), &name).len(), PREFIX_BYTES_MAX + 1);
        for len in (0..=PREFIX_BYTES_MAX).rev() {
            assert!(trie.remove(&name[..len], &name[..len % 100], len as u32));
        }
        assert!(trie.is_empty());
    }

    #[test]
    fn whatever_its_facet_a_subscription_to_a_topic_is_visited() {
        let mut trie = Trie::new();
        for (topic, facet, subscriber) in
            [("a", "x", 1), ("a/b", "y", 2), ("", "", 3), ("a/c", "x", 4), ("a", "z", 1)]
        {
            trie.insert(topic.as_bytes(), facet.as_bytes(), subscriber).unwrap();
        }
        let mut seen = Vec::new();
        trie.matches_any_facet(b"a/b", |subscriber| seen.push(subscriber));
        seen.sort_unstable();
        assert_eq!(seen, [1, 1, 2, 3]);
    }

    #[test]
    fn a_subscription_beyond_a_limit_is_refused_and_changes_nothing() {
        let mut trie = Trie::new();
        let long = vec![0; PREFIX_BYTES_MAX + 1];
        assert_eq!(trie.insert(&long, b"", 1), Err(TrieFull::Prefix));
        assert_eq!(trie.insert(b"", &long, 1), Err(TrieFull::Prefix));
        trie.len = SUBSCRIPTIONS_MAX;
        assert_eq!(trie.insert(b"", b"", 1), Err(TrieFull::Subscriptions));
        trie.len = 0;
        trie.topics = Radix::with_chunks_max(1);
        assert_eq!(trie.insert(b"", b"", 1), Err(TrieFull::Nodes));
        assert!(trie.uses.is_empty() && trie.is_empty());
    }
}
