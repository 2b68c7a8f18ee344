//! The database under the archive: how it is opened, what it is made of, and keys.
//!
//! `messages` and `delayed` hold records by topic and place, `meta` everything that has a name. Memory is what this
//! is tuned for: small memtables, blocks that are read when they are wanted, no filters, because nobody asks for a
//! message that there is not.

use super::settings::Settings;
use crate::topic::{Fault, Position};
use fjall::compaction::Leveled;
use fjall::config::{BlockSizePolicy, FilterPolicy, PartitioningPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Snapshot, UserKey, UserValue};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a memtable before the archive has it written to a table.
pub(super) const MEMTABLE_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of a memtable that fjall has written by itself, which it does late.
const OVERFULL_BYTES: u64 = 4 * MEMTABLE_BYTES;
/// Bytes of a table, and a quarter of those of the first level: what is deleted takes its room until the level it is in
/// overflows, so small levels give room back soon. 10 M messages come to some four hundred tables.
const TABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of a block; a read of many messages takes one after the other.
const BLOCK_BYTES: u32 = 16 * 1024;
/// Bytes of journals that are kept before memtables are written to let the oldest go; the least that fjall takes.
const JOURNALS_BYTES: u64 = 64 * 1024 * 1024;
/// Tables that are open at once.
const FILES: usize = 128;

/// Marks a keyspace that was made anew as complete. No topic has this number, and no name this letter.
const COMPLETE: &[u8] = b"\xff\xff\xff\xffcomplete";

/// What is written to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Messages,
    Delayed,
    Named,
}

/// The database and its parts.
#[derive(Clone)]
pub(super) struct Base {
    pub(super) db: Database,
    pub(super) messages: Keyspace,
    pub(super) delayed: Keyspace,
    /// What has a name. It is small, and without it nothing else can be found: so there is everything twice.
    pub(super) meta: [Keyspace; 2],
}

impl Base {
    /// Opens what is there, or makes it.
    pub(super) fn open(path: &Path, settings: &Settings) -> fjall::Result<Self> {
        // One writes memtables, while the other merges tables.
        Self::open_with(path, settings, 2)
    }

    /// Opens what is there without anything that works on it by itself.
    pub(super) fn open_still(path: &Path, settings: &Settings) -> fjall::Result<Self> {
        Self::open_with(path, settings, 0)
    }

    fn open_with(path: &Path, settings: &Settings, workers: usize) -> fjall::Result<Self> {
        let db = Database::builder(path)
            .cache_size(settings.cache_bytes)
            .max_cached_files(Some(FILES))
            .max_journaling_size(JOURNALS_BYTES)
            .manual_journal_persist(true)
            .worker_threads_unchecked(workers)
            .open()?;
        // In this order, so that each has the same number everywhere.
        let messages = newest(&db, "messages")?;
        let delayed = newest(&db, "delayed")?;
        let meta = newest(&db, "meta")?;
        let mirror = newest(&db, "mirror")?;
        Ok(Self { db, messages, delayed, meta: [meta, mirror] })
    }

    /// What there is now.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }

    /// Whether nothing can be written any more until the database is opened anew.
    pub(super) fn is_poisoned(&self) -> bool {
        matches!(self.db.persist(fjall::PersistMode::Buffer), Err(fjall::Error::Poisoned))
    }

    /// The keyspaces of a part.
    pub(super) fn keyspaces(&self, part: Part) -> &[Keyspace] {
        match part {
            Part::Messages => std::slice::from_ref(&self.messages),
            Part::Delayed => std::slice::from_ref(&self.delayed),
            Part::Named => &self.meta,
        }
    }

    /// The one of them that is read.
    pub(super) fn part(&self, part: Part) -> &Keyspace {
        match part {
            Part::Messages => &self.messages,
            Part::Delayed => &self.delayed,
            Part::Named => &self.meta[0],
        }
    }

    /// Writes a value, or that there is none any more.
    pub(super) fn put(&self, part: Part, key: &UserKey, value: Option<&[u8]>) -> fjall::Result<()> {
        self.keyspaces(part).iter().try_for_each(|keyspace| match value {
            Some(value) => keyspace.insert(key.clone(), value),
            None => keyspace.remove(key.clone()),
        })
    }

    /// What has a name, from whichever has it.
    pub(super) fn named(&self, key: &[u8]) -> fjall::Result<Option<UserValue>> {
        match self.meta[0].get(key) {
            Ok(None) => Ok(self.meta[1].get(key).unwrap_or(None)),
            Err(error) => self.meta[1].get(key).map_err(|_| error),
            found => found,
        }
    }

    /// Shows everything from a key on, until `each` says that it is enough, from whichever can be read.
    pub(super) fn all_named(
        &self,
        from: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> fjall::Result<()> {
        let mut next = from.to_vec();
        'keyspaces: for (index, keyspace) in self.meta.iter().enumerate() {
            for item in keyspace.range(next.clone()..) {
                match item.into_inner() {
                    Ok((key, value)) => {
                        if !key.starts_with(&COMPLETE[..4]) && !each(&key, &value) {
                            return Ok(());
                        }
                        next = [&key[..], &[0]].concat();
                    }
                    Err(_) if index == 0 => continue 'keyspaces,
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        }
        Ok(())
    }

    /// Brings into each of the two what only the other has, after records of a journal were lost.
    pub(super) fn reconcile(&self) -> fjall::Result<()> {
        for (from, to) in [(0, 1), (1, 0)] {
            for item in self.meta[from].iter() {
                let Ok((key, value)) = item.into_inner() else { break };
                if matches!(self.meta[to].get(&key), Ok(None)) {
                    self.meta[to].insert(key, value)?;
                }
            }
        }
        Ok(())
    }

    /// A keyspace that takes the place of this one when it is complete.
    pub(super) fn successor(&self, old: &Keyspace) -> fjall::Result<Keyspace> {
        let (part, number) = part_of(old.name());
        let name = format!("{part}.{}", number + 1);
        if self.db.keyspace_exists(&name) {
            let unfinished = self.db.keyspace(&name, options)?;
            self.db.delete_keyspace(unfinished)?;
        }
        self.db.keyspace(&name, options)
    }

    /// Puts a complete keyspace in the place of an old one, from the next opening on.
    pub(super) fn replace(&self, old: &Keyspace, new: &Keyspace) -> fjall::Result<()> {
        new.insert(COMPLETE, [])?;
        self.db.persist(fjall::PersistMode::SyncAll)?;
        self.db.delete_keyspace(old.clone())
    }
}

/// The newest complete keyspace of a part; the others are deleted.
fn newest(db: &Database, part: &str) -> fjall::Result<Keyspace> {
    let names = db.list_keyspace_names();
    let mut numbers: Vec<u64> = names
        .iter()
        .map(|name| part_of(name))
        .filter(|name| name.0 == part && name.1 > 0)
        .map(|name| name.1)
        .collect();
    numbers.sort_unstable();
    let mut found = None;
    for number in numbers.into_iter().rev() {
        let keyspace = db.keyspace(&format!("{part}.{number}"), options)?;
        if found.is_none() && keyspace.contains_key(COMPLETE)? {
            found = Some(keyspace);
        } else {
            db.delete_keyspace(keyspace)?;
        }
    }
    match found {
        Some(keyspace) => {
            if db.keyspace_exists(part) {
                db.delete_keyspace(db.keyspace(part, options)?)?;
            }
            Ok(keyspace)
        }
        None => db.keyspace(part, options),
    }
}

/// The part and the number in a keyspace's name: `messages`, and when it was made anew `messages.1`.
fn part_of(name: &str) -> (&str, u64) {
    match name.split_once('.') {
        Some((part, number)) => (part, number.parse().unwrap_or(0)),
        None => (name, 0),
    }
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(OVERFULL_BYTES)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)))
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
    let next = base.named(meta::NEXT).ok().flatten();
    let next = next.and_then(|next| next[..].try_into().ok().map(u32::from_be_bytes));
    next.map_or(0, |next| u64::from(next).saturating_sub(1))
}
