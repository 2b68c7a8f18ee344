//! What clients do, and what they are told.

use super::random::Random;
use super::voice::{self, APPS, MEMBERS_MAX, SMALL, Told};
use super::world::{SimInput, World};
use crate::frame::Publication;
use crate::service::presence::{
    ChannelCounts, ChannelInquiry, PresenceAnswer, PresenceQuestion, PresenceRequest, WantedCounts,
};
use crate::service::{ConnectionRef, DialectId};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// The number of a shard that stands for HTTP clients.
pub(super) const HTTP: u16 = 99;
/// A member that is in for so long (ms) on a node with which nothing is wrong must be in every list.
pub(super) const STEADY_MS: u64 = 3000;
const CHANNELS: [&str; 4] = ["presence-a", "presence-b", "presence-c", "presence-d"];
const ROOMS: [&str; 3] = ["room-a", "room-b", "room-c"];
const USERS: [&str; 8] = ["u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"];

/// App and channel.
pub(super) type SimChannel = (String, String);

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) app: &'static str,
    /// Presence channels, with what the session knows of each.
    pub(super) channels: BTreeMap<SimChannel, Membership>,
    /// Channels without members, with the moments when it entered.
    pub(super) rooms: BTreeMap<SimChannel, u64>,
}

/// A presence channel of a session.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) user: String,
    /// The members that it was told; `None` while it waits.
    pub(super) view: Option<BTreeMap<String, String>>,
    /// Since when it is in, or waits.
    pub(super) since: u64,
}

/// The open inquiries of HTTP clients.
#[derive(Debug, Default)]
pub(super) struct SimInquiries {
    last: u32,
    open: BTreeMap<u32, SimInquiry>,
    /// Answers of the last checks, by number.
    pub(super) answers: BTreeMap<u32, PresenceAnswer>,
}

#[derive(Debug)]
struct SimInquiry {
    app: String,
    inquiry: ChannelInquiry,
    asked: u64,
}

fn join(app: &str, channel: &str, user: &str, info: &str) -> PresenceQuestion {
    let request =
        PresenceRequest::Join { channel: channel.into(), user: user.into(), info: info.into() };
    PresenceQuestion { dialect: DialectId(0), app: app.into(), request }
}

fn question(app: &str, request: PresenceRequest) -> PresenceQuestion {
    PresenceQuestion { dialect: DialectId(0), app: app.into(), request }
}

impl World {
    /// A client does something.
    pub(super) fn act(&mut self) {
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up()).collect();
        if up.is_empty() {
            return;
        }
        let node = *self.random.pick(&up);
        // A process that is stopped accepts nothing.
        if self.nodes[node].paused_until > self.now {
            return;
        }
        let sessions: Vec<ConnectionRef> = self.nodes[node].sessions.keys().copied().collect();
        let choice = self.random.below(100);
        match choice {
            0..40 => {
                let connection = match sessions.as_slice() {
                    [_, ..] if sessions.len() > 12 || self.random.percent(40) => {
                        *self.random.pick(&sessions)
                    }
                    _ => self.connect(node),
                };
                self.join_some(node, connection);
            }
            40..60 => self.leave_some(node, &sessions),
            60..68 => {
                if let Some(connection) = pick(&mut self.random, &sessions) {
                    self.close(node, connection);
                }
            }
            68..85 => {
                let connection = match pick(&mut self.random, &sessions) {
                    Some(connection) => connection,
                    None => self.connect(node),
                };
                self.enter_some(node, connection);
            }
            85..98 => {
                let (app, inquiry) = some_inquiry(&mut self.random);
                // What a node knows that is in trouble may be old.
                let troubled =
                    up.iter().copied().filter(|node| !self.nodes[*node].is_calm(self.now));
                let troubled: Vec<usize> = troubled.collect();
                let node = match pick(&mut self.random, &troubled) {
                    Some(troubled) if self.nodes[troubled].paused_until <= self.now => troubled,
                    _ => node,
                };
                self.inquire(node, app, inquiry);
            }
            _ => {
                let user = *self.random.pick(&USERS);
                let app = *self.random.pick(&APPS);
                self.inquire(node, app, ChannelInquiry::Dismiss(user.into()));
            }
        }
    }

    fn connect(&mut self, node: usize) -> ConnectionRef {
        let sim = &mut self.nodes[node];
        sim.last_connection += 1;
        let connection = ConnectionRef { shard: 0, id: sim.last_connection, serial: 1 };
        let app = *self.random.pick(&APPS);
        let (channels, rooms) = (BTreeMap::new(), BTreeMap::new());
        sim.sessions.insert(connection, Session { app, channels, rooms });
        connection
    }

    fn join_some(&mut self, node: usize, connection: ConnectionRef) {
        let channel = *self.random.pick(&CHANNELS);
        let user = *self.random.pick(&USERS);
        self.last_info += 1;
        let info = format!("i{}", self.last_info);
        let session = self.nodes[node].sessions.get_mut(&connection).unwrap();
        let app = session.app;
        let key = (app.to_owned(), channel.to_owned());
        // A second join of a session changes nothing, but is answered again.
        let known = session.channels.contains_key(&key);
        if known && session.channels[&key].view.is_none() {
            return;
        }
        if !known {
            let (user, since) = (user.to_owned(), self.now);
            let membership = Membership { user, view: None, since };
            session.channels.insert(key, membership);
        }
        self.input(node, SimInput::Asked(connection, join(app, channel, user, &info)));
    }

    fn leave_some(&mut self, node: usize, sessions: &[ConnectionRef]) {
        let Some(connection) = pick(&mut self.random, sessions) else { return };
        let session = &self.nodes[node].sessions[&connection];
        let channels: Vec<SimChannel> =
            session.channels.keys().chain(session.rooms.keys()).cloned().collect();
        if let Some(channel) = pick(&mut self.random, &channels) {
            self.leave(node, connection, &channel);
        }
    }

    pub(super) fn leave(&mut self, node: usize, connection: ConnectionRef, channel: &SimChannel) {
        if let Some(session) = self.nodes[node].sessions.get_mut(&connection) {
            session.channels.remove(channel);
            session.rooms.remove(channel);
        }
        let leave = question(&channel.0, PresenceRequest::Leave((&*channel.1).into()));
        self.follow(node, SimInput::Asked(connection, leave));
        self.drain_inputs();
    }

    /// A connection ends.
    pub(super) fn close(&mut self, node: usize, connection: ConnectionRef) {
        self.end_later(node, connection);
        self.drain_inputs();
    }

    fn enter_some(&mut self, node: usize, connection: ConnectionRef) {
        let channel = *self.random.pick(&ROOMS);
        let session = self.nodes[node].sessions.get_mut(&connection).unwrap();
        let app = session.app;
        let key = (app.to_owned(), channel.to_owned());
        if let Entry::Vacant(room) = session.rooms.entry(key) {
            room.insert(self.now);
            let enter = question(app, PresenceRequest::Enter(channel.into()));
            self.input(node, SimInput::Asked(connection, enter));
        }
    }

    /// An HTTP client inquires. Returns the number of the inquiry.
    pub(super) fn inquire(&mut self, node: usize, app: &str, inquiry: ChannelInquiry) -> u32 {
        self.inquiries.last += 1;
        let id = self.inquiries.last;
        let open = SimInquiry { app: app.into(), inquiry: inquiry.clone(), asked: self.now };
        self.inquiries.open.insert(id, open);
        let from = ConnectionRef { shard: HTTP, id, serial: 0 };
        let asked = question(app, PresenceRequest::Inquire(inquiry));
        self.input(node, SimInput::Asked(from, asked));
        id
    }

    /// An inquiry is answered: whole or not at all.
    pub(super) fn inquired(&mut self, node: usize, from: ConnectionRef, answer: PresenceAnswer) {
        let Some(open) = self.inquiries.open.remove(&from.id) else {
            return self.broken(format!("inquiry {} is answered twice", from.id));
        };
        if let PresenceAnswer::Unavailable = answer {
            self.saw("unavailable");
        } else {
            self.saw("inquiry");
            self.check_whole(node, &open.app, &open.inquiry, open.asked, &answer);
        }
        self.inquiries.answers.insert(from.id, answer);
    }

    fn check_whole(
        &mut self,
        node: usize,
        app: &str,
        inquiry: &ChannelInquiry,
        asked: u64,
        answer: &PresenceAnswer,
    ) {
        let missing = match (inquiry, answer) {
            (ChannelInquiry::Users(channel), PresenceAnswer::Users(users)) => {
                let steady = self.steady(&(app.to_owned(), channel.to_string()), asked);
                steady.into_iter().find(|user| !users.iter().any(|known| **known == **user))
            }
            (ChannelInquiry::Channels { .. }, PresenceAnswer::Channels(channels)) => {
                let mut all = CHANNELS.into_iter().chain(ROOMS);
                all.find_map(|channel| self.uncounted(app, channel, asked, channels))
            }
            (ChannelInquiry::Counts(named), PresenceAnswer::Channels(channels)) => {
                named.iter().find_map(|(name, _)| self.uncounted(app, name, asked, channels))
            }
            (ChannelInquiry::Dismiss(user), PresenceAnswer::Channels(_)) => {
                let channels = CHANNELS.map(|channel| (app.to_owned(), channel.to_owned()));
                let mut channels = channels.into_iter();
                channels
                    .find(|channel| self.steady(channel, asked).iter().any(|u| **u == **user))
                    .map(|channel| format!("{user} in {channel:?} is not dismissed"))
            }
            _ => None,
        };
        if let Some(missing) = missing {
            let name = self.nodes[node].name;
            self.broken(format!(
                "{name} answers {inquiry:?} of {app} without {missing}: {answer:?}"
            ));
        }
    }

    /// What is missing of a channel in an answer: it must count every connection that was there for
    /// a while.
    fn uncounted(
        &self,
        app: &str,
        channel: &str,
        asked: u64,
        channels: &[ChannelCounts],
    ) -> Option<String> {
        let key = (app.to_owned(), channel.to_owned());
        let users: BTreeSet<String> = self.steady(&key, asked).into_iter().collect();
        let calm = self.nodes.iter().filter(|node| node.is_calm(self.now));
        let rooms = calm.flat_map(|node| node.sessions.values());
        let rooms = rooms.filter_map(|session| session.rooms.get(&key));
        let entered = rooms.filter(|since| **since + STEADY_MS < asked).count();
        let known = channels.iter().find(|known| *known.name == *channel);
        let (subscriptions, members) =
            known.map_or((0, 0), |known| (known.subscriptions as usize, known.users.unwrap_or(0)));
        let is_whole = subscriptions >= entered.max(users.len()) && members as usize >= users.len();
        (!is_whole).then(|| format!("{entered} in {channel} or one of {users:?}"))
    }

    /// The users that were in a channel for a while before a moment, and are still, on nodes with
    /// which nothing was wrong.
    pub(super) fn steady(&self, channel: &SimChannel, before: u64) -> Vec<String> {
        let calm = self.nodes.iter().filter(|node| node.is_calm(self.now));
        let sessions = calm.flat_map(|node| node.sessions.values());
        let members = sessions.filter_map(|session| session.channels.get(channel));
        let steady =
            members.filter(|member| member.view.is_some() && member.since + STEADY_MS < before);
        steady.map(|member| member.user.clone()).collect()
    }

    /// A session is answered.
    pub(super) fn session_answered(
        &mut self,
        node: usize,
        connection: ConnectionRef,
        answer: PresenceAnswer,
    ) {
        let now = self.now;
        let Some(session) = self.nodes[node].sessions.get_mut(&connection) else { return };
        match answer {
            PresenceAnswer::Present { channel, list } => {
                let members = voice::members(&list);
                let key = (session.app.to_owned(), channel.to_string());
                let Some(waiting) = session.channels.get_mut(&key) else {
                    return self.broken(format!("{connection:?} gets a list of {channel} unasked"));
                };
                if waiting.view.is_none() {
                    waiting.since = now;
                }
                let user = waiting.user.clone();
                let view: BTreeMap<String, String> = members.into_iter().collect();
                waiting.view = Some(view.clone());
                self.saw("present");
                self.check_view(node, &key, &user, &view);
            }
            PresenceAnswer::Full(channel) | PresenceAnswer::TooLong(channel) => {
                let key = (session.app.to_owned(), channel.to_string());
                let waits = session.channels.get(&key).is_some_and(|member| member.view.is_none());
                if key.0 == voice::OPEN || !waits {
                    return self.broken(format!("{connection:?} is refused by {channel} unasked"));
                }
                session.channels.remove(&key);
                self.saw("refused");
                // As the real sessions do.
                let leave = question(&key.0, PresenceRequest::Leave((&*key.1).into()));
                self.follow(node, SimInput::Asked(connection, leave));
            }
            PresenceAnswer::Away(_) => {
                self.saw("away");
                self.end_later(node, connection);
            }
            PresenceAnswer::Dismissed => {
                self.saw("dismissed");
                self.end_later(node, connection);
            }
            other => self.broken(format!("a session gets {other:?}")),
        }
    }

    /// Ends a session after what the node has put out.
    fn end_later(&mut self, node: usize, connection: ConnectionRef) {
        let Some(session) = self.nodes[node].sessions.remove(&connection) else { return };
        for (app, channel) in session.channels.into_keys().chain(session.rooms.into_keys()) {
            let leave = question(&app, PresenceRequest::Leave((&*channel).into()));
            self.follow(node, SimInput::Asked(connection, leave));
        }
    }

    /// A publication for the connections of a node.
    pub(super) fn published(&mut self, node: usize, publication: &Publication) {
        let (app, channel, told) = voice::read(publication);
        let key = (app, channel);
        self.check_told(node, &key, &told);
        let name = self.nodes[node].name;
        let (mut fault, mut removed) = (None, None);
        for (connection, session) in &mut self.nodes[node].sessions {
            let Some(view) = session.channels.get_mut(&key).and_then(|member| member.view.as_mut())
            else {
                continue;
            };
            let is_good = match &told {
                Told::Added(user, info) => view.insert(user.clone(), info.clone()).is_none(),
                Told::Removed(user) => {
                    removed = view.remove(user);
                    removed.is_some()
                }
                Told::Count(_) => false,
            };
            if !is_good {
                fault =
                    Some(format!("{name} {connection:?} in {key:?} is told {told:?}: {view:?}"));
            }
            if key.0 == SMALL && view.len() > MEMBERS_MAX {
                fault = Some(format!("{name} {connection:?} sees too many: {view:?}"));
            }
        }
        if let Some(fault) = fault {
            self.broken(fault);
        }
        if let (Told::Removed(user), Some(info)) = (&told, removed) {
            self.check_removed(node, &key, user, &info);
        }
    }
}

fn pick<T: Clone>(random: &mut Random, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| random.pick(from).clone())
}

fn some_inquiry(random: &mut Random) -> (&'static str, ChannelInquiry) {
    let wanted = WantedCounts { users: true, subscriptions: true, kept: false };
    let app = *random.pick(&APPS);
    let inquiry = match random.below(3) {
        0 => ChannelInquiry::Channels { prefix: "".into(), wanted },
        1 => ChannelInquiry::Users((*random.pick(&CHANNELS)).into()),
        _ => ChannelInquiry::Counts(vec![
            ((*random.pick(&CHANNELS)).into(), wanted),
            ((*random.pick(&ROOMS)).into(), wanted),
        ]),
    };
    (app, inquiry)
}
