//! Presence: who is in which channel.
//!
//! One shard owns a channel, told by the app and the channel's name. The others tell it what happens
//! ([`PresenceQuestion`]); it answers the connection that is to know ([`PresenceAnswer`]) and names what has changed for
//! everybody ([`PresenceChange`]), in one order. What it says leaves in that order, so a list of members and the changes
//! after it neither overlap nor leave a gap, wherever the members are.
//!
//! In reading order: `question` is what is asked and answered, `app` the channels of one app.

mod app;
mod question;

pub use self::app::{AppPresence, Joined, Newcomer, PresenceChange, PresenceRules};
pub use self::question::{
    ChannelCounts, ChannelInquiry, PresenceAnswer, PresenceQuestion, PresenceRequest, WantedCounts,
};

use super::webhook::Webhook;
use super::{Answer, ConnectionRef, Effect, Question, Service};
use crate::frame::{Draft, Publication};
use crate::retained::Retained;
use crate::wheel::Now;
use ahash::AHashMap;

/// How a dialect tells what presence decides, and by what rules it decides.
pub trait PresenceVoice {
    /// The rules of an app, where so many bytes may wait for a client.
    fn rules(&self, app: &str, outbox_bytes_max: usize) -> PresenceRules;

    /// Bytes that a member takes in the list of members.
    fn listed_bytes(&self, user: &str, info: &str) -> usize;

    /// The list of a channel's members, for one who joins.
    fn list(&self, channel: &str, presence: &AppPresence) -> Box<str>;

    /// What the subscribers of a channel are told of a change.
    fn publication(
        &self,
        app: &str,
        change: &PresenceChange<'_>,
        draft: &mut Draft,
        now: Now,
    ) -> Option<Publication>;

    /// What the app's own server is told of a change.
    fn webhook(&self, app: &str, change: &PresenceChange<'_>) -> Option<Webhook>;

    /// The topic of a channel, and how many last publications of the app are kept; `None` when none is.
    fn retained(&self, app: &str, channel: &str) -> Option<(Vec<u8>, usize)>;
}

/// The channels that one shard owns, by app.
#[derive(Debug, Default)]
pub struct Presence {
    apps: AHashMap<Box<str>, AppPresence>,
}

/// What presence is lent for a step, and where what it says goes.
pub struct PresenceHost<'a> {
    /// How the dialect tells it; `None` for one that has no presence.
    pub voice: Option<&'a dyn PresenceVoice>,
    /// The last publications of topics, as far as they are kept.
    pub retained: &'a mut Retained,
    /// Builds publications.
    pub draft: &'a mut Draft,
    /// Bytes that may wait for a client.
    pub outbox_bytes_max: usize,
    /// Takes what is said, in order.
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

    /// A connection has found nothing kept in a channel. It is told once, until something is: what has come here
    /// meanwhile is on its way to that connection too.
    fn miss(&self, app: &str, channel: &str, now: Now, host: &mut PresenceHost<'_>) {
        let Some(voice) = host.voice else { return };
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
            // A connection that hears of it twice has gone by then.
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
                        let list = voice.list(&channel, presence);
                        PresenceAnswer::Present { channel, list }
                    }
                    Joined::Full => PresenceAnswer::Full(channel),
                    Joined::TooLong => PresenceAnswer::TooLong(channel),
                };
                host.answer(from, answer);
            }
            PresenceRequest::Miss(_) | PresenceRequest::Inquire(_) => {}
        }

        if presence.is_empty() {
            self.apps.remove(&*app);
        }
    }

    /// Tells the counts whose moment has come.
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
