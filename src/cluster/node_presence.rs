//! The presence of this node's connections: what they ask goes to the owners of the partitions as
//! notes, and what the owners tell is answered and announced here.
//!
//! Nothing is queued for an owner that is not there: a link that is opened tells the whole state.
//! Connections that wait for an answer give up after [`JOIN_NS`].

use super::channel_name::ChannelName;
use super::host::ClusterHost;
use super::link::{
    LinkBatch, LinkId, LinkReceiver, LinkSender, LinkTail, PresenceNews, PresenceNote,
};
use super::local_channel::{LocalChannel, LocalLeave, LocalMember};
use super::partition_number::PartitionNumber;
use super::peers::PeerNumber;
use super::wire::CONTROL_PART_BYTES;
use crate::service::presence::{
    CountStep, PresenceAnswer, PresenceQuestion, PresenceRequest, WaitingCounts,
};
use crate::service::{ConnectionRef, DialectId};
use crate::wheel::{Now, SECOND_NS};
use ahash::AHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// A join that has waited for so long is given up: the client connects again, perhaps to a node that
/// is better off. An election of JetStream takes less.
const JOIN_NS: u64 = 10 * SECOND_NS;
/// Longest member: escaped as text within JSON it is twice as long at most, and NATS takes messages
/// of 4 MiB.
const MEMBER_BYTES_MAX: usize = 1024 * 1024;
/// Between two openings of a link: a link that breaks at once must not send the whole state without
/// pause.
const REOPEN_NS: u64 = SECOND_NS / 4;

/// The presence of this node's connections.
#[derive(Debug)]
pub(super) struct NodePresence {
    parts: Vec<LocalPartition>,
    last_generation: u32,
    /// Joins that wait, with the moments when they give up, in order.
    waiting: VecDeque<(u64, ChannelName, ConnectionRef)>,
    waiting_counts: WaitingCounts<ChannelName>,
    /// Links that began anew because something was missing.
    pub(super) resets: u64,
    /// Joins that were given up.
    pub(super) unanswered: u64,
}

/// What this node has of one partition.
#[derive(Debug, Default)]
pub(super) struct LocalPartition {
    pub(super) channels: AHashMap<ChannelName, LocalChannel>,
    pub(super) link: Option<NodeLink>,
}

/// The link to the owner of a partition.
#[derive(Debug)]
pub(super) struct NodeLink {
    pub(super) owner: PeerNumber,
    pub(super) id: LinkId,
    pub(super) sender: LinkSender<PresenceNote>,
    receiver: LinkReceiver,
    opened_ns: u64,
    /// Whether it has to be opened anew.
    is_broken: bool,
}

impl NodePresence {
    /// `first_generation` is another in each run, so that nothing of a former run's links fits.
    pub(super) fn new(first_generation: u32) -> Self {
        Self {
            parts: PartitionNumber::all().map(|_| LocalPartition::default()).collect(),
            last_generation: first_generation,
            waiting: VecDeque::new(),
            waiting_counts: WaitingCounts::new(),
            resets: 0,
            unanswered: 0,
        }
    }

    /// A connection enters, joins or leaves a channel.
    pub(super) fn ask(
        &mut self,
        from: ConnectionRef,
        question: PresenceQuestion,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let PresenceQuestion { dialect, app, request } = question;
        let name = |channel: &str| ChannelName { app: Arc::clone(&app), channel: channel.into() };
        match request {
            PresenceRequest::Enter(channel) => self.enter(&name(&channel), dialect, now),
            PresenceRequest::Leave(channel) => self.leave(from, &name(&channel), now),
            PresenceRequest::Join { channel, user, info } => {
                let (name, user) = (name(&channel), Arc::from(user));
                self.join(from, name, dialect, (user, info.into()), now, host);
            }
            PresenceRequest::Miss(_) | PresenceRequest::Inquire(_) => {}
        }
    }

    fn enter(&mut self, name: &ChannelName, dialect: DialectId, now: Now) {
        let part = &mut self.parts[name.partition().index()];
        let channel = part.channels.entry(name.clone());
        channel.or_insert_with(|| LocalChannel::new(dialect)).entered += 1;
        self.count(name, now);
    }

    fn join(
        &mut self,
        from: ConnectionRef,
        name: ChannelName,
        dialect: DialectId,
        (user, info): (Arc<str>, Arc<str>),
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let Some(voice) = (host.voice)(dialect) else { return };
        // In no message could its member be told of.
        if user.len() + info.len() > MEMBER_BYTES_MAX {
            return host.answer(from, PresenceAnswer::TooLong((&*name.channel).into()));
        }
        let part = &mut self.parts[name.partition().index()];
        let channel = part.channels.entry(name.clone());
        let channel = channel.or_insert_with(|| LocalChannel::new(dialect));
        let presence = channel.presence.get_or_insert_default();

        // A connection that joins twice stays the user that it is.
        let user = presence.users.get(&from).cloned().unwrap_or(user);
        let is_new = !presence.users.contains_key(&from);
        let is_in = presence.is_listed(&user);
        match presence.members.get_mut(&user) {
            // The list is here: the owner has nothing to decide.
            Some(_) if is_in => {
                let rules = voice.rules(&name.app, host.outbox_bytes_max);
                if is_new && rules.list_bytes_max.is_some_and(|max| presence.listed_bytes() > max) {
                    return host.answer(from, PresenceAnswer::TooLong((&*name.channel).into()));
                }
                presence.present(from, &name, voice, host);
            }
            Some(member) => {
                let until_ns = now.monotonic_ns + JOIN_NS;
                member.waiting.push((from, until_ns));
                self.waiting.push_back((until_ns, name.clone(), from));
            }
            None => {
                let until_ns = now.monotonic_ns + JOIN_NS;
                let waiting = vec![(from, until_ns)];
                let mut member =
                    LocalMember { info, connections: 0, is_in: false, asked: 0, waiting };
                if let Some(link) = &mut part.link {
                    member.asked = link.sender.push(join_note(dialect, &name, &user, &member));
                }
                presence.members.insert(Arc::clone(&user), member);
                self.waiting.push_back((until_ns, name.clone(), from));
            }
        }
        if is_new {
            if let Some(member) = presence.members.get_mut(&user) {
                member.connections += 1;
                presence.present += u32::from(member.is_in);
            }
            presence.users.insert(from, user);
        }
        self.count(&name, now);
    }

    fn leave(&mut self, from: ConnectionRef, name: &ChannelName, now: Now) {
        let part = &mut self.parts[name.partition().index()];
        let Some(channel) = part.channels.get_mut(name) else { return };
        match &mut channel.presence {
            None => channel.entered = channel.entered.saturating_sub(1),
            Some(presence) => match presence.leave(from) {
                // A refused join is followed by a leave all the same.
                LocalLeave::Unknown => return,
                LocalLeave::Remains => {}
                LocalLeave::Last(user) => {
                    if let Some(link) = &mut part.link {
                        let (app, channel) = (Arc::clone(&name.app), Arc::clone(&name.channel));
                        link.sender.push(PresenceNote::Leave { app, channel, user });
                    }
                }
            },
        }
        self.count(name, now);
        self.drop_if_empty(name);
    }

    fn drop_if_empty(&mut self, name: &ChannelName) {
        let channels = &mut self.parts[name.partition().index()].channels;
        if channels.get(name).is_some_and(LocalChannel::is_empty) {
            channels.remove(name);
        }
    }

    /// Tells the owner a changed number of connections, now or when it is due.
    fn count(&mut self, name: &ChannelName, now: Now) {
        let part = &mut self.parts[name.partition().index()];
        let Some(channel) = part.channels.get_mut(name) else { return };
        let count = channel.count();
        if count == channel.told {
            return;
        }
        match channel.pace.changed(count, now.monotonic_ns / 1_000_000) {
            CountStep::Tell => part.tell_count(name),
            CountStep::Wait(at_ms) => self.waiting_counts.wait(at_ms, name.clone()),
            CountStep::Rest => {}
        }
    }

    /// Closes every connection through which a user is a member of a channel of an app.
    pub(super) fn dismiss(&self, app: &str, user: &str, host: &mut ClusterHost<'_>) {
        let channels = self.parts.iter().flat_map(|part| &part.channels);
        let of_app = channels.filter(|(name, _)| &*name.app == app);
        let presences = of_app.filter_map(|(_, channel)| channel.presence.as_ref());
        for connection in presences.flat_map(|presence| presence.connections(user)) {
            host.answer(connection, PresenceAnswer::Dismissed);
        }
    }

    /// Opens a link to the owner of a partition with all that is here, in place of a former one.
    pub(super) fn open(
        &mut self,
        partition: PartitionNumber,
        owner: PeerNumber,
        epoch: u64,
        now: Now,
    ) {
        self.last_generation += 1;
        let id = LinkId { partition, epoch, generation: self.last_generation };
        let part = &mut self.parts[partition.index()];
        let mut sender = LinkSender::new();
        for (name, channel) in &mut part.channels {
            channel.told = 0;
            let dialect = channel.dialect;
            if let Some(presence) = &mut channel.presence {
                (presence.follows, presence.arriving) = (false, None);
                for (user, member) in &mut presence.members {
                    member.asked = sender.push(join_note(dialect, name, user, member));
                }
            }
        }
        part.link = Some(NodeLink {
            owner,
            id,
            sender,
            receiver: LinkReceiver::default(),
            opened_ns: now.monotonic_ns,
            is_broken: false,
        });
        let names: Vec<ChannelName> = part.channels.keys().cloned().collect();
        names.iter().for_each(|name| part.tell_count(name));
        if let Some(link) = &mut part.link {
            link.sender.push(PresenceNote::Whole);
        }
    }

    /// Forgets the link of a partition, which has no owner that can be reached.
    pub(super) fn close(&mut self, partition: PartitionNumber) {
        self.parts[partition.index()].link = None;
    }

    /// The owner and epoch that a partition's link leads to.
    pub(super) fn linked(&self, partition: PartitionNumber) -> Option<(PeerNumber, u64)> {
        self.parts[partition.index()].link.as_ref().map(|link| (link.owner, link.id.epoch))
    }

    /// News from an owner.
    pub(super) fn news(
        &mut self,
        from: PeerNumber,
        batch: LinkBatch<PresenceNews>,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let partition = batch.link.partition.index();
        // By a former link: what it was about has been told anew.
        let Some(link) = self.parts[partition].link_of(from, batch.link) else { return };
        if !link.receiver.takes(batch.first) {
            return self.reopen(batch.link, now);
        }
        for news in batch.items {
            if let Some(link) = &mut self.parts[partition].link {
                link.receiver.next();
            }
            let name = news.name();
            // News of a channel that the last connection has left are still under way.
            if let Some(channel) = self.parts[partition].channels.get_mut(&name) {
                channel.heard(&name, news, now, host);
                self.count(&name, now);
                self.drop_if_empty(&name);
            }
        }
    }

    /// The last number of news that an owner has sent.
    pub(super) fn tail(&mut self, from: PeerNumber, tail: &LinkTail, now: Now) {
        let part = &mut self.parts[tail.link.partition.index()];
        let Some(link) = part.link_of(from, tail.link) else { return };
        link.receiver.tail(tail.last);
        if link.receiver.is_broken() {
            self.reopen(tail.link, now);
        }
    }

    /// The owner misses something of a link.
    pub(super) fn reset(&mut self, from: PeerNumber, link: LinkId, now: Now) {
        if self.parts[link.partition.index()].link_of(from, link).is_some() {
            self.reopen(link, now);
        }
    }

    /// Opens a link anew, now or when it is due.
    fn reopen(&mut self, id: LinkId, now: Now) {
        let Some(link) = &mut self.parts[id.partition.index()].link else { return };
        link.is_broken = true;
        if now.monotonic_ns >= link.opened_ns + REOPEN_NS {
            let owner = link.owner;
            self.resets += 1;
            self.open(id.partition, owner, id.epoch, now);
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        for partition in PartitionNumber::all() {
            let link = &self.parts[partition.index()].link;
            if let Some(link) = link.as_ref().filter(|link| link.is_broken) {
                self.reopen(link.id, now);
            }
        }
        let now_ms = now.monotonic_ns / 1_000_000;
        while let Some(name) = self.waiting_counts.pop_due(now_ms) {
            let part = &mut self.parts[name.partition().index()];
            let Some(channel) = part.channels.get_mut(&name) else { continue };
            match channel.pace.due(now_ms) {
                CountStep::Tell => part.tell_count(&name),
                CountStep::Wait(at_ms) => self.waiting_counts.wait(at_ms, name),
                CountStep::Rest => {}
            }
        }
        self.give_up(now, host);
    }

    /// Sends the connections away that have waited for too long.
    fn give_up(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        let is_due =
            |(until_ns, ..): &mut (u64, ChannelName, ConnectionRef)| now.monotonic_ns >= *until_ns;
        while let Some((until_ns, name, from)) = self.waiting.pop_front_if(is_due) {
            let part = &self.parts[name.partition().index()];
            let channel = part.channels.get(&name);
            let presence = channel.and_then(|channel| channel.presence.as_ref());
            let waits = presence.is_some_and(|presence| presence.waits(from, until_ns));
            if waits {
                self.unanswered += 1;
                self.leave(from, &name, now);
                host.answer(from, PresenceAnswer::Away((&*name.channel).into()));
            }
        }
    }

    /// The next batch of notes, and the owner that it is for.
    pub(super) fn next_batch(&mut self) -> Option<(PeerNumber, LinkBatch<PresenceNote>)> {
        let mut links = self.parts.iter_mut().filter_map(|part| part.link.as_mut());
        links.find_map(|link| Some((link.owner, link.sender.batch(link.id, CONTROL_PART_BYTES)?)))
    }

    /// The last numbers of notes that were sent to an owner.
    pub(super) fn tails(&self, owner: PeerNumber) -> Vec<LinkTail> {
        let links = self.parts.iter().filter_map(|part| part.link.as_ref());
        let links = links.filter(|link| link.owner == owner);
        links.map(|link| LinkTail { link: link.id, last: link.sender.last() }).collect()
    }
}

/// The note that a user joins.
fn join_note(
    dialect: DialectId,
    name: &ChannelName,
    user: &Arc<str>,
    member: &LocalMember,
) -> PresenceNote {
    PresenceNote::Join {
        dialect,
        app: Arc::clone(&name.app),
        channel: Arc::clone(&name.channel),
        user: Arc::clone(user),
        info: Arc::clone(&member.info),
        is_in: member.is_in,
    }
}

impl LocalPartition {
    /// The link that a message is about.
    fn link_of(&mut self, from: PeerNumber, id: LinkId) -> Option<&mut NodeLink> {
        self.link.as_mut().filter(|link| link.owner == from && link.id == id)
    }

    /// Tells the owner the number of connections in a channel.
    fn tell_count(&mut self, name: &ChannelName) {
        let Self { channels, link } = self;
        let (Some(channel), Some(link)) = (channels.get_mut(name), link) else { return };
        let count = channel.count();
        if count == channel.told {
            return;
        }
        channel.told = count;
        link.sender.push(PresenceNote::Count {
            dialect: channel.dialect,
            app: Arc::clone(&name.app),
            channel: Arc::clone(&name.channel),
            count,
            members: channel.presence.is_some(),
        });
    }
}
