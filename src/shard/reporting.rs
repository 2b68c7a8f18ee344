//! When the shard counts and reports refused connections and ended sessions.

use super::report::{
    ClientAnswer, Report, ReportLine, SHOWN_CHARS_MAX, admit, put_answer, put_place, put_why,
};
use super::{Id, Shard};
use crate::dialect::AnyDialect;
use crate::proxy::Remote;
use crate::reason::Reason;
use crate::text::start;
use crate::wheel::{Now, TICK_MS};
use std::fmt::Write as _;

impl Shard {
    /// The reports since the last call. Log them before any of their connections is forgotten.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Counts and logs a connection that is refused before it becomes this shard's.
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
            ReportLine { what: "refused", rest, more }.log(reason, remote);
        }
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
        // Before any text is made: a flood of refusals costs a counter each.
        let Some(more) = admit(reason, kind, now) else { return };

        let mut rest = String::new();
        put_place(&mut rest, kind);
        self.put_subject(&mut rest, None);
        self.put_reason(&mut rest, reason, detail);
        put_answer(&mut rest, answer);
        self.reports.push(Report { id, reason, line: ReportLine { what: "refused", rest, more } });
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
        let Some(more) = admit(reason, Some(dialect.kind()), now) else { return };

        let mut rest = String::new();
        put_place(&mut rest, Some(dialect.kind()));
        self.put_subject(&mut rest, Some(dialect));
        let ticks = now.tick().saturating_sub(self.sessions[id as usize].since);
        let _ = write!(rest, ", after {} s", u64::from(ticks) * TICK_MS / 1000);
        self.put_reason(&mut rest, reason, "");
        put_answer(&mut rest, answer);
        self.reports.push(Report {
            id,
            reason,
            line: ReportLine { what: "session ended", rest, more },
        });
    }

    fn put_subject(&self, rest: &mut String, dialect: Option<&AnyDialect>) {
        // A handshake has no session yet, but its token may have told the subject.
        let known = dialect.and_then(|dialect| dialect.subject());
        let subject = known
            .as_deref()
            .or(self.default_reason.subject.as_deref())
            .filter(|subject| !subject.is_empty());
        if let Some(subject) = subject {
            let _ = write!(rest, ", {:?}", start(subject, SHOWN_CHARS_MAX));
        }
    }

    /// The reason and its detail: the given one, else the fault of the token.
    fn put_reason(&self, rest: &mut String, reason: Reason, detail: &str) {
        match self
            .default_reason
            .refusal
            .filter(|_| self.default_reason.reason == reason && detail.is_empty())
        {
            Some(refusal) => put_why(rest, reason, &refusal.to_string()),
            None => put_why(rest, reason, detail),
        }
    }
}
