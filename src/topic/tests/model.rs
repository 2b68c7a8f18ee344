//! Random sends, acknowledgements, consumers, pauses and crashes, against a naive model of what is promised.
//!
//! There are 256 cases; `PROPTEST_CASES=10000` runs so many.

use super::world::*;
use crate::topic::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const TOPICS: [&str; 2] = ["x", "y"];
const KINDS: [Kind; 4] = [Kind::Exclusive, Kind::Shared, Kind::Failover, Kind::KeyShared];
const SLOTS: u32 = 6;
/// After how many redeliveries consumers give a message up.
const REDELIVERIES_MAX: u32 = 2;

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Append { topic: usize, key: u8, delay_ms: u64, bytes: usize },
    Open { slot: u32, topics: usize, kind: usize, window: u32, pulls: bool, timeout_ms: u64, earliest: bool },
    Close(u32),
    Ack { slot: u32, nth: usize },
    AckUnknown(u32),
    Nack { slot: u32, nth: usize },
    Permit { slot: u32, count: u32 },
    Took(u32),
    Unsubscribe(u32),
    Round,
    Pass(u64),
    Crash { after_commit: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    prop_oneof![
        30 => (0..2usize, 0..4u8, prop_oneof![6 => Just(0), 1 => Just(300u64)],
               prop_oneof![20 => Just(3usize), 1 => Just(150_000)])
            .prop_map(|(topic, key, delay_ms, bytes)| Step::Append { topic, key, delay_ms, bytes }),
        12 => (slot.clone(), 0..3usize, 0..4usize, 1..5u32, prop::bool::weighted(0.2),
               prop_oneof![3 => Just(0), 1 => Just(1000u64)], any::<bool>())
            .prop_map(|(slot, topics, kind, window, pulls, timeout_ms, earliest)| Step::Open {
                slot, topics, kind, window, pulls, timeout_ms, earliest
            }),
        4 => slot.clone().prop_map(Step::Close),
        30 => (slot.clone(), 0..4usize).prop_map(|(slot, nth)| Step::Ack { slot, nth }),
        2 => slot.clone().prop_map(Step::AckUnknown),
        12 => (slot.clone(), 0..4usize).prop_map(|(slot, nth)| Step::Nack { slot, nth }),
        8 => (slot.clone(), 0..4u32).prop_map(|(slot, count)| Step::Permit { slot, count }),
        6 => slot.clone().prop_map(Step::Took),
        1 => slot.prop_map(Step::Unsubscribe),
        20 => Just(Step::Round),
        10 => prop::sample::select(vec![10u64, 200, 600, 1500, 70_000]).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(|after_commit| Step::Crash { after_commit }),
        1 => Just(Step::Restart),
    ]
}

/// A message, as its sender knows it.
#[derive(Clone, Debug)]
struct Sent {
    topic: usize,
    key: u8,
    deliver_ms: u64,
    is_delayed: bool,
}

/// A subscription of a topic.
#[derive(Debug, Default)]
struct Sub {
    /// Messages that it must get.
    owed: BTreeSet<String>,
    /// Messages that it must not get again, with the time of the acknowledgement.
    acked: BTreeMap<String, u64>,
    /// Messages that may or may not come: acknowledged shortly before a crash.
    limbo: BTreeSet<String>,
    /// Messages that went to the dead letters.
    dead: BTreeSet<String>,
    /// First deliveries since the start: the last position of each key, and of all.
    last: BTreeMap<Option<u8>, Position>,
    seen: BTreeSet<String>,
    counts: BTreeMap<String, u32>,
    /// Who has got messages of a key since its consumers changed last, where keys choose.
    homes: BTreeMap<u8, u32>,
}

/// A consumer.
#[derive(Debug)]
struct Slot {
    kind: Kind,
    topics: Vec<usize>,
    window: u32,
    pulls: bool,
    timeout_ns: u64,
    is_open: bool,
    outstanding: u32,
    permits: u32,
    /// What it has: text, topic, id, and when it came.
    held: Vec<(String, usize, MessageId, u64)>,
    awaits: bool,
    unsubscribed: bool,
}

struct Model {
    world: World,
    serial: u32,
    sent: BTreeMap<String, Sent>,
    /// Sent and not answered before a crash: these may be there or not.
    maybe: BTreeSet<String>,
    stored: BTreeSet<String>,
    last_id: [Option<Position>; 2],
    subs: BTreeMap<(usize, usize), Sub>,
    slots: BTreeMap<u32, Slot>,
    /// All that went to the dead letters, of subscriptions that are no more too.
    buried: Vec<String>,
    crashes: usize,
}

fn sub_name(kind: Kind) -> String {
    format!("s{}", kind as u8)
}

impl Model {
    fn new() -> Self {
        let rules = Rules { retention_s: 2, retention_bytes: 2000, unacked_max: 20, ..Rules::default() };
        Self {
            world: World::with(rules),
            serial: 0,
            sent: BTreeMap::new(),
            maybe: BTreeSet::new(),
            stored: BTreeSet::new(),
            last_id: [None; 2],
            subs: BTreeMap::new(),
            slots: BTreeMap::new(),
            buried: Vec::new(),
            crashes: 0,
        }
    }

    fn take(&mut self, slot: u32, request: Request) {
        self.world.topics.take(seat(slot), request, self.world.now);
    }

    fn round(&mut self) {
        self.world.round();
        self.world.answer_probes();
        self.read_log();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append { topic, key, delay_ms, bytes } => self.append(topic, key, delay_ms, bytes),
            Step::Open { slot, topics, kind, window, pulls, timeout_ms, earliest } => {
                let topics = [vec![0], vec![1], vec![0, 1]][topics].clone();
                self.open(slot, topics, KINDS[kind], (window, pulls), timeout_ms, earliest);
            }
            Step::Close(slot) => self.close(slot),
            Step::Ack { slot, nth } => self.ack(slot, nth),
            Step::AckUnknown(slot) => self.ack_unknown(slot),
            Step::Nack { slot, nth } => self.nack(slot, nth),
            Step::Permit { slot, count } => {
                let Some(open) = self.slots.get_mut(&slot).filter(|open| open.is_open) else { return };
                open.permits += if open.pulls { count } else { 0 };
                self.take(slot, Request::Permit(count));
            }
            Step::Took(slot) => {
                let Some(open) = self.slots.get_mut(&slot).filter(|open| open.is_open) else { return };
                open.awaits = false;
                self.take(slot, Request::Took);
            }
            Step::Unsubscribe(slot) => self.unsubscribe(slot),
            Step::Round => self.round(),
            Step::Pass(ms) => {
                self.round();
                self.world.pass(ms);
                self.read_log();
                self.time_out(self.world.now.monotonic_ns);
            }
            Step::Crash { after_commit } => self.crash(after_commit),
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
        let draft = Draft::new(&Message {
            published_ms: now_ms,
            deliver_ms: is_delayed.then_some(deliver_ms),
            key: Some(&key),
            payload: text.as_bytes(),
            ..Message::default()
        });
        // Each topic has a producer.
        let producer = 100 + topic as u32;
        let producing = producing(TOPICS[topic]);
        self.world.topics.take(seat(producer), Request::Produce(Box::new(producing)), self.world.now);
        let context = Some(text.into());
        self.world.topics.take(seat(producer), Request::Send { draft, context }, self.world.now);
    }

    fn open(
        &mut self,
        slot: u32,
        topics: Vec<usize>,
        kind: Kind,
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
        let consuming = Consuming {
            topics: match names.len() {
                1 => Wanted::One(names[0].clone()),
                _ if matches => pattern("[xy]"),
                _ => Wanted::Several(names),
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
        self.take(slot, Request::Consume(Box::new(consuming)));
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
            },
        );
        // Who stands by may have nothing yet, and is told so first.
        self.round();
    }

    /// The consumers change, and keys may move.
    fn move_home(&mut self, topics: &[usize], kind: Kind) {
        for topic in topics {
            if let Some(sub) = self.subs.get_mut(&(*topic, kind as usize)) {
                sub.homes.clear();
            }
        }
    }

    fn close(&mut self, slot: u32) {
        self.round();
        let Some(open) = self.slots.remove(&slot) else { return };
        self.move_home(&open.topics, open.kind);
        self.take(slot, Request::Gone);
        for topic in open.topics {
            let is_last = self.slots.values().all(|it| {
                !it.is_open || it.kind != open.kind || !it.topics.contains(&topic) || it.unsubscribed
            });
            if let Some(sub) = self.subs.get_mut(&(topic, open.kind as usize)).filter(|_| is_last) {
                sub.counts.clear();
            }
        }
    }

    fn ack(&mut self, slot: u32, nth: usize) {
        self.round();
        let now_ns = self.world.now.monotonic_ns;
        let Some(open) = self.slots.get_mut(&slot).filter(|open| nth < open.held.len()) else { return };
        let (text, topic, id, _) = open.held.remove(nth);
        open.outstanding = open.outstanding.saturating_sub(1);
        let sub = self.subs.get_mut(&(topic, open.kind as usize)).unwrap();
        sub.owed.remove(&text);
        sub.limbo.remove(&text);
        sub.acked.insert(text, now_ns);
        self.take(slot, Request::Ack(id));
    }

    fn ack_unknown(&mut self, slot: u32) {
        self.round();
        let Some(open) = self.slots.get_mut(&slot).filter(|open| open.is_open) else { return };
        open.outstanding = open.outstanding.saturating_sub(1);
        self.take(slot, Request::Ack(at(1 << 20, 1)));
    }

    fn nack(&mut self, slot: u32, nth: usize) {
        self.round();
        let Some(open) = self.slots.get_mut(&slot).filter(|open| nth < open.held.len()) else { return };
        let (text, topic, id, _) = open.held.remove(nth);
        open.outstanding = open.outstanding.saturating_sub(1);
        let kind = open.kind;
        self.send_back(kind, topic, text);
        self.take(slot, Request::Nack(id));
    }

    fn send_back(&mut self, kind: Kind, topic: usize, text: String) {
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
        let Some(open) = self.slots.get(&slot).filter(|open| open.is_open && !open.unsubscribed) else {
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
        self.take(slot, Request::Unsubscribe);
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
            self.world.topics.tick(self.world.now);
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
        self.slots.clear();
        self.world.log.clear();
        let unanswered = self.sent.keys().filter(|text| !self.stored.contains(*text));
        self.maybe.extend(unanswered.cloned());
        for sub in self.subs.values_mut() {
            sub.seen.clear();
            sub.last.clear();
            sub.counts.clear();
            sub.homes.clear();
        }
    }

    fn time_out(&mut self, now_ns: u64) {
        let mut back = Vec::new();
        for slot in self.slots.values_mut().filter(|slot| slot.timeout_ns > 0) {
            let timeout_ns = slot.timeout_ns;
            let over: Vec<_> = slot.held.extract_if(.., |held| held.3 + timeout_ns <= now_ns).collect();
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
                        self.subs.entry((topic, slot.kind as usize)).or_default();
                    }
                }
                Event::Refused if id < 100 => drop(self.slots.remove(&id)),
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
        assert_eq!(sent.topic, topic);
        assert!(self.stored.contains(text) || self.maybe.contains(text), "delivered before it was stored");
        let holder = self
            .slots
            .values()
            .filter(|it| it.kind == kind)
            .find(|it| it.held.iter().any(|held| held.0 == *text));
        assert!(holder.is_none(), "{holder:?} has {text}, and {slot:?} gets it");
        let same_key =
            |held: &(String, usize, MessageId, u64)| held.1 == topic && self.sent[&held.0].key == sent.key;
        let others = self.slots.iter().filter(|(number, it)| **number != id && it.kind == kind);
        let shares_key = others.into_iter().any(|(_, other)| other.held.iter().any(same_key));
        assert!(kind != Kind::KeyShared || !shares_key, "two consumers have a key: {got:?}");
        let sub = self.subs.get_mut(&(topic, kind as usize)).unwrap();
        assert!(!sub.acked.contains_key(text), "acknowledged, and comes again: {got:?}");
        assert!(!sub.dead.contains(text), "dead, and comes again: {got:?}");
        let is_shared = matches!(kind, Kind::Shared | Kind::KeyShared);
        let count = sub.counts.get(text).copied().filter(|_| is_shared);
        assert_eq!(got.redeliveries, count.unwrap_or(0), "{got:?}");
        let now_ms = START_MS + (at_ns - 1_000_000_000) / 1_000_000;
        assert!(!is_shared || !sent.is_delayed || now_ms >= sent.deliver_ms, "too early");
        let key = (kind == Kind::KeyShared).then_some(sent.key);
        let home = key.map(|key| *sub.homes.entry(key).or_insert(id));
        assert!(home.is_none_or(|home| home == id), "{got:?} goes to {id}, its key to {home:?}");
        let is_ordered = kind != Kind::Shared && !(is_shared && sent.is_delayed);
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
    }

    /// What was given up is among the dead letters, once unless there was a crash.
    fn dead_letters(&mut self) {
        let expected = std::mem::take(&mut self.buried);
        if self.crashes > 0 || expected.is_empty() {
            return;
        }
        let topic = name("dead");
        let shelf = &self.world.topics.archive().live[topic.as_str()];
        // What is kept for its own sake alone may be gone.
        let found: Vec<String> = shelf
            .messages
            .values()
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
    fn whatever_happens_the_promises_are_kept(steps in prop::collection::vec(step(), 1..150)) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.end();
    }
}
