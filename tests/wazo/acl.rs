//! Access control lists: the specification's examples, and random lists held against the rule itself.

use fanfare::dialect::wazo::{Acl, TEXT_BYTES_MAX, Who};
use proptest::prelude::*;
use regex::Regex;

const WHO: Who<'_> = Who { user: "ann-uuid", session: "ann-session" };

/// The rule as `auth_verifier.py` has it: escape everything, then give `*`, `#` and the reserved words between
/// dots their meanings, and match the whole.
fn rule(pattern: &str, who: Who<'_>) -> Regex {
    let escaped = regex::escape(pattern).replace(r"\*", "[^.#]*?").replace(r"\#", ".*?");
    let others = [("me", who.user), ("my_session", who.session), ("edit", "update")];
    let meaning = |word: &str| match others.into_iter().find(|(name, _)| *name == word) {
        Some((_, other)) if !other.is_empty() => format!("(?:{word}|{})", regex::escape(other)),
        _ => word.to_owned(),
    };
    let words: Vec<String> = escaped.split(r"\.").map(meaning).collect();
    Regex::new(&format!(r"\A(?:{})\z", words.join(r"\."))).unwrap()
}

fn by_the_rule(patterns: &[&str], required: &str, who: Who<'_>) -> bool {
    let any = |negative: bool| {
        patterns.iter().filter(|pattern| pattern.starts_with('!') == negative).any(|pattern| {
            rule(pattern.strip_prefix('!').unwrap_or(pattern), who).is_match(required)
        })
    };
    !any(true) && any(false)
}

#[track_caller]
fn check(patterns: &[&str], required: &str, who: Who<'_>, expected: bool) {
    assert_eq!(
        by_the_rule(patterns, required, who),
        expected,
        "the rule: {patterns:?} {required:?} {who:?}"
    );
    let acl = Acl::new(patterns).unwrap();
    assert_eq!(acl.allows(required.as_bytes(), who), expected, "{patterns:?} {required:?} {who:?}");
}

#[test]
fn the_examples_of_the_specification_hold() {
    for (patterns, yes, no) in [
        (
            &["event.*"][..],
            &["event.foo", "event.", "event.*"][..],
            &["event", "event.a.b", "event.#"][..],
        ),
        (&["event.#"], &["event.", "event.a.b"], &["event"]),
        (&["a#"], &["a", "ab", "a.b"], &["b", "ba"]),
        (&["a*c"], &["ac", "abc"], &["a.c"]),
        (&["#", "!a.#"], &["a", "b"], &["a.b"]),
        (
            &["calls.me"],
            &["calls.me", "calls.ann-uuid"],
            &["calls.bob-uuid", "calls.", "calls.my_session"],
        ),
        (&["foo.me_too"], &["foo.me_too"], &["foo.ann-uuid_too"]),
        (&["my_session.x"], &["my_session.x", "ann-session.x"], &["me.x", ".x"]),
        (&["edit"], &["edit", "update"], &["edits", "upd"]),
        (&["a.edit.#"], &["a.update.x", "a.edit."], &["a.update"]),
        (&["A"], &["A"], &["a"]),
        (&["!a"], &[], &["a", "b", ""]),
        (&["!"], &[], &["", "!"]),
        (&["!!a", "#"], &["a"], &["!a"]),
        (&["", "b"], &["", "b"], &["a"]),
        (&[], &[], &["", "a"]),
        (&["#"], &["", "a\u{e9}.b"], &["a\nb"]),
        (&["*"], &["", "a\nb"], &["a.b", "#"]),
        (&["#.created"], &["a.b.created", ".created"], &["created", "a.created.b"]),
        (&["a.#.me"], &["a.b.c.ann-uuid", "a..me"], &["a.me", "a.b.me.c"]),
        (&["*.*"], &["a.b", "."], &["a", "a.b.c"]),
        (&["a.+(b)[c]{2}^$|\\?"], &["a.+(b)[c]{2}^$|\\?"], &["aabc"]),
    ] {
        for required in yes {
            check(patterns, required, WHO, true);
        }
        for required in no {
            check(patterns, required, WHO, false);
        }
    }
}

#[test]
fn the_events_words_are_not_reserved() {
    check(&["calls.ann-uuid"], "calls.me", WHO, false);
    check(&["calls.update"], "calls.edit", WHO, false);
}

#[test]
fn nobody_has_an_empty_uuid() {
    let nobody = Who::default();
    check(&["calls.me"], "calls.me", nobody, true);
    check(&["calls.me"], "calls.", nobody, false);
    check(&["calls.my_session.x"], "calls..x", nobody, false);
}

#[test]
fn a_uuid_is_no_pattern_and_may_hold_anything() {
    let odd = Who { user: "*", session: "a.#" };
    check(&["x.me"], "x.*", odd, true);
    check(&["x.me"], "x.y", odd, false);
    check(&["x.my_session"], "x.a.#", odd, true);
    // Both readings of `me` fit the text so far, and only the longer one the rest.
    let twofold = Who { user: "me.me", session: "" };
    check(&["x.me.y"], "x.me.me.y", twofold, true);
    check(&["x.me.me.y"], "x.me.me.y", twofold, true);
    check(&["x.me.me"], "x.me.me.me", twofold, true);
}

#[test]
fn a_pattern_made_to_be_slow_is_not() {
    let required = "a".repeat(TEXT_BYTES_MAX);
    let patterns: Vec<String> =
        ["*a", "#a", "*a#a", "a#"].iter().map(|part| part.repeat(2000) + "b").collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let started = std::time::Instant::now();
    assert!(!Acl::new(&patterns).unwrap().allows(required.as_bytes(), WHO));
    // It takes a few milliseconds; what goes back and tries again would not come to an end.
    assert!(started.elapsed().as_secs() < 10);
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("a"), 2 => Just("b"), 2 => Just("ab"), 2 => Just("*"), 2 => Just("#"), 2 => Just("me"),
        1 => Just("my_session"), 1 => Just("edit"), 1 => Just("update"), 2 => Just("ann-uuid"),
        1 => Just("ann-session"), 1 => Just("a*"), 1 => Just("*b"), 1 => Just("#a"), 1 => Just("a*b#"),
        1 => Just("**"), 1 => Just("#*"), 1 => Just("\n"), 1 => Just("\u{e9}"), 1 => Just(""), 1 => Just("!"),
        1 => Just("mee"), 1 => Just("\\"), 1 => Just("+("),
    ]
    .prop_map(String::from)
}

fn pattern() -> impl Strategy<Value = String> {
    let text = prop::collection::vec(word(), 0..6).prop_map(|words| words.join("."));
    (prop::bool::weighted(0.2), text)
        .prop_map(|(negative, text)| if negative { format!("!{text}") } else { text })
}

fn who() -> impl Strategy<Value = (String, String)> {
    let uuid = || prop_oneof![4 => Just("ann-uuid"), 1 => Just(""), 1 => Just("a.b"), 1 => Just("me.a"), 1 => Just("*")];
    (uuid(), uuid()).prop_map(|(user, session)| (user.to_owned(), session.to_owned()))
}

/// A text that has a chance: a pattern with its wildcards and words filled in, or anything.
fn required(patterns: &[String], pick: usize, run: &str, rest: &str, word: &str) -> String {
    let Some(pattern) = patterns.get(pick % (patterns.len() + 1)) else {
        return format!("{run}.{rest}");
    };
    let words: Vec<&str> = pattern.trim_start_matches('!').split('.').collect();
    let filled = words
        .iter()
        .map(|own| if matches!(*own, "me" | "my_session" | "edit") { word } else { own });
    filled.collect::<Vec<_>>().join(".").replace('*', run).replace('#', rest)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_list_allows_what_the_rule_allows(
        patterns in prop::collection::vec(pattern(), 0..6),
        pick in 0_usize..8,
        run in "[ab#.\n]{0,2}",
        rest in "[ab.\n]{0,4}",
        word in word(),
        (user, session) in who(),
    ) {
        let required = required(&patterns, pick, &run, &rest, &word);
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let who = Who { user: &user, session: &session };
        let acl = Acl::new(&patterns).unwrap();
        prop_assert_eq!(acl.allows(required.as_bytes(), who), by_the_rule(&patterns, &required, who));
    }

    #[test]
    fn one_pattern_matches_what_its_expression_matches(
        pattern in "[a!*#.\n]{0,10}",
        required in "[a#.\n]{0,12}",
    ) {
        let acl = Acl::new(&[&pattern]).unwrap();
        prop_assert_eq!(acl.allows(required.as_bytes(), WHO), by_the_rule(&[&pattern], &required, WHO));
    }
}
