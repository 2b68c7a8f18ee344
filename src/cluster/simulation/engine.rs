//! A model of JetStream: a journal for each partition, with its sequence, compare-and-set, and what
//! goes wrong: elections, lost answers, late copies.

use super::super::journal::{JournalReader, JournalRecord};
use super::super::{JournalCall, JournalOutcome};
use std::collections::{BTreeMap, BTreeSet};

/// A message of a journal, with its writer.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) writer: (usize, u64),
    pub(super) is_epoch: bool,
    pub(super) bytes: Vec<u8>,
}

/// The journal of a partition.
#[derive(Debug, Default)]
pub(super) struct SimJournal {
    /// All that was ever stored.
    pub(super) history: Vec<Stored>,
    /// Entries below this are purged.
    pub(super) purged: u64,
    last: u64,
    epoch: Option<(Vec<u8>, u64)>,
    /// No leader until this moment (ms).
    pub(super) away_until: u64,
    pub(super) reader: JournalReader,
    /// What the entries that count have announced.
    pub(super) announced: Announced,
}

/// The announced history of a partition.
#[derive(Debug, Default)]
pub(super) struct Announced {
    /// Members that were ever added: app, channel, user, info.
    pub(super) added: BTreeSet<(String, String, String, String)>,
    /// How often a user was removed from a channel.
    pub(super) removed: BTreeMap<(String, String, String), u32>,
    /// The members now.
    pub(super) members: BTreeMap<(String, String), BTreeMap<String, String>>,
    /// The channels that are occupied now.
    pub(super) occupied: BTreeSet<(String, String)>,
    /// Whether the last entries are those of a snapshot, which repeats what is known.
    in_snapshot: bool,
    /// Webhooks by number, with what they say.
    pub(super) webhooks: BTreeMap<u64, String>,
    /// Webhooks that are told, cancelled or given up.
    pub(super) settled: BTreeSet<u64>,
    /// Changes that have to be told by a webhook.
    pub(super) tellable: Vec<String>,
}

impl SimJournal {
    /// Carries out a call. Returns the outcome.
    pub(super) fn apply(
        &mut self,
        writer: (usize, u64),
        call: &JournalCall,
    ) -> Result<Option<JournalOutcome>, String> {
        match call {
            JournalCall::Take { partition, call, record, after } => {
                let (partition, call) = (*partition, *call);
                let known = self.epoch.as_ref().map_or(0, |(_, sequence)| *sequence);
                if known != *after {
                    return Ok(Some(JournalOutcome::Refused { partition, call }));
                }
                let sequence = self.store(writer, true, record);
                self.epoch = Some((record.clone(), sequence));
                Ok(Some(JournalOutcome::Stored { partition, call, sequence }))
            }
            JournalCall::Append { partition, call, entry, after } => {
                let (partition, call) = (*partition, *call);
                if self.last != *after {
                    return Ok(Some(JournalOutcome::Refused { partition, call }));
                }
                let sequence = self.store(writer, false, entry);
                self.announce(entry)?;
                Ok(Some(JournalOutcome::Stored { partition, call, sequence }))
            }
            JournalCall::Load { partition, call } => Ok(Some(self.read(*partition, *call, 0))),
            JournalCall::Look { partition, call, after } => {
                Ok(Some(self.read(*partition, *call, *after)))
            }
            JournalCall::Purge { below, .. } => {
                self.purged = self.purged.max(*below);
                Ok(None)
            }
        }
    }

    fn store(&mut self, writer: (usize, u64), is_epoch: bool, bytes: &[u8]) -> u64 {
        self.last += 1;
        let stored = Stored { sequence: self.last, writer, is_epoch, bytes: bytes.to_vec() };
        self.history.push(stored);
        self.last
    }

    fn read(&self, partition: u8, call: u64, after: u64) -> JournalOutcome {
        let entries = self.history.iter().filter(|stored| {
            !stored.is_epoch && stored.sequence > after && stored.sequence >= self.purged
        });
        let entries = entries.map(|stored| (stored.sequence, stored.bytes.clone())).collect();
        let (epoch, last) = (self.epoch.clone(), self.last);
        JournalOutcome::Read { partition, call, epoch, entries, last }
    }

    fn announce(&mut self, entry: &[u8]) -> Result<(), String> {
        let former = self.reader.epoch();
        let records = self.reader.read(entry).map_err(|error| format!("written: {error:?}"))?;
        if self.reader.epoch() != former {
            self.announced.in_snapshot = false;
        }
        for record in records {
            self.announced.apply(record)?;
        }
        Ok(())
    }
}

impl Announced {
    fn apply(&mut self, record: JournalRecord) -> Result<(), String> {
        match record {
            JournalRecord::Occupied { app, channel, .. } => {
                let is_new = self.occupied.insert(((&*app).into(), (&*channel).into()));
                if !is_new && !self.in_snapshot {
                    return Err(format!("{channel} of {app} is occupied twice"));
                }
                if is_new {
                    self.tellable(&app, format!("Occupied({:?})", &*channel));
                }
            }
            JournalRecord::Vacated { app, channel } => {
                let key = ((&*app).into(), (&*channel).into());
                if !self.occupied.remove(&key) {
                    return Err(format!("{key:?} vacated, and was not occupied"));
                }
                if self.members.get(&key).is_some_and(|members| !members.is_empty()) {
                    return Err(format!("{key:?} vacated with members"));
                }
                self.tellable(&app, format!("Vacated({:?})", &*channel));
            }
            JournalRecord::Added { app, channel, user, info } => {
                let key: (String, String) = ((&*app).into(), (&*channel).into());
                let (user, info): (String, String) = ((&*user).into(), (&*info).into());
                let members = self.members.entry(key.clone()).or_default();
                let before = members.insert(user.clone(), info.clone());
                if before.as_ref().is_some_and(|before| *before != info || !self.in_snapshot) {
                    return Err(format!("{user} added to {key:?} twice"));
                }
                if before.is_none() {
                    self.tellable(&app, format!("Added({:?}, {user:?}, {info:?})", &*channel));
                }
                self.added.insert((key.0, key.1, user, info));
            }
            JournalRecord::Removed { app, channel, user } => {
                let key: (String, String) = ((&*app).into(), (&*channel).into());
                let members = self.members.entry(key.clone()).or_default();
                if members.remove(&*user).is_none() {
                    return Err(format!("{user} removed from {key:?}, and was not there"));
                }
                self.tellable(&app, format!("Removed({:?}, {user:?})", &*channel));
                *self.removed.entry((key.0, key.1, (&*user).into())).or_default() += 1;
            }
            JournalRecord::Webhook { number, event } => {
                let json = event.json.to_string();
                if self.webhooks.insert(number, json.clone()).is_some_and(|known| known != json) {
                    return Err(format!("webhook {number} is another now"));
                }
            }
            JournalRecord::Settled(numbers) => self.settled.extend(numbers),
            JournalRecord::Snapshot => self.in_snapshot = true,
            JournalRecord::Complete { .. } => self.in_snapshot = false,
        }
        Ok(())
    }

    fn tellable(&mut self, app: &str, change: String) {
        if app == super::voice::OPEN {
            self.tellable.push(change);
        }
    }
}
