//! The last turn of each serving thread, and the threads that hang.

use super::clock;
use crate::wheel::Now;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Longest turn of a thread that does not hang. Turns are bounded and take milliseconds, and idle
/// threads turn every [`BEAT`], idle shards every [`IDLE_BEAT`]; no load takes this long.
pub(super) const TURN_MAX: Duration = Duration::from_secs(5);
/// Longest wait of a thread, other than an idle shard, before it turns without an event.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// Longest wait of an idle shard: each wake-up costs, and 64 shards have many. Less than half of
/// [`TURN_MAX`], so that a machine under load raises no false alarm.
pub(super) const IDLE_BEAT: Duration = Duration::from_secs(2);

/// The last turn of one thread. Each has a cache line of its own, because it is written in every
/// turn.
#[repr(align(64))]
#[derive(Default)]
pub(super) struct Pulse {
    /// Nanoseconds of the monotonic clock; 0 while there is no thread.
    turned_ns: AtomicU64,
    /// Whether the watchdog has found it hanging.
    hangs: AtomicBool,
}

impl Pulse {
    /// Notes a turn.
    pub(super) fn beat(&self, now: Now) {
        self.turned_ns.store(now.monotonic_ns, Relaxed);
    }

    /// Notes the end of the thread.
    pub(super) fn end(&self) {
        self.turned_ns.store(0, Relaxed);
    }

    /// The time since the last turn.
    fn silence(&self, now: Now) -> Duration {
        match self.turned_ns.load(Relaxed) {
            // A bridge or store that is not configured never hangs.
            0 => Duration::ZERO,
            turned_ns => Duration::from_nanos(now.monotonic_ns.saturating_sub(turned_ns)),
        }
    }
}

/// Beats a pulse for as long as the tokio runtime turns that awaits this.
pub(super) async fn beat<T>(owner: Arc<T>, pulse: fn(&T) -> &Pulse) {
    loop {
        pulse(&owner).beat(clock::now());
        tokio::time::sleep(BEAT).await;
    }
}

/// The pulses of all threads.
pub(super) struct Pulses {
    pub(super) shards: Box<[Pulse]>,
    pub(super) bridge: Pulse,
    /// Of each owner of topics.
    pub(super) store: Box<[Pulse]>,
    pub(super) admin: Pulse,
    pub(super) cluster: Pulse,
    /// The watchdog's own, by which readiness knows of it.
    pub(super) watchdog: Pulse,
}

impl Pulses {
    pub(super) fn new(shards: usize, owners: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Pulse::default()).collect(),
            bridge: Pulse::default(),
            store: (0..owners).map(|_| Pulse::default()).collect(),
            admin: Pulse::default(),
            cluster: Pulse::default(),
            watchdog: Pulse::default(),
        }
    }

    /// All pulses but the watchdog's, with the names of their threads.
    fn named(&self) -> impl Iterator<Item = (String, &Pulse)> {
        let shards = self
            .shards
            .iter()
            .enumerate()
            .map(|(number, pulse)| (format!("shard-{number}"), pulse));
        let owners = self
            .store
            .iter()
            .enumerate()
            .map(|(index, pulse)| (owner_thread("store", index), pulse));
        let others = [("bridge", &self.bridge), ("admin", &self.admin), ("cluster", &self.cluster)];
        shards.chain(owners).chain(others.into_iter().map(|(name, pulse)| (name.to_owned(), pulse)))
    }

    /// The threads that hang, each with the seconds since its last turn.
    pub(super) fn hung(&self, now: Now) -> Vec<(String, u64)> {
        let found = self.named().filter(|(_, pulse)| pulse.hangs.load(Relaxed));
        let mut hung: Vec<_> =
            found.map(|(name, pulse)| (name, pulse.silence(now).as_secs())).collect();

        // The watchdog cannot find itself hanging. It looks every half second, so twice the time is
        // no false alarm.
        let silence = self.watchdog.silence(now);
        if silence > 2 * TURN_MAX {
            hung.push(("watchdog".into(), silence.as_secs()));
        }
        hung
    }

    /// Whether no thread hangs.
    pub(super) fn all_turn(&self) -> bool {
        self.named().all(|(_, pulse)| !pulse.hangs.load(Relaxed))
    }

    /// Looks at all threads. Returns the news: that a thread hangs, or turns again.
    pub(super) fn look(&self, now: Now) -> Vec<PulseNews> {
        let mut news = Vec::new();
        for (name, pulse) in self.named() {
            let silence = pulse.silence(now);
            let hangs = silence > TURN_MAX;
            // News only of a change, or the log would fill while a thread hangs.
            if pulse.hangs.swap(hangs, Relaxed) != hangs {
                news.push(PulseNews { name, hangs, silence_s: silence.as_secs() });
            }
        }
        self.watchdog.beat(now);
        news
    }
}

/// A thread that has begun to hang, or turns again.
pub(super) struct PulseNews {
    name: String,
    hangs: bool,
    silence_s: u64,
}

impl PulseNews {
    pub(super) fn tell(&self) {
        let Self { name, silence_s, .. } = self;
        if self.hangs {
            tracing::error!(
                "the thread {name} hangs: it has not turned for {silence_s} s; until it does, \
                 /healthz and /readyz answer 503 and the service manager's watchdog gets no ping"
            );
        } else {
            tracing::warn!("the thread {name} turns again");
        }
    }
}

/// The name of a thread of the owner of topics with this index.
pub(super) fn owner_thread(what: &str, owner: usize) -> String {
    if owner == 0 { what.into() } else { format!("{what}-{owner}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { monotonic_ns: seconds * 1_000_000_000, unix_ms: 0 }
    }

    #[test]
    fn a_thread_hangs_when_it_has_not_turned_for_seconds_and_until_it_turns() {
        let pulses = Pulses::new(2, 1);
        let news = |now| {
            let news = pulses.look(at(now));
            news.into_iter().map(|news| (news.name, news.hangs)).collect::<Vec<_>>()
        };
        pulses.shards.iter().for_each(|pulse| pulse.beat(at(100)));
        pulses.store[0].beat(at(100));
        assert_eq!(news(104), []);
        pulses.shards[0].beat(at(104));
        assert_eq!(news(106), [("shard-1".into(), true), ("store".into(), true)]);
        assert_eq!(news(107), []);
        assert_eq!(pulses.hung(at(107)), [("shard-1".into(), 7), ("store".into(), 7)]);
        pulses.shards[0].beat(at(108));
        pulses.shards[1].beat(at(108));
        pulses.store[0].end();
        assert_eq!(news(108), [("shard-1".into(), false), ("store".into(), false)]);
        assert_eq!(pulses.hung(at(109)), []);
    }

    #[test]
    fn a_watchdog_that_hangs_is_told_too_and_a_thread_that_never_ran_is_not() {
        let pulses = Pulses::new(1, 1);
        assert!(pulses.look(at(1000)).is_empty());
        assert_eq!(pulses.hung(at(1009)), []);
        assert_eq!(pulses.hung(at(1011)), [("watchdog".into(), 11)]);
    }
}
