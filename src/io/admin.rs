//! The admin listener: a task per request, of which there are few at a time. Requests are read as on every listener.

use super::Shared;
use super::body::{Fault, Framing};
use super::head::{self, HEADERS_MAX, Head};
use super::watch::Watched;
use crate::api::{self, AdminToken, Asking, Call};
use monoio::time::{sleep, timeout};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Requests answered at once; more wait in the backlog.
const REQUESTS_MAX: usize = 64;
/// For a whole request and for a whole response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer about topics: a purge deletes what may be much, while others are served.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// For a copy of the store, which is as large as the disk.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3600);
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Longest body: the form of a few parameters.
const BODY_BYTES_MAX: usize = 8 * 1024;

/// Answers requests for as long as the daemon runs. Without a token nobody may ask about topics.
pub(super) async fn serve(listener: Watched, shared: Arc<Shared>, token: Option<AdminToken>) {
    let busy = Rc::new(Cell::new(0));
    let token = Rc::new(token);
    while listener.readable().await.is_ok() {
        if busy.get() >= REQUESTS_MAX {
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        match rustix::net::accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let Ok(socket) = Watched::new(socket) else { continue };
                let (busy, shared, token) = (Rc::clone(&busy), Arc::clone(&shared), Rc::clone(&token));
                busy.set(busy.get() + 1);
                monoio::spawn(async move {
                    let _ = converse(&socket, &shared, token.as_ref().as_ref()).await;
                    let _ = rustix::net::shutdown(&socket, Shutdown::Both);
                    busy.set(busy.get() - 1);
                });
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    }
}

/// One request and its answer.
async fn converse(socket: &Watched, shared: &Shared, token: Option<&AdminToken>) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let response = match timeout(REQUEST_TIMEOUT, read(socket)).await.map_err(late)?? {
        Request::None => return Ok(()),
        Request::Refused(response) => response,
        Request::Whole(bytes, head, body) => respond(&bytes, (head, body), shared, token).await,
    };
    timeout(REQUEST_TIMEOUT, send(socket, &response)).await.map_err(late)?
}

/// What a connection has sent.
enum Request {
    /// Nothing that is whole.
    None,
    /// Something that is refused with this.
    Refused(Vec<u8>),
    /// A head of so many bytes, and a body of so many.
    Whole(Vec<u8>, usize, usize),
}

async fn read(socket: &Watched) -> io::Result<Request> {
    let (mut bytes, mut chunk, mut incoming) = (Vec::new(), [0; 2048], Incoming::default());
    loop {
        match incoming.read(&mut bytes) {
            Ok(Some((head, body))) => return Ok(Request::Whole(bytes, head, body)),
            Ok(None) => {}
            Err(fault) => return Ok(Request::Refused(api::refusal_saying(fault.status, fault.reason))),
        }
        socket.readable().await?;
        match rustix::net::recv(socket, &mut chunk[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Ok(Request::None),
            Ok((_, count)) => bytes.extend_from_slice(&chunk[..count]),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How far a request has come.
#[derive(Default)]
struct Incoming {
    /// So many bytes of its head have been looked through for the end.
    searched: usize,
    /// The length of its head and how its body comes, when its head is whole.
    body: Option<(usize, Framing)>,
}

impl Incoming {
    /// Looks whether it is whole, and then how long head and body are.
    fn read(&mut self, bytes: &mut [u8]) -> Result<Option<(usize, usize)>, Fault> {
        let (head, mut framing) = match self.body.take() {
            Some(body) => body,
            None => match head::end(bytes, self.searched) {
                Some(end) if end <= HEAD_BYTES_MAX => (end, framing(&bytes[..end])?),
                None if bytes.len() < HEAD_BYTES_MAX => {
                    self.searched = bytes.len();
                    return Ok(None);
                }
                _ => return Err(head::TOO_LARGE),
            },
        };
        let end = framing.read(&mut bytes[head..], BODY_BYTES_MAX)?;
        let body = framing.len();
        self.body = Some((head, framing));
        Ok(end.map(|_| (head, body)))
    }
}

/// How the body comes after a whole head, if that is as it should be.
fn framing(head: &[u8]) -> Result<Framing, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let fields = Head::read(head, &mut fields)?.fields()?;
    Framing::of(fields.coding, BODY_BYTES_MAX)
}

/// The answer to a whole request.
async fn respond(
    bytes: &[u8],
    (head, body): (usize, usize),
    shared: &Shared,
    token: Option<&AdminToken>,
) -> Vec<u8> {
    let (head_bytes, rest) = bytes.split_at(head);
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let head = Head::read(head_bytes, &mut fields).and_then(|head| Ok((head.fields()?, head)));
    let (fields, head) = match head {
        Ok(read) => read,
        Err(fault) => return api::refusal_saying(fault.status, fault.reason),
    };
    let asking = Asking {
        method: head.method,
        path: head.path,
        query: head.query,
        body: &rest[..body],
        authorization: fields.authorization,
        has_origin: fields.origin.is_some(),
    };
    let response = match api::call(&asking, token) {
        None => api::admin(asking.method, asking.path, &shared.status()),
        Some(Err(refusal)) => refusal,
        Some(Ok(call)) => ask(call, shared).await,
    };
    if head.is_head { api::without_body(response) } else { response }
}

/// What the store says.
async fn ask(call: Call, shared: &Shared) -> Vec<u8> {
    let none = "there are no topics here: no [[listen]] has pulsar among its dialects";
    let late = "the store has not answered yet; what was asked for may still be done";
    match call {
        Call::Inquire(inquiry) => match timeout(ANSWER_TIMEOUT, shared.store.inquire(inquiry)).await {
            Ok(Ok((status, body))) => api::answer(status, &body),
            Ok(Err(_)) => api::answer(503, none.as_bytes()),
            Err(_) => api::answer(503, late.as_bytes()),
        },
        Call::Backup => match timeout(BACKUP_TIMEOUT, shared.store.backup()).await {
            Ok(Ok(Ok(made))) => {
                let told = serde_json::json!({
                    "path": made.path, "messages": made.messages, "bytes": made.bytes,
                });
                api::answer(200, told.to_string().as_bytes())
            }
            Ok(Ok(Err(reason))) => api::answer(503, reason.as_bytes()),
            Ok(Err(_)) => api::answer(503, none.as_bytes()),
            Err(_) => api::answer(503, late.as_bytes()),
        },
    }
}

async fn send(socket: &Watched, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::AGAIN) => socket.writable().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The target and the body of a request that comes in these pieces, or the status that refuses it.
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Option<(String, String)>, u16> {
        let (mut bytes, mut incoming) = (Vec::new(), Incoming::default());
        for piece in pieces {
            bytes.extend_from_slice(piece);
            if let Some((head, body)) = incoming.read(&mut bytes).map_err(|fault| fault.status)? {
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
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".into(), Ok(Some(("/metrics".into(), String::new())))),
            ("GET http://x/metrics HTTP/1.0\r\n\r\n".into(), Ok(Some(("/metrics".into(), String::new())))),
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
                assert_eq!(read([first, second].into_iter()), expected, "{request:.80}, cut at {cut}");
            }
        }
    }
}
