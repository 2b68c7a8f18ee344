//! What a verified token grants: a set of claims and their expiry, in one form for all verifiers.
//!
//! What a claim means is not known here. No `Debug` shows the value of one.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// [`Grant::expires_at_ms`] of a token that never expires: a static one, or a JWT where its
/// verifier is lenient.
pub const NEVER_MS: u64 = u64::MAX;

/// What a verified token grants: claims in one form for all verifiers.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The first moment, in unix milliseconds, at which the same token is refused as expired; the
    /// leeway is included. [`NEVER_MS`] when it never is, so add to it with `saturating_add` only.
    pub expires_at_ms: u64,
    claims: Map<String, Value>,
}

impl Grant {
    /// A grant of these claims until `expires_at_ms`.
    pub fn new(expires_at_ms: u64, claims: Map<String, Value>) -> Self {
        Self { expires_at_ms, claims }
    }

    /// The names of the claims.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.claims.keys().map(String::as_str)
    }

    /// The claim as it was written, or `None` when the token does not have it.
    pub fn claim(&self, claim: &str) -> Option<&Value> {
        self.claims.get(claim)
    }

    /// The claim if it is a string.
    ///
    /// ```
    /// # use fanfare::token::Grant;
    /// # let serde_json::Value::Object(claims) = serde_json::json!({"sub": "alice", "n": 1}) else { panic!() };
    /// let grant = Grant::new(0, claims);
    /// assert_eq!(grant.text("sub"), Some("alice"));
    /// assert_eq!(grant.text("n"), None);
    /// ```
    pub fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    /// The words of a claim that is a space-separated string (as `scope` is, RFC 8693 section 4.2)
    /// or an array of strings. An absent claim and a claim of any other type have no words.
    ///
    /// ```
    /// # use fanfare::token::Grant;
    /// # let serde_json::Value::Object(claims) = serde_json::json!({"scope": "event  root"}) else { panic!() };
    /// let grant = Grant::new(0, claims);
    /// assert!(grant.words("scope").eq(["event", "root"]));
    /// assert_eq!(grant.words("absent").count(), 0);
    /// ```
    pub fn words<'a>(&'a self, claim: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        // A broken array grants no word at all, not those that can be read.
        let (text, items) = match self.claims.get(claim) {
            Some(Value::String(text)) => (text.as_str(), [].as_slice()),
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
                ("", items.as_slice())
            }
            _ => ("", [].as_slice()),
        };
        text.split(' ')
            .filter(|word| !word.is_empty())
            .chain(items.iter().filter_map(Value::as_str))
    }

    /// The strings of a claim that is one string or an array of strings (as `aud` is, RFC 7519
    /// section 4.1.3). `None` only when the token does not have the claim. A claim of any other
    /// type, or an array with anything but strings in it, is an empty list: a claim that narrows a
    /// grant and is written wrongly then lets nothing through, rather than everything.
    ///
    /// ```
    /// # use fanfare::token::Grant;
    /// # let serde_json::Value::Object(claims) =
    /// #     serde_json::json!({"aud": "cell", "event_types": ["a", 1]}) else { panic!() };
    /// let grant = Grant::new(0, claims);
    /// assert_eq!(grant.list("aud"), Some(vec!["cell"]));
    /// assert_eq!(grant.list("event_types"), Some(vec![]));
    /// assert_eq!(grant.list("absent"), None);
    /// ```
    pub fn list(&self, claim: &str) -> Option<Vec<&str>> {
        Some(match self.claims.get(claim)? {
            Value::String(text) => vec![text],
            Value::Array(items) => {
                // One item of another type empties the whole list, see above.
                items.iter().map(Value::as_str).collect::<Option<_>>().unwrap_or_default()
            }
            _ => Vec::new(),
        })
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("expires_at_ms", &self.expires_at_ms)
            .field("claims", &format_args!("[{} redacted]", self.claims.len()))
            .finish()
    }
}
