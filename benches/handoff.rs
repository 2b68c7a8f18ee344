//! The cost of one event for the whole daemon, by the number of shards: with no subscriber, with
//! one, and with one on each shard. Every shard sleeps before the event, as with a quiet feed. The
//! figures are CPU time, so that other work on the machine does not count.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fanfare::dialect::{Kind, Settings, pulsar};
use fanfare::feed::unix;
use fanfare::io::runtime::Driver;
use fanfare::io::{Daemon, Inherited, Listen, Plan, StopTimes, start};
use fanfare::shard::Limits;
use rustix::time::{ClockId, clock_gettime};

/// An event of a non-persistent topic.
const LINE: &[u8] = b"pulsar/non-persistent/t/n/x {\"payload\":\"eA==\"}\n";
/// The handshake of a client that subscribes to it.
const REQUEST: &[u8] =
    b"GET /ws/v2/reader/non-persistent/t/n/x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
                         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// Events per figure, which is their median.
const EVENTS: usize = 301;
/// The time from one event to the next, long enough for everything that an event causes.
const QUIET: Duration = Duration::from_millis(3);

fn main() {
    println!(
        "CPU time of one event, µs (median of {EVENTS}): no subscriber, one, one on each shard"
    );
    for shards in [1, 2, 8, 16, 64] {
        let directory = tempfile::tempdir().expect("a directory can be created");
        let socket = directory.path().join("feed.sock");
        let daemon = daemon(shards, directory.path());
        let mut publisher = UnixStream::connect(&socket).expect("the feed listens");
        let idle = median(|| {});
        let none = median(|| publish(&mut publisher)) - idle;
        let address = daemon.addresses()[0];
        let mut clients = vec![follow(address)];
        let one = median(|| publish(&mut publisher)) - idle;
        follow_everywhere(&daemon, shards, &mut clients);
        let all = median(|| publish(&mut publisher)) - idle;
        println!(
            "{shards:3} shards: {none:6.1} {one:6.1} {all:6.1}   ({} followers)",
            clients.len()
        );
        drop(publisher);
        drop(clients);
        daemon.stop(StopTimes { drain: Duration::from_secs(2), spread: Duration::ZERO });
    }
}

/// A daemon with its feed and its store in a directory. The store has no part in a non-persistent
/// event, but a reader asks its owner for admission.
fn daemon(shards: usize, directory: &Path) -> Daemon {
    let store = format!("path = '{}'", directory.join("store").display());
    let pulsar = pulsar::PulsarSettings { anonymous: true, ..Default::default() };
    let listen = Listen {
        address: ([127, 0, 0, 1], 0).into(),
        kinds: vec![Kind::Pulsar],
        tls: None,
        expiry_s: None,
        proxied: false,
    };
    let plan = Plan {
        handover: None,
        shards,
        cpus: Vec::new(),
        driver: Driver::Auto,
        listen: vec![listen],
        admin: None,
        feed: unix::UnixFeedSettings {
            path: Some(directory.join("feed.sock")),
            ..Default::default()
        },
        bus: None,
        redis: None,
        cluster: None,
        otlp: None,
        settings: Arc::new(Settings { pulsar, ..Settings::default() }),
        store: Some(toml::from_str(&store).expect("it is a table of settings")),
        limits: Limits::default(),
        inherited: Inherited::default(),
    };
    start(plan).expect("the daemon starts")
}

/// The median CPU time of this process, in µs, for an act and the quiet after it.
fn median(mut act: impl FnMut()) -> f64 {
    let mut costs: Vec<f64> = (0..EVENTS)
        .map(|_| {
            let before = cpu_us();
            act();
            std::thread::sleep(QUIET);
            cpu_us() - before
        })
        .collect();
    costs.sort_by(f64::total_cmp);
    costs[EVENTS / 2]
}

fn cpu_us() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn publish(publisher: &mut UnixStream) {
    publisher.write_all(LINE).expect("the feed reads");
}

/// Connects a client, and returns it once the daemon has accepted it.
fn follow(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).expect("the daemon listens");
    client.write_all(REQUEST).expect("the daemon reads");
    let mut answer = [0; 1024];
    let count = client.read(&mut answer).expect("the daemon answers");
    assert!(answer[..count].starts_with(b"HTTP/1.1 101"), "{}", answer[..count].escape_ascii());
    client
}

/// Adds clients until each shard has one: the kernel decides which shard gets a connection.
fn follow_everywhere(daemon: &Daemon, count: usize, clients: &mut Vec<TcpStream>) {
    let followed = || {
        let threads = daemon.status().threads;
        threads[..count]
            .iter()
            .filter(|shard| shard.sessions[Kind::Pulsar as usize].get() > 0)
            .count()
    };
    while followed() < count {
        let before = followed();
        let client = follow(daemon.addresses()[0]);
        if followed() > before {
            clients.push(client);
        }
    }
}
