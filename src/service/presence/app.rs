//! Who is in which channel of one app: the subscriptions of every channel, and the members of its presence channels.
//!
//! A member is a user, however many connections it has. An entry without subscriptions is gone: memory follows what is
//! subscribed now, not what ever was.
//!
//! This file knows neither JSON nor frames; what a member's data are is the dialect's business.

use super::question::{ChannelCounts, ChannelInquiry, PresenceAnswer};
use crate::service::ConnectionRef;
use ahash::AHashMap;
use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::Bound::{Included, Unbounded};

/// Above so many subscriptions a channel's count is told rarely, as Pusher does.
const COUNTED_AT_ONCE_MAX: u32 = 100;
/// Milliseconds between two tellings of such a count.
const COUNT_INTERVAL_MS: u64 = 5000;

/// What has changed for everybody.
#[derive(Debug, PartialEq, Eq)]
pub enum PresenceChange<'a> {
    /// The channel has its first subscription.
    Occupied(&'a str),
    /// The channel has lost its last one.
    Vacated(&'a str),
    /// A user has come, with this to show.
    Added(&'a str, &'a str, &'a str),
    /// A user has left with its last connection.
    Removed(&'a str, &'a str),
    /// The channel has so many subscriptions, and they are to be told.
    Count(&'a str, u32),
    /// Nothing is kept in the channel, and somebody has looked for the first time since something was.
    Missed(&'a str),
}

/// What an app allows and asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct PresenceRules {
    /// Users of one presence channel; any number when 0.
    pub members_max: u32,
    /// Whether subscriptions of channels without members are counted for their subscribers.
    pub counts: bool,
    /// Bytes of what all members of a channel take in the list that newcomers get; any number when there is none.
    pub list_bytes_max: Option<usize>,
}

/// A user who wants to be a member.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The user.
    pub user: &'a str,
    /// What is shown of the user, if it is no member yet.
    pub info: &'a str,
    /// Bytes that the user takes in the list of members.
    pub listed_bytes: usize,
}

/// What came of a wish to join.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    /// The connection is a member's now, or was before.
    Present,
    /// There is no room for another member.
    Full,
    /// The list of the members would be too long to send.
    TooLong,
}

/// The presence of one app.
#[derive(Debug, Default)]
pub struct AppPresence {
    channels: BTreeMap<Box<str>, OccupiedChannel>,
    /// Channels whose count is to be told, with the moment (ms) from which it may be, in order.
    untold: VecDeque<(u64, Box<str>)>,
}

/// One channel that is occupied.
#[derive(Debug, Default)]
struct OccupiedChannel {
    subscriptions: u32,
    presence: Option<Box<ChannelMembers>>,
    /// When the count was told last (ms), and whether it has changed since.
    counted_ms: u64,
    is_untold: bool,
    /// Whether it waits for the moment at which it may be told again.
    is_waiting: bool,
}

/// The members of a presence channel.
#[derive(Debug, Default)]
struct ChannelMembers {
    members: BTreeMap<Box<str>, ChannelMember>,
    users: AHashMap<ConnectionRef, Box<str>>,
    /// Bytes that all of them take in the list of members.
    listed_bytes: usize,
}

#[derive(Debug)]
struct ChannelMember {
    info: Box<str>,
    connections: u32,
    /// Bytes that it takes in the list of members.
    listed_bytes: u32,
}

impl AppPresence {
    /// An app without subscriptions.
    #[must_use]
    pub const fn new() -> Self {
        Self { channels: BTreeMap::new(), untold: VecDeque::new() }
    }

    /// Whether nothing is subscribed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// A connection has subscribed to a channel without members.
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

    /// A connection wants to be a member's.
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
        // Another connection of a member takes no more room, and is let in when the channel is full.
        let is_member = known.is_some_and(|presence| presence.members.contains_key(user));
        let members = known.map_or(0, |presence| presence.members.len());
        if !is_member && rules.members_max > 0 && members >= rules.members_max as usize {
            return Joined::Full;
        }
        let listed = known.map_or(0, |presence| presence.listed_bytes);
        let to_list = if is_member { listed } else { listed + listed_bytes };
        if rules.list_bytes_max.is_some_and(|max| to_list > max) {
            return Joined::TooLong;
        }
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

    /// A connection has left a channel. One that is not in it leaves nothing.
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

    /// When (ms) the first count that waits may be told.
    #[must_use]
    pub fn due_at_ms(&self) -> Option<u64> {
        self.untold.front().map(|(at_ms, _)| *at_ms)
    }

    /// Whether a count has waited for its moment.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.due_at_ms().is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// What is asked of its channels, as far as they are occupied.
    #[must_use]
    pub fn answer(&self, inquiry: &ChannelInquiry) -> PresenceAnswer {
        PresenceAnswer::Channels(match inquiry {
            ChannelInquiry::Channels { prefix, .. } => {
                self.channels(prefix).filter_map(|(name, ..)| self.counted(name)).collect()
            }
            ChannelInquiry::Channel(name, _) => self.counted(name).into_iter().collect(),
            ChannelInquiry::Counts(named) => {
                named.iter().filter_map(|(name, _)| self.counted(name)).collect()
            }
            ChannelInquiry::Batch(named) => {
                named.iter().flatten().filter_map(|(name, _)| self.counted(name)).collect()
            }
            ChannelInquiry::Users(name) => {
                return PresenceAnswer::Users(
                    self.members(name).map(|(user, _)| user.into()).collect(),
                );
            }
            ChannelInquiry::Dismiss(_) => Vec::new(),
        })
    }

    fn counted(&self, name: &str) -> Option<ChannelCounts> {
        let (subscriptions, users) = self.counts(name)?;
        let users = users.map(|users| users as u32);
        Some(ChannelCounts { name: name.into(), subscriptions, users })
    }

    /// Tells the counts that have waited for their moment.
    pub fn tick(&mut self, now_ms: u64, tell: &mut dyn FnMut(PresenceChange<'_>)) {
        while let Some((_, channel)) = self.untold.pop_front_if(|(at_ms, _)| *at_ms <= now_ms) {
            // It may have been vacated, and occupied again, meanwhile.
            let Some(entry) = self.channels.get_mut(&channel) else { continue };
            entry.is_waiting = false;
            let at_ms = entry.counted_ms + COUNT_INTERVAL_MS;
            if !entry.is_untold {
                continue;
            }
            if at_ms <= now_ms {
                (entry.is_untold, entry.counted_ms) = (false, now_ms);
                tell(PresenceChange::Count(&channel, entry.subscriptions));
            } else {
                // It was told since, when it was small for a moment.
                entry.is_waiting = true;
                self.wait(at_ms, &channel);
            }
        }
    }

    /// Tells a channel's count to its subscribers, or remembers to.
    fn count(
        &mut self,
        channel: &str,
        rules: PresenceRules,
        now_ms: u64,
        tell: &mut dyn FnMut(PresenceChange<'_>),
    ) {
        let Some(entry) = self.channels.get_mut(channel) else { return };
        if !rules.counts || entry.presence.is_some() {
            return;
        }
        let at_ms = entry.counted_ms + COUNT_INTERVAL_MS;
        if entry.subscriptions <= COUNTED_AT_ONCE_MAX || now_ms >= at_ms {
            (entry.is_untold, entry.counted_ms) = (false, now_ms);
            return tell(PresenceChange::Count(channel, entry.subscriptions));
        }
        entry.is_untold = true;
        if !std::mem::replace(&mut entry.is_waiting, true) {
            self.wait(at_ms, channel);
        }
    }

    fn wait(&mut self, at_ms: u64, channel: &str) {
        let place = self.untold.partition_point(|(other_ms, _)| *other_ms <= at_ms);
        self.untold.insert(place, (at_ms, channel.into()));
    }

    /// The occupied channels whose name begins so, in the order of their names.
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

    /// The subscriptions of a channel, and its users if it has members; nothing when it is not occupied.
    #[must_use]
    pub fn counts(&self, channel: &str) -> Option<(u32, Option<usize>)> {
        let entry = self.channels.get(channel)?;
        Some((entry.subscriptions, entry.presence.as_ref().map(|presence| presence.members.len())))
    }

    /// The connections by which a user is a member of any channel, each as often as of channels.
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

    /// The members of a presence channel and what is shown of them, in the order of their names.
    pub fn members(&self, channel: &str) -> impl ExactSizeIterator<Item = (&str, &str)> {
        static NOBODY: BTreeMap<Box<str>, ChannelMember> = BTreeMap::new();
        let presence = self.channels.get(channel).and_then(|entry| entry.presence.as_ref());
        let members = presence.map_or(&NOBODY, |presence| &presence.members);
        members.iter().map(|(user, member)| (&**user, &*member.info))
    }
}
