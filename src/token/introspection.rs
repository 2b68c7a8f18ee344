//! OAuth 2.0 Token Introspection (RFC 7662): the issuer itself is asked about each token.
//!
//! ```toml
//! [personium.token.introspection]
//! url = "https://cell.example/__introspect"
//! client_id = "fanfare"
//! client_secret_file = "/etc/fanfare/client.secret"
//! roles = { "https://cell.example/__role/__/reader" = ["event-read"] }
//! ```
//!
//! The members of the answer become the claims of the grant. An issuer without `scope`, such as
//! Personium, returns the roles of the user as `p_roles`; `roles` maps each of them to scopes. A
//! role is compared as a whole URL: its name alone could be the role of a stranger's cell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::VerifierError;
use super::grant::Grant;
use super::inquiry::{CACHE_S_MAX, CONCURRENCY_MAX, Finding, GRACE_S_MAX, TIMEOUT_MS_MAX, Timing};
use super::moment::numeric_date_ms;
use super::refusal::Refusal;
use super::unique::{self, Flaw};
use crate::endpoint::Endpoint;
use crate::setting::Secret;

/// `token.introspection`: where the issuer is asked, and as whom.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct IntrospectionSettings {
    /// The introspection endpoint.
    #[schemars(example = &"https://issuer.example/introspect")]
    url: String,
    /// The client id for HTTP Basic authentication; without it the daemon does not authenticate.
    #[schemars(example = &"fanfare")]
    client_id: Option<String>,
    /// The file with the secret of that client id.
    #[schemars(example = &"/etc/fanfare/client.secret")]
    pub(super) client_secret_file: Option<PathBuf>,
    /// The same, in this file, which is then a secret too.
    client_secret: Option<Secret>,
    /// Seconds between checks of a token in use. If it is no longer valid, its sessions end.
    #[schemars(range(min = 1, max = 86_400))]
    recheck_s: u64,
    /// Seconds for which sessions stay when the issuer cannot be reached.
    #[schemars(range(max = GRACE_S_MAX))]
    grace_s: u64,
    /// Seconds for which an answer is used for other clients with the same token; 0 asks each time.
    #[schemars(range(max = CACHE_S_MAX))]
    cache_s: u64,
    /// Timeout of a whole request in milliseconds, after which the client is refused.
    #[schemars(range(min = 1, max = TIMEOUT_MS_MAX))]
    timeout_ms: u64,
    /// Maximum number of concurrent requests.
    #[schemars(range(min = 1, max = CONCURRENCY_MAX))]
    concurrency_max: usize,
    /// The authorities that may sign the issuer's certificate, in PEM, instead of the system's.
    #[schemars(example = &"/etc/fanfare/ca.pem")]
    pub(super) ca_file: Option<PathBuf>,
    /// The scopes of each role, for an issuer that sends the user's roles as p_roles instead of a
    /// scope.
    #[schemars(example = &serde_json::json!({ "https://cell.example/__role/__/reader": ["event-read"] }))]
    roles: BTreeMap<String, Vec<String>>,
}

impl Default for IntrospectionSettings {
    fn default() -> Self {
        let Timing { timeout_ms, concurrency_max, cache_s, grace_s } = Timing::DEFAULT;
        Self {
            url: String::new(),
            client_id: None,
            client_secret: None,
            client_secret_file: None,
            roles: BTreeMap::new(),
            recheck_s: 60,
            timeout_ms,
            concurrency_max,
            cache_s,
            grace_s,
            ca_file: None,
        }
    }
}

impl IntrospectionSettings {
    pub(super) fn check(&self) -> Result<(), VerifierError> {
        Endpoint::new(&self.url)?;
        let secrets = usize::from(self.client_secret.is_some())
            + usize::from(self.client_secret_file.is_some());
        if secrets != usize::from(self.client_id.is_some()) {
            return Err(VerifierError::ClientCredentials);
        }
        Ok(())
    }

    pub(super) fn timing(&self) -> Timing {
        let Self { timeout_ms, concurrency_max, cache_s, grace_s, .. } = *self;
        Timing { timeout_ms, concurrency_max, cache_s, grace_s }
    }
}

/// An issuer that introspects its tokens.
#[derive(Clone)]
pub(super) struct Introspection {
    pub(super) endpoint: Endpoint,
    authorization: Option<HeaderValue>,
    roles: BTreeMap<String, Vec<String>>,
    pub(super) recheck_s: u64,
}

impl Introspection {
    /// `material` is the content of `client_secret_file`.
    pub(super) fn new(
        settings: &IntrospectionSettings,
        material: Option<&[u8]>,
    ) -> Result<Self, VerifierError> {
        let authorization = match &settings.client_id {
            None => None,
            Some(id) => {
                let secret = match &settings.client_secret {
                    Some(secret) => &secret.0,
                    None => secret_of(material.ok_or(VerifierError::MaterialMissing)?)?,
                };
                Some(basic(id, secret))
            }
        };

        Ok(Self {
            endpoint: Endpoint::new(&settings.url)?,
            authorization,
            roles: settings.roles.clone(),
            recheck_s: settings.recheck_s,
        })
    }

    /// RFC 7662 section 2.1.
    pub(super) fn request(&self, token: &str) -> Request<String> {
        let body = format!("token={}&token_type_hint=access_token", form_encoded(token));
        let mut request = Request::post(self.endpoint.uri())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body)
            .expect("the URL was read as one when the verifier was made");
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        request
    }

    /// RFC 7662 section 2.2. Only `active` is required there; here `exp` is too, because a session
    /// that never ends would rest on re-checks alone.
    pub(super) fn read(&self, status: u16, body: &[u8], now_ms: u64) -> Finding {
        match status {
            200 => {}
            401 => {
                return Finding::Unclear(
                    "it refuses client_id and client_secret (status 401)".into(),
                );
            }
            _ => return Finding::Unclear(format!("it answered with status {status}")),
        }
        let mut claims = match unique::object(body) {
            Ok(claims) => claims,
            Err(Flaw::NoObject) => {
                return Finding::Unclear("its answer is not a JSON object".into());
            }
            // Some text of the token's own may have come into the answer as it was.
            Err(Flaw::Repeated) => return Finding::Refused(Refusal::Ambiguous),
        };
        match claims.remove("active") {
            Some(Value::Bool(true)) => self.grant(claims, now_ms).into(),
            Some(Value::Bool(false)) => Finding::Refused(Refusal::Inactive),
            _ => Finding::Unclear("its answer does not say whether the token is active".into()),
        }
    }

    fn grant(&self, mut claims: Map<String, Value>, now_ms: u64) -> Result<Grant, Refusal> {
        let expiry = claims.get("exp").ok_or(Refusal::MissingExpiry)?;
        let expires_at_ms = numeric_date_ms(expiry).ok_or(Refusal::BadExpiry)?;
        if now_ms >= expires_at_ms {
            return Err(Refusal::Expired);
        }
        let scope = match claims.get("scope") {
            None | Some(Value::Null) => Some(self.privileges(claims.get("p_roles"))),
            // The order of words means nothing (RFC 6749 section 3.3), and must not look like a
            // change.
            Some(Value::String(scope)) => {
                Some(scope.split(' ').filter(|word| !word.is_empty()).collect())
            }
            Some(_) => None,
        };
        if let Some(words) = scope {
            let words: Vec<&str> = words.into_iter().collect();
            let scope = words.join(" ");
            claims.insert("scope".into(), scope.into());
        }
        Ok(Grant::new(expires_at_ms, claims))
    }

    /// What the roles may, taken together. Anything but an array of strings has no roles in it.
    fn privileges(&self, roles: Option<&Value>) -> BTreeSet<&str> {
        let roles = roles.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let known = roles.iter().filter_map(|role| self.roles.get(role.as_str()?));
        known.flatten().map(String::as_str).collect()
    }
}

/// The text of a secret's file, without the line ending an editor or `echo` puts behind it.
fn secret_of(material: &[u8]) -> Result<&str, VerifierError> {
    let text = std::str::from_utf8(material).map_err(|_| VerifierError::SecretText)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.contains('\n') { Err(VerifierError::SecretText) } else { Ok(text) }
}

/// The client's name and secret, form-encoded before they are joined (RFC 6749 section 2.3.1).
fn basic(id: &str, secret: &str) -> HeaderValue {
    let joined = format!("{}:{}", form_encoded(id), form_encoded(secret));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(joined)))
        .expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

/// `application/x-www-form-urlencoded`, in which `%20` stands for a space as well as `+` does. What
/// that leaves as it is stays so: some issuers compare names and secrets without decoding them.
fn form_encoded(text: &str) -> String {
    const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');
    utf8_percent_encode(text, FORM).to_string()
}
