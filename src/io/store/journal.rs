//! The check and the mending of fjall's journals.
//!
//! fjall refuses a database when one record of a journal has a wrong checksum, which is what a crash leaves as well as
//! a bad disk. So every journal is read before: what is unfinished at the end is cut off, and a damaged record in the
//! middle is left out, when the journal was copied aside. What is written here is fjall's format 3:
//!
//! ```text
//! batch  1 · items u32 · sequence u64 · item… · 3 · xxh3 of the items u64 · "FJL" 3
//! item   2 · kind u8 · compression u8 · keyspace u64 · key u16 · value u32 · value as stored u32 · key… · value…
//! clear  4 · keyspace u64
//! ```
//! Numbers are little-endian. Behind the last batch stand zeros, as many as were reserved.

use super::base::Base;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::Xxh3;

/// Damaged records that are told one by one.
const TOLD_MAX: usize = 16;
/// Copies of damaged journals that are kept; the oldest go. They are for whoever looks for the cause.
const COPIES_MAX: usize = 8;
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Bytes of a value: more than any message or list of subscriptions has. A larger one is no record.
const VALUE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Items of a batch; the archive writes one each, fjall itself no more than a few.
const ITEMS_MAX: u32 = 1_000_000;
/// Bytes of a batch's beginning and end.
const START_BYTES: usize = 13;
const END_BYTES: usize = 13;
const TRAILER: &[u8] = b"FJL\x03";

/// What was found in the journals.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// Good records, by keyspace.
    pub(super) records: BTreeMap<u64, u64>,
    /// Bytes of an unfinished write that were cut off at the end.
    pub(super) cut_bytes: u64,
    /// Damaged places in the middle.
    pub(super) damaged: Vec<Damage>,
}

/// A damaged place of a journal.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    /// The journal.
    pub(super) journal: String,
    /// Where it begins.
    pub(super) at: u64,
    /// How long it is.
    pub(super) bytes: u64,
    /// The keyspace and the key, if they can be told; they may be what is damaged.
    pub(super) key: Option<(u64, Vec<u8>)>,
}

/// What one journal holds.
#[derive(Default)]
struct Survey {
    /// Where good batches stand, from and to.
    good: Vec<(u64, u64)>,
    damaged: Vec<Damage>,
    records: BTreeMap<u64, u64>,
    /// Behind the last good batch, to where bytes are not zero.
    torn: u64,
}

/// Reads all journals, and makes them such that fjall takes them; with `anew` they are written anew even when they are
/// good, so that the disk has for certain what can be read.
pub(super) fn mend(directory: &Path, data: &Path, anew: bool) -> io::Result<Findings> {
    let mut findings = Findings::default();
    let journals = journals(data)?;
    for (index, path) in journals.iter().enumerate() {
        let is_last = index + 1 == journals.len();
        let survey = survey(path, is_last)?;
        if !survey.damaged.is_empty() {
            copy_aside(directory, path)?;
        }
        if !survey.damaged.is_empty() || anew {
            rewrite(path, &survey.good)?;
        } else if survey.torn > 0 {
            let file = fs::OpenOptions::new().write(true).open(path)?;
            file.set_len(survey.good.last().map_or(0, |good| good.1))?;
            file.sync_all()?;
        }
        findings.add(survey);
    }
    Ok(findings)
}

/// Reads all journals and changes nothing.
pub(super) fn look(data: &Path) -> io::Result<Findings> {
    let mut findings = Findings::default();
    let journals = journals(data)?;
    for (index, path) in journals.iter().enumerate() {
        findings.add(survey(path, index + 1 == journals.len())?);
    }
    Ok(findings)
}

/// Copies a journal without the zeros behind what was written.
pub(super) fn copy_used(from: &Path, to: &Path) -> io::Result<()> {
    let mut window = Window::open(from)?;
    let end = window.last_data(0)?;
    io::copy(&mut io::Read::take(File::open(from)?, end), &mut File::create(to)?).map(|_| ())
}

/// Whether anything was ever written into a journal.
pub(super) fn is_used(data: &Path) -> io::Result<bool> {
    for path in journals(data)? {
        let mut window = Window::open(&path)?;
        if window.first(0, |byte| byte != 0)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The journals, in order.
pub(super) fn journals(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    match fs::read_dir(data) {
        Ok(entries) => {
            for entry in entries {
                let path = entry?.path();
                let number = path
                    .file_name()
                    .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
                found.extend(number.map(|number| (number, path)));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

impl Findings {
    fn add(&mut self, survey: Survey) {
        for (keyspace, count) in survey.records {
            *self.records.entry(keyspace).or_default() += count;
        }
        self.cut_bytes += survey.torn;
        self.damaged.extend(survey.damaged);
    }

    /// Says in the log what was found when the store was opened.
    pub(super) fn tell(&self, base: &Base, directory: &Path, took: Duration) {
        let store = directory.display();
        for damage in self.damaged.iter().take(TOLD_MAX) {
            tracing::error!("the store {store} has lost what was {}", damage.tell(base.messages.id()));
        }
        let recovered = self.records.get(&base.messages.id()).copied().unwrap_or(0);
        let (cut_bytes, damaged) = (self.cut_bytes, self.damaged.len());
        let took_ms = took.as_millis() as u64;
        let topics = super::base::topics(base);
        let rest = match (cut_bytes, damaged) {
            (0, 0) => String::new(),
            (_, 0) => {
                "; what was cut off at the end is an unfinished write, of which nobody was told that it is stored".into()
            }
            _ => format!(
                "; those were left out, and the journals as they were are in {}: the disk may be failing",
                directory.join("damaged").display()
            ),
        };
        if damaged > 0 {
            tracing::error!(
                topics,
                recovered,
                cut_bytes,
                damaged,
                took_ms,
                "the store {store} is open after {took_ms} ms: {topics} topics, {recovered} messages from its journals, \
                 {cut_bytes} bytes cut off, {damaged} damaged places{rest}"
            );
        } else {
            tracing::info!(
                topics,
                recovered,
                cut_bytes,
                damaged,
                took_ms,
                "the store {store} is open after {took_ms} ms: {topics} topics, {recovered} messages from its journals, \
                 {cut_bytes} bytes cut off, {damaged} damaged places{rest}"
            );
        }
    }
}

impl Damage {
    /// What is known of it, for people.
    pub(super) fn tell(&self, messages: u64) -> String {
        let Self { journal, at, bytes, key } = self;
        let place = format!("in {bytes} bytes of {journal} from byte {at}");
        match key {
            Some((keyspace, key)) if *keyspace == messages && key.len() == 12 => {
                let topic = key.iter().take(4).fold(0u32, |number, byte| number << 8 | u32::from(*byte));
                let position = super::base::position_of(key).unwrap_or_default();
                let (ledger, entry) = (position.ledger(), position.entry());
                format!("{place}: by its key the message {ledger}:{entry} of topic number {topic}")
            }
            _ => place,
        }
    }
}

/// Copies a journal that is damaged to where somebody can look at it.
fn copy_aside(directory: &Path, journal: &Path) -> io::Result<()> {
    let aside = directory.join("damaged");
    fs::create_dir_all(&aside)?;
    let mut copies: Vec<PathBuf> =
        fs::read_dir(&aside)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // The names begin with the time.
    copies.sort();
    let surplus = (copies.len() + 1).saturating_sub(COPIES_MAX);
    for copy in copies.into_iter().take(surplus) {
        fs::remove_file(copy)?;
    }
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let name = journal.file_name().unwrap_or_default().to_string_lossy();
    let copy = aside.join(format!("{time:013}-{name}"));
    fs::copy(journal, &copy)?;
    File::open(&copy)?.sync_all()?;
    File::open(&aside)?.sync_all()
}

/// Writes a journal anew with these parts of it, whole or not at all.
fn rewrite(path: &Path, good: &[(u64, u64)]) -> io::Result<()> {
    let new = path.with_extension("jnl.new");
    let old = File::open(path)?;
    let mut file = File::create(&new)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    for &(from, to) in good {
        let mut at = from;
        while at < to {
            let length = buffer.len().min((to - at) as usize);
            old.read_exact_at(&mut buffer[..length], at)?;
            file.write_all(&buffer[..length])?;
            at += length as u64;
        }
    }
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads one journal. Only the last may end with an unfinished write: the others were synced when they were full.
fn survey(path: &Path, is_last: bool) -> io::Result<Survey> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut window = Window::open(path)?;
    let mut survey = Survey::default();
    let (mut at, mut sequence) = (0, None);
    loop {
        let batch = window.batch(at)?;
        if let Some(batch) = batch.as_ref().filter(|batch| batch.is_intact) {
            match survey.good.last_mut().filter(|good| good.1 == at) {
                Some(good) => good.1 = batch.end,
                None => survey.good.push((at, batch.end)),
            }
            batch.keyspaces.iter().for_each(|keyspace| *survey.records.entry(*keyspace).or_default() += 1);
            (at, sequence) = (batch.end, Some(batch.sequence));
            continue;
        }
        let Some(data) = window.first(at, |byte| byte != 0)? else { return Ok(survey) };
        let mut damage = |to: u64, key| {
            survey.damaged.push(Damage { journal: name.clone(), at, bytes: to - at, key });
        };
        if let Some(batch) = batch {
            // Its end is where it should be: it is not looked into for others, which its sender may have written.
            damage(batch.end, batch.key);
            at = batch.end;
            continue;
        }
        match window.next_intact(data, at, sequence)? {
            Some(next) => {
                damage(next, None);
                at = next;
            }
            None => {
                let end = window.last_data(at)?;
                if is_last {
                    survey.torn = end - at;
                } else {
                    damage(end, None);
                }
                return Ok(survey);
            }
        }
    }
}

/// A batch whose beginning and end are where they should be.
struct Batch {
    end: u64,
    sequence: u64,
    /// Of each item.
    keyspaces: Vec<u64>,
    /// The first item's keyspace and key.
    key: Option<(u64, Vec<u8>)>,
    is_intact: bool,
}

/// A file, of which a part is in memory.
struct Window {
    file: File,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, start: 0, bytes: Vec::new() })
    }

    /// So many bytes from there; `None` when the file ends before.
    fn at(&mut self, at: u64, count: usize) -> io::Result<Option<&[u8]>> {
        if at.saturating_add(count as u64) > self.length {
            return Ok(None);
        }
        let is_there = at >= self.start && at + count as u64 <= self.start + self.bytes.len() as u64;
        if !is_there {
            let length = (CHUNK_BYTES.max(count) as u64).min(self.length - at) as usize;
            self.bytes.resize(length, 0);
            // Nothing is there if this fails.
            self.start = u64::MAX - length as u64;
            self.file.read_exact_at(&mut self.bytes, at)?;
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(Some(&self.bytes[from..from + count]))
    }

    /// The first byte from there on that is wanted.
    fn first(&mut self, from: u64, wanted: impl Fn(u8) -> bool) -> io::Result<Option<u64>> {
        let mut at = from;
        while at < self.length {
            let count = CHUNK_BYTES.min((self.length - at) as usize);
            let Some(bytes) = self.at(at, count)? else { break };
            if let Some(found) = bytes.iter().position(|byte| wanted(*byte)) {
                return Ok(Some(at + found as u64));
            }
            at += count as u64;
        }
        Ok(None)
    }

    /// Behind the last byte that is not zero.
    fn last_data(&mut self, from: u64) -> io::Result<u64> {
        let (mut at, mut end) = (from, from);
        while at < self.length {
            let count = CHUNK_BYTES.min((self.length - at) as usize);
            let Some(bytes) = self.at(at, count)? else { break };
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += count as u64;
        }
        Ok(end)
    }

    /// The first intact batch from `from` on that can follow, when what begins at `bad` is damaged and the last good
    /// batch has this number: each takes some bytes, so the number tells ours from what a client has sent.
    fn next_intact(&mut self, from: u64, bad: u64, sequence: Option<u64>) -> io::Result<Option<u64>> {
        let mut at = from.max(bad + 1);
        while let Some(found) = self.first(at, |byte| byte == 1)? {
            at = found + 1;
            let Some(head) = self.at(found, START_BYTES + 1)? else { return Ok(None) };
            let items = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
            if !(1..=ITEMS_MAX).contains(&items) || !matches!(head[START_BYTES], 2 | 4) {
                continue;
            }
            let Some(batch) = self.batch(found)?.filter(|batch| batch.is_intact) else { continue };
            let most = (found - bad) / (START_BYTES + END_BYTES) as u64 + 1000;
            let follows = |last: u64| batch.sequence > last && batch.sequence - last <= most;
            if sequence.is_none_or(follows) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The batch that begins there, if one begins and ends as it should.
    fn batch(&mut self, start: u64) -> io::Result<Option<Batch>> {
        let Some(head) = self.at(start, START_BYTES)? else { return Ok(None) };
        let items = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        if head[0] != 1 || items > ITEMS_MAX {
            return Ok(None);
        }
        let sequence = number(&head[5..]);
        let mut batch = Batch { end: start, sequence, keyspaces: Vec::new(), key: None, is_intact: false };
        let (mut at, mut hash, mut is_known) = (start + START_BYTES as u64, Xxh3::new(), true);
        for _ in 0..items {
            let Some(tag) = self.at(at, 1)? else { return Ok(None) };
            let length = match tag[0] {
                2 => {
                    let Some(head) = self.at(at, 21)? else { return Ok(None) };
                    is_known &= head[1] <= 2 && head[2] == 0 && head[13..17] == head[17..21];
                    let keyspace = number(&head[3..]);
                    let key = usize::from(u16::from_le_bytes([head[11], head[12]]));
                    let value = u32::from_le_bytes([head[17], head[18], head[19], head[20]]) as usize;
                    if value > VALUE_BYTES_MAX {
                        return Ok(None);
                    }
                    batch.keyspaces.push(keyspace);
                    if batch.key.is_none() {
                        let Some(bytes) = self.at(at + 21, key)? else { return Ok(None) };
                        batch.key = Some((keyspace, bytes.to_vec()));
                    }
                    21 + key + value
                }
                4 => 9,
                _ => return Ok(None),
            };
            let Some(bytes) = self.at(at, length)? else { return Ok(None) };
            hash.update(bytes);
            at += length as u64;
        }
        let Some(end) = self.at(at, END_BYTES)? else { return Ok(None) };
        if end[0] != 3 || &end[9..] != TRAILER {
            return Ok(None);
        }
        batch.is_intact = is_known && number(&end[1..]) == hash.digest();
        batch.end = at + END_BYTES as u64;
        Ok(Some(batch))
    }
}

/// The little-endian number at the beginning.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
