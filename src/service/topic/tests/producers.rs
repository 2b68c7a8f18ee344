//! What becomes of what producers send.

use super::world::*;
use crate::service::topic::*;

fn text(text: &str) -> TopicMessage<'_> {
    TopicMessage { payload: text.as_bytes(), ..TopicMessage::default() }
}

fn numbered(producer: &str, sequence: i64) -> TopicMessage<'_> {
    TopicMessage {
        producer: Some(producer),
        sequence: Some(sequence),
        payload: b"x",
        ..TopicMessage::default()
    }
}

fn named(topic: &str, name: &str) -> ProducerOptions {
    ProducerOptions { name: Some(name.into()), ..producing(topic) }
}

#[test]
fn a_name_is_one_producers_as_long_as_it_is_there() {
    let mut world = World::new();
    world.produce(1, named("x", "p"));
    world.ask(2, TopicQuestion::Produce(Box::new(named("x", "p"))));
    assert_eq!(world.refused(2), Cause::Busy);
    world.produce(3, producing("x"));
    world.produce(4, producing("x"));
    world.ask(1, TopicQuestion::Gone);
    world.produce(2, named("x", "p"));
}

#[test]
fn a_message_that_is_sent_again_is_answered_and_not_stored_again() {
    let mut world = World::new();
    world.produce(1, named("x", "p"));
    assert_eq!(world.send(1, &numbered("p", 0)), Ok(at(0, 0)));
    assert_eq!(world.send(1, &numbered("p", 5)), Ok(at(0, 1)));
    assert_eq!(world.send(1, &numbered("p", 5)), Ok(at(0, 1)), "with its own id");
    assert_eq!(world.send(1, &numbered("p", 3)), Ok(at(0, 1)));
    assert_eq!(world.send(1, &text("unnumbered")), Ok(at(0, 2)));
    assert_eq!(world.send(1, &numbered("p", 6)), Ok(at(0, 3)));
    world.crash();
    world.produce(1, named("x", "p"));
    assert_eq!(world.send(1, &numbered("p", 6)), Ok(at(0, 3)), "even after a crash");
    assert_eq!(world.send(1, &numbered("p", 7)), Ok(at(1, 0)));
    assert_eq!(world.send(1, &numbered("other", 7)), Ok(at(1, 1)));
}

#[test]
fn a_repeated_message_is_not_answered_before_the_first_is_safe() {
    let mut world = World::new();
    world.produce(1, named("x", "p"));
    for _ in 0..2 {
        let request =
            TopicQuestion::Send { draft: MessageDraft::new(&numbered("p", 0)), context: None };
        world.take(1, request);
    }
    world.take_out();
    assert!(world.reply(1).is_none());
    world.sync_fault = Some("the disk is gone");
    world.round();
    for _ in 0..2 {
        assert!(matches!(world.reply(1), Some(TopicAnswer::NotStored { .. })));
    }
}

#[test]
fn a_new_producers_numbers_may_begin_later() {
    let mut world = World::new();
    world.produce(1, ProducerOptions { initial_sequence: Some(10), ..named("x", "p") });
    world.send(1, &numbered("p", 10)).unwrap();
    world.send(1, &numbered("p", 11)).unwrap();
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))).1["messages"], 1);
}

#[test]
fn only_so_many_producers_are_remembered() {
    let mut world = World::new();
    for number in 0..10_001 {
        let producer = format!("p{number:05}");
        world.take(9, TopicQuestion::Append(name("x"), MessageDraft::new(&numbered(&producer, 1))));
    }
    world.round();
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))).1["rememberedProducers"], 9001);
    let sequences = &world.topics.archive().live[name("x").as_str()].sequences;
    assert_eq!((sequences.len(), sequences.contains_key("p00000")), (9001, false));
    assert!(sequences.contains_key("p10000"));
}

#[test]
fn keys_choose_partitions_as_pulsars_clients_do_and_the_rest_is_sent_to_one_or_to_all_in_turn() {
    let mut world =
        World::with(TopicRules { partitioned: vec![(name("p"), 4)], ..TopicRules::default() });
    world.produce(1, producing("p"));
    world.produce(
        2,
        ProducerOptions { round_robin: true, hashing: Hashing::Murmur3, ..producing("p") },
    );
    let keyed = TopicMessage { key: Some("hello"), ..text("x") };
    assert_eq!(world.send(1, &keyed).unwrap().partition, Some(99_162_322 % 4));
    assert_eq!(world.send(2, &keyed).unwrap().partition, Some((0x248b_fa47 & 0x7fff_ffff) % 4));
    let mut partitions = |id| {
        (0..4).map(|_| world.send(id, &text("x")).unwrap().partition.unwrap()).collect::<Vec<u32>>()
    };
    let (single, mut turns) = (partitions(1), partitions(2));
    assert!(single.iter().all(|partition| *partition == single[0]));
    turns.sort();
    assert_eq!(turns, [0, 1, 2, 3]);
    world.produce(3, producing("p-partition-2"));
    assert_eq!(world.send(3, &text("x")).unwrap().partition, Some(2));
    world.consume(
        4,
        ConsumerOptions { earliest: true, ..consuming("p", "s", SubscriptionType::Exclusive) },
    );
    let got = world.all(4);
    assert_eq!(got.len(), 11);
    got.iter().for_each(|got| world.ack(4, got));
    for partition in 0..4 {
        assert_eq!(world.told(&format!("p-partition-{partition}"), "s", "backlog"), 0);
    }
}

#[test]
fn a_repeated_message_goes_to_the_same_partition() {
    let mut world =
        World::with(TopicRules { partitioned: vec![(name("p"), 4)], ..TopicRules::default() });
    for round_robin in [false, true] {
        let producing =
            || ProducerOptions { round_robin, ..named("p", if round_robin { "q" } else { "p" }) };
        let producer = if round_robin { "q" } else { "p" };
        world.produce(1, producing());
        let first = world.send(1, &numbered(producer, 7)).unwrap();
        world.ask(1, TopicQuestion::Gone);
        world.produce(1, producing());
        assert_eq!(world.send(1, &numbered(producer, 7)), Ok(first));
        world.ask(1, TopicQuestion::Gone);
    }
}

#[test]
fn a_terminated_topic_takes_no_producer_and_no_message() {
    let mut world = World::new();
    world.produce(1, producing("x"));
    world.send(1, &text("0")).unwrap();
    world.inquire(TopicInquiry::Terminate(name("x")));
    assert_eq!(world.send(1, &text("1")), Err("Topic was already terminated".into()));
    world.ask(2, TopicQuestion::Produce(Box::new(producing("x"))));
    assert_eq!(world.refused(2), Cause::Terminated);
    world.crash();
    world.ask(2, TopicQuestion::Produce(Box::new(producing("x"))));
    assert_eq!(world.refused(2), Cause::Terminated);
}

#[test]
fn a_full_backlog_refuses_producers_until_something_is_acknowledged() {
    let mut world = World::with(TopicRules { backlog_quota_bytes: 1000, ..TopicRules::default() });
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.produce(2, producing("x"));
    let long = "x".repeat(300);
    let sent = (0..10).take_while(|_| world.send(2, &text(&long)).is_ok()).count();
    assert_eq!(sent, 4);
    world.ask(3, TopicQuestion::Produce(Box::new(producing("x"))));
    assert_eq!(world.refused(3), Cause::Quota);
    for got in world.all(1) {
        world.ack(1, &got);
    }
    world.produce(3, producing("x"));
    world.send(2, &text(&long)).unwrap();
}

#[test]
fn or_the_slowest_subscription_loses_its_oldest_messages() {
    let rules =
        TopicRules { backlog_quota_bytes: 1000, backlog_eviction: true, ..TopicRules::default() };
    let mut world = World::with(rules);
    world.consume(1, consuming("x", "slow", SubscriptionType::Exclusive));
    world.ask(1, TopicQuestion::Gone);
    world.consume(2, consuming("x", "fast", SubscriptionType::Exclusive));
    for number in 0..20 {
        world.append("x", &format!("{number:0300}"));
        for got in world.all(2) {
            world.ack(2, &got);
        }
    }
    world.consume(1, consuming("x", "slow", SubscriptionType::Exclusive));
    let got = world.texts(1);
    assert!((2..=4).contains(&got.len()), "{}", got.len());
    assert_eq!(got.last().map(|text| text.trim_start_matches('0')), Some("19"));
}

#[test]
fn who_is_no_producer_is_told_so_and_a_connection_is_one_thing() {
    let mut world = World::new();
    assert!(world.send(1, &text("x")).is_err());
    world.produce(1, producing("x"));
    world
        .ask(1, TopicQuestion::Consume(Box::new(consuming("x", "s", SubscriptionType::Exclusive))));
    assert_eq!(world.refused(1), Cause::Invalid);
}

#[test]
fn a_partition_beyond_the_number_is_refused_to_everybody() {
    let rules = |partitions| TopicRules {
        partitioned: vec![(name("p"), partitions)],
        ..TopicRules::default()
    };
    let mut world = World::with(rules(4));
    let beyond = || name("p-partition-9");
    let letters = ConsumerOptions {
        dead_letters: Some(beyond()),
        redeliveries_max: 1,
        ..consuming("x", "s", SubscriptionType::Shared)
    };
    for (request, cause) in [
        (TopicQuestion::Produce(Box::new(producing("p-partition-9"))), Cause::NotFound),
        (TopicQuestion::Produce(Box::new(producing("p-partition-4"))), Cause::NotFound),
        (
            TopicQuestion::Consume(Box::new(consuming(
                "p-partition-9",
                "s",
                SubscriptionType::Shared,
            ))),
            Cause::NotFound,
        ),
        (
            TopicQuestion::Read(Box::new(reading("p-partition-9", ReaderStart::Earliest))),
            Cause::NotFound,
        ),
        (TopicQuestion::Consume(Box::new(letters)), Cause::Invalid),
    ] {
        world.ask(1, request);
        assert_eq!(world.refused(1), cause);
    }
    let draft = MessageDraft::new(&TopicMessage::default());
    world.ask(2, TopicQuestion::Append(beyond(), draft));
    match world.reply(2) {
        Some(TopicAnswer::NotStored { reason, .. }) => {
            assert_eq!(&*reason, "there is no partition 9: the topic has 4, counted from 0");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.inquire(TopicInquiry::Stats(beyond())).0, 404, "and it was not created");
    world.produce(3, producing("p-partition-3"));
    world.produce(4, producing("q-partition-9"));
    // What is left of a larger number can be fetched, and takes nothing more.
    world.send(3, &TopicMessage { payload: b"0", ..TopicMessage::default() }).unwrap();
    world.topics.configure(rules(2));
    world.consume(
        5,
        ConsumerOptions {
            earliest: true,
            ..consuming("p-partition-3", "s", SubscriptionType::Shared)
        },
    );
    assert_eq!(world.texts(5), ["0"]);
    world.ask(6, TopicQuestion::Produce(Box::new(producing("p-partition-3"))));
    assert_eq!(world.refused(6), Cause::NotFound);
}
