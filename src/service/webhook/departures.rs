//! Departures, held back for a few seconds: of a client that reconnects within them, neither the
//! departure nor the return is sent. Retries are in `hook` and `callbacks`.

use super::question::{WebhookName, WebhookReceipt};
use ahash::RandomState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The kind of subject that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum DeparturePair {
    /// A channel, of which the last subscriber has left.
    Channel,
    /// A member of a presence channel.
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

pub(super) type DepartureSubject = (DeparturePair, Arc<str>);

/// The moment until which a departure is held, and a number that orders those of one moment.
type DeparturePlace = (u64, u64);

/// A departure that is held back.
pub(super) struct Departure {
    /// `None` when the recipient does not want departures: it is held all the same, to suppress the
    /// return.
    pub(super) json: Option<Arc<str>>,
    pub(super) receipt: Option<WebhookReceipt>,
}

/// The departures held back, found by subject and by moment; at most one for each subject.
#[derive(Default)]
pub(super) struct Departures {
    departures: BTreeMap<DeparturePlace, (DepartureSubject, Departure)>,
    by_subject: HashMap<DepartureSubject, DeparturePlace, RandomState>,
    last_number: u64,
    bytes: usize,
    /// Departures that will be sent.
    wanted: usize,
}

impl Departures {
    /// Holds a departure until a moment. Returns whether it is held: there is at most one of each
    /// subject.
    pub(super) fn hold(
        &mut self,
        pair: DeparturePair,
        subject: &Arc<str>,
        departure: Departure,
        until_ns: u64,
    ) -> bool {
        let subject = (pair, Arc::clone(subject));
        if self.by_subject.contains_key(&subject) {
            return false;
        }
        self.last_number += 1;
        let place = (until_ns, self.last_number);
        self.bytes += bytes(&subject, &departure);
        self.wanted += usize::from(departure.json.is_some());
        self.by_subject.insert(subject.clone(), place);
        self.departures.insert(place, (subject, departure));
        true
    }

    /// Takes the departure of a subject that has returned, if there is one.
    pub(super) fn cancel(&mut self, pair: DeparturePair, subject: &Arc<str>) -> Option<Departure> {
        let place = self.by_subject.get(&(pair, Arc::clone(subject)))?;
        self.take(*place)
    }

    /// The next departure whose delay is over, with the end of that delay.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<(u64, Departure)> {
        let until_ns = self.due_at_ns().filter(|until_ns| *until_ns <= now_ns)?;
        self.pop_first().map(|departure| (until_ns, departure))
    }

    /// The earliest departure, due or not.
    pub(super) fn pop_first(&mut self) -> Option<Departure> {
        let (place, _) = self.departures.first_key_value()?;
        self.take(*place)
    }

    /// Takes all that `choose` chooses, the earliest first.
    pub(super) fn drain(&mut self, choose: impl Fn(&Departure) -> bool) -> Vec<Departure> {
        let chosen = self.departures.iter().filter(|(_, (_, departure))| choose(departure));
        let places: Vec<_> = chosen.map(|(place, _)| *place).collect();
        places.into_iter().filter_map(|place| self.take(place)).collect()
    }

    fn take(&mut self, place: DeparturePlace) -> Option<Departure> {
        let (subject, departure) = self.departures.remove(&place)?;
        self.by_subject.remove(&subject);
        self.bytes -= bytes(&subject, &departure);
        self.wanted -= usize::from(departure.json.is_some());
        Some(departure)
    }

    /// All of them, with the ends of their delays, the earliest first.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &DepartureSubject, &Departure)> {
        let all = self.departures.iter();
        all.map(|((until_ns, _), (subject, departure))| (*until_ns, subject, departure))
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

    /// Number of departures that will be sent and that a journal knows.
    pub(super) fn journaled(&self) -> usize {
        let departures = self.departures.values().map(|(_, departure)| departure);
        departures.filter(|held| held.json.is_some() && held.receipt.is_some()).count()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes(subject: &DepartureSubject, departure: &Departure) -> usize {
    subject.1.len() + departure.json.as_ref().map_or(0, |json| json.len())
}
