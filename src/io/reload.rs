//! A reload: new settings, limits and certificates for everybody, and listeners that come, change and go.
//!
//! What can fail is tried first, so that a reload that is refused has changed nothing. Connections stay whatever becomes
//! of their listener.

use super::bridge::{self, Feeds};
use super::handoff::{Change, Parcel};
use super::listen::Listener;
use super::slot::Slot;
use super::{Daemon, Hub, Listen, certificates, listen};
use crate::dialect::table::DialectTable;
use crate::dialect::{Kind, Settings};
use crate::feed::unix;
use crate::shard::Limits;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

/// Listeners over a daemon's life, those that are gone included: a connection remembers its own in one byte.
const SLOTS_MAX: usize = 256;

/// What a reload brings.
pub struct Renewal {
    /// The dialects' settings, verifiers included.
    pub settings: Arc<Settings>,
    /// The bounds of the whole daemon.
    pub limits: Limits,
    /// The listeners.
    pub listen: Vec<Listen>,
    /// The unix feed; another path waits for the next start.
    pub feed: unix::UnixFeedSettings,
}

/// Why a reload was refused.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// An address cannot be had.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// A port would have to be given back before it is taken.
    #[error("{0} has the port of {1}, which only a restart gives back in time")]
    Overlap(SocketAddr, SocketAddr),
    /// There were too many of them.
    #[error("more than {SLOTS_MAX} listeners since the start: only a restart makes room")]
    Slots,
    /// Anything else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The changes of listeners, and new sockets for each shard.
#[derive(Default)]
struct Changes {
    /// By slot.
    slots: Vec<(usize, Slotted)>,
    /// What waits for a restart.
    left: Vec<String>,
}

/// What becomes of a slot.
enum Slotted {
    Open(Slot, Vec<rustix::fd::OwnedFd>, Listen),
    Serve(Arc<[Kind]>, Listen),
    Close,
}

impl Daemon {
    /// Takes what a reload brings; connections stay. Returns what waits for a restart all the same: keys, or what else
    /// is to be said of it.
    ///
    /// # Errors
    /// When an address cannot be had or a remote verifier cannot be asked from here; then everything stays as it was.
    pub fn renew(&mut self, renewal: Renewal) -> Result<Vec<String>, RenewError> {
        let Renewal { settings, limits, listen, feed } = renewal;
        let ends = certificates(&listen);
        let Changes { slots, left } = self.changes(listen)?;
        if let Some(path) = &self.socket {
            listen::permit(&feed, path)?;
        }
        bridge::configure(&self.hub, &settings, Feeds::default())?;
        let hub = &self.hub;
        let left = [left, self.late_relays(&settings)].concat();
        let before = hub.settings();
        Kind::ALL.iter().for_each(|kind| kind.carry_on(&before, &settings));
        *hub.feed.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(feed);
        *hub.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&settings);
        hub.store.configure(&settings);
        hub.configured.taken(limits, ends);
        let limits = limits.of_one_in(self.threads.len());
        hub.post_to_all(|| Parcel::Configure(Arc::clone(&settings), limits));
        self.apply(slots);
        Ok(left)
    }

    /// The keys that have clients' messages told to other daemons from now on, which they cannot be before the next start.
    fn late_relays(&self, settings: &Settings) -> Vec<String> {
        if self.relays {
            return Vec::new();
        }
        let before = self.hub.settings();
        let before: Vec<&str> = before.tables().filter_map(DialectTable::relay).collect();
        let keys = settings.tables().filter_map(DialectTable::relay);
        let late: Vec<String> =
            keys.filter(|key| !before.contains(key)).map(str::to_owned).collect();
        for key in &late {
            tracing::warn!(
                "{key} = \"redis\" needs a restart: until then what clients say is lost to other daemons, as \
                 fanfare_relays_total counts"
            );
        }
        late
    }

    /// What becomes of the listeners. Those that are new listen already, and nobody accepts there yet.
    fn changes(&self, listen: Vec<Listen>) -> Result<Changes, RenewError> {
        let mut open: Vec<usize> =
            (0..self.slots.len()).filter(|slot| self.slots[*slot].is_open).collect();
        let mut changes = Changes::default();
        let mut fresh = VecDeque::new();
        for listen in listen {
            let (kinds, absent) = self.spoken_of(&listen);
            if !absent.is_empty() {
                changes.left.push(format!(
                    "{} of the listener {}, as no listener spoke it at the start",
                    absent.join(" and "),
                    listen.address
                ));
            }
            match open.iter().position(|slot| self.slots[*slot].asked == listen.address) {
                Some(place) => {
                    let slot = open.remove(place);
                    changes.slots.push((slot, Slotted::Serve(kinds, listen)));
                }
                None if kinds.is_empty() => {}
                None => fresh.push_back((kinds, listen)),
            }
        }
        changes.slots.extend(open.into_iter().map(|slot| (slot, Slotted::Close)));
        let mut next = self.slots.len();
        while let Some((kinds, listen)) = fresh.pop_front() {
            if next == SLOTS_MAX {
                return Err(RenewError::Slots);
            }
            let sockets = self.listen_anew(listen.address)?;
            let actual =
                sockets.first().map(listen::local_address).transpose()?.unwrap_or(listen.address);
            let slot = Slot::new(listen.address, actual, kinds);
            changes.slots.push((next, Slotted::Open(slot, sockets, listen)));
            next += 1;
        }
        Ok(changes)
    }

    /// The dialects of a listener that this daemon can speak, and the names of those that it cannot: feeds and the store
    /// were started for the others only.
    fn spoken_of(&self, listen: &Listen) -> (Arc<[Kind]>, Vec<&'static str>) {
        let (spoken, absent): (Vec<Kind>, Vec<Kind>) =
            listen.kinds.iter().copied().partition(|kind| self.hub.spoken.contains(kind));
        (spoken.into(), absent.iter().map(|kind| kind.name()).collect())
    }

    fn listen_anew(&self, address: SocketAddr) -> Result<Vec<rustix::fd::OwnedFd>, RenewError> {
        let has_port = |slot: &&Slot| {
            slot.is_open && slot.actual.port() == address.port() && address.port() != 0
        };
        let mut holders = self.slots.iter().filter(has_port);
        let is_wide = |address: SocketAddr| address.ip().is_unspecified();
        if let Some(slot) = holders.find(|slot| is_wide(slot.actual) || is_wide(address)) {
            return Err(RenewError::Overlap(address, slot.actual));
        }
        Ok(listen::tcp(address, self.threads.len())?)
    }

    /// Tells the shards, and takes note for the next time.
    fn apply(&mut self, changes: Vec<(usize, Slotted)>) {
        let mut parcels: Vec<Vec<Parcel>> = self.threads.iter().map(|_| Vec::new()).collect();
        for (number, change) in changes {
            match change {
                Slotted::Open(slot, sockets, listen) => {
                    let kinds = &slot.kinds;
                    for (parcels, socket) in parcels.iter_mut().zip(sockets) {
                        let (kinds, tls) = (Arc::clone(kinds), listen.tls.clone());
                        let listener = Listener { socket, kinds, tls, proxied: listen.proxied };
                        parcels.push(Parcel::Listener(number, Change::Open(listener)));
                    }
                    self.slots.push(slot);
                }
                Slotted::Serve(kinds, listen) => {
                    for parcels in &mut parcels {
                        let (kinds, tls) = (Arc::clone(&kinds), listen.tls.clone());
                        let change = Change::Serve { kinds, tls, proxied: listen.proxied };
                        parcels.push(Parcel::Listener(number, change));
                    }
                    self.slots[number].kinds = kinds;
                }
                Slotted::Close => {
                    parcels
                        .iter_mut()
                        .for_each(|parcels| parcels.push(Parcel::Listener(number, Change::Close)));
                    self.slots[number].is_open = false;
                }
            }
        }
        for (shard, parcels) in parcels.into_iter().enumerate() {
            self.hub.post(shard, parcels);
        }
    }

    /// The addresses that are listened on, with the ports that were chosen for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.slots.iter().filter(|slot| slot.is_open).map(|slot| slot.actual).collect()
    }

    /// Takes note for the metrics that a configuration was refused.
    pub fn refuse_configuration(&self) {
        self.hub.configured.refused();
    }
}

impl Hub {
    /// The settings of the unix feed, as the last reload has left them.
    pub(super) fn feed(&self) -> Arc<unix::UnixFeedSettings> {
        Arc::clone(&self.feed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
