//! Which connection asks.

use serde::{Deserialize, Serialize};

/// A connection of the daemon, by where it is. A number is used again when a connection has gone; the serial tells
/// the two apart, so an answer that comes late reaches no other connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionRef {
    /// The number of its shard.
    pub shard: u16,
    /// Its number there.
    pub id: u32,
    /// Tells it from those that had the same number before.
    pub serial: u32,
}

/// A dialect by its place in the list of dialects, which services do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DialectId(pub u8);
