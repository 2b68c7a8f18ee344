//! Crashes and bad disks: files that end too early, and bits that have changed.

use crate::{fill, message, open, ordinals, settings};
use fanfare::io::store::{Disk, OpenError};
use fanfare::topic::{Archive as _, Number, Position, Saved};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Damaged files in the ordinary run, and with `FANFARE_LONG=1`.
const DAMAGES: u64 = 100;
const DAMAGES_LONG: u64 = 3000;
const TOPICS: [&str; 3] = ["a", "b", "c"];
const MESSAGES: u64 = 900;

/// Small numbers that look like any.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % below.max(1)
    }
}

fn damages() -> u64 {
    if crate::is_long() { DAMAGES_LONG } else { DAMAGES }
}

/// A directory as a crash leaves it: copied while it is open.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            copy_short(&entry.path(), &target);
        }
    }
}

/// The zeros that a journal has reserved are left out, or each copy would take 64 MiB.
fn copy_short(from: &Path, to: &Path) {
    let bytes = fs::read(from).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    fs::write(to, &bytes[..(end + 4096).min(bytes.len())]).unwrap();
}

/// Topics whose older messages are in tables and whose newer ones are in the journal only.
pub(crate) fn filled(path: &Path) -> (Disk, Vec<Number>) {
    let mut disk = open(path);
    let topics: Vec<Number> = TOPICS.iter().map(|name| disk.create(name).unwrap()).collect();
    for part in 0..3 {
        for (index, topic) in topics.iter().enumerate() {
            let from = part * MESSAGES / 3;
            fill(&mut disk, *topic, from..from + MESSAGES / 3);
            disk.save(*topic, Saved::Subscription("s", &[index as u8; 40])).unwrap();
            disk.save(*topic, Saved::Topic(&[index as u8; 30])).unwrap();
        }
        disk.commit().unwrap();
        if part < 2 {
            disk.flush().unwrap();
        }
    }
    (disk, topics)
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
    found.sort();
}

/// What there is to damage: every file that holds something.
fn targets(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&store.join("data"), &mut found);
    found.push(store.join("FORMAT"));
    found.retain(|path| fs::metadata(path).unwrap().len() > 0);
    found
}

/// What can be read of each topic; none for one that has no entry any more.
fn contents(disk: &mut Disk, topics: &[Number]) -> Vec<BTreeSet<u64>> {
    topics.iter().map(|topic| ordinals(disk, *topic).into_iter().collect()).collect()
}

/// How many of the messages are gone.
fn lost(disk: &mut Disk, topics: &[Number]) -> u64 {
    contents(disk, topics).iter().map(|ordinals| MESSAGES - ordinals.len() as u64).sum()
}

#[test]
fn what_was_committed_outlasts_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, topics) = filled(&directory.path().join("store"));
    let killed = directory.path().join("killed");
    copy(&directory.path().join("store"), &killed);
    drop(disk);
    let mut disk = open(&killed);
    assert_eq!(disk.found(), (0, 0));
    assert_eq!(lost(&mut disk, &topics), 0);
    assert_eq!(disk.ledger(), 2);
}

#[test]
fn an_unfinished_write_is_cut_off_wherever_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let (disk, topics) = filled(&store);
    let whole = directory.path().join("whole");
    copy(&store, &whole);
    drop(disk);
    let journal = whole.join("data/0.jnl");
    let bytes = fs::read(&journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // Through the end, the value, the key and the beginning of a record, and then by leaps.
    let (step, leaps) = if crate::is_long() { (1, 100) } else { (9, 8) };
    let near = (1..120).step_by(step).map(|less| end - less);
    let far = (1..leaps).map(|leap| end - leap * end / leaps);
    for (number, length) in near.chain(far).enumerate() {
        let padding = number % 2 * 512;
        let torn = directory.path().join("torn");
        let _ = fs::remove_dir_all(&torn);
        copy(&whole, &torn);
        fs::write(torn.join("data/0.jnl"), [&bytes[..length], &vec![0; padding]].concat()).unwrap();
        let mut disk = open(&torn);
        let contents = contents(&mut disk, &topics);
        for (topic, ordinals) in topics.iter().zip(&contents) {
            // Of each topic the last ones may be gone, and nothing before them.
            let count = ordinals.len() as u64;
            assert_eq!(ordinals.last().map_or(0, |last| last + 1), count, "topic {topic} at {length}");
            assert!(count >= 2 * MESSAGES / 3, "what is in tables is there");
        }
        assert_eq!(disk.found().1, 0, "{length}: nothing is damaged");
        // And it goes on.
        let last = Position::new(7, 7).unwrap();
        disk.append(topics[0], &message(topics[0], last, 7), None).unwrap();
        disk.commit().unwrap();
        drop(disk);
        assert_eq!(open(&torn).found(), (0, 0), "{length}: it is mended for good");
    }
}

#[test]
fn a_damaged_record_in_the_middle_costs_that_record_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut disk = open(&store);
    let topic = disk.create("t").unwrap();
    fill(&mut disk, topic, 0..1000);
    disk.commit().unwrap();
    let whole = directory.path().join("whole");
    copy(&store, &whole);
    drop(disk);
    let bytes = fs::read(whole.join("data/0.jnl")).unwrap();
    for wanted in [0, 1, 500, 998] {
        let text = crate::payload(topic, wanted);
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        // In the text, in the key before the record, and in the length before the key.
        for at in [at, at - 25 - 12, at - 25 - 12 - 3] {
            let bad = directory.path().join("bad");
            let _ = fs::remove_dir_all(&bad);
            copy(&whole, &bad);
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            fs::write(bad.join("data/0.jnl"), &bytes).unwrap();
            let mut disk = open(&bad);
            let expected: Vec<u64> = (0..1000).filter(|ordinal| *ordinal != wanted).collect();
            assert_eq!(ordinals(&mut disk, topic), expected, "byte {at}");
            assert_eq!((disk.found().1, disk.metrics().store.damaged.get()), (1, 1));
            let copies: Vec<_> = fs::read_dir(bad.join("damaged")).unwrap().collect();
            assert_eq!(copies.len(), 1, "the journal is kept as it was");
            drop(disk);
            assert_eq!(open(&bad).found(), (0, 0));
        }
    }
}

#[test]
fn a_damaged_block_of_a_table_costs_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut disk = open(&store);
    let topic = disk.create("t").unwrap();
    fill(&mut disk, topic, 0..5000);
    disk.flush().unwrap();
    fill(&mut disk, topic, 5000..6000);
    disk.commit().unwrap();
    drop(disk);
    let mut all = Vec::new();
    files(&store.join("data/keyspaces"), &mut all);
    let text = crate::payload(topic, 2500);
    let find = |bytes: &[u8]| bytes.windows(text.len()).position(|window| window == text);
    let (table, at) =
        all.iter().find_map(|path| Some((path, find(&fs::read(path).unwrap())?))).expect("it is in a table");
    let mut bytes = fs::read(table).unwrap();
    bytes[at] ^= 1;
    fs::write(table, bytes).unwrap();
    let mut disk = open(&store);
    let found = ordinals(&mut disk, topic);
    let gone: Vec<u64> = (0..6000).filter(|ordinal| !found.contains(ordinal)).collect();
    assert!(gone.contains(&2500) && gone.len() < 200, "{gone:?}");
    assert_eq!(*gone.last().unwrap() - gone[0] + 1, gone.len() as u64, "it is one block");
    assert_eq!(disk.metrics().store.damaged.get(), 1, "it is counted once");
    assert_eq!(disk.load("t").unwrap().unwrap().last.unwrap().ordinal(), 5999);
}

/// Every file, everywhere: whatever is damaged, nothing panics, nothing that is not damaged is lost, and it is told.
#[test]
fn flipped_bits_and_missing_ends_are_told_and_cost_little() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let (disk, topics) = filled(&store);
    let whole = directory.path().join("whole");
    copy(&store, &whole);
    drop(disk);
    let targets = targets(&whole);
    let mut dice = Dice(0x5eed_0000_0000_0001);
    for number in 0..damages() {
        let target = &targets[(number % targets.len() as u64) as usize];
        let bad = directory.path().join("bad");
        let _ = fs::remove_dir_all(&bad);
        copy(&whole, &bad);
        let target = bad.join(target.strip_prefix(&whole).unwrap());
        let mut bytes = fs::read(&target).unwrap();
        let at = dice.roll(bytes.len() as u64) as usize;
        let cuts = dice.roll(4) == 0;
        if cuts {
            bytes.truncate(at)
        } else {
            bytes[at] ^= 1 << dice.roll(8)
        }
        fs::write(&target, &bytes).unwrap();
        let case =
            format!("case {number}: {} {} at {at}", if cuts { "cut" } else { "flip" }, target.display());
        match Disk::open(&settings(&bad)) {
            Err(OpenError::Damaged(_, reason)) => assert!(!reason.is_empty(), "{case}"),
            // Another number of the format.
            Err(OpenError::Newer(..)) => assert!(target.ends_with("FORMAT"), "{case}"),
            Err(error) => panic!("{case}: {error}"),
            Ok(mut disk) => {
                let lost = lost(&mut disk, &topics);
                let loaded: Vec<_> = TOPICS.iter().map(|name| disk.load(name)).collect();
                let known = loaded.iter().filter(|loaded| matches!(loaded, Ok(Some(_)))).count();
                let told = disk.found() != (0, 0) || disk.metrics().store.damaged.get() > 0;
                let told = told || loaded.iter().any(Result::is_err);
                assert!(told || (lost == 0 && known == TOPICS.len()), "{case}: {lost} lost, {known} known");
                // A block, or one record; a journal that is cut has lost what was behind the cut, and a table whose index
                // is damaged, behind its blocks, what that part of the index leads to.
                let is_index =
                    bytes.windows(8).rposition(|text| text == b"xxxxxxxx").is_some_and(|last| at > last);
                assert!(lost < 200 || cuts || is_index, "{case}: {lost} lost");
            }
        }
    }
}
