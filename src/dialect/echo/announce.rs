//! The wording of presence: changes as frames for subscribers and as webhooks, and the answers to
//! members who join and to inquiries.

use super::app::EchoSettings;
use super::name::ChannelKind;
use super::topic::{topic, topic_of};
use crate::dialect::Context;
use crate::frame::{Draft, Publication, payload};
use crate::json::quoted;
use crate::retained::Retained;
use crate::service::Question;
use crate::service::presence::{
    ChannelCounts, ChannelInquiry, PresenceAnswer, PresenceChange, PresenceQuestion,
    PresenceRequest, PresenceRules, PresenceVoice, WantedCounts,
};
use crate::service::webhook::{Webhook, WebhookEvent, WebhookName};
use crate::wheel::{Now, SECOND_NS};
use std::sync::Arc;

impl PresenceVoice for EchoSettings {
    fn rules(&self, app: &str, outbox_bytes_max: usize) -> PresenceRules {
        let settings = self.by_id(app).map(|app| &app.settings);
        PresenceRules {
            members_max: settings.map_or(0, |app| app.presence_members_max),
            counts: settings.is_some_and(|app| app.subscription_count),
            // A longer list of members would make a client that gets it look slow.
            list_bytes_max: Some(outbox_bytes_max.saturating_sub(LIST_BYTES)),
        }
    }

    fn listed_bytes(&self, user: &str, info: &str) -> usize {
        listed_bytes(user, info)
    }

    fn list(&self, members: &mut dyn Iterator<Item = (&str, &str)>) -> Box<str> {
        list(members).into()
    }

    fn publication(
        &self,
        app: &str,
        change: &PresenceChange<'_>,
        draft: &mut Draft,

        now: Now,
    ) -> Option<Publication> {
        let (event, channel, data) = match *change {
            PresenceChange::Added(channel, user, info) => {
                let data = format!(r#"{{"user_id":{},"user_info":{info}}}"#, quoted(user));
                ("pusher_internal:member_added", channel, data)
            }
            PresenceChange::Removed(channel, user) => {
                let data = format!(r#"{{"user_id":{}}}"#, quoted(user));
                ("pusher_internal:member_removed", channel, data)
            }
            PresenceChange::Count(channel, count) => {
                let data = format!(r#"{{"subscription_count":{count}}}"#);
                ("pusher_internal:subscription_count", channel, data)
            }
            PresenceChange::Occupied(_)
            | PresenceChange::Vacated(_)
            | PresenceChange::Missed(_) => {
                return None;
            }
        };
        draft.address(&topic(app, channel), b"");
        draft.text(|out| put_frame(event, channel, &data, out));
        Some(draft.finish(now))
    }

    fn webhook(&self, app: &str, change: &PresenceChange<'_>) -> Option<Webhook> {
        // Before the JSON is made, as most apps have none.
        if !self.by_id(app)?.has_webhooks() {
            return None;
        }

        let (name, channel, user) = match *change {
            PresenceChange::Occupied(channel) => (WebhookName::ChannelOccupied, channel, None),
            PresenceChange::Vacated(channel) => (WebhookName::ChannelVacated, channel, None),
            PresenceChange::Added(channel, user, _) => {
                (WebhookName::MemberAdded, channel, Some(user))
            }
            PresenceChange::Removed(channel, user) => {
                (WebhookName::MemberRemoved, channel, Some(user))
            }
            PresenceChange::Missed(channel) => (WebhookName::CacheMiss, channel, None),
            PresenceChange::Count(channel, _) => (WebhookName::SubscriptionCount, channel, None),
        };
        let more = match *change {
            PresenceChange::Count(_, count) => format!(r#","subscription_count":{count}"#),
            _ => user.map_or_else(String::new, |user| format!(r#","user_id":{}"#, quoted(user))),
        };

        let json = format!(r#"{{"name":"{}","channel":{}{more}}}"#, name_of(name), quoted(channel));
        // Events of one subject cancel each other out while they wait: a leave and the join that
        // follows it.
        let subject = user.map_or_else(|| channel.to_owned(), |user| format!("{channel}\0{user}"));
        Some(webhook(app, name, &subject, json))
    }

    fn retained(&self, app: &str, channel: &str) -> Option<(Vec<u8>, usize)> {
        ChannelKind::of(channel).filter(|kind| kind.is_cache)?;
        let entries_max = self.by_id(app)?.settings.cache_entries_max;
        Some((topic(app, channel).concat(), entries_max))
    }
}

/// An event for an app's webhooks.
pub(super) fn webhook(app: &str, name: WebhookName, subject: &str, json: String) -> Webhook {
    Webhook::Event(WebhookEvent {
        app: app.into(),
        name,
        subject: subject.into(),
        json: json.into(),
        receipt: None,
    })
}

/// A question to the owner of a channel of an app.
pub(super) fn question(app: &Arc<str>, request: PresenceRequest) -> Question {
    Question::Presence(Box::new(PresenceQuestion::new(Arc::clone(app), request)))
}

/// The protocol's name of a change of presence.
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

/// Bytes of the frame with the list of a presence channel's members, besides the members
/// themselves: 200 of text, 10 of the header, 10 digits of the count, and the longest name of a
/// channel.
pub(super) const LIST_BYTES: usize = 512;

/// Bytes of a member in that frame, in which the list is a JSON string.
#[must_use]
pub fn listed_bytes(user: &str, info: &str) -> usize {
    // The string's quotes are not each member's; a colon and two commas are.
    let inside = |json: &str| quoted(json).len() - 2;
    2 * inside(&quoted(user)) + inside(info) + 3
}

/// The members of a presence channel, for a member who joins: JSON.
fn list(members: &mut dyn Iterator<Item = (&str, &str)>) -> String {
    // Two texts, because the protocol lists the ids before the members' info.
    let (mut count, mut ids, mut hash) = (0, String::new(), String::new());
    for (user, info) in members {
        let (comma, user) = (if count > 0 { "," } else { "" }, quoted(user));
        ids.extend([comma, &user]);
        hash.extend([comma, &user, ":", info]);
        count += 1;
    }
    format!(r#"{{"presence":{{"count":{count},"ids":[{ids}],"hash":{{{hash}}}}}}}"#)
}

/// The reply to a member who joins, with the list of members. It goes to that member alone.
pub(super) fn succeeded(
    app: &str,
    channel: &str,
    list: &str,
    context: &mut Context<'_>,
) -> Publication {
    let draft = &mut *context.draft;
    draft.address(&topic(app, channel), b"");
    draft.text(|out| put_frame("pusher_internal:subscription_succeeded", channel, list, out));
    draft.finish(context.now)
}

/// The last event of a cache channel as subscribers received it, JSON, with the seconds for which
/// it is still kept. `None` when there is none.
#[must_use]
fn kept(app: &str, channel: &str, retained: &Retained, now: Now) -> Option<String> {
    let publication = retained.last(&topic_of(app, channel), now)?;
    // The frame is the stored form, so the event is read back from it rather than kept twice.
    let event = std::str::from_utf8(payload(publication.frame(0))).ok()?;
    let event = event.strip_suffix('}')?;
    let passed_s = now.monotonic_ns.saturating_sub(publication.accepted.monotonic_ns) / SECOND_NS;
    // An event that is kept forever has no time to live.
    let left = (publication.retain_s < u32::MAX)
        .then(|| format!(r#","ttl":{}"#, u64::from(publication.retain_s).saturating_sub(passed_s)));
    Some(format!("{event}{}}}", left.unwrap_or_default()))
}

/// The body of the response to an inquiry about an app's channels.
pub(super) fn answer(
    app: &str,
    inquiry: &ChannelInquiry,
    answer: &PresenceAnswer,
    retained: &Retained,
    now: Now,
) -> String {
    let (channels, users): (&[ChannelCounts], &[Box<str>]) = match answer {
        PresenceAnswer::Channels(channels) => (channels, &[]),
        PresenceAnswer::Users(users) => (&[], users),
        _ => (&[], &[]),
    };
    let found = |name: &str| channels.iter().find(|channel| &*channel.name == name);
    match inquiry {
        ChannelInquiry::Channels { wanted, .. } => {
            // A user's own channel is for the app alone to see.
            let listed = channels.iter().filter(|channel| !channel.name.starts_with('#'));
            let entries = listed.map(|channel| {
                format!("{}:{{{}}}", quoted(&channel.name), counts(Some(channel), *wanted))
            });
            format!(r#"{{"channels":{{{}}}}}"#, joined(entries))
        }
        ChannelInquiry::Channel(name, wanted) => {
            // Every count that was asked for is in the answer, 0 for an empty channel.
            let occupied = found(name).is_some();
            let counts = counts(found(name), *wanted);
            let comma = if counts.is_empty() { "" } else { "," };
            let kept = if wanted.kept { kept(app, name, retained, now) } else { None };
            let kept = kept.map_or_else(String::new, |event| format!(r#","cache":{event}"#));
            format!(r#"{{"occupied":{occupied}{comma}{counts}{kept}}}"#)
        }
        ChannelInquiry::Users(_) => {
            let users = users.iter().map(|user| format!(r#"{{"id":{}}}"#, quoted(user)));
            format!(r#"{{"users":[{}]}}"#, joined(users))
        }
        // The connections have been closed already.
        ChannelInquiry::Dismiss(_) => "{}".to_owned(),
        ChannelInquiry::Connections(_) => {
            let PresenceAnswer::Connections(connections) = answer else { return "{}".to_owned() };
            format!(r#"{{"connections":{connections}}}"#)
        }
        // What was published is not to be published again for want of its counts.
        ChannelInquiry::Counts(named) if matches!(answer, PresenceAnswer::Unavailable) => {
            let entries = named.iter().map(|(name, _)| format!("{}:{{}}", quoted(name)));
            format!(r#"{{"channels":{{{}}}}}"#, joined(entries))
        }
        ChannelInquiry::Batch(named) if matches!(answer, PresenceAnswer::Unavailable) => {
            format!(r#"{{"batch":[{}]}}"#, joined(named.iter().map(|_| "{}".to_owned())))
        }
        ChannelInquiry::Counts(named) => {
            let entries = named.iter().map(|(name, wanted)| {
                format!("{}:{{{}}}", quoted(name), counts(found(name), *wanted))
            });
            format!(r#"{{"channels":{{{}}}}}"#, joined(entries))
        }
        ChannelInquiry::Batch(named) => {
            let entries = named.iter().map(|named| match named {
                Some((name, wanted)) => format!("{{{}}}", counts(found(name), *wanted)),
                None => "{}".to_owned(),
            });
            format!(r#"{{"batch":[{}]}}"#, joined(entries))
        }
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

/// The counts that were asked for of a channel, which may be empty, as members of an object.
fn counts(channel: Option<&ChannelCounts>, wanted: WantedCounts) -> String {
    // The owner counts users of presence channels only.
    let users = channel.and_then(|channel| channel.users).unwrap_or(0);
    let users = wanted.users.then(|| format!(r#""user_count":{users}"#));
    let subscriptions = channel.map_or(0, |channel| channel.subscriptions);
    let subscriptions =
        wanted.subscriptions.then(|| format!(r#""subscription_count":{subscriptions}"#));
    joined(users.into_iter().chain(subscriptions))
}

/// A server event: `data` is JSON, sent as a string that contains it.
pub(super) fn put_frame(event: &str, channel: &str, data: &str, out: &mut Vec<u8>) {
    for (key, value) in
        [(r#"{"event":"#, event), (r#","channel":"#, channel), (r#","data":"#, data)]
    {
        out.extend_from_slice(key.as_bytes());
        serde_json::to_writer(&mut *out, value).expect("writing to a Vec cannot fail");
    }
    out.push(b'}');
}
