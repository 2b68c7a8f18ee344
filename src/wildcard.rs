//! Patterns in which a star matches any text, slashes and the empty text included; every other
//! character matches itself.
//!
//! Linear time: no byte is examined twice except by the substring search. Names of three parts, as in
//! `tenant/namespace/topic`, are matched part by part, so that a star does not reach over a slash.

/// Whether a pattern matches the whole of a text.
///
/// ```
/// use fanfare::wildcard::matches;
///
/// assert!(matches("a*c", "abbc") && matches("*", ""));
/// assert!(!matches("a*c", "abcd"));
/// ```
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The earliest place of each text leaves the most room for those that follow.
    for wanted in middle.split('*') {
        let Some(at) = text.find(wanted) else { return false };
        text = &text[at + wanted.len()..];
    }
    text.ends_with(end)
}

/// The parts of a pattern of three, of which none is empty. Only the last may contain slashes.
#[must_use]
pub fn parts(pattern: &str) -> Option<[&str; 3]> {
    let mut parts = pattern.splitn(3, '/');
    let parts = [parts.next()?, parts.next()?, parts.next()?];
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

/// Whether a pattern of three parts matches a name of three, part by part: a star of the first two
/// stays before its slash, so what is allowed in one namespace never extends to another.
///
/// ```
/// use fanfare::wildcard::match_parts;
///
/// assert!(match_parts("acme/*/new", "acme/orders/new"));
/// assert!(!match_parts("acme/*", "acme/orders/new"));
/// ```
#[must_use]
pub fn match_parts(pattern: &str, name: &str) -> bool {
    // A part of the name may be empty: so a caller asks for what matches any name.
    let mut names = name.splitn(3, '/');
    parts(pattern).is_some_and(|parts| {
        parts.iter().all(|part| names.next().is_some_and(|name| matches(part, name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
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
                assert_eq!(matches(&glob, text), expected, "{glob} {text}");
            }
        }
    }
}
