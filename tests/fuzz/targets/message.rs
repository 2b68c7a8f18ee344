//! Frames of a client: the messages are the same however the bytes are cut, and the memory stays
//! within its limit.

use super::{Input, cuts};
use fanfare::message::{self, Interest, MessageInbox, Received, Violation};

/// Maximum length of a message.
const LIMIT: usize = 300;
/// Maximum memory beside a message: its place, and an incomplete control frame.
const BESIDE_BYTES_MAX: usize = 512;

/// The first byte says after how many messages only control frames are of interest, the second how
/// to cut the rest.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let (messages_max, seed) = (input.byte(), input.byte());
    let mut outcomes = cuts(seed, input.0.len())
        .into_iter()
        .map(|sizes| (read(input.0, &sizes, messages_max), sizes));
    let (whole, _) = outcomes.next().expect("the first cut is the whole");
    for (pieces, sizes) in outcomes {
        assert_eq!(pieces, whole, "in pieces of {sizes:?}");
    }
}

/// The messages, and how the reading ended.
fn read(bytes: &[u8], sizes: &[usize], messages_max: u8) -> (Vec<String>, Result<(), Violation>) {
    let mut inbox: Option<Box<MessageInbox>> = None;
    let mut said = Vec::new();
    let (mut interest, mut left) = (Interest::Messages(LIMIT), messages_max);
    let mut rest = bytes;
    for size in sizes {
        let (piece, after) = rest.split_at(*size);
        rest = after;
        let result = message::read(&mut inbox, &mut piece.to_vec(), interest, |received| {
            said.push(format!("{received:?}"));
            left = left.saturating_sub(1);
            interest = match received {
                Received::Close(_) => Interest::Nothing,
                _ if left == 0 && messages_max > 0 => Interest::Controls,
                _ => interest,
            };
            interest
        });
        if result.is_err() || interest == Interest::Nothing {
            return (said, result);
        }
        // A vector may reserve twice the length of its content.
        let held = MessageInbox::bytes(inbox.as_deref());
        assert!(held <= 2 * LIMIT + BESIDE_BYTES_MAX, "{held} bytes are held");
    }
    (said, Ok(()))
}
