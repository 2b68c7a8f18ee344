//! All webhooks of all apps of `echo`: each tells its own, so that none waits for another that fails.

use super::hook::{Hook, ToldEvent};
use super::news::{WebhookNews, WebhookTally};
use super::question::{StatusReply, WebhookEvent};
use super::settings::{WebhookApp, WebhookSettings};
use crate::wheel::Now;
use ahash::RandomState;
use http::Request;
use std::collections::HashMap;

/// Requests at the same time, over all webhooks: no more than a daemon has descriptors to spare. Those that fail
/// pause, so that a few that hang keep nobody else from being told.
const CONCURRENCY_MAX: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct AppWebhooks {
    hooks: Vec<Hook>,
    /// Where the hooks of an app are, by its id.
    of_app: HashMap<Box<str>, Vec<usize>, RandomState>,
    /// Where the next request is looked for first.
    turn: usize,
    under_way: usize,
    last_number: u64,
    hurried: bool,
    pub(super) tally: WebhookTally,
}

/// A request that is under way: the number of its hook.
pub struct HookCall(u64);

impl AppWebhooks {
    /// Tells those who are named here from now on. Whoever stays, by app and URL, keeps what waits for it; what waits
    /// for others is dropped.
    pub(super) fn configure(&mut self, webhooks: Vec<(WebhookApp, WebhookSettings)>, now: Now) {
        let mut former = std::mem::take(&mut self.hooks);
        for (app, settings) in webhooks {
            let known = former
                .iter()
                .position(|hook| hook.app.id == app.id && hook.settings.url == settings.url);
            match known {
                Some(place) => {
                    let mut hook = former.remove(place);
                    (hook.app, hook.settings) = (app, settings);
                    self.hooks.push(hook);
                }
                None => {
                    self.last_number += 1;
                    self.hooks.extend(Hook::new(self.last_number, app, settings));
                }
            }
        }
        self.tally.dropped += former.iter().map(|hook| hook.waiting() as u64).sum::<u64>();
        self.of_app.clear();
        for (place, hook) in self.hooks.iter().enumerate() {
            self.of_app.entry(hook.app.id.clone()).or_default().push(place);
        }
        if self.hurried {
            self.hurry(now);
        }
    }

    /// Queues an event for those webhooks of its app that want it.
    pub(super) fn take(&mut self, webhook: WebhookEvent, now: Now) -> Vec<WebhookNews> {
        let Some(places) = self.of_app.get(&webhook.app) else { return Vec::new() };
        let WebhookEvent { name, subject, json, .. } = webhook;
        let told = ToldEvent { name, subject: subject.into(), json: json.into() };
        let (hooks, tally) = (&mut self.hooks, &mut self.tally);
        places.iter().filter_map(|place| hooks[*place].take(&told, tally, now)).collect()
    }

    /// The next request to send, if there is one and room for it, and the seconds it may take.
    pub(super) fn next(&mut self, now: Now) -> Option<(HookCall, u64, Request<String>)> {
        if self.under_way >= CONCURRENCY_MAX {
            return None;
        }
        let count = self.hooks.len();
        for _ in 0..count {
            self.turn = (self.turn + 1) % count;
            let hook = &mut self.hooks[self.turn];
            if let Some(request) = hook.next(&mut self.tally, now) {
                self.under_way += 1;
                return Some((HookCall(hook.number), hook.settings.timeout_s, request));
            }
        }
        None
    }

    /// What became of a request.
    pub(super) fn replied(
        &mut self,
        call: HookCall,
        reply: StatusReply,
        now: Now,
    ) -> Option<WebhookNews> {
        self.under_way -= 1;
        // A reload may have taken the hook away.
        let hook = self.hooks.iter_mut().find(|hook| hook.number == call.0)?;
        hook.replied(reply, &mut self.tally, now)
    }

    /// Nobody's return is waited for any longer.
    pub(super) fn hurry(&mut self, now: Now) {
        self.hurried = true;
        self.hooks.iter_mut().for_each(|hook| hook.hurry(now));
    }

    /// When there is something to do. Nothing while there is no room for another request: the next reply comes first.
    pub(super) fn wakes_at_ns(&self) -> Option<u64> {
        let has_room = self.under_way < CONCURRENCY_MAX;
        self.hooks.iter().filter(|_| has_room).filter_map(Hook::wakes_at_ns).min()
    }

    /// Events that wait or are under way.
    pub(super) fn waiting(&self) -> usize {
        self.hooks.iter().map(Hook::waiting).sum()
    }
}
