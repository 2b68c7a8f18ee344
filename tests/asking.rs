//! What a shard promises about verifiers that answer later, or never, or too late.

#![allow(clippy::unwrap_used)]

use fanfare::dialect::{Kind, Settings, Upgrade, personium};
use fanfare::frame;
use fanfare::message::Received;
use fanfare::metrics::Metrics;
use fanfare::outbox::Sent;
use fanfare::reason::Reason;
use fanfare::service::verification::{Asker, TokenAnswer, TokenQuestion};
use fanfare::service::{Answer, DialectId, Question};
use fanfare::shard::{Id, Limits, Shard};
use fanfare::token::{Grant, Refusal, Verifier};
use fanfare::wheel::Now;
use std::collections::HashMap;
use std::sync::Arc;

const VERIFIER: DialectId = Kind::PersoniumEvent.id();

/// A shard whose tokens are verified elsewhere.
struct Stage {
    shard: Shard,
    metrics: Arc<Metrics>,
    now: Now,
    wire: HashMap<Id, Vec<u8>>,
}

impl Stage {
    fn new() -> Self {
        let now = Now { monotonic_ns: 1_000_000_000, unix_ms: 1_518_612_600_000 };
        let metrics = Arc::new(Metrics::default());
        let token = toml::from_str("introspection = { url = 'http://issuer.example' }").unwrap();
        let verifier = Some(Verifier::new(&token, None).unwrap());
        let personium = personium::PersoniumSettings { verifier, ..Default::default() };
        let settings = Arc::new(Settings { personium, ..Default::default() });
        let shard = Shard::new(settings, Limits::default(), Arc::clone(&metrics), now);
        Self { shard, metrics, now, wire: HashMap::new() }
    }

    fn open(&mut self) -> Id {
        let id = self.shard.accept(self.now);
        let upgrade = Upgrade { path: "/c/__event", ..Upgrade::default() };
        assert!(self.shard.upgrade(id, &upgrade, Kind::ALL, b"HTTP/1.1 101\r\n\r\n", self.now));
        self.flush();
        self.wire.remove(&id);
        id
    }

    fn show(&mut self, id: Id, token: &str) {
        let text = format!(r#"{{"access_token":"{token}"}}"#);
        self.shard.receive(id, Received::Text(&text), self.now);
    }

    /// Shows a token; returns the ticket of the one question about it.
    fn ask(&mut self, id: Id, token: &str) -> Asker {
        self.show(id, token);
        match self.shard.take_questions().pop() {
            Some((
                connection,
                Question::Token(TokenQuestion::Verify { dialect: VERIFIER, attempt, token: asked }),
            )) if &*asked == token => Asker { connection, attempt },
            _ => panic!("not asked about {token}"),
        }
    }

    fn answer(&mut self, ticket: Asker, answer: TokenAnswer) {
        self.shard.answer(ticket.connection, Answer::Token(ticket.attempt, answer), self.now);
    }

    fn grant(&mut self, ticket: Asker) {
        let claims = serde_json::json!({ "aud": "c", "scope": "event" });
        let grant = Grant::new(self.now.unix_ms + 60_000, claims.as_object().unwrap().clone());
        self.answer(ticket, TokenAnswer::Granted(grant));
    }

    fn refuse(&mut self, ticket: Asker) {
        self.answer(ticket, TokenAnswer::Refused(Refusal::Unavailable));
    }

    fn lose(&mut self, id: Id) {
        self.shard.lost(id, self.now);
        self.flush();
    }

    fn flush(&mut self) {
        let wire = &mut self.wire;
        self.shard.flush(self.now, &mut |id: Id, bytes: &[u8]| {
            wire.entry(id).or_default().extend_from_slice(bytes);
            Sent::Bytes(bytes.len())
        });
        self.shard.take_events().for_each(drop);
    }

    /// What a connection has been sent since the last call.
    fn sent(&mut self, id: Id) -> Vec<u8> {
        self.flush();
        self.wire.remove(&id).unwrap_or_default()
    }

    /// The tickets that are to be forgotten; nothing else is asked.
    fn forgotten(&mut self) -> Vec<Asker> {
        let questions = self.shard.take_questions().into_iter();
        let forgotten = questions.map(|(connection, question)| match question {
            Question::Token(TokenQuestion::Forget { attempt }) => Asker { connection, attempt },
            question => panic!("{question:?}"),
        });
        forgotten.collect()
    }
}

fn is_greeting(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x81) && String::from_utf8_lossy(bytes).contains("expires_in")
}

#[test]
fn a_session_waits_for_the_answer_and_then_begins_or_ends() {
    let mut stage = Stage::new();
    let (good, bad) = (stage.open(), stage.open());
    let (granted, refused) = (stage.ask(good, "a"), stage.ask(bad, "b"));
    assert!(stage.sent(good).is_empty() && stage.sent(bad).is_empty());
    stage.grant(granted);
    stage.refuse(refused);
    assert!(is_greeting(&stage.sent(good)));
    assert_eq!(stage.sent(bad), frame::close(1000, ""));
    assert!(stage.forgotten().is_empty(), "who refuses has forgotten by himself");
    stage.lose(good);
    stage.lose(bad);
    assert_eq!(stage.forgotten(), [granted]);
}

#[test]
fn an_answer_for_a_session_that_has_gone_reaches_nobody_not_even_the_next_of_its_number() {
    let mut stage = Stage::new();
    let first = stage.open();
    let late = stage.ask(first, "a");
    stage.lose(first);
    assert_eq!(stage.forgotten(), [late]);
    stage.grant(late);
    let second = stage.open();
    assert_eq!(second, first, "the number is used again");
    stage.grant(late);
    stage.answer(late, TokenAnswer::Revoked);
    assert!(stage.sent(second).is_empty());
    let own = stage.ask(second, "a");
    stage.grant(late);
    assert!(stage.sent(second).is_empty());
    stage.grant(own);
    assert!(is_greeting(&stage.sent(second)));
}

#[test]
fn a_second_token_is_asked_about_when_the_first_is_judged_and_takes_its_place() {
    let mut stage = Stage::new();
    let id = stage.open();
    let first = stage.ask(id, "a");
    stage.show(id, "b");
    assert!(stage.shard.take_questions().is_empty());
    stage.grant(first);
    assert!(is_greeting(&stage.sent(id)));
    let mut questions = stage.shard.take_questions().into_iter();
    let forgotten = questions.next().unwrap();
    assert!(
        matches!(forgotten.1, Question::Token(TokenQuestion::Forget { attempt }) if attempt == first.attempt)
    );
    let Some((connection, Question::Token(TokenQuestion::Verify { attempt, token, .. }))) =
        questions.next()
    else {
        panic!("not asked")
    };
    let second = Asker { connection, attempt };
    assert!(&*token == "b" && second != first && questions.next().is_none());
    stage.answer(first, TokenAnswer::Revoked);
    assert!(stage.sent(id).is_empty(), "the first token matters no more");
    stage.grant(second);
    assert!(is_greeting(&stage.sent(id)));
}

#[test]
fn a_token_that_is_taken_back_ends_the_session_that_lives_on_it_and_no_later_one() {
    let mut stage = Stage::new();
    let id = stage.open();
    let first = stage.ask(id, "a");
    stage.grant(first);
    assert!(is_greeting(&stage.sent(id)));
    let second = stage.ask(id, "b");
    stage.answer(first, TokenAnswer::Revoked);
    stage.grant(second);
    assert!(is_greeting(&stage.sent(id)));
    stage.answer(first, TokenAnswer::Revoked);
    assert!(stage.sent(id).is_empty());
    stage.answer(second, TokenAnswer::Revoked);
    assert_eq!(stage.sent(id), frame::close(1000, ""));
    stage.forgotten();
    stage.answer(second, TokenAnswer::Revoked);
    assert!(stage.sent(id).is_empty());
}

#[test]
fn what_no_verifier_would_grant_is_refused_without_asking() {
    let mut stage = Stage::new();
    let id = stage.open();
    stage.show(id, "");
    assert!(stage.shard.take_questions().is_empty());
    assert_eq!(stage.sent(id), frame::close(1000, ""));
}

#[test]
fn a_shard_holds_its_clients_back_until_its_questions_are_taken() {
    let mut stage = Stage::new();
    let id = stage.open();
    assert!(!stage.shard.holds_back());
    stage.show(id, "a");
    assert!(stage.shard.holds_back());
    assert_eq!(stage.shard.take_questions().len(), 1);
    assert!(!stage.shard.holds_back());
}

#[test]
fn an_outage_of_a_dialect_ends_its_sessions_and_newcomers_until_it_is_over() {
    let mut stage = Stage::new();
    let (asked, idle) = (stage.open(), stage.open());
    let ticket = stage.ask(asked, "a");
    let outage = Some((1011, "bus connection lost"));
    stage.shard.outage(Kind::PersoniumEvent, outage, stage.now);
    let close = frame::close(1011, "bus connection lost");
    assert_eq!((stage.sent(asked), stage.sent(idle)), (close.to_vec(), close.to_vec()));
    assert_eq!(stage.forgotten(), [ticket]);
    stage.grant(ticket);
    assert!(stage.sent(asked).is_empty());
    let newcomer = stage.shard.accept(stage.now);
    let upgrade = Upgrade { path: "/c/__event", ..Upgrade::default() };
    assert!(stage.shard.upgrade(newcomer, &upgrade, Kind::ALL, b"101 ", stage.now));
    assert_eq!(stage.sent(newcomer), [b"101 ", &close[..]].concat());
    assert_eq!(stage.metrics.ends[Reason::Outage as usize].get(), 3);
    stage.shard.outage(Kind::PersoniumEvent, None, stage.now);
    let id = stage.open();
    let ticket = stage.ask(id, "a");
    stage.grant(ticket);
    assert!(is_greeting(&stage.sent(id)));
}
