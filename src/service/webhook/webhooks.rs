//! All webhooks of all apps of `echo`. Each has its own queue, so that none waits for another that
//! fails.

use super::hook::{AppEvent, Hook};
use super::news::WebhookNews;
use super::question::{StatusReply, WebhookEvent, WebhookReceipt};
use super::receipts::{Accounts, WebhookLease};
use super::settings::{WebhookApp, WebhookSettings};
use crate::wheel::Now;
use ahash::RandomState;
use http::Request;
use std::collections::HashMap;
use std::sync::Arc;

/// Limit on concurrent requests over all webhooks: no more than a daemon has descriptors to spare.
/// Failing ones pause between requests, so a few that hang do not block the others.
const CONCURRENCY_MAX: usize = 64;

/// The hooks of all apps, served in turn.
#[derive(Default)]
pub(super) struct AppWebhooks {
    pub(super) hooks: Vec<Hook>,
    /// Indexes of an app's hooks, by the app's id.
    of_app: HashMap<Box<str>, Vec<usize>, RandomState>,
    /// Index of the hook served last.
    turn: usize,
    under_way: usize,
    pub(super) last_number: u64,
    hurried: bool,
    lease: Arc<WebhookLease>,
    /// Whether the lease was over when a request was last looked for.
    is_paused: bool,
    pub(super) accounts: Accounts,
}

/// A request in flight: the number of its hook, and its lane there.
pub struct HookCall(u64, usize);

impl AppWebhooks {
    pub(super) fn new(lease: Arc<WebhookLease>) -> Self {
        Self { lease, ..Self::default() }
    }

    /// Replaces the webhooks. Those that stay, by app and URL, keep their queues; the queues of
    /// removed ones are dropped.
    pub(super) fn configure(&mut self, webhooks: Vec<(WebhookApp, WebhookSettings)>, now: Now) {
        let mut former = std::mem::take(&mut self.hooks);
        for (app, settings) in webhooks {
            let known = former
                .iter()
                // A changed URL may be another service: it must not receive what was queued for the
                // former.
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
        former.into_iter().for_each(|hook| hook.close(&mut self.accounts));
        self.of_app.clear();
        for (place, hook) in self.hooks.iter().enumerate() {
            self.of_app.entry(hook.app.id.clone()).or_default().push(place);
        }
        if self.hurried {
            self.hurry(now);
        }
    }

    /// Queues an event for its app's webhooks that subscribe to it. One whose receipt is held
    /// already is queued already.
    pub(super) fn take(&mut self, webhook: WebhookEvent, now: Now) -> Vec<WebhookNews> {
        let WebhookEvent { app, name, subject, json, receipt } = webhook;
        if receipt.is_some_and(|receipt| !self.accounts.begin(receipt)) {
            return Vec::new();
        }
        let event = AppEvent { name, subject: subject.into(), json: json.into(), receipt };
        let (hooks, accounts) = (&mut self.hooks, &mut self.accounts);
        let places = self.of_app.get(&app).into_iter().flatten();
        let news = places.filter_map(|place| hooks[*place].take(&event, accounts, now)).collect();
        self.accounts.release(receipt);
        news
    }

    /// The next request to send, with its timeout in seconds; `None` when none is due or the limit
    /// of concurrent requests is reached.
    pub(super) fn next(&mut self, now: Now) -> Option<(HookCall, u64, Request<String>)> {
        self.is_paused = self.lease.is_over(now);
        if self.under_way >= CONCURRENCY_MAX {
            return None;
        }
        // Starts after the hook served last, so that a busy one does not starve the others.
        let count = self.hooks.len();
        for _ in 0..count {
            self.turn = (self.turn + 1) % count;
            let hook = &mut self.hooks[self.turn];
            if let Some((lane, request)) = hook.next(self.is_paused, &mut self.accounts, now) {
                self.under_way += 1;
                return Some((HookCall(hook.number, lane), hook.settings.timeout_s, request));
            }
        }
        None
    }

    /// Handles the outcome of a request.
    pub(super) fn replied(
        &mut self,
        call: HookCall,
        reply: StatusReply,
        now: Now,
    ) -> Option<WebhookNews> {
        self.under_way -= 1;
        // A reload may have removed the hook.
        let hook = self.hooks.iter_mut().find(|hook| hook.number == call.0)?;
        hook.replied(call.1, reply, &mut self.accounts, now)
    }

    /// Prepares for shutdown: departures are not held back any longer.
    pub(super) fn hurry(&mut self, now: Now) {
        self.hurried = true;
        self.hooks.iter_mut().for_each(|hook| hook.hurry(now, &mut self.accounts));
    }

    /// Drops the events with receipts of a partition, which are not told and not settled here.
    pub(super) fn forget(&mut self, partition: u8) {
        self.hooks.iter_mut().for_each(|hook| hook.forget(partition));
        self.accounts.forget(partition);
    }

    /// The receipts that were settled since the last call.
    pub(super) fn take_settled(&mut self) -> Vec<WebhookReceipt> {
        self.accounts.take_settled()
    }

    /// When a hook next has work to do. `None` while the limit of concurrent requests is reached: a
    /// reply has to come first.
    pub(super) fn wakes_at_ns(&self) -> Option<u64> {
        let has_room = self.under_way < CONCURRENCY_MAX;
        let hooks = self.hooks.iter().filter(|_| has_room);
        hooks.filter_map(|hook| hook.wakes_at_ns(self.is_paused)).min()
    }

    /// Events queued, held back or in flight.
    pub(super) fn waiting(&self) -> usize {
        self.hooks.iter().map(Hook::waiting).sum()
    }

    /// Those of them that a journal knows.
    pub(super) fn journaled(&self) -> usize {
        self.hooks.iter().map(Hook::journaled).sum()
    }
}
