//! The database under the archive: how it is opened, what it is made of, and keys.
//!
//! `messages` and `delayed` hold records by topic and place, `meta` everything that has a name. Memory is what this
//! is tuned for: small memtables, blocks that are read when they are wanted, no filters, because nobody asks for a
//! message that there is not.

use super::settings::Settings;
use crate::topic::{Fault, Position};
use fjall::config::{BlockSizePolicy, FilterPolicy, PartitioningPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Snapshot};
use std::path::Path;

/// Bytes of a memtable before it is written to a table.
const MEMTABLE_BYTES: u64 = 4 * 1024 * 1024;
/// The same for what has a name: it is small and written again and again.
const META_MEMTABLE_BYTES: u64 = 2 * 1024 * 1024;
/// Bytes of a block; a read of many messages takes one after the other.
const BLOCK_BYTES: u32 = 16 * 1024;
/// Bytes of journals that are kept before memtables are written to let the oldest go; the least that fjall takes.
const JOURNALS_BYTES: u64 = 64 * 1024 * 1024;
/// Tables that are open at once.
const FILES: usize = 128;

/// The database and its parts.
#[derive(Clone)]
pub(super) struct Base {
    pub(super) db: Database,
    pub(super) messages: Keyspace,
    pub(super) delayed: Keyspace,
    pub(super) meta: Keyspace,
}

impl Base {
    /// Opens what is there, or makes it.
    pub(super) fn open(path: &Path, settings: &Settings) -> fjall::Result<Self> {
        let db = Database::builder(path)
            .cache_size(settings.cache_bytes)
            .max_cached_files(Some(FILES))
            .max_journaling_size(JOURNALS_BYTES)
            .manual_journal_persist(true)
            // One writes memtables, while the other merges tables.
            .worker_threads(2)
            .open()?;
        // In this order, so that each has the same number everywhere.
        let messages = db.keyspace("messages", || options(MEMTABLE_BYTES))?;
        let delayed = db.keyspace("delayed", || options(MEMTABLE_BYTES))?;
        let meta = db.keyspace("meta", || options(META_MEMTABLE_BYTES))?;
        Ok(Self { db, messages, delayed, meta })
    }

    /// What there is now.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }

    /// Whether nothing can be written any more until the database is opened anew.
    pub(super) fn is_poisoned(&self) -> bool {
        matches!(self.db.persist(fjall::PersistMode::Buffer), Err(fjall::Error::Poisoned))
    }
}

fn options(memtable_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(memtable_bytes)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .filter_policy(FilterPolicy::disabled())
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::disabled())
        .filter_block_pinning_policy(PinningPolicy::disabled())
}

/// What a failure of the database is called to people.
pub(super) fn describe(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.to_string(),
        fjall::Error::Poisoned => "an earlier write has failed".into(),
        fjall::Error::Locked => "another process has it open".into(),
        fjall::Error::Storage(error) => format!("{error:?}"),
        error => format!("{error:?}"),
    }
}

/// The same as a fault of the archive.
pub(super) fn fault(error: &fjall::Error) -> Fault {
    Fault(format!("the store has failed: {}", describe(error)).into())
}

/// The key of a message.
pub(super) fn message_key(topic: u32, position: Position) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..].copy_from_slice(&position.number().to_be_bytes());
    key
}

/// The key of a message among those that wait for their time.
pub(super) fn delayed_key(topic: u32, (deliver_ms, position): (u64, Position)) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..12].copy_from_slice(&deliver_ms.to_be_bytes());
    key[12..].copy_from_slice(&position.number().to_be_bytes());
    key
}

/// The last number in a key, which is the position.
pub(super) fn position_of(key: &[u8]) -> Option<Position> {
    let bytes = key.get(key.len().checked_sub(8)?..)?;
    Some(Position::of_number(u64::from_be_bytes(bytes.try_into().ok()?)))
}

/// The time in the key of a message that waits.
pub(super) fn time_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(4..12)?.try_into().ok()?))
}

/// What has a name: the letter says what it is, then comes the topic's number if it belongs to one, then the name.
pub(super) mod meta {
    /// A topic's number, by its name.
    pub(in crate::io::store) const NAME: u8 = b'n';
    /// A topic's name, by its number: the names can be made anew from it.
    pub(in crate::io::store) const REVERSE: u8 = b'r';
    /// A topic's state.
    pub(in crate::io::store) const TOPIC: u8 = b't';
    /// A subscription's.
    pub(in crate::io::store) const SUBSCRIPTION: u8 = b's';
    /// The last sequence number of a producer.
    pub(in crate::io::store) const SEQUENCE: u8 = b'q';
    /// How often the store was opened.
    pub(in crate::io::store) const LEDGER: &[u8] = b"c:ledger";
    /// The number of the next topic.
    pub(in crate::io::store) const NEXT: &[u8] = b"c:next";

    /// The key of something of a topic.
    pub(in crate::io::store) fn of_topic(what: u8, topic: u32, name: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(5 + name.len());
        key.push(what);
        key.extend_from_slice(&topic.to_be_bytes());
        key.extend_from_slice(name.as_bytes());
        key
    }

    /// The key of a name.
    pub(in crate::io::store) fn of_name(name: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + name.len());
        key.push(NAME);
        key.extend_from_slice(name.as_bytes());
        key
    }
}

/// How many topics there are, or were counted.
pub(super) fn topics(base: &Base) -> u64 {
    let next = base.meta.get(meta::NEXT).ok().flatten();
    let next = next.and_then(|next| next[..].try_into().ok().map(u32::from_be_bytes));
    next.map_or(0, |next| u64::from(next).saturating_sub(1))
}
