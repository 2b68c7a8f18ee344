//! What is counted and logged of those who are not let in, and of sessions that end.
//!
//! Each counts once, for its one [`Reason`]. Its line in the log says who it was (the client's address, the protocol,
//! the subject of the token, the age), what has happened and what the client was told. Sockets are not known here, so
//! whoever has them completes the line with the address ([`Report::log`]).

use super::{Id, Shard};
use crate::dialect::{AnyDialect, Input, Kind};
use crate::proxy::Remote;
use crate::reason::{Reason, Volume};
use crate::service::Answer;
use crate::service::verification::TokenAnswer;
use crate::text::start;
use crate::throttle::{LINES_MAX, More, Throttle};
use crate::token::Refusal;
use crate::wheel::{Now, TICK_MS};
use std::fmt::{self, Write as _};

/// A line is limited together with those of its reason and its dialect, or of no dialect.
const PLACES: usize = Kind::ALL.len() + 1;
/// Longest text of somebody else's in a line, in characters.
const SHOWN_CHARS_MAX: usize = 80;

static THROTTLES: [[Throttle; PLACES]; Reason::COUNT] =
    [const { [const { Throttle::new(LINES_MAX) }; PLACES] }; Reason::COUNT];

/// A line of the log that lacks the client's address.
#[derive(Debug)]
pub struct Report {
    /// The connection.
    pub id: Id,
    /// Why.
    pub reason: Reason,
    line: Line,
}

#[derive(Debug)]
struct Line {
    what: &'static str,
    rest: String,
    more: More,
}

impl Report {
    /// Writes the line.
    pub fn log(&self, remote: Option<Remote>) {
        self.line.log(self.reason, remote);
    }
}

impl Line {
    fn log(&self, reason: Reason, remote: Option<Remote>) {
        let Self { what, rest, more } = self;
        let who: &dyn fmt::Display = match &remote {
            Some(remote) => remote,
            None => &"a client that has gone",
        };
        match reason.volume() {
            Volume::Loud => tracing::warn!("{what}: {who}{rest}{more}"),
            Volume::Plain => tracing::info!("{what}: {who}{rest}{more}"),
            Volume::Quiet => tracing::debug!("{what}: {who}{rest}{more}"),
        }
    }
}

/// Why what a dialect says next would end its session, unless it says something better.
pub(super) struct Why {
    pub(super) reason: Reason,
    /// Why the token is not good.
    refusal: Option<Refusal>,
    /// Whose the token is.
    subject: Option<Box<str>>,
}

impl Default for Why {
    fn default() -> Self {
        Reason::Dialect.into()
    }
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Self { reason, refusal: None, subject: None }
    }
}

impl From<&Input<'_>> for Why {
    fn from(input: &Input<'_>) -> Self {
        match input {
            Input::Text(_) | Input::Binary(_) => Reason::Protocol.into(),
            Input::Answer(Answer::Token(_, answer)) => match answer {
                // A good token that is refused all the same does not grant what is asked for.
                TokenAnswer::Granted(grant) => {
                    Self { subject: grant.text("sub").map(Into::into), ..Reason::Scope.into() }
                }
                TokenAnswer::Refused(refusal) => {
                    Self { refusal: Some(*refusal), ..Reason::of(*refusal).into() }
                }
                TokenAnswer::Revoked => Reason::Revoked.into(),
            },
            Input::Answer(Answer::Topic(_)) => Reason::Topic.into(),
            Input::Deadline => Reason::Expired.into(),
            Input::Configured => Reason::App.into(),
            Input::Answer(Answer::Presence(_)) | Input::Alive | Input::Gone => Reason::Dialect.into(),
        }
    }
}

/// What the client was told: a status, or the code of a close frame, and the text with it.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) code: u16,
    pub(super) text: &'a str,
}

impl Told<'_> {
    /// What a ready response tells; nothing of it is text of a dialect.
    pub(super) fn response(response: &[u8]) -> Option<Self> {
        let status = response.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
        Some(Self { code: std::str::from_utf8(status).ok()?.parse().ok()?, text: "" })
    }
}

impl Shard {
    /// The lines since the last call. To be logged before any of their connections is forgotten.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Counts a connection that is turned away before it is one of this shard's, and logs it.
    pub fn turn_away(
        &self,
        remote: Option<Remote>,
        reason: Reason,
        detail: impl FnOnce() -> String,
        now: Now,
    ) {
        self.metrics.handshakes[reason.outcome() as usize].add(1);
        self.metrics.refusals[reason as usize].add(1);
        if let Some(more) = admit(reason, None, now) {
            let mut rest = String::new();
            put_why(&mut rest, reason, &detail());
            Line { what: "refused", rest, more }.log(reason, remote);
        }
    }

    /// Counts a request that comes to nothing.
    pub(super) fn report_refusal(
        &mut self,
        id: Id,
        reason: Reason,
        detail: &str,
        told: Option<Told<'_>>,
        now: Now,
    ) {
        self.metrics.refusals[reason as usize].add(1);
        let kind = self.sessions[id as usize].dialect.as_ref().map(AnyDialect::kind);
        let Some(more) = admit(reason, kind, now) else { return };

        let mut rest = String::new();
        put_place(&mut rest, kind);
        self.put_subject(&mut rest, None);
        self.put_reason(&mut rest, reason, detail);
        put_told(&mut rest, told);
        self.reports.push(Report { id, reason, line: Line { what: "refused", rest, more } });
    }

    /// Counts the end of an open session, whose dialect has just been taken from it.
    pub(super) fn report_end(
        &mut self,
        id: Id,
        dialect: &AnyDialect,
        reason: Reason,
        told: Option<Told<'_>>,
        now: Now,
    ) {
        self.metrics.ends[reason as usize].add(1);
        let Some(more) = admit(reason, Some(dialect.kind()), now) else { return };

        let mut rest = String::new();
        put_place(&mut rest, Some(dialect.kind()));
        self.put_subject(&mut rest, Some(dialect));
        let ticks = now.tick().saturating_sub(self.sessions[id as usize].since);
        let _ = write!(rest, ", after {} s", u64::from(ticks) * TICK_MS / 1000);
        self.put_reason(&mut rest, reason, "");
        put_told(&mut rest, told);
        self.reports.push(Report { id, reason, line: Line { what: "session ended", rest, more } });
    }

    fn put_subject(&self, rest: &mut String, dialect: Option<&AnyDialect>) {
        let known = dialect.and_then(AnyDialect::subject);
        let subject = known.as_deref().or(self.why.subject.as_deref()).filter(|subject| !subject.is_empty());
        if let Some(subject) = subject {
            let _ = write!(rest, ", {:?}", start(subject, SHOWN_CHARS_MAX));
        }
    }

    /// The reason, and what is known of it beside.
    fn put_reason(&self, rest: &mut String, reason: Reason, detail: &str) {
        match self.why.refusal.filter(|_| self.why.reason == reason && detail.is_empty()) {
            Some(refusal) => put_why(rest, reason, &refusal.to_string()),
            None => put_why(rest, reason, detail),
        }
    }
}

fn put_place(rest: &mut String, kind: Option<Kind>) {
    if let Some(kind) = kind {
        let _ = write!(rest, ", {}", kind.name());
    }
}

fn put_why(rest: &mut String, reason: Reason, detail: &str) {
    let detail = if detail.is_empty() { reason.words() } else { detail };
    let _ = write!(rest, ": {} ({detail})", reason.name());
}

fn put_told(rest: &mut String, told: Option<Told<'_>>) {
    let Some(Told { code, text }) = told else { return };
    let _ = write!(rest, ", told {code}");
    if !text.is_empty() {
        let _ = write!(rest, " {:?}", start(text, SHOWN_CHARS_MAX));
    }
}

/// Whether a line is to be written. What nobody sees is not counted among the lines.
fn admit(reason: Reason, kind: Option<Kind>, now: Now) -> Option<More> {
    if reason.volume() == Volume::Quiet && !tracing::enabled!(tracing::Level::DEBUG) {
        return None;
    }
    THROTTLES[reason as usize][kind.map_or(Kind::ALL.len(), |kind| kind as usize)].admit(now)
}

/// Logs how many lines were kept back in windows that are over. To be called now and then.
pub fn settle_reports(now: Now) {
    for reason in Reason::ALL {
        for (place, throttle) in THROTTLES[*reason as usize].iter().enumerate() {
            let Some(more) = throttle.settle(now) else { continue };
            let mut rest = String::new();
            put_place(&mut rest, Kind::ALL.get(place).copied());
            put_why(&mut rest, *reason, "");
            match reason.volume() {
                Volume::Loud => tracing::warn!("and {more} more like it{rest}"),
                Volume::Plain => tracing::info!("and {more} more like it{rest}"),
                Volume::Quiet => tracing::debug!("and {more} more like it{rest}"),
            }
        }
    }
}

/// The reason of a dialect's refusal with a status, where it has named none.
pub(super) fn by_status(status: u16, why: Reason) -> Reason {
    match status {
        400 => Reason::BadRequest,
        404 => Reason::Topic,
        409 => Reason::Conflict,
        429 => Reason::Limit,
        500 | 503 if why == Reason::Topic => Reason::Outage,
        _ => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_somebody_elses_can_neither_forge_a_line_nor_fill_it() {
        let mut rest = String::new();
        put_told(&mut rest, Some(Told { code: 4000, text: "bye\n2026 refused: \u{1b}[31m" }));
        assert_eq!(rest, ", told 4000 \"bye\\n2026 refused: \\u{1b}[31m\"");
    }

    #[test]
    fn what_a_client_was_told_is_read_off_the_response() {
        let told = |response: &[u8]| Told::response(response).map(|told| told.code);
        assert_eq!(told(b"HTTP/1.1 404 Not Found\r\n"), Some(404));
        assert_eq!([told(b""), told(b"HTTP/1.1 "), told(&[0x15, 3, 3])], [None; 3]);
    }
}
