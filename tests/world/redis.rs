//! The Redis feed, with a real Redis: what it takes, what it ignores, and what happens when either side goes.

use crate::channel::{self, join, token};
use crate::harness::{DEADLINE, Daemon, Redis, Setup, command, eventually, eventually_within};
use redis::cmd;
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const CONNECTED: &str = "feed_connected{feed=\"redis\"}";
const LOSSES: &str = "feed_losses_total{feed=\"redis\"}";
const REJECTED: &str = "events_total{feed=\"redis\",outcome=\"rejected\"}";
const IGNORED: &str = "feed_messages_ignored_total{feed=\"redis\"}";
const DROPPED: &str = "feed_messages_dropped_total{feed=\"redis\"}";
/// What good messages come to.
const TAKEN: &str = "events_total{feed=\"redis\",outcome=\"accepted\"}";
/// The same in a daemon whose listener speaks neither `channel` nor `echo`.
const UNSPOKEN: &str = "events_total{feed=\"redis\",outcome=\"no_listener\"}";

const BROADCAST: &str = "laravel-database-broadcast";
const GOOD: &str = "{\"channel\":\"progress:7\",\"data\":{\"info\":{}}}";

/// A daemon to be fed from a Redis.
fn fed(url: &str) -> Setup {
    channel::setup().set("feed.redis.url", url)
}

/// One that listens to whatever it can, because nobody speaks any of it, with what is for `echo` under this prefix.
fn idly_fed(url: &str, prefix: &str) -> Setup {
    let setup = Setup::new().set("feed.redis.url", url);
    let file = setup.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let app = "[[echo.app]]\nid = \"app\"\nkey = \"app-key\"\nsecret = \"of-no-use-to-anybody\"\n";
    let echo = format!(
        "[channel]\nrelay = \"redis\"\n[echo.redis]\napp = \"app\"\nprefix = {prefix:?}\n{app}"
    );
    std::fs::write(file, text + &echo).unwrap();
    setup
}

/// A daemon at work.
fn connected(setup: Setup) -> Daemon {
    let daemon = setup.start();
    daemon.await_metric(CONNECTED, 1);
    daemon
}

/// What is to be so, and the proof.
type Scenario = (&'static str, fn(&Redis));

#[test]
fn a_redis_that_runs() {
    let Some(redis) = Redis::started() else { return };
    let scenarios: [Scenario; 11] = [
        ("thousands_of_messages_come_once", thousands_of_messages_come_once),
        ("a_user_with_just_the_rights_is_enough", a_user_with_just_the_rights_is_enough),
        ("a_certificate_is_trusted_by_name", a_certificate_is_trusted_by_name),
        ("a_unix_socket_will_do", a_unix_socket_will_do),
        ("a_redis_that_refuses_is_explained", a_redis_that_refuses_is_explained),
        ("what_cannot_be_used_is_ignored_and_counted", what_cannot_be_used_is_ignored_and_counted),
        ("a_message_beyond_all_measure_is_not_held", a_message_beyond_all_measure_is_not_held),
        ("broadcasts_of_laravel_are_taken_and_others_left_aside", broadcasts_of_laravel_are_taken),
        ("daemons_hear_of_each_other", daemons_hear_of_each_other),
        (
            "a_connection_that_is_killed_is_opened_again",
            a_connection_that_is_killed_is_opened_again,
        ),
        ("an_idle_redis_is_no_gap", an_idle_redis_is_no_gap),
    ];
    let redis = &redis;
    std::thread::scope(|scope| {
        for (name, scenario) in scenarios {
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn_scoped(scope, move || scenario(redis)).unwrap();
        }
    });
}

fn thousands_of_messages_come_once(redis: &Redis) {
    const MESSAGES: u64 = 20_000;
    let daemon = connected(fed(&redis.url()).set("threads", 2).set("feed.redis.prefix", "many-"));
    for start in (0..MESSAGES).step_by(1000) {
        let messages =
            (start..start + 1000).map(|n| format!("{{\"channel\":\"c\",\"data\":{{\"n\":{n}}}}}"));
        assert!(redis.publish("many-broadcast", messages).iter().all(|receivers| *receivers == 1));
    }
    daemon.await_metric(TAKEN, MESSAGES);
    assert_eq!([daemon.metric(REJECTED), daemon.metric(IGNORED), daemon.metric(DROPPED)], [0; 3]);
    assert_eq!(daemon.page("/readyz?dialect=channel").0, 200);
    daemon.assert_works();
}

fn a_user_with_just_the_rights_is_enough(redis: &Redis) {
    let daemon = connected(idly_fed(&redis.url_of("reader:hunter2"), "laravel-database-"));
    redis.publish(BROADCAST, [GOOD]);
    eventually("it comes by the pattern too", || {
        daemon.metric(IGNORED) > 0 && daemon.metric(UNSPOKEN) > 0
    });
    let denied: Vec<Vec<redis::Value>> = redis.ask(cmd("ACL").arg("LOG"));
    let shown = format!("{denied:?}");
    assert!(!shown.contains("reader"), "the client asks for nothing else: {shown}");
    assert!(daemon.logged("hunter2").is_empty());
}

fn a_certificate_is_trusted_by_name(redis: &Redis) {
    let authority = redis.authority().display().to_string();
    let daemon = connected(fed(&redis.url_with_tls()).set("feed.redis.ca_file", authority));
    redis.publish(BROADCAST, [GOOD]);
    eventually("the message comes", || daemon.metric(TAKEN) > 0);
    let stranger = fed(&redis.url_with_tls()).start();
    eventually("a stranger is not trusted", || !stranger.logged("feed.redis.ca_file").is_empty());
    assert!(
        stranger.page("/readyz?dialect=channel").1.contains("no TLS (invalid peer certificate")
    );
}

fn a_unix_socket_will_do(redis: &Redis) {
    let daemon = connected(fed(&redis.url_of_socket()));
    redis.publish(BROADCAST, [GOOD]);
    eventually("the message comes", || daemon.metric(TAKEN) > 0);
    let absent = fed("redis+unix:///run/fanfare-has-no-such/redis.sock").start();
    absent.await_log("there is no such socket", 1);
}

fn a_redis_that_refuses_is_explained(redis: &Redis) {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_address = other.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in other.incoming().map_while(Result::ok) {
            let _ = socket.read(&mut [0; 1024]);
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    for (url, advice) in [
        (
            redis.url_of("nobody:hunter2-not"),
            "refuses the user or the password: correct feed.redis.url",
        ),
        (redis.url_of(":hunter2"), "refuses the user or the password"),
        (
            redis.url_of("limited:hunter2"),
            "may not subscribe to \\\"laravel-database-broadcast\\\"",
        ),
        (redis.url().replace("redis:", "rediss:"), "no TLS ("),
        (format!("redis://:hunter2@{nobody}"), "nothing listens there: start Redis"),
        (format!("redis://:hunter2@{other_address}"), "does not speak the Redis protocol"),
        (format!("redis://{other_address}"), "does not speak the Redis protocol"),
        (redis.url_with_tls().replace("rediss:", "redis:"), "does TLS have another port"),
        (
            format!("redis://:hunter2@{}", mute.local_addr().unwrap()),
            "but sends nothing: is it Redis",
        ),
    ] {
        let daemon = fed(&url).start();
        eventually(advice, || !daemon.logged(advice).is_empty());
        assert_eq!((daemon.metric(CONNECTED), daemon.metric(LOSSES)), (0, 0));
        let (status, reason) = daemon.page("/readyz?dialect=channel");
        let advice = advice.replace('\\', "");
        assert!(
            status == 503
                && reason.contains("\r\nno events from Redis")
                && reason.contains(&advice),
            "{reason}"
        );
        assert!(
            daemon.logged("hunter2").is_empty() && !reason.contains("hunter2"),
            "{:?}",
            daemon.log()
        );
        daemon.assert_works();
    }
}

fn what_cannot_be_used_is_ignored_and_counted(redis: &Redis) {
    let daemon = connected(fed(&redis.url()).set("feed.redis.prefix", "bad-"));
    let huge = vec![b' '; 2 * 1024 * 1024];
    let deep = format!("{{\"channel\":\"c\",\"data\":{}{}}}", "[".repeat(128), "]".repeat(128));
    let bad: [&[u8]; 8] = [
        b"",
        b"no JSON",
        b"null",
        b"[1]",
        b"{\"x\":\"\xff\"}",
        &huge,
        deep.as_bytes(),
        &[b'['; 100_000],
    ];
    let count = bad.len() as u64;
    redis.publish("bad-broadcast", bad);
    redis.publish("bad-broadcast", [GOOD]);
    daemon.await_metric(TAKEN, 1);
    assert_eq!(daemon.metric(REJECTED), count);
    let told = daemon.logged("a message from Redis in ").len();
    assert!((1..=5).contains(&told), "the log is not flooded: {told}");
    assert_eq!((daemon.metric(CONNECTED), daemon.metric(LOSSES)), (1, 0));
}

/// As it comes, Redis itself ends the connection of whoever does not take 32 MiB at once.
fn a_message_beyond_all_measure_is_not_held(redis: &Redis) {
    let () = redis.ask(cmd("CONFIG").arg(&["SET", "client-output-buffer-limit", "pubsub 0 0 0"]));
    let daemon = connected(fed(&redis.url()).set("feed.redis.prefix", "measure-"));
    redis.publish("measure-broadcast", [vec![b' '; 100 * 1024 * 1024]]);
    daemon.await_log("it sends more at once than the longest message allowed", 1);
    daemon.await_metric(CONNECTED, 1);
    redis.publish("measure-broadcast", [GOOD]);
    daemon.await_metric(TAKEN, 1);
    assert_eq!(daemon.metric(LOSSES), 1);
    assert!(daemon.memory_bytes() < 300 * 1024 * 1024, "{}", daemon.memory_bytes());
}

fn broadcasts_of_laravel_are_taken(redis: &Redis) {
    let daemon = connected(idly_fed(&redis.url(), "e*-").set("feed.redis.prefix", "e*-"));
    let event =
        "{\"event\":\"App\\\\Events\\\\X\",\"data\":{\"n\":1,\"socket\":null},\"socket\":\"1.2\"}";
    assert_eq!(redis.publish("echo-orders", [event]), [0], "the prefix is no pattern");
    assert_eq!(redis.publish("e*-private-Chat.1", [event]), [1]);
    redis.publish("e*-private-Chat.1", ["no JSON", "{\"event\":1}"]);
    // Once for each subscription: good for one dialect, nothing to the other.
    assert_eq!(redis.publish("e*-broadcast", [GOOD]), [2]);
    daemon.await_metric(UNSPOKEN, 2);
    daemon.await_metric(IGNORED, 3);
    let deep =
        format!("{{\"event\":\"e\",\"data\":{{\"x\":{}{}}}}}", "[".repeat(128), "]".repeat(128));
    redis.publish("e*-x", [deep]);
    daemon.await_metric(REJECTED, 1);
}

fn daemons_hear_of_each_other(redis: &Redis) {
    let node = || {
        connected(
            fed(&redis.url()).set("feed.redis.prefix", "nodes-").set("channel.relay", "redis"),
        )
    };
    let daemons = [node(), node()];
    let relayed = "{\"node\":\"8f7e\",\"channel\":\"chat:1\",\"sender\":{\"name\":\"Ann\",\"id\":1},\"data\":{}}";
    assert_eq!(redis.publish("nodes-relay", [relayed]), [2]);
    assert_eq!(redis.publish("nodes-broadcast", [GOOD]), [2]);
    for daemon in &daemons {
        daemon.await_metric(TAKEN, 2);
        assert_eq!(daemon.metric(LOSSES), 0);
    }
}

fn a_connection_that_is_killed_is_opened_again(redis: &Redis) {
    let daemon = connected(fed(&redis.url_of("cut:hunter2")));
    let cut: u64 = redis.ask(cmd("CLIENT").arg(&["KILL", "USER", "cut"]));
    assert_eq!(cut, 1);
    daemon.await_metric(LOSSES, 1);
    daemon.await_metric(CONNECTED, 1);
    daemon.await_log("it has closed the connection", 1);
    daemon.await_log("events come from Redis again", 1);
    let before = daemon.metric(TAKEN);
    redis.publish(BROADCAST, [GOOD]);
    eventually("messages come again", || daemon.metric(TAKEN) > before);
}

/// Its connection grows older than a Redis may be silent for that has hung (20 s), and is still the first one.
fn an_idle_redis_is_no_gap(redis: &Redis) {
    let daemon = connected(fed(&redis.url()).set("feed.redis.prefix", "idle-"));
    let age_s = || {
        let clients: String = redis.ask(cmd("CLIENT").arg(&["LIST", "TYPE", "pubsub"]));
        let ages = clients.split_whitespace().filter_map(|word| word.strip_prefix("age="));
        ages.map(|age| age.parse::<u64>().unwrap()).min()
    };
    eventually_within(Duration::from_secs(60), "the connection is old", || age_s() >= Some(25));
    assert_eq!((daemon.metric(CONNECTED), daemon.metric(LOSSES)), (1, 0));
    redis.publish("idle-broadcast", [GOOD]);
    daemon.await_metric(TAKEN, 1);
}

#[test]
fn a_redis_that_comes_and_goes() {
    let Some(mut redis) = Redis::new() else { return };
    let daemon = fed(&redis.url()).set("channel.ping_interval_s", 0).start();
    daemon.await_log("nothing listens there: start Redis", 1);
    let mut client = daemon.subscriber();
    let mut page = join(&daemon, &token(serde_json::json!({"channel": "progress:7"}), 3600));
    assert_eq!(daemon.page("/readyz?dialect=channel").0, 503);
    assert_eq!(daemon.page("/healthz").0, 200);
    redis.start();
    await_connected(&daemon);
    daemon.await_log("were missed", 1);
    assert_eq!((daemon.metric(LOSSES), daemon.page("/readyz?dialect=channel").0), (0, 200));
    redis.publish(BROADCAST, [GOOD]);
    daemon.await_metric(TAKEN, 1);

    redis.kill();
    daemon.await_metric(CONNECTED, 0);
    assert_eq!((daemon.metric(LOSSES), daemon.page("/readyz?dialect=channel").0), (1, 503));
    daemon.await_log("it has closed the connection", 1);
    eventually("readiness says what is wrong now", || {
        daemon.page("/readyz?dialect=channel").1.contains("nothing listens")
    });
    redis.start();
    await_connected(&daemon);
    redis.publish(BROADCAST, [GOOD]);
    daemon.await_metric(TAKEN, 2);

    redis.signal(Signal::STOP);
    eventually_within(2 * DEADLINE, "a Redis that hangs is noticed", || {
        daemon.metric(CONNECTED) == 0
    });
    daemon.await_log("it has been silent for 20 s", 1);
    assert_eq!((daemon.metric(LOSSES), daemon.page("/readyz?dialect=channel").0), (2, 503));
    redis.signal(Signal::CONT);
    await_connected(&daemon);
    redis.publish(BROADCAST, [GOOD]);
    daemon.await_metric(TAKEN, 3);

    assert_eq!(daemon.logged("no events from Redis").len(), 3, "a line for each gap");
    assert_eq!(daemon.logged("events come from Redis again").len(), 3, "and one for its end");
    daemon.publisher().send(crate::harness::event("works", "still"));
    assert!(client.text().contains("\"Info\":\"still\""), "sessions stay");
    for _ in 0..3 {
        assert_eq!(
            page.text(),
            r#"{"type":"message","sender":{"name":"System","id":0},"data":{"info":{}}}"#
        );
    }
    assert_eq!(daemon.metric("connections"), 2, "and nobody has left");
}

/// Waits as long as a Redis may be missed for.
pub(crate) fn await_connected(daemon: &Daemon) {
    eventually_within(3 * DEADLINE, "Redis is found", || daemon.metric(CONNECTED) == 1);
}

#[test]
fn a_password_that_is_missing_is_asked_for() {
    let Some(redis) = Redis::started() else { return };
    let () = redis.ask(cmd("ACL").arg(&["SETUSER", "default", "resetpass", ">hunter2"]));
    let daemon = fed(&redis.url()).start();
    daemon.await_log("it requires a password (NOAUTH): add it to feed.redis.url", 1);
    let file = daemon.path("redis.url");
    std::fs::write(&file, redis.url_of(":hunter2") + "\n").unwrap();
    let informed = connected(Setup::new().set("feed.redis.url_file", file.display()));
    assert!(informed.logged("hunter2").is_empty());
}

#[test]
fn a_stop_does_not_wait_for_redis() {
    let Some(redis) = Redis::started() else { return };
    for url in [redis.url(), "redis://127.0.0.1:1".into()] {
        let mut daemon = fed(&url).set("channel.relay", "redis").start();
        eventually("it is tried", || !daemon.logged("from Redis").is_empty());
        let start = Instant::now();
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[test]
fn what_is_wrong_with_the_table_is_told_with_what_to_do() {
    let check = |keys: &[(&str, &str)]| {
        let mut setup = Setup::new();
        for (key, value) in keys {
            setup = setup.set(key, value);
        }
        let mut command = setup.command();
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (keys, advice) in [
        (
            &[("feed.redis.url", "redis://hunter2@host")][..],
            "feed.redis.url: a user without a password: write",
        ),
        (
            &[("feed.redis.url", "http://hunter2")],
            "feed.redis.url: not the address of a Redis: write",
        ),
        (
            &[("feed.redis.url", "redis://h"), ("feed.redis.url_file", "/f")],
            "are both set: keep one",
        ),
        (
            &[("feed.redis.url", "redis://h"), ("feed.redis.ca_file", "/f")],
            "of use with TLS only: write rediss://",
        ),
        (&[("feed.redis.url_file", "/nowhere/redis.url")], "feed.redis.url_file"),
    ] {
        let (code, said) = check(keys);
        assert!(
            code == Some(78) && said.contains(advice) && !said.contains("hunter2"),
            "{code:?} {said}"
        );
    }
}

#[test]
fn a_check_tells_what_would_be_listened_to_without_the_password() {
    let setup = idly_fed("redis://ann:hunter2@redis.example/2", "a*");
    let file = setup.path("fanfare.toml").display().to_string();
    let url = ("FANFARE_FEED_REDIS_URL", "redis://ann:hunter2@redis.example/2");
    let output = command(&["check", "--config", &file]).envs([url]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let feed = "feed   redis://redis.example:6379 channels laravel-database-broadcast, laravel-database-relay, a\\**\n";
    assert!(output.status.success() && said.contains(feed), "{said}");
    assert!(
        said.contains("note: [feed.redis] feeds channel") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn a_feed_that_nobody_needs_is_noted() {
    let daemon = Setup::new().set("feed.redis.url", "redis://:hunter2@127.0.0.1:1").start();
    daemon.await_log("its events reach no client", 1);
    assert!(daemon.logged("hunter2").is_empty());
}
