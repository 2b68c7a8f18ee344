//! What is said, byte for byte: the seed's messages, both spellings of every answer, the escapes.

use super::*;

/// The event as the seed prints it, with its line ends taken out, as a feed has one event a line.
const SEED_EVENT: &str = r#"{      "Type":"chat",       "RequestKey":null,      "Schema":"",      "External":true,      "Object":"general",      "Info":"Hello World",       "cellId":"5ZKpfNSMSwO6GqAgt0O2Jg",       "Subject":"https:\/\/demo.personium.io\/john.doe\/#me"    }"#;

#[test]
fn the_messages_of_the_seed_go_through_with_their_own_bytes() {
    let mut bus = Bus::with(&TOKENS.replace("reader", "AA~91WT0GNoVGFHJFQ.......e"));
    bus.talk(
        r#"
        > {"access_token":"AA~91WT0GNoVGFHJFQ.......e"}
        < {"response":"success","expires_in":3600,"timestamp":1518612600}
        > {"subscribe": {"Type": "chat", "Object": "*"}}
        < {"response":"success","timestamp":1518612600}
        feed event/john.doe {"Type":"chat","RequestKey":null,"Schema":"","External":true,"Object":"general","Info":"Hello World","cellId":"5ZKpfNSMSwO6GqAgt0O2Jg","Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}
        < {"Type":"chat","RequestKey":null,"Schema":"","External":true,"Object":"general","Info":"Hello World","cellId":"5ZKpfNSMSwO6GqAgt0O2Jg","Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}
        wait 14
        > {"state": "subscriptions"}
        < {"subscriptions":[{"type":"chat","object":"*"}],"response":"success","timestamp":1518612614}
        > {"state": "all"}
        < {"subscriptions":[{"type":"chat","object":"*"}],"response":"success","cell":"john.doe","expires_in":3586,"timestamp":1518612614}
        > {"unsubscribe": {"Type": "chat", "Object": "*"}}
        < {"response":"success","timestamp":1518612614}
        > {"unsubscribe": {"Type": "chat", "Object": "*"}}
        < {"reason":"subscriptions not found","response":"error","timestamp":1518612614}
        > {"subscribe": {"Type": "chat"}}
        < {"reason":"format error","response":"error","timestamp":1518612614}
        "#,
    );
}

#[test]
fn an_event_is_passed_on_to_a_classic_session_with_its_spacing() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(
        r#"
        > {"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        > {"subscribe":{"Type":"*","Object":"*"}}
        < {"response":"success","timestamp":$S}
        "#,
    );
    for event in [
        SEED_EVENT,
        r#"{"Object":"o" , "Type":"\u0074","extra":[1, 2.50,{"a":null}]} "#,
        r#" {"Type":"","Object":""}"#,
    ] {
        bus.feed(&format!("event/john.doe {event}"));
        assert_eq!(bus.heard(""), [event]);
    }
}

#[test]
fn every_answer_in_the_classic_spelling() {
    talk(
        r#"
        > {"subscribe":{"Type":"a","Object":"b"}}
        < {"reason":"unauthorized","response":"error","timestamp":$S}
        > {"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        > {"subscribe":{"Type":"a","Object":"https://x/"}}
        < {"response":"success","timestamp":$S}
        > {"subscribe":{"Type":"*","Object":""}}
        < {"response":"success","timestamp":$S}
        > {"state":"subscriptions"}
        < {"subscriptions":[{"type":"a","object":"https:\/\/x\/"},{"type":"*","object":""}],"response":"success","timestamp":$S}
        wait 1
        > {"state":"all"}
        < {"subscriptions":[{"type":"a","object":"https:\/\/x\/"},{"type":"*","object":""}],"response":"success","cell":"john.doe","expires_in":3599,"timestamp":$S}
        > {"state":"All"}
        < {"reason":"invalid state type. allowed status type: [all, subscriptions]","response":"error","timestamp":$S}
        > {"unsubscribe":{"Type":"*","Object":""}}
        < {"response":"success","timestamp":$S}
        > {"unsubscribe":{"Type":"*","Object":""}}
        < {"reason":"subscriptions not found","response":"error","timestamp":$S}
        > {"unsubscribe":{"Type":"*"}}
        < {"reason":"format error","response":"error","timestamp":$S}
        > hello
        < {"reason":"format error","response":"error","timestamp":$S}
        > {"access_token":"reader"}
        < {"response":"success","expires_in":3600,"timestamp":$S}
        "#,
    );
}

#[test]
fn every_answer_in_the_current_spelling() {
    talk(
        r#"
        > {"Subscribe":{"Type":"a","Object":"b"}}
        < {"Response":"AccessToken","Timestamp":$MS,"Reason":"Unauthorized","Result":"Error"}
        > {"AccessToken":"reader"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        > {"Subscribe":{"Type":"a","Object":"https://x/"}}
        < {"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}
        > {"Subscribe":{"Type":"*","Object":""}}
        < {"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}
        > {"State":"Subscriptions"}
        < {"Response":"State","Subscriptions":[{"Type":"a","Object":"https:\/\/x\/"},{"Type":"*","Object":""}],"Timestamp":$MS,"Result":"Success"}
        wait 1
        > {"State":"All"}
        < {"Response":"State","ExpiresIn":3599,"Subscriptions":[{"Type":"a","Object":"https:\/\/x\/"},{"Type":"*","Object":""}],"Timestamp":$MS,"Cell":"john.doe","Result":"Success"}
        > {"State":"all"}
        < {"Response":"State","Timestamp":$MS,"Reason":"Invalid state type. Allowed status type: [All, Subscriptions]","Result":"Error"}
        > {"Unsubscribe":{"Type":"*","Object":""}}
        < {"Response":"Unsubscribe","Timestamp":$MS,"Result":"Success"}
        > {"Unsubscribe":{"Type":"*","Object":""}}
        < {"Response":"Unsubscribe","Timestamp":$MS,"Reason":"Subscriptions not found","Result":"Error"}
        > {"Unsubscribe":{"Type":"*"}}
        < {"Response":"Unsubscribe","Timestamp":$MS,"Reason":"Format error","Result":"Error"}
        > {"Subscribe":"*"}
        < {"Response":"Subscribe","Timestamp":$MS,"Reason":"Format error","Result":"Error"}
        > {"State":1}
        < {"Response":"State","Timestamp":$MS,"Reason":"Format error","Result":"Error"}
        > {"AccessToken":1}
        < {"Response":"AccessToken","Timestamp":$MS,"Reason":"Format error","Result":"Error"}
        > hello
        < {"Response":null,"Timestamp":$MS,"Reason":"Format error","Result":"Error"}
        > {"AccessToken":"reader"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        "#,
    );
}

#[test]
fn strings_in_answers_and_current_events_are_escaped_as_json_simple_does() {
    for (said, told) in [
        (r"plain", r"plain"),
        (r"a/b", r"a\/b"),
        (r#"\"\\"#, r#"\"\\"#),
        (r"\u0008\u000c\u000a\u000d\u0009", r"\b\f\n\r\t"),
        (r"\u0000\u001f\u007f\u009f", r"\u0000\u001F\u007F\u009F"),
        (r"\u2000\u2028\u20ff", r"\u2000\u2028\u20FF"),
        (r"\u00a0\u1fff\u2100\u65e5\ud83d\ude00", "\u{a0}\u{1fff}\u{2100}日😀"),
        ("é\u{2029}日本", "é\\u2029日本"),
    ] {
        let mut bus = Bus::with(TOKENS);
        bus.talk(&format!(
            r#"
            b @ /john.doe/__event
            b < 101
            b > {{"AccessToken":"reader"}}
            b < {{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}}
            > {{"access_token":"reader"}}
            < {{"response":"success","expires_in":3600,"timestamp":$S}}
            > {{"subscribe":{{"Type":"{said}","Object":"{said}"}}}}
            < {{"response":"success","timestamp":$S}}
            > {{"state":"subscriptions"}}
            < {{"subscriptions":[{{"type":"{told}","object":"{told}"}}],"response":"success","timestamp":$S}}
            b > {{"Subscribe":{{"Type":"{said}","Object":"{said}"}}}}
            b < {{"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}}
            feed event/john.doe {{"Type":"{said}","Object":"{said}","Info":"{said}"}}
            < {{"Type":"{said}","Object":"{said}","Info":"{said}"}}
            b < {{"Type":"{told}","RequestKey":null,"Schema":null,"External":false,"Object":"{told}","Info":"{told}","Timestamp":$MS,"Subject":null}}
            "#
        ));
    }
}

#[test]
fn a_current_event_is_rebuilt_in_its_own_order_with_what_is_missing_as_null() {
    let mut bus = Bus::with(TOKENS);
    bus.talk(
        r#"
        > {"AccessToken":"reader"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        > {"Subscribe":{"Type":"","Object":""}}
        < {"Response":"Subscribe","Timestamp":$MS,"Result":"Success"}
        feed event/john.doe {"Type":"chat","RequestKey":null,"Schema":"","External":true,"Object":"general","Info":"Hello World","cellId":"5ZKpfNSMSwO6GqAgt0O2Jg","Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}
        < {"Type":"chat","RequestKey":null,"Schema":null,"External":true,"Object":"general","Info":"Hello World","Timestamp":1518612600000,"Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}
        feed event/john.doe {"Subject":"s","Timestamp":1234567890123,"Info":"i","Object":"o","External":false,"Schema":"https://a/","RequestKey":"k","Type":"t"}
        < {"Type":"t","RequestKey":"k","Schema":"https:\/\/a\/","External":false,"Object":"o","Info":"i","Timestamp":1234567890123,"Subject":"s"}
        wait 1
        feed event/john.doe {"Type":"t","Object":"o","External":null,"Timestamp":null,"Subject":null,"more":1}
        < {"Type":"t","RequestKey":null,"Schema":null,"External":false,"Object":"o","Info":null,"Timestamp":1518612601000,"Subject":null}
        feed event/john.doe {"Type":"t","Object":"o","Info":{"a":[1,"x"]},"External":"yes"}
        < {"Type":"t","RequestKey":null,"Schema":null,"External":false,"Object":"o","Info":{"a":[1,"x"]},"Timestamp":$MS,"Subject":null}
        "#,
    );
}
