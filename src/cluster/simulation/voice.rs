//! Presence in words that the simulation reads back.

use crate::frame::{Draft, Publication};
use crate::service::presence::{PresenceChange, PresenceRules, PresenceVoice};
use crate::service::webhook::{Webhook, WebhookEvent, WebhookName};
use crate::wheel::Now;
use serde::{Deserialize, Serialize};

/// An app without limits, with webhooks and counts.
pub(super) const OPEN: &str = "1";
/// An app whose channels have few members.
pub(super) const SMALL: &str = "2";
/// An app whose lists must be short.
pub(super) const SHORT: &str = "3";
pub(super) const APPS: [&str; 3] = [OPEN, SMALL, SHORT];

/// Members in a channel of [`SMALL`].
pub(super) const MEMBERS_MAX: usize = 3;
/// Bytes of a list in [`SHORT`], which [`listed`] counts.
pub(super) const LIST_BYTES_MAX: usize = 40;

/// A change as connections are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    Added(String, String),
    Removed(String),
    Count(u32),
}

pub(super) fn listed(user: &str, info: &str) -> usize {
    user.len() + info.len() + 2
}

#[derive(Debug)]
pub(super) struct SimVoice;

impl PresenceVoice for SimVoice {
    fn rules(&self, app: &str, _: usize) -> PresenceRules {
        PresenceRules {
            members_max: if app == SMALL { MEMBERS_MAX as u32 } else { 0 },
            counts: app == OPEN,
            list_bytes_max: (app == SHORT).then_some(LIST_BYTES_MAX),
        }
    }

    fn listed_bytes(&self, user: &str, info: &str) -> usize {
        listed(user, info)
    }

    fn list(&self, members: &mut dyn Iterator<Item = (&str, &str)>) -> Box<str> {
        serde_json::to_string(&members.collect::<Vec<_>>()).unwrap().into()
    }

    fn publication(
        &self,
        app: &str,
        change: &PresenceChange<'_>,
        draft: &mut Draft,
        now: Now,
    ) -> Option<Publication> {
        let (channel, told) = match *change {
            PresenceChange::Added(channel, user, info) => {
                (channel, Told::Added(user.into(), info.into()))
            }
            PresenceChange::Removed(channel, user) => (channel, Told::Removed(user.into())),
            PresenceChange::Count(channel, count) => (channel, Told::Count(count)),
            _ => return None,
        };
        draft.address(&[app.as_bytes(), b"\0", channel.as_bytes()], b"");
        draft.meta(&serde_json::to_vec(&told).unwrap());
        Some(draft.finish(now))
    }

    fn webhook(&self, app: &str, change: &PresenceChange<'_>) -> Option<Webhook> {
        let (name, subject) = match *change {
            PresenceChange::Occupied(channel) => (WebhookName::ChannelOccupied, channel.to_owned()),
            PresenceChange::Vacated(channel) => (WebhookName::ChannelVacated, channel.to_owned()),
            PresenceChange::Added(channel, user, _) => {
                (WebhookName::MemberAdded, format!("{channel} {user}"))
            }
            PresenceChange::Removed(channel, user) => {
                (WebhookName::MemberRemoved, format!("{channel} {user}"))
            }
            PresenceChange::Missed(channel) => (WebhookName::CacheMiss, channel.to_owned()),
            PresenceChange::Count(..) => return None,
        };
        let json = format!("{change:?}").into();
        let (app_id, subject) = (app.into(), subject.into());
        let event = WebhookEvent { app: app_id, name, subject, json, receipt: None };
        (app == OPEN).then_some(Webhook::Event(event))
    }

    fn retained(&self, _: &str, channel: &str) -> Option<(Vec<u8>, usize)> {
        channel.starts_with("cache-").then(|| (channel.into(), 0))
    }
}

/// App, channel and change of a publication.
pub(super) fn read(publication: &Publication) -> (String, String, Told) {
    let topic = std::str::from_utf8(publication.topic()).unwrap();
    let (app, channel) = topic.split_once('\0').unwrap();
    (app.into(), channel.into(), serde_json::from_slice(publication.meta()).unwrap())
}

/// The members of a list.
pub(super) fn members(list: &str) -> Vec<(String, String)> {
    serde_json::from_str(list).unwrap()
}
