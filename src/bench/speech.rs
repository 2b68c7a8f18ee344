//! What subscribers of each dialect say, and what its events look like.
//!
//! With most dialects an event goes out as it was fed; with the others what is fed and what is to be expected differ
//! in all but the padding. An event carries its sequence number and, with topics, the number of its topic: in its address or in
//! its JSON, as the dialect wants it.

use super::http::{APP_ID, APP_KEY};
use super::wire::{self, EventTooSmall, Template};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::str::FromStr;

/// The cell, and the box, of our own daemon's events.
const CELL: &str = "bench";
const BOX: &str = "box";

/// Patterns of each wazo token's ACL beside the one for `websocketd`: what a token of a real user has.
const ACL_PATTERNS: usize = 20;

/// A dialect as the generator speaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Speech {
    /// The Personium event bus in its classic spelling; a topic is an Object.
    #[default]
    PersoniumEvent,
    /// Personium stream topics.
    PersoniumTopic,
    /// Channels of a Laravel application; a topic is a channel.
    Channel,
    /// Laravel Echo; a topic is a public channel.
    Echo,
    /// Durable topics; every subscriber has a subscription of its own and acknowledges.
    Pulsar,
    /// Wazo's protocol 1; a topic is an event name, and each token's ACL is another.
    Wazo,
}

impl FromStr for Speech {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all =
            [Self::PersoniumEvent, Self::PersoniumTopic, Self::Channel, Self::Echo, Self::Pulsar, Self::Wazo];
        let names = || all.map(Self::name).join(", ");
        all.into_iter()
            .find(|speech| speech.name() == name)
            .ok_or_else(|| format!("it is one of {}", names()))
    }
}

/// Where the events of a running daemon belong: taken from its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventPlace {
    cell: String,
    folder: String,
}

impl EventPlace {
    /// The place of our own daemon's events.
    pub(super) fn own() -> Self {
        Self { cell: CELL.into(), folder: BOX.into() }
    }

    /// The place that a URL's path means: `/{cell}/…` or `/{cell}/__topic/{box}/…`.
    pub(super) fn of_path(path: &str) -> Self {
        let mut parts = path.split('/').skip(1).map(str::to_owned);
        let cell = parts.next().unwrap_or_default();
        Self { cell, folder: parts.nth(1).unwrap_or_default() }
    }
}

impl Speech {
    /// The name that configurations use.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PersoniumEvent => "personium-event",
            Self::PersoniumTopic => "personium-topic",
            Self::Channel => "channel",
            Self::Echo => "echo",
            Self::Pulsar => "pulsar",
            Self::Wazo => "wazo",
        }
    }

    /// What the names of figures end with, where the dialect is not the usual one.
    pub(super) fn suffix(self) -> String {
        if self == Self::default() { String::new() } else { format!(", {}", self.name()) }
    }

    /// The table of a configuration that sets up the dialect with tokens signed by `secret`.
    pub(super) fn table(self, secret: &str) -> String {
        let table = match self {
            Self::PersoniumEvent | Self::PersoniumTopic => "personium",
            Self::Channel => "channel",
            Self::Wazo => "wazo",
            Self::Pulsar => return "[pulsar]\nanonymous = true".into(),
            Self::Echo => {
                return format!(
                    "[[echo.app]]\nid = \"{APP_ID}\"\nkey = \"{APP_KEY}\"\nsecret = \"{secret}\""
                );
            }
        };
        format!(r#"[{table}]{}token = {{ jwt = {{ algorithms = ["HS256"], secret = "{secret}" }} }}"#, '\n')
    }

    /// The claims of subscriber `index`'s token, without its end. Laravel Echo has no tokens.
    pub(super) fn claims(self, place: &EventPlace, index: usize, topic: Option<usize>) -> Map<String, Value> {
        let claims = match self {
            Self::PersoniumEvent | Self::PersoniumTopic => json!({
                "sub": format!("https://bench.example/subscribers/#{index:06}"),
                "aud": place.cell,
                "scope": if self == Self::PersoniumEvent { "event-read" } else { "read stream-receive" },
            }),
            Self::Channel => json!({ "id": index, "name": "subscriber", "channel": wire::topic_name(topic) }),
            Self::Echo | Self::Pulsar => json!({}),
            Self::Wazo => json!({ "sub": format!("user-{index:06}"), "acl": acl(index) }),
        };
        claims.as_object().cloned().unwrap_or_default()
    }

    /// Path and query to connect to, for a subscriber of the topic (`None`: of the one for all).
    pub(super) fn target(
        self,
        path: Option<&str>,
        place: &EventPlace,
        index: usize,
        topic: Option<usize>,
        token: &str,
    ) -> String {
        match self {
            Self::Pulsar => {
                format!("/ws/v2/consumer/{}/subscription-{index:06}", durable_topic(&wire::topic_name(topic)))
            }
            Self::PersoniumEvent => path.map_or_else(|| format!("/{}/__event", place.cell), str::to_owned),
            Self::PersoniumTopic => format!("/{}/__topic/{}/{}", place.cell, place.folder, stream(topic)),
            Self::Echo => {
                let query = "protocol=7&client=js&version=8.4.0&flash=false";
                path.map_or_else(|| format!("/app/{APP_KEY}?{query}"), str::to_owned)
            }
            Self::Channel | Self::Wazo => format!("{}?token={token}", path.unwrap_or("/")),
        }
    }

    /// What the subscriber says after the upgrade, as frames.
    pub(super) fn greeting(self, token: &str, topic: Option<usize>, out: &mut Vec<u8>) {
        let name = wire::topic_name(topic);
        match self {
            Self::PersoniumEvent => {
                wire::client_text(&format!(r#"{{"access_token":"{token}"}}"#), out);
                wire::client_text(&format!(r#"{{"subscribe":{{"Type":"t","Object":"{name}"}}}}"#), out);
            }
            Self::PersoniumTopic => wire::client_text(&format!(r#"{{"AccessToken":"{token}"}}"#), out),
            // Its token, or its path, has said all.
            Self::Channel | Self::Pulsar => {}
            Self::Echo => {
                let subscribe = format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{name}"}}}}"#);
                wire::client_text(&subscribe, out);
            }
            Self::Wazo => {
                wire::client_text(&format!(r#"{{"op":"subscribe","data":{{"event_name":"{name}"}}}}"#), out);
                wire::client_text(r#"{"op":"start"}"#, out);
            }
        }
    }

    /// Whether subscribers acknowledge what they get, and get it wrapped in what is told of it.
    pub(super) fn acknowledges(self) -> bool {
        self == Self::Pulsar
    }

    /// How many messages of success make a subscriber ready.
    pub(super) fn replies(self) -> u8 {
        match self {
            Self::Channel | Self::Pulsar => 0,
            Self::PersoniumEvent | Self::Echo => 2,
            Self::PersoniumTopic => 1,
            Self::Wazo => 3,
        }
    }

    /// Whether a message before the first event is one of them.
    pub(super) fn is_success(self, payload: &[u8]) -> bool {
        let mark: &[u8] = match self {
            Self::PersoniumEvent => br#""response":"success""#,
            Self::PersoniumTopic => br#""Result":"Success""#,
            Self::Channel | Self::Pulsar => return false,
            Self::Echo if payload.starts_with(br#"{"event":"pusher:connection_established""#) => return true,
            Self::Echo => br#""event":"pusher_internal:subscription_succeeded""#,
            Self::Wazo => br#""code": 0"#,
        };
        payload.windows(mark.len()).any(|window| window == mark)
    }

    /// An event as subscribers get it, of exactly `size` bytes; with `topics`, for one of many topics.
    pub(super) fn event(self, size: usize, topics: bool) -> Result<Template, EventTooSmall> {
        let topic = topics.then_some(0);
        let (head, tail) = match self {
            Self::PersoniumEvent => (
                format!(
                    r#"{{"Type":"t","RequestKey":null,"Schema":"","External":true,"Object":"{}","Info":""#,
                    wire::topic_name(topic)
                ),
                r#"","cellId":"x","Subject":"s"}"#,
            ),
            Self::PersoniumTopic => (r#"{"From":"https://bench.example/","Body":{"Info":""#.into(), r#""}}"#),
            Self::Channel => {
                (r#"{"type":"message","sender":{"name":"System","id":0},"data":{"Info":""#.into(), r#""}}"#)
            }
            Self::Echo => {
                (format!(r#"{{"event":"bench","channel":"{}","data":""#, wire::topic_name(topic)), r#""}"#)
            }
            Self::Pulsar => (durable_head(size), r#""}"#),
            Self::Wazo => (
                format!(
                    r#"{{"name":"{}","required_acl":"events.bench.all.1","data":{{"Info":""#,
                    wire::topic_name(topic)
                ),
                r#""}}"#,
            ),
        };
        Template::new(&head, tail, size)
    }

    /// The event as it is fed, so that subscribers get it with exactly `size` bytes.
    pub(super) fn fed(self, size: usize, topics: bool) -> Result<Template, EventTooSmall> {
        let event = self.event(size, topics)?;
        let name = wire::topic_name(topics.then_some(0));
        match self {
            Self::PersoniumEvent | Self::PersoniumTopic | Self::Pulsar | Self::Wazo => Ok(event),
            Self::Channel => {
                Ok(event.around(&format!(r#"{{"channel":"{name}","data":{{"Info":""#), r#""}}"#))
            }
            Self::Echo => {
                Ok(event.around(&format!(r#"{{"name":"bench","channels":["{name}"],"data":""#), r#""}"#))
            }
        }
    }

    /// The address of the feed's lines, with the number of the topic where the dialect has it there.
    pub(super) fn address(self, place: &EventPlace, topics: bool) -> String {
        match self {
            Self::PersoniumEvent => format!("event/{}", place.cell),
            Self::PersoniumTopic => {
                format!("topic/{}/{}/{}", place.cell, place.folder, stream(topics.then_some(0)))
            }
            Self::Channel => "channel".into(),
            Self::Echo => format!("echo/{APP_ID}"),
            Self::Pulsar => format!("pulsar/{}", durable_topic(&wire::topic_name(topics.then_some(0)))),
            Self::Wazo => "wazo".into(),
        }
    }
}

/// A durable topic as paths have it.
pub(super) fn durable_topic(name: &str) -> String {
    format!("persistent/{CELL}/{BOX}/{name}")
}

/// A durable message with a payload of exactly so many bytes, before its encoding; its key is the number.
pub(super) fn with_payload(bytes: usize) -> Result<Template, EventTooSmall> {
    let (payload, tail) = (STANDARD.encode(vec![b'x'; bytes]), r#""}"#);
    let head = format!(r#"{{"payload":"{payload}","key":""#);
    Template::new(&head, tail, head.len() + wire::SEQUENCE_DIGITS + tail.len())
}

/// What a durable message of so many bytes begins with: its payload; its key is the number. What is left over of a
/// whole number of base64's groups is blank.
fn durable_head(size: usize) -> String {
    let (before, after) = (r#"{"payload":""#, r#""key":""#);
    let around = before.len() + 2 + after.len() + wire::SEQUENCE_DIGITS + 2;
    let room = size.saturating_sub(around);
    let (payload, blank) = ("x".repeat(room / 4 * 4), " ".repeat(room % 4));
    format!("{before}{payload}\",{blank}{after}")
}

fn stream(topic: Option<usize>) -> String {
    format!("stream.topic.{}", wire::topic_name(topic))
}

/// A user's rights: one pattern lets the bench's events through, the others are no other user's.
fn acl(index: usize) -> Vec<String> {
    const RIGHTS: [&str; 6] = [
        "events.users.{}.#",
        "events.calls.{}.*.updated",
        "confd.users.{}.voicemails.read",
        "events.chatd.*.rooms.{}.#",
        "!events.config.{}.#",
        "call-logd.users.{}.cdr.read",
    ];
    let mut acl = vec!["websocketd".to_owned()];
    acl.extend((1..ACL_PATTERNS).map(|n| RIGHTS[n % RIGHTS.len()].replace("{}", &format!("{index:06}-{n}"))));
    acl.push("events.bench.#".into());
    acl
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Speech; 6] = [
        Speech::PersoniumEvent,
        Speech::PersoniumTopic,
        Speech::Channel,
        Speech::Echo,
        Speech::Pulsar,
        Speech::Wazo,
    ];

    #[test]
    fn a_durable_message_has_a_payload_of_exactly_so_many_bytes() {
        for bytes in [0, 1, 256, 10_000] {
            let template = with_payload(bytes).unwrap();
            let mut json = Vec::new();
            template.append(0, 7, &mut json);
            let value: Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(STANDARD.decode(value["payload"].as_str().unwrap()).unwrap().len(), bytes);
            assert_eq!(template.expectation().wrapped().sequence(&json), Some(7));
        }
    }

    #[test]
    fn an_event_has_exactly_the_size_that_was_asked_for_and_is_json() {
        for (speech, size, topics) in ALL.into_iter().flat_map(|speech| {
            [(speech, 128, false), (speech, 128, true), (speech, 200, false), (speech, 70_000, true)]
        }) {
            let template = speech.event(size, topics).unwrap();
            let mut json = Vec::new();
            template.append(42, 7, &mut json);
            assert_eq!(json.len(), size, "{speech:?}");
            let value: Value = serde_json::from_slice(&json).unwrap();
            let info = [
                &value["Info"],
                &value["Body"]["Info"],
                &value["data"]["Info"],
                &value["data"],
                &value["key"],
            ];
            let info: Vec<&str> = info.into_iter().filter_map(Value::as_str).collect();
            assert!(info.len() == 1 && info[0].starts_with("000000000007"), "{speech:?}: {value}");
            assert_eq!(template.expectation().sequence(&json), Some(7));
        }
    }

    #[test]
    fn a_line_names_the_topic_where_the_dialect_has_it() {
        let line = |speech: Speech, topics| {
            let mut line = Vec::new();
            let address = speech.address(&EventPlace::own(), topics);
            speech.fed(150, topics).unwrap().feed_line(&address).append(3, 9, &mut line);
            String::from_utf8(line).unwrap()
        };
        assert!(line(Speech::PersoniumEvent, true).starts_with(r#"event/bench {"Type":"t""#));
        assert!(line(Speech::PersoniumEvent, true).contains(r#""Object":"o000003","Info":"000000000009"#));
        assert!(line(Speech::PersoniumTopic, true).starts_with("topic/bench/box/stream.topic.o000003 {"));
        assert!(line(Speech::PersoniumTopic, false).starts_with("topic/bench/box/stream.topic.o {"));
        assert!(line(Speech::Wazo, true).starts_with(r#"wazo {"name":"o000003","#));
        let fed = line(Speech::Echo, true);
        assert!(
            fed.starts_with(r#"echo/bench {"name":"bench","channels":["o000003"],"data":"000000000009"#),
            "{fed}"
        );
        let padding = |text: &str| text.matches('x').count();
        let mut delivered = Vec::new();
        Speech::Echo.event(150, true).unwrap().append(3, 9, &mut delivered);
        assert_eq!(padding(&fed), padding(std::str::from_utf8(&delivered).unwrap()));
        let fed = line(Speech::Channel, true);
        assert!(fed.starts_with(r#"channel {"channel":"o000003","data":{"Info":"000000000009"#), "{fed}");
        assert!(ALL.into_iter().all(|speech| line(speech, true).ends_with("}\n")));
    }

    #[test]
    fn a_durable_message_is_found_by_its_key_in_what_is_delivered() {
        let mut fed = Vec::new();
        Speech::Pulsar.fed(101, true).unwrap().append(3, 9, &mut fed);
        let fed: Value = serde_json::from_slice(&fed).unwrap();
        let delivered = format!(
            r#"{{"messageId":"CAAQAw==","payload":{},"properties":{{}},"redeliveryCount":0,"key":{}}}"#,
            fed["payload"], fed["key"]
        );
        let expectation = Speech::Pulsar.event(101, true).unwrap().expectation().wrapped();
        assert_eq!(expectation.sequence(delivered.as_bytes()), Some(9));
        assert_eq!(expectation.sequence(b"\"}"), None);
        assert_eq!(wire::message_id(delivered.as_bytes()), Some("CAAQAw=="));
    }

    #[test]
    fn an_event_that_cannot_be_so_small_says_what_the_smallest_is() {
        let error = Speech::PersoniumEvent.event(50, false).unwrap_err();
        assert!(error.to_string().contains("give --size 120"), "{error}");
        assert!(Speech::PersoniumEvent.event(120, false).is_ok());
    }

    #[test]
    fn each_wazo_token_has_rights_of_its_own_and_those_for_the_events() {
        assert_eq!(acl(0).len(), ACL_PATTERNS + 1);
        let common = acl(1).into_iter().filter(|pattern| acl(2).contains(pattern)).collect::<Vec<_>>();
        assert_eq!(common, ["websocketd", "events.bench.#"]);
    }

    #[test]
    fn a_place_is_read_from_a_path() {
        let place = |cell: &str, folder: &str| EventPlace { cell: cell.into(), folder: folder.into() };
        assert_eq!(EventPlace::of_path("/c/__topic/b/x.topic.y"), place("c", "b"));
        assert_eq!(EventPlace::of_path("/c/__event").cell, "c");
        assert_eq!(EventPlace::of_path("/"), place("", ""));
    }

    #[test]
    fn a_dialect_is_known_by_its_name() {
        assert!(ALL.into_iter().all(|speech| speech.name().parse() == Ok(speech)));
        assert!(
            "ecco".parse::<Speech>().unwrap_err().contains("personium-event, personium-topic, channel, echo")
        );
    }
}
