//! What rights narrow: patterns, open connections that get others, and statistics.

use super::world::*;
use crate::service::topic::*;
use serde_json::Value;

fn consumer_of(glob: &str) -> Rights {
    Rights::new([], [glob], [])
}

/// Whether a connection keeps what it does with these rights.
fn keeps(world: &mut World, id: u32, rights: Rights) -> bool {
    world.ask(id, TopicQuestion::Renew(Box::new(rights)));
    let replies = world.replies.entry(id).or_default();
    !matches!(replies.pop_back(), Some(TopicAnswer::Forbidden))
}

#[test]
fn a_pattern_gets_only_topics_that_may_be_consumed() {
    let mut world = World::new();
    world.append("a-1", "before");
    world.append("b-1", "before");
    let matching = || {
        let topics = pattern(".*");
        let rights = Some(Box::new(consumer_of("t/n/a-*")));
        ConsumerOptions {
            topics,
            rights,
            earliest: true,
            ..consuming("x", "s", SubscriptionType::Shared)
        }
    };
    world.consume(1, matching());
    world.append("a-2", "later");
    world.append("b-2", "later");
    assert_eq!(world.texts(1), ["before", "later"]);
    assert!(
        world.told("b-1", "s", "backlog").is_null(),
        "no subscription was made where none may be"
    );
    // With other rights the pattern goes on with what is left of it.
    assert!(keeps(&mut world, 1, consumer_of("t/n/*-2")));
    world.append("a-1", "lost");
    world.append("a-2", "kept");
    world.append("b-3", "lost");
    world.append("c-2", "new");
    assert_eq!(world.texts(1), ["kept", "new"]);
}

#[test]
fn what_a_connection_does_is_looked_at_again_when_its_rights_change() {
    let mut world = World::new();
    world.produce(1, producing("x"));
    let dead_letters = Some(name("dead"));
    world.consume(
        2,
        ConsumerOptions {
            redeliveries_max: 1,
            dead_letters,
            ..consuming("x", "s", SubscriptionType::Exclusive)
        },
    );
    world.ask(3, TopicQuestion::Read(Box::new(reading("x", ReaderStart::Latest))));
    let transient = TopicName::read("non-persistent://t/n/x").unwrap();
    world.ask(
        4,
        TopicQuestion::Read(Box::new(ReaderOptions {
            topic: transient,
            ..reading("x", ReaderStart::Latest)
        })),
    );
    for id in 1..=4 {
        assert!(keeps(&mut world, id, Rights::ALL), "{id}");
        assert!(!keeps(&mut world, id, Rights::new(["t/m/*"], ["t/m/*"], ["t/m/*"])), "{id}");
    }
    assert!(keeps(&mut world, 1, Rights::new(["t/n/x"], [], [])));
    assert!(!keeps(&mut world, 1, consumer_of("t/n/x")));
    assert!(!keeps(&mut world, 2, consumer_of("t/n/x")), "it writes to its dead letters");
    assert!(keeps(&mut world, 2, Rights::new(["t/n/dead"], ["t/n/x"], [])));
    assert!(keeps(&mut world, 3, Rights::new([], [], ["t/n/x"])));
    assert!(keeps(&mut world, 4, Rights::new([], [], ["t/n/x"])));
    assert!(keeps(&mut world, 9, Rights::new([], [], [])), "who is nothing does nothing");
}

#[test]
fn statistics_show_what_may_be_consumed() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.consume(2, consuming("y", "s", SubscriptionType::Exclusive));
    let names =
        |shown: &Value| -> Vec<String> { shown.as_object().unwrap().keys().cloned().collect() };
    let shown = world
        .inquire(TopicInquiry::ProxyStats {
            rights: consumer_of("t/n/x"),
            after: "".into(),
            count: 10,
        })
        .1;
    assert_eq!(names(&shown), ["persistent://t/n/x"]);
    assert!(
        names(
            &world
                .inquire(TopicInquiry::ProxyStats {
                    rights: consumer_of("t/m/*"),
                    after: "".into(),
                    count: 10
                })
                .1
        )
        .is_empty()
    );
    let spaces = |world: &mut World, glob: &str| {
        let told = world.inquire(TopicInquiry::ProxyMetrics(consumer_of(glob))).1;
        told.as_array().unwrap().len()
    };
    assert_eq!([spaces(&mut world, "t/n/*"), spaces(&mut world, "t/n/x")], [1, 0]);
}
