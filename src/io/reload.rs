//! A reload: new settings, limits and certificates for all shards, and listeners opened, changed
//! and closed.
//!
//! Whatever can fail is tried first, so a refused reload has changed nothing. Connections stay,
//! even those of a closed listener.

use super::bridge::{self, Feeds};
use super::handoff::{Change, Parcel};
use super::listen::{Acceptor, Listener};
use super::slot::Slot;
use super::{Daemon, Hub, Listen, certificates, listen};
use crate::dialect::{Kind, Settings};
use crate::feed::unix;
use crate::shard::Limits;
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

/// Listeners over a daemon's life, closed ones included: a connection stores its listener in one
/// byte.
const SLOTS_MAX: usize = 256;

/// The parts of a configuration that a reload applies.
pub struct Renewal {
    /// The dialects' settings, verifiers included.
    pub settings: Arc<Settings>,
    /// The limits of the whole daemon.
    pub limits: Limits,
    /// The listeners.
    pub listen: Vec<Listen>,
    /// The unix feed; a new path waits for the next start.
    pub feed: unix::UnixFeedSettings,
}

/// Why a reload was refused.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// An address cannot be bound.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// A port would have to be released before it is bound.
    #[error("{0} has the port of {1}, which only a restart releases in time")]
    Overlap(SocketAddr, SocketAddr),
    /// There were too many listeners.
    #[error("more than {SLOTS_MAX} listeners since the start: restart the daemon")]
    Slots,
    /// Anything else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The changes of listeners, and new sockets for each shard.
#[derive(Default)]
struct Changes {
    /// By slot.
    slots: Vec<(usize, SlotChange)>,
    /// Keys and listeners that wait for a restart.
    left: Vec<String>,
}

/// The change of a slot.
enum SlotChange {
    Open(Slot, Vec<(OwnedFd, Acceptor)>, Listen),
    Serve(Arc<[Kind]>, Listen),
    Close,
}

impl Daemon {
    /// Applies a configuration; connections stay. Returns what waits for a restart all the same:
    /// keys, or a description.
    ///
    /// # Errors
    /// When an address cannot be bound or a remote verifier not be asked from here; then nothing
    /// has changed.
    pub fn renew(&mut self, renewal: Renewal) -> Result<Vec<String>, RenewError> {
        let Renewal { settings, limits, listen, feed } = renewal;
        let ends = certificates(&listen);
        // Everything fallible comes before the first change that can be seen.
        let Changes { slots, left } = self.changes(listen)?;
        if let Some(path) = &self.socket {
            listen::permit(&feed, path)?;
        }
        // The bridge before the shards: a shard with new settings may ask a verifier at once.
        bridge::configure(&self.hub, &settings, Feeds::default())?;

        let hub = &self.hub;
        let left = [left, self.late_relays(&settings)].concat();

        let before = hub.settings();
        // Counters go on across a reload, although the apps that hold them are made anew.
        Kind::ALL.iter().for_each(|kind| kind.carry_on(&before, &settings));

        *hub.feed.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(feed);
        *hub.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&settings);

        hub.store.configure(&settings);
        hub.configured.taken(limits, ends);
        if let Some(cluster) = &hub.cluster {
            cluster.configure();
        }
        // Each shard gets its part of the limits.
        let limits = limits.of_one_in(self.threads.len());
        hub.post_to_all(|| Parcel::Configure(Arc::clone(&settings), limits));
        self.apply(slots);
        Ok(left)
    }

    /// The keys that relay clients' messages to other daemons from this reload on, and cannot
    /// before the next start.
    fn late_relays(&self, settings: &Settings) -> Vec<String> {
        // The bridge has a publishing connection already.
        if self.relays {
            return Vec::new();
        }
        let before = self.hub.settings();
        let before: Vec<&str> = before.tables().filter_map(|table| table.redis()?.relay).collect();
        let keys = settings.tables().filter_map(|table| table.redis()?.relay);
        let late: Vec<String> =
            keys.filter(|key| !before.contains(key)).map(str::to_owned).collect();

        for key in &late {
            tracing::warn!(
                "{key} = \"redis\" needs a restart: until then clients' messages are not relayed \
                 to other daemons, as fanfare_relays_total counts"
            );
        }
        late
    }

    /// The changes of the listeners. New ones listen already, but no shard accepts from them yet.
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
            // By the configured address: port 0 is the same listener after a reload, not another
            // port.
            match open.iter().position(|slot| self.slots[*slot].asked == listen.address) {
                Some(place) => {
                    let slot = open.remove(place);
                    changes.slots.push((slot, SlotChange::Serve(kinds, listen)));
                }
                // A listener without a dialect that can be spoken would only refuse.
                None if kinds.is_empty() => {}
                None => fresh.push_back((kinds, listen)),
            }
        }

        // The open ones left over are no longer configured.
        changes.slots.extend(open.into_iter().map(|slot| (slot, SlotChange::Close)));

        let mut next = self.slots.len();
        // After all others, so that an error leaves no socket behind that a shard has to close.
        while let Some((kinds, listen)) = fresh.pop_front() {
            if next == SLOTS_MAX {
                return Err(RenewError::Slots);
            }
            let sockets = self.listen_anew(listen.address)?;
            let first = sockets.first().map(|(socket, _)| listen::local_address(socket));
            let actual = first.transpose()?.unwrap_or(listen.address);
            let slot = Slot::new(listen.address, actual, kinds);
            changes.slots.push((next, SlotChange::Open(slot, sockets, listen)));
            next += 1;
        }
        Ok(changes)
    }

    /// The dialects of a listener that this daemon can speak, and the names of the others: feeds
    /// and the store were started without them.
    fn spoken_of(&self, listen: &Listen) -> (Arc<[Kind]>, Vec<&'static str>) {
        let (spoken, absent): (Vec<Kind>, Vec<Kind>) =
            listen.kinds.iter().copied().partition(|kind| self.hub.spoken.contains(kind));
        (spoken.into(), absent.iter().map(|kind| kind.name()).collect())
    }

    /// Binds a new listener's sockets, one for each shard.
    fn listen_anew(&self, address: SocketAddr) -> Result<Vec<(OwnedFd, Acceptor)>, RenewError> {
        // 0.0.0.0 and an address of its own cannot be bound to one port at once, and the shards
        // close the old sockets only after the new ones are open.
        let is_wide = |address: SocketAddr| address.ip().is_unspecified();
        let holder = self.slots.iter().find(|slot| {
            slot.is_open
                && slot.actual.port() == address.port()
                && address.port() != 0
                && (is_wide(slot.actual) || is_wide(address))
        });
        if let Some(slot) = holder {
            return Err(RenewError::Overlap(address, slot.actual));
        }
        Ok(self.inherited.tcp(address, self.threads.len())?)
    }

    /// Posts the changes to the shards, and records them for the next reload.
    fn apply(&mut self, changes: Vec<(usize, SlotChange)>) {
        let mut parcels: Vec<Vec<Parcel>> = self.threads.iter().map(|_| Vec::new()).collect();
        for (number, change) in changes {
            match change {
                SlotChange::Open(slot, sockets, listen) => {
                    let kinds = &slot.kinds;
                    for (parcels, (socket, acceptor)) in parcels.iter_mut().zip(sockets) {
                        let (kinds, tls) = (Arc::clone(kinds), listen.tls.clone());
                        let proxied = listen.proxied;
                        let listener = Listener { socket, kinds, tls, proxied, acceptor };
                        parcels.push(Parcel::Listener(number, Change::Open(listener)));
                    }
                    self.slots.push(slot);
                }
                SlotChange::Serve(kinds, listen) => {
                    for parcels in &mut parcels {
                        let (kinds, tls) = (Arc::clone(&kinds), listen.tls.clone());
                        let change = Change::Serve { kinds, tls, proxied: listen.proxied };
                        parcels.push(Parcel::Listener(number, change));
                    }
                    self.slots[number].kinds = kinds;
                }
                SlotChange::Close => {
                    parcels
                        .iter_mut()
                        .for_each(|parcels| parcels.push(Parcel::Listener(number, Change::Close)));
                    self.slots[number].is_open = false;
                    self.note_kept(self.slots[number].asked);
                }
            }
        }

        // One post for each shard, so that it never serves half of a reload. The first shards come
        // last: they may accept for others, which have to know the listener by then.
        for (shard, parcels) in parcels.into_iter().enumerate().rev() {
            self.hub.post(shard, parcels);
        }
    }

    /// Warns that clients of a closed listener are not refused.
    fn note_kept(&self, address: SocketAddr) {
        if self.inherited.has(address) {
            tracing::warn!(
                "the service manager still listens on {address}, where clients wait in vain now: \
                 take it out of the socket unit too"
            );
        }
    }

    /// The addresses of the listeners, with the ports that were chosen for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.slots.iter().filter(|slot| slot.is_open).map(|slot| slot.actual).collect()
    }

    /// Records for the metrics that a configuration was refused.
    pub fn refuse_configuration(&self) {
        self.hub.configured.refused();
    }
}

impl Hub {
    /// The settings of the unix feed, as of the last reload.
    pub(super) fn feed(&self) -> Arc<unix::UnixFeedSettings> {
        Arc::clone(&self.feed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
