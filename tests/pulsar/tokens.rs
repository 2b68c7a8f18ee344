//! Who may come: any good token, in the header or in the query.

use super::*;
use fanfare::shard::{Answer, Question, Ticket};
use fanfare::token::{Grant, Judge, NEVER_MS, Refusal as Refused, Verdict};

const TOKENS: &str = r#"
    [[token]]
    token = "good"
    sub = "ann"
    [[token]]
    token = "old"
    expires_at = 1518612600
    [[token]]
    token = "minute"
    expires_at = 1518612660
"#;

fn stage() -> Stage {
    Stage::of(|settings| settings.judge = Some(judge(TOKENS)))
}

#[test]
fn a_good_token_of_header_or_query_opens_everything() {
    for (authorization, query) in [
        ("Bearer good", ""),
        ("Bearer good", "?token=bad"),
        ("", "?token=good"),
        ("", "?token=Bearer+good"),
        ("", "?token=good&token=bad"),
    ] {
        for path in [PRODUCER_1, CONSUMER_1, READER_1, PRODUCER_2, CONSUMER_2, READER_2] {
            let mut stage = stage();
            stage.bus.authorization = authorization;
            stage.joins("x", &format!("{path}{query}"));
        }
    }
}

#[test]
fn without_a_good_token_nothing_is_asked_and_nothing_told() {
    for (authorization, query) in [
        ("", ""),
        ("", "?token="),
        ("", "?token=bad"),
        ("", "?token=old"),
        ("", "?Token=good"),
        ("Bearer bad", "?token=good"),
        ("Basic Z29vZA==", "?token=good"),
        ("good", ""),
        ("Bearer ", ""),
    ] {
        let mut stage = stage();
        stage.bus.authorization = authorization;
        for path in [PRODUCER_2, CONSUMER_2, READER_2, "/ws/v3/consumer/s"] {
            let (status, said) = stage.refused(&format!("{path}{query}"));
            assert_eq!(
                (status.as_str(), said.as_str()),
                ("401 end", "Failed to authenticate"),
                "{path}{query}"
            );
        }
        for path in [PRODUCER_1, CONSUMER_1, READER_1] {
            assert!(stage.comes("x", &format!("{path}{query}")).is_none());
            assert_eq!(stage.bus.heard("x"), ["101", "close 4005 Failed to authenticate client"]);
        }
        assert_eq!(stage.asked_in_words(), "");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_told_only_to_who_may_come() {
    let mut stage = stage();
    let path = format!("{PRODUCER_2}?hashingScheme=x");
    assert_eq!(stage.refused(&path).0, "401 end");
    assert_eq!(stage.refused(&format!("{path}&token=good")).0, "400 end");
}

#[test]
fn a_token_is_looked_at_once() {
    let mut stage = stage();
    stage.joins("x", &format!("{CONSUMER_2}?token=minute"));
    stage.bus.wait(200);
    let heard = stage.bus.heard("x");
    assert!(heard.iter().all(|said| said.starts_with("ping")), "{heard:?}");
}

/// Somebody comes with a token that is judged far away.
fn asks_far_away(path: &str) -> (Stage, Ticket) {
    let settings = toml::from_str("introspection = { url = 'http://issuer.example' }").unwrap();
    let mut stage = Stage::of(|pulsar| pulsar.judge = Some(Judge::new(&settings, None).unwrap()));
    assert!(stage.comes("x", &format!("{path}?token=far")).is_none());
    assert!(stage.bus.heard("x").is_empty());
    let mut questions = stage.bus.shard.take_questions();
    match questions.pop() {
        Some(Question::Judge(ticket, KIND, token)) if &*token == "far" => (stage, ticket),
        _ => panic!("nobody is asked"),
    }
}

fn answer(stage: &mut Stage, ticket: Ticket, answer: Answer) {
    stage.bus.shard.answer(ticket, answer, stage.bus.now);
    stage.bus.flush();
}

#[test]
fn a_judge_far_away_is_waited_for() {
    let granted = || Answer::Judged(Verdict::Granted(Grant::new(NEVER_MS, Default::default())));
    for path in [PRODUCER_1, CONSUMER_2] {
        let (mut stage, ticket) = asks_far_away(path);
        answer(&mut stage, ticket, granted());
        let (seat, _) = stage.bus.shard.take_requests().pop().unwrap();
        stage.told(seat, Reply::Opened);
        assert_eq!(stage.bus.heard("x"), ["101"]);
        answer(&mut stage, ticket, granted());
        assert_eq!(stage.asked_in_words(), "", "judged again, it asks for nothing again");
        answer(&mut stage, ticket, Answer::Revoked);
        assert_eq!(stage.bus.heard("x"), ["close 4005 Failed to authenticate client"]);
        assert_eq!(stage.asked_in_words(), "Gone");
    }
    for (refusal, status) in [(Refused::Inactive, "401"), (Refused::Unavailable, "503")] {
        let (mut stage, ticket) = asks_far_away(PRODUCER_2);
        answer(&mut stage, ticket, Answer::Judged(Verdict::Refused(refusal)));
        assert_eq!(stage.bus.heard("x"), [status, "end"]);
        assert!(stage.refusal("x").starts_with("Failed to authenticate"));
        let (mut stage, ticket) = asks_far_away(PRODUCER_1);
        answer(&mut stage, ticket, Answer::Judged(Verdict::Refused(refusal)));
        assert_eq!(stage.bus.heard("x"), ["101", "close 4005 Failed to authenticate client"]);
        assert_eq!(stage.asked_in_words(), "");
    }
}

#[test]
fn a_token_that_is_taken_back_before_the_owner_has_answered_opens_nothing() {
    for (path, heard) in [
        (PRODUCER_2, vec!["401", "end"]),
        (PRODUCER_1, vec!["101", "close 4005 Failed to authenticate client"]),
    ] {
        let (mut stage, ticket) = asks_far_away(path);
        answer(
            &mut stage,
            ticket,
            Answer::Judged(Verdict::Granted(Grant::new(NEVER_MS, Default::default()))),
        );
        let (seat, _) = stage.bus.shard.take_requests().pop().unwrap();
        answer(&mut stage, ticket, Answer::Revoked);
        stage.told(seat, Reply::Opened);
        assert_eq!(stage.bus.heard("x"), heard);
        assert_eq!(stage.asked_in_words(), "Gone");
    }
}
