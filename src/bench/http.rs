//! Publishing over HTTP: signed `POST /apps/{id}/events` requests on kept connections, as Pusher's
//! libraries send.
//!
//! A connection may have several requests under way, answered in order; events are dealt to the
//! connections in turn. With one connection they keep their order, which subscribers that get all
//! of them are held to.

use super::error::{failed, feed_ended, feed_rejected, unreachable};
use super::publisher::Unsent;
use super::wire::Template;
use crate::cli::CliError;
use crate::cli::answer::HttpAnswer;
use crate::dialect::client::RequestSigner;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

/// Connections reported by one look.
const EVENTS_MAX: usize = 64;

/// The publisher's connections.
pub(super) struct Http {
    /// Of the connections, to be watched as one.
    epoll: OwnedFd,
    connections: Vec<HttpConnection>,
    host: String,
    body: Template,
    signer: RequestSigner,
    /// The topic of each event in turn.
    order: Vec<u32>,
}

#[derive(Debug)]
struct HttpConnection {
    socket: TcpStream,
    unsent: Unsent,
    answers: Vec<u8>,
}

impl Http {
    /// Opens so many connections; `body` is the event, `order` the topics in turn (`[0]` for one).
    pub(super) fn connect(
        address: SocketAddr,
        signer: RequestSigner,
        body: Template,
        connections: usize,
        order: Vec<u32>,
    ) -> Result<Self, CliError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed("create an epoll set"))?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        let connections = (0..connections).map(|index| {
            // Blocking until it stands: it is not what is measured.
            let socket = connected(address).map_err(|error| unreachable(address, error))?;
            epoll::add(&epoll, &socket, EventData::new_u64(index as u64), interest)
                .map_err(failed("watch a publisher"))?;
            Ok(HttpConnection { socket, unsent: Unsent::default(), answers: Vec::new() })
        });
        let connections = connections.collect::<Result<_, CliError>>()?;
        Ok(Self { epoll, connections, host: address.to_string(), body, signer, order })
    }

    /// Queues a request for each of `count` events numbered from `first` and writes what the daemon
    /// takes now.
    pub(super) fn publish(&mut self, first: u64, count: u64) -> Result<(), CliError> {
        let topics = self.order.len() as u64;
        let connections = self.connections.len() as u64;
        let mut body = Vec::new();
        for sequence in first..first + count {
            body.clear();
            let topic = self.order[((sequence - 1) % topics) as usize];
            self.body.append(topic as usize, sequence, &mut body);
            let request = self.request(&body);
            let connection = &mut self.connections[(sequence % connections) as usize];
            connection.unsent.bytes.extend_from_slice(request.as_bytes());
            connection.unsent.bytes.extend_from_slice(&body);
        }
        self.connections
            .iter_mut()
            .try_for_each(|connection| connection.unsent.flush(&connection.socket))
    }

    /// Some connection is ready: goes on writing, and reads the answers.
    pub(super) fn ready(&mut self) -> Result<(), CliError> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let immediately = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            let count = epoll::wait(&self.epoll, spare, Some(&immediately));
            let count = count.map_err(failed("wait for publishers"))?;
            for event in &events {
                let connection = &mut self.connections[event.data.u64() as usize];
                connection.listen()?;
                connection.unsent.flush(&connection.socket)?;
            }
            // Edge-triggered: what is not taken now is not reported again.
            if count < EVENTS_MAX {
                return Ok(());
            }
        }
    }

    /// The head of the request for a body.
    fn request(&self, body: &[u8]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let target = (self.signer)(body, now);
        format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        )
    }
}

impl HttpConnection {
    /// Reads answers, each of which has to be a success.
    fn listen(&mut self) -> Result<(), CliError> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(feed_ended()),
                Ok((_, length)) => self.answers.extend_from_slice(&chunk[..length]),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(_) => return Err(feed_ended()),
            }
        }
        let mut used = 0;
        while let Some(length) = answer(&self.answers[used..])? {
            used += length;
        }
        self.answers.drain(..used);
        Ok(())
    }
}

impl AsFd for Http {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}

/// A connection that does not wait.
fn connected(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Bytes of the first answer, if all of it is there.
fn answer(bytes: &[u8]) -> Result<Option<usize>, CliError> {
    match HttpAnswer::read(bytes) {
        Ok(None) => Ok(None),
        Ok(Some(HttpAnswer { status: 200, head_bytes, body_bytes: Some(body_bytes) })) => {
            let whole = head_bytes + body_bytes;
            Ok((bytes.len() >= whole).then_some(whole))
        }
        Ok(Some(_)) | Err(_) => Err(feed_rejected(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart_and_a_refusal_is_told() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(answer(good).unwrap(), Some(good.len()));
        assert_eq!(answer(&good[..good.len() - 1]).unwrap(), None);
        assert_eq!(answer(&good[..20]).unwrap(), None);
        let error =
            answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nbad").unwrap_err();
        assert!(error.to_string().contains("401"), "{error}");
    }
}
