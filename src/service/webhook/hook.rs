//! One webhook: its queue, the departures it holds back, and the batch it sends.
//!
//! There is one batch at a time; it is retried until accepted or given up, so events arrive in
//! order. The first event in an empty queue opens a window, and the batch contains what arrives
//! until the window closes. Departures join the queue when their delay is over: events that happen
//! meanwhile overtake them.

use super::departures::{Departures, PairHalf};
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

/// How long events are gathered into a batch.
const WINDOW_NS: u64 = 100_000_000;
/// How long a departure is held back for a return.
const DELAY_NS: u64 = 3_000_000_000;
/// Limit on the events of one request: with the window, a queue's default capacity per second.
const BATCH_EVENTS_MAX: usize = 1000;
/// Limit on the bytes of one request, unless one event alone is larger: half of nginx's default
/// `client_max_body_size`.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// How long a batch is retried before it is given up.
const PATIENCE_NS: u64 = 300_000_000_000;
/// Pause before the first retry; doubled for each one after it.
const PAUSE_S_FIRST: u64 = 1;
/// Limit of that pause: a recipient that recovers hears from us within a minute.
const PAUSE_S_MAX: u64 = 60;

const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");

/// One recipient.
pub(super) struct Hook {
    pub(super) number: u64,
    pub(super) app: WebhookApp,
    pub(super) settings: WebhookSettings,
    endpoint: Endpoint,
    queue: VecDeque<QueuedEvent>,
    queue_bytes: usize,
    departures: Departures,
    batch: Option<Batch>,
    /// Set at shutdown: neither returns nor more events are waited for.
    hurried: bool,
    complaints: Complaints,
}

/// A queued event, with the time it was queued.
struct QueuedEvent {
    at_ns: u64,
    json: Arc<str>,
}

struct Batch {
    body: String,
    events: usize,
    since_ns: u64,
    failures: u32,
    /// When to send it; `None` while the request is in flight.
    due_at_ns: Option<u64>,
}

/// An event on its way to the webhooks of an app.
pub(super) struct AppEvent {
    pub(super) name: WebhookName,
    pub(super) subject: Arc<str>,
    pub(super) json: Arc<str>,
}

impl Hook {
    /// `None` when the URL is invalid.
    pub(super) fn new(number: u64, app: WebhookApp, settings: WebhookSettings) -> Option<Self> {
        Some(Self {
            number,
            endpoint: settings.url.endpoint().ok()?,
            app,
            settings,
            queue: VecDeque::new(),
            queue_bytes: 0,
            departures: Departures::default(),
            batch: None,
            hurried: false,
            complaints: Complaints::default(),
        })
    }

    /// Queues an event of its app, or holds it back.
    pub(super) fn take(
        &mut self,
        event: &AppEvent,
        tally: &mut WebhookTally,
        now: Now,
    ) -> Option<WebhookNews> {
        self.release(now);
        let wanted = self.settings.wants(event.name);
        match event.name.half() {
            Some((pair, PairHalf::Arrival)) if self.departures.cancel(pair, &event.subject) => {
                return None;
            }
            Some((pair, PairHalf::Departure)) if !self.hurried => {
                let json = wanted.then(|| Arc::clone(&event.json));
                self.departures.hold(pair, &event.subject, json, now.monotonic_ns + DELAY_NS);
            }
            _ if wanted => self.push(now.monotonic_ns, Arc::clone(&event.json)),
            _ => return None,
        }
        self.make_room(tally, now)
    }

    /// Queues the departures whose delay is over.
    fn release(&mut self, now: Now) {
        while let Some((at_ns, json)) = self.departures.pop(now.monotonic_ns) {
            json.into_iter().for_each(|json| self.push(at_ns, json));
        }
    }

    /// Prepares for shutdown: only retries wait from now on.
    pub(super) fn hurry(&mut self, now: Now) {
        self.hurried = true;
        while let Some(json) = self.departures.pop_first() {
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

    /// Drops the oldest events while the queue exceeds its limits.
    fn make_room(&mut self, tally: &mut WebhookTally, now: Now) -> Option<WebhookNews> {
        let mut dropped = 0;
        // Departures held back count too: they would all join the queue within the delay.
        while self.queue.len() + self.departures.len() > self.settings.queue_max
            || self.queue_bytes + self.departures.bytes() > QUEUE_BYTES_MAX
        {
            let was_wanted = match self.pop() {
                Some(_) => true,
                None => self.departures.pop_first().is_some_and(|json| json.is_some()),
            };
            dropped += u64::from(was_wanted);
        }
        tally.dropped += dropped;
        if dropped == 0 { None } else { self.hear(WebhookTrouble::Full, now) }
    }

    /// The next request, when one is due.
    pub(super) fn next(&mut self, tally: &mut WebhookTally, now: Now) -> Option<Request<String>> {
        self.release(now);
        if self.batch.is_none() {
            self.queue.front().filter(|event| self.closes_at_ns(event) <= now.monotonic_ns)?;
            self.batch = Some(self.pack(now));
        }
        let batch = self.batch.as_mut()?;
        // Taken while the request is in flight, so that it is not sent twice.
        batch.due_at_ns.take_if(|due_at_ns| *due_at_ns <= now.monotonic_ns)?;
        tally.retried += u64::from(batch.failures > 0);
        let mut request = Request::new(batch.body.clone());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.endpoint.uri().parse().unwrap_or_default();
        let signature = signature(&self.app.secret, &batch.body);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // A key that does not fit in a header cannot be any client's key either.
        headers.extend(HeaderValue::from_bytes(self.app.key.as_bytes()).ok().map(|key| (KEY, key)));
        headers
            .extend(HeaderValue::from_str(&signature).ok().map(|signature| (SIGNATURE, signature)));
        Some(request)
    }

    /// Packs the oldest events into a batch.
    fn pack(&mut self, now: Now) -> Batch {
        let mut body = format!("{{\"time_ms\":{},\"events\":[", now.unix_ms);
        let mut events = 0;
        while let Some(event) = self.queue.front()
            && events < BATCH_EVENTS_MAX
            // An event above the limit goes alone.
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

    /// Handles the outcome of a request.
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
        // A failing recipient is asked ever less often, and its log lines thin out with the
        // requests.
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

    /// When the hook next has work to do; `None` while a request is in flight and no departure is
    /// held.
    pub(super) fn wakes_at_ns(&self) -> Option<u64> {
        let batch = match &self.batch {
            Some(batch) => batch.due_at_ns,
            None => self.queue.front().map(|event| self.closes_at_ns(event)),
        };
        batch.into_iter().chain(self.departures.due_at_ns()).min()
    }

    /// Events queued, held back or in the batch.
    pub(super) fn waiting(&self) -> usize {
        let batch = self.batch.as_ref().map_or(0, |batch| batch.events);
        self.queue.len() + self.departures.wanted() + batch
    }

    /// When the window opened by an event closes.
    fn closes_at_ns(&self, event: &QueuedEvent) -> u64 {
        event.at_ns + if self.hurried { 0 } else { WINDOW_NS }
    }

    fn hear(&mut self, trouble: WebhookTrouble, now: Now) -> Option<WebhookNews> {
        let (app, host) = (&self.app.id, self.endpoint.host());
        self.complaints.hear(trouble, || format!("the webhook of app {app} at {host}"), now)
    }
}

/// The signature by which the recipient recognizes a sender that knows the secret: HMAC-SHA256 in
/// hex.
fn signature(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex(hmac::sign(&key, body.as_bytes()).as_ref())
}
