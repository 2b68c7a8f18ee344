//! Who may come, with a token in the header or in the query; what its claims let it do, and when it ends.

use super::*;
use fanfare::service::topic::Rights;
use fanfare::service::verification::{Asker, TokenAnswer, TokenQuestion};
use fanfare::service::{Answer, DialectId, Question};
use fanfare::token::{Grant, NEVER_MS, Refusal as Refused, Verifier};

const VERIFIER: DialectId = KIND.id();

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
    [[token]]
    token = "hour"
    expires_at = 1518616200
    [[token]]
    token = "consumer"
    pulsar_consume = ["t/n/x", "my-property/us-west/*"]
    [[token]]
    token = "producer"
    pulsar_produce = ["t/n/*", "my-property/us-west/my-ns/my-topic1"]
    [[token]]
    token = "reader"
    pulsar_read = "*/*/*"
"#;

fn stage() -> Stage {
    Stage::of(|settings| settings.verifier = Some(verifier(TOKENS)))
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

/// What a client says to go on with another token.
fn response(token: &str) -> String {
    format!(
        r#"{{"type":"AUTH_RESPONSE","authResponse":{{"clientVersion":"v0","protocolVersion":0,"response":{{"authMethodName":"token","authData":"{token}"}}}}}}"#
    )
}

#[test]
fn claims_say_what_a_token_is_for() {
    let first = [PRODUCER_1, CONSUMER_1, READER_1];
    let later = [PRODUCER_2, CONSUMER_2, READER_2];
    for (token, may) in [
        ("producer", [true, false, false]),
        ("consumer", [false, true, false]),
        ("reader", [false, false, true]),
    ] {
        for (at, may) in may.into_iter().enumerate() {
            let mut stage = stage();
            let path = format!("{}?token={token}", later[at]);
            if may {
                stage.joins("x", &path);
                stage.joins("y", &format!("{}?token={token}", first[at]));
            } else {
                assert_eq!(
                    stage.refused(&path),
                    ("403 end".into(), "Not authorized".into()),
                    "{path}"
                );
                assert!(stage.comes("x", &format!("{}?token={token}", first[at])).is_none());
                assert_eq!(
                    stage.bus.heard("x"),
                    ["101", "close 4006 Client is not authorized"],
                    "{path}"
                );
                assert_eq!(stage.asked_in_words(), "");
            }
        }
    }
}

#[test]
fn claims_name_topics_and_all_that_a_request_names_are_looked_at() {
    let mut stage = stage();
    for (path, status) in [
        ("/ws/v2/consumer/persistent/t/n/x/s", "101"),
        ("/ws/v2/consumer/non-persistent/t/n/x/s", "101"),
        ("/ws/v2/consumer/persistent/t/n/x-partition-0/s", "101"),
        ("/ws/v2/consumer/persistent/t/n/y/s", "403"),
        ("/ws/v2/consumer/persistent/t/m/x/s", "403"),
        ("/ws/consumer/persistent/my-property/us-east/my-ns/my-topic1/s", "403"),
        ("/ws/v3/consumer/s?topics=t/n/x", "101"),
        ("/ws/v3/consumer/s?topics=t/n/x,t/n/y", "403"),
        ("/ws/v3/consumer/s?topicsPattern=t/n/.*", "101"),
        ("/ws/v3/consumer/s?topicsPattern=t/m/.*", "403"),
        // Its own topic for dead letters is written by the daemon, any other by whoever may.
        ("/ws/v2/consumer/persistent/t/n/x/s?maxRedeliverCount=1", "101"),
        ("/ws/v2/consumer/persistent/t/n/x/s?maxRedeliverCount=1&deadLetterTopic=t/n/x", "403"),
    ] {
        let token = if path.contains('?') { "&token=consumer" } else { "?token=consumer" };
        let asked = stage.comes("x", &format!("{path}{token}"));
        if let Some((connection, _)) = asked {
            stage.told(connection, TopicAnswer::Opened);
        }
        let heard = stage.bus.heard("x");
        let is_first = path.starts_with("/ws/consumer") && status == "403";
        let expected = if is_first { "close 4006 Client is not authorized" } else { status };
        assert!(heard.iter().any(|said| said == expected), "{path}: {heard:?}");
    }
}

#[test]
fn a_pattern_is_narrowed_to_what_may_be_consumed() {
    let mut stage = stage();
    let path = "/ws/v3/consumer/s?topicsPattern=t/n/.*&token=";
    let Some((_, TopicQuestion::Consume(consuming))) = stage.comes("x", &format!("{path}consumer"))
    else {
        panic!()
    };
    assert_eq!(
        consuming.rights,
        Some(Box::new(Rights::new([], ["t/n/x", "my-property/us-west/*"], [])))
    );
    let Some((_, TopicQuestion::Consume(consuming))) = stage.comes("y", &format!("{path}good"))
    else {
        panic!()
    };
    assert_eq!(consuming.rights, None);
}

#[test]
fn what_a_token_without_claims_is_for_is_configured() {
    let mut stage = Stage::of(|settings| {
        settings.verifier = Some(verifier(TOKENS));
        settings.default_rights = pulsar::DefaultRights::None;
    });
    for path in [PRODUCER_2, CONSUMER_2, READER_2] {
        assert_eq!(stage.refused(&format!("{path}?token=good")).0, "403 end", "{path}");
    }
    stage.joins("x", &format!("{CONSUMER_2}?token=consumer"));
}

#[test]
fn a_session_ends_with_its_token() {
    for path in [PRODUCER_1, CONSUMER_2, READER_2, "/ws/v2/consumer/non-persistent/t/n/x/s"] {
        let mut stage = stage();
        stage.joins("x", &format!("{path}?token=minute"));
        stage.bus.wait(59);
        let heard = stage.bus.heard("x");
        assert!(heard.iter().all(|said| said.starts_with("ping")), "{heard:?}");
        stage.bus.wait(2);
        let heard = stage.bus.heard("x");
        let close = "close 4005 Failed to authenticate client: the token has expired";
        assert_eq!(heard.last().map(String::as_str), Some(close), "{path}");
        assert_eq!(stage.asked_in_words(), "Gone");
    }
}

#[test]
fn nothing_is_taken_from_a_client_whose_token_has_ended() {
    let mut stage = stage();
    stage.joins("x", &format!("{PRODUCER_2}?token=minute"));
    // Before the wheel has come to it.
    stage.bus.now.monotonic_ns += 61_000_000_000;
    stage.bus.now.unix_ms += 61_000;
    let heard = stage.says("x", r#"{"payload":""}"#);
    assert_eq!(heard, ["close 4005 Failed to authenticate client: the token has expired"]);
    assert_eq!(stage.asked_in_words(), "Gone");
}

#[test]
fn the_next_token_comes_over_the_connection() {
    for path in [PRODUCER_1, PRODUCER_2, CONSUMER_1, CONSUMER_2, READER_2] {
        let mut stage = stage();
        stage.joins("x", &format!("{path}?token=minute"));
        stage.bus.wait(50);
        stage.bus.heard("x");
        assert!(stage.says("x", &response("hour")).is_empty(), "a good one is not answered");
        stage.bus.wait(20);
        let heard = stage.bus.heard("x");
        assert!(heard.iter().all(|said| said.starts_with("ping")), "{path}: {heard:?}");
        assert_eq!(stage.asked_in_words(), "", "{path}");
        for (token, reason) in [
            ("bad", "the token is not one of the configured tokens"),
            ("old", "the token has expired"),
            ("", "the AUTH_RESPONSE has no token"),
        ] {
            let mut stage = self::stage();
            stage.joins("y", &format!("{path}?token=minute"));
            let close = format!("close 4005 Failed to authenticate client: {reason}");
            assert_eq!(stage.says("y", &response(token)), [close], "{path}");
        }
    }
    let mut anonymous = Stage::open();
    anonymous.joins("x", CONSUMER_2);
    assert!(anonymous.says("x", &response("anything")).is_empty());
    assert_eq!(anonymous.asked_in_words(), "");
}

#[test]
fn a_token_that_lets_less_ends_what_it_does_not_let() {
    let mut stage = stage();
    let connection = stage.joins("x", &format!("{PRODUCER_2}?token=good"));
    assert!(stage.says("x", &response("producer")).is_empty());
    assert!(
        stage.asked_in_words().starts_with("Renew("),
        "the owner knows what the connection does"
    );
    assert!(stage.says("x", &response("good")).is_empty());
    assert!(stage.asked_in_words().starts_with("Renew("), "it may do more again");
    assert!(stage.says("x", &response("consumer")).is_empty());
    stage.told(connection, TopicAnswer::Forbidden);
    assert_eq!(stage.bus.heard("x"), ["close 4006 Client is not authorized"]);
}

#[test]
fn clients_are_asked_for_the_next_token_where_that_is_configured() {
    const CHALLENGE: &str = r#"{"type":"AUTH_CHALLENGE","authChallenge":{"challenge":{"authMethodName":"token","authData":"token"},"protocolVersion":0}}"#;
    let mut stage = Stage::of(|settings| {
        settings.verifier = Some(verifier(TOKENS));
        settings.auth_challenge_s = 20;
        settings.ping_interval_s = 0;
    });
    stage.joins("x", &format!("{CONSUMER_2}?token=minute"));
    stage.joins("y", &format!("{CONSUMER_2}?token=good"));
    stage.bus.wait(39);
    assert!(stage.bus.heard("x").is_empty());
    stage.bus.wait(1);
    assert_eq!(stage.bus.heard("x"), [CHALLENGE]);
    stage.bus.wait(10);
    assert!(stage.says("x", &response("hour")).is_empty(), "once is enough");
    stage.bus.wait(60);
    assert!(stage.bus.heard("x").is_empty() && stage.bus.heard("y").is_empty());
}

/// Somebody comes with a token that is verified far away.
fn asks_far_away(path: &str) -> (Stage, Asker) {
    let settings = toml::from_str("introspection = { url = 'http://issuer.example' }").unwrap();
    let mut stage =
        Stage::of(|pulsar| pulsar.verifier = Some(Verifier::new(&settings, None).unwrap()));
    assert!(stage.comes("x", &format!("{path}?token=far")).is_none());
    assert!(stage.bus.heard("x").is_empty());
    let mut questions = std::mem::take(&mut stage.bus.questions);
    match questions.pop() {
        Some((
            connection,
            Question::Token(TokenQuestion::Verify { dialect: VERIFIER, attempt, token }),
        )) if &*token == "far" => (stage, Asker { connection, attempt }),
        _ => panic!("nobody is asked"),
    }
}

fn answer(stage: &mut Stage, ticket: Asker, answer: TokenAnswer) {
    stage.bus.shard.answer(ticket.connection, Answer::Token(ticket.attempt, answer), stage.bus.now);
    stage.bus.flush();
}

#[test]
fn a_verifier_far_away_is_waited_for() {
    let granted = || TokenAnswer::Granted(Grant::new(NEVER_MS, Default::default()));
    for path in [PRODUCER_1, CONSUMER_2] {
        let (mut stage, ticket) = asks_far_away(path);
        answer(&mut stage, ticket, granted());
        let (connection, _) = stage.take_questions().pop().unwrap();
        stage.told(connection, TopicAnswer::Opened);
        assert_eq!(stage.bus.heard("x"), ["101"]);
        answer(&mut stage, ticket, granted());
        assert_eq!(stage.asked_in_words(), "", "verified again, it asks for nothing again");
        answer(&mut stage, ticket, TokenAnswer::Revoked);
        assert_eq!(stage.bus.heard("x"), ["close 4005 Failed to authenticate client"]);
        assert_eq!(stage.asked_in_words(), "Gone");
    }
    for (refusal, status) in [(Refused::Inactive, "401"), (Refused::Unavailable, "503")] {
        let (mut stage, ticket) = asks_far_away(PRODUCER_2);
        answer(&mut stage, ticket, TokenAnswer::Refused(refusal));
        assert_eq!(stage.bus.heard("x"), [status, "end"]);
        assert!(stage.refusal("x").starts_with("Failed to authenticate"));
        let (mut stage, ticket) = asks_far_away(PRODUCER_1);
        answer(&mut stage, ticket, TokenAnswer::Refused(refusal));
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
        answer(&mut stage, ticket, TokenAnswer::Granted(Grant::new(NEVER_MS, Default::default())));
        let (connection, _) = stage.take_questions().pop().unwrap();
        answer(&mut stage, ticket, TokenAnswer::Revoked);
        stage.told(connection, TopicAnswer::Opened);
        assert_eq!(stage.bus.heard("x"), heard);
        assert_eq!(stage.asked_in_words(), "Gone");
    }
}
