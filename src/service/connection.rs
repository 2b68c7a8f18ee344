//! References to connections and dialects, as services see them.

use serde::{Deserialize, Serialize};

/// A connection of the daemon, by location. Numbers are reused once a connection is gone; the
/// serial distinguishes its successors, so a late answer never reaches another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionRef {
    /// The number of its shard.
    pub shard: u16,
    /// Its number within the shard.
    pub id: u32,
    /// Distinguishes it from earlier connections with the same number.
    pub serial: u32,
}

/// A dialect, by its index in the list of dialects. Services do not know the dialects themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DialectId(pub u8);
