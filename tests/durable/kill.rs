//! SIGKILL at any moment, with producers that have many messages in flight and consumers that acknowledge: every
//! message is accounted for after every kill.

use crate::account::{ACK_AGE, Account};
use crate::client::{Consumer, message, setup};
use crate::harness::{DEADLINE, Daemon, eventually, eventually_within};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket};

const KILLS: usize = 10;
const KILLS_LONG: usize = 200;
const PRODUCERS: usize = 4;
const IN_FLIGHT: usize = 32;
/// Messages of one producer before it takes a breath: accounting for more would only take longer.
const BURST: usize = 24;
const BREATH: Duration = Duration::from_millis(60);
/// The longest and shortest life, and in between at random.
const LIFE_MS: Range<u64> = 50..2_900;
const TOPIC: &str = "persistent/public/default/killed";
/// The subscriptions, and how their consumers connect; the last has none until the end.
const SUBSCRIPTIONS: [(&str, &str, usize); 3] =
    [("alone", "", 1), ("shared", "&subscriptionType=Shared", 2), ("kept", "", 0)];

type Shared = Arc<Mutex<Account>>;

/// A number of a range, drawn anew in each run.
pub(crate) fn drawn(range: Range<u64>) -> u64 {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    range.start + u64::from_le_bytes(random) % (range.end - range.start)
}

/// Lets a daemon and its clients work for a time. No condition ends it: the kill that follows is to come at any moment of
/// whatever goes on, and what is acknowledged within a second of it is judged by that time.
pub(crate) fn live(life_ms: u64) {
    std::thread::sleep(Duration::from_millis(life_ms));
}

/// A client that takes it as it comes when the daemon dies.
pub(crate) struct Mortal(WebSocket<TcpStream>);

impl Mortal {
    /// Opens a path, if the daemon still lives.
    pub(crate) fn open(address: SocketAddr, path: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let (socket, _) = tungstenite::client(format!("ws://{address}{path}"), stream).ok()?;
        Some(Self(socket))
    }

    /// Sends JSON.
    pub(crate) fn say(&mut self, message: &Value) -> Option<()> {
        self.0.send(Message::text(message.to_string())).ok()
    }

    /// The next message; none at the end.
    pub(crate) fn hear(&mut self) -> Option<Value> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::WouldBlock =>
                {
                    panic!("nothing came for {DEADLINE:?}");
                }
                Err(_) => return None,
            }
        }
    }
}

/// A producer, over all its lives.
struct Sender {
    name: usize,
    next: usize,
    /// Whether it has a name and sequence numbers, and sends again what was not answered.
    exact: bool,
    unanswered: VecDeque<(usize, String)>,
}

impl Sender {
    fn live(&mut self, address: SocketAddr, account: &Shared) -> Option<()> {
        let query =
            if self.exact { format!("?producerName=exact-{}", self.name) } else { String::new() };
        let mut socket = Mortal::open(address, &format!("/ws/v2/producer/{TOPIC}{query}"))?;
        let again = std::mem::take(&mut self.unanswered);
        if self.exact {
            for (number, payload) in again {
                self.send(&mut socket, number, payload)?;
            }
        }
        let repeated = self.unanswered.len();
        for answered in 0.. {
            while self.unanswered.len() < IN_FLIGHT {
                let (number, payload) = (self.next, format!("{}-{}", self.name, self.next));
                self.next += 1;
                account.lock().unwrap().sends(&payload);
                self.send(&mut socket, number, payload)?;
            }
            let answer = socket.hear()?;
            let (_, payload) = self.unanswered.pop_front().unwrap();
            assert_eq!(answer["result"], "ok", "{answer}");
            assert_eq!(answer["context"], payload.as_str(), "answers are in order");
            let mut account = account.lock().unwrap();
            if answered < repeated {
                account.stored_somewhere(&payload);
            } else {
                account.stored(answer["messageId"].as_str().unwrap(), &payload);
            }
            drop(account);
            if answered % BURST == BURST - 1 {
                std::thread::sleep(BREATH);
            }
        }
        None
    }

    fn send(&mut self, socket: &mut Mortal, number: usize, payload: String) -> Option<()> {
        let mut more = json!({ "context": payload });
        if self.exact {
            more["sequenceId"] = number.into();
        }
        let message = message(&payload, &more);
        self.unanswered.push_back((number, payload));
        socket.say(&message)
    }
}

fn consume(
    address: SocketAddr,
    subscription: &'static str,
    query: &str,
    account: &Shared,
) -> Option<()> {
    let path = format!("/ws/v2/consumer/{TOPIC}/{subscription}?receiverQueueSize=200{query}");
    let mut socket = Mortal::open(address, &path)?;
    loop {
        let message = socket.hear()?;
        let id = message["messageId"].as_str().unwrap();
        let payload = crate::client::decoded(&message["payload"]);
        account.lock().unwrap().delivered(subscription, id, &payload);
        socket.say(&json!({ "messageId": id }))?;
        account.lock().unwrap().acknowledged(subscription, id);
    }
}

fn spawn_consumers(address: SocketAddr, account: &Shared, with_kept: bool) -> Vec<JoinHandle<()>> {
    let mut threads = Vec::new();
    for (name, query, count) in SUBSCRIPTIONS {
        let count = if with_kept { count.max(1) } else { count };
        for _ in 0..count {
            let account = Arc::clone(account);
            threads.push(std::thread::spawn(move || {
                let _ = consume(address, name, query, &account);
            }));
        }
    }
    threads
}

/// Reads on where the last look has ended, until all is seen of which a producer was told.
fn look(daemon: &Daemon, account: &Shared, last: &mut String) {
    let path = format!("killed?messageId={}", last.replace('=', "%3D"));
    let mut reader = Consumer::reader(daemon, &path);
    let mut take = |reader: &mut Consumer, message: crate::client::Received| {
        reader.ack(&message.id);
        account.lock().unwrap().logged(&message.id, &message.payload);
        *last = message.id;
    };
    while account.lock().unwrap().unseen() > 0 {
        let message = reader.next();
        take(&mut reader, message);
    }
    for message in reader.drain() {
        take(&mut reader, message);
    }
}

fn kill(mut daemon: Daemon, account: &Shared, threads: Vec<JoinHandle<()>>) -> Daemon {
    let at = Instant::now();
    daemon.signal(Signal::KILL);
    daemon.wait();
    threads.into_iter().for_each(|thread| thread.join().expect("a client has found a fault"));
    account.lock().unwrap().killed(at, ACK_AGE);
    daemon.again()
}

#[test]
fn kills_under_load_lose_repeat_and_invent_nothing() {
    let long = std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1");
    let mut daemon = setup().set("threads", 2).start();
    for (name, query, _) in SUBSCRIPTIONS {
        Consumer::new(&daemon, "killed", &format!("{name}?receiverQueueSize=200{query}")).0.leave();
    }
    let account = Shared::default();
    let mut senders: Vec<Sender> = (0..PRODUCERS)
        .map(|name| Sender { name, next: 0, exact: name % 2 == 1, unanswered: VecDeque::new() })
        .collect();
    let mut last = String::from("earliest");
    for kills in 0..if long { KILLS_LONG } else { KILLS } {
        let address = daemon.address;
        let producers = senders.drain(..).map(|mut sender| {
            let account = Arc::clone(&account);
            std::thread::spawn(move || {
                sender.live(address, &account);
                sender
            })
        });
        let producers: Vec<JoinHandle<Sender>> = producers.collect();
        let consumers = spawn_consumers(address, &account, false);
        let life_ms = drawn(LIFE_MS);
        live(life_ms);
        daemon = kill(daemon, &account, consumers);
        senders = producers
            .into_iter()
            .map(|producer| producer.join().expect("a producer has found a fault"))
            .collect();
        look(&daemon, &account, &mut last);
        let known = account.lock().unwrap();
        eprintln!(
            "kill {}: after {life_ms} ms; {} messages, {} acknowledgements that must hold",
            kills + 1,
            known.log().len(),
            known.settled()
        );
    }
    settle(daemon, &account);
}

/// Every message comes to every subscription; then nothing comes again.
fn settle(mut daemon: Daemon, account: &Shared) {
    let consumers = spawn_consumers(daemon.address, account, true);
    let total = account.lock().unwrap().log().len();
    assert!(total > 0);
    for (name, ..) in SUBSCRIPTIONS {
        eventually_within(3 * DEADLINE, &format!("{total} messages have come to {name}"), || {
            account.lock().unwrap().count_of(name) == total
        });
    }
    // What consumers acknowledge may take a second to the disk; that is the promise.
    live(ACK_AGE.as_millis() as u64);
    daemon = kill(daemon, account, consumers);
    for (name, query, _) in SUBSCRIPTIONS {
        Consumer::new(&daemon, "killed", &format!("{name}?receiverQueueSize=200{query}"))
            .assert_quiet();
    }
    // Once more from the beginning: the log is what it was seen to be, piece by piece.
    let mut reader = Consumer::reader(&daemon, "killed?messageId=earliest");
    let known = account.lock().unwrap();
    for (place, payload) in known.log() {
        let message = reader.take();
        assert_eq!((crate::client::place(&message.id), &message.payload), (*place, payload));
    }
    reader.assert_quiet();
    eventually("the daemon is ready", || daemon.page("/readyz").0 == 200);
}
