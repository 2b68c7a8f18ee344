//! Shared by the clients' ends of both dialects: how an answer is read, and the claims of a token.

use crate::dialect::client::{ClientHeard, ClientStage, Subscriber, claims};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json as value};

/// The keys that distinguish answers from events, in every spelling of both Personium dialects.
#[derive(Deserialize)]
pub(super) struct AnswerKeys {
    /// Events have a type.
    #[serde(rename = "Type")]
    event_type: Option<IgnoredAny>,
    /// Data of a topic have a sender.
    #[serde(rename = "From")]
    pub(super) from: Option<IgnoredAny>,
    #[serde(alias = "Response")]
    response: Option<String>,
    #[serde(alias = "Result")]
    result: Option<String>,
    #[serde(alias = "Reason")]
    reason: Option<String>,
    #[serde(alias = "AccessToken")]
    access_token: Option<IgnoredAny>,
}

impl AnswerKeys {
    /// Classifies the message with these keys.
    pub(super) fn read(self, stage: ClientStage) -> ClientHeard {
        let Self { event_type, response, result, reason, access_token, .. } = self;
        // A reply with a token is recognized by that key alone, and never shown.
        if access_token.is_some() {
            return ClientHeard::Secret;
        }
        let Some(response) = response.filter(|_| event_type.is_none()) else {
            return ClientHeard::Event;
        };

        let mut words = [Some(response), result].into_iter().flatten();
        let has_failed = words.any(|word| word.eq_ignore_ascii_case("error"));
        match stage {
            ClientStage::Following => ClientHeard::Note,
            _ if has_failed => ClientHeard::Refusal(reason.unwrap_or_default()),
            ClientStage::Token => ClientHeard::Success("token accepted"),
            ClientStage::Subscription => ClientHeard::Success("subscribed"),
        }
    }
}

/// The meaning of a close of an open session in both Personium dialects.
pub(super) const SESSION_ENDED: &str =
    "the session ended: its token expired or a later one was refused; connect with a new token";

/// The claims of a token for a cell, with a scope.
pub(super) fn personium_claims(
    subscriber: &Subscriber<'_>,
    scope: &str,
) -> Option<Map<String, Value>> {
    claims(value!({
        "sub": format!("https://bench.example/subscribers/#{:06}", subscriber.index),
        "aud": subscriber.site.cell,
        "scope": scope,
    }))
}
