//! How strictly JSON Web Tokens and their keys are checked.

/// What a JWT must have beside a signature that holds; see [`Verifier::lenient`](super::Verifier::lenient).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rigour {
    /// As the RFCs demand.
    Strict,
    /// As issuers have been making them all along.
    Lenient,
}
