//! The webhooks of `echo`, from a client's frame over several shards to a receiver on a real socket.

use crate::harness::{
    APP_SECRET, Client, Daemon, Echo, Receiver, Setup, answer, echo_setup, eventually, hmac_of,
    post,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// What nobody but the receiver is to see.
const QUERY: &str = "hunter2";

/// Two shards, and an app whose webhook is at a receiver.
fn setup(receiver: &Receiver) -> Setup {
    echo_setup().set(
        "echo.app.0.webhook",
        format!("[{{ url = {:?} }}]", receiver.url(&format!("/hook?{QUERY}"))),
    )
}

/// The events of all requests, in order; each request is as it should be.
#[track_caller]
fn told(receiver: &Receiver) -> Vec<Value> {
    let mut events = Vec::new();
    for request in receiver.requests() {
        assert_eq!(
            (&request["method"], &request["path"]),
            (&json!("POST"), &json!(format!("/hook?{QUERY}")))
        );
        let (headers, body) = (&request["headers"], request["body"].as_str().unwrap());
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["x-pusher-key"], "app-key");
        assert_eq!(headers["x-pusher-signature"], hmac_of(body));
        let body: Value = serde_json::from_str(body).unwrap();
        assert!(body["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
        events.extend(body["events"].as_array().unwrap().iter().cloned());
    }
    events
}

/// Waits until so many events were told.
#[track_caller]
fn await_told(receiver: &Receiver, count: usize) -> Vec<Value> {
    eventually(&format!("{count} events are told"), || told(receiver).len() >= count);
    told(receiver)
}

#[track_caller]
fn assert_keeps_secrets(daemon: &Daemon) {
    for secret in [APP_SECRET, QUERY] {
        assert_eq!(daemon.logged(secret), Vec::<String>::new());
    }
}

#[track_caller]
fn stop(mut daemon: Daemon) {
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    assert_keeps_secrets(&daemon);
}

#[test]
fn who_comes_goes_and_speaks_is_told_signed() {
    let receiver = Receiver::start();
    let daemon = setup(&receiver).start();
    let mut ann = Echo::connect(&daemon);
    ann.join("presence-r", Some("ann"));
    let mut events = await_told(&receiver, 2);
    let mut bobs: Vec<Echo> = (0..8).map(|_| Echo::connect(&daemon)).collect();
    bobs.iter_mut().for_each(|bob| bob.join("presence-r", Some("bob")));
    events.extend(await_told(&receiver, 3).split_off(2));
    bobs[0].send("client-typing", json!({"channel": "presence-r", "data": {"at": 1.50}}));
    events.extend(await_told(&receiver, 4).split_off(3));
    ann.join("cache-c", None);
    events.extend(await_told(&receiver, 6).split_off(4));
    let socket_id = events[3]["socket_id"].take();
    assert!(socket_id.as_str().unwrap().contains('.'));
    let member =
        |name: &str, user: &str| json!({"name": name, "channel": "presence-r", "user_id": user});
    let typing = json!({"name": "client_event", "channel": "presence-r", "event": "client-typing",
        "data": events[3]["data"], "socket_id": null, "user_id": "bob"});
    let expected = [
        json!({"name": "channel_occupied", "channel": "presence-r"}),
        member("member_added", "ann"),
        member("member_added", "bob"),
        typing,
    ];
    assert_eq!(events[..4], expected);
    let names: HashSet<&str> =
        events[4..].iter().map(|event| event["name"].as_str().unwrap()).collect();
    assert_eq!(names, HashSet::from(["channel_occupied", "cache_miss"]));
    // All of Bob's go, and come back at once; Ann goes and stays away.
    bobs.clear();
    assert_eq!(ann.until("pusher_internal:member_removed")["user_id"], "bob");
    let mut bob = Echo::connect(&daemon);
    bob.join("presence-r", Some("bob"));
    let left = Instant::now();
    ann.leave("presence-r");
    bob.until("pusher_internal:member_removed");
    let events = await_told(&receiver, 7);
    assert_eq!(events[6..], [member("member_removed", "ann")], "and nothing of Bob");
    assert!(left.elapsed() >= Duration::from_secs(3), "{:?}", left.elapsed());
    // The last leaves wait no more when the daemon stops.
    drop((ann, bob));
    daemon.await_metric("connections", 0);
    stop(daemon);
    let last =
        |events: &[Value]| -> HashSet<String> { events.iter().map(ToString::to_string).collect() };
    let vacated = |channel: &str| json!({"name": "channel_vacated", "channel": channel});
    let expected = [member("member_removed", "bob"), vacated("presence-r"), vacated("cache-c")];
    assert_eq!(last(&told(&receiver)[7..]), last(&expected));
}

#[test]
fn counts_are_told_where_they_are_wanted_and_nothing_else() {
    let receiver = Receiver::start();
    let hook = format!(
        "[{{ url = {:?}, events = [\"subscription_count\"] }}]",
        receiver.url(&format!("/hook?{QUERY}"))
    );
    let daemon = echo_setup()
        .set("echo.app.0.webhook", hook)
        .set("echo.app.0.subscription_count", true)
        .start();
    let mut clients: Vec<Echo> = (0..6).map(|_| Echo::connect(&daemon)).collect();
    clients.iter_mut().for_each(|client| client.join("room", None));
    let mut last = Value::Null;
    eventually("all six are counted", || {
        last = told(&receiver).pop().unwrap_or_default();
        last["subscription_count"] == 6
    });
    assert_eq!(
        last,
        json!({"name": "subscription_count", "channel": "room", "subscription_count": 6})
    );
    assert!(told(&receiver).iter().all(|event| event["name"] == "subscription_count"));
    drop(clients);
    stop(daemon);
}

#[test]
fn what_happens_at_once_is_told_in_few_requests() {
    const CHANNELS: usize = 100;
    let receiver = Receiver::start();
    let daemon = setup(&receiver).start();
    let mut client = Echo::connect(&daemon);
    (0..CHANNELS).for_each(|number| client.ask_for(&format!("room-{number}")));
    // Each channel has an owner of its own, so those of different channels come in any order.
    let events = await_told(&receiver, CHANNELS);
    for number in 0..CHANNELS {
        let event = json!({"name": "channel_occupied", "channel": format!("room-{number}")});
        assert_eq!(events.iter().filter(|told| **told == event).count(), 1, "{event}");
    }
    assert!(receiver.requests().len() < CHANNELS / 2);
    daemon.await_metric("webhooks_total{kind=\"webhook\",outcome=\"delivered\"}", CHANNELS as u64);
    drop(client);
    stop(daemon);
}

#[test]
fn what_one_client_says_is_told_in_order() {
    let receiver = Receiver::start();
    let daemon = setup(&receiver).start();
    // Those of several channels, of clients on both shards, come in any order; so does what the
    // owner of a channel tells beside what its clients say.
    let mut clients: Vec<Echo> = (0..8).map(|_| Echo::connect(&daemon)).collect();
    let channel = |number: usize| format!("private-{number}");
    for (number, client) in clients.iter_mut().enumerate() {
        client.join(&channel(number), None);
    }
    for said in ["client-a", "client-b", "client-c"] {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(said, json!({"channel": channel(number), "data": {}}));
        }
    }
    let events = await_told(&receiver, 4 * clients.len());
    for number in 0..clients.len() {
        let own = events.iter().filter(|event| event["channel"] == channel(number));
        let (said, told): (Vec<&Value>, Vec<&Value>) =
            own.partition(|event| event["name"] == "client_event");
        let order: Vec<&Value> = said.iter().map(|event| &event["event"]).collect();
        assert_eq!(order, ["client-a", "client-b", "client-c"]);
        assert!(matches!(told[..], [occupied] if occupied["name"] == "channel_occupied"));
    }
    drop(clients);
    stop(daemon);
}

#[test]
fn what_was_not_taken_is_told_again_before_anything_else() {
    let receiver = Receiver::start();
    receiver.set(&json!({"answers": [500, "drop"]}));
    let daemon = setup(&receiver).start();
    let mut client = Echo::connect(&daemon);
    client.join("first", None);
    receiver.await_requests(1);
    client.join("second", None);
    let events = await_told(&receiver, 4);
    let channels: Vec<&str> =
        events.iter().map(|event| event["channel"].as_str().unwrap()).collect();
    assert_eq!(channels, ["first", "first", "first", "second"]);
    let bodies: HashSet<String> =
        receiver.requests()[..3].iter().map(|request| request["body"].to_string()).collect();
    assert_eq!(bodies.len(), 1, "the same request three times");
    daemon.await_metric("webhooks_total{kind=\"webhook\",outcome=\"delivered\"}", 2);
    assert_eq!(daemon.metric("webhook_retries_total{kind=\"webhook\"}"), 2);
    assert_eq!(daemon.logged("calling the webhook of app 7").len(), 1, "one line for one trouble");
    drop(client);
    stop(daemon);
}

#[test]
fn a_receiver_that_hangs_holds_up_no_event_and_no_stop() {
    let receiver = Receiver::start();
    receiver.set(&json!({"status": "hang"}));
    let daemon = setup(&receiver).set("drain_s", 3).start();
    let mut reader = Echo::connect(&daemon);
    reader.join("room", None);
    receiver.await_requests(1);
    let mut publisher = Client::raw(daemon.address);
    for number in 0..200 {
        reader.join(&format!("room-{number}"), None);
        reader.leave(&format!("room-{number}"));
        let body = format!(r#"{{"name":"e","channel":"room","data":"{number}"}}"#);
        publisher.bytes(
            post("/apps/7/events", &body, &format!("Content-Length: {}\r\n", body.len()))
                .as_bytes(),
        );
        assert_eq!(answer(&mut publisher).0, 200);
        assert_eq!(reader.until("e"), number);
    }
    assert_eq!(receiver.requests().len(), 1, "one request at a time");
    assert!(daemon.metric("webhooks_waiting{kind=\"webhook\"}") >= 200);
    drop((reader, publisher));
    stop(daemon);
}

#[test]
fn a_reload_brings_the_first_webhook_and_takes_it_away() {
    let receiver = Receiver::start();
    let daemon = echo_setup().start();
    let mut client = Echo::connect(&daemon);
    client.join("before", None);
    let file = daemon.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let url = receiver.url(&format!("/hook?{QUERY}"));
    let reload = |more: &str, count| {
        std::fs::write(&file, format!("{text}[[echo.app]]\n{more}")).unwrap();
        daemon.signal(Signal::HUP);
        daemon.await_log("reloaded", count);
    };
    reload(&format!("webhook = [{{ url = {url:?} }}]\n"), 1);
    let mut number = 0;
    eventually("a channel is told", || {
        number += 1;
        client.join(&format!("during-{number}"), None);
        !told(&receiver).is_empty()
    });
    assert!(told(&receiver)[0]["channel"].as_str().unwrap().starts_with("during-"));
    reload("", 2);
    client.join("after", None);
    let sent = |daemon: &Daemon| daemon.metric("webhooks_waiting{kind=\"webhook\"}");
    eventually("nothing waits", || sent(&daemon) == 0);
    assert!(told(&receiver).iter().all(|event| event["channel"] != "after"));
    daemon.assert_works();
    drop(client);
    stop(daemon);
}
