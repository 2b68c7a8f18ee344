//! The store's directory: what it holds, who has it open, and whether this program knows its format.
//!
//! ```text
//! FORMAT   the number of the format, and a line of explanation
//! LOCK     locked by the process that has the store open
//! data/    the database of fjall
//! damaged/ what was mended, as it was before
//! backups/ complete stores, unless `backup_path` says otherwise
//! ```

use super::base::{Base, Part, describe, meta};
use super::journal::{self, Findings};
use super::settings::Settings;
use super::tables;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The format that this program writes. A later one is refused; for an earlier one there would be a migration here,
/// which says at the start what it does, and is made on a copy.
pub(super) const FORMAT: u32 = 1;
/// What fjall writes into its own marker.
const FJALL_MARKER: &[u8] = b"FJL\x03";
/// How long the lock of a store is waited for each time.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Ledgers that there can be; see [`Position`](crate::topic::Position).
const LEDGERS_MAX: u32 = 1 << 24;

/// Why a store cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no path.
    #[error("[store]: no path: name a directory")]
    NoPath,
    /// The directory cannot be made, read or written.
    #[error("the store {0} cannot be used: {1}; it has to be a directory that the daemon's user can write")]
    Directory(PathBuf, io::Error),
    /// Something else is there.
    #[error(
        "{0} is no store, and not empty: name an empty directory, or one that is not there yet, as store.path"
    )]
    Foreign(PathBuf),
    /// Another process has it.
    #[error(
        "the store {0} is in use by another daemon: stop that one, or give this one a store.path of its own"
    )]
    InUse(PathBuf),
    /// A later program has written it.
    #[error(
        "the store {0} has format {1}, and this program knows {FORMAT}: run the program that has written it, or a later \
         one, or restore a backup that is older"
    )]
    Newer(PathBuf, String),
    /// It was made with so many writers, and so many are configured.
    #[error(
        "the store {0} has {1} writers, among which its topics are divided, and store.writers is {2}: write {1}, or name a \
         new directory"
    )]
    Writers(PathBuf, usize, usize),
    /// A part of it is not what it should be.
    #[error("the store {0} is damaged: {1}. {RESTORE}")]
    Damaged(PathBuf, String),
}

const RESTORE: &str =
    "Nothing was changed. Restore the last backup: move the directory away and put the backup in its place";

/// A store that is open.
pub(super) struct Opened {
    pub(super) directory: PathBuf,
    pub(super) lock: File,
    pub(super) base: Base,
    pub(super) ledger: u32,
    pub(super) findings: Findings,
}

/// Where the database is.
pub(super) fn data(directory: &Path) -> PathBuf {
    directory.join("data")
}

/// Opens the store of these settings, or makes it, and counts the start.
pub(super) fn open(settings: &Settings) -> Result<Opened, OpenError> {
    let start = Instant::now();
    let directory = settings.path.clone().ok_or(OpenError::NoPath)?;
    let unusable = |error| OpenError::Directory(directory.clone(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(unusable)?;
    let is_new = is_new(&directory)?;
    let lock = lock(&directory)?;
    if is_new {
        write_format(&directory).map_err(unusable)?;
    }
    let data = data(&directory);
    inspect(&directory, &data, true)?;
    let findings = journal::mend(&directory, &data, false).map_err(unusable)?;
    let base = open_base(&directory, settings)?;
    if !findings.damaged.is_empty() {
        base.reconcile().map_err(|error| OpenError::Damaged(directory.clone(), describe(&error)))?;
    }
    let ledger = count_start(&base).map_err(|reason| OpenError::Damaged(directory.clone(), reason))?;
    findings.tell(&base, &directory, start.elapsed());
    Ok(Opened { directory, lock, base, ledger, findings })
}

/// Opens the database, whose journals are in order.
pub(super) fn open_base(directory: &Path, settings: &Settings) -> Result<Base, OpenError> {
    let data = data(directory);
    Base::open(&data, settings).map_err(|error| match error {
        fjall::Error::Locked => OpenError::InUse(directory.into()),
        error => match (tables::damaged(&data).into_iter().next(), error) {
            (Some(table), error) => {
                let reason = format!("{} is not what was written ({})", table.display(), describe(&error));
                OpenError::Damaged(directory.into(), reason)
            }
            (None, fjall::Error::Io(error)) => OpenError::Directory(directory.into(), error),
            (None, error) => OpenError::Damaged(directory.into(), describe(&error)),
        },
    })
}

/// Whether there is nothing yet; refuses what is no store, and formats that are not known.
pub(super) fn is_new(directory: &Path) -> Result<bool, OpenError> {
    let unusable = |error| OpenError::Directory(directory.into(), error);
    match fs::read_to_string(directory.join("FORMAT")) {
        Ok(text) => {
            let word = text.split_whitespace().next().unwrap_or("");
            match word.parse::<u32>() {
                Ok(FORMAT) => Ok(false),
                Ok(number) if number > FORMAT => Err(OpenError::Newer(directory.into(), word.into())),
                _ => Err(OpenError::Damaged(
                    directory.into(),
                    "the file FORMAT holds no number that there ever was".into(),
                )),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut entries = fs::read_dir(directory).map_err(unusable)?;
            // What a start leaves that was interrupted.
            let ours = |name: &std::ffi::OsStr| {
                ["LOCK", "FORMAT.new", "lost+found"].iter().any(|known| name == *known)
            };
            let foreign = entries.any(|entry| entry.is_ok_and(|entry| !ours(&entry.file_name())));
            if foreign { Err(OpenError::Foreign(directory.into())) } else { Ok(true) }
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(OpenError::Damaged(directory.into(), "the file FORMAT is no text".into()))
        }
        Err(error) => Err(unusable(error)),
    }
}

/// Locks the store for as long as the file is open.
pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
    let unusable = |error| OpenError::Directory(directory.into(), error);
    let path = directory.join("LOCK");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(unusable)?;
    // Whoever looks at the store locks it for a moment, and another daemon may be ending.
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

/// Whether some process has the store open.
pub(super) fn is_locked(directory: &Path) -> io::Result<bool> {
    match File::open(directory.join("LOCK")) {
        // Shared, because the file may not be ours to write; it is given back at once.
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes the format's number, whole or not at all.
pub(super) fn write_format(directory: &Path) -> io::Result<()> {
    let new = directory.join("FORMAT.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{FORMAT}\nThis directory is a store of fanfare. Change nothing in it by hand.")?;
    file.sync_all()?;
    fs::rename(&new, directory.join("FORMAT"))?;
    File::open(directory)?.sync_all()
}

/// Refuses what fjall would take for a database that is new, or partly, and delete.
/// What an interrupted first start has left is removed, if anything may be changed.
pub(super) fn inspect(directory: &Path, data: &Path, may_change: bool) -> Result<(), OpenError> {
    fn damaged_at<T>(directory: &Path, reason: String) -> Result<T, OpenError> {
        Err(OpenError::Damaged(directory.into(), reason))
    }
    let unusable = |error| OpenError::Directory(directory.into(), error);
    if !data.exists() {
        return Ok(());
    }
    let keyspaces = data.join("keyspaces");
    let parts = tables::keyspaces(data);
    match fs::read(data.join("version")) {
        Ok(marker) if marker == FJALL_MARKER => {}
        Ok(_) => return damaged_at(directory, "data/version is not the one that this program knows".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The first start was interrupted before there was anything.
            let used = journal::is_used(data).map_err(unusable)?;
            if !parts.is_empty() || used {
                return damaged_at(directory, "data/version is missing".into());
            }
            return if may_change { fs::remove_dir_all(data).map_err(unusable) } else { Ok(()) };
        }
        Err(error) => return Err(unusable(error)),
    }
    for part in &parts {
        let name = part.file_name().unwrap_or_default();
        if name.to_str().is_none_or(|name| name.parse::<u64>().is_err()) {
            return damaged_at(directory, format!("{} does not belong there", part.display()));
        }
        let has_tables = fs::read_dir(part.join("tables")).is_ok_and(|mut tables| tables.next().is_some());
        // A keyspace that is not complete yet has nothing in it.
        if has_tables || part.join("current").exists() {
            let listed = tables::list(part).or_else(|reason| damaged_at(directory, reason))?;
            if let Some(table) = listed.iter().find(|table| !table.path.exists()) {
                return damaged_at(directory, format!("{} is missing", table.path.display()));
            }
        }
    }
    let is_used = parts.len() > 1 || journal::is_used(data).map_err(unusable)?;
    if is_used && !keyspaces.join("0/current").exists() {
        return damaged_at(directory, "data/keyspaces/0/current is missing".into());
    }
    Ok(())
}

/// Counts this start, for good. Returns its number, in which old topics go on.
fn count_start(base: &Base) -> Result<u32, String> {
    let failed = |error: fjall::Error| format!("the count of starts: {}", describe(&error));
    let mut before = 0;
    for keyspace in &base.meta {
        if let Ok(Some(bytes)) = keyspace.get(meta::LEDGER) {
            let number = bytes[..].try_into().map_err(|_| "the count of starts is no number")?;
            before = u32::from_be_bytes(number).max(before);
        }
    }
    let ledger = before + 1;
    if ledger >= LEDGERS_MAX {
        return Err("it was opened too often for its message ids".into());
    }
    base.put(Part::Named, &meta::LEDGER.into(), Some(&ledger.to_be_bytes())).map_err(failed)?;
    base.db.persist(fjall::PersistMode::SyncAll).map_err(failed)?;
    Ok(ledger)
}
