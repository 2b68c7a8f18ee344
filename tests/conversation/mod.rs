//! Conversations with a shard, as data: no socket, and a clock that only the script moves.
//!
//! A conversation is a text of one step a line:
//!
//! ```text
//! > {"state":"all"}            the client says this
//! < {"response":"success"…}    and is told exactly this; every frame it is sent has such a line
//! feed event/john.doe {…}      a line of the unix feed
//! wait 60                      seconds pass
//! pong                         the client answers a ping
//! b @ /other/__event           another client, b, comes; `b >`, `b <` and `b pong` are its lines
//! ```
//!
//! `$S` and `$MS` are the present in seconds and milliseconds. A frame that no line expects fails the test.
//! The program that has the conversations says at which `PATH` and `HOST` the first client comes, and of which
//! `KIND` it is, as two dialects take the path `/`.

// Each program uses a part of what is here.
#![allow(dead_code)]

mod handover;

use crate::{HOST, KIND, PATH};
use fanfare::dialect::{Kind, Rng, Settings, Upgrade, channel, personium, wazo};
use fanfare::feed::{Intake, unix::Publisher};
use fanfare::message::{self, Interest, MessageInbox};
use fanfare::metrics::Metrics;
use fanfare::outbox::Sent;
use fanfare::service::webhook::Webhook;
use fanfare::service::{ConnectionRef, Question};
use fanfare::shard::{ConnectionEvent, Id, Limits, Outgoing, Shard};
use fanfare::token::Verifier;
use fanfare::wheel::Now;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The moment that the seeds' own messages bear.
pub(crate) const NOW_S: u64 = 1_518_612_600;

/// A client: what it was sent and has not looked at.
#[derive(Default)]
pub(crate) struct Client {
    pub(crate) id: Id,
    is_gone: bool,
    inbox: Option<Box<MessageInbox>>,
    /// What has come and not been taken apart.
    wire: Vec<u8>,
    heard: VecDeque<String>,
    /// The answer to the request.
    pub(crate) head: String,
    /// What follows it when it is a refusal.
    pub(crate) page: String,
}

/// A shard, its clients, a publisher and the time.
pub(crate) struct Bus {
    pub(crate) shard: Shard,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) now: Now,
    pub(crate) clients: HashMap<String, Client>,
    pub(crate) publisher: Publisher,
    pub(crate) intake: Intake,
    /// What the publisher was answered.
    pub(crate) replies: String,
    /// The header `X-Auth-Token` of those who come.
    pub(crate) auth_token: &'static str,
    /// Their header `Origin`.
    pub(crate) origin: Option<&'static [u8]>,
    /// Their header `Authorization`.
    pub(crate) authorization: &'static str,
    /// Their address.
    pub(crate) remote: &'static str,
    /// Their header `Sec-WebSocket-Protocol`.
    pub(crate) subprotocols: &'static str,
    /// What other services were told.
    pub(crate) webhooks: Vec<Webhook>,
    /// What other nodes were told.
    pub(crate) relays: Vec<Box<str>>,
    /// Questions to services that are not here.
    pub(crate) questions: Vec<(ConnectionRef, Question)>,
    /// The last number that was drawn.
    pub(crate) drawn: Rc<Cell<u64>>,
    /// Whether everything is handed over to another process after each step, while half of what clients are sent
    /// is on the wire: with FANFARE_TEST_HANDOVER=1
    /// every conversation is held so.
    pub(crate) hands_over: bool,
}

impl Bus {
    /// A bus with these settings of Personium's dialects.
    pub(crate) fn new(personium: personium::PersoniumSettings) -> Self {
        Self::of(Settings { personium, ..Settings::default() })
    }

    pub(crate) fn of(settings: Settings) -> Self {
        let now = Now { monotonic_ns: 5_000_000_000, unix_ms: NOW_S * 1000 };
        let (metrics, settings) = (Arc::new(Metrics::default()), Arc::new(settings));
        let drawn = Rc::default();
        Self {
            shard: Shard::new(Arc::clone(&settings), Limits::default(), Arc::clone(&metrics), now)
                .drawing(rng(&drawn)),
            metrics,
            now,
            clients: HashMap::new(),
            publisher: Publisher::default(),
            intake: Intake::new(Kind::ALL.to_vec(), Arc::clone(&settings)),
            replies: String::new(),
            auth_token: "",
            origin: None,
            authorization: "",
            remote: "",
            subprotocols: "",
            webhooks: Vec::new(),
            relays: Vec::new(),
            questions: Vec::new(),
            drawn,
            hands_over: std::env::var_os("FANFARE_TEST_HANDOVER").is_some(),
        }
    }

    /// A bus where every dialect knows these tokens.
    pub(crate) fn with(tokens: &str) -> Self {
        let verifier = || verifier(tokens);
        Self::of(Settings {
            personium: personium::PersoniumSettings {
                verifier: Some(verifier()),
                ..Default::default()
            },
            channel: channel::ChannelSettings { verifier: Some(verifier()), ..Default::default() },
            wazo: wazo::WazoSettings { verifier: Some(verifier()), ..Default::default() },
            ..Default::default()
        })
    }

    /// A bus that takes any token.
    pub(crate) fn open() -> Self {
        Self::of(Settings {
            personium: personium::PersoniumSettings { anonymous: true, ..Default::default() },
            wazo: wazo::WazoSettings { anonymous: true, ..Default::default() },
            ..Settings::default()
        })
    }

    /// Runs a conversation with a client that has come already.
    pub(crate) fn talk(&mut self, script: &str) {
        if !self.clients.contains_key("") {
            self.connect("", PATH, HOST);
            assert_eq!(self.next("").as_deref(), Some("101"));
        }
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, step) = match line.split_at_checked(2) {
                Some((name, step))
                    if name.ends_with(' ') && name.starts_with(|c: char| c.is_alphabetic()) =>
                {
                    (name.trim(), step)
                }
                _ => ("", line),
            };
            let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
            let rest = rest
                .replace("$MS", &self.now.unix_ms.to_string())
                .replace("$S", &(self.now.unix_ms / 1000).to_string());
            if verb == "<" {
                assert_eq!(self.next(name).as_deref(), Some(rest.as_str()), "at {line}");
                continue;
            }
            self.nothing_is_left(line);
            match verb {
                ">" => self.say(name, &rest),
                "@" => self.connect(name, &rest, HOST),
                "feed" => self.feed(&rest),
                "wait" => self.wait(rest.parse().unwrap()),
                "pong" => self.send(name, OpCode::Control(Control::Pong), b""),
                _ => panic!("what is {line}?"),
            }
        }
        self.nothing_is_left("the end");
    }

    pub(crate) fn nothing_is_left(&self, before: &str) {
        for (name, client) in &self.clients {
            assert!(client.heard.is_empty(), "before {before}: {name} heard {:?}", client.heard);
        }
    }

    pub(crate) fn connect(&mut self, name: &str, path: &str, host: &str) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let id = self.shard.accept(self.now);
        let (auth_token, origin, subprotocols) = (self.auth_token, self.origin, self.subprotocols);
        let (authorization, remote) = (self.authorization, self.remote);
        let upgrade =
            Upgrade { path, query, host, auth_token, authorization, remote, origin, subprotocols };
        let response = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let claimed = self.shard.upgrade(id, &upgrade, &kinds(), response, self.now);
        self.clients.insert(name.to_owned(), Client { id, ..Client::default() });
        if !claimed {
            self.shard.lost(id, self.now);
        }
        self.flush();
    }

    pub(crate) fn say(&mut self, name: &str, text: &str) {
        self.send(name, OpCode::Data(Data::Text), text.as_bytes());
    }

    /// A whole masked frame of a client.
    pub(crate) fn send(&mut self, name: &str, opcode: OpCode, payload: &[u8]) {
        let mut frame = Vec::new();
        fanfare::frame::put_frame(opcode, payload, &mut frame);
        // With a mask of zeros the payload stays as it is.
        frame[1] |= 0x80;
        let header = frame.len() - payload.len();
        frame.splice(header..header, [0; 4]);
        self.send_bytes(name, &mut frame);
    }

    pub(crate) fn send_bytes(&mut self, name: &str, bytes: &mut [u8]) {
        let client = self.clients.get_mut(name).unwrap();
        let (id, shard, now) = (client.id, &mut self.shard, self.now);
        if shard.interest(id) == Interest::Nothing {
            return;
        }
        let read = message::read(&mut client.inbox, bytes, shard.interest(id), |received| {
            shard.receive(id, received, now);
            shard.interest(id)
        });
        if let Err(violation) = read {
            shard.violate(id, violation, now);
        }
        self.flush();
    }

    pub(crate) fn feed(&mut self, line: &str) {
        let (mut publications, mut replies) = (Vec::new(), Vec::new());
        self.publisher.read(
            format!("{line}\n").as_bytes(),
            1024 * 1024,
            &mut self.intake,
            self.now,
            |publication| publications.push(Arc::new(publication)),
            &mut replies,
        );
        self.replies.push_str(std::str::from_utf8(&replies).unwrap());
        publications.iter().for_each(|publication| self.shard.deliver(publication, self.now));
        self.flush();
    }

    /// Lets seconds pass, as the daemon's loop does: a tick every quarter of one.
    pub(crate) fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.now.monotonic_ns += 250_000_000;
            self.now.unix_ms += 250;
            self.shard.tick(self.now);
            self.flush();
        }
    }

    pub(crate) fn flush(&mut self) {
        // What presence is asked may have it ask for webhooks.
        while self.shard.has_questions() {
            for (from, question) in self.shard.take_questions() {
                match question {
                    Question::Presence(question) => {
                        self.shard.ask_presence(from, *question, self.now)
                    }
                    Question::Webhook(webhook) => self.webhooks.push(*webhook),
                    Question::Relay(text) => self.relays.push(text),
                    question => self.questions.push((from, question)),
                }
            }
        }
        for outgoing in self.shard.take_outgoing() {
            match outgoing {
                Outgoing::Publication(publication) => {
                    self.shard.deliver(&Arc::new(publication), self.now)
                }
                Outgoing::Answer(connection, answer) => {
                    self.shard.answer(connection, answer, self.now)
                }
            }
        }
        let mut words = self.send_out(self.hands_over);
        if self.hands_over {
            self.hand_over();
            // Where that has done nothing, the sockets take the rest all the same.
            for client in self.clients.values().filter(|client| !client.is_gone) {
                self.shard.writable(client.id);
            }
            words.extend(self.send_out(false));
        }

        for client in self.clients.values_mut().filter(|client| !client.wire.is_empty()) {
            let wire = std::mem::take(&mut client.wire);
            client.listen(&wire);
        }
        for (name, word) in words {
            self.clients.get_mut(&name).unwrap().heard.push_back(word.to_owned());
        }
    }

    /// Has the clients' sockets take what they are sent, or the first half of it. Returns what becomes of which
    /// client's connection.
    fn send_out(&mut self, takes_half: bool) -> Vec<(String, &'static str)> {
        let clients = &mut self.clients;
        self.shard.flush(self.now, &mut |id: Id, bytes: &[u8]| {
            let client = clients.values_mut().find(|client| client.has(id)).unwrap();
            let taken = if takes_half { bytes.len().div_ceil(2) } else { bytes.len() };
            client.wire.extend_from_slice(&bytes[..taken]);
            Sent::Bytes(taken)
        });

        let mut words = Vec::new();
        for event in self.shard.take_events() {
            let (id, word) = match event {
                ConnectionEvent::Gone(id) => (id, "gone"),
                ConnectionEvent::Finished(id) => (id, "end"),
                ConnectionEvent::Blocked(_) if takes_half => continue,
                ConnectionEvent::Blocked(id) => (id, "blocked"),
                ConnectionEvent::Ready(id) => (id, "ready"),
                ConnectionEvent::Probe(id) => (id, "probe"),
                ConnectionEvent::Opened(_) => continue,
            };
            let mut clients = self.clients.iter_mut();
            let (name, client) = clients.find(|(_, client)| client.has(id)).unwrap();
            client.is_gone |= word == "gone";
            words.push((name.clone(), word));
        }
        words
    }

    /// The next thing that a client was told.
    pub(crate) fn next(&mut self, name: &str) -> Option<String> {
        self.clients.get_mut(name).unwrap().heard.pop_front()
    }

    /// Everything that a client was told since somebody looked.
    pub(crate) fn heard(&mut self, name: &str) -> Vec<String> {
        self.clients.get_mut(name).unwrap().heard()
    }

    /// Says something and returns what is answered.
    pub(crate) fn answers(&mut self, text: &str) -> Vec<String> {
        self.say("", text);
        self.heard("")
    }
}

/// What the listener speaks: of the dialects that take the path `/`, only the one that this is about.
fn kinds() -> Vec<Kind> {
    let takes_root = |kind: &Kind| matches!(kind, Kind::Wazo | Kind::Channel);
    Kind::ALL.iter().copied().filter(|kind| *kind == KIND || !takes_root(kind)).collect()
}

/// Numbers that count up, also in the next process.
fn rng(drawn: &Rc<Cell<u64>>) -> Rng {
    let drawn = Rc::clone(drawn);
    Box::new(move || {
        drawn.set(drawn.get() + 1);
        drawn.get()
    })
}

/// The verifier of a list of tokens.
pub(crate) fn verifier(tokens: &str) -> Verifier {
    let settings = toml::from_str("static = { file = 'tokens.toml' }").unwrap();
    Verifier::new(&settings, Some(tokens.as_bytes())).unwrap()
}

impl Client {
    /// Whether it has the connection with this number, which others may have had before.
    fn has(&self, id: Id) -> bool {
        self.id == id && !self.is_gone
    }

    /// Everything that it was told since somebody looked.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        self.heard.drain(..).collect()
    }

    /// Takes apart what has come: every write of the shard ends with a whole frame.
    pub(crate) fn listen(&mut self, wire: &[u8]) {
        let mut rest = wire;
        if self.head.is_empty() {
            let end = rest.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            self.head = String::from_utf8(rest[..end].to_vec()).unwrap();
            let status = &self.head["HTTP/1.1 ".len()..][..3];
            self.heard.push_back(status.to_owned());
            // The page of a refusal is for whoever reads it.
            rest = &rest[end..];
            if status != "101" {
                self.page = String::from_utf8(std::mem::take(&mut rest).to_vec()).unwrap();
            }
        }
        while let [first, second, tail @ ..] = rest {
            let (length, tail) = match second {
                126 => (usize::from(u16::from_be_bytes([tail[0], tail[1]])), &tail[2..]),
                127 => (u64::from_be_bytes(tail[..8].try_into().unwrap()) as usize, &tail[8..]),
                short => (usize::from(*short), tail),
            };
            let payload = &tail[..length];
            rest = &tail[length..];
            self.heard.push_back(match first {
                0x81 => String::from_utf8(payload.to_vec()).unwrap(),
                0x88 => match payload {
                    [high, low, reason @ ..] => {
                        let code = u16::from_be_bytes([*high, *low]);
                        format!("close {code} {}", String::from_utf8_lossy(reason))
                            .trim_end()
                            .to_owned()
                    }
                    _ => "close".to_owned(),
                },
                0x89 => format!("ping {payload:?}"),
                0x8A => format!("pong {payload:?}"),
                other => panic!("a frame that starts with {other:#x}"),
            });
        }
        assert!(rest.is_empty(), "half a frame: {rest:?}");
    }
}
