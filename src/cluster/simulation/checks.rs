//! What must hold all the time.

use super::super::journal::{JournalReader, JournalRecord};
use super::super::{JournalCall, PartitionState, WebhookReceipt};
use super::sessions::{STEADY_MS, SimChannel};
use super::voice::{self, MEMBERS_MAX, SMALL, Told};
use super::world::World;
use crate::cluster::partition_number::PartitionNumber;
use std::collections::BTreeMap;

impl World {
    /// A list that a session is given.
    pub(super) fn check_view(
        &mut self,
        node: usize,
        key: &SimChannel,
        user: &str,
        view: &BTreeMap<String, String>,
    ) {
        let name = self.nodes[node].name;
        if !view.contains_key(user) {
            self.broken(format!("{name}: {user} gets a list of {key:?} without itself: {view:?}"));
        }
        if key.0 == SMALL && view.len() > MEMBERS_MAX {
            self.broken(format!("{name}: too many in {key:?}: {view:?}"));
        }
        let bytes: usize = view.iter().map(|(user, info)| voice::listed(user, info)).sum();
        if key.0 == voice::SHORT && bytes > voice::LIST_BYTES_MAX {
            self.broken(format!("{name}: too long a list in {key:?}: {view:?}"));
        }
        for (user, info) in view {
            self.check_added(node, key, user, info);
        }
    }

    /// A change that the sessions of a node are told.
    pub(super) fn check_told(&mut self, node: usize, key: &SimChannel, told: &Told) {
        let name = self.nodes[node].name;
        match told {
            Told::Added(user, info) => {
                self.saw("added");
                self.check_added(node, key, user, info);
            }
            Told::Removed(user) => {
                self.saw("removed");
                let announced = &self.journals[partition_of(key)].announced;
                let removed = (key.0.clone(), key.1.clone(), user.clone());
                if !announced.removed.contains_key(&removed) {
                    self.broken(format!("{name}: {user} leaves {key:?} before that is stored"));
                }
            }
            Told::Count(_) => self.saw("count"),
        }
    }

    /// A session is told that a member has left, of which it knew `info`.
    pub(super) fn check_removed(&mut self, node: usize, key: &SimChannel, user: &str, info: &str) {
        let announced = &self.journals[partition_of(key)].announced;
        let known = announced.members.get(key).and_then(|members| members.get(user));
        let before = self.now.saturating_sub(STEADY_MS);
        let is_there = known.is_some_and(|known| *known == *info)
            && self.steady(key, before).iter().any(|steady| *steady == *user);
        if is_there {
            let name = self.nodes[node].name;
            self.broken(format!("{name}: {user} leaves {key:?}, and is still there"));
        }
    }

    /// An entry that removes a member which is there, if it is going to count.
    pub(super) fn check_removals(&mut self, call: &JournalCall) -> Option<String> {
        let JournalCall::Append { partition, entry, .. } = call else { return None };
        let before = self.now.saturating_sub(STEADY_MS);
        let mut reader = self.journals[usize::from(*partition)].reader.clone();
        let records = reader.read(entry).unwrap_or_default();
        let keys = records.iter().filter_map(|record| match record {
            JournalRecord::Removed { app, channel, .. } => {
                Some((app.to_string(), channel.to_string()))
            }
            _ => None,
        });
        let tested = keys.filter(|key| !self.steady(key, before).is_empty()).count();
        *self.seen.entry("removal beside a steady member").or_default() += tested as u64;
        records.into_iter().find_map(|record| {
            let JournalRecord::Removed { app, channel, user } = record else { return None };
            let key = (app.to_string(), channel.to_string());
            let is_there = self.steady(&key, before).iter().any(|steady| **steady == *user);
            is_there.then(|| format!("{user} is removed from {key:?}, and is there"))
        })
    }

    fn check_added(&mut self, node: usize, key: &SimChannel, user: &str, info: &str) {
        let announced = &self.journals[partition_of(key)].announced;
        let added = (key.0.clone(), key.1.clone(), user.to_owned(), info.to_owned());
        if !announced.added.contains(&added) {
            let name = self.nodes[node].name;
            self.broken(format!("{name}: {user} ({info}) joins {key:?} before that is stored"));
        }
    }

    /// A node tells webhooks of the partitions that it owns.
    pub(super) fn check_teller(&mut self, node: usize, receipt: WebhookReceipt) {
        let sim = &self.nodes[node];
        let status = sim.cluster.as_ref().unwrap().status(sim.now(self.now));
        let state = status.partitions[usize::from(receipt.partition)].state;
        if !matches!(state, PartitionState::Owned | PartitionState::Releasing) {
            let name = sim.name;
            self.broken(format!("{name} tells {receipt:?}, and the partition is {state:?}"));
        }
    }

    /// Only the owner of an epoch writes what counts in it.
    pub(super) fn check_journals(&mut self) {
        let mut fault = None;
        for (number, journal) in self.journals.iter().enumerate() {
            let (mut reader, mut owner) = (JournalReader::default(), None);
            for stored in &journal.history {
                if stored.is_epoch {
                    owner = Some((stored.sequence, stored.writer));
                    continue;
                }
                let counts = reader.read(&stored.bytes).is_ok_and(|records| !records.is_empty());
                let epoch = super::super::journal::place_of(&stored.bytes).map(|(epoch, _)| epoch);
                if counts && owner != epoch.map(|epoch| (epoch, stored.writer)) {
                    fault = Some(format!(
                        "partition {number}: {:?} of node {} counts in the epoch {owner:?}",
                        stored.sequence, stored.writer.0
                    ));
                }
            }
        }
        if let Some(fault) = fault {
            self.broken(fault);
        }
    }
}

pub(super) fn partition_of(key: &SimChannel) -> usize {
    PartitionNumber::of(&key.0, &key.1).index()
}
