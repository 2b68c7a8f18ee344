//! Webhooks of a cluster: each change is told by one node, whatever happens to it, and what is told twice says so.

use crate::bed::Bed;
use crate::crowd::Crowd;
use crate::dialects::every_dialect;
use crate::harness::{Receiver, Setup, eventually_within};
use crate::is_long;
use crate::network::Host;
use crate::presence::Dice;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long what is to be told may wait: three seconds on purpose, and for another owner.
const TOLD: Duration = Duration::from_secs(60);

/// What the receiver has been told, each event once.
#[derive(Default)]
struct Told {
    /// The states of each channel, and of each user of a channel, in the order of the requests.
    changes: BTreeMap<String, Vec<bool>>,
    /// How many events came again under the id they had before.
    repeats: usize,
}

/// Reads what the receiver has been told. What comes twice has the same id.
#[track_caller]
fn told(receiver: &Receiver) -> Told {
    let (mut told, mut seen) = (Told::default(), BTreeMap::<String, Value>::new());
    for request in receiver.requests() {
        let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
        let ids = request["headers"]["x-fanfare-delivery"].as_str().expect("an id for each event");
        let events = body["events"].as_array().unwrap();
        let ids: Vec<&str> = ids.split(',').collect();
        assert_eq!(ids.len(), events.len(), "{request}");
        for (id, event) in ids.into_iter().zip(events) {
            if let Some(before) = seen.insert(id.to_owned(), event.clone()) {
                assert_eq!(before, *event, "two events have the id {id}");
                told.repeats += 1;
                continue;
            }
            let (channel, user) = (event["channel"].as_str().unwrap(), event["user_id"].as_str());
            let (what, is_there) = match event["name"].as_str().unwrap() {
                "channel_occupied" => (channel.to_owned(), true),
                "channel_vacated" => (channel.to_owned(), false),
                "member_added" => (format!("{channel} {}", user.unwrap()), true),
                "member_removed" => (format!("{channel} {}", user.unwrap()), false),
                _ => continue,
            };
            told.changes.entry(what).or_default().push(is_there);
        }
    }
    told
}

/// Each comes and goes in turn, and in the end is there or not as the crowd knows.
#[track_caller]
fn assert_told(receiver: &Receiver, crowd: &Crowd) -> Told {
    let lists = crowd.lists();
    let there: BTreeSet<String> = lists
        .iter()
        .flat_map(|(channel, users)| {
            let users = users.iter().map(move |user| format!("{channel} {user}"));
            users.chain([channel.clone()])
        })
        .collect();
    let is_right = |told: &Told| {
        let is_all = there.iter().all(|what| told.changes.contains_key(what));
        let mut last = told.changes.iter().map(|(what, states)| (what, states.last().unwrap()));
        is_all && last.all(|(what, is_there)| there.contains(what) == *is_there)
    };
    eventually_within(TOLD, "every change is told", || is_right(&told(receiver)));
    let told = told(receiver);
    for (what, states) in &told.changes {
        let mut states = states.iter();
        let alternates = states.by_ref().enumerate().all(|(at, state)| *state == (at % 2 == 0));
        assert!(alternates, "{what}: {:?}", told.changes[what]);
    }
    told
}

fn with_webhook(setup: Setup, host: &Host, receiver: &Receiver) -> Setup {
    let hook = format!("[{{ url = {:?} }}]", receiver.url("/hook"));
    every_dialect(setup, host).set("echo.app.0.webhook", hook)
}

/// A bed whose first app tells a receiver on its bridge.
fn bed() -> Option<(Bed, Receiver)> {
    let mut bed = Bed::engine(&crate::server::ServerWish::default())?;
    let receiver = Receiver::on(bed.network.tests());
    for _ in 0..3 {
        bed.add(|setup, host| with_webhook(setup, host, &receiver));
    }
    bed.await_whole();
    Some((bed, receiver))
}

#[test]
fn each_change_is_told_once_by_one_node() {
    let Some((bed, receiver)) = bed() else { return };
    let (mut crowd, mut dice) = (Crowd::default(), Dice(5));
    for number in 0..60 {
        let (channel, user) = (format!("presence-{}", number % 15), format!("user-{}", number % 7));
        crowd.join(&bed, dice.roll(3), &channel, &user);
    }
    assert_told(&receiver, &crowd);
    for _ in 0..30 {
        let gone = dice.roll(crowd.members.len());
        crowd.members.swap_remove(gone);
    }
    assert_eq!(assert_told(&receiver, &crowd).repeats, 0);
    crowd.members.clear();
    assert_eq!(assert_told(&receiver, &crowd).repeats, 0);
}

#[test]
fn no_change_is_missed_while_owners_are_killed() {
    let Some((mut bed, receiver)) = bed() else { return };
    let (mut crowd, mut dice) = (Crowd::default(), Dice(6));
    let kills = if is_long() { 300 } else { 3 };
    for kill in 0..kills {
        let victim = kill % 3;
        // On the others, so that what is told of them is right.
        for number in 0..20 {
            let node = (victim + 1 + dice.roll(2)) % 3;
            let (channel, user) = (format!("presence-{}", number % 16), format!("user-{kill}"));
            crowd.join_patiently(&bed, node, &channel, &user);
        }
        for _ in 0..10 {
            let gone = dice.roll(crowd.members.len());
            crowd.members.swap_remove(gone);
        }
        bed.kill(victim);
        crowd.lose(victim);
        bed.again(victim);
        bed.await_whole();
    }
    crowd.settle(&bed, TOLD);
    let told = assert_told(&receiver, &crowd);
    println!("{} events came again over {kills} kills", told.repeats);
}
