//! Sending: all that a turn has for the shard's connections, through TLS where they speak it.

use super::{Socket, Sockets, descriptor};
use crate::io::transport;
use crate::outbox::Sent;
use crate::shard::{Id, Transmit};
use rustix::fd::AsFd as _;
use std::io::IoSlice;
use std::ops::Range;

/// Bytes of the buffer for plaintext that are kept allocated.
const PLAINTEXT_KEPT: usize = 64 * 1024;

/// What one connection of a batch is sent.
enum Part {
    /// The bytes of the turn.
    Plain,
    /// Records made of them, at this place.
    Sealed(Range<usize>),
    /// Nothing more: it had to be sent alone.
    Done(Sent),
}

impl Transmit for Sockets {
    fn batch_max(&self) -> usize {
        self.transport.batch_max()
    }

    fn send(&mut self, id: Id, bytes: &[u8]) -> Sent {
        match self.sockets.get_mut(id as usize) {
            Some(Some(Socket { fd, tls: None, .. })) => transport::send(fd.as_fd(), bytes),
            Some(Some(Socket { fd, tls: Some(tls), .. })) => {
                tls.write(bytes, &mut self.tls, |records| transport::send(fd.as_fd(), records))
            }
            _ => Sent::Broken,
        }
    }

    fn send_vectored(&mut self, id: Id, bytes: &[IoSlice<'_>]) -> Sent {
        if let Some(Some(Socket { fd, tls: None, .. })) = self.sockets.get(id as usize) {
            return transport::send_vectored(fd.as_fd(), bytes);
        }

        // Joined, or each small piece would be a record of its own; records copy the bytes anyway.
        let mut joined = std::mem::take(&mut self.tls.plaintext);
        joined.clear();
        bytes.iter().for_each(|piece| joined.extend_from_slice(piece));
        let sent = self.send(id, &joined);
        // A long backlog must not stay allocated.
        joined.clear();
        joined.shrink_to(PLAINTEXT_KEPT);
        self.tls.plaintext = joined;
        sent
    }

    fn send_all(&mut self, batch: &[(Id, &[u8])], sent: &mut Vec<Sent>) {
        let Self { transport, sockets, tls: scratch, .. } = self;
        let mut parts = Vec::with_capacity(batch.len());
        scratch.forget_sealed();
        for (id, bytes) in batch {
            parts.push(match sockets.get_mut(*id as usize).and_then(Option::as_mut) {
                None => Part::Done(Sent::Broken),
                Some(Socket { tls: None, .. }) => Part::Plain,
                Some(Socket { fd, tls: Some(tls), .. }) => match tls.seal_ahead(bytes, scratch) {
                    Some(records) => Part::Sealed(records),
                    None => Part::Done(
                        tls.write(bytes, scratch, |records| transport::send(fd.as_fd(), records)),
                    ),
                },
            });
        }

        let sends = batch.iter().zip(&parts).filter_map(|((id, bytes), part)| {
            let bytes = match part {
                Part::Plain => bytes,
                Part::Sealed(records) => scratch.sealed(records.clone()),
                Part::Done(_) => return None,
            };
            Some((descriptor(sockets, *id)?, bytes))
        });
        let mut outcomes = std::mem::take(&mut self.outcomes);
        transport.send_all(sends, &mut outcomes);

        let mut next = outcomes.drain(..);
        for ((id, bytes), part) in batch.iter().zip(parts) {
            let outcome = match part {
                Part::Done(sent) => sent,
                Part::Plain => next.next().unwrap_or(Sent::Broken),
                Part::Sealed(records) => {
                    let outcome = next.next().unwrap_or(Sent::Broken);
                    match sockets.get_mut(*id as usize) {
                        Some(Some(Socket { tls: Some(tls), .. })) => {
                            tls.conclude(bytes.len(), scratch.sealed(records), outcome)
                        }
                        _ => Sent::Broken,
                    }
                }
            };
            sent.push(outcome);
        }
        drop(next);
        self.outcomes = outcomes;
    }
}
