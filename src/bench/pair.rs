//! The daemon and the floor with the same subscribers, measured in turn.
//!
//! Both sides stay connected over all runs if the limit of open files allows it; else each is
//! opened anew when its turn comes.

use super::clients::{BenchClients, EXPECT_ANY};
use super::connect;
use super::error::too_few_descriptors;
use super::floor::SendFloor;
use super::inflight::InFlight;
use super::options::{BenchOptions, Pace, USUAL};
use super::proc::Cpus;
use super::progress::BenchProgress;
use super::publisher::UnixFeed;
use super::sender::shuffle;
use super::side::{BenchSource, Measured, OPEN_OUTSTANDING_MAX, Side};
use super::target::BenchTarget;
use super::wire::{Sampled, own_site};
use crate::cli::CliError;
use crate::cli::resources::descriptor_limit;

/// Descriptors besides the connections: standard streams, epoll sets, feeds, pipes, with room to
/// spare.
const SPARE_FDS: usize = 64;

/// Connections opened at once where opening is not what is measured.
const CONCURRENCY: usize = 128;

/// Connections that publish over HTTP where each subscriber has a topic of its own. Where all get
/// all, order matters and one connection has it.
const PUBLISHERS: usize = 64;

/// Both sides.
pub(super) struct SidePair<'a> {
    target: &'a BenchTarget,
    options: &'a BenchOptions,
    progress: &'a BenchProgress,
    daemon: Option<Side>,
    floor: Option<Side>,
    /// Not enough descriptors for all sides at once.
    tight: bool,
}

impl<'a> SidePair<'a> {
    /// Checks that the limits allow what is asked of so many sides that take turns: the daemon, the
    /// floor and whatever else is measured between them. Connects nothing yet.
    pub(super) fn new(
        target: &'a BenchTarget,
        options: &'a BenchOptions,
        sides: usize,
        progress: &'a BenchProgress,
    ) -> Result<Self, CliError> {
        require_fds(options.connections)?;
        let tight = require_fds(sides * options.connections).is_err();
        Ok(Self { target, options, progress, daemon: None, floor: None, tight })
    }

    /// Gives descriptors back where they are too few for others to be measured in between.
    pub(super) fn pause(&mut self) -> Result<(), CliError> {
        if self.tight && (self.daemon.take().is_some() | self.floor.take().is_some()) {
            self.target.settle()?;
        }
        Ok(())
    }

    /// Measures the daemon.
    pub(super) fn measure_daemon(&mut self) -> Result<Measured, CliError> {
        if self.daemon.is_none() {
            // Its descriptors are needed; it is opened anew at its turn.
            if self.tight {
                self.floor = None;
            }
            self.daemon = Some(self.connect_daemon()?);
            self.target.settle()?;
        }
        let side = self.daemon.as_mut().expect("it was just connected");
        side.measure(self.options.pace(), self.options.seconds)
    }

    /// Measures the floor; with `coalesce` events published together leave in one send.
    pub(super) fn measure_floor(
        &mut self,
        pace: Pace,
        coalesce: bool,
    ) -> Result<Measured, CliError> {
        if self.floor.is_none() {
            // Closing thousands of connections keeps the daemon busy, which the floor must not be
            // measured beside.
            if self.tight && self.daemon.take().is_some() {
                self.target.settle()?;
            }
            self.floor = Some(floor_side(self.options, &self.target.cpus, self.progress)?);
        }
        let side = self.floor.as_mut().expect("it was just connected");
        side.coalesce(coalesce);
        side.measure(pace, self.options.seconds)
    }

    fn connect_daemon(&self) -> Result<Side, CliError> {
        let &BenchOptions { connections, size, own_topics, http, .. } = self.options;
        let mut order: Vec<u32> =
            if own_topics { (0..connections as u32).collect() } else { vec![0] };
        // Neighbours in the daemon's tables would be found in the cache one after the other.
        shuffle(&mut order);

        let Sampled { line, body, expectation, .. } = self.target.sample(size, own_topics)?;
        let source = if http {
            let publishers = if own_topics { PUBLISHERS } else { 1 };
            BenchSource::Http(Box::new(self.target.http(body, publishers, order.clone())?))
        } else {
            let path = self.target.socket()?;
            BenchSource::Feed(UnixFeed::connect(path, line, order.clone())?)
        };

        let mut clients =
            self.target.subscribers(connections, own_topics, CONCURRENCY, |ready| {
                self.progress.within("connecting", ready, connections);
            })?;
        clients.spin = self.target.generator_is_alone();
        clients.acknowledge = self.target.acknowledges();
        clients.list.iter_mut().for_each(|client| client.expected = 1);
        // Each subscriber's first event is numbered by its place in the order.
        if own_topics {
            for (position, &topic) in order.iter().enumerate() {
                clients.list[topic as usize].expected = position as u64 + 1;
            }
        }
        let pids = self.target.pids();
        Side::new(clients, source, in_flight(self.options), expectation, pids)
    }
}

/// The floor's side alone.
pub(super) fn floor_side(
    options: &BenchOptions,
    cpus: &Cpus,
    progress: &BenchProgress,
) -> Result<Side, CliError> {
    let &BenchOptions { connections, size, own_topics, .. } = options;
    let expectation = Sampled::new(USUAL.client(), &own_site(), size, own_topics)?.expectation;
    let floor = SendFloor::start(options, cpus)?;
    let mut clients = BenchClients::new(!cpus.shards.contains(&cpus.generator))?;
    connect::open(&mut clients, &floor.plan(connections, CONCURRENCY), |ready| {
        progress.within("connecting to the floor", ready, connections);
    })?;

    // With topics the sender's order is its own, and each first event tells it.
    let expected = if own_topics { EXPECT_ANY } else { 1 };
    clients.list.iter_mut().for_each(|client| client.expected = expected);
    let pids = floor.pids();
    Side::new(clients, BenchSource::Floor(floor), in_flight(options), expectation, pids)
}

/// Raises the limit of open files and checks that `connections` fit.
pub(super) fn require_fds(connections: usize) -> Result<(), CliError> {
    let (need, have) = (connections + SPARE_FDS, descriptor_limit());
    if need <= have { Ok(()) } else { Err(too_few_descriptors(need, have)) }
}

fn in_flight(options: &BenchOptions) -> InFlight {
    let outstanding_max = match options.pace() {
        Pace::Closed { window } => window as usize,
        Pace::Rate { .. } => OPEN_OUTSTANDING_MAX,
    };
    let connections = options.connections;
    match options.own_topics {
        true => InFlight::new(outstanding_max, 1, connections as u64),
        false => InFlight::new(outstanding_max, connections as u32, 1),
    }
}
