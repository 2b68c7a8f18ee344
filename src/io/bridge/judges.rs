//! The remote judges.

use super::super::Shared;
use super::super::handoff::Parcel;
use crate::dialect::Settings;
use crate::shard::{Answer, Question};
use crate::token::{Refusal, Verdict};
use std::sync::Arc;

/// Asks, remembers, tells.
pub(super) struct Judges {
    shared: Arc<Shared>,
}

impl Judges {
    pub(super) fn new(shared: Arc<Shared>, _settings: Arc<Settings>) -> Self {
        Self { shared }
    }

    /// Takes a question of a shard.
    pub(super) fn take(&mut self, shard: usize, question: Question) {
        if let Question::Judge(ticket, ..) = question {
            let answer = Answer::Judged(Verdict::Refused(Refusal::Unavailable));
            self.shared.mailboxes[shard].post([Parcel::Answer(ticket, answer)].into_iter());
        }
    }
}
