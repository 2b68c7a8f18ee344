//! The sample configuration: every key with its documentation and its default, made from the
//! schema.

use super::schema::{OPTIONAL, SAMPLE, at, at_start, elements, is_one_key, members, root};
use serde_json::Value;

/// Longest line, in characters.
const WIDTH: usize = 118;

/// The sample configuration's text.
#[must_use]
pub fn sample() -> String {
    let mut sample = SampleText { text: String::new(), told: Vec::new() };
    sample.comment(
        "Every setting of fanfare. A key behind `#` shows its default, or an example where it \
         has none. Any key can be set from the environment instead: feed.unix.path is \
         FANFARE_FEED_UNIX_PATH, the address of the first [[listen]] is \
         FANFARE_LISTEN_0_ADDRESS. A key that does not exist is refused. Editors check this file \
         by the schema that `fanfare config schema` prints.",
    );
    sample.comment(&format!(
        "After a change: systemctl reload fanfare. It checks this file first, applies what can \
         be applied, and the log names each changed key as applied or as one that needs a \
         restart ({}, new dialects). Every client stays.",
        waiting()
    ));
    sample.keys(root(), true);
    sample.tables("", root(), true);
    sample.text
}

/// The keys and tables that wait for a restart, in words: tables in brackets.
#[must_use]
pub fn waiting() -> String {
    let names = at_start().into_iter().map(|path| {
        let is_table = at(&path).is_some_and(|schema| !is_one_key(schema));
        if is_table { format!("[{path}]") } else { path }
    });
    names.collect::<Vec<_>>().join(", ")
}

/// A value as TOML writes it.
#[must_use]
pub fn in_toml(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            format!("[{}]", values.iter().map(in_toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let parts: Vec<_> = members
                .iter()
                .map(|(key, value)| {
                    // Bare keys as TOML allows them; roles are URLs and need quotes.
                    let is_bare = key
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
                    let name = if is_bare { key.to_owned() } else { format!("{key:?}") };
                    format!("{name} = {}", in_toml(value))
                })
                .collect();
            format!("{{ {} }}", parts.join(", "))
        }
        // A JSON string, number or boolean is one of TOML too.
        value => value.to_string(),
    }
}

struct SampleText<'a> {
    text: String,
    /// Tables whose keys have been documented.
    told: Vec<&'a Value>,
}

impl<'a> SampleText<'a> {
    /// The keys of a table; all commented out in an inactive one.
    fn keys(&mut self, table: &'a Value, is_active: bool) {
        let keys: Vec<_> =
            members(table).into_iter().filter(|(_, schema)| is_one_key(schema)).collect();
        let is_told = self.told.contains(&table);

        // Tables of one type appear more than once, such as the verifiers; their keys are explained
        // once.
        self.told.push(table);
        for (name, schema) in keys {
            if !is_told {
                self.comment(&format!("{}{}", description(schema), bounds(schema)));
            }
            // What the sample sets, an example, the default: the first that there is.
            let value = match (schema.get(SAMPLE), schema.get("examples"), schema.get("default")) {
                (Some(value), ..) => in_toml(value),
                (None, Some(examples), _) => in_toml(&examples[0]),
                (None, None, Some(default)) => in_toml(default),
                (None, None, None) => "\"\"".into(),
            };
            // In an active table a key without a sample value still is commented out: its default
            // holds.
            let hash = if is_active && schema.get(SAMPLE).is_some() { "" } else { "#" };
            self.text += &format!("{hash}{name} = {value}\n");
        }
    }

    /// The tables of a table.
    fn tables(&mut self, above: &str, table: &'a Value, is_active: bool) {
        for (name, schema) in members(table).into_iter().filter(|(_, schema)| !is_one_key(schema)) {
            let path = format!("{above}{name}");
            if schema.get("oneOf").is_some() {
                self.kinds(&path, schema, is_active);
                continue;
            }
            let inner = elements(schema).unwrap_or(schema);
            // An optional table is active only where the sample sets one of its keys: an empty one
            // would be an error.
            let is_active = is_active && (schema.get(OPTIONAL).is_none() || is_set(inner));
            if members(inner).iter().any(|(_, schema)| is_one_key(schema)) {
                let header = if elements(schema).is_some() {
                    format!("[[{path}]]")
                } else {
                    format!("[{path}]")
                };
                // The field's own comment rather than its type's, which several tables share.
                let about =
                    [schema, inner].into_iter().map(description).find(|about| !about.is_empty());
                self.table(&header, about.unwrap_or_default(), inner, is_active);
            }
            self.tables(&format!("{path}."), inner, is_active);
        }
    }

    /// A table that is one of several kinds: the first, and the others commented out.
    fn kinds(&mut self, path: &str, schema: &'a Value, is_active: bool) {
        let kinds = schema["oneOf"].as_array().into_iter().flatten();
        let kinds = kinds.flat_map(|kind| {
            members(kind).into_iter().map(|(name, table)| (name, description(kind), table))
        });
        let mut first: Option<&str> = None;
        for (name, what, table) in kinds {
            let intro = match first {
                None => format!("{} Here: {what}", description(schema)),
                Some(first) => format!("Instead of [{path}.{first}]. {what}"),
            };
            self.table(&format!("[{path}.{name}]"), &intro, table, is_active && first.is_none());
            first = first.or(Some(name));
        }
    }

    fn table(&mut self, header: &str, description: &str, table: &'a Value, is_active: bool) {
        self.text.push('\n');
        self.comment(description);
        if self.told.contains(&table) {
            self.comment("Its keys are explained above.");
        }
        self.text += &format!("{}{header}\n", if is_active { "" } else { "#" });
        self.keys(table, is_active);
    }

    /// Appends lines of a comment.
    fn comment(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            let mut line = String::from("#");
            for word in paragraph.split_whitespace() {
                if line.chars().count() + 1 + word.chars().count() > WIDTH {
                    self.text += &format!("{line}\n");
                    line = String::from("#");
                }
                line += &format!(" {word}");
            }
            self.text += &format!("{line}\n");
        }
    }
}

pub(super) fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// What a key's type and text do not say: its range, and the names of a list.
pub(super) fn bounds(schema: &Value) -> String {
    // The limits of a Rust type are no statement of the author's.
    let bound = |name| schema.get(name).and_then(Value::as_u64);
    let of_type = [u8::MAX.into(), u16::MAX.into(), u32::MAX.into()];
    let max = bound("maximum").filter(|max| !of_type.contains(max));
    let names: Vec<&str> = schema["items"]["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();

    match (bound("minimum").filter(|min| *min > 0), max) {
        (Some(min), Some(max)) => format!(" {min} to {max}."),
        (Some(min), None) => format!(" At least {min}."),
        (None, Some(max)) => format!(" At most {max}."),
        (None, None) if names.first().is_some_and(|name| !description(schema).contains(name)) => {
            format!(" Names: {}.", names.join(", "))
        }
        (None, None) => String::new(),
    }
}

/// Whether the sample sets a key of a table.
fn is_set(table: &Value) -> bool {
    members(table).iter().any(|(_, schema)| schema.get(SAMPLE).is_some())
}
