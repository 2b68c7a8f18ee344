//! Events of publishers: which are good, and what they come to.

use crate::rest::{Server, payload};
use fanfare::dialect::Kind;
use fanfare::dialect::echo::{EchoReach, SocketId};
use fanfare::feed::Intake;
use fanfare::frame::Publication;
use fanfare::wheel::Now;
use std::sync::Arc;

const EVENTS: &str = "/apps/app-id/events";

fn event(fields: &str) -> String {
    format!(r#"{{"name":"e","channel":"c","data":"d",{fields}}}"#)
}

/// What a line of the unix feed comes to.
fn feed(server: Server, place: &str, json: &str) -> Result<Vec<Publication>, String> {
    let mut intake = Intake::new(vec![Kind::Echo], Arc::new(server.settings));
    let mut publications = Vec::new();
    let publish = &mut |publication| publications.push(publication);
    let taken = intake.take(&format!("echo/{place}"), json.as_bytes(), Now::default(), publish);
    taken.map(|_| publications).map_err(|error| error.to_string())
}

#[test]
fn an_event_goes_to_each_of_its_channels_once_and_in_order() {
    let server = Server::new(|_| {});
    let body = r#" { "data" : "\u00e9\/\"" , "name":"A\\B","channel":"ignored","channels":["b","a","b","private-cache-x"],"more":[1,{}] } "#;
    let (status, _, publications, _) = server.signed("POST", EVENTS, body);
    assert_eq!((status, publications.len()), (200, 3));
    for (publication, (channel, retain_s)) in
        publications.iter().zip([("b", 0), ("a", 0), ("private-cache-x", 1800)])
    {
        assert_eq!(publication.topic(), format!("eapp-id\0{channel}\0").as_bytes());
        assert_eq!(publication.retain_s, retain_s);
        let expected = format!(r#"{{"event":"A\\B","channel":"{channel}","data":"\u00e9\/\""}}"#);
        assert_eq!(payload(publication), expected);
    }
}

#[test]
fn an_event_reaches_all_but_its_socket() {
    let server = Server::new(|_| {});
    for (socket_id, reach) in [
        ("\"1.2\"", EchoReach::AllBut(SocketId(1 << 32 | 2))),
        ("null", EchoReach::All),
        ("\"1394211398.6599677993\"", EchoReach::All),
    ] {
        let body = event(&format!(r#""socket_id":{socket_id}"#));
        let publications = server.signed("POST", EVENTS, &body).2;
        assert_eq!(EchoReach::of(publications[0].meta()), reach, "{socket_id}");
    }
}

#[test]
fn what_breaks_a_rule_is_refused_whole() {
    let server = Server::new(|app| {
        (app.channels_per_event_max, app.event_name_chars_max, app.data_bytes_max) = (2, 3, 4);
    });
    for (body, status) in [
        (event(r#""data":"1234""#), 200),
        (event(r#""data":"\u0031\u0032\u0033\u0034""#), 200),
        (event(r#""data":"éé""#), 200),
        (event(r#""data":"éé1""#), 413),
        (event(r#""data":"12345""#), 413),
        (event(r#""data":{}"#), 400),
        (event(r#""data":null"#), 400),
        (event(r#""name":"äöü""#), 200),
        (event(r#""name":"1234""#), 400),
        (event(r#""name":"""#), 400),
        (event(r#""name":7"#), 400),
        (event(r#""name":null"#), 400),
        (event(r#""channel":"a b""#), 400),
        (event(r#""channel":null"#), 400),
        (event(r#""channel":7"#), 400),
        (event(r#""channels":["a","b"]"#), 200),
        (event(r#""channels":["a","b","a"]"#), 400),
        (event(r#""channels":["a",7]"#), 400),
        (event(r#""channels":["a","b c"]"#), 400),
        (event(r#""channels":[]"#), 400),
        (event(r#""channels":"a""#), 400),
        (event(r#""channels":null"#), 200),
        (event(r##""channels":["#server-to-user-7"]"##), 200),
        (event(r##""channels":["#server-to-user-"]"##), 400),
        (event(r#""socket_id":"1""#), 400),
        (event(r#""socket_id":1.2"#), 400),
        (event(r#""socket_id":"""#), 400),
        (event(r#""info":7"#), 400),
        (event(r#""info":"nothing""#), 200),
        (event(r#""unknown":{"name":7}"#), 200),
        ("{}".into(), 400),
        (String::new(), 400),
    ] {
        assert_eq!(server.status(EVENTS, &body), status, "{body}");
    }
    let names = Server::new(|_| {});
    for (name, status) in
        [("pusher:x", 400), ("pusher_internal:x", 400), ("pusher", 200), ("client-x", 200)]
    {
        assert_eq!(names.status(EVENTS, &event(&format!(r#""name":"{name}""#))), status, "{name}");
    }
}

#[test]
fn a_limit_of_0_is_none() {
    let server = Server::new(|app| {
        (app.channels_per_event_max, app.event_name_chars_max, app.data_bytes_max) = (0, 0, 0);
        (app.cache_ttl_s, app.batch_events_max, app.request_bytes_max) = (0, 0, 0);
    });
    let channels: Vec<String> = (0..500).map(|place| format!("\"cache-{place}\"")).collect();
    let long = "x".repeat(100_000);
    let body =
        format!(r#"{{"name":"{long}","data":"{long}","channels":[{}]}}"#, channels.join(","));
    let (status, _, publications, _) = server.signed("POST", EVENTS, &body);
    assert_eq!((status, publications.len(), publications[0].retain_s), (200, 500, u32::MAX));
    assert_eq!(Kind::Echo.body_bytes_max("POST", EVENTS, &server.settings), Some(64 * 1024 * 1024));
}

#[test]
fn a_fed_event_keeps_the_same_rules_and_may_have_any_data() {
    let server = || Server::new(|app| app.data_bytes_max = 20);
    let fed = |fields: &str| {
        let published = feed(server(), "app-id", &format!(r#"{{"name":"e",{fields}}}"#));
        published.map(|published| published.iter().map(payload).collect::<Vec<_>>().join(" "))
    };
    for (fields, frame) in [
        (
            r#""channel":"c","data":"{\"a\":1}""#,
            r#"{"event":"e","channel":"c","data":"{\"a\":1}"}"#,
        ),
        (
            r#""channel":"c","data":{"a" :"\u00e9"}"#,
            r#"{"event":"e","channel":"c","data":"{\"a\" :\"\\u00e9\"}"}"#,
        ),
        (r#""channel":"c","data":1.50"#, r#"{"event":"e","channel":"c","data":"1.50"}"#),
        (r#""channel":"c","data":"x","data":null"#, r#"{"event":"e","channel":"c","data":"null"}"#),
        (
            r#""channels":["a","b"],"data":"","socket_id":null"#,
            r#"{"event":"e","channel":"a","data":""} {"event":"e","channel":"b","data":""}"#,
        ),
    ] {
        assert_eq!(fed(fields).as_deref(), Ok(frame), "{fields}");
    }
    for (fields, reason) in [
        (r#""channel":"c""#, "\"data\" is missing"),
        (r#""channel":"c","data":[1111111,2222222,33333]"#, "longer than 20 bytes"),
        (r#""channel":"a b","data":"""#, "a channel's name"),
        (r#""data":"""#, "no channel"),
    ] {
        assert!(fed(fields).unwrap_err().contains(reason), "{fields}: {:?}", fed(fields));
    }
    let good = r#"{"name":"e","channel":"c","data":""}"#;
    assert_eq!(feed(server(), "other", good).unwrap_err(), "there is no app \"other\"");
    let disabled = Server::new(|app| app.enabled = false);
    assert!(feed(disabled, "app-id", good).unwrap_err().contains("not enabled"));
}
