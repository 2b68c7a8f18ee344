//! `bench fanout` and `bench selective`: every event goes to every subscriber, or to the one whose topic it is.
//!
//! The floor of the second is one `send(2)` per event, over the connections in an order that is shuffled as the topics
//! are.

use super::error::BenchError;
use super::options::{BenchOptions, USUAL};
use super::pair::{SidePair, Spec, require_fds};
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal, Row};
use super::side::{Measured, Pace};
use super::target::BenchTarget;
use super::wire::TOPICS_MAX;
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

/// The ratio to the floor's sends per second to reach where each event goes to one subscriber.
const RATE_RATIO_MIN: f64 = 0.75;

/// The same where events are published over HTTP, one a request: events per second.
const HTTP_RATE_MIN: f64 = 20_000.0;

/// The most events per second that make sense: more than one publisher can write.
const RATE_MAX: f64 = 10_000_000.0;

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
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    let &BenchOptions { connections, in_flight, seconds, own_topics, .. } = options;
    check(options)?;
    let pace = match options.rate {
        Some(per_second) => Pace::Rate { per_second },
        None => Pace::Closed { window: in_flight },
    };
    let bursts = options.rate.is_none() && in_flight > 1 && !own_topics;
    let beside = beside(options);
    let target = BenchTarget::open(options)?;
    let plain_target = match &beside {
        Some((_, plain)) if options.url.is_none() => Some(BenchTarget::open(plain)?),
        _ => None,
    };
    let progress = BenchProgress::new(
        options.runs * (2 + usize::from(bursts) + usize::from(plain_target.is_some())),
    );
    let sides = if beside.is_some() { 3 } else { 2 };
    let spec = Spec { connections, size: options.size, topics: own_topics, pace, sides };
    let mut pair = SidePair::new(&target, spec, &progress)?;

    let bench = if own_topics { "selective" } else { "fanout" };
    let mut runs = Vec::new();
    for run in 1..=options.runs {
        let step = |what: &str| progress.step(&format!("{bench} {connections}: run {run}, {what}"));
        step("daemon");
        let daemon = pair.measure_daemon(pace, seconds)?;
        step("floor, one frame per send");
        let floor_pace = if bursts { Pace::Closed { window: 1 } } else { pace };
        let floor = pair.measure_floor(floor_pace, false, seconds)?;
        let mut burst_floor = None;
        if bursts {
            step("floor, all frames in one send");
            burst_floor = Some(pair.measure_floor(pace, true, seconds)?);
        }
        let mut plain = None;
        if let Some(target) = &plain_target {
            step("the daemon beside it");
            pair.pause()?;
            plain = Some(SidePair::new(target, spec, &progress)?.measure_daemon(pace, seconds)?);
            target.settle()?;
        }
        runs.push(FanoutRun { daemon, floor, burst_floor, plain });
    }
    progress.note_contention(runs.iter().map(|run| run.daemon.contention));

    let shards = target.cpus.len();
    let pace = options.rate.map_or_else(|| format!("× {in_flight}"), |rate| format!("at {rate}/s"));
    let mut name = format!("{bench} {connections} {pace}{}", options.suffix());
    if shards > 1 {
        name += &format!(", {shards} shards");
    }
    let count = if own_topics { "topics" } else { "connections" };
    Ok(BenchReport {
        bench,
        settings: json!({
            count: connections, "in_flight": in_flight, "rate": options.rate, "size": options.size,
            "seconds": seconds, "runs": options.runs, "shards": shards,
            "dialect": options.dialect.name(), "tls": options.tls,
        }),
        rows: rows(&name, options, beside.map(|(other, _)| other), &runs),
    })
}

fn check(options: &BenchOptions) -> Result<(), BenchError> {
    let &BenchOptions { connections, in_flight, shards, own_topics, .. } = options;
    let is_range = (in_flight as usize..=TOPICS_MAX).contains(&connections);
    if own_topics && !(is_range && connections.is_multiple_of(shards.max(1))) {
        return Err(BenchError::Argument(format!(
            "--topics must be at least --in-flight ({in_flight}), at most {TOPICS_MAX} and a multiple of --shards"
        )));
    }
    if options.rate.is_some_and(|rate| !(rate > 0.0 && rate <= RATE_MAX)) {
        return Err(BenchError::Argument(format!("--rate must be above 0 and at most {RATE_MAX}")));
    }
    options.check()?;
    require_fds(connections)
}

/// What the daemon is compared with beside the floor, and how that is started: the event bus where topics are durable,
/// and the same without TLS.
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

fn rows(
    name: &str,
    options: &BenchOptions,
    beside: Option<(&'static str, f64)>,
    runs: &[FanoutRun],
) -> Vec<Row> {
    let row = |what: &str, unit, figure: &dyn Fn(&Measured) -> Option<f64>| {
        let daemon: Vec<f64> = runs.iter().filter_map(|run| figure(&run.daemon)).collect();
        let floor: Vec<f64> = runs.iter().filter_map(|run| figure(&run.floor)).collect();
        Row::new(format!("{name}: {what}"), unit, &daemon, &floor)
    };
    let cpu = |run: Option<&Measured>| run.and_then(Measured::cpu_per_delivery);
    let daemon: Vec<f64> = runs.iter().filter_map(|run| cpu(Some(&run.daemon))).collect();
    let floor: Vec<f64> = runs.iter().filter_map(|run| cpu(Some(&run.floor))).collect();
    let plain: Vec<f64> = runs.iter().filter_map(|run| cpu(run.plain.as_ref())).collect();
    let burst: Vec<f64> = runs.iter().filter_map(|run| cpu(run.burst_floor.as_ref())).collect();
    let cpu_goal = match (options.rate, options.in_flight) {
        _ if options.own_topics || !plain.is_empty() => None,
        (None, 1) => Some(Goal::RatioAtMost(SINGLE_RATIO_MAX)),
        (None, BURST..) => Some(Goal::RatioAtMost(BURST_RATIO_MAX)),
        _ => None,
    };
    let rate_goal = match options.http {
        true => Goal::AtLeast(HTTP_RATE_MIN),
        false => Goal::RatioAtLeast(RATE_RATIO_MIN),
    };
    let burst_name = format!("{name}: bare send of {} frames at once", options.in_flight);
    let mut rows = vec![
        row("CPU per delivery", "ns", &Measured::cpu_per_delivery)
            .map(|row| row.maybe_against(cpu_goal)),
        beside.and_then(|(other, ratio_max)| {
            let row = Row::new(format!("{name}: beside {other}"), "ns", &daemon, &plain);
            row.filter(|_| !plain.is_empty()).map(|row| row.against(Goal::RatioAtMost(ratio_max)))
        }),
        Row::new(burst_name, "ns", &burst, &floor),
        row("deliveries", "/s", &|run| Some(run.per_second()))
            .map(|row| row.maybe_against(options.own_topics.then_some(rate_goal))),
    ];
    for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        rows.push(row(&format!("latency {label}"), "µs", &|run| Some(run.latency_us(quantile))));
    }
    let (mut lost, mut duplicated, mut altered) = (0, 0, 0);
    for FanoutRun { daemon: Measured { tally, .. }, .. } in runs {
        lost += tally.lost;
        duplicated += tally.duplicated;
        altered += tally.unexpected;
    }
    for (what, count) in [("lost", lost), ("duplicated", duplicated), ("altered", altered)] {
        let row = Row::single(format!("{name}: {what} frames"), "", count as f64);
        // None may be.
        rows.push(Some(row.against(Goal::AtMost(0.0))));
    }
    rows.into_iter().flatten().collect()
}
