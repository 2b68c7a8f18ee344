//! What the owner of an app's presence says of its changes: frames to subscribers, webhooks to webhooks, and the
//! answers to those who join or ask.

use super::{SECOND_NS, topic, topic_of};
use crate::frame::{Draft, Publication};
use crate::json::quoted;
use crate::retained::Retained;
use crate::service::presence::{AppPresence, Change, Inquiry, Wanted};
use crate::service::webhook::{Webhook, WebhookEvent, WebhookName};
use crate::wheel::Now;

/// Says what changes in the presence of one app.
pub struct Announcer<'a> {
    /// The app's id.
    pub app: &'a str,
    /// The moment of the turn.
    pub now: Now,
    /// Builds publications.
    pub draft: &'a mut Draft,
    /// Where frames for subscribers go, in order.
    pub publications: &'a mut dyn FnMut(Publication),
    /// Where webhooks go; `None` when no webhook wants any.
    pub webhooks: Option<&'a mut Vec<Webhook>>,
}

impl Announcer<'_> {
    /// Says it to whoever is to know.
    pub fn tell(&mut self, change: &Change<'_>) {
        match *change {
            Change::Occupied(channel) => self.hook(WebhookName::ChannelOccupied, channel, None, ""),
            Change::Vacated(channel) => self.hook(WebhookName::ChannelVacated, channel, None, ""),
            Change::Added(channel, user, info) => {
                let data = format!(r#"{{"user_id":{},"user_info":{info}}}"#, quoted(user));
                self.publish("pusher_internal:member_added", channel, &data);
                self.hook(WebhookName::MemberAdded, channel, Some(user), "");
            }
            Change::Removed(channel, user) => {
                let data = format!(r#"{{"user_id":{}}}"#, quoted(user));
                self.publish("pusher_internal:member_removed", channel, &data);
                self.hook(WebhookName::MemberRemoved, channel, Some(user), "");
            }
            Change::Missed(channel) => self.hook(WebhookName::CacheMiss, channel, None, ""),
            Change::Count(channel, count) => {
                let count = format!(r#""subscription_count":{count}"#);
                self.publish("pusher_internal:subscription_count", channel, &format!("{{{count}}}"));
                self.hook(WebhookName::SubscriptionCount, channel, None, &format!(",{count}"));
            }
        }
    }

    fn publish(&mut self, event: &str, channel: &str, data: &str) {
        self.draft.address(&topic(self.app, channel), b"");
        self.draft.text(|out| put_frame(event, channel, data, out));
        (self.publications)(self.draft.finish(self.now));
    }

    /// Tells the webhooks. `more` is what stands at the end of the event.
    fn hook(&mut self, name: WebhookName, channel: &str, user: Option<&str>, more: &str) {
        let Some(webhooks) = &mut self.webhooks else { return };
        let shown = user.map_or_else(String::new, |user| format!(r#","user_id":{}"#, quoted(user)));
        let json = format!(r#"{{"name":"{}","channel":{}{shown}{more}}}"#, name_of(name), quoted(channel));
        let subject = user.map_or_else(|| channel.to_owned(), |user| format!("{channel}\0{user}"));
        webhooks.push(webhook(self.app, name, &subject, json));
    }
}

/// A webhook for the webhooks of an app.
pub(super) fn webhook(app: &str, name: WebhookName, subject: &str, json: String) -> Webhook {
    Webhook::WebhookEvent(WebhookEvent { app: app.into(), name, subject: subject.into(), json: json.into() })
}

/// What a change of the presence is called.
fn name_of(name: WebhookName) -> &'static str {
    match name {
        WebhookName::ChannelOccupied => "channel_occupied",
        WebhookName::ChannelVacated => "channel_vacated",
        WebhookName::MemberAdded => "member_added",
        WebhookName::MemberRemoved => "member_removed",
        WebhookName::ClientEvent => "client_event",
        WebhookName::CacheMiss => "cache_miss",
        WebhookName::SubscriptionCount => "subscription_count",
    }
}

/// Bytes of the frame that tells who is in a presence channel, beside the members themselves: 200 of texts, 10 of the
/// header, 10 digits of the count, and the longest name of a channel.
pub(super) const LIST_BYTES: usize = 512;

/// Bytes that a member takes in that frame, where all of it stands in a string.
#[must_use]
pub fn listed_bytes(user: &str, info: &str) -> usize {
    // The quotes of the string are not each member's; a colon and two commas are.
    let inside = |json: &str| quoted(json).len() - 2;
    2 * inside(&quoted(user)) + inside(info) + 3
}

/// What tells a newcomer who is in a presence channel. It goes to that one alone.
#[must_use]
pub fn succeeded(
    app: &str,
    channel: &str,
    presence: &AppPresence,
    draft: &mut Draft,
    now: Now,
) -> Publication {
    let members = presence.members(channel);
    let mut data = format!(r#"{{"presence":{{"count":{},"ids":["#, members.len());
    for (place, (user, _)) in members.enumerate() {
        data.push_str(if place > 0 { "," } else { "" });
        data.push_str(&quoted(user));
    }
    data.push_str(r#"],"hash":{"#);
    for (place, (user, info)) in presence.members(channel).enumerate() {
        data.push_str(if place > 0 { "," } else { "" });
        data.push_str(&quoted(user));
        data.push(':');
        data.push_str(info);
    }
    data.push_str("}}}");
    draft.address(&topic(app, channel), b"");
    draft.text(|out| put_frame("pusher_internal:subscription_succeeded", channel, &data, out));
    draft.finish(now)
}

/// The last event of a cache channel as its subscribers got it, JSON, with the seconds for which it is kept yet. `None`
/// when there is none.
#[must_use]
pub fn kept(app: &str, channel: &str, retained: &Retained, now: Now) -> Option<String> {
    let publication = retained.last(&topic_of(app, channel), now)?;
    let event = std::str::from_utf8(payload(publication.frame(0))).ok()?;
    let event = event.strip_suffix('}')?;
    let passed_s = now.monotonic_ns.saturating_sub(publication.accepted.monotonic_ns) / SECOND_NS;
    // One that is kept for ever has no time to live.
    let left = (publication.retain_s < u32::MAX)
        .then(|| format!(r#","ttl":{}"#, u64::from(publication.retain_s).saturating_sub(passed_s)));
    Some(format!("{event}{}}}", left.unwrap_or_default()))
}

/// The payload of a frame that the server sends.
fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// The body that answers an inquiry. `kept` knows the last event of a channel, JSON.
#[must_use]
pub fn answer(inquiry: &Inquiry, presence: &AppPresence, kept: &dyn Fn(&str) -> Option<String>) -> Box<[u8]> {
    let named = |(channel, wanted): &(Box<str>, Wanted)| {
        let (subscriptions, users) = presence.counts(channel).unwrap_or_default();
        (quoted(channel), format!("{{{}}}", counts(subscriptions, users, *wanted).join(",")))
    };
    let body = match inquiry {
        Inquiry::Channels { prefix, wanted } => {
            let entry = |(name, subscriptions, users): (&str, u32, Option<usize>)| {
                format!("{}:{{{}}}", quoted(name), counts(subscriptions, users, *wanted).join(","))
            };
            // A user's own channel is nobody's to see.
            let listed = presence.channels(prefix).filter(|(name, ..)| !name.starts_with('#'));
            let channels: Vec<String> = listed.map(entry).collect();
            format!(r#"{{"channels":{{{}}}}}"#, channels.join(","))
        }
        Inquiry::Channel(channel, wanted) => {
            let found = presence.counts(channel);
            let (subscriptions, users) = found.unwrap_or_default();
            let mut answer = vec![format!(r#""occupied":{}"#, found.is_some())];
            answer.extend(counts(subscriptions, users, *wanted));
            let kept = if wanted.kept { kept(channel) } else { None };
            answer.extend(kept.map(|event| format!(r#""cache":{event}"#)));
            format!("{{{}}}", answer.join(","))
        }
        Inquiry::Users(channel) => {
            let user = |(user, _): (&str, &str)| format!(r#"{{"id":{}}}"#, quoted(user));
            let users: Vec<String> = presence.members(channel).map(user).collect();
            format!(r#"{{"users":[{}]}}"#, users.join(","))
        }
        // Its connections have been told.
        Inquiry::Dismiss(_) => "{}".to_owned(),
        Inquiry::Counts(wishes) => {
            let entries = wishes.iter().map(named).map(|(name, counts)| format!("{name}:{counts}"));
            format!(r#"{{"channels":{{{}}}}}"#, entries.collect::<Vec<_>>().join(","))
        }
        Inquiry::Batch(wishes) => {
            let entry = |wish: &Option<(Box<str>, Wanted)>| {
                wish.as_ref().map_or_else(|| "{}".to_owned(), |wish| named(wish).1)
            };
            format!(r#"{{"batch":[{}]}}"#, wishes.iter().map(entry).collect::<Vec<_>>().join(","))
        }
    };
    body.into_bytes().into()
}

/// The counts that are wanted, as members of an object.
fn counts(subscriptions: u32, users: Option<usize>, wanted: Wanted) -> Vec<String> {
    let users = wanted.users.then(|| format!(r#""user_count":{}"#, users.unwrap_or(0)));
    let subscriptions = wanted.subscriptions.then(|| format!(r#""subscription_count":{subscriptions}"#));
    users.into_iter().chain(subscriptions).collect()
}

/// A server's event: `data` is JSON, and is sent as a string that holds it.
pub(super) fn put_frame(event: &str, channel: &str, data: &str, out: &mut Vec<u8>) {
    for (key, value) in [(r#"{"event":"#, event), (r#","channel":"#, channel), (r#","data":"#, data)] {
        out.extend_from_slice(key.as_bytes());
        serde_json::to_writer(&mut *out, value).expect("writing to a Vec cannot fail");
    }
    out.push(b'}');
}
