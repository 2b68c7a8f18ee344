//! The webhooks that a journal waits for: until when they may be told, how many recipients each is
//! still held for, and those that are settled.

use super::news::WebhookTally;
use super::question::WebhookReceipt;
use crate::wheel::Now;
use ahash::RandomState;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Until when events that a journal knows may be told from here: as long as no other node can own
/// the journal. Its owner sets it, and no request for such events begins later; so a process that
/// has stood still does not tell what another node tells by now.
#[derive(Debug, Default)]
pub struct WebhookLease(AtomicU64);

impl WebhookLease {
    /// Sets the end, a moment of the monotonic clock. Returns the former one.
    pub fn set(&self, until_ns: u64) -> u64 {
        self.0.swap(until_ns, Relaxed)
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, now: Now) -> bool {
        now.monotonic_ns >= self.0.load(Relaxed)
    }
}

/// The account of all events of apps: totals by outcome, and receipts.
#[derive(Default)]
pub(super) struct Accounts {
    pub(super) tally: WebhookTally,
    /// The number of recipients for which a webhook is queued, held back or under way. The queues
    /// bound it.
    held: HashMap<WebhookReceipt, usize, RandomState>,
    /// Those that are held for no recipient any more, until they are taken. The host takes them
    /// after each step.
    settled: Vec<WebhookReceipt>,
}

impl Accounts {
    /// Begins to count the recipients that hold an event. Returns whether that is new: what is held
    /// already must not be told twice.
    pub(super) fn begin(&mut self, receipt: WebhookReceipt) -> bool {
        let Entry::Vacant(place) = self.held.entry(receipt) else { return false };
        // One for the time until it has been offered to all recipients.
        place.insert(1);
        true
    }

    /// A recipient holds the event.
    pub(super) fn hold(&mut self, receipt: Option<WebhookReceipt>) {
        if let Some(held) = receipt.and_then(|receipt| self.held.get_mut(&receipt)) {
            *held += 1;
        }
    }

    /// A recipient holds the event no more, for whatever reason.
    pub(super) fn release(&mut self, receipt: Option<WebhookReceipt>) {
        let Some(receipt) = receipt else { return };
        // One whose partition was forgotten has no count.
        let Some(held) = self.held.get_mut(&receipt) else { return };
        *held -= 1;
        if *held == 0 {
            self.held.remove(&receipt);
            self.settled.push(receipt);
        }
    }

    /// Forgets the receipts of a partition, settled ones too.
    pub(super) fn forget(&mut self, partition: u8) {
        self.held.retain(|receipt, _| receipt.partition != partition);
        self.settled.retain(|receipt| receipt.partition != partition);
    }

    /// The receipts that were settled since the last call.
    pub(super) fn take_settled(&mut self) -> Vec<WebhookReceipt> {
        std::mem::take(&mut self.settled)
    }
}
