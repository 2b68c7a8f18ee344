//! `bench floor`: the floor alone, without a daemon.

use super::fanout::{cpu, latencies, rates};
use super::options::{BenchOptions, Pace};
use super::pair::{floor_side, require_fds};
use super::proc::Cpus;
use super::progress::BenchProgress;
use super::report::BenchReport;
use crate::cli::CliError;
use serde_json::json;

/// Measures the floor: one frame per send, and with several in flight also all of them in one send.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, CliError> {
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
        return Err(CliError::usage(reason));
    }
    // Before any sender is started, which would have to be ended again.
    require_fds(connections)?;
    let bursts = in_flight > 1 && !topics;
    let progress = BenchProgress::new(runs * if bursts { 2 } else { 1 });
    let cpus = Cpus::of_this_machine(shards)?;
    let mut side = floor_side(options, &cpus, &progress)?;

    // With topics each send has one frame whatever is in flight.
    let single = if topics { options.pace() } else { Pace::Closed { window: 1 } };
    let (mut singles, mut all_at_once) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let name = format!("floor of {connections}: run {run}");
        progress.step(&format!("{name}, one frame per send"));
        side.coalesce(false);
        singles.push(side.measure(single, seconds)?);
        if bursts {
            progress.step(&format!("{name}, {in_flight} frames in one send"));
            side.coalesce(true);
            all_at_once.push(side.measure(options.pace(), seconds)?);
        }
    }
    progress.note_contention(singles.iter().map(|run| run.spent.contention));

    let settings = json!({
        "connections": connections, "in_flight": in_flight, "size": size, "topics": topics,
        "seconds": seconds, "runs": runs, "shards": shards,
    });
    let mut report = BenchReport::new("floor", settings);
    let all = format!("{in_flight} frames in one send");
    for (how, runs) in [("one frame per send", &singles), (&all, &all_at_once)] {
        let name = format!("floor {connections}, {how}");
        report.add(format!("{name}: CPU per frame"), "ns", &cpu(runs), &[], None);
        report.add(format!("{name}: frames"), "/s", &rates(runs), &[], None);
        for (label, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let figures = latencies(runs, quantile);
            report.add(format!("{name}: latency {label}"), "µs", &figures, &[], None);
        }
    }
    Ok(report)
}
