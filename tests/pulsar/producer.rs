//! What producers say and are told.

use super::*;

/// The paper's message, as Node.js writes it.
const HELLO: &str = r#"{"payload":"SGVsbG8gV29ybGQ=","properties":{"key1":"value1","key2":"value2"},"context":"1"}"#;

/// What was asked to be stored: the payload, and what comes back with the answer.
fn sent(stage: &mut Stage) -> (MessageDraft, Option<Box<str>>) {
    let mut asked = stage.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    match asked.pop() {
        Some(TopicQuestion::Send { draft, context }) => (draft, context),
        other => panic!("{other:?}"),
    }
}

fn acknowledged(path: &str, says: &str) -> Vec<String> {
    let mut stage = Stage::open();
    let connection = stage.joins("p", path);
    assert!(stage.says("p", says).is_empty(), "an answer comes when the message is stored");
    let (_, context) = sent(&mut stage);
    stage.told(connection, TopicAnswer::Stored { id: id("CAAQAw=="), context });
    stage.bus.heard("p")
}

#[test]
fn the_papers_message_is_stored_and_acknowledged_in_the_papers_words() {
    let mut stage = Stage::open();
    stage.joins("p", PRODUCER_1);
    stage.bus.say("p", HELLO);
    let (draft, context) = sent(&mut stage);
    let message = TopicMessage { published_ms: NOW_S * 1000, ..paper() };
    assert_eq!((draft.message().unwrap(), context.as_deref()), (message, Some("1")));
    assert_eq!(
        acknowledged(PRODUCER_1, HELLO),
        [r#"{"result":"ok","messageId":"CAAQAw==","context":"1"}"#]
    );
    let python = r#"{"payload": "SGVsbG8gV29ybGQ=", "properties": {"key1": "value1", "key2": "value2"}, "context": 5}"#;
    assert_eq!(
        acknowledged(PRODUCER_1, python),
        [r#"{"result":"ok","messageId":"CAAQAw==","context":"5"}"#]
    );
    assert_eq!(
        acknowledged(PRODUCER_1, r#"{"payload":""}"#),
        [r#"{"result":"ok","messageId":"CAAQAw=="}"#]
    );
}

#[test]
fn the_second_version_adds_its_two_numbers() {
    assert_eq!(
        acknowledged(PRODUCER_2, HELLO),
        [r#"{"result":"ok","messageId":"CAAQAw==","context":"1","errorCode":0,"schemaVersion":0}"#]
    );
}

#[test]
fn what_cannot_be_sent_is_told_by_number_and_the_producer_goes_on() {
    for (path, end) in [(PRODUCER_1, "}"), (PRODUCER_2, r#","errorCode":0,"schemaVersion":0}"#)] {
        let mut stage = Stage::open();
        let connection = stage.joins("p", path);
        for text in [
            "{'payload':'','context':'1'}",
            r#"{"context":"1","payload":{}}"#,
            r#"{"payload":"",}"#,
            "null",
        ] {
            let said = stage.says("p", text);
            assert_eq!(said.len(), 1, "{text}");
            assert!(said[0].starts_with(r#"{"result":"send-error:3","errorMsg":""#), "{}", said[0]);
            assert!(said[0].ends_with(end) && !said[0].contains("context"), "{}", said[0]);
        }
        for text in [
            r#"{"payload":"nonsense!","context":"1"}"#,
            r#"{"context":1}"#,
            r#"{"payload":"","eventTime":"yesterday","context":"1"}"#,
        ] {
            let said = stage.says("p", text);
            assert_eq!(said.len(), 1, "{text}");
            assert!(said[0].starts_with(r#"{"result":"send-error:7","errorMsg":""#), "{}", said[0]);
            assert!(said[0].ends_with(&format!(r#","context":"1"{end}"#)), "{}", said[0]);
        }
        assert_eq!(stage.asked_in_words(), "");
        stage.bus.say("p", HELLO);
        let (_, context) = sent(&mut stage);
        stage.told(
            connection,
            TopicAnswer::NotStored { reason: "the disk is full".into(), context },
        );
        let said = format!(
            r#"{{"result":"send-error:8","errorMsg":"the disk is full","context":"1"{end}"#
        );
        assert_eq!(stage.bus.heard("p"), [said]);
    }
}

/// The reference closes with 1011 here, which loses the answers that are on their way: apache/pulsar issue 2751.
#[test]
fn no_message_ends_its_producer_or_loses_the_answers_of_others() {
    for path in [PRODUCER_1, PRODUCER_2, "/ws/v2/producer/non-persistent/t/n/x"] {
        let mut stage = Stage::open();
        let connection = stage.joins("p", path);
        let is_stored = !path.contains("non-persistent");
        for (field, reason) in [
            (r#""properties":{"a":null}"#, r#"Need Non-Null value for key: \"a\""#),
            (r#""eventTime":"1970-01-01T00:00:00Z""#, "Invalid timestamp : '0'"),
            (r#""eventTime":"1969-12-31T23:59:59Z""#, "Invalid timestamp : '-1000'"),
        ] {
            stage.bus.say("p", HELLO);
            let bad = stage.says("p", &format!(r#"{{"payload":"",{field},"context":"bad"}}"#));
            let said =
                format!(r#"{{"result":"send-error:7","errorMsg":"{reason}","context":"bad""#);
            assert!(bad.last().unwrap().starts_with(&said), "{path} {field}: {bad:?}");
            if is_stored {
                let (_, context) = sent(&mut stage);
                stage.told(connection, TopicAnswer::Stored { id: id("CAAQAw=="), context });
                assert!(stage.bus.heard("p")[0].starts_with(r#"{"result":"ok""#), "{path} {field}");
            }
        }
    }
}

#[test]
fn a_named_producers_numbers_are_kept_with_its_messages() {
    let mut stage = Stage::open();
    let (connection, request) =
        stage.comes("p", &format!("{PRODUCER_2}?producerName=ann&initialSequenceId=7")).unwrap();
    let TopicQuestion::Produce(producing) = request else { panic!() };
    assert_eq!((producing.name.as_deref(), producing.initial_sequence), (Some("ann"), Some(7)));
    stage.told(connection, TopicAnswer::Opened);
    stage.bus.say(
        "p",
        r#"{"payload":"QQ==","sequenceId":8,"key":"k","deliverAfterMs":1000,"schemaVersion":3}"#,
    );
    let (draft, context) = sent(&mut stage);
    let message = draft.message().unwrap();
    assert_eq!(
        (message.producer, message.sequence, message.key),
        (Some("ann"), Some(8), Some("k"))
    );
    assert_eq!((message.deliver_ms, context), (Some(NOW_S * 1000 + 1000), None));
}

#[test]
fn a_client_that_encrypts_hands_its_keys_on_with_each_message() {
    let mut stage = Stage::open();
    // {"k":{"keyValue":"QQ=="}}
    stage.joins("p", &format!("{PRODUCER_2}?encryptionKeys=eyJrIjp7ImtleVZhbHVlIjoiUVE9PSJ9fQ=="));
    stage.bus.say(
        "p",
        r#"{"payload":"","encryptionParam":"AA==","compressionType":"NONE","uncompressedMessageSize":2}"#,
    );
    let (draft, _) = sent(&mut stage);
    assert_eq!(
        draft.message().unwrap().encryption,
        Some(
            r#"{"keys":{"k":{"keyValue":"QQ=="}},"param":"AA==","compressionType":"NONE","uncompressedMessageSize":2}"#
        )
    );
}
