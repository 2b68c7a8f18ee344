//! Keys and headers: which tokens hold a signature that counts.

use super::*;

#[test]
fn every_algorithm_verifiers_what_it_mints() {
    use Algorithm::*;
    let secret = "secret_file = 's'";
    let public = "public_key_file = 'p'";
    let cases = [
        (HS256, SECRET, secret, SECRET),
        (HS384, SECRET, secret, SECRET),
        (HS512, SECRET, secret, SECRET),
        (RS256, RSA, public, RSA_PUBLIC),
        (RS384, RSA, public, RSA_PKCS1_PUBLIC),
        (RS512, RSA_PKCS1, public, RSA_PUBLIC),
        (PS256, RSA, public, RSA_PUBLIC),
        (PS384, RSA, public, RSA_PKCS1_PUBLIC),
        (PS512, RSA_PKCS1, public, RSA_PUBLIC),
        (ES256, P256, public, P256_PUBLIC),
        (ES384, P384, public, P384_PUBLIC),
        (EdDSA, ED25519, public, ED25519_PUBLIC),
    ];
    for (algorithm, private, source, material) in cases {
        let verifier = verifier(&format!("algorithms = ['{algorithm:?}'], {source}"), material);
        let token = mint(algorithm, private, &good_claims()).unwrap();
        let grant = granted(verifier.verify(&token, NOW_MS));
        assert_eq!(
            (grant.text("sub"), grant.expires_at_ms),
            (Some("alice"), NOW_MS + 60_000),
            "{algorithm:?}"
        );

        let mut other = good_claims();
        other.insert("sub".to_owned(), json!("mallory"));
        let other = mint(algorithm, private, &other).unwrap();
        let (head, _) = other.rsplit_once('.').unwrap();
        let (_, signature) = token.rsplit_once('.').unwrap();
        let forged = format!("{head}.{signature}");
        assert_eq!(refused(verifier.verify(&forged, NOW_MS)), Refusal::Signature, "{algorithm:?}");
    }
}

#[test]
fn every_algorithm_works_from_a_key_set() {
    use Algorithm::*;
    let keys = [
        json!({"kty": "oct", "kid": "hs", "k": URL_SAFE_NO_PAD.encode(SECRET)}),
        jwk(RS256, RSA, json!({"kid": "rsa", "use": "sig"})),
        jwk(ES256, P256, json!({"kid": "p256", "key_ops": ["verify"]})),
        jwk(ES384, P384, json!({"kid": "p384"})),
        jwk(EdDSA, ED25519, json!({"kid": "ed"})),
    ];
    let all = "'HS256','HS384','HS512','RS256','RS384','RS512','PS256','PS384','PS512','ES256','ES384','EdDSA'";
    let verifier = verifier(&format!("algorithms = [{all}], jwks_file = 'j'"), &set(&keys));
    let cases = [
        (HS256, SECRET, "hs"),
        (HS512, SECRET, "hs"),
        (RS256, RSA, "rsa"),
        (PS512, RSA, "rsa"),
        (ES256, P256, "p256"),
        (ES384, P384, "p384"),
        (EdDSA, ED25519, "ed"),
    ];
    for (algorithm, material, kid) in cases {
        granted(verifier.verify(&mint(algorithm, material, &good_claims()).unwrap(), NOW_MS));
        granted(verifier.verify(&with_kid(algorithm, material, kid), NOW_MS));
    }
}

/// RFC 7515 appendices A.1 (HS256) and A.3 (ES256): keys and tokens made by others.
#[test]
fn the_examples_of_rfc_7515_are_granted_until_their_exp() {
    let keys = json!({"keys": [
        {"kty": "oct",
         "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
         "alg": "HS256"},
        {"kty": "EC", "crv": "P-256",
         "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
         "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]});
    let verifier =
        verifier("algorithms = ['HS256', 'ES256'], jwks_file = 'j'", keys.to_string().as_bytes());
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let hs256 = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{payload}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    let es256 = format!(
        "eyJhbGciOiJFUzI1NiJ9.{payload}.\
         DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    for token in [hs256, es256] {
        let grant = granted(verifier.verify(&token, 1_300_819_379_999));
        assert_eq!(grant.text("iss"), Some("joe"));
        assert_eq!(grant.claim("http://example.com/is_root"), Some(&json!(true)));
        assert_eq!(refused(verifier.verify(&token, 1_300_819_380_000)), Refusal::Expired);
    }
}

#[test]
fn the_secret_may_have_a_line_ending_behind_it() {
    let token = mint(Algorithm::HS256, SECRET, &good_claims()).unwrap();
    for ending in ["\n", "\r\n"] {
        let material = [SECRET, ending.as_bytes()].concat();
        granted(
            verifier("algorithms = ['HS256'], secret_file = 's'", &material).verify(&token, NOW_MS),
        );
        assert_eq!(mint(Algorithm::HS256, &material, &good_claims()).unwrap(), token);
    }
    let inline =
        format!("algorithms = ['HS256'], secret = '{}'", std::str::from_utf8(SECRET).unwrap());
    let inline = Verifier::new(&settings(&format!("jwt = {{ {inline} }}")), None).unwrap();
    granted(inline.verify(&token, NOW_MS));
}

#[test]
fn an_unsigned_token_is_refused() {
    for alg in ["none", "None", "NONE", "", "HS1", "hs256"] {
        assert_eq!(
            refused(with_header(&format!(r#"{{"alg":"{alg}"}}"#))),
            Refusal::Algorithm,
            "{alg}"
        );
    }
    let unsigned = signed_hs256(r#"{"alg":"HS256"}"#, r#"{"exp":1800000000}"#);
    let (message, _) = unsigned.rsplit_once('.').unwrap();
    assert_eq!(refused(hs256().verify(&format!("{message}."), NOW_MS)), Refusal::Signature);
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let verifier = verifier("algorithms = ['RS256'], public_key_file = 'p'", RSA_PUBLIC);
    let confused = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &good_claims(),
        &EncodingKey::from_secret(RSA_PUBLIC),
    )
    .unwrap();
    assert_eq!(refused(verifier.verify(&confused, NOW_MS)), Refusal::Algorithm);

    // Even with HS256 allowed beside it: the set's RSA key serves RSA algorithms only.
    let keys = set(&[
        jwk(Algorithm::RS256, RSA, json!({"kid": "rsa"})),
        json!({"kty": "oct", "kid": "hs", "k": URL_SAFE_NO_PAD.encode(SECRET)}),
    ]);
    let verifier = self::verifier("algorithms = ['RS256', 'HS256'], jwks_file = 'j'", &keys);
    assert_eq!(refused(verifier.verify(&confused, NOW_MS)), Refusal::Signature);
    let named = with_kid(Algorithm::HS256, RSA_PUBLIC, "rsa");
    assert_eq!(refused(verifier.verify(&named, NOW_MS)), Refusal::UnknownKey);
}

#[test]
fn an_algorithm_that_is_not_configured_is_refused() {
    let verifier = verifier("algorithms = ['RS256'], public_key_file = 'p'", RSA_PUBLIC);
    for algorithm in [Algorithm::RS512, Algorithm::PS256] {
        let token = mint(algorithm, RSA, &good_claims()).unwrap();
        assert_eq!(refused(verifier.verify(&token, NOW_MS)), Refusal::Algorithm);
    }
}

#[test]
fn a_key_of_a_set_serves_only_the_algorithm_it_names() {
    let keys = set(&[
        jwk(Algorithm::RS256, RSA, json!({"kid": "a", "alg": "RS256"})),
        jwk(Algorithm::RS256, RSA_NEXT, json!({"kid": "b", "alg": "PS256"})),
    ]);
    let verifier = verifier("algorithms = ['RS256', 'PS256'], jwks_file = 'j'", &keys);
    granted(verifier.verify(&with_kid(Algorithm::RS256, RSA, "a"), NOW_MS));
    granted(verifier.verify(&with_kid(Algorithm::PS256, RSA_NEXT, "b"), NOW_MS));
    assert_eq!(
        refused(verifier.verify(&with_kid(Algorithm::PS256, RSA, "a"), NOW_MS)),
        Refusal::UnknownKey
    );
    let unnamed = mint(Algorithm::PS256, RSA, &good_claims()).unwrap();
    assert_eq!(refused(verifier.verify(&unnamed, NOW_MS)), Refusal::Signature);
}

#[test]
fn during_a_key_rotation_both_keys_are_good() {
    let old = jwk(Algorithm::RS256, RSA, json!({"kid": "2024"}));
    let new = jwk(Algorithm::RS256, RSA_NEXT, json!({"kid": "2025"}));
    let jwt = "algorithms = ['RS256'], jwks_file = 'j'";
    let by_old = with_kid(Algorithm::RS256, RSA, "2024");
    let by_new = with_kid(Algorithm::RS256, RSA_NEXT, "2025");

    let overlap = verifier(jwt, &set(&[old.clone(), new.clone()]));
    granted(overlap.verify(&by_old, NOW_MS));
    granted(overlap.verify(&by_new, NOW_MS));
    for unnamed in [RSA, RSA_NEXT] {
        granted(overlap.verify(&mint(Algorithm::RS256, unnamed, &good_claims()).unwrap(), NOW_MS));
    }
    let swapped = with_kid(Algorithm::RS256, RSA, "2025");
    assert_eq!(refused(overlap.verify(&swapped, NOW_MS)), Refusal::Signature);

    let after = verifier(jwt, &set(&[new]));
    assert_eq!(refused(after.verify(&by_old, NOW_MS)), Refusal::UnknownKey);
    let before = verifier(jwt, &set(&[old]));
    assert_eq!(refused(before.verify(&by_new, NOW_MS)), Refusal::UnknownKey);
}

#[test]
fn a_kid_is_a_name_and_nothing_else() {
    let keys = [
        jwk(Algorithm::RS256, RSA, json!({"kid": "a"})),
        jwk(Algorithm::RS256, RSA_NEXT, json!({})),
    ];
    let verifier = verifier("algorithms = ['RS256'], jwks_file = 'j'", &set(&keys));
    for kid in
        ["../../dev/null", "/dev/null", "", "a\0", "A", "a' OR '1'='1", "https://evil.example/jwks"]
    {
        let token = with_kid(Algorithm::RS256, RSA, kid);
        assert_eq!(refused(verifier.verify(&token, NOW_MS)), Refusal::UnknownKey, "{kid:?}");
    }
    // A key without a name is not picked by any name.
    let token = with_kid(Algorithm::RS256, RSA_NEXT, "b");
    assert_eq!(refused(verifier.verify(&token, NOW_MS)), Refusal::UnknownKey);
    // The only key of a verifier has no name to compare.
    granted(
        self::verifier("algorithms = ['RS256'], public_key_file = 'p'", RSA_PUBLIC)
            .verify(&with_kid(Algorithm::RS256, RSA, "whatever"), NOW_MS),
    );
}

#[test]
fn a_key_the_token_brings_is_not_looked_at() {
    let verifier = verifier("algorithms = ['RS256'], public_key_file = 'p'", RSA_PUBLIC);
    let mut header = Header::new(Algorithm::RS256);
    header.jwk = Some(
        Jwk::from_encoding_key(&encoding_key(Algorithm::RS256, RSA_NEXT), Algorithm::RS256)
            .unwrap(),
    );
    header.jku = Some("https://evil.example/jwks".to_owned());
    let token =
        jsonwebtoken::encode(&header, &good_claims(), &encoding_key(Algorithm::RS256, RSA_NEXT))
            .unwrap();
    assert_eq!(refused(verifier.verify(&token, NOW_MS)), Refusal::Signature);
}

#[test]
fn a_header_has_to_be_understood() {
    assert!(matches!(with_header(r#"{"alg":"HS256","typ":"at+jwt","x":1}"#), Verdict::Granted(_)));
    assert!(matches!(with_header(r#"{"alg":"\u0048S256"}"#), Verdict::Granted(_)));
    for crit in [r#"["b64"]"#, "[]", "null", "1"] {
        let header = format!(r#"{{"alg":"HS256","b64":false,"crit":{crit}}}"#);
        assert_eq!(refused(with_header(&header)), Refusal::Extension, "{crit}");
    }
    for header in [
        "{}",
        "[]",
        "",
        "null",
        r#"{"alg":1}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"HS256","kid":1}"#,
        r#"{"alg":"HS256","kid":["a"]}"#,
        r#"{"alg":"HS256"} x"#,
    ] {
        assert_eq!(refused(with_header(header)), Refusal::Malformed, "{header}");
    }
}

#[test]
fn a_token_has_three_parts_of_base64url() {
    let verifier = hs256();
    let good = signed_hs256(r#"{"alg":"HS256"}"#, r#"{"exp":1800000000}"#);
    granted(verifier.verify(&good, NOW_MS));
    let (message, signature) = good.rsplit_once('.').unwrap();
    for token in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "letmein".to_owned(),
        message.to_owned(),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.a.b"),
        format!("{good}="),
        format!("{good} "),
        format!(" {good}"),
        format!("{message}.{signature}+"),
        format!("{message}.ä"),
    ] {
        assert_eq!(refused(verifier.verify(&token, NOW_MS)), Refusal::Malformed, "{token:?}");
    }
}

#[test]
fn a_token_longer_than_the_limit_is_refused_undecoded() {
    let longest = "a".repeat(TOKEN_BYTES_MAX);
    assert_eq!(refused(hs256().verify(&longest, NOW_MS)), Refusal::Malformed);
    assert_eq!(refused(hs256().verify(&format!("{longest}a"), NOW_MS)), Refusal::TooLong);
    let list = Verifier::new(&settings("static = { file = 'f' }"), Some(b"")).unwrap();
    assert_eq!(refused(list.verify(&longest, NOW_MS)), Refusal::UnknownToken);
    assert_eq!(refused(list.verify(&format!("{longest}a"), NOW_MS)), Refusal::TooLong);

    let big = object(json!({"exp": NOW_S, "pad": longest}));
    assert!(matches!(mint(Algorithm::HS256, SECRET, &big), Err(MintError::TooLong { .. })));
}
