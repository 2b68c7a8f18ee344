//! The table `[store]` of the configuration.

use crate::service::topic::OWNERS_MAX;
use std::path::{self, PathBuf};
use std::time::Duration;

/// The shortest pause between two syncs that may be asked for; less is what `always` is for.
const INTERVAL_MS_MIN: u64 = 10;
/// The longest: more than a minute of messages is nothing that anybody wants to lose.
const INTERVAL_MS_MAX: u64 = 60_000;
/// The smallest cache that helps: what a few topics are read ahead.
const CACHE_BYTES_MIN: u64 = 1024 * 1024;

/// Bytes of a segment, beyond which only a single record larger than that goes: small enough that a few of them are
/// little on any disk, large enough that their files and indexes are few.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// The table `[store]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// The directory; it is made when it is not there.
    pub path: Option<PathBuf>,
    /// When a message counts as stored.
    pub durability: Durability,
    /// Milliseconds between two syncs with `interval`.
    pub interval_ms: u64,
    /// Owners of topics, each with a thread and a log of its own.
    pub writers: usize,
    /// Bytes that have to be free on the file system, or no more messages are taken.
    pub free_bytes_min: u64,
    /// Bytes of messages that all topics together keep in memory.
    pub cache_bytes: u64,
    /// Where backups are made; without, in the directory beside the store that has its name and `.backups` behind that.
    pub backup_path: Option<PathBuf>,
    /// Whether to go on without what is missing; said on the command line.
    #[serde(skip)]
    pub accept_loss: bool,
    /// Bytes of a segment; smaller ones are for tests.
    #[serde(skip)]
    pub segment_bytes: usize,
}

/// When a message counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When the disk has it: it outlasts a loss of power.
    Always,
    /// When the system has it: it outlasts the process, and the disk has it after a moment.
    Interval,
    /// When the system has it, which writes it to the disk when it likes.
    Never,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            path: None,
            durability: Durability::Always,
            interval_ms: 1000,
            writers: 1,
            free_bytes_min: 64 * 1024 * 1024,
            cache_bytes: 16 * 1024 * 1024,
            backup_path: None,
            accept_loss: false,
            segment_bytes: SEGMENT_BYTES,
        }
    }
}

impl StoreSettings {
    /// What cannot run, each with what to do, when some listener needs a store or none does.
    #[must_use]
    pub fn problems(&self, is_needed: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if is_needed && self.path.as_ref().is_none_or(|path| path.as_os_str().is_empty()) {
            problems.push(
                "[store]: no path: a listener speaks pulsar, whose messages are stored: name a directory, as in path = \
                 \"/var/lib/fanfare/store\""
                    .into(),
            );
        }
        if !(INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(&self.interval_ms) {
            problems.push(format!(
                "store.interval_ms = {}: write {INTERVAL_MS_MIN} to {INTERVAL_MS_MAX}; durability = \"always\" syncs \
                 each time, \"never\" not at all",
                self.interval_ms
            ));
        }
        if !(1..=OWNERS_MAX).contains(&self.writers) {
            problems.push(format!(
                "store.writers = {}: write 1 to {OWNERS_MAX}; 1 is enough unless its thread is what limits you",
                self.writers
            ));
        }
        let least = CACHE_BYTES_MIN * self.writers as u64;
        if self.cache_bytes < least {
            problems.push(format!(
                "store.cache_bytes = {}: write at least {least}, {CACHE_BYTES_MIN} for each of store.writers",
                self.cache_bytes
            ));
        }
        if let Some(path) = &self.path
            && let Some(backups) = &self.backup_path
            && let (Ok(path), Ok(backups)) = (path::absolute(path), path::absolute(backups))
            && backups.starts_with(&path)
        {
            problems.push(format!(
                "store.backup_path: {} is inside the store, and would be lost with it: name another directory, on the same \
                 file system for backups that take no room of their own",
                backups.display()
            ));
        }
        problems
    }

    /// Where backups are made; nowhere for a store that has no directory beside it.
    #[must_use]
    pub fn backups(&self) -> Option<PathBuf> {
        if let Some(path) = &self.backup_path {
            return Some(path.clone());
        }
        let path = path::absolute(self.path.as_ref()?).ok()?;
        let mut name = path.file_name()?.to_owned();
        name.push(".backups");
        Some(path.with_file_name(name))
    }

    /// Bytes that the topics of one owner keep in memory.
    pub(super) fn cache_share(&self) -> usize {
        (self.cache_bytes / self.writers.max(1) as u64) as usize
    }

    /// The pause between two syncs.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}
