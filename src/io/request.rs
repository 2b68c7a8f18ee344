//! Requests of a connection before it is a session: heads, one after another, and the bodies of
//! those that a dialect answers.
//!
//! A request that lies whole in the buffer of a read is answered from there. The bytes of any other
//! are kept until it is whole.

mod context;
mod progress;

pub(super) use self::context::RequestContext;
pub(super) use self::progress::{Body, Progress};

use super::handshake::{self, HeadOutcome};
use crate::http::Persistence;
use crate::http::head::{self, HeadEnd};
use crate::shard::Shard;

/// Maximum number of requests of one connection that are answered in one turn, so that a client
/// that sends thousands at once does not keep the others waiting.
const REQUESTS_MAX: usize = 64;

/// The use of the bytes behind the requests that were read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// They are an incomplete request.
    More,
    /// They can be read in a later turn.
    Wait,
    /// They can be read when the shard says that the connection is ready.
    Asked,
    /// They are frames: the connection is a session.
    Session,
    /// They are frames of a session that its dialect has not accepted yet.
    Opening,
    /// They are dropped.
    Over,
}

/// Reads requests and has them answered, in order. Returns the number of bytes used, and the use of
/// the rest.
pub(super) fn read(
    bytes: &mut [u8],
    progress: &mut Progress,
    context: &RequestContext<'_>,
    shard: &mut Shard,
) -> (usize, Next) {
    let mut at = 0;
    for _ in 0..REQUESTS_MAX {
        let rest = &mut bytes[at..];
        // A client that does not read its answers is not asked for more.
        if !shard.is_answered(context.id) {
            return (at, Next::Asked);
        }
        let body = match progress.body.take() {
            Some(body) => body,
            None => match begin(rest, progress, context, shard) {
                RequestStart::Part => return (at, Next::More),
                RequestStart::Whole(end, HeadOutcome::Session) => {
                    let is_open = !shard.is_opening(context.id);
                    return (at + end, if is_open { Next::Session } else { Next::Opening });
                }
                RequestStart::Whole(_, HeadOutcome::Refused) => return (at, Next::Over),
                RequestStart::Whole(_, HeadOutcome::Request(body)) => body,
            },
        };

        let body = progress.body.insert(body);
        let end = match body.read(rest) {
            Ok(Some(end)) => end,
            Ok(None) => {
                if !std::mem::replace(&mut body.is_awaited, true) {
                    shard.await_body(context.id, body.is_expecting, context.now);
                }
                return (at, Next::More);
            }
            Err(fault) => {
                context.refuse(body.kind, body.is_head, fault, shard);
                return (at, Next::Over);
            }
        };

        // Whole, but what it publishes must find room; the parsed head is kept for then.
        if !context.has_room || !shard.takes_more() {
            return (at, Next::Wait);
        }
        let persistence = if context.is_draining { Persistence::Ends } else { body.persistence };
        let is_ready =
            shard.serve(context.id, body.kind, &body.request(rest), persistence, context.now);
        progress.body = None;
        at += end;
        if !is_ready {
            return (at, if shard.is_asked(context.id) { Next::Asked } else { Next::Over });
        }
    }
    (at, if at < bytes.len() { Next::Wait } else { Next::More })
}

/// The request that bytes begin with.
enum RequestStart {
    Part,
    Whole(usize, HeadOutcome),
}

fn begin(
    bytes: &[u8],
    progress: &mut Progress,
    context: &RequestContext<'_>,
    shard: &mut Shard,
) -> RequestStart {
    match head::end(bytes, &mut progress.searched, shard.limits().head_bytes_max) {
        HeadEnd::At(end) => {
            RequestStart::Whole(end, handshake::read(&bytes[..end], context, shard))
        }
        HeadEnd::Part => {
            // Its time-out starts with its first byte, not with the end of the request before.
            if !bytes.is_empty() {
                shard.await_head(context.id, context.now);
            }
            RequestStart::Part
        }
        HeadEnd::TooLong => {
            handshake::refuse_long(context, shard);
            RequestStart::Whole(0, HeadOutcome::Refused)
        }
    }
}
