//! One node of a radix trie as one contiguous record, so that visiting a node costs one cache miss.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | header: label length (13 bits), children (9 bits), values (10 bits, all ones: a set) |
//! | label | the bytes that follow the parent's key byte |
//! | 1 × children | key bytes, ascending |
//! | 4 × children | the children's names in the arena, in the order of the keys |
//! | 8 × values | values, ascending; or 4 bytes, the name of the set that holds them |
//!
//! [`View`] reads a record where it lies; [`Node`] is a record taken apart to be changed and
//! encoded anew. All numbers are little-endian. Neither knows where records are kept.

use smallvec::SmallVec;

/// Longest label; 13 bits of the header would hold twice as much.
pub(super) const LABEL_BYTES_MAX: usize = 4096;
/// Values kept in the record itself, where a match finds them with the fewest misses. A change
/// moves half of them, 1 KB of 2 KB on average, which costs about as much as a search in a B-tree.
pub(super) const LIST_MAX: usize = 256;
const SET: usize = (1 << 10) - 1;
const HEADER: usize = 4;
const CHILDREN_SHIFT: usize = 13;
const VALUES_SHIFT: usize = 22;

/// A record where it lies.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    record: &'a [u8],
    label: usize,
    children: usize,
    values: usize,
}

/// The values of a node.
pub(super) enum Stored<'a> {
    /// In the record: ascending, little-endian.
    List(&'a [[u8; 8]]),
    /// In the set of this name.
    Set(u32),
}

impl<'a> View<'a> {
    /// Reads the record that starts `record`; bytes after it are ignored.
    #[inline]
    pub(super) fn new(record: &'a [u8]) -> Self {
        // 256 children need 9 bits.
        let header = u32_at(record, 0) as usize;
        let (children, values) = (header >> CHILDREN_SHIFT & 0x1ff, header >> VALUES_SHIFT);
        Self { record, label: header & 0x1fff, children, values }
    }

    /// Length of the record in bytes.
    pub(super) fn len(&self) -> usize {
        self.values_at() + if self.values == SET { 4 } else { 8 * self.values }
    }

    #[inline]
    pub(super) fn label(&self) -> &'a [u8] {
        &self.record[HEADER..HEADER + self.label]
    }

    #[inline]
    pub(super) fn stored(&self) -> Stored<'a> {
        if self.values == SET {
            return Stored::Set(u32_at(self.record, self.values_at()));
        }
        // Behind a label of any length nothing is aligned, so values are read as bytes.
        Stored::List(self.record[self.values_at()..][..8 * self.values].as_chunks().0)
    }

    /// The child whose key is `byte`.
    #[inline]
    pub(super) fn child(&self, byte: u8) -> Option<u32> {
        self.position(byte).map(|index| u32_at(self.record, self.link_at(index)))
    }

    /// Where in the record the link to the child of key `byte` lies.
    pub(super) fn link_of(&self, byte: u8) -> Option<usize> {
        self.position(byte).map(|index| self.link_at(index))
    }

    /// Every child with its key.
    pub(super) fn children(&self) -> impl Iterator<Item = (u8, u32)> + 'a {
        let links = self.record[self.link_at(0)..self.values_at()].as_chunks().0;
        self.keys().iter().copied().zip(links.iter().map(|link| u32::from_le_bytes(*link)))
    }

    #[inline]
    fn keys(&self) -> &'a [u8] {
        &self.record[HEADER + self.label..][..self.children]
    }

    /// The index of a key.
    #[inline]
    fn position(&self, byte: u8) -> Option<usize> {
        let keys = self.keys();
        // Keys are often consecutive (digits), so the distance from the first is tried before a
        // search.
        let guess = byte.wrapping_sub(*keys.first()?) as usize;
        if keys.get(guess) == Some(&byte) {
            return Some(guess);
        }
        keys.binary_search(&byte).ok()
    }

    #[inline]
    fn link_at(&self, index: usize) -> usize {
        HEADER + self.label + self.children + 4 * index
    }

    #[inline]
    fn values_at(&self) -> usize {
        self.link_at(self.children)
    }
}

/// A record taken apart.
pub(super) struct Node {
    pub(super) label: SmallVec<[u8; 64]>,
    pub(super) children: SmallVec<[(u8, u32); 12]>,
    pub(super) values: Values,
}

/// The values of a [`Node`].
pub(super) enum Values {
    List(SmallVec<[u64; 12]>),
    Set(u32),
}

impl Node {
    pub(super) fn new(label: &[u8]) -> Self {
        let values = Values::List(SmallVec::new());
        Self { label: SmallVec::from_slice(label), children: SmallVec::new(), values }
    }

    pub(super) fn leaf(label: &[u8], value: u64) -> Self {
        let values = Values::List(SmallVec::from_slice(&[value]));
        Self { values, ..Self::new(label) }
    }

    pub(super) fn read(view: View<'_>) -> Self {
        let values = match view.stored() {
            Stored::List(list) => {
                Values::List(list.iter().map(|value| u64::from_le_bytes(*value)).collect())
            }
            Stored::Set(set) => Values::Set(set),
        };
        Self {
            label: SmallVec::from_slice(view.label()),
            children: view.children().collect(),
            values,
        }
    }

    pub(super) fn has_values(&self) -> bool {
        !matches!(&self.values, Values::List(list) if list.is_empty())
    }

    pub(super) fn add_child(&mut self, byte: u8, child: u32) {
        let index = self.children.partition_point(|(key, _)| *key < byte);
        self.children.insert(index, (byte, child));
    }

    pub(super) fn remove_child(&mut self, byte: u8) {
        self.children.retain(|(key, _)| *key != byte);
    }

    pub(super) fn remove_value(&mut self, value: u64) {
        if let Values::List(list) = &mut self.values {
            list.retain(|other| *other != value);
        }
    }

    /// Writes the record in place of what `out` held.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let values = match &self.values {
            Values::List(list) => list.len(),
            Values::Set(_) => SET,
        };

        // More would spill into the next field of the header; the trie refuses longer prefixes.
        debug_assert!(self.label.len() <= LABEL_BYTES_MAX && self.children.len() <= 256);
        debug_assert!(values <= LIST_MAX || values == SET);
        let header =
            self.label.len() | self.children.len() << CHILDREN_SHIFT | values << VALUES_SHIFT;

        // The order of the fields is the table's above; `View` finds each by the lengths before it.
        out.clear();
        out.extend_from_slice(&(header as u32).to_le_bytes());
        out.extend_from_slice(&self.label);
        out.extend(self.children.iter().map(|(key, _)| *key));
        for (_, child) in &self.children {
            out.extend_from_slice(&child.to_le_bytes());
        }

        match &self.values {
            Values::List(list) => {
                list.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()))
            }
            Values::Set(set) => out.extend_from_slice(&set.to_le_bytes()),
        }
    }
}

/// Inserts a value into the list of a record whose block has room for 8 bytes more.
pub(super) fn insert_value(record: &mut [u8], index: usize, value: u64) {
    let view = View::new(record);
    let (at, end) = (view.values_at() + 8 * index, view.len());
    record.copy_within(at..end, at + 8);
    record[at..at + 8].copy_from_slice(&value.to_le_bytes());
    // The count of values is the topmost field, so it carries into no other.
    let header = u32_at(record, 0) + (1 << VALUES_SHIFT);
    record[..HEADER].copy_from_slice(&header.to_le_bytes());
}

/// Removes a value from the list of a record.
pub(super) fn remove_value(record: &mut [u8], index: usize) {
    let view = View::new(record);
    let (at, end) = (view.values_at() + 8 * index, view.len());
    record.copy_within(at + 8..end, at);
    let header = u32_at(record, 0) - (1 << VALUES_SHIFT);
    record[..HEADER].copy_from_slice(&header.to_le_bytes());
}

#[inline]
fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*record[at..].first_chunk().expect("a record is as long as its header says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_written_at_every_limit() {
        for (label, children, values) in
            [(0, 0, 0), (3, 1, 1), (0, 10, 2), (LABEL_BYTES_MAX, 256, LIST_MAX)]
        {
            let mut node = Node::new(&vec![7; label]);
            for key in (0..children).rev() {
                node.add_child(key as u8, key * 1000);
            }
            node.values = Values::List((0..values as u64).map(|value| value << 32).collect());
            let mut record = Vec::new();
            node.encode(&mut record);
            let len = record.len();
            record.extend_from_slice(b"what follows in the chunk");

            let view = View::new(&record);
            assert_eq!((view.len(), view.label().len()), (len, label));
            for key in 0..=255 {
                assert_eq!(
                    view.child(key),
                    (u32::from(key) < children).then(|| u32::from(key) * 1000)
                );
            }
            let Values::List(list) = Node::read(view).values else { panic!("a list was written") };
            assert_eq!(list.len(), values);
            assert!(list.iter().enumerate().all(|(index, value)| *value == (index as u64) << 32));
        }
    }

    #[test]
    fn a_set_is_one_name_in_the_record() {
        let mut node = Node::new(b"label");
        node.values = Values::Set(77);
        let mut record = Vec::new();
        node.encode(&mut record);
        assert!(matches!(View::new(&record).stored(), Stored::Set(77)));
        assert_eq!(View::new(&record).len(), record.len());
    }
}
