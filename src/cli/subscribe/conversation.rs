//! What `fanfare subscribe` says and what it makes of the answers; knows no socket.

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::echo::EchoWish;
use super::pulsar;
use super::{NOTICE_CHARS_MAX, printable};

/// What a subscription asks for, in the spelling of the event bus.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SubscriptionRule {
    pub(super) r#type: String,
    pub(super) object: String,
}

/// What the path of a URL speaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Spoken {
    /// Token, subscription, events.
    EventBus,
    /// Token, data.
    Topic,
    /// Token in the request, subscriptions, events. No path tells it.
    Wazo,
    /// Token in the request, messages, and answers to ours. No path tells it.
    Channel,
    /// A greeting, subscriptions, events.
    Echo,
    /// Token in the URL, messages, and our acknowledgements.
    Pulsar,
    /// Nothing that is known here.
    Other,
}

impl Spoken {
    pub(super) fn of_path(path: &str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.ends_with("/__event") {
            Self::EventBus
        } else if path.contains("/__topic/") {
            Self::Topic
        } else if pulsar::is_path(path) {
            Self::Pulsar
        } else {
            Self::Other
        }
    }
}

/// Where the conversation stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TalkStage {
    /// The token was sent.
    Token,
    /// The subscription was sent.
    Subscription,
    /// Events may come.
    Following,
}

/// What we say and what we make of the answers; knows no socket.
pub(super) struct Conversation {
    pub(super) protocol: Spoken,
    pub(super) stage: TalkStage,
    pub(super) token: Option<String>,
    /// The subscription to send once the token was accepted.
    pub(super) subscribe: Vec<String>,
    /// Messages to send once subscribed.
    pub(super) send: Vec<String>,
    /// What is wanted of Laravel Echo.
    pub(super) wish: EchoWish,
    /// Channels of it that are not subscribed to yet.
    pub(super) waiting: usize,
    pub(super) events: u64,
    pub(super) count: Option<u64>,
}

/// What to do about a message.
#[derive(Debug, PartialEq)]
pub(super) enum TalkStep {
    /// An event: print it as it is.
    Event,
    /// The same, and send this when it is printed.
    Acknowledge(String),
    /// Tell the person, and send these.
    Webhook(String, Vec<String>),
    /// Send these, and tell nobody.
    Reply(Vec<String>),
    /// Nothing more will come of this.
    Fail(String),
}

/// The keys by which messages are told apart: those of the event bus in both of its spellings, and a topic's.
#[derive(Deserialize)]
struct BusKeys {
    #[serde(rename = "Type")]
    event_type: Option<IgnoredAny>,
    #[serde(rename = "From")]
    from: Option<IgnoredAny>,
    #[serde(alias = "Response")]
    response: Option<String>,
    #[serde(alias = "Result")]
    result: Option<String>,
    #[serde(alias = "Reason")]
    reason: Option<String>,
    #[serde(alias = "AccessToken")]
    access_token: Option<IgnoredAny>,
}

/// What Wazo's answers begin with.
#[derive(Deserialize)]
struct WazoAnswer {
    op: String,
}

impl Conversation {
    pub(super) fn plain(send: Vec<String>, count: Option<u64>) -> Self {
        Conversation {
            protocol: Spoken::Other,
            stage: TalkStage::Following,
            token: None,
            subscribe: vec![],
            send,
            wish: EchoWish::default(),
            waiting: 0,
            events: 0,
            count,
        }
    }

    /// Follows the channel that the token of the request names.
    pub(super) fn channel(send: Vec<String>, count: Option<u64>) -> Self {
        Conversation { protocol: Spoken::Channel, ..Self::plain(send, count) }
    }

    pub(super) fn event_bus(
        token: Option<String>,
        rule: &SubscriptionRule,
        send: Vec<String>,
        count: Option<u64>,
    ) -> Self {
        let stage = if token.is_some() { TalkStage::Token } else { TalkStage::Subscription };
        let subscribe = vec![format!("{{\"subscribe\":{}}}", json(rule))];
        let protocol = Spoken::EventBus;
        Conversation { protocol, stage, token, subscribe, ..Self::plain(send, count) }
    }

    pub(super) fn topic(token: String, send: Vec<String>, count: Option<u64>) -> Self {
        Conversation {
            protocol: Spoken::Topic,
            stage: TalkStage::Token,
            token: Some(token),
            ..Self::plain(send, count)
        }
    }

    /// Follows events of these names in version 1 of Wazo's protocol, whose events come as they are.
    pub(super) fn wazo(names: &[String], send: Vec<String>, count: Option<u64>) -> Self {
        let subscribe = |name| format!(r#"{{"op":"subscribe","data":{{"event_name":{}}}}}"#, json(name));
        let mut messages: Vec<String> = names.iter().map(subscribe).collect();
        messages.push(r#"{"op":"start"}"#.into());
        Conversation {
            protocol: Spoken::Wazo,
            stage: TalkStage::Token,
            subscribe: messages,
            ..Self::plain(send, count)
        }
    }

    /// The first messages to send.
    pub(super) fn open(&mut self) -> Vec<String> {
        match (self.stage, &self.token) {
            (TalkStage::Token, Some(token)) if self.protocol == Spoken::Topic => {
                vec![format!("{{\"AccessToken\":{}}}", json(token))]
            }
            (TalkStage::Token, Some(token)) => vec![format!("{{\"access_token\":{}}}", json(token))],
            (TalkStage::Following, _) => std::mem::take(&mut self.send),
            _ if matches!(self.protocol, Spoken::Wazo | Spoken::Echo) => vec![],
            _ => self.subscribe.clone(),
        }
    }

    /// Whether as many events came as were asked for.
    pub(super) fn complete(&self) -> bool {
        self.stage == TalkStage::Following && self.count.is_some_and(|count| self.events >= count)
    }

    pub(super) fn handle(&mut self, text: &str) -> TalkStep {
        if self.protocol == Spoken::Wazo {
            return self.wazo_message(text);
        }
        if self.protocol == Spoken::Echo {
            return self.echo_message(text);
        }
        if self.protocol == Spoken::Pulsar {
            return self.pulsar_message(text);
        }
        if self.protocol == Spoken::Channel && text.starts_with(r#"{"type":"sended""#) {
            return TalkStep::Webhook(printable(text, NOTICE_CHARS_MAX), vec![]);
        }
        let known = matches!(self.protocol, Spoken::EventBus | Spoken::Topic);
        let keys = if known { serde_json::from_str::<BusKeys>(text).ok() } else { None };
        match keys {
            Some(keys) if self.protocol == Spoken::Topic && keys.from.is_some() => {
                self.events += 1;
                TalkStep::Event
            }
            Some(keys) if keys.access_token.is_some() => {
                TalkStep::Webhook("(a message with an access token, not shown)".into(), Vec::new())
            }
            Some(BusKeys { event_type: None, response: Some(response), result, reason, .. }) => {
                let failed = [Some(&response), result.as_ref()].into_iter().flatten();
                let failed = failed.into_iter().any(|word| word.eq_ignore_ascii_case("error"));
                self.answer(text, failed.then(|| reason.unwrap_or_default()))
            }
            _ => {
                self.events += 1;
                TalkStep::Event
            }
        }
    }

    /// Answers come until `start` is answered, and from then on nothing but events.
    fn wazo_message(&mut self, text: &str) -> TalkStep {
        let op = serde_json::from_str::<WazoAnswer>(text).map(|answer| answer.op).unwrap_or_default();
        let shown = printable(text, NOTICE_CHARS_MAX);
        match (self.stage, op.as_str()) {
            (TalkStage::Following, _) => {
                self.events += 1;
                TalkStep::Event
            }
            (TalkStage::Token, "init") => {
                self.stage = TalkStage::Subscription;
                TalkStep::Webhook(format!("token accepted: {shown}"), self.subscribe.clone())
            }
            (TalkStage::Subscription, "start") => {
                self.stage = TalkStage::Following;
                TalkStep::Webhook(format!("subscribed: {shown}"), std::mem::take(&mut self.send))
            }
            _ => TalkStep::Webhook(shown, vec![]),
        }
    }

    /// An answer to what we sent; `refused` holds the reason if it is one of refusal.
    fn answer(&mut self, text: &str, refused: Option<String>) -> TalkStep {
        let shown = printable(text, NOTICE_CHARS_MAX);
        if self.stage == TalkStage::Following {
            return TalkStep::Webhook(shown, Vec::new());
        }
        if let Some(reason) = refused {
            let reason = printable(&reason, NOTICE_CHARS_MAX);
            return TalkStep::Fail(if self.token.is_none() {
                format!(
                    "the daemon refused the subscription ({reason}): no token was given; use --token-file or \
                     FANFARE_TOKEN, and `fanfare token --cell NAME` to make one"
                )
            } else if self.protocol == Spoken::Topic {
                format!(
                    "the daemon refused: {reason}; is the token expired, signed with another secret, for another \
                     cell or without the scope \"read stream-receive\", or is there no such topic?"
                )
            } else {
                format!("the daemon refused: {reason}")
            });
        }
        if self.protocol == Spoken::Topic {
            self.stage = TalkStage::Following;
            return TalkStep::Webhook(format!("token accepted: {shown}"), std::mem::take(&mut self.send));
        }
        if self.stage == TalkStage::Token {
            self.stage = TalkStage::Subscription;
            return TalkStep::Webhook(format!("token accepted: {shown}"), self.subscribe.clone());
        }
        self.stage = TalkStage::Following;
        TalkStep::Webhook(format!("subscribed: {shown}"), std::mem::take(&mut self.send))
    }

    /// What a close with this code probably means, and what to do.
    pub(super) fn meaning(&self, code: u16) -> &'static str {
        if let Some(meaning) = pulsar::meaning(code).filter(|_| self.protocol == Spoken::Pulsar) {
            return meaning;
        }
        match code {
            1000 if self.stage == TalkStage::Token && self.protocol == Spoken::Topic => {
                "the token was refused: is it expired, signed with another secret, for another cell, or \
                 without the scope \"read stream-receive\"? Or its issuer does not answer, as the daemon's log says \
                 then; `fanfare token --check` tells which"
            }
            1000 if self.stage == TalkStage::Token => {
                "the token was refused: is it expired, signed with another secret, for another cell, or \
                 without the scope event-read? Or its issuer does not answer, as the daemon's log says then; \
                 `fanfare token --check` tells which"
            }
            1000 if matches!(self.protocol, Spoken::EventBus | Spoken::Topic) => {
                "the session ended: the token expired or a later one was refused; connect again with a new token"
            }
            1000 => "the daemon ended the session; nothing is wrong with the connection",
            1008 if self.protocol == Spoken::Channel => {
                "give a token that names a channel, with --token-file or FANFARE_TOKEN; `fanfare token --channel NAME` \
                 makes one"
            }
            1001 => "the daemon is stopping; connect again later",
            1002 | 1007 => "the daemon found our WebSocket frames faulty; is there a proxy between?",
            1008 if self.protocol == Spoken::Wazo => {
                "this listener speaks the channels of a Laravel application and not Wazo's protocol; see [[listen]] \
                 for the port of wazo (9502 in the development set-up)"
            }
            1008 => {
                "the daemon's policy does not allow this session; check the token, and that it is for the protocol \
                 of this listener"
            }
            1009 => "a message that we sent is longer than the daemon takes; see --send",
            1011 if self.protocol == Spoken::Wazo => {
                "the daemon has lost its RabbitMQ, or our pings; connect again, and see its log"
            }
            1011 => "the daemon met an error of its own; see its log",
            4001 if self.protocol == Spoken::Echo => "the key of the URL is no app's of the daemon",
            4003 if self.protocol == Spoken::Echo => "the app is not enabled, or a reload has removed it",
            4009 if self.protocol == Spoken::Echo => {
                "allowed_origins of the app lets pages in that say who they are, and this command is none; or the \
                 application has ended the connection"
            }
            4004 if self.protocol == Spoken::Echo => "the app has no room; see its max_connections",
            4100 if self.protocol == Spoken::Echo => "we read too slowly, or the daemon stops; connect again",
            4001 if self.protocol == Spoken::Wazo => {
                "no token was given; use --token-file or FANFARE_TOKEN, and `fanfare token --acl websocketd \
                 --acl 'events.#'` to make one"
            }
            4002 if self.protocol == Spoken::Wazo => {
                "the token was refused: is it expired, signed with another secret, or without \"websocketd\" \
                 among its acl? Or its issuer does not answer, as the daemon's log says then; \
                 `fanfare token --check` tells which"
            }
            4003 if self.protocol == Spoken::Wazo => {
                "the token expired or its session was deleted; connect again with a new token"
            }
            4004 if self.protocol == Spoken::Wazo => {
                "a message or the version in the URL was not understood, or there are too many subscriptions; see --send \
                 and --event"
            }
            1013 => "we read too slowly or the daemon is overloaded; connect again",
            4000.. => "a code of the dialect's own; see its documentation, and check the token first",
            _ => "no usual code; see the daemon's log",
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings become JSON without fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(token: Option<&str>, send: &[&str], count: Option<u64>) -> Conversation {
        let rule = SubscriptionRule { r#type: "chat\"".into(), object: "*".into() };
        let send = send.iter().map(|&text| text.into()).collect();
        Conversation::event_bus(token.map(String::from), &rule, send, count)
    }

    const ACCEPTED: &str = r#"{"response":"success","expires_in":3600,"timestamp":1}"#;
    const SUBSCRIBED: &str = r#"{"response":"success","timestamp":1}"#;
    const EVENT: &str = r#"{"Type":"chat","Object":"general","Info":"Hello","response":"success"}"#;

    #[test]
    fn the_event_bus_gets_the_token_then_the_subscription_then_the_rest() {
        let mut talk = bus(Some("a\"b"), &["{\"state\":\"all\"}"], Some(1));
        assert_eq!(talk.open(), [r#"{"access_token":"a\"b"}"#]);
        let TalkStep::Webhook(_, send) = talk.handle(ACCEPTED) else { panic!("no webhook") };
        assert_eq!(send, [r#"{"subscribe":{"Type":"chat\"","Object":"*"}}"#]);
        let TalkStep::Webhook(_, send) = talk.handle(SUBSCRIBED) else { panic!("no webhook") };
        assert_eq!(send, [r#"{"state":"all"}"#]);
        assert!(!talk.complete());
        assert_eq!(talk.handle(EVENT), TalkStep::Event);
        assert!(talk.complete());
    }

    #[test]
    fn answers_of_both_spellings_are_no_events() {
        let mut talk = bus(Some("t"), &[], None);
        let current = r#"{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":1,"Result":"Success"}"#;
        assert!(matches!(talk.handle(current), TalkStep::Webhook(_, send) if send.len() == 1));
        assert!(matches!(talk.handle(SUBSCRIBED), TalkStep::Webhook(..)));
        let error = r#"{"Response":"Subscribe","Timestamp":1,"Reason":"Format error","Result":"Error"}"#;
        assert!(matches!(talk.handle(error), TalkStep::Webhook(..)));
        assert_eq!(talk.handle("{\"Type\":null}"), TalkStep::Event);
        assert_eq!(talk.handle("not JSON"), TalkStep::Event);
        assert_eq!(talk.events, 2);
    }

    #[test]
    fn a_refusal_ends_the_conversation_with_its_reason() {
        let unauthorized = r#"{"reason":"unauthorized","response":"error","timestamp":1}"#;
        let mut talk = bus(None, &[], None);
        assert!(talk.open()[0].starts_with("{\"subscribe\""));
        let TalkStep::Fail(message) = talk.handle(unauthorized) else { panic!("no failure") };
        assert!(message.contains("unauthorized") && message.contains("no token was given"));
        let mut talk = bus(Some("t"), &[], None);
        talk.handle(ACCEPTED);
        let format_error = r#"{"reason":"format error","response":"error","timestamp":1}"#;
        assert_eq!(talk.handle(format_error), TalkStep::Fail("the daemon refused: format error".into()));
    }

    #[test]
    fn a_topic_gets_the_token_and_then_the_rest_and_data_are_what_has_a_sender() {
        let mut talk = Conversation::topic("a\"b".into(), vec!["{}".into()], Some(1));
        assert_eq!(talk.open(), [r#"{"AccessToken":"a\"b"}"#]);
        let current = r#"{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":1,"Result":"Success"}"#;
        let TalkStep::Webhook(_, send) = talk.handle(current) else { panic!("no webhook") };
        assert_eq!(send, ["{}"]);
        let expired = r#"{"Response":"Unknown","Timestamp":1,"Reason":"Session expired","Result":"Error"}"#;
        assert!(matches!(talk.handle(expired), TalkStep::Webhook(..)));
        assert!(!talk.complete());
        assert_eq!(talk.handle(r#"{"From":"https://c/","Response":"x","Body":null}"#), TalkStep::Event);
        assert!(talk.complete());
        assert!(talk.meaning(1000).contains("expired"));
        let mut talk = Conversation::topic("t".into(), vec![], None);
        assert!(talk.meaning(1000).contains("stream-receive"));
        let inactive =
            r#"{"Response":"AccessToken","Timestamp":1,"Reason":"Token inactive","Result":"Error"}"#;
        let TalkStep::Fail(message) = talk.handle(inactive) else { panic!("no failure") };
        assert!(message.contains("Token inactive") && message.contains("stream-receive"), "{message}");
    }

    #[test]
    fn wazo_says_init_then_gets_every_name_and_start_and_then_all_is_events() {
        let names = ["call\"".to_owned(), "*".to_owned()];
        let mut talk = Conversation::wazo(&names, vec!["x".into()], Some(2));
        assert_eq!(talk.open(), Vec::<String>::new());
        let init = r#"{"op": "init", "code": 0, "msg": "", "data": {"version": 1}}"#;
        let TalkStep::Webhook(_, send) = talk.handle(init) else { panic!("no webhook") };
        assert_eq!(
            send,
            [
                r#"{"op":"subscribe","data":{"event_name":"call\""}}"#,
                r#"{"op":"subscribe","data":{"event_name":"*"}}"#,
                r#"{"op":"start"}"#
            ]
        );
        assert!(
            matches!(talk.handle(r#"{"op": "subscribe", "code": 0}"#), TalkStep::Webhook(_, send) if send.is_empty())
        );
        let TalkStep::Webhook(_, send) = talk.handle(r#"{"op": "start", "code": 0}"#) else {
            panic!("no webhook")
        };
        assert_eq!(send, ["x"]);
        assert_eq!(talk.handle(r#"{"op": "start"}"#), TalkStep::Event);
        assert_eq!(talk.handle("anything"), TalkStep::Event);
        assert!(talk.complete());
        for (code, word) in [(4001, "no token"), (4002, "websocketd"), (4003, "deleted"), (4004, "--event")] {
            assert!(talk.meaning(code).contains(word));
        }
    }

    #[test]
    fn a_channel_is_sent_what_was_asked_for_and_its_answers_are_no_events() {
        let mut talk = Conversation::channel(vec!["{}".into()], Some(1));
        assert_eq!(talk.open(), ["{}"]);
        let answer = r#"{"type":"sended","ok":false}"#;
        assert_eq!(talk.handle(answer), TalkStep::Webhook(answer.into(), vec![]));
        assert!(!talk.complete());
        assert_eq!(talk.handle(r#"{"type":"message","sender":{},"data":{}}"#), TalkStep::Event);
        assert!(talk.complete());
        assert!(talk.meaning(1008).contains("--channel"));
    }

    #[test]
    fn a_path_tells_what_it_speaks() {
        for (path, protocol) in [
            ("/john.doe/__event", Spoken::EventBus),
            ("/__event/", Spoken::EventBus),
            ("/x__event", Spoken::Other),
            ("/cell/__topic/box/c.topic.n", Spoken::Topic),
            ("/__topic/box/c.topic.n", Spoken::Topic),
            ("/__topic", Spoken::Other),
            ("/", Spoken::Other),
        ] {
            assert_eq!(Spoken::of_path(path), protocol, "{path}");
        }
    }

    #[test]
    fn a_token_that_is_echoed_back_is_not_shown() {
        let mut talk = bus(Some("hunter2"), &[], None);
        let echo = talk.open().remove(0);
        let TalkStep::Webhook(webhook, _) = talk.handle(&echo) else { panic!("no webhook") };
        assert!(!webhook.contains("hunter2"));
        assert_eq!(talk.stage, TalkStage::Token);
    }

    #[test]
    fn other_paths_get_what_was_asked_for_and_every_message_counts() {
        let mut talk = Conversation::plain(vec!["a".into(), "b".into()], Some(1));
        assert_eq!(talk.open(), ["a", "b"]);
        assert_eq!(talk.handle(SUBSCRIBED), TalkStep::Event);
        assert!(talk.complete());
    }

    #[test]
    fn the_close_right_after_the_token_is_explained() {
        let mut talk = bus(Some("t"), &[], None);
        assert!(talk.meaning(1000).contains("another cell"));
        talk.handle(ACCEPTED);
        assert!(talk.meaning(1000).contains("expired"));
        assert!(talk.meaning(1001).contains("stopping"));
        assert!(Conversation::plain(Vec::new(), None).meaning(4002).contains("dialect"));
    }
}
