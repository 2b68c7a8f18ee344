//! SIGKILL at any moment while queues are only passed through: what is stored dies soon, so that the store gives room
//! back all the time, and now and then one message stays for long among those that are gone.

use crate::account::{Account, Place};
use crate::client::{Consumer, Producer, decoded, message, place, setup};
use crate::harness::{DEADLINE, Daemon, eventually_within};
use crate::kill::{Mortal, drawn, live};
use rustix::process::Signal;
use serde_json::json;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const KILLS: usize = 8;
const KILLS_LONG: usize = 150;
/// Lives after which all that waits has to come before the next kill.
const LOOK_EVERY: usize = 4;
const TOPICS: [&str; 2] = ["churned-0", "churned-1"];
const SUBSCRIPTION: &str = "passing";
const CONSUMER: &str = "passing?receiverQueueSize=1000";
const IN_FLIGHT: usize = 32;
const BYTES: Range<usize> = 200..16_000;
/// The longest and shortest life, and in between at random.
const LIFE_MS: Range<u64> = 50..3_500;
/// Messages of one producer before it takes a breath, so that the consumer keeps up.
const BURST: usize = 32;
const BREATH: Duration = Duration::from_millis(20);
/// How old an acknowledgement may be that the store does not have yet.
const STORED_WITHIN: Duration = Duration::from_secs(1);
/// One message of so many is acknowledged only some lives after it came first.
const STRAGGLER_OF: usize = 97;
const STRAGGLES_LIVES: usize = 3;
/// The life in which none straggles any more.
const LAST: usize = usize::MAX;

/// What is known of a topic and its one subscription, over all lives.
#[derive(Default)]
struct Queue {
    account: Account,
    /// The number of the next message.
    next: usize,
    acknowledged: HashSet<Place>,
    /// What producers were told is stored and no consumer has acknowledged.
    waits: BTreeSet<Place>,
    came: HashSet<Place>,
    /// What consumers have acknowledged in this life and the daemon may not have got yet.
    unconfirmed: VecDeque<String>,
    /// When the last message was sent in this life that was answered.
    answered: Option<Instant>,
    /// The life in which a straggler came first.
    first: HashMap<usize, usize>,
}

type Shared = Arc<Mutex<Queue>>;

impl Queue {
    fn stored(&mut self, id: &str, name: &str, sent: Instant) {
        self.answered = Some(sent);
        self.account.stored(id, name);
        if !self.acknowledged.contains(&place(id)) {
            self.waits.insert(place(id));
        }
    }

    /// A message came; whether it is to be acknowledged now.
    fn delivered(&mut self, id: &str, name: &str, life: usize) -> bool {
        self.account.delivered(SUBSCRIPTION, id, name);
        self.came.insert(place(id));
        let number: usize = name.rsplit_once('-').unwrap().1.parse().unwrap();
        let first = *self.first.entry(number).or_insert(life);
        !number.is_multiple_of(STRAGGLER_OF) || life == LAST || life - first >= STRAGGLES_LIVES
    }

    /// The number and name of the message that is sent next.
    fn sends(&mut self, topic: &str) -> (usize, String) {
        let (number, name) = (self.next, format!("{topic}-{}", self.next));
        self.next += 1;
        self.account.sends(&name);
        (number, name)
    }

    /// The daemon has got the acknowledgement that was sent first of those that it may not have.
    fn confirmed(&mut self) {
        let id = self.unconfirmed.pop_front().expect("an acknowledgement");
        self.account.acknowledged(SUBSCRIPTION, &id);
    }

    /// A consumer acknowledges it.
    fn acknowledges(&mut self, id: &str) {
        self.unconfirmed.push_back(id.to_owned());
        self.acknowledged.insert(place(id));
        self.waits.remove(&place(id));
    }

    fn killed(&mut self) {
        // A machine may be too busy for the daemon to keep up. But whoever stores a message that was sent a second after
        // an acknowledgement has stored that too.
        let (at, age_min) = self
            .answered
            .take()
            .map_or((Instant::now(), Duration::MAX), |sent| (sent, STORED_WITHIN));
        self.account.killed(at, age_min);
        self.unconfirmed.clear();
        self.came.clear();
        self.first.retain(|number, _| number.is_multiple_of(STRAGGLER_OF));
    }

    /// What waits and has not come in this life.
    fn missing(&self) -> usize {
        self.waits.difference(&self.came.iter().copied().collect()).count()
    }
}

/// A payload by its name: of a length and with contents that follow from it.
fn payload(topic: &str, number: usize) -> String {
    let length = BYTES.start + number * 7919 % (BYTES.end - BYTES.start);
    let letter = char::from(b'a' + (number % 26) as u8);
    format!("{topic}-{number}|{}", letter.to_string().repeat(length))
}

fn produce(address: SocketAddr, topic: &str, queue: &Shared) -> Option<()> {
    let mut socket =
        Mortal::open(address, &format!("/ws/v2/producer/persistent/public/default/{topic}"))?;
    let mut unanswered = VecDeque::new();
    for answered in 1.. {
        while unanswered.len() < IN_FLIGHT {
            let (number, name) = queue.lock().unwrap().sends(topic);
            unanswered.push_back((name, Instant::now()));
            socket.say(&message(&payload(topic, number), &json!({})))?;
        }
        let answer = socket.hear()?;
        assert_eq!(answer["result"], "ok", "{answer}");
        let (name, sent) = unanswered.pop_front().unwrap();
        queue.lock().unwrap().stored(answer["messageId"].as_str().unwrap(), &name, sent);
        if answered % BURST == 0 {
            std::thread::sleep(BREATH);
        }
    }
    None
}

fn consume(address: SocketAddr, topic: &str, queue: &Shared, life: usize) -> Option<()> {
    let path = format!("/ws/v2/consumer/persistent/public/default/{topic}/{CONSUMER}");
    let mut socket = Mortal::open(address, &path)?;
    let mut last = None;
    loop {
        let heard = socket.hear()?;
        if heard.get("endOfTopic").is_some() {
            queue.lock().unwrap().confirmed();
            continue;
        }
        let id = heard["messageId"].as_str().unwrap().to_owned();
        let text = decoded(&heard["payload"]);
        let name = text.split_once('|').unwrap().0;
        let number: usize = name.rsplit_once('-').unwrap().1.parse().unwrap();
        assert!(text == payload(topic, number), "{name} at {id} is damaged");
        assert!(last < Some(place(&id)), "{name} at {:?} comes after {last:?}", place(&id));
        last = Some(place(&id));
        if !queue.lock().unwrap().delivered(&id, name, life) {
            continue;
        }
        queue.lock().unwrap().acknowledges(&id);
        socket.say(&json!({ "messageId": id }))?;
        // The answer says that the daemon has it.
        socket.say(&json!({ "type": "isEndOfTopic" }))?;
    }
}

/// Producers, where there are to be, and consumers of all topics.
fn spawn(
    address: SocketAddr,
    queues: &[Shared; 2],
    life: usize,
    producers: bool,
) -> Vec<JoinHandle<()>> {
    let mut threads = Vec::new();
    for (topic, queue) in TOPICS.into_iter().zip(queues) {
        let consumed = Arc::clone(queue);
        threads.push(std::thread::spawn(move || {
            let _ = consume(address, topic, &consumed, life);
        }));
        if producers {
            let produced = Arc::clone(queue);
            threads.push(std::thread::spawn(move || {
                let _ = produce(address, topic, &produced);
            }));
        }
    }
    threads
}

fn kill(mut daemon: Daemon, queues: &[Shared; 2], threads: Vec<JoinHandle<()>>) -> Daemon {
    daemon.signal(Signal::KILL);
    daemon.wait();
    threads.into_iter().for_each(|thread| thread.join().expect("a client has found a fault"));
    queues.iter().for_each(|queue| queue.lock().unwrap().killed());
    daemon.again()
}

fn await_all(queues: &[Shared; 2]) {
    for (topic, queue) in TOPICS.iter().zip(queues) {
        eventually_within(2 * DEADLINE, &format!("all that waits in {topic} has come"), || {
            queue.lock().unwrap().missing() == 0
        });
    }
}

#[test]
fn kills_while_messages_pass_through_lose_nothing_that_waits() {
    let long = std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1");
    let mut daemon = setup().set("threads", 2).set("pulsar.retention_s", 0).start();
    for topic in TOPICS {
        Consumer::new(&daemon, topic, CONSUMER).0.leave();
    }
    let queues: [Shared; 2] = [Shared::default(), Shared::default()];
    let kills = if long { KILLS_LONG } else { KILLS };
    for life in 0..kills {
        let life_ms = drawn(LIFE_MS);
        let threads = spawn(daemon.address, &queues, life, true);
        live(life_ms);
        daemon = kill(daemon, &queues, threads);
        if life % LOOK_EVERY == LOOK_EVERY - 1 {
            let threads = spawn(daemon.address, &queues, life, false);
            await_all(&queues);
            daemon = kill(daemon, &queues, threads);
        }
        let counts = queues.iter().map(|queue| {
            let known = queue.lock().unwrap();
            (known.next, known.waits.len(), known.account.settled())
        });
        let counts: Vec<_> = counts.collect();
        eprintln!(
            "kill {}: after {life_ms} ms; sent, waiting, acknowledged for certain: {counts:?}",
            life + 1
        );
    }
    // Now the last stragglers are acknowledged too.
    let threads = spawn(daemon.address, &queues, LAST, false);
    await_all(&queues);
    for queue in &queues {
        eventually_within(DEADLINE, "all is acknowledged", || {
            let known = queue.lock().unwrap();
            known.waits.is_empty() && known.unconfirmed.is_empty()
        });
    }
    live(STORED_WITHIN.as_millis() as u64);
    let mut last = Vec::new();
    for (topic, queue) in TOPICS.iter().zip(&queues) {
        let (number, _) = queue.lock().unwrap().sends(topic);
        last.push(Producer::new(&daemon, topic).send(&payload(topic, number)));
    }
    daemon = kill(daemon, &queues, threads);
    for ((topic, queue), last) in TOPICS.iter().zip(&queues).zip(last) {
        assert!(queue.lock().unwrap().account.settled() > 0);
        let again = Consumer::new(&daemon, topic, CONSUMER).drain();
        assert!(again.iter().all(|message| message.id == last), "{again:?}");
    }
}
