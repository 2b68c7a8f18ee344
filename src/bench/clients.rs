//! Many WebSocket subscribers on one epoll set: they receive, answer pings and count.
//!
//! One large read buffer serves all connections; a connection itself owns a socket, the number that
//! it expects next and, rarely, a frame of which only a part has come. How a connection is opened
//! stands in `connect.rs`.

use super::error::{closed, failed, not_read};
use super::interrupt;
use super::secure::Secure;
use super::wire;
use crate::cli::CliError;
use crate::dialect::client::DialectClient;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::protocol::frame::coding::OpCode;

/// Bytes taken from a socket at once: many frames of a burst to one subscriber.
const READ_BYTES: usize = 256 * 1024;

/// Sockets reported by one wait.
const EVENTS_MAX: usize = 1024;

/// Epoll data of what is no subscriber; subscribers are numbered from 0.
const FEED: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// An expected number that is not known yet: the first event tells it.
pub(super) const EXPECT_ANY: u64 = 0;

/// One subscriber.
#[derive(Debug)]
pub(super) struct BenchClient {
    pub(super) socket: TcpStream,
    tls: Option<Secure>,
    pub(super) partial: Vec<u8>,
    /// The sequence number of the next event, or [`EXPECT_ANY`].
    pub(super) expected: u64,
}

/// All subscribers of one side (the daemon's or the floor's).
pub(super) struct BenchClients {
    pub(super) list: Vec<BenchClient>,
    pub(super) epoll: OwnedFd,
    pub(super) events: Vec<epoll::Event>,
    pub(super) scratch: Vec<u8>,
    /// Look for frames without sleeping. A server that wakes its receivers pays for that on
    /// loopback only, and only when they happen to sleep, which makes its processor time
    /// depend on the generator's.
    pub(super) spin: bool,
    /// What subscribers speak, where they acknowledge each event.
    pub(super) acknowledge: Option<&'static dyn DialectClient>,
    /// Messages that had waited for their subscribers and came while these were being opened.
    pub(super) early: u64,
    epoch: Instant,
}

/// What a wait reported besides subscribers' frames.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Woken {
    /// The publisher's socket can be written or has a reply.
    pub(super) feed: bool,
    /// The timer of a fixed rate has run out.
    pub(super) timer: bool,
    /// Nothing at all happened in the time allowed.
    pub(super) idle: bool,
}

impl BenchClients {
    /// An empty set; `spin` is for a generator that has its processor to itself.
    pub(super) fn new(spin: bool) -> Result<Self, CliError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed("create an epoll set"))?;
        Ok(Self {
            list: Vec::new(),
            epoll,
            events: Vec::with_capacity(EVENTS_MAX),
            scratch: vec![0; READ_BYTES],
            spin,
            acknowledge: None,
            early: 0,
            epoch: Instant::now(),
        })
    }

    /// Nanoseconds since this set was made: the time that `receive` reports.
    pub(super) fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Watches the publisher's socket; its changes are reported once each (edge-triggered).
    pub(super) fn watch_feed(&self, feed: impl AsFd) -> Result<(), CliError> {
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, feed, EventData::new_u64(FEED), interest)
            .map_err(failed("watch the feed"))
    }

    /// Watches a timer.
    pub(super) fn watch_timer(&self, timer: impl AsFd) -> Result<(), CliError> {
        epoll::add(&self.epoll, timer, EventData::new_u64(TIMER), EventFlags::IN)
            .map_err(failed("watch a timer"))
    }

    /// Waits for sockets and fills `events`.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<(), CliError> {
        let timeout = Timespec::try_from(timeout).ok();
        interrupt::check()?;
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            // A signal is looked for at the next wait.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(failed("wait for sockets")(error)),
        }
    }

    /// Waits and hands each text frame to `each`, with the subscriber's expected number and the
    /// time of its read.
    pub(super) fn receive(
        &mut self,
        timeout: Duration,
        mut each: impl FnMut(&mut u64, &[u8], u64),
    ) -> Result<Woken, CliError> {
        self.wait(timeout)?;
        let mut woken = Woken { idle: self.events.is_empty(), ..Woken::default() };
        for event in &self.events {
            let event = *event;
            match event.data.u64() {
                FEED => woken.feed = true,
                TIMER => woken.timer = true,
                index => {
                    let client = &mut self.list[index as usize];
                    client.receive(&mut self.scratch, self.epoch, self.acknowledge, &mut each)?;
                }
            }
        }
        Ok(woken)
    }
}

impl Drop for BenchClients {
    /// Resets the connections instead of closing them: thousands of sockets in TIME_WAIT would hold
    /// the ports that the next run needs.
    fn drop(&mut self) {
        for client in &self.list {
            let _ = sockopt::set_socket_linger(&client.socket, Some(Duration::ZERO));
        }
    }
}

impl BenchClient {
    /// A subscriber on a socket that is being connected.
    pub(super) fn new(socket: TcpStream, tls: Option<Secure>) -> Self {
        Self { socket, tls, partial: Vec::new(), expected: EXPECT_ANY }
    }

    /// Sends what is small enough to leave at once.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.try_send(bytes).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => not_read(),
            _ => closed(format_args!("the connection broke: {error}")),
        })
    }

    /// The same, with the reason that a socket gives for not taking it.
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            return tls.send(&self.socket, bytes);
        }
        match (&self.socket).write(bytes)? {
            // A part of a frame would garble what follows; nothing here is long enough to be cut by
            // a peer that reads.
            sent if sent == bytes.len() => Ok(()),
            _ => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Sends again what was refused because the socket was not connected.
    pub(super) fn send_again(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        // TLS has kept it.
        self.send(if self.tls.is_some() { &[] } else { bytes })
    }

    fn receive(
        &mut self,
        scratch: &mut [u8],
        epoch: Instant,
        acknowledge: Option<&'static dyn DialectClient>,
        each: &mut impl FnMut(&mut u64, &[u8], u64),
    ) -> Result<(), CliError> {
        let mut more = true;
        let mut acknowledgements = Vec::new();
        while more {
            let Some((length, is_full)) = self.read(scratch)? else { break };
            let now_ns = epoch.elapsed().as_nanos() as u64;
            let expected = &mut self.expected;
            let mut control = Control::default();
            wire::split_frames(&mut self.partial, &scratch[..length], |opcode, payload| {
                if opcode == wire::TEXT {
                    each(expected, payload, now_ns);
                    let acknowledgement = acknowledge.and_then(|client| {
                        client.acknowledgement(std::str::from_utf8(payload).ok()?)
                    });
                    if let Some(text) = acknowledgement {
                        wire::client_frame(wire::TEXT, text.as_bytes(), &mut acknowledgements);
                    }
                } else {
                    control.note(opcode, payload);
                }
            })
            .map_err(closed)?;
            self.answer(control)?;
            if !acknowledgements.is_empty() {
                self.send(&acknowledgements)?;
                acknowledgements.clear();
            }
            // Sockets are watched edge-triggered: what a full buffer left behind is not reported
            // again, while what comes after a read that did not fill it is.
            more = is_full;
        }
        Ok(())
    }

    /// Bytes read and whether they fill `scratch`, or `None` when there is nothing to read after
    /// all.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> Result<Option<(usize, bool)>, CliError> {
        let read = match &mut self.tls {
            Some(tls) => tls.read(&self.socket, scratch),
            None => {
                let read = (&self.socket).read(scratch);
                read.map(|length| (length, length == scratch.len()))
            }
        };
        match read {
            Ok((0, _)) => Err(closed("the connection ended without a close frame")),
            Ok(read) => Ok(Some(read)),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(None)
            }
            Err(error) => Err(closed(format_args!("the connection broke: {error}"))),
        }
    }

    /// Answers pings, and makes a close an error.
    pub(super) fn answer(&mut self, control: Control) -> Result<(), CliError> {
        for pong in control.pongs {
            self.send(&pong)?;
        }
        match control.closed {
            Some(how) => Err(closed(how)),
            None => Ok(()),
        }
    }
}

/// Control frames of one read.
#[derive(Debug, Default)]
pub(super) struct Control {
    pongs: Vec<Vec<u8>>,
    /// How the connection was closed, if it was.
    pub(super) closed: Option<String>,
}

impl Control {
    /// Notes a frame that is not text.
    pub(super) fn note(&mut self, opcode: OpCode, payload: &[u8]) {
        if opcode == wire::PING {
            let mut pong = Vec::new();
            wire::client_frame(wire::PONG, payload, &mut pong);
            self.pongs.push(pong);
        } else if opcode == wire::CLOSE {
            self.closed = Some(close_reason(payload));
        }
    }
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let reason = String::from_utf8_lossy(reason);
            if reason.is_empty() {
                format!("close code {code}")
            } else {
                format!("close code {code}, {reason}")
            }
        }
        _ => "a close frame without a code".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_told_with_its_code_and_reason() {
        assert_eq!(close_reason(&[0x03, 0xe8]), "close code 1000");
        assert_eq!(close_reason(b"\x03\xf5slow"), "close code 1013, slow");
        assert_eq!(close_reason(&[]), "a close frame without a code");
    }
}
