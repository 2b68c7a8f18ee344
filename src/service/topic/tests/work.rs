//! What takes long is done in slices, and nobody else waits for it.

use super::world::*;
use crate::service::Service as _;
use crate::service::topic::opening::{OpeningStage, WantedNames};
use crate::service::topic::*;
use std::collections::BTreeSet;

/// Topics enough for many slices.
pub(super) const MANY: usize = 2000;
/// What the archive may be asked in one slice: to load and save 32 topics and list names, several
/// times over.
pub(super) const CALLS_MAX: usize = 300;

pub(super) fn topic(number: usize) -> String {
    format!("m{number:05}")
}

pub(super) fn with_topics(count: usize) -> World {
    let mut world = World::new();
    for number in 0..count {
        let draft =
            MessageDraft::new(&TopicMessage { published_ms: START_MS, ..TopicMessage::default() });
        world.take(999_999, TopicQuestion::Append(name(&topic(number)), draft));
    }
    world.round();
    world.replies.clear();
    world
}

pub(super) fn of_pattern(subscription: &str, kind: SubscriptionType) -> TopicQuestion {
    TopicQuestion::Consume(Box::new(ConsumerOptions {
        topics: pattern("m.*"),
        ..consuming("x", subscription, kind)
    }))
}

/// Somebody's message, and whether its answer leaves without any work being done meanwhile.
pub(super) fn is_served(world: &mut World) -> bool {
    let draft = MessageDraft::new(&TopicMessage {
        published_ms: world.now.unix_ms,
        ..TopicMessage::default()
    });
    world.take(888, TopicQuestion::Append(name("bystander"), draft));
    world.committed(Ok(()));
    world.take_out();
    matches!(world.reply(888), Some(TopicAnswer::Stored { .. }))
}

/// Works until there is no more, with somebody else's requests in between. Returns how many slices
/// it took.
pub(super) fn work(world: &mut World) -> usize {
    for slices in 1.. {
        world.topics.archive().calls = 0;
        let has_more = world.work();
        let calls = world.topics.archive().calls;
        assert!(calls <= CALLS_MAX, "{calls} calls in one slice");
        assert!(is_served(world));
        if !has_more {
            world.round();
            return slices;
        }
    }
    unreachable!()
}

#[test]
fn a_handshake_over_very_many_topics_keeps_nobody_waiting_and_gets_all_of_them() {
    let mut world = with_topics(MANY);
    world.take(1, of_pattern("s", SubscriptionType::Shared));
    assert!(is_served(&mut world) && world.reply(1).is_none());
    assert!(work(&mut world) > MANY / 64);
    world.opened(1);
    for number in [0, 1, MANY / 2, MANY - 1] {
        world.append(&topic(number), &number.to_string());
        assert_eq!(world.texts(1), [number.to_string()]);
    }
    // What is there already costs as little.
    world.take(2, of_pattern("s", SubscriptionType::Shared));
    assert!(work(&mut world) > MANY / 64);
    world.opened(2);
}

#[test]
fn who_leaves_very_many_topics_keeps_nobody_waiting_not_even_its_heir() {
    let mut world = with_topics(MANY);
    world.take(1, of_pattern("s", SubscriptionType::Exclusive));
    world.round();
    world.opened(1);
    let last = topic(MANY - 1);
    world.append(&last, "held");
    assert_eq!(world.texts(1), ["held"]);
    world.take(1, TopicQuestion::Gone);
    let heir = TopicQuestion::Consume(Box::new(consuming(&last, "s", SubscriptionType::Exclusive)));
    world.take(2, heir);
    assert!(is_served(&mut world));
    world.opened(2);
    world.deliver(1024 * 1024);
    world.take_out();
    assert_eq!(world.texts(2), ["held"], "although the other has not left all of its topics yet");
    assert!(work(&mut world) > MANY / 64);
    world.append(&topic(0), "for nobody");
    assert!(world.all(1).is_empty());
    assert_eq!((world.topics.peers.consumers.len(), world.topics.peers.leaving), (1, 0));
    let forget = TopicInquiry::Forget { topic: name(&topic(5)), subscription: "s".into() };
    assert_eq!(world.inquire(forget).0, 200);
}

#[test]
fn who_leaves_while_it_is_taken_into_its_topics_leaves_nothing_behind() {
    let mut world = with_topics(MANY);
    for id in 1..4 {
        world.take(id, of_pattern("s", SubscriptionType::Exclusive));
        world.work();
        world.take(id, TopicQuestion::Gone);
    }
    world.take(4, of_pattern("s", SubscriptionType::Exclusive));
    world.round();
    assert!(world.reply(1).is_none());
    world.opened(4);
    assert_eq!((world.topics.peers.consumers.len(), world.topics.peers.matching.len()), (1, 1));
    world.append(&topic(7), "7");
    assert_eq!(world.texts(4), ["7"]);
}

#[test]
fn a_subscription_of_very_many_topics_is_deleted_in_slices_or_not_at_all() {
    let mut world = with_topics(MANY);
    for id in [1, 2] {
        world.take(id, of_pattern("s", SubscriptionType::Shared));
        world.round();
        world.opened(id);
    }
    world.take(1, TopicQuestion::Unsubscribe);
    world.round();
    assert!(matches!(world.reply(1), Some(TopicAnswer::StillSubscribed)));
    assert_eq!(world.told(&topic(0), "s", "backlog"), 0);
    world.ask(2, TopicQuestion::Gone);
    world.take(1, TopicQuestion::Unsubscribe);
    assert!(work(&mut world) > MANY / 64);
    assert!(world.reply(1).is_none());
    for number in [0, MANY - 1] {
        assert!(world.told(&topic(number), "s", "backlog").is_null());
    }
}

#[test]
fn new_rights_are_held_against_very_many_topics_in_slices() {
    let mut world = with_topics(MANY);
    world.take(1, of_pattern("s", SubscriptionType::Shared));
    world.round();
    world.opened(1);
    let rights = Rights::new([], ["t/n/m00*"], []);
    world.take(1, TopicQuestion::Renew(Box::new(rights)));
    assert!(work(&mut world) > MANY / 64);
    for (number, expected) in [(0, 1), (999, 1), (1000, 0), (MANY - 1, 0)] {
        world.append(&topic(number), "0");
        assert_eq!(world.all(1).len(), expected, "{number}");
    }
    world.append("m00-new", "0");
    world.append("m01-new", "0");
    assert_eq!((world.all(1).len(), world.reply(1).is_none()), (1, true));
}

#[test]
fn who_is_in_the_way_in_one_of_very_many_topics_is_looked_at_before_anything_is_changed() {
    let mut world = with_topics(MANY);
    world.consume(1, consuming(&topic(MANY - 1), "s", SubscriptionType::Exclusive));
    for is_dead in [false, true] {
        if is_dead {
            world.mute.insert(1);
        }
        world.take(2, of_pattern("s", SubscriptionType::Exclusive));
        assert!(work(&mut world) > MANY / 64);
        assert!(world.reply(2).is_none(), "it waits for what becomes of the other");
        // Whoever is not mute says now that it lives.
        assert!(world.told(&topic(0), "s", "backlog").is_null(), "nothing is created yet");
        if is_dead {
            world.ask(1, TopicQuestion::Gone);
            world.opened(2);
        } else {
            assert_eq!(world.refused(2), Cause::Busy);
        }
    }
    assert_eq!(world.told(&topic(0), "s", "backlog"), 0);
}

#[test]
fn a_pattern_has_all_topics_however_many_there_are() {
    let mut world = with_topics(10_005);
    world.ask(1, of_pattern("s", SubscriptionType::Shared));
    world.opened(1);
    for number in [0, 9999, 10_000, 10_004] {
        world.append(&topic(number), "0");
        assert_eq!(world.texts(1).len(), 1, "{number}");
    }
    world.append("m-new", "0");
    assert_eq!(world.texts(1).len(), 1);
}

#[test]
fn who_cannot_have_a_new_topic_of_its_pattern_is_told_why_and_is_no_consumer_any_more() {
    let mut world = with_topics(2);
    world.ask(1, of_pattern("s", SubscriptionType::Exclusive));
    world.opened(1);
    // Somebody else is the first in the new topic.
    world.consume(2, consuming("m-new", "s", SubscriptionType::Exclusive));
    match world.reply(1) {
        Some(TopicAnswer::Refused(refusal)) => {
            assert_eq!(
                (refusal.cause, &*refusal.reason),
                (Cause::Busy, "Exclusive consumer is already connected")
            );
        }
        other => panic!("{other:?}"),
    }
    world.append(&topic(0), "0");
    assert!(world.all(1).is_empty());
    world.consume(3, consuming(&topic(0), "s", SubscriptionType::Exclusive));
    assert_eq!(world.texts(3), ["0"]);
}

/// Lets a consumer of a pattern join the first of its topics. Returns the last one it has joined.
fn join_some(world: &mut World, id: u32) -> Box<str> {
    world.take(id, of_pattern("s", SubscriptionType::Shared));
    loop {
        if let Some(opening) = world.topics.peers.openings.get(&connection(id))
            && let (OpeningStage::Joining(_), WantedNames::Matching(after)) =
                (&opening.stage, &opening.names)
            && let Some((_, last)) = after.rsplit_once('/')
        {
            return last.into();
        }
        assert!(world.work(), "it has joined all of them already");
    }
}

fn send_one(world: &mut World, topic: &str) {
    let message = TopicMessage { published_ms: START_MS, ..TopicMessage::default() };
    world.take(999_999, TopicQuestion::Append(name(topic), MessageDraft::new(&message)));
}

#[test]
fn a_new_topic_that_a_pattern_comes_to_by_itself_begins_where_its_consumer_asked_for() {
    let mut world = with_topics(MANY);
    let last = join_some(&mut world, 1);
    let (past, next) = ("m00000-new", format!("{last}-new"));
    send_one(&mut world, &next);
    send_one(&mut world, past);
    assert!(work(&mut world) > 1);
    world.opened(1);
    assert_eq!(world.told(&next, "s", "backlog"), 0, "it asked for the latest");
    assert_eq!(world.told(past, "s", "backlog"), 1, "announced: it had gone past it");
    assert_eq!(world.all(1).len(), 1);
}

#[test]
fn a_new_topic_begins_with_its_first_message_if_another_consumer_was_promised_it() {
    let mut world = with_topics(MANY);
    world.take(1, of_pattern("s", SubscriptionType::Shared));
    world.round();
    world.opened(1);
    let next = format!("{}-new", join_some(&mut world, 2));
    send_one(&mut world, &next);
    assert!(work(&mut world) > 1);
    world.opened(2);
    assert_eq!(world.told(&next, "s", "backlog"), 1);
    assert_eq!(world.all(1).len() + world.all(2).len(), 1);
}

#[test]
fn consumers_of_patterns_get_new_topics_in_slices() {
    let mut world = with_topics(1);
    for id in 1..=600 {
        world.take(id, of_pattern("s", SubscriptionType::Shared));
    }
    world.round();
    world.take(
        999_999,
        TopicQuestion::Append(name("m-new"), MessageDraft::new(&TopicMessage::default())),
    );
    assert!(work(&mut world) > 600 / 64);
    let told = world.inquire(TopicInquiry::Stats(name("m-new"))).1;
    assert_eq!(told["subscriptions"]["s"]["consumers"].as_array().unwrap().len(), 600);
}

#[test]
fn very_many_partitions_of_a_producer_are_loaded_in_slices() {
    let rules = TopicRules { partitioned: vec![(name("p"), 1000)], ..TopicRules::default() };
    let mut world = World::with(rules);
    world.take(1, TopicQuestion::Produce(Box::new(producing("p"))));
    world.take(2, TopicQuestion::Produce(Box::new(producing("p"))));
    world.take(2, TopicQuestion::Gone);
    assert!(work(&mut world) > 1000 / 64);
    world.opened(1);
    assert!(world.reply(2).is_none());
    assert_eq!(world.topics.peers.producers.len(), 1);
    world.send(1, &TopicMessage::default()).unwrap();
}

#[test]
fn too_many_works_at_a_time_are_refused_and_told_to_come_again() {
    let mut world = with_topics(1);
    for id in 1..=1001 {
        world.take(id, of_pattern("s", SubscriptionType::Shared));
    }
    world.take_out();
    assert_eq!(world.refused(1001), Cause::TooMany);
    world.round();
    world.opened(1000);
    assert_eq!(world.topics.peers.consumers.len(), 1000);
}

#[test]
fn very_many_names_are_listed_in_slices() {
    let mut world = with_topics(MANY);
    let list =
        TopicInquiry::List { prefix: "persistent://t/n/m".into(), after: "".into(), count: 10_000 };
    world.take(999_998, TopicQuestion::Inquire(Box::new(list)));
    assert!(work(&mut world) > MANY / 300);
    let Some(TopicAnswer::Answer(200, body)) = world.reply(999_998) else { panic!() };
    let names: Vec<String> = serde_json::from_slice(&body).unwrap();
    assert!(names.len() == MANY && names.is_sorted() && names[7] == name(&topic(7)).as_str());
}

#[test]
fn statistics_of_very_many_connections_are_told_in_pages_and_keep_nobody_waiting() {
    let mut world = with_topics(MANY + 500);
    for id in 1..=3 {
        world.take(id, of_pattern(&format!("s{id}"), SubscriptionType::Shared));
    }
    world.round();
    let (mut after, mut names, mut pages) = (String::new(), BTreeSet::new(), 0);
    loop {
        let inquiry = TopicInquiry::ProxyStats {
            rights: Rights::ALL,
            after: after.as_str().into(),
            count: 1000,
        };
        world.take(999_998, TopicQuestion::Inquire(Box::new(inquiry)));
        assert!(work(&mut world) > 3 * MANY / 300);
        let Some(TopicAnswer::Answer(200, body)) = world.reply(999_998) else { panic!() };
        let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let page = page.as_object().unwrap();
        let Some(last) = page.keys().max() else { break };
        pages += 1;
        assert!(page.len() <= 1000 && *last > after);
        after.clone_from(last);
        for (name, told) in page {
            assert!(names.insert(name.clone()), "{name} is told twice");
            assert_eq!(told["consumerStats"].as_array().unwrap().len(), 3);
        }
    }
    assert_eq!((names.len(), pages), (MANY + 500, 3));
}

#[test]
fn a_page_has_no_more_connections_than_it_may_and_one_topic_says_how_many_are_left_out() {
    let mut world = World::new();
    for id in 1..=5010 {
        world.take(id, TopicQuestion::Produce(Box::new(producing("b"))));
    }
    for id in [6001, 6002] {
        world.take(id, TopicQuestion::Produce(Box::new(producing("a"))));
    }
    world.round();
    let page = |world: &mut World, after: &str| {
        world
            .inquire(TopicInquiry::ProxyStats {
                rights: Rights::ALL,
                after: after.into(),
                count: 1000,
            })
            .1
    };
    let first = page(&mut world, "");
    assert_eq!(first.as_object().unwrap().keys().collect::<Vec<_>>(), ["persistent://t/n/a"]);
    assert_eq!(first["persistent://t/n/a"]["producerStats"].as_array().unwrap().len(), 2);
    let second = page(&mut world, "persistent://t/n/a");
    let told = &second["persistent://t/n/b"];
    assert_eq!(
        (told["producerStats"].as_array().unwrap().len(), &told["omitted"]),
        (5000, &10.into())
    );
    assert_eq!(page(&mut world, "persistent://t/n/b"), serde_json::json!({}));
}

#[test]
fn what_very_many_topics_have_due_at_a_time_is_done_in_slices() {
    let mut world = with_topics(MANY);
    world.pass(10_000);
    world.now.monotonic_ns += 100_000_000_000;
    world.now.unix_ms += 100_000;
    let mut ticks = 0;
    while world.topics.next_at_ns().is_some_and(|at_ns| at_ns <= world.now.monotonic_ns) {
        let before = world.topics.loaded.topics.len();
        world.topics.archive().calls = 0;
        world.tick();
        assert!(
            before - world.topics.loaded.topics.len() <= 130
                && world.topics.archive().calls <= CALLS_MAX
        );
        ticks += 1;
    }
    assert!(ticks > MANY / 130, "{ticks}");
}

/// A topic with very many subscriptions, and nobody in them.
fn with_subscriptions(count: usize) -> World {
    let mut world =
        World::with(TopicRules { subscription_expiry_s: 1000, ..TopicRules::default() });
    for number in 0..count {
        let sub = TopicQuestion::Consume(Box::new(consuming(
            "x",
            &format!("s{number:05}"),
            SubscriptionType::Exclusive,
        )));
        world.take(1, sub);
        world.take(1, TopicQuestion::Gone);
    }
    world.append("x", "0");
    world.topics.save(world.now);
    world.round();
    world.replies.clear();
    world
}

#[test]
fn a_topic_with_very_many_subscriptions_is_told_in_slices() {
    let mut world = with_subscriptions(MANY);
    world.take(999_998, TopicQuestion::Inquire(Box::new(TopicInquiry::Stats(name("x")))));
    assert!(work(&mut world) > MANY / 300);
    let Some(TopicAnswer::Answer(200, body)) = world.reply(999_998) else { panic!() };
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["messages"], 1);
    let subscriptions = told["subscriptions"].as_object().unwrap();
    assert!(subscriptions.len() == MANY && subscriptions.values().all(|sub| sub["backlog"] == 1));
}

#[test]
fn of_very_many_connections_a_topic_tells_some_and_how_many_there_are() {
    let mut world = World::new();
    for id in 1..=1010 {
        world.take(id, TopicQuestion::Produce(Box::new(producing("x"))));
        let sub = TopicQuestion::Consume(Box::new(consuming("x", "s", SubscriptionType::Shared)));
        world.take(10_000 + id, sub);
    }
    let told = world.inquire(TopicInquiry::Stats(name("x"))).1;
    assert_eq!(
        (told["producers"].as_array().unwrap().len(), &told["producersConnected"]),
        (1000, &1010.into())
    );
    let sub = &told["subscriptions"]["s"];
    assert_eq!(
        (sub["consumers"].as_array().unwrap().len(), &sub["consumersConnected"]),
        (1000, &1010.into())
    );
}

#[test]
fn a_topic_with_very_many_subscriptions_is_purged_in_slices_up_to_what_it_had() {
    let mut world = with_subscriptions(MANY);
    world.consume(1, consuming("x", &format!("s{:05}", MANY - 1), SubscriptionType::Exclusive));
    assert_eq!(world.texts(1), ["0"]);
    let purge = TopicInquiry::Purge { topic: name("x"), subscription: None };
    world.take(999_998, TopicQuestion::Inquire(Box::new(purge)));
    world.work();
    let later = MessageDraft::new(&TopicMessage { payload: b"later", ..TopicMessage::default() });
    world.take(777, TopicQuestion::Append(name("x"), later));
    assert!(work(&mut world) > MANY / 64);
    assert!(matches!(world.reply(999_998), Some(TopicAnswer::Answer(200, _))));
    for subscription in ["s00000", "s01999"] {
        assert_eq!(
            world.told("x", subscription, "backlog"),
            1,
            "{subscription} keeps what came after"
        );
    }
    assert_eq!(world.texts(1), ["later"]);
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))).1["messages"], 1);
}

#[test]
fn a_topic_that_is_deleted_while_it_is_purged_is_not_there() {
    let mut world = with_subscriptions(MANY);
    let purge = TopicInquiry::Purge { topic: name("x"), subscription: None };
    world.take(7, TopicQuestion::Inquire(Box::new(purge)));
    world.take(8, TopicQuestion::Inquire(Box::new(TopicInquiry::Stats(name("x")))));
    world.work();
    world.take(
        9,
        TopicQuestion::Inquire(Box::new(TopicInquiry::Delete { topic: name("x"), force: false })),
    );
    world.append("x", "new");
    world.round();
    assert!(matches!(world.reply(7), Some(TopicAnswer::Answer(404, _))));
    assert!(matches!(world.reply(8), Some(TopicAnswer::Answer(404, _))));
    assert!(matches!(world.reply(9), Some(TopicAnswer::Answer(200, _))));
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))).1["messages"], 1);
}

#[test]
fn a_topic_with_very_many_connections_and_subscriptions_is_deleted_in_slices_and_gone_at_once() {
    let mut world = with_subscriptions(MANY);
    for id in 1..=1000 {
        world.take(2000 + id, TopicQuestion::Produce(Box::new(producing("x"))));
        let sub =
            TopicQuestion::Consume(Box::new(consuming("x", "shared", SubscriptionType::Shared)));
        world.take(10_000 + id, sub);
    }
    world.round();
    world.replies.clear();
    let subs = world.topics.loaded.subs.len();
    assert_eq!(subs, MANY + 1);
    let delete = TopicInquiry::Delete { topic: name("x"), force: true };
    world.take(999_998, TopicQuestion::Inquire(Box::new(delete)));
    let new = MessageDraft::new(&TopicMessage { payload: b"new", ..TopicMessage::default() });
    world.take(777, TopicQuestion::Append(name("x"), new));
    world.take(888_888, TopicQuestion::Read(Box::new(reading("x", ReaderStart::Earliest))));
    assert!(work(&mut world) > (1000 + 1000 + MANY) / 300);
    assert_eq!(world.texts(888_888), ["new"]);
    assert!((2001..=3000).all(|id| world.refused(id) == Cause::NotFound));
    assert!((10_001..=11_000).all(|id| world.refused(id) == Cause::NotFound));
    assert_eq!((world.topics.peers.producers.len(), world.topics.peers.consumers.len()), (0, 1));
    assert_eq!(
        (world.topics.loaded.subs.len(), world.topics.loaded.topics.len()),
        (1, 2),
        "and the bystander"
    );
}

#[test]
fn very_many_partitions_are_deleted_in_slices() {
    let rules = TopicRules { partitioned: vec![(name("p"), 1000)], ..TopicRules::default() };
    let mut world = World::with(rules);
    world.produce(1, producing("p"));
    let delete =
        |force| TopicQuestion::Inquire(Box::new(TopicInquiry::Delete { topic: name("p"), force }));
    world.take(999_998, delete(false));
    assert!(work(&mut world) >= 1);
    assert!(matches!(world.reply(999_998), Some(TopicAnswer::Answer(409, _))));
    world.take(999_998, delete(true));
    assert!(work(&mut world) > 2 * 1000 / 64);
    assert!(matches!(world.reply(999_998), Some(TopicAnswer::Answer(200, _))));
    assert_eq!(world.refused(1), Cause::NotFound);
    assert_eq!(
        (world.topics.loaded.topics.len(), world.topics.census().topics),
        (1, 1),
        "the bystander"
    );
}

#[test]
fn very_many_subscriptions_that_nobody_comes_for_go_in_slices() {
    let mut world = with_subscriptions(MANY);
    world.now.unix_ms += 2_000_000;
    world.now.monotonic_ns += 2_000_000_000_000;
    world.topics.expire_subs(world.topics.catalog.names[name("x").as_str()]);
    assert!(work(&mut world) > MANY / 64);
    assert_eq!(
        world.inquire(TopicInquiry::Stats(name("x"))).1["subscriptions"],
        serde_json::json!({})
    );
    assert_eq!(world.topics.census().expired, MANY as u64);
}

#[test]
fn the_largest_of_very_many_backlogs_are_looked_for_in_slices() {
    let mut world = with_subscriptions(3 * MANY);
    world.consume(1, consuming("x", "s00007", SubscriptionType::Exclusive));
    world.append("x", "1");
    for got in world.all(1) {
        world.ack(1, &got);
    }
    assert!(world.topics.backlogs().is_empty(), "they are being looked for");
    assert!(work(&mut world) > 3 * MANY / 300);
    let backlogs = world.topics.backlogs();
    assert_eq!((backlogs.len(), backlogs[0].messages), (100, 2));
    assert!(backlogs.iter().all(|told| &*told.subscription != "s00007"));
}

#[test]
fn a_pattern_gets_a_new_topic_from_its_first_message_although_another_consumer_of_it_comes_first() {
    let mut world = with_topics(1);
    world.ask(1, of_pattern("s", SubscriptionType::Shared));
    world.opened(1);
    let draft = MessageDraft::new(&TopicMessage { payload: b"first", ..TopicMessage::default() });
    world.take(999_999, TopicQuestion::Append(name("m-new"), draft));
    let latest =
        ConsumerOptions { flow: Flow::Pull, ..consuming("m-new", "s", SubscriptionType::Shared) };
    world.take(2, TopicQuestion::Consume(Box::new(latest)));
    world.round();
    world.opened(2);
    assert_eq!(world.texts(1), ["first"]);
}
