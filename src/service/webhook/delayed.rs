//! Leaves that are not told yet, because whoever has left may come back within the delay.

use super::question::WebhookName;
use ahash::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LeavePair {
    Channel,
    Member,
}

/// Which half of a pair an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaveHalf {
    Arrival,
    Leave,
}

impl WebhookName {
    /// The pair that the event belongs to, if it belongs to one.
    pub(super) fn half(self) -> Option<(LeavePair, LeaveHalf)> {
        match self {
            Self::ChannelOccupied => Some((LeavePair::Channel, LeaveHalf::Arrival)),
            Self::ChannelVacated => Some((LeavePair::Channel, LeaveHalf::Leave)),
            Self::MemberAdded => Some((LeavePair::Member, LeaveHalf::Arrival)),
            Self::MemberRemoved => Some((LeavePair::Member, LeaveHalf::Leave)),
            Self::ClientEvent | Self::CacheMiss | Self::SubscriptionCount => None,
        }
    }
}

type LeaveSubject = (LeavePair, Arc<str>);

/// The moment until which a leave waits, and a number that keeps those of one moment in order.
type LeavePlace = (u64, u64);

/// See the module. Leaves are found by their subject and by their moment; of one subject there is one at most.
#[derive(Default)]
pub(super) struct Delayed {
    leaves: BTreeMap<LeavePlace, (LeaveSubject, Option<Arc<str>>)>,
    by_subject: HashMap<LeaveSubject, LeavePlace, RandomState>,
    last_number: u64,
    bytes: usize,
    /// Those that are to be told.
    told: usize,
}

impl Delayed {
    /// Holds a leave back until a moment. It has no JSON where it is not to be told, and only its return is not to
    /// be told either.
    pub(super) fn hold(
        &mut self,
        pair: LeavePair,
        subject: &Arc<str>,
        json: Option<Arc<str>>,
        until_ns: u64,
    ) {
        let subject = (pair, Arc::clone(subject));
        if self.by_subject.contains_key(&subject) {
            return;
        }
        self.last_number += 1;
        let place = (until_ns, self.last_number);
        self.bytes += bytes(&subject, json.as_ref());
        self.told += usize::from(json.is_some());
        self.by_subject.insert(subject.clone(), place);
        self.leaves.insert(place, (subject, json));
    }

    /// Forgets the leave of a subject that has come back. Returns whether there was one.
    pub(super) fn cancel(&mut self, pair: LeavePair, subject: &Arc<str>) -> bool {
        let Some(place) = self.by_subject.remove(&(pair, Arc::clone(subject))) else {
            return false;
        };
        if let Some((subject, json)) = self.leaves.remove(&place) {
            self.gone(&subject, json.as_ref());
        }
        true
    }

    /// The next leave whose moment has come, with that moment.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<(u64, Option<Arc<str>>)> {
        let until_ns = self.due_at_ns().filter(|until_ns| *until_ns <= now_ns)?;
        self.pop_first().map(|json| (until_ns, json))
    }

    /// The leave that would be told first.
    pub(super) fn pop_first(&mut self) -> Option<Option<Arc<str>>> {
        let (_, (subject, json)) = self.leaves.pop_first()?;
        self.by_subject.remove(&subject);
        self.gone(&subject, json.as_ref());
        Some(json)
    }

    fn gone(&mut self, subject: &LeaveSubject, json: Option<&Arc<str>>) {
        self.bytes -= bytes(subject, json);
        self.told -= usize::from(json.is_some());
    }

    pub(super) fn due_at_ns(&self) -> Option<u64> {
        self.leaves.first_key_value().map(|((until_ns, _), _)| *until_ns)
    }

    pub(super) fn len(&self) -> usize {
        self.leaves.len()
    }

    /// How many of them are to be told.
    pub(super) fn told(&self) -> usize {
        self.told
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes(subject: &LeaveSubject, json: Option<&Arc<str>>) -> usize {
    subject.1.len() + json.map_or(0, |json| json.len())
}
