//! Wazo's websocketd: a token in the request, then subscriptions by event names, then the events
//! that the token's access control list and the event's addressing let through.
//!
//! Any path is accepted. An invalid request is reported after the handshake, by a close frame.
//! Nothing is sent before the token is verified; messages that arrive during the verification wait,
//! as in the original, which does not read meanwhile. Version 1 of the protocol falls silent with
//! `start`: from then on a client receives the events' own bytes. Version 2 wraps them.
//!
//! An event's topic is its name. The event that announces the end of a Wazo session has that
//! session's uuid as facet; every connection subscribes to its own in addition to what its client
//! asks for. A connection ends with code 4003 when its token expires (`deadline`, `admits`), is
//! revoked by its verifier (`handle`), or its Wazo session is deleted (`admits`).

mod acl;
mod bus;
mod client;
mod event;
mod message;
mod pass;
mod pattern;
mod settings;
mod tree;

pub use self::acl::{Acl, Acls};
pub use self::event::{Addressed, RequiredAcl, Scope, name};
pub(super) use self::pass::ACCESS;
pub use self::pattern::{TEXT_BYTES_MAX, Who};
pub use self::settings::WazoSettings;

use self::event::{EventTarget, SESSION_DELETED, TOPIC};
use self::message::{WazoRequest, WazoVersion};
use self::pass::{FrozenPass, Pass};
use crate::dialect::early::{Early, TokenFirst};
use crate::dialect::{
    Action, Actions, Admission, AmqpMessage, AskedTopic, ClaimedPaths, Context, Dialect,
    Explanation, FeedAddress, Input, PerShard, Unusable, Upgrade,
};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::json::RawValue;
use crate::reason::Reason;
use crate::service::Answer;
use crate::service::verification::TokenAnswer;
use crate::text::excerpt;
use crate::token::{Grant, Verifier};
use crate::wheel::Now;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;

/// The event name that stands for every name.
const EVERY: &str = "*";

/// Longest event name that can be subscribed to, in bytes; Wazo's longest has some 60 characters.
const NAME_BYTES_MAX: usize = 1024;
/// Bytes of all event names of one session: a thousand long ones.
const NAMES_BYTES_MAX: usize = 64 * 1024;

const NO_TOKEN: Action = Action::close(4001, "no token");
const UNAUTHENTICATED: Action = Action::close(4002, "authentication failed");
const PROTOCOL_ERROR: Action = Action::close(4004, "");
/// Code and reason of a token that has expired or was deleted.
const EXPIRED: (u16, &str) = (4003, "authentication expired");

/// One connection to websocketd.
pub struct Wazo {
    version: WazoVersion,
    /// Whether events flow.
    started: bool,
    /// Whether an answer about a token is awaited.
    verifying: bool,
    /// Messages of the client while one was.
    early: Option<Box<Early>>,
    live: Option<Box<WazoLive>>,
}

/// An accepted token, and the subscriptions of the client.
struct WazoLive {
    pass: Pass,
    names: SmallVec<[Box<str>; 1]>,
}

/// A session as data, for another process.
#[derive(Serialize, Deserialize)]
struct FrozenWazo<'a> {
    version: WazoVersion,
    started: bool,
    verifying: bool,
    early: Option<Cow<'a, Early>>,
    pass: Option<FrozenPass>,
    names: Cow<'a, [Box<str>]>,
}

impl Dialect for Wazo {
    const NAME: &'static str = "wazo";
    const FEED: FeedAddress = FeedAddress {
        word: "wazo",
        parts: (0, 2),
        shape: "write wazo, wazo/TENANT or wazo/TENANT/USER",
    };
    const CLIENT: &'static dyn crate::dialect::client::DialectClient = &client::WazoClient;
    const TOPIC: u8 = TOPIC;
    const FORMS: usize = 2;
    const CLOSE_ISOLATED: Option<(u16, &'static str)> = Some((1011, "cut off from other nodes"));
    const PING: &'static [u8] = b"";
    const CLOSE_UNANSWERED: (u16, &'static str) = (1011, "keepalive ping timeout");
    const FED_BY_BUS: bool = true;
    const CLOSE_BUS_LOST: Option<(u16, &'static str)> = Some((1011, "bus connection lost"));
    const PATHS: ClaimedPaths = ClaimedPaths::Any;

    fn message_bytes_max(settings: &crate::dialect::Settings) -> usize {
        settings.wazo.message_bytes_max
    }

    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        // Browsers cannot read a refused handshake's status, so every error is a close code.
        out.push(Action::Accept);
        let mut session = Self {
            version: WazoVersion::One,
            started: false,
            verifying: true,
            early: None,
            live: None,
        };
        match parameter(upgrade.query, "version").as_deref() {
            None | Some("1") => {}
            Some("2") => session.version = WazoVersion::Two,
            Some(_) => {
                out.because(Reason::Protocol).push(PROTOCOL_ERROR);
                return Some(session);
            }
        }

        let token = parameter(upgrade.query, "token").unwrap_or(Cow::Borrowed(upgrade.auth_token));
        if token.is_empty() {
            out.because(Reason::TokenMissing).push(NO_TOKEN);
        } else {
            session.verify(&token, context, out);
        }
        Some(session)
    }

    /// A browser that is sent here to accept a certificate gets a page.
    fn plain(method: &str, path: &str) -> u16 {
        if (method, path) == ("GET", "/") { 200 } else { 426 }
    }

    fn subject(&self) -> Option<Cow<'_, str>> {
        self.live.as_ref().map(|live| Cow::Borrowed(live.pass.user()))
    }

    fn subscriptions(&self, visit: &mut dyn FnMut(fmt::Arguments<'_>)) {
        let names = self.live.iter().flat_map(|live| &live.names);
        names.for_each(|name| visit(format_args!("{name}")));
    }

    fn topic(place: &str) -> Result<AskedTopic, &'static str> {
        if place.contains('\0') || !(1..=NAME_BYTES_MAX).contains(&place.len()) {
            return Err("write wazo/EVENT-NAME");
        }
        let topic = AskedTopic::new(&[&[TOPIC], place.as_bytes(), b"\0"]);
        // Every session watches for its own deletion, by a facet, and gets no event by that.
        Ok(AskedTopic { facet: Some(Box::default()), ..topic })
    }

    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
        match input {
            Input::Text(text) => self.hear(text, context, out),
            // Empty text is no request either, so it fails in order once the token is verified.
            Input::Binary(_) => self.hear("", context, out),
            Input::Answer(Answer::Token(_, TokenAnswer::Granted(grant))) => {
                match Pass::new(&grant, context) {
                    Some(pass) => self.admit(pass, context, out),
                    None => self.reject(out),
                }
            }
            Input::Answer(Answer::Token(_, TokenAnswer::Refused(_))) => self.reject(out),
            // The token in use, verified again.
            Input::Answer(Answer::Token(_, TokenAnswer::Revoked)) => {
                out.push(Action::close(EXPIRED.0, EXPIRED.1))
            }
            Input::Alive | Input::Answer(_) | Input::Configured => {}
            Input::Deadline => self.deadline(context.now, out),
            Input::Gone => self.unsubscribe_all(out),
        }
    }

    fn freeze(&self) -> Option<Box<RawValue>> {
        let frozen = FrozenWazo {
            version: self.version,
            started: self.started,
            verifying: self.verifying,
            early: self.early.as_deref().map(Cow::Borrowed),
            pass: self.live.as_ref().map(|live| live.pass.freeze()),
            names: self.live.as_ref().map(|live| &live.names[..]).unwrap_or_default().into(),
        };
        to_raw_value(&frozen).ok()
    }

    fn thaw(frozen: &RawValue, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let FrozenWazo { version, started, verifying, early, pass, names } =
            serde_json::from_str(frozen.get()).ok()?;
        let live = match pass {
            None => None,
            Some(pass) => {
                let pass = Pass::thaw(pass, context.shared.get::<Acls>())?;
                watch(pass.session(), Actions::subscribe, out);
                names.iter().for_each(|name| out.subscribe(&prefix(name), b""));
                Some(Box::new(WazoLive { pass, names: names.iter().cloned().collect() }))
            }
        };
        let early = early.map(|early| Box::new(early.into_owned()));
        Some(Self { version, started, verifying, early, live })
    }

    /// The access control lists, which are long, and which many sessions have in common.
    fn freeze_shared(shared: &mut PerShard) -> Option<Box<RawValue>> {
        let lists = shared.get::<Acls>().freeze();
        if lists.is_empty() { None } else { to_raw_value(&lists).ok() }
    }

    fn thaw_shared(frozen: &RawValue, shared: &mut PerShard) {
        let Ok(lists) = serde_json::from_str::<Vec<Vec<Box<str>>>>(frozen.get()) else { return };
        for list in lists {
            let patterns: Vec<&str> = list.iter().map(|pattern| &**pattern).collect();
            shared.get::<Acls>().pass(&patterns);
        }
    }

    fn verifier(settings: &crate::dialect::Settings) -> Option<&Verifier> {
        settings.wazo.verifier.as_ref()
    }

    fn granted(grant: &Grant, _: &crate::dialect::Settings) -> Result<String, String> {
        pass::granted(grant)
    }

    fn admits(&self, publication: &Publication, now: Now) -> Admission {
        let Some(live) = &self.live else { return Admission::No };
        let pass = &live.pass;
        if pass.has_expired(now) {
            // The deadline may be later in this turn than the event.
            return Admission::Close(EXPIRED.0, EXPIRED.1, Reason::Expired);
        }

        // wazo-auth announces that the token's session was deleted. No subscription of the client's
        // is needed.
        if pass.is_of(publication.facet()) {
            return Admission::Close(EXPIRED.0, EXPIRED.1, Reason::Revoked);
        }

        // The cheap test first: addressing is a comparison, access is patterns.
        match EventTarget::of(publication) {
            Some(target) if self.started && pass.reaches(&target) => {
                if pass.allows(&target) {
                    Admission::Form(self.version as u8)
                } else {
                    Admission::Denied
                }
            }
            _ => Admission::No,
        }
    }

    fn explain(&self, publication: &Publication, now: Now) -> Explanation {
        let target = EventTarget::of(publication);
        let required = || target.as_ref().and_then(EventTarget::required_acl).unwrap_or_default();
        match self.admits(publication, now) {
            Admission::No if !self.started => Explanation::no("the client has not sent start"),
            Admission::No => Explanation::no("it is for other users, or for another tenant"),
            Admission::Denied => Explanation::no(format!(
                "the token's acl does not allow {}",
                excerpt(&String::from_utf8_lossy(required()), NAME_BYTES_MAX)
            )),
            admission => Explanation::of(admission),
        }
    }

    fn publish(
        place: &str,
        event: &Event<'_, '_>,
        _: &crate::dialect::Settings,
        now: Now,
        draft: &mut Draft,
        publish: &mut dyn FnMut(Publication),
    ) -> Result<(), Unusable> {
        // The feed's address narrows the receivers where the event's body cannot.
        let mut parts = place.split('/');
        let tenant = parts.next().filter(|tenant| !tenant.is_empty());
        let user: Option<[&str; 1]> = parts.next().map(|user| [user]);
        let users = user.as_ref().map_or(&[][..], |user| &user[..]);
        let scope = tenant.map(|_| Scope { tenant, everyone: users.is_empty(), users });
        Addressed::by_body(event, scope)?.publish(event, draft)?;
        publish(draft.finish(now));
        Ok(())
    }

    fn publish_message(
        message: &AmqpMessage<'_>,
        has_headers: bool,
        event: &Event<'_, '_>,
        draft: &mut Draft,
    ) -> Result<(), Unusable> {
        bus::publish(message, has_headers, event, draft)
    }
}

impl TokenFirst for Wazo {
    const TOO_MUCH: Action = PROTOCOL_ERROR;

    fn is_verifying(&self) -> bool {
        self.verifying
    }

    fn early(&mut self) -> &mut Option<Box<Early>> {
        &mut self.early
    }

    fn message(&mut self, text: &str, context: &mut Context<'_>, out: &mut Actions) {
        // The parser is borrowed while it reads, and verifying needs the whole context.
        let mut token = None;
        let subscriptions_max = context.settings.wazo.subscriptions_max as usize;
        let read = context.parser.parse(text.as_bytes(), |event| match WazoRequest::read(event)? {
            WazoRequest::Subscribe(name) => self.subscribe(name, subscriptions_max, out),
            // Answered before events flow: version 1 is silent afterwards.
            WazoRequest::Start => {
                self.answer("start", "null", out);
                self.started = true;
                Some(())
            }
            WazoRequest::Token(text) => {
                token = Some(text.to_owned());
                Some(())
            }
            WazoRequest::Ping(payload) => {
                if self.version == WazoVersion::Two {
                    message::pong(payload, out);
                }
                Some(())
            }
        });

        // Unknown operations and malformed ones end the session, as in the original.
        match (read, token) {
            (Ok(Some(())), None) => {}
            (Ok(Some(())), Some(token)) => self.verify(&token, context, out),
            _ => out.push(PROTOCOL_ERROR),
        }
    }
}

impl Wazo {
    /// Has a token verified; everything else waits for it.
    fn verify(&mut self, token: &str, context: &mut Context<'_>, out: &mut Actions) {
        self.verifying = true;
        if !context.settings.wazo.anonymous {
            return out.verify(token);
        }

        // Without a verifier any token opens everything.
        match Pass::of_anyone(context) {
            Some(pass) => self.admit(pass, context, out),
            None => self.reject(out),
        }
    }

    /// Admits a valid token: the first one, a later one of the client, or the current one verified
    /// again.
    fn admit(&mut self, pass: Pass, context: &mut Context<'_>, out: &mut Actions) {
        out.push(Action::Deadline(pass.expires_at_ns));
        let asked = std::mem::take(&mut self.verifying);
        match &mut self.live {
            Some(live) => {
                // The later token may belong to another session of Wazo's, whose deletion ends this
                // one then.
                if live.pass.session() != pass.session() {
                    watch(live.pass.session(), Actions::unsubscribe, out);
                    watch(pass.session(), Actions::subscribe, out);
                }
                live.pass.renew(pass);
                // Only a token that the client has sent is answered.
                if asked {
                    self.answer("token", "null", out);
                }
            }
            None => {
                watch(pass.session(), Actions::subscribe, out);
                self.live = Some(Box::new(WazoLive { pass, names: SmallVec::new() }));
                let settings = &context.settings.wazo;
                out.push(Action::Keepalive {
                    interval_s: settings.ping_interval_s,
                    misses_max: settings.ping_misses_max,
                });
                let data = match self.version {
                    WazoVersion::One => r#"{"version": 1}"#,
                    WazoVersion::Two => r#"{"version": 2}"#,
                };
                self.answer("init", data, out);
            }
        }

        // After the reply: the messages that waited are answered in order.
        self.catch_up(context, out);
    }

    /// Refuses a token: one sent by the client, or the one in use, verified again.
    fn reject(&self, out: &mut Actions) {
        out.push(if self.verifying {
            UNAUTHENTICATED
        } else {
            Action::close(EXPIRED.0, EXPIRED.1)
        });
    }

    /// Subscribes to a name; `None` when a limit is exceeded.
    fn subscribe(&mut self, name: &str, subscriptions_max: usize, out: &mut Actions) -> Option<()> {
        let names = &mut self.live.as_mut()?.names;
        // A name that is known is confirmed again, and counts once.
        if !names.iter().any(|known| **known == *name) {
            let bytes: usize = names.iter().map(|name| name.len()).sum();
            if names.len() >= subscriptions_max
                || name.len() > NAME_BYTES_MAX
                || bytes + name.len() > NAMES_BYTES_MAX
            {
                return None;
            }
            names.push(name.into());
            out.subscribe(&prefix(name), b"");
        }
        self.answer("subscribe", "null", out);
        Some(())
    }

    /// Answers, unless the client receives events only.
    fn answer(&self, op: &str, data: &str, out: &mut Actions) {
        if self.version == WazoVersion::Two || !self.started {
            message::answer(self.version, op, data, out);
        }
    }

    fn deadline(&self, now: Now, out: &mut Actions) {
        match &self.live {
            Some(live) if !live.pass.has_expired(now) => {
                out.push(Action::Deadline(live.pass.expires_at_ns))
            }
            _ => out.push(Action::close(EXPIRED.0, EXPIRED.1)),
        }
    }

    fn unsubscribe_all(&mut self, out: &mut Actions) {
        let Some(live) = self.live.take() else { return };
        watch(live.pass.session(), Actions::unsubscribe, out);
        live.names.iter().for_each(|name| out.unsubscribe(&prefix(name), b""));
    }
}

/// Begins or ends to watch for the deletion of a session.
fn watch(session: &str, act: impl Fn(&mut Actions, &[&[u8]], &[u8]), out: &mut Actions) {
    // Tokens without a session, static ones for example, cannot lose it.
    if !session.is_empty() {
        let facet = [session.as_bytes(), b"\0"].concat();
        act(out, &prefix(SESSION_DELETED), &facet);
    }
}

/// The prefix of the topics of a name; the NUL ends it.
fn prefix(name: &str) -> [&[u8]; 3] {
    if name == EVERY { [&[TOPIC], b"", b""] } else { [&[TOPIC], name.as_bytes(), b"\0"] }
}

/// The first non-blank value of a query's parameter, as Python's `parse_qs` reads it.
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
}
