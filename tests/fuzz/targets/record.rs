//! Records of the store: whatever bytes a file has, reading ends, and finds the written records
//! that are intact.

use super::Input;
use fanfare::io::store;
use fanfare::service::topic::{MessageDraft, Position, StoredMessage};

/// The kind of records that are skipped.
const PADDING: u8 = 20;

/// The first byte chooses: a body, a message, or a damaged segment.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    match input.byte() % 3 {
        0 => body(input.0),
        1 => message(input.0),
        _ => segment(&mut input),
    }
}

/// A body that is read as a record is written unchanged, except for bytes behind its fields and a
/// flag that is not 1.
fn body(bytes: &[u8]) {
    let Some(again) = store::rewritten(bytes) else { return };
    assert!(again.len() <= bytes.len(), "{} bytes from {}", again.len(), bytes.len());
    assert_eq!(store::rewritten(&again).as_deref(), Some(&again[..]));
    // Padding may hold any bytes.
    if bytes[0] == PADDING {
        return;
    }
    let differ = again.iter().zip(bytes).filter(|(one, other)| one != other).count();
    assert!(differ <= 1, "{again:?}");
}

/// A message of a topic is written as it was read.
fn message(bytes: &[u8]) {
    let Some(stored) = StoredMessage::read(Position::FIRST, bytes) else { return };
    assert_eq!(stored.record(), bytes);
    let (message, head) = (stored.message(), stored.head());
    let _ = (head.number(), stored.deliver_ms(), stored.len());
    let draft = MessageDraft::new(&message);
    let again = draft.store(Position::FIRST, stored.ordinal(), stored.bytes_before());
    assert_eq!(format!("{:?}", again.message()), format!("{message:?}"));
}

/// Bodies, then places where bits are flipped: reading finds every record that was not hit, and no
/// other.
fn segment(input: &mut Input<'_>) {
    let number = u32::from(input.byte());
    let mut bodies: Vec<&[u8]> = Vec::new();
    for _ in 0..input.byte() % 8 {
        let length = usize::from(input.byte());
        bodies.push(input.take(length));
    }
    let mut bytes = store::segment_of(&bodies, number);
    let places: Vec<usize> =
        store::bodies(&bytes, number).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(places.len(), bodies.len());

    let whole = bytes.clone();
    while !bytes.is_empty() && input.0.len() >= 3 {
        let place = usize::from(input.byte()) << 8 | usize::from(input.byte());
        let length = bytes.len();
        bytes[place % length] ^= input.byte();
    }
    bytes.truncate(bytes.len().saturating_sub(input.byte().into()));
    let found = store::bodies(&bytes, number);
    let ends = places.iter().skip(1).copied().chain([whole.len()]);
    for ((place, end), body) in places.iter().zip(ends).zip(&bodies) {
        let header_and_body = *place..*place + store::segment_of(&[body], 0).len().min(end - place);
        if bytes.get(header_and_body.clone()) == Some(&whole[header_and_body]) {
            assert!(found.contains(&(*place, *body)), "the record at {place} is lost");
        }
    }
    for (offset, body) in found {
        let index = places.iter().position(|place| *place == offset);
        assert!(index.is_some_and(|index| bodies[index] == body), "found at {offset}: {body:?}");
    }
}
