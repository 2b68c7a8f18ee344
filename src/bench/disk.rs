//! The disk that a store is on: a directory for it, the room that it takes there, and the floor of
//! all that is durable, a plain loop of write(2) and fdatasync(2).

use super::error::failed;
use super::{interrupt, side};
use crate::cli::CliError;
use hdrhistogram::Histogram;
use rustix::fs::fdatasync;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Bytes after which the floor begins its file anew, as a log does.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How often the room of a directory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The unit of `st_blocks`, whatever the file system's own blocks are.
const BLOCK_BYTES: u64 = 512;

/// What the system puts behind the name of a file that is deleted and still open.
const DELETED: &str = " (deleted)";

/// What the names of directories begin with that are made for a measurement.
pub(super) const PREFIX: &str = "fanfare-bench-";

/// Makes a directory below `parent`, or else beside this program, or where temporary files are.
pub(super) fn directory(parent: Option<&Path>) -> Result<TempDir, CliError> {
    let program = std::env::current_exe().ok();
    let beside = program.and_then(|program| Some(program.parent()?.to_owned()));
    let tried = match parent {
        Some(parent) => vec![parent.to_owned()],
        None => beside.into_iter().chain([std::env::temp_dir()]).collect(),
    };
    let mut reason = std::io::ErrorKind::NotFound.into();
    // Where the program is installed may be read-only.
    for parent in tried {
        match tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent) {
            Ok(directory) => return Ok(directory),
            Err(error) => reason = error,
        }
    }
    Err(failed("make a directory for the store (name one with --store DIR)")(reason))
}

/// Looks at the room that a directory takes, again and again, until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

/// What the watching thread shares.
#[derive(Debug)]
struct Seen {
    directory: PathBuf,
    /// The process that may hold files of it open which are deleted.
    pid: AtomicU32,
    highest: AtomicU64,
    is_over: AtomicBool,
}

impl Watch {
    /// Watches this directory, and the process that works in it.
    pub(super) fn new(directory: PathBuf, pid: u32) -> Result<Self, CliError> {
        let seen = Arc::new(Seen {
            directory,
            pid: AtomicU32::new(pid),
            highest: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&seen);
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
            // Looked at again and again: the store does not say when it takes room.
            while !shared.is_over.load(Relaxed) {
                shared.look();
                std::thread::sleep(LOOK_EVERY);
            }
        });
        let thread = thread.map_err(failed("start the thread that watches the disk"))?;
        Ok(Self { seen, thread: Some(thread) })
    }

    /// Another process works in it now.
    pub(super) fn follow(&self, pid: u32) {
        self.seen.pid.store(pid, Relaxed);
    }

    /// Bytes that it takes now.
    pub(super) fn now(&self) -> u64 {
        self.seen.look()
    }

    /// The most bytes that were seen.
    pub(super) fn highest(&self) -> u64 {
        self.seen.highest.load(Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Seen {
    fn look(&self) -> u64 {
        let held = held_open(&self.directory, self.pid.load(Relaxed));
        let bytes = blocks_below(&self.directory) + held;
        // Two threads may look at once.
        self.highest.fetch_max(bytes, Relaxed);
        bytes
    }
}

/// The room of all files below a directory: blocks that are allocated, however long the files say
/// they are. What goes away meanwhile takes none.
fn blocks_below(directory: &Path) -> u64 {
    // Segments are deleted while they are looked at.
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let rooms = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => blocks_below(&entry.path()),
        Ok(metadata) => metadata.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    });
    rooms.sum()
}

/// The room of files of this directory that are deleted, which the disk does not get back before
/// they are closed.
fn held_open(directory: &Path, pid: u32) -> u64 {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let mut room = 0;
    for descriptor in descriptors.flatten().map(|entry| entry.path()) {
        let Ok(name) = fs::read_link(&descriptor) else { continue };
        if name.starts_with(directory)
            && name.to_string_lossy().ends_with(DELETED)
            && let Ok(metadata) = fs::metadata(&descriptor)
            // A file that only has such a name is not deleted, and counted already.
            && metadata.nlink() == 0
        {
            room += metadata.blocks() * BLOCK_BYTES;
        }
    }
    room
}

/// A file that is written and synced in a loop.
#[derive(Debug)]
pub(super) struct DiskFloor {
    file: File,
}

/// What the loop has done.
#[derive(Debug)]
pub(super) struct Writes {
    count: u64,
    elapsed: Duration,
    latency: Histogram<u64>,
}

impl DiskFloor {
    /// A file in this directory.
    pub(super) fn new(directory: &Path) -> Result<Self, CliError> {
        let file = File::create(directory.join("floor"));
        Ok(Self { file: file.map_err(failed("make the floor's file"))? })
    }

    /// Writes and syncs so many bytes, again and again, for `seconds`.
    pub(super) fn measure(&mut self, bytes: usize, seconds: f64) -> Result<Writes, CliError> {
        let group = vec![b'x'; bytes];
        let mut latency = side::histogram();
        let (start, mut count, mut length) = (Instant::now(), 0, 0);
        while start.elapsed().as_secs_f64() < seconds {
            interrupt::check()?;
            // A file that grows for ever would measure the file system's allocation.
            if length + bytes as u64 > FILE_BYTES_MAX {
                self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(unwritten)?;
                length = 0;
            }
            let before = Instant::now();
            self.file.write_all(&group).map_err(unwritten)?;
            fdatasync(&self.file).map_err(|error| unwritten(error.into()))?;
            latency.saturating_record(before.elapsed().as_nanos() as u64);
            length += bytes as u64;
            count += 1;
        }
        Ok(Writes { count, elapsed: start.elapsed(), latency })
    }
}

fn unwritten(error: io::Error) -> CliError {
    failed("write the floor's file")(error)
}

impl Writes {
    /// How many there were in a second.
    pub(super) fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    /// A quantile of the time that one took, in microseconds.
    pub(super) fn latency_us(&self, quantile: f64) -> f64 {
        side::quantile_us(&self.latency, quantile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_gone_with_its_contents_when_it_is_dropped() {
        let parent = std::env::temp_dir();
        let directory = directory(Some(&parent)).unwrap();
        let path = directory.path().to_owned();
        let writes = DiskFloor::new(&path).unwrap().measure(100, 0.01).unwrap();
        assert!(writes.per_second() > 0.0 && writes.latency_us(0.5) > 0.0);
        assert!(path.join("floor").exists());
        drop(directory);
        assert!(!path.exists());
        assert!(super::directory(Some(&path)).is_err());
    }

    #[test]
    fn what_is_deleted_takes_room_until_it_is_closed() {
        const MIB: usize = 1024 * 1024;
        let parent = std::env::temp_dir();
        let directory = directory(Some(&parent)).unwrap();
        let below = directory.path().join("below");
        fs::create_dir(&below).unwrap();
        let watch = Watch::new(directory.path().to_owned(), std::process::id()).unwrap();
        assert_eq!(watch.now(), 0);
        let mut file = File::create(below.join("file")).unwrap();
        file.write_all(&vec![1; MIB]).unwrap();
        file.sync_all().unwrap();
        assert!(watch.now() >= MIB as u64);
        fs::remove_file(below.join("file")).unwrap();
        assert!(watch.now() >= MIB as u64);
        drop(file);
        assert_eq!(watch.now(), 0);
        assert!(watch.highest() >= MIB as u64);
    }
}
