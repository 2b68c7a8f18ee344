//! Who is in which channel: the subscriptions of every channel of an app, and the members of its presence channels.
//!
//! One shard owns all presence of an app. The others tell it what happens ([`Note`]); it answers the connection that
//! is to know ([`Reply`]) and names what has changed for everybody ([`Change`]), in one order. What it says leaves
//! by the same mailboxes in that order too, so a member's list and the changes after it neither overlap nor leave
//! a gap, wherever the members are.
//!
//! A member is a user, however many connections it has. An entry that nobody is in any more is gone: memory follows
//! what is subscribed now, not what ever was.
//!
//! This file knows neither JSON nor frames; what a member's data are is the dialect's business.

use crate::frame::Publication;
use crate::service::ConnectionRef;
use ahash::AHashMap;
use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::Bound::{Included, Unbounded};

/// Above so many subscriptions a channel's count is told rarely, as Pusher does.
const COUNTED_AT_ONCE_MAX: u32 = 100;
/// Milliseconds between two tellings of such a count.
const COUNT_INTERVAL_MS: u64 = 5000;

/// What a shard tells the owner of an app's presence. Notes of one shard come in the order they were written.
#[derive(Debug)]
pub enum Note {
    /// A connection has subscribed to a channel without members.
    Enter(Box<str>),
    /// A connection wants to be a member's, of a presence channel; answered by [`Reply::Present`] or
    /// [`Reply::Full`]. For a connection that is one already, nothing but the answer.
    Join {
        /// The channel.
        channel: Box<str>,
        /// The user.
        user: Box<str>,
        /// What is shown of the user, if it has no connection in the channel yet.
        info: Box<str>,
    },
    /// A connection has left a channel that it had entered or asked to join.
    Leave(Box<str>),
    /// A connection has found nothing kept in a channel that keeps its last event.
    Miss(Box<str>),
    /// Somebody wants to know; answered by [`Reply::Answer`].
    Inquire(Inquiry),
}

/// What can be asked about channels.
#[derive(Debug)]
pub enum Inquiry {
    /// All that are occupied.
    Channels {
        /// Only those whose name begins so.
        prefix: Box<str>,
        /// What is to be told of each.
        wanted: Wanted,
    },
    /// One channel.
    Channel(Box<str>, Wanted),
    /// The users of a presence channel.
    Users(Box<str>),
    /// The counts of some channels by name, as an object.
    Counts(Vec<(Box<str>, Wanted)>),
    /// The counts of some channels in order, as a list; without a name an empty object.
    Batch(Vec<Option<(Box<str>, Wanted)>>),
    /// Whether every connection by which a user is a member somewhere has been told that it is to end; it is when this
    /// is answered.
    Dismiss(Box<str>),
}

/// Which counts are wanted of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Users of a presence channel.
    pub users: bool,
    /// Connections.
    pub subscriptions: bool,
    /// The event that is kept for those who come later.
    pub kept: bool,
}

impl Note {
    /// How much memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bytes = match self {
            Self::Enter(channel) | Self::Leave(channel) | Self::Miss(channel) => channel.len(),
            Self::Join { channel, user, info } => channel.len() + user.len() + info.len(),
            Self::Inquire(inquiry) => inquiry.weight(),
        };
        bytes + size_of::<Self>()
    }
}

impl Inquiry {
    /// How much memory it holds beside itself.
    fn weight(&self) -> usize {
        match self {
            Self::Channels { prefix: name, .. } | Self::Channel(name, _) => name.len(),
            Self::Users(name) | Self::Dismiss(name) => name.len(),
            Self::Counts(wishes) => wishes.iter().map(|wish| wish.0.len() + size_of_val(wish)).sum(),
            Self::Batch(wishes) => {
                let name = |wish: &Option<(Box<str>, Wanted)>| wish.as_ref().map_or(0, |wish| wish.0.len());
                wishes.iter().map(|wish| name(wish) + size_of_val(wish)).sum()
            }
        }
    }
}

/// What the owner answers one connection.
#[derive(Debug)]
pub enum Reply {
    /// The connection is a member's; the frame of the publication tells it who else is there.
    Present(Box<str>, Box<Publication>),
    /// There is no room for another member.
    Full(Box<str>),
    /// The list of the members would be too long to send.
    TooLong(Box<str>),
    /// The connection is to end: it is a user's whom the app has dismissed.
    Dismissed,
    /// The body of an answer to an [`Inquiry`].
    Answer(Box<[u8]>),
}

impl Reply {
    /// How much memory it holds, for the bounds of queues.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bytes = match self {
            Self::Present(channel, list) => channel.len() + list.weight(),
            Self::Full(channel) | Self::TooLong(channel) => channel.len(),
            Self::Dismissed => 0,
            Self::Answer(body) => body.len(),
        };
        bytes + size_of::<Self>()
    }
}

/// What has changed for everybody.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<'a> {
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

/// Which of so many shards owns the presence of the app with this id. Every shard finds the same one.
#[must_use]
pub fn owner(app: &str, shards: usize) -> usize {
    let sum = app.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    sum % shards.max(1)
}

/// What an app allows and asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
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
    channels: BTreeMap<Box<str>, Channel>,
    /// Channels whose count is to be told, with the moment (ms) from which it may be, in order.
    untold: VecDeque<(u64, Box<str>)>,
}

/// One channel that is occupied.
#[derive(Debug, Default)]
struct Channel {
    subscriptions: u32,
    presence: Option<Box<Presence>>,
    /// When the count was told last (ms), and whether it has changed since.
    counted_ms: u64,
    is_untold: bool,
    /// Whether it waits for the moment at which it may be told again.
    is_waiting: bool,
}

/// The members of a presence channel.
#[derive(Debug, Default)]
struct Presence {
    members: BTreeMap<Box<str>, Member>,
    users: AHashMap<ConnectionRef, Box<str>>,
    /// Bytes that all of them take in the list of members.
    listed_bytes: usize,
}

#[derive(Debug)]
struct Member {
    info: Box<str>,
    connections: u32,
    /// Bytes that it takes in the list of members.
    listed_bytes: u32,
}

impl AppPresence {
    /// Whether nothing is subscribed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// A connection has subscribed to a channel without members.
    pub fn enter(&mut self, channel: &str, rules: Rules, now_ms: u64, tell: &mut dyn FnMut(Change<'_>)) {
        let entry = match self.channels.get_mut(channel) {
            Some(entry) => entry,
            None => {
                tell(Change::Occupied(channel));
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
        rules: Rules,
        tell: &mut dyn FnMut(Change<'_>),
    ) -> Joined {
        let Newcomer { channel, user, info, listed_bytes } = newcomer;
        let known = self.channels.get(channel).and_then(|entry| entry.presence.as_ref());
        if known.is_some_and(|presence| presence.users.contains_key(&connection)) {
            return Joined::Present;
        }
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
                tell(Change::Occupied(channel));
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
                place.insert(Member { info: info.into(), connections: 1, listed_bytes });
                tell(Change::Added(channel, user, info));
            }
        }
        Joined::Present
    }

    /// A connection has left a channel. One that is not in it leaves nothing.
    pub fn leave(
        &mut self,
        connection: ConnectionRef,
        channel: &str,
        rules: Rules,
        now_ms: u64,
        tell: &mut dyn FnMut(Change<'_>),
    ) {
        let Some(entry) = self.channels.get_mut(channel) else { return };
        if let Some(presence) = &mut entry.presence {
            let Some(user) = presence.users.remove(&connection) else { return };
            let member = presence.members.get_mut(&user).expect("a connection's user is a member");
            member.connections -= 1;
            if member.connections == 0 {
                presence.listed_bytes -= member.listed_bytes as usize;
                presence.members.remove(&user);
                tell(Change::Removed(channel, &user));
            }
        }
        entry.subscriptions -= 1;
        if entry.subscriptions == 0 {
            self.channels.remove(channel);
            tell(Change::Vacated(channel));
        } else {
            self.count(channel, rules, now_ms, tell);
        }
    }

    /// Whether a count has waited for its moment.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.untold.front().is_some_and(|(at_ms, _)| *at_ms <= now_ms)
    }

    /// Tells the counts that have waited for their moment.
    pub fn tick(&mut self, now_ms: u64, tell: &mut dyn FnMut(Change<'_>)) {
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
                tell(Change::Count(&channel, entry.subscriptions));
            } else {
                // It was told since, when it was small for a moment.
                entry.is_waiting = true;
                self.wait(at_ms, &channel);
            }
        }
    }

    /// Tells a channel's count to its subscribers, or remembers to.
    fn count(&mut self, channel: &str, rules: Rules, now_ms: u64, tell: &mut dyn FnMut(Change<'_>)) {
        let Some(entry) = self.channels.get_mut(channel) else { return };
        if !rules.counts || entry.presence.is_some() {
            return;
        }
        let at_ms = entry.counted_ms + COUNT_INTERVAL_MS;
        if entry.subscriptions <= COUNTED_AT_ONCE_MAX || now_ms >= at_ms {
            (entry.is_untold, entry.counted_ms) = (false, now_ms);
            return tell(Change::Count(channel, entry.subscriptions));
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
            (&**name, entry.subscriptions, entry.presence.as_ref().map(|presence| presence.members.len()))
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
        static NOBODY: BTreeMap<Box<str>, Member> = BTreeMap::new();
        let presence = self.channels.get(channel).and_then(|entry| entry.presence.as_ref());
        let members = presence.map_or(&NOBODY, |presence| &presence.members);
        members.iter().map(|(user, member)| (&**user, &*member.info))
    }
}
