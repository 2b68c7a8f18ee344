//! Room on a disk: small file systems, and what the files of a store take.

use crate::harness::{root, skip};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1024 * 1024;

/// A small file system in memory; unmounted when dropped.
pub(crate) struct Small {
    /// Where it is.
    pub(crate) path: PathBuf,
    _directory: TempDir,
}

impl Small {
    /// One of so many bytes; none where this user may not mount.
    pub(crate) fn new(what: &str, bytes: u64) -> Option<Self> {
        if !root() {
            skip(what, "only root may mount a small file system");
            return None;
        }
        let directory = TempDir::with_prefix("fanfare-small-").unwrap();
        let path = directory.path().to_owned();
        let size = format!("size={bytes}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status();
        if !mounted.is_ok_and(|status| status.success()) {
            skip(what, "mounting is not allowed here");
            return None;
        }
        Some(Self { path, _directory: directory })
    }

    /// Makes it so large.
    pub(crate) fn grow(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        assert!(
            Command::new("mount").args(["-o", &size]).arg(&self.path).status().unwrap().success()
        );
    }

    /// Bytes that are free.
    pub(crate) fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.path).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// How often the room of a directory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Bytes that the files below a directory take on the disk; what goes away meanwhile takes none.
pub(crate) fn room(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => room(&entry.path()),
        // The unit of this field is always 512 bytes.
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// Looks at the room of a directory all the time.
pub(crate) struct Watch {
    highest: Arc<AtomicU64>,
    /// Disconnected when it is over.
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches this directory.
    pub(crate) fn new(directory: &Path) -> Self {
        let (over, is_over) = channel();
        let highest = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let (directory, highest) = (directory.to_owned(), Arc::clone(&highest));
            move || {
                loop {
                    highest.fetch_max(room(&directory), Ordering::Relaxed);
                    if is_over.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            }
        });
        Self { highest, over: Some(over), thread: Some(thread) }
    }

    /// The most bytes that were seen.
    pub(crate) fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
