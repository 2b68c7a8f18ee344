//! The client's end of the Personium event bus: the token, then the subscription, then events.

use crate::dialect::client::{
    ClientExample, ClientHeard, ClientProfile, ClientStage, ClientStep, ClientWish, DialectClient,
    Sample, SetupFiles, Site, Subscriber, TokenPlace, json, token_setup, token_table,
};
use crate::dialect::personium::client::{AnswerKeys, SESSION_ENDED, personium_claims};
use serde_json::{Map, Value, json as value};

/// A client of the event bus, in its classic spelling.
pub(super) struct EventBusClient;

impl DialectClient for EventBusClient {
    fn profile(&self) -> ClientProfile {
        ClientProfile {
            owns: |path| path.strip_suffix('/').unwrap_or(path).ends_with("/__event"),
            has_rules: true,
            ..ClientProfile::new("Personium", TokenPlace::Message)
        }
    }

    fn step(&self, stage: ClientStage, wish: &ClientWish, _: &str) -> Option<ClientStep> {
        match stage {
            ClientStage::Token => {
                ClientStep::ask(format!("{{\"access_token\":{}}}", json(wish.token.as_ref()?)))
            }
            ClientStage::Subscription => {
                // The daemon tells "*" and the empty prefix apart only where it lists rules.
                let prefix = |wanted: &Option<String>| json(&wanted.as_deref().unwrap_or("*"));
                let (kind, object) = (prefix(&wish.type_prefix), prefix(&wish.object_prefix));
                ClientStep::ask(format!(
                    "{{\"subscribe\":{{\"Type\":{kind},\"Object\":{object}}}}}"
                ))
            }
            ClientStage::Following => None,
        }
    }

    fn read(&self, stage: ClientStage, text: &str) -> ClientHeard {
        serde_json::from_str(text).map_or(ClientHeard::Event, |keys: AnswerKeys| keys.read(stage))
    }

    fn refusal(&self, wish: &ClientWish, reason: &str) -> String {
        match &wish.token {
            Some(_) => format!("the daemon refused: {reason}"),
            None => format!(
                "the daemon refused the subscription ({reason}): no token was given; use \
                 --token-file or FANFARE_TOKEN, and `fanfare token --cell NAME` to make one"
            ),
        }
    }

    fn meaning(&self, code: u16, stage: ClientStage) -> Option<&'static str> {
        match code {
            1000 if stage == ClientStage::Token => Some(
                "the token was refused: is it expired, signed with another secret, for another \
                 cell, or without the scope event-read? Or its issuer does not answer, as the \
                 daemon's log says then; `fanfare token --check` tells which",
            ),
            1000 => Some(SESSION_ENDED),
            _ => None,
        }
    }

    fn example(&self) -> ClientExample {
        ClientExample {
            path: "/demo/__event",
            claims: value!({ "aud": "demo", "scope": "event", "sub": "https://demo.example/#me" }),
            options: "",
            place: "event/demo",
            event: r#"{"Type":"chat","RequestKey":null,"Schema":"","External":true,"Object":"general","Info":"Hello World","cellId":"demo","Subject":"https:\/\/demo.example\/#me"}"#,
        }
    }

    fn setup(&self, files: &SetupFiles) -> Vec<String> {
        vec![token_setup("personium", files)]
    }

    fn table(&self, secret: &str) -> String {
        token_table("personium", secret)
    }

    fn claims(&self, subscriber: &Subscriber<'_>) -> Option<Map<String, Value>> {
        personium_claims(subscriber, "event-read")
    }

    fn path(&self, subscriber: &Subscriber<'_>) -> String {
        let cell = &subscriber.site.cell;
        subscriber.given.map_or_else(|| format!("/{cell}/__event"), str::to_owned)
    }

    fn sample(&self, site: &Site, topic: &str, _: usize) -> Sample {
        let head = format!(
            r#"{{"Type":"t","RequestKey":null,"Schema":"","External":true,"Object":"{topic}","Info":""#
        );
        Sample::unchanged(format!("event/{}", site.cell), head, r#"","cellId":"x","Subject":"s"}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::client::ClientTalk;

    const ACCEPTED: &str = r#"{"response":"success","expires_in":3600,"timestamp":1}"#;
    const SUBSCRIBED: &str = r#"{"response":"success","timestamp":1}"#;

    fn talk(token: Option<&str>) -> ClientTalk {
        let token = token.map(String::from);
        let wish =
            ClientWish { token, type_prefix: Some("chat\"".into()), ..ClientWish::default() };
        ClientTalk::new(&EventBusClient, wish)
    }

    #[test]
    fn the_token_is_said_then_the_subscription_and_then_events_come() {
        let mut talk = talk(Some("a\"b"));
        assert_eq!(talk.open(), [r#"{"access_token":"a\"b"}"#]);
        let subscribe = r#"{"subscribe":{"Type":"chat\"","Object":"*"}}"#.to_owned();
        assert_eq!(talk.hear(ACCEPTED), (ClientHeard::Success("token accepted"), vec![subscribe]));
        assert_eq!(talk.hear(SUBSCRIBED), (ClientHeard::Success("subscribed"), vec![]));
        assert_eq!(talk.stage(), ClientStage::Following);
        let event = r#"{"Type":"chat","Object":"general","Info":"Hello","response":"success"}"#;
        assert_eq!(talk.hear(event).0, ClientHeard::Event);
    }

    #[test]
    fn answers_of_both_spellings_are_no_events() {
        let mut talk = talk(Some("t"));
        talk.open();
        let current =
            r#"{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":1,"Result":"Success"}"#;
        assert_eq!(talk.hear(current).1.len(), 1);
        assert_eq!(talk.hear(SUBSCRIBED).0, ClientHeard::Success("subscribed"));
        let error =
            r#"{"Response":"Subscribe","Timestamp":1,"Reason":"Format error","Result":"Error"}"#;
        assert_eq!(talk.hear(error).0, ClientHeard::Note);
        assert_eq!(talk.hear("{\"Type\":null}").0, ClientHeard::Event);
        assert_eq!(talk.hear("not JSON").0, ClientHeard::Event);
    }

    #[test]
    fn a_refusal_has_its_reason_and_a_missing_token_is_named() {
        let mut anonymous = talk(None);
        assert!(anonymous.open()[0].starts_with("{\"subscribe\""));
        let unauthorized = r#"{"reason":"unauthorized","response":"error","timestamp":1}"#;
        assert_eq!(anonymous.hear(unauthorized).0, ClientHeard::Refusal("unauthorized".into()));
        assert!(anonymous.refusal("unauthorized").contains("no token was given"));
        assert_eq!(talk(Some("t")).refusal("format error"), "the daemon refused: format error");
    }

    #[test]
    fn a_token_that_is_echoed_back_is_known_as_a_secret() {
        let mut talk = talk(Some("hunter2"));
        let echo = talk.open().remove(0);
        assert_eq!(talk.hear(&echo), (ClientHeard::Secret, vec![]));
        assert_eq!(talk.stage(), ClientStage::Token);
    }

    #[test]
    fn the_close_right_after_the_token_is_explained() {
        let mut talk = talk(Some("t"));
        talk.open();
        assert!(talk.meaning(1000).contains("another cell"));
        talk.hear(ACCEPTED);
        assert!(talk.meaning(1000).contains("expired") && talk.meaning(1001).contains("stopping"));
    }
}
