//! The daemon and the floor with the same subscribers, measured in turn.
//!
//! Both sides stay connected over all runs if the limit of open files allows it; else each is opened anew when its
//! turn comes.

use super::clients::{BenchClients, EXPECT_ANY};
use super::connect;
use super::error::BenchError;
use super::floor::{FloorSpec, SendFloor};
use super::http::Http;
use super::inflight::InFlight;
use super::options::USUAL;
use super::proc;
use super::progress::BenchProgress;
use super::publisher::UnixFeed;
use super::sender::shuffle;
use super::side::{BenchSource, Measured, OPEN_OUTSTANDING_MAX, Pace, Side};
use super::target::BenchTarget;
use super::wire::{Sampled, own_site};

/// Descriptors besides the connections: standard streams, epoll sets, feeds, pipes, with room to spare.
const SPARE_FDS: u64 = 64;

/// Connections opened at once where opening is not what is measured.
const CONCURRENCY: usize = 128;

/// Connections that publish over HTTP where each subscriber has a topic of its own. Where all get all, order matters
/// and one connection has it.
const PUBLISHERS: usize = 64;

/// What subscribers receive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    pub(super) connections: usize,
    /// Bytes of an event's JSON.
    pub(super) size: usize,
    /// Each subscriber has a topic of its own.
    pub(super) topics: bool,
    pub(super) pace: Pace,
    /// Sides that take turns: the daemon, the floor and whatever else is measured between them.
    pub(super) sides: usize,
}

/// Both sides.
pub(super) struct SidePair<'a> {
    target: &'a BenchTarget,
    spec: Spec,
    progress: &'a BenchProgress,
    daemon: Option<Side>,
    floor: Option<Side>,
    /// Not enough descriptors for all sides at once.
    tight: bool,
}

impl<'a> SidePair<'a> {
    /// Checks that the limits allow what is asked; connects nothing yet.
    pub(super) fn new(
        target: &'a BenchTarget,
        spec: Spec,
        progress: &'a BenchProgress,
    ) -> Result<Self, BenchError> {
        require_fds(spec.connections)?;
        let tight = require_fds(spec.sides * spec.connections).is_err();
        Ok(Self { target, spec, progress, daemon: None, floor: None, tight })
    }

    /// Gives descriptors back where they are too few for others to be measured in between.
    pub(super) fn pause(&mut self) -> Result<(), BenchError> {
        if self.tight && (self.daemon.take().is_some() | self.floor.take().is_some()) {
            self.target.settle()?;
        }
        Ok(())
    }

    /// Measures the daemon.
    pub(super) fn measure_daemon(
        &mut self,
        pace: Pace,
        seconds: f64,
    ) -> Result<Measured, BenchError> {
        if self.daemon.is_none() {
            if self.tight {
                self.floor = None;
            }
            self.daemon = Some(self.connect_daemon()?);
            self.target.settle()?;
        }
        self.daemon.as_mut().expect("it was just connected").measure(pace, seconds)
    }

    /// Measures the floor; with `coalesce` events published together leave in one send.
    pub(super) fn measure_floor(
        &mut self,
        pace: Pace,
        coalesce: bool,
        seconds: f64,
    ) -> Result<Measured, BenchError> {
        if self.floor.is_none() {
            if self.tight && self.daemon.take().is_some() {
                self.target.settle()?;
            }
            let side =
                floor_side(self.spec, &self.target.cpus, self.target.generator_cpu, self.progress)?;
            self.floor = Some(side);
        }
        let side = self.floor.as_mut().expect("it was just connected");
        if let BenchSource::Floor(floor) = &mut side.source {
            floor.coalesce = coalesce;
        }
        side.measure(pace, seconds)
    }

    fn connect_daemon(&self) -> Result<Side, BenchError> {
        let Spec { connections, size, topics, .. } = self.spec;
        let mut order: Vec<u32> = if topics { (0..connections as u32).collect() } else { vec![0] };
        shuffle(&mut order);
        let sampled = self.target.sample(size, topics)?;
        let source = if self.target.http {
            let publishers = if topics { PUBLISHERS } else { 1 };
            let api = self.target.api(sampled.body)?;
            BenchSource::Http(Box::new(Http::connect(api, publishers, order.clone())?))
        } else {
            BenchSource::Feed(UnixFeed::connect(
                self.target.socket()?,
                sampled.line,
                order.clone(),
            )?)
        };
        let mut clients = self.target.subscribers(connections, topics, CONCURRENCY, |ready| {
            self.progress.within("connecting", ready, connections);
        })?;
        clients.spin = self.target.generator_is_alone();
        clients.acknowledge = self.target.acknowledges();
        clients.list.iter_mut().for_each(|client| client.expected = 1);
        if topics {
            for (position, &topic) in order.iter().enumerate() {
                clients.list[topic as usize].expected = position as u64 + 1;
            }
        }
        Side::new(clients, source, in_flight(self.spec), sampled.expectation, self.target.pids())
    }
}

/// The floor's side alone.
pub(super) fn floor_side(
    spec: Spec,
    cpus: &[usize],
    generator_cpu: usize,
    progress: &BenchProgress,
) -> Result<Side, BenchError> {
    let Spec { connections, size, topics, .. } = spec;
    let expectation = Sampled::new(USUAL.client(), &own_site(), size, topics)?.expectation;
    let floor_spec = FloorSpec { connections, size, topics, cpus, generator_cpu };
    let floor = SendFloor::start(floor_spec)?;
    let mut clients = BenchClients::new(!cpus.contains(&generator_cpu))?;
    connect::open(&mut clients, &floor.plan(floor_spec, CONCURRENCY), |ready| {
        progress.within("connecting to the floor", ready, connections);
    })?;
    // With topics the sender's order is its own, and each first event tells it.
    let expected = if topics { EXPECT_ANY } else { 1 };
    clients.list.iter_mut().for_each(|client| client.expected = expected);
    let pids = floor.pids();
    Side::new(clients, BenchSource::Floor(floor), in_flight(spec), expectation, pids)
}

/// Raises the limit of open files and checks that `connections` fit.
pub(super) fn require_fds(connections: usize) -> Result<(), BenchError> {
    let (need, have) = (connections as u64 + SPARE_FDS, proc::raise_fd_limit());
    if need <= have { Ok(()) } else { Err(BenchError::FdLimit { need, have }) }
}

fn in_flight(spec: Spec) -> InFlight {
    let outstanding_max = match spec.pace {
        Pace::Closed { window } => window as usize,
        Pace::Rate { .. } => OPEN_OUTSTANDING_MAX,
    };
    let (receivers, stride) =
        if spec.topics { (1, spec.connections as u64) } else { (spec.connections as u32, 1) };
    InFlight::new(outstanding_max, receivers, stride)
}
