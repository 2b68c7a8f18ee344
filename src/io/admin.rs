//! The admin listener: a thread of its own, so that health is answered however busy the shards are,
//! and a task per request. Requests are read as on every listener.
//!
//! Any client of the port may keep connections open. At [`CONNECTIONS_MAX`] a new connection is
//! still accepted, and displaces the oldest unfinished request of the peer with the most of them:
//! an address, or a user of the socket.

mod publishing;
mod socket;
mod tapping;
mod v1;

pub(super) use self::socket::{AdminListeners, AdminSockets};

use self::socket::{AdminPeer, AdminStream};
use self::v1::V1Sources;

use super::Hub;
use super::operator::Operator;
use super::pulse;
use super::store::Unanswered;
use super::taps::OpenTap;
use crate::dialect::Kind;
use crate::http::body::Framing;
use crate::http::head::{self, Fault, HEADERS_MAX, Head, HeadEnd};
use crate::http::{
    self, AdminCall, AdminRequest, AdminTokens, ClusterCall, Exposition, TopicCall, V1Call,
};
use std::cmp::Reverse;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// Maximum number of connections: a balancer, a supervisor and a Prometheus need a handful. A
/// descriptor is reserved for each.
pub const CONNECTIONS_MAX: usize = 64;
/// Maximum number of requests that wait for the store, or change something. They are not displaced,
/// so they must not be all.
const CALLS_MAX: usize = 16;
/// The answer to one more.
const BUSY: &str = "too many requests wait for the store; try again";
/// Time for a whole request, and again for a whole response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an answer about topics: a purge may delete very much, while other requests are served.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for a copy of the store, which is as large as the disk.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3600);
/// Connections accepted before the tasks run; far fewer than [`CONNECTIONS_MAX`], so that none is
/// displaced before its bytes were looked for.
const ACCEPTED_AT_ONCE: usize = 8;
/// Pause in accepting when no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Interval between two looks whether every request is answered, after a hand-over.
const END_PAUSE: Duration = Duration::from_millis(5);
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Longest body in bytes: the form of a few parameters.
const BODY_BYTES_MAX: usize = 8 * 1024;

/// Starts the thread, which answers requests until the process ends. Without a token it refuses
/// those of operators, but for those on the socket.
///
/// # Errors
/// When no thread or runtime can be started.
pub(super) fn start(
    hub: &Arc<Hub>,
    listeners: AdminListeners,
    tokens: AdminTokens,
    operator: Option<Arc<dyn Operator>>,
) -> io::Result<Arc<AdminSockets>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sockets = {
        // A tokio socket registers with the runtime that it is made in.
        let _inside = runtime.enter();
        Arc::new(listeners.open()?)
    };
    let for_thread = Arc::clone(&sockets);
    let state = Arc::new(AdminState {
        hub: Arc::clone(hub),
        tokens,
        v1: V1Sources::new(hub, operator),
        calls: AtomicUsize::new(0),
        pages: Default::default(),
    });
    let thread = std::thread::Builder::new().name("admin".into());
    thread.spawn(move || runtime.block_on(serve(for_thread, &state)))?;
    Ok(sockets)
}

/// The state that all requests share.
struct AdminState {
    hub: Arc<Hub>,
    tokens: AdminTokens,
    /// What requests of the operators' API are answered from.
    v1: V1Sources,
    /// The number of requests that wait for the store.
    calls: AtomicUsize,
    /// The pages of metrics, one for each format.
    pages: [Page; Exposition::COUNT],
}

/// A page of metrics that requests share, because it takes a while to write.
#[derive(Default)]
struct Page {
    /// The number of requests for it so far.
    asked: AtomicUsize,
    /// The last page, and the number of requests when its writing began. Locked while it is
    /// written.
    last: Mutex<(usize, Arc<[u8]>)>,
}

/// A connection.
struct AdminConnection {
    peer: AdminPeer,
    task: AbortHandle,
    /// Whether its request waits for the store.
    calls: Arc<AtomicBool>,
}

async fn serve(sockets: Arc<AdminSockets>, state: &Arc<AdminState>) {
    tokio::spawn(pulse::beat(Arc::clone(&state.hub), |hub| &hub.pulses.admin));
    let remembering = Arc::clone(state);
    tokio::spawn(async move { remembering.v1.remember().await });
    let mut connections: Vec<AdminConnection> = Vec::new();
    let metrics = Arc::clone(state.hub.admin_metrics());
    for accepted in 1usize.. {
        let accepted_now = tokio::select! {
            accepted = sockets.accept() => accepted,
            // The listeners are the next process's; who has asked before is still answered.
            () = state.hub.admin_end.notified() => break,
        };
        match accepted_now {
            Ok((socket, peer)) => {
                connections.retain(|connection| !connection.task.is_finished());
                if connections.len() >= CONNECTIONS_MAX && end_oldest(&mut connections) {
                    metrics.admin_displaced.add(1);
                }
                let calls = Arc::<AtomicBool>::default();
                let conversation = converse(socket, peer, Arc::clone(state), Arc::clone(&calls));
                let task = tokio::spawn(conversation).abort_handle();
                connections.push(AdminConnection { peer, task, calls });
            }
            // The client has gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // No descriptor is free, which the kernel says before it looks for a client: a request
            // gives up its own only for one that waits.
            Err(_) => {
                if sockets.are_awaited() {
                    metrics.accept_errors.add(1);
                    connections.retain(|connection| !connection.task.is_finished());
                    end_oldest(&mut connections);
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
        // A burst of connections must not displace those whose requests have come and wait for this
        // thread.
        if accepted % ACCEPTED_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(sockets);
    while connections.iter().any(|connection| !connection.task.is_finished()) {
        sleep(END_PAUSE).await;
    }
    state.hub.admin_ended.store(true, Relaxed);
}

/// Ends the oldest unfinished request of the peer that has most of them. Returns whether there
/// was one.
fn end_oldest(connections: &mut Vec<AdminConnection>) -> bool {
    let peers = connections.iter().map(|connection| connection.peer);
    let calls = connections.iter().map(|connection| connection.calls.load(Relaxed));
    let Some(place) = oldest(peers.zip(calls)) else { return false };
    connections.remove(place).task.abort();
    true
}

/// The first connection of the most frequent peer, not counting connections that stay.
fn oldest(connections: impl Iterator<Item = (AdminPeer, bool)>) -> Option<usize> {
    // The count of each peer, and the place of its first connection.
    let mut peers: Vec<(AdminPeer, usize, usize)> = Vec::new();
    for (place, (peer, stays)) in connections.enumerate() {
        match peers.iter_mut().find(|(known, ..)| *known == peer) {
            _ if stays => {}
            Some((_, count, _)) => *count += 1,
            None => peers.push((peer, 1, place)),
        }
    }

    let most = peers.into_iter().max_by_key(|(_, count, place)| (*count, Reverse(*place)));
    most.map(|(_, _, place)| place)
}

/// Reads one request and answers it.
async fn converse(
    socket: AdminStream,
    peer: AdminPeer,
    state: Arc<AdminState>,
    calls: Arc<AtomicBool>,
) -> io::Result<()> {
    let reply = match timeout(REQUEST_TIMEOUT, read(&socket, peer, &state)).await {
        Err(_) => AdminReply::Whole(http::refusal(408).into()),
        Ok(request) => match request? {
            AdminRead::None => return Ok(()),
            AdminRead::Refused(response) => AdminReply::Whole(response.into()),
            AdminRead::Whole(bytes, head, body) => {
                respond(&bytes, (head, body), peer, &state, &calls).await
            }
        },
    };
    match reply {
        AdminReply::Whole(response) => timeout(REQUEST_TIMEOUT, socket.send(&response)).await?,
        AdminReply::Tap(tap) => tapping::show(&socket, &tap).await,
    }
}

/// What a request is answered.
enum AdminReply {
    /// A whole response.
    Whole(Arc<[u8]>),
    /// The events that pass from now on.
    Tap(OpenTap),
}

/// What a connection has sent.
enum AdminRead {
    /// Nothing whole before the client shut its side.
    None,
    /// A malformed request, with its refusal.
    Refused(Vec<u8>),
    /// A whole request: its bytes, the length of its head and of its body.
    Whole(Vec<u8>, usize, usize),
}

async fn read(socket: &AdminStream, peer: AdminPeer, state: &AdminState) -> io::Result<AdminRead> {
    let bytes_max = |request: &AdminRequest<'_>| {
        let request = AdminRequest { is_admitted: peer.is_admitted(), ..*request };
        http::v1::body_bytes_max(&request, &state.tokens).unwrap_or(BODY_BYTES_MAX)
    };
    let (mut bytes, mut chunk, mut incoming) = (Vec::new(), [0; 2048], Incoming::default());
    loop {
        match incoming.read(&mut bytes, &bytes_max) {
            Ok(Some((head, body))) => return Ok(AdminRead::Whole(bytes, head, body)),
            Ok(None) => {}
            Err(fault) => {
                return Ok(AdminRead::Refused(http::refusal_saying(fault.status, fault.reason)));
            }
        }
        match socket.read(&mut chunk).await? {
            0 => return Ok(AdminRead::None),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// The progress of a request.
#[derive(Default)]
struct Incoming {
    /// Bytes of the head that were searched for its end.
    searched: usize,
    /// The length of the head, the framing of the body and its longest length, once the head is
    /// whole.
    body: Option<(usize, Framing, usize)>,
}

impl Incoming {
    /// The lengths of head and body, once the request is whole; `bytes_max` tells the longest body
    /// of a request.
    fn read(
        &mut self,
        bytes: &mut [u8],
        bytes_max: &impl Fn(&AdminRequest<'_>) -> usize,
    ) -> Result<Option<(usize, usize)>, Fault> {
        let (head, mut framing, body_bytes_max) = match self.body.take() {
            Some(body) => body,
            None => match head::end(bytes, &mut self.searched, HEAD_BYTES_MAX) {
                HeadEnd::At(end) => {
                    let (framing, body_bytes_max) = framing(&bytes[..end], bytes_max)?;
                    (end, framing, body_bytes_max)
                }
                HeadEnd::Part => return Ok(None),
                HeadEnd::TooLong => return Err(head::TOO_LARGE),
            },
        };
        let end = framing.read(&mut bytes[head..], body_bytes_max)?;
        let body = framing.len();
        self.body = Some((head, framing, body_bytes_max));
        Ok(end.map(|_| (head, body)))
    }
}

/// The framing of the body that a whole head announces, and its longest length.
fn framing(
    head: &[u8],
    bytes_max: &impl Fn(&AdminRequest<'_>) -> usize,
) -> Result<(Framing, usize), Fault> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let head = Head::read(head, &mut fields)?;
    let fields = head.fields()?;
    let bytes_max = bytes_max(&AdminRequest {
        method: head.method,
        path: head.path,
        authorization: fields.authorization,
        host: fields.host,
        origin: fields.origin.map(|origin| std::str::from_utf8(origin).unwrap_or_default()),
        ..AdminRequest::default()
    });
    Ok((Framing::of(fields.coding, bytes_max)?, bytes_max))
}

/// Answers a whole request.
async fn respond(
    bytes: &[u8],
    (head, body): (usize, usize),
    peer: AdminPeer,
    state: &AdminState,
    calls: &AtomicBool,
) -> AdminReply {
    // Parsed again: the first parse borrowed bytes that were still growing.
    let (head_bytes, rest) = bytes.split_at(head);
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let head = Head::read(head_bytes, &mut fields).and_then(|head| Ok((head.fields()?, head)));
    let (fields, head) = match head {
        Ok(read) => read,
        Err(fault) => {
            return AdminReply::Whole(http::refusal_saying(fault.status, fault.reason).into());
        }
    };
    let request = AdminRequest {
        method: head.method,
        path: head.path,
        query: head.query,
        body: &rest[..body],
        content_type: &head.list("content-type"),
        accept: &head.list("accept"),
        authorization: fields.authorization,
        host: fields.host,
        origin: fields.origin.map(|origin| std::str::from_utf8(origin).unwrap_or_default()),
        is_admitted: peer.is_admitted(),
    };
    let call = http::call(&request, &state.tokens);
    if let Some(Ok(AdminCall::V1(V1Call::Tap(filter)))) = &call
        && !head.is_head
    {
        let Some(tap) = state.hub.taps.open(filter.clone()) else {
            let busy = http::v1::failed(503, "too many see events pass already; try again");
            return AdminReply::Whole(busy.into());
        };
        // It stays for long, and has the right to.
        calls.store(true, Relaxed);
        return AdminReply::Tap(tap);
    }
    let response = answer(call, &request, state, calls).await;
    AdminReply::Whole(match head.is_head {
        true => http::without_body(response.to_vec()).into(),
        false => response,
    })
}

async fn answer(
    call: Option<Result<AdminCall, Vec<u8>>>,
    request: &AdminRequest<'_>,
    state: &AdminState,
    calls: &AtomicBool,
) -> Arc<[u8]> {
    match call {
        None => match request.exposition() {
            Some(form) => metrics(form, state).await,
            None => http::admin(request, &state.tokens, &state.hub.status()).into(),
        },
        Some(Err(refusal)) => refusal.into(),
        Some(Ok(AdminCall::Cluster(call))) => ask_cluster(call, &state.hub).into(),
        Some(Ok(AdminCall::V1(call))) if call.changes() => {
            let answer = stay(v1::answer(call, &state.v1), state, calls).await;
            answer.unwrap_or_else(|| http::v1::failed(503, BUSY)).into()
        }
        Some(Ok(AdminCall::V1(call))) => v1::answer(call, &state.v1).await.into(),
        Some(Ok(AdminCall::Topic(call))) => {
            let answer = stay(ask(call, &state.hub), state, calls).await;
            answer.unwrap_or_else(|| http::answer(503, BUSY.as_bytes())).into()
        }
    }
}

/// Waits for an answer whose request is not displaced, because it may be half done; `None` when too
/// many wait already.
async fn stay(
    answer: impl Future<Output = Vec<u8>>,
    state: &AdminState,
    calls: &AtomicBool,
) -> Option<Vec<u8>> {
    if state.calls.load(Relaxed) >= CALLS_MAX {
        return None;
    }
    calls.store(true, Relaxed);
    let _count = CallCount::new(&state.calls);
    let answer = answer.await;
    calls.store(false, Relaxed);
    Some(answer)
}

/// Counts a request that waits for the store, until it is dropped.
struct CallCount<'a>(&'a AtomicUsize);

impl<'a> CallCount<'a> {
    fn new(calls: &'a AtomicUsize) -> Self {
        calls.fetch_add(1, Relaxed);
        Self(calls)
    }
}

impl Drop for CallCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The page of metrics. Requests that came before a page was begun share it, so that many scrapes
/// at once cost one page and delay no other request.
async fn metrics(form: Exposition, state: &AdminState) -> Arc<[u8]> {
    let page = &state.pages[form as usize];
    let place = page.asked.fetch_add(1, Relaxed) + 1;
    let mut last = page.last.lock().await;
    // One page a round of the runtime: between two of them all other requests have a turn.
    tokio::task::yield_now().await;
    // A page that was begun before this request is too old for it.
    if last.0 < place {
        let asked = page.asked.load(Relaxed);
        let facts = state.hub.facts().await;
        *last = (asked, http::metrics(form, &state.hub.status(), &facts).into());
    }
    Arc::clone(&last.1)
}

/// Answers a request about the cluster.
fn ask_cluster(call: ClusterCall, hub: &Hub) -> Vec<u8> {
    let Some(cluster) = &hub.cluster else {
        return http::answer(404, b"this daemon is alone: it has no [cluster]");
    };
    match call {
        ClusterCall::Status => http::answer(200, cluster.status().as_bytes()),
        ClusterCall::Drain => {
            cluster.drain();
            http::answer(200, b"{}")
        }
    }
}

/// Asks the store, and makes the response of its answer.
async fn ask(call: TopicCall, hub: &Hub) -> Vec<u8> {
    let late = "the store has not answered yet; it may still do what was asked";
    match call {
        TopicCall::Inquire(inquiry) => {
            match timeout(ANSWER_TIMEOUT, hub.store.inquire(inquiry)).await {
                Ok(Ok((status, body))) => http::answer(status, &body),
                Ok(Err(reason)) => unanswered(reason, hub),
                Err(_) => http::answer(503, late.as_bytes()),
            }
        }
        TopicCall::Room => match timeout(ANSWER_TIMEOUT, hub.store.survey()).await {
            Ok(Ok(survey)) => http::answer(200, survey.room.json().to_string().as_bytes()),
            Ok(Err(reason)) => unanswered(reason, hub),
            Err(_) => http::answer(503, late.as_bytes()),
        },
        TopicCall::Backup { keep } => match timeout(BACKUP_TIMEOUT, hub.store.backup(keep)).await {
            Ok(Ok(Ok(made))) => {
                let told = serde_json::json!({
                    "path": made.path, "messages": made.messages, "bytes": made.bytes,
                    "newBytes": made.new_bytes, "removed": made.removed,
                });
                http::answer(200, told.to_string().as_bytes())
            }
            Ok(Ok(Err(reason))) => http::answer(503, reason.as_bytes()),
            Ok(Err(reason)) => unanswered(reason, hub),
            Err(_) => http::answer(503, late.as_bytes()),
        },
    }
}

/// The response to a request that the store does not answer.
fn unanswered(reason: Unanswered, hub: &Hub) -> Vec<u8> {
    match reason {
        Unanswered::Ended if hub.spoken.iter().any(|kind| kind.has_topics()) => {
            http::answer(503, b"the store has ended, and may not have done what was asked")
        }
        Unanswered::Ended => {
            let names = Kind::names_with_topics();
            let none =
                format!("there are no topics here: no [[listen]] has {names} among its dialects");
            http::answer(501, none.as_bytes())
        }
        Unanswered::Full => {
            http::answer(503, b"too much waits for the store, and nothing was done; try again")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_whoever_has_most_of_it_and_not_by_those_who_wait_for_the_store() {
        let [a, b] = [1, 2].map(AdminPeer::User);
        assert_eq!(oldest([].into_iter()), None);
        assert_eq!(oldest([(a, true), (b, true)].into_iter()), None);
        assert_eq!(oldest([(a, false), (b, false)].into_iter()), Some(0));
        assert_eq!(oldest([(a, false), (b, true), (b, false), (b, false)].into_iter()), Some(2));
        assert_eq!(
            oldest([(b, true), (b, true), (b, false), (a, false), (a, false)].into_iter()),
            Some(3)
        );
    }

    /// The target and the body of a request that comes in these pieces, or the status that refuses
    /// it.
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Option<(String, String)>, u16> {
        let (mut bytes, mut incoming) = (Vec::new(), Incoming::default());
        for piece in pieces {
            bytes.extend_from_slice(piece);
            if let Some((head, body)) =
                incoming.read(&mut bytes, &|_| BODY_BYTES_MAX).map_err(|fault| fault.status)?
            {
                let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
                let path = Head::read(&bytes[..head], &mut fields).unwrap().path.to_owned();
                let body = String::from_utf8(bytes[head..head + body].to_vec()).unwrap();
                return Ok(Some((path, body)));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_request_is_read_the_same_however_it_is_cut() {
        let post = |lines: &str| format!("POST /topics/purge HTTP/1.1\r\nHost: x\r\n{lines}");
        let topic = Ok(Some(("/topics/purge".to_owned(), "topic=x".to_owned())));
        for (request, expected) in [
            (
                "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".into(),
                Ok(Some(("/metrics".into(), String::new()))),
            ),
            (
                "GET http://x/metrics HTTP/1.0\r\n\r\n".into(),
                Ok(Some(("/metrics".into(), String::new()))),
            ),
            (post("Content-Length: 7\r\n\r\ntopic=x"), topic.clone()),
            (post("Transfer-Encoding: chunked\r\n\r\n3\r\ntop\r\n4;a\r\nic=x\r\n0\r\n\r\n"), topic),
            (post("Content-Length: 8\r\n\r\ntopic=x"), Ok(None)),
            ("GET / HTTP/1.1\r\n\r\n".into(), Err(400)),
            ("GET / HTTP/1.1\nHost: x\r\n\r\n".into(), Err(400)),
            ("no request\r\n\r\n".into(), Err(400)),
            (post("Host: x\r\n\r\n"), Err(400)),
            (post("Content-Length: -1234\r\n\r\n"), Err(400)),
            (post("Content-Length: abc\r\n\r\n"), Err(400)),
            (post("Content-Length: 7\r\nContent-Length: 7\r\n\r\ntopic=x"), Err(400)),
            (post("Content-Length: 8193\r\n\r\n"), Err(413)),
            (post("Transfer-Encoding: gzip\r\n\r\n"), Err(501)),
            (post(&format!("X: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX))), Err(431)),
        ] {
            let bytes = request.as_bytes();
            assert_eq!(read(std::iter::once(bytes)), expected, "{request:.80}");
            assert_eq!(read(bytes.chunks(1)), expected, "{request:.80}, byte by byte");
            for cut in 1..bytes.len() {
                let (first, second) = bytes.split_at(cut);
                assert_eq!(
                    read([first, second].into_iter()),
                    expected,
                    "{request:.80}, cut at {cut}"
                );
            }
        }
    }
}
