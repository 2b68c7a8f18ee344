//! The partition, and the consumer, that a key selects: the hash functions of Pulsar's clients.

use super::Hashing;

/// The partition of a key.
pub(super) fn partition(key: &str, hashing: Hashing, partitions: u32) -> u32 {
    let hash = match hashing {
        Hashing::Java => java(key),
        Hashing::Murmur3 => murmur3(key.as_bytes()),
    };
    (hash & i32::MAX.cast_unsigned()) % partitions.max(1)
}

/// The consumer, out of `count`, that a key is assigned to. All get equal shares, and when the last
/// one comes or goes, no key moves between the others. This is "A Fast, Minimal Memory, Consistent
/// Hash Algorithm" by Lamping and Veach; Pulsar's brokers use a ring, which divides less evenly.
pub(super) fn bucket(key: u32, count: usize) -> Option<usize> {
    let (mut state, mut at, mut next) = (u64::from(key), None, 0);
    while next < count {
        at = Some(next);
        state = state.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((next + 1) as f64 * ((1u64 << 31) as f64 / ((state >> 33) + 1) as f64)) as usize;
    }
    at
}

/// Java's `String.hashCode`, over UTF-16.
fn java(text: &str) -> u32 {
    text.encode_utf16().fold(0, |hash: u32, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

/// MurmurHash3, 32 bit, seed 0.
pub(super) fn murmur3(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut hash = words.iter().fold(0u32, |hash, word| {
        let mixed = (hash ^ scramble(u32::from_le_bytes(*word))).rotate_left(13);
        mixed.wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    hash ^= scramble(u32::from_le_bytes(last));
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// The mixing step of MurmurHash3.
fn scramble(word: u32) -> u32 {
    word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_those_of_java_and_of_murmur() {
        assert_eq!(java(""), 0);
        assert_eq!(java("hello"), 99_162_322);
        assert_eq!(java("polygenelubricants"), i32::MIN.cast_unsigned());
        assert_eq!(java("é😀"), (0xe9u32 * 31 + 0xd83d) * 31 + 0xde00);
        for (text, hash) in [("", 0), ("hello", 0x248b_fa47), ("hello, world", 0x149b_bb7f)] {
            assert_eq!(murmur3(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn consumers_have_as_many_keys_each_and_one_more_takes_its_share_of_each_and_moves_no_others() {
        assert_eq!(bucket(7, 0), None);
        let keys: Vec<u32> = (0..8000u32).map(|key| murmur3(&key.to_le_bytes())).collect();
        for count in 1..9 {
            let mut each = vec![0usize; count + 1];
            for key in &keys {
                let (before, now) =
                    (bucket(*key, count).unwrap(), bucket(*key, count + 1).unwrap());
                assert!(now == before || now == count, "{key} moves from {before} to {now}");
                each[now] += 1;
            }
            let fair = keys.len() / (count + 1);
            assert!(each.iter().all(|has| has.abs_diff(fair) < fair / 5), "{each:?}");
        }
    }

    #[test]
    fn a_key_chooses_a_partition_that_is_there() {
        for hashing in [Hashing::Java, Hashing::Murmur3] {
            for key in ["", "polygenelubricants", "a", "key-7"] {
                assert!(partition(key, hashing, 3) < 3);
            }
        }
        assert_eq!(partition("hello", Hashing::Java, 4), 99_162_322 % 4);
        assert_eq!(partition("x", Hashing::Java, 0), 0);
    }
}
