//! What is lost of live events: nothing without a fault, and with faults as much as the nodes say themselves.

use crate::bed::{Bed, SETTLING};
use crate::dialects::{Follower, every_dialect, line};
use crate::harness::{Daemon, Publisher, eventually_within};
use crate::live::lost;
use crate::network::Host;
use crate::server::ServerWish;
use crate::{End, is_long};
use rustix::process::Signal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Numbers of one node's events; those of the next begin behind.
const NODE: u64 = 1_000_000_000;
/// How far a publisher may be ahead of what its own node has delivered.
const AHEAD: u64 = 2_000;
/// The silence after which the others call a node gone, with a second for its last beat.
const GONE: Duration = Duration::from_secs(4);
/// Events that are published at a time.
const BATCH: u64 = 100;

/// What a follower has got of each node's events.
#[derive(Default)]
struct Got {
    last: [AtomicU64; 3],
    missing: [AtomicU64; 3],
}

impl Got {
    /// One more event, which is behind all before it.
    fn take(&self, number: u64) {
        let (origin, number) = ((number / NODE) as usize, number % NODE);
        let last = self.last[origin].swap(number, Relaxed);
        assert!(number > last, "{number} of {origin} comes after {last}");
        self.missing[origin].fetch_add(number - last - 1, Relaxed);
    }

    fn missing(&self) -> u64 {
        self.missing.iter().map(|missing| missing.load(Relaxed)).sum()
    }
}

/// Publishes so many events as fast as its own node delivers them, or at some 4,000 a second until it is told to end;
/// returns how many.
fn publish(socket: &Path, origin: u64, own: &AtomicU64, until: &Until<'_>) -> u64 {
    let mut publisher = Publisher::connect(socket);
    let mut number = 0;
    loop {
        let lines = (1..=BATCH).map(|more| line("personium-event", origin * NODE + number + more));
        publisher.send(lines.map(|line| line + "\n").collect::<String>());
        publisher.receipt();
        number += BATCH;
        let floor = number.saturating_sub(AHEAD);
        eventually_within(SETTLING, "the node delivers", || own.load(Relaxed) >= floor);
        match until {
            Until::Count(count) if number >= *count => return number,
            Until::Count(_) => {}
            Until::Told(is_told) if is_told.load(Relaxed) => return number,
            // The rate of the load, while the faults take their time.
            Until::Told(_) => std::thread::sleep(Duration::from_millis(25)),
        }
    }
}

/// Waits until every follower has got events of each node that no fault has seen: they end every gap.
fn await_later(got: &[Got; 3]) {
    // What has been published is that far ahead at most.
    let firsts: [u64; 3] =
        std::array::from_fn(|of| got[of].last[of].load(Relaxed) + AHEAD + BATCH + 1);
    eventually_within(SETTLING, "every follower gets what came after the faults", || {
        got.iter().all(|got| (0..3).all(|of| got.last[of].load(Relaxed) >= firsts[of]))
    });
}

/// When a publisher ends.
enum Until<'a> {
    /// After so many events.
    Count(u64),
    /// When it is told to.
    Told(&'a AtomicBool),
}

/// Publishes events on each of three nodes, which followers on all of them get, while `faults` happen, and then waits
/// until all has come. Returns how many a node has published at least, and how many each follower is missing.
pub(crate) fn run(
    bed: &mut Bed,
    count: Option<u64>,
    faults: impl FnOnce(&mut Bed),
) -> (u64, [u64; 3]) {
    let got: [Got; 3] = Default::default();
    let (is_calm, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let until = count.map_or(Until::Told(&is_calm), Until::Count);
    let followers: Vec<Follower> =
        bed.nodes().map(|daemon| Follower::of("personium-event", daemon)).collect();
    let sockets: Vec<_> = bed.nodes().map(Daemon::socket).collect();
    std::thread::scope(|scope| {
        let _end = (End(&is_calm), End(&is_over));
        for (mut follower, got) in followers.into_iter().zip(&got) {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Relaxed) {
                    if let Some(number) = follower.look() {
                        got.take(number);
                    }
                }
            });
        }
        let publishers: Vec<_> = sockets
            .iter()
            .enumerate()
            .map(|(origin, socket)| {
                let (own, until) = (&got[origin].last[origin], &until);
                scope.spawn(move || publish(socket, origin as u64, own, until))
            })
            .collect();
        faults(bed);
        bed.await_whole();
        // A node that JetStream does not answer goes to another server, and may miss the last ones.
        for daemon in bed.nodes() {
            eventually_within(SETTLING, "JetStream answers", || {
                daemon.metric("cluster_journal_failing") == 0
            });
        }
        if count.is_none() {
            await_later(&got);
        }
        is_calm.store(true, Relaxed);
        let ends: Vec<u64> = publishers.into_iter().map(|it| it.join().unwrap()).collect();
        eventually_within(SETTLING, "every follower gets the last events", || {
            let lasts = |got: &Got| got.last.each_ref().map(|last| last.load(Relaxed));
            got.iter().all(|got| lasts(got)[..] == ends[..])
        });
    });
    let least = (0..3).map(|of| got[of].last[of].load(Relaxed)).min().unwrap();
    (least, got.each_ref().map(Got::missing))
}

#[test]
fn without_a_fault_nothing_is_lost_or_comes_twice_or_in_another_order() {
    let Some(mut bed) = Bed::start(3, every_dialect) else { return };
    let each = if is_long() { 333_400 } else { 33_400 };
    assert_eq!(run(&mut bed, Some(each), |_| {}), (each, [0; 3]));
    for daemon in bed.nodes() {
        assert_eq!(lost(daemon), 0);
    }
}

#[test]
fn what_is_lost_by_faults_is_counted_to_the_event() {
    let Some(mut bed) = Bed::start(3, every_dialect) else { return };
    let rounds = if is_long() { 50 } else { 1 };
    let (least, missing) = run(&mut bed, None, |bed| {
        for round in 0..rounds {
            let server = round % 3;
            bed.servers[server].kill();
            pause(1_500);
            bed.servers[server].start();
            bed.await_servers();
            if bed.network.has_cables() {
                cut(bed, (round + 1) % 3);
            }
        }
    });
    let counted: Vec<u64> = bed.nodes().map(lost).collect();
    println!("of {least} at least, lost on each node: {missing:?}, counted: {counted:?}");
    assert_eq!(missing.to_vec(), counted);
}

/// A node's cable is bad, cut, and good again; then it is cut for so long that the node is gone for the others.
fn cut(bed: &mut Bed, node: usize) {
    let host = bed.host_of(node).clone();
    let servers: Vec<Host> = bed.servers.iter().map(|server| server.host.clone()).collect();
    servers.iter().for_each(|server| bed.network.lose(server, &host, 20));
    pause(1_000);
    for time_ms in [2_500, 8_000] {
        servers.iter().for_each(|server| bed.network.part(server, &host));
        pause(time_ms);
        bed.network.heal();
        pause(1_000);
    }
}

/// How long a fault lasts.
fn pause(time_ms: u64) {
    std::thread::sleep(Duration::from_millis(time_ms));
}

/// The daemon stands still for less time than its death takes, while more is published than a server holds for it.
#[test]
fn what_a_server_drops_with_a_slow_node_is_counted_and_the_node_comes_back() {
    let wish = ServerWish { more: "max_pending: 8MB\n".into(), ..ServerWish::default() };
    let Some(mut bed) = Bed::engine(&wish) else { return };
    for _ in 0..3 {
        bed.add(every_dialect);
    }
    bed.await_whole();
    let before = bed.node(0).metric("cluster_reconnects_total");
    let mut stood_still = Duration::ZERO;
    let (_, missing) = run(&mut bed, None, |bed| {
        let stopped = Instant::now();
        bed.node(0).signal(Signal::STOP);
        let mut publisher = bed.node(1).publisher();
        let filler = "x".repeat(100_000);
        for _ in 0..250 {
            // No follower takes it for a number.
            let event = serde_json::json!({ "Type": "t", "Object": "o", "Info": filler });
            publisher.send(format!("event/demo {event}\n"));
        }
        assert_eq!(publisher.receipt(), (250, 0));
        eventually_within(SETTLING, "a server has dropped it", || {
            bed.servers.iter().any(|server| server.log().contains("Slow Consumer"))
        });
        bed.node(0).signal(Signal::CONT);
        stood_still = stopped.elapsed();
        eventually_within(SETTLING, "the server has given the node up", || {
            bed.node(0).metric("cluster_reconnects_total") > before
        });
    });
    let counted: Vec<u64> = bed.nodes().map(lost).collect();
    println!("lost on each node: {missing:?}, counted: {counted:?}");
    // It has missed some of those without a number too.
    assert!(missing[0] <= counted[0] && counted[0] > 0, "{missing:?} {counted:?}");
    assert_eq!(missing[1..], counted[1..]);
    assert!(!bed.node(0).logged("the connection to NATS at").is_empty());
    assert!(!bed.node(0).logged("events of other nodes are lost").is_empty());
    // On a busy machine the events may take as long as its death.
    if stood_still < GONE {
        assert!(bed.nodes().skip(1).all(|daemon| daemon.logged("node a is gone").is_empty()));
    }
}
