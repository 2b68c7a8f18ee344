//! Disks that are full, slow or failing, and backups while messages come.

use crate::refusals::Mounted;
use crate::{eventually, fill, message, open, ordinals, settings};
use fanfare::io::store::{Disk, Durability, Settings};
use fanfare::topic::{Archive as _, Position, Saved};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Tells the test that runs once more under strace where its store is.
const UNDER_STRACE: &str = "FANFARE_STORE_UNDER_STRACE";

/// Appends and commits one message after the other until it fails. Returns how many are safe, and why it failed.
fn fill_up(disk: &mut Disk, topic: u32, from: u64) -> (u64, String) {
    for ordinal in from..1_000_000 {
        let message = message(topic, Position::of_number(ordinal), ordinal);
        let appended = disk.append(topic, &message, None).map_err(|fault| fault.to_string());
        if let Err(reason) = appended.and_then(|()| disk.commit().map_err(String::from)) {
            return (ordinal, reason);
        }
    }
    panic!("the disk is never full");
}

/// Looks at the disk as the store's thread does, until it takes messages.
fn wait_for_recovery(disk: &mut Disk) {
    eventually("the store takes messages", || {
        disk.look();
        disk.refusal().is_none()
    });
}

#[test]
fn a_full_disk_refuses_messages_loses_none_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mounted");
    fs::create_dir(&path).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&path, "96m") else { return };
    let store = path.join("store");
    let mut disk = open(&store);
    let topic = disk.create("t").unwrap();
    fill(&mut disk, topic, 0..100);
    disk.commit().unwrap();
    let filler = path.join("filler");
    let free = rustix::fs::statvfs(&path).map(|space| space.f_bavail * space.f_frsize).unwrap();
    fs::write(&filler, vec![1; free as usize - 4 * 1024 * 1024]).unwrap();
    let (safe, reason) = fill_up(&mut disk, topic, 100);
    assert!(reason.contains("No space left on device"), "{reason}");
    assert_eq!(disk.metrics().store.failing.get(), 1);
    // Reading goes on, and refusing.
    assert!(ordinals(&mut disk, topic).len() as u64 >= safe);
    assert!(disk.append(topic, &message(topic, Position::of_number(safe), safe), None).is_err());
    disk.look();
    assert!(disk.refusal().is_some());
    fs::remove_file(&filler).unwrap();
    wait_for_recovery(&mut disk);
    assert_eq!(disk.metrics().store.failing.get(), 0);
    assert!(disk.has_healed());
    let found = ordinals(&mut disk, topic);
    assert!(found == (0..safe).collect::<Vec<_>>() || found == (0..=safe).collect::<Vec<_>>(), "{found:?}");
    fill(&mut disk, topic, safe..safe + 100);
    disk.commit().unwrap();
    drop(disk);
    let mut disk = open(&store);
    assert_eq!(ordinals(&mut disk, topic), (0..safe + 100).collect::<Vec<_>>());
    assert_eq!(disk.found().1, 0, "nothing is damaged");
}

#[test]
fn a_damaged_table_is_written_anew_when_it_stands_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut disk = open(&store);
    let topic = disk.create("t").unwrap();
    fill(&mut disk, topic, 0..1000);
    disk.flush().unwrap();
    disk.commit().unwrap();
    drop(disk);
    // Into a block of the only table of messages.
    let tables = store.join("data/keyspaces/1/tables");
    let table = fs::read_dir(tables).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&table).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&table, bytes).unwrap();
    // The same keys again in further tables, until they are merged with the damaged one, which cannot be.
    let mut disk = open(&store);
    let readable = ordinals(&mut disk, topic);
    assert!(readable.len() > 800 && readable.len() < 1000, "{}", readable.len());
    let start = Instant::now();
    let mut next = 1000;
    while disk.refusal().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is merged");
        let first = message(topic, Position::of_number(0), 0);
        let written = disk.append(topic, &first, None).and_then(|()| {
            let one = message(topic, Position::of_number(next), next);
            disk.append(topic, &one, None)
        });
        if written.is_ok() && disk.commit().is_ok() {
            next += 1;
            let _ = disk.flush();
        }
    }
    wait_for_recovery(&mut disk);
    let expected: Vec<u64> = readable.into_iter().chain(1000..next).collect();
    assert_eq!(ordinals(&mut disk, topic), expected);
    fill(&mut disk, topic, next..next + 100);
    disk.commit().unwrap();
    drop(disk);
    let report = fanfare::io::store::check(&settings(&store), true).unwrap().lines;
    assert_eq!(report.len(), 1, "nothing is damaged any more: {report:?}");
    assert_eq!(ordinals(&mut open(&store), topic).len(), expected.len() + 100);
}

#[test]
fn a_disk_that_is_nearly_full_takes_acknowledgements_and_no_messages() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mounted");
    fs::create_dir(&path).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&path, "96m") else { return };
    let settings = Settings { free_bytes_min: 32 * 1024 * 1024, ..settings(&path.join("store")) };
    let mut disk = Disk::open(&settings).unwrap();
    let topic = disk.create("t").unwrap();
    fill(&mut disk, topic, 0..10);
    disk.commit().unwrap();
    disk.look();
    assert_eq!(disk.refusal(), None);
    fs::write(path.join("filler"), vec![1; 70 * 1024 * 1024]).unwrap();
    eventually("the store has seen how little room there is", || {
        disk.look();
        disk.refusal().is_some()
    });
    let reason =
        disk.append(topic, &message(topic, Position::of_number(10), 10), None).unwrap_err().to_string();
    assert!(
        reason.contains("nearly full") && reason.contains("store.free_bytes_min is 33554432"),
        "{reason}"
    );
    assert_eq!(disk.refusal(), Some(&*reason));
    disk.save(topic, Saved::Subscription("s", b"cursor")).unwrap();
    disk.commit().unwrap();
    assert_eq!(ordinals(&mut disk, topic).len(), 10);
    fs::remove_file(path.join("filler")).unwrap();
    wait_for_recovery(&mut disk);
    fill(&mut disk, topic, 10..11);
    disk.commit().unwrap();
}

/// Runs a test of this file once more, with what strace does to its calls.
fn under_strace(test: &str, injection: &str, store: &Path) -> bool {
    let inject = format!("inject={injection}");
    let run = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,pread64", "-e", &inject])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("writing::{test}"), "--nocapture"])
        .env(UNDER_STRACE, store)
        .output();
    let Ok(run) = run else {
        eprintln!("skipped: there is no strace here");
        return false;
    };
    let text = [run.stdout, run.stderr].concat();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&text));
    true
}

#[test]
fn a_sync_that_fails_stops_messages_until_the_disk_works() {
    let Some(path) = std::env::var_os(UNDER_STRACE) else {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let injection = "fdatasync:error=EIO:when=3";
        if under_strace("a_sync_that_fails_stops_messages_until_the_disk_works", injection, &store) {
            assert_eq!(ordinals(&mut open(&store), 1), [0, 1, 2, 3]);
        }
        return;
    };
    let mut disk = open(Path::new(&path));
    let topic = disk.create("t").unwrap();
    for ordinal in 0..2 {
        fill(&mut disk, topic, ordinal..ordinal + 1);
        disk.commit().unwrap();
    }
    fill(&mut disk, topic, 2..3);
    let reason = disk.commit().unwrap_err();
    assert!(reason.contains("Input/output error"), "{reason}");
    let refused =
        disk.append(topic, &message(topic, Position::of_number(3), 3), None).unwrap_err().to_string();
    assert!(refused.contains("the store cannot be written"), "{refused}");
    assert!(ordinals(&mut disk, topic).starts_with(&[0, 1]));
    wait_for_recovery(&mut disk);
    assert!(disk.has_healed(), "what was appended before is stored now");
    assert!(!disk.has_healed());
    fill(&mut disk, topic, 3..4);
    disk.commit().unwrap();
}

#[test]
fn a_slow_disk_makes_a_commit_slow_and_no_append() {
    let Some(path) = std::env::var_os(UNDER_STRACE) else {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let injection = "fdatasync:delay_enter=300000";
        if under_strace("a_slow_disk_makes_a_commit_slow_and_no_append", injection, &store) {
            assert_eq!(ordinals(&mut open(&store), 1).len(), 5000);
        }
        return;
    };
    let mut disk = open(Path::new(&path));
    let topic = disk.create("t").unwrap();
    disk.commit().unwrap();
    let before = disk.metrics().store.commits_sum_ns.get();
    fill(&mut disk, topic, 0..5000);
    disk.commit().unwrap();
    let took = Duration::from_nanos(disk.metrics().store.commits_sum_ns.get() - before);
    assert!(took >= Duration::from_millis(300), "{took:?}");
}

#[test]
fn without_a_sync_everything_outlasts_the_process_all_the_same() {
    for durability in [Durability::Interval, Durability::Never] {
        let directory = tempfile::tempdir().unwrap();
        let (store, killed) = (directory.path().join("store"), directory.path().join("killed"));
        let mut disk = Disk::open(&Settings { durability, ..settings(&store) }).unwrap();
        let topic = disk.create("t").unwrap();
        fill(&mut disk, topic, 0..100);
        disk.commit().unwrap();
        assert_eq!(disk.due().is_some(), durability == Durability::Interval, "when the disk is to have it");
        crate::damage::copy(&store, &killed);
        assert_eq!(ordinals(&mut open(&killed), topic).len(), 100);
    }
}

#[test]
fn what_was_saved_is_with_the_system_after_a_round_and_with_the_disk_soon() {
    let directory = tempfile::tempdir().unwrap();
    let (store, killed) = (directory.path().join("store"), directory.path().join("killed"));
    let mut disk = open(&store);
    let topic = disk.create("t").unwrap();
    disk.commit().unwrap();
    assert_eq!(disk.due(), None);
    disk.save(topic, Saved::Subscription("s", b"cursor")).unwrap();
    disk.settle();
    let due = disk.due().expect("it waits for the disk");
    assert!(due <= Instant::now() + Duration::from_secs(1));
    crate::damage::copy(&store, &killed);
    let loaded = open(&killed).load("t").unwrap().unwrap();
    assert_eq!(loaded.subscriptions.len(), 1);
    eventually("the disk has it", || {
        disk.settle();
        disk.due().is_none()
    });
    assert!(Instant::now() >= due, "it was not written before its time");
}

#[test]
fn a_backup_is_the_store_at_one_moment_and_can_be_started_from() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut disk = open(&store);
    let topics = [disk.create("t").unwrap(), disk.create("u").unwrap()];
    for topic in topics {
        fill(&mut disk, topic, 0..1000);
        disk.save(topic, Saved::Subscription("s", b"cursor")).unwrap();
        disk.append(topic, &message(topic, Position::of_number(5000), 5000), Some(5)).unwrap();
    }
    disk.commit().unwrap();
    let backup = disk.backup().unwrap();
    assert_eq!(backup.messages, 2000);
    assert!(backup.bytes > 100_000 && backup.path.starts_with(store.join("backups")), "{backup:?}");
    assert_ne!(disk.backup().unwrap().path, backup.path, "one within the same second has a name of its own");
    fill(&mut disk, topics[0], 1000..1100);
    disk.commit().unwrap();
    let mut restored = open(&backup.path);
    assert_eq!(restored.ledger(), 2, "ids go on where the store was");
    for topic in topics {
        assert_eq!(ordinals(&mut restored, topic), (0..1000).collect::<Vec<_>>());
        assert_eq!(restored.delayed(topic, (0, Position::FIRST), 9, 9).unwrap().len(), 1);
    }
    assert_eq!(restored.load("u").unwrap().unwrap().subscriptions.len(), 1);
    assert_eq!(restored.create("v").unwrap(), topics[1] + 1);
    assert_eq!(ordinals(&mut disk, topics[0]).len(), 1100);
}

#[test]
fn an_error_that_passes_leaves_no_message_out() {
    let Some(path) = std::env::var_os(UNDER_STRACE) else {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let mut disk = open(&store);
        let topic = disk.create("t").unwrap();
        fill(&mut disk, topic, 0..2000);
        disk.commit().unwrap();
        disk.flush().unwrap();
        drop(disk);
        // Too many open files, each few times something is read, when the store is open.
        under_strace(
            "an_error_that_passes_leaves_no_message_out",
            "pread64:error=EMFILE:when=2000+9",
            &store,
        );
        return;
    };
    let mut disk = open(Path::new(&path));
    let file = fs::File::open(Path::new(&path).join("FORMAT")).unwrap();
    // Opening takes less than that.
    while file.read_at(&mut [0], 0).is_ok() {}
    let (mut found, mut faults) = (Vec::new(), 0);
    while found.len() < 2000 {
        match disk.read(1, Position::of_number(found.len() as u64), 100, usize::MAX) {
            Ok(messages) => {
                assert!(!messages.is_empty(), "after {} nothing comes", found.len());
                found.extend(messages.iter().map(|message| message.ordinal()));
            }
            Err(fault) => {
                faults += 1;
                assert!(faults < 1000, "{fault}");
            }
        }
    }
    assert_eq!(found, (0..2000).collect::<Vec<_>>());
    assert!(faults > 0, "nothing has failed");
    assert_eq!(disk.metrics().store.damaged.get(), 0);
}

#[test]
fn a_large_group_is_synced_beside_and_what_comes_meanwhile_is_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let (store, killed) = (directory.path().join("store"), directory.path().join("killed"));
    let mut disk = open(&store);
    let topic = disk.create("t").unwrap();
    disk.commit().unwrap();
    fill(&mut disk, topic, 0..100);
    let journal = disk.commit_begun().unwrap().expect("it is many");
    crate::damage::copy(&store, &killed);
    assert_eq!(ordinals(&mut open(&killed), topic).len(), 100, "the system has it");
    fill(&mut disk, topic, 100..110);
    disk.commit_ended(journal.sync_data()).unwrap();
    fill(&mut disk, topic, 110..111);
    assert!(disk.commit_begun().unwrap().is_some());
    disk.commit_ended(Err(std::io::ErrorKind::Other.into())).unwrap_err();
    wait_for_recovery(&mut disk);
    assert_eq!(ordinals(&mut disk, topic).len(), 111);
    fill(&mut disk, topic, 111..112);
    assert!(disk.commit_begun().unwrap().is_none(), "one is synced at once");
}
