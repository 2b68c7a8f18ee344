//! One pattern of an access control list: a text with wildcards, matched against the whole of
//! another.
//!
//! `*` is any run of characters except `.` and `#`; `#` is any run of characters except the
//! newline. A word between dots that is `me`, `my_session` or `edit` stands for two texts.
//! Everything else matches itself. This is the rule of Wazo's `auth_verifier.py`, which writes it
//! as a regular expression.
//!
//! Matching goes through the pattern once. While only one position in the text is possible, it is a
//! number; where a wildcard leaves several, they are a set of bits. So the cost is at most the
//! pattern's length times the text's, for any pattern: there is no backtracking.

use memchr::{memchr, memchr2};

/// Longest `required_acl`, in bytes. Wazo's own, uuids included, have at most about a hundred
/// characters.
pub const TEXT_BYTES_MAX: usize = 255;

/// The meaning of `me` and `my_session`. An empty text is nobody's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// The uuid of the token's user.
    pub user: &'a str,
    /// The uuid of the token's session.
    pub session: &'a str,
}

/// A text that patterns are matched against.
pub(super) struct AclSubject<'a> {
    /// At most [`TEXT_BYTES_MAX`] bytes.
    text: &'a [u8],
    who: Who<'a>,
    /// Start and end of the last run that was examined. Patterns that begin with the same text ask
    /// for the same one.
    run: (usize, usize),
}

impl<'a> AclSubject<'a> {
    pub(super) fn new(text: &'a [u8], who: Who<'a>) -> Self {
        Self { text, who, run: (usize::MAX, 0) }
    }

    /// The latest end of a `*` run from `at`.
    fn run_end(&mut self, at: usize) -> usize {
        if self.run.0 != at {
            let length = memchr2(b'.', b'#', &self.text[at..]);
            self.run = (at, length.map_or(self.text.len(), |length| at + length));
        }
        self.run.1
    }
}

/// The rest of a pattern after its initial text.
#[derive(Debug)]
pub(super) struct Pattern {
    parts: Box<[PatternPart]>,
    /// The byte that every match ends with, if the pattern ends with text. It rules most patterns
    /// out.
    last: Option<u8>,
}

#[derive(Debug, PartialEq)]
enum PatternPart {
    Text(Vec<u8>),
    Reserved(Reserved),
    /// `*`
    Run,
    /// `*` before a dot or at the end, where it can end at one position only.
    Word,
    /// `#`
    Rest,
}

/// A word that stands for itself or for another text.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reserved {
    Me,
    MySession,
    Edit,
}

impl Reserved {
    fn of(word: &str) -> Option<Self> {
        match word {
            "me" => Some(Self::Me),
            "my_session" => Some(Self::MySession),
            "edit" => Some(Self::Edit),
            _ => None,
        }
    }

    /// The two texts; the second is empty if there is none.
    fn texts<'a>(self, who: Who<'a>) -> [&'a [u8]; 2] {
        match self {
            Self::Me => [b"me", who.user.as_bytes()],
            Self::MySession => [b"my_session", who.session.as_bytes()],
            Self::Edit => [b"edit", b"update"],
        }
    }
}

impl Pattern {
    /// Splits a pattern: into the text that every match begins with, and the rest.
    pub(super) fn new(source: &str) -> (Vec<u8>, Self) {
        let mut parts = Vec::new();
        for (index, word) in source.split('.').enumerate() {
            if index > 0 {
                put_text(&mut parts, b".");
            }
            match Reserved::of(word) {
                Some(reserved) => parts.push(PatternPart::Reserved(reserved)),
                None => put_word(&mut parts, word.as_bytes()),
            }
        }

        // Such a run needs no set of positions, which most patterns thereby never do.
        for at in 0..parts.len() {
            if parts[at] == PatternPart::Run && stands_before_a_dot(&parts[at + 1..]) {
                parts[at] = PatternPart::Word;
            }
        }

        let mut prefix = Vec::new();
        if let Some(PatternPart::Text(text)) = parts.first_mut() {
            prefix = std::mem::take(text);
            parts.remove(0);
        }

        let last = match parts.last() {
            Some(PatternPart::Text(text)) => text.last().copied(),
            _ => None,
        };
        (prefix, Self { parts: parts.into(), last })
    }

    /// Whether the subject's text from `at` on matches.
    pub(super) fn matches(&self, subject: &mut AclSubject<'_>, mut at: usize) -> bool {
        let AclSubject { text, who, .. } = *subject;
        if self.last.is_some() && self.last.as_ref() != text.last() {
            return false;
        }
        let mut parts = &*self.parts;
        while let [part, rest @ ..] = parts {
            let tail = &text[at..];
            match part {
                PatternPart::Text(own) if begins(tail, own) => at += own.len(),
                PatternPart::Text(_) => return false,
                PatternPart::Reserved(reserved) => {
                    let [own, other] = reserved.texts(who);
                    match (begins(tail, own), begins(tail, other)) {
                        (true, false) => at += own.len(),
                        (false, true) => at += other.len(),
                        (false, false) => return false,
                        // "me" of a user whose uuid begins with "me": both lengths are possible
                        // from here on.
                        (true, true) => return matches_from(Places::one(at), parts, text, who),
                    }
                }
                PatternPart::Rest if rest.is_empty() => return memchr(b'\n', tail).is_none(),
                PatternPart::Word => at = subject.run_end(at),
                // From here on more than one position may be meant.
                PatternPart::Run | PatternPart::Rest => {
                    return matches_from(Places::one(at), parts, text, who);
                }
            }
            parts = rest;
        }
        at == text.len()
    }
}

/// Whether a text begins with another that is not empty. Most do not, and differ in the first byte,
/// which is cheaper to see than a call is.
#[inline]
fn begins(text: &[u8], with: &[u8]) -> bool {
    matches!((text, with), ([one, ..], [other, ..]) if one == other) && text.starts_with(with)
}

fn put_text(parts: &mut Vec<PatternPart>, bytes: &[u8]) {
    match parts.last_mut() {
        Some(PatternPart::Text(text)) => text.extend_from_slice(bytes),
        _ => parts.push(PatternPart::Text(bytes.to_vec())),
    }
}

fn put_word(parts: &mut Vec<PatternPart>, word: &[u8]) {
    for piece in word.split_inclusive(|byte| matches!(byte, b'*' | b'#')) {
        let (text, wildcard) = match piece {
            [text @ .., b'*'] => (text, Some(PatternPart::Run)),
            [text @ .., b'#'] => (text, Some(PatternPart::Rest)),
            text => (text, None),
        };
        if !text.is_empty() {
            put_text(parts, text);
        }
        // Adjacent equal wildcards are one: "**" would only cost time.
        parts.extend(wildcard.filter(|wildcard| parts.last() != Some(wildcard)));
    }
}

fn stands_before_a_dot(rest: &[PatternPart]) -> bool {
    match rest.first() {
        None => true,
        Some(PatternPart::Text(text)) => text.starts_with(b"."),
        Some(_) => false,
    }
}

/// Whether the parts match the text to its end from a position of the set.
fn matches_from(mut places: Places, parts: &[PatternPart], text: &[u8], who: Who<'_>) -> bool {
    for part in parts {
        let mut next = Places::default();
        let mut follow = |place: usize, own: &[u8]| {
            if begins(&text[place..], own) {
                next.put(place + own.len());
            }
        };
        match part {
            PatternPart::Text(own) => places.each(|place| follow(place, own)),
            PatternPart::Reserved(reserved) => {
                let [own, other] = reserved.texts(who);
                places.each(|place| {
                    follow(place, own);
                    follow(place, other);
                });
            }
            PatternPart::Run | PatternPart::Word => {
                places.flood(text, |byte| matches!(byte, b'.' | b'#'), &mut next)
            }
            PatternPart::Rest => places.flood(text, |byte| byte == b'\n', &mut next),
        }
        places = next;
    }
    places.has(text.len())
}

/// A set of positions in a text, its end included.
#[derive(Default)]
struct Places([u64; TEXT_BYTES_MAX / 64 + 1]);

impl Places {
    fn one(place: usize) -> Self {
        let mut places = Self::default();
        places.put(place);
        places
    }

    fn put(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn has(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    /// Visits the positions in order, a word at a time.
    fn each(&self, mut visit: impl FnMut(usize)) {
        for (index, word) in self.0.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                visit(index * 64 + word.trailing_zeros() as usize);
                word &= word - 1;
            }
        }
    }

    /// Adds to `next` every position reachable from one of these without passing a byte that `ends`
    /// a run.
    fn flood(&self, text: &[u8], ends: impl Fn(u8) -> bool, next: &mut Places) {
        // One pass for all positions: a run that has begun covers those that begin within it.
        let mut flows = false;
        for place in 0..=text.len() {
            flows |= self.has(place);
            if flows {
                next.put(place);
            }
            flows &= text.get(place).is_some_and(|byte| !ends(*byte));
        }
    }
}
