//! Who is in a newcomer's way is looked at before the newcomer is refused.

use super::world::*;
use crate::service::topic::*;

fn exclusive() -> TopicQuestion {
    TopicQuestion::Consume(Box::new(consuming("x", "s", SubscriptionType::Exclusive)))
}

fn named() -> TopicQuestion {
    TopicQuestion::Produce(Box::new(ProducerOptions { name: Some("ann".into()), ..producing("x") }))
}

fn volatile(request: fn() -> TopicQuestion) -> TopicQuestion {
    let topic = TopicName::read("non-persistent://t/n/x").unwrap();
    match request() {
        TopicQuestion::Consume(consuming) => TopicQuestion::Consume(Box::new(ConsumerOptions {
            topics: WantedTopics::One(topic),
            ..*consuming
        })),
        TopicQuestion::Produce(producing) => {
            TopicQuestion::Produce(Box::new(ProducerOptions { topic, ..*producing }))
        }
        other => panic!("{other:?}"),
    }
}

/// A world in which the first connection has what may be had once, and nobody knows whether it
/// lives.
fn held(request: &dyn Fn() -> TopicQuestion) -> World {
    let mut world = World::new();
    world.ask(1, request());
    world.opened(1);
    while world.reply(1).is_some() {}
    world.mute.insert(1);
    world
}

fn all() -> [Box<dyn Fn() -> TopicQuestion>; 4] {
    [
        Box::new(exclusive),
        Box::new(named),
        Box::new(|| volatile(exclusive)),
        Box::new(|| volatile(named)),
    ]
}

#[test]
fn a_newcomer_gets_the_place_of_the_dead_and_not_that_of_the_living() {
    for request in all() {
        let mut world = held(&*request);
        world.ask(2, request());
        assert!(world.reply(2).is_none(), "nobody knows yet");
        world.take(1, TopicQuestion::Probed { is_closing: true });
        world.round();
        assert!(world.reply(2).is_none(), "what it has sent before its end comes first");
        world.ask(1, TopicQuestion::Gone);
        world.opened(2);
        world.ask(3, request());
        assert_eq!(world.refused(3), Cause::Busy, "the second lives");
    }
}

#[test]
fn a_shard_that_does_not_answer_is_not_waited_for() {
    for request in all() {
        let mut world = held(&*request);
        world.ask(2, request());
        world.pass(4_900);
        assert!(world.reply(2).is_none());
        world.pass(200);
        assert_eq!(world.refused(2), Cause::Busy);
        world.mute.clear();
        world.ask(3, request());
        assert_eq!(world.refused(3), Cause::Busy, "it is asked again");
    }
}

#[test]
fn a_newcomer_that_leaves_waits_no_more() {
    let mut world = held(&exclusive);
    world.ask(2, exclusive());
    world.ask(3, exclusive());
    world.ask(2, TopicQuestion::Gone);
    world.ask(1, TopicQuestion::Gone);
    assert!(world.reply(2).is_none());
    world.opened(3);
    world.pass(10_000);
    assert!(world.reply(3).is_none());
}

#[test]
fn of_many_newcomers_the_first_gets_it_and_no_more_than_some_wait() {
    let mut world = held(&exclusive);
    for id in 2..70 {
        world.ask(id, exclusive());
    }
    assert_eq!([world.refused(66), world.refused(69)], [Cause::Busy; 2], "64 wait, and no more");
    world.ask(1, TopicQuestion::Gone);
    world.opened(2);
    for id in 3..66 {
        assert_eq!(world.refused(id), Cause::Busy, "{id}");
    }
}

#[test]
fn another_type_or_mode_is_there_until_its_last_consumer_has_gone() {
    let shared = || TopicQuestion::Consume(Box::new(consuming("x", "s", SubscriptionType::Shared)));
    let mut world = held(&shared);
    world.ask(2, exclusive());
    assert!(world.reply(2).is_none());
    world.ask(1, TopicQuestion::Gone);
    world.opened(2);
    let fleeting = || {
        let consuming = consuming("y", "s", SubscriptionType::Shared);
        TopicQuestion::Consume(Box::new(ConsumerOptions { durable: false, ..consuming }))
    };
    let durable =
        || TopicQuestion::Consume(Box::new(consuming("y", "s", SubscriptionType::Shared)));
    let mut world = held(&fleeting);
    world.ask(2, durable());
    assert!(world.reply(2).is_none());
    world.ask(1, TopicQuestion::Gone);
    world.opened(2);
    world.mute.insert(2);
    world.ask(3, fleeting());
    assert_eq!(world.refused(3), Cause::Busy, "a durable one outlasts its consumers");
}

#[test]
fn who_waits_with_less_rights_than_it_came_with_does_not_get_it() {
    let mut world = held(&exclusive);
    world.ask(2, exclusive());
    world.ask(2, TopicQuestion::Renew(Box::new(Rights::new([], ["t/n/x"], []))));
    assert!(world.reply(2).is_none());
    world.ask(2, TopicQuestion::Renew(Box::new(Rights::new([], ["t/n/y"], []))));
    assert!(matches!(world.reply(2), Some(TopicAnswer::Forbidden)));
}
