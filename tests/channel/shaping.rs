//! Which data of a message go on, and to whom.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What is broadcast when a client says these data.
fn shaped(bus: &mut Bus, name: &str, data: &str) -> String {
    bus.say(name, &format!(r#"{{"data":{data}}}"#));
    let mut heard = bus.heard(name);
    assert_eq!(heard.len(), 2, "{data}: {heard:?}");
    let broadcast = heard.pop().unwrap();
    let (_, data) = broadcast.split_once(r#","data":"#).unwrap();
    data.strip_suffix('}').unwrap().to_owned()
}

#[test]
fn each_kind_passes_its_keys_in_its_order() {
    let mut bus = with(&["ann", "tweets", "progress", "other"]);
    for (name, data, expected) in [
        ("ann", r#"{"name":"A","message":"hi","x":1}"#, r#"{"message":"hi","name":"A"}"#),
        ("ann", r#"{"message":"hi"}"#, r#"{"message":"hi"}"#),
        ("ann", r#"{"name":null}"#, r#"{"name":null}"#),
        ("ann", r#"{"Message":"hi"}"#, "{}"),
        ("ann", "{}", "{}"),
        ("ann", r#"{"message":{"message":1},"deep":{"name":2}}"#, r#"{"message":{"message":1}}"#),
        ("ann", r#"{"me\u0073sage":1}"#, r#"{"message":1}"#),
        ("tweets", r#"{"tweet":{"id":1},"message":"hi"}"#, r#"{"tweet":{"id":1}}"#),
        ("progress", r#"{"info":[1, 2 ],"message":"hi"}"#, r#"{"info":[1, 2 ]}"#),
        ("progress", r#"{"info":"any"}"#, r#"{"info":"any"}"#),
        ("other", r#"{ "z" : 1, "a":2,"z":3}"#, r#"{ "z" : 1, "a":2,"z":3}"#),
    ] {
        assert_eq!(shaped(&mut bus, name, data), expected, "{data}");
    }
}

#[test]
fn values_go_on_as_they_were_written() {
    let mut bus = with(&["ann"]);
    for value in [
        "12345678901234567890123456789",
        "-0.10",
        "1E5",
        "1e999",
        "{ \"a\" : [ 1,\n2 ] }",
        r#""\u00e9\/\"\\""#,
        r#""}\",\"name\":\"x""#,
        "\"日本\u{2028}\"",
    ] {
        let data = format!(r#"{{"message" : {value} ,"name":1}}"#);
        assert_eq!(shaped(&mut bus, "ann", &data), format!(r#"{{"message":{value},"name":1}}"#));
    }
}

#[test]
fn shapes_are_what_the_settings_say() {
    let mut bus = bus(|channel| {
        let keys = |list: &[&str]| list.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        channel.shape = BTreeMap::from([
            ("tweet".to_owned(), keys(&["b", "a\"", "b"])),
            ("other".to_owned(), keys(&[])),
        ]);
    });
    for name in ["ann", "tweets", "other"] {
        join(&mut bus, name, name);
    }
    assert_eq!(shaped(&mut bus, "ann", r#"{"x":1}"#), r#"{"x":1}"#);
    assert_eq!(shaped(&mut bus, "tweets", r#"{"a\"":1,"b":2,"c":3}"#), r#"{"b":2,"a\"":1,"b":2}"#);
    assert_eq!(shaped(&mut bus, "other", r#"{"x":1}"#), "{}");
}

/// Who gets a message of Ann's with this target; she is user 1, and the acknowledgement is not counted.
fn receivers(target: &str) -> String {
    let mut bus = with(&["ann", "bob", "text", "nobody"]);
    join(&mut bus, "bob again", "bob");
    bus.say(
        "ann",
        &format!(r#"{{"data":{{"message":"psst","target_user_id":{target},"name":"Ann"}}}}"#),
    );
    assert_eq!(bus.next("ann").as_deref(), Some(OK));
    let message = of_ann(r#"{"message":"psst","name":"Ann"}"#);
    let mut names = Vec::new();
    for name in ["ann", "bob", "bob again", "text", "nobody"] {
        let heard = bus.heard(name);
        assert!(heard.iter().all(|heard| *heard == message) && heard.len() < 2, "{heard:?}");
        names.extend(heard.first().map(|_| name));
    }
    names.join(", ")
}

#[test]
fn a_message_for_one_user_goes_to_all_sockets_of_that_user() {
    let all = "ann, bob, bob again, text, nobody";
    for (target, expected) in [
        ("null", all),
        ("false", all),
        ("0", all),
        ("0.0", all),
        ("-0", all),
        ("\"\"", all),
        ("2", "bob, bob again"),
        ("2.0", "bob, bob again"),
        ("2e0", "bob, bob again"),
        ("\"2\"", "text"),
        (r#""\u0032""#, "text"),
        ("1", "ann"),
        ("3", ""),
        ("2.5", ""),
        ("-2", ""),
        ("true", ""),
        ("[2]", ""),
        ("{}", ""),
        ("\"null\"", ""),
        ("1, \"target_user_id\": 2", "bob, bob again"),
        ("2, \"target_user_id\": null", all),
        ("null, \"target_user\\u005fid\": 2", "bob, bob again"),
    ] {
        assert_eq!(receivers(target), expected, "{target}");
    }
}

#[test]
fn a_target_is_an_ordinary_key_of_other_kinds() {
    let mut bus = with(&["other"]);
    let data = r#"{"a":1,"target_user_id":2}"#;
    assert_eq!(shaped(&mut bus, "other", data), data);
}

#[test]
fn a_target_is_never_passed_on_where_it_is_one() {
    let mut bus = bus(|channel| {
        channel.targeted = vec!["other".into(), "tweet".into()];
        channel.shape =
            BTreeMap::from([("tweet".to_owned(), vec!["target_user_id".into(), "a".into()])]);
    });
    for name in ["ann", "other", "tweets"] {
        join(&mut bus, name, name);
    }
    let data = r#"{ "a" : 1 ,"target_user_id":1, "b":[ ],"target\u005fuser_id":null}"#;
    assert_eq!(shaped(&mut bus, "other", data), r#"{"a":1,"b":[ ]}"#);
    assert_eq!(shaped(&mut bus, "other", r#"{"target_user_id":1}"#), "{}");
    assert_eq!(shaped(&mut bus, "tweets", data), r#"{"a":1}"#);
    // Chat is no such kind here, and is not shaped.
    assert_eq!(shaped(&mut bus, "ann", data), data);
}

/// The seed's three kinds, byte for byte.
#[test]
fn the_seeds_messages_arrive_as_it_says() {
    let mut bus = with(&["ann", "bob", "tweets", "progress"]);
    bus.say("ann", r#"{"data":{"message":"hi","name":"Ann","target_user_id":2}}"#);
    assert_eq!(bus.heard("ann"), [OK]);
    assert_eq!(
        bus.heard("bob"),
        [
            r#"{"type":"message","sender":{"name":"Ann","id":1},"data":{"message":"hi","name":"Ann"}}"#
        ]
    );
    bus.say(
        "tweets",
        r#"{"data":{"tweet":{"id":5,"content":"はい","created_at":"2025-01-01 00:00:00","user":{"id":1,"name":"Ann"}}}}"#,
    );
    assert_eq!(
        bus.heard("tweets"),
        [
            OK,
            r#"{"type":"message","sender":{"name":"Ann","id":1},"data":{"tweet":{"id":5,"content":"はい","created_at":"2025-01-01 00:00:00","user":{"id":1,"name":"Ann"}}}}"#
        ]
    );
    bus.feed(
        r#"channel {"channel":"progress:7","data":{"info":{"type":"sample_job_progress","title":"Job","detail":{"cursor":1,"total":20}}}}"#,
    );
    assert_eq!(
        bus.heard("progress"),
        [
            r#"{"type":"message","sender":{"name":"System","id":0},"data":{"info":{"type":"sample_job_progress","title":"Job","detail":{"cursor":1,"total":20}}}}"#
        ]
    );
    bus.nothing_is_left("the end");
}

/// Any JSON of a few levels.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no such number", |number| number.is_finite())
            .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(key(), inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Keys that matter, and others.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("message".to_owned()),
        Just("name".to_owned()),
        Just("target_user_id".to_owned()),
        ".{0,8}",
    ]
}

/// The text of a value with white space and escapes that a serializer would not have chosen.
fn written(value: &Value, odd: bool) -> String {
    let text = if odd { serde_json::to_string_pretty(value).unwrap() } else { value.to_string() };
    if odd { text.replace('é', "\\u00e9") } else { text }
}

proptest! {
    #[test]
    fn shaping_is_what_a_parser_would_have_made_of_it_with_every_value_verbatim(
        fields in proptest::collection::vec((key(), json(), any::<bool>()), 0..8),
    ) {
        let members: Vec<(String, String)> = fields
            .iter()
            .map(|(key, value, odd)| (key.clone(), written(value, *odd)))
            .collect();
        let texts: Vec<String> =
            members.iter().map(|(key, value)| format!("{}:{value}", Value::from(key.as_str()))).collect();
        let data = format!("{{{}}}", texts.join(","));
        let last = |wanted: &str| members.iter().rev().find(|(key, _)| key == wanted).map(|(_, value)| value);

        let mut bus = with(&["ann", "other"]);
        // Whole, where a kind is not shaped.
        prop_assert_eq!(shaped(&mut bus, "other", &data), data.clone());

        bus.say("ann", &format!(r#"{{"data":{data}}}"#));
        let heard = bus.heard("ann");
        prop_assert_eq!(&heard[0], OK);
        let parsed: Map<String, Value> = serde_json::from_str(&data).unwrap();
        let target = parsed.get("target_user_id").cloned().unwrap_or_default();
        let falsy = matches!(&target, Value::Null | Value::Bool(false))
            || target.as_f64() == Some(0.0)
            || target.as_str() == Some("");
        let is_anns = target.as_f64() == Some(1.0);
        prop_assert_eq!(heard.len(), if falsy || is_anns { 2 } else { 1 }, "{:?}", target);
        if let Some(broadcast) = heard.get(1) {
            let expected: Vec<String> = ["message", "name"]
                .iter()
                .filter_map(|key| Some(format!("\"{key}\":{}", last(key)?)))
                .collect();
            prop_assert_eq!(broadcast, &of_ann(&format!("{{{}}}", expected.join(","))));
            prop_assert!(serde_json::from_str::<Value>(broadcast).is_ok());
        }
    }

    #[test]
    fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,a-z0-9\\\\ ]{0,60}") {
        use tungstenite::protocol::frame::coding::{Data, OpCode};
        let mut bus = with(&["ann"]);
        bus.send("ann", OpCode::Data(Data::Binary), &bytes);
        bus.say("ann", &text);
        bus.say("ann", &format!(r#"{{"data":{{{text}}}}}"#));
        bus.feed(&format!(r#"channel {{"channel":"chat:1","data":{{{text}}}}}"#));
        bus.heard("ann");
        bus.say("ann", r#"{"data":{}}"#);
        prop_assert_eq!(bus.heard("ann"), [OK.to_owned(), of_ann("{}")]);
    }
}
