//! What is said, byte for byte: the seed's messages, every answer, and what is no message.

use super::*;

#[test]
fn the_messages_of_the_seed() {
    let mut topic = Bus::with(&TOKENS.replace("reader", "AA~91WT0GNoVGFHJFQ.......e"));
    topic.talk(
        r#"
        > {"AccessToken":"AA~91WT0GNoVGFHJFQ.......e"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":1518612600000,"Result":"Success"}
        feed topic/cell1/box1/stream-collection1.topic.name {"From":"https://cell1.unit1.example/", "Body":{"hoge":"testmessage", "flag":true}}
        < {"From":"https://cell1.unit1.example/", "Body":{"hoge":"testmessage", "flag":true}}
        "#,
    );
}

#[test]
fn every_answer() {
    for (message, answer) in [
        (
            r#"{"AccessToken":"nobody"}"#,
            r#"{"Response":"AccessToken","Timestamp":$MS,"Reason":"Token inactive","Result":"Error"}"#,
        ),
        (
            "{}",
            r#"{"Response":"Unknown","Timestamp":$MS,"Reason":"Invalid message","Result":"Error"}"#,
        ),
    ] {
        talk(&format!("> {message}\n< {answer}\n< close 1000\n"));
        talk(&format!(
            r#"
            > {{"AccessToken":"reader"}}
            < {{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}}
            wait 1
            > {message}
            < {answer}
            < close 1000
            "#
        ));
    }
    talk(
        r#"
        > {"AccessToken":"eighty seconds"}
        < {"Response":"AccessToken","ExpiresIn":80,"Timestamp":$MS,"Result":"Success"}
        wait 50
        < ping [1, 2, 3]
        wait 30
        > {"AccessToken":"reader"}
        < {"Response":"Unknown","Timestamp":$MS,"Reason":"Session expired","Result":"Error"}
        < close 1000
        "#,
    );
}

#[test]
fn whatever_is_no_object_with_a_token_is_an_invalid_message() {
    for message in [
        "",
        " ",
        "hello",
        "1",
        "true",
        "nullx",
        "\"AccessToken\"",
        "[]",
        r#"["AccessToken"]"#,
        "{",
        "{}",
        r#"{"AccessToken":"reader""#,
        r#"{"AccessToken":null}"#,
        r#"{"AccessToken":true}"#,
        r#"{"AccessToken":["reader"]}"#,
        r#"{"AccessToken":[1]}"#,
        r#"{"AccessToken":{}}"#,
        r#"{"AccessToken":{"AccessToken":"reader"}}"#,
        r#"{"AccessToken":1"#,
        r#"{"AccessToken":"reader","AccessToken":null}"#,
        r#"{"access_token":"reader"}"#,
        r#"{"accesstoken":"reader"}"#,
        r#"x{"AccessToken":"reader"}"#,
        r#"{"Subscribe":{"Type":"*","Object":"*"}}"#,
        &format!("{}1{}", "{\"a\":".repeat(1000), "}".repeat(1000)),
        &"[".repeat(65_536),
        &"{\"a\":".repeat(10_000),
    ] {
        let mut topic = Bus::with(TOKENS);
        topic.talk("");
        let invalid = format!(
            r#"{{"Response":"Unknown","Timestamp":{NOW_S}000,"Reason":"Invalid message","Result":"Error"}}"#
        );
        assert_eq!(topic.answers(message), [invalid, "close 1000".into()], "{message}");
    }
}

#[test]
fn a_null_or_a_token_that_is_a_number_ends_the_connection_without_a_word() {
    for message in [
        "null",
        " null ",
        r#"{"AccessToken":1}"#,
        r#"{"AccessToken":-1}"#,
        r#"{"AccessToken":1.5e3}"#,
        r#"{"AccessToken":123456789012345678901234567890}"#,
        r#"{"AccessToken":"reader","AccessToken":0}"#,
        r#"{"AccessToken":1}{"AccessToken":"reader"}"#,
    ] {
        talk(&format!("> {message}\n< close 1000\n"));
        talk(&format!(
            r#"
            > {{"AccessToken":"reader"}}
            < {{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}}
            > {message}
            < close 1000
            "#
        ));
    }
}

#[test]
fn what_follows_the_object_is_not_looked_at() {
    for message in [
        r#"{"AccessToken":"reader"} "#,
        r#"{"AccessToken":"reader"}x"#,
        r#"{"AccessToken":"reader"}}"#,
        r#"{"AccessToken":"reader"}{"AccessToken":"nobody"}"#,
        r#" { "more" : [1] , "AccessToken" : "\u0072eader" }"#,
        r#"{"AccessToken":"nobody","AccessToken":"reader"}"#,
        r#"{"AccessToken":1,"\u0041ccessToken":"reader"}"#,
        r#"{"more":1e999,"AccessToken":"reader"}"#,
        &format!(r#"{{"more":{}{},"AccessToken":"reader"}}"#, "[".repeat(1000), "]".repeat(1000)),
    ] {
        let mut topic = Bus::with(TOKENS);
        topic.talk("");
        let answer = topic.answers(message);
        assert!(answer.len() == 1 && answer[0].contains("Success"), "{message}: {answer:?}");
    }
}

#[test]
fn a_binary_message_is_ignored() {
    let mut topic = Bus::with(TOKENS);
    topic.talk("");
    for _ in 0..2 {
        topic.send("", OpCode::Data(Data::Binary), br#"{"AccessToken":"nobody"}"#);
        assert!(topic.heard("").is_empty());
        topic.talk(
            r#"
            > {"AccessToken":"reader"}
            < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
            "#,
        );
    }
}
