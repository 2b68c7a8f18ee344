//! Messages that a client sends while its token is being verified: kept in order, and handled
//! afterwards.
//!
//! The reference servers do not read on before they have verified a token. So clients may send the
//! next message at once, and the distance of the verifier must make no difference to them.

use crate::dialect::{Action, Actions, Context};
use serde::{Deserialize, Serialize};

/// Most messages that are kept. Few clients send any; one that subscribes without waiting for
/// answers may send many.
const MESSAGES_MAX: usize = 256;
/// Bytes of all of these: what a stranger can make the daemon hold.
const BYTES_MAX: usize = 32 * 1024;

/// A session that handles no message while a token of its client is being verified.
pub(super) trait TokenFirst {
    /// What ends the session of a client that sends too much meanwhile.
    const TOO_MUCH: Action;

    /// Whether an answer about a token is awaited.
    fn is_verifying(&self) -> bool;

    /// The messages of the client while one was.
    fn early(&mut self) -> &mut Option<Box<Early>>;

    /// Handles a message.
    fn message(&mut self, text: &str, context: &mut Context<'_>, out: &mut Actions);

    /// Handles a message, or keeps it if it has arrived too early.
    fn hear(&mut self, text: &str, context: &mut Context<'_>, out: &mut Actions) {
        if !self.is_verifying() {
            return self.message(text, context, out);
        }
        if !self.early().get_or_insert_default().keep(text) {
            out.push(Self::TOO_MUCH);
        }
    }

    /// Handles the messages that were kept, up to the next token, after which the rest waits again.
    fn catch_up(&mut self, context: &mut Context<'_>, out: &mut Actions) {
        let Some(early) = self.early().take() else { return };
        early.messages.iter().for_each(|text| self.hear(text, context, out));
    }
}

/// Messages that have come too early.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Early {
    messages: Vec<Box<str>>,
    bytes: usize,
}

impl Early {
    /// Keeps a message. Returns whether there was room.
    #[must_use]
    fn keep(&mut self, text: &str) -> bool {
        // A message too many ends the session: dropping one would leave the client waiting for its
        // answer.
        let has_room = self.messages.len() < MESSAGES_MAX && self.bytes + text.len() <= BYTES_MAX;
        if has_room {
            self.bytes += text.len();
            self.messages.push(text.into());
        }
        has_room
    }
}
