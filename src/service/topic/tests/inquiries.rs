//! What is told about topics, and done to them from outside.

use super::world::*;
use crate::service::topic::*;
use serde_json::json;

#[test]
fn names_are_listed_in_order_page_by_page() {
    let mut world = World::new();
    for topic in ["b", "a", "c"] {
        world.append(topic, "0");
    }
    let list = |world: &mut World, after: &str, count| {
        world
            .inquire(TopicInquiry::List {
                prefix: "persistent://t/n/".into(),
                after: after.into(),
                count,
            })
            .1
    };
    let first = list(&mut world, "", 2);
    assert_eq!(first, json!(["persistent://t/n/a", "persistent://t/n/b"]));
    assert_eq!(list(&mut world, first[1].as_str().unwrap(), 2), json!(["persistent://t/n/c"]));
}

#[test]
fn a_topic_is_told_with_its_subscriptions_and_connections() {
    let mut world = World::new();
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))), (404, "Topic does not exist".into()));
    world.produce(1, ProducerOptions { name: Some("p".into()), ..producing("x") });
    world.consume(2, consuming("x", "s", SubscriptionType::KeyShared));
    for _ in 0..3 {
        world.send(1, &TopicMessage { payload: b"hello", ..TopicMessage::default() }).unwrap();
    }
    world.ask(2, TopicQuestion::Ack(at(0, 1)));
    let told = world.inquire(TopicInquiry::Stats(name("x"))).1;
    assert_eq!((&told["messages"], &told["terminated"]), (&json!(3), &json!(false)));
    assert_eq!(
        (&told["firstMessageId"], &told["lastMessageId"]),
        (&json!("CAAQAA=="), &json!("CAAQAg=="))
    );
    assert_eq!(told["producers"], json!([{"name": "p", "address": "127.0.0.1:7", "messages": 3}]));
    let sub = &told["subscriptions"]["s"];
    assert_eq!(
        (&sub["type"], &sub["backlog"], &sub["pending"]),
        (&json!("Key_Shared"), &json!(2), &json!(2))
    );
    assert_eq!(sub["consumers"][0]["unacknowledged"], 2);
}

#[test]
fn messages_are_shown_without_being_taken() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    for number in 0..4 {
        world.append_keyed("x", "k", &number.to_string());
    }
    world.ask(1, TopicQuestion::Ack(at(0, 0)));
    let peek = |world: &mut World, subscription: Option<&str>| {
        let subscription = subscription.map(Box::from);
        world.inquire(TopicInquiry::Peek { topic: name("x"), subscription, count: 2 })
    };
    let shown = peek(&mut world, None).1;
    assert_eq!(
        (&shown[0]["messageId"], &shown[0]["payload"]),
        (&json!("CAAQAA=="), &json!("MA=="))
    );
    let shown = peek(&mut world, Some("s")).1;
    assert_eq!((&shown[0]["messageId"], &shown[1]["key"]), (&json!("CAAQAQ=="), &json!("k")));
    assert_eq!(peek(&mut world, Some("t")).0, 404);
    assert_eq!(world.told("x", "s", "backlog"), 3);
}

#[test]
fn no_more_is_shown_at_once_than_a_megabyte_and_a_message() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    for _ in 0..5 {
        world.append("x", &"x".repeat(500_000));
    }
    for subscription in [None, Some("s".into())] {
        let shown =
            world.inquire(TopicInquiry::Peek { topic: name("x"), subscription, count: 100 }).1;
        assert_eq!(shown.as_array().unwrap().len(), 3);
    }
}

#[test]
fn a_subscription_or_a_whole_topic_is_purged() {
    let mut world = World::new();
    world.consume(
        1,
        ConsumerOptions { flow: Flow::Push(1), ..consuming("x", "a", SubscriptionType::Shared) },
    );
    world.consume(
        2,
        ConsumerOptions { flow: Flow::Push(1), ..consuming("x", "b", SubscriptionType::Shared) },
    );
    for number in 0..4 {
        world.append("x", &number.to_string());
    }
    world.all(1);
    let subscription = Some("a".into());
    assert_eq!(world.inquire(TopicInquiry::Purge { topic: name("x"), subscription }).0, 200);
    assert_eq!(
        (world.told("x", "a", "backlog"), world.told("x", "b", "backlog")),
        (0.into(), 4.into())
    );
    assert_eq!(world.inquire(TopicInquiry::Purge { topic: name("x"), subscription: None }).0, 200);
    world.crash();
    assert_eq!(world.told("x", "b", "backlog"), 0);
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))).1["messages"], 0);
    world.read(3, reading("x", ReaderStart::Earliest));
    world.append("x", "4");
    assert_eq!(world.texts(3), ["4"]);
}

#[test]
fn what_an_operator_gives_up_leaves_the_store_at_once() {
    let subscription = || "s".into();
    for inquiry in [
        TopicInquiry::Purge { topic: name("x"), subscription: None },
        TopicInquiry::Purge { topic: name("x"), subscription: Some(subscription()) },
        TopicInquiry::Reset {
            topic: name("x"),
            subscription: subscription(),
            to: CursorReset::Latest,
        },
        TopicInquiry::Forget { topic: name("x"), subscription: subscription() },
    ] {
        let mut world = World::with(TopicRules { retention_s: 0, ..TopicRules::default() });
        world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
        world.ask(1, TopicQuestion::Gone);
        for _ in 0..4 {
            world.append("x", "0");
        }
        world.pass(10_000);
        assert_eq!(world.topics.archive().live[name("x").as_str()].messages.len(), 4);
        world.append("x", "0");
        let said = format!("{inquiry:?}");
        assert_eq!(world.inquire(inquiry).0, 200, "{said}");
        world.pass(1);
        assert!(world.topics.archive().live[name("x").as_str()].messages.is_empty(), "{said}");
    }
}

#[test]
fn a_subscription_is_moved_back_and_forth() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    let mut times = Vec::new();
    for number in 0..4 {
        times.push(world.now.unix_ms);
        world.append("x", &number.to_string());
        world.pass(1000);
    }
    for got in world.all(1) {
        world.ack(1, &got);
    }
    let mut reset = |to: CursorReset| {
        let subscription = "s".into();
        assert_eq!(
            world.inquire(TopicInquiry::Reset { topic: name("x"), subscription, to }).0,
            200
        );
        world.texts(1)
    };
    assert_eq!(reset(CursorReset::Earliest), ["0", "1", "2", "3"]);
    assert_eq!(reset(CursorReset::Published(times[2])), ["2", "3"]);
    assert_eq!(reset(CursorReset::Published(times[2] + 1)), ["3"]);
    assert_eq!(reset(CursorReset::At(at(0, 1))), ["1", "2", "3"]);
    assert!(reset(CursorReset::Latest).is_empty());
    world.crash();
    assert_eq!(world.told("x", "s", "backlog"), 0);
}

#[test]
fn a_shared_subscription_that_is_moved_back_gets_delayed_messages_again() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    let deliver_ms = Some(world.now.unix_ms + 1000);
    world.append_message(
        "x",
        &TopicMessage { payload: b"late", deliver_ms, ..TopicMessage::default() },
    );
    world.pass(1000);
    world.ask(1, TopicQuestion::Ack(at(0, 0)));
    assert_eq!(world.texts(1), ["late"]);
    world.pass(30_000);
    let subscription = "s".into();
    world.inquire(TopicInquiry::Reset {
        topic: name("x"),
        subscription,
        to: CursorReset::Earliest,
    });
    assert_eq!(world.texts(1), ["late"]);
}

#[test]
fn a_subscription_without_consumers_is_forgotten() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    let forget = || TopicInquiry::Forget { topic: name("x"), subscription: "s".into() };
    assert_eq!(world.inquire(forget()).0, 409);
    world.ask(1, TopicQuestion::Gone);
    assert_eq!(world.inquire(forget()).0, 200);
    assert_eq!(world.inquire(forget()).0, 404);
    world.crash();
    assert_eq!(world.inquire(forget()).0, 404);
}

#[test]
fn the_proxys_statistics_are_pulsars() {
    let mut world = World::new();
    world.produce(1, producing("x"));
    world.consume(2, consuming("x", "s", SubscriptionType::Exclusive));
    world.send(1, &TopicMessage { payload: b"0", ..TopicMessage::default() }).unwrap();
    let expected = json!({
        "producerStats": [{"remoteConnection": "/127.0.0.1:7", "numberOfMsgPublished": 1}],
        "consumerStats": [{
            "remoteConnection": "/127.0.0.1:5",
            "subscriptionName": "s",
            "subscriptionType": "Exclusive",
            "subscriptionMode": "Durable",
            "numberOfMsgDelivered": 1,
        }],
    });
    assert_eq!(world.inquire(TopicInquiry::ProxyTopic(name("x"))), (200, expected.clone()));
    assert_eq!(
        world
            .inquire(TopicInquiry::ProxyStats { rights: Rights::ALL, after: "".into(), count: 10 })
            .1,
        json!({"persistent://t/n/x": expected})
    );
    world.ask(1, TopicQuestion::Gone);
    world.ask(2, TopicQuestion::Gone);
    let told = world.inquire(TopicInquiry::ProxyTopic(name("x")));
    assert_eq!(told, (404, "Topic does not exist".into()));
}

#[test]
fn the_proxys_metrics_are_pulsars() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.pass(60_000);
    for _ in 0..60 {
        let id = world.append("x", "0");
        world.ask(1, TopicQuestion::Ack(id));
    }
    world.pass(60_000);
    let told = world.inquire(TopicInquiry::ProxyMetrics(Rights::ALL)).1;
    assert_eq!(told[0]["dimensions"], json!({"namespace": "t/n"}));
    let metrics = told[0]["metrics"].as_object().unwrap();
    let mut names: Vec<&str> = metrics.keys().map(String::as_str).collect();
    names.sort();
    assert_eq!(names.len(), 16);
    for name in ["ns_msg_publish_rate", "ns_msg_deliver_rate", "ns_msg_ack_rate"] {
        let rate = metrics[name].as_f64().unwrap();
        assert!((0.4..=1.1).contains(&rate), "{name} {rate}");
    }
    assert_eq!(metrics["ns_msg_publish_latency_500"], 60);
    assert!(metrics.contains_key("ns_msg_publish_latency_1000000_higher"));
}

#[test]
fn the_largest_backlogs_are_known_while_their_topics_are_not_in_memory_and_after_a_restart() {
    let mut world = World::new();
    for (topic, messages) in [("few", 1), ("many", 5), ("none", 0)] {
        world.consume(1, consuming(topic, "s", SubscriptionType::Exclusive));
        world.ask(1, TopicQuestion::Gone);
        for number in 0..messages {
            world.append(topic, &number.to_string());
        }
    }
    let told = |world: &mut World| {
        let backlogs = world.topics.backlogs().into_iter();
        backlogs.map(|told| (told.topic, told.subscription, told.messages)).collect::<Vec<_>>()
    };
    let of = |topic: &str, messages| (name(topic).as_str().into(), "s".into(), messages);
    let expected = [of("many", 5), of("few", 1)];
    assert_eq!(told(&mut world), expected);
    world.pass(200_000);
    assert_eq!(world.topics.census().loaded, 0);
    assert_eq!(told(&mut world), expected);
    world.restart();
    // The sweep looks at all.
    world.pass(200_000);
    assert_eq!(told(&mut world), expected);
    // Back in memory it is told once.
    world.append("few", "more");
    assert_eq!(told(&mut world), [of("many", 5), of("few", 2)]);
}

#[test]
fn of_very_many_backlogs_the_largest_are_told() {
    let mut world = World::new();
    world.append("x", "0");
    for place in 0..150 {
        world.consume(
            1,
            ConsumerOptions {
                earliest: place % 50 == 0,
                ..consuming("x", &format!("s{place}"), SubscriptionType::Exclusive)
            },
        );
        world.ask(1, TopicQuestion::Gone);
    }
    world.append("x", "1");
    let backlogs = world.topics.backlogs();
    assert_eq!(backlogs.len(), 100);
    let largest: Vec<_> =
        backlogs.iter().take(4).map(|told| (&*told.subscription, told.messages)).collect();
    assert_eq!(largest[..3], [("s0", 2), ("s100", 2), ("s50", 2)]);
    assert_eq!(largest[3].1, 1);
}
