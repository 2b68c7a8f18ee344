//! Restoring a backup in place of a store that does not exist.
//!
//! Full segments never change, so they are hard-linked where the file system allows it: the store
//! is complete at once, and takes space only for what is new. A segment shared with another
//! directory is never reused (see `keeper`), so the backup stays intact. Everything else is copied.

use super::backup::{disk_bytes, list};
use super::check::check;
use super::format::{self, OpenError, make_directory};
use super::keeper::sync_directory;
use super::segment::SegmentFile;
use super::settings::StoreSettings;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Why a backup is not restored, with advice.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The directory is not a backup.
    #[error("{0} is not a backup: name a directory that `fanfare topics backup` made{1}")]
    NoBackup(PathBuf, String),
    /// The store's directory is not empty.
    #[error(
        "{0} exists and is not empty, and nothing is overwritten: stop the daemon, \
         move the directory away, and restore again"
    )]
    InTheWay(PathBuf),
    /// The backup has another number of owners.
    #[error(
        "the backup {0} has {1} writers, among which its topics are divided, and store.writers is \
         {2}: set writers = {1} in [store], and restore again"
    )]
    Writers(PathBuf, usize, usize),
    /// Part of it is missing or damaged.
    #[error(
        "the backup {0} is incomplete:\n{1}\nNothing was restored. Take another backup, or use \
         --accept-loss to restore what this one contains"
    )]
    Damaged(PathBuf, String),
    /// A file cannot be copied.
    #[error(
        "{0} cannot be restored to {1}: {2}; nothing is left there. Solve that, and restore again"
    )]
    Copy(PathBuf, PathBuf, io::Error),
    /// The backup or the settings cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A restored store.
#[derive(Debug)]
pub struct Restored {
    /// Its path.
    pub path: PathBuf,
    /// Size of its files in bytes.
    pub bytes: u64,
    /// Bytes copied; the rest is shared with the backup.
    pub copied_bytes: u64,
    /// Number of messages.
    pub messages: u64,
    /// The findings of checking the backup, one a line.
    pub lines: Vec<String>,
}

/// Restores a backup in place of a store that does not exist or is empty. Calls `copied` now and
/// then with the bytes copied and the size of the backup. The backup stays intact.
///
/// # Errors
/// When the backup is invalid or incomplete, or a store exists.
pub fn restore(
    backup: &Path,
    settings: &StoreSettings,
    copied: impl FnMut(u64, u64),
) -> Result<Restored, RestoreError> {
    let store = settings.path.clone().ok_or(OpenError::NoPath)?;
    let failed = |error| RestoreError::Copy(backup.into(), store.clone(), error);
    if !backup.join("FORMAT").exists() {
        return Err(RestoreError::NoBackup(backup.into(), known(settings)));
    }
    let writers = format::read_format(backup)?.unwrap_or(0);
    if writers as usize != settings.writers {
        return Err(RestoreError::Writers(backup.into(), writers as usize, settings.writers));
    }
    if format::is_locked(backup).map_err(failed)? {
        return Err(OpenError::InUse(backup.into()).into());
    }
    let report = check(&StoreSettings { path: Some(backup.into()), ..settings.clone() }, false)?;
    // Checked before anything is written: part of a backup must not be taken for all of it.
    if report.is_damaged && !settings.accept_loss {
        return Err(RestoreError::Damaged(backup.into(), report.lines[1..].join("\n")));
    }

    let is_made = match fs::read_dir(&store) {
        Ok(mut entries) => {
            if entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != "lost+found")) {
                return Err(RestoreError::InTheWay(store));
            }
            false
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(&store).map_err(failed)?;
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(RestoreError::InTheWay(store));
        }
        Err(error) => return Err(failed(error)),
    };
    // A daemon starting meanwhile waits until the store is complete.
    let lock = format::lock(&store)?;
    let put = put(backup, &store, writers, copied);
    let put = put.inspect_err(|_| remove(&store, writers, is_made));
    let copied_bytes = put.map_err(failed)?;
    drop(lock);
    let path = fs::canonicalize(&store).map_err(failed)?;
    let bytes = disk_bytes(&path);
    Ok(Restored { path, bytes, copied_bytes, messages: report.messages, lines: report.lines })
}

/// A hint at the existing backups, for an error message.
fn known(settings: &StoreSettings) -> String {
    let Some(backups) = settings.backups() else { return String::new() };
    match list(&backups).unwrap_or_default().pop() {
        Some(newest) => format!("; the newest of this store is {}", newest.display()),
        None => format!("; there is none in {}", backups.display()),
    }
}

/// Copies or links all files. Returns the bytes copied.
fn put(
    backup: &Path,
    store: &Path,
    writers: u32,
    mut copied: impl FnMut(u64, u64),
) -> io::Result<u64> {
    let (mut bytes, all) = (0, disk_bytes(backup));
    for owner in 0..writers {
        let (from, to) = (format::log_path(backup, owner), format::log_path(store, owner));
        make_directory(&to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            let kind = SegmentFile::of(&entry.file_name().to_string_lossy());
            // Not for indexes, which may be rewritten in place.
            if matches!(kind, Some(SegmentFile::Segment(_)))
                && fs::hard_link(entry.path(), &target).is_ok()
            {
                continue;
            }
            bytes += fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
            copied(bytes, all);
        }
        sync_directory(&to)?;
    }
    // Written last, so that an incomplete directory is not a store.
    format::write_format(store, writers)?;
    Ok(bytes)
}

/// Removes a partly restored store, where there was nothing before.
fn remove(store: &Path, writers: u32, is_made: bool) {
    // Leftovers are reported when the directory is used next.
    for owner in 0..writers {
        let _ = fs::remove_dir_all(format::log_path(store, owner));
    }
    for name in ["FORMAT", "FORMAT.new", "LOCK"] {
        let _ = fs::remove_file(store.join(name));
    }
    if is_made {
        let _ = fs::remove_dir(store);
    }
}
