//! `fanfare ended`: which sessions of a running daemon have ended and which clients were refused,
//! and why.

use super::CliError;
use super::output::{columns, print as put, size};
use super::reach::admin_command;
use super::sessions::{TEXT_CHARS_MAX, age, since_s, text};
use crate::service::ConnectionRef;
use serde_json::Value;

/// Rows that are listed unless more are asked for.
const COUNT: usize = 100;

admin_command! {
/// List the last sessions of a running daemon that have ended, and the last clients that were
/// refused, each with its reason.
#[argh(
    subcommand,
    name = "ended",
    example = "{command_name}\n\
               {command_name} 0-17-42\n\
               {command_name} --reason slow --dialect wazo\n\
               {command_name} --subject 5f243438-1",
    note = "The manual: fanfare help service has the reasons"
)]
pub EndedCommand shows {
        /// the session, as `fanfare sessions` and the log have it
        #[argh(positional, arg_name = "ID")]
        id: Option<ConnectionRef>,
        /// only with this reason, such as slow
        #[argh(option, arg_name = "name")]
        reason: Option<String>,
        /// only sessions of this dialect
        #[argh(option, arg_name = "name")]
        dialect: Option<String>,
        /// only clients with this IP address
        #[argh(option, arg_name = "ip")]
        address: Option<String>,
        /// only sessions with this subject, as they are listed with it
        #[argh(option, arg_name = "text")]
        subject: Option<String>,
        /// at most so many, 100 by default and at most 1,000
        #[argh(option, default = "COUNT")]
        count: usize,
    }
}

impl EndedCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn run(self) -> Result<(), CliError> {
        let id = self.id.map(|id| id.to_string());
        let text = |option: &Option<String>| option.clone().unwrap_or_default();
        let answer = self.reach()?.ask(
            "GET",
            "/v1/ended",
            &[
                ("id", &text(&id)),
                ("reason", &text(&self.reason)),
                ("dialect", &text(&self.dialect)),
                ("address", &text(&self.address)),
                ("subject", &text(&self.subject)),
                ("count", &self.count.to_string()),
            ],
        )?;
        let answer = answer.good()?;
        if self.json {
            return put(&answer.text()?);
        }
        let answer = answer.json()?;
        put(&table(answer["ended"].as_array().map(Vec::as_slice).unwrap_or_default()))
    }
}

/// The rows as a person reads them.
fn table(ends: &[Value]) -> String {
    if ends.is_empty() {
        return "none\n".into();
    }
    let head =
        ["ago", "id", "dialect", "address", "lasted", "sent", "reason", "told", "subject", "why"];
    let mut lines = vec![head.map(str::to_owned)];
    for end in ends {
        let lasted = age(end["age_s"].as_u64().unwrap_or(0));
        lines.push([
            age(since_s(&end["at_ms"])),
            text(&end["id"]),
            text(&end["dialect"]),
            text(&end["address"]),
            if end["refused"] == true { "refused".into() } else { lasted },
            size(end["bytes_out"].as_u64().unwrap_or(0)),
            text(&end["reason"]),
            end["code"].as_u64().map_or_else(|| "-".into(), |code| code.to_string()),
            text(&end["subject"]),
            text(&end["detail"]),
        ]);
    }
    columns(&lines, usize::MAX, TEXT_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn an_end_is_a_line_and_cannot_move_the_cursor() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at_ms = now.as_millis() as u64 - 180_000;
        let ends = [
            json!({
                "id": "0-17-42", "at_ms": at_ms, "refused": false, "dialect": "wazo",
                "address": "192.0.2.7:4711", "subject": "a\u{1b}[2J", "reason": "slow",
                "detail": "too slow", "code": 1013, "age_s": 312, "bytes_out": 5,
            }),
            json!({
                "at_ms": at_ms, "refused": true, "reason": "connection_limit",
                "detail": "max_connections = 3 reached", "age_s": 0, "bytes_out": 0,
            }),
        ];
        let expected = concat!(
            "ago    id       dialect  address         lasted   sent  reason            told  subject",
            "     why\n",
            "3 min  0-17-42  wazo     192.0.2.7:4711  5 min    5 B   slow              1013  a\\u{1b}[2J",
            "  too slow\n",
            "3 min  -        -        -               refused  0 B   connection_limit  -     -",
            "           max_connections = 3 reached\n",
        );
        assert_eq!(table(&ends), expected);
        assert_eq!(table(&[]), "none\n");
    }
}
