//! The body of a request: its framing, and when it is whole (RFC 9112 sections 6 and 7).
//!
//! A chunked body is joined in place. Framing that two readers could take for different bodies is
//! refused, because a proxy may be one of them (section 11.2). However the bytes are cut, the
//! refusal is the same: every bound counts the bytes of the line or the trailer, and never those
//! that happen to have arrived.

use super::head::{Coding, Fault};

/// Longest line with a chunk's size, its end included: 16 digits, and extensions that no client
/// sends.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Maximum number of digits of a chunk's size.
const CHUNK_DIGITS_MAX: usize = 16;
/// Longest trailer in bytes; its fields are read and dropped.
const TRAILER_BYTES_MAX: usize = 4096;
/// Maximum number of fields in a trailer.
const TRAILERS_MAX: usize = 32;

const BAD_CHUNKS: Fault = Fault {
    status: 400,
    reason: "The chunked encoding of the body is invalid (RFC 9112 section 7.1).",
};
const TOO_LARGE: Fault = Fault { status: 413, reason: "The request body is too large." };

/// The framing of a body, and how far it has been read.
pub(crate) enum Framing {
    /// A body of this many bytes.
    Length(usize),
    /// A body in chunks.
    Chunked(Chunks),
}

impl Framing {
    /// The framing of a body of at most `limit` bytes.
    ///
    /// # Errors
    /// When the head announces a longer one.
    pub(crate) fn of(coding: Coding, limit: usize) -> Result<Self, Fault> {
        match coding {
            Coding::Chunked => Ok(Self::Chunked(Chunks::default())),
            Coding::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= limit => Ok(Self::Length(length)),
                _ => Err(TOO_LARGE),
            },
        }
    }

    /// Reads the body that `bytes` begin with. Returns its end once it is whole.
    pub(crate) fn read(&mut self, bytes: &mut [u8], limit: usize) -> Result<Option<usize>, Fault> {
        match self {
            Self::Length(length) => Ok(Some(*length).filter(|end| *end <= bytes.len())),
            Self::Chunked(chunks) => chunks.read(bytes, limit),
        }
    }

    /// The length of a whole body, which then lies at the start of the bytes it was read from.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Length(length) => *length,
            Self::Chunked(chunks) => chunks.written,
        }
    }

    /// Removes the framing of chunks read so far from `bytes`, in which the body begins at `start`.
    pub(crate) fn leave_out(&mut self, bytes: &mut Vec<u8>, start: usize) {
        if let Self::Chunked(chunks) = self {
            // Many small chunks are mostly framing: without this they would hold several times the
            // limit.
            bytes.drain(start + chunks.written..start + chunks.at);
            chunks.at = chunks.written;
        }
    }
}

/// A chunked body (RFC 9112 section 7.1), joined at the place where it begins.
#[derive(Default)]
pub(crate) struct Chunks {
    step: Step,
    /// Bytes of it that are joined.
    written: usize,
    /// The position of the next byte to read.
    at: usize,
}

#[derive(Default)]
enum Step {
    #[default]
    /// At the line with a chunk's size.
    Size,
    /// In a chunk, with this many bytes left.
    Data(usize),
    /// At the line end after a chunk.
    End,
    /// In the trailer, after this many bytes and fields of it.
    Trailer(usize, usize),
    /// It is whole. It may be read again: what is behind it is another request's.
    Whole,
}

impl Chunks {
    /// Reads as far as the bytes reach; returns the end of the body once it is whole.
    fn read(&mut self, bytes: &mut [u8], limit: usize) -> Result<Option<usize>, Fault> {
        loop {
            let rest = &bytes[self.at..];
            match self.step {
                Step::Size => {
                    let Some(line) = line(rest, CHUNK_LINE_BYTES_MAX)? else { return Ok(None) };
                    let announced = chunk_size(line).ok_or(BAD_CHUNKS)?;
                    // Refused when it is announced, before a byte of it is waited for.
                    let size = usize::try_from(announced)
                        .ok()
                        .filter(|size| *size <= limit - self.written)
                        .ok_or(TOO_LARGE)?;
                    self.at += line.len() + 2;
                    self.step = match size {
                        0 => Step::Trailer(0, 0),
                        size => Step::Data(size),
                    };
                }
                Step::Data(left) => {
                    let count = left.min(rest.len());
                    // The framing before it makes room, so this never writes past what was read.
                    bytes.copy_within(self.at..self.at + count, self.written);
                    self.at += count;
                    self.written += count;
                    self.step = if count == left { Step::End } else { Step::Data(left - count) };
                    if count < left {
                        return Ok(None);
                    }
                }
                // Exactly CR LF: a lenient reader would find another body than a strict one.
                Step::End => match rest {
                    [b'\r', b'\n', ..] => {
                        self.at += 2;
                        self.step = Step::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(BAD_CHUNKS),
                },
                Step::Trailer(length, fields) => {
                    let Some(line) = line(rest, TRAILER_BYTES_MAX - length)? else {
                        return Ok(None);
                    };
                    self.at += line.len() + 2;
                    if line.is_empty() {
                        self.step = Step::Whole;
                        continue;
                    }
                    if fields == TRAILERS_MAX || !is_field(line) {
                        return Err(BAD_CHUNKS);
                    }
                    self.step = Step::Trailer(length + line.len() + 2, fields + 1);
                }
                Step::Whole => return Ok(Some(self.at)),
            }
        }
    }
}

/// The line that `bytes` begin with, without its end; `None` when that has not come. With its end
/// it has at most `bytes_max` bytes, and no control characters but tabs.
fn line(bytes: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, Fault> {
    let bytes = &bytes[..bytes.len().min(bytes_max)];
    // A lone CR or LF is a control character too, and refused: readers differ about it.
    let end = bytes
        .iter()
        .position(|byte| byte.is_ascii_control() && *byte != b'\t')
        .unwrap_or(bytes.len());
    match &bytes[end..] {
        [b'\r', b'\n', ..] => Ok(Some(&bytes[..end])),
        [] | [b'\r'] if bytes.len() < bytes_max => Ok(None),
        _ => Err(BAD_CHUNKS),
    }
}

/// The size in a chunk's line: hexadecimal digits, and then nothing or an extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(end);
    let rest = rest.trim_ascii_start();
    // 16 digits fit in 64 bits, so the parse below cannot overflow.
    if digits.is_empty() || digits.len() > CHUNK_DIGITS_MAX || !(rest.is_empty() || rest[0] == b';')
    {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether a line is a field: a name (a token of RFC 9110 section 5.6.2), a colon and any value.
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let mut name = line[..colon].iter();
    colon > 0 && name.all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body as it is read when its bytes come in pieces of this size.
    fn chunked(text: &str, piece: usize, limit: usize) -> Result<Option<String>, u16> {
        let mut framing = Framing::of(Coding::Chunked, limit).unwrap();
        let mut bytes = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            bytes.extend_from_slice(piece);
            if let Some(end) = framing.read(&mut bytes, limit).map_err(|fault| fault.status)? {
                assert_eq!(end, bytes.len(), "nothing of what follows belongs to it");
                return Ok(Some(String::from_utf8(bytes[..framing.len()].to_vec()).unwrap()));
            }
            framing.leave_out(&mut bytes, 0);
        }
        Ok(None)
    }

    #[test]
    fn a_chunked_body_is_put_together_in_whatever_pieces_it_comes() {
        let text = "4\r\nWiki\r\n006;a=b\r\npedia \r\nB ;c=\"d\"\r\nin\r\nchunks.\r\n0\r\nX: y\r\nZ:\r\n\r\n";
        for piece in 1..=text.len() {
            assert_eq!(
                chunked(text, piece, 100).unwrap().unwrap(),
                "Wikipedia in\r\nchunks.",
                "{piece}"
            );
        }
        assert_eq!(chunked("0\r\n\r\n", 1, 0).unwrap().unwrap(), "");
    }

    #[test]
    fn a_whole_body_stays_whole_when_it_is_read_again_before_what_is_behind_it() {
        let mut framing = Framing::of(Coding::Chunked, 100).unwrap();
        let mut bytes = b"4\r\nWiki\r\n0\r\n\r\nGET / HTTP/1.1\r\n".to_vec();
        assert_eq!(framing.read(&mut bytes, 100).unwrap(), Some(14));
        assert_eq!(framing.read(&mut bytes, 100).unwrap(), Some(14));
        framing.leave_out(&mut bytes, 0);
        assert_eq!(bytes, b"WikiGET / HTTP/1.1\r\n");
        assert_eq!((framing.read(&mut bytes, 100).unwrap(), framing.len()), (Some(4), 4));
    }

    #[test]
    fn what_two_readers_could_take_for_different_bodies_is_refused_in_whatever_pieces_it_comes() {
        let line = |length: usize| format!("1;{}", "x".repeat(length - "1;".len() - 2));
        let trailer =
            |length: usize| format!("0\r\nX: {}", "x".repeat(length - "X: ".len() - 2 - 2));
        let fields = |count: usize| format!("0\r\n{}\r\n", "X:y\r\n".repeat(count));
        for (bad, status) in [
            ("x\r\n", 400),
            ("-1\r\n", 400),
            ("+1\r\n", 400),
            ("0x1\r\n", 400),
            ("1 1\r\n", 400),
            ("4\nWiki", 400),
            ("4\rWiki", 400),
            ("4;a\nWiki\r\n", 400),
            ("4;a\rb\r\nWiki\r\n", 400),
            ("4;a\0b\r\nWiki\r\n", 400),
            (";a\r\n", 400),
            ("\r\n", 400),
            ("4\r\nWikiX\r\n", 400),
            ("4\r\nWiki\n0\r\n\r\n", 400),
            ("0\r\n\n", 400),
            ("0\r\nno field\r\n\r\n", 400),
            ("0\r\n: y\r\n\r\n", 400),
            ("0\r\nX : y\r\n\r\n", 400),
            ("0\r\nX: y\n\r\n", 400),
            ("0\r\nX: y\r\n\n", 400),
            ("0\r\nX: y\r\n folded\r\n\r\n", 400),
            ("0\r\nX: y\rZ: y\r\n\r\n", 400),
            ("11111111111111111\r\n", 400),
            (&format!("{}\r\nx\r\n", line(CHUNK_LINE_BYTES_MAX + 1)), 400),
            (&format!("{}\r\n\r\n", trailer(TRAILER_BYTES_MAX + 1)), 400),
            (&fields(TRAILERS_MAX + 1), 400),
            ("65\r\n", 413),
            ("ffffffffffffffff\r\n", 413),
        ] {
            for piece in (1..20).chain([bad.len() - 1, bad.len()]) {
                assert_eq!(chunked(bad, piece, 100).err(), Some(status), "{bad:?} in {piece}");
            }
        }
        for good in [
            format!("{}\r\nx\r\n0\r\n\r\n", line(CHUNK_LINE_BYTES_MAX)),
            format!("1\r\nx\r\n{}\r\n\r\n", trailer(TRAILER_BYTES_MAX)),
            format!("1\r\nx\r\n{}", fields(TRAILERS_MAX)),
        ] {
            for piece in (1..20).chain([good.len() - 1, good.len()]) {
                assert_eq!(
                    chunked(&good, piece, 100).unwrap().unwrap(),
                    "x",
                    "{good:?} in {piece}"
                );
            }
        }
    }

    #[test]
    fn a_length_has_digits_alone() {
        let length = |value: &str, limit| {
            let length = crate::http::head::digits(value.as_bytes()).ok_or(400_u16)?;
            Framing::of(Coding::Length(length), limit)
                .map(|it| it.len())
                .map_err(|fault| fault.status)
        };
        assert_eq!(length("0", 0), Ok(0));
        assert_eq!(length("00100", 100), Ok(100));
        for (value, status) in [
            ("", 400),
            ("+1", 400),
            ("-1", 400),
            ("1,1", 400),
            ("0x1", 400),
            ("1 1", 400),
            ("101", 413),
            (&"9".repeat(40), 413),
        ] {
            assert_eq!(length(value, 100), Err(status), "{value}");
        }
    }
}
