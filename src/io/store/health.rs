//! Whether the store can be written: what has failed, when it is tried again, and how much room there is.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long after a failure the disk is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How often the free space is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often, by what was written meanwhile: a fast writer fills more than the reserve in a second.
const LOOK_BYTES: u64 = 4 * 1024 * 1024;
/// What is written to try the disk, as often as it takes to get a memtable's bytes.
static TRIAL: [u8; 64 * 1024] = [0x55; 64 * 1024];
const TRIAL_BYTES: usize = 4 * 1024 * 1024;

/// What is known of the disk.
pub(super) struct Health {
    directory: PathBuf,
    failure: Option<Failure>,
    /// Why no messages are taken although writing works.
    full: Option<String>,
    looked: Option<Instant>,
    /// Bytes that were written by then.
    written: u64,
}

struct Failure {
    reason: String,
    since: Instant,
    next_try: Instant,
}

impl Health {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.into(), failure: None, full: None, looked: None, written: 0 }
    }

    /// Why nothing can be written.
    pub(super) fn reason(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| &*failure.reason)
    }

    /// Why no messages are taken.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.reason().or(self.full.as_deref())
    }

    /// Keeps that writing has failed.
    pub(super) fn fail(&mut self, reason: &str) {
        let now = Instant::now();
        if let Some(failure) = &mut self.failure {
            failure.next_try = now + RETRY_AFTER;
            return;
        }
        tracing::error!(
            "the store cannot be written: {reason}; messages are refused until it can, what is stored is delivered"
        );
        let reason = format!("the store cannot be written: {reason}");
        self.failure = Some(Failure { reason, since: now, next_try: now + RETRY_AFTER });
    }

    /// When something is to be tried or looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        let looking = self.full.as_ref().and(self.looked).map(|looked| looked + LOOK_EVERY);
        self.failure.as_ref().map(|failure| failure.next_try).or(looking)
    }

    /// Whether it is time to try again, and a file can be written and synced.
    pub(super) fn may_work_again(&mut self) -> bool {
        let now = Instant::now();
        let Some(failure) = self.failure.as_mut().filter(|failure| failure.next_try <= now) else {
            return false;
        };
        failure.next_try = now + RETRY_AFTER;
        self.trial().is_ok()
    }

    /// Writes a file as large as a memtable and removes it.
    pub(super) fn trial(&self) -> io::Result<()> {
        let path = self.directory.join("trial");
        let tried = File::create(&path).and_then(|mut file| {
            for _ in 0..TRIAL_BYTES / TRIAL.len() {
                file.write_all(&TRIAL)?;
            }
            file.sync_all()
        });
        let _ = std::fs::remove_file(&path);
        tried
    }

    /// Writing works again.
    pub(super) fn recover(&mut self) {
        if let Some(failure) = self.failure.take() {
            let seconds = failure.since.elapsed().as_secs();
            tracing::warn!("the store can be written again, after {seconds} s: messages are taken");
        }
    }

    /// Looks from time to time whether there is room for messages, of which so many bytes were written by now.
    pub(super) fn look(&mut self, free_bytes_min: u64, written: u64) {
        let now = Instant::now();
        let is_recent = self.looked.is_some_and(|looked| now - looked < LOOK_EVERY);
        if is_recent && written.saturating_sub(self.written) < LOOK_BYTES {
            return;
        }
        (self.looked, self.written) = (Some(now), written);
        let Ok(space) = rustix::fs::statvfs(&self.directory) else { return };
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free >= free_bytes_min {
            if self.full.take().is_some() {
                tracing::warn!("there is room for the store again: messages are taken");
            }
        } else if self.full.is_none() {
            let reason = format!(
                "the store's file system is nearly full: {free} bytes are free, store.free_bytes_min is {free_bytes_min}"
            );
            tracing::error!(
                "{reason}; messages are refused, what is stored is delivered and can be acknowledged"
            );
            self.full = Some(reason);
        }
    }
}
