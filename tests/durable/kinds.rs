//! Several consumers of one subscription.

use crate::client::{Consumer, Producer, SHARDS, Socket, message, setup};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn an_exclusive_subscription_has_one_consumer() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let first = Consumer::new(&daemon, "alone", "sub");
        let path = "/ws/v2/consumer/persistent/public/default/alone/sub";
        let (status, text) = Socket::refused(daemon.address, path);
        assert_eq!(status, 409, "{text}");
        let old = "/ws/consumer/persistent/public/cluster/default/alone/sub";
        let _same = Socket::open(daemon.address, old);
        assert_eq!(
            Socket::open(daemon.address, old).closed(),
            (4002, "Failed to subscribe".into())
        );
        first.0.leave();
        Consumer::new(&daemon, "alone", "sub").assert_quiet();
    }
}

#[test]
fn shared_consumers_get_each_message_once_between_them() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut consumers: Vec<Consumer> = (0..4)
            .map(|_| Consumer::new(&daemon, "shared", "sub?subscriptionType=Shared"))
            .collect();
        Producer::new(&daemon, "shared").send_all((0..400).map(|n| n.to_string()));
        let mut all = Vec::new();
        for consumer in &mut consumers {
            let got = consumer.drain();
            assert!(!got.is_empty(), "somebody got nothing");
            got.iter().for_each(|message| consumer.ack(&message.id));
            all.extend(got.into_iter().map(|message| message.payload.parse::<u32>().unwrap()));
        }
        all.sort();
        assert_eq!(all, (0..400).collect::<Vec<_>>());
    }
}

#[test]
fn what_a_shared_consumer_leaves_behind_goes_to_the_others() {
    let daemon = setup().set("threads", 2).start();
    let mut stays = Consumer::new(&daemon, "leaver", "sub?subscriptionType=Shared");
    let mut leaves = Consumer::new(&daemon, "leaver", "sub?subscriptionType=Shared");
    Producer::new(&daemon, "leaver").send_all((0..20).map(|n| n.to_string()));
    let mut all: BTreeSet<String> =
        stays.drain().into_iter().map(|message| message.payload).collect();
    let left = leaves.drain();
    assert_eq!(all.len() + left.len(), 20);
    assert!(!left.is_empty());
    // One of them was dealt with.
    leaves.ack(&left[0].id);
    leaves.assert_quiet();
    leaves.0.leave();
    for _ in 1..left.len() {
        assert!(all.insert(stays.take().payload));
    }
    assert!(all.insert(left[0].payload.clone()));
    stays.assert_quiet();
}

#[test]
fn of_a_failover_subscription_one_consumer_gets_all_until_it_leaves() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut active =
            Consumer::new(&daemon, "failover", "sub?subscriptionType=Failover&consumerName=a");
        let mut standby =
            Consumer::new(&daemon, "failover", "sub?subscriptionType=Failover&consumerName=b");
        let mut producer = Producer::new(&daemon, "failover");
        producer.send_all(["1", "2", "3"]);
        assert_eq!(active.take().payload, "1");
        assert_eq!((active.next().payload, active.next().payload), ("2".into(), "3".into()));
        active.assert_quiet();
        standby.assert_quiet();
        active.0.leave();
        assert_eq!(standby.take_all(2), ["2", "3"]);
        producer.send("4");
        assert_eq!(standby.take_all(1), ["4"]);
        standby.assert_quiet();
    }
}

#[test]
fn messages_of_a_key_stay_in_order_and_with_one_consumer() {
    for shards in SHARDS {
        let daemon = setup().set("threads", shards).start();
        let mut consumers: Vec<Consumer> = (0..4)
            .map(|_| Consumer::new(&daemon, "keys", "sub?subscriptionType=Key_Shared"))
            .collect();
        let mut producer = Producer::new(&daemon, "keys");
        for number in 0..600 {
            producer.0.say(&message(
                &number.to_string(),
                &json!({ "key": format!("key-{}", number % 30) }),
            ));
        }
        for _ in 0..600 {
            assert_eq!(producer.0.hear()["result"], "ok");
        }
        let mut owners: BTreeMap<String, (usize, u32)> = BTreeMap::new();
        let mut count = 0;
        for (index, consumer) in consumers.iter_mut().enumerate() {
            for message in consumer.drain() {
                consumer.ack(&message.id);
                count += 1;
                let number = message.payload.parse::<u32>().unwrap();
                let key = message.whole["key"].as_str().unwrap().to_owned();
                assert_eq!(key, format!("key-{}", number % 30));
                let last = owners.insert(key.clone(), (index, number));
                assert!(
                    last.is_none_or(|last| last.0 == index && last.1 < number),
                    "{key}: {last:?}, {number}"
                );
            }
        }
        assert_eq!(count, 600);
        let busy: BTreeSet<usize> = owners.values().map(|owner| owner.0).collect();
        assert!(busy.len() > 1, "thirty keys are not all of one consumer");
    }
}

#[test]
fn a_subscription_is_of_one_kind() {
    let daemon = setup().start();
    let _shared = Consumer::new(&daemon, "kind", "sub?subscriptionType=Shared");
    let path = "/ws/v2/consumer/persistent/public/default/kind/sub?subscriptionType=Failover";
    let (status, text) = Socket::refused(daemon.address, path);
    assert_eq!(status, 409, "{text}");
}

#[test]
fn the_order_of_acknowledgement_is_the_order_of_every_consumer() {
    let daemon = setup().set("threads", 3).start();
    let mut consumers: Vec<Consumer> =
        (0..6).map(|n| Consumer::new(&daemon, "order", &format!("sub{n}"))).collect();
    let mut producers: Vec<Producer> = (0..6).map(|_| Producer::new(&daemon, "order")).collect();
    let mut acked = Vec::new();
    for round in 0..20 {
        for (index, producer) in producers.iter_mut().enumerate() {
            producer.0.say(&message(&format!("{index}-{round}"), &json!({})));
        }
        for (index, producer) in producers.iter_mut().enumerate() {
            let id = producer.0.hear()["messageId"].as_str().unwrap().to_owned();
            acked.push((crate::client::place(&id), format!("{index}-{round}")));
        }
    }
    acked.sort();
    let order: Vec<String> = acked.into_iter().map(|acked| acked.1).collect();
    for consumer in &mut consumers {
        assert_eq!(consumer.take_all(order.len()), order);
    }
}
