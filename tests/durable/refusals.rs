//! Every way to be refused: the status at the upgrade, or the code of the close frame.

use crate::client::{Consumer, Producer, Socket, setup};
use crate::harness::{Client, SECRET, http};
use fanfare::token::{Algorithm, mint};
use serde_json::json;

#[test]
fn parameters_that_make_no_sense_are_400_and_say_which() {
    let daemon = setup().start();
    let consumer = "/ws/v2/consumer/persistent/public/default/t/sub";
    let producer = "/ws/v2/producer/persistent/public/default/t";
    let reader = "/ws/v2/reader/persistent/public/default/t";
    for (path, query) in [
        (consumer, "subscriptionType=exclusive"),
        (consumer, "subscriptionType=Other"),
        (consumer, "subscriptionMode=Sometimes"),
        (consumer, "subscriptionInitialPosition=Middle"),
        (consumer, "receiverQueueSize=-1"),
        (consumer, "receiverQueueSize=many"),
        (consumer, "receiverQueueSize=99999999999999999999"),
        (consumer, "ackTimeoutMillis=999"),
        (consumer, "ackTimeoutMillis=-5"),
        (consumer, "negativeAckRedeliveryDelay=-1"),
        (consumer, "maxRedeliverCount=0"),
        (consumer, "maxRedeliverCount=x"),
        (consumer, "deadLetterTopic=persistent://public/default/d"),
        (consumer, "priorityLevel=-1"),
        (producer, "hashingScheme=Other"),
        (producer, "messageRoutingMode=Other"),
        (producer, "initialSequenceId=x"),
        (producer, "sendTimeoutMillis=x"),
        (producer, "compressionType=Other"),
        (producer, "encryptionKeys=key1,key2"),
    ] {
        let (status, text) = Socket::refused(daemon.address, &format!("{path}?{query}"));
        assert_eq!(status, 400, "{query}: {text}");
        assert!(!text.trim().is_empty(), "{query}");
    }
    let (status, text) = Socket::refused(daemon.address, &format!("{reader}?messageId=nonsense!"));
    assert_eq!(status, 400, "{text}");
    let (_, text) = Socket::refused(daemon.address, &format!("{consumer}?receiverQueueSize=-1"));
    assert!(text.starts_with("Invalid query params: "), "{text}");
}

#[test]
fn paths_that_name_no_topic_are_404() {
    let daemon = setup().start();
    for path in [
        "/ws/v2/producer/persistent/public/default",
        "/ws/v2/producer/other/public/default/t",
        "/ws/v2/consumer/persistent/public/default/t",
        "/ws/v2/consumer/persistent/public/default/a/b/sub",
        "/ws/v2/nobody/persistent/public/default/t",
        "/ws/v2/producer/persistent/pub%20lic/default/t",
        "/ws/v2/producer/persistent/public/default/..",
        "/ws/v2/producer/persistent/public/default/a%00b",
        &format!("/ws/v2/producer/persistent/public/default/{}", "x".repeat(256)),
    ] {
        let (status, text) = Socket::refused(daemon.address, path);
        assert_eq!(status, 404, "{path}: {text}");
    }
}

#[test]
fn odd_names_are_names() {
    let daemon = setup().start();
    for name in
        ["%C3%A9t%C3%A9", "a+b", "with%2Fslash", "percent%25", "'quotes'%22", &"x".repeat(255)]
    {
        let mut producer = Producer::new(&daemon, name);
        producer.send(name);
        let mut reader = Consumer::reader(&daemon, &format!("{name}?messageId=earliest"));
        assert_eq!(reader.take().payload, name);
    }
}

#[test]
fn a_request_without_an_upgrade_is_refused() {
    let daemon = setup().start();
    let path = "/ws/v2/producer/persistent/public/default/t";
    let (status, _) = http(
        daemon.address,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    assert!(status == 405 || status == 426 || status == 400, "{status}");
    let mut client = Client::raw(daemon.address);
    let head = crate::harness::head(path).replace("Version: 13", "Version: 8");
    client.bytes(head.as_bytes());
    let (status, text) = client.accepted();
    assert!(
        (status == 400 || status == 426) && text.contains("Sec-WebSocket-Version: 13"),
        "{text}"
    );
}

#[test]
fn what_a_consumer_may_not_say_ends_its_connection() {
    let daemon = setup().start();
    for (said, code, reason) in [
        ("nonsense", 4003, Some("Failed to de-serialize from JSON")),
        ("{", 4003, Some("Failed to de-serialize from JSON")),
        ("[]", 4003, Some("Failed to de-serialize from JSON")),
        ("{\"type\":\"permit\"}", 4003, Some("Failed to de-serialize from JSON")),
        (
            "{\"type\":\"permit\",\"permitMessages\":\"x\"}",
            4003,
            Some("Failed to de-serialize from JSON"),
        ),
        ("{}", 1011, None),
        ("{\"messageId\":\"!\"}", 1011, None),
        ("{\"messageId\":\"AAAA\"}", 1011, None),
        ("{\"messageId\":null}", 1011, None),
        ("{\"type\":\"negativeAcknowledge\",\"messageId\":\"??\"}", 1011, None),
        ("{\"type\":\"negativeAcknowledge\"}", 1011, None),
    ] {
        let mut consumer = Consumer::new(&daemon, "said", "sub?pullMode=true");
        consumer.0.client.say(said);
        let closed = consumer.0.closed();
        assert_eq!(closed.0, code, "{said}: {closed:?}");
        match reason {
            Some(reason) => assert_eq!(closed.1, reason, "{said}"),
            None => assert!(!closed.1.is_empty(), "{said}"),
        }
        consumer.0.leave_quietly();
    }
    let mut unmasked = Consumer::new(&daemon, "said", "other");
    unmasked.0.client.bytes(b"\x81\x02{}");
    assert_eq!(unmasked.0.closed().0, 1002);
}

#[test]
fn binary_messages_are_passed_over() {
    let daemon = setup().start();
    let mut producer = Producer::new(&daemon, "binary");
    producer.0.client.frame(0x82, b"\x00\x01");
    producer.send("text");
    let mut consumer = Consumer::new(&daemon, "binary", "sub?subscriptionInitialPosition=Earliest");
    consumer.0.client.frame(0x82, b"nonsense");
    assert_eq!(consumer.take().payload, "text");
    consumer.assert_quiet();
}

#[test]
fn the_idle_are_closed_and_pings_keep_the_quiet() {
    let daemon = setup().set("pulsar.ping_interval_s", 0).set("pulsar.idle_timeout_s", 1).start();
    let mut consumer = Consumer::new(&daemon, "idle", "sub");
    assert_eq!(consumer.0.closed().0, 1001);
    let daemon = setup().set("pulsar.ping_interval_s", 1).set("pulsar.idle_timeout_s", 3).start();
    let mut consumer = Consumer::new(&daemon, "idle", "sub");
    for _ in 0..5 {
        let frame = consumer.0.client.next().unwrap();
        assert_eq!((frame.first, frame.payload.as_slice()), (0x89, &b"PING"[..]));
        consumer.0.client.frame(0x8a, b"PING");
    }
}

#[test]
fn a_token_is_asked_for_where_it_is_configured() {
    let setup = setup();
    let secret = setup.path("jwt.secret");
    let daemon = setup
        .set("pulsar.anonymous", false)
        .set("pulsar.token.jwt.algorithms", "[\"HS256\"]")
        .set("pulsar.token.jwt.secret_file", secret.display())
        .start();
    let path = "/ws/v2/producer/persistent/public/default/t";
    for query in ["", "?token=nonsense"] {
        assert_eq!(Socket::refused(daemon.address, &format!("{path}{query}")).0, 401, "{query}");
    }
    let old = "/ws/producer/persistent/public/cluster/default/t";
    let closed = Socket::open(daemon.address, old).closed();
    assert_eq!(closed, (4005, "Failed to authenticate client".into()));
    let token = minted(&json!({ "sub": "ann", "exp": 4_000_000_000u64 }));
    Socket::open(daemon.address, &format!("{path}?token={token}"));
}

fn minted(claims: &serde_json::Value) -> String {
    mint(Algorithm::HS256, SECRET.as_bytes(), claims.as_object().unwrap()).unwrap()
}

#[test]
fn a_token_opens_what_its_claims_name_until_its_end_or_the_next() {
    let setup = setup();
    let secret = setup.path("jwt.secret");
    let daemon = setup
        .set("pulsar.anonymous", false)
        .set("pulsar.default_rights", "none")
        .set("pulsar.token.jwt.algorithms", "[\"HS256\"]")
        .set("pulsar.token.jwt.secret_file", secret.display())
        .start();
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let token = |end_s: u64| {
        let claims = json!({ "exp": now_s + end_s, "pulsar_produce": ["public/default/mine-*"] });
        minted(&claims)
    };
    let path = "/ws/v2/producer/persistent/public/default/";
    let (status, text) =
        Socket::refused(daemon.address, &format!("{path}other?token={}", token(60)));
    assert_eq!((status, text.trim()), (403, "Not authorized"));
    let consumer =
        format!("/ws/v2/consumer/persistent/public/default/mine-a/s?token={}", token(60));
    assert_eq!(Socket::refused(daemon.address, &consumer).0, 403);
    let bare = minted(&json!({ "exp": now_s + 60 }));
    assert_eq!(Socket::refused(daemon.address, &format!("{path}mine-a?token={bare}")).0, 403);

    let mut ends =
        Producer(Socket::open(daemon.address, &format!("{path}mine-a?token={}", token(2))));
    let mut stays =
        Producer(Socket::open(daemon.address, &format!("{path}mine-b?token={}", token(2))));
    ends.send("while it is good");
    let response = json!({ "response": { "authMethodName": "token", "authData": token(60) } });
    stays.0.say(&json!({ "type": "AUTH_RESPONSE", "authResponse": response }));
    let (code, reason) = ends.0.closed();
    assert_eq!((code, &*reason), (4005, "Failed to authenticate client: the token has expired"));
    stays.send("with the next token");
}
