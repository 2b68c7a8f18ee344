//! Queued webhooks as data, for another process.
//!
//! What is under way is passed too: its outcome is not known, and told twice is better than not
//! told. Events that a journal knows stay with the journal.

use super::WebhookService;
use super::callbacks::Callbacks;
use super::departures::{Departure, DeparturePair};
use super::hook::{Hook, PLAIN};
use super::lane::HookLane;
use super::news::WebhookNews;
use super::question::Callback;
use super::webhooks::AppWebhooks;
use crate::wheel::Now;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A queued webhook, as data.
#[derive(Debug, Serialize, Deserialize)]
pub enum FrozenWebhook {
    /// For the callback of `channel`.
    Callback(Callback),
    /// For one webhook of an app.
    Event(FrozenEvent),
}

/// An event for one webhook, as data. Moments are of the monotonic clock.
#[derive(Debug, Serialize, Deserialize)]
pub struct FrozenEvent {
    /// The app's id.
    app: Box<str>,
    /// A digest of the webhook's URL.
    url: Box<str>,
    /// The event; `None` for a departure that is held back only for the return.
    json: Option<Arc<str>>,
    /// When it was queued, or until when the departure is held back.
    at_ns: u64,
    /// Of a departure that is held back: who has left.
    #[serde(default)]
    departure: Option<(DeparturePair, Arc<str>)>,
}

impl WebhookService {
    /// Everything that is queued, held back or under way, in order.
    #[must_use]
    pub fn export(&self) -> Vec<FrozenWebhook> {
        let callbacks = self.callbacks.all().cloned().map(FrozenWebhook::Callback);
        let events = self.webhooks.hooks.iter().flat_map(Hook::export);
        callbacks.chain(events.map(FrozenWebhook::Event)).collect()
    }

    /// Drops what has been exported, because another process tells it. Requests under way go on,
    /// and their outcome does not matter.
    pub fn give_away(&mut self) {
        self.callbacks.clear();
        self.webhooks.give_away();
    }

    /// Queues a webhook of another process, if it has its recipient here too.
    pub fn import(&mut self, webhook: FrozenWebhook, now: Now) {
        self.news.extend(match webhook {
            FrozenWebhook::Callback(callback) => self.callbacks.take(callback, now),
            FrozenWebhook::Event(event) => self.webhooks.import(event, now),
        });
    }
}

impl Callbacks {
    /// All calls, those of each channel in order.
    fn all(&self) -> impl Iterator<Item = &Callback> {
        self.lines.values().flat_map(|line| &line.calls)
    }
}

impl AppWebhooks {
    fn give_away(&mut self) {
        for hook in &mut self.hooks {
            // By its number it would take the reply to a request under way for the next one's.
            self.last_number += 1;
            hook.number = self.last_number;
            hook.give_away();
        }
    }

    fn import(&mut self, event: FrozenEvent, now: Now) -> Option<WebhookNews> {
        let is_to =
            |hook: &&mut Hook| hook.app.id == event.app && hook.settings.url.digest() == *event.url;
        let hook = self.hooks.iter_mut().find(is_to)?;
        hook.import(event);
        hook.make_room(&mut self.accounts, now)
    }
}

impl Hook {
    fn give_away(&mut self) {
        self.lanes[PLAIN] = HookLane::default();
        self.departures.drain(|departure| departure.receipt.is_none());
    }

    fn export(&self) -> Vec<FrozenEvent> {
        let url: Box<str> = self.settings.url.digest().into();
        let frozen = |json: &Option<Arc<str>>, at_ns, departure| FrozenEvent {
            app: self.app.id.clone(),
            url: url.clone(),
            json: json.clone(),
            at_ns,
            departure,
        };
        let queued = self.plain().map(|event| frozen(&Some(event.json.clone()), event.at_ns, None));
        let departures =
            self.departures.all().filter(|(.., departure)| departure.receipt.is_none());
        let departures = departures.map(|(until_ns, subject, departure)| {
            frozen(&departure.json, until_ns, Some(subject.clone()))
        });
        queued.chain(departures).collect()
    }

    fn import(&mut self, event: FrozenEvent) {
        let FrozenEvent { json, at_ns, departure, .. } = event;
        match (departure, json) {
            (Some((pair, subject)), json) => {
                let departure = Departure { json, receipt: None };
                self.departures.hold(pair, &subject, departure, at_ns);
            }
            (None, Some(json)) => self.push(at_ns, json, None),
            (None, None) => {}
        }
    }
}
