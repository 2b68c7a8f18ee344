//! The inbound half of WebSocket, held against tungstenite's own `WebSocketContext`: the same bytes, however
//! they are cut, give the same messages or are refused by both. Then one test for each way to break the
//! protocol, with its close code.

#![allow(clippy::unwrap_used)]

use fanfare::message::{self, Interest, MessageInbox, Received, Violation};
use proptest::prelude::*;
use std::io::{self, Read, Write};
use tungstenite::error::CapacityError;
use tungstenite::error::Error;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

/// Longest message of these tests.
const LIMIT: usize = 300;
const ALL: Interest = Interest::Messages(LIMIT);

const CONTINUE: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;

/// A message by value, as far as both codecs tell.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Vec<u8>),
}

impl Said {
    fn of(received: Received<'_>) -> Self {
        match received {
            Received::Text(text) => Self::Text(text.to_owned()),
            Received::Binary(bytes) => Self::Binary(bytes.to_owned()),
            Received::Ping(payload) => Self::Ping(payload.to_owned()),
            Received::Pong => Self::Pong,
            Received::Close(payload) => Self::Close(payload.to_owned()),
        }
    }
}

/// What came out, and how it ended: `Ok` when more could have come.
type Outcome = (Vec<Said>, Result<(), Violation>);

/// The first byte of a header as given, the shortest length, a mask, the payload masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    let mask = [0x5A, 0x00, 0xFF, payload.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Reads with the daemon's codec, in pieces of these sizes and the rest at once.
fn read(bytes: &[u8], pieces: &[usize]) -> Outcome {
    let mut inbox: Option<Box<MessageInbox>> = None;
    let mut said = Vec::new();
    let mut rest = bytes.to_vec();
    for size in pieces.iter().copied().chain([usize::MAX]) {
        let tail = rest.split_off(size.min(rest.len()));
        let mut stopped = false;
        let result = message::read(&mut inbox, &mut rest, ALL, |received| {
            stopped = matches!(received, Received::Close(_));
            said.push(Said::of(received));
            if stopped { Interest::Nothing } else { ALL }
        });
        if result.is_err() || stopped {
            return (said, result);
        }
        rest = tail;
    }
    (said, Ok(()))
}

/// Bytes to be read; what is written is not looked at.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads with tungstenite's.
fn oracle(bytes: &[u8]) -> Outcome {
    let config =
        WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    let mut wire = Wire(bytes);
    let mut said = Vec::new();
    loop {
        said.push(match context.read(&mut wire) {
            Ok(Message::Text(text)) => Said::Text(text.to_string()),
            Ok(Message::Binary(bytes)) => Said::Binary(bytes.to_vec()),
            Ok(Message::Ping(payload)) => Said::Ping(payload.to_vec()),
            Ok(Message::Pong(_)) => Said::Pong,
            Ok(Message::Close(None)) => {
                said.push(Said::Close(Vec::new()));
                return (said, Ok(()));
            }
            // This is how it shows a code that may not be sent.
            Ok(Message::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => {
                return (said, Err(Violation::Protocol));
            }
            Ok(Message::Close(Some(close))) => {
                let code = u16::from(close.code).to_be_bytes();
                said.push(Said::Close([&code[..], close.reason.as_bytes()].concat()));
                return (said, Ok(()));
            }
            Ok(Message::Frame(_)) => panic!("tungstenite does not read raw frames"),
            Err(Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => {
                return (said, Ok(()));
            }
            Err(Error::Protocol(_)) => return (said, Err(Violation::Protocol)),
            Err(Error::Utf8(_)) => return (said, Err(Violation::NotUtf8)),
            Err(Error::Capacity(CapacityError::MessageTooLong { size, .. })) => {
                return (said, Err(Violation::TooLong(size as u64)));
            }
            Err(other) => panic!("{other}"),
        });
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "\\PC{0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..8),
        1 => (0..400_usize).prop_map(|length| vec![b'x'; length]),
        // Characters cut apart, and close payloads.
        2 => prop::sample::select(vec![
            vec![0xE6, 0x97], vec![0xA5], vec![0xF0, 0x9F, 0x98], vec![0x80], vec![0xC3],
            vec![0x03, 0xE8], vec![0x03, 0xED], vec![0x0F, 0xA0, b'b', b'y', b'e'], vec![0x03],
        ]),
    ]
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        4 => Just(FIN | TEXT),
        2 => Just(FIN | BINARY),
        4 => Just(TEXT),
        1 => Just(BINARY),
        5 => Just(CONTINUE),
        4 => Just(FIN | CONTINUE),
        3 => Just(FIN | PING),
        1 => Just(FIN | PONG),
        1 => Just(FIN | CLOSE),
        1 => any::<u8>(),
    ];
    prop::collection::vec((first, payload()), 0..12).prop_map(|frames| {
        frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect()
    })
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1; 6000]), prop::collection::vec(0..40_usize, 0..60), Just(vec![])]
}

/// Whether a frame with a length in more bytes than it needs comes before any other fault: tungstenite takes those.
fn has_long_length(mut bytes: &[u8]) -> bool {
    loop {
        let (length, header, min) = match *bytes {
            [_, second, a, b, ..] if second & 0x7f == 126 => {
                (u64::from(u16::from_be_bytes([a, b])), 4, 126)
            }
            [_, second, a, b, c, d, e, f, g, h, ..] if second & 0x7f == 127 => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10, 0x1_0000)
            }
            [_, second, ..] if second & 0x7f < 126 => (u64::from(second & 0x7f), 2, 0),
            _ => return false,
        };
        if length < min || length > i64::MAX as u64 {
            return true;
        }
        let mask = if bytes[1] & 0x80 == 0 { 0 } else { 4 };
        let end = usize::try_from(length).ok().and_then(|length| length.checked_add(header + mask));
        let Some(rest) = end.and_then(|end| bytes.get(end..)) else { return false };
        bytes = rest;
    }
}

/// The daemon verifiers a header before its payload has come, and text before the rest of it has, so it may refuse what
/// tungstenite still waits for. It refuses lengths that are longer than they need be, and takes the close code 1014.
fn agree(bytes: &[u8], pieces: &[usize]) -> Result<(), TestCaseError> {
    let (ours, theirs) = (read(bytes, pieces), oracle(bytes));
    if ours.1 == Err(Violation::Protocol) && has_long_length(bytes) {
        prop_assert!(theirs.0.starts_with(&ours.0));
        return Ok(());
    }
    if matches!(ours.0.last(), Some(Said::Close(payload)) if payload.starts_with(&1014u16.to_be_bytes()))
    {
        return Ok(());
    }
    prop_assert_eq!(&ours.0, &theirs.0);
    prop_assert!(ours.1.is_err() || theirs.1.is_ok(), "only tungstenite refuses: {:?}", theirs.1);
    if ours.1.is_err() && theirs.1.is_ok() {
        prop_assert!(!matches!(theirs.0.last(), Some(Said::Close(_))));
        // With enough to come, it refuses too.
        let more = [bytes, &vec![0; 70_000][..]].concat();
        prop_assert!(oracle(&more).1.is_err(), "only the daemon refuses: {:?}", ours.1);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_cut_anywhere_give_the_messages_that_tungstenite_gives(bytes in frames(), pieces in pieces()) {
        agree(&bytes, &pieces)?;
        prop_assert_eq!(read(&bytes, &pieces), read(&bytes, &[]));
    }

    #[test]
    fn damaged_frames_give_the_messages_that_tungstenite_gives(
        mut bytes in frames(),
        pieces in pieces(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (place, byte) in damage {
            if !bytes.is_empty() {
                *place.get_mut(&mut bytes) = byte;
            }
        }
        agree(&bytes, &pieces)?;
    }

    #[test]
    fn noise_upsets_nobody(bytes in prop::collection::vec(any::<u8>(), 0..200), pieces in pieces()) {
        agree(&bytes, &pieces)?;
    }
}

/// Both refuse these bytes, after the same messages; the close code is the daemon's.
fn refused(bytes: &[u8]) -> (usize, u16) {
    let (said, result) = read(bytes, &[]);
    assert_eq!(read(bytes, &vec![1; bytes.len()]), (said.clone(), result), "byte by byte");
    agree(bytes, &[]).unwrap();
    (said.len(), result.unwrap_err().close_code())
}

fn heard(bytes: &[u8]) -> Vec<Said> {
    let (said, result) = read(bytes, &[]);
    assert_eq!(read(bytes, &vec![1; bytes.len()]), (said.clone(), result), "byte by byte");
    assert_eq!(oracle(bytes), (said.clone(), result));
    result.unwrap();
    said
}

#[test]
fn an_unmasked_frame_closes_1002() {
    assert_eq!(refused(b"\x81\x05hello"), (0, 1002));
    assert_eq!(refused(b"\x89\x00"), (0, 1002));
}

#[test]
fn a_reserved_bit_closes_1002() {
    for bit in [0x40, 0x20, 0x10] {
        assert_eq!(refused(&frame(FIN | TEXT | bit, b"hello")), (0, 1002));
        assert_eq!(refused(&frame(FIN | PING | bit, b"")), (0, 1002));
    }
}

#[test]
fn a_reserved_opcode_closes_1002() {
    for opcode in (3..8).chain(11..16) {
        assert_eq!(refused(&frame(FIN | opcode, b"hello")), (0, 1002), "{opcode}");
    }
}

#[test]
fn a_message_over_the_limit_closes_1009_by_its_header_alone() {
    assert_eq!(heard(&frame(FIN | TEXT, &[b'x'; LIMIT])).len(), 1);
    assert_eq!(refused(&frame(FIN | TEXT, &[b'x'; LIMIT + 1])), (0, 1009));
    assert_eq!(refused(&frame(FIN | BINARY, &[b'x'; LIMIT + 1])[..8]), (0, 1009));
    for length in [65_536, u64::from(u32::MAX), 1 << 32, 0x7FFF_FFFF_FFFF_FFFF] {
        let header = [&[FIN | TEXT, 0xFF][..], &length.to_be_bytes(), &[0; 4]].concat();
        assert_eq!(refused(&header), (0, 1009), "{length:#x}");
    }
}

/// RFC 6455 section 5.2: the minimal number of bytes, and the highest bit of eight is 0.
#[test]
fn a_length_that_is_longer_than_it_needs_to_be_closes_1002() {
    let payload = |length: usize| [&[0; 4][..], &vec![b'x'; length]].concat();
    let two = |length: u16| {
        [&[FIN | TEXT, 0xFE][..], &length.to_be_bytes(), &payload(length.into())].concat()
    };
    let eight =
        |length: u64| [&[FIN | TEXT, 0xFF][..], &length.to_be_bytes(), &payload(200)].concat();
    assert_eq!(heard(&two(126)).len(), 1);
    for length in [0, 1, 125] {
        assert_eq!(refused(&two(length)), (0, 1002), "{length}");
    }
    for length in [0, 1, 126, 200, 65_535, 0x8000_0000_0000_0001, u64::MAX] {
        assert_eq!(refused(&eight(length)), (0, 1002), "{length:#x}");
    }
    assert_eq!(refused(&eight(65_536)), (0, 1009));
}

#[test]
fn a_message_in_fragments_without_end_closes_1009_when_it_passes_the_limit() {
    let mut bytes = frame(TEXT, &[b'x'; 100]);
    bytes.extend(frame(CONTINUE, &[b'x'; 100]));
    bytes.extend(frame(CONTINUE, &[b'x'; 100]));
    assert_eq!(heard(&bytes), []);
    bytes.extend(frame(CONTINUE, b""));
    assert_eq!(heard(&bytes), []);
    assert_eq!(refused(&[bytes.clone(), frame(CONTINUE, b"x")].concat()), (0, 1009));
    bytes.extend(frame(FIN | CONTINUE, b""));
    assert_eq!(heard(&bytes), [Said::Text("x".repeat(300))]);
}

#[test]
fn a_control_frame_that_is_too_long_or_in_fragments_closes_1002() {
    for opcode in [PING, PONG, CLOSE] {
        assert_eq!(refused(&frame(FIN | opcode, &[b'x'; 126])), (0, 1002));
        assert_eq!(refused(&frame(opcode, b"")), (0, 1002));
    }
    assert_eq!(heard(&frame(FIN | PING, &[7; 125])), [Said::Ping(vec![7; 125])]);
}

#[test]
fn a_continuation_of_nothing_closes_1002() {
    assert_eq!(refused(&frame(FIN | CONTINUE, b"x")), (0, 1002));
    assert_eq!(refused(&[frame(FIN | TEXT, b"x"), frame(CONTINUE, b"x")].concat()), (1, 1002));
}

#[test]
fn a_new_message_within_an_unfinished_one_closes_1002() {
    for opcode in [TEXT, BINARY] {
        assert_eq!(refused(&[frame(TEXT, b"x"), frame(FIN | opcode, b"y")].concat()), (0, 1002));
    }
}

#[test]
fn bad_text_closes_1007_at_the_fragment_that_has_it() {
    assert_eq!(refused(&frame(FIN | TEXT, b"ab\xff")), (0, 1007));
    assert_eq!(refused(&frame(TEXT, b"ab\xff")), (0, 1007));
    assert_eq!(refused(&[frame(TEXT, b"ab\xE6"), frame(CONTINUE, b"x")].concat()), (0, 1007));
    assert_eq!(
        refused(&[frame(TEXT, b"ab\xE6\x97"), frame(FIN | CONTINUE, b"")].concat()),
        (0, 1007)
    );
    assert_eq!(refused(&frame(FIN | TEXT, b"\xed\xa0\x80")), (0, 1007), "a surrogate");
}

/// Autobahn's cases 6.4.3 and 6.4.4.
#[test]
fn bad_text_closes_1007_before_the_rest_of_its_frame_has_come() {
    for first in [FIN | TEXT, TEXT] {
        let bytes = frame(first, b"ab\xF0\x9F\x98\x80\xF4\x90cdef");
        assert_eq!(refused(&bytes[..bytes.len() - 4]), (0, 1007));
        // The one before is the beginning of a character.
        assert_eq!(read(&bytes[..bytes.len() - 5], &[]), (vec![], Ok(())));
    }
    let bytes = [frame(TEXT, b"ab\xE6"), frame(FIN | CONTINUE, b"\x97\xA5\xC3x...")].concat();
    assert_eq!(refused(&bytes[..bytes.len() - 3]), (0, 1007));
    assert_eq!(read(&bytes[..bytes.len() - 4], &[]), (vec![], Ok(())));
}

#[test]
fn a_character_may_be_cut_by_fragments() {
    let bytes: Vec<u8> = [&b"\xF0"[..], b"\x9F", b"\x98", b"\x80ab\xE6", b"\x97\xA5"]
        .iter()
        .enumerate()
        .flat_map(|(index, part)| {
            frame([TEXT, CONTINUE, CONTINUE, CONTINUE, FIN | CONTINUE][index], part)
        })
        .collect();
    assert_eq!(heard(&bytes), [Said::Text("😀ab日".to_owned())]);
}

#[test]
fn a_close_frame_has_no_payload_or_a_code_and_text() {
    assert_eq!(heard(&frame(FIN | CLOSE, b"")), [Said::Close(vec![])]);
    assert_eq!(heard(&frame(FIN | CLOSE, b"\x03\xE8bye")), [Said::Close(b"\x03\xE8bye".to_vec())]);
    assert_eq!(refused(&frame(FIN | CLOSE, b"\x03")), (0, 1002));
    assert_eq!(refused(&frame(FIN | CLOSE, b"\x03\xE8\xff")), (0, 1007));
}

#[test]
fn a_close_code_that_may_not_be_sent_closes_1002() {
    let echoed = Said::Close(1014u16.to_be_bytes().to_vec());
    assert_eq!(
        read(&frame(FIN | CLOSE, &1014u16.to_be_bytes()), &[]),
        (vec![echoed], Ok(())),
        "Bad Gateway"
    );
    for code in (0..=5001_u16).filter(|code| *code != 1014) {
        let bytes = frame(FIN | CLOSE, &code.to_be_bytes());
        if CloseCode::from(code).is_allowed() {
            assert_eq!(heard(&bytes), [Said::Close(code.to_be_bytes().to_vec())]);
        } else {
            assert_eq!(refused(&bytes), (0, 1002), "{code}");
        }
    }
    for code in [999_u16, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        assert_eq!(refused(&frame(FIN | CLOSE, &code.to_be_bytes())), (0, 1002), "{code}");
    }
}

#[test]
fn control_frames_may_come_between_fragments() {
    let bytes = [
        frame(TEXT, b"one "),
        frame(FIN | PING, b"?"),
        frame(CONTINUE, b"two "),
        frame(FIN | PONG, b""),
        frame(FIN | CONTINUE, b"three"),
        frame(FIN | CLOSE, b""),
        frame(FIN | TEXT, b"never"),
    ]
    .concat();
    let ping = Said::Ping(b"?".to_vec());
    assert_eq!(
        heard(&bytes),
        [ping, Said::Pong, Said::Text("one two three".into()), Said::Close(vec![])]
    );
}

#[test]
fn nothing_is_kept_when_everything_was_whole() {
    let mut inbox = None;
    let whole = [
        frame(FIN | TEXT, b"a"),
        frame(TEXT, b"b"),
        frame(FIN | CONTINUE, b"c"),
        frame(FIN | PING, b""),
    ];
    message::read(&mut inbox, &mut whole.concat(), ALL, |_| ALL).unwrap();
    assert!(inbox.is_none());
    message::read(&mut inbox, &mut frame(FIN | TEXT, b"half")[..7], ALL, |_| ALL).unwrap();
    assert!(inbox.is_some());
    message::read(&mut inbox, &mut frame(FIN | TEXT, b"half")[7..], ALL, |_| ALL).unwrap();
    assert!(inbox.is_none());
}

/// After our close frame only the peer's matters: a frame header of a gigabyte reserves nothing, and what follows is
/// found behind it.
#[test]
fn messages_without_interest_are_skipped_and_not_kept() {
    let mut inbox = None;
    let mut said = Vec::new();
    let mut feed = |inbox: &mut Option<Box<MessageInbox>>, mut bytes: Vec<u8>| {
        message::read(inbox, &mut bytes, Interest::Controls, |received| {
            said.push(Said::of(received));
            Interest::Controls
        })
        .unwrap();
        MessageInbox::bytes(inbox.as_deref())
    };
    let header = [&[FIN | TEXT, 0xFF][..], &1_000_000_000_u64.to_be_bytes(), &[1; 4]].concat();
    let mut held = feed(&mut inbox, header);
    for _ in 0..1000 {
        held = held.max(feed(&mut inbox, vec![0xFF; 1_000_000]));
    }
    assert!(held < 200, "{held} bytes are held");
    assert!(inbox.is_none());
    // Neither fragments nor text are verified.
    let rest = [
        frame(CONTINUE, b"\xff"),
        frame(TEXT, b""),
        frame(FIN | PING, b"?"),
        frame(FIN | CLOSE, b""),
    ];
    for byte in rest.concat() {
        feed(&mut inbox, vec![byte]);
    }
    assert_eq!(said, [Said::Ping(b"?".to_vec()), Said::Close(vec![])]);
}

#[test]
fn a_message_in_part_is_let_go_of_when_the_interest_in_it_ends() {
    for first in [frame(TEXT, &[b'x'; 200]), frame(FIN | TEXT, &[b'x'; 200])[..150].to_vec()] {
        let rest = if first.len() == 150 {
            frame(FIN | TEXT, &[b'x'; 200])[150..].to_vec()
        } else {
            frame(FIN | CONTINUE, b"x")
        };
        let mut inbox = None;
        let none = |_: Received<'_>| -> Interest { panic!("something came") };
        message::read(&mut inbox, &mut first.clone(), ALL, none).unwrap();
        assert!(MessageInbox::bytes(inbox.as_deref()) > 150);
        inbox.as_mut().unwrap().forget_message();
        assert!(MessageInbox::bytes(inbox.as_deref()) < 150);
        let mut said = 0;
        message::read(
            &mut inbox,
            &mut [rest, frame(FIN | CLOSE, b"")].concat(),
            Interest::Controls,
            |_| {
                said += 1;
                Interest::Nothing
            },
        )
        .unwrap();
        assert!(said == 1 && inbox.is_none());
    }
}
