//! The `token` table of the configuration: which verifier, and where its keys are.
//!
//! `token = { jwt = { algorithms = ["HS256"], secret_file = "/etc/fanfare/jwt.secret" } }`, `token
//! = { static = { file = "/etc/fanfare/tokens.toml" } }`, or a verifier to be asked over HTTP:
//! `token = { introspection = { url = "https://…" } }`, `token = { wazo_auth = { url = "https://…"
//! } }`.
//!
//! Rules that span several settings are checked by [`TokenSettings::check`] and not while TOML is
//! read: a TOML error quotes its line, which may contain the secret. Named files are not opened
//! here.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::Algorithm;
use super::error::VerifierError;
use super::introspection::IntrospectionSettings;
use super::wazo_auth::WazoAuthSettings;
use crate::setting::Secret;

/// Longest leeway, in seconds: what RFC 7519 section 4.1.4 calls "a few minutes" at most, kept to
/// one minute because hosts that run NTP differ by far less and a revoked session lives on for this
/// long.
const LEEWAY_S_MAX: u64 = 60;

/// The algorithms that a configuration can name.
const NAMES: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

/// What verifies tokens.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum TokenSettings {
    /// JSON Web Tokens (RFC 7519), signed by an issuer.
    Jwt(JwtSettings),
    /// Ask the issuer about each token (RFC 7662), once for all clients that bring it, and again
    /// from time to time for as long as one of them stays.
    Introspection(IntrospectionSettings),
    /// Ask wazo-auth about each token, once for all clients that bring it, and again from time to
    /// time for as long as one of them stays.
    #[serde(rename = "wazo_auth")]
    WazoAuth(WazoAuthSettings),
    /// A list of tokens, for development and tests.
    Static(StaticSettings),
}

impl TokenSettings {
    /// The file whose content [`Verifier::new`](super::Verifier::new) needs; `None` when it needs
    /// none.
    pub fn file(&self) -> Option<&Path> {
        match self {
            // At most one is set, or `check` has refused the table.
            Self::Jwt(jwt) => [&jwt.secret_file, &jwt.public_key_file, &jwt.jwks_file]
                .into_iter()
                .flatten()
                .next(),
            Self::Static(list) => Some(&list.file),
            Self::Introspection(introspection) => introspection.client_secret_file.as_ref(),
            Self::WazoAuth(_) => None,
        }
        .map(PathBuf::as_path)
    }

    /// These settings, with HS256 for JWTs where no algorithm is named.
    #[must_use]
    pub fn or_hs256(mut self) -> Self {
        if let Self::Jwt(jwt) = &mut self
            && jwt.algorithms.is_empty()
        {
            jwt.algorithms.push(Algorithm::HS256);
        }
        self
    }

    /// The file whose content [`Verifier::trusting`](super::Verifier::trusting) takes, if one is
    /// named.
    pub fn ca_file(&self) -> Option<&Path> {
        match self {
            Self::Jwt(_) | Self::Static(_) => None,
            Self::Introspection(introspection) => introspection.ca_file.as_deref(),
            Self::WazoAuth(wazo_auth) => wazo_auth.ca_file.as_deref(),
        }
    }

    /// What is wrong with the `token` of a table, with what to do. `unfit` names verifiers that are
    /// of no use to the table, each with advice.
    #[must_use]
    pub fn problem(&self, table: &str, unfit: &[(&str, &str)]) -> Option<String> {
        let name = match self {
            Self::Jwt(_) => "jwt",
            Self::Introspection(_) => "introspection",
            Self::WazoAuth(_) => "wazo_auth",
            Self::Static(_) => "static",
        };
        // A verifier of the wrong kind is the first thing to change; its own settings matter no
        // more then.
        let problem = match unfit.iter().find(|(unfit, _)| *unfit == name) {
            Some((_, advice)) => (*advice).to_owned(),
            None => self.check().err()?.to_string(),
        };
        Some(format!("[{table}] token: {problem}"))
    }

    /// Checks everything that can be checked before the file is read.
    /// [`Verifier::new`](super::Verifier::new) does so too.
    ///
    /// # Errors
    /// The first setting that is not usable.
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
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    /// HS256, HS384, HS512 with a secret; RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,
    /// EdDSA with a public key.
    #[serde(default)]
    #[schemars(with = "Vec<String>", extend("items" = { "enum": NAMES }, "x-sample" = ["HS256"]))]
    pub(super) algorithms: Vec<Algorithm>,
    /// The file with the secret: at least 32 bytes for HS256, 48 for HS384, 64 for HS512. Let the
    /// file belong to the daemon's user with mode 0400: a program that reads it can make tokens.
    #[schemars(extend("x-sample" = "/etc/fanfare/jwt.secret"))]
    secret_file: Option<PathBuf>,
    /// The same, in this file, which is then a secret too.
    secret: Option<Secret>,
    /// Instead of a secret: the issuer's public key in PEM.
    #[schemars(example = &"/etc/fanfare/jwt.pem")]
    public_key_file: Option<PathBuf>,
    /// Or the issuer's keys as a JSON Web Key Set, of which several may be valid at once.
    #[schemars(example = &"/etc/fanfare/jwks.json")]
    jwks_file: Option<PathBuf>,
    /// Seconds by which clocks may differ. If they differ by more, synchronise them.
    #[serde(default)]
    #[schemars(range(max = LEEWAY_S_MAX))]
    pub(super) leeway_s: u64,
}

impl JwtSettings {
    fn check(&self) -> Result<(), VerifierError> {
        if self.algorithms.is_empty() {
            return Err(VerifierError::NoAlgorithm);
        }

        // Exactly one: of two keys it would be unclear which one a token must be signed with.
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
        // The text in the configuration needs no file, so `material` is not looked at.
        if let Some(secret) = &self.secret {
            return Ok(KeySource::Secret(secret.0.as_bytes()));
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
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct StaticSettings {
    /// The list.
    #[schemars(example = &"/etc/fanfare/tokens.toml")]
    file: PathBuf,
}
