//! What happens when the archive does not do what it should.

use super::world::*;
use crate::service::topic::*;

#[test]
fn after_a_failed_sync_nothing_of_the_round_is_delivered_nothing_is_taken_and_reading_goes_on() {
    let mut world = World::new();
    world.produce(1, producing("x"));
    world.append("x", "0");
    world.append("x", "1");
    world.consume(
        2,
        ConsumerOptions {
            flow: Flow::Push(1),
            earliest: true,
            ..consuming("x", "s", SubscriptionType::Shared)
        },
    );
    world.sync_fault = Some("the disk is gone");
    let text = |text| TopicMessage { payload: text, ..TopicMessage::default() };
    assert_eq!(world.send(1, &text(b"2")), Err("the disk is gone".into()));
    world.sync_fault = None;
    assert_eq!(world.send(1, &text(b"3")), Err("the disk is gone".into()));
    for expected in ["0", "1"] {
        let got = world.all(2);
        assert_eq!(got[0].text, expected);
        world.ack(2, &got[0]);
    }
    world.read(3, reading("x", ReaderStart::Earliest));
    assert_eq!(world.texts(3), ["0", "1"]);
    world.pass(300_000);
    assert!(world.all(2).is_empty() && world.all(3).is_empty());
    world.ask(4, TopicQuestion::Consume(Box::new(consuming("x", "new", SubscriptionType::Shared))));
    assert_eq!(world.refused(4), Cause::Broken);
    world.crash();
    assert_eq!(world.append("x", "4"), at(1, 0), "ids are not used again");
}

#[test]
fn a_subscription_that_could_not_be_made_safe_is_refused() {
    let mut world = World::new();
    world.sync_fault = Some("the disk is gone");
    world.ask(1, TopicQuestion::Consume(Box::new(consuming("x", "s", SubscriptionType::Shared))));
    assert_eq!(world.refused(1), Cause::Broken);
}

#[test]
fn a_message_that_cannot_be_written_is_told_and_the_next_may_be() {
    let mut world = World::new();
    world.produce(1, producing("x"));
    world.consume(2, consuming("x", "s", SubscriptionType::Exclusive));
    world.topics.archive().fault = Some("No space left on device");
    let message = TopicMessage { payload: b"0", ..TopicMessage::default() };
    assert_eq!(world.send(1, &message), Err("No space left on device".into()));
    world.ask(3, TopicQuestion::Produce(Box::new(producing("y"))));
    assert_eq!(world.refused(3), Cause::Broken);
    world.topics.archive().fault = None;
    assert_eq!(world.send(1, &message), Ok(at(0, 1)), "no position is given twice");
    assert_eq!(world.texts(2), ["0"]);
    assert_eq!(world.told("x", "s", "backlog"), 1);
}

#[test]
fn what_cannot_be_saved_is_saved_later() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.append("x", "0");
    world.topics.archive().fault = Some("No space left on device");
    world.ask(1, TopicQuestion::Ack(at(0, 0)));
    world.pass(2000);
    world.topics.archive().fault = None;
    world.pass(1000);
    world.crash();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    assert!(world.all(1).is_empty());
}

#[test]
fn damaged_messages_are_passed_over() {
    let mut world = World::new();
    world.consume(
        1,
        ConsumerOptions { flow: Flow::Push(3), ..consuming("x", "s", SubscriptionType::Shared) },
    );
    for number in 0..6 {
        world.append("x", &number.to_string());
    }
    world.restart();
    let number = world.topics.archive().live[name("x").as_str()].number;
    for entry in [0, 3, 5] {
        world.topics.archive().damaged.insert((number, at(0, entry).position));
    }
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    let got = world.all(1);
    assert_eq!(got.iter().map(|got| &*got.text).collect::<Vec<_>>(), ["1", "2", "4"]);
    got.iter().for_each(|got| world.ack(1, got));
    assert_eq!(world.told("x", "s", "backlog"), 0);
}

#[test]
fn a_subscription_whose_state_is_damaged_begins_again() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.append("x", "0");
    world.ask(1, TopicQuestion::Ack(at(0, 0)));
    world.pass(1000);
    let shelf = world.topics.archive().live.get_mut(name("x").as_str()).unwrap();
    shelf.subscriptions.insert("s".into(), b"?"[..].into());
    world.topics.archive().commit();
    world.crash();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    assert_eq!(world.texts(1), ["0"]);
}

#[test]
fn there_are_no_more_topics_than_the_rules_allow() {
    let mut world = World::with(TopicRules { topics_max: 2, ..TopicRules::default() });
    world.append("x", "0");
    world.append("y", "0");
    world.restart();
    world.ask(1, TopicQuestion::Produce(Box::new(producing("z"))));
    assert_eq!(world.refused(1), Cause::TooMany);
    world.produce(1, producing("x"));
}
