//! Presence over nodes: what is so at rest, and during faults.

use crate::bed::Bed;
use crate::crowd::{Crowd, Member, ask, users};
use crate::dialects::every_dialect;
use crate::harness::{DEADLINE, Echo, MET, assert_prints, eventually, node, skip};
use crate::{End, is_long};
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long an election of NATS and the change of an owner may take together, on a machine that is busy.
pub(crate) const RECOVERY: Duration = Duration::from_secs(40);

/// Numbers that are the same in each run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `below`.
    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

fn hosts(bed: &Bed) -> String {
    bed.nodes().map(|daemon| daemon.address.ip().to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn laravel_echo_sees_the_members_of_all_nodes() {
    let Some(mut script) = node("echo_presence.js") else { return };
    let Some(bed) = Bed::start(3, every_dialect) else { return };
    assert_prints(script.arg(hosts(&bed)).arg("8080"), MET);
    for daemon in bed.nodes() {
        daemon.await_metric("connections", 0);
        eventually("no channel is occupied", || {
            ask(daemon.address, "/channels") == (200, json!({ "channels": {} }))
        });
    }
}

/// A crowd of so many members, each in one of so many channels, some as users who are there already.
fn crowd(bed: &Bed, dice: &mut Dice, channels: usize, members: usize) -> Crowd {
    let mut crowd = Crowd::default();
    for _ in 0..members {
        come(bed, dice, &mut crowd, channels);
    }
    crowd
}

#[track_caller]
fn come(bed: &Bed, dice: &mut Dice, crowd: &mut Crowd, channels: usize) {
    let channel = format!("presence-{}", dice.roll(channels));
    let user = format!("user-{}", dice.roll(12));
    crowd.join_patiently(bed, dice.roll(3), &channel, &user);
}

#[test]
fn after_joins_and_leaves_all_lists_are_right_everywhere() {
    let Some(bed) = Bed::start(3, every_dialect) else { return };
    let (channels, members, rounds) = if is_long() { (100, 1_000, 20) } else { (12, 60, 3) };
    let mut dice = Dice(1);
    let mut crowd = crowd(&bed, &mut dice, channels, members);
    crowd.settle(&bed, RECOVERY);
    for _ in 0..rounds {
        for _ in 0..members / 2 {
            let gone = dice.roll(crowd.members.len());
            crowd.members.swap_remove(gone);
            come(&bed, &mut dice, &mut crowd, channels);
        }
        crowd.settle(&bed, RECOVERY);
    }
    crowd.members.clear();
    crowd.settle(&bed, RECOVERY);
}

/// Each of the nodes that are killed owned some of the channels.
#[test]
fn a_nodes_end_takes_its_members_and_no_other_out_of_the_lists() {
    let Some(mut bed) = Bed::start(3, every_dialect) else { return };
    let rounds = if is_long() { 100 } else { 2 };
    let mut dice = Dice(2);
    let mut crowd = Crowd::default();
    for round in 0..rounds {
        let victim = round % 3;
        for number in 0..30 {
            let (channel, user) =
                (format!("presence-{}", number % 10), format!("user-{round}-{number}"));
            crowd.join_patiently(&bed, dice.roll(3), &channel, &user);
        }
        crowd.settle(&bed, RECOVERY);

        let before = crowd.lists();
        bed.kill(victim);
        crowd.lose(victim);
        let after = crowd.lists();
        let took = crowd.settle_among(&bed, victim, RECOVERY);
        println!("round {round}: the others know after {took:?}");
        assert!(took < DEADLINE, "the others know after {took:?}");
        for member in &mut crowd.members {
            let gone: BTreeSet<&String> =
                before[&member.channel].difference(&after[&member.channel]).collect();
            let told: BTreeSet<&String> = member.removed.iter().collect();
            assert_eq!(told, gone, "{} in {}", member.user, member.channel);
            member.removed.clear();
        }
        bed.again(victim);
        bed.await_whole();
        crowd.settle(&bed, RECOVERY);
    }
}

#[test]
fn joins_wait_for_elections_and_lists_are_right_after_servers_were_killed_one_by_one() {
    let Some(mut bed) = Bed::start(3, every_dialect) else { return };
    let mut dice = Dice(3);
    let mut crowd = crowd(&bed, &mut dice, 12, 30);
    for victim in 0..3 {
        bed.servers[victim].kill();
        for _ in 0..10 {
            come(&bed, &mut dice, &mut crowd, 12);
            let gone = dice.roll(crowd.members.len());
            crowd.members.swap_remove(gone);
        }
        crowd.settle(&bed, RECOVERY);
        bed.servers[victim].start();
        bed.await_servers();
    }
    crowd.settle(&bed, RECOVERY);
}

#[test]
fn a_node_that_was_cut_off_and_one_that_stood_still_are_right_again() {
    let Some(mut bed) = Bed::start(3, every_dialect) else { return };
    let mut dice = Dice(4);
    let mut crowd = crowd(&bed, &mut dice, 12, 40);
    crowd.settle(&bed, RECOVERY);

    bed.node(1).signal(Signal::STOP);
    // It stands still for longer than a node may be silent before it is gone.
    eventually("the others take it for gone", || {
        [0, 2].iter().all(|node| bed.node(*node).metric("cluster_peers") == 1)
    });
    bed.node(1).signal(Signal::CONT);
    crowd.settle(&bed, RECOVERY);

    if !bed.network.has_cables() {
        return skip("a node that is cut off", "cables cannot be cut");
    }
    let host = bed.host_of(2).clone();
    let servers: Vec<_> = bed.servers.iter().map(|server| server.host.clone()).collect();
    servers.iter().for_each(|server| bed.network.part(&host, server));
    // The others have seen it go, and it has said nothing of them.
    eventually("the others know", || {
        let alone = bed.node(0).metric("cluster_peers") == 1;
        alone && bed.node(1).metric("cluster_peers") == 1
    });
    crowd.join_patiently(&bed, 0, "presence-0", "someone-new");
    let gone = crowd.members.iter().position(|member| member.node == 1).unwrap();
    crowd.members.swap_remove(gone);
    bed.network.heal();
    crowd.settle(&bed, RECOVERY);
}

#[test]
fn a_limit_of_members_is_exact_over_nodes() {
    let Some(bed) = Bed::start(3, |setup, host| {
        every_dialect(setup, host).set("echo.app.0.presence_members_max", 10)
    }) else {
        return;
    };
    for round in 0..if is_long() { 50 } else { 5 } {
        let channel = format!("presence-{round}");
        let join = |number: usize| {
            let user = format!("user-{number}");
            Member::join(bed.node(number % 3), number % 3, &channel, &user)
        };
        let joined: Vec<Result<Member, u64>> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..30).map(|number| scope.spawn(move || join(number))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let refused = joined.iter().filter_map(|one| one.as_ref().err()).collect::<Vec<_>>();
        assert!(refused.iter().all(|status| **status == 429), "{refused:?}");
        let mut crowd = Crowd { members: joined.into_iter().flatten().collect() };
        assert_eq!(crowd.members.len(), 10);
        crowd.settle(&bed, RECOVERY);
    }
}

#[test]
fn subscriptions_are_counted_over_nodes() {
    let Some(bed) = Bed::start(3, every_dialect) else { return };
    let mut pages: Vec<Echo> = (0..3).map(|index| Echo::connect(bed.node(index))).collect();
    pages.iter_mut().for_each(|page| page.join("news", None));
    let counted = |count: u64| {
        for daemon in bed.nodes() {
            eventually("the count is right on every node", || {
                let path = "/channels/news?info=subscription_count";
                let (status, body) = ask(daemon.address, path);
                status == 200 && body["subscription_count"] == count
            });
        }
    };
    counted(3);
    pages.pop();
    counted(2);
    pages.clear();
    for daemon in bed.nodes() {
        eventually("the channel is vacated", || {
            ask(daemon.address, "/channels/news").1["occupied"] == false
        });
    }
}

/// The members asked about are on a node that stays.
#[test]
fn while_nodes_are_killed_the_api_answers_all_or_503() {
    let Some(mut bed) = Bed::start(3, every_dialect) else { return };
    let mut crowd = Crowd::default();
    let mut wanted = BTreeSet::new();
    for number in 0..20 {
        let user = format!("user-{number}");
        // Over all partitions.
        (0..8).for_each(|channel| crowd.join(&bed, 0, &format!("presence-{channel}"), &user));
        wanted.insert(user);
    }
    crowd.settle(&bed, RECOVERY);

    let address = bed.node(0).address;
    let (is_over, wanted) = (AtomicBool::new(false), &wanted);
    let (whole, unavailable) = std::thread::scope(|scope| {
        let end = End(&is_over);
        let asking = scope.spawn(|| {
            let (mut whole, mut unavailable) = (0u64, 0u64);
            while !is_over.load(Relaxed) {
                let channel = format!("presence-{}", (whole + unavailable) % 8);
                match users(address, &channel) {
                    Ok(users) => {
                        assert_eq!(users, *wanted, "a part of the answer");
                        whole += 1;
                    }
                    Err(503) => unavailable += 1,
                    Err(status) => panic!("the API answers {status}"),
                }
            }
            (whole, unavailable)
        });
        for round in 0..if is_long() { 100 } else { 2 } {
            let victim = 1 + round % 2;
            let start = Instant::now();
            bed.kill(victim);
            crowd.settle_among(&bed, victim, RECOVERY);
            println!("round {round}: whole after {:?}", start.elapsed());
            bed.again(victim);
            bed.await_whole();
        }
        drop(end);
        asking.join().unwrap()
    });
    println!("{whole} whole answers, {unavailable} times 503");
    assert!(whole > 100, "{whole} whole answers, {unavailable} times 503");
}
