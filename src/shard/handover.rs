//! Sessions of one process that go on in the next: frozen here, adopted there.

use super::session::Phase;
use super::{ConnectionRef, Id, Shard};
use crate::dialect::{Action, Actions, AnyDialect, Input, Kind};
use crate::handover::{FrozenDialect, FrozenPhase, FrozenSession, HandoverRecord, NotAdopted};
use crate::outbox::Outbox;
use crate::reason::Reason;
use crate::service::presence::PresenceRequest;
use crate::service::{NewRefs, Question};
use crate::wheel::Now;
use std::sync::Arc;

impl Shard {
    /// Whether nothing of any session is on its way: no question, no publication or answer for the
    /// shards, nothing queued in this turn, and no request or handshake that awaits an answer.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let awaits_answer = |phase| matches!(phase, Phase::Opening | Phase::Asked(..));
        !self.holds_back()
            && self.dirty.is_empty()
            && !self.sessions.iter().any(|(_, session)| awaits_answer(session.phase))
    }

    /// Whether a connection has sent a request, so that it may be told to come back.
    #[must_use]
    pub fn has_begun(&self, id: Id) -> bool {
        let session = self.sessions.get(id as usize);
        session.is_some_and(|session| !matches!(session.phase, Phase::Head | Phase::Opening))
    }

    /// Whether a session is open that cannot be passed on, whatever comes; what it has asked of the
    /// owners of topics can be if `has_one_owner`.
    #[must_use]
    pub fn is_bound(&self, id: Id, has_one_owner: impl Fn(ConnectionRef) -> bool) -> bool {
        let session = self.sessions.get(id as usize);
        session.is_some_and(|session| session.phase == Phase::Open)
            && self.freeze(id).is_none_or(|it| it.topics_owner.is_some() && !has_one_owner(it.old))
    }

    /// Tells these to come back, as in a stop.
    pub fn dismiss_all(&mut self, ids: impl IntoIterator<Item = Id>, now: Now) {
        self.is_leaving = true;
        for id in ids {
            if self.sessions.contains(id as usize) {
                self.dismiss(id, now);
            }
        }
    }

    /// A connection as data, which stays as it is: an open session, or one of HTTP between two
    /// requests. `None` where it cannot go on in another process: its client is told to come back.
    /// Call between two turns.
    #[must_use]
    pub fn freeze(&self, id: Id) -> Option<FrozenSession> {
        let session = self.sessions.get(id as usize)?;
        let (phase, dialect) = match (session.phase, &session.dialect) {
            (Phase::Open, Some(dialect)) => (FrozenPhase::Open, Some(dialect)),
            (Phase::Head, None) => (FrozenPhase::New, None),
            (Phase::Idle, None) => (FrozenPhase::Idle, None),
            _ => return None,
        };
        let dialect = match dialect {
            Some(dialect) => {
                let name = dialect.kind().name().to_owned();
                Some(FrozenDialect { name, state: dialect.freeze()? })
            }
            None => None,
        };

        Some(FrozenSession {
            old: self.reference(id),
            phase,
            dialect,
            since: session.since,
            deadline: session.deadline,
            ping_at: session.ping_at,
            ping_interval: session.ping_interval,
            misses: session.misses,
            misses_max: session.misses_max,
            bytes_out: session.bytes_out,
            attempt: session.asked,
            // With several owners, who has asked them knows which.
            topics_owner: session.asks_topics.then_some(0),
            unsent: session.outbox.freeze()?,
        })
    }

    /// Takes over a connection of another process of the same boot, without a word to its client:
    /// what it is still to be sent leaves with the next flush. Limits of connections do not count,
    /// because it is there already.
    ///
    /// # Errors
    /// When it cannot go on here; then nothing has changed.
    pub fn adopt(&mut self, frozen: FrozenSession, now: Now) -> Result<ConnectionRef, NotAdopted> {
        let outbox = Outbox::thaw(&frozen.unsent).ok_or(NotAdopted::Unusable)?;
        let phase = match (frozen.phase, &frozen.dialect) {
            (FrozenPhase::Open, Some(_)) => Phase::Open,
            (FrozenPhase::New, None) => Phase::Head,
            (FrozenPhase::Idle, None) => Phase::Idle,
            _ => return Err(NotAdopted::Unusable),
        };

        let id = self.accept(now);
        if let Some(dialect) = &frozen.dialect
            && let Err(error) = self.thaw(id, dialect, now)
        {
            self.unaccept(id);
            return Err(error);
        }

        let is_to_flush = !outbox.is_empty() || frozen.topics_owner.is_some();
        self.metrics.outbox_bytes.add(outbox.backlog_bytes() as u64);
        let session = &mut self.sessions[id as usize];
        session.outbox = outbox;
        session.phase = phase;
        session.since = frozen.since;
        session.bytes_out = frozen.bytes_out;
        session.deadline = frozen.deadline;
        session.ping_at = frozen.ping_at;
        // Pings without an interval would come for ever.
        session.ping_interval = frozen.ping_interval.max(1);
        (session.misses, session.misses_max) = (frozen.misses, frozen.misses_max);
        session.asked = frozen.attempt;
        session.asks_topics = frozen.topics_owner.is_some();
        // Whatever the process before was told: its owner here awaits one, so that what a client
        // does not read is bounded over any number of processes. See `TopicConsumer::thaw`.
        session.owes_receipt = session.asks_topics;
        // The number of its question counts on for it; other sessions get others.
        self.asked = self.asked.max(frozen.attempt);

        let new = self.reference(id);
        self.new_refs.put(frozen.old, new);
        self.wheel.cancel(id);
        self.reschedule(id);
        if is_to_flush {
            self.mark_dirty(id);
        }
        Ok(new)
    }

    /// What this shard knows beside its connections, for another process; written before these.
    /// Retained publications, which all shards have, are the first shard's to pass.
    #[must_use]
    pub fn freeze_shared(&mut self) -> Vec<HandoverRecord> {
        let mut records = Vec::new();
        for &kind in Kind::ALL {
            let (context, _) = self.shared.context(Now::default());
            let state = kind.freeze_shared(context.shared);
            records.extend(state.map(|state| HandoverRecord::Shared(self.number, kind, state)));
            let channels = self.presence[kind as usize].export();
            records.extend(channels.into_iter().map(|it| HandoverRecord::Presence(kind, it)));
        }
        if self.number == 0 {
            let retained = self.shared.retained.all().map(Arc::clone);
            records.extend(retained.map(HandoverRecord::Retained));
        }
        records
    }

    /// Takes over a record that is no connection: what sessions share before these, everything else
    /// once `refs` has the connections of all shards.
    pub fn adopt_shared(&mut self, record: HandoverRecord, refs: &NewRefs, now: Now) {
        match record {
            HandoverRecord::Shared(_, kind, state) => {
                let (context, _) = self.shared.context(now);
                kind.thaw_shared(&state, context.shared);
            }
            HandoverRecord::Presence(kind, channel) => {
                self.with_presence(kind, |presence, host| {
                    presence.import(kind.id(), channel, refs, now, host);
                });
            }
            HandoverRecord::Retained(publication) => self.retain(&publication, now),
            _ => {}
        }
    }

    /// The references of the connections that were taken over since the last call.
    pub fn take_new_refs(&mut self) -> NewRefs {
        std::mem::take(&mut self.new_refs)
    }

    /// Whether a connection ends anyway, so that its client need not be told to come back.
    #[must_use]
    pub fn is_ending(&self, id: Id) -> bool {
        let session = self.sessions.get(id as usize);
        session.is_none_or(|it| it.phase.is_ending() || it.phase == Phase::Over)
    }

    /// Drops connections that another process has now, and what this shard owns, without a word to
    /// anyone: only the sockets are to be closed here.
    pub fn give_away(&mut self, ids: impl IntoIterator<Item = Id>, now: Now) {
        self.presence = Default::default();
        for id in ids {
            let Some(session) = self.sessions.get_mut(id as usize) else { continue };
            if let Some(mut dialect) = session.dialect.take() {
                session.asked = 0;
                self.metrics.sessions[dialect.kind() as usize].sub(1);
                self.undo(id, &mut dialect, now);
            }
            self.remove(id, Reason::Gone, now);
        }
    }

    /// Gives a new connection the dialect's session, with its subscriptions.
    fn thaw(&mut self, id: Id, frozen: &FrozenDialect, now: Now) -> Result<(), NotAdopted> {
        let kind = Kind::named(&frozen.name).ok_or(NotAdopted::UnknownDialect)?;
        let mut actions = Actions::default();
        let (mut context, _) = self.shared.context(now);
        let dialect = kind.thaw(&frozen.state, &mut context, &mut actions);
        let mut dialect = dialect.ok_or(NotAdopted::Unusable)?;

        for action in &actions.list {
            let Action::Subscribe(prefix, facet) = action else { continue };
            let is_full = self.trie.len() >= self.limits.subscriptions_max;
            if is_full || self.trie.insert(actions.get(prefix), actions.get(facet), id).is_err() {
                self.undo(id, &mut dialect, now);
                return Err(NotAdopted::Full);
            }
        }

        for action in actions.list {
            if let Action::Ask(Question::Presence(question)) = action
                && let PresenceRequest::Enter(channel) = &question.request
            {
                self.new_refs.enter(kind.id(), &question.app, channel);
            }
        }
        self.metrics.sessions[kind as usize].add(1);
        self.sessions[id as usize].dialect = Some(dialect);
        Ok(())
    }

    /// Has a session that could not be taken over release what it holds. The services are not told:
    /// they know it by the process that still has it.
    fn undo(&mut self, id: Id, dialect: &mut AnyDialect, now: Now) {
        let mut actions = Actions::default();
        let (mut context, _) = self.shared.context(now);
        dialect.handle(Input::Gone, &mut context, &mut actions);
        for action in &actions.list {
            if let Action::Unsubscribe(prefix, facet) = action {
                self.trie.remove(actions.get(prefix), actions.get(facet), id);
            }
        }
    }

    /// Forgets a connection that was not taken over.
    fn unaccept(&mut self, id: Id) {
        self.wheel.cancel(id);
        self.sessions.remove(id as usize);
        self.metrics.connections.set(self.sessions.len() as u64);
    }
}
