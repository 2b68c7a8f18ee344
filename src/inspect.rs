//! What operators ask about sessions, and what is answered: plain values.
//!
//! A shard answers within its turn, so one question looks at [`WALK_MAX`] sessions at most, and the
//! answer says where the next one goes on. Without a question nothing is kept and nothing costs.
//!
//! Who may ask is decided by `http`, who asks the shards in which order by `io`. Sessions that have
//! ended are in [`end`], events on their way to sessions in [`tap`].

pub mod end;
pub mod tap;

pub use self::end::{DETAIL_CHARS_MAX, ENDS_MAX, EndFilter, EndRing, REFUSALS_MAX, SessionEnd};
pub use self::tap::{TapFilter, TapQueue};

use crate::dialect::{AskedTopic, Explanation, Kind};
use crate::frame::Publication;
use crate::proxy::Remote;
use crate::service::ConnectionRef;
use core::net::IpAddr;
use std::fmt;
use std::sync::Arc;

/// Maximum number of sessions that one question looks at. A session costs up to 0.5 µs (its
/// address is a system call), and a turn should stay below a millisecond.
pub const WALK_MAX: usize = 1024;
/// Maximum number of sessions that one question ends: an end takes some microseconds.
pub const KICKS_MAX: usize = 128;
/// Maximum number of publications of an event that are compared with sessions, each at the cost of
/// its delivery; most events have one.
pub const PUBLICATIONS_MAX: usize = 4;
/// Maximum number of subscriptions that are told of a session; most have a handful.
pub const SUBSCRIPTIONS_MAX: usize = 1000;
/// Longest subject that is told, in characters, as in the log.
pub const SUBJECT_CHARS_MAX: usize = 80;

/// Which sessions are meant: those with all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// The dialect.
    pub kind: Option<Kind>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The whole subject, as sessions are listed with it.
    pub subject: Option<Box<str>>,
    /// A topic whose events they may get.
    pub topic: Option<AskedTopic>,
}

impl SessionFilter {
    /// Whether every session is meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionOrder {
    /// As they come, which allows the next page.
    #[default]
    Unsorted,
    /// The oldest first.
    Age,
    /// The most bytes waiting for the client first.
    Backlog,
}

/// A part of the sessions of one shard.
#[derive(Clone, Debug, Default)]
pub struct SessionWalk {
    /// Which are meant.
    pub filter: SessionFilter,
    /// The first number that is looked at.
    pub from: u32,
    /// Maximum number of sessions that are told, or ended.
    pub count: usize,
    /// Their order.
    pub order: SessionOrder,
    /// In an order, the rank that a session must exceed to be told; `None`: all are.
    pub above: Option<u64>,
}

/// The end of sessions by an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kick {
    /// The close code; `None` for the dialect's own code and text.
    pub code: Option<u16>,
    /// The text of the close frame.
    pub text: Box<str>,
}

/// A question to a shard.
#[derive(Debug)]
pub enum SessionInquiry {
    /// Sessions, as rows.
    List(SessionWalk),
    /// One session with its subscriptions.
    One(ConnectionRef),
    /// The end of sessions.
    Kick(SessionWalk, Kick),
    /// The end of one session.
    KickOne(ConnectionRef, Kick),
    /// Whether sessions would get any of these publications.
    Why(SessionWalk, Arc<[Publication]>),
}

/// A shard's answer.
#[derive(Debug)]
pub enum SessionAnswer {
    /// The sessions found, and where the walk goes on; `None` at its end.
    Rows(Vec<SessionRow>, Option<u32>),
    /// The session, if it is there.
    One(Option<Box<SessionDetail>>),
    /// The number of sessions ended, and where the walk goes on.
    Kicked(usize, Option<u32>),
    /// What is to be said of each session, and where the walk goes on.
    Why(Vec<WhyRow>, Option<u32>),
}

/// What the owner of the sockets knows of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFacts {
    /// The client's address, if it is still known.
    pub remote: Option<Remote>,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
}

/// A connection, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Which it is.
    pub id: ConnectionRef,
    /// Its dialect, once one has claimed its request and until it ends.
    pub kind: Option<Kind>,
    /// Its phase, in a word.
    pub phase: &'static str,
    /// What its socket tells.
    pub socket: SocketFacts,
    /// The subject of its token, or an equivalent; empty where there is none.
    pub subject: Box<str>,
    /// When the connection came, in milliseconds of unix time, to a quarter of a second.
    pub since_ms: u64,
    /// Bytes that wait for the client.
    pub backlog_bytes: u64,
    /// Bytes that its socket has taken; [`u32::MAX`] stands for more too.
    pub bytes_out: u32,
    /// The number of its subscriptions.
    pub subscriptions: u32,
}

impl SessionRow {
    /// Its rank in an order: the highest comes first.
    #[must_use]
    pub fn rank(&self, order: SessionOrder) -> u64 {
        match order {
            SessionOrder::Unsorted => 0,
            SessionOrder::Age => age_rank(self.since_ms),
            SessionOrder::Backlog => self.backlog_bytes,
        }
    }
}

/// The rank of a connection that came at this time.
#[must_use]
pub fn age_rank(since_ms: u64) -> u64 {
    u64::MAX - since_ms
}

/// What an event would be to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyRow {
    /// The session.
    pub row: SessionRow,
    /// Whether it would get it, and why.
    pub explanation: Explanation,
}

/// A connection with what it is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDetail {
    /// As in a list.
    pub row: SessionRow,
    /// The address that the client has connected to.
    pub listener: Option<Remote>,
    /// Its subscriptions, at most [`SUBSCRIPTIONS_MAX`], as addresses.
    pub topics: Vec<Box<str>>,
}

/// A list that an operator asks for, of the sessions of all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionList {
    /// Which are meant.
    pub filter: SessionFilter,
    /// Their order.
    pub order: SessionOrder,
    /// Maximum number of rows.
    pub count: usize,
    /// Where the page begins; `None`: at the start.
    pub from: Option<SessionCursor>,
}

/// A place in the list of all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCursor {
    /// The shard.
    pub shard: u16,
    /// The number within the shard.
    pub id: u32,
}

impl fmt::Display for SessionCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shard, self.id)
    }
}

impl SessionCursor {
    /// Reads a cursor; `None` when the text is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (shard, id) = text.split_once('-')?;
        Some(Self { shard: shard.parse().ok()?, id: id.parse().ok()? })
    }
}

/// The sessions that an operator ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KickTarget {
    /// This one.
    One(ConnectionRef),
    /// Those of a filter, at most so many.
    All(SessionFilter, usize),
}
