//! Messages that a client sends while its token is being verified: kept in order, and handled
//! afterwards.
//!
//! The reference servers do not read on before they have verified a token. So clients may send the
//! next message at once, and the distance of the verifier must make no difference to them.

/// Most messages that are kept. Few clients send any; one that subscribes without waiting for
/// answers may send many.
const MESSAGES_MAX: usize = 256;
/// Bytes of all of these: what a stranger can make the daemon hold.
const BYTES_MAX: usize = 32 * 1024;

/// Messages that have come too early.
#[derive(Default)]
pub(super) struct Early {
    messages: Vec<Box<str>>,
    bytes: usize,
}

impl Early {
    /// Keeps a message. Returns whether there was room.
    #[must_use]
    pub(super) fn keep(&mut self, text: &str) -> bool {
        // A message too many ends the session: dropping one would leave the client waiting for its
        // answer.
        let has_room = self.messages.len() < MESSAGES_MAX && self.bytes + text.len() <= BYTES_MAX;
        if has_room {
            self.bytes += text.len();
            self.messages.push(text.into());
        }
        has_room
    }

    /// The kept messages, in order.
    pub(super) fn into_messages(self) -> Vec<Box<str>> {
        self.messages
    }
}
