//! What an operator does, and what happens to a store: backups under load, room that gets scarce, and files that are not
//! as they should be. Each is told with what to do next.

use crate::client::{Consumer, Producer, setup, with_store};
use crate::harness::{Daemon, Setup, command, eventually};
use crate::room::{MIB, Small};
use crate::stats::{admin, topic};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The exit status of a start, and what it said at last.
fn refused(setup: &Setup) -> (i32, String) {
    let output = setup.command().stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code().expect("it was not killed"), text)
}

/// `fanfare` with these words and the configuration of a set-up.
fn by_hand(setup: &Setup, words: &[&str]) -> (Option<i32>, String) {
    let serve = setup.command();
    let mut command = command(words);
    command.args(["--config", setup.path("fanfare.toml").to_str().unwrap()]);
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (output.status.code(), said)
}

fn stop(mut daemon: Daemon) -> Daemon {
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    daemon
}

/// Sends messages that are large enough to fill some segments.
fn fill(daemon: &Daemon, name: &str, count: usize) {
    let mut producer = Producer::new(daemon, name);
    let long = "x".repeat(32 * 1024);
    for part in 0..count / 50 {
        producer.send_all((0..50).map(|number| format!("{}-{long}", part * 50 + number)));
    }
}

/// The files of a store's logs that have messages, in order.
fn segments(store: &Path) -> Vec<PathBuf> {
    let log = store.join("log-0");
    let mut all: Vec<PathBuf> =
        fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    all.sort();
    all
}

#[test]
fn a_backup_under_load_is_restored_with_everything_that_was_answered_before() {
    let daemon = setup().start();
    let mut consumer = Consumer::new(&daemon, "loaded", "sub?subscriptionInitialPosition=Earliest");
    let is_over = AtomicBool::new(false);
    let (made, before) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut producer = Producer::new(&daemon, "loaded");
            let mut number = 0;
            while !is_over.load(Relaxed) {
                producer.send_all((number..number + 20).map(|number| number.to_string()));
                number += 20;
            }
        });
        consumer.take_all(100);
        let before =
            topic(&daemon, "persistent://public/default/loaded")["messagesEver"].as_u64().unwrap();
        let (status, made) = admin(&daemon, "POST", "/topics/backup?keep=2");
        assert_eq!(status, 200, "{made}");
        is_over.store(true, Relaxed);
        load.join().unwrap();
        (made, before)
    });
    assert!(made["messages"].as_u64().unwrap() >= before, "{made}");
    let backup = made["path"].as_str().unwrap();

    // The daemon still runs, and what it has is not overwritten either.
    let restored = setup();
    let (code, said) = by_hand(&restored, &["topics", "restore", backup]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = by_hand(&restored, &["topics", "restore", backup]);
    assert!(code == Some(1) && said.contains("nothing is overwritten"), "{said}");
    let restored = restored.start();
    let mut reader = Consumer::reader(&restored, "loaded?messageId=earliest");
    let ever =
        topic(&restored, "persistent://public/default/loaded")["messagesEver"].as_u64().unwrap();
    assert!(ever >= before, "{ever} of {before}");
    let expected: Vec<String> = (0..ever).map(|number| number.to_string()).collect();
    assert_eq!(reader.take_all(ever as usize), expected);
    // The cursor is where it was, or a little before.
    let mut consumer = Consumer::new(&restored, "loaded", "sub");
    assert!(consumer.take().payload.parse::<u64>().unwrap() <= 100);

    // A store that was moved away is still open in a daemon that runs, which would write to the one that is restored.
    let elsewhere = setup().set("admin.address", restored.admin);
    let (code, said) = by_hand(&elsewhere, &["topics", "restore", backup]);
    assert!(code == Some(75) && said.contains("Stop it first"), "{code:?} {said}");
}

#[test]
fn the_room_that_the_store_takes_is_told_by_topic() {
    let daemon = setup().start();
    fill(&daemon, "large", 100);
    fill(&daemon, "larger", 200);
    let mut room = Value::Null;
    eventually("the topics that hold most are found", || {
        let (status, told) = admin(&daemon, "GET", "/topics/room");
        assert_eq!(status, 200, "{told}");
        room = told;
        room["topics"].as_array().is_some_and(|topics| !topics.is_empty())
    });
    let number = |name: &str| room[name].as_u64().unwrap();
    assert!(number("sizeBytes") >= 3 * 8 * MIB && number("freeBytes") > 0, "{room}");
    assert!((300 * 32 * 1024..11 * MIB).contains(&number("neededBytes")), "{room}");
    assert!(number("segments") >= 2 && number("delayedMessages") == 0, "{room}");
    let names: Vec<&str> =
        room["topics"].as_array().unwrap().iter().map(|it| it["topic"].as_str().unwrap()).collect();
    assert_eq!(names, ["persistent://public/default/larger", "persistent://public/default/large"]);
    let stats = topic(&daemon, names[0]);
    assert!((200 * 32 * 1024..7 * MIB).contains(&stats["heldBytes"].as_u64().unwrap()), "{stats}");
    let oldest = &stats["oldestPublishTime"];
    assert!(
        oldest.as_u64().unwrap() > 1_700_000_000_000
            && room["topics"][0]["oldestPublishTime"] == *oldest
    );
    let held = format!("topic_held_bytes{{topic=\"{}\"}}", names[0]);
    assert_eq!(daemon.metric(&held), stats["heldBytes"].as_u64().unwrap());
    let dated = format!("topic_oldest_message_timestamp_seconds{{topic=\"{}\"}}", names[0]);
    assert_eq!(daemon.metric(&dated), oldest.as_u64().unwrap() / 1000);
    let (written, appended) =
        (daemon.metric("store_written_bytes_total"), daemon.metric("store_appended_bytes_total"));
    assert!(written > appended && written < appended * 3 / 2, "{written} for {appended}");
    assert_eq!(daemon.metric("store_compacted_bytes_total"), 0);
    assert!(daemon.metric("store_volume_bytes") > daemon.metric("store_free_bytes"));

    let daemon = stop(daemon);
    let setup = setup_of(&daemon);
    let (code, said) = by_hand(&setup, &["check", "--whole-store"]);
    let most = "store  largest topics: persistent://public/default/larger (";
    assert!(code == Some(0) && said.contains(most), "{said}");
}

/// A set-up that has the store of a daemon that has ended.
fn setup_of(daemon: &Daemon) -> Setup {
    with_store(Setup::new(), &daemon.path("store"))
}

#[test]
fn a_volume_that_is_nearly_full_is_told_with_the_topics_that_hold_most() {
    let Some(disk) = Small::new("a volume that is nearly full", 80 * MIB) else { return };
    let store = with_store(Setup::new(), &disk.path.join("store")).set("store.free_bytes_min", 0);
    let daemon = store.set("store.writers", 1).start();
    for (name, count) in [("a", 50), ("b", 100), ("c", 300), ("d", 150)] {
        fill(&daemon, name, count);
    }
    let other = disk.path.join("of-somebody-else");
    let more = disk.free().saturating_sub(10 * MIB);
    fs::write(&other, vec![1; more as usize]).unwrap();
    daemon.await_log("% full", 1);
    let said = daemon.logged("% full").pop().unwrap();
    let place = |name: &str| said.find(&format!("persistent://public/default/{name} (")).unwrap();
    assert!(
        place("c") < place("d") && place("d") < place("b") && !said.contains("default/a"),
        "{said}"
    );
    assert!(said.contains("purge or delete topics"), "{said}");
}

#[test]
fn a_store_of_a_newer_format_or_of_other_writers_or_none_ends_the_start() {
    let daemon = stop(setup().start());
    let store = daemon.path("store");
    let format = fs::read_to_string(store.join("FORMAT")).unwrap();
    fs::write(store.join("FORMAT"), "3 1\n").unwrap();
    let (code, said) = refused(&setup_of(&daemon));
    assert!(code == 78 && said.contains("format 3, and this version knows 2"), "{code} {said}");
    assert!(said.contains("restore an older backup"), "{said}");
    fs::write(store.join("FORMAT"), format).unwrap();
    let (code, said) = refused(&setup_of(&daemon).set("store.writers", 5));
    assert!(code == 78 && said.contains("store.writers is 5"), "{code} {said}");
    let (code, said) =
        refused(&setup_of(&daemon).set("store.backup_path", store.join("b").display()));
    assert!(code == 78 && said.contains("is inside the store"), "{code} {said}");

    let foreign = Setup::new();
    fs::create_dir(foreign.path("letters")).unwrap();
    fs::write(foreign.path("letters/letter.txt"), "Dear Ann").unwrap();
    let letters = foreign.path("letters");
    let foreign = with_store(foreign, &letters);
    let (code, said) = refused(&foreign);
    assert!(code == 78 && said.contains("is not a store, and not empty"), "{code} {said}");
    assert_eq!(fs::read_dir(letters).unwrap().count(), 1);
}

#[test]
fn files_that_are_not_of_the_store_are_told_and_left_alone() {
    let daemon = setup().start();
    Producer::new(&daemon, "t").send("kept");
    let daemon = stop(daemon);
    let foreign = ["notes.txt", "log-0/letters.txt"].map(|name| daemon.path("store").join(name));
    foreign.iter().for_each(|path| fs::write(path, "Dear Ann").unwrap());
    let daemon = daemon.again();
    daemon.await_log("letters.txt, which does not belong to the store", 1);
    assert_eq!(Consumer::reader(&daemon, "t?messageId=earliest").take().payload, "kept");
    foreign.iter().for_each(|path| assert_eq!(fs::read_to_string(path).unwrap(), "Dear Ann"));
}

#[test]
fn a_store_that_can_only_be_read_ends_the_start() {
    let Some(disk) = Small::new("a store that can only be read", 64 * MIB) else { return };
    let store =
        || with_store(Setup::new(), &disk.path.join("store")).set("store.free_bytes_min", 0);
    let daemon = store().start();
    Producer::new(&daemon, "t").send("kept");
    drop(stop(daemon));
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        let status = Command::new("mount").args(["-o", &options]).arg(&disk.path).status();
        assert!(status.unwrap().success(), "{how}");
    };
    remount("ro");
    let (code, said) = refused(&store());
    assert!(code == 78 && said.contains("Read-only file system"), "{code} {said}");
    remount("rw");
    let daemon = store().start();
    assert_eq!(Consumer::reader(&daemon, "t?messageId=earliest").take().payload, "kept");
}

#[test]
fn a_disk_without_room_for_a_segment_ends_a_start_that_may_succeed_later() {
    let Some(disk) = Small::new("a disk that others have filled", 64 * MIB) else { return };
    let store =
        || with_store(Setup::new(), &disk.path.join("store")).set("store.free_bytes_min", 0);
    let other = disk.path.join("of-somebody-else");
    fs::write(&other, vec![1; 62 * MIB as usize]).unwrap();
    let (code, said) = refused(&store());
    assert!(code == 75 && said.contains("make room on its file system"), "{code} {said}");
    fs::remove_file(&other).unwrap();
    let daemon = store().start();
    Producer::new(&daemon, "t").send("kept");
    eventually("two are prepared", || segments(&disk.path.join("store")).len() == 3);
    drop(stop(daemon));
    // What was prepared for the next messages is room for a start.
    fs::write(&other, vec![1; disk.free() as usize]).unwrap();
    let daemon = store().start();
    assert_eq!(Consumer::reader(&daemon, "t?messageId=earliest").take().payload, "kept");
}

#[test]
fn a_directory_that_is_deleted_while_running_ends_writing_and_is_told_at_once() {
    let daemon = setup().set("store.writers", 1).start();
    let mut producer = Producer::new(&daemon, "t");
    producer.send("1");
    fs::remove_dir_all(daemon.path("store")).unwrap();
    // Also while nobody writes.
    let mut said = String::new();
    eventually("it is not ready", || {
        let (status, body) = daemon.page("/readyz?dialect=pulsar");
        said = body;
        status == 503
    });
    assert!(
        said.contains("was deleted or moved away") && said.contains("restore a backup"),
        "{said}"
    );
    let answer = producer.ask("2", &Value::Object(serde_json::Map::new()));
    assert_eq!(answer["result"], "send-error:8", "{answer}");
    assert!(answer["errorMsg"].as_str().unwrap().contains("was deleted or moved away"), "{answer}");
    assert_eq!(daemon.logged("was deleted or moved away").len(), 1);
    assert_eq!(daemon.metric("store_failing"), 1);
}

#[test]
fn a_segment_that_is_missing_ends_the_start_until_its_loss_is_accepted() {
    let daemon = setup().set("store.writers", 1).start();
    fill(&daemon, "whole", 50);
    fill(&daemon, "holed", 800);
    let mut daemon = stop(daemon);
    let gone = segments(&daemon.path("store")).remove(1);
    fs::remove_file(&gone).unwrap();
    let store = daemon.path("store");
    let same = || with_store(Setup::new(), &store).set("store.writers", 1);
    let (code, said) = refused(&same());
    assert!(code == 1 && said.contains("segment 2 ("), "{code} {said}");
    assert!(said.contains("messages of persistent://public/default/holed from 0:"), "{said}");
    assert!(said.contains("fanfare topics restore") && said.contains("--accept-loss"), "{said}");
    let (code, said) = by_hand(&same(), &["check", "--whole-store"]);
    assert!(
        code == Some(1) && said.contains("segment 2") && said.contains("is missing"),
        "{code:?} {said}"
    );

    let accepting = same().by(&["sh", "-c", "exec \"$@\" --accept-loss", "sh"]).start();
    accepting.await_log("continuing without it, as --accept-loss says", 1);
    let mut reader = Consumer::reader(&accepting, "whole?messageId=earliest&receiverQueueSize=20");
    reader.take_all(50);
    fill(&accepting, "holed", 50);
    drop(stop(accepting));
    daemon = daemon.again();
    let holed = topic(&daemon, "persistent://public/default/holed");
    assert_eq!(holed["messagesEver"], 850, "{holed}");
}

#[test]
fn a_directory_that_the_daemon_may_not_use_ends_the_start() {
    if !crate::harness::root() {
        return;
    }
    let daemon = stop(setup().start());
    let store = daemon.path("store");
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    let file = store.join("log-0");
    fs::remove_dir_all(&file).unwrap();
    fs::write(&file, "not a directory").unwrap();
    let (code, said) = refused(&setup_of(&daemon));
    assert!((code == 78 || code == 1) && said.contains("log-0"), "{code} {said}");
}
