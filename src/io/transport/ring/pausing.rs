//! The pause of a ring, in which nothing is received and nothing received is taken.
//!
//! An order to receive that is still in force takes bytes whoever else has the socket, and closing
//! the socket does not end it. So a ring is quiet only once each of them has had its last
//! completion.

use super::super::super::ring::Order;
use super::{IGNORED, RECEIVE, Receiving, RingSockets, tag};
use crate::shard::Id;

impl RingSockets {
    /// Has nothing received until [`RingSockets::resume`]. Bytes that come while the orders to
    /// receive are being cancelled are kept.
    pub(in crate::io::transport) fn pause(&mut self) {
        self.is_paused = true;
        for id in 0..self.slots.len() {
            let slot = &mut self.slots[id];
            if slot.receiving == Receiving::Ordered {
                slot.receiving = Receiving::Cancelling;
                let order = tag(RECEIVE, slot.serial, id as Id);
                self.ring.order(Order::Cancel(order), IGNORED);
            }
        }
    }

    /// Whether the pause has come into force: what clients send stays in their sockets.
    pub(in crate::io::transport) fn is_quiet(&mut self) -> bool {
        self.ring.reap();
        self.sort();
        self.slots.iter().all(|slot| slot.receiving == Receiving::Idle)
    }

    /// Whether there is something to receive, and it is to be reported.
    pub(super) fn has_readable(&self) -> bool {
        !self.is_paused && !self.readable.is_empty()
    }

    /// Ends the pause.
    pub(in crate::io::transport) fn resume(&mut self) {
        self.is_paused = false;
        for id in 0..self.slots.len() {
            let slot = &self.slots[id];
            if slot.receiving == Receiving::Idle && slot.end.is_none() {
                self.lack_order(id as Id);
            }
        }
    }

    /// A copy of what a socket has received and was not taken; `None` when an error is behind it.
    pub(in crate::io::transport) fn unread(&self, id: Id) -> Option<Vec<u8>> {
        let slot = &self.slots[id as usize];
        if matches!(slot.end, Some(Err(_))) {
            return None;
        }
        let kept = self.kept.get(&id).filter(|_| slot.keeps);
        let mut bytes = kept.map_or_else(Vec::new, |(bytes, taken)| bytes[*taken..].to_vec());
        self.received.copy(slot.buffers, &self.ring, &mut bytes);
        Some(bytes)
    }
}
