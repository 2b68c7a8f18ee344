//! One side of a comparison, the daemon or the floor: its subscribers, its publisher and its
//! processes; and the measuring loop, which is the same for both.
//!
//! Closed loop: the next events are published when all subscribers have the earlier ones, W
//! outstanding at most. Fixed rate: events are published at times fixed beforehand, and latency
//! counts from those times, so that a stall is seen in all events that it delayed (no coordinated
//! omission).

use super::clients::{BenchClients, EXPECT_ANY};
use super::error::{failed, unreadable};
use super::floor::SendFloor;
use super::http::Http;
use super::inflight::{DeliveryTally, InFlight};
use super::options::Pace;
use super::proc::{self, Usage};
use super::publisher::UnixFeed;
use super::wire::Expectation;
use crate::cli::CliError;
use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::time::{Duration, Instant};

/// Nothing received for so long while events are outstanding: they are lost. Commands that measure
/// a slow start have more patience.
const SILENCE: Duration = Duration::from_secs(5);

/// Events that may be outstanding at a fixed rate before publishing waits (latency still counts).
pub(super) const OPEN_OUTSTANDING_MAX: usize = 16 * 1024;

/// Fresh connections acknowledge each of their first segments; events before these many each are
/// not measured.
const WARM_UP_EVENTS: u64 = 20;

/// Where events come from.
#[derive(Debug)]
pub(super) enum BenchSource {
    /// The daemon's unix feed.
    Feed(UnixFeed),
    /// The daemon's HTTP API.
    Http(Box<Http>),
    /// Commands to the floor's senders.
    Floor(SendFloor),
}

/// One measurement.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) spent: Spent,
    pub(super) tally: DeliveryTally,
    /// Publish to receive, in nanoseconds.
    pub(super) latency: Histogram<u64>,
}

impl Measured {
    /// Processor nanoseconds per delivery.
    pub(super) fn cpu_per_delivery(&self) -> Option<f64> {
        Some(self.spent.cpu_ns? as f64 / self.tally.delivered.max(1) as f64)
    }

    /// Deliveries per second.
    pub(super) fn per_second(&self) -> f64 {
        self.tally.delivered as f64 / self.spent.elapsed.as_secs_f64()
    }

    /// A quantile of the latency, in microseconds.
    pub(super) fn latency_us(&self, quantile: f64) -> f64 {
        quantile_us(&self.latency, quantile)
    }
}

/// One side of a comparison.
pub(super) struct Side {
    clients: BenchClients,
    source: BenchSource,
    in_flight: InFlight,
    expectation: Expectation,
    pids: Vec<u32>,
    timer: OwnedFd,
    warm: bool,
    silent_since: Option<Instant>,
    /// How long nothing may come while events are outstanding before they count as lost.
    pub(super) patience: Duration,
}

impl Side {
    /// A side whose subscribers are connected. `pids` are the processes whose time is read.
    pub(super) fn new(
        clients: BenchClients,
        source: BenchSource,
        in_flight: InFlight,
        expectation: Expectation,
        pids: Vec<u32>,
    ) -> Result<Self, CliError> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, flags).map_err(failed("create a timer"))?;
        clients.watch_timer(&timer)?;
        match &source {
            BenchSource::Feed(feed) => clients.watch_feed(feed)?,
            BenchSource::Http(http) => clients.watch_feed(http)?,
            BenchSource::Floor(_) => {}
        }
        Ok(Self {
            clients,
            source,
            in_flight,
            expectation,
            pids,
            timer,
            warm: false,
            silent_since: None,
            patience: SILENCE,
        })
    }

    /// Whether the floor's events that are published together leave in one send.
    pub(super) fn coalesce(&mut self, coalesce: bool) {
        if let BenchSource::Floor(floor) = &mut self.source {
            floor.coalesce = coalesce;
        }
    }

    /// Measures for `seconds`, after a warm-up the first time.
    pub(super) fn measure(&mut self, pace: Pace, seconds: f64) -> Result<Measured, CliError> {
        if !self.warm {
            let (window, events) = match pace {
                Pace::Closed { window } => {
                    (window, WARM_UP_EVENTS * self.in_flight.stride() + window)
                }
                Pace::Rate { .. } => (1, WARM_UP_EVENTS),
            };
            self.pass(window, events, |_| {})?;
            self.warm = true;
        }

        // What the warm-up counted is not part of the measurement.
        self.in_flight.take_tally();
        let mut latency = histogram();
        let meter = Meter::start(self.pids.clone())?;
        match pace {
            Pace::Closed { window } => {
                let end = Instant::now() + Duration::from_secs_f64(seconds);
                self.closed(window, Until::Time(end), &mut latency, |_| {})?;
            }
            Pace::Rate { per_second } => self.at_rate(per_second, seconds, &mut latency)?,
        }
        Ok(Measured { spent: meter.stop()?, tally: self.in_flight.take_tally(), latency })
    }

    /// Publishes so many events and takes them; `told` hears how many are published.
    pub(super) fn pass(
        &mut self,
        window: u64,
        events: u64,
        told: impl FnMut(u64),
    ) -> Result<(), CliError> {
        self.closed(window, Until::Events(events), &mut histogram(), told)
    }

    fn closed(
        &mut self,
        window: u64,
        until: Until,
        latency: &mut Histogram<u64>,
        mut told: impl FnMut(u64),
    ) -> Result<(), CliError> {
        // Publishing an eighth of the window at once spares the generator a write per event.
        let least = (window / 8).max(1);
        let wait = if self.clients.spin { Duration::ZERO } else { self.patience };
        let mut published = 0;
        loop {
            let left = match until {
                Until::Time(end) if Instant::now() < end => u64::MAX,
                Until::Time(_) => 0,
                Until::Events(events) => events - published,
            };
            let outstanding = self.in_flight.outstanding();
            let count = window.saturating_sub(outstanding).min(left);
            if left > 0 && count >= least.min(left) {
                let first = self.in_flight.next_sequence();
                self.in_flight.published(count, self.clients.now_ns());
                self.source.publish(first, count)?;
                published += count;
                told(published);
            } else if left == 0 && outstanding == 0 {
                return Ok(());
            }
            self.receive(wait, latency)?;
        }
    }

    /// How many events were lost, came again or were altered since the last call, or came before
    /// they were asked for.
    pub(super) fn take_wrong(&mut self) -> u64 {
        let tally = self.in_flight.take_tally();
        let early = std::mem::take(&mut self.clients.early);
        tally.lost + tally.duplicated + tally.unexpected + early
    }

    fn at_rate(
        &mut self,
        per_second: f64,
        seconds: f64,
        latency: &mut Histogram<u64>,
    ) -> Result<(), CliError> {
        let period_ns = 1e9 / per_second;
        let total = (per_second * seconds).max(1.0) as u64;
        let start_ns = self.clients.now_ns();
        let intended_ns = |event: u64| start_ns + (event as f64 * period_ns) as u64;
        let mut published = 0;
        while published < total || self.in_flight.outstanding() > 0 {
            let now_ns = self.clients.now_ns();
            let first = self.in_flight.next_sequence();
            let mut count = 0;
            while published < total
                && intended_ns(published) <= now_ns
                // A server that stalls would otherwise fill every buffer; the events that wait keep
                // their intended times.
                && self.in_flight.outstanding() < OPEN_OUTSTANDING_MAX as u64
            {
                self.in_flight.published(1, intended_ns(published));
                published += 1;
                count += 1;
            }
            if count > 0 {
                self.source.publish(first, count)?;
            }
            if published < total {
                // At least 1: what is due already must not disarm the timer.
                self.wake_in(intended_ns(published).saturating_sub(self.clients.now_ns()).max(1))?;
            }
            self.receive(self.patience, latency)?;
        }
        self.wake_in(0)
    }

    /// Takes deliveries, and waits for so long if there are none.
    pub(super) fn receive(
        &mut self,
        wait: Duration,
        latency: &mut Histogram<u64>,
    ) -> Result<(), CliError> {
        let (in_flight, expectation) = (&mut self.in_flight, self.expectation);
        let woken = self.clients.receive(wait, |expected, payload, now_ns| {
            // It is counted, not an error: the measurement goes on and reports it.
            let Some(sequence) = expectation.sequence(payload) else {
                return in_flight.unexpected();
            };
            // The floor deals its events in an order of its own.
            if *expected == EXPECT_ANY {
                *expected = sequence;
            }
            if let Some(then_ns) = in_flight.delivered(expected, sequence) {
                latency.saturating_record(now_ns.saturating_sub(then_ns));
            }
        })?;
        if woken.timer {
            // Reading it is what makes it quiet again.
            let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        }
        if !woken.idle {
            self.silent_since = None;
        } else if wait >= self.patience
            || self.silent_since.get_or_insert_with(Instant::now).elapsed() > self.patience
        {
            self.in_flight.abandon();
        }

        match &mut self.source {
            BenchSource::Feed(feed) if woken.feed => feed.ready(),
            BenchSource::Http(http) if woken.feed => http.ready(),
            _ => Ok(()),
        }
    }

    /// Arms the timer; 0 disarms it.
    fn wake_in(&self, nanoseconds: u64) -> Result<(), CliError> {
        let value = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: (nanoseconds / 1_000_000_000) as i64,
                tv_nsec: (nanoseconds % 1_000_000_000) as i64,
            },
        };
        let set = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value);
        set.map(|_| ()).map_err(failed("set a timer"))
    }
}

impl BenchSource {
    fn publish(&mut self, first: u64, count: u64) -> Result<(), CliError> {
        match self {
            BenchSource::Feed(feed) => feed.publish(first, count),
            BenchSource::Http(http) => http.publish(first, count),
            BenchSource::Floor(floor) => floor.publish(first, count),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Time(Instant),
    Events(u64),
}

/// What several processes together had of the processors.
pub(super) fn usage(pids: &[u32]) -> Result<Usage, CliError> {
    pids.iter().try_fold(Usage::default(), |total, &pid| {
        Ok(total + proc::usage(pid).map_err(unreadable(pid))?)
    })
}

/// Reads what the server's processes and the generator have of the processors while something is
/// measured.
pub(super) struct Meter {
    pids: Vec<u32>,
    before: Usage,
    own_before: Usage,
    start: Instant,
}

/// What a meter has read.
#[derive(Debug)]
pub(super) struct Spent {
    pub(super) elapsed: Duration,
    /// Processor time of the server's processes, if they are known.
    pub(super) cpu_ns: Option<u64>,
    /// That of the generator.
    pub(super) own_cpu_ns: u64,
    /// The share of the time that the server or the generator, whichever had more, waited for a
    /// processor.
    pub(super) contention: f64,
}

impl Meter {
    /// Begins.
    pub(super) fn start(pids: Vec<u32>) -> Result<Self, CliError> {
        let own_before = usage(&[std::process::id()])?;
        let before = usage(&pids)?;
        Ok(Self { pids, before, own_before, start: Instant::now() })
    }

    /// Ends.
    pub(super) fn stop(self) -> Result<Spent, CliError> {
        let elapsed = self.start.elapsed();
        let used = usage(&self.pids)?.since(self.before);
        let own = usage(&[std::process::id()])?.since(self.own_before);
        Ok(Spent {
            elapsed,
            cpu_ns: (!self.pids.is_empty()).then_some(used.cpu_ns),
            own_cpu_ns: own.cpu_ns,
            contention: used.waiting_ns.max(own.waiting_ns) as f64 / elapsed.as_nanos() as f64,
        })
    }
}

/// A quantile of times in nanoseconds, in microseconds.
pub(super) fn quantile_us(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}

/// For the times that something takes.
pub(super) fn histogram() -> Histogram<u64> {
    // 1 µs to 60 s with three digits: the widest that any client of a broken server waits here.
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are constant and valid")
}
