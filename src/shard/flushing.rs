//! The end of a turn: each connection gets what the turn has queued for it, in one write.

use super::ending::patience;
use super::event::{ConnectionEvent, Id};
use super::session::Phase;
use super::transmit::{SendBatch, Transmit};
use super::{LEAVING_CLOSE_S, LINGER_S, Shard};
use crate::outbox::{Flushed, Offer, Offered, Sent};
use crate::reason::Reason;
use crate::service::Question;
use crate::service::topic::TopicQuestion;
use crate::wheel::Now;

/// Bytes joined for one batch, beyond which the next is begun: without this bound all connections
/// with lists of their own would have them joined at once.
const BATCH_JOINED_BYTES_MAX: usize = 1024 * 1024;

impl Shard {
    /// Sends what the turn has queued, one write per connection, and ends the turn.
    /// [`Shard::take_events`] tells what each socket needs next.
    pub fn flush(&mut self, now: Now, transmit: &mut impl Transmit) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut batch = std::mem::take(&mut self.batch);
        let mut bytes_out = 0;

        let mut left = dirty.drain(..);
        while !left.as_slice().is_empty() {
            bytes_out += self.collect(&mut left, &mut batch.offers, transmit, now);
            if !batch.offers.is_empty() {
                bytes_out += self.send_all(&mut batch, transmit, now);
            }
        }
        drop(left);
        (self.dirty, self.batch) = (dirty, batch);

        // Frames last for one turn, those of pings included.
        self.turn.end();
        self.pings = Default::default();
        self.metrics.bytes_out.add(bytes_out);
    }

    /// Collects a batch, and flushes at once what is not sent in batches: backlogs, which few
    /// connections have, and everything where a batch is one. Returns the bytes that were sent.
    fn collect(
        &mut self,
        left: &mut impl Iterator<Item = Id>,
        offers: &mut Vec<(Id, Offered)>,
        transmit: &mut impl Transmit,
        now: Now,
    ) -> u64 {
        let mut bytes_out = 0;
        let batch_max = transmit.batch_max();
        let joined_max = self.turn.joined_bytes() + BATCH_JOINED_BYTES_MAX;
        while offers.len() < batch_max
            && self.turn.joined_bytes() < joined_max
            && let Some(id) = left.next()
        {
            let Some(session) = self.sessions.get_mut(id as usize) else { continue };
            // Listed twice: by a connection that has gone, and by the one that got its number.
            if !std::mem::take(&mut session.dirty) {
                continue;
            }

            let before = session.outbox.backlog_bytes();
            match self.turn.offer(&mut session.outbox) {
                Offer::Bytes(offered) if batch_max == 1 => {
                    let sent = transmit.send(id, self.turn.offered(&offered));
                    bytes_out += self.note_sent(id, &offered, sent, now);
                    self.turn.trim();
                }
                Offer::Bytes(offered) => offers.push((id, offered)),
                Offer::Nothing => self.flushed(id, Flushed::Empty, before, now),
                Offer::Backlog => {
                    let mut count = 0;
                    let flushed = self.turn.flush_backlog(&mut session.outbox, |bytes| {
                        let sent = transmit.send_vectored(id, bytes);
                        count += taken(sent);
                        sent
                    });
                    session.count_out(count);
                    bytes_out += count;
                    if self.is_leaving && count > 0 {
                        self.wait_on(id, now);
                    }
                    self.flushed(id, flushed, before, now);
                }
            }
        }
        bytes_out
    }

    /// Sends a batch. Returns the bytes that were sent.
    fn send_all(&mut self, batch: &mut SendBatch, transmit: &mut impl Transmit, now: Now) -> u64 {
        let SendBatch { offers, sent } = batch;
        let bytes: Vec<(Id, &[u8])> =
            offers.iter().map(|(id, offered)| (*id, self.turn.offered(offered))).collect();
        transmit.send_all(&bytes, sent);

        let mut bytes_out = 0;
        for ((id, offered), sent) in offers.drain(..).zip(sent.drain(..)) {
            bytes_out += self.note_sent(id, &offered, sent, now);
        }
        self.turn.trim();
        bytes_out
    }

    /// Notes what has become of the bytes that a connection had. Returns how many were sent.
    fn note_sent(&mut self, id: Id, offered: &Offered, sent: Sent, now: Now) -> u64 {
        if let Some(session) = self.sessions.get_mut(id as usize) {
            session.count_out(taken(sent));
            let flushed = self.turn.conclude(&mut session.outbox, offered, sent);
            self.flushed(id, flushed, 0, now);
        }
        taken(sent)
    }

    /// Gives a client that still reads while the daemon stops time for the rest.
    fn wait_on(&mut self, id: Id, now: Now) {
        let session = &mut self.sessions[id as usize];
        if session.phase.is_ending() {
            session.deadline = now.tick_in(LEAVING_CLOSE_S);
            self.reschedule(id);
        }
    }

    /// Does what follows from the flush of an outbox whose backlog had this many bytes before.
    fn flushed(&mut self, id: Id, flushed: Flushed, before: usize, now: Now) {
        let session = &mut self.sessions[id as usize];
        let after = session.outbox.backlog_bytes();
        if before != after {
            self.metrics.outbox_bytes.add((after as u64).wrapping_sub(before as u64));
        }

        // The owner of the topics delivers more once the client has taken everything so far.
        let has_taken = flushed == Flushed::Empty && std::mem::take(&mut session.owes_receipt);
        match flushed {
            Flushed::Broken => self.remove(id, Reason::Gone, now),
            Flushed::Blocked => self.events.push(ConnectionEvent::Blocked(id)),
            Flushed::Waiting => {}
            Flushed::Empty if session.phase == Phase::Ending => {
                // Only our side is shut: closing both at once may reset the connection before the
                // peer has read the last bytes.
                session.phase = Phase::Over;
                session.deadline = patience(self.is_leaving, LINGER_S, now);
                self.wheel.schedule(id, session.deadline);
                self.events.push(ConnectionEvent::Finished(id));
            }
            Flushed::Empty if before > 0 && session.phase.awaits_request() => {
                // Its next request was held back until it had read the answers so far.
                self.events.push(ConnectionEvent::Ready(id));
            }
            Flushed::Empty => {}
        }
        if has_taken {
            self.keep_question(id, Question::Topic(TopicQuestion::Took));
        }
    }
}

/// The number of bytes that a socket took.
fn taken(sent: Sent) -> u64 {
    if let Sent::Bytes(count) = sent { count as u64 } else { 0 }
}
