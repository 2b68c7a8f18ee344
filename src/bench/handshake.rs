//! `bench handshake`: connect, upgrade, token and one subscription, many at once; each connection
//! then stays.
//!
//! The floor makes the same exchanges with canned bytes: accept, watch, and twice a read and a
//! send.

use super::clients::BenchClients;
use super::connect::{self, ConnectPlan};
use super::floor::SendFloor;
use super::options::BenchOptions;
use super::pair::require_fds;
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal};
use super::side::{Meter, Spent};
use super::target::BenchTarget;
use crate::cli::CliError;
use serde_json::json;

/// Processor time per connection to stay below.
const CPU_US_MAX: f64 = 35.0;

/// Connections per second to reach.
const RATE_MIN: f64 = 20_000.0;

/// Connections before the first run, which find caches and pools cold.
const WARM_UP_CONNECTIONS: usize = 200;

/// Measures a daemon against the floor.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, CliError> {
    let &BenchOptions { connections, concurrency, runs, .. } = options;
    require_fds(connections)?;
    let progress = BenchProgress::new(2 * runs);
    let target = BenchTarget::open(options)?;
    let warm_up = target.plan(WARM_UP_CONNECTIONS, true, concurrency)?;
    // A first connection finds caches and pools cold, which a service meets once.
    open(&target, &warm_up, target.pids(), &progress)?;
    target.settle()?;

    let (mut floors, mut daemons) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        progress.step(&format!("handshake of {connections}: run {run}, daemon"));
        // Made before the meter starts: signing thousands of tokens takes longer than the
        // handshakes.
        let plan = target.plan(connections, true, concurrency)?;
        daemons.push(open(&target, &plan, target.pids(), &progress)?);
        target.settle()?;

        progress.step(&format!("handshake of {connections}: run {run}, floor"));
        let floor = SendFloor::start(options, &target.cpus)?;
        let plan = floor.plan(connections, concurrency);
        floors.push(open(&target, &plan, floor.pids(), &progress)?);
    }
    progress.note_contention(daemons.iter().map(|run| run.contention));

    let settings = json!({
        "connections": connections, "concurrency": concurrency, "runs": runs,
        "shards": target.cpus.shards.len(), "dialect": options.dialect.name(),
    });
    let mut report = BenchReport::new("handshake", settings);
    let name = format!("handshake {connections}{}", options.suffix());
    let (daemon, floor) = (cpu_us(&daemons, connections), cpu_us(&floors, connections));
    let goal = Some(Goal::AtMost(CPU_US_MAX));
    report.add(format!("{name}: CPU per connection"), "µs", &daemon, &floor, goal);
    let (daemon, floor) = (rates(&daemons, connections), rates(&floors, connections));
    let goal = Some(Goal::AtLeast(RATE_MIN));
    report.add(format!("{name}: connections"), "/s", &daemon, &floor, goal);
    Ok(report)
}

/// Opens the plan's connections, and closes them when all stand.
fn open(
    target: &BenchTarget,
    plan: &ConnectPlan,
    pids: Vec<u32>,
    progress: &BenchProgress,
) -> Result<Spent, CliError> {
    let connections = plan.greetings.len();
    let mut clients = BenchClients::new(target.generator_is_alone())?;
    let meter = Meter::start(pids)?;
    connect::open(&mut clients, plan, |ready| progress.within("connecting", ready, connections))?;
    meter.stop()
}

/// Processor time per connection, in microseconds, of the runs where it could be read.
fn cpu_us(runs: &[Spent], connections: usize) -> Vec<f64> {
    let times = runs.iter().filter_map(|run| run.cpu_ns);
    times.map(|cpu_ns| cpu_ns as f64 / 1000.0 / connections as f64).collect()
}

/// Connections per second.
fn rates(runs: &[Spent], connections: usize) -> Vec<f64> {
    runs.iter().map(|run| connections as f64 / run.elapsed.as_secs_f64()).collect()
}
