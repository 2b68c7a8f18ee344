//! The table `[personium]` of the configuration.

use super::scope::is_own;
use super::topic::{GLOBS_MAX, is_glob};
use crate::dialect::config_table::{DialectTable, PING_INTERVAL_S};
use crate::setting::LONGEST_MESSAGE_BYTES;
use crate::text::start;
use crate::token::{TokenSettings, Verifier};
use schemars::JsonSchema;
use serde_json::{Map, Value};

/// The dialects personium-event and personium-topic.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PersoniumSettings {
    /// true accepts any token, for reading only, and ignores [personium.token.…]; for closed
    /// networks and trials.
    pub anonymous: bool,
    /// Maximum seconds of a personium-event session on one token; Personium's own limit is an hour.
    /// Sessions of personium-topic last as long as their tokens, or this long if those have no end.
    #[schemars(range(min = 1))]
    pub session_s_max: u32,
    /// Seconds that a connection may stay without an accepted token, or with an expired one.
    /// personium-topic ends such connections with the first ping if that is later.
    pub token_timeout_s: u32,
    /// Seconds between pings. Keep it below the read timeout of every proxy on the way; nginx's is
    /// 60 unless changed.
    #[schemars(range(min = 1))]
    pub ping_interval_s: u32,
    /// Unanswered pings in a row that end a session.
    pub ping_misses_max: u8,
    /// Maximum bytes of a client's message. Beyond that the client is closed with code 1009.
    /// Personium's own is 8,192 characters, which its own tokens can exceed.
    #[schemars(range(max = LONGEST_MESSAGE_BYTES))]
    pub text_bytes_max: usize,
    /// Maximum number of subscriptions of a personium-event session.
    pub subscriptions_max: u32,
    /// The topics that exist, as CELL/BOX/PATH, where * stands for any text without a slash;
    /// without this key, every well-formed one.
    #[schemars(example = &["cell1/box1/*"])]
    pub topics: Option<Vec<String>>,
    /// What verifies tokens.
    #[schemars(extend("x-verifiers" = ["jwt", "introspection", "static"]))]
    pub token: Option<TokenSettings>,
    /// Made from `token` when the daemon starts.
    #[serde(skip)]
    pub verifier: Option<Verifier>,
}

impl Default for PersoniumSettings {
    fn default() -> Self {
        Self {
            token: None,
            anonymous: false,
            session_s_max: 3600,
            token_timeout_s: 60,
            ping_interval_s: PING_INTERVAL_S,
            ping_misses_max: 10,
            text_bytes_max: 64 * 1024,
            subscriptions_max: 1000,
            topics: None,
            verifier: None,
        }
    }
}

impl DialectTable for PersoniumSettings {
    fn name(&self) -> &'static str {
        "personium"
    }

    fn problems(&self, is_spoken: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if is_spoken && self.token.is_none() && !self.anonymous {
            problems.push(
                "[personium]: no token verifier: add token = { jwt = { … } }, { introspection = \
                 { … } } or { static = { … } }, or anonymous = true where everybody may read"
                    .into(),
            );
        }
        problems.extend(self.token.as_ref().and_then(|token| {
            token.problem(
                "personium",
                &[("wazo_auth", "wazo_auth knows no cells: use introspection")],
            )
        }));

        // Each glob is tried for each token, so the list is bounded like a token's.
        let globs = self.topics.as_deref().unwrap_or_default();
        if globs.len() > GLOBS_MAX {
            problems.push(format!(
                "[personium] topics: more than {GLOBS_MAX}; combine them with a *, as in \
                 \"cell1/box1/*\""
            ));
        }
        if let Some(glob) = globs.iter().find(|glob| !is_glob(glob)) {
            problems.push(format!(
                "[personium] topics: {:?} matches no topic: write CELL/BOX/PATH, where * stands \
                 for any text without a slash",
                start(glob, 64)
            ));
        }
        problems
    }

    fn token(&mut self) -> Option<(Option<&TokenSettings>, &mut Option<Verifier>)> {
        Some((self.token.as_ref(), &mut self.verifier))
    }

    fn decisive_claims(&self) -> &'static [&'static str] {
        &[
            "aud",
            "iss",
            "scope",
            "topics",
            "event_types",
            "event_objects",
            "sub",
            "schema",
            "azp",
            "client_id",
            "cell_id",
        ]
    }

    fn usual_scope(&self) -> Option<&'static str> {
        Some("event-read")
    }

    fn review(&self, claims: &Map<String, Value>) -> Result<Option<&'static str>, String> {
        let scope = claims.get("scope").and_then(Value::as_str).unwrap_or_default();
        // Tokens with these have to name their cell.
        let is_for_a_cell = scope.split(' ').any(is_own);
        let is_named = claims.contains_key("aud") || claims.contains_key("iss");
        Ok((is_for_a_cell && !is_named).then_some(
            "the token names no cell, and Personium's protocols ask for one; see --cell",
        ))
    }

    fn longest_messages(&self) -> Vec<(&'static str, usize)> {
        vec![("personium.text_bytes_max", self.text_bytes_max)]
    }
}
