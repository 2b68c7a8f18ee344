//! Presence as data, for another process.
//!
//! Of a channel without members an owner knows only the number of subscriptions, so they are
//! counted anew as the connections are taken over. The members of a presence channel are passed
//! with their connections. What has not been passed has left: it is announced as any departure.

use super::app::{AppPresence, ChannelMember, ChannelMembers, OccupiedChannel, PresenceChange};
use super::count::CountPace;
use super::{Presence, PresenceHost, PresenceRules, PresenceVoice};
use crate::service::{ConnectionRef, DialectId, NewRefs};
use crate::wheel::Now;
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;

/// A channel with its subscriptions, as data.
#[derive(Debug, Serialize, Deserialize)]
pub struct FrozenPresence {
    /// The app's id.
    pub app: Box<str>,
    /// The channel.
    pub channel: Box<str>,
    /// The number of subscriptions.
    #[serde(default)]
    subscriptions: u32,
    /// Of a presence channel, its members.
    #[serde(default)]
    members: Option<Vec<FrozenMember>>,
    /// When its count was told, and whether it has changed since.
    #[serde(default)]
    pace: CountPace,
}

/// A member, as data.
#[derive(Debug, Serialize, Deserialize)]
struct FrozenMember {
    user: Box<str>,
    info: Box<str>,
    connections: Vec<ConnectionRef>,
}

impl FrozenPresence {
    /// The shard, out of `shards`, that owns the channel.
    #[must_use]
    pub fn owner(&self, shards: usize) -> usize {
        super::question::owner(&self.app, &self.channel, shards)
    }
}

impl Presence {
    /// All channels that are owned here.
    #[must_use]
    pub fn export(&self) -> Vec<FrozenPresence> {
        let apps = self.apps.iter();
        apps.flat_map(|(app, presence)| presence.export(app)).collect()
    }

    /// Takes a channel of another process over, without a word to those who are still in it.
    pub fn import(
        &mut self,
        dialect: DialectId,
        frozen: FrozenPresence,
        refs: &NewRefs,
        now: Now,
        host: &mut PresenceHost<'_>,
    ) {
        let Some(voice) = host.voice else { return };
        let app = frozen.app.clone();
        let rules = voice.rules(&app, host.outbox_bytes_max);
        let presence = self.apps.entry(app.clone()).or_default();
        let entered = refs.entered(dialect, &app, &frozen.channel);
        let mut tell = |change: PresenceChange<'_>| host.tell(voice, &app, &change, now);
        let counts = (entered, rules, now.monotonic_ns / 1_000_000);
        presence.import(frozen, refs, counts, voice, &mut tell);
        if presence.is_empty() {
            self.apps.remove(&*app);
        }
    }
}

impl AppPresence {
    fn export(&self, app: &str) -> impl Iterator<Item = FrozenPresence> {
        self.channels.iter().map(move |(channel, entry)| FrozenPresence {
            app: app.into(),
            channel: channel.clone(),
            subscriptions: entry.subscriptions,
            members: entry.presence.as_ref().map(|presence| presence.export()),
            pace: entry.pace,
        })
    }

    /// Takes a channel over. `entered` connections without members are in it.
    fn import(
        &mut self,
        frozen: FrozenPresence,
        refs: &NewRefs,
        (entered, rules, now_ms): (u32, PresenceRules, u64),
        voice: &dyn PresenceVoice,
        tell: &mut dyn FnMut(PresenceChange<'_>),
    ) {
        let FrozenPresence { channel, subscriptions, members, pace, .. } = frozen;
        // Only a state that is none of ours has a channel twice.
        if self.channels.contains_key(&channel) {
            return;
        }

        let mut entry = OccupiedChannel { pace: pace.afresh(), ..OccupiedChannel::default() };
        match members {
            None => entry.subscriptions = entered,
            Some(members) => {
                let mut presence = ChannelMembers::default();
                for member in members {
                    if !presence.import(&member, refs, voice) {
                        tell(PresenceChange::Removed(&channel, &member.user));
                    }
                }
                entry.subscriptions = presence.users.len() as u32;
                entry.presence = Some(Box::new(presence));
            }
        }
        if entry.subscriptions == 0 {
            return tell(PresenceChange::Vacated(&channel));
        }

        let has_changed = pace.is_untold() || entry.subscriptions != subscriptions;
        self.channels.insert(channel.clone(), entry);
        if has_changed {
            self.count(&channel, rules, now_ms, tell);
        }
    }
}

impl ChannelMembers {
    fn export(&self) -> Vec<FrozenMember> {
        let mut connections = ahash::AHashMap::<&str, Vec<ConnectionRef>>::default();
        for (connection, user) in &self.users {
            connections.entry(user).or_default().push(*connection);
        }
        let members = self.members.iter().map(|(user, member)| FrozenMember {
            user: user.clone(),
            info: member.info.clone(),
            connections: connections.remove(&**user).unwrap_or_default(),
        });
        members.collect()
    }

    /// Takes a member over. Returns whether any of its connections has been passed.
    fn import(&mut self, frozen: &FrozenMember, refs: &NewRefs, voice: &dyn PresenceVoice) -> bool {
        let FrozenMember { user, info, connections } = frozen;
        for connection in connections.iter().filter_map(|old| refs.of(*old)) {
            // A connection is one member: twice only in a state that is none of ours.
            if self.users.contains_key(&connection) {
                continue;
            }
            self.users.insert(connection, user.clone());
            match self.members.entry(user.clone()) {
                Entry::Occupied(mut member) => member.get_mut().connections += 1,
                Entry::Vacant(place) => {
                    let listed_bytes = voice.listed_bytes(user, info);
                    let listed_bytes = u32::try_from(listed_bytes).unwrap_or(u32::MAX);
                    self.listed_bytes += listed_bytes as usize;
                    let info = info.clone();
                    place.insert(ChannelMember { info, connections: 1, listed_bytes });
                }
            }
        }
        self.members.contains_key(user)
    }
}
