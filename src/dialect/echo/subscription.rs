//! The channels of a connection: who may subscribe, and what follows.
//!
//! A channel without members is subscribed to at once: its events begin with the next publication
//! that comes to this shard, and the owner of the channel's presence counts it. Signing in
//! subscribes a user to its own channel, so its events arrive only once, whether or not the client
//! asks for them.

use super::announce::question;
use super::auth::{Signed, is_good};
use super::limit::is_over;
use super::live::{EchoChannel, EchoLive};
use super::message::{SubscribeMessage, cache_miss, channel_event};
use super::name::{Access, ChannelKind, channel_of, user_of};
use super::refusal::{SubscriptionRefused, refuse};
use super::topic::topic;
use crate::dialect::{Action, Actions, Context};
use crate::service::presence::PresenceRequest;
use std::sync::Arc;

impl EchoLive {
    pub(super) fn subscribe(
        &mut self,
        wish: &SubscribeMessage,
        context: &mut Context<'_>,
        out: &mut Actions,
    ) {
        if let Err(refused) = self.try_subscribe(wish, context, out) {
            refuse(&wish.channel, refused, out);
        }
    }

    fn try_subscribe(
        &mut self,
        wish: &SubscribeMessage,
        context: &mut Context<'_>,
        out: &mut Actions,
    ) -> Result<(), SubscriptionRefused> {
        let kind = ChannelKind::of(&wish.channel).ok_or(SubscriptionRefused::Name)?;
        match kind.access {
            Access::Public => self.enter(&wish.channel, context, out),
            Access::Private => {
                self.verify(wish)?;
                self.enter(&wish.channel, context, out)
            }
            Access::Presence => {
                self.verify(wish)?;
                self.join(wish, context, out)
            }
            Access::User => {
                // The connection receives these events since its sign-in; this only confirms it.
                let user = self.rare.as_ref().and_then(|rare| rare.user.as_ref());
                if user.is_none_or(|member| user_of(&wish.channel) != Some(&member.user)) {
                    return Err(SubscriptionRefused::User);
                }
                channel_event("pusher_internal:subscription_succeeded", &wish.channel, "{}", out);
                Ok(())
            }
        }
    }

    /// Checks a signature.
    fn verify(&self, wish: &SubscribeMessage) -> Result<(), SubscriptionRefused> {
        let data = wish.data.as_deref();
        // Before the HMAC, whose cost grows with the data.
        if is_over(data.map_or(0, str::len), self.place.settings.member_bytes_max) {
            return Err(SubscriptionRefused::MemberBytes);
        }
        let signed = Signed::Subscription(&wish.channel, data);
        is_good(&self.place, self.socket, signed, &wish.auth)
            .then_some(())
            .ok_or(SubscriptionRefused::Signature)
    }

    /// Subscribes to a channel without members.
    fn enter(
        &mut self,
        name: &str,
        context: &Context<'_>,
        out: &mut Actions,
    ) -> Result<(), SubscriptionRefused> {
        // A second subscription is confirmed, and shown the kept event, but changes nothing.
        if !self.channels.iter().any(|channel| *channel.name == *name) {
            self.add(EchoChannel { name: name.into(), user: None, wish: 0, is_in: true })?;
            self.tell_presence(PresenceRequest::Enter(name.into()), out);
            out.subscribe(&topic(&self.place.id, name), b"");
        }
        channel_event("pusher_internal:subscription_succeeded", name, "{}", out);
        self.show_last(name, context, out);
        Ok(())
    }

    /// Adds a channel, if there is room for one more.
    pub(super) fn add(&mut self, channel: EchoChannel) -> Result<(), SubscriptionRefused> {
        if is_over(self.channels.len() + 1, self.place.settings.subscriptions_max) {
            return Err(SubscriptionRefused::Subscriptions);
        }
        self.channels.push(channel);
        Ok(())
    }

    /// Sends a new subscriber the event that a cache channel keeps, or a cache miss.
    pub(super) fn show_last(&self, name: &str, context: &Context<'_>, out: &mut Actions) {
        if !ChannelKind::of(name).is_some_and(|kind| kind.is_cache) {
            return;
        }

        let topic = topic(&self.place.id, name).concat();
        if let Some(publication) = context.retained.last(&topic, context.now) {
            return out.push(Action::Forward(Arc::clone(publication), 0));
        }
        cache_miss(name, out);
        // However many clients miss it, the owner of the channel's presence sends its back end one
        // webhook.
        if self.place.has_webhooks() {
            self.tell_presence(PresenceRequest::Miss(name.into()), out);
        }
    }

    pub(super) fn unsubscribe(&mut self, name: &str, out: &mut Actions) {
        if let Some(at) = self.channels.iter().position(|channel| *channel.name == *name) {
            let channel = self.channels.swap_remove(at);
            self.give_back(&channel, out);
        }
    }

    /// Leaves every channel: the connection is over.
    pub(super) fn leave_all(&mut self, out: &mut Actions) {
        for channel in std::mem::take(&mut self.channels) {
            self.give_back(&channel, out);
        }
        if let Some(member) = self.rare.as_ref().and_then(|rare| rare.user.as_ref()) {
            out.unsubscribe(&topic(&self.place.id, &channel_of(&member.user)), b"");
        }
    }

    fn give_back(&self, channel: &EchoChannel, out: &mut Actions) {
        if channel.is_in {
            out.unsubscribe(&topic(&self.place.id, &channel.name), b"");
        }
        // A channel that was only asked for is known to the owner by now, or will be before this.
        self.tell_presence(PresenceRequest::Leave(channel.name.clone()), out);
    }

    /// Sends a request to the owner of a channel.
    pub(super) fn tell_presence(&self, request: PresenceRequest, out: &mut Actions) {
        out.ask(question(&self.place.id, request));
    }
}
