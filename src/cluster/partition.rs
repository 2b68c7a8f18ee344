//! What a node does about one partition: leave it to its owner, take it, own it, hand it over.

use super::owner::PartitionOwner;
use super::partition_number::PartitionNumber;
use super::peers::PeerNumber;
use super::status::PartitionState;

/// One partition, as a node sees it.
#[derive(Debug)]
pub(super) struct ClusterPartition {
    pub(super) number: PartitionNumber,
    /// The node that owns it, as far as this one knows, with the epoch.
    pub(super) known: Option<(PeerNumber, u64)>,
    /// The node that says it has taken it from this one.
    pub(super) rival: Option<(PeerNumber, u64)>,
    pub(super) stage: PartitionStage,
    /// The node that has taken it from this one, if it is known, and until when this one leaves it
    /// alone.
    pub(super) barred: Option<(Option<PeerNumber>, u64)>,
    /// Before this moment it is not tried again.
    pub(super) retry_ns: u64,
}

/// What a node does about a partition.
#[derive(Debug)]
pub(super) enum PartitionStage {
    /// Nothing.
    Elsewhere,
    /// It looks for the epoch record, to replace it. `after` is the record that a take of unknown
    /// outcome was to replace: a later one of this node is that take's.
    Looking { call: u64, since_ns: u64, after: Option<u64> },
    /// It replaces the epoch record with the sequence `after`.
    Taking { call: u64, since_ns: u64, after: u64 },
    /// It has the epoch, and reads the journal.
    Loading { call: u64, since_ns: u64, epoch: u64 },
    /// It is the owner.
    Owned(Box<PartitionOwner>),
    /// It has what it decided stored until this moment, and hands the partition over.
    Releasing(Box<PartitionOwner>, u64),
}

impl ClusterPartition {
    pub(super) fn new(number: PartitionNumber) -> Self {
        let stage = PartitionStage::Elsewhere;
        Self { number, known: None, rival: None, stage, barred: None, retry_ns: 0 }
    }

    /// The owner, if it is this node and goes on.
    pub(super) fn owned(&mut self) -> Option<&mut PartitionOwner> {
        match &mut self.stage {
            PartitionStage::Owned(owner) => Some(owner),
            _ => None,
        }
    }

    /// The owner, if it is this node, handing over or not.
    pub(super) fn owner(&mut self) -> Option<&mut PartitionOwner> {
        match &mut self.stage {
            PartitionStage::Owned(owner) | PartitionStage::Releasing(owner, _) => Some(owner),
            _ => None,
        }
    }

    /// The epoch in which this node owns it.
    pub(super) fn own_epoch(&self) -> Option<u64> {
        match &self.stage {
            PartitionStage::Owned(owner) | PartitionStage::Releasing(owner, _) => {
                Some(owner.epoch())
            }
            _ => None,
        }
    }

    pub(super) fn state(&self) -> PartitionState {
        match self.stage {
            PartitionStage::Elsewhere if self.known.is_some() => PartitionState::Elsewhere,
            PartitionStage::Elsewhere => PartitionState::Orphaned,
            PartitionStage::Looking { .. }
            | PartitionStage::Taking { .. }
            | PartitionStage::Loading { .. } => PartitionState::Taking,
            PartitionStage::Owned(_) => PartitionState::Owned,
            PartitionStage::Releasing(..) => PartitionState::Releasing,
        }
    }
}
