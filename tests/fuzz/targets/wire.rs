//! What a client may be sent: whole frames as RFC 6455 wants them of a server.

use fanfare::frame::Publication;
use serde_json::value::RawValue;

/// Takes apart what one client is sent.
#[derive(Default)]
pub(crate) struct Wire {
    /// What has come of a frame in part.
    part: Vec<u8>,
    /// Whether a close frame has come, behind which there is nothing.
    is_closed: bool,
    /// The messages, if they are wanted.
    pub(crate) texts: Vec<String>,
}

impl Wire {
    /// Takes more bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.part.extend_from_slice(bytes);
        while let Some((first, payload, end)) = frame(&self.part) {
            assert!(!self.is_closed, "a frame that starts with {first:#x} behind the close frame");
            match first {
                0x81 => {
                    let text = std::str::from_utf8(payload).expect("text is UTF-8");
                    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
                    assert!(is_json, "what is said in every dialect is JSON: {text}");
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

    /// Everything was said: there is no half frame.
    pub(crate) fn end(&self) {
        assert!(self.part.is_empty(), "half a frame: {:?}", self.part);
    }
}

/// The frame that bytes begin with: its first byte, its payload, and where it ends.
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
    assert!(is_shortest, "{length} is written too long");
    let end = header + length as usize;
    Some((*first, bytes.get(header..end)?, end))
}

/// A publication is one whole frame of text in each form.
pub(crate) fn check_publication(publication: &Publication) {
    let mut wire = Wire::default();
    wire.take(publication.frame(0));
    wire.end();
    assert!(!publication.topic().is_empty(), "the dialect's byte comes first");
}
