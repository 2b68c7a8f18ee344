//! What is worth a line in the log, and what is counted.

use crate::throttle::{More, Throttle};
use crate::wheel::Now;
use std::fmt;

/// Lines about the same trouble of one recipient in a window of the log; one that fails every call would fill it.
const LINES_MAX: u32 = 1;

/// A trouble that an operator wants to know of. No text of it has a token, a secret or more of a URL than its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookNews {
    /// Who could not be told, for people.
    pub recipient: String,
    /// Why, or what has become of it.
    pub trouble: WebhookTrouble,
    /// How often it has happened since it was told last.
    pub more: More,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookTrouble {
    /// A request has failed, and is made again.
    Retried(String),
    /// What was to be told has been given up.
    GivenUp(String),
    /// There was no room for more.
    Full,
}

impl fmt::Display for WebhookNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recipient = &self.recipient;
        match &self.trouble {
            WebhookTrouble::Retried(reason) => {
                write!(f, "telling {recipient} failed: {reason}; trying again")?
            }
            WebhookTrouble::GivenUp(reason) => {
                write!(f, "telling {recipient} failed: {reason}; given up")?
            }
            WebhookTrouble::Full => {
                write!(f, "the queue to {recipient} is full; webhooks are dropped")?
            }
        }
        write!(f, "{}", self.more)
    }
}

/// What is told of one recipient's troubles, now and then.
pub(super) struct Complaints([Throttle; 3]);

impl Default for Complaints {
    fn default() -> Self {
        Self([const { Throttle::new(LINES_MAX) }; 3])
    }
}

impl Complaints {
    /// A trouble has come up. Returns what to say of it, unless that was said a moment ago.
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

/// What has become of webhooks of one kind; an event for two webhooks counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebhookTally {
    /// Told, and taken.
    pub delivered: u64,
    /// Told in vain, and given up.
    pub failed: u64,
    /// Not told for want of room, or because their recipient was taken out of the configuration.
    pub dropped: u64,
    /// Requests that were made again.
    pub retried: u64,
}

/// Why a status is no success.
pub(super) fn answered(status: u16) -> String {
    format!("it answered {status}")
}
