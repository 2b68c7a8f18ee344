//! Reading a log when the store is opened: its last two checkpoints and the records after them
//! yield the catalog.

use super::catalog::Catalog;
use super::place::{Address, Index, IndexGap};
use super::record::{self, FoundRecord, Record, RecordScan};
use super::segment::{self, SegmentFile};
use crate::service::topic::TopicNumber;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// Limit on the damaged places reported; with more, the whole disk is bad.
const DAMAGES_MAX: usize = 256;
/// Limit on the gaps between messages that are examined when something is damaged.
const GAPS_MAX: usize = 10_000;

/// A log that was read.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) catalog: Catalog,
    /// The number of times the store was opened.
    pub(super) ledger: u32,
    /// The last segment with any records, and their end.
    pub(super) newest: u32,
    pub(super) end: u32,
    /// The first segment that was read.
    pub(super) from: u32,
    /// The segment in which the last complete checkpoint began.
    pub(super) began: u32,
    /// Indexes of the segments that were read.
    pub(super) indexes: Vec<(u32, Arc<Index>)>,
    /// Existing segments that are not needed.
    pub(super) needless: Vec<u32>,
    pub(super) findings: Findings,
}

/// Irregularities.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Bytes of an unfinished write at the end.
    pub(super) cut_bytes: u64,
    pub(super) damages: Vec<Damage>,
    /// Missing segments, with what is known about their content.
    pub(super) missing: Vec<MissingSegment>,
    /// Messages lost to damage, by topic name.
    pub(super) lost: Vec<LostRange>,
    /// Files that do not belong to the store.
    pub(super) foreign: Vec<String>,
}

/// A damaged place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) segment: u32,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A missing segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissingSegment {
    pub(super) segment: u32,
    /// Topics with the number of messages it contained, as far as known.
    pub(super) topics: Vec<(Box<str>, u64)>,
}

/// A range of lost messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LostRange {
    pub(super) topic: Box<str>,
    pub(super) gap: IndexGap,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { segment, from, to } = self;
        write!(f, "{} bytes at {from} of segment {segment}", to - from)
    }
}

impl std::fmt::Display for LostRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let IndexGap { from, to, .. } = self.gap;
        let count = to.number() - from.number();
        let plural = if count == 1 { "" } else { "s" };
        write!(
            f,
            "{count} message{plural} of {} from {}:{} on",
            self.topic,
            from.ledger(),
            from.entry()
        )
    }
}

impl std::fmt::Display for MissingSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "segment {}", self.segment)?;
        match self.topics.first() {
            None => f.write_str(
                " (its content is unknown; messages acknowledged in it are delivered again)",
            ),
            Some(_) => {
                let listed: Vec<String> = self
                    .topics
                    .iter()
                    .take(5)
                    .map(|(name, count)| format!("{count} of {name}"))
                    .collect();
                let more = self.topics.len().saturating_sub(5);
                let more =
                    if more > 0 { format!(", and of {more} more topics") } else { String::new() };
                write!(f, " (messages: {}{more})", listed.join(", "))
            }
        }
    }
}

/// Reads a log without changing anything.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn read(directory: &Path) -> io::Result<Recovered> {
    let (numbers, foreign) = segment::list(directory)?;
    let mut reading = LogReading::new();
    reading.recovered.findings.foreign = foreign;
    let Some((newest, from)) = beginning(directory, &numbers)? else {
        // Only prepared segments, without any records.
        reading.recovered.needless = numbers;
        return Ok(reading.recovered);
    };
    let used: Vec<u32> = numbers.iter().copied().filter(|number| *number <= newest).collect();
    // Without a record that determines it, start at the first segment; a number after the last is
    // damage.
    let from = if from == 0 { used.first().copied().unwrap_or(newest) } else { from.min(newest) };
    reading.recovered.from = from;
    reading.recovered.newest = newest;
    let read: Vec<u32> = used.iter().copied().filter(|number| *number >= from).collect();
    for (at, number) in read.iter().enumerate() {
        // The end given by the next segment: after that, the file may contain writes that were
        // repeated there.
        let ends_at = match read.get(at + 1) {
            Some(next) if *next == number + 1 => end_before(directory, *next)?,
            _ => None,
        };
        reading.segment(directory, *number, ends_at, *number == newest)?;
    }
    reading.finish(&numbers, &used);
    let mut recovered = reading.recovered;
    for number in used {
        let length =
            File::open(SegmentFile::Segment(number).path(directory))?.metadata()?.len() as u32;
        if let Some(segment) = recovered.catalog.segments.get_mut(&number)
            && segment.length == 0
        {
            segment.length = length;
        }
    }
    Ok(recovered)
}

/// The end of the previous segment, as recorded at the start of this one.
fn end_before(directory: &Path, number: u32) -> io::Result<Option<u32>> {
    let mut bytes = [0; 64];
    let read = File::open(SegmentFile::Segment(number).path(directory))?.read_at(&mut bytes, 0)?;
    let body = record::body(&bytes[..read], number, 0);
    Ok(match body.and_then(Record::read) {
        Some(Record::Start { ends_at, .. }) => Some(ends_at),
        _ => None,
    })
}

/// The last segment with any records, and the segment from which to read the log.
fn beginning(directory: &Path, numbers: &[u32]) -> io::Result<Option<(u32, u32)>> {
    let mut newest = None;
    for number in numbers.iter().rev() {
        let bytes = segment::read_whole(directory, *number)?;
        let mut from = None;
        for found in RecordScan::new(&bytes, *number, 0) {
            let FoundRecord::Record { body, .. } = found else { continue };
            newest.get_or_insert(*number);
            let read = Record::read(body);
            if let Some(
                Record::Start { from: known, .. } | Record::Checkpoint { from: known, .. },
            ) = read
            {
                from = Some(known);
            }
        }
        // Backwards, until a segment determines where reading starts.
        if let (Some(newest), Some(from)) = (newest, from) {
            return Ok(Some((newest, from)));
        }
    }
    Ok(newest.map(|newest| (newest, 0)))
}

/// The state of reading the segments in order.
struct LogReading {
    recovered: Recovered,
    dropped: BTreeSet<u32>,
    /// Older segments, as listed by the last checkpoint.
    counted: BTreeMap<u32, u32>,
    gaps: Vec<IndexGap>,
    /// Whether the last segment read has a successor.
    is_sealed: bool,
}

impl LogReading {
    fn new() -> Self {
        let recovered = Recovered { from: 1, began: 1, ..Recovered::default() };
        Self {
            recovered,
            dropped: BTreeSet::new(),
            counted: BTreeMap::new(),
            gaps: Vec::new(),
            is_sealed: false,
        }
    }

    fn segment(
        &mut self,
        directory: &Path,
        number: u32,
        ends_at: Option<u32>,
        is_newest: bool,
    ) -> io::Result<()> {
        let mut bytes = segment::read_whole(directory, number)?;
        // Void copies may follow there, of writes that a failed sync made the daemon repeat.
        if let Some(ends_at) = ends_at {
            bytes.truncate(ends_at as usize);
        }
        let Self { recovered, .. } = self;
        recovered.catalog.segments.entry(number).or_default();
        self.is_sealed = false;
        let mut end = 0;
        for found in RecordScan::new(&bytes, number, 0) {
            match found {
                FoundRecord::Record { body, offset, length } => {
                    let at =
                        Address { segment: number, offset: offset as u32, length: length as u32 };
                    match Record::read(body) {
                        Some(record) => self.record(&record, at),
                        None => self.damage(Damage {
                            segment: number,
                            from: offset,
                            to: offset + length,
                        }),
                    }
                }
                FoundRecord::Damage { from, to } => {
                    self.damage(Damage { segment: number, from, to })
                }
                FoundRecord::End { offset, cut_bytes } => {
                    end = offset;
                    // The next segment records the length of this one: a shorter one is damage, not
                    // an unfinished write.
                    if ends_at.is_some_and(|ends_at| offset < ends_at as usize) {
                        self.damage(Damage {
                            segment: number,
                            from: offset,
                            to: bytes.len().max(offset),
                        });
                    } else if is_newest {
                        self.recovered.findings.cut_bytes += cut_bytes as u64;
                    }
                }
            }
        }
        let recovered = &mut self.recovered;
        recovered.end = end as u32;
        if let Some(segment) = recovered.catalog.segments.get_mut(&number) {
            segment.length = end as u32;
        }
        let index = recovered.catalog.seal(number);
        recovered.indexes.push((number, Arc::new(index)));
        Ok(())
    }

    fn damage(&mut self, damage: Damage) {
        if self.recovered.findings.damages.len() < DAMAGES_MAX {
            self.recovered.findings.damages.push(damage);
        }
    }

    fn record(&mut self, record: &Record<'_>, at: Address) {
        let recovered = &mut self.recovered;
        self.is_sealed = match record {
            Record::Padding { .. } => self.is_sealed,
            record => matches!(record, Record::Sealed {}),
        };
        match record {
            Record::Start { ledger, .. } => recovered.ledger = recovered.ledger.max(*ledger),
            Record::Dropped { segment } => {
                self.dropped.insert(*segment);
                self.counted.remove(segment);
            }
            Record::Counts { segments, .. } => self.counted = segments.iter().copied().collect(),
            Record::Checkpoint { began, .. } => recovered.began = (*began).min(at.segment),
            Record::Message { position, .. } => {
                recovered.ledger = recovered.ledger.max(position.ledger() as u32);
            }
            _ => {}
        }
        let gap = recovered.catalog.apply(record, at, recovered.from);
        self.gaps.extend(gap.filter(|_| self.gaps.len() < GAPS_MAX));
    }

    /// Determines which segments are missing, and which are not needed.
    fn finish(&mut self, numbers: &[u32], used: &[u32]) {
        let Self { recovered, dropped, counted, .. } = self;
        let there: BTreeSet<u32> = used.iter().copied().collect();
        let in_window = recovered.from..=recovered.newest;
        let mut needed: BTreeSet<u32> =
            in_window.filter(|number| !dropped.contains(number)).collect();
        needed.extend(counted.keys().filter(|number| **number < recovered.from));
        // The successor may exist without any records on the disk.
        if self.is_sealed && !numbers.contains(&(recovered.newest + 1)) {
            needed.insert(recovered.newest + 1);
        }
        for (number, length) in counted.iter() {
            let segment = recovered.catalog.segments.entry(*number).or_default();
            if segment.length == 0 {
                segment.length = *length;
            }
        }
        let missing: Vec<u32> = needed.difference(&there).copied().collect();
        for number in missing {
            let topics = recovered.catalog.losses(number);
            let topics =
                topics.into_iter().map(|(topic, count)| (name(&recovered.catalog, topic), count));
            let topics = topics.collect();
            recovered.findings.missing.push(MissingSegment { segment: number, topics });
        }
        // A segment dropped although messages in it were needed, as an earlier checkpoint still
        // lists them.
        for number in dropped.iter() {
            if recovered.catalog.segments.get(number).is_some_and(|segment| !segment.is_dead()) {
                for gap in recovered.catalog.gaps_without(*number) {
                    let topic = name(&recovered.catalog, gap.topic);
                    recovered.findings.lost.push(LostRange { topic, gap });
                }
                recovered.catalog.give_up(*number);
            }
        }
        // Gaps occur without damage too, where a write was refused.
        if !recovered.findings.damages.is_empty() || !recovered.findings.missing.is_empty() {
            let gaps = self.gaps.iter().filter_map(|gap| recovered.catalog.still_open(*gap));
            let gaps: Vec<IndexGap> = gaps.collect();
            for gap in gaps {
                let topic = name(&recovered.catalog, gap.topic);
                recovered.findings.lost.push(LostRange { topic, gap });
            }
        }
        recovered.needless =
            numbers.iter().copied().filter(|number| !needed.contains(number)).collect();
        recovered.catalog.segments.retain(|number, _| needed.contains(number));
    }
}

fn name(catalog: &Catalog, topic: TopicNumber) -> Box<str> {
    let name = catalog.topics.get(&topic).and_then(|topic| topic.name.as_deref());
    name.map_or_else(|| format!("topic number {topic}").into(), Box::from)
}
