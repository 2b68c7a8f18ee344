//! Log lines that outsiders can cause: a few of each kind, then a count.
//!
//! A publisher that is refused a thousand times a second is one fact for an operator, not a
//! thousand lines. Each kind of line ([`LogLine`]) may be written [`LINES_MAX`] times in
//! [`WINDOW_S`] seconds. Suppressed lines are counted, and the next line of their kind ends with
//! "(and 412 more like it)"; when none follows, [`settle`] logs the count by itself. Every
//! occurrence is counted in `fanfare_log_events_total`, written or not.
//!
//! The state is global to the process, as the log is, so that ten shards write no more than one.

use crate::wheel::{Now, SECOND_NS};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Seconds in which lines of one kind are limited; the kernel's own limit (printk_ratelimit) is 10
/// lines in 5 s.
pub const WINDOW_S: u64 = 10;
/// Lines of one kind in a window: enough to show whether several clients fail alike.
pub const LINES_MAX: u32 = 5;

/// Limits lines of one kind.
#[derive(Debug)]
pub struct Throttle {
    lines_max: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    ends_ns: u64,
    lines: u32,
    kept_back: u64,
}

impl Throttle {
    /// A throttle that admits `lines_max` lines in a window.
    #[must_use]
    pub const fn new(lines_max: u32) -> Self {
        Self { lines_max, window: Mutex::new(Window { ends_ns: 0, lines: 0, kept_back: 0 }) }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // Three numbers are consistent after any panic, and the log goes on.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an occurrence. Returns the end of its line, or `None` to suppress the line.
    pub fn admit(&self, now: Now) -> Option<More> {
        let mut window = self.window();

        // A window begins with its first line, not on a grid: no burst straddles two.
        if now.monotonic_ns >= window.ends_ns {
            window.ends_ns = now.monotonic_ns + WINDOW_S * SECOND_NS;
            window.lines = 0;
        }

        if window.lines >= self.lines_max {
            window.kept_back += 1;
            return None;
        }
        window.lines += 1;
        Some(More(std::mem::take(&mut window.kept_back)))
    }

    /// Returns the number of suppressed lines once, after a window that no further line has
    /// reported them in.
    pub fn settle(&self, now: Now) -> Option<u64> {
        let mut window = self.window();
        if window.kept_back == 0 || now.monotonic_ns < window.ends_ns {
            return None;
        }
        Some(std::mem::take(&mut window.kept_back))
    }
}

/// The number of lines suppressed before this one; displayed as the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct More(pub u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " (and {more} more like it)"),
        }
    }
}

/// Makes the kinds of lines from the list below: the label of the metric, and the words for a count
/// of them.
macro_rules! lines {
    ($($(#[doc = $doc:literal])+ $variant:ident: $name:literal, $words:literal;)+) => {
        /// A kind of log line that outsiders can cause.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum LogLine { $($(#[doc = $doc])+ $variant,)+ }

        impl LogLine {
            /// Every kind, in the order of the metric's labels.
            pub const ALL: &'static [LogLine] = &[$(LogLine::$variant,)+];

            /// The label that the metric uses.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(LogLine::$variant => $name,)+ }
            }

            /// The plural that a count of suppressed lines is logged with.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(LogLine::$variant => $words,)+ }
            }
        }
    };
}

lines! {
    /// A publisher of the unix feed was refused.
    PublisherRefused: "publisher_refused", "publishers that were refused";
    /// A publisher could not be accepted for want of descriptors or memory.
    PublisherNotAccepted: "publisher_not_accepted", "publishers that could not be accepted";
    /// The headers of a trusted proxy name two clients.
    ProxyContradicted: "proxy_contradicted",
        "requests whose X-Forwarded-For and Forwarded contradict each other";
    /// A message from RabbitMQ is no event.
    AmqpRejected: "amqp_rejected", "messages from RabbitMQ that are no events";
    /// A message from Redis is no event.
    RedisRejected: "redis_rejected", "messages from Redis that are no events";
    /// Messages from Redis found no room.
    RedisDropped: "redis_dropped", "messages from Redis that found no room";
    /// Redis does not pass on what clients say.
    RelayRefused: "relay_refused", "messages of clients that Redis does not pass on";
    /// No server of the cluster can be reached.
    ClusterUnreachable: "cluster_unreachable", "failures to reach NATS";
    /// Events of other nodes did not arrive.
    ClusterGap: "cluster_gap", "times that events of other nodes did not arrive";
    /// Events of other nodes found no room.
    ClusterDropped: "cluster_dropped", "packets of other nodes that found no room";
    /// An event is too long for other nodes.
    ClusterTooLong: "cluster_too_long", "events that are too long for other nodes";
    /// The journal of a partition has no room for webhooks.
    ClusterWebhooksLost: "cluster_webhooks_lost", "times that webhooks found no room in a journal";
    /// A message of the cluster cannot be read.
    ClusterIgnored: "cluster_ignored", "messages of the cluster that cannot be read";
}

static THROTTLES: [Throttle; LogLine::ALL.len()] =
    [const { Throttle::new(LINES_MAX) }; LogLine::ALL.len()];
static COUNTS: [AtomicU64; LogLine::ALL.len()] = [const { AtomicU64::new(0) }; LogLine::ALL.len()];

impl LogLine {
    /// Counts an occurrence. Returns the end of its line, or `None` to suppress the line. Prefer
    /// [`LogLine::warn`], which writes it too.
    #[must_use]
    pub fn admit(self, now: Now) -> Option<More> {
        // Suppressed lines count too: the metric is where an operator sees the real rate.
        COUNTS[self as usize].fetch_add(1, Relaxed);
        THROTTLES[self as usize].admit(now)
    }

    /// Counts an occurrence, and logs it as a warning unless its kind is throttled.
    pub fn warn(self, now: Now, text: impl FnOnce() -> String) {
        if let Some(more) = self.admit(now) {
            tracing::warn!("{}{more}", text());
        }
    }

    /// Occurrences since the process started.
    #[must_use]
    pub fn count(self) -> u64 {
        COUNTS[self as usize].load(Relaxed)
    }
}

/// Logs the suppressed lines of windows that are over. Call about once per window.
pub fn settle(now: Now) {
    for line in LogLine::ALL {
        if let Some(more) = THROTTLES[*line as usize].settle(now) {
            tracing::warn!("and {more} more like it: {}", line.words());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Now {
        Now { monotonic_ns: second * 1_000_000_000, unix_ms: 0 }
    }

    #[test]
    fn a_few_lines_are_written_in_a_window_and_the_next_tells_how_many_were_not() {
        let throttle = Throttle::new(2);
        let admitted: Vec<_> = (0..5).map(|_| throttle.admit(at(1))).collect();
        assert_eq!(admitted, [Some(More(0)), Some(More(0)), None, None, None]);
        assert_eq!(throttle.admit(at(WINDOW_S)), None, "the window began with its first line");
        assert_eq!(throttle.admit(at(1 + WINDOW_S)), Some(More(4)));
        assert_eq!(throttle.admit(at(1 + WINDOW_S)), Some(More(0)));
        assert_eq!(throttle.admit(at(1 + WINDOW_S)), None);
    }

    #[test]
    fn what_no_line_tells_is_told_once_when_the_window_is_over() {
        let throttle = Throttle::new(1);
        assert_eq!(throttle.settle(at(1)), None);
        for _ in 0..413 {
            throttle.admit(at(1));
        }
        assert_eq!(throttle.settle(at(WINDOW_S)), None);
        assert_eq!(throttle.settle(at(1 + WINDOW_S)), Some(412));
        assert_eq!(throttle.settle(at(60)), None);
        assert_eq!(throttle.admit(at(60)), Some(More(0)));
    }

    #[test]
    fn a_line_says_what_was_kept_back_only_when_something_was() {
        assert_eq!(More(0).to_string(), "");
        assert_eq!(More(412).to_string(), " (and 412 more like it)");
    }

    #[test]
    fn every_occurrence_is_counted() {
        let before = LogLine::RelayRefused.count();
        for _ in 0..20 {
            let _ = LogLine::RelayRefused.admit(at(1));
        }
        assert_eq!(LogLine::RelayRefused.count() - before, 20);
    }
}
