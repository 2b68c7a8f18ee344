//! The store's files go away while the daemon runs, as by a hand that errs: it is told within a second, and nobody is
//! told any more that a message is stored.

use crate::client::{Producer, Socket, message, setup};
use crate::disk::assert_refused_with_a_reason;
use crate::harness::{Daemon, eventually, eventually_within};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The promised second, and what a busy machine may take to keep it.
const WITHIN: Duration = Duration::from_millis(1500);
/// Answers after that of which none may say that a message is taken.
const WATCHED: usize = 200;

/// How long it is sent before: what the store prepares for later is written once, at first, and is newer than what is
/// in use until then.
const BEFORE: Duration = Duration::from_millis(1500);

/// What becomes of the store's directory.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// It is deleted with all that is in it.
    Deleted,
    /// The file that was written last is deleted.
    Newest,
    /// It is moved away.
    Moved,
    /// It is moved away, and an empty one takes its place.
    Replaced,
}

const LOSSES: [Loss; 4] = [Loss::Deleted, Loss::Newest, Loss::Moved, Loss::Replaced];

impl Loss {
    fn happens(self, store: &Path) {
        match self {
            Self::Deleted => std::fs::remove_dir_all(store).unwrap(),
            Self::Newest => std::fs::remove_file(newest(store)).unwrap(),
            Self::Moved | Self::Replaced => {
                std::fs::rename(store, store.with_extension("moved")).unwrap();
                if matches!(self, Self::Replaced) {
                    std::fs::create_dir(store).unwrap();
                }
            }
        }
    }
}

/// The file that was written last.
fn newest(store: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut directories = vec![store.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.len() > 0 {
                found.push((metadata.modified().unwrap(), entry.path()));
            }
        }
    }
    found.into_iter().max().expect("a file").1
}

/// It is not ready, and says why.
fn await_told(daemon: &Daemon) {
    let mut page = (0, String::new());
    eventually_within(WITHIN, "/readyz tells it", || {
        page = daemon.page("/readyz");
        page.0 == 503
    });
    assert!(page.1.contains("store") && page.1.len() > 100, "{}", page.1);
}

/// Sends one message after the other until it is over; when each answer came, and what it said.
fn send_on(mut socket: Socket, sent: &AtomicUsize, is_over: &AtomicBool) -> Vec<(Instant, Value)> {
    let mut answers = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        socket.say(&message("again and again", &json!({ "context": "c" })));
        answers.push((socket.hear(), Instant::now()));
        sent.fetch_add(1, Ordering::Relaxed);
    }
    answers.into_iter().map(|(answer, at)| (at, answer)).collect()
}

fn lose(loss: Loss, durability: &str) {
    let mut daemon = setup().set("threads", 2).set("store.durability", durability).start();
    let socket = Producer::new(&daemon, "vanished").0;
    let (sent, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let producer = std::thread::spawn({
        let (sent, is_over) = (Arc::clone(&sent), Arc::clone(&is_over));
        move || send_on(socket, &sent, &is_over)
    });
    let start = Instant::now();
    eventually("messages are taken", || {
        sent.load(Ordering::Relaxed) > 100 && start.elapsed() > BEFORE
    });
    loss.happens(&daemon.path("store"));
    let since = Instant::now();
    await_told(&daemon);
    eventually("the promised time is over", || since.elapsed() > WITHIN);
    let before = sent.load(Ordering::Relaxed);
    eventually("many more are answered", || sent.load(Ordering::Relaxed) > before + WATCHED);
    is_over.store(true, Ordering::Relaxed);
    let answers = producer.join().unwrap();
    let after: Vec<&Value> =
        answers.iter().filter(|(at, _)| *at > since + WITHIN).map(|(_, answer)| answer).collect();
    assert!(after.len() >= WATCHED, "{}", after.len());
    for answer in after {
        assert_refused_with_a_reason(answer);
    }
    assert!(daemon.runs());
    assert_eq!(daemon.page("/readyz").0, 503, "{loss:?}, {durability}");
}

#[test]
fn nothing_is_taken_a_second_after_the_files_of_the_store_are_gone() {
    for loss in LOSSES {
        eprintln!("{loss:?}");
        lose(loss, "always");
    }
}

#[test]
fn nothing_is_taken_then_whatever_the_durability_is() {
    for durability in ["interval", "never"] {
        for loss in [Loss::Deleted, Loss::Newest] {
            eprintln!("{loss:?}, {durability}");
            lose(loss, durability);
        }
    }
}

#[test]
fn it_is_told_that_the_files_are_gone_when_nobody_sends() {
    for loss in LOSSES {
        eprintln!("{loss:?}");
        let daemon = setup().start();
        let mut producer = Producer::new(&daemon, "vanished");
        let start = Instant::now();
        while start.elapsed() < BEFORE {
            producer.send("before");
        }
        loss.happens(&daemon.path("store"));
        await_told(&daemon);
        assert_refused_with_a_reason(&producer.ask("after", &json!({ "context": "c" })));
    }
}
