//! The configuration for operators' eyes: without secrets.

use super::schema::{elements, members, root};
use serde_json::{Map, Value};

/// Stands for a secret.
const REDACTED: &str = "[redacted]";
/// Marks the schema of a secret.
const SECRET: &str = "x-secret";

/// The keys of a table, with secrets replaced, and the passwords of URLs. What the schema does not
/// know could be a secret.
#[must_use]
pub fn redacted(table: &toml::Table) -> Value {
    Value::Object(of_table(Some(root()), table))
}

/// Whether a key of the table is a secret, or a URL with a password.
#[must_use]
pub fn has_secrets(table: &toml::Table) -> bool {
    redacted(table).to_string().contains(REDACTED)
}

fn of_table(schema: Option<&Value>, table: &toml::Table) -> Map<String, Value> {
    let known = schema.map(members).unwrap_or_default();
    let mut shown = Map::new();
    for (name, value) in table {
        let schema = known.iter().find(|(known, _)| known == name).map(|(_, schema)| *schema);
        shown.insert(name.clone(), of_value(schema, value));
    }
    shown
}

fn of_value(schema: Option<&Value>, value: &toml::Value) -> Value {
    match value {
        toml::Value::Table(table) => Value::Object(of_table(schema, table)),
        toml::Value::Array(values) => {
            let schema = schema.and_then(|schema| elements(schema).or(schema.get("items")));
            values.iter().map(|value| of_value(schema, value)).collect()
        }
        _ if schema.is_none_or(|schema| schema.get(SECRET).is_some()) => REDACTED.into(),
        toml::Value::String(text) => without_password(text).into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(is_set) => (*is_set).into(),
        toml::Value::Datetime(moment) => moment.to_string().into(),
    }
}

/// A text; of a URL, without what stands before the host.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://{REDACTED}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_passwords_are_replaced_and_what_is_unknown_is_too() {
        let table: toml::Table = toml::from_str(
            r#"
            threads = 2
            [[listen]]
            address = "127.0.0.1:1"
            dialects = ["echo", "wazo"]
            [admin]
            address = "127.0.0.1:2"
            token = "hush-1"
            token_file = "/etc/token"
            [feed.amqp]
            url = "amqp://user:hush-2@host"
            [wazo.token.wazo_auth]
            url = "https://user:hush-3@host:9497/x@y"
            [channel.token.jwt]
            algorithms = ["HS256"]
            secret = "hush-4"
            [[echo.app]]
            id = "7"
            secret = "hush-5"
            [nothing]
            key = "hush-6"
            "#,
        )
        .unwrap();
        let shown = redacted(&table);
        assert!(!shown.to_string().contains("hush"), "{shown}");
        assert_eq!((&shown["threads"], &shown["echo"]["app"][0]["id"]), (&2.into(), &"7".into()));
        assert_eq!(shown["listen"][0]["dialects"], serde_json::json!(["echo", "wazo"]));
        assert_eq!(shown["admin"]["token_file"], "/etc/token");
        assert_eq!(shown["admin"]["token"], REDACTED);
        assert_eq!(shown["wazo"]["token"]["wazo_auth"]["url"], "https://[redacted]@host:9497/x@y");
        assert_eq!(without_password("http://host/a@b"), "http://host/a@b");
        assert_eq!(without_password("a@b"), "a@b");
    }
}
