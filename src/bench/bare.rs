//! `bench floor`: the floor alone, without a daemon.

use super::error::BenchError;
use super::options::BenchOptions;
use super::pair::{Spec, floor_side, require_fds};
use super::progress::BenchProgress;
use super::report::{BenchReport, Row};
use super::side::{BenchSource, Measured, Pace};
use super::target::Cpus;
use serde_json::json;

/// Measures the floor: one frame per send, and with several in flight also all of them in one send.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    options.check()?;
    let &BenchOptions {
        connections,
        in_flight,
        size,
        own_topics: topics,
        seconds,
        runs,
        shards,
        ..
    } = options;
    if topics && (!connections.is_multiple_of(shards.max(1)) || (connections as u64) < in_flight) {
        let reason = "--connections must be a multiple of --shards and at least --in-flight";
        return Err(BenchError::Argument(reason.into()));
    }
    require_fds(connections)?;
    let bursts = in_flight > 1 && !topics;
    let progress = BenchProgress::new(runs * if bursts { 2 } else { 1 });
    let cpus = Cpus::of_this_machine(shards)?;
    let pace = Pace::Closed { window: in_flight };
    let spec = Spec { connections, size, topics, pace, sides: 1 };
    let mut side = floor_side(spec, &cpus.shards, cpus.generator, &progress)?;
    let (mut singles, mut all_at_once) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        progress.step(&format!("floor of {connections}: run {run}, one frame per send"));
        let single = if topics { pace } else { Pace::Closed { window: 1 } };
        singles.push(side.measure(single, seconds)?);
        if bursts {
            progress.step(&format!(
                "floor of {connections}: run {run}, {in_flight} frames in one send"
            ));
            set_coalesce(&mut side.source, true);
            all_at_once.push(side.measure(pace, seconds)?);
            set_coalesce(&mut side.source, false);
        }
    }
    progress.note_contention(singles.iter().map(|run| run.contention));
    let mut rows = rows(&format!("floor {connections}, one frame per send"), &singles);
    rows.extend(self::rows(
        &format!("floor {connections}, {in_flight} frames in one send"),
        &all_at_once,
    ));
    Ok(BenchReport {
        bench: "floor",
        settings: json!({
            "connections": connections, "in_flight": in_flight, "size": size, "topics": topics,
            "seconds": seconds, "runs": runs, "shards": shards,
        }),
        rows,
    })
}

fn set_coalesce(source: &mut BenchSource, coalesce: bool) {
    if let BenchSource::Floor(floor) = source {
        floor.coalesce = coalesce;
    }
}

fn rows(name: &str, runs: &[Measured]) -> Vec<Row> {
    let row = |what: &str, unit, figure: &dyn Fn(&Measured) -> Option<f64>| {
        let figures: Vec<f64> = runs.iter().filter_map(figure).collect();
        Row::new(format!("{name}: {what}"), unit, &figures, &[])
    };
    [
        row("CPU per frame", "ns", &Measured::cpu_per_delivery),
        row("frames", "/s", &|run| Some(run.per_second())),
        row("latency p50", "µs", &|run| Some(run.latency_us(0.5))),
        row("latency p99", "µs", &|run| Some(run.latency_us(0.99))),
    ]
    .into_iter()
    .flatten()
    .collect()
}
