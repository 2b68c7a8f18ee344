//! `bench durable`: producers of a durable topic, each message of which is on the disk before it is
//! acknowledged.
//!
//! The floor writes and syncs groups as large as the daemon's were in the same run, on the same
//! disk: what no store can do better that keeps its word.

use super::disk::{DiskFloor, Writes};
use super::load::{Load, for_so_long};
use super::options::BenchOptions;
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal};
use super::side::{self, Spent};
use super::target::BenchTarget;
use crate::cli::CliError;
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
/// Where the daemon counts the messages that it has stored, their bytes, and how often it has
/// synced for them.
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
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, CliError> {
    let options = options.durable()?;
    let BenchOptions { producers, topics, in_flight, size, seconds, runs, .. } = options;
    super::pair::require_fds(producers)?;
    let target = BenchTarget::open(&options)?;
    let progress = BenchProgress::new(runs * 4);
    let names: Vec<String> = (0..topics).map(|number| format!("{TOPIC}-{number}")).collect();
    let mut many = Load::connect(&target, &names, producers, in_flight, size)?;
    // Connected from the start, so that no opening falls into a measurement.
    let mut one = Load::connect(&target, &names, 1, 1, size)?;
    let mut floor = DiskFloor::new(target.store()?)?;
    let mut measured = Vec::new();
    for run in 1..=runs {
        let name = format!("durable: run {run}");
        progress.step(&format!("{name}, daemon"));
        let daemon = measure(&mut many, &target, seconds)?;
        progress.step(&format!("{name}, floor, groups as large"));
        // As large as the daemon's were in this run, whatever it made of the load.
        let groups = floor.measure(daemon.group_bytes, seconds)?;
        progress.step(&format!("{name}, daemon, one message in flight"));
        let single = measure(&mut one, &target, seconds)?;
        progress.step(&format!("{name}, floor, one message"));
        let one_floor = floor.measure(single.group_bytes, seconds)?;
        measured.push(DurableRun { daemon, floor: groups, one: single, one_floor });
    }

    let settings = json!({
        "producers": producers, "topics": topics, "writers": options.writers.max(1),
        "in_flight": in_flight, "size": size, "seconds": seconds, "runs": runs,
        "shards": target.cpus.shards.len(),
    });
    let mut report = BenchReport::new("durable", settings);
    tell(&mut report, &format!("durable {producers} × {in_flight}"), &measured);
    Ok(report)
}

fn tell(report: &mut BenchReport, name: &str, runs: &[DurableRun]) {
    let of =
        |figure: &dyn Fn(&DurableRun) -> f64| -> Vec<f64> { runs.iter().map(figure).collect() };
    let stored = of(&|run| run.daemon.stored as f64 / run.daemon.spent.elapsed.as_secs_f64());
    let written = of(&|run| run.floor.per_second() * run.daemon.group);
    let goal = Some(Goal::RatioAtLeast(RATIO_MIN));
    report.add(format!("{name}: stored"), "/s", &stored, &written, goal);
    let groups = of(&|run| run.daemon.group);
    report.add(format!("{name}: messages of a sync"), "", &groups, &[], None);

    let cpu = of(&|run| run.daemon.each(run.daemon.spent.cpu_ns.unwrap_or_default()));
    let goal = Some(Goal::AtMost(CPU_NS_MAX));
    report.add(format!("{name}: CPU per message"), "ns", &cpu, &[], goal);
    let own = of(&|run| run.daemon.each(run.daemon.spent.own_cpu_ns));
    report.add(format!("{name}: generator's CPU per message"), "ns", &own, &[], None);

    for (label, quantile, goal) in
        [("p50", 0.5, Some(Goal::RatioAtMost(LATENCY_RATIO_MAX))), ("p99", 0.99, None)]
    {
        let daemon = of(&|run| side::quantile_us(&run.one.latency, quantile));
        let floor = of(&|run| run.one_floor.latency_us(quantile));
        report.add(format!("durable 1 × 1: latency {label}"), "µs", &daemon, &floor, goal);
    }
}

impl DurableFigures {
    /// What one message has of so many nanoseconds.
    fn each(&self, total_ns: u64) -> f64 {
        total_ns as f64 / self.stored.max(1) as f64
    }
}

/// Sends for so long, after a warm-up, and waits for all that is outstanding.
fn measure(
    load: &mut Load,
    target: &BenchTarget,
    seconds: f64,
) -> Result<DurableFigures, CliError> {
    load.send(for_so_long(WARM_UP_S), &mut side::histogram())?;
    let mut latency = side::histogram();
    let before = STORED.map(|name| target.metric(name));
    // Behind the request for the metrics, whose cost is the daemon's too.
    let meter = side::Meter::start(target.pids())?;
    let stored = load.send(for_so_long(seconds), &mut latency)?;
    let spent = meter.stop()?;

    let mut more = [0.0; STORED.len()];
    for ((more, name), before) in more.iter_mut().zip(STORED).zip(before) {
        *more = target.metric(name)? - before?;
    }
    let [messages, bytes, commits] = more;
    // A run that stored nothing still has a row, which shows that.
    let commits = commits.max(1.0);
    let group_bytes = (bytes / commits).max(1.0) as usize;
    Ok(DurableFigures { stored, spent, group: messages / commits, group_bytes, latency })
}
