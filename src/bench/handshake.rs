//! `bench handshake`: connect, upgrade, token and one subscription, many at once; each connection then stays.
//!
//! The floor makes the same exchanges with canned bytes: accept, watch, and twice a read and a send.

use super::clients::BenchClients;
use super::connect;
use super::error::BenchError;
use super::floor::{FloorSpec, SendFloor};
use super::options::BenchOptions;
use super::pair::require_fds;
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal, Row};
use super::side::{self, Spent};
use super::target::BenchTarget;
use serde_json::json;

/// Processor time per connection to stay below.
const CPU_US_MAX: f64 = 35.0;

/// Connections per second to reach.
const RATE_MIN: f64 = 20_000.0;

/// Connections before the first run, which find caches and pools cold.
const WARM_UP_CONNECTIONS: usize = 200;

/// The event size that the floor's sender is told; it sends none.
const EVENT_SIZE: usize = 128;

/// Measures a daemon against the floor.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    options.check()?;
    let &BenchOptions { connections, concurrency, runs, .. } = options;
    require_fds(connections)?;
    let progress = BenchProgress::new(2 * runs);
    let target = BenchTarget::open(options)?;
    open(
        &target,
        &target.plan(WARM_UP_CONNECTIONS, true, concurrency)?,
        &target.pids(),
        &progress,
    )?;
    target.settle()?;

    let (mut floors, mut daemons) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        progress.step(&format!("handshake of {connections}: run {run}, daemon"));
        let plan = target.plan(connections, true, concurrency)?;
        daemons.push(open(&target, &plan, &target.pids(), &progress)?);
        target.settle()?;
        progress.step(&format!("handshake of {connections}: run {run}, floor"));
        floors.push(open_floor(&target, options, &progress)?);
    }
    progress.note_contention(daemons.iter().map(|run| run.contention));
    let name = format!("handshake {connections}{}", options.suffix());
    let figures = |figure: &dyn Fn(&Spent) -> Option<f64>| {
        let of = |runs: &[Spent]| runs.iter().filter_map(figure).collect::<Vec<_>>();
        (of(&daemons), of(&floors))
    };
    let count = connections as f64;
    let (cpu, floor_cpu) = figures(&|run| Some(run.cpu_ns? as f64 / 1000.0 / count));
    let (rate, floor_rate) = figures(&|run| Some(count / run.elapsed.as_secs_f64()));
    let cpu = Row::new(format!("{name}: CPU per connection"), "µs", &cpu, &floor_cpu);
    let rate = Row::new(format!("{name}: connections"), "/s", &rate, &floor_rate);
    let rows = [
        cpu.map(|row| row.against(Goal::AtMost(CPU_US_MAX))),
        rate.map(|row| row.against(Goal::AtLeast(RATE_MIN))),
    ];
    Ok(BenchReport {
        bench: "handshake",
        settings: json!({
            "connections": connections, "concurrency": concurrency, "runs": runs, "shards": target.cpus.len(), "dialect": options.dialect.name(),
        }),
        rows: rows.into_iter().flatten().collect(),
    })
}

fn open_floor(
    target: &BenchTarget,
    options: &BenchOptions,
    progress: &BenchProgress,
) -> Result<Spent, BenchError> {
    let spec = FloorSpec {
        connections: options.connections,
        size: EVENT_SIZE,
        topics: false,
        cpus: &target.cpus,
        generator_cpu: target.generator_cpu,
    };
    let floor = SendFloor::start(spec)?;
    open(target, &floor.plan(spec, options.concurrency), &floor.pids(), progress)
}

/// Opens the plan's connections, and closes them when all stand.
fn open(
    target: &BenchTarget,
    plan: &connect::ConnectPlan,
    pids: &[u32],
    progress: &BenchProgress,
) -> Result<Spent, BenchError> {
    let connections = plan.greetings.len();
    let mut clients = BenchClients::new(target.generator_is_alone())?;
    let meter = side::Meter::start(pids.to_vec())?;
    connect::open(&mut clients, plan, |ready| progress.within("connecting", ready, connections))?;
    meter.stop()
}
