//! The timers of one shard: a wheel of coarse slots, and the time itself as a value.
//!
//! Every connection is in at most one slot: that of the next moment anything about it may be due.
//! The shard then decides what is due (a ping, a deadline, nothing yet) and schedules the
//! connection again. Moments further away than one turn of the wheel are visited once a turn and
//! put back, which is a few nanoseconds a minute. Moving a visit forward writes the new slot and
//! leaves the old entry behind; a visit finds the entry stale and drops it. A connection costs 5
//! bytes and its share of a Vec.
//!
//! Slots are a quarter of a second, so the pings of a million connections spread over a minute come
//! in 240 small portions instead of 60 large ones.
//!
//! This file has no clock: time is an argument everywhere below `io`.

/// One moment on both clocks. Read once per turn of a shard's loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of the monotonic clock, whose zero is some moment before the daemon started.
    pub monotonic_ns: u64,
    /// Milliseconds since 1970-01-01 UTC: the clock of tokens and of messages to clients.
    pub unix_ms: u64,
}

impl Now {
    /// The moment on the wheel's scale.
    #[must_use]
    pub fn tick(self) -> Tick {
        (self.monotonic_ns / (TICK_MS * 1_000_000)) as Tick
    }

    /// The moment in `seconds` from now on the wheel's scale.
    #[must_use]
    pub fn tick_in(self, seconds: u64) -> Tick {
        self.tick().saturating_add(ticks(seconds))
    }

    /// Nanoseconds until a moment of unix time, which is in milliseconds; 0 when it has passed.
    #[must_use]
    pub fn ns_until(self, unix_ms: u64) -> u64 {
        unix_ms.saturating_sub(self.unix_ms).saturating_mul(1_000_000)
    }
}

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds of a microsecond.
pub const US_NS: u64 = 1000;

/// A moment in units of [`TICK_MS`] of the monotonic clock; 32 bits last 34 years.
pub type Tick = u32;

/// A moment that never comes.
pub const NEVER: Tick = Tick::MAX;

/// The wheel's resolution.
pub const TICK_MS: u64 = 250;

/// Slots of the wheel: 64 s, so a ping a minute needs one visit a minute.
const SLOTS: u32 = 256;

/// Entries kept allocated in an empty slot.
const SLOT_ENTRIES_KEPT: usize = 64;

const NOWHERE: u16 = u16::MAX;

/// Ticks in `seconds`, rounded up.
#[must_use]
pub fn ticks(seconds: u64) -> Tick {
    Tick::try_from(seconds.saturating_mul(1000).div_ceil(TICK_MS)).unwrap_or(NEVER)
}

/// The scheduled visits of a shard's connections.
pub struct Wheel {
    slots: Vec<Vec<u32>>,
    /// The slot of each connection, by its number.
    place: Vec<u16>,
    visited: Tick,
    due: Vec<u32>,
}

impl Wheel {
    /// An empty wheel; the first tick it visits is the one after `now`.
    #[must_use]
    pub fn new(now: Tick) -> Self {
        Self {
            slots: vec![Vec::new(); SLOTS as usize],
            place: Vec::new(),
            visited: now,
            due: Vec::new(),
        }
    }

    /// Schedules a visit of `id` at `at` or earlier: an earlier visit stands, so that putting a
    /// deadline off costs nothing, and no visit is further away than one turn.
    pub fn schedule(&mut self, id: u32, at: Tick) {
        if at == NEVER {
            return self.cancel(id);
        }

        // The slot of `visited` has just been emptied: an entry there would wait for a whole turn.
        let at = at.clamp(self.visited + 1, self.visited + SLOTS - 1);

        let slot = (at % SLOTS) as u16;
        let index = id as usize;
        if self.place.len() <= index {
            self.place.resize(index + 1, NOWHERE);
        }

        let scheduled = self.place[index];
        if scheduled == NOWHERE || self.distance(slot) < self.distance(scheduled) {
            // The entry in the later slot stays behind: finding it would cost a search, and its
            // visit finds it stale.
            self.place[index] = slot;
            self.slots[slot as usize].push(id);
        }
    }

    /// Ticks from the last visit to the next one of `slot`.
    fn distance(&self, slot: u16) -> u32 {
        (u32::from(slot).wrapping_sub(self.visited + 1)) % SLOTS
    }

    /// Cancels the visit of `id`, if one is scheduled.
    pub fn cancel(&mut self, id: u32) {
        if let Some(place) = self.place.get_mut(id as usize) {
            *place = NOWHERE;
        }
    }

    /// Removes and returns the connections that are due by `now`, each once.
    pub fn advance(&mut self, now: Tick) -> &[u32] {
        self.due.clear();
        // After a pause of more than a turn, such as a suspended host, one visit of each slot finds
        // everything.
        let passed = now.saturating_sub(self.visited).min(SLOTS);
        for tick in now - passed + 1..=now {
            let slot = tick % SLOTS;
            let entries = &mut self.slots[slot as usize];
            for id in entries.drain(..) {
                let place = &mut self.place[id as usize];
                // Moved or cancelled since, the entry is stale. Of two entries in this slot the
                // first one clears the place.
                if *place == slot as u16 {
                    *place = NOWHERE;
                    self.due.push(id);
                }
            }

            // Connections that were accepted in one burst share a slot, whose memory is not kept.
            entries.shrink_to(SLOT_ENTRIES_KEPT);
        }
        self.visited = self.visited.max(now);
        &self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_visited_at_its_moment_and_once() {
        let mut wheel = Wheel::new(1000);
        wheel.schedule(7, 1003);
        wheel.schedule(8, 1009);
        wheel.schedule(8, 1005);
        wheel.schedule(8, 1007);
        wheel.schedule(9, 1003);
        wheel.cancel(9);
        assert!(wheel.advance(1002).is_empty());
        assert_eq!(wheel.advance(1003), [7]);
        assert!(wheel.advance(1004).is_empty());
        assert_eq!(wheel.advance(1010), [8]);
        assert!(wheel.advance(5000).is_empty());
    }

    #[test]
    fn a_moment_in_the_past_comes_at_the_next_tick() {
        let mut wheel = Wheel::new(1000);
        wheel.schedule(1, 3);
        assert_eq!(wheel.advance(1001), [1]);
    }

    #[test]
    fn a_moment_beyond_a_turn_is_visited_early_and_never_late() {
        let mut wheel = Wheel::new(0);
        let due = 3 * SLOTS + 5;
        wheel.schedule(1, due);
        let mut visits = Vec::new();
        for tick in 1..=due {
            if !wheel.advance(tick).is_empty() {
                visits.push(tick);
                wheel.schedule(1, due);
            }
        }
        assert_eq!(visits.last(), Some(&due));
        assert!(visits.len() <= 5, "{visits:?}");
    }

    #[test]
    fn a_reused_identity_is_not_visited_for_its_predecessor() {
        let mut wheel = Wheel::new(0);
        wheel.schedule(1, 10);
        wheel.cancel(1);
        wheel.schedule(1, 20);
        assert!(wheel.advance(15).is_empty());
        assert_eq!(wheel.advance(20), [1]);
        wheel.schedule(1, 30);
        wheel.cancel(1);
        wheel.schedule(1, 30);
        assert_eq!(wheel.advance(30), [1], "two entries, one visit");
    }

    #[test]
    fn a_long_pause_visits_everything_once() {
        let mut wheel = Wheel::new(0);
        for id in 0..1000 {
            wheel.schedule(id, 1 + id % 200);
        }
        let mut due = wheel.advance(1_000_000).to_vec();
        due.sort_unstable();
        assert_eq!(due, (0..1000).collect::<Vec<_>>());
    }
}
