//! Overrides from the environment: the key of a variable, and the value of its text.

use super::schema::keys;
use super::words::{ConfigError, nearest};
use toml::{Table, Value};

/// The prefix of environment variables that override a key.
pub const ENVIRONMENT_PREFIX: &str = "FANFARE_";

/// Highest place of a list that a variable may name, plus one: as many as there may be listeners.
const PLACES_MAX: usize = 64;

/// The variables that are overrides, sorted: the tables of a list come in their order.
pub(super) fn overrides(
    environment: impl Iterator<Item = (String, String)>,
) -> Vec<(String, String)> {
    let mut overrides: Vec<_> = environment
        // FANFARE_TOKEN is the token of `fanfare subscribe`, not a key.
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX) && name != "FANFARE_TOKEN")
        .collect();
    overrides.sort();
    overrides
}

/// The key of an environment variable.
pub(super) fn path_of(name: &str) -> Result<Vec<String>, ConfigError> {
    let wanted = name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase();
    let mut words: Vec<&str> = wanted.split('_').collect();

    let mut places = Vec::new();
    // A number is a place of a list, which the schema writes as 0. The first word is always a key.
    for word in words.iter_mut().skip(1) {
        if word.parse::<usize>().is_ok_and(|place| place < PLACES_MAX) {
            places.push(std::mem::replace(word, "0").to_owned());
        }
    }

    let wanted = words.join("_");
    let variables: Vec<String> = keys().iter().map(|key| key.path.replace('.', "_")).collect();
    let Some(at) = variables.iter().position(|variable| *variable == wanted) else {
        let mut message = format!("{name} is not a setting");
        if let Some(near) = nearest(&wanted, variables.iter().map(String::as_str)) {
            let near = near.to_ascii_uppercase();
            message += &format!("; did you mean \"{ENVIRONMENT_PREFIX}{near}\"?");
        }
        return Err(ConfigError::Environment(message));
    };

    let mut places = places.into_iter();
    let part = |part: &str| if part == "0" { places.next() } else { Some(part.to_owned()) };
    Ok(keys()[at].path.split('.').filter_map(part).collect())
}

/// Numbers, booleans, lists and tables as TOML writes them, everything else as text.
pub(super) fn typed(value: &str) -> Value {
    // A string is not among them: without quotes it is no TOML, with them the quotes are part of
    // it.
    let as_toml = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"));

    match as_toml {
        Some(
            typed @ (Value::Integer(_) | Value::Boolean(_) | Value::Array(_) | Value::Table(_)),
        ) => typed,
        _ => Value::String(value.into()),
    }
}

/// Sets a value in a table, which gets the tables on the way; a number is a place of a list.
pub(super) fn put(table: &mut Table, path: &[String], value: Value) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    if let [place, rest @ ..] = rest
        && let Ok(place) = place.parse::<usize>()
    {
        let list = table.entry(first.clone()).or_insert_with(|| Value::Array(vec![]));
        if let Value::Array(list) = list {
            // Listeners may be set in any order; missing ones are found when the whole is read.
            while list.len() <= place {
                list.push(Value::Table(Table::new()));
            }
            if let Value::Table(inner) = &mut list[place] {
                put(inner, rest, value);
            }
        }
        return;
    }
    let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        put(inner, rest, value);
    }
}
