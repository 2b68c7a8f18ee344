//! What goes into a node's part of the cluster and what comes out of it: plain data, for `io/cluster`
//! and for the simulation.

use super::node::NodeName;
pub use crate::service::webhook::WebhookReceipt;

use crate::service::presence::PresenceQuestion;
use crate::service::{ConnectionRef, Effect};

/// An input of a node.
#[derive(Debug)]
pub enum ClusterInput<'a> {
    /// The engine is connected, and the node's subscriptions are made.
    Connected,
    /// The connection to the engine is lost.
    Lost,
    /// A control message of another node, on the subject of all or on the node's own.
    Heard(&'a [u8]),
    /// A connection of this node asks about presence.
    Asked(ConnectionRef, Box<PresenceQuestion>),
    /// The outcome of a [`JournalCall`].
    Journal(JournalOutcome),
    /// Webhooks that came with these receipts are told, cancelled or given up.
    Settled(Vec<WebhookReceipt>),
    /// The node is about to stop, or to be emptied: hand everything over and take nothing.
    Drain,
    /// The node stops now, some time after it was drained: the others need not wait to know.
    Stop,
}

/// An output of a node, in order.
#[derive(Debug)]
pub enum ClusterOutput {
    /// For this node's connections and subscribers, or for its webhooks. Publications stay here.
    Effect(Effect),
    /// A control message for other nodes.
    Send(Destination, Vec<u8>),
    /// An operation on a partition's journal; its outcome comes back, except of a purge.
    Journal(JournalCall),
    /// The partition has another owner: its webhooks must not be told from here.
    ForgetWebhooks(u8),
    /// So many webhooks of a partition found no room in its journal, and are not told.
    WebhooksLost(u8, u64),
    /// A line for the log: whether it is a recovery, and the text.
    News(bool, String),
}

/// The receivers of a control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// All nodes but this one.
    All,
    /// One node.
    Node(NodeName),
}

/// An operation on the journal of a partition. The operations of one partition are carried out in
/// order. `call` names one in its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalCall {
    /// Replaces the epoch record if the last one has the sequence `after` (0: there is none).
    Take {
        /// The partition.
        partition: u8,
        /// The number of the call.
        call: u64,
        /// The new record.
        record: Vec<u8>,
        /// The sequence of the record before.
        after: u64,
    },
    /// Reads the epoch record, all entries up to the end of the journal, and the end.
    Load {
        /// The partition.
        partition: u8,
        /// The number of the call.
        call: u64,
    },
    /// Appends an entry if the last message of the whole stream has the sequence `after`.
    ///
    /// That alone does not fence an owner with several appends in flight: where it expects 5, 6 and
    /// 7, another's epoch with the sequence 6 has the first refused, and the second accepted. So an
    /// entry names its epoch and its round: a reader skips entries of an epoch that was replaced
    /// before them, and the owner lets nothing out for a round before all earlier ones are stored.
    Append {
        /// The partition.
        partition: u8,
        /// The number of the call.
        call: u64,
        /// The entry.
        entry: Vec<u8>,
        /// The expected sequence.
        after: u64,
    },
    /// Reads the last sequence of the stream from its leader, then the epoch record, then the
    /// entries above a sequence. In this order: an owner that finds its own epoch may append after
    /// that last sequence, and is refused if another has taken the partition meanwhile.
    Look {
        /// The partition.
        partition: u8,
        /// The number of the call.
        call: u64,
        /// The sequence above which entries are read.
        after: u64,
    },
    /// Removes the entries below a sequence, which a snapshot has replaced. Not answered.
    Purge {
        /// The partition.
        partition: u8,
        /// The sequence of the first entry to be kept.
        below: u64,
    },
}

/// The outcome of a [`JournalCall`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalOutcome {
    /// A take or append is stored with this sequence.
    Stored {
        /// The partition.
        partition: u8,
        /// The number of the call.
        call: u64,
        /// The sequence.
        sequence: u64,
    },
    /// A take or append was refused, because another message was the last.
    Refused {
        /// The partition.
        partition: u8,
        /// The number of the call.
        call: u64,
    },
    /// No answer in time, or an error that may pass: a take or append may be stored or not.
    Failed {
        /// The partition.
        partition: u8,
        /// The number of the call.
        call: u64,
    },
    /// The answer to a load or look.
    Read {
        /// The partition.
        partition: u8,
        /// The number of the call.
        call: u64,
        /// The epoch record and its sequence.
        epoch: Option<(Vec<u8>, u64)>,
        /// The entries with their sequences, ascending.
        entries: Vec<(u64, Vec<u8>)>,
        /// The last sequence of the stream; 0 if it is empty.
        last: u64,
    },
}
