//! Why settings and key material do not make a verifier.

use super::fixed::StaticError;
use super::jwks::JwksError;
use super::key::KeyError;
use crate::endpoint::UrlError;

/// Why settings and key material do not make a verifier. Always up to the operator, and the text
/// says what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VerifierError {
    /// `algorithms` is missing, or an empty list.
    #[error(
        "algorithms is missing or empty; name what the issuer signs with, such as algorithms = \
         [\"HS256\"]"
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
    /// A file is configured and its content was not given.
    #[error("the configured file was not read")]
    MaterialMissing,
    /// The URL of a remote verifier is not usable.
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
        "ca_file is not PEM with certificates of authorities; each begins with -----BEGIN \
         CERTIFICATE-----"
    )]
    Authorities,
    /// The secret or the PEM file is not usable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The JWKS file is not usable.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// The file of static tokens is not usable.
    #[error(transparent)]
    Static(#[from] StaticError),
}
