//! The answers of the API, as values whose schemas the OpenAPI document has.

use super::reply::respond;
use crate::counter::Counter;
use crate::dialect::Kind;
use crate::http::metrics::Facts;
use crate::http::status::DaemonStatus;
use crate::inspect::{SessionCursor, SessionDetail, SessionEnd, SessionRow, WhyRow};
use crate::metrics::{LATENCY_BOUNDS_US, Metrics, Origin, Outcome};
use crate::reason::Reason;
use crate::service::topic::TopicBacklog;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Numbers by name.
type ByName = BTreeMap<&'static str, u64>;

/// The state of the daemon, and what it has done so far.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Status {
    version: &'static str,
    pid: u32,
    /// What the shards wait, receive and send with.
    driver: &'static str,
    /// The start, in milliseconds of unix time.
    started_ms: u64,
    uptime_s: u64,
    /// Whether new connections are accepted.
    ready: bool,
    /// Whether the daemon is stopping.
    draining: bool,
    /// The threads that hang.
    hung: Vec<V1Hung>,
    /// Missing dependencies of dialects.
    gaps: Vec<V1Gap>,
    connections: u64,
    /// Sessions by dialect, of those that listeners speak.
    sessions: ByName,
    /// The shards, in order.
    shards: Vec<V1Shard>,
    /// Publications and messages that wait for shards.
    waiting: u64,
    totals: V1Totals,
    latency: V1Latency,
}

/// A thread that hangs.
#[derive(Serialize, JsonSchema)]
struct V1Hung {
    thread: String,
    /// Seconds since its last turn.
    silent_s: u64,
}

/// A missing dependency.
#[derive(Serialize, JsonSchema)]
struct V1Gap {
    dialects: Vec<&'static str>,
    reason: String,
}

/// A shard.
#[derive(Serialize, JsonSchema)]
struct V1Shard {
    connections: u64,
    /// Sessions by dialect.
    sessions: ByName,
    subscriptions: u64,
    /// Bytes that wait for clients.
    outbox_bytes: u64,
}

/// Counts since the start.
#[derive(Serialize, JsonSchema)]
struct V1Totals {
    /// Events accepted, by source.
    events: ByName,
    /// Events refused, by source.
    rejected: ByName,
    /// Frames of events handed to sessions, by dialect.
    deliveries: ByName,
    /// Messages of clients, by dialect.
    messages: ByName,
    bytes_in: u64,
    bytes_out: u64,
    /// Sessions ended, by reason.
    ends: ByName,
    /// Connections and requests refused, by reason.
    refusals: ByName,
}

/// The time from the acceptance of an event to the end of its last write on a shard.
#[derive(Serialize, JsonSchema)]
struct V1Latency {
    /// The upper bounds of the classes; the last class has none.
    bounds_us: [u64; LATENCY_BOUNDS_US.len()],
    /// The number of events in each class since the start.
    counts: Vec<u64>,
}

/// The answer about the daemon.
#[must_use]
pub fn status(status: &DaemonStatus) -> Vec<u8> {
    let sum = |value: fn(&Metrics) -> &Counter| sum(status, value);
    let by_kind = |values: fn(&Metrics) -> &[Counter]| -> ByName {
        let spoken = status.spoken.iter();
        let of = |kind: Kind| status.threads.iter().map(|it| values(it)[kind as usize].get()).sum();
        spoken.map(|kind| (kind.name(), of(*kind))).collect()
    };
    let by_reason = |values: fn(&Metrics) -> &[Counter]| -> ByName {
        let of = |reason: Reason| -> u64 {
            status.threads.iter().map(|it| values(it)[reason as usize].get()).sum()
        };
        let all = Reason::ALL.iter().map(|reason| (reason.name(), of(*reason)));
        all.filter(|(_, count)| *count > 0).collect()
    };
    let by_origin = |outcome: Outcome| -> ByName {
        let of = |origin: usize| {
            status.threads.iter().map(|it| it.events[origin][outcome as usize].get()).sum()
        };
        Origin::ALL.iter().map(|(origin, name)| (*name, of(*origin as usize))).collect()
    };
    let counts = (0..=LATENCY_BOUNDS_US.len())
        .map(|class| status.threads.iter().map(|it| it.latency[class].get()).sum());

    let body = V1Status {
        version: env!("CARGO_PKG_VERSION"),
        pid: status.start.pid,
        driver: status.start.driver,
        started_ms: status.start.at_ms,
        uptime_s: status.now_ms.saturating_sub(status.start.at_ms) / 1000,
        ready: status.ready,
        draining: status.draining,
        hung: hung(status),
        gaps: gaps(status),
        connections: sum(|it| &it.connections),
        sessions: by_kind(|it| &it.sessions),
        shards: status.threads.iter().take(status.shards).map(|it| shard(it, status)).collect(),
        waiting: status.waiting,
        totals: V1Totals {
            events: by_origin(Outcome::Accepted),
            rejected: by_origin(Outcome::Rejected),
            deliveries: by_kind(|it| &it.deliveries),
            messages: by_kind(|it| &it.messages),
            bytes_in: sum(|it| &it.bytes_in),
            bytes_out: sum(|it| &it.bytes_out),
            ends: by_reason(|it| &it.ends),
            refusals: by_reason(|it| &it.refusals),
        },
        latency: V1Latency { bounds_us: LATENCY_BOUNDS_US, counts: counts.collect() },
    };
    respond(200, "", &body)
}

fn sum(status: &DaemonStatus, value: fn(&Metrics) -> &Counter) -> u64 {
    status.threads.iter().map(|thread| value(thread).get()).sum()
}

fn hung(status: &DaemonStatus) -> Vec<V1Hung> {
    let hung = status.hung.iter();
    hung.map(|(thread, silent_s)| V1Hung { thread: thread.clone(), silent_s: *silent_s }).collect()
}

fn gaps(status: &DaemonStatus) -> Vec<V1Gap> {
    let gap = |gap: &crate::http::status::Gap| V1Gap {
        dialects: gap.kinds.iter().map(|kind| kind.name()).collect(),
        reason: gap.reason.clone(),
    };
    status.gaps.iter().map(gap).collect()
}

fn shard(metrics: &Metrics, status: &DaemonStatus) -> V1Shard {
    let sessions = status.spoken.iter();
    V1Shard {
        connections: metrics.connections.get(),
        sessions: sessions
            .map(|kind| (kind.name(), metrics.sessions[*kind as usize].get()))
            .collect(),
        subscriptions: metrics.subscriptions.get(),
        outbox_bytes: metrics.outbox_bytes.get(),
    }
}

/// The limits, and how far they are used.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Limits {
    connections: V1Use,
    subscriptions: V1Use,
    /// Memory of incomplete requests and messages.
    partial_bytes: V1Use,
    /// Open descriptors of the process.
    descriptors: V1Use,
    /// Durable topics, where a listener speaks a dialect that has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<V1Use>,
    /// Maximum bytes that wait for one client.
    outbox_bytes_max: u64,
    /// Maximum number of connections of one address, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_address_max: Option<u64>,
}

/// A limit.
#[derive(Serialize, JsonSchema)]
struct V1Use {
    used: u64,
    max: u64,
}

/// The answer about the limits.
#[must_use]
pub fn limits(status: &DaemonStatus, facts: &Facts) -> Vec<u8> {
    let used = |value, max| V1Use { used: sum(status, value), max };
    let body = V1Limits {
        connections: used(|it| &it.connections, facts.connections_max),
        subscriptions: used(|it| &it.subscriptions, facts.subscriptions_max),
        partial_bytes: used(|it| &it.partial_bytes, facts.partial_bytes_max),
        descriptors: V1Use { used: facts.process.open_fds, max: facts.process.max_fds },
        topics: facts.topics_max.map(|max| used(|it| &it.store.topics, max)),
        outbox_bytes_max: facts.outbox_bytes_max,
        connections_per_address_max: facts.connections_per_address_max,
    };
    respond(200, "", &body)
}

/// The largest backlogs of durable topics.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Backlogs<'a> {
    /// The largest first; those that are empty are left out.
    backlogs: Vec<V1Backlog<'a>>,
}

/// The backlog of a subscription.
#[derive(Serialize, JsonSchema)]
struct V1Backlog<'a> {
    topic: &'a str,
    subscription: &'a str,
    /// The number of messages that wait for consumers.
    messages: u64,
}

/// The answer about backlogs.
#[must_use]
pub fn backlogs(backlogs: &[TopicBacklog]) -> Vec<u8> {
    let backlogs = backlogs.iter().map(|TopicBacklog { topic, subscription, messages }| {
        V1Backlog { topic, subscription, messages: *messages }
    });
    respond(200, "", &V1Backlogs { backlogs: backlogs.collect() })
}

/// A page of a list.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Sessions<'a> {
    sessions: Vec<V1Session<'a>>,
    /// What the next page comes after; without it this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A connection, and its session.
#[derive(Serialize, JsonSchema)]
struct V1Session<'a> {
    id: String,
    /// Absent before a dialect has claimed the request, and after its session has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    /// request, opening, open, closing, idle, answering or ending.
    phase: &'static str,
    /// The address and port of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    tls: bool,
    /// The subject of the token, or an equivalent; 80 characters at most.
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    /// When the connection came, in milliseconds of unix time, to a quarter of a second.
    since_ms: u64,
    /// Bytes that wait for the client.
    backlog_bytes: u64,
    /// Bytes sent to the client so far; 4294967295 stands for more too.
    bytes_out: u32,
    /// The number of subscriptions.
    subscriptions: u32,
}

impl<'a> V1Session<'a> {
    fn new(row: &'a SessionRow) -> Self {
        Self {
            id: row.id.to_string(),
            dialect: row.kind.map(Kind::name),
            phase: row.phase,
            address: row.socket.remote.map(|remote| remote.to_string()),
            tls: row.socket.is_tls,
            subject: &row.subject,
            since_ms: row.since_ms,
            backlog_bytes: row.backlog_bytes,
            bytes_out: row.bytes_out,
            subscriptions: row.subscriptions,
        }
    }
}

/// The answer with a list.
#[must_use]
pub fn sessions(rows: &[SessionRow], next: Option<SessionCursor>) -> Vec<u8> {
    let body = V1Sessions {
        sessions: rows.iter().map(V1Session::new).collect(),
        next: next.map(|next| next.to_string()),
    };
    respond(200, "", &body)
}

/// A connection with its subscriptions.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Detail<'a> {
    #[serde(flatten)]
    session: V1Session<'a>,
    /// The address that the client has connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<String>,
    /// The subscriptions, at most 1000, as addresses in which a star stands for any text.
    topics: &'a [Box<str>],
}

/// The answer with one session.
#[must_use]
pub fn session(detail: &SessionDetail) -> Vec<u8> {
    let body = V1Detail {
        session: V1Session::new(&detail.row),
        listener: detail.listener.map(|listener| listener.to_string()),
        topics: &detail.topics,
    };
    respond(200, "", &body)
}

/// What an event would be to sessions.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Why<'a> {
    sessions: Vec<V1WhyRow<'a>>,
}

/// What an event would be to a session.
#[derive(Serialize, JsonSchema)]
struct V1WhyRow<'a> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    /// Whether the session would get it.
    gets: bool,
    /// Why, or why not.
    because: &'a str,
}

/// The answer about what an event would be.
#[must_use]
pub fn explained(rows: &[WhyRow]) -> Vec<u8> {
    let sessions = rows.iter().map(|WhyRow { row, explanation }| V1WhyRow {
        id: row.id.to_string(),
        dialect: row.kind.map(Kind::name),
        subject: &row.subject,
        gets: explanation.gets,
        because: &explanation.because,
    });
    respond(200, "", &V1Why { sessions: sessions.collect() })
}

/// The outcome of ending sessions.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Kicked {
    /// The number of sessions ended.
    kicked: usize,
}

/// The answer about ended sessions.
#[must_use]
pub fn kicked(count: usize) -> Vec<u8> {
    respond(200, "", &V1Kicked { kicked: count })
}

/// The last ends.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1Ended<'a> {
    ended: Vec<V1End<'a>>,
}

/// The end of a session, or a refusal.
#[derive(Serialize, JsonSchema)]
struct V1End<'a> {
    /// Absent when the connection was refused before its first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// When, in milliseconds of unix time.
    at_ms: u64,
    /// Whether a request was refused, and no session ended.
    refused: bool,
    /// Absent when no dialect had claimed the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    /// The address and port of the client, where it was still known.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// The subject of the token, or an equivalent; 80 characters at most.
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    /// The reason, as it is in the metrics.
    reason: &'static str,
    /// The reason in words.
    detail: &'a str,
    /// What the client was told: the code of a close frame, or a status.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    /// Seconds since the connection came.
    age_s: u32,
    /// Bytes sent to the client by then; 4294967295 stands for more too.
    bytes_out: u32,
}

impl<'a> V1End<'a> {
    fn new(end: &'a SessionEnd) -> Self {
        Self {
            id: end.id.map(|id| id.to_string()),
            at_ms: end.at_ms,
            refused: end.is_refusal,
            dialect: end.kind.map(Kind::name),
            address: end.remote.map(|remote| remote.to_string()),
            subject: &end.subject,
            reason: end.reason.name(),
            detail: end.why(),
            code: end.code,
            age_s: end.age_s,
            bytes_out: end.bytes_out,
        }
    }
}

/// The answer with the last ends.
#[must_use]
pub fn ended(ends: &[SessionEnd]) -> Vec<u8> {
    respond(200, "", &V1Ended { ended: ends.iter().map(V1End::new).collect() })
}
