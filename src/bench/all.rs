//! `bench all`: every figure that the daemon promises, each on a daemon of its own.

use super::error::failed;
use super::options::BenchOptions;
use super::report::{BenchReport, Goal};
use super::{backlog, churn, durable, fanout, handshake, idle, inbound, proc};
use crate::cli::CliError;
use crate::cli::output::note;
use crate::dialect::Kind;
use crate::io::foundation;

/// Limit on what a delivery costs with two shards, as a multiple of what it costs with one. Both
/// costs are ratios to the floor that was measured beside them.
const SHARDS_RATIO_MAX: f64 = 1.1;

/// Limit on what a delivery of another dialect costs, as a multiple of what one of the event bus
/// costs, in the same ratios.
const DIALECTS_RATIO_MAX: f64 = 1.25;

/// Least deliveries per second of what is published over HTTP, as a part of those by the unix feed,
/// in the same ratios.
const HTTP_RATIO_MIN: f64 = 0.9;

/// Messages that wait: enough to show whether memory grows with them. `bench backlog` takes more.
const BACKLOG: u64 = 1_000_000;

/// Messages that are only passed through: enough to show what each of them leaves behind. `bench
/// churn` takes more.
const CHURN: u64 = 100_000;

/// Bytes of a durable message.
const PAYLOAD: usize = 256;

/// Dialects whose fan-out is compared with the event bus.
const DIALECTS: [&str; 3] = ["personium-topic", "channel", "wazo"];

/// The dialect whose events are published over HTTP too.
const BY_REQUEST: &str = "echo";

/// Runs the whole table.
pub(super) fn run(base: &BenchOptions) -> Result<Vec<BenchReport>, CliError> {
    let thousand = BenchOptions { connections: 1_000, ..base.clone() };
    let ten_thousand = BenchOptions { connections: 10_000, ..base.clone() };
    let selective = BenchOptions { own_topics: true, in_flight: 64, ..ten_thousand.clone() };
    let crowd = BenchOptions { connections: 15_000, ..base.clone() };
    let mut reports = vec![
        fanout::run(&thousand)?,
        fanout::run(&ten_thousand)?,
        fanout::run(&BenchOptions { in_flight: 16, ..thousand.clone() })?,
        fanout::run(&selective)?,
        idle::run(&crowd)?,
        idle::run(&BenchOptions { own_topics: true, ..crowd.clone() })?,
        handshake::run(&BenchOptions { connections: 5_000, concurrency: 64, ..base.clone() })?,
    ];
    match foundation::try_io_uring(1) {
        Ok(()) => {
            let dialect = inbound::talking();
            let talking = BenchOptions { rate: Some(20.0), dialect, ..thousand.clone() };
            reports.push(inbound::run(&talking)?);
        }
        Err(error) => note(&format!("io_uring is refused ({error}): inbound is left out")),
    }
    for dialect in DIALECTS.into_iter().filter_map(Kind::named) {
        let mut other = fanout::run(&BenchOptions { dialect, ..thousand.clone() })?;
        against_first(&mut other, &reports, DIALECTS_RATIO_MAX);
        reports.push(other);
    }
    if let Some(dialect) = Kind::named(BY_REQUEST) {
        let fed = fanout::run(&BenchOptions { dialect, ..thousand.clone() })?;
        let mut posted = fanout::run(&BenchOptions { dialect, http: true, ..thousand.clone() })?;
        against_feed(&mut posted, &fed);
        reports.extend([fed, posted]);
        reports.push(fanout::run(&BenchOptions { dialect, http: true, ..selective })?);
        reports.push(idle::run(&BenchOptions { dialect, own_topics: true, ..crowd })?);
    }
    let stored = BenchOptions { size: PAYLOAD, ..base.clone() };
    let producers = BenchOptions { producers: 64, in_flight: 16, ..stored.clone() };
    reports.push(durable::run(&producers)?);
    let dialect = base.durable()?.dialect;
    reports.push(fanout::run(&BenchOptions { dialect, ..thousand.clone() })?);
    reports.push(backlog::run(&BenchOptions { messages: BACKLOG, ..stored.clone() })?);
    reports.push(churn::run(&BenchOptions { messages: CHURN, ..stored })?);
    let tls = BenchOptions { tls: true, ..ten_thousand };
    reports.extend([fanout::run(&tls)?, idle::run(&tls)?]);

    let cpus = proc::own_cpus().map_err(failed("read this process's processors"))?;
    if cpus.len() >= 2 {
        let mut two = fanout::run(&BenchOptions { shards: 2, ..thousand })?;
        against_first(&mut two, &reports, SHARDS_RATIO_MAX);
        reports.push(two);
    } else {
        note("two shards need two processors: left out");
    }
    Ok(reports)
}

/// Compares deliveries by requests with those by the unix feed, each as a ratio to its own floor.
fn against_feed(posted: &mut BenchReport, fed: &BenchReport) {
    // Both reports have the same rows in the same order.
    for (fed, posted) in fed.rows.iter().zip(&mut posted.rows) {
        if let (true, Some(ratio)) = (posted.what.ends_with(": deliveries"), fed.ratio) {
            posted.aim(Goal::RatioAtLeast(HTTP_RATIO_MIN * ratio));
        }
    }
}

/// Compares a fan-out with the first one, of the event bus on one shard, instead of against the
/// floor alone.
fn against_first(report: &mut BenchReport, reports: &[BenchReport], times_max: f64) {
    if let Some(first) = reports.first().and_then(|report| report.rows.first()?.ratio)
        && let Some(row) = report.rows.first_mut()
    {
        row.aim(Goal::RatioAtMost(times_max * first));
    }
}
