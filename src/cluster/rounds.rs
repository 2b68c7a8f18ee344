//! The appends of one owner, in rounds: what was decided while earlier rounds were on their way is
//! one entry.
//!
//! Every append states the sequence that it expects to be the last, predicted from the rounds before
//! it, and names its epoch and its round. An effect (an announcement, an answer) belongs to the
//! newest round at the time and leaves when that round and all before it are stored: no effect shows
//! what is not stored, and all leave in order.
//!
//! After a time-out or refusal the owner looks at the journal. While the epoch is its own, no other
//! node has written what counts: rounds that are found in order are stored, and the rest is sent
//! again. A late copy finds its place taken, or has a round that does not follow and is left out by
//! readers.

use super::boundary::JournalCall;
use super::journal::{self, EntryDraft, JournalRecord};
use super::partition_number::PartitionNumber;
use crate::wheel::{Now, SECOND_NS};
use std::collections::VecDeque;

/// Rounds on their way: more would only make the entries smaller, as each waits for its turn at the
/// same stream.
const IN_FLIGHT_MAX: usize = 4;
/// Records beyond this begin another round: NATS takes messages of a MiB, and advises less.
const ROUND_BYTES_MAX: usize = if cfg!(test) { 300 } else { 128 * 1024 };
/// Estimated bytes of an effect that waits: names, and a place in a queue.
const EFFECT_BYTES: usize = 200;
/// What an owner keeps that is not stored. It gives the partition up when the engine takes nothing
/// for so long: the nodes send their state again to the next owner.
const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A call whose outcome has not come after this is taken for failed; elections of JetStream take 5
/// to 9 s.
pub(super) const OUTCOME_NS: u64 = 15 * SECOND_NS;
/// Time after a failed look before the next.
const LOOK_AGAIN_NS: u64 = SECOND_NS / 4;
/// An owner at rest looks at its epoch this often, so that it knows itself confirmed.
const CONFIRM_NS: u64 = SECOND_NS;
/// An owner is confirmed for this long: less than the silence after which another node takes.
const CONFIRMED_NS: u64 = 3 * SECOND_NS;

/// The appends of one owner, with their effects.
#[derive(Debug)]
pub(super) struct Rounds<E> {
    partition: PartitionNumber,
    epoch: u64,
    /// The sequence of the last round that is known to be stored, with all before it.
    last: u64,
    /// The sequence that the next round will be the next after.
    predicted: u64,
    /// Rounds that are not stored, in order; the first `in_flight` are on their way.
    rounds: VecDeque<Round<E>>,
    in_flight: usize,
    last_round: u64,
    look: Look,
    /// When the latest call that the engine has confirmed was made.
    confirmed_ns: u64,
    /// Bytes of the rounds and their effects, about.
    pending: usize,
}

#[derive(Debug)]
struct Round<E> {
    number: u64,
    entry: EntryDraft,
    /// Whether nothing is to be added, because it has been sent or another follows.
    is_closed: bool,
    /// The latest call that sent it.
    call: u64,
    sent_ns: u64,
    /// The sequence with which it is stored.
    stored: Option<u64>,
    effects: Vec<E>,
}

/// A look at the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Unneeded,
    /// Not before this moment.
    Due(u64),
    /// By this call, made at this moment.
    Made(u64, u64),
}

/// What an outcome means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RoundsOutcome<E> {
    /// Effects leave, each with the sequence of its round.
    Stored(Vec<(u64, E)>),
    /// Another owner has the partition.
    Deposed,
}

impl<E> Rounds<E> {
    /// An owner whose epoch record has the sequence `epoch`, in a journal whose last sequence is
    /// `last`; the take was confirmed at `now`.
    pub(super) fn new(partition: PartitionNumber, epoch: u64, last: u64, now: Now) -> Self {
        Self {
            partition,
            epoch,
            last,
            predicted: last,
            rounds: VecDeque::new(),
            in_flight: 0,
            last_round: 0,
            look: Look::Unneeded,
            confirmed_ns: now.monotonic_ns,
            pending: 0,
        }
    }

    /// The engine has confirmed this owner by a call that was made at this moment.
    pub(super) fn confirmed_at(&mut self, ns: u64) {
        self.confirmed_ns = ns;
    }

    /// The epoch.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Adds a record to the newest round. One that belongs to the record before it is in the same
    /// round, so that either both are stored or none.
    pub(super) fn record(&mut self, record: &JournalRecord, belongs: bool) {
        let has_room = |round: &Round<E>| {
            !round.is_closed && (belongs || round.entry.bytes() < ROUND_BYTES_MAX)
        };
        if !self.rounds.back().is_some_and(has_room) {
            self.next_round();
        }
        let round = self.rounds.back_mut().expect("a round was added if there was none with room");
        let before = round.entry.bytes();
        round.entry.push(record);
        self.pending += round.entry.bytes() - before;
    }

    /// Closes the newest round: the next record begins another.
    pub(super) fn close(&mut self) {
        if let Some(round) = self.rounds.back_mut() {
            round.is_closed = true;
        }
    }

    fn next_round(&mut self) {
        self.last_round += 1;
        self.rounds.push_back(Round {
            number: self.last_round,
            entry: EntryDraft::default(),
            is_closed: false,
            call: 0,
            sent_ns: 0,
            stored: None,
            effects: Vec::new(),
        });
    }

    /// Attaches an effect to the newest round. Returns it if it may leave at once, because all is
    /// stored.
    pub(super) fn effect(&mut self, effect: E) -> Option<E> {
        match self.rounds.back_mut() {
            Some(round) => {
                round.effects.push(effect);
                self.pending += EFFECT_BYTES;
                None
            }
            None => Some(effect),
        }
    }

    /// Whether all is stored.
    pub(super) fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// Whether more waits than an owner may keep.
    pub(super) fn is_overfull(&self) -> bool {
        self.pending > PENDING_BYTES_MAX
    }

    /// Until when no other node can own the partition.
    pub(super) fn confirmed_until_ns(&self) -> u64 {
        self.confirmed_ns + CONFIRMED_NS
    }

    /// Whether the engine has lately confirmed this owner.
    pub(super) fn is_confirmed(&self, now: Now) -> bool {
        now.monotonic_ns <= self.confirmed_until_ns()
    }

    /// The calls that are to be made now. `last_call` numbers calls.
    pub(super) fn calls(&mut self, now: Now, last_call: &mut u64, out: &mut Vec<JournalCall>) {
        self.look_if_silent(now);
        let partition = self.partition.get();
        match self.look {
            Look::Unneeded => {}
            Look::Due(at_ns) if now.monotonic_ns >= at_ns => {
                *last_call += 1;
                self.look = Look::Made(*last_call, now.monotonic_ns);
                let (call, after) = (*last_call, self.last);
                return out.push(JournalCall::Look { partition, call, after });
            }
            // What is stored has to be known first.
            Look::Due(_) | Look::Made(..) => return,
        }

        while self.in_flight < self.rounds.len().min(IN_FLIGHT_MAX) {
            let round = &mut self.rounds[self.in_flight];
            *last_call += 1;
            (round.is_closed, round.call, round.sent_ns) = (true, *last_call, now.monotonic_ns);
            let (call, after) = (*last_call, self.predicted);
            let entry = round.entry.entry(self.epoch, round.number);
            out.push(JournalCall::Append { partition, call, entry, after });
            self.in_flight += 1;
            self.predicted += 1;
        }
    }

    /// Makes a look due when an outcome is overdue, or nothing has confirmed this owner for a while.
    fn look_if_silent(&mut self, now: Now) {
        let now_ns = now.monotonic_ns;
        let is_overdue = match self.look {
            Look::Made(_, at_ns) => now_ns >= at_ns + OUTCOME_NS,
            Look::Due(_) => false,
            Look::Unneeded => match self.rounds.front().filter(|_| self.in_flight > 0) {
                Some(round) => now_ns >= round.sent_ns + OUTCOME_NS,
                None => self.rounds.is_empty() && now_ns >= self.confirmed_ns + CONFIRM_NS,
            },
        };
        if is_overdue {
            self.look = Look::Due(now_ns);
        }
    }

    /// An append is stored. Returns the effects that leave, each with the sequence of its round.
    pub(super) fn stored(&mut self, call: u64, sequence: u64, now: Now) -> Vec<(u64, E)> {
        // A copy that was sent before the last look is found by the next.
        let mut on_their_way = self.rounds.iter_mut().take(self.in_flight);
        if let Some(round) = on_their_way.find(|round| round.call == call) {
            // This process was stopped perhaps, and another node may have the partition and have
            // told all this.
            if now.monotonic_ns > round.sent_ns + CONFIRMED_NS {
                self.failed(call, now);
                return Vec::new();
            }
            round.stored = Some(sequence);
        }
        self.pop_stored()
    }

    /// Removes the rounds that are stored with all before them.
    fn pop_stored(&mut self) -> Vec<(u64, E)> {
        let mut effects = Vec::new();
        while let Some(sequence) = self.rounds.front().and_then(|round| round.stored) {
            let Some(round) = self.rounds.pop_front() else { break };
            self.last = sequence;
            self.in_flight = self.in_flight.saturating_sub(1);
            self.pending -= round.entry.bytes() + round.effects.len() * EFFECT_BYTES;
            self.confirmed_ns = self.confirmed_ns.max(round.sent_ns);
            effects.extend(round.effects.into_iter().map(|effect| (sequence, effect)));
        }
        effects
    }

    /// A call failed or was refused.
    pub(super) fn failed(&mut self, call: u64, now: Now) {
        match self.look {
            Look::Made(look, _) if look == call => {
                self.look = Look::Due(now.monotonic_ns + LOOK_AGAIN_NS);
            }
            Look::Unneeded if self.rounds.iter().take(self.in_flight).any(|r| r.call == call) => {
                self.look = Look::Due(now.monotonic_ns);
            }
            // Of a copy that has been sent again since.
            _ => {}
        }
    }

    /// Makes a look due, because another node claims the partition.
    pub(super) fn doubt(&mut self, now: Now) {
        if self.look == Look::Unneeded {
            self.look = Look::Due(now.monotonic_ns);
        }
    }

    /// A look has found the epoch record at the sequence `epoch`, these entries after the last round
    /// that was known to be stored, and `last` as the last sequence of all.
    pub(super) fn looked(
        &mut self,
        call: u64,
        epoch: Option<u64>,
        entries: &[(u64, Vec<u8>)],
        last: u64,
        now: Now,
    ) -> RoundsOutcome<E> {
        let made_ns = match self.look {
            Look::Made(look, made_ns) if look == call => made_ns,
            _ => return RoundsOutcome::Stored(Vec::new()),
        };
        if epoch != Some(self.epoch) {
            return RoundsOutcome::Deposed;
        }
        // A server that lags behind says nothing about what is stored.
        if last < self.last {
            self.look = Look::Due(now.monotonic_ns + LOOK_AGAIN_NS);
            return RoundsOutcome::Stored(Vec::new());
        }

        self.look = Look::Unneeded;
        self.confirmed_ns = self.confirmed_ns.max(made_ns);
        // A round that is there without the one before it does not count.
        self.rounds.iter_mut().for_each(|round| round.stored = None);
        let mut rounds = self.rounds.iter_mut().peekable();
        for (sequence, entry) in entries {
            let place = journal::place_of(entry);
            let is_next = |round: &&mut Round<E>| place == Some((self.epoch, round.number));
            if let Some(round) = rounds.next_if(is_next) {
                round.stored = Some(*sequence);
            }
        }
        let effects = self.pop_stored();
        (self.in_flight, self.predicted) = (0, last);
        self.last = self.last.max(last);
        RoundsOutcome::Stored(effects)
    }
}
