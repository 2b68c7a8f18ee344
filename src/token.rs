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
pub use remote::{ANSWER_BYTES_MAX, RemoteVerifier, grants_the_same};
use rigour::Rigour;
pub use settings::{JwtSettings, StaticSettings, TokenSettings};
pub use wazo_auth::WazoAuthSettings;

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
