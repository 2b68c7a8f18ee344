//! `bench all`: every figure that the daemon promises, each on a daemon of its own.

use super::report::{BenchReport, Goal, Row};
use super::speech::Speech;
use super::target::{Cpus, TargetOptions};
use super::{BenchError, backlog, churn, durable, fanout, handshake, idle, selective};
use crate::cli::output::note;
use std::path::PathBuf;

/// Two shards may cost so many times what one costs per delivery, each as a ratio to its own floor.
const SHARDS_RATIO_MAX: f64 = 1.1;

/// Another dialect may cost so many times what the event bus costs per delivery, each as a ratio to its own floor.
const DIALECTS_RATIO_MAX: f64 = 1.25;

/// What is published over HTTP reaches so much of the deliveries per second of the unix feed, each as a ratio to its
/// own floor.
const HTTP_RATIO_MIN: f64 = 0.9;

/// Messages that wait: enough to show whether memory grows with them. `bench backlog` takes more.
const BACKLOG: u64 = 1_000_000;

/// Messages that are only passed through: enough to show what each of them leaves behind. `bench churn` takes more.
const CHURN: u64 = 100_000;

/// The event size of the whole table.
const EVENT_SIZE: usize = 128;

/// How long and with what.
#[derive(Debug, Clone)]
pub(super) struct AllOptions {
    pub(super) seconds: f64,
    pub(super) runs: usize,
    pub(super) daemon: Option<PathBuf>,
}

/// Runs the whole table.
pub(super) fn run(settings: &AllOptions) -> Result<Vec<BenchReport>, BenchError> {
    let &AllOptions { seconds, runs, .. } = settings;
    let options =
        |shards| TargetOptions { shards, daemon: settings.daemon.clone(), ..TargetOptions::default() };
    let one = options(1);
    let fanout = |options: &TargetOptions, connections, in_flight| {
        let size = EVENT_SIZE;
        fanout::run(
            options,
            &fanout::FanoutOptions { connections, in_flight, rate: None, size, seconds, runs },
        )
    };
    let mut reports = vec![fanout(&one, 1_000, 1)?, fanout(&one, 10_000, 1)?, fanout(&one, 1_000, 16)?];
    let size = EVENT_SIZE;
    let topics = selective::SelectiveOptions { topics: 10_000, in_flight: 64, size, seconds, runs };
    reports.push(selective::run(&one, &topics)?);
    for topics in [false, true] {
        reports.push(idle::run(&one, &idle::IdleOptions { connections: 15_000, topics, runs })?);
    }
    let opened = handshake::HandshakeOptions { connections: 5_000, concurrency: 64, runs };
    reports.push(handshake::run(&one, &opened)?);
    for speech in [Speech::PersoniumTopic, Speech::Channel, Speech::Wazo] {
        let mut other = fanout(&TargetOptions { speech, ..options(1) }, 1_000, 1)?;
        against_first(&mut other, &reports, DIALECTS_RATIO_MAX);
        reports.push(other);
    }
    reports.extend(echo(&options, settings)?);
    let durable =
        durable::DurableOptions { producers: 64, topics: 1, in_flight: 16, size: 256, seconds, runs };
    reports.push(durable::run(&one, &durable)?);
    reports.push(fanout(&TargetOptions { speech: Speech::Pulsar, ..options(1) }, 1_000, 1)?);
    reports.push(backlog::run(&one, &backlog::BacklogOptions { messages: BACKLOG, size: 256 })?);
    reports.push(churn::run(&one, &churn::ChurnOptions { messages: CHURN, size: 256, rounds: 1 })?);
    let tls = TargetOptions { tls: true, ..options(1) };
    reports.push(fanout(&tls, 10_000, 1)?);
    reports.push(idle::run(&tls, &idle::IdleOptions { connections: 10_000, topics: false, runs })?);
    match Cpus::of_this_machine(2) {
        Ok(_) => {
            let mut two = fanout(&options(2), 1_000, 1)?;
            against_first(&mut two, &reports, SHARDS_RATIO_MAX);
            reports.push(two);
        }
        Err(BenchError::TooFewCpus { .. }) => note("two shards need two processors: left out"),
        Err(error) => return Err(error),
    }
    Ok(reports)
}

/// Laravel Echo: what is published over HTTP beside the same over the unix feed, and what an idle client takes.
fn echo(
    options: &impl Fn(usize) -> TargetOptions,
    settings: &AllOptions,
) -> Result<Vec<BenchReport>, BenchError> {
    let &AllOptions { seconds, runs, .. } = settings;
    let size = EVENT_SIZE;
    let echo = TargetOptions { speech: Speech::Echo, ..options(1) };
    let http = TargetOptions { http: true, ..echo.clone() };
    let crowd = fanout::FanoutOptions { connections: 1_000, in_flight: 1, rate: None, size, seconds, runs };
    let fed = fanout::run(&echo, &crowd)?;
    let mut posted = fanout::run(&http, &crowd)?;
    let deliveries = |row: &&Row| row.what.ends_with(": deliveries");
    if let Some(ratio) = fed.rows.iter().find(deliveries).and_then(|row| row.ratio)
        && let Some(row) = posted.rows.iter_mut().find(|row| row.what.ends_with(": deliveries"))
    {
        *row = row.clone().against(Goal::RatioAtLeast(HTTP_RATIO_MIN * ratio));
    }
    let channels = selective::SelectiveOptions { topics: 10_000, in_flight: 64, size, seconds, runs };
    let idle = idle::IdleOptions { connections: 15_000, topics: true, runs };
    Ok(vec![fed, posted, selective::run(&http, &channels)?, idle::run(&echo, &idle)?])
}

/// Compares a fan-out with the first one, of the event bus on one shard, instead of against the floor alone.
fn against_first(report: &mut BenchReport, reports: &[BenchReport], times_max: f64) {
    if let Some(first) = reports.first().and_then(|report| report.rows.first()?.ratio)
        && let Some(row) = report.rows.first_mut()
    {
        *row = row.clone().against(Goal::RatioAtMost(times_max * first));
    }
}
