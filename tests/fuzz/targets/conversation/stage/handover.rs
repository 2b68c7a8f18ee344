//! Everything goes on in another process, where it can.

use super::super::settings::limits;
use super::Stage;
use fanfare::handover::{self, FrozenConnection, HandoverHeader, HandoverRecord};
use fanfare::message::MessageInbox;
use fanfare::service::{ConnectionRef, NewRefs};
use fanfare::shard::{Id, Shard};
use std::sync::Arc;

impl Stage {
    /// Passes all connections to another shard, unless one of them cannot be passed.
    pub(in super::super) fn hand_over(&mut self) {
        // As the daemon waits until nothing is on its way.
        while self.shard.has_questions() {
            self.flush();
        }
        let Some(state) = self.state() else { return };
        self.shard.give_away(std::mem::take(&mut self.there), self.now);
        assert!(
            self.shard.is_empty() && self.shard.is_settled(),
            "the old process has a word left"
        );

        let (_, mut rest) = handover::open(&state).unwrap();
        let metrics = Arc::clone(&self.metrics);
        self.shard = Shard::new(Arc::clone(&self.settings), limits(), metrics, self.now);
        let mut later = Vec::new();
        loop {
            let (record, behind) = handover::read(rest).unwrap();
            rest = behind;
            match record {
                HandoverRecord::Connection(connection) => self.adopt(*connection),
                shared @ HandoverRecord::Shared(..) => {
                    self.shard.adopt_shared(shared, &NewRefs::default(), self.now);
                }
                HandoverRecord::Unknown(kind) => panic!("an unknown record, {kind}"),
                HandoverRecord::End => break,
                record => later.push(record),
            }
        }
        let refs = self.shard.take_new_refs();
        later.into_iter().for_each(|record| self.shard.adopt_shared(record, &refs, self.now));
        self.follow(&refs);
        self.flush();
    }

    /// Everything, written down.
    fn state(&mut self) -> Option<Vec<u8>> {
        let header = HandoverHeader { release: String::new(), boot_id: String::new(), shards: 1 };
        let mut state = Vec::new();
        handover::begin(&header, &mut state);
        let shared = self.shard.freeze_shared();
        shared.iter().for_each(|record| handover::write(record, &mut state));
        for &id in &self.there {
            let mut clients = self.clients.values();
            let client = clients.find(|client| client.id == id && !client.is_over);
            let inbox = client.and_then(|client| client.inbox.as_ref());
            let inbox = match inbox {
                Some(inbox) => Some(inbox.freeze()?),
                None => None,
            };
            let session = self.shard.freeze(id)?;
            let listener = ([127, 0, 0, 1], 80).into();
            let connection =
                FrozenConnection { inbox, ..FrozenConnection::new(0, listener, session) };
            handover::write(&HandoverRecord::Connection(Box::new(connection)), &mut state);
        }
        handover::end(&mut state);
        Some(state)
    }

    fn adopt(&mut self, connection: FrozenConnection) {
        let old = connection.session.old;
        let new = self.shard.adopt(connection.session, self.now).unwrap();
        self.there.insert(new.id);
        let mut clients = self.clients.values_mut();
        // New numbers may be old ones of others.
        let client = clients.find(|it| it.id == old.id && !it.is_over && !it.is_passed);
        if let Some(client) = client {
            (client.id, client.is_passed) = (new.id, true);
            client.inbox =
                connection.inbox.map(|inbox| Box::new(MessageInbox::thaw(inbox).unwrap()));
        }
    }

    /// Follows connections to their new references.
    fn follow(&mut self, refs: &NewRefs) {
        let new = |id: Id, serial| refs.of(ConnectionRef { shard: 0, id, serial });
        for client in self.clients.values_mut() {
            client.is_passed = false;
            client.serial = client.serial.and_then(|old| refs.of(old));
        }
        let asked = std::mem::take(&mut self.asked).into_iter();
        self.asked = asked
            .filter_map(|((id, serial), attempt)| {
                let new = new(id, serial)?;
                Some(((new.id, new.serial), attempt))
            })
            .collect();
        let topics = std::mem::take(&mut self.topics).into_iter();
        self.topics = topics
            .filter_map(|(id, serial)| new(id, serial).map(|new| (new.id, new.serial)))
            .collect();
        let remembered = std::mem::take(&mut self.remembered).into_iter();
        self.remembered = remembered
            .map(|(id, serial, attempt)| {
                let new = new(id, serial).expect("its connection was passed");
                (new.id, new.serial, attempt)
            })
            .collect();
    }
}
