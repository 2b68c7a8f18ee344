//! Publishers that go on in the next process.

use super::{Feed, Place};
use crate::feed::unix::{FrozenPublisher, Publisher};
use crate::handover::{self, HandoverRecord};
use crate::io::handover::ShardQueue;
use crate::io::watch::Watched;
use rustix::fd::{AsFd as _, OwnedFd};
use std::io;
use std::rc::Rc;

impl Feed {
    /// Whether no publisher awaits an answer any more.
    pub(in crate::io) fn is_settled(&self) -> bool {
        self.settling.get() == 0
    }

    /// Freezes the publishers that await no answer, and sends their descriptors.
    pub(in crate::io) fn freeze(&self, shard: u16, queue: &mut ShardQueue, records: &mut Vec<u8>) {
        let open = self.open.borrow();
        let mut frozen = self.frozen.borrow_mut();
        for part in open.chunks(ShardQueue::PART) {
            let part = part.iter().filter_map(|peer| {
                let publisher = peer.publisher.borrow().freeze()?;
                let replies = peer.replies.borrow().clone();
                Some((peer, FrozenPublisher { shard, replies, ..publisher }))
            });
            let part: Vec<_> = part.collect();
            let sockets: Vec<_> = part.iter().map(|(peer, _)| peer.socket.as_fd()).collect();
            let first = queue.sent();
            if queue.put(&sockets).is_err() {
                continue;
            }
            for (fd, (peer, publisher)) in (first..).zip(part) {
                let publisher = Box::new(FrozenPublisher { fd, ..publisher });
                handover::write(&HandoverRecord::Publisher(publisher), records);
                frozen.push(Rc::clone(peer));
            }
        }
    }

    /// Forgets the publishers that were frozen, because another process has them.
    pub(in crate::io) fn release(&self) {
        for peer in self.frozen.take() {
            peer.is_passed.set(true);
            self.open.borrow_mut().retain(|open| !Rc::ptr_eq(open, &peer));
            self.metrics.publishers.sub(1);
        }
    }

    /// Goes on with those that were frozen.
    pub(in crate::io) fn resume(&self) {
        self.frozen.take();
    }

    /// Goes on with a publisher of the process before. It is here already, so no limit counts.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(in crate::io) fn adopt(
        self: &Rc<Self>,
        frozen: FrozenPublisher,
        socket: OwnedFd,
    ) -> io::Result<()> {
        let socket = Watched::new(socket)?;
        if let Some(place) = Place::take(&self.hub, usize::MAX) {
            let publisher = Publisher::thaw(&frozen);
            self.begin(socket, place, publisher, frozen.replies);
        }
        Ok(())
    }
}
