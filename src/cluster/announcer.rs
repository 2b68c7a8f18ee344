//! What an owner says once it is stored: news for nodes, webhooks, answers to inquiries.

use super::channel_name::ChannelName;
use super::inquiry_message::OwnerAnswer;
use super::journal::JournalRecord;
use super::link::{LinkReceiver, LinkSender, PresenceNews};
use super::owner_node::LinkedNode;
use super::partition_number::PartitionNumber;
use super::peers::PeerNumber;
use super::rounds::Rounds;
use crate::service::presence::{PresenceChange, PresenceVoice};
use crate::service::webhook::{Webhook, WebhookEvent, WebhookReceipt};
use crate::wheel::Now;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of members after which a list goes on in another part. What a member shows may be as long
/// as a client's message; NATS takes messages of a MiB or more.
const LIST_PART_BYTES: usize = if cfg!(test) { 10 } else { 64 * 1024 };
/// Webhooks of a partition that are not told yet. The service that tells them drops its oldest
/// beyond its own limit; this one is for a service that never says what became of them.
const WEBHOOKS_MAX: usize = 20_000;
/// Effects that need no append and wait for the engine to confirm the owner: some 64 MiB, like what
/// waits to be stored. The owner gives the partition up beyond that.
const READY_MAX: usize = 300_000;

/// An effect of an owner's decision.
#[derive(Debug)]
pub(super) enum OwnerEffect {
    /// For a node, if it is still in this generation of its link.
    News(LinkedNode, PresenceNews),
    /// For this node's webhooks.
    Webhook(Box<WebhookEvent>),
    /// For the node that has asked.
    Answer(PeerNumber, Box<OwnerAnswer>),
    /// The entry is the first of a snapshot.
    SnapshotBegins,
    /// The entry is the last of a snapshot, which replaces what is before.
    Purge,
}

/// A user that has joined by a node's note.
#[derive(Debug)]
pub(super) struct JoinedNote {
    pub(super) name: ChannelName,
    pub(super) user: Arc<str>,
    /// The number of the note.
    pub(super) asked: u64,
}

/// A node's link at the owner.
#[derive(Debug)]
pub(super) struct OwnerLink {
    pub(super) node: LinkedNode,
    pub(super) receiver: LinkReceiver,
    pub(super) sender: LinkSender<PresenceNews>,
    /// Whether the node has told all that it has.
    pub(super) is_whole: bool,
    /// Members that have joined while it had not.
    welcomed: Vec<JoinedNote>,
    /// When the node was last told that something is missing.
    pub(super) reset_ns: u64,
}

/// The way out of an owner.
#[derive(Debug)]
pub(super) struct Announcer {
    pub(super) partition: PartitionNumber,
    pub(super) rounds: Rounds<OwnerEffect>,
    /// The nodes' links.
    pub(super) links: BTreeMap<PeerNumber, OwnerLink>,
    /// Webhooks that are to be told, by number.
    webhooks: BTreeMap<u64, WebhookEvent>,
    next_webhook: u64,
    /// Webhooks for which there was no room.
    webhooks_lost: u64,
    /// Effects that leave as soon as the owner is confirmed, because all is stored.
    ready: Vec<OwnerEffect>,
    /// Records since the last snapshot.
    pub(super) records: usize,
}

impl Announcer {
    pub(super) fn new(partition: PartitionNumber, epoch: u64, last: u64, now: Now) -> Self {
        Self {
            partition,
            rounds: Rounds::new(partition, epoch, last, now),
            links: BTreeMap::new(),
            webhooks: BTreeMap::new(),
            next_webhook: 1,
            webhooks_lost: 0,
            ready: Vec::new(),
            records: 0,
        }
    }

    /// Adds a record to the journal.
    pub(super) fn record(&mut self, record: &JournalRecord) {
        self.rounds.record(record, false);
        self.records += 1;
    }

    /// Has an effect leave when all that was recorded is stored.
    pub(super) fn effect(&mut self, effect: OwnerEffect) {
        let ready = self.rounds.effect(effect);
        self.ready.extend(ready);
    }

    /// Whether more waits than an owner may keep.
    pub(super) fn is_overfull(&self) -> bool {
        self.rounds.is_overfull() || self.ready.len() > READY_MAX
    }

    /// Effects that leave at once.
    pub(super) fn take_ready(&mut self) -> Vec<OwnerEffect> {
        std::mem::take(&mut self.ready)
    }

    /// News for a node.
    pub(super) fn news(&mut self, node: LinkedNode, news: PresenceNews) {
        self.effect(OwnerEffect::News(node, news));
    }

    /// The list of a channel's members for a node.
    pub(super) fn list(
        &mut self,
        node: LinkedNode,
        name: &ChannelName,
        members: Vec<(Arc<str>, Arc<str>)>,
    ) {
        let mut members = members.into_iter().peekable();
        let mut is_first = true;
        loop {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while bytes < LIST_PART_BYTES
                && let Some((user, info)) = members.next()
            {
                bytes += user.len() + info.len();
                part.push((user, info));
            }
            let (app, channel) = (Arc::clone(&name.app), Arc::clone(&name.channel));
            let is_last = members.peek().is_none();
            let list = PresenceNews::List { app, channel, members: part, is_first, is_last };
            self.news(node, list);
            if is_last {
                return;
            }
            is_first = false;
        }
    }

    /// Notes that a node has to be told of its member.
    pub(super) fn welcome(&mut self, node: LinkedNode, note: JoinedNote) {
        if let Some(link) = self.links.get_mut(&node.number) {
            link.welcomed.push(note);
        }
    }

    /// The members of which a node has to be told now.
    pub(super) fn take_welcomed(&mut self, number: PeerNumber) -> Vec<JoinedNote> {
        let link = self.links.get_mut(&number).filter(|link| link.is_whole);
        link.map(|link| std::mem::take(&mut link.welcomed)).unwrap_or_default()
    }

    /// Records the webhook for a change, if the app has one, and tells it when it is stored.
    pub(super) fn webhook(
        &mut self,
        voice: &dyn PresenceVoice,
        app: &str,
        change: &PresenceChange<'_>,
    ) {
        let Some(Webhook::Event(mut event)) = voice.webhook(app, change) else { return };
        if self.webhooks.len() >= WEBHOOKS_MAX {
            self.webhooks_lost += 1;
            return;
        }
        let number = self.next_webhook;
        self.next_webhook = number.saturating_add(1);
        event.receipt = Some(WebhookReceipt { partition: self.partition.get(), number });
        // Stored with the change that it tells, or not at all.
        let record = JournalRecord::Webhook { number, event: Box::new(event.clone()) };
        self.rounds.record(&record, true);
        self.records += 1;
        self.webhooks.insert(number, event.clone());
        self.effect(OwnerEffect::Webhook(Box::new(event)));
    }

    /// Webhooks are told, cancelled or given up.
    pub(super) fn settled(&mut self, mut numbers: Vec<u64>) {
        numbers.retain(|number| self.webhooks.remove(number).is_some());
        if !numbers.is_empty() {
            self.record(&JournalRecord::Settled(numbers));
        }
    }

    /// Applies a record of the journal.
    pub(super) fn replay(&mut self, record: &JournalRecord) {
        self.records += 1;
        match record {
            JournalRecord::Webhook { number, event } => {
                self.next_webhook = self.next_webhook.max(number.saturating_add(1));
                let mut event = WebhookEvent::clone(event);
                let partition = self.partition.get();
                event.receipt = Some(WebhookReceipt { partition, number: *number });
                self.webhooks.insert(*number, event);
            }
            JournalRecord::Settled(numbers) => {
                for number in numbers {
                    self.webhooks.remove(number);
                }
            }
            JournalRecord::Complete { next_webhook } => {
                self.next_webhook = self.next_webhook.max(*next_webhook);
            }
            _ => {}
        }
    }

    /// Tells the webhooks that a former owner has recorded and not settled.
    pub(super) fn hand_webhooks(&mut self) {
        let webhooks = self.webhooks.values().cloned();
        self.ready.extend(webhooks.map(|event| OwnerEffect::Webhook(Box::new(event))));
    }

    /// Webhooks for which there was no room, since the last call.
    pub(super) fn take_webhooks_lost(&mut self) -> u64 {
        std::mem::take(&mut self.webhooks_lost)
    }

    /// The number of webhooks that are to be told.
    pub(super) fn webhooks(&self) -> usize {
        self.webhooks.len()
    }

    /// The records that lead to this state.
    pub(super) fn snapshot(&self, record: &mut dyn FnMut(JournalRecord)) {
        for (number, event) in &self.webhooks {
            record(JournalRecord::Webhook { number: *number, event: Box::new(event.clone()) });
        }
        record(JournalRecord::Complete { next_webhook: self.next_webhook });
    }

    /// What a node tells by a link that is whole so far.
    pub(super) fn link(&mut self, number: PeerNumber) -> Option<&mut OwnerLink> {
        self.links.get_mut(&number)
    }
}

impl OwnerLink {
    pub(super) fn new(node: LinkedNode) -> Self {
        Self {
            node,
            receiver: LinkReceiver::default(),
            sender: LinkSender::new(),
            is_whole: false,
            welcomed: Vec::new(),
            reset_ns: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_that_wait_for_a_confirmation_are_limited() {
        let partition = PartitionNumber::all().next().unwrap();
        let mut announcer = Announcer::new(partition, 1, 1, Now::default());
        let node = LinkedNode { number: 1, generation: 1 };
        let (app, channel): (Arc<str>, Arc<str>) = ("a".into(), "c".into());
        for _ in 0..READY_MAX {
            let (app, channel) = (Arc::clone(&app), Arc::clone(&channel));
            announcer.news(node, PresenceNews::Count { app, channel, count: 1 });
        }
        assert!(announcer.rounds.is_empty());
        assert!(!announcer.is_overfull());

        announcer.news(node, PresenceNews::Count { app, channel, count: 1 });
        assert!(announcer.is_overfull());
        assert_eq!(announcer.take_ready().len(), READY_MAX + 1);
        assert!(!announcer.is_overfull());
    }
}
