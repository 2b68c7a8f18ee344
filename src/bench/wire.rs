//! The bytes that the generator sends and expects: benchmark events of an exact size, masked client frames, and
//! the splitting of received bytes into frames.
//!
//! An event carries its sequence number as fixed-width digits at a known offset, so that publishing patches a
//! template and receiving reads twelve bytes; neither parses JSON or allocates. It knows no sockets and no clock.

use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Width of the sequence number in an event: enough for 10¹² events, far beyond any run.
pub(super) const SEQUENCE_DIGITS: usize = 12;

/// Width of the topic number in an object name: fixed, so that no name is a prefix of another.
const TOPIC_DIGITS: usize = 6;

/// The mask of every client frame. A constant costs the server the same work as a random one.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The event's tail after the sequence number; the padding stands before it.
const TAIL: &str = r#"","cellId":"x","Subject":"s"}"#;

/// An event cannot be made as small as asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of {asked} bytes is too small: the smallest is {min}; give --size {min} or more")]
pub(super) struct TooSmall {
    asked: usize,
    min: usize,
}

/// What a server sent is not a frame that a server may send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// The header itself is not valid.
    #[error("the server sent an invalid frame header")]
    Header,
    /// Server frames carry no mask (RFC 6455, section 5.1).
    #[error("the server sent a masked frame")]
    Masked,
    /// The generator's events are small; nobody has a reason to fragment them or to set a reserved bit.
    #[error("the server sent a fragmented or extended frame")]
    Fragmented,
}

/// One benchmark event with two holes, the topic number and the sequence number, inside what surrounds it on the
/// wire (nothing, a feed line or a frame header).
#[derive(Debug, Clone)]
pub(super) struct Template {
    bytes: Vec<u8>,
    topic_at: Option<usize>,
    sequence_at: usize,
}

impl Template {
    /// An event whose JSON is exactly `size` bytes; with `topics`, its object names one of many topics.
    pub(super) fn new(size: usize, topics: bool) -> Result<Self, TooSmall> {
        let object = if topics { object_name(0) } else { "o".to_owned() };
        let head =
            r#"{"Type":"t","RequestKey":null,"Schema":"","External":true,"Object":""#.to_owned() + &object;
        let topic_at = topics.then_some(head.len() - TOPIC_DIGITS);
        let head = head + r#"","Info":""#;
        let sequence_at = head.len();
        let min = head.len() + SEQUENCE_DIGITS + TAIL.len();
        if size < min {
            return Err(TooSmall { asked: size, min });
        }
        let padding = "x".repeat(size - min);
        let json = head + &"0".repeat(SEQUENCE_DIGITS) + &padding + TAIL;
        Ok(Self { bytes: json.into_bytes(), topic_at, sequence_at })
    }

    /// The event as a line of the unix feed, addressed to `cell`.
    pub(super) fn feed_line(self, cell: &str) -> Self {
        self.wrap(format!("event/{cell} ").into_bytes(), b"\n")
    }

    /// The event as a server's WebSocket text frame.
    pub(super) fn frame(self) -> Self {
        let header = server_header(self.bytes.len());
        self.wrap(header, b"")
    }

    /// Appends the event numbered `sequence` for `topic` to `out`.
    pub(super) fn append(&self, topic: usize, sequence: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(at) = self.topic_at {
            write_digits(&mut out[start + at..][..TOPIC_DIGITS], topic as u64);
        }
        write_digits(&mut out[start + self.sequence_at..][..SEQUENCE_DIGITS], sequence);
    }

    /// How to recognise this event in a received payload.
    pub(super) fn expectation(&self) -> Expectation {
        Expectation { size: self.bytes.len(), sequence_at: self.sequence_at }
    }

    fn wrap(self, mut before: Vec<u8>, after: &[u8]) -> Self {
        let shift = before.len();
        before.extend_from_slice(&self.bytes);
        before.extend_from_slice(after);
        Self {
            bytes: before,
            topic_at: self.topic_at.map(|at| at + shift),
            sequence_at: self.sequence_at + shift,
        }
    }
}

/// Where a received event carries its sequence number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expectation {
    size: usize,
    sequence_at: usize,
}

impl Expectation {
    /// The sequence number of a payload, or `None` when it is not the event that was published.
    pub(super) fn sequence(&self, payload: &[u8]) -> Option<u64> {
        if payload.len() != self.size || !payload.ends_with(TAIL.as_bytes()) {
            return None;
        }
        read_digits(&payload[self.sequence_at..][..SEQUENCE_DIGITS])
    }
}

/// The object name of a topic.
pub(super) fn object_name(topic: usize) -> String {
    format!("o{topic:0TOPIC_DIGITS$}")
}

/// The most topics that names of fixed width can tell apart.
pub(super) const TOPICS_MAX: usize = 10usize.pow(TOPIC_DIGITS as u32);

/// Appends a masked pong.
pub(super) fn client_pong(payload: &[u8], out: &mut Vec<u8>) {
    client_frame(OpCode::Control(Control::Pong), payload, out);
}

fn client_frame(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    let header = FrameHeader { opcode, mask: Some(MASK), ..FrameHeader::default() };
    header.format(payload.len() as u64, out).expect("writing to a Vec cannot fail");
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends a masked client text frame.
pub(super) fn client_text(text: &str, out: &mut Vec<u8>) {
    client_frame(OpCode::Data(Data::Text), text.as_bytes(), out);
}

/// Appends a server's text frame.
pub(super) fn server_text(text: &str, out: &mut Vec<u8>) {
    out.extend(server_header(text.len()));
    out.extend_from_slice(text.as_bytes());
}

fn server_header(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    header.format(length as u64, &mut bytes).expect("writing to a Vec cannot fail");
    bytes
}

/// Calls `each` for every complete frame in `partial` followed by `chunk`, and leaves the rest in `partial`.
///
/// In the common case `partial` is empty, the chunk holds whole frames, and nothing is copied.
pub(super) fn split_frames(
    partial: &mut Vec<u8>,
    chunk: &[u8],
    mut each: impl FnMut(OpCode, &[u8]),
) -> Result<(), WireError> {
    if partial.is_empty() {
        let used = whole_frames(chunk, &mut each)?;
        if used < chunk.len() {
            partial.extend_from_slice(&chunk[used..]);
        }
        return Ok(());
    }
    partial.extend_from_slice(chunk);
    let used = whole_frames(partial, &mut each)?;
    partial.drain(..used);
    if partial.is_empty() {
        *partial = Vec::new();
    }
    Ok(())
}

fn whole_frames(bytes: &[u8], each: &mut impl FnMut(OpCode, &[u8])) -> Result<usize, WireError> {
    let mut used = 0;
    while used < bytes.len() {
        let mut cursor = Cursor::new(&bytes[used..]);
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| WireError::Header)? else {
            break;
        };
        if header.mask.is_some() {
            return Err(WireError::Masked);
        }
        let unusual = !header.is_final || header.rsv1 || header.rsv2 || header.rsv3;
        if unusual || header.opcode == OpCode::Data(Data::Continue) {
            return Err(WireError::Fragmented);
        }
        let start = used + cursor.position() as usize;
        let available = (bytes.len() - start) as u64;
        if length > available {
            break;
        }
        let end = start + length as usize;
        each(header.opcode, &bytes[start..end]);
        used = end;
    }
    Ok(used)
}

/// Is this frame a ping?
pub(super) fn is_ping(opcode: OpCode) -> bool {
    opcode == OpCode::Control(Control::Ping)
}

/// Is this frame a close?
pub(super) fn is_close(opcode: OpCode) -> bool {
    opcode == OpCode::Control(Control::Close)
}

/// Is this frame text?
pub(super) fn is_text(opcode: OpCode) -> bool {
    opcode == OpCode::Data(Data::Text)
}

fn write_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits
        .iter()
        .try_fold(0u64, |value, &digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames_of(count: u64) -> (Vec<u8>, Expectation) {
        let template = Template::new(128, false).unwrap();
        let expectation = template.expectation();
        let frame = template.frame();
        let mut bytes = Vec::new();
        (1..=count).for_each(|sequence| frame.append(0, sequence, &mut bytes));
        (bytes, expectation)
    }

    #[test]
    fn an_event_has_exactly_the_size_that_was_asked_for_and_is_json() {
        for (size, topics) in [(128, false), (128, true), (200, false), (70_000, true)] {
            let template = Template::new(size, topics).unwrap();
            let mut json = Vec::new();
            template.append(42, 7, &mut json);
            assert_eq!(json.len(), size);
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert!(value["Info"].as_str().unwrap().starts_with("000000000007"));
            assert_eq!(value["Object"], if topics { "o000042" } else { "o" });
            assert_eq!(template.expectation().sequence(&json), Some(7));
        }
    }

    #[test]
    fn an_event_that_cannot_be_so_small_says_what_the_smallest_is() {
        let error = Template::new(50, false).unwrap_err();
        assert!(error.to_string().contains("give --size 120"), "{error}");
        assert!(Template::new(120, false).is_ok());
    }

    #[test]
    fn a_feed_line_is_addressed_and_ends_with_a_newline() {
        let mut line = Vec::new();
        Template::new(128, true).unwrap().feed_line("bench").append(3, 9, &mut line);
        let text = String::from_utf8(line).unwrap();
        assert!(text.starts_with(r#"event/bench {"Type":"t""#) && text.ends_with("}\n"));
        assert!(text.contains(r#""Object":"o000003","Info":"000000000009"#));
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let (bytes, expectation) = frames_of(5);
        for cut in 0..bytes.len() {
            let mut partial = Vec::new();
            let mut seen = Vec::new();
            for chunk in [&bytes[..cut], &bytes[cut..]] {
                split_frames(&mut partial, chunk, |_, payload| seen.push(expectation.sequence(payload)))
                    .unwrap();
            }
            assert_eq!(seen, (1..=5).map(Some).collect::<Vec<_>>(), "cut at {cut}");
            assert!(partial.is_empty());
        }
    }

    #[test]
    fn frames_are_found_one_byte_at_a_time() {
        let (bytes, expectation) = frames_of(3);
        let mut partial = Vec::new();
        let mut seen = 0;
        for byte in &bytes {
            split_frames(&mut partial, &[*byte], |_, payload| {
                seen += 1;
                assert_eq!(expectation.sequence(payload), Some(seen));
            })
            .unwrap();
        }
        assert_eq!(seen, 3);
    }

    #[test]
    fn masked_and_fragmented_frames_from_a_server_are_errors() {
        let mut masked = Vec::new();
        client_text("hello", &mut masked);
        let result = split_frames(&mut Vec::new(), &masked, |_, _| {});
        assert_eq!(result, Err(WireError::Masked));
        let result = split_frames(&mut Vec::new(), &[0x01, 0x01, b'x'], |_, _| {});
        assert_eq!(result, Err(WireError::Fragmented));
        let result = split_frames(&mut Vec::new(), &[0x8f, 0x00], |_, _| {});
        assert_eq!(result, Err(WireError::Header));
    }

    #[test]
    fn a_payload_that_is_not_the_published_event_has_no_sequence() {
        let (bytes, expectation) = frames_of(1);
        let payload = &bytes[4..];
        assert_eq!(expectation.sequence(payload), Some(1));
        assert_eq!(expectation.sequence(&payload[1..]), None);
        let mut other = payload.to_vec();
        *other.last_mut().unwrap() = b']';
        assert_eq!(expectation.sequence(&other), None);
    }

    #[test]
    fn a_client_frame_unmasks_to_its_text() {
        let mut bytes = Vec::new();
        client_text("hello", &mut bytes);
        let text: Vec<u8> =
            bytes[6..].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!((&bytes[..2], text.as_slice()), (&[0x81, 0x85][..], &b"hello"[..]));
    }
}
