//! Events from clients to clients: Echo's whispers.

use super::announce::webhook;
use super::limit::is_over;
use super::live::EchoLive;
use super::message::{ClientEvent, channel_error};
use super::name::{Access, ChannelKind};
use super::socket::EchoReach;
use super::topic::topic;
use crate::dialect::{Action, Actions, Context, DialectTally};
use crate::json::quoted;
use crate::service::Question;
use crate::service::webhook::WebhookName;
use crate::wheel::{Now, SECOND_NS};
use std::sync::atomic::Ordering::Relaxed;

/// The code of an event that the client may not send to that channel.
const NOT_ALLOWED: u16 = 4009;
/// The code of an event that the client may not send at all.
const REJECTED: u16 = 4301;

impl EchoLive {
    /// Forwards a client's event to the other subscribers of its channel.
    pub(super) fn client_event(
        &mut self,
        event: &ClientEvent,
        context: &mut Context<'_>,
        out: &mut Actions,
    ) {
        if let Err((code, message)) = self.may_send(event, context.now) {
            out.count(DialectTally::ClientEvent);
            return channel_error(&event.channel, code, message, out);
        }

        let channel = &event.channel;
        let sender = self.channels.iter().find(|known| *known.name == **channel);
        // On a presence channel receivers learn who has sent it; clients cannot forge this.
        let user = sender.and_then(|known| known.user.as_deref());

        let mut text = format!(
            r#"{{"event":{},"channel":{},"data":{}"#,
            quoted(&event.name),
            quoted(channel),
            event.data
        );
        if let Some(user) = user {
            text.push_str(&format!(r#","user_id":{}"#, quoted(user)));
        }
        text.push('}');

        // The sender has its own event already.
        let (meta, length) = EchoReach::AllBut(self.socket).meta();
        context.draft.address(&topic(&self.place.id, channel), b"");
        context.draft.meta(&meta[..length]);
        context.draft.text(|payload| payload.extend_from_slice(text.as_bytes()));
        self.place.events.fetch_add(1, Relaxed);
        out.push(Action::Publish(Box::new(context.draft.finish(context.now))));

        if self.place.has_webhooks() {
            self.tell(event, user, out);
        }
    }

    /// Informs the app's webhooks.
    fn tell(&self, event: &ClientEvent, user: Option<&str>, out: &mut Actions) {
        let mut json = format!(
            r#"{{"name":"client_event","channel":{},"event":{},"data":{},"socket_id":"{}""#,
            quoted(&event.channel),
            quoted(&event.name),
            event.data,
            self.socket
        );
        if let Some(user) = user {
            json.push_str(&format!(r#","user_id":{}"#, quoted(user)));
        }
        json.push('}');
        let webhook = webhook(&self.place.id, WebhookName::ClientEvent, &event.channel, json);
        out.ask(Question::Webhook(Box::new(webhook)));
    }

    /// Checks that an event may be sent; if so it counts against the client's rate.
    fn may_send(&mut self, event: &ClientEvent, now: Now) -> Result<(), (u16, &'static str)> {
        let app = &self.place.settings;
        if !app.client_events {
            return Err((REJECTED, "The app does not allow client events."));
        }
        if is_over(event.name.chars().count(), app.event_name_chars_max) {
            return Err((REJECTED, "The event's name is too long."));
        }
        // The text of a string counts, not its escapes.
        if is_over(event.data_bytes, app.data_bytes_max) {
            return Err((REJECTED, "The event's data are too long."));
        }

        let may_have_them = match ChannelKind::of(&event.channel).map(|kind| kind.access) {
            Some(Access::Private | Access::Presence) => true,
            Some(Access::Public) => app.public_client_events,
            Some(Access::User) | None => false,
        };
        if !may_have_them {
            return Err((NOT_ALLOWED, "Client events are for private and presence channels."));
        }
        // The channel may have been asked for and not be joined yet.
        if !self.channels.iter().any(|known| known.is_in && *known.name == *event.channel) {
            return Err((NOT_ALLOWED, "The connection is not subscribed to the channel."));
        }
        // Last, because an event that is refused for another reason does not count.
        if !self.is_within_rate(now) {
            return Err((REJECTED, "The connection sends too many client events."));
        }
        Ok(())
    }

    /// Counts an event against the client's rate. A sliding second: a limit that starts anew each
    /// second would let twice as many pass around its turn.
    fn is_within_rate(&mut self, now: Now) -> bool {
        let max = self.place.settings.client_events_per_s_max as usize;
        if max == 0 {
            return true;
        }

        let sent_ns = &mut self.rare().sent_ns;
        while sent_ns.pop_front_if(|at_ns| *at_ns + SECOND_NS <= now.monotonic_ns).is_some() {}

        let is_within = sent_ns.len() < max;
        if is_within {
            sent_ns.push_back(now.monotonic_ns);
        }
        is_within
    }
}
