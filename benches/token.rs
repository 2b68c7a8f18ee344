//! The cost of one verification: `cargo bench --bench token`.
//!
//! The token has a size that is usual with issuers: about 250 bytes with HS256.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use fanfare::token::{Algorithm, TokenSettings, Verdict, Verifier, mint};
use serde_json::{Map, Value, json};

const NOW_MS: u64 = 1_700_000_000_000;
const SECRET: &[u8] = b"an example secret that is long enough for HS512, 64 bytes or more";

fn verifier(settings: &str, material: &[u8]) -> Verifier {
    let settings: TokenSettings = toml::from_str(settings).expect("settings are TOML");
    Verifier::new(&settings, Some(material)).expect("the material fits")
}

fn claims() -> Map<String, Value> {
    let claims = json!({
        "iss": "https://issuer.example/",
        "sub": "alice@example.com",
        "aud": "cell1",
        "exp": 1_800_000_000,
        "scope": "event-read event",
    });
    match claims {
        Value::Object(claims) => claims,
        _ => Map::new(),
    }
}

fn verifying(criterion: &mut Criterion) {
    let secret = "secret_file = 's'";
    let public = "public_key_file = 'p'";
    let cases: [(Algorithm, &str, &[u8], &[u8]); 5] = [
        (Algorithm::HS256, secret, SECRET, SECRET),
        (Algorithm::HS512, secret, SECRET, SECRET),
        (
            Algorithm::RS256,
            public,
            include_bytes!("../tests/data/keys/rsa.pem"),
            include_bytes!("../tests/data/keys/rsa.pub.pem"),
        ),
        (
            Algorithm::ES256,
            public,
            include_bytes!("../tests/data/keys/p256.pem"),
            include_bytes!("../tests/data/keys/p256.pub.pem"),
        ),
        (
            Algorithm::EdDSA,
            public,
            include_bytes!("../tests/data/keys/ed25519.pem"),
            include_bytes!("../tests/data/keys/ed25519.pub.pem"),
        ),
    ];
    for (algorithm, source, private, material) in cases {
        let verifier =
            verifier(&format!("jwt = {{ algorithms = ['{algorithm:?}'], {source} }}"), material);
        let token = mint(algorithm, private, &claims()).expect("the key fits");
        assert!(matches!(verifier.verify(&token, NOW_MS), Verdict::Granted(_)));
        criterion.bench_function(
            &format!("verifier {algorithm:?}, {} bytes", token.len()),
            |bencher| {
                bencher.iter(|| verifier.verify(black_box(&token), NOW_MS));
            },
        );
    }
}

fn refusing(criterion: &mut Criterion) {
    let verifier = verifier("jwt = { algorithms = ['HS256'], secret_file = 's' }", SECRET);
    let token = mint(Algorithm::HS256, SECRET, &claims()).expect("the key fits");
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    criterion.bench_function("refuse HS256, forged", |bencher| {
        bencher.iter(|| verifier.verify(black_box(&forged), NOW_MS));
    });
    let longest = format!("{}.{}.{}", &token[..36], "A".repeat(16_000), &token[token.len() - 43..]);
    criterion.bench_function("refuse HS256, forged, 16 KB", |bencher| {
        bencher.iter(|| verifier.verify(black_box(&longest), NOW_MS));
    });
}

fn looking_up(criterion: &mut Criterion) {
    let list: String = (0..1000)
        .map(|n| format!("[[token]]\ntoken = 'token number {n}'\nsub = 'alice'\nscope = 'event'\n"))
        .collect();
    let verifier = verifier("static = { file = 'f' }", list.as_bytes());
    criterion.bench_function("look up one of 1000 static tokens", |bencher| {
        bencher.iter(|| verifier.verify(black_box("token number 500"), NOW_MS));
    });
}

criterion_group!(benches, verifying, refusing, looking_up);
criterion_main!(benches);
