//! Tokens, keys and lists of tokens, and the answers of remote verifiers.

use super::{Input, NOW};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare::token::{Finding, Grant, TokenInquiry, TokenSettings, Verdict, Verifier};
use hmac::{Hmac, Mac as _};
use std::sync::LazyLock;

const SECRET: &[u8] = b"an example secret that is long enough for HS512, 64 bytes or more";
const RSA: &[u8] = include_bytes!("../../data/keys/rsa.pub.pem");
const P256: &[u8] = include_bytes!("../../data/keys/p256.pub.pem");
const ED25519: &[u8] = include_bytes!("../../data/keys/ed25519.pub.pem");

/// A verifier for which every claim decides.
static ISSUER: LazyLock<Verifier> = LazyLock::new(|| {
    let text = "introspection = { url = 'https://issuer.example' }";
    Verifier::new(&settings(text), None).expect("a verifier without keys")
});

/// Verifiers of tokens signed with [`SECRET`], the lenient one last.
static SIGNED: LazyLock<[Verifier; 2]> = LazyLock::new(|| {
    let text = "jwt = { algorithms = ['HS256'], secret_file = 's', leeway_s = 60 }";
    let lenient = Verifier::lenient(&settings(text), Some(SECRET)).expect("a verifier of a secret");
    [verifier(text, SECRET), lenient]
});

static LOCAL: LazyLock<[Verifier; 4]> = LazyLock::new(|| {
    [
        ("jwt = { algorithms = ['HS256', 'HS512'], secret_file = 's' }", SECRET),
        ("jwt = { algorithms = ['RS256', 'PS256'], public_key_file = 'p' }", RSA),
        ("jwt = { algorithms = ['ES256'], public_key_file = 'p' }", P256),
        ("jwt = { algorithms = ['EdDSA'], public_key_file = 'p' }", ED25519),
    ]
    .map(|(text, material)| verifier(text, material))
});

static REMOTE: LazyLock<[Verifier; 2]> = LazyLock::new(|| {
    ["introspection = { url = 'http://i/' }", "wazo_auth = { url = 'https://pbx:9497/' }"]
        .map(|text| verifier(text, b""))
});

/// The first byte chooses the meaning of the rest.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    match input.byte() % 8 {
        0 => signed(&mut input),
        1 => written(input.0),
        2 => jwks(&mut input),
        3 => built("jwt = { algorithms = ['RS256'], public_key_file = 'p' }", input.0, ""),
        4 => built("jwt = { algorithms = ['ES256'], public_key_file = 'p' }", input.0, ""),
        5 => list(&mut input),
        6 => answered(
            "introspection = { url = 'https://i/', roles = { 'r1' = ['b', 'a'] } }",
            &mut input,
        ),
        _ => answered("wazo_auth = { url = 'https://pbx:9497/' }", &mut input),
    }
}

fn settings(text: &str) -> TokenSettings {
    toml::from_str(text).expect("settings are TOML")
}

fn verifier(text: &str, material: &[u8]) -> Verifier {
    Verifier::new(&settings(text), Some(material)).expect("a verifier of valid keys")
}

/// A header and claims, separated by NUL, with a valid signature.
fn signed(input: &mut Input<'_>) {
    let (header, claims) = (input.until(0), input.0);
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET).expect("any length does");
    mac.update(message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    SIGNED.iter().for_each(|verifier| check(&verifier.verify(&token, NOW.unix_ms)));
}

/// A token in any form.
fn written(bytes: &[u8]) {
    let Ok(token) = std::str::from_utf8(bytes) else { return };
    LOCAL.iter().for_each(|verifier| check(&verifier.verify(token, NOW.unix_ms)));
    let [introspection, wazo_auth] = &*REMOTE;
    if introspection.verify(token, NOW.unix_ms) == Verdict::Ask {
        let remote = introspection.remote().expect("it is remote");
        let asked = remote.request(TokenInquiry::Grant, token);
        assert!(!asked.uri().to_string().contains(token) || token.len() < 16);
    }
    if wazo_auth.verify(token, NOW.unix_ms) == Verdict::Ask {
        let remote = wazo_auth.remote().expect("it is remote");
        let asked = remote.request(TokenInquiry::Recheck, token);
        assert_eq!(asked.uri().path().matches('/').count(), 3, "a token is one segment: {token:?}");
    }
}

/// A set of keys and, after a NUL, a token.
fn jwks(input: &mut Input<'_>) {
    let (set, token) = (input.until(0), input.0);
    let token = String::from_utf8_lossy(token);
    built(
        "jwt = { algorithms = ['HS256', 'RS256', 'ES256', 'EdDSA'], jwks_file = 'j' }",
        set,
        &token,
    );
    built("jwt = { algorithms = ['HS256'], jwks_file = 'j' }", set, &token);
    built("jwt = { algorithms = ['ES256'], jwks_file = 'j' }", set, &token);
}

/// A list of tokens and, after a NUL, one of them.
fn list(input: &mut Input<'_>) {
    let (list, token) = (input.until(0), input.0);
    built("static = { file = 'tokens.toml' }", list, &String::from_utf8_lossy(token));
}

/// Any material makes a verifier, or an error that gives the reason without a part of the
/// material.
fn built(text: &str, material: &[u8], token: &str) {
    match Verifier::new(&settings(text), Some(material)) {
        Ok(verifier) => check(&verifier.verify(token, NOW.unix_ms)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The status and the body of a verifier's answer.
fn answered(text: &str, input: &mut Input<'_>) {
    let (status, inquiry) = match input.byte() % 4 {
        0 => (200, TokenInquiry::Recheck),
        1 => (u16::from(input.byte()) + 200, TokenInquiry::Grant),
        _ => (200, TokenInquiry::Grant),
    };
    let verifier = Verifier::new(&settings(text), None).expect("a verifier without keys");
    let remote = verifier.remote().expect("it is remote");
    match remote.read(inquiry, status, input.0, NOW.unix_ms) {
        Finding::Granted(grant) => {
            let left_s = grant.expires_at_ms.saturating_sub(NOW.unix_ms) / 1000;
            assert!(remote.recheck_in_s(left_s) > 0, "it would be asked without a pause");
            check(&Verdict::Granted(grant));
        }
        Finding::Confirmed => assert_eq!(inquiry, TokenInquiry::Recheck),
        Finding::Refused(refusal) => assert!(!refusal.to_string().is_empty()),
        Finding::Unclear(reason) => assert!(!reason.is_empty()),
    }
}

/// A grant is valid now, and stays the same on its way between threads and processes.
fn check(verdict: &Verdict) {
    let Verdict::Granted(grant) = verdict else { return };
    assert!(grant.expires_at_ms > NOW.unix_ms);
    assert!(ISSUER.remote().expect("it is remote").grants_the_same(grant, grant));
    let written = serde_json::to_string(grant).expect("a grant is written as JSON");
    let read: Grant = serde_json::from_str(&written).expect("and read");
    assert_eq!(read.expires_at_ms, grant.expires_at_ms);
    // A fraction may be read as its neighbour; a text may not.
    for claim in ["sub", "scope", "acl", "channel", "pulsar_produce"] {
        assert_eq!(read.text(claim), grant.text(claim));
        assert!(read.words(claim).eq(grant.words(claim)));
        assert_eq!(read.list(claim), grant.list(claim));
    }
}
