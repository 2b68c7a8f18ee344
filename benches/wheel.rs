//! Timers of a million connections pinged once a minute: the cost of one tick of 250 ms, in which
//! every visited connection is scheduled again, and of a whole second of ticks. The goal for the
//! wheel alone is 100 µs a second, because a shard does nothing else meanwhile.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use fanfare::wheel::{Tick, Wheel, ticks};

const CONNECTIONS: u32 = 1_000_000;

fn minute() -> Tick {
    ticks(60)
}

/// A wheel that has turned for two minutes, so that its slots have their final capacity.
fn wheel() -> (Wheel, Tick) {
    let mut wheel = Wheel::new(0);
    for id in 0..CONNECTIONS {
        // Neighbours are due at different times.
        wheel.schedule(id, 1 + id.wrapping_mul(7919) % minute());
    }
    for now in 1..=2 * minute() {
        turn(&mut wheel, now);
    }
    (wheel, 2 * minute())
}

/// One tick; returns how many connections were visited.
fn turn(wheel: &mut Wheel, now: Tick) -> usize {
    let due = wheel.advance(now).to_vec();
    due.iter().for_each(|id| wheel.schedule(*id, now + minute()));
    due.len()
}

fn ticking(criterion: &mut Criterion) {
    let (mut wheel, mut now) = wheel();
    let mut group = criterion.benchmark_group("wheel of 1000000 timers in a minute");
    for (name, ticks) in [("tick and schedule again", 1), ("second and schedule again", 4)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for _ in 0..ticks {
                    now += 1;
                    black_box(turn(&mut wheel, now));
                }
            });
        });
    }
    group.bench_function("tick alone", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                now += 1;
                let started = Instant::now();
                let due = wheel.advance(now);
                spent += started.elapsed();
                let due = due.to_vec();
                due.iter().for_each(|id| wheel.schedule(*id, now + minute()));
            }
            spent
        });
    });
}

criterion_group!(benches, ticking);
criterion_main!(benches);
