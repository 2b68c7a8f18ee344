//! Copies of a store: a backup while the daemon runs, and a look at one without changing it.

use super::archive::Disk;
use super::base::{self, Base, delayed_key, describe, message_key};
use super::format::{self, OpenError};
use super::journal;
use super::settings::Settings;
use super::{tables, walk};
use crate::topic::Position;
use fjall::{Keyspace, Readable as _, Snapshot};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a file that is copied for a look at the store; longer ones are tables, which nobody changes.
const COPIED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// A complete store, which `store.path` can name.
    pub path: PathBuf,
    /// Messages in it.
    pub messages: u64,
    /// Bytes of it on the disk.
    pub bytes: u64,
}

/// What is needed to make a backup beside the store's thread.
pub(in crate::io) struct Copier {
    base: Base,
    all: Snapshot,
    settings: Settings,
    target: PathBuf,
}

impl Disk {
    /// Takes the store as it is now, to be copied by another thread.
    ///
    /// # Errors
    /// When the store is closed after a failure.
    pub(super) fn copier(&self) -> Result<Copier, String> {
        let base = self.base.clone().ok_or("the store is closed")?;
        let backups = self.settings.backup_path.clone().unwrap_or_else(|| self.directory.join("backups"));
        let settings = Settings { path: None, ..self.settings.clone() };
        let stamp = stamp();
        // The clock may have been set back.
        let names = std::iter::once(stamp.clone()).chain((1..).map(|number| format!("{stamp}-{number}")));
        let target = names.map(|name| backups.join(name)).find(|target| !target.exists()).unwrap_or_default();
        Ok(Copier { all: base.snapshot(), base, settings, target })
    }

    /// Makes a backup, and waits for it.
    ///
    /// # Errors
    /// When it cannot be made, with the reason.
    pub fn backup(&self) -> Result<Backup, String> {
        self.copier()?.copy()
    }
}

/// Copies what all owners have: those beside the first are in directories in its copy.
pub(super) fn copy_all(copiers: Vec<Copier>) -> Result<Backup, String> {
    let mut all: Option<Backup> = None;
    for (index, mut copier) in copiers.into_iter().enumerate() {
        if let Some(first) = &all {
            copier.target = first.path.join(format!("w{index}"));
        }
        let made = copier.copy().inspect_err(|_| {
            // What has one part only is no store.
            let _ = all.as_ref().map(|first| fs::remove_dir_all(&first.path));
        })?;
        all = Some(match all {
            Some(all) => {
                Backup { messages: all.messages + made.messages, bytes: all.bytes + made.bytes, ..all }
            }
            None => made,
        });
    }
    all.ok_or_else(|| "there is nothing to copy".into())
}

impl Copier {
    /// Writes the copy; it has its name when it is whole.
    pub(super) fn copy(self) -> Result<Backup, String> {
        let unfinished = self.target.with_extension("unfinished");
        let copied = self.copy_to(&unfinished).and_then(|messages| {
            fs::rename(&unfinished, &self.target).map_err(|error| error.to_string())?;
            let parent = self.target.parent().unwrap_or(Path::new("."));
            fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| error.to_string())?;
            let bytes = disk_bytes(&self.target);
            Ok(Backup { path: self.target.clone(), messages, bytes })
        });
        copied.map_err(|reason| {
            let _ = fs::remove_dir_all(&unfinished);
            format!("no backup was made in {}: {reason}", self.target.display())
        })
    }

    fn copy_to(&self, path: &Path) -> Result<u64, String> {
        let io = |error: io::Error| error.to_string();
        let _ = fs::remove_dir_all(path);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let copy = Base::open(&format::data(path), &self.settings).map_err(|error| describe(&error))?;
        let (base, all) = (&self.base, &self.all);
        copy_named(all, base, &copy.meta[0])?;
        copy_named(all, base, &copy.meta[1])?;
        let topics = base::topics(base) as u32;
        copy_records((all, &base.delayed), &copy.delayed, topics, true)?;
        let messages = copy_records((all, &base.messages), &copy.messages, topics, false)?;
        copy.db.persist(fjall::PersistMode::SyncAll).map_err(|error| describe(&error))?;
        drop(copy);
        format::write_format(path).map_err(io)?;
        Ok(messages)
    }
}

/// Copies what has a name, from whichever can be read.
pub(super) fn copy_named(all: &Snapshot, from: &Base, to: &Keyspace) -> Result<(), String> {
    let read =
        |keyspace: &Keyspace| all.iter(keyspace).map(fjall::Guard::into_inner).collect::<Result<Vec<_>, _>>();
    let items = read(&from.meta[0]).or_else(|_| read(&from.meta[1])).map_err(|error| describe(&error))?;
    let mut ingestion = to.start_ingestion().map_err(|error| describe(&error))?;
    for (key, value) in items {
        ingestion.write(key, value).map_err(|error| describe(&error))?;
    }
    ingestion.finish().map_err(|error| describe(&error))
}

/// Copies the records of all topics, as far as they can be read, and returns how many there were.
pub(super) fn copy_records(
    source: walk::Source<'_>,
    to: &Keyspace,
    topics: u32,
    is_delayed: bool,
) -> Result<u64, String> {
    let mut ingestion = to.start_ingestion().map_err(|error| describe(&error))?;
    let (mut count, mut result) = (0, Ok(()));
    for topic in 0..=topics {
        let bounds = if is_delayed {
            [(0, Position::FIRST), (u64::MAX, Position::END)].map(|place| delayed_key(topic, place).to_vec())
        } else {
            [Position::FIRST, Position::END].map(|place| message_key(topic, place).to_vec())
        };
        let read = walk::records(source, &bounds[0], &bounds[1], |found| {
            if let Some((key, record)) = found {
                count += 1;
                result = ingestion.write(key, record);
            }
            result.is_ok()
        });
        std::mem::replace(&mut result, Ok(())).and(read.map(drop)).map_err(|error| describe(&error))?;
    }
    ingestion.finish().map_err(|error| describe(&error))?;
    Ok(count)
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
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(path) else {
        return fs::metadata(path).map_or(0, |file| file.blocks() * 512);
    };
    entries.filter_map(Result::ok).map(|entry| disk_bytes(&entry.path())).sum()
}

/// What a look at a store found.
#[derive(Debug, Default)]
pub struct Report {
    /// What is printed, a line each.
    pub lines: Vec<String>,
    /// Whether something of it is damaged.
    pub is_damaged: bool,
}

impl From<String> for Report {
    fn from(line: String) -> Self {
        Self { lines: vec![line], is_damaged: false }
    }
}

/// Looks at the store of these settings and changes nothing; with `all` every table is read.
///
/// # Errors
/// When it could not be opened, with what to do.
pub fn check(settings: &Settings, all: bool) -> Result<Report, OpenError> {
    let directory = settings.path.clone().ok_or(OpenError::NoPath)?;
    let unusable = |error| OpenError::Directory(directory.clone(), error);
    let name = directory.display();
    match fs::metadata(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(format!("store  {name}: not there yet, the first start makes it").into());
        }
        Err(error) => return Err(unusable(error)),
        Ok(file) if !file.is_dir() => return Err(unusable(io::ErrorKind::NotADirectory.into())),
        Ok(_) => {}
    }
    if format::is_new(&directory)? {
        return Ok(format!("store  {name}: empty, the first start makes it").into());
    }
    let head = format!("store  {name}: format {}", format::FORMAT);
    if format::is_locked(&directory).map_err(unusable)? {
        let unread = if all { "; its tables were not read: stop it first, or look at a backup" } else { "" };
        return Ok(format!("{head}, in use by a running daemon{unread}").into());
    }
    let data = format::data(&directory);
    format::inspect(&directory, &data, false)?;
    let findings = journal::look(&data).map_err(unusable)?;
    let mut report = Report { is_damaged: !findings.damaged.is_empty(), ..Report::default() };
    for damage in findings.damaged.iter().take(16) {
        report.lines.push(format!("store  damaged: {}", damage.tell(1)));
    }
    if findings.cut_bytes > 0 {
        report.lines.push(format!(
            "store  an unfinished write of {} bytes at the end, which the next start cuts off",
            findings.cut_bytes
        ));
    }
    for table in all.then(|| tables::damaged(&data)).into_iter().flatten() {
        report.is_damaged = true;
        report.lines.push(format!("store  damaged: {} is not what was written", table.display()));
    }
    let temporary = std::env::temp_dir().join(format!("fanfare-check-{}-{}", std::process::id(), stamp()));
    let counted = look_into(&data, &temporary, &directory, settings);
    let _ = fs::remove_dir_all(&temporary);
    let counted = match counted {
        Ok((topics, messages)) => format!("{topics} topics, about {messages} messages"),
        // There may be no room for the copy, which says nothing of the store.
        Err(OpenError::Directory(_, error)) => {
            format!("which could not be counted in {}: {error}", temporary.display())
        }
        Err(error) => return Err(error),
    };
    report.lines.insert(0, format!("{head}, {counted}"));
    Ok(report)
}

/// Opens a copy whose tables are the store's own, which are never changed, only taken out of the list.
fn look_into(
    data: &Path,
    copy: &Path,
    directory: &Path,
    settings: &Settings,
) -> Result<(u64, u64), OpenError> {
    let unusable = |error| OpenError::Directory(directory.into(), error);
    // Not into a directory that somebody else has put there.
    DirBuilder::new().mode(0o700).create(copy).map_err(unusable)?;
    mirror(data, &format::data(copy)).map_err(unusable)?;
    journal::mend(copy, &format::data(copy), false).map_err(unusable)?;
    let base = format::open_base(copy, settings)?;
    Ok((base::topics(&base), base.messages.approximate_len() as u64))
}

/// Copies small files and links to tables.
fn mirror(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let is_tables = from.file_name().is_some_and(|name| name == "tables");
    for entry in fs::read_dir(from)? {
        let (path, target) =
            (entry.as_ref().map(fs::DirEntry::path), entry.as_ref().map(fs::DirEntry::file_name));
        let (Ok(path), Ok(name)) = (path, target) else { continue };
        let target = to.join(name);
        if path.is_dir() {
            mirror(&path, &target)?;
        } else if is_tables {
            symlink(fs::canonicalize(&path)?, &target)?;
        } else if fs::metadata(&path)?.len() <= COPIED_BYTES_MAX {
            copy_sparse(&path, &target)?;
        }
    }
    Ok(())
}

/// Copies a file up to its last byte that is not zero: a journal has reserved what is behind it.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    if from.extension().is_some_and(|extension| extension == "jnl") {
        return journal::copy_used(from, to);
    }
    fs::copy(from, to).map(|_| ())
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
