//! Departures, held back for a few seconds: of a client that reconnects within them, neither the
//! departure nor the return is sent. Retries are in `hook` and `callbacks`.

use super::question::WebhookName;
use ahash::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The kind of subject that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DeparturePair {
    Channel,
    Member,
}

/// Which half of a pair of events it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PairHalf {
    Arrival,
    Departure,
}

impl WebhookName {
    /// The pair an event belongs to; `None` for a single event.
    pub(super) fn half(self) -> Option<(DeparturePair, PairHalf)> {
        match self {
            Self::ChannelOccupied => Some((DeparturePair::Channel, PairHalf::Arrival)),
            Self::ChannelVacated => Some((DeparturePair::Channel, PairHalf::Departure)),
            Self::MemberAdded => Some((DeparturePair::Member, PairHalf::Arrival)),
            Self::MemberRemoved => Some((DeparturePair::Member, PairHalf::Departure)),
            Self::ClientEvent | Self::CacheMiss | Self::SubscriptionCount => None,
        }
    }
}

type DepartureSubject = (DeparturePair, Arc<str>);

/// The moment until which a departure is held, and a number that orders those of one moment.
type DeparturePlace = (u64, u64);

/// The departures held back, found by subject and by moment; at most one for each subject.
#[derive(Default)]
pub(super) struct Departures {
    departures: BTreeMap<DeparturePlace, (DepartureSubject, Option<Arc<str>>)>,
    by_subject: HashMap<DepartureSubject, DeparturePlace, RandomState>,
    last_number: u64,
    bytes: usize,
    /// Departures that will be sent.
    wanted: usize,
}

impl Departures {
    /// Holds a departure until a moment. `json` is `None` when the recipient does not want
    /// departures: it is held all the same, to suppress the return.
    pub(super) fn hold(
        &mut self,
        pair: DeparturePair,
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
        self.wanted += usize::from(json.is_some());
        self.by_subject.insert(subject.clone(), place);
        self.departures.insert(place, (subject, json));
    }

    /// Cancels the departure of a subject that has returned. Returns whether there was one.
    pub(super) fn cancel(&mut self, pair: DeparturePair, subject: &Arc<str>) -> bool {
        let Some(place) = self.by_subject.remove(&(pair, Arc::clone(subject))) else {
            return false;
        };
        if let Some((subject, json)) = self.departures.remove(&place) {
            self.gone(&subject, json.as_ref());
        }
        true
    }

    /// The next departure whose delay is over, with the end of that delay.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<(u64, Option<Arc<str>>)> {
        let until_ns = self.due_at_ns().filter(|until_ns| *until_ns <= now_ns)?;
        self.pop_first().map(|json| (until_ns, json))
    }

    /// The earliest departure, due or not.
    pub(super) fn pop_first(&mut self) -> Option<Option<Arc<str>>> {
        let (_, (subject, json)) = self.departures.pop_first()?;
        self.by_subject.remove(&subject);
        self.gone(&subject, json.as_ref());
        Some(json)
    }

    fn gone(&mut self, subject: &DepartureSubject, json: Option<&Arc<str>>) {
        self.bytes -= bytes(subject, json);
        self.wanted -= usize::from(json.is_some());
    }

    pub(super) fn due_at_ns(&self) -> Option<u64> {
        self.departures.first_key_value().map(|((until_ns, _), _)| *until_ns)
    }

    pub(super) fn len(&self) -> usize {
        self.departures.len()
    }

    /// Number of departures that will be sent.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes(subject: &DepartureSubject, json: Option<&Arc<str>>) -> usize {
    subject.1.len() + json.map_or(0, |json| json.len())
}
