//! How much a topic holds of what nobody needs any more, and what it costs to find that out.

use super::world::*;
use crate::service::topic::*;

const MIB: usize = 1024 * 1024;

/// Bytes of a topic's messages in the archive.
fn held(world: &mut World, topic: &str) -> usize {
    let shelf = &world.topics.archive().live[name(topic).as_str()];
    shelf.messages.values().map(|message| message.len()).sum()
}

/// A message of so many bytes comes, without any time passing.
fn pass_through(world: &mut World, consumer: u32, bytes: usize) {
    let payload = vec![b'x'; bytes];
    let draft = MessageDraft::new(&TopicMessage {
        published_ms: world.now.unix_ms,
        payload: &payload,
        ..TopicMessage::default()
    });
    world.take(999_999, TopicQuestion::Append(name("x"), draft));
    world.round();
    for got in world.all(consumer) {
        if got.wants_receipt {
            world.take(consumer, TopicQuestion::Took);
        }
        world.take(consumer, TopicQuestion::Ack(got.id));
    }
    world.log.clear();
    world.replies.clear();
}

#[test]
fn a_queue_that_is_passed_through_holds_little_more_than_its_retention_however_fast() {
    for kind in [SubscriptionType::Exclusive, SubscriptionType::Shared, SubscriptionType::KeyShared]
    {
        let mut world =
            World::with(TopicRules { retention_bytes: 8 * MIB as u64, ..TopicRules::default() });
        world.consume(1, consuming("x", "s", kind));
        world.ask(
            2,
            TopicQuestion::Consume(Box::new(consuming("x", "idle", SubscriptionType::Shared))),
        );
        world.ask(2, TopicQuestion::Unsubscribe);
        let mut most = 0;
        for _ in 0..2000 {
            pass_through(&mut world, 1, 64 * 1024);
            most = most.max(held(&mut world, "x"));
        }
        assert!((8 * MIB..28 * MIB).contains(&most), "{kind:?} {most}");
        world.pass(10_000);
        let left = held(&mut world, "x");
        assert!(
            (7 * MIB..8 * MIB + 66_000).contains(&left),
            "in time it is exactly what is to be kept: {left}"
        );
    }
}

#[test]
fn a_backlog_gives_its_room_back_while_it_is_worked_off() {
    let mut world = World::with(TopicRules { retention_bytes: 0, ..TopicRules::default() });
    world.consume(
        1,
        ConsumerOptions { flow: Flow::Push(1), ..consuming("x", "s", SubscriptionType::Exclusive) },
    );
    for _ in 0..1000 {
        let payload = vec![b'x'; 64 * 1024];
        world.append_message("x", &TopicMessage { payload: &payload, ..TopicMessage::default() });
    }
    world.restart();
    world.consume(
        1,
        ConsumerOptions { flow: Flow::Push(1), ..consuming("x", "s", SubscriptionType::Exclusive) },
    );
    let before = held(&mut world, "x");
    for acknowledged in 1..=1000usize {
        let got = world.all(1).remove(0);
        world.take(1, TopicQuestion::Took);
        world.ack(1, &got);
        let most = before - acknowledged * 64 * 1024 + 11 * MIB;
        assert!(held(&mut world, "x") <= most, "{acknowledged}");
    }
}

#[test]
fn looking_for_what_may_go_reads_next_to_nothing() {
    let mut world =
        World::with(TopicRules { retention_bytes: 8 * MIB as u64, ..TopicRules::default() });
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    let before = world.topics.archive().reads;
    for _ in 0..2000 {
        pass_through(&mut world, 1, 64 * 1024);
    }
    assert_eq!(world.topics.archive().reads, before, "while it hurries it reads nothing");
    // A look between two marks, which are a megabyte apart: 16 messages.
    world.pass(10_000);
    let reads = world.topics.archive().reads - before;
    assert!(reads <= 6, "{reads}");
    // What is kept for a time is known from the last look.
    for _ in 0..20 {
        world.append("x", "0");
        world.pass(10_000);
    }
    assert!(
        world.topics.archive().reads - before <= reads + 20,
        "{}",
        world.topics.archive().reads - before
    );
}

#[test]
fn a_look_after_a_restart_finds_its_way_by_few_reads_and_the_next_by_none() {
    let mut world = World::with(TopicRules { retention_s: 50, ..TopicRules::default() });
    for _ in 0..1000 {
        world.append("x", "0");
        world.now.unix_ms += 100;
        world.now.monotonic_ns += 100_000_000;
    }
    world.restart();
    world.append("x", "0");
    let before = world.topics.archive().reads;
    world.pass(6000);
    let reads = world.topics.archive().reads - before;
    assert!(reads <= 60, "{reads}");
    let shelf = &world.topics.archive().live[name("x").as_str()];
    assert!((430..=460).contains(&shelf.messages.len()), "{}", shelf.messages.len());
    world.append("x", "0");
    let before = world.topics.archive().reads;
    world.pass(100);
    world.topics.arm_tend(0);
    assert_eq!(world.topics.archive().reads, before);
}

#[test]
fn what_is_found_is_right_by_time_and_by_bytes_whatever_is_known() {
    for is_restarted in [false, true] {
        let mut world = World::new();
        let mut ids = Vec::new();
        for number in 0..200u64 {
            let payload = vec![b'x'; 40_000 + number as usize];
            ids.push((
                world.now.unix_ms,
                world.append_message(
                    "x",
                    &TopicMessage { payload: &payload, ..TopicMessage::default() },
                ),
            ));
            world.now.unix_ms += 1000;
            world.now.monotonic_ns += 1_000_000;
        }
        if is_restarted {
            world.restart();
        }
        world.read(1, reading("x", ReaderStart::Latest));
        world.consume(2, consuming("x", "s", SubscriptionType::Exclusive));
        world.ask(2, TopicQuestion::Gone);
        for (published_ms, id) in ids {
            let reset = TopicInquiry::Reset {
                topic: name("x"),
                subscription: "s".into(),
                to: CursorReset::Published(published_ms),
            };
            assert_eq!(world.inquire(reset).0, 200);
            let peeked = world
                .inquire(TopicInquiry::Peek {
                    topic: name("x"),
                    subscription: Some("s".into()),
                    count: 1,
                })
                .1;
            assert_eq!(peeked[0]["messageId"], id.text());
        }
    }
}

#[test]
fn what_is_too_old_is_given_up_in_time_where_very_much_comes_too() {
    let rules =
        TopicRules { message_ttl_s: 20, retention_bytes: MIB as u64, ..TopicRules::default() };
    let mut world = World::with(rules);
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.consume(2, consuming("x", "slow", SubscriptionType::Exclusive));
    world.ask(2, TopicQuestion::Gone);
    for _ in 0..60 {
        for _ in 0..10 {
            pass_through(&mut world, 1, MIB);
        }
        world.pass(1000);
    }
    let waits = world.told("x", "slow", "backlog").as_u64().unwrap();
    assert!((200..=280).contains(&waits), "what came in 20 s, and until the next look: {waits}");
}

#[test]
fn so_many_bytes_of_messages_stay_in_memory_and_all_others_are_read_again() {
    for (cache_bytes, is_read) in [(MIB, false), (16 * 1024, true)] {
        let mut world = World::with(TopicRules { cache_bytes, ..TopicRules::default() });
        world.consume(
            1,
            ConsumerOptions {
                flow: Flow::Push(1),
                ..consuming("x", "s", SubscriptionType::Exclusive)
            },
        );
        for _ in 0..100 {
            let payload = vec![b'x'; 1000];
            world.append_message(
                "x",
                &TopicMessage { payload: &payload, ..TopicMessage::default() },
            );
        }
        let before = world.topics.archive().reads;
        for number in 0..100 {
            let got = world.all(1).pop().unwrap_or_else(|| panic!("message {number} has not come"));
            world.take(1, TopicQuestion::Took);
            world.ack(1, &got);
        }
        assert_eq!(world.topics.archive().reads > before, is_read, "{cache_bytes}");
    }
}
