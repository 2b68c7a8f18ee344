//! A channel as one node has it: its connections here, and the list of members that they were told.

use super::channel_name::ChannelName;
use super::host::ClusterHost;
use crate::service::presence::{CountPace, PresenceAnswer, PresenceVoice};
use crate::service::{ConnectionRef, DialectId};
use ahash::AHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A channel with connections on this node.
#[derive(Debug)]
pub(super) struct LocalChannel {
    pub(super) dialect: DialectId,
    /// Connections in a channel without members.
    pub(super) entered: u32,
    /// The users here, for a presence channel.
    pub(super) presence: Option<Box<LocalPresence>>,
    /// The number of connections that the owner was told.
    pub(super) told: u32,
    pub(super) pace: CountPace,
    /// The number of subscriptions over all nodes that was announced last.
    pub(super) announced: Option<u32>,
}

/// The users of a presence channel that have connections here.
#[derive(Debug, Default)]
pub(super) struct LocalPresence {
    /// The user of each connection.
    pub(super) users: AHashMap<ConnectionRef, Arc<str>>,
    pub(super) members: BTreeMap<Arc<str>, LocalMember>,
    /// The connections of members that are in.
    pub(super) present: u32,
    /// The list as the connections here have been told it; `None` until the owner has given one.
    pub(super) replica: Option<PresenceReplica>,
    /// The parts of a list that has not come whole.
    pub(super) arriving: Option<PresenceReplica>,
    /// Whether the list is the owner's, by the present link.
    pub(super) follows: bool,
}

/// A user with connections here.
#[derive(Debug)]
pub(super) struct LocalMember {
    /// What it shows, unless it was a member elsewhere before.
    pub(super) info: Arc<str>,
    /// Its connections.
    pub(super) connections: u32,
    /// Whether the owner has let it in.
    pub(super) is_in: bool,
    /// The number of the note that asked for it last.
    pub(super) asked: u64,
    /// Connections that wait for the owner's answer, with the moments when they give up.
    pub(super) waiting: Vec<(ConnectionRef, u64)>,
}

/// A copy of the list of a channel's members.
#[derive(Debug, Default)]
pub(super) struct PresenceReplica {
    members: BTreeMap<Arc<str>, Arc<str>>,
    /// Bytes of the list, as the dialect words it.
    listed_bytes: usize,
}

impl PresenceReplica {
    /// Adds a member. Returns whether it was not there.
    pub(super) fn add(
        &mut self,
        user: &Arc<str>,
        info: &Arc<str>,
        voice: &dyn PresenceVoice,
    ) -> bool {
        if self.members.contains_key(user) {
            return false;
        }
        self.listed_bytes += voice.listed_bytes(user, info);
        self.members.insert(Arc::clone(user), Arc::clone(info));
        true
    }

    /// Removes a member. Returns whether it was there.
    pub(super) fn remove(&mut self, user: &str, voice: &dyn PresenceVoice) -> bool {
        let Some(info) = self.members.remove(user) else { return false };
        self.listed_bytes = self.listed_bytes.saturating_sub(voice.listed_bytes(user, &info));
        true
    }

    /// The members that are not in another list with the same data, in order.
    pub(super) fn beside(&self, other: &Self) -> Vec<(Arc<str>, Arc<str>)> {
        let beside =
            self.members.iter().filter(|(user, info)| other.members.get(*user) != Some(*info));
        beside.map(|(user, info)| (Arc::clone(user), Arc::clone(info))).collect()
    }
}

impl LocalChannel {
    pub(super) fn new(dialect: DialectId) -> Self {
        let pace = CountPace::default();
        Self { dialect, entered: 0, presence: None, told: 0, pace, announced: None }
    }

    /// The connections that are in the channel.
    pub(super) fn count(&self) -> u32 {
        self.presence.as_ref().map_or(self.entered, |presence| presence.present)
    }

    /// Whether no connection is in it or waits.
    pub(super) fn is_empty(&self) -> bool {
        let has_members =
            self.presence.as_ref().is_some_and(|presence| !presence.members.is_empty());
        self.entered == 0 && !has_members
    }
}

/// What one connection's end has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LocalLeave {
    /// It was not there.
    Unknown,
    /// Its user has other connections here.
    Remains,
    /// It was its user's last.
    Last(Arc<str>),
}

impl LocalPresence {
    /// Removes a connection.
    pub(super) fn leave(&mut self, connection: ConnectionRef) -> LocalLeave {
        let Some(user) = self.users.remove(&connection) else { return LocalLeave::Unknown };
        let Some(member) = self.members.get_mut(&user) else { return LocalLeave::Unknown };
        member.waiting.retain(|(waiting, _)| *waiting != connection);
        member.connections = member.connections.saturating_sub(1);
        self.present -= u32::from(member.is_in);
        if member.connections > 0 {
            return LocalLeave::Remains;
        }
        self.members.remove(&user);
        LocalLeave::Last(user)
    }

    /// The connections of a user.
    pub(super) fn connections(&self, user: &str) -> Vec<ConnectionRef> {
        if !self.members.contains_key(user) {
            return Vec::new();
        }
        let of_user = self.users.iter().filter(|(_, known)| &***known == user);
        let mut connections: Vec<_> = of_user.map(|(connection, _)| *connection).collect();
        connections.sort_unstable();
        connections
    }

    /// Whether a user is in, and the list has it.
    pub(super) fn is_listed(&self, user: &str) -> bool {
        self.members.get(user).is_some_and(|member| member.is_in)
            && self.replica.as_ref().is_some_and(|replica| replica.members.contains_key(user))
    }

    /// Bytes of the list, as the dialect words it.
    pub(super) fn listed_bytes(&self) -> usize {
        self.replica.as_ref().map_or(0, |replica| replica.listed_bytes)
    }

    /// Answers a connection of a member with the list.
    pub(super) fn present(
        &self,
        connection: ConnectionRef,
        name: &ChannelName,
        voice: &dyn PresenceVoice,
        host: &mut ClusterHost<'_>,
    ) {
        let members = self.replica.iter().flat_map(|replica| &replica.members);
        let list = voice.list(&mut members.map(|(user, info)| (&**user, &**info)));
        let channel = (&*name.channel).into();
        host.answer(connection, PresenceAnswer::Present { channel, list });
    }

    /// Whether a connection waits until this moment.
    pub(super) fn waits(&self, connection: ConnectionRef, until_ns: u64) -> bool {
        let member = self.users.get(&connection).and_then(|user| self.members.get(user));
        member.is_some_and(|member| member.waiting.contains(&(connection, until_ns)))
    }
}
