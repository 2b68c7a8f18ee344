//! A shard's part in a hand-over, in either process.

use super::Worker;
use crate::handover::{self, FrozenConnection, FrozenSession, HandoverRecord, NotAdopted};
use crate::io::clock;
use crate::io::handoff::inbox::Wake as _;
use crate::io::handover::{FrozenShard, HandoverOrder, ShardQueue, ShardRest};
use crate::service::NewRefs;
use crate::shard::Id;
use rustix::fd::{BorrowedFd, OwnedFd};

impl Worker {
    /// The orders of a hand-over since the last call.
    pub(in crate::io) fn take_orders(&mut self) -> Vec<HandoverOrder> {
        std::mem::take(&mut self.orders)
    }

    /// The listeners that this shard accepts from, by number.
    pub(in crate::io) fn listeners(&self) -> Vec<(usize, std::io::Result<OwnedFd>)> {
        self.sockets.listeners()
    }

    /// Accepts no one more, and finds the connections that can go on in no other process. Returns
    /// their number.
    pub(in crate::io) fn find_bound(&mut self) -> usize {
        self.sockets.accept_no_more(&mut self.shard, clock::now());
        let Self { shard, sockets, routes, .. } = self;
        let has_one_owner = |connection| routes.only_owner(connection).is_some();
        let ids = sockets.ids().into_iter();
        self.bound = ids.filter(|id| sockets.is_bound(*id, shard, has_one_owner)).collect();
        self.bound.len()
    }

    /// Tells a part of those that were found to come back. Returns the number of those that are
    /// still there.
    pub(in crate::io) fn dismiss_bound(&mut self, part: u32, parts: u32) -> usize {
        let Self { shard, sockets, bound, .. } = self;
        bound.retain(|id| sockets.has(*id));
        let meant = bound.iter().copied().filter(|id| id % parts == part);
        shard.dismiss_all(meant, clock::now());
        // This turn is over: the next one sends what they are told.
        self.hub.mailboxes[self.number].waker().wake();
        self.bound.len()
    }

    /// Reads nothing more of clients, and accepts none.
    pub(in crate::io) fn pause(&mut self) {
        self.sockets.pause(&mut self.shard, clock::now());
    }

    /// How far this shard has come to rest.
    pub(in crate::io) fn rest(&mut self, has_answered: bool) -> ShardRest {
        let is_drained = self.sockets.is_quiet()
            && !self.shard.holds_back()
            && !self.has_questions()
            && self.orders.is_empty()
            && self.merge.is_drained(&self.hub.mailboxes[self.number]);
        let is_settled = is_drained && has_answered && self.shard.is_settled();
        ShardRest { is_drained, is_settled, has_answered, read: self.read }
    }

    /// Freezes the connections that can be, and sends their descriptors. Nothing is done to any of
    /// them until it is clear which process goes on.
    pub(in crate::io) fn freeze(&mut self, queue: &mut ShardQueue) -> FrozenShard {
        self.is_frozen = true;
        let Self { shard, sockets, routes, frozen, .. } = self;
        let mut part: Vec<(Id, FrozenConnection, BorrowedFd<'_>)> = Vec::new();
        let mut result = FrozenShard::default();
        for record in shard.freeze_shared() {
            handover::write(&record, &mut result.records);
        }
        let ids = sockets.ids();
        let (mut told, mut unsent) = (0, 0);
        let mut put = |part: &mut Vec<(Id, FrozenConnection, BorrowedFd<'_>)>| {
            let descriptors: Vec<_> = part.iter().map(|(.., socket)| *socket).collect();
            // Those that find no room are told to come back.
            let is_sent = queue.put(&descriptors);
            unsent += if is_sent.is_ok() { 0 } else { part.len() };
            for (id, connection, _) in part.drain(..).filter(|_| is_sent.is_ok()) {
                let connection = FrozenConnection { fd: frozen.len() as u32, ..connection };
                let record = HandoverRecord::Connection(Box::new(connection));
                handover::write(&record, &mut result.records);
                frozen.push(id);
            }
        };
        for id in ids {
            let passed = sockets.freeze(id, shard).and_then(|(mut connection, socket)| {
                let FrozenSession { old, topics_owner, .. } = &mut connection.session;
                // What a consumer of several owners may still be given, these share as memory.
                if topics_owner.is_some() {
                    *topics_owner = Some(routes.only_owner(*old)?);
                }
                Some((connection, socket))
            });
            match passed {
                Some((connection, socket)) => part.push((id, connection, socket)),
                None => told += usize::from(!shard.is_ending(id)),
            }
            if part.len() == ShardQueue::PART {
                put(&mut part);
            }
        }
        put(&mut part);
        result.connections = frozen.len();
        result.told = told + unsent;
        result
    }

    /// Forgets the connections that were frozen, because another process has them; but for those
    /// of these numbers, in order, which are ended like all others.
    pub(in crate::io) fn release(&mut self, refused: &[u32]) {
        let now = clock::now();
        let frozen = std::mem::take(&mut self.frozen).into_iter().enumerate();
        let passed = frozen.filter(|(number, _)| refused.binary_search(&(*number as u32)).is_err());
        self.shard.give_away(passed.map(|(_, id)| id), now);
        self.sockets.settle(&mut self.shard);
        self.is_frozen = false;
        // What is left is read for its goodbye; the listeners are the other's.
        self.sockets.resume(&mut self.shard, now);
    }

    /// Takes over a connection of the process before.
    ///
    /// # Errors
    /// When it cannot go on here.
    pub(in crate::io) fn adopt(
        &mut self,
        connection: FrozenConnection,
        socket: OwnedFd,
    ) -> Result<(), NotAdopted> {
        let topics_owner = connection.session.topics_owner;
        // Its dialect may have been taken out of the configuration, and with it the store.
        if topics_owner.is_some_and(|owner| usize::from(owner) >= self.hub.store.running()) {
            return Err(NotAdopted::Unusable);
        }
        let new = self.sockets.adopt(connection, socket, &mut self.shard, clock::now())?;
        if let Some(owner) = topics_owner {
            self.routes.adopt(new, owner);
        }
        Ok(())
    }

    /// Takes over what the process before knew beside its connections.
    pub(in crate::io) fn adopt_shared(&mut self, record: HandoverRecord, refs: &NewRefs) {
        self.shard.adopt_shared(record, refs, clock::now());
    }

    /// The names that the connections have here, which were taken over.
    pub(in crate::io) fn take_new_refs(&mut self) -> NewRefs {
        self.shard.take_new_refs()
    }

    /// Follows what its sessions are to hear, before any feed speaks.
    pub(in crate::io) fn listen_in(&mut self) {
        self.follow();
    }

    /// Goes on, or begins.
    pub(in crate::io) fn resume(&mut self) {
        self.frozen = Vec::new();
        self.is_frozen = false;
        self.sockets.resume(&mut self.shard, clock::now());
        self.sockets.accept_again();
    }
}
