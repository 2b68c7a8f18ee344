//! `bench selective`: each subscriber has a topic of its own, and each event goes to one of them.
//!
//! The floor is one `send(2)` per event, over the connections in an order that is shuffled as the topics are.

use super::fanout::faults;
use super::pair::{SidePair, Spec, require_fds};
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal, Row};
use super::side::{Measured, Pace};
use super::target::{BenchTarget, TargetOptions};
use super::wire::TOPICS_MAX;
use super::{BenchError, check_in_flight, check_positive, check_seconds};
use serde_json::json;

/// The ratio to the floor's sends per second to reach.
const RATE_RATIO_MIN: f64 = 0.75;

/// Events per second to reach when they are published over HTTP, one a request.
const HTTP_RATE_MIN: f64 = 20_000.0;

/// What to measure.
#[derive(Debug, Clone)]
pub(super) struct SelectiveOptions {
    pub(super) topics: usize,
    pub(super) in_flight: u64,
    pub(super) size: usize,
    pub(super) seconds: f64,
    pub(super) runs: usize,
}

/// Measures a daemon against the floor.
pub(super) fn run(options: &TargetOptions, settings: &SelectiveOptions) -> Result<BenchReport, BenchError> {
    let SelectiveOptions { topics, in_flight, size, seconds, runs } = *settings;
    check_positive("--runs", runs)?;
    check_in_flight(in_flight)?;
    check_seconds(seconds)?;
    if !(in_flight as usize..=TOPICS_MAX).contains(&topics) || !topics.is_multiple_of(options.shards.max(1)) {
        return Err(BenchError::Argument(format!(
            "--topics must be at least --in-flight ({in_flight}), at most {TOPICS_MAX} and a multiple of --shards"
        )));
    }
    require_fds(topics)?;
    let progress = BenchProgress::new(2 * runs);
    let target = BenchTarget::open(options)?;
    let pace = Pace::Closed { window: in_flight };
    let spec = Spec { connections: topics, size, topics: true, pace, sides: 2 };
    let mut pair = SidePair::new(&target, spec, &progress)?;
    let mut floors = Vec::new();
    let mut daemons = Vec::new();
    for run in 1..=runs {
        progress.step(&format!("selective over {topics}: run {run}, daemon"));
        daemons.push(pair.measure_daemon(pace, seconds)?);
        progress.step(&format!("selective over {topics}: run {run}, floor"));
        floors.push(pair.measure_floor(pace, false, seconds)?);
    }
    progress.note_contention(daemons.iter().map(|run| run.contention));
    let goal = if options.http { Goal::AtLeast(HTTP_RATE_MIN) } else { Goal::RatioAtLeast(RATE_RATIO_MIN) };
    Ok(BenchReport {
        bench: "selective",
        settings: json!({
            "topics": topics, "in_flight": in_flight, "size": size, "seconds": seconds, "runs": runs,
            "shards": target.cpus.len(), "dialect": options.speech.name(),
        }),
        rows: rows(&format!("selective {topics} × {in_flight}{}", options.suffix()), goal, &daemons, &floors),
    })
}

fn rows(name: &str, goal: Goal, daemons: &[Measured], floors: &[Measured]) -> Vec<Row> {
    let each = |runs: &[Measured], figure: &dyn Fn(&Measured) -> Option<f64>| -> Vec<f64> {
        runs.iter().filter_map(figure).collect()
    };
    let compared = |what: &str, unit, figure: &dyn Fn(&Measured) -> Option<f64>| {
        Row::new(format!("{name}: {what}"), unit, &each(daemons, figure), &each(floors, figure))
    };
    let mut rows = Vec::new();
    let rate = compared("deliveries", "/s", &|run| Some(run.per_second()));
    rows.extend(rate.map(|row| row.against(goal)));
    rows.extend(compared("CPU per delivery", "ns", &Measured::cpu_per_delivery));
    rows.extend(compared("latency p50", "µs", &|run| Some(run.latency_us(0.5))));
    rows.extend(compared("latency p99", "µs", &|run| Some(run.latency_us(0.99))));
    rows.extend(compared("latency p99.9", "µs", &|run| Some(run.latency_us(0.999))));
    rows.extend(faults(name, daemons.iter()));
    rows
}
