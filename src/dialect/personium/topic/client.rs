//! The client's end of a Personium topic: the token, then data.

use crate::dialect::client::{
    ClientExample, ClientHeard, ClientProfile, ClientStage, ClientStep, ClientWish, DialectClient,
    Sample, SetupFiles, Site, Subscriber, TokenPlace, json, token_setup, token_table,
};
use crate::dialect::personium::client::{AnswerKeys, SESSION_ENDED, personium_claims};
use serde_json::{Map, Value};

/// A client of a topic.
pub(super) struct TopicClient;

impl DialectClient for TopicClient {
    fn profile(&self) -> ClientProfile {
        ClientProfile {
            owns: |path| path.contains("/__topic/"),
            ..ClientProfile::new("Personium", TokenPlace::Message)
        }
    }

    fn prepare(&self, _: &str, wish: &mut ClientWish) -> Result<(), String> {
        match wish.token {
            Some(_) => Ok(()),
            None => Err("no token was given, and a topic begins with one; use --token-file or \
                 FANFARE_TOKEN, and `fanfare token --cell NAME --scope 'read stream-receive'` to \
                 make one"
                .into()),
        }
    }

    fn step(&self, stage: ClientStage, wish: &ClientWish, _: &str) -> Option<ClientStep> {
        let token = wish.token.as_ref().filter(|_| stage == ClientStage::Token)?;
        ClientStep::ask(format!("{{\"AccessToken\":{}}}", json(token)))
    }

    fn read(&self, stage: ClientStage, text: &str) -> ClientHeard {
        // Data of a topic may have keys of answers; only theirs have a sender.
        match serde_json::from_str::<AnswerKeys>(text) {
            Ok(keys) if keys.from.is_none() => keys.read(stage),
            _ => ClientHeard::Event,
        }
    }

    fn refusal(&self, _: &ClientWish, reason: &str) -> String {
        format!(
            "the daemon refused: {reason}; is the token expired, signed with another secret, for \
             another cell or without the scope \"read stream-receive\", or is there no such topic?"
        )
    }

    fn meaning(&self, code: u16, stage: ClientStage) -> Option<&'static str> {
        match code {
            1000 if stage == ClientStage::Token => Some(
                "the token was refused: is it expired, signed with another secret, for another \
                 cell, or without the scope \"read stream-receive\"? Or its issuer does not \
                 answer, as the daemon's log says then; `fanfare token --check` tells which",
            ),
            1000 => Some(SESSION_ENDED),
            _ => None,
        }
    }

    fn example(&self) -> ClientExample {
        ClientExample {
            path: "/demo/__topic/box/stream.topic.chat",
            claims: serde_json::json!({ "aud": "demo", "scope": "read stream-receive" }),
            options: "",
            place: "topic/demo/box/stream.topic.chat",
            event: r#"{"From":"https://demo.example/","Body":{"text":"Hello World"}}"#,
        }
    }

    fn setup(&self, files: &SetupFiles) -> Vec<String> {
        vec![token_setup("personium", files)]
    }

    fn table(&self, secret: &str) -> String {
        token_table("personium", secret)
    }

    fn claims(&self, subscriber: &Subscriber<'_>) -> Option<Map<String, Value>> {
        personium_claims(subscriber, "read stream-receive")
    }

    fn path(&self, Subscriber { site, topic, .. }: &Subscriber<'_>) -> String {
        format!("/{}/__topic/{}/stream.topic.{topic}", site.cell, site.folder)
    }

    fn sample(&self, site: &Site, topic: &str, _: usize) -> Sample {
        let address = format!("topic/{}/{}/stream.topic.{topic}", site.cell, site.folder);
        Sample::unchanged(
            address,
            r#"{"From":"https://bench.example/","Body":{"Info":""#.into(),
            r#""}}"#,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::client::ClientTalk;

    fn talk() -> ClientTalk {
        ClientTalk::new(
            &TopicClient,
            ClientWish { token: Some("a\"b".into()), ..ClientWish::default() },
        )
    }

    #[test]
    fn the_token_is_said_and_data_are_what_has_a_sender() {
        let mut talk = talk();
        assert_eq!(talk.open(), [r#"{"AccessToken":"a\"b"}"#]);
        assert!(talk.meaning(1000).contains("stream-receive"));
        let current =
            r#"{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":1,"Result":"Success"}"#;
        assert_eq!(talk.hear(current), (ClientHeard::Success("token accepted"), vec![]));
        let expired =
            r#"{"Response":"Unknown","Timestamp":1,"Reason":"Session expired","Result":"Error"}"#;
        assert_eq!(talk.hear(expired).0, ClientHeard::Note);
        assert_eq!(
            talk.hear(r#"{"From":"https://c/","Response":"x","Body":null}"#).0,
            ClientHeard::Event
        );
        assert!(talk.meaning(1000).contains("expired"));
    }

    #[test]
    fn a_token_is_required_and_one_that_is_refused_says_why() {
        let mut talk = talk();
        talk.open();
        let inactive = r#"{"Response":"AccessToken","Timestamp":1,"Reason":"Token inactive","Result":"Error"}"#;
        assert_eq!(talk.hear(inactive).0, ClientHeard::Refusal("Token inactive".into()));
        assert!(talk.refusal("Token inactive").contains("stream-receive"));
        assert!(TopicClient.prepare("/c/__topic/b/x", &mut ClientWish::default()).is_err());
    }
}
