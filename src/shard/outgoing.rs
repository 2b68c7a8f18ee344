//! What a shard has for others: for the shards, for other services, for other nodes.

use super::{Id, Shard};
use crate::frame::Publication;
use crate::service::ConnectionRef;
use crate::service::presence::Reply;
use crate::service::webhook::Webhook;
use core::net::IpAddr;

/// What a shard has for the shards, itself included.
#[derive(Debug)]
pub enum Outgoing {
    /// For all.
    Publication(Publication),
    /// For the one that has the connection: what the owner of an app's presence says to it.
    Reply(ConnectionRef, Reply),
}

impl Outgoing {
    /// How much memory it holds.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Publication(publication) => publication.weight(),
            Self::Reply(_, reply) => reply.weight(),
        }
    }
}

/// What waits to be handed to the shards.
#[derive(Default)]
pub(super) struct Outbound {
    pub(super) list: Vec<Outgoing>,
    pub(super) bytes: usize,
}

impl Outbound {
    pub(super) fn push(&mut self, outgoing: Outgoing) {
        self.bytes += outgoing.weight();
        self.list.push(outgoing);
    }
}

impl Shard {
    /// What is to be handed to the shards since the last call, this one included, in this order.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing).list
    }

    /// What other services are to be told since the last call.
    pub fn take_webhooks(&mut self) -> Vec<Webhook> {
        self.unaddressed.clear();
        std::mem::take(&mut self.webhooks)
    }

    /// Gives what other services are to be told the addresses of the clients that it is about. To be called before any
    /// of them is forgotten.
    pub fn address_webhooks(&mut self, address: impl Fn(Id) -> Option<IpAddr>) {
        for (place, id) in self.unaddressed.drain(..) {
            if let Some(Webhook::Callback(callback)) = self.webhooks.get_mut(place) {
                callback.client = address(id);
            }
        }
    }

    /// Keeps what a client has another service told.
    pub(super) fn notify(&mut self, id: Id, webhook: Webhook) {
        if matches!(webhook, Webhook::Callback(_)) {
            self.unaddressed.push((self.webhooks.len(), id));
        }
        self.webhooks.push(webhook);
    }

    /// What other nodes are to be told since the last call.
    pub fn take_relays(&mut self) -> Vec<Box<str>> {
        std::mem::take(&mut self.relays)
    }

    /// Whether something that clients have caused waits for room elsewhere.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        !(self.outgoing.list.is_empty()
            && self.questions.is_empty()
            && self.notes.is_empty()
            && self.requests.is_empty())
    }
}
