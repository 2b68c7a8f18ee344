//! A node as the owner of a partition knows it.

use super::peers::PeerNumber;

/// A node as the owner of a partition knows it: its number, and the generation of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkedNode {
    pub(super) number: PeerNumber,
    pub(super) generation: u32,
}
