//! A verifier that is asked over HTTP: requests, the meaning of answers, when to ask again.
//!
//! A value like every verifier: it makes requests and reads answers; `io` sends them. Two protocols
//! are known, OAuth 2.0 Token Introspection and wazo-auth, a file for each.
//!
//! A remote verifier's grant can be revoked: it is asked again periodically for as long as a
//! session lives on the token, and a verifier that is unreachable meanwhile has [`Timing::grace_s`]
//! to come back. Expiry needs no question: sessions end by it themselves.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderValue, Request};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::error::VerifierError;
use super::grant::Grant;
use super::inquiry::{Finding, Timing, TokenInquiry};
use super::introspection::{Introspection, IntrospectionSettings};
use super::refusal::Refusal;
use super::wazo_auth::{WazoAuth, WazoAuthSettings};
use crate::endpoint::Endpoint;
use crate::trust;

/// Longest answer that is read, in bytes. Answers are a few KiB; a grant is kept as long as its
/// session.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The claims by which any issuer says whose a token is and what for (RFC 7519 section 4.1, RFC
/// 8693 section 4); they decide beside those that the dialects add.
const COMMON: [&str; 5] = ["sub", "aud", "iss", "scope", "client_id"];

/// How much sooner a grant may end than an earlier one and still count as equal: an issuer that
/// reports the seconds left may round them either way.
const ENDS_APART_MS: u64 = 2000;

/// A verifier asked over HTTP.
#[derive(Clone)]
pub struct RemoteVerifier {
    protocol: RemoteProtocol,
    timing: Timing,
    trusted: Option<Arc<ClientConfig>>,
    /// The claims that decide beside [`COMMON`]; `None` for all.
    decisive: Option<&'static [&'static str]>,
}

#[derive(Clone)]
enum RemoteProtocol {
    Introspection(Introspection),
    WazoAuth(WazoAuth),
}

impl RemoteVerifier {
    pub(super) fn introspection(
        settings: &IntrospectionSettings,
        material: Option<&[u8]>,
    ) -> Result<Self, VerifierError> {
        let protocol = RemoteProtocol::Introspection(Introspection::new(settings, material)?);
        Ok(Self { protocol, timing: settings.timing(), trusted: None, decisive: None })
    }

    pub(super) fn wazo_auth(settings: &WazoAuthSettings) -> Result<Self, VerifierError> {
        let protocol = RemoteProtocol::WazoAuth(WazoAuth::new(settings)?);
        Ok(Self { protocol, timing: settings.timing(), trusted: None, decisive: None })
    }

    /// This verifier, trusting the certificates of this PEM file and those signed by them, instead
    /// of the system's.
    pub(super) fn trusting(&self, pem: &[u8]) -> Result<Self, VerifierError> {
        let named: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(pem).collect();
        let named = named.map_err(|_| VerifierError::Authorities)?;
        let config = trust::named(named).map_err(|_| VerifierError::Authorities)?;
        Ok(Self { trusted: Some(Arc::new(config)), ..self.clone() })
    }

    /// This verifier, of whose grants only these claims and [`COMMON`] decide.
    pub(super) fn deciding_by(&self, claims: &'static [&'static str]) -> Self {
        Self { decisive: Some(claims), ..self.clone() }
    }

    /// The TLS configuration for it; `None` for the system's authorities.
    pub fn trusted(&self) -> Option<&Arc<ClientConfig>> {
        self.trusted.as_ref()
    }

    /// The timing of its questions.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// The host that is asked, and its port if one is configured.
    pub fn host(&self) -> &str {
        self.endpoint().host()
    }

    /// Whether it is asked over TLS.
    pub fn is_https(&self) -> bool {
        self.endpoint().is_https()
    }

    /// The protocol's name, for people.
    pub fn protocol(&self) -> &'static str {
        match &self.protocol {
            RemoteProtocol::Introspection(_) => "token introspection (RFC 7662)",
            RemoteProtocol::WazoAuth(_) => "wazo-auth",
        }
    }

    fn endpoint(&self) -> &Endpoint {
        match &self.protocol {
            RemoteProtocol::Introspection(introspection) => &introspection.endpoint,
            RemoteProtocol::WazoAuth(wazo_auth) => &wazo_auth.endpoint,
        }
    }

    /// Refuses what no verifier would grant, without a request.
    pub(super) fn refuse(token: &str) -> Option<Refusal> {
        // As a segment of wazo-auth's path these would name another resource; control characters
        // come from no issuer.
        let hopeless = matches!(token, "" | "." | "..") || token.chars().any(char::is_control);
        hopeless.then_some(Refusal::Malformed)
    }

    /// The request that asks. It contains the token, so neither its URL nor its body is fit for a
    /// log.
    pub fn request(&self, inquiry: TokenInquiry, token: &str) -> Request<String> {
        let mut request = match &self.protocol {
            RemoteProtocol::Introspection(introspection) => introspection.request(token),
            RemoteProtocol::WazoAuth(wazo_auth) => wazo_auth.request(inquiry, token),
        };
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("fanfare/", env!("CARGO_PKG_VERSION"))),
        );
        request
    }

    /// The meaning of an answer received at `now_ms`, unix milliseconds.
    pub fn read(&self, inquiry: TokenInquiry, status: u16, body: &[u8], now_ms: u64) -> Finding {
        match &self.protocol {
            RemoteProtocol::Introspection(introspection) => {
                introspection.read(status, body, now_ms)
            }
            RemoteProtocol::WazoAuth(wazo_auth) => wazo_auth.read(inquiry, status, body, now_ms),
        }
    }

    /// Seconds until the next question about a token that has `left_s` to live.
    pub fn recheck_in_s(&self, left_s: u64) -> u64 {
        match &self.protocol {
            RemoteProtocol::Introspection(introspection) => introspection.recheck_s,
            RemoteProtocol::WazoAuth(wazo_auth) => wazo_auth.recheck_in_s(left_s),
        }
    }

    /// Whether a later grant for a token gives what an earlier one did, and for as long. A session
    /// keeps the grant it began with, so a changed one counts as revoked.
    pub fn grants_the_same(&self, earlier: &Grant, later: &Grant) -> bool {
        let agree = match self.decisive {
            Some(claims) => {
                COMMON.iter().chain(claims).all(|claim| means_the_same(earlier, later, claim))
            }
            // Without a list no change is known to be harmless.
            None => {
                let mut claims = earlier.names().chain(later.names());
                claims.all(|claim| means_the_same(earlier, later, claim))
            }
        };
        agree && later.expires_at_ms.saturating_add(ENDS_APART_MS) >= earlier.expires_at_ms
    }
}

/// Whether two grants agree about a claim, the order of lists aside: no dialect reads a list for
/// its order, and not every issuer keeps one.
fn means_the_same(earlier: &Grant, later: &Grant, claim: &str) -> bool {
    if earlier.claim(claim) == later.claim(claim) {
        return true;
    }

    // An absent claim and an empty list are different: absence may mean "no restriction".
    let are_lists =
        [earlier, later].iter().all(|grant| grant.claim(claim).is_some_and(Value::is_array));
    are_lists && items(earlier, claim) == items(later, claim)
}

fn items<'a>(grant: &'a Grant, claim: &str) -> BTreeSet<&'a str> {
    grant.list(claim).unwrap_or_default().into_iter().collect()
}

impl fmt::Debug for RemoteVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("protocol", &self.protocol())
            .field("host", &self.host())
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}
