//! Requests that wait for what the owner of the presence says: late answers, answers for others, and a stop meanwhile.

use super::rest::{Server, sign};
use super::{APP, SECRET};
use fanfare::dialect::{Kind, Request};
use fanfare::http::Persistence;
use fanfare::metrics::{Metrics, StatusClass};
use fanfare::outbox::Sent;
use fanfare::service::presence::{ChannelCounts, PresenceAnswer, PresenceRequest};
use fanfare::service::{Answer, ConnectionRef, Question};
use fanfare::shard::{ConnectionEvent, Id, Limits, Shard};
use fanfare::wheel::Now;
use std::sync::Arc;

/// A shard of which one connection is watched.
struct Stage {
    shard: Shard,
    metrics: Arc<Metrics>,
    now: Now,
}

impl Stage {
    fn new() -> Self {
        let now = Now { monotonic_ns: 1_000_000_000, unix_ms: 1_700_000_000_000 };
        let metrics = Arc::<Metrics>::default();
        let settings = Arc::new(Server::new(|_| {}).settings);
        let shard =
            Shard::new(settings, Limits::default(), Arc::clone(&metrics), now).numbered(3, 1);
        Self { shard, metrics, now }
    }

    /// A new connection asks for the channels. Returns where the answer is to go.
    fn ask(&mut self) -> ConnectionRef {
        let id = self.shard.accept(self.now);
        self.ask_again(id)
    }

    fn ask_again(&mut self, id: Id) -> ConnectionRef {
        let target = sign("GET", &format!("/apps/{APP}/channels"), "", SECRET);
        let (path, query) = target.split_once('?').unwrap();
        let request = Request { method: "GET", path, query, body: b"", ..Request::default() };
        assert!(!self.shard.serve(id, Kind::Echo, &request, Persistence::Stays, self.now));
        assert!(self.shard.is_asked(id) && !self.shard.awaits_request(id));
        let (connection, question) = self.shard.take_questions().pop().unwrap();
        let Question::Presence(question) = question else { panic!("{question:?}") };
        assert!(&*question.app == APP && matches!(question.request, PresenceRequest::Inquire(_)));
        connection
    }

    /// Answers that this channel is occupied.
    fn reply(&mut self, connection: ConnectionRef, channel: &str) {
        let channel = ChannelCounts { name: channel.into(), subscriptions: 1, users: None };
        let answer = PresenceAnswer::Channels(vec![channel]);
        self.shard.answer(connection, Answer::Presence(answer), self.now);
    }

    /// Lets time pass; returns what is written, and what becomes of connections.
    fn wait(&mut self, seconds: u64) -> (String, Vec<ConnectionEvent>) {
        self.now.monotonic_ns += seconds * 1_000_000_000;
        self.shard.tick(self.now);
        let mut written = Vec::new();
        self.shard.flush(self.now, &mut |_: u32, bytes: &[u8]| {
            written.extend_from_slice(bytes);
            Sent::Bytes(bytes.len())
        });
        (String::from_utf8(written).unwrap(), self.shard.take_events().collect())
    }

    fn counted(&self) -> [u64; 3] {
        [StatusClass::Done, StatusClass::Refused, StatusClass::Failed]
            .map(|class| self.metrics.requests[Kind::Echo as usize][class as usize].get())
    }
}

#[test]
fn an_answer_that_does_not_come_is_a_503_and_too_late_afterwards() {
    let mut stage = Stage::new();
    let connection = stage.ask();
    assert_eq!((stage.wait(9), stage.counted()), ((String::new(), vec![]), [0, 0, 0]));
    let (written, events) = stage.wait(1);
    assert!(
        written.starts_with("HTTP/1.1 503 ") && written.contains("Connection: close\r\n"),
        "{written}"
    );
    assert_eq!(
        (events, stage.counted()),
        (
            vec![ConnectionEvent::Ready(connection.id), ConnectionEvent::Finished(connection.id)],
            [0, 0, 1]
        )
    );
    stage.reply(connection, "late");
    assert_eq!(stage.wait(0), (String::new(), vec![]));
    assert_eq!(stage.wait(2).1, [ConnectionEvent::Gone(connection.id)]);
}

#[test]
fn an_answer_for_a_connection_that_has_gone_is_not_the_next_ones() {
    let mut stage = Stage::new();
    let gone = stage.ask();
    stage.shard.lost(gone.id, stage.now);
    let next = stage.ask();
    assert_eq!((gone.id, gone.shard), (next.id, next.shard), "the number is used again");
    stage.reply(gone, "the-first-ones");
    assert_eq!(stage.wait(0), (String::new(), vec![ConnectionEvent::Gone(gone.id)]));
    stage.reply(next, "its-own");
    let (written, events) = stage.wait(0);
    assert!(
        written.starts_with("HTTP/1.1 200 ")
            && written.ends_with("\r\n\r\n{\"channels\":{\"its-own\":{}}}"),
        "{written}"
    );
    assert!(!written.contains("Connection:"), "{written}");
    assert_eq!((events, stage.counted()), (vec![ConnectionEvent::Ready(next.id)], [1, 0, 0]));
    assert_eq!(stage.ask_again(next.id), next);
}

#[test]
fn a_stop_lets_an_answer_come_and_then_ends_the_connection() {
    let mut stage = Stage::new();
    let connection = stage.ask();
    stage.shard.drain(stage.now);
    assert_eq!(stage.wait(1), (String::new(), vec![]));
    stage.reply(connection, "room");
    let (written, events) = stage.wait(0);
    assert!(
        written.starts_with("HTTP/1.1 200 ") && written.contains("Connection: close\r\n"),
        "{written}"
    );
    assert!(events.contains(&ConnectionEvent::Finished(connection.id)), "{events:?}");
}

#[test]
fn an_answer_of_several_owners_is_whole_and_in_the_order_of_the_names() {
    let mut stage = Stage::new();
    stage.shard = stage.shard.numbered(0, 3);
    let connection = stage.ask();
    for (channel, written) in
        [("b", ""), ("c", ""), ("a", r#"{"channels":{"a":{},"b":{},"c":{}}}"#)]
    {
        stage.reply(connection, channel);
        let text = stage.wait(0).0;
        assert_eq!(text.split_once("\r\n\r\n").map_or("", |(_, body)| body), written);
    }
    assert_eq!(stage.counted(), [1, 0, 0]);
}
