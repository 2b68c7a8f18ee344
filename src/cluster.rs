//! Several daemons (*nodes*) that are one service: values without I/O.
//!
//! Nodes meet on NATS. Live events travel as finished publications on one subject per dialect, to
//! every node; they are lost when NATS loses them, and counted. What needs one decider,
//! the presence of a channel, is hashed into 16 partitions. Each has one owner among the nodes and
//! one journal, a stream of JetStream: the owner decides, appends, and announces what it has
//! decided once it is stored. Ownership is taken by a compare-and-set of the journal's epoch, and
//! every append states the sequence that it expects to be the last, so that the appends of an owner
//! that has been replaced are refused, all of them from one point on.
//!
//! A node's part in this is one value: what it hears, what its connections ask and what its journals
//! answer go in, what it says and does comes out. `io/cluster` carries both.

pub mod boundary;
pub mod kept;
pub mod live;
pub mod node;
pub mod servers;
pub mod settings;

pub use self::boundary::{
    ClusterInput, ClusterOutput, Destination, JournalCall, JournalOutcome, WebhookReceipt,
};
pub use self::kept::{KeptPlace, KeptPublications, KeptStamp};
pub use self::live::{LivePacket, PacketDraft, UnreadablePacket};
pub use self::node::{NodeId, NodeName};
pub use self::servers::{NatsLogin, NatsServers};
pub use self::settings::{ClusterSettings, OnIsolation};
