//! Reports of refused connections and ended sessions, and their lines in the log.
//!
//! Each counts once, for its one [`Reason`]. Its [`SessionEnd`] identifies the client (address,
//! protocol, subject of the token, age) and says what has happened and what the client was told;
//! the line in the log is made of it. Sockets are not known here, so their owner adds the address
//! ([`Report::complete`]).

use super::event::Id;
use crate::dialect::{Input, Kind};
use crate::inspect::SessionEnd;
use crate::proxy::Remote;
use crate::reason::{Reason, Volume};
use crate::service::Answer;
use crate::service::verification::TokenAnswer;
use crate::text::start;
use crate::throttle::{LINES_MAX, More, Throttle};
use crate::token::Refusal;
use crate::wheel::Now;
use std::fmt::{self, Write as _};

/// Throttles per reason: one for each dialect, and one for lines without a dialect.
const PLACES: usize = Kind::ALL.len() + 1;
/// Longest foreign text that a client was told, in characters.
const SHOWN_CHARS_MAX: usize = 80;

static THROTTLES: [[Throttle; PLACES]; Reason::COUNT] =
    [const { [const { Throttle::new(LINES_MAX) }; PLACES] }; Reason::COUNT];

/// An end that may lack the client's address.
#[derive(Debug)]
pub struct Report {
    /// The connection whose address is to be added; `None` when nothing is.
    pub id: Option<Id>,
    end: SessionEnd,
    /// What the client was told, as it stands in the log.
    told: String,
    wish: ReportWish,
}

/// Who wants a report.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportWish {
    /// The log, whose line ends so.
    pub(super) line: Option<More>,
    /// Operators, who may ask for it later.
    pub(super) is_kept: bool,
}

impl Report {
    pub(super) fn new(
        id: Option<Id>,
        mut end: SessionEnd,
        answer: Option<ClientAnswer<'_>>,
        wish: ReportWish,
    ) -> Self {
        end.code = answer.map(|answer| answer.code);
        let mut told = String::new();
        if wish.line.is_some() {
            put_answer(&mut told, answer);
        }
        Self { id, end, told, wish }
    }

    /// Adds the client's address, if it is still known, and writes the line. Returns an end that is
    /// to be kept.
    pub fn complete(mut self, remote: Option<Remote>) -> Option<SessionEnd> {
        self.end.remote = remote.or(self.end.remote);
        if let Some(more) = self.wish.line {
            log(&self.end, &self.told, more);
        }
        self.wish.is_kept.then_some(self.end)
    }
}

fn log(end: &SessionEnd, told: &str, more: More) {
    let what = if end.is_refusal { "refused" } else { "session ended" };
    let who: &dyn fmt::Display = match &end.remote {
        Some(remote) => remote,
        None => &"a client that has gone",
    };
    let mut rest = String::new();
    put_place(&mut rest, end.kind);
    if !end.subject.is_empty() {
        let _ = write!(rest, ", {:?}", end.subject);
    }
    if !end.is_refusal {
        let _ = write!(rest, ", after {} s", end.age_s);
    }
    put_why(&mut rest, end.reason, &end.detail);
    rest.push_str(told);
    if let Some(id) = end.id {
        let _ = write!(rest, ", id {id}");
    }
    log_at(end.reason.volume(), format_args!("{what}: {who}{rest}{more}"));
}

fn log_at(volume: Volume, line: fmt::Arguments<'_>) {
    // tracing needs the level at compile time.
    match volume {
        Volume::Loud => tracing::warn!("{line}"),
        Volume::Plain => tracing::info!("{line}"),
        Volume::Quiet => tracing::debug!("{line}"),
    }
}

/// The reason for which a dialect's answer to its input would refuse or end its session, unless it
/// names one.
pub(super) struct DefaultReason {
    pub(super) reason: Reason,
    /// The fault of the token.
    pub(super) refusal: Option<Refusal>,
    /// The subject of the token.
    pub(super) subject: Option<Box<str>>,
}

impl Default for DefaultReason {
    fn default() -> Self {
        Reason::Dialect.into()
    }
}

impl From<Reason> for DefaultReason {
    fn from(reason: Reason) -> Self {
        Self { reason, refusal: None, subject: None }
    }
}

impl From<&Input<'_>> for DefaultReason {
    fn from(input: &Input<'_>) -> Self {
        match input {
            Input::Text(_) | Input::Binary(_) => Reason::Protocol.into(),
            Input::Answer(Answer::Token(_, answer)) => match answer {
                // A good token that is refused all the same grants too little.
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
            Input::Answer(Answer::Presence(_)) | Input::Alive | Input::Gone => {
                Reason::Dialect.into()
            }
        }
    }
}

/// The answer that a client got: a status, or the code of a close frame, and its text.
#[derive(Clone, Copy)]
pub(super) struct ClientAnswer<'a> {
    pub(super) code: u16,
    pub(super) text: &'a str,
}

impl ClientAnswer<'_> {
    /// The status of a ready response, whose text is never a dialect's.
    pub(super) fn response(response: &[u8]) -> Option<Self> {
        let status = response.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
        Some(Self { code: std::str::from_utf8(status).ok()?.parse().ok()?, text: "" })
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

fn put_answer(rest: &mut String, answer: Option<ClientAnswer<'_>>) {
    let Some(ClientAnswer { code, text }) = answer else { return };
    let _ = write!(rest, ", told {code}");
    if !text.is_empty() {
        let _ = write!(rest, " {:?}", start(text, SHOWN_CHARS_MAX));
    }
}

/// Asks the throttle for a line. One below the log's level uses none of the throttle.
pub(super) fn admit(reason: Reason, kind: Option<Kind>, now: Now) -> Option<More> {
    if reason.volume() == Volume::Quiet && !tracing::enabled!(tracing::Level::DEBUG) {
        return None;
    }
    THROTTLES[reason as usize][kind.map_or(Kind::ALL.len(), |kind| kind as usize)].admit(now)
}

/// Logs the number of suppressed lines of windows that are over. Call about once per window.
pub fn settle_reports(now: Now) {
    for reason in Reason::ALL {
        for (place, throttle) in THROTTLES[*reason as usize].iter().enumerate() {
            let Some(more) = throttle.settle(now) else { continue };

            let mut rest = String::new();
            // The place behind the last dialect is that of no dialect.
            put_place(&mut rest, Kind::ALL.get(place).copied());
            put_why(&mut rest, *reason, "");
            log_at(reason.volume(), format_args!("and {more} more like it{rest}"));
        }
    }
}

/// The reason for a dialect's refusal with a status, where it has named none.
pub(super) fn by_status(status: u16, why: Reason) -> Reason {
    match status {
        400 => Reason::BadRequest,
        404 => Reason::Topic,
        409 => Reason::Conflict,
        429 => Reason::Limit,
        // The topic was asked for and could not be served.
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
        put_answer(
            &mut rest,
            Some(ClientAnswer { code: 4000, text: "bye\n2026 refused: \u{1b}[31m" }),
        );
        assert_eq!(rest, ", told 4000 \"bye\\n2026 refused: \\u{1b}[31m\"");
    }

    #[test]
    fn what_a_client_was_told_is_read_off_the_response() {
        let status = |response: &[u8]| ClientAnswer::response(response).map(|answer| answer.code);
        assert_eq!(status(b"HTTP/1.1 404 Not Found\r\n"), Some(404));
        assert_eq!([status(b""), status(b"HTTP/1.1 "), status(&[0x15, 3, 3])], [None; 3]);
    }
}
