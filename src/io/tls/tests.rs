//! A client of rustls's own talks to a connection, in any pieces.

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
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(
        made.signing_key.serialize_pem().as_bytes(),
    );
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
    fn turn(&mut self, cut: usize) -> Result<PeerState, Failure> {
        let mut heard = PeerState::Open;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while self.client.wants_write() {
            self.client.write_tls(&mut up).unwrap();
        }
        for piece in up.chunks_mut(cut) {
            let more = self.tls.read(piece, &mut self.scratch, socket(&mut down, self.room))?;
            self.heard.0.extend_from_slice(&self.scratch.plaintext);
            heard = if more == PeerState::Closed { more } else { heard };
        }
        self.tls.flush(socket(&mut down, self.room));
        if !self.client.is_handshaking() && !self.backlog.is_empty() {
            let written =
                self.tls.write(&self.backlog, &mut self.scratch, socket(&mut down, self.room));
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
        while self.client.is_handshaking() || self.tls.stage != TlsStage::Open {
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
        assert_eq!(pair.turn(7).unwrap(), PeerState::Closed);
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
        assert_eq!(tls.read(&mut goodbye, scratch, |_| panic!("sent")).unwrap(), PeerState::Closed);
        assert_eq!(
            tls.read(&mut [0x17; 1000], scratch, |_| panic!("sent")).unwrap(),
            PeerState::Open
        );
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
