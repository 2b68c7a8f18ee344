//! The metrics of webhooks.

use super::news::WebhookTally;
use super::question::WebhookKind;
use crate::counter::Counter;

/// Outcome of a webhook for one recipient; an event for two recipients counts twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WebhookOutcome {
    /// Answered with 2xx.
    Delivered,
    /// Given up after failed requests.
    Failed,
    /// Dropped because the queue was full, or the recipient removed.
    Dropped,
}

impl WebhookOutcome {
    /// All outcomes, with their names in metrics.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Delivered, "delivered"), (Self::Failed, "failed"), (Self::Dropped, "dropped")];
}

/// Counters of one webhook service, by kind.
#[derive(Debug, Default)]
pub struct WebhookCounters {
    /// Webhooks by outcome.
    pub outcomes: [[Counter; WebhookOutcome::ALL.len()]; WebhookKind::ALL.len()],
    /// Webhooks waiting or in flight.
    pub waiting: [Counter; WebhookKind::ALL.len()],
    /// Retried requests.
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
