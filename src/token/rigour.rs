//! How strictly JSON Web Tokens and their keys are checked.

/// How much a JWT needs besides a valid signature; see
/// [`Verifier::lenient`](super::Verifier::lenient).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rigour {
    /// As the RFCs demand.
    Strict,
    /// As existing issuers make them.
    Lenient,
}
