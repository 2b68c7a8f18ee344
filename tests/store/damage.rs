//! Crashes and bad disks: files that end too early, and bits that have changed.

use crate::{fill, message, open_small, ordinals, small};
use fanfare::io::store::{Disk, OpenError, StoreSettings, check};
use fanfare::service::topic::{Archive as _, Position, Saved, TopicNumber};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Damaged files in the ordinary run, and with `FANFARE_LONG=1`.
const DAMAGES: u64 = 200;
const DAMAGES_LONG: u64 = 5000;
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
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Topics whose older messages are in full segments and whose newer ones in the last.
pub(crate) fn filled(path: &Path) -> (Disk, Vec<TopicNumber>) {
    let mut disk = open_small(path);
    let topics: Vec<TopicNumber> = TOPICS.iter().map(|name| disk.create(name).unwrap()).collect();
    for part in 0..30 {
        for (index, topic) in topics.iter().enumerate() {
            let from = part * MESSAGES / 30;
            fill(&mut disk, *topic, from..from + MESSAGES / 30);
            disk.save(*topic, Saved::Subscription("s", &[index as u8; 40])).unwrap();
            disk.save(*topic, Saved::Topic(&[1 + index as u8; 30])).unwrap();
        }
        disk.commit().unwrap();
        // Checkpoints are made here.
        disk.settle();
    }
    disk.commit().unwrap();
    (disk, topics)
}

/// The segments of a store, in order.
pub(crate) fn segments(store: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.join("log-0")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "segment")).collect();
    found.sort();
    found
}

/// A segment with a text in it, and where the text is.
pub(crate) fn find(store: &Path, text: &[u8]) -> (PathBuf, usize) {
    let find = |bytes: &[u8]| bytes.windows(text.len()).position(|window| window == text);
    let found = segments(store).into_iter().find_map(|path| {
        let at = find(&fs::read(&path).unwrap())?;
        Some((path, at))
    });
    found.expect("it is in a segment")
}

/// Where the last segment with something in it ends.
fn end(store: &Path) -> (PathBuf, usize) {
    let used = segments(store).into_iter().rev().find_map(|path| {
        let bytes = fs::read(&path).unwrap();
        Some((path, bytes.iter().rposition(|byte| *byte != 0)? + 1))
    });
    used.expect("something is written")
}

fn flip(path: &Path, at: usize, bit: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= bit;
    fs::write(path, bytes).unwrap();
}

/// What there is to damage: every file that holds something.
fn targets(store: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(store.join("log-0")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.push(store.join("FORMAT"));
    found.sort();
    found.retain(|path| fs::read(path).unwrap().iter().any(|byte| *byte != 0));
    found
}

/// What can be read of each topic; none for one that has no entry any more.
fn contents(disk: &mut Disk, topics: &[TopicNumber]) -> Vec<BTreeSet<u64>> {
    topics.iter().map(|topic| ordinals(disk, *topic).into_iter().collect()).collect()
}

/// How many of the messages are gone.
fn lost(disk: &mut Disk, topics: &[TopicNumber]) -> u64 {
    contents(disk, topics).iter().map(|ordinals| MESSAGES - ordinals.len() as u64).sum()
}

#[test]
fn what_was_committed_outlasts_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, topics) = filled(&directory.path().join("store"));
    let killed = directory.path().join("killed");
    copy(&directory.path().join("store"), &killed);
    drop(disk);
    let mut disk = open_small(&killed);
    assert_eq!(disk.found(), (0, 0));
    assert_eq!(lost(&mut disk, &topics), 0);
    assert_eq!(disk.ledger(), 2);
}

#[test]
fn an_unfinished_write_is_left_out_wherever_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let (disk, topics) = filled(&store);
    let whole = directory.path().join("whole");
    copy(&store, &whole);
    drop(disk);
    let (newest, end) = end(&whole);
    let newest = newest.strip_prefix(&whole).unwrap();
    let bytes = fs::read(whole.join(newest)).unwrap();
    // Through the end, the value, the key and the beginning of a record, and then by leaps.
    let (step, leaps) = if crate::is_long() { (1, 100) } else { (9, 8) };
    let near = (1..120).step_by(step).map(|less| end - less);
    let far = (1..leaps).map(|leap| end - leap * end / leaps);
    for (number, length) in near.chain(far).enumerate() {
        let padding = number % 2 * 512;
        let torn = directory.path().join("torn");
        let _ = fs::remove_dir_all(&torn);
        copy(&whole, &torn);
        fs::write(torn.join(newest), [&bytes[..length], &vec![0; padding]].concat()).unwrap();
        let mut disk = open_small(&torn);
        for (topic, ordinals) in topics.iter().zip(contents(&mut disk, &topics)) {
            // Of each topic the last ones may be gone, and nothing before them.
            let count = ordinals.len() as u64;
            assert_eq!(
                ordinals.last().map_or(0, |last| last + 1),
                count,
                "topic {topic} at {length}"
            );
        }
        assert_eq!(disk.found().1, 0, "{length}: nothing is damaged");
        let last = Position::new(disk.ledger().into(), 0).unwrap();
        disk.append(topics[0], &message(topics[0], last, 7), None).unwrap();
        disk.commit().unwrap();
        drop(disk);
        assert_eq!(open_small(&torn).found(), (0, 0), "{length}: it is left out for good");
    }
}

#[test]
fn a_damaged_record_in_the_middle_costs_that_record_alone_and_is_told_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut disk = open_small(&store);
    let topic = disk.create("a/topic").unwrap();
    fill(&mut disk, topic, 0..1000);
    disk.commit().unwrap();
    let whole = directory.path().join("whole");
    copy(&store, &whole);
    drop(disk);
    for wanted in [0, 1, 500, 998] {
        let (path, at) = find(&whole, &crate::payload(topic, wanted));
        // In the text, in the position before the record, and in the length before that.
        for at in [at, at - 25 - 4, at - 25 - 13 - 14] {
            let bad = directory.path().join("bad");
            let _ = fs::remove_dir_all(&bad);
            copy(&whole, &bad);
            flip(&bad.join(path.strip_prefix(&whole).unwrap()), at, 0x40);
            let report = check(&small(&bad), true).unwrap();
            assert!(report.is_damaged, "{report:?}");
            if wanted > 0 {
                let line = format!("1 message of a/topic from 0:{wanted} on");
                assert!(report.lines.iter().any(|told| told.contains(&line)), "{report:?}");
            }
            let mut disk = open_small(&bad);
            let expected: Vec<u64> = (0..1000).filter(|ordinal| *ordinal != wanted).collect();
            assert_eq!(ordinals(&mut disk, topic), expected, "byte {at}");
            assert_eq!((disk.found().1, disk.metrics().store.damaged.get()), (1, 1));
        }
    }
}

#[test]
fn a_segment_that_a_start_does_not_read_tells_its_damage_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let (disk, topics) = filled(&store);
    drop(disk);
    let (path, at) = find(&store, &crate::payload(topics[1], 3));
    flip(&path, at, 1);
    let report = check(&small(&store), false).unwrap();
    assert!(!report.is_damaged, "a start does not read it: {report:?}");
    assert!(check(&small(&store), true).unwrap().is_damaged);
    let mut disk = open_small(&store);
    assert_eq!(disk.found(), (0, 0));
    let expected: Vec<u64> = (0..MESSAGES).filter(|ordinal| *ordinal != 3).collect();
    assert_eq!(ordinals(&mut disk, topics[1]), expected);
    assert_eq!(ordinals(&mut disk, topics[1]), expected);
    assert_eq!(disk.metrics().store.damaged.get(), 1, "it is counted once");
    assert_eq!(lost(&mut disk, &topics), 1);
}

#[test]
fn an_index_that_is_damaged_or_gone_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let (disk, topics) = filled(&store);
    drop(disk);
    let indexes: Vec<PathBuf> =
        segments(&store).iter().map(|path| path.with_extension("index")).collect();
    let indexes: Vec<&PathBuf> = indexes.iter().filter(|path| path.exists()).collect();
    assert!(indexes.len() > 6);
    for (number, index) in indexes.iter().enumerate() {
        match number % 3 {
            0 => fs::remove_file(index).unwrap(),
            1 => flip(index, 40, 1),
            _ => fs::write(index, b"").unwrap(),
        }
    }
    let mut disk = open_small(&store);
    assert_eq!(lost(&mut disk, &topics), 0);
    assert_eq!(disk.metrics().store.damaged.get(), 0);
    drop(disk);
    assert!(indexes.iter().all(|index| index.metadata().is_ok_and(|file| file.len() > 40)));
}

#[test]
fn a_missing_segment_is_told_with_what_it_held_and_given_up_only_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let (disk, topics) = filled(&store);
    drop(disk);
    let all = segments(&store);
    let last = all.iter().rposition(|path| end(&store).0 == *path).unwrap();
    for gone in [1, 4, last] {
        let bad = directory.path().join("bad");
        let _ = fs::remove_dir_all(&bad);
        copy(&store, &bad);
        let path = bad.join(all[gone].strip_prefix(&store).unwrap());
        fs::remove_file(&path).unwrap();
        if gone == last {
            // What was prepared behind it.
            segments(&bad)[last..].iter().for_each(|path| fs::remove_file(path).unwrap());
        }
        let files = fs::read_dir(bad.join("log-0")).unwrap().count();
        let error = Disk::open(&small(&bad)).err().expect("it is refused").to_string();
        let number = path.file_stem().unwrap().to_str().unwrap().parse::<u32>().unwrap();
        assert!(
            error.contains(&format!("segment {number} (")) && error.contains("--accept-loss"),
            "{error}"
        );
        if gone < 5 {
            assert!(
                error.contains("of a") && error.contains("of b"),
                "it tells the topics: {error}"
            );
        }
        assert_eq!(fs::read_dir(bad.join("log-0")).unwrap().count(), files, "nothing was changed");
        assert!(check(&small(&bad), true).unwrap().is_damaged);
        let mut disk = Disk::open(&StoreSettings { accept_loss: true, ..small(&bad) }).unwrap();
        let missing = lost(&mut disk, &topics);
        assert!((1..400).contains(&missing), "{gone}: {missing}");
        for topic in &topics {
            fill(&mut disk, *topic, 5000..5001);
        }
        disk.commit().unwrap();
        drop(disk);
        let mut disk = open_small(&bad);
        let found: usize = topics.iter().map(|topic| ordinals(&mut disk, *topic).len()).sum();
        assert_eq!(found as u64, 3 * MESSAGES - missing + 3, "it is given up for good");
    }
}

#[test]
fn a_log_without_any_segment_is_no_empty_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    drop(filled(&store));
    segments(&store).iter().for_each(|path| fs::remove_file(path).unwrap());
    let error = Disk::open(&small(&store)).err().expect("it is refused").to_string();
    assert!(
        error.contains("every segment of") && error.contains("Restore the last backup"),
        "{error}"
    );
    fs::remove_dir_all(store.join("log-0")).unwrap();
    let error = Disk::open(&small(&store)).err().expect("it is refused").to_string();
    assert!(error.contains("log-0 is missing"), "{error}");
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
    let last = end(&whole).0;
    let mut dice = Dice(0x5eed_0000_0000_0001);
    for number in 0..damages() {
        let original = &targets[(number % targets.len() as u64) as usize];
        let bad = directory.path().join("bad");
        let _ = fs::remove_dir_all(&bad);
        copy(&whole, &bad);
        let target = bad.join(original.strip_prefix(&whole).unwrap());
        let mut bytes = fs::read(&target).unwrap();
        let at = dice.roll(bytes.len() as u64) as usize;
        let cuts = dice.roll(4) == 0;
        if cuts {
            bytes.truncate(at)
        } else {
            bytes[at] ^= 1 << dice.roll(8)
        }
        fs::write(&target, &bytes).unwrap();
        let case = format!(
            "case {number}: {} {} at {at}",
            if cuts { "cut" } else { "flip" },
            target.display()
        );
        match Disk::open(&small(&bad)) {
            Err(OpenError::Damaged(_, reason)) => assert!(!reason.is_empty(), "{case}"),
            // Another number of the format, or of owners.
            Err(OpenError::Newer(..) | OpenError::Older(..) | OpenError::Writers(..)) => {
                assert!(target.ends_with("FORMAT"), "{case}");
            }
            Err(error) => panic!("{case}: {error}"),
            Ok(mut disk) => {
                let lost = lost(&mut disk, &topics);
                let loaded: Vec<_> = TOPICS.iter().map(|name| disk.load(name).unwrap()).collect();
                let is_whole = |loaded: &Option<fanfare::service::topic::StoredTopic>| {
                    loaded.as_ref().is_some_and(|loaded| {
                        loaded.topic.is_some() && loaded.subscriptions.len() == 1
                    })
                };
                assert!(loaded.iter().all(is_whole), "{case}: {loaded:?}");
                let told = disk.found() != (0, 0) || disk.metrics().store.damaged.get() > 0;
                // What is cut off the end of the last segment looks like what was never written.
                let is_end = cuts && *original == last;
                assert!(told || lost == 0 || is_end, "{case}: {lost} lost");
                assert!(lost <= 1 || cuts, "{case}: {lost} lost");
            }
        }
    }
}
