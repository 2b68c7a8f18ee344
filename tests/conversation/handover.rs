//! The conversations go on in another process: everything is frozen, written, read and adopted.

use super::Bus;
use fanfare::handover::{self, FrozenConnection, HandoverHeader, HandoverRecord};
use fanfare::message::MessageInbox;
use fanfare::service::{NewRefs, Question};
use fanfare::shard::Shard;
use std::sync::Arc;

/// Most bytes that are handed over after each step, which costs time.
const STATE_BYTES_MAX: usize = 256 * 1024;

impl Bus {
    /// Passes everything to another shard, as to another process. Returns whether all of it could be passed;
    /// otherwise everything is as before.
    pub(crate) fn hand_over(&mut self) -> bool {
        self.hand_over_but(&[])
    }

    /// The same, but for these clients, which the other process does not get.
    pub(crate) fn hand_over_but(&mut self, left: &[&str]) -> bool {
        let mut names = self.names();
        // A client that has come twice has a connection that no name stands for.
        if names.len() != self.shard.len() {
            return false;
        }
        names.retain(|name| !left.contains(&&**name));
        let Some(state) = self.state(&names) else { return false };
        // After so much of it, the rest of the conversation is held in one process.
        self.hands_over &= state.len() <= STATE_BYTES_MAX;
        let ids: Vec<_> = names.iter().map(|name| self.clients[name].id).collect();
        self.shard.give_away(ids, self.now);
        for name in left {
            let client = self.clients.get_mut(*name).unwrap();
            client.is_gone = true;
            self.shard.lost(client.id, self.now);
        }
        for (from, question) in self.shard.take_questions() {
            if let Question::Presence(question) = question {
                self.shard.ask_presence(from, *question, self.now);
            }
        }
        assert!(
            self.shard.is_empty() && self.shard.is_settled(),
            "the old process has a word left"
        );
        let (header, mut rest) = handover::open(&state).unwrap();
        assert_eq!(header.boot_id, "this boot");

        let (settings, limits) = (Arc::clone(self.shard.settings()), *self.shard.limits());
        self.shard = Shard::new(settings, limits, Arc::clone(&self.metrics), self.now)
            .drawing(super::rng(&self.drawn));
        let mut later = Vec::new();
        loop {
            let (record, behind) = handover::read(rest).unwrap();
            rest = behind;
            match record {
                HandoverRecord::Connection(connection) => self.adopt(*connection, &names),
                shared @ HandoverRecord::Shared(..) => {
                    self.shard.adopt_shared(shared, &NewRefs::default(), self.now);
                }
                HandoverRecord::Publisher(_) => panic!("there is no publisher here"),
                HandoverRecord::Unknown(kind) => panic!("an unknown record, {kind}"),
                HandoverRecord::End => break,
                record => later.push(record),
            }
        }
        assert!(rest.is_empty(), "{} bytes behind the end", rest.len());

        let refs = self.shard.take_new_refs();
        assert_eq!(refs.len(), names.len());
        later.into_iter().for_each(|record| self.shard.adopt_shared(record, &refs, self.now));
        for (from, _) in &mut self.questions {
            *from = refs.of(*from).unwrap_or(*from);
        }
        true
    }

    /// The clients with connections, in their order.
    fn names(&self) -> Vec<String> {
        let mut live: Vec<_> = self.clients.iter().filter(|(_, client)| !client.is_gone).collect();
        live.sort_by_key(|(_, client)| client.id);
        live.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// Everything, written down.
    fn state(&mut self, names: &[String]) -> Option<Vec<u8>> {
        let (release, boot_id) = ("0.1.0".into(), "this boot".into());
        let mut state = Vec::new();
        handover::begin(&HandoverHeader { release, boot_id, shards: 1 }, &mut state);
        let shared = self.shard.freeze_shared();
        shared.iter().for_each(|record| handover::write(record, &mut state));
        for (number, name) in names.iter().enumerate() {
            let client = &self.clients[name];
            let inbox = match &client.inbox {
                Some(inbox) => Some(inbox.freeze()?),
                None => None,
            };
            let session = self.shard.freeze(client.id)?;
            let listener = ([127, 0, 0, 1], 80).into();
            let connection = FrozenConnection::new(number as u32, listener, session);
            let connection = FrozenConnection { inbox, ..connection };
            handover::write(&HandoverRecord::Connection(Box::new(connection)), &mut state);
        }
        handover::end(&mut state);
        Some(state)
    }

    fn adopt(&mut self, connection: FrozenConnection, names: &[String]) {
        let client = self.clients.get_mut(&names[connection.fd as usize]).unwrap();
        client.inbox = connection.inbox.map(|inbox| Box::new(MessageInbox::thaw(inbox).unwrap()));
        client.id = self.shard.adopt(connection.session, self.now).unwrap().id;
    }
}
