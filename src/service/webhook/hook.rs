//! One webhook: its lanes, and the departures it holds back.
//!
//! Events that a journal knows by a receipt have a lane of their own: their requests name the
//! receipts, and pause while the journal cannot be written to. Departures join their lane when
//! their delay is over: events that happen meanwhile overtake them.

use super::departures::{Departure, Departures, PairHalf};
use super::lane::{Batch, BatchFailure, HookLane, QueuedEvent};
use super::news::{Complaints, WebhookNews, WebhookTrouble, answered};
use super::question::{QUEUE_BYTES_MAX, StatusReply, WebhookName, WebhookReceipt};
use super::receipts::Accounts;
use super::settings::{WebhookApp, WebhookSettings};
use crate::endpoint::Endpoint;
use crate::text::hex;
use crate::wheel::Now;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request};
use ring::hmac;
use std::sync::Arc;

/// How long a departure is held back for a return.
const DELAY_NS: u64 = 3_000_000_000;

/// The lane of events without receipts.
pub(super) const PLAIN: usize = 0;
/// The lane of events with receipts.
const JOURNALED: usize = 1;

/// Limits on the events of one request, by lane. Plain ones: with the window, a queue's default
/// capacity per second. Journaled ones: their receipts stand in a header, for which servers have 4
/// to 8 KiB, and a receipt has up to 23 bytes.
const BATCH_EVENTS_MAX: [usize; 2] = [1000, 100];

const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");
const DELIVERY: HeaderName = HeaderName::from_static("x-fanfare-delivery");

/// One recipient.
pub(super) struct Hook {
    pub(super) number: u64,
    pub(super) app: WebhookApp,
    pub(super) settings: WebhookSettings,
    endpoint: Endpoint,
    pub(super) lanes: [HookLane; 2],
    pub(super) departures: Departures,
    /// Set at shutdown: neither returns nor more events are waited for.
    hurried: bool,
    complaints: Complaints,
}

/// An event on its way to the webhooks of an app.
pub(super) struct AppEvent {
    pub(super) name: WebhookName,
    pub(super) subject: Arc<str>,
    pub(super) json: Arc<str>,
    pub(super) receipt: Option<WebhookReceipt>,
}

impl Hook {
    /// `None` when the URL is invalid.
    pub(super) fn new(number: u64, app: WebhookApp, settings: WebhookSettings) -> Option<Self> {
        Some(Self {
            number,
            endpoint: settings.url.endpoint().ok()?,
            app,
            settings,
            lanes: Default::default(),
            departures: Departures::default(),
            hurried: false,
            complaints: Complaints::default(),
        })
    }

    /// Queues an event of its app, or holds it back.
    pub(super) fn take(
        &mut self,
        event: &AppEvent,
        accounts: &mut Accounts,
        now: Now,
    ) -> Option<WebhookNews> {
        self.release(now, accounts);
        let (wanted, receipt) = (self.settings.wants(event.name), event.receipt);
        let half = event.name.half();
        if let Some((pair, PairHalf::Arrival)) = half
            && let Some(departure) = self.departures.cancel(pair, &event.subject)
        {
            accounts.release(departure.receipt);
            return None;
        }

        match half {
            // A journal's successor may still hear of the return.
            Some((pair, PairHalf::Departure)) if !self.hurried || receipt.is_some() => {
                let json = wanted.then(|| Arc::clone(&event.json));
                let until_ns = now.monotonic_ns + DELAY_NS;
                let departure = Departure { json, receipt };
                if self.departures.hold(pair, &event.subject, departure, until_ns) {
                    accounts.hold(receipt);
                }
            }
            _ if wanted => {
                accounts.hold(receipt);
                self.push(now.monotonic_ns, Arc::clone(&event.json), receipt);
            }
            _ => return None,
        }
        self.make_room(accounts, now)
    }

    /// Queues the departures whose delay is over.
    fn release(&mut self, now: Now, accounts: &mut Accounts) {
        while let Some((at_ns, departure)) = self.departures.pop(now.monotonic_ns) {
            self.push_departure(at_ns, departure, accounts);
        }
    }

    /// Prepares for shutdown: only retries wait from now on, and departures of a journal, whose
    /// successor hears of a return.
    pub(super) fn hurry(&mut self, now: Now, accounts: &mut Accounts) {
        self.hurried = true;
        for departure in self.departures.drain(|departure| departure.receipt.is_none()) {
            self.push_departure(now.monotonic_ns, departure, accounts);
        }
    }

    fn push_departure(&mut self, at_ns: u64, departure: Departure, accounts: &mut Accounts) {
        match departure.json {
            Some(json) => self.push(at_ns, json, departure.receipt),
            None => accounts.release(departure.receipt),
        }
    }

    /// The events that no journal knows.
    pub(super) fn plain(&self) -> impl Iterator<Item = &QueuedEvent> {
        self.lanes[PLAIN].all()
    }

    pub(super) fn push(&mut self, at_ns: u64, json: Arc<str>, receipt: Option<WebhookReceipt>) {
        let lane = if receipt.is_some() { JOURNALED } else { PLAIN };
        self.lanes[lane].push(QueuedEvent { at_ns, json, receipt });
    }

    /// The oldest event of both lanes.
    fn pop(&mut self) -> Option<QueuedEvent> {
        let lanes = self.lanes.iter_mut().filter(|lane| lane.oldest_ns().is_some());
        lanes.min_by_key(|lane| lane.oldest_ns())?.pop()
    }

    /// Drops the oldest events while the queue exceeds its limits.
    pub(super) fn make_room(&mut self, accounts: &mut Accounts, now: Now) -> Option<WebhookNews> {
        let mut dropped = 0;
        while self.is_overfull() {
            let (was_wanted, receipt) = match self.pop() {
                Some(event) => (true, event.receipt),
                None => match self.departures.pop_first() {
                    Some(departure) => (departure.json.is_some(), departure.receipt),
                    None => break,
                },
            };
            dropped += u64::from(was_wanted);
            accounts.release(receipt);
        }
        accounts.tally.dropped += dropped;
        if dropped == 0 { None } else { self.hear(WebhookTrouble::Full, now) }
    }

    fn is_overfull(&self) -> bool {
        // Departures held back count too: they would all join the queue within the delay.
        let (mut events, mut bytes) = (self.departures.len(), self.departures.bytes());
        for lane in &self.lanes {
            let queued = lane.queued();
            events += queued.0;
            bytes += queued.1;
        }
        events > self.settings.queue_max || bytes > QUEUE_BYTES_MAX
    }

    /// The next request, when one is due, with its lane. `is_paused` holds journaled events back.
    pub(super) fn next(
        &mut self,
        is_paused: bool,
        accounts: &mut Accounts,
        now: Now,
    ) -> Option<(usize, Request<String>)> {
        self.release(now, accounts);
        let Self { lanes, hurried, endpoint, app, .. } = self;
        lanes.iter_mut().enumerate().take(lanes_open(is_paused)).find_map(|(place, lane)| {
            let batch = lane.next(BATCH_EVENTS_MAX[place], *hurried, accounts, now)?;
            Some((place, request(endpoint, app, batch)))
        })
    }

    /// Handles the outcome of a request of a lane.
    pub(super) fn replied(
        &mut self,
        lane: usize,
        reply: StatusReply,
        accounts: &mut Accounts,
        now: Now,
    ) -> Option<WebhookNews> {
        let failure = self.lanes[lane].replied(&reply, accounts, now)?;
        let reason = match reply {
            Ok(status) => answered(status),
            Err(reason) => reason,
        };
        let trouble = match failure {
            BatchFailure::Retried => WebhookTrouble::Retried(reason),
            BatchFailure::GivenUp => WebhookTrouble::GivenUp(reason),
        };
        self.hear(trouble, now)
    }

    /// Drops the events of a partition of the journal, which another node tells.
    pub(super) fn forget(&mut self, partition: u8) {
        self.lanes[JOURNALED].forget(partition);
        self.departures.drain(|departure| {
            departure.receipt.is_some_and(|receipt| receipt.partition == partition)
        });
    }

    /// Drops everything: the recipient was removed from the configuration.
    pub(super) fn close(mut self, accounts: &mut Accounts) {
        accounts.tally.dropped += self.waiting() as u64;
        self.lanes.iter_mut().for_each(|lane| lane.clear(accounts));
        while let Some(departure) = self.departures.pop_first() {
            accounts.release(departure.receipt);
        }
    }

    /// When the hook next has work to do; `None` while requests are in flight and no departure is
    /// held.
    pub(super) fn wakes_at_ns(&self, is_paused: bool) -> Option<u64> {
        let lanes = self.lanes.iter().take(lanes_open(is_paused));
        lanes
            .filter_map(|lane| lane.wakes_at_ns(self.hurried))
            .chain(self.departures.due_at_ns())
            .min()
    }

    /// Events queued, held back or in a batch.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.iter().map(HookLane::waiting).sum::<usize>() + self.departures.wanted()
    }

    /// Those of them that a journal knows.
    pub(super) fn journaled(&self) -> usize {
        self.lanes[JOURNALED].waiting() + self.departures.journaled()
    }

    fn hear(&mut self, trouble: WebhookTrouble, now: Now) -> Option<WebhookNews> {
        let (app, host) = (&self.app.id, self.endpoint.host());
        self.complaints.hear(trouble, || format!("the webhook of app {app} at {host}"), now)
    }
}

/// The number of lanes that may begin requests.
fn lanes_open(is_paused: bool) -> usize {
    if is_paused { JOURNALED } else { JOURNALED + 1 }
}

/// The request for a batch.
fn request(endpoint: &Endpoint, app: &WebhookApp, batch: &Batch) -> Request<String> {
    let body = batch.body();
    let signature = signature(&app.secret, &body);
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = endpoint.uri().parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // A key that does not fit in a header cannot be any client's key either.
    headers.extend(HeaderValue::from_bytes(app.key.as_bytes()).ok().map(|key| (KEY, key)));
    let texts = [(SIGNATURE, Some(signature)), (DELIVERY, batch.delivery())];
    headers
        .extend(texts.into_iter().filter_map(|(name, text)| Some((name, text?.try_into().ok()?))));
    request
}

/// The signature by which the recipient recognizes a sender that knows the secret: HMAC-SHA256 in
/// hex.
fn signature(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex(hmac::sign(&key, body.as_bytes()).as_ref())
}
