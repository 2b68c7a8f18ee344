//! Random sends, acknowledgements, consumers, pauses, deletions and crashes, against a naive model
//! of what is promised.
//!
//! There are 256 cases; `PROPTEST_CASES=10000` runs so many.

use super::promises::{Sent, Slot, Sub};
use super::steps::{SLOTS, Step, step};
use super::world::*;
use crate::service::topic::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const TOPICS: [&str; 2] = ["x", "y"];
use SubscriptionType::{Exclusive, Failover, KeyShared, Shared};

const KINDS: [SubscriptionType; 4] = [Exclusive, Shared, Failover, KeyShared];
/// After how many redeliveries consumers give a message up.
const REDELIVERIES_MAX: u32 = 2;
/// Who asks.
const ASKER: u32 = 999_998;

struct Model {
    world: World,
    serial: u32,
    sent: BTreeMap<String, Sent>,
    /// Sent and not answered before a crash: these may be there or not.
    maybe: BTreeSet<String>,
    stored: BTreeSet<String>,
    /// Of topics that were deleted.
    deleted: BTreeSet<String>,
    /// Whether each topic has its producer.
    producers: [bool; 2],
    expiry_s: u64,
    last_id: [Option<Position>; 2],
    subs: BTreeMap<(usize, usize), Sub>,
    slots: BTreeMap<u32, Slot>,
    /// All that went to the dead letters, of subscriptions that are no more too.
    buried: Vec<String>,
    crashes: usize,
}

fn sub_name(kind: SubscriptionType) -> String {
    format!("s{}", kind as u8)
}

impl Model {
    fn new(idle_delete_s: u64, expiry_s: u64) -> Self {
        let rules = TopicRules {
            retention_s: 2,
            retention_bytes: 2000,
            unacked_max: 20,
            ..TopicRules::default()
        };
        let rules = TopicRules { idle_delete_s, subscription_expiry_s: expiry_s, ..rules };
        Self {
            world: World::with(rules),
            serial: 0,
            sent: BTreeMap::new(),
            maybe: BTreeSet::new(),
            stored: BTreeSet::new(),
            deleted: BTreeSet::new(),
            producers: [false; 2],
            expiry_s,
            last_id: [None; 2],
            subs: BTreeMap::new(),
            slots: BTreeMap::new(),
            buried: Vec::new(),
            crashes: 0,
        }
    }

    fn take(&mut self, slot: u32, request: TopicQuestion) {
        self.world.take(slot, request);
    }

    fn round(&mut self) {
        self.world.round();
        self.world.answer_probes();
        self.read_log();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append { topic, key, delay_ms, bytes } => {
                self.append(topic, key, delay_ms, bytes)
            }
            Step::Open { slot, topics, kind, window, pulls, timeout_ms, earliest } => {
                let topics = [vec![0], vec![1], vec![0, 1]][topics].clone();
                self.open(slot, topics, KINDS[kind], (window, pulls), timeout_ms, earliest);
            }
            Step::Close(slot) => self.close(slot),
            Step::Ack { slot, nth } => self.ack(slot, nth),
            Step::AckUnknown(slot) => self.ack_unknown(slot),
            Step::Nack { slot, nth } => self.nack(slot, nth),
            Step::Permit { slot, count } => {
                let Some(open) = self.slots.get_mut(&slot).filter(|open| open.is_open) else {
                    return;
                };
                open.permits += if open.pulls { count } else { 0 };
                self.take(slot, TopicQuestion::Permit(count));
            }
            Step::Took(slot) => {
                let Some(open) = self.slots.get_mut(&slot).filter(|open| open.is_open) else {
                    return;
                };
                open.awaits = false;
                self.take(slot, TopicQuestion::Took);
            }
            Step::Unsubscribe(slot) => self.unsubscribe(slot),
            Step::Round => self.round(),
            Step::Pass(ms) => {
                self.round();
                self.world.pass(ms);
                self.read_log();
                self.time_out(self.world.now.monotonic_ns);
                self.expire();
            }
            Step::Delete { topic, force, in_flight } => self.delete(topic, force, in_flight),
            Step::ProducerGone(topic) => {
                self.round();
                self.producers[topic] = false;
                self.take(100 + topic as u32, TopicQuestion::Gone);
            }
            Step::Crash { after_commit } => self.crash(after_commit),
            Step::HandOver(left) => self.pass_on(left),
            Step::Restart => {
                self.round();
                self.world.restart();
                self.forget();
            }
        }
    }

    fn append(&mut self, topic: usize, key: u8, delay_ms: u64, bytes: usize) {
        self.serial += 1;
        let text = format!("{}{}", self.serial, "-".repeat(bytes));
        let now_ms = self.world.now.unix_ms;
        let is_delayed = delay_ms > 0;
        let deliver_ms = now_ms + delay_ms;
        self.sent.insert(text.clone(), Sent { topic, key, deliver_ms, is_delayed });
        let key = key.to_string();
        let draft = MessageDraft::new(&TopicMessage {
            published_ms: now_ms,
            deliver_ms: is_delayed.then_some(deliver_ms),
            key: Some(&key),
            payload: text.as_bytes(),
            ..TopicMessage::default()
        });
        // Each topic has a producer.
        let producer = 100 + topic as u32;
        let producing = producing(TOPICS[topic]);
        self.producers[topic] = true;
        self.world.take(producer, TopicQuestion::Produce(Box::new(producing)));
        let context = Some(text.into());
        self.world.take(producer, TopicQuestion::Send { draft, context });
    }

    fn open(
        &mut self,
        slot: u32,
        topics: Vec<usize>,
        kind: SubscriptionType,
        flow: (u32, bool),
        timeout_ms: u64,
        earliest: bool,
    ) {
        let is_pattern = topics.len() > 1 && earliest;
        if self.slots.contains_key(&slot) {
            return;
        }
        let names: Vec<TopicName> = topics.iter().map(|topic| name(TOPICS[*topic])).collect();
        // A pattern is as a list, if all of its topics are there.
        let matches = is_pattern && TOPICS.iter().all(|topic| self.world.label(topic).is_some());
        let consuming = ConsumerOptions {
            topics: match names.len() {
                1 => WantedTopics::One(names[0].clone()),
                _ if matches => pattern("[xy]"),
                _ => WantedTopics::Several(names),
            },
            earliest,
            flow: if flow.1 { Flow::Pull } else { Flow::Push(flow.0) },
            ack_timeout_ms: timeout_ms,
            nack_delay_ms: 100,
            redeliveries_max: REDELIVERIES_MAX,
            dead_letters: Some(name("dead")),
            ..consuming("x", &sub_name(kind), kind)
        };
        self.move_home(&topics, kind);
        self.take(slot, TopicQuestion::Consume(Box::new(consuming)));
        self.slots.insert(
            slot,
            Slot {
                kind,
                topics,
                window: flow.0,
                pulls: flow.1,
                timeout_ns: timeout_ms * 1_000_000,
                is_open: false,
                outstanding: 0,
                permits: 0,
                held: Vec::new(),
                awaits: false,
                unsubscribed: false,
                is_pattern: matches,
            },
        );
        // Who stands by may have nothing yet, and is told so first.
        self.round();
    }

    /// The consumers change, and keys may move.
    fn move_home(&mut self, topics: &[usize], kind: SubscriptionType) {
        for topic in topics {
            if let Some(sub) = self.subs.get_mut(&(*topic, kind as usize)) {
                sub.homes.clear();
            }
        }
    }

    fn close(&mut self, slot: u32) {
        self.round();
        if self.slots.contains_key(&slot) {
            self.take(slot, TopicQuestion::Gone);
            self.part(slot);
        }
    }

    /// Another process takes over, and all connections but one.
    fn pass_on(&mut self, left: u32) {
        self.round();
        if !self.world.topics.is_at_rest() {
            return;
        }
        self.world.pass_on(&[left]);
        self.part(left);
        // Those that wait for another to go are not passed either.
        self.slots.retain(|_, slot| slot.is_open);
        // One owes a receipt for what was delivered before, as long as its client does not read.
        self.slots.values_mut().for_each(|slot| slot.awaits = true);
        let reading: Vec<u32> = self.slots.keys().copied().filter(|slot| slot % 3 > 0).collect();
        reading.into_iter().for_each(|slot| self.step(&Step::Took(slot)));
    }

    /// A consumer is over.
    fn part(&mut self, slot: u32) {
        let now_ns = self.world.now.monotonic_ns;
        let Some(open) = self.slots.remove(&slot).filter(|open| open.is_open) else { return };
        self.move_home(&open.topics, open.kind);
        for topic in open.topics {
            let is_last = self.slots.values().all(|it| {
                !it.is_open
                    || it.kind != open.kind
                    || !it.topics.contains(&topic)
                    || it.unsubscribed
            });
            if let Some(sub) = self.subs.get_mut(&(topic, open.kind as usize)).filter(|_| is_last) {
                sub.counts.clear();
                sub.unused_ns.get_or_insert(now_ns);
            }
        }
    }

    /// Whether a topic is stored.
    fn is_there(&mut self, topic: usize) -> bool {
        self.world.label(TOPICS[topic]).is_some()
    }

    /// A topic is deleted, or is not because somebody uses it. What was sent and not answered
    /// before may be in flight.
    fn delete(&mut self, topic: usize, force: bool, in_flight: bool) {
        if !in_flight {
            self.round();
        }
        self.world.take_out();
        self.read_log();
        let uses = |it: &Slot| it.is_open && !it.unsubscribed && it.topics.contains(&topic);
        let is_used = self.producers[topic] || self.slots.values().any(uses);
        let expected = match (self.is_there(topic), is_used && !force) {
            (false, _) => 404,
            (true, true) => 409,
            (true, false) => 200,
        };
        let deletion = TopicInquiry::Delete { topic: name(TOPICS[topic]), force };
        self.take(ASKER, TopicQuestion::Inquire(Box::new(deletion)));
        let (mut ended, mut stay) = (Vec::new(), Vec::new());
        if expected == 200 {
            self.producers[topic] = false;
            for (slot, it) in self.slots.iter().filter(|(_, it)| uses(it)) {
                (if it.is_pattern { &mut stay } else { &mut ended }).push(*slot);
            }
        }
        for slot in &ended {
            self.part(*slot);
        }
        for slot in stay {
            let open = self.slots.get_mut(&slot).unwrap();
            let held: Vec<_> = open.held.extract_if(.., |held| held.1 == topic).collect();
            open.outstanding = open.outstanding.saturating_sub(held.len() as u32);
            // Those that have a time were taken from it; the others it acknowledges.
            let is_timed = open.timeout_ns > 0;
            for (_, _, id, _) in held.into_iter().filter(|_| !is_timed) {
                self.take(slot, TopicQuestion::Ack(id));
            }
        }
        self.world.replies.clear();
        self.round();
        match self.world.reply(ASKER) {
            Some(TopicAnswer::Answer(status, _)) => assert_eq!(status, expected),
            other => panic!("{other:?}"),
        }
        if expected == 200 {
            for slot in ended {
                assert_eq!(self.world.refused(slot), Cause::NotFound);
            }
            assert!(!self.is_there(topic));
            self.subs.retain(|(of, _), _| *of != topic);
            for (text, _) in self.sent.iter().filter(|(_, sent)| sent.topic == topic) {
                assert!(
                    self.stored.contains(text) || self.maybe.contains(text),
                    "{text} was not answered"
                );
                self.deleted.insert(text.clone());
            }
        }
    }

    /// Subscriptions that nobody has used for long enough are gone, and no others.
    fn expire(&mut self) {
        let now_ns = self.world.now.monotonic_ns;
        let live = &self.world.topics.archive().live;
        let expiry_ns = self.expiry_s * 1_000_000_000;
        self.subs.retain(|(topic, kind), sub| {
            let kind = KINDS.into_iter().find(|it| *it as usize == *kind).unwrap();
            let shelf = live.get(name(TOPICS[*topic]).as_str());
            let is_there =
                shelf.is_some_and(|shelf| shelf.subscriptions.contains_key(&*sub_name(kind)));
            let is_unused = sub.unused_ns.is_some_and(|since_ns| now_ns - since_ns >= expiry_ns);
            assert!(is_there || is_unused && expiry_ns > 0, "{kind:?} of {topic} is gone: {sub:?}");
            is_there
        });
    }

    fn ack(&mut self, slot: u32, nth: usize) {
        self.round();
        let now_ns = self.world.now.monotonic_ns;
        let Some(open) = self.slots.get_mut(&slot).filter(|open| nth < open.held.len()) else {
            return;
        };
        let (text, topic, id, _) = open.held.remove(nth);
        open.outstanding = open.outstanding.saturating_sub(1);
        let sub = self.subs.get_mut(&(topic, open.kind as usize)).unwrap();
        sub.owed.remove(&text);
        sub.limbo.remove(&text);
        sub.acked.insert(text, now_ns);
        self.take(slot, TopicQuestion::Ack(id));
    }

    fn ack_unknown(&mut self, slot: u32) {
        self.round();
        let Some(open) = self.slots.get_mut(&slot).filter(|open| open.is_open) else { return };
        open.outstanding = open.outstanding.saturating_sub(1);
        self.take(slot, TopicQuestion::Ack(at(1 << 20, 1)));
    }

    fn nack(&mut self, slot: u32, nth: usize) {
        self.round();
        let Some(open) = self.slots.get_mut(&slot).filter(|open| nth < open.held.len()) else {
            return;
        };
        let (text, topic, id, _) = open.held.remove(nth);
        open.outstanding = open.outstanding.saturating_sub(1);
        let kind = open.kind;
        self.send_back(kind, topic, text);
        self.take(slot, TopicQuestion::Nack(id));
    }

    fn send_back(&mut self, kind: SubscriptionType, topic: usize, text: String) {
        let sub = self.subs.get_mut(&(topic, kind as usize)).unwrap();
        let count = sub.counts.entry(text.clone()).or_default();
        if *count >= REDELIVERIES_MAX {
            sub.owed.remove(&text);
            self.buried.push(text.clone());
            sub.dead.insert(text);
        } else {
            *count += 1;
        }
    }

    fn unsubscribe(&mut self, slot: u32) {
        self.round();
        let Some(open) = self.slots.get(&slot).filter(|open| open.is_open && !open.unsubscribed)
        else {
            return;
        };
        let (kind, topics) = (open.kind, open.topics.clone());
        let shares = |other: &Slot| {
            other.is_open
                && !other.unsubscribed
                && other.kind == kind
                && other.topics.iter().any(|topic| topics.contains(topic))
        };
        let is_shared = self.slots.iter().any(|(number, other)| *number != slot && shares(other));
        self.take(slot, TopicQuestion::Unsubscribe);
        if !is_shared {
            for topic in topics {
                self.subs.remove(&(topic, kind as usize));
            }
            let open = self.slots.get_mut(&slot).unwrap();
            open.unsubscribed = true;
            open.held.clear();
        }
        self.round();
    }

    fn crash(&mut self, after_commit: bool) {
        if after_commit {
            self.world.tick();
            self.world.topics.archive().commit();
        }
        self.world.crash();
        self.crashes += 1;
        let now_ns = self.world.now.monotonic_ns;
        for sub in self.subs.values_mut() {
            let recent = sub.acked.extract_if(.., |_, at_ns| *at_ns + 1_000_000_000 > now_ns);
            sub.limbo.extend(recent.map(|(text, _)| text));
            // What has just gone to the dead letters may come again.
            let dead = std::mem::take(&mut sub.dead);
            sub.limbo.extend(dead);
        }
        self.forget();
    }

    /// Everything that is not stored is forgotten.
    fn forget(&mut self) {
        let now_ns = self.world.now.monotonic_ns;
        self.slots.clear();
        self.producers = [false; 2];
        self.world.log.clear();
        let unanswered = self.sent.keys().filter(|text| !self.stored.contains(*text));
        self.maybe.extend(unanswered.cloned());
        for sub in self.subs.values_mut() {
            sub.seen.clear();
            sub.last.clear();
            sub.counts.clear();
            sub.homes.clear();
            sub.unused_ns.get_or_insert(now_ns);
        }
    }

    fn time_out(&mut self, now_ns: u64) {
        let mut back = Vec::new();
        for slot in self.slots.values_mut().filter(|slot| slot.timeout_ns > 0) {
            let timeout_ns = slot.timeout_ns;
            let over: Vec<_> =
                slot.held.extract_if(.., |held| held.3 + timeout_ns <= now_ns).collect();
            slot.outstanding = slot.outstanding.saturating_sub(over.len() as u32);
            back.extend(over.into_iter().map(|(text, topic, _, _)| (slot.kind, topic, text)));
        }
        for (kind, topic, text) in back {
            self.send_back(kind, topic, text);
        }
    }

    /// Holds what was told and delivered against what is promised.
    fn read_log(&mut self) {
        for (at_ns, id, event) in std::mem::take(&mut self.world.log) {
            self.time_out(at_ns);
            match event {
                Event::Opened if id < 100 => {
                    let slot = self.slots.get_mut(&id).unwrap();
                    slot.is_open = true;
                    for topic in slot.topics.clone() {
                        self.subs.entry((topic, slot.kind as usize)).or_default().unused_ns = None;
                    }
                }
                Event::Refused if id < 100 => self.part(id),
                Event::Stored(message, text) => self.stored(message, text),
                Event::Got(got) => self.got(at_ns, id, got),
                _ => {}
            }
        }
    }

    fn stored(&mut self, id: MessageId, text: String) {
        let topic = self.sent[&text].topic;
        assert!(self.last_id[topic] < Some(id.position), "ids rise and never come back");
        self.last_id[topic] = Some(id.position);
        // Whose pattern it matches gets it from its first message, if it is a new topic.
        for slot in self.slots.values().filter(|it| it.is_open && it.is_pattern && !it.unsubscribed)
        {
            self.subs.entry((topic, slot.kind as usize)).or_default();
        }
        for ((_, _), sub) in self.subs.iter_mut().filter(|((of, _), _)| *of == topic) {
            sub.owed.insert(text.clone());
        }
        self.stored.insert(text);
    }

    fn got(&mut self, at_ns: u64, id: u32, got: Got) {
        let Got { text, .. } = &got;
        let labels = TOPICS.map(|topic| self.world.label(topic));
        let slot = &self.slots[&id];
        assert!(slot.is_open && !slot.awaits && !slot.unsubscribed, "it takes nothing");
        let topic = match slot.topics[..] {
            [topic] => topic,
            _ => labels.iter().position(|label| *label == got.id.partition).unwrap(),
        };
        let kind = slot.kind;
        let sent = &self.sent[text];
        assert!(!self.deleted.contains(text), "deleted, and comes: {got:?}");
        assert_eq!(sent.topic, topic);
        assert!(
            self.stored.contains(text) || self.maybe.contains(text),
            "delivered before it was stored"
        );
        let holder = self
            .slots
            .values()
            .filter(|it| it.kind == kind)
            .find(|it| it.held.iter().any(|held| held.0 == *text));
        assert!(holder.is_none(), "{holder:?} has {text}, and {slot:?} gets it");
        let same_key = |held: &(String, usize, MessageId, u64)| {
            held.1 == topic && self.sent[&held.0].key == sent.key
        };
        let others = self.slots.iter().filter(|(number, it)| **number != id && it.kind == kind);
        let shares_key = others.into_iter().any(|(_, other)| other.held.iter().any(same_key));
        assert!(kind != KeyShared || !shares_key, "two consumers have a key: {got:?}");
        let sub = self.subs.get_mut(&(topic, kind as usize)).unwrap();
        assert!(!sub.acked.contains_key(text), "acknowledged, and comes again: {got:?}");
        assert!(!sub.dead.contains(text), "dead, and comes again: {got:?}");
        let is_shared = matches!(kind, Shared | KeyShared);
        let count = sub.counts.get(text).copied().filter(|_| is_shared);
        assert_eq!(got.redeliveries, count.unwrap_or(0), "{got:?}");
        let now_ms = START_MS + (at_ns - 1_000_000_000) / 1_000_000;
        assert!(!is_shared || !sent.is_delayed || now_ms >= sent.deliver_ms, "too early");
        let key = (kind == KeyShared).then_some(sent.key);
        let home = key.map(|key| *sub.homes.entry(key).or_insert(id));
        assert!(home.is_none_or(|home| home == id), "{got:?} goes to {id}, its key to {home:?}");
        let is_ordered = kind != Shared && !(is_shared && sent.is_delayed);
        if sub.seen.insert(text.clone()) && is_ordered {
            let last = sub.last.insert(key, got.id.position);
            assert!(last < Some(got.id.position), "out of order: {last:?} {got:?}");
        }
        let slot = self.slots.get_mut(&id).unwrap();
        slot.outstanding += 1;
        if slot.pulls {
            assert!(slot.permits > 0, "not asked for");
            slot.permits -= 1;
        } else {
            assert!(slot.outstanding <= slot.window, "the window is exceeded: {slot:?}");
        }
        slot.awaits = got.wants_receipt;
        slot.held.push((got.text.clone(), topic, got.id, at_ns));
    }

    /// At the end everything comes to consumers that acknowledge.
    fn end(mut self) {
        self.round();
        for slot in 0..SLOTS {
            self.close(slot);
        }
        let subs: Vec<(usize, usize)> = self.subs.keys().copied().collect();
        for (number, (topic, kind)) in subs.into_iter().enumerate() {
            let kind = KINDS.into_iter().find(|it| *it as usize == kind).unwrap();
            let slot = 10 + number as u32;
            self.expire();
            if !self.subs.contains_key(&(topic, kind as usize)) {
                continue;
            }
            self.open(slot, vec![topic], kind, (7, false), 0, false);
            for _ in 0..1000 {
                self.step(&Step::Took(slot));
                self.round();
                if self.slots[&slot].held.is_empty() {
                    self.world.pass(400);
                    self.read_log();
                }
                if self.slots[&slot].held.is_empty() {
                    break;
                }
                self.ack(slot, 0);
            }
            self.round();
            let sub = &self.subs[&(topic, kind as usize)];
            assert!(sub.owed.is_empty(), "{kind:?} of {topic} never got {:?}", sub.owed);
            let backlog = self.world.told(TOPICS[topic], &sub_name(kind), "backlog");
            assert_eq!(backlog, 0, "{kind:?} of {topic}");
        }
        self.dead_letters();
        self.all_go();
    }

    /// What nobody uses any more goes by itself.
    fn all_go(&mut self) {
        let open: Vec<u32> = self.slots.keys().copied().collect();
        open.into_iter().for_each(|slot| self.close(slot));
        (0..2).for_each(|topic| self.take(100 + topic, TopicQuestion::Gone));
        (0..5).for_each(|_| self.world.pass(100_000));
        self.expire();
        assert!(self.subs.is_empty() || self.expiry_s == 0, "{:?}", self.subs);
        let idle_delete_s = self.world.rules.idle_delete_s;
        let live = &self.world.topics.archive().live;
        for (topic, shelf) in live.iter().filter(|_| idle_delete_s > 0) {
            assert!(!shelf.subscriptions.is_empty(), "nobody has any use for {topic}");
        }
        let stored = self.world.topics.census().topics as usize;
        assert_eq!(stored, self.world.topics.archive().live.len());
    }

    /// What was given up is among the dead letters, once unless there was a crash.
    fn dead_letters(&mut self) {
        let expected = std::mem::take(&mut self.buried);
        if self.crashes > 0 || expected.is_empty() {
            return;
        }
        let topic = name("dead");
        // What is kept for its own sake alone may be gone.
        let shelf = self.world.topics.archive().live.get(topic.as_str());
        let found: Vec<String> = shelf
            .into_iter()
            .flat_map(|shelf| shelf.messages.values())
            .map(|message| String::from_utf8_lossy(message.message().payload).into_owned())
            .collect();
        let count = |list: &[String], text: &String| list.iter().filter(|it| *it == text).count();
        for text in &found {
            assert!(count(&found, text) <= count(&expected, text).max(1), "{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_promises_are_kept(
        idle_delete_s in prop::sample::select(vec![0u64, 1, 60]),
        expiry_s in prop::sample::select(vec![0u64, 60]),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut model = Model::new(idle_delete_s, expiry_s);
        for step in &steps {
            model.step(step);
        }
        model.end();
    }
}
