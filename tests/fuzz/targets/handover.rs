//! The state of another process: whatever bytes it has, nothing panics, and what was taken over
//! from it lives and ends like any other session.

use super::conversation::settings::{limits, settings};
use super::{Input, NOW};
use fanfare::dialect::{Kind, Settings};
use fanfare::feed::Intake;
use fanfare::feed::unix::Publisher;
use fanfare::handover::{self, HandoverHeader, HandoverRecord, RecordPlace};
use fanfare::message::{self, Interest, MessageInbox};
use fanfare::metrics::Metrics;
use fanfare::outbox::Sent;
use fanfare::service::verification::Verification;
use fanfare::service::webhook::WebhookService;
use fanfare::service::{Answers, HttpService as _, NewRefs, Question, Service as _};
use fanfare::shard::{ConnectionEvent, Id, Outgoing, Shard};
use fanfare::wheel::Now;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Maximum number of records that are taken over.
const RECORDS_MAX: usize = 50;
/// A masked text frame of a client.
const FRAME: &[u8] = b"\x81\x82\0\0\0\0{}";
/// Events of all dialects that the sessions of the seeds get.
const FEED: &[u8] = br#"channel {"channel":"chat:1","data":{"message":"x"}}
echo/app-id {"name":"e","channels":["room","presence-room","cache-room"],"data":"1"}
event/cell {"Type":"t","Object":"o"}
topic/cell/box/col.topic.name {"From":"https://cell/","Body":1}
wazo {"name":"user_created","data":{},"required_acl":"events.user_created"}
"#;

/// The first byte chooses: the bytes of a state, or its records, one a line.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let state = if input.byte() == b'!' { input.0.to_vec() } else { written(input.0) };
    let Ok((_, mut rest)) = handover::open(&state) else { return };
    let mut stage = Stage::new();
    let mut later = Vec::new();
    for _ in 0..RECORDS_MAX {
        let Ok((record, behind)) = handover::read(rest) else { break };
        assert!(behind.len() < rest.len(), "nothing was read");
        rest = behind;
        match record {
            HandoverRecord::End => break,
            HandoverRecord::Connection(_) | HandoverRecord::Shared(..) => stage.adopt(record),
            record => later.push(record),
        }
    }
    let refs = stage.shard.take_new_refs();
    later.into_iter().for_each(|record| stage.adopt_later(record, &refs));
    stage.live();
    stage.end();
}

/// A state of the lines' records: a digit that is the kind, then the JSON and blobs, separated by
/// NULs.
fn written(lines: &[u8]) -> Vec<u8> {
    let mut state = Vec::new();
    let (release, boot_id) = (String::new(), String::new());
    handover::begin(&HandoverHeader { release, boot_id, shards: 1 }, &mut state);
    for line in lines.split(|byte| *byte == b'\n') {
        let Some((kind, line)) = line.split_first() else { continue };
        let mut parts = line.split(|byte| *byte == 0);
        let put = |part: &[u8], state: &mut Vec<u8>| {
            state.extend_from_slice(&(part.len() as u64).to_le_bytes());
            state.extend_from_slice(part);
        };
        state.push(kind.wrapping_sub(b'0'));
        put(parts.next().unwrap_or_default(), &mut state);
        let blobs: Vec<&[u8]> = parts.take(9).collect();
        state.push(blobs.len() as u8);
        blobs.into_iter().for_each(|blob| put(blob, &mut state));
    }
    handover::end(&mut state);
    state
}

/// The process that takes over.
struct Stage {
    shard: Shard,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    verification: Verification,
    webhooks: WebhookService,
    now: Now,
    there: BTreeSet<Id>,
    inboxes: Vec<(Id, Option<Box<MessageInbox>>)>,
}

impl Stage {
    fn new() -> Self {
        let settings = settings(Kind::PersoniumEvent, true);
        let metrics = Arc::new(Metrics::default());
        let shard = Shard::new(Arc::clone(&settings), limits(), Arc::clone(&metrics), NOW);
        let mut verification = Verification::new(Arc::clone(&metrics.verification));
        let remotes = Kind::ALL.iter().map(|kind| kind.verifier(&settings)?.remote().cloned());
        verification.configure(&remotes.collect(), NOW, &mut Answers::new());
        let mut webhooks = WebhookService::new(Arc::default(), Arc::default());
        webhooks.configure(fanfare::dialect::webhook_recipients(&settings), NOW);
        Self {
            shard,
            settings,
            metrics,
            verification,
            webhooks,
            now: NOW,
            there: BTreeSet::new(),
            inboxes: Vec::new(),
        }
    }

    fn adopt(&mut self, record: HandoverRecord) {
        assert!(matches!(record.place(3), RecordPlace::Shard(0..3)));
        match record {
            HandoverRecord::Connection(connection) => {
                let inbox = connection.inbox.map(MessageInbox::thaw);
                let Ok(new) = self.shard.adopt(connection.session, self.now) else { return };
                self.there.insert(new.id);
                self.inboxes.push((new.id, inbox.flatten().map(Box::new)));
            }
            record => self.shard.adopt_shared(record, &NewRefs::default(), self.now),
        }
    }

    fn adopt_later(&mut self, record: HandoverRecord, refs: &NewRefs) {
        match record {
            HandoverRecord::Token(kind, token) => {
                let mut answers = Answers::new();
                self.verification.import(kind.id(), *token, refs, self.now, &mut answers);
                for (to, answer) in answers {
                    self.shard.answer(to, answer, self.now);
                }
            }
            HandoverRecord::Webhook(webhook) => self.webhooks.import(*webhook, self.now),
            record => self.shard.adopt_shared(record, refs, self.now),
        }
    }

    /// Clients go on with what they were saying, events come, and time passes.
    fn live(&mut self) {
        self.flush();
        let (now, shard) = (self.now, &mut self.shard);
        for (id, inbox) in &mut self.inboxes {
            let interest = shard.interest(*id);
            if interest == Interest::Nothing {
                continue;
            }
            let read = message::read(inbox, &mut FRAME.to_vec(), interest, |received| {
                shard.receive(*id, received, now);
                shard.interest(*id)
            });
            if let Err(violation) = read {
                shard.violate(*id, violation, now);
            }
        }
        let (mut publications, mut replies) = (Vec::new(), Vec::new());
        let mut intake = Intake::new(Kind::ALL.to_vec(), Arc::clone(&self.settings));
        Publisher::default().read(
            FEED,
            1024,
            &mut intake,
            now,
            |publication| publications.push(Arc::new(publication)),
            &mut replies,
        );
        publications.iter().for_each(|publication| self.shard.deliver(publication, now));
        self.flush();
        for seconds in [1, 30, 60, 400] {
            self.now.monotonic_ns += seconds * 1_000_000_000;
            self.now.unix_ms += seconds * 1000;
            self.shard.tick(self.now);
            self.flush();
            self.verification.tick(self.now, &mut Answers::new());
            while self.verification.next_call(self.now).is_some() {}
            while self.webhooks.next_call(self.now).is_some() {}
        }
    }

    fn flush(&mut self) {
        for (from, question) in self.shard.take_questions() {
            match question {
                Question::Presence(question) => {
                    self.shard.ask_presence(from, *question, self.now);
                }
                Question::Token(question) => {
                    self.verification.ask(from, question, self.now, &mut Answers::new());
                }
                _ => {}
            }
        }
        for outgoing in self.shard.take_outgoing() {
            match outgoing {
                Outgoing::Publication(publication) => {
                    self.shard.deliver(&Arc::new(publication), self.now);
                }
                Outgoing::Answer(connection, answer) => {
                    self.shard.answer(connection, answer, self.now);
                }
            }
        }
        self.shard.flush(self.now, &mut |_, bytes: &[u8]| Sent::Bytes(bytes.len()));
        for event in self.shard.take_events() {
            if let ConnectionEvent::Gone(id) = event {
                assert!(self.there.remove(&id), "{id} is gone twice");
            }
        }
    }

    /// Ends all connections and asserts that they leave nothing.
    fn end(mut self) {
        for id in self.there.clone() {
            self.shard.lost(id, self.now);
        }
        self.flush();
        self.shard.tick(Now { monotonic_ns: self.now.monotonic_ns + 1_000_000_000, ..self.now });
        assert!(self.shard.is_empty() && self.there.is_empty(), "{:?} stay", self.there);
        let Metrics { sessions, subscriptions, outbox_bytes, connections, .. } = &*self.metrics;
        assert_eq!((subscriptions.get(), outbox_bytes.get(), connections.get()), (0, 0, 0));
        assert!(sessions.iter().all(|sessions| sessions.get() == 0));
        assert_eq!(self.metrics.orphaned_subscriptions.get(), 0);
        for app in &self.settings.echo.apps {
            assert_eq!(app.connections.load(Relaxed), 0, "connections of {}", app.id);
        }
    }
}
