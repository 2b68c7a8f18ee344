//! A shard, its clients and its surroundings: services that answer as the script says, and sockets
//! that may be full.

mod handover;

use super::settings::{OUTBOX_BYTES_MAX, SECRET, limits, path, settings};
use crate::targets::NOW;
use crate::targets::wire::Wire;
use fanfare::dialect::{Kind, Settings, Upgrade};
use fanfare::feed::Intake;
use fanfare::feed::unix::Publisher;
use fanfare::message::{self, Interest, MessageInbox};
use fanfare::metrics::Metrics;
use fanfare::outbox::Sent;
use fanfare::service::topic::{
    MessageDraft, Position, Recipient, TopicDelivery, TopicMessage, TopicQuestion,
};
use fanfare::service::verification::{TokenAnswer, TokenQuestion};
use fanfare::service::{Answer, ConnectionRef, Question};
use fanfare::shard::{ConnectionEvent, Id, Outgoing, Shard};
use fanfare::wheel::Now;
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// Bytes that may wait for a client beyond its limit: one message more, and its overhead. An event
/// may be as long as the script, and take six bytes for each of its own.
const MORE_BYTES_MAX: usize = 64 * 1024;
/// Maximum length of a line of the feed.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Seconds after the last client until no state remains: caches, presence, and questions about a
/// client.
const ALL_OVER_S: u64 = 400;
/// The answer to an accepted handshake.
const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// One client, from its connection on.
#[derive(Default)]
struct StageClient {
    id: Id,
    inbox: Option<Box<MessageInbox>>,
    /// The answer to its handshake, until that is complete.
    head: Vec<u8>,
    is_session: bool,
    wire: Wire,
    is_blocked: bool,
    is_over: bool,
    /// Whether it has its new number while connections are passed.
    is_passed: bool,
    serial: Option<ConnectionRef>,
}

/// Headers of the clients that connect next.
#[derive(Default)]
struct Headers {
    host: String,
    token: String,
    auth: String,
    origin: Option<String>,
    offer: String,
    remote: String,
}

pub(super) struct Stage {
    kind: Kind,
    kinds: Vec<Kind>,
    settings: Arc<Settings>,
    shard: Shard,
    metrics: Arc<Metrics>,
    pub(super) now: Now,
    clients: BTreeMap<u8, StageClient>,
    headers: Headers,
    publisher: Publisher,
    intake: Intake,
    script_bytes: usize,
    /// Open connections, those without a client included.
    there: BTreeSet<Id>,
    /// The current question about a token of each connection.
    asked: BTreeMap<(Id, u32), u32>,
    /// Questions about tokens that the verification has not forgotten.
    remembered: BTreeSet<(Id, u32, u32)>,
    /// Connections that have asked about topics and not yet reported their end.
    topics: BTreeSet<(Id, u32)>,
}

impl Stage {
    pub(super) fn new(kind: Kind, script: &[u8]) -> Self {
        let settings = settings(kind, script.starts_with(b"ask\n"));
        let metrics = Arc::new(Metrics::default());
        // Of the dialects that accept the path `/`, only the one under test.
        let takes_root = |kind: &Kind| matches!(kind, Kind::Wazo | Kind::Channel);
        let kinds = Kind::ALL
            .iter()
            .copied()
            .filter(|other| *other == kind || !takes_root(other))
            .collect();
        Self {
            kind,
            kinds,
            shard: Shard::new(Arc::clone(&settings), limits(), Arc::clone(&metrics), NOW),
            metrics,
            now: NOW,
            clients: BTreeMap::new(),
            headers: Headers::default(),
            publisher: Publisher::default(),
            intake: Intake::new(Kind::ALL.to_vec(), Arc::clone(&settings)),
            settings,
            script_bytes: script.len(),
            there: BTreeSet::new(),
            asked: BTreeMap::new(),
            remembered: BTreeSet::new(),
            topics: BTreeSet::new(),
        }
    }

    pub(super) fn set_header(&mut self, name: &str, value: &str) {
        let value = value.to_owned();
        match name {
            "host" => self.headers.host = value,
            "token" => self.headers.token = value,
            "auth" => self.headers.auth = value,
            "origin" => self.headers.origin = Some(value),
            "offer" => self.headers.offer = value,
            _ => self.headers.remote = value,
        }
    }

    /// Connects a client. An earlier client of the same name loses its connection.
    pub(super) fn connect(&mut self, client: u8, target: &str) {
        self.lose(client);
        let target = if target.is_empty() { path(self.kind) } else { target };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let id = self.shard.accept(self.now);
        assert!(self.there.insert(id), "the number {id} is taken");
        self.clients.insert(client, StageClient { id, ..StageClient::default() });
        let upgrade = Upgrade {
            path,
            query,
            host: &self.headers.host,
            auth_token: &self.headers.token,
            authorization: &self.headers.auth,
            remote: &self.headers.remote,
            origin: self.headers.origin.as_deref().map(str::as_bytes),
            subprotocols: &self.headers.offer,
        };
        if !self.shard.upgrade(id, &upgrade, &self.kinds, ACCEPTED, self.now) {
            self.shard.lost(id, self.now);
        }
        self.flush();
    }

    /// Sends a complete masked frame from a client.
    pub(super) fn send(&mut self, client: u8, opcode: OpCode, payload: &[u8]) {
        let mut frame = Vec::new();
        fanfare::frame::put_frame(opcode, payload, &mut frame);
        frame[1] |= 0x80;
        // A mask of zeros leaves the payload unchanged.
        let header = frame.len() - payload.len();
        frame.splice(header..header, [0; 4]);
        self.send_bytes(client, &mut frame);
    }

    /// Sends a text message from a client, signed where it asks for it, as the app's server would.
    pub(super) fn say(&mut self, client: u8, text: &[u8]) {
        let socket = self.clients.get(&client).and_then(|client| client.wire.texts.first());
        let signed = socket.and_then(|hello| signed(hello, text));
        let text = signed.as_deref().map_or(text, str::as_bytes);
        self.send(client, OpCode::Data(Data::Text), text);
    }

    pub(super) fn send_bytes(&mut self, client: u8, bytes: &mut [u8]) {
        let Some(client) = self.clients.get_mut(&client).filter(|client| !client.is_over) else {
            return;
        };
        let (id, shard, now) = (client.id, &mut self.shard, self.now);
        if shard.is_opening(id) || shard.interest(id) == Interest::Nothing {
            return;
        }
        let read = message::read(&mut client.inbox, bytes, shard.interest(id), |received| {
            shard.receive(id, received, now);
            shard.interest(id)
        });
        if let Err(violation) = read {
            client.inbox = None;
            shard.violate(id, violation, now);
        }
        self.flush();
    }

    /// Ends a client's connection with an error.
    pub(super) fn lose(&mut self, client: u8) {
        if let Some(client) = self.clients.get(&client).filter(|client| !client.is_over) {
            self.shard.lost(client.id, self.now);
            self.flush();
        }
    }

    pub(super) fn block(&mut self, client: u8) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.is_blocked = true;
        }
    }

    pub(super) fn unblock(&mut self, client: u8) {
        let Some(client) = self.clients.get_mut(&client) else { return };
        client.is_blocked = false;
        if !client.is_over {
            self.shard.writable(client.id);
            self.flush();
        }
    }

    pub(super) fn feed(&mut self, line: &[u8]) {
        let (mut publications, mut replies) = (Vec::new(), Vec::new());
        let line = [line, b"\n"].concat();
        self.publisher.read(
            &line,
            LINE_BYTES_MAX,
            &mut self.intake,
            self.now,
            |publication| publications.push(Arc::new(publication)),
            &mut replies,
        );
        let stored = self.publisher.take_appends().iter().map(|_| Ok(())).collect();
        self.publisher.settle(stored, &mut replies);
        publications.iter().for_each(|publication| self.shard.deliver(publication, self.now));
        self.flush();
    }

    /// Lets seconds pass with a tick every 250 ms, as in the daemon's loop.
    pub(super) fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.now.monotonic_ns += 250_000_000;
            self.now.unix_ms += 250;
            self.shard.tick(self.now);
            self.flush();
        }
    }

    /// Answers the last question of a client about its token.
    pub(super) fn verified(&mut self, client: u8, answer: TokenAnswer) {
        let Some(to) = self.clients.get(&client).and_then(|client| client.serial) else { return };
        let Some(attempt) = self.asked.get(&(to.id, to.serial)).copied() else { return };
        if !matches!(answer, TokenAnswer::Granted(_)) {
            // The verification forgets a question with such an answer.
            self.remembered.remove(&(to.id, to.serial, attempt));
        }
        self.shard.answer(to, Answer::Token(attempt, answer), self.now);
        self.flush();
    }

    /// Sends a service's answer. The owner of the topics answers only connections that have asked
    /// it.
    pub(super) fn answer(&mut self, client: u8, answer: Answer) {
        let Some(to) = self.clients.get(&client).and_then(|client| client.serial) else { return };
        if matches!(answer, Answer::Topic(_)) && !self.topics.contains(&(to.id, to.serial)) {
            return;
        }
        self.shard.answer(to, answer, self.now);
        self.flush();
    }

    /// Delivers a message of the topic that a client consumes.
    pub(super) fn deliver(&mut self, client: u8, payload: &[u8]) {
        let Some(connection) = self.clients.get(&client).and_then(|client| client.serial) else {
            return;
        };
        if !self.topics.contains(&(connection.id, connection.serial)) {
            return;
        }
        let draft = MessageDraft::new(&TopicMessage { payload, ..TopicMessage::default() });
        let message = Arc::new(draft.store(Position::FIRST, 0, 0));
        let recipient =
            Recipient { connection, redeliveries: 1, partition: None, wants_receipt: true };
        let delivery = TopicDelivery { message, recipients: [recipient].into_iter().collect() };
        self.shard.take_delivery(&delivery, self.now);
        self.flush();
    }

    pub(super) fn outage(&mut self, is_away: bool) {
        self.shard.outage(self.kind, is_away.then_some((1011, "the bus is away")), self.now);
        self.flush();
    }

    pub(super) fn drain(&mut self) {
        self.shard.drain(self.now);
        self.flush();
    }

    /// Ends a turn as the daemon does.
    fn flush(&mut self) {
        while self.shard.has_questions() {
            for (from, question) in self.shard.take_questions() {
                self.ask(from, question);
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
        let clients = &mut self.clients;
        self.shard.flush(self.now, &mut |id: Id, bytes: &[u8]| {
            let client = clients.values_mut().find(|client| client.id == id && !client.is_over);
            match client {
                Some(client) if client.is_blocked => Sent::Blocked,
                Some(client) => {
                    client.take(bytes);
                    Sent::Bytes(bytes.len())
                }
                None => Sent::Broken,
            }
        });
        for event in self.shard.take_events() {
            match event {
                ConnectionEvent::Gone(id) => {
                    assert!(self.there.remove(&id), "{id} is gone twice");
                    let client = self.clients.values_mut().find(|it| it.id == id && !it.is_over);
                    client.into_iter().for_each(|client| client.is_over = true);
                }
                ConnectionEvent::Probe(id) => self.shard.probed(id, false, self.now),
                _ => {}
            }
        }
    }

    /// Takes a question for a service. The presence answers at once, the others when the script
    /// says so.
    fn ask(&mut self, from: ConnectionRef, question: Question) {
        let client = self.clients.values_mut().find(|it| it.id == from.id && !it.is_over);
        if let Some(client) = client {
            client.serial = Some(from);
        }
        let (id, serial) = (from.id, from.serial);
        match question {
            Question::Presence(question) => self.shard.ask_presence(from, *question, self.now),
            Question::Token(TokenQuestion::Verify { attempt, .. }) => {
                self.asked.insert((id, serial), attempt);
                assert!(self.remembered.insert((id, serial, attempt)), "{attempt} is asked twice");
            }
            Question::Token(TokenQuestion::Forget { attempt }) => {
                let was_there = self.remembered.remove(&(id, serial, attempt));
                assert!(was_there, "{attempt} was not asked, or is forgotten");
            }
            Question::Token(TokenQuestion::Doubt { attempt }) => {
                assert!(self.remembered.contains(&(id, serial, attempt)));
            }
            Question::Topic(TopicQuestion::Gone) => {
                assert!(self.topics.remove(&(id, serial)), "gone twice, or never there");
            }
            Question::Topic(TopicQuestion::Inquire(_) | TopicQuestion::Probed { .. }) => {}
            Question::Topic(_) => drop(self.topics.insert((id, serial))),
            Question::Webhook(_) | Question::Relay(_) => {}
        }
    }

    /// Asserts what holds after every step.
    pub(super) fn check(&self) {
        assert_eq!(self.metrics.orphaned_subscriptions.get(), 0);
        let most = OUTBOX_BYTES_MAX + MORE_BYTES_MAX + 8 * self.script_bytes;
        let waiting = self.metrics.outbox_bytes.get() as usize;
        assert!(waiting <= most * self.there.len(), "{waiting} bytes wait for clients");
        assert_eq!(self.shard.len(), self.there.len());
    }

    /// Ends all clients and asserts that no state remains.
    pub(super) fn end(mut self) {
        for client in 0..=9 {
            self.unblock(client);
            if client % 2 == 0 {
                self.lose(client);
            }
        }
        self.drain();
        self.wait(15);
        for client in 0..=9 {
            self.lose(client);
        }
        self.clients.values().filter(|it| it.is_session).for_each(|client| client.wire.end());
        assert!(self.shard.is_empty() && self.there.is_empty(), "{:?} stay", self.there);
        assert_eq!(self.metrics.subscriptions.get(), 0, "subscriptions are left");
        assert_eq!(self.metrics.outbox_bytes.get(), 0, "bytes wait for clients that are gone");
        assert_eq!(self.metrics.connections.get(), 0);
        assert!(self.metrics.sessions.iter().all(|sessions| sessions.get() == 0));
        assert!(self.remembered.is_empty(), "questions about tokens outlive their sessions");
        assert!(self.topics.is_empty(), "the owner of the topics still knows {:?}", self.topics);
        let apps = &self.settings.echo.apps;
        let counted: usize =
            apps.iter().map(|app| app.connections.load(std::sync::atomic::Ordering::Relaxed)).sum();
        assert_eq!(counted, 0, "connections of apps");
        self.now.monotonic_ns += ALL_OVER_S * 1_000_000_000;
        self.now.unix_ms += ALL_OVER_S * 1000;
        self.wait(1);
        assert!(self.shard.is_idle(), "presence or caches are left");
    }
}

impl StageClient {
    /// Receives the answer to its handshake, then frames.
    fn take(&mut self, bytes: &[u8]) {
        if self.is_session {
            return self.wire.take(bytes);
        }
        self.head.extend_from_slice(bytes);
        let Some(end) = self.head.windows(4).position(|end| end == b"\r\n\r\n") else { return };
        let head = std::str::from_utf8(&self.head[..end]).expect("a head is text");
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        self.is_session = head.starts_with("HTTP/1.1 101");
        if self.is_session {
            let rest = self.head.split_off(end + 4);
            self.wire.take(&rest);
        }
    }
}

/// A message of Echo with its `$AUTH` signed, for the socket that the first message names.
fn signed(hello: &str, text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.contains("$AUTH"))?;
    let hello: Value = serde_json::from_str(hello).ok()?;
    let hello: Value = serde_json::from_str(hello["data"].as_str()?).ok()?;
    let socket = hello["socket_id"].as_str()?;
    let message: Value = serde_json::from_str(text).ok()?;
    let data = &message["data"];
    let wanted = match (data["channel"].as_str(), data["channel_data"].as_str()) {
        (Some(channel), Some(member)) => format!("{socket}:{channel}:{member}"),
        (Some(channel), None) => format!("{socket}:{channel}"),
        _ => format!("{socket}::user::{}", data["user_data"].as_str()?),
    };
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).ok()?;
    mac.update(wanted.as_bytes());
    let digits =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Some(text.replace("$AUTH", &format!("app-key:{digits}")))
}
