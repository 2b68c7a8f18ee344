//! The state of a shard that its dialects use.

use crate::dialect::{Actions, Context, PerShard, Rng, Settings};
use crate::event::Parser;
use crate::frame::Draft;
use crate::retained::Retained;
use crate::wheel::Now;
use std::sync::Arc;

/// The state of a shard that its dialects use in a step, one after another.
pub(super) struct DialectState {
    pub(super) settings: Arc<Settings>,
    parser: Parser,
    pub(super) draft: Draft,
    of_dialects: PerShard,
    pub(super) retained: Retained,
    pub(super) rng: Rng,
    pub(super) actions: Actions,
}

impl DialectState {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            parser: Parser::default(),
            draft: Draft::default(),
            of_dialects: PerShard::default(),
            retained: Retained::default(),
            rng: counting(),
            actions: Actions::default(),
        }
    }

    /// The context of a dialect's step, and the list for its actions.
    pub(super) fn context(&mut self, now: Now) -> (Context<'_>, &mut Actions) {
        let Self { settings, parser, draft, of_dialects, retained, rng, actions } = self;
        (Context { now, settings, parser, draft, shared: of_dialects, retained, rng }, actions)
    }
}

/// Predictable numbers, for tests; the world brings others.
fn counting() -> Rng {
    let mut drawn = 0;
    Box::new(move || {
        drawn += 1;
        drawn
    })
}
