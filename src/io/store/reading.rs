//! Reading messages: neighbours in one read, skipping damage.

use super::archive::Disk;
use super::place::{Address, IndexEntry, IndexGap, Piece};
use super::segment::{self, Entries};
use crate::service::topic::{ArchiveError, Position, StoredMessage, TopicNumber};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Limit on the bytes of one read.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Bytes between two messages that are read over, because another read takes longer.
const READ_GAP_BYTES_MAX: u32 = 4096;
/// Limit on the damaged places reported, each once; with that many the whole disk is bad.
const REPORTS_MAX: usize = 256;

impl Disk {
    /// Messages in order, starting at a position; see
    /// [`Archive::read`](crate::service::topic::Archive::read).
    pub(super) fn read_messages(
        &mut self,
        topic: TopicNumber,
        from: Position,
        count: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<StoredMessage>>, ArchiveError> {
        let bytes_max = bytes_max.max(1);
        let mut reading = RunReading {
            next: from,
            messages: Vec::new(),
            count,
            bytes: 0,
            bytes_max,
            buffer: Vec::new(),
        };
        while !reading.is_over() {
            let Some(known) = self.catalog.topics.get_mut(&topic) else { break };
            match known.piece(reading.next, count - reading.messages.len()) {
                None => break,
                Some(Piece::Newest(mut entries)) => {
                    let written = self.log.active.written;
                    let waits = entries.iter().position(|entry| entry.offset as usize >= written);
                    if let Some(waits) = waits
                        && let Err(fault) = self.flush()
                    {
                        // What the system already has can be read all the same.
                        entries.truncate(waits);
                        if entries.is_empty() && reading.messages.is_empty() {
                            return Err(fault);
                        } else if entries.is_empty() {
                            break;
                        }
                    }
                    self.read_entries(topic, self.log.active.number, &entries, &mut reading)?;
                }
                Some(Piece::Indexed(run)) => {
                    match self.log.files.entries(&run, &mut self.catalog) {
                        Ok(Entries::There(entries)) => {
                            self.read_entries(topic, run.segment, &entries, &mut reading)?;
                        }
                        Ok(Entries::Anew(gaps)) => {
                            gaps.into_iter().for_each(|gap| self.report(gap))
                        }
                        Err(error) => {
                            self.doubt(&error)?;
                            self.report(IndexGap { topic, from: run.first, to: run.end() });
                            reading.next = run.end();
                        }
                    }
                }
            }
        }
        Ok(reading.messages)
    }

    /// The message of a topic at a place; `None` when it is damaged, which is reported.
    pub(super) fn message(
        &mut self,
        topic: TopicNumber,
        position: Position,
        at: Address,
    ) -> Result<Option<StoredMessage>, ArchiveError> {
        if at.segment == self.log.active.number && at.offset as usize >= self.log.active.written {
            self.flush()?;
        }
        let found = match self.log.files.message(at, topic, position) {
            Ok(found) => found,
            Err(error) => {
                self.doubt(&error)?;
                None
            }
        };
        let message = found.and_then(|record| StoredMessage::read(position, &record));
        if message.is_none() {
            self.report(IndexGap { topic, from: position, to: position.after() });
        }
        Ok(message)
    }

    /// Flushes, so that buffered messages can be read. After a failure, writing is retried with
    /// everything else rather than here, where it would postpone that.
    fn flush(&mut self) -> Result<(), ArchiveError> {
        match self.health.reason() {
            Some(reason) => Err(ArchiveError(reason.into())),
            None => self.log.flush().map_err(|error| self.fail(&error)),
        }
    }

    /// Unreadable data is considered damaged only if the disk works otherwise: a failing disk must
    /// not make messages be skipped.
    fn doubt(&mut self, error: &io::Error) -> Result<(), ArchiveError> {
        let unreadable = ArchiveError(format!("the store cannot be read: {error}").into());
        // A missing segment is reported by the next check, and nothing is skipped for it.
        if segment::is_transient(error) || error.kind() == io::ErrorKind::NotFound {
            return Err(unreadable);
        }
        if self.health.reason().is_none()
            && let Err(error) = self.health.trial()
        {
            self.fail(&error);
        }
        if self.health.reason().is_some() { Err(unreadable) } else { Ok(()) }
    }

    /// Logs and counts damaged messages, once.
    pub(super) fn report(&mut self, gap: IndexGap) {
        let IndexGap { topic, from, to } = gap;
        // Messages read repeatedly are counted once.
        if self.reported.len() >= REPORTS_MAX || !self.reported.insert((topic, from)) {
            return;
        }
        let count = to.number() - from.number();
        self.metrics.store.damaged.add(count);
        let name = self.name(topic);
        let topic = &*name;
        let position = format!("{}:{}", from.ledger(), from.entry());
        tracing::error!(
            topic,
            position,
            count,
            "{count} messages of {topic} are damaged and skipped, starting at {position}: \
             the disk may be failing; everything else is delivered"
        );
    }

    /// A topic's name for log lines.
    pub(super) fn name(&self, topic: TopicNumber) -> Arc<str> {
        let name = self.catalog.topics.get(&topic).and_then(|topic| topic.name.clone());
        name.unwrap_or_else(|| format!("topic number {topic}").into())
    }

    /// Reads messages of one segment until there are enough.
    fn read_entries(
        &mut self,
        topic: TopicNumber,
        segment: u32,
        entries: &[IndexEntry],
        reading: &mut RunReading,
    ) -> Result<(), ArchiveError> {
        let mut rest = entries;
        while let Some(first) = rest.first().filter(|_| !reading.is_over()) {
            let mut end = first.offset + first.length;
            let mut count = 1;
            for next in &rest[1..] {
                let gap = next.offset.checked_sub(end);
                let is_near = gap.is_some_and(|gap| gap <= READ_GAP_BYTES_MAX);
                let bytes = (end - first.offset) as usize;
                // Reading over a short gap is faster than another read.
                if !is_near || bytes >= READ_BYTES_MAX.min(reading.bytes_left()) {
                    break;
                }
                end = next.offset + next.length;
                count += 1;
            }
            let (group, behind) = rest.split_at(count);
            rest = behind;
            self.read_group(topic, segment, group, reading)?;
        }
        Ok(())
    }

    /// Reads neighbouring messages in one read; if that fails, each by itself.
    fn read_group(
        &mut self,
        topic: TopicNumber,
        segment: u32,
        group: &[IndexEntry],
        reading: &mut RunReading,
    ) -> Result<(), ArchiveError> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        let mut bytes = std::mem::take(&mut reading.buffer);
        bytes.resize((last.offset + last.length - first.offset) as usize, 0);
        let file = self.log.files.segment(segment);
        let read = file.and_then(|file| file.read_exact_at(&mut bytes, first.offset.into()));
        for entry in group {
            let (position, at) = (entry.position, entry.at(segment));
            let start = (at.offset - first.offset) as usize;
            let record = match &read {
                Ok(()) => {
                    segment::message(&bytes[start..start + at.length as usize], at, topic, position)
                }
                Err(_) => None,
            };
            let message = match record.and_then(|record| StoredMessage::read(position, record)) {
                Some(message) => Some(message),
                // Read alone: damage is reported, and a message is found that only its neighbours
                // made unreadable.
                None => self.message(topic, position, at)?,
            };
            reading.next = position.after();
            if let Some(message) = message {
                reading.take(message);
            }
            if reading.is_over() {
                break;
            }
        }
        reading.buffer = bytes;
        Ok(())
    }
}

/// The state of a read.
struct RunReading {
    next: Position,
    messages: Vec<Arc<StoredMessage>>,
    count: usize,
    bytes: usize,
    bytes_max: usize,
    buffer: Vec<u8>,
}

impl RunReading {
    fn is_over(&self) -> bool {
        self.messages.len() >= self.count || self.bytes >= self.bytes_max
    }

    fn bytes_left(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    fn take(&mut self, message: StoredMessage) {
        self.bytes += message.len();
        self.messages.push(Arc::new(message));
    }
}
