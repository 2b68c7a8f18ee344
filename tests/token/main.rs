//! What the token verifiers promise, seen from outside: data in, verdict out, time as an argument.
//!
//! Here: keys, helpers and what must never happen. `jwt`: keys and headers of tokens. `claims`: times and
//! claims. `setup`: settings and key files that make no verifier. `list`: static tokens. `remote`: verifiers that are
//! asked over HTTP.

// Helpers outside of `#[test]` functions may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod claims;
mod jwt;
mod list;
mod remote;
mod setup;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare::token::{
    Algorithm, EntryProblem, Grant, JwksError, KeyError, MintError, NEVER_MS, Refusal, StaticError,
    TOKEN_BYTES_MAX, TokenSettings, UNIX_S_MAX, Verdict, Verifier, VerifierError, mint,
};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const SECRET: &[u8] = b"an example secret that is long enough for HS512, 64 bytes or more";
const RSA: &[u8] = include_bytes!("../data/keys/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../data/keys/rsa.pub.pem");
const RSA_PKCS1: &[u8] = include_bytes!("../data/keys/rsa_pkcs1.pem");
const RSA_PKCS1_PUBLIC: &[u8] = include_bytes!("../data/keys/rsa_pkcs1.pub.pem");
const RSA_NEXT: &[u8] = include_bytes!("../data/keys/rsa_next.pem");
const RSA_1024: &[u8] = include_bytes!("../data/keys/rsa_1024.pem");
const RSA_1024_PUBLIC: &[u8] = include_bytes!("../data/keys/rsa_1024.pub.pem");
const RSA_8192_PUBLIC: &[u8] = include_bytes!("../data/keys/rsa_8192.pub.pem");
const RSA_E3: &[u8] = include_bytes!("../data/keys/rsa_e3.pem");
const P256: &[u8] = include_bytes!("../data/keys/p256.pem");
const P256_PUBLIC: &[u8] = include_bytes!("../data/keys/p256.pub.pem");
const P256_COMPRESSED: &[u8] = include_bytes!("../data/keys/p256_compressed.pub.pem");
const P256_SEC1: &[u8] = include_bytes!("../data/keys/p256_sec1.pem");
const P256_ENCRYPTED: &[u8] = include_bytes!("../data/keys/p256_encrypted.pem");
const P256_CERTIFICATE: &[u8] = include_bytes!("../data/keys/p256.cert.pem");
const P384: &[u8] = include_bytes!("../data/keys/p384.pem");
const P384_PUBLIC: &[u8] = include_bytes!("../data/keys/p384.pub.pem");
const P521_PUBLIC: &[u8] = include_bytes!("../data/keys/p521.pub.pem");
const ED25519: &[u8] = include_bytes!("../data/keys/ed25519.pem");
const ED25519_PUBLIC: &[u8] = include_bytes!("../data/keys/ed25519.pub.pem");

/// The moment of the tests, in both units.
const NOW_S: u64 = 1_700_000_000;
const NOW_MS: u64 = NOW_S * 1000;

fn settings(text: &str) -> TokenSettings {
    toml::from_str(text).unwrap()
}

fn build(jwt: &str, material: &[u8]) -> Result<Verifier, VerifierError> {
    Verifier::new(&settings(&format!("jwt = {{ {jwt} }}")), Some(material))
}

fn verifier(jwt: &str, material: &[u8]) -> Verifier {
    build(jwt, material).unwrap()
}

fn hs256() -> Verifier {
    verifier("algorithms = ['HS256'], secret_file = 's'", SECRET)
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(claims) = value else { panic!("claims are an object") };
    claims
}

fn good_claims() -> Map<String, Value> {
    object(json!({"sub": "alice", "exp": NOW_S + 60}))
}

fn granted(verdict: Verdict) -> Grant {
    match verdict {
        Verdict::Granted(grant) => grant,
        other => panic!("granted, not {other:?}"),
    }
}

fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        other => panic!("refused, not {other:?}"),
    }
}

/// A token with this text as header and claims, under a true HS256 signature.
fn signed_hs256(header: &str, payload: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn with_payload(payload: &str) -> Verdict {
    hs256().verify(&signed_hs256(r#"{"alg":"HS256"}"#, payload), NOW_MS)
}

fn with_header(header: &str) -> Verdict {
    hs256().verify(&signed_hs256(header, &format!(r#"{{"exp":{}}}"#, NOW_S + 60)), NOW_MS)
}

fn encoding_key(algorithm: Algorithm, material: &[u8]) -> EncodingKey {
    match format!("{algorithm:?}").get(..2).unwrap() {
        "HS" => EncodingKey::from_secret(material),
        "ES" => EncodingKey::from_ec_pem(material).unwrap(),
        "Ed" => EncodingKey::from_ed_pem(material).unwrap(),
        _ => EncodingKey::from_rsa_pem(material).unwrap(),
    }
}

/// The public half of a key as a member of a JWK set, with more members.
fn jwk(algorithm: Algorithm, material: &[u8], more: Value) -> Value {
    let key = Jwk::from_encoding_key(&encoding_key(algorithm, material), algorithm).unwrap();
    let mut key = object(serde_json::to_value(key).unwrap());
    key.remove("alg");
    key.extend(object(more));
    Value::Object(key)
}

fn set(keys: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&json!({ "keys": keys })).unwrap()
}

fn with_kid(algorithm: Algorithm, material: &[u8], kid: &str) -> String {
    let mut header = Header::new(algorithm);
    header.kid = Some(kid.to_owned());
    jsonwebtoken::encode(&header, &good_claims(), &encoding_key(algorithm, material)).unwrap()
}

fn list(text: &str) -> Result<Verifier, StaticError> {
    match Verifier::new(&settings("static = { file = 'f' }"), Some(text.as_bytes())) {
        Ok(verifier) => Ok(verifier),
        Err(VerifierError::Static(error)) => Err(error),
        Err(other) => panic!("a list error, not {other:?}"),
    }
}

#[test]
fn neither_tokens_nor_secrets_nor_claims_are_shown() {
    let secret = "hushhush-hushhush-hushhush-hushhush";
    let text = format!("jwt = {{ algorithms = ['HS256'], secret = '{secret}' }}");
    let settings = settings(&text);
    let verifier = Verifier::new(&settings, None).unwrap();
    let claims = object(json!({"exp": NOW_S + 60, "sub": "hushhush"}));
    let verdict =
        verifier.verify(&mint(Algorithm::HS256, secret.as_bytes(), &claims).unwrap(), NOW_MS);
    let listed = list("[[token]]\ntoken = 'hushhush'\nsub = 'hushhush'\n").unwrap();
    let listed_verdict = listed.verify("hushhush", NOW_MS);
    let errors = [
        list("[[token]]\ntoken = hushhush").unwrap_err().to_string(),
        list("hushhush = 1").unwrap_err().to_string(),
        list("[[token]]\ntoken = 'hushhush'\n[[token]]\ntoken = 'hushhush'")
            .unwrap_err()
            .to_string(),
        build("algorithms = ['HS256'], secret = 'hushhush'", b"").unwrap_err().to_string(),
        build("algorithms = ['HS256'], jwks_file = 'j'", b"hushhush").unwrap_err().to_string(),
        build(
            "algorithms = ['HS256'], jwks_file = 'j'",
            br#"{"keys":[{"kty":"oct","k":"hushhush"}]}"#,
        )
        .unwrap_err()
        .to_string(),
    ];
    assert!(matches!((&verdict, &listed_verdict), (Verdict::Granted(_), Verdict::Granted(_))));
    let shown =
        format!("{settings:?} {verifier:?} {verdict:?} {listed:?} {listed_verdict:?} {errors:?}");
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn a_verifier_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Verifier>();
    shared::<TokenSettings>();
    shared::<Verdict>();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_upsets_a_verifier(token in "\\PC{0,80}|[A-Za-z0-9_.-]{0,200}") {
        prop_assert!(matches!(hs256().verify(&token, NOW_MS), Verdict::Refused(_)));
    }

    #[test]
    fn no_header_or_claims_upset_a_verifier(header in "\\PC{0,60}", payload in "\\PC{0,60}") {
        let token = signed_hs256(&header, &payload);
        prop_assert!(matches!(hs256().verify(&token, NOW_MS), Verdict::Refused(_)));
        let token = signed_hs256(r#"{"alg":"HS256"}"#, &payload);
        prop_assert!(matches!(hs256().verify(&token, NOW_MS), Verdict::Refused(_)));
    }

    #[test]
    fn a_token_changed_in_one_place_is_refused(place in 0usize..150, byte in "[A-Za-z0-9_.-]") {
        let token = mint(Algorithm::HS256, SECRET, &good_claims()).unwrap();
        let place = place % token.len();
        let changed = format!("{}{byte}{}", &token[..place], &token[place + 1..]);
        prop_assume!(changed != token);
        prop_assert!(matches!(hs256().verify(&changed, NOW_MS), Verdict::Refused(_)));
    }
}
