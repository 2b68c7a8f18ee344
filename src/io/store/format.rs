//! The store's directory: its layout, its lock, and its format.
//!
//! ```text
//! FORMAT             the number of the format and that of the owners, and a line of explanation
//! LOCK               locked by the process that has the store open
//! log-0/             the log of the first owner; there is one for each
//!   0000000007.segment   messages and all else, in the order of writing
//!   0000000007.index     where the messages of a full segment are; made anew when it is gone
//! ```

use super::catalog::Catalog;
use super::keeper::sync_directory;
use super::log::StoreLog;
use super::record::Record;
use super::recovery::{self, Findings, Recovered};
use super::segment;
use super::settings::StoreSettings;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The format that this version writes.
pub(super) const FORMAT: u32 = 2;
/// Pause between attempts to lock a store.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Limit on ledgers; see [`Position`](crate::service::topic::Position).
const LEDGERS_MAX: u32 = 1 << 24;
/// Limit on the damaged places and lost messages logged one by one.
const LOGGED_MAX: usize = 16;
/// Limit on the lost messages listed when a start is refused.
const LOST_LISTED_MAX: usize = 5;

/// Why a store cannot be used, with advice.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No path is configured.
    #[error("[store]: no path: name a directory")]
    NoPath,
    /// The directory cannot be created, read or written.
    #[error(
        "the store {0} cannot be used: {1}; it has to be a directory that the daemon's user can \
         write"
    )]
    Directory(PathBuf, io::Error),
    /// There is no space for what a start writes.
    #[error(
        "the store {0} cannot be opened: {1}; a start needs room for a segment of each writer, 8 \
         MiB: make room on its file system, and start again"
    )]
    Full(PathBuf, io::Error),
    /// The directory contains something else.
    #[error(
        "{0} is not a store, and not empty: set store.path to an empty directory, or one that does \
         not exist yet"
    )]
    Foreign(PathBuf),
    /// Another process has locked it.
    #[error(
        "the store {0} is in use by another daemon: stop that one, or give this one a store.path \
         of its own"
    )]
    InUse(PathBuf),
    /// A later version wrote it.
    #[error(
        "the store {0} has format {1}, and this version knows {FORMAT}: run the version that \
         wrote it or a later one, or restore an older backup"
    )]
    Newer(PathBuf, String),
    /// A version before the first release wrote it.
    #[error(
        "the store {0} has format {1}, which no release wrote and nothing converts: move the \
         directory away and start with an empty one"
    )]
    Older(PathBuf, u32),
    /// It was created for another number of owners.
    #[error(
        "the store {0} has {1} writers, among which its topics are divided, and store.writers is \
         {2}: set writers = {1} in [store], or name a new directory in store.path"
    )]
    Writers(PathBuf, usize, usize),
    /// Part of it is damaged.
    #[error("the store {0} is damaged: {1}. {RESTORE}")]
    Damaged(PathBuf, String),
    /// Part of it is missing.
    #[error(
        "the store {0} is incomplete: {1} missing. {RESTORE}; or start once with --accept-loss to \
         continue without it"
    )]
    Missing(PathBuf, String),
}

const RESTORE: &str = "Nothing was changed. Restore the last backup: move the directory away and \
                       run `fanfare topics restore BACKUP`";

/// The directory of an owner's log.
pub(super) fn log_path(directory: &Path, owner: u32) -> PathBuf {
    directory.join(format!("log-{owner}"))
}

/// Locks the store's directory for this process, creating it if necessary. Returns the lock, and
/// whether the store is new.
pub(super) fn take(directory: &Path, settings: &StoreSettings) -> Result<(File, bool), OpenError> {
    make_directory(directory).map_err(|error| unusable(directory, error))?;
    let there = read_format(directory)?.map(|writers| writers as usize);
    let lock = lock(directory)?;
    // Topics are distributed by this number, and would not be found with another.
    if let Some(there) = there.filter(|there| *there != settings.writers) {
        return Err(OpenError::Writers(directory.into(), there, settings.writers));
    }
    Ok((lock, there.is_none()))
}

/// Opens an owner's log, or creates it; works around damage and logs it.
pub(super) fn open_log(
    directory: &Path,
    owner: u32,
    is_new: bool,
    settings: &StoreSettings,
) -> Result<(StoreLog, Recovered), OpenError> {
    let (start, path) = (Instant::now(), log_path(directory, owner));
    let unusable = |error| unusable(directory, error);
    if is_new {
        make_directory(&path).map_err(unusable)?;
    }
    let mut recovered = read_log(directory, &path)?;
    accept(directory, &path, &mut recovered, is_new, settings.accept_loss)?;
    if recovered.ledger >= LEDGERS_MAX - 1 {
        let reason = "it was opened more often than its message ids can count";
        return Err(OpenError::Damaged(directory.into(), reason.into()));
    }

    let mut log = StoreLog::go_on(&path, &mut recovered, settings).map_err(unusable)?;
    if is_new {
        recovered.began = log.active.number;
    }
    // The next start must not report these segments as missing again.
    for missing in &recovered.findings.missing {
        let dropped = Record::Dropped { segment: missing.segment };
        log.write(&mut recovered.catalog, &dropped).map_err(unusable)?;
    }
    log_findings(&recovered.findings, &recovered.catalog, &path, start.elapsed());
    Ok((log, recovered))
}

/// The meaning of an error in the store's directory for a start.
pub(super) fn unusable(directory: &Path, error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            OpenError::Full(directory.into(), error)
        }
        _ => OpenError::Directory(directory.into(), error),
    }
}

/// Reads a log that must exist.
pub(super) fn read_log(directory: &Path, path: &Path) -> Result<Recovered, OpenError> {
    recovery::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if !path.exists() => {
            OpenError::Missing(directory.into(), format!("{} is", path.display()))
        }
        kind => {
            let error = io::Error::new(kind, format!("{}: {error}", path.display()));
            OpenError::Directory(directory.into(), error)
        }
    })
}

/// Refuses a log with missing segments, unless `accept_loss` is set.
fn accept(
    directory: &Path,
    path: &Path,
    recovered: &mut Recovered,
    is_new: bool,
    accept_loss: bool,
) -> Result<(), OpenError> {
    let name = path.display();
    // An existing log has at least the segment that its last start began.
    if recovered.newest == 0 && !is_new && !accept_loss {
        return Err(OpenError::Missing(directory.into(), format!("every segment of {name} is")));
    }
    let missing = &recovered.findings.missing;
    if let Some(first) = missing.first().filter(|_| !accept_loss) {
        let more = match missing.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more, are"),
        };
        let is = if missing.len() == 1 { " is" } else { &more };
        let lost = &recovered.findings.lost;
        let listed: Vec<String> =
            lost.iter().take(LOST_LISTED_MAX).map(ToString::to_string).collect();
        let listed = match lost.len().saturating_sub(LOST_LISTED_MAX) {
            _ if listed.is_empty() => String::new(),
            0 => format!(" (with {})", listed.join(", ")),
            more => format!(" (with {}, and {more} more)", listed.join(", ")),
        };
        return Err(OpenError::Missing(directory.into(), format!("{first} of {name}{listed}{is}")));
    }
    for missing in &recovered.findings.missing {
        tracing::error!(
            "{missing} of {name} is missing; continuing without it, as --accept-loss says"
        );
        recovered.catalog.give_up(missing.segment);
        // The number must not be reused, whatever the segment contained.
        recovered.newest = recovered.newest.max(missing.segment);
    }
    for (topic, count) in recovered.catalog.nameless() {
        if count > 0 {
            tracing::error!(
                "skipping {count} messages of {name}: the name of their topic is damaged"
            );
        }
        recovered.catalog.delete(topic);
    }
    Ok(())
}

/// Logs the findings, and how long reading took.
fn log_findings(findings: &Findings, catalog: &Catalog, path: &Path, took: Duration) {
    let took_ms = took.as_millis() as u64;
    let path = path.display();
    for damage in findings.damages.iter().take(LOGGED_MAX) {
        tracing::error!("the store is damaged: {damage} of {path}; everything else is intact");
    }
    for lost in findings.lost.iter().take(LOGGED_MAX) {
        tracing::error!("lost to damage: {lost}");
    }
    if findings.cut_bytes > 0 {
        let bytes = findings.cut_bytes;
        tracing::warn!("discarding an unfinished write of {bytes} bytes at the end of {path}");
    }
    for name in findings.foreign.iter().take(LOGGED_MAX) {
        tracing::warn!("ignoring {path}/{name}, which does not belong to the store");
    }
    let (topics, messages) = (catalog.names.len(), catalog.messages());
    tracing::info!(
        topics,
        messages,
        took_ms,
        "the store {path} is open: {topics} topics, {messages} messages, read in {took_ms} ms"
    );
}

impl Findings {
    /// Number of damaged places.
    pub(super) fn count(&self) -> u64 {
        self.damages.len() as u64
    }
}

pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The number of owners of a store; `None` for an empty directory. Refuses other directories and
/// unknown formats.
pub(super) fn read_format(directory: &Path) -> Result<Option<u32>, OpenError> {
    let unusable = |error| OpenError::Directory(directory.into(), error);
    let damaged = |reason: &str| Err(OpenError::Damaged(directory.into(), reason.into()));
    match fs::read_to_string(directory.join("FORMAT")) {
        Ok(text) => {
            let mut words = text.split_whitespace();
            let word = words.next().unwrap_or("");
            match (word.parse::<u32>(), words.next().map(str::parse::<u32>)) {
                (Ok(FORMAT), Some(Ok(writers))) => Ok(Some(writers)),
                (Ok(number), _) if number > FORMAT => {
                    Err(OpenError::Newer(directory.into(), word.into()))
                }
                (Ok(number), _) if (1..FORMAT).contains(&number) => {
                    Err(OpenError::Older(directory.into(), number))
                }
                _ => damaged("the file FORMAT contains no valid number"),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for entry in fs::read_dir(directory).map_err(unusable)? {
                let name = entry.map_err(unusable)?.file_name();
                let name = name.to_string_lossy();
                // The remains of an interrupted first start are acceptable; a log with data is not
                // one.
                if name.starts_with("log-") {
                    let (segments, _) = segment::list(&directory.join(&*name)).map_err(unusable)?;
                    if segments.len() > 3 {
                        return damaged("the file FORMAT is missing");
                    }
                } else if !["LOCK", "FORMAT.new", "lost+found"].contains(&&*name) {
                    return Err(OpenError::Foreign(directory.into()));
                }
            }
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            damaged("the file FORMAT is not text")
        }
        Err(error) => Err(unusable(error)),
    }
}

/// Locks the store for as long as the returned file is open.
pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
    let unusable = |error| OpenError::Directory(directory.into(), error);
    let path = directory.join("LOCK");
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(unusable)?;
    // `fanfare check` locks the store briefly, and another daemon may be stopping.
    for is_last in [false, false, false, false, true] {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if is_last => break,
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
    }
    Err(OpenError::InUse(directory.into()))
}

/// Whether another process has locked the store.
pub(super) fn is_locked(directory: &Path) -> io::Result<bool> {
    match File::open(directory.join("LOCK")) {
        // A shared lock, because the file may not be writable for us; it is released at once.
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes the FORMAT file atomically.
pub(super) fn write_format(directory: &Path, writers: u32) -> io::Result<()> {
    let new = directory.join("FORMAT.new");
    let mut file = File::create(&new)?;
    writeln!(
        file,
        "{FORMAT} {writers}\nThis directory is a store of fanfare. Change nothing in it by hand."
    )?;
    // Synced before the rename: after a loss of power the name must not refer to an empty file.
    file.sync_all()?;
    fs::rename(&new, directory.join("FORMAT"))?;
    sync_directory(directory)
}
