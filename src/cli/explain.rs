//! Says what is wrong with a configuration file: where, what, and what was probably meant.
//!
//! The text of a TOML or serde error goes in, a message for the person who wrote the file comes
//! out. A file may hold secrets, and messages end in logs; so the value of a key whose name (or
//! whose table's name) contains `secret`, `token` or `url`, which may have a password in it, is
//! shown neither in the quoted line nor in the message, except for keys in such tables that are
//! known to hold no secret. Where it is not certain which value a message is about, and the file
//! has such keys, no value is shown.

use std::ops::Range;

use super::error::printable;
use crate::config::schema::{is_list, is_plain};
use crate::config::words::{self, Mismatch, nearest};

/// Characters of a line of the file that are shown.
const SOURCE_CHARS_MAX: usize = 120;

/// What stands in the place of a secret.
const HIDDEN: &str = "[hidden]";

/// The message for `error`, which came from reading `text`, the content of `file_name`.
///
/// ```
/// # #[derive(serde::Deserialize, Debug)]
/// # #[serde(deny_unknown_fields)]
/// # struct Settings { #[allow(dead_code)] threads: u32 }
/// let text = "\ntreads = 1";
/// let error = toml::from_str::<Settings>(text).unwrap_err();
/// assert_eq!(
///     fanfare::cli::explain::explain("fanfare.toml", text, &error),
///     "fanfare.toml:2: unknown key \"treads\" at the top level; did you mean \"threads\"?"
/// );
/// ```
pub fn explain(file_name: &str, text: &str, error: &toml::de::Error) -> String {
    let scan = TomlScan::new(text, error.span().map(|span| span.start));
    let Some(span) = error.span() else {
        let message = describe(error.message(), &scan, !scan.hidden.is_empty() && !is_syntax(text));
        return format!("{file_name}: {message}");
    };
    let start =
        (0..=span.start.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let line = 1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count();
    let conceal = scan.conceals(&span) && !is_syntax(text);
    let message = describe(error.message(), &scan, conceal);
    // The message names the key and its table; the line would repeat it.
    if unknown_key(error.message()).is_some() {
        return format!("{file_name}:{line}: {message}");
    }
    let source = printable(&scan.shown_line(start), SOURCE_CHARS_MAX);
    format!("{file_name}:{line}: {message}\n  {line} | {source}")
}

/// Whether the text is not even TOML; such an error's message is made of fixed words alone.
fn is_syntax(text: &str) -> bool {
    toml::from_str::<toml::Table>(text).is_err()
}

/// The message in the words of a configuration; with `conceal`, without any value.
fn describe(message: &str, scan: &TomlScan<'_>, conceal: bool) -> String {
    let message = message.trim_end();
    if let Some(name) = scan.single_as_list() {
        return format!(
            "write [{name}]: there is only one, and two brackets are for what there may be \
             several of"
        );
    }
    if let Some((name, expected)) = unknown_key(message) {
        let name = printable(name, SOURCE_CHARS_MAX);
        return format!(
            "unknown key \"{name}\" {}{}",
            scan.place(),
            advice(&name, expected, "valid keys")
        );
    }
    if let Some(name) = words::missing(message) {
        return format!("missing key \"{name}\" {}", scan.place());
    }
    if let Some((name, expected)) = quoted_name(message, "unknown variant `") {
        let shown = if conceal {
            HIDDEN.into()
        } else {
            format!("\"{}\"", printable(name, SOURCE_CHARS_MAX))
        };
        return format!("unknown value {shown}{}", advice(name, expected, "valid values"));
    }
    if let Some(message) = words::plain(message) {
        return message.into();
    }
    if let Some(mismatch) = Mismatch::read(message) {
        if let Some((right, why)) = scan.brackets(&mismatch) {
            return format!("write {right}: {why}");
        }
        let found =
            if conceal { format!("{} {HIDDEN}", mismatch.kind()) } else { mismatch.found() };
        let found = printable(&found, 4 * SOURCE_CHARS_MAX);
        return format!("expected {}, found {found}", mismatch.expected());
    }
    if conceal {
        return format!("this value is not valid {HIDDEN}");
    }
    printable(message, 4 * SOURCE_CHARS_MAX)
}

/// The name and the valid names of serde's "unknown field" message.
fn unknown_key(message: &str) -> Option<(&str, &str)> {
    quoted_name(message, "unknown field `")
}

/// Takes apart ``{prefix}name`, expected …`` and ``{prefix}name`, there are no …``.
fn quoted_name<'a>(message: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let rest = message.strip_prefix(prefix)?;
    rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are no "))
}

/// The nearest valid name if one is near, else all of them. `expected` quotes each in backticks.
fn advice(name: &str, expected: &str, title: &str) -> String {
    let names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match nearest(name, names.iter().copied()) {
        _ if names.is_empty() => String::new(),
        Some(valid) => format!("; did you mean \"{valid}\"?"),
        None => format!("; {title}: {}", names.join(", ")),
    }
}

/// One pass over the file, for what the parser's error does not tell: the table around a place, and
/// the bytes that must not be shown. It follows TOML's lines, strings, comments and brackets, and
/// goes on where the parser stopped; where in doubt it hides more.
struct TomlScan<'a> {
    text: &'a str,
    at: usize,
    /// The header above the current line, brackets included; empty before the first.
    section: &'a str,
    /// The keys whose values' brackets are open.
    keys: Vec<&'a str>,
    /// The key before the last `=`, and where the next one begins.
    key: &'a str,
    key_start: usize,
    /// After the `=` of the current line, or within its brackets.
    in_value: bool,
    /// Where what is hidden began, while it lasts.
    hidden_from: Option<usize>,
    /// A hidden string was left open at its line's end: hide up to the next header.
    unclosed: bool,
    hidden: Vec<Range<usize>>,
    /// Section, keys and `in_value` at the place that was asked for.
    found: Option<(&'a str, Vec<&'a str>, bool)>,
}

impl<'a> TomlScan<'a> {
    fn new(text: &'a str, place: Option<usize>) -> Self {
        let mut scan = TomlScan {
            text,
            at: 0,
            section: "",
            keys: Vec::new(),
            key: "",
            key_start: 0,
            in_value: false,
            hidden_from: None,
            unclosed: false,
            hidden: Vec::new(),
            found: None,
        };
        while scan.at < text.len() {
            let before = (scan.section, scan.keys.clone(), scan.in_value);
            scan.step();
            if let Some(place) = place.filter(|&place| scan.found.is_none() && place < scan.at) {
                scan.found = Some(match text.as_bytes()[place] {
                    b'[' if before.0 != scan.section => (scan.section, Vec::new(), false),
                    // The name in a header is a key of the table above.
                    _ if before.0 != scan.section => ("", parents(scan.section), false),
                    b'{' => (scan.section, scan.keys.clone(), true),
                    _ => before,
                });
            }
        }
        // A file may end in a secret.
        scan.end_hidden(text.len());
        if scan.found.is_none() && place.is_some() {
            scan.found = Some((scan.section, scan.keys.clone(), scan.in_value));
        }
        scan
    }

    /// Where the found place is, in words.
    fn place(&self) -> String {
        let (section, keys) =
            self.found.as_ref().map_or(("", &[][..]), |found| (found.0, &found.1[..]));
        let keys: Vec<&str> = keys.iter().copied().filter(|key| !key.is_empty()).collect();
        let section = printable(section, SOURCE_CHARS_MAX);
        match (keys.is_empty(), section.is_empty()) {
            (true, true) => "at the top level".into(),
            (true, false) => format!("in {section}"),
            (false, true) => format!("in \"{}\"", keys.join(".")),
            (false, false) => format!("in \"{}\" of {section}", keys.join(".")),
        }
    }

    /// The name of a table that is written as a list, around the found place.
    fn single_as_list(&self) -> Option<&'a str> {
        let (section, ..) = self.found.as_ref()?;
        let name = section.strip_prefix("[[")?.strip_suffix("]]")?.trim();
        (!is_list(name)).then_some(name)
    }

    /// A list that is written as a table: its right head, and why.
    fn brackets(&self, mismatch: &Mismatch<'_>) -> Option<(String, &'static str)> {
        let (section, _, in_value) = self.found.as_ref()?;
        let name = section.strip_prefix('[')?.strip_suffix(']')?.trim();
        let is_head = !in_value && mismatch.is_single_of_list() && is_list(name);
        is_head.then(|| (format!("[[{name}]]"), "there may be several, each with two brackets"))
    }

    /// Whether a message about `span` may hold a value that must not be shown. An error that points
    /// into a value is about that value; one that points at a key or a header may be about any
    /// below it.
    fn conceals(&self, span: &Range<usize>) -> bool {
        let in_value = self.found.as_ref().is_some_and(|found| found.2);
        self.hidden.iter().any(|hidden| {
            !in_value || hidden.start < span.end.max(span.start + 1) && span.start <= hidden.end
        })
    }

    /// The line around `place`, with what is hidden replaced.
    fn shown_line(&self, place: usize) -> String {
        let start = self.text[..place].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[place..].find('\n').map_or(self.text.len(), |at| place + at);
        let mut shown = String::new();
        let mut at = start;
        for hidden in &self.hidden {
            let (from, to) = (hidden.start.max(at), hidden.end.min(end));
            if from < to {
                shown.push_str(&self.text[at..from]);
                shown.push_str(HIDDEN);
                at = to;
            }
        }
        shown.push_str(&self.text[at..end]);
        shown.trim_end().into()
    }

    /// Takes the next character, string, comment or header.
    fn step(&mut self) {
        let rest = &self.text[self.at..];
        let first = rest.chars().next().unwrap_or('\n');
        match first {
            '\n' => self.end_line(),
            '#' => self.at += rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => self.string(first),
            '[' if !self.in_value && self.text[self.key_start..self.at].trim().is_empty() => {
                self.header()
            }
            '[' | '{' => {
                self.keys.push(self.key);
                self.key = "";
                self.at += 1;
                self.key_start = self.at;
            }
            ']' | '}' => {
                self.key = self.keys.pop().unwrap_or("");
                self.at += 1;
            }
            ',' => {
                self.at += 1;
                self.key_start = self.at;
            }
            '=' => self.equals(),
            _ => self.at += first.len_utf8(),
        }
    }

    fn end_line(&mut self) {
        if self.keys.is_empty() {
            self.in_value = false;
            self.key = "";
        }
        self.at += 1;
        self.key_start = self.at;
    }

    /// A key: what is hidden above it ends with the line before it, and not earlier, because a line
    /// without a key may be the rest of a value that was not written as TOML wants it.
    fn equals(&mut self) {
        if !self.in_value && !self.unclosed {
            self.end_hidden(self.key_start);
        }
        self.key = self.text[self.key_start..self.at].trim();
        self.in_value = true;
        self.at += 1;
        self.key_start = self.at;
        if self.hidden_from.is_none() && self.is_secret() {
            self.hidden_from = Some(self.at);
        }
    }

    /// Whether the value of the key is to be hidden.
    fn is_secret(&self) -> bool {
        is_secret(self.key) || is_secret(self.section) && !is_plain(self.key)
    }

    fn header(&mut self) {
        let rest = &self.text[self.at..];
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        self.unclosed = false;
        self.end_hidden(self.at);
        self.section = line[..line.rfind(']').map_or(line.len(), |end| end + 1)].trim();
        self.at += line.len();
    }

    /// Passes a string; a one-line string that is not closed ends with its line.
    fn string(&mut self, quote: char) {
        let rest = &self.text[self.at..];
        let triple = String::from(quote).repeat(3);
        let long = rest.starts_with(&triple);
        let mark = if long { &triple[..] } else { &triple[..1] };
        let mut end = mark.len();
        while end < rest.len() && !rest[end..].starts_with(mark) {
            let character = rest[end..].chars().next().unwrap_or('\n');
            // What follows may be the rest of the secret, so it is hidden too.
            if character == '\n' && !long {
                self.unclosed |= self.hidden_from.is_some();
                self.at += end;
                return;
            }
            end += character.len_utf8();
            if character == '\\' && quote == '"' {
                let next = rest[end..].chars().next().filter(|&next| long || next != '\n');
                end += next.map_or(0, char::len_utf8);
            }
        }
        self.at += rest.len().min(end + mark.len());
    }

    fn end_hidden(&mut self, end: usize) {
        if let Some(from) = self.hidden_from.take() {
            let hidden = &self.text[from..end];
            self.hidden.push(end - hidden.trim_start().len()..end);
        }
    }
}

/// The names before the last in a header.
fn parents(header: &str) -> Vec<&str> {
    header.trim_matches(['[', ']']).rsplit_once('.').map_or(vec![], |(parents, _)| vec![parents])
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("secret") || name.contains("token") || name.contains("url")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Settings {
        threads: Option<u32>,
        #[serde(default)]
        listen: Vec<Listen>,
        personium: Option<Personium>,
        #[serde(default)]
        mode: Option<Mode>,
        wazo: Option<Wazo>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Listen {
        address: String,
        #[serde(default)]
        dialects: Vec<Dialect>,
        tls: Option<Tls>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Tls {
        certificate: String,
    }

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "kebab-case")]
    enum Dialect {
        Wazo,
        PersoniumEvent,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Personium {
        token: Option<Verifier>,
        secret: Option<u32>,
        anonymous: Option<bool>,
        secret_kind: Option<Dialect>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Verifier {
        secret: Option<Mode>,
    }

    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Wazo {
        #[serde(flatten)]
        rest: Rest,
    }

    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Rest {
        secret: Mode,
    }

    /// A setting that quotes the value it refuses.
    #[derive(Debug)]
    struct Mode;

    impl<'de> Deserialize<'de> for Mode {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let text = String::deserialize(from)?;
            Err(serde::de::Error::custom(format!("{text} is no file mode")))
        }
    }

    fn explained(text: &str) -> String {
        explain("f.toml", text, &toml::from_str::<Settings>(text).unwrap_err())
    }

    #[test]
    fn an_unknown_key_gets_the_nearest_name_and_its_table() {
        let expected = "f.toml:3: unknown key \"adress\" in [[listen]]; did you mean \"address\"?";
        assert_eq!(explained("threads = 1\n[[listen]]\nadress = \"a\""), expected);
        let expected = "f.toml:4: unknown key \"certificat\" in \"tls\" of [[listen]]; did you mean \"certificate\"?";
        assert_eq!(
            explained("\n[[listen]]\naddress = \"a\"\ntls = { certificat = \"x\" }"),
            expected
        );
        let expected = "f.toml:1: unknown key \"feed\" at the top level; valid keys: threads, listen, personium, mode, wazo";
        assert_eq!(explained("feed = 1"), expected);
        let expected = "f.toml:2: unknown key \"store\" at the top level; valid keys: threads, listen, personium, mode, wazo";
        assert_eq!(explained("[personium]\n[store]\npath = \"x\""), expected);
        let expected = "f.toml:2: unknown key \"tokens\" in \"personium\"; did you mean \"token\"?";
        assert_eq!(explained("threads = 1\n[personium.tokens]\nx = 1"), expected);
        let expected = "f.toml:2: unknown key \"secert\" in \"token\" of [personium]; did you mean \"secret\"?";
        assert_eq!(explained("[personium]\ntoken = { secert = \"hunter2\" }"), expected);
    }

    #[test]
    fn other_errors_quote_the_line() {
        let expected =
            "f.toml:1: expected a whole number, found \"four\"\n  1 | threads = \"four\"";
        assert_eq!(explained("threads = \"four\""), expected);
        let expected = "f.toml:2: missing key \"address\" in [[listen]]\n  2 | [[listen]]";
        assert_eq!(explained("\n[[listen]] "), expected);
        let text = "[[listen]]\naddress = \"a\"\ndialects = [\n  \"wazoo\",\n]";
        let expected =
            "f.toml:4: unknown value \"wazoo\"; did you mean \"wazo\"?\n  4 |   \"wazoo\",";
        assert_eq!(explained(text), expected);
        assert_eq!(explained("mode = \"x\""), "f.toml:1: x is no file mode\n  1 | mode = \"x\"");
        assert!(
            explained("threads = 1\nthreads = 2")
                .starts_with("f.toml:2: duplicate key\n  2 | threads")
        );
        let expected =
            "f.toml:4: missing key \"certificate\" in \"tls\" of [[listen]]\n  4 | tls = {}";
        assert_eq!(explained("\n[[listen]]\naddress = \"a\"\ntls = {}"), expected);
        assert_eq!(
            explained("[[listen]]\n[[listen]]"),
            "f.toml:1: missing key \"address\" in [[listen]]\n  1 | [[listen]]"
        );
        assert_eq!(
            explained("threads = [1,\n"),
            "f.toml:1: unclosed array, expected `]`\n  1 | threads = [1,"
        );
    }

    #[test]
    fn brackets_that_are_too_few_or_too_many_are_told() {
        let expected = "f.toml:1: write [[listen]]: there may be several, each with two brackets\n  1 | [listen]";
        assert_eq!(explained("[listen]\naddress = \"a\""), expected);
        let one = explained("threads = 1\n[[personium]]\nanonymous = true");
        assert!(one.contains("write [personium]: there is only one"), "{one}");
        assert!(explained("listen = \"a\"").contains("expected a list in brackets"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let files = [
            "[personium]\nsecret = \"hunter2\"",
            "[personium]\nsecret = \"\"\"\nx = 1\nhunter2 \\q\n\"\"\"",
            "[personium]\nsecret = \"hunter2",
            "[personium]\nsecret = \"x\nhunter2 = y\"",
            "[personium]\nsecret = hunter2",
            "[personium]\nsecret = [\n 1,\n \"hunter2\"]",
            "personium = { secret = \"hunter2\" }",
            "personium.secret = \"hunter2\"",
            "[personium]\n\"secret\" = 'hunter2'",
            "[personium]\nsecret_kind = \"hunter2\"",
            "[personium]\ntoken = { secret = \"hunter2\" }",
            "[personium.token]\nsecret = \"hunter2\"",
            "[personium.token]\nsecret = \"hunter\\u0032\"",
            "[wazo]\nsecret = \"hunter2\"",
            "[feed.amqp]\nurl = amqp://wazo:hunter2@host",
            "wazo = { secret = \"hunter2\" }",
            "threads = \"x\" # \nmy_secret_token = \"hunter2\"",
            "[personium.token]\nalgorithms = 1\nsecret = \"hunter2",
            "[personium.token]\nsecret = \"hunter2\nalgorithms = \"hunter2",
            "[personium.token]\nalgorithms.secret = \"hunter2\"",
        ];
        for text in files {
            let message = explained(text);
            assert!(!message.contains("hunter"), "{text}\n→ {message}");
            assert!(message.starts_with("f.toml:"), "{message}");
        }
        let expected =
            "f.toml:2: expected a whole number, found text [hidden]\n  2 | secret = [hidden]";
        assert_eq!(explained("[personium]\nsecret = \"hunter2\""), expected);
    }

    #[test]
    fn what_is_no_secret_is_shown_beside_one() {
        let text = "[wazo.token]\nsecret = 1\nalgorithms = [\"HS257\"]\nleeway_s = \"x\"\n";
        let scan = TomlScan::new(text, None);
        let hidden: Vec<&str> =
            scan.hidden.iter().map(|hidden| text[hidden.clone()].trim()).collect();
        assert_eq!(hidden, ["1"]);
    }

    #[test]
    fn a_secret_elsewhere_does_not_hide_what_is_wrong_here() {
        let text = "[personium]\nsecret = 1\nanonymous = \"yes\"";
        let expected = "f.toml:3: expected true or false, found \"yes\"\n  3 | anonymous = \"yes\"";
        assert_eq!(explained(text), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn no_text_is_too_strange(text in "[\\[\\]{}=,.#\"'\\\\\na-c \u{e9}]{0,60}") {
            if let Err(error) = toml::from_str::<Settings>(&text) {
                prop_assert!(explain("f.toml", &text, &error).starts_with("f.toml"));
            }
        }

        #[test]
        fn a_secret_in_any_surroundings_is_not_shown(
            before in "[\\[\\]{}=,#a-c \n]{0,12}",
            within in "[\\[\\]{}=,#\"'\n ]{0,6}",
            after in "[\\[\\]{}=,#\"'\na-c ]{0,12}",
        ) {
            let text = format!("{before}\nsecret = \"{within}hunter2{after}");
            // A later line that opens with a bracket or has an `=` is a table or a key of its own.
            let elsewhere = within.contains('\n') && format!("{within}{after}").contains(['[', '=']);
            if let Err(error) = toml::from_str::<Settings>(&text) {
                prop_assert!(elsewhere || !explain("f.toml", &text, &error).contains("hunter2"), "{}", text);
            }
        }
    }
}
