//! What a step leads to: links that are opened and closed, notes and news that leave, effects that
//! are carried out. What a node tells itself as an owner goes the same way, without the wire.

use super::Cluster;
use super::announcer::OwnerEffect;
use super::boundary::{ClusterOutput, Destination, JournalCall};
use super::host::ClusterHost;
use super::link::{LinkBatch, PresenceNote};
use super::partition_number::PartitionNumber;
use super::peers::{PeerNumber, SELF};
use super::wire::ControlKind;
use crate::service::presence::{ChannelInquiry, PresenceAnswer, PresenceQuestion, PresenceRequest};
use crate::service::webhook::{Webhook, WebhookReceipt};
use crate::service::{ConnectionRef, Effect, Question};
use crate::wheel::Now;

impl Cluster {
    /// A connection of this node asks.
    pub(super) fn asked(
        &mut self,
        from: ConnectionRef,
        question: PresenceQuestion,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        match question.request {
            // What is known of some nodes would be taken for all.
            PresenceRequest::Inquire(
                ChannelInquiry::Dismiss(_) | ChannelInquiry::Connections(_),
            ) if !self.peers.is_settled(now) => host.answer(from, PresenceAnswer::Unavailable),
            PresenceRequest::Inquire(ChannelInquiry::Dismiss(user)) => {
                let app = &*question.app;
                self.presence.dismiss(app, &user, host);
                let peers: Vec<PeerNumber> = self.peers.live().map(|peer| peer.number).collect();
                let is_alone = peers.is_empty();
                let id = self.inquiries.dismiss(from, app, user.clone(), peers, now);
                if !is_alone {
                    let dismiss = ControlKind::Dismiss { id, app: app.into(), user };
                    self.send(Destination::All, &dismiss, host);
                }
            }
            PresenceRequest::Inquire(ChannelInquiry::Connections(here)) => {
                let elsewhere = self.connections(&question.app);
                let answer = elsewhere.map_or(PresenceAnswer::Unavailable, |elsewhere| {
                    PresenceAnswer::Connections(here.saturating_add(elsewhere))
                });
                host.answer(from, answer);
            }
            PresenceRequest::Inquire(inquiry) => {
                self.inquiries.ask(from, &question.app, inquiry, now);
            }
            PresenceRequest::Miss(channel) => {
                self.missed(question.dialect, ((&*question.app).into(), channel), now, host);
            }
            _ => self.presence.ask(from, question, now, host),
        }
    }

    /// Webhooks are told, cancelled or given up.
    pub(super) fn settled(&mut self, receipts: &[WebhookReceipt]) {
        for partition in &mut self.partitions {
            let number = partition.number.get();
            let of_it = receipts.iter().filter(|receipt| receipt.partition == number);
            let numbers: Vec<u64> = of_it.map(|receipt| receipt.number).collect();
            if let Some(owner) = partition.owner().filter(|_| !numbers.is_empty()) {
                owner.settled(numbers);
            }
        }
    }

    /// Carries on until nothing more follows from what has happened.
    pub(super) fn run(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        self.take_vacant(now, host);
        loop {
            self.follow_owners(now);
            let mut is_busy = self.send_notes(now, host);
            is_busy |= self.send_inquiries(now, host);
            is_busy |= self.work_as_owner(now, host);
            if !is_busy {
                break;
            }
        }
        self.make_calls(now, host);
        self.finish_releases(now, host);
        for (connection, answer) in self.inquiries.take_done() {
            host.answer(connection, answer);
        }
        if std::mem::take(&mut self.is_claiming) && self.peers.is_connected() {
            self.beat(now, host);
        }
    }

    /// Opens and closes links, as owners come and go.
    fn follow_owners(&mut self, now: Now) {
        if !self.plan.has_presence {
            return;
        }
        for partition in &self.partitions {
            let number = partition.number;
            match partition.known {
                known if self.presence.linked(number) == known => {}
                Some((owner, epoch)) => self.presence.open(number, owner, epoch, now),
                None => self.presence.close(number),
            }
        }
    }

    /// Sends what this node's connections have led to. Returns whether there was anything.
    fn send_notes(&mut self, now: Now, host: &mut ClusterHost<'_>) -> bool {
        let mut is_busy = false;
        while let Some((owner, batch)) = self.presence.next_batch() {
            is_busy = true;
            match owner {
                SELF => self.notes(SELF, batch, now, host),
                _ => self.send_to(owner, &ControlKind::Notes(batch), host),
            }
        }
        is_busy
    }

    fn send_inquiries(&mut self, now: Now, host: &mut ClusterHost<'_>) -> bool {
        let partitions = &self.partitions;
        let calls = self.inquiries.calls(&|number| partitions[number.index()].known);
        let is_busy = !calls.is_empty();
        for (owner, call) in calls {
            match owner {
                SELF => {
                    if let Some(owner) = self.partitions[call.partition.index()].owned() {
                        owner.inquire(SELF, call, now);
                    }
                }
                _ => self.send_to(owner, &ControlKind::Inquire(call), host),
            }
        }
        is_busy
    }

    /// Carries out what this node has decided as an owner. Returns whether there was anything.
    fn work_as_owner(&mut self, now: Now, host: &mut ClusterHost<'_>) -> bool {
        // Notes that were lost with the connection are missed when the nodes have told what they sent
        // last, which they do each second.
        let is_connected = self.peers.is_settled(now);
        let mut is_busy = false;
        for number in PartitionNumber::all() {
            let Some(owner) = self.partitions[number.index()].owner() else { continue };
            owner.answer(is_connected, now);
            let ready = owner.take_ready(now).into_iter().map(|effect| (0, effect)).collect();
            self.carry_out(number, ready, host);
            while let Some((node, batch)) =
                self.partitions[number.index()].owner().and_then(|owner| owner.next_batch())
            {
                is_busy = true;
                match node {
                    SELF => self.presence.news(SELF, batch, now, host),
                    _ => self.send_to(node, &ControlKind::News(batch), host),
                }
            }
        }
        is_busy
    }

    /// Carries out effects of a partition's owner, each with the sequence of its round.
    pub(super) fn carry_out(
        &mut self,
        number: PartitionNumber,
        effects: Vec<(u64, OwnerEffect)>,
        host: &mut ClusterHost<'_>,
    ) {
        for (sequence, effect) in effects {
            match effect {
                OwnerEffect::News(node, news) => {
                    if let Some(owner) = self.partitions[number.index()].owner() {
                        owner.tell(node, news);
                    }
                }
                OwnerEffect::Webhook(event) => {
                    let webhook = Question::Webhook(Box::new(Webhook::Event(*event)));
                    host.out.push(ClusterOutput::Effect(Effect::Ask(webhook)));
                }
                OwnerEffect::Answer(SELF, part) => self.inquiries.answered(SELF, *part),
                OwnerEffect::Answer(node, part) => {
                    self.send_to(node, &ControlKind::Answer(*part), host);
                }
                OwnerEffect::SnapshotBegins => {
                    if let Some(owner) = self.partitions[number.index()].owner() {
                        owner.snapshot_begins(sequence);
                    }
                }
                OwnerEffect::Purge => {
                    if let Some(owner) = self.partitions[number.index()].owner() {
                        let (partition, below) = (number.get(), owner.snapshot_from());
                        let purge = JournalCall::Purge { partition, below };
                        host.out.push(ClusterOutput::Journal(purge));
                    }
                }
            }
        }
    }

    fn make_calls(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        if !self.peers.is_connected() || self.is_stopped {
            return;
        }
        let mut calls = Vec::new();
        for partition in &mut self.partitions {
            if let Some(owner) = partition.owner() {
                owner.calls(now, &mut self.last_call, &mut calls);
            }
        }
        host.out.extend(calls.into_iter().map(ClusterOutput::Journal));
    }

    /// Notes of a node, for a partition that this one owns.
    pub(super) fn notes(
        &mut self,
        from: PeerNumber,
        batch: LinkBatch<PresenceNote>,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let link = batch.link;
        let words = host.words();
        let owner = self.partitions[link.partition.index()].owned();
        let Some(owner) = owner.filter(|owner| owner.epoch() == link.epoch) else { return };
        let is_broken = owner.notes(from, batch, &words, now);
        let nodes = self.present_nodes();
        if let Some(owner) = self.partitions[link.partition.index()].owned() {
            owner.settle_if_told(&nodes, &words, now);
        }
        if is_broken {
            self.send_to(from, &ControlKind::Reset(link), host);
        }
    }

    /// The live nodes that have presence, this one too.
    pub(super) fn present_nodes(&self) -> Vec<PeerNumber> {
        let others = self.peers.live().filter(|peer| peer.heartbeat.presence);
        std::iter::once(SELF).chain(others.map(|peer| peer.number)).collect()
    }

    /// Tells every node the last numbers of what it was sent.
    pub(super) fn send_tails(&mut self, host: &mut ClusterHost<'_>) {
        let peers: Vec<PeerNumber> = self.peers.live().map(|peer| peer.number).collect();
        for peer in peers {
            let notes = self.presence.tails(peer);
            let owners = self.partitions.iter_mut().filter_map(|partition| partition.owned());
            let news: Vec<_> = owners.filter_map(|owner| owner.tail_of(peer)).collect();
            if !notes.is_empty() || !news.is_empty() {
                self.send_to(peer, &ControlKind::Tails { notes, news }, host);
            }
        }
    }

    /// Sends a message to one node, if it lives.
    pub(super) fn send_to(&self, node: PeerNumber, kind: &ControlKind, host: &mut ClusterHost<'_>) {
        if let Some(peer) = self.peers.by_number(node) {
            self.send(Destination::Node(peer.id.name.clone()), kind, host);
        }
    }
}
