//! The WebSocket API of Pulsar: producers, consumers and readers of topics.
//!
//! A request names a topic and a role there. The token is verified first, then the owner of the topics is asked, whose
//! decision answers the handshake: where it refuses, the first version of the API completes the handshake and closes,
//! the later ones answer an HTTP status. All that lasts is the owner's: a session passes on what each side says.
//!
//! The messages of topics that are not persistent are ordinary publications; see `volatile`.

mod client;
mod consumer;
mod credentials;
mod delivery;
mod fed;
mod jackson;
mod params;
mod path;
mod producer;
mod role;
mod settings;
mod time;
mod volatile;
mod wish;

pub use self::credentials::rights;
pub use self::settings::{BacklogPolicy, CLAIMS, DefaultRights, Partitioned, PulsarSettings};

use self::consumer::ConsumerCommand;
use self::delivery::SendError;
use self::params::Params;
use self::path::{ApiVersion, PathError, PulsarEndpoint, Statistics};
use self::role::{PulsarRole, PulsarWish, RoleState, status_of};
use self::wish::wish;
use super::{
    Action, Actions, Admission, Context, DeliveryForm, Dialect, FeedAddress, Input, Request,
    Served, Unusable, Upgrade,
};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::reason::Reason;
use crate::service::topic::{
    Cause, MessageDraft, MessageId, Position, Recipient, Right, Rights, StoredMessage, TopicAnswer,
    TopicDomain, TopicInquiry, TopicName, TopicQuestion, WantedTopics,
};
use crate::service::verification::TokenAnswer;
use crate::service::{Answer, Question};
use crate::token::{Grant, Refusal as Judged, Verdict, Verifier};
use crate::wheel::{NEVER, Now, TICK_MS, Tick, ticks};
use std::cell::Cell;

/// Longest message of a client, which is the reference's `webSocketMaxTextFrameSize`.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Longest body of a request for statistics, which needs none.
const BODY_BYTES_MAX: usize = 1024;
/// Seconds that the owner of the topics has for its first answer. It may load a topic from a slow disk meanwhile; the
/// reference's clients give up after so many.
const ANSWER_S: u64 = 30;

/// Close codes are those of the reference and 4000: codes below 1000 break clients.
const BAD_JSON: Action = Action::close(4003, "Failed to de-serialize from JSON");
const UNAUTHENTICATED: Action = Action::close(4005, "Failed to authenticate client");
const UNAUTHORIZED: Action = Action::close(4006, "Client is not authorized");

/// One connection.
pub struct Pulsar {
    /// When something went over it last.
    heard: Cell<Tick>,
    /// When its token ends.
    ends_at: Tick,
    /// Whether it was asked for the next one.
    is_challenged: bool,
    /// Whether its token lets it do less than everything.
    is_narrow: bool,
    version: ApiVersion,
    role: PulsarRole,
    stage: PulsarStage,
    /// Whether the owner of the topics knows the connection.
    is_known: bool,
    part: RoleState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PulsarStage {
    /// The token is being verified.
    Judging,
    /// The owner of the topics is being asked.
    Asking,
    Open,
    /// It has come to nothing.
    Refused,
}

impl Dialect for Pulsar {
    const NAME: &'static str = "pulsar";
    const FEED: FeedAddress = FeedAddress {
        word: "pulsar",
        parts: (4, 5),
        shape: "write pulsar/persistent/TENANT/NAMESPACE/TOPIC, or non-persistent",
    };
    const HAS_TOPICS: bool = true;
    const CLIENT: &'static dyn crate::dialect::client::DialectClient = &client::PulsarClient;
    const TOPIC: u8 = volatile::TOPIC;
    const PING: &'static [u8] = b"PING";
    const CLOSE_UNANSWERED: (u16, &'static str) = (1001, "pings were not answered");

    fn message_bytes_max(_settings: &crate::dialect::Settings) -> usize {
        MESSAGE_BYTES_MAX
    }

    fn too_long(bytes: u64, bytes_max: usize) -> String {
        format!("Text message size [{bytes}] exceeds maximum size [{bytes_max}]")
    }

    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let (version, endpoint) = path::read(upgrade.path)?;
        let (role, wish) = match endpoint {
            Ok(PulsarEndpoint::PingPong) => {
                let mut session =
                    Self::new(version, PulsarRole::PingPong, RoleState::None, context.now);
                session.begin(context, out);
                return Some(session);
            }
            Ok(endpoint) => wish(endpoint, upgrade, context),
            Err(PathError::Subscription(reason)) => {
                (PulsarRole::Consumer, PulsarWish::none(reason.into()))
            }
            Err(PathError::Malformed(reason)) => {
                out.refuse_saying(404, reason);
                let mut session =
                    Self::new(version, PulsarRole::PingPong, RoleState::None, context.now);
                session.stage = PulsarStage::Refused;
                return Some(session);
            }
        };
        let mut session = Self::new(version, role, RoleState::Wish(Box::new(wish)), context.now);
        session.verify(upgrade, context, out);
        Some(session)
    }

    fn body_bytes_max(_: &str, path: &str, _: &crate::dialect::Settings) -> Option<usize> {
        path.starts_with("/admin/").then_some(BODY_BYTES_MAX)
    }

    fn serve(request: &Request<'_>, context: &mut Context<'_>, _: &mut Actions) -> Served {
        let answer = |status, said: &str| Served::Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{said}\n").into(),
        };
        let Some(statistics) = path::statistics(request.path) else {
            return answer(
                404,
                "Here are /admin/v2/proxy-stats/stats and /metrics, and those of topics.",
            );
        };
        if request.method != "GET" {
            return Served::NotAllowed("GET");
        }
        let settings = &context.settings.pulsar;
        let params = Params::read(request.query);
        let token = credentials::token(request.authorization, &params);
        let verified = |token| {
            settings.verifier.as_ref().map(|verifier| verifier.verify(token, context.now.unix_ms))
        };
        let rights = match token.and_then(verified) {
            _ if settings.anonymous => Rights::ALL,
            Some(Verdict::Granted(grant)) => rights(&grant, settings),
            Some(Verdict::Ask) => {
                return answer(
                    403,
                    "Statistics are for tokens that are verified here, not far away.",
                );
            }
            _ => return answer(401, "Failed to authenticate"),
        };
        Served::Asked(Question::Topic(TopicQuestion::Inquire(Box::new(match statistics {
            Statistics::Metrics => TopicInquiry::ProxyMetrics(rights),
            Statistics::All => match params::page(&params) {
                Ok((after, count)) => TopicInquiry::ProxyStats { rights, after, count },
                Err(wrong) => return answer(400, &wrong),
            },
            Statistics::Of(topic) if rights.allow(Right::Consume, &topic) => {
                TopicInquiry::ProxyTopic(topic)
            }
            Statistics::Of(_) => return answer(403, "Not authorized"),
        }))))
    }

    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
        if matches!(input, Input::Text(_) | Input::Binary(_) | Input::Alive) {
            self.heard.set(context.now.tick());
        }
        match input {
            Input::Text(_) if self.is_over(context.now) => self.expire(out),
            Input::Text(text) if self.stage == PulsarStage::Open => {
                self.message(text, context, out)
            }
            Input::Text(_) | Input::Binary(_) | Input::Alive | Input::Configured => {}
            Input::Answer(Answer::Token(_, answer)) => self.verified(answer, context, out),
            Input::Answer(Answer::Topic(answer)) => self.told(answer, context, out),
            Input::Answer(Answer::Presence(_)) => {}
            Input::Deadline => self.deadline(context, out),
            Input::Gone => self.leave(out),
        }
    }

    fn delivery_form(&self, recipient: &Recipient, now: Now) -> DeliveryForm {
        self.heard.set(now.tick());
        // Those that are not told how often it came share its bytes.
        let redeliveries =
            if self.version == ApiVersion::First { 0 } else { recipient.redeliveries };
        DeliveryForm { redeliveries, partition: recipient.partition, variant: self.version as u8 }
    }

    fn deliver(
        message: &StoredMessage,
        form: DeliveryForm,
        draft: &mut Draft,
        now: Now,
    ) -> Publication {
        delivery::deliver(message, form, draft, now)
    }

    fn verifier(settings: &crate::dialect::Settings) -> Option<&Verifier> {
        settings.pulsar.verifier.as_ref()
    }

    fn granted(grant: &Grant, settings: &crate::dialect::Settings) -> Result<String, String> {
        credentials::granted(grant, &settings.pulsar)
    }

    fn admits(&self, publication: &Publication, now: Now) -> Admission {
        let RoleState::Listener(listener) = &self.part else { return Admission::No };
        let admission = listener.admits(publication, self.version);
        if admission != Admission::No {
            self.heard.set(now.tick());
        }
        admission
    }

    fn publish(
        place: &str,
        event: &Event<'_, '_>,
        _settings: &crate::dialect::Settings,
        now: Now,
        draft: &mut Draft,
        publish: &mut dyn FnMut(Publication),
    ) -> Result<(), Unusable> {
        let topic = fed::topic_of(place)?;
        if topic.domain() == TopicDomain::Persistent {
            return Err(Unusable("a persistent topic is fed where there is a store".into()));
        }
        let message = fed::message(event, now)?;
        // Nobody counts what is fed.
        let serial = volatile::hash(event.json) ^ now.monotonic_ns;
        publish(volatile::publication(&topic, &message, serial, draft, now));
        Ok(())
    }

    fn append(
        place: &str,
        event: &Event<'_, '_>,
        now: Now,
    ) -> Option<Result<(TopicName, MessageDraft), Unusable>> {
        fed::append(place, event, now)
    }
}

impl Pulsar {
    fn new(version: ApiVersion, role: PulsarRole, part: RoleState, now: Now) -> Self {
        let (heard, stage) = (Cell::new(now.tick()), PulsarStage::Judging);
        let (ends_at, is_challenged, is_narrow, is_known) = (NEVER, false, false, false);
        Self { heard, ends_at, is_challenged, is_narrow, version, role, stage, is_known, part }
    }

    /// Has the token judged, where there is a verifier.
    fn verify(&mut self, upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) {
        if context.settings.pulsar.anonymous {
            return self.ask(Rights::ALL, context.now, out);
        }
        match credentials::token(upgrade.authorization, &Params::read(upgrade.query)) {
            Some(token) => out.verify(token),
            None => self.reject(401, "Failed to authenticate", out.because(Reason::TokenMissing)),
        }
    }

    /// The verifier has spoken: of the token of the handshake, of the next one, or once more of the same.
    fn verified(&mut self, answer: TokenAnswer, context: &mut Context<'_>, out: &mut Actions) {
        let settings = &context.settings.pulsar;
        match (answer, self.stage) {
            (_, PulsarStage::Refused) => {}
            (TokenAnswer::Revoked, PulsarStage::Open) => out.push(UNAUTHENTICATED),
            (TokenAnswer::Granted(grant), PulsarStage::Judging) => {
                let rights = rights(&grant, settings);
                self.ends_at = credentials::end_of(&grant, context.now);
                self.is_narrow = !rights.are_all();
                self.ask(rights, context.now, out);
            }
            (TokenAnswer::Granted(grant), PulsarStage::Asking | PulsarStage::Open) => {
                self.renew(&grant, context, out)
            }
            (TokenAnswer::Refused(reason), PulsarStage::Open) => {
                self.deauthenticate(&reason.to_string(), out)
            }
            (TokenAnswer::Refused(Judged::Unavailable), _) => {
                self.reject(
                    503,
                    "Failed to authenticate: the verifier of tokens cannot be asked",
                    out,
                );
            }
            (TokenAnswer::Refused(_) | TokenAnswer::Revoked, _) => {
                self.reject(401, "Failed to authenticate", out)
            }
        }
    }

    /// Asks the owner of the topics, if that is among the rights.
    fn ask(&mut self, rights: Rights, now: Now, out: &mut Actions) {
        let RoleState::Wish(wish) = &mut self.part else { return };
        match wish.request.take() {
            Some(Ok(request)) if !request.is_allowed(&rights) => {
                self.end(403, "Not authorized", UNAUTHORIZED, out);
            }
            Some(Ok(mut request)) => {
                if let TopicQuestion::Consume(consuming) = &mut request
                    && matches!(consuming.topics, WantedTopics::Matching { .. })
                    && !rights.are_all()
                {
                    consuming.rights = Some(Box::new(rights));
                }
                (self.stage, self.is_known) = (PulsarStage::Asking, true);
                out.ask(Question::Topic(request));
                out.push(Action::Deadline(
                    now.monotonic_ns.saturating_add(ANSWER_S * 1_000_000_000),
                ));
            }
            Some(Err(reason)) => self.fail(400, &format!("Invalid query params: {reason}"), out),
            None => {}
        }
    }

    /// A token takes the place of the one before, with its end and its rights.
    fn renew(&mut self, grant: &Grant, context: &Context<'_>, out: &mut Actions) {
        self.ends_at = credentials::end_of(grant, context.now);
        self.is_challenged = false;
        let rights = rights(grant, &context.settings.pulsar);
        let was_narrow = std::mem::replace(&mut self.is_narrow, !rights.are_all());
        // The owner knows what the connection does.
        if was_narrow || self.is_narrow {
            out.ask(Question::Topic(TopicQuestion::Renew(Box::new(rights))));
        }
        if self.stage == PulsarStage::Open {
            out.push(Action::Deadline(self.due_ns(context)));
        }
    }

    /// A client hands in its next token, or says that it does.
    fn hand_in(&mut self, token: Option<&str>, context: &Context<'_>, out: &mut Actions) {
        match token {
            // Nobody asks for tokens.
            _ if context.settings.pulsar.anonymous => {}
            Some(token) => out.verify(token),
            None => self.deauthenticate("the AUTH_RESPONSE has no token", out),
        }
    }

    /// The session ends with its token.
    fn expire(&mut self, out: &mut Actions) {
        self.deauthenticate("the token has expired", out);
    }

    fn deauthenticate(&mut self, reason: &str, out: &mut Actions) {
        self.silence(out);
        self.stage = PulsarStage::Refused;
        out.close_saying(4005, format!("Failed to authenticate client: {reason}"));
    }

    fn is_over(&self, now: Now) -> bool {
        self.stage == PulsarStage::Open && self.ends_at <= now.tick()
    }

    /// The token is not good.
    fn reject(&mut self, status: u16, reason: &str, out: &mut Actions) {
        self.end(status, reason, UNAUTHENTICATED, out);
    }

    /// It cannot be what it wants to be.
    fn fail(&mut self, status: u16, reason: &str, out: &mut Actions) {
        let (code, text) = self.role.failed();
        self.end(status, reason, Action::close(code, text), out);
    }

    /// Ends by a status, or where the handshake is over, and in the first version always, by a close.
    fn end(&mut self, status: u16, reason: &str, close: Action, out: &mut Actions) {
        self.silence(out);
        let was_open =
            std::mem::replace(&mut self.stage, PulsarStage::Refused) == PulsarStage::Open;
        match self.version {
            ApiVersion::Later if !was_open => return out.refuse_saying(status, reason.to_owned()),
            ApiVersion::First if !was_open => out.push(Action::Accept),
            _ => {}
        }
        out.push(close);
    }

    /// Takes part from now on.
    fn begin(&mut self, context: &Context<'_>, out: &mut Actions) {
        self.stage = PulsarStage::Open;
        if let RoleState::Wish(wish) = &mut self.part {
            self.part = std::mem::replace(&mut wish.then, RoleState::None);
        }
        // First, so that who finds no room for a subscription is told so.
        out.push(Action::Accept);
        if let RoleState::Listener(listener) = &self.part {
            out.subscribe(&volatile::prefix(&listener.topic), b"");
        }
        let PulsarSettings { ping_interval_s: interval_s, ping_misses_max: misses_max, .. } =
            context.settings.pulsar;
        if interval_s > 0 {
            out.push(Action::Keepalive { interval_s, misses_max });
        }
        self.heard.set(context.now.tick());
        out.push(Action::Deadline(self.due_ns(context)));
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

    /// When its client is asked for the next token, if it still is.
    fn challenge_at(&self, context: &Context<'_>) -> Tick {
        match context.settings.pulsar.auth_challenge_s {
            seconds if seconds > 0 && !self.is_challenged && self.ends_at < NEVER => {
                self.ends_at.saturating_sub(ticks(seconds.into()))
            }
            _ => NEVER,
        }
    }

    /// When there is something to be done if nothing comes until then.
    fn due_ns(&self, context: &Context<'_>) -> u64 {
        let token_at = self.ends_at.min(self.challenge_at(context));
        let token_ns =
            if token_at == NEVER { u64::MAX } else { u64::from(token_at) * (TICK_MS * 1_000_000) };
        self.idle_until_ns(context).min(token_ns)
    }

    fn deadline(&mut self, context: &mut Context<'_>, out: &mut Actions) {
        match self.stage {
            PulsarStage::Asking => {
                self.fail(500, &self.role.failed_because("there is no answer now"), out)
            }
            PulsarStage::Open if self.is_over(context.now) => self.expire(out),
            PulsarStage::Open if self.idle_until_ns(context) > context.now.monotonic_ns => {
                if self.challenge_at(context) <= context.now.tick() {
                    self.is_challenged = true;
                    out.send(|out| out.extend_from_slice(credentials::CHALLENGE));
                }
                out.push(Action::Deadline(self.due_ns(context)));
            }
            PulsarStage::Open => {
                let ms = u64::from(context.settings.pulsar.idle_timeout_s) * 1000;
                let reason = format!(
                    "java.util.concurrent.TimeoutException: Idle timeout expired: {ms}/{ms} ms"
                );
                out.because(Reason::Idle).close_saying(1001, reason);
            }
            PulsarStage::Judging | PulsarStage::Refused => {}
        }
    }

    /// What the owner of the topics says.
    fn told(&mut self, reply: TopicAnswer, context: &mut Context<'_>, out: &mut Actions) {
        let version = self.version;
        match (reply, self.stage) {
            (TopicAnswer::Opened, PulsarStage::Asking) => self.begin(context, out),
            // A consumer of a pattern that cannot have a new topic of it.
            (TopicAnswer::Refused(refusal), PulsarStage::Open) => {
                self.silence(out);
                self.stage = PulsarStage::Refused;
                let (code, text) = self.role.failed();
                out.close_saying(code, format!("{text}: {}", refusal.reason));
            }
            (TopicAnswer::Refused(refusal), PulsarStage::Asking) => {
                let reason = match refusal.cause {
                    Cause::Invalid => format!("Invalid query params: {}", refusal.reason),
                    _ => self.role.failed_because(&refusal.reason),
                };
                self.fail(status_of(refusal.cause), &reason, out);
            }
            (TopicAnswer::Stored { id, context }, PulsarStage::Open) => {
                out.send(|out| delivery::put_ack(id, context.as_deref(), version, out));
            }
            (TopicAnswer::NotStored { reason, context }, PulsarStage::Open) => out.send(|out| {
                delivery::put_error(SendError::Unknown, &reason, context.as_deref(), version, out);
            }),
            (TopicAnswer::EndOfTopic(has_ended), PulsarStage::Open) => {
                out.send(|out| delivery::put_end_of_topic(has_ended, out));
            }
            (TopicAnswer::Share { place, of }, _) => match &mut self.part {
                RoleState::Listener(listener) => listener.share(place, of),
                RoleState::Wish(wish) => {
                    if let RoleState::Listener(listener) = &mut wish.then {
                        listener.share(place, of);
                    }
                }
                _ => {}
            },
            (TopicAnswer::StillSubscribed, PulsarStage::Open) => out.push(BAD_JSON),
            (TopicAnswer::Forbidden, PulsarStage::Asking | PulsarStage::Open) => {
                self.end(403, "Not authorized", UNAUTHORIZED, out);
            }
            _ => {}
        }
    }

    fn message(&mut self, text: &str, context: &mut Context<'_>, out: &mut Actions) {
        match (self.role, &mut self.part) {
            (PulsarRole::Producer, RoleState::Producer(producer)) => {
                if let Some(token) = producer.send(text, self.version, context, out) {
                    self.hand_in(token.as_deref(), context, out);
                }
            }
            (PulsarRole::Consumer, _) => self.command(text, context, out),
            (PulsarRole::Reader, _) => self.read_on(text, context, out),
            _ => {}
        }
    }

    /// A consumer says something.
    fn command(&mut self, text: &str, context: &Context<'_>, out: &mut Actions) {
        let Ok(command) = ConsumerCommand::read(text) else { return out.push(BAD_JSON) };
        let asked = match (&self.part, command) {
            (_, ConsumerCommand::Ack(Err(reason)) | ConsumerCommand::Nack(Err(reason))) => {
                return out.close_saying(1011, reason);
            }
            (RoleState::Listener(listener), ConsumerCommand::Ack(_) | ConsumerCommand::Nack(_)) => {
                return listener.free();
            }
            (_, ConsumerCommand::Ack(Ok(id))) => TopicQuestion::Ack(id),
            (_, ConsumerCommand::Nack(Ok(id))) => TopicQuestion::Nack(id),
            (RoleState::Listener(listener), ConsumerCommand::Permit(permits)) => {
                return listener.permit(permits);
            }
            (RoleState::Pull, ConsumerCommand::Permit(permits)) if permits > 0 => {
                TopicQuestion::Permit(permits)
            }
            // Who is pushed to has nothing to ask for.
            (_, ConsumerCommand::Permit(_)) => return,
            (_, ConsumerCommand::Unsubscribe) => {
                self.silence(out);
                TopicQuestion::Unsubscribe
            }
            (_, ConsumerCommand::AskEnd) => TopicQuestion::AskEnd,
            (_, ConsumerCommand::Renew(token)) => {
                return self.hand_in(token.as_deref(), context, out);
            }
        };
        out.ask(Question::Topic(asked));
    }

    /// A reader says something: whatever it is makes room for another message.
    fn read_on(&mut self, text: &str, context: &Context<'_>, out: &mut Actions) {
        let asked = match (&self.part, ConsumerCommand::read(text)) {
            (_, Err(_)) => return out.push(BAD_JSON),
            (_, Ok(ConsumerCommand::Renew(token))) => {
                return self.hand_in(token.as_deref(), context, out);
            }
            (_, Ok(ConsumerCommand::AskEnd)) => TopicQuestion::AskEnd,
            (RoleState::Listener(listener), Ok(_)) => return listener.free(),
            (_, Ok(ConsumerCommand::Ack(Ok(id)) | ConsumerCommand::Nack(Ok(id)))) => {
                TopicQuestion::Ack(id)
            }
            (_, Ok(_)) => {
                TopicQuestion::Ack(MessageId { position: Position::END, partition: None })
            }
        };
        out.ask(Question::Topic(asked));
    }

    /// Listens to nothing more.
    fn silence(&mut self, out: &mut Actions) {
        if let (RoleState::Listener(listener), PulsarStage::Open) = (&self.part, self.stage) {
            out.unsubscribe(&volatile::prefix(&listener.topic), b"");
            self.part = RoleState::None;
        }
    }

    fn leave(&mut self, out: &mut Actions) {
        self.silence(out);
        if std::mem::take(&mut self.is_known) {
            out.ask(Question::Topic(TopicQuestion::Gone));
        }
    }
}
