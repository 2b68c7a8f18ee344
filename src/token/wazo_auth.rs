//! wazo-auth, the token service of a Wazo PBX.
//!
//! `GET {url}/0.1/token/{token}?scope=websocketd` returns what a token grants and refuses one that
//! may not use the WebSocket service; `HEAD` says only whether it is valid. The grant has the
//! claims that the dialect expects of every verifier: `acl`, `sub`, `tenant_uuid`, `session_uuid`,
//! `admin`, `purpose`.

use std::path::PathBuf;

use http::{Method, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::value::{Datetime, Offset};

use super::error::VerifierError;
use super::grant::Grant;
use super::inquiry::{
    CACHE_S_MAX, CONCURRENCY_MAX, Finding, GRACE_S_MAX, TIMEOUT_MS_MAX, Timing, TokenInquiry,
};
use super::moment::{self, UNIX_S_MAX};
use super::refusal::Refusal;
use crate::endpoint::{Endpoint, UrlError};

/// All but the unreserved characters of RFC 3986 section 2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// When tokens in use are checked again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum AuthCheck {
    /// The sooner, the less time they have left.
    Dynamic,
    /// Every `auth_check_interval_s`.
    Static,
}

/// `token.wazo_auth`: where wazo-auth is.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct WazoAuthSettings {
    /// Its URL, without the version and the rest of the path.
    #[schemars(example = &"https://127.0.0.1:9497")]
    url: String,
    /// When a token in use is checked again: with "dynamic" the sooner the closer its end is, with
    /// "static" every auth_check_interval_s. If it is no longer valid, its sessions end.
    auth_check: AuthCheck,
    /// Seconds between checks of a token with "static"; the default is the original's.
    #[schemars(range(min = 1, max = 86_400))]
    auth_check_interval_s: u64,
    /// Seconds for which sessions stay when wazo-auth cannot be reached.
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
    /// The authorities that may sign its certificate, in PEM, instead of the system's.
    #[schemars(example = &"/usr/share/xivo-certs/server.crt")]
    pub(super) ca_file: Option<PathBuf>,
}

impl Default for WazoAuthSettings {
    fn default() -> Self {
        let Timing { timeout_ms, concurrency_max, cache_s, grace_s } = Timing::DEFAULT;
        Self {
            url: String::new(),
            auth_check: AuthCheck::Dynamic,
            auth_check_interval_s: 60,
            timeout_ms,
            concurrency_max,
            cache_s,
            grace_s,
            ca_file: None,
        }
    }
}

impl WazoAuthSettings {
    pub(super) fn check(&self) -> Result<(), VerifierError> {
        if Endpoint::new(&self.url)?.has_query() {
            return Err(UrlError::Query.into());
        }
        // As people copy it from wazo-auth's documentation.
        if self.url.trim_end_matches('/').ends_with("/0.1") {
            return Err(UrlError::Version.into());
        }
        Ok(())
    }

    pub(super) fn timing(&self) -> Timing {
        let Self { timeout_ms, concurrency_max, cache_s, grace_s, .. } = *self;
        Timing { timeout_ms, concurrency_max, cache_s, grace_s }
    }
}

/// A wazo-auth.
#[derive(Clone)]
pub(super) struct WazoAuth {
    pub(super) endpoint: Endpoint,
    auth_check: AuthCheck,
    auth_check_interval_s: u64,
}

impl WazoAuth {
    pub(super) fn new(settings: &WazoAuthSettings) -> Result<Self, VerifierError> {
        Ok(Self {
            endpoint: Endpoint::new(&settings.url)?,
            auth_check: settings.auth_check,
            auth_check_interval_s: settings.auth_check_interval_s,
        })
    }

    pub(super) fn request(&self, inquiry: TokenInquiry, token: &str) -> Request<String> {
        let method = if self.asks_by_head(inquiry) { Method::HEAD } else { Method::GET };
        let token = utf8_percent_encode(token, SEGMENT);
        Request::builder()
            .method(method)
            .uri(self.endpoint.below(&format!("/0.1/token/{token}?scope=websocketd")))
            .body(String::new())
            .expect("a URL that was parsed before, and what is added is encoded and bounded")
    }

    pub(super) fn read(
        &self,
        inquiry: TokenInquiry,
        status: u16,
        body: &[u8],
        now_ms: u64,
    ) -> Finding {
        match status {
            200..=299 if self.asks_by_head(inquiry) => Finding::Confirmed,
            200 => read(body, now_ms),
            // Timeout, too early, too many requests: no statement about the token.
            408 | 425 | 429 => Finding::Unclear(format!("it answered with status {status}")),
            // 404 for an unknown token, 403 for one that may not use the service.
            400..=499 => Finding::Refused(Refusal::Inactive),
            _ => Finding::Unclear(format!("it answered with status {status}")),
        }
    }

    fn asks_by_head(&self, inquiry: TokenInquiry) -> bool {
        inquiry == TokenInquiry::Recheck && self.auth_check == AuthCheck::Static
    }

    pub(super) fn recheck_in_s(&self, left_s: u64) -> u64 {
        match self.auth_check {
            AuthCheck::Static => self.auth_check_interval_s,
            AuthCheck::Dynamic => dynamic_s(left_s),
        }
    }
}

/// The reference's schedule: at the expiry of short-lived tokens, and at most twice a day for long
/// ones.
fn dynamic_s(left_s: u64) -> u64 {
    match left_s {
        0 => 15,
        1..=80 => left_s.min(60),
        81..=57_600 => left_s * 3 / 4,
        _ => 43_200,
    }
}

/// The parts of an answer that are read.
#[derive(Deserialize)]
struct WazoAuthAnswer {
    data: WazoAuthData,
}

#[derive(Deserialize)]
struct WazoAuthData {
    acl: Vec<String>,
    session_uuid: String,
    utc_expires_at: String,
    metadata: WazoAuthMetadata,
}

#[derive(Deserialize)]
struct WazoAuthMetadata {
    uuid: String,
    tenant_uuid: String,
    #[serde(default)]
    admin: Value,
    #[serde(default)]
    purpose: Value,
}

fn read(body: &[u8], now_ms: u64) -> Finding {
    match serde_json::from_slice::<WazoAuthAnswer>(body) {
        Ok(WazoAuthAnswer { data }) => grant(data, now_ms).into(),
        // JSON of another shape is wazo-auth's word all the same; other text may be a proxy's error
        // page.
        Err(error) if error.is_data() => Finding::Refused(Refusal::Incomplete),
        Err(_) => Finding::Unclear("its answer is not JSON".into()),
    }
}

fn grant(data: WazoAuthData, now_ms: u64) -> Result<Grant, Refusal> {
    let expires_at_ms = expires_at_ms(&data.utc_expires_at).ok_or(Refusal::BadExpiry)?;
    if now_ms >= expires_at_ms {
        return Err(Refusal::Expired);
    }

    // Absent, null and of another type are equal here: not an admin, no purpose.
    let WazoAuthMetadata { uuid, tenant_uuid, admin, purpose } = data.metadata;
    let claims: Map<String, Value> = [
        ("acl", data.acl.into()),
        ("sub", uuid.into()),
        ("tenant_uuid", tenant_uuid.into()),
        ("session_uuid", data.session_uuid.into()),
        ("admin", Value::Bool(admin == Value::Bool(true))),
        ("purpose", if purpose.is_string() { purpose } else { Value::Null }),
    ]
    .into_iter()
    .map(|(claim, value)| (claim.to_owned(), value))
    .collect();
    Ok(Grant::new(expires_at_ms, claims))
}

/// `utc_expires_at` in milliseconds. Python writes it in UTC without a zone, and without a fraction
/// when that is zero.
fn expires_at_ms(written: &str) -> Option<u64> {
    let written: Datetime = written.parse().ok()?;
    let ms = moment::unix_ms(&written, Some(Offset::Z))?;
    u64::try_from(ms).ok().filter(|ms| ms / 1000 <= UNIX_S_MAX)
}
