//! What comes again, when, and how often.

use super::world::*;
use crate::service::topic::*;

fn counts(got: &[Got]) -> Vec<(&str, u32)> {
    got.iter().map(|got| (&*got.text, got.redeliveries)).collect()
}

#[test]
fn what_is_sent_back_comes_again_after_its_delay_and_is_counted() {
    let mut world = World::new();
    world.consume(
        1,
        ConsumerOptions { nack_delay_ms: 500, ..consuming("x", "s", SubscriptionType::Shared) },
    );
    world.append("x", "0");
    world.ask(1, TopicQuestion::Nack(at(0, 0)));
    world.all(1);
    world.pass(499);
    assert!(world.all(1).is_empty());
    world.pass(1);
    assert_eq!(counts(&world.all(1)), [("0", 1)]);
    world.ask(1, TopicQuestion::Nack(at(0, 0)));
    world.ask(1, TopicQuestion::Ack(at(0, 0)));
    world.pass(1000);
    assert!(world.all(1).is_empty(), "it was acknowledged after all");
}

#[test]
fn what_is_not_acknowledged_in_time_comes_again_and_frees_its_place_in_the_window() {
    let mut world = World::new();
    let flow = Flow::Push(1);
    world.consume(
        1,
        ConsumerOptions {
            ack_timeout_ms: 1000,
            flow,
            ..consuming("x", "s", SubscriptionType::Shared)
        },
    );
    world.append("x", "0");
    assert_eq!(counts(&world.all(1)), [("0", 0)]);
    world.pass(999);
    assert!(world.all(1).is_empty());
    world.pass(1);
    assert_eq!(counts(&world.all(1)), [("0", 1)]);
    world.ask(1, TopicQuestion::Ack(at(0, 0)));
    world.pass(5000);
    assert!(world.all(1).is_empty());
}

#[test]
fn exclusive_consumers_are_told_no_counts() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.append("x", "0");
    for _ in 0..4 {
        assert_eq!(counts(&world.all(1)), [("0", 0)]);
        world.ask(1, TopicQuestion::Nack(at(0, 0)));
    }
}

#[test]
fn consumers_that_share_nothing_have_dead_letters_too_and_go_on_behind_them() {
    for kind in [SubscriptionType::Exclusive, SubscriptionType::Failover] {
        let mut world = World::new();
        world.consume(1, ConsumerOptions { redeliveries_max: 2, ..consuming("x", "s", kind) });
        world.append("x", "0");
        let mut deliveries = world.all(1).len();
        for _ in 0..5 {
            world.ask(1, TopicQuestion::Nack(at(0, 0)));
            deliveries += world.all(1).len();
        }
        assert_eq!(deliveries, 3, "{kind:?}");
        world.append("x", "1");
        assert_eq!(
            (world.texts(1), world.told("x", "s", "backlog")),
            (vec!["1".to_owned()], 1.into())
        );
        world.read(
            2,
            ReaderOptions {
                topic: name("x").dead_letters("s"),
                ..reading("x", ReaderStart::Earliest)
            },
        );
        assert_eq!(world.texts(2), ["0"]);
    }
}

#[test]
fn what_a_lost_consumer_had_goes_to_others_at_once_in_order_and_uncounted() {
    let mut world = World::new();
    world.consume(
        1,
        ConsumerOptions { nack_delay_ms: 60_000, ..consuming("x", "s", SubscriptionType::Shared) },
    );
    for number in 0..4 {
        world.append("x", &number.to_string());
    }
    world.ask(1, TopicQuestion::Nack(at(0, 2)));
    world.consume(2, consuming("x", "s", SubscriptionType::Shared));
    world.ask(1, TopicQuestion::Gone);
    assert_eq!(counts(&world.all(2)), [("0", 0), ("1", 0), ("2", 1), ("3", 0)]);
    world.ask(2, TopicQuestion::Gone);
    world.consume(3, consuming("x", "s", SubscriptionType::Shared));
    assert_eq!(counts(&world.all(3))[2], ("2", 0), "with the last consumer the counts go");
}

#[test]
fn a_message_goes_to_the_dead_letters_after_one_delivery_more_than_redeliveries_are_allowed() {
    let mut world = World::new();
    world.consume(
        1,
        ConsumerOptions { redeliveries_max: 2, ..consuming("x", "s", SubscriptionType::Shared) },
    );
    world.append("x", "0");
    world.append_message(
        "x",
        &TopicMessage {
            payload: b"1",
            key: Some("k"),
            properties: vec![("a", "b")],
            ..TopicMessage::default()
        },
    );
    world.ask(1, TopicQuestion::Ack(at(0, 0)));
    world.all(1);
    let mut deliveries = 1;
    for _ in 0..5 {
        world.ask(1, TopicQuestion::Nack(at(0, 1)));
        deliveries += world.all(1).len();
    }
    assert_eq!(deliveries, 3);
    assert_eq!(world.told("x", "s", "backlog"), 0);
    let letters = name("x").dead_letters("s");
    assert_eq!(letters.as_str(), "persistent://t/n/x-s-DLQ");
    world.read(2, ReaderOptions { topic: letters, ..reading("x", ReaderStart::Earliest) });
    let letters = world.messages.remove(&2).unwrap();
    assert_eq!(letters.len(), 1);
    let letter = letters[0].message();
    assert_eq!((letter.payload, letter.key), (&b"1"[..], Some("k")));
    assert_eq!(
        letter.properties,
        [("a", "b"), ("REAL_TOPIC", "persistent://t/n/x"), ("ORIGIN_MESSAGE_ID", "0:1:-1")]
    );
}

#[test]
fn a_time_out_too_leads_to_the_dead_letters_of_the_consumers_choice() {
    let mut world = World::new();
    world.consume(
        1,
        ConsumerOptions {
            redeliveries_max: 1,
            ack_timeout_ms: 1000,
            dead_letters: Some(name("grave")),
            ..consuming("x", "s", SubscriptionType::KeyShared)
        },
    );
    world.append_keyed("x", "k", "0");
    world.pass(10_000);
    assert_eq!(counts(&world.all(1)), [("0", 0), ("0", 1)]);
    world.read(2, reading("grave", ReaderStart::Earliest));
    assert_eq!(world.texts(2), ["0"]);
}

#[test]
fn what_cannot_go_to_the_dead_letters_comes_again() {
    let mut world = World::with(TopicRules { topics_max: 1, ..TopicRules::default() });
    world.consume(
        1,
        ConsumerOptions { redeliveries_max: 1, ..consuming("x", "s", SubscriptionType::Shared) },
    );
    world.append("x", "0");
    for count in 0..4 {
        assert_eq!(counts(&world.all(1)), [("0", count)]);
        world.ask(1, TopicQuestion::Nack(at(0, 0)));
    }
}

#[test]
fn a_message_that_dies_while_the_disk_fails_comes_again() {
    let mut world = World::new();
    world.consume(
        1,
        ConsumerOptions { redeliveries_max: 1, ..consuming("x", "s", SubscriptionType::Shared) },
    );
    world.append("x", "0");
    world.ask(1, TopicQuestion::Nack(at(0, 0)));
    world.all(1);
    world.sync_fault = Some("no");
    world.ask(1, TopicQuestion::Nack(at(0, 0)));
    assert_eq!(counts(&world.all(1)), [("0", 2)]);
}
