//! The admin listener: a task per request, of which there are few at a time.

use super::watch::Watched;
use crate::api::{self, Status};
use monoio::time::{sleep, timeout};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Requests answered at once; more wait in the backlog.
const REQUESTS_MAX: usize = 64;
/// For a whole request and for a whole response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Answers requests for as long as the daemon runs.
pub(super) async fn serve(listener: Watched, status: Rc<dyn Fn() -> Status>) {
    let busy = Rc::new(Cell::new(0));
    while listener.readable().await.is_ok() {
        if busy.get() >= REQUESTS_MAX {
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        match rustix::net::accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let Ok(socket) = Watched::new(socket) else { continue };
                let (busy, status) = (Rc::clone(&busy), Rc::clone(&status));
                busy.set(busy.get() + 1);
                monoio::spawn(async move {
                    let _ = timeout(REQUEST_TIMEOUT, answer(&socket, &*status)).await;
                    let _ = rustix::net::shutdown(&socket, Shutdown::Both);
                    busy.set(busy.get() - 1);
                });
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    }
}

async fn answer(socket: &Watched, status: &dyn Fn() -> Status) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 2048];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        socket.readable().await?;
        match rustix::net::recv(socket, &mut chunk[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Ok(()),
            Ok((_, count)) => head.extend_from_slice(&chunk[..count]),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        if head.len() > HEAD_BYTES_MAX {
            return send(socket, &api::refusal(431)).await;
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let response = match request.parse(&head) {
        Ok(httparse::Status::Complete(_)) => {
            let target = request.path.unwrap_or("/");
            let path = target.split('?').next().unwrap_or(target);
            api::admin(request.method.unwrap_or(""), path, &status())
        }
        _ => api::response(400, "", "text/plain; charset=utf-8", "This is not an HTTP request.\n"),
    };
    send(socket, &response).await
}

async fn send(socket: &Watched, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::AGAIN) => socket.writable().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
