//! One webhook: its queue, the leaves that wait, and the batch that is told.
//!
//! There is one batch at a time, and it stays until it is taken or given up, so everything is told in order. An
//! event opens a window when it comes to an empty queue, and what comes until the window closes goes with it. Leaves
//! come to the queue when their delay is over: what happens meanwhile overtakes them.

use super::delayed::{Delayed, LeaveHalf};
use super::news::{Complaints, WebhookNews, WebhookTally, WebhookTrouble, answered};
use super::question::{QUEUE_BYTES_MAX, StatusReply, WebhookName};
use super::settings::{WebhookApp, WebhookSettings};
use crate::endpoint::Endpoint;
use crate::text::hex;
use crate::wheel::Now;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request};
use ring::hmac;
use std::collections::VecDeque;
use std::sync::Arc;

/// For how long events are gathered.
const WINDOW_NS: u64 = 100_000_000;
/// How long a leave waits for the return of whoever has left.
const DELAY_NS: u64 = 3_000_000_000;
/// Events of one request: with the window, as many a second as a queue holds.
const BATCH_EVENTS_MAX: usize = 1000;
/// Bytes of one request, unless one event alone has more: half of what nginx lets in by default.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// For how long a batch is told again before it is given up.
const PATIENCE_NS: u64 = 300_000_000_000;
/// Pause before a batch is told again, the first time; each time after that it is twice as long.
const PAUSE_S_FIRST: u64 = 1;
/// The longest of them: a service that is back hears from us within a minute.
const PAUSE_S_MAX: u64 = 60;

const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");

/// See the module.
pub(super) struct Hook {
    pub(super) number: u64,
    pub(super) app: WebhookApp,
    pub(super) settings: WebhookSettings,
    endpoint: Endpoint,
    queue: VecDeque<QueuedEvent>,
    queue_bytes: usize,
    delayed: Delayed,
    batch: Option<Batch>,
    /// There is no time to wait for anybody's return, or for more events.
    hurried: bool,
    complaints: Complaints,
}

/// An event in the queue, with when it came there.
struct QueuedEvent {
    at_ns: u64,
    json: Arc<str>,
}

struct Batch {
    body: String,
    events: usize,
    since_ns: u64,
    failures: u32,
    /// When to tell it; nothing while it is under way.
    due_at_ns: Option<u64>,
}

/// What is about to be told to the webhooks of an app.
pub(super) struct ToldEvent {
    pub(super) name: WebhookName,
    pub(super) subject: Arc<str>,
    pub(super) json: Arc<str>,
}

impl Hook {
    /// `None` when nobody can be told anything there.
    pub(super) fn new(number: u64, app: WebhookApp, settings: WebhookSettings) -> Option<Self> {
        Some(Self {
            number,
            endpoint: settings.url.endpoint().ok()?,
            app,
            settings,
            queue: VecDeque::new(),
            queue_bytes: 0,
            delayed: Delayed::default(),
            batch: None,
            hurried: false,
            complaints: Complaints::default(),
        })
    }

    /// An event of its app.
    pub(super) fn take(
        &mut self,
        told: &ToldEvent,
        tally: &mut WebhookTally,
        now: Now,
    ) -> Option<WebhookNews> {
        self.release(now);
        let wanted = self.settings.wants(told.name);
        match told.name.half() {
            Some((pair, LeaveHalf::Arrival)) if self.delayed.cancel(pair, &told.subject) => {
                return None;
            }
            Some((pair, LeaveHalf::Leave)) if !self.hurried => {
                let json = wanted.then(|| Arc::clone(&told.json));
                self.delayed.hold(pair, &told.subject, json, now.monotonic_ns + DELAY_NS);
            }
            _ if wanted => self.push(now.monotonic_ns, Arc::clone(&told.json)),
            _ => return None,
        }
        self.make_room(tally, now)
    }

    /// Leaves whose delay is over come to the queue.
    fn release(&mut self, now: Now) {
        while let Some((at_ns, json)) = self.delayed.pop(now.monotonic_ns) {
            json.into_iter().for_each(|json| self.push(at_ns, json));
        }
    }

    /// From now on nothing waits for a moment but what is told again.
    pub(super) fn hurry(&mut self, now: Now) {
        self.hurried = true;
        while let Some(json) = self.delayed.pop_first() {
            json.into_iter().for_each(|json| self.push(now.monotonic_ns, json));
        }
    }

    fn push(&mut self, at_ns: u64, json: Arc<str>) {
        self.queue_bytes += json.len();
        self.queue.push_back(QueuedEvent { at_ns, json });
    }

    fn pop(&mut self) -> Option<QueuedEvent> {
        let event = self.queue.pop_front()?;
        self.queue_bytes -= event.json.len();
        Some(event)
    }

    /// Drops what would be told first while there is too much.
    fn make_room(&mut self, tally: &mut WebhookTally, now: Now) -> Option<WebhookNews> {
        let mut dropped = 0;
        while self.queue.len() + self.delayed.len() > self.settings.queue_max
            || self.queue_bytes + self.delayed.bytes() > QUEUE_BYTES_MAX
        {
            let told = match self.pop() {
                Some(_) => true,
                None => self.delayed.pop_first().is_some_and(|json| json.is_some()),
            };
            dropped += u64::from(told);
        }
        tally.dropped += dropped;
        if dropped == 0 { None } else { self.hear(WebhookTrouble::Full, now) }
    }

    /// The next request, if it is time for one.
    pub(super) fn next(&mut self, tally: &mut WebhookTally, now: Now) -> Option<Request<String>> {
        self.release(now);
        if self.batch.is_none() {
            self.queue.front().filter(|event| self.closes_at_ns(event) <= now.monotonic_ns)?;
            self.batch = Some(self.pack(now));
        }
        let batch = self.batch.as_mut()?;
        batch.due_at_ns.take_if(|due_at_ns| *due_at_ns <= now.monotonic_ns)?;
        tally.retried += u64::from(batch.failures > 0);
        let mut request = Request::new(batch.body.clone());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.endpoint.uri().parse().unwrap_or_default();
        let signature = signature(&self.app.secret, &batch.body);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // What cannot stand in a header cannot have been shown by a client either.
        headers.extend(HeaderValue::from_bytes(self.app.key.as_bytes()).ok().map(|key| (KEY, key)));
        headers
            .extend(HeaderValue::from_str(&signature).ok().map(|signature| (SIGNATURE, signature)));
        Some(request)
    }

    /// Makes a batch of what comes first.
    fn pack(&mut self, now: Now) -> Batch {
        let mut body = format!("{{\"time_ms\":{},\"events\":[", now.unix_ms);
        let mut events = 0;
        while let Some(event) = self.queue.front()
            && events < BATCH_EVENTS_MAX
            // One event that is longer alone still goes.
            && (events == 0 || body.len() + event.json.len() < BATCH_BYTES_MAX)
        {
            body += if events > 0 { "," } else { "" };
            body += &event.json;
            events += 1;
            self.pop();
        }
        body += "]}";
        Batch {
            body,
            events,
            since_ns: now.monotonic_ns,
            failures: 0,
            due_at_ns: Some(now.monotonic_ns),
        }
    }

    /// What became of a request.
    pub(super) fn replied(
        &mut self,
        reply: StatusReply,
        tally: &mut WebhookTally,
        now: Now,
    ) -> Option<WebhookNews> {
        let batch = self.batch.as_mut()?;
        let reason = match reply {
            Ok(200..=299) => {
                tally.delivered += batch.events as u64;
                self.batch = None;
                return None;
            }
            Ok(status) => answered(status),
            Err(reason) => reason,
        };
        let pause_s =
            PAUSE_S_FIRST.checked_shl(batch.failures).map_or(PAUSE_S_MAX, |s| s.min(PAUSE_S_MAX));
        let due_at_ns = now.monotonic_ns + pause_s * 1_000_000_000;
        if due_at_ns <= batch.since_ns + PATIENCE_NS {
            batch.failures += 1;
            batch.due_at_ns = Some(due_at_ns);
            return self.hear(WebhookTrouble::Retried(reason), now);
        }
        tally.failed += batch.events as u64;
        self.batch = None;
        self.hear(WebhookTrouble::GivenUp(reason), now)
    }

    /// When there is something to do; nothing while a request is under way and no leave waits.
    pub(super) fn wakes_at_ns(&self) -> Option<u64> {
        let batch = match &self.batch {
            Some(batch) => batch.due_at_ns,
            None => self.queue.front().map(|event| self.closes_at_ns(event)),
        };
        batch.into_iter().chain(self.delayed.due_at_ns()).min()
    }

    /// Events that are queued, delayed or in the batch.
    pub(super) fn waiting(&self) -> usize {
        let batch = self.batch.as_ref().map_or(0, |batch| batch.events);
        self.queue.len() + self.delayed.told() + batch
    }

    /// When the window closes that an event has opened.
    fn closes_at_ns(&self, event: &QueuedEvent) -> u64 {
        event.at_ns + if self.hurried { 0 } else { WINDOW_NS }
    }

    fn hear(&mut self, trouble: WebhookTrouble, now: Now) -> Option<WebhookNews> {
        let (app, host) = (&self.app.id, self.endpoint.host());
        self.complaints.hear(trouble, || format!("the webhook of app {app} at {host}"), now)
    }
}

/// What shows the receiver that the body comes from whoever has the secret.
fn signature(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex(hmac::sign(&key, body.as_bytes()).as_ref())
}
