//! The log lines about failing recipients, and the totals by outcome.

use crate::throttle::{More, Throttle};
use crate::wheel::Now;
use std::fmt;

/// Log lines about one kind of trouble at one recipient within a window of the throttle; a
/// recipient that fails every call would fill the log.
const LINES_MAX: u32 = 1;

/// A log line about a recipient. It contains no token, no secret, and no more of a URL than its
/// host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookNews {
    /// The recipient, as operators know it.
    pub recipient: String,
    /// The trouble.
    pub trouble: WebhookTrouble,
    /// How often it has happened since the last such line.
    pub more: More,
}

/// A trouble with a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookTrouble {
    /// A request failed and will be retried.
    Retried(String),
    /// A request failed and its webhooks were given up.
    GivenUp(String),
    /// The queue was full, and webhooks were dropped.
    Full,
}

impl fmt::Display for WebhookNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recipient = &self.recipient;
        match &self.trouble {
            WebhookTrouble::Retried(reason) => {
                write!(f, "calling {recipient} failed: {reason}; retrying")?;
            }
            WebhookTrouble::GivenUp(reason) => {
                write!(f, "calling {recipient} failed: {reason}; giving up on this request")?;
            }
            WebhookTrouble::Full => write!(
                f,
                "the queue for {recipient} is full, so webhooks are dropped; make sure it keeps \
                 up, or raise queue_max"
            )?,
        }
        write!(f, "{}", self.more)
    }
}

/// The rate limits of one recipient's log lines.
pub(super) struct Complaints([Throttle; 3]);

impl Default for Complaints {
    fn default() -> Self {
        Self([const { Throttle::new(LINES_MAX) }; 3])
    }
}

impl Complaints {
    /// Reports a trouble. Returns the line to log, unless the limit is reached.
    pub(super) fn hear(
        &mut self,
        trouble: WebhookTrouble,
        recipient: impl FnOnce() -> String,
        now: Now,
    ) -> Option<WebhookNews> {
        let throttle = &self.0[match trouble {
            WebhookTrouble::Retried(_) => 0,
            WebhookTrouble::GivenUp(_) => 1,
            WebhookTrouble::Full => 2,
        }];
        throttle.admit(now).map(|more| WebhookNews { recipient: recipient(), trouble, more })
    }
}

/// Totals of webhooks of one kind; an event for two recipients counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebhookTally {
    /// Answered with 2xx.
    pub delivered: u64,
    /// Given up after failed requests.
    pub failed: u64,
    /// Dropped because the queue was full or the recipient was removed from the configuration.
    pub dropped: u64,
    /// Retried requests.
    pub retried: u64,
}

/// The reason to log for a status that is not 2xx.
pub(super) fn answered(status: u16) -> String {
    format!("it answered {status}")
}
