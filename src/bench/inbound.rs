//! `bench inbound`: clients that talk, each at a steady rate to a topic of its own, with the
//! daemon's sockets on io_uring and on epoll in turn.
//!
//! The messages are due at times fixed beforehand, so that both daemons get the same in the same
//! time. They come in small bursts, as from many clients of one network: one by one, most of a
//! message's cost would be that of waking a daemon that had gone to sleep, on either transport.

use super::clients::BenchClients;
use super::error::stalled;
use super::options::{BenchOptions, USUAL};
use super::pair::require_fds;
use super::progress::BenchProgress;
use super::report::{BenchReport, Goal};
use super::side::{Meter, Spent};
use super::target::BenchTarget;
use super::wire;
use crate::cli::CliError;
use crate::dialect::Kind;
use crate::io::runtime::Driver;
use serde_json::json;
use std::time::{Duration, Instant};

/// Limit on what a message costs on a ring, as a multiple of what it costs on epoll.
const RING_RATIO_MAX: f64 = 1.03;

/// Connections opened at once.
const CONCURRENCY: usize = 128;

/// The time between two bursts: 100 messages each, of 1,000 clients with 20 a second.
const BURST: Duration = Duration::from_millis(5);

/// Silence after which messages count as lost.
const SILENCE: Duration = Duration::from_secs(5);

/// A daemon on one of the transports, with its clients.
struct InboundSide {
    target: BenchTarget,
    clients: BenchClients,
    /// The next client to speak.
    next: usize,
}

/// The first dialect whose clients say something to others.
pub(super) fn talking() -> Kind {
    let mut kinds = Kind::ALL.iter().copied();
    kinds.find(|kind| kind.client().client_message(1).is_some()).unwrap_or(USUAL)
}

/// Measures both transports.
pub(super) fn run(options: &BenchOptions) -> Result<BenchReport, CliError> {
    let &BenchOptions { connections, runs, rate, seconds, size, .. } = options;
    let message = options.dialect.client().client_message(size).ok_or_else(|| {
        CliError::usage(format!("the clients of {} say nothing to others", options.dialect.name()))
    })?;
    require_fds(2 * connections)?;
    let mut frame = Vec::new();
    wire::client_frame(wire::TEXT, message.as_bytes(), &mut frame);
    let per_second = rate.unwrap_or(1.0) * connections as f64;

    let progress = BenchProgress::new(2 * runs);
    let mut ring = InboundSide::open(options, Driver::IoUring, &progress)?;
    let mut epoll = InboundSide::open(options, Driver::Epoll, &progress)?;
    let (mut on_ring, mut on_epoll) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        progress.step(&format!("inbound of {connections}: run {run}, io_uring"));
        on_ring.push(ring.measure(&frame, per_second, seconds)?);
        progress.step(&format!("inbound of {connections}: run {run}, epoll"));
        on_epoll.push(epoll.measure(&frame, per_second, seconds)?);
    }
    progress.note_contention(on_ring.iter().chain(&on_epoll).map(|run| run.contention));

    let settings = json!({
        "connections": connections, "rate": rate, "seconds": seconds, "runs": runs, "size": size,
        "shards": options.shards, "dialect": options.dialect.name(),
    });
    let mut report = BenchReport::new("inbound", settings);
    let messages = (per_second * seconds).max(1.0);
    let each = |runs: &[Spent]| -> Vec<f64> {
        runs.iter().filter_map(|run| Some(run.cpu_ns? as f64 / messages)).collect()
    };
    let name = format!("inbound {connections} × {}/s", rate.unwrap_or(1.0));
    let goal = Some(Goal::RatioAtMost(RING_RATIO_MAX));
    report.add(
        format!("{name}: CPU per message, beside epoll"),
        "ns",
        &each(&on_ring),
        &each(&on_epoll),
        goal,
    );
    Ok(report)
}

impl InboundSide {
    fn open(
        options: &BenchOptions,
        driver: Driver,
        progress: &BenchProgress,
    ) -> Result<Self, CliError> {
        let connections = options.connections;
        let target = BenchTarget::open(&BenchOptions { driver: Some(driver), ..options.clone() })?;
        let clients = target.subscribers(connections, true, CONCURRENCY, |ready| {
            progress.within("connecting", ready, connections);
        })?;
        target.settle()?;
        Ok(Self { target, clients, next: 0 })
    }

    /// Has the clients say this frame so often, and waits for all answers.
    fn measure(&mut self, frame: &[u8], per_second: f64, seconds: f64) -> Result<Spent, CliError> {
        let Self { target, clients, next } = self;
        let total = (per_second * seconds).max(1.0) as u64;
        let (mut said, mut heard) = (0u64, 0u64);
        let meter = Meter::start(target.pids())?;
        let (start, mut silent_since) = (Instant::now(), Instant::now());
        while heard < total {
            let bursts = (start.elapsed().as_secs_f64() / BURST.as_secs_f64()).floor();
            let due = (bursts * BURST.as_secs_f64() * per_second) as u64;
            while said < due.min(total) {
                clients.list[*next].send(frame)?;
                *next = (*next + 1) % clients.list.len();
                said += 1;
            }
            let before = heard;
            // Each message comes back to its client once, as to all others of its topic. The
            // generator spins: a receiver that sleeps is woken at the daemon's expense.
            let patience = if target.generator_is_alone() { Duration::ZERO } else { BURST / 5 };
            clients.receive(patience, |_, payload, _| {
                heard += u64::from(payload.ends_with(b"}}"));
            })?;
            if heard > before {
                silent_since = Instant::now();
            } else if silent_since.elapsed() > SILENCE {
                return Err(stalled(heard as usize, total as usize));
            }
        }
        meter.stop()
    }
}
