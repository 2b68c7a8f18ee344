//! A radix trie from byte strings to sets of `u64`: what both dimensions of the subscription trie
//! are made of.
//!
//! Every node but the root holds a value or has at least two children; removing a value restores
//! this by freeing or merging nodes. The root stays and has no label. Values of a node lie in its
//! record; when there are too many, in a set of their own, so that a change costs their logarithm
//! and not a copy. Nothing recurses: a key of any length costs a loop.

use std::collections::BTreeSet;

use slab::Slab;
use smallvec::SmallVec;

use super::{Arena, CHUNKS_MAX, LIST_MAX, Node, Stored, Values, View, insert_value, remove_value};

/// Heap bytes of a set per value: std's B-tree keeps 11 values in a node of 104 bytes and, filled
/// at random or in ascending order, uses 6 to 8 of them.
const SET_BYTES_PER_VALUE: usize = 17;

pub(super) struct Radix {
    arena: Arena,
    root: u32,
    sets: Slab<BTreeSet<u64>>,
    /// Values in all sets together.
    set_values: usize,
    /// Scratch in which records are encoded.
    record: Vec<u8>,
}

/// A node, and the link that leads to it: its parent and the key there. The root has none.
#[derive(Clone, Copy)]
struct RadixPlace {
    at: u32,
    link: Option<(u32, u8)>,
}

/// The values of one node, ascending.
pub(super) enum RadixValues<'a> {
    List(&'a [[u8; 8]]),
    Set(&'a BTreeSet<u64>),
}

impl RadixValues<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Set(set) => set.len(),
        }
    }

    pub(super) fn each(&self, mut visit: impl FnMut(u64)) {
        match self {
            Self::List(list) => list.iter().for_each(|value| visit(u64::from_le_bytes(*value))),
            Self::Set(set) => set.iter().for_each(|value| visit(*value)),
        }
    }

    /// Visits the values from `first` to `last`, both included.
    pub(super) fn each_within(&self, first: u64, last: u64, mut visit: impl FnMut(u64)) {
        match self {
            Self::List(list) => {
                let start = list.partition_point(|value| u64::from_le_bytes(*value) < first);
                let values = list[start..].iter().map(|value| u64::from_le_bytes(*value));
                values.take_while(|value| *value <= last).for_each(visit);
            }
            Self::Set(set) => set.range(first..=last).for_each(|value| visit(*value)),
        }
    }
}

impl Radix {
    pub(super) fn new() -> Self {
        Self::with_chunks_max(CHUNKS_MAX)
    }

    /// A trie with a lower limit than the links impose, for tests.
    pub(super) fn with_chunks_max(chunks_max: usize) -> Self {
        let mut record = Vec::new();
        Node::new(b"").encode(&mut record);
        let mut arena = Arena::new(chunks_max);
        let root = arena.add(&record);
        Self { arena, root, sets: Slab::new(), set_values: 0, record }
    }

    /// Whether any one insertion is certain to find room.
    pub(super) fn has_room(&self) -> bool {
        self.arena.has_room()
    }

    /// Heap bytes held; of the sets, an estimate.
    pub(super) fn bytes(&self) -> usize {
        let sets = self.sets.capacity() * size_of::<(usize, BTreeSet<u64>)>();
        self.arena.bytes() + sets + self.set_values * SET_BYTES_PER_VALUE + self.record.capacity()
    }

    /// Visits the values of every key that is a prefix of `key`, shortest first.
    #[inline]
    pub(super) fn walk(&self, key: &[u8], mut visit: impl FnMut(RadixValues<'_>)) {
        let (mut at, mut rest) = (self.root, key);
        loop {
            let node = self.view(at);
            // The key leaves the label: nothing further down is a prefix of it.
            let Some(below) = rest.strip_prefix(node.label()) else { return };
            match node.stored() {
                // Branching nodes mostly have no values, and the caller's closure is not free.
                Stored::List([]) => {}
                Stored::List(list) => visit(RadixValues::List(list)),
                Stored::Set(set) => visit(RadixValues::Set(&self.sets[set as usize])),
            }
            let Some((&byte, below)) = below.split_first() else { return };
            let Some(child) = node.child(byte) else { return };
            (at, rest) = (child, below);
        }
    }

    /// The least value of `key` itself.
    pub(super) fn first(&self, key: &[u8]) -> Option<u64> {
        let (place, _) = self.locate(key)?;
        match self.view(place.at).stored() {
            Stored::List(list) => list.first().map(|value| u64::from_le_bytes(*value)),
            Stored::Set(set) => self.sets[set as usize].first().copied(),
        }
    }

    /// Adds a value to a key of at most `LABEL_BYTES_MAX` bytes. False: it was there already.
    /// The caller asks [`Radix::has_room`] before.
    pub(super) fn insert(&mut self, key: &[u8], value: u64) -> bool {
        let (mut place, mut rest) = (RadixPlace { at: self.root, link: None }, key);
        loop {
            let node = self.view(place.at);
            let Some(below) = rest.strip_prefix(node.label()) else {
                // The key ends or branches off inside of the label.
                let common = common_len(node.label(), rest);
                self.split(place, &rest[common..], common, value);
                return true;
            };
            let Some((&byte, below)) = below.split_first() else {
                return self.add_value(place, value);
            };
            let Some(child) = node.child(byte) else {
                // What is left of the key becomes a leaf.
                let mut node = Node::read(node);
                node.add_child(byte, self.add(&Node::leaf(below, value)));
                self.rewrite(place, &node);
                return true;
            };

            (place, rest) = (RadixPlace { at: child, link: Some((place.at, byte)) }, below);
        }
    }

    /// Removes a value from a key. False: it was not there.
    pub(super) fn remove(&mut self, key: &[u8], value: u64) -> bool {
        let Some((place, parent)) = self.locate(key) else { return false };
        let node = self.view(place.at);
        let list = match node.stored() {
            Stored::List(list) => list,
            Stored::Set(set) => return self.remove_from_set(place, set, value),
        };
        let Ok(index) = search(list, value) else { return false };

        // The common case: others stay, and the record keeps its block.
        if list.len() > 1 && Arena::is_same_block(node.len(), node.len() - 8) {
            remove_value(self.arena.get_mut(place.at), index);
            return true;
        }

        let mut node = Node::read(node);
        node.remove_value(value);
        match place.link {
            // An empty leaf goes. Its parent may be left without a use of its own and is settled in
            // turn.
            Some((_, byte)) if !node.has_values() && node.children.is_empty() => {
                self.free(place.at);
                let mut above = Node::read(self.view(parent.at));
                above.remove_child(byte);
                self.settle(parent, above);
            }
            _ => self.settle(place, node),
        }
        if self.arena.is_wasteful() {
            self.compact();
        }
        true
    }

    /// The node of exactly this key, and its parent (for the root, itself).
    fn locate(&self, key: &[u8]) -> Option<(RadixPlace, RadixPlace)> {
        let mut place = RadixPlace { at: self.root, link: None };
        let (mut parent, mut rest) = (place, key);
        loop {
            let node = self.view(place.at);
            let below = rest.strip_prefix(node.label())?;
            let Some((&byte, below)) = below.split_first() else { return Some((place, parent)) };
            let child = node.child(byte)?;
            (parent, rest) = (place, below);
            place = RadixPlace { at: child, link: Some((parent.at, byte)) };
        }
    }

    /// Splits a node after `common` bytes of its label; the key ends there or goes on with `below`,
    /// into a leaf.
    fn split(&mut self, place: RadixPlace, below: &[u8], common: usize, value: u64) {
        // The byte at `common` becomes the key of the lower node and leaves both labels.
        let mut lower = Node::read(self.view(place.at));
        let mut upper = Node::new(&lower.label[..common]);
        let key = lower.label[common];
        lower.label.drain(..=common);
        match below.split_first() {
            None => upper.values = Node::leaf(b"", value).values,
            Some((&byte, below)) => upper.add_child(byte, self.add(&Node::leaf(below, value))),
        }
        upper.add_child(key, self.add(&lower));
        self.rewrite(place, &upper);
    }

    fn add_value(&mut self, place: RadixPlace, value: u64) -> bool {
        let node = self.view(place.at);
        let list = match node.stored() {
            Stored::List(list) => list,
            Stored::Set(set) => {
                let fresh = self.sets[set as usize].insert(value);
                self.set_values += usize::from(fresh);
                return fresh;
            }
        };
        let Err(index) = search(list, value) else { return false };
        if list.len() < LIST_MAX && Arena::is_same_block(node.len(), node.len() + 8) {
            insert_value(self.arena.get_mut(place.at), index, value);
            return true;
        }

        let mut values: SmallVec<_> = list.iter().map(|value| u64::from_le_bytes(*value)).collect();
        values.insert(index, value);
        let mut node = Node::read(node);
        node.values = if values.len() <= LIST_MAX {
            Values::List(values)
        } else {
            self.set_values += values.len();
            let set = self.sets.insert(values.into_iter().collect());
            Values::Set(u32::try_from(set).expect("a set has a record, and these have u32 names"))
        };
        self.rewrite(place, &node);
        true
    }

    /// Removes a value from a node's set.
    fn remove_from_set(&mut self, place: RadixPlace, index: u32, value: u64) -> bool {
        let set = &mut self.sets[index as usize];
        if !set.remove(&value) {
            return false;
        }
        self.set_values -= 1;

        // Half of what made it a set, so that a value that comes and goes does not convert it each
        // time.
        if set.len() <= LIST_MAX / 2 {
            self.set_values -= set.len();
            let set = self.sets.remove(index as usize);
            if self.sets.is_empty() {
                self.sets = Slab::new();
            }
            let mut node = Node::read(self.view(place.at));
            node.values = Values::List(set.into_iter().collect());
            self.rewrite(place, &node);
        }
        true
    }

    /// Writes back a node that lost a value or a child, merged with its only child if it has no
    /// value.
    fn settle(&mut self, place: RadixPlace, node: Node) {
        let &[(byte, child)] = node.children.as_slice() else { return self.rewrite(place, &node) };
        if node.has_values() || place.link.is_none() {
            return self.rewrite(place, &node);
        }

        // The child takes this node's place, under both labels and the key between them: part of
        // some key, so within
        // the limit of a label.
        let mut lower = Node::read(self.view(child));
        let mut label = node.label;
        label.push(byte);
        label.extend_from_slice(&lower.label);
        lower.label = label;

        self.free(place.at);
        self.rewrite(RadixPlace { at: child, link: place.link }, &lower);
    }

    /// Writes a node over its old record, and corrects the link to it.
    fn rewrite(&mut self, place: RadixPlace, node: &Node) {
        node.encode(&mut self.record);
        let old_len = self.view(place.at).len();
        let at = self.arena.replace(place.at, old_len, &self.record);
        match place.link {
            None => self.root = at,
            Some((parent, byte)) => set_link(&mut self.arena, parent, byte, at),
        }
    }

    fn add(&mut self, node: &Node) -> u32 {
        node.encode(&mut self.record);
        self.arena.add(&self.record)
    }

    fn free(&mut self, at: u32) {
        let len = self.view(at).len();
        self.arena.free(at, len);
    }

    #[inline]
    fn view(&self, at: u32) -> View<'_> {
        View::new(self.arena.get(at))
    }

    /// Moves every record to a new arena, which copies at most a quarter of what was held.
    fn compact(&mut self) {
        let fresh = self.arena.successor();
        let old = std::mem::replace(&mut self.arena, fresh);
        let arena = &mut self.arena;
        self.root = copy_record(&old, self.root, arena);

        // A moved record still has the links of the old arena until its children have moved too.
        let mut moved = vec![self.root];
        while let Some(parent) = moved.pop() {
            let children: Vec<(u8, u32)> = View::new(arena.get(parent)).children().collect();
            for (byte, child) in children {
                let at = copy_record(&old, child, arena);
                set_link(arena, parent, byte, at);
                moved.push(at);
            }
        }

        self.sets.shrink_to_fit();
        self.record = Vec::new();
    }
}

fn copy_record(from: &Arena, at: u32, to: &mut Arena) -> u32 {
    let record = from.get(at);
    to.add(&record[..View::new(record).len()])
}

fn set_link(arena: &mut Arena, parent: u32, byte: u8, child: u32) {
    let record = arena.get_mut(parent);
    let at = View::new(record).link_of(byte).expect("a link is known by a key that its parent has");
    record[at..at + 4].copy_from_slice(&child.to_le_bytes());
}

fn search(list: &[[u8; 8]], value: u64) -> Result<usize, usize> {
    list.binary_search_by_key(&value, |value| u64::from_le_bytes(*value))
}

fn common_len(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
