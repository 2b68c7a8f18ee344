//! Events: what is fed, whom it reaches, and what clients publish themselves.

use super::*;

const READY: &str = r#"
    > {"access_token":"reader"}
    < {"response":"success","expires_in":3600,"timestamp":$S}
"#;

#[test]
fn a_rule_selects_by_prefixes_and_a_lone_star_selects_all() {
    for (rule, event, selected) in [
        (("chat", "room"), (r#""chat""#, r#""room""#), true),
        (("chat", "room"), (r#""chat.say""#, r#""room/1""#), true),
        (("chat", "room"), (r#""cha""#, r#""room""#), false),
        (("chat", "room"), (r#""chat""#, r#""Room""#), false),
        (("chat", "room"), (r#""Chat""#, r#""room""#), false),
        (("*", "*"), (r#""chat""#, r#""room""#), true),
        (("", ""), (r#""chat""#, r#""room""#), true),
        (("*", "room"), (r#""x""#, r#""room 2""#), true),
        (("*", "room"), (r#""x""#, r#""moor""#), false),
        (("a*", "*"), (r#""a*c""#, r#""o""#), true),
        (("a*", "*"), (r#""abc""#, r#""o""#), false),
        (("**", "*"), (r#""abc""#, r#""o""#), false),
        (("*", "*"), (r#""""#, r#""""#), true),
        (("", ""), (r#""""#, r#""""#), true),
        (("x", "*"), (r#""""#, r#""o""#), false),
        (("*", "*"), ("null", r#""o""#), false),
        (("*", "*"), (r#""t""#, "null"), false),
        (("", ""), ("null", "null"), false),
        (("ü", "日"), (r#""\u00fcber""#, r#""\u65e5本""#), true),
        (("t", "a\\u0000"), (r#""t""#, r#""a\u0000b""#), true),
        (("t", "a\\u0000"), (r#""t""#, r#""ab""#), false),
    ] {
        let mut bus = Bus::with(TOKENS);
        bus.talk(READY);
        let subscribed = bus
            .answers(&format!(r#"{{"subscribe":{{"Type":"{}","Object":"{}"}}}}"#, rule.0, rule.1));
        assert!(subscribed[0].contains("success"));
        bus.feed(&format!(r#"event/john.doe {{"Type":{},"Object":{}}}"#, event.0, event.1));
        assert_eq!(bus.heard("").len(), usize::from(selected), "{rule:?} {event:?}");
    }
}

#[test]
fn an_event_that_several_rules_select_comes_once() {
    talk(&format!(
        r#"{READY}
        > {{"subscribe":{{"Type":"*","Object":"*"}}}}
        < {{"response":"success","timestamp":$S}}
        > {{"subscribe":{{"Type":"chat","Object":"room"}}}}
        < {{"response":"success","timestamp":$S}}
        > {{"subscribe":{{"Type":"c","Object":"r"}}}}
        < {{"response":"success","timestamp":$S}}
        feed event/john.doe {{"Type":"chat","Object":"room"}}
        < {{"Type":"chat","Object":"room"}}
        feed event/john.doe {{"Type":"chat","Object":"room"}}
        < {{"Type":"chat","Object":"room"}}
        "#
    ));
}

#[test]
fn an_event_stays_in_its_cell() {
    talk(&format!(
        r#"{READY}
        > {{"subscribe":{{"Type":"*","Object":"*"}}}}
        < {{"response":"success","timestamp":$S}}
        feed event/john.do {{"Type":"t","Object":"o"}}
        feed event/john.doe.too {{"Type":"t","Object":"o"}}
        feed event/John.doe {{"Type":"t","Object":"o"}}
        feed event/j {{"Type":"t","Object":"o"}}
        "#
    ));
}

// Decision 8.
#[test]
fn what_is_no_event_is_refused_to_the_publisher_and_reaches_nobody() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(READY);
    bus.answers(r#"{"subscribe":{"Type":"*","Object":"*"}}"#);
    let long = "c".repeat(129);
    let deep = format!("event/john.doe {}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    for line in [
        r#"event/john.doe {"Type":1,"Object":"o"}"#,
        r#"event/john.doe {"Type":"t","Object":{}}"#,
        r#"event/john.doe {"Type":"t","Object":true}"#,
        r#"event/john.doe {"Type":"t","Type":"t","Object":"o"}"#,
        r#"event/john.doe ["Type"]"#,
        "event/john.doe null",
        "event/john.doe",
        "event/john.doe {",
        r#"event {"Type":"t","Object":"o"}"#,
        r#"event/ {"Type":"t","Object":"o"}"#,
        r#"event/john.doe/more {"Type":"t","Object":"o"}"#,
        &format!(r#"event/{long} {{"Type":"t","Object":"o"}}"#),
        &deep,
    ] {
        bus.replies.clear();
        bus.feed(line);
        assert!(bus.replies.starts_with(r#"{"error":"#), "{line}: {}", bus.replies);
        assert!(bus.heard("").is_empty(), "{line}");
    }
    bus.replies.clear();
    bus.feed("");
    assert_eq!(bus.replies, "{\"accepted\":0,\"rejected\":13}\n");
}

#[test]
fn an_integer_of_any_size_is_passed_on_and_what_is_written_anew_has_it_as_a_double() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(&format!(
        r#"{READY}
        > {{"subscribe":{{"Type":"*","Object":"*"}}}}
        < {{"response":"success","timestamp":$S}}
        b @ /john.doe/__event
        b < 101
        b > {{"AccessToken":"reader"}}
        b < {{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}}
        b > {{"Subscribe":{{"Type":"*","Object":"*"}}}}
        b < {{"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}}
        feed event/john.doe {{"Type":"t","Object":"o","Info":{{"n":123456789012345678901234567890}},"more":-9223372036854775809}}
        < {{"Type":"t","Object":"o","Info":{{"n":123456789012345678901234567890}},"more":-9223372036854775809}}
        b < {{"Type":"t","RequestKey":null,"Schema":null,"External":false,"Object":"o","Info":{{"n":1.2345678901234568e29}},"Timestamp":$MS,"Subject":null}}
        feed event/john.doe {{"Type":"t","Object":"o","Timestamp":18446744073709551615}}
        < {{"Type":"t","Object":"o","Timestamp":18446744073709551615}}
        b < {{"Type":"t","RequestKey":null,"Schema":null,"External":false,"Object":"o","Info":null,"Timestamp":18446744073709551615,"Subject":null}}
        feed event/john.doe {{"Type":"t","Object":"o","Timestamp":18446744073709551616}}
        < {{"Type":"t","Object":"o","Timestamp":18446744073709551616}}
        b < {{"Type":"t","RequestKey":null,"Schema":null,"External":false,"Object":"o","Info":null,"Timestamp":$MS,"Subject":null}}
        "#
    ));
    bus.feed("");
    assert_eq!(bus.replies, "{\"accepted\":3,\"rejected\":0}\n");
}

// Decision 10.
#[test]
fn what_a_client_publishes_reaches_the_cell_in_both_spellings_and_has_no_answer() {
    talk(
        r#"
        > {"AccessToken":"writer"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        > {"Subscribe":{"Type":"*","Object":"*"}}
        < {"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}
        b @ /john.doe/__event
        b < 101
        b > {"access_token":"reader"}
        b < {"response":"success","expires_in":3600,"timestamp":$S}
        b > {"subscribe":{"Type":"chat","Object":"*"}}
        b < {"response":"success","timestamp":$S}
        > {"Type":"chat","Object":"a/b","Info":"Hello","RequestKey":"key-1","Subject":"forged","Schema":"forged","External":false}
        < {"Type":"chat","RequestKey":"key-1","Schema":"https:\/\/app.example\/","External":true,"Object":"a\/b","Info":"Hello","Timestamp":$MS,"Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}
        b < {"Type":"chat","RequestKey":"key-1","Schema":"https:\/\/app.example\/","External":true,"Object":"a\/b","Info":"Hello","cellId":"john.doe","Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}
        > {"Type":"other","Object":"","Info":"","RequestKey":null}
        < {"Type":"other","RequestKey":"PCS-$MS","Schema":"https:\/\/app.example\/","External":true,"Object":"","Info":"","Timestamp":$MS,"Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}
        "#,
    );
}

#[test]
fn an_author_without_a_schema_has_an_empty_one_in_the_classic_spelling_and_none_in_the_current() {
    let mut bus =
        Bus::with("[[token]]\ntoken = 't'\naud = 'john.doe'\nscope = 'root'\ncell_id = '5ZKpf'\n");
    bus.talk(
        r#"
        > {"AccessToken":"t"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        > {"Subscribe":{"Type":"*","Object":"*"}}
        < {"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}
        b @ /john.doe/__event
        b < 101
        b > {"access_token":"t"}
        b < {"response":"success","expires_in":3600,"timestamp":$S}
        b > {"subscribe":{"Type":"*","Object":"*"}}
        b < {"response":"success","timestamp":$S}
        > {"Type":"t","Object":"o","Info":"i","RequestKey":"k"}
        < {"Type":"t","RequestKey":"k","Schema":null,"External":true,"Object":"o","Info":"i","Timestamp":$MS,"Subject":null}
        b < {"Type":"t","RequestKey":"k","Schema":"","External":true,"Object":"o","Info":"i","cellId":"5ZKpf","Subject":null}
        "#,
    );
}

#[test]
fn only_a_token_with_the_privilege_publishes_and_others_are_not_told() {
    talk(
        r#"
        b @ /john.doe/__event
        b < 101
        b > {"AccessToken":"writer"}
        b < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        b > {"Subscribe":{"Type":"*","Object":"*"}}
        b < {"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}
        > {"Type":"t","Object":"o","Info":"i"}
        < {"Response":"AccessToken","Timestamp":$MS,"Reason":"Unauthorized","Result":"Error"}
        > {"AccessToken":"reader"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        > {"Type":"t","Object":"o","Info":"i"}
        "#,
    );
}

#[test]
fn in_the_classic_spelling_nothing_is_published() {
    talk(
        r#"
        > {"access_token":"writer"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        > {"subscribe":{"Type":"*","Object":"*"}}
        < {"response":"success","timestamp":$S}
        > {"Type":"t","Object":"o","Info":"i"}
        < {"reason":"format error","response":"error","timestamp":$S}
        "#,
    );
}

#[test]
fn an_event_of_a_client_has_its_limits_in_characters_and_beyond_them_nothing_happens() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(
        r#"
        > {"AccessToken":"writer"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        > {"Subscribe":{"Type":"*","Object":"*"}}
        < {"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}
        "#,
    );
    for (key, character, characters, published) in [
        ("Info", "x", 51_200, true),
        ("Info", "x", 51_201, false),
        ("Type", "x", 51_200, true),
        ("Type", "x", 51_201, false),
        ("Object", "x", 51_200, true),
        ("Object", "x", 51_201, false),
        ("RequestKey", "é", 128, true),
        ("RequestKey", "é", 129, false),
    ] {
        let long = character.repeat(characters);
        let fields = ["Type", "Object", "Info", "RequestKey"]
            .map(|name| format!(r#""{name}":"{}""#, if name == key { &long } else { "short" }));
        let answer = bus.answers(&format!("{{{}}}", fields.join(",")));
        assert_eq!(answer.len(), usize::from(published), "{key} of {characters}");
    }
}

#[test]
fn an_event_of_a_client_without_a_part_is_malformed_and_one_with_a_part_that_is_no_text_is_dropped()
{
    talk(
        r#"
        > {"AccessToken":"writer"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        > {"Type":"t","Object":"o"}
        < {"Response":null,"Timestamp":$MS,"Reason":"Format error","Result":"Error"}
        > {"Type":"t","Object":"o","Info":null}
        < {"Response":null,"Timestamp":$MS,"Reason":"Format error","Result":"Error"}
        > {"Type":"t","Object":1,"Info":"i"}
        > {"Type":"t","Object":"o","Info":{"a":"i"}}
        > {"Type":"t","Object":"o","Info":"i","RequestKey":5}
        > {"State":"Subscriptions"}
        < {"Response":"State","Subscriptions":[],"Timestamp":$MS,"Result":"Success"}
        "#,
    );
}
