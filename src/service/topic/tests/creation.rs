//! What a request may create, and that it leaves nothing behind when it is refused.

use super::world::*;
use crate::service::topic::*;

/// A consumer of several topics.
fn several(topics: &[&str]) -> TopicQuestion {
    let topics = WantedTopics::Several(topics.iter().map(|topic| name(topic)).collect());
    TopicQuestion::Consume(Box::new(ConsumerOptions {
        topics,
        ..consuming("x", "s", SubscriptionType::Exclusive)
    }))
}

/// The topics that there are.
fn names(world: &mut World) -> Vec<String> {
    let list =
        TopicInquiry::List { prefix: "persistent://t/n/".into(), after: "".into(), count: 1000 };
    let names = world.inquire(list).1;
    let short =
        |name: &serde_json::Value| name.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    names.as_array().unwrap().iter().map(short).collect()
}

fn with(change: impl FnOnce(&mut TopicRules)) -> World {
    let mut rules = TopicRules::default();
    change(&mut rules);
    World::with(rules)
}

#[test]
fn a_request_creates_some_topics_and_no_more() {
    let mut world = with(|rules| rules.new_topics_max = 2);
    world.append("there", "0");
    world.ask(1, several(&["a", "b", "c"]));
    assert_eq!(world.refused(1), Cause::TooMany);
    assert_eq!(names(&mut world), ["there"], "none of them, rather than the first");
    world.ask(1, several(&["a", "there", "b"]));
    world.opened(1);
    assert_eq!(names(&mut world), ["a", "b", "there"]);
    world.ask(1, TopicQuestion::Gone);
    world.ask(2, several(&["a", "b", "there", "c", "d"]));
    world.opened(2);
}

#[test]
fn partitions_of_the_configuration_are_as_many_as_that_says() {
    let mut world = with(|rules| {
        rules.new_topics_max = 2;
        rules.partitioned = vec![(name("p"), 5)];
    });
    world.consume(1, consuming("p", "s", SubscriptionType::Exclusive));
    assert_eq!(names(&mut world).len(), 5);
    world.ask(2, several(&["q-partition-0", "q-partition-1", "q-partition-2"]));
    assert_eq!(world.refused(2), Cause::TooMany);
}

#[test]
fn who_finds_no_room_for_all_creates_none() {
    let mut world = with(|rules| {
        rules.topics_max = 3;
        rules.partitioned = vec![(name("p"), 4)];
    });
    world.append("there", "0");
    world.ask(1, several(&["a", "b", "c"]));
    assert_eq!(world.refused(1), Cause::TooMany);
    world.ask(2, TopicQuestion::Produce(Box::new(producing("p"))));
    assert_eq!(world.refused(2), Cause::TooMany);
    assert_eq!(names(&mut world), ["there"]);
    world.ask(3, several(&["a", "b"]));
    world.opened(3);
}

#[test]
fn who_is_refused_by_one_topic_leaves_nothing_in_the_others() {
    let mut world = World::new();
    world.append("first", "0");
    world.consume(1, consuming("held", "s", SubscriptionType::Exclusive));
    world.ask(2, several(&["first", "new", "held"]));
    assert_eq!(world.refused(2), Cause::Busy);
    assert_eq!(names(&mut world), ["first", "held"]);
    assert!(world.told("first", "s", "backlog").is_null(), "no subscription was made");
}

#[test]
fn a_reader_creates_nothing_and_gets_what_comes() {
    for start in [ReaderStart::Earliest, ReaderStart::Latest, ReaderStart::After(at(0, 7))] {
        let mut world = World::new();
        world.read(1, reading("x", start));
        world.read(2, reading("x", start));
        assert!(names(&mut world).is_empty(), "{start:?}");
        world.ask(2, TopicQuestion::Gone);
        world.append("y", "other");
        for text in ["0", "1"] {
            world.append("x", text);
        }
        assert_eq!(world.texts(1), ["0", "1"], "{start:?}");
        world.ask(1, TopicQuestion::Gone);
        world.crash();
        assert_eq!(names(&mut world), ["x", "y"]);
    }
}

#[test]
fn a_reader_gets_partitions_as_they_come() {
    let mut world = with(|rules| rules.partitioned = vec![(name("p"), 3)]);
    let into = |world: &mut World, number: u32, text: &str| {
        world.append(&format!("p-partition-{number}"), text);
    };
    into(&mut world, 1, "before");
    world.read(1, reading("p", ReaderStart::Latest));
    assert_eq!(names(&mut world), ["p-partition-1"]);
    into(&mut world, 2, "2");
    into(&mut world, 1, "1");
    into(&mut world, 0, "0");
    let got = world.all(1);
    let told: Vec<_> = got.iter().map(|got| (&*got.text, got.id.partition)).collect();
    assert_eq!(told, [("2", Some(2)), ("1", Some(1)), ("0", Some(0))]);
    world.ask(1, TopicQuestion::Renew(Box::new(Rights::new([], [], ["t/n/p"]))));
    assert!(world.reply(1).is_none(), "a partition is as its topic");
}

#[test]
fn what_a_reader_waits_for_is_among_its_rights() {
    let mut world = World::new();
    world.read(1, reading("x", ReaderStart::Latest));
    world.ask(1, TopicQuestion::Renew(Box::new(Rights::new([], [], ["t/n/y"]))));
    assert!(matches!(world.reply(1), Some(TopicAnswer::Forbidden)));
}
