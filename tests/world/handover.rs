//! A daemon that hands over to a new process of the program, with clients and publishers that never stop talking.

use crate::channel::{join, setup, token};
use crate::harness::{Client, DEADLINE, Daemon, command, eventually, eventually_within, http};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Channels that clients and publishers talk in.
const CHANNELS: usize = 5;

/// A daemon, and the processes that have taken over from it.
struct Service {
    daemon: Daemon,
    /// The process that runs now.
    pid: Option<u32>,
}

impl Service {
    fn start(threads: usize) -> Self {
        let setup = setup();
        let socket = setup.path("admin.sock");
        let setup = setup.set("threads", threads).set("admin.socket", socket.display());
        Self { daemon: setup.start(), pid: None }
    }

    fn socket(&self) -> PathBuf {
        self.daemon.path("admin.sock")
    }

    /// What `fanfare upgrade` has to say.
    fn upgrade(&self, options: &[&str]) -> Output {
        let socket = self.socket();
        let words = [&["upgrade", "--json", "--admin", socket.to_str().unwrap()], options].concat();
        command(&words).output().unwrap()
    }

    /// Hands over to the next process. Returns the answer.
    #[track_caller]
    fn hand_over(&mut self) -> Value {
        let output = self.upgrade(&[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}\n{}", self.daemon.log().join("\n"));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        self.pid = Some(answer["pid"].as_u64().unwrap() as u32);
        answer
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.and_then(|pid| Pid::from_raw(pid as i32)) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// Threads that go on until they are told, and then say what they have seen.
struct Going<T> {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<T>>,
}

impl<T: Send + 'static> Going<T> {
    fn new() -> Self {
        Self { is_over: Arc::default(), threads: Vec::new() }
    }

    fn go(&mut self, work: impl FnOnce(&AtomicBool) -> T + Send + 'static) {
        let is_over = Arc::clone(&self.is_over);
        self.threads.push(std::thread::spawn(move || work(&is_over)));
    }

    fn end(self) -> Vec<T> {
        self.is_over.store(true, Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

/// Publishes numbers into every channel, over one connection, until it is over. Returns how many.
fn publish(daemon: &Daemon, going: &mut Going<u64>, published: Arc<AtomicU64>) {
    let mut publisher = daemon.publisher();
    going.go(move |is_over| {
        let mut number = 0;
        while !is_over.load(Relaxed) {
            let mut lines = String::new();
            for channel in 0..CHANNELS {
                let event =
                    json!({"channel": format!("chat:{channel}"), "data": {"message": number}});
                lines += &format!("channel {event}\n");
            }
            publisher.send(lines);
            number += 1;
            if number % 10 == 0 {
                assert_eq!(publisher.receipt(), (number * CHANNELS as u64, 0));
            }
            published.store(number, Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(publisher.receipt(), (number * CHANNELS as u64, 0));
        number
    });
}

/// Reads the numbers of events as long as they are the next, until `count` of them have come.
fn read(client: &mut Client, next: &mut u64, count: u64) {
    while *next < count {
        let text = client.text();
        let Some((_, number)) = text.split_once("\"message\":") else { continue };
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = number[..digits].parse().unwrap();
        assert_eq!(number, *next, "an event is missing, or came twice: {text}");
        *next += 1;
    }
}

/// Clients that come one after the other, each of which must be let in.
fn visit(address: SocketAddr, going: &mut Going<u64>) {
    going.go(move |is_over| {
        let mut served = 0;
        while !is_over.load(Relaxed) {
            let token = token(json!({"channel": "chat:visitors", "id": 7}), 3600);
            let mut client = Client::upgraded(address, &format!("/?token={token}"));
            assert!(client.ask(r#"{"data":{}}"#).contains("ok"));
            served += 1;
        }
        served
    });
}

fn user(channel: usize, id: usize) -> String {
    token(json!({"channel": format!("chat:{channel}"), "id": id}), 3600)
}

#[test]
fn clients_and_publishers_talk_on_over_several_hand_overs_and_nothing_is_lost_or_comes_twice() {
    let mut service = Service::start(2);
    let clients: Vec<(usize, Client)> =
        (0..100).map(|id| (id, join(&service.daemon, &user(id % CHANNELS, id)))).collect();
    service.daemon.await_metric("subscriptions", 100);

    let published = Arc::<AtomicU64>::default();
    let mut feed = Going::new();
    publish(&service.daemon, &mut feed, Arc::clone(&published));
    let mut visitors = Going::new();
    visit(service.daemon.address, &mut visitors);
    for round in 1..=3 {
        let before = published.load(Relaxed);
        eventually("events are published", || published.load(Relaxed) > before + 50);
        let answer = service.hand_over();
        assert!(answer["passed"].as_u64().unwrap() >= 100, "round {round}: {answer}");
        assert_eq!(answer["told"], 0, "round {round}");
        eprintln!("{answer}");
        assert!(answer["pause_ms"].as_f64().unwrap() < 1000.0, "round {round}: {answer}");
    }
    let before = published.load(Relaxed);
    eventually("events are published", || published.load(Relaxed) > before + 50);
    assert!(visitors.end()[0] > 10);
    let count = feed.end()[0];
    let start = Instant::now();
    for (_, mut client) in clients {
        read(&mut client, &mut 0, count);
    }
    assert!(start.elapsed() < DEADLINE);
    let (status, _) = http(service.daemon.admin, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status, 200);
    eventually_within(DEADLINE, "the first process ends", || !service.daemon.runs());
}
