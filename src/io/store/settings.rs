//! The table `[store]` of the configuration.

use crate::service::topic::OWNERS_MAX;
use schemars::JsonSchema;
use std::path::{self, PathBuf};
use std::time::Duration;

/// Minimum pause between two syncs; `always` covers less.
const INTERVAL_MS_MIN: u64 = 10;
/// Maximum pause: more than a minute of messages is more than users want to lose.
const INTERVAL_MS_MAX: u64 = 60_000;
/// The smallest useful cache: a few topics read ahead.
const CACHE_BYTES_MIN: u64 = 1024 * 1024;

/// Segment size in bytes, exceeded only by a single larger record: small enough that a few take
/// little of any disk, large enough that there are few files and indexes.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// Where the messages of durable topics are stored; required by a [[listen]] that speaks a dialect
/// with such topics, whose table follows.
// The sample has this text, where brackets are those of TOML.
#[allow(rustdoc::broken_intra_doc_links)]
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// The directory, created with mode 0700 if it does not exist. Use a local disk: network file
    /// systems make other promises.
    #[schemars(extend("x-sample" = "/var/lib/fanfare/store"))]
    pub path: Option<PathBuf>,
    /// When a producer is answered: with "always" once the message is on the disk, so that it
    /// survives a loss of power; with "interval" once the system has it, so that it survives a
    /// crash of the daemon, and soon a loss of power; with "never" likewise, and the system decides
    /// when it is written.
    pub durability: Durability,
    /// Milliseconds between syncs of the disk with "interval".
    #[schemars(range(min = INTERVAL_MS_MIN, max = INTERVAL_MS_MAX))]
    pub interval_ms: u64,
    /// Number of writers among which topics are divided by their names, each with a thread and a
    /// log of its own. Use more than one where one thread or one log limits many busy topics. It is
    /// fixed when the store is created.
    #[schemars(range(min = 1, max = OWNERS_MAX))]
    pub writers: usize,
    /// Bytes that must stay free on the file system. Below that, messages are refused; what is
    /// stored is still delivered.
    pub free_bytes_min: u64,
    /// Maximum bytes of messages in memory: the latest ones, and those read for consumers that are
    /// behind. The writers have equal shares.
    #[schemars(range(min = CACHE_BYTES_MIN))]
    pub cache_bytes: u64,
    /// The directory for the copies of `fanfare topics backup`, for this daemon alone and outside
    /// the store; by default beside the store, with its name and ".backups". On the store's file
    /// system copies take no room of their own at first. The unit lets the daemon write in
    /// /var/lib/fanfare: add ReadWritePaths= for another place.
    #[schemars(example = &"/var/backups/fanfare")]
    pub backup_path: Option<PathBuf>,
    /// Whether to continue without missing segments; set on the command line.
    #[serde(skip)]
    pub accept_loss: bool,
    /// Segment size in bytes; smaller ones are for tests.
    #[serde(skip)]
    pub segment_bytes: usize,
}

/// When a message counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, JsonSchema)]
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
    /// Settings that cannot work, each with advice. `needed_by` is the dialect of a listener that
    /// needs a store.
    #[must_use]
    pub fn problems(&self, needed_by: Option<&str>) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(dialect) = needed_by
            && self.path.as_ref().is_none_or(|path| path.as_os_str().is_empty())
        {
            problems.push(format!(
                "[store]: no path: a listener speaks {dialect}, whose messages are stored: name a \
                 directory, as in path = \"/var/lib/fanfare/store\""
            ));
        }
        let least = CACHE_BYTES_MIN * self.writers as u64;
        if self.cache_bytes < least {
            problems.push(format!(
                "store.cache_bytes = {}: write at least {least}, {CACHE_BYTES_MIN} for each of \
                 store.writers",
                self.cache_bytes
            ));
        }
        if let Some(path) = &self.path
            && let Some(backups) = &self.backup_path
            && let (Ok(path), Ok(backups)) = (path::absolute(path), path::absolute(backups))
            && backups.starts_with(&path)
        {
            problems.push(format!(
                "store.backup_path: {} is inside the store, and would be lost with it: name \
                 another directory, on the same file system for backups that take no room of their \
                 own",
                backups.display()
            ));
        }
        problems
    }

    /// The backup directory; `None` for a store at the root of a file system without one
    /// configured.
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

    /// Bytes of messages that one owner caches.
    pub(super) fn cache_share(&self) -> usize {
        (self.cache_bytes / self.writers.max(1) as u64) as usize
    }

    /// The pause between two syncs.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}
