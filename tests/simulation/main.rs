//! A thousand sessions on a clock and a network that are made up, held at every step against a model that
//! knows exactly what each must be told.
//!
//! Clients come, present tokens, subscribe, let their tokens run out, revive, stop reading, read on, vanish,
//! break the protocol, answer pings or do not; frames arrive in halves; events are fed in bursts. Whatever
//! the shard writes to a socket is compared with what the model says is due there, byte by byte, so a frame
//! that is lost, doubled, cut or out of order shows at once, and so does a session that is called slow
//! without being it.
//!
//! `FANFARE_SEED` chooses the seed, which is printed; `FANFARE_LONG=1` makes ten times as many steps.

#![allow(clippy::unwrap_used)]

mod handover;
mod model;
mod network;

use fanfare::dialect::{Kind, Settings, Upgrade, personium};
use fanfare::feed::Intake;
use fanfare::frame::Publication;
use fanfare::metrics::Metrics;
use fanfare::outbox::Sent;
use fanfare::reason::Reason;
use fanfare::shard::{ConnectionEvent, Id, Limits, Outgoing, Shard, Transmit};
use fanfare::token::Verifier;
use fanfare::wheel::Now;
use model::{DialectTally, Occasion, Phase, Say, Session};
use network::{Client, Mode};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

const CLIENTS: usize = 1000;
const STEPS: usize = 700;
const START_S: u64 = 1_518_612_600;
const CELLS: [&str; 4] = ["cell", "cell1", "john.doe", "x"];
const NAMES: [&str; 9] = ["", "a", "ab", "abc", "b", "ba", "chat", "chat.more", "c"];
const RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// Sebastiano Vigna's splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True `percent` times in a hundred.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn pattern(&mut self) -> String {
        if self.chance(20) { "*".to_owned() } else { self.pick(&NAMES).to_owned() }
    }
}

/// One shard with its clients.
struct Node {
    shard: Shard,
    metrics: Arc<Metrics>,
    clients: BTreeMap<Id, Client>,
    tally: DialectTally,
}

/// The sockets of a node, of which several are sent to at once.
struct SimulatedSockets<'a> {
    clients: &'a mut BTreeMap<Id, Client>,
    batch: usize,
}

impl Transmit for SimulatedSockets<'_> {
    fn batch_max(&self) -> usize {
        self.batch
    }

    fn send(&mut self, id: Id, bytes: &[u8]) -> Sent {
        self.clients.get_mut(&id).expect("it is connected").take(id, bytes)
    }

    fn send_all(&mut self, batch: &[(Id, &[u8])], sent: &mut Vec<Sent>) {
        assert!(batch.len() <= self.batch);
        sent.extend(batch.iter().map(|(id, bytes)| self.send(*id, bytes)));
    }
}

struct World {
    random: Random,
    now: Now,
    nodes: Vec<Node>,
    intake: Intake,
    /// Published by clients in the turn before.
    waiting: Vec<(Arc<Publication>, Occasion)>,
    fed: u64,
    /// Whether other processes take the nodes over now and then.
    hands_over: bool,
}

/// The tokens that there are: one for each 50 seconds of the clock, to read or to write.
fn tokens() -> String {
    let mut tokens = String::new();
    for until_s in (START_S..START_S + 30_000).step_by(50) {
        for (letter, scope) in [('r', "event-read"), ('w', "event")] {
            tokens += &format!(
                "[[token]]\ntoken = '{letter}{until_s}'\naud = {CELLS:?}\nscope = '{scope}'\nexpires_at = {until_s}\n"
            );
        }
    }
    tokens
}

fn settings() -> Arc<Settings> {
    let verifier = toml::from_str("static = { file = 'tokens.toml' }").unwrap();
    let verifier = Verifier::new(&verifier, Some(tokens().as_bytes())).unwrap();
    let personium = personium::PersoniumSettings {
        verifier: Some(verifier),
        session_s_max: model::SESSION_S,
        token_timeout_s: model::TOKEN_S,
        ping_interval_s: model::PING_S,
        ping_misses_max: model::PING_MISSES,
        subscriptions_max: model::RULES_MAX as u32,
        ..Default::default()
    };
    Arc::new(Settings { personium, ..Settings::default() })
}

impl World {
    fn new(seed: u64, shards: usize) -> Self {
        let now = Now { monotonic_ns: 7_000_000_000, unix_ms: START_S * 1000 };
        let limits = Limits {
            outbox_bytes_max: model::OUTBOX_BYTES_MAX,
            handshake_timeout_s: model::HANDSHAKE_S,
            close_timeout_s: model::CLOSE_S,
            ..Limits::default()
        };
        let settings = settings();
        let node = |_| {
            let metrics = Arc::new(Metrics::default());
            let shard = Shard::new(Arc::clone(&settings), limits, Arc::clone(&metrics), now);
            Node { shard, metrics, clients: BTreeMap::new(), tally: DialectTally::default() }
        };
        Self {
            random: Random(seed),
            now,
            nodes: (0..shards).map(node).collect(),
            intake: Intake::new(Kind::ALL.to_vec(), settings),
            waiting: Vec::new(),
            fed: 0,
            hands_over: false,
        }
    }

    /// A turn of every shard, in the order of the daemon's: publications, sockets, timers, writes.
    fn step(&mut self) {
        let before = self.now.tick();
        self.pass_time();
        let mut events = std::mem::take(&mut self.waiting);
        events.extend(self.feed());
        let each = CLIENTS / self.nodes.len();
        for node in &mut self.nodes {
            events
                .iter()
                .for_each(|(publication, occasion)| node.deliver(publication, occasion, self.now));
            node.come(each, &mut self.random, self.now);
            for _ in 0..40 {
                node.act(&mut self.random, self.now);
            }
            let published = node.talk(&mut self.random, self.now);
            self.waiting.extend(published);
            if self.now.tick() != before {
                node.tick(self.now);
            }
            node.flush(self.now);
            node.check();
            if self.hands_over && self.random.chance(10) {
                node.hand_over(self.now);
                node.check();
            }
        }
    }

    fn pass_time(&mut self) {
        let random = &mut self.random;
        let milliseconds = match random.below(100) {
            0..60 => random.below(50),
            60..90 => random.below(800),
            90..99 => random.below(3000),
            _ => random.below(30_000),
        };
        self.now.monotonic_ns += milliseconds as u64 * 1_000_000;
        self.now.unix_ms += milliseconds as u64;
    }

    /// A burst of events; one in a while is larger than any outbox may be.
    fn feed(&mut self) -> Vec<(Arc<Publication>, Occasion)> {
        let count = if self.random.chance(5) { 20 } else { self.random.below(4) };
        (0..count).map(|_| self.event()).collect()
    }

    fn event(&mut self) -> (Arc<Publication>, Occasion) {
        let random = &mut self.random;
        self.fed += 1;
        let cell = random.pick(&CELLS).to_owned();
        let mut name = || {
            (!random.chance(5)).then(|| random.pick(&NAMES).to_owned() + random.pick(&["", "!"]))
        };
        let (kind, object) = (name(), name());
        let length = if random.chance(2) { random.below(20_000) } else { random.below(600) };
        let info = format!("{}{}", self.fed, "x".repeat(length));
        let shown = |name: &Option<String>| {
            name.as_ref().map_or("null".to_owned(), |name| format!("{name:?}"))
        };
        let (shown_kind, shown_object) = (shown(&kind), shown(&object));
        let json = format!(r#"{{"Object":{shown_object}, "Type":{shown_kind}, "Info":"{info}"}}"#);
        let current = format!(
            r#"{{"Type":{shown_kind},"RequestKey":null,"Schema":null,"External":false,"Object":{shown_object},"Info":"{info}","Timestamp":{},"Subject":null}}"#,
            self.now.unix_ms
        );
        let mut publication = None;
        let publish = &mut |published| publication = Some(published);
        self.intake.take(&format!("event/{cell}"), json.as_bytes(), self.now, publish).unwrap();
        let frames = [model::text_frame(&json), model::text_frame(&current)];
        (Arc::new(publication.unwrap()), Occasion { cell, kind, object, frames })
    }

    /// The daemon stops: everybody is told and goes.
    fn end(&mut self) {
        for node in &mut self.nodes {
            node.shard.drain(self.now);
            for client in node.clients.values_mut() {
                client.session.stop(self.now, &mut node.tally);
            }
            node.flush(self.now);
            for _ in 0..80 {
                self.now.monotonic_ns += 250_000_000;
                self.now.unix_ms += 250;
                assert!(node.talk(&mut self.random, self.now).is_empty());
                node.tick(self.now);
                node.flush(self.now);
                node.check();
            }
            assert!(node.shard.is_empty(), "{} are left", node.shard.len());
            assert_eq!(node.metrics.subscriptions.get(), 0);
            assert!(
                node.metrics.subscription_bytes.get() < 64 * 1024,
                "{:?}",
                node.metrics.subscription_bytes
            );
            assert_eq!(node.metrics.outbox_bytes.get(), 0);
        }
    }
}

impl Node {
    fn deliver(&mut self, publication: &Arc<Publication>, occasion: &Occasion, now: Now) {
        self.shard.deliver(publication, now);
        let clients = self.clients.values_mut();
        clients.for_each(|client| client.session.deliver(occasion, now, &mut self.tally));
    }

    /// New clients; most send their request at once.
    fn come(&mut self, wanted: usize, random: &mut Random, now: Now) {
        for _ in 0..wanted.saturating_sub(self.clients.len()).min(60) {
            let id = self.shard.accept(now);
            let session = Session::new(random.pick(&CELLS), random.chance(50), now);
            let before = self.clients.insert(id, Client::new(session, 500 + random.below(12_000)));
            assert!(before.is_none(), "{id} was taken");
            if random.chance(90) {
                self.request(id, random, now);
            }
        }
    }

    fn request(&mut self, id: Id, random: &mut Random, now: Now) {
        let session = &mut self.clients.get_mut(&id).unwrap().session;
        let path = if random.chance(2) {
            "/nowhere".to_owned()
        } else {
            format!("/{}/__event", session.cell)
        };
        let upgrade = Upgrade { path: &path, host: "unit.example", ..Default::default() };
        if self.shard.upgrade(id, &upgrade, &[Kind::PersoniumEvent], RESPONSE, now) {
            session.upgraded(RESPONSE, now, &mut self.tally);
        } else {
            self.shard.respond(id, &fanfare::http::refusal(404), Reason::NotFound, now);
            session.refused(404, now, &mut self.tally);
        }
    }

    /// Some client does something.
    fn act(&mut self, random: &mut Random, now: Now) {
        let Some((&id, _)) = self.clients.iter().nth(random.below(self.clients.len().max(1)))
        else {
            return;
        };
        let client = self.clients.get_mut(&id).unwrap();
        match client.session.phase {
            Phase::Head if random.chance(30) => return self.request(id, random, now),
            Phase::Gone | Phase::Head => return,
            _ => {}
        }
        match random.below(100) {
            0..6 => client.mode = Mode::Stalled,
            6..14 => client.mode = Mode::Reading,
            14 => client.mode = Mode::Broken,
            15 => {
                self.shard.lost(id, now);
                client.session.phase = Phase::Gone;
            }
            16 => client.silent = true,
            17..20 => client.silent = false,
            // Whatever it said would show that it lives.
            _ if client.silent => {}
            _ => {
                let say = what(&client.session, random, now);
                client.say(say, random.next() as u32);
            }
        }
    }

    /// Bytes go both ways: clients read what has come and answer it, and some of what they say arrives.
    fn talk(&mut self, random: &mut Random, now: Now) -> Vec<(Arc<Publication>, Occasion)> {
        let mut occasions = Vec::new();
        for (&id, client) in &mut self.clients {
            if client.session.phase == Phase::Gone {
                continue;
            }
            if client.mode == Mode::Reading {
                client.read();
                if std::mem::take(&mut client.session.blocked) {
                    self.shard.writable(id);
                }
                if client.session.phase == Phase::Over {
                    self.shard.lost(id, now);
                    client.session.phase = Phase::Gone;
                    continue;
                }
            }
            let count = if random.chance(50) { usize::MAX } else { random.below(40) };
            client.arrive(count, id, &mut self.shard, now, &mut self.tally, &mut occasions);
        }
        let published: Vec<Publication> =
            self.shard.take_outgoing().into_iter().map(publication).collect();
        assert_eq!(published.len(), occasions.len());
        self.settle(&BTreeSet::new());
        published.into_iter().map(Arc::new).zip(occasions).collect()
    }

    fn tick(&mut self, now: Now) {
        self.shard.tick(now);
        for client in self.clients.values_mut().filter(|client| client.session.phase != Phase::Gone)
        {
            client.session.tick(now, &mut self.tally);
        }
        let subscriptions: usize =
            self.clients.values().map(|client| client.session.subscriptions()).sum();
        assert_eq!(self.metrics.subscriptions.get(), subscriptions as u64);
    }

    fn flush(&mut self, now: Now) {
        self.clients.values_mut().for_each(|client| client.written = false);
        // One after the other as on epoll, or several as on a ring.
        let batch = 1 + now.monotonic_ns as usize / 1_000_000 % 7;
        self.shard.flush(now, &mut SimulatedSockets { clients: &mut self.clients, batch });
        self.shard.end_turn(now);
        let mut over = BTreeSet::new();
        for (&id, client) in &mut self.clients {
            let session = &mut client.session;
            if session.phase == Phase::Gone {
                continue;
            }
            assert!(session.pending.is_empty() || session.blocked, "{id} was not written");
            if session.turned(now) {
                over.insert(id);
            }
        }
        self.settle(&over);
    }

    /// Compares what the shard says of its connections with what the model expects.
    fn settle(&mut self, over: &BTreeSet<Id>) {
        let mut finished = BTreeSet::new();
        for event in self.shard.take_events() {
            match event {
                ConnectionEvent::Blocked(id) => {
                    assert!(self.clients[&id].session.blocked, "{id} is not blocked")
                }
                ConnectionEvent::Finished(id) => {
                    assert!(finished.insert(id), "{id} finished twice")
                }
                ConnectionEvent::Ready(id) | ConnectionEvent::Probe(id) => {
                    panic!("{id} has asked for nothing")
                }
                ConnectionEvent::Opened(id) => {
                    assert!(self.clients.contains_key(&id), "{id} has been answered")
                }
                ConnectionEvent::Gone(id) => {
                    let client = self.clients.remove(&id).expect("it is connected");
                    assert_eq!(client.session.phase, Phase::Gone, "{id} has gone");
                }
            }
        }
        assert_eq!(&finished, over);
        let gone = self.clients.iter().find(|(_, client)| client.session.phase == Phase::Gone);
        assert!(gone.is_none(), "{:?} has not gone", gone.map(|(id, _)| id));
    }

    fn check(&self) {
        let sessions = || self.clients.values().map(|client| &client.session);
        let metrics = &self.metrics;
        assert_eq!(self.shard.len(), self.clients.len());
        assert_eq!(metrics.connections.get(), self.clients.len() as u64);
        let open = sessions().filter(|session| session.phase == Phase::Open).count();
        assert_eq!(metrics.sessions[0].get(), open as u64);
        let mut ends = [0; Reason::COUNT];
        for reason in Reason::ALL {
            ends[counted_as(*reason)] += metrics.ends[*reason as usize].get();
        }
        // The model does not count who leaves by himself.
        ends[Reason::Client as usize] = 0;
        ends[Reason::Gone as usize] = 0;
        assert_eq!(ends, self.tally.ends);
        assert_eq!(metrics.deliveries[0].get(), self.tally.deliveries);
        let kept: usize = sessions().map(Session::kept_bytes).sum();
        assert_eq!(metrics.outbox_bytes.get(), kept as u64);
    }
}

/// What an end counts as in the model, which does not tell apart why the dialect ends a session.
fn counted_as(reason: Reason) -> usize {
    match reason {
        Reason::Scope | Reason::Expired | Reason::Protocol => model::DIALECT,
        Reason::TokenTimeout | Reason::TokenInvalid | Reason::TokenExpired => model::DIALECT,
        reason => reason as usize,
    }
}

/// Something to say, fitting to how far the session has come.
fn what(session: &Session, random: &mut Random, now: Now) -> Say {
    let rule = |random: &mut Random| (random.pattern(), random.pattern());
    if !session.is_live() && random.chance(60) || random.chance(6) {
        let ahead_s = if random.chance(60) { 400 } else { 20 };
        let until_s = (now.unix_ms / 1000 + ahead_s) / 50 * 50;
        let until_s = (!random.chance(3)).then_some(until_s);
        return Say::Token { until_s, writes: random.chance(30) };
    }
    match random.below(100) {
        0..45 => Say::Subscribe(rule(random)),
        45..60 if !session.rules.is_empty() => {
            Say::Unsubscribe(session.rules[random.below(session.rules.len())].clone())
        }
        45..65 => Say::Unsubscribe(rule(random)),
        65..72 => Say::State,
        // In the classic spelling it is no command, and before the token it would be one in the current.
        72..80 if session.current || session.is_live() => Say::Publish {
            kind: random.pick(&NAMES).to_owned(),
            object: random.pick(&NAMES).to_owned(),
            info: "i".repeat(random.below(300)),
        },
        80..86 => Say::Noise,
        86..94 => Say::Ping(vec![7; random.below(126)]),
        94..97 => Say::Pong,
        97..99 => Say::Close,
        _ => Say::Garbage,
    }
}

fn simulate(shards: usize, hands_over: bool) {
    let given = std::env::var("FANFARE_SEED")
        .ok()
        .map(|seed| seed.parse().expect("FANFARE_SEED is a number"));
    let seed = given.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    let long = std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1");
    println!("FANFARE_SEED={seed} shows this again");
    let mut world = World { hands_over, ..World::new(seed, shards) };
    for _ in 0..STEPS * if long { 10 } else { 1 } {
        world.step();
    }
    let ends: Vec<[u64; Reason::COUNT]> = world.nodes.iter().map(|node| node.tally.ends).collect();
    let deliveries: Vec<u64> = world.nodes.iter().map(|node| node.tally.deliveries).collect();
    let seconds = world.now.unix_ms / 1000 - START_S;
    println!("{} events in {seconds} s, deliveries {deliveries:?}, ends {ends:?}", world.fed);
    // Of the rarer ends a shard may by chance have seen none.
    let of_all = |end: usize| ends.iter().map(|ends| ends[end]).sum::<u64>();
    assert!(
        deliveries.iter().all(|count| *count > 1000)
            && model::ENDS.iter().all(|end| of_all(*end) > 0)
    );
    world.end();
}

#[test]
fn a_thousand_sessions_of_one_shard_are_told_what_the_model_says() {
    simulate(1, false);
}

#[test]
fn a_thousand_sessions_of_two_shards_are_told_what_the_model_says() {
    simulate(2, false);
}

#[test]
fn a_thousand_sessions_are_told_what_the_model_says_while_processes_take_over_from_each_other() {
    simulate(1, true);
}

/// What its clients cause is published to everybody; none of them is answered from elsewhere.
fn publication(outgoing: Outgoing) -> Publication {
    match outgoing {
        Outgoing::Publication(publication) => publication,
        Outgoing::Answer(..) => panic!("nobody asked"),
    }
}
