//! Data: what is fed, and whom it reaches.

use super::*;

const READY: &str = r#"
    > {"AccessToken":"reader"}
    < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
"#;

// Decision 5.
#[test]
fn data_are_passed_on_as_they_were_fed() {
    let mut topic = Bus::with(TOKENS);
    topic.talk(READY);
    for data in [
        r#"{"From":"https://cell1.unit1.example/","Body":{"hoge":"testmessage","flag":true}}"#,
        r#" { "Body" : [1.50, "\u0041/\/"] , "From" : "" , "more" : 18446744073709551615 } "#,
        r#"{"From":"x","Body":null}"#,
        r#"{"From":"x"}"#,
        r#"{"From":"x","Body":{"n":18446744073709551616,"m":-123456789012345678901234567890}}"#,
    ] {
        topic.feed(&format!("topic/cell1/box1/stream-collection1.topic.name {data}"));
        assert_eq!(topic.heard(""), [data]);
    }
    topic.feed("");
    assert_eq!(topic.replies, "{\"accepted\":5,\"rejected\":0}\n");
}

#[test]
fn data_reach_those_who_follow_the_topic_once_and_nobody_before_its_token() {
    talk(&format!(
        r#"
        b @ /cell1/__topic/box1/stream-collection1.topic.name
        b < 101
        c @ /cell1/__topic/box1/stream-collection1.topic.names
        c < 101
        d @ /cell1/__event
        d < 101
        {READY}
        {READY}
        c > {{"AccessToken":"reader"}}
        c < {{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}}
        feed topic/cell1/box1/stream-collection1.topic.name {{"From":"https://c/","Body":{{"n":1}}}}
        < {{"From":"https://c/","Body":{{"n":1}}}}
        b > {{"AccessToken":"two hours"}}
        b < {{"Response":"AccessToken","ExpiresIn":7200,"Timestamp":$MS,"Result":"Success"}}
        feed topic/cell1/box1/stream-collection1.topic.name {{"From":"https://c/","Body":{{"n":2}}}}
        < {{"From":"https://c/","Body":{{"n":2}}}}
        b < {{"From":"https://c/","Body":{{"n":2}}}}
        feed topic/cell1/box1/stream-collection1.topic.names {{"From":"https://c/","Body":{{}}}}
        c < {{"From":"https://c/","Body":{{}}}}
        feed topic/cell1/box1/stream-collection1.topic.nam {{"From":"https://c/","Body":{{}}}}
        feed topic/cell1/box/stream-collection1.topic.name {{"From":"https://c/","Body":{{}}}}
        feed topic/Cell1/box1/stream-collection1.topic.name {{"From":"https://c/","Body":{{}}}}
        feed event/cell1 {{"Type":"t","Object":"o"}}
        "#
    ));
}

#[test]
fn what_is_no_datum_is_refused_to_the_publisher_and_reaches_nobody() {
    let mut topic = Bus::with(TOKENS);
    topic.talk(READY);
    let good = r#"{"From":"https://c/","Body":{}}"#;
    for (line, reason) in [
        (
            r#"topic/cell1/box1/stream-collection1.topic.name {"Body":{}}"#.to_owned(),
            r#"\"From\" must be a string"#,
        ),
        (
            r#"topic/cell1/box1/stream-collection1.topic.name {"From":null}"#.to_owned(),
            "must be a string",
        ),
        (
            r#"topic/cell1/box1/stream-collection1.topic.name {"From":1}"#.to_owned(),
            "must be a string",
        ),
        (
            r#"topic/cell1/box1/stream-collection1.topic.name {"From":"x","From":"y"}"#.to_owned(),
            r#"\"From\" is written twice"#,
        ),
        (
            r#"topic/cell1/box1/stream-collection1.topic.name {"From":"x","Fro\u006d":1}"#
                .to_owned(),
            "written twice",
        ),
        ("topic/cell1/box1/stream-collection1.topic.name []".to_owned(), "not an object"),
        ("topic/cell1/box1/stream-collection1.topic.name hello".to_owned(), "not valid JSON"),
        ("topic/cell1/box1/stream-collection1.topic.name".to_owned(), "not valid JSON"),
        (
            format!("topic/cell1/box1/stream-collection1.queue.name {good}"),
            "ends in COLLECTION.topic.NAME",
        ),
        (format!("topic/cell1/box1/topic.name {good}"), "ends in COLLECTION.topic.NAME"),
        (
            format!("topic/cell1/box1/stream-collection1/topic/name {good}"),
            "write topic/CELL/BOX/PATH",
        ),
        (format!("topic/cell1/box1 {good}"), "write topic/CELL/BOX/PATH"),
        (format!("topic/cell1//col.topic.name {good}"), "write topic/CELL/BOX/PATH"),
        (
            format!("topic/{}/box1/col.topic.name {good}", "c".repeat(129)),
            "1 to 128 visible characters",
        ),
    ] {
        topic.replies.clear();
        topic.feed(&line);
        assert!(topic.replies.contains(reason), "{line}: {}", topic.replies);
        assert!(topic.heard("").is_empty(), "{line}");
    }
    topic.replies.clear();
    topic.feed("");
    assert_eq!(topic.replies, "{\"accepted\":0,\"rejected\":14}\n");
}
