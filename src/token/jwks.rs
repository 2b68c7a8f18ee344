//! A JWK set (RFC 7517 section 5) becomes the keys that fit the configured algorithms.
//!
//! Several keys are how an issuer rotates its key: the next one is published before it signs, and
//! the last one stays until what it signed has expired. As the RFC asks, keys of no use here are
//! skipped: other algorithms, other curves, encryption keys. A key that would be of use and is
//! broken is an error, since skipping it would refuse good tokens silently.
//!
//! The set is read by hand from JSON rather than by the library's types, whose errors quote the
//! values and which take a key with a broken part for one of unknown type. This module does not
//! fetch sets.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::Algorithm;
use super::key::{JwtKey, KeyError, KeyName, check_secret_length};

/// Most keys of a set that fit the configured algorithms. A token without a `kid` tries them all,
/// so this bounds what one hostile token costs. Issuers publish two or three.
const KEYS_MAX: usize = 16;

/// The keys of the set that fit any of the algorithms; at least one for each algorithm.
pub(super) fn keys(material: &[u8], algorithms: &[Algorithm]) -> Result<Vec<JwtKey>, JwksError> {
    let set: Value = serde_json::from_slice(material)
        .map_err(|error| JwksError::Json { line: error.line(), column: error.column() })?;
    let written = set.get("keys").and_then(Value::as_array).ok_or(JwksError::Shape)?;

    let mut keys = Vec::new();
    for (index, jwk) in written.iter().enumerate() {
        let number = index + 1;
        let Some(jwk) = jwk.as_object() else { return Err(JwksError::NotAnObject { number }) };
        if let Some(key) = key(jwk, algorithms, number)? {
            keys.push(key);
        }
    }
    if keys.len() > KEYS_MAX {
        return Err(JwksError::TooMany { found: keys.len() });
    }

    // An algorithm without a key refuses every token signed with it: find out now rather than from
    // users.
    match algorithms.iter().find(|&&algorithm| !keys.iter().any(|key| key.works_with(algorithm))) {
        Some(&algorithm) => Err(JwksError::NoKeyFor { algorithm }),
        None => Ok(keys),
    }
}

/// The key, or `None` when it is of no use with these algorithms.
fn key(
    jwk: &Map<String, Value>,
    algorithms: &[Algorithm],
    number: usize,
) -> Result<Option<JwtKey>, JwksError> {
    // The kind decides first: an `alg` of another family would let a public key pass as a secret.
    let mut usable: Vec<Algorithm> = kind_algorithms(jwk)
        .iter()
        .copied()
        .filter(|algorithm| algorithms.contains(algorithm))
        .collect();
    if let Some(own) = jwk.get("alg") {
        usable
            .retain(|algorithm| own.as_str().and_then(|own| own.parse().ok()) == Some(*algorithm));
    }

    if usable.is_empty() || !verifies(jwk) {
        return Ok(None);
    }
    // The public half is there as well, but the private one does not belong on this host.
    if jwk.contains_key("d") {
        return Err(JwksError::Private { number });
    }

    let name = match jwk.get("kid") {
        None => KeyName::Unnamed,
        Some(Value::String(kid)) => KeyName::Named(kid.clone()),
        Some(_) => return Err(JwksError::Member { number, member: "kid" }),
    };

    let key = decoding_key(jwk, &usable, number)?;
    JwtKey::new(name, usable, key).map(Some).map_err(|problem| JwksError::Key { number, problem })
}

/// The algorithms a key of this kind can serve, whatever it says about itself.
fn kind_algorithms(jwk: &Map<String, Value>) -> &'static [Algorithm] {
    use Algorithm::{
        ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
    };
    let member = |name| jwk.get(name).and_then(Value::as_str);
    match (member("kty"), member("crv")) {
        (Some("RSA"), _) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        (Some("oct"), _) => &[HS256, HS384, HS512],
        (Some("EC"), Some("P-256")) => &[ES256],
        (Some("EC"), Some("P-384")) => &[ES384],
        (Some("OKP"), Some("Ed25519")) => &[EdDSA],
        _ => &[],
    }
}

/// Whether `use` and `key_ops` (RFC 7517 sections 4.2 and 4.3) let the key check signatures.
fn verifies(jwk: &Map<String, Value>) -> bool {
    let by_use = jwk.get("use").is_none_or(|purpose| purpose == "sig");
    let by_operations = jwk.get("key_ops").is_none_or(|operations| {
        operations
            .as_array()
            .is_some_and(|operations| operations.iter().any(|name| name == "verify"))
    });
    by_use && by_operations
}

/// A member in base64url and its bytes, of which there are `bytes` if that is given: the library
/// joins coordinates of any length to a point.
fn key_member<'a>(
    jwk: &'a Map<String, Value>,
    number: usize,
    member: &'static str,
    bytes: Option<usize>,
) -> Result<(&'a str, Vec<u8>), JwksError> {
    let broken = JwksError::Member { number, member };
    let Some(text) = jwk.get(member).and_then(Value::as_str) else { return Err(broken) };
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(decoded) if bytes.is_none_or(|bytes| bytes == decoded.len()) => Ok((text, decoded)),
        _ => Err(broken),
    }
}

/// The key itself, from the members its kind has (RFC 7518 section 6, RFC 8037 section 2).
fn decoding_key(
    jwk: &Map<String, Value>,
    usable: &[Algorithm],
    number: usize,
) -> Result<DecodingKey, JwksError> {
    let text = |member, bytes| key_member(jwk, number, member, bytes);
    let key = match usable.first() {
        Some(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) => {
            // Before the library takes it, which accepts a secret of any length.
            let (_, secret) = text("k", None)?;
            usable
                .iter()
                .try_for_each(|&algorithm| check_secret_length(secret.len(), algorithm))
                .map_err(|problem| JwksError::Key { number, problem })?;
            Ok(DecodingKey::from_secret(&secret))
        }
        Some(Algorithm::ES256) => {
            DecodingKey::from_ec_components(text("x", Some(32))?.0, text("y", Some(32))?.0)
        }
        Some(Algorithm::ES384) => {
            DecodingKey::from_ec_components(text("x", Some(48))?.0, text("y", Some(48))?.0)
        }
        Some(Algorithm::EdDSA) => DecodingKey::from_ed_components(text("x", Some(32))?.0),
        _ => DecodingKey::from_rsa_components(text("n", None)?.0, text("e", None)?.0),
    };

    key.map_err(|_| JwksError::Key { number, problem: KeyError::Unreadable })
}

/// What is wrong with a JWK set, and what to do about it. Keys are counted from 1.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JwksError {
    /// Not JSON.
    #[error("the JWKS file is not JSON: see line {line}, column {column}")]
    Json {
        /// Line of the file, from 1.
        line: usize,
        /// Column of the line, from 1.
        column: usize,
    },
    /// No `keys`.
    #[error(
        "the JWKS file is not a key set; it has the form {{\"keys\": [ … ]}} (RFC 7517 section 5)"
    )]
    Shape,
    /// An element of `keys` is not an object.
    #[error("key {number} of the JWKS file is not an object")]
    NotAnObject {
        /// Position of the key.
        number: usize,
    },
    /// A member of a key is missing or not what it has to be.
    #[error(
        "key {number} of the JWKS file has no usable \"{member}\"; export the set from the \
         issuer again"
    )]
    Member {
        /// Position of the key.
        number: usize,
        /// The member's name.
        member: &'static str,
    },
    /// A private key.
    #[error(
        "key {number} of the JWKS file is private, which only the issuer should have; export the \
         public set"
    )]
    Private {
        /// Position of the key.
        number: usize,
    },
    /// A key is not usable.
    #[error("key {number} of the JWKS file: {problem}")]
    Key {
        /// Position of the key.
        number: usize,
        /// What is wrong with it.
        problem: KeyError,
    },
    /// Too many keys.
    #[error(
        "the JWKS file has {found} keys for these algorithms; at most {KEYS_MAX} are allowed, so \
         drop retired ones"
    )]
    TooMany {
        /// How many keys fit.
        found: usize,
    },
    /// An algorithm is configured in vain.
    #[error(
        "the JWKS file has no key for {algorithm:?}; add one, or take {algorithm:?} off algorithms"
    )]
    NoKeyFor {
        /// The configured algorithm.
        algorithm: Algorithm,
    },
}
