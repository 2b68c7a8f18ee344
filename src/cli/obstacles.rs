//! What a start would meet, found by doing what a start does, up to listening.

use super::user::User;
use crate::io::foundation;
use crate::io::listen::SocketKey;
use crate::io::rehearsal::{self, Occupancy};
use crate::io::runtime::Driver;
use crate::io::store::StoreSettings;
use crate::io::{Plan, StartError};
use std::net::SocketAddr;

/// What a start would meet.
#[derive(Default)]
pub(super) struct Obstacles {
    /// What keeps a daemon from running, each with what to do.
    pub(super) problems: Vec<String>,
    /// What does not, or not always.
    pub(super) notes: Vec<String>,
}

impl Obstacles {
    /// Everything that a start of this user would meet.
    pub(super) fn of(plan: &Plan, user: &User) -> Self {
        let mut all = Self::default();
        all.ports(plan);
        all.sockets(plan, user);
        all.store(plan);
        all.driver(plan);
        all
    }

    /// Addresses that are taken, or cannot be listened on.
    fn ports(&mut self, plan: &Plan) {
        let addresses = addresses(plan);
        for address in &addresses {
            match rehearsal::tcp(*address) {
                Ok(Occupancy::Free | Occupancy::ByOwn) => {}
                Ok(Occupancy::ByAnother) => self.notes.push(format!(
                    "{address} is taken, by another program, by a daemon of another user, or by \
                     systemd for fanfare.socket (who has it: ss -ltnp)"
                )),
                Err(error) => self.problems.push(error.to_string()),
            }
        }
        self.problems.extend(overlap(&addresses));
    }

    /// Paths at which no socket can be made.
    pub(super) fn sockets(&mut self, plan: &Plan, user: &User) {
        if let Some(path) = plan.admin.as_ref().and_then(|admin| admin.socket.as_deref())
            && let Err(error) = rehearsal::unix_path(SocketKey::Admin, path)
        {
            self.problems.push(error.to_string());
        }

        let Some(path) = plan.feed.path.as_deref() else { return };
        match rehearsal::unix(&plan.feed, path) {
            Err(error) => self.problems.push(error.to_string()),
            Ok((_, Some(group))) if !user.may_give_to(group) => {
                let name = plan.feed.group.as_deref().unwrap_or_default();
                self.problems.push(format!(
                    "feed.unix.group: {user} is no member of the group \"{name}\", and so cannot \
                     give the socket to it: make it one (usermod -aG), or leave the key out"
                ));
            }
            Ok(_) => {}
        }
    }

    /// Directories of the durable topics that cannot be written.
    pub(super) fn store(&mut self, plan: &Plan) {
        let Some(store) = store_of(plan) else { return };
        for (key, path) in [("store.path", &store.path), ("store.backup_path", &store.backup_path)]
        {
            if let Some(Err(error)) = path.as_deref().map(rehearsal::writable) {
                self.problems.push(format!(
                    "{key}: {error}; it has to be a directory that the daemon's user can write, \
                     or can make"
                ));
            }
        }
        // One that is named is a problem above; one beside the store is only a note, as a daemon
        // runs without.
        if store.backup_path.is_some() {
            return;
        }
        let writable = match store.backups() {
            Some(path) => rehearsal::writable(&path).map_err(|error| error.to_string()),
            None => Err("there is no place beside the store".to_owned()),
        };
        if let Err(cannot) = writable {
            self.notes.push(format!(
                "`fanfare topics backup` will fail: {cannot}; name a directory for backups as \
                 store.backup_path"
            ));
        }
    }

    /// A driver that cannot be had.
    fn driver(&mut self, plan: &Plan) {
        // Only where io_uring is demanded is there no other way.
        if plan.driver == Driver::IoUring
            && let Err(error) = foundation::try_io_uring(plan.shards)
        {
            self.problems.push(StartError::Runtime(error).to_string());
        }
    }
}

/// The addresses that a daemon listens on.
pub(super) fn addresses(plan: &Plan) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = plan.listen.iter().map(|listen| listen.address).collect();
    addresses.extend(plan.admin.as_ref().map(|admin| admin.address));
    addresses
}

/// Two addresses that exclude each other, each of which alone could be listened on.
pub(super) fn overlap(addresses: &[SocketAddr]) -> Option<String> {
    let (first, second) = rehearsal::overlapping(addresses)?;
    Some(format!(
        "{first} and {second} overlap: one is every address of this machine; keep one, or give \
         them different ports"
    ))
}

/// The store of the durable topics, if a listener speaks a dialect that has them.
pub(super) fn store_of(plan: &Plan) -> Option<&StoreSettings> {
    let has_topics =
        plan.listen.iter().flat_map(|listen| &listen.kinds).any(|kind| kind.has_topics());
    plan.store.as_ref().filter(|_| has_topics)
}
