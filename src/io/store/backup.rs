//! Backups: complete stores as of one moment, made while the daemon runs.
//!
//! Full segments never change, so they are hard-linked where the file system allows it, and
//! otherwise copied once: later backups in the same directory link to the copy of an earlier one.
//! Only the end of the log is copied each time.

use super::archive::Disk;
use super::format::{self, make_directory};
use super::keeper::sync_directory;
use super::segment::SegmentFile;
use super::settings::StoreSettings;
use crate::calendar::Utc;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The extension of a backup in progress.
const UNFINISHED: &str = "unfinished";
/// The minimum length of a backup's name: `20261121T171500Z`.
const STAMP_CHARS: usize = 16;

/// A finished backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The absolute path of the complete store.
    pub path: PathBuf,
    /// Messages in it.
    pub messages: u64,
    /// Size of its files in bytes, including those shared with the store or other backups.
    pub bytes: u64,
    /// Bytes written for it.
    pub new_bytes: u64,
    /// The absolute paths of older backups that were removed.
    pub removed: Vec<PathBuf>,
}

/// An owner's log as of one moment: all that another thread needs to copy it.
pub(in crate::io) struct Copier {
    settings: StoreSettings,
    directory: PathBuf,
    name: PathBuf,
    /// The full segments.
    segments: Vec<u32>,
    /// The last segment, and its length.
    last: (u32, Arc<File>, u64),
    messages: u64,
    /// Keeps segments from being removed while they are read.
    _pin: Arc<()>,
}

impl Disk {
    /// A snapshot of the log, with all changes saved.
    ///
    /// # Errors
    /// When the changes cannot be saved.
    pub(super) fn copier(&mut self) -> Result<Copier, String> {
        // Saved and synced first: the copy is made from the files, not from memory.
        self.save_to_disk().map_err(String::from)?;
        let active = &self.log.active;
        let segments =
            self.catalog.segments.range(..active.number).map(|(number, _)| *number).collect();
        Ok(Copier {
            settings: self.settings.clone(),
            directory: self.log.directory.clone(),
            name: self.log.directory.file_name().map(PathBuf::from).unwrap_or_default(),
            segments,
            last: (active.number, active.file.clone(), active.written as u64),
            messages: self.catalog.messages(),
            _pin: Arc::clone(&self.reclaim.pin),
        })
    }

    /// Makes a backup of a store with one owner, and waits for it.
    ///
    /// # Errors
    /// When it cannot be made, with the reason.
    pub fn backup(&mut self) -> Result<Backup, String> {
        copy_all(&[self.copier()?], None)
    }
}

/// Makes a backup of all owners' logs, which gets its final name when it is complete. With `kept`,
/// the oldest backups beyond that number are removed afterwards.
pub(super) fn copy_all(copiers: &[Copier], kept: Option<usize>) -> Result<Backup, String> {
    let Some(Copier { settings, .. }) = copiers.first() else {
        return Err("there is nothing to copy".into());
    };
    let Some(backups) = settings.backups() else {
        return Err("there is no place for backups next to the store: set store.backup_path".into());
    };
    let failed = |error: io::Error| {
        let backups = backups.display();
        format!(
            "no backup was made in {backups}: {error}; store.backup_path has to be a directory \
             that the daemon's user can write, with room for the files that cannot be \
             linked there"
        )
    };
    make_directory(&backups).map_err(failed)?;
    let store = settings.path.as_deref().map(fs::canonicalize);
    if let (Some(Ok(store)), Ok(place)) = (store, fs::canonicalize(&backups))
        && place.starts_with(store)
    {
        let backups = backups.display();
        return Err(format!(
            "{backups} is inside the store, and would be lost with it: set store.backup_path to \
             another directory"
        ));
    }
    let _place = BackupDirectory::take(&backups).map_err(failed)?;
    // After locking: it could be another daemon's backup in progress otherwise.
    clear(&backups).map_err(failed)?;
    let earlier = list(&backups).map_err(failed)?.pop();

    let target = free_name(&backups);
    let unfinished = target.with_extension(UNFINISHED);
    let made = make(copiers, &unfinished, &target, earlier.as_deref());
    let mut made = made.map_err(|error| {
        // An incomplete directory must not look like a backup.
        let _ = fs::remove_dir_all(&unfinished);
        failed(error)
    })?;

    if let Some(count) = kept {
        made.removed = keep(&backups, count).map_err(|error| {
            let (made, backups) = (made.path.display(), backups.display());
            format!(
                "the backup {made} was made, but not all older ones could be removed from \
                 {backups}: {error}"
            )
        })?;
    }
    Ok(made)
}

/// Copies all logs into a directory, which gets its final name when it is complete.
fn make(
    copiers: &[Copier],
    unfinished: &Path,
    target: &Path,
    earlier: Option<&Path>,
) -> io::Result<Backup> {
    make_directory(unfinished)?;
    let mut new_bytes = 0;
    for copier in copiers {
        new_bytes += copier.copy_to(unfinished, earlier)?;
    }
    format::write_format(unfinished, copiers.len() as u32)?;
    fs::rename(unfinished, target)?;
    // The rename must survive a loss of power, like the files.
    sync_directory(target.parent().unwrap_or(target))?;

    let path = fs::canonicalize(target)?;
    let messages = copiers.iter().map(|copier| copier.messages).sum();
    let bytes = disk_bytes(&path);
    Ok(Backup { path, messages, bytes, new_bytes, removed: Vec::new() })
}

/// Locks other daemons out of the backup directory while a backup is made.
struct BackupDirectory {
    _lock: File,
}

impl BackupDirectory {
    fn take(backups: &Path) -> io::Result<Self> {
        let lock = File::create(backups.join("LOCK"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(io::Error::other(
                "another daemon is making a backup there: give each a directory of its own",
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Removes unfinished backups.
fn clear(backups: &Path) -> io::Result<()> {
    for entry in fs::read_dir(backups)? {
        let path = entry?.path();
        // Only what a backup can have created is removed.
        if path.extension().is_some_and(|extension| extension == UNFINISHED) && is_stamp(&path) {
            tracing::warn!("removing {}, which is an unfinished backup", path.display());
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// A name for a new backup that sorts after all others, even if the clock was set back within a
/// second.
fn free_name(backups: &Path) -> PathBuf {
    let stamp = stamp();
    let names =
        std::iter::once(stamp.clone()).chain((1..).map(|number| format!("{stamp}-{number}")));
    names.map(|name| backups.join(name)).find(|target| !target.exists()).unwrap_or_default()
}

impl Copier {
    /// Copies the log into a backup, linking to the files of an earlier one. Returns the bytes
    /// written.
    fn copy_to(&self, backup: &Path, earlier: Option<&Path>) -> io::Result<u64> {
        let target = backup.join(&self.name);
        make_directory(&target)?;
        let earlier = earlier.map(|earlier| earlier.join(&self.name));
        let mut new_bytes = 0;
        for number in &self.segments {
            for kind in [SegmentFile::Segment(*number), SegmentFile::Index(*number)] {
                match take_over(kind, &self.directory, earlier.as_deref(), &target) {
                    Ok(bytes) => new_bytes += bytes,
                    // A missing index is rebuilt when it is needed.
                    Err(_) if kind == SegmentFile::Index(*number) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let (number, file, bytes) = &self.last;
        let copy = File::create(SegmentFile::Segment(*number).path(&target))?;
        copy_bytes(file, &copy, *bytes)?;
        copy.sync_all()?;
        sync_directory(&target)?;
        Ok(new_bytes + bytes)
    }
}

/// Copies the first bytes of a file that is still being written.
fn copy_bytes(from: &File, mut to: &File, bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut at = 0;
    while at < bytes {
        let count = buffer.len().min((bytes - at) as usize);
        from.read_exact_at(&mut buffer[..count], at)?;
        to.write_all(&buffer[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// Adds a file to a backup: as a link to the store's file, as a link to that of an earlier backup,
/// or as a copy. Returns the bytes written.
fn take_over(
    kind: SegmentFile,
    store: &Path,
    earlier: Option<&Path>,
    target: &Path,
) -> io::Result<u64> {
    let (source, target) = (kind.path(store), kind.path(target));
    // A full segment never changes, so a link is as good as a copy.
    if fs::hard_link(&source, &target).is_ok() {
        return Ok(0);
    }
    let source_file = fs::metadata(&source)?;
    if let Some(earlier) = earlier.map(|earlier| kind.path(earlier)) {
        // A reused segment file has another number, and a full segment never changes.
        let is_same = fs::metadata(&earlier).is_ok_and(|file| {
            file.len() == source_file.len() && same_content(&earlier, &source).unwrap_or(false)
        });
        if is_same && fs::hard_link(&earlier, &target).is_ok() {
            return Ok(0);
        }
    }
    let bytes = fs::copy(&source, &target)?;
    File::open(&target)?.sync_all()?;
    Ok(bytes)
}

/// Whether two files start with the same bytes; with the checksums of their first messages, two
/// different segments never do.
fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    Ok(beginning(one)? == beginning(other)?)
}

fn beginning(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(64 * 1024).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The backups in a directory, oldest first: everything with the name of a backup that contains a
/// store.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_backup =
            path.extension().is_none() && is_stamp(&path) && path.join("FORMAT").exists();
        found.extend(is_backup.then_some(path));
    }
    // `20261129T171500Z-2` comes before `20261129T171500Z-10`.
    found.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (stamp, number) =
            name.split_once('-').map_or((&*name, ""), |(stamp, number)| (stamp, number));
        (stamp.to_owned(), number.parse::<u64>().unwrap_or(0))
    });
    Ok(found)
}

/// Whether a path has the name of a backup, finished or not.
fn is_stamp(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let Some((stamp, number)) = name.split_at_checked(STAMP_CHARS) else { return false };
    let is_stamp = stamp.bytes().enumerate().all(|(at, byte)| match at {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    });
    // A number distinguishes backups made within one second.
    let is_numbered = match number.strip_prefix('-') {
        Some(number) => !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()),
        None => number.is_empty(),
    };
    is_stamp && is_numbered
}

/// Removes all but the newest `count` backups of a directory. Returns the removed ones.
///
/// # Errors
/// When one cannot be removed.
pub fn keep(directory: &Path, count: usize) -> io::Result<Vec<PathBuf>> {
    let mut backups = list(directory)?;
    backups.truncate(backups.len().saturating_sub(count));
    for backup in &backups {
        // A partly removed backup must not look like one; the next backup clears it away.
        let going = backup.with_extension(UNFINISHED);
        fs::rename(backup, &going)?;
        fs::remove_dir_all(&going)?;
    }
    Ok(backups)
}

/// The current time as a sortable name: `20261121T171500Z`.
fn stamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Utc::of(now * 1000).seconds('T').to_string().replace(['-', ':'], "") + "Z"
}

pub(super) fn disk_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return fs::metadata(path).map_or(0, |file| file.blocks() * 512);
    };
    entries.filter_map(Result::ok).map(|entry| disk_bytes(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_the_time_in_order() {
        let stamp = stamp();
        assert_eq!(stamp.len(), "20261121T171500Z".len());
        assert!(&*stamp > "20250101T000000Z" && &*stamp < "21000101T000000Z", "{stamp}");
    }

    #[test]
    fn a_backup_has_the_time_as_its_name_and_nothing_else_has() {
        for (name, expected) in [
            ("20261121T171500Z", true),
            ("20261121T171500Z-12", true),
            ("20261121T171500Z.unfinished", true),
            ("20261121T171500Z-", false),
            ("20261121T171500Z-x", false),
            ("20261121T171500Zx", false),
            ("store.old", false),
            ("LOCK", false),
            ("2026-11-21T17150", false),
        ] {
            assert_eq!(is_stamp(Path::new(name)), expected, "{name}");
        }
    }
}
