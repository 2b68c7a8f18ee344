//! The channels of a Laravel application over real sockets: its clients unmodified, order over several shards, slow
//! readers, and that nothing anybody says stops the daemon or stands in its log.

use crate::harness::{
    Client, DEADLINE, Daemon, SECRET, Setup, command, eventually, head, http, npm, pypi, skip,
    succeed, tools,
};
use fanfare::token::{Algorithm, mint};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// The answer to a client whose message was taken.
pub(crate) const OK: &str = r#"{"type":"sended","ok":true}"#;

/// A daemon whose listener speaks `channel` beside the dialect of every other test.
pub(crate) fn setup() -> Setup {
    let setup = Setup::new();
    let secret = setup.path("jwt.secret");
    setup
        .set("listen.0.dialects", r#"["personium-event", "channel"]"#)
        .set("channel.token.jwt.secret_file", secret.display())
}

/// The same with a ping as soon as a client has said nothing for a second.
fn pinging() -> Setup {
    setup().set("channel.ping_interval_s", 1)
}

/// A token with these claims and an end.
pub(crate) fn token(mut claims: Value, expires_in_s: u64) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    claims["exp"] = (now_s + expires_in_s).into();
    mint(Algorithm::HS256, SECRET.as_bytes(), claims.as_object().unwrap()).unwrap()
}

/// The token of a user of the channel `chat:1`.
pub(crate) fn ann() -> String {
    token(json!({"channel": "chat:1", "id": 1, "name": "Ann"}), 3600)
}

/// A client whose token was accepted, or will be refused.
pub(crate) fn join(daemon: &Daemon, token: &str) -> Client {
    let mut client = Client::raw(daemon.address);
    client.bytes(head(&format!("/?token={token}")).as_bytes());
    assert_eq!(client.answer(), 101);
    client
}

/// Runs a client that others wrote against a daemon, of which it is told one thing, the feed and the secret.
fn talk(
    installed: &Path,
    setup: Setup,
    command: &mut Command,
    told: impl FnOnce(&Daemon) -> String,
) {
    if !installed.exists() {
        return skip(
            "channels",
            &format!("{} is not installed; tests/run does it", installed.display()),
        );
    }
    let daemon = setup.set("threads", 2).start();
    succeed(command.arg(told(&daemon)).arg(daemon.socket()).arg(SECRET));
    daemon.await_metric("connections", 0);
    assert_eq!(daemon.metric("session_ends_total{reason=\"unanswered\"}"), 0);
}

fn url(daemon: &Daemon) -> String {
    format!("ws://{}/", daemon.address)
}

#[test]
fn pages_with_ws_and_reconnecting_websocket_of_npm_talk_to_each_other() {
    let library = tools().join("node_modules/reconnecting-websocket");
    talk(&library, pinging(), &mut npm("channel.js"), url);
}

#[test]
fn back_ends_with_websocket_client_and_websockets_of_pypi_wait_for_their_answers() {
    // What names its version is in the library's own folder.
    let installed =
        std::fs::read_dir(tools().join("python/lib")).ok().and_then(|mut lib| lib.next()?.ok());
    let library =
        installed.map(|lib| lib.path().join("site-packages/websockets")).unwrap_or_default();
    talk(&library, pinging(), &mut pypi("channel.py"), url);
}

#[test]
fn a_page_in_chromium_talks_in_its_channel_and_a_strangers_page_does_not() {
    let installed =
        if Path::new("/usr/bin/chromium").exists() { "playwright-core" } else { "chromium" };
    let installed = tools().join("node_modules").join(installed);
    let setup = setup().set("channel.origins", r#"["http://app.example"]"#);
    talk(&installed, setup, &mut npm("channel_page.js"), |it| it.address.port().to_string());
}

#[test]
fn requests_that_become_no_session_are_told_why() {
    let daemon = setup().set("channel.origins", r#"["https://app.example"]"#).start();
    let plain =
        |line: &str| http(daemon.address, format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    for (line, status, expected) in [
        ("GET /", 426, "Upgrade: websocket\r\n"),
        ("GET /?token=x", 426, "Upgrade: websocket\r\n"),
        ("POST /", 426, "Upgrade: websocket\r\n"),
        ("GET /x", 404, "serves no protocol"),
        ("GET /demo/__event", 405, "Allow: GET\r\n"),
    ] {
        let (found, rest) = plain(line);
        assert_eq!(found, status, "{line}: {rest}");
        assert!(rest.contains(expected), "{line}: {rest}");
    }
    let request = |origin: &str| {
        head(&format!("/?token={}", ann())).replace(
            "Host: localhost",
            &format!("Host: x\r\nOrigin: {origin}\r\nSec-WebSocket-Protocol: a, b"),
        )
    };
    let (status, rest) = http(daemon.address, request("https://evil.example").as_bytes());
    assert_eq!(status, 403);
    assert!(rest.starts_with("Content-Type: text/plain") && rest.contains("this origin"), "{rest}");
    let mut client = Client::raw(daemon.address);
    client.bytes(request("https://app.example").as_bytes());
    let (status, accepted) = client.accepted();
    assert_eq!(status, 101);
    assert!(accepted.contains("\r\nSec-WebSocket-Protocol: a\r\n"), "{accepted}");
    assert_eq!(client.ask(r#"{"data":{}}"#), OK);
    // A head with more than 16 KiB is none.
    assert_eq!(
        http(daemon.address, head(&format!("/?token={}", "x".repeat(17_000))).as_bytes()).0,
        431
    );
    daemon.assert_works();
}

/// Those who read a conversation on different shards read the same one.
#[test]
fn everybody_sees_the_messages_of_a_channel_in_one_order() {
    const EACH: usize = 300;
    let daemon = setup().set("threads", 3).start();
    let mut readers: Vec<Client> = (0..12).map(|_| join(&daemon, &ann())).collect();
    daemon.await_metric("subscriptions", 12);
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let mut client =
                join(&daemon, &token(json!({"channel": "chat:1", "id": writer}), 3600));
            std::thread::spawn(move || {
                for number in 0..EACH {
                    client.say(&format!(r#"{{"data":{{"message":{number}}}}}"#));
                }
                while client.text() != OK {}
                client
            })
        })
        .collect();
    let writers: Vec<Client> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let mut heard =
        readers.iter_mut().map(|reader| (0..6 * EACH).map(|_| reader.text()).collect::<Vec<_>>());
    let first = heard.next().unwrap();
    for (reader, others) in heard.enumerate() {
        let differs = first.iter().zip(&others).position(|(one, other)| one != other);
        assert_eq!(differs, None, "reader {}", reader + 1);
    }
    for writer in 0..6 {
        let of_writer =
            first.iter().filter(|text| text.contains(&format!(r#""sender":{{"id":{writer}}}"#)));
        let numbers: Vec<&str> =
            of_writer.map(|text| text.rsplit(':').next().unwrap().trim_end_matches('}')).collect();
        assert!(
            numbers.iter().enumerate().all(|(place, number)| **number == place.to_string()),
            "{numbers:?}"
        );
    }
    drop(writers);
}

#[test]
fn what_a_client_said_before_it_broke_the_protocol_comes_back_before_its_end() {
    let daemon = setup().set("threads", 2).start();
    let mut client = join(&daemon, &ann());
    let said = br#"{"data":{"message":"last words"}}"#;
    let unmasked = b"\x81\x00";
    let length = 0x80 | said.len() as u8;
    client.bytes(&[&[0x81, length, 0, 0, 0, 0], &said[..], unmasked, &[0x81, length]].concat());
    assert_eq!(client.text(), OK);
    assert!(client.text().contains("last words"));
    assert_eq!(client.close_code(), 1002);
    assert!(client.ends_within(DEADLINE), "nothing is read after it");
}

#[test]
fn who_does_not_read_is_closed_and_the_others_talk_on() {
    let daemon = setup().set("limits.close_timeout_s", 1).start();
    let mut sleeper = join(&daemon, &ann());
    let mut reader = join(&daemon, &token(json!({"channel": "chat:1"}), 3600));
    let mut writer = join(&daemon, &token(json!({"channel": "tweet:"}), 3600));
    let mut publisher = daemon.publisher();
    let payload = json!({"channel": "chat:1", "data": {"message": "x".repeat(60_000)}});
    eventually("the sleeper is closed", || {
        publisher.send(format!("channel {payload}\n"));
        assert!(reader.text().len() > 60_000);
        daemon.metric("session_ends_total{reason=\"slow\"}") == 1
    });
    loop {
        match sleeper.next() {
            Some(frame) if frame.first == 0x81 => {}
            Some(frame) => {
                break assert_eq!((frame.first, &frame.payload[..2]), (0x88, &b"\x03\xf5"[..]));
            }
            // It was cut off before it woke up.
            None => break,
        }
    }
    assert_eq!(writer.ask(r#"{"data":{}}"#), OK);
}

#[test]
fn an_idle_session_ends_with_its_token_and_the_stop_is_told() {
    let mut daemon = setup().start();
    let mut brief = join(&daemon, &token(json!({"channel": "chat:1"}), 2));
    let mut lasting = join(&daemon, &ann());
    let closed = brief.next().unwrap();
    assert_eq!((closed.first, &closed.payload[..]), (0x88, &b"\x03\xf0token expired"[..]));
    brief.frame(0x88, b"\x03\xf0");
    daemon.signal(Signal::TERM);
    assert_eq!(lasting.close_code(), 1001);
    lasting.frame(0x88, b"\x03\xe9");
    assert!(daemon.wait().success());
}

/// Each of these ends the process of the original, most of them without a token.
#[test]
fn nothing_that_a_client_says_stops_the_daemon() {
    let mut daemon = setup().set("limits.close_timeout_s", 1).start();
    let mut listener = join(&daemon, &ann());
    let mut publisher = daemon.publisher();
    for said in ["{}", "null", "[]", "0", "\"\"", "nonsense", "{\"data\":null}", "{\"data\":[]}"] {
        for token in [ann(), token(json!({"channel": "unknown:1"}), 3600)] {
            let mut client = join(&daemon, &token);
            assert_eq!(client.ask(said), r#"{"type":"sended","ok":false}"#, "{said}");
        }
    }
    let mut unknown = join(&daemon, &token(json!({"channel": "unknown"}), 3600));
    assert_eq!(unknown.ask(r#"{"data":{"a":1}}"#), OK);
    assert!(unknown.text().ends_with(r#""data":{"a":1}}"#));
    for path in ["/", "/?token=nonsense", &format!("/?token={}", token(json!({"id": 1}), 3600))] {
        let mut refused = Client::raw(daemon.address);
        refused.bytes(head(path).as_bytes());
        assert_eq!(refused.answer(), 101);
        refused.say(r#"{"data":{"message":"x"}}"#);
        // It has not answered the close when the broadcast comes.
        publisher.send("channel {\"channel\":\"chat:1\",\"data\":{\"message\":\"x\"}}\n");
        assert!(listener.text().contains("System"));
        assert_eq!(refused.close_code(), 1008);
        assert!(refused.ends_within(DEADLINE));
    }
    publisher.send("channel {\"channel\":\"unknown:2\",\"data\":{}}\nchannel null\nchannel {}\n");
    assert!(publisher.reply()["error"].is_string() && publisher.reply()["error"].is_string());
    assert_eq!(publisher.receipt(), (4, 2));
    assert!(daemon.runs());
    daemon.assert_works();
}

#[test]
fn a_reload_takes_another_secret_and_other_shapes_and_sessions_stay() {
    let setup = setup();
    // What the environment sets is the same at every reload, so the shape stands in the file.
    let file = setup.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let daemon = setup.start();
    let old = ann();
    let mut client = join(&daemon, &old);
    let mut publisher = daemon.publisher();
    let line = "channel {\"channel\":\"chat:1\",\"data\":{\"message\":1,\"text\":2}}\n";
    publisher.send(line);
    assert!(client.text().ends_with(r#""data":{"message":1}}"#));
    std::fs::write(daemon.path("jwt.secret"), "short").unwrap();
    std::fs::write(
        &file,
        format!("{text}[channel.shape]\nchat = [\"text\"]\n")
            .replace("[personium]\ntoken", "[personium]\nanonymous = true\n#token"),
    )
    .unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_log("reloaded", 1);
    daemon.await_log("the secret is 5 bytes", 1);
    publisher.send(line);
    assert!(client.text().ends_with(r#""data":{"text":2}}"#));
    assert_eq!(join(&daemon, &old).close_code(), 1008);
}

#[test]
fn a_channel_is_minted_followed_and_published_to_from_a_terminal() {
    let daemon = setup().start();
    let secret = daemon.path("jwt.secret");
    let secret = secret.to_str().unwrap();
    let minted = command(&[
        "token",
        "--secret-file",
        secret,
        "--channel",
        "chat:1",
        "--id",
        "2",
        "--name",
        "Bob",
    ]);
    let output = { minted }.output().unwrap();
    let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let url = format!("ws://{}/", daemon.address);
    let arguments = [
        "subscribe",
        &url,
        "--channel",
        "--token",
        &token,
        "--send",
        r#"{"data":{"message":"hi"}}"#,
        "--count",
        "2",
    ];
    let follow = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    daemon.await_metric("messages_total{dialect=\"channel\"}", 1);
    daemon.publisher().send(
        "channel {\"channel\":\"chat:1\",\"data\":{\"message\":\"x\",\"target_user_id\":2}}\n",
    );
    let output = follow.wait_with_output().unwrap();
    let (out, said) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{said}");
    let hi = r#"{"type":"message","sender":{"name":"Bob","id":2},"data":{"message":"hi"}}"#;
    let x = r#"{"type":"message","sender":{"name":"System","id":0},"data":{"message":"x"}}"#;
    assert_eq!(out, format!("{hi}\n{x}\n"));
    assert!(said.contains(OK) && !said.contains(&token), "{said}");
    // With the token in the URL, everything that comes is shown.
    let url = format!("{url}?token={token}");
    let mut plain = command(&["subscribe", &url, "--send", r#"{"data":{}}"#, "--count", "2"]);
    let output = plain.stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with(OK));
    let mut refused = command(&[
        "subscribe",
        &format!("ws://{}/", daemon.address),
        "--channel",
        "--token",
        "nonsense",
    ]);
    let said = String::from_utf8(refused.stdin(Stdio::null()).output().unwrap().stderr).unwrap();
    assert!(said.contains("token invalid") && said.contains("--channel NAME"), "{said}");
}

#[test]
fn no_log_line_and_no_metric_holds_a_token() {
    let mut daemon = setup()
        .set("log.level", "debug")
        .set("channel.callback.url", "http://127.0.0.1:1/api/chat")
        .start();
    let expired = token(json!({"channel": "chat:1"}), 0);
    let shapeless = token(json!({"channel": 1}), 3600);
    let (good, garbage) = (ann(), "garbage-token-0123456789".to_owned());
    for token in [&good, &expired, &shapeless, &garbage] {
        let mut client = join(&daemon, token);
        client.say(&format!(r#"{{"data":{{"message":"{token}"}}}}"#));
        client.say(token);
        client.frame(0x83, token.as_bytes());
        while client.next().is_some_and(|frame| frame.first != 0x88) {}
        let header = format!(
            "Host: x\r\nX-Auth-Token: {token}\r\nCookie: token={token}\r\nAuthorization: Bearer {token}\r\nOrigin: {token}\r\nSec-WebSocket-Protocol: {token}"
        );
        assert_eq!(
            http(
                daemon.address,
                format!("GET /?token={token} HTTP/1.1\r\n{header}\r\n\r\n").as_bytes()
            )
            .0,
            426
        );
        let mut client = Client::raw(daemon.address);
        client.bytes(head("/").replace("Host: localhost", &header).as_bytes());
        assert_eq!((client.answer(), client.close_code()), (101, 1008));
        daemon
            .publisher()
            .send(format!("channel {{\"channel\":\"{token}\",\"data\":\"{token}\"}}\n"));
    }
    let seen = daemon.page("/metrics").1;
    daemon.signal(Signal::TERM);
    daemon.wait();
    let seen = seen + &daemon.log().join("\n");
    assert!(seen.contains("DEBUG"), "nothing is logged at debug level");
    for secret in [&good, &expired, &shapeless, &garbage, good.rsplit('.').next().unwrap(), SECRET]
    {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
}
