//! The ids of those who consume several topics: each means one message for ever.

use super::world::*;
use crate::service::topic::*;

fn several(topics: &[&str]) -> ConsumerOptions {
    let topics = WantedTopics::Several(topics.iter().map(|topic| name(topic)).collect());
    ConsumerOptions { topics, ..consuming("a", "s", SubscriptionType::Shared) }
}

fn matching(own: &str) -> ConsumerOptions {
    ConsumerOptions { topics: pattern(own), ..consuming("a", "s", SubscriptionType::Shared) }
}

#[test]
fn an_id_means_its_own_topic_after_its_consumer_has_come_again_with_one_topic_more() {
    let mut world = World::new();
    world.consume(1, several(&["b"]));
    let b0 = {
        world.append("b", "b0");
        world.all(1).remove(0)
    };
    world.ask(1, TopicQuestion::Gone);
    world.consume(2, several(&["a", "b"]));
    world.append("a", "a0");
    assert_eq!(world.texts(2), ["b0", "a0"]);
    world.ack(2, &b0);
    assert_eq!(
        (world.told("a", "s", "backlog"), world.told("b", "s", "backlog")),
        (1.into(), 0.into())
    );
    world.ask(2, TopicQuestion::Gone);
    world.consume(3, several(&["a", "b"]));
    assert_eq!(world.texts(3), ["a0"], "what was not acknowledged comes again");
}

#[test]
fn an_id_means_its_own_topic_whatever_new_names_a_pattern_meets_and_after_a_restart() {
    let mut world = World::new();
    world.append("b", "before");
    world.consume(1, matching("[ab]"));
    world.append("b", "b0");
    let b0 = world.all(1).remove(0);
    world.append("a", "a0");
    world.pass(1000);
    world.restart();
    world.consume(2, matching("[ab]"));
    let got = world.all(2);
    assert_eq!(got.len(), 2);
    assert!(got.iter().any(|got| got.id == b0.id), "its id is what it was: {got:?}");
    world.ack(2, &b0);
    assert_eq!(
        (world.told("a", "s", "backlog"), world.told("b", "s", "backlog")),
        (1.into(), 0.into())
    );
}

#[test]
fn an_id_of_another_topic_acknowledges_nothing_and_one_of_its_own_does_with_whatever_consumer() {
    let mut world = World::new();
    world.consume(1, several(&["a", "b"]));
    world.append("a", "a0");
    world.append("b", "b0");
    let got = world.all(1);
    world.ask(1, TopicQuestion::Gone);
    // Of one topic, by a list or by its name.
    for (id, consuming) in
        [(2, several(&["a"])), (3, consuming("a", "s", SubscriptionType::Shared))]
    {
        world.consume(id, consuming);
        world.ack(id, &got[1]);
        world.ask(id, TopicQuestion::Nack(got[1].id));
        world.ask(id, TopicQuestion::Ack(MessageId { partition: Some(0), ..got[0].id }));
        assert_eq!(world.told("a", "s", "backlog"), 1);
    }
    world.ack(3, &got[0]);
    assert_eq!(
        (world.told("a", "s", "backlog"), world.told("b", "s", "backlog")),
        (0.into(), 1.into())
    );
}

#[test]
fn a_reader_and_a_reset_take_no_id_of_another_topic() {
    let mut world = World::new();
    world.consume(1, several(&["a", "b"]));
    for text in ["0", "1"] {
        world.append("a", &format!("a{text}"));
        world.append("b", &format!("b{text}"));
    }
    let got = world.all(1);
    world.read(2, reading("a", ReaderStart::After(got[0].id)));
    assert_eq!(world.texts(2), ["a1"]);
    world.ask(3, TopicQuestion::Read(Box::new(reading("a", ReaderStart::After(got[1].id)))));
    assert_eq!(world.refused(3), Cause::Invalid);
    let reset = |to| TopicInquiry::Reset {
        topic: name("a"),
        subscription: "s".into(),
        to: CursorReset::At(to),
    };
    assert_eq!(world.inquire(reset(got[1].id)), (400, "The message id is of another topic".into()));
    assert_eq!(world.inquire(reset(got[0].id)).0, 200);
}
