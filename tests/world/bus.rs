//! The RabbitMQ feed, with a real broker: what it delivers, what it refuses, and what happens when either
//! side goes.

use crate::doctor::examined;
use crate::harness::{
    Broker, Client, DEADLINE, Daemon, Frozen, RawPublisher, Setup, Verifier, eventually,
    eventually_within, head, headers, long, short,
};
use crate::wazo::follower;
use lapin::ExchangeKind;
use lapin::types::FieldTable;
use rustix::process::Signal;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Tokens of two users of a tenant, of its administrator, of the master tenant, and of a user who may see
/// nothing.
const TOKENS: &str = r##"
    [[token]]
    token = "ann"
    acl = ["websocketd", "events.#"]
    sub = "ann-uuid"
    tenant_uuid = "t1"
    [[token]]
    token = "bob"
    acl = ["websocketd", "events.calls.me"]
    sub = "bob-uuid"
    tenant_uuid = "t1"
    [[token]]
    token = "admin"
    acl = ["#"]
    sub = "admin-uuid"
    tenant_uuid = "t1"
    admin = true
    [[token]]
    token = "master"
    acl = ["#"]
    sub = "master-uuid"
    tenant_uuid = "t0"
    [[token]]
    token = "nobody"
    acl = ["websocketd"]
    sub = "nobody-uuid"
    tenant_uuid = "t1"
"##;

const CONNECTED: &str = "feed_connected{feed=\"amqp\"}";
const LOSSES: &str = "feed_losses_total{feed=\"amqp\"}";
const ACCEPTED: &str = "events_total{feed=\"amqp\",outcome=\"accepted\"}";
const REJECTED: &str = "events_total{feed=\"amqp\",outcome=\"rejected\"}";

/// A daemon for Wazo's clients, to be fed from a broker.
fn wazo(url: &str, exchange: &str) -> Setup {
    let setup = Setup::new();
    std::fs::write(setup.path("tokens.toml"), TOKENS).unwrap();
    let tokens = setup.path("tokens.toml").display().to_string();
    setup
        .set("listen.0.dialects", "[\"wazo\"]")
        .set("wazo.token.static.file", tokens)
        .set("wazo.master_tenant_uuid", "t0")
        .set("feed.amqp.url", url)
        .set("feed.amqp.exchange", exchange)
}

/// The same, at work.
fn connected(setup: Setup) -> Daemon {
    let daemon = setup.start();
    daemon.await_metric(CONNECTED, 1);
    daemon
}

/// Asserts that the daemon closes the session because the broker is away, whatever it had said before.
#[track_caller]
fn assert_told_of_loss(client: &mut Client) {
    let mut frame = client.next();
    while frame.as_ref().is_some_and(|frame| frame.first == 0x81) {
        frame = client.next();
    }
    let frame = frame.expect("the connection ended without a close frame");
    assert_eq!((frame.first, &frame.payload[..]), (0x88, &b"\x03\xf3bus connection lost"[..]));
}

/// Headers of an event for everybody in tenant `t1` who may see `events.…`.
fn common(name: &str) -> FieldTable {
    headers(&[
        ("name", Some(name)),
        ("required_acl", Some("events.test")),
        ("tenant_uuid", Some("t1")),
        ("origin_uuid", Some("this")),
        ("user_uuid:*", Some("true")),
    ])
}

/// What is to be so, and the proof. Each has an exchange of its own.
type Scenario = (&'static str, fn(&Broker));

#[test]
fn a_broker_that_runs() {
    let Some(broker) = Broker::started() else { return };
    let scenarios: [Scenario; 13] = [
        ("headers_say_who_gets_an_event", headers_say_who_gets_an_event),
        ("bodies_say_it_on_a_topic_exchange", bodies_say_it_on_a_topic_exchange),
        ("long_headers_end_no_session", long_headers_end_no_session),
        (
            "headers_that_no_client_can_read_end_nothing",
            headers_that_no_client_can_read_end_nothing,
        ),
        ("events_of_another_origin_stay_away", events_of_another_origin_stay_away),
        ("thousands_of_events_come_once_and_in_order", thousands_of_events_come_once_and_in_order),
        ("what_is_no_event_is_counted_and_not_asked_for_again", what_is_no_event_is_counted),
        ("a_broker_that_refuses_is_explained", a_broker_that_refuses_is_explained),
        ("the_doctor_is_answered", the_doctor_is_answered),
        ("a_broker_with_a_certificate_is_trusted_by_name", a_certificate_is_trusted_by_name),
        ("a_deleted_queue_is_replaced", a_deleted_queue_is_replaced),
        ("a_stop_delivers_what_was_taken", a_stop_delivers_what_was_taken),
        ("a_shard_that_lags_slows_the_broker", a_shard_that_lags_slows_the_broker),
    ];
    let broker = &broker;
    std::thread::scope(|scope| {
        for (name, scenario) in scenarios {
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn_scoped(scope, move || scenario(broker)).unwrap();
        }
    });
    // The others count on the machine's time.
    tokens_are_judged_in_a_flood_of_events(broker);
}

fn the_doctor_is_answered(broker: &Broker) {
    let report = examined(&wazo(&broker.url(), "examined"));
    assert_eq!(report.verdict("backends", "RabbitMQ at "), "good");
    let wrong = examined(&wazo(&broker.url_of("guest:hunter2", ""), "examined"));
    assert_eq!(wrong.verdict("backends", "refuses the user or the password"), "bad");
    assert!(!format!("{wrong:?}").contains("hunter2"));
}

fn headers_say_who_gets_an_event(broker: &Broker) {
    let daemon = connected(wazo(&broker.url(), "wazo-headers").set("threads", 2));
    let names = ["ann", "bob", "admin", "master"];
    let mut clients = names.map(|token| follower(&daemon, token));
    let bus = broker.publisher("wazo-headers", ExchangeKind::Headers);
    let acl = ("required_acl", Some("events.calls.me"));
    let (t1, t2) = (("tenant_uuid", Some("t1")), ("tenant_uuid", Some("t2")));
    let (name, everyone) = (("name", Some("call")), ("user_uuid:*", Some("true")));
    let one = ("user_uuid:bob-uuid", Some("true"));
    let cases: [(&[_], &str, &[&str]); 9] = [
        (&[name, acl, t1, one], "{ \"one\" :1}", &["bob", "admin", "master"]),
        (&[name, acl, t1, everyone], "{\"all\":1}", &names),
        (&[name, acl, t1], "{\"no user\":1}", &["admin", "master"]),
        (
            &[name, acl, t1, ("user_uuid:bob-uuid", Some("yes"))],
            "{\"text\":1}",
            &["admin", "master"],
        ),
        (&[name, acl, t2, everyone], "{\"other tenant\":1}", &["master"]),
        (&[name, ("required_acl", None), t1, everyone], "{\"open\":1}", &names),
        (
            &[name, ("required_acl", Some("events.other")), t1, everyone],
            "{\"acl\":1}",
            &["ann", "admin", "master"],
        ),
        (&[name, t1, everyone], "{\"required_acl\":null}", &[]),
        (&[acl, t1, everyone], "{\"name\":\"in the body\"}", &names),
    ];
    bus.publish(cases.iter().map(|(values, body, _)| (headers(values), body)));
    for (client, own) in clients.iter_mut().zip(names) {
        for (_, body, _) in cases.iter().filter(|(_, _, receivers)| receivers.contains(&own)) {
            assert_eq!(client.text(), *body, "{own}");
        }
        assert!(client.is_silent_for(Duration::from_millis(1)), "{own}");
    }
    assert_eq!((daemon.metric(ACCEPTED), daemon.metric(REJECTED)), (cases.len() as u64, 0));
}

fn bodies_say_it_on_a_topic_exchange(broker: &Broker) {
    let daemon = connected(wazo(&broker.url(), "xivo").set("feed.amqp.exchange_type", "topic"));
    let mut client = follower(&daemon, "bob");
    let bus = broker.publisher("xivo", ExchangeKind::Topic);
    let seen = [
        "{\"name\":\"x\", \"required_acl\":\"events.calls.bob-uuid\"}",
        "{\"name\":\"x\",\"required_acl\":null}",
    ];
    let unseen = ["{\"name\":\"x\"}", "{\"name\":\"x\",\"required_acl\":\"events.other\"}"];
    bus.publish(
        [unseen[0], seen[0], unseen[1], seen[1]].map(|body| (common("in the headers"), body)),
    );
    assert_eq!([client.text(), client.text()], seen);
}

/// What an event for very many users comes to: a header for each.
fn long_headers_end_no_session(broker: &Broker) {
    let daemon = connected(wazo(&broker.url(), "long").set("threads", 2));
    let mut clients = ["ann", "admin"].map(|token| follower(&daemon, token));
    let bus = broker.publisher("long", ExchangeKind::Headers);
    let for_users = |count: usize| {
        let mut headers = common("x");
        for user in 0..count {
            headers.insert(
                format!("user_uuid:{user:036}").into(),
                lapin::types::AMQPValue::Boolean(true),
            );
        }
        headers
    };
    let mut beyond = common("x");
    beyond.insert("other".into(), lapin::types::AMQPValue::LongString("x".repeat(130_000).into()));
    let cases = [
        (for_users(650), "{\"users\":650}"),
        (for_users(1000), "{\"users\":1000}"),
        (beyond, "{\"as long as a frame\":1}"),
        // So many are no event of a Wazo; it is refused alone.
        (for_users(2500), "{\"users\":2500}"),
        (common("x"), "{\"the next\":1}"),
    ];
    bus.publish(cases.clone());
    for client in &mut clients {
        for (_, body) in [0, 1, 2, 4].map(|case| &cases[case]) {
            assert_eq!(client.text(), *body);
        }
    }
    assert_eq!(
        (daemon.metric(REJECTED), daemon.metric(LOSSES), daemon.metric(CONNECTED)),
        (1, 0, 1)
    );
}

/// The AMQP client would end the process for the first and the connection for the others.
fn headers_that_no_client_can_read_end_nothing(broker: &Broker) {
    let daemon = connected(wazo(&broker.url(), "odd").set("threads", 2));
    let mut client = follower(&daemon, "ann");
    let mut bus = RawPublisher::connect(broker.port());
    let text = |name: &str, value: &str| {
        [&short(name.as_bytes())[..], b"S", &long(value.as_bytes())].concat()
    };
    let good = [
        text("name", "x"),
        text("required_acl", "events.test"),
        text("tenant_uuid", "t1"),
        [&short(b"user_uuid:*")[..], b"t\x01"].concat(),
    ]
    .concat();
    let nested = (0..10_000).fold(Vec::new(), |inner, _| [b"\x01aF", &long(&inner)[..]].concat());
    let bad = [nested, b"\x03\xff\xfe\xfdV".to_vec()];
    for more in &bad {
        bus.publish("odd", b"some.key", &[&good[..], more].concat(), b"{\"bad\":1}");
    }
    bus.publish("odd", b"some.k\xe9y", &good, b"{\"good\":1}");
    assert_eq!(client.text(), "{\"good\":1}");
    assert_eq!(
        (daemon.metric(REJECTED), daemon.metric(LOSSES), daemon.metric(CONNECTED)),
        (2, 0, 1)
    );
    assert!(!daemon.logged("nested too deep").is_empty());
}

fn events_of_another_origin_stay_away(broker: &Broker) {
    let daemon = connected(wazo(&broker.url(), "origins").set("feed.amqp.origin_uuid", "this"));
    let mut client = follower(&daemon, "master");
    let bus = broker.publisher("origins", ExchangeKind::Headers);
    let other =
        headers(&[("name", Some("x")), ("required_acl", None), ("origin_uuid", Some("other"))]);
    bus.publish([(other, "{\"other\":1}"), (common("x"), "{\"this\":1}")]);
    assert_eq!(client.text(), "{\"this\":1}");
    assert_eq!(daemon.metric(ACCEPTED), 1);
}

fn thousands_of_events_come_once_and_in_order(broker: &Broker) {
    const EVENTS: usize = 20_000;
    let daemon = connected(wazo(&broker.url(), "many").set("threads", 2));
    let mut clients = [follower(&daemon, "ann"), follower(&daemon, "admin")];
    let bus = broker.publisher("many", ExchangeKind::Headers);
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(move || {
                for place in 0..EVENTS {
                    assert_eq!(client.text(), numbered(place));
                }
                assert!(client.is_silent_for(Duration::from_millis(50)));
            });
        }
        for start in (0..EVENTS).step_by(1000) {
            bus.publish((start..start + 1000).map(|place| (common("x"), numbered(place))));
        }
    });
    assert_eq!(daemon.metric(ACCEPTED), EVENTS as u64);
}

fn numbered(place: usize) -> String {
    format!("{{\"name\":\"x\",\"place\":{place}}}")
}

fn what_is_no_event_is_counted(broker: &Broker) {
    let daemon = connected(wazo(&broker.url(), "bad"));
    let mut client = follower(&daemon, "ann");
    let bus = broker.publisher("bad", ExchangeKind::Headers);
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(1024 * 1024));
    let nameless = headers(&[("required_acl", None), ("tenant_uuid", Some("t1"))]);
    let mut wrong = common("x");
    wrong.insert("required_acl".into(), lapin::types::AMQPValue::LongInt(1));
    let bad: [(FieldTable, &[u8]); 7] = [
        (common("x"), b"no JSON"),
        (common("x"), b"[1]"),
        (common("x"), b""),
        (common("x"), b"{\"x\":\"\xff\"}"),
        (common("x"), long.as_bytes()),
        (nameless, b"{}"),
        (wrong, b"{}"),
    ];
    let count = bad.len() as u64;
    bus.publish(bad);
    bus.publish([(common("x"), "{\"good\":1}")]);
    assert_eq!(client.text(), "{\"good\":1}");
    assert_eq!(daemon.metric(REJECTED), count);
    assert!((1..=5).contains(&daemon.logged("is not an event").len()), "the log is not flooded");
    let queue = queue(broker, "bad");
    eventually("the broker keeps none of them", || {
        let queues = broker.control(&["--silent", "list_queues", "name", "messages"]);
        queues.lines().any(|line| line.split_whitespace().eq([&queue[..], "0"]))
    });
}

/// The queue that is bound to an exchange.
fn queue(broker: &Broker, exchange: &str) -> String {
    let bindings =
        broker.control(&["--silent", "list_bindings", "source_name", "destination_name"]);
    let found =
        bindings.lines().find_map(|line| line.split_once('\t').filter(|pair| pair.0 == exchange));
    found.unwrap_or_else(|| panic!("nothing is bound to {exchange}: {bindings}")).1.to_owned()
}

fn a_broker_that_refuses_is_explained(broker: &Broker) {
    drop(broker.publisher("of-old", ExchangeKind::Topic));
    broker.control(&["add_user", "limited", "hunter2"]);
    broker.control(&["set_permissions", "limited", "", "", ""]);
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, exchange, advice) in [
        (broker.url_of("guest:hunter2", ""), "refused", "refuses the user or the password"),
        (broker.url_of("guest:guest", "absent"), "refused", "the broker has no virtual host"),
        (broker.url_of("limited:hunter2", ""), "refused", "the user lacks permissions"),
        (broker.url(), "of-old", "is of another kind: set feed.amqp.exchange"),
        (broker.url().replace("amqp:", "amqps:"), "refused", "no TLS with"),
        (format!("amqp://guest:hunter2@{nobody}/"), "refused", "nothing listens at"),
        (
            format!("amqp://guest:hunter2@{}/", mute.local_addr().unwrap()),
            "refused",
            "but sends nothing",
        ),
    ] {
        let daemon = wazo(&url, exchange).start();
        eventually(advice, || !daemon.logged(advice).is_empty());
        let mut client = Client::raw(daemon.address);
        client.bytes(head("/?token=ann").as_bytes());
        assert_eq!(client.answer(), 101);
        assert_told_of_loss(&mut client);
        assert_eq!((daemon.metric(CONNECTED), daemon.metric(LOSSES)), (0, 0));
        assert!(
            daemon.logged("hunter2").is_empty() && daemon.logged("guest").is_empty(),
            "{:?}",
            daemon.log()
        );
    }
}

fn a_certificate_is_trusted_by_name(broker: &Broker) {
    let authority = broker.authority().display().to_string();
    let daemon =
        connected(wazo(&broker.url_with_tls(), "encrypted").set("feed.amqp.ca_file", authority));
    let mut client = follower(&daemon, "ann");
    broker.publisher("encrypted", ExchangeKind::Headers).publish([(common("x"), "{\"secret\":1}")]);
    assert_eq!(client.text(), "{\"secret\":1}");
    let stranger = wazo(&broker.url_with_tls(), "encrypted").start();
    eventually("a stranger is not trusted", || !stranger.logged("feed.amqp.ca_file").is_empty());
}

fn a_deleted_queue_is_replaced(broker: &Broker) {
    let daemon = connected(wazo(&broker.url(), "fleeting"));
    let mut client = follower(&daemon, "ann");
    let queue = queue(broker, "fleeting");
    let erlang = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), \
         rabbit_amqqueue:delete(Q, false, false, <<\"test\">>)."
    );
    broker.control(&["eval", &erlang]);
    assert_told_of_loss(&mut client);
    daemon.await_log("our queue was deleted", 1);
    daemon.await_metric(CONNECTED, 1);
    assert_eq!(daemon.metric(LOSSES), 1);
    let mut client = follower(&daemon, "ann");
    broker.publisher("fleeting", ExchangeKind::Headers).publish([(common("x"), "{\"again\":1}")]);
    assert_eq!(client.text(), "{\"again\":1}");
}

fn a_stop_delivers_what_was_taken(broker: &Broker) {
    let mut daemon = connected(wazo(&broker.url(), "stopping").set("threads", 2));
    let mut clients = [follower(&daemon, "ann"), follower(&daemon, "admin")];
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let bus = broker.publisher("stopping", ExchangeKind::Headers);
            let mut start = 0;
            while !stopped.load(Relaxed) {
                bus.publish((start..start + 100).map(|place| (common("x"), numbered(place))));
                start += 100;
            }
        });
        assert_eq!(clients[0].text(), numbered(0));
        let start = Instant::now();
        daemon.signal(Signal::TERM);
        let counts = [(0, 1), (1, 0)].map(|(client, first)| {
            let client: &mut Client = &mut clients[client];
            let mut place = first;
            loop {
                let frame = client.next().expect("a close frame comes before the end");
                if frame.first != 0x81 {
                    assert_eq!(&frame.payload[..2], &[0x03, 0xe9], "going away");
                    client.frame(0x88, b"\x03\xe9");
                    return place;
                }
                assert_eq!(frame.payload, numbered(place).as_bytes());
                place += 1;
            }
        });
        assert_eq!(counts[0], counts[1]);
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        stopped.store(true, Relaxed);
    });
}

/// The only shard stands still while more is published than may wait for it.
fn a_shard_that_lags_slows_the_broker(broker: &Broker) {
    const EVENTS: usize = 3000;
    const BODY_BYTES: usize = 64 * 1024;
    let daemon =
        connected(wazo(&broker.url(), "lagging").set("limits.outbox_bytes_max", 64 * 1024 * 1024));
    let mut client = follower(&daemon, "ann");
    let bus = broker.publisher("lagging", ExchangeKind::Headers);
    let body =
        |place: usize| format!("{{\"place\":{place},\"pad\":\"{}\"}}", "x".repeat(BODY_BYTES));
    let Some(frozen) = Frozen::thread(&daemon, "shard-0") else { return };
    for start in (0..EVENTS).step_by(100) {
        bus.publish((start..start + 100).map(|place| (common("x"), body(place))));
    }
    eventually("messages wait at the broker", || broker.messages() > 500);
    assert!(daemon.memory_bytes() < 400 * 1024 * 1024, "{}", daemon.memory_bytes());
    drop(frozen);
    for place in 0..EVENTS {
        assert!(client.text().starts_with(&format!("{{\"place\":{place},")));
    }
}

/// Broker and verifiers share a thread.
fn tokens_are_judged_in_a_flood_of_events(broker: &Broker) {
    let verifier = Verifier::start();
    let setup = Setup::new()
        .set("listen.0.dialects", "[\"wazo\"]")
        .set("wazo.token.wazo_auth.url", format!("http://{}", verifier.address))
        .set("wazo.token.wazo_auth.cache_s", 0)
        .set("feed.amqp.url", broker.url())
        .set("feed.amqp.exchange", "flood");
    let daemon = connected(setup);
    let (flooding, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let bus = broker.publisher("flood", ExchangeKind::Headers);
            while !done.load(Relaxed) {
                bus.publish((0..500).map(|place| (common("x"), numbered(place))));
                flooding.store(true, Relaxed);
            }
        });
        eventually("events come", || flooding.load(Relaxed));
        let before = daemon.metric(ACCEPTED);
        for number in 0..100 {
            let start = Instant::now();
            drop(follower(&daemon, &format!("good{number}")));
            assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        }
        assert!(daemon.metric(ACCEPTED) > before + 500, "and the flood went on");
        done.store(true, Relaxed);
    });
    assert_eq!(daemon.metric("token_check_failures_total"), 0);
}

#[test]
fn a_broker_that_comes_and_goes() {
    let Some(mut broker) = Broker::new() else { return };
    let closing = wazo(&broker.url(), "wazo-headers").start();
    let keeping = wazo(&broker.url(), "wazo-headers").set("feed.amqp.on_bus_loss", "keep").start();
    let mut early = Client::raw(closing.address);
    early.bytes(head("/?token=ann").as_bytes());
    assert_eq!(early.answer(), 101);
    assert_told_of_loss(&mut early);
    let mut kept = follower(&keeping, "ann");
    broker.start();
    await_connected(&[&closing, &keeping]);
    assert_eq!(closing.page("/readyz?dialect=wazo").0, 200);
    let pauses = |daemon: &Daemon| -> Vec<String> {
        let lines = daemon.logged("trying again in").into_iter();
        lines
            .map(|line| {
                line.split("again in ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
            })
            .collect()
    };
    let expected = ["1", "2", "4", "8", "16", "32"];
    let before = pauses(&closing);
    assert_eq!(before, expected[..before.len()]);
    let mut closed = follower(&closing, "ann");
    let bus = broker.publisher("wazo-headers", ExchangeKind::Headers);
    bus.publish([(common("x"), "{\"first\":1}")]);
    assert_eq!([closed.text(), kept.text()], ["{\"first\":1}"; 2]);
    drop(bus);

    broker.kill();
    assert_told_of_loss(&mut closed);
    for daemon in [&closing, &keeping] {
        daemon.await_metric(CONNECTED, 0);
        assert_eq!(daemon.metric(LOSSES), 1);
        let told = || daemon.page("/readyz?dialect=wazo");
        eventually("readiness says why", || {
            told().0 == 503 && told().1.contains("no events from RabbitMQ at ")
        });
    }
    broker.start();
    await_connected(&[&closing, &keeping]);
    let after = &pauses(&closing)[before.len()..];
    assert_eq!(after, &expected[..after.len()], "after a success they start from the first");
    let mut again = follower(&closing, "ann");
    let bus = broker.publisher("wazo-headers", ExchangeKind::Headers);
    bus.publish([(common("x"), "{\"second\":1}")]);
    assert_eq!([again.text(), kept.text()], ["{\"second\":1}"; 2]);
}

/// Waits as long as a broker may be missed for.
fn await_connected(daemons: &[&Daemon]) {
    eventually_within(2 * DEADLINE, "the broker's events come", || {
        daemons.iter().all(|daemon| daemon.metric(CONNECTED) > 0)
    });
}
