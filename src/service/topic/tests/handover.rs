//! Connections that another process takes over. What comes of everything they hold is a matter of
//! the model.

use super::world::*;
use crate::service::topic::*;
use SubscriptionType::Shared;

#[test]
fn who_lacks_one_of_its_topics_in_the_next_process_is_told_and_others_get_what_it_held() {
    let mut world = World::new();
    let topics = WantedTopics::Several(vec![name("x"), name("y")]);
    world.consume(1, ConsumerOptions { topics, ..consuming("x", "s", Shared) });
    world.consume(2, consuming("y", "s", Shared));
    world.append("y", "0");
    world.append("y", "1");
    assert_eq!((world.texts(1).len(), world.texts(2).len()), (1, 1));
    world.pass(1000);
    // A disk has lost it.
    let lost = world.topics.archive().live.get_mut(name("x").as_str());
    lost.unwrap().subscriptions.clear();

    world.pass_on(&[]);
    world.round();
    assert_eq!(world.refused(1), Cause::NotFound);
    world.ask(2, TopicQuestion::Took);
    assert_eq!(world.texts(2).len(), 1);
    assert_eq!(world.told("y", "s", "consumers").as_array().map(Vec::len), Some(1));
}

#[test]
fn one_who_does_not_read_gets_nothing_more_however_often_it_is_handed_over() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", Shared));
    world.read(2, reading("x", ReaderStart::Latest));
    let long = "-".repeat(300_000);
    for _ in 0..3 {
        world.append("x", &long);
    }
    assert_eq!((world.all(1).len(), world.all(2).len()), (1, 1));
    for _ in 0..2 {
        world.pass_on(&[]);
        world.pass(5000);
        assert_eq!((world.all(1).len(), world.all(2).len()), (0, 0));
    }
    for id in [1, 2] {
        world.ask(id, TopicQuestion::Took);
        assert_eq!(world.all(id).len(), 1);
    }
}

#[test]
fn a_reader_gets_the_topic_that_a_dead_letter_of_another_owner_has_created_in_the_pause() {
    let mut world = World::new();
    world.read(1, reading("later", ReaderStart::Latest));
    let frozen = world.frozen();
    let draft = MessageDraft::new(&TopicMessage { payload: b"dead", ..TopicMessage::default() });
    world.take(999_999, TopicQuestion::Append(name("later"), draft));
    while world.work() {}
    world.topics.archive().commit();
    world.committed(Ok(()));
    world.pass_to(&frozen, &[]);
    world.ask(1, TopicQuestion::Took);
    assert_eq!(world.texts(1), ["dead"]);

    // It is not one that is to come any more.
    world.pass_on(&[]);
    world.ask(1, TopicQuestion::Took);
    world.append("later", "more");
    assert_eq!(world.texts(1), ["more"]);
}
