//! The verifier of JSON Web Tokens (RFC 7519) in their compact form, `header.claims.signature`.
//!
//! In order: split, decode the header, check `alg` against the configured list, pick the keys by
//! `kid` and `alg`, check the signature, and only then decode the claims, once, and check `exp` and
//! `nbf`. Keys are prepared when the verifier is built. Times are checked here and not by the JWT
//! library, which reads the clock.
//!
//! This module does not know what any other claim means.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::{Map, Value};

use super::error::VerifierError;
use super::grant::{Grant, NEVER_MS};
use super::key::JwtKey;
use super::moment::{any_numeric_date_ms, numeric_date_ms};
use super::refusal::Refusal;
use super::rigour::Rigour;
use super::settings::{JwtSettings, KeySource};
use super::unique::{self, Flaw};
use super::{Algorithm, jwks};

/// Verifies tokens by their signature and times.
pub struct Jwt {
    algorithms: Vec<Algorithm>,
    keys: Vec<JwtKey>,
    leeway_ms: u64,
    rigour: Rigour,
}

impl Jwt {
    /// Expects settings that passed their own check.
    pub(super) fn new(
        settings: &JwtSettings,
        material: Option<&[u8]>,
        rigour: Rigour,
    ) -> Result<Self, VerifierError> {
        let algorithms = settings.algorithms.clone();
        let keys = match settings.key_source(material)? {
            KeySource::Secret(secret) => vec![JwtKey::from_secret(secret, &algorithms, rigour)?],
            KeySource::PublicKey(pem) => vec![JwtKey::from_public_pem(pem, &algorithms)?],
            KeySource::Jwks(set) => jwks::keys(set, &algorithms)?,
        };
        Ok(Self { algorithms, keys, leeway_ms: settings.leeway_s * 1000, rigour })
    }

    pub(super) fn verify(&self, token: &str, now_ms: u64) -> Result<Grant, Refusal> {
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::Malformed)?;
        // Five parts are an encrypted token (JWE), for which there is no key here.
        if payload.contains('.') {
            return Err(Refusal::Malformed);
        }

        // Nothing of the claims is decoded before the signature holds.
        self.check_signature(&decode(header)?, message, signature)?;

        let claims = unique::object(&decode(payload)?).map_err(|flaw| match flaw {
            Flaw::NoObject => Refusal::Malformed,
            Flaw::Repeated => Refusal::Ambiguous,
        })?;

        let expires_at_ms = match self.rigour {
            Rigour::Strict => self.check_times(&claims, now_ms)?,
            Rigour::Lenient => self.check_times_if_any(&claims, now_ms)?,
        };
        Ok(Grant::new(expires_at_ms, claims))
    }

    fn check_signature(
        &self,
        header: &[u8],
        message: &str,
        signature: &str,
    ) -> Result<(), Refusal> {
        let header: JwtHeader<'_> =
            serde_json::from_slice(header).map_err(|_| Refusal::Malformed)?;
        if header.crit {
            return Err(Refusal::Extension);
        }

        // Never the token's choice: only algorithms of the configuration count, and "none" does not
        // parse as one.
        let algorithm = Algorithm::from_str(&header.alg).map_err(|_| Refusal::Algorithm)?;
        if !self.algorithms.contains(&algorithm) {
            return Err(Refusal::Algorithm);
        }

        // Without a kid every key of the algorithm is tried; KEYS_MAX bounds how many.
        let kid = header.kid.as_deref();
        let mut keys = self.keys.iter().filter(|key| key.fits(algorithm, kid)).peekable();
        if keys.peek().is_none() {
            return Err(Refusal::UnknownKey);
        }

        let signature = decode(signature)?;
        let is_signed = keys.any(|key| key.verifies(algorithm, message, &signature));
        if is_signed { Ok(()) } else { Err(Refusal::Signature) }
    }

    /// The moment from which the token is refused, leeway included.
    fn check_times(&self, claims: &Map<String, Value>, now_ms: u64) -> Result<u64, Refusal> {
        let expiry = claims.get("exp").ok_or(Refusal::MissingExpiry)?;
        let expires_at_ms = numeric_date_ms(expiry).ok_or(Refusal::BadExpiry)? + self.leeway_ms;
        if now_ms >= expires_at_ms {
            return Err(Refusal::Expired);
        }
        if let Some(not_before) = claims.get("nbf") {
            let not_before_ms = numeric_date_ms(not_before).ok_or(Refusal::BadNotBefore)?;
            if now_ms.saturating_add(self.leeway_ms) < not_before_ms {
                return Err(Refusal::NotYetValid);
            }
        }
        Ok(expires_at_ms)
    }

    /// Like [`Self::check_times`], but both times are optional and any number is a time.
    fn check_times_if_any(&self, claims: &Map<String, Value>, now_ms: u64) -> Result<u64, Refusal> {
        // Before `exp`, as the reference does: it decides which of the two errors a client sees.
        if let Some(not_before) = claims.get("nbf") {
            let not_before_ms = any_numeric_date_ms(not_before).ok_or(Refusal::BadNotBefore)?;
            if now_ms.saturating_add(self.leeway_ms) < not_before_ms {
                return Err(Refusal::NotYetValid);
            }
        }
        let Some(expiry) = claims.get("exp") else { return Ok(NEVER_MS) };
        let expires_at_ms =
            any_numeric_date_ms(expiry).ok_or(Refusal::BadExpiry)?.saturating_add(self.leeway_ms);
        if now_ms >= expires_at_ms { Err(Refusal::Expired) } else { Ok(expires_at_ms) }
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("algorithms", &self.algorithms)
            .field("keys", &self.keys.len())
            .field("leeway_ms", &self.leeway_ms)
            .finish()
    }
}

/// The parts of a JOSE header that are read (RFC 7515 section 4.1). The rest is skipped, in
/// particular the parameters by which a token would bring its own key or say where to fetch one.
#[derive(Deserialize)]
struct JwtHeader<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(default)]
    kid: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

/// Present at all, whatever its value: even `"crit": null` is no header of a token to accept.
fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}
