//! When a node looks for the others by another server, because it may be its own that is cut off.

use crate::wheel::{Now, SECOND_NS};

/// The shortest time between two attempts, within which it is known whether the other server is
/// better.
const PAUSE_MIN_NS: u64 = 10 * SECOND_NS;
/// The longest, after attempts in vain: each may cost a few events.
const PAUSE_MAX_NS: u64 = 32 * PAUSE_MIN_NS;
/// How long JetStream may be silent before it is the server's fault, as long as no node is missed:
/// longer than elections, which take 5 to 9 s.
const SILENCE_MAX_NS: u64 = 12 * SECOND_NS;

/// The course of a search.
#[derive(Default)]
pub(super) struct ServerSearch {
    is_wanted: bool,
    /// Since when JetStream is silent.
    silent_since_ns: Option<u64>,
    next_ns: u64,
    /// The pause after the next attempt.
    pause_ns: u64,
}

impl ServerSearch {
    /// Notes whether this node is alone, whether it misses others, and whether JetStream is silent.
    pub(super) fn look(&mut self, is_alone: bool, misses: bool, is_silent: bool, now: Now) {
        let since_ns = *self.silent_since_ns.get_or_insert(now.monotonic_ns);
        if !is_silent {
            self.silent_since_ns = None;
        }
        // Either this node's server is cut off from all others, or that of some nodes is, and it is
        // the side of these on which JetStream does not work.
        let is_long = now.monotonic_ns >= since_ns + SILENCE_MAX_NS;
        let is_wanted = is_alone || (is_silent && (misses || is_long));
        self.is_wanted = is_wanted;
        // None was in vain for long.
        if !is_wanted && now.monotonic_ns >= self.next_ns {
            self.pause_ns = 0;
        }
    }

    /// Whether it is time for an attempt, once.
    pub(super) fn is_due(&mut self, now: Now) -> bool {
        if !self.is_wanted || now.monotonic_ns < self.next_ns {
            return false;
        }
        self.is_wanted = false;
        self.pause_ns = (2 * self.pause_ns).clamp(PAUSE_MIN_NS, PAUSE_MAX_NS);
        self.next_ns = now.monotonic_ns + self.pause_ns;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    /// The seconds of the attempts, where a look is taken each second: alone, missing others, silent.
    fn attempts(search: &mut ServerSearch, seconds: Range<u64>, look: [bool; 3]) -> Vec<u64> {
        let at = |second| Now { monotonic_ns: second * SECOND_NS, unix_ms: 0 };
        let [is_alone, misses, is_silent] = look;
        let due = seconds.filter(|second| {
            search.look(is_alone, misses, is_silent, at(*second));
            search.is_due(at(*second))
        });
        due.collect()
    }

    #[test]
    fn attempts_in_vain_become_rare_and_the_next_fault_is_a_new_one() {
        let mut search = ServerSearch::default();
        let (alone, well) = ([true, false, false], [false; 3]);
        assert_eq!(attempts(&mut search, 10..90, alone), [10, 20, 40, 80]);
        assert_eq!(attempts(&mut search, 90..100, well), [0u64; 0]);
        assert_eq!(attempts(&mut search, 100..1_500, alone), [160, 320, 640, 960, 1_280]);
        assert_eq!(attempts(&mut search, 1_500..1_700, well), [0u64; 0]);
        assert_eq!(attempts(&mut search, 1_700..1_715, alone), [1_700, 1_710]);
    }

    #[test]
    fn a_silent_jetstream_is_the_servers_fault_where_nodes_are_missed_or_it_lasts() {
        let mut search = ServerSearch::default();
        let (missing, silent) = ([false, true, false], [false, false, true]);
        assert_eq!(attempts(&mut search, 10..20, missing), [0u64; 0]);
        assert_eq!(attempts(&mut search, 20..21, [false, true, true]), [20]);
        assert_eq!(attempts(&mut search, 50..57, silent), [50], "since 20");
        assert_eq!(attempts(&mut search, 57..58, [false; 3]), [0u64; 0]);
        assert_eq!(attempts(&mut search, 80..95, silent), [92]);
    }
}
