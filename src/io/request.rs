//! What a connection says before it is a session: heads of requests, one after another, and the bodies of those that
//! a dialect answers.
//!
//! A request that lies whole in the buffer that it was read into is answered from there. Of anything else the bytes
//! are kept until it is whole, and a chunked body is put together where its bytes lie. Whatever two readers could
//! take for different requests is refused, because a proxy may be one of them (RFC 9112 section 11.2).

use super::head::{self, Found};
use crate::api::Persistence;
use crate::dialect::{Kind, Request};
use crate::shard::{Id, Shard};
use crate::wheel::Now;
use ahash::AHashMap;
use httparse::Status;
use rustix::fd::BorrowedFd;
use std::ops::Range;

/// Most requests of one connection that are answered in one turn, so that a client that sends thousands at once does
/// not keep the others waiting.
const REQUESTS_MAX: usize = 64;
/// Bytes of memory for requests in part that a shard holds. Anybody may begin a request, and each may be as long as an app's
/// longest.
const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Places kept allocated for what is held.
const HELD_KEPT: usize = 64;
/// Longest line that tells a chunk's size: 16 digits, and extensions that nobody sends.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Longest trailer, and most fields of it; they are read and dropped.
const TRAILER_BYTES_MAX: usize = 4096;
/// See [`TRAILER_BYTES_MAX`].
const TRAILERS_MAX: usize = 32;

/// The circumstances of a read.
pub(super) struct Talk<'a> {
    /// The dialects of the listener.
    pub(super) kinds: &'a [Kind],
    /// The connection.
    pub(super) id: Id,
    /// Whether there is room for what requests publish.
    pub(super) has_room: bool,
    /// Whether the daemon stops: what was begun is answered, and nothing else.
    pub(super) is_draining: bool,
    /// The connection's socket, which knows the client's address.
    pub(super) socket: BorrowedFd<'a>,
    pub(super) now: Now,
}

/// What follows the requests that were read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// What is left is a part of a request; more is to come.
    More,
    /// What is left can be read in another turn.
    Wait,
    /// What is left can be read when the shard says that the connection is ready.
    Asked,
    /// What is left are frames: the connection is a session.
    Session,
    /// What is left is of no interest.
    Over,
}

/// How far the request has been read that the bytes begin with.
#[derive(Default)]
pub(super) struct Progress {
    /// So many bytes of its head have been looked through for the end.
    searched: usize,
    /// Its body, when its head is whole.
    body: Option<Body>,
}

/// The bytes of a connection that wait.
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    pub(super) progress: Progress,
}

impl Held {
    /// Keeps bytes. What a body's chunks were framed in is left out.
    pub(super) fn new(mut bytes: Vec<u8>, mut progress: Progress) -> Self {
        if let Some(Body { head, framing: Framing::Chunked(chunks), .. }) = &mut progress.body {
            bytes.drain(*head + chunks.written..*head + chunks.at);
            chunks.at = chunks.written;
        }
        Self { bytes, progress }
    }
}

/// What all connections of a shard hold.
#[derive(Default)]
pub(super) struct Holdings {
    held: AHashMap<Id, Held>,
    bytes: usize,
}

impl Holdings {
    /// Holds something for a connection that holds nothing; `false` when there is no room for it.
    pub(super) fn put(&mut self, id: Id, held: Held) -> bool {
        let has_room = self.bytes + held.bytes.capacity() <= HELD_BYTES_MAX;
        if has_room {
            self.bytes += held.bytes.capacity();
            self.held.insert(id, held);
        }
        has_room
    }

    /// Takes back what is held for a connection.
    pub(super) fn take(&mut self, id: Id) -> Option<Held> {
        let held = self.held.remove(&id)?;
        self.bytes -= held.bytes.capacity();
        if self.held.is_empty() {
            self.held.shrink_to(HELD_KEPT);
        }
        Some(held)
    }
}

/// Reads requests and has them answered, in order. Returns how many bytes are done with, and what is next.
pub(super) fn read(
    bytes: &mut [u8],
    progress: &mut Progress,
    talk: &Talk<'_>,
    shard: &mut Shard,
) -> (usize, Next) {
    let mut at = 0;
    for _ in 0..REQUESTS_MAX {
        let rest = &mut bytes[at..];
        if !shard.is_answered(talk.id) {
            return (at, Next::Asked);
        }
        let body = match progress.body.take() {
            Some(body) => body,
            None => match head(rest, progress, talk, shard) {
                Head::Part => return (at, Next::More),
                Head::Whole(end, Found::Session) => return (at + end, Next::Session),
                Head::Whole(_, Found::Refused) => return (at, Next::Over),
                Head::Whole(_, Found::Request(body)) => body,
            },
        };
        let body = progress.body.insert(body);
        let end = match body.read(rest) {
            Ok(Some(end)) => end,
            Ok(None) => {
                if !std::mem::replace(&mut body.is_awaited, true) {
                    shard.await_body(talk.id, body.is_expecting, talk.now);
                }
                return (at, Next::More);
            }
            Err(status) => {
                shard.refuse_request(talk.id, body.kind, status, talk.now);
                return (at, Next::Over);
            }
        };
        if !talk.has_room || !shard.takes_more() {
            return (at, Next::Wait);
        }
        let persistence = if talk.is_draining { Persistence::Ends } else { body.persistence };
        let is_ready = shard.serve(talk.id, body.kind, &body.request(rest), persistence, talk.now);
        progress.body = None;
        at += end;
        if !is_ready {
            return (at, if shard.is_asked(talk.id) { Next::Asked } else { Next::Over });
        }
    }
    (at, if at < bytes.len() { Next::Wait } else { Next::More })
}

/// What bytes begin with.
enum Head {
    Part,
    Whole(usize, Found),
}

fn head(bytes: &[u8], progress: &mut Progress, talk: &Talk<'_>, shard: &mut Shard) -> Head {
    let limit = shard.limits().head_bytes_max;
    // The end may lie across the seam.
    let from = std::mem::take(&mut progress.searched).saturating_sub(3).min(bytes.len());
    let end = memchr::memmem::find(&bytes[from..], b"\r\n\r\n").map(|at| from + at + 4);
    match end {
        Some(end) if end <= limit => Head::Whole(end, head::read(&bytes[..end], talk, shard)),
        None if bytes.len() < limit => {
            progress.searched = bytes.len();
            if !bytes.is_empty() {
                shard.await_head(talk.id, talk.now);
            }
            Head::Part
        }
        _ => {
            head::refuse_long(talk, shard);
            Head::Whole(0, Found::Refused)
        }
    }
}

/// The body of a request that a dialect answers, as its head tells of it.
pub(super) struct Body {
    kind: Kind,
    /// Its longest.
    limit: usize,
    /// How long the head before it is, and where in it the method and the target stand.
    head: usize,
    method: Range<usize>,
    target: Range<usize>,
    /// The header `Authorization`.
    authorization: Range<usize>,
    framing: Framing,
    persistence: Persistence,
    /// Whether the client keeps it back until it is asked for it.
    is_expecting: bool,
    is_awaited: bool,
}

enum Framing {
    Length(usize),
    Chunked(Chunks),
}

impl Body {
    /// What a head says of the body after it.
    ///
    /// # Errors
    /// With the status that refuses the request.
    pub(super) fn of(
        request: &httparse::Request<'_, '_>,
        head: &[u8],
        (kind, limit): (Kind, usize),
    ) -> Result<Self, u16> {
        let is_old = request.version != Some(1);
        let all = |name: &'static str| {
            let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| header.value.trim_ascii())
        };
        if !is_old && all("host").count() != 1 {
            return Err(400);
        }
        let framing = match (all("transfer-encoding").count(), all("content-length").count()) {
            (0, 0) => Framing::Length(0),
            (0, 1) => Framing::Length(length(all("content-length").next().unwrap_or_default(), limit)?),
            (1, 0) if !is_old => {
                let coding = all("transfer-encoding").next().unwrap_or_default();
                if !coding.eq_ignore_ascii_case(b"chunked") {
                    return Err(501);
                }
                Framing::Chunked(Chunks::default())
            }
            _ => return Err(400),
        };
        let mut is_expecting = false;
        for expectation in all("expect") {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return Err(417);
            }
            is_expecting = !is_old;
        }
        let says = |token| all("connection").any(|value| head::has_token(value, token));
        let persistence = match (says(b"close"), is_old, says(b"keep-alive")) {
            (false, false, _) => Persistence::Stays,
            (false, true, true) => Persistence::StaysTold,
            _ => Persistence::Ends,
        };
        let place = |text: &str| {
            let start = text.as_ptr() as usize - head.as_ptr() as usize;
            start..start + text.len()
        };
        let authorization = all("authorization").next().and_then(|value| std::str::from_utf8(value).ok());
        let [method, target, authorization] =
            [request.method, request.path, authorization].map(|text| text.map_or(0..0, place));
        let (head, is_awaited) = (head.len(), false);
        Ok(Self {
            kind,
            limit,
            head,
            method,
            target,
            authorization,
            framing,
            persistence,
            is_expecting,
            is_awaited,
        })
    }

    /// Looks whether it is whole; returns where the request ends then. `bytes` begin with its head.
    fn read(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, u16> {
        match &mut self.framing {
            Framing::Length(length) => Ok(Some(self.head + *length).filter(|end| *end <= bytes.len())),
            Framing::Chunked(chunks) => {
                let end = chunks.read(&mut bytes[self.head..], self.limit)?;
                Ok(end.map(|end| self.head + end))
            }
        }
    }

    /// The whole request.
    fn request<'a>(&self, bytes: &'a [u8]) -> Request<'a> {
        let text = |place: &Range<usize>| {
            bytes.get(place.clone()).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
        };
        let target = text(&self.target);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let length = match &self.framing {
            Framing::Length(length) => *length,
            Framing::Chunked(chunks) => chunks.written,
        };
        Request {
            method: text(&self.method),
            path,
            query,
            authorization: text(&self.authorization),
            body: &bytes[self.head..self.head + length],
        }
    }
}

/// The value of `Content-Length`: digits alone, so that nobody reads another number.
fn length(value: &[u8], limit: usize) -> Result<usize, u16> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(400);
    }
    // What is no number of ours is too great.
    let length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
    length.filter(|length| *length <= limit).ok_or(413)
}

/// A chunked body (RFC 9112 section 7.1), which is moved together to where it begins.
#[derive(Default)]
struct Chunks {
    step: Step,
    /// How much of it is together.
    written: usize,
    /// Where what has not been read begins.
    at: usize,
}

#[derive(Default)]
enum Step {
    #[default]
    Size,
    /// So many bytes of a chunk are left.
    Data(usize),
    /// The end of the line after a chunk.
    End,
    Trailer,
}

impl Chunks {
    /// Goes on as far as the bytes reach; returns where the body ends when it is whole.
    fn read(&mut self, bytes: &mut [u8], limit: usize) -> Result<Option<usize>, u16> {
        loop {
            let rest = &bytes[self.at..];
            match self.step {
                // httparse takes no digit for 0, and a line feed for a part of an extension.
                Step::Size if rest.first().is_some_and(|first| !first.is_ascii_hexdigit()) => {
                    return Err(400);
                }
                Step::Size => match httparse::parse_chunk_size(rest) {
                    Ok(Status::Complete((length, _))) if rest[..length - 2].contains(&b'\n') => {
                        return Err(400);
                    }
                    Ok(Status::Complete((length, size))) => {
                        let size = usize::try_from(size).unwrap_or(usize::MAX);
                        if size > limit - self.written {
                            return Err(413);
                        }
                        self.at += length;
                        self.step = if size == 0 { Step::Trailer } else { Step::Data(size) };
                    }
                    Ok(Status::Partial) if rest.len() <= CHUNK_LINE_BYTES_MAX => return Ok(None),
                    _ => return Err(400),
                },
                Step::Data(left) => {
                    let count = left.min(rest.len());
                    bytes.copy_within(self.at..self.at + count, self.written);
                    self.at += count;
                    self.written += count;
                    self.step = if count == left { Step::End } else { Step::Data(left - count) };
                    if count < left {
                        return Ok(None);
                    }
                }
                Step::End => match rest {
                    [b'\r', b'\n', ..] => {
                        self.at += 2;
                        self.step = Step::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(400),
                },
                Step::Trailer => {
                    let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
                    return match httparse::parse_headers(rest, &mut fields) {
                        Ok(Status::Complete((length, _))) => Ok(Some(self.at + length)),
                        Ok(Status::Partial) if rest.len() <= TRAILER_BYTES_MAX => Ok(None),
                        _ => Err(400),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body as it is read when its bytes come in pieces of this size.
    fn chunked(text: &str, piece: usize, limit: usize) -> Result<Option<String>, u16> {
        let mut chunks = Chunks::default();
        let mut bytes = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            bytes.extend_from_slice(piece);
            if let Some(end) = chunks.read(&mut bytes, limit)? {
                assert_eq!(end, bytes.len(), "nothing of what follows belongs to it");
                return Ok(Some(String::from_utf8(bytes[..chunks.written].to_vec()).unwrap()));
            }
            bytes.drain(chunks.written..chunks.at);
            chunks.at = chunks.written;
        }
        Ok(None)
    }

    #[test]
    fn a_chunked_body_is_put_together_in_whatever_pieces_it_comes() {
        let text = "4\r\nWiki\r\n006;a=b\r\npedia \r\nB\r\nin\r\nchunks.\r\n0\r\nX: y\r\n\r\n";
        for piece in [1, 2, 3, 5, 7, text.len()] {
            assert_eq!(chunked(text, piece, 100).unwrap().unwrap(), "Wikipedia in\r\nchunks.", "{piece}");
        }
        assert_eq!(chunked("0\r\n\r\n", 1, 0).unwrap().unwrap(), "");
    }

    #[test]
    fn what_two_readers_could_take_for_different_bodies_is_refused() {
        for (bad, status) in [
            ("x\r\n", 400),
            ("-1\r\n", 400),
            ("4\nWiki", 400),
            ("4;a\nWiki\r\n", 400),
            (";a\r\n", 400),
            ("\r\n", 400),
            ("4\r\nWikiX\r\n", 400),
            ("4\r\nWiki\n0\r\n\r\n", 400),
            ("0\r\nno field\r\n\r\n", 400),
            ("11111111111111111\r\n", 400),
            ("65\r\n", 413),
            ("ffffffffffffffff\r\n", 413),
        ] {
            for piece in [1, bad.len()] {
                assert_eq!(chunked(bad, piece, 100).err(), Some(status), "{bad:?}");
            }
        }
        let long = format!("1;{}", "x".repeat(CHUNK_LINE_BYTES_MAX));
        assert_eq!(chunked(&long, 1, 100).err(), Some(400));
        let trailer = format!("0\r\nX: {}", "x".repeat(TRAILER_BYTES_MAX));
        assert_eq!(chunked(&trailer, 1, 100).err(), Some(400));
    }

    #[test]
    fn what_all_hold_together_is_bounded() {
        let mut holdings = Holdings::default();
        let held = |length: usize| Held { bytes: vec![0; length], progress: Progress::default() };
        assert!(holdings.put(1, held(HELD_BYTES_MAX - 1)) && holdings.put(2, held(1)));
        assert!(!holdings.put(3, held(1)));
        let empty = Held { bytes: Vec::with_capacity(1), progress: Progress::default() };
        assert!(!holdings.put(3, empty), "it is memory that counts");
        assert!(holdings.take(3).is_none() && holdings.take(2).is_some());
        assert!(holdings.put(3, held(1)));
        assert!(holdings.take(1).is_some() && holdings.take(3).is_some());
        assert_eq!((holdings.bytes, holdings.held.len()), (0, 0));
    }

    #[test]
    fn a_length_has_digits_alone() {
        assert_eq!(length(b"0", 0), Ok(0));
        assert_eq!(length(b"00100", 100), Ok(100));
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
            assert_eq!(length(value.as_bytes(), 100), Err(status), "{value}");
        }
    }
}
