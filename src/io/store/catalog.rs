//! The store's memory: all state of the topics except messages, and where the messages are.
//!
//! The index of a segment groups its messages by topic, so a million messages of one topic in a
//! segment take one [`IndexRun`] of memory. In the newest segment, which has no index yet, each
//! message takes an [`IndexEntry`]. Every change made here is also a [`Record`] of the log:
//! applying the records again yields the same catalog.

use super::place::{Address, Index, IndexEntry, IndexGap, IndexRun, Piece};
use super::record::Record;
use crate::service::topic::{Holding, Position, StoredTopic, TopicNumber};
use ahash::{HashMap, HashMapExt as _};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The catalog's data of a topic.
#[derive(Debug, Default)]
pub(super) struct CatalogTopic {
    /// `None` until its record was read.
    pub(super) name: Option<Arc<str>>,
    state: Box<[u8]>,
    subscriptions: BTreeMap<Box<str>, Box<[u8]>>,
    sequences: BTreeMap<Box<str>, i64>,
    /// Messages before it are deleted.
    floor: Position,
    /// In order; positions never overlap, nor with the newest.
    runs: Vec<IndexRun>,
    newest: Vec<IndexEntry>,
    is_sorted: bool,
    pub(super) delayed: BTreeMap<(u64, Position), Address>,
    /// Bytes of its messages that are not deleted.
    pub(super) bytes: u64,
}

/// A segment of the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    /// Length in bytes, up to the end of its last record.
    pub(super) length: u32,
    /// Bytes of its messages that are not deleted.
    pub(super) live: u64,
    /// Bytes of its messages that wait for their delivery time, whether or not they are live
    /// otherwise.
    pub(super) delayed: u64,
}

/// The segments by number; the last one is being written.
pub(super) type Segments = BTreeMap<u32, Segment>;

/// The catalog of a log.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) topics: HashMap<TopicNumber, CatalogTopic>,
    pub(super) names: BTreeMap<Arc<str>, TopicNumber>,
    pub(super) segments: Segments,
    /// The number of the next topic.
    pub(super) next: TopicNumber,
    /// Topics with messages in the newest segment.
    touched: Vec<TopicNumber>,
    /// Number of messages waiting for their delivery time.
    pub(super) delayed: usize,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            topics: HashMap::new(),
            names: BTreeMap::new(),
            segments: BTreeMap::new(),
            next: 1,
            touched: Vec::new(),
            delayed: 0,
        }
    }
}

impl CatalogTopic {
    /// Number of messages.
    fn count(&self) -> u64 {
        let indexed: u64 = self.runs.iter().map(|run| u64::from(run.count)).sum();
        indexed + self.newest.len() as u64
    }

    pub(super) fn is_trimmed_to(&self, below: Position) -> bool {
        below <= self.floor
    }

    fn sort(&mut self) {
        if !std::mem::replace(&mut self.is_sorted, true) {
            self.newest.sort_unstable_by_key(|entry| entry.position);
        }
    }

    /// The first messages at or after a position, up to `count`, as far as they are stored
    /// together.
    pub(super) fn piece(&mut self, from: Position, count: usize) -> Option<Piece> {
        self.sort();
        let from = from.max(self.floor);
        let at = self.runs.partition_point(|run| run.end() <= from);
        let entries = &self.newest[self.newest.partition_point(|entry| entry.position < from)..];
        let Some(run) = self.runs.get(at) else {
            let entries = &entries[..entries.len().min(count)];
            return (!entries.is_empty()).then(|| Piece::Newest(entries.to_vec()));
        };
        let before = entries.partition_point(|entry| entry.position < run.first);
        if before > 0 {
            return Some(Piece::Newest(entries[..before.min(count)].to_vec()));
        }
        let mut run = *run;
        run.advance(from);
        run.count = run.count.min(count as u32);
        Some(Piece::Indexed(run))
    }

    /// The position of the first message that is not deleted.
    pub(super) fn first(&mut self) -> Option<Position> {
        Some(match self.piece(Position::FIRST, 1)? {
            Piece::Indexed(run) => run.first,
            Piece::Newest(entries) => entries.first()?.position,
        })
    }

    /// The position of the last message.
    pub(super) fn last(&mut self) -> Option<Position> {
        self.sort();
        let newest = self.newest.last().map(|entry| entry.position);
        let indexed = self.runs.last().map(|run| Position::of_number(run.end().number() - 1));
        newest.max(indexed)
    }

    fn insert(&mut self, run: IndexRun) {
        let at = self.runs.partition_point(|other| other.first < run.first);
        self.runs.insert(at, run);
    }

    /// Removes runs and their bytes.
    fn take_runs(
        &mut self,
        goes: impl Fn(&IndexRun) -> bool,
        segments: &mut Segments,
    ) -> Vec<IndexRun> {
        let taken: Vec<IndexRun> = self.runs.extract_if(.., |run| goes(run)).collect();
        for run in &taken {
            free(&mut self.bytes, segments, run.segment, run.bytes);
        }
        taken
    }

    /// Adds a run and its bytes.
    fn put_run(&mut self, run: IndexRun, segments: &mut Segments) {
        hold(&mut self.bytes, segments, run.segment, run.bytes);
        self.insert(run);
    }

    /// Removes a moved message from its run, which is split in two.
    fn detach(&mut self, position: Position, segments: &mut Segments) {
        let at = self.runs.partition_point(|run| run.end() <= position);
        let Some(run) = self.runs.get_mut(at).filter(|run| run.first <= position) else { return };
        let (before, behind, bytes) = run.without(position);
        free(&mut self.bytes, segments, run.segment, bytes);
        self.runs.splice(at..=at, [before, behind].into_iter().filter(|run| run.count > 0));
    }

    /// Drops messages from a position on: they are being written again, because they may be lost.
    fn cut_from(&mut self, from: Position, segments: &mut Segments) {
        self.sort();
        let at = self.newest.partition_point(|entry| entry.position < from);
        self.free_newest(at.., segments);
        while let Some(run) = self.runs.last_mut().filter(|run| run.end() > from) {
            let bytes = run.cut(from);
            free(&mut self.bytes, segments, run.segment, bytes);
            if run.count == 0 {
                self.runs.pop();
            }
        }
    }

    fn free_newest(&mut self, range: impl std::ops::RangeBounds<usize>, segments: &mut Segments) {
        let newest = segments.last_key_value().map_or(0, |(number, _)| *number);
        for entry in self.newest.drain(range) {
            free(&mut self.bytes, segments, newest, entry.length);
        }
    }

    fn trim(&mut self, below: Position, segments: &mut Segments) {
        self.floor = self.floor.max(below);
        let floor = self.floor;
        let gone = self.runs.partition_point(|run| run.end() <= floor);
        for run in self.runs.drain(..gone) {
            free(&mut self.bytes, segments, run.segment, run.bytes);
        }
        if let Some(run) = self.runs.first_mut() {
            let bytes = run.advance(floor);
            free(&mut self.bytes, segments, run.segment, bytes);
        }
        self.sort();
        let gone = self.newest.partition_point(|entry| entry.position < floor);
        self.free_newest(..gone, segments);
        if self.runs.is_empty() {
            // Returns the memory of a long backlog.
            self.runs.shrink_to(8);
        }
    }

    /// The topic for [`Archive::load`](crate::service::topic::Archive::load), without the last
    /// message.
    pub(super) fn loaded(&self, number: TopicNumber) -> StoredTopic {
        StoredTopic {
            number,
            topic: (!self.state.is_empty()).then(|| self.state.clone()),
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(name, state)| (name.clone(), state.clone()))
                .collect(),
            sequences: self.sequences.iter().map(|(name, last)| (name.clone(), *last)).collect(),
            last: None,
        }
    }

    /// Everything known about the topic, as records that restore it; runs and delayed messages only
    /// in segments before `before`.
    pub(super) fn restate(
        &self,
        topic: TopicNumber,
        before: u32,
        mut each: impl FnMut(&Record<'_>),
    ) {
        let Some(name) = &self.name else { return };
        each(&Record::Topic { topic, name, state: &self.state });
        if self.floor > Position::FIRST {
            each(&Record::Trimmed { topic, below: self.floor });
        }
        for (name, state) in &self.subscriptions {
            each(&Record::Subscription { topic, name, state });
        }
        for (name, last) in &self.sequences {
            each(&Record::Sequence { topic, name, last: *last });
        }
        let runs: Vec<IndexRun> =
            self.runs.iter().filter(|run| run.segment < before).copied().collect();
        // Written even when empty, to replace earlier runs.
        each(&Record::Runs { topic, runs });
        let mut delays = self.delayed.iter().filter(|(_, at)| at.segment < before).peekable();
        let mut is_first = true;
        while is_first || delays.peek().is_some() {
            let some = delays.by_ref().take(DELAYS_AT_ONCE);
            let delays =
                some.map(|((deliver_ms, position), at)| (*deliver_ms, *position, *at)).collect();
            each(&Record::Delays { topic, is_first, delays });
            is_first = false;
        }
    }
}

/// Limit on the delayed messages in one record: some hundred kilobytes, far less than a segment.
const DELAYS_AT_ONCE: usize = 10_000;

impl Segment {
    /// Whether a checkpoint would replace all that is needed of it.
    pub(super) fn is_dead(&self) -> bool {
        self.live == 0 && self.delayed == 0
    }

    /// The share of it that is needed, in thousandths.
    pub(super) fn needed_permille(&self) -> u64 {
        self.needed() * 1000 / u64::from(self.length).max(1)
    }

    /// Approximate bytes of it that are needed.
    pub(super) fn needed(&self) -> u64 {
        (self.live + self.delayed).min(self.length.into())
    }
}

impl Catalog {
    /// The next topic number that leaves this remainder when divided by `step`.
    pub(super) fn next_number(&self, step: u32, remainder: u32) -> Option<TopicNumber> {
        let up = (remainder + step - self.next % step) % step;
        self.next.checked_add(up)
    }

    /// Adds a topic, or replaces its state.
    fn name_topic(&mut self, number: TopicNumber, name: &str, state: &[u8]) {
        let topic = self.topics.entry(number).or_default();
        // A topic keeps its name; later records only update its state.
        if topic.name.is_none() {
            let name: Arc<str> = name.into();
            topic.name = Some(name.clone());
            self.names.insert(name, number);
        }
        topic.state = state.into();
        self.next = self.next.max(number.saturating_add(1));
    }

    /// Removes a topic.
    pub(super) fn delete(&mut self, number: TopicNumber) {
        let Some(mut topic) = self.topics.remove(&number) else { return };
        topic.trim(Position::END, &mut self.segments);
        for at in topic.delayed.values() {
            self.undelay(*at);
        }
        // A newer topic may have the name by now.
        if let Some(name) = topic.name
            && self.names.get(&name) == Some(&number)
        {
            self.names.remove(&name);
        }
    }

    fn topic(&mut self, number: TopicNumber) -> &mut CatalogTopic {
        self.topics.entry(number).or_default()
    }

    fn undelay(&mut self, at: Address) {
        self.delayed -= 1;
        free_delayed(&mut self.segments, at);
    }

    /// Adds a message of the newest segment. Returns the gap between it and the last one, if any.
    fn append(
        &mut self,
        at: Address,
        (number, position): (TopicNumber, Position),
        deliver_ms: Option<u64>,
        is_moved: bool,
    ) -> Option<IndexGap> {
        let Self { topics, segments, delayed, touched, .. } = self;
        let topic = topics.entry(number).or_default();
        let mut gap = None;
        if is_moved {
            topic.detach(position, segments);
        } else if let Some(last) = topic.last() {
            let next = last.after();
            // Written again after a failed sync: its first copy is void.
            if position < next {
                topic.cut_from(position, segments);
            } else if position > next && position.ledger() == next.ledger() {
                gap = IndexGap::between(number, next, position);
            }
        }

        if let Some(deliver_ms) = deliver_ms {
            *delayed += 1;
            segments.entry(at.segment).or_default().delayed += u64::from(at.length);
            if let Some(before) = topic.delayed.insert((deliver_ms, position), at) {
                *delayed -= 1;
                free_delayed(segments, before);
            }
        }

        // A trimmed message may still wait for its delivery time.
        if position >= topic.floor {
            // Lets sealing visit only these topics.
            if topic.newest.is_empty() {
                touched.push(number);
            }
            topic.is_sorted =
                topic.newest.last().is_none_or(|last| topic.is_sorted && last.position < position);
            topic.newest.push(IndexEntry { position, offset: at.offset, length: at.length });
            hold(&mut topic.bytes, segments, at.segment, at.length);
        }
        gap
    }

    /// Removes messages before a position.
    pub(super) fn trim(&mut self, number: TopicNumber, below: Position) {
        if let Some(topic) = self.topics.get_mut(&number) {
            topic.trim(below, &mut self.segments);
        }
    }

    /// Drops messages of the newest segment that may be lost, and are written again to another.
    pub(super) fn forget_from(&mut self, segment: u32, offset: u32) {
        for number in &self.touched {
            let Some(topic) = self.topics.get_mut(number) else { continue };
            topic.newest.retain(|entry| {
                let is_kept = entry.offset < offset;
                if !is_kept {
                    free(&mut topic.bytes, &mut self.segments, segment, entry.length);
                }
                is_kept
            });
        }
    }

    /// Removes delayed messages before a time and position from their index.
    pub(super) fn trim_delayed(&mut self, number: TopicNumber, below: (u64, Position)) {
        let Some(topic) = self.topics.get_mut(&number) else { return };
        let kept = topic.delayed.split_off(&below);
        let gone = std::mem::replace(&mut topic.delayed, kept);
        gone.values().for_each(|at| self.undelay(*at));
    }

    /// Closes the newest segment: its messages become runs of the returned index.
    pub(super) fn seal(&mut self, segment: u32) -> Index {
        let mut index = Index::default();
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for number in touched {
            let Some(topic) = self.topics.get_mut(&number) else { continue };
            topic.sort();
            for (_, run) in index.add(number, segment, &std::mem::take(&mut topic.newest)) {
                topic.insert(*run);
            }
        }
        index
    }

    /// Adopts a rebuilt index of a segment: its runs have moved, and damaged messages are gone.
    /// Returns the gaps these leave.
    pub(super) fn reindex(&mut self, segment: u32, index: &Index) -> Vec<IndexGap> {
        let mut gaps = Vec::new();
        let numbers: Vec<TopicNumber> = self
            .topics
            .iter()
            .filter(|(_, topic)| topic.runs.iter().any(|run| run.segment == segment))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let Some(topic) = self.topics.get_mut(&number) else { continue };
            let old = topic.take_runs(|run| run.segment == segment, &mut self.segments);
            for (_, found) in index.runs.iter().filter(|(of, _)| *of == number) {
                for known in &old {
                    // Only messages live before are live again.
                    let mut run = *found;
                    run.advance(known.first);
                    run.cut(known.end());
                    if run.count > 0 && run.first >= known.first {
                        topic.put_run(run, &mut self.segments);
                    }
                }
            }

            // Positions of the old runs that are in no new one are damaged.
            for known in old {
                let mut from = known.first;
                for run in topic.runs.iter().filter(|run| run.segment == segment) {
                    if known.first <= run.first && run.first < known.end() {
                        gaps.extend(IndexGap::between(number, from, run.first));
                        from = run.end();
                    }
                }
                gaps.extend(IndexGap::between(number, from, known.end()));
            }
        }
        gaps
    }

    /// Whether the log, and whether the index of delayed messages, needs the message at this place
    /// of a sealed segment.
    pub(super) fn needs(
        &self,
        at: Address,
        topic: TopicNumber,
        position: Position,
        deliver_ms: Option<u64>,
    ) -> (bool, bool) {
        let Some(topic) = self.topics.get(&topic) else { return (false, false) };
        let run = topic.runs.get(topic.runs.partition_point(|run| run.end() <= position));
        let is_live = run.is_some_and(|run| run.segment == at.segment && run.first <= position);
        let delayed = deliver_ms.and_then(|time| topic.delayed.get(&(time, position)));
        (is_live && position >= topic.floor, delayed == Some(&at))
    }

    /// The messages that would be lost with a segment: topics with counts.
    pub(super) fn losses(&self, segment: u32) -> Vec<(TopicNumber, u64)> {
        let mut losses: Vec<(TopicNumber, u64)> = self
            .topics
            .iter()
            .map(|(number, topic)| {
                let runs = topic.runs.iter().filter(|run| run.segment == segment);
                let live: u64 = runs.map(|run| u64::from(run.count)).sum();
                let delayed =
                    topic.delayed.values().filter(|at| at.segment == segment).count() as u64;
                (*number, live.max(delayed))
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        losses.sort_unstable();
        losses
    }

    /// The messages stored in a segment, as gaps.
    pub(super) fn gaps_without(&self, segment: u32) -> Vec<IndexGap> {
        let mut gaps = Vec::new();
        for (number, topic) in &self.topics {
            let runs = topic.runs.iter().filter(|run| run.segment == segment);
            gaps.extend(runs.filter_map(|run| IndexGap::between(*number, run.first, run.end())));
            // Delayed messages are in the log too, unless they were trimmed there.
            let delayed = topic.delayed.iter().filter(|(_, at)| at.segment == segment);
            let delayed = delayed.map(|((_, position), _)| *position);
            let only_delayed = delayed.filter(|position| *position < topic.floor);
            gaps.extend(only_delayed.filter_map(|at| IndexGap::between(*number, at, at.after())));
        }
        gaps
    }

    /// Drops a segment that no longer exists.
    pub(super) fn give_up(&mut self, segment: u32) {
        for topic in self.topics.values_mut() {
            topic.take_runs(|run| run.segment == segment, &mut self.segments);
            let before = topic.delayed.len();
            topic.delayed.retain(|_, at| at.segment != segment);
            self.delayed -= before - topic.delayed.len();
        }
        self.segments.remove(&segment);
    }

    /// The part of a gap that is still one: not filled by a moved message, and not deleted.
    pub(super) fn still_open(&mut self, gap: IndexGap) -> Option<IndexGap> {
        let topic = self.topics.get_mut(&gap.topic)?;
        let from = gap.from.max(topic.floor);
        let to = match topic.piece(from, 1)? {
            Piece::Indexed(run) => run.first,
            Piece::Newest(entries) => entries.first()?.position,
        };
        IndexGap::between(gap.topic, from, to)
    }

    /// Topics without a record of their name, with their number of messages.
    pub(super) fn nameless(&self) -> Vec<(TopicNumber, u64)> {
        let nameless = self.topics.iter().filter(|(_, topic)| topic.name.is_none());
        nameless.map(|(number, topic)| (*number, topic.count())).collect()
    }

    /// The topics that use most space, up to `count`.
    pub(super) fn largest(&self, count: usize) -> Vec<Holding> {
        let mut largest = Vec::new();
        for topic in self.topics.values().filter(|topic| topic.bytes > 0) {
            let Some(name) = &topic.name else { continue };
            let holding = Holding { topic: name[..].into(), bytes: topic.bytes, oldest_ms: None };
            Holding::add(&mut largest, holding, count);
        }
        Holding::keep_largest(&mut largest, count);
        largest
    }

    /// Number of stored messages.
    pub(super) fn messages(&self) -> u64 {
        self.topics.values().map(CatalogTopic::count).sum()
    }

    /// Applies the record at this place. `begin` is the segment from which the log is being read:
    /// what checkpoints say about messages is valid for the segments before.
    pub(super) fn apply(
        &mut self,
        record: &Record<'_>,
        at: Address,
        begin: u32,
    ) -> Option<IndexGap> {
        match record {
            Record::Message { topic, position, deliver_ms, is_moved, .. } => {
                return self.append(at, (*topic, *position), *deliver_ms, *is_moved);
            }
            Record::Topic { topic, name, state } => self.name_topic(*topic, name, state),
            Record::NoTopic { topic } => self.delete(*topic),
            Record::Subscription { topic, name, state } => {
                drop(self.topic(*topic).subscriptions.insert((*name).into(), (*state).into()));
            }
            Record::NoSubscription { topic, name } => {
                drop(self.topic(*topic).subscriptions.remove(*name))
            }
            Record::Sequence { topic, name, last } => {
                match self.topic(*topic).sequences.get_mut(*name) {
                    Some(known) => *known = *last,
                    None => drop(self.topic(*topic).sequences.insert((*name).into(), *last)),
                }
            }
            Record::NoSequence { topic, name } => drop(self.topic(*topic).sequences.remove(*name)),
            Record::Trimmed { topic, below } => self.trim(*topic, *below),
            Record::TrimmedDelayed { topic, below } => self.trim_delayed(*topic, *below),
            Record::Runs { topic, runs } => self.restate_runs(*topic, runs, begin),
            Record::Delays { topic, is_first, delays } => {
                self.restate_delays(*topic, *is_first, delays, begin);
            }
            Record::Counts { next, .. } => self.next = self.next.max(*next),
            Record::Start { .. }
            | Record::Dropped { .. }
            | Record::Sealed {}
            | Record::Checkpoint { .. }
            | Record::Padding { .. } => {}
        }
        None
    }

    fn restate_runs(&mut self, number: TopicNumber, runs: &[IndexRun], begin: u32) {
        let topic = self.topics.entry(number).or_default();
        topic.take_runs(|run| run.segment < begin, &mut self.segments);
        for run in runs.iter().filter(|run| run.segment < begin) {
            topic.put_run(*run, &mut self.segments);
        }
        let floor = topic.floor;
        self.trim(number, floor);
    }

    fn restate_delays(
        &mut self,
        number: TopicNumber,
        is_first: bool,
        delays: &[(u64, Position, Address)],
        begin: u32,
    ) {
        let topic = self.topics.entry(number).or_default();
        let mut gone = Vec::new();
        if is_first {
            // Entries after its last one belong to the next list, which may not have been written.
            let last = delays.last().map(|(deliver_ms, position, _)| (*deliver_ms, *position));
            topic.delayed.retain(|key, at| {
                let is_kept = at.segment >= begin || last.is_some_and(|last| *key > last);
                gone.extend((!is_kept).then_some(*at));
                is_kept
            });
        }
        for (deliver_ms, position, at) in
            delays.iter().filter(|(.., at)| at.segment < begin && at.is_sound())
        {
            // A newer segment may have restored the entry already, at its newer place.
            if let std::collections::btree_map::Entry::Vacant(place) =
                topic.delayed.entry((*deliver_ms, *position))
            {
                place.insert(*at);
                self.delayed += 1;
                self.segments.entry(at.segment).or_default().delayed += u64::from(at.length);
            }
        }
        gone.into_iter().for_each(|at| self.undelay(at));
    }
}

fn free_delayed(segments: &mut Segments, at: Address) {
    if let Some(segment) = segments.get_mut(&at.segment) {
        segment.delayed = segment.delayed.saturating_sub(at.length.into());
    }
}

/// Adds bytes to a topic and to a segment.
fn hold(held: &mut u64, segments: &mut Segments, segment: u32, bytes: u32) {
    *held += u64::from(bytes);
    segments.entry(segment).or_default().live += u64::from(bytes);
}

/// Subtracts bytes from a topic and from a segment.
fn free(held: &mut u64, segments: &mut Segments, segment: u32, bytes: u32) {
    *held -= u64::from(bytes);
    if let Some(segment) = segments.get_mut(&segment) {
        segment.live = segment.live.saturating_sub(bytes.into());
    }
}
