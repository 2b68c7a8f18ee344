//! The `token` table of the configuration: which verifier, and where its keys are.
//!
//! `token = { jwt = { algorithms = ["HS256"], secret_file = "/etc/fanfare/jwt.secret" } }`,
//! `token = { static = { file = "/etc/fanfare/tokens.toml" } }`, or a verifier to be asked over HTTP:
//! `token = { introspection = { url = "https://…" } }`, `token = { wazo_auth = { url = "https://…" } }`.
//!
//! Rules that span several settings are checked by [`TokenSettings::check`] and not while TOML is read: a
//! TOML error quotes the line it is about, and that line may have the secret in it. This module does not
//! open the files it names and does not know what is in them.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::introspection::IntrospectionSettings;
use super::wazo_auth::WazoAuthSettings;
use super::{Algorithm, VerifierError};

/// Longest leeway, in seconds: what RFC 7519 section 4.1.4 calls "a few minutes" at most, kept to one minute
/// because hosts that run NTP differ by far less and a revoked session lives on for this long.
pub(super) const LEEWAY_S_MAX: u64 = 60;

/// Which verifier, and what it needs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum TokenSettings {
    /// JSON Web Tokens (RFC 7519), signed by an issuer.
    Jwt(JwtSettings),
    /// A file that lists the tokens, for development and tests.
    Static(StaticSettings),
    /// The issuer, asked about each token (RFC 7662).
    Introspection(IntrospectionSettings),
    /// The token service of a Wazo PBX.
    #[serde(rename = "wazo_auth")]
    WazoAuth(WazoAuthSettings),
}

impl TokenSettings {
    /// The file whose content [`Verifier::new`](super::Verifier::new) needs; `None` when it needs none.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Jwt(jwt) => {
                [&jwt.secret_file, &jwt.public_key_file, &jwt.jwks_file].into_iter().flatten().next()
            }
            Self::Static(list) => Some(&list.file),
            Self::Introspection(introspection) => introspection.client_secret_file.as_ref(),
            Self::WazoAuth(_) => None,
        }
        .map(PathBuf::as_path)
    }

    /// The same, only that JWTs are signed with HS256 where no algorithm is named.
    #[must_use]
    pub fn or_hs256(mut self) -> Self {
        if let Self::Jwt(jwt) = &mut self
            && jwt.algorithms.is_empty()
        {
            jwt.algorithms.push(Algorithm::HS256);
        }
        self
    }

    /// The file whose content [`Verifier::trusting`](super::Verifier::trusting) takes, if one is named.
    pub fn ca_file(&self) -> Option<&Path> {
        match self {
            Self::Jwt(_) | Self::Static(_) => None,
            Self::Introspection(introspection) => introspection.ca_file.as_deref(),
            Self::WazoAuth(wazo_auth) => wazo_auth.ca_file.as_deref(),
        }
    }

    /// Checks all that can be checked before the file is read. [`Verifier::new`](super::Verifier::new) does it too.
    ///
    /// # Errors
    /// The first setting that does not do.
    pub fn check(&self) -> Result<(), VerifierError> {
        match self {
            Self::Jwt(jwt) => jwt.check(),
            Self::Static(_) => Ok(()),
            Self::Introspection(introspection) => introspection.check(),
            Self::WazoAuth(wazo_auth) => wazo_auth.check(),
        }
    }
}

/// `token.jwt`: what tokens are signed with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    #[serde(default)]
    pub(super) algorithms: Vec<Algorithm>,
    secret: Option<JwtSecret>,
    secret_file: Option<PathBuf>,
    public_key_file: Option<PathBuf>,
    jwks_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) leeway_s: u64,
}

impl JwtSettings {
    fn check(&self) -> Result<(), VerifierError> {
        if self.algorithms.is_empty() {
            return Err(VerifierError::NoAlgorithm);
        }
        if self.leeway_s > LEEWAY_S_MAX {
            return Err(VerifierError::Leeway { leeway_s: self.leeway_s });
        }
        let sources = [
            self.secret.is_some(),
            self.secret_file.is_some(),
            self.public_key_file.is_some(),
            self.jwks_file.is_some(),
        ];
        match sources.into_iter().filter(|set| *set).count() {
            1 => Ok(()),
            found => Err(VerifierError::KeySources { found }),
        }
    }

    /// Where the keys come from, with the content of the file if it is one.
    pub(super) fn key_source<'a>(
        &'a self,
        material: Option<&'a [u8]>,
    ) -> Result<KeySource<'a>, VerifierError> {
        if let Some(secret) = &self.secret {
            return Ok(KeySource::Secret(secret.text().as_bytes()));
        }
        let material = material.ok_or(VerifierError::MaterialMissing)?;
        Ok(if self.secret_file.is_some() {
            KeySource::Secret(material)
        } else if self.public_key_file.is_some() {
            KeySource::PublicKey(material)
        } else {
            KeySource::Jwks(material)
        })
    }
}

/// The three shapes keys come in.
pub(super) enum KeySource<'a> {
    Secret(&'a [u8]),
    PublicKey(&'a [u8]),
    Jwks(&'a [u8]),
}

/// `token.static`: where the tokens are listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct StaticSettings {
    file: PathBuf,
}

/// A secret that stands in the configuration itself.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub(super) struct JwtSecret(String);

impl JwtSecret {
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
