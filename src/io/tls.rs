//! TLS of one connection: what a socket brings becomes plaintext, and plaintext becomes records for it.
//!
//! rustls speaks the protocol. Its unbuffered connection owns keys and state but no buffer: bytes are
//! decrypted where a read has put them, and what leaves goes through the [`Scratch`] that all connections of
//! a shard share. A connection owns bytes only while a record has come in part, or while its socket refuses
//! records that are made already: a record cannot be made twice, and none may be left out.
//!
//! Frames are still encoded once for all; only the records around them are each connection's own.
//!
//! This file does not know sockets: sending is a closure's business, as in the outbox.

use crate::outbox::Sent;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError};
use rustls::{Error, ServerConfig};
use std::sync::Arc;

/// Most plaintext that becomes records before they are offered to the socket, four records of the usual size.
/// A slow connection owns at most so much, beside its outbox, in records that its socket has refused.
const SEALED_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of records that wait while the peer makes us say more, by its handshake or by alerts. rustls
/// lets it ask for little; this is for a peer that has found a way.
const WAITING_BYTES_MAX: usize = 4 * SEALED_BYTES_MAX;

/// What all connections of a shard share.
#[derive(Default)]
pub(super) struct Scratch {
    /// What the last read has decrypted.
    pub(super) plaintext: Vec<u8>,
    records: Records,
}

/// Records on their way to a socket, at the start of a buffer that keeps its length: clearing it each time would
/// cost more than a small record.
#[derive(Default)]
struct Records {
    buffer: Vec<u8>,
    length: usize,
}

impl Records {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    fn clear(&mut self) {
        self.length = 0;
    }

    /// Lets `write` have the rest of the buffer, longer if it asks for that.
    fn append<E: TooSmall>(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let mut written = write(&mut self.buffer[self.length..]);
        if let Some(needed) = written.as_ref().err().and_then(TooSmall::needed) {
            self.buffer.resize(self.length + needed, 0);
            written = write(&mut self.buffer[self.length..]);
        }
        self.length += written?;
        Ok(())
    }
}

/// What a read has found out about the peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// There may be plaintext, and more may come.
    More,
    /// Nothing more will come after this plaintext; the peer may still read.
    Close,
}

/// Why nothing more can be said.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The peer speaks HTTP, to which an answer in HTTP is the clearest.
    #[error("the peer speaks HTTP without TLS")]
    Http,
    /// The peer broke the protocol, or wants what we refuse. An alert has told it.
    #[error(transparent)]
    Tls(#[from] Error),
    /// The socket is gone.
    #[error("the connection is gone")]
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum TlsStage {
    /// Nothing has come.
    Silent,
    /// The handshake is under way.
    Handshake,
    /// Plaintext may come and go.
    Open,
    /// The peer has said its last, and may still read.
    Answering,
    /// Either side has ended it, or it has failed.
    Over,
}

/// One connection.
pub(super) struct Tls {
    connection: UnbufferedServerConnection,
    /// A record, or a message of the handshake, that has come in part. rustls bounds both: a record by
    /// 16 KiB and some, a message by 64 KiB.
    inbound: Vec<u8>,
    /// Records that the socket has refused.
    outbound: Vec<u8>,
    /// Whether the first byte of the next write is in `outbound` or has left; see [`Tls::write`].
    ahead: bool,
    stage: TlsStage,
}

impl Tls {
    /// A connection on which nothing has been said.
    ///
    /// # Errors
    /// When rustls finds the configuration impossible.
    pub(super) fn new(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(Arc::clone(config))?,
            inbound: Vec::new(),
            outbound: Vec::new(),
            ahead: false,
            stage: TlsStage::Silent,
        })
    }

    /// Bytes of memory for what has come in part.
    pub(super) fn part_bytes(&self) -> usize {
        self.inbound.capacity()
    }

    /// Whether records wait for the socket.
    pub(super) fn is_blocked(&self) -> bool {
        !self.outbound.is_empty()
    }

    /// Whether the handshake is under way.
    pub(super) fn shakes_hands(&self) -> bool {
        self.stage < TlsStage::Open
    }

    /// Whether nothing more is said.
    pub(super) fn is_over(&self) -> bool {
        self.stage == TlsStage::Over
    }

    /// Reads what the socket has brought. What it says is in the scratch's plaintext then, and what TLS has to
    /// answer has been sent, or waits.
    ///
    /// # Errors
    /// At the first that is wrong; nothing more can be read or written then.
    pub(super) fn read(
        &mut self,
        bytes: &mut [u8],
        scratch: &mut Scratch,
        mut send: impl FnMut(&[u8]) -> Sent,
    ) -> Result<Heard, Failure> {
        scratch.plaintext.clear();
        // rustls looks at nothing behind a goodbye, and would have it kept.
        if self.stage >= TlsStage::Answering {
            return Ok(Heard::More);
        }
        // A handshake's record starts with 0x16, a request with its method.
        if self.stage == TlsStage::Silent && bytes.first().is_some_and(u8::is_ascii_uppercase) {
            self.stage = TlsStage::Over;
            return Err(Failure::Http);
        }
        scratch.records.clear();
        let done = self.take(bytes, scratch);
        self.stage = match &done {
            Ok((stage, Heard::More)) => *stage,
            Ok((TlsStage::Open, Heard::Close)) => TlsStage::Answering,
            Ok(_) | Err(_) => TlsStage::Over,
        };
        if self.stage >= TlsStage::Answering {
            self.inbound = Vec::new();
        }
        if self.transmit(scratch.records.bytes(), &mut send) == Sent::Broken {
            return Err(Failure::Gone);
        }
        Ok(done?.1)
    }

    /// Encrypts and sends. Like a socket, it takes as much as can leave: when the socket refuses records that
    /// are made already, nothing more is taken until they have left.
    ///
    /// Whoever writes must not take the last byte for gone while it waits here, or it would end a connection
    /// that still has something to say. So when everything was taken and not everything has left, one byte
    /// less is reported, and the next write starts with that byte again.
    pub(super) fn write(
        &mut self,
        plaintext: &[u8],
        scratch: &mut Scratch,
        mut send: impl FnMut(&[u8]) -> Sent,
    ) -> Sent {
        match self.flush(&mut send) {
            Sent::Bytes(_) => {}
            refused => return refused,
        }
        // Before the handshake there is nobody to tell, and afterwards nobody listens.
        if !(TlsStage::Open..TlsStage::Over).contains(&self.stage) {
            return Sent::Bytes(plaintext.len());
        }
        let mut taken = usize::from(std::mem::take(&mut self.ahead)).min(plaintext.len());
        while taken < plaintext.len() && !self.is_blocked() {
            let end = plaintext.len().min(taken + SEALED_BYTES_MAX);
            scratch.records.clear();
            if self.seal(&plaintext[taken..end], &mut scratch.records).is_none()
                || self.transmit(scratch.records.bytes(), &mut send) == Sent::Broken
            {
                return Sent::Broken;
            }
            taken = end;
        }
        self.ahead = self.is_blocked() && taken == plaintext.len();
        Sent::Bytes(taken - usize::from(self.ahead))
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self, mut send: impl FnMut(&[u8]) -> Sent) -> Sent {
        if self.outbound.is_empty() {
            return Sent::Bytes(0);
        }
        let sent = send(&self.outbound);
        let Sent::Bytes(count) = sent else { return sent };
        if count < self.outbound.len() {
            self.outbound.drain(..count);
            return Sent::Blocked;
        }
        self.outbound = Vec::new();
        sent
    }

    /// Says that nothing more will come from here, once what waits has left.
    pub(super) fn close(
        &mut self,
        scratch: &mut Scratch,
        mut send: impl FnMut(&[u8]) -> Sent,
    ) -> Sent {
        let was = std::mem::replace(&mut self.stage, TlsStage::Over);
        scratch.records.clear();
        if (TlsStage::Open..TlsStage::Over).contains(&was)
            && let Ok(ConnectionState::WriteTraffic(mut traffic)) =
                self.connection.process_tls_records(&mut self.inbound).state
        {
            let _ = scratch.records.append(|room| traffic.queue_close_notify(room));
        }
        self.transmit(scratch.records.bytes(), &mut send)
    }

    /// Decrypts what is whole and keeps the rest.
    fn take(
        &mut self,
        bytes: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<(TlsStage, Heard), Error> {
        if self.inbound.is_empty() {
            let (used, done) = process(&mut self.connection, bytes, scratch);
            self.inbound = bytes[used..].to_vec();
            return done;
        }
        self.inbound.extend_from_slice(bytes);
        let (used, done) = process(&mut self.connection, &mut self.inbound, scratch);
        self.inbound.drain(..used);
        self.inbound.shrink_to_fit();
        done
    }

    /// Makes records of plaintext; `None` when the connection allows no more.
    fn seal(&mut self, plaintext: &[u8], records: &mut Records) -> Option<()> {
        // What has come in part must be shown again, or rustls looks for it in vain.
        match self.connection.process_tls_records(&mut self.inbound).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                records.append(|room| traffic.encrypt(plaintext, room)).ok()
            }
            _ => None,
        }
    }

    /// Sends records behind those that wait, and keeps what the socket refuses.
    fn transmit(&mut self, records: &[u8], mut send: impl FnMut(&[u8]) -> Sent) -> Sent {
        let mut left = records;
        if !self.is_blocked() && !records.is_empty() {
            match send(records) {
                Sent::Bytes(count) => left = &records[count..],
                Sent::Blocked => {}
                Sent::Broken => return Sent::Broken,
            }
        }
        self.outbound.extend_from_slice(left);
        match self.outbound.len() {
            0 => Sent::Bytes(records.len()),
            waiting if waiting > WAITING_BYTES_MAX => Sent::Broken,
            _ => Sent::Blocked,
        }
    }
}

/// Lets rustls work through what has come, until it wants more. Returns how many bytes it has done with.
fn process(
    connection: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    scratch: &mut Scratch,
) -> (usize, Result<(TlsStage, Heard), Error>) {
    let Scratch { plaintext, records } = scratch;
    let mut heard = Heard::More;
    let mut used = 0;
    loop {
        let status = connection.process_tls_records(&mut bytes[used..]);
        let mut discard = status.discard;
        let done = match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    plaintext.extend_from_slice(record.payload);
                    discard += record.discard;
                }
                None
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                let _ = records.append(|room| data.encode(room));
                None
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                None
            }
            Ok(ConnectionState::PeerClosed) => {
                heard = Heard::Close;
                None
            }
            Ok(ConnectionState::BlockedHandshake) => Some(Ok(TlsStage::Handshake)),
            Ok(ConnectionState::WriteTraffic(_)) => Some(Ok(TlsStage::Open)),
            // Early data is never allowed, so all that is left is that both sides have closed.
            Ok(_) => Some(Ok(TlsStage::Over)),
            Err(error) => Some(Err(error)),
        };
        used += discard;
        if let Some(done) = done {
            if done.is_err() {
                say_why(connection, &mut bytes[used..], records);
            }
            return (used, done.map(|stage| (stage, heard)));
        }
    }
}

/// What was to be said before an error, and the alert that goes with it. Asking further would meet it again.
fn say_why(connection: &mut UnbufferedServerConnection, bytes: &mut [u8], records: &mut Records) {
    while connection.wants_write()
        && let Ok(ConnectionState::EncodeTlsData(mut data)) =
            connection.process_tls_records(bytes).state
    {
        let _ = records.append(|room| data.encode(room));
    }
}

/// rustls's two ways to say that a buffer is too small.
trait TooSmall {
    fn needed(&self) -> Option<usize>;
}

impl TooSmall for EncodeError {
    fn needed(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl TooSmall for EncryptError {
    fn needed(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::EncryptExhausted => None,
        }
    }
}

#[cfg(test)]
mod tests;
