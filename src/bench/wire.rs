//! The bytes that the generator sends and expects: benchmark events of an exact size, masked client
//! frames, and the splitting of received bytes into frames.
//!
//! An event carries its sequence number as fixed-width digits at a known offset, so that publishing
//! patches a template and receiving reads twelve bytes; neither parses JSON or allocates. It knows
//! no sockets and no clock.

use crate::cli::CliError;
use crate::dialect::client::{DialectClient, NUMBER_DIGITS as SEQUENCE_DIGITS, Site};
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Width of the topic number in an object name: fixed, so that no name is a prefix of another.
const TOPIC_DIGITS: usize = 6;

/// The name of the first topic; where it stands in an event or its address, the number is put.
const TOPIC_MARK: &str = "o000000";

/// The mask of every client frame. A constant costs the server the same work as a random one.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The kinds of frames that are told apart.
pub(super) const TEXT: OpCode = OpCode::Data(Data::Text);
pub(super) const PING: OpCode = OpCode::Control(Control::Ping);
pub(super) const PONG: OpCode = OpCode::Control(Control::Pong);
pub(super) const CLOSE: OpCode = OpCode::Control(Control::Close);

/// One benchmark event with two holes, the topic number and the sequence number, inside what
/// surrounds it on the wire (nothing, a feed line or a frame header).
#[derive(Debug, Clone)]
pub(super) struct Template {
    bytes: Vec<u8>,
    topic_at: Option<usize>,
    sequence_at: usize,
    tail: &'static str,
}

impl Template {
    /// An event that is `head`, the sequence number, padding and `tail`, together exactly `size`
    /// bytes. A topic's number goes where `head` names the first topic.
    pub(super) fn new(head: &str, tail: &'static str, size: usize) -> Result<Self, CliError> {
        let sequence_at = head.len();
        // Below this there is no room for the number.
        let min = head.len() + SEQUENCE_DIGITS + tail.len();
        if size < min {
            return Err(CliError::usage(format!(
                "an event of {size} bytes is too small: the smallest is {min}; give --size {min} \
                 or more"
            )));
        }
        // Behind the number, so that its place does not depend on the size.
        let padding = "x".repeat(size - min);
        let json = head.to_owned() + &"0".repeat(SEQUENCE_DIGITS) + &padding + tail;
        Ok(Self { bytes: json.into_bytes(), topic_at: topic_in(head), sequence_at, tail })
    }

    /// The same number and padding within another text. A topic's number goes where `head` names
    /// the first topic.
    pub(super) fn around(&self, head: &str, tail: &'static str) -> Self {
        let inside = &self.bytes[self.sequence_at..self.bytes.len() - self.tail.len()];
        let bytes = [head.as_bytes(), inside, tail.as_bytes()].concat();
        Self { bytes, topic_at: topic_in(head), sequence_at: head.len(), tail }
    }

    /// The event as a line of the unix feed. A topic's number goes where `address` names the first
    /// topic.
    pub(super) fn feed_line(self, address: &str) -> Self {
        // A protocol names the topic in the address or in the event itself.
        let in_address = topic_in(address);
        let line = self.wrap(format!("{address} ").into_bytes(), b"\n");
        Self { topic_at: in_address.or(line.topic_at), ..line }
    }

    /// The event as a server's WebSocket text frame.
    pub(super) fn frame(self) -> Self {
        let mut bytes = Vec::new();
        server_text(&self.bytes, &mut bytes);
        let header = bytes[..bytes.len() - self.bytes.len()].to_vec();
        self.wrap(header, b"")
    }

    /// Appends the event numbered `sequence` for `topic` to `out`.
    pub(super) fn append(&self, topic: usize, sequence: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        // Where all subscribers share a topic there is no number to put.
        if let Some(at) = self.topic_at {
            write_digits(&mut out[start + at..][..TOPIC_DIGITS], topic as u64);
        }
        write_digits(&mut out[start + self.sequence_at..][..SEQUENCE_DIGITS], sequence);
    }

    /// How to recognise this event in a received payload.
    pub(super) fn expectation(&self) -> Expectation {
        Expectation { size: Some(self.bytes.len()), sequence_at: self.sequence_at, tail: self.tail }
    }

    fn wrap(self, mut before: Vec<u8>, after: &[u8]) -> Self {
        let shift = before.len();
        before.extend_from_slice(&self.bytes);
        before.extend_from_slice(after);
        Self {
            bytes: before,
            topic_at: self.topic_at.map(|at| at + shift),
            sequence_at: self.sequence_at + shift,
            tail: self.tail,
        }
    }
}

/// Where a received event carries its sequence number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expectation {
    /// The whole size, unless it is wrapped in something of any size.
    size: Option<usize>,
    sequence_at: usize,
    tail: &'static str,
}

impl Expectation {
    /// The sequence number of a payload, or `None` when it is not the event that was published.
    pub(super) fn sequence(&self, payload: &[u8]) -> Option<u64> {
        // What stands before is of any length, so the number is found from the end.
        let Some(size) = self.size else {
            let (_, digits) = payload
                .strip_suffix(self.tail.as_bytes())?
                .split_last_chunk::<SEQUENCE_DIGITS>()?;
            return read_digits(digits);
        };
        if payload.len() != size || !payload.ends_with(self.tail.as_bytes()) {
            return None;
        }
        read_digits(&payload[self.sequence_at..][..SEQUENCE_DIGITS])
    }

    /// The same where more stands before the number, of any length, and nothing but the tail behind
    /// it.
    pub(super) fn wrapped(self) -> Self {
        Self { size: None, ..self }
    }
}

/// An event in all its forms.
#[derive(Debug)]
pub(super) struct Sampled {
    /// As a line of the unix feed.
    pub(super) line: Template,
    /// As the body of a request.
    pub(super) body: Template,
    /// As subscribers get it.
    pub(super) event: Template,
    /// How they recognise it.
    pub(super) expectation: Expectation,
}

impl Sampled {
    /// The event of a dialect that its subscribers get with exactly `size` bytes; with `topics`,
    /// for one of many.
    pub(super) fn new(
        client: &dyn DialectClient,
        site: &Site,
        size: usize,
        topics: bool,
    ) -> Result<Self, CliError> {
        let sample = client.sample(site, &topic_name(topics.then_some(0)), size);
        let (head, tail) = &sample.delivered;
        let event = Template::new(head, tail, size)?;
        let (head, tail) = &sample.fed;
        let body = event.around(head, tail);
        let expectation = event.expectation();
        let expectation = if sample.is_wrapped { expectation.wrapped() } else { expectation };
        Ok(Self { line: body.clone().feed_line(&sample.address), body, event, expectation })
    }
}

/// Where the events of our own daemon belong.
pub(super) fn own_site() -> Site {
    Site { cell: "bench".into(), folder: "box".into() }
}

/// The name of a topic, or of the one that all share.
pub(super) fn topic_name(topic: Option<usize>) -> String {
    topic.map_or_else(|| "o".to_owned(), |topic| format!("o{topic:0TOPIC_DIGITS$}"))
}

fn topic_in(text: &str) -> Option<usize> {
    Some(text.find(TOPIC_MARK)? + TOPIC_MARK.len() - TOPIC_DIGITS)
}

/// The most topics that names of fixed width can tell apart.
pub(super) const TOPICS_MAX: usize = 10usize.pow(TOPIC_DIGITS as u32);

/// Appends a client's frame, which is masked.
pub(super) fn client_frame(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    put_header(FrameHeader { opcode, mask: Some(MASK), ..FrameHeader::default() }, payload, out);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends a server's text frame.
pub(super) fn server_text(text: &[u8], out: &mut Vec<u8>) {
    put_header(FrameHeader { opcode: TEXT, ..FrameHeader::default() }, text, out);
    out.extend_from_slice(text);
}

fn put_header(header: FrameHeader, payload: &[u8], out: &mut Vec<u8>) {
    header.format(payload.len() as u64, out).expect("writing to a Vec cannot fail");
}

/// Calls `each` for every complete frame in `partial` followed by `chunk`, and leaves the rest in
/// `partial`.
///
/// In the common case `partial` is empty, the chunk holds whole frames, and nothing is copied.
pub(super) fn split_frames(
    partial: &mut Vec<u8>,
    chunk: &[u8],
    mut each: impl FnMut(OpCode, &[u8]),
) -> Result<(), &'static str> {
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
    // Its room goes back: few connections have a part of a frame at any time, and thousands have
    // had one.
    if partial.is_empty() {
        *partial = Vec::new();
    }
    Ok(())
}

fn whole_frames(bytes: &[u8], each: &mut impl FnMut(OpCode, &[u8])) -> Result<usize, &'static str> {
    let mut used = 0;
    while used < bytes.len() {
        let mut cursor = Cursor::new(&bytes[used..]);
        let parsed = FrameHeader::parse(&mut cursor);
        let Some((header, length)) =
            parsed.map_err(|_| "the server sent an invalid frame header")?
        else {
            break;
        };
        // RFC 6455, section 5.1.
        if header.mask.is_some() {
            return Err("the server sent a masked frame");
        }
        // The generator's events are small: no server has a reason to fragment them or to set a
        // reserved bit.
        let unusual = !header.is_final || header.rsv1 || header.rsv2 || header.rsv3;
        if unusual || header.opcode == OpCode::Data(Data::Continue) {
            return Err("the server sent a fragmented or extended frame");
        }

        let start = used + cursor.position() as usize;
        let available = (bytes.len() - start) as u64;
        // The rest comes with the next read.
        if length > available {
            break;
        }
        let end = start + length as usize;
        each(header.opcode, &bytes[start..end]);
        used = end;
    }
    Ok(used)
}

fn write_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, &digit| {
        digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Kind;

    fn frames_of(count: u64) -> (Vec<u8>, Expectation) {
        let template = Template::new(r#"{"n":""#, r#""}"#, 128).unwrap();
        let expectation = template.expectation();
        let frame = template.frame();
        let mut bytes = Vec::new();
        (1..=count).for_each(|sequence| frame.append(0, sequence, &mut bytes));
        (bytes, expectation)
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let (bytes, expectation) = frames_of(5);
        for cut in 0..bytes.len() {
            let mut partial = Vec::new();
            let mut seen = Vec::new();
            for chunk in [&bytes[..cut], &bytes[cut..]] {
                split_frames(&mut partial, chunk, |_, payload| {
                    seen.push(expectation.sequence(payload))
                })
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
        client_frame(TEXT, b"hello", &mut masked);
        let wrong = |bytes: &[u8]| split_frames(&mut Vec::new(), bytes, |_, _| {}).unwrap_err();
        assert!(wrong(&masked).contains("masked"));
        assert!(wrong(&[0x01, 0x01, b'x']).contains("fragmented"));
        assert!(wrong(&[0x8f, 0x00]).contains("invalid"));
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

    fn sampled(kind: Kind, size: usize, topics: bool) -> Sampled {
        Sampled::new(kind.client(), &own_site(), size, topics).unwrap()
    }

    fn text(template: &Template, topic: usize, sequence: u64) -> String {
        let mut bytes = Vec::new();
        template.append(topic, sequence, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_has_exactly_the_size_that_was_asked_for_and_is_json() {
        for &kind in Kind::ALL {
            for (size, topics) in [(128, false), (128, true), (200, false), (70_000, true)] {
                let sampled = sampled(kind, size, topics);
                let event = text(&sampled.event, 42, 7);
                assert_eq!(event.len(), size, "{kind:?}");
                assert!(event.contains("\"000000000007"), "{kind:?}: {event}");
                for json in [&event, &text(&sampled.body, 42, 7)] {
                    serde_json::from_str::<serde_json::Value>(json).unwrap();
                }
                assert_eq!(sampled.expectation.sequence(event.as_bytes()), Some(7));
            }
        }
        let error = Sampled::new(Kind::ALL[0].client(), &own_site(), 50, false).unwrap_err();
        assert!(error.to_string().contains("give --size 120"), "{error}");
    }

    #[test]
    fn a_line_names_the_topic_in_its_address_or_in_its_event() {
        for &kind in Kind::ALL {
            let sampled = sampled(kind, 150, true);
            let (line, body) = (text(&sampled.line, 3, 9), text(&sampled.body, 3, 9));
            let (address, fed) = line.split_once(' ').unwrap();
            assert!(
                address.split('/').next() == Some(kind.feed().word) && fed == body + "\n",
                "{line}"
            );
            assert!(line.contains("o000003") && !line.contains("o000000"), "{line}");
            let padding = |text: &str| text.matches('x').count();
            let delivered = text(&sampled.event, 3, 9);
            let differ = padding(fed).abs_diff(padding(&delivered));
            assert!(differ <= 1, "{kind:?}: {line} {delivered}");
        }
    }

    #[test]
    fn a_wrapped_event_is_found_by_what_it_ends_with() {
        let durable = Kind::ALL.iter().copied().find(|kind| kind.client().stores()).unwrap();
        let sampled = sampled(durable, 101, true);
        let event = text(&sampled.event, 3, 9);
        let delivered = format!(r#"{{"messageId":"CAAQAw==",{}"#, &event[1..]);
        assert_eq!(sampled.expectation.sequence(delivered.as_bytes()), Some(9));
        assert_eq!(sampled.expectation.sequence(b"\"}"), None);
    }

    #[test]
    fn a_client_frame_unmasks_to_its_text() {
        let mut bytes = Vec::new();
        client_frame(TEXT, b"hello", &mut bytes);
        let text: Vec<u8> =
            bytes[6..].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!((&bytes[..2], text.as_slice()), (&[0x81, 0x85][..], &b"hello"[..]));
    }
}
