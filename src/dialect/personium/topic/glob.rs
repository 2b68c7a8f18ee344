//! Globs of topics, such as `cell1/box1/*`: those of the configuration, and those to which a token
//! is restricted.
//!
//! A `*` stands for any text without a slash, dots included. So a glob has three parts like a
//! topic, and `cell1/*` is not one: a restriction never grows by a level. A malformed glob matches
//! nothing.

use super::place::PLACE_BYTES_MAX;
use crate::dialect::personium::cell::is_segment;
use crate::wildcard;

/// Globs in one list. Each is tried for each token: all together take 20 µs, or a millisecond for a
/// token made to be slow.
pub const GLOBS_MAX: usize = 1024;

/// Longest glob, in bytes: as long as the longest topic. A longer one could match only by its
/// stars.
const GLOB_BYTES_MAX: usize = PLACE_BYTES_MAX;

/// Whether a text is a glob that may match a topic.
#[must_use]
pub fn is_glob(text: &str) -> bool {
    text.len() <= GLOB_BYTES_MAX
        && wildcard::parts(text).is_some_and(|parts| parts.into_iter().all(is_segment))
}

/// Whether a list of globs has one that matches a topic; a list that is too long matches nothing.
pub(super) fn select<'a>(globs: impl ExactSizeIterator<Item = &'a str>, place: &str) -> bool {
    let mut globs = globs;
    // Empty rather than cut: a cut list would decide by its order.
    globs.len() <= GLOBS_MAX && globs.any(|glob| matches(glob, place))
}

/// Whether a glob matches the whole of a `cell/box/path`, part by part.
fn matches(glob: &str, place: &str) -> bool {
    // No part of a place contains a slash, so none of more parts matches.
    glob.len() <= GLOB_BYTES_MAX && wildcard::match_parts(glob, place)
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
