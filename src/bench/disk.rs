//! The disk that a store is on: a directory for it, and the floor of all that is durable, a plain loop of write(2) and
//! fdatasync(2).

use super::{BenchError, interrupt};
use hdrhistogram::Histogram;
use rustix::fs::fdatasync;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes after which the floor begins its file anew, as a journal does.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A directory on the disk that is measured; removed when dropped.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// One below `parent`, or else beside this program, or where temporary files are.
    pub(super) fn new(parent: Option<&Path>, name: &str) -> Result<Self, BenchError> {
        let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
        let tried = match parent {
            Some(parent) => vec![parent.to_owned()],
            None => beside.into_iter().chain([std::env::temp_dir()]).collect(),
        };
        let mut reason = std::io::ErrorKind::NotFound.into();
        for parent in tried {
            let directory = parent.join(name);
            match fs::create_dir(&directory) {
                Ok(()) => return Ok(Self(directory)),
                Err(error) => reason = error,
            }
        }
        Err(BenchError::Io {
            what: "make a directory for the store (name one with --store DIR)",
            source: reason,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file that is written and synced in a loop.
#[derive(Debug)]
pub(super) struct Floor {
    file: File,
}

/// What the loop has done.
#[derive(Debug)]
pub(super) struct Writes {
    count: u64,
    elapsed: Duration,
    latency: Histogram<u64>,
}

impl Floor {
    /// A file in this directory.
    pub(super) fn new(directory: &Path) -> Result<Self, BenchError> {
        let file = File::create(directory.join("floor"));
        Ok(Self { file: file.map_err(|source| BenchError::Io { what: "make the floor's file", source })? })
    }

    /// Writes and syncs so many bytes, again and again, for `seconds`.
    pub(super) fn measure(&mut self, bytes: usize, seconds: f64) -> Result<Writes, BenchError> {
        let failed = |source| BenchError::Io { what: "write the floor's file", source };
        let group = vec![b'x'; bytes];
        let mut latency = super::side::histogram();
        let (start, mut count, mut length) = (Instant::now(), 0, 0);
        while start.elapsed().as_secs_f64() < seconds {
            interrupt::check()?;
            if length + bytes as u64 > FILE_BYTES_MAX {
                self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(failed)?;
                length = 0;
            }
            let before = Instant::now();
            self.file.write_all(&group).map_err(failed)?;
            fdatasync(&self.file).map_err(|error| failed(error.into()))?;
            latency.saturating_record(before.elapsed().as_nanos() as u64);
            length += bytes as u64;
            count += 1;
        }
        Ok(Writes { count, elapsed: start.elapsed(), latency })
    }
}

impl Writes {
    /// How many there were in a second.
    pub(super) fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    /// A quantile of the time that one took, in microseconds.
    pub(super) fn latency_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_gone_with_its_contents_when_it_is_dropped() {
        let parent = std::env::temp_dir();
        let directory =
            Directory::new(Some(&parent), &format!("fanfare-disk-{}", std::process::id())).unwrap();
        let path = directory.path().to_owned();
        let writes = Floor::new(&path).unwrap().measure(100, 0.01).unwrap();
        assert!(writes.per_second() > 0.0 && writes.latency_us(0.5) > 0.0);
        assert!(path.join("floor").exists());
        drop(directory);
        assert!(!path.exists());
        assert!(Directory::new(Some(&path), "below-nothing").is_err());
    }
}
