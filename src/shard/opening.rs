//! Handshakes: a dialect claims a request, and its connection becomes a session.

use super::report::{ClientAnswer, DefaultReason, by_status};
use super::session::{AwaitedAnswer, Phase};
use super::{ConnectionEvent, Id, Shard};
use crate::dialect::{Actions, Kind, Upgrade};
use crate::http;
use crate::reason::{Handshake, Reason};
use crate::wheel::{NEVER, Now};

impl Shard {
    /// The dialect that would claim a request if it were correct, for a better refusal.
    pub fn claimant(&mut self, upgrade: &Upgrade<'_>, kinds: &[Kind], now: Now) -> Option<Kind> {
        let (mut context, _) = self.shared.context(now);
        // Only the claim counts: the actions of a session that will not be are dropped.
        let actions = &mut Actions::default();
        kinds.iter().copied().find(|kind| kind.open(upgrade, &mut context, actions).is_some())
    }

    /// Offers a correct WebSocket request to the dialects in turn. `response` is the 101 to send on
    /// acceptance. Returns whether one has claimed it.
    pub fn upgrade(
        &mut self,
        id: Id,
        upgrade: &Upgrade<'_>,
        kinds: &[Kind],
        response: &[u8],
        now: Now,
    ) -> bool {
        self.default_reason = DefaultReason::default();
        let (mut context, actions) = self.shared.context(now);
        actions.clear();
        let Some(dialect) = kinds.iter().find_map(|kind| kind.open(upgrade, &mut context, actions))
        else {
            return false;
        };

        let dialect_kind = dialect.kind();
        self.metrics.sessions[dialect_kind as usize].add(1);
        let session = &mut self.sessions[id as usize];
        session.dialect = Some(dialect);
        let response = agreed(response, upgrade, dialect_kind);
        session.pending = Some(Box::new(AwaitedAnswer::Response(response)));
        session.phase = Phase::Opening;
        // From here on the dialect sets the deadline, for its handshake too.
        session.deadline = NEVER;

        self.perform(id, dialect_kind, now);
        // After the dialect's answer: a session that was accepted at once gets a close code with
        // its reason.
        self.tell_of_outage(id, now);
        if self.events.last() == Some(&ConnectionEvent::Opened(id)) {
            // Answered at once: the caller still holds the bytes behind the request and needs no
            // event.
            self.events.pop();
        }
        true
    }

    /// Refuses a request with ready bytes, and ends the connection.
    pub fn respond(&mut self, id: Id, response: &[u8], reason: Reason, now: Now) {
        self.respond_saying(id, response, (reason, ""), now);
    }

    /// Refuses a request like [`Shard::respond`], with a detail for the log.
    pub fn respond_saying(
        &mut self,
        id: Id,
        response: &[u8],
        (reason, detail): (Reason, &str),
        now: Now,
    ) {
        self.metrics.handshakes[reason.outcome() as usize].add(1);
        self.report_refusal(id, reason, detail, ClientAnswer::response(response), now);
        self.queue(id, response, now);
        self.finish(id, reason, now);
    }

    /// Refuses a handshake with the dialect's status and text.
    pub(super) fn refuse(
        &mut self,
        id: Id,
        status: u16,
        text: &str,
        because: Option<Reason>,
        now: Now,
    ) {
        let response = if text.is_empty() {
            http::refusal(status)
        } else {
            http::refusal_saying(status, text)
        };
        let reason = because.unwrap_or_else(|| by_status(status, self.default_reason.reason));
        self.metrics.handshakes[Handshake::Refused as usize].add(1);
        self.report_refusal(id, reason, "", Some(ClientAnswer { code: status, text }), now);
        self.queue(id, &response, now);
        self.finish(id, reason, now);
    }

    pub(super) fn answer_upgrade(&mut self, id: Id, now: Now) {
        let session = &mut self.sessions[id as usize];
        session.phase = Phase::Open;
        self.events.push(ConnectionEvent::Opened(id));
        if let Some(AwaitedAnswer::Response(response)) =
            session.pending.take().map(|pending| *pending)
        {
            self.metrics.handshakes[Handshake::Accepted as usize].add(1);
            self.queue(id, &response, now);
        }
    }
}

/// The response to a handshake, with the subprotocol that the dialect agrees to, if any.
fn agreed(response: &[u8], upgrade: &Upgrade<'_>, kind: Kind) -> Box<[u8]> {
    let head = response.strip_suffix(b"\r\n").unwrap_or(response);
    // A server may only name one that the client has offered (RFC 6455 section 4.2.2).
    match upgrade.first_subprotocol().filter(|_| kind.echoes_subprotocol()) {
        None => response.into(),
        Some(first) => {
            [head, b"Sec-WebSocket-Protocol: ", first.as_bytes(), b"\r\n\r\n"].concat().into()
        }
    }
}
