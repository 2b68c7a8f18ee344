//! `bench cluster`: two nodes that meet on NATS servers of our own, beside a daemon that is alone.
//!
//! Events enter the first node by its unix feed. Their subscriber is on the second node, for latency
//! and rate; or on the first, while the second has sessions that follow something else, for what
//! events cost that nobody there follows. Whatever else runs shares the processors with all that, so
//! processor time is what counts.

use super::clients::BenchClients;
use super::inflight::InFlight;
use super::nats::BenchNats;
use super::options::{BenchNode, BenchOptions, Pace};
use super::pair::require_fds;
use super::progress::BenchProgress;
use super::publisher::UnixFeed;
use super::report::{BenchReport, Goal};
use super::side::{BenchSource, Measured, Meter, Side};
use super::target::BenchTarget;
use super::wire::Sampled;
use crate::cli::CliError;
use serde_json::json;
use std::path::PathBuf;

/// What a median event may take longer to another node than on its own, in microseconds.
const ADDED_P50_US_MAX: f64 = 600.0;
/// The 99th percentile of an event to another node, in microseconds.
const P99_US_MAX: f64 = 5_000.0;
/// Nanoseconds that an event costs its node beside what it costs a daemon that is alone.
const SENDING_NS_MAX: f64 = 1_000.0;
/// Nanoseconds that an event costs a node that has it from another and where it has no follower.
const UNFOLLOWED_NS_MAX: f64 = 1_600.0;
/// Events per second that reach the other node, with everything on two processors.
const PER_SECOND_MIN: f64 = 60_000.0;

/// Events outstanding where as many as possible are published.
const WINDOW: u64 = 4_096;
/// Connections opened at once.
const CONCURRENCY: usize = 16;
/// The environment variable and the usual name of the server's program.
const PROGRAM: (&str, &str) = ("NATS_SERVER", "nats-server");

/// A daemon with the events of a feed and a subscriber.
struct NodeLoad {
    side: Side,
}

/// The figures of all runs.
#[derive(Default)]
struct ClusterRuns {
    alone: Vec<Measured>,
    across: Vec<Measured>,
    alone_many: Vec<Measured>,
    across_many: Vec<(Measured, f64)>,
    /// Followed on the first node alone; nanoseconds of the second per event.
    unfollowed: Vec<(Measured, f64)>,
}

/// Measures two nodes.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, CliError> {
    require_fds(64)?;
    let program = options.nats_server.clone().unwrap_or_else(nats_server);
    let nats = BenchNats::start(&program, options.servers)?;
    let node = |name: &'static str, number: usize| -> Result<BenchTarget, CliError> {
        let node = Some(BenchNode { name, urls: nats.url(number) });
        BenchTarget::open(&BenchOptions { roams: true, node, ..options.clone() })
    };
    let alone = BenchTarget::open(&BenchOptions { roams: true, ..options.clone() })?;
    let (first, second) = (node("a", 0)?, node("b", 1)?);
    // A session of the dialect that follows another topic: its shard looks every event up.
    let _other = second.subscribers(1, true, CONCURRENCY, |_| {})?;

    let progress = BenchProgress::new(options.runs * 5);
    let mut measured = ClusterRuns::default();
    for run in 1..=options.runs {
        progress.step(&format!("cluster: run {run}, one event at a time, alone"));
        measured.alone.push(load(&alone, &alone, options, 1)?.measure(1, options.seconds)?);
        progress.step(&format!("cluster: run {run}, one event at a time, to the other node"));
        measured.across.push(load(&first, &second, options, 1)?.measure(1, options.seconds)?);

        progress.step(&format!("cluster: run {run}, many events, alone"));
        let many = load(&alone, &alone, options, WINDOW)?.measure(WINDOW, options.seconds)?;
        measured.alone_many.push(many);
        progress.step(&format!("cluster: run {run}, many events, to the other node"));
        let across = load(&first, &second, options, WINDOW)?;
        measured.across_many.push(beside(across, &second, options)?);
        progress.step(&format!("cluster: run {run}, many events that the other does not follow"));
        let unfollowed = load(&first, &first, options, WINDOW)?;
        measured.unfollowed.push(beside(unfollowed, &second, options)?);
        second.settle()?;
    }

    let settings = json!({
        "servers": options.servers, "size": options.size, "seconds": options.seconds,
        "runs": options.runs, "shards": options.shards, "dialect": options.dialect.name(),
    });
    let mut report = BenchReport::new("cluster", settings);
    measured.tell(&mut report);
    Ok(report)
}

/// The server's program, as the environment names it.
fn nats_server() -> PathBuf {
    std::env::var_os(PROGRAM.0).map_or_else(|| PROGRAM.1.into(), PathBuf::from)
}

/// Events into one daemon, a subscriber at another, or at the same.
fn load(
    from: &BenchTarget,
    to: &BenchTarget,
    options: &BenchOptions,
    window: u64,
) -> Result<NodeLoad, CliError> {
    let Sampled { line, expectation, .. } = from.sample(options.size, false)?;
    let feed = UnixFeed::connect(from.socket()?, line, vec![0])?;
    let mut clients: BenchClients = to.subscribers(1, false, CONCURRENCY, |_| {})?;
    clients.list.iter_mut().for_each(|client| client.expected = 1);
    let in_flight = InFlight::new(window as usize, 1, 1);
    let side = Side::new(clients, BenchSource::Feed(feed), in_flight, expectation, from.pids())?;
    Ok(NodeLoad { side })
}

impl NodeLoad {
    fn measure(mut self, window: u64, seconds: f64) -> Result<Measured, CliError> {
        self.side.measure(Pace::Closed { window }, seconds)
    }
}

/// Measures, and what another daemon has of the processors per event meanwhile, in nanoseconds.
fn beside(
    load: NodeLoad,
    other: &BenchTarget,
    options: &BenchOptions,
) -> Result<(Measured, f64), CliError> {
    let meter = Meter::start(other.pids())?;
    let measured = load.measure(WINDOW, options.seconds)?;
    let spent = meter.stop()?;
    let each = spent.cpu_ns.unwrap_or_default() as f64 / measured.tally.delivered.max(1) as f64;
    Ok((measured, each))
}

impl ClusterRuns {
    fn tell(&self, report: &mut BenchReport) {
        let p50 = |runs: &[Measured], quantile: f64| -> Vec<f64> {
            runs.iter().map(|run| run.latency_us(quantile)).collect()
        };
        let (here, there) = (p50(&self.alone, 0.5), p50(&self.across, 0.5));
        let added: Vec<f64> = there.iter().zip(&here).map(|(there, here)| there - here).collect();
        report.add("cluster: latency p50 to the other node".into(), "µs", &there, &here, None);
        let goal = Some(Goal::AtMost(ADDED_P50_US_MAX));
        report.add("cluster: latency p50 that this adds".into(), "µs", &added, &[], goal);
        let goal = Some(Goal::AtMost(P99_US_MAX));
        let (here, there) = (p50(&self.alone, 0.99), p50(&self.across, 0.99));
        report.add("cluster: latency p99 to the other node".into(), "µs", &there, &here, goal);

        let rate = |run: &Measured| run.per_second();
        let many: Vec<f64> = self.across_many.iter().map(|(run, _)| rate(run)).collect();
        let alone: Vec<f64> = self.alone_many.iter().map(rate).collect();
        let goal = Some(Goal::AtLeast(PER_SECOND_MIN));
        report.add("cluster: events to the other node".into(), "/s", &many, &alone, goal);
        let receiving: Vec<f64> = self.across_many.iter().map(|(_, each)| *each).collect();
        report.add("cluster: CPU of the node that delivers".into(), "ns", &receiving, &[], None);

        let cpu = |run: &Measured| run.cpu_per_delivery().unwrap_or_default();
        let sent: Vec<f64> = self.unfollowed.iter().map(|(run, _)| cpu(run)).collect();
        let alone: Vec<f64> = self.alone_many.iter().map(cpu).collect();
        let sending: Vec<f64> = sent.iter().zip(&alone).map(|(sent, alone)| sent - alone).collect();
        let goal = Some(Goal::AtMost(SENDING_NS_MAX));
        report.add("cluster: CPU of sending an event".into(), "ns", &sending, &[], goal);
        let unfollowed: Vec<f64> = self.unfollowed.iter().map(|(_, each)| *each).collect();
        let goal = Some(Goal::AtMost(UNFOLLOWED_NS_MAX));
        let what = "cluster: CPU of an event that nobody follows there";
        report.add(what.into(), "ns", &unfollowed, &[], goal);

        let all = [&self.alone, &self.across, &self.alone_many].into_iter().flatten();
        let all = all.chain(self.across_many.iter().chain(&self.unfollowed).map(|(run, _)| run));
        let wrong: Vec<f64> =
            all.map(|run| (run.tally.lost + run.tally.duplicated) as f64).collect();
        let goal = Some(Goal::AtMost(0.0));
        report.add("cluster: lost and repeated".into(), "", &wrong, &[], goal);
    }
}
