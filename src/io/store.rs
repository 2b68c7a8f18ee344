//! The store: the thread that owns the durable topics and writes their changes; or several, each
//! with a part of the topics and a log of its own.
//!
//! Shards and feeds post requests to an inbox (`handle`); shards get answers through their
//! mailboxes, feeds and the admin listener through channels (`callers`). The thread's rounds are in
//! `owner`, its archive in `archive`.

mod archive;
mod backup;
mod callers;
mod catalog;
mod check;
mod format;
mod handle;
mod health;
mod keeper;
mod late;
mod log;
mod owner;
mod place;
mod reading;
mod reclaim;
mod reclaiming;
mod record;
mod recovery;
mod restore;
mod segment;
mod settings;
mod survey;
#[cfg(test)]
mod tests;

pub use self::archive::Disk;
pub use self::backup::{Backup, keep};
pub use self::check::{StoreReport, check};
pub use self::format::OpenError;
pub(super) use self::handle::{Store, Unanswered};
pub(super) use self::late::start_late;
pub use self::log::Unsynced;
pub(super) use self::owner::{PassedTopics, start};
#[doc(hidden)]
pub use self::record::{bodies, rewritten, segment_of};
pub use self::restore::{RestoreError, Restored, restore};
pub use self::segment::DESCRIPTORS_MAX;
pub use self::settings::{Durability, StoreSettings};
