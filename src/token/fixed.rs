//! The verifier that looks tokens up in a list, for development and tests.
//!
//! The list is TOML. Each `[[token]]` has a `token`, perhaps an `expires_at`, and every other key
//! is a claim:
//!
//! ```toml
//! [[token]]
//! token = "letmein"
//! expires_at = 2030-01-01T00:00:00Z   # or unix seconds; without it the token never expires
//! aud = "cell1"
//! scope = "event root"
//! ```
//!
//! A token is found by a hash seeded anew for each verifier, and then compared in constant time, so
//! the time a refusal takes reveals nothing about a guess. An empty list is valid: it is how the
//! last token is revoked.
//!
//! This module does not know what a claim means, and its errors do not quote the file.

use std::collections::HashMap;
use std::fmt;

use ahash::RandomState;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::grant::{Grant, NEVER_MS};
use super::moment::{self, UNIX_S_MAX};
use super::refusal::{Refusal, TOKEN_BYTES_MAX};

/// Most tokens of a list; larger sets of tokens need an issuer.
const TOKENS_MAX: usize = 65_536;

/// Verifies tokens by a list of them.
pub struct Static {
    hasher: RandomState,
    /// Tokens by their hash; nearly always one.
    tokens: HashMap<u64, Vec<Listed>, RandomState>,
}

struct Listed {
    token: String,
    grant: Grant,
}

impl Static {
    /// Reads the list.
    pub(super) fn new(material: &[u8]) -> Result<Self, StaticError> {
        let entries = entries(material)?;
        if entries.len() > TOKENS_MAX {
            return Err(StaticError::TooMany { found: entries.len() });
        }

        let mut list = Self { hasher: RandomState::new(), tokens: HashMap::default() };
        for (index, entry) in entries.into_iter().enumerate() {
            let number = index + 1;
            let listed = listed(entry).map_err(|problem| StaticError::Entry { number, problem })?;
            if list.find(&listed.token).is_some() {
                return Err(StaticError::Entry { number, problem: EntryProblem::Repeated });
            }
            list.tokens.entry(list.hasher.hash_one(&listed.token)).or_default().push(listed);
        }

        Ok(list)
    }

    pub(super) fn verify(&self, token: &str, now_ms: u64) -> Result<Grant, Refusal> {
        let listed = self.find(token).ok_or(Refusal::UnknownToken)?;
        if now_ms >= listed.grant.expires_at_ms {
            return Err(Refusal::Expired);
        }
        Ok(listed.grant.clone())
    }

    fn find(&self, token: &str) -> Option<&Listed> {
        // The comparison still takes as long for a wrong token as for the right one: a hash alone
        // proves nothing.
        let alike = self.tokens.get(&self.hasher.hash_one(token))?;
        alike.iter().find(|listed| listed.token.as_bytes().ct_eq(token.as_bytes()).into())
    }
}

impl fmt::Debug for Static {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: usize = self.tokens.values().map(Vec::len).sum();
        f.debug_struct("Static").field("tokens", &count).finish()
    }
}

/// The `[[token]]` tables of the file.
fn entries(material: &[u8]) -> Result<Vec<toml::Value>, StaticError> {
    let text =
        std::str::from_utf8(material).map_err(|error| place(material, error.valid_up_to()))?;
    // toml's own error text quotes the line, which may be a token.
    let mut file: toml::Table = toml::from_str(text)
        .map_err(|error| place(material, error.span().map_or(0, |span| span.start)))?;

    let entries = match file.remove("token") {
        None => Vec::new(),
        Some(toml::Value::Array(entries)) => entries,
        Some(_) => return Err(StaticError::Shape),
    };

    // A misspelled [[tokens]] would otherwise be an empty list that refuses everybody.
    if file.is_empty() { Ok(entries) } else { Err(StaticError::Shape) }
}

fn place(material: &[u8], offset: usize) -> StaticError {
    let before = &material[..offset.min(material.len())];
    StaticError::Toml { line: 1 + before.iter().filter(|byte| **byte == b'\n').count() }
}

fn listed(entry: toml::Value) -> Result<Listed, EntryProblem> {
    let toml::Value::Table(mut entry) = entry else { return Err(EntryProblem::NotATable) };

    let token = match entry.remove("token") {
        Some(toml::Value::String(token)) if !token.is_empty() => token,
        _ => return Err(EntryProblem::NoToken),
    };
    // Clients that bring longer ones are refused before the list is searched.
    if token.len() > TOKEN_BYTES_MAX {
        return Err(EntryProblem::TooLong);
    }

    let expires_at_ms = match entry.remove("expires_at") {
        None => NEVER_MS,
        Some(written) => unix_ms(&written).ok_or(EntryProblem::ExpiresAt)?,
    };
    // Verifiers of JWTs act on these claims; here they would look like limits and be none.
    if entry.contains_key("exp") || entry.contains_key("nbf") {
        return Err(EntryProblem::JwtTime);
    }

    let claims = json(toml::Value::Table(entry)).ok_or(EntryProblem::NotFinite)?;
    match claims {
        Value::Object(claims) => Ok(Listed { token, grant: Grant::new(expires_at_ms, claims) }),
        _ => Err(EntryProblem::NotATable),
    }
}

/// The TOML value as JSON, dates as text. `None` for the numbers JSON does not have.
fn json(value: toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::Number(serde_json::Number::from_f64(number)?),
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => {
            Value::Array(items.into_iter().map(json).collect::<Option<_>>()?)
        }
        toml::Value::Table(table) => Value::Object(
            table
                .into_iter()
                .map(|(key, value)| Some((key, json(value)?)))
                .collect::<Option<Map<_, _>>>()?,
        ),
    })
}

/// Unix milliseconds of a moment or of unix seconds, from 0 to [`UNIX_S_MAX`].
fn unix_ms(written: &toml::Value) -> Option<u64> {
    let ms = match written {
        toml::Value::Integer(seconds) => seconds.checked_mul(1000)?,
        toml::Value::Datetime(time) => moment::unix_ms(time, None)?,
        _ => return None,
    };
    u64::try_from(ms).ok().filter(|ms| ms / 1000 <= UNIX_S_MAX)
}

/// What is wrong with a list of tokens, and what to do about it. Tokens are counted from 1.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StaticError {
    /// Not TOML.
    #[error("the file of tokens is not TOML: see line {line}")]
    Toml {
        /// Line of the file, from 1.
        line: usize,
    },
    /// Anything but `[[token]]`.
    #[error(
        "the file of tokens has keys outside of [[token]] tables; put each token into a table of \
         its own"
    )]
    Shape,
    /// Too many.
    #[error("the file lists {found} tokens; at most {TOKENS_MAX} are allowed, so use jwt instead")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// One of them is not usable.
    #[error("token {number} of the file: {problem}")]
    Entry {
        /// Position of the token.
        number: usize,
        /// What is wrong with it.
        problem: EntryProblem,
    },
}

/// What is wrong with one token of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EntryProblem {
    /// Not a table.
    #[error("it is not a [[token]] table")]
    NotATable,
    /// No `token`.
    #[error("it has no text under token; write token = \"…\"")]
    NoToken,
    /// Longer than any token that is looked at.
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// The same token as one before.
    #[error("the same token is listed before; keep one")]
    Repeated,
    /// Not a moment.
    #[error(
        "expires_at is neither unix seconds nor a time with its offset, such as \
         2030-01-01T00:00:00Z"
    )]
    ExpiresAt,
    /// The names of a JWT's times, which mean nothing here.
    #[error("exp and nbf have no effect in a list; use expires_at")]
    JwtTime,
    /// `nan` or `inf`.
    #[error("a claim is nan or inf; use a number")]
    NotFinite,
}
