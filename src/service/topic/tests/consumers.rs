//! What consumers of each kind get, and when it comes again.

use super::world::*;
use crate::service::topic::*;

#[test]
fn an_exclusive_consumer_gets_everything_in_order_and_nothing_again_after_it_was_acknowledged() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    let ids: Vec<MessageId> = (0..5).map(|number| world.append("x", &number.to_string())).collect();
    assert_eq!(ids[3], at(0, 3));
    let got = world.all(1);
    assert_eq!(got.iter().map(|got| got.id).collect::<Vec<_>>(), ids);
    world.ack(1, &got[0]);
    world.ack(1, &got[2]);
    world.ask(1, TopicQuestion::Gone);
    world.consume(2, consuming("x", "s", SubscriptionType::Exclusive));
    assert_eq!(world.texts(2), ["1", "3", "4"]);
    world.pass(1000);
    world.crash();
    world.consume(3, consuming("x", "s", SubscriptionType::Exclusive));
    assert_eq!(world.texts(3), ["1", "3", "4"]);
    assert_eq!(world.append("x", "5"), at(1, 0), "a restart begins a ledger");
    assert_eq!(world.texts(3), ["5"]);
    assert_eq!(world.told("x", "s", "backlog"), 4);
}

#[test]
fn what_comes_while_a_topic_has_no_subscription_has_its_place_among_what_came_before_and_after() {
    let mut world = World::new();
    world.consume(1, consuming("x", "first", SubscriptionType::Exclusive));
    world.append("x", "0");
    world.ask(1, TopicQuestion::Unsubscribe);
    world.append("x", "1");
    world.consume(
        2,
        ConsumerOptions { earliest: true, ..consuming("x", "second", SubscriptionType::Exclusive) },
    );
    world.append("x", "2");
    assert_eq!(world.texts(2), ["0", "1", "2"]);
    world.consume(3, consuming("x", "third", SubscriptionType::Exclusive));
    world.append("x", "3");
    assert_eq!((world.texts(2), world.texts(3)), (vec!["3".into()], vec!["3".into()]));
}

#[test]
fn a_second_exclusive_consumer_and_one_of_another_kind_are_refused() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    for kind in [SubscriptionType::Exclusive, SubscriptionType::Shared] {
        world.ask(2, TopicQuestion::Consume(Box::new(consuming("x", "s", kind))));
        assert_eq!(world.refused(2), Cause::Busy);
    }
    world.ask(1, TopicQuestion::Gone);
    world.consume(2, consuming("x", "s", SubscriptionType::Shared));
}

#[test]
fn consumers_of_a_shared_subscription_take_turns() {
    for count in 2..=4 {
        let mut world = World::new();
        for id in 1..=count {
            world.consume(id, consuming("x", "s", SubscriptionType::Shared));
        }
        for number in 0..count * 3 {
            world.append("x", &number.to_string());
        }
        let got: Vec<usize> = (1..=count).map(|id| world.texts(id).len()).collect();
        assert_eq!(got, vec![3; count as usize]);
    }
}

#[test]
fn consumers_with_low_priority_numbers_are_served_first_until_they_are_full() {
    let mut world = World::new();
    let flow = Flow::Push(2);
    world.consume(
        1,
        ConsumerOptions { priority: 1, flow, ..consuming("x", "s", SubscriptionType::Shared) },
    );
    world.consume(
        2,
        ConsumerOptions { priority: 0, flow, ..consuming("x", "s", SubscriptionType::Shared) },
    );
    for number in 0..3 {
        world.append("x", &number.to_string());
    }
    assert_eq!((world.texts(2), world.texts(1)), (vec!["0".into(), "1".into()], vec!["2".into()]));
}

#[test]
fn one_of_a_failover_subscription_gets_all_and_its_heir_what_it_had_in_order() {
    let mut world = World::new();
    for id in 1..=2 {
        world.consume(id, consuming("x", "s", SubscriptionType::Failover));
    }
    for number in 0..3 {
        world.append("x", &number.to_string());
    }
    assert_eq!((world.texts(1).len(), world.texts(2).len()), (3, 0));
    world.ask(1, TopicQuestion::Ack(at(0, 1)));
    world.ask(1, TopicQuestion::Gone);
    world.append("x", "3");
    let got = world.all(2);
    assert_eq!(got.iter().map(|got| &*got.text).collect::<Vec<_>>(), ["0", "2", "3"]);
    assert!(got.iter().all(|got| got.redeliveries == 0));
    world.consume(
        3,
        ConsumerOptions { priority: -1, ..consuming("x", "s", SubscriptionType::Failover) },
    );
    assert_eq!(world.texts(3), ["0", "2", "3"], "the lowest priority number comes first");
}

#[test]
fn a_key_stays_with_one_consumer_and_a_full_one_does_not_keep_other_keys_back() {
    let mut world = World::new();
    for id in 1..=2 {
        world.consume(
            id,
            ConsumerOptions {
                flow: Flow::Push(2),
                ..consuming("x", "s", SubscriptionType::KeyShared)
            },
        );
    }
    for number in 0..40 {
        let key = format!("k{}", number % 4);
        world.append_keyed("x", &key, &format!("{key}:{number:02}"));
    }
    let mut keys: Vec<std::collections::BTreeSet<String>> = vec![Default::default(); 2];
    let mut all: Vec<String> = Vec::new();
    // The first takes nothing more until the second has everything that is its own.
    for id in [2, 1] {
        loop {
            let got = world.all(id);
            if got.is_empty() {
                break;
            }
            for got in got {
                keys[id as usize - 1].insert(got.text[..2].to_owned());
                all.push(got.text.clone());
                world.ack(id, &got);
            }
        }
    }
    assert_eq!(all.len(), 40);
    assert!(
        keys[0].is_disjoint(&keys[1]) && !keys[0].is_empty() && !keys[1].is_empty(),
        "{keys:?}"
    );
    for key in ["k0", "k1", "k2", "k3"] {
        assert!(all.iter().filter(|text| text.starts_with(key)).is_sorted());
    }
}

#[test]
fn a_window_holds_no_more_and_whatever_is_acknowledged_makes_room() {
    let mut world = World::new();
    world.consume(
        1,
        ConsumerOptions { flow: Flow::Push(2), ..consuming("x", "s", SubscriptionType::Exclusive) },
    );
    for number in 0..6 {
        world.append("x", &number.to_string());
    }
    assert_eq!(world.texts(1), ["0", "1"]);
    world.ask(1, TopicQuestion::Ack(at(77, 7)));
    assert_eq!(world.texts(1), ["2"], "though there is no such message");
    world.ask(1, TopicQuestion::Nack(at(77, 8)));
    world.ask(1, TopicQuestion::Permit(100));
    assert_eq!(world.texts(1), ["3"], "and permits are for those who pull");
}

#[test]
fn who_pulls_gets_what_it_has_asked_for_and_acknowledging_asks_for_nothing() {
    let mut world = World::new();
    world.consume(
        1,
        ConsumerOptions { flow: Flow::Pull, ..consuming("x", "s", SubscriptionType::Exclusive) },
    );
    for number in 0..6 {
        world.append("x", &number.to_string());
    }
    assert!(world.all(1).is_empty());
    world.ask(1, TopicQuestion::Permit(1));
    world.ask(1, TopicQuestion::Permit(2));
    let got = world.all(1);
    assert_eq!(got.len(), 3);
    world.ack(1, &got[0]);
    assert!(world.all(1).is_empty());
    world.ask(1, TopicQuestion::Permit(10));
    assert_eq!(world.all(1).len(), 3);
    world.append("x", "6");
    assert_eq!(world.all(1).len(), 1, "what was asked for in advance is kept in mind");
}

#[test]
fn nothing_more_is_on_its_way_to_a_connection_than_it_takes() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    let large = "x".repeat(100 * 1024);
    for _ in 0..6 {
        world.append("x", &large);
    }
    let wants: Vec<bool> = world.all(1).iter().map(|got| got.wants_receipt).collect();
    assert_eq!(wants, [false, false, true]);
    world.ask(1, TopicQuestion::Took);
    assert_eq!(world.all(1).len(), 3);
}

#[test]
fn no_more_is_pending_than_the_rules_allow() {
    let mut world = World::with(TopicRules { unacked_max: 3, ..TopicRules::default() });
    world.consume(1, consuming("x", "s", SubscriptionType::Shared));
    for number in 0..6 {
        world.append("x", &number.to_string());
    }
    let got = world.all(1);
    assert_eq!(got.len(), 3);
    world.ack(1, &got[1]);
    assert_eq!(world.texts(1), ["3"]);
}

#[test]
fn who_unsubscribes_deletes_the_subscription_stays_and_gets_nothing_more() {
    let mut world = World::new();
    for id in 1..=2 {
        world.consume(id, consuming("x", "s", SubscriptionType::Shared));
    }
    world.ask(1, TopicQuestion::Unsubscribe);
    assert!(matches!(world.reply(1), Some(TopicAnswer::StillSubscribed)));
    world.ask(2, TopicQuestion::Gone);
    world.append("x", "0");
    assert_eq!(world.texts(1), ["0"]);
    world.ask(1, TopicQuestion::Unsubscribe);
    assert!(world.reply(1).is_none());
    world.append("x", "1");
    world.ask(1, TopicQuestion::Ack(at(0, 0)));
    assert!(world.all(1).is_empty());
    assert!(world.told("x", "s", "backlog").is_null());
    world.crash();
    assert!(world.told("x", "s", "backlog").is_null(), "for good");
    world.consume(3, consuming("x", "s", SubscriptionType::Exclusive));
    assert!(world.all(3).is_empty());
}

#[test]
fn the_end_of_a_topic_is_told_when_all_was_acknowledged() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.append("x", "0");
    let ends = |world: &mut World| {
        world.ask(1, TopicQuestion::AskEnd);
        match world.reply(1) {
            Some(TopicAnswer::EndOfTopic(is_over)) => is_over,
            other => panic!("{other:?}"),
        }
    };
    assert!(!ends(&mut world));
    assert_eq!(world.inquire(TopicInquiry::Terminate(name("x"))).0, 200);
    assert!(!ends(&mut world));
    world.ask(1, TopicQuestion::Ack(at(0, 0)));
    assert!(ends(&mut world));
}

#[test]
fn a_subscription_that_is_not_durable_goes_with_its_last_consumer() {
    let mut world = World::new();
    world.append("x", "0");
    let fleeting =
        || ConsumerOptions { durable: false, ..consuming("x", "s", SubscriptionType::Shared) };
    world.consume(1, fleeting());
    world.ask(2, TopicQuestion::Consume(Box::new(consuming("x", "s", SubscriptionType::Shared))));
    assert_eq!(world.refused(2), Cause::Busy);
    world.consume(2, fleeting());
    world.append("x", "1");
    assert_eq!(world.texts(1).len() + world.texts(2).len(), 1);
    world.ask(1, TopicQuestion::Gone);
    world.ask(2, TopicQuestion::Gone);
    world.append("x", "2");
    world.consume(3, ConsumerOptions { earliest: true, ..fleeting() });
    assert_eq!(world.texts(3), ["0", "1", "2"]);
}

#[test]
fn a_consumer_of_several_topics_has_one_window_and_says_whose_message_it_acknowledges() {
    let mut world = World::new();
    let topics = || WantedTopics::Several(vec![name("x"), name("y")]);
    let flow = Flow::Push(2);
    world.consume(
        1,
        ConsumerOptions { topics: topics(), flow, ..consuming("x", "s", SubscriptionType::Shared) },
    );
    for text in ["0", "1"] {
        world.append("x", &format!("x{text}"));
        world.append("y", &format!("y{text}"));
    }
    let got = world.all(1);
    assert_eq!(got.len(), 2);
    let labels = ["x", "y"].map(|topic| world.label(topic));
    assert_eq!(got.iter().map(|got| got.id.partition).collect::<Vec<_>>(), labels);
    world.ack(1, &got[1]);
    assert_eq!(world.texts(1).len(), 1);
    assert_eq!(
        (world.told("x", "s", "backlog"), world.told("y", "s", "backlog")),
        (2.into(), 1.into())
    );
}

#[test]
fn a_consumer_of_a_pattern_gets_topics_that_come_later_from_their_first_message() {
    let mut world = World::new();
    world.append("a-1", "before");
    world.append("b-1", "other");
    let topics = pattern("a-.*");
    world.consume(1, ConsumerOptions { topics, ..consuming("x", "s", SubscriptionType::Shared) });
    world.append("a-1", "after");
    world.append("b-2", "other");
    world.append("a-2", "new");
    let got = world.all(1);
    assert_eq!(got.iter().map(|got| &*got.text).collect::<Vec<_>>(), ["after", "new"]);
    got.iter().for_each(|got| world.ack(1, got));
    assert_eq!(world.told("a-2", "s", "backlog"), 0);
    world.ask(1, TopicQuestion::Gone);
    world.append("a-3", "nobody");
    assert!(world.told("a-3", "s", "backlog").is_null());
}

#[test]
fn a_consumer_gets_nothing_before_it_was_told_that_it_is_one() {
    for kind in [
        SubscriptionType::Exclusive,
        SubscriptionType::Shared,
        SubscriptionType::Failover,
        SubscriptionType::KeyShared,
    ] {
        let mut world = World::new();
        world.consume(1, consuming("x", "s", kind));
        world.append("x", "0");
        world.ask(1, TopicQuestion::Gone);
        // The disk works for somebody else.
        let draft =
            MessageDraft::new(&TopicMessage { published_ms: START_MS, ..TopicMessage::default() });
        world.take(9, TopicQuestion::Append(name("y"), draft));
        world.topics.seal();
        world.take(2, TopicQuestion::Consume(Box::new(consuming("x", "s", kind))));
        while world.deliver(1024 * 1024) {}
        let early = std::mem::take(&mut world.out);
        assert!(early.is_empty(), "{early:?}");
        world.committed(Ok(()));
        while world.deliver(1024 * 1024) {}
        let told = std::mem::take(&mut world.out);
        assert!(
            matches!(
                &told[..],
                [
                    TopicOutgoing::Reply(_, TopicAnswer::Stored { .. }),
                    TopicOutgoing::Reply(_, TopicAnswer::Opened),
                    TopicOutgoing::Deliver(..)
                ]
            ),
            "{told:?}"
        );
    }
}
