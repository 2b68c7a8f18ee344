//! What is said while a remote verifier is being asked: nothing is lost and nothing overtakes the token.
//!
//! The session is talked to directly, as a shard would, since the verifiers of the other tests answer at once.

use super::*;
use fanfare::dialect::{
    Action, Actions, AnyDialect, Context, Input, Kind, PerShard, Rng, Settings, Upgrade,
};
use fanfare::event::Parser;
use fanfare::frame::Draft;
use fanfare::retained::Retained;
use fanfare::service::verification::{TokenAnswer, TokenQuestion};
use fanfare::service::{Answer, Question};
use fanfare::token::{Grant, Refusal};
use fanfare::wheel::Now;

struct Talk {
    session: Option<AnyDialect>,
    settings: Settings,
    shared: PerShard,
}

impl Talk {
    fn open(query: &str) -> (Self, Vec<String>) {
        let mut talk =
            Self { session: None, settings: Settings::default(), shared: PerShard::default() };
        let upgrade = Upgrade { path: "/", query, ..Upgrade::default() };
        let done =
            talk.act(|session, context, out| *session = Kind::Wazo.open(&upgrade, context, out));
        (talk, done)
    }

    fn act(
        &mut self,
        act: impl FnOnce(&mut Option<AnyDialect>, &mut Context<'_>, &mut Actions),
    ) -> Vec<String> {
        let mut out = Actions::default();
        let mut rng: Rng = Box::new(|| 0);
        let mut context = Context {
            now: Now { monotonic_ns: 0, unix_ms: NOW_S * 1000 },
            settings: &self.settings,
            parser: &mut Parser::default(),
            draft: &mut Draft::default(),
            shared: &mut self.shared,
            retained: &Retained::default(),
            rng: &mut rng,
        };
        act(&mut self.session, &mut context, &mut out);
        out.list.iter().map(|action| show(action, &out)).filter(|shown| !shown.is_empty()).collect()
    }

    fn tell(&mut self, input: Input<'_>) -> Vec<String> {
        self.act(|session, context, out| session.as_mut().unwrap().handle(input, context, out))
    }

    fn say(&mut self, text: &str) -> Vec<String> {
        self.tell(Input::Text(text))
    }

    /// The verifier's answer: a user with this uuid may do everything.
    fn grant(&mut self, user: &str) -> Vec<String> {
        self.tell(Input::Answer(Answer::Token(0, TokenAnswer::Granted(grant(user)))))
    }

    fn refuse(&mut self) -> Vec<String> {
        self.tell(Input::Answer(Answer::Token(0, TokenAnswer::Refused(Refusal::UnknownToken))))
    }
}

fn grant(user: &str) -> Grant {
    let serde_json::Value::Object(claims) = serde_json::json!({"acl": ["#"], "sub": user}) else {
        panic!()
    };
    Grant::new((NOW_S + 100) * 1000, claims)
}

/// An action as the tests write it; those that matter here.
fn show(action: &Action, out: &Actions) -> String {
    let text = |range: &std::ops::Range<u32>| String::from_utf8_lossy(out.get(range)).into_owned();
    match action {
        // The header of these frames has two bytes.
        Action::Send(range) => text(&(range.start + 2..range.end)),
        Action::Close(code, reason) => format!("close {code} {reason}").trim_end().to_owned(),
        Action::Ask(Question::Token(TokenQuestion::Verify { token, .. })) => {
            format!("verify {token}")
        }
        Action::Subscribe(prefix, _) => format!("subscribe {:?}", text(prefix)),
        _ => String::new(),
    }
}

const SUBSCRIBE: &str = r#"{"op":"subscribe","data":{"event_name":"a"}}"#;
const SUBSCRIBED: &str = r#"{"op": "subscribe", "code": 0, "data": null}"#;
const START: &str = r#"{"op":"start"}"#;
const STARTED: &str = r#"{"op": "start", "code": 0, "data": null}"#;
const INIT_2: &str = r#"{"op": "init", "code": 0, "data": {"version": 2}}"#;
const TOKEN: &str = r#"{"op": "token", "code": 0, "data": null}"#;
const FAILED: &str = "close 4002 authentication failed";
const EXPIRED: &str = "close 4003 authentication expired";

fn token(name: &str) -> String {
    format!(r#"{{"op":"token","data":{{"token":"{name}"}}}}"#)
}

#[test]
fn nothing_is_said_before_the_token_is_judged_and_then_all_in_order() {
    let (mut talk, done) = Talk::open("token=t&version=2");
    assert_eq!(done, ["verify t"]);
    assert_eq!(talk.say(SUBSCRIBE), [""; 0]);
    assert_eq!(talk.say(START), [""; 0]);
    assert_eq!(talk.grant("u"), [INIT_2, "subscribe \"wa\\0\"", SUBSCRIBED, STARTED]);
    assert_eq!(talk.say(START), [STARTED]);
}

#[test]
fn a_refused_token_counts_before_what_was_said_meanwhile() {
    for early in ["nonsense", START] {
        let (mut talk, _) = Talk::open("token=t");
        assert_eq!(talk.say(early), [""; 0]);
        assert_eq!(talk.tell(Input::Binary(b"x")), [""; 0]);
        assert_eq!(talk.refuse(), [FAILED]);
    }
    let (mut talk, _) = Talk::open("token=t&version=2");
    talk.say(SUBSCRIBE);
    talk.tell(Input::Binary(b"x"));
    assert_eq!(talk.grant("u"), [INIT_2, "subscribe \"wa\\0\"", SUBSCRIBED, "close 4004"]);
}

#[test]
fn a_second_token_is_waited_for_too() {
    let (mut talk, _) = Talk::open("token=t&version=2");
    talk.say(&token("one"));
    talk.say(SUBSCRIBE);
    talk.say(&token("two"));
    talk.say(START);
    assert_eq!(talk.grant("u"), [INIT_2, "verify one"]);
    assert_eq!(talk.grant("u"), [TOKEN, "subscribe \"wa\\0\"", SUBSCRIBED, "verify two"]);
    assert_eq!(talk.say(SUBSCRIBE), [""; 0]);
    assert_eq!(talk.grant("u"), [TOKEN, STARTED, SUBSCRIBED]);
    assert_eq!(talk.say(&token("three")), ["verify three"]);
    assert_eq!(talk.refuse(), [FAILED]);
}

#[test]
fn early_messages_are_bounded_in_number_and_size() {
    let (mut talk, _) = Talk::open("token=t&version=2");
    for _ in 0..256 {
        assert_eq!(talk.say(START), [""; 0]);
    }
    assert_eq!(talk.say(START), ["close 4004"]);
    let (mut talk, _) = Talk::open("token=t&version=2");
    let long = format!(r#"{{"op":"start","x":"{}"}}"#, "x".repeat(16 * 1024 - 21));
    assert_eq!(long.len(), 16 * 1024);
    assert_eq!([talk.say(&long), talk.say(&long)], [[""; 0]; 2]);
    assert_eq!(talk.say(START), ["close 4004"]);
}

#[test]
fn a_verifier_that_is_asked_again_may_change_the_grant_or_take_it_back() {
    let (mut talk, _) = Talk::open("token=t&version=2");
    assert_eq!(talk.grant("u"), [INIT_2]);
    assert_eq!(talk.grant("v"), [""; 0]);
    assert_eq!(talk.refuse(), [EXPIRED]);
    let (mut talk, _) = Talk::open("token=t&version=2");
    talk.grant("u");
    assert_eq!(talk.tell(Input::Answer(Answer::Token(0, TokenAnswer::Revoked))), [EXPIRED]);
}

#[test]
fn a_grant_that_has_ended_when_it_comes_is_none() {
    let (mut talk, _) = Talk::open("token=t");
    let mut late = grant("u");
    late.expires_at_ms = NOW_S * 1000;
    assert_eq!(
        talk.tell(Input::Answer(Answer::Token(0, TokenAnswer::Granted(late.clone())))),
        [FAILED]
    );
    let (mut talk, _) = Talk::open("token=t");
    talk.grant("u");
    assert_eq!(talk.tell(Input::Answer(Answer::Token(0, TokenAnswer::Granted(late)))), [EXPIRED]);
}
