//! `bench fanout` and `bench selective`: every event goes to every subscriber, or to the one whose
//! topic it is.
//!
//! The floor of the second is one `send(2)` per event, over the connections in an order that is
//! shuffled as the topics are.

use super::options::{BenchOptions, Pace, USUAL};
use super::pair::{SidePair, require_fds};
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal};
use super::side::Measured;
use super::target::BenchTarget;
use super::wire::TOPICS_MAX;
use crate::cli::CliError;
use serde_json::json;

/// The ratio to the floor to reach, one event at a time.
const SINGLE_RATIO_MAX: f64 = 1.10;

/// The ratio to the floor of one frame per send to reach, with [`BURST`] events or more in flight.
const BURST_RATIO_MAX: f64 = 0.10;
const BURST: u64 = 16;

/// The ratio to the same daemon without TLS to reach. A record costs a pass over bytes that are in
/// the cache, and a send costs far more than a copy of them.
const TLS_RATIO_MAX: f64 = 1.5;

/// The ratio of a durable topic to the event bus to reach. Beside the send, which both have, every
/// subscription has a cursor, and an acknowledgement comes back for each delivery.
const DURABLE_RATIO_MAX: f64 = 2.0;

/// The ratio to the floor's sends per second to reach where each event goes to one subscriber.
const RATE_RATIO_MIN: f64 = 0.75;

/// The same where events are published over HTTP, one a request: events per second.
const HTTP_RATE_MIN: f64 = 20_000.0;

/// The most events per second that make sense: more than one publisher can write.
const RATE_MAX: f64 = 10_000_000.0;

/// The measurements of all runs.
#[derive(Debug, Default)]
struct FanoutRuns {
    daemon: Vec<Measured>,
    floor: Vec<Measured>,
    burst_floor: Vec<Measured>,
    /// The daemon without TLS, where it is measured with; one with the event bus beside durable
    /// topics.
    plain: Vec<Measured>,
}

/// Measures a daemon against the floor.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, CliError> {
    let &BenchOptions { connections, in_flight, own_topics, .. } = options;
    check(options)?;
    let pace = options.pace();
    let bursts = options.rate.is_none() && in_flight > 1 && !own_topics;
    let beside = beside(options);
    let target = BenchTarget::open(options)?;
    let plain = match &beside {
        Some((_, plain)) if options.url.is_none() => Some((plain, BenchTarget::open(plain)?)),
        _ => None,
    };
    let steps = 2 + usize::from(bursts) + usize::from(plain.is_some());
    let progress = BenchProgress::new(options.runs * steps);
    let sides = if beside.is_some() { 3 } else { 2 };
    let mut pair = SidePair::new(&target, options, sides, &progress)?;

    let bench = if own_topics { "selective" } else { "fanout" };
    let mut runs = FanoutRuns::default();
    for run in 1..=options.runs {
        let name = format!("{bench} {connections}: run {run}");
        progress.step(&format!("{name}, daemon"));
        runs.daemon.push(pair.measure_daemon()?);

        progress.step(&format!("{name}, floor, one frame per send"));
        // The floor has no batches of its own: one frame a send is what a plain server does.
        let floor_pace = if bursts { Pace::Closed { window: 1 } } else { pace };
        runs.floor.push(pair.measure_floor(floor_pace, false)?);

        if bursts {
            progress.step(&format!("{name}, floor, all frames in one send"));
            runs.burst_floor.push(pair.measure_floor(pace, true)?);
        }

        if let Some((plain, target)) = &plain {
            progress.step(&format!("{name}, the daemon beside it"));
            // Both daemons have the same descriptors and processors.
            pair.pause()?;
            let measured = SidePair::new(target, plain, sides, &progress)?.measure_daemon()?;
            runs.plain.push(measured);
            target.settle()?;
        }
    }
    progress.note_contention(runs.daemon.iter().map(|run| run.spent.contention));

    let shards = target.cpus.shards.len();
    let pace = options.rate.map_or_else(|| format!("× {in_flight}"), |rate| format!("at {rate}/s"));
    let mut name = format!("{bench} {connections} {pace}{}", options.suffix());
    // Names of the usual daemon stay short, and comparable between releases.
    if shards > 1 {
        name += &format!(", {shards} shards");
    }
    let count = if own_topics { "topics" } else { "connections" };
    let settings = json!({
        count: connections, "in_flight": in_flight, "rate": options.rate, "size": options.size,
        "seconds": options.seconds, "runs": options.runs, "shards": shards,
        "dialect": options.dialect.name(), "tls": options.tls,
    });
    let mut report = BenchReport::new(bench, settings);
    runs.tell(&mut report, &name, options, beside.map(|(other, _)| other));
    Ok(report)
}

fn check(options: &BenchOptions) -> Result<(), CliError> {
    let &BenchOptions { connections, in_flight, shards, own_topics, .. } = options;
    let is_range = (in_flight as usize..=TOPICS_MAX).contains(&connections);
    if own_topics && !(is_range && connections.is_multiple_of(shards.max(1))) {
        return Err(CliError::usage(format!(
            "--topics must be at least --in-flight ({in_flight}), at most {TOPICS_MAX} and a \
             multiple of --shards"
        )));
    }
    if options.rate.is_some_and(|rate| !(rate > 0.0 && rate <= RATE_MAX)) {
        return Err(CliError::usage(format!("--rate must be above 0 and at most {RATE_MAX}")));
    }
    require_fds(connections)
}

/// What the daemon is compared with beside the floor, with the ratio to reach, and how that is
/// started: the event bus where topics are durable, and the same without TLS.
fn beside(options: &BenchOptions) -> Option<((&'static str, f64), BenchOptions)> {
    let plain = BenchOptions { tls: false, ..options.clone() };
    if options.own_topics {
        None
    } else if options.dialect.client().stores() {
        Some((("the event bus", DURABLE_RATIO_MAX), BenchOptions { dialect: USUAL, ..plain }))
    } else {
        options.tls.then_some((("the same without", TLS_RATIO_MAX), plain))
    }
}

impl FanoutRuns {
    fn tell(
        &self,
        report: &mut BenchReport,
        name: &str,
        options: &BenchOptions,
        beside: Option<(&'static str, f64)>,
    ) {
        let (daemon, floor) = (cpu(&self.daemon), cpu(&self.floor));
        let (plain, burst) = (cpu(&self.plain), cpu(&self.burst_floor));
        let goal = match (options.rate, options.in_flight) {
            // Those have a goal of their own below.
            _ if options.own_topics || !plain.is_empty() => None,
            (None, 1) => Some(Goal::RatioAtMost(SINGLE_RATIO_MAX)),
            (None, BURST..) => Some(Goal::RatioAtMost(BURST_RATIO_MAX)),
            _ => None,
        };
        report.add(format!("{name}: CPU per delivery"), "ns", &daemon, &floor, goal);

        // A daemon that runs already has nothing beside it.
        if let (Some((other, ratio_max)), false) = (beside, plain.is_empty()) {
            let goal = Some(Goal::RatioAtMost(ratio_max));
            report.add(format!("{name}: beside {other}"), "ns", &daemon, &plain, goal);
        }
        let what = format!("{name}: bare send of {} frames at once", options.in_flight);
        report.add(what, "ns", &burst, &floor, None);

        let (daemon, floor) = (rates(&self.daemon), rates(&self.floor));
        let goal = match options.http {
            true => Goal::AtLeast(HTTP_RATE_MIN),
            false => Goal::RatioAtLeast(RATE_RATIO_MIN),
        };
        let goal = options.own_topics.then_some(goal);
        report.add(format!("{name}: deliveries"), "/s", &daemon, &floor, goal);

        for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let (daemon, floor) =
                (latencies(&self.daemon, quantile), latencies(&self.floor, quantile));
            report.add(format!("{name}: latency {label}"), "µs", &daemon, &floor, None);
        }

        let tallies = || self.daemon.iter().map(|run| run.tally);
        for (what, count) in [
            ("lost", tallies().map(|tally| tally.lost).sum::<u64>()),
            ("duplicated", tallies().map(|tally| tally.duplicated).sum()),
            ("altered", tallies().map(|tally| tally.unexpected).sum()),
        ] {
            let what = format!("{name}: {what} frames");
            report.add(what, "", &[count as f64], &[], Some(Goal::AtMost(0.0)));
        }
    }
}

/// Processor nanoseconds per delivery of the runs where they could be read.
pub(super) fn cpu(runs: &[Measured]) -> Vec<f64> {
    runs.iter().filter_map(Measured::cpu_per_delivery).collect()
}

/// Deliveries per second.
pub(super) fn rates(runs: &[Measured]) -> Vec<f64> {
    runs.iter().map(Measured::per_second).collect()
}

/// A quantile of the latency in each run, in microseconds.
pub(super) fn latencies(runs: &[Measured], quantile: f64) -> Vec<f64> {
    runs.iter().map(|run| run.latency_us(quantile)).collect()
}
