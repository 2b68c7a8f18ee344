//! What a verification promises, under a clock of the test's own: one request per token, answers for everybody, tokens
//! watched for as long as somebody lives on them, and nothing left behind.

#![allow(clippy::unwrap_used)]

mod handover;
mod reload;

use fanfare::metrics::Metrics;
use fanfare::service::verification::{
    Asker, CheckOutcome, TokenAnswer, TokenCheck, TokenChecks, VerifierChange,
};
use fanfare::service::{ConnectionRef, HttpReply};
use fanfare::token::{RemoteVerifier, Verifier};
use fanfare::wheel::Now;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

const START_S: u64 = 1_700_000_000;

/// A verification whose requests wait for the test to reply.
struct Stage {
    verification: TokenChecks,
    metrics: Arc<Metrics>,
    now: Now,
    requests: Vec<(String, TokenCheck)>,
}

fn remote(text: &str) -> Arc<RemoteVerifier> {
    let verifier = Verifier::new(&toml::from_str(text).unwrap(), None).unwrap();
    Arc::clone(verifier.remote().unwrap())
}

fn asker(number: u32) -> Asker {
    Asker {
        connection: ConnectionRef { shard: number as u16 % 3, id: number, serial: 0 },
        attempt: number,
    }
}

fn alive(left_s: u64) -> HttpReply {
    Ok((200, format!(r#"{{"active":true,"exp":{}}}"#, START_S + left_s).into_bytes()))
}

fn dead() -> HttpReply {
    Ok((200, br#"{"active":false}"#.to_vec()))
}

fn down() -> HttpReply {
    Err("nobody is there".into())
}

impl Stage {
    /// With the issuer as the verifier, and more of its settings.
    fn new(more: &str) -> Self {
        Self::before(&format!("introspection = {{ url = 'http://issuer.example'{more} }}"))
    }

    fn before(verifier: &str) -> Self {
        let metrics = Arc::new(Metrics::default());
        let verification = TokenChecks::new(remote(verifier), Arc::clone(&metrics.verification));
        let now = Now { monotonic_ns: 5_000_000_000, unix_ms: START_S * 1000 };
        Self { verification, metrics, now, requests: Vec::new() }
    }

    fn ask(&mut self, number: u32, token: &str) {
        self.verification.ask(asker(number), token, self.now);
        self.send();
    }

    fn forget(&mut self, number: u32) {
        self.verification.forget(asker(number), self.now);
        self.send();
    }

    fn send(&mut self) {
        while let Some((errand, request)) = self.verification.next_check(self.now) {
            let token = match request.body().strip_prefix("token=") {
                Some(form) => form.split('&').next().unwrap().to_owned(),
                None => format!("{} {}", request.method(), request.uri().path()),
            };
            self.requests.push((token, errand));
        }
    }

    /// Replies to the oldest request; returns its token.
    fn reply(&mut self, reply: HttpReply) -> String {
        let (token, errand) = self.requests.remove(0);
        self.verification.replied(errand, reply, self.now);
        self.send();
        token
    }

    /// Lets time pass, waking the verification whenever it wants to be.
    fn wait_ms(&mut self, milliseconds: u64) {
        let end_ns = self.now.monotonic_ns + milliseconds * 1_000_000;
        loop {
            let wakes_at_ns =
                self.verification.wakes_at_ns().map_or(end_ns, |at_ns| at_ns.min(end_ns));
            let step_ns =
                wakes_at_ns.saturating_sub(self.now.monotonic_ns).next_multiple_of(1_000_000);
            self.now.monotonic_ns += step_ns;
            self.now.unix_ms += step_ns / 1_000_000;
            self.verification.tick(self.now);
            self.send();
            if self.now.monotonic_ns >= end_ns {
                return;
            }
        }
    }

    fn wait_s(&mut self, seconds: u64) {
        self.wait_ms(seconds * 1000);
    }

    /// Who was told what: the numbers of those granted, refused (with why) and revoked.
    fn told(&mut self) -> Vec<(u32, String)> {
        let mut told: Vec<(u32, String)> =
            self.verification.take_answers().into_iter().map(describe).collect();
        told.sort();
        told
    }

    fn ruled(&self, outcome: CheckOutcome) -> u64 {
        self.metrics.verification.checks[outcome as usize].get()
    }

    #[track_caller]
    fn assert_nothing_is_left(&mut self) {
        self.wait_s(400);
        assert!(self.verification.is_empty(), "{} cases", self.verification.len());
        assert_eq!(self.verification.wakes_at_ns(), None);
        let metrics = &self.metrics;
        for gauge in [
            &metrics.verification.sessions,
            &metrics.verification.tokens_watched,
            &metrics.verification.requests_in_flight,
        ] {
            assert_eq!(gauge.get(), 0);
        }
    }
}

fn describe((asker, answer): (Asker, TokenAnswer)) -> (u32, String) {
    let what = match answer {
        TokenAnswer::Granted(_) => "granted".into(),
        TokenAnswer::Refused(refusal) => format!("{refusal:?}"),
        TokenAnswer::Revoked => "revoked".into(),
    };
    (asker.attempt, what)
}

fn all(numbers: &[u32], what: &str) -> Vec<(u32, String)> {
    numbers.iter().map(|number| (*number, what.to_owned())).collect()
}

#[test]
fn all_who_come_with_one_token_share_one_request() {
    let mut stage = Stage::new("");
    (1..=3).for_each(|number| stage.ask(number, "a"));
    assert_eq!(stage.requests.len(), 1);
    assert_eq!(stage.reply(alive(3600)), "a");
    assert_eq!(stage.told(), all(&[1, 2, 3], "granted"));
    stage.wait_s(9);
    stage.ask(4, "a");
    assert_eq!(stage.told(), all(&[4], "granted"));
    assert_eq!((stage.ruled(CheckOutcome::Granted), stage.ruled(CheckOutcome::Cached)), (3, 1));
    stage.wait_s(1);
    stage.ask(5, "a");
    assert_eq!(stage.requests.len(), 1, "what was said ten seconds ago is not passed on");
    stage.reply(alive(3600));
    assert_eq!(stage.told(), all(&[5], "granted"));
    (1..=5).for_each(|number| stage.forget(number));
    stage.assert_nothing_is_left();
}

#[test]
fn a_refusal_is_remembered_for_two_seconds_and_an_outage_not_at_all() {
    let mut stage = Stage::new("");
    stage.ask(1, "a");
    stage.reply(dead());
    stage.ask(2, "a");
    assert_eq!(stage.told(), all(&[1, 2], "Inactive"));
    stage.wait_s(2);
    stage.ask(3, "a");
    stage.reply(down());
    stage.ask(4, "a");
    stage.reply(alive(3600));
    assert_eq!(stage.told(), [(3, "Unavailable".to_owned()), (4, "granted".to_owned())]);
    stage.forget(4);
    stage.assert_nothing_is_left();
}

#[test]
fn a_grant_is_not_passed_on_beyond_its_expiry() {
    let mut stage = Stage::new("");
    stage.ask(1, "a");
    stage.reply(alive(5));
    stage.wait_ms(4_999);
    stage.ask(2, "a");
    stage.wait_ms(1);
    stage.ask(3, "a");
    stage.reply(alive(5));
    assert_eq!(
        stage.told(),
        [(1, "granted".to_owned()), (2, "granted".to_owned()), (3, "Expired".to_owned())]
    );
}

#[test]
fn a_doubted_grant_answers_nobody_else() {
    let mut stage = Stage::new("");
    (1..=2).for_each(|number| stage.ask(number, "a"));
    stage.reply(alive(3600));
    assert_eq!(stage.told(), all(&[1, 2], "granted"));
    stage.verification.doubt(asker(1));
    stage.forget(1);
    stage.ask(3, "a");
    stage.reply(dead());
    assert_eq!(stage.told(), [(2, "revoked".to_owned()), (3, "Inactive".to_owned())]);
    stage.verification.doubt(asker(4));
    stage.assert_nothing_is_left();
}

#[test]
fn requests_are_bounded_and_first_come_is_first_served() {
    let mut stage = Stage::new(", concurrency_max = 2");
    for (number, token) in (1..).zip(["a", "b", "c", "d", "e"]) {
        stage.ask(number, token);
    }
    assert_eq!(stage.requests.len(), 2);
    stage.forget(3);
    let served: Vec<String> = (0..4).map(|_| stage.reply(dead())).collect();
    assert_eq!(served, ["a", "b", "d", "e"], "nobody is asked about c, whose only client has gone");
    assert_eq!(stage.ruled(CheckOutcome::Forgotten), 1);
    stage.assert_nothing_is_left();
}

#[test]
fn a_client_that_leaves_takes_only_its_own_answer_along() {
    let mut stage = Stage::new("");
    (1..=2).for_each(|number| stage.ask(number, "a"));
    stage.forget(1);
    stage.reply(alive(3600));
    assert_eq!(stage.told(), all(&[2], "granted"));
    stage.forget(2);
    stage.forget(2);
    stage.ask(3, "b");
    stage.forget(3);
    stage.reply(alive(3600));
    assert!(stage.told().is_empty());
    stage.ask(4, "b");
    assert_eq!(stage.told(), all(&[4], "granted"), "what was asked for nobody serves the next");
    stage.forget(4);
    stage.assert_nothing_is_left();
}

#[test]
fn a_token_is_asked_about_again_once_for_all_its_sessions_and_until_its_expiry() {
    let mut stage = Stage::new(", recheck_s = 60");
    (1..=3).for_each(|number| stage.ask(number, "a"));
    stage.reply(alive(150));
    assert_eq!((stage.told().len(), stage.metrics.verification.tokens_watched.get()), (3, 1));
    for _ in 0..2 {
        stage.wait_s(59);
        assert!(stage.requests.is_empty());
        stage.wait_s(1);
        assert_eq!(stage.requests.len(), 1);
        stage.reply(alive(150));
    }
    stage.wait_s(1000);
    assert!(stage.requests.is_empty() && stage.told().is_empty());
    (1..=3).for_each(|number| stage.forget(number));
    stage.assert_nothing_is_left();
}

#[test]
fn a_dead_token_is_taken_back_from_all_and_refused_to_newcomers() {
    let mut stage = Stage::new(", recheck_s = 60");
    (1..=2).for_each(|number| stage.ask(number, "a"));
    stage.reply(alive(3600));
    stage.told();
    stage.wait_s(20);
    stage.ask(3, "a");
    stage.reply(dead());
    let told = [(1, "revoked".to_owned()), (2, "revoked".to_owned()), (3, "Inactive".to_owned())];
    assert_eq!(stage.told(), told);
    stage.assert_nothing_is_left();
}

#[test]
fn a_token_that_is_only_confirmed_grants_what_it_did_before() {
    let mut stage = Stage::before(
        "wazo_auth = { url = 'http://pbx.example', auth_check = 'static', auth_check_interval_s = 30 }",
    );
    let data = r#""acl":["a"],"session_uuid":"s","utc_expires_at":"2023-11-14T22:15:00""#;
    let body = format!(r#"{{"data":{{{data},"metadata":{{"uuid":"u","tenant_uuid":"t"}}}}}}"#);
    stage.ask(1, "a");
    assert_eq!(stage.reply(Ok((200, body.into_bytes()))), "GET /0.1/token/a");
    stage.wait_s(30);
    stage.ask(2, "a");
    assert_eq!(stage.reply(Ok((204, vec![]))), "HEAD /0.1/token/a");
    assert_eq!(stage.told(), all(&[1, 2], "granted"));
    stage.wait_s(30);
    assert_eq!(stage.reply(Ok((404, vec![]))), "HEAD /0.1/token/a");
    assert_eq!(stage.told(), all(&[1, 2], "revoked"));
    stage.assert_nothing_is_left();
}

#[test]
fn what_has_expired_is_not_taken_back() {
    let mut stage = Stage::new(", cache_s = 0");
    stage.ask(1, "a");
    stage.reply(alive(10));
    stage.wait_s(10);
    stage.ask(2, "a");
    stage.reply(dead());
    assert_eq!(stage.told(), [(1, "granted".to_owned()), (2, "Inactive".to_owned())]);
    stage.forget(1);
    stage.assert_nothing_is_left();
}

#[test]
fn a_grant_that_has_changed_is_taken_back_and_given_anew() {
    let mut stage = Stage::new("");
    stage.ask(1, "a");
    stage.reply(alive(3600));
    stage.told();
    stage.wait_s(20);
    stage.ask(2, "a");
    let changed = format!(r#"{{"active":true,"exp":{},"scope":"less"}}"#, START_S + 3600);
    stage.reply(Ok((200, changed.into_bytes())));
    assert_eq!(stage.told(), [(1, "revoked".to_owned()), (2, "granted".to_owned())]);
    stage.forget(2);
    stage.assert_nothing_is_left();
}

#[test]
fn a_verifier_that_cannot_be_asked_again_has_a_grace() {
    let mut stage = Stage::new(", recheck_s = 60, grace_s = 20, timeout_ms = 1000");
    (1..=2).for_each(|number| stage.ask(number, "a"));
    stage.reply(alive(3600));
    stage.told();
    stage.wait_s(60);
    stage.reply(down());
    stage.wait_s(5);
    stage.reply(alive(3600));
    assert!(stage.told().is_empty(), "it was back in time");
    stage.forget(1);
    stage.wait_s(60);
    let mut requests = 0;
    for _ in 0..20 {
        while !stage.requests.is_empty() {
            stage.reply(down());
            requests += 1;
        }
        assert!(stage.told().is_empty());
        stage.wait_s(1);
    }
    assert_eq!(requests, 4, "one every five seconds");
    stage.reply(down());
    stage.wait_s(1);
    assert_eq!(stage.told(), all(&[2], "revoked"));
    stage.assert_nothing_is_left();
}

#[test]
fn a_newcomer_who_cannot_be_answered_does_not_cost_the_others_their_session() {
    let mut stage = Stage::new(", recheck_s = 60, grace_s = 0");
    stage.ask(1, "a");
    stage.reply(alive(3600));
    stage.told();
    stage.wait_s(30);
    stage.ask(2, "a");
    stage.reply(down());
    assert_eq!(stage.told(), all(&[2], "Unavailable"));
    stage.wait_s(29);
    assert!(stage.requests.is_empty());
    stage.wait_s(1);
    stage.reply(alive(3600));
    assert!(stage.told().is_empty());
}

#[test]
fn a_failing_verifier_gets_one_request_at_a_time_until_it_answers() {
    let mut stage = Stage::new(", timeout_ms = 1000");
    (1..=3).for_each(|number| stage.ask(number, &format!("t{number}")));
    (1..=3).for_each(|_| drop(stage.reply(down())));
    (11..=30).for_each(|number| stage.ask(number, &format!("t{number}")));
    assert_eq!(stage.requests.len(), 0, "a pause");
    stage.wait_ms(250);
    assert_eq!(stage.requests.len(), 1, "one that tries");
    stage.reply(down());
    stage.wait_ms(250);
    assert_eq!((stage.requests.len(), stage.told().len()), (1, 4));
    stage.reply(alive(3600));
    assert_eq!(stage.requests.len(), 18, "all the others at once");
    (0..18).for_each(|_| drop(stage.reply(alive(3600))));
    assert_eq!(stage.told().len(), 19);
    assert_eq!(
        stage.verification.take_changes(),
        [VerifierChange::Fails("nobody is there".into()), VerifierChange::Works],
        "two lines in the log for 24 requests"
    );
}

#[test]
fn who_waits_for_a_failing_verifier_is_refused_within_the_timeout() {
    let mut stage = Stage::new(", timeout_ms = 1000, concurrency_max = 4");
    (1..=100).for_each(|number| stage.ask(number, &format!("t{number}")));
    assert_eq!(stage.requests.len(), 4);
    stage.wait_ms(1000);
    assert!(stage.told().is_empty(), "it may be slow only");
    while !stage.requests.is_empty() {
        stage.reply(down());
    }
    stage.wait_ms(1000);
    let told = stage.told();
    assert_eq!(told.len(), 99, "all but the one that is tried");
    assert!(told.iter().all(|(_, what)| what == "Unavailable"));
    stage.reply(down());
    stage.assert_nothing_is_left();
}

#[test]
fn who_waits_for_a_slow_verifier_waits_longer() {
    let mut stage = Stage::new(", timeout_ms = 1000, concurrency_max = 1");
    (1..=20).for_each(|number| stage.ask(number, &format!("t{number}")));
    for _ in 0..12 {
        stage.wait_ms(900);
        stage.reply(alive(3600));
    }
    let told = stage.told();
    let granted = told.iter().filter(|(_, what)| what == "granted").count();
    assert!((11..=12).contains(&granted) && told.len() == 20, "{told:?}");
}

#[test]
fn clients_and_rechecks_take_turns() {
    let mut stage = Stage::new(", concurrency_max = 1, recheck_s = 60");
    for number in 1..=3 {
        stage.ask(number, &format!("old{number}"));
        stage.reply(alive(3600));
        stage.wait_ms(1);
    }
    stage.wait_s(60);
    (11..=13).for_each(|number| stage.ask(number, &format!("new{number}")));
    let order: Vec<String> = (0..6).map(|_| stage.reply(alive(3600))).collect();
    assert_eq!(order, ["old1", "new11", "old2", "new12", "old3", "new13"]);
}

#[test]
fn a_verifier_that_answers_every_other_time_does_not_fill_the_log() {
    let mut stage = Stage::new("");
    for number in 1..=100 {
        stage.ask(number, &format!("t{number}"));
        stage.reply(if number % 2 == 0 { dead() } else { Ok((500, vec![])) });
        stage.wait_ms(50);
    }
    let news = stage.verification.take_changes();
    assert_eq!(
        news,
        [VerifierChange::Fails("it answered with status 500".into()), VerifierChange::Works]
    );
}

#[test]
fn answers_that_nobody_holds_are_kept_in_bounded_number() {
    let mut stage = Stage::new("");
    for number in 1..=12_000 {
        stage.ask(number, &format!("t{number}"));
        stage.reply(dead());
    }
    assert!((10_000..=10_001).contains(&stage.verification.len()), "{}", stage.verification.len());
    stage.assert_nothing_is_left();
}

#[test]
fn who_gets_a_remembered_grant_is_asked_about_when_that_is_too_old_to_be_passed_on() {
    let mut stage = Stage::new(", recheck_s = 3600, cache_s = 10");
    stage.ask(1, "a");
    stage.reply(alive(100_000));
    stage.forget(1);
    stage.wait_s(9);
    (2..=3).for_each(|number| stage.ask(number, "a"));
    assert_eq!(stage.told(), all(&[1, 2, 3], "granted"));
    stage.wait_s(1);
    assert_eq!(stage.requests.len(), 1, "it may have died between the answer and their coming");
    stage.reply(dead());
    assert_eq!(stage.told(), all(&[2, 3], "revoked"));
    stage.assert_nothing_is_left();
}

#[test]
fn a_newcomer_who_gives_up_does_not_keep_the_grace_of_the_others_from_running() {
    let mut stage =
        Stage::new(", recheck_s = 60, grace_s = 20, timeout_ms = 1000, concurrency_max = 4");
    stage.ask(1, "a");
    stage.reply(alive(3600));
    stage.wait_s(50);
    stage.told();
    // Four requests hang, and more wait behind them than will ever be tried.
    (11..=14).for_each(|number| stage.ask(number, &format!("t{number}")));
    (1..=4).for_each(|_| drop(stage.reply(down())));
    (21..=24).for_each(|number| stage.ask(number, &format!("t{number}")));
    stage.wait_ms(250);
    assert_eq!(stage.requests.len(), 1, "the one that tries, and hangs");
    stage.ask(2, "a");
    stage.wait_s(2);
    assert!(stage.told().contains(&(2, "Unavailable".into())));
    stage.wait_s(29);
    assert_eq!(stage.told(), all(&[1], "revoked"), "its grace has run out");
    stage.reply(down());
    stage.assert_nothing_is_left();
}

#[test]
fn a_verifier_that_is_only_slow_costs_nobody_the_session() {
    let mut stage =
        Stage::new(", recheck_s = 60, grace_s = 5, timeout_ms = 1000, concurrency_max = 1");
    for number in 1..=20 {
        stage.ask(number, &format!("t{number}"));
        stage.reply(alive(3600));
    }
    stage.told();
    stage.wait_s(60);
    for _ in 0..20 {
        stage.wait_ms(900);
        stage.reply(alive(3600));
    }
    assert!(
        stage.told().is_empty(),
        "all were confirmed, though the last waited 18 s for its turn"
    );
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Ask(u8),
    Forget(usize),
    HttpReply(u8),
    Wait(u64),
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6).prop_map(Step::Ask),
        3 => any::<usize>().prop_map(Step::Forget),
        4 => (0u8..4).prop_map(Step::HttpReply),
        2 => (0u64..90_000).prop_map(Step::Wait),
        1 => Just(Step::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everybody_is_answered_once_and_nothing_is_left(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let rules = ", concurrency_max = 3, recheck_s = 30, grace_s = 40, timeout_ms = 1000";
        let mut stage = Stage::new(rules);
        // What the askers expect: `false` while they wait, `true` once they have been granted.
        let mut open: HashMap<u32, bool> = HashMap::new();
        let mut last = 0;
        for step in steps {
            match step {
                Step::Ask(token) => {
                    last += 1;
                    open.insert(last, false);
                    stage.ask(last, &format!("t{token}"));
                }
                Step::Forget(which) if !open.is_empty() => {
                    let mut numbers: Vec<u32> = open.keys().copied().collect();
                    numbers.sort_unstable();
                    let number = numbers[which % numbers.len()];
                    open.remove(&number);
                    stage.forget(number);
                }
                Step::HttpReply(kind) if !stage.requests.is_empty() => {
                    let reply = [alive(100_000), dead(), down(), Ok((500, vec![]))];
                    stage.reply(reply.into_iter().nth(kind.into()).unwrap());
                }
                Step::Wait(milliseconds) => stage.wait_ms(milliseconds),
                Step::Reload => {
                    let again = format!("introspection = {{ url = 'http://issuer.example'{rules} }}");
                    stage.verification.configure(remote(&again), stage.now);
                }
                Step::Forget(_) | Step::HttpReply(_) => {}
            }
            let under_way: BTreeSet<&String> = stage.requests.iter().map(|(token, _)| token).collect();
            prop_assert!(stage.requests.len() <= 3 && under_way.len() == stage.requests.len());
            for (number, what) in stage.told() {
                match what.as_str() {
                    "granted" => prop_assert_eq!(open.insert(number, true), Some(false)),
                    "revoked" => prop_assert_eq!(open.remove(&number), Some(true)),
                    _ => prop_assert_eq!(open.remove(&number), Some(false)),
                }
            }
            prop_assert_eq!(stage.metrics.verification.sessions.get(), open.len() as u64);
        }
        while !stage.requests.is_empty() {
            stage.reply(dead());
        }
        for (number, what) in stage.told() {
            if what != "granted" { open.remove(&number); }
        }
        open.into_keys().for_each(|number| stage.forget(number));
        stage.assert_nothing_is_left();
    }
}
