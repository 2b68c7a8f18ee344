//! The client's end of a Laravel application's channels: the token in the URL names the channel;
//! then come messages, and answers to ours.

use crate::dialect::client::{
    ClientExample, ClientHeard, ClientProfile, ClientStage, DialectClient, REDIS_SETUP, Sample,
    SetupFiles, Site, Subscriber, TokenPlace, claims, token_setup, token_table,
};
use serde_json::{Map, Value, json};

/// A client of a channel.
pub(super) struct ChannelClient;

impl DialectClient for ChannelClient {
    fn profile(&self) -> ClientProfile {
        ClientProfile {
            option: Some("--channel"),
            ..ClientProfile::new("a Laravel application", TokenPlace::Query)
        }
    }

    fn read(&self, _: ClientStage, text: &str) -> ClientHeard {
        if text.starts_with(r#"{"type":"sended""#) { ClientHeard::Note } else { ClientHeard::Event }
    }

    fn meaning(&self, code: u16, _: ClientStage) -> Option<&'static str> {
        (code == 1008).then_some(
            "give a token that names a channel, with --token-file or FANFARE_TOKEN; `fanfare \
             token --channel NAME` makes one",
        )
    }

    fn example(&self) -> ClientExample {
        ClientExample {
            path: "/",
            claims: json!({ "channel": "chat:1", "id": 1, "name": "Ann" }),
            options: "--channel ",
            place: "channel",
            event: r#"{"channel":"chat:1","data":{"message":"Hello World","name":"System"}}"#,
        }
    }

    fn setup(&self, files: &SetupFiles) -> Vec<String> {
        vec![token_setup("channel", files), REDIS_SETUP.to_owned()]
    }

    fn table(&self, secret: &str) -> String {
        token_table("channel", secret)
    }

    fn claims(&self, subscriber: &Subscriber<'_>) -> Option<Map<String, Value>> {
        claims(json!({ "id": subscriber.index, "name": "subscriber", "channel": subscriber.topic }))
    }

    fn path(&self, subscriber: &Subscriber<'_>) -> String {
        subscriber.given.unwrap_or("/").to_owned()
    }

    fn sample(&self, _: &Site, topic: &str, _: usize) -> Sample {
        let delivered = r#"{"type":"message","sender":{"name":"System","id":0},"data":{"Info":""#;
        Sample {
            address: "channel".into(),
            fed: (format!(r#"{{"channel":"{topic}","data":{{"Info":""#), r#""}}"#),
            delivered: (delivered.into(), r#""}}"#),
            is_wrapped: false,
        }
    }

    fn client_message(&self, size: usize) -> Option<String> {
        let message = "x".repeat(size.saturating_sub(r#"{"data":{"message":""}}"#.len()));
        Some(format!(r#"{{"data":{{"message":"{message}"}}}}"#))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::client::{ClientTalk, ClientWish};

    #[test]
    fn events_come_at_once_and_answers_to_what_was_sent_are_none() {
        let mut talk = ClientTalk::new(&ChannelClient, ClientWish::default());
        assert!(talk.open().is_empty());
        assert_eq!(talk.stage(), ClientStage::Following);
        assert_eq!(talk.hear(r#"{"type":"sended","ok":false}"#).0, ClientHeard::Note);
        assert_eq!(talk.hear(r#"{"type":"message","sender":{},"data":{}}"#).0, ClientHeard::Event);
        assert!(talk.meaning(1008).contains("--channel"));
    }
}
