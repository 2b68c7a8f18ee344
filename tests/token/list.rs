//! Static tokens.

use super::*;

#[test]
fn a_listed_token_grants_its_claims() {
    let verifier = list(
        "[[token]]\ntoken = 'letmein'\naud = ['cell1', 'cell2']\nscope = 'event root'\nlevel = 3\n\
         [[token]]\ntoken = 'other'\nsub = 'bob'\nnested = { a = [1.5, true, 2024-01-01] }\n",
    )
    .unwrap();
    let grant = granted(verifier.verify("letmein", u64::MAX - 1));
    assert_eq!(grant.expires_at_ms, NEVER_MS);
    assert_eq!(grant.list("aud"), Some(vec!["cell1", "cell2"]));
    assert!(grant.words("scope").eq(["event", "root"]));
    assert_eq!(grant.claim("level"), Some(&json!(3)));
    assert_eq!(grant.claim("token"), None);
    let other = granted(verifier.verify("other", NOW_MS));
    assert_eq!(other.claim("nested"), Some(&json!({"a": [1.5, true, "2024-01-01"]})));
    for token in ["", "letmei", "letmein ", "LETMEIN", "letmein\0", "cell1"] {
        assert_eq!(refused(verifier.verify(token, NOW_MS)), Refusal::UnknownToken, "{token:?}");
    }
}

#[test]
fn a_listed_token_ends_when_the_list_says() {
    let cases = [
        ("1700000000", NOW_S * 1000),
        ("2023-11-14T22:13:20Z", NOW_S * 1000),
        ("2023-11-14T22:13:20.999Z", NOW_S * 1000 + 999),
        ("2023-11-14T22:13:20.0019Z", NOW_S * 1000 + 1),
        ("2023-11-15T00:13:20+02:00", NOW_S * 1000),
        ("2023-11-14 16:43:20-05:30", NOW_S * 1000),
        ("1970-01-01T00:00:01Z", 1000),
        ("2000-02-29T00:00:00Z", 951_782_400_000),
        ("2000-03-01T00:00:00Z", 951_868_800_000),
        ("2100-03-01T00:00:00Z", 4_107_542_400_000),
        ("9999-12-31T23:59:59Z", UNIX_S_MAX * 1000),
    ];
    for (written, expires_ms) in cases {
        let verifier = list(&format!("[[token]]\ntoken = 'a'\nexpires_at = {written}\n")).unwrap();
        assert_eq!(
            granted(verifier.verify("a", expires_ms - 1)).expires_at_ms,
            expires_ms,
            "{written}"
        );
        assert_eq!(refused(verifier.verify("a", expires_ms)), Refusal::Expired, "{written}");
    }
    for written in [
        "'1700000000'",
        "-1",
        "1.5",
        "true",
        "[]",
        "253402300800",
        "9223372036854775807",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "00:00:00",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
    ] {
        let error = list(&format!("[[token]]\ntoken = 'a'\nexpires_at = {written}\n")).unwrap_err();
        assert_eq!(
            error,
            StaticError::Entry { number: 1, problem: EntryProblem::ExpiresAt },
            "{written}"
        );
    }
}

#[test]
fn an_empty_list_refuses_everyone() {
    for text in ["", "token = []", "# revoked\n"] {
        assert_eq!(refused(list(text).unwrap().verify("a", NOW_MS)), Refusal::UnknownToken);
    }
}

#[test]
fn a_list_that_does_not_do_says_where() {
    let entry =
        |second: &str| list(&format!("[[token]]\ntoken = 'a'\n[[token]]\n{second}\n")).unwrap_err();
    let problem = |problem| StaticError::Entry { number: 2, problem };
    assert_eq!(entry("token = 'a'"), problem(EntryProblem::Repeated));
    assert_eq!(entry("scope = 'a'"), problem(EntryProblem::NoToken));
    assert_eq!(entry("token = ''"), problem(EntryProblem::NoToken));
    assert_eq!(entry("token = 12"), problem(EntryProblem::NoToken));
    assert_eq!(
        entry(&format!("token = '{}'", "a".repeat(TOKEN_BYTES_MAX + 1))),
        problem(EntryProblem::TooLong)
    );
    assert_eq!(entry("token = 'b'\nexp = 1"), problem(EntryProblem::JwtTime));
    assert_eq!(entry("token = 'b'\nnbf = 1"), problem(EntryProblem::JwtTime));
    assert_eq!(entry("token = 'b'\nx = { y = [nan] }"), problem(EntryProblem::NotFinite));
    let error = list("token = [1]").unwrap_err();
    assert_eq!(error, StaticError::Entry { number: 1, problem: EntryProblem::NotATable });
    for shape in
        ["token = 'a'", "[token]\ntoken = 'a'", "tokens = []", "[[token]]\ntoken = 'a'\n[x]\n"]
    {
        assert_eq!(list(shape).unwrap_err(), StaticError::Shape, "{shape}");
    }
    let told = StaticError::Shape.to_string();
    assert!(
        told.contains("keys outside of [[token]] tables; put each token into a table"),
        "{told}"
    );
    assert_eq!(list("[[token]]\ntoken = letmein\n").unwrap_err(), StaticError::Toml { line: 2 });
    let bytes = Verifier::new(&settings("static = { file = 'f' }"), Some(b"\n\n# \xff"));
    assert_eq!(bytes.unwrap_err(), VerifierError::Static(StaticError::Toml { line: 3 }));
}
