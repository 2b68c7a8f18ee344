//! A verifier that is asked over HTTP: what to ask, what its answer means, when to ask again.
//!
//! A value like every verifier: it makes requests and reads answers, and whoever may touch the network carries
//! them. Two protocols are known, OAuth 2.0 Token Introspection and wazo-auth, a file for each.
//!
//! A grant of a remote verifier can be taken back: it is asked again from time to time for as long as a session
//! lives on the token, and a verifier that cannot be asked meanwhile has [`Timing::grace_s`] to come back. Its
//! expiry needs no asking: sessions end by it themselves.

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

/// Longest answer that is read, in bytes. Answers are a few KiB; a grant is kept as long as its session.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The claims by which dialects decide who may do what; by others a later grant may differ from an earlier one.
const DECISIVE: [&str; 19] = [
    "sub",
    "aud",
    "iss",
    "scope",
    "topics",
    "event_types",
    "event_objects",
    "schema",
    "azp",
    "client_id",
    "cell_id",
    "acl",
    "tenant_uuid",
    "session_uuid",
    "admin",
    "purpose",
    "pulsar_produce",
    "pulsar_consume",
    "pulsar_read",
];

/// How much sooner a grant may end than an earlier one and be the same: an issuer that counts the seconds that
/// are left may round them this way and that way.
const ENDS_APART_MS: u64 = 2000;

/// Asks over HTTP.
#[derive(Clone)]
pub struct RemoteVerifier {
    protocol: RemoteProtocol,
    timing: Timing,
    trusted: Option<Arc<ClientConfig>>,
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
        Ok(Self { protocol, timing: settings.timing(), trusted: None })
    }

    pub(super) fn wazo_auth(settings: &WazoAuthSettings) -> Result<Self, VerifierError> {
        let protocol = RemoteProtocol::WazoAuth(WazoAuth::new(settings)?);
        Ok(Self { protocol, timing: settings.timing(), trusted: None })
    }

    /// The same, trusting the certificates of this PEM file, and what they have signed, instead of the system's.
    pub(super) fn trusting(&self, pem: &[u8]) -> Result<Self, VerifierError> {
        let named: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(pem).collect();
        let named = named.map_err(|_| VerifierError::Authorities)?;
        let config = trust::named(named).map_err(|_| VerifierError::Authorities)?;
        Ok(Self { trusted: Some(Arc::new(config)), ..self.clone() })
    }

    /// How to speak TLS with it; `None` is to trust whom the system trusts.
    pub fn trusted(&self) -> Option<&Arc<ClientConfig>> {
        self.trusted.as_ref()
    }

    /// How it is asked.
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

    /// What is asked there, for people.
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

    /// Refuses what no verifier would grant, so that nobody is asked.
    pub(super) fn refuse(token: &str) -> Option<Refusal> {
        let hopeless = matches!(token, "" | "." | "..") || token.chars().any(char::is_control);
        hopeless.then_some(Refusal::Malformed)
    }

    /// The request that asks. It has the token in it, so neither its URL nor its body is fit for a log.
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

    /// What an answer means that has come at `now_ms`, unix milliseconds.
    pub fn read(&self, inquiry: TokenInquiry, status: u16, body: &[u8], now_ms: u64) -> Finding {
        match &self.protocol {
            RemoteProtocol::Introspection(introspection) => {
                introspection.read(status, body, now_ms)
            }
            RemoteProtocol::WazoAuth(wazo_auth) => wazo_auth.read(inquiry, status, body, now_ms),
        }
    }

    /// In how many seconds to ask again about a token that has `left_s` to live.
    pub fn recheck_in_s(&self, left_s: u64) -> u64 {
        match &self.protocol {
            RemoteProtocol::Introspection(introspection) => introspection.recheck_s,
            RemoteProtocol::WazoAuth(wazo_auth) => wazo_auth.recheck_in_s(left_s),
        }
    }
}

/// Whether a later grant for a token gives what an earlier one did, and for as long. A session keeps to the
/// grant it began with, so one that has changed is as good as taken back.
pub fn grants_the_same(earlier: &Grant, later: &Grant) -> bool {
    later.expires_at_ms.saturating_add(ENDS_APART_MS) >= earlier.expires_at_ms
        && DECISIVE.iter().all(|claim| means_the_same(earlier, later, claim))
}

/// No dialect reads a list for its order, and not every issuer keeps one.
fn means_the_same(earlier: &Grant, later: &Grant, claim: &str) -> bool {
    let is_list = |grant: &Grant| grant.claim(claim).is_some_and(Value::is_array);
    let items = |grant: &Grant| -> BTreeSet<String> {
        grant.list(claim).unwrap_or_default().into_iter().map(str::to_owned).collect()
    };
    earlier.claim(claim) == later.claim(claim)
        || is_list(earlier) && is_list(later) && items(earlier) == items(later)
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
