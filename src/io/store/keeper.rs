//! A thread for work on whole files that no request waits for: it prepares segments in advance,
//! writes indexes, and removes or reuses segments that are no longer needed.
//!
//! A segment that is no longer needed becomes a new one: overwriting allocated blocks lets the disk
//! sync twice as fast as writing new ones (measured on ext4: 116 instead of 232 µs for 150 KB).

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

/// Segments kept for reuse; more would only take space.
const SPARES_MAX: usize = 2;

/// A job for the thread.
#[derive(Debug)]
pub(super) enum Job {
    /// Create the file of a segment at its full size; `is_filled` writes zeros, which makes later
    /// syncs faster.
    Prepare { number: u32, is_filled: bool },
    /// Write an index next to its segment.
    WriteIndex(u32, Arc<Index>),
    /// Remove segments, or keep them as spares.
    Drop(Vec<u32>),
    /// Read a whole segment.
    Read(u32),
}

/// The result of a job.
#[derive(Debug)]
pub(super) enum JobResult {
    Prepared(u32, io::Result<File>),
    IndexWritten(u32),
    Dropped,
    Read(u32, io::Result<Vec<u8>>),
}

/// The thread's handle.
#[derive(Debug)]
pub(super) struct Keeper {
    jobs: Option<Sender<Job>>,
    done: Receiver<JobResult>,
    thread: Option<JoinHandle<()>>,
    /// Number of unfinished jobs.
    outstanding: usize,
}

impl Keeper {
    /// Starts the thread for the log of this directory, with segments of `segment_bytes`.
    ///
    /// # Errors
    /// When the thread cannot be started.
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

    /// Queues a job.
    pub(super) fn ask(&mut self, job: Job) {
        self.outstanding += 1;
        if let Some(jobs) = &self.jobs {
            // A thread that has ended is noticed when its results are awaited.
            let _ = jobs.send(job);
        }
    }

    /// The next result, if there is one.
    pub(super) fn poll(&mut self) -> Option<JobResult> {
        let done = self.done.try_recv().ok()?;
        self.outstanding -= 1;
        Some(done)
    }

    /// The next result, waiting up to `time` for it.
    pub(super) fn wait(&mut self, time: Duration) -> Option<JobResult> {
        match self.done.recv_timeout(time) {
            Ok(done) => {
                self.outstanding -= 1;
                Some(done)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Whether results are outstanding.
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
    /// Segments no longer needed, under their old names, which no start takes for needed ones.
    spares: Vec<u32>,
}

impl KeeperWork {
    fn run(&mut self, job: Job) -> JobResult {
        match job {
            Job::Prepare { number, is_filled } => {
                JobResult::Prepared(number, self.prepare(number, is_filled))
            }
            Job::WriteIndex(number, index) => {
                // A missing index is rebuilt when it is needed.
                let _ = segment::write_index(&self.directory, number, &index);
                JobResult::IndexWritten(number)
            }
            Job::Drop(numbers) => {
                numbers.into_iter().for_each(|number| self.drop(number));
                JobResult::Dropped
            }
            Job::Read(number) => {
                JobResult::Read(number, segment::read_whole(&self.directory, number))
            }
        }
    }

    fn prepare(&mut self, number: u32, is_filled: bool) -> io::Result<File> {
        let path = SegmentFile::Segment(number).path(&self.directory);
        // The number may be that of a spare, or of a segment prepared by an earlier run.
        self.spares.retain(|spare| *spare != number);
        while !path.exists()
            && let Some(spare) = self.spares.pop()
        {
            // If the spare cannot be renamed, a new file is created.
            let _ = fs::rename(SegmentFile::Segment(spare).path(&self.directory), &path);
        }
        provide(&self.directory, number, self.segment_bytes, is_filled)
    }

    fn drop(&mut self, number: u32) {
        let path = SegmentFile::Segment(number).path(&self.directory);
        // A backup may share the file, and reuse would change the backup.
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

/// Removes a segment that is no longer needed, and its index.
pub(super) fn remove(directory: &Path, number: u32) {
    // The index may not exist, and a leftover is overwritten.
    let _ = fs::remove_file(SegmentFile::Index(number).path(directory));
    let path = SegmentFile::Segment(number).path(directory);
    if let Err(error) = fs::remove_file(&path) {
        tracing::warn!("cannot remove {}, which is no longer needed: {error}", path.display());
    }
}

/// The file of an empty segment: an existing one of the full size, or a new one.
///
/// # Errors
/// Those of creating one.
pub(super) fn provide(
    directory: &Path,
    number: u32,
    bytes: usize,
    is_filled: bool,
) -> io::Result<File> {
    let path = SegmentFile::Segment(number).path(directory);
    let has_room =
        fs::metadata(&path).is_ok_and(|file| file.len() == bytes as u64 && file.nlink() == 1);
    // A file shared with a backup must not be changed, and one of another size was made with other
    // settings.
    if !has_room {
        return create(directory, number, bytes, is_filled);
    }
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    file.sync_all()?;
    sync_directory(directory)?;
    Ok(file)
}

/// Creates the file of a segment at its full size.
///
/// # Errors
/// When there is no space, or for another reason; then no file is left.
fn create(directory: &Path, number: u32, bytes: usize, is_filled: bool) -> io::Result<File> {
    let path = SegmentFile::Segment(number).path(directory);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    let made = if is_filled {
        fill(&file, bytes)
    } else {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes as u64) {
            // Not every file system supports it.
            Err(rustix::io::Errno::OPNOTSUPP) => fill(&file, bytes),
            other => other.map_err(io::Error::from),
        }
    };
    if let Err(error) = made.and_then(|()| file.sync_all()).and_then(|()| sync_directory(directory))
    {
        // A file of the wrong size must not be taken for a prepared segment.
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

fn fill(file: &File, bytes: usize) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(bytes as u64), &mut &*file).map(drop)
}

/// Makes creations, renames and removals in a directory survive a loss of power.
///
/// # Errors
/// When the disk fails.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
