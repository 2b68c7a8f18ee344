//! Producers, consumers and readers whose daemon hands over to process after process: no message is
//! lost, comes twice or changes its place, each answer comes once, and what was acknowledged stays so.

use crate::client::{Consumer, Producer, Received, Socket, message, place, setup};
use crate::harness::{DEADLINE, Daemon, Going, Service, eventually_within};
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Topics that are stored, each with as many clients as [`Company`] has.
const TOPICS: usize = 10;
const TOPICS_LONG: usize = 200;
const ROUNDS: usize = 3;
const ROUNDS_LONG: usize = 10;
/// Producers of a topic.
const PRODUCERS: usize = 2;
/// Messages of a producer that may lack their answers.
const IN_FLIGHT: u64 = 16;
/// Messages that are published between two hand-overs, at least.
const BETWEEN: u64 = 200;
/// Messages that a consumer acknowledges only when later ones have come, so that some are on neither
/// side of a hand-over.
const HELD: usize = 5;
/// What a consumer that pulls has asked for and not got, at least.
const PERMITS: i64 = 10;
/// Between two looks at the clients of a topic, for each topic of its kind: more topics are not more
/// messages.
const PAUSE: Duration = Duration::from_micros(500);

/// A producer and what it was answered.
struct Sender {
    producer: Producer,
    name: usize,
    sent: u64,
    answered: u64,
    last: Option<(u64, u64)>,
}

impl Sender {
    fn new(daemon: &Daemon, path: &str, name: usize) -> Self {
        let socket = Socket::open(daemon.address, &format!("/ws/v2/producer/{path}"));
        Self { producer: Producer(socket), name, sent: 0, answered: 0, last: None }
    }

    fn send(&mut self) {
        if self.sent - self.answered < IN_FLIGHT {
            let text = format!("{} {}", self.name, self.sent);
            self.producer.0.say(&message(&text, &json!({ "context": self.sent.to_string() })));
            self.sent += 1;
        }
    }

    /// Takes the answers that have come; how many.
    fn hear(&mut self, is_stored: bool) -> u64 {
        let before = self.answered;
        while self.producer.0.client.has_news() {
            let answer = self.producer.0.hear();
            assert_eq!(answer["result"], "ok", "{answer}");
            assert_eq!(answer["context"], self.answered.to_string(), "answers are in order");
            if is_stored {
                let place = Some(place(answer["messageId"].as_str().unwrap()));
                assert!(place > self.last, "{answer} is stored before the one before");
                self.last = place;
            }
            self.answered += 1;
        }
        self.answered - before
    }
}

/// A consumer or reader.
struct Listener {
    consumer: Consumer,
    /// Whether it gets only what it asks for.
    pulls: bool,
    permits: i64,
    /// What it has not acknowledged, and how many these are to be.
    held: VecDeque<String>,
    holds: usize,
}

impl Listener {
    fn new(consumer: Consumer, holds: usize) -> Self {
        Self { consumer, pulls: false, permits: 0, held: VecDeque::new(), holds }
    }

    /// Acknowledges all but so many.
    fn acknowledge(&mut self, but: usize) {
        while self.held.len() > but {
            let id = self.held.pop_front().unwrap();
            self.consumer.ack(&id);
        }
    }

    fn hear(&mut self) -> Vec<Received> {
        if self.pulls && self.permits < PERMITS {
            self.consumer.permit(PERMITS);
            self.permits += PERMITS;
        }
        let mut all = Vec::new();
        while self.consumer.0.client.has_news() {
            let message = self.consumer.next();
            self.permits -= 1;
            self.held.push_back(message.id.clone());
            self.acknowledge(self.holds);
            all.push(message);
        }
        all
    }
}

/// All who hear a topic as one: the consumers of a subscription, or a reader.
struct Audience {
    what: &'static str,
    listeners: Vec<Listener>,
    /// Path of the subscription; none of a reader.
    path: Option<String>,
    is_ordered: bool,
    next: [u64; PRODUCERS],
    heard: BTreeSet<(usize, u64)>,
    last: Option<(u64, u64)>,
}

impl Audience {
    fn new(what: &'static str, path: Option<String>, listeners: Vec<Listener>) -> Self {
        Self {
            what,
            is_ordered: listeners.len() == 1,
            listeners,
            path,
            next: [0; PRODUCERS],
            heard: BTreeSet::new(),
            last: None,
        }
    }

    /// Consumers of a new subscription to a topic.
    fn consumers(
        daemon: &Daemon,
        what: &'static str,
        topic: &str,
        query: &str,
        holds: &[usize],
    ) -> Self {
        let path = format!("/ws/v2/consumer/{topic}/{what}{query}");
        let open =
            |holds: &usize| Listener::new(Consumer(Socket::open(daemon.address, &path)), *holds);
        let listeners = holds.iter().map(open).collect();
        Self::new(what, Some(path), listeners)
    }

    fn hear(&mut self, is_stored: bool) {
        let all: Vec<Received> = self.listeners.iter_mut().flat_map(Listener::hear).collect();
        for message in all {
            let what = self.what;
            let (producer, number) = message.payload.split_once(' ').unwrap();
            let (producer, number): (usize, u64) =
                (producer.parse().unwrap(), number.parse().unwrap());
            assert!(self.heard.insert((producer, number)), "{what}: {message:?} came twice");
            if let Some(count) = message.whole.get("redeliveryCount") {
                assert_eq!(count, 0, "{what}: {message:?}");
            }
            if self.is_ordered {
                assert_eq!(number, self.next[producer], "{what}: one is missing: {message:?}");
                self.next[producer] += 1;
                let place = Some(place(&message.id));
                assert!(!is_stored || place > self.last, "{what}: {message:?} is out of its place");
                self.last = place;
            }
        }
    }

    /// All leave, and the next consumer of the subscription finds nothing.
    fn end(mut self, address: std::net::SocketAddr) {
        for mut listener in self.listeners.drain(..) {
            listener.acknowledge(0);
            listener.consumer.assert_quiet();
            listener.consumer.0.leave();
        }
        if let Some(path) = self.path {
            Consumer(Socket::open(address, &path)).assert_quiet();
        }
    }
}

/// The clients of a topic.
struct Company {
    is_stored: bool,
    senders: Vec<Sender>,
    audiences: Vec<Audience>,
    pause: Duration,
}

impl Company {
    /// Of a topic that is stored.
    fn durable(daemon: &Daemon, number: usize, pause: Duration) -> Self {
        let topic = format!("persistent/public/default/crowd-{number}");
        let consumers =
            |what, query, holds: &[usize]| Audience::consumers(daemon, what, &topic, query, holds);
        let mut pulling = consumers("pulled", "?pullMode=true", &[0]);
        pulling.listeners[0].pulls = true;
        let audiences = vec![
            consumers("alone", "", &[HELD]),
            consumers("shared", "?subscriptionType=Shared", &[0, HELD]),
            pulling,
        ];
        let mut company = Self {
            is_stored: true,
            senders: (0..PRODUCERS).map(|name| Sender::new(daemon, &topic, name)).collect(),
            audiences,
            pause,
        };
        let reader = Consumer::reader(daemon, &format!("crowd-{number}?messageId=earliest"));
        company.audiences.push(Audience::new("reader", None, vec![Listener::new(reader, HELD)]));
        company
    }

    /// Of a topic whose messages are only passed on.
    fn transient(daemon: &Daemon, number: usize, pause: Duration) -> Self {
        let topic = format!("non-persistent/public/default/crowd-{number}");
        let consumers =
            |what, query, holds: &[usize]| Audience::consumers(daemon, what, &topic, query, holds);
        Self {
            is_stored: false,
            audiences: vec![
                consumers("alone", "", &[0]),
                consumers("shared", "?subscriptionType=Shared", &[0, 0]),
            ],
            senders: (0..PRODUCERS).map(|name| Sender::new(daemon, &topic, name)).collect(),
            pause,
        }
    }

    fn clients(&self) -> usize {
        let listeners = self.audiences.iter().map(|audience| audience.listeners.len());
        self.senders.len() + listeners.sum::<usize>()
    }

    fn hear(&mut self, published: &AtomicU64) {
        for sender in &mut self.senders {
            published.fetch_add(sender.hear(self.is_stored), Relaxed);
        }
        for audience in &mut self.audiences {
            audience.hear(self.is_stored);
        }
    }

    /// Goes on until it is over and everything was heard.
    fn live(mut self, daemon: std::net::SocketAddr, is_over: &AtomicBool, published: &AtomicU64) {
        while !is_over.load(Relaxed) {
            self.senders.iter_mut().for_each(Sender::send);
            self.hear(published);
            std::thread::sleep(self.pause);
        }
        let count: u64 = self.senders.iter().map(|sender| sender.sent).sum();
        eventually_within(3 * DEADLINE, "everything was answered and heard", || {
            self.hear(published);
            self.senders.iter().all(|sender| sender.answered == sender.sent)
                && self.audiences.iter().all(|audience| audience.heard.len() as u64 == count)
        });
        for sender in self.senders {
            sender.producer.0.leave();
        }
        self.audiences.into_iter().for_each(|audience| audience.end(daemon));
    }
}

/// Hands over as an operator does: again, when a machine is too busy for it, which changes nothing.
fn hand_over(service: &mut Service) -> Value {
    let mut answer = Value::Null;
    eventually_within(3 * DEADLINE, "it is handed over", || match service.try_hand_over(&[]) {
        Ok(made) => {
            answer = made;
            true
        }
        Err(said) => {
            assert!(said.contains("the store is busy"), "{said}");
            false
        }
    });
    answer
}

#[test]
fn producers_consumers_and_readers_notice_no_hand_over() {
    let is_long = std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1");
    let (topics, rounds) = if is_long { (TOPICS_LONG, ROUNDS_LONG) } else { (TOPICS, ROUNDS) };
    let mut service = Service::start(setup().set("threads", 2).set("pulsar.ping_interval_s", 0));
    let address = service.daemon.address;
    let published = Arc::<AtomicU64>::default();
    let mut crowd = Going::new();
    let mut clients = 0;
    let pause = PAUSE * topics as u32;
    let durable = (0..topics).map(|number| Company::durable(&service.daemon, number, pause));
    let transient = (0..topics).map(|number| Company::transient(&service.daemon, number, pause));
    for company in durable.chain(transient).collect::<Vec<_>>() {
        clients += company.clients();
        let published = Arc::clone(&published);
        crowd.go(move |is_over| company.live(address, is_over, &published));
    }

    let go_on = || {
        let before = published.load(Relaxed);
        eventually_within(2 * DEADLINE, "messages are published", || {
            published.load(Relaxed) > before + BETWEEN
        });
    };
    for round in 1..=rounds {
        go_on();
        let answer = hand_over(&mut service);
        assert!(answer["passed"].as_u64().unwrap() >= clients as u64, "round {round}: {answer}");
        assert_eq!(answer["told"], 0, "round {round}: {answer}");
        eprintln!("{clients} clients: {answer}");
    }
    go_on();
    crowd.end();
}
