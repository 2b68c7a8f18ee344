//! TLS of one connection: a socket's bytes become plaintext, and plaintext becomes records for it.
//!
//! rustls speaks the protocol. Its unbuffered connection owns keys and state but no buffer: bytes
//! are decrypted where a read has put them, and records leave through the [`Scratch`] that all
//! connections of a shard share. A connection owns bytes only while a record is incomplete, or
//! while its socket refuses records that are made already: a record cannot be made twice, and none
//! may be left out.
//!
//! Frames are still encoded once for all; only the records around them are each connection's own.
//!
//! This file does not know sockets: the caller's closure sends, as in the outbox.

use crate::outbox::Sent;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError};
use rustls::{Error, ServerConfig};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of plaintext that become records before these are offered to the socket: four records of
/// the usual size. A slow connection owns no more than this, beside its outbox, in records that its
/// socket has refused.
const SEALED_BYTES_MAX: usize = 64 * 1024;
/// Bytes of records made for several connections, beyond which each connection's are sent alone: the
/// buffer stays allocated.
const SEALED_AHEAD_BYTES_MAX: usize = 1024 * 1024;
/// Maximum bytes of waiting records while the peer causes more, by its handshake or by alerts.
/// rustls lets it cause little; this is for a peer that has found a way.
const WAITING_BYTES_MAX: usize = 4 * SEALED_BYTES_MAX;

/// The buffers that all connections of a shard share.
#[derive(Default)]
pub(super) struct Scratch {
    /// The plaintext of the last read.
    pub(super) plaintext: Vec<u8>,
    records: Records,
    /// Records of several connections that are sent together.
    sealed: Records,
}

impl Scratch {
    /// Records that [`Tls::seal_ahead`] has made.
    pub(super) fn sealed(&self, place: Range<usize>) -> &[u8] {
        &self.sealed.bytes()[place]
    }

    /// Forgets the records of the batch before, which have been sent.
    pub(super) fn forget_sealed(&mut self) {
        self.sealed.clear();
    }
}

/// Records on their way to a socket, at the start of a buffer that keeps its length: clearing it
/// each time would cost more than a small record.
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

    /// Gives `write` the rest of the buffer, and once more a longer one if it asks for that.
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

/// The state of the peer after a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PeerState {
    /// More may come.
    Open,
    /// The peer has said goodbye behind this plaintext; it may still read.
    Closed,
}

/// Why a connection has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The peer speaks HTTP without TLS, and understands an answer in HTTP.
    #[error("the peer speaks HTTP without TLS")]
    Http,
    /// The peer broke the protocol, or wants what we refuse. An alert tells it so.
    #[error(transparent)]
    Tls(#[from] Error),
    /// The socket is gone.
    #[error("the connection is gone")]
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum TlsStage {
    /// No byte has come.
    Silent,
    /// The handshake is under way.
    Handshake,
    /// Plaintext passes in both directions.
    Open,
    /// The peer has said goodbye, and may still read.
    Answering,
    /// Ended by either side, or failed.
    Over,
}

/// One connection.
pub(super) struct Tls {
    connection: UnbufferedServerConnection,
    /// An incomplete record, or message of the handshake. rustls bounds both: a record by
    /// 16 KiB and some, a message by 64 KiB.
    inbound: Vec<u8>,
    /// Records that the socket has refused.
    outbound: Vec<u8>,
    /// Whether the first byte of the next write is already in `outbound` or has left; see
    /// [`Tls::write`].
    ahead: bool,
    stage: TlsStage,
}

impl Tls {
    /// A new connection.
    ///
    /// # Errors
    /// When rustls rejects the configuration.
    pub(super) fn new(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(Arc::clone(config))?,
            inbound: Vec::new(),
            outbound: Vec::new(),
            ahead: false,
            stage: TlsStage::Silent,
        })
    }

    /// Bytes of memory held by an incomplete record.
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

    /// Whether nothing more is sent.
    pub(super) fn is_over(&self) -> bool {
        self.stage == TlsStage::Over
    }

    /// Reads bytes of the socket. The scratch then has their plaintext, and the answers of TLS
    /// itself have been sent, or wait.
    ///
    /// # Errors
    /// At the first violation; nothing can be read or written after it.
    pub(super) fn read(
        &mut self,
        bytes: &mut [u8],
        scratch: &mut Scratch,
        mut send: impl FnMut(&[u8]) -> Sent,
    ) -> Result<PeerState, Failure> {
        scratch.plaintext.clear();
        // rustls ignores bytes behind a goodbye, and would have them kept for ever.
        if self.stage >= TlsStage::Answering {
            return Ok(PeerState::Open);
        }
        // A handshake's record starts with 0x16, a request with its method.
        if self.stage == TlsStage::Silent && bytes.first().is_some_and(u8::is_ascii_uppercase) {
            self.stage = TlsStage::Over;
            return Err(Failure::Http);
        }

        scratch.records.clear();
        let done = self.take(bytes, scratch);
        self.stage = match &done {
            Ok((stage, PeerState::Open)) => *stage,
            Ok((TlsStage::Open, PeerState::Closed)) => TlsStage::Answering,
            Ok(_) | Err(_) => TlsStage::Over,
        };
        if self.stage >= TlsStage::Answering {
            self.inbound = Vec::new();
        }
        // Also after a failure, whose alert is among the records.
        if self.transmit(scratch.records.bytes(), &mut send) == Sent::Broken {
            return Err(Failure::Gone);
        }
        Ok(done?.1)
    }

    /// Encrypts and sends. Like a socket, it takes as much as can leave: when the socket refuses
    /// records that are made already, nothing more is taken until they have left.
    ///
    /// The caller must not take the last byte for sent while it waits here, or it would end a
    /// connection that still has records to send. So when everything was taken and not everything
    /// has left, one byte less is reported, and the next write starts with that byte again.
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
        // Neither before the handshake nor after our goodbye does the peer take plaintext.
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

    /// Encrypts plaintext whose records are sent together with those of other connections, and whose
    /// outcome [`Tls::conclude`] is told. Returns their place in the scratch; `None` when this
    /// connection takes [`Tls::write`].
    pub(super) fn seal_ahead(
        &mut self,
        plaintext: &[u8],
        scratch: &mut Scratch,
    ) -> Option<Range<usize>> {
        let is_open = (TlsStage::Open..TlsStage::Over).contains(&self.stage);
        let start = scratch.sealed.length;
        if !is_open
            || self.is_blocked()
            || self.ahead
            || plaintext.len() > SEALED_BYTES_MAX
            || start > SEALED_AHEAD_BYTES_MAX
        {
            return None;
        }
        self.seal(plaintext, &mut scratch.sealed)?;
        Some(start..scratch.sealed.length)
    }

    /// Notes what the socket has done with records made ahead of so many bytes of plaintext. Returns
    /// what [`Tls::write`] would.
    pub(super) fn conclude(&mut self, plaintext: usize, records: &[u8], sent: Sent) -> Sent {
        let taken = match sent {
            Sent::Broken => return Sent::Broken,
            Sent::Blocked => 0,
            Sent::Bytes(count) => count,
        };
        self.outbound.extend_from_slice(&records[taken..]);
        self.ahead = self.is_blocked();
        Sent::Bytes(plaintext - usize::from(self.ahead))
    }

    /// Sends waiting records.
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
        // Freed, not cleared: few connections are ever blocked, and idle ones own no buffer.
        self.outbound = Vec::new();
        sent
    }

    /// Sends a goodbye, behind waiting records.
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

    /// Decrypts whole records and keeps the rest.
    fn take(
        &mut self,
        bytes: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<(TlsStage, PeerState), Error> {
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

    /// Encrypts plaintext into records; `None` when the connection permits no more.
    fn seal(&mut self, plaintext: &[u8], records: &mut Records) -> Option<()> {
        // rustls keeps no bytes itself, so an incomplete record is passed in each time.
        match self.connection.process_tls_records(&mut self.inbound).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                records.append(|room| traffic.encrypt(plaintext, room)).ok()
            }
            _ => None,
        }
    }

    /// Sends records behind waiting ones, and keeps those that the socket refuses.
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

/// Has rustls process bytes until it wants more. Returns the number of bytes used.
fn process(
    connection: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    scratch: &mut Scratch,
) -> (usize, Result<(TlsStage, PeerState), Error>) {
    let Scratch { plaintext, records, .. } = scratch;
    let mut peer = PeerState::Open;
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
                peer = PeerState::Closed;
                None
            }
            Ok(ConnectionState::BlockedHandshake) => Some(Ok(TlsStage::Handshake)),
            Ok(ConnectionState::WriteTraffic(_)) => Some(Ok(TlsStage::Open)),
            // Early data is never allowed, so all that is left is that both sides have closed.
            Ok(_) => Some(Ok(TlsStage::Over)),
            Err(error) => Some(Err(error)),
        };
        // On an error too: the bytes before it are done with.
        used += discard;
        if let Some(done) = done {
            if done.is_err() {
                say_why(connection, &mut bytes[used..], records);
            }
            return (used, done.map(|stage| (stage, peer)));
        }
    }
}

/// Encodes the records from before an error, and its alert. Processing further would return the
/// error again.
fn say_why(connection: &mut UnbufferedServerConnection, bytes: &mut [u8], records: &mut Records) {
    while connection.wants_write()
        && let Ok(ConnectionState::EncodeTlsData(mut data)) =
            connection.process_tls_records(bytes).state
    {
        let _ = records.append(|room| data.encode(room));
    }
}

/// The two errors by which rustls says that a buffer is too small.
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
