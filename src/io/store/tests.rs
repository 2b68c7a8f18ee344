//! Random work on a store of very small segments, against a naive model: whatever is copied,
//! dropped, killed, cut off or flipped, what was committed is there, in order, once, and nothing
//! else is.

mod failures;

use super::archive::Disk;
use super::catalog::Catalog;
use super::place::Address;
use super::record::Record;
use super::segment::SegmentFile;
use super::settings::{Durability, StoreSettings};
use crate::service::topic::{
    Archive as _, MessageDraft, Position, Saved, StoredMessage, TopicMessage, TopicNumber,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of a segment: some ten messages.
const SEGMENT_BYTES: usize = 4096;
const STEPS: u64 = 700;
const RUNS: u64 = 24;
const RUNS_LONG: u64 = 150;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % below.max(1)
    }
}

/// What is promised to be there.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<String, Shelf>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Shelf {
    number: TopicNumber,
    state: Option<Vec<u8>>,
    subscriptions: BTreeMap<String, Vec<u8>>,
    sequences: BTreeMap<String, i64>,
    messages: BTreeMap<Position, Vec<u8>>,
    delayed: BTreeMap<(u64, Position), Vec<u8>>,
}

fn settings(path: &Path) -> StoreSettings {
    let segment_bytes = SEGMENT_BYTES;
    StoreSettings {
        path: Some(path.into()),
        free_bytes_min: 0,
        segment_bytes,
        ..StoreSettings::default()
    }
}

fn open(path: &Path) -> Disk {
    Disk::open(&settings(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Everything that a store has, as it tells it.
fn contents(disk: &mut Disk) -> Model {
    let mut model = Model::default();
    for name in disk.names("", "", usize::MAX).unwrap() {
        let loaded = disk.load(&name).unwrap().unwrap();
        let mut shelf = Shelf {
            number: loaded.number,
            state: loaded.topic.map(Vec::from),
            subscriptions: loaded
                .subscriptions
                .iter()
                .map(|(n, s)| (n.to_string(), s.to_vec()))
                .collect(),
            sequences: loaded.sequences.iter().map(|(n, s)| (n.to_string(), *s)).collect(),
            ..Shelf::default()
        };
        let mut from = Position::FIRST;
        loop {
            let some = disk.read(loaded.number, from, 7, 1000).unwrap();
            let Some(last) = some.last() else { break };
            from = last.position.after();
            for message in some {
                let before =
                    shelf.messages.insert(message.position, message.message().payload.to_vec());
                assert!(before.is_none(), "a message came twice");
            }
        }
        assert_eq!(
            loaded.last.map(|last| last.position),
            shelf.messages.keys().next_back().copied()
        );
        for (ms, message) in
            disk.delayed(loaded.number, (0, Position::FIRST), u64::MAX, usize::MAX).unwrap()
        {
            shelf.delayed.insert((ms, message.position), message.message().payload.to_vec());
        }
        model.0.insert(name.to_string(), shelf);
    }
    model
}

struct World {
    disk: Disk,
    path: PathBuf,
    dice: Dice,
    model: Model,
    /// What it was after each step since the last commit: after a crash it is one of these.
    possible: Vec<Model>,
    /// The next entry of each topic: messages of one stand in a row, as those of producers do.
    next: BTreeMap<TopicNumber, u64>,
    serial: u64,
}

impl World {
    fn new(path: &Path, seed: u64) -> Self {
        let mut disk = open(path);
        disk.commit().unwrap();
        let model = Model::default();
        let (possible, dice) = (vec![model.clone()], Dice(seed));
        Self { disk, path: path.into(), dice, model, possible, next: BTreeMap::new(), serial: 0 }
    }

    fn name(&mut self) -> String {
        format!("t{}", self.dice.roll(6))
    }

    /// A topic that is there.
    fn topic(&mut self) -> Option<(String, TopicNumber)> {
        let name = self.name();
        let shelf = self.model.0.get(&name)?;
        Some((name, shelf.number))
    }

    fn message(&mut self, number: TopicNumber) -> (StoredMessage, Vec<u8>) {
        let next = self.next.entry(number).or_default();
        *next += 1;
        let entry = *next;
        self.serial += 1;
        let length = match self.dice.roll(20) {
            0 => self.dice.roll(9000),
            _ => self.dice.roll(800),
        };
        let payload = format!("{}-{}", self.serial, "x".repeat(length as usize)).into_bytes();
        let position = Position::new(self.disk.ledger().into(), entry).unwrap();
        let draft =
            MessageDraft::new(&TopicMessage { payload: &payload, ..TopicMessage::default() });
        (draft.store(position, self.serial, 0), payload)
    }

    fn step(&mut self) {
        let Some((name, number)) = self.topic() else {
            let name = self.name();
            if !self.model.0.contains_key(&name) {
                let number = self.disk.create(&name).unwrap();
                self.model.0.insert(name, Shelf { number, ..Shelf::default() });
            }
            return self.remember();
        };
        match self.dice.roll(100) {
            0..60 => {
                let (message, payload) = self.message(number);
                let at = message.position;
                let deliver_ms = (self.dice.roll(6) == 0).then(|| 1 + self.dice.roll(50));
                self.disk.append(number, &message, deliver_ms).unwrap();
                let shelf = self.model.0.get_mut(&name).unwrap();
                shelf.messages.insert(at, payload.clone());
                if let Some(deliver_ms) = deliver_ms {
                    shelf.delayed.insert((deliver_ms, at), payload);
                }
            }
            // Of two topics a few messages stay for long.
            60..72 if &*name > "t1" || self.dice.roll(12) == 0 => {
                let shelf = self.model.0.get_mut(&name).unwrap();
                let part = self.dice.roll(shelf.messages.len() as u64 + 1) as usize;
                let below = shelf.messages.keys().nth(part).copied();
                let below = below.unwrap_or(Position::of_number(
                    Position::new(200, 0)
                        .unwrap()
                        .number()
                        .min(shelf.messages.keys().next_back().map_or(0, |last| last.number() + 1)),
                ));
                self.disk.trim(number, below).unwrap();
                shelf.messages.retain(|at, _| *at >= below);
            }
            72..77 => {
                let below = (self.dice.roll(40), Position::FIRST);
                let count = 1 + self.dice.roll(5) as usize;
                let gone = self.disk.trim_delayed(number, below, count).unwrap();
                let shelf = self.model.0.get_mut(&name).unwrap();
                let keys: Vec<_> =
                    shelf.delayed.range(..below).take(count).map(|(key, _)| *key).collect();
                assert_eq!(gone, keys.len());
                keys.iter().for_each(|key| drop(shelf.delayed.remove(key)));
            }
            77..88 => self.save(&name, number),
            88 => {
                self.disk.delete(number).unwrap();
                self.model.0.remove(&name);
            }
            60..72 | 89..96 => self.disk.settle(),
            _ => {
                self.disk.commit().unwrap();
                self.possible.clear();
            }
        }
        self.remember();
    }

    fn save(&mut self, name: &str, number: TopicNumber) {
        let what = self.dice.roll(5);
        let which = format!("n{}", self.dice.roll(3));
        let bytes = vec![self.dice.roll(256) as u8; 1 + self.dice.roll(60) as usize];
        let shelf = self.model.0.get_mut(name).unwrap();
        let saved = match what {
            0 => {
                shelf.state = Some(bytes.clone());
                Saved::Topic(&bytes)
            }
            1 => {
                shelf.subscriptions.insert(which.clone(), bytes.clone());
                Saved::Subscription(&which, &bytes)
            }
            2 => {
                shelf.subscriptions.remove(&which);
                Saved::NoSubscription(&which)
            }
            3 => {
                shelf.sequences.insert(which.clone(), bytes[0].into());
                Saved::Sequence(&which, bytes[0].into())
            }
            _ => {
                shelf.sequences.remove(&which);
                Saved::NoSequence(&which)
            }
        };
        self.disk.save(number, saved).unwrap();
    }

    fn remember(&mut self) {
        if self.possible.last() != Some(&self.model) {
            self.possible.push(self.model.clone());
        }
    }

    /// What the files hold now, after `spoil` has done something to the copy of the newest segment.
    fn copy(&self, to: &Path, spoil: impl FnOnce(&mut Vec<u8>, usize)) {
        let _ = fs::remove_dir_all(to);
        let synced = self.disk.log.synced();
        let newest = SegmentFile::Segment(self.disk.log.active.number).path(&to.join("log-0"));
        copy(&self.path, to);
        let mut bytes = fs::read(&newest).unwrap();
        spoil(&mut bytes, synced);
        fs::write(&newest, bytes).unwrap();
    }

    /// A crash: the store goes on from a copy.
    fn crash(&mut self, to: &Path) {
        let kind = self.dice.roll(4);
        let roll = self.dice.roll(1 << 20) as usize;
        self.copy(to, |bytes, synced| {
            let unsynced = bytes.len() - synced;
            let at = synced + roll % unsynced.max(1);
            match kind {
                0 => {}
                1 => bytes.truncate(at),
                2 => bytes[at..].fill(0),
                _ => bytes[at..]
                    .iter_mut()
                    .for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(13)),
            }
        });
        self.path = to.into();
        self.disk = open(to);
        assert_eq!(self.disk.found().1, 0, "nothing is damaged");
        let found = contents(&mut self.disk);
        assert!(self.possible.contains(&found), "not one of {}: {found:#?}", self.possible.len());
        self.model = found;
        self.possible = vec![self.model.clone()];
        self.next.clear();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if fs::copy(entry.path(), &target).is_err() {
            // Taken away, or used again, meanwhile.
            assert!(!entry.path().exists());
        }
    }
}

fn runs() -> u64 {
    if std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1") { RUNS_LONG } else { RUNS }
}

#[test]
fn random_work_and_crashes_lose_repeat_and_invent_nothing() {
    let (mut dropped, mut compacted) = (0, 0);
    for run in 0..runs() {
        let directory = tempfile::tempdir().unwrap();
        let mut world = World::new(&directory.path().join("0"), 0x5eed_0000 + run * 7919);
        for step in 0..STEPS {
            world.step();
            match world.dice.roll(150) {
                0 => world.crash(&directory.path().join(format!("crash-{step}"))),
                1..6 => {
                    let found = contents(&mut world.disk);
                    assert_eq!(found, world.model, "run {run}, step {step}");
                }
                _ => {}
            }
        }
        compacted += u64::from(world.disk.reclaim.copied > 0);
        dropped += u64::from(*world.disk.catalog.segments.keys().next().unwrap() > 1);
        world.disk.save_to_disk().unwrap();
        let path = world.path.clone();
        drop(world.disk);
        assert_eq!(contents(&mut open(&path)), world.model, "run {run}");
    }
    assert!(dropped > runs() / 2, "segments went in {dropped} runs only");
    assert!(compacted > runs() / 8, "segments were compacted in {compacted} runs only");
}

/// A record whose checks are right and whose contents may be anything: what somebody has made, or a
/// fault of ours.
fn crafted(dice: &mut Dice, record: &[u8]) -> Vec<u8> {
    let mut body = record.to_vec();
    for _ in 0..1 + dice.roll(4) {
        match dice.roll(4) {
            0 => body.truncate(dice.roll(body.len() as u64) as usize),
            1 => body.extend((0..dice.roll(40)).map(|_| dice.roll(256) as u8)),
            2 if !body.is_empty() => {
                let at = dice.roll(body.len() as u64) as usize;
                body[at] = [0, 1, 0x7f, 0x80, 0xff, dice.roll(256) as u8][dice.roll(6) as usize];
            }
            _ => {
                let at = dice.roll(body.len() as u64 + 1) as usize;
                let end = (at + 8).min(body.len());
                body[at..end].fill(0xff);
            }
        }
    }
    body
}

#[test]
fn records_with_any_contents_end_no_program() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(&directory.path().join("0"), 0x5eed_1111);
    (0..STEPS).for_each(|_| world.step());
    world.disk.save_to_disk().unwrap();
    let whole = directory.path().join("whole");
    copy(&world.path, &whole);
    let mut dice = Dice(0x5eed_2222);
    let (numbers, _) = super::segment::list(&whole.join("log-0")).unwrap();
    for _ in 0..runs() * 10 {
        let bad = directory.path().join("bad");
        let _ = fs::remove_dir_all(&bad);
        copy(&whole, &bad);
        let number = numbers[dice.roll(numbers.len() as u64) as usize];
        let path = SegmentFile::Segment(number).path(&bad.join("log-0"));
        let bytes = fs::read(&path).unwrap();
        let mut out = Vec::new();
        for found in super::record::RecordScan::new(&bytes, number, 0) {
            let super::record::FoundRecord::Record { body, .. } = found else { continue };
            let body = if dice.roll(8) == 0 { crafted(&mut dice, body) } else { body.to_vec() };
            let offset = out.len();
            super::record::put(number, offset, &mut out, |out| out.extend_from_slice(&body));
        }
        fs::write(&path, out).unwrap();
        let opened =
            Disk::open(&StoreSettings { accept_loss: dice.roll(2) == 0, ..settings(&bad) });
        let Ok(mut disk) = opened else { continue };
        for name in disk.names("", "", 100).unwrap() {
            let number = disk.load(&name).unwrap().unwrap().number;
            let _ = disk.read(number, Position::FIRST, 1000, usize::MAX);
            let _ = disk.delayed(number, (0, Position::FIRST), u64::MAX, 1000);
            let (message, _) = world.message(number);
            let _ = disk.append(number, &message, Some(3));
            let _ = disk.trim(number, message.position);
        }
        (0..20).for_each(|_| disk.settle());
        let _ = disk.commit();
    }
}

#[test]
fn a_checkpoint_that_names_a_segment_that_is_still_to_come_ends_no_program() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let mut disk = open(&path);
    let topic = disk.create("t").unwrap();
    disk.write(&Record::Checkpoint { from: u32::MAX, began: u32::MAX }).unwrap();
    disk.commit().unwrap();
    drop(disk);
    let mut disk = open(&path);
    for _ in 0..50 {
        disk.save(topic, Saved::Topic(&[1; 500])).unwrap();
        disk.settle();
    }
    disk.commit().unwrap();
    drop(disk);
    assert_eq!(open(&path).names("", "", 9).unwrap().len(), 1);
}

/// A message is written to a segment.
fn put(
    catalog: &mut Catalog,
    segment: u32,
    offset: u32,
    entry: u64,
    is_moved: bool,
) -> (Address, Position) {
    catalog.segments.entry(segment).or_default();
    let (at, position) = (Address { segment, offset, length: 100 }, Position::of_number(entry));
    let message = Record::Message { topic: 1, position, deliver_ms: None, is_moved, record: b"" };
    catalog.apply(&message, at, 0);
    (at, position)
}

#[test]
fn messages_that_stand_in_another_order_than_their_positions_are_all_copied() {
    let mut catalog = Catalog::default();
    for entry in [5, 6, 7] {
        put(&mut catalog, 1, 100 * entry as u32, entry, false);
    }
    catalog.seal(1);
    // While the first segment is compacted another message comes.
    let mut second = vec![put(&mut catalog, 2, 0, 8, false)];
    second.extend([5, 6, 7].map(|entry| put(&mut catalog, 2, 100 * entry as u32, entry, true)));
    catalog.seal(2);
    assert!(catalog.segments[&1].is_dead());
    for (place, (at, position)) in second.iter().enumerate() {
        assert_eq!(catalog.needs(*at, 1, *position, None), (true, false), "message {place}");
        put(&mut catalog, 3, 100 * place as u32, position.number(), true);
    }
    assert!(catalog.segments[&2].is_dead());
    assert_eq!(catalog.messages(), 4);
    assert_eq!((catalog.segments[&3].live, catalog.topics[&1].bytes), (400, 400));
}
