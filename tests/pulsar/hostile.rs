//! What nobody means well: nothing of it may do harm, and each is answered as it deserves.

use super::*;
use proptest::prelude::*;

#[test]
fn huge_properties_are_read_in_one_pass() {
    let mut stage = Stage::open();
    stage.joins("p", PRODUCER_2);
    let properties: Vec<String> = (0..80_000).map(|at| format!("\"{at}\":0")).collect();
    let text = format!(r#"{{"payload":"","properties":{{{}}}}}"#, properties.join(","));
    assert!(text.len() < 1024 * 1024 && stage.says("p", &text).is_empty());
    match stage.asked().pop() {
        Some(TopicQuestion::Send { draft, .. }) => {
            assert_eq!(draft.message().unwrap().properties.len(), 80_000)
        }
        other => panic!("{other:?}"),
    }
    let same =
        format!(r#"{{"payload":"","properties":{{{}}}}}"#, vec!["\"a\":1"; 100_000].join(","));
    assert!(stage.says("p", &same).is_empty());
    match stage.asked().pop() {
        Some(TopicQuestion::Send { draft, .. }) => {
            assert_eq!(draft.message().unwrap().properties, [("a", "1")])
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn deep_nesting_is_no_deep_recursion() {
    let mut stage = Stage::open();
    stage.joins("p", PRODUCER_2);
    let nested = format!(r#"{{"x":{}{},"payload":""}}"#, "[".repeat(400_000), "]".repeat(400_000));
    stage.bus.say("p", &nested);
    let open = format!(r#"{{"payload":{}"#, "[{\"a\":".repeat(100_000));
    assert!(stage.says("p", &open).last().unwrap().contains("send-error:3"));
}

#[test]
fn what_a_client_has_written_is_not_told_at_length() {
    let mut stage = Stage::open();
    stage.joins("p", PRODUCER_2);
    for text in [
        format!("\"{}\"", "x".repeat(100_000)),
        format!("{{\"payload\":\"\",\"eventTime\":\"{}\"}}", "x".repeat(100_000)),
        format!("{{\"payload\":\"{}\"}}", "!".repeat(100_000)),
        format!("{{\"properties\":{{\"{}\":[]}}}}", "x".repeat(100_000)),
    ] {
        let said = stage.says("p", &text);
        assert!(said[0].len() < 300, "{}", said[0]);
    }
    let query = format!("{CONSUMER_2}?subscriptionType={}", "%0d%0aX".repeat(1000));
    let (_, said) = stage.refused(&query);
    assert!(said.len() < 1000 && said.lines().count() == 1, "{said}");
}

#[test]
fn permits_and_ids_at_their_limits_are_numbers_like_others() {
    let mut stage = Stage::open();
    stage.joins("c", &format!("{CONSUMER_2}?pullMode=true"));
    for permits in ["2147483647", "0", "-2147483648", "1.5", "\"7\""] {
        let text = format!(r#"{{"type":"permit","permitMessages":{permits}}}"#);
        assert!(stage.says("c", &text).is_empty(), "{permits}");
    }
    // 0xffff… as the ledger, and a partition of -1 as Java writes it.
    for id in ["CP///////////wEQAA==", "CAAQAxj///////////8B", "CAAQ////////////AQ=="] {
        assert!(stage.says("c", &format!(r#"{{"messageId":"{id}"}}"#)).is_empty(), "{id}");
    }
    let asked = stage.asked_in_words();
    assert_eq!(
        (asked.matches("Permit(").count(), asked.matches("Ack(").count()),
        (3, 3),
        "{asked}"
    );
}

proptest! {
    #[test]
    fn any_text_has_at_most_one_answer_and_panics_nobody(text in "\\PC{0,80}", role in 0..4_usize) {
        let path = [PRODUCER_1, CONSUMER_2, READER_2, "/ws/v2/producer/non-persistent/t/n/x"][role];
        let mut stage = Stage::open();
        stage.joins("x", path);
        prop_assert!(stage.says("x", &text).len() <= 1);
    }

    #[test]
    fn anything_like_a_message_is_stored_or_answered(
        payload in "[A-Za-z0-9+/=!\\\\ ]{0,12}",
        value in prop::sample::select(vec!["null", "1", "-1.5e3", "true", "\"\"", "\"x\"", "[]", "{}", "{\"a\":null}"]),
        key in prop::sample::select(vec![
            "properties", "context", "key", "eventTime", "deliverAt", "deliverAfterMs", "sequenceId", "encryptionParam",
        ]),
    ) {
        let mut stage = Stage::open();
        stage.joins("x", PRODUCER_2);
        let answers = stage.says("x", &format!(r#"{{"payload":"{payload}","{key}":{value}}}"#)).len();
        let asked = stage.asked().iter().filter(|asked| matches!(asked, TopicQuestion::Send { .. })).count();
        prop_assert_eq!(answers + asked, 1);
    }

    #[test]
    fn any_path_is_claimed_by_somebody_or_nobody(path in "(/ws/)?(v2/)?[a-z./%0-9-]{0,60}", query in "[a-zA-Z=&%0-9]{0,40}") {
        let mut stage = Stage::open();
        stage.bus.connect("x", &format!("/{path}?{query}"), HOST);
    }
}
