//! What a shard promises to the owner of the topics and to its connections: nobody is forgotten, nobody is mistaken for
//! another, a receipt is given when everything has left, and who is slow with deliveries is left to that owner.

#![allow(clippy::unwrap_used)]

use fanfare::dialect::{Kind, Settings, Upgrade, pulsar};
use fanfare::message::Received;
use fanfare::metrics::Metrics;
use fanfare::outbox::Sent;
use fanfare::reason::Reason;
use fanfare::service::topic::{
    Cause, MessageDraft, Position, Recipient, StoredMessage, TopicAnswer, TopicDelivery,
    TopicMessage, TopicQuestion, TopicRefusal,
};
use fanfare::service::{Answer, ConnectionRef, Question};
use fanfare::shard::{ConnectionEvent, Id, Limits, Shard};
use fanfare::wheel::Now;
use std::collections::HashMap;
use std::sync::Arc;

const CONSUMER: &str = "/ws/v2/consumer/persistent/t/n/x/s";

/// A shard whose sockets take everything, unless a room is set for one.
struct Stage {
    shard: Shard,
    metrics: Arc<Metrics>,
    now: Now,
    room: HashMap<Id, usize>,
    wire: HashMap<Id, Vec<u8>>,
}

impl Stage {
    fn new() -> Self {
        let now = Now { monotonic_ns: 1_000_000_000, unix_ms: 1_518_612_600_000 };
        let metrics = Arc::new(Metrics::default());
        let pulsar = pulsar::PulsarSettings { anonymous: true, ..Default::default() };
        let settings = Arc::new(Settings { pulsar, ..Settings::default() });
        let shard =
            Shard::new(settings, Limits::default(), Arc::clone(&metrics), now).numbered(3, 4);
        Self { shard, metrics, now, room: HashMap::new(), wire: HashMap::new() }
    }

    /// A connection that has asked to be a consumer, and has not been answered.
    fn ask(&mut self) -> ConnectionRef {
        let id = self.shard.accept(self.now);
        let upgrade = Upgrade { path: CONSUMER, remote: "127.0.0.1:5", ..Default::default() };
        assert!(self.shard.upgrade(id, &upgrade, Kind::ALL, b"HTTP/1.1 101\r\n\r\n", self.now));
        let mut requests = self.shard.take_questions();
        let (connection, request) = requests.pop().unwrap();
        assert!(requests.is_empty() && (connection.shard, connection.id) == (3, id));
        assert!(
            matches!(request, Question::Topic(TopicQuestion::Consume(consuming)) if &*consuming.remote == "127.0.0.1:5")
        );
        connection
    }

    /// A consumer.
    fn join(&mut self) -> ConnectionRef {
        let connection = self.ask();
        self.shard.answer(connection, Answer::Topic(TopicAnswer::Opened), self.now);
        self.flush();
        assert!(self.wire.remove(&connection.id).unwrap().starts_with(b"HTTP/1.1 101"));
        assert!(!self.shard.has_questions());
        connection
    }

    fn deliver(&mut self, length: usize, recipients: &[(ConnectionRef, bool)]) {
        let payload = vec![b'x'; length];
        let draft =
            MessageDraft::new(&TopicMessage { payload: &payload, ..TopicMessage::default() });
        let message: Arc<StoredMessage> = Arc::new(draft.store(Position::FIRST, 0, 0));
        let recipient = |(connection, wants_receipt): &(ConnectionRef, bool)| Recipient {
            connection: *connection,
            redeliveries: 0,
            partition: None,
            wants_receipt: *wants_receipt,
        };
        let delivery =
            TopicDelivery { message, recipients: recipients.iter().map(recipient).collect() };
        self.shard.take_delivery(&delivery, self.now);
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

    /// What was asked since the last call: who and a word for what.
    fn asked(&mut self) -> Vec<(ConnectionRef, &'static str)> {
        let word = |request: &TopicQuestion| match request {
            TopicQuestion::Gone => "gone",
            TopicQuestion::Took => "took",
            TopicQuestion::Ack(_) => "ack",
            TopicQuestion::Probed { is_closing: true } => "ends",
            TopicQuestion::Probed { is_closing: false } => "lives",
            _ => "other",
        };
        let questions = self.shard.take_questions();
        let worded = questions.iter().map(|(connection, question)| match question {
            Question::Topic(question) => (*connection, word(question)),
            question => panic!("{question:?}"),
        });
        worded.collect()
    }
}

#[test]
fn whoever_has_asked_and_goes_is_gone_for_the_owner_too_however_far_it_had_come() {
    let mut stage = Stage::new();
    let asking = stage.ask();
    stage.shard.lost(asking.id, stage.now);
    assert_eq!(stage.asked(), [(asking, "gone")]);
    let refused = stage.ask();
    let refusal = TopicRefusal { cause: Cause::Busy, reason: "there is another".into() };
    stage.shard.answer(refused, Answer::Topic(TopicAnswer::Refused(refusal)), stage.now);
    assert!(
        stage.asked().iter().all(|(connection, word)| *connection == refused && *word == "gone")
    );
    stage.flush();
    assert!(stage.wire.remove(&refused.id).unwrap().starts_with(b"HTTP/1.1 409 "));
    let open = stage.join();
    stage.shard.lost(open.id, stage.now);
    assert_eq!(stage.asked(), [(open, "gone")]);
    let closing = stage.join();
    stage.shard.receive(closing.id, Received::Close(&[]), stage.now);
    assert_eq!(
        stage.asked(),
        [(closing, "gone")],
        "when the peer says so, not when the socket is closed"
    );
    stage.flush();
    stage.shard.lost(closing.id, stage.now);
    assert!(stage.asked().is_empty(), "and once");
}

#[test]
fn whether_a_peer_lives_is_looked_at_where_its_socket_is_and_told_after_its_end() {
    let mut stage = Stage::new();
    let connection = stage.join();
    for (is_closing, word) in [(false, "lives"), (true, "ends")] {
        stage.shard.answer(connection, Answer::Topic(TopicAnswer::Probe), stage.now);
        assert_eq!(stage.flush(), [ConnectionEvent::Probe(connection.id)]);
        stage.shard.probed(connection.id, is_closing, stage.now);
        assert_eq!(stage.asked(), [(connection, word)]);
    }
    stage.shard.answer(connection, Answer::Topic(TopicAnswer::Probe), stage.now);
    stage.shard.receive(connection.id, Received::Close(&[]), stage.now);
    stage.shard.probed(connection.id, false, stage.now);
    assert_eq!(stage.asked(), [(connection, "gone")], "its end says all");
    stage.flush();
    stage.shard.lost(connection.id, stage.now);
    stage.shard.answer(connection, Answer::Topic(TopicAnswer::Probe), stage.now);
    assert!(!stage.flush().contains(&ConnectionEvent::Probe(connection.id)));
}

#[test]
fn what_is_for_a_connection_that_has_gone_does_not_reach_the_next_with_its_number() {
    let mut stage = Stage::new();
    let first = stage.join();
    stage.shard.lost(first.id, stage.now);
    stage.flush();
    stage.asked();
    let second = stage.ask();
    assert!(second.id == first.id && second.serial != first.serial);
    stage.shard.answer(first, Answer::Topic(TopicAnswer::Opened), stage.now);
    stage.deliver(1, &[(first, true)]);
    stage.flush();
    assert!(
        stage.wire.get(&second.id).is_none_or(Vec::is_empty),
        "neither the answer nor the message"
    );
    assert!(stage.asked().is_empty());
    stage.shard.answer(second, Answer::Topic(TopicAnswer::Opened), stage.now);
    stage.flush();
    assert!(stage.wire[&second.id].starts_with(b"HTTP/1.1 101"));
}

#[test]
fn a_receipt_is_given_when_everything_has_left() {
    let mut stage = Stage::new();
    let (stuck, reader) = (stage.join(), stage.join());
    stage.room.insert(stuck.id, 10);
    stage.deliver(1000, &[(stuck, false), (reader, false)]);
    stage.flush();
    assert!(stage.asked().is_empty(), "nobody has asked for one");
    stage.deliver(1000, &[(stuck, true), (reader, true)]);
    stage.flush();
    assert_eq!(stage.asked(), [(reader, "took")]);
    stage.room.insert(stuck.id, usize::MAX);
    stage.shard.writable(stuck.id);
    stage.flush();
    assert_eq!(stage.asked(), [(stuck, "took")]);
    assert_eq!(stage.wire[&stuck.id], stage.wire[&reader.id]);
    assert_eq!(stage.metrics.deliveries[Kind::Pulsar as usize].get(), 4);
}

#[test]
fn a_receipt_is_given_in_the_next_process_too_when_everything_has_left() {
    let mut stage = Stage::new();
    let (stuck, reader) = (stage.join(), stage.join());
    stage.room.insert(stuck.id, 10);
    stage.deliver(1000, &[(stuck, true), (reader, true)]);
    stage.flush();
    assert_eq!(stage.asked(), [(reader, "took")]);
    let frozen = [stuck, reader].map(|old| stage.shard.freeze(old.id).unwrap());
    let mut next = Stage::new();
    let [stuck, reader] = frozen.map(|session| next.shard.adopt(session, next.now).unwrap());
    next.room.insert(stuck.id, 10);
    next.flush();
    assert_eq!(next.asked(), [(reader, "took")], "it has nothing left, whatever was said of it");
    next.room.insert(stuck.id, usize::MAX);
    next.shard.writable(stuck.id);
    next.flush();
    assert_eq!(next.asked(), [(stuck, "took")]);
}

#[test]
fn what_leaves_after_the_end_is_given_no_receipt() {
    let mut stage = Stage::new();
    let stuck = stage.join();
    stage.room.insert(stuck.id, 10);
    stage.deliver(1000, &[(stuck, true)]);
    stage.flush();
    stage.shard.receive(stuck.id, Received::Close(&[]), stage.now);
    assert_eq!(stage.asked(), [(stuck, "gone")]);
    stage.room.insert(stuck.id, usize::MAX);
    stage.shard.writable(stuck.id);
    stage.flush();
    assert_eq!(stage.asked(), [], "gone was the last");
}

#[test]
fn who_has_not_read_what_was_delivered_is_not_cut_off_for_a_ping_but_for_leaving_answers_unread() {
    let mut stage = Stage::new();
    let stuck = stage.join();
    stage.room.insert(stuck.id, 10);
    stage.deliver(1024 * 1024, &[(stuck, true)]);
    stage.flush();
    stage.shard.receive(stuck.id, Received::Ping(b"x"), stage.now);
    stage.flush();
    assert_eq!(stage.metrics.ends[Reason::Slow as usize].get(), 0);
    let mut asked = 0;
    while stage.metrics.ends[Reason::Slow as usize].get() == 0 {
        stage.shard.receive(stuck.id, Received::Ping(&[b'x'; 125]), stage.now);
        stage.flush();
        asked += 1;
        assert!(asked < 100_000, "its answers are kept without end");
    }
    assert_eq!(stage.asked(), [(stuck, "gone")]);
}

#[test]
fn a_stop_closes_sessions_and_tells_the_owner_that_they_are_gone() {
    let mut stage = Stage::new();
    let (open, asking) = (stage.join(), stage.ask());
    stage.shard.drain(stage.now);
    let mut gone = stage.asked();
    gone.sort_by_key(|(connection, _)| connection.id);
    assert_eq!(gone, [(open, "gone"), (asking, "gone")]);
    stage.flush();
    assert_eq!(stage.wire[&open.id], fanfare::frame::close(1001, "the server is stopping"));
    assert!(stage.wire[&asking.id].starts_with(b"HTTP/1.1 503 "));
    stage.shard.answer(asking, Answer::Topic(TopicAnswer::Opened), stage.now);
    stage.deliver(1, &[(open, true)]);
    stage.flush();
    assert!(stage.asked().is_empty(), "what comes late finds nobody");
}
