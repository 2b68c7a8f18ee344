//! Opening many subscribers: connect, upgrade to WebSocket, token, subscription, at most so many at
//! once.
//!
//! Source addresses are spread over 127.0.0.0/8 when the server is on loopback, so that the ports
//! of one address do not limit the number of connections.

use super::clients::{BenchClient, BenchClients, Control};
use super::error::{closed, command_refused, failed, stalled, unreachable};
use super::secure::Secure;
use super::wire;
use crate::cli::CliError;
use crate::dialect::client::{ClientHeard, ClientStage, ClientStep, DialectClient, Subscriber};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use rustls::ClientConfig;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tungstenite::handshake::derive_accept_key;

/// The key of every upgrade request: that of RFC 6455, so that a canned answer can be right.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Connections per source address: well below the 28,232 ports that Linux gives out by default.
const CONNECTIONS_PER_SOURCE: usize = 4000;

/// How long no connection may make progress before opening them is given up: longer than a daemon
/// should ever take, so that a slow one is told as a figure.
const SILENCE: Duration = Duration::from_secs(60);

/// Progress is told after so many connections: telling it costs time that the measurement would
/// count.
const PROGRESS_EVERY: usize = 500;

/// The most bytes of an upgrade's answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What to open.
pub(super) struct ConnectPlan {
    /// Where to connect; connection `n` goes to `addresses[n % addresses.len()]`.
    pub(super) addresses: Vec<SocketAddr>,
    /// The upgrade request of each connection, in turn.
    pub(super) requests: Texts,
    /// What each connection says after the upgrade: token and subscription, as frames.
    pub(super) greetings: Texts,
    /// What is spoken: which answers are successes.
    pub(super) client: &'static dyn DialectClient,
    /// Successes that make a subscriber.
    pub(super) answers: usize,
    /// Connections opened at the same time.
    pub(super) concurrency: usize,
    /// How TLS is spoken, if it is.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// A text for each connection, ready to send.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    /// Adds the next connection's, which `fill` appends.
    pub(super) fn push(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        fill(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Adds what a subscriber of a topic says after the upgrade; returns how many successes make it
    /// one.
    pub(super) fn greet(
        &mut self,
        subscriber: &Subscriber<'_>,
        client: &dyn DialectClient,
        token: Option<String>,
    ) -> usize {
        let ClientStep { say, answers } = subscriber.wish(token).at_once(client);
        self.push(|out| {
            say.iter().for_each(|text| wire::client_frame(wire::TEXT, text.as_bytes(), out));
        });
        answers
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Connection `index`'s; those there are come in turn.
    fn of(&self, index: usize) -> &[u8] {
        let index = index % self.len();
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
}

/// The upgrade request for `path` on `host`, with more headers.
pub(super) fn upgrade_request(host: &str, path: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {WEBSOCKET_KEY}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// The answer to [`upgrade_request`] that a server owes.
pub(super) fn upgrade_answer() -> Vec<u8> {
    let accept = derive_accept_key(WEBSOCKET_KEY.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectStage {
    Connecting,
    Upgrading,
    Replies(usize),
    Ready,
}

/// Opens all connections of `plan`; returns when the last is subscribed. `progress` is told how
/// many are.
pub(super) fn open(
    clients: &mut BenchClients,
    plan: &ConnectPlan,
    mut progress: impl FnMut(usize),
) -> Result<(), CliError> {
    let total = plan.greetings.len();
    let accept = derive_accept_key(WEBSOCKET_KEY.as_bytes());
    let mut opening =
        ClientOpening { clients, plan, accept, stages: Vec::with_capacity(total), ready: 0 };
    let mut last_event = Instant::now();
    let mut told = 0;
    while opening.ready < total {
        while opening.stages.len() < total
            && opening.stages.len() - opening.ready < plan.concurrency.max(1)
        {
            opening.start()?;
        }
        let spin = opening.clients.spin;
        opening.clients.wait(if spin { Duration::ZERO } else { SILENCE })?;
        if opening.clients.events.is_empty() {
            // A wait that does not spin has lasted for all of it.
            if !spin || last_event.elapsed() > SILENCE {
                return Err(stalled(opening.ready, total));
            }
            continue;
        }
        last_event = Instant::now();
        for at in 0..opening.clients.events.len() {
            let event = opening.clients.events[at];
            opening.advance(event.data.u64() as usize)?;
        }
        if opening.ready >= told + PROGRESS_EVERY {
            told = opening.ready;
            progress(told);
        }
    }
    Ok(())
}

struct ClientOpening<'a> {
    clients: &'a mut BenchClients,
    plan: &'a ConnectPlan,
    accept: String,
    stages: Vec<ConnectStage>,
    ready: usize,
}

impl ClientOpening<'_> {
    fn start(&mut self) -> Result<(), CliError> {
        let index = self.stages.len();
        let address = self.plan.addresses[index % self.plan.addresses.len()];
        // One source address has too few ports for all connections.
        let sources = self.plan.greetings.len().div_ceil(CONNECTIONS_PER_SOURCE).min(250);
        // Each connection has a handshake of its own, as different clients have.
        let tls = self.plan.tls.as_ref().map(Secure::new).transpose()?;
        let mut client = BenchClient::new(connecting_socket(address, index % sources)?, tls);

        // On loopback the connection stands when connect returns, so the request can mostly leave
        // at once.
        let sent = client.try_send(self.plan.requests.of(index));
        let (stage, interest) = match sent.map_err(|error| error.kind()) {
            Ok(()) => (ConnectStage::Upgrading, EventFlags::IN | EventFlags::ET),
            Err(ErrorKind::WouldBlock) => (ConnectStage::Connecting, EventFlags::OUT),
            Err(_) => return Err(unreachable(address, "refused")),
        };
        let data = EventData::new_u64(index as u64);
        epoll::add(&self.clients.epoll, &client.socket, data, interest)
            .map_err(failed("watch a connection"))?;
        self.clients.list.push(client);
        self.stages.push(stage);
        Ok(())
    }

    fn advance(&mut self, index: usize) -> Result<(), CliError> {
        match self.stages[index] {
            ConnectStage::Connecting => self.connected(index),
            ConnectStage::Upgrading => self.upgraded(index),
            ConnectStage::Replies(_) | ConnectStage::Ready => {
                let BenchClients { list, scratch, .. } = &mut *self.clients;
                match list[index].read(scratch)? {
                    None => Ok(()),
                    Some((length, _)) => self.replies(index, length),
                }
            }
        }
    }

    fn connected(&mut self, index: usize) -> Result<(), CliError> {
        let client = &mut self.clients.list[index];
        let address = self.plan.addresses[index % self.plan.addresses.len()];
        sockopt::socket_error(&client.socket)
            .map_err(failed("read a socket's error"))?
            .map_err(|error| unreachable(address, error))?;
        // The interest was in writing only: nothing can have come before the request left.
        client.send_again(self.plan.requests.of(index))?;

        let data = EventData::new_u64(index as u64);
        epoll::modify(&self.clients.epoll, &client.socket, data, EventFlags::IN | EventFlags::ET)
            .map_err(failed("watch a connection"))?;
        self.stages[index] = ConnectStage::Upgrading;
        Ok(())
    }

    fn upgraded(&mut self, index: usize) -> Result<(), CliError> {
        let BenchClients { list, scratch, .. } = &mut *self.clients;
        let client = &mut list[index];
        let Some((length, _)) = client.read(scratch)? else { return Ok(()) };
        client.partial.extend_from_slice(&scratch[..length]);
        let Some(end) = client.partial.windows(4).position(|window| window == b"\r\n\r\n") else {
            let head = &client.partial;
            // A server of another kind may send without end.
            return if head.len() > HEAD_BYTES_MAX { Err(refused(head)) } else { Ok(()) };
        };
        let head = String::from_utf8_lossy(&client.partial[..end]);
        if !head.starts_with("HTTP/1.1 101 ") || !head.contains(&self.accept) {
            return Err(refused(head.as_bytes()));
        }
        // A quick server's first frames may come with the head.
        let rest = client.partial.split_off(end + 4);
        client.partial = Vec::new();
        client.send(self.plan.greetings.of(index))?;
        self.stages[index] = ConnectStage::Replies(0);
        // Frames are split where a read would have put them.
        scratch[..rest.len()].copy_from_slice(&rest);
        self.replies(index, rest.len())
    }

    fn replies(&mut self, index: usize, length: usize) -> Result<(), CliError> {
        let BenchClients { list, scratch, early, .. } = &mut *self.clients;
        let client = &mut list[index];
        let mut control = Control::default();
        let mut successes = 0;
        let mut refusal = None;
        let protocol = self.plan.client;
        wire::split_frames(&mut client.partial, &scratch[..length], |opcode, payload| {
            if opcode != wire::TEXT {
                return control.note(opcode, payload);
            }
            let text = String::from_utf8_lossy(payload);
            match protocol.read(ClientStage::Subscription, &text) {
                ClientHeard::Success(_) => successes += 1,
                // What is stored may have waited for its subscriber.
                ClientHeard::Event if protocol.stores() => *early += 1,
                _ => refusal = Some(text.into_owned()),
            }
        })
        .map_err(closed)?;
        if let Some(reply) = refusal {
            return Err(command_refused(&reply));
        }

        let ConnectStage::Replies(before) = self.stages[index] else {
            return client.answer(control);
        };
        let answered = before + successes;
        // A close before any success is the answer to the token.
        if let (0, Some(how)) = (answered, &control.closed) {
            return Err(CliError::new(format!(
                "the token was refused ({how}): it must not have expired; a cell's token names it \
                 in aud and has event-read, or read and stream-receive, in its scope; wazo's has \
                 websocketd in its acl"
            )));
        }
        client.answer(control)?;

        self.stages[index] = ConnectStage::Replies(answered);
        if answered >= self.plan.answers {
            self.stages[index] = ConnectStage::Ready;
            self.ready += 1;
        }
        Ok(())
    }
}

fn connecting_socket(address: SocketAddr, source: usize) -> Result<TcpStream, CliError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket =
        socket_with(family, SocketType::STREAM, flags, None).map_err(failed("open a socket"))?;
    if let IpAddr::V4(server) = address.ip()
        && server.is_loopback()
    {
        let from = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2 + source as u8).into(), 0);
        bind(&socket, &from).map_err(failed("bind a source address"))?;
    }
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
        // The ports are used up, which is no fault of the server's.
        Err(error @ Errno::ADDRNOTAVAIL) => Err(failed("connect")(error)),
        Err(error) => Err(unreachable(address, error)),
    }
}

fn refused(head: &[u8]) -> CliError {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    CliError::new(format!(
        "the upgrade to WebSocket was refused with {:?}: check the path (such as /CELL/__event) \
         and that the listener speaks the dialect of --dialect; 503 means that max_connections is \
         reached",
        String::from_utf8_lossy(line)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_its_own_text() {
        let mut texts = Texts::default();
        for text in ["one", "second"] {
            texts.push(|out| out.extend_from_slice(text.as_bytes()));
        }
        assert_eq!((texts.len(), texts.of(0), texts.of(3)), (2, &b"one"[..], &b"second"[..]));
    }

    #[test]
    fn the_upgrade_carries_the_key_that_its_answer_accepts() {
        let request = upgrade_request("127.0.0.1:8080", "/bench/__event", "");
        assert!(request.starts_with(b"GET /bench/__event HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"));
        let answer = String::from_utf8(upgrade_answer()).unwrap();
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn a_refused_upgrade_is_told_by_its_status_line() {
        let error = refused(b"HTTP/1.1 404 Not Found\r\nConnection: close");
        assert!(error.to_string().contains("404 Not Found"), "{error}");
    }
}
