//! What a producer is told, and what becomes of what it sends.

use crate::client::{Consumer, Producer, SHARDS, Socket, encoded, message, place, setup};
use crate::harness::{Authority, Client, head};
use serde_json::json;

#[test]
fn all_that_is_sent_is_delivered_in_the_order_of_its_ids() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut consumer = Consumer::new(&daemon, "order", "sub");
        let mut producer = Producer::new(&daemon, "order");
        let payloads: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
        let ids = producer.send_all(&payloads);
        assert!(ids.iter().map(|id| place(id)).is_sorted());
        for (id, payload) in ids.iter().zip(&payloads) {
            let message = consumer.take();
            assert_eq!((&message.id, &message.payload), (id, payload));
        }
        consumer.assert_quiet();
    }
}

#[test]
fn the_current_api_speaks_as_its_documentation_shows() {
    let daemon = setup().start();
    let mut consumer = Consumer::new(&daemon, "shown", "sub");
    let mut producer = Producer::new(&daemon, "shown");
    producer.0.say(&json!({ "payload": encoded("Hello World"), "context": "1", "key": "k",
        "properties": { "key1": "value1", "key2": "value2" }, "eventTime": "2020-02-02T02:02:02.5+01:00" }));
    assert_eq!(
        producer.0.client.text(),
        r#"{"result":"ok","messageId":"CAAQAA==","context":"1","errorCode":0,"schemaVersion":0}"#
    );
    let text = consumer.0.client.text();
    let (before, after) = text.split_once("\"publishTime\":\"").unwrap();
    assert_eq!(
        before,
        "{\"messageId\":\"CAAQAA==\",\"payload\":\"SGVsbG8gV29ybGQ=\",\
         \"properties\":{\"key1\":\"value1\",\"key2\":\"value2\"},"
    );
    let (time, rest) = after.split_once('"').unwrap();
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with('Z'), "{time}");
    assert_eq!(rest, r#","redeliveryCount":0,"eventTime":"2020-02-02T01:02:02.5Z","key":"k"}"#);
}

#[test]
fn the_same_goes_over_tls() {
    let authority = Authority::new();
    let daemon = setup().set("threads", 2).tls(&authority).start();
    let connect = || Client::secure(daemon.address, &authority.client()).unwrap();
    let path = "persistent/public/default/secret";
    let mut consumer = Consumer(Socket::upgrade(connect(), &format!("/ws/v2/consumer/{path}/sub")));
    let mut producer = Producer(Socket::upgrade(connect(), &format!("/ws/v2/producer/{path}")));
    let payloads: Vec<String> = (0..300).map(|n| format!("{n}-{}", "x".repeat(500))).collect();
    producer.send_all(&payloads);
    assert_eq!(consumer.take_all(300), payloads);
    consumer.assert_quiet();
}

#[test]
fn what_is_no_message_is_answered_and_the_next_is_taken() {
    let daemon = setup().start();
    let mut producer = Producer::new(&daemon, "wrong");
    for bad in
        ["", "{", "[]", "nonsense", "{\"payload\":[]}", "{'payload':''}", "{\"payload\":\"\",}"]
    {
        producer.0.client.say(bad);
        let answer = producer.0.hear();
        assert_eq!(answer["result"], "send-error:3", "{bad}: {answer}");
        assert!(answer["errorMsg"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
        assert!(answer.get("context").is_none(), "{answer}");
    }
    for bad in ["!", "SGVs bG8=", "SGVsbG8\n", "_-__"] {
        producer.0.say(&json!({ "payload": bad, "context": "c" }));
        let answer = producer.0.hear();
        assert_eq!(
            (&answer["result"], &answer["context"]),
            (&json!("send-error:7"), &json!("c")),
            "{bad}"
        );
    }
    let id = producer.send_with("good", &json!({ "unknown": [1, { "a": null }], "sequenceId": 5 }));
    assert_eq!(place(&id), (0, 0));
    // Numbers where texts are expected become texts.
    producer
        .0
        .client
        .say("{\"payload\":\"\",\"context\":5,\"properties\":{\"a\":1,\"b\":true}} trailing");
    let answer = producer.0.hear();
    assert_eq!((&answer["result"], &answer["context"]), (&json!("ok"), &json!("5")), "{answer}");
    let mut reader = Consumer::reader(&daemon, "wrong?messageId=earliest");
    assert_eq!(reader.take().payload, "good");
    assert_eq!(reader.take().whole["properties"], json!({ "a": "1", "b": "true" }));
}

#[test]
fn a_message_of_a_mebibyte_is_taken_and_a_longer_one_ends_the_connection() {
    let daemon = setup().start();
    let mut consumer = Consumer::new(&daemon, "large", "sub");
    let mut producer = Producer::new(&daemon, "large");
    let large = "x".repeat(700_000);
    producer.send(&large);
    assert_eq!(consumer.take().payload, large);
    producer.0.client.frame(0x81, &vec![b' '; 1024 * 1024 + 1]);
    assert_eq!(producer.0.closed().0, 1009);
}

#[test]
fn a_producers_name_is_its_own() {
    let daemon = setup().set("threads", 2).start();
    let first = Producer::new(&daemon, "named?producerName=p");
    let path = "/ws/v2/producer/persistent/public/default/named?producerName=p";
    let (status, text) = Socket::refused(daemon.address, path);
    assert_eq!(status, 409, "{text}");
    let old = "/ws/producer/persistent/public/cluster/default/named?producerName=p";
    let _same = Socket::open(daemon.address, old);
    assert_eq!(
        Socket::open(daemon.address, old).closed(),
        (4001, "Failed to create producer".into())
    );
    first.0.leave();
    Producer::new(&daemon, "named?producerName=p").send("free again");
}

#[test]
fn a_sequence_number_that_was_stored_is_not_stored_again_even_after_a_restart() {
    let mut daemon = setup().start();
    let topic = "exactly?producerName=p";
    let send = |producer: &mut Producer, number: i64| {
        producer.ask(
            &number.to_string(),
            &json!({ "sequenceId": number, "context": number.to_string() }),
        )
    };
    let mut producer = Producer::new(&daemon, topic);
    for number in [0, 1, 2, 2, 1, 0, 3] {
        let answer = send(&mut producer, number);
        assert_eq!(
            (&answer["result"], &answer["context"]),
            (&json!("ok"), &json!(number.to_string())),
            "{answer}"
        );
    }
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    daemon = daemon.again();
    let mut producer = Producer::new(&daemon, topic);
    for number in [2, 3, 4, 4] {
        assert_eq!(send(&mut producer, number)["result"], "ok");
    }
    let mut reader = Consumer::reader(&daemon, "exactly?messageId=earliest");
    assert_eq!(reader.take_all(5), ["0", "1", "2", "3", "4"]);
    reader.assert_quiet();
}

#[test]
fn many_producers_with_many_messages_in_flight_are_each_answered_in_order() {
    let daemon = setup().set("threads", 3).start();
    let mut producers: Vec<Producer> = (0..8).map(|_| Producer::new(&daemon, "many")).collect();
    for number in 0..200 {
        for producer in &mut producers {
            producer.0.say(&message("x", &json!({ "context": number })));
        }
    }
    let mut ids = std::collections::BTreeSet::new();
    for producer in &mut producers {
        let mut last = None;
        for number in 0..200 {
            let answer = producer.0.hear();
            assert_eq!(answer["context"], number.to_string());
            let id = place(answer["messageId"].as_str().unwrap());
            assert!(last.replace(id) < Some(id) && ids.insert(id));
        }
    }
}

/// Whoever has learnt that its handshake will be accepted need not wait for the answer.
#[test]
fn what_follows_the_handshake_at_once_is_read_when_it_is_accepted() {
    let text = message("early", &json!({})).to_string();
    let frame = [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut consumer = Consumer::new(&daemon, "early", "sub");
        let opening = head("/ws/v2/producer/persistent/public/default/early");
        for pieces in [
            vec![[opening.as_bytes(), &frame].concat()],
            vec![[opening.as_bytes(), &frame[..9]].concat(), frame[9..].to_vec()],
            vec![opening.clone().into_bytes(), frame.clone()],
            vec![[opening.as_bytes(), &frame.repeat(1000)].concat()],
        ] {
            let count = if pieces[0].len() > 10_000 { 1000 } else { 1 };
            let mut client = Client::raw(daemon.address);
            pieces.iter().for_each(|piece| client.bytes(piece));
            assert_eq!(client.answer(), 101);
            for _ in 0..count {
                let answer = client.text();
                assert!(answer.contains(r#""result":"ok""#), "{answer}");
            }
            assert!(consumer.take_all(count).iter().all(|payload| payload == "early"));
        }
        // A handshake that is refused is answered all the same.
        let refused = head("/ws/v2/producer/persistent/public/default/early?producerName=");
        let mut client = Client::raw(daemon.address);
        client.bytes(&[refused.as_bytes(), &frame].concat());
        assert!(client.response().0 >= 400);
        consumer.assert_quiet();
    }
}
