//! The stop of a daemon: no more connections, then the end of the feeds, then a goodbye to every
//! session, spread over time so that the clients do not come back as one crowd.

use super::Daemon;
use super::clock;
use super::handoff::Parcel;
use super::handoff::inbox::Wake as _;
use super::otlp::LastExport;
use super::publisher::FEEDS_STOP_MAX;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Interval between checks of what a stop waits for.
pub(super) const STOP_PAUSE: Duration = Duration::from_millis(5);
/// Interval between the goodbyes to two parts of the sessions: short enough for clients to come
/// back evenly, and for a few clients not to notice that there are parts.
pub(super) const PART_PAUSE: Duration = Duration::from_millis(100);

/// Time for the answers to operators after a hand-over; what they watch goes on without an end.
const ADMIN_END_MAX: Duration = Duration::from_secs(1);

/// Time for the last clients of a process that has left the others to the next: these wait for its
/// end.
const LEFT_CLIENTS_MAX: Duration = Duration::from_millis(100);

/// What a stop may take.
#[derive(Clone, Copy, Debug)]
pub struct StopTimes {
    /// Time for the whole of it; connections that are left then are cut.
    pub drain: Duration,
    /// Time over which sessions are told to go; half of what is left of `drain` at most.
    pub spread: Duration,
}

impl Daemon {
    /// Stops the daemon: accepts nothing more, delivers fed events for at most half of the time,
    /// then closes the sessions part by part and waits for the clients until the time is over.
    /// Returns whether all of them were gone in time.
    pub fn stop(self, times: StopTimes) -> bool {
        self.end(times, times.drain, ADMIN_END_MAX)
    }

    /// Stops a daemon that has left everything to a process which waits for its end. Returns whether
    /// nothing was cut off.
    pub fn stop_left(self, drain: Duration) -> bool {
        let times = StopTimes { drain, spread: Duration::ZERO };
        self.end(times, LEFT_CLIENTS_MAX, Duration::ZERO)
    }

    /// Stops the daemon, with so much time for clients and for operators after a hand-over.
    fn end(mut self, times: StopTimes, clients_max: Duration, admin_max: Duration) -> bool {
        let StopTimes { drain, spread } = times;
        let clients_max = clients_max.min(drain);
        let start = Instant::now();
        self.hub.draining.store(true, Relaxed);
        // After a hand-over they are the next process's.
        let has_sockets = !self.hub.has_handed_over();
        if let Some(path) = self.socket.as_ref().filter(|_| has_sockets) {
            let _ = std::fs::remove_file(path);
        }

        // Woken by hand: in a mailbox, the word to stop would wait behind deliveries.
        self.hub.mailboxes.iter().for_each(|mailbox| mailbox.waker().wake());
        self.hub.bridge.drain();
        if let Some(cluster) = &self.hub.cluster {
            cluster.drain();
        }
        std::thread::sleep(STOP_PAUSE);
        while self.has_feeds() && start.elapsed() < FEEDS_STOP_MAX.min(clients_max / 2) {
            std::thread::sleep(STOP_PAUSE);
        }

        // Behind everything that was fed.
        self.say_goodbye(start, clients_max, spread);
        self.hub.post_to_all(|| Parcel::Close);
        while start.elapsed() < clients_max && !self.has_ended() {
            self.pause(start, clients_max);
        }

        let hung = self.hub.pulses.hung(clock::now());
        for (thread, _) in hung.iter().filter(|(thread, _)| thread.starts_with("shard-")) {
            tracing::warn!("the stop does not wait for the thread {thread}, which hangs");
        }

        // Whatever else is waited for, no session ends any more.
        let exported = self.last_export.take().map(LastExport::begin);
        // Until now other nodes were told what the last sessions did.
        if let Some(cluster) = &self.hub.cluster {
            cluster.stop(drain.saturating_sub(start.elapsed()));
        }
        // Ends of sessions cause webhooks; the store comes last, when no session asks it any more.
        self.hub.bridge.stop(drain.saturating_sub(start.elapsed()));
        self.hub.store.stop(drain.saturating_sub(start.elapsed()));
        // One of them is the request for the hand-over itself.
        while self.hub.has_handed_over()
            && self.admin.is_some()
            && !self.hub.admin_ended.load(Relaxed)
            && start.elapsed() < drain.min(admin_max)
        {
            std::thread::sleep(STOP_PAUSE);
        }
        if let Some(exported) = exported {
            exported.wait(clients_max.saturating_sub(start.elapsed()));
        }
        // Last, because operators ask until the end.
        if let Some(path) = self.admin_socket.as_ref().filter(|_| has_sockets) {
            let _ = std::fs::remove_file(path);
        }
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Whether another process has everything.
    #[must_use]
    pub fn has_handed_over(&self) -> bool {
        self.hub.has_handed_over()
    }

    /// Tells sessions to go, a part of them at a time, until all were told or none is left.
    fn say_goodbye(&self, start: Instant, drain: Duration, spread: Duration) {
        // The other half is for the clients' answers.
        let spread = spread.min(drain.saturating_sub(start.elapsed()) / 2);
        // No more parts than clients: a few of them are no crowd.
        let clients = self.hub.connections.load(Relaxed);
        let parts = ((spread.as_millis() / PART_PAUSE.as_millis()) as u32).min(clients as u32);

        let begun = Instant::now();
        for part in 0..parts {
            self.hub.post_to_all(|| Parcel::Farewell(part, parts));
            while begun.elapsed() < PART_PAUSE * (part + 1) && !self.is_deserted() {
                self.pause(start, drain);
            }
        }
    }

    /// Waits a little, and has shards hurry in the second half of the time.
    fn pause(&self, start: Instant, drain: Duration) {
        self.hub.hurrying.store(start.elapsed() > drain / 2, Relaxed);
        std::thread::sleep(STOP_PAUSE);
    }

    /// Whether no client is connected.
    fn is_deserted(&self) -> bool {
        self.hub.connections.load(Relaxed) == 0
    }

    /// Whether all shards have ended, but for those that hang: no client of theirs can be waited
    /// for.
    fn has_ended(&self) -> bool {
        let mut shards = self.threads.iter().zip(&self.hub.pulses.shards);
        shards.all(|(thread, pulse)| thread.is_finished() || pulse.hangs())
    }

    /// Whether a publisher or broker is still connected.
    fn has_feeds(&self) -> bool {
        self.hub.metrics.iter().any(|metrics| {
            let brokers = metrics.amqp.connected.get() + metrics.redis.connected.get();
            metrics.publishers.get() + brokers > 0
        })
    }
}
