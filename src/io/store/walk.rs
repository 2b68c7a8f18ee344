//! Reading in order, around what is damaged.
//!
//! A damaged block of a table is an error of whoever reads across it. Then each place is asked for by itself, which
//! finds what other tables have there; and when too many in a row give nothing, the next place from which reading
//! goes on is searched for by halves.
//!
//! An error that passes, as when no more files can be opened, says nothing of what is stored: then nothing is left out,
//! and the reader is told.

use super::base::{message_key, position_of};
use crate::metrics::Metrics;
use crate::topic::{Number, Position, Stored};
use fjall::{Keyspace, Readable as _, Snapshot};
use rustix::io::Errno;
use std::collections::HashSet;

/// Places in a row that are asked for one by one and cannot be read, before the end is searched for: more than a block
/// has of the smallest messages.
const FAILURES_MAX: usize = 1024;
/// Places in a row where nothing is, likewise: the next message may be in another ledger.
const ABSENT_MAX: usize = 64;
/// Damaged places that are told one by one; behind them a whole disk is bad, and the counter says how much.
const REPORTS_MAX: usize = 256;

/// What is read, as it was at one moment.
pub(super) type Source<'a> = (&'a Snapshot, &'a Keyspace);

/// A key and its value.
pub(super) type Pair = (Box<[u8]>, Box<[u8]>);

/// Whether an error says that what is stored cannot be read, now and later. Without a number of the system it is of the
/// contents, which may also have led to a place that no file has.
fn is_damage(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            let of_contents = [Errno::IO, Errno::INVAL, Errno::OVERFLOW].map(Errno::raw_os_error);
            error.raw_os_error().is_none_or(|number| of_contents.contains(&number))
        }
        fjall::Error::Poisoned | fjall::Error::Locked | fjall::Error::KeyspaceDeleted => false,
        _ => true,
    }
}

/// Whether it is the disk that says so, and not a checksum.
fn is_of_disk(error: &fjall::Error) -> bool {
    let (fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error))) = error else {
        return false;
    };
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// Shows every record whose key is from `from` to below `below`, in order, and `None` for each place where some cannot
/// be read, until `each` says that it is enough. Both keys belong to one topic. Returns whether it was the disk that
/// could not read.
///
/// # Errors
/// One that passes.
pub(super) fn records(
    (all, keyspace): Source<'_>,
    from: &[u8],
    below: &[u8],
    mut each: impl FnMut(Option<(&[u8], &[u8])>) -> bool,
) -> fjall::Result<bool> {
    let mut next = Place::of(from);
    let end = Place::of(below);
    let mut of_disk = false;
    while next.at < end.at {
        let mut is_good = true;
        for item in all.range(keyspace, next.key()..end.key()) {
            let (key, value) = match item.into_inner() {
                Ok(pair) => pair,
                Err(error) if is_damage(&error) => {
                    of_disk |= is_of_disk(&error);
                    is_good = false;
                    break;
                }
                Err(error) => return Err(error),
            };
            next = Place::of(&key).after();
            if !each(Some((&key, &value))) {
                return Ok(of_disk);
            }
        }
        if is_good {
            return Ok(of_disk);
        }
        match around((all, keyspace), next, &end, &mut each)? {
            Some(place) => next = place,
            None => return Ok(of_disk),
        }
    }
    Ok(of_disk)
}

/// Asks place by place from one on that cannot be read. Returns where reading goes on, or nothing when it is enough.
fn around(
    (all, keyspace): Source<'_>,
    mut next: Place,
    end: &Place,
    each: &mut impl FnMut(Option<(&[u8], &[u8])>) -> bool,
) -> fjall::Result<Option<Place>> {
    let (mut failures, mut absent, mut is_told) = (0, 0, false);
    while next.at < end.at && failures < FAILURES_MAX && absent < ABSENT_MAX {
        let key = next.key();
        let had_failed = failures > 0;
        match all.get(keyspace, &key) {
            Ok(Some(value)) => {
                next = next.after();
                if !each(Some((&key, &value))) {
                    return Ok(None);
                }
                if had_failed && is_readable((all, keyspace), &next, end) {
                    return Ok(Some(next));
                }
                (failures, absent) = (0, 0);
                is_told &= !had_failed;
                continue;
            }
            Ok(None) => absent += 1,
            Err(error) if !is_damage(&error) => return Err(error),
            Err(_) => {
                (failures, absent) = (failures + 1, 0);
                if !std::mem::replace(&mut is_told, true) && !each(None) {
                    return Ok(None);
                }
            }
        }
        next = next.after();
    }
    if !is_told && !each(None) {
        return Ok(None);
    }
    let readable = |place: &Place| is_readable((all, keyspace), place, end);
    Ok(Some(if next.at >= end.at || readable(&next) { next } else { search(next, end, readable) }))
}

/// The first place where it works, between one where it does not and the end, where it always does.
fn search(bad: Place, end: &Place, works: impl Fn(&Place) -> bool) -> Place {
    let (mut low, mut step) = (bad.at, 1u128);
    let mut high = loop {
        let at = low.saturating_add(step).min(end.at);
        if at == end.at || works(&bad.at(at)) {
            break at;
        }
        (low, step) = (at, step.saturating_mul(2));
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if works(&bad.at(middle)) { high = middle } else { low = middle }
    }
    bad.at(high)
}

/// Whether reading from there meets no damage at once.
fn is_readable((all, keyspace): Source<'_>, from: &Place, end: &Place) -> bool {
    let is_good = |item: fjall::Guard| item.key().map_or_else(|error| !is_damage(&error), |_| true);
    from.at >= end.at || all.range(keyspace, from.key()..end.key()).next().is_none_or(is_good)
}

/// The keys from `from` to below `below`, at most `count`; what cannot be read is left out.
///
/// # Errors
/// One that passes.
pub(super) fn keys(
    source: Source<'_>,
    from: &[u8],
    below: &[u8],
    count: usize,
) -> fjall::Result<Vec<Box<[u8]>>> {
    let mut keys = Vec::new();
    if count > 0 {
        records(source, from, below, |found| {
            keys.extend(found.map(|(key, _)| Box::from(key)));
            keys.len() < count
        })?;
    }
    Ok(keys)
}

/// The last record from `from` to below `below` that can be read.
///
/// # Errors
/// One that passes.
pub(super) fn last((all, keyspace): Source<'_>, from: &[u8], below: &[u8]) -> fjall::Result<Option<Pair>> {
    let (start, end) = (Place::of(from), Place::of(below));
    let last = |below: u128| {
        all.range(keyspace, start.key()..start.at(below).key())
            .next_back()
            .map(fjall::Guard::into_inner)
            .transpose()
    };
    let pair = match last(end.at) {
        Err(error) if is_damage(&error) => {
            // The largest bound below which it can be read; below the first place it always can.
            let (mut low, mut high) = (start.at, end.at);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                match last(middle) {
                    Ok(_) => low = middle,
                    Err(error) if is_damage(&error) => high = middle,
                    Err(error) => return Err(error),
                }
            }
            last(low)?
        }
        pair => pair?,
    };
    Ok(pair.map(|(key, value)| (Box::from(&key[..]), Box::from(&value[..]))))
}

/// A key as a topic's number and a number behind it.
#[derive(Clone, Copy)]
struct Place {
    topic: [u8; 4],
    at: u128,
    length: usize,
}

impl Place {
    /// The place of a key of a message: four bytes, and eight or sixteen more.
    fn of(key: &[u8]) -> Self {
        let (topic, rest) = key.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let at = rest.iter().fold(0, |at, byte| at << 8 | u128::from(*byte));
        Self { topic: *topic, at, length: rest.len().min(16) }
    }

    fn key(self) -> Vec<u8> {
        let mut key = self.topic.to_vec();
        key.extend_from_slice(&self.at.to_be_bytes()[16 - self.length..]);
        key
    }

    fn at(self, at: u128) -> Self {
        Self { at, ..self }
    }

    fn after(self) -> Self {
        self.at(self.at.saturating_add(1))
    }
}

/// Reads messages, and tells once of each place that is damaged.
#[derive(Default)]
pub(super) struct Reader {
    reported: HashSet<(Number, Position)>,
}

impl Reader {
    /// Shows a topic's messages from a position on, until `each` says that it is enough. Returns whether it was the disk
    /// that could not read some.
    ///
    /// # Errors
    /// One that passes.
    pub(super) fn messages(
        &mut self,
        source: Source<'_>,
        topic: Number,
        from: Position,
        metrics: &Metrics,
        mut each: impl FnMut(Stored) -> bool,
    ) -> fjall::Result<bool> {
        let (mut next, mut damage) = (from, None);
        let bounds = [from, Position::END].map(|position| message_key(topic, position));
        let of_disk = records(source, &bounds[0], &bounds[1], |found| {
            let position = found.and_then(|(key, _)| position_of(key));
            let message = found.and_then(|(key, record)| Stored::read(position_of(key)?, record));
            let Some(message) = message else {
                damage.get_or_insert(position.unwrap_or(next));
                return true;
            };
            if let Some(since) = damage.take() {
                let (to, from) = (message.position, since);
                self.report(topic, from, &format!("before {}:{}", to.ledger(), to.entry()), metrics);
            }
            next = message.position.after();
            each(message)
        })?;
        if let Some(since) = damage {
            self.report(topic, since, "and the next in the same block", metrics);
        }
        Ok(of_disk)
    }

    /// Counts and tells of damage, unless that was done already.
    pub(super) fn report(&mut self, topic: Number, at: Position, to: &str, metrics: &Metrics) {
        if self.reported.len() < REPORTS_MAX && self.reported.insert((topic, at)) {
            metrics.store.damaged.add(1);
            let position = format!("{}:{}", at.ledger(), at.entry());
            tracing::error!(
                topic,
                position,
                "messages of the store are damaged and left out, of topic number {topic} from {position} {to}: the disk \
                 may be failing; everything else is delivered"
            );
        }
    }
}
