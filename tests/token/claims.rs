//! Times and claims of tokens whose signature holds.

use super::*;

#[test]
fn claims_are_one_json_object() {
    for payload in [
        "",
        "[]",
        "null",
        "\"exp\"",
        "1",
        "{",
        r#"{"exp":1800000000} {}"#,
        "{\"exp\":NaN}",
        "\u{0}",
    ] {
        assert_eq!(refused(with_payload(payload)), Refusal::Malformed, "{payload:?}");
    }
    let deep = format!(r#"{{"exp":1800000000,"a":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    assert_eq!(refused(with_payload(&deep)), Refusal::Malformed);
}

/// A string `exp` was once skipped as if absent by the JWT library (CVE-2026-25537).
#[test]
fn exp_has_to_be_there_and_a_time() {
    assert_eq!(refused(with_payload("{}")), Refusal::MissingExpiry);
    assert_eq!(refused(with_payload(r#"{"EXP":1800000000}"#)), Refusal::MissingExpiry);
    for exp in [
        r#""1800000000""#,
        r#""9999""#,
        "null",
        "true",
        "[]",
        "[1800000000]",
        "{}",
        "-1",
        "-0.5",
        "-1800000000",
        "1e300",
        "1.7976931348623157e308",
        "18446744073709551615",
        "18446744073709551616",
        "1800000000000",
        "253402300800",
    ] {
        assert_eq!(
            refused(with_payload(&format!(r#"{{"exp":{exp}}}"#))),
            Refusal::BadExpiry,
            "{exp}"
        );
    }
    // Past the range of a double there is no such JSON number.
    assert_eq!(refused(with_payload(r#"{"exp":1e400}"#)), Refusal::Malformed);
    let last = granted(with_payload(&format!(r#"{{"exp":{UNIX_S_MAX}}}"#)));
    assert_eq!(last.expires_at_ms, UNIX_S_MAX * 1000);
}

#[test]
fn a_claim_that_comes_twice_is_refused() {
    for claims in [
        r#"{"exp":1800000000,"exp":1800000000}"#,
        r#"{"exp":1800000000,"scope":"event-read","scope":"root"}"#,
        r#"{"exp":1800000000,"aud":"a","\u0061ud":"b"}"#,
    ] {
        assert_eq!(refused(with_payload(claims)), Refusal::Ambiguous, "{claims}");
    }
    granted(with_payload(r#"{"exp":1800000000,"deep":{"exp":1,"exp":2}}"#));
}

#[test]
fn a_fraction_of_a_second_counts_to_the_millisecond() {
    for (exp, left_ms) in [
        ("1700000001.999", 1999),
        ("1.7000000019e9", 1900),
        ("1700000001.0", 1000),
        ("1700000000.001", 1),
        ("1700000000.123456", 123),
        ("253402300799.999", (UNIX_S_MAX - 1_700_000_000) * 1000 + 999),
    ] {
        let grant = granted(with_payload(&format!(r#"{{"exp":{exp}}}"#)));
        assert_eq!(grant.expires_at_ms, NOW_MS + left_ms, "{exp}");
    }
    assert_eq!(refused(with_payload(r#"{"exp":1699999999.999}"#)), Refusal::Expired);
    assert_eq!(
        refused(with_payload(r#"{"exp":1800000000,"nbf":1700000000.001}"#)),
        Refusal::NotYetValid
    );
    assert_eq!(refused(with_payload(r#"{"exp":0.5}"#)), Refusal::Expired);
    assert_eq!(refused(with_payload(r#"{"exp":0}"#)), Refusal::Expired);
}

#[test]
fn a_token_ends_at_exp_plus_the_leeway() {
    let token = mint(Algorithm::HS256, SECRET, &object(json!({"exp": NOW_S}))).unwrap();
    let strict = hs256();
    assert_eq!(granted(strict.verify(&token, NOW_MS - 1)).expires_at_ms, NOW_MS);
    assert_eq!(refused(strict.verify(&token, NOW_MS)), Refusal::Expired);
    assert_eq!(refused(strict.verify(&token, u64::MAX)), Refusal::Expired);

    let lenient = verifier("algorithms = ['HS256'], secret_file = 's', leeway_s = 60", SECRET);
    assert_eq!(granted(lenient.verify(&token, NOW_MS + 59_999)).expires_at_ms, NOW_MS + 60_000);
    assert_eq!(refused(lenient.verify(&token, NOW_MS + 60_000)), Refusal::Expired);
}

#[test]
fn nbf_is_respected_when_it_is_there() {
    let token =
        mint(Algorithm::HS256, SECRET, &object(json!({"exp": NOW_S + 60, "nbf": NOW_S}))).unwrap();
    let strict = hs256();
    assert_eq!(refused(strict.verify(&token, NOW_MS - 1)), Refusal::NotYetValid);
    granted(strict.verify(&token, NOW_MS));
    let lenient = verifier("algorithms = ['HS256'], secret_file = 's', leeway_s = 30", SECRET);
    assert_eq!(refused(lenient.verify(&token, NOW_MS - 30_001)), Refusal::NotYetValid);
    granted(lenient.verify(&token, NOW_MS - 30_000));

    for nbf in
        [r#""0""#, r#""1800000000""#, "null", "false", "[0]", "-1", "1e300", "18446744073709551615"]
    {
        let verdict = with_payload(&format!(r#"{{"exp":1800000000,"nbf":{nbf}}}"#));
        assert_eq!(refused(verdict), Refusal::BadNotBefore, "{nbf}");
    }
    granted(with_payload(r#"{"exp":1800000000,"nbf":1.5,"iat":"whenever"}"#));
}

#[test]
fn claims_are_read_as_text_words_and_lists() {
    let grant = Grant::new(
        0,
        object(json!({
            "text": "alice", "scope": " event  root ", "words": ["a b", "c"], "mixed": ["a", 1],
            "number": 1, "null": null, "empty": "", "nothing": []
        })),
    );
    let words = |claim| grant.words(claim).collect::<Vec<_>>();
    assert_eq!(grant.text("text"), Some("alice"));
    assert_eq!(
        (grant.text("number"), grant.text("words"), grant.text("absent")),
        (None, None, None)
    );
    assert_eq!(words("scope"), ["event", "root"]);
    assert_eq!(words("words"), ["a b", "c"]);
    for claim in ["mixed", "number", "null", "empty", "nothing", "absent"] {
        assert!(words(claim).is_empty(), "{claim}");
    }
    assert_eq!(grant.list("text"), Some(vec!["alice"]));
    assert_eq!(grant.list("words"), Some(vec!["a b", "c"]));
    assert_eq!(grant.list("empty"), Some(vec![""]));
    assert_eq!(grant.list("absent"), None);
    for claim in ["mixed", "number", "null", "nothing"] {
        assert_eq!(grant.list(claim), Some(vec![]), "{claim}");
    }
}

/// A verdict on these claims of the verifier that takes what others have been signing all along.
fn leniently(payload: &str, now_ms: u64) -> Verdict {
    let settings = settings("jwt = { secret = 'short' }").or_hs256();
    let verifier = Verifier::lenient(&settings, None).unwrap();
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let key = EncodingKey::from_secret(b"short");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    verifier.verify(&format!("{message}.{signature}"), now_ms)
}

#[test]
fn a_lenient_verifier_takes_a_token_without_an_end_and_any_number_as_a_time() {
    assert_eq!(granted(leniently("{}", NOW_MS)).expires_at_ms, NEVER_MS);
    for (exp, ends_ms) in [
        ("1700000001", NOW_MS + 1000),
        ("1700000000.0005", NOW_MS + 1),
        ("1700000000.25", NOW_MS + 250),
        ("253402300800", 253_402_300_800_000),
        ("1e300", u64::MAX),
        ("18446744073709551615", u64::MAX),
    ] {
        let verdict = leniently(&format!(r#"{{"exp":{exp}}}"#), NOW_MS);
        assert_eq!(granted(verdict).expires_at_ms, ends_ms, "{exp}");
    }
    for exp in ["1700000000", "1699999999.9", "0", "-1", "-1e300"] {
        assert_eq!(
            refused(leniently(&format!(r#"{{"exp":{exp}}}"#), NOW_MS)),
            Refusal::Expired,
            "{exp}"
        );
    }
    for exp in [r#""1800000000""#, "null", "true", "[]", "{}"] {
        assert_eq!(
            refused(leniently(&format!(r#"{{"exp":{exp}}}"#), NOW_MS)),
            Refusal::BadExpiry,
            "{exp}"
        );
    }
}

#[test]
fn a_lenient_verifier_looks_at_nbf_first() {
    for (claims, refusal) in [
        (r#"{"nbf":1700000001,"exp":1600000000}"#, Refusal::NotYetValid),
        (r#"{"nbf":1700000000.001}"#, Refusal::NotYetValid),
        (r#"{"nbf":1e300}"#, Refusal::NotYetValid),
        (r#"{"nbf":"0","exp":1600000000}"#, Refusal::BadNotBefore),
        (r#"{"nbf":null}"#, Refusal::BadNotBefore),
        (r#"{"nbf":1700000000,"exp":1600000000}"#, Refusal::Expired),
    ] {
        assert_eq!(refused(leniently(claims, NOW_MS)), refusal, "{claims}");
    }
    granted(leniently(r#"{"nbf":1700000000}"#, NOW_MS));
    granted(leniently(r#"{"nbf":-5,"iat":"whenever","aud":1}"#, NOW_MS));
}

#[test]
fn a_lenient_verifier_takes_a_short_secret_but_no_empty_one() {
    let empty = settings("jwt = { secret = '' }").or_hs256();
    assert!(matches!(
        Verifier::lenient(&empty, None),
        Err(VerifierError::Key(KeyError::ShortSecret { bytes: 0, .. }))
    ));
    let file = settings("jwt = { secret_file = 's' }").or_hs256();
    assert!(Verifier::lenient(&file, Some(b"s\n")).is_ok());
    assert!(Verifier::lenient(&file, Some(b"\n")).is_err());
}
