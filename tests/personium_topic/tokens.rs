//! Who may follow what: good and bad tokens, the cell they are for, privileges, topics that there are.

use super::*;
use fanfare::dialect::personium;
use fanfare::token::Verifier;

/// What the token `t` with these claims is answered at `path` and `host`, where `known` are the topics.
fn answer(claims: &str, known: Option<&[&str]>, path: &str, host: &str) -> Vec<String> {
    let verifier = toml::from_str("static = { file = 'tokens.toml' }").unwrap();
    let list = format!("[[token]]\ntoken = 't'\n{claims}\n");
    let verifier = Verifier::new(&verifier, Some(list.as_bytes())).unwrap();
    let topics = known.map(|known| known.iter().map(ToString::to_string).collect());
    let mut topic = Bus::new(personium::PersoniumSettings {
        verifier: Some(verifier),
        topics,
        ..Default::default()
    });
    topic.connect("", path, host);
    assert_eq!(topic.next("").as_deref(), Some("101"));
    topic.answers(r#"{"AccessToken":"t"}"#)
}

fn is_accepted(claims: &str, known: Option<&[&str]>, path: &str, host: &str) -> bool {
    let answer = answer(claims, known, path, host);
    let success = format!(
        r#"{{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":{NOW_S}000,"Result":"Success"}}"#
    );
    let inactive = format!(
        r#"{{"Response":"AccessToken","Timestamp":{NOW_S}000,"Reason":"Token inactive","Result":"Error"}}"#
    );
    assert!(answer == [success] || answer == [inactive, "close 1000".into()], "{answer:?}");
    answer.len() == 1
}

#[test]
fn a_bad_token_is_inactive_before_and_after_a_good_one() {
    for token in ["", "unknown", "stranger", "nobody"] {
        let refused = format!(
            r#"
            > {{"AccessToken":"{token}"}}
            < {{"Response":"AccessToken","Timestamp":$MS,"Reason":"Token inactive","Result":"Error"}}
            < close 1000
            feed topic/cell1/box1/stream-collection1.topic.name {{"From":"https://c/","Body":{{}}}}
            > {{"AccessToken":"reader"}}
            "#
        );
        talk(&refused);
        talk(&format!(
            r#"
            > {{"AccessToken":"reader"}}
            < {{"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}}
            {refused}
            "#
        ));
    }
}

// Decision 4.
#[test]
fn following_needs_two_privileges_or_all() {
    for (scope, accepted) in [
        ("'read stream-receive'", true),
        ("'stream-receive event read'", true),
        ("['read', 'stream-receive']", true),
        ("'all'", true),
        ("'read'", false),
        ("'stream-receive'", false),
        ("'read stream'", false),
        ("'read,stream-receive'", false),
        ("'Read Stream-Receive'", false),
        ("'root'", false),
        ("''", false),
        ("1", false),
    ] {
        assert_eq!(
            is_accepted(&format!("aud = 'cell1'\nscope = {scope}"), None, PATH, HOST),
            accepted,
            "{scope}"
        );
    }
}

#[test]
fn a_token_is_for_the_cell_that_its_audience_or_issuer_names() {
    let (root, own) = ("/__topic/box1/stream-collection1.topic.name", "cell1.unit1.example");
    for (claims, path, host, accepted) in [
        ("aud = 'cell1'", PATH, HOST, true),
        ("aud = 'cell1'", root, own, true),
        ("iss = 'https://unit1.example/cell1/'", PATH, HOST, true),
        ("aud = ['x', 'https://cell1.unit1.example/']", root, own, true),
        ("aud = 'https://cell1.unit1.example/'", PATH, HOST, false),
        ("aud = 'box1'", PATH, HOST, false),
        ("aud = 'cell1/box1'", PATH, HOST, false),
        ("aud = 'https://elsewhere.example/cell1/'", PATH, HOST, false),
        ("sub = 'cell1'", PATH, HOST, false),
    ] {
        assert_eq!(
            is_accepted(&format!("{claims}\nscope = 'all'"), None, path, host),
            accepted,
            "{claims} at {host}"
        );
    }
}

#[test]
fn a_token_may_narrow_the_topics_that_it_opens() {
    for (topics, accepted) in [
        ("['cell1/box1/*']", true),
        ("'cell1/box1/stream-collection1.topic.name'", true),
        ("['x', '*/*/*.topic.name']", true),
        ("['cell1/*/*']", true),
        ("['cell1/box1/*.name', 'x/y/z']", true),
        ("['cell1/box2/*']", false),
        ("['cell1/box1/*.names']", false),
        ("['cell2/box1/*']", false),
        // A star does not reach over a slash.
        ("['*']", false),
        ("['cell1/*']", false),
        ("['*.topic.name']", false),
        ("['cell1*name']", false),
        ("['stream-collection1.topic.name']", false),
        ("[]", false),
        ("1", false),
    ] {
        let claims = format!("aud = 'cell1'\nscope = 'all'\ntopics = {topics}");
        assert_eq!(is_accepted(&claims, None, PATH, HOST), accepted, "{topics}");
    }
}

#[test]
fn a_token_with_too_many_globs_opens_nothing() {
    for (count, accepted) in [(1024, true), (1025, false)] {
        let claims =
            format!("aud = 'cell1'\nscope = 'all'\ntopics = {:?}", vec!["cell1/box1/*"; count]);
        assert_eq!(is_accepted(&claims, None, PATH, HOST), accepted, "{count}");
    }
}

#[test]
fn a_glob_of_many_stars_takes_no_time() {
    let path = format!("/cell1/__topic/box1/{}.topic.name", "a".repeat(900));
    // Tried by backtracking, one of them would take longer than the world has been there.
    let globs = vec![format!("cell1/box1/{}b", "*a".repeat(450)); 1000];
    let claims = format!("aud = 'cell1'\nscope = 'all'\ntopics = {globs:?}");
    let start = std::time::Instant::now();
    assert!(!is_accepted(&claims, Some(&["cell1/box1/*a*a*a*"]), &path, HOST));
    let took = start.elapsed();
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
}

// Decision 3.
#[test]
fn a_topic_that_is_not_in_the_registry_is_not_there() {
    let all = "aud = 'cell1'\nscope = 'all'";
    for (known, accepted) in [
        (None, true),
        (Some(&["cell1/box1/*"][..]), true),
        (Some(&["x/y/z", "cell1/*/*"]), true),
        (Some(&["cell1/*"]), false),
        (Some(&["*"]), false),
        (Some(&["cell1/box1/stream-collection1.topic.name"]), true),
        (Some(&["cell1/box1/stream-collection1.topic"]), false),
        (Some(&["cell2/*/*"]), false),
        (Some(&[]), false),
    ] {
        assert_eq!(is_accepted(all, known, PATH, HOST), accepted, "{known:?}");
    }
}

// Decision 2.
#[test]
fn a_path_that_is_no_topics_opens_and_finds_its_token_inactive() {
    for path in [
        "col.queue.name",
        "topic.name",
        "col",
        "col.topic",
        "col..topic.name",
        ".topic.name",
        "a.topic.",
    ] {
        let path = format!("/cell1/__topic/box1/{path}");
        assert!(!is_accepted("aud = 'cell1'\nscope = 'all'", None, &path, HOST), "{path}");
        let open = personium::PersoniumSettings { anonymous: true, ..Default::default() };
        let mut topic = Bus::new(open);
        topic.connect("", &path, HOST);
        topic.heard("");
        assert!(topic.answers(r#"{"AccessToken":"any"}"#)[0].contains("Token inactive"), "{path}");
    }
    let deep = "/cell1/__topic/box1/dir.dir.col.topic.topic";
    assert!(is_accepted("aud = 'cell1'\nscope = 'all'", None, deep, HOST));
}

#[test]
fn an_anonymous_topic_takes_any_token_but_asks_for_one() {
    Bus::open().talk(
        r#"
        feed topic/cell1/box1/stream-collection1.topic.name {"From":"https://c/","Body":{}}
        > {"AccessToken":"anything"}
        < {"Response":"AccessToken","ExpiresIn":3600,"Timestamp":$MS,"Result":"Success"}
        feed topic/cell1/box1/stream-collection1.topic.name {"From":"https://c/","Body":{}}
        < {"From":"https://c/","Body":{}}
        "#,
    );
}
