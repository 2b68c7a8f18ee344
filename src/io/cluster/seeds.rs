//! The seeds of the simulation of `cluster`: `FANFARE_SEED=7` runs one alone, `FANFARE_LONG=1` runs
//! 100,000.

use crate::cluster::simulate;

/// Seeds of an ordinary run, in four tests that run beside each other.
const SEEDS: u64 = 120;
/// Seeds of a long one.
const SEEDS_LONG: u64 = 100_000;

fn run(first: u64) {
    let only = std::env::var("FANFARE_SEED").ok().map(|seed| seed.parse().unwrap());
    let is_long = std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1");
    simulate(first, if is_long { SEEDS_LONG } else { SEEDS }, only);
}

#[test]
fn nodes_agree_after_every_fault_in_the_first_quarter_of_seeds() {
    run(0);
}

#[test]
fn nodes_agree_after_every_fault_in_the_second_quarter_of_seeds() {
    run(1);
}

#[test]
fn nodes_agree_after_every_fault_in_the_third_quarter_of_seeds() {
    run(2);
}

#[test]
fn nodes_agree_after_every_fault_in_the_last_quarter_of_seeds() {
    run(3);
}
