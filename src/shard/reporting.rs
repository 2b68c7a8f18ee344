//! When the shard counts and reports refused connections and ended sessions.

use super::report::{ClientAnswer, Report, ReportWish, admit};
use super::{Id, Shard};
use crate::dialect::{AnyDialect, Kind};
use crate::inspect::{DETAIL_CHARS_MAX, ENDS_MAX, SUBJECT_CHARS_MAX, SessionEnd};
use crate::proxy::Remote;
use crate::reason::Reason;
use crate::text::start;
use crate::wheel::{Now, TICK_MS};

impl Shard {
    /// The reports since the last call. Complete them before any of their connections is forgotten.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Counts and reports a connection that is refused before it becomes this shard's.
    pub fn turn_away(
        &mut self,
        remote: Option<Remote>,
        reason: Reason,
        detail: impl FnOnce() -> String,
        answer: &[u8],
        now: Now,
    ) {
        self.metrics.handshakes[reason.outcome() as usize].add(1);
        self.metrics.refusals[reason as usize].add(1);
        let Some(wish) = self.wish(reason, None, now) else { return };

        let end = SessionEnd {
            id: None,
            at_ms: now.unix_ms,
            kind: None,
            remote,
            subject: Box::default(),
            reason,
            detail: start(&detail(), DETAIL_CHARS_MAX).into(),
            code: None,
            age_s: 0,
            bytes_out: 0,
            is_refusal: true,
        };
        self.reports.push(Report::new(None, end, ClientAnswer::response(answer), wish));
    }

    /// Counts and reports a refused request.
    pub(super) fn report_refusal(
        &mut self,
        id: Id,
        reason: Reason,
        detail: &str,
        answer: Option<ClientAnswer<'_>>,
        now: Now,
    ) {
        self.metrics.refusals[reason as usize].add(1);
        let kind = self.sessions[id as usize].kind();
        let Some(wish) = self.wish(reason, kind, now) else { return };

        let end = SessionEnd {
            kind,
            subject: self.ended_subject(None),
            detail: self.ended_detail(reason, detail),
            is_refusal: true,
            ..self.end_of(id, reason, now)
        };
        self.reports.push(Report::new(Some(id), end, answer, wish));
    }

    /// Counts and reports the end of an open session; its dialect has just been taken from it.
    pub(super) fn report_end(
        &mut self,
        id: Id,
        dialect: &AnyDialect,
        reason: Reason,
        answer: Option<ClientAnswer<'_>>,
        now: Now,
    ) {
        self.metrics.ends[reason as usize].add(1);
        let kind = Some(dialect.kind());
        let Some(wish) = self.wish(reason, kind, now) else { return };

        let end = SessionEnd {
            kind,
            subject: self.ended_subject(Some(dialect)),
            detail: self.ended_detail(reason, ""),
            ..self.end_of(id, reason, now)
        };
        self.reports.push(Report::new(Some(id), end, answer, wish));
    }

    /// Who wants a report; `None` when it would be for no one. Asked before any text is made: a
    /// flood costs a counter each then.
    fn wish(&self, reason: Reason, kind: Option<Kind>, now: Now) -> Option<ReportWish> {
        let line = admit(reason, kind, now);
        // As many of a turn as are kept at all: a stop may end ten times as many in one.
        let is_kept = self.keeps_ends && self.reports.len() < ENDS_MAX;
        (line.is_some() || is_kept).then_some(ReportWish { line, is_kept })
    }

    /// What is known of every end of a connection.
    fn end_of(&self, id: Id, reason: Reason, now: Now) -> SessionEnd {
        let session = &self.sessions[id as usize];
        let ticks = now.tick().saturating_sub(session.since);
        SessionEnd {
            id: Some(self.reference(id)),
            at_ms: now.unix_ms,
            kind: None,
            remote: None,
            subject: Box::default(),
            reason,
            detail: Box::default(),
            code: None,
            age_s: (u64::from(ticks) * TICK_MS / 1000) as u32,
            bytes_out: session.bytes_out,
            is_refusal: false,
        }
    }

    fn ended_subject(&self, dialect: Option<&AnyDialect>) -> Box<str> {
        // A handshake has no session yet, but its token may have told the subject.
        let known = dialect.and_then(|dialect| dialect.subject());
        let subject = known.as_deref().or(self.default_reason.subject.as_deref());
        start(subject.unwrap_or_default(), SUBJECT_CHARS_MAX).into()
    }

    /// The given detail, else the fault of the token.
    fn ended_detail(&self, reason: Reason, detail: &str) -> Box<str> {
        let refusal = self.default_reason.refusal.filter(|_| self.default_reason.reason == reason);
        match refusal {
            Some(refusal) if detail.is_empty() => refusal.to_string().into(),
            _ => start(detail, DETAIL_CHARS_MAX).into(),
        }
    }
}
