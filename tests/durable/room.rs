//! Small file systems.

use crate::harness::{root, skip};
use std::path::PathBuf;
use std::process::Command;
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
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status();
        if !mounted.is_ok_and(|status| status.success()) {
            skip(what, "mounting is not allowed here");
            return None;
        }
        Some(Self { path, _directory: directory })
    }

    /// Makes it so large.
    pub(crate) fn grow(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.path).status().unwrap().success());
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
