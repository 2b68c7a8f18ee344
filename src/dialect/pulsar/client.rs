//! The client's end of Pulsar's WebSocket API, for `subscribe`, `bench` and the tests: a consumer
//! or reader gets messages at once and acknowledges each; a producer sends messages, each of which
//! is answered.

use crate::dialect::client::{
    ClientExample, ClientProfile, ClientStage, DialectClient, DurableProducer, NUMBER_DIGITS,
    Sample, SetupFiles, Site, Subscriber, TokenPlace, TrialPlace, token_setup,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;

/// A consumer or reader.
pub(super) struct PulsarClient;

/// The end of a message whose key is its number.
const TAIL: &str = r#""}"#;

/// The part of a message that its acknowledgement repeats.
#[derive(Deserialize)]
struct Delivered<'a> {
    #[serde(borrow, rename = "messageId")]
    id: Cow<'a, str>,
}

impl DialectClient for PulsarClient {
    fn profile(&self) -> ClientProfile {
        ClientProfile { owns: is_listener, ..ClientProfile::new("Pulsar", TokenPlace::Query) }
    }

    fn acknowledgement(&self, event: &str) -> Option<String> {
        // The daemon writes the id first, and without escapes; a generator reads large numbers of
        // them.
        let first = event.strip_prefix(r#"{"messageId":""#).and_then(|rest| rest.split_once('"'));
        match first {
            Some((id, _)) if !id.contains('\\') => Some(format!(r#"{{"messageId":"{id}"}}"#)),
            _ => {
                let Delivered { id } = serde_json::from_str(event).ok()?;
                Some(json!({ "messageId": id }).to_string())
            }
        }
    }

    fn meaning(&self, code: u16, _: ClientStage) -> Option<&'static str> {
        Some(match code {
            4002 => {
                "the subscription is not available: another consumer has it, or the daemon's log \
                 says more"
            }
            4003 => "a message that we sent could not be parsed; see --send",
            4005 => {
                "no token was given, or it is expired or signed with another secret; use \
                 --token-file or FANFARE_TOKEN"
            }
            4006 => "the token does not let its bearer consume from this topic",
            _ => return None,
        })
    }

    fn example(&self) -> ClientExample {
        ClientExample {
            path: "/ws/v2/consumer/persistent/public/default/demo/my-sub",
            claims: json!({ "sub": "demo" }),
            options: "",
            place: "pulsar/persistent/public/default/demo",
            event: r#"{"payload":"SGVsbG8gV29ybGQ=","properties":{"key1":"value1"}}"#,
        }
    }

    /// What to paste into producers and consumers.
    fn welcome(&self, trial: &TrialPlace<'_>) -> String {
        let ClientExample { path, place, event, .. } = self.example();
        let TrialPlace { address, program, socket, token, .. } = trial;
        let over_tls = trial.over_tls.unwrap_or_default();
        let topic = place.trim_start_matches("pulsar/persistent/");
        let producer = format!("/ws/v2/producer/persistent/{topic}");
        format!(
            "\npulsar\n  producer   ws://{address}{producer}?token={token}\n\
             \n  consumer   ws://{address}{path}?token={token}\n\
             \n  url        ws://{address}{path}\n  with TLS   wss://{over_tls}{path}\n\
             \x20 token      {token}\n\
             \n  follow it  {program} subscribe ws://{address}{path} --token {token}\n\
             \n  publish    {program} publish{socket} {place} '{event}'\n\
             \n  look at it {program} topics list\n"
        )
    }

    fn setup(&self, files: &SetupFiles) -> Vec<String> {
        let store = "# Where the messages of durable topics are kept.\n\
                     [store]\npath = \"/var/lib/fanfare/store\"\n";
        vec![token_setup("pulsar", files), store.to_owned()]
    }

    fn table(&self, _: &str) -> String {
        "[pulsar]\nanonymous = true".into()
    }

    fn path(&self, Subscriber { site, topic, index, .. }: &Subscriber<'_>) -> String {
        format!("/ws/v2/consumer/{}/subscription-{index:06}", durable_topic(site, topic))
    }

    fn sample(&self, site: &Site, topic: &str, size: usize) -> Sample {
        let address = format!("pulsar/{}", durable_topic(site, topic));
        Sample { is_wrapped: true, ..Sample::unchanged(address, durable_head(size), TAIL) }
    }

    fn stores(&self) -> bool {
        true
    }

    fn producer(&self, site: &Site, topic: &str) -> Option<DurableProducer> {
        Some(DurableProducer {
            path: format!("/ws/v2/producer/{}", durable_topic(site, topic)),
            message: |payload| format!(r#"{{"payload":"{}"}}"#, STANDARD.encode(payload)),
            numbered: |payload| {
                (format!(r#"{{"payload":"{}","key":""#, STANDARD.encode(payload)), TAIL)
            },
            stored: r#"{"result":"ok""#,
        })
    }
}

/// Whether a path is a consumer's or a reader's.
fn is_listener(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/ws/") else { return false };
    let rest = rest.strip_prefix("v2/").or_else(|| rest.strip_prefix("v3/")).unwrap_or(rest);
    ["consumer/", "reader/"].iter().any(|role| rest.starts_with(role))
}

/// A durable topic as paths write it.
fn durable_topic(site: &Site, name: &str) -> String {
    format!("persistent/{}/{}/{name}", site.cell, site.folder)
}

/// The beginning of a message with this many bytes: its payload; its key is the number. The
/// remainder of base64's groups is blank.
fn durable_head(size: usize) -> String {
    let (before, after) = (r#"{"payload":""#, r#""key":""#);
    let around = before.len() + 2 + after.len() + NUMBER_DIGITS + 2;
    let room = size.saturating_sub(around);
    let (payload, blank) = ("x".repeat(room / 4 * 4), " ".repeat(room % 4));
    format!("{before}{payload}\",{blank}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::client::{ClientHeard, ClientTalk, ClientWish};

    #[test]
    fn every_message_is_acknowledged_by_its_id() {
        let mut talk = ClientTalk::new(&PulsarClient, ClientWish::default());
        assert!(talk.open().is_empty());
        let message = r#"{"messageId":"CAAQAw==","payload":"","properties":{}}"#;
        assert_eq!(talk.hear(message).0, ClientHeard::Event);
        assert_eq!(PulsarClient.acknowledgement(message).unwrap(), r#"{"messageId":"CAAQAw=="}"#);
        assert_eq!(PulsarClient.acknowledgement(r#"{"endOfTopic":false}"#), None);
        assert!(talk.meaning(4005).contains("token") && talk.meaning(1001).contains("stopping"));
    }

    #[test]
    fn consumers_and_readers_are_told_by_their_paths() {
        for path in [
            "/ws/consumer/persistent/p/c/n/t/s",
            "/ws/v2/reader/persistent/t/n/x",
            "/ws/v3/consumer/s",
        ] {
            assert!(is_listener(path), "{path}");
        }
        for path in ["/ws/v2/producer/persistent/t/n/x", "/ws/", "/x/ws/v2/reader/persistent/t/n/x"]
        {
            assert!(!is_listener(path), "{path}");
        }
    }
}
