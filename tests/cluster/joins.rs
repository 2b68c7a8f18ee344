//! How long a member waits to be let in, while many others come and go.

use crate::bed::Bed;
use crate::crowd::{Crowd, Member};
use crate::dialects::every_dialect;
use crate::is_long;
use crate::presence::{Dice, RECOVERY};
use std::time::{Duration, Instant};

/// How many there are, and how they come and go.
struct Coming {
    channels: usize,
    members_each: usize,
    joins_per_s: u32,
    time: Duration,
}

#[test]
fn members_are_let_in_while_others_come_and_go() {
    let coming = if is_long() {
        let time = Duration::from_secs(60);
        Coming { channels: 100, members_each: 100, joins_per_s: 1_000, time }
    } else {
        let time = Duration::from_secs(3);
        Coming { channels: 12, members_each: 9, joins_per_s: 90, time }
    };
    // One comes as another leaves, which the owner may hear in either order.
    let Some(bed) = Bed::start(3, |setup, host| {
        every_dialect(setup, host).set("echo.app.0.presence_members_max", 2 * coming.members_each)
    }) else {
        return;
    };
    let start = Instant::now();
    let crowds: Vec<(Crowd, Vec<Duration>)> = std::thread::scope(|scope| {
        let on_node = |node| {
            let (bed, coming) = (&bed, &coming);
            scope.spawn(move || come_and_go(bed, node, coming))
        };
        let nodes: Vec<_> = (0..3).map(on_node).collect();
        nodes.into_iter().map(|node| node.join().unwrap()).collect()
    });

    let (crowds, waits): (Vec<Crowd>, Vec<Vec<Duration>>) = crowds.into_iter().unzip();
    let mut waits: Vec<Duration> = waits.into_iter().flatten().collect();
    waits.sort_unstable();
    let (p50, p99) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
    let asked = f64::from(coming.joins_per_s) * coming.time.as_secs_f64();
    println!(
        "{} of {asked} joins in {:?} with the first {}: p50 {p50:?}, p99 {p99:?}",
        waits.len(),
        start.elapsed(),
        coming.channels * coming.members_each,
    );
    let mut all = Crowd { members: crowds.into_iter().flat_map(|crowd| crowd.members).collect() };
    all.settle(&bed, RECOVERY);
}

/// A third of all members, on one node. Returns those that are left, and how long each of those that came later
/// waited.
fn come_and_go(bed: &Bed, node: usize, coming: &Coming) -> (Crowd, Vec<Duration>) {
    let (mut crowd, mut waits) = (Crowd::default(), Vec::new());
    let mut next_user = (0..).map(|number| format!("user-{node}-{number}"));
    for number in (node..coming.channels * coming.members_each).step_by(3) {
        let channel = format!("presence-{}", number % coming.channels);
        crowd.join_patiently(bed, node, &channel, &next_user.next().unwrap());
    }

    let mut dice = Dice(node as u64);
    let start = Instant::now();
    let each = Duration::from_secs(3) / coming.joins_per_s;
    for number in 0.. {
        let due = each * number;
        if due >= coming.time || start.elapsed() >= coming.time {
            break;
        }
        // The others' news are read meanwhile, as browsers do.
        let mut reader = number as usize;
        while start.elapsed() < due {
            let count = crowd.members.len();
            crowd.members[reader % count].catch_up();
            reader += 1;
        }
        let gone = dice.roll(crowd.members.len());
        let channel = crowd.members.swap_remove(gone).channel;
        let user = next_user.next().unwrap();
        let member = Member::join(bed.node(node), node, &channel, &user);
        let member = member.unwrap_or_else(|code| panic!("{user} is not let in: {code}"));
        waits.push(member.waited);
        crowd.members.push(member);
    }
    (crowd, waits)
}
