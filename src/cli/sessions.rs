//! `fanfare sessions`: who is connected to a running daemon, over its admin listener.

use super::CliError;
use super::error::printable;
use super::output::{columns, grouped, note, print as put, size};
use super::reach::{AdminReach, admin_command};
use crate::service::ConnectionRef;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Sessions that are listed unless more are asked for.
const COUNT: usize = 100;
/// Sessions of one page.
const PAGE_ROWS: usize = 1000;
/// Characters of a subject that are shown, which is all.
pub(super) const TEXT_CHARS_MAX: usize = 80;

/// Declares a command about the sessions that a filter means; what it `has` besides stands before
/// the options of the filter, and behind them.
macro_rules! session_command {
    ($(#[$about:meta])* pub $name:ident has { $($first:tt)* } and { $($last:tt)* }) => {
        admin_command! {
            $(#[$about])*
            pub $name shows {
                $($first)*
                /// only sessions of this dialect
                #[argh(option, arg_name = "name")]
                dialect: Option<String>,
                /// only clients with this IP address
                #[argh(option, arg_name = "ip")]
                address: Option<String>,
                /// only sessions with this subject, as they are listed with it
                #[argh(option, arg_name = "text")]
                subject: Option<String>,
                /// only sessions that may get the events of this topic, such as echo/APP/CHANNEL
                #[argh(option, arg_name = "address")]
                topic: Option<String>,
                $($last)*
            }
        }

        impl $name {
            /// The parameters of the filter that are given.
            fn filter(&self) -> Vec<(&'static str, &str)> {
                let all = [
                    ("dialect", &self.dialect),
                    ("address", &self.address),
                    ("subject", &self.subject),
                    ("topic", &self.topic),
                ];
                all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
            }
        }
    };
}

pub(super) use session_command;

session_command! {
/// List the sessions of a running daemon, or show one of them.
#[argh(
    subcommand,
    name = "sessions",
    example = "{command_name}\n\
               {command_name} --sort backlog --count 10\n\
               {command_name} --topic echo/app-id/private-room\n\
               {command_name} 0-17-42",
    note = "The manual: fanfare help admin"
)]
pub SessionsCommand has {
        /// the session to show, with its subscriptions
        #[argh(positional, arg_name = "ID")]
        id: Option<ConnectionRef>,
    } and {
        /// age, the oldest first, or backlog, the slowest client first
        #[argh(option, arg_name = "order")]
        sort: Option<String>,
        /// at most so many, 100 by default
        #[argh(option, default = "COUNT")]
        count: usize,
    }
}

impl SessionsCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn run(self) -> Result<(), CliError> {
        let reach = self.reach()?;
        if let Some(id) = &self.id {
            let answer = reach.ask("GET", &format!("/v1/sessions/{id}"), &[])?.good()?;
            return if self.json { put(&answer.text()?) } else { put(&shown(&answer.json()?)) };
        }

        let (rows, is_more) = self.list(&reach)?;
        if self.json {
            return put(&format!("{}\n", json!({ "sessions": rows })));
        }
        put(&table(&rows))?;
        if is_more {
            note(&format!("there are more than {}: --count", grouped(self.count as u64)));
        }
        Ok(())
    }

    /// The rows, and whether there are more.
    fn list(&self, reach: &AdminReach) -> Result<(Vec<Value>, bool), CliError> {
        let mut rows: Vec<Value> = Vec::new();
        let mut after = String::new();
        loop {
            let count = (self.count - rows.len()).min(PAGE_ROWS).to_string();
            let sort = self.sort.as_deref().unwrap_or_default();
            let how = [("sort", sort), ("count", &count), ("after", &after)];
            let parameters = [&self.filter()[..], &how].concat();
            let mut page = reach.ask("GET", "/v1/sessions", &parameters)?.good()?.json()?;
            if let Value::Array(found) = page["sessions"].take() {
                rows.extend(found);
            }
            match page["next"].as_str() {
                Some(next) if rows.len() < self.count => after = next.to_owned(),
                next => return Ok((rows, next.is_some())),
            }
        }
    }
}

/// The rows as a person reads them.
fn table(rows: &[Value]) -> String {
    if rows.is_empty() {
        return "none\n".into();
    }
    let head = ["id", "dialect", "phase", "address", "age", "waits", "topics", "subject"];
    let mut lines = vec![head.map(str::to_owned)];
    for row in rows {
        lines.push([
            text(&row["id"]),
            text(&row["dialect"]),
            text(&row["phase"]),
            text(&row["address"]),
            age(since_s(&row["since_ms"])),
            size(row["backlog_bytes"].as_u64().unwrap_or(0)),
            grouped(row["subscriptions"].as_u64().unwrap_or(0)),
            text(&row["subject"]),
        ]);
    }
    columns(&lines, usize::MAX, TEXT_CHARS_MAX)
}

/// One session as a person reads it.
fn shown(session: &Value) -> String {
    let mut shown = table(std::slice::from_ref(session));
    if let Some(listener) = session["listener"].as_str() {
        let over = if session["tls"] == true { ", over TLS" } else { "" };
        shown += &format!("connected to {}{over}\n", printable(listener, TEXT_CHARS_MAX));
    }
    for topic in session["topics"].as_array().into_iter().flatten() {
        shown += &format!("  {}\n", printable(topic.as_str().unwrap_or_default(), usize::MAX));
    }
    shown
}

/// Seconds since a time in milliseconds.
pub(super) fn since_s(at_ms: &Value) -> u64 {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let since_ms = now_ms.saturating_sub(at_ms.as_u64().unwrap_or(0).into());
    (since_ms / 1000) as u64
}

/// A text of the daemon's; a dash where there is none.
pub(super) fn text(value: &Value) -> String {
    match value.as_str() {
        None | Some("") => "-".into(),
        Some(text) => printable(text, TEXT_CHARS_MAX),
    }
}

/// A length of time, in its largest unit.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_a_line_and_cannot_move_the_cursor() {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let session = json!({
            "id": "0-17-42", "dialect": "echo", "phase": "open", "address": "192.0.2.7:4711",
            "since_ms": now_ms - 7_300_000, "backlog_bytes": 0, "subscriptions": 1,
            "subject": "a\u{1b}[2J", "listener": "192.0.2.1:443", "tls": true,
            "topics": ["echo/7/room"],
        });
        assert_eq!(
            shown(&session),
            "id       dialect  phase  address         age  waits  topics  subject\n\
             0-17-42  echo     open   192.0.2.7:4711  2 h  0 B    1       a\\u{1b}[2J\n\
             connected to 192.0.2.1:443, over TLS\n  echo/7/room\n"
        );
        let bare = json!({ "id": "1-1-1", "phase": "request", "since_ms": now_ms });
        assert!(table(&[bare]).contains("1-1-1  -        request  -        0 s"));
        assert_eq!(table(&[]), "none\n");
    }

    #[test]
    fn an_age_has_its_largest_unit() {
        for (seconds, shown) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (172_800, "2 d")] {
            assert_eq!(age(seconds), shown);
        }
    }
}
