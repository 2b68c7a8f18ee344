//! The bytes that a client receives: complete frames, as RFC 6455 requires of a server.

use fanfare::frame::Publication;
use serde_json::value::RawValue;

/// Decodes the bytes that one client receives.
#[derive(Default)]
pub(crate) struct Wire {
    /// The bytes of an incomplete frame.
    part: Vec<u8>,
    /// Whether a close frame has come, after which nothing may follow.
    is_closed: bool,
    /// The messages, where they are wanted.
    pub(crate) texts: Vec<String>,
}

impl Wire {
    /// Takes more bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.part.extend_from_slice(bytes);
        while let Some((first, payload, end)) = frame(&self.part) {
            assert!(!self.is_closed, "a frame that starts with {first:#x} after the close frame");
            match first {
                0x81 => {
                    let text = std::str::from_utf8(payload).expect("text is UTF-8");
                    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
                    assert!(is_json, "the text messages of every dialect are JSON: {text}");
                    self.texts.push(text.to_owned());
                }
                0x88 => {
                    self.is_closed = true;
                    assert!(payload.len() != 1 && payload.len() <= 125, "{payload:?}");
                    if let [high, low, reason @ ..] = payload {
                        let code = u16::from_be_bytes([*high, *low]);
                        assert!(matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999), "{code}");
                        assert!(std::str::from_utf8(reason).is_ok(), "{reason:?}");
                    }
                }
                0x89 | 0x8A => assert!(payload.len() <= 125),
                other => panic!("a frame that starts with {other:#x}"),
            }
            self.part.drain(..end);
        }
    }

    /// Asserts that no incomplete frame is left.
    pub(crate) fn end(&self) {
        assert!(self.part.is_empty(), "an incomplete frame: {:?}", self.part);
    }
}

/// The frame at the start of the bytes: its first byte, its payload, and its end.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (length, header) = match second {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
        short => {
            assert!(short & 0x80 == 0, "a server does not mask");
            (u64::from(*short), 2)
        }
    };
    let is_shortest = match header {
        2 => true,
        4 => length >= 126,
        _ => length > 0xffff,
    };
    assert!(is_shortest, "the length {length} has too many bytes");
    let end = header + length as usize;
    Some((*first, bytes.get(header..end)?, end))
}

/// Asserts that a publication is one complete text frame in each form.
pub(crate) fn check_publication(publication: &Publication) {
    let mut wire = Wire::default();
    wire.take(publication.frame(0));
    wire.end();
    assert!(!publication.topic().is_empty(), "the dialect's byte comes first");
}
