//! Differences between two configurations, and which of them a running daemon applies. Listeners
//! and relays that wait for a restart are found in `io/reload`.

use super::schema::at_start;
use toml::{Table, Value};

/// The keys whose values differ, in order, without the values: some are secrets. Tables of a list
/// are counted from 0, as in the environment.
#[must_use]
pub fn changed(before: &Table, after: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    compare("", before, after, &mut keys);
    keys
}

/// Whether a changed key waits for the next start.
#[must_use]
pub fn needs_restart(key: &str) -> bool {
    at_start().iter().any(|start| {
        // "feed.amqp" covers "feed.amqp.url" and not "feed.amqps".
        key.strip_prefix(start.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn compare(above: &str, before: &Table, after: &Table, keys: &mut Vec<String>) {
    let added = after.keys().filter(|key| !before.contains_key(*key));
    let mut names: Vec<&String> = before.keys().chain(added).collect();
    names.sort();

    for name in names {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        compare_values(key, before.get(name), after.get(name), keys);
    }
}

fn compare_values(
    key: String,
    before: Option<&Value>,
    after: Option<&Value>,
    keys: &mut Vec<String>,
) {
    match (before, after) {
        (Some(Value::Table(before)), Some(Value::Table(after))) => {
            compare(&key, before, after, keys)
        }
        // A new or dropped table is reported key by key, so each is applied or waits on its own.
        (Some(Value::Table(table)), None) | (None, Some(Value::Table(table)))
            if !table.is_empty() =>
        {
            compare(&key, table, &Table::new(), keys);
        }
        // Only lists of tables: in a list of names a changed place says nothing.
        (Some(Value::Array(before)), Some(Value::Array(after)))
            if has_tables(before) || has_tables(after) =>
        {
            for place in 0..before.len().max(after.len()) {
                compare_values(format!("{key}.{place}"), before.get(place), after.get(place), keys);
            }
        }
        (before, after) if before != after => keys.push(key),
        _ => {}
    }
}

fn has_tables(list: &[Value]) -> bool {
    list.iter().any(Value::is_table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(before: &str, after: &str) -> Vec<String> {
        changed(&toml::from_str(before).unwrap(), &toml::from_str(after).unwrap())
    }

    #[test]
    fn each_changed_key_is_named_once_without_its_value() {
        assert_eq!(between("a = 1\n[b]\nc = 2", "[b]\nc = 2\n"), ["a"]);
        assert_eq!(
            between("[b]\nc = 2\nd = 1", "[b]\nc = 3\n[e.f]\ng = 1"),
            ["b.c", "b.d", "e.f.g"]
        );
        assert_eq!(
            between("[[l]]\nx = 1\n[[l]]\nx = 2", "[[l]]\nx = 2\ny = [1]"),
            ["l.0.x", "l.0.y", "l.1.x"]
        );
        assert_eq!(between("x = [1, 2]", "x = [1]"), ["x"]);
        assert_eq!(between("x = { y = 1 }", "[x]\ny = 1"), Vec::<String>::new());
    }

    #[test]
    fn what_threads_and_connections_were_made_with_waits_for_a_restart() {
        for key in ["threads", "admin.token_file", "feed.redis.url", "store.path", "log.format"] {
            assert!(needs_restart(key), "{key}");
        }
        for key in [
            "drain_s",
            "log.level",
            "feed.unix.mode",
            "listen.0.address",
            "limits.outbox_bytes_max",
        ] {
            assert!(!needs_restart(key), "{key}");
        }
    }
}
