//! What a shard promises whatever its dialects are: who is slow and who is not, limits, timers, the end.

#![allow(clippy::unwrap_used)]

use fanfare::dialect::{Kind, Settings, Upgrade, personium};
use fanfare::feed::Intake;
use fanfare::frame::Publication;
use fanfare::handover::{self, FrozenConnection, HandoverHeader, HandoverRecord};
use fanfare::message::{Interest, Received};
use fanfare::metrics::Metrics;
use fanfare::outbox::Sent;
use fanfare::reason::Reason;
use fanfare::shard::{ConnectionEvent, Id, Limits, Shard};
use fanfare::wheel::Now;
use std::collections::HashMap;
use std::sync::Arc;

const MIB: usize = 1024 * 1024;

/// A shard whose sockets take everything, unless a room is set for one.
struct Stage {
    shard: Shard,
    metrics: Arc<Metrics>,
    now: Now,
    room: HashMap<Id, usize>,
    wire: HashMap<Id, Vec<u8>>,
}

impl Stage {
    fn new(limits: Limits) -> Self {
        let now = Now { monotonic_ns: 1_000_000_000, unix_ms: 1_518_612_600_000 };
        let metrics = Arc::new(Metrics::default());
        let personium = personium::PersoniumSettings { anonymous: true, ..Default::default() };
        let shard = Shard::new(
            Arc::new(Settings { personium, ..Settings::default() }),
            limits,
            Arc::clone(&metrics),
            now,
        );
        Self { shard, metrics, now, room: HashMap::new(), wire: HashMap::new() }
    }

    /// A session that has subscribed to everything of its cell and read every answer.
    fn join(&mut self) -> Id {
        let id = self.shard.accept(self.now);
        let upgrade = Upgrade { path: "/c/__event", ..Default::default() };
        assert!(self.shard.upgrade(id, &upgrade, Kind::ALL, b"HTTP/1.1 101\r\n\r\n", self.now));
        self.say(id, r#"{"access_token":""}"#);
        self.say(id, r#"{"subscribe":{"Type":"*","Object":"*"}}"#);
        self.flush();
        self.wire.remove(&id);
        id
    }

    fn say(&mut self, id: Id, text: &str) {
        self.shard.receive(id, Received::Text(text), self.now);
    }

    fn deliver(&mut self, publication: &Arc<Publication>) {
        self.shard.deliver(publication, self.now);
    }

    fn flush(&mut self) -> Vec<ConnectionEvent> {
        let Self { shard, room, wire, .. } = self;
        shard.flush(self.now, &mut |id: Id, bytes: &[u8]| {
            let room = room.get_mut(&id);
            let taken = room.as_ref().map_or(bytes.len(), |room| bytes.len().min(**room));
            if let Some(room) = room {
                *room -= taken;
            }
            wire.entry(id).or_default().extend_from_slice(&bytes[..taken]);
            if taken == 0 { Sent::Blocked } else { Sent::Bytes(taken) }
        });
        self.shard.take_events().collect()
    }

    /// Lets time pass, and returns what became of connections meanwhile.
    fn wait(&mut self, seconds: u64) -> Vec<ConnectionEvent> {
        self.now.monotonic_ns += seconds * 1_000_000_000;
        self.now.unix_ms += seconds * 1000;
        self.shard.tick(self.now);
        self.flush()
    }

    /// Passes all connections to another process, which gives them the same numbers.
    fn hand_over(&mut self, ids: &[Id]) {
        let frozen: Vec<_> = ids.iter().map(|id| self.shard.freeze(*id).unwrap()).collect();
        let mut state = Vec::new();
        handover::begin(&HandoverHeader::default(), &mut state);
        for session in frozen {
            let listener = ([127, 0, 0, 1], 80).into();
            let connection = FrozenConnection::new(0, listener, session);
            handover::write(&HandoverRecord::Connection(Box::new(connection)), &mut state);
        }
        let (settings, limits) = (Arc::clone(self.shard.settings()), *self.shard.limits());
        self.shard.give_away(ids.iter().copied(), self.now);
        assert!(self.shard.is_empty() && self.metrics.outbox_bytes.get() == 0);
        self.shard = Shard::new(settings, limits, Arc::clone(&self.metrics), self.now);
        let (_, mut rest) = handover::open(&state).unwrap();
        for id in ids {
            let (record, behind) = handover::read(rest).unwrap();
            let HandoverRecord::Connection(connection) = record else { panic!("{record:?}") };
            assert_eq!(self.shard.adopt(connection.session, self.now).unwrap().id, *id);
            rest = behind;
        }
    }

    fn ends(&self, end: Reason) -> u64 {
        self.metrics.ends[end as usize].get()
    }
}

/// An event of the cell with a text of this length.
fn event(length: usize) -> Arc<Publication> {
    let json = format!(r#"{{"Type":"t","Object":"o","Info":"{}"}}"#, "x".repeat(length));
    let mut publication = None;
    let publish = &mut |published| publication = Some(published);
    let mut intake = Intake::new(Kind::ALL.to_vec(), Arc::default());
    intake.take("event/c", json.as_bytes(), Now::default(), publish).unwrap();
    Arc::new(publication.unwrap())
}

#[test]
fn a_burst_of_one_turn_makes_nobody_slow_before_it_was_offered() {
    let mut stage = Stage::new(Limits::default());
    let id = stage.join();
    let publication = event(20_000);
    (0..64).for_each(|_| stage.deliver(&publication));
    assert!(stage.shard.turn_bytes() > 1_200_000, "the turn knows how much it holds");
    assert!(stage.flush().is_empty());
    assert_eq!(stage.wire[&id], publication.frame(0).repeat(64));
    assert_eq!(stage.ends(Reason::Slow), 0);
}

#[test]
fn an_event_larger_than_the_limit_of_an_outbox_reaches_whoever_reads() {
    let mut stage = Stage::new(Limits { outbox_bytes_max: 1000, ..Limits::default() });
    let id = stage.join();
    let publication = event(100_000);
    for _ in 0..3 {
        stage.deliver(&publication);
        stage.flush();
    }
    assert_eq!(stage.wire[&id], publication.frame(0).repeat(3));
}

/// Delivers to one who reads nothing and one who reads, until the first is too slow; hands both over after each so many
/// events. Both get what they get without a hand-over.
fn is_slow_alone(events_per_process: usize) {
    let mut stage = Stage::new(Limits::default());
    let (stuck, reader) = (stage.join(), stage.join());
    stage.room.insert(stuck, 1000);
    let publication = event(20_000);
    let mut events = 0;
    while stage.ends(Reason::Slow) == 0 {
        stage.deliver(&publication);
        stage.flush();
        events += 1;
        if events % events_per_process == 0 {
            stage.hand_over(&[stuck, reader]);
            stage.flush();
        }
        assert!(stage.metrics.outbox_bytes.get() as usize <= MIB);
    }
    assert_eq!(events, MIB / (publication.frame(0).len() + 32) + 1);
    assert_eq!(stage.wire[&reader], publication.frame(0).repeat(events));
    stage.room.insert(stuck, usize::MAX);
    stage.shard.writable(stuck);
    stage.flush();
    // The frame that had begun, in the first process, is finished in the last.
    let close = fanfare::frame::close(1013, "too slow");
    assert_eq!(stage.wire[&stuck], [publication.frame(0), &close].concat());
    assert_eq!(stage.metrics.outbox_bytes.get(), 0);
}

#[test]
fn a_client_that_reads_nothing_is_closed_alone_and_with_the_frame_that_had_begun() {
    is_slow_alone(usize::MAX);
}

#[test]
fn a_client_that_asks_for_more_than_it_reads_is_slow_by_its_own_answers() {
    let mut stage = Stage::new(Limits { outbox_bytes_max: 10_000, ..Limits::default() });
    let id = stage.join();
    for _ in 0..200 {
        stage.say(id, r#"{"state":"all"}"#);
    }
    assert_eq!(stage.ends(Reason::Slow), 1);
    stage.flush();
    assert_eq!(stage.wire[&id], fanfare::frame::close(1013, "too slow"));
}

#[test]
fn the_subscriptions_of_all_sessions_together_are_limited() {
    let mut stage = Stage::new(Limits { subscriptions_max: 2, ..Limits::default() });
    let (first, second, third) = (stage.join(), stage.join(), stage.join());
    assert_eq!(stage.ends(Reason::Limit), 1);
    assert_eq!(stage.shard.interest(first), stage.shard.interest(second));
    stage.shard.receive(third, Received::Close(b""), stage.now);
    assert_eq!(stage.flush(), [ConnectionEvent::Finished(third)]);
    stage.shard.lost(first, stage.now);
    let fourth = stage.join();
    stage.deliver(&event(1));
    stage.flush();
    assert!(stage.wire.contains_key(&second) && stage.wire.contains_key(&fourth));
    assert_eq!(stage.ends(Reason::Limit), 1);
}

#[test]
fn a_request_that_does_not_come_is_answered_408_and_ended() {
    let mut stage = Stage::new(Limits::default());
    let id = stage.shard.accept(stage.now);
    assert!(stage.wait(9).is_empty());
    assert_eq!(stage.wait(1), [ConnectionEvent::Finished(id)]);
    assert!(stage.wire[&id].starts_with(b"HTTP/1.1 408 "));
    assert_eq!(stage.wait(2), [ConnectionEvent::Gone(id)]);
    assert!(stage.shard.is_empty());
}

#[test]
fn a_close_is_over_when_the_peer_has_answered_or_after_its_time() {
    let mut stage = Stage::new(Limits::default());
    let (polite, rude) = (stage.join(), stage.join());
    stage.shard.drain(stage.now);
    assert!(stage.flush().is_empty());
    assert_eq!(stage.wire[&polite], fanfare::frame::close(1001, "the server is stopping"));
    assert_eq!(stage.ends(Reason::Drain), 2);
    assert_eq!(stage.shard.interest(polite), Interest::Controls, "its answer is read");
    stage.shard.receive(polite, Received::Text("what was on its way"), stage.now);
    stage.shard.receive(polite, Received::Close(&[3, 233]), stage.now);
    assert_eq!(stage.flush(), [ConnectionEvent::Finished(polite)]);
    assert_eq!(stage.shard.interest(polite), Interest::Nothing);
    stage.shard.lost(polite, stage.now);
    assert_eq!(stage.flush(), [ConnectionEvent::Gone(polite)]);
    assert_eq!(stage.wait(1), [ConnectionEvent::Gone(rude)]);
}

#[test]
fn a_stop_ends_a_part_of_the_sessions_at_a_time_and_the_last_requests_at_its_end() {
    let mut stage = Stage::new(Limits::default());
    let ids: Vec<Id> = (0..6).map(|_| stage.join()).collect();
    let newcomer = stage.shard.accept(stage.now);
    stage.shard.farewell(1, 3, stage.now);
    stage.flush();
    let close = fanfare::frame::close(1001, "the server is stopping");
    for &id in &ids {
        let told = stage.wire.get(&id).is_some_and(|told| *told == close);
        assert_eq!(told, id % 3 == 1, "{id}");
    }
    assert_eq!(stage.wait(1), [ConnectionEvent::Gone(1), ConnectionEvent::Gone(4)]);
    (0..3).for_each(|part| stage.shard.farewell(part, 3, stage.now));
    stage.flush();
    assert_eq!(stage.ends(Reason::Drain), 6, "each ends once");
    assert!(!stage.wire.contains_key(&newcomer), "its request may still come");
    stage.shard.drain(stage.now);
    stage.flush();
    assert!(stage.wire[&newcomer].starts_with(b"HTTP/1.1 503 "));
}

#[test]
fn a_client_that_reads_has_time_for_all_that_waits_when_the_daemon_stops() {
    let mut stage = Stage::new(Limits::default());
    let (deaf, slow) = (stage.join(), stage.join());
    for id in [deaf, slow] {
        stage.room.insert(id, 0);
    }
    let publication = event(1000);
    stage.deliver(&publication);
    stage.flush();
    stage.shard.drain(stage.now);
    stage.flush();
    let close = fanfare::frame::close(1001, "the server is stopping");
    let expected = [publication.frame(0), &close].concat();
    let mut gone = Vec::new();
    for _ in 0..expected.len().div_ceil(100) {
        stage.room.insert(slow, 100);
        stage.shard.writable(slow);
        stage.flush();
        gone.extend(
            stage.wait(0).into_iter().filter(|event| *event == ConnectionEvent::Gone(deaf)),
        );
        stage.now.monotonic_ns += 700_000_000;
    }
    assert_eq!(gone, [ConnectionEvent::Gone(deaf)]);
    assert!(stage.wire[&slow] == expected, "{} bytes", stage.wire[&slow].len());
    assert_eq!(stage.wait(1), [ConnectionEvent::Gone(slow)]);
}

#[test]
fn a_shard_that_is_cut_off_ends_a_part_of_its_sessions_at_a_time() {
    let mut stage = Stage::new(Limits::default());
    let ids: Vec<Id> = (0..6).map(|_| stage.join()).collect();
    stage.shard.isolate(1, 3, stage.now);
    stage.flush();
    let close = fanfare::frame::close(1000, "");
    for &id in &ids {
        let told = stage.wire.get(&id).is_some_and(|told| *told == close);
        assert_eq!(told, id % 3 == 1, "{id}");
    }
    stage.shard.isolate(1, 3, stage.now);
    assert_eq!(stage.ends(Reason::Outage), 2, "each ends once");
}

#[test]
fn a_client_that_reads_nothing_is_slow_in_the_next_process_when_it_would_have_been_in_this_one() {
    is_slow_alone(7);
}

#[test]
fn a_connection_whose_request_has_not_begun_keeps_its_time_in_the_next_process() {
    let mut stage = Stage::new(Limits::default());
    let id = stage.shard.accept(stage.now);
    stage.wait(6);
    stage.hand_over(&[id]);
    assert!(stage.shard.is_new(id) && stage.wait(3).is_empty());
    assert_eq!(stage.wait(1), [ConnectionEvent::Finished(id)]);
    assert!(stage.wire[&id].starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn what_cannot_go_on_elsewhere_is_not_frozen() {
    let mut stage = Stage::new(Limits::default());
    let (open, closing, body) = (stage.join(), stage.join(), stage.shard.accept(stage.now));
    assert!(stage.shard.is_settled());
    stage.deliver(&event(1));
    assert!(stage.shard.freeze(open).is_none() && !stage.shard.is_settled(), "within a turn");
    stage.flush();
    assert!(stage.shard.freeze(open).is_some() && stage.shard.is_settled());

    stage.shard.receive(closing, Received::Close(b""), stage.now);
    stage.shard.await_body(body, false, stage.now);
    stage.flush();
    assert!(stage.shard.freeze(closing).is_none() && stage.shard.freeze(body).is_none());
    assert!(stage.shard.freeze(99).is_none(), "no one");
}
