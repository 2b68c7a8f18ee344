//! Following channels of Laravel Echo: the socket id first, then subscriptions, then events.

use super::conversation::{Conversation, Spoken, TalkStage, TalkStep};
use super::{NOTICE_CHARS_MAX, printable};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;
use std::fmt::Write as _;

/// What is wanted of an app.
#[derive(Default)]
pub(super) struct EchoWish {
    /// The channels.
    pub(super) channels: Vec<String>,
    /// The app's key, as the URL has it.
    pub(super) key: String,
    /// The app's secret, which signs what is not public; never shown.
    pub(super) secret: Option<String>,
}

/// What a message begins with.
#[derive(Deserialize)]
struct EchoHead {
    event: String,
    #[serde(default)]
    data: serde_json::Value,
}

impl EchoWish {
    /// The app's key in a path that ends in `/app/{key}`.
    pub(super) fn key_of(path: &str) -> Option<&str> {
        let (_, key) = path.rsplit_once("/app/")?;
        (!key.is_empty() && !key.contains('/')).then_some(key)
    }

    /// The channels that cannot be subscribed to without the secret.
    pub(super) fn unsigned(&self) -> Option<&str> {
        let signed = |channel: &&String| channel.starts_with("private-") || channel.starts_with("presence-");
        self.channels.iter().find(signed).filter(|_| self.secret.is_none()).map(String::as_str)
    }

    /// The messages that subscribe the connection with this id.
    fn subscribe(&self, socket: &str) -> Vec<String> {
        let message = |channel: &String| {
            let member = channel.starts_with("presence-").then(|| {
                json!({ "user_id": format!("fanfare-{socket}"), "user_info": { "name": "fanfare subscribe" } })
                    .to_string()
            });
            let signed = member.as_ref().map_or_else(
                || format!("{socket}:{channel}"),
                |member| format!("{socket}:{channel}:{member}"),
            );
            let auth =
                self.secret.as_ref().map(|secret| format!("{}:{}", self.key, signature(secret, &signed)));
            let data = json!({ "channel": channel, "auth": auth, "channel_data": member });
            json!({ "event": "pusher:subscribe", "data": data }).to_string()
        };
        self.channels.iter().map(message).collect()
    }
}

impl Conversation {
    /// Follows channels of an app of Laravel Echo.
    pub(super) fn echo(wish: EchoWish, send: Vec<String>, count: Option<u64>) -> Self {
        let waiting = wish.channels.len();
        let stage = TalkStage::Token;
        Conversation { protocol: Spoken::Echo, stage, wish, waiting, ..Self::plain(send, count) }
    }

    pub(super) fn echo_message(&mut self, text: &str) -> TalkStep {
        let shown = printable(text, NOTICE_CHARS_MAX);
        let Ok(EchoHead { event, data }) = serde_json::from_str::<EchoHead>(text) else {
            return self.event();
        };
        match event.as_str() {
            "pusher:connection_established" if self.stage == TalkStage::Token => {
                let data =
                    data.as_str().and_then(|data| serde_json::from_str::<serde_json::Value>(data).ok());
                let socket = data.as_ref().and_then(|data| data["socket_id"].as_str()).unwrap_or_default();
                self.stage = TalkStage::Subscription;
                TalkStep::Webhook(format!("connected: {shown}"), self.wish.subscribe(socket))
            }
            "pusher:ping" => TalkStep::Reply(vec![r#"{"event":"pusher:pong","data":{}}"#.into()]),
            "pusher_internal:subscription_succeeded" => {
                self.waiting = self.waiting.saturating_sub(1);
                let mut send = vec![];
                if self.waiting == 0 && self.stage == TalkStage::Subscription {
                    self.stage = TalkStage::Following;
                    send = std::mem::take(&mut self.send);
                }
                TalkStep::Webhook(format!("subscribed: {shown}"), send)
            }
            "pusher:subscription_error" => {
                let advice = match data["type"].as_str() {
                    Some("AuthError") => "; is the secret of --secret-file the app's?",
                    _ => "",
                };
                TalkStep::Fail(format!("the daemon refused the subscription: {shown}{advice}"))
            }
            // What is wrong with the connection is said again by the close.
            "pusher:error" | "pusher:cache_miss" => TalkStep::Webhook(shown, vec![]),
            _ => self.event(),
        }
    }

    fn event(&mut self) -> TalkStep {
        self.events += 1;
        TalkStep::Event
    }
}

fn signature(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    let mut digits = String::new();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(channels: &[&str]) -> Conversation {
        let channels = channels.iter().map(|channel| (*channel).to_owned()).collect();
        let wish = EchoWish { channels, key: "app-key".into(), secret: Some("app-secret".into()) };
        Conversation::echo(wish, vec!["x".into()], Some(1))
    }

    #[test]
    fn channels_are_signed_with_the_socket_id_and_events_follow() {
        let mut talk = talk(&["room", "private-Chat.1", "presence-r"]);
        assert_eq!(talk.open(), Vec::<String>::new());
        let hello = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1234.1234\",\"activity_timeout\":120}"}"#;
        let TalkStep::Webhook(_, send) = talk.handle(hello) else { panic!("no webhook") };
        // The specification's own example.
        assert!(
            send[1].contains("app-key:138cad1ae9a9977bb38b9b4df13c4bc69aeea8db94776e47190df96767284dda"),
            "{}",
            send[1]
        );
        assert!(send[2].contains(r#""channel_data":"{\"user_id\":\"fanfare-1234.1234\""#), "{}", send[2]);
        let answer = |channel: &str| {
            format!(
                r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
            )
        };
        for (channel, last) in [("room", false), ("private-Chat.1", false), ("presence-r", true)] {
            let TalkStep::Webhook(_, send) = talk.handle(&answer(channel)) else { panic!("no webhook") };
            assert_eq!(send.len(), usize::from(last), "{channel}");
        }
        assert_eq!(
            talk.handle(r#"{"event":"pusher:ping","data":"{}"}"#),
            TalkStep::Reply(vec![r#"{"event":"pusher:pong","data":{}}"#.into()])
        );
        assert_eq!(talk.handle(r#"{"event":"e","channel":"room","data":"1"}"#), TalkStep::Event);
        assert!(talk.complete());
        for (code, word) in
            [(4001, "key"), (4003, "enabled"), (4004, "max_connections"), (4100, "too slowly")]
        {
            assert!(talk.meaning(code).contains(word), "{code}");
        }
    }

    #[test]
    fn a_refusal_ends_it_and_a_secret_is_asked_for_where_one_is_needed() {
        let error = r#"{"event":"pusher:subscription_error","channel":"private-x","data":{"type":"AuthError","error":"…","status":401}}"#;
        assert!(
            matches!(talk(&["private-x"]).handle(error), TalkStep::Fail(why) if why.contains("--secret-file"))
        );
        let wish = EchoWish { channels: vec!["room".into(), "private-x".into()], ..EchoWish::default() };
        assert_eq!(wish.unsigned(), Some("private-x"));
        assert_eq!(talk(&["private-x"]).wish.unsigned(), None);
        assert_eq!(EchoWish::key_of("/app/app-key"), Some("app-key"));
        assert_eq!(EchoWish::key_of("/prefix/app/k"), Some("k"));
        assert_eq!(EchoWish::key_of("/app/"), None);
        assert_eq!(EchoWish::key_of("/c/__event"), None);
    }
}
