//! What is worth a line in the log, and what is counted.

use crate::wheel::Now;
use std::fmt;

/// Least time between two lines about the same trouble of one recipient; one that fails every call would fill the
/// log.
const QUIET_NS: u64 = 10_000_000_000;

/// A trouble that an operator wants to know of. No text of it has a token, a secret or more of a URL than its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Who could not be told, for people.
    pub recipient: String,
    /// Why, or what has become of it.
    pub trouble: Trouble,
    /// How often it has happened since it was told last.
    pub silenced: u64,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A request has failed, and is made again.
    Retried(String),
    /// What was to be told has been given up.
    GivenUp(String),
    /// There was no room for more.
    Full,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recipient = &self.recipient;
        match &self.trouble {
            Trouble::Retried(reason) => write!(f, "telling {recipient} failed: {reason}; trying again")?,
            Trouble::GivenUp(reason) => write!(f, "telling {recipient} failed: {reason}; given up")?,
            Trouble::Full => write!(f, "the queue to {recipient} is full; notices are dropped")?,
        }
        match self.silenced {
            0 => Ok(()),
            times => write!(f, " ({times} more times since this was said)"),
        }
    }
}

/// What is told of one recipient's troubles, now and then.
#[derive(Default)]
pub(super) struct Complaints([Complaint; 3]);

#[derive(Default)]
struct Complaint {
    quiet_until_ns: u64,
    silenced: u64,
}

impl Complaints {
    /// A trouble has come up. Returns what to say of it, unless that was said a moment ago.
    pub(super) fn hear(
        &mut self,
        trouble: Trouble,
        recipient: impl FnOnce() -> String,
        now: Now,
    ) -> Option<News> {
        let complaint = &mut self.0[match trouble {
            Trouble::Retried(_) => 0,
            Trouble::GivenUp(_) => 1,
            Trouble::Full => 2,
        }];
        if now.monotonic_ns < complaint.quiet_until_ns {
            complaint.silenced += 1;
            return None;
        }
        complaint.quiet_until_ns = now.monotonic_ns + QUIET_NS;
        Some(News { recipient: recipient(), trouble, silenced: std::mem::take(&mut complaint.silenced) })
    }
}

/// What has become of notices of one kind; an event for two webhooks counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
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
