//! Another process takes a node over.

use super::Node;
use crate::model::Phase;
use fanfare::handover::{self, FrozenConnection, HandoverHeader, HandoverRecord};
use fanfare::message::MessageInbox;
use fanfare::shard::{Id, Shard};
use fanfare::wheel::Now;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Node {
    /// Passes all connections that can be to another shard. The others, which were ending, end.
    pub(crate) fn hand_over(&mut self, now: Now) {
        let (mut state, mut passed) = (Vec::new(), Vec::new());
        handover::begin(&HandoverHeader::default(), &mut state);
        let ids: Vec<Id> = self.clients.keys().copied().collect();
        for id in ids {
            match self.frozen(id) {
                Some(connection) => {
                    handover::write(&HandoverRecord::Connection(connection), &mut state);
                    passed.push(id);
                }
                None => {
                    let client = self.clients.get_mut(&id).unwrap();
                    assert!(client.session.phase != Phase::Open, "{id} is open");
                    client.session.phase = Phase::Gone;
                    self.shard.lost(id, now);
                }
            }
        }
        handover::end(&mut state);
        self.shard.give_away(passed.iter().copied(), now);
        assert!(self.shard.is_empty());

        let (settings, limits) = (Arc::clone(self.shard.settings()), *self.shard.limits());
        self.shard = Shard::new(settings, limits, Arc::clone(&self.metrics), now);
        let mut before = std::mem::take(&mut self.clients);
        let (_, mut rest) = handover::open(&state).unwrap();
        let mut clients = BTreeMap::new();
        for id in passed {
            let (record, behind) = handover::read(rest).unwrap();
            let HandoverRecord::Connection(connection) = record else { panic!("{record:?}") };
            let new = self.shard.adopt(connection.session, now).unwrap();
            let mut client = before.remove(&id).unwrap();
            client.inbox =
                connection.inbox.map(|inbox| Box::new(MessageInbox::thaw(inbox).unwrap()));
            // A process that has just begun tries each socket.
            client.session.blocked = false;
            clients.insert(new.id, client);
            rest = behind;
        }
        self.clients = clients;
    }

    fn frozen(&self, id: Id) -> Option<Box<FrozenConnection>> {
        let inbox = match &self.clients[&id].inbox {
            Some(inbox) => Some(inbox.freeze()?),
            None => None,
        };
        let listener = ([127, 0, 0, 1], 80).into();
        let connection = FrozenConnection::new(0, listener, self.shard.freeze(id)?);
        Some(Box::new(FrozenConnection { inbox, ..connection }))
    }
}
