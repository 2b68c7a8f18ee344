//! Very many messages: what they take of memory, and how soon they are there again.

use crate::{is_long, open};
use fanfare::service::topic::{Archive as _, MessageDraft, Position, TopicMessage};
use std::time::Instant;

const MESSAGES: u64 = 10_000_000;
const MESSAGE: [u8; 270] = [b'x'; 270];

/// The memory of this process in MiB: at most so far, or now.
fn memory(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Alone in its process, as nextest runs it.
#[test]
fn ten_million_messages_take_little_memory_and_are_there_again_at_once() {
    let count = if is_long() { MESSAGES } else { MESSAGES / 200 };
    let directory = tempfile::tempdir().unwrap();
    let mut disk = open(directory.path());
    let topics: Vec<u32> =
        (0..100).map(|number| disk.create(&format!("t{number}")).unwrap()).collect();
    let before = memory("VmRSS");
    for number in 0..count {
        let draft = MessageDraft::new(&TopicMessage {
            published_ms: 1,
            payload: &MESSAGE,
            ..TopicMessage::default()
        });
        let stored = draft.store(Position::of_number(number / 100), number / 100, 0);
        disk.append(topics[(number % 100) as usize], &stored, None).unwrap();
        if number % 1024 == 1023 {
            disk.commit().unwrap();
        }
    }
    disk.commit().unwrap();
    let growth = memory("VmHWM") - before;
    assert!(growth <= 64, "{growth} MiB");
    drop(disk);
    let start = Instant::now();
    let mut disk = open(directory.path());
    let took = start.elapsed();
    let last = disk.load("t99").unwrap().unwrap().last.unwrap();
    assert_eq!(last.ordinal(), count / 100 - 1);
    assert!(took.as_secs() < 60, "{took:?}");
    println!("{count} messages: {growth} MiB more memory at most, open again after {took:?}");
}
