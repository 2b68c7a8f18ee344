//! Control messages between nodes, as JSON. [`decode`] is the only way in: what it returns is valid.
//!
//! Fields that are not known are ignored, so that a release may add some; a message of another
//! version is told apart from garbage.

use super::inquiry_message::{InquiryCall, OwnerAnswer};
use super::link::{LinkBatch, LinkId, LinkTail, PresenceNews, PresenceNote};
use super::node::{NodeId, NodeName};
use super::partition_number::PartitionNumber;
use crate::service::DialectId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the messages that this node writes, and the only one that it reads.
pub(super) const CONTROL_VERSION: u32 = 1;

/// Largest message that is read: no message of a node is larger, because lists are cut at
/// [`CONTROL_PART_BYTES`] and one entry of a list is limited by what a client may send. NATS servers
/// with a smaller `max_payload` are refused at the start.
pub(super) const CONTROL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Lists that grow beyond this go on in another message: a message of this size is sent in 2 ms at
/// 1 Gbit/s, so it does not hold up heartbeats.
pub(super) const CONTROL_PART_BYTES: usize = if cfg!(test) { 600 } else { 256 * 1024 };

/// A control message with its sender.
#[derive(Debug)]
pub(super) struct ControlMessage {
    pub(super) from: NodeId,
    pub(super) kind: ControlKind,
}

/// What a control message says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ControlKind {
    /// The node has connected; answered by a heartbeat at once.
    Hello(Heartbeat),
    /// The node lives; sent each second, and when it has taken a partition.
    Heartbeat(Heartbeat),
    /// The node stops.
    Bye,
    /// The node has let go of a partition that it owned in this epoch.
    Release { partition: PartitionNumber, epoch: u64 },
    /// To the owner of a partition, by a link.
    Notes(LinkBatch<PresenceNote>),
    /// From the owner of a partition, by a link.
    News(LinkBatch<PresenceNews>),
    /// The owner misses something of a link.
    Reset(LinkId),
    /// What was sent last by the links between two nodes: notes to the owner, and news from it.
    Tails { notes: Vec<LinkTail>, news: Vec<LinkTail> },
    /// To the owner of a partition.
    Inquire(InquiryCall),
    /// A part of the answer.
    Answer(OwnerAnswer),
    /// Closes the connections of a user; answered by [`ControlKind::Dismissed`].
    Dismiss { id: u64, app: Box<str>, user: Box<str> },
    /// The connections of a user are closed.
    Dismissed { id: u64 },
    /// To the owner of a partition: a subscriber found nothing in a cache channel.
    Missed { dialect: DialectId, app: Box<str>, channel: Box<str> },
}

/// The state of a node, as it tells the others each second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Heartbeat {
    /// Live events that the node has sent.
    pub(super) live: u64,
    /// Versions of live packets that the node reads.
    pub(super) versions: Vec<u8>,
    /// The release of the program.
    pub(super) release: Box<str>,
    /// A hash of the settings that all nodes must have in common.
    pub(super) settings: u64,
    /// Whether the node has presence channels, and may own partitions.
    pub(super) presence: bool,
    /// Whether the node takes no partition, because it is being emptied.
    pub(super) draining: bool,
    /// Whether the node could take a partition, as far as it knows.
    pub(super) able: bool,
    /// The partitions owned, with their epochs.
    pub(super) owned: Vec<(PartitionNumber, u64)>,
    /// Connections by app.
    pub(super) connections: BTreeMap<Box<str>, u64>,
    /// When it was sent, in microseconds of the sender's own clock.
    pub(super) sent_us: u64,
    /// The last heartbeat of each node that lives: they tell their senders how long a message takes.
    pub(super) echoes: Vec<HeartbeatEcho>,
}

/// A heartbeat that has come, as its sender is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeartbeatEcho {
    pub(super) node: NodeName,
    pub(super) incarnation: u64,
    /// What the heartbeat said of when it was sent.
    pub(super) sent_us: u64,
    /// Microseconds from its arrival to this answer.
    pub(super) held_us: u64,
}

/// A message that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlError {
    /// Of another release.
    Version,
    /// Not a control message.
    Garbage,
}

#[derive(Deserialize)]
struct ReadEnvelope {
    v: u32,
    node: NodeName,
    incarnation: u64,
    kind: ControlKind,
}

#[derive(Serialize)]
struct WrittenEnvelope<'a> {
    v: u32,
    node: &'a NodeName,
    incarnation: u64,
    kind: &'a ControlKind,
}

/// All that is read of a message of another version.
#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

/// The bytes of a message.
pub(super) fn encode(from: &NodeId, kind: &ControlKind) -> Vec<u8> {
    let (node, incarnation) = (&from.name, from.incarnation);
    let envelope = WrittenEnvelope { v: CONTROL_VERSION, node, incarnation, kind };
    serde_json::to_vec(&envelope).expect("maps of texts and numbers can be written as JSON")
}

/// The message in `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Result<ControlMessage, ControlError> {
    if bytes.len() > CONTROL_BYTES_MAX {
        return Err(ControlError::Garbage);
    }

    match serde_json::from_slice::<ReadEnvelope>(bytes) {
        Ok(ReadEnvelope { v: CONTROL_VERSION, node, incarnation, kind }) => {
            Ok(ControlMessage { from: NodeId { name: node, incarnation }, kind })
        }
        Ok(_) => Err(ControlError::Version),
        // Another version may have other kinds.
        Err(_) => match serde_json::from_slice::<VersionOnly>(bytes) {
            Ok(VersionOnly { v }) if v != CONTROL_VERSION => Err(ControlError::Version),
            _ => Err(ControlError::Garbage),
        },
    }
}
