//! Topics that are deleted, or go by themselves, and subscriptions that nobody comes for.

use super::world::*;
use crate::service::topic::*;

fn delete(topic: &str, force: bool) -> TopicInquiry {
    TopicInquiry::Delete { topic: name(topic), force }
}

/// The topics that are stored.
fn stored(world: &mut World) -> Vec<String> {
    let names = world.topics.archive().live.keys();
    names.map(|name| name.rsplit('/').next().unwrap().to_owned()).collect()
}

fn of_pattern(own: &str, subscription: &str) -> ConsumerOptions {
    ConsumerOptions {
        topics: pattern(own),
        ..consuming("x", subscription, SubscriptionType::Shared)
    }
}

#[test]
fn a_deleted_topic_is_gone_with_everything_and_comes_again_as_another_one() {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.produce(2, ProducerOptions { name: Some("p".into()), ..producing("x") });
    let message = TopicMessage {
        producer: Some("p"),
        sequence: Some(7),
        payload: b"old",
        ..TopicMessage::default()
    };
    let old = world.send(2, &message).unwrap();
    world.ask(1, TopicQuestion::Gone);
    world.ask(2, TopicQuestion::Gone);
    let before = world.label("x");
    assert_eq!(world.inquire(delete("x", false)), (200, serde_json::json!({})));
    assert!(stored(&mut world).is_empty() && world.topics.census().topics == 0);
    assert_eq!(world.inquire(delete("x", false)), (404, "Topic does not exist".into()));
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))).0, 404);

    let new = world.append_message("x", &message);
    assert!(new > old, "an id of the old topic means no message of the new one: {old:?} {new:?}");
    assert!(world.label("x") > before);
    assert!(world.told("x", "s", "backlog").is_null());
    let told = world.inquire(TopicInquiry::Stats(name("x"))).1;
    assert_eq!((&told["messagesEver"], &told["messages"]), (&1.into(), &1.into()));
    // Who goes on after a message of the old topic gets all of the new one.
    world.read(3, reading("x", ReaderStart::After(old)));
    assert_eq!(world.texts(3), ["old"]);
}

#[test]
fn ids_of_a_deleted_topic_mean_nothing_in_a_later_run_either() {
    let mut world = World::new();
    let mut last = world.append("x", "0");
    for _ in 0..3 {
        assert_eq!(world.inquire(delete("x", false)).0, 200);
        world.restart();
        world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
        world.ask(1, TopicQuestion::Gone);
        // Nothing was saved of the topic that would tell where it begins.
        world.pass(70_000);
        for _ in 0..2 {
            let next = world.append("x", "1");
            assert!(next > last, "{last:?} {next:?}");
            last = next;
        }
    }
    assert_eq!(world.append("y", "0").position.entry(), 0);
}

#[test]
fn a_topic_with_connections_is_deleted_by_force_alone_which_ends_them() {
    let mut world = World::new();
    world.produce(1, producing("x"));
    world.consume(2, consuming("x", "s", SubscriptionType::Shared));
    world.read(3, reading("x", ReaderStart::Earliest));
    world.consume(
        4,
        ConsumerOptions {
            topics: WantedTopics::Several(vec![name("x"), name("y")]),
            ..consuming("x", "t", SubscriptionType::Shared)
        },
    );
    world.consume(5, of_pattern("[xy]", "u"));
    world.send(1, &TopicMessage { payload: b"0", ..TopicMessage::default() }).unwrap();
    let (status, reason) = world.inquire(delete("x", false));
    assert_eq!(status, 409);
    let reason = reason.as_str().unwrap();
    assert!(
        reason.contains("1 producers and 4 consumers or readers") && reason.contains("use force"),
        "{reason}"
    );
    assert!((1..=5).all(|id| world.reply(id).is_none()));
    assert_eq!(world.told("x", "s", "backlog"), 1);

    assert_eq!(world.inquire(delete("x", true)).0, 200);
    for id in 1..=4 {
        assert_eq!(world.refused(id), Cause::NotFound, "{id}");
    }
    assert_eq!(stored(&mut world), ["y"]);
    assert_eq!((world.topics.peers.producers.len(), world.topics.peers.consumers.len()), (0, 1));
    // Who has a pattern goes on with it, and gets the topic when it comes again.
    assert!(world.reply(5).is_none());
    assert_eq!(world.texts(5), ["0"]);
    world.append("y", "1");
    world.append("x", "2");
    assert_eq!(world.texts(5), ["1", "2"]);
    assert_eq!(world.topics.loaded.topics.len(), 2);
    assert!(world.send(1, &TopicMessage::default()).is_err());
    world.produce(1, producing("x"));
}

#[test]
fn who_is_leaving_is_in_nobodys_way() {
    let mut world = World::new();
    for number in 0..20 {
        world.append(&format!("m{number}"), "0");
    }
    world.consume(1, of_pattern("m.*", "s"));
    world.take(1, TopicQuestion::Gone);
    assert_eq!(world.topics.peers.leaving, 1);
    world.take(999_998, TopicQuestion::Inquire(Box::new(delete("m19", false))));
    world.round();
    assert!(matches!(world.reply(999_998), Some(TopicAnswer::Answer(200, _))));
    assert_eq!((world.topics.peers.consumers.len(), stored(&mut world).len()), (0, 19));
}

#[test]
fn what_waits_for_a_commit_is_answered_before_its_producer_is_ended_and_told_once() {
    let mut world = World::new();
    world.produce(1, producing("x"));
    world.consume(2, consuming("x", "s", SubscriptionType::Shared));
    let draft =
        |text: &[u8]| MessageDraft::new(&TopicMessage { payload: text, ..TopicMessage::default() });
    let send = |text: &[u8]| TopicQuestion::Send { draft: draft(text), context: None };
    world.take(1, send(b"0"));
    // One commit is under way, and one message waits for the next.
    world.topics.seal();
    world.take(1, send(b"1"));
    world.take(999_998, TopicQuestion::Inquire(Box::new(delete("x", true))));
    // A feed makes it anew before that is safe.
    world.take(999_999, TopicQuestion::Append(name("x"), draft(b"new")));
    world.take(
        3,
        TopicQuestion::Consume(Box::new(ConsumerOptions {
            earliest: true,
            ..consuming("x", "s", SubscriptionType::Shared)
        })),
    );
    world.committed(Ok(()));
    world.deliver(1000);
    world.take_out();
    assert!(matches!(world.reply(1), Some(TopicAnswer::Stored { .. })));
    assert!(world.reply(1).is_none() && world.reply(999_998).is_none() && world.all(3).is_empty());
    world.round();
    assert!(matches!(world.reply(1), Some(TopicAnswer::Stored { .. })));
    assert_eq!(world.refused(1), Cause::NotFound);
    assert!(matches!(world.reply(999_998), Some(TopicAnswer::Answer(200, _))));
    assert!(matches!(world.reply(999_999), Some(TopicAnswer::Stored { .. })));
    assert_eq!(world.refused(2), Cause::NotFound);
    assert!(world.all(2).is_empty(), "what was deleted is not delivered");
    assert_eq!(world.texts(3), ["new"]);
    world.crash();
    assert_eq!(world.told("x", "s", "backlog"), 1);
}

#[test]
fn a_deletion_that_is_not_safe_is_told_and_one_that_was_not_committed_is_undone_by_a_crash() {
    let mut world = World::new();
    world.append("x", "0");
    world.sync_fault = Some("the disk is gone");
    assert_eq!(world.inquire(delete("x", false)), (503, "the disk is gone".into()));
    world.crash();
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))).1["messages"], 1);
    world.topics.archive().fault = Some("No space left on device");
    assert_eq!(world.inquire(delete("x", false)).0, 503);
    world.topics.archive().fault = None;
    assert_eq!(world.inquire(TopicInquiry::Stats(name("x"))).1["messages"], 1);
}

#[test]
fn a_partitioned_topic_is_deleted_with_all_partitions_those_beyond_its_number_too() {
    let partitions =
        |count| TopicRules { partitioned: vec![(name("p"), count)], ..TopicRules::default() };
    let mut world = World::with(partitions(8));
    world.consume(1, consuming("p", "s", SubscriptionType::Shared));
    world.append("p-partition-x", "not one");
    world.append("p2", "nor this");
    world.topics.configure(partitions(3));
    assert_eq!(world.inquire(delete("p", false)).0, 409);
    assert_eq!(stored(&mut world).len(), 10, "none of them");
    assert_eq!(world.inquire(delete("p", true)).0, 200);
    assert_eq!(world.refused(1), Cause::NotFound);
    assert!(world.reply(1).is_none(), "it is told once");
    assert_eq!(stored(&mut world), ["p-partition-x", "p2"]);
    assert_eq!(world.inquire(delete("p", true)).0, 404);
    let volatile = TopicName::read("non-persistent://t/n/x").unwrap();
    assert_eq!(world.inquire(TopicInquiry::Delete { topic: volatile, force: true }).0, 404);
}

#[test]
fn who_waits_for_the_place_of_one_that_is_ended_is_the_first_in_the_new_topic() {
    let mut world = World::new();
    world.append("x", "old");
    world.mute.insert(1);
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world
        .ask(2, TopicQuestion::Consume(Box::new(consuming("x", "s", SubscriptionType::Exclusive))));
    assert!(world.reply(2).is_none());
    assert_eq!(world.inquire(delete("x", true)).0, 200);
    assert_eq!(world.refused(1), Cause::NotFound);
    world.opened(2);
    world.append("x", "new");
    assert_eq!(world.texts(2), ["new"]);
    assert_eq!((world.topics.loaded.topics.len(), world.topics.loaded.subs.len()), (1, 1));
}

#[test]
fn a_reader_that_waits_for_a_topic_gets_it_whenever_it_comes_again() {
    let mut world = World::new();
    world.append("x", "old");
    assert_eq!(world.inquire(delete("x", false)).0, 200);
    world.read(1, reading("x", ReaderStart::Latest));
    // It is deleted again before the reader was taken into it.
    let draft = MessageDraft::new(&TopicMessage { payload: b"lost", ..TopicMessage::default() });
    world.take(999_999, TopicQuestion::Append(name("x"), draft));
    world.take(999_998, TopicQuestion::Inquire(Box::new(delete("x", false))));
    world.round();
    assert!(stored(&mut world).is_empty() && world.reply(1).is_none());
    world.append("x", "new");
    assert_eq!(world.texts(1), ["new"]);
}

#[test]
fn nothing_of_a_deleted_topic_is_done_for_one_that_takes_its_place_in_memory() {
    let mut world = World::new();
    world.consume(
        1,
        ConsumerOptions { ack_timeout_ms: 5000, ..consuming("x", "s", SubscriptionType::Shared) },
    );
    for _ in 0..300 {
        world.append("x", "0");
    }
    assert_eq!(world.all(1).len(), 300);
    world.take(999_998, TopicQuestion::Inquire(Box::new(delete("x", true))));
    world.committed(Ok(()));
    world.take_out();
    world.consume(2, consuming("y", "s", SubscriptionType::Shared));
    for _ in 0..300 {
        world.append("y", "0");
    }
    world.pass(10_000);
    let got = world.all(2);
    assert!(got.len() == 300 && got.iter().all(|got| got.redeliveries == 0));
    assert!(world.topics.works.queue.is_empty());
    let pending = world.topics.loaded.timers.iter();
    let pending = pending
        .filter(|(_, timer)| matches!(timer, crate::service::topic::timers::Timer::Pending(..)));
    assert_eq!(pending.count(), 0, "no timer is left of it");
}

#[test]
fn a_topic_that_nobody_has_any_use_for_goes_by_itself_and_makes_room() {
    let mut world =
        World::with(TopicRules { topics_max: 3, retention_s: 100, ..TopicRules::default() });
    world.produce(1, producing("by-a-producer"));
    world.append("with-a-message", "0");
    world.consume(2, consuming("with-a-subscription", "s", SubscriptionType::Exclusive));
    world.ask(2, TopicQuestion::Gone);
    world.ask(3, TopicQuestion::Produce(Box::new(producing("more"))));
    assert_eq!(world.refused(3), Cause::TooMany);
    world.pass(200_000);
    assert_eq!(
        stored(&mut world).len(),
        2,
        "a producer uses it; the message is too old: {:?}",
        stored(&mut world)
    );
    world.ask(1, TopicQuestion::Gone);
    world.pass(59_000);
    assert_eq!(stored(&mut world), ["by-a-producer", "with-a-subscription"]);
    world.pass(2000);
    assert_eq!(stored(&mut world), ["with-a-subscription"]);
    assert_eq!((world.topics.census().topics, world.topics.census().idle), (1, 2));
    world.crash();
    assert_eq!(stored(&mut world), ["with-a-subscription"]);
    world.produce(3, producing("more"));
    assert_eq!(world.told("with-a-subscription", "s", "backlog"), 0);
}

#[test]
fn a_terminated_topic_and_one_with_messages_that_wait_for_their_time_stay() {
    let mut world = World::with(TopicRules { retention_s: 0, ..TopicRules::default() });
    world.append("ended", "0");
    assert_eq!(world.inquire(TopicInquiry::Terminate(name("ended"))).0, 200);
    let deliver_ms = Some(world.now.unix_ms + 400_000);
    world.append_message("later", &TopicMessage { deliver_ms, ..TopicMessage::default() });
    world.pass(300_000);
    assert_eq!(stored(&mut world), ["ended", "later"]);
    world.pass(300_000);
    assert_eq!(stored(&mut world), ["ended"]);
}

#[test]
fn the_sweep_finds_those_of_an_earlier_run_and_knows_how_long_they_were_idle() {
    let mut world = World::with(TopicRules { idle_delete_s: 3600, ..TopicRules::default() });
    world.produce(1, producing("x"));
    world.ask(1, TopicQuestion::Gone);
    for _ in 0..5 {
        world.pass(600_000);
        assert_eq!(stored(&mut world), ["x"]);
        world.restart();
    }
    world.pass(500_000);
    assert_eq!(stored(&mut world), ["x"]);
    world.pass(250_000);
    assert!(stored(&mut world).is_empty());
    world.rules.idle_delete_s = 0;
    world.topics.configure(world.rules.clone());
    world.produce(1, producing("x"));
    world.ask(1, TopicQuestion::Gone);
    world.pass(10_000_000);
    assert_eq!(stored(&mut world), ["x"], "0 is never");
}

#[test]
fn a_subscription_that_nobody_comes_for_is_deleted_with_what_waits_in_it() {
    let mut world =
        World::with(TopicRules { subscription_expiry_s: 1000, ..TopicRules::default() });
    for subscription in ["used", "unused"] {
        world.consume(1, consuming("x", subscription, SubscriptionType::Exclusive));
        world.ask(1, TopicQuestion::Gone);
    }
    world.append("x", "0");
    world.consume(1, consuming("x", "used", SubscriptionType::Exclusive));
    for part in 0..3 {
        // It is in use for as long as there is a consumer, whatever that does; a restart changes
        // nothing.
        world.pass(300_000);
        assert_eq!(world.told("x", "unused", "backlog"), 1, "{part}");
        if part == 1 {
            world.crash();
            world.consume(1, consuming("x", "used", SubscriptionType::Exclusive));
        }
    }
    world.pass(300_000);
    assert!(world.told("x", "unused", "backlog").is_null());
    assert_eq!(world.told("x", "used", "backlog"), 1);
    assert_eq!(world.topics.census().expired, 1);
    world.pass(3_000_000);
    assert_eq!(world.told("x", "used", "backlog"), 1);
    // Where the daemon was killed while it was in use, the start counts.
    world.crash();
    world.pass(900_000);
    assert_eq!(world.told("x", "used", "backlog"), 1);
    world.pass(300_000);
    // With its last subscription the topic has no use, when its message is old enough.
    assert!(stored(&mut world).is_empty());
}

#[test]
fn the_last_use_of_a_subscription_is_saved_when_it_changes_and_not_by_messages() {
    let mut world =
        World::with(TopicRules { subscription_expiry_s: 1000, ..TopicRules::default() });
    world.consume(
        1,
        ConsumerOptions { flow: Flow::Push(1), ..consuming("x", "s", SubscriptionType::Exclusive) },
    );
    world.append("x", "first");
    world.pass(2000);
    let calls = world.topics.archive().calls;
    for _ in 0..50 {
        world.append("x", "0");
        world.pass(100);
    }
    assert_eq!(
        world.topics.archive().calls,
        calls,
        "nothing is saved of a subscription that waits"
    );
}

#[test]
fn where_no_subscription_expires_nothing_is_saved_of_who_comes_and_goes_and_later_it_counts_from_then()
 {
    let mut world = World::new();
    world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
    world.append("x", "0");
    world.pass(2000);
    let saved = |world: &mut World| {
        world.topics.archive().live[name("x").as_str()].subscriptions["s"].clone()
    };
    let before = saved(&mut world);
    for _ in 0..3 {
        world.ask(1, TopicQuestion::Gone);
        world.pass(2000);
        world.consume(1, consuming("x", "s", SubscriptionType::Exclusive));
        world.pass(2000);
    }
    world.ask(1, TopicQuestion::Gone);
    assert_eq!(saved(&mut world), before);
    world.pass(5_000_000);
    world.rules.subscription_expiry_s = 1000;
    world.topics.configure(world.rules.clone());
    world.pass(900_000);
    assert_eq!(world.told("x", "s", "backlog"), 1);
    world.pass(300_000);
    assert_eq!(world.topics.census().expired, 1);
}

#[test]
fn what_the_connections_of_a_deleted_topic_say_before_they_are_ended_comes_to_nothing() {
    let mut world = World::new();
    for id in 1..=400 {
        let shared = consuming("x", "s", SubscriptionType::Shared);
        let flow = Flow::Push(3);
        world.consume(
            id,
            ConsumerOptions { flow, ack_timeout_ms: 5000, redeliveries_max: 1, ..shared },
        );
        world.produce(1000 + id, producing("x"));
    }
    for _ in 0..1300 {
        let draft = MessageDraft::new(&TopicMessage { payload: b"0", ..TopicMessage::default() });
        world.take(999_999, TopicQuestion::Append(name("x"), draft));
    }
    world.round();
    let got: Vec<Vec<Got>> = (1..=400).map(|id| world.all(id)).collect();
    assert!(got.iter().all(|got| got.len() == 3));
    world.take(999_998, TopicQuestion::Inquire(Box::new(delete("x", true))));
    for (id, got) in (1..).zip(&got) {
        world.take(id, TopicQuestion::Ack(got[0].id));
        world.take(id, TopicQuestion::Nack(got[1].id));
        world.take(id, if id % 2 > 0 { TopicQuestion::Unsubscribe } else { TopicQuestion::AskEnd });
        let draft =
            MessageDraft::new(&TopicMessage { payload: b"late", ..TopicMessage::default() });
        world.take(1000 + id, TopicQuestion::Send { draft, context: None });
        if id % 50 == 0 {
            world.work();
            world.topics.save(world.now);
            world.deliver(1024);
        }
        if id == 300 {
            world.now.monotonic_ns += 6_000_000_000;
            world.tick();
        }
    }
    world.pass(100_000);
    assert!((1..=400).all(|id| world.all(id).is_empty()));
    assert!(stored(&mut world).is_empty(), "nor are there dead letters: {:?}", stored(&mut world));
    assert_eq!(
        (
            world.topics.loaded.topics.len(),
            world.topics.loaded.subs.len(),
            world.topics.peers.consumers.len()
        ),
        (0, 0, 0)
    );
    let is_late = |reply: &TopicAnswer| matches!(reply, TopicAnswer::Stored { .. });
    assert!(
        !world
            .replies
            .iter()
            .any(|(id, replies)| *id > 1000 && *id <= 1400 && replies.iter().any(is_late))
    );
}

#[test]
fn who_is_ended_before_it_was_told_that_it_is_open_is_refused() {
    let mut world = World::new();
    world.take(1, TopicQuestion::Consume(Box::new(consuming("x", "s", SubscriptionType::Shared))));
    world.topics.seal();
    world.take(2, TopicQuestion::Consume(Box::new(consuming("x", "s", SubscriptionType::Shared))));
    world.take(999_998, TopicQuestion::Inquire(Box::new(delete("x", true))));
    world.committed(Ok(()));
    world.round();
    for id in [1, 2] {
        assert_eq!(world.refused(id), Cause::NotFound);
        assert!(world.reply(id).is_none());
    }
}
