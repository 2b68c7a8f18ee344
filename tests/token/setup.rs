//! Settings and key files: strict, and errors say what to change.

use super::*;

#[test]
fn settings_are_read_strictly() {
    for text in [
        "jwt = { algorithms = 'HS256', secret = 'x' }",
        "jwt = { algorithms = ['none'], secret = 'x' }",
        "jwt = { algorithms = ['ES512'], secret = 'x' }",
        "jwt = { algorithms = ['HS256'], secret = 'x', audience = 'y' }",
        "jwt = { algorithms = ['HS256'], secret = 'x', leeway_s = -1 }",
        "static = {}",
        "static = { file = 'f', files = [] }",
        "jwks = {}",
        "",
        "jwt = { algorithms = ['HS256'], secret = 'x' }\nstatic = { file = 'f' }",
    ] {
        assert!(toml::from_str::<TokenSettings>(text).is_err(), "{text}");
    }
}

#[test]
fn settings_name_the_file_they_need() {
    let file = |text| settings(text).file().map(|path| path.to_str().unwrap().to_owned());
    assert_eq!(file("jwt = { algorithms = ['HS256'], secret = 'x' }"), None);
    assert_eq!(file("jwt = { algorithms = ['HS256'], secret_file = '/s' }").as_deref(), Some("/s"));
    assert_eq!(
        file("jwt = { algorithms = ['RS256'], public_key_file = '/p' }").as_deref(),
        Some("/p")
    );
    assert_eq!(file("jwt = { algorithms = ['RS256'], jwks_file = '/j' }").as_deref(), Some("/j"));
    assert_eq!(file("static = { file = '/t' }").as_deref(), Some("/t"));
    for text in ["jwt = { algorithms = ['HS256'], secret_file = '/s' }", "static = { file = '/t' }"]
    {
        assert_eq!(
            Verifier::new(&settings(text), None).unwrap_err(),
            VerifierError::MaterialMissing
        );
    }
}

#[test]
fn settings_that_make_no_verifier_say_what_to_change() {
    let error = |jwt: &str, material: &[u8]| build(jwt, material).unwrap_err();
    assert_eq!(error("algorithms = [], secret = 'x'", b""), VerifierError::NoAlgorithm);
    assert_eq!(error("secret = 'x'", b""), VerifierError::NoAlgorithm);
    assert_eq!(error("algorithms = ['HS256']", b""), VerifierError::KeySources { found: 0 });
    assert_eq!(
        error("algorithms = ['HS256'], secret = 'x', jwks_file = 'j'", b"").to_string(),
        "2 of secret, secret_file, public_key_file and jwks_file are set; set exactly one"
    );
    assert_eq!(
        error("algorithms = ['HS256'], secret = 'twelve bytes'", b"").to_string(),
        "the secret is 12 bytes; HS256 needs at least 32 (RFC 7518 section 3.2), \
         as `openssl rand -base64 32` makes"
    );
    assert_eq!(
        error("algorithms = ['HS256', 'HS512'], secret_file = 's'", &SECRET[..63]),
        VerifierError::Key(KeyError::ShortSecret {
            bytes: 63,
            algorithm: Algorithm::HS512,
            bytes_min: 64
        })
    );
    assert_eq!(
        error("algorithms = ['HS256', 'RS256'], secret_file = 's'", SECRET).to_string(),
        "algorithm RS256 needs public_key_file or jwks_file"
    );
    assert_eq!(
        error("algorithms = ['RS256', 'HS256'], public_key_file = 'p'", RSA_PUBLIC).to_string(),
        "algorithm HS256 needs secret, secret_file or jwks_file"
    );
    assert_eq!(
        error("algorithms = ['HS256'], secret_file = 's'", RSA_PUBLIC),
        VerifierError::Key(KeyError::SecretIsPem)
    );
}

#[test]
fn a_public_key_file_holds_one_public_key_that_fits() {
    let error = |algorithms: &str, material: &[u8]| match build(
        &format!("algorithms = [{algorithms}], public_key_file = 'p'"),
        material,
    ) {
        Err(VerifierError::Key(error)) => error,
        other => panic!("a key error, not {other:?}"),
    };
    let unfit = |algorithm, needs| KeyError::Unfit { algorithm, needs };
    let p256 = unfit(Algorithm::ES256, "an EC key on the curve P-256");
    for private in [RSA, RSA_PKCS1, P256, P256_SEC1, P256_ENCRYPTED, ED25519] {
        assert_eq!(error("'RS256'", private), KeyError::PrivateKey);
    }
    assert_eq!(error("'ES256'", P256_CERTIFICATE), KeyError::Certificate);
    assert_eq!(error("'RS256'", b"ssh-ed25519 AAAA"), KeyError::NoPem);
    assert_eq!(error("'RS256'", b"\xff\xfe"), KeyError::NoPem);
    assert_eq!(error("'RS256'", b""), KeyError::NoPem);
    assert_eq!(error("'RS256'", &[RSA_PUBLIC, P256_PUBLIC].concat()), KeyError::SeveralKeys);
    assert_eq!(error("'RS256'", &RSA_PUBLIC[..200]), KeyError::Unreadable);
    assert_eq!(
        error("'RS256'", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
        KeyError::Unreadable
    );
    assert_eq!(error("'ES256'", RSA_PUBLIC), p256);
    assert_eq!(error("'ES256'", P384_PUBLIC), p256);
    assert_eq!(error("'ES256'", P521_PUBLIC), p256);
    assert_eq!(
        error("'ES384'", P256_PUBLIC),
        unfit(Algorithm::ES384, "an EC key on the curve P-384")
    );
    assert_eq!(error("'RS256', 'EdDSA'", RSA_PUBLIC), unfit(Algorithm::EdDSA, "an Ed25519 key"));
    assert_eq!(error("'PS256'", ED25519_PUBLIC), unfit(Algorithm::PS256, "an RSA key"));
    assert_eq!(error("'RS256'", RSA_1024_PUBLIC), KeyError::RsaSize);
    assert_eq!(error("'RS256'", RSA_8192_PUBLIC), KeyError::RsaSize);
    assert_eq!(error("'ES256'", P256_COMPRESSED), KeyError::CompressedPoint);
}

#[test]
fn a_key_set_skips_what_is_of_no_use() {
    let rsa = jwk(Algorithm::RS256, RSA, json!({"kid": "a", "x5t": "whatever"}));
    let keys = [
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "unheard-of"}),
        json!({"kty": 1}),
        json!({}),
        jwk(Algorithm::RS256, RSA_NEXT, json!({"kid": "enc", "use": "enc"})),
        jwk(Algorithm::RS256, RSA_NEXT, json!({"kid": "oaep", "alg": "RSA-OAEP"})),
        jwk(Algorithm::RS256, RSA_NEXT, json!({"kid": "ops", "key_ops": ["encrypt"]})),
        jwk(Algorithm::RS256, RSA_NEXT, json!({"kid": "hs", "alg": "HS256"})),
        rsa,
    ];
    let verifier = verifier("algorithms = ['RS256'], jwks_file = 'j'", &set(&keys));
    granted(verifier.verify(&with_kid(Algorithm::RS256, RSA, "a"), NOW_MS));
    for kid in ["enc", "oaep", "ops", "hs"] {
        let token = with_kid(Algorithm::RS256, RSA_NEXT, kid);
        assert_eq!(refused(verifier.verify(&token, NOW_MS)), Refusal::UnknownKey, "{kid}");
    }
}

#[test]
fn a_key_set_that_cannot_work_says_what_to_change() {
    let error = |algorithms: &str, material: &[u8]| match build(
        &format!("algorithms = [{algorithms}], jwks_file = 'j'"),
        material,
    ) {
        Err(VerifierError::Jwks(error)) => error,
        other => panic!("a key set error, not {other:?}"),
    };
    let with = |key: Value| error("'RS256','ES256','EdDSA','HS256'", &set(&[key]));
    let member = |member| JwksError::Member { number: 1, member };
    assert_eq!(error("'RS256'", b"{\n  x"), JwksError::Json { line: 2, column: 3 });
    for shape in ["[]", "{}", "1", r#"{"keys":{}}"#] {
        assert_eq!(error("'RS256'", shape.as_bytes()), JwksError::Shape, "{shape}");
    }
    assert_eq!(error("'RS256'", br#"{"keys":[1]}"#), JwksError::NotAnObject { number: 1 });
    assert_eq!(error("'RS256'", &set(&[])), JwksError::NoKeyFor { algorithm: Algorithm::RS256 });
    let rsa = jwk(Algorithm::RS256, RSA, json!({}));
    let ec = jwk(Algorithm::ES256, P256, json!({}));
    let ed = jwk(Algorithm::EdDSA, ED25519, json!({}));
    assert_eq!(
        error("'RS256','ES256'", &set(std::slice::from_ref(&rsa))).to_string(),
        "the JWKS file has no key for ES256; add one, or take ES256 off algorithms"
    );
    assert_eq!(error("'RS256'", &set(&vec![rsa.clone(); 17])), JwksError::TooMany { found: 17 });
    assert!(build("algorithms = ['RS256'], jwks_file = 'j'", &set(&vec![rsa.clone(); 16])).is_ok());

    let changed = |key: &Value, name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        key
    };
    assert_eq!(with(changed(&rsa, "d", json!("AA"))), JwksError::Private { number: 1 });
    assert_eq!(with(changed(&rsa, "kid", json!(7))), member("kid"));
    assert_eq!(with(changed(&rsa, "n", json!(7))), member("n"));
    assert_eq!(with(changed(&rsa, "e", json!("?"))), member("e"));
    let size = JwksError::Key { number: 1, problem: KeyError::RsaSize };
    assert_eq!(with(changed(&rsa, "n", json!("_w"))), size);
    assert_eq!(with(changed(&rsa, "e", json!("AQ"))), size);
    assert_eq!(with(changed(&rsa, "e", json!("AQAA"))), size);
    assert_eq!(with(changed(&ec, "x", json!("AA"))), member("x"));
    let off_curve = with(changed(&ec, "y", json!(URL_SAFE_NO_PAD.encode([1; 32]))));
    assert!(matches!(off_curve, JwksError::Key { problem: KeyError::Unfit { .. }, .. }));
    // The library's verifier panics on this one.
    assert_eq!(with(changed(&ed, "x", json!("AA"))), member("x"));
    let short = with(json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(&SECRET[..31])}));
    assert!(matches!(
        short,
        JwksError::Key { problem: KeyError::ShortSecret { bytes: 31, .. }, .. }
    ));
}

#[test]
fn minting_takes_a_private_key_that_fits() {
    let error = |algorithm, material: &[u8]| match mint(algorithm, material, &good_claims()) {
        Err(MintError::Key(error)) => error,
        other => panic!("a key error, not {other:?}"),
    };
    for public in [RSA_PUBLIC, RSA_PKCS1_PUBLIC, P256_PUBLIC, P256_CERTIFICATE] {
        assert_eq!(error(Algorithm::RS256, public), KeyError::PublicKey);
    }
    assert_eq!(error(Algorithm::ES256, P256_SEC1), KeyError::Sec1);
    assert_eq!(error(Algorithm::ES256, P256_ENCRYPTED), KeyError::Encrypted);
    assert_eq!(error(Algorithm::RS256, RSA_1024), KeyError::RsaSize);
    // Verifiers take such a key.
    assert_eq!(error(Algorithm::RS256, RSA_E3), KeyError::RsaSigning);
    assert_eq!(error(Algorithm::RS256, b"secret"), KeyError::NoPem);
    assert_eq!(error(Algorithm::HS256, RSA), KeyError::SecretIsPem);
    assert!(matches!(error(Algorithm::HS256, b"short"), KeyError::ShortSecret { .. }));
    assert!(matches!(error(Algorithm::ES256, P384), KeyError::Unfit { .. }));
    assert!(matches!(error(Algorithm::ES256, RSA), KeyError::Unfit { .. }));
    assert!(matches!(error(Algorithm::RS256, ED25519), KeyError::Unfit { .. }));
}
