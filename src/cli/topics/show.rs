//! JSON of the daemon as a person reads it: aligned, with counts and sizes that can be taken in.
//!
//! What a field is called here is what the daemon calls it, so that whatever it comes to tell one
//! day is shown.

use super::super::{
    CliError,
    error::printable,
    output::{columns, grouped, size},
};
use crate::calendar::Utc;
use crate::service::topic::MessageId;
use base64::Engine as _;
use serde_json::{Map, Value};

/// Width up to which the columns of a table are aligned. What is wider is shown whole, and moves
/// the rest of its row: names and paths are there to be copied.
const COLUMN_CHARS_MAX: usize = 60;
/// What the daemon tells in unix time (ms).
const TIMES: [&str; 4] = ["publishTime", "oldestPublishTime", "eventTime", "deliverAt"];
/// Characters of a payload that are shown; `--json` prints all of a message, which may have a MiB.
const PAYLOAD_CHARS_MAX: usize = 2000;

/// The names of a list, whatever it is wrapped in.
pub(super) fn names(list: &Value) -> Result<Vec<String>, CliError> {
    let list = list.get("topics").unwrap_or(list).as_array();
    let names = list.and_then(|list| {
        let names = list.iter().map(|entry| {
            let name = entry.get("name").or_else(|| entry.get("topic")).unwrap_or(entry);
            name.as_str().map(str::to_owned)
        });
        names.collect()
    });
    names.ok_or_else(|| {
        CliError::new("the daemon's list is of another kind: is it of the same release?")
    })
}

/// An object: its own values line by line, and a table for each list or object of objects in it.
pub(super) fn record(value: &Value) -> String {
    let Value::Object(fields) = value else { return cell("", value) + "\n" };
    let (tables, lines): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_table(value));
    let lines: Vec<[String; 2]> =
        lines.into_iter().map(|(name, value)| [words(name), cell(name, value)]).collect();
    let mut text = columns(&lines, usize::MAX, usize::MAX);
    for (name, value) in tables {
        let rows = rows(value);
        if rows.is_empty() {
            text += &format!("\n{}: none\n", words(name));
        } else {
            text += &format!("\n{}\n{}", words(name), table(&rows));
        }
    }
    text
}

/// Messages: a line about each, its properties, and its payload.
pub(super) fn messages(value: &Value) -> String {
    let list = value.get("messages").unwrap_or(value).as_array();
    let blocks: Vec<String> = list.into_iter().flatten().map(message).collect();
    blocks.join("\n")
}

fn message(value: &Value) -> String {
    let Value::Object(fields) = value else { return cell("", value) + "\n" };
    let [id, payload] = ["messageId", "payload"]
        .map(|name| fields.get(name).and_then(Value::as_str).unwrap_or_default());
    let place = MessageId::read(id).map_or_else(
        |_| String::new(),
        |id| format!(" ({}:{})", id.position.ledger(), id.position.entry()),
    );
    let mut out = format!("{}{place}", whole(id));
    for (name, value) in fields {
        if !["messageId", "payload", "properties"].contains(&&**name) && !value.is_null() {
            out += &format!("  {} {}", words(name), cell(name, value));
        }
    }
    out.push('\n');
    for (name, value) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        out += &format!("  {}: {}\n", whole(name), cell("", value));
    }
    out += &format!("  {}\n", self::payload(payload));
    out
}

/// A payload as text, if it is some.
fn payload(base64: &str) -> String {
    // Shown as it came, by a daemon of another release.
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(base64) else {
        return cut(base64);
    };
    match std::str::from_utf8(&bytes) {
        Ok("") => "(empty)".into(),
        Ok(text) => cut(text),
        Err(_) => format!("({} that are no text)", size(bytes.len() as u64)),
    }
}

/// A text that is shown as long as it is.
fn whole(text: &str) -> String {
    printable(text, usize::MAX)
}

/// A text that is cut off, and says so.
fn cut(text: &str) -> String {
    let shown = printable(text, PAYLOAD_CHARS_MAX);
    match text.chars().count().checked_sub(PAYLOAD_CHARS_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} ({} more characters, see --json)", grouped(more as u64)),
    }
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().all(Value::is_object),
        Value::Object(fields) => !fields.is_empty() && fields.values().all(Value::is_object),
        _ => false,
    }
}

/// The rows of a table. Those of an object begin with their names.
fn rows(value: &Value) -> Vec<Map<String, Value>> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_object).cloned().collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let mut row = value.as_object().cloned().unwrap_or_default();
                row.insert("name".into(), name.as_str().into());
                row
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn table(rows: &[Map<String, Value>]) -> String {
    let mut names: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(Map::keys) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // What tells the rows apart stands first, whatever the alphabet says.
    names.sort_by_key(|name| !["name", "subscription", "topic"].contains(&name.as_str()));

    let mut lines: Vec<Vec<String>> = vec![names.iter().map(|name| words(name)).collect()];
    for row in rows {
        let cells = names.iter().map(|name| row.get(*name).map(|value| cell(name, value)));
        lines.push(cells.map(Option::unwrap_or_default).collect());
    }
    let text = columns(&lines, usize::MAX, COLUMN_CHARS_MAX);
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// One value under its name.
fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(yes) => (if *yes { "yes" } else { "no" }).into(),
        Value::Number(number) => match number.as_u64() {
            Some(count) if name.to_ascii_lowercase().ends_with("bytes") => size(count),
            Some(unix_ms) if TIMES.contains(&name) => Utc::of(unix_ms).to_string(),
            Some(count) => grouped(count),
            None => number.to_string(),
        },
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => whole(text),
        Value::Array(list) if list.is_empty() => "-".into(),
        Value::Array(list) if list.iter().all(Value::is_object) => grouped(list.len() as u64),
        Value::Array(list) => {
            let list: Vec<String> = list.iter().map(|value| cell(name, value)).collect();
            list.join(", ")
        }
        Value::Object(fields) if fields.is_empty() => "-".into(),
        Value::Object(_) => whole(&value.to_string()),
    }
}

/// The name of a field as words: `backlog_bytes` and `backlogBytes` are "backlog bytes".
fn words(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && text.chars().last().is_some_and(char::is_lowercase) {
            text.push(' ');
        }
        text.push(if character == '_' { ' ' } else { character.to_ascii_lowercase() });
    }
    whole(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_aligned_and_what_has_many_is_a_table() {
        let stats = json!({
            "topic": "persistent://t/n/x",
            "backlog_bytes": 1536,
            "messagesIn": 1_234_567,
            "terminated": false,
            "subscriptions": { "s": { "backlog": 2, "type": "Shared" }, "longer": { "backlog": 10_000 } },
            "producers": [],
        });
        assert_eq!(
            record(&stats),
            "backlog bytes  1.5 KiB\n\
             messages in    1,234,567\n\
             terminated     no\n\
             topic          persistent://t/n/x\n\
             \n\
             producers: none\n\
             \n\
             subscriptions\n  \
               name    backlog  type\n  \
               longer  10,000\n  \
               s       2        Shared\n"
        );
    }

    #[test]
    fn names_and_paths_are_never_cut() {
        let long = "persistent://public/default/".to_owned() + &"x".repeat(900);
        let backup = record(&json!({ "directory": long, "bytes": 1 }));
        assert!(backup.contains(&format!("directory  {long}\n")), "{backup}");
        let stats =
            record(&json!({ "subscriptions": { &long: { "backlog": 1 }, "s": { "backlog": 2 } } }));
        assert!(stats.contains(&format!("  {long}  1\n")), "{stats}");
        assert!(stats.contains(&format!("  {:<60}  2\n", "s")), "{stats}");
        assert!(record(&json!({ "topics": [long, "b"] })).contains(&format!("{long}, b")));
        let payload = json!([{ "messageId": "CAAQAw==", "key": long, "properties": { &long: long },
                               "payload": base64::engine::general_purpose::STANDARD.encode("y".repeat(2500)) }]);
        let shown = messages(&payload);
        assert_eq!(shown.matches(&long).count(), 3, "{shown}");
        assert!(
            shown.contains(&format!("{}… (500 more characters, see --json)", "y".repeat(2000))),
            "{shown}"
        );
    }

    #[test]
    fn a_message_shows_what_it_says_and_cannot_move_the_cursor() {
        let peeked = json!([
            { "messageId": "CAAQAw==", "publishTime": "2016-08-30T16:45:57.785Z", "key": "k",
              "properties": { "a": "\u{1b}[2J" }, "payload": "SGVsbG8=" },
            { "messageId": "CAAQBA==", "payload": "//8=" },
        ]);
        assert_eq!(
            messages(&peeked),
            "CAAQAw== (0:3)  key k  publish time 2016-08-30T16:45:57.785Z\n  a: \\u{1b}[2J\n  Hello\n\n\
             CAAQBA== (0:4)\n  (2 B that are no text)\n"
        );
    }

    #[test]
    fn names_are_found_in_whatever_they_are_wrapped() {
        for list in [
            json!(["a", "b"]),
            json!({ "topics": ["a", "b"] }),
            json!([{ "name": "a" }, { "topic": "b" }]),
        ] {
            assert_eq!(names(&list).unwrap(), ["a", "b"]);
        }
        assert!(names(&json!({ "a": 1 })).is_err() && names(&json!([1])).is_err());
    }

    #[test]
    fn counts_and_sizes_can_be_taken_in() {
        assert_eq!(cell("publishTime", &json!(1_472_575_557_785u64)), "2016-08-30 16:45:57.785");
        assert_eq!(Utc::of(951_782_400_000).to_string(), "2000-02-29 00:00:00.000");
        assert_eq!(Utc::of(4_107_542_399_999).to_string(), "2100-02-28 23:59:59.999");
        assert_eq!(Utc::of(4_107_542_400_000).to_string(), "2100-03-01 00:00:00.000");
        assert_eq!(
            [0, 1023, 1024, 10 * 1024 * 1024].map(size),
            ["0 B", "1023 B", "1.0 KiB", "10.0 MiB"]
        );
    }
}
