//! Presence: who is in which channel.
//!
//! Each channel is owned by one shard, chosen by a hash of app and channel name. The other shards
//! send it what their connections do ([`PresenceQuestion`]); it answers individual connections
//! ([`PresenceAnswer`]) and announces changes to all subscribers ([`PresenceChange`]), in one
//! order. Its output leaves in that order, so a list of members and the changes after it neither
//! overlap nor leave a gap, whichever shards the members are on.
//!
//! In reading order: `question` defines the requests, which shard owns a channel, and the answers;
//! `count` says when a channel's number of subscriptions is told; `app` keeps the channels of one
//! app; `handover` passes them to another process.

mod app;
mod count;
mod handover;
mod question;

pub use self::app::{AppPresence, Joined, Newcomer, PresenceChange, PresenceRules};
pub use self::count::{CountPace, CountStep, WaitingCounts};
pub use self::handover::FrozenPresence;
pub use self::question::{
    ChannelCounts, ChannelInquiry, OccupiedChannels, PresenceAnswer, PresenceQuestion,
    PresenceRequest, WantedCounts,
};

use super::webhook::Webhook;
use super::{Answer, ConnectionRef, Effect, Question, Service};
use crate::frame::{Draft, Publication};
use crate::retained::Retained;
use crate::wheel::Now;
use ahash::AHashMap;

/// How a dialect words presence changes, and the rules it applies.
pub trait PresenceVoice {
    /// The rules of an app. `outbox_bytes_max` is the limit on bytes queued for one client.
    fn rules(&self, app: &str, outbox_bytes_max: usize) -> PresenceRules;

    /// Bytes that a member occupies in the list of members.
    fn listed_bytes(&self, user: &str, info: &str) -> usize;

    /// The list of a channel's members, each with the data it shows, for a new member.
    fn list(&self, members: &mut dyn Iterator<Item = (&str, &str)>) -> Box<str>;

    /// The publication that announces a change to a channel's subscribers; `None` for a silent one.
    fn publication(
        &self,
        app: &str,
        change: &PresenceChange<'_>,
        draft: &mut Draft,
        now: Now,
    ) -> Option<Publication>;

    /// The webhook that announces a change to the app's own server; `None` for a silent one.
    fn webhook(&self, app: &str, change: &PresenceChange<'_>) -> Option<Webhook>;

    /// The topic of a channel, and the app's limit on retained publications; `None` when the
    /// channel retains nothing.
    fn retained(&self, app: &str, channel: &str) -> Option<(Vec<u8>, usize)>;
}

/// The channels that one shard owns, by app.
#[derive(Debug, Default)]
pub struct Presence {
    apps: AHashMap<Box<str>, AppPresence>,
}

/// What the shard lends presence for one step.
pub struct PresenceHost<'a> {
    /// The dialect's wording and rules; `None` for a dialect without presence.
    pub voice: Option<&'a dyn PresenceVoice>,
    /// Retained publications, by topic.
    pub retained: &'a mut Retained,
    /// Builds publications.
    pub draft: &'a mut Draft,
    /// The limit on bytes queued for one client.
    pub outbox_bytes_max: usize,
    /// Receives the effects, in order.
    pub say: &'a mut dyn FnMut(Effect),
}

impl PresenceHost<'_> {
    fn tell(
        &mut self,
        voice: &dyn PresenceVoice,
        app: &str,
        change: &PresenceChange<'_>,
        now: Now,
    ) {
        if let Some(publication) = voice.publication(app, change, self.draft, now) {
            (self.say)(Effect::Publication(publication));
        }
        if let Some(webhook) = voice.webhook(app, change) {
            (self.say)(Effect::Ask(Question::Webhook(Box::new(webhook))));
        }
    }

    fn answer(&mut self, connection: ConnectionRef, answer: PresenceAnswer) {
        (self.say)(Effect::Answer(connection, Answer::Presence(answer)));
    }
}

impl Presence {
    /// Whether no channel here is occupied.
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty()
    }

    /// Apps with an occupied channel here.
    pub fn apps(&self) -> impl Iterator<Item = &str> {
        self.apps.keys().map(|app| &**app)
    }

    /// A subscriber found nothing retained in a cache channel. Announces the miss once until
    /// something is retained again; a publication that arrived here meanwhile is already on its way
    /// to that subscriber.
    fn miss(&self, app: &str, channel: &str, now: Now, host: &mut PresenceHost<'_>) {
        let Some(voice) = host.voice else { return };
        // A channel that retains nothing cannot miss anything.
        let Some((topic, entries_max)) = voice.retained(app, channel) else { return };
        if host.retained.miss(&topic, entries_max, now) {
            host.tell(voice, app, &PresenceChange::Missed(channel), now);
        }
    }

    fn inquire(
        &self,
        from: ConnectionRef,
        app: &str,
        inquiry: &ChannelInquiry,
        host: &mut PresenceHost<'_>,
    ) {
        static EMPTY: AppPresence = AppPresence::new();
        let presence = self.apps.get(app).unwrap_or(&EMPTY);
        if let ChannelInquiry::Dismiss(user) = inquiry {
            // Dismissing a connection twice does no harm: the second answer finds it gone.
            presence
                .connections(user)
                .for_each(|connection| host.answer(connection, PresenceAnswer::Dismissed));
        }
        host.answer(from, presence.answer(inquiry));
    }
}

impl Service for Presence {
    type Question = PresenceQuestion;
    type Out<'a> = PresenceHost<'a>;

    fn ask(
        &mut self,
        from: ConnectionRef,
        question: PresenceQuestion,
        now: Now,
        host: &mut PresenceHost<'_>,
    ) {
        let PresenceQuestion { app, request, .. } = question;
        let Some(voice) = host.voice else { return };
        let now_ms = now.monotonic_ns / 1_000_000;
        match &request {
            PresenceRequest::Miss(channel) => return self.miss(&app, channel, now, host),
            PresenceRequest::Inquire(inquiry) => return self.inquire(from, &app, inquiry, host),
            // Leaving an app without channels must not create its entry.
            PresenceRequest::Leave(_) if !self.apps.contains_key(&*app) => return,
            _ => {}
        }

        let presence = match self.apps.get_mut(&*app) {
            Some(presence) => presence,
            None => self.apps.entry((&*app).into()).or_default(),
        };
        let rules = voice.rules(&app, host.outbox_bytes_max);
        let tell = &mut |change: PresenceChange<'_>| host.tell(voice, &app, &change, now);
        match request {
            PresenceRequest::Enter(channel) => presence.enter(&channel, rules, now_ms, tell),
            PresenceRequest::Leave(channel) => presence.leave(from, &channel, rules, now_ms, tell),
            PresenceRequest::Join { channel, user, info } => {
                let listed_bytes = voice.listed_bytes(&user, &info);
                let newcomer =
                    Newcomer { channel: &channel, user: &user, info: &info, listed_bytes };
                let answer = match presence.join(from, newcomer, rules, tell) {
                    Joined::Present => {
                        let list = voice.list(&mut presence.members(&channel));
                        PresenceAnswer::Present { channel, list }
                    }
                    Joined::Full => PresenceAnswer::Full(channel),
                    Joined::TooLong => PresenceAnswer::TooLong(channel),
                };
                host.answer(from, answer);
            }
            PresenceRequest::Miss(_) | PresenceRequest::Inquire(_) => {}
        }

        // Memory follows the current subscriptions: an app whose last channel is vacated goes.
        if presence.is_empty() {
            self.apps.remove(&*app);
        }
    }

    /// Announces the subscription counts that are due.
    fn tick(&mut self, now: Now, host: &mut PresenceHost<'_>) {
        let Some(voice) = host.voice else { return };
        let now_ms = now.monotonic_ns / 1_000_000;
        for (app, presence) in self.apps.iter_mut().filter(|(_, presence)| presence.is_due(now_ms))
        {
            presence.tick(now_ms, &mut |change| host.tell(voice, app, &change, now));
        }
    }

    fn next_at_ns(&self) -> Option<u64> {
        let due_ms = self.apps.values().filter_map(AppPresence::due_at_ms).min();
        due_ms.map(|due_ms| due_ms * 1_000_000)
    }
}
