//! Disks that are full, slow or failing, and backups while messages come.

use crate::refusals::Mounted;
use crate::{eventually, fill, message, open, ordinals, settings};
use fanfare::io::store::{Disk, Durability, StoreSettings};
use fanfare::service::topic::{Archive as _, Position, Saved};
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

/// Waits until nothing is to be done.
fn settled(disk: &mut Disk) {
    eventually("nothing is to be done", || {
        disk.settle();
        disk.due().is_none()
    });
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
    let mut file = fs::File::create(&filler).unwrap();
    // Until it is full.
    std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
    drop(file);
    let (safe, reason) = fill_up(&mut disk, topic, 100);
    assert!(reason.contains("No space left on device"), "{reason}");
    assert!(safe > 10_000, "what was prepared is used: {safe}");
    // What consumers acknowledge still goes into what is left.
    disk.save(topic, Saved::Subscription("s", b"cursor")).unwrap();
    disk.commit().unwrap();
    // Reading goes on, and refusing.
    assert!(ordinals(&mut disk, topic).len() as u64 >= safe);
    assert!(disk.append(topic, &message(topic, Position::of_number(safe), safe), None).is_err());
    disk.look();
    assert!(disk.refusal().is_some());
    assert_eq!(disk.metrics().store.failing.get(), 1);
    fs::remove_file(&filler).unwrap();
    wait_for_recovery(&mut disk);
    assert_eq!(disk.metrics().store.failing.get(), 0);
    let found = ordinals(&mut disk, topic);
    assert!(
        found == (0..safe).collect::<Vec<_>>() || found == (0..=safe).collect::<Vec<_>>(),
        "{found:?}"
    );
    fill(&mut disk, topic, safe..safe + 100);
    disk.commit().unwrap();
    drop(disk);
    let mut disk = open(&store);
    assert_eq!(ordinals(&mut disk, topic), (0..safe + 100).collect::<Vec<_>>());
    assert_eq!(disk.found().1, 0, "nothing is damaged");
}

#[test]
fn a_disk_that_is_nearly_full_takes_acknowledgements_and_no_messages() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mounted");
    fs::create_dir(&path).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&path, "96m") else { return };
    let settings =
        StoreSettings { free_bytes_min: 32 * 1024 * 1024, ..settings(&path.join("store")) };
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
    let reason = disk
        .append(topic, &message(topic, Position::of_number(10), 10), None)
        .unwrap_err()
        .to_string();
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
        let injection = "fdatasync:error=EIO:when=4";
        if under_strace("a_sync_that_fails_stops_messages_until_the_disk_works", injection, &store)
        {
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
    let refused = disk
        .append(topic, &message(topic, Position::of_number(3), 3), None)
        .unwrap_err()
        .to_string();
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
        let mut disk = Disk::open(&StoreSettings { durability, ..settings(&store) }).unwrap();
        let topic = disk.create("t").unwrap();
        fill(&mut disk, topic, 0..100);
        disk.commit().unwrap();
        if durability == Durability::Never {
            settled(&mut disk);
        } else {
            assert!(disk.due().is_some(), "when the disk is to have it");
        }
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
    settled(&mut disk);
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
fn an_error_that_passes_leaves_no_message_out() {
    let Some(path) = std::env::var_os(UNDER_STRACE) else {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let mut disk = open(&store);
        let topic = disk.create("t").unwrap();
        fill(&mut disk, topic, 0..2000);
        disk.commit().unwrap();
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
    let unsynced = disk.begin_commit().unwrap().expect("it is many");
    crate::damage::copy(&store, &killed);
    assert_eq!(ordinals(&mut open(&killed), topic).len(), 100, "the system has it");
    fill(&mut disk, topic, 100..110);
    disk.commit_ended(unsynced.sync()).unwrap();
    fill(&mut disk, topic, 110..111);
    assert!(disk.begin_commit().unwrap().is_some());
    disk.commit_ended(Err(std::io::ErrorKind::Other.into())).unwrap_err();
    wait_for_recovery(&mut disk);
    assert_eq!(ordinals(&mut disk, topic).len(), 111);
    fill(&mut disk, topic, 111..112);
    assert!(disk.begin_commit().unwrap().is_none(), "one is synced at once");
}
