//! Reading: requests, one after another, or messages; and the keeping of incomplete ones.

use super::super::partial::{self, Partials};
use super::super::request::{Next, RequestContext};
use super::{NewBytes, Reading, Socket, Sockets};
use crate::message::{self, MessageInbox};
use crate::shard::{Id, Shard};
use crate::wheel::Now;
use rustix::fd::AsFd as _;

/// One part in this many of `limits.partial_bytes_max` is freed when connections are ended because
/// of it.
const PARTIAL_ROOM_PART: usize = 16;

/// The first byte of a TLS handshake, and of no request (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

impl Sockets {
    /// Takes bytes of a client, be they requests or messages.
    pub(super) fn take(
        &mut self,
        id: Id,
        new: NewBytes,
        shard: &mut Shard,
        has_room: bool,
        now: Now,
    ) {
        self.understand(id, new, shard, has_room, now);
        self.bound_parts(shard, now);
    }

    /// Enforces the limit of memory for everything incomplete.
    pub(super) fn bound_parts(&mut self, shard: &mut Shard, now: Now) {
        if self.partials.bytes() > shard.limits().partial_bytes_max {
            self.make_room(shard, now);
        }
    }

    fn understand(&mut self, id: Id, new: NewBytes, shard: &mut Shard, has_room: bool, now: Now) {
        let Some(Some(socket)) = self.sockets.get_mut(id as usize) else { return };
        // Only of a connection's first bytes: later ones are a malformed request, not TLS.
        let is_first = matches!(new, NewBytes::Plain(_)) && !socket.holds && shard.is_new(id);
        let bytes = match new {
            NewBytes::Plain(count) => &mut self.scratch[..count],
            NewBytes::Decrypted => &mut self.tls.plaintext[..],
            NewBytes::None => &mut [],
        };
        if is_first && bytes.first() == Some(&TLS_HANDSHAKE) {
            return self.refuse_tls(id, shard, now);
        }

        let mut held = std::mem::take(&mut socket.holds).then(|| self.partials.take(id)).flatten();
        let Some(terms) = self.terms.get(usize::from(socket.listener)) else { return };
        let (is_draining, fd) = (self.listeners.is_empty(), socket.fd.as_fd());
        let context = RequestContext {
            kinds: &terms.kinds,
            id,
            has_room,
            is_draining,
            socket: fd,
            clients: &self.clients,
            now,
        };
        let (next, used) = partial::read(&mut held, bytes, &context, shard);
        match next {
            Next::Over => return,
            Next::Session => {
                let bytes = held.as_mut().map_or(bytes, |held| &mut held.bytes[..]);
                let (frames, parts) = (&mut bytes[used..], &mut self.partials);
                return receive(socket, frames, id, parts, &mut self.waiting, shard, now);
            }
            Next::More | Next::Wait | Next::Asked | Next::Opening => {}
        }

        if let Some(held) = held {
            self.partials.put(id, held);
            socket.holds = true;
        }
        match next {
            Next::Wait => {
                socket.reading = Reading::Waits;
                self.waiting.push(id);
            }
            // One request at a time: the kernel's buffer holds back whatever the client sends
            // meanwhile.
            Next::Asked | Next::Opening => {
                socket.reading = Reading::Off;
                self.interest(id, false);
            }
            _ => {}
        }
    }

    /// Ends the connections that hold most in part, until a part of the limit is free again, so
    /// that the next byte does not have them all sorted again.
    fn make_room(&mut self, shard: &mut Shard, now: Now) {
        let bytes_max = shard.limits().partial_bytes_max;
        let enough = bytes_max - bytes_max / PARTIAL_ROOM_PART;
        self.count_kept();
        let partials = &self.partials;
        let parts = self.sockets.iter().enumerate().filter_map(|(id, socket)| {
            let socket = socket.as_ref()?;
            let held = if socket.holds { partials.of(id as Id) } else { 0 };
            let bytes = held + socket.part_bytes() + self.transport.kept_bytes(id as Id);
            (bytes > 0).then_some((bytes, id as Id))
        });
        let mut parts: Vec<(usize, Id)> = parts.collect();
        parts.sort_unstable_by(|one, other| other.cmp(one));

        let mut left = self.partials.bytes();
        for (bytes, id) in parts {
            if left <= enough {
                break;
            }
            left -= bytes;
            self.transport.forget_kept(id);
            let Some(Some(socket)) = self.sockets.get_mut(id as usize) else { continue };
            if std::mem::take(&mut socket.holds) {
                self.partials.take(id);
            }
            if let Some(inbox) = &mut socket.inbox {
                let before = MessageInbox::bytes(Some(inbox));
                inbox.forget_message();
                self.partials.change(before, MessageInbox::bytes(Some(inbox)));
            }
            let tls = socket.tls.as_ref().map_or(0, |tls| tls.part_bytes());
            shard.evict(id, now);
            if tls > bytes / 2 {
                // An incomplete record can only be dropped with its connection, and is at once:
                // until it is settled, each further read would sort all of them again.
                shard.lost(id, now);
                socket.tls = None;
                self.partials.change(tls, 0);
            }
        }
        self.count_kept();
    }
}

fn receive(
    socket: &mut Socket,
    bytes: &mut [u8],
    id: Id,
    partials: &mut Partials,
    waiting: &mut Vec<Id>,
    shard: &mut Shard,
    now: Now,
) {
    let before = MessageInbox::bytes(socket.inbox.as_deref());
    let has_waited = socket.inbox.as_ref().is_some_and(|inbox| inbox.is_broken());
    let read = message::read(&mut socket.inbox, bytes, shard.interest(id), |received| {
        shard.receive(id, received, now);
        shard.interest(id)
    });

    if let Err(violation) = read {
        socket.inbox = None;
        if shard.holds_back() && !has_waited {
            // The client may subscribe to what it has published: that comes in the next turn, the
            // close after it.
            socket.inbox = Some(Box::new(MessageInbox::broken(violation)));
            socket.reading = Reading::Waits;
            waiting.push(id);
        } else {
            shard.violate(id, violation, now);
        }
    }
    partials.change(before, MessageInbox::bytes(socket.inbox.as_deref()));
}
