//! Who may come: any good token, in the header or in the query.

use super::*;

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
