//! The table `[channel]` of the configuration, with `[channel.shape]` and `[channel.callback]`.

use crate::dialect::broker::{RedisChannels, RedisSource, RedisUse};
use crate::dialect::config_table::DialectTable;
use crate::service::webhook::CallbackSettings;
use crate::setting::LONGEST_MESSAGE_BYTES;
use crate::token::{TokenSettings, Verifier};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Longest channel name that may be configured: the longest subscription, less its delimiters.
pub const CHANNEL_BYTES_MAX: usize = 4000;

/// Longest message of a client that is relayed. Another daemon gets it with the channel's and the
/// sender's name, and these fit into the rest of the longest message that a feed takes.
const RELAYED_BYTES_MAX: usize = 1024 * 1024 - 128 * 1024;

/// The dialect channel: what pages of a Laravel application speak.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelSettings {
    /// true ends a session when its token expires; false checks the token only once, as the
    /// original does.
    pub close_on_expiry: bool,
    /// The kinds of channels, the part of the name before the colon, where target_user_id sends a
    /// message to one user.
    pub targeted: Vec<String>,
    /// The keys of a message's data that are passed on, in this order, for each kind of channel; a
    /// kind that is not listed passes everything. This replaces the whole default.
    pub shape: BTreeMap<String, Vec<String>>,
    /// Relays what clients say to other daemons, so that several can serve one application:
    /// "cluster" to those of its cluster, "redis" to those at the Redis of [feed.redis], whose user
    /// then needs +publish too. Turning "redis" on needs a restart.
    pub relay: Relay,
    /// The pages that may connect, as in "https://app.example"; empty means any. A client that is
    /// not a page sends no origin, and may connect.
    #[allow(rustdoc::bare_urls)] // The sample has this text.
    pub origins: Vec<String>,
    /// Seconds between pings, counted from the last message of the client; 0 sends none.
    pub ping_interval_s: u32,
    /// Unanswered pings in a row that end a session, with code 1001.
    pub ping_misses_max: u8,
    /// Maximum bytes of a client's message. Beyond that the client is closed with code 1009.
    #[schemars(range(max = LONGEST_MESSAGE_BYTES))]
    pub message_bytes_max: usize,
    /// Maximum bytes of a channel's name in a token.
    #[schemars(range(min = 1, max = CHANNEL_BYTES_MAX))]
    pub channel_bytes_max: usize,
    /// A URL to which the messages of clients are posted as well, each with the token of its
    /// client. No client waits for it. Messages of sessions older than this table are not posted.
    pub callback: Option<CallbackSettings>,
    /// What verifies tokens: the claim channel names the one channel of a connection, id and name
    /// its user. Here exp may be missing. The secret is the application's own, as it is: no base64.
    /// It is hardly that of another dialect, so give it a file of its own, like
    /// /etc/fanfare/channel.secret. A short one is accepted, with a warning. Without algorithms it
    /// is HS256.
    #[serde(deserialize_with = "token")]
    #[schemars(extend("x-verifiers" = ["jwt", "static"]))]
    pub token: Option<TokenSettings>,
    /// Made from `token` when the daemon starts.
    #[serde(skip)]
    pub verifier: Option<Verifier>,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let shape =
            [("chat", &["message", "name"][..]), ("tweet", &["tweet"]), ("progress", &["info"])];
        Self {
            token: None,
            close_on_expiry: true,
            targeted: keys(&["chat"]),
            relay: Relay::None,
            origins: vec![],
            ping_interval_s: 25,
            ping_misses_max: 2,
            message_bytes_max: 64 * 1024,
            channel_bytes_max: 255,
            shape: shape.into_iter().map(|(kind, list)| (kind.to_owned(), keys(list))).collect(),
            callback: None,
            verifier: None,
        }
    }
}

impl DialectTable for ChannelSettings {
    fn name(&self) -> &'static str {
        "channel"
    }

    fn problems(&self, is_spoken: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if is_spoken && self.token.is_none() {
            problems.push(
                "[channel]: no token verifier: add token = { jwt = { secret_file = … } } or { \
                 static = { … } }"
                    .into(),
            );
        }
        // The other verifiers answer with claims of their own, none of which is "channel".
        let unfit = "it is the token that names the channel: use jwt with the application's \
                     secret, or static";
        let unfit = [("introspection", unfit), ("wazo_auth", unfit)];
        problems.extend(self.token.as_ref().and_then(|token| token.problem("channel", &unfit)));

        if self.ping_interval_s > 0 && self.ping_misses_max == 0 {
            problems.push(
                "[channel]: ping_misses_max = 0 closes every client: set at least 1, or \
                 ping_interval_s = 0"
                    .into(),
            );
        }

        // Compared as bytes: a browser sends scheme, host and port, never a slash.
        if let Some(origin) = self.origins.iter().find(|origin| origin.ends_with('/')) {
            problems.push(format!(
                "[channel] origins: {origin:?} ends with a slash, and browsers send none"
            ));
        }
        if self.relay != Relay::None && self.message_bytes_max > RELAYED_BYTES_MAX {
            problems.push(format!(
                "channel.message_bytes_max = {}: with a relay at most {RELAYED_BYTES_MAX}, or \
                 other daemons refuse long messages",
                self.message_bytes_max
            ));
        }

        let callback = self.callback.iter().flat_map(CallbackSettings::problems);
        problems.extend(callback.map(|problem| format!("[channel.callback] {problem}")));
        problems
    }

    fn token(&mut self) -> Option<(Option<&TokenSettings>, &mut Option<Verifier>)> {
        Some((self.token.as_ref(), &mut self.verifier))
    }

    fn decisive_claims(&self) -> &'static [&'static str] {
        &["channel", "id", "name"]
    }

    fn claims(&self) -> &'static [&'static str] {
        &["channel"]
    }

    fn takes_short_secrets(&self) -> bool {
        true
    }

    fn longest_messages(&self) -> Vec<(&'static str, usize)> {
        vec![("channel.message_bytes_max", self.message_bytes_max)]
    }

    fn outbox_problems(&self, outbox_bytes_max: usize) -> Vec<String> {
        let value = self.message_bytes_max;
        let problem = (outbox_bytes_max < value).then(|| {
            format!(
                "limits.outbox_bytes_max ({outbox_bytes_max}) is less than \
                 channel.message_bytes_max ({value}): one event could close every client; raise \
                 it, or lower the other"
            )
        });
        problem.into_iter().collect()
    }

    fn redis(&self) -> Option<RedisUse> {
        let channels = RedisChannels::Named("broadcast");
        let is_relayed = self.relay == Relay::Redis;
        Some(RedisUse {
            feeds: "channel",
            source: Some(RedisSource { address: "channel".into(), channels }),
            needed_by: is_relayed.then_some("channel.relay = \"redis\""),
            relay: is_relayed.then_some("channel.relay"),
        })
    }

    fn needs_cluster(&self) -> Option<&'static str> {
        (self.relay == Relay::Cluster).then_some("channel.relay = \"cluster\"")
    }

    fn common(&self) -> Value {
        let mut targeted = self.targeted.clone();
        targeted.sort();
        json!({ "targeted": targeted, "shape": self.shape, "relay": self.relay == Relay::Cluster })
    }

    fn describe(&self) -> Vec<(&'static str, String)> {
        let told = self.callback.as_ref().and_then(|callback| {
            let (endpoint, kinds) = (callback.url.endpoint().ok()?, callback.kinds.join(", "));
            let host = endpoint.host();
            Some(("tells", format!("channel: {host}, what clients say in {kinds}")))
        });
        told.into_iter().collect()
    }
}

impl ChannelSettings {
    /// Whether the callback wants the messages of this channel.
    pub(super) fn calls_back(&self, channel: &str) -> bool {
        self.callback.as_ref().is_some_and(|callback| callback.wants(channel))
    }

    /// Whether a page of this origin may connect. Clients other than pages send none, and could
    /// forge any.
    pub(super) fn lets_in(&self, origin: Option<&[u8]>) -> bool {
        let Some(origin) = origin.filter(|_| !self.origins.is_empty()) else { return true };
        self.origins.iter().any(|allowed| allowed.as_bytes() == origin)
    }
}

/// Where else clients' messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Relay {
    /// Nowhere.
    None,
    /// To the daemons that listen to the same Redis.
    Redis,
    /// To the other daemons of the cluster.
    Cluster,
}

/// The algorithm is optional.
fn token<'de, D: Deserializer<'de>>(from: D) -> Result<Option<TokenSettings>, D::Error> {
    TokenSettings::deserialize(from).map(|token| Some(token.or_hs256()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        toml::from_str::<ChannelSettings>(text).unwrap().problems(true).join("\n")
    }

    #[test]
    fn what_cannot_run_is_told_with_what_to_do() {
        let good = "token = { jwt = { secret = 'short' } }\n";
        assert_eq!(problems(good), "");
        assert_eq!(
            toml::from_str::<ChannelSettings>("").unwrap().problems(false),
            Vec::<String>::new()
        );
        for (text, about) in [
            ("", "no token verifier"),
            ("token = { introspection = { url = 'https://x' } }", "use jwt"),
            ("token = { wazo_auth = { url = 'https://x' } }", "use jwt"),
            ("token = { jwt = {} }", "0 of secret, secret_file"),
            (&format!("{good}ping_misses_max = 0"), "ping_misses_max = 0"),
            (&format!("{good}origins = ['https://a.example/']"), "ends with a slash"),
            (
                &format!("{good}callback = {{ url = 'ftp://x' }}"),
                "[channel.callback] url begins with neither",
            ),
            (&format!("{good}callback = {{ url = '/api/chat' }}"), "[channel.callback] url"),
            (
                &format!("{good}callback = {{ url = 'http://u:hunter2@x/' }}"),
                "has credentials in it",
            ),
        ] {
            let problems = problems(text);
            assert!(
                problems.contains(about) && problems.lines().count() == 1,
                "{text}: {problems}"
            );
            assert!(!problems.contains("hunter2"), "{problems}");
        }
        assert_eq!(problems(&format!("{good}ping_misses_max = 0\nping_interval_s = 0")), "");
    }

    #[test]
    fn nobody_comes_in_without_a_token_and_no_token_without_a_signature() {
        for text in
            ["anonymous = true", "token = { jwt = { algorithms = ['none'], secret = 'x' } }"]
        {
            assert!(toml::from_str::<ChannelSettings>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_table_of_shapes_replaces_the_usual_one() {
        let usual = ChannelSettings::default();
        assert_eq!(usual.shape["chat"], ["message", "name"]);
        assert_eq!(
            (&usual.shape["tweet"][..], &usual.shape["progress"][..]),
            (&["tweet".into()][..], &["info".into()][..])
        );
        let other: ChannelSettings = toml::from_str("shape = { chat = ['text'] }").unwrap();
        assert_eq!((other.shape.len(), &other.shape["chat"][..]), (1, &["text".to_owned()][..]));
        assert!(toml::from_str::<ChannelSettings>("shape = {}").unwrap().shape.is_empty());
    }
}
