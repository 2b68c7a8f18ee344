//! Long work: whatever one request would have done for longer than others may wait is done in slices, each between the
//! requests of others, and the works in turns.

use super::backlog::Surveying;
use super::consumer::ConsumerId;
use super::deletion::{Deleting, Dismantling};
use super::inquiry::{Listing, Looking};
use super::join::Unsubscribing;
use super::opening::{Loading, Opening};
use super::proxy::Telling;
use super::purge::{Purging, Walk};
use super::rights::Narrowing;
use super::topics::{Timer, Topics};
use super::{Archive, Cause, Refusal};
use crate::wheel::Now;

/// Steps of a slice. A step is about a microsecond, the reading of a name from the archive's memory; a slice is what
/// everybody else waits for.
const SLICE_STEPS: usize = 256;
/// What it counts as to take a consumer into a topic, or out of one: to find or load the topic, and to write its
/// subscription.
pub(super) const TOPIC_STEPS: usize = 8;
/// Topics that are opened or left at once, as part of a request.
pub(super) const AT_ONCE_MAX: usize = 4;
/// Works that may be under way before more are refused: with so many each has a turn every half second, and a handshake
/// has half a minute.
const WORKS_MAX: usize = 1000;

/// What is under way.
pub(super) enum Work {
    /// A consumer or reader is taken into its topics.
    Open(Box<Opening>),
    /// The partitions of a producer are loaded.
    Load(Box<Loading>),
    /// Consumers of patterns are taken into new topics.
    Attach,
    /// A consumer is over, and leaves its topics.
    Close(ConsumerId),
    /// A consumer deletes its subscription of many topics.
    Unsubscribe(Unsubscribing),
    /// A consumer's topics are held against its new rights.
    Narrow(Narrowing),
    /// Names of topics are told.
    List(Box<Listing>),
    /// A question about many connections is answered.
    Tell(Box<Telling>),
    /// A topic is told with its subscriptions.
    Look(Box<Looking>),
    /// A topic is deleted with its partitions.
    Delete(Box<Deleting>),
    /// A topic that is gone has still connections and subscriptions.
    Dismantle(Box<Dismantling>),
    /// A topic is purged.
    Purge(Box<Purging>),
    /// Subscriptions go that nobody has come for.
    Expire(Walk),
    /// Timers are removed of what is gone.
    Discard(Vec<(u64, Timer)>),
    /// The largest backlogs are looked for.
    Survey(Surveying),
}

/// How far a slice has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to do.
    More,
    /// There is not.
    Done,
}

/// What is left of a slice.
#[derive(Debug)]
pub(super) struct Slice(usize);

impl Slice {
    /// One that does not end, for what is little.
    pub(super) const fn whole() -> Self {
        Self(usize::MAX)
    }

    /// One of so many steps.
    pub(super) const fn of(steps: usize) -> Self {
        Self(steps)
    }

    /// So many steps are done.
    pub(super) fn spend(&mut self, steps: usize) {
        self.0 = self.0.saturating_sub(steps);
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.0 == 0
    }
}

impl<A: Archive> Topics<A> {
    /// Does a slice of the work that is under way. Returns whether there is more.
    pub fn work(&mut self, now: Now) -> bool {
        self.set_time(now);
        let Some(work) = self.works.pop_front() else { return false };
        // What it writes has to be safe only when it is done: a commit for every slice would take longer than the work.
        let is_uncommitted = std::mem::take(&mut self.is_uncommitted);
        let mut slice = Slice(SLICE_STEPS);
        let rest = self.go_on(work, &mut slice);
        self.has_worked |= std::mem::replace(&mut self.is_uncommitted, is_uncommitted);
        match rest {
            Some(rest) => self.works.push_back(rest),
            None => self.is_uncommitted |= std::mem::take(&mut self.has_worked),
        }
        !self.works.is_empty()
    }

    /// Takes a work on, unless there are too many.
    pub(super) fn take_on(&mut self, work: Work) -> Result<(), Refusal> {
        if self.works.len() >= WORKS_MAX {
            let reason = "the store has too much to do at once: try again in some seconds";
            return Err(super::topics::refusal(Cause::TooMany, reason));
        }
        self.works.push_back(work);
        Ok(())
    }

    /// A slice of a work. Returns what is left of it.
    fn go_on(&mut self, mut work: Work, slice: &mut Slice) -> Option<Work> {
        let progress = match &mut work {
            Work::Open(opening) => self.go_on_opening(opening, slice),
            Work::Load(loading) => self.go_on_loading(loading, slice),
            Work::Attach => self.go_on_attaching(slice),
            Work::Close(id) => self.go_on_closing(*id, slice),
            Work::Unsubscribe(unsubscribing) => self.go_on_unsubscribing(unsubscribing, slice),
            Work::Narrow(narrowing) => self.go_on_narrowing(narrowing, slice),
            Work::List(listing) => self.go_on_listing(listing, slice),
            Work::Look(looking) => self.go_on_looking(looking, slice),
            Work::Delete(deleting) => self.go_on_deleting(deleting, slice),
            Work::Dismantle(dismantling) => self.go_on_dismantling(dismantling, slice),
            Work::Purge(purging) => self.go_on_purging(purging, slice),
            Work::Expire(walk) => self.go_on_expiring(walk, slice),
            Work::Discard(timers) => self.discard_some(timers),
            Work::Survey(surveying) => self.go_on_surveying(surveying, slice),
            Work::Tell(telling) => match self.go_on_telling(telling, slice) {
                Some(reply) => {
                    self.reply(telling.connection(), reply);
                    Progress::Done
                }
                None => Progress::More,
            },
        };
        (progress == Progress::More).then_some(work)
    }
}
