//! A daemon that hands over to a new process of the program, with clients and publishers that never stop talking.

use crate::channel::{join, setup, token};
use crate::harness::{
    Authority, Client, DEADLINE, Daemon, Frozen, Going, OPERATOR_TOKEN, Redis, Service, Setup,
    eventually, eventually_within, http,
};
use crate::quiet::assert_reported;
use rustix::process::Signal;
use serde_json::json;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Channels that clients and publishers talk in.
pub(crate) const CHANNELS: usize = 5;

/// Publishes numbers into every channel, over one connection, until it is over. Returns how many.
pub(crate) fn publish(daemon: &Daemon, going: &mut Going<u64>, published: Arc<AtomicU64>) {
    let mut publisher = daemon.publisher();
    going.go(move |is_over| {
        let mut number = 0;
        while !is_over.load(Relaxed) {
            let mut lines = String::new();
            for channel in 0..CHANNELS {
                let event =
                    json!({"channel": format!("chat:{channel}"), "data": {"message": number}});
                lines += &format!("channel {event}\n");
            }
            publisher.send(lines);
            number += 1;
            if number % 10 == 0 {
                assert_eq!(publisher.receipt(), (number * CHANNELS as u64, 0));
            }
            published.store(number, Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(publisher.receipt(), (number * CHANNELS as u64, 0));
        number
    });
}

/// Reads the numbers of events as long as they are the next, until `count` of them have come.
pub(crate) fn read(client: &mut Client, next: &mut u64, count: u64) {
    while *next < count {
        let text = client.text();
        assert!(!text.contains("member_removed"), "no one has left: {text}");
        let text = text.replace('\\', "");
        let Some((_, number)) = text.split_once("\"message\":") else { continue };
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = number[..digits].parse().unwrap();
        assert_eq!(number, *next, "an event is missing, or came twice: {text}");
        *next += 1;
    }
}

/// Clients that come one after the other, each of which must be let in.
pub(crate) fn visit(address: SocketAddr, going: &mut Going<u64>) {
    going.go(move |is_over| {
        let mut served = 0;
        while !is_over.load(Relaxed) {
            let token = token(json!({"channel": "chat:visitors", "id": 7}), 3600);
            let mut client = Client::upgraded(address, &format!("/?token={token}"));
            client.say(r#"{"data":{}}"#);
            // The one before may be told to have left first.
            while !client.text().contains("ok") {}
            served += 1;
        }
        served
    });
}

pub(crate) fn user(channel: usize, id: usize) -> String {
    token(json!({"channel": format!("chat:{channel}"), "id": id}), 3600)
}

#[test]
fn clients_and_publishers_talk_on_over_several_hand_overs_and_nothing_is_lost_or_comes_twice() {
    let mut service = Service::start(setup().set("threads", 2));
    let clients: Vec<(usize, Client)> =
        (0..100).map(|id| (id, join(&service.daemon, &user(id % CHANNELS, id)))).collect();
    service.daemon.await_metric("subscriptions", 100);

    let published = Arc::<AtomicU64>::default();
    let mut feed = Going::new();
    publish(&service.daemon, &mut feed, Arc::clone(&published));
    let mut visitors = Going::new();
    visit(service.daemon.address, &mut visitors);
    for round in 1..=3 {
        let before = published.load(Relaxed);
        eventually("events are published", || published.load(Relaxed) > before + 50);
        let answer = service.hand_over();
        assert!(answer["passed"].as_u64().unwrap() >= 100, "round {round}: {answer}");
        assert_eq!(answer["told"], 0, "round {round}");
        eprintln!("{answer}");
        assert!(answer["pause_ms"].as_f64().unwrap() < 1000.0, "round {round}: {answer}");
    }
    let before = published.load(Relaxed);
    eventually("events are published", || published.load(Relaxed) > before + 50);
    assert!(visitors.end()[0] > 10);
    let count = feed.end()[0];
    let start = Instant::now();
    for (_, mut client) in clients {
        read(&mut client, &mut 0, count);
    }
    assert!(start.elapsed() < DEADLINE);
    let (status, _) = http(service.daemon.admin, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status, 200);
    eventually_within(DEADLINE, "the first process ends", || !service.daemon.runs());
}

#[test]
fn a_new_process_that_fails_at_any_point_leaves_everything_to_the_old_one() {
    let service = Service::start(setup().set("threads", 2));
    let mut clients: Vec<Client> =
        (0..20).map(|id| join(&service.daemon, &user(id % CHANNELS, id))).collect();
    service.daemon.await_metric("subscriptions", 20);
    let published = Arc::<AtomicU64>::default();
    let mut feed = Going::new();
    publish(&service.daemon, &mut feed, Arc::clone(&published));
    let mut visitors = Going::new();
    visit(service.daemon.address, &mut visitors);

    let points = [
        ("check", "it is all wrong"),
        ("start", "has not started"),
        ("hello", "has not become ready"),
        ("format", "reads states of format 3 to 3"),
        ("listeners", "has not become ready"),
        ("ready", "has not taken over"),
        ("state", "has not taken over"),
        ("nonsense", "has not taken over"),
        ("early", "out of turn"),
        ("sorry", "there is no room"),
        ("file", "not sealed"),
        ("silence", "has not taken over"),
    ];
    for (point, said) in points {
        let told = service.fail_at(point);
        assert!(told.contains(said), "{point}: {told}");
        let before = published.load(Relaxed);
        eventually("events are published", || published.load(Relaxed) > before + 20);
    }
    let told = service.fail(&["--binary", "/nonexistent"]);
    assert!(told.contains("/nonexistent"), "{told}");

    assert!(visitors.end()[0] > 10);
    let count = feed.end()[0];
    clients.iter_mut().for_each(|client| read(client, &mut 0, count));
    // All from the first pause on.
    assert_eq!(service.daemon.metric("handover_total{outcome=\"given_back\"}"), 7);
    assert_eq!(service.daemon.metric("handover_total{outcome=\"taken\"}"), 0);
}

#[test]
fn messages_and_events_may_be_under_way_in_either_direction() {
    const EVENTS: usize = 200;
    let setup = setup().set("threads", 2).set("limits.outbox_bytes_max", 64 << 20);
    let mut service = Service::start(setup);
    // Of the first message of one, only a part has come; another reads nothing.
    let mut writer = join(&service.daemon, &user(1, 1));
    let mut slow = join(&service.daemon, &user(2, 2));
    service.daemon.await_metric("subscriptions", 2);
    let message = br#"{"data":{"message":"whole"}}"#;
    let length = 0x80 | message.len() as u8;
    writer.bytes(&[&[0x81, length, 0, 0, 0, 0], &message[..10]].concat());
    let mut publisher = service.daemon.publisher();
    for number in 0..EVENTS {
        let event = json!({
            "channel": "chat:2", "data": {"message": number, "name": "x".repeat(60_000)}
        });
        publisher.send(format!("channel {event}\n"));
    }
    assert_eq!(publisher.receipt(), (EVENTS as u64, 0));
    assert!(service.daemon.metric("outbox_bytes") > 1_000_000);

    // Messages come in all the while, also in the pauses.
    let mut talker = join(&service.daemon, &user(3, 3));
    let mut listener = join(&service.daemon, &user(3, 4));
    service.daemon.await_metric("subscriptions", 4);
    let mut talk = Going::new();
    let said = Arc::<AtomicU64>::default();
    let for_thread = Arc::clone(&said);
    talk.go(move |is_over| {
        let mut number = 0;
        while !is_over.load(Relaxed) {
            talker.say(&format!(r#"{{"data":{{"message":{number}}}}}"#));
            number += 1;
            for_thread.store(number, Relaxed);
            if number % 20 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // Not closed before everything was heard: answers that it has not read would reset the connection.
        (number, talker)
    });
    for _ in 0..3 {
        let before = said.load(Relaxed);
        eventually("messages come in", || said.load(Relaxed) > before + 100);
        service.hand_over();
    }
    writer.bytes(&message[10..]);
    assert!(writer.text().contains("ok"));
    read(&mut slow, &mut 0, EVENTS as u64);
    let (said, _talker) = talk.end().remove(0);
    read(&mut listener, &mut 0, said);
}

#[test]
fn a_client_behind_a_proxy_keeps_its_address() {
    let setup =
        setup().set("listen.0.proxy_protocol", true).set("trusted_proxies", r#"["127.0.0.0/8"]"#);
    let mut service = Service::start(setup);
    let mut client = Client::raw(service.daemon.address);
    let head = crate::harness::head(&format!("/?token={}", user(1, 1)));
    client.bytes(format!("PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n{head}").as_bytes());
    assert_eq!(client.answer(), 101);
    service.hand_over();
    assert!(client.ask(r#"{"data":{}}"#).contains("ok"));
    let found = service.daemon.ask(OPERATOR_TOKEN, "GET", "/v1/sessions?address=192.0.2.1");
    assert_eq!(found["sessions"].as_array().map(Vec::len), Some(1), "{found}");
}

#[test]
fn a_token_of_operators_does_not_choose_the_program() {
    let service = Service::start(setup());
    let request = format!(
        "POST /v1/upgrade?binary=/bin/true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPERATOR_TOKEN}\r\n\r\n"
    );
    let (status, said) = http(service.daemon.admin, request.as_bytes());
    assert!(status == 400 && said.contains("admin.socket"), "{status} {said}");
    service.daemon.assert_works();
}

#[test]
fn clients_over_tls_are_told_to_come_back_and_the_next_process_lets_them_in() {
    let authority = Authority::new();
    let mut service =
        Service::start(Setup::new().tls(&authority).set("threads", 2).set("drain_spread_s", 1));
    let config = authority.client();
    let connect = |address: SocketAddr| Client::secure_session(address, &config).unwrap();
    let mut clients: Vec<Client> = (0..40).map(|_| connect(service.daemon.address)).collect();
    let answer = service.hand_over();
    assert_eq!((&answer["passed"], &answer["told"]), (&0.into(), &40.into()));
    for client in &mut clients {
        assert_eq!(client.close_code(), 1001);
        connect(service.daemon.address);
    }
    assert_eq!(service.daemon.metric("handover_sessions_total{outcome=\"told\"}"), 40);
}

#[test]
fn what_is_stored_before_and_after_a_hand_over_is_all_there_once() {
    let setup = Setup::new().set("threads", 2).set("drain_spread_s", 0);
    let store = setup.path("store").display().to_string();
    let setup = setup
        .set("listen.0.dialects", r#"["personium-event", "pulsar"]"#)
        .set("store.path", store)
        .set("pulsar.anonymous", true);
    let mut service = Service::start(setup);
    let mut publisher = service.daemon.publisher();
    let mut feed = Going::new();
    let stored = Arc::<AtomicU64>::default();
    let for_thread = Arc::clone(&stored);
    feed.go(move |is_over| {
        let mut number = 0;
        while !is_over.load(Relaxed) {
            publisher.send("pulsar/persistent/t/n/orders {\"payload\":\"eA==\"}\n");
            number += 1;
            let reply = publisher.receipt();
            assert_eq!(reply, (number, 0));
            for_thread.store(number, Relaxed);
        }
        number
    });
    for _ in 0..2 {
        let before = stored.load(Relaxed);
        eventually("messages are stored", || stored.load(Relaxed) > before + 20);
        service.hand_over();
    }
    let before = stored.load(Relaxed);
    eventually("messages are stored", || stored.load(Relaxed) > before + 20);
    let count = feed.end()[0];
    let stats =
        service.daemon.ask(OPERATOR_TOKEN, "GET", "/topics/stats?topic=persistent://t/n/orders");
    assert_eq!(
        stats["msgInCounter"].as_u64().or(stats["messages"].as_u64()),
        Some(count),
        "{stats}"
    );
    // To logcheck it is a quiet day.
    assert_reported(&service.daemon);
}

#[test]
fn it_is_told_for_how_long_redis_was_not_heard() {
    let Some(redis) = Redis::started() else { return };
    let mut service = Service::start(setup().set("feed.redis.url", redis.url()));
    let mut client = join(&service.daemon, &user(1, 1));
    service.daemon.await_log("events come from Redis at", 1);
    service.hand_over();
    service.daemon.await_log("events come from Redis again", 1);
    let told = service.daemon.logged("events come from Redis again").remove(0);
    assert!(told.contains("events of the last 0.") && told.contains(" s were missed"), "{told}");
    let event = json!({"channel": "chat:1", "data": {"message": 0}}).to_string();
    redis.publish("laravel-database-broadcast", [&event]);
    read(&mut client, &mut 0, 1);
}

#[test]
fn fewer_threads_are_refused_with_what_to_do() {
    let setup = setup();
    let file = setup.path("fanfare.toml");
    let write = |threads: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        let line = text.lines().find(|line| line.starts_with("threads = ")).unwrap();
        std::fs::write(&file, text.replace(line, threads)).unwrap();
    };
    write("threads = 2");
    let service = Service::start(setup);
    write("threads = 1");
    let told = service.fail(&[]);
    assert!(told.contains("with 2 threads, and this one would with 1"), "{told}");
    assert!(told.contains("restart the service") && !told.contains("manager"), "{told}");
    service.daemon.assert_works();
}

#[test]
fn a_reload_that_comes_with_a_hand_over_which_fails_is_made() {
    let service = Service::start(setup());
    let Some(frozen) = Frozen::thread(&service.daemon, "fanfare") else { return };
    std::thread::scope(|scope| {
        let ask = || service.fail(&["--binary", "/bin/false"]);
        let asked = [scope.spawn(ask), scope.spawn(ask)];
        eventually("one of them waits", || asked.iter().any(|asked| asked.is_finished()));
        service.daemon.signal(Signal::HUP);
        drop(frozen);
        let told = asked.map(|asked| asked.join().unwrap());
        assert!(told.iter().any(|told| told.contains("asked for already")), "{told:?}");
        assert!(told.iter().any(|told| told.contains("/bin/false check")), "{told:?}");
    });
    service.daemon.await_log("reloaded", 1);
    service.daemon.assert_works();
}

#[test]
fn a_reload_that_comes_during_a_hand_over_is_made_by_the_new_process() {
    let mut service = Service::start(setup());
    let script = service.daemon.path("reloading");
    let program = env!("CARGO_BIN_EXE_fanfare");
    let text = format!("#!/bin/sh\n[ $1 = serve ] && kill -HUP $PPID\nexec {program} \"$@\"\n");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    service.hand_over_with(&["--binary", script.to_str().unwrap()]);
    service.daemon.await_log("reloaded", 1);
    service.daemon.assert_works();
}
