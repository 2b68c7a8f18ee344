//! Clients of all dialects that hear every event once, while process after process takes the daemon's work over.

use crate::channel::{join, setup};
use crate::handover::{CHANNELS, read, user, visit};
use crate::harness::{APP_SECRET, Client, Daemon, Echo, Going, Service, Setup, event, eventually};
use crate::{topic, wazo};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Dialects of the crowd.
const DIALECTS: usize = 5;
/// Topics that the clients of Personium's follow.
const TOPICS: usize = 3;
/// Rounds of events between two hand-overs, so that they come before, in and after each.
const BETWEEN: u64 = 5;
/// Between two rounds of events, which clients read only in the end.
const PAUSE: Duration = Duration::from_millis(20);

fn crowd_setup() -> Setup {
    let setup = setup();
    let secret = setup.path("jwt.secret");
    setup
        .set("threads", 2)
        .set("listen.0.dialects", r#"["personium-event", "personium-topic", "channel", "echo"]"#)
        // Its path is that of channels. And a hand-over knows listeners by the address that is asked for.
        .set("listen.1.address", "127.0.0.2:0")
        .set("listen.1.dialects", r#"["wazo"]"#)
        .set("wazo.token.jwt.algorithms", r#"["HS256"]"#)
        .set("wazo.token.jwt.secret_file", secret.display())
        .set("echo.app.0.id", "7")
        .set("echo.app.0.key", "app-key")
        .set("echo.app.0.secret", APP_SECRET)
}

/// A client of each dialect, which all follow something.
fn company(daemon: &Daemon, id: usize) -> [Client; DIALECTS] {
    let mut echo = Echo::connect(daemon);
    echo.join("news", None);
    // The others of its room come while it is there.
    echo.join(&format!("presence-{}", id / 10), Some(&id.to_string()));
    [
        join(daemon, &user(id % CHANNELS, id)),
        daemon.subscriber(),
        echo.client,
        topic::follower(daemon, &format!("crowd.topic.t{}", id % TOPICS)),
        wazo::follower_at(daemon.addresses[1], &wazo::token(3600)),
    ]
}

/// The lines that tell every client one number, and how many they are.
fn telling(number: u64) -> (String, u64) {
    let mut lines = vec![event("crowd", &format!("\\\"message\\\":{number}}}"))];
    for channel in 0..CHANNELS {
        let event = json!({"channel": format!("chat:{channel}"), "data": {"message": number}});
        lines.push(format!("channel {event}\n"));
    }
    let data = json!({"message": number}).to_string();
    lines.push(format!("echo/7 {}\n", json!({"name": "told", "channel": "news", "data": data})));
    for topic in 0..TOPICS {
        let datum = json!({"From": "https://demo.example/", "Body": {"message": number}});
        lines.push(format!("topic/demo/box/crowd.topic.t{topic} {datum}\n"));
    }
    let event = json!({"name": "n", "required_acl": "events.n", "data": {"message": number}});
    lines.push(format!("wazo {event}\n"));
    (lines.concat(), lines.len() as u64)
}

#[test]
fn a_crowd_of_all_dialects_gets_every_event_once_over_many_hand_overs() {
    let is_long = std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1");
    let (clients, rounds) = if is_long { (9000, 10) } else { (1500, 3) };
    let mut service = Service::start(crowd_setup());
    let mut crowd: Vec<Client> =
        (0..clients / DIALECTS).flat_map(|id| company(&service.daemon, id)).collect();

    let mut publisher = service.daemon.publisher();
    let mut feed = Going::new();
    let published = Arc::<AtomicU64>::default();
    let for_thread = Arc::clone(&published);
    feed.go(move |is_over| {
        let (mut number, mut sent) = (0, 0);
        while !is_over.load(Relaxed) {
            let (lines, count) = telling(number);
            publisher.send(lines);
            (number, sent) = (number + 1, sent + count);
            assert_eq!(publisher.receipt(), (sent, 0));
            for_thread.store(number, Relaxed);
            std::thread::sleep(PAUSE);
        }
        number
    });
    let mut visitors = Going::new();
    visit(service.daemon.address, &mut visitors);
    let mut pauses = Vec::new();
    for round in 1..=rounds {
        let answer = service.hand_over();
        assert!(answer["passed"].as_u64().unwrap() >= clients as u64, "round {round}: {answer}");
        assert_eq!(answer["told"], 0, "round {round}: {answer}");
        pauses.push(answer["pause_ms"].as_f64().unwrap());
        let before = published.load(Relaxed);
        eventually("events come between", || published.load(Relaxed) >= before + BETWEEN);
    }
    eprintln!("pauses in ms with {clients} clients: {pauses:.1?}");
    assert!(visitors.end()[0] > 10);
    let count = feed.end()[0];
    for client in &mut crowd {
        read(client, &mut 0, count);
    }
}
