//! A filter between a broker and the AMQP client, which keeps away frames that the client cannot
//! read.
//!
//! The client reads a message's properties by recursion, requires every name in UTF-8, and treats a
//! frame longer than agreed as a protocol error: some thousand nested tables end the process, and
//! any of these ends the connection, with it every session. A broker passes all of them on from any
//! publisher. So properties are examined here first, without recursion (AMQP 0-9-1 sections 4.2.3
//! and 4.2.6, with RabbitMQ's types); those that the client could not read are replaced by
//! [`REFUSED`], and the message, whose body stays, is refused as no event.
//!
//! Bytes go in and come out; there is no socket here.

use crate::bytes::Cursor;

/// The content type of a message whose properties could not be read.
pub const REFUSED: &str = "application/x-fanfare-refused";

/// Deepest nesting of tables and arrays. Wazo's headers have none.
const DEPTH_MAX: usize = 32;

/// Type, channel and size of a frame.
const HEAD_BYTES: usize = 7;
/// Class, weight and body size, which begin the payload of a content header.
const CONTENT_BYTES: usize = 12;
const FRAME_END: u8 = 0xCE;

const METHOD: u8 = 1;
const CONTENT: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// One direction of one connection.
#[derive(Debug)]
pub struct Screen {
    /// Longest frame that the client takes, head and end included.
    frame_bytes_max: usize,
    /// The start of a frame, or of its payload, to be examined as a whole.
    held: Vec<u8>,
    /// Number of bytes to pass on unexamined.
    passing: usize,
    /// Number of bytes to drop.
    skipping: usize,
    /// Whether this is not AMQP, so that everything passes.
    is_open: bool,
}

impl Screen {
    /// A screen for a client that takes frames up to this many bytes.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max, held: Vec::new(), passing: 0, skipping: 0, is_open: false }
    }

    /// Takes what the broker has sent and appends what the client gets. Never keeps more than one
    /// frame.
    pub fn pass(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            // Not AMQP: the client's own error message is better than any made here.
            if self.is_open {
                return out.extend_from_slice(bytes);
            }
            if self.passing > 0 {
                let part = split(&mut bytes, self.passing);
                self.passing -= part.len();
                out.extend_from_slice(part);
            } else if self.skipping > 0 {
                self.skipping -= split(&mut bytes, self.skipping).len();
            } else {
                let wanted = self.wanted();
                let part = split(&mut bytes, wanted - self.held.len());
                self.held.extend_from_slice(part);
                if self.held.len() == wanted {
                    self.step(out);
                }
            }
        }
    }

    /// Number of bytes to hold before the next step.
    fn wanted(&self) -> usize {
        let Some(size) = self.size() else { return HEAD_BYTES };
        match self.held[0] {
            // Of an overlong header only the fixed fields are needed, for its replacement.
            CONTENT if HEAD_BYTES + size + 1 > self.frame_bytes_max => HEAD_BYTES + CONTENT_BYTES,
            _ => HEAD_BYTES + size + 1,
        }
    }

    /// The size of the payload, once the head is complete.
    fn size(&self) -> Option<usize> {
        let size = self.held.get(3..HEAD_BYTES)?;
        Some(u32::from_be_bytes(size.try_into().ok()?) as usize)
    }

    fn step(&mut self, out: &mut Vec<u8>) {
        let size = self.size().unwrap_or_default();
        let kind = self.held[0];

        if self.held.len() == HEAD_BYTES {
            match kind {
                METHOD | CONTENT if HEAD_BYTES + size < self.frame_bytes_max => return,
                // An overlong header is examined only if it has the fixed fields that a replacement
                // needs.
                CONTENT if size >= CONTENT_BYTES => return,
                // The client itself refuses an overlong method; bodies and heartbeats have nothing
                // to examine.
                METHOD | CONTENT | BODY | HEARTBEAT => self.passing = size + 1,
                _ => self.is_open = true,
            }
            return out.append(&mut self.held);
        }

        let mut held = std::mem::take(&mut self.held);
        let payload = HEAD_BYTES..held.len() - 1;
        // The body size in the fixed fields still holds, so the body frames that follow match the
        // replacement.
        if held.len() < HEAD_BYTES + size + 1 {
            self.skipping = HEAD_BYTES + size + 1 - held.len();
            put_refused(&held, out);
        } else if kind == CONTENT && !is_readable(&held[payload.clone()]) && size >= CONTENT_BYTES {
            put_refused(&held, out);
        } else {
            if kind == METHOD {
                mend_delivery(&mut held[payload]);
            }
            out.append(&mut held);
        }
        // Memory of a long frame is released: one broker connection lives for months.
        held.clear();
        held.shrink_to(4096);
        self.held = held;
    }
}

/// Takes up to this many bytes off the front.
fn split<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (part, rest) = bytes.split_at(count.min(bytes.len()));
    *bytes = rest;
    part
}

/// Appends a content header for the same channel and body, with one property.
fn put_refused(held: &[u8], out: &mut Vec<u8>) {
    let size = CONTENT_BYTES + 2 + 1 + REFUSED.len();
    out.extend_from_slice(&held[..3]);
    out.extend_from_slice(&(size as u32).to_be_bytes());
    out.extend_from_slice(&held[HEAD_BYTES..HEAD_BYTES + CONTENT_BYTES]);
    // The highest flag is content-type.
    out.extend_from_slice(&0x8000_u16.to_be_bytes());
    out.push(REFUSED.len() as u8);
    out.extend_from_slice(REFUSED.as_bytes());
    out.push(FRAME_END);
}

/// A text of at most 255 bytes after its length.
fn short_text<'a>(rest: &mut Cursor<'a>) -> Option<&'a str> {
    let length = rest.byte()?;
    rest.text(length.into())
}

/// Whether the client can read the payload of a content header.
fn is_readable(payload: &[u8]) -> bool {
    properties(payload).is_some()
}

/// Reads the properties of the class `basic` in their order; a flag each, from the highest bit on.
fn properties(payload: &[u8]) -> Option<()> {
    let mut reader = Cursor(payload.get(CONTENT_BYTES..)?);
    let flags = reader.u16_be()?;
    // Fourteen properties; bit 1 is unused, and bit 0 would announce more flags.
    for bit in (2..16).rev().filter(|bit| flags & (1 << bit) != 0) {
        match bit {
            // Headers; delivery mode and priority; timestamp; the rest are short texts.
            13 => table(&mut reader)?,
            12 | 11 => drop(reader.byte()?),
            6 => drop(reader.take(8)?),
            _ => drop(short_text(&mut reader)?),
        }
    }
    Some(())
}

/// Reads a table: names and values to its end, nested ones included.
fn table(reader: &mut Cursor<'_>) -> Option<()> {
    let length = reader.u32_be()? as usize;
    // Open tables and arrays: whether their values have names, and the unread rest.
    let mut open = vec![(true, Cursor(reader.take(length)?))];
    while let Some((is_table, inner)) = open.last_mut() {
        if inner.0.is_empty() {
            open.pop();
            continue;
        }
        if *is_table {
            short_text(inner)?;
        }

        let within = match inner.byte()? {
            b'V' => continue,
            b't' | b'b' | b'B' => (inner.take(1)?, None),
            b's' | b'U' | b'u' => (inner.take(2)?, None),
            b'I' | b'i' | b'f' => (inner.take(4)?, None),
            b'D' => (inner.take(5)?, None),
            b'L' | b'l' | b'd' | b'T' => (inner.take(8)?, None),
            // Texts and byte arrays are skipped, tables and arrays are opened.
            kind @ (b'S' | b'x' | b'A' | b'F') => {
                let length = inner.u32_be()? as usize;
                let is_table = match kind {
                    b'A' => Some(false),
                    b'F' => Some(true),
                    _ => None,
                };
                (inner.take(length)?, is_table)
            }
            _ => return None,
        };

        if let (bytes, Some(is_table)) = within {
            if open.len() >= DEPTH_MAX {
                return None;
            }
            open.push((is_table, Cursor(bytes)));
        }
    }
    Some(())
}

/// Makes the routing key of a delivery (`basic.deliver`) readable. It has no meaning here.
fn mend_delivery(payload: &mut [u8]) {
    const DELIVER: &[u8] = &[0, 60, 0, 60];
    if !payload.starts_with(DELIVER) {
        return;
    }
    // Consumer tag, delivery tag (8 bytes) and redelivered flag, exchange, routing key; each text
    // after its length.
    let texts = |at: usize| payload.get(at).map(|length| at + 1 + usize::from(*length));
    let key =
        texts(DELIVER.len()).and_then(|at| texts(at + 9)).and_then(|at| Some((at + 1, texts(at)?)));
    let Some((start, end)) = key else { return };
    // The client requires UTF-8 here too; the key of another client's message may be anything.
    if let Some(key) = payload.get_mut(start..end)
        && std::str::from_utf8(key).is_err()
    {
        key.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = (payload.len() as u32).to_be_bytes();
        [&[kind, 0, 1][..], &size, payload, &[FRAME_END]].concat()
    }

    /// The payload of a content header with these flags and properties, for a body of 5 bytes.
    fn content(flags: u16, properties: &[u8]) -> Vec<u8> {
        [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5][..], &flags.to_be_bytes(), properties].concat()
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
    }

    fn headers(entries: &[u8]) -> Vec<u8> {
        content(1 << 13, &long(entries))
    }

    fn refused() -> Vec<u8> {
        let mut text = vec![REFUSED.len() as u8];
        text.extend_from_slice(REFUSED.as_bytes());
        frame(CONTENT, &content(0x8000, &text))
    }

    /// What comes of it, however it is cut into pieces.
    fn passed(bytes: &[u8]) -> Vec<u8> {
        let whole = |step: usize| {
            let (mut screen, mut out) = (Screen::new(LIMIT), Vec::new());
            bytes.chunks(step).for_each(|chunk| screen.pass(chunk, &mut out));
            out
        };
        let [all, one, seven] = [bytes.len().max(1), 1, 7].map(whole);
        assert!(all == one && all == seven, "how it is cut does not matter");
        all
    }

    /// Nested tables, each in the one before.
    fn nested(depth: usize) -> Vec<u8> {
        (0..depth).fold(Vec::new(), |inner, _| [b"\x01aF", &long(&inner)[..]].concat())
    }

    #[test]
    fn what_the_client_can_read_passes_byte_for_byte() {
        let every = [
            b"\x01at\x01\x01bb\x01\x01cB\x01\x01ds\0\x01\x01eU\0\x01\x01fu\0\x01\x01gI\0\0\0\x01\x01hi\0\0\0\x01".as_slice(),
            b"\x01jL\0\0\0\0\0\0\0\x01\x01kl\0\0\0\0\0\0\0\x01\x01lf\0\0\0\0\x01md\0\0\0\0\0\0\0\0\x01nD\0\0\0\0\x01",
            b"\x01oS\0\0\0\x01\xff\x01px\0\0\0\x01\xff\x01qT\0\0\0\0\0\0\0\0\x01rV\x01sA\0\0\0\x03t\x01V\x01zF\0\0\0\0",
        ]
        .concat();
        let all_properties = [
            b"\x01a\x01b".as_slice(),
            &long(&every),
            b"\x02\x05\x01c\x01d\x01e\x01f\0\0\0\0\0\0\0\0\x01g\x01h\x01i\x01j",
        ]
        .concat();
        for good in [
            frame(METHOD, &[0, 10, 0, 10]),
            frame(CONTENT, &headers(&every)),
            frame(CONTENT, &content(0xFFFC, &all_properties)),
            frame(CONTENT, &content(0, b"")),
            frame(CONTENT, &headers(&nested(DEPTH_MAX - 1))),
            frame(BODY, &[0xFF; 5000]),
            frame(HEARTBEAT, b""),
            b"AMQP\0\0\x09\x01 and whatever else".to_vec(),
        ] {
            let twice = [&good[..], &good].concat();
            assert!(passed(&twice) == twice, "{:?}", &good[..good.len().min(60)]);
        }
    }

    #[test]
    fn what_it_could_not_is_replaced_and_the_next_frame_is_read() {
        let body = frame(BODY, b"hello");
        for bad in [
            headers(&nested(DEPTH_MAX)),
            headers(&nested(100)),
            headers(&[&b"\x01aA"[..], &long(&nested(DEPTH_MAX))].concat()),
            headers(b"\x01\xffV"),
            headers(b"\x01a?"),
            headers(b"\x01aS\0\0\0\x09x"),
            headers(b"\x01a"),
            headers(b"\x09a"),
            content(1 << 13, b"\0\0\0\x09"),
            content(1 << 13, b""),
            content(0x8000, b"\x01\xff"),
            content(1 << 2, b"\x02x"),
            content(0x8000, &[0x61; 2000]),
            headers(&[&b"\x01ax"[..], &long(&[0; LIMIT])].concat()),
        ] {
            let sent = [frame(CONTENT, &bad), body.clone()].concat();
            assert!(
                passed(&sent) == [refused(), body.clone()].concat(),
                "{:?}",
                &bad[..bad.len().min(60)]
            );
        }
    }

    #[test]
    fn a_frame_is_as_long_as_agreed_and_not_a_byte_longer() {
        let of = |bytes: usize| {
            let fixed = frame(CONTENT, &headers(&[&b"\x01ax"[..], &long(b"")].concat())).len();
            frame(CONTENT, &headers(&[&b"\x01ax"[..], &long(&vec![0; bytes - fixed])].concat()))
        };
        assert_eq!(of(LIMIT).len(), LIMIT);
        assert!(passed(&of(LIMIT)) == of(LIMIT));
        assert!(passed(&of(LIMIT + 1)) == refused());
    }

    #[test]
    fn a_routing_key_is_made_readable() {
        let delivery = |key: &[u8]| {
            let fixed = b"\0\x3c\0\x3c\x07fanfare\0\0\0\0\0\0\0\x01\0\x04wazo".as_slice();
            frame(METHOD, &[fixed, &[key.len() as u8], key].concat())
        };
        assert_eq!(passed(&delivery(b"some.\xe9\xff")), delivery(b"some.??"));
        assert_eq!(passed(&delivery("some.é".as_bytes())), delivery("some.é".as_bytes()));
        let cut = frame(METHOD, b"\0\x3c\0\x3c\x07fan");
        assert_eq!(passed(&cut), cut);
    }
}
