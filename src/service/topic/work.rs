//! Long work: whatever one request would have done for longer than others may wait is done in slices, each between the
//! requests of others, and the works in turns.

use super::backlog::BacklogSurvey;
use super::consumer::ConsumerId;
use super::deletion::{Deleting, Dismantling};
use super::inquiry::{Listing, Looking};
use super::join::Unsubscribing;
use super::opening::{Loading, TopicOpening};
use super::owner::{Timer, TopicOwner};
use super::proxy::Telling;
use super::purge::{Purging, Walk};
use super::rights::Narrowing;
use super::{Archive, Cause, TopicRefusal};
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
pub(super) enum TopicWork {
    /// A consumer or reader is taken into its topics.
    Open(Box<TopicOpening>),
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
    Survey(BacklogSurvey),
}

/// How far a slice has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkProgress {
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

impl<A: Archive> TopicOwner<A> {
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
    pub(super) fn take_on(&mut self, work: TopicWork) -> Result<(), TopicRefusal> {
        if self.works.len() >= WORKS_MAX {
            let reason = "the store has too much to do at once: try again in some seconds";
            return Err(super::owner::refusal(Cause::TooMany, reason));
        }
        self.works.push_back(work);
        Ok(())
    }

    /// A slice of a work. Returns what is left of it.
    fn go_on(&mut self, mut work: TopicWork, slice: &mut Slice) -> Option<TopicWork> {
        let progress = match &mut work {
            TopicWork::Open(opening) => self.go_on_opening(opening, slice),
            TopicWork::Load(loading) => self.go_on_loading(loading, slice),
            TopicWork::Attach => self.go_on_attaching(slice),
            TopicWork::Close(id) => self.go_on_closing(*id, slice),
            TopicWork::Unsubscribe(unsubscribing) => self.go_on_unsubscribing(unsubscribing, slice),
            TopicWork::Narrow(narrowing) => self.go_on_narrowing(narrowing, slice),
            TopicWork::List(listing) => self.go_on_listing(listing, slice),
            TopicWork::Look(looking) => self.go_on_looking(looking, slice),
            TopicWork::Delete(deleting) => self.go_on_deleting(deleting, slice),
            TopicWork::Dismantle(dismantling) => self.go_on_dismantling(dismantling, slice),
            TopicWork::Purge(purging) => self.go_on_purging(purging, slice),
            TopicWork::Expire(walk) => self.go_on_expiring(walk, slice),
            TopicWork::Discard(timers) => self.discard_some(timers),
            TopicWork::Survey(surveying) => self.go_on_surveying(surveying, slice),
            TopicWork::Tell(telling) => match self.go_on_telling(telling, slice) {
                Some(reply) => {
                    self.reply(telling.connection(), reply);
                    WorkProgress::Done
                }
                None => WorkProgress::More,
            },
        };
        (progress == WorkProgress::More).then_some(work)
    }
}
