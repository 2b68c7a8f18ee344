//! The form that a value should have had, in the words of TOML rather than of Rust.

/// serde's message about a value of the wrong kind, taken apart.
pub struct Mismatch<'a> {
    found: &'a str,
    expected: &'a str,
    /// Whether the kind is right and the value out of range.
    is_range: bool,
}

impl<'a> Mismatch<'a> {
    /// Reads ``invalid type: FOUND, expected EXPECTED`` and its like.
    #[must_use]
    pub fn read(message: &'a str) -> Option<Self> {
        let of = |prefix: &str| message.strip_prefix(prefix)?.rsplit_once(", expected ");
        let kind = of("invalid type: ").map(|parts| (parts, false));
        let ((found, expected), is_range) =
            kind.or_else(|| Some((of("invalid value: ")?, true)))?;
        Some(Self { found, expected, is_range })
    }

    /// Whether a list was written as a table, or a table as a list.
    #[must_use]
    pub fn is_single_of_list(&self) -> bool {
        self.found == "map" && self.expected == "a sequence"
    }

    /// The form that was expected.
    #[must_use]
    pub fn expected(&self) -> String {
        // The range of the type is of use only where the number is out of it.
        let whole = |range: &str| match self.is_range {
            true => format!("a whole number {range}"),
            false => "a whole number".to_owned(),
        };
        match self.expected {
            "u8" => whole("from 0 to 255"),
            "u16" => whole("from 0 to 65535"),
            "u32" => whole("from 0 to 4294967295"),
            "u64" | "usize" => whole("of 0 or more"),
            "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
            "f32" | "f64" => "a number".into(),
            "a boolean" => "true or false".into(),
            "a string" | "a borrowed string" | "path string" => "text in quotes".into(),
            "a sequence" => "a list in brackets, like [\"…\"]".into(),
            "a map" => "a table, like { key = \"value\" }".into(),
            "socket address" => "an address, like \"127.0.0.1:8080\"".into(),
            expected if expected.starts_with("struct ") => {
                "a table, like { key = \"value\" }".into()
            }
            expected => expected.into(),
        }
    }

    /// The kind of the value, without the value.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        let kinds = [
            ("string", "text"),
            ("integer", "a number"),
            ("floating point", "a number"),
            ("boolean", "true or false"),
            ("sequence", "a list"),
            ("map", "a table"),
            ("unit", "nothing"),
        ];
        kinds
            .iter()
            .find(|(start, _)| self.found.starts_with(start))
            .map_or("a value", |(_, kind)| kind)
    }

    /// The value, or its kind where serde does not show it.
    #[must_use]
    pub fn found(&self) -> String {
        let value =
            self.found.split_once(['`', '"']).map(|(_, rest)| rest.trim_end_matches(['`', '"']));
        // Quoted numbers are the commonest slip: environment files and YAML have taught them.
        match (self.kind(), value) {
            ("text", Some(text))
                if self.expected().contains("number") && text.parse::<f64>().is_ok() =>
            {
                format!("\"{text}\": leave the quotes out")
            }
            ("text", Some(text)) => format!("\"{text}\""),
            (_, Some(value)) => value.into(),
            (kind, None) => kind.into(),
        }
    }
}

/// Other messages of serde in plain words, where they contain no value.
#[must_use]
pub fn plain(message: &str) -> Option<&'static str> {
    match message {
        "invalid socket address syntax" => Some(
            "not an address: write the IP address and the port, like \"127.0.0.1:8080\" or \
             \"[::]:8080\"",
        ),
        "wanted string or table" => Some("expected text in quotes"),
        _ if message.starts_with("wanted exactly 1 element, more than 1") => {
            Some("this table takes one of its kinds, and there are several: keep one")
        }
        _ if message.starts_with("wanted exactly 1 element") => Some(
            "this table takes one of its kinds, and there is none: see the sample configuration",
        ),
        _ => None,
    }
}

/// The key of serde's "missing field" message.
pub fn missing(message: &str) -> Option<&str> {
    message.trim_end().strip_prefix("missing field `")?.strip_suffix('`')
}

/// Why a configuration was not read.
#[derive(Debug)]
pub enum ConfigError {
    /// The file's text is wrong.
    Text(Box<toml::de::Error>),
    /// An environment variable is wrong; the message says which and why, without its value.
    Environment(String),
}

/// The known name that was probably meant, in whatever case it is written.
///
/// ```
/// # use fanfare::config::words::nearest;
/// assert_eq!(nearest("Pubish", ["serve", "publish"]), Some("publish"));
/// assert_eq!(nearest("x-ray", ["serve", "publish"]), None);
/// ```
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let known = known.into_iter();
    let (distance, near) = known
        .map(|known| (strsim::damerau_levenshtein(&name, &known.to_lowercase()), known))
        .min()?;
    // A third of the letters may differ, and one more: beyond that, names have nothing in common.
    (distance <= 1 + name.chars().count() / 3).then_some(near)
}

/// `; did you mean "…"?`, or nothing when nothing is near.
#[must_use]
pub fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_kind_is_told_without_a_word_of_rust() {
        for (message, expected, found) in [
            ("invalid type: string \"many\", expected usize", "a whole number", "\"many\""),
            (
                "invalid type: string \"2\", expected u32",
                "a whole number",
                "\"2\": leave the quotes out",
            ),
            ("invalid value: integer `-1`, expected u16", "a whole number from 0 to 65535", "-1"),
            ("invalid type: floating point `1.5`, expected usize", "a whole number", "1.5"),
            ("invalid type: integer `1`, expected a boolean", "true or false", "1"),
            (
                "invalid type: map, expected a sequence",
                "a list in brackets, like [\"…\"]",
                "a table",
            ),
            (
                "invalid type: boolean `true`, expected struct Admin",
                "a table, like { key = \"value\" }",
                "true",
            ),
        ] {
            let mismatch = Mismatch::read(message).unwrap();
            assert_eq!(
                (&mismatch.expected()[..], &mismatch.found()[..]),
                (expected, found),
                "{message}"
            );
        }
        assert!(Mismatch::read("unknown field `x`").is_none());
    }
}
