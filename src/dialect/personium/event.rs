//! The Personium event bus, `/{cell}/__event`: a token first, then subscriptions by prefixes of an
//! event's Type and Object, then events.
//!
//! Two spellings share one endpoint. The *classic* one (Personium 1.6.2) has lower-case keys and
//! seconds and passes events on as they were fed; the *current* one (1.6.3 and later) has
//! capitalised keys and milliseconds and its own form of events. So every event has two forms, and
//! a session takes the spelling of its first token. Every end that the application decides is close
//! code 1000 without a reason.
//!
//! An event's topic is its cell and its Object, its facet is its Type. An expired session gives up
//! its subscriptions and watches its whole cell instead: the first event there ends it.

mod address;
mod client;
mod command;
mod external;
mod rule;
mod text;

use self::address::{TOPIC, cell_of, named, place_of, watch};
use self::command::EventCommand;
use self::external::Author;
use self::rule::EventRule;
use self::text::{ErrorReason, Spelling};
use crate::dialect::early::{Early, TokenFirst};
use crate::dialect::grants::{cells, of_list};
use crate::dialect::personium::PersoniumSettings;
use crate::dialect::personium::cell::{CELL_BYTES_MAX, is_for, is_name};
use crate::dialect::personium::reply::{self, CLOSE, keepalive};
use crate::dialect::personium::scope;
use crate::dialect::small_list;
use crate::dialect::{
    Action, Actions, Admission, AskedTopic, Context, Dialect, Explanation, FeedAddress, Input,
    Unusable, Upgrade,
};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::json::RawValue;
use crate::reason::Reason;
use crate::service::Answer;
use crate::service::verification::TokenAnswer;
use crate::token::{Grant, Verifier};
use crate::wheel::{Now, SECOND_NS};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;

/// Bytes of all Types and Objects of one session's rules: a thousand ordinary URLs. It bounds the
/// memory of a session and the length of the answer to one request for its state.
const RULES_BYTES_MAX: usize = 256 * 1024;

/// One connection to the event bus of a cell.
#[derive(Serialize, Deserialize)]
pub struct PersoniumEvent {
    /// The cell's name, then the request's `Host`: tokens may name the cell by its URL.
    cell_and_host: Box<str>,
    cell_bytes: u8,
    spelling: Spelling,
    /// Whether an answer about a token is awaited.
    verifying: bool,
    /// Messages of the client while one was.
    early: Option<Box<Early>>,
    live: Option<Box<EventLive>>,
}

/// The session that an accepted token has opened.
#[derive(Serialize, Deserialize)]
struct EventLive {
    expires_at_ns: u64,
    expired: bool,
    #[serde(with = "small_list")]
    rules: SmallVec<[EventRule; 1]>,
    /// The prefixes of Types and Objects to which the token is restricted.
    narrow: Option<Box<Narrow>>,
    /// The author of events that the client may publish; `None` when the token allows reading only.
    author: Option<Box<Author>>,
}

#[derive(Serialize, Deserialize)]
struct Narrow {
    types: Option<Box<[Box<str>]>>,
    objects: Option<Box<[Box<str>]>>,
}

impl Dialect for PersoniumEvent {
    const NAME: &'static str = "personium-event";
    const TABLE: &'static str = "personium";
    const FEED: FeedAddress =
        FeedAddress { word: "event", parts: (1, 1), shape: "write event/CELL" };
    const CLIENT: &'static dyn crate::dialect::client::DialectClient = &client::EventBusClient;
    const TOPIC: u8 = TOPIC;
    const FORMS: usize = 2;
    const CLOSE_ISOLATED: Option<(u16, &'static str)> = Some((CLOSE, ""));
    const PING: &'static [u8] = reply::PING;
    const CLOSE_UNANSWERED: (u16, &'static str) = (CLOSE, "");
    const CLOSE_KICKED: (u16, &'static str) = (CLOSE, "");

    fn message_bytes_max(settings: &crate::dialect::Settings) -> usize {
        settings.personium.text_bytes_max
    }

    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let cell = cell_of(upgrade)?;

        let settings = &context.settings.personium;
        out.push(Action::Accept);
        out.push(Action::Deadline(after(context.now, settings.token_timeout_s)));
        // Proxies cut idle connections, those without a token yet included.
        out.push(keepalive(settings));
        Some(Self {
            cell_and_host: format!("{cell}{}", upgrade.host).into(),
            cell_bytes: cell.len() as u8,
            spelling: Spelling::Classic,
            verifying: false,
            early: None,
            live: None,
        })
    }

    fn subject(&self) -> Option<Cow<'_, str>> {
        self.live.as_ref()?.author.as_ref()?.subject.as_deref().map(Cow::Borrowed)
    }

    fn subscriptions(&self, visit: &mut dyn FnMut(fmt::Arguments<'_>)) {
        let cell = self.cell();
        for rule in self.live.iter().flat_map(|live| &live.rules) {
            rule.show(cell, visit);
        }
    }

    fn topic(place: &str) -> Result<AskedTopic, &'static str> {
        let (cell, object) = place.split_once('/').unwrap_or((place, ""));
        let topic = is_name(cell).then(|| AskedTopic::new(&named(cell, object.as_bytes())));
        topic.ok_or("write event/CELL/OBJECT")
    }

    fn place(topic: &str) -> String {
        place_of(topic)
    }

    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
        match input {
            Input::Text(text) => self.hear(text, context, out),
            Input::Binary(_) | Input::Alive | Input::Configured => {}
            Input::Answer(Answer::Token(_, TokenAnswer::Granted(grant))) => {
                self.verifying = false;
                self.admit(&grant, context, out);
                self.catch_up(context, out);
            }
            // Refused or revoked: the reference has one close code for every end.
            Input::Answer(_) => out.close(CLOSE),
            Input::Deadline => self.deadline(context, out),
            Input::Gone => self.unsubscribe_all(out),
        }
    }

    fn freeze(&self) -> Option<Box<RawValue>> {
        to_raw_value(self).ok()
    }

    fn thaw(frozen: &RawValue, _: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let session: Self = serde_json::from_str(frozen.get()).ok()?;
        // Host and cell are told apart by this number alone.
        session.cell_and_host.get(usize::from(session.cell_bytes)..)?;
        match &session.live {
            Some(live) if live.expired => out.subscribe(&watch(session.cell()), b""),
            Some(live) => session.subscribe_all(&live.rules, out),
            None => {}
        }
        Some(session)
    }

    fn verifier(settings: &crate::dialect::Settings) -> Option<&Verifier> {
        settings.personium.verifier.as_ref()
    }

    fn granted(grant: &Grant, _: &crate::dialect::Settings) -> Result<String, String> {
        if !scope::may_receive(grant) {
            return Err("its scope has neither event-read nor event nor root".into());
        }
        let cells = cells(grant)?;
        let publishes = if scope::may_publish(grant) { "receive and publish" } else { "receive" };
        let narrow: Vec<String> = [("event_types", "types"), ("event_objects", "objects")]
            .into_iter()
            .filter_map(|(claim, of)| {
                Some(format!("{of} that begin with {}", of_list(&grant.list(claim)?)))
            })
            .collect();
        let narrow = if narrow.is_empty() {
            String::new()
        } else {
            format!(", only {}", narrow.join(" and "))
        };
        Ok(format!("{publishes} events of the cell {cells}{narrow}"))
    }

    fn admits(&self, publication: &Publication, now: Now) -> Admission {
        let Some(live) = &self.live else { return Admission::No };
        if live.expires_at_ns <= now.monotonic_ns {
            return Admission::Close(CLOSE, "", Reason::Expired);
        }

        // The address is the cell's name and three bytes, then the Object.
        if let Some(narrow) = &live.narrow {
            let object = publication.topic().get(usize::from(self.cell_bytes) + 3..);
            // Only a publication that another node has garbled has none.
            let object = object.unwrap_or_default();
            if !narrow.allows(object, publication.facet()) {
                return Admission::Denied;
            }
        }
        Admission::Form(self.spelling as u8)
    }

    fn explain(&self, publication: &Publication, now: Now) -> Explanation {
        match self.admits(publication, now) {
            Admission::Denied => Explanation::no(
                "the token is restricted to other Types or Objects (event_types, event_objects)",
            ),
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
        if !is_name(place) {
            return Err(Unusable(format!(
                "the address is event/CELL, and a cell has 1 to {CELL_BYTES_MAX} visible \
                 characters without a slash"
            )));
        }

        let fields = text::EventFields::read(event)?;
        fields.address(place, draft);
        draft.text(|payload| payload.extend_from_slice(event.json));
        draft.text(|payload| fields.current(now, payload));
        publish(draft.finish(now));
        Ok(())
    }
}

impl TokenFirst for PersoniumEvent {
    const TOO_MUCH: Action = Action::close(CLOSE, "");

    fn is_verifying(&self) -> bool {
        self.verifying
    }

    fn early(&mut self) -> &mut Option<Box<Early>> {
        &mut self.early
    }

    fn message(&mut self, text: &str, context: &mut Context<'_>, out: &mut Actions) {
        let Context { now, settings, parser, draft, .. } = context;
        let (now, settings) = (*now, &settings.personium);
        // Before the first token a session has no spelling, so either is accepted.
        let own = self.live.as_ref().map(|_| self.spelling);
        let parsed = parser.parse(text.as_bytes(), |event| {
            let (spelling, command) = EventCommand::read(event, own);
            self.command(spelling, command, settings, now, draft, out);
        });
        if parsed.is_err() {
            self.command(self.spelling, EventCommand::Unreadable, settings, now, draft, out);
        }
    }
}

impl PersoniumEvent {
    fn cell(&self) -> &str {
        &self.cell_and_host[..usize::from(self.cell_bytes)]
    }

    fn host(&self) -> &str {
        &self.cell_and_host[usize::from(self.cell_bytes)..]
    }

    fn command(
        &mut self,
        spelling: Spelling,
        command: EventCommand<'_>,
        settings: &PersoniumSettings,
        now: Now,
        draft: &mut Draft,
        out: &mut Actions,
    ) {
        if let EventCommand::Token(token) = command {
            return self.token(spelling, token, settings, now, out);
        }
        let cell = &self.cell_and_host[..usize::from(self.cell_bytes)];
        let Some(live) = &mut self.live else {
            // As in the reference, text that is no command is not answered before a token.
            if !matches!(command, EventCommand::BadToken | EventCommand::Unreadable) {
                text::error(spelling, Some("AccessToken"), ErrorReason::Unauthorized, now, out);
            }
            return;
        };
        if live.expires_at_ns <= now.monotonic_ns {
            return out.because(Reason::Expired).close(CLOSE);
        }

        let spelling = self.spelling;
        match command {
            EventCommand::Subscribe(rule) if live.has_room(&rule, settings) => {
                // Two rules may select the same events: one subscription serves both.
                if !live.rules.iter().any(|other| other.selects_the_same(&rule)) {
                    out.subscribe(&rule.prefix(cell), rule.facet());
                }
                live.rules.push(rule);
                text::done(spelling, "Subscribe", now, out);
            }
            EventCommand::Unsubscribe(rule) => {
                let Some(index) = live.rules.iter().position(|other| *other == rule) else {
                    let name = Some("Unsubscribe");
                    return text::error(spelling, name, ErrorReason::NotFound, now, out);
                };
                live.rules.remove(index);
                if !live.rules.iter().any(|other| other.selects_the_same(&rule)) {
                    out.unsubscribe(&rule.prefix(cell), rule.facet());
                }
                text::done(spelling, "Unsubscribe", now, out);
            }
            EventCommand::State(wanted) => {
                let expires_in_s = (live.expires_at_ns - now.monotonic_ns) / SECOND_NS;
                text::state(spelling, wanted, cell, expires_in_s, &live.rules, now, out);
            }
            EventCommand::Publish(external) => {
                // As in the reference, a client's event is never answered, not even an invalid one.
                if let (Some(author), Some(external)) = (&live.author, external)
                    && let Some(publication) = external.publication(cell, author, now, draft)
                {
                    out.push(Action::Publish(Box::new(publication)));
                }
            }
            EventCommand::Subscribe(_) => {
                text::error(spelling, Some("Subscribe"), ErrorReason::Format, now, out)
            }
            EventCommand::Malformed(name) => {
                text::error(spelling, name, ErrorReason::Format, now, out)
            }
            EventCommand::Token(_) | EventCommand::BadToken => {
                text::error(spelling, Some("AccessToken"), ErrorReason::Format, now, out);
            }
            EventCommand::Unreadable => text::error(spelling, None, ErrorReason::Format, now, out),
        }
    }

    fn token(
        &mut self,
        spelling: Spelling,
        token: &str,
        settings: &PersoniumSettings,
        now: Now,
        out: &mut Actions,
    ) {
        // A later token may be written in either spelling, and does not change the session's.
        if self.live.is_none() {
            self.spelling = spelling;
        }
        if settings.anonymous {
            self.begin(u64::from(settings.session_s_max) * 1000, None, None, settings, now, out);
        } else {
            self.verifying = true;
            out.verify(token);
        }
    }

    /// Opens, prolongs or revives the session with a valid token, if it is one for this cell.
    fn admit(&mut self, grant: &Grant, context: &mut Context<'_>, out: &mut Actions) {
        let (now, settings) = (context.now, &context.settings.personium);
        let left_ms = grant.expires_at_ms.saturating_sub(now.unix_ms);
        if !scope::may_receive(grant) || !is_for(grant, self.cell(), self.host()) || left_ms == 0 {
            return out.close(CLOSE);
        }

        let types = prefixes(grant, "event_types");
        let objects = prefixes(grant, "event_objects");
        let narrow =
            (types.is_some() || objects.is_some()).then(|| Box::new(Narrow { types, objects }));
        let text = |claim: &str| grant.text(claim).map(Box::from);
        // "event-read" alone may not publish. Apps and users name their schema by different claims.
        let author = scope::may_publish(grant).then(|| {
            let schema = text("schema").or_else(|| text("azp")).or_else(|| text("client_id"));
            Box::new(Author { subject: text("sub"), schema, cell_id: text("cell_id") })
        });
        let length_ms = left_ms.min(u64::from(settings.session_s_max) * 1000);
        self.begin(length_ms, narrow, author, settings, now, out);
    }

    /// Starts the session, prolongs it, or revives it with its earlier rules.
    fn begin(
        &mut self,
        length_ms: u64,
        narrow: Option<Box<Narrow>>,
        author: Option<Box<Author>>,
        settings: &PersoniumSettings,
        now: Now,
        out: &mut Actions,
    ) {
        // A session outlives its tokens: the rules are kept when a new one arrives.
        let expires_at_ns = now.monotonic_ns + length_ms * 1_000_000;
        let mut rules = SmallVec::new();
        if let Some(live) = self.live.take() {
            rules = live.rules;
            // Expired sessions have only the subscription by which they notice their end.
            if live.expired {
                out.unsubscribe(&watch(self.cell()), b"");
                self.subscribe_all(&rules, out);
            }
        }
        self.live =
            Some(Box::new(EventLive { expires_at_ns, expired: false, rules, narrow, author }));
        text::session(self.spelling, length_ms / 1000, now, out);
        out.push(Action::Deadline(expires_at_ns));
        out.push(keepalive(settings));
    }

    /// The time for a token, the session or the expired session is over.
    fn deadline(&mut self, context: &mut Context<'_>, out: &mut Actions) {
        let now = context.now;
        let cell = &self.cell_and_host[..usize::from(self.cell_bytes)];
        match &mut self.live {
            Some(live) if live.expires_at_ns > now.monotonic_ns => {
                // A new token has prolonged it meanwhile.
                out.push(Action::Deadline(live.expires_at_ns));
            }
            Some(live) if !live.expired => {
                // Not closed yet: a new token within the grace revives it, as in the reference.
                live.expired = true;
                live.rules
                    .iter()
                    .for_each(|rule| out.unsubscribe(&rule.prefix(cell), rule.facet()));
                out.subscribe(&watch(cell), b"");
                out.push(Action::Deadline(after(now, context.settings.personium.token_timeout_s)));
            }
            Some(_) => out.close(CLOSE),
            None => out.because(Reason::TokenTimeout).close(CLOSE),
        }
    }

    fn subscribe_all(&self, rules: &[EventRule], out: &mut Actions) {
        rules.iter().for_each(|rule| out.subscribe(&rule.prefix(self.cell()), rule.facet()));
    }

    fn unsubscribe_all(&mut self, out: &mut Actions) {
        let Some(live) = self.live.take() else { return };
        if live.expired {
            out.unsubscribe(&watch(self.cell()), b"");
        } else {
            live.rules
                .iter()
                .for_each(|rule| out.unsubscribe(&rule.prefix(self.cell()), rule.facet()));
        }
    }
}

impl EventLive {
    fn has_room(&self, rule: &EventRule, settings: &PersoniumSettings) -> bool {
        let bytes: usize = self.rules.iter().map(EventRule::bytes).sum();
        self.rules.len() < settings.subscriptions_max as usize
            && bytes + rule.bytes() <= RULES_BYTES_MAX
    }
}

impl Narrow {
    // Absent restrictions allow everything, empty ones nothing.
    fn allows(&self, object: &[u8], kind: &[u8]) -> bool {
        let allows = |prefixes: &Option<Box<[Box<str>]>>, value: &[u8]| {
            prefixes
                .as_ref()
                .is_none_or(|all| all.iter().any(|prefix| value.starts_with(prefix.as_bytes())))
        };
        allows(&self.types, kind) && allows(&self.objects, object)
    }
}

/// The claim's prefixes; `*` is the empty one. `None` when the token has no such claim.
fn prefixes(grant: &Grant, claim: &str) -> Option<Box<[Box<str>]>> {
    let list = grant.list(claim)?;
    Some(list.into_iter().map(|prefix| if prefix == "*" { "" } else { prefix }.into()).collect())
}

/// The moment this many seconds from now.
fn after(now: Now, seconds: u32) -> u64 {
    now.monotonic_ns + u64::from(seconds) * SECOND_NS
}
