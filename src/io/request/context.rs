//! The context of a read: the connection, its listener's dialects, and the state of the daemon.

use crate::dialect::Kind;
use crate::http;
use crate::http::head::Fault;
use crate::io::clients::Clients;
use crate::shard::{Id, Shard};
use crate::wheel::Now;
use rustix::fd::BorrowedFd;

/// The context of a read.
pub(in crate::io) struct RequestContext<'a> {
    /// The dialects of the listener.
    pub(in crate::io) kinds: &'a [Kind],
    /// The connection.
    pub(in crate::io) id: Id,
    /// Whether shards have room for what requests publish.
    pub(in crate::io) has_room: bool,
    /// Whether the daemon stops: requests that have begun are answered, and end their connections.
    pub(in crate::io) is_draining: bool,
    /// The connection's socket, for the peer's address.
    pub(in crate::io) socket: BorrowedFd<'a>,
    /// The known clients, for those behind proxies.
    pub(in crate::io) clients: &'a Clients,
    pub(in crate::io) now: Now,
}

impl RequestContext<'_> {
    /// Refuses a malformed request to a dialect.
    pub(in crate::io) fn refuse(&self, kind: Kind, is_head: bool, fault: Fault, shard: &mut Shard) {
        let response = http::refusal_saying(fault.status, fault.reason);
        shard.refuse_request(self.id, kind, (fault.status, response), is_head, self.now);
    }
}
