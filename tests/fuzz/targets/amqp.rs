//! Bytes from a broker, and messages of Wazo's bus.

use super::{Input, NOW, cuts, wire};
use fanfare::dialect::{AmqpHeader, AmqpMessage, Kind};
use fanfare::feed::amqp::{ExchangeType, Screen};
use fanfare::feed::{Intake, Taken};
use std::sync::Arc;

/// The negotiated maximum length of a frame.
const FRAME_BYTES_MAX: usize = 256;

/// The first byte chooses: bytes from the wire, or a message.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    match input.byte() & 1 {
        0 => frames(&mut input),
        _ => message(&mut input),
    }
}

/// The bytes passed to the AMQP client are the same however they are cut, pass a second screen
/// unchanged, and have no frame that must be read and is longer than negotiated.
fn frames(input: &mut Input<'_>) {
    let seed = input.byte();
    let mut outcomes =
        cuts(seed, input.0.len()).into_iter().map(|sizes| (passed(input.0, &sizes), sizes));
    let (whole, _) = outcomes.next().expect("the first cut is the whole");
    for (pieces, sizes) in outcomes {
        assert_eq!(pieces, whole, "in pieces of {sizes:?}");
    }
    assert_eq!(passed(&whole, &[whole.len()]), whole, "what was screened is clean");
}

fn passed(bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut screen, mut out) = (Screen::new(FRAME_BYTES_MAX), Vec::new());
    let mut rest = bytes;
    for size in sizes {
        let (piece, after) = rest.split_at(*size);
        rest = after;
        screen.pass(piece, &mut out);
    }
    out
}

/// Lines of headers, as `name=text`, `name?` for true, `name!` for null and `name` for any other
/// value; an empty line, and the body.
fn message(input: &mut Input<'_>) {
    let (exchange, is_refused) = match input.byte() % 4 {
        0 => (ExchangeType::Topic, false),
        1 => (ExchangeType::Headers, true),
        _ => (ExchangeType::Headers, false),
    };
    let mut message = AmqpMessage { is_refused, ..AmqpMessage::default() };
    loop {
        let line = input.until(b'\n');
        if line.is_empty() {
            break;
        }
        let Ok(line) = std::str::from_utf8(line) else { return };
        let header = match (line.split_once('='), line.strip_suffix('?'), line.strip_suffix('!')) {
            (Some((name, text)), ..) => (name, AmqpHeader::Text(text)),
            (_, Some(name), _) => (name, AmqpHeader::Bool(true)),
            (.., Some(name)) => (name, AmqpHeader::Null),
            _ => (line, AmqpHeader::Other),
        };
        // A broker's table has each name once.
        if message.headers.iter().all(|known| known.0 != header.0) {
            message.headers.push(header);
        }
    }
    message.body = input.0;
    let mut publications = Vec::new();
    let taken = Intake::new(Kind::ALL.to_vec(), Arc::default()).take_message(
        &message,
        exchange,
        NOW,
        &mut |publication| publications.push(publication),
    );
    publications.iter().for_each(wire::check_publication);
    match taken {
        Ok(taken) => {
            assert!(taken == Taken::Published && publications.len() == 1, "wazo is spoken");
        }
        Err(rejection) => assert!(!rejection.to_string().is_empty()),
    }
}
