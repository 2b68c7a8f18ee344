//! Requests that wait for what the owner of the presence says: late answers, answers for others, and a stop meanwhile.

use super::rest::{Server, sign};
use super::{APP, SECRET};
use fanfare::dialect::{Kind, Request};
use fanfare::http::Persistence;
use fanfare::metrics::{Metrics, StatusClass};
use fanfare::outbox::Sent;
use fanfare::service::presence::{ChannelCounts, ChannelInquiry, PresenceAnswer, PresenceRequest};
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
        assert!(!self.request(id, "GET", "channels", ""), "it waits for an answer");
        self.asked(id).0
    }

    /// A signed request. Returns whether it is answered already.
    fn request(&mut self, id: Id, method: &str, path: &str, body: &str) -> bool {
        let target = sign(method, &format!("/apps/{APP}/{path}"), body, SECRET);
        let (path, query) = target.split_once('?').unwrap();
        let body = body.as_bytes();
        let request = Request { method, path, query, body, ..Request::default() };
        self.shard.serve(id, Kind::Echo, &request, Persistence::Stays, self.now)
    }

    /// What a connection's request asks, and where the answer is to go.
    fn asked(&mut self, id: Id) -> (ConnectionRef, ChannelInquiry) {
        assert!(self.shard.is_asked(id) && !self.shard.awaits_request(id));
        let (connection, question) = self.shard.take_questions().pop().unwrap();
        let Question::Presence(question) = question else { panic!("{question:?}") };
        let PresenceRequest::Inquire(inquiry) = question.request else { panic!("no inquiry") };
        assert_eq!(&*question.app, APP);
        (connection, inquiry)
    }

    /// Answers that this channel is occupied.
    fn reply(&mut self, connection: ConnectionRef, channel: &str) {
        let channel = ChannelCounts { name: channel.into(), subscriptions: 1, users: None };
        self.say(connection, PresenceAnswer::Channels(vec![channel]));
    }

    fn say(&mut self, connection: ConnectionRef, answer: PresenceAnswer) {
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

impl Stage {
    /// One of three shards of a node of a cluster.
    fn of_cluster() -> Self {
        let mut stage = Self::new();
        stage.shard = stage.shard.numbered(0, 3).clustered(true);
        stage
    }
}

#[test]
fn a_cluster_answers_a_question_about_many_channels_once_for_all_nodes() {
    let mut stage = Stage::of_cluster();
    let connection = stage.ask();
    stage.reply(connection, "room");
    assert!(stage.wait(0).0.ends_with("\r\n\r\n{\"channels\":{\"room\":{}}}"));
    assert_eq!(stage.counted(), [1, 0, 0]);
}

#[test]
fn a_question_that_not_every_node_has_answered_is_a_503_and_the_next_may_follow() {
    let mut stage = Stage::of_cluster();
    let connection = stage.ask();
    stage.say(connection, PresenceAnswer::Unavailable);
    let (written, events) = stage.wait(0);
    let body = "Not every node that had to answer has done so in time; try again.\n";
    assert_eq!(
        written,
        format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nRetry-After: 1\r\n\r\n{body}",
            body.len()
        )
    );
    assert_eq!((events, stage.counted()), (vec![ConnectionEvent::Ready(connection.id)], [0, 0, 1]));
    assert_eq!(stage.ask_again(connection.id), connection);
}

#[test]
fn what_was_published_is_not_refused_for_want_of_its_counts() {
    let event = r#"{"name":"e","data":"","channels":["a","b"],"info":"subscription_count"}"#;
    let batch = r#"{"batch":[{"name":"e","data":"","channel":"a","info":"subscription_count"}]}"#;
    for (path, body, answer) in [
        ("events", event, r#"{"channels":{"a":{},"b":{}}}"#),
        ("batch_events", batch, r#"{"batch":[{}]}"#),
    ] {
        let mut stage = Stage::of_cluster();
        let id = stage.shard.accept(stage.now);
        assert!(!stage.request(id, "POST", path, body));
        assert!(!stage.shard.take_outgoing().is_empty(), "it is on its way");
        let (connection, _) = stage.asked(id);
        stage.say(connection, PresenceAnswer::Unavailable);
        let written = stage.wait(0).0;
        assert!(written.starts_with("HTTP/1.1 200 ") && written.ends_with(answer), "{written}");
    }
}

#[test]
fn connections_are_counted_here_or_over_all_nodes() {
    let mut stage = Stage::new();
    let id = stage.shard.accept(stage.now);
    assert!(stage.request(id, "GET", "connections", ""), "nobody else is asked");
    assert!(stage.wait(0).0.ends_with("\r\n\r\n{\"connections\":0}"));

    let mut stage = Stage::of_cluster();
    let id = stage.shard.accept(stage.now);
    assert!(!stage.request(id, "GET", "connections", ""));
    let (connection, inquiry) = stage.asked(id);
    assert!(matches!(inquiry, ChannelInquiry::Connections(0)));
    stage.say(connection, PresenceAnswer::Connections(7));
    assert!(stage.wait(0).0.ends_with("\r\n\r\n{\"connections\":7}"));
}
