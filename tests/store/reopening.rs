//! What is there when the store is opened again.

use crate::{fill, message, open, ordinals};
use fanfare::service::topic::{Archive as _, Position, Saved};
use std::path::Path;

const NAME: &str = "persistent://public/default/t";

#[test]
fn everything_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let mut disk = open(&path);
    assert_eq!(disk.ledger(), 1);
    assert!(disk.load(NAME).unwrap().is_none());
    let topic = disk.create(NAME).unwrap();
    assert!(disk.wants_commit());
    let other = disk.create("persistent://public/default/u").unwrap();
    assert_ne!(topic, other);
    fill(&mut disk, topic, 0..1000);
    fill(&mut disk, other, 0..1);
    disk.save(topic, Saved::Topic(b"state")).unwrap();
    disk.save(topic, Saved::Subscription("s", b"cursor")).unwrap();
    disk.save(topic, Saved::Subscription("gone", b"cursor")).unwrap();
    disk.save(topic, Saved::NoSubscription("gone")).unwrap();
    disk.save(topic, Saved::Sequence("p", -7)).unwrap();
    disk.append(topic, &message(topic, Position::of_number(5000), 5000), Some(50)).unwrap();
    disk.commit().unwrap();
    assert!(!disk.wants_commit());
    drop(disk);

    let mut disk = open(&path);
    assert_eq!((disk.ledger(), disk.found()), (2, (0, 0)));
    let loaded = disk.load(NAME).unwrap().unwrap();
    assert_eq!(loaded.number, topic);
    assert_eq!(loaded.topic.as_deref(), Some(&b"state"[..]));
    assert_eq!(loaded.subscriptions, [("s".into(), b"cursor".to_vec().into_boxed_slice())]);
    assert_eq!(loaded.sequences, [("p".into(), -7)]);
    assert_eq!(loaded.last.unwrap().ordinal(), 5000);
    assert_eq!(ordinals(&mut disk, topic), (0..1000).chain([5000]).collect::<Vec<_>>());
    assert_eq!(ordinals(&mut disk, other), [0]);
    let delayed = disk.delayed(topic, (0, Position::FIRST), 51, 10).unwrap();
    assert_eq!(
        delayed.iter().map(|(ms, message)| (*ms, message.ordinal())).collect::<Vec<_>>(),
        [(50, 5000)]
    );
    assert!(disk.delayed(topic, (0, Position::FIRST), 50, 10).unwrap().is_empty());
    let created = disk.create("persistent://public/default/v").unwrap();
    assert!(created > other);
}

#[test]
fn names_come_in_order_and_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = open(directory.path());
    for name in ["b/2", "a/1", "b/1", "b/3", "c"] {
        disk.create(name).unwrap();
    }
    let mut names =
        |prefix: &str, after: &str, count| disk.names(prefix, after, count).unwrap().join(" ");
    assert_eq!(names("", "", 9), "a/1 b/1 b/2 b/3 c");
    assert_eq!(names("b/", "", 2), "b/1 b/2");
    assert_eq!(names("b/", "b/2", 2), "b/3");
    assert_eq!(names("b/", "a/1", 1), "b/1");
    assert_eq!(names("b/", "", 0), "");
}

#[test]
fn what_is_trimmed_is_gone_in_slices() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = open(directory.path());
    let topic = disk.create("t").unwrap();
    fill(&mut disk, topic, 0..100);
    let below = Position::of_number(60);
    disk.trim(topic, below).unwrap();
    assert_eq!(ordinals(&mut disk, topic), (60..100).collect::<Vec<_>>());
    for (ms, ordinal) in [(5, 100), (5, 101), (6, 102)] {
        disk.append(topic, &message(topic, Position::of_number(ordinal), ordinal), Some(ms))
            .unwrap();
    }
    assert_eq!(disk.trim_delayed(topic, (5, Position::of_number(101)), 10).unwrap(), 1);
    assert_eq!(disk.delayed(topic, (0, Position::FIRST), 9, 10).unwrap().len(), 2);
    disk.commit().unwrap();
    drop(disk);
    assert_eq!(ordinals(&mut open(directory.path()), topic), (60..103).collect::<Vec<_>>());
}

#[test]
fn a_read_is_bounded_by_count_and_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = open(directory.path());
    let topic = disk.create("t").unwrap();
    fill(&mut disk, topic, 0..100);
    let from = Position::of_number(10);
    assert_eq!(disk.read(topic, from, 5, usize::MAX).unwrap().len(), 5);
    assert_eq!(disk.read(topic, from, 5, 1).unwrap().len(), 1);
    assert_eq!(disk.read(topic, from, 0, usize::MAX).unwrap().len(), 0);
    assert_eq!(disk.read(topic, Position::of_number(100), 5, usize::MAX).unwrap().len(), 0);
    assert_eq!(disk.read(topic + 1, from, 5, usize::MAX).unwrap().len(), 0);
}

/// Bytes of the disk that a store takes.
fn room(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(path) else {
        return std::fs::metadata(path).map_or(0, |file| file.blocks() * 512);
    };
    entries.map(|entry| room(&entry.unwrap().path())).sum()
}

#[test]
fn what_is_deleted_gives_its_room_back_while_other_topics_keep_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = open(directory.path());
    let [kept, deleted] = ["kept", "deleted"].map(|name| disk.create(name).unwrap());
    fill(&mut disk, kept, 0..20_000);
    let mut next = 0;
    for _ in 0..6 {
        fill(&mut disk, deleted, next..next + 60_000);
        next += 60_000;
        fill(&mut disk, kept, 20_000 + next..20_100 + next);
        disk.commit().unwrap();
        disk.trim(deleted, Position::of_number(next)).unwrap();
        assert_eq!(ordinals(&mut disk, deleted), [] as [u64; 0]);
    }
    // What is kept of 6 MB may be doubled; what is not needed may fill 8 segments more, beside those since the last but
    // one checkpoint and the two that are prepared.
    crate::eventually("most of it is given back", || {
        disk.settle();
        room(directory.path()) < 12_000_000 + 18 * 8 * 1024 * 1024
    });
    assert_eq!(ordinals(&mut disk, kept).len(), 20_600);
    disk.trim(kept, Position::END).unwrap();
    // Of what is empty nothing is left but the newest segment, those that are prepared, and spares.
    crate::eventually("all of it is given back", || {
        disk.settle();
        room(directory.path()) <= 6 * 8 * 1024 * 1024
    });
    drop(disk);
    let mut disk = open(directory.path());
    assert_eq!(ordinals(&mut disk, kept).len(), 0);
    assert_eq!(disk.names("", "", 9).unwrap().len(), 2);
}
