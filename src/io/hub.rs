//! What all threads see: the mailboxes, the other ends of the bridge and the store, and the daemon's state.

use super::bridge::Bridge;
use super::clients::Addresses;
use super::clock;
use super::facts::Configured;
use super::gaps::Gaps;
use super::handoff::{Mailbox, Parcel};
use super::store::Store;
use super::watchdog::Pulses;
use crate::api::DaemonStatus;
use crate::dialect::{Kind, Settings};
use crate::feed::unix;
use crate::frame::Publication;
use crate::metrics::Metrics;
use crate::service::ConnectionRef;
use crate::service::presence::Note;
use crate::shard::Outgoing;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What all threads see.
pub(super) struct Hub {
    pub(super) mailboxes: Arc<[Mailbox]>,
    /// Held while publications are handed out.
    order: Mutex<()>,
    pub(super) bridge: Bridge,
    pub(super) store: Store,
    /// The unix feed's own settings, which it looks up for new publishers and after a reload.
    pub(super) feed: Mutex<Arc<unix::UnixFeedSettings>>,
    /// The dialects' settings for the feeds. Shards have their own copy of the pointer, which they look at more often.
    pub(super) settings: Mutex<Arc<Settings>>,
    /// One set per shard, the bridge's, one per owner of topics, and the admin listener's.
    pub(super) metrics: Vec<Arc<Metrics>>,
    pub(super) connections: Arc<AtomicUsize>,
    /// Publishers of the unix feed on all shards.
    pub(super) publishers: AtomicUsize,
    pub(super) addresses: Arc<Addresses>,
    pub(super) ready: AtomicBool,
    /// Take no more connections and publishers.
    pub(super) draining: AtomicBool,
    /// Deliver no more: the time of a stop runs out.
    pub(super) hurrying: AtomicBool,
    /// What some dialects lack.
    pub(super) gaps: Gaps,
    /// When each thread has last turned.
    pub(super) pulses: Pulses,
    /// The dialects that some listener speaks.
    pub(super) spoken: Vec<Kind>,
    /// What was configured, and when.
    pub(super) configured: Configured,
    /// When the daemon started (unix, ms).
    pub(super) started_ms: u64,
}

impl Hub {
    pub(super) fn new(
        shards: usize,
        owners: usize,
        spoken: &[Kind],
        settings: &Arc<Settings>,
    ) -> io::Result<Self> {
        let store = Store::new(owners);
        let owners = store.owners();
        Ok(Self {
            mailboxes: (0..shards).map(|_| Mailbox::new()).collect::<io::Result<_>>()?,
            order: Mutex::default(),
            bridge: Bridge::default(),
            store,
            settings: Mutex::new(Arc::clone(settings)),
            feed: Mutex::default(),
            metrics: (0..shards + owners + 2).map(|_| Arc::default()).collect(),
            connections: Arc::default(),
            publishers: AtomicUsize::new(0),
            addresses: Arc::default(),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            hurrying: AtomicBool::new(false),
            gaps: Gaps::default(),
            pulses: Pulses::new(shards, owners),
            spoken: spoken.to_vec(),
            configured: Configured::default(),
            started_ms: clock::now().unix_ms,
        })
    }

    /// The dialects' settings, as the last reload has left them.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether every shard takes more publications.
    pub(super) fn all_have_room(&self) -> bool {
        self.mailboxes.iter().all(Mailbox::has_room)
    }

    /// Hands publications to every shard, waking all but the one that calls. Whoever calls at the same time waits
    /// for the other's, so that readers on any shards see what two have published in the same order.
    pub(super) fn broadcast(&self, publications: Vec<Publication>, caller: Option<usize>) {
        let publications: Vec<Arc<Publication>> = publications.into_iter().map(Arc::new).collect();
        if publications.is_empty() {
            return;
        }
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let parcels = || publications.iter().map(|publication| Parcel::Publication(Arc::clone(publication)));
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            if Some(number) == caller {
                mailbox.post_quietly(parcels());
            } else {
                mailbox.post(parcels());
            }
        }
    }

    /// Hands on what a shard has for the shards, in order, waking all but that one.
    pub(super) fn route(&self, outgoing: Vec<Outgoing>, caller: usize) {
        if outgoing.is_empty() {
            return;
        }
        let mut parcels: Vec<Vec<Parcel>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        for outgoing in outgoing {
            match outgoing {
                Outgoing::Publication(publication) => {
                    let publication = Arc::new(publication);
                    let all = parcels.iter_mut();
                    all.for_each(|parcels| parcels.push(Parcel::Publication(Arc::clone(&publication))));
                }
                Outgoing::Reply(connection, reply) => {
                    parcels[usize::from(connection.shard)].push(Parcel::Reply(connection, reply));
                }
            }
        }
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, parcels) in parcels.into_iter().enumerate().filter(|(_, parcels)| !parcels.is_empty()) {
            self.post(number, parcels, caller);
        }
    }

    /// Takes notes to the owners of the presence: an app's are all on one shard, told by its id.
    pub(super) fn note(&self, notes: Vec<(ConnectionRef, Arc<str>, Note)>, caller: usize) {
        for (connection, app, note) in notes {
            let owner = crate::service::presence::owner(&app, self.mailboxes.len());
            self.post(owner, vec![Parcel::Note(connection, app, note)], caller);
        }
    }

    fn post(&self, number: usize, parcels: Vec<Parcel>, caller: usize) {
        let mailbox = &self.mailboxes[number];
        if number == caller {
            mailbox.post_quietly(parcels.into_iter());
        } else {
            mailbox.post(parcels.into_iter());
        }
    }

    pub(super) fn status(&self) -> DaemonStatus {
        DaemonStatus {
            shards: self.metrics.clone(),
            mailboxes: self.mailboxes.iter().map(|mailbox| mailbox.depth() as u64).collect(),
            ready: self.ready.load(Relaxed),
            draining: self.draining.load(Relaxed),
            hung: self.pulses.hung(clock::now()),
            gaps: self.gaps.all(),
            spoken: self.spoken.clone(),
        }
    }
}
