//! What is counted of webhooks.

use super::news::WebhookTally;
use super::question::WebhookKind;
use crate::counter::Counter;

/// What became of a webhook to another service; one for two webhooks counts twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WebhookOutcome {
    /// Answered with 2xx.
    Delivered,
    /// Given up after it was told in vain.
    Failed,
    /// Not told for want of room, or of the recipient.
    Dropped,
}

impl WebhookOutcome {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Delivered, "delivered"), (Self::Failed, "failed"), (Self::Dropped, "dropped")];
}

/// Counters of one webhook service, by kind.
#[derive(Debug, Default)]
pub struct WebhookCounters {
    /// By what became of them.
    pub outcomes: [[Counter; WebhookOutcome::ALL.len()]; WebhookKind::ALL.len()],
    /// Those that wait or are under way.
    pub waiting: [Counter; WebhookKind::ALL.len()],
    /// Requests that were made again.
    pub retries: [Counter; WebhookKind::ALL.len()],
}

impl WebhookCounters {
    pub(super) fn set(&self, kind: WebhookKind, tally: WebhookTally, waiting: usize) {
        let outcomes = &self.outcomes[kind as usize];
        outcomes[WebhookOutcome::Delivered as usize].set(tally.delivered);
        outcomes[WebhookOutcome::Failed as usize].set(tally.failed);
        outcomes[WebhookOutcome::Dropped as usize].set(tally.dropped);
        self.retries[kind as usize].set(tally.retried);
        self.waiting[kind as usize].set(waiting as u64);
    }
}
