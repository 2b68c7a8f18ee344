//! The channels of a partition at its owner: which nodes have connections in each, and who is a
//! member. Decides who joins, and when a channel is occupied or vacated.
//!
//! A channel has an entry from the record that it is occupied to the record that it is vacated. A
//! new owner knows from the journal what was announced, but not yet whose members they are: until
//! every node has told what it has, nothing is removed.

use super::announcer::{Announcer, JoinedNote};
use super::channel_name::ChannelName;
use super::host::PresenceWords;
use super::journal::JournalRecord;
use super::link::PresenceNews;
use super::owner_node::LinkedNode;
use super::peers::PeerNumber;
use crate::service::DialectId;
use crate::service::presence::{
    ChannelCounts, CountPace, CountStep, OccupiedChannels, PresenceChange, WaitingCounts,
};
use crate::wheel::Now;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

/// A user that asks to be a member.
#[derive(Debug)]
pub(super) struct JoinNote {
    pub(super) dialect: DialectId,
    pub(super) name: ChannelName,
    pub(super) user: Arc<str>,
    pub(super) info: Arc<str>,
    /// Whether connections of the node were already told that they are in.
    pub(super) is_in: bool,
    /// The number of the note.
    pub(super) asked: u64,
}

/// A node's number of connections in a channel.
#[derive(Debug)]
pub(super) struct CountNote {
    pub(super) dialect: DialectId,
    pub(super) name: ChannelName,
    pub(super) count: u32,
    pub(super) has_members: bool,
}

/// The occupied channels of a partition.
#[derive(Debug, Default)]
pub(super) struct OwnerChannels {
    apps: BTreeMap<Arc<str>, AppChannels>,
    waiting_counts: WaitingCounts<ChannelName>,
    /// Whether every node has told what it has.
    is_settled: bool,
}

/// The occupied channels of one app in a partition, by name.
#[derive(Debug, Default)]
pub(super) struct AppChannels(BTreeMap<Arc<str>, OwnedChannel>);

/// An occupied channel.
#[derive(Debug)]
struct OwnedChannel {
    dialect: DialectId,
    has_members: bool,
    members: BTreeMap<Arc<str>, OwnedMember>,
    /// Bytes of the list of members.
    listed_bytes: usize,
    nodes: SmallVec<[ChannelNode; 2]>,
    pace: CountPace,
}

#[derive(Debug)]
struct OwnedMember {
    info: Arc<str>,
    /// Bytes of its entry in the list.
    listed_bytes: usize,
    /// The nodes that have connections of the user.
    nodes: SmallVec<[LinkedNode; 2]>,
}

/// A node that has connections in a channel.
#[derive(Debug)]
struct ChannelNode {
    node: LinkedNode,
    /// Its connections in the channel, as it told.
    count: u32,
    /// Its members.
    users: u32,
    /// Whether it has the list of members in this generation of its link, and gets the changes.
    follows: bool,
}

impl OwnerChannels {
    /// A user joins on a node.
    pub(super) fn join(
        &mut self,
        node: LinkedNode,
        note: JoinNote,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
    ) {
        let JoinNote { dialect, name, user, info, is_in, asked } = note;
        let Some(voice) = words.voice(dialect) else { return };
        let rules = voice.rules(&name.app, words.outbox_bytes_max);
        let known = self.get(&name);
        let is_member = known.is_some_and(|channel| channel.members.contains_key(&user));
        let listed = known.map_or(0, |channel| channel.listed_bytes);
        let own_bytes = voice.listed_bytes(&user, &info);

        // One that is in already and still a member is not asked again.
        if !(is_in && is_member) {
            let members = known.map_or(0, |channel| channel.members.len());
            let is_full =
                !is_member && rules.members_max > 0 && members >= rules.members_max as usize;
            let to_list = if is_member { listed } else { listed + own_bytes };
            if is_full || rules.list_bytes_max.is_some_and(|max| to_list > max) {
                let ChannelName { app, channel } = name;
                let refused = PresenceNews::Refused { app, channel, user, asked, is_full };
                return announcer.news(node, refused);
            }
        }

        let channel = self.occupy(&name, dialect, true, words, announcer);
        if !is_member {
            channel.add_member(&user, &info, own_bytes);
            let (app, channel_name) = (Arc::clone(&name.app), Arc::clone(&name.channel));
            announcer.record(&JournalRecord::Added {
                app: Arc::clone(&app),
                channel: Arc::clone(&channel_name),
                user: Arc::clone(&user),
                info: Arc::clone(&info),
            });
            let added = PresenceChange::Added(&name.channel, &user, &info);
            announcer.webhook(voice, &name.app, &added);
            let (user, info) = (Arc::clone(&user), Arc::clone(&info));
            let news = PresenceNews::Added { app, channel: channel_name, user, info };
            channel.tell_followers(&news, announcer);
        }
        channel.admit(node, &user);
        announcer.welcome(node, JoinedNote { name, user, asked });
        self.welcome(node, announcer);
    }

    /// Tells a node of its members that have joined, each after the list. While the node's link
    /// opens they wait, so that the first list has all that the node had.
    pub(super) fn welcome(&mut self, node: LinkedNode, announcer: &mut Announcer) {
        for note in announcer.take_welcomed(node.number) {
            let JoinedNote { name, user, asked } = note;
            let Some(channel) = self.get_mut(&name) else { continue };
            channel.follow(node, &name, announcer);
            let ChannelName { app, channel } = name;
            announcer.news(node, PresenceNews::Joined { app, channel, user, asked });
        }
    }

    /// A user's last connection on a node has left.
    pub(super) fn leave(
        &mut self,
        node: LinkedNode,
        name: &ChannelName,
        user: &str,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
    ) {
        let is_settled = self.is_settled;
        let Some(channel) = self.get_mut(name) else { return };
        channel.release(node.number, user);
        let is_gone = |member: &OwnedMember| member.nodes.is_empty();
        if is_settled && channel.members.get(user).is_some_and(is_gone) {
            channel.remove_and_tell(name, user.into(), words, announcer);
            self.vacate_if_empty(name, words, announcer);
        }
    }

    /// A node tells the number of its connections in a channel.
    pub(super) fn count(
        &mut self,
        node: LinkedNode,
        note: &CountNote,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
        now: Now,
    ) {
        let CountNote { dialect, name, count, has_members } = note;
        if *has_members || self.get(name).is_some_and(|channel| channel.has_members) {
            // Counted with its members; a channel that they have left is not occupied by a count.
            if let Some(entry) =
                self.get_mut(name).and_then(|channel| channel.node_mut(node.number))
            {
                entry.count = *count;
            }
            return;
        }

        if *count == 0 && self.get(name).is_none() {
            return;
        }
        let channel = self.occupy(name, *dialect, false, words, announcer);
        if channel.set_count(node, *count) {
            self.tell_count(name, words, announcer, now);
        }
        self.vacate_if_empty(name, words, announcer);
    }

    /// Removes what a node had before the generation `kept` of its link, or all that it had.
    pub(super) fn forget(
        &mut self,
        node: PeerNumber,
        kept: Option<u32>,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
        now: Now,
    ) {
        let is_other = |known: &LinkedNode| known.number != node || Some(known.generation) == kept;
        let mut touched = Vec::new();
        for (app, channels) in &mut self.apps {
            for (name, channel) in &mut channels.0 {
                if channel.forget(node, &is_other) {
                    touched.push(ChannelName { app: Arc::clone(app), channel: Arc::clone(name) });
                }
            }
        }
        if self.is_settled {
            for name in touched {
                self.clear(&name, words, announcer, now);
            }
        }
    }

    /// Every node has told what it has: removes what none of them has.
    pub(super) fn settle(&mut self, words: &PresenceWords<'_>, announcer: &mut Announcer) {
        self.is_settled = true;
        for name in self.names() {
            if let Some(channel) = self.get_mut(&name) {
                channel.remove_unclaimed(&name, words, announcer);
                // Nodes know whether it is another than before; the app is told of changes alone.
                channel.repeat_count(&name, announcer);
                self.vacate_if_empty(&name, words, announcer);
            }
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Removes the members of a channel that no node has, and tells its count or its end.
    fn clear(
        &mut self,
        name: &ChannelName,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
        now: Now,
    ) {
        if let Some(channel) = self.get_mut(name) {
            channel.remove_unclaimed(name, words, announcer);
            self.tell_count(name, words, announcer, now);
            self.vacate_if_empty(name, words, announcer);
        }
    }

    /// The channel's entry; a new one is announced.
    fn occupy(
        &mut self,
        name: &ChannelName,
        dialect: DialectId,
        has_members: bool,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
    ) -> &mut OwnedChannel {
        if self.get(name).is_none() {
            let (app, channel) = (Arc::clone(&name.app), Arc::clone(&name.channel));
            let members = has_members;
            announcer.record(&JournalRecord::Occupied { dialect, app, channel, members });
            if let Some(voice) = words.voice(dialect) {
                announcer.webhook(voice, &name.app, &PresenceChange::Occupied(&name.channel));
            }
        }
        self.entry(name, dialect, has_members)
    }

    fn vacate_if_empty(
        &mut self,
        name: &ChannelName,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
    ) {
        let is_empty = |channel: &OwnedChannel| channel.members.is_empty() && channel.sum() == 0;
        let Some(channel) = self.get(name).filter(|channel| self.is_settled && is_empty(channel))
        else {
            return;
        };
        let voice = words.voice(channel.dialect);
        self.remove(name);
        let (app, channel) = (Arc::clone(&name.app), Arc::clone(&name.channel));
        announcer.record(&JournalRecord::Vacated { app, channel });
        if let Some(voice) = voice {
            announcer.webhook(voice, &name.app, &PresenceChange::Vacated(&name.channel));
        }
    }

    /// Tells a changed number of subscriptions, now or when it is due.
    fn tell_count(
        &mut self,
        name: &ChannelName,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
        now: Now,
    ) {
        // The sum of some nodes would be taken for that of all.
        if !self.is_settled {
            return;
        }
        let Some(channel) = self.get_mut(name) else { return };
        let Some(voice) = words.voice(channel.dialect) else { return };
        let sum = channel.sum();
        // The members of a presence channel see each other come and go; a count would repeat it.
        if channel.has_members || sum == 0 || !voice.rules(&name.app, words.outbox_bytes_max).counts
        {
            return;
        }
        match channel.pace.changed(sum, now.monotonic_ns / 1_000_000) {
            CountStep::Tell => channel.announce_count(name, words, announcer),
            CountStep::Wait(at_ms) => self.waiting_counts.wait(at_ms, name.clone()),
            CountStep::Rest => {}
        }
    }

    /// Tells the counts that are due.
    pub(super) fn tick(&mut self, words: &PresenceWords<'_>, announcer: &mut Announcer, now: Now) {
        let now_ms = now.monotonic_ns / 1_000_000;
        while let Some(name) = self.waiting_counts.pop_due(now_ms) {
            // The channel may have been vacated meanwhile, and occupied again.
            let Some(channel) = self.get_mut(&name) else { continue };
            match channel.pace.due(now_ms) {
                CountStep::Tell => channel.announce_count(&name, words, announcer),
                CountStep::Wait(at_ms) => self.waiting_counts.wait(at_ms, name),
                CountStep::Rest => {}
            }
        }
    }

    /// Applies a record of the journal, which is announced already. Records about channels and
    /// users that are not there are those of a damaged journal.
    pub(super) fn replay(&mut self, record: JournalRecord, words: &PresenceWords<'_>) {
        match record {
            JournalRecord::Occupied { dialect, app, channel, members } => {
                self.entry(&ChannelName { app, channel }, dialect, members);
            }
            JournalRecord::Vacated { app, channel } => self.remove(&ChannelName { app, channel }),
            JournalRecord::Added { app, channel, user, info } => {
                let name = ChannelName { app, channel };
                if let Some(channel) = self.get_mut(&name) {
                    let voice = words.voice(channel.dialect);
                    let listed = voice.map_or(0, |voice| voice.listed_bytes(&user, &info));
                    channel.add_member(&user, &info, listed);
                }
            }
            JournalRecord::Removed { app, channel, user } => {
                if let Some(channel) = self.get_mut(&ChannelName { app, channel }) {
                    channel.remove_member(&user);
                }
            }
            _ => {}
        }
    }

    /// The records that lead to this state.
    pub(super) fn snapshot(&self, record: &mut dyn FnMut(JournalRecord)) {
        for (app, channels) in &self.apps {
            for (name, entry) in &channels.0 {
                let (app, channel) = (|| Arc::clone(app), || Arc::clone(name));
                let (dialect, members) = (entry.dialect, entry.has_members);
                record(JournalRecord::Occupied {
                    dialect,
                    app: app(),
                    channel: channel(),
                    members,
                });
                for (user, member) in &entry.members {
                    let (user, info) = (Arc::clone(user), Arc::clone(&member.info));
                    record(JournalRecord::Added { app: app(), channel: channel(), user, info });
                }
            }
        }
    }

    /// The records of a snapshot, about.
    pub(super) fn len(&self) -> usize {
        let channels = self.apps.values().flat_map(|app| app.0.values());
        channels.map(|channel| 1 + channel.members.len()).sum()
    }

    /// The channels of an app.
    pub(super) fn app(&self, app: &str) -> &AppChannels {
        static EMPTY: AppChannels = AppChannels(BTreeMap::new());
        self.apps.get(app).unwrap_or(&EMPTY)
    }

    fn names(&self) -> Vec<ChannelName> {
        let names = |(app, channels): (&Arc<str>, &AppChannels)| {
            let names = channels.0.keys().map(|channel| (Arc::clone(app), Arc::clone(channel)));
            names.map(|(app, channel)| ChannelName { app, channel }).collect::<Vec<_>>()
        };
        self.apps.iter().flat_map(names).collect()
    }

    fn get(&self, name: &ChannelName) -> Option<&OwnedChannel> {
        self.apps.get(&name.app)?.0.get(&name.channel)
    }

    fn get_mut(&mut self, name: &ChannelName) -> Option<&mut OwnedChannel> {
        self.apps.get_mut(&name.app)?.0.get_mut(&name.channel)
    }

    fn entry(
        &mut self,
        name: &ChannelName,
        dialect: DialectId,
        has_members: bool,
    ) -> &mut OwnedChannel {
        let channels = &mut self.apps.entry(Arc::clone(&name.app)).or_default().0;
        channels
            .entry(Arc::clone(&name.channel))
            .or_insert_with(|| OwnedChannel::new(dialect, has_members))
    }

    fn remove(&mut self, name: &ChannelName) {
        if let Some(channels) = self.apps.get_mut(&name.app) {
            channels.0.remove(&name.channel);
            if channels.0.is_empty() {
                self.apps.remove(&name.app);
            }
        }
    }
}

impl OwnedChannel {
    fn new(dialect: DialectId, has_members: bool) -> Self {
        Self {
            dialect,
            has_members,
            members: BTreeMap::new(),
            listed_bytes: 0,
            nodes: SmallVec::new(),
            pace: CountPace::default(),
        }
    }

    fn add_member(&mut self, user: &Arc<str>, info: &Arc<str>, listed_bytes: usize) {
        self.remove_member(user);
        self.listed_bytes += listed_bytes;
        let (info, nodes) = (Arc::clone(info), SmallVec::new());
        self.members.insert(Arc::clone(user), OwnedMember { info, listed_bytes, nodes });
    }

    fn remove_member(&mut self, user: &str) {
        if let Some(member) = self.members.remove(user) {
            self.listed_bytes -= member.listed_bytes;
        }
    }

    fn node_mut(&mut self, number: PeerNumber) -> Option<&mut ChannelNode> {
        self.nodes.iter_mut().find(|entry| entry.node.number == number)
    }

    /// The channel's entry for a node, of the present generation of its link.
    fn node_entry(&mut self, node: LinkedNode) -> &mut ChannelNode {
        let at = self.nodes.iter().position(|entry| entry.node.number == node.number);
        let at = at.unwrap_or_else(|| {
            self.nodes.push(ChannelNode { node, count: 0, users: 0, follows: false });
            self.nodes.len() - 1
        });
        let entry = &mut self.nodes[at];
        if entry.node != node {
            (entry.node, entry.follows) = (node, false);
        }
        entry
    }

    /// Notes that a node has connections of a member.
    fn admit(&mut self, node: LinkedNode, user: &str) {
        let Some(member) = self.members.get_mut(user) else { return };
        let mut nodes = member.nodes.iter_mut();
        match nodes.find(|known| known.number == node.number) {
            Some(known) => {
                *known = node;
                self.node_entry(node);
            }
            None => {
                member.nodes.push(node);
                self.node_entry(node).users += 1;
            }
        }
    }

    /// Gives a node the list of members, if it does not have it.
    fn follow(&mut self, node: LinkedNode, name: &ChannelName, announcer: &mut Announcer) {
        if !std::mem::replace(&mut self.node_entry(node).follows, true) {
            let members = self.members.iter();
            let members =
                members.map(|(user, member)| (Arc::clone(user), Arc::clone(&member.info)));
            announcer.list(node, name, members.collect());
        }
    }

    /// Notes that a node has no connection of a user any more.
    fn release(&mut self, number: PeerNumber, user: &str) {
        let Some(member) = self.members.get_mut(user) else { return };
        let before = member.nodes.len();
        member.nodes.retain(|known| known.number != number);
        if member.nodes.len() < before
            && let Some(entry) = self.node_mut(number)
        {
            entry.users = entry.users.saturating_sub(1);
            if entry.users == 0 {
                self.nodes.retain(|entry| entry.node.number != number);
            }
        }
    }

    /// Sets a node's number of connections. Returns whether it has changed.
    fn set_count(&mut self, node: LinkedNode, count: u32) -> bool {
        let entry = self.node_entry(node);
        let has_changed = std::mem::replace(&mut entry.count, count) != count;
        if count == 0 {
            self.nodes.retain(|entry| entry.node.number != node.number);
        }
        has_changed
    }

    /// Removes a node's connections, but those that `is_kept`. Returns whether there were others.
    fn forget(&mut self, number: PeerNumber, is_kept: &dyn Fn(&LinkedNode) -> bool) -> bool {
        if !self.nodes.iter().any(|entry| entry.node.number == number) {
            return false;
        }
        let claims = |channel: &Self| {
            let claims = channel.members.values().map(|member| member.nodes.len());
            (channel.nodes.len(), claims.sum::<usize>())
        };
        let before = claims(self);
        for member in self.members.values_mut() {
            member.nodes.retain(|known| is_kept(known));
        }
        self.nodes.retain(|entry| is_kept(&entry.node));
        let of_node = |member: &&OwnedMember| member.nodes.iter().any(|n| n.number == number);
        let users = self.members.values().filter(of_node).count();
        if let Some(entry) = self.node_mut(number) {
            entry.users = users as u32;
        }
        claims(self) != before
    }

    /// Removes the members that no node has, and announces it.
    fn remove_unclaimed(
        &mut self,
        name: &ChannelName,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
    ) {
        let unclaimed = self.members.iter().filter(|(_, member)| member.nodes.is_empty());
        let unclaimed: Vec<Arc<str>> = unclaimed.map(|(user, _)| Arc::clone(user)).collect();
        for user in unclaimed {
            self.remove_and_tell(name, user, words, announcer);
        }
    }

    fn remove_and_tell(
        &mut self,
        name: &ChannelName,
        user: Arc<str>,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
    ) {
        self.remove_member(&user);
        let (app, channel) = (Arc::clone(&name.app), Arc::clone(&name.channel));
        announcer.record(&JournalRecord::Removed {
            app: Arc::clone(&app),
            channel: Arc::clone(&channel),
            user: Arc::clone(&user),
        });
        if let Some(voice) = words.voice(self.dialect) {
            let removed = PresenceChange::Removed(&name.channel, &user);
            announcer.webhook(voice, &name.app, &removed);
        }
        self.tell_followers(&PresenceNews::Removed { app, channel, user }, announcer);
    }

    fn tell_followers(&self, news: &PresenceNews, announcer: &mut Announcer) {
        for entry in self.nodes.iter().filter(|entry| entry.follows) {
            announcer.news(entry.node, news.clone());
        }
    }

    fn announce_count(
        &self,
        name: &ChannelName,
        words: &PresenceWords<'_>,
        announcer: &mut Announcer,
    ) {
        let count = self.sum();
        if let Some(voice) = words.voice(self.dialect) {
            announcer.webhook(voice, &name.app, &PresenceChange::Count(&name.channel, count));
        }
        self.repeat_count(name, announcer);
    }

    /// Tells the nodes the number of subscriptions of a channel without members.
    fn repeat_count(&self, name: &ChannelName, announcer: &mut Announcer) {
        let count = self.sum();
        for entry in self.nodes.iter().filter(|_| !self.has_members) {
            let (app, channel) = (Arc::clone(&name.app), Arc::clone(&name.channel));
            announcer.news(entry.node, PresenceNews::Count { app, channel, count });
        }
    }

    /// The subscriptions over all nodes. A node that has not yet told how many connections its
    /// members have has at least one for each.
    fn sum(&self) -> u32 {
        let counts = self.nodes.iter().map(|entry| entry.count.max(entry.users));
        counts.fold(0, u32::saturating_add)
    }

    fn counts(&self, name: &str) -> ChannelCounts {
        let users = self.has_members.then_some(self.members.len() as u32);
        ChannelCounts { name: name.into(), subscriptions: self.sum(), users }
    }
}

impl OccupiedChannels for AppChannels {
    fn channel(&self, name: &str) -> Option<ChannelCounts> {
        self.0.get(name).map(|channel| channel.counts(name))
    }

    fn channels(&self, prefix: &str) -> Vec<ChannelCounts> {
        let from = self.0.range::<str, _>((Included(prefix), Unbounded));
        let named = from.take_while(|(name, _)| name.starts_with(prefix));
        named.map(|(name, channel)| channel.counts(name)).collect()
    }

    fn users(&self, name: &str) -> Vec<Box<str>> {
        let members = self.0.get(name).into_iter().flat_map(|channel| channel.members.keys());
        members.map(|user| (&**user).into()).collect()
    }
}
