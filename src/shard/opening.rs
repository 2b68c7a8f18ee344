//! How a connection becomes a session: who claims its request, and what it is answered.

use super::session::Phase;
use super::{Event, Id, Shard};
use crate::dialect::{Actions, Kind, Upgrade};
use crate::metrics::Handshake;
use crate::wheel::{NEVER, Now};

impl Shard {
    /// The dialect that would claim a request, were it a correct one.
    pub fn claimant(&mut self, upgrade: &Upgrade<'_>, kinds: &[Kind], now: Now) -> Option<Kind> {
        let (mut context, _) = self.shared.lend(now);
        let actions = &mut Actions::default();
        kinds.iter().copied().find(|kind| kind.open(upgrade, &mut context, actions).is_some())
    }

    /// A correct WebSocket request: asks the dialects in turn. `response` is the 101 to send on acceptance.
    /// Returns whether one has claimed it.
    pub fn upgrade(
        &mut self,
        id: Id,
        upgrade: &Upgrade<'_>,
        kinds: &[Kind],
        response: &[u8],
        now: Now,
    ) -> bool {
        let (mut context, actions) = self.shared.lend(now);
        actions.clear();
        let Some(dialect) = kinds.iter().find_map(|kind| kind.open(upgrade, &mut context, actions)) else {
            return false;
        };
        let dialect_kind = dialect.kind();
        self.metrics.sessions[dialect_kind as usize].add(1);
        let session = &mut self.sessions[id as usize];
        session.dialect = Some(dialect);
        session.response = Some(agreed(response, upgrade, dialect_kind));
        session.phase = Phase::Opening;
        session.deadline = NEVER;
        self.perform(id, now);
        self.tell_of_outage(id, now);
        if self.events.last() == Some(&Event::Opened(id)) {
            // Answered at once: what the client has sent behind it is at hand, and needs no event to be read.
            self.events.pop();
        }
        true
    }

    /// Answers a request that no dialect gets with ready bytes, and ends the connection.
    pub fn respond(&mut self, id: Id, response: &[u8], handshake: Handshake, now: Now) {
        self.metrics.handshakes[handshake as usize].add(1);
        self.queue(id, response, now);
        self.finish(id, now);
    }

    pub(super) fn answer_upgrade(&mut self, id: Id, now: Now) {
        let session = &mut self.sessions[id as usize];
        session.phase = Phase::Open;
        self.events.push(Event::Opened(id));
        if let Some(response) = session.response.take() {
            self.metrics.handshakes[Handshake::Accepted as usize].add(1);
            self.queue(id, &response, now);
        }
    }
}

/// The answer to a handshake with the subprotocol that the dialect agrees to, if any.
fn agreed(response: &[u8], upgrade: &Upgrade<'_>, kind: Kind) -> Box<[u8]> {
    let head = response.strip_suffix(b"\r\n").unwrap_or(response);
    match upgrade.first_subprotocol().filter(|_| kind.echoes_subprotocol()) {
        None => response.into(),
        Some(first) => [head, b"Sec-WebSocket-Protocol: ", first.as_bytes(), b"\r\n\r\n"].concat().into(),
    }
}
