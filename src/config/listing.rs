//! The keys of a table as a Markdown table, for the manual; made from the schema, like the sample.

use super::sample::{bounds, description, in_toml};
use super::schema::{SAMPLE, at, elements, is_one_key, members};
use serde_json::Value;

/// The keys of the table with this name, as written in brackets; `.` is the top of the file. `None`
/// when there is no such table.
///
/// ```
/// let limits = fanfare::config::listing::listing("limits").unwrap();
/// assert!(limits.contains("\n| `subscriptions_max` | `10000000` | "));
/// ```
#[must_use]
pub fn listing(table: &str) -> Option<String> {
    let schema = at(table)?;
    let keys = members(elements(schema).unwrap_or(schema)).into_iter();
    let rows =
        keys.filter(|(_, schema)| is_one_key(schema)).map(|(name, schema)| row(name, schema));
    Some(format!("| key | default | meaning |\n|---|---|---|\n{}", rows.collect::<String>()))
}

fn row(name: &str, schema: &Value) -> String {
    let example = schema.get("examples").and_then(|examples| examples.get(0));
    let shown = |value: &Value| format!("`{}`", in_toml(value).replace('|', "\\|"));
    // A key with an example has no default of use.
    let default = schema.get("default").filter(|_| example.is_none()).map(shown);
    let example = example.or(schema.get(SAMPLE)).filter(|_| default.is_none());
    let example = example.map_or_else(String::new, |value| format!(" Such as {}.", shown(value)));

    let meaning = format!("{}{}", description(schema), bounds(schema)).replace("\n\n", " ");
    format!("| `{name}` | {} | {}{example} |\n", default.unwrap_or_default(), escaped(&meaning))
}

/// Escapes a description for Markdown. It has no markup but code; values in quotes become code.
fn escaped(text: &str) -> String {
    let (mut is_code, mut is_value) = (false, false);
    let mut out = String::new();
    for character in text.chars() {
        is_code ^= character == '`';
        // Within backticks quotes are part of the code.
        let is_quote = character == '"' && !is_code;
        if is_quote && !is_value {
            out.push('`');
        }
        // A bar ends the cell even within code.
        if character == '|' || !is_code && !is_value && "\\[]<>*".contains(character) {
            out.push('\\');
        }
        out.push(character);
        if is_quote && is_value {
            out.push('`');
        }
        is_value ^= is_quote;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_default_or_an_example_and_what_a_key_means() {
        let wazo = listing("wazo").unwrap();
        assert!(wazo.contains("| `ping_interval_s` | `50` | "), "{wazo}");
        assert!(wazo.contains("| `master_tenant_uuid` |  | "), "{wazo}");
        assert!(listing("listen").unwrap().contains(" Such as `\"0.0.0.0:8080\"`. |"));
        assert!(listing("echo.app.webhook").is_some());
        assert!(listing("no.table").is_none());
    }

    #[test]
    fn what_would_be_markup_is_escaped_outside_of_code() {
        assert_eq!(escaped("[a], `b[c]|`, \"[d]\"."), "\\[a\\], `b[c]\\|`, `\"[d]\"`.");
    }
}
