//! The state of each connection, and the limits of all of them.

use crate::dialect::{AnyDialect, Kind};
use crate::http::AnswerForm;
use crate::outbox::Outbox;
use crate::service::presence::{PresenceAnswer, PresenceQuestion};
use crate::wheel::{Now, Tick, ticks};
use schemars::JsonSchema;

/// Minimum share of one shard in `partial_bytes_max`, so that with very many shards each still
/// takes several of the longest messages and requests, which have 1 MiB by default.
const PARTIAL_SHARE_BYTES_MIN: usize = 8 * 1024 * 1024;

/// Limits of the whole daemon.
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum bytes that wait for one slow client. Beyond that the client is closed with code
    /// 1013, so it must hold the longest event; it is also what a client that stops reading can
    /// cost. Centrifugo's default is 1 MiB too; NATS allows 64 MiB, Redis 32 MiB.
    pub outbox_bytes_max: usize,
    /// Maximum number of subscriptions of all clients together, about 100 bytes each.
    #[schemars(range(min = 1))]
    pub subscriptions_max: usize,
    /// Seconds that a client has to send its request head, and again for the body.
    #[schemars(range(min = 1))]
    pub handshake_timeout_s: u32,
    /// Maximum bytes of a request head, including cookies and long tokens in the query. nginx
    /// allows 8 KiB per line, Tomcat 8 KiB in all.
    #[schemars(range(min = 1))]
    pub head_bytes_max: usize,
    /// Maximum bytes of memory for unfinished requests and messages of all clients, which is as
    /// much as strangers can make the daemon hold. Each thread has its share, and at least 8 MiB;
    /// beyond that, clients with the longest parts are asked to come back, with code 1013 or
    /// status 503. So nothing longer than a share gets through.
    pub partial_bytes_max: usize,
    /// Seconds that a client has to answer a close frame.
    pub close_timeout_s: u32,
    /// Maximum number of connections of one client: of an IPv4 address, or of a /64 of IPv6. 0
    /// means no limit: HAProxy and nginx have none by default either, as an office or a mobile
    /// network may share one address. Behind a proxy it needs trusted_proxies, or all clients
    /// count as one. More get a 429.
    pub connections_per_address_max: usize,
    /// Connections of the whole daemon; the configuration's `max_connections`.
    #[serde(skip)]
    pub connections_max: usize,
}

impl Limits {
    /// One shard's part of the limits that `shards` have together.
    #[must_use]
    pub fn of_one_in(self, shards: usize) -> Self {
        let shards = shards.max(1);
        let partial_bytes_min = self.partial_bytes_max.min(PARTIAL_SHARE_BYTES_MIN);
        Self {
            subscriptions_max: (self.subscriptions_max / shards).max(1),
            partial_bytes_max: (self.partial_bytes_max / shards).max(partial_bytes_min),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outbox_bytes_max: 1024 * 1024,
            subscriptions_max: 10_000_000,
            handshake_timeout_s: 10,
            head_bytes_max: 16 * 1024,
            partial_bytes_max: 256 * 1024 * 1024,
            close_timeout_s: 5,
            connections_per_address_max: 0,
            connections_max: usize::MAX,
        }
    }
}

/// Close code and reason for the sessions of a dialect whose feed is lost.
pub(super) type Outage = (u16, &'static str);

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The request has not come in full.
    Head,
    /// The handshake awaits its dialect's answer.
    Opening,
    /// The session is open.
    Open,
    /// Our close frame is sent, the peer's awaited.
    Closing,
    /// A request to a dialect lacks the rest of its body.
    Body,
    /// A request has been answered, another may come.
    Idle,
    /// A request awaits the answer of a service.
    Asked(Kind, AnswerForm),
    /// The rest of the outbox is all that is still sent.
    Ending,
    /// The outbox is empty and our side is shut; whatever still comes is discarded.
    Over,
}

impl Phase {
    /// Its name for operators.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Head | Self::Body => "request",
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Idle => "idle",
            Self::Asked(..) => "answering",
            Self::Ending | Self::Over => "ending",
        }
    }

    /// Whether a request is awaited, or the rest of one.
    pub(super) fn awaits_request(self) -> bool {
        matches!(self, Self::Head | Self::Body | Self::Idle)
    }

    /// Whether the peer has been told that the connection ends, or is about to be.
    pub(super) fn is_ending(self) -> bool {
        matches!(self, Self::Closing | Self::Ending)
    }
}

/// The state of a connection that awaits an answer.
pub(super) enum AwaitedAnswer {
    /// The 101 response, for when the dialect accepts.
    Response(Box<[u8]>),
    /// A request's question to the owners of channels.
    Inquiry(PendingInquiry),
}

/// A question of a request, to one or several owners of channels.
pub(super) struct PendingInquiry {
    pub(super) question: Box<PresenceQuestion>,
    /// Owners that have not answered.
    pub(super) left: usize,
    /// The answers so far, merged.
    pub(super) answer: Option<PresenceAnswer>,
}

/// One connection.
pub(super) struct Session {
    pub(super) dialect: Option<AnyDialect>,
    pub(super) pending: Option<Box<AwaitedAnswer>>,
    pub(super) outbox: Outbox,
    /// Distinguishes the connection from those that had its number before.
    pub(super) serial: u32,
    /// The sequence number of the last publication that this session was a candidate for.
    pub(super) stamp: u32,
    /// When the connection came.
    pub(super) since: Tick,
    /// Bytes that its socket has taken; [`u32::MAX`] stands for more too, as there is no room for a
    /// larger number.
    pub(super) bytes_out: u32,
    pub(super) deadline: Tick,
    pub(super) ping_at: Tick,
    pub(super) ping_interval: Tick,
    pub(super) misses: u8,
    pub(super) misses_max: u8,
    pub(super) phase: Phase,
    pub(super) dirty: bool,
    /// The number of the question about a token whose answer counts; 0: none.
    pub(super) asked: u32,
    /// Whether the owner of the topics awaits word of the empty outbox.
    pub(super) owes_receipt: bool,
    /// Whether it has asked the owner of the topics anything.
    pub(super) asks_topics: bool,
}

impl Session {
    /// Its dialect, once one has claimed its request.
    pub(super) fn kind(&self) -> Option<Kind> {
        Some(self.dialect.as_ref()?.kind())
    }

    /// Counts bytes that its socket has taken.
    pub(super) fn count_out(&mut self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes_out = self.bytes_out.saturating_add(bytes);
    }

    /// Pings the peer every `interval_s` seconds from now on, and closes it after `misses_max`
    /// without an answer.
    pub(super) fn keep_alive(&mut self, interval_s: u32, misses_max: u8, now: Now) {
        // A tick at least, or the wheel would come back at once for ever.
        self.ping_interval = ticks(interval_s.into()).max(1);
        self.ping_at = now.tick().saturating_add(self.ping_interval);
        self.misses = 0;
        self.misses_max = misses_max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_takes_at_most_104_bytes_beside_what_it_boxes() {
        assert!(size_of::<Session>() <= 104, "{}", size_of::<Session>());
    }
}
