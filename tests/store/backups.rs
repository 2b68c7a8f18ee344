//! Backups while messages come, and how one is put in place.

use crate::damage::{Dice, segments};
use crate::refusals::Mounted;
use crate::{fill, message, open_small, ordinals, small};
use fanfare::io::store::{Disk, RestoreError, StoreSettings, keep, restore};
use fanfare::service::topic::{Archive as _, Position, Saved};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

fn open(settings: &StoreSettings) -> Disk {
    Disk::open(settings).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_backup_is_the_store_at_one_moment_and_can_be_started_from() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut disk = open_small(&store);
    let topics = [disk.create("t").unwrap(), disk.create("u").unwrap()];
    for topic in topics {
        fill(&mut disk, topic, 0..1000);
        disk.save(topic, Saved::Subscription("s", b"cursor")).unwrap();
        disk.append(topic, &message(topic, Position::of_number(5000), 5000), Some(5)).unwrap();
    }
    // Not even committed.
    let backup = disk.backup().unwrap();
    assert_eq!(backup.messages, 2002);
    assert!(backup.path.is_absolute() && backup.bytes > 100_000, "{backup:?}");
    assert_ne!(
        disk.backup().unwrap().path,
        backup.path,
        "one within the same second has a name of its own"
    );
    for topic in topics {
        disk.trim(topic, Position::END).unwrap();
    }
    // What the backup has is neither taken away nor used again under its hands.
    for part in 6..60 {
        fill(&mut disk, topics[0], part * 1000..part * 1000 + 1000);
        disk.commit().unwrap();
        disk.settle();
        disk.trim(topics[0], Position::END).unwrap();
    }
    let mut restored = open(&small(&backup.path));
    assert_eq!(restored.found(), (0, 0));
    assert_eq!(restored.ledger(), 2, "ids go on where the store was");
    for topic in topics {
        let expected: Vec<u64> = (0..1000).chain([5000]).collect();
        assert_eq!(ordinals(&mut restored, topic), expected);
        assert_eq!(restored.delayed(topic, (0, Position::FIRST), 9, 9).unwrap().len(), 1);
    }
    assert_eq!(restored.load("u").unwrap().unwrap().subscriptions.len(), 1);
    assert_eq!(restored.create("v").unwrap(), topics[1] + 1);
}

/// How many links the first segment of a store has.
fn links(store: &Path) -> u64 {
    fs::metadata(&segments(store)[0]).unwrap().nlink()
}

#[test]
fn full_segments_are_linked_and_on_another_file_system_copied_once() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = directory.path().join("mounted");
    fs::create_dir(&elsewhere).unwrap();
    let _mounted = Mounted::tmpfs(&elsewhere, "64m");
    for backups in [directory.path().join("beside"), elsewhere] {
        let store = directory.path().join("store");
        let _ = fs::remove_dir_all(&store);
        let settings = StoreSettings { backup_path: Some(backups.clone()), ..small(&store) };
        let mut disk = open(&settings);
        let topic = disk.create("t").unwrap();
        fill(&mut disk, topic, 0..2000);
        let first = disk.backup().unwrap();
        assert!(first.path.starts_with(fs::canonicalize(&backups).unwrap()));
        let before = links(&first.path);
        fill(&mut disk, topic, 2000..2100);
        let second = disk.backup().unwrap();
        assert_eq!(links(&second.path), before + 1, "it is shared");
        drop(disk);
        for (backup, count) in [(first, 2000), (second, 2100)] {
            let copy = directory.path().join("restored");
            let _ = fs::remove_dir_all(&copy);
            restore(&backup.path, &small(&copy), |_, _| {}).unwrap();
            assert_eq!(ordinals(&mut open_small(&copy), topic).len(), count);
        }
    }
}

#[test]
fn a_backup_is_restored_where_nothing_is_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut disk = open_small(&store);
    let topic = disk.create("t").unwrap();
    fill(&mut disk, topic, 0..1000);
    let backup = disk.backup().unwrap().path;
    let refused = restore(&backup, &small(&store), |_, _| {}).unwrap_err();
    assert!(matches!(refused, RestoreError::InTheWay(_)), "{refused}");
    assert!(refused.to_string().contains("nothing is overwritten"), "{refused}");
    let refused =
        restore(directory.path(), &small(&directory.path().join("new")), |_, _| {}).unwrap_err();
    let told = refused.to_string();
    assert!(matches!(refused, RestoreError::NoBackup(..)), "{told}");
    assert!(told.contains("is not a backup") && told.contains("there is none in"), "{told}");
    for round in 1..=2 {
        let target = directory.path().join(format!("restored-{round}"));
        restore(&backup, &small(&target), |_, _| {}).unwrap();
        let mut disk = open_small(&target);
        assert_eq!((ordinals(&mut disk, topic).len(), disk.ledger()), (1000, 2));
        // The files that it shares with the backup are not used again.
        for part in 1..40 {
            fill(&mut disk, topic, part * 1000..part * 1000 + 1000);
            disk.commit().unwrap();
            disk.settle();
            disk.trim(topic, Position::END).unwrap();
        }
    }
    let mut again = open_small(&backup);
    assert_eq!((again.found(), ordinals(&mut again, topic).len()), ((0, 0), 1000));
}

#[test]
fn what_cannot_be_restored_is_refused_with_what_to_do_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = open_small(&directory.path().join("store"));
    let topic = disk.create("t").unwrap();
    fill(&mut disk, topic, 0..3000);
    let backup = disk.backup().unwrap().path;
    let target = directory.path().join("restored");
    let refusal = |backup: &Path, settings: &StoreSettings| {
        let refused = restore(backup, settings, |_, _| {}).unwrap_err();
        assert!(!target.exists(), "{refused}");
        refused.to_string()
    };
    let said = refusal(&backup, &StoreSettings { writers: 2, ..small(&target) });
    assert!(said.contains("has 1 writers") && said.contains("set writers = 1"), "{said}");
    let format = fs::read(backup.join("FORMAT")).unwrap();
    fs::write(backup.join("FORMAT"), "3 1\n").unwrap();
    let said = refusal(&backup, &small(&target));
    assert!(said.contains("has format 3, and this version knows 2"), "{said}");
    fs::write(backup.join("FORMAT"), &format).unwrap();
    fs::remove_file(&segments(&backup)[2]).unwrap();
    let said = refusal(&backup, &small(&target));
    assert!(said.contains("is incomplete") && said.contains("segment 3"), "{said}");
    let accepting = StoreSettings { accept_loss: true, ..small(&target) };
    restore(&backup, &accepting, |_, _| {}).unwrap();
    fs::remove_file(backup.join("FORMAT")).unwrap();
    fs::remove_dir_all(&target).unwrap();
    let said = refusal(&backup, &small(&target));
    assert!(said.contains("is not a backup"), "{said}");
}

#[test]
fn a_backup_that_was_not_finished_goes_with_the_next_one_and_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = open_small(&directory.path().join("store"));
    let made = disk.backup().unwrap();
    let backups = made.path.parent().unwrap();
    let unfinished = backups.join("20200101T000000Z.unfinished");
    fs::create_dir_all(unfinished.join("log-0")).unwrap();
    let refused =
        restore(&unfinished, &small(&directory.path().join("new")), |_, _| {}).unwrap_err();
    assert!(matches!(refused, RestoreError::NoBackup(..)), "{refused}");
    let foreign = ["x.unfinished", "of-somebody-else"].map(|name| backups.join(name));
    foreign.iter().for_each(|path| fs::create_dir(path).unwrap());
    disk.backup().unwrap();
    assert!(!unfinished.exists() && foreign.iter().all(|path| path.exists()));
}

#[test]
fn backups_are_made_beside_the_store_and_never_inside() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let made = open_small(&store).backup().unwrap();
    let beside = fs::canonicalize(directory.path().join("store.backups")).unwrap();
    assert_eq!(made.path.parent(), Some(&*beside));
    assert!(made.new_bytes > 0 && made.new_bytes <= made.bytes, "{made:?}");
    let inside = StoreSettings { backup_path: Some(store.join("backups")), ..small(&store) };
    assert!(
        inside.problems(None)[0].contains("is inside the store"),
        "{:?}",
        inside.problems(None)
    );
    // Also by another name.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&store, &link).unwrap();
    let said = open(&StoreSettings { backup_path: Some(link.join("b")), ..small(&store) })
        .backup()
        .unwrap_err();
    assert!(said.contains("is inside the store"), "{said}");
}

#[test]
fn only_the_newest_backups_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = open_small(&directory.path().join("store"));
    let made: Vec<_> = (0..12).map(|_| disk.backup().unwrap().path).collect();
    let backups = made[0].parent().unwrap();
    fs::create_dir(backups.join("of-somebody-else")).unwrap();
    // A store that was moved there is not a backup, whatever it holds.
    fs::create_dir(backups.join("store.old")).unwrap();
    fs::copy(made[0].join("FORMAT"), backups.join("store.old/FORMAT")).unwrap();
    assert_eq!(keep(backups, 3).unwrap(), made[..9]);
    assert_eq!(keep(backups, 3).unwrap().len(), 0);
    // And the lock.
    assert_eq!(fs::read_dir(backups).unwrap().count(), 3 + 2 + 1);
}

#[test]
fn backups_at_any_moment_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut disk = open_small(&store);
    let topic = disk.create("t").unwrap();
    let mut dice = Dice(77);
    let (mut next, mut first) = (0, 0);
    for round in 0..12 {
        let count = 200 + dice.roll(900);
        fill(&mut disk, topic, next..next + count);
        next += count;
        disk.commit().unwrap();
        (0..dice.roll(20)).for_each(|_| disk.settle());
        first = (first + dice.roll(900)).min(next);
        disk.trim(topic, Position::of_number(first)).unwrap();
        let backup = disk.backup().unwrap();
        let mut copy = open_small(&backup.path);
        assert_eq!(copy.found(), (0, 0), "round {round}");
        assert_eq!(ordinals(&mut copy, topic), (first..next).collect::<Vec<_>>(), "round {round}");
    }
}
