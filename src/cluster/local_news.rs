//! What an owner's news mean to the connections of a node.
//!
//! The connections of a channel have been told a list and changes of it: the replica is what they
//! know. When another list comes, because the link has begun anew, they are told the difference.

use super::channel_name::ChannelName;
use super::host::ClusterHost;
use super::link::PresenceNews;
use super::local_channel::{LocalChannel, LocalPresence, PresenceReplica};
use crate::service::presence::{PresenceAnswer, PresenceChange, PresenceVoice};
use crate::wheel::Now;
use std::sync::Arc;

impl LocalChannel {
    /// Handles news of the channel's owner.
    pub(super) fn heard(
        &mut self,
        name: &ChannelName,
        news: PresenceNews,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let Some(voice) = (host.voice)(self.dialect) else { return };
        let mut told = Telling { name, voice, now };
        let Some(presence) = &mut self.presence else {
            if let PresenceNews::Count { count, .. } = news
                && self.announced.replace(count) != Some(count)
            {
                told.announce(&PresenceChange::Count(&name.channel, count), host);
            }
            return;
        };

        match news {
            PresenceNews::List { members, is_first, is_last, .. } => {
                presence.list(members, is_first, is_last, &mut told, host);
            }
            // Of a member that has left meanwhile, or has left and asks anew.
            PresenceNews::Joined { user, asked, .. } => {
                presence.joined(&user, asked, &told, host);
            }
            PresenceNews::Refused { user, asked, is_full, .. } => {
                presence.refused(&user, asked, is_full, name, host);
            }
            // Changes of a list that is not here are in the one that comes.
            PresenceNews::Added { user, info, .. } if presence.follows => {
                let replica = presence.replica.get_or_insert_default();
                if replica.add(&user, &info, voice) {
                    let added = PresenceChange::Added(&name.channel, &user, &info);
                    told.announce(&added, host);
                }
            }
            PresenceNews::Removed { user, .. } if presence.follows => {
                let replica = presence.replica.get_or_insert_default();
                if replica.remove(&user, voice) {
                    told.announce(&PresenceChange::Removed(&name.channel, &user), host);
                }
            }
            PresenceNews::Added { .. } | PresenceNews::Removed { .. } => {}
            PresenceNews::Count { .. } => {}
        }
    }
}

/// A channel, and how its changes are worded.
struct Telling<'a> {
    name: &'a ChannelName,
    voice: &'a dyn PresenceVoice,
    now: Now,
}

impl Telling<'_> {
    /// Announces a change to the connections of this node.
    fn announce(&mut self, change: &PresenceChange<'_>, host: &mut ClusterHost<'_>) {
        let publication = self.voice.publication(&self.name.app, change, host.draft, self.now);
        host.publish(publication);
    }
}

impl LocalPresence {
    /// A part of the list of members.
    fn list(
        &mut self,
        members: Vec<(Arc<str>, Arc<str>)>,
        is_first: bool,
        is_last: bool,
        told: &mut Telling<'_>,
        host: &mut ClusterHost<'_>,
    ) {
        if is_first {
            self.arriving = Some(PresenceReplica::default());
        }
        let Some(arriving) = &mut self.arriving else { return };
        for (user, info) in &members {
            arriving.add(user, info, told.voice);
        }
        if !is_last {
            return;
        }

        let list = self.arriving.take().unwrap_or_default();
        if let Some(former) = &self.replica {
            let channel = &*told.name.channel;
            for (user, _) in former.beside(&list) {
                told.announce(&PresenceChange::Removed(channel, &user), host);
            }
            for (user, info) in list.beside(former) {
                told.announce(&PresenceChange::Added(channel, &user, &info), host);
            }
        }
        (self.replica, self.follows) = (Some(list), true);
    }

    /// The owner has let a user in.
    fn joined(&mut self, user: &str, asked: u64, told: &Telling<'_>, host: &mut ClusterHost<'_>) {
        let Some(member) = self.members.get_mut(user).filter(|member| member.asked == asked) else {
            return;
        };
        if !std::mem::replace(&mut member.is_in, true) {
            self.present += member.connections;
        }
        for (connection, _) in std::mem::take(&mut member.waiting) {
            self.present(connection, told.name, told.voice, host);
        }
    }

    /// The owner does not let a user in.
    fn refused(
        &mut self,
        user: &str,
        asked: u64,
        is_full: bool,
        name: &ChannelName,
        host: &mut ClusterHost<'_>,
    ) {
        let Some(member) = self.members.get(user).filter(|member| member.asked == asked) else {
            return;
        };
        let (is_in, waiting) = (member.is_in, member.waiting.clone());
        let mut connections = self.connections(user);
        connections.retain(|connection| !waiting.iter().any(|(waits, _)| waits == connection));
        if let Some(member) = self.members.remove(user) {
            self.present -= if is_in { member.connections } else { 0 };
        }
        self.users.retain(|_, known| &**known != user);
        let channel = || -> Box<str> { (&*name.channel).into() };
        for (connection, _) in waiting {
            let answer = match is_full {
                true => PresenceAnswer::Full(channel()),
                false => PresenceAnswer::TooLong(channel()),
            };
            host.answer(connection, answer);
        }
        // Its place was taken while no owner could know of it: its connections are in a channel of
        // which it is no member.
        if is_in {
            for connection in connections {
                host.answer(connection, PresenceAnswer::Away(channel()));
            }
        }
    }
}
