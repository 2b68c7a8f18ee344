//! The table `[pulsar]` of the configuration.

use crate::dialect::config_table::DialectTable;
use crate::service::topic::{GLOBS_MAX, TopicDomain, TopicName, TopicRules, is_glob};
use crate::token::{TokenSettings, Verifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The claims that restrict a grant: lists of globs of `TENANT/NAMESPACE/TOPIC`.
pub const CLAIMS: [&str; 3] = ["pulsar_produce", "pulsar_consume", "pulsar_read"];

/// Most partitioned topics that may be configured; each is compared when a topic is opened.
const PARTITIONED_MAX: usize = 10_000;
/// Most partitions of a topic: each is a topic of its own, and a consumer may ask for all of them.
const PARTITIONS_MAX: u32 = 1024;

/// The dialect pulsar: the WebSocket API of Pulsar, with topics that are stored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PulsarSettings {
    /// true lets any client produce and consume, as Pulsar does by default; for closed networks and
    /// trials.
    pub anonymous: bool,
    /// The rights of tokens without any of the claims pulsar_produce, pulsar_consume and
    /// pulsar_read: "all" or "none".
    pub default_rights: DefaultRights,
    /// Seconds before the end of its token at which a client is asked for the next one by an
    /// AUTH_CHALLENGE; 0 asks for none, as most clients take the question for a message. The proxy
    /// of the original has it off as well.
    pub auth_challenge_s: u32,
    /// Seconds between pings; 0 sends none.
    pub ping_interval_s: u32,
    /// Unanswered pings, of a client that sends nothing else, that end its session with code 1001.
    /// Until then, a client whose network has died keeps its successor from its subscription; a
    /// client that works on a message for minutes without reading needs more.
    pub ping_misses_max: u8,
    /// Seconds without a message, ping or pong after which a session ends with code 1001; 0 means
    /// never.
    pub idle_timeout_s: u32,
    /// Seconds for which messages are retained that no subscription waits for.
    pub retention_s: u64,
    /// Maximum bytes of such messages for each topic.
    pub retention_bytes: u64,
    /// Seconds after which messages that wait for consumers are given up; 0 means never.
    pub message_ttl_s: u64,
    /// Maximum bytes that wait for the slowest subscription of a topic; 0 means no limit.
    pub backlog_quota_bytes: u64,
    /// What happens then: "producer_exception" refuses what producers send,
    /// "consumer_backlog_eviction" drops the oldest that waits.
    pub backlog_quota_policy: BacklogPolicy,
    /// Maximum number of messages of a subscription that are unacknowledged, or wait for
    /// redelivery.
    #[schemars(range(min = 1))]
    pub unacked_max: usize,
    /// Seconds after which a topic without messages (see retention_s), subscriptions and
    /// connections is deleted; 0 means never.
    pub idle_delete_s: u64,
    /// Seconds without a consumer after which a subscription is deleted, with what waits in it; 0
    /// means never.
    pub subscription_expiry_s: u64,
    /// Maximum number of topics; each partition is one.
    #[schemars(range(min = 1))]
    pub topics_max: usize,
    /// Maximum number of topics that one request creates, besides partitions of those below: a
    /// consumer may name thousands in one URL.
    #[schemars(range(min = 1))]
    pub new_topics_max: usize,
    /// Topics with partitions; all others have none.
    #[schemars(example = &json!([{ "topic": "persistent://public/default/orders", "partitions": 4 }]))]
    pub partitioned: Vec<Partitioned>,
    /// true lets the daemon speak pulsar beside [cluster]. Durable topics are each node's own:
    /// what is produced on one node is consumed on that node only, so the clients of a topic must
    /// all connect to the same one.
    #[allow(rustdoc::broken_intra_doc_links)]
    // The sample has this text, where brackets are those of TOML.
    pub local: bool,
    /// What verifies tokens. Their claims pulsar_produce, pulsar_consume and pulsar_read are lists
    /// of globs of TENANT/NAMESPACE/TOPIC.
    #[schemars(extend("x-verifiers" = ["jwt", "introspection", "static"]))]
    pub token: Option<TokenSettings>,
    /// Made from `token` when the daemon starts.
    #[serde(skip)]
    pub verifier: Option<Verifier>,
}

/// What a token without claims of the dialect grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefaultRights {
    /// Everything with all topics.
    #[default]
    All,
    /// Nothing.
    None,
}

/// What happens when too much waits for a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BacklogPolicy {
    /// Producers are refused.
    ProducerException,
    /// The subscription loses its oldest messages.
    ConsumerBacklogEviction,
}

/// One `[[pulsar.partitioned]]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Partitioned {
    /// The topic's full name.
    pub topic: String,
    /// How many partitions it has.
    #[schemars(range(min = 1, max = PARTITIONS_MAX))]
    pub partitions: u32,
}

impl Default for PulsarSettings {
    fn default() -> Self {
        let rules = TopicRules::default();
        Self {
            token: None,
            anonymous: false,
            default_rights: DefaultRights::All,
            auth_challenge_s: 0,
            ping_interval_s: 30,
            ping_misses_max: 2,
            idle_timeout_s: 300,
            retention_s: rules.retention_s,
            retention_bytes: rules.retention_bytes,
            message_ttl_s: rules.message_ttl_s,
            backlog_quota_bytes: rules.backlog_quota_bytes,
            backlog_quota_policy: BacklogPolicy::ProducerException,
            unacked_max: rules.unacked_max,
            idle_delete_s: rules.idle_delete_s,
            subscription_expiry_s: rules.subscription_expiry_s,
            topics_max: rules.topics_max,
            new_topics_max: rules.new_topics_max,
            partitioned: Vec::new(),
            local: false,
            verifier: None,
        }
    }
}

impl DialectTable for PulsarSettings {
    fn name(&self) -> &'static str {
        "pulsar"
    }

    fn problems(&self, is_spoken: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if is_spoken && self.token.is_none() && !self.anonymous {
            problems.push(
                "[pulsar]: no token verifier: add token = { jwt = { … } }, { introspection = { … \
                 } } or { static = { … } }, or anonymous = true where everybody may produce and \
                 consume"
                    .into(),
            );
        }
        problems.extend(self.token.as_ref().and_then(|token| {
            token
                .problem("pulsar", &[("wazo_auth", "wazo_auth knows no topics: use introspection")])
        }));

        // Pongs are the only traffic of a quiet consumer.
        if self.idle_timeout_s > 0 && self.ping_interval_s >= self.idle_timeout_s {
            problems.push(format!(
                "[pulsar]: ping_interval_s = {} is no less than idle_timeout_s = {}, so quiet \
                 consumers would be closed; lower the first, or raise the other",
                self.ping_interval_s, self.idle_timeout_s
            ));
        }
        if self.ping_interval_s > 0 && self.ping_misses_max == 0 {
            problems.push(
                "[pulsar]: ping_misses_max = 0 closes every client: set at least 1, or \
                 ping_interval_s = 0"
                    .into(),
            );
        }
        problems.extend(self.partitioned_problems());
        problems
    }

    fn token(&mut self) -> Option<(Option<&TokenSettings>, &mut Option<Verifier>)> {
        Some((self.token.as_ref(), &mut self.verifier))
    }

    fn decisive_claims(&self) -> &'static [&'static str] {
        &CLAIMS
    }

    fn claims(&self) -> &'static [&'static str] {
        &CLAIMS
    }

    fn review(&self, claims: &Map<String, Value>) -> Result<Option<&'static str>, String> {
        // Found when a token is made: sessions only see that it grants nothing.
        for globs in CLAIMS.iter().filter_map(|claim| claims.get(*claim)?.as_array()) {
            if globs.len() > GLOBS_MAX {
                return Err(format!(
                    "a token opens nothing with more than {GLOBS_MAX} globs: name a namespace, \
                     such as 'acme/orders/*'"
                ));
            }
            let mut globs = globs.iter().filter_map(Value::as_str);
            if let Some(bad) = globs.find(|glob| !is_glob(glob)) {
                return Err(format!(
                    "{bad:?} names no topic of Pulsar: write TENANT/NAMESPACE/TOPIC, such as \
                     'acme/orders/*', without persistent://"
                ));
            }
        }
        Ok(None)
    }

    fn cluster_problem(&self) -> Option<String> {
        (!self.local).then(|| {
            "[pulsar] and [cluster]: durable topics are each node's own, and a consumer gets only \
             what is produced on its node: where all clients of a topic connect to the same node, \
             set pulsar.local = true; else speak pulsar on a daemon without [cluster]"
                .into()
        })
    }

    fn common(&self) -> Value {
        let mut partitioned: Vec<(&str, u32)> =
            self.partitioned.iter().map(|entry| (entry.topic.as_str(), entry.partitions)).collect();
        partitioned.sort_unstable();
        json!({
            "retention": [self.retention_s, self.retention_bytes],
            "message_ttl_s": self.message_ttl_s,
            "backlog_quota": [json!(self.backlog_quota_bytes), json!(self.backlog_quota_policy)],
            "unacked_max": self.unacked_max,
            "delete_s": [self.idle_delete_s, self.subscription_expiry_s],
            "topics_max": [self.topics_max, self.new_topics_max],
            "partitioned": partitioned,
        })
    }

    fn topic_rules(&self) -> Option<TopicRules> {
        Some(self.rules())
    }
}

impl PulsarSettings {
    /// The rules of topics.
    #[must_use]
    pub fn rules(&self) -> TopicRules {
        // Names that cannot be read are reported by `problems`.
        let partitioned = self
            .partitioned
            .iter()
            .filter_map(|entry| Some((TopicName::read(&entry.topic).ok()?, entry.partitions)));
        TopicRules {
            retention_s: self.retention_s,
            retention_bytes: self.retention_bytes,
            message_ttl_s: self.message_ttl_s,
            backlog_quota_bytes: self.backlog_quota_bytes,
            backlog_eviction: self.backlog_quota_policy == BacklogPolicy::ConsumerBacklogEviction,
            idle_delete_s: self.idle_delete_s,
            subscription_expiry_s: self.subscription_expiry_s,
            topics_max: self.topics_max,
            new_topics_max: self.new_topics_max,
            unacked_max: self.unacked_max,
            partitioned: partitioned.collect(),
            ..TopicRules::default()
        }
    }

    fn partitioned_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.partitioned.len() > PARTITIONED_MAX {
            problems
                .push(format!("[[pulsar.partitioned]]: more than {PARTITIONED_MAX}; remove some"));
        }

        let mut names = std::collections::BTreeSet::new();
        for Partitioned { topic, .. } in &self.partitioned {
            let problem = match TopicName::read(topic) {
                Err(error) => Some(error.to_string()),
                Ok(name) if name.domain() == TopicDomain::NonPersistent => {
                    Some("only persistent topics have partitions".into())
                }
                Ok(name) if name.partition_number().is_some() => {
                    Some("it is a partition itself".into())
                }
                Ok(_) if !names.insert(topic) => Some("it is listed twice; remove one".into()),
                Ok(_) => None,
            };
            problems.extend(
                problem.map(|problem| format!("[[pulsar.partitioned]] {topic:?}: {problem}")),
            );
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        toml::from_str::<PulsarSettings>(text).unwrap().problems(true).join("\n")
    }

    #[test]
    fn what_cannot_run_is_told_with_what_to_do() {
        let good = "anonymous = true\n";
        assert_eq!(problems(good), "");
        assert_eq!(
            toml::from_str::<PulsarSettings>("").unwrap().problems(false),
            Vec::<String>::new()
        );
        for (text, about) in [
            ("", "no token verifier"),
            ("token = { wazo_auth = { url = 'https://x' } }", "wazo_auth knows no topics"),
            ("token = { jwt = {} }", "[pulsar] token: algorithms is missing"),
            (&format!("{good}idle_timeout_s = 30"), "ping_interval_s = 30"),
            (&format!("{good}ping_misses_max = 0"), "ping_misses_max = 0"),
            (
                &format!("{good}partitioned = [{{ topic = 'x', partitions = 2 }}]"),
                "write persistent://",
            ),
            (
                &format!(
                    "{good}partitioned = [{{ topic = 'non-persistent://a/b/c', partitions = 2 }}]"
                ),
                "only persistent",
            ),
            (
                &format!(
                    "{good}partitioned = [{{ topic = 'persistent://a/b/c-partition-0', partitions = 2 }}]"
                ),
                "a partition itself",
            ),
        ] {
            let problems = problems(text);
            assert!(
                problems.contains(about) && problems.lines().count() == 1,
                "{text}: {problems}"
            );
        }
        assert!(toml::from_str::<PulsarSettings>("backlog_quota_policy = 'x'").is_err());
        assert!(toml::from_str::<PulsarSettings>("default_rights = 'some'").is_err());
    }

    #[test]
    fn rules_are_what_the_settings_say() {
        let settings: PulsarSettings = toml::from_str(
            "retention_s = 1\nretention_bytes = 2\nmessage_ttl_s = 3\nbacklog_quota_bytes = 4\nunacked_max = 5\n\
             topics_max = 6\nidle_delete_s = 7\nsubscription_expiry_s = 8\nbacklog_quota_policy = 'consumer_backlog_eviction'\n\
             partitioned = [{ topic = 'persistent://a/b/c', partitions = 2 }]",
        )
        .unwrap();
        let rules = settings.rules();
        assert_eq!((rules.retention_s, rules.retention_bytes, rules.message_ttl_s), (1, 2, 3));
        assert_eq!((rules.backlog_quota_bytes, rules.unacked_max, rules.topics_max), (4, 5, 6));
        assert_eq!((rules.idle_delete_s, rules.subscription_expiry_s), (7, 8));
        assert!(rules.backlog_eviction && !PulsarSettings::default().rules().backlog_eviction);
        assert_eq!(rules.partitioned, [(TopicName::read("persistent://a/b/c").unwrap(), 2)]);
    }
}
