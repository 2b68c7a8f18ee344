//! What is known of every message, while daemons are killed: what was sent, what its producer was told, what came to
//! which subscription and was acknowledged there. Whatever contradicts a promise panics at once.

use crate::client::place;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

/// Where a message stands: ledger and entry.
pub(crate) type Place = (u64, u64);

/// How old an acknowledgement of a consumer has to be to outlast a kill: the promised second, and what a busy machine
/// may take to carry it.
pub(crate) const ACK_AGE: Duration = Duration::from_millis(2000);

/// All that is known. Every payload is sent under one name, once; the producer that repeats itself says so by its
/// sequence numbers.
#[derive(Default)]
pub(crate) struct Account {
    sent: HashSet<String>,
    ids: HashMap<Place, String>,
    places: HashMap<String, Place>,
    /// What producers were told is stored and the log was not yet seen to have.
    unseen: BTreeSet<String>,
    log: Vec<(Place, String)>,
    logged: HashSet<String>,
    subscriptions: BTreeMap<&'static str, Subscription>,
}

#[derive(Default)]
struct Subscription {
    delivered: HashSet<Place>,
    in_this_life: HashSet<Place>,
    acknowledged: HashMap<Place, Instant>,
    /// What was acknowledged so long before a kill that this has to hold.
    settled: HashMap<Place, Duration>,
}

impl Account {
    /// A producer is about to send it.
    pub(crate) fn sends(&mut self, payload: &str) {
        self.sent.insert(payload.to_owned());
    }

    /// A producer was told that it is stored there.
    #[track_caller]
    pub(crate) fn stored(&mut self, id: &str, payload: &str) {
        self.is_at(place(id), payload);
        self.stored_somewhere(payload);
    }

    /// A producer that repeats itself was told that it is stored: now, or before and unanswered then.
    pub(crate) fn stored_somewhere(&mut self, payload: &str) {
        if !self.logged.contains(payload) {
            self.unseen.insert(payload.to_owned());
        }
    }

    /// A message came to a subscription.
    #[track_caller]
    pub(crate) fn delivered(&mut self, subscription: &'static str, id: &str, payload: &str) {
        let place = place(id);
        self.is_at(place, payload);
        let subscription = self.subscriptions.entry(subscription).or_default();
        assert!(subscription.in_this_life.insert(place), "{payload} came twice without a reason");
        assert!(
            !subscription.settled.contains_key(&place),
            "{payload} came again, which had been acknowledged {:?} before a kill",
            subscription.settled[&place]
        );
        subscription.delivered.insert(place);
    }

    /// A consumer has acknowledged it.
    pub(crate) fn acknowledged(&mut self, subscription: &'static str, id: &str) {
        let subscription = self.subscriptions.entry(subscription).or_default();
        subscription.acknowledged.insert(place(id), Instant::now());
    }

    /// The daemon was killed at this time; what was acknowledged so long before has to hold.
    pub(crate) fn killed(&mut self, at: Instant, age_min: Duration) {
        for subscription in self.subscriptions.values_mut() {
            subscription.in_this_life.clear();
            let acknowledged = std::mem::take(&mut subscription.acknowledged);
            let ages = acknowledged
                .into_iter()
                .map(|(place, then)| (place, at.saturating_duration_since(then)));
            subscription.settled.extend(ages.filter(|(_, age)| *age >= age_min));
        }
    }

    /// The log has this next.
    #[track_caller]
    pub(crate) fn logged(&mut self, id: &str, payload: &str) {
        let place = place(id);
        self.is_at(place, payload);
        let last = self.log.last().map(|last| last.0);
        assert!(last < Some(place), "{payload} at {place:?} comes after {last:?}");
        self.unseen.remove(payload);
        self.log.push((place, payload.to_owned()));
        self.logged.insert(payload.to_owned());
    }

    /// How many messages producers were told of that the log has not shown.
    pub(crate) fn unseen(&self) -> usize {
        self.unseen.len()
    }

    /// The whole log so far.
    pub(crate) fn log(&self) -> &[(Place, String)] {
        &self.log
    }

    /// How many different messages came to a subscription.
    pub(crate) fn count_of(&self, subscription: &str) -> usize {
        self.subscriptions.get(subscription).map_or(0, |one| one.delivered.len())
    }

    /// How many acknowledgements are known to outlast what has happened.
    pub(crate) fn settled(&self) -> usize {
        self.subscriptions.values().map(|one| one.settled.len()).sum()
    }

    /// The message was sent, stands there and nowhere else, and nothing else ever stood there.
    #[track_caller]
    fn is_at(&mut self, place: Place, payload: &str) {
        assert!(self.sent.contains(payload), "{payload} at {place:?} was never sent");
        let there = self.ids.entry(place).or_insert_with(|| payload.to_owned());
        assert_eq!(there, payload, "two messages at {place:?}");
        let stands = *self.places.entry(payload.to_owned()).or_insert(place);
        assert_eq!(stands, place, "{payload} stands at two places");
    }
}
