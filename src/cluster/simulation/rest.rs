//! What must hold when nothing is wrong any more, and no client does anything.

use super::checks::partition_of;
use super::sessions::SimChannel;
use super::voice::APPS;
use super::world::World;
use crate::cluster::{PartitionState, WebhookReceipt};
use crate::service::presence::{ChannelCounts, ChannelInquiry, PresenceAnswer, WantedCounts};
use std::collections::{BTreeMap, BTreeSet};

/// What the oracle outside knows of a channel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    users: BTreeSet<String>,
    subscriptions: u32,
}

impl World {
    /// Compares what all nodes say with what the sessions are.
    pub(super) fn check_rest(&mut self) {
        self.check_journals();
        self.check_owners();
        let expected = self.expected();
        self.check_sessions(&expected);
        self.check_answers(&expected);
        self.check_webhooks();
    }

    fn expected(&mut self) -> BTreeMap<SimChannel, Expected> {
        let mut expected: BTreeMap<SimChannel, Expected> = BTreeMap::new();
        let mut waiting = None;
        for node in &self.nodes {
            for (connection, session) in &node.sessions {
                for (key, member) in &session.channels {
                    let entry = expected.entry(key.clone()).or_default();
                    entry.users.insert(member.user.clone());
                    entry.subscriptions += 1;
                    if member.view.is_none() {
                        waiting = Some(format!("{} {connection:?} waits for {key:?}", node.name));
                    }
                }
                for key in session.rooms.keys() {
                    expected.entry(key.clone()).or_default().subscriptions += 1;
                }
            }
        }
        if let Some(waiting) = waiting {
            self.broken(format!("at rest {waiting}"));
        }
        expected
    }

    fn check_sessions(&mut self, expected: &BTreeMap<SimChannel, Expected>) {
        let mut fault = None;
        for node in &self.nodes {
            for (connection, session) in &node.sessions {
                for (key, member) in &session.channels {
                    let Some(view) = &member.view else { continue };
                    let users: BTreeSet<String> = view.keys().cloned().collect();
                    let announced = &self.journals[partition_of(key)].announced.members[key];
                    if users != expected[key].users || view != announced {
                        fault = Some(format!(
                            "at rest {} {connection:?} sees {view:?} in {key:?}, and there are {:?}; \
                             announced are {announced:?}",
                            node.name, expected[key].users
                        ));
                    }
                }
            }
        }
        if let Some(fault) = fault {
            self.broken(fault);
        }
    }

    /// Asks every node for everything.
    fn check_answers(&mut self, expected: &BTreeMap<SimChannel, Expected>) {
        let wanted = WantedCounts { users: true, subscriptions: true, kept: false };
        let mut asked = Vec::new();
        for node in 0..self.nodes.len() {
            for app in APPS {
                let all = ChannelInquiry::Channels { prefix: "".into(), wanted };
                asked.push((node, app, None, self.inquire(node, app, all)));
            }
            for key in expected.keys().filter(|key| key.1.starts_with("presence-")) {
                let users = ChannelInquiry::Users((&*key.1).into());
                let id = self.inquire(node, &key.0, users);
                asked.push((
                    node,
                    APPS.into_iter().find(|app| *app == key.0).unwrap(),
                    Some(key),
                    id,
                ));
            }
        }
        self.run_until(self.now + 1900);
        for (node, app, key, id) in asked {
            let answer = self.inquiries.answers.remove(&id);
            let is_right = match (&answer, key) {
                (Some(PresenceAnswer::Users(users)), Some(key)) => {
                    let users: BTreeSet<String> =
                        users.iter().map(|user| (&**user).into()).collect();
                    users == expected[key].users
                }
                (Some(PresenceAnswer::Channels(channels)), None) => {
                    *channels == counts(app, expected)
                }
                _ => false,
            };
            if !is_right {
                let name = self.nodes[node].name;
                let wanted = counts(app, expected);
                self.broken(format!(
                    "at rest {name} answers for {app} {key:?} {answer:?}, and it is {wanted:?}"
                ));
            }
        }
    }

    /// Every partition has one owner, and all nodes know it.
    fn check_owners(&mut self) {
        let mut fault = None;
        for number in 0..self.journals.len() {
            let status = self.nodes.iter().map(|node| {
                let status = node.cluster.as_ref().unwrap().status(node.now(self.now));
                (node.name, status.partitions[number].clone())
            });
            let status: Vec<_> = status.collect();
            let owners = status.iter().filter(|(_, status)| status.state == PartitionState::Owned);
            let owners: Vec<_> = owners.map(|(name, _)| *name).collect();
            let names: BTreeSet<_> = status
                .iter()
                .map(|(_, s)| (s.owner.clone().map(|o| o.to_string()), s.epoch))
                .collect();
            let is_known = names.len() == 1
                && names.iter().all(|(owner, _)| owner.as_deref() == owners.first().copied());
            if owners.len() != 1 || !is_known {
                fault = Some(format!("at rest partition {number}: {status:?}"));
            }
        }
        if let Some(fault) = fault {
            self.broken(fault);
        }
    }

    /// Every change is told once, or again by another owner.
    fn check_webhooks(&mut self) {
        let mut fault = None;
        for (number, journal) in self.journals.iter().enumerate() {
            let announced = &journal.announced;
            let recorded: Vec<&String> = announced.webhooks.values().collect();
            let mut tellable: Vec<&String> = announced.tellable.iter().collect();
            let mut sorted = recorded.clone();
            tellable.sort();
            sorted.sort();
            if sorted != tellable {
                fault = Some(format!("partition {number}: webhooks {recorded:?} for {tellable:?}"));
            }
            for webhook in announced.webhooks.keys() {
                let receipt = WebhookReceipt { partition: number as u8, number: *webhook };
                if !announced.settled.contains(webhook) {
                    fault = Some(format!("{receipt:?} is not settled"));
                }
                match self.told.get(&receipt) {
                    None => {
                        fault = Some(format!(
                            "{receipt:?} is not told: {}",
                            announced.webhooks[webhook]
                        ))
                    }
                    Some(told) => {
                        let owners =
                            self.handed.iter().filter(|handed| handed.0 == receipt).count();
                        if told.len() > owners {
                            fault =
                                Some(format!("{receipt:?} is told {told:?} by {owners} owners"));
                        }
                    }
                }
            }
        }
        if let Some(fault) = fault {
            self.broken(fault);
        }
    }

    /// When all sessions have ended, nothing is left.
    pub(super) fn check_empty(&mut self) {
        let mut fault = None;
        for (number, journal) in self.journals.iter().enumerate() {
            if !journal.announced.occupied.is_empty() {
                fault = Some(format!("partition {number}: {:?}", journal.announced.occupied));
            }
        }
        if let Some(fault) = fault {
            self.broken(format!("at the end there is {fault}"));
        }
    }
}

/// The channels of an app with their counts.
fn counts(app: &str, expected: &BTreeMap<SimChannel, Expected>) -> Vec<ChannelCounts> {
    let of_app = expected.iter().filter(|(key, _)| key.0 == app);
    of_app
        .map(|(key, entry)| ChannelCounts {
            name: (&*key.1).into(),
            subscriptions: entry.subscriptions,
            users: key.1.starts_with("presence-").then_some(entry.users.len() as u32),
        })
        .collect()
}
