//! Makes tokens, for trying the daemon out and for tests.
//!
//! A key passes the same checks as a verifier's, so tokens minted here can be verified there. The
//! claims are signed as they are: which ones a dialect needs, and the time, are up to the caller.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use serde_json::{Map, Value};

use super::Algorithm;
use super::key::{KeyError, signing_key};
use super::refusal::TOKEN_BYTES_MAX;
use super::rigour::Rigour;

/// Signs the claims. `key_material` is a secret for the HS algorithms (a line ending after it is
/// ignored) and a private key in PEM for the others. A verifier requires an `exp` in unix seconds
/// among the claims.
///
/// # Errors
/// What is wrong with the key, or that the token would be too long to be verified.
///
/// ```
/// use fanfare::token::{Algorithm, mint};
///
/// let serde_json::Value::Object(claims) = serde_json::json!({"sub": "alice", "exp": 1_900_000_000}) else {
///     unreachable!()
/// };
/// let token = mint(Algorithm::HS256, b"a secret that is at least 32 bytes long", &claims)?;
/// assert_eq!(token.split('.').count(), 3);
/// # Ok::<(), fanfare::token::MintError>(())
/// ```
pub fn mint(
    algorithm: Algorithm,
    key_material: &[u8],
    claims: &Map<String, Value>,
) -> Result<String, MintError> {
    sign(algorithm, key_material, claims, Rigour::Strict)
}

/// As [`mint`], for a verifier that is lenient: a secret may be short, and `exp` may be missing.
///
/// # Errors
/// As [`mint`].
pub fn mint_leniently(
    algorithm: Algorithm,
    key_material: &[u8],
    claims: &Map<String, Value>,
) -> Result<String, MintError> {
    sign(algorithm, key_material, claims, Rigour::Lenient)
}

fn sign(
    algorithm: Algorithm,
    key_material: &[u8],
    claims: &Map<String, Value>,
    rigour: Rigour,
) -> Result<String, MintError> {
    let signer = signing_key(algorithm, key_material, rigour)?;
    let header = serde_json::to_vec(&Header::new(algorithm)).map_err(|_| MintError::Signing)?;

    // The signature covers the encoded text, not the JSON (RFC 7515 section 5.1).
    let claims = serde_json::to_vec(claims).map_err(|_| MintError::Signing)?;
    let mut token = URL_SAFE_NO_PAD.encode(header) + ".";
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature = signer.sign(token.as_bytes()).ok_or(MintError::Signing)?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);

    // Rather than a token that every verifier refuses unseen.
    if token.len() > TOKEN_BYTES_MAX {
        return Err(MintError::TooLong { bytes: token.len() });
    }
    Ok(token)
}

/// Why no token was made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MintError {
    /// The key is not usable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key looks right and does not sign.
    #[error(
        "the private key does not sign; check it with `openssl pkey -check -noout -in private.pem`"
    )]
    Signing,
    /// No verifier would look at the token.
    #[error(
        "the token would be {bytes} bytes, and at most {TOKEN_BYTES_MAX} are verified; use fewer \
         claims"
    )]
    TooLong {
        /// Length of the token.
        bytes: usize,
    },
}
