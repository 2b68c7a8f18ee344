//! Several shards are one daemon: every event reaches every subscriber in order, wherever it came from.

use crate::harness::{Client, Setup, event, token_with};

/// Sixteen clients are all on one of two shards once in 32,768 runs.
const CLIENTS: usize = 16;

fn current(client: &mut Client, scope: &str) {
    let token = token_with(crate::harness::SECRET, scope);
    assert!(client.ask(&format!("{{\"AccessToken\":\"{token}\"}}")).contains("Success"));
    assert!(client.ask("{\"Subscribe\":{\"Type\":\"*\",\"Object\":\"*\"}}").contains("Success"));
}

#[test]
fn fed_events_reach_the_subscribers_of_every_shard_in_order() {
    let daemon = Setup::new().set("threads", 2).start();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| daemon.subscriber()).collect();
    let mut publisher = daemon.publisher();
    for n in 0..500 {
        publisher.send(event("both", &n.to_string()));
    }
    for client in &mut clients {
        for n in 0..500 {
            assert!(client.text().contains(&format!("\"Info\":\"{n}\"")));
        }
    }
}

#[test]
fn a_receipt_means_that_no_shard_is_left_out() {
    let daemon = Setup::new().set("threads", 2).start();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| daemon.subscriber()).collect();
    let mut publisher = daemon.publisher();
    for n in 1..=100 {
        publisher.send(event("receipt", &n.to_string()));
        assert_eq!(publisher.receipt(), (n, 0));
    }
    for client in &mut clients {
        (0..100).for_each(|_| drop(client.text()));
    }
    assert_eq!(
        daemon.metric("deliveries_total{dialect=\"personium-event\"}"),
        100 * CLIENTS as u64
    );
}

#[test]
fn events_of_clients_reach_the_subscribers_of_every_shard_in_order() {
    let daemon = Setup::new().set("threads", 2).start();
    let mut readers: Vec<Client> = (0..CLIENTS).map(|_| daemon.client()).collect();
    readers.iter_mut().for_each(|reader| current(reader, "event-read"));
    let mut classic = daemon.subscriber();
    let mut writer = daemon.client();
    current(&mut writer, "event");
    for n in 0..200 {
        writer.say(&format!(
            "{{\"Type\":\"t\",\"Object\":\"o/\",\"Info\":\"{n}\",\"RequestKey\":\"k\"}}"
        ));
    }
    for client in readers.iter_mut().chain([&mut writer]) {
        for n in 0..200 {
            let event = client.text();
            let start = format!(
                "{{\"Type\":\"t\",\"RequestKey\":\"k\",\"Schema\":null,\"External\":true,\"Object\":\"o\\/\",\"Info\":\"{n}\",\"Timestamp\":"
            );
            assert!(event.starts_with(&start), "{event}");
            assert!(event.ends_with(",\"Subject\":\"https:\\/\\/demo.example\\/#me\"}"), "{event}");
        }
    }
    for n in 0..200 {
        assert!(classic.text().contains(&format!("\"Info\":\"{n}\"")));
    }
    assert_eq!(daemon.metric("events_total{feed=\"client\",outcome=\"accepted\"}"), 200);
}

#[test]
fn a_client_without_the_privilege_publishes_nothing() {
    let daemon = Setup::new().set("threads", 2).start();
    let mut reader = daemon.client();
    current(&mut reader, "event-read");
    reader.say("{\"Type\":\"t\",\"Object\":\"o\",\"Info\":\"forbidden\"}");
    let mut publisher = daemon.publisher();
    publisher.send(event("after", "allowed"));
    assert!(reader.text().contains("allowed"));
    assert_eq!(daemon.metric("events_total{feed=\"client\",outcome=\"accepted\"}"), 0);
}

#[test]
fn cells_are_kept_apart() {
    let daemon = Setup::new().set("threads", 2).start();
    let mut subscriber = daemon.subscriber();
    let mut publisher = daemon.publisher();
    for cell in ["dem", "demo2", "demo.x", "DEMO", "other"] {
        publisher.send(event("elsewhere", cell).replace("event/demo", &format!("event/{cell}")));
    }
    publisher.send(event("here", "mine"));
    assert!(subscriber.text().contains("mine"));
    assert_eq!(publisher.receipt(), (6, 0));
}
