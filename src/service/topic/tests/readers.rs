//! Readers, and consumers of non-persistent topics.

use super::world::*;
use crate::service::topic::*;

#[test]
fn a_reader_begins_at_the_first_message_at_the_next_or_after_one() {
    let mut world = World::new();
    for number in 0..4 {
        world.append("x", &number.to_string());
    }
    world.read(1, reading("x", ReaderStart::Earliest));
    world.read(2, reading("x", ReaderStart::Latest));
    world.read(3, reading("x", ReaderStart::After(at(0, 1))));
    world.append("x", "4");
    assert_eq!(world.texts(1), ["0", "1", "2", "3", "4"]);
    assert_eq!(world.texts(2), ["4"]);
    assert_eq!(world.texts(3), ["2", "3", "4"]);
}

#[test]
fn any_acknowledgement_of_a_reader_makes_room_and_nothing_comes_again() {
    let mut world = World::new();
    for number in 0..4 {
        world.append("x", &number.to_string());
    }
    world.read(1, ReaderOptions { window: 2, ..reading("x", ReaderStart::Earliest) });
    assert_eq!(world.texts(1), ["0", "1"]);
    world.ask(1, TopicQuestion::Ack(at(9, 9)));
    world.ask(1, TopicQuestion::Nack(at(0, 0)));
    assert_eq!(world.texts(1), ["2", "3"]);
}

#[test]
fn a_reader_keeps_no_message_and_leaves_nothing_behind() {
    let mut world = World::with(TopicRules { retention_s: 0, ..TopicRules::default() });
    world.append("x", "0");
    world.read(1, ReaderOptions { window: 1, ..reading("x", ReaderStart::Earliest) });
    world.append("x", "1");
    world.pass(60_000);
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))).1["messages"], 0);
    world.ask(1, TopicQuestion::Gone);
    assert_eq!(
        world.inquire(TopicInquiry::Stats(name("x"))).1["subscriptions"],
        serde_json::json!({})
    );
}

#[test]
fn a_reader_of_a_partitioned_topic_reads_all_partitions() {
    let partitioned = vec![(name("p"), 3)];
    let mut world = World::with(TopicRules { partitioned, ..TopicRules::default() });
    world.produce(1, ProducerOptions { round_robin: true, ..producing("p") });
    for number in 0..6 {
        world
            .send(
                1,
                &TopicMessage { payload: number.to_string().as_bytes(), ..TopicMessage::default() },
            )
            .unwrap();
    }
    world.read(2, reading("p", ReaderStart::Earliest));
    let mut got = world.all(2);
    got.sort_by(|a, b| a.text.cmp(&b.text));
    assert_eq!(
        got.iter().map(|got| &*got.text).collect::<Vec<_>>(),
        ["0", "1", "2", "3", "4", "5"]
    );
    assert_eq!(got.iter().filter(|got| got.id.partition == Some(1)).count(), 2);
}

fn fleeting(kind: SubscriptionType) -> ConsumerOptions {
    let topic = TopicName::read("non-persistent://t/n/x").unwrap();
    ConsumerOptions { topics: WantedTopics::One(topic), ..consuming("x", "s", kind) }
}

fn share(world: &mut World, id: u32) -> (u32, u32) {
    match world.replies.get_mut(&id).and_then(|replies| replies.pop_back()) {
        Some(TopicAnswer::Share { place, of }) => (place, of),
        other => panic!("{other:?}"),
    }
}

#[test]
fn consumers_of_a_non_persistent_topic_are_told_their_shares() {
    let mut world = World::new();
    world.consume(1, fleeting(SubscriptionType::Shared));
    assert_eq!(share(&mut world, 1), (0, 1));
    world.consume(2, fleeting(SubscriptionType::Shared));
    assert_eq!((share(&mut world, 1), share(&mut world, 2)), ((0, 2), (1, 2)));
    world.ask(3, TopicQuestion::Consume(Box::new(fleeting(SubscriptionType::Failover))));
    assert_eq!(world.refused(3), Cause::Busy);
    world.ask(1, TopicQuestion::Gone);
    assert_eq!(share(&mut world, 2), (0, 1));
    world.ask(2, TopicQuestion::Gone);
    world.consume(4, fleeting(SubscriptionType::Failover));
    world.consume(5, fleeting(SubscriptionType::Failover));
    assert_eq!((share(&mut world, 4), share(&mut world, 5)), ((0, 1), (0, 0)));
    world.ask(4, TopicQuestion::Gone);
    assert_eq!(share(&mut world, 5), (0, 1));
}

#[test]
fn whoever_unsubscribes_from_a_non_persistent_topic_takes_no_share_with_it() {
    let mut world = World::new();
    world.consume(1, fleeting(SubscriptionType::Shared));
    world.consume(2, fleeting(SubscriptionType::Shared));
    assert_eq!(share(&mut world, 2), (1, 2));
    world.ask(1, TopicQuestion::Unsubscribe);
    let last = world.replies.get_mut(&1).and_then(|replies| replies.pop_back());
    assert!(matches!(last, Some(TopicAnswer::StillSubscribed)), "another shares it: {last:?}");
    world.ask(1, TopicQuestion::Gone);
    assert_eq!(share(&mut world, 2), (0, 1));
    world.ask(2, TopicQuestion::Unsubscribe);
    world.consume(3, fleeting(SubscriptionType::Exclusive));
    world.ask(2, TopicQuestion::Gone);
    assert_eq!(share(&mut world, 3), (0, 1));
}

#[test]
fn producers_and_readers_of_non_persistent_topics_are_known_too() {
    let mut world = World::new();
    let topic = || TopicName::read("non-persistent://t/n/x").unwrap();
    let named = || ProducerOptions { topic: topic(), name: Some("p".into()), ..producing("x") };
    world.produce(1, named());
    world.ask(2, TopicQuestion::Produce(Box::new(named())));
    assert_eq!(world.refused(2), Cause::Busy);
    world.ask(1, TopicQuestion::Gone);
    world.produce(2, named());
    world.read(3, ReaderOptions { topic: topic(), ..reading("x", ReaderStart::Latest) });
    assert_eq!(share(&mut world, 3), (0, 1));
    let (status, told) = world.inquire(TopicInquiry::ProxyTopic(topic()));
    assert_eq!(status, 200);
    assert_eq!(told["producerStats"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["consumerStats"].as_array().map(Vec::len), Some(1));
}
