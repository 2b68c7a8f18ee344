//! Tokens: where a request carries its own, what its claims grant, and how a client presents the
//! next one.
//!
//! A token is renewed over the connection as in Pulsar's PIP-292. The server may ask with an
//! `AUTH_CHALLENGE` some time before the token's expiry; clients that know it need not wait. Either
//! way the client sends
//! `{"type":"AUTH_RESPONSE","authResponse":{"response":{"authMethodName":"token","authData":"TOKEN"
//! }}}`. A valid token is not answered, any other ends the session.

use super::jackson::{self, JacksonError};
use super::params::Params;
use super::settings::{CLAIMS, DefaultRights, PulsarSettings};
use crate::dialect::grants::of_list;
use crate::json::RawValue;
use crate::service::topic::Rights;
use crate::token::{Grant, NEVER_MS};
use crate::wheel::{NEVER, Now, TICK_MS, Tick};
use std::borrow::Cow;

/// The message that asks a client for its next token, byte for byte as in PIP-292.
pub(super) const CHALLENGE: &[u8] = br#"{"type":"AUTH_CHALLENGE","authChallenge":{"challenge":{"authMethodName":"token","authData":"token"},"protocolVersion":0}}"#;
/// The type of a client's message with a token.
pub(super) const RESPONSE: &str = "AUTH_RESPONSE";

/// The token of a request: the header's, else the query's, where its scheme is optional.
pub(super) fn token<'a>(authorization: &'a str, params: &'a Params<'_>) -> Option<&'a str> {
    let token = match authorization.strip_prefix("Bearer ") {
        Some(token) => Some(token),
        None if authorization.is_empty() => params.get("token").map(bare),
        // Another scheme is a mistake, which a token in the query must not hide.
        None => None,
    };
    token.map(str::trim).filter(|token| !token.is_empty())
}

/// The token in the object `authResponse`, if it has one.
pub(super) fn renewal(response: &RawValue) -> Result<Option<Box<str>>, JacksonError> {
    let mut token = None;
    jackson::each(response.get(), |key, value| {
        if &*key == "response" {
            token = auth_data(value)?;
        }
        Ok(())
    })?;
    let token = token.as_deref().map(|token| bare(token).trim());
    Ok(token.filter(|token| !token.is_empty()).map(Box::from))
}

fn auth_data(response: &RawValue) -> Result<Option<Cow<'_, str>>, JacksonError> {
    let mut data = None;
    jackson::each(response.get(), |key, value| {
        if &*key == "authData" {
            data = jackson::text(&key, value)?;
        }
        Ok(())
    })?;
    Ok(data)
}

fn bare(token: &str) -> &str {
    token.strip_prefix("Bearer ").unwrap_or(token)
}

/// The rights of a token: those of its claims, where a missing one grants nothing; without any of
/// them those of the settings. A claim that is not a list of texts grants nothing.
#[must_use]
pub fn rights(grant: &Grant, settings: &PulsarSettings) -> Rights {
    let [produce, consume, read] = CLAIMS.map(|claim| grant.list(claim));
    if let (None, None, None) = (&produce, &consume, &read) {
        return match settings.default_rights {
            DefaultRights::All => Rights::ALL,
            DefaultRights::None => Rights::new([], [], []),
        };
    }
    let [produce, consume, read] = [produce, consume, read].map(Option::unwrap_or_default);
    Rights::new(produce, consume, read)
}

/// The tick at which a grant ends.
pub(super) fn end_of(grant: &Grant, now: Now) -> Tick {
    if grant.expires_at_ms == NEVER_MS {
        return NEVER;
    }
    // Rounded up: the session never ends before its token.
    let end_ns = now.monotonic_ns.saturating_add(now.ns_until(grant.expires_at_ms));
    Tick::try_from(end_ns.div_ceil(TICK_MS * 1_000_000)).unwrap_or(NEVER)
}

/// A token's grant in words.
pub(super) fn granted(grant: &Grant, settings: &PulsarSettings) -> Result<String, String> {
    let verbs =
        [("produce", "pulsar_produce"), ("consume", "pulsar_consume"), ("read", "pulsar_read")];
    if verbs.iter().all(|(_, claim)| grant.list(claim).is_none()) {
        return match settings.default_rights {
            DefaultRights::All => {
                Ok("produce, consume and read, all topics (pulsar.default_rights)".into())
            }
            DefaultRights::None => {
                Err("it has none of pulsar_produce, pulsar_consume and pulsar_read, and \
                     pulsar.default_rights is none"
                    .into())
            }
        };
    }
    let each = verbs.iter().filter_map(|(verb, claim)| Some((verb, grant.list(claim)?)));
    let each: Vec<String> =
        each.map(|(verb, globs)| format!("{verb} {}", of_list(&globs))).collect();
    Ok(each.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::topic::{Right, TopicName};
    use serde_json::json;

    fn granted(claims: serde_json::Value, settings: &str) -> Rights {
        let serde_json::Value::Object(claims) = claims else { panic!() };
        rights(&Grant::new(NEVER_MS, claims), &toml::from_str(settings).unwrap())
    }

    #[test]
    fn claims_grant_what_they_name_and_without_any_the_settings_decide() {
        let topic = TopicName::read("persistent://t/n/x").unwrap();
        let may = |rights: &Rights| {
            [Right::Produce, Right::Consume, Right::Read].map(|right| rights.allow(right, &topic))
        };
        assert_eq!(may(&granted(json!({"sub": "ann"}), "")), [true; 3]);
        assert_eq!(may(&granted(json!({"sub": "ann"}), "default_rights = 'none'")), [false; 3]);
        for settings in ["", "default_rights = 'none'"] {
            for (claims, expected) in [
                (json!({"pulsar_produce": ["t/n/*"]}), [true, false, false]),
                (json!({"pulsar_consume": "t/n/x"}), [false, true, false]),
                (json!({"pulsar_read": ["a/b/c", "*/*/*"]}), [false, false, true]),
                (json!({"pulsar_read": []}), [false; 3]),
                (json!({"pulsar_read": ["*/*/*", 1]}), [false; 3]),
                (json!({"pulsar_read": null}), [false; 3]),
                (json!({"pulsar_read": {"*/*/*": true}}), [false; 3]),
            ] {
                assert_eq!(
                    may(&granted(claims.clone(), settings)),
                    expected,
                    "{claims} {settings}"
                );
            }
        }
    }

    #[test]
    fn a_renewal_is_read_as_pip_292_writes_it() {
        let of = |text: &str| renewal(serde_json::from_str(text).unwrap());
        let whole = r#"{"clientVersion":"v0","protocolVersion":0,"response":{"authMethodName":"token","authData":"a.b.c"}}"#;
        assert_eq!(of(whole), Ok(Some("a.b.c".into())));
        assert_eq!(of(r#"{"response":{"authData":"Bearer a"}}"#), Ok(Some("a".into())));
        for none in ["{}", r#"{"response":{}}"#, r#"{"response":{"authData":null}}"#] {
            assert_eq!(of(none), Ok(None), "{none}");
        }
        for bad in ["[]", "1", r#"{"response":"a"}"#, r#"{"response":{"authData":{}}}"#] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
