//! Putting a backup in the place of a store that is not there.
//!
//! Full segments never change, so where the file system can they are linked: the store has them at once, and takes room
//! only for what is new. A segment that something else has too is never used again for another (see `keeper`), so the
//! backup stays as it is. Everything else is copied.

use super::backup::{disk_bytes, list};
use super::check::check;
use super::format::{self, OpenError, make_directory};
use super::keeper::sync_directory;
use super::segment::SegmentFile;
use super::settings::StoreSettings;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Why a backup is not restored. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is no backup.
    #[error("{0} is no backup: name a directory that `fanfare topics backup` has made{1}")]
    NoBackup(PathBuf, String),
    /// There is something already.
    #[error(
        "the store {0} is there already, or something else is, and nothing is overwritten: stop \
         the daemon, move the directory away, and restore again"
    )]
    InTheWay(PathBuf),
    /// It is of another number of owners.
    #[error(
        "the backup {0} has {1} writers, among which its topics are divided, and store.writers is \
         {2}: write writers = {1} in [store], and restore again"
    )]
    Writers(PathBuf, usize, usize),
    /// Something of it is missing or damaged.
    #[error(
        "the backup {0} is not whole:\n{1}\nNothing was restored. Take another backup, or say \
         --accept-loss to have what there is of this one"
    )]
    Damaged(PathBuf, String),
    /// It cannot be copied.
    #[error(
        "{0} cannot be restored to {1}: {2}; nothing is left there. Mend that, and restore again"
    )]
    Copy(PathBuf, PathBuf, io::Error),
    /// The backup or the settings cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A store that was restored.
#[derive(Debug)]
pub struct Restored {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of them that were copied; the others it shares with the backup.
    pub copied_bytes: u64,
    /// Messages in it.
    pub messages: u64,
    /// What a look at the backup has found, a line each.
    pub lines: Vec<String>,
}

/// Puts a backup in the place of a store that is not there, or empty; `copied` is told now and then how many
/// bytes were copied, and how many the backup has. The backup stays as it is.
///
/// # Errors
/// When the backup is none, or not whole, or when there is a store.
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
    // Before anything is written: what is there of it is not to be taken for all.
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
    // A start that comes meanwhile waits until it is whole.
    let lock = format::lock(&store)?;
    let put = put(backup, &store, writers, copied);
    let put = put.inspect_err(|_| remove(&store, writers, is_made));
    let copied_bytes = put.map_err(failed)?;
    drop(lock);
    let path = fs::canonicalize(&store).map_err(failed)?;
    let bytes = disk_bytes(&path);
    Ok(Restored { path, bytes, copied_bytes, messages: report.messages, lines: report.lines })
}

/// The backups that there are, where none was named.
fn known(settings: &StoreSettings) -> String {
    let Some(backups) = settings.backups() else { return String::new() };
    match list(&backups).unwrap_or_default().pop() {
        Some(newest) => format!("; the newest of this store is {}", newest.display()),
        None => format!("; there is none in {}", backups.display()),
    }
}

/// Returns how many bytes were copied.
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
            // An index may be written anew where it is.
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
    // Last, so that what is not whole is no store.
    format::write_format(store, writers)?;
    Ok(bytes)
}

/// Takes away what was restored in part, where nothing was before.
fn remove(store: &Path, writers: u32, is_made: bool) {
    // What stays is told when the directory is used next.
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
