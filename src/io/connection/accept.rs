//! Accepting: the limits of connections, and the preamble of proxies.

use super::{Reading, Socket, Sockets, spare};
use crate::http;
use crate::io::clients;
use crate::io::listen::ListenerTerms;
use crate::io::tls::Tls;
use crate::io::transport::{self, accepted_ahead_max};
use crate::proxy::Remote;
use crate::reason::Reason;
use crate::shard::{Id, Shard};
use crate::wheel::{Now, TICK_MS, Tick};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::sync::atomic::Ordering::Relaxed;

/// Maximum number of connections accepted from one listener in one turn.
const ACCEPTS_MAX: usize = 64;
/// The pause in accepting when the process is out of descriptors.
const ACCEPT_PAUSE_TICKS: Tick = (500 / TICK_MS) as Tick;

impl Sockets {
    pub(super) fn accept(&mut self, index: usize, shard: &mut Shard, now: Now) {
        if self.listeners.is_empty() {
            return self.accept_last(index, shard, now);
        }
        self.accept_ahead(shard);
        for _ in 0..ACCEPTS_MAX {
            let Some(Some(listener)) = self.listeners.get_mut(index) else { return };
            if !listener.accepts() {
                return;
            }
            match self.transport.accept(index, listener.socket.as_fd()) {
                Ok(accepted) => match listener.acceptor.take_turn() {
                    Some(other) => self.passed.push((other, index as u8, accepted)),
                    None => self.admit(accepted, index as u8, shard, now),
                },
                Err(Errno::AGAIN) => return,
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    self.metrics.accept_errors.add(1);
                    return self.shed(index, shard, error, now);
                }
                // The peer has gone before it was accepted.
                Err(_) => self.metrics.accept_errors.add(1),
            }
        }
    }

    /// Lets the kernel accept connections before their turn only while there is room for all that
    /// it may: each takes a descriptor, and those of the admin listener are not for clients.
    fn accept_ahead(&mut self, shard: &Shard) {
        let room = shard.limits().connections_max.saturating_sub(self.total());
        let ahead_max = shard.shards() * accepted_ahead_max(self.listeners.len());
        self.transport.accept_ahead(room > ahead_max);
    }

    /// Takes in what the kernel has accepted before a stop, and perhaps tells of late.
    pub(super) fn accept_last(&mut self, index: usize, shard: &mut Shard, now: Now) {
        while let Some(accepted) = self.transport.take_accepted(index) {
            self.admit(accepted, index as u8, shard, now);
        }
    }

    /// Takes in a connection of a listener, which another shard may have accepted.
    pub(in crate::io) fn admit(&mut self, fd: OwnedFd, listener: u8, shard: &mut Shard, now: Now) {
        let Some(ListenerTerms { tls: config, proxied, .. }) =
            self.terms.get(usize::from(listener))
        else {
            return;
        };
        let (is_plain, awaits_preamble) = (config.is_none(), *proxied);
        if !shard.has_room(self.total.load(Relaxed)) {
            let (remote, most) = (clients::peer(fd.as_fd()), shard.limits().connections_max);
            let detail = || format!("max_connections = {most} reached");
            let response = self.turn_away(&fd, is_plain, http::refusal(503));
            return shard.turn_away(remote, Reason::ConnectionLimit, detail, &response, now);
        }

        let trusted = &shard.settings().trusted_proxies;
        let most = shard.limits().connections_per_address_max;
        // Asked only where it decides: it takes a system call. A client that has gone already has no
        // address; reading finds that out.
        let remote = if most > 0 || awaits_preamble { clients::peer(fd.as_fd()) } else { None };
        if let Some(remote) =
            remote.filter(|remote| awaits_preamble && !trusted.contains(remote.ip))
        {
            let response = http::wants_proxy("trusted_proxies does not have your address");
            let response = self.turn_away(&fd, is_plain, response);
            let detail = || untrusted(remote);
            return shard.turn_away(Some(remote), Reason::ProxyUntrusted, detail, &response, now);
        }

        let admitted = match remote.map(|remote| self.clients.admit(remote, trusted, most)) {
            Some(None) => {
                let detail = || remote.map_or_else(String::new, |it| clients::full(it, most));
                let response = self.turn_away(&fd, is_plain, http::refusal(429));
                return shard.turn_away(remote, Reason::AddressLimit, detail, &response, now);
            }
            admitted => admitted.flatten(),
        };
        let Ok(tls) = config.as_ref().map(Tls::new).transpose() else {
            admitted.inspect(|admitted| self.clients.dismiss(*admitted));
            return self.metrics.accept_errors.add(1);
        };

        let id = shard.accept(now);
        if self.transport.add(id, fd.as_fd()).is_err() {
            self.metrics.accept_errors.add(1);
            admitted.inspect(|admitted| self.clients.dismiss(*admitted));
            shard.lost(id, now);
            // At once, or the next connection gets the number while the events of this one are
            // still pending.
            return self.settle(shard);
        }
        self.total.fetch_add(1, Relaxed);
        admitted.inspect(|admitted| self.clients.keep(id, *admitted));
        let index = id as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        let (reading, inbox, tls) = (Reading::On, None, tls.map(Box::new));
        self.sockets[index] =
            Some(Socket { fd, listener, reading, holds: false, awaits_preamble, inbox, tls });
    }

    /// Refuses a connection with a response. One that wants TLS is only closed: its handshake would
    /// cost more than anything else of a connection. Returns what it was sent.
    fn turn_away(&mut self, fd: &OwnedFd, is_plain: bool, response: Vec<u8>) -> Vec<u8> {
        if !is_plain {
            return Vec::new();
        }
        // Closing a socket with unread bytes resets the connection, and the response may be lost.
        let _ = rustix::net::recv(fd, &mut self.scratch[..], RecvFlags::DONTWAIT);
        let _ = rustix::net::send(fd, &response, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        response
    }

    /// Handles the lack of descriptors: refuses the next connection with the reserved one, then
    /// pauses accepting.
    fn shed(&mut self, index: usize, shard: &mut Shard, error: Errno, now: Now) {
        self.spare = None;
        if let Some(Some(listener)) = self.listeners.get(index)
            && let Ok(fd) = transport::accept(listener.socket.as_fd())
        {
            let (remote, is_plain) = (clients::peer(fd.as_fd()), self.terms[index].tls.is_none());
            let response = self.turn_away(&fd, is_plain, http::refusal(503));
            let detail =
                || format!("{error}: raise LimitNOFILE= (or ulimit -n), or lower max_connections");
            shard.turn_away(remote, Reason::Descriptors, detail, &response, now);
        }
        self.spare = spare();

        // A listener with a backlog stays readable, and would have the shard turn without end.
        self.paused_until = Some(now.tick() + ACCEPT_PAUSE_TICKS);
        self.unlisten();
    }

    /// Resumes accepting when its pause is over.
    pub(in crate::io) fn tick(&mut self, now: Now) {
        self.metrics.partial_bytes.set(self.partials.bytes() as u64);
        if self.paused_until.is_some_and(|until| until <= now.tick()) {
            self.paused_until = None;
            (0..self.listeners.len()).for_each(|number| self.watch_listener(number));
        }
    }

    /// Reads the preamble of a proxy from all bytes so far. Returns its length once it is whole and
    /// the client may come.
    pub(super) fn preamble(
        &mut self,
        id: Id,
        count: usize,
        shard: &mut Shard,
        now: Now,
    ) -> Option<usize> {
        let socket = self.sockets.get_mut(id as usize).and_then(Option::as_mut)?;
        let preamble = match self.clients.preamble(id, &self.scratch[..count]) {
            Ok(preamble) => preamble?,
            Err(reason) => {
                let reason = reason.to_string();
                shard.respond_saying(
                    id,
                    &http::wants_proxy(&reason),
                    (Reason::ProxyHeader, &reason),
                    now,
                );
                return None;
            }
        };
        socket.awaits_preamble = false;

        // Only now is the client known that the limit of an address is for.
        let trusted = &shard.settings().trusted_proxies;
        let most = shard.limits().connections_per_address_max;
        if let Some(client) = preamble.client
            && !self.clients.adopt(id, client, trusted, most)
        {
            let full = clients::full(client, most);
            shard.respond_saying(id, &http::refusal(429), (Reason::AddressLimit, &full), now);
            return None;
        }
        Some(preamble.length)
    }
}

fn untrusted(remote: Remote) -> String {
    format!(
        "it came to a listener with proxy_protocol = true, and trusted_proxies does not have {}",
        remote.ip
    )
}
