//! What a token grants, and who verifies it.
//!
//! In the order things happen: the configuration names a verifier ([`TokenSettings`]); whoever may touch
//! files reads the one it names ([`TokenSettings::file`]); [`Verifier::new`] turns both into a verifier, or says
//! what to change; [`Verifier::verify`] turns the text a client sent into a [`Verdict`]. Every verifier gives the
//! same [`Grant`]: a set of claims and the moment they end, so that a dialect asks "which topics" and "until
//! when" without knowing whether a signature, a list or another service answered. Such a service is a
//! [`RemoteVerifier`]: [`Verifier::verify`] says [`Verdict::Ask`] then, and whoever may touch the network asks.
//!
//! What a claim means is not known here: `aud`, `iss` and `scope` are compared where the cell, hub or channel
//! is known.
//!
//! What is absent here: a clock (`now_ms` is an argument), files, threads, the network, and anything kept
//! from one verification to the next. Nothing a token says is looked up anywhere before its signature holds:
//! `kid` is compared with the names of keys that are already here, and `jku`, `x5u` and `jwk` are not read.
//! No `Debug` or `Display` of this module shows a token, a secret or the value of a claim.

mod fixed;
mod introspection;
mod jwks;
mod jwt;
mod key;
mod mint;
mod moment;
mod remote;
mod settings;
mod unique;
mod wazo_auth;

use std::fmt;
use std::sync::Arc;

pub use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::endpoint::UrlError;

pub use fixed::{EntryProblem, Static, StaticError};
pub use introspection::IntrospectionSettings;
pub use jwks::JwksError;
pub use jwt::Jwt;
pub use key::KeyError;
pub use mint::{MintError, mint, mint_leniently};
pub use remote::{
    ANSWER_BYTES_MAX, Finding, RemoteVerifier, Timing, TokenInquiry, grants_the_same,
};
pub use settings::{JwtSettings, StaticSettings, TokenSettings};
pub use wazo_auth::WazoAuthSettings;

/// Longest token that is looked at, in bytes. Longer ones are refused before anything is decoded. Servers
/// commonly allow 8 KiB of request headers in all, so a token that arrived in one is well below this.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Latest time a claim may name, in unix seconds: the end of the year 9999. It keeps every time derived from
/// a claim far from overflow, and it catches the common slip of writing `exp` in milliseconds.
pub const UNIX_S_MAX: u64 = 253_402_300_799;

/// [`Grant::expires_at_ms`] of a token that never expires: a static one, or a JWT where its verifier is lenient.
pub const NEVER_MS: u64 = u64::MAX;

/// What a verified token grants: claims in their universal form, whatever verifier they came from.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The first moment, in unix milliseconds, at which the same token is refused as expired; the leeway is
    /// included. [`NEVER_MS`] when it never is, so add to it with `saturating_add` only.
    pub expires_at_ms: u64,
    claims: Map<String, Value>,
}

impl Grant {
    /// A grant of these claims until `expires_at_ms`.
    pub fn new(expires_at_ms: u64, claims: Map<String, Value>) -> Self {
        Self { expires_at_ms, claims }
    }

    /// The claim as it was written, or `None` when the token does not have it.
    pub fn claim(&self, claim: &str) -> Option<&Value> {
        self.claims.get(claim)
    }

    /// The claim if it is a string.
    ///
    /// ```
    /// # use fanfare::token::Grant;
    /// # let serde_json::Value::Object(claims) = serde_json::json!({"sub": "alice", "n": 1}) else { panic!() };
    /// let grant = Grant::new(0, claims);
    /// assert_eq!(grant.text("sub"), Some("alice"));
    /// assert_eq!(grant.text("n"), None);
    /// ```
    pub fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    /// The words of a claim that is a space-separated string (as `scope` is, RFC 8693 section 4.2) or an
    /// array of strings. An absent claim and a claim of any other type have no words.
    ///
    /// ```
    /// # use fanfare::token::Grant;
    /// # let serde_json::Value::Object(claims) = serde_json::json!({"scope": "event  root"}) else { panic!() };
    /// let grant = Grant::new(0, claims);
    /// assert!(grant.words("scope").eq(["event", "root"]));
    /// assert_eq!(grant.words("absent").count(), 0);
    /// ```
    pub fn words<'a>(&'a self, claim: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let (text, items) = match self.claims.get(claim) {
            Some(Value::String(text)) => (text.as_str(), [].as_slice()),
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
                ("", items.as_slice())
            }
            _ => ("", [].as_slice()),
        };
        text.split(' ')
            .filter(|word| !word.is_empty())
            .chain(items.iter().filter_map(Value::as_str))
    }

    /// The strings of a claim that is one string or an array of strings (as `aud` is, RFC 7519 section
    /// 4.1.3). `None` only when the token does not have the claim. A claim of any other type, or an array
    /// with anything but strings in it, is an empty list: a claim that narrows a grant and is written
    /// wrongly then lets nothing through, rather than everything.
    ///
    /// ```
    /// # use fanfare::token::Grant;
    /// # let serde_json::Value::Object(claims) =
    /// #     serde_json::json!({"aud": "cell", "event_types": ["a", 1]}) else { panic!() };
    /// let grant = Grant::new(0, claims);
    /// assert_eq!(grant.list("aud"), Some(vec!["cell"]));
    /// assert_eq!(grant.list("event_types"), Some(vec![]));
    /// assert_eq!(grant.list("absent"), None);
    /// ```
    pub fn list(&self, claim: &str) -> Option<Vec<&str>> {
        Some(match self.claims.get(claim)? {
            Value::String(text) => vec![text],
            Value::Array(items) => {
                items.iter().map(Value::as_str).collect::<Option<_>>().unwrap_or_default()
            }
            _ => Vec::new(),
        })
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("expires_at_ms", &self.expires_at_ms)
            .field("claims", &format_args!("[{} redacted]", self.claims.len()))
            .finish()
    }
}

/// What a verifier says about a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// The token is good and grants this.
    Granted(Grant),
    /// The token is not good.
    Refused(Refusal),
    /// A remote verifier has to be asked; the answer comes back later.
    Ask,
}

impl From<Result<Grant, Refusal>> for Verdict {
    fn from(result: Result<Grant, Refusal>) -> Self {
        match result {
            Ok(grant) => Self::Granted(grant),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

/// Why a token is refused. Nearly always the client's fault, or its issuer's; the text is fit for a log, as it has
/// no part of the token in it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not three parts of base64url, or a part is not the JSON object it has to be; for a remote verifier, nothing
    /// that it could ever have issued.
    #[error("the token is not well formed")]
    Malformed,
    /// `alg` is not one of the configured algorithms (`none` never is).
    #[error("the token names an algorithm that is not configured")]
    Algorithm,
    /// `crit` is there; no extension it could name is implemented (RFC 7515 section 4.1.11).
    #[error("the token demands a header extension that is not implemented")]
    Extension,
    /// No configured key has the token's `kid` and fits its `alg`.
    #[error("the token names a key that is not configured")]
    UnknownKey,
    /// No key that fits made this signature.
    #[error("the token's signature does not hold")]
    Signature,
    /// There is no `exp`.
    #[error("the token has no exp claim")]
    MissingExpiry,
    /// `exp` is not a number from 0 to [`UNIX_S_MAX`].
    #[error("the token's exp claim is not a time in unix seconds")]
    BadExpiry,
    /// `nbf` is there and is not a number from 0 to [`UNIX_S_MAX`].
    #[error("the token's nbf claim is not a time in unix seconds")]
    BadNotBefore,
    /// The time is `exp` plus the leeway, or later.
    #[error("the token has expired")]
    Expired,
    /// The time plus the leeway is before `nbf`.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Not one of the static tokens.
    #[error("the token is not one of the configured tokens")]
    UnknownToken,
    /// A remote verifier says so.
    #[error("the verifier says that the token is not good")]
    Inactive,
    /// A remote verifier calls the token good and does not tell what a grant needs.
    #[error("the verifier's answer lacks what a grant needs")]
    Incomplete,
    /// A name comes twice, and it is not for us to choose a value.
    #[error("the token's claims, or the verifier's answer about it, have a name twice")]
    Ambiguous,
    /// The remote verifier does not answer, or not in a way that can be understood. Not the client's fault.
    #[error("the verifier of tokens cannot be asked")]
    Unavailable,
}

/// Whoever decides what a token grants. It is `Send + Sync` and never changes: after a reload, build another.
#[derive(Debug)]
pub enum Verifier {
    /// Checks a signature.
    Jwt(Jwt),
    /// Looks the token up in a list.
    Static(Static),
    /// Has to be asked.
    Remote(Arc<RemoteVerifier>),
}

impl Verifier {
    /// Builds the verifier the settings describe. `material` is the content of [`TokenSettings::file`], and is
    /// not looked at when that is `None`.
    ///
    /// # Errors
    /// What is wrong with the settings or the material, and what to do about it.
    ///
    /// ```
    /// use fanfare::token::{Verifier, Refusal, TokenSettings, Verdict};
    ///
    /// let settings: TokenSettings = toml::from_str("static = { file = '/etc/fanfare/tokens.toml' }")?;
    /// let verifier = Verifier::new(&settings, Some(b"[[token]]\ntoken = 'letmein'\nscope = 'event'\n"))?;
    /// let Verdict::Granted(grant) = verifier.verify("letmein", 0) else { panic!("it is in the list") };
    /// assert!(grant.words("scope").eq(["event"]));
    /// assert_eq!(verifier.verify("letmeout", 0), Verdict::Refused(Refusal::UnknownToken));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(settings: &TokenSettings, material: Option<&[u8]>) -> Result<Self, VerifierError> {
        Self::build(settings, material, Rigour::Strict)
    }

    /// As [`Verifier::new`], for a protocol whose tokens others have been making all along: a token without `exp`
    /// never expires, any number is a time, `nbf` is looked at before `exp`, and a secret may be short.
    ///
    /// # Errors
    /// As [`Verifier::new`].
    pub fn lenient(
        settings: &TokenSettings,
        material: Option<&[u8]>,
    ) -> Result<Self, VerifierError> {
        Self::build(settings, material, Rigour::Lenient)
    }

    fn build(
        settings: &TokenSettings,
        material: Option<&[u8]>,
        rigour: Rigour,
    ) -> Result<Self, VerifierError> {
        settings.check()?;
        match settings {
            TokenSettings::Jwt(jwt) => Jwt::new(jwt, material, rigour).map(Self::Jwt),
            TokenSettings::Static(_) => {
                let list = material.ok_or(VerifierError::MaterialMissing)?;
                Ok(Self::Static(Static::new(list)?))
            }
            TokenSettings::Introspection(introspection) => {
                Ok(Self::Remote(Arc::new(RemoteVerifier::introspection(introspection, material)?)))
            }
            TokenSettings::WazoAuth(wazo_auth) => {
                Ok(Self::Remote(Arc::new(RemoteVerifier::wazo_auth(wazo_auth)?)))
            }
        }
    }

    /// The same verifier, only that a remote one has to be vouched for by an authority in `pem`, the content of
    /// [`TokenSettings::ca_file`].
    ///
    /// # Errors
    /// When there is no certificate of an authority in it.
    pub fn trusting(self, pem: &[u8]) -> Result<Self, VerifierError> {
        match self {
            Self::Remote(remote) => Ok(Self::Remote(Arc::new(remote.trusting(pem)?))),
            local => Ok(local),
        }
    }

    /// The verifier if it is one that has to be asked.
    pub fn remote(&self) -> Option<&Arc<RemoteVerifier>> {
        match self {
            Self::Remote(remote) => Some(remote),
            Self::Jwt(_) | Self::Static(_) => None,
        }
    }

    /// Verifiers the token at `now_ms`, unix milliseconds. Costs some microseconds, or some hundreds of them for
    /// the public-key algorithms.
    pub fn verify(&self, token: &str, now_ms: u64) -> Verdict {
        if token.len() > TOKEN_BYTES_MAX {
            return Verdict::Refused(Refusal::TooLong);
        }
        match self {
            Self::Jwt(jwt) => jwt.verify(token, now_ms).into(),
            Self::Static(list) => list.verify(token, now_ms).into(),
            Self::Remote(_) => RemoteVerifier::refuse(token).map_or(Verdict::Ask, Verdict::Refused),
        }
    }
}

/// What a JWT must have beside a signature that holds; see [`Verifier::lenient`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rigour {
    Strict,
    Lenient,
}

/// Why settings and material make no verifier. Always the operator's to repair, and the text says how.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VerifierError {
    /// `algorithms` is missing, or an empty list.
    #[error(
        "algorithms is missing or empty; name what the issuer signs with, such as algorithms = [\"HS256\"]"
    )]
    NoAlgorithm,
    /// Not exactly one of the four key settings is there.
    #[error(
        "{found} of secret, secret_file, public_key_file and jwks_file are set; set exactly one"
    )]
    KeySources {
        /// How many are.
        found: usize,
    },
    /// The settings name a file whose content was not given.
    #[error("the file the settings name was not read")]
    MaterialMissing,
    /// The URL of a remote verifier does not do.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A name without a secret, or a secret without a name, or two secrets.
    #[error("client_id goes with exactly one of client_secret and client_secret_file")]
    ClientCredentials,
    /// The file of the client's secret.
    #[error("the file of the client's secret is not one line of UTF-8 text")]
    SecretText,
    /// The file of authorities.
    #[error(
        "ca_file is not PEM with the certificates of authorities; each begins with -----BEGIN CERTIFICATE-----"
    )]
    Authorities,
    /// The secret or the PEM file does not do.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The JWKS file does not do.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// The file of static tokens does not do.
    #[error(transparent)]
    Static(#[from] StaticError),
}
