//! A loss of power, as far as it can be had: the store as the disk might have it is a copy of what a stopped daemon
//! has written, with the end of its log cut, flipped or overwritten.

use crate::account::Place;
use crate::client::{Consumer, Producer, place, setup, with_store};
use crate::harness::{Daemon, Setup, eventually};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What becomes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// Nothing: the process is gone, the files are whole.
    None,
    /// So many bytes at its end are gone.
    Cut(usize),
    /// A bit so many bytes before its end is another.
    Flip(usize),
    /// So many bytes at its end are zeros.
    Zeros(usize),
    /// There is more at its end.
    Garbage(usize),
}

const DAMAGES: [Damage; 14] = [
    Damage::None,
    Damage::Cut(1),
    Damage::Cut(7),
    Damage::Cut(100),
    Damage::Cut(1000),
    Damage::Cut(20_000),
    Damage::Flip(1),
    Damage::Flip(33),
    Damage::Flip(900),
    Damage::Flip(9000),
    Damage::Zeros(64),
    Damage::Zeros(4096),
    Damage::Garbage(1),
    Damage::Garbage(4096),
];

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The last segment of the log with something in it.
fn newest(store: &Path) -> PathBuf {
    let number = |path: &Path| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let mut found = Vec::new();
    let mut directories = vec![store.to_owned()];
    while let Some(directory) = directories.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "segment")
                && std::fs::read(&path).unwrap().iter().any(|byte| *byte != 0)
            {
                found.extend(number(&path).map(|number| (number, path)));
            }
        }
    }
    found.into_iter().max().expect("a segment").1
}

fn damage(file: &Path, damage: Damage) {
    let mut bytes = std::fs::read(file).unwrap();
    // What was reserved and not written is no end.
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    match damage {
        Damage::None => return,
        Damage::Cut(count) => bytes.truncate(end.saturating_sub(count)),
        Damage::Flip(before) => {
            let at = end.saturating_sub(before);
            bytes[at] ^= 0x10;
        }
        Damage::Zeros(count) => bytes[end.saturating_sub(count)..end].fill(0),
        Damage::Garbage(count) => {
            bytes.truncate(end);
            bytes.extend((0..count).map(|n| (n * 7 + 13) as u8));
        }
    }
    std::fs::write(file, bytes).unwrap();
}

/// The whole log of the topic.
fn log(daemon: &Daemon) -> Vec<(Place, String)> {
    let mut reader = Consumer::reader(daemon, "power?messageId=earliest");
    let mut all = Vec::new();
    // More than a window is nothing that a reader gets without acknowledging.
    loop {
        let some = reader.drain();
        if some.is_empty() {
            return all;
        }
        for message in some {
            reader.ack(&message.id);
            all.push((place(&message.id), message.payload));
        }
    }
}

/// Copies of the store of a daemon under load, with how many messages its producer was told of by then.
fn copies(daemon: &Daemon) -> Vec<(PathBuf, usize)> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::new(AtomicUsize::new(0));
    let thread = std::thread::spawn({
        let (stop, told, mut producer) =
            (Arc::clone(&stop), Arc::clone(&told), Producer::new(daemon, "power"));
        move || {
            while !stop.load(Ordering::Relaxed) {
                let before = told.load(Ordering::Relaxed);
                producer.send_all(
                    (before..before + 16).map(|n| format!("{n}-{}", "x".repeat(100 + n % 200))),
                );
                told.store(before + 16, Ordering::Relaxed);
            }
        }
    });
    let mut copies = Vec::new();
    for number in 0..DAMAGES.len() {
        let next = told.load(Ordering::Relaxed) + 16 * (2 + number * 7 % 11);
        eventually("there are more messages", || told.load(Ordering::Relaxed) >= next);
        // First the count, then the stop: what was told of by then is in the files.
        let known = told.load(Ordering::Relaxed);
        daemon.signal(Signal::STOP);
        let target = daemon.path(&format!("copy-{number}"));
        copy(&daemon.path("store"), &target);
        daemon.signal(Signal::CONT);
        copies.push((target, known));
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    copies
}

#[test]
fn a_store_without_its_last_bytes_has_the_messages_before_them() {
    let daemon = setup().set("threads", 2).set("store.writers", 1).start();
    let copies = copies(&daemon);
    let whole = log(&daemon);
    let mut lost = Vec::new();
    for ((store, known), damage_done) in copies.iter().zip(DAMAGES) {
        damage(&newest(store), damage_done);
        let copy = with_store(Setup::new(), store).set("store.writers", 1).start();
        assert_eq!(copy.page("/readyz").0, 200, "{damage_done:?}");
        let found = log(&copy);
        if let Damage::Flip(_) = damage_done {
            // One may be missing and those behind it may be there; none may be another.
            let mut rest = whole.iter();
            assert!(found.iter().all(|one| rest.any(|other| other == one)), "{damage_done:?}");
        } else {
            assert_eq!(found, whole[..found.len()], "{damage_done:?}");
        }
        if matches!(damage_done, Damage::None | Damage::Garbage(_)) {
            assert!(found.len() >= *known, "{damage_done:?}: {} of {known}", found.len());
        }
        lost.push(known.saturating_sub(found.len()));
        let next = place(&Producer::new(&copy, "power").send("new"));
        assert!(found.last().is_none_or(|last| last.0 < next), "{damage_done:?}");
        assert_eq!(log(&copy).len(), found.len() + 1, "{damage_done:?}");
    }
    eprintln!("of {} messages: lost by {DAMAGES:?}: {lost:?}", whole.len());
    assert!(lost.iter().any(|&lost| lost > 0), "the damage has done nothing");
}
