//! Whether the store can be written: what has failed, when it is tried again, and how much room there is.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long after a failure the disk is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How often the free space is looked at, and while there is too little.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY_FULL: Duration = Duration::from_millis(200);
/// How often, by what was written meanwhile: a fast writer fills more than the reserve in a second.
const LOOK_BYTES: u64 = 4 * 1024 * 1024;
/// How long messages are refused at most although there is room, because more of it is being given back.
const RECLAIMING_MAX: Duration = Duration::from_secs(1);
/// Bytes that may be left for messages before room is given back that would else be kept for a while.
const TIGHT_BYTES: u64 = 128 * 1024 * 1024;
/// What is written to try the disk, as often as it takes to get half a segment's bytes.
static TRIAL: [u8; 64 * 1024] = [0x55; 64 * 1024];
const TRIAL_BYTES: usize = 4 * 1024 * 1024;

/// The store's file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreVolume {
    pub(super) used: u64,
    pub(super) free: u64,
}

impl StoreVolume {
    /// How full it is, as `df` says.
    pub(super) fn percent(self) -> u64 {
        (u128::from(self.used) * 100).div_ceil(u128::from((self.used + self.free).max(1))) as u64
    }

    /// What is known of the file system of a directory, as far as it can be told.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        let space = rustix::fs::statvfs(directory).ok()?;
        let used = space.f_blocks.saturating_sub(space.f_bfree).saturating_mul(space.f_frsize);
        Some(Self { used, free: space.f_bavail.saturating_mul(space.f_frsize) })
    }
}

/// What is known of the disk.
#[derive(Default)]
pub(super) struct StoreHealth {
    directory: PathBuf,
    failure: Option<StoreFailure>,
    /// Why no messages are taken although writing works.
    full: Option<String>,
    looked: Option<Instant>,
    /// Since when there is room while messages are still refused.
    room_since: Option<Instant>,
    /// Whether there was little room then.
    is_tight: bool,
    /// Bytes that were written by then.
    written: u64,
}

struct StoreFailure {
    reason: String,
    since: Instant,
    /// When it is tried again; never when the files are gone.
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

    /// Why no messages are taken.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.reason().or(self.full.as_deref())
    }

    /// Whether there is little room left for messages.
    pub(super) fn is_tight(&self) -> bool {
        self.is_tight
    }

    /// Keeps that writing has failed.
    pub(super) fn fail(&mut self, reason: &str) {
        let now = Instant::now();
        // It was told when it began.
        if let Some(failure) = &mut self.failure {
            failure.next_try = failure.next_try.map(|_| now + RETRY_AFTER);
            return;
        }
        tracing::error!(
            "the store cannot be written: {reason}; messages are refused until it can, what is \
             stored is delivered"
        );
        let reason = format!("the store cannot be written: {reason}");
        self.failure = Some(StoreFailure { reason, since: now, next_try: Some(now + RETRY_AFTER) });
    }

    /// Keeps that files of the store are gone, which ends writing until the next start.
    pub(super) fn lose(&mut self, reason: &str) {
        // It was told, and nothing but a start mends it.
        if self.failure.as_ref().is_some_and(|failure| failure.next_try.is_none()) {
            return;
        }
        let reason = format!("the store cannot be written: {reason}");
        tracing::error!("{reason}; messages are refused until then");
        self.failure = Some(StoreFailure { reason, since: Instant::now(), next_try: None });
    }

    /// When something is to be tried or looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        let looking = self.full.as_ref().and(self.looked).map(|looked| looked + LOOK_EVERY_FULL);
        self.failure.as_ref().map_or(looking, |failure| failure.next_try)
    }

    /// Has it be time to try again.
    #[cfg(test)]
    pub(super) fn retry_now(&mut self) {
        if let Some(failure) = &mut self.failure {
            failure.next_try = Some(Instant::now());
        }
    }

    /// Whether it is time to try again, and a file can be written and synced.
    pub(super) fn may_work_again(&mut self) -> bool {
        let now = Instant::now();
        let Some(failure) = self.failure.as_mut() else { return false };
        if failure.next_try.is_none_or(|next_try| next_try > now) {
            return false;
        }
        // Before the trial, which may take as long as the disk does.
        failure.next_try = Some(now + RETRY_AFTER);
        self.trial().is_ok()
    }

    /// Writes a file as large as half a segment and removes it.
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

    /// Looks from time to time whether there is room for messages, of which so many bytes were written, or for this reason
    /// no other segment. Returns whether it has looked.
    pub(super) fn look(
        &mut self,
        free_bytes_min: u64,
        written: u64,
        no_segment: Option<&str>,
        is_reclaiming: bool,
    ) -> bool {
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
                "{reason}; messages are refused, what is stored is delivered and can be \
                 acknowledged: let consumers catch up, purge or delete topics, or make room on the \
                 file system"
            );
        }
        self.full = Some(reason);
        self.room_since = None;
        true
    }

    /// There is room. While more is being given back it is waited for a moment, so that messages are not taken and refused
    /// by turns.
    fn room_again(&mut self, is_reclaiming: bool, now: Instant) {
        let since = *self.room_since.get_or_insert(now);
        if is_reclaiming && now - since < RECLAIMING_MAX {
            return;
        }
        if self.full.take().is_some() {
            tracing::warn!("there is room for the store again: messages are taken");
        }
    }
}
