//! What a target is given now, kept where the end of the process does not take it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long one input may take. Most take far less than a millisecond; a loaded machine is no reason for so many seconds.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// The input of the moment, in a file. A thread watches that it changes.
pub(crate) struct Trail {
    path: PathBuf,
    failed: PathBuf,
    file: File,
    count: Arc<AtomicU64>,
    /// Ends the thread by being dropped.
    _watched: Sender<()>,
}

impl Trail {
    /// Files go into this folder: `fuzz-TARGET` is the last input that failed, `fuzz-TARGET-now` that of the moment, and
    /// `fuzz-TARGET-ended` what was that when a process ended.
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

    /// Keeps the next input; no page is written to the disk for it.
    pub(crate) fn keep(&self, input: &[u8]) {
        self.count.fetch_add(1, Relaxed);
        self.file.write_all_at(input, 0).unwrap();
        self.file.set_len(input.len() as u64).unwrap();
    }

    /// The input of the moment has failed. Returns where it is from now on.
    pub(crate) fn fail(&self) -> &Path {
        fs::rename(&self.path, &self.failed).unwrap();
        &self.failed
    }

    /// Nothing has failed.
    pub(crate) fn end(self) {
        fs::remove_file(self.path).unwrap();
    }
}
