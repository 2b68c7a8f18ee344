//! Match, subscribe and unsubscribe, and what a subscription costs in memory.
//!
//! Topics are `p`, `cell-NN\0`, `\x01` and an object name, such as
//! `https://unit.example/cell-12/box/col-0042/item-00317` (long: 64 bytes with the scope) or,
//! short, 20 bytes in all. Facets are event types of 100 families with three nested prefixes each
//! (`odatacol.07.`, `odatacol.07.entity.`, `odatacol.07.entity.sync.`) and the empty one. A cell
//! has 10,000 subscriptions, so 1, 10 or 100 cells make the three sizes, and every event matches
//! exactly 10 of them:
//!
//! | crowd, per cell | match | do not | spread, per cell | match | do not |
//! |---|---|---|---|---|---|
//! | 1250 items with 6 | 5 | 1 | 9000 items with 1 | 1 | 0 |
//! | 25 columns with 90 | 3 | 87 | 100 columns with 9 | 5 | 4 |
//! | the cell with 250 | 2 | 248 | the cell with 100 | 4 | 96 |
//!
//! Subscriptions are inserted and events looked up in random order over all objects, so that with a
//! million the caches hold what those of a server would.

use std::env;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use fanfare::trie::Trie;

const PER_CELL: u32 = 10_000;
/// Subscriptions that are removed and inserted again.
const CHANGES: u32 = 200_000;
const MANY: u32 = 1_000_000;

#[derive(Clone, Copy)]
enum Shape {
    Crowd,
    Spread,
}

#[derive(Clone, Copy)]
struct World {
    shape: Shape,
    long: bool,
    len: u32,
}

type Rule = (Vec<u8>, Vec<u8>, u32);

/// A prefix of the event types of a family: 0 for the whole family, 1 and 2 for narrower ones, 3
/// for an event's own type.
fn facet(family: u32, depth: u32) -> Vec<u8> {
    let kind = ["cell", "odatacol", "chat", "job", "message"][family as usize % 5];
    let rest = ["", "entity.", "entity.sync.", "entity.sync.create"][depth as usize];
    format!("{kind}.{:02}.{rest}", family / 5).into_bytes()
}

impl World {
    fn cell(&self, cell: u32) -> Vec<u8> {
        if self.long { format!("pcell-{cell:02}\0\x01") } else { format!("p{cell:02}\0\x01") }
            .into_bytes()
    }

    fn column(&self, cell: u32, column: u32) -> Vec<u8> {
        let name = match self.long {
            true => format!("https://unit.example/cell-{cell:02}/box/col-{column:04}/"),
            false => format!("col-{column:03}/"),
        };
        [self.cell(cell), name.into_bytes()].concat()
    }

    fn item(&self, cell: u32, item: u32) -> Vec<u8> {
        let per_column = self.items() / self.columns();
        let (column, item) = (item / per_column, item % per_column);
        let name = if self.long { format!("item-{item:05}") } else { format!("i{item:05}") };
        [self.column(cell, column), name.into_bytes()].concat()
    }

    fn items(&self) -> u32 {
        match self.shape {
            Shape::Crowd => 1250,
            Shape::Spread => 9000,
        }
    }

    fn columns(&self) -> u32 {
        match self.shape {
            Shape::Crowd => 25,
            Shape::Spread => 100,
        }
    }

    /// The family of the events of a column's items.
    fn family(&self, column: u32) -> u32 {
        column % 33
    }

    /// Subscription `n` of `len`, in random order.
    fn rule(&self, n: u32) -> Rule {
        let n = (u64::from(n) * 700_001 % u64::from(self.len)) as u32;
        let (cell, k) = (n / PER_CELL, n % PER_CELL);
        let of_item = |item: u32| self.family(item / (self.items() / self.columns()));
        let (prefix, facet) = match self.shape {
            Shape::Crowd => match k {
                0..7500 => (self.item(cell, k / 6), Self::watch(of_item(k / 6), k % 6)),
                7500..9750 => {
                    let (column, watch) = ((k - 7500) / 90, (k - 7500) % 90);
                    (
                        self.column(cell, column),
                        facet((self.family(column) + watch / 3) % 33, watch % 3),
                    )
                }
                _ => (self.cell(cell), facet((k - 9750) / 2 % 125, k % 2)),
            },
            Shape::Spread => match k {
                0..9000 => (self.item(cell, k), Self::watch(of_item(k), k % 5)),
                9000..9900 => {
                    let (column, watch) = ((k - 9000) / 9, (k - 9000) % 9);
                    (self.column(cell, column), Self::watch(self.family(column), watch))
                }
                9900 => (self.cell(cell), Vec::new()),
                _ => (self.cell(cell), facet((k - 9901) / 3, (k - 9901) % 3)),
            },
        };
        (prefix, facet, (u64::from(n) * 7919 % 1_000_003) as u32)
    }

    /// Facets of the subscriptions to an object of a family: five match its events, the rest
    /// do not.
    fn watch(family: u32, watch: u32) -> Vec<u8> {
        match watch {
            0..3 => facet(family, watch),
            3 => Vec::new(),
            4 => facet(family, 1),
            _ => facet(family + 33 + watch % 4, 0),
        }
    }

    /// Event `n`, of a random item.
    fn event(&self, n: u32) -> (Vec<u8>, Vec<u8>) {
        let items = u64::from(self.len / PER_CELL * self.items());
        let n = (u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % items;
        let (cell, item) = (n as u32 / self.items(), n as u32 % self.items());
        let column = item / (self.items() / self.columns());
        (self.item(cell, item), facet(self.family(column), 3))
    }

    fn build(&self) -> Trie {
        build(self.len, |n| self.rule(n))
    }
}

fn build(len: u32, rule: impl Fn(u32) -> Rule) -> Trie {
    let mut trie = Trie::new();
    for n in 0..len {
        let (prefix, facet, subscriber) = rule(n);
        assert_eq!(trie.insert(&prefix, &facet, subscriber), Ok(true));
    }
    trie
}

/// Resident memory of this process in bytes; 0 where the system does not tell.
fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// Builds a trie and prints its memory, by its own count and by the growth of the process.
fn report(name: &str, rule: impl Fn(u32) -> Rule) {
    let before = resident_bytes();
    let started = Instant::now();
    let trie = build(MANY, rule);
    let elapsed = started.elapsed();
    let each = |bytes: usize| bytes as f64 / f64::from(MANY);
    let (held, resident) = (each(trie.bytes()), each(resident_bytes().saturating_sub(before)));
    println!(
        "memory/{name}: {held:.1} bytes per subscription, {resident:.1} resident (built in \
         {elapsed:.0?})"
    );
}

/// Sixteen random bytes in hexadecimal, for names without common prefixes.
fn hex(n: u32) -> String {
    let one = (u64::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{one:016x}{:016x}", one.rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9))
}

/// One figure per process: the memory freed by an earlier trie would be reused without growth.
fn memory(case: usize) {
    let world = |shape, long| World { shape, long, len: MANY };
    let rule = |name: String, facet: String, n: u32| (name.into_bytes(), facet.into_bytes(), n);
    match case {
        0 => report("crowd/long", |n| world(Shape::Crowd, true).rule(n)),
        1 => report("crowd/short", |n| world(Shape::Crowd, false).rule(n)),
        2 => report("spread/long", |n| world(Shape::Spread, true).rule(n)),
        3 => report("spread/short", |n| world(Shape::Spread, false).rule(n)),
        4 => report("distinct/12 random", |n| rule(hex(n)[..12].to_owned(), String::new(), n)),
        5 => report("distinct/32 random", |n| rule(hex(n), String::new(), n)),
        6 => report("distinct/96 random", |n| {
            rule(hex(n) + &hex(!n) + &hex(n / 2), String::new(), n)
        }),
        7 => report("one topic/one facet each", |n| {
            rule("*".into(), format!("type-{}.", &hex(n)[..8]), n)
        }),
        _ => report("one topic/no facet", |n| rule("*".into(), String::new(), n)),
    }
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(3));
    for (shape, of) in [("crowd", Shape::Crowd), ("spread", Shape::Spread)] {
        for (name, long) in [("long", true), ("short", false)] {
            for len in [10_000, 100_000, MANY] {
                let world = World { shape: of, long, len };
                let mut trie = world.build();
                for (topic, facet) in (0..1000).map(|n| world.event(n)) {
                    let mut count = 0;
                    trie.matches(&topic, &facet, |_| count += 1);
                    assert_eq!(count, 10, "{}", String::from_utf8_lossy(&topic));
                }
                let mut events = (0..).map(|n| world.event(n));
                group.bench_function(BenchmarkId::new(format!("{shape}/{name}"), len), |bencher| {
                    let next = || events.next().expect("events do not end");
                    let run = |event: &mut (Vec<u8>, Vec<u8>)| {
                        let mut sum = 0;
                        trie.matches(&event.0, &event.1, |subscriber| sum ^= subscriber);
                        sum
                    };
                    // As in a turn of the server's loop: events are read first, then matched.
                    bencher.iter_batched_ref(next, run, BatchSize::NumIterations(64));
                });
            }
        }
    }
}

/// Removes random subscriptions and inserts them again, 50,000 at a time, and times one of the two.
fn changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change at 1000000");
    for (shape, of) in [("crowd", Shape::Crowd), ("spread", Shape::Spread)] {
        let world = World { shape: of, long: true, len: MANY };
        let mut trie = world.build();
        let rules: Vec<_> = (0..CHANGES).map(|n| world.rule(n * 5)).collect();
        let mut batches = rules.chunks(50_000).cycle();
        let mut run = |iters: u64, timed: usize| {
            let (mut spent, mut done) = ([Duration::ZERO; 2], 0);
            while done < iters {
                let batch = batches.next().expect("a cycle does not end");
                let batch = &batch[..batch.len().min((iters - done) as usize)];
                let started = Instant::now();
                batch.iter().for_each(|rule| assert!(trie.remove(&rule.0, &rule.1, rule.2)));
                spent[0] += started.elapsed();
                let started = Instant::now();
                batch
                    .iter()
                    .for_each(|rule| assert_eq!(trie.insert(&rule.0, &rule.1, rule.2), Ok(true)));
                spent[1] += started.elapsed();
                done += batch.len() as u64;
            }
            spent[timed]
        };
        group.bench_function(format!("unsubscribe/{shape}"), |b| {
            b.iter_custom(|iters| run(iters, 0))
        });
        group
            .bench_function(format!("subscribe/{shape}"), |b| b.iter_custom(|iters| run(iters, 1)));
    }
}

fn main() {
    if let Some(case) = env::var("FANFARE_MEMORY_CASE").ok().and_then(|case| case.parse().ok()) {
        return memory(case);
    }
    if env::args()
        .all(|arg| arg.starts_with('-') || !arg.contains("match") && !arg.contains("change"))
    {
        for case in 0..9 {
            let program = env::current_exe().expect("a running program has a path");
            let status =
                Command::new(program).env("FANFARE_MEMORY_CASE", case.to_string()).status();
            assert!(status.is_ok_and(|status| status.success()), "memory case {case}");
        }
    }
    let mut criterion = Criterion::default().configure_from_args();
    matching(&mut criterion);
    changes(&mut criterion);
    criterion.final_summary();
}
