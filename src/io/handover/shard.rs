//! What a shard does for a hand-over: as one of the old process, by orders between two turns; as
//! one of the new process, before its first turn.

use super::order::HandoverOrder;
use super::queue::ShardQueue;
use crate::feed::FrozenPublisher;
use crate::frame;
use crate::handover::{FrozenConnection, FrozenPhase, HandoverRecord};
use crate::io::publisher::Feed;
use crate::io::worker::Worker;
use crate::reason::Reason;
use crate::service::NewRefs;
use crate::shard::CLOSE_GOING_AWAY;
use rustix::fd::OwnedFd;
use rustix::net::SendFlags;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

/// Carries out an order.
pub(in crate::io) fn carry_out(
    order: HandoverOrder,
    number: usize,
    worker: &RefCell<Worker>,
    feed: &Feed,
) {
    let mut worker = worker.borrow_mut();
    // Who has asked may have given up; then there is nothing to tell.
    match order {
        HandoverOrder::Listeners(reply) => drop(reply.send((number, worker.listeners()))),
        HandoverOrder::Bound(reply) => drop(reply.send((number, worker.find_bound()))),
        HandoverOrder::Dismiss { part, parts, reply } => {
            let _ = reply.send((number, worker.dismiss_bound(part, parts)));
        }
        HandoverOrder::Pause => worker.pause(),
        HandoverOrder::Look(reply) => {
            let _ = reply.send((number, worker.rest(feed.is_settled())));
        }
        HandoverOrder::Freeze(queue, reply) => {
            let Ok(mut queue) = ShardQueue::of(queue) else { return };
            let mut frozen = worker.freeze(&mut queue);
            feed.freeze(number as u16, &mut queue, &mut frozen.records);
            let _ = reply.send((number, frozen));
        }
        HandoverOrder::Release(refused, reply) => {
            feed.release();
            worker.release(&refused);
            let _ = reply.send((number, ()));
        }
        HandoverOrder::Resume => {
            feed.resume();
            worker.resume();
        }
    }
}

/// What a shard of the new process takes over.
#[derive(Default)]
pub(in crate::io) struct ShardPart {
    /// Whether no other process tells those to come back that cannot be taken over.
    pub(super) is_alone: bool,
    /// What the sessions of dialects share, before these.
    pub(super) shared: Vec<HandoverRecord>,
    pub(super) connections: Vec<(FrozenConnection, OwnedFd)>,
    pub(super) publishers: Vec<(FrozenPublisher, OwnedFd)>,
}

/// What has become of a part.
#[derive(Default)]
pub(in crate::io) struct AdoptedPart {
    /// The connections by their names in either process.
    pub(super) refs: NewRefs,
    /// The number of connections that were taken over.
    pub(super) connections: u32,
    /// The shard and the number of descriptor of each connection that could not be taken over.
    pub(super) refused: Vec<(u16, u32)>,
}

/// A step of a shard of the new process.
pub(in crate::io) enum GateStep {
    /// Take these over.
    Adopt(ShardPart, Sender<AdoptedPart>),
    /// Take these over, which are about connections of all shards.
    Know(Vec<HandoverRecord>, Arc<NewRefs>, Sender<()>),
    /// Begin.
    Go,
}

/// Where a shard of the new process waits until it may begin.
pub(in crate::io) struct Gate(pub(super) Receiver<GateStep>);

impl Gate {
    /// Takes over what comes, and waits for the word to begin, on a thread that does nothing else.
    /// Returns whether it has come.
    pub(in crate::io) fn pass(self, worker: &RefCell<Worker>, feed: &Rc<Feed>) -> bool {
        let mut worker = worker.borrow_mut();
        worker.pause();
        while let Ok(step) = self.0.recv() {
            // Without one who waits for it, the word to begin does not come.
            match step {
                GateStep::Adopt(part, reply) => drop(reply.send(adopt(part, &mut worker, feed))),
                GateStep::Know(records, refs, reply) => {
                    records.into_iter().for_each(|record| worker.adopt_shared(record, &refs));
                    let _ = reply.send(());
                }
                GateStep::Go => {
                    worker.resume();
                    return true;
                }
            }
        }
        false
    }
}

/// Tells the client of a session to come back, as far as one can who does not know its dialect.
fn tell_to_come_back(socket: &OwnedFd) {
    let bytes = frame::close(CLOSE_GOING_AWAY, Reason::Drain.words());
    // One who does not read is closed without it.
    let _ = rustix::net::send(socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

fn adopt(part: ShardPart, worker: &mut Worker, feed: &Rc<Feed>) -> AdoptedPart {
    let mut outcome = AdoptedPart::default();
    let no_refs = NewRefs::default();
    part.shared.into_iter().for_each(|record| worker.adopt_shared(record, &no_refs));
    for (connection, socket) in part.connections {
        let (shard, fd) = (connection.session.old.shard, connection.fd);
        // A goodbye stands between two frames only, and without a descriptor there is none.
        let is_between =
            connection.session.phase == FrozenPhase::Open && connection.session.unsent.is_empty();
        let goodbye = if part.is_alone && is_between { socket.try_clone().ok() } else { None };
        match worker.adopt(connection, socket) {
            Ok(()) => outcome.connections += 1,
            Err(error) => {
                tracing::debug!("a connection is not taken over: {error}");
                outcome.refused.push((shard, fd));
                goodbye.as_ref().inspect(|socket| tell_to_come_back(socket));
            }
        }
    }
    for (publisher, socket) in part.publishers {
        // Without a descriptor it is closed, and comes back.
        if let Err(error) = feed.adopt(publisher, socket) {
            tracing::warn!("a publisher is not taken over: {error}");
        }
    }
    outcome.refs = worker.take_new_refs();
    // Before any feed speaks.
    worker.listen_in();
    outcome
}
