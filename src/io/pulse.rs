//! The last turn of each serving thread, the threads that hang, and those that are stuck: they have
//! hung for so long that only a restart helps.

use super::clock;
use crate::wheel::Now;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Longest turn of a thread that does not hang. Turns are bounded and take milliseconds, and idle
/// threads turn every [`BEAT`], idle shards every [`IDLE_BEAT`]; no load takes this long.
pub(super) const TURN_MAX: Duration = Duration::from_secs(5);
/// Longest wait of a thread, other than an idle shard, before it turns without an event.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// Longest wait of an idle shard: each wake-up costs, and 64 shards have many. Less than half of
/// [`TURN_MAX`], so that a machine under load raises no false alarm.
pub(super) const IDLE_BEAT: Duration = Duration::from_secs(2);
/// Interval between the watchdog's looks at the threads.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// Silence after which a thread is stuck: what made it hang is not going to end. With [`LOOK`], the
/// service manager's abort and a start on a busy machine it makes less than ten seconds without
/// service.
const STUCK_AFTER: Duration = Duration::from_secs(7);
/// The same of an owner of topics, whose disk may stall: by default Linux repeats a command to a
/// disk after 30 seconds, and a restart would wait for the same disk.
const STORE_STUCK_AFTER: Duration = Duration::from_secs(60);

/// The last turn of one thread. Each has a cache line of its own, because it is written in every
/// turn.
#[repr(align(64))]
pub(super) struct Pulse {
    /// Nanoseconds of the monotonic clock; 0 while there is no thread.
    turned_ns: AtomicU64,
    /// How many looks on end have found it hanging. Counted, because a silence may be the whole
    /// process's (SIGSTOP, a paused virtual machine), and nothing looks meanwhile.
    hanging_looks: AtomicU32,
    /// How many of them make it stuck.
    stuck_looks: u32,
}

impl Pulse {
    /// Of a thread that is stuck after this silence.
    fn new(stuck_after: Duration) -> Self {
        // The first is the one at TURN_MAX.
        let stuck_looks = 1 + (stuck_after - TURN_MAX).as_millis() / LOOK.as_millis();
        Self {
            turned_ns: AtomicU64::new(0),
            hanging_looks: AtomicU32::new(0),
            stuck_looks: stuck_looks as u32,
        }
    }

    /// Notes a turn.
    pub(super) fn beat(&self, now: Now) {
        self.turned_ns.store(now.monotonic_ns, Relaxed);
    }

    /// Notes the end of the thread.
    pub(super) fn end(&self) {
        self.turned_ns.store(0, Relaxed);
    }

    /// Whether the watchdog has found it hanging.
    pub(super) fn hangs(&self) -> bool {
        self.hanging_looks.load(Relaxed) > 0
    }

    /// Whether it has hung for so long that only a restart helps.
    fn is_stuck(&self) -> bool {
        self.hanging_looks.load(Relaxed) >= self.stuck_looks
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
            shards: (0..shards).map(|_| Pulse::new(STUCK_AFTER)).collect(),
            bridge: Pulse::new(STUCK_AFTER),
            store: (0..owners).map(|_| Pulse::new(STORE_STUCK_AFTER)).collect(),
            admin: Pulse::new(STUCK_AFTER),
            cluster: Pulse::new(STUCK_AFTER),
            watchdog: Pulse::new(STUCK_AFTER),
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
        let found = self.named().filter(|(_, pulse)| pulse.hangs());
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

    /// Whether a thread is stuck.
    pub(super) fn any_is_stuck(&self) -> bool {
        self.named().any(|(_, pulse)| pulse.is_stuck())
    }

    /// Looks at all threads. Returns the news.
    pub(super) fn look(&self, now: Now) -> Vec<PulseNews> {
        let mut news = Vec::new();
        for (name, pulse) in self.named() {
            let silence = pulse.silence(now);
            let before = pulse.hanging_looks.load(Relaxed);
            let looks = if silence > TURN_MAX { before.saturating_add(1) } else { 0 };
            pulse.hanging_looks.store(looks, Relaxed);

            // News only of a change, or the log would fill while a thread hangs.
            let change = match (before, looks) {
                (0, 1) => PulseChange::Hangs,
                (1.., 0) => PulseChange::Turns,
                (_, looks) if looks == pulse.stuck_looks => PulseChange::Stuck,
                _ => continue,
            };
            news.push(PulseNews { name, change, silence_s: silence.as_secs() });
        }
        self.watchdog.beat(now);
        news
    }
}

/// A change that a look has found in a thread.
pub(super) struct PulseNews {
    name: String,
    pub(super) change: PulseChange,
    silence_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PulseChange {
    /// It has begun to hang.
    Hangs,
    /// It has hung for so long that only a restart helps.
    Stuck,
    /// It turns again.
    Turns,
}

impl PulseNews {
    pub(super) fn tell(&self) {
        let Self { name, silence_s, .. } = self;
        match self.change {
            PulseChange::Hangs => tracing::error!(
                "the thread {name} hangs: it has not turned for {silence_s} s; until it does, \
                 /healthz and /readyz answer 503"
            ),
            PulseChange::Stuck => tracing::error!(
                "the thread {name} is stuck: it has not turned for {silence_s} s, and only a \
                 restart helps; a service manager that watches the service (WatchdogSec=) is asked \
                 for one"
            ),
            PulseChange::Turns => tracing::warn!("the thread {name} turns again"),
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

    /// What a look at this moment finds.
    fn news(pulses: &Pulses, now: Now) -> Vec<(String, PulseChange)> {
        pulses.look(now).into_iter().map(|news| (news.name, news.change)).collect()
    }

    #[test]
    fn a_thread_hangs_when_it_has_not_turned_for_seconds_and_until_it_turns() {
        let pulses = Pulses::new(2, 1);
        pulses.shards.iter().for_each(|pulse| pulse.beat(at(100)));
        pulses.store[0].beat(at(100));
        assert_eq!(news(&pulses, at(104)), []);
        pulses.shards[0].beat(at(104));
        let hang = [("shard-1".into(), PulseChange::Hangs), ("store".into(), PulseChange::Hangs)];
        assert_eq!(news(&pulses, at(106)), hang);
        assert_eq!(news(&pulses, at(107)), []);
        assert_eq!(pulses.hung(at(107)), [("shard-1".into(), 7), ("store".into(), 7)]);
        pulses.shards[0].beat(at(108));
        pulses.shards[1].beat(at(108));
        pulses.store[0].end();
        let turn = [("shard-1".into(), PulseChange::Turns), ("store".into(), PulseChange::Turns)];
        assert_eq!(news(&pulses, at(108)), turn);
        assert_eq!(pulses.hung(at(109)), []);
    }

    #[test]
    fn a_shard_is_stuck_after_seven_seconds_and_a_store_after_a_minute() {
        let pulses = Pulses::new(1, 1);
        pulses.shards[0].beat(at(100));
        pulses.store[0].beat(at(100));
        let mut stuck = Vec::new();
        for look in 0..150 {
            let now = Now { monotonic_ns: 100_000_000_000 + look * 500_000_000, unix_ms: 0 };
            let news = news(&pulses, now).into_iter();
            let found = news.filter(|(_, change)| *change == PulseChange::Stuck);
            stuck.extend(found.map(|(name, _)| (name, look)));
            assert_eq!(pulses.any_is_stuck(), !stuck.is_empty());
        }
        // At the first look after it, of two in a second.
        assert_eq!(stuck, [("shard-0".into(), 2 * 7 + 1), ("store".into(), 2 * 60 + 1)]);

        // One turn is enough.
        pulses.shards[0].beat(at(175));
        pulses.store[0].beat(at(175));
        assert_eq!(news(&pulses, at(176)).len(), 2);
        assert!(!pulses.any_is_stuck());
    }

    #[test]
    fn no_thread_is_stuck_because_the_process_stood_still() {
        let pulses = Pulses::new(1, 1);
        pulses.shards[0].beat(at(100));
        assert_eq!(news(&pulses, at(1000)), [("shard-0".into(), PulseChange::Hangs)]);
        assert!(!pulses.any_is_stuck());
    }

    #[test]
    fn a_watchdog_that_hangs_is_told_too_and_a_thread_that_never_ran_is_not() {
        let pulses = Pulses::new(1, 1);
        assert!(pulses.look(at(1000)).is_empty());
        assert_eq!(pulses.hung(at(1009)), []);
        assert_eq!(pulses.hung(at(1011)), [("watchdog".into(), 11)]);
    }
}
