//! What operators ask about the sessions of a shard, and the sessions that they end.
//!
//! Everything here happens within a turn, so a walk looks at [`WALK_MAX`] connections at most. With
//! a topic it is the trie that is asked, which costs less than a delivery to the same sessions.

use super::session::{Phase, Session};
use super::{Id, Shard};
use crate::dialect::Explanation;
use crate::frame::Publication;
use crate::inspect::{
    KICKS_MAX, Kick, SUBJECT_CHARS_MAX, SUBSCRIPTIONS_MAX, SessionDetail, SessionFilter,
    SessionOrder, SessionRow, SessionWalk, SocketFacts, WALK_MAX, WhyRow, age_rank,
};
use crate::reason::Reason;
use crate::service::ConnectionRef;
use crate::text::start;
use crate::wheel::{Now, TICK_MS};
use std::borrow::Cow;
use std::cmp::Reverse;

impl Shard {
    /// The connections that a walk finds, and where it goes on.
    pub fn list(
        &mut self,
        walk: &SessionWalk,
        facts: impl Fn(Id) -> SocketFacts,
        now: Now,
    ) -> (Vec<SessionRow>, Option<Id>) {
        let count_max = match walk.order {
            SessionOrder::Unsorted => walk.count,
            // All of a part are compared before some are told.
            SessionOrder::Age | SessionOrder::Backlog => WALK_MAX,
        };
        let (mut found, next) = self.find(walk, count_max, &facts);
        if walk.order != SessionOrder::Unsorted {
            let rank = |id: &Id| rank(&self.sessions[*id as usize], walk.order, now);
            found.retain(|id| walk.above.is_none_or(|above| rank(id) > above));
            found.sort_by_key(|id| Reverse(rank(id)));
            found.truncate(walk.count);
        }

        (found.into_iter().map(|id| self.row(id, facts(id), now)).collect(), next)
    }

    /// One connection with its subscriptions; `None` when it has gone.
    #[must_use]
    pub fn detail(
        &self,
        session: ConnectionRef,
        socket: SocketFacts,
        now: Now,
    ) -> Option<SessionDetail> {
        let id = self.known(session)?;
        let mut topics = Vec::new();
        if let Some(dialect) = &self.sessions[id as usize].dialect {
            let word = dialect.kind().feed().word;
            dialect.subscriptions(&mut |place| {
                if topics.len() < SUBSCRIPTIONS_MAX {
                    topics.push(format!("{word}/{place}").into());
                }
            });
        }
        Some(SessionDetail { row: self.row(id, socket, now), listener: None, topics })
    }

    /// What some publications would be to the sessions that a walk finds, and where it goes on.
    pub fn explain(
        &mut self,
        walk: &SessionWalk,
        publications: &[Publication],
        facts: impl Fn(Id) -> SocketFacts,
        now: Now,
    ) -> (Vec<WhyRow>, Option<Id>) {
        let (found, next) = self.find(walk, walk.count, &facts);
        // The found sessions whose subscriptions match each publication, ascending.
        let mut matching: Vec<Vec<Id>> = Vec::new();
        for publication in publications {
            let mut ids = Vec::new();
            self.trie.matches(publication.topic(), publication.facet(), |id| {
                // Those that are not asked for may be very many.
                if found.binary_search(&id).is_ok() {
                    ids.push(id);
                }
            });
            ids.sort_unstable();
            matching.push(ids);
        }

        let explained = found.into_iter().map(|id| {
            let matched = publications.iter().zip(&matching);
            let matched =
                matched.filter(|(_, ids)| ids.binary_search(&id).is_ok()).map(|(it, _)| it);
            let explanation = explanation(&self.sessions[id as usize], matched, now);
            WhyRow { row: self.row(id, facts(id), now), explanation }
        });
        (explained.collect(), next)
    }

    /// Ends the connections that a walk finds. Returns their number, and where it goes on.
    pub fn kick_all(
        &mut self,
        walk: &SessionWalk,
        kick: &Kick,
        facts: impl Fn(Id) -> SocketFacts,
        now: Now,
    ) -> (usize, Option<Id>) {
        let (found, next) = self.find(walk, walk.count.min(KICKS_MAX), &facts);
        (found.into_iter().filter(|id| self.kick(*id, kick, now)).count(), next)
    }

    /// Ends a connection. Returns whether it was there.
    pub fn kick_one(&mut self, session: ConnectionRef, kick: &Kick, now: Now) -> bool {
        self.known(session).is_some_and(|id| self.kick(id, kick, now))
    }

    /// Ends a connection, unless it is ending already.
    fn kick(&mut self, id: Id, kick: &Kick, now: Now) -> bool {
        let session = &self.sessions[id as usize];
        if matches!(session.phase, Phase::Closing | Phase::Ending | Phase::Over) {
            return false;
        }

        let (own_code, own_text) = session.kind().map_or((0, ""), |kind| kind.close_kicked());
        let (code, text) = match kick.code {
            Some(code) => (code, &*kick.text),
            None if kick.text.is_empty() => (own_code, own_text),
            None => (own_code, &*kick.text),
        };
        self.close(id, code, text, Reason::Kicked, now);
        true
    }

    /// The number of a connection that has not gone.
    fn known(&self, session: ConnectionRef) -> Option<Id> {
        let found = self.sessions.get(session.id as usize)?;
        (session.shard == self.number && found.serial == session.serial).then_some(session.id)
    }

    /// The first `count_max` connections of a walk, and where it goes on.
    fn find(
        &mut self,
        walk: &SessionWalk,
        count_max: usize,
        facts: &impl Fn(Id) -> SocketFacts,
    ) -> (Vec<Id>, Option<Id>) {
        let (candidates, mut next) = self.candidates(walk);
        let mut found = Vec::new();
        for id in candidates {
            if found.len() == count_max {
                next = Some(id);
                break;
            }
            if self.is_meant(id, &walk.filter, facts) {
                found.push(id);
            }
        }
        (found, next)
    }

    /// The connections that a walk has to look at, ascending, and where the next part of it begins.
    fn candidates(&mut self, walk: &SessionWalk) -> (Vec<Id>, Option<Id>) {
        let from = walk.from;
        let Some(asked) = &walk.filter.topic else {
            let end = self.sessions.capacity().min(from as usize + WALK_MAX) as Id;
            let next = ((end as usize) < self.sessions.capacity()).then_some(end);
            return ((from..end).collect(), next);
        };

        let mut ids = Vec::new();
        let visit = |id: Id| {
            if id >= from {
                ids.push(id);
            }
        };
        match &asked.facet {
            Some(facet) => self.trie.matches(&asked.topic, facet, visit),
            None => self.trie.matches_any_facet(&asked.topic, visit),
        }
        // Only as many are sorted as are looked at.
        let is_more = ids.len() > WALK_MAX;
        if is_more {
            ids.select_nth_unstable(WALK_MAX);
            ids.truncate(WALK_MAX);
        }
        ids.sort_unstable();
        ids.dedup();
        let next = ids.last().filter(|_| is_more).map(|last| last + 1);
        (ids, next)
    }

    /// Whether a connection is there and a filter means it; its topic has been looked up already.
    fn is_meant(&self, id: Id, filter: &SessionFilter, facts: &impl Fn(Id) -> SocketFacts) -> bool {
        let Some(session) = self.sessions.get(id as usize) else { return false };
        let is_kind = filter.kind.is_none_or(|kind| session.kind() == Some(kind));
        let is_subject = || {
            let wanted = filter.subject.as_deref();
            wanted.is_none_or(|wanted| subject(session).is_some_and(|it| shown(&it) == wanted))
        };
        // Last, because it takes a system call.
        let is_at = || {
            let wanted = filter.address;
            wanted.is_none_or(|ip| facts(id).remote.is_some_and(|remote| remote.ip == ip))
        };
        is_kind && is_subject() && is_at()
    }

    fn row(&self, id: Id, socket: SocketFacts, now: Now) -> SessionRow {
        let session = &self.sessions[id as usize];
        let mut subscriptions = 0;
        if let Some(dialect) = &session.dialect {
            dialect.subscriptions(&mut |_| subscriptions += 1);
        }
        SessionRow {
            id: self.reference(id),
            kind: session.kind(),
            phase: session.phase.name(),
            socket,
            subject: subject(session).map_or_else(Box::default, |subject| shown(&subject).into()),
            since_ms: since_ms(session, now),
            backlog_bytes: session.outbox.backlog_bytes() as u64,
            bytes_out: session.bytes_out,
            subscriptions,
        }
    }
}

/// What the publications that match a session's subscriptions would be to it.
fn explanation<'a>(
    session: &Session,
    matched: impl Iterator<Item = &'a Publication>,
    now: Now,
) -> Explanation {
    let Some(dialect) = session.dialect.as_ref().filter(|_| session.phase == Phase::Open) else {
        return Explanation::no("it has no open session");
    };
    let mut explained = Explanation::no("no subscription matches");
    for publication in matched {
        explained = dialect.explain(publication, now);
        if explained.gets {
            break;
        }
    }
    explained
}

/// The subject of a session's token, or an equivalent.
fn subject(session: &Session) -> Option<Cow<'_, str>> {
    session.dialect.as_ref()?.subject()
}

/// A subject as it is listed.
fn shown(subject: &str) -> &str {
    start(subject, SUBJECT_CHARS_MAX)
}

fn since_ms(session: &Session, now: Now) -> u64 {
    // By the start of the clock of ticks, or the answer would differ from turn to turn.
    let clock_start_ms = now.unix_ms.saturating_sub(now.monotonic_ns / 1_000_000);
    clock_start_ms + u64::from(session.since) * TICK_MS
}

/// The rank of a session in an order, as its row has it.
fn rank(session: &Session, order: SessionOrder, now: Now) -> u64 {
    match order {
        SessionOrder::Unsorted => 0,
        SessionOrder::Age => age_rank(since_ms(session, now)),
        SessionOrder::Backlog => session.outbox.backlog_bytes() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Kind, Settings, Upgrade, personium};
    use crate::message::Received;
    use crate::outbox::Sent;
    use crate::proxy::Remote;
    use crate::shard::Limits;
    use core::net::IpAddr;
    use std::sync::Arc;

    const NOW: Now = Now { monotonic_ns: 1_000_000_000, unix_ms: 1_518_612_600_000 };

    fn shard() -> Shard {
        let personium = personium::PersoniumSettings { anonymous: true, ..Default::default() };
        let settings = Arc::new(Settings { personium, ..Settings::default() });
        Shard::new(settings, Limits::default(), Arc::default(), NOW).numbered(1, 2)
    }

    /// A session that follows an Object of the cell `c`.
    fn follow(shard: &mut Shard, object: &str, now: Now) -> Id {
        let id = shard.accept(now);
        let upgrade = Upgrade { path: "/c/__event", ..Default::default() };
        assert!(shard.upgrade(id, &upgrade, Kind::ALL, b"HTTP/1.1 101\r\n\r\n", now));
        let rule = format!(r#"{{"subscribe":{{"Type":"t","Object":"{object}"}}}}"#);
        for text in [r#"{"access_token":""}"#, &rule] {
            shard.receive(id, Received::Text(text), now);
        }
        id
    }

    /// The address of a client ends in the number of its connection.
    fn facts(id: Id) -> SocketFacts {
        let remote = Some(Remote::at(IpAddr::from([192, 0, 2, id as u8])));
        SocketFacts { remote, is_tls: false }
    }

    fn asked(filter: SessionFilter) -> SessionWalk {
        SessionWalk { filter, count: 10, ..SessionWalk::default() }
    }

    fn listed(shard: &mut Shard, walk: &SessionWalk) -> (Vec<Id>, Option<Id>) {
        let (rows, next) = shard.list(walk, facts, NOW);
        (rows.iter().map(|row| row.id.id).collect(), next)
    }

    fn topic(address: &str) -> SessionFilter {
        let topic = Some(Kind::asked_topic(address).unwrap());
        SessionFilter { topic, ..SessionFilter::default() }
    }

    #[test]
    fn a_list_has_those_with_all_that_is_asked_for() {
        let mut shard = shard();
        let all: Vec<Id> =
            ["*", "a/b", "a/c"].iter().map(|object| follow(&mut shard, object, NOW)).collect();
        let silent = shard.accept(NOW);

        let mut of = |filter| listed(&mut shard, &asked(filter)).0;
        assert_eq!(of(SessionFilter::default()), [&all[..], &[silent]].concat());
        let kind = |name| SessionFilter { kind: Kind::named(name), ..SessionFilter::default() };
        assert_eq!(of(kind("personium-event")), all);
        assert!(of(kind("echo")).is_empty());
        let address = Some(IpAddr::from([192, 0, 2, all[1] as u8]));
        let at = SessionFilter { address, ..SessionFilter::default() };
        assert_eq!(of(at), [all[1]]);
        assert_eq!(of(topic("event/c/a/b/d")), [all[0], all[1]]);
        assert_eq!(of(topic("event/c/x")), [all[0]]);
        assert_eq!(of(topic("event/c")), [all[0]]);
        assert!(of(topic("event/d/a/b")).is_empty());

        let detail = |shard: &Shard, id| shard.detail(shard.reference(id), facts(id), NOW);
        let found = detail(&shard, all[1]).unwrap();
        assert_eq!(found.topics, [Box::<str>::from("event/c/a/b* of type t*")]);
        assert_eq!((found.row.phase, found.row.subscriptions), ("open", 1));
        let found = detail(&shard, silent).unwrap();
        assert_eq!((found.row.phase, found.row.kind), ("request", None));
        let before = ConnectionRef { serial: 99, ..shard.reference(silent) };
        assert_eq!(shard.detail(before, facts(silent), NOW), None);
    }

    #[test]
    fn a_walk_goes_on_where_it_has_ended_and_looks_at_a_bounded_number() {
        let mut shard = shard();
        let count = WALK_MAX + 100;
        for _ in 0..count {
            follow(&mut shard, "*", NOW);
        }
        for filter in [SessionFilter::default(), topic("event/c/x")] {
            let (mut walk, mut seen) = (asked(filter), Vec::new());
            (walk.count, walk.from) = (700, 0);
            let mut parts = 0;
            loop {
                let (found, next) = listed(&mut shard, &walk);
                assert!(found.len() <= 700);
                seen.extend(found);
                parts += 1;
                let Some(next) = next else { break };
                walk.from = next;
            }
            assert!(parts >= 2 && seen.iter().copied().eq(0..count as Id), "{parts}");
        }
        // Of which the last part is empty where all others have ended.
        let (found, next) =
            shard.list(&SessionWalk { count, ..asked(SessionFilter::default()) }, facts, NOW);
        assert_eq!((found.len(), next), (WALK_MAX, Some(WALK_MAX as Id)));
    }

    #[test]
    fn an_order_has_the_highest_first_and_nothing_that_is_too_low() {
        let mut shard = shard();
        let at = |s: u64| Now { monotonic_ns: s * 1_000_000_000, unix_ms: NOW.unix_ms + s * 1000 };
        let old = [7, 3, 9].map(|s| follow(&mut shard, "*", at(s)));
        let now = at(10);
        let mut walk = SessionWalk { order: SessionOrder::Age, ..asked(SessionFilter::default()) };
        let (rows, _) = shard.list(&walk, facts, now);
        assert_eq!(rows.iter().map(|row| row.id.id).collect::<Vec<_>>(), [old[1], old[0], old[2]]);
        assert_eq!(rows[0].since_ms, NOW.unix_ms + 3000);
        walk.above = Some(rows[1].rank(SessionOrder::Age));
        assert_eq!(shard.list(&walk, facts, now).0, rows[..1]);

        // One that takes nothing is the slowest.
        shard.flush(now, &mut |id: Id, bytes: &[u8]| {
            if id == old[2] { Sent::Blocked } else { Sent::Bytes(bytes.len()) }
        });
        let slow = SessionWalk {
            order: SessionOrder::Backlog,
            count: 1,
            ..asked(SessionFilter::default())
        };
        let (rows, _) = shard.list(&slow, facts, now);
        assert!(rows[0].id.id == old[2] && rows[0].backlog_bytes > 0, "{rows:?}");
    }

    #[test]
    fn those_that_are_meant_are_ended_once_and_as_many_as_allowed() {
        let mut shard = shard();
        let all: Vec<Id> = (0..3).map(|_| follow(&mut shard, "*", NOW)).collect();
        let one = shard.reference(all[0]);
        assert!(shard.kick_one(one, &Kick::default(), NOW));
        assert!(!shard.kick_one(one, &Kick::default(), NOW), "it is ending");
        let other = ConnectionRef { shard: 0, ..shard.reference(all[1]) };
        assert!(!shard.kick_one(other, &Kick::default(), NOW), "it is another shard's");
        let walk = SessionWalk { count: 1, ..asked(topic("event/c/x")) };
        assert_eq!(shard.kick_all(&walk, &Kick::default(), facts, NOW), (1, Some(all[2])));
        assert_eq!(shard.metrics.ends[Reason::Kicked as usize].get(), 2);
        let (rows, _) = shard.list(&asked(SessionFilter::default()), facts, NOW);
        let phases: Vec<_> = rows.iter().map(|row| row.phase).collect();
        assert_eq!(phases, ["closing", "closing", "open"]);
    }
}
