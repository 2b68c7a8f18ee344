//! What sessions ask about tokens, and what they are answered.

use crate::service::DialectId;
use crate::token::{Grant, Refusal};
use serde::{Deserialize, Serialize};

/// A question about a token, for a remote verifier. A connection has one at most that counts; `attempt` tells it from
/// the ones before.
#[derive(Debug, Serialize, Deserialize)]
pub enum TokenQuestion {
    /// Verify this token; answered by a [`TokenAnswer`], and perhaps by [`TokenAnswer::Revoked`] later.
    Verify {
        /// The dialect whose verifier is asked.
        dialect: DialectId,
        /// Which question of the connection it is.
        attempt: u32,
        /// The token; never shown.
        token: Box<str>,
    },
    /// The token is good no more, whatever the verifier has said of it; a [`TokenQuestion::Forget`] follows.
    Doubt {
        /// Which question of the connection was answered by that.
        attempt: u32,
    },
    /// The answer is not waited for any more, and the token may be taken back.
    Forget {
        /// Which question of the connection it was.
        attempt: u32,
    },
}

impl TokenQuestion {
    /// A token to be verified, as a session asks for it: the rest is its shard's to say.
    #[must_use]
    pub fn verify(token: &str) -> Self {
        Self::Verify { dialect: DialectId(0), attempt: 0, token: token.into() }
    }
}

/// What a verifier says of a connection's token.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum TokenAnswer {
    /// It is good and grants this.
    Granted(Grant),
    /// It is not good.
    Refused(Refusal),
    /// A remote verifier has taken back the token that it granted last.
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
