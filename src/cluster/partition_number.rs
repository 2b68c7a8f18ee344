//! The partitions of presence, and the channels in each.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::node::NodeName;

/// The number of partitions, fixed for the life of a cluster: each is a stream of JetStream, a Raft
/// group of its own, of which some thousands are advised at most, and ten nodes still share 16
/// evenly enough.
pub(super) const PARTITIONS: u8 = 16;

/// A partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8")]
pub(super) struct PartitionNumber(u8);

impl PartitionNumber {
    /// All partitions.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }

    /// The partition of a channel, the same on every machine and in every release.
    pub(super) fn of(app: &str, channel: &str) -> Self {
        let mut hash = Xxh3::new();
        hash.update(app.as_bytes());
        // The NUL keeps ("a", "bc") and ("ab", "c") apart.
        hash.update(&[0]);
        hash.update(channel.as_bytes());
        Self((hash.digest() % u64::from(PARTITIONS)) as u8)
    }

    /// The rank of a node as its owner: the node with the highest is the first that may own it
    /// (rendezvous hashing), so a node that comes or goes moves only its own share.
    pub(super) fn rank(self, node: &NodeName) -> u64 {
        let mut bytes = vec![self.0, 0];
        bytes.extend_from_slice(node.as_str().as_bytes());
        xxh3_64(&bytes)
    }

    /// Its number.
    pub(super) fn get(self) -> u8 {
        self.0
    }

    /// Its place in a list of all partitions.
    pub(super) fn index(self) -> usize {
        self.0.into()
    }
}

impl TryFrom<u8> for PartitionNumber {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        if number < PARTITIONS { Ok(Self(number)) } else { Err("not a partition") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_have_the_partitions_that_they_have_had_in_every_release() {
        let of = |app, channel| PartitionNumber::of(app, channel).get();
        let channels = [of("1", "room"), of("1", "presence-a"), of("a", "bc"), of("ab", "c")];
        assert_eq!(channels, [12, 14, 15, 13]);
    }

    #[test]
    fn channels_and_partitions_are_spread_evenly() {
        let mut channels = [0; PARTITIONS as usize];
        for number in 0..16_000 {
            channels[PartitionNumber::of("1", &format!("presence-{number}")).index()] += 1;
        }
        assert!(channels.iter().all(|count| (850..1150).contains(count)), "{channels:?}");

        let nodes = ["a", "b", "c"].map(|name| NodeName::new(name).unwrap());
        let mut owned = [0; 3];
        for partition in PartitionNumber::all() {
            let first = (0..3).max_by_key(|at| partition.rank(&nodes[*at])).unwrap();
            owned[first] += 1;
        }
        assert!(owned.iter().all(|count| (2..=9).contains(count)), "{owned:?}");
    }
}
