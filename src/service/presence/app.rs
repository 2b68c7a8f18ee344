//! The channels of one app: every channel's subscriptions, and the members of presence channels.
//!
//! A member is a user, however many connections it has. A channel without subscriptions has no
//! entry: memory follows the current subscriptions.
//!
//! This file knows neither JSON nor frames; the dialect interprets what a member shows.

use super::count::{CountPace, CountStep, WaitingCounts};
use super::question::{ChannelCounts, OccupiedChannels};
use crate::service::ConnectionRef;
use ahash::AHashMap;
use std::collections::{BTreeMap, btree_map};
use std::ops::Bound::{Included, Unbounded};

/// A change to announce to subscribers and webhooks.
#[derive(Debug, PartialEq, Eq)]
pub enum PresenceChange<'a> {
    /// The channel got its first subscription.
    Occupied(&'a str),
    /// The channel lost its last subscription.
    Vacated(&'a str),
    /// A user joined: channel, user, and the data it shows.
    Added(&'a str, &'a str, &'a str),
    /// A user's last connection left: channel and user.
    Removed(&'a str, &'a str),
    /// The channel's number of subscriptions, due for an announcement.
    Count(&'a str, u32),
    /// A subscriber found nothing retained, for the first time since something was.
    Missed(&'a str),
}

/// The presence limits and options of an app.
#[derive(Clone, Copy, Debug, Default)]
pub struct PresenceRules {
    /// Maximum number of users in one presence channel; 0 means no limit.
    pub members_max: u32,
    /// Whether subscribers of channels without members receive subscription counts.
    pub counts: bool,
    /// Maximum size in bytes of the member list sent to new members; `None` means no limit.
    pub list_bytes_max: Option<usize>,
}

/// A user asking to become a member.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The user.
    pub user: &'a str,
    /// The data to show, used unless the user is a member already.
    pub info: &'a str,
    /// Bytes that the user occupies in the list of members.
    pub listed_bytes: usize,
}

/// Outcome of a request to join.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    /// The connection belongs to a member now, or did before.
    Present,
    /// The channel has reached its limit of members.
    Full,
    /// The member list would be too long to send.
    TooLong,
}

/// The presence of one app.
#[derive(Debug, Default)]
pub struct AppPresence {
    pub(super) channels: BTreeMap<Box<str>, OccupiedChannel>,
    /// Channels whose count waits for its announcement.
    waiting_counts: WaitingCounts<Box<str>>,
}

/// A channel with at least one subscription.
#[derive(Debug, Default)]
pub(super) struct OccupiedChannel {
    pub(super) subscriptions: u32,
    pub(super) presence: Option<Box<ChannelMembers>>,
    /// When its count is announced.
    pub(super) pace: CountPace,
}

/// The members of a presence channel.
#[derive(Debug, Default)]
pub(super) struct ChannelMembers {
    pub(super) members: BTreeMap<Box<str>, ChannelMember>,
    pub(super) users: AHashMap<ConnectionRef, Box<str>>,
    /// Bytes of the whole member list.
    pub(super) listed_bytes: usize,
}

#[derive(Debug)]
pub(super) struct ChannelMember {
    pub(super) info: Box<str>,
    pub(super) connections: u32,
    /// Bytes of its entry in the member list.
    pub(super) listed_bytes: u32,
}

impl AppPresence {
    /// An app without subscriptions.
    #[must_use]
    pub const fn new() -> Self {
        Self { channels: BTreeMap::new(), waiting_counts: WaitingCounts::new() }
    }

    /// Whether no channel is occupied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Adds a subscription to a channel without members.
    pub fn enter(
        &mut self,
        channel: &str,
        rules: PresenceRules,
        now_ms: u64,
        tell: &mut dyn FnMut(PresenceChange<'_>),
    ) {
        let entry = match self.channels.get_mut(channel) {
            Some(entry) => entry,
            None => {
                tell(PresenceChange::Occupied(channel));
                self.channels.entry(channel.into()).or_default()
            }
        };
        entry.subscriptions += 1;
        self.count(channel, rules, now_ms, tell);
    }

    /// Adds a connection to a member, or a new member with its first connection.
    pub fn join(
        &mut self,
        connection: ConnectionRef,
        newcomer: Newcomer<'_>,
        rules: PresenceRules,
        tell: &mut dyn FnMut(PresenceChange<'_>),
    ) -> Joined {
        let Newcomer { channel, user, info, listed_bytes } = newcomer;
        let known = self.channels.get(channel).and_then(|entry| entry.presence.as_ref());
        if known.is_some_and(|presence| presence.users.contains_key(&connection)) {
            return Joined::Present;
        }
        // Another connection of a member takes no more room, so it is let in even when the channel
        // is full.
        let is_member = known.is_some_and(|presence| presence.members.contains_key(user));
        let members = known.map_or(0, |presence| presence.members.len());
        if !is_member && rules.members_max > 0 && members >= rules.members_max as usize {
            return Joined::Full;
        }
        // The list goes to the newcomer in one message, which has to fit its outbox.
        let listed = known.map_or(0, |presence| presence.listed_bytes);
        let to_list = if is_member { listed } else { listed + listed_bytes };
        if rules.list_bytes_max.is_some_and(|max| to_list > max) {
            return Joined::TooLong;
        }
        // Nothing has changed so far, so a refused connection leaves no trace.
        let entry = match self.channels.get_mut(channel) {
            Some(entry) => entry,
            None => {
                tell(PresenceChange::Occupied(channel));
                self.channels.entry(channel.into()).or_default()
            }
        };
        entry.subscriptions += 1;
        let presence = entry.presence.get_or_insert_default();
        presence.users.insert(connection, user.into());
        match presence.members.entry(user.into()) {
            btree_map::Entry::Occupied(mut member) => member.get_mut().connections += 1,
            btree_map::Entry::Vacant(place) => {
                let listed_bytes = u32::try_from(listed_bytes).unwrap_or(u32::MAX);
                presence.listed_bytes += listed_bytes as usize;
                place.insert(ChannelMember { info: info.into(), connections: 1, listed_bytes });
                tell(PresenceChange::Added(channel, user, info));
            }
        }
        Joined::Present
    }

    /// Removes a connection from a channel. Ignored when it is not in the channel.
    pub fn leave(
        &mut self,
        connection: ConnectionRef,
        channel: &str,
        rules: PresenceRules,
        now_ms: u64,
        tell: &mut dyn FnMut(PresenceChange<'_>),
    ) {
        let Some(entry) = self.channels.get_mut(channel) else { return };
        if let Some(presence) = &mut entry.presence {
            // A refused join is followed by a leave all the same.
            let Some(user) = presence.users.remove(&connection) else { return };
            let member = presence.members.get_mut(&user).expect("a connection's user is a member");
            member.connections -= 1;
            if member.connections == 0 {
                presence.listed_bytes -= member.listed_bytes as usize;
                presence.members.remove(&user);
                tell(PresenceChange::Removed(channel, &user));
            }
        }
        entry.subscriptions -= 1;
        if entry.subscriptions == 0 {
            self.channels.remove(channel);
            tell(PresenceChange::Vacated(channel));
        } else {
            self.count(channel, rules, now_ms, tell);
        }
    }

    /// When (ms) the next waiting count is due.
    #[must_use]
    pub fn due_at_ms(&self) -> Option<u64> {
        self.waiting_counts.due_at_ms()
    }

    /// Whether a waiting count is due.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.due_at_ms().is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// Announces the waiting counts that are due.
    pub fn tick(&mut self, now_ms: u64, tell: &mut dyn FnMut(PresenceChange<'_>)) {
        while let Some(channel) = self.waiting_counts.pop_due(now_ms) {
            // The channel may have been vacated meanwhile, and occupied again.
            let Some(entry) = self.channels.get_mut(&channel) else { continue };
            match entry.pace.due(now_ms) {
                CountStep::Tell => tell(PresenceChange::Count(&channel, entry.subscriptions)),
                CountStep::Wait(at_ms) => self.waiting_counts.wait(at_ms, channel),
                CountStep::Rest => {}
            }
        }
    }

    /// Announces a channel's count to its subscribers, now or when it is due.
    pub(super) fn count(
        &mut self,
        channel: &str,
        rules: PresenceRules,
        now_ms: u64,
        tell: &mut dyn FnMut(PresenceChange<'_>),
    ) {
        let Some(entry) = self.channels.get_mut(channel) else { return };
        // The members of a presence channel see each other come and go; a count would repeat it.
        if !rules.counts || entry.presence.is_some() {
            return;
        }
        match entry.pace.changed(entry.subscriptions, now_ms) {
            CountStep::Tell => tell(PresenceChange::Count(channel, entry.subscriptions)),
            CountStep::Wait(at_ms) => self.waiting_counts.wait(at_ms, channel.into()),
            CountStep::Rest => {}
        }
    }

    /// The occupied channels whose names start with `prefix`, in order of name, with their
    /// subscriptions and users.
    pub fn channels(&self, prefix: &str) -> impl Iterator<Item = (&str, u32, Option<usize>)> {
        let from = self.channels.range::<str, _>((Included(prefix), Unbounded));
        let prefix = prefix.to_owned();
        from.take_while(move |(name, _)| name.starts_with(&*prefix)).map(|(name, entry)| {
            (
                &**name,
                entry.subscriptions,
                entry.presence.as_ref().map(|presence| presence.members.len()),
            )
        })
    }

    /// A channel's subscriptions and, for a presence channel, users; `None` when it is not
    /// occupied.
    #[must_use]
    pub fn counts(&self, channel: &str) -> Option<(u32, Option<usize>)> {
        let entry = self.channels.get(channel)?;
        Some((entry.subscriptions, entry.presence.as_ref().map(|presence| presence.members.len())))
    }

    /// The connections of a member, once for each channel it is in.
    pub fn connections(&self, user: &str) -> impl Iterator<Item = ConnectionRef> {
        let presences = self.channels.values().filter_map(|entry| entry.presence.as_deref());
        let of_user = presences.filter(move |presence| presence.members.contains_key(user));
        of_user.flat_map(move |presence| {
            presence
                .users
                .iter()
                .filter(move |(_, known)| &***known == user)
                .map(|(connection, _)| *connection)
        })
    }

    /// The members of a presence channel with the data they show, in order of user.
    pub fn members(&self, channel: &str) -> impl ExactSizeIterator<Item = (&str, &str)> {
        static NOBODY: BTreeMap<Box<str>, ChannelMember> = BTreeMap::new();
        let presence = self.channels.get(channel).and_then(|entry| entry.presence.as_ref());
        let members = presence.map_or(&NOBODY, |presence| &presence.members);
        members.iter().map(|(user, member)| (&**user, &*member.info))
    }
}

impl OccupiedChannels for AppPresence {
    fn channel(&self, name: &str) -> Option<ChannelCounts> {
        let (subscriptions, users) = self.counts(name)?;
        let users = users.map(|users| users as u32);
        Some(ChannelCounts { name: name.into(), subscriptions, users })
    }

    fn channels(&self, prefix: &str) -> Vec<ChannelCounts> {
        Self::channels(self, prefix).filter_map(|(name, ..)| self.channel(name)).collect()
    }

    fn users(&self, name: &str) -> Vec<Box<str>> {
        self.members(name).map(|(user, _)| user.into()).collect()
    }
}
