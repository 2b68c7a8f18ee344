//! Connections that go on in the next process: paused and frozen here, adopted there.

use super::{NewBytes, Reading, SCRATCH_BYTES, Socket, Sockets};
use crate::handover::{FrozenConnection, FrozenPhase, NotAdopted};
use crate::io::listen;
use crate::message::MessageInbox;
use crate::service::ConnectionRef;
use crate::shard::{Id, Shard};
use crate::wheel::Now;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

impl Sockets {
    /// Accepts no one from now on: who comes waits in the listeners. Connections that the kernel has
    /// accepted already are let in.
    pub(in crate::io) fn accept_no_more(&mut self, shard: &mut Shard, now: Now) {
        self.paused_until = None;
        self.unlisten();
        for number in 0..self.listeners.len() {
            self.accept_last(number, shard, now);
        }
    }

    /// Reads and accepts nothing from now on, until [`Sockets::resume`]. Connections that the kernel
    /// has accepted already are let in.
    pub(in crate::io) fn pause(&mut self, shard: &mut Shard, now: Now) {
        self.is_paused = true;
        self.transport.pause();
        self.accept_no_more(shard, now);
    }

    /// Whether nothing is read.
    pub(in crate::io) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether nothing is taken from the sockets any more, and all that was taken is understood.
    pub(in crate::io) fn is_quiet(&mut self) -> bool {
        self.waiting.is_empty()
            && self.probed.is_empty()
            && self.passed.is_empty()
            && self.transport.is_quiet()
    }

    /// Reads on: first comes what the process before has received.
    pub(in crate::io) fn resume(&mut self, shard: &mut Shard, now: Now) {
        self.is_paused = false;
        for (id, bytes) in std::mem::take(&mut self.unread) {
            for part in bytes.chunks(SCRATCH_BYTES) {
                self.scratch[..part.len()].copy_from_slice(part);
                self.take(id, NewBytes::Plain(part.len()), shard, true, now);
            }
        }
        self.transport.resume();
    }

    /// Accepts again.
    pub(in crate::io) fn accept_again(&mut self) {
        (0..self.listeners.len()).for_each(|number| self.watch_listener(number));
    }

    /// The listeners that are accepted from, by number.
    pub(in crate::io) fn listeners(&self) -> Vec<(usize, std::io::Result<OwnedFd>)> {
        let open = self.listeners.iter().enumerate();
        let open = open.filter_map(|(number, listener)| Some((number, listener.as_ref()?)));
        let accepting = open.filter(|(_, listener)| listener.accepts());
        accepting.map(|(number, listener)| (number, listener.socket.try_clone())).collect()
    }

    /// The numbers of all connections.
    pub(in crate::io) fn ids(&self) -> Vec<Id> {
        let open = self.sockets.iter().enumerate().filter(|(_, socket)| socket.is_some());
        open.map(|(id, _)| id as Id).collect()
    }

    /// Whether there is such a connection.
    pub(in crate::io) fn has(&self, id: Id) -> bool {
        self.sockets.get(id as usize).is_some_and(Option::is_some)
    }

    /// Whether a connection can go on in no other process, whatever comes: its keys of TLS are
    /// here, or its session is of a kind that cannot be passed on.
    pub(in crate::io) fn is_bound(
        &self,
        id: Id,
        shard: &Shard,
        has_one_owner: impl Fn(ConnectionRef) -> bool,
    ) -> bool {
        let socket = self.sockets.get(id as usize).and_then(Option::as_ref);
        let has_keys = socket.is_some_and(|socket| socket.tls.is_some());
        shard.has_begun(id) && (has_keys || shard.is_bound(id, has_one_owner))
    }

    /// A connection as data, and its socket. `None` where it cannot go on in another process: its
    /// keys of TLS are here, or more than bytes is kept of its request.
    pub(in crate::io) fn freeze(
        &self,
        id: Id,
        shard: &Shard,
    ) -> Option<(FrozenConnection, BorrowedFd<'_>)> {
        let socket = self.sockets.get(id as usize)?.as_ref()?;
        if socket.tls.is_some() || socket.reading != Reading::On || socket.awaits_preamble {
            return None;
        }
        let session = shard.freeze(id)?;
        let is_open = session.phase == FrozenPhase::Open;
        // A request is read on when its client has taken the answers before it.
        if !is_open && !shard.is_answered(id) {
            return None;
        }

        let mut unread = Vec::new();
        if socket.holds {
            unread.extend_from_slice(self.partials.head(id)?);
        }
        unread.extend(self.transport.unread(id)?);
        if !is_open && unread.len() > SCRATCH_BYTES {
            return None;
        }
        let inbox = socket.inbox.as_ref().map(|inbox| inbox.freeze().ok_or(())).transpose();
        let (remote, is_told) = self.clients.told(id);
        let connection = FrozenConnection {
            fd: 0,
            listener: self.listener_address(socket)?,
            remote,
            is_told,
            inbox: inbox.ok()?,
            session,
            unread,
        };
        Some((connection, socket.fd.as_fd()))
    }

    /// The address of the listener that a connection came to; of one that is closed by now, the
    /// connection's own.
    fn listener_address(&self, socket: &Socket) -> Option<SocketAddr> {
        let listener = self.listeners.get(usize::from(socket.listener)).and_then(Option::as_ref);
        let fd = listener.map_or(&socket.fd, |listener| &listener.socket);
        listen::local_address(fd).ok()
    }

    /// Takes over a connection of the process before, without a word to its client. It is read once
    /// the pause is over. Returns its name here.
    ///
    /// # Errors
    /// When it cannot go on here.
    pub(in crate::io) fn adopt(
        &mut self,
        frozen: FrozenConnection,
        fd: OwnedFd,
        shard: &mut Shard,
        now: Now,
    ) -> Result<ConnectionRef, NotAdopted> {
        let is_open = frozen.session.phase == FrozenPhase::Open;
        let place = self.listeners.iter().position(|listener| {
            let address = listener.as_ref().map(|it| listen::local_address(&it.socket));
            matches!(address, Some(Ok(address)) if address == frozen.listener)
        });
        // A session outlives its listener; a request is read by the listener's terms.
        let listener = match place {
            Some(number) => number as u8,
            None if is_open && !self.terms.is_empty() => 0,
            None => return Err(NotAdopted::Unusable),
        };
        let awaits_preamble = self.terms[usize::from(listener)].proxied && frozen.remote.is_none();
        if self.terms[usize::from(listener)].tls.is_some() || (awaits_preamble && !is_open) {
            return Err(NotAdopted::Unusable);
        }
        let inbox = match frozen.inbox.map(MessageInbox::thaw) {
            Some(None) => return Err(NotAdopted::Unusable),
            inbox => inbox.flatten().map(Box::new),
        };

        let connection = shard.adopt(frozen.session, now)?;
        let id = connection.id;
        let index = id as usize;
        if self.transport.add(id, fd.as_fd()).is_err() {
            // It leaves what it is in, as the services take it for passed.
            shard.lost(id, now);
            return Err(NotAdopted::Unusable);
        }
        self.total.fetch_add(1, Relaxed);
        let most = shard.limits().connections_per_address_max;
        let trusted = &shard.settings().trusted_proxies;
        self.clients.take_over(id, fd.as_fd(), (frozen.remote, frozen.is_told), trusted, most);
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        let reading = Reading::On;
        let socket = Socket {
            fd,
            listener,
            reading,
            holds: false,
            awaits_preamble: false,
            inbox,
            tls: None,
        };
        self.partials.change(0, socket.part_bytes());
        self.sockets[index] = Some(socket);
        if !frozen.unread.is_empty() {
            self.unread.push((id, frozen.unread));
        }
        Ok(connection)
    }
}
