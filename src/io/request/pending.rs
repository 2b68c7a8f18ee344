//! A request that is being read: its circumstances, how far it is, and what its head says of its body.

use crate::dialect::{Kind, Request};
use crate::http::body::Framing;
use crate::http::head::{Fault, Head, HeadFields};
use crate::http::{self, Persistence};
use crate::io::clients::Clients;
use crate::shard::{Id, Shard};
use crate::wheel::Now;
use rustix::fd::BorrowedFd;
use std::ops::Range;

const OTHER_EXPECTATION: Fault =
    Fault { status: 417, reason: "The one expectation that is met is 100-continue." };

/// The circumstances of a read.
pub(in crate::io) struct Talk<'a> {
    /// The dialects of the listener.
    pub(in crate::io) kinds: &'a [Kind],
    /// The connection.
    pub(in crate::io) id: Id,
    /// Whether there is room for what requests publish.
    pub(in crate::io) has_room: bool,
    /// Whether the daemon stops: what was begun is answered, and nothing else.
    pub(in crate::io) is_draining: bool,
    /// The connection's socket, which knows the address of the other end.
    pub(in crate::io) socket: BorrowedFd<'a>,
    /// Who the clients of proxies are.
    pub(in crate::io) clients: &'a Clients,
    pub(in crate::io) now: Now,
}

/// How far the request has been read that the bytes begin with.
#[derive(Default)]
pub(in crate::io) struct Progress {
    /// So many bytes of its head have been looked through for the end.
    pub(in crate::io) searched: usize,
    /// Its body, when its head is whole.
    pub(in crate::io) body: Option<Body>,
}

impl Progress {
    /// Leaves out what a body's chunks were framed in.
    pub(in crate::io) fn leave_out_framing(&mut self, bytes: &mut Vec<u8>) {
        if let Some(body) = &mut self.body {
            body.framing.leave_out(bytes, body.head);
        }
    }
}

/// Refuses a request that a dialect would answer, were it a correct one.
pub(in crate::io) fn refuse(
    kind: Kind,
    is_head: bool,
    fault: Fault,
    talk: &Talk<'_>,
    shard: &mut Shard,
) {
    let response = http::refusal_saying(fault.status, fault.reason);
    shard.refuse_request(talk.id, kind, (fault.status, response), is_head, talk.now);
}

/// The body of a request that a dialect answers, as its head tells of it.
pub(in crate::io) struct Body {
    pub(in crate::io) kind: Kind,
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
    pub(in crate::io) is_head: bool,
    framing: Framing,
    pub(in crate::io) persistence: Persistence,
    /// Whether the client keeps it back until it is asked for it.
    pub(in crate::io) is_expecting: bool,
    pub(in crate::io) is_awaited: bool,
}

impl Body {
    /// What a head, which lies in `bytes`, says of the body after it.
    ///
    /// # Errors
    /// With what refuses the request.
    pub(in crate::io) fn of(
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
    pub(in crate::io) fn read(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, Fault> {
        let end = self.framing.read(&mut bytes[self.head..], self.limit)?;
        Ok(end.map(|end| self.head + end))
    }

    /// The whole request.
    pub(in crate::io) fn request<'a>(&self, bytes: &'a [u8]) -> Request<'a> {
        let text = |place: &Range<usize>| {
            bytes
                .get(place.clone())
                .and_then(|text| std::str::from_utf8(text).ok())
                .unwrap_or_default()
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
