//! Why a token is refused.

use serde::{Deserialize, Serialize};

/// Longest token that is examined, in bytes. Longer ones are refused before anything is decoded.
/// Servers commonly allow 8 KiB of request headers in all, so a token that arrived in one is well
/// below this.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Why a token is refused. Nearly always the client's fault, or its issuer's; the text contains no
/// part of the token and is fit for a log.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not three parts of base64url, or a part is not the JSON object it has to be; for a remote
    /// verifier, nothing that it could have issued.
    #[error("the token is not well formed")]
    Malformed,
    /// `alg` is not one of the configured algorithms (`none` never is).
    #[error("the token names an algorithm that is not configured")]
    Algorithm,
    /// `crit` is present; no extension that it could name is implemented (RFC 7515 section 4.1.11).
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
    /// `exp` is not a number from 0 to [`UNIX_S_MAX`](super::UNIX_S_MAX).
    #[error("the token's exp claim is not a time in unix seconds")]
    BadExpiry,
    /// `nbf` is there and is not a number from 0 to [`UNIX_S_MAX`](super::UNIX_S_MAX).
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
    /// A remote verifier has refused it.
    #[error("the verifier says that the token is not valid")]
    Inactive,
    /// A remote verifier accepts the token and its answer lacks what a grant needs.
    #[error("the verifier's answer lacks what a grant needs")]
    Incomplete,
    /// A repeated name, of which it is not for us to choose a value.
    #[error("the token's claims, or the verifier's answer about it, have a name twice")]
    Ambiguous,
    /// The remote verifier cannot be reached, or its answer not be understood. Not the client's
    /// fault.
    #[error("the verifier of tokens cannot be asked")]
    Unavailable,
}
