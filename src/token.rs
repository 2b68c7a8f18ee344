//! Tokens: verifiers, and what a token grants.
//!
//! In the order things happen: the configuration describes a verifier ([`TokenSettings`]); `io`
//! reads the file it names ([`TokenSettings::file`]); [`Verifier::new`] makes a verifier of both,
//! or says what to change; [`Verifier::verify`] turns the text a client sent into a [`Verdict`].
//! Every verifier gives a [`Grant`]: claims and their expiry, so that a dialect asks "which topics"
//! and "until when" without knowing whether a signature, a list or another service answered. Such a
//! service is a [`RemoteVerifier`]: [`Verifier::verify`] returns [`Verdict::Ask`] then, and `io`
//! asks.
//!
//! What a claim means is up to the dialects: they compare `aud`, `iss` and `scope` with their cell,
//! hub or channel.
//!
//! Absent here: a clock (`now_ms` is an argument), files, threads, the network, and any state
//! between verifications. Nothing a token says is looked up before its signature holds: `kid` is
//! compared with the names of keys that are already loaded, and `jku`, `x5u` and `jwk` are not
//! read. No `Debug` or `Display` of this module shows a token, a secret or the value of a claim.

mod crypto;
mod error;
mod fixed;
mod grant;
mod inquiry;
mod introspection;
mod jwks;
mod jwt;
mod key;
mod mint;
mod moment;
mod refusal;
mod remote;
mod rigour;
mod settings;
mod unique;
mod wazo_auth;

use std::sync::Arc;

pub use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

pub use error::VerifierError;
pub use fixed::{EntryProblem, Static, StaticError};
pub use grant::{Grant, NEVER_MS};
pub use inquiry::{Finding, Timing, TokenInquiry};
pub use introspection::IntrospectionSettings;
pub use jwks::JwksError;
pub use jwt::Jwt;
pub use key::KeyError;
pub use mint::{MintError, mint, mint_leniently};
pub use moment::UNIX_S_MAX;
pub use refusal::{Refusal, TOKEN_BYTES_MAX};
pub use remote::{ANSWER_BYTES_MAX, RemoteVerifier};
use rigour::Rigour;
pub use settings::{JwtSettings, StaticSettings, TokenSettings};
pub use wazo_auth::WazoAuthSettings;

/// A verifier's decision about a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// The token is valid and grants this.
    Granted(Grant),
    /// The token is not valid.
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

/// The decision what a token grants. A verifier is `Send + Sync` and never changes: after a reload,
/// build another.
#[derive(Debug)]
pub enum Verifier {
    /// Checks a signature.
    Jwt(Jwt),
    /// Looks the token up in a list.
    Static(Static),
    /// Asks another service.
    Remote(Arc<RemoteVerifier>),
}

impl Verifier {
    /// Builds the verifier the settings describe. `material` is the content of
    /// [`TokenSettings::file`], and is not looked at when that is `None`.
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

    /// Like [`Verifier::new`], for a protocol whose issuers exist already: a token without `exp`
    /// never expires, any number is a time, `nbf` is checked before `exp`, and a secret may be
    /// short.
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
        // Before the file: its content means nothing to contradictory settings.
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

    /// This verifier; a remote one then needs a certificate from an authority in `pem`, the content
    /// of [`TokenSettings::ca_file`].
    ///
    /// # Errors
    /// When `pem` has no certificate of an authority.
    pub fn trusting(self, pem: &[u8]) -> Result<Self, VerifierError> {
        match self {
            Self::Remote(remote) => Ok(Self::Remote(Arc::new(remote.trusting(pem)?))),
            local => Ok(local),
        }
    }

    /// This verifier; a remote one then ends the sessions of a token whose later grant differs in
    /// one of these claims. Without a list every claim decides, the harmless ones too.
    #[must_use]
    pub fn deciding_by(self, claims: &'static [&'static str]) -> Self {
        match self {
            Self::Remote(remote) => Self::Remote(Arc::new(remote.deciding_by(claims))),
            local => local,
        }
    }

    /// The remote verifier, if this is one.
    pub fn remote(&self) -> Option<&Arc<RemoteVerifier>> {
        match self {
            Self::Remote(remote) => Some(remote),
            Self::Jwt(_) | Self::Static(_) => None,
        }
    }

    /// Verifies the token at `now_ms`, unix milliseconds. Costs some microseconds, or some hundreds
    /// of them for the public-key algorithms.
    pub fn verify(&self, token: &str, now_ms: u64) -> Verdict {
        if token.len() > TOKEN_BYTES_MAX {
            return Verdict::Refused(Refusal::TooLong);
        }

        match self {
            Self::Jwt(jwt) => jwt.verify(token, now_ms).into(),
            Self::Static(list) => list.verify(token, now_ms).into(),
            // What would make a malformed request is refused here, without a request.
            Self::Remote(_) => RemoteVerifier::refuse(token).map_or(Verdict::Ask, Verdict::Refused),
        }
    }
}
