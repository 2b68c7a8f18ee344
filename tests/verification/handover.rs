//! A verification that goes on in another process.

use super::*;
use fanfare::service::NewRefs;
use fanfare::service::verification::FrozenToken;

/// The reference of a client's connection in the next process.
fn moved(number: u32) -> Asker {
    let Asker { connection, attempt } = asker(number);
    Asker { connection: ConnectionRef { serial: 1, ..connection }, attempt }
}

impl Stage {
    /// Everything, written down and read by another process, which gets the connections of these clients, and has
    /// these settings.
    fn handed_over(&self, passed: &[u32], more: &str) -> Self {
        self.handed_over_to(Self::new(more), passed)
    }

    fn handed_over_to(&self, next: Self, passed: &[u32]) -> Self {
        let mut refs = NewRefs::default();
        passed.iter().for_each(|number| {
            refs.put(asker(*number).connection, moved(*number).connection);
        });
        let mut next = Self { now: self.now, ..next };
        for token in self.verification.export() {
            let written = serde_json::to_string(&token).unwrap();
            let read: FrozenToken = serde_json::from_str(&written).unwrap();
            next.verification.import(read, &refs, next.now);
        }
        next.send();
        next
    }
}

#[test]
fn sessions_that_rely_on_a_token_go_on_and_it_is_checked_again_when_it_would_have_been() {
    let mut stage = Stage::new(", recheck_s = 60");
    (1..=3).for_each(|number| stage.ask(number, "a"));
    stage.ask(4, "b");
    stage.reply(alive(3600));
    stage.reply(alive(3600));
    stage.told();
    stage.wait_s(40);

    let mut next = stage.handed_over(&[1, 2, 4], ", recheck_s = 60");
    assert!(next.requests.is_empty() && next.told().is_empty(), "no one hears of it");
    let verification = &next.metrics.verification;
    assert_eq!((verification.sessions.get(), verification.tokens_watched.get()), (3, 2));
    next.wait_ms(19_999);
    assert!(next.requests.is_empty());
    next.wait_ms(1);
    let mut asked = [next.reply(dead()), next.reply(alive(3600))];
    asked.sort();
    assert_eq!(asked, ["a", "b"]);
    let told = next.told();
    assert!(told == all(&[1, 2], "revoked") || told == all(&[4], "revoked"), "{told:?}");

    [1, 2, 4].into_iter().for_each(|number| next.verification.forget(moved(number), next.now));
    next.assert_nothing_is_left();
}

#[test]
fn an_open_question_is_asked_again() {
    let mut stage = Stage::new("");
    (1..=2).for_each(|number| stage.ask(number, "a"));
    stage.ask(3, "b");
    let mut next = stage.handed_over(&[1, 3], "");
    assert_eq!(next.requests.len(), 2);
    let tokens: BTreeSet<String> = (0..2).map(|_| next.reply(alive(3600))).collect();
    assert_eq!(tokens.len(), 2);
    assert_eq!(next.told(), all(&[1, 3], "granted"));
    [1, 3].into_iter().for_each(|number| next.verification.forget(moved(number), next.now));
    next.assert_nothing_is_left();
}

#[test]
fn a_grant_serves_those_who_have_to_come_back_unless_another_verifier_is_asked_now() {
    let mut stage = Stage::new("");
    stage.ask(1, "a");
    stage.reply(alive(3600));
    let mut next = stage.handed_over(&[], "");
    assert!(next.requests.is_empty());
    next.ask(5, "a");
    assert_eq!(next.told(), all(&[5], "granted"));
    next.forget(5);
    next.assert_nothing_is_left();

    let other = Stage::before("introspection = { url = 'http://other.example' }");
    let mut next = stage.handed_over_to(other, &[]);
    next.ask(5, "a");
    assert_eq!(next.requests.len(), 1);
}

#[test]
fn a_state_that_is_none_of_ours_leaves_nothing_behind() {
    let mut stage = Stage::new("");
    stage.ask(1, "a");
    stage.reply(alive(3600));
    let token = stage.verification.export().next().unwrap();
    let json = serde_json::to_string(&token).unwrap();
    let mut refs = NewRefs::default();
    refs.put(asker(1).connection, moved(1).connection);

    let mut next = Stage { now: stage.now, ..Stage::new("") };
    let strange = json.replace(r#""token":"a""#, r#""token":"b""#);
    assert_ne!(strange, json);
    for text in [&strange, &json, &json] {
        let read: FrozenToken = serde_json::from_str(text).unwrap();
        next.verification.import(read, &refs, next.now);
    }
    assert_eq!((next.verification.len(), next.metrics.verification.sessions.get()), (1, 1));
    // What another release does not write has a value all the same.
    let old = format!(r#"{{"digest":{:?},"token":"","host":"","grant":null}}"#, [0; 32]);
    next.verification.import(serde_json::from_str(&old).unwrap(), &refs, next.now);
    next.verification.forget(moved(1), next.now);
    next.assert_nothing_is_left();
}
