//! What the journal of a partition holds: an epoch record, which names the owner, and entries, each
//! a list of records.
//!
//! The sequence of the epoch record is the epoch: the engine hands it out, so it grows with every
//! owner and no two owners have the same. Entries in order give the announced state; from time to
//! time a snapshot of it follows, in several entries, and replaces all before.
//!
//! An entry names its epoch and its round, because expected sequences alone accept the second of two
//! appends where another's epoch has taken the place of the first. [`JournalReader`] leaves such
//! entries out: within an epoch rounds follow each other from 1, and an epoch that has been replaced
//! does not come back.

use super::node::NodeId;
use crate::service::DialectId;
use crate::service::webhook::WebhookEvent;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The version of records that this release writes, and the only one that it reads.
const JOURNAL_VERSION: u32 = 1;

/// A change of the announced state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum JournalRecord {
    /// A channel got its first subscription.
    Occupied {
        dialect: DialectId,
        app: Arc<str>,
        channel: Arc<str>,
        /// Whether it has members.
        members: bool,
    },
    /// A channel lost its last subscription, and its members before.
    Vacated { app: Arc<str>, channel: Arc<str> },
    /// A user joined an occupied channel.
    Added { app: Arc<str>, channel: Arc<str>, user: Arc<str>, info: Arc<str> },
    /// A user left.
    Removed { app: Arc<str>, channel: Arc<str>, user: Arc<str> },
    /// A webhook is to be told; its receipt is here.
    Webhook { number: u64, event: Box<WebhookEvent> },
    /// Webhooks are told, cancelled or given up.
    Settled(Vec<u64>),
    /// A snapshot begins.
    Snapshot,
    /// A snapshot is complete; the next webhook has this number.
    Complete { next_webhook: u64 },
}

/// A message of a journal that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JournalError {
    /// Of another release.
    Version,
    /// Damaged.
    Garbage,
}

#[derive(Serialize, Deserialize)]
struct EpochRecord {
    v: u32,
    #[serde(flatten)]
    owner: NodeId,
}

#[derive(Deserialize)]
struct JournalEntry {
    v: u32,
    epoch: u64,
    round: u64,
    records: Vec<JournalRecord>,
}

#[derive(Deserialize)]
struct EntryHead {
    epoch: u64,
    round: u64,
}

#[derive(Deserialize)]
struct JournalVersion {
    v: u32,
}

/// The epoch record of an owner.
pub(super) fn epoch_record(owner: &NodeId) -> Vec<u8> {
    let record = EpochRecord { v: JOURNAL_VERSION, owner: owner.clone() };
    serde_json::to_vec(&record).expect("texts and numbers can be written as JSON")
}

/// The owner that an epoch record names.
pub(super) fn owner_of(record: &[u8]) -> Result<NodeId, JournalError> {
    match serde_json::from_slice::<EpochRecord>(record) {
        Ok(EpochRecord { v: JOURNAL_VERSION, owner }) => Ok(owner),
        Ok(_) => Err(JournalError::Version),
        Err(_) => Err(unreadable(record)),
    }
}

/// The epoch and round of an entry; `None` if it is damaged.
pub(super) fn place_of(entry: &[u8]) -> Option<(u64, u64)> {
    let head = serde_json::from_slice::<EntryHead>(entry).ok()?;
    Some((head.epoch, head.round))
}

/// Reads the entries of a journal, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct JournalReader {
    /// The epoch and round of the last entry that counts.
    place: Option<(u64, u64)>,
    /// Damaged entries since: each may have been a round.
    damaged: u64,
}

impl JournalReader {
    /// The epoch of the last entry that counts.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.place.map(|(epoch, _)| epoch)
    }

    /// The records of the next entry; none if it does not count.
    pub(super) fn read(&mut self, entry: &[u8]) -> Result<Vec<JournalRecord>, JournalError> {
        let JournalEntry { v, epoch, round, records } = match serde_json::from_slice(entry) {
            Ok(read) => read,
            Err(_) => {
                self.damaged += 1;
                return Err(unreadable(entry));
            }
        };
        if v != JOURNAL_VERSION {
            return Err(JournalError::Version);
        }
        let is_near = |before: u64| (1..=1 + self.damaged).contains(&round.saturating_sub(before));
        let follows = match self.place {
            Some((last_epoch, last_round)) if epoch == last_epoch => is_near(last_round),
            Some((last_epoch, _)) => epoch > last_epoch && is_near(0),
            // What was before a snapshot is purged.
            None => is_near(0) || matches!(records.first(), Some(JournalRecord::Snapshot)),
        };
        if !follows {
            return Ok(Vec::new());
        }
        (self.place, self.damaged) = (Some((epoch, round)), 0);
        Ok(records)
    }
}

fn unreadable(bytes: &[u8]) -> JournalError {
    match serde_json::from_slice::<JournalVersion>(bytes) {
        Ok(JournalVersion { v }) if v != JOURNAL_VERSION => JournalError::Version,
        _ => JournalError::Garbage,
    }
}

/// An entry in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct EntryDraft {
    /// The records so far, with commas.
    json: Vec<u8>,
}

impl EntryDraft {
    /// Appends a record.
    pub(super) fn push(&mut self, record: &JournalRecord) {
        if !self.json.is_empty() {
            self.json.push(b',');
        }
        serde_json::to_writer(&mut self.json, record).expect("writing to a Vec cannot fail");
    }

    /// Its bytes so far.
    pub(super) fn bytes(&self) -> usize {
        self.json.len()
    }

    /// The entry.
    pub(super) fn entry(&self, epoch: u64, round: u64) -> Vec<u8> {
        let head =
            format!(r#"{{"v":{JOURNAL_VERSION},"epoch":{epoch},"round":{round},"records":["#);
        let mut entry = head.into_bytes();
        entry.extend_from_slice(&self.json);
        entry.extend_from_slice(b"]}");
        entry
    }
}
