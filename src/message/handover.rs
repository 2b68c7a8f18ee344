//! An incomplete message as data, for another process.

use super::{MessageInbox, Partial};
use serde::{Deserialize, Serialize};

/// The incomplete frames and message of one connection, as data.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FrozenInbox {
    /// An incomplete header or control frame.
    #[serde(skip)]
    pub(crate) pending: Vec<u8>,
    /// The payload of an unfinished message so far.
    #[serde(skip)]
    pub(crate) message: Vec<u8>,
    /// Whether the unfinished message is text; `None` when there is none.
    text: Option<bool>,
    /// The data frame whose payload is incomplete.
    frame: Option<FrozenFrame>,
}

/// A data frame whose payload is incomplete.
#[derive(Debug, Serialize, Deserialize)]
struct FrozenFrame {
    left: u64,
    mask: [u8; 4],
    is_final: bool,
}

impl MessageInbox {
    /// The inbox as data; `None` when it holds a violation, whose session is about to end.
    #[must_use]
    pub fn freeze(&self) -> Option<FrozenInbox> {
        if self.is_broken() {
            return None;
        }
        let frame = self.frame.as_ref().map(|frame| FrozenFrame {
            left: frame.left,
            mask: frame.mask,
            is_final: frame.is_final,
        });
        Some(FrozenInbox {
            pending: self.pending.clone(),
            message: self.message.clone(),
            text: self.text,
            frame,
        })
    }

    /// The inbox again; `None` when the data are those of no inbox.
    #[must_use]
    pub fn thaw(frozen: FrozenInbox) -> Option<Self> {
        let FrozenInbox { pending, message, text, frame } = frozen;
        // No header is read within a payload, and a payload belongs to a message or is skipped; an
        // empty frame would have ended.
        let is_within = frame.is_some() && !pending.is_empty();
        if is_within || (text.is_none() && !message.is_empty()) {
            return None;
        }
        let frame = match frame {
            Some(FrozenFrame { left: 0, .. }) => return None,
            Some(FrozenFrame { left, mask, is_final }) => Some(Partial { left, mask, is_final }),
            None => None,
        };

        let mut inbox = Self { pending, frame, message, text, ..Self::default() };
        if text == Some(true) {
            inbox.check_text().ok()?;
        }
        Some(inbox)
    }
}
