//! Freeing space: what is needed of old segments is written again to newer ones, and then the old
//! ones are removed.
//!
//! *Checkpoints* write all state except messages again, some topics at a time while others change.
//! After two of them, earlier segments are needed only for their messages: those without any are
//! removed at once. *Compaction* copies the few messages of a segment that is otherwise obsolete,
//! piece by piece, so that it can be removed too. It begins when more of the log is obsolete than
//! needed, so a log takes at most about twice the size of its messages; when space is low it does
//! not wait for that.
//!
//! A segment is removed when the record of its removal is on the disk, and with it everything
//! copied before.

use super::archive::Disk;
use super::catalog::Segment;
use super::keeper::Job;
use super::place::Address;
use super::reclaiming::{Checkpoint, Compaction, Reclaim};
use super::record::{FoundRecord, Record, RecordScan};
use crate::service::topic::ArchiveError;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

/// Segments of log after which the next checkpoint begins: a start reads at most about twice this.
const CHECKPOINT_SEGMENTS: u64 = 4;
/// Minimum ratio of log to the size of the last checkpoint, so that checkpoints are a small part of
/// all writes.
const CHECKPOINT_RATIO: u64 = 8;
/// Topics written again before other work has its turn.
const TOPICS_AT_ONCE: usize = 64;
/// Limit on the bytes written at once for checkpoints and copies.
const BYTES_AT_ONCE: u64 = 64 * 1024;
/// Bytes searched for messages to copy before other work has its turn.
const SEARCHED_AT_ONCE: usize = 512 * 1024;
/// Obsolete segments, in addition to as many bytes as are needed, before compaction begins.
const NEEDLESS_SEGMENTS_MIN: u64 = 8;
/// Maximum share of a segment that is needed for it to be compacted (‰): beyond that, more would be
/// written than freed.
const COMPACTED_PERMILLE_MAX: u64 = 500;
/// Segments that a checkpoint would free, for which one is made early; one is enough when the disk
/// is full.
const DEAD_MIN: u64 = 2;
/// How often to look for work, in addition to each new segment.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Disk {
    /// When [`Disk::settle`] has more to do.
    pub(super) fn reclaim_due(&self, now: Instant) -> Option<Instant> {
        if self.reclaim.is_busy() {
            return Some(now);
        }
        self.is_worth_it().then(|| self.reclaim.looked + LOOK_EVERY)
    }

    /// Whether a checkpoint would free segments much larger than itself.
    fn is_worth_it(&self) -> bool {
        let dead = self.dead_segments();
        let least = if self.refusal().is_some() { 1 } else { DEAD_MIN };
        dead >= least && dead * self.segment_bytes() >= CHECKPOINT_RATIO * self.reclaim.took
    }

    /// Whether space is being freed.
    pub(super) fn is_reclaiming(&self) -> bool {
        let Reclaim { checkpoint, compaction, going, gone, .. } = &self.reclaim;
        let is_under_way =
            checkpoint.is_some() || compaction.is_some() || !(going.is_empty() && gone.is_empty());
        is_under_way || self.is_worth_it() || self.log.keeper.is_busy()
    }

    fn segment_bytes(&self) -> u64 {
        self.log.segment_bytes as u64
    }

    /// Number of segments of which only a checkpoint's content is needed.
    fn dead_segments(&self) -> u64 {
        let window = self.catalog.segments.range(self.log.from..self.log.active.number);
        window.filter(|(_, segment)| segment.is_dead()).count() as u64
    }

    /// Does a piece of work. A failed write is retried later.
    pub(super) fn reclaim(&mut self) {
        self.log.poll(&self.catalog);
        if let Some((segment, read)) = self.log.read.take()
            && let Some(compaction) =
                self.reclaim.compaction.as_mut().filter(|it| it.segment == segment)
        {
            match read {
                Ok(bytes) => compaction.bytes = Some(bytes),
                Err(error) => {
                    tracing::warn!("segment {segment} of the store cannot be compacted: {error}");
                    self.reclaim.compaction = None;
                }
            }
        }
        let now = Instant::now();
        let active = self.log.active.number;
        if now - self.reclaim.looked >= LOOK_EVERY || active != self.reclaim.active {
            (self.reclaim.looked, self.reclaim.active) = (now, active);
            self.plan();
        }
        let worked = self.checkpoint_some().and_then(|()| self.compact_some());
        if worked.is_err() {
            // There is no space for it, or writing has failed, which is reported elsewhere.
            (self.reclaim.checkpoint, self.reclaim.compaction) = (None, None);
        }
    }

    /// Plans checkpoints and compactions.
    fn plan(&mut self) {
        if !self.is_syncing() {
            // Segments that a backup was holding.
            self.drop_segments();
        }
        if self.reclaim.checkpoint.is_none() {
            let since = self.log.written - self.reclaim.written;
            let is_due = since
                >= (CHECKPOINT_SEGMENTS * self.segment_bytes())
                    .max(CHECKPOINT_RATIO * self.reclaim.took);
            if is_due || self.is_worth_it() {
                let from = self.log.active.number;
                self.reclaim.checkpoint = Some(Checkpoint { from, after: None, bytes: 0 });
            }
        }
        self.give_up_dead();
        // A backup in progress reads the segments, which have to stay meanwhile.
        if self.reclaim.compaction.is_none() && !self.reclaim.is_pinned() {
            self.reclaim.compaction = self.victim().map(|segment| {
                self.log.keeper.ask(Job::Read(segment));
                Compaction { segment, bytes: None, next: 0 }
            });
        }
    }

    /// The segment with the smallest needed share, if copying that is worthwhile.
    fn victim(&self) -> Option<u32> {
        let segments = &self.catalog.segments;
        let total: u64 = segments.values().map(|segment| u64::from(segment.length)).sum();
        let needed: u64 = segments.values().map(Segment::needed).sum();
        let is_wasteful = total >= 2 * needed + NEEDLESS_SEGMENTS_MIN * self.segment_bytes();
        if !is_wasteful && !self.health.is_tight() {
            return None;
        }
        // A full disk has only this much space for copies.
        let left = self.segment_bytes().saturating_sub(self.log.active.end() as u64) / 2;
        let most = if self.refusal().is_some() { left } else { u64::MAX };
        let old = segments.range(..self.log.from);
        let old = old.filter(|(_, segment)| !segment.is_dead() && segment.needed() <= most);
        let (number, segment) = old.min_by_key(|(_, segment)| segment.needed_permille())?;
        (segment.needed_permille() <= COMPACTED_PERMILLE_MAX).then_some(*number)
    }

    /// Records that obsolete segments are dropped.
    fn give_up_dead(&mut self) {
        // A backup reads old segments, and none is removed until it is done: to drop them now would
        // free nothing.
        if self.reclaim.is_pinned() {
            return;
        }
        let old = self.catalog.segments.range(..self.log.from);
        let dead: Vec<u32> =
            old.filter(|(_, segment)| segment.is_dead()).map(|(number, _)| *number).collect();
        for segment in dead {
            if self.write(&Record::Dropped { segment }).is_err() {
                return;
            }
            self.log.is_relied_on = true;
            self.catalog.segments.remove(&segment);
            self.reclaim.going.push(segment);
        }
        if self.refusal().is_some() && !self.reclaim.going.is_empty() && !self.is_syncing() {
            // Producers are waiting for the space. A failure is reported at the next write.
            let _ = self.persist(true);
        }
    }

    /// Removes segments whose records are safe.
    pub(super) fn drop_segments(&mut self) {
        if self.reclaim.gone.is_empty() || self.reclaim.is_pinned() {
            return;
        }
        let gone = std::mem::take(&mut self.reclaim.gone);
        gone.iter().for_each(|number| self.log.files.forget(*number));
        self.log.keeper.ask(Job::Drop(gone));
        // This may be the space that a full disk lacks.
        if self.log.full.is_some() {
            self.log.prepare(&self.catalog);
        }
    }

    /// Writes some topics again.
    fn checkpoint_some(&mut self) -> Result<(), ArchiveError> {
        let Some(Checkpoint { from, mut after, mut bytes }) = self.reclaim.checkpoint.take() else {
            return Ok(());
        };
        let mut restated = 0;
        for _ in 0..TOPICS_AT_ONCE {
            let bound = after.as_deref().map_or(Unbounded, Excluded);
            let next = self.catalog.names.range::<str, _>((bound, Unbounded)).next();
            let Some((name, number)) = next.map(|(name, number)| (name.clone(), *number)) else {
                return self.finish_checkpoint(from, bytes);
            };
            let mut bodies = Vec::new();
            if let Some(topic) = self.catalog.topics.get(&number) {
                topic.restate(number, from, |record| {
                    let mut body = Vec::new();
                    record.write(&mut body);
                    bodies.push(body);
                });
            }
            for body in bodies {
                restated += body.len() as u64;
                self.write_body(body.len(), false, |out| out.extend_from_slice(&body))?;
                self.log.is_relied_on = true;
            }
            after = Some(name);
            if restated >= BYTES_AT_ONCE {
                break;
            }
        }
        bytes += restated;
        self.reclaim.checkpoint = Some(Checkpoint { from, after, bytes });
        Ok(())
    }

    fn finish_checkpoint(&mut self, began: u32, bytes: u64) -> Result<(), ArchiveError> {
        let older = self.catalog.segments.range(..began);
        let segments = older.map(|(number, segment)| (*number, segment.length)).collect();
        self.write(&Record::Counts { next: self.catalog.next, segments })?;
        let from = self.reclaim.began;
        self.write(&Record::Checkpoint { from, began })?;
        self.log.is_relied_on = true;
        self.log.from = from;
        // Starts read from one checkpoint earlier: what a damaged record of one lacks, the other
        // has.
        self.reclaim.began = began;
        self.reclaim.written = self.log.written;
        self.reclaim.took = bytes;
        self.give_up_dead();
        Ok(())
    }

    /// Copies the next needed messages of the segment being compacted.
    fn compact_some(&mut self) -> Result<(), ArchiveError> {
        let Some(mut compaction) = self.reclaim.compaction.take() else { return Ok(()) };
        let Some(bytes) = compaction.bytes.take() else {
            self.reclaim.compaction = Some(compaction);
            return Ok(());
        };
        let (segment, start) = (compaction.segment, compaction.next);
        // The segment may have become obsolete and been removed meanwhile.
        let Some(known) = self.catalog.segments.get(&segment) else { return Ok(()) };
        let length = known.length as usize;
        let mut copied = 0;
        let mut is_over = true;
        for found in RecordScan::new(&bytes[..length.min(bytes.len())], segment, start) {
            match found {
                FoundRecord::Record { body, offset, length } => {
                    let at = Address { segment, offset: offset as u32, length: length as u32 };
                    copied += self.copy(body, at)?;
                    compaction.next = offset + super::record::room(body.len());
                }
                FoundRecord::Damage { to, .. } => compaction.next = to,
                FoundRecord::End { .. } => break,
            }
            if copied >= BYTES_AT_ONCE || compaction.next - start >= SEARCHED_AT_ONCE {
                is_over = false;
                break;
            }
        }
        if is_over {
            self.finish_compaction(segment);
        } else {
            compaction.bytes = Some(bytes);
            self.reclaim.compaction = Some(compaction);
        }
        Ok(())
    }

    /// Copies a record if it is a needed message. Returns the bytes written.
    fn copy(&mut self, body: &[u8], at: Address) -> Result<u64, ArchiveError> {
        let Some(Record::Message { topic, position, deliver_ms, record, .. }) = Record::read(body)
        else {
            return Ok(0);
        };
        let (is_live, is_delayed) = self.catalog.needs(at, topic, position, deliver_ms);
        if !is_live && !is_delayed {
            return Ok(0);
        }
        let deliver_ms = deliver_ms.filter(|_| is_delayed);
        let copy = Record::Message { topic, position, deliver_ms, is_moved: true, record };
        let moved = self.write(&copy)?;
        self.log.is_relied_on = true;
        self.catalog.apply(&copy, moved, 0);
        self.reclaim.copied += u64::from(moved.length);
        Ok(moved.length.into())
    }

    /// Finishes a compaction: what is still needed of the segment after all was copied is damaged.
    fn finish_compaction(&mut self, segment: u32) {
        for gap in self.catalog.gaps_without(segment) {
            self.report(gap);
        }
        self.catalog.give_up(segment);
        // It is dropped along with the obsolete ones.
        self.catalog.segments.insert(segment, Segment::default());
    }
}
