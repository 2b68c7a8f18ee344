//! Remote verifiers: what they are asked, and what becomes of answers that are right, odd and wrong.

use super::*;
use fanfare::endpoint::UrlError;
use fanfare::token::{Finding, RemoteVerifier, TokenInquiry};
use std::sync::Arc;

const HOUR_S: u64 = 3600;

fn remote(text: &str) -> Arc<RemoteVerifier> {
    Arc::clone(Verifier::new(&settings(text), None).unwrap().remote().unwrap())
}

/// Whether a later grant is the same for the sessions of the dialects with this table.
fn same_for(table: &str, earlier: &Grant, later: &Grant) -> bool {
    let settings = fanfare::dialect::Settings::default();
    let table = settings.tables().find(|known| known.name() == table).unwrap();
    let verifier = issuer().deciding_by(table.decisive_claims());
    verifier.remote().unwrap().grants_the_same(earlier, later)
}

fn issuer() -> Verifier {
    Verifier::new(&settings("introspection = { url = 'https://issuer.example' }"), None).unwrap()
}

fn introspection() -> Arc<RemoteVerifier> {
    remote(
        "introspection = { url = 'https://issuer.example/introspect', roles = { 'r1' = ['b', 'a'], 'r2' = ['a', 'c'] } }",
    )
}

fn wazo_auth() -> Arc<RemoteVerifier> {
    remote("wazo_auth = { url = 'https://pbx.example:9497/' }")
}

fn read(remote: &RemoteVerifier, body: &str) -> Finding {
    remote.read(TokenInquiry::Grant, 200, body.as_bytes(), NOW_MS)
}

/// The grant for an answer of the issuer with these members beside `active` and `exp`.
fn introspected(more: Value) -> Grant {
    let mut answer = object(json!({ "active": true, "exp": NOW_S + HOUR_S }));
    answer.extend(object(more));
    match read(&introspection(), &Value::Object(answer).to_string()) {
        Finding::Granted(grant) => grant,
        other => panic!("granted, not {other:?}"),
    }
}

fn wazo_answer() -> Value {
    json!({ "data": {
        "token": "t", "acl": ["events.#", "!events.calls"], "session_uuid": "s-1",
        "utc_expires_at": "2023-11-14T23:13:20", "expires_at": "2023-11-15T00:13:20",
        "metadata": { "uuid": "u-1", "tenant_uuid": "t-1", "purpose": "user", "admin": true },
    } })
}

/// The answer of wazo-auth with one member replaced, or removed by `Null`.
fn wazo_with(path: &str, value: Value) -> Finding {
    let mut answer = wazo_answer();
    let (parent, key) = path.rsplit_once('/').unwrap();
    let parent = answer.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(key)
    } else {
        parent.insert(key.into(), value)
    };
    read(&wazo_auth(), &answer.to_string())
}

#[test]
fn a_remote_verifier_is_asked_and_not_about_what_nobody_has_issued() {
    let settings = settings("introspection = { url = 'http://issuer.example' }");
    let verifier = Verifier::new(&settings, None).unwrap();
    assert_eq!(verifier.verify("a token", NOW_MS), Verdict::Ask);
    for hopeless in ["", ".", "..", "a\nb", "a\0", "\u{85}"] {
        assert_eq!(refused(verifier.verify(hopeless, NOW_MS)), Refusal::Malformed, "{hopeless:?}");
    }
    let long = "x".repeat(TOKEN_BYTES_MAX + 1);
    assert_eq!(refused(verifier.verify(&long, NOW_MS)), Refusal::TooLong);
}

#[test]
fn a_token_is_posted_to_the_issuer_as_a_form() {
    let verifier = Verifier::new(
        &settings(
            "introspection = { url = 'http://i.example:80/a?b=c', client_id = 'me', client_secret_file = '/s' }",
        ),
        Some(b"secret\r\n"),
    );
    let request = verifier.unwrap().remote().unwrap().request(TokenInquiry::Grant, "a+b&c=d é");
    assert_eq!(
        (request.method().as_str(), request.uri().to_string().as_str()),
        ("POST", "http://i.example:80/a?b=c")
    );
    assert_eq!(request.body(), "token=a%2Bb%26c%3Dd%20%C3%A9&token_type_hint=access_token");
    assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(request.headers()["authorization"], "Basic bWU6c2VjcmV0");
    assert!(!format!("{:?}", request.headers()).contains("bWU6"), "it is marked as sensitive");
    assert!(
        introspection().request(TokenInquiry::Grant, "t").headers().get("authorization").is_none()
    );
}

#[test]
fn wazo_auth_gets_the_token_in_the_path_and_nothing_of_it_gets_out_of_there() {
    let uri = |token: &str| wazo_auth().request(TokenInquiry::Grant, token).uri().to_string();
    assert_eq!(uri("0-a.b_c~"), "https://pbx.example:9497/0.1/token/0-a.b_c~?scope=websocketd");
    assert_eq!(
        uri("/../?#%é"),
        "https://pbx.example:9497/0.1/token/%2F..%2F%3F%23%25%C3%A9?scope=websocketd"
    );
    let longest = "é".repeat(TOKEN_BYTES_MAX / 2);
    let path = format!("https://pbx.example/{}", "p".repeat(2000));
    let request =
        remote(&format!("wazo_auth = {{ url = '{path}' }}")).request(TokenInquiry::Grant, &longest);
    assert!(request.uri().to_string().len() > 3 * TOKEN_BYTES_MAX);
    assert_eq!(request.method(), "GET");
    let fixed = remote("wazo_auth = { url = 'http://pbx.example', auth_check = 'static' }");
    assert_eq!(fixed.request(TokenInquiry::Recheck, "t").method(), "HEAD");
    assert_eq!(fixed.request(TokenInquiry::Grant, "t").method(), "GET");
    assert_eq!(wazo_auth().request(TokenInquiry::Recheck, "t").method(), "GET");
}

#[test]
fn an_introspected_token_grants_what_the_answer_says() {
    let grant = introspected(json!({ "sub": "alice", "aud": ["cell"], "scope": "b  a" }));
    assert_eq!(grant.expires_at_ms, (NOW_S + HOUR_S) * 1000);
    assert_eq!((grant.text("sub"), grant.list("aud")), (Some("alice"), Some(vec!["cell"])));
    assert!(grant.words("scope").eq(["a", "b"]));
    assert_eq!(grant.claim("active"), None);
    for (exp, left_ms) in
        [(json!(NOW_S as f64 + 1.5), 1500), (json!(UNIX_S_MAX), (UNIX_S_MAX - NOW_S) * 1000)]
    {
        assert_eq!(introspected(json!({ "exp": exp })).expires_at_ms, NOW_S * 1000 + left_ms);
    }
}

#[test]
fn an_answer_in_which_a_name_comes_twice_grants_nothing() {
    for answer in [
        format!(r#"{{"active":false,"active":true,"exp":{}}}"#, NOW_S + HOUR_S),
        format!(r#"{{"active":true,"exp":{0},"active":true}}"#, NOW_S + HOUR_S),
        format!(r#"{{"active":true,"exp":{},"scope":"a","\u0073cope":"root"}}"#, NOW_S + HOUR_S),
    ] {
        let found = introspection().read(TokenInquiry::Grant, 200, answer.as_bytes(), NOW_S * 1000);
        assert_eq!(found, Finding::Refused(Refusal::Ambiguous), "{answer}");
    }
    let body = |more: &str| {
        format!(
            r#"{{"data":{{"acl":["a"],"session_uuid":"s","utc_expires_at":"2023-11-14T23:13:20"{more},
                "metadata":{{"uuid":"u","tenant_uuid":"t"}}}}}}"#
        )
    };
    let read =
        |more| wazo_auth().read(TokenInquiry::Grant, 200, body(more).as_bytes(), NOW_S * 1000);
    assert!(matches!(read(""), Finding::Granted(_)));
    for twice in [
        r##","acl":["#"]"##,
        r#","utc_expires_at":"2033-11-14T23:13:20""#,
        r#","session_uuid":"x""#,
    ] {
        assert!(matches!(read(twice), Finding::Refused(_)), "{twice}");
    }
    let twice = body("").replace(r#""uuid":"u""#, r#""uuid":"u","admin":false,"admin":true"#);
    let found = wazo_auth().read(TokenInquiry::Grant, 200, twice.as_bytes(), NOW_S * 1000);
    assert!(matches!(found, Finding::Refused(_)));
}

#[test]
fn roles_grant_what_they_are_configured_to_and_only_where_there_is_no_scope() {
    let scope = |more| introspected(more).text("scope").map(str::to_owned);
    assert_eq!(scope(json!({ "p_roles": ["r1", "r2", "r3"] })).as_deref(), Some("a b c"));
    assert_eq!(scope(json!({ "p_roles": ["r1"], "scope": null })).as_deref(), Some("a b"));
    assert_eq!(scope(json!({ "p_roles": ["r1"], "scope": "x" })).as_deref(), Some("x"));
    assert_eq!(scope(json!({ "p_roles": ["r1"], "scope": "" })).as_deref(), Some(""));
    for none in [json!([]), json!("r1"), json!(["R1", 1, null, ["r1"]]), json!({ "r1": 1 })] {
        assert_eq!(scope(json!({ "p_roles": none })).as_deref(), Some(""), "{none}");
    }
    assert_eq!(scope(json!({ "p_roles": ["r1"], "scope": 1 })), None);
}

#[test]
fn an_issuers_odd_answer_grants_nothing() {
    let issuer = introspection();
    let refused = |body: &str, refusal: Refusal| {
        assert_eq!(read(&issuer, body), Finding::Refused(refusal), "{body}");
    };
    refused(r#"{"active":false,"exp":9999999999}"#, Refusal::Inactive);
    refused(r#"{"active":true}"#, Refusal::MissingExpiry);
    for exp in ["-1", "1e300", "\"1700003600\"", "null", "[1]", "1700003600000"] {
        refused(&format!(r#"{{"active":true,"exp":{exp}}}"#), Refusal::BadExpiry);
    }
    refused(&format!(r#"{{"active":true,"exp":{NOW_S}}}"#), Refusal::Expired);
    let unclear = |status: u16, body: &[u8]| {
        let finding = issuer.read(TokenInquiry::Grant, status, body, NOW_MS);
        assert!(matches!(finding, Finding::Unclear(_)), "{status}: {finding:?}");
    };
    let good = format!(r#"{{"active":true,"exp":{}}}"#, NOW_S + 1);
    for active in ["\"true\"", "1", "null", "[true]", "{}"] {
        unclear(200, good.replace("true", active).as_bytes());
    }
    for body in
        ["", "{}", "[]", "null", "true", "<html>", "{\"active\":true", &format!("{good} {good}")]
    {
        unclear(200, body.as_bytes());
    }
    unclear(200, b"\xff\xfe");
    unclear(200, "[".repeat(100_000).as_bytes());
    for status in [100, 201, 204, 301, 307, 400, 401, 403, 404, 429, 500, 502, 503] {
        unclear(status, good.as_bytes());
    }
}

#[test]
fn wazo_auth_grants_what_other_verifiers_grant_for_its_dialect() {
    let Finding::Granted(grant) = read(&wazo_auth(), &wazo_answer().to_string()) else {
        panic!("refused")
    };
    assert_eq!(grant.expires_at_ms, (NOW_S + HOUR_S) * 1000);
    assert_eq!(grant.list("acl"), Some(vec!["events.#", "!events.calls"]));
    let texts = ["sub", "tenant_uuid", "session_uuid", "purpose"].map(|claim| grant.text(claim));
    assert_eq!(texts, [Some("u-1"), Some("t-1"), Some("s-1"), Some("user")]);
    assert_eq!(grant.claim("admin"), Some(&Value::Bool(true)));
    for (admin, is) in [(json!("true"), false), (json!(1), false), (Value::Null, false)] {
        let Finding::Granted(grant) = wazo_with("/data/metadata/admin", admin) else {
            panic!("refused")
        };
        assert_eq!(grant.claim("admin"), Some(&Value::Bool(is)));
    }
    let Finding::Granted(grant) = wazo_with("/data/metadata/purpose", json!(["user"])) else {
        panic!("refused")
    };
    assert_eq!(grant.text("purpose"), None);
}

#[test]
fn wazo_auths_expiry_is_utc_with_or_without_a_fraction_and_an_offset() {
    let expiry = |written: &str| match wazo_with("/data/utc_expires_at", json!(written)) {
        Finding::Granted(grant) => Ok(grant.expires_at_ms - NOW_S * 1000),
        Finding::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    };
    for (written, more_ms) in [
        ("2023-11-14T23:13:20", 0),
        ("2023-11-14 23:13:20", 0),
        ("2023-11-14T23:13:20.123456", 123),
        ("2023-11-14T23:13:20Z", 0),
        ("2023-11-14T23:13:20.5+00:00", 500),
        ("2023-11-15T00:13:20+01:00", 0),
    ] {
        assert_eq!(expiry(written), Ok(HOUR_S * 1000 + more_ms), "{written}");
    }
    assert_eq!(expiry("2023-11-14T22:13:20.900000"), Ok(900), "nothing is refused before its time");
    assert_eq!(expiry("2023-11-14T22:13:20"), Err(Refusal::Expired));
    assert_eq!(expiry("1969-12-31T23:59:59"), Err(Refusal::BadExpiry));
    for nonsense in ["", "never", "2023-11-14", "23:13:20", "2023-13-14T23:13:20", "1700003600"] {
        assert_eq!(expiry(nonsense), Err(Refusal::BadExpiry), "{nonsense}");
    }
}

#[test]
fn wazo_auths_odd_answer_grants_nothing() {
    for path in [
        "acl",
        "session_uuid",
        "utc_expires_at",
        "metadata",
        "metadata/uuid",
        "metadata/tenant_uuid",
    ] {
        for value in [Value::Null, json!(1), json!([1]), json!({})] {
            let finding = wazo_with(&format!("/data/{path}"), value);
            assert_eq!(finding, Finding::Refused(Refusal::Incomplete), "{path}");
        }
    }
    let good = wazo_answer().to_string();
    let status = |status| wazo_auth().read(TokenInquiry::Grant, status, good.as_bytes(), NOW_MS);
    for dead in [400, 401, 403, 404, 410] {
        assert_eq!(status(dead), Finding::Refused(Refusal::Inactive), "{dead}");
    }
    for unclear in [204, 302, 408, 429, 500, 503] {
        assert!(matches!(status(unclear), Finding::Unclear(_)), "{unclear}");
    }
    assert!(matches!(read(&wazo_auth(), "<html>"), Finding::Unclear(_)));
    assert_eq!(read(&wazo_auth(), "[]"), Finding::Refused(Refusal::Incomplete));
    let fixed = remote("wazo_auth = { url = 'http://pbx.example', auth_check = 'static' }");
    let head = |status| fixed.read(TokenInquiry::Recheck, status, b"", NOW_MS);
    assert_eq!((head(200), head(204)), (Finding::Confirmed, Finding::Confirmed));
    assert_eq!(head(404), Finding::Refused(Refusal::Inactive));
    assert!(matches!(head(500), Finding::Unclear(_)));
}

#[test]
fn a_token_is_asked_about_again_by_the_schedule() {
    let dynamic = |left_s| wazo_auth().recheck_in_s(left_s);
    for (left_s, in_s) in [
        (0, 15),
        (1, 1),
        (14, 14),
        (15, 15),
        (60, 60),
        (80, 60),
        (81, 60),
        (100, 75),
        (57_600, 43_200),
        (57_601, 43_200),
        (u64::MAX, 43_200),
    ] {
        assert_eq!(dynamic(left_s), in_s, "{left_s}");
    }
    let fixed = remote(
        "wazo_auth = { url = 'http://p', auth_check = 'static', auth_check_interval_s = 7 }",
    );
    assert_eq!(fixed.recheck_in_s(1), 7);
    let issuer = remote("introspection = { url = 'http://i', recheck_s = 30 }");
    assert_eq!(issuer.recheck_in_s(1), 30);
}

#[test]
fn a_grant_is_the_same_when_only_its_times_have_changed() {
    let same = |one, other| same_for("personium", &introspected(one), &introspected(other));
    let later = json!({ "scope": "b a", "iat": 2, "exp": NOW_S + 7200 });
    assert!(same(json!({ "scope": "a b", "iat": 1, "exp": NOW_S + 3600 }), later));
    assert!(!same(json!({ "scope": "a b" }), json!({ "scope": "a" })));
    assert!(!same(json!({ "p_roles": ["r1"] }), json!({ "p_roles": [] })));
    assert!(!same(json!({ "aud": "x" }), json!({ "aud": "y" })));
    assert!(!same(json!({ "topics": ["c/b/*"] }), json!({})));
    let granted =
        |finding| if let Finding::Granted(grant) = finding { grant } else { panic!("refused") };
    let one = granted(wazo_with("/data/acl", json!(["a"])));
    let later = granted(wazo_with("/data/utc_expires_at", json!("2024-01-01T00:00:00")));
    assert!(!same_for("wazo", &one, &later));
}

#[test]
fn every_claim_that_narrows_what_pulsars_clients_may_do_decides() {
    let same = |one, other| same_for("pulsar", &introspected(one), &introspected(other));
    for claim in fanfare::dialect::pulsar::CLAIMS {
        assert!(!same(json!({ claim: ["t/n/a"] }), json!({ claim: ["t/n/b"] })), "{claim}");
        assert!(!same(json!({ claim: ["t/n/a"] }), json!({})), "{claim}");
        assert!(!same(json!({}), json!({ claim: [] })), "{claim}");
        assert!(
            same(json!({ claim: ["t/n/a", "t/n/b"] }), json!({ claim: ["t/n/b", "t/n/a"] })),
            "{claim}"
        );
    }
}

#[test]
fn every_claim_that_the_sessions_of_a_dialect_read_decides() {
    let tables = fanfare::dialect::Settings::default();
    for table in tables.tables() {
        for &claim in table.decisive_claims() {
            let same =
                |one, other| same_for(table.name(), &introspected(one), &introspected(other));
            assert!(!same(json!({ claim: "a" }), json!({ claim: "b" })), "{claim}");
            assert!(!same(json!({ claim: "a" }), json!({})), "{claim}");
            assert!(
                same(json!({ claim: "a", "iat": 1 }), json!({ claim: "a", "iat": 2 })),
                "{claim}"
            );
        }
    }
    let (one, other) = (introspected(json!({ "id": 1 })), introspected(json!({ "id": 2 })));
    assert!(!same_for("channel", &one, &other));
}

#[test]
fn where_nobody_has_said_which_claims_decide_all_do() {
    let verifier = issuer();
    let same = |one, other| {
        verifier.remote().unwrap().grants_the_same(&introspected(one), &introspected(other))
    };
    assert!(same(json!({ "rooms": ["a", "b"] }), json!({ "rooms": ["b", "a"] })));
    assert!(!same(json!({ "rooms": ["a"] }), json!({ "rooms": ["b"] })));
    assert!(!same(json!({ "rooms": ["a"] }), json!({})));
    assert!(!same(json!({}), json!({ "rooms": [] })));
}

#[test]
fn a_grant_that_ends_sooner_than_it_did_is_not_the_same() {
    let ends_in = |seconds| introspected(json!({ "exp": NOW_S + seconds }));
    assert!(!same_for("personium", &ends_in(3600), &ends_in(1800)));
    assert!(same_for("personium", &ends_in(3600), &ends_in(3599)), "it was rounded");
}

#[test]
fn the_order_of_a_list_is_no_change() {
    let same = |one, other| same_for("personium", &introspected(one), &introspected(other));
    assert!(same(json!({ "aud": ["a", "b"] }), json!({ "aud": ["b", "a"] })));
    assert!(!same(json!({ "aud": ["a", "b"] }), json!({ "aud": ["a", "c"] })));
    let granted = |acl| match wazo_with("/data/acl", acl) {
        Finding::Granted(grant) => grant,
        _ => panic!("refused"),
    };
    let (one, other) = (granted(json!(["a", "!b"])), granted(json!(["!b", "a"])));
    assert!(same_for("wazo", &one, &other));
}

#[test]
fn whatever_wazo_auth_changes_is_a_change() {
    let granted =
        |finding| if let Finding::Granted(grant) = finding { grant } else { panic!("refused") };
    let before = granted(wazo_with("/data/token", json!("t")));
    for (path, value) in [
        ("/data/acl", json!(["events.#"])),
        ("/data/session_uuid", json!("s-2")),
        ("/data/metadata/uuid", json!("u-2")),
        ("/data/metadata/tenant_uuid", json!("t-2")),
        ("/data/metadata/purpose", json!("internal")),
        ("/data/metadata/admin", json!(false)),
    ] {
        assert!(!same_for("wazo", &before, &granted(wazo_with(path, value))), "{path}");
    }
}

#[test]
fn settings_of_remote_verifiers_say_what_to_change() {
    let error = |text: &str| settings(text).check().unwrap_err();
    let url = |url: &str| error(&format!("introspection = {{ url = '{url}' }}"));
    for (text, problem) in [
        ("", UrlError::Scheme),
        ("issuer.example", UrlError::Scheme),
        ("ftp://issuer.example", UrlError::Scheme),
        ("https://hush:hush@issuer.example", UrlError::Credentials),
        ("https://", UrlError::Unreadable),
        ("https://issuer.example/é", UrlError::Unreadable),
        ("https://issuer.example/#x", UrlError::Unreadable),
        ("https://issuer.example:x", UrlError::Unreadable),
    ] {
        assert_eq!(url(text), VerifierError::Url(problem), "{text}");
        assert!(!url(text).to_string().contains("hush"));
    }
    assert_eq!(
        url(&format!("https://{}", "x".repeat(2041))),
        VerifierError::Url(UrlError::TooLong)
    );
    assert_eq!(error("wazo_auth = { url = 'http://p?a' }"), VerifierError::Url(UrlError::Query));
    for credentials in [
        "client_id = 'a'",
        "client_secret = 'a'",
        "client_id = 'a', client_secret = 'b', client_secret_file = 'c'",
    ] {
        let text = format!("introspection = {{ url = 'http://i', {credentials} }}");
        assert_eq!(error(&text), VerifierError::ClientCredentials, "{credentials}");
    }
    let with_file = settings(
        "introspection = { url = 'http://i', client_id = 'a', client_secret_file = '/s' }",
    );
    assert_eq!(Verifier::new(&with_file, None).unwrap_err(), VerifierError::MaterialMissing);
    for material in [&b""[..], b"\n", b"two\nlines", b"\xff"] {
        assert_eq!(
            Verifier::new(&with_file, Some(material)).unwrap_err(),
            VerifierError::SecretText
        );
    }
    assert_eq!(with_file.file().and_then(|file| file.to_str()), Some("/s"));
}

#[test]
fn a_file_of_authorities_holds_certificates() {
    let settings = settings("introspection = { url = 'https://i', ca_file = '/ca' }");
    assert_eq!(settings.ca_file().and_then(|file| file.to_str()), Some("/ca"));
    let verifier = || Verifier::new(&settings, None).unwrap();
    assert!(verifier().trusting(P256_CERTIFICATE).unwrap().remote().unwrap().trusted().is_some());
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in [&b""[..], b"\xff", P256_PUBLIC, broken] {
        assert_eq!(verifier().trusting(pem).unwrap_err(), VerifierError::Authorities);
    }
}

#[test]
fn a_remote_verifier_shows_its_host_and_no_secret() {
    let text = "introspection = { url = 'https://issuer.example/hush', client_id = 'me', client_secret = 'hush' }";
    let verifier = Verifier::new(&settings(text), None).unwrap();
    assert_eq!(verifier.remote().unwrap().host(), "issuer.example");
    let shown = format!("{verifier:?}");
    assert!(shown.contains("issuer.example") && !shown.contains("hush"), "{shown}");
    assert!(!format!("{:?}", settings(text)).contains("\"hush\""));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_upsets_the_reading(status in 100u16..1000, body in "\\PC{0,60}") {
        for remote in [introspection(), wazo_auth()] {
            for inquiry in [TokenInquiry::Grant, TokenInquiry::Recheck] {
                prop_assert!(!matches!(remote.read(inquiry, status, body.as_bytes(), NOW_MS), Finding::Granted(_)));
            }
        }
    }

    #[test]
    fn no_token_upsets_the_asking(token in "\\PC{1,80}") {
        for remote in [introspection(), wazo_auth()] {
            let request = remote.request(TokenInquiry::Grant, &token);
            prop_assert!(request.uri().to_string().is_ascii() && request.body().is_ascii());
        }
    }
}
