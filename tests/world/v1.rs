//! Operators and the API of the admin listener: who is connected in which dialect, who gets a topic, and who is
//! sent away.

use crate::harness::{
    Client, Daemon, Echo, Frozen, PATH, SECRET, Setup, echo_setup, eventually, head, http, token,
    token_with,
};
use fanfare::dialect::client::ClientWish;
use fanfare::token::{Algorithm, mint};
use serde_json::{Value, json};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

const TOKEN: &str = "admin-token-0123456789abcdef";

/// Status and body of a request with the token.
fn ask(daemon: &Daemon, method: &str, target: &str) -> (u16, Value) {
    post(daemon, method, target, "")
}

fn post(daemon: &Daemon, method: &str, target: &str, body: &str) -> (u16, Value) {
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, answer) = http(daemon.admin, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: application/json"), "{target}: {answer}");
    (status, serde_json::from_str(body).unwrap())
}

/// The answer to a request that succeeds.
#[track_caller]
fn get(daemon: &Daemon, target: &str) -> Value {
    let (status, body) = ask(daemon, "GET", target);
    assert_eq!(status, 200, "{target}: {body}");
    body
}

/// The rows of a list.
#[track_caller]
fn rows(daemon: &Daemon, query: &str) -> Vec<Value> {
    get(daemon, &format!("/v1/sessions?{query}"))["sessions"].as_array().unwrap().clone()
}

fn ids(rows: &[Value]) -> Vec<&Value> {
    rows.iter().map(|row| &row["id"]).collect()
}

fn local(client: &Client) -> String {
    client.stream().local_addr().unwrap().to_string()
}

fn signed(mut claims: Value) -> String {
    claims["exp"] = 4_000_000_000u64.into();
    mint(Algorithm::HS256, SECRET.as_bytes(), claims.as_object().unwrap()).unwrap()
}

/// A daemon that speaks the six dialects, `channel` on a second listener, on two shards.
fn every_dialect() -> Daemon {
    let setup = echo_setup();
    let secret = setup.path("jwt.secret").display().to_string();
    let store = setup.path("store").display().to_string();
    setup
        .set("admin.token", TOKEN)
        .set(
            "listen.0.dialects",
            r#"["personium-event", "personium-topic", "wazo", "echo", "pulsar"]"#,
        )
        .set("listen.1.address", "127.0.0.1:0")
        .set("listen.1.dialects", r#"["channel"]"#)
        .set("wazo.token.jwt.algorithms", "[\"HS256\"]")
        .set("wazo.token.jwt.secret_file", &secret)
        .set("channel.token.jwt.secret_file", &secret)
        .set("pulsar.anonymous", true)
        .set("store.path", store)
        .start()
}

/// Where the second listener of a daemon is.
fn second(daemon: &Daemon) -> SocketAddr {
    let line: Value = serde_json::from_str(&daemon.logged("\"listening on ")[0]).unwrap();
    let addresses = line["fields"]["addresses"].as_str().unwrap();
    let mut found = addresses.split(' ').filter_map(|word| word.parse().ok());
    found.find(|address| *address != daemon.address).unwrap()
}

/// A WebSocket at a path.
#[track_caller]
fn upgraded(address: SocketAddr, path: &str) -> Client {
    let mut client = Client::raw(address);
    client.bytes(head(path).as_bytes());
    assert_eq!(client.answer(), 101, "{path}");
    client
}

/// A follower of each dialect, with its subscription, the address by which operators ask for it, and its subject.
fn followers(
    daemon: &Daemon,
) -> Vec<(&'static str, Client, &'static str, &'static str, &'static str)> {
    let following =
        |dialect, path: &str, wish| Client::following(daemon.address, dialect, path, wish);
    let with = |token: String| ClientWish { token: Some(token), ..ClientWish::default() };
    let rules = |kind: &str, object: &str, token| ClientWish {
        type_prefix: Some(kind.into()),
        object_prefix: Some(object.into()),
        ..with(token)
    };
    let wazo = signed(json!({ "acl": ["websocketd", "events.#"], "sub": "ann" }));
    let mut echo = Echo::connect(daemon);
    echo.join("presence-room", Some("u1"));
    let chat = signed(json!({ "channel": "chat:1", "id": 2, "name": "Ann" }));
    let mut channel = upgraded(second(daemon), &format!("/?token={chat}"));
    channel.ask(r#"{"data":{}}"#);
    vec![
        (
            "personium-event",
            following("personium-event", PATH, rules("chat", "https://x/a", token())),
            "event/demo/https://x/a* of type chat*",
            "event/demo/https://x/a/b",
            "https://demo.example/#me",
        ),
        (
            "personium-topic",
            following(
                "personium-topic",
                "/demo/__topic/box/stream.topic.chat",
                with(token_with(SECRET, "read stream-receive")),
            ),
            "topic/demo/box/stream.topic.chat",
            "topic/demo/box/stream.topic.chat",
            "",
        ),
        (
            "wazo",
            following("wazo", "/", ClientWish { names: vec!["call".into()], ..with(wazo) }),
            "wazo/call",
            "wazo/call",
            "ann",
        ),
        ("echo", echo.client, "echo/7/presence-room", "echo/7/presence-room", ""),
        ("channel", channel, "channel/chat:1", "channel/chat:1", r#"{"name":"Ann","id":2}"#),
        (
            "pulsar",
            upgraded(daemon.address, "/ws/v2/consumer/non-persistent/public/default/t/s"),
            "pulsar/non-persistent/public/default/t",
            "pulsar/non-persistent/public/default/t",
            "",
        ),
    ]
}

#[test]
fn sessions_of_every_dialect_are_listed_found_by_their_topics_and_ended() {
    let daemon = every_dialect();
    let mut all = followers(&daemon);
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    assert_eq!(rows(&daemon, "").len(), all.len());
    for (dialect, client, shown, topic, subject) in &all {
        let found = rows(&daemon, &format!("dialect={dialect}"));
        assert_eq!(found.len(), 1, "{dialect}: {found:?}");
        let row = &found[0];
        assert_eq!(row["address"], local(client), "{row}");
        assert_eq!((&row["phase"], &row["subscriptions"]), (&json!("open"), &json!(1)), "{row}");
        assert_eq!(row["subject"].as_str().unwrap_or_default(), *subject, "{row}");
        let by_topic = rows(&daemon, &format!("topic={}", encode(topic)));
        assert_eq!(ids(&by_topic), ids(&found), "{topic}");
        let target = format!("/v1/topics/{}/subscribers", topic.replace("//", "%2F%2F"));
        let subscribers = get(&daemon, &target)["sessions"].as_array().unwrap().clone();
        assert_eq!(ids(&subscribers), ids(&found), "{target}");
        if !subject.is_empty() {
            let by_subject = rows(&daemon, &format!("subject={}", encode(subject)));
            assert_eq!(ids(&by_subject), ids(&found));
        }
        let detail = get(&daemon, &format!("/v1/sessions/{}", row["id"].as_str().unwrap()));
        assert_eq!(detail["topics"], json!([shown]), "{detail}");
        assert_eq!((&detail["address"], &detail["tls"]), (&row["address"], &json!(false)));
        let listener = client.stream().peer_addr().unwrap().to_string();
        assert_eq!(detail["listener"], listener);
    }
    assert_eq!(rows(&daemon, "address=127.0.0.1").len(), all.len());
    assert_eq!(rows(&daemon, "address=127.0.0.2").len(), 0);

    // The code is the dialect's own, unless one is named.
    let codes = [1000, 1000, 1008, 4009, 1008, 1008];
    for ((dialect, client, _, topic, _), code) in all.iter_mut().zip(codes) {
        let id = rows(&daemon, &format!("dialect={dialect}"))[0]["id"].as_str().unwrap().to_owned();
        if *dialect == "pulsar" {
            let order = json!({ "topic": topic, "code": 4321, "reason": "maintenance" });
            assert_eq!(post(&daemon, "POST", "/v1/kick", &order.to_string()).1["kicked"], 1);
            assert_eq!(client.next().unwrap().payload, b"\x10\xe1maintenance");
        } else {
            assert_eq!(ask(&daemon, "DELETE", &format!("/v1/sessions/{id}")).1["kicked"], 1);
            let told = loop {
                let frame = client.next().unwrap();
                if frame.first == 0x88 {
                    break u16::from_be_bytes(frame.payload[..2].try_into().unwrap());
                }
            };
            assert_eq!(told, code, "{dialect}");
        }
        client.frame(0x88, &[]);
        client.stream().shutdown(Shutdown::Both).unwrap();
        eventually("it is gone", || ask(&daemon, "GET", &format!("/v1/sessions/{id}")).0 == 404);
        let (status, body) = ask(&daemon, "DELETE", &format!("/v1/sessions/{id}"));
        assert!(status == 404 && body["error"].as_str().unwrap().contains("have ended"), "{body}");
    }
    daemon.await_metric("session_ends_total{reason=\"kicked\"}", 6);
    daemon.await_log("kicked (ended by an operator)", 6);
    daemon.await_log("an operator has ended 1 sessions", 6);
}

#[test]
fn consumers_of_a_durable_topic_are_told_with_their_sessions() {
    let daemon = every_dialect();
    let _consumer = upgraded(daemon.address, "/ws/v2/consumer/persistent/public/default/t/s");
    let id = rows(&daemon, "dialect=pulsar")[0]["id"].clone();
    let (_, stats) = ask(&daemon, "GET", "/topics/stats?topic=persistent://public/default/t");
    assert_eq!(stats["subscriptions"]["s"]["consumers"][0]["session"], id, "{stats}");
    let (status, body) =
        ask(&daemon, "GET", "/v1/sessions?topic=pulsar/persistent/public/default/t");
    assert!(status == 400 && body["error"].as_str().unwrap().contains("/topics/stats"), "{body}");
}

#[test]
fn a_long_list_comes_in_pages_and_all_of_a_filter_are_ended() {
    let daemon = echo_setup().set("admin.token", TOKEN).start();
    let mut all: Vec<Echo> = (0..25).map(|_| Echo::connect(&daemon)).collect();
    for (number, echo) in all.iter_mut().enumerate() {
        echo.join(if number < 20 { "room" } else { "other" }, None);
    }
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = get(&daemon, &format!("/v1/sessions?count=7&topic=echo/7/room{after}"));
        let found = page["sessions"].as_array().unwrap();
        assert!(found.len() <= 7);
        seen.extend(found.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen.len(), 20);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 20, "each once");

    let oldest = rows(&daemon, "sort=age&count=3");
    assert_eq!(oldest.len(), 3);
    assert!(oldest[0]["since_ms"].as_u64() <= oldest[2]["since_ms"].as_u64());
    let status = get(&daemon, "/v1/status");
    assert_eq!((&status["sessions"]["echo"], &status["connections"]), (&json!(25), &json!(25)));
    let shards = status["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 2);
    let of_shards: u64 = shards.iter().map(|shard| shard["connections"].as_u64().unwrap()).sum();
    assert_eq!(of_shards, 25);
    assert!(status["pid"] == daemon.pid().as_raw_nonzero().get() && status["ready"] == true);
    assert!(
        ["io_uring", "epoll"].iter().any(|it| status["driver"].as_str() == Some(it)),
        "{status}"
    );
    let limits = get(&daemon, "/v1/limits");
    assert_eq!(limits["connections"]["used"], 25);
    assert!(limits["descriptors"]["max"].as_u64() > limits["descriptors"]["used"].as_u64());

    assert_eq!(post(&daemon, "POST", "/v1/kick", "topic=echo/7/room&limit=4").1["kicked"], 4);
    assert_eq!(post(&daemon, "POST", "/v1/kick", "topic=echo/7/room").1["kicked"], 16);
    assert_eq!(post(&daemon, "POST", "/v1/kick", "topic=echo/7/room").1["kicked"], 0);
    drop(all.drain(..20));
    daemon.await_metric("connections", 5);
}

#[test]
fn a_shard_that_hangs_is_named_and_others_answer() {
    let daemon = echo_setup().set("admin.token", TOKEN).set("threads", 1).start();
    let _client = Echo::connect(&daemon);
    let Some(frozen) = Frozen::thread(&daemon, "shard-0") else { return };
    let start = Instant::now();
    let (status, body) = ask(&daemon, "GET", "/v1/sessions");
    assert!(status == 503 && body["error"].as_str().unwrap().contains("shard-0"), "{body}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(ask(&daemon, "GET", "/v1/status").0, 200);
    drop(frozen);
    eventually("it answers", || ask(&daemon, "GET", "/v1/sessions").0 == 200);
}

#[test]
fn the_document_and_nothing_else_is_for_strangers() {
    let daemon = Setup::new().set("admin.token", TOKEN).start();
    let plain = |path: &str| {
        http(daemon.admin, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    };
    let (status, body) = plain("/v1/openapi.json");
    let document: Value = serde_json::from_str(body.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let target = path.replace("{id}", "0-0-0").replace("{address}", "event/demo");
            let (status, body) = ask(&daemon, &method.to_uppercase(), &target);
            let text = body["error"].as_str().unwrap_or_default();
            // Each is answered, if only with what is missing.
            assert!(status != 405 && !text.contains("no such path"), "{method} {path}: {body}");
            if path != "/v1/openapi.json" {
                assert_eq!(plain(&target).0, 401, "{path}");
            }
        }
    }
}
