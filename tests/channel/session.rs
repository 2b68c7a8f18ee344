//! From the request to the end: path and query, origin and subprotocol, pings, limits, and the sockets that have
//! been refused.

use super::*;
use fanfare::dialect::Upgrade;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// What a client of this path is told.
fn greeting(path: &str) -> Vec<String> {
    let mut bus = bus(|channel| {
        let odd = "[[token]]\ntoken = \"a b&c=é+%\"\nchannel = \"chat:1\"\n";
        channel.verifier = Some(verifier(&format!("{TOKENS}{odd}")));
    });
    bus.connect("", path, HOST);
    bus.heard("")
}

#[test]
fn the_first_token_of_the_query_counts_and_nothing_else_is_read_for_one() {
    for path in [
        "/?token=ann",
        "/?a=b&token=ann&c",
        "/?token=ann&token=nobody-knows",
        "/?token=a+b%26c%3D%C3%A9%2B%25",
        "/?token=a%20b%26c%3Dé%2B%25",
        "/?%74oken=ann",
        "/?&&token=ann",
    ] {
        assert_eq!(greeting(path), ["101"], "{path}");
    }
    for (path, reason) in [
        ("/", "missing"),
        ("/?", "missing"),
        ("/?token", "missing"),
        ("/?token=", "missing"),
        ("/?token=&token=ann", "missing"),
        ("/?Token=ann", "missing"),
        ("/?token[]=ann", "missing"),
        ("/?token=who&token=ann", "invalid"),
        ("/?token=%20ann", "invalid"),
        ("/?token=ann%00", "invalid"),
        ("/?token=%FF", "invalid"),
        ("/?token=over", "expired"),
    ] {
        assert_eq!(
            greeting(path),
            ["101".to_owned(), format!("close 1008 token {reason}")],
            "{path}"
        );
    }
}

#[test]
fn a_token_in_a_header_is_not_read() {
    let mut bus = bus(|_| ());
    bus.auth_token = "ann";
    bus.connect("", "/", HOST);
    assert_eq!(bus.heard(""), ["101", "close 1008 token missing"]);
}

#[test]
fn no_other_path_is_taken() {
    for path in ["/chat?token=ann", "//?token=ann", "/rooms/key?token=ann", "/%2F?token=ann"] {
        assert_eq!(greeting(path), ["gone"], "{path}");
    }
}

#[test]
fn a_request_that_asks_for_no_websocket_is_told_to() {
    let mut bus = bus(|_| ());
    let upgrade = |path| Upgrade { path, ..Upgrade::default() };
    let claimant = bus.shard.claimant(&upgrade("/"), &[KIND], bus.now).unwrap();
    assert_eq!(claimant.plain("GET", "/"), 426);
    assert_eq!(bus.shard.claimant(&upgrade("/x"), &[KIND], bus.now), None);
}

#[test]
fn the_first_subprotocol_that_is_offered_is_agreed_to() {
    for (offered, agreed) in [
        ("", None),
        (" ", None),
        ("json", Some("json")),
        ("chat, superchat", Some("chat")),
        ("chat,superchat", Some("chat")),
        (",chat", None),
    ] {
        let mut bus = bus(|_| ());
        bus.subprotocols = offered;
        join(&mut bus, "a", "ann");
        let head = &bus.clients["a"].head;
        let line = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!(line, agreed, "{offered}");
        assert!(
            head.ends_with("\r\n\r\n") && !head[..head.len() - 2].contains("\r\n\r\n"),
            "{head:?}"
        );
    }
}

#[test]
fn pages_of_other_origins_are_refused_where_origins_are_named() {
    let mut open = bus(|_| ());
    open.origin = Some(b"https://anywhere.example");
    join(&mut open, "a", "ann");
    let named =
        || bus(|channel| channel.origins = vec!["https://app.example".into(), "null".into()]);
    // A back end has no origin.
    for origin in [Some(&b"https://app.example"[..]), Some(b"null"), None] {
        let mut bus = named();
        bus.origin = origin;
        join(&mut bus, "a", "ann");
    }
    for origin in [
        &b"https://app.example.evil"[..],
        b"http://app.example",
        b"https://APP.example",
        b"https://app.example:444",
        b"https://app.example\xff",
        b"\xff",
        b"",
    ] {
        let mut bus = named();
        bus.origin = Some(origin);
        bus.connect("", PATH, HOST);
        assert_eq!(bus.heard(""), ["403", "end"], "{origin:?}");
        // Without a token too: whether one is good is not for such a page to know.
        bus.connect("b", "/", HOST);
        assert_eq!(bus.heard("b"), ["403", "end"], "{origin:?}");
    }
}

#[test]
fn nothing_is_said_until_there_is_something_to_say() {
    let mut bus = with(&["ann", "bob"]);
    bus.wait(24);
    assert!(bus.heard("ann").is_empty() && bus.heard("bob").is_empty());
}

#[test]
fn a_client_that_does_not_answer_pings_is_closed_75_s_after_its_last_frame() {
    let mut bus = with(&["ann"]);
    bus.wait(10);
    bus.say("ann", r#"{"data":{}}"#);
    assert_eq!(bus.heard("ann"), [OK.to_owned(), of_ann("{}")]);
    bus.wait(24);
    bus.nothing_is_left("the first ping");
    bus.wait(1);
    assert_eq!(bus.heard("ann"), ["ping []"]);
    bus.wait(25);
    assert_eq!(bus.heard("ann"), ["ping []"]);
    bus.wait(24);
    bus.nothing_is_left("the close");
    bus.wait(1);
    assert_eq!(bus.heard("ann"), ["close 1001 ping timeout"]);
}

#[test]
fn any_frame_of_the_client_shows_that_it_is_there() {
    let frames: [(OpCode, &[u8], &str); 5] = [
        (OpCode::Control(Control::Pong), b"", ""),
        (OpCode::Control(Control::Pong), b"unasked", ""),
        (OpCode::Control(Control::Ping), b"x", "pong [120]"),
        (OpCode::Data(Data::Text), b"no JSON", NOT_OK),
        (OpCode::Data(Data::Binary), b"\xFF", NOT_OK),
    ];
    for (opcode, payload, answer) in frames {
        let mut bus = with(&["ann"]);
        for _ in 0..4 {
            // The second ping is out when the client stirs.
            bus.wait(60);
            assert_eq!(bus.heard("ann"), ["ping []", "ping []"], "{opcode:?}");
            bus.send("ann", opcode, payload);
            assert_eq!(bus.heard("ann").concat(), answer);
        }
        bus.wait(75);
        assert_eq!(bus.heard("ann"), ["ping []", "ping []", "close 1001 ping timeout"]);
    }
}

#[test]
fn an_interval_of_0_sends_no_pings() {
    let mut bus = bus(|channel| channel.ping_interval_s = 0);
    join(&mut bus, "a", "ann");
    bus.wait(600);
    assert!(bus.heard("a").is_empty());
    bus.say("a", r#"{"data":{}}"#);
    bus.wait(600);
    assert_eq!(bus.heard("a"), [OK.to_owned(), of_ann("{}")]);
}

#[test]
fn pings_are_answered_and_a_close_is_echoed() {
    let mut bus = with(&["ann", "bob"]);
    bus.send("ann", OpCode::Control(Control::Ping), b"hi");
    assert_eq!(bus.heard("ann"), ["pong [104, 105]"]);
    bus.send("ann", OpCode::Control(Control::Close), b"\x03\xE8bye");
    assert_eq!(bus.heard("ann"), ["close 1000 bye", "end"]);
    bus.send("bob", OpCode::Control(Control::Close), b"");
    assert_eq!(bus.heard("bob"), ["close", "end"]);
    bus.wait(10);
    assert_eq!(bus.metrics.sessions[KIND as usize].get(), 0);
}

#[test]
fn faulty_frames_close_with_the_codes_of_the_rfc() {
    let mut bus = with(&["ann", "bob", "text", "nobody"]);
    bus.send("ann", OpCode::Data(Data::Text), b"{\"data\":{\"message\":\"\xFF\"}}");
    assert_eq!(bus.heard("ann"), ["close 1007 text that is not UTF-8", "end"]);
    bus.send("bob", OpCode::Data(Data::Reserved(3)), b"{}");
    assert_eq!(bus.heard("bob"), ["close 1002 protocol error", "end"]);
    bus.send("text", OpCode::Data(Data::Text), &vec![b' '; 65_537]);
    assert_eq!(bus.heard("text"), ["close 1009 the message is too long", "end"]);
    let longest = format!(r#"{{"data":{{"message":"{}"}}}}"#, "x".repeat(65_536 - 23));
    assert_eq!(longest.len(), 65_536);
    bus.say("nobody", &longest);
    assert_eq!(bus.heard("nobody")[0], OK);
}

#[test]
fn all_are_told_when_the_daemon_stops() {
    let mut bus = with(&["ann", "tweets"]);
    bus.shard.drain(bus.now);
    bus.flush();
    assert_eq!(bus.heard("ann"), ["close 1001 the server is stopping"]);
    assert_eq!(bus.heard("tweets"), ["close 1001 the server is stopping"]);
}

/// In the original any broadcast while such a socket was still closing ended the process.
#[test]
fn a_refused_socket_hears_nothing_and_is_dropped() {
    let mut bus = with(&["ann", "bob"]);
    for (name, path) in [("x", "/"), ("y", "/?token=who"), ("z", "/?token=over")] {
        bus.connect(name, path, HOST);
        assert_eq!(bus.heard(name).len(), 2, "{path}");
        bus.say("ann", r#"{"data":{"message":"1"}}"#);
        bus.say(name, r#"{"data":{"message":"2"}}"#);
        bus.say(name, "{}");
        bus.send(name, OpCode::Control(Control::Ping), b"");
        bus.feed(r#"channel {"channel":"chat:1","data":{"message":"3"}}"#);
        assert_eq!(bus.heard(name), Vec::<String>::new(), "{path}");
        assert_eq!((bus.heard("ann").len(), bus.heard("bob").len()), (3, 2), "{path}");
    }
    assert_eq!(bus.metrics.sessions[KIND as usize].get(), 2);
    bus.send("x", OpCode::Control(Control::Close), b"\x03\xF0");
    assert_eq!(bus.heard("x"), ["end"]);
    bus.wait(10);
    assert_eq!(
        (bus.heard("y"), bus.heard("z")),
        (vec!["gone".to_owned()], vec!["gone".to_owned()])
    );
    assert_eq!(bus.shard.len(), 2);
}
