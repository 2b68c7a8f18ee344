//! `bench durable`: producers of a durable topic, each message of which is on the disk before it is acknowledged.
//!
//! The floor writes and syncs groups as large as the daemon's were in the same run, on the same disk: what no store can
//! do better that keeps its word.

use super::disk::{DiskFloor, Writes};
use super::error::BenchError;
use super::load::{Load, for_so_long};
use super::options::BenchOptions;
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal, Row};
use super::side::{self, Spent};
use super::target::BenchTarget;
use hdrhistogram::Histogram;
use serde_json::json;

/// The part of the floor's messages per second to reach.
const RATIO_MIN: f64 = 0.5;
/// Nanoseconds of the daemon's processor time that a message may take.
const CPU_NS_MAX: f64 = 3_500.0;
/// The times of the floor's latency that may be taken by one message in flight.
const LATENCY_RATIO_MAX: f64 = 1.3;
/// How long is sent before it counts.
const WARM_UP_S: f64 = 0.3;
/// What the topics of the producers begin with.
const TOPIC: &str = "stored";
/// Where the daemon counts the messages that it has stored, their bytes, and how often it has synced for them.
const STORED: [&str; 3] = [
    "fanfare_store_messages_total",
    "fanfare_store_appended_bytes_total",
    "fanfare_store_commit_seconds_count",
];

/// One run.
struct DurableRun {
    daemon: DurableFigures,
    floor: Writes,
    one: DurableFigures,
    one_floor: Writes,
}

/// What producers have seen.
struct DurableFigures {
    stored: u64,
    spent: Spent,
    /// Messages of each sync, and their bytes.
    group: f64,
    group_bytes: usize,
    latency: Histogram<u64>,
}

/// Measures a daemon against the floor.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    options.check()?;
    let options = options.durable()?;
    let BenchOptions { producers, topics, in_flight, size, seconds, runs, .. } = options;
    super::pair::require_fds(producers)?;
    let target = BenchTarget::open(&options)?;
    let progress = BenchProgress::new(runs * 4);
    let names: Vec<String> = (0..topics).map(|number| format!("{TOPIC}-{number}")).collect();
    let mut many = Load::connect(&target, &names, producers, in_flight, size)?;
    let mut one = Load::connect(&target, &names, 1, 1, size)?;
    let mut floor = DiskFloor::new(target.store()?)?;
    let mut measured = Vec::new();
    for run in 1..=runs {
        let say = |what| progress.step(&format!("durable: run {run}, {what}"));
        say("daemon");
        let daemon = measure(&mut many, &target, seconds)?;
        say("floor, groups as large");
        let groups = floor.measure(daemon.group_bytes, seconds)?;
        say("daemon, one message in flight");
        let single = measure(&mut one, &target, seconds)?;
        say("floor, one message");
        let one_floor = floor.measure(single.group_bytes, seconds)?;
        measured.push(DurableRun { daemon, floor: groups, one: single, one_floor });
    }
    Ok(BenchReport {
        bench: "durable",
        settings: json!({
            "producers": producers, "topics": topics, "writers": options.writers.max(1), "in_flight": in_flight, "size": size, "seconds": seconds, "runs": runs,
            "shards": target.cpus.len(),
        }),
        rows: rows(&format!("durable {producers} × {in_flight}"), &measured),
    })
}

fn rows(name: &str, runs: &[DurableRun]) -> Vec<Row> {
    let of =
        |figure: &dyn Fn(&DurableRun) -> f64| -> Vec<f64> { runs.iter().map(figure).collect() };
    let stored = of(&|run| run.daemon.stored as f64 / run.daemon.spent.elapsed.as_secs_f64());
    let written = of(&|run| run.floor.per_second() * run.daemon.group);
    let cpu = |spent: &dyn Fn(&DurableRun) -> u64| {
        of(&|run| spent(run) as f64 / run.daemon.stored.max(1) as f64)
    };
    let latency = |quantile: f64| {
        let daemon = of(&|run| run.one.latency.value_at_quantile(quantile) as f64 / 1000.0);
        (daemon, of(&|run| run.one_floor.latency_us(quantile)))
    };
    let (p50, floor_p50) = latency(0.5);
    let (p99, floor_p99) = latency(0.99);
    let first = Row::new(format!("{name}: stored"), "/s", &stored, &written);
    let second = Row::new("durable 1 × 1: latency p50", "µs", &p50, &floor_p50);
    [
        first.map(|row| row.against(Goal::RatioAtLeast(RATIO_MIN))),
        Row::new(format!("{name}: messages of a sync"), "", &of(&|run| run.daemon.group), &[]),
        Row::new(
            format!("{name}: CPU per message"),
            "ns",
            &cpu(&|run| run.daemon.spent.cpu_ns.unwrap_or_default()),
            &[],
        )
        .map(|row| row.against(Goal::AtMost(CPU_NS_MAX))),
        Row::new(
            format!("{name}: generator's CPU per message"),
            "ns",
            &cpu(&|run| run.daemon.spent.own_cpu_ns),
            &[],
        ),
        second.map(|row| row.against(Goal::RatioAtMost(LATENCY_RATIO_MAX))),
        Row::new("durable 1 × 1: latency p99", "µs", &p99, &floor_p99),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Sends for so long, after a warm-up, and waits for all that is outstanding.
fn measure(
    load: &mut Load,
    target: &BenchTarget,
    seconds: f64,
) -> Result<DurableFigures, BenchError> {
    load.send(for_so_long(WARM_UP_S), &mut side::histogram())?;
    let mut latency = side::histogram();
    let before = STORED.map(|name| target.metric(name));
    let meter = side::Meter::start(target.pids())?;
    let stored = load.send(for_so_long(seconds), &mut latency)?;
    let spent = meter.stop()?;
    let mut more = [0.0; STORED.len()];
    for ((more, name), before) in more.iter_mut().zip(STORED).zip(before) {
        *more = target.metric(name)? - before?;
    }
    let [messages, bytes, commits] = more;
    let commits = commits.max(1.0);
    let group_bytes = (bytes / commits).max(1.0) as usize;
    let group = messages / commits;
    Ok(DurableFigures { stored, spent, group, group_bytes, latency })
}
