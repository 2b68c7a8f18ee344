//! Globs of topics, such as `cell1/box1/*`: those of a registry, and those that a token is narrowed to.
//!
//! A `*` stands for any text without a slash, dots included. So a glob has three parts as a topic has, and
//! `cell1/*` is none: what a token is narrowed to never grows by a level. What cannot be understood matches
//! nothing.

use super::PLACE_BYTES_MAX;
use crate::dialect::personium::is_segment;

/// Globs in one list. Each is tried for each token: all together take 20 µs, or a millisecond when a token was made
/// to be slow.
pub const GLOBS_MAX: usize = 1024;

/// Longest glob: as long as the longest topic. What is longer could not match without its stars.
const GLOB_BYTES_MAX: usize = PLACE_BYTES_MAX;

/// Whether a text is a glob that may match a topic.
#[must_use]
pub fn is_glob(text: &str) -> bool {
    text.len() <= GLOB_BYTES_MAX && text.split('/').count() == 3 && text.split('/').all(is_segment)
}

/// Whether a list of globs has one that matches a topic; too long a list matches nothing.
pub(super) fn select<'a>(globs: impl ExactSizeIterator<Item = &'a str>, place: &str) -> bool {
    let mut globs = globs;
    globs.len() <= GLOBS_MAX && globs.any(|glob| matches(glob, place))
}

/// Whether a glob matches the whole of a `cell/box/path`, part by part.
fn matches(glob: &str, place: &str) -> bool {
    let mut parts = place.split('/');
    glob.len() <= GLOB_BYTES_MAX
        && glob.split('/').all(|glob| parts.next().is_some_and(|part| matches_part(glob, part)))
        && parts.next().is_none()
}

/// The same for texts without slashes. No byte of either is looked at twice but by the search for a text, which
/// takes time in proportion to what it passes.
fn matches_part(glob: &str, text: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else { return glob == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The earliest place of each text leaves the most room for those that follow.
    for wanted in middle.split('*') {
        let Some(at) = text.find(wanted) else { return false };
        text = &text[at + wanted.len()..];
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_without_a_slash() {
        for (glob, place, expected) in [
            ("a/b/c", "a/b/c", true),
            ("a/b/c", "a/b/cd", false),
            ("a/b/*", "a/b/c.topic.d", true),
            ("a/b/*", "a/c/c.topic.d", false),
            ("a/b/*", "aa/b/c.topic.d", false),
            ("a/b/c.*", "a/b/c.topic.d", true),
            ("a/b/*.topic.d", "a/b/c.c.topic.d", true),
            ("a/b/*.topic.*", "a/b/c.topic.d", true),
            ("a/*/c.topic.d", "a/b/c.topic.d", true),
            ("*/b/c.topic.d", "a/b/c.topic.d", true),
            ("*/*/*", "a/b/c.topic.d", true),
            ("a/b*/*", "a/b1/c.topic.d", true),
            ("a/b*/*", "a/c1/c.topic.d", false),
            // Nothing reaches over a slash.
            ("*", "a/b/c.topic.d", false),
            ("a/*", "a/b/c.topic.d", false),
            ("*/c.topic.d", "a/b/c.topic.d", false),
            ("*.topic.d", "a/b/c.topic.d", false),
            ("a*c.topic.d", "a/b/c.topic.d", false),
            ("**", "a/b/c.topic.d", false),
            ("a/**/c.topic.d", "a/b/b/c.topic.d", false),
            ("a/b/c.topic.d/*", "a/b/c.topic.d", false),
            ("a/b/c.topic.d/", "a/b/c.topic.d", false),
            ("/a/b/c.topic.d", "a/b/c.topic.d", false),
            ("", "a/b/c.topic.d", false),
            ("a//c.topic.d", "a/b/c.topic.d", false),
        ] {
            assert_eq!(matches(glob, place), expected, "{glob} {place}");
        }
    }

    #[test]
    fn several_stars_share_what_there_is() {
        for (glob, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*b", "ab", false),
            ("a*b*b", "abb", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("**", "x", true),
            ("*ab*ab*", "xabyabz", true),
            ("*ab*ab*", "xaby", false),
            ("*ab*ba", "abba", true),
            ("*ab*ba", "aba", false),
            ("é*", "éa", true),
        ] {
            assert_eq!(matches_part(glob, text), expected, "{glob} {text}");
        }
    }

    /// The definition: a star is nothing, or a character and again a star.
    fn is_as_defined(glob: &[u8], text: &[u8]) -> bool {
        match (glob, text) {
            ([b'*', rest @ ..], _) => {
                is_as_defined(rest, text) || (!text.is_empty() && is_as_defined(glob, &text[1..]))
            }
            ([a, glob @ ..], [b, text @ ..]) => a == b && is_as_defined(glob, text),
            (glob, text) => glob.is_empty() && text.is_empty(),
        }
    }

    /// Every text of at most so many of these letters.
    fn texts(letters: &[&str], longest: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut last = all.clone();
        for _ in 0..longest {
            last = last
                .iter()
                .flat_map(|text| letters.iter().map(move |letter| format!("{text}{letter}")))
                .collect();
            all.extend_from_slice(&last);
        }
        all
    }

    #[test]
    fn every_short_glob_matches_as_defined() {
        let texts_there_are = texts(&["a", "b"], 6);
        for glob in texts(&["a", "b", "*"], 5) {
            for text in &texts_there_are {
                let expected = is_as_defined(glob.as_bytes(), text.as_bytes());
                assert_eq!(matches_part(&glob, text), expected, "{glob} {text}");
            }
        }
    }

    #[test]
    fn only_globs_of_three_parts_may_match_a_topic() {
        for (glob, expected) in [
            ("a/b/*", true),
            ("*/*/*", true),
            ("é/b/c.topic.n", true),
            ("a/*", false),
            ("a/b/c/*", false),
            ("a//*", false),
            ("/b/*", false),
            ("a/b/", false),
            ("a/b/c d", false),
            ("", false),
        ] {
            assert_eq!(is_glob(glob), expected, "{glob}");
        }
        assert!(is_glob(&format!("a/b/{}", "*".repeat(GLOB_BYTES_MAX - 4))));
        assert!(!is_glob(&format!("a/b/{}", "*".repeat(GLOB_BYTES_MAX - 3))));
    }

    #[test]
    fn a_list_is_bounded_in_number_and_length() {
        let place = "a/b/c.topic.d";
        let list = |count: usize| std::iter::repeat_n("a/b/*", count);
        assert!(select(list(GLOBS_MAX), place));
        assert!(!select(list(GLOBS_MAX + 1), place));
        assert!(!select(list(0), place));
        let long = |stars: usize| format!("a/b/{}", "*".repeat(stars));
        assert!(matches(&long(GLOB_BYTES_MAX - 4), place));
        assert!(!matches(&long(GLOB_BYTES_MAX - 3), place));
    }
}
