//! The WebSocket API of Pulsar: producers, consumers and readers of topics.
//!
//! A request names a topic and what its sender wants to be there. The token is judged first, then the owner of the
//! topics is asked; the handshake is answered when it has said whether that can be. Where it cannot, the first version
//! of the API completes the handshake and says so by a close frame, the later ones by an HTTP status. All that lasts is
//! decided by the owner: a session reads what its client says, and writes what it is told.
//!
//! The messages of topics that are not persistent are ordinary publications; see `volatile`.

mod consumer;
mod delivery;
mod json;
mod params;
mod path;
mod producer;
mod settings;
mod time;
mod volatile;

pub use self::delivery::deliver;
pub use self::settings::{BacklogPolicy, Partitioned, Settings};

use self::consumer::Command;
use self::delivery::SendError;
use self::params::Params;
use self::path::{Endpoint, PathError, Version};
use self::producer::{Sender, Unsendable};
use self::volatile::Listener;
use super::{Action, Actions, Admission, Context, Dialect, Input, Request, Served, Unusable, Upgrade};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::token::{Refusal as Judged, Verdict};
use crate::topic::{self, Cause, Domain, Flow, MessageId, Position, Reply, Taker, TopicName, Wanted};
use crate::wheel::{Now, TICK_MS, Tick, ticks};
use std::cell::Cell;

/// Longest message of a client, which is the reference's `webSocketMaxTextFrameSize`.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Longest body of a request for statistics, which needs none.
const BODY_BYTES_MAX: usize = 1024;
/// Seconds that the owner of the topics has for its first answer. It may load a topic from a slow disk meanwhile; the
/// reference's clients give up after so many.
const ANSWER_S: u64 = 30;
/// Unanswered pings that end a session, as many as can be counted: it is the idle time-out that ends it before.
const MISSES_MAX: u8 = u8::MAX;

/// Close codes are those of the reference and 4000: codes below 1000 break clients.
const BAD_JSON: Action = Action::Close(4003, "Failed to de-serialize from JSON");
const UNAUTHENTICATED: Action = Action::Close(4005, "Failed to authenticate client");

/// One connection.
pub struct Pulsar {
    /// When something went over it last.
    heard: Cell<Tick>,
    version: Version,
    role: Role,
    stage: Stage,
    /// Whether the owner of the topics knows the connection.
    is_known: bool,
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    PingPong,
    Producer,
    Consumer,
    Reader,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The token is being judged.
    Judging,
    /// The owner of the topics is being asked.
    Asking,
    Open,
    /// It has come to nothing.
    Refused,
}

/// What belongs to a role. A consumer or reader of a persistent topic has nothing to keep.
enum Part {
    None,
    /// It pulls.
    Pull,
    /// What is to be asked, or what is wrong with it, and what comes of it. Until the owner has answered.
    Wish(Box<Wish>),
    Producer(Box<Producer>),
    Listener(Box<Listener>),
}

struct Wish {
    request: Option<Result<topic::Request, params::Wrong>>,
    then: Part,
}

struct Producer {
    topic: TopicName,
    /// The name that it has given itself.
    name: Option<Box<str>>,
    /// The keys with which its clients encrypt.
    encryption: Option<Box<str>>,
    /// Messages that were sent to a topic that is not persistent.
    sent: u64,
}

/// Which bytes a message has for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// How often it came before.
    pub redeliveries: u32,
    /// The partition in its id.
    pub partition: Option<u32>,
    /// Whether it is told as the first version of the API does.
    pub is_first: bool,
}

/// Lays out a fed event for its topic, whose place is `persistent/…`: the event is as a producer's message.
///
/// # Errors
/// When the place is no such topic, or the event no message.
pub fn append(
    place: &str,
    event: &Event<'_, '_>,
    _settings: &super::Settings,
    now: Now,
) -> Result<(TopicName, topic::Draft), Unusable> {
    let topic = fed_topic(place)?;
    if topic.domain() != Domain::Persistent {
        return Err(Unusable("the topic is not persistent".into()));
    }
    Ok((topic, fed_message(event, now)?))
}

fn fed_topic(place: &str) -> Result<TopicName, Unusable> {
    let name = place.split_once('/').map(|(domain, rest)| format!("{domain}://{rest}"));
    TopicName::read(&name.unwrap_or_default()).map_err(|error| Unusable(error.to_string()))
}

fn fed_message(event: &Event<'_, '_>, now: Now) -> Result<topic::Draft, Unusable> {
    let text = std::str::from_utf8(event.json).map_err(|_| Unusable("it is not UTF-8".into()))?;
    match producer::read(text, Sender::default(), now.unix_ms) {
        Ok((draft, _)) => Ok(draft),
        Err(Unsendable::Told(_, reason, _) | Unsendable::Uncaught(reason)) => Err(Unusable(reason)),
    }
}

impl Dialect for Pulsar {
    const PING: &'static [u8] = b"PING";
    const CLOSE_UNANSWERED: (u16, &'static str) = (1001, "");

    fn message_bytes_max(_settings: &super::Settings) -> usize {
        MESSAGE_BYTES_MAX
    }

    fn too_long(bytes: u64, bytes_max: usize) -> String {
        format!("Text message size [{bytes}] exceeds maximum size [{bytes_max}]")
    }

    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let (version, endpoint) = path::read(upgrade.path)?;
        let (role, wish) = match endpoint {
            Ok(Endpoint::PingPong) => {
                let mut session = Self::new(version, Role::PingPong, Part::None, context.now);
                session.begin(context, out);
                return Some(session);
            }
            Ok(endpoint) => wish(endpoint, upgrade, context),
            Err(PathError::Subscription(reason)) => (Role::Consumer, Wish::none(reason.into())),
            Err(PathError::Malformed(reason)) => {
                out.refuse_saying(404, reason);
                let mut session = Self::new(version, Role::PingPong, Part::None, context.now);
                session.stage = Stage::Refused;
                return Some(session);
            }
        };
        let mut session = Self::new(version, role, Part::Wish(Box::new(wish)), context.now);
        session.judge(upgrade, context, out);
        Some(session)
    }

    fn body_bytes_max(_: &str, path: &str, _: &super::Settings) -> Option<usize> {
        path.starts_with("/admin/").then_some(BODY_BYTES_MAX)
    }

    fn serve(request: &Request<'_>, context: &mut Context<'_>, _: &mut Actions) -> Served {
        let answer = |status, said: &str| Served::Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{said}\n").into(),
        };
        let Some(inquiry) = path::statistics(request.path) else {
            return answer(404, "Here are /admin/v2/proxy-stats/stats and /metrics, and those of topics.");
        };
        if request.method != "GET" {
            return Served::NotAllowed("GET");
        }
        let settings = &context.settings.pulsar;
        let params = Params::read(request.query);
        let token = token(request.authorization, &params);
        let judged = |token| settings.judge.as_ref().map(|judge| judge.judge(token, context.now.unix_ms));
        match token.and_then(judged) {
            _ if settings.anonymous => Served::Inquired(Box::new(inquiry)),
            Some(Verdict::Granted(_)) => Served::Inquired(Box::new(inquiry)),
            Some(Verdict::Ask) => {
                answer(403, "Statistics are for tokens that are judged here, not far away.")
            }
            _ => answer(401, "Failed to authenticate"),
        }
    }

    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
        if matches!(input, Input::Text(_) | Input::Binary(_) | Input::Alive) {
            self.heard.set(context.now.tick());
        }
        match input {
            Input::Text(text) if self.stage == Stage::Open => self.message(text, context, out),
            Input::Text(_) | Input::Binary(_) | Input::Alive | Input::Reply(_) | Input::Configured => {}
            Input::Verified(verdict) if self.stage == Stage::Judging => match verdict {
                Verdict::Granted(_) => self.ask(context.now, out),
                Verdict::Refused(Judged::Unavailable) => {
                    self.reject(503, "Failed to authenticate: the judge of tokens cannot be asked", out);
                }
                Verdict::Refused(_) | Verdict::Ask => self.reject(401, "Failed to authenticate", out),
            },
            Input::Verified(_) => {}
            Input::Revoked if self.stage == Stage::Open => out.push(UNAUTHENTICATED),
            Input::Revoked => self.reject(401, "Failed to authenticate", out),
            Input::Told(reply) => self.told(reply, context, out),
            Input::Deadline => self.deadline(context, out),
            Input::Gone => self.leave(out),
        }
    }

    fn admits(&self, publication: &Publication, now: Now) -> Admission {
        let Part::Listener(listener) = &self.part else { return Admission::No };
        let admission = listener.admits(publication, self.version);
        if admission != Admission::No {
            self.heard.set(now.tick());
        }
        admission
    }

    fn publish(
        place: &str,
        event: &Event<'_, '_>,
        _settings: &super::Settings,
        now: Now,
        draft: &mut Draft,
        publish: &mut dyn FnMut(Publication),
    ) -> Result<(), Unusable> {
        let topic = fed_topic(place)?;
        if topic.domain() == Domain::Persistent {
            return Err(Unusable("a persistent topic is fed where there is a store".into()));
        }
        let message = fed_message(event, now)?;
        // Nobody counts what is fed.
        let serial = volatile::hash(event.json) ^ now.monotonic_ns;
        publish(volatile::publication(&topic, &message, serial, draft, now));
        Ok(())
    }
}

/// What somebody wants to be, from the path and the query.
fn wish(endpoint: Endpoint, upgrade: &Upgrade<'_>, context: &mut Context<'_>) -> (Role, Wish) {
    let (params, remote) = (Params::read(upgrade.query), upgrade.remote);
    let of = |made: Result<(topic::Request, Part), params::Wrong>| match made {
        Ok((request, then)) => Wish { request: Some(Ok(request)), then },
        Err(reason) => Wish::none(reason),
    };
    let mut consumer = |topics: Result<Wanted, params::Wrong>, subscription: &str| {
        let consuming = params::consuming(&params, topics?, subscription, remote, context.lots)?;
        let then = match &consuming.topics {
            Wanted::One(topic) if topic.domain() == Domain::NonPersistent => {
                let listener = Listener::consumer(topic.clone(), consuming.kind, consuming.flow);
                Part::Listener(Box::new(listener))
            }
            _ if consuming.flow == Flow::Pull => Part::Pull,
            _ => Part::None,
        };
        Ok((topic::Request::Consume(Box::new(consuming)), then))
    };
    match endpoint {
        Endpoint::Consumer(topic, subscription) => {
            (Role::Consumer, of(consumer(Ok(Wanted::One(topic)), &subscription)))
        }
        Endpoint::Several(subscription) => {
            (Role::Consumer, of(consumer(params::wanted(&params), &subscription)))
        }
        Endpoint::Producer(topic) => {
            let made = params::producing(&params, topic, remote).map(|(producing, encryption)| {
                let (topic, name) = (producing.topic.clone(), producing.name.clone());
                let producer = Producer { topic, name, encryption, sent: 0 };
                (topic::Request::Produce(Box::new(producing)), Part::Producer(Box::new(producer)))
            });
            (Role::Producer, of(made))
        }
        Endpoint::Reader(topic) => {
            let made = params::reading(&params, topic, remote, context.lots).map(|reading| {
                let then = match reading.topic.domain() {
                    Domain::NonPersistent => {
                        Part::Listener(Box::new(Listener::reader(reading.topic.clone(), reading.window)))
                    }
                    Domain::Persistent => Part::None,
                };
                (topic::Request::Read(Box::new(reading)), then)
            });
            (Role::Reader, of(made))
        }
        Endpoint::PingPong => (Role::PingPong, Wish::none(String::new())),
    }
}

impl Wish {
    fn none(reason: params::Wrong) -> Self {
        Self { request: Some(Err(reason)), then: Part::None }
    }
}

/// The token of a request: that of the header, else that of the query, where its scheme may be missing.
fn token<'a>(authorization: &'a str, params: &'a Params<'_>) -> Option<&'a str> {
    let token = match authorization.strip_prefix("Bearer ") {
        Some(token) => Some(token),
        None if authorization.is_empty() => {
            params.get("token").map(|token| token.strip_prefix("Bearer ").unwrap_or(token))
        }
        None => None,
    };
    token.map(str::trim).filter(|token| !token.is_empty())
}

impl Pulsar {
    fn new(version: Version, role: Role, part: Part, now: Now) -> Self {
        let heard = Cell::new(now.tick());
        Self { heard, version, role, stage: Stage::Judging, is_known: false, part }
    }

    /// Which bytes a message has for this connection, which gets it now.
    #[must_use]
    pub fn form(&self, taker: &Taker, now: Now) -> Form {
        self.heard.set(now.tick());
        let is_first = self.version == Version::First;
        // Those that are not told how often it came share its bytes.
        let redeliveries = if is_first { 0 } else { taker.redeliveries };
        Form { redeliveries, partition: taker.partition, is_first }
    }

    /// Has the token judged, where there is a judge.
    fn judge(&mut self, upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) {
        if context.settings.pulsar.anonymous {
            return self.ask(context.now, out);
        }
        match token(upgrade.authorization, &Params::read(upgrade.query)) {
            Some(token) => out.verify(token),
            None => self.reject(401, "Failed to authenticate", out),
        }
    }

    /// Asks the owner of the topics.
    fn ask(&mut self, now: Now, out: &mut Actions) {
        let Part::Wish(wish) = &mut self.part else { return };
        match wish.request.take() {
            Some(Ok(request)) => {
                (self.stage, self.is_known) = (Stage::Asking, true);
                out.push(Action::Ask(Box::new(request)));
                out.push(Action::Deadline(now.monotonic_ns.saturating_add(ANSWER_S * 1_000_000_000)));
            }
            Some(Err(reason)) => self.fail(400, &format!("Invalid query params: {reason}"), out),
            None => {}
        }
    }

    /// The token is not good.
    fn reject(&mut self, status: u16, reason: &str, out: &mut Actions) {
        self.stage = Stage::Refused;
        match self.version {
            Version::First => {
                out.push(Action::Accept);
                out.push(UNAUTHENTICATED);
            }
            Version::Later => out.refuse_saying(status, reason),
        }
    }

    /// It cannot be what it wants to be.
    fn fail(&mut self, status: u16, reason: &str, out: &mut Actions) {
        self.silence(out);
        let was_open = std::mem::replace(&mut self.stage, Stage::Refused) == Stage::Open;
        match self.version {
            Version::Later if !was_open => out.refuse_saying(status, reason),
            Version::First if !was_open => {
                out.push(Action::Accept);
                out.push(self.role.failed());
            }
            _ => out.push(self.role.failed()),
        }
    }

    /// Takes part from now on.
    fn begin(&mut self, context: &Context<'_>, out: &mut Actions) {
        self.stage = Stage::Open;
        if let Part::Wish(wish) = &mut self.part {
            self.part = std::mem::replace(&mut wish.then, Part::None);
        }
        // First, so that who finds no room for a subscription is told so.
        out.push(Action::Accept);
        if let Part::Listener(listener) = &self.part {
            out.subscribe(&volatile::prefix(&listener.topic), b"");
        }
        let interval_s = context.settings.pulsar.ping_interval_s;
        if interval_s > 0 {
            out.push(Action::Keepalive { interval_s, misses_max: MISSES_MAX });
        }
        self.heard.set(context.now.tick());
        out.push(Action::Deadline(self.idle_until_ns(context)));
    }

    /// The moment at which it has been idle for too long, if nothing comes until then.
    fn idle_until_ns(&self, context: &Context<'_>) -> u64 {
        match context.settings.pulsar.idle_timeout_s {
            0 => u64::MAX,
            seconds => {
                let tick = u64::from(self.heard.get()) + u64::from(ticks(seconds.into()));
                tick.saturating_mul(TICK_MS * 1_000_000)
            }
        }
    }

    fn deadline(&mut self, context: &mut Context<'_>, out: &mut Actions) {
        let until_ns = self.idle_until_ns(context);
        match self.stage {
            Stage::Asking => self.fail(500, &self.role.failed_because("there is no answer now"), out),
            Stage::Open if until_ns > context.now.monotonic_ns => out.push(Action::Deadline(until_ns)),
            Stage::Open => {
                let ms = u64::from(context.settings.pulsar.idle_timeout_s) * 1000;
                let reason =
                    format!("java.util.concurrent.TimeoutException: Idle timeout expired: {ms}/{ms} ms");
                out.close_saying(1001, &reason);
            }
            Stage::Judging | Stage::Refused => {}
        }
    }

    /// What the owner of the topics says.
    fn told(&mut self, reply: Reply, context: &mut Context<'_>, out: &mut Actions) {
        let version = self.version;
        match (reply, self.stage) {
            (Reply::Opened, Stage::Asking) => self.begin(context, out),
            (Reply::Refused(refusal), Stage::Asking | Stage::Open) => {
                let reason = match refusal.cause {
                    Cause::Invalid => format!("Invalid query params: {}", refusal.reason),
                    _ => self.role.failed_because(&refusal.reason),
                };
                self.fail(status_of(refusal.cause), &reason, out);
            }
            (Reply::Stored { id, context }, Stage::Open) => {
                out.send(|out| delivery::put_ack(id, context.as_deref(), version, out));
            }
            (Reply::NotStored { reason, context }, Stage::Open) => out.send(|out| {
                delivery::put_error(SendError::Unknown, &reason, context.as_deref(), version, out);
            }),
            (Reply::EndOfTopic(has_ended), Stage::Open) => {
                out.send(|out| delivery::put_end_of_topic(has_ended, out));
            }
            (Reply::Share { place, of }, _) => match &mut self.part {
                Part::Listener(listener) => listener.share(place, of),
                Part::Wish(wish) => {
                    if let Part::Listener(listener) = &mut wish.then {
                        listener.share(place, of);
                    }
                }
                _ => {}
            },
            (Reply::StillSubscribed, Stage::Open) => out.push(BAD_JSON),
            _ => {}
        }
    }

    fn message(&mut self, text: &str, context: &mut Context<'_>, out: &mut Actions) {
        match (self.role, &mut self.part) {
            (Role::Producer, Part::Producer(producer)) => producer.send(text, self.version, context, out),
            (Role::Consumer, _) => self.command(text, out),
            (Role::Reader, _) => self.read_on(text, out),
            _ => {}
        }
    }

    /// A consumer says something.
    fn command(&mut self, text: &str, out: &mut Actions) {
        let Ok(command) = Command::read(text) else { return out.push(BAD_JSON) };
        let asked = match (&self.part, command) {
            (_, Command::Ack(Err(reason)) | Command::Nack(Err(reason))) => {
                return out.close_saying(1011, reason);
            }
            (Part::Listener(listener), Command::Ack(_) | Command::Nack(_)) => return listener.free(),
            (_, Command::Ack(Ok(id))) => topic::Request::Ack(id),
            (_, Command::Nack(Ok(id))) => topic::Request::Nack(id),
            (Part::Listener(listener), Command::Permit(permits)) => return listener.permit(permits),
            (Part::Pull, Command::Permit(permits)) if permits > 0 => topic::Request::Permit(permits),
            // Who is pushed to has nothing to ask for.
            (_, Command::Permit(_)) => return,
            (_, Command::Unsubscribe) => {
                self.silence(out);
                topic::Request::Unsubscribe
            }
            (_, Command::AskEnd) => topic::Request::AskEnd,
        };
        out.push(Action::Ask(Box::new(asked)));
    }

    /// A reader says something: whatever it is makes room for another message.
    fn read_on(&mut self, text: &str, out: &mut Actions) {
        let asked = match (&self.part, Command::read(text)) {
            (_, Err(_)) => return out.push(BAD_JSON),
            (_, Ok(Command::AskEnd)) => topic::Request::AskEnd,
            (Part::Listener(listener), Ok(_)) => return listener.free(),
            (_, Ok(Command::Ack(Ok(id)) | Command::Nack(Ok(id)))) => topic::Request::Ack(id),
            (_, Ok(_)) => topic::Request::Ack(MessageId { position: Position::END, partition: None }),
        };
        out.push(Action::Ask(Box::new(asked)));
    }

    /// Listens to nothing more.
    fn silence(&mut self, out: &mut Actions) {
        if let (Part::Listener(listener), Stage::Open) = (&self.part, self.stage) {
            out.unsubscribe(&volatile::prefix(&listener.topic), b"");
            self.part = Part::None;
        }
    }

    fn leave(&mut self, out: &mut Actions) {
        self.silence(out);
        if std::mem::take(&mut self.is_known) {
            out.push(Action::Ask(Box::new(topic::Request::Gone)));
        }
    }
}

impl Producer {
    fn send(&mut self, text: &str, version: Version, context: &mut Context<'_>, out: &mut Actions) {
        let sender = Sender { name: self.name.as_deref(), encryption: self.encryption.as_deref() };
        match producer::read(text, sender, context.now.unix_ms) {
            Ok((draft, name)) if self.topic.domain() == Domain::Persistent => {
                out.push(Action::Ask(Box::new(topic::Request::Send { draft, context: name })));
            }
            Ok((message, name)) => {
                self.sent += 1;
                let (draft, now) = (&mut *context.draft, context.now);
                let publication = volatile::publication(&self.topic, &message, self.sent, draft, now);
                out.push(Action::Publish(Box::new(publication)));
                out.send(|out| delivery::put_ack(volatile::ID, name.as_deref(), version, out));
            }
            Err(Unsendable::Told(error, reason, name)) => {
                out.send(|out| delivery::put_error(error, &reason, name.as_deref(), version, out));
            }
            Err(Unsendable::Uncaught(reason)) => out.close_saying(1011, &reason),
        }
    }
}

impl Role {
    /// What the first version says when there can be none, and all say when there can be none any more.
    fn failed(self) -> Action {
        match self {
            Self::Producer => Action::Close(4001, "Failed to create producer"),
            _ => Action::Close(4002, "Failed to subscribe"),
        }
    }

    fn failed_because(self, reason: &str) -> String {
        let what = match self {
            Self::Producer => "producer",
            Self::Reader => "reader",
            Self::Consumer | Self::PingPong => "consumer",
        };
        format!("Failed to create {what}: {reason}")
    }
}

/// The HTTP status for what stands in the way.
fn status_of(cause: Cause) -> u16 {
    match cause {
        Cause::Invalid => 400,
        Cause::NotFound => 404,
        Cause::Busy => 409,
        Cause::TooMany => 429,
        Cause::Quota | Cause::Terminated => 503,
        Cause::Broken => 500,
    }
}
