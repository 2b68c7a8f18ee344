//! What must not add up or come to a halt: timers, windows, reads, and what a failure leaves
//! behind.

use super::world::*;
use crate::service::topic::*;

const YEAR_MS: u64 = 365 * 86_400_000;

fn delayed(world: &mut World, delay_ms: u64) {
    let deliver_ms = Some(world.now.unix_ms + delay_ms);
    world.append_message(
        "x",
        &TopicMessage { payload: b"late", deliver_ms, ..TopicMessage::default() },
    );
}

/// Appends without a round of its own.
fn append(world: &mut World, topic: &str, message: &TopicMessage<'_>) {
    let draft =
        MessageDraft::new(&TopicMessage { published_ms: world.now.unix_ms, ..message.clone() });
    world.take(999_999, TopicQuestion::Append(name(topic), draft));
}

#[test]
fn a_message_that_is_given_up_makes_room_as_its_time_would_have() {
    let mut world = World::with(TopicRules { message_ttl_s: 10, ..TopicRules::default() });
    let consuming = consuming("x", "s", SubscriptionType::Shared);
    world.consume(1, ConsumerOptions { flow: Flow::Push(1), ack_timeout_ms: 60_000, ..consuming });
    world.append("x", "0");
    assert_eq!(world.texts(1), ["0"]);
    world.pass(100_000);
    world.append("x", "1");
    assert_eq!(world.texts(1), ["1"]);
}

#[test]
fn a_consumer_that_has_lost_its_messages_to_a_better_one_gets_those_of_its_other_topics() {
    let mut world = World::new();
    let both = WantedTopics::Several(vec![name("x"), name("y")]);
    let worse = consuming("x", "s", SubscriptionType::Failover);
    world.consume(1, ConsumerOptions { topics: both, flow: Flow::Push(1), priority: 1, ..worse });
    world.append("x", "x0");
    world.append("y", "y0");
    assert_eq!(world.texts(1), ["x0"]);
    world.consume(2, consuming("x", "s", SubscriptionType::Failover));
    assert_eq!(world.texts(2), ["x0"]);
    assert_eq!(world.texts(1), ["y0"]);
}

#[test]
fn a_delayed_message_whose_sync_has_failed_is_delivered_if_it_is_stored_after_all() {
    let mut world = World::new();
    world.produce(1, producing("x"));
    world.consume(2, consuming("x", "s", SubscriptionType::Shared));
    world.sync_fault = Some("the disk is gone");
    let deliver_ms = Some(world.now.unix_ms + 100);
    let message = TopicMessage { payload: b"late", deliver_ms, ..TopicMessage::default() };
    assert!(world.send(1, &message).is_err());
    world.pass(1000);
    assert!(world.all(2).is_empty());
    world.sync_fault = None;
    world.topics.archive().commit();
    world.topics.recovered(world.now);
    world.pass(2000);
    assert_eq!(world.texts(2), ["late"]);
}

#[test]
fn a_subscription_has_one_timer_for_all_that_is_delayed_and_leaves_none() {
    let mut world = World::new();
    delayed(&mut world, YEAR_MS);
    let before = world.topics.loaded.timers.len();
    for id in 10..60 {
        world.consume(
            id,
            ConsumerOptions { durable: false, ..consuming("x", "gone", SubscriptionType::Shared) },
        );
        world.ask(id, TopicQuestion::Gone);
    }
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    for before_ms in 0..50 {
        delayed(&mut world, YEAR_MS - before_ms);
    }
    assert!(world.topics.loaded.timers.len() <= before + 3, "{:?}", world.topics.loaded.timers);
    world.pass(100);
    delayed(&mut world, 100);
    world.pass(100);
    assert_eq!(world.texts(1), ["late"]);
}

#[test]
fn a_message_may_be_delayed_for_ever() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    let delay_ms = i64::MAX as u64 - world.now.unix_ms;
    delayed(&mut world, delay_ms);
    world.append("x", "now");
    assert_eq!(world.texts(1), ["now"]);
}

#[test]
fn no_position_is_given_twice_when_the_last_message_cannot_be_read_any_more() {
    let mut world = World::new();
    world.append("x", "0");
    world.append("x", "1");
    let number = world.topics.archive().live[name("x").as_str()].number;
    world.topics.archive().damaged.insert((number, at(0, 1).position));
    world.pass(180_000);
    assert!(world.topics.catalog.names.is_empty(), "the topic has left the memory");
    assert!(world.append("x", "2") > at(0, 1));
}

#[test]
fn many_delayed_messages_are_deleted_when_nobody_needs_them() {
    let mut world = World::with(TopicRules { retention_s: 1, ..TopicRules::default() });
    world.consume(
        1,
        ConsumerOptions {
            flow: Flow::Push(10_000),
            ..consuming("x", "s", SubscriptionType::Shared)
        },
    );
    let deliver_ms = Some(world.now.unix_ms + 60_000);
    for _ in 0..7000 {
        append(
            &mut world,
            "x",
            &TopicMessage { payload: b"late", deliver_ms, ..TopicMessage::default() },
        );
    }
    // What was passed over in the log is deleted long before.
    append(&mut world, "x", &TopicMessage { payload: b"now", ..TopicMessage::default() });
    world.round();
    let got = world.all(1);
    assert_eq!(got.len(), 1);
    world.ack(1, &got[0]);
    world.pass(30_000);
    assert!(world.topics.archive().live[name("x").as_str()].messages.is_empty());
    world.pass(30_000);
    let got = world.all(1);
    assert_eq!(got.len(), 7000);
    for got in got {
        world.take(1, TopicQuestion::Ack(got.id));
    }
    world.pass(30_000);
    let left = world.topics.archive().live[name("x").as_str()].delayed.len();
    assert_eq!(left, 0);
}

#[test]
fn a_name_with_which_nothing_was_sent_is_forgotten() {
    let mut world = World::new();
    world.append("x", "0");
    for id in 10..30 {
        let producer = Some(format!("p{id}").into());
        world.produce(
            id,
            ProducerOptions { name: producer, initial_sequence: Some(5), ..producing("x") },
        );
        world.ask(id, TopicQuestion::Gone);
    }
    let stats = world.inquire(TopicInquiry::Stats(name("x"))).1;
    assert_eq!(stats["rememberedProducers"], 0);
}

#[test]
fn many_that_are_behind_do_not_read_everything_again_for_each_message() {
    let mut world = World::new();
    let payload = [b'x'; 4000];
    let topics: Vec<String> = (0..150).map(|number| format!("x{number}")).collect();
    for topic in &topics {
        for _ in 0..64 {
            append(
                &mut world,
                topic,
                &TopicMessage { payload: &payload, ..TopicMessage::default() },
            );
        }
    }
    world.round();
    world.restart();
    world.topics.archive().reads = 0;
    for (topic, id) in topics.iter().zip(1..) {
        let consuming = consuming(topic, "s", SubscriptionType::Exclusive);
        let request =
            TopicQuestion::Consume(Box::new(ConsumerOptions { earliest: true, ..consuming }));
        world.take(id, request);
    }
    world.round();
    for id in 1..=150 {
        for _ in 0..3 {
            world.take(id, TopicQuestion::Took);
        }
    }
    world.round();
    for id in 1..=150 {
        assert_eq!(world.all(id).len(), 64, "{id}");
    }
    let reads = world.topics.archive().reads;
    assert!(reads < 2000, "{reads}");
}

#[test]
fn what_comes_while_the_disk_works_waits_for_the_next_commit() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    let deliver_ms = Some(world.now.unix_ms + 1);
    append(&mut world, "x", &TopicMessage { payload: b"0", ..TopicMessage::default() });
    world.topics.seal();
    append(&mut world, "x", &TopicMessage { payload: b"1", ..TopicMessage::default() });
    append(
        &mut world,
        "x",
        &TopicMessage { payload: b"late", deliver_ms, ..TopicMessage::default() },
    );
    world.now.unix_ms += 10;
    world.now.monotonic_ns += 10_000_000;
    world.tick();
    world.deliver(1000);
    world.take_out();
    assert!(world.reply(999_999).is_none() && world.all(1).is_empty());
    world.committed(Ok(()));
    world.deliver(1000);
    world.take_out();
    assert_eq!(world.texts(1), ["0"]);
    assert_eq!(world.replies.remove(&999_999).map(|replies| replies.len()), Some(1));
    assert!(world.topics.has_uncommitted());
    world.topics.seal();
    world.committed(Ok(()));
    world.deliver(1000);
    world.take_out();
    assert_eq!(world.texts(1), ["late", "1"]);
    assert_eq!(world.replies.remove(&999_999).map(|replies| replies.len()), Some(2));
}
