//! The archive on disk: [`topic::Archive`](crate::service::topic::Archive) implemented by a log of
//! segments, with its catalog in memory.
//!
//! Writes are buffered until [`Disk::commit`] or [`Disk::settle`] passes them to the system.

use super::catalog::Catalog;
use super::format::{self, OpenError};
use super::health::{RoomOutlook, StoreHealth};
use super::log::{StoreLog, Unsynced};
use super::place::Address;
use super::reclaiming::Reclaim;
use super::record::Record;
use super::recovery::{Findings, Recovered};
use super::segment;
use super::settings::{Durability, StoreSettings};
use crate::metrics::Metrics;
use crate::service::topic::{
    Archive, ArchiveError, OwnerIndex, Position, Saved, StoredMessage, StoredTopic, TopicNumber,
};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long acknowledgements may wait for a sync of the disk.
const SAVED_AFTER: Duration = Duration::from_secs(1);
/// Messages in a commit up to which the store's thread syncs itself: for so few, handing over to
/// another thread costs more than it gains.
const COMMITTED_HERE_MAX: usize = 4;
/// Limit on delayed messages: each takes some 50 bytes of memory until it is delivered.
const DELAYED_MAX: usize = 1_000_000;
/// Damaged messages at the end of a topic that are skipped in the search for the last good one.
const LAST_TRIED_MAX: usize = 64;
/// How often to check that the files still exist, and how often while the store is idle.
const PRESENT_EVERY: Duration = Duration::from_millis(100);
const PRESENT_EVERY_IDLE: Duration = Duration::from_millis(500);
/// How soon to poll the keeper's results.
const POLL_AFTER: Duration = Duration::from_millis(5);

/// The archive of an owner of topics.
pub struct Disk {
    pub(super) settings: StoreSettings,
    /// The store's directory.
    pub(super) directory: PathBuf,
    pub(super) log: StoreLog,
    pub(super) catalog: Catalog,
    pub(super) reclaim: Reclaim,
    pub(super) health: StoreHealth,
    pub(super) metrics: Arc<Metrics>,
    pub(super) findings: Findings,
    /// The owner of these topics; their numbers, modulo the number of owners, equal its index.
    owner: OwnerIndex,
    pub(super) reported: HashSet<(TopicNumber, Position)>,
    /// Whether writing works again, not yet announced.
    has_healed: bool,
    /// Whether anything was written whose answer waits for a commit.
    wants_commit: bool,
    /// When the oldest write was made that the disk may not have.
    dirty_since: Option<Instant>,
    /// Messages appended since the last commit began.
    appended: usize,
    /// When the sync by the other thread began.
    begun: Option<Instant>,
    /// When the files were last checked, and their directory's modification time then.
    seen: Instant,
    changed: (i64, i64),
    /// Locks out other daemons.
    _lock: Arc<File>,
}

impl Disk {
    /// Opens a store with one owner, or creates it; works around the remains of a crash or damage,
    /// and logs them.
    ///
    /// # Errors
    /// When it cannot be used, with advice.
    pub fn open(settings: &StoreSettings) -> Result<Self, OpenError> {
        let settings = StoreSettings { writers: 1, ..settings.clone() };
        Self::open_all(&settings)?.pop().ok_or(OpenError::NoPath)
    }

    /// Opens the archives of all owners.
    ///
    /// # Errors
    /// When the store cannot be used, with advice.
    pub fn open_all(settings: &StoreSettings) -> Result<Vec<Self>, OpenError> {
        let directory = settings.path.clone().ok_or(OpenError::NoPath)?;
        let (lock, is_new) = format::take(&directory, settings)?;
        let mut disks = Vec::new();
        // One lock for all owners: the store is free when the last of them has ended.
        let lock = Arc::new(lock);
        for owner in OwnerIndex::all(settings.writers) {
            let (log, recovered) =
                format::open_log(&directory, owner.index() as u32, is_new, settings)?;
            disks.push(Self::new(settings, &directory, (log, recovered), owner, lock.clone()));
        }
        if is_new {
            // Written last, so that a directory with this file has a complete log.
            format::write_format(&directory, settings.writers as u32)
                .map_err(|error| format::unusable(&directory, error))?;
        }
        for disk in &mut disks {
            disk.save_to_disk().map_err(|reason| {
                OpenError::Directory(directory.clone(), io::Error::other(String::from(reason)))
            })?;
        }
        Ok(disks)
    }

    fn new(
        settings: &StoreSettings,
        directory: &Path,
        (log, recovered): (StoreLog, Recovered),
        owner: OwnerIndex,
        lock: Arc<File>,
    ) -> Self {
        let Recovered { catalog, findings, began, .. } = recovered;
        let metrics = Arc::<Metrics>::default();
        metrics.store.damaged.add(findings.count());
        Self {
            settings: settings.clone(),
            directory: directory.into(),
            log,
            catalog,
            reclaim: Reclaim::new(began),
            health: StoreHealth::new(directory),
            metrics,
            findings,
            owner,
            reported: HashSet::new(),
            has_healed: false,
            wants_commit: false,
            dirty_since: None,
            appended: 0,
            begun: None,
            seen: Instant::now(),
            changed: (0, 0),
            _lock: lock,
        }
    }

    /// Adopts these metrics.
    #[must_use]
    pub fn counting(mut self, metrics: Arc<Metrics>) -> Self {
        metrics.store.damaged.add(self.metrics.store.damaged.get());
        metrics.store.configured.set(1);
        self.metrics = metrics;
        self
    }

    /// Bytes of an unfinished write discarded on opening, and the number of damaged places in the
    /// log.
    #[must_use]
    pub fn found(&self) -> (u64, usize) {
        (self.findings.cut_bytes, self.findings.damages.len())
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Makes all writes safe to the extent of the configured durability. A failure stops writing
    /// until [`Disk::look`] finds that it works again.
    ///
    /// # Errors
    /// When they are not safe, with the reason.
    pub fn commit(&mut self) -> Result<(), Box<str>> {
        self.wants_commit = false;
        let start = Instant::now();
        let is_due =
            self.dirty_since.is_some_and(|since| start - since >= self.settings.interval());
        let syncs = match self.settings.durability {
            Durability::Interval => is_due,
            Durability::Never => false,
            Durability::Always => true,
        };
        self.persist(syncs)?;
        self.metrics.store.commit(start.elapsed().as_nanos() as u64);
        Ok(())
    }

    /// Makes all writes safe, whatever the configured durability.
    ///
    /// # Errors
    /// When they are not safe, with the reason.
    pub fn save_to_disk(&mut self) -> Result<(), Box<str>> {
        self.wants_commit = false;
        self.persist(true)
    }

    /// Begins to make all writes safe. `None` when they already are, to the extent of the
    /// configured durability; otherwise the file to sync, after which [`Disk::commit_ended`] must
    /// be called. Later writes are not waited for.
    ///
    /// # Errors
    /// When they cannot be made safe, with the reason.
    pub fn begin_commit(&mut self) -> Result<Option<Unsynced>, Box<str>> {
        let count = std::mem::take(&mut self.appended);
        if self.settings.durability != Durability::Always || count <= COMMITTED_HERE_MAX {
            return self.commit().map(|()| None);
        }
        self.wants_commit = false;
        // After a failed sync the system may have dropped unwritten pages, and report success for
        // the next one.
        if let Some(reason) = self.health.reason() {
            return Err(reason.into());
        }
        let begun = Instant::now();
        let unsynced = self.log.begin_sync().map_err(|error| self.fail(&error).0)?;
        if unsynced.is_some() {
            self.begun = Some(begun);
            self.dirty_since = None;
            self.reclaim.note_sync();
        }
        Ok(unsynced)
    }

    /// Ends a commit with the result of its sync.
    ///
    /// # Errors
    /// When the writes are not safe, with the reason.
    pub fn commit_ended(&mut self, result: io::Result<()>) -> Result<(), Box<str>> {
        let begun = self.begun.take();
        // Before the failure is reported: the writes in progress are repeated by the recovery.
        self.log.sync_ended(result.is_ok());
        match result {
            Ok(()) => {
                let lasted = begun.map_or(0, |begun| begun.elapsed().as_nanos() as u64);
                self.metrics.store.commit(lasted);
                self.drop_segments();
                Ok(())
            }
            Err(error) => Err(self.fail(&error).0),
        }
    }

    /// Whether anything was created whose answer waits for the next commit.
    #[must_use]
    pub fn wants_commit(&self) -> bool {
        self.wants_commit
    }

    /// When to call [`Disk::look`] and [`Disk::settle`] next; `None` if nothing is pending.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let keeper = self.log.keeper.is_busy().then(|| now + POLL_AFTER);
        let reclaim = if self.health.reason().is_none() { self.reclaim_due(now) } else { None };
        [self.health.due(), self.sync_due(), keeper, reclaim].into_iter().flatten().min()
    }

    /// When to call [`Disk::look`] at the latest, to check that the files exist.
    pub(super) fn present_due(&self) -> Instant {
        self.seen + PRESENT_EVERY_IDLE
    }

    fn sync_due(&self) -> Option<Instant> {
        let after = match self.settings.durability {
            Durability::Always => SAVED_AFTER,
            Durability::Interval => self.settings.interval(),
            // Space is freed only after a sync.
            Durability::Never if self.reclaim.waits_for_sync() => SAVED_AFTER,
            Durability::Never => return None,
        };
        self.dirty_since.filter(|_| self.health.reason().is_none()).map(|since| since + after)
    }

    /// Checks the disk and its files, and repeats the writes that may be lost when a failing disk
    /// works again.
    pub fn look(&mut self) {
        self.log.poll(&self.catalog);
        self.metrics.store.written.set(self.log.written);
        self.metrics.store.compacted.set(self.reclaim.copied);
        let is_full = self.log.full.is_some();
        if self.look_for_room(None) && is_full {
            self.log.prepare(&self.catalog);
        }
        if self.seen.elapsed() >= PRESENT_EVERY {
            self.seen = Instant::now();
            if let Some(reason) = self.absence() {
                self.health.lose(&reason);
            }
        }
        if self.health.may_work_again() {
            self.heal();
        }
        self.metrics.store.failing.set(u64::from(self.refusal().is_some()));
    }

    /// Checks for free space. `no_segment` is the reason no further segment could be created.
    /// Returns whether it checked.
    fn look_for_room(&mut self, no_segment: Option<&str>) -> bool {
        self.health.look(RoomOutlook {
            free_bytes_min: self.settings.free_bytes_min,
            written: self.metrics.store.bytes.get(),
            no_segment: no_segment.or(self.log.full.as_deref()),
            is_reclaiming: self.health.refusal().is_some() && self.is_reclaiming(),
        })
    }

    /// Why a segment is missing, if one is.
    fn absence(&mut self) -> Option<String> {
        use std::os::unix::fs::MetadataExt as _;
        let (directory, active) = (&self.log.directory, &self.log.active);
        let path = segment::SegmentFile::Segment(active.number).path(directory);
        let ours = active.file.metadata().ok()?;
        // Compared by inode: another file at the same path is not the one being written.
        let is_there = std::fs::metadata(&path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        if !is_there || ours.nlink() == 0 {
            return Some(absent(&path));
        }
        // The other files are checked only when their directory has changed.
        let changed =
            std::fs::metadata(directory).map(|there| (there.mtime(), there.mtime_nsec())).ok()?;
        if std::mem::replace(&mut self.changed, changed) == changed {
            return None;
        }
        let (there, _) = segment::list(directory).ok()?;
        let mut known = self.catalog.segments.keys().chain(self.log.prepared());
        let number = known.find(|number| there.binary_search(number).is_err())?;
        Some(absent(&segment::SegmentFile::Segment(*number).path(directory)))
    }

    /// Why messages are refused; `None` while they are accepted.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.health.refusal()
    }

    /// Whether writing has recovered since the last call: everything written before the failure is
    /// safe then.
    #[must_use]
    pub fn has_healed(&mut self) -> bool {
        std::mem::take(&mut self.has_healed)
    }

    /// Repeats the writes that may not have reached the disk.
    fn heal(&mut self) {
        // A sync still in progress no longer counts: what it covers is written again below.
        self.begun = None;
        match self.log.rewrite(&mut self.catalog) {
            Ok(()) => {
                self.has_healed = true;
                self.dirty_since = None;
                self.reclaim.note_sync();
                self.drop_segments();
                self.health.recover();
            }
            Err(error) => self.health.fail(&error.to_string()),
        }
    }

    /// Passes buffered writes to the system, and syncs those that have waited long enough;
    /// continues freeing space.
    pub fn settle(&mut self) {
        // Space must not be freed while its replacement cannot be written.
        if self.health.reason().is_some() {
            return;
        }
        self.reclaim();
        let is_due = self.sync_due().is_some_and(|due| due <= Instant::now());
        // During a sync, the next commit flushes: so it is known what a failure may have lost.
        if (is_due || self.log.is_unflushed()) && self.begun.is_none() {
            // A failure is reported at the next write.
            let _ = self.persist(is_due);
        }
    }

    /// Whether a sync by the other thread is in progress.
    pub(super) fn is_syncing(&self) -> bool {
        self.begun.is_some()
    }

    pub(super) fn persist(&mut self, syncs: bool) -> Result<(), Box<str>> {
        if let Some(reason) = self.health.reason() {
            return Err(reason.into());
        }
        if syncs {
            self.reclaim.note_sync();
        }
        match if syncs { self.log.sync() } else { self.log.flush() } {
            Ok(()) if syncs => {
                self.dirty_since = None;
                // The other sync may still fail for the copies that replace these segments.
                if !self.is_syncing() {
                    self.drop_segments();
                }
                Ok(())
            }
            Ok(()) => {
                self.log.bound();
                Ok(())
            }
            Err(error) => Err(self.fail(&error).0),
        }
    }

    /// Stops writing until [`Disk::look`] finds that it works again.
    pub(super) fn fail(&mut self, error: &io::Error) -> ArchiveError {
        self.metrics.store.failing.set(1);
        self.health.fail(&error.to_string());
        ArchiveError(format!("the store cannot be written: {error}").into())
    }

    /// Writes a record, unless writing has failed.
    pub(super) fn write(&mut self, record: &Record<'_>) -> Result<Address, ArchiveError> {
        let mut body = Vec::with_capacity(64);
        record.write(&mut body);
        self.write_body(body.len(), false, |out| out.extend_from_slice(&body))
    }

    /// Writes a record, and then applies it to the catalog.
    fn record(&mut self, record: &Record<'_>) -> Result<(), ArchiveError> {
        let at = self.write(record)?;
        // Only messages leave gaps.
        self.catalog.apply(record, at, 0);
        Ok(())
    }

    /// Writes a record with a body of `bytes`, which `write` appends.
    pub(super) fn write_body(
        &mut self,
        bytes: usize,
        is_message: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Address, ArchiveError> {
        if let Some(reason) = self.health.reason() {
            return Err(ArchiveError(reason.into()));
        }
        match self.log.append(&mut self.catalog, bytes, is_message, write) {
            Ok(at) => {
                self.dirty_since.get_or_insert_with(Instant::now);
                Ok(at)
            }
            // A full disk does not damage what was written before.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let reason = error.to_string();
                // From now on for all messages, not only for those too large for the rest of the
                // space.
                self.look_for_room(Some(&reason));
                Err(ArchiveError(self.health.refusal().unwrap_or(&reason).into()))
            }
            Err(error) => Err(self.fail(&error)),
        }
    }
}

/// The message for a missing segment.
pub(super) fn absent(path: &Path) -> String {
    let path = path.display();
    format!(
        "{path} was deleted or moved away while the daemon has it open: stop the daemon and put it \
         back, or restore a backup"
    )
}

impl Archive for Disk {
    fn ledger(&self) -> u32 {
        self.log.ledger
    }

    fn load(&mut self, name: &str) -> Result<Option<StoredTopic>, ArchiveError> {
        let Some(number) = self.catalog.names.get(name).copied() else { return Ok(None) };
        let Some(topic) = self.catalog.topics.get_mut(&number) else { return Ok(None) };
        let mut loaded = topic.loaded(number);
        let mut last = topic.last();
        // Bounded, because each damaged message takes a read of its own.
        for _ in 0..LAST_TRIED_MAX {
            let Some(position) = last else { break };
            loaded.last = self.read(number, position, 1, 1)?.pop();
            if loaded.last.is_some() {
                break;
            }
            last = position.number().checked_sub(1).map(Position::of_number);
        }
        Ok(Some(loaded))
    }

    fn create(&mut self, name: &str) -> Result<TopicNumber, ArchiveError> {
        let number = self.catalog.next_number(self.owner.of() as u32, self.owner.index() as u32);
        let topic = number.ok_or_else(|| {
            ArchiveError("topic numbers are exhausted: too many topics were ever created".into())
        })?;
        self.record(&Record::Topic { topic, name, state: &[] })?;
        self.wants_commit = true;
        Ok(topic)
    }

    fn delete(&mut self, topic: TopicNumber) -> Result<(), ArchiveError> {
        self.record(&Record::NoTopic { topic })?;
        self.wants_commit = true;
        Ok(())
    }

    fn names(
        &mut self,
        prefix: &str,
        after: &str,
        count: usize,
    ) -> Result<Vec<Box<str>>, ArchiveError> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = if after >= prefix { Excluded(after) } else { Included(prefix) };
        let names = self.catalog.names.range::<str, _>((from, Unbounded)).map(|(name, _)| name);
        let names = names.take_while(|name| name.starts_with(prefix)).take(count);
        Ok(names.map(|name| Box::from(&**name)).collect())
    }

    fn append(
        &mut self,
        topic: TopicNumber,
        message: &StoredMessage,
        deliver_ms: Option<u64>,
    ) -> Result<(), ArchiveError> {
        if let Some(reason) = self.health.refusal() {
            return Err(ArchiveError(reason.into()));
        }
        if deliver_ms.is_some() && self.catalog.delayed >= DELAYED_MAX {
            let reason = format!(
                "{DELAYED_MAX} messages are waiting for their delivery time, which is the \
                 limit: retry when some are delivered"
            );
            return Err(ArchiveError(reason.into()));
        }
        let (position, record) = (message.position, message.record());
        let record = Record::Message { topic, position, deliver_ms, is_moved: false, record };
        let bytes = 13 + deliver_ms.map_or(0, |_| 8) + message.len();
        let at = self.write_body(bytes, true, |out| record.write(out))?;
        self.catalog.apply(&record, at, 0);
        self.appended += 1;
        self.metrics.store.messages.add(1);
        self.metrics.store.bytes.add(message.len() as u64);
        Ok(())
    }

    fn read(
        &mut self,
        topic: TopicNumber,
        from: Position,
        count: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<StoredMessage>>, ArchiveError> {
        self.read_messages(topic, from, count, bytes_max)
    }

    fn held(&self, topic: TopicNumber) -> u64 {
        self.catalog.topics.get(&topic).map_or(0, |topic| topic.bytes)
    }

    fn trim(&mut self, topic: TopicNumber, below: Position) -> Result<(), ArchiveError> {
        // A trim without effect writes no record.
        if self.catalog.topics.get(&topic).is_none_or(|known| known.is_trimmed_to(below)) {
            return Ok(());
        }
        self.record(&Record::Trimmed { topic, below })
    }

    fn delayed(
        &mut self,
        topic: TopicNumber,
        from: (u64, Position),
        until_ms: u64,
        count: usize,
    ) -> Result<Vec<(u64, Arc<StoredMessage>)>, ArchiveError> {
        let Some(known) = self.catalog.topics.get(&topic) else { return Ok(Vec::new()) };
        if from >= (until_ms, Position::FIRST) {
            return Ok(Vec::new());
        }
        let mut places = known.delayed.range(from..(until_ms, Position::FIRST));
        let mut messages = Vec::new();
        let mut next = places.next().map(|(key, at)| (*key, *at));
        while let Some((key, at)) = next.filter(|_| messages.len() < count) {
            if let Some(message) = self.message(topic, key.1, at)? {
                messages.push((key.0, Arc::new(message)));
            }
            let known = self.catalog.topics.get(&topic);
            let behind = (key.0, key.1.after())..(until_ms, Position::FIRST);
            next = known
                .filter(|_| behind.start < behind.end)
                .and_then(|known| known.delayed.range(behind).next().map(|(key, at)| (*key, *at)));
        }
        Ok(messages)
    }

    fn trim_delayed(
        &mut self,
        topic: TopicNumber,
        below: (u64, Position),
        count: usize,
    ) -> Result<usize, ArchiveError> {
        let Some(known) = self.catalog.topics.get(&topic) else { return Ok(0) };
        let gone: Vec<(u64, Position)> =
            known.delayed.range(..below).take(count).map(|(key, _)| *key).collect();
        // The record contains only the end of the range, so it is short however many messages it
        // covers.
        let Some((deliver_ms, position)) = gone.last().copied() else { return Ok(0) };
        let below = (deliver_ms, position.after());
        self.record(&Record::TrimmedDelayed { topic, below })?;
        Ok(gone.len())
    }

    fn save(&mut self, topic: TopicNumber, saved: Saved<'_>) -> Result<(), ArchiveError> {
        let name;
        let record = match saved {
            Saved::Topic(state) => {
                name = self.name(topic);
                Record::Topic { topic, name: &name, state }
            }
            Saved::Subscription(name, state) => Record::Subscription { topic, name, state },
            Saved::NoSubscription(name) => Record::NoSubscription { topic, name },
            Saved::Sequence(name, last) => Record::Sequence { topic, name, last },
            Saved::NoSequence(name) => Record::NoSequence { topic, name },
        };
        self.record(&record)
    }
}
