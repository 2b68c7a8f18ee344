//! A Laravel application around the daemon: what it broadcasts on a real Redis, by every way that it has, and
//! several daemons that serve its pages together.

use crate::channel::{OK, ann, join, setup, token};
use crate::harness::{
    Client, Daemon, Receiver, Redis, Setup, command, eventually, head, npm, script, skip, tools,
};
use crate::redis::await_connected;
use rustix::process::Signal;
use serde_json::json;
use std::io::Write as _;
use std::process::{Command, Stdio};

const CONNECTED: &str = "feed_connected{feed=\"redis\"}";
const LOSSES: &str = "feed_losses_total{feed=\"redis\"}";
const TAKEN: &str = "events_total{feed=\"redis\",outcome=\"accepted\"}";
const SENT: &str = "relays_total{outcome=\"sent\"}";
const LOST: &str = "relays_total{outcome=\"lost\"}";
const PREFIX: &str = "laravel-database-";
const BROADCAST: &str = "laravel-database-broadcast";

/// What the back end of the application broadcasts, and what its pages get.
const PROGRESS: [&str; 2] = [
    r#"{"channel":"progress:7","data":{"info":{"type":"sample_job_progress","title":"Job","detail":{"cursor":1,"total":20}}}}"#,
    r#"{"type":"message","sender":{"name":"System","id":0},"data":{"info":{"type":"sample_job_progress","title":"Job","detail":{"cursor":1,"total":20}}}}"#,
];
const CHAT: [&str; 2] = [
    r#"{"channel":"chat:1","data":{"message":"hi","name":"Ann"}}"#,
    r#"{"type":"message","sender":{"name":"System","id":0},"data":{"message":"hi","name":"Ann"}}"#,
];

fn fed(redis: &Redis) -> Setup {
    setup().set("feed.redis.url", redis.url())
}

fn connected(setup: Setup) -> Daemon {
    let daemon = setup.start();
    await_connected(&daemon);
    daemon
}

/// The token of a user of a channel.
fn user(channel: &str, id: u32, name: &str) -> String {
    token(json!({"channel": channel, "id": id, "name": name}), 3600)
}

#[test]
fn broadcasts_reach_their_clients_byte_for_byte() {
    let Some(redis) = Redis::started() else { return };
    let daemon = connected(fed(&redis).set("threads", 2));
    let mut progress = join(&daemon, &user("progress:7", 7, "Grace"));
    let mut chat = join(&daemon, &ann());
    let odd = r#" { "type":"later", "data" : {"info":[ 1e300,12345678901234567890,"\u00e9é\/" ], "x":1},"channel":"progress:7" } "#;
    redis.publish(BROADCAST, [PROGRESS[0], CHAT[0], r#"{"channel":"unknown","data":{}}"#, odd]);
    assert_eq!(progress.text(), PROGRESS[1]);
    assert_eq!(
        progress.text(),
        r#"{"type":"message","sender":{"name":"System","id":0},"data":{"info":[ 1e300,12345678901234567890,"\u00e9é\/" ]}}"#
    );
    assert_eq!(chat.text(), CHAT[1]);
    // To one user, who has two pages; the other gets what comes afterwards.
    let mut bob = [(); 2].map(|()| join(&daemon, &user("chat:1", 2, "Bob")));
    daemon.await_metric("subscriptions", 4);
    let private =
        r#"{"channel":"chat:1","data":{"target_user_id":2,"message":"psst","name":"Ann"}}"#;
    redis.publish(BROADCAST, [private, CHAT[0]]);
    for page in &mut bob {
        assert!(page.text().ends_with(r#""data":{"message":"psst","name":"Ann"}}"#));
        assert_eq!(page.text(), CHAT[1]);
    }
    assert_eq!(chat.text(), CHAT[1]);
}

#[test]
fn twenty_thousand_broadcasts_come_in_order_on_every_shard() {
    const MESSAGES: usize = 20_000;
    let Some(redis) = Redis::started() else { return };
    // However late the readers are, they are not what is tested.
    let daemon = connected(fed(&redis).set("threads", 2).set("limits.outbox_bytes_max", 64 << 20));
    let clients: Vec<Client> =
        (0..6).map(|_| join(&daemon, &user("progress:7", 7, "Grace"))).collect();
    daemon.await_metric("subscriptions", 6);
    let readers = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            for number in 0..MESSAGES {
                let expected =
                    PROGRESS[1].replace(r#""cursor":1"#, &format!(r#""cursor":{number}"#));
                assert_eq!(client.text(), expected);
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for start in (0..MESSAGES).step_by(1000) {
        let message =
            |number| PROGRESS[0].replace(r#""cursor":1"#, &format!(r#""cursor":{number}"#));
        let receivers = redis.publish(BROADCAST, (start..start + 1000).map(message));
        assert!(receivers.iter().all(|receivers| *receivers == 1));
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(daemon.metric(TAKEN), MESSAGES as u64);
}

/// A publisher that others wrote says to two pages what they are to get.
fn publishes(redis: &Redis, publisher: &mut Command) {
    let daemon = connected(fed(redis));
    let (mut progress, mut chat) =
        (join(&daemon, &user("progress:7", 7, "Grace")), join(&daemon, &ann()));
    daemon.await_metric("subscriptions", 2);
    let output = publisher.output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{out}\n{err}");
    assert!(out.lines().all(|line| line == "1"), "one daemon listens: {out}");
    assert_eq!(progress.text(), PROGRESS[1]);
    if out.lines().count() > 1 {
        assert_eq!(chat.text(), CHAT[1]);
    }
}

#[test]
fn redis_cli_publishes() {
    let Some(redis) = Redis::started() else { return };
    let mut cli = Command::new("redis-cli");
    publishes(&redis, cli.args(["-u", &redis.url(), "PUBLISH", BROADCAST, PROGRESS[0]]));
}

#[test]
fn ioredis_of_npm_publishes() {
    if !tools().join("node_modules/ioredis").exists() {
        return skip("ioredis", "it is not installed; tests/run does it");
    }
    let Some(redis) = Redis::started() else { return };
    let mut node = npm("redis_publish.js");
    node.arg(redis.port().to_string());
    publishes(&redis, node.args([PREFIX, PROGRESS[0], CHAT[0]]));
}

#[test]
fn php_publishes_as_laravel_does_with_the_prefix_of_its_connection() {
    let loaded =
        Command::new("php").args(["-r", "exit(extension_loaded('redis') ? 0 : 1);"]).status();
    if !loaded.is_ok_and(|status| status.success()) {
        return skip("phpredis", "php-cli and php-redis are not installed; tests/run does it");
    }
    let Some(redis) = Redis::started() else { return };
    let mut php = Command::new("php");
    php.arg(script("redis_publish.php")).arg(redis.port().to_string());
    publishes(&redis, php.args([PREFIX, PROGRESS[0], CHAT[0]]));
}

/// Two daemons at one Redis, that tell one service of what their clients say, each under a path of its own.
struct Pair {
    redis: Redis,
    receiver: Receiver,
    daemons: [Daemon; 2],
}

impl Pair {
    fn start() -> Option<Self> {
        let (redis, receiver) = (Redis::started()?, Receiver::start());
        let daemons = ["/a", "/b"].map(|path| {
            let setup = fed(&redis).set("channel.relay", "redis").set("channel.ping_interval_s", 0);
            connected(setup.set("channel.callback.url", receiver.url(path)))
        });
        Some(Self { redis, receiver, daemons })
    }
}

fn said(name: &str, id: u32, data: &str) -> String {
    format!(r#"{{"type":"message","sender":{{"name":"{name}","id":{id}}},"data":{data}}}"#)
}

#[test]
fn what_is_said_on_one_daemon_is_heard_once_on_both() {
    let Some(Pair { receiver, daemons: [a, b], redis }) = Pair::start() else { return };
    let mut ann = join(&a, &ann());
    let mut bob = [&a, &b].map(|daemon| join(daemon, &user("chat:1", 2, "Bob")));
    let mut cid = join(&b, &user("chat:1", 3, "Cid"));
    let mut stranger = join(&b, &user("chat:2", 2, "Bob"));
    for (daemon, clients) in [(&a, 2), (&b, 3)] {
        daemon.await_metric("subscriptions", clients);
    }
    for (data, heard) in [
        (r#"{"name":"N","message":"hi","other":1}"#, Some(r#"{"message":"hi","name":"N"}"#)),
        (r#"{"message":"psst","target_user_id":2}"#, None),
        (r#"{"message":"end"}"#, Some(r#"{"message":"end"}"#)),
    ] {
        assert_eq!(ann.ask(&format!(r#"{{"data":{data}}}"#)), OK);
        for page in &mut bob {
            let heard = heard.unwrap_or(r#"{"message":"psst"}"#);
            assert_eq!(page.text(), said("Ann", 1, heard));
        }
        if let Some(heard) = heard {
            assert_eq!([ann.text(), cid.text()], [(); 2].map(|()| said("Ann", 1, heard)));
        }
    }
    // What the back end broadcasts is passed on by nobody.
    redis.publish(BROADCAST, [CHAT[0], &CHAT[0].replace("chat:1", "chat:2")]);
    for page in [&mut ann, &mut cid].into_iter().chain(&mut bob).chain([&mut stranger]) {
        assert_eq!(page.text(), CHAT[1]);
    }
    // Callbacks of two daemons come in no order of their own, so the first has to be done.
    receiver.await_requests(3);
    // And back, while nothing has come twice.
    assert_eq!(cid.ask(r#"{"data":{"message":"back"}}"#), OK);
    for page in [&mut ann, &mut cid].into_iter().chain(&mut bob) {
        assert_eq!(page.text(), said("Cid", 3, r#"{"message":"back"}"#));
    }
    let told = receiver.await_requests(4);
    let paths: Vec<_> = told.iter().map(|request| request["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/a", "/a", "/a", "/b"], "by whoever has heard it of a client");
    a.await_metric(SENT, 3);
    b.await_metric(SENT, 1);
    assert_eq!([&a, &b].map(|daemon| daemon.metric(LOST)), [0; 2]);
}

#[test]
fn what_each_client_says_comes_to_the_other_daemon_in_its_order() {
    const EACH: usize = 500;
    let Some(Pair { daemons: [a, b], redis: _redis, receiver: _receiver }) = Pair::start() else {
        return;
    };
    let mut reader = join(&b, &user("chat:1", 9, "Reader"));
    b.await_metric("subscriptions", 1);
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let mut client = join(&a, &user("chat:1", writer, "Writer"));
            std::thread::spawn(move || {
                for number in 0..EACH {
                    client.say(&format!(r#"{{"data":{{"message":{number}}}}}"#));
                }
                client
            })
        })
        .collect();
    let mut next = [0; 3];
    for _ in 0..3 * EACH {
        let text = reader.text();
        let writer = (0..3).find(|id| text.contains(&format!(r#""id":{id}}}"#))).unwrap();
        let expected = format!(r#"{{"message":{}}}"#, next[writer as usize]);
        assert_eq!(text, said("Writer", writer, &expected));
        next[writer as usize] += 1;
    }
    drop(writers);
}

#[test]
fn a_redis_that_goes_leaves_each_daemon_with_its_own_clients() {
    let Some(Pair { mut redis, daemons: [a, b], receiver }) = Pair::start() else { return };
    let mut ann = join(&a, &ann());
    let mut bob = join(&a, &user("chat:1", 2, "Bob"));
    let mut cid = join(&b, &user("chat:1", 3, "Cid"));
    for (daemon, clients) in [(&a, 2), (&b, 1)] {
        daemon.await_metric("subscriptions", clients);
    }
    let mut say = |message: &str| {
        assert_eq!(ann.ask(&format!(r#"{{"data":{{"message":"{message}"}}}}"#)), OK);
        let heard = said("Ann", 1, &format!(r#"{{"message":"{message}"}}"#));
        assert_eq!([ann.text(), bob.text()], [heard.as_str(); 2]);
        heard
    };
    assert_eq!(say("with"), cid.text());
    a.await_metric(SENT, 1);
    redis.kill();
    say("nobody may have noticed");
    a.await_metric(LOST, 1);
    a.await_metric(CONNECTED, 0);
    say("without");
    a.await_metric(LOST, 2);
    assert!(
        a.page("/readyz?dialect=channel").0 == 503
            && a.page("/readyz?dialect=channel").1.contains("no events from Redis")
    );
    redis.start();
    [&a, &b].into_iter().for_each(await_connected);
    assert_eq!(say("again"), cid.text(), "nothing comes late");
    redis.publish(BROADCAST, [CHAT[0]]);
    assert_eq!([bob.text(), cid.text()], [CHAT[1]; 2]);
    assert_eq!(
        [&a, &b].map(|daemon| (daemon.metric(LOSSES), daemon.page("/readyz?dialect=channel").0)),
        [(1, 200); 2]
    );
    assert_eq!((a.metric(SENT), a.metric(LOST), b.metric(SENT)), (2, 2, 0));
    receiver.await_requests(4);
}

/// Redis has heard of the first, but not answered; so the second waits in the daemon when it is to stop.
#[test]
fn what_was_said_before_a_stop_is_relayed_yet() {
    let Some(Pair { daemons: [mut a, b], redis, receiver: _receiver }) = Pair::start() else {
        return;
    };
    let mut ann = join(&a, &ann());
    let mut cid = join(&b, &user("chat:1", 3, "Cid"));
    b.await_metric("subscriptions", 1);
    redis.signal(Signal::STOP);
    let mut texts = Vec::new();
    for message in ["one", "two"] {
        assert_eq!(ann.ask(&format!(r#"{{"data":{{"message":"{message}"}}}}"#)), OK);
        texts.push(ann.text());
    }
    a.signal(Signal::TERM);
    assert_eq!(ann.close_code(), 1001);
    drop(ann);
    eventually("what is left is the bridge's", || {
        !a.threads().iter().any(|name| name.starts_with("shard-"))
    });
    redis.signal(Signal::CONT);
    for text in texts {
        assert_eq!(cid.text(), text);
    }
    assert!(a.wait().success());
    assert!(a.logged("not relayed").is_empty());
}

#[test]
fn without_redis_at_its_start_a_daemon_serves_its_own_clients() {
    let Some(mut redis) = Redis::new() else { return };
    let daemon =
        fed(&redis).set("channel.relay", "redis").set("channel.ping_interval_s", 0).start();
    let (mut ann, mut bob) = (join(&daemon, &ann()), join(&daemon, &user("chat:1", 2, "Bob")));
    daemon.await_metric("subscriptions", 2);
    assert_eq!(ann.ask(r#"{"data":{"message":"hi"}}"#), OK);
    assert_eq!([ann.text(), bob.text()], [(); 2].map(|()| said("Ann", 1, r#"{"message":"hi"}"#)));
    daemon.await_metric(LOST, 1);
    eventually("readiness says why", || {
        let (status, reason) = daemon.page("/readyz?dialect=channel");
        status == 503
            && reason.contains("no events from Redis")
            && reason.contains("nothing listens there")
    });
    redis.start();
    await_connected(&daemon);
    redis.publish(BROADCAST, [CHAT[0]]);
    assert_eq!([ann.text(), bob.text()], [CHAT[1]; 2]);
    assert_eq!(daemon.page("/readyz?dialect=channel").0, 200);
}

#[test]
fn a_check_tells_who_is_told_what_clients_say() {
    let setup = setup();
    let file = setup.path("fanfare.toml");
    let secret = setup.path("jwt.secret");
    let check = |table: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        let path = setup.path("checked.toml");
        let verifier = format!("[channel]\ntoken = {{ jwt = {{ secret_file = {secret:?} }} }}\n");
        let text = text.replace("\"personium-event\"", "\"personium-event\", \"channel\"")
            + &verifier
            + table;
        std::fs::write(&path, text).unwrap();
        let output = command(&["check", "--config", path.to_str().unwrap()]).output().unwrap();
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (output.status.success(), out + &err)
    };
    let (good, said) = check(
        "relay = \"redis\"\n[channel.callback]\nurl = \"https://app.example/api/hunter2?key=hunter2\"\n\
         kinds = [\"chat\", \"tweet\"]\n[feed.redis]\nurl = \"redis://ann:hunter2@redis.example\"\n",
    );
    assert!(good && !said.contains("hunter2"), "{said}");
    for line in [
        "feed   redis://redis.example:6379 channels laravel-database-broadcast, laravel-database-relay\n",
        "relay  channel: what clients say, on redis://redis.example:6379 channel laravel-database-relay\n",
        "tells  channel: app.example, what clients say in chat, tweet\n",
    ] {
        assert!(said.contains(line), "{line}{said}");
    }
    let (good, said) = check("");
    assert!(good && !said.contains("relay ") && !said.contains("tells "), "{said}");
    let (good, said) = check("relay = \"redis\"\n");
    assert!(
        !good && said.contains("channel.relay = \"redis\" needs a Redis: set feed.redis.url"),
        "{said}"
    );
}

#[test]
fn a_relay_that_comes_with_a_reload_waits_for_a_restart_and_says_so() {
    let Some(redis) = Redis::started() else { return };
    let daemon = connected(fed(&redis));
    let file = daemon.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap() + "[channel]\nrelay = \"redis\"\n";
    std::fs::write(file, text).unwrap();
    for reloads in 1..3 {
        daemon.signal(Signal::HUP);
        daemon.await_log("reloaded", reloads);
    }
    assert_eq!(daemon.logged("needs a restart: until then").len(), 1);
    assert_eq!(join(&daemon, &ann()).ask(r#"{"data":{}}"#), OK);
    daemon.await_metric(LOST, 1);
}

/// The frame that a page of Laravel Echo gets.
fn echoed(event: &str, data: &str) -> String {
    json!({"event": event, "channel": "news", "data": data}).to_string()
}

/// A daemon that serves the pages of the app `shop` with what is broadcast under a prefix.
fn shop(redis: &Redis, prefix: &str) -> Setup {
    fed(redis)
        .set("listen.0.dialects", r#"["personium-event", "channel", "echo"]"#)
        .set("echo.app.0.id", "shop")
        .set("echo.app.0.key", "shop-key")
        .set("echo.app.0.secret", "shop-secret")
        .set("echo.redis.app", "shop")
        .set("echo.redis.prefix", prefix)
}

/// A page of `shop` that follows public channels, and its socket id.
fn page(daemon: &Daemon, channels: &[&str]) -> (Client, String) {
    let mut page = Client::raw(daemon.address);
    page.bytes(head("/app/shop-key").as_bytes());
    assert_eq!(page.answer(), 101);
    let hello: serde_json::Value = serde_json::from_str(&page.text()).unwrap();
    let data: serde_json::Value = serde_json::from_str(hello["data"].as_str().unwrap()).unwrap();
    for channel in channels {
        page.say(&format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#));
        assert!(page.text().contains("subscription_succeeded"));
    }
    (page, data["socket_id"].as_str().unwrap().to_owned())
}

#[test]
fn a_broadcast_whose_sender_is_no_connection_reaches_everybody() {
    let Some(redis) = Redis::started() else { return };
    let daemon = connected(shop(&redis, PREFIX));
    let (mut page, _) = page(&daemon, &["news"]);
    for socket in [r#""undefined""#, r#""""#, "false", r#""Kx2-socketio_AAAB""#, "7"] {
        let broadcast = format!(r#"{{"event":"said","data":{{"n":1}},"socket":{socket}}}"#);
        redis.publish("laravel-database-news", [broadcast]);
        let got: serde_json::Value = serde_json::from_str(&page.text()).unwrap();
        assert_eq!(got.to_string(), echoed("said", r#"{"n":1}"#), "{socket}");
    }
}

#[test]
fn a_page_of_one_application_never_gets_the_private_events_of_another() {
    let Some(redis) = Redis::started() else { return };
    let setup = shop(&redis, "myapp_").set("feed.redis.prefix", "myapp_");
    let daemon = connected(setup);
    let (mut stranger, _) = page(
        &daemon,
        &["news", "staging_private-user.1", "staging_presence-room", "staging_private-cache-x"],
    );
    let broadcast =
        |text: &str| format!(r#"{{"event":"said","data":{{"text":"{text}"}},"socket":null}}"#);
    // What the application with the prefix `myapp_staging_` publishes.
    for channel in ["private-user.1", "presence-room", "private-cache-x"] {
        redis.publish(&format!("myapp_staging_{channel}"), [broadcast("hunter2")]);
    }
    redis.publish("myapp_news", [broadcast("ours")]);
    let next = stranger.text();
    assert!(next.contains("ours"), "{next}");
    assert_eq!(daemon.metric("events_total{feed=\"redis\",outcome=\"rejected\"}"), 3);
    assert!(!daemon.logged("looks like a private one under a longer prefix").is_empty());
    let (mut late, _) = page(&daemon, &["staging_private-cache-x"]);
    late.say(r#"{"event":"pusher:ping","data":{}}"#);
    assert!(late.text().contains("pusher:pong"), "nor is anything kept of them");
}

#[test]
fn laravels_redis_broadcaster_reaches_echo_and_leaves_the_sender_out() {
    let loaded =
        Command::new("php").args(["-r", "exit(extension_loaded('redis') ? 0 : 1);"]).status();
    if !loaded.is_ok_and(|status| status.success()) {
        return skip("phpredis", "php-cli and php-redis are not installed; tests/run does it");
    }
    let Some(redis) = Redis::started() else { return };
    let daemon = connected(shop(&redis, PREFIX));
    let mut pages = [(); 2].map(|()| page(&daemon, &["news"]));
    let mut channel = join(&daemon, &ann());
    let sender = pages[0].1.clone();
    let broadcasts = [
        json!({"channels": ["news"], "event": "App\\Events\\X", "payload": {"text": "é 1", "n": 1.5}}),
        json!({"channels": ["news", "other"], "event": "said", "payload": {"text": "to others", "socket": sender}}),
        json!({"channels": ["news"], "event": "last", "payload": {}}),
    ];
    for by_script in [&[][..], &["eval"]] {
        let mut php = Command::new("php");
        php.arg(script("laravel_redis.php")).args([
            "127.0.0.1",
            &redis.port().to_string(),
            PREFIX,
            "broadcast",
        ]);
        let mut php =
            php.args(by_script).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines: String = broadcasts.iter().map(|line| format!("{line}\n")).collect();
        php.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(php.wait().unwrap().success());
        // What PHP encodes is passed on as it is; no data at all are an empty list to it.
        let first = echoed("App\\Events\\X", r#"{"n":1.5,"text":"\u00e9 1"}"#);
        let to_others = echoed("said", r#"{"text":"to others"}"#);
        let last = echoed("last", "[]");
        for ((page, _), expected) in
            pages.iter_mut().zip([vec![&first, &last], vec![&first, &to_others, &last]])
        {
            for frame in expected {
                let got: serde_json::Value = serde_json::from_str(&page.text()).unwrap();
                assert_eq!(got.to_string(), *frame);
            }
        }
    }
    // Under the same prefix, for the other dialect.
    redis.publish(BROADCAST, [CHAT[0]]);
    assert_eq!(channel.text(), CHAT[1]);
}
