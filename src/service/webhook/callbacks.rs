//! The calls to the callback of `channel`: one at a time within a channel, concurrent across
//! channels.
//!
//! Each channel that has calls has a line. Its first call is in one of three places: the line is
//! *ready*, the call is *under way*, or it *rests* before its one retry. A retried call keeps its
//! place.

use super::news::{Complaints, WebhookNews, WebhookTally, WebhookTrouble, answered};
use super::question::{Callback, QUEUE_BYTES_MAX, StatusReply};
use super::settings::CallbackSettings;
use crate::endpoint::Endpoint;
use crate::wheel::Now;
use ahash::RandomState;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Request};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Pause before a call is retried.
const RETRY_NS: u64 = 1_000_000_000;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The lines of all channels.
#[derive(Default)]
pub(super) struct Callbacks {
    to: Option<(CallbackSettings, Endpoint)>,
    pub(super) lines: HashMap<Arc<str>, ChannelCalls, RandomState>,
    ready: VecDeque<Arc<str>>,
    resting: BTreeSet<(u64, Arc<str>)>,
    /// Calls queued or under way.
    held: usize,
    /// Calls not under way, and their bytes.
    queued: usize,
    queued_bytes: usize,
    under_way: usize,
    last_number: u64,
    pub(super) tally: WebhookTally,
    complaints: Complaints,
}

/// The line of one channel; never empty.
#[derive(Default)]
pub(super) struct ChannelCalls {
    pub(super) calls: VecDeque<Callback>,
    /// The number of the first call while it is under way.
    under_way: Option<u64>,
    /// Whether the first call has failed once.
    failed: bool,
}

/// A call in flight.
pub struct CallbackCall {
    channel: Arc<str>,
    number: u64,
}

impl Callbacks {
    /// Replaces the settings. Without any, queued calls are dropped.
    pub(super) fn configure(&mut self, settings: Option<CallbackSettings>) {
        self.to = settings.and_then(|settings| {
            let endpoint = settings.url.endpoint().ok()?;
            Some((settings, endpoint))
        });
        if self.to.is_none() {
            // Counted, so that the totals account for every webhook.
            self.tally.dropped += self.held as u64;
            self.clear();
        }
    }

    /// Forgets all calls. The outcomes of those under way do not matter any more.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.ready.clear();
        self.resting.clear();
        (self.held, self.queued, self.queued_bytes) = (0, 0, 0);
    }

    /// Queues a call for a channel of a configured kind, unless the queue is full.
    pub(super) fn take(&mut self, callback: Callback, now: Now) -> Option<WebhookNews> {
        let (settings, endpoint) = self.to.as_ref()?;
        if !settings.wants(&callback.channel) {
            return None;
        }
        let bytes = callback.bytes();
        // Calls resting before a retry count too: they may not fill memory while the callback is
        // down.
        if self.queued >= settings.queue_max || self.queued_bytes + bytes > QUEUE_BYTES_MAX {
            self.tally.dropped += 1;
            return self.complaints.hear(WebhookTrouble::Full, || name(endpoint), now);
        }
        self.held += 1;
        self.queued += 1;
        self.queued_bytes += bytes;
        match self.lines.get_mut(&*callback.channel) {
            Some(line) => line.calls.push_back(callback),
            None => {
                let channel: Arc<str> = callback.channel.as_ref().into();
                let calls = VecDeque::from([callback]);
                self.lines.insert(
                    Arc::clone(&channel),
                    ChannelCalls { calls, ..ChannelCalls::default() },
                );
                self.ready.push_back(channel);
            }
        }
        None
    }

    /// The next call to make, with its timeout in seconds; `None` when none is ready or the limit
    /// of concurrent calls is reached.
    pub(super) fn next(&mut self, now: Now) -> Option<(CallbackCall, u64, Request<String>)> {
        while let Some((at_ns, _)) = self.resting.first()
            && *at_ns <= now.monotonic_ns
        {
            self.ready.extend(self.resting.pop_first().map(|(_, channel)| channel));
        }
        let (settings, endpoint) = self.to.as_ref()?;
        // A slow callback must not be flooded with calls.
        if self.under_way >= settings.concurrency {
            return None;
        }
        let channel = self.ready.pop_front()?;
        let line = self.lines.get_mut(&channel)?;
        let callback = line.calls.front()?;
        self.queued -= 1;
        self.queued_bytes -= callback.bytes();
        self.under_way += 1;
        self.tally.retried += u64::from(line.failed);
        self.last_number += 1;
        line.under_way = Some(self.last_number);
        let request = request(endpoint, callback);
        Some((CallbackCall { channel, number: self.last_number }, settings.timeout_s, request))
    }

    /// Handles the outcome of a call.
    pub(super) fn replied(
        &mut self,
        call: CallbackCall,
        reply: StatusReply,
        now: Now,
    ) -> Option<WebhookNews> {
        self.under_way -= 1;
        let line = self.lines.get_mut(&call.channel)?;
        // A reload may have dropped the call, and the channel may have a new line since.
        if line.under_way != Some(call.number) {
            return None;
        }
        line.under_way = None;
        let (again, reason) = match reply {
            Ok(200..=299) => {
                self.tally.delivered += 1;
                self.settled(call.channel);
                return None;
            }
            // A refusal below 500 would be repeated; a failure may be transient.
            Ok(status) => ((500..=599).contains(&status), answered(status)),
            Err(reason) => (true, reason),
        };
        let trouble = if again && !line.failed {
            line.failed = true;
            self.queued += 1;
            self.queued_bytes += line.calls.front().map_or(0, Callback::bytes);
            self.resting.insert((now.monotonic_ns + RETRY_NS, call.channel));
            WebhookTrouble::Retried(reason)
        } else {
            self.tally.failed += 1;
            self.settled(call.channel);
            WebhookTrouble::GivenUp(reason)
        };
        let (_, endpoint) = self.to.as_ref()?;
        self.complaints.hear(trouble, || name(endpoint), now)
    }

    /// Ends a channel's first call: the next one is ready.
    fn settled(&mut self, channel: Arc<str>) {
        let Some(line) = self.lines.get_mut(&channel) else { return };
        line.calls.pop_front();
        self.held -= 1;
        line.failed = false;
        if line.calls.is_empty() {
            self.lines.remove(&channel);
        } else {
            self.ready.push_back(channel);
        }
    }

    /// When the first resting call is due.
    pub(super) fn wakes_at_ns(&self) -> Option<u64> {
        self.resting.first().map(|(at_ns, _)| *at_ns)
    }

    /// Calls queued or under way.
    pub(super) fn waiting(&self) -> usize {
        self.held
    }
}

fn request(endpoint: &Endpoint, callback: &Callback) -> Request<String> {
    let mut request = Request::new(callback.body.as_ref().to_owned());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = endpoint.uri().parse().unwrap_or_default();
    let headers = request.headers_mut();
    // A token that does not fit in a header was never granted by a verifier; the callback rejects
    // requests without one.
    if let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", callback.token)) {
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ACCEPT, JSON);
    // The way a proxy in front of the application would pass the client's address on.
    if let Some(client) = callback.client
        && let Ok(client) = HeaderValue::from_str(&client.to_string())
    {
        headers.insert(FORWARDED_FOR, client);
    }
    request
}

fn name(endpoint: &Endpoint) -> String {
    format!("the callback at {}", endpoint.host())
}
