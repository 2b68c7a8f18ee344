//! The store of the durable topics on a real disk: what it gives back, what it mends, and what it refuses.

#![allow(clippy::unwrap_used)]

// The same as in the tests of the world; these have no daemon.
#[path = "../world/harness/eventually.rs"]
mod eventually;

mod backups;
mod damage;
mod refusals;
mod reopening;
mod size;
mod topics;
mod writing;

use fanfare::io::store::{Disk, StoreSettings};
use fanfare::service::topic::{
    Archive as _, MessageDraft, Position, StoredMessage, TopicMessage, TopicNumber,
};
use std::path::Path;

pub(crate) use eventually::eventually;

pub(crate) fn settings(path: &Path) -> StoreSettings {
    StoreSettings { path: Some(path.into()), free_bytes_min: 0, ..StoreSettings::default() }
}

/// Segments of so few bytes that a test fills some.
pub(crate) fn small(path: &Path) -> StoreSettings {
    StoreSettings { segment_bytes: 64 * 1024, ..settings(path) }
}

pub(crate) fn open_small(path: &Path) -> Disk {
    Disk::open(&small(path)).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn open(path: &Path) -> Disk {
    Disk::open(&settings(path)).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether time does not matter.
pub(crate) fn is_long() -> bool {
    std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1")
}

/// The text of a message tells which it is, and makes them differ in length.
pub(crate) fn payload(topic: TopicNumber, ordinal: u64) -> Vec<u8> {
    format!("{topic}/{ordinal}/{}", "x".repeat((ordinal * 37 % 500) as usize)).into_bytes()
}

pub(crate) fn message(topic: TopicNumber, at: Position, ordinal: u64) -> StoredMessage {
    let payload = payload(topic, ordinal);
    MessageDraft::new(&TopicMessage {
        published_ms: 1,
        payload: &payload,
        ..TopicMessage::default()
    })
    .store(at, ordinal, 0)
}

/// Appends messages with these ordinals at the entries of the same number of ledger 0.
pub(crate) fn fill(disk: &mut Disk, topic: TopicNumber, ordinals: std::ops::Range<u64>) {
    for ordinal in ordinals {
        disk.append(topic, &message(topic, Position::of_number(ordinal), ordinal), None).unwrap();
    }
}

/// The ordinals of all messages that can be read, each checked against its text.
pub(crate) fn ordinals(disk: &mut Disk, topic: TopicNumber) -> Vec<u64> {
    let (mut from, mut found) = (Position::FIRST, Vec::new());
    loop {
        let messages = disk.read(topic, from, 1000, usize::MAX).unwrap();
        let Some(last) = messages.last() else { return found };
        from = last.position.after();
        for message in &messages {
            assert_eq!(message.message().payload, payload(topic, message.ordinal()));
            found.push(message.ordinal());
        }
    }
}
