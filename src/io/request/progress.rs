//! A request that is being read: its progress, and the body that its head announces.

use crate::dialect::{Kind, Request};
use crate::http::Persistence;
use crate::http::body::Framing;
use crate::http::head::{Fault, Head, HeadFields};
use std::ops::Range;

const OTHER_EXPECTATION: Fault =
    Fault { status: 417, reason: "The only supported expectation is 100-continue." };

/// The progress of the first request in the bytes.
#[derive(Default)]
pub(in crate::io) struct Progress {
    /// Bytes of its head that were searched for the end.
    pub(in crate::io) searched: usize,
    /// Its body, once its head is whole.
    pub(in crate::io) body: Option<Body>,
}

impl Progress {
    /// Removes the framing of a body's chunks.
    pub(in crate::io) fn leave_out_framing(&mut self, bytes: &mut Vec<u8>) {
        if let Some(body) = &mut self.body {
            body.framing.leave_out(bytes, body.head);
        }
    }
}

/// The body of a request to a dialect, as its head announces it.
pub(in crate::io) struct Body {
    pub(in crate::io) kind: Kind,
    /// Its maximum length in bytes.
    limit: usize,
    /// The length of the head before it. The ranges are places in the head, which may move in
    /// memory while the body comes.
    head: usize,
    method: Range<usize>,
    path: Range<usize>,
    query: Range<usize>,
    /// The value of the header `Authorization`.
    authorization: Range<usize>,
    /// Whether the method is `HEAD`, so that the answer has no body.
    pub(in crate::io) is_head: bool,
    framing: Framing,
    pub(in crate::io) persistence: Persistence,
    /// Whether the client holds it back until a 100.
    pub(in crate::io) is_expecting: bool,
    pub(in crate::io) is_awaited: bool,
}

impl Body {
    /// The body that a head, which lies in `bytes`, announces.
    ///
    /// # Errors
    /// The fault that refuses the request.
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
            // A client of HTTP/1.0 would take the 100 for the answer.
            is_expecting = !head.is_old;
        }
        Ok(Self {
            kind,
            limit,
            head: bytes.len(),
            method: place(bytes, head.method),
            path: place(bytes, head.path),
            query: place(bytes, head.query),
            authorization: place(bytes, fields.authorization),
            is_head: head.is_head,
            framing: Framing::of(fields.coding, limit)?,
            persistence: persistence(head),
            is_expecting,
            is_awaited: false,
        })
    }

    /// Reads the body; `bytes` begin with its head. Returns the end of the request once it is
    /// whole.
    pub(in crate::io) fn read(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, Fault> {
        let end = self.framing.read(&mut bytes[self.head..], self.limit)?;
        Ok(end.map(|end| self.head + end))
    }

    /// The whole request.
    pub(in crate::io) fn request<'a>(&self, bytes: &'a [u8]) -> Request<'a> {
        Request {
            method: if self.is_head { "GET" } else { text(bytes, &self.method) },
            is_head: self.is_head,
            path: text(bytes, &self.path),
            query: text(bytes, &self.query),
            authorization: text(bytes, &self.authorization),
            body: &bytes[self.head..self.head + self.framing.len()],
        }
    }
}

/// Whether the connection outlives the answer to a request (RFC 9112 section 9.3).
fn persistence(head: &Head<'_>) -> Persistence {
    let closes = head.lists("connection", b"close");
    match (closes, head.is_old, head.lists("connection", b"keep-alive")) {
        (false, false, _) => Persistence::Stays,
        (false, true, true) => Persistence::StaysTold,
        _ => Persistence::Ends,
    }
}

/// The place of a part of the head in its bytes.
fn place(bytes: &[u8], part: &str) -> Range<usize> {
    // A path that the URL did not have is a constant's, and not in the bytes.
    let start = (part.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
    if start < bytes.len() { start..start + part.len() } else { 0..0 }
}

/// The text at a place, which was text when the place was taken.
fn text<'a>(bytes: &'a [u8], place: &Range<usize>) -> &'a str {
    let text = bytes.get(place.clone()).and_then(|text| std::str::from_utf8(text).ok());
    text.unwrap_or_default()
}
