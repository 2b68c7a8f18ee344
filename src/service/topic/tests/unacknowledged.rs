//! Very many unacknowledged messages, and their timers.

use super::work::*;
use super::world::*;
use crate::service::topic::*;

/// Unacknowledged messages enough for many slices.
const UNACKNOWLEDGED: usize = 10_000;

/// A subscription with very many unacknowledged messages, of a consumer that waits for so long for
/// each.
fn with_unacknowledged(kind: SubscriptionType) -> World {
    let mut world = World::with(TopicRules { message_ttl_s: 100, ..TopicRules::default() });
    let consuming = ConsumerOptions {
        flow: Flow::Push(60_000),
        ack_timeout_ms: 10_000_000,
        ..consuming("x", "s", kind)
    };
    world.consume(1, consuming);
    for number in 0..UNACKNOWLEDGED {
        let key = (number % 100).to_string();
        let message =
            TopicMessage { published_ms: START_MS, key: Some(&key), ..TopicMessage::default() };
        world.take(999_999, TopicQuestion::Append(name("x"), MessageDraft::new(&message)));
        if number % 5000 == 4999 {
            world.take(1, TopicQuestion::Took);
            world.round();
        }
    }
    for _ in 0..1000 {
        if world.told("x", "s", "pending") == UNACKNOWLEDGED {
            break;
        }
        world.ask(1, TopicQuestion::Took);
    }
    assert_eq!(world.told("x", "s", "pending"), UNACKNOWLEDGED);
    (world.log, world.replies) = Default::default();
    world
}

/// Timers of unacknowledged messages.
fn timers(world: &World) -> usize {
    let is_pending = |timer: &&(u64, crate::service::topic::timers::Timer)| {
        matches!(timer.1, crate::service::topic::timers::Timer::Pending(..))
    };
    world.topics.loaded.timers.iter().filter(is_pending).count()
}

#[test]
fn very_many_unacknowledged_messages_are_given_up_at_once_and_their_timers_in_slices() {
    for kind in [SubscriptionType::Shared, SubscriptionType::KeyShared] {
        let mut world = with_unacknowledged(kind);
        assert_eq!(timers(&world), UNACKNOWLEDGED);
        let purge = TopicInquiry::Purge { topic: name("x"), subscription: Some("s".into()) };
        world.take(999_998, TopicQuestion::Inquire(Box::new(purge)));
        assert_eq!(world.topics.loaded.subs[0].pending.len(), 0);
        assert!(timers(&world) > UNACKNOWLEDGED - 1000);
        assert!(work(&mut world) > 20);
        assert_eq!(timers(&world), 0);
        assert!(matches!(world.reply(999_998), Some(TopicAnswer::Answer(200, _))));
        world.append("x", "next");
        assert_eq!(world.texts(1).pop().unwrap(), "next", "its window is as empty");
        assert_eq!(world.told("x", "s", "backlog"), 1);
    }
}

#[test]
fn a_timer_that_is_left_of_what_was_given_up_comes_to_nothing() {
    let mut world = with_unacknowledged(SubscriptionType::Shared);
    world.now.monotonic_ns += 5_000_000_000_000;
    let reset = TopicInquiry::Reset {
        topic: name("x"),
        subscription: "s".into(),
        to: CursorReset::Earliest,
    };
    world.take(999_998, TopicQuestion::Inquire(Box::new(reset)));
    world.committed(Ok(()));
    world.take(1, TopicQuestion::Took);
    world.deliver(1024 * 1024);
    world.take_out();
    let again = world.all(1).len();
    assert!(again > 100);
    world.now.monotonic_ns += 5_100_000_000_000;
    for _ in 0..100 {
        world.tick();
    }
    world.deliver(1024 * 1024);
    world.take_out();
    assert!(
        world.all(1).iter().all(|got| got.redeliveries == 0),
        "they wait for half of their time"
    );
    let held =
        world.topics.loaded.subs[0].pending.values().filter(|it| it.redeliveries > 0).count();
    assert_eq!(held, 0);
}

#[test]
fn very_many_unacknowledged_messages_of_who_leaves_come_again_and_their_timers_go_in_slices() {
    let mut world = with_unacknowledged(SubscriptionType::Exclusive);
    world.take(1, TopicQuestion::Gone);
    let sub = &world.topics.loaded.subs[0];
    assert_eq!((sub.replay.len(), sub.pending.len()), (UNACKNOWLEDGED, UNACKNOWLEDGED));
    assert!(timers(&world) > UNACKNOWLEDGED - 1000);
    assert!(work(&mut world) > 20);
    assert_eq!(timers(&world), 0);
    let all = ConsumerOptions {
        flow: Flow::Push(60_000),
        ..consuming("x", "s", SubscriptionType::Exclusive)
    };
    world.consume(2, all);
    for _ in 0..100 {
        world.ask(2, TopicQuestion::Took);
    }
    let got = world.all(2);
    assert!(got.len() == UNACKNOWLEDGED && got.is_sorted_by_key(|got| got.id));
}

#[test]
fn very_many_unacknowledged_messages_expire_some_at_a_time() {
    let mut world = with_unacknowledged(SubscriptionType::Shared);
    world.now.unix_ms += 200_000;
    world.now.monotonic_ns += 200_000_000_000;
    let mut before = UNACKNOWLEDGED;
    for _ in 0..1000 {
        world.tick();
        let left = world.topics.loaded.subs[0].pending.len();
        assert!(before - left <= 2000, "{before} {left}");
        before = left;
        if left == 0 {
            break;
        }
        world.now.unix_ms += 20;
        world.now.monotonic_ns += 20_000_000;
    }
    assert_eq!((before, timers(&world)), (0, 0));
}
