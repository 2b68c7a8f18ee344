//! A thread for work on whole files that nothing waits for: segments are prepared before they are
//! wanted, indexes are written, and what is needed no more is taken away or used again.
//!
//! A segment that is needed no more becomes the next one: writing over blocks that a file has already lets the disk sync
//! twice as fast as new blocks do (measured on ext4: 116 instead of 232 µs for 150 KB).

use super::place::Index;
use super::segment::{self, SegmentFile};
use rustix::fs::FallocateFlags;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Segments that are kept to be used again; more would only take room.
const SPARES_MAX: usize = 2;

/// Something to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Makes the file of a segment with all its room; `filled` with zeros, which makes syncs faster and takes a write.
    Prepare { number: u32, is_filled: bool },
    /// Writes an index beside its segment.
    WriteIndex(u32, Arc<Index>),
    /// Takes segments away, or keeps them as spares.
    Drop(Vec<u32>),
    /// Reads a whole segment.
    Read(u32),
}

/// Something that was done.
#[derive(Debug)]
pub(super) enum Done {
    Prepared(u32, io::Result<File>),
    IndexWritten(u32),
    Dropped,
    Read(u32, io::Result<Vec<u8>>),
}

/// The thread.
#[derive(Debug)]
pub(super) struct Keeper {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
    /// Jobs that are not done.
    outstanding: usize,
}

impl Keeper {
    /// Starts it for the log of this directory, whose segments have so many bytes.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(directory: &Path, segment_bytes: usize) -> io::Result<Self> {
        let (jobs, taken) = mpsc::channel();
        let (sender, done) = mpsc::channel();
        let mut work =
            KeeperWork { directory: directory.into(), segment_bytes, spares: Vec::new() };
        let thread = std::thread::Builder::new().name("files".into()).spawn(move || {
            for job in taken {
                // The store may have ended.
                let _ = sender.send(work.run(job));
            }
        })?;
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread), outstanding: 0 })
    }

    /// Has something done, after what was asked for before.
    pub(super) fn ask(&mut self, job: Job) {
        self.outstanding += 1;
        if let Some(jobs) = &self.jobs {
            // A thread that has ended is noticed when its work is awaited.
            let _ = jobs.send(job);
        }
    }

    /// What was done, if something was.
    pub(super) fn poll(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        self.outstanding -= 1;
        Some(done)
    }

    /// The same, waiting for it.
    pub(super) fn wait(&mut self, time: Duration) -> Option<Done> {
        match self.done.recv_timeout(time) {
            Ok(done) => {
                self.outstanding -= 1;
                Some(done)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Whether something is still to come back.
    pub(super) fn is_busy(&self) -> bool {
        self.outstanding > 0
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct KeeperWork {
    directory: PathBuf,
    segment_bytes: usize,
    /// Segments that are needed no more and still have their old names, which no start takes for needed ones.
    spares: Vec<u32>,
}

impl KeeperWork {
    fn run(&mut self, job: Job) -> Done {
        match job {
            Job::Prepare { number, is_filled } => {
                Done::Prepared(number, self.prepare(number, is_filled))
            }
            Job::WriteIndex(number, index) => {
                // Without the file it is made anew when it is wanted.
                let _ = segment::write_index(&self.directory, number, &index);
                Done::IndexWritten(number)
            }
            Job::Drop(numbers) => {
                numbers.into_iter().for_each(|number| self.drop(number));
                Done::Dropped
            }
            Job::Read(number) => Done::Read(number, segment::read_whole(&self.directory, number)),
        }
    }

    fn prepare(&mut self, number: u32, is_filled: bool) -> io::Result<File> {
        let path = SegmentFile::Segment(number).path(&self.directory);
        // Its place may be that of a spare, or of one that an earlier run has prepared.
        self.spares.retain(|spare| *spare != number);
        while !path.exists()
            && let Some(spare) = self.spares.pop()
        {
            // Where it cannot be used again, another is made.
            let _ = fs::rename(SegmentFile::Segment(spare).path(&self.directory), &path);
        }
        provide(&self.directory, number, self.segment_bytes, is_filled)
    }

    fn drop(&mut self, number: u32) {
        let path = SegmentFile::Segment(number).path(&self.directory);
        // A backup may have it too, which would change with it.
        let is_ours = fs::metadata(&path)
            .is_ok_and(|file| file.nlink() == 1 && file.len() == self.segment_bytes as u64);
        if is_ours && self.spares.len() < SPARES_MAX {
            let _ = fs::remove_file(SegmentFile::Index(number).path(&self.directory));
            self.spares.push(number);
        } else {
            remove(&self.directory, number);
        }
    }
}

/// Removes a segment that is needed no more, and its index.
pub(super) fn remove(directory: &Path, number: u32) {
    // There may be none, and one that is left is written over.
    let _ = fs::remove_file(SegmentFile::Index(number).path(directory));
    let path = SegmentFile::Segment(number).path(directory);
    if let Err(error) = fs::remove_file(&path) {
        tracing::warn!("{} is needed no more and cannot be removed: {error}", path.display());
    }
}

/// The file of a segment in which there is nothing: one that is there already if it has all its room, or a new one.
///
/// # Errors
/// As those of making one.
pub(super) fn provide(
    directory: &Path,
    number: u32,
    bytes: usize,
    is_filled: bool,
) -> io::Result<File> {
    let path = SegmentFile::Segment(number).path(directory);
    let has_room =
        fs::metadata(&path).is_ok_and(|file| file.len() == bytes as u64 && file.nlink() == 1);
    // A file that a backup has too would change with it, and one of another size has been made for other
    // settings.
    if !has_room {
        return create(directory, number, bytes, is_filled);
    }
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    file.sync_all()?;
    sync_directory(directory)?;
    Ok(file)
}

/// Makes the file of a segment, with all its room.
///
/// # Errors
/// When there is no room, or another reason; then there is no file.
fn create(directory: &Path, number: u32, bytes: usize, is_filled: bool) -> io::Result<File> {
    let path = SegmentFile::Segment(number).path(directory);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    let made = if is_filled {
        fill(&file, bytes)
    } else {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes as u64) {
            // Not every file system has it.
            Err(rustix::io::Errno::OPNOTSUPP) => fill(&file, bytes),
            other => other.map_err(io::Error::from),
        }
    };
    if let Err(error) = made.and_then(|()| file.sync_all()).and_then(|()| sync_directory(directory))
    {
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

fn fill(file: &File, bytes: usize) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(bytes as u64), &mut &*file).map(drop)
}

/// Makes what was made, renamed or removed in a directory outlast a loss of power.
///
/// # Errors
/// When the disk cannot do it.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
