//! The inbound half of RFC 6455: a client's bytes become messages.
//!
//! Reads arrive in a buffer that all connections of a shard share. Whole frames are unmasked and
//! handed on where they lie; only a frame or message that is not complete yet is copied into a
//! [`MessageInbox`] of its own, which is freed once the message is complete. Headers are
//! tungstenite's to parse; what it leaves to its caller is checked here: lengths (before anything
//! is reserved for them), masks, reserved bits, the rules of fragments and control frames, close
//! codes, and UTF-8, as far as it has come.
//!
//! After our close frame messages are skipped as they come: nothing of them is kept, however long
//! they are.
//!
//! This file does not know what a message means, nor how a connection is closed.

mod handover;

pub use self::handover::FrozenInbox;

use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::frame::CONTROL_BYTES_MAX;

/// The incomplete frames and message of one connection.
#[derive(Default)]
pub struct MessageInbox {
    /// An incomplete header or control frame, from the header on.
    pending: Vec<u8>,
    /// The data frame whose payload is incomplete.
    frame: Option<Partial>,
    /// The payload of an unfinished message so far, unmasked.
    message: Vec<u8>,
    /// Bytes of a text message that are known to be UTF-8.
    valid: usize,
    /// Whether the unfinished message is text; `None` when there is none.
    text: Option<bool>,
    /// A violation of the protocol; nothing is read after it.
    violation: Option<Violation>,
}

/// A data frame whose payload is incomplete.
struct Partial {
    /// Bytes still to come.
    left: u64,
    /// The mask, rotated so that it starts with the byte for the next of them.
    mask: [u8; 4],
    is_final: bool,
}

impl MessageInbox {
    /// An inbox that holds a violation until it is handled: the next read returns it.
    #[must_use]
    pub fn broken(violation: Violation) -> Self {
        Self { violation: Some(violation), ..Self::default() }
    }

    /// Whether a violation is held.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.violation.is_some()
    }

    /// Bytes of memory held for a connection.
    #[must_use]
    pub fn bytes(inbox: Option<&Self>) -> usize {
        let Some(held) = inbox else { return 0 };
        size_of::<Self>() + held.pending.capacity() + held.message.capacity()
    }

    /// Drops an unfinished message. Its rest can only be skipped.
    pub fn forget_message(&mut self) {
        (self.message, self.valid, self.text) = (Vec::new(), 0, None);
    }

    fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.frame.is_none() && self.text.is_none()
    }
}

/// Which frames of a connection are read. In the life of a connection this only ever becomes less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// All frames, and messages of at most this many bytes.
    Messages(usize),
    /// Control frames only.
    Controls,
    /// Nothing.
    Nothing,
}

/// A whole message or control frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping with its payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close frame with its whole payload: a code and a reason, or nothing.
    Close(&'a [u8]),
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Wrong framing.
    Protocol,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A message over the limit: its bytes, as far as they are announced.
    TooLong(u64),
}

impl Violation {
    /// The text of the close frame.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Protocol => "protocol error",
            Self::NotUtf8 => "text that is not UTF-8",
            Self::TooLong(_) => "the message is too long",
        }
    }

    /// The close code (RFC 6455 section 7.4.1).
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLong(_) => 1009,
        }
    }
}

/// Reads bytes of a connection, after what `inbox` still holds, and passes each whole message or
/// control frame to `sink`, which returns the interest from there on.
///
/// # Errors
/// At the first violation; nothing more may be read from the connection then.
pub fn read(
    inbox: &mut Option<Box<MessageInbox>>,
    input: &mut [u8],
    mut interest: Interest,
    mut sink: impl FnMut(Received<'_>) -> Interest,
) -> Result<(), Violation> {
    let mut joined;
    let bytes = match inbox {
        Some(held) if let Some(violation) = held.violation => return Err(violation),
        Some(held) if !held.pending.is_empty() => {
            // At most one header and one control frame are pending, so this copies little beside
            // what was just read.
            joined = std::mem::take(&mut held.pending);
            joined.extend_from_slice(input);
            &mut joined[..]
        }
        _ => input,
    };

    let mut at = 0;
    while at < bytes.len() {
        match interest {
            Interest::Messages(_) => {}
            // The rest of a message is skipped, so its beginning is of no use either.
            Interest::Controls => inbox.iter_mut().for_each(|held| held.forget_message()),
            Interest::Nothing => {
                *inbox = None;
                return Ok(());
            }
        }
        match step(inbox, &mut bytes[at..], interest)? {
            FrameStep::Pending => break,
            FrameStep::Used(count) => at += count,
            FrameStep::Whole(count, received) => {
                at += count;
                interest = sink(received);
            }
            FrameStep::Assembled(count) => {
                at += count;
                // Nothing else is pending between two messages, so the memory goes with this one.
                let held = inbox.take().unwrap_or_default();
                interest = sink(whole(held.text == Some(true), &held.message)?);
            }
        }
    }

    if at < bytes.len() {
        inbox.get_or_insert_default().pending = bytes[at..].to_vec();
    } else if inbox.as_ref().is_some_and(|held| held.is_empty()) {
        // An idle connection costs no inbox.
        *inbox = None;
    }
    Ok(())
}

/// What the next bytes are; each count is the number of bytes it takes.
enum FrameStep<'a> {
    /// An incomplete header or control frame.
    Pending,
    /// Bytes that complete no message.
    Used(usize),
    /// A whole message or control frame.
    Whole(usize, Received<'a>),
    /// The end of the message in the inbox.
    Assembled(usize),
}

fn step<'a>(
    inbox: &mut Option<Box<MessageInbox>>,
    bytes: &'a mut [u8],
    interest: Interest,
) -> Result<FrameStep<'a>, Violation> {
    if let Some(held) = inbox
        && let Some(frame) = held.frame.take()
    {
        // Inside of a payload no header follows.
        return continued(held, frame, bytes, interest);
    }
    let Some((header, start, length)) = header(bytes, inbox.as_deref(), interest)? else {
        return Ok(FrameStep::Pending);
    };
    let mask = header.mask.ok_or(Violation::Protocol)?;

    // Lengths have up to 63 bits: one that overflows `usize` is not whole either.
    let whole_end = usize::try_from(length)
        .ok()
        .and_then(|length| start.checked_add(length))
        .filter(|end| *end <= bytes.len());
    let wants_messages = matches!(interest, Interest::Messages(_));

    match (header.opcode, whole_end) {
        // At most 125 bytes wait for the rest, outside of a message that they may interrupt.
        (OpCode::Control(_), None) => Ok(FrameStep::Pending),
        (OpCode::Control(control), Some(end)) => {
            let payload = &mut bytes[start..end];
            unmask(payload, mask);
            Ok(FrameStep::Whole(end, controlled(control, payload)?))
        }
        (OpCode::Data(data @ (Data::Text | Data::Binary)), Some(end))
            if header.is_final && wants_messages =>
        {
            // The usual case: unmasked and passed on where it lies.
            let payload = &mut bytes[start..end];
            unmask(payload, mask);
            Ok(FrameStep::Whole(end, whole(data == Data::Text, payload)?))
        }
        (OpCode::Data(_), Some(end)) if !wants_messages => Ok(FrameStep::Used(end)),
        (OpCode::Data(data), _) => {
            let held = inbox.get_or_insert_default();
            if data != Data::Continue && wants_messages {
                held.text = Some(data == Data::Text);
            }

            let frame = Partial { left: length, mask, is_final: header.is_final };
            Ok(match continued(held, frame, &mut bytes[start..], interest)? {
                FrameStep::Assembled(count) => FrameStep::Assembled(start + count),
                FrameStep::Used(count) => FrameStep::Used(start + count),
                other => other,
            })
        }
    }
}

/// Takes the bytes so far of a data frame that is incomplete or a fragment.
fn continued<'a>(
    held: &mut MessageInbox,
    mut frame: Partial,
    bytes: &mut [u8],
    interest: Interest,
) -> Result<FrameStep<'a>, Violation> {
    let count = usize::try_from(frame.left).map_or(bytes.len(), |left| left.min(bytes.len()));
    let payload = &mut bytes[..count];
    let wants_messages = matches!(interest, Interest::Messages(_));

    // A payload that is skipped needs no unmasking.
    if wants_messages {
        unmask(payload, frame.mask);
        // The next bytes may begin in the middle of the mask.
        frame.mask.rotate_left(count % 4);
        held.message.extend_from_slice(payload);
        if held.text == Some(true) {
            held.check_text()?;
        }
    }

    frame.left -= count as u64;
    if frame.left > 0 {
        held.frame = Some(frame);
        return Ok(FrameStep::Used(count));
    }

    // Of a fragment the message goes on in a continuation frame.
    Ok(if frame.is_final && wants_messages {
        FrameStep::Assembled(count)
    } else {
        FrameStep::Used(count)
    })
}

impl MessageInbox {
    /// Checks the text received so far: a bad byte is refused at once, not when the message ends.
    fn check_text(&mut self) -> Result<(), Violation> {
        match std::str::from_utf8(&self.message[self.valid..]) {
            Ok(_) => self.valid = self.message.len(),
            Err(error) if error.error_len().is_some() => return Err(Violation::NotUtf8),
            // A character cut in two by a frame or a read; the next bytes complete it.
            Err(error) => self.valid += error.valid_up_to(),
        }
        Ok(())
    }
}

/// The next header, where its payload starts and how long it is, checked before a byte of payload
/// is kept. `None` when the header itself is incomplete.
fn header(
    bytes: &[u8],
    inbox: Option<&MessageInbox>,
    interest: Interest,
) -> Result<Option<(FrameHeader, usize, u64)>, Violation> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Protocol)?;
    let Some((header, length)) = parsed else { return Ok(None) };

    // No extension is negotiated, so no reserved bit has a meaning (RFC 6455 section 5.2), and
    // clients must mask (5.1).
    if header.rsv1
        || header.rsv2
        || header.rsv3
        || header.mask.is_none()
        || !is_shortest(bytes[1], length)
    {
        return Err(Violation::Protocol);
    }

    let unfinished = inbox.and_then(|inbox| inbox.text).is_some();
    let held = inbox.map_or(0, |inbox| inbox.message.len());
    // Of skipped messages neither order nor length matters.
    match (header.opcode, interest) {
        (OpCode::Control(_), _) if !header.is_final || length > CONTROL_BYTES_MAX as u64 => {
            return Err(Violation::Protocol);
        }
        (OpCode::Data(Data::Continue), Interest::Messages(_)) if !unfinished => {
            return Err(Violation::Protocol);
        }
        (OpCode::Data(Data::Text | Data::Binary), Interest::Messages(_)) if unfinished => {
            return Err(Violation::Protocol);
        }
        (OpCode::Data(_), Interest::Messages(limit))
            if length > limit.saturating_sub(held) as u64 =>
        {
            return Err(Violation::TooLong(length.saturating_add(held as u64)));
        }
        _ => {}
    }
    Ok(Some((header, cursor.position() as usize, length)))
}

/// Whether a length is written in the fewest bytes, as RFC 6455 section 5.2 requires. `second` is
/// the header's second byte.
fn is_shortest(second: u8, length: u64) -> bool {
    match second & 0x7f {
        126 => length >= 126,
        127 => (0x1_0000..=i64::MAX as u64).contains(&length),
        _ => true,
    }
}

fn controlled(control: Control, payload: &[u8]) -> Result<Received<'_>, Violation> {
    match control {
        Control::Ping => Ok(Received::Ping(payload)),
        Control::Pong => Ok(Received::Pong),
        Control::Close => {
            match payload {
                [] => {}
                // Half a code (RFC 6455 section 5.5.1).
                [_] => return Err(Violation::Protocol),
                [high, low, reason @ ..] => {
                    if !may_be_sent(u16::from_be_bytes([*high, *low])) {
                        return Err(Violation::Protocol);
                    }
                    std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
                }
            }
            Ok(Received::Close(payload))
        }
        Control::Reserved(_) => Err(Violation::Protocol),
    }
}

/// Whether a close frame may have this code (RFC 6455 section 7.4, and the registry that it opens:
/// 1012 to 1014 came later).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn whole(text: bool, payload: &[u8]) -> Result<Received<'_>, Violation> {
    if text {
        std::str::from_utf8(payload).map(Received::Text).map_err(|_| Violation::NotUtf8)
    } else {
        Ok(Received::Binary(payload))
    }
}

/// Applies a mask in place.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    // XOR works on each byte by itself, so eight at once in native order give the right bytes on
    // any machine.
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes((&*chunk).try_into().expect("chunks are of 8 bytes"));
        chunk.copy_from_slice(&(word ^ wide).to_ne_bytes());
    }

    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
