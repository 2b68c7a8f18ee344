//! What the owner of an app's rosters says of its changes: frames to subscribers, notices to webhooks, and the
//! answers to those who join or ask.

use super::topic;
use crate::courier::{Notice, Webhook, WebhookName};
use crate::frame::{Draft, Publication, put_text};
use crate::roster::{Change, Inquiry, Roster, Wanted};
use crate::wheel::Now;
use serde_json::{Value, json};

/// Says what changes in the rosters of one app.
pub struct Announcer<'a> {
    /// The app's id.
    pub app: &'a str,
    /// The moment of the turn.
    pub now: Now,
    /// Builds publications.
    pub draft: &'a mut Draft,
    /// Where frames for subscribers go, in order.
    pub publications: &'a mut dyn FnMut(Publication),
    /// Where notices go; `None` when no webhook wants any.
    pub notices: Option<&'a mut Vec<Notice>>,
}

impl Announcer<'_> {
    /// Says it to whoever is to know.
    pub fn tell(&mut self, change: &Change<'_>) {
        match *change {
            Change::Occupied(channel) => {
                self.hook(
                    WebhookName::ChannelOccupied,
                    channel,
                    None,
                    &json!({"name": "channel_occupied", "channel": channel}),
                );
            }
            Change::Vacated(channel) => {
                self.hook(
                    WebhookName::ChannelVacated,
                    channel,
                    None,
                    &json!({"name": "channel_vacated", "channel": channel}),
                );
            }
            Change::Added(channel, user, info) => {
                let data = format!(r#"{{"user_id":{},"user_info":{info}}}"#, text(user));
                self.publish("pusher_internal:member_added", channel, &data);
                let event = json!({"name": "member_added", "channel": channel, "user_id": user});
                self.hook(WebhookName::MemberAdded, channel, Some(user), &event);
            }
            Change::Removed(channel, user) => {
                let data = format!(r#"{{"user_id":{}}}"#, text(user));
                self.publish("pusher_internal:member_removed", channel, &data);
                let event = json!({"name": "member_removed", "channel": channel, "user_id": user});
                self.hook(WebhookName::MemberRemoved, channel, Some(user), &event);
            }
            Change::Count(channel, count) => {
                let data = format!(r#"{{"subscription_count":{count}}}"#);
                self.publish("pusher_internal:subscription_count", channel, &data);
                let event =
                    json!({"name": "subscription_count", "channel": channel, "subscription_count": count});
                self.hook(WebhookName::SubscriptionCount, channel, None, &event);
            }
        }
    }

    fn publish(&mut self, event: &str, channel: &str, data: &str) {
        self.draft.address(&topic(self.app, channel), b"");
        self.draft.text(|out| put_frame(event, channel, data, out));
        (self.publications)(self.draft.finish(self.now));
    }

    fn hook(&mut self, name: WebhookName, channel: &str, user: Option<&str>, event: &Value) {
        let Some(notices) = &mut self.notices else { return };
        let subject = user.map_or_else(|| channel.to_owned(), |user| format!("{channel}\0{user}"));
        let webhook =
            Webhook { app: self.app.into(), name, subject: subject.into(), json: event.to_string().into() };
        notices.push(Notice::Webhook(webhook));
    }
}

/// The frame that tells a newcomer who is in a presence channel.
#[must_use]
pub fn succeeded(channel: &str, roster: &Roster) -> Box<[u8]> {
    let members = roster.members(channel);
    let mut data = format!(r#"{{"presence":{{"count":{},"ids":["#, members.len());
    for (place, (user, _)) in members.enumerate() {
        data.push_str(if place > 0 { "," } else { "" });
        data.push_str(&text(user));
    }
    data.push_str(r#"],"hash":{"#);
    for (place, (user, info)) in roster.members(channel).enumerate() {
        data.push_str(if place > 0 { "," } else { "" });
        data.push_str(&text(user));
        data.push(':');
        data.push_str(info);
    }
    data.push_str("}}}");
    let mut bytes = Vec::new();
    let frame =
        put_text(&mut bytes, |out| put_frame("pusher_internal:subscription_succeeded", channel, &data, out));
    bytes[frame.start as usize..frame.end as usize].into()
}

/// The body that answers an inquiry.
#[must_use]
pub fn answer(inquiry: &Inquiry, roster: &Roster) -> Box<[u8]> {
    let counts = |channel: &str, wanted: Wanted| -> String {
        let (subscriptions, users) = roster.counts(channel).unwrap_or_default();
        counts(subscriptions, users, wanted)
    };
    let body = match inquiry {
        Inquiry::Channels { prefix, wanted } => {
            // A user's own channel is nobody's to see.
            let listed = roster.channels(prefix).filter(|(name, ..)| !name.starts_with('#'));
            let channels = listed.map(|(name, subscriptions, users)| {
                format!("{}:{{{}}}", text(name), self::counts(subscriptions, users, *wanted))
            });
            format!(r#"{{"channels":{{{}}}}}"#, joined(channels))
        }
        Inquiry::Channel(channel, wanted) => {
            let occupied = format!(r#""occupied":{}"#, roster.counts(channel).is_some());
            let counts = Some(counts(channel, *wanted)).filter(|counts| !counts.is_empty());
            format!("{{{}}}", joined([occupied].into_iter().chain(counts)))
        }
        Inquiry::Users(channel) => {
            let users = roster.members(channel).map(|(user, _)| format!(r#"{{"id":{}}}"#, text(user)));
            format!(r#"{{"users":[{}]}}"#, joined(users))
        }
        Inquiry::Counts(channels) => {
            let channels =
                channels.iter().map(|(name, wanted)| format!("{}:{{{}}}", text(name), counts(name, *wanted)));
            format!(r#"{{"channels":{{{}}}}}"#, joined(channels))
        }
        Inquiry::Batch(channels) => {
            let entry = |wish: &Option<(Box<str>, Wanted)>| {
                let counts = wish.as_ref().map(|(channel, wanted)| counts(channel, *wanted));
                format!("{{{}}}", counts.unwrap_or_default())
            };
            format!(r#"{{"batch":[{}]}}"#, joined(channels.iter().map(entry)))
        }
    };
    body.into_bytes().into()
}

/// The counts that are wanted, as the inside of an object. Of users, those who ask know that there can be any.
fn counts(subscriptions: u32, users: Option<usize>, wanted: Wanted) -> String {
    let users = wanted.users.then(|| format!(r#""user_count":{}"#, users.unwrap_or(0)));
    let subscriptions = wanted.subscriptions.then(|| format!(r#""subscription_count":{subscriptions}"#));
    joined(users.into_iter().chain(subscriptions))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

/// A server's event: `data` is JSON, and is sent as a string that holds it.
pub(super) fn put_frame(event: &str, channel: &str, data: &str, out: &mut Vec<u8>) {
    for (key, value) in [(r#"{"event":"#, event), (r#","channel":"#, channel), (r#","data":"#, data)] {
        out.extend_from_slice(key.as_bytes());
        serde_json::to_writer(&mut *out, value).expect("writing to a Vec cannot fail");
    }
    out.push(b'}');
}

/// A text as JSON writes it.
fn text(text: &str) -> String {
    Value::from(text).to_string()
}
