//! Consumers that share by key: who has which keys, and how keys move when consumers come and go.

use super::world::*;
use crate::service::topic::*;
use std::collections::{BTreeMap, BTreeSet};

const KEYS: usize = 20;

fn by_key(window: u32) -> ConsumerOptions {
    ConsumerOptions { flow: Flow::Push(window), ..consuming("x", "s", SubscriptionType::KeyShared) }
}

fn key_of(text: &str) -> &str {
    text.split_once(':').unwrap().0
}

fn append(world: &mut World, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let key = format!("k{}", number % KEYS);
        world.append_keyed("x", &key, &format!("{key}:{number:05}"));
    }
}

/// Both acknowledge everything until nothing more comes. Returns how many each has got, and checks
/// that a key's messages come in order and that nobody has a key of which another has a message.
fn drain(
    world: &mut World,
    ids: &[u32],
    mut held: BTreeMap<u32, Vec<Got>>,
) -> BTreeMap<u32, usize> {
    let mut counts: BTreeMap<u32, usize> = ids.iter().map(|id| (*id, 0)).collect();
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let mut is_over = true;
        for id in ids {
            for got in world.all(*id) {
                *counts.get_mut(id).unwrap() += 1;
                held.entry(*id).or_default().push(got);
            }
            let keys = |id: &u32| -> BTreeSet<&str> {
                held.get(id).into_iter().flatten().map(|got| key_of(&got.text)).collect()
            };
            for other in ids.iter().filter(|other| *other != id) {
                assert!(keys(id).is_disjoint(&keys(other)), "two have a key");
            }
            if let Some(got) =
                held.get_mut(id).filter(|held| !held.is_empty()).map(|held| held.remove(0))
            {
                is_over = false;
                let before = last.insert(key_of(&got.text).to_owned(), got.text.clone());
                assert!(
                    before.is_none_or(|before| before < got.text),
                    "{} is out of order",
                    got.text
                );
                world.ack(*id, &got);
            }
        }
        if is_over {
            return counts;
        }
    }
}

#[test]
fn who_joins_beside_a_backlog_gets_about_half_of_what_is_left_whatever_the_window() {
    for window in [10, 100, 1000] {
        let mut world = World::new();
        world.consume(1, by_key(window));
        append(&mut world, 0..3000);
        let held = world.all(1);
        assert_eq!(held.len(), window as usize);
        world.consume(2, by_key(window));
        let counts = drain(&mut world, &[1, 2], BTreeMap::from([(1, held)]));
        assert_eq!(counts[&1] + counts[&2], 3000 - window as usize);
        let share = counts[&2] as f64 / (3000 - window) as f64;
        assert!((0.35..0.65).contains(&share), "{share} of {counts:?} with a window of {window}");
    }
}

#[test]
fn a_key_that_moves_waits_until_what_is_in_flight_is_acknowledged_and_goes_to_the_new_consumer_then()
 {
    let mut world = World::new();
    world.consume(1, by_key(1000));
    append(&mut world, 0..KEYS);
    let held = world.all(1);
    world.consume(2, by_key(1000));
    append(&mut world, KEYS..2 * KEYS);
    let stays: BTreeSet<String> =
        world.all(1).iter().map(|got| key_of(&got.text).to_owned()).collect();
    assert!((5..=15).contains(&stays.len()), "{stays:?}");
    assert!(world.all(2).is_empty(), "the first still has some of each key");
    for got in &held {
        world.ack(1, got);
        let moved: Vec<String> =
            world.texts(2).iter().map(|text| key_of(text).to_owned()).collect();
        let key = key_of(&got.text).to_owned();
        let expected = if stays.contains(&key) { Vec::new() } else { vec![key] };
        assert_eq!(moved, expected);
    }
    assert!(world.all(1).is_empty(), "nothing of what moves");
}

#[test]
fn what_a_consumer_had_that_leaves_goes_on_with_the_others_in_order() {
    let mut world = World::new();
    for id in 1..=3 {
        world.consume(id, by_key(5));
    }
    append(&mut world, 0..400);
    let mut held: BTreeMap<u32, Vec<Got>> = (1..=3).map(|id| (id, world.all(id))).collect();
    held.remove(&1);
    world.ask(1, TopicQuestion::Gone);
    let counts = drain(&mut world, &[2, 3], held);
    assert!(counts.values().all(|count| *count > 100), "{counts:?}");
    assert_eq!(world.told("x", "s", "backlog"), 0);
}
