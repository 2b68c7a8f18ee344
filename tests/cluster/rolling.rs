//! An upgrade of everything: each daemon and each server is stopped and started again, one after the other, under
//! load.

use crate::bed::{Bed, SETTLING};
use crate::crowd::Crowd;
use crate::dialects::{Follower, every_dialect, line};
use crate::harness::{Daemon, Publisher, eventually_within};
use crate::live::lost;
use crate::presence::Dice;
use crate::{End, is_long};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Publishes numbered events until it is over, 200 a second; returns how many.
fn load(socket: &Path, is_over: &AtomicBool) -> u64 {
    let mut publisher = Publisher::connect(socket);
    let mut number = 0;
    while !is_over.load(Relaxed) {
        number += 1;
        publisher.send(line("personium-event", number) + "\n");
        publisher.receipt();
        std::thread::sleep(Duration::from_millis(5));
    }
    number
}

#[test]
fn a_rolling_restart_loses_no_member_and_no_event_uncounted() {
    let Some(mut bed) = Bed::start(3, every_dialect) else { return };
    let (mut crowd, mut dice) = (Crowd::default(), Dice(7));
    let members = if is_long() { 600 } else { 45 };
    for number in 0..members {
        crowd.join(
            &bed,
            number % 3,
            &format!("presence-{}", number % 15),
            &format!("user-{number}"),
        );
    }
    crowd.settle(&bed, SETTLING);

    restart_servers(&mut bed);
    crowd.settle(&bed, SETTLING);

    // Daemons: whose clients connect to another at once.
    for index in 0..3 {
        let moved: Vec<(String, String)> = crowd
            .members
            .iter()
            .filter(|member| member.node == index)
            .map(|member| (member.channel.clone(), member.user.clone()))
            .collect();
        let start = Instant::now();
        crowd.lose(index);
        bed.stop(index);
        for (channel, user) in &moved {
            crowd.join_patiently(&bed, (index + 1 + dice.roll(2)) % 3, channel, user);
        }
        let took = crowd.settle_among(&bed, index, SETTLING);
        println!("node {index} is stopped: right after {:?}, of them {took:?}", start.elapsed());
        bed.again(index);
        bed.await_whole();
    }
    crowd.settle(&bed, SETTLING);
    assert!(bed.nodes().all(|daemon: &Daemon| daemon.logged("panicked").is_empty()));
}

/// Restarts the servers, one after the other, under load: no client may notice, and what is lost on the way is known.
fn restart_servers(bed: &mut Bed) {
    let (is_calm, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let heard = AtomicU64::new(0);
    let mut follower = Follower::of("personium-event", bed.node(1));
    let socket = bed.node(0).socket();
    let sent = std::thread::scope(|scope| {
        let ends = (End(&is_calm), End(&is_over));
        let loading = scope.spawn(|| load(&socket, &is_calm));
        scope.spawn(|| {
            let mut last = 0;
            while !is_over.load(Relaxed) || follower.client.has_news() {
                if let Some(number) = follower.look() {
                    assert!(number > last, "{number} after {last}");
                    last = number;
                    heard.fetch_add(1, Relaxed);
                }
            }
        });
        for index in 0..3 {
            bed.servers[index].stop();
            bed.servers[index].start();
            bed.await_servers();
            bed.await_whole();
        }
        is_calm.store(true, Relaxed);
        let sent = loading.join().unwrap();
        // A gap at the end is known from the next heartbeat.
        eventually_within(SETTLING, "each event is heard or counted as lost", || {
            heard.load(Relaxed) + lost(bed.node(1)) == sent
        });
        drop(ends);
        sent
    });
    let counted: u64 = lost(bed.node(1));
    println!("{sent} events, {} heard, {counted} counted as lost", heard.load(Relaxed));
    assert_eq!(heard.load(Relaxed) + counted, sent);
}
