//! Flow control: how messages come to a consumer.

use serde::{Deserialize, Serialize};

/// Bytes in flight to one connection before its receipt is awaited: enough to keep a connection busy while a receipt
/// comes, and little beside what a shard's outbox holds.
pub(super) const UNRECEIVED_BYTES_MAX: usize = 256 * 1024;
/// Messages that a pulling consumer may have asked for and not got; Pulsar has no bound, and no client has more use.
pub(super) const PERMITS_MAX: u32 = 1_000_000;

/// How messages come to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flow {
    /// As long as no more than so many are unacknowledged; at least 1.
    Push(u32),
    /// As many as it has asked for.
    Pull,
}
