//! What a client says while its token is being verified: kept in order, and said again afterwards.
//!
//! The servers whose protocols these are do not read on before they have verified a token. So a client may send what
//! follows at once, and whether the verifier is far away must make no difference to it.

/// Most messages that are kept. Few clients send any, but one that subscribes without waiting for an answer may.
const MESSAGES_MAX: usize = 256;
/// All of these together, in bytes: what a stranger can make the daemon hold.
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
        let has_room = self.messages.len() < MESSAGES_MAX && self.bytes + text.len() <= BYTES_MAX;
        if has_room {
            self.bytes += text.len();
            self.messages.push(text.into());
        }
        has_room
    }

    /// What was kept, in order.
    pub(super) fn into_messages(self) -> Vec<Box<str>> {
        self.messages
    }
}
