//! Following a topic of Pulsar as a consumer or a reader: every message is acknowledged when it has been printed.

use super::conversation::{Conversation, Spoken, TalkStep};
use serde::Deserialize;
use serde_json::json;

/// What a message is acknowledged by.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delivered {
    message_id: String,
}

/// Whether a path is one of a consumer or a reader.
pub(super) fn is_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/ws/") else { return false };
    let rest = rest.strip_prefix("v2/").or_else(|| rest.strip_prefix("v3/")).unwrap_or(rest);
    ["consumer/", "reader/"].iter().any(|role| rest.starts_with(role))
}

impl Conversation {
    /// Follows what the path names.
    pub(super) fn pulsar(send: Vec<String>, count: Option<u64>) -> Self {
        Conversation { protocol: Spoken::Pulsar, ..Self::plain(send, count) }
    }

    pub(super) fn pulsar_message(&mut self, text: &str) -> TalkStep {
        self.events += 1;
        match serde_json::from_str::<Delivered>(text) {
            Ok(Delivered { message_id }) => {
                TalkStep::Acknowledge(json!({ "messageId": message_id }).to_string())
            }
            // The answer to something of --send.
            Err(_) => TalkStep::Event,
        }
    }
}

/// What a close with this code means on a path of Pulsar, if it is one of its own.
pub(super) fn meaning(code: u16) -> Option<&'static str> {
    Some(match code {
        4002 => "the subscription cannot be had: another consumer has it, or the daemon's log says more",
        4003 => "a message that we sent was not understood; see --send",
        4005 => {
            "no token was given, or it is expired or signed with another secret; use --token-file or FANFARE_TOKEN"
        }
        4006 => "the token does not let its bearer consume from this topic",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_acknowledged_by_its_id() {
        let mut talk = Conversation::pulsar(vec!["x".into()], Some(2));
        assert_eq!(talk.open(), ["x"]);
        let message = r#"{"messageId":"CAAQAw==","payload":"","properties":{}}"#;
        assert_eq!(talk.handle(message), TalkStep::Acknowledge(r#"{"messageId":"CAAQAw=="}"#.into()));
        assert!(!talk.complete());
        assert_eq!(talk.handle(r#"{"endOfTopic":false}"#), TalkStep::Event);
        assert!(talk.complete());
        assert!(talk.meaning(4005).contains("token") && talk.meaning(1001).contains("stopping"));
    }

    #[test]
    fn consumers_and_readers_are_told_by_their_paths() {
        for path in
            ["/ws/consumer/persistent/p/c/n/t/s", "/ws/v2/reader/persistent/t/n/x", "/ws/v3/consumer/s"]
        {
            assert_eq!(Spoken::of_path(path), Spoken::Pulsar, "{path}");
        }
        for path in ["/ws/v2/producer/persistent/t/n/x", "/ws/", "/x/ws/v2/reader/persistent/t/n/x"] {
            assert_eq!(Spoken::of_path(path), Spoken::Other, "{path}");
        }
    }
}
