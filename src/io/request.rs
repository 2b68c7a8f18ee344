//! What a connection says before it is a session: heads of requests, one after another, and the bodies of those that
//! a dialect answers.
//!
//! A request that lies whole in the buffer that it was read into is answered from there. Of anything else the bytes
//! are kept until it is whole.

use super::body::{Fault, Framing};
use super::clients::Clients;
use super::handshake::{self, Found};
use super::head::{self, Head, HeadFields};
use crate::api::{self, Persistence};
use crate::dialect::{Kind, Request};
use crate::shard::{Id, Shard};
use crate::wheel::Now;
use rustix::fd::BorrowedFd;
use std::ops::Range;

/// Most requests of one connection that are answered in one turn, so that a client that sends thousands at once does
/// not keep the others waiting.
const REQUESTS_MAX: usize = 64;
const OTHER_EXPECTATION: Fault =
    Fault { status: 417, reason: "The one expectation that is met is 100-continue." };

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
    /// The connection's socket, which knows the address of the other end.
    pub(super) socket: BorrowedFd<'a>,
    /// Who the clients of proxies are.
    pub(super) clients: &'a Clients,
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
    /// The same, and they can be read when the shard says that it is open.
    Opening,
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

impl Progress {
    /// Leaves out what a body's chunks were framed in.
    pub(super) fn leave_out_framing(&mut self, bytes: &mut Vec<u8>) {
        if let Some(body) = &mut self.body {
            body.framing.leave_out(bytes, body.head);
        }
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
            None => match begin(rest, progress, talk, shard) {
                Begun::Part => return (at, Next::More),
                Begun::Whole(end, Found::Session) => {
                    let is_open = !shard.is_opening(talk.id);
                    return (at + end, if is_open { Next::Session } else { Next::Opening });
                }
                Begun::Whole(_, Found::Refused) => return (at, Next::Over),
                Begun::Whole(_, Found::Request(body)) => body,
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
            Err(fault) => {
                refuse(body.kind, body.is_head, fault, talk, shard);
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
enum Begun {
    Part,
    Whole(usize, Found),
}

fn begin(bytes: &[u8], progress: &mut Progress, talk: &Talk<'_>, shard: &mut Shard) -> Begun {
    let limit = shard.limits().head_bytes_max;
    match head::end(bytes, std::mem::take(&mut progress.searched)) {
        Some(end) if end <= limit => Begun::Whole(end, handshake::read(&bytes[..end], talk, shard)),
        None if bytes.len() < limit => {
            progress.searched = bytes.len();
            if !bytes.is_empty() {
                shard.await_head(talk.id, talk.now);
            }
            Begun::Part
        }
        _ => {
            handshake::refuse_long(talk, shard);
            Begun::Whole(0, Found::Refused)
        }
    }
}

/// Refuses a request that a dialect would answer, were it a correct one.
pub(super) fn refuse(kind: Kind, is_head: bool, fault: Fault, talk: &Talk<'_>, shard: &mut Shard) {
    let response = api::refusal_saying(fault.status, fault.reason);
    shard.refuse_request(talk.id, kind, (fault.status, response), is_head, talk.now);
}

/// The body of a request that a dialect answers, as its head tells of it.
pub(super) struct Body {
    kind: Kind,
    /// Its longest.
    limit: usize,
    /// How long the head before it is, and where in it the method, the path and the query stand.
    head: usize,
    method: Range<usize>,
    path: Range<usize>,
    query: Range<usize>,
    /// The header `Authorization`.
    authorization: Range<usize>,
    /// Whether the answer is to have no body.
    is_head: bool,
    framing: Framing,
    persistence: Persistence,
    /// Whether the client keeps it back until it is asked for it.
    is_expecting: bool,
    is_awaited: bool,
}

impl Body {
    /// What a head, which lies in `bytes`, says of the body after it.
    ///
    /// # Errors
    /// With what refuses the request.
    pub(super) fn of(
        head: &Head<'_>,
        fields: &HeadFields<'_>,
        bytes: &[u8],
        (kind, limit): (Kind, usize),
    ) -> Result<Self, Fault> {
        let mut is_expecting = false;
        for expectation in head.lines("expect") {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return Err(OTHER_EXPECTATION);
            }
            is_expecting = !head.is_old;
        }
        let says = |word| head.lists("connection", word);
        let persistence = match (says(b"close"), head.is_old, says(b"keep-alive")) {
            (false, false, _) => Persistence::Stays,
            (false, true, true) => Persistence::StaysTold,
            _ => Persistence::Ends,
        };
        let place = |text: &str| {
            // The path of a URL without one is not in it.
            let start = (text.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
            if start < bytes.len() { start..start + text.len() } else { 0..0 }
        };
        Ok(Self {
            kind,
            limit,
            head: bytes.len(),
            method: place(head.method),
            path: place(head.path),
            query: place(head.query),
            authorization: place(fields.authorization),
            is_head: head.is_head,
            framing: Framing::of(fields.coding, limit)?,
            persistence,
            is_expecting,
            is_awaited: false,
        })
    }

    /// Looks whether it is whole; returns where the request ends then. `bytes` begin with its head.
    fn read(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, Fault> {
        let end = self.framing.read(&mut bytes[self.head..], self.limit)?;
        Ok(end.map(|end| self.head + end))
    }

    /// The whole request.
    fn request<'a>(&self, bytes: &'a [u8]) -> Request<'a> {
        let text = |place: &Range<usize>| {
            bytes.get(place.clone()).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
        };
        Request {
            method: if self.is_head { "GET" } else { text(&self.method) },
            is_head: self.is_head,
            path: text(&self.path),
            query: text(&self.query),
            authorization: text(&self.authorization),
            body: &bytes[self.head..self.head + self.framing.len()],
        }
    }
}
