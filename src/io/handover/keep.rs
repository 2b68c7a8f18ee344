//! The old process of a restart: what it leaves to one that starts only when this one has gone.
//!
//! No one answers, so the words that the other way of a hand-over says in turn lie in the channel one
//! behind the other: the listeners, the state, and the last, without which they count for nothing.
//! The service manager keeps the other end, and with it all descriptors that lie in it.

use super::channel::HandoverChannel;
use super::error::HandoverError;
use super::old::pass_listeners;
use super::order::HandoverOrder;
use super::word::OldWord;
use crate::io::Daemon;
use crate::io::stopping::{PART_PAUSE, STOP_PAUSE, StopTimes};
use std::time::Instant;

/// What was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// The number of connections that are to go on.
    pub kept: usize,
    /// The number of connections that are told to come back.
    pub told: usize,
}

impl Daemon {
    /// Leaves everything in a channel, for the process that reads its other end. Clients who can go
    /// on in no other process are told to come back before that, as in a stop, while all others are
    /// served. This process has to be stopped then.
    ///
    /// # Errors
    /// Why this process goes on as if nothing had been, but for those clients; the channel is of no
    /// use then.
    pub fn leave_in(
        &self,
        channel: &HandoverChannel,
        times: StopTimes,
    ) -> Result<LeftBehind, HandoverError> {
        self.has_few_shards()?;
        let listeners = self.passed_listeners(false)?;
        pass_listeners(channel, &listeners)?;
        let dismissed = self.dismiss_bound(times)?;
        let frozen = self.freeze()?;
        let (kept, told) = (frozen.sessions(), frozen.told + dismissed);

        let said = frozen.say(channel).and_then(|()| channel.say(&OldWord::Go { told }, &[]));
        if let Err(error) = said {
            drop(frozen);
            self.resume();
            return Err(error.into());
        }
        self.release(frozen, &vec![Vec::new(); self.threads.len()]);
        Ok(LeftBehind { kept, told })
    }

    /// Accepts no one more, and tells those to go who can go on in no other process, part by part.
    /// Waits for them for half of the time of a stop at most. Returns how many there were.
    fn dismiss_bound(&self, times: StopTimes) -> Result<usize, HandoverError> {
        let start = Instant::now();
        let bound: usize = self.ask(|_, reply| HandoverOrder::Bound(reply))?.iter().sum();
        let wait_max = times.drain / 2;
        let parts = times.spread.min(wait_max / 2).as_millis() / PART_PAUSE.as_millis();
        // At least one, and no more than clients.
        let parts = parts.clamp(1, bound.max(1) as u128) as u32;
        let mut part = 0;
        let mut left = bound;
        while left > 0 && start.elapsed() < wait_max {
            if part < parts && start.elapsed() >= PART_PAUSE * part {
                let dismissal = |reply| HandoverOrder::Dismiss { part, parts, reply };
                left = self.ask(|_, reply| dismissal(reply))?.iter().sum();
                part += 1;
            } else {
                std::thread::sleep(STOP_PAUSE);
                // With all parts told, it only counts.
                let counting = |reply| HandoverOrder::Dismiss { part: parts, parts, reply };
                left = self.ask(|_, reply| counting(reply))?.iter().sum();
            }
        }
        Ok(bound)
    }
}
