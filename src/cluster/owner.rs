//! The owner of one partition: hears the nodes' notes, decides, records, and announces what is
//! stored.
//!
//! What it does with the engine is in `rounds`, what it decides in `owner_channels`; this file has
//! the links, the inquiries and the snapshots.

use super::announcer::{Announcer, OwnerEffect, OwnerLink};
use super::boundary::JournalCall;
use super::channel_name::ChannelName;
use super::host::PresenceWords;
use super::inquiry_message::{InquiryCall, OwnerAnswer};
use super::journal::{JournalError, JournalReader, JournalRecord};
use super::link::{LinkBatch, LinkId, LinkTail, PresenceNews, PresenceNote};
use super::owner_channels::{CountNote, JoinNote, OwnerChannels};
use super::owner_node::LinkedNode;
use super::partition_number::PartitionNumber;
use super::peers::PeerNumber;
use super::rounds::RoundsOutcome;
use super::wire::CONTROL_PART_BYTES;
use crate::service::presence::{OccupiedChannels as _, PresenceChange, PresenceVoice};
use crate::wheel::{Now, SECOND_NS};
use std::collections::VecDeque;

/// A new owner waits this long for every live node to tell what it has. One that lives and does not
/// tell for so long cannot hear this owner; its members are in other lists without a home.
const SETTLING_NS: u64 = 10 * SECOND_NS;
/// An inquiry that cannot be answered in this time is not: the node that asks gives up as well.
pub(super) const INQUIRY_NS: u64 = 2 * SECOND_NS;
/// Inquiries that wait at an owner: as many as come in two seconds from a busy HTTP client.
const INQUIRIES_MAX: usize = 1000;
/// Records after which a snapshot is written, unless the state is larger: a new owner reads some MiB
/// then. The simulation, which is short, has some dozens of snapshots too.
const SNAPSHOT_RECORDS: usize = if cfg!(test) { 40 } else { 4000 };
/// Between two tellings of one node that a link is broken.
const RESET_NS: u64 = SECOND_NS / 4;

/// The owner of a partition.
#[derive(Debug)]
pub(super) struct PartitionOwner {
    channels: OwnerChannels,
    announcer: Announcer,
    taken_ns: u64,
    /// Inquiries that wait, with the moment when they are dropped.
    inquiries: VecDeque<(u64, PeerNumber, InquiryCall)>,
    /// Records after which to see whether a snapshot is due.
    snapshot_at: usize,
    /// The sequence of the first entry of the last snapshot.
    snapshot_from: u64,
    /// Whether it is given up: nothing more is decided.
    is_ending: bool,
}

impl PartitionOwner {
    /// The owner whose take has the sequence `epoch`, with the entries of the journal. Returns the
    /// number of damaged entries, which are left out, too. The journal was asked for at `asked_ns`.
    pub(super) fn load(
        partition: PartitionNumber,
        epoch: u64,
        entries: &[(u64, Vec<u8>)],
        last: u64,
        words: &PresenceWords<'_>,
        asked_ns: u64,
        now: Now,
    ) -> Result<(Self, usize), JournalError> {
        let mut owner = Self {
            channels: OwnerChannels::default(),
            announcer: Announcer::new(partition, epoch, last, now),
            taken_ns: now.monotonic_ns,
            inquiries: VecDeque::new(),
            snapshot_at: SNAPSHOT_RECORDS,
            snapshot_from: 0,
            is_ending: false,
        };
        let mut damaged = 0;
        // A snapshot replaces what is before it once it is complete.
        let mut snapshot: Option<(OwnerChannels, Announcer)> = None;
        let mut reader = JournalReader::default();
        for (sequence, entry) in entries {
            // An entry of a former owner that was on its way when its epoch ended.
            if *sequence > epoch {
                continue;
            }
            let former = reader.epoch();
            let records = match reader.read(entry) {
                Ok(records) => records,
                Err(JournalError::Version) => return Err(JournalError::Version),
                Err(JournalError::Garbage) => {
                    damaged += 1;
                    continue;
                }
            };
            // What a former owner has not completed is no snapshot.
            if reader.epoch() != former {
                snapshot = None;
            }
            for record in records {
                if let JournalRecord::Snapshot = record {
                    let announcer = Announcer::new(partition, epoch, last, now);
                    snapshot = Some((OwnerChannels::default(), announcer));
                }
                let is_complete = matches!(record, JournalRecord::Complete { .. });
                let (channels, announcer) = match &mut snapshot {
                    Some((channels, announcer)) => (channels, announcer),
                    None => (&mut owner.channels, &mut owner.announcer),
                };
                announcer.replay(&record);
                channels.replay(record, words);
                if is_complete && let Some((channels, announcer)) = snapshot.take() {
                    (owner.channels, owner.announcer) = (channels, announcer);
                }
            }
        }
        owner.announcer.rounds.confirmed_at(asked_ns);
        owner.announcer.hand_webhooks();
        Ok((owner, damaged))
    }

    pub(super) fn epoch(&self) -> u64 {
        self.announcer.rounds.epoch()
    }

    /// Until when no other node can own the partition.
    pub(super) fn confirmed_until_ns(&self) -> u64 {
        self.announcer.rounds.confirmed_until_ns()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.channels.is_settled()
    }

    /// Gives the partition up: what was decided is stored, and nothing more is decided.
    pub(super) fn end(&mut self) {
        self.is_ending = true;
        self.inquiries.clear();
    }

    /// Whether all that was decided is stored.
    pub(super) fn is_stored(&self) -> bool {
        self.announcer.rounds.is_empty()
    }

    /// Whether the engine has taken or confirmed nothing for so long that too much waits.
    pub(super) fn is_overfull(&self) -> bool {
        self.announcer.is_overfull()
    }

    /// Notes of a node. Returns whether the node has to be told that something is missing.
    pub(super) fn notes(
        &mut self,
        number: PeerNumber,
        batch: LinkBatch<PresenceNote>,
        words: &PresenceWords<'_>,
        now: Now,
    ) -> bool {
        if self.is_ending {
            return false;
        }
        let node = LinkedNode { number, generation: batch.link.generation };
        let known = self.announcer.link(number).map(|link| link.node.generation);
        match known {
            Some(known) if known > node.generation => return false,
            Some(known) if known == node.generation => {}
            // What came first of this generation is missing: a link that is not known is broken.
            _ => {
                self.announcer.links.insert(number, OwnerLink::new(node));
            }
        }
        if !self.announcer.link(number).is_some_and(|link| link.receiver.takes(batch.first)) {
            return self.must_reset(number, now);
        }
        for note in batch.items {
            let Some(link) = self.announcer.link(number) else { break };
            let asked = link.receiver.next();
            self.note(node, asked, note, words, now);
        }
        false
    }

    fn note(
        &mut self,
        node: LinkedNode,
        asked: u64,
        note: PresenceNote,
        words: &PresenceWords<'_>,
        now: Now,
    ) {
        let Self { channels, announcer, .. } = self;
        match note {
            PresenceNote::Join { dialect, app, channel, user, info, is_in } => {
                let name = ChannelName { app, channel };
                let note = JoinNote { dialect, name, user, info, is_in, asked };
                channels.join(node, note, words, announcer);
            }
            PresenceNote::Leave { app, channel, user } => {
                channels.leave(node, &ChannelName { app, channel }, &user, words, announcer);
            }
            PresenceNote::Count { dialect, app, channel, count, members: has_members } => {
                let name = ChannelName { app, channel };
                let note = CountNote { dialect, name, count, has_members };
                channels.count(node, &note, words, announcer, now);
            }
            PresenceNote::Whole => {
                channels.forget(node.number, Some(node.generation), words, announcer, now);
                if let Some(link) = announcer.link(node.number) {
                    link.is_whole = true;
                }
                channels.welcome(node, announcer);
            }
        }
    }

    /// The last number that a node has sent. Returns whether it has to be told that something is
    /// missing.
    pub(super) fn tail(&mut self, number: PeerNumber, tail: &LinkTail, now: Now) -> bool {
        if self.is_ending {
            return false;
        }
        let generation = tail.link.generation;
        match self.announcer.link(number) {
            Some(link) if link.node.generation > generation => false,
            Some(link) if link.node.generation == generation => {
                link.receiver.tail(tail.last);
                self.must_reset(number, now)
            }
            // The whole beginning is missing.
            _ => {
                let mut link = OwnerLink::new(LinkedNode { number, generation });
                link.receiver.tail(u64::MAX);
                self.announcer.links.insert(number, link);
                self.must_reset(number, now)
            }
        }
    }

    fn must_reset(&mut self, number: PeerNumber, now: Now) -> bool {
        let Some(link) = self.announcer.link(number) else { return false };
        let is_due = link.reset_ns == 0 || now.monotonic_ns >= link.reset_ns + RESET_NS;
        if link.receiver.is_broken() && is_due {
            link.reset_ns = now.monotonic_ns;
            return true;
        }
        false
    }

    /// A node is gone, with all that it had.
    pub(super) fn gone(&mut self, number: PeerNumber, words: &PresenceWords<'_>, now: Now) {
        if !self.is_ending {
            self.announcer.links.remove(&number);
            self.channels.forget(number, None, words, &mut self.announcer, now);
        }
    }

    /// A node inquires.
    pub(super) fn inquire(&mut self, from: PeerNumber, call: InquiryCall, now: Now) {
        if !self.is_ending && self.inquiries.len() < INQUIRIES_MAX {
            self.inquiries.push_back((now.monotonic_ns + INQUIRY_NS, from, call));
        }
    }

    /// Records a change that no node has told, and tells the app of it.
    pub(super) fn change(
        &mut self,
        voice: &dyn PresenceVoice,
        app: &str,
        change: &PresenceChange<'_>,
    ) {
        if !self.is_ending {
            self.announcer.webhook(voice, app, change);
        }
    }

    /// Webhooks for which there was no room, since the last call.
    pub(super) fn take_webhooks_lost(&mut self) -> u64 {
        self.announcer.take_webhooks_lost()
    }

    /// Webhooks are told, cancelled or given up.
    pub(super) fn settled(&mut self, numbers: Vec<u64>) {
        // Also while it is handed over: the next owner need not tell them again.
        self.announcer.settled(numbers);
    }

    /// The number of webhooks that are to be told.
    pub(super) fn webhooks(&self) -> usize {
        self.announcer.webhooks()
    }

    /// Does what is due. `nodes` are the live nodes that have presence, this one too.
    pub(super) fn tick(&mut self, nodes: &[PeerNumber], words: &PresenceWords<'_>, now: Now) {
        if self.is_ending {
            return;
        }
        self.channels.tick(words, &mut self.announcer, now);
        self.settle_if_told(nodes, words, now);
        while self.inquiries.front().is_some_and(|(until_ns, ..)| now.monotonic_ns >= *until_ns) {
            self.inquiries.pop_front();
        }
        // The state is walked once for as many records as it has.
        if self.announcer.records > self.snapshot_at {
            let entries = self.channels.len() + self.announcer.webhooks();
            self.snapshot_at = SNAPSHOT_RECORDS.max(entries);
            if self.announcer.records > self.snapshot_at {
                self.snapshot();
            }
        }
    }

    /// Ends the time in which nothing is removed, once every node has told what it has.
    pub(super) fn settle_if_told(
        &mut self,
        nodes: &[PeerNumber],
        words: &PresenceWords<'_>,
        now: Now,
    ) {
        if self.is_settled() || self.is_ending {
            return;
        }
        let links = &self.announcer.links;
        let is_told = |number: &PeerNumber| links.get(number).is_some_and(|link| link.is_whole);
        if nodes.iter().all(is_told) || now.monotonic_ns >= self.taken_ns + SETTLING_NS {
            self.channels.settle(words, &mut self.announcer);
        }
    }

    /// Answers the inquiries that wait, if what this owner knows is whole and still true. `is_connected`
    /// is whether the engine is.
    pub(super) fn answer(&mut self, is_connected: bool, now: Now) {
        let is_sure = is_connected && self.announcer.rounds.is_confirmed(now);
        if !is_sure || !self.is_settled() {
            return;
        }
        while let Some((_, from, call)) = self.inquiries.pop_front() {
            let answer = self.channels.app(&call.app).answer(&call.inquiry);
            for part in OwnerAnswer::parts(&call, answer) {
                self.announcer.effect(OwnerEffect::Answer(from, Box::new(part)));
            }
        }
    }

    /// Writes the whole state, in rounds of its own.
    fn snapshot(&mut self) {
        let Self { channels, announcer, .. } = self;
        announcer.rounds.close();
        announcer.record(&JournalRecord::Snapshot);
        announcer.effect(OwnerEffect::SnapshotBegins);
        let mut records = Vec::new();
        channels.snapshot(&mut |record| records.push(record));
        announcer.snapshot(&mut |record| records.push(record));
        for record in &records {
            announcer.rounds.record(record, false);
        }
        announcer.effect(OwnerEffect::Purge);
        announcer.rounds.close();
        announcer.records = 0;
    }

    /// The calls of the engine that are to be made now.
    pub(super) fn calls(&mut self, now: Now, last_call: &mut u64, out: &mut Vec<JournalCall>) {
        self.announcer.rounds.calls(now, last_call, out);
    }

    /// An append is stored. Returns the effects that leave, each with its sequence.
    pub(super) fn stored(&mut self, call: u64, sequence: u64, now: Now) -> Vec<(u64, OwnerEffect)> {
        self.announcer.rounds.stored(call, sequence, now)
    }

    /// A call failed or was refused.
    pub(super) fn failed(&mut self, call: u64, now: Now) {
        self.announcer.rounds.failed(call, now);
    }

    /// Another node claims the partition.
    pub(super) fn doubt(&mut self, now: Now) {
        self.announcer.rounds.doubt(now);
    }

    /// The answer to a look.
    pub(super) fn looked(
        &mut self,
        call: u64,
        epoch: Option<u64>,
        entries: &[(u64, Vec<u8>)],
        last: u64,
        now: Now,
    ) -> RoundsOutcome<OwnerEffect> {
        self.announcer.rounds.looked(call, epoch, entries, last, now)
    }

    /// A snapshot begins with the entry of this sequence.
    pub(super) fn snapshot_begins(&mut self, sequence: u64) {
        self.snapshot_from = sequence;
    }

    /// A snapshot is complete. Returns the sequence below which entries are not needed.
    pub(super) fn snapshot_from(&self) -> u64 {
        self.snapshot_from
    }

    /// Effects that leave at once. Nothing leaves while this owner is not confirmed: it may have been
    /// stopped for a while, and replaced.
    pub(super) fn take_ready(&mut self, now: Now) -> Vec<OwnerEffect> {
        if self.announcer.rounds.is_confirmed(now) {
            self.announcer.take_ready()
        } else {
            Vec::new()
        }
    }

    /// Queues news for a node, unless its link has begun anew.
    pub(super) fn tell(&mut self, node: LinkedNode, news: PresenceNews) {
        if let Some(link) = self.announcer.link(node.number).filter(|link| link.node == node) {
            link.sender.push(news);
        }
    }

    /// The next batch of news, and the node that it is for.
    pub(super) fn next_batch(&mut self) -> Option<(PeerNumber, LinkBatch<PresenceNews>)> {
        let (partition, epoch) = (self.announcer.partition, self.epoch());
        self.announcer.links.values_mut().find_map(|link| {
            let LinkedNode { number, generation } = link.node;
            let id = LinkId { partition, epoch, generation };
            Some((number, link.sender.batch(id, CONTROL_PART_BYTES)?))
        })
    }

    /// The last number of news that was sent to a node.
    pub(super) fn tail_of(&self, number: PeerNumber) -> Option<LinkTail> {
        let link = self.announcer.links.get(&number)?;
        let (partition, epoch) = (self.announcer.partition, self.epoch());
        let id = LinkId { partition, epoch, generation: link.node.generation };
        Some(LinkTail { link: id, last: link.sender.last() })
    }
}
