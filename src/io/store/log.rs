//! Writing the log: records are gathered into a group, passed to the system in one write, and made
//! safe by one sync. When a segment is full, the log continues in the next.

use super::catalog::Catalog;
use super::keeper::{self, Job, JobResult, Keeper};
use super::place::Address;
use super::record::{self, HEADER_BYTES, Record};
use super::recovery::Recovered;
use super::segment::{Files, SegmentFile};
use super::settings::{Durability, StoreSettings};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Segments kept ready in addition to the one being written. When no more can be created, messages
/// leave the last one to other records, so that a full disk can be emptied.
const PREPARED: usize = 2;
/// How long a write waits for a segment being prepared.
const PREPARE_MAX: Duration = Duration::from_secs(10);
/// Number of a store's segments up to which new ones are filled with zeros: little to write in
/// total, and syncs are faster.
const FILLED_MAX: usize = 3;
/// Limit on the bytes kept for repeating after a failed sync, where messages need not be safe at
/// once.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Limit on the buffer kept from one group for the next.
const SPARE_BYTES_MAX: usize = 1024 * 1024;
/// The system's page size, and the size of groups that are worth padding to it.
const PAGE_BYTES: usize = 4096;
const PADDED_MIN: usize = 8 * PAGE_BYTES;
/// Length of the record that ends a segment.
const SEALED_BYTES: usize = record::room(1);

/// The log of one owner.
#[derive(Debug)]
pub(super) struct StoreLog {
    pub(super) directory: PathBuf,
    pub(super) files: Files,
    pub(super) keeper: Keeper,
    pub(super) active: Active,
    prepared: VecDeque<(u32, Arc<File>)>,
    /// Whether a segment is being prepared; one at a time, so that no number is skipped if one
    /// fails.
    is_preparing: bool,
    /// Why no segment could be prepared.
    pub(super) full: Option<String>,
    /// Written chunks that the disk may not have, in order.
    unsynced: Vec<LogChunk>,
    syncing: Vec<LogChunk>,
    /// Records to write again after a failure.
    rescued: Vec<Box<[u8]>>,
    /// A buffer for the next group.
    spare: Vec<u8>,
    pub(super) ledger: u32,
    /// The segment from which the next start reads the log.
    pub(super) from: u32,
    /// Bytes written since the start.
    pub(super) written: u64,
    /// A segment read by the keeper.
    pub(super) read: Option<(u32, io::Result<Vec<u8>>)>,
    /// Whether syncs are configured.
    is_synced: bool,
    /// Whether older segments will be removed because of records in this one, so that it must be
    /// synced in any case.
    pub(super) is_relied_on: bool,
    pub(super) segment_bytes: usize,
}

/// The segment being written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) number: u32,
    pub(super) file: Arc<File>,
    /// Bytes passed to the system.
    pub(super) written: usize,
    /// Bytes known to be on the disk.
    synced: usize,
    /// Records not yet passed to the system.
    buffer: Vec<u8>,
}

impl Active {
    fn new(number: u32, file: Arc<File>) -> Self {
        Self { number, file, written: 0, synced: 0, buffer: Vec::new() }
    }

    /// The offset of the next record.
    pub(super) fn end(&self) -> usize {
        self.written + self.buffer.len()
    }
}

/// A written part of the log.
#[derive(Debug)]
struct LogChunk {
    segment: u32,
    offset: usize,
    bytes: Vec<u8>,
}

/// A segment to sync.
#[derive(Debug)]
pub struct Unsynced(Arc<File>);

impl Unsynced {
    /// Syncs it.
    ///
    /// # Errors
    /// When its data may not be on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl StoreLog {
    /// Continues a log that was read, in a new segment. Its first records are safe only after a
    /// commit.
    ///
    /// # Errors
    /// When no segment can be created.
    pub(super) fn go_on(
        directory: &Path,
        recovered: &mut Recovered,
        settings: &StoreSettings,
    ) -> io::Result<Self> {
        let segment_bytes = settings.segment_bytes;
        let mut keeper = Keeper::start(directory, segment_bytes)?;
        // Those after the last were prepared for the numbers used next.
        let needless = recovered.needless.iter().copied();
        keeper.ask(Job::Drop(needless.filter(|number| *number < recovered.newest).collect()));
        let mut files = Files::new(directory);
        for (number, index) in &recovered.indexes {
            files.keep(*number, index.clone());
            keeper.ask(Job::WriteIndex(*number, index.clone()));
        }
        let number = recovered.newest + 1;
        let is_filled = recovered.catalog.segments.len() <= FILLED_MAX;
        let file = Arc::new(keeper::provide(directory, number, segment_bytes, is_filled)?);
        let mut log = Self {
            directory: directory.into(),
            files,
            keeper,
            active: Active::new(number, file),
            prepared: VecDeque::new(),
            is_preparing: false,
            full: None,
            unsynced: Vec::new(),
            syncing: Vec::new(),
            rescued: Vec::new(),
            spare: Vec::new(),
            ledger: recovered.ledger + 1,
            from: if recovered.newest == 0 { number } else { recovered.from },
            written: 0,
            read: None,
            is_synced: settings.durability != Durability::Never,
            is_relied_on: false,
            segment_bytes,
        };
        log.begin(&mut recovered.catalog, recovered.end);
        log.prepare(&recovered.catalog);
        Ok(log)
    }

    /// Bytes of the newest segment known to be on the disk.
    #[cfg(test)]
    pub(super) fn synced(&self) -> usize {
        self.active.synced
    }

    /// Writes the first record of a segment.
    fn begin(&mut self, catalog: &mut Catalog, ends_at: u32) {
        let number = self.active.number;
        // Not replaced: the entry of a segment begun again still counts its delayed messages.
        catalog.segments.entry(number).or_default();
        self.files.know(number, self.active.file.clone());
        let start = Record::Start { ledger: self.ledger, from: self.from, ends_at };
        self.put(|out| start.write(out));
    }

    /// Starts preparing the next segment, unless enough are ready.
    pub(super) fn prepare(&mut self, catalog: &Catalog) {
        if !self.is_preparing && self.prepared.len() < PREPARED {
            let last = self.prepared.back().map_or(self.active.number, |(number, _)| *number);
            let is_filled = catalog.segments.len() <= FILLED_MAX;
            self.keeper.ask(Job::Prepare { number: last + 1, is_filled });
            self.is_preparing = true;
        }
    }

    /// The numbers of the prepared segments.
    pub(super) fn prepared(&self) -> impl Iterator<Item = &u32> {
        self.prepared.iter().map(|(number, _)| number)
    }

    /// Handles the keeper's results.
    pub(super) fn poll(&mut self, catalog: &Catalog) {
        while let Some(done) = self.keeper.poll() {
            self.take(done, catalog);
        }
    }

    fn take(&mut self, done: JobResult, catalog: &Catalog) {
        match done {
            JobResult::Prepared(number, Ok(file)) => {
                self.is_preparing = false;
                self.full = None;
                self.prepared.push_back((number, Arc::new(file)));
                self.prepare(catalog);
            }
            JobResult::Prepared(_, Err(error)) => {
                self.is_preparing = false;
                self.full = Some(error.to_string());
            }
            JobResult::IndexWritten(number) => self.files.written(number),
            JobResult::Dropped => {}
            JobResult::Read(number, bytes) => self.read = Some((number, bytes)),
        }
    }

    /// Appends a record with a body of `body_bytes`, which `write` appends. Messages (`is_message`)
    /// leave the last segment of a full disk to other records.
    ///
    /// # Errors
    /// When there is no next segment, or the full one cannot be written.
    pub(super) fn append(
        &mut self,
        catalog: &mut Catalog,
        body_bytes: usize,
        is_message: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<Address> {
        let bytes = record::room(body_bytes) + SEALED_BYTES;
        // A record larger than a segment gets one of its own, which grows.
        if self.active.end() + bytes > self.segment_bytes && self.active.end() > SEALED_BYTES + 64 {
            let left = usize::from(is_message && self.full.is_some());
            self.await_prepared(1 + left, catalog)?;
            self.roll(catalog)?;
        }
        Ok(self.put(write))
    }

    /// Appends a record other than a message.
    ///
    /// # Errors
    /// Those of [`StoreLog::append`].
    pub(super) fn write(
        &mut self,
        catalog: &mut Catalog,
        record: &Record<'_>,
    ) -> io::Result<Address> {
        let mut body = Vec::with_capacity(64);
        record.write(&mut body);
        self.append(catalog, body.len(), false, |out| out.extend_from_slice(&body))
    }

    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Address {
        let Active { number, written, buffer, .. } = &mut self.active;
        let offset = *written + buffer.len();
        let length = record::put(*number, offset, buffer, write);
        Address { segment: *number, offset: offset as u32, length: length as u32 }
    }

    /// Waits until `count` segments are ready.
    fn await_prepared(&mut self, count: usize, catalog: &Catalog) -> io::Result<()> {
        self.poll(catalog);
        while self.prepared.len() < count {
            if !self.is_preparing {
                let reason = self.full.clone().unwrap_or_else(|| "no segment is ready".into());
                return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
            }
            match self.keeper.wait(PREPARE_MAX) {
                Some(done) => self.take(done, catalog),
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "no segment was ready within 10 s",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Continues in the next segment, once everything in this one is safe.
    fn roll(&mut self, catalog: &mut Catalog) -> io::Result<()> {
        self.put(|out| Record::Sealed {}.write(out));
        self.flush()?;
        if self.is_synced || std::mem::take(&mut self.is_relied_on) {
            // Synced now, so that a failed sync always affects one segment only. It takes as long
            // as any other sync, once for some ten thousand messages.
            self.active.file.sync_data()?;
        }
        self.synced_all();
        self.change(catalog);
        Ok(())
    }

    /// Ends the segment where it is, and begins the next one, if one is ready.
    fn change(&mut self, catalog: &mut Catalog) {
        let Some((next, file)) = self.prepared.pop_front() else { return };
        let (number, end) = (self.active.number, self.active.written as u32);
        if let Some(segment) = catalog.segments.get_mut(&number) {
            segment.length = end;
        }
        let index = Arc::new(catalog.seal(number));
        self.written += index.entries.len() as u64 * 8;
        self.files.keep(number, index.clone());
        self.keeper.ask(Job::WriteIndex(number, index));
        self.active = Active::new(next, file);
        self.begin(catalog, end);
        self.prepare(catalog);
    }

    /// Whether records are buffered.
    pub(super) fn is_unflushed(&self) -> bool {
        !self.active.buffer.is_empty()
    }

    /// Passes the buffered records to the system.
    ///
    /// # Errors
    /// When the system does not accept them.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.active.buffer.is_empty() {
            return Ok(());
        }
        self.pad();
        let Active { number, file, written, buffer, .. } = &mut self.active;
        // At an explicit offset: after a failed write, `written` still is where it was to go.
        file.write_all_at(buffer, *written as u64)?;
        self.written += buffer.len() as u64;
        let (segment, offset) = (*number, *written);
        *written += buffer.len();
        let bytes = std::mem::replace(buffer, std::mem::take(&mut self.spare));
        if self.is_synced {
            self.unsynced.push(LogChunk { segment, offset, bytes });
        } else {
            self.active.synced = self.active.written;
            self.reuse(bytes);
        }
        Ok(())
    }

    /// Pads a large group to the end of a page, so that the next one does not make the disk write
    /// that page again.
    fn pad(&mut self) {
        let end = self.active.end();
        let gap = end.next_multiple_of(PAGE_BYTES) - end;
        let has_room = end + gap + SEALED_BYTES <= self.segment_bytes;
        if self.active.buffer.len() >= PADDED_MIN && gap >= SEALED_BYTES && has_room {
            let zeros = &[0; PAGE_BYTES][..gap - HEADER_BYTES - 1];
            self.put(|out| Record::Padding { zeros }.write(out));
        }
    }

    /// Limits the bytes kept for repeating, where syncs are only periodic.
    pub(super) fn bound(&mut self) {
        let mut bytes: usize = self.unsynced.iter().map(|chunk| chunk.bytes.len()).sum();
        let mut gone = 0;
        while bytes > KEPT_BYTES_MAX && gone < self.unsynced.len() {
            bytes -= self.unsynced[gone].bytes.len();
            gone += 1;
        }
        for chunk in self.unsynced.drain(..gone) {
            self.active.synced = self.active.synced.max(chunk.offset + chunk.bytes.len());
        }
    }

    fn reuse(&mut self, mut bytes: Vec<u8>) {
        if self.spare.capacity() < bytes.capacity() && bytes.capacity() <= SPARE_BYTES_MAX {
            bytes.clear();
            self.spare = bytes;
        }
    }

    /// Flushes and syncs.
    ///
    /// # Errors
    /// When the data may not be on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.active.file.sync_data()?;
        self.synced_all();
        Ok(())
    }

    /// Handles a successful sync. While another is in progress, everything waits for that one to
    /// end: the system reports a failure to only one of them.
    fn synced_all(&mut self) {
        if !self.syncing.is_empty() {
            self.syncing.append(&mut self.unsynced);
            return;
        }
        self.active.synced = self.active.written;
        if let Some(last) = std::mem::take(&mut self.unsynced).pop() {
            self.reuse(last.bytes);
        }
    }

    /// Flushes, and begins a sync by another thread; `None` when there is nothing to sync.
    ///
    /// # Errors
    /// When the system does not accept the write.
    pub(super) fn begin_sync(&mut self) -> io::Result<Option<Unsynced>> {
        self.flush()?;
        // Everything is on the disk, or part of the sync in progress.
        if self.unsynced.is_empty() {
            return Ok(None);
        }
        self.syncing.append(&mut self.unsynced);
        Ok(Some(Unsynced(self.active.file.clone())))
    }

    /// Ends the sync.
    pub(super) fn sync_ended(&mut self, is_safe: bool) {
        let mut chunks = std::mem::take(&mut self.syncing);
        // Kept in the order of writing, for the recovery.
        if !is_safe {
            chunks.append(&mut self.unsynced);
            self.unsynced = chunks;
            return;
        }
        if let Some(last) = chunks.pop() {
            if last.segment == self.active.number {
                self.active.synced = self.active.synced.max(last.offset + last.bytes.len());
            }
            self.reuse(last.bytes);
        }
    }

    /// Repeats in another segment the writes that a failure may have lost, and makes them safe.
    ///
    /// # Errors
    /// When they cannot be written; they are kept for the next attempt.
    pub(super) fn rewrite(&mut self, catalog: &mut Catalog) -> io::Result<()> {
        self.mend_full(catalog)?;
        let active = &mut self.active;
        let (number, safe) = (active.number, active.synced);
        // The rest of an earlier attempt is complete, and comes first.
        if self.rescued.is_empty() {
            let buffered = LogChunk {
                segment: number,
                offset: active.written,
                bytes: std::mem::take(&mut active.buffer),
            };
            let chunks = self.syncing.drain(..).chain(self.unsynced.drain(..)).chain([buffered]);
            for chunk in chunks.filter(|chunk| chunk.segment == number && chunk.offset >= safe) {
                self.rescued.extend(bodies(&chunk).map(Box::from));
            }
        }
        self.unsynced.clear();
        self.syncing.clear();
        self.active.buffer.clear();
        // The file may contain anything after it, so no record is written there again.
        self.active.written = safe;
        catalog.forget_from(number, safe as u32);
        if safe > 0 {
            self.prepare(catalog);
            self.await_prepared(1, catalog)?;
            self.change(catalog);
        } else {
            // Nothing of this segment is on the disk, so it can begin again.
            self.begin_again(catalog);
        }
        let rescued = std::mem::take(&mut self.rescued);
        let rewritten = rescued.iter().try_for_each(|body| self.rewrite_one(body, catalog));
        let is_safe = rewritten.and_then(|()| self.sync());
        // Kept until an attempt succeeds.
        if is_safe.is_err() {
            self.rescued = rescued;
        }
        is_safe
    }

    /// Writes again in place what a sync failed for that had begun before its segment was full.
    fn mend_full(&self, catalog: &Catalog) -> io::Result<()> {
        for chunk in self.syncing.iter().chain(&self.unsynced) {
            // The newest segment's chunks are written to another segment, and removed segments need
            // none.
            if chunk.segment >= self.active.number || !catalog.segments.contains_key(&chunk.segment)
            {
                continue;
            }
            let path = SegmentFile::Segment(chunk.segment).path(&self.directory);
            let file = File::options().write(true).open(path)?;
            file.write_all_at(&chunk.bytes, chunk.offset as u64)?;
            file.sync_data()?;
        }
        Ok(())
    }

    fn begin_again(&mut self, catalog: &mut Catalog) {
        let number = self.active.number;
        let before = catalog.segments.range(..number).next_back();
        let ends_at = before
            .filter(|(before, _)| **before + 1 == number)
            .map_or(0, |(_, before)| before.length);
        self.begin(catalog, ends_at);
    }

    fn rewrite_one(&mut self, body: &[u8], catalog: &mut Catalog) -> io::Result<()> {
        let record = Record::read(body);
        // Segments get these records of their own.
        if matches!(record, Some(Record::Start { .. } | Record::Sealed {} | Record::Padding { .. }))
        {
            return Ok(());
        }
        let at = self.append(catalog, body.len(), false, |out| out.extend_from_slice(body))?;
        if let Some(record) = record {
            // Restores the effect on the messages written again before it.
            catalog.apply(&record, at, 0);
        }
        Ok(())
    }
}

/// The bodies of the records in a chunk.
fn bodies(chunk: &LogChunk) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let body = record::body(chunk.bytes.get(at..)?, chunk.segment, chunk.offset + at)?;
        at += record::room(body.len());
        Some(body)
    })
}

const _: () = assert!(HEADER_BYTES < SEALED_BYTES);
