//! The WebSocket API of Pulsar: producers, consumers and readers of topics.
//!
//! A request names a topic and a role. The token is verified first, then the owner of the topics is
//! asked, whose decision answers the handshake: if it refuses, the first version of the API
//! completes the handshake and closes, later ones answer an HTTP status. All lasting state is the
//! owner's: a session forwards what each side sends.
//!
//! Messages of non-persistent topics are ordinary publications; see `volatile`.

mod client;
mod consumer;
mod credentials;
mod delivery;
mod fed;
mod handover;
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

use self::delivery::SendError;
use self::params::Params;
use self::path::{ApiVersion, PathError, PulsarEndpoint, Statistics};
use self::role::{PulsarRole, PulsarWish, RoleState, status_of};
use self::wish::wish;
use super::{
    Action, Actions, Admission, AskedTopic, Context, DeliveryForm, Dialect, Explanation,
    FeedAddress, Input, Request, Served, Unusable, Upgrade,
};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::json::RawValue;
use crate::reason::Reason;
use crate::service::topic::{
    Cause, MessageDraft, Recipient, Right, Rights, StoredMessage, TopicAnswer, TopicInquiry,
    TopicName, TopicQuestion, WantedTopics,
};
use crate::service::verification::TokenAnswer;
use crate::service::{Answer, Question};
use crate::token::{Grant, Refusal as Judged, Verdict, Verifier};
use crate::wheel::{NEVER, Now, TICK_MS, Tick, ticks};
use std::cell::Cell;
use std::fmt;

/// Longest message of a client, in bytes: the reference's `webSocketMaxTextFrameSize`.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Longest body of a request for statistics, in bytes; it needs none.
const BODY_BYTES_MAX: usize = 1024;
/// Seconds for the first answer of the owner of the topics, which may have to load a topic from a
/// slow disk. The reference's clients give up after as many.
const ANSWER_S: u64 = 30;

/// Close codes are the reference's plus 4000: codes below 1000 break clients.
const BAD_JSON: Action = Action::close(4003, "Failed to de-serialize from JSON");
const UNAUTHENTICATED: Action = Action::close(4005, "Failed to authenticate client");
const UNAUTHORIZED: Action = Action::close(4006, "Client is not authorized");

/// One connection.
pub struct Pulsar {
    /// The last tick with traffic.
    heard: Cell<Tick>,
    /// The expiry of its token.
    ends_at: Tick,
    /// Whether it was asked for the next token.
    is_challenged: bool,
    /// Whether its token grants less than everything.
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
    /// Refused or ended.
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
    const FORMS: usize = 2;
    /// Its durable topics are this node's own.
    const CLOSE_ISOLATED: Option<(u16, &'static str)> = None;
    const PING: &'static [u8] = b"PING";
    const CLOSE_UNANSWERED: (u16, &'static str) = (1001, "pings were not answered");

    fn message_bytes_max(_settings: &crate::dialect::Settings) -> usize {
        MESSAGE_BYTES_MAX
    }

    /// Those of durable topics are known to their owner, who tells them with the topic's statistics.
    fn subscriptions(&self, visit: &mut dyn FnMut(fmt::Arguments<'_>)) {
        if let RoleState::Listener(listener) = &self.part {
            visit(format_args!("{}", fed::place_of(listener.topic.as_str())));
        }
    }

    fn topic(place: &str) -> Result<AskedTopic, &'static str> {
        fed::asked(place)
    }

    fn place(topic: &str) -> String {
        fed::place_of(topic.trim_end_matches('\0'))
    }

    fn too_long(bytes: u64, bytes_max: usize) -> String {
        format!("Text message size [{bytes}] exceeds maximum size [{bytes_max}]")
    }

    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let (version, endpoint) = path::read(upgrade.path)?;
        let mut bare = Self::new(version, PulsarRole::PingPong, RoleState::None, context.now);
        let (role, wish) = match endpoint {
            Ok(PulsarEndpoint::PingPong) => {
                bare.begin(context, out);
                return Some(bare);
            }
            Ok(endpoint) => wish(endpoint, upgrade, context),
            Err(PathError::Subscription(reason)) => {
                (PulsarRole::Consumer, PulsarWish::none(reason.into()))
            }
            Err(PathError::Malformed(reason)) => {
                out.refuse_saying(404, reason);
                bare.stage = PulsarStage::Refused;
                return Some(bare);
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
        let Some(statistics) = path::statistics(request.path) else {
            return plain(
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
        // Answered within the request: there is no session here that could wait for a remote
        // verifier.
        let verdict = token.zip(settings.verifier.as_ref());
        let verdict = verdict.map(|(token, verifier)| verifier.verify(token, context.now.unix_ms));
        let rights = match verdict {
            _ if settings.anonymous => Rights::ALL,
            Some(Verdict::Granted(grant)) => rights(&grant, settings),
            Some(Verdict::Ask) => {
                return plain(
                    403,
                    "Statistics are for tokens that are verified here, not far away.",
                );
            }
            _ => return plain(401, "Failed to authenticate"),
        };

        Served::Asked(Question::Topic(TopicQuestion::Inquire(Box::new(match statistics {
            Statistics::Metrics => TopicInquiry::ProxyMetrics(rights),
            Statistics::All => match params::page(&params) {
                Ok((after, count)) => TopicInquiry::ProxyStats { rights, after, count },
                Err(wrong) => return plain(400, &wrong),
            },
            Statistics::Of(topic) if rights.allow(Right::Consume, &topic) => {
                TopicInquiry::ProxyTopic(topic)
            }
            Statistics::Of(_) => return plain(403, "Not authorized"),
        }))))
    }

    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
        if matches!(input, Input::Text(_) | Input::Binary(_) | Input::Alive) {
            self.heard.set(context.now.tick());
        }

        match input {
            // The deadline may be later in this turn than the message.
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

    fn freeze(&self) -> Option<Box<RawValue>> {
        self.frozen()
    }

    fn thaw(frozen: &RawValue, _: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        Self::thawed(frozen, out)
    }

    fn delivery_form(&self, recipient: &Recipient, now: Now) -> DeliveryForm {
        self.heard.set(now.tick());
        // Sessions that do not report redeliveries share the bytes of all of them.
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
            // A delivery counts as traffic too: the client reads.
            self.heard.set(now.tick());
        }
        admission
    }

    fn explain(&self, publication: &Publication, _: Now) -> Explanation {
        match &self.part {
            RoleState::Listener(listener) => listener.explain(publication),
            _ => Explanation::no("it consumes no topic"),
        }
    }

    fn publish(
        place: &str,
        event: &Event<'_, '_>,
        _settings: &crate::dialect::Settings,
        now: Now,
        draft: &mut Draft,
        publish: &mut dyn FnMut(Publication),
    ) -> Result<(), Unusable> {
        // A non-persistent one: `append` has taken what is fed for the others.
        let topic = fed::topic_of(place)?;
        let message = fed::message(event, now)?;
        // Fed messages have no producer that numbers them, and equal ones must not all go to one
        // consumer.
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

    /// Has the token verified, if there is a verifier.
    fn verify(&mut self, upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) {
        if context.settings.pulsar.anonymous {
            return self.ask(Rights::ALL, context.now, out);
        }
        match credentials::token(upgrade.authorization, &Params::read(upgrade.query)) {
            Some(token) => out.verify(token),
            None => self.reject(401, "Failed to authenticate", out.because(Reason::TokenMissing)),
        }
    }

    /// Handles the verifier's answer: for the token of the handshake, the next one, or the current
    /// one verified again.
    fn verified(&mut self, answer: TokenAnswer, context: &mut Context<'_>, out: &mut Actions) {
        let settings = &context.settings.pulsar;
        match (answer, self.stage) {
            // The close is on its way.
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

    /// Asks the owner of the topics, if the rights permit it.
    fn ask(&mut self, rights: Rights, now: Now, out: &mut Actions) {
        let RoleState::Wish(wish) = &mut self.part else { return };
        match wish.request.take() {
            Some(Ok(request)) if !request.is_allowed(&rights) => {
                self.end(403, "Not authorized", UNAUTHORIZED, out);
            }
            Some(Ok(mut request)) => {
                // Only of a pattern: the topics that match later are checked one by one, by these
                // rights.
                if let TopicQuestion::Consume(consuming) = &mut request
                    && matches!(consuming.topics, WantedTopics::Matching { .. })
                    && !rights.are_all()
                {
                    consuming.rights = Some(Box::new(rights));
                }
                (self.stage, self.is_known) = (PulsarStage::Asking, true);
                out.ask(Question::Topic(request));
                // The owner answers in every case; this is for a store that hangs.
                out.push(Action::Deadline(
                    now.monotonic_ns.saturating_add(ANSWER_S * 1_000_000_000),
                ));
            }
            Some(Err(reason)) => self.fail(400, &format!("Invalid query params: {reason}"), out),
            None => {}
        }
    }

    /// Replaces the token, with its expiry and its rights.
    fn renew(&mut self, grant: &Grant, context: &Context<'_>, out: &mut Actions) {
        self.ends_at = credentials::end_of(grant, context.now);
        self.is_challenged = false;
        let rights = rights(grant, &context.settings.pulsar);
        let was_narrow = std::mem::replace(&mut self.is_narrow, !rights.are_all());
        // The owner knows what the connection does, and ends what the new rights do not permit.
        if was_narrow || self.is_narrow {
            out.ask(Question::Topic(TopicQuestion::Renew(Box::new(rights))));
        }
        if self.stage == PulsarStage::Open {
            out.push(Action::Deadline(self.due_ns(context)));
        }
    }

    /// Handles a client's next token, or a message that should contain one.
    fn hand_in(&mut self, token: Option<&str>, context: &Context<'_>, out: &mut Actions) {
        match token {
            // Tokens are not verified.
            _ if context.settings.pulsar.anonymous => {}
            Some(token) => out.verify(token),
            None => self.deauthenticate("the AUTH_RESPONSE has no token", out),
        }
    }

    /// Ends the session with its token.
    fn expire(&mut self, out: &mut Actions) {
        self.deauthenticate("the token has expired", out);
    }

    /// Ends the session with the reason. No more messages: the subscription goes before the close.
    fn deauthenticate(&mut self, reason: &str, out: &mut Actions) {
        self.silence(out);
        self.stage = PulsarStage::Refused;
        out.close_saying(4005, format!("Failed to authenticate client: {reason}"));
    }

    fn is_over(&self, now: Now) -> bool {
        self.stage == PulsarStage::Open && self.ends_at <= now.tick()
    }

    /// Ends a session whose token is not valid.
    fn reject(&mut self, status: u16, reason: &str, out: &mut Actions) {
        self.end(status, reason, UNAUTHENTICATED, out);
    }

    /// Ends a session that cannot have its role.
    fn fail(&mut self, status: u16, reason: &str, out: &mut Actions) {
        let (code, text) = self.role.failed();
        self.end(status, reason, Action::close(code, text), out);
    }

    /// Ends by a status, or after the handshake, and in the first version always, by a close.
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

    /// Begins to take part.
    fn begin(&mut self, context: &Context<'_>, out: &mut Actions) {
        self.stage = PulsarStage::Open;
        if let RoleState::Wish(wish) = &mut self.part {
            self.part = std::mem::replace(&mut wish.then, RoleState::None);
        }
        // First, so that a client without room for a subscription is told by a close.
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

    /// The moment at which it has been idle for too long, without further traffic.
    fn idle_until_ns(&self, context: &Context<'_>) -> u64 {
        match context.settings.pulsar.idle_timeout_s {
            0 => u64::MAX,
            seconds => {
                let tick = u64::from(self.heard.get()) + u64::from(ticks(seconds.into()));
                tick.saturating_mul(TICK_MS * 1_000_000)
            }
        }
    }

    /// The moment to ask its client for the next token, `NEVER` if that has been done.
    fn challenge_at(&self, context: &Context<'_>) -> Tick {
        match context.settings.pulsar.auth_challenge_s {
            seconds if seconds > 0 && !self.is_challenged && self.ends_at < NEVER => {
                self.ends_at.saturating_sub(ticks(seconds.into()))
            }
            _ => NEVER,
        }
    }

    /// The next moment at which something is due without further traffic.
    fn due_ns(&self, context: &Context<'_>) -> u64 {
        let token_at = self.ends_at.min(self.challenge_at(context));
        let token_ns =
            if token_at == NEVER { u64::MAX } else { u64::from(token_at) * (TICK_MS * 1_000_000) };
        self.idle_until_ns(context).min(token_ns)
    }

    fn deadline(&mut self, context: &mut Context<'_>, out: &mut Actions) {
        match self.stage {
            // A store that hangs; the client may retry, so the owner is told by `Gone` afterwards.
            PulsarStage::Asking => {
                self.fail(500, &self.role.failed_because("there is no answer now"), out)
            }
            PulsarStage::Open if self.is_over(context.now) => self.expire(out),
            // Traffic has moved the deadline since it was set.
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

    /// Handles an answer of the owner of the topics.
    fn told(&mut self, reply: TopicAnswer, context: &mut Context<'_>, out: &mut Actions) {
        let version = self.version;
        match (reply, self.stage) {
            (TopicAnswer::Opened, PulsarStage::Asking) => self.begin(context, out),
            // A consumer of a pattern, to which a new topic of it is refused.
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
            // Also before the handshake is answered: shares are given when the consumer is
            // registered.
            (TopicAnswer::Share { place, of }, _) => match &mut self.part {
                RoleState::Listener(listener) => listener.share(place, of),
                RoleState::Wish(wish) => {
                    if let RoleState::Listener(listener) = &mut wish.then {
                        listener.share(place, of);
                    }
                }
                _ => {}
            },
            // The subscription has other consumers; the reference answers with its code for bad
            // JSON.
            (TopicAnswer::StillSubscribed, PulsarStage::Open) => out.push(BAD_JSON),
            // A renewed token may permit less than the one before.
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

    /// Stops listening.
    fn silence(&mut self, out: &mut Actions) {
        if let (RoleState::Listener(listener), PulsarStage::Open) = (&self.part, self.stage) {
            out.unsubscribe(&volatile::prefix(&listener.topic), b"");
            self.part = RoleState::None;
        }
    }

    fn leave(&mut self, out: &mut Actions) {
        self.silence(out);
        // Connections that were refused before they were asked for have nothing to give back.
        if std::mem::take(&mut self.is_known) {
            out.ask(Question::Topic(TopicQuestion::Gone));
        }
    }
}

/// A response of one line of text.
fn plain(status: u16, line: &str) -> Served {
    let body = format!("{line}\n").into();
    Served::Answer { status, content_type: "text/plain; charset=utf-8", body }
}
