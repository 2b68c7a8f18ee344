//! The admin listener: a task per request, of which there are few at a time.

use super::Shared;
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
        Request::Long(response) => response,
        Request::Whole(bytes, head) => respond(&bytes, head, shared, token).await,
    };
    timeout(REQUEST_TIMEOUT, send(socket, &response)).await.map_err(late)?
}

/// What a connection has sent.
enum Request {
    /// Nothing that is whole.
    None,
    /// Something that is too long, and what is said to it.
    Long(Vec<u8>),
    /// A head of so many bytes, and the body.
    Whole(Vec<u8>, usize),
}

async fn read(socket: &Watched) -> io::Result<Request> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 2048]);
    loop {
        match bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) {
            None if bytes.len() > HEAD_BYTES_MAX => return Ok(Request::Long(api::refusal(431))),
            None => {}
            Some(head) => match body_length(&bytes[..head]) {
                length if length > BODY_BYTES_MAX => return Ok(Request::Long(api::unserved(413))),
                length if bytes.len() >= head + length => return Ok(Request::Whole(bytes, head)),
                _ => {}
            },
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

/// How long the body is that follows a head; 0 when the head cannot be read.
fn body_length(head: &[u8]) -> usize {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(_)) = request.parse(head) else { return 0 };
    header(&request, "content-length").parse().unwrap_or(0)
}

fn header<'a>(request: &httparse::Request<'_, 'a>, name: &str) -> &'a str {
    let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    found.and_then(|header| std::str::from_utf8(header.value).ok()).unwrap_or_default().trim()
}

/// The answer to a whole request.
async fn respond(bytes: &[u8], head: usize, shared: &Shared, token: Option<&AdminToken>) -> Vec<u8> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    if !matches!(request.parse(&bytes[..head]), Ok(httparse::Status::Complete(_))) {
        return api::response(400, "", "text/plain; charset=utf-8", "This is not an HTTP request.\n");
    }
    let target = request.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asking = Asking {
        method: request.method.unwrap_or(""),
        path,
        query,
        body: &bytes[head..],
        authorization: header(&request, "authorization"),
        has_origin: request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("origin")),
    };
    match api::call(&asking, token) {
        None => api::admin(asking.method, path, &shared.status()),
        Some(Err(refusal)) => refusal,
        Some(Ok(call)) => ask(call, shared).await,
    }
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
