//! What one process leaves to the next, so that an upgrade ends no connection: frozen connections
//! and what services know of them, as data that is written down and read again.
//!
//! A state is a sequence of records behind a header: [`begin`] writes the header, [`write()`] each
//! record, and [`end`] the last, which says that nothing is missing; [`open`] and [`read`] are the
//! way back. A record is JSON, which takes fields that came later or are missing, and raw bytes
//! beside it, such as what a client has not been sent yet.
//!
//! Versions: a process writes [`FORMAT`] and reads [`OLDEST`] to [`FORMAT`]. A field that is added
//! has a default and changes no number; what a process of before could not go without does.
//!
//! This module does not know descriptors: a frozen connection has the number of its descriptor
//! among those that are passed beside the state. Everything that is read is taken for a stranger's:
//! lengths are checked, and what makes no sense is refused.

mod codec;
mod record;

pub use self::codec::{BadState, begin, end, open, read, write};
pub use self::record::{
    FrozenConnection, FrozenDialect, FrozenPhase, FrozenSession, HandoverHeader, HandoverRecord,
    NotAdopted, RecordPlace,
};

/// The version of the state that is written.
pub const FORMAT: u32 = 1;

/// The oldest version of the state that is read.
pub const OLDEST: u32 = 1;

/// Most bytes of a whole state, which lie in memory beside the connections' own until the new
/// process has read them: a hundred thousand idle connections take some 40 MB, and what waits for
/// slow clients may come to an outbox for each. Beyond it nothing is handed over.
pub const STATE_BYTES_MAX: usize = 1024 * 1024 * 1024;
