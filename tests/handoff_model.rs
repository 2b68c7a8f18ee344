//! The hand-off between threads under a scheduler that tries the orders in which threads can meet: these are the files
//! of the product, with the scheduler's primitives in place of the system's.

#[allow(dead_code, unreachable_pub, reason = "the daemon uses more of it, and others see it")]
#[path = "../src/io/handoff/inbox.rs"]
mod inbox;
#[allow(dead_code, unreachable_pub, reason = "the daemon uses more of it, and others see it")]
#[path = "../src/io/handoff/log.rs"]
mod log;
#[allow(dead_code, unreachable_pub, reason = "the daemon uses more of it, and others see it")]
#[path = "../src/io/handoff/merge.rs"]
mod merge;

use inbox::{Bounds, Fill, Inbox, Wake, Weigh};
use log::{Log, Stamped};
use merge::{MergedReader, NextRead};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;
use std::collections::VecDeque;
use std::sync::Arc;

/// As `src/io/handoff/primitives.rs`.
mod primitives {
    pub(super) use shuttle::sync::atomic::{AtomicU64, AtomicUsize};
    pub(super) use shuttle::sync::{Mutex, MutexGuard};
    use std::sync::OnceLock as Value;
    use std::sync::atomic::Ordering::SeqCst;

    /// The system's, with a moment before each use at which other threads may have their turn.
    pub(super) struct OnceLock<T>(Value<T>, AtomicUsize);

    impl<T> OnceLock<T> {
        pub(super) fn new() -> Self {
            Self(Value::new(), AtomicUsize::new(0))
        }

        pub(super) fn get(&self) -> Option<&T> {
            self.1.load(SeqCst);
            self.0.get()
        }

        pub(super) fn get_mut(&mut self) -> Option<&mut T> {
            self.0.get_mut()
        }

        pub(super) fn set(&self, value: T) -> Result<(), T> {
            self.1.fetch_add(1, SeqCst);
            self.0.set(value)
        }
    }
}

/// Runs of each scheduler: a planted fault is found within some dozens.
const RUNS: usize = 3000;
/// How often the second scheduler stops a thread where it is least expected.
const PREEMPTIONS: usize = 3;

fn check(model: fn()) {
    shuttle::check_random(model, RUNS);
    shuttle::check_pct(model, RUNS, PREEMPTIONS);
}

/// A publication, or a message to one shard.
type Text = Arc<str>;

impl Weigh for Text {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weigh for Stamped<Text> {
    fn weight(&self) -> usize {
        self.message.len()
    }
}

/// What a thread sleeps on; a thread that is not woken sleeps for ever, which the scheduler reports.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock().expect("no thread panics with it");
        while !std::mem::take(&mut *rung) {
            rung = self.changed.wait(rung).expect("no thread panics with it");
        }
    }
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rung.lock().expect("no thread panics with it") = true;
        self.changed.notify_one();
    }
}

/// The daemon's hub, as far as it matters here.
struct Hub {
    log: Log<Text>,
    mailboxes: Vec<Inbox<Stamped<Text>, Bell>>,
    fill: Fill,
}

const ROOMY: Bounds = Bounds { count: 100, bytes: 1000 };

impl Hub {
    fn new(shards: usize) -> Arc<Self> {
        let fill = Fill::default();
        let mailboxes = (0..shards).map(|_| Inbox::new(Bell::default(), ROOMY, &fill)).collect();
        Arc::new(Self { log: Log::new(2), mailboxes, fill })
    }

    /// Returns how many see it.
    fn push(&self, lane: usize, texts: &[&str]) -> usize {
        let mut count = 0;
        let texts: Vec<Text> = texts.iter().map(|text| Text::from(*text)).collect();
        let readers = self.log.push(lane, texts, |_, readers| count = readers.len());
        readers.iter().for_each(|reader| self.mailboxes[reader].nudge());
        count
    }

    fn post(&self, shard: usize, text: &str) {
        self.mailboxes[shard].post(self.log.stamped([Text::from(text)]));
    }
}

/// A shard that notes all it sees.
struct Shard {
    hub: Arc<Hub>,
    number: usize,
    merge: MergedReader<Text, Text>,
    seen: Vec<String>,
}

impl Shard {
    fn new(hub: &Arc<Hub>, number: usize, lanes: &[usize]) -> Self {
        let mut merge = MergedReader::new(number, 2);
        lanes.iter().for_each(|lane| merge.follow(&hub.log, *lane, true));
        Self { hub: Arc::clone(hub), number, merge, seen: Vec::new() }
    }

    fn turn(&mut self) {
        self.hub.mailboxes[self.number].mark_awake();
        self.merge.take(&self.hub.log, &self.hub.mailboxes[self.number]);
        loop {
            let is_message_next = self.merge.is_message_next();
            let Some(next) = self.merge.pop() else { break };
            assert_eq!(matches!(next, NextRead::Message(_)), is_message_next);
            self.seen.push(match next {
                NextRead::Item(text) => text.to_string(),
                NextRead::Message(text) => text.to_string(),
            });
        }
    }

    /// Turns and sleeps until it has seen so many.
    fn run(mut self, count: usize) -> Vec<String> {
        while self.seen.len() < count {
            self.turn();
            if self.seen.len() < count && self.merge.sleep(&self.hub.mailboxes[self.number]) {
                self.hub.mailboxes[self.number].waker().wait();
            }
        }
        self.seen
    }
}

fn position(seen: &[String], text: &str) -> usize {
    seen.iter().position(|seen| seen == text).unwrap_or_else(|| panic!("{text} is not in {seen:?}"))
}

#[test]
fn every_follower_sees_everything_in_one_order_and_a_reply_stands_where_it_was_said() {
    check(|| {
        let hub = Hub::new(2);
        let shards = [Shard::new(&hub, 0, &[0]), Shard::new(&hub, 1, &[0, 1])];
        let (owner, other) = (Arc::clone(&hub), Arc::clone(&hub));
        let owner = thread::spawn(move || {
            owner.push(0, &["added 1"]);
            owner.post(0, "list of 1");
            owner.push(0, &["added 2", "added 3"]);
            owner.post(0, "list of 3");
        });
        let other = thread::spawn(move || {
            other.push(0, &["else"]);
            other.push(1, &["elsewhere"]);
        });
        let [first, second] = shards.map(|shard| {
            let count = if shard.number == 0 { 6 } else { 5 };
            thread::spawn(move || shard.run(count))
        });
        owner.join().unwrap();
        other.join().unwrap();
        let (first, second) = (first.join().unwrap(), second.join().unwrap());

        let order = ["added 1", "list of 1", "added 2", "added 3", "list of 3"];
        assert!(order.is_sorted_by_key(|text| position(&first, text)), "{first:?}");
        let lane: Vec<_> = first.iter().filter(|text| !text.starts_with("list")).collect();
        let seen: Vec<_> = second.iter().filter(|text| *text != "elsewhere").collect();
        assert_eq!(lane, seen);
        assert!(
            hub.log.depth() == 0 && hub.log.has_room() && hub.fill.has_room(),
            "everything is read"
        );
    });
}

#[test]
fn what_is_published_after_a_shard_follows_is_seen_and_only_that_is_waited_for() {
    check(|| {
        let hub = Hub::new(1);
        let publisher = Arc::clone(&hub);
        let publisher = thread::spawn(move || -> usize {
            ["1", "2", "3"].map(|text| publisher.push(0, &[text])).into_iter().sum()
        });
        let mut shard = Shard::new(&hub, 0, &[]);
        for is_wanted in [true, false, true, false] {
            shard.turn();
            shard.merge.follow(&hub.log, 0, is_wanted);
        }
        let announced = publisher.join().unwrap();
        while !shard.merge.sleep(&hub.mailboxes[0]) {
            shard.turn();
        }
        assert_eq!(shard.seen.len(), announced, "{:?}", shard.seen);
        // It is unknown to the log from here on.
        shard.merge.follow(&hub.log, 0, false);
        assert_eq!((hub.push(0, &["4"]), hub.log.depth()), (0, 0));
    });
}

#[test]
fn a_message_does_not_overtake_what_its_sender_has_seen_published() {
    check(|| {
        let hub = Hub::new(2);
        let (mut owner, mut asker) = (Shard::new(&hub, 0, &[0]), Shard::new(&hub, 1, &[0]));
        let publisher = Arc::clone(&hub);
        let publisher = thread::spawn(move || publisher.push(0, &["event"]));
        let asking = Arc::clone(&hub);
        let asker = thread::spawn(move || {
            while asker.seen.is_empty() {
                asker.turn();
                if asker.merge.sleep(&asking.mailboxes[1]) && asker.seen.is_empty() {
                    asking.mailboxes[1].waker().wait();
                }
            }
            asking.post(0, "what is kept?");
        });
        let owner = thread::spawn(move || {
            owner.turn();
            owner.run(2)
        });
        publisher.join().unwrap();
        asker.join().unwrap();
        assert_eq!(owner.join().unwrap(), ["event", "what is kept?"]);
    });
}

#[test]
fn room_comes_back_when_the_slowest_has_passed_and_an_inbox_is_emptied() {
    check(|| {
        let hub = Hub::new(2);
        let shards = [Shard::new(&hub, 0, &[0]), Shard::new(&hub, 1, &[0])];
        let shards = shards.map(|shard| thread::spawn(move || shard.run(2)));
        hub.push(0, &["1"]);
        hub.push(0, &["2"]);
        shards.into_iter().for_each(|shard| drop(shard.join().unwrap()));
        assert_eq!(hub.log.depth(), 0);

        let fill = Fill::default();
        let inbox = Arc::new(Inbox::new(Bell::default(), Bounds { count: 1, bytes: 9 }, &fill));
        let (posting, taking) = (Arc::clone(&inbox), Arc::clone(&inbox));
        let poster = thread::spawn(move || {
            let mut lost = 0;
            ["1", "2"]
                .into_iter()
                .for_each(|text| posting.offer([Text::from(text)], |_| lost += 1));
            lost
        });
        let reader = thread::spawn(move || {
            if taking.sleep(|| true) {
                taking.waker().wait();
            }
            let mut taken = VecDeque::new();
            taking.take(&mut taken);
            taken.len()
        });
        let (lost, taken) = (poster.join().unwrap(), reader.join().unwrap());
        assert!(taken > 0, "it was woken for something");
        assert_eq!(lost + taken + inbox.depth(), 2);
        assert_eq!(fill.has_room(), inbox.depth() == 0);
    });
}
