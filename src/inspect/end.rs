//! The ends of sessions, and refusals: one value for each, from which the log has its line and
//! operators their list.
//!
//! The ring keeps the last of each sort apart, so that strangers who are refused push no session's
//! end out of it. It has no memory before the first end.

use crate::dialect::Kind;
use crate::proxy::Remote;
use crate::reason::Reason;
use crate::service::ConnectionRef;
use core::net::IpAddr;
use std::cmp::Reverse;
use std::collections::VecDeque;

/// Maximum number of ended sessions that are kept: hours of ordinary days, or all who were there
/// when something happened to a service of that size. With their texts they take some 2 MB.
pub const ENDS_MAX: usize = 10_000;
/// Maximum number of refusals that are kept: enough to see what a flood is made of.
pub const REFUSALS_MAX: usize = 2000;
/// Longest detail that is kept, in characters; the daemon's own sentences are shorter.
pub const DETAIL_CHARS_MAX: usize = 160;

/// The end of a session, or a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    /// The connection; `None` when it was refused before it became one.
    pub id: Option<ConnectionRef>,
    /// When, in milliseconds of unix time.
    pub at_ms: u64,
    /// The dialect, if one had claimed the request.
    pub kind: Option<Kind>,
    /// The client's address, if it was still known.
    pub remote: Option<Remote>,
    /// The subject of the token, or an equivalent; empty where there is none.
    pub subject: Box<str>,
    /// Why.
    pub reason: Reason,
    /// What the reason does not say; often empty.
    pub detail: Box<str>,
    /// What the client was told: the code of a close frame, or a status.
    pub code: Option<u16>,
    /// Seconds since the connection came.
    pub age_s: u32,
    /// Bytes that the socket had taken, what it was told at the end not among them.
    pub bytes_out: u32,
    /// Whether a request was refused, and no session ended.
    pub is_refusal: bool,
}

impl SessionEnd {
    /// The detail, or else the reason in words.
    #[must_use]
    pub fn why(&self) -> &str {
        if self.detail.is_empty() { self.reason.words() } else { &self.detail }
    }
}

/// Which ends are meant: those with all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndFilter {
    /// The connection.
    pub id: Option<ConnectionRef>,
    /// The dialect.
    pub kind: Option<Kind>,
    /// The reason.
    pub reason: Option<Reason>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The whole subject, as sessions are listed with it.
    pub subject: Option<Box<str>>,
}

impl EndFilter {
    fn means(&self, end: &SessionEnd) -> bool {
        self.id.is_none_or(|id| end.id == Some(id))
            && self.kind.is_none_or(|kind| end.kind == Some(kind))
            && self.reason.is_none_or(|reason| end.reason == reason)
            && self.address.is_none_or(|ip| end.remote.is_some_and(|remote| remote.ip == ip))
            && self.subject.as_ref().is_none_or(|subject| end.subject == *subject)
    }
}

/// The last ends, at most [`ENDS_MAX`] of sessions and [`REFUSALS_MAX`] refusals.
#[derive(Debug, Default)]
pub struct EndRing {
    ended: VecDeque<SessionEnd>,
    refused: VecDeque<SessionEnd>,
}

impl EndRing {
    /// Keeps ends, in their order.
    pub fn keep(&mut self, ends: impl IntoIterator<Item = SessionEnd>) {
        for end in ends {
            let (ring, most) = if end.is_refusal {
                (&mut self.refused, REFUSALS_MAX)
            } else {
                (&mut self.ended, ENDS_MAX)
            };
            if ring.len() == most {
                ring.pop_front();
            } else if ring.len() == ring.capacity() {
                // Twice as many, as ever, but never more than it is to hold.
                ring.reserve_exact(ring.len().max(16).min(most - ring.len()));
            }
            ring.push_back(end);
        }
    }

    /// The last ends that a filter means, the newest first.
    #[must_use]
    pub fn newest(&self, filter: &EndFilter, count: usize) -> Vec<SessionEnd> {
        let of = |ring: &VecDeque<SessionEnd>| -> Vec<SessionEnd> {
            ring.iter().rev().filter(|end| filter.means(end)).take(count).cloned().collect()
        };
        let mut found = of(&self.ended);
        found.extend(of(&self.refused));
        // Stable, so that those of one millisecond stay in their order.
        found.sort_by_key(|end| Reverse(end.at_ms));
        found.truncate(count);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(number: u32) -> SessionEnd {
        SessionEnd {
            id: Some(ConnectionRef { shard: 0, id: 7, serial: number }),
            at_ms: number.into(),
            kind: Kind::named("echo"),
            remote: Some(Remote::at(IpAddr::from([192, 0, 2, 1]))),
            subject: "ann".into(),
            reason: Reason::Slow,
            detail: "".into(),
            code: Some(1013),
            age_s: 0,
            bytes_out: 0,
            is_refusal: false,
        }
    }

    fn refusal(number: u32) -> SessionEnd {
        SessionEnd { id: None, reason: Reason::NotFound, is_refusal: true, ..end(number) }
    }

    #[test]
    fn the_last_are_kept_and_a_flood_of_refusals_pushes_out_no_session() {
        let mut ring = EndRing::default();
        assert_eq!(ring.ended.capacity() + ring.refused.capacity(), 0);
        ring.keep((0..ENDS_MAX as u32 + 10).map(end));
        ring.keep((0..3 * REFUSALS_MAX as u32).map(refusal));
        assert_eq!((ring.ended.len(), ring.refused.len()), (ENDS_MAX, REFUSALS_MAX));
        assert_eq!(ring.ended.front().unwrap().at_ms, 10);
        assert!(ring.ended.capacity() <= ENDS_MAX && ring.refused.capacity() <= REFUSALS_MAX);
    }

    #[test]
    fn the_newest_of_both_sorts_come_first_and_a_filter_means_what_it_says() {
        let mut ring = EndRing::default();
        ring.keep([end(1), refusal(2), end(3), SessionEnd { subject: "eve".into(), ..end(4) }]);
        let times = |filter, count| -> Vec<u64> {
            ring.newest(&filter, count).iter().map(|end| end.at_ms).collect()
        };
        let all = EndFilter::default;
        assert_eq!(times(all(), 10), [4, 3, 2, 1]);
        assert_eq!(times(all(), 2), [4, 3]);
        assert_eq!(times(EndFilter { id: end(3).id, ..all() }, 10), [3]);
        assert_eq!(times(EndFilter { reason: Some(Reason::NotFound), ..all() }, 10), [2]);
        assert_eq!(times(EndFilter { subject: Some("eve".into()), ..all() }, 10), [4]);
        assert_eq!(times(EndFilter { kind: Kind::named("wazo"), ..all() }, 10), [0; 0]);
        let address = Some(IpAddr::from([192, 0, 2, 2]));
        assert_eq!(times(EndFilter { address, ..all() }, 10), [0; 0]);
    }
}
