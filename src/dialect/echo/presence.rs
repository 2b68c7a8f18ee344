//! Presence channels, on one connection's side.
//!
//! The owner of the channel's presence decides who joins, and is asked each time a client
//! subscribes. Until its answer comes nothing of the channel is received; the answer is the list of
//! who is there, and the changes after it follow in the same mailbox. Answers for one channel come
//! in the order of the requests, so a list of these is enough to know which is answered, and
//! whether the client still wants it: each channel records the number of the request that asked
//! for it, and is gone when the client has unsubscribed. Different channels may have different
//! owners, which answer in any order.

use super::announce::succeeded;
use super::closes::{AWAY, TERMINATED, send_away};
use super::limit::is_over;
use super::live::{EchoChannel, EchoLive, Join};
use super::member::EchoMember;
use super::message::SubscribeMessage;
use super::refusal::{SubscriptionRefused, refuse};
use super::topic::topic;
use crate::dialect::{Action, Actions, Context};
use crate::service::presence::{PresenceAnswer, PresenceRequest};
use std::sync::Arc;

/// Wishes of one connection that wait for an answer, where the app does not limit subscriptions. A
/// client that subscribes and unsubscribes without waiting has more of them than channels.
const JOINS_MAX: usize = 1000;

impl EchoLive {
    /// Asks to join a presence channel with a valid signature.
    pub(super) fn join(
        &mut self,
        wish: &SubscribeMessage,
        context: &mut Context<'_>,
        out: &mut Actions,
    ) -> Result<(), SubscriptionRefused> {
        let member = self.member(wish.data.as_deref(), context)?;

        let joins_max = match self.place.settings.subscriptions_max {
            0 => JOINS_MAX,
            max => max,
        };
        if self.rare().joins.len() >= joins_max {
            return Err(SubscriptionRefused::Subscriptions);
        }

        let known = self.channels.iter().find(|channel| *channel.name == *wish.channel);
        // A second subscription to the channel changes its member: the owner gets both, under one
        // number.
        let number = match known {
            Some(channel) => channel.wish,
            None => {
                // 0 is for channels without members.
                self.asked = self.asked.wrapping_add(1).max(1);
                let (name, wish) = (wish.channel.as_str().into(), self.asked);
                self.add(EchoChannel { name, user: None, wish, is_in: false })?;
                wish
            }
        };

        let channel: Box<str> = wish.channel.as_str().into();
        let join = Join { channel: channel.clone(), wish: number, user: member.user.clone() };
        self.rare().joins.push_back(join);
        let join = PresenceRequest::Join { channel, user: member.user, info: member.info };
        self.tell_presence(join, out);
        Ok(())
    }

    /// The member that a client is in a channel: the signed one of its wish, or the signed-in user.
    fn member(
        &self,
        data: Option<&str>,
        context: &mut Context<'_>,
    ) -> Result<EchoMember, SubscriptionRefused> {
        let app = &self.place.settings;
        match data {
            Some(data) => EchoMember::of_channel_data(data, app, context.parser)
                .ok_or(SubscriptionRefused::Member),
            None => {
                let user = self
                    .rare
                    .as_ref()
                    .and_then(|rare| rare.user.as_ref())
                    .ok_or(SubscriptionRefused::Member)?;
                // A sign-in is not limited by this setting, the list of members is.
                if is_over(user.info.len(), app.member_bytes_max) {
                    return Err(SubscriptionRefused::MemberBytes);
                }
                Ok(user.clone())
            }
        }
    }

    /// Handles the owner's answer to the oldest wish.
    pub(super) fn answer(
        &mut self,
        answer: PresenceAnswer,
        context: &mut Context<'_>,
        out: &mut Actions,
    ) {
        let (name, joined) = match answer {
            PresenceAnswer::Present { channel, list } => (channel, Ok(list)),
            PresenceAnswer::Full(channel) => (channel, Err(SubscriptionRefused::Full)),
            PresenceAnswer::TooLong(channel) => (channel, Err(SubscriptionRefused::List)),
            // The app has terminated the user's connections; the owner knows them by their members.
            PresenceAnswer::Dismissed => return send_away(TERMINATED.0, TERMINATED.1, out),
            PresenceAnswer::Away(_) => return send_away(AWAY.0, AWAY.1, out),
            PresenceAnswer::Channels(_) | PresenceAnswer::Users(_) => return,
            PresenceAnswer::Connections(_) | PresenceAnswer::Unavailable => return,
        };

        // Unsubscribed meanwhile, or subscribed anew: then a later answer is the one that counts.
        let Some(Join { wish, user, .. }) = self.answered(&name) else { return };
        let mut channels = self.channels.iter();
        let at = channels.position(|channel| channel.wish == wish && channel.name == name);
        let Some(at) = at else { return };

        let list = match joined {
            Ok(list) => list,
            Err(refused) => {
                let mut joins = self.rare.iter().flat_map(|rare| &rare.joins);
                let is_last = joins.all(|join| join.wish != wish);
                // An existing member stays one, even if the list has become too long to be sent
                // again.
                if !self.channels[at].is_in && is_last {
                    self.channels.swap_remove(at);
                }
                return refuse(&name, refused, out);
            }
        };

        let channel = &mut self.channels[at];
        // The subscription follows the owner's decision, so no event reaches a client that may not
        // join.
        if !channel.is_in {
            channel.is_in = true;
            channel.user = Some(user);
            out.subscribe(&topic(&self.place.id, &name), b"");
        }
        // Like a publication, the list is offered to the client before it counts against its
        // outbox: a page that joins many channels at once gets all their lists.
        let list = succeeded(&self.place.id, &name, &list, context);
        out.push(Action::Forward(Arc::new(list), 0));
        self.show_last(&name, context, out);
    }

    /// Takes the oldest wish for a channel, and releases the rare state if nothing else is in it.
    fn answered(&mut self, channel: &str) -> Option<Join> {
        let rare = self.rare.as_mut()?;
        let place = rare.joins.iter().position(|join| *join.channel == *channel)?;
        let join = rare.joins.remove(place);
        if rare.joins.is_empty() {
            rare.joins.shrink_to_fit();
            if rare.user.is_none() && rare.sent_ns.is_empty() {
                self.rare = None;
            }
        }
        join
    }
}
