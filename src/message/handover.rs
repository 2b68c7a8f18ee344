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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Interest, Received, read};

    /// A masked frame of a client.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first, 0x80 | payload.len() as u8];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// What another process makes of it.
    fn passed(inbox: Option<Box<MessageInbox>>) -> Option<Box<MessageInbox>> {
        let frozen = inbox?.freeze().unwrap();
        let json = serde_json::to_string(&frozen).unwrap();
        let mut read: FrozenInbox = serde_json::from_str(&json).unwrap();
        (read.pending, read.message) = (frozen.pending, frozen.message);
        Some(Box::new(MessageInbox::thaw(read).unwrap()))
    }

    #[test]
    fn a_message_is_completed_in_another_process_wherever_it_was_cut() {
        let text = "ü€".as_bytes();
        let stream = [
            frame(0x01, &text[..1]),
            frame(0x89, b"hi"),
            frame(0x00, &text[1..3]),
            frame(0x80, &text[3..]),
            frame(0x82, b"more"),
        ]
        .concat();
        for at in 0..=stream.len() {
            let (first, second) = stream.split_at(at);
            let (mut inbox, mut heard) = (None, Vec::new());
            for part in [first, second] {
                inbox = passed(inbox);
                let mut hear = |received: Received<'_>| {
                    heard.push(format!("{received:?}"));
                    Interest::Messages(5)
                };
                let read = read(&mut inbox, &mut part.to_vec(), Interest::Messages(5), &mut hear);
                assert_eq!(read, Ok(()), "cut at {at}");
            }
            assert_eq!(
                heard,
                ["Ping([104, 105])", "Text(\"ü€\")", "Binary([109, 111, 114, 101])"],
                "cut at {at}"
            );
            assert!(inbox.is_none());
        }
    }

    #[test]
    fn a_violation_is_not_passed_and_what_is_no_inbox_is_refused() {
        let broken = MessageInbox::broken(crate::message::Violation::Protocol);
        assert!(broken.freeze().is_none());
        for (json, pending, message) in [
            (r#"{"text":null,"frame":null}"#, &b""[..], &b"x"[..]),
            (r#"{"text":true,"frame":null}"#, b"", b"\xff"),
            (r#"{"text":true,"frame":{"left":0,"mask":[0,0,0,0],"is_final":true}}"#, b"", b""),
            (r#"{"text":true,"frame":{"left":1,"mask":[0,0,0,0],"is_final":true}}"#, b"x", b""),
        ] {
            let mut frozen: FrozenInbox = serde_json::from_str(json).unwrap();
            (frozen.pending, frozen.message) = (pending.into(), message.into());
            assert!(MessageInbox::thaw(frozen).is_none(), "{json}");
        }
    }
}
