//! Whether the store can be written: failures, retries, and free space.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pause before a failed disk is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How often free space is checked, and how often while there is too little.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY_FULL: Duration = Duration::from_millis(200);
/// Bytes written after which it is checked anyway: a fast writer fills more than the reserve in a
/// second.
const LOOK_BYTES: u64 = 4 * 1024 * 1024;
/// How long messages may still be refused after there is space again, because more is being freed.
const RECLAIMING_MAX: Duration = Duration::from_secs(1);
/// Free bytes below which space is freed that would otherwise be kept for a while.
const TIGHT_BYTES: u64 = 128 * 1024 * 1024;
/// What is written to try the disk, repeatedly up to half a segment.
static TRIAL: [u8; 64 * 1024] = [0x55; 64 * 1024];
const TRIAL_BYTES: usize = 4 * 1024 * 1024;

/// The store's file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreVolume {
    pub(super) used: u64,
    pub(super) free: u64,
}

impl StoreVolume {
    /// Its usage in percent, as `df` computes it.
    pub(super) fn percent(self) -> u64 {
        (u128::from(self.used) * 100).div_ceil(u128::from((self.used + self.free).max(1))) as u64
    }

    /// The file system of a directory; `None` if it cannot be queried.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        let space = rustix::fs::statvfs(directory).ok()?;
        let used = space.f_blocks.saturating_sub(space.f_bfree).saturating_mul(space.f_frsize);
        Some(Self { used, free: space.f_bavail.saturating_mul(space.f_frsize) })
    }
}

/// What the store knows of its own room before it asks the file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoomOutlook<'a> {
    /// Bytes that must stay free.
    pub(super) free_bytes_min: u64,
    /// Bytes of messages written so far.
    pub(super) written: u64,
    /// Why no further segment could be created.
    pub(super) no_segment: Option<&'a str>,
    /// Whether more space is being freed.
    pub(super) is_reclaiming: bool,
}

/// The state of the disk.
#[derive(Default)]
pub(super) struct StoreHealth {
    directory: PathBuf,
    failure: Option<StoreFailure>,
    /// Why messages are refused although writing works.
    full: Option<String>,
    looked: Option<Instant>,
    /// Since when there is space while messages are still refused.
    room_since: Option<Instant>,
    /// Whether space was low at the last check.
    is_tight: bool,
    /// Bytes written up to the last check.
    written: u64,
}

struct StoreFailure {
    reason: String,
    since: Instant,
    /// When to try again; `None` when files are missing.
    next_try: Option<Instant>,
}

impl StoreHealth {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.into(), ..Self::default() }
    }

    /// Why nothing can be written.
    pub(super) fn reason(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| &*failure.reason)
    }

    /// Why messages are refused.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.reason().or(self.full.as_deref())
    }

    /// Whether little space is left for messages.
    pub(super) fn is_tight(&self) -> bool {
        self.is_tight
    }

    /// Records a failed write.
    pub(super) fn fail(&mut self, reason: &str) {
        let now = Instant::now();
        // The failure was logged when it began.
        if let Some(failure) = &mut self.failure {
            failure.next_try = failure.next_try.map(|_| now + RETRY_AFTER);
            return;
        }
        tracing::error!(
            "the store cannot be written: {reason}; new messages are refused until it can, \
             stored ones are still delivered"
        );
        let reason = format!("the store cannot be written: {reason}");
        self.failure = Some(StoreFailure { reason, since: now, next_try: Some(now + RETRY_AFTER) });
    }

    /// Records missing files, which stops writing until the next start.
    pub(super) fn lose(&mut self, reason: &str) {
        // Logged already, and only a start can repair it.
        if self.failure.as_ref().is_some_and(|failure| failure.next_try.is_none()) {
            return;
        }
        let reason = format!("the store cannot be written: {reason}");
        tracing::error!("{reason}; messages are refused until then");
        self.failure = Some(StoreFailure { reason, since: Instant::now(), next_try: None });
    }

    /// When to try or check again.
    pub(super) fn due(&self) -> Option<Instant> {
        let looking = self.full.as_ref().and(self.looked).map(|looked| looked + LOOK_EVERY_FULL);
        self.failure.as_ref().map_or(looking, |failure| failure.next_try)
    }

    /// Makes a retry due now.
    #[cfg(test)]
    pub(super) fn retry_now(&mut self) {
        if let Some(failure) = &mut self.failure {
            failure.next_try = Some(Instant::now());
        }
    }

    /// Whether a retry is due, and a file can be written and synced.
    pub(super) fn may_work_again(&mut self) -> bool {
        let now = Instant::now();
        let Some(failure) = self.failure.as_mut() else { return false };
        if failure.next_try.is_none_or(|next_try| next_try > now) {
            return false;
        }
        // Set before the trial, which may take as long as a hanging disk does.
        failure.next_try = Some(now + RETRY_AFTER);
        self.trial().is_ok()
    }

    /// Writes a file of half a segment's size and removes it.
    pub(super) fn trial(&self) -> io::Result<()> {
        let path = self.directory.join("trial");
        let tried = File::create(&path).and_then(|mut file| {
            for _ in 0..TRIAL_BYTES / TRIAL.len() {
                file.write_all(&TRIAL)?;
            }
            file.sync_all()
        });
        // A leftover does no harm: the next trial overwrites it.
        let _ = std::fs::remove_file(&path);
        tried
    }

    /// Records that writing works again.
    pub(super) fn recover(&mut self) {
        if let Some(failure) = self.failure.take() {
            let seconds = failure.since.elapsed().as_secs();
            tracing::warn!(
                "the store can be written again after {seconds} s; messages are accepted"
            );
        }
    }

    /// Checks for free space from time to time. Returns whether it checked.
    pub(super) fn look(&mut self, outlook: RoomOutlook<'_>) -> bool {
        let RoomOutlook { free_bytes_min, written, no_segment, is_reclaiming } = outlook;
        let now = Instant::now();
        let is_full = no_segment.is_some();
        let every = if self.full.is_some() { LOOK_EVERY_FULL } else { LOOK_EVERY };
        let is_recent = self.looked.is_some_and(|looked| now - looked < every);
        if is_recent
            && written.saturating_sub(self.written) < LOOK_BYTES
            && is_full <= self.full.is_some()
        {
            return false;
        }
        (self.looked, self.written) = (Some(now), written);

        let Some(StoreVolume { free, .. }) = StoreVolume::of(&self.directory) else { return true };
        self.is_tight = free < free_bytes_min.saturating_add(TIGHT_BYTES);

        let reason = match no_segment {
            Some(reason) => {
                format!("the store's file system has no room for another segment: {reason}")
            }
            None if free < free_bytes_min => format!(
                "the store's file system is nearly full: {free} bytes are free, \
                 store.free_bytes_min is {free_bytes_min}"
            ),
            None => {
                self.room_again(is_reclaiming, now);
                return true;
            }
        };
        if self.full.is_none() {
            tracing::error!(
                "{reason}; new messages are refused, stored ones are delivered and can be \
                 acknowledged: let consumers catch up, purge or delete topics, or make room on the \
                 file system"
            );
        }
        self.full = Some(reason);
        self.room_since = None;
        true
    }

    /// Records that there is space. While more is being freed, waits a moment, so that messages are
    /// not accepted and refused by turns.
    fn room_again(&mut self, is_reclaiming: bool, now: Instant) {
        let since = *self.room_since.get_or_insert(now);
        if is_reclaiming && now - since < RECLAIMING_MAX {
            return;
        }
        if self.full.take().is_some() {
            tracing::warn!("there is room for the store again; messages are accepted");
        }
    }
}
