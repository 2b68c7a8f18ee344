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
    fn append<E: TooSmall>(&mut self, mut write: impl FnMut(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
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
enum Stage {
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
    stage: Stage,
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
            stage: Stage::Silent,
        })
    }

    /// Whether records wait for the socket.
    pub(super) fn is_blocked(&self) -> bool {
        !self.outbound.is_empty()
    }

    /// Whether the handshake is under way.
    pub(super) fn shakes_hands(&self) -> bool {
        self.stage < Stage::Open
    }

    /// Whether nothing more is said.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
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
        if self.stage >= Stage::Answering {
            return Ok(Heard::More);
        }
        // A handshake's record starts with 0x16, a request with its method.
        if self.stage == Stage::Silent && bytes.first().is_some_and(u8::is_ascii_uppercase) {
            self.stage = Stage::Over;
            return Err(Failure::Http);
        }
        scratch.records.clear();
        let done = self.take(bytes, scratch);
        self.stage = match &done {
            Ok((stage, Heard::More)) => *stage,
            Ok((Stage::Open, Heard::Close)) => Stage::Answering,
            Ok(_) | Err(_) => Stage::Over,
        };
        if self.stage >= Stage::Answering {
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
        if !(Stage::Open..Stage::Over).contains(&self.stage) {
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
    pub(super) fn close(&mut self, scratch: &mut Scratch, mut send: impl FnMut(&[u8]) -> Sent) -> Sent {
        let was = std::mem::replace(&mut self.stage, Stage::Over);
        scratch.records.clear();
        if (Stage::Open..Stage::Over).contains(&was)
            && let Ok(ConnectionState::WriteTraffic(mut traffic)) =
                self.connection.process_tls_records(&mut self.inbound).state
        {
            let _ = scratch.records.append(|room| traffic.queue_close_notify(room));
        }
        self.transmit(scratch.records.bytes(), &mut send)
    }

    /// Decrypts what is whole and keeps the rest.
    fn take(&mut self, bytes: &mut [u8], scratch: &mut Scratch) -> Result<(Stage, Heard), Error> {
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
) -> (usize, Result<(Stage, Heard), Error>) {
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
            Ok(ConnectionState::BlockedHandshake) => Some(Ok(Stage::Handshake)),
            Ok(ConnectionState::WriteTraffic(_)) => Some(Ok(Stage::Open)),
            // Early data is never allowed, so all that is left is that both sides have closed.
            Ok(_) => Some(Ok(Stage::Over)),
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
        && let Ok(ConnectionState::EncodeTlsData(mut data)) = connection.process_tls_records(bytes).state
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::crypto::ring;
    use rustls::pki_types::ServerName;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
    use std::io::{Read as _, Write as _};

    /// A connection with a client, and a socket that takes so many bytes at a time.
    struct Pair {
        tls: Tls,
        client: ClientConnection,
        scratch: Scratch,
        room: usize,
        /// What the daemon has to say and has not got rid of.
        backlog: Vec<u8>,
        /// What either side has heard.
        heard: (Vec<u8>, Vec<u8>),
        sent: usize,
    }

    fn pair(version: &'static SupportedProtocolVersion, room: usize) -> Pair {
        let made = rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
        let key =
            rustls::pki_types::PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes());
        let server = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        Pair {
            tls: Tls::new(&server.into()).unwrap(),
            client: ClientConnection::new(client.into(), name).unwrap(),
            scratch: Scratch::default(),
            room,
            backlog: vec![],
            heard: (vec![], vec![]),
            sent: 0,
        }
    }

    /// A socket that takes `room` bytes a turn and puts them on the wire.
    fn socket<'a>(wire: &'a mut Vec<u8>, room: usize) -> impl FnMut(&[u8]) -> Sent + use<'a> {
        let mut left = room;
        move |bytes| {
            let count = left.min(bytes.len());
            left -= count;
            wire.extend_from_slice(&bytes[..count]);
            if count == 0 { Sent::Blocked } else { Sent::Bytes(count) }
        }
    }

    impl Pair {
        /// Lets everything that can move move once, in pieces of `cut` bytes towards the daemon.
        fn turn(&mut self, cut: usize) -> Result<Heard, Failure> {
            let mut heard = Heard::More;
            let (mut up, mut down) = (Vec::new(), Vec::new());
            while self.client.wants_write() {
                self.client.write_tls(&mut up).unwrap();
            }
            for piece in up.chunks_mut(cut) {
                let more = self.tls.read(piece, &mut self.scratch, socket(&mut down, self.room))?;
                self.heard.0.extend_from_slice(&self.scratch.plaintext);
                heard = if more == Heard::Close { more } else { heard };
            }
            self.tls.flush(socket(&mut down, self.room));
            if !self.client.is_handshaking() && !self.backlog.is_empty() {
                let written = self.tls.write(&self.backlog, &mut self.scratch, socket(&mut down, self.room));
                if let Sent::Bytes(count) = written {
                    self.backlog.drain(..count);
                }
                assert_eq!(self.backlog.is_empty(), written != Sent::Blocked && !self.tls.is_blocked());
            }
            self.sent += down.len();
            let mut wire = &down[..];
            while !wire.is_empty() {
                self.client.read_tls(&mut wire).unwrap();
                self.client.process_new_packets().unwrap();
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = self.client.reader().read(&mut chunk) {
                    self.heard.1.extend_from_slice(&chunk[..count]);
                }
            }
            Ok(heard)
        }

        fn greet(&mut self, cut: usize) {
            while self.client.is_handshaking() || self.tls.stage != Stage::Open {
                self.turn(cut).unwrap();
            }
        }
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 % 251) as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// A part has two bytes at least, as a frame has.
        #[test]
        fn everything_arrives_in_order_however_it_is_cut(
            old in any::<bool>(),
            cut in 1usize..3000,
            room in 1usize..5000,
            parts in prop::collection::vec(2usize..40_000, 1..5),
        ) {
            let mut pair = pair(if old { &TLS12 } else { &TLS13 }, room);
            pair.greet(cut);
            let mut said = Vec::new();
            for part in parts {
                said.extend(text(part));
                pair.backlog.extend(text(part));
                pair.client.writer().write_all(&text(part)).unwrap();
                // Only 1.3 has new keys, which each side changes to in its own time.
                let _ = pair.client.refresh_traffic_keys();
                pair.turn(cut).unwrap();
            }
            while !pair.backlog.is_empty() || pair.client.wants_write() || pair.heard.0.len() < said.len() {
                pair.turn(cut).unwrap();
            }
            prop_assert!(pair.heard.0 == said && pair.heard.1 == said);
            prop_assert!(pair.tls.inbound.capacity() == 0 && pair.tls.outbound.capacity() == 0);
        }

        #[test]
        fn garbage_is_refused_and_nothing_panics(
            open in any::<bool>(),
            start in prop::sample::select(vec![vec![], vec![0x16, 3, 1], vec![0x17, 3, 3], vec![0x15, 3, 3]]),
            bytes in prop::collection::vec(any::<u8>(), 1..400),
            cut in 1usize..100,
        ) {
            let mut pair = pair(&TLS13, usize::MAX);
            if open {
                pair.greet(usize::MAX);
            }
            let mut garbage = [start, bytes].concat();
            garbage.extend([0xff; 20_000]);
            let mut failed = false;
            for piece in garbage.chunks_mut(cut) {
                failed |= pair.tls.read(piece, &mut pair.scratch, |records| Sent::Bytes(records.len())).is_err();
                prop_assert!(pair.scratch.plaintext.is_empty());
                prop_assert!(pair.tls.inbound.len() <= 20_000);
            }
            prop_assert!(failed && pair.tls.is_over() && pair.tls.inbound.capacity() == 0);
            let written = pair.tls.write(b"nobody hears", &mut pair.scratch, |_| panic!("sent"));
            prop_assert_eq!(written, Sent::Bytes(12));
        }
    }

    proptest! {
        /// Whatever a byte in its way becomes, what is heard is what was said, or the connection fails.
        #[test]
        fn an_altered_byte_is_found_out(
            old in any::<bool>(),
            at in 0usize..900,
            change in 1u8..=255,
            cut in 1usize..400,
        ) {
            let mut pair = pair(if old { &TLS12 } else { &TLS13 }, usize::MAX);
            pair.client.writer().write_all(b"what was said").unwrap();
            let (mut at, mut heard) = (Some(at), Vec::new());
            for _ in 0..4 {
                let (mut up, mut down) = (Vec::new(), Vec::new());
                while pair.client.wants_write() {
                    pair.client.write_tls(&mut up).unwrap();
                }
                match at {
                    Some(place) if place < up.len() => up[place] ^= change,
                    _ => {}
                }
                at = at.and_then(|place| place.checked_sub(up.len()));
                let read = up.chunks_mut(cut).try_for_each(|piece| {
                    let read = pair.tls.read(piece, &mut pair.scratch, socket(&mut down, usize::MAX));
                    heard.extend_from_slice(&pair.scratch.plaintext);
                    read.map(|_| ())
                });
                let mut wire = &down[..];
                let told = pair.client.read_tls(&mut wire).is_ok() && pair.client.process_new_packets().is_ok();
                if read.is_err() || !told {
                    break;
                }
            }
            prop_assert!(b"what was said".starts_with(&heard[..]));
        }
    }

    #[test]
    fn a_write_takes_no_more_than_a_blocked_socket_can_owe() {
        let mut pair = pair(&TLS13, usize::MAX);
        pair.greet(usize::MAX);
        let Pair { mut tls, mut scratch, .. } = pair;
        let said = text(1024 * 1024);
        assert_eq!(tls.write(&said, &mut scratch, |_| Sent::Blocked), Sent::Bytes(SEALED_BYTES_MAX));
        assert!((SEALED_BYTES_MAX..SEALED_BYTES_MAX + 1024).contains(&tls.outbound.len()));
        assert_eq!(tls.write(&said, &mut scratch, |_| Sent::Blocked), Sent::Blocked);
        assert_eq!(tls.write(&said, &mut scratch, |_| Sent::Bytes(1)), Sent::Blocked);
        let all = |records: &[u8]| Sent::Bytes(records.len());
        assert_eq!(tls.write(&said, &mut scratch, all), Sent::Bytes(said.len()));
        assert_eq!(tls.outbound.capacity(), 0);
        assert_eq!(tls.write(&said, &mut scratch, |_| Sent::Broken), Sent::Broken);
    }

    #[test]
    fn the_last_byte_is_not_reported_before_it_has_left() {
        let mut pair = pair(&TLS13, usize::MAX);
        pair.greet(usize::MAX);
        let Pair { mut tls, mut scratch, .. } = pair;
        assert_eq!(tls.write(b"hello", &mut scratch, |_| Sent::Blocked), Sent::Bytes(4));
        assert_eq!(tls.write(b"o", &mut scratch, |_| Sent::Blocked), Sent::Blocked);
        let mut writes = 0;
        let sent = tls.write(b"o", &mut scratch, |records| {
            writes += 1;
            Sent::Bytes(records.len())
        });
        assert_eq!((sent, writes), (Sent::Bytes(1), 1));
    }

    #[test]
    fn http_is_told_apart_and_a_goodbye_is_heard_and_said() {
        let mut plain = pair(&TLS13, usize::MAX);
        let mut request = *b"GET / HTTP/1.1\r\n";
        let failed = plain.tls.read(&mut request, &mut plain.scratch, |_| panic!("sent"));
        assert!(matches!(failed, Err(Failure::Http)));
        for version in [&TLS12, &TLS13] {
            let mut pair = pair(version, usize::MAX);
            pair.greet(usize::MAX);
            pair.client.writer().write_all(b"last words").unwrap();
            pair.client.send_close_notify();
            assert_eq!(pair.turn(7).unwrap(), Heard::Close);
            assert_eq!(pair.heard.0, b"last words");
            pair.backlog.extend(b"the answer");
            pair.turn(7).unwrap();
            assert_eq!(pair.heard.1, b"the answer");
            let mut goodbye = Vec::new();
            pair.tls.close(&mut pair.scratch, socket(&mut goodbye, usize::MAX));
            pair.client.read_tls(&mut &goodbye[..]).unwrap();
            assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        }
    }

    #[test]
    fn nothing_is_kept_of_what_follows_a_goodbye() {
        for version in [&TLS12, &TLS13] {
            let mut pair = pair(version, usize::MAX);
            pair.greet(usize::MAX);
            pair.client.send_close_notify();
            let mut goodbye = Vec::new();
            pair.client.write_tls(&mut goodbye).unwrap();
            goodbye.extend([0x17; 1000]);
            let Pair { tls, scratch, .. } = &mut pair;
            assert_eq!(tls.read(&mut goodbye, scratch, |_| panic!("sent")).unwrap(), Heard::Close);
            assert_eq!(tls.read(&mut [0x17; 1000], scratch, |_| panic!("sent")).unwrap(), Heard::More);
            assert_eq!(tls.inbound.capacity(), 0);
            pair.backlog.extend(b"the answer");
            pair.turn(usize::MAX).unwrap();
            assert_eq!(pair.heard.1, b"the answer");
        }
    }

    #[test]
    fn a_peer_that_asks_for_new_keys_for_ever_is_refused() {
        let mut pair = pair(&TLS13, usize::MAX);
        pair.greet(usize::MAX);
        let refused = (0..1000).find_map(|_| {
            pair.client.refresh_traffic_keys().unwrap();
            pair.turn(usize::MAX).err()
        });
        assert!(matches!(refused, Some(Failure::Tls(_))));
        assert!(pair.sent < 10_000);
    }
}
