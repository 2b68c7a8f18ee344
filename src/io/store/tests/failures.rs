//! Writes that fail are made again elsewhere, and room is given back beside them.

use super::*;

/// Makes what was written since the last commit fail, and waits until it is written anew.
fn fail_and_heal(disk: &mut Disk) {
    assert!(disk.begin_commit().unwrap().is_some(), "it is many");
    disk.commit_ended(Err(std::io::ErrorKind::Other.into())).unwrap_err();
    heal(disk);
}

fn heal(disk: &mut Disk) {
    disk.health.retry_now();
    disk.look();
    assert_eq!(disk.refusal(), None, "it is written anew");
}

/// Lets messages through until this many segments have begun.
fn pass(world: &mut World, passing: TopicNumber, segments: u32) {
    let end = world.disk.log.active.number + segments;
    while world.disk.log.active.number < end {
        let (message, _) = world.message(passing);
        world.disk.append(passing, &message, None).unwrap();
        world.disk.trim(passing, message.position.after()).unwrap();
        world.disk.settle();
    }
}

#[test]
fn what_is_written_anew_comes_back_only_as_far_as_it_is_needed() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(&directory.path().join("0"), 0x5eed_5555);
    let (kept, gone) = (world.disk.create("kept").unwrap(), world.disk.create("gone").unwrap());
    world.disk.commit().unwrap();
    for entry in 0..6 {
        for topic in [kept, gone] {
            let draft =
                MessageDraft::new(&TopicMessage { payload: b"short", ..TopicMessage::default() });
            let position = Position::new(world.disk.ledger().into(), entry).unwrap();
            world.disk.append(topic, &draft.store(position, entry, 0), Some(7)).unwrap();
        }
    }
    world.disk.trim_delayed(kept, (8, Position::FIRST), 100).unwrap();
    world.disk.delete(gone).unwrap();
    let before = contents(&mut world.disk);
    fail_and_heal(&mut world.disk);
    assert!(contents(&mut world.disk) == before, "{:#?}", contents(&mut world.disk));
    assert_eq!((world.disk.catalog.topics.len(), world.disk.catalog.delayed), (1, 0));
    drop(world.disk);
    assert!(contents(&mut open(&world.path)) == before);
}

#[test]
fn a_delayed_message_that_is_written_anew_in_its_place_stays_until_it_is_due() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(&directory.path().join("0"), 0x5eed_6666);
    let (kept, passing) =
        (world.disk.create("kept").unwrap(), world.disk.create("passing").unwrap());
    world.disk.commit().unwrap();
    pass(&mut world, passing, 1);
    assert_eq!(world.disk.log.synced(), 0, "nothing of the segment is safe");
    for entry in 0..6 {
        let draft =
            MessageDraft::new(&TopicMessage { payload: b"short", ..TopicMessage::default() });
        let position = Position::new(world.disk.ledger().into(), entry).unwrap();
        world.disk.append(kept, &draft.store(position, entry, 0), Some(7)).unwrap();
        world.disk.trim(kept, position.after()).unwrap();
    }
    fail_and_heal(&mut world.disk);
    for _ in 0..40 {
        pass(&mut world, passing, 1);
        world.disk.commit().unwrap();
    }
    assert_eq!(world.disk.delayed(kept, (0, Position::FIRST), 8, 100).unwrap().len(), 6);
    drop(world.disk);
    let mut disk = open(&world.path);
    assert_eq!(disk.delayed(kept, (0, Position::FIRST), 8, 100).unwrap().len(), 6);
}

#[test]
fn room_is_given_back_however_durable_messages_are() {
    for durability in [Durability::Interval, Durability::Never] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0");
        let mut world = World::new(&path, 0x5eed_7777);
        let passing = world.disk.create("passing").unwrap();
        drop(std::mem::replace(&mut world.disk, open(&directory.path().join("other"))));
        let settings = StoreSettings { durability, interval_ms: 10, ..settings(&path) };
        world.disk = Disk::open(&settings).unwrap();
        for _ in 0..400 {
            pass(&mut world, passing, 1);
            world.disk.commit().unwrap();
        }
        let start = std::time::Instant::now();
        let count = || crate::io::store::segment::list(&path.join("log-0")).unwrap().0.len();
        while count() > 40 {
            world.disk.settle();
            assert!(start.elapsed().as_secs() < 5, "{durability:?}: {} segments", count());
            // When it wants to be called again.
            let due = world
                .disk
                .due()
                .map(|due| due.saturating_duration_since(std::time::Instant::now()));
            std::thread::park_timeout(due.unwrap_or_default());
        }
    }
}

#[test]
fn the_first_segment_of_a_log_without_a_checkpoint_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0");
    let mut world = World::new(&path, 0x5eed_8888);
    let kept = world.disk.create("kept").unwrap();
    for _ in 0..20 {
        let (message, _) = world.message(kept);
        world.disk.append(kept, &message, None).unwrap();
    }
    world.disk.save_to_disk().unwrap();
    drop(world.disk);
    fs::remove_file(SegmentFile::Segment(1).path(&path.join("log-0"))).unwrap();
    let refused =
        Disk::open(&settings(&path)).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("segment 1 ("), "{refused}");
}

#[test]
fn a_sync_that_fails_when_its_segment_is_full_already_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(&directory.path().join("0"), 0x5eed_9999);
    let kept = world.disk.create("kept").unwrap();
    world.disk.commit().unwrap();
    let append = |world: &mut World| {
        let (message, payload) = world.message(kept);
        world.disk.append(kept, &message, None).unwrap();
        payload
    };
    let mut expected: Vec<_> = (0..6).map(|_| append(&mut world)).collect();
    let (number, safe) = (world.disk.log.active.number, world.disk.log.synced());
    assert!(world.disk.begin_commit().unwrap().is_some());
    while world.disk.log.active.number == number {
        expected.push(append(&mut world));
    }
    world.disk.commit_ended(Err(std::io::ErrorKind::Other.into())).unwrap_err();
    // What it was to write is not there after all.
    let segment = SegmentFile::Segment(number).path(&world.path.join("log-0"));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[safe..].fill(0);
    fs::write(&segment, bytes).unwrap();
    heal(&mut world.disk);
    drop(world.disk);
    let mut disk = open(&world.path);
    let found = disk.read(kept, Position::FIRST, usize::MAX, usize::MAX).unwrap();
    let found: Vec<_> = found.iter().map(|message| message.message().payload.to_vec()).collect();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected);
}

#[test]
fn a_list_of_delayed_messages_that_is_told_in_part_takes_none_away() {
    let mut catalog = Catalog::default();
    catalog.apply(&Record::Topic { topic: 1, name: "t", state: &[] }, Address::default(), 0);
    for entry in 0..25_000 {
        let at = Address { segment: 1, offset: 100 * entry as u32, length: 100 };
        let position = Position::of_number(entry);
        let deliver_ms = Some(entry);
        let message =
            Record::Message { topic: 1, position, deliver_ms, is_moved: false, record: b"" };
        catalog.apply(&message, at, 0);
    }
    let mut bodies = Vec::new();
    catalog.topics[&1].restate(1, 2, |record| {
        let mut body = Vec::new();
        record.write(&mut body);
        bodies.push(body);
    });
    let mut again = Catalog::default();
    let at = Address { segment: 2, ..Address::default() };
    let mut tell =
        |body: &Vec<u8>| assert!(again.apply(&Record::read(body).unwrap(), at, 2).is_none());
    bodies.iter().for_each(&mut tell);
    // The next checkpoint gets no further than the first list.
    bodies[..bodies.len() - 2].iter().for_each(&mut tell);
    assert_eq!((again.delayed, again.topics[&1].delayed.len()), (25_000, 25_000));
    again.trim_delayed(1, (24_000, Position::FIRST));
    assert_eq!(again.delayed, 1000);
}

#[test]
fn what_the_system_has_is_read_while_nothing_can_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(&directory.path().join("0"), 0x5eed_aaaa);
    let kept = world.disk.create("kept").unwrap();
    for entry in 0..4 {
        if entry == 2 {
            world.disk.commit().unwrap();
            let path =
                SegmentFile::Segment(world.disk.log.active.number).path(&world.path.join("log-0"));
            world.disk.log.active.file = fs::File::open(path).unwrap().into();
        }
        let draft =
            MessageDraft::new(&TopicMessage { payload: b"short", ..TopicMessage::default() });
        let position = Position::new(world.disk.ledger().into(), entry).unwrap();
        world.disk.append(kept, &draft.store(position, entry, 0), None).unwrap();
    }
    world.disk.commit().unwrap_err();
    let found = world.disk.read(kept, Position::FIRST, 100, usize::MAX).unwrap();
    assert_eq!(found.len(), 2);
}

#[test]
fn segments_stay_while_a_sync_may_still_fail_for_what_replaces_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::new(&directory.path().join("0"), 0x5eed_bbbb);
    let passing = world.disk.create("passing").unwrap();
    while !world.disk.reclaim.waits_for_sync() {
        pass(&mut world, passing, 1);
    }
    for _ in 0..6 {
        let (message, _) = world.message(passing);
        world.disk.append(passing, &message, None).unwrap();
    }
    assert!(world.disk.begin_commit().unwrap().is_some());
    let wait = |disk: &mut Disk| {
        while disk.log.keeper.is_busy() {
            disk.log.poll(&disk.catalog);
        }
    };
    wait(&mut world.disk);
    // As before a backup.
    world.disk.save_to_disk().unwrap();
    assert!(!world.disk.log.keeper.is_busy(), "segments are taken away");
    world.disk.commit_ended(Ok(())).unwrap();
    assert!(world.disk.log.keeper.is_busy(), "they are taken away now");
}
