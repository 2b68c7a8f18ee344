//! What is told about topics: Pulsar's own statistics on the clients' listener, and the daemon's.

use crate::client::{ADMIN_TOKEN, Consumer, Producer, setup};
use crate::harness::{Client, Daemon, eventually, head, http};
use serde_json::{Value, json};

/// A page of the clients' listener: its status and its JSON, or its text.
pub(crate) fn page(daemon: &Daemon, path: &str) -> (u16, Value) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (status, text) = http(daemon.address, request.as_bytes());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or_else(|_| Value::from(body)))
}

/// Asks the admin listener about topics: a status, and JSON or a text.
pub(crate) fn admin(daemon: &Daemon, method: &str, path: &str) -> (u16, Value) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\
         Authorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
    );
    let (status, text) = http(daemon.admin, request.as_bytes());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or_else(|_| Value::from(body)))
}

/// Everything that the admin listener tells of a topic.
pub(crate) fn topic(daemon: &Daemon, topic: &str) -> Value {
    let (status, stats) = admin(daemon, "GET", &format!("/topics/stats?topic={topic}"));
    assert_eq!(status, 200, "{stats}");
    stats
}

/// How many messages wait for a subscription, if there is one.
pub(crate) fn backlog(daemon: &Daemon, name: &str, subscription: &str) -> Option<u64> {
    let stats = topic(daemon, name);
    stats["subscriptions"][subscription]["backlog"].as_u64()
}

#[test]
fn the_proxys_statistics_name_producers_consumers_and_readers() {
    let daemon = setup().set("threads", 2).start();
    let name = "persistent://public/default/told";
    assert_eq!(page(&daemon, "/admin/v2/proxy-stats/persistent/public/default/told/stats").0, 404);
    let mut producer = Producer::new(&daemon, "told");
    let mut consumer = Consumer::new(&daemon, "told", "sub?subscriptionType=Shared");
    let _reader = Consumer::reader(&daemon, "told");
    producer.send_all(["1", "2", "3"]);
    consumer.take_all(3);
    let mut stats = Value::Null;
    eventually("three are delivered", || {
        let (status, all) = page(&daemon, "/admin/v2/proxy-stats/stats");
        assert_eq!(status, 200, "{all}");
        stats = all[name].clone();
        let delivered = |of: &Value| of["numberOfMsgDelivered"] == 3;
        stats["consumerStats"]
            .as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(delivered))
    });
    let producers = stats["producerStats"].as_array().unwrap();
    assert_eq!((producers.len(), &producers[0]["numberOfMsgPublished"]), (1, &json!(3)));
    assert!(producers[0]["remoteConnection"].as_str().unwrap().contains("127.0.0.1:"));
    let consumers = stats["consumerStats"].as_array().unwrap();
    let shared = consumers.iter().find(|one| one["subscriptionName"] == "sub").unwrap();
    assert_eq!(
        (&shared["subscriptionType"], &shared["subscriptionMode"]),
        (&json!("Shared"), &json!("Durable"))
    );
    let (status, one) = page(&daemon, "/admin/v2/proxy-stats/persistent/public/default/told/stats");
    assert_eq!((status, &one), (200, &stats));
    let (status, metrics) = page(&daemon, "/admin/v2/proxy-stats/metrics");
    assert_eq!(status, 200, "{metrics}");
    let namespace = &metrics.as_array().unwrap()[0];
    assert_eq!(namespace["dimensions"]["namespace"], "public/default");
    assert!(namespace["metrics"]["ns_msg_publish_rate"].is_number(), "{namespace}");
}

#[test]
fn a_topic_without_anybody_is_not_in_the_proxys_statistics() {
    let daemon = setup().start();
    let mut producer = Producer::new(&daemon, "gone");
    producer.send("1");
    producer.0.leave();
    eventually("nobody is there", || {
        let (status, text) =
            page(&daemon, "/admin/v2/proxy-stats/persistent/public/default/gone/stats");
        status == 404 && text.as_str().is_some_and(|text| text.contains("Topic does not exist"))
    });
}

#[test]
fn pingpong_answers_a_ping_with_its_payload() {
    let daemon = setup().start();
    for path in ["/ws/pingpong", "/ws/v2/pingpong"] {
        let mut socket = crate::client::Socket::open(daemon.address, path);
        socket.client.frame(0x89, b"are you there");
        let frame = socket.client.next().unwrap();
        assert_eq!((frame.first, frame.payload.as_slice()), (0x8a, &b"are you there"[..]));
    }
}

/// A proxy sends the whole URL (RFC 9112 section 3.2.2), and HEAD asks for what GET asks for.
#[test]
fn statistics_and_handshakes_have_whole_urls_and_statistics_have_heads() {
    let daemon = setup().start();
    let path = "/ws/v2/producer/persistent/public/default/whole";
    let whole = head(path).replace(" /", " http://elsewhere.example/");
    let mut producer = Client::raw(daemon.address);
    producer.bytes(whole.as_bytes());
    assert_eq!(producer.answer(), 101);
    let stats = "http://elsewhere.example/admin/v2/proxy-stats/stats";
    eventually("the producer is told", || {
        page(&daemon, stats).1["persistent://public/default/whole"].is_object()
    });
    let length = |text: &str| {
        let lines = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        lines.unwrap_or_else(|| panic!("{text}")).parse::<usize>().unwrap()
    };
    let request = format!("HEAD {stats} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (status, text) = http(daemon.address, request.as_bytes());
    assert!(status == 200 && text.ends_with("\r\n\r\n") && length(&text) > 2, "{status} {text}");
}
