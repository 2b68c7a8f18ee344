//! Several owners: what a connection of theirs is told and gets is what one owner would have told
//! and given.

use super::company::Company;
use super::world::*;
use crate::service::topic::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

const TOPICS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn several() -> WantedTopics {
    WantedTopics::Several(TOPICS.iter().map(|topic| name(topic)).collect())
}

fn consume_of(topics: WantedTopics, kind: SubscriptionType) -> TopicQuestion {
    TopicQuestion::Consume(Box::new(ConsumerOptions { topics, ..consuming("x", "s", kind) }))
}

/// How many topics each owner has.
fn counts(company: &mut Company) -> Vec<usize> {
    company.owners.iter_mut().map(|topics| topics.archive().live.len()).collect()
}

#[test]
fn a_consumer_of_topics_of_several_owners_gets_all_in_the_order_of_each_and_never_more_than_its_window()
 {
    for owners in [2, 3, 5] {
        for (window, kind, topics) in [
            (1, SubscriptionType::Exclusive, several()),
            (3, SubscriptionType::Shared, several()),
            (7, SubscriptionType::KeyShared, several()),
            (2, SubscriptionType::Failover, pattern("[a-f]")),
        ] {
            let mut company = Company::new(owners, &TopicRules::default());
            company.consume(1, topics, Flow::Push(window), kind);
            for number in 0..30 {
                TOPICS.iter().for_each(|topic| company.append(topic, &format!("{topic}{number}")));
            }
            let (mut had, mut unacknowledged) = (BTreeMap::<String, usize>::new(), VecDeque::new());
            loop {
                unacknowledged.extend(company.take(1));
                assert!(unacknowledged.len() <= window as usize, "{}", unacknowledged.len());
                let Some(got) = unacknowledged.pop_front() else { break };
                let (topic, number) = got.text.split_at(1);
                let next = had.entry(topic.to_owned()).or_default();
                assert_eq!(number, next.to_string(), "{kind:?} {topic}");
                *next += 1;
                company.ask(1, TopicQuestion::Ack(got.id));
            }
            assert!(TOPICS.iter().all(|topic| had[*topic] == 30), "{had:?}");
            for topic in TOPICS {
                assert_eq!(company.told(topic, "backlog"), 0);
            }
            assert!(counts(&mut company).iter().all(|count| *count < TOPICS.len()));
        }
    }
}

#[test]
fn topics_of_no_owner_wait_while_there_is_much_in_those_of_another() {
    let mut company = Company::new(2, &TopicRules::default());
    let owned = |owner| {
        TOPICS.into_iter().find(|topic| OwnerIndex::of_topic(&name(topic), 2) == owner).unwrap()
    };
    let (one, other) = (owned(0), owned(1));
    company.consume(1, several(), Flow::Push(1), SubscriptionType::Shared);
    for _ in 0..100 {
        company.append(one, "one");
    }
    company.append(other, "other");
    for turn in 0.. {
        let got = company.take(1);
        assert_eq!(got.len(), 1);
        if got[0].text == "other" {
            break;
        }
        assert!(turn < 3, "it has its turn after one of the other");
        company.ask(1, TopicQuestion::Ack(got[0].id));
    }
}

#[test]
fn what_is_pulled_comes_from_all_owners_and_is_no_more_than_was_asked_for() {
    let mut company = Company::new(3, &TopicRules::default());
    company.consume(1, several(), Flow::Pull, SubscriptionType::Shared);
    for topic in TOPICS {
        (0..4).for_each(|_| company.append(topic, topic));
    }
    assert_eq!(company.take(1), []);
    let mut all = Vec::new();
    for permits in [1, 2, 3, 5, 8] {
        company.ask(1, TopicQuestion::Permit(permits));
        let got = company.take(1);
        assert_eq!(got.len(), permits as usize);
        // Acknowledgements are no permits.
        got.iter().for_each(|got| company.ask(1, TopicQuestion::Ack(got.id)));
        all.extend(got);
    }
    assert_eq!(company.take(1), []);
    company.ask(1, TopicQuestion::Permit(100));
    all.extend(company.take(1));
    assert_eq!(all.len(), 24);
}

#[test]
fn who_is_refused_by_one_owner_leaves_nothing_at_others() {
    let mut company = Company::new(3, &TopicRules::default());
    let last = TOPICS.into_iter().find(|topic| OwnerIndex::of_topic(&name(topic), 3) == 2).unwrap();
    company.consume(1, WantedTopics::One(name(last)), Flow::Push(9), SubscriptionType::Exclusive);
    company.ask(2, consume_of(several(), SubscriptionType::Exclusive));
    assert!(
        matches!(company.reply(2), Some(TopicAnswer::Refused(refusal)) if refusal.cause == Cause::Busy)
    );
    assert_eq!(company.list(100), [last]);
    // Its place is free again when the other has gone, and its own is.
    company.ask(1, TopicQuestion::Gone);
    company.consume(3, several(), Flow::Push(9), SubscriptionType::Exclusive);
    company.append(last, "x");
    assert_eq!(company.take(3).len(), 1);
    company.ask(4, consume_of(WantedTopics::One(name("a")), SubscriptionType::Exclusive));
    assert!(matches!(company.reply(4), Some(TopicAnswer::Refused(_))));
    company.ask(3, TopicQuestion::Gone);
    company.consume(5, several(), Flow::Push(9), SubscriptionType::Exclusive);
    assert_eq!(company.take(5).len(), 1, "what was not acknowledged comes again");
}

#[test]
fn of_two_that_want_the_same_topics_for_themselves_one_gets_all() {
    for seed in 0..40 {
        let mut company = Company::new(3, &TopicRules::default());
        company.drawn = seed;
        company.say(1, consume_of(several(), SubscriptionType::Exclusive));
        company.say(2, consume_of(several(), SubscriptionType::Exclusive));
        company.settle();
        let replies = [company.reply(1), company.reply(2)];
        let opened =
            replies.iter().filter(|reply| matches!(reply, Some(TopicAnswer::Opened))).count();
        let refused =
            replies.iter().filter(|reply| matches!(reply, Some(TopicAnswer::Refused(_)))).count();
        assert_eq!((opened, refused), (1, 1), "{replies:?}");
    }
}

#[test]
fn one_request_creates_no_more_topics_than_it_may_at_all_owners_together() {
    let mut company = Company::new(3, &TopicRules { new_topics_max: 5, ..TopicRules::default() });
    company.ask(1, consume_of(several(), SubscriptionType::Shared));
    assert!(
        matches!(company.reply(1), Some(TopicAnswer::Refused(refusal)) if refusal.cause == Cause::TooMany)
    );
    assert_eq!(company.list(100).len(), 0);
    let mut company = Company::new(3, &TopicRules { topics_max: 4, ..TopicRules::default() });
    for topic in &TOPICS[..4] {
        company.append(topic, "x");
    }
    let draft = MessageDraft::new(&TopicMessage { payload: b"x", ..TopicMessage::default() });
    company.ask(999, TopicQuestion::Append(name("e"), draft));
    assert!(
        matches!(company.reply(999), Some(TopicAnswer::NotStored { .. })),
        "topics of all owners are counted"
    );
}

#[test]
fn new_topics_of_any_owner_come_to_the_consumer_of_a_pattern() {
    let mut company = Company::new(4, &TopicRules::default());
    company.consume(1, pattern(".*"), Flow::Push(1000), SubscriptionType::Shared);
    for topic in TOPICS {
        company.append(topic, topic);
    }
    let mut got: Vec<String> = company.take(1).into_iter().map(|got| got.text).collect();
    got.sort();
    assert_eq!(got, TOPICS);
    assert_eq!(company.list(4), ["a", "b", "c", "d"]);
    let page = TopicInquiry::ProxyStats { rights: Rights::ALL, after: "".into(), count: 100 };
    assert_eq!(company.inquire(page).as_object().unwrap().len(), TOPICS.len());
    company.ask(1, TopicQuestion::Unsubscribe);
    assert!(company.reply(1).is_none());
    for topic in TOPICS {
        assert_eq!(company.told(topic, "backlog"), serde_json::Value::Null);
    }
}

#[test]
fn topics_have_ended_when_those_of_all_owners_have() {
    let mut company = Company::new(3, &TopicRules::default());
    company.consume(1, several(), Flow::Push(1000), SubscriptionType::Shared);
    for (count, topic) in TOPICS.iter().enumerate() {
        company.ask(1, TopicQuestion::AskEnd);
        assert!(matches!(company.reply(1), Some(TopicAnswer::EndOfTopic(false))), "{count}");
        company.inquire(TopicInquiry::Terminate(name(topic)));
    }
    // Two at once are answered one after the other.
    company.say(1, TopicQuestion::AskEnd);
    company.ask(1, TopicQuestion::AskEnd);
    for _ in 0..2 {
        assert!(matches!(company.reply(1), Some(TopicAnswer::EndOfTopic(true))));
    }
    assert!(company.reply(1).is_none());
}

#[test]
fn a_topic_that_is_deleted_ends_who_has_named_it_at_all_owners_and_not_who_has_a_pattern() {
    let mut company = Company::new(3, &TopicRules { topics_max: 6, ..TopicRules::default() });
    company.consume(1, several(), Flow::Push(9), SubscriptionType::Shared);
    company.consume(2, pattern(".*"), Flow::Push(9), SubscriptionType::Shared);
    let delete =
        |company: &mut Company, topic| company.inquire(TopicInquiry::Delete { topic, force: true });
    assert_eq!(delete(&mut company, name("c")), serde_json::json!({}));
    assert!(
        matches!(company.reply(1), Some(TopicAnswer::Refused(refusal)) if refusal.cause == Cause::NotFound)
    );
    assert!(company.reply(1).is_none() && company.reply(2).is_none());
    // The others have room for one more, and go on alone.
    TOPICS.iter().for_each(|topic| company.append(topic, topic));
    assert_eq!(company.take(2).len(), TOPICS.len());
    assert_eq!(company.told("a", "consumers").as_array().map(Vec::len), Some(1));
}

#[test]
fn rights_that_are_lost_are_lost_at_all_owners() {
    let mut company = Company::new(3, &TopicRules::default());
    company.consume(1, several(), Flow::Push(1000), SubscriptionType::Shared);
    company.ask(1, TopicQuestion::Renew(Box::new(Rights::new([], ["t/n/*"], []))));
    assert!(company.reply(1).is_none());
    company.ask(1, TopicQuestion::Renew(Box::new(Rights::new([], ["t/n/a", "t/n/b"], []))));
    assert!(matches!(company.reply(1), Some(TopicAnswer::Forbidden)));
    company.ask(1, TopicQuestion::Gone);
    company.consume(2, pattern(".*"), Flow::Push(1000), SubscriptionType::Failover);
    company.ask(2, TopicQuestion::Renew(Box::new(Rights::new([], ["t/n/a", "t/n/b"], []))));
    assert!(company.reply(2).is_none(), "a pattern goes on with what is left of it");
    TOPICS.iter().for_each(|topic| company.append(topic, topic));
    assert_eq!(company.take(2).len(), 2);
}

#[test]
fn dead_letters_go_to_the_owner_of_their_topic_and_the_message_is_dealt_with_when_it_has_them() {
    let mut company = Company::new(3, &TopicRules::default());
    let mut elsewhere = 0;
    for (number, topic) in TOPICS.iter().enumerate() {
        let (id, letters) = (number as u32, name(topic).dead_letters("s"));
        elsewhere +=
            usize::from(OwnerIndex::of_topic(&letters, 3) != OwnerIndex::of_topic(&name(topic), 3));
        let dying = ConsumerOptions {
            redeliveries_max: 1,
            ..consuming(topic, "s", SubscriptionType::Shared)
        };
        company.ask(id, TopicQuestion::Consume(Box::new(dying)));
        assert!(matches!(company.reply(id), Some(TopicAnswer::Opened)));
        company.append(topic, topic);
        for _ in 0..2 {
            let got = company.take(id);
            assert_eq!(got.len(), 1);
            company.ask(id, TopicQuestion::Nack(got[0].id));
        }
        assert_eq!(company.take(id), []);
        assert_eq!(
            (company.told(topic, "backlog"), company.told(topic, "pending")),
            (0.into(), 0.into())
        );
        let (topic, subscription) = (letters, None);
        let letters = company.inquire(TopicInquiry::Peek { topic, subscription, count: 10 });
        assert_eq!(letters.as_array().unwrap().len(), 1);
        let from = &letters[0]["properties"]["REAL_TOPIC"];
        assert_eq!(from.as_str(), Some(name(TOPICS[number]).as_str()));
    }
    assert!(elsewhere > 0);
}

#[test]
fn a_message_that_the_owner_of_its_dead_letters_cannot_store_comes_again() {
    let mut company = Company::new(2, &TopicRules::default());
    let is_elsewhere = |topic: &&str| {
        OwnerIndex::of_topic(&name(topic).dead_letters("s"), 2)
            != OwnerIndex::of_topic(&name(topic), 2)
    };
    let topic = TOPICS.into_iter().find(is_elsewhere).unwrap();
    let letters = name(topic).dead_letters("s");
    let other = OwnerIndex::of_topic(&letters, 2);
    company.ask(
        1,
        TopicQuestion::Consume(Box::new(ConsumerOptions {
            redeliveries_max: 1,
            ..consuming(topic, "s", SubscriptionType::Shared)
        })),
    );
    company.append(topic, "x");
    company.owners[other].archive().fault = Some("the disk is full");
    for redeliveries in 0..3 {
        let got = company.take(1);
        assert_eq!((got.len(), got[0].redeliveries), (1, redeliveries));
        company.ask(1, TopicQuestion::Nack(got[0].id));
    }
    company.owners[other].archive().fault = None;
    let got = company.take(1);
    company.ask(1, TopicQuestion::Nack(got[0].id));
    assert_eq!(company.take(1), []);
    assert_eq!(company.told(topic, "backlog"), 0);
}

#[test]
fn a_message_for_which_another_owner_has_taken_the_room_comes_when_there_is_some_again() {
    for kind in [SubscriptionType::Exclusive, SubscriptionType::Shared, SubscriptionType::KeyShared]
    {
        let mut company = Company::new(1, &TopicRules::default());
        company.consume(2, WantedTopics::One(name("x")), Flow::Pull, kind);
        company.ask(2, TopicQuestion::Gone);
        (0..3).for_each(|number| company.append("x", &number.to_string()));
        // What is not in memory is read between the look for room and the delivery.
        let mut archive = std::mem::take(company.owners[0].archive());
        archive.crash();
        company.owners[0] = TopicOwner::new(archive, TopicRules::default(), company.now);
        let window = Arc::new(ConsumerWindow::new(Flow::Push(1)));
        let consuming = ConsumerOptions {
            earliest: true,
            window: Some(Arc::clone(&window)),
            ..consuming("x", "s", kind)
        };
        company.ask(1, TopicQuestion::Consume(Box::new(consuming)));
        assert!(matches!(company.reply(1), Some(TopicAnswer::Ready)));
        company.ask(1, TopicQuestion::Join);
        assert!(matches!(company.reply(1), Some(TopicAnswer::Opened)));
        company.open.insert(1);
        // Nobody's turn is waited for.
        assert_eq!((window.open(), window.pass(0)), (Some(0), None));
        company.owners[0].archive().thief = Some(Arc::clone(&window));
        company.ask(1, TopicQuestion::Turn);
        assert_eq!(company.take(1), [], "the room was taken");
        company.owners[0].archive().thief = None;
        window.free(1);
        // The other wanted still more, and has no more use for it.
        assert_eq!((window.next(), window.pass(1)), (Some(1), Some(0)), "it waits for it");
        company.ask(1, TopicQuestion::Turn);
        for number in 0..3 {
            let got = company.take(1);
            assert_eq!((got.len(), &*got[0].text), (1, &*number.to_string()));
            company.ask(1, TopicQuestion::Ack(got[0].id));
        }
        assert_eq!(company.told("x", "backlog"), 0);
    }
}

/// Consumers of all topics that come and go, and what has become of the messages.
struct Crowd {
    company: Company,
    window: u32,
    last: u32,
    held: BTreeMap<u32, Vec<Got>>,
    published: BTreeSet<String>,
    done: BTreeSet<String>,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        let mut company = Company::new(2 + seed as usize % 3, &TopicRules::default());
        company.drawn = seed;
        let window = 1 + company.draw(4) as u32;
        let (held, published, done) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { company, window, last: 0, held, published, done }
    }

    fn join(&mut self) {
        self.last += 1;
        let id = self.last;
        let wanted = ConsumerOptions {
            topics: if id.is_multiple_of(2) { several() } else { pattern("[a-f]") },
            flow: Flow::Push(self.window),
            earliest: true,
            nack_delay_ms: u64::from(id % 3) * 100,
            ..consuming("x", "s", SubscriptionType::Shared)
        };
        self.company.say(id, TopicQuestion::Consume(Box::new(wanted)));
    }

    /// Takes what has come to those that are there. Returns who is.
    fn take(&mut self) -> Vec<u32> {
        let ids: Vec<u32> = self.company.open.iter().copied().collect();
        for id in &ids {
            let holds = self.held.entry(*id).or_default();
            holds.extend(self.company.take(*id));
            assert!(holds.len() <= self.window as usize, "{} of {}", holds.len(), self.window);
        }
        ids
    }

    fn publish(&mut self, number: usize) {
        let topic = TOPICS[self.company.draw(TOPICS.len())];
        let text = format!("{topic}{number}");
        let draft = MessageDraft::new(&TopicMessage {
            payload: text.as_bytes(),
            ..TopicMessage::default()
        });
        self.company.say(999, TopicQuestion::Append(name(topic), draft));
        self.published.insert(text);
    }

    /// One deals with a message, or does not. Returns whether it had one.
    fn deal(&mut self, id: u32, is_done: bool) -> bool {
        let Some(got) = self.held.entry(id).or_default().pop() else { return false };
        if is_done {
            self.company.say(id, TopicQuestion::Ack(got.id));
            self.done.insert(got.text);
        } else {
            self.company.say(id, TopicQuestion::Nack(got.id));
        }
        true
    }

    fn leave(&mut self, id: u32) {
        self.company.say(id, TopicQuestion::Gone);
        self.company.open.remove(&id);
        self.held.remove(&id);
        self.company.settle_without(id);
    }

    /// Those that are there deal with everything that comes yet.
    fn finish(&mut self) {
        self.company.pass(1000);
        loop {
            self.company.settle();
            let ids = self.take();
            if ids.into_iter().filter(|id| self.deal(*id, true)).count() == 0 {
                break;
            }
        }
    }
}

#[test]
fn whatever_connections_do_at_several_owners_nothing_is_lost_and_nobody_waits_for_ever() {
    for seed in 1..60 {
        let mut crowd = Crowd::new(seed);
        crowd.join();
        crowd.join();
        for turn in 0..400 {
            for _ in 0..crowd.company.draw(4) {
                crowd.company.step();
            }
            let ids = crowd.take();
            let some = (!ids.is_empty()).then(|| ids[crowd.company.draw(ids.len())]);
            match (crowd.company.draw(8), some) {
                (0..3, _) => crowd.publish(turn),
                (3..7, Some(id)) => {
                    let is_done = crowd.company.draw(4) > 0;
                    crowd.deal(id, is_done);
                }
                (7, Some(id)) if crowd.company.draw(4) == 0 => {
                    crowd.leave(id);
                    crowd.join();
                }
                _ => crowd.company.pass(100),
            }
        }
        crowd.finish();
        assert_eq!(crowd.done, crowd.published, "seed {seed}");
    }
}
