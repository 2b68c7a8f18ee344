//! One line of a webhook: the events that wait, and the batch that is sent of them.
//!
//! There is one batch at a time; it is retried until accepted or given up, so events arrive in
//! order. The first event in an empty queue opens a window, and the batch contains what arrives
//! until the window closes.

use super::question::{StatusReply, WebhookReceipt};
use super::receipts::Accounts;
use crate::wheel::Now;
use std::collections::VecDeque;
use std::sync::Arc;

/// How long events are gathered into a batch.
const WINDOW_NS: u64 = 100_000_000;
/// Limit on the bytes of one request, unless one event alone is larger: half of nginx's default
/// `client_max_body_size`.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// How long a batch is retried before it is given up.
const PATIENCE_NS: u64 = 300_000_000_000;
/// Pause before the first retry; doubled for each one after it.
const PAUSE_S_FIRST: u64 = 1;
/// Limit of that pause: a recipient that recovers hears from us within a minute.
const PAUSE_S_MAX: u64 = 60;

/// The events that wait for a request, and those of the request.
#[derive(Default)]
pub(super) struct HookLane {
    queue: VecDeque<QueuedEvent>,
    queue_bytes: usize,
    batch: Option<Batch>,
}

/// A queued event, with the time it was queued.
pub(super) struct QueuedEvent {
    pub(super) at_ns: u64,
    pub(super) json: Arc<str>,
    pub(super) receipt: Option<WebhookReceipt>,
}

/// The events of a request.
pub(super) struct Batch {
    time_ms: u64,
    events: Vec<QueuedEvent>,
    since_ns: u64,
    failures: u32,
    /// When to send it; `None` while the request is in flight.
    due_at_ns: Option<u64>,
}

/// What became of a failed request.
pub(super) enum BatchFailure {
    Retried,
    GivenUp,
}

impl HookLane {
    pub(super) fn push(&mut self, event: QueuedEvent) {
        self.queue_bytes += event.json.len();
        self.queue.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<QueuedEvent> {
        let event = self.queue.pop_front()?;
        self.queue_bytes -= event.json.len();
        Some(event)
    }

    /// When its oldest event was queued.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        self.queue.front().map(|event| event.at_ns)
    }

    /// All events, those of the batch first.
    pub(super) fn all(&self) -> impl Iterator<Item = &QueuedEvent> {
        self.batch.iter().flat_map(|batch| &batch.events).chain(&self.queue)
    }

    /// The number of queued events, and their bytes.
    pub(super) fn queued(&self) -> (usize, usize) {
        (self.queue.len(), self.queue_bytes)
    }

    /// Events queued or in the batch.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len() + self.batch.as_ref().map_or(0, |batch| batch.events.len())
    }

    /// The batch of the next request, of at most `events_max` events, when one is due: its body is
    /// to be sent. `is_hurried` has events wait for no more.
    pub(super) fn next(
        &mut self,
        events_max: usize,
        is_hurried: bool,
        accounts: &mut Accounts,
        now: Now,
    ) -> Option<&Batch> {
        if self.batch.is_none() {
            let oldest_ns = self.oldest_ns()?;
            if closes_at_ns(oldest_ns, is_hurried) > now.monotonic_ns {
                return None;
            }
            self.batch = Some(self.pack(events_max, now));
        }
        let batch = self.batch.as_mut()?;
        // Taken while the request is in flight, so that it is not sent twice.
        batch.due_at_ns.take_if(|due_at_ns| *due_at_ns <= now.monotonic_ns)?;
        accounts.tally.retried += u64::from(batch.failures > 0);
        Some(batch)
    }

    /// Packs the oldest events into a batch.
    fn pack(&mut self, events_max: usize, now: Now) -> Batch {
        let (mut events, mut bytes) = (Vec::new(), head(now.unix_ms).len());
        while let Some(event) = self.queue.front()
            && events.len() < events_max
            // An event above the limit goes alone.
            && (events.is_empty() || bytes + event.json.len() < BATCH_BYTES_MAX)
        {
            bytes += event.json.len() + usize::from(!events.is_empty());
            events.extend(self.pop());
        }
        Batch {
            time_ms: now.unix_ms,
            events,
            since_ns: now.monotonic_ns,
            failures: 0,
            due_at_ns: Some(now.monotonic_ns),
        }
    }

    /// Handles the outcome of the request in flight. Returns the failure, if it is one that
    /// matters to anything that is still wanted.
    pub(super) fn replied(
        &mut self,
        reply: &StatusReply,
        accounts: &mut Accounts,
        now: Now,
    ) -> Option<BatchFailure> {
        let batch = self.batch.as_mut()?;
        let events = batch.events.len() as u64;
        if matches!(reply, Ok(200..=299)) {
            accounts.tally.delivered += events;
            self.end_batch(accounts);
            return None;
        }
        // All that it told of may have been forgotten meanwhile.
        if events == 0 {
            self.end_batch(accounts);
            return None;
        }

        // A failing recipient is asked ever less often, and its log lines thin out with the
        // requests.
        let pause_s =
            PAUSE_S_FIRST.checked_shl(batch.failures).map_or(PAUSE_S_MAX, |s| s.min(PAUSE_S_MAX));
        let due_at_ns = now.monotonic_ns + pause_s * 1_000_000_000;
        if due_at_ns <= batch.since_ns + PATIENCE_NS {
            batch.failures += 1;
            batch.due_at_ns = Some(due_at_ns);
            return Some(BatchFailure::Retried);
        }
        accounts.tally.failed += events;
        self.end_batch(accounts);
        Some(BatchFailure::GivenUp)
    }

    fn end_batch(&mut self, accounts: &mut Accounts) {
        let events = self.batch.take().into_iter().flat_map(|batch| batch.events);
        events.for_each(|event| accounts.release(event.receipt));
    }

    /// Drops the events of a partition. A request in flight goes on, but is not made again for them.
    pub(super) fn forget(&mut self, partition: u8) {
        self.queue.retain(|event| !event.is_of(partition));
        self.queue_bytes = self.queue.iter().map(|event| event.json.len()).sum();
        if let Some(batch) = &mut self.batch {
            batch.events.retain(|event| !event.is_of(partition));
        }
        self.batch.take_if(|batch| batch.events.is_empty() && batch.due_at_ns.is_some());
    }

    /// Releases all events: their recipient is gone.
    pub(super) fn clear(&mut self, accounts: &mut Accounts) {
        while let Some(event) = self.pop() {
            accounts.release(event.receipt);
        }
        self.end_batch(accounts);
    }

    /// When the lane next has work to do; `None` while a request is in flight.
    pub(super) fn wakes_at_ns(&self, is_hurried: bool) -> Option<u64> {
        match &self.batch {
            Some(batch) => batch.due_at_ns,
            None => self.oldest_ns().map(|oldest_ns| closes_at_ns(oldest_ns, is_hurried)),
        }
    }
}

impl QueuedEvent {
    fn is_of(&self, partition: u8) -> bool {
        self.receipt.is_some_and(|receipt| receipt.partition == partition)
    }
}

impl Batch {
    /// The body of its request.
    pub(super) fn body(&self) -> String {
        let mut body = head(self.time_ms);
        for (place, event) in self.events.iter().enumerate() {
            body += if place > 0 { "," } else { "" };
            body += &event.json;
        }
        body += "]}";
        body
    }

    /// The receipts of its events, in order: `pp-N,pp-M`; `None` when they have none.
    pub(super) fn delivery(&self) -> Option<String> {
        let mut ids = String::new();
        for receipt in self.events.iter().filter_map(|event| event.receipt) {
            ids += if ids.is_empty() { "" } else { "," };
            ids += &receipt.to_string();
        }
        (!ids.is_empty()).then_some(ids)
    }
}

/// The beginning of a body.
fn head(time_ms: u64) -> String {
    format!("{{\"time_ms\":{time_ms},\"events\":[")
}

/// When the window opened by an event closes.
fn closes_at_ns(oldest_ns: u64, is_hurried: bool) -> u64 {
    oldest_ns + if is_hurried { 0 } else { WINDOW_NS }
}
