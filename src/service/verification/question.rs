//! What sessions ask about tokens, and what they are answered.

use crate::token::Verdict;

/// Which question of which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The connection.
    pub id: u32,
    /// Tells its questions, and those of connections that had the same number before, apart.
    pub number: u32,
}

/// Which of the configured verifiers.
pub type VerifierId = u8;

/// What a shard has to say to the remote verifiers.
pub enum TokenQuestion {
    /// Verify this token by this verifier.
    Verify(Ticket, VerifierId, Box<str>),
    /// The token is good no more, whatever the verifier has said of it; a [`TokenQuestion::Forget`] follows.
    Doubt(Ticket),
    /// Nothing waits for the answer any more, and the token may be taken back.
    Forget(Ticket),
}

/// What the remote verifiers have to say to a shard.
pub enum TokenAnswer {
    /// What they think of the token; never [`Verdict::Ask`].
    Verified(Verdict),
    /// The token that they granted is good no more.
    Revoked,
}
