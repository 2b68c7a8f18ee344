//! What consumers and readers say and are told.

use super::*;

#[test]
fn the_papers_message_is_delivered_in_the_papers_words_and_in_those_of_later() {
    let mut stage = Stage::open();
    let (first, second) = (stage.joins("a", CONSUMER_1), stage.joins("b", CONSUMER_2));
    let reader = stage.joins("r", READER_2);
    let again = Recipient { redeliveries: 2, partition: Some(4), ..recipient(reader) };
    stage.delivers(
        &paper(),
        &[recipient(first), Recipient { redeliveries: 1, ..recipient(second) }, again],
    );
    assert_eq!(
        stage.bus.heard("a"),
        [
            r#"{"messageId":"CAAQAw==","payload":"SGVsbG8gV29ybGQ=","properties":{"key1":"value1","key2":"value2"},"publishTime":"2016-08-30 16:45:57.785","context":"1"}"#
        ]
    );
    assert_eq!(
        stage.bus.heard("b"),
        [
            r#"{"messageId":"CAAQAw==","payload":"SGVsbG8gV29ybGQ=","properties":{"key1":"value1","key2":"value2"},"publishTime":"2016-08-30T16:45:57.785Z","redeliveryCount":1}"#
        ]
    );
    assert_eq!(
        stage.bus.heard("r"),
        [
            r#"{"messageId":"CAAQAxgE","payload":"SGVsbG8gV29ybGQ=","properties":{"key1":"value1","key2":"value2"},"publishTime":"2016-08-30T16:45:57.785Z","redeliveryCount":2}"#
        ]
    );
}

#[test]
fn a_receipt_is_given_when_all_has_left() {
    let mut stage = Stage::open();
    let connection = stage.joins("c", CONSUMER_2);
    stage.delivers(&paper(), &[recipient(connection)]);
    assert_eq!(stage.asked_in_words(), "");
    stage.delivers(&paper(), &[Recipient { wants_receipt: true, ..recipient(connection) }]);
    assert_eq!(stage.asked_in_words(), "Took");
}

#[test]
fn a_consumers_commands_are_handed_on_without_an_answer() {
    let mut stage = Stage::open();
    stage.joins("push", &format!("{CONSUMER_1}?subscriptionType=Shared"));
    stage.joins("pull", &format!("{CONSUMER_2}?pullMode=true"));
    for (text, push, pull) in [
        (r#"{"messageId" : "CAAQAw=="}"#, "Ack(", "Ack("),
        (r#"{"messageId":"CAAQAzAA","type":"anything"}"#, "Ack(", "Ack("),
        (r#"{"type":"negativeAcknowledge","messageId":"CAAQAw=="}"#, "Nack(", "Nack("),
        (r#"{"type":"permit","permitMessages":100}"#, "", "Permit(100)"),
        (r#"{"type":"permit","permitMessages":-1}"#, "", ""),
        (r#"{"type":"isEndOfTopic"}"#, "AskEnd", "AskEnd"),
        (r#"{"type":"unsubscribe"}"#, "Unsubscribe", "Unsubscribe"),
    ] {
        for (name, expected) in [("push", push), ("pull", pull)] {
            assert!(stage.says(name, text).is_empty(), "{text}");
            let asked = stage.asked_in_words();
            assert!(
                asked.starts_with(expected) && asked.is_empty() == expected.is_empty(),
                "{text}: {asked}"
            );
        }
    }
    stage.bus.say("push", r#"{"messageId":"CAcQrAIYAg=="}"#);
    let asked = stage.asked();
    assert!(
        matches!(asked[..], [TopicQuestion::Ack(acked)] if acked == id("CAcQrAIYAg==")),
        "{asked:?}"
    );
}

#[test]
fn the_end_of_a_topic_is_told_as_a_boolean() {
    let mut stage = Stage::open();
    let connection = stage.joins("c", CONSUMER_2);
    stage.told(connection, TopicAnswer::EndOfTopic(false));
    stage.told(connection, TopicAnswer::EndOfTopic(true));
    assert_eq!(stage.bus.heard("c"), [r#"{"endOfTopic":false}"#, r#"{"endOfTopic":true}"#]);
}

#[test]
fn what_is_no_command_ends_the_session() {
    let json = "close 4003 Failed to de-serialize from JSON";
    for (path, text, close) in [
        (CONSUMER_1, "garbage", json),
        (CONSUMER_2, "garbage", json),
        (CONSUMER_2, "[]", json),
        (CONSUMER_2, "{'messageId':'CAAQAw=='}", json),
        (CONSUMER_2, r#"{"type":"permit"}"#, json),
        (CONSUMER_2, r#"{"type":"permit","permitMessages":"many"}"#, json),
        (CONSUMER_2, r#"{"messageId":{}}"#, json),
        (CONSUMER_2, "{}", "close 1011 the message has no messageId"),
        (CONSUMER_1, r#"{"messageId":"!"}"#, "close 1011 the message id is not base64"),
        (
            CONSUMER_2,
            r#"{"messageId":"CAA="}"#,
            "close 1011 the message id has no ledger or no entry",
        ),
        (
            CONSUMER_2,
            r#"{"type":"negativeAcknowledge"}"#,
            "close 1011 the message has no messageId",
        ),
        (READER_2, "garbage", json),
    ] {
        let mut stage = Stage::open();
        stage.joins("c", path);
        assert_eq!(stage.says("c", text), [close], "{text}");
        assert_eq!(stage.asked_in_words(), "Gone");
    }
    let mut stage = Stage::open();
    let connection = stage.joins("c", CONSUMER_2);
    stage.told(connection, TopicAnswer::StillSubscribed);
    assert_eq!(stage.bus.heard("c"), [json]);
}

#[test]
fn whatever_a_reader_says_makes_room_for_another_message() {
    let mut stage = Stage::open();
    stage.joins("r", READER_2);
    for (text, expected) in [
        (r#"{"messageId":"CAAQAw=="}"#, "Ack("),
        (r#"{"messageId":"nonsense!"}"#, "Ack("),
        ("{}", "Ack("),
        (r#"{"type":"isEndOfTopic"}"#, "AskEnd"),
    ] {
        assert!(stage.says("r", text).is_empty());
        let asked = stage.asked_in_words();
        assert!(asked.starts_with(expected), "{text}: {asked}");
    }
}
