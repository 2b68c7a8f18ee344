//! A topic of a Personium stream collection, `/{cell}/__topic/{box}/{path}`: a token first, then
//! the data sent to the topic, as they were fed.
//!
//! One connection follows one topic, which its path names; the token opens it. Every error is
//! reported and then ends the connection with close code 1000 and no reason. Expiry is noticed by
//! the heartbeat and by the next message or datum: an expired session is not revived even by a
//! valid token.
//!
//! A topic's address is `cell/box/path`, and a subscription is that and a NUL, so it matches no
//! other.

mod client;
mod glob;
mod message;
mod place;

pub use self::glob::{GLOBS_MAX, is_glob};

use self::message::TokenMessage;
use self::place::{is_topic, place_of};
use crate::dialect::grants::{cells, of_list};
use crate::dialect::personium::PersoniumSettings;
use crate::dialect::personium::cell::{CELL_BYTES_MAX, is_for, is_name, is_segment};
use crate::dialect::personium::reply::{self, CLOSE, keepalive, put_error, put_session};
use crate::dialect::personium::scope;
use crate::dialect::{
    Action, Actions, Admission, AskedTopic, Context, Dialect, FeedAddress, Input, Unusable, Upgrade,
};
use crate::event::{Event, Value, ValueIntoString as _};
use crate::frame::{Draft, Publication};
use crate::json::RawValue;
use crate::reason::Reason;
use crate::service::Answer;
use crate::service::verification::TokenAnswer;
use crate::token::{Grant, NEVER_MS, Verifier};
use crate::wheel::{Now, TICK_MS, ticks};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use std::fmt;

/// The byte that starts this dialect's topics.
const TOPIC: u8 = b't';

/// Most seconds between heartbeats; the reference's interval. Pings may be configured to be rarer,
/// even practically never, and expired sessions must not stay for that long.
const BEAT_S_MAX: u32 = 60;

/// One connection to a topic.
#[derive(Serialize, Deserialize)]
pub struct PersoniumTopic {
    /// The topic's `cell/box/path`, a NUL, then the request's `Host`: tokens may name the cell by
    /// its URL.
    place_and_host: Box<str>,
    term: Term,
}

/// The time limit of a session: the grace without a token, then the token's time.
///
/// The lowest bit of the nanoseconds tells whether a token was accepted. A field for it would cost
/// every idle connection of any dialect 8 bytes.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Term(u64);

impl Term {
    fn until(end_ns: u64, accepted: bool) -> Self {
        Self(end_ns & !1 | u64::from(accepted))
    }

    fn is_accepted(self) -> bool {
        self.0 & 1 == 1
    }

    fn end_ns(self) -> u64 {
        self.0 & !1
    }

    fn is_over(self, now: Now) -> bool {
        self.end_ns() <= now.monotonic_ns
    }
}

impl Dialect for PersoniumTopic {
    const NAME: &'static str = "personium-topic";
    const TABLE: &'static str = "personium";
    const FEED: FeedAddress =
        FeedAddress { word: "topic", parts: (3, 3), shape: "write topic/CELL/BOX/PATH" };
    const CLIENT: &'static dyn crate::dialect::client::DialectClient = &client::TopicClient;
    const TOPIC: u8 = TOPIC;
    const CLOSE_ISOLATED: Option<(u16, &'static str)> = Some((CLOSE, ""));
    const PING: &'static [u8] = reply::PING;
    const CLOSE_UNANSWERED: (u16, &'static str) = (CLOSE, "");
    const CLOSE_KICKED: (u16, &'static str) = (CLOSE, "");

    fn message_bytes_max(settings: &crate::dialect::Settings) -> usize {
        settings.personium.text_bytes_max
    }

    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let place = place_of(upgrade)?;
        let settings = &context.settings.personium;
        out.push(Action::Accept);
        out.push(keepalive(settings));
        out.push(Action::Deadline(next_beat(context.now, settings)));
        Some(Self {
            place_and_host: format!("{place}\0{}", upgrade.host).into(),
            term: Term::until(on_a_tick(context.now, settings.token_timeout_s), false),
        })
    }

    fn subscriptions(&self, visit: &mut dyn FnMut(fmt::Arguments<'_>)) {
        if self.term.is_accepted() {
            visit(format_args!("{}", self.place()));
        }
    }

    fn topic(place: &str) -> Result<AskedTopic, &'static str> {
        let is_place = place.matches('/').count() == 2 && !place.contains('\0');
        let topic = is_place.then(|| AskedTopic::new(&subscription(place)));
        topic.ok_or("write topic/CELL/BOX/PATH")
    }

    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
        let (now, settings) = (context.now, &context.settings.personium);
        match input {
            Input::Text(text) => self.message(text, settings, now, out),
            Input::Binary(_) | Input::Alive | Input::Configured => {}
            Input::Answer(Answer::Token(_, TokenAnswer::Granted(grant))) => {
                let end_ms =
                    if grant.expires_at_ms == NEVER_MS { None } else { Some(grant.expires_at_ms) };
                let opens = self.is_opened_by(&grant);
                self.verified(opens, end_ms, settings, now, out);
            }
            Input::Answer(Answer::Token(_, TokenAnswer::Refused(_))) => {
                self.verified(false, None, settings, now, out);
            }
            // Revoked, for example; an answer without a question ends the session as well.
            Input::Answer(_) => out.close(CLOSE),
            Input::Deadline if self.term.is_over(now) => {
                let has_expired = self.term.is_accepted();
                out.because(if has_expired { Reason::Expired } else { Reason::TokenTimeout })
                    .close(CLOSE);
            }
            Input::Deadline => out.push(Action::Deadline(self.next_look(now, settings))),
            Input::Gone if self.term.is_accepted() => {
                // Subscribed only once a token was accepted.
                out.unsubscribe(&subscription(self.place()), b"")
            }
            Input::Gone => {}
        }
    }

    fn freeze(&self) -> Option<Box<RawValue>> {
        to_raw_value(self).ok()
    }

    fn thaw(frozen: &RawValue, _: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let session: Self = serde_json::from_str(frozen.get()).ok()?;
        session.place_and_host.find('\0')?;
        if session.term.is_accepted() {
            out.subscribe(&subscription(session.place()), b"");
        }
        Some(session)
    }

    fn verifier(settings: &crate::dialect::Settings) -> Option<&Verifier> {
        settings.personium.verifier.as_ref()
    }

    fn granted(grant: &Grant, _: &crate::dialect::Settings) -> Result<String, String> {
        if !scope::may_follow(grant) {
            return Err("its scope has neither read with stream-receive nor all".into());
        }
        let cells = cells(grant)?;
        let narrow = grant.list("topics").map(|globs| format!(" that match {}", of_list(&globs)));
        Ok(format!("follow topics of the cell {cells}{}", narrow.unwrap_or_default()))
    }

    fn admits(&self, _: &Publication, now: Now) -> Admission {
        if self.term.is_over(now) {
            Admission::Close(CLOSE, "", Reason::Expired)
        } else {
            Admission::Form(0)
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
        let mut parts = place.splitn(3, '/');
        let [cell, inbox, path] = [(); 3].map(|()| parts.next().unwrap_or_default());
        if !is_name(cell) || !is_name(inbox) || !is_segment(path) {
            return Err(Unusable(format!(
                "the address is topic/CELL/BOX/PATH; cell and box have 1 to {CELL_BYTES_MAX} \
                 visible characters, and the path has dots where the collection's URL has slashes"
            )));
        }
        if !is_topic(path) {
            return Err(Unusable("the path of a topic ends in COLLECTION.topic.NAME".into()));
        }
        // Receivers attribute a datum to this cell.
        if sender(event)?.is_none_or(|from| from.into_string().is_none()) {
            return Err(Unusable(
                "\"From\" must be a string, the URL of the cell that sends: \
                 {\"From\":\"https://…/\",\"Body\":…}"
                    .into(),
            ));
        }
        draft.address(&subscription(place), b"");
        draft.text(|payload| payload.extend_from_slice(event.json));
        publish(draft.finish(now));
        Ok(())
    }
}

impl PersoniumTopic {
    fn place(&self) -> &str {
        self.parts().0
    }

    /// The topic's address and the host.
    fn parts(&self) -> (&str, &str) {
        self.place_and_host.split_once('\0').expect("open puts a NUL between them")
    }

    /// The next check of the session: with the next heartbeat, or at the end of the grace if that
    /// is sooner.
    fn next_look(&self, now: Now, settings: &PersoniumSettings) -> u64 {
        let beat = next_beat(now, settings);
        if self.term.is_accepted() { beat } else { beat.min(self.term.end_ns()) }
    }

    fn message(&mut self, text: &str, settings: &PersoniumSettings, now: Now, out: &mut Actions) {
        // The heartbeat has not come yet, but the time is over.
        if self.term.is_over(now) {
            return refuse("Unknown", "Session expired", now, out);
        }
        match TokenMessage::read(text) {
            TokenMessage::Token(_) if settings.anonymous => {
                self.verified(true, None, settings, now, out)
            }
            TokenMessage::Token(token) => out.verify(&token),
            TokenMessage::Invalid => refuse("Unknown", "Invalid message", now, out),
            TokenMessage::Choking => out.close(CLOSE),
        }
    }

    /// Handles a verified token: whether it opens the topic, and until `end_ms`, `None` for no end.
    fn verified(
        &mut self,
        opens: bool,
        end_ms: Option<u64>,
        settings: &PersoniumSettings,
        now: Now,
        out: &mut Actions,
    ) {
        // One answer for a bad token and a missing topic: a stranger learns nothing about topics.
        if !opens || !self.exists(settings) {
            return refuse("AccessToken", "Token inactive", now, out);
        }

        let longest_ms = u64::from(settings.session_s_max) * 1000;
        let length_ms = end_ms.map_or(longest_ms, |end_ms| end_ms.saturating_sub(now.unix_ms));
        let end_ns = now.monotonic_ns.saturating_add(length_ms.saturating_mul(1_000_000));
        let is_first = !self.term.is_accepted();
        self.term = Term::until(end_ns, true);
        out.send(|out| put_session(length_ms / 1000, now, out));

        // The reply is sent before the subscription, so no datum precedes it.
        if is_first {
            out.subscribe(&subscription(self.place()), b"");
        }
    }

    /// Whether the topic exists.
    fn exists(&self, settings: &PersoniumSettings) -> bool {
        let place = self.place();
        let path = place.rsplit_once('/').map_or("", |(_, path)| path);
        let known = settings.topics.as_deref();
        is_topic(path)
            && known.is_none_or(|globs| glob::select(globs.iter().map(String::as_str), place))
    }

    fn is_opened_by(&self, grant: &Grant) -> bool {
        let (place, host) = self.parts();
        let cell = place.split_once('/').map_or(place, |(cell, _)| cell);

        // A restriction to topics counts besides the privileges.
        let narrow = grant.list("topics");
        scope::may_follow(grant)
            && is_for(grant, cell, host)
            && narrow.is_none_or(|globs| glob::select(globs.into_iter(), place))
    }
}

/// The sender of a datum. A repeated key is refused: receivers might see either.
fn sender<'t, 'i>(event: &Event<'t, 'i>) -> Result<Option<Value<'t, 'i>>, Unusable> {
    let mut senders = event.fields().filter(|(key, _)| *key == "From").map(|(_, sender)| sender);
    let sender = senders.next();
    if senders.next().is_some() {
        return Err(Unusable("the key \"From\" is written twice".into()));
    }
    Ok(sender)
}

fn refuse(response: &str, reason: &str, now: Now, out: &mut Actions) {
    out.send(|out| put_error(Some(response), reason, now, out));
    out.close(CLOSE);
}

/// The topic of a place, in parts; no other topic begins so.
fn subscription(place: &str) -> [&[u8]; 3] {
    [&[TOPIC], place.as_bytes(), b"\0"]
}

/// The next heartbeat: on the tick of the shard's ping, so that one visit does both.
fn next_beat(now: Now, settings: &PersoniumSettings) -> u64 {
    on_a_tick(now, settings.ping_interval_s.min(BEAT_S_MAX))
}

/// The moment this many seconds from the current tick. The grace ends on a tick too, so that it is
/// over when the heartbeat checks.
fn on_a_tick(now: Now, seconds: u32) -> u64 {
    let ticks = u64::from(now.tick()) + u64::from(ticks(seconds.into()));
    ticks * TICK_MS * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Parser;
    use crate::retained::Retained;

    #[test]
    fn a_token_that_is_taken_back_ends_the_session_without_a_word() {
        let settings = crate::dialect::Settings::default();
        let (mut parser, mut draft, mut out) =
            (Parser::default(), Draft::default(), Actions::default());
        let mut shared = crate::dialect::PerShard::default();
        let mut rng: crate::dialect::Rng = Box::new(|| 0);
        let mut context = Context {
            now: Now::default(),
            settings: &settings,
            parser: &mut parser,
            draft: &mut draft,
            shared: &mut shared,
            retained: &Retained::default(),
            rng: &mut rng,
        };
        let term = Term::until(u64::MAX, true);
        let mut session = PersoniumTopic { place_and_host: "c/b/c.topic.n\0".into(), term };
        session.handle(
            Input::Answer(Answer::Token(0, TokenAnswer::Revoked)),
            &mut context,
            &mut out,
        );
        assert!(
            matches!(&out.list[..], [Action::Close(1000, text)] if text.is_empty()),
            "{:?}",
            out.list
        );
    }

    #[test]
    fn a_term_keeps_its_end_and_whether_a_token_was_accepted() {
        for end_ns in [0, 1, 249_999_999, 250_000_000, u64::MAX] {
            for accepted in [false, true] {
                let term = Term::until(end_ns, accepted);
                assert_eq!(term.is_accepted(), accepted, "{end_ns}");
                let at = |monotonic_ns| Now { monotonic_ns, unix_ms: 0 };
                assert!(term.is_over(at(end_ns)), "{end_ns}");
                assert!(end_ns < 2 || !term.is_over(at(end_ns - 2)), "{end_ns}");
            }
        }
    }
}
