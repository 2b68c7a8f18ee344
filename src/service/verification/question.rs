//! Sessions' questions about tokens, and the answers.

use crate::service::DialectId;
use crate::token::{Grant, Refusal};
use serde::{Deserialize, Serialize};

/// A question about a token, for a remote verifier. Only a connection's latest counts; `attempt`
/// distinguishes it from earlier ones.
#[derive(Debug, Serialize, Deserialize)]
pub enum TokenQuestion {
    /// Verify this token; answered by a [`TokenAnswer`], perhaps followed by
    /// [`TokenAnswer::Revoked`].
    Verify {
        /// The dialect whose verifier to ask.
        dialect: DialectId,
        /// The number of the question within the connection.
        attempt: u32,
        /// The token; never logged.
        token: Box<str>,
    },
    /// The token is no longer valid, whatever the verifier said; a [`TokenQuestion::Forget`]
    /// follows.
    Doubt {
        /// The number of the question that was granted.
        attempt: u32,
    },
    /// The session needs no answer any more, and no word of a revocation.
    Forget {
        /// The number of the question.
        attempt: u32,
    },
}

impl TokenQuestion {
    /// A question from a session; the shard fills in the dialect and the number.
    #[must_use]
    pub fn verify(token: &str) -> Self {
        Self::Verify { dialect: DialectId(0), attempt: 0, token: token.into() }
    }
}

/// The answer about a connection's token.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum TokenAnswer {
    /// The token is valid, with this grant.
    Granted(Grant),
    /// The token is not valid, or could not be checked.
    Refused(Refusal),
    /// The verifier revoked the token that it granted last.
    Revoked,
}

impl From<Result<Grant, Refusal>> for TokenAnswer {
    fn from(result: Result<Grant, Refusal>) -> Self {
        match result {
            Ok(grant) => Self::Granted(grant),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}
