//! `bench fanout`: every event goes to every subscriber.

use super::pair::{SidePair, Spec, require_fds};
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal, Row};
use super::side::{Measured, Pace};
use super::speech::Speech;
use super::target::{BenchTarget, TargetOptions};
use super::{BenchError, check_in_flight, check_positive, check_seconds};
use serde_json::json;

/// The ratio to the floor to reach, one event at a time.
const SINGLE_RATIO_MAX: f64 = 1.10;

/// The ratio to the floor of one frame per send to reach, with [`BURST`] events or more in flight.
const BURST_RATIO_MAX: f64 = 0.10;
const BURST: u64 = 16;

/// The ratio to the same daemon without TLS to reach. A record costs a pass over bytes that are in the cache, and a
/// send costs far more than a copy of them.
const TLS_RATIO_MAX: f64 = 1.5;

/// The ratio of a durable topic to the event bus to reach. Beside the send, which both have, every subscription has a
/// cursor, and an acknowledgement comes back for each delivery.
const DURABLE_RATIO_MAX: f64 = 2.0;

/// The most events per second that make sense: more than one publisher can write.
const RATE_MAX: f64 = 10_000_000.0;

/// What to measure.
#[derive(Debug, Clone)]
pub(super) struct FanoutOptions {
    pub(super) connections: usize,
    pub(super) in_flight: u64,
    pub(super) rate: Option<f64>,
    pub(super) size: usize,
    pub(super) seconds: f64,
    pub(super) runs: usize,
}

/// One run.
#[derive(Debug)]
struct FanoutRun {
    daemon: Measured,
    floor: Measured,
    burst_floor: Option<Measured>,
    /// The daemon without TLS, where it is measured with; one with the event bus beside durable topics.
    plain: Option<Measured>,
}

/// Measures a daemon against the floor.
pub(super) fn run(options: &TargetOptions, settings: &FanoutOptions) -> Result<BenchReport, BenchError> {
    check_positive("--connections", settings.connections)?;
    check_positive("--runs", settings.runs)?;
    check_seconds(settings.seconds)?;
    check_in_flight(settings.in_flight)?;
    require_fds(settings.connections)?;
    let FanoutOptions { connections, in_flight, size, seconds, .. } = *settings;
    let pace = match settings.rate {
        Some(per_second) if per_second > 0.0 && per_second <= RATE_MAX => Pace::Rate { per_second },
        Some(_) => {
            return Err(BenchError::Argument(format!("--rate must be above 0 and at most {RATE_MAX}")));
        }
        None => Pace::Closed { window: in_flight },
    };
    let bursts = settings.rate.is_none() && in_flight > 1;
    let is_durable = options.speech == Speech::Pulsar;
    let has_plain = options.tls || is_durable;
    let steps = 2 + usize::from(bursts) + usize::from(has_plain);
    let progress = BenchProgress::new(settings.runs * steps);
    let target = BenchTarget::open(options)?;
    let mut plain_options = TargetOptions { tls: false, ..options.clone() };
    if is_durable {
        plain_options.speech = Speech::default();
    }
    let plain_target =
        (has_plain && options.url.is_none()).then(|| BenchTarget::open(&plain_options)).transpose()?;
    let spec = Spec { connections, size, topics: false, pace, sides: if has_plain { 3 } else { 2 } };
    let mut pair = SidePair::new(&target, spec, &progress)?;
    let mut runs = Vec::new();
    for run in 1..=settings.runs {
        let say = |what| progress.step(&format!("fanout to {connections}: run {run}, {what}"));
        say("daemon");
        let daemon = pair.measure_daemon(pace, seconds)?;
        say("floor, one frame per send");
        let floor_pace = if bursts { Pace::Closed { window: 1 } } else { pace };
        let floor = pair.measure_floor(floor_pace, false, seconds)?;
        let mut burst_floor = None;
        if bursts {
            say("floor, all frames in one send");
            burst_floor = Some(pair.measure_floor(pace, true, seconds)?);
        }
        let mut plain = None;
        if let Some(target) = &plain_target {
            say(if is_durable { "daemon with the event bus" } else { "daemon without TLS" });
            pair.pause()?;
            plain = Some(SidePair::new(target, spec, &progress)?.measure_daemon(pace, seconds)?);
            target.settle()?;
        }
        runs.push(FanoutRun { daemon, floor, burst_floor, plain });
    }
    progress.note_contention(runs.iter().map(|run| run.daemon.contention));
    let name = match settings.rate {
        Some(rate) => format!("fanout {connections} at {rate}/s"),
        None => format!("fanout {connections} × {in_flight}"),
    };
    let name = name + &options.suffix();
    let name = if target.cpus.len() > 1 { format!("{name}, {} shards", target.cpus.len()) } else { name };
    Ok(BenchReport {
        bench: "fanout",
        settings: json!({
            "connections": connections, "in_flight": in_flight, "rate": settings.rate, "size": size,
            "seconds": seconds, "runs": settings.runs, "shards": target.cpus.len(),
            "dialect": options.speech.name(), "tls": options.tls,
        }),
        rows: rows(&name, settings, is_durable, &runs),
    })
}

fn rows(name: &str, settings: &FanoutOptions, is_durable: bool, runs: &[FanoutRun]) -> Vec<Row> {
    let daemon = |figure: &dyn Fn(&Measured) -> Option<f64>| -> Vec<f64> {
        runs.iter().filter_map(|run| figure(&run.daemon)).collect()
    };
    let floor = |figure: &dyn Fn(&Measured) -> Option<f64>| -> Vec<f64> {
        runs.iter().filter_map(|run| figure(&run.floor)).collect()
    };
    let cpu: &dyn Fn(&Measured) -> Option<f64> = &Measured::cpu_per_delivery;
    let rate: &dyn Fn(&Measured) -> Option<f64> = &|measured| Some(measured.per_second());
    let plain: Vec<f64> = runs.iter().filter_map(|run| run.plain.as_ref()?.cpu_per_delivery()).collect();
    let goal = match (settings.rate, settings.in_flight) {
        _ if !plain.is_empty() => None,
        (None, 1) => Some(Goal::RatioAtMost(SINGLE_RATIO_MAX)),
        (None, BURST..) => Some(Goal::RatioAtMost(BURST_RATIO_MAX)),
        _ => None,
    };
    let mut rows = Vec::new();
    let per_delivery = Row::new(format!("{name}: CPU per delivery"), "ns", &daemon(cpu), &floor(cpu));
    rows.extend(per_delivery.map(|row| match goal {
        Some(goal) => row.against(goal),
        None => row,
    }));
    if !plain.is_empty() {
        let (other, ratio_max) = match is_durable {
            true => ("the event bus", DURABLE_RATIO_MAX),
            false => ("the same without", TLS_RATIO_MAX),
        };
        let beside = Row::new(format!("{name}: beside {other}"), "ns", &daemon(cpu), &plain);
        rows.extend(beside.map(|row| row.against(Goal::RatioAtMost(ratio_max))));
    }
    let burst: Vec<f64> =
        runs.iter().filter_map(|run| run.burst_floor.as_ref()?.cpu_per_delivery()).collect();
    let what = format!("{name}: bare send of {} frames at once", settings.in_flight);
    rows.extend(Row::new(what, "ns", &burst, &floor(cpu)));
    rows.extend(Row::new(format!("{name}: deliveries"), "/s", &daemon(rate), &floor(rate)));
    for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let latency: &dyn Fn(&Measured) -> Option<f64> = &|measured| Some(measured.latency_us(quantile));
        rows.extend(Row::new(format!("{name}: latency {label}"), "µs", &daemon(latency), &floor(latency)));
    }
    rows.extend(faults(name, runs.iter().map(|run| &run.daemon)));
    rows
}

/// Lost, repeated and foreign frames: none may be.
pub(super) fn faults<'a>(name: &str, runs: impl Iterator<Item = &'a Measured> + Clone) -> Vec<Row> {
    let total = |count: fn(&Measured) -> u64| runs.clone().map(count).sum::<u64>() as f64;
    [
        ("lost frames", total(|run| run.tally.lost)),
        ("duplicated frames", total(|run| run.tally.duplicated)),
        ("altered frames", total(|run| run.tally.unexpected)),
    ]
    .map(|(what, count)| Row::single(format!("{name}: {what}"), "", count).against(Goal::AtMost(0.0)))
    .to_vec()
}
