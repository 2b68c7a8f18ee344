//! Storage for the records of a radix trie: byte blocks of odd sizes in large chunks, named by
//! `u32`.
//!
//! A block is taken from the free list of its size class, else from the end of the last chunk.
//! Chunks are never moved or doubled, so that a trie of a million subscriptions grows by 1 MB at a
//! time and no insert stalls on copying what is there. A freed block holds the name of the next
//! free one of its class.
//!
//! The arena does not know what a record means; it knows neither a block's length nor who points to
//! it, so the caller says the length when it frees a block and corrects its links when a block
//! moves.

/// Blocks are whole multiples of this many bytes, and a block's name counts them.
const GRANULE: usize = 8;
/// Bytes of a chunk. Much above the longest record, so that the unused end of a chunk is a small
/// loss; much below a large trie, so that the last chunk's spare is one too.
pub(super) const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_GRANULES: usize = CHUNK_BYTES / GRANULE;
/// Chunks of an arena: what a `u32` of granules can name, 32 GiB, less one chunk for [`NONE`].
pub(super) const CHUNKS_MAX: usize = (1 << 32) / CHUNK_GRANULES - 1;
/// Size classes: exact up to 16 granules, then 8 to each doubling; enough for blocks up to 16 KB.
const CLASSES: usize = 80;
/// Names no block.
const NONE: u32 = u32::MAX;
/// A trie below this size is not compacted: there is too little to win.
const COMPACT_BYTES_MIN: usize = 16 << 10;

pub(super) struct Arena {
    chunks: Vec<Vec<u8>>,
    chunks_max: usize,
    /// First free block of each class.
    free: [u32; CLASSES],
    /// Bytes in the free lists and in the unused ends of full chunks.
    free_bytes: usize,
}

impl Arena {
    pub(super) fn new(chunks_max: usize) -> Self {
        Self { chunks: Vec::new(), chunks_max, free: [NONE; CLASSES], free_bytes: 0 }
    }

    /// Whether one more chunk may be opened: enough for any one insertion.
    pub(super) fn has_room(&self) -> bool {
        self.chunks.len() < self.chunks_max
    }

    /// An empty arena of the same limit, to compact into.
    pub(super) fn successor(&self) -> Self {
        Self::new(self.chunks_max)
    }

    /// Whether more than three quarters of what is held is free, so that moving the rest pays.
    pub(super) fn is_wasteful(&self) -> bool {
        let used = self.used_bytes();
        used > COMPACT_BYTES_MIN && self.free_bytes > used / 4 * 3
    }

    /// Heap bytes held.
    pub(super) fn bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Vec::capacity).sum();
        chunks + self.chunks.capacity() * size_of::<Vec<u8>>()
    }

    /// The block `at`, and whatever follows it in its chunk.
    #[inline]
    pub(super) fn get(&self, at: u32) -> &[u8] {
        let (chunk, start) = place(at);
        &self.chunks[chunk][start..]
    }

    /// The block `at`, writable, and whatever follows it in its chunk.
    pub(super) fn get_mut(&mut self, at: u32) -> &mut [u8] {
        let (chunk, start) = place(at);
        &mut self.chunks[chunk][start..]
    }

    /// Whether a record may change its length from the one to the other without leaving its block.
    pub(super) fn is_same_block(old_len: usize, new_len: usize) -> bool {
        class(old_len) == class(new_len)
    }

    /// Stores a record and returns its name.
    pub(super) fn add(&mut self, record: &[u8]) -> u32 {
        let (class, size) = class(record.len());
        let head = self.free[class];
        let at = if head == NONE {
            self.extend(size)
        } else {
            // A free block begins with the name of the next one of its class.
            let next =
                *self.get(head).first_chunk::<4>().expect("a block is at least a granule long");
            self.free[class] = u32::from_le_bytes(next);
            self.free_bytes -= size;
            head
        };
        self.get_mut(at)[..record.len()].copy_from_slice(record);
        at
    }

    /// Replaces a record of `old_len` bytes. Returns its name, which changes if its size class
    /// does.
    pub(super) fn replace(&mut self, at: u32, old_len: usize, record: &[u8]) -> u32 {
        if Self::is_same_block(old_len, record.len()) {
            self.get_mut(at)[..record.len()].copy_from_slice(record);
            return at;
        }
        self.free(at, old_len);
        self.add(record)
    }

    /// Frees the block of a record of `len` bytes.
    pub(super) fn free(&mut self, at: u32, len: usize) {
        let (class, size) = class(len);
        let next = self.free[class];
        self.get_mut(at)[..4].copy_from_slice(&next.to_le_bytes());
        self.free[class] = at;
        self.free_bytes += size;
    }

    fn used_bytes(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * CHUNK_BYTES + last
    }

    /// Takes `size` bytes from the end of the last chunk, or of a new one.
    fn extend(&mut self, size: usize) -> u32 {
        // No chunk at all counts as a full one.
        let last_len = self.chunks.last().map_or(CHUNK_BYTES, Vec::len);
        if last_len + size > CHUNK_BYTES {
            // The end of the old chunk is lost until a compaction, so it counts as waste.
            self.free_bytes += CHUNK_BYTES - last_len;
            self.chunks.push(Vec::new());
        }

        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let start = chunk.len();
        if chunk.capacity() - start < size {
            // The first chunk starts small and doubles; the others will be filled, so they start
            // whole.
            let more = if index == 0 { start.max(size) } else { CHUNK_BYTES };
            chunk.reserve_exact(more.min(CHUNK_BYTES - start));
        }

        chunk.resize(start + size, 0);
        u32::try_from(index * CHUNK_GRANULES + start / GRANULE)
            .expect("has_room() was asked before")
    }
}

fn place(at: u32) -> (usize, usize) {
    let at = at as usize;
    (at / CHUNK_GRANULES, at % CHUNK_GRANULES * GRANULE)
}

/// The size class of a record and the bytes of its block.
fn class(len: usize) -> (usize, usize) {
    // Up to 16 granules the shift is 0 and each count is a class of its own. Above, a block is
    // rounded up to one of 8
    // sizes per doubling, which wastes less than an eighth of it.
    let granules = len.div_ceil(GRANULE).max(1);
    let shift = (granules - 1).checked_ilog2().unwrap_or(0).saturating_sub(3) as usize;
    let steps = granules.div_ceil(1 << shift);
    (8 * shift + steps, (steps << shift) * GRANULE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_any_record_of_its_class_with_little_to_spare() {
        for len in 1..16 << 10 {
            let (index, size) = class(len);
            assert!(index < CLASSES && size >= len && size % GRANULE == 0, "{len}");
            assert!(size - len < GRANULE || (size - len) * 8 < len, "{len} in {size}");
            let (next, next_size) = class(len + 1);
            assert!(
                (next, next_size) == (index, size) || (next > index && next_size > size),
                "{len}"
            );
        }
    }

    #[test]
    fn a_freed_block_is_used_again() {
        let mut arena = Arena::new(4);
        let first = arena.add(b"twelve bytes");
        let second = arena.add(b"thirteen byte");
        arena.free(first, 12);
        assert_eq!(arena.add(b"sixteen bytes ok"), first);
        assert_eq!(&arena.get(first)[..16], b"sixteen bytes ok");
        assert_eq!(arena.replace(second, 13, b"short"), second + 2);
        assert_eq!(&arena.get(second + 2)[..5], b"short");
    }

    #[test]
    fn chunks_are_opened_one_at_a_time_up_to_the_limit() {
        let mut arena = Arena::new(2);
        let record = [7; 8000];
        while arena.has_room() {
            let at = arena.add(&record);
            assert_eq!(&arena.get(at)[..8000], &record);
        }
        assert_eq!(arena.chunks.len(), 2);
        assert!(arena.bytes() <= 2 * CHUNK_BYTES + 8 * size_of::<Vec<u8>>());
    }
}
