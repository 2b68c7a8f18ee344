//! Operators and the API of the admin listener: who is connected in which dialect, who gets a topic, and who is
//! sent away.

use crate::harness::{
    Client, DEADLINE, Daemon, Echo, Frozen, PATH, SECRET, Setup, clean, command, echo_setup,
    eventually, http, root, skip, token, token_with,
};
use fanfare::dialect::client::ClientWish;
use fanfare::token::{Algorithm, mint};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const TOKEN: &str = "admin-token-0123456789abcdef";

/// Status and body of a request with the token.
pub(crate) fn ask(daemon: &Daemon, method: &str, target: &str) -> (u16, Value) {
    post(daemon, method, target, "")
}

pub(crate) fn post(daemon: &Daemon, method: &str, target: &str, body: &str) -> (u16, Value) {
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
pub(crate) fn get(daemon: &Daemon, target: &str) -> Value {
    let (status, body) = ask(daemon, "GET", target);
    assert_eq!(status, 200, "{target}: {body}");
    body
}

/// The rows of a list.
#[track_caller]
pub(crate) fn rows(daemon: &Daemon, query: &str) -> Vec<Value> {
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
pub(crate) fn every_dialect() -> Daemon {
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

/// A follower of each dialect, with its subscription, the address by which operators ask for it, and its subject.
pub(crate) fn followers(
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
    let mut channel = Client::upgraded(second(daemon), &format!("/?token={chat}"));
    // Its acknowledgement, and then what it has said itself: it is a member.
    channel.ask(r#"{"data":{}}"#);
    channel.text();
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
            Client::upgraded(daemon.address, "/ws/v2/consumer/non-persistent/public/default/t/s"),
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
    let _consumer =
        Client::upgraded(daemon.address, "/ws/v2/consumer/persistent/public/default/t/s");
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

/// Status and body of a request over a socket, with a line in its head.
fn ask_at(path: &Path, target: &str, header: &str) -> (u16, String) {
    let mut socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{header}\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[test]
fn the_daemons_user_needs_no_token_on_the_socket_which_is_its_own_and_goes_with_it() {
    let setup = Setup::new();
    let path = setup.path("admin.sock");
    // A daemon that was killed leaves one behind.
    drop(UnixListener::bind(&path).unwrap());
    let mut daemon = setup.set("admin.socket", path.display()).start();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for target in ["/v1/status", "/v1/sessions", "/healthz", "/metrics"] {
        assert_eq!(ask_at(&path, target, "").0, 200, "{target}");
    }
    // A page in a browser cannot reach it, and a program that acts for one has no right by that.
    assert_eq!(ask_at(&path, "/v1/status", "Origin: http://x\r\n").0, 403);
    let (status, _) = http(daemon.admin, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status, 403, "an address has no user");

    let (code, _, said) = run(&mut Setup::new().set("admin.socket", path.display()).command());
    assert!(code == Some(75) && said.contains("give admin.socket another value"), "{said}");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    assert!(!path.exists());
}

#[test]
fn another_user_on_the_socket_needs_the_token() {
    if !root() {
        return skip("another user on the admin socket", "only root can become another user");
    }
    let setup = Setup::new();
    let path = setup.path("admin.sock");
    let daemon = setup.set("admin.socket", path.display()).set("admin.token", TOKEN).start();
    let open = |mode| Permissions::from_mode(mode);
    std::fs::set_permissions(daemon.directory(), open(0o755)).unwrap();
    std::fs::set_permissions(&path, open(0o666)).unwrap();
    let status_of = |header: &str| {
        let mut command = clean("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
        command.arg("--unix-socket").arg(&path).args(["-H", header, "http://x/v1/status"]);
        run(command.uid(65_534).gid(65_534)).1
    };
    assert_eq!(status_of("X: y"), "401");
    assert_eq!(status_of(&format!("Authorization: Bearer {TOKEN}")), "200");
}

/// Code and standard output and error of the program.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What a command prints that succeeds.
#[track_caller]
fn printed(words: &[&str]) -> String {
    let (code, out, said) = run(command(words).env("XDG_STATE_HOME", "/nonexistent"));
    assert_eq!(code, Some(0), "{words:?}: {said}");
    out
}

#[test]
fn the_commands_list_show_and_end_sessions_over_the_socket_or_the_address() {
    let setup = echo_setup();
    let socket = setup.path("admin.sock").display().to_string();
    std::fs::write(setup.path("admin.token"), TOKEN).unwrap();
    let token_file = setup.path("admin.token").display().to_string();
    let daemon = setup.set("admin.socket", &socket).set("admin.token", TOKEN).start();
    let mut all: Vec<Echo> = (0..3).map(|_| Echo::connect(&daemon)).collect();
    all[0].join("room", None);
    let admin = daemon.admin.to_string();
    let by_address = ["--admin", &admin, "--token-file", &token_file];
    let by_socket = ["--admin", &socket];

    let listed = printed(&[&["sessions"], &by_socket[..]].concat());
    assert_eq!(listed.lines().count(), 4, "{listed}");
    let one = printed(&[&["sessions", "--topic", "echo/7/room"], &by_address[..]].concat());
    let id = one.lines().nth(1).unwrap().split(' ').next().unwrap();
    let shown = printed(&[&["sessions", id], &by_socket[..]].concat());
    assert!(shown.contains("\n  echo/7/room\n") && shown.contains("connected to "), "{shown}");
    let json: Value =
        serde_json::from_str(&printed(&[&["sessions", "--json"], &by_socket[..]].concat()))
            .unwrap();
    assert_eq!(json["sessions"].as_array().unwrap().len(), 3);

    // Longer than a form with parameters may be.
    let event = json!({ "name": "e", "channels": ["room"], "data": "x".repeat(9_000) }).to_string();
    let why = printed(&[&["why", "echo/7", &event], &by_address[..]].concat());
    assert_eq!(why.lines().filter(|line| line.contains("yes  ")).count(), 1, "{why}");
    assert_eq!(why.matches("no subscription matches").count(), 2, "{why}");

    assert_eq!(printed(&[&["kick", id], &by_socket[..]].concat()), "ended 1\n");
    assert_eq!(all[0].client.close_code(), 4009);
    let filter = ["kick", "--dialect", "echo", "--code", "4200", "--yes"];
    assert_eq!(printed(&[&filter, &by_address[..]].concat()), "ended 2\n");
    assert_eq!(all[1].client.close_code(), 4200);
    for (words, status, expected) in [
        (&["kick", "0-0-0"][..], 1, "there is no such session"),
        (&["kick"], 2, "which sessions?"),
        (&["kick", id, "--dialect", "echo"], 2, "either the ID"),
        (&["kick", "--dialect", "echo"], 2, "say --yes"),
        (&["kick", "17"], 2, "such as 0-17-42"),
        (&["sessions", "--dialect", "eco"], 1, "one of personium-event"),
    ] {
        let words = [words, &by_socket].concat();
        let (code, out, said) = run(&mut command(&words));
        assert!(
            code == Some(status) && out.is_empty() && said.contains(expected),
            "{words:?}: {said}"
        );
    }
    let (code, _, said) = run(&mut command(&["sessions", "--admin", "/nonexistent.sock"]));
    assert!(code == Some(75) && said.contains("nothing listens on /nonexistent.sock"), "{said}");

    // The configuration names the socket, which comes first: the port there is another one.
    let config = daemon.path("fanfare.toml").display().to_string();
    let text = std::fs::read_to_string(&config).unwrap();
    let with_socket = text.replace("[admin]\n", &format!("[admin]\nsocket = {socket:?}\n"));
    std::fs::write(&config, with_socket).unwrap();
    assert!(printed(&["sessions", "--config", &config]).starts_with("id "));
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
        for (method, operation) in methods.as_object().unwrap() {
            let mut target = path.replace("{id}", "0-0-0").replace("{address}", "event/demo");
            if target == "/v1/upgrade" {
                // Refused to a token: what would be started instead is no process of this test.
                target += "?binary=/nonexistent";
            }
            if operation["responses"]["200"]["content"]["application/json"].is_null() {
                assert_eq!(plain(&target).0, 401, "{path}: its answer has no end");
                continue;
            }
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
