//! The table `[wazo]` of the configuration.

use crate::dialect::config_table::{DialectTable, PING_INTERVAL_S};
use crate::setting::LONGEST_MESSAGE_BYTES;
use crate::token::{TokenSettings, Verifier};
use schemars::JsonSchema;

/// The dialect wazo.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WazoSettings {
    /// true lets any token see every event of every tenant; for closed networks and trials.
    pub anonymous: bool,
    /// The tenant whose tokens get the events of all tenants.
    #[schemars(example = &"00000000-0000-4000-8000-000000000000")]
    pub master_tenant_uuid: Option<String>,
    /// Seconds between pings. Keep it below the read timeout of every proxy on the way.
    #[schemars(range(min = 1))]
    pub ping_interval_s: u32,
    /// Unanswered pings in a row that end a session, with code 1011.
    pub ping_misses_max: u8,
    /// Maximum bytes of a client's message. Beyond that the client is closed with code 1009.
    #[schemars(range(max = LONGEST_MESSAGE_BYTES))]
    pub message_bytes_max: usize,
    /// Maximum number of event names that a session subscribes to; Wazo has some three hundred. One
    /// more closes it with code 4004.
    pub subscriptions_max: u32,
    /// What verifies tokens. The claim acl is the list of access patterns; "websocketd" must be
    /// among what they allow.
    #[schemars(extend("x-verifiers" = ["jwt", "wazo_auth", "static"]))]
    pub token: Option<TokenSettings>,
    /// Made from `token` when the daemon starts.
    #[serde(skip)]
    pub verifier: Option<Verifier>,
}

impl Default for WazoSettings {
    fn default() -> Self {
        Self {
            token: None,
            anonymous: false,
            master_tenant_uuid: None,
            ping_interval_s: PING_INTERVAL_S,
            ping_misses_max: 2,
            message_bytes_max: 1024 * 1024,
            subscriptions_max: 1000,
            verifier: None,
        }
    }
}

impl DialectTable for WazoSettings {
    fn name(&self) -> &'static str {
        "wazo"
    }

    fn problems(&self, is_spoken: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if is_spoken && self.token.is_none() && !self.anonymous {
            problems.push(
                "[wazo]: no token verifier: add token = { wazo_auth = { … } }, { jwt = { … } } \
                 or { static = { … } }, or anonymous = true where everybody may see every event"
                    .into(),
            );
        }
        problems.extend(self.token.as_ref().and_then(|token| {
            token.problem(
                "wazo",
                &[("introspection", "introspection tells no access list: use wazo_auth")],
            )
        }));
        problems
    }

    fn token(&mut self) -> Option<(Option<&TokenSettings>, &mut Option<Verifier>)> {
        Some((self.token.as_ref(), &mut self.verifier))
    }

    fn decisive_claims(&self) -> &'static [&'static str] {
        &["acl", "sub", "tenant_uuid", "session_uuid", "admin", "purpose"]
    }

    fn claims(&self) -> &'static [&'static str] {
        &["acl"]
    }

    fn longest_messages(&self) -> Vec<(&'static str, usize)> {
        vec![("wazo.message_bytes_max", self.message_bytes_max)]
    }
}
