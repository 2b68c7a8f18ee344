//! What time brings: delayed messages, what expires, what is saved, what leaves the memory.

use super::world::*;
use crate::service::topic::*;
use std::sync::Arc;

fn delayed(world: &mut World, text: &str, delay_ms: u64) -> MessageId {
    let deliver_ms = Some(world.now.unix_ms + delay_ms);
    world.append_message(
        "x",
        &TopicMessage { payload: text.as_bytes(), deliver_ms, ..TopicMessage::default() },
    )
}

#[test]
fn a_delayed_message_comes_at_its_time_to_shared_subscriptions_and_at_once_to_others() {
    let mut world = World::new();
    world.consume(1, consuming("x", "shared", SubscriptionType::Shared));
    world.consume(2, consuming("x", "exclusive", SubscriptionType::Exclusive));
    delayed(&mut world, "late", 5000);
    delayed(&mut world, "soon", 1000);
    world.append("x", "now");
    assert_eq!(world.texts(1), ["now"]);
    assert_eq!(world.texts(2), ["late", "soon", "now"]);
    world.pass(999);
    assert!(world.all(1).is_empty());
    world.pass(1);
    assert_eq!(world.texts(1), ["soon"]);
    world.ask(1, TopicQuestion::Gone);
    world.restart();
    world.consume(1, consuming("x", "shared", SubscriptionType::Shared));
    assert_eq!(world.texts(1), ["soon", "now"]);
    world.pass(4000);
    let got = world.all(1);
    assert_eq!(got[0].text, "late");
    assert_eq!(world.told("x", "shared", "backlog"), 3);
    for entry in 0..3 {
        world.ask(1, TopicQuestion::Ack(at(0, entry)));
    }
    assert_eq!(world.told("x", "shared", "backlog"), 0);
}

#[test]
fn a_message_that_is_delayed_for_ever_keeps_nothing_else_back() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    delayed(&mut world, "never", i64::MAX.unsigned_abs());
    delayed(&mut world, "late", 1000);
    world.append("x", "now");
    assert_eq!(world.texts(1), ["now"]);
    world.pass(3_600_000);
    assert_eq!(world.texts(1), ["late"]);
}

#[test]
fn a_delayed_message_that_is_sent_back_comes_again() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    delayed(&mut world, "late", 1000);
    world.pass(1000);
    let got = world.all(1);
    world.ask(1, TopicQuestion::Nack(got[0].id));
    assert_eq!(world.all(1)[0].redeliveries, 1);
    world.restart();
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    assert_eq!(world.texts(1), ["late"]);
}

#[test]
fn a_clock_that_goes_back_brings_nothing_twice_and_holds_nothing_back_for_ever() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    delayed(&mut world, "0", 1000);
    world.pass(1000);
    assert_eq!(world.texts(1), ["0"]);
    world.now.unix_ms -= 3_600_000;
    delayed(&mut world, "1", 1000);
    world.append("x", "2");
    world.pass(999);
    assert_eq!(world.texts(1), ["2"]);
    world.pass(1);
    assert_eq!(world.texts(1), ["1"]);
    world.pass(60_000);
    assert!(world.all(1).is_empty());
}

#[test]
fn after_the_clock_went_back_new_messages_do_not_expire_at_once() {
    let mut world =
        World::with(TopicRules { message_ttl_s: 60, retention_s: 60, ..TopicRules::default() });
    world.consume(
        1,
        ConsumerOptions { flow: Flow::Pull, ..consuming("x", "s", SubscriptionType::Exclusive) },
    );
    world.now.unix_ms -= 3_600_000;
    world.append("x", "0");
    world.pass(30_000);
    world.ask(1, TopicQuestion::Permit(1));
    assert_eq!(world.texts(1), ["0"]);
}

#[test]
fn what_was_acknowledged_is_saved_within_a_second() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.append("x", "0");
    world.append("x", "1");
    world.ask(1, TopicQuestion::Ack(at(0, 0)));
    world.pass(1000);
    world.ask(1, TopicQuestion::Ack(at(0, 1)));
    world.crash();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    assert_eq!(world.texts(1), ["1"], "the second was not yet");
}

#[test]
fn messages_that_wait_for_too_long_are_given_up() {
    let mut world = World::with(TopicRules { message_ttl_s: 10, ..TopicRules::default() });
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    world.append("x", "held");
    world.ask(1, TopicQuestion::Gone);
    world.append("x", "old");
    world.pass(8000);
    world.append("x", "new");
    world.pass(7000);
    world.consume(2, consuming("x", "s", SubscriptionType::Shared));
    assert_eq!(world.texts(2), ["new"]);
    world.restart();
    // Also where nobody uses the topic.
    world.pass(300_000);
    assert!(world.topics.archive().live[name("x").as_str()].subscriptions.contains_key("s"));
    world.consume(2, consuming("x", "s", SubscriptionType::Shared));
    assert!(world.all(2).is_empty());
}

#[test]
fn what_nobody_needs_is_kept_for_a_time_or_up_to_a_size() {
    let mut world = World::with(TopicRules {
        retention_s: 100,
        retention_bytes: 2000,
        ..TopicRules::default()
    });
    let kept = |world: &mut World| world.topics.archive().live[name("x").as_str()].messages.len();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    for number in 0..20 {
        world.append("x", &format!("{number:0300}"));
    }
    world.pass(10_000);
    assert_eq!(kept(&mut world), 20, "the subscription needs them");
    for got in world.all(1) {
        world.ack(1, &got);
    }
    world.pass(10_000);
    assert!((4..=7).contains(&kept(&mut world)), "{}", kept(&mut world));
    world.ask(1, TopicQuestion::Gone);
    world.pass(400_000);
    assert_eq!(kept(&mut world), 0, "though the topic has left the memory");
    assert_eq!(world.append("x", "next").position.entry(), 20, "and its ids do not come back");
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))).1["messagesEver"], 21);
}

#[test]
fn ids_do_not_come_back_after_everything_was_given_up() {
    let mut world = World::with(TopicRules { retention_s: 0, ..TopicRules::default() });
    let mut last = world.append("x", "0");
    for _ in 0..3 {
        world.pass(130_000);
        world.restart();
        let next = world.append("x", "1");
        assert!(next > last, "{next:?} after {last:?}");
        last = next;
    }
}

#[test]
fn topics_that_nobody_uses_leave_the_memory_and_come_back_as_they_were() {
    let mut world = World::new();
    for number in 0..100 {
        world.append(&format!("x{number}"), "0");
    }
    world.consume(1, consuming("x7", "s", SubscriptionType::Exclusive));
    world.append("x7", "1");
    world.ask(1, TopicQuestion::Ack(at(0, 1)));
    world.consume(2, consuming("x8", "s", SubscriptionType::Exclusive));
    world.ask(1, TopicQuestion::Gone);
    assert_eq!(world.topics.loaded.topics.len(), 100);
    world.pass(70_000);
    assert_eq!(world.topics.loaded.topics.len(), 1, "one has a consumer");
    assert_eq!(world.topics.loaded.subs.len(), 1);
    assert_eq!(world.told("x7", "s", "backlog"), 0);
    world.append("x8", "2");
    assert_eq!(world.texts(2), ["2"]);
    assert!(world.append("x7", "3") > at(0, 1));
}

#[test]
fn consumers_at_the_end_of_a_topic_do_not_read_the_archive() {
    let mut world = World::new();
    for id in 1..=10 {
        world.consume(id, consuming("x", &id.to_string(), SubscriptionType::Exclusive));
    }
    let before = world.topics.archive().reads;
    for number in 0..100 {
        world.append("x", &number.to_string());
    }
    assert_eq!(world.topics.archive().reads, before);
    assert!((1..=10).all(|id| world.all(id).len() == 100));
}

#[test]
fn who_is_behind_reads_the_archive_in_large_pieces_that_others_share() {
    let mut world = World::new();
    for number in 0..640 {
        world.append("x", &number.to_string());
    }
    world.restart();
    for id in 1..=10 {
        world.consume(
            id,
            ConsumerOptions {
                earliest: true,
                ..consuming("x", &id.to_string(), SubscriptionType::Exclusive)
            },
        );
    }
    assert!((1..=10).all(|id| world.all(id).len() == 640));
    let reads = world.topics.archive().reads;
    assert!(reads <= 30, "{reads}");
}

#[test]
fn no_topic_and_no_subscription_keeps_others_waiting() {
    let mut world = World::new();
    // What somebody waits for stays in memory.
    for (id, topic) in [(8, "x"), (9, "y")] {
        world.consume(
            id,
            ConsumerOptions {
                flow: Flow::Pull,
                ..consuming(topic, "slow", SubscriptionType::Exclusive)
            },
        );
    }
    for (topic, number) in (0..100).flat_map(|number| [("x", number), ("y", number)]) {
        world.append(topic, &format!("{number:01000}"));
    }
    for (id, (topic, sub)) in (1..).zip([("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")]) {
        let consuming = ConsumerOptions {
            earliest: true,
            ..consuming(topic, sub, SubscriptionType::Exclusive)
        };
        world.take(id, TopicQuestion::Consume(Box::new(consuming)));
    }
    world.topics.archive().commit();
    world.committed(Ok(()));
    assert!(world.deliver(20_000), "there is more");
    world.take_out();
    let counts: Vec<usize> = (1..=4).map(|id| world.all(id).len()).collect();
    assert!(counts.iter().all(|count| (4..=6).contains(count)), "{counts:?}");
}

#[test]
fn a_delayed_message_whose_room_another_owner_has_taken_stays_in_the_index() {
    let mut world = World::new();
    let shared = || consuming("x", "s", SubscriptionType::Shared);
    world.consume(2, ConsumerOptions { flow: Flow::Pull, ..shared() });
    world.ask(2, TopicQuestion::Gone);
    let deliver_ms = Some(world.now.unix_ms + 1000);
    world.append_message(
        "x",
        &TopicMessage { deliver_ms, payload: b"1", ..TopicMessage::default() },
    );
    world.pass(2000);
    let window = Arc::new(ConsumerWindow::new(Flow::Push(1)));
    let consumer = ConsumerOptions { window: Some(Arc::clone(&window)), ..shared() };
    world.ask(1, TopicQuestion::Consume(Box::new(consumer)));
    assert!(matches!(world.reply(1), Some(TopicAnswer::Ready)));
    world.ask(1, TopicQuestion::Join);
    world.opened(1);
    assert_eq!((window.open(), window.pass(0)), (Some(0), None));
    // It is read between the look for room and the delivery.
    world.topics.archive().thief = Some(window);
    world.ask(1, TopicQuestion::Turn);
    assert!(world.all(1).is_empty(), "the room was taken");
    let sub = &world.topics.loaded.subs[0];
    assert_eq!(sub.pending.len(), 1);
    assert!(sub.needs_delayed_from() < sub.state.delayed, "it is needed");
}
