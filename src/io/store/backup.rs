//! Backups: complete stores as they were at one moment, made while the daemon runs, and how one is put in place.
//!
//! A full segment never changes, so it is linked where the file system can and else copied once: a later backup in the
//! same place links to the copy of an earlier one. Only the end of the log is copied each time.

use super::archive::Disk;
use super::check;
use super::format::{self, OpenError};
use super::keeper::sync_directory;
use super::segment::Kind;
use super::settings::Settings;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// The extension of a backup that is being made.
const UNFINISHED: &str = "unfinished";

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// A complete store, by its whole path.
    pub path: PathBuf,
    /// Messages in it.
    pub messages: u64,
    /// Bytes of its files, those included that it shares with the store or other backups.
    pub bytes: u64,
}

/// An owner's log at one moment: what is needed to copy it beside its thread.
pub(in crate::io) struct Copier {
    settings: Settings,
    directory: PathBuf,
    name: PathBuf,
    /// Segments that are full.
    segments: Vec<u32>,
    /// The last one, and how much of it there is.
    last: (u32, Arc<File>, u64),
    messages: u64,
    _pin: Pin,
}

/// Keeps segments from going while a backup reads them.
struct Pin(Arc<Mutex<usize>>);

impl Pin {
    fn new(count: &Arc<Mutex<usize>>) -> Self {
        if let Ok(mut count) = count.lock() {
            *count += 1;
        }
        Self(count.clone())
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Ok(mut count) = self.0.lock() {
            *count -= 1;
        }
    }
}

impl Disk {
    /// The log as it is now, with everything that was saved.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn copier(&mut self) -> Result<Copier, String> {
        self.save_to_disk().map_err(String::from)?;
        let active = &self.log.active;
        let segments = self.catalog.segments.range(..active.number).map(|(number, _)| *number).collect();
        Ok(Copier {
            settings: self.settings.clone(),
            directory: self.log.directory.clone(),
            name: self.log.directory.file_name().map(PathBuf::from).unwrap_or_default(),
            segments,
            last: (active.number, active.file.clone(), active.written as u64),
            messages: self.catalog.messages(),
            _pin: Pin::new(&self.reclaim.pinned),
        })
    }

    /// Makes a backup of a store of one owner, and waits for it.
    ///
    /// # Errors
    /// When it cannot be made, with the reason.
    pub fn backup(&mut self) -> Result<Backup, String> {
        copy_all(&[self.copier()?])
    }
}

/// Makes a backup of the logs of all owners; it has its name when it is whole.
pub(super) fn copy_all(copiers: &[Copier]) -> Result<Backup, String> {
    let Some(Copier { settings, .. }) = copiers.first() else {
        return Err("there is nothing to copy".into());
    };
    let store = settings.path.clone().unwrap_or_default();
    let backups = settings.backup_path.clone().unwrap_or_else(|| store.join("backups"));
    let stamp = stamp();
    // The clock may have been set back.
    let names = std::iter::once(stamp.clone()).chain((1..).map(|number| format!("{stamp}-{number}")));
    let target = names.map(|name| backups.join(name)).find(|target| !target.exists()).unwrap_or_default();
    let unfinished = target.with_extension(UNFINISHED);

    let copy = || {
        let _ = fs::remove_dir_all(&unfinished);
        make_directory(&unfinished)?;
        let earlier = list(&backups)?.pop();
        copiers.iter().try_for_each(|copier| copier.copy_to(&unfinished, earlier.as_deref()))?;
        format::write_format(&unfinished, settings.writers as u32)?;
        fs::rename(&unfinished, &target)?;
        sync_directory(&backups)?;
        let path = fs::canonicalize(&target)?;
        let messages = copiers.iter().map(|copier| copier.messages).sum();
        let bytes = disk_bytes(&path);
        Ok(Backup { path, messages, bytes })
    };
    copy().map_err(|error: io::Error| {
        let _ = fs::remove_dir_all(&unfinished);
        format!("no backup was made in {}: {error}", target.display())
    })
}

impl Copier {
    /// Copies the log into a backup, after an earlier one.
    fn copy_to(&self, backup: &Path, earlier: Option<&Path>) -> io::Result<()> {
        let target = backup.join(&self.name);
        make_directory(&target)?;
        let earlier = earlier.map(|earlier| earlier.join(&self.name));
        for number in &self.segments {
            for kind in [Kind::Segment(*number), Kind::Index(*number)] {
                let done = take_over(kind, &self.directory, earlier.as_deref(), &target);
                // An index is made anew when it is gone.
                done.or_else(|error| if kind == Kind::Index(*number) { Ok(()) } else { Err(error) })?;
            }
        }
        let (number, file, bytes) = &self.last;
        let copy = File::create(Kind::Segment(*number).path(&target))?;
        copy_bytes(file, &copy, *bytes)?;
        copy.sync_all()?;
        sync_directory(&target)
    }
}

/// Copies the first bytes of a file that is being written.
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

/// Gives a backup a file: a link to the store's own, or to that of an earlier backup, or a copy.
fn take_over(kind: Kind, store: &Path, earlier: Option<&Path>, target: &Path) -> io::Result<()> {
    let (source, target) = (kind.path(store), kind.path(target));
    if fs::hard_link(&source, &target).is_ok() {
        return Ok(());
    }
    let source_file = fs::metadata(&source)?;
    if let Some(earlier) = earlier.map(|earlier| kind.path(earlier)) {
        // A file that is used again for another segment has another name, and a segment that is full one content.
        let is_same = fs::metadata(&earlier).is_ok_and(|file| {
            file.len() == source_file.len() && same_content(&earlier, &source).unwrap_or(false)
        });
        if is_same && fs::hard_link(&earlier, &target).is_ok() {
            return Ok(());
        }
    }
    fs::copy(&source, &target)?;
    File::open(&target)?.sync_all()
}

/// Whether two files begin alike: with the checks of the first messages, no two segments do.
fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let beginning = |path: &Path| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(64 * 1024).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Ok(beginning(one)? == beginning(other)?)
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The backups in a directory, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_backup = path.join("FORMAT").exists() && path.extension().is_none_or(|it| it != UNFINISHED);
        found.extend(is_backup.then_some(path));
    }
    // `20261129T171500Z-2` comes before `20261129T171500Z-10`.
    found.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (stamp, number) = name.split_once('-').map_or((&*name, ""), |(stamp, number)| (stamp, number));
        (stamp.to_owned(), number.parse::<u64>().unwrap_or(0))
    });
    Ok(found)
}

/// Removes all backups of a directory but the newest ones. Returns those that are gone.
///
/// # Errors
/// When one cannot be removed.
pub fn keep(directory: &Path, count: usize) -> io::Result<Vec<PathBuf>> {
    let mut backups = list(directory)?;
    backups.truncate(backups.len().saturating_sub(count));
    backups.iter().try_for_each(fs::remove_dir_all)?;
    Ok(backups)
}

/// Puts a backup in the place of a store that is not there, or empty. The backup stays as it is.
///
/// # Errors
/// When the backup is none, or not whole, or when there is a store.
pub fn restore(backup: &Path, settings: &Settings) -> Result<check::Report, RestoreError> {
    let store = settings.path.clone().ok_or(OpenError::NoPath)?;
    let failed = |error| RestoreError::Copy(backup.into(), store.clone(), error);
    let writers = match format::read_format(backup)? {
        Some(writers) => writers,
        None => return Err(RestoreError::NoBackup(backup.into())),
    };
    match fs::read_dir(&store) {
        Ok(mut entries) => {
            if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lost+found")) {
                return Err(RestoreError::InTheWay(store));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_directory(&store).map_err(failed)?,
        Err(error) => return Err(failed(error)),
    }
    let report = check::check(&Settings { path: Some(backup.into()), ..settings.clone() }, false)?;
    for owner in 0..writers {
        let (from, to) = (format::log_path(backup, owner), format::log_path(&store, owner));
        copy_log(&from, &to).map_err(failed)?;
    }
    // Last, so that what is not whole is no store.
    format::write_format(&store, writers).map_err(failed)?;
    Ok(report)
}

/// Why a backup is not restored. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is no backup.
    #[error("{0} is no backup: name a directory that `fanfare topics backup` has made")]
    NoBackup(PathBuf),
    /// There is something already.
    #[error("{0} is not empty, and nothing is overwritten: move it away first")]
    InTheWay(PathBuf),
    /// It cannot be copied.
    #[error("{0} cannot be restored to {1}: {2}")]
    Copy(PathBuf, PathBuf, io::Error),
    /// The backup cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
}

fn copy_log(from: &Path, to: &Path) -> io::Result<()> {
    make_directory(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        fs::copy(entry.path(), &target)?;
        File::open(&target)?.sync_all()?;
    }
    sync_directory(to)
}

/// The time as a name that sorts: `20261121T171500Z`.
fn stamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (now / 86_400, now % 86_400);
    // The civil calendar from days since 1970, by eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

fn disk_bytes(path: &Path) -> u64 {
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
}
