//! The current input of a target, in a file that outlives the process.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Maximum time of one input. Most take far less than a millisecond, and a loaded machine does not
/// stretch that to seconds.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// The current input, in a file. A thread watches that it changes.
pub(crate) struct Trail {
    path: PathBuf,
    failed: PathBuf,
    file: File,
    count: Arc<AtomicU64>,
    /// Ends the thread when it is dropped.
    _watched: Sender<()>,
}

impl Trail {
    /// Starts with files in this folder: `fuzz-TARGET` is the last input that failed,
    /// `fuzz-TARGET-now` the current one, and `fuzz-TARGET-ended` the one at which a process ended.
    pub(crate) fn start(folder: &Path, target: &'static str) -> Self {
        let [failed, path, ended] =
            ["", "-now", "-ended"].map(|end| folder.join(format!("fuzz-{target}{end}")));
        let _ = fs::rename(&path, ended);
        let file = File::create(&path).unwrap();
        let count = Arc::new(AtomicU64::new(0));
        let (watched, end) = channel::<()>();
        let (counted, shown) = (Arc::clone(&count), path.display().to_string());
        std::thread::spawn(move || {
            let mut before = counted.load(Relaxed);
            while end.recv_timeout(HANGS_AFTER) == Err(RecvTimeoutError::Timeout) {
                let now = counted.load(Relaxed);
                if now == before {
                    // Not by a macro: what is printed in a test is only shown when it ends.
                    let text = format!("{target} hangs with the input in {shown}\n");
                    let _ = std::io::stderr().write_all(text.as_bytes());
                    std::process::abort();
                }
                before = now;
            }
        });
        Self { path, failed, file, count, _watched: watched }
    }

    /// Keeps the next input, without waiting for the disk.
    pub(crate) fn keep(&self, input: &[u8]) {
        self.count.fetch_add(1, Relaxed);
        self.file.write_all_at(input, 0).unwrap();
        self.file.set_len(input.len() as u64).unwrap();
    }

    /// Keeps the current input as one that failed. Returns its file.
    pub(crate) fn fail(&self) -> &Path {
        fs::rename(&self.path, &self.failed).unwrap();
        &self.failed
    }

    /// Removes the current input: nothing has failed.
    pub(crate) fn end(self) {
        fs::remove_file(self.path).unwrap();
    }
}
