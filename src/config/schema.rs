//! Everything known of each key, in one place: the settings of every module, from which `schemars`
//! derives a JSON Schema.
//!
//! Documentation comments become descriptions, `Default` gives defaults, and attributes of a field
//! add the rest: `range` its bounds (enforced by `out_of_range`), `example` a value where there is
//! no default, and five extensions: `x-sample`, the value that the sample configuration sets;
//! `x-restart`, a change waits for the next start; `x-secret`, values are never shown;
//! `x-verifiers`, those that suit a dialect's tokens; `x-before`, the tables that this one
//! precedes. Names of environment variables, nearest names, the sample configuration and the schema
//! for editors are made from it.

use super::tables::Config;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// The names of a table's keys in the order of their declaration.
const ORDER: &str = "x-order";
/// Whether a table may be absent.
pub(super) const OPTIONAL: &str = "x-optional";
/// The value that the sample configuration sets.
pub(super) const SAMPLE: &str = "x-sample";
const RESTART: &str = "x-restart";
const VERIFIERS: &str = "x-verifiers";
/// The tables that a table precedes although it is declared after them.
const BEFORE: &str = "x-before";

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    // Inlined, so that the tables can be walked without following references.
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let read = settings.clone().into_generator().into_root_schema_for::<Config>();
    // Of the serialized form every key is required, in the order of declaration, which `properties`
    // does not keep.
    let written = settings.for_serialize().into_generator().into_root_schema_for::<Config>();
    let mut schema = Value::from(read);
    complete(&mut schema, &Value::from(written));
    schema
});

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let mut keys = Vec::new();
    collect(String::new(), &SCHEMA, &mut keys);
    keys
});

/// A key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// With dots; a 0 stands for the place in a list: `listen.0.address`.
    pub path: String,
    schema: &'static Value,
}

/// Every key, in the order of the file.
#[must_use]
pub fn keys() -> &'static [Key] {
    &KEYS
}

/// The JSON Schema for editors, draft 7.
#[must_use]
pub fn for_editors() -> String {
    fn publish(schema: &mut Value) {
        match schema {
            Value::Object(members) => {
                // Editors would report our own extensions as unknown keywords.
                members.retain(|name, _| !name.starts_with("x-"));
                members.values_mut().for_each(publish);
            }
            Value::Array(members) => members.iter_mut().for_each(publish),
            _ => {}
        }
    }
    let mut schema = SCHEMA.clone();
    publish(&mut schema);
    format!("{schema:#}\n")
}

impl Key {
    /// The default as TOML; `None` where there is none.
    #[must_use]
    pub fn default(&self) -> Option<&Value> {
        self.schema.get("default")
    }

    /// An example for a key without a useful default.
    #[must_use]
    pub fn example(&self) -> Option<&Value> {
        self.schema.get("examples")?.get(0)
    }

    /// Whether its values cannot be secrets: a number, yes or no, or one of a few words.
    fn is_plain(&self) -> bool {
        let kind = self.schema.get("type").and_then(Value::as_str);
        let has_choices = |schema: &Value| schema.get("oneOf").or(schema.get("enum")).is_some();
        matches!(kind, Some("integer" | "boolean"))
            || has_choices(self.schema)
            || self.schema.get("items").is_some_and(has_choices)
    }
}

/// Whether keys of this name never hold a secret, even in a table that does.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    // Every key of the name, because only the name is known where an error is shown.
    let mut named = KEYS.iter().filter(|key| key.path.rsplit('.').next() == Some(name)).peekable();
    named.peek().is_some() && named.all(Key::is_plain)
}

/// Whether a table is written with two brackets, as there may be several.
#[must_use]
pub fn is_list(table: &str) -> bool {
    at(table).is_some_and(|schema| elements(schema).is_some())
}

/// The keys and tables whose change waits for the next start: threads, connections to brokers or
/// the store are made with them.
#[must_use]
pub fn at_start() -> Vec<String> {
    fn collect(above: &str, schema: &Value, found: &mut Vec<String>) {
        for (name, schema) in members(schema) {
            let path = format!("{above}{name}");
            if schema.get(RESTART).is_some() {
                found.push(path);
            } else {
                collect(&format!("{path}."), schema, found);
            }
        }
    }
    let mut found = Vec::new();
    collect("", &SCHEMA, &mut found);
    found
}

/// The numbers of a configuration that are out of their range, each with the range.
pub(super) fn out_of_range(table: &toml::Table) -> Vec<String> {
    fn check(path: &str, schema: &Value, value: &toml::Value, problems: &mut Vec<String>) {
        match value {
            toml::Value::Integer(value) => problems.extend(range_problem(path, schema, *value)),
            toml::Value::Table(table) => {
                for (name, schema) in members(schema) {
                    if let Some(value) = table.get(name) {
                        check(&format!("{path}.{name}"), schema, value, problems);
                    }
                }
            }
            toml::Value::Array(values) => {
                let Some(schema) = elements(schema) else { return };
                for (place, value) in values.iter().enumerate() {
                    check(&format!("{path}.{place}"), schema, value, problems);
                }
            }
            _ => {}
        }
    }

    let mut problems = Vec::new();
    for (name, schema) in members(&SCHEMA) {
        if let Some(value) = table.get(name) {
            check(name, schema, value, &mut problems);
        }
    }
    problems
}

fn range_problem(path: &str, schema: &Value, value: i64) -> Option<String> {
    let bound = |name| schema.get(name).and_then(Value::as_i64);
    let (min, max) = (bound("minimum").unwrap_or(i64::MIN), bound("maximum").unwrap_or(i64::MAX));

    let what = match (min, max) {
        _ if (min..=max).contains(&value) => return None,
        // No upper bound.
        (_, i64::MAX) => format!("at least {min}"),
        // 0 is the least of an unsigned type, not a bound of the author's.
        (i64::MIN | 0, _) => format!("at most {max}"),
        _ => format!("{min} to {max}"),
    };
    Some(format!("{path} = {value}: write {what}"))
}

/// The root of the schema.
pub(super) fn root() -> &'static Value {
    &SCHEMA
}

/// The keys and tables of a table, or the kinds of a table that is one of several, in order.
pub(super) fn members(schema: &Value) -> Vec<(&str, &Value)> {
    if let Some(kinds) = schema.get("oneOf").and_then(Value::as_array) {
        return kinds.iter().flat_map(members).collect();
    }
    let Some(properties) = schema.get("properties") else { return vec![] };
    let order = schema.get(ORDER).and_then(Value::as_array).into_iter().flatten();
    order.filter_map(|name| Some((name.as_str()?, properties.get(name.as_str()?)?))).collect()
}

/// The table of a list of tables.
pub(super) fn elements(schema: &Value) -> Option<&Value> {
    schema.get("items").filter(|items| items.get("properties").is_some())
}

/// Whether this is written as one key. A list of tables with an example is short enough for one
/// line, and for one variable.
pub(super) fn is_one_key(schema: &Value) -> bool {
    schema.get("examples").is_some() || (members(schema).is_empty() && elements(schema).is_none())
}

/// The schema of a table, by its name as written in brackets; `.` is the root.
pub(super) fn at(table: &str) -> Option<&'static Value> {
    let mut schema: &Value = &SCHEMA;
    for part in table.split('.').filter(|part| !part.is_empty()) {
        let inner = elements(schema).unwrap_or(schema);
        schema = members(inner).into_iter().find(|(name, _)| *name == part)?.1;
    }
    Some(schema)
}

fn collect(path: String, schema: &'static Value, keys: &mut Vec<Key>) {
    if is_one_key(schema) {
        keys.push(Key { path, schema });
        return;
    }
    // Every table of a list has the keys of the first.
    let (path, schema) = match elements(schema) {
        Some(table) => (format!("{path}.0"), table),
        None => (path, schema),
    };
    for (name, schema) in members(schema) {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        collect(path, schema, keys);
    }
}

/// Adds what only the schema of the serialized form knows, and drops null: in TOML a key is absent
/// instead.
fn complete(schema: &mut Value, written: &Value) {
    match schema {
        Value::Object(members) => {
            for (name, schema) in members.iter_mut() {
                complete(schema, &written[name]);
            }

            if let Some(properties) = members.get("properties") {
                let order = in_order(&written["required"], properties);
                members.insert(ORDER.into(), order);
            }
            if let Some(Value::String(text)) = members.get_mut("description") {
                // Doc comments are broken at the source's width; a blank line alone is a break.
                let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
                *text = paragraphs.collect::<Vec<_>>().join("\n\n");
            }

            without_null(members);
            // A dialect's tokens may suit some verifiers only; the others are not offered.
            if let Some(Value::Array(suitable)) = members.get(VERIFIERS).cloned()
                && let Some(Value::Array(kinds)) = members.get_mut("oneOf")
            {
                kinds.retain(|kind| {
                    kind["required"][0]
                        .as_str()
                        .is_some_and(|name| suitable.iter().any(|it| it == name))
                });
            }
        }
        Value::Array(members) => {
            for (place, schema) in members.iter_mut().enumerate() {
                complete(schema, &written[place]);
            }
        }
        _ => {}
    }
}

/// The names of members in the order of declaration, with those moved that precede others.
fn in_order(declared: &Value, members: &Value) -> Value {
    let mut names = declared.as_array().cloned().unwrap_or_default();
    for name in declared.as_array().into_iter().flatten() {
        let later = name.as_str().and_then(|name| members[name][BEFORE].as_array());
        let (Some(later), Some(from)) = (later, names.iter().position(|it| it == name)) else {
            continue;
        };
        if let Some(to) = names[..from].iter().position(|it| later.contains(it)) {
            names[to..=from].rotate_right(1);
        }
    }
    names.into()
}

/// Drops null as a default, a type and an alternative; the key or table then counts as optional.
fn without_null(members: &mut Map<String, Value>) {
    if members.get("default").is_some_and(Value::is_null) {
        members.remove("default");
    }

    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [kind] = &types[..] {
            // A type in a list of one is the type itself; the sample and the listing expect it so.
            let kind = kind.clone();
            members.insert("type".into(), kind);
            members.insert(OPTIONAL.into(), true.into());
        }
    }

    if let Some(Value::Array(kinds)) = members.get("anyOf")
        // `Option` of a table: its own members take the place of the choice, but the field's
        // comment stays.
        && let [Value::Object(kind), null] = &kinds[..]
        && null["type"] == "null"
    {
        let kind = kind.clone();
        members.remove("anyOf");
        for (name, value) in kind {
            members.entry(name).or_insert(value);
        }
        members.insert(OPTIONAL.into(), true.into());
    }
}
