//! Runs by seed: activity with faults, rest; activity without, rest; the end.

use super::faults::Fault;
use super::world::World;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Time (ms) after which all has healed: a node is gone after 5 s, an election takes 9 s, a late copy
/// 3 s more, and a partition is left alone for 10 s.
const REST_MS: u64 = 28_000;

/// Runs a seed; returns what was seen.
fn run(seed: u64) -> Result<World, Box<World>> {
    let mut world = World::new(seed, 2 + (seed % 3) as usize);
    for node in 0..world.nodes.len() {
        world.start_node(node);
    }
    world.run_until(3000);

    let with_faults_until = world.now + world.random.range(12_000, 30_000);
    let mut faults: Vec<Fault> = Vec::new();
    let mut next_fault = world.now + world.random.range(0, 6000);
    let pace = world.random.range(20, 200);
    while world.now < with_faults_until && world.fault.is_none() {
        if world.now >= next_fault {
            let fault = world.go_wrong(&faults);
            faults.extend(fault);
            next_fault = world.now + world.random.range(300, 6000);
        }
        for fault in faults.extract_if(.., |fault| fault.until <= world.now).collect::<Vec<_>>() {
            world.heal(&fault);
        }
        world.act();
        let step = world.random.range(1, pace);
        world.run_until(world.now + step);
    }
    for fault in faults {
        world.heal(&fault);
    }
    world.run_until(world.now + REST_MS);
    world.check_rest();

    // Clients alone.
    for _ in 0..60 {
        world.act();
        let step = world.random.range(1, 60);
        world.run_until(world.now + step);
    }
    world.run_until(world.now + 3000);
    world.check_rest();

    for node in 0..world.nodes.len() {
        let sessions: Vec<_> = world.nodes[node].sessions.keys().copied().collect();
        for connection in sessions {
            world.close(node, connection);
        }
    }
    world.run_until(world.now + 5000);
    world.check_rest();
    world.check_empty();
    if world.fault.is_some() { Err(Box::new(world)) } else { Ok(world) }
}

/// Runs a seed; panics with all that is needed to repeat it.
fn check(seed: u64) -> World {
    let replay = format!("seed {seed} (FANFARE_SEED={seed} runs it alone)");
    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
        Ok(Ok(world)) => world,
        Ok(Err(world)) => {
            let trace: Vec<_> = world.trace.into_iter().collect();
            panic!("{replay}: {}\n{}", world.fault.unwrap_or_default(), trace.join("\n"));
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
            panic!("{replay} panics: {}", text.unwrap_or_default());
        }
    }
}

/// Runs every fourth seed from `first`, of `seeds`, or the one that is named if it is among them.
pub(crate) fn quarter(first: u64, seeds: u64, only: Option<u64>) {
    if let Some(seed) = only {
        if seed % 4 == first {
            check(seed);
        }
        return;
    }
    let mut seen = BTreeMap::new();
    for seed in (first..seeds).step_by(4) {
        for (what, count) in check(seed).seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    // A simulation in which nothing happens would find nothing.
    let kinds = [
        "added",
        "away",
        "count",
        "dismissed",
        "inquiry",
        "present",
        "refused",
        "removed",
        "removal beside a steady member",
        "snapshot",
        "unavailable",
        "webhook",
    ];
    for what in kinds {
        assert!(seen.get(what).copied().unwrap_or_default() > 20, "{what} is rare: {seen:?}");
    }
}
