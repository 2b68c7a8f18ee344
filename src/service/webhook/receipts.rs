//! The webhooks that a journal waits for: how many recipients each is still held for, and those that
//! are settled.

use super::news::WebhookTally;
use super::question::WebhookReceipt;
use ahash::RandomState;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

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
