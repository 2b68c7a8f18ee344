//! The inbound half of RFC 6455: bytes of a client become messages.
//!
//! Reads arrive in a buffer that all connections of a shard share. Whole frames are unmasked and handed on
//! where they lie; only a frame or message that is not complete yet is copied into an [`Inbox`] of its own,
//! which is gone again as soon as it is. Headers are tungstenite's to parse; what it leaves to its caller is
//! judged here: lengths (before anything is reserved for them), masks, reserved bits, the rules of
//! fragments and control frames, UTF-8, close codes.
//!
//! This file does not know what a message means, nor how a connection is closed.

use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::frame::CONTROL_BYTES_MAX;

/// What a connection has sent in part.
#[derive(Default)]
pub struct Inbox {
    /// An incomplete frame, from its header on.
    frame: Vec<u8>,
    /// The fragments of an unfinished message.
    message: Vec<u8>,
    /// How much of a text message is known to be UTF-8.
    valid: usize,
    /// Whether the unfinished message is text; `None` when there is none.
    text: Option<bool>,
}

/// Something whole.
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

/// What a peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The framing is wrong.
    Protocol,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A message over the limit: so many bytes, as far as they are announced.
    TooLong(u64),
}

impl Violation {
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

/// Whether the reader should go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    On,
    /// What follows is of no interest.
    Stop,
}

/// Reads what a connection sent, after what `inbox` still holds, and gives everything whole to `sink`.
/// Messages are at most `limit` bytes.
///
/// # Errors
/// At the first violation; nothing more may be read from the connection then.
pub fn read(
    inbox: &mut Option<Box<Inbox>>,
    input: &mut [u8],
    limit: usize,
    mut sink: impl FnMut(Received<'_>) -> Flow,
) -> Result<(), Violation> {
    let mut held = Vec::new();
    let bytes = match inbox {
        Some(inbox) if !inbox.frame.is_empty() => {
            held = std::mem::take(&mut inbox.frame);
            held.extend_from_slice(input);
            &mut held[..]
        }
        _ => &mut *input,
    };
    let mut at = 0;
    while at < bytes.len() {
        let Some((header, start, length)) = header(&bytes[at..], inbox.as_deref(), limit)? else { break };
        let start = at + start;
        let Some(payload) = bytes.get_mut(start..start + length) else { break };
        unmask(payload, header.mask.ok_or(Violation::Protocol)?);
        at = start + length;
        let flow = match header.opcode {
            OpCode::Control(control) => sink(controlled(control, payload)?),
            OpCode::Data(data) => match assemble(inbox, data, header.is_final, payload)? {
                Some(received) => sink(received),
                None => Flow::On,
            },
        };
        finish(inbox, header.is_final, header.opcode);
        if flow == Flow::Stop {
            *inbox = None;
            return Ok(());
        }
    }
    let rest = bytes.len() - at;
    if rest > 0 {
        let inbox = inbox.get_or_insert_default();
        if held.is_empty() {
            inbox.frame = input[at..].to_vec();
        } else {
            held.drain(..at);
            inbox.frame = held;
        }
    }
    Ok(())
}

/// The next header, where its payload starts and how long it is, judged before a byte of payload is kept.
/// `None` when the header itself is incomplete.
fn header(
    bytes: &[u8],
    inbox: Option<&Inbox>,
    limit: usize,
) -> Result<Option<(FrameHeader, usize, usize)>, Violation> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Protocol)?;
    let Some((header, length)) = parsed else { return Ok(None) };
    let unfinished = inbox.and_then(|inbox| inbox.text).is_some();
    let held = inbox.map_or(0, |inbox| inbox.message.len());
    if header.rsv1 || header.rsv2 || header.rsv3 || header.mask.is_none() {
        return Err(Violation::Protocol);
    }
    match header.opcode {
        OpCode::Control(_) if !header.is_final || length > CONTROL_BYTES_MAX as u64 => {
            return Err(Violation::Protocol);
        }
        OpCode::Data(Data::Continue) if !unfinished => return Err(Violation::Protocol),
        OpCode::Data(Data::Text | Data::Binary) if unfinished => return Err(Violation::Protocol),
        OpCode::Data(_) if length > limit.saturating_sub(held) as u64 => {
            return Err(Violation::TooLong(length.saturating_add(held as u64)));
        }
        _ => {}
    }
    Ok(Some((header, cursor.position() as usize, length as usize)))
}

fn controlled(control: Control, payload: &[u8]) -> Result<Received<'_>, Violation> {
    match control {
        Control::Ping => Ok(Received::Ping(payload)),
        Control::Pong => Ok(Received::Pong),
        Control::Close => {
            match payload {
                [] => {}
                [_] => return Err(Violation::Protocol),
                [high, low, reason @ ..] => {
                    let code = CloseCode::from(u16::from_be_bytes([*high, *low]));
                    if !code.is_allowed() {
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

/// A whole message, if this frame makes one: by itself, or with the fragments before it.
fn assemble<'a>(
    inbox: &'a mut Option<Box<Inbox>>,
    data: Data,
    is_final: bool,
    payload: &'a [u8],
) -> Result<Option<Received<'a>>, Violation> {
    if is_final && data != Data::Continue {
        return whole(data == Data::Text, payload).map(Some);
    }
    let inbox = inbox.get_or_insert_default();
    if data != Data::Continue {
        inbox.text = Some(data == Data::Text);
    }
    inbox.message.extend_from_slice(payload);
    let text = inbox.text == Some(true);
    if is_final {
        return whole(text, &inbox.message).map(Some);
    }
    if text {
        // Bad text is refused at the fragment that has it, not when its sender chooses to finish.
        match std::str::from_utf8(&inbox.message[inbox.valid..]) {
            Ok(_) => inbox.valid = inbox.message.len(),
            Err(error) if error.error_len().is_some() => return Err(Violation::NotUtf8),
            Err(error) => inbox.valid += error.valid_up_to(),
        }
    }
    Ok(None)
}

fn whole(text: bool, payload: &[u8]) -> Result<Received<'_>, Violation> {
    if text {
        std::str::from_utf8(payload).map(Received::Text).map_err(|_| Violation::NotUtf8)
    } else {
        Ok(Received::Binary(payload))
    }
}

/// Lets go of what was assembled, and of the inbox when nothing is left in it.
fn finish(inbox: &mut Option<Box<Inbox>>, is_final: bool, opcode: OpCode) {
    let Some(held) = inbox else { return };
    if is_final && matches!(opcode, OpCode::Data(_)) {
        held.text = None;
    }
    if held.text.is_none() {
        *inbox = None;
    }
}

/// Applies a mask in place.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes((&*chunk).try_into().expect("chunks are of 8 bytes"));
        chunk.copy_from_slice(&(word ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
