//! What a connection is for, and what it is told when that cannot be.

use crate::service::topic::Cause;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PulsarRole {
    PingPong,
    Producer,
    Consumer,
    Reader,
}

impl PulsarRole {
    /// What the first version says when there can be none, and all say, with a reason, when there can be none any more.
    pub(super) fn failed(self) -> (u16, &'static str) {
        match self {
            Self::Producer => (4001, "Failed to create producer"),
            _ => (4002, "Failed to subscribe"),
        }
    }

    pub(super) fn failed_because(self, reason: &str) -> String {
        let what = match self {
            Self::Producer => "producer",
            Self::Reader => "reader",
            Self::Consumer | Self::PingPong => "consumer",
        };
        format!("Failed to create {what}: {reason}")
    }
}

/// The HTTP status for what stands in the way.
pub(super) fn status_of(cause: Cause) -> u16 {
    match cause {
        Cause::Invalid => 400,
        Cause::NotFound => 404,
        Cause::Busy => 409,
        Cause::TooMany => 429,
        Cause::Quota | Cause::Terminated => 503,
        Cause::Broken => 500,
    }
}
