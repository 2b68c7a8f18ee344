//! `fanfare why`: which sessions of a running daemon would get an event, and why not.

use super::CliError;
use super::error::printable;
use super::output::{columns, print as put};
use super::reach::admin_command;
use crate::dialect::Kind;
use crate::service::ConnectionRef;
use serde_json::Value;

/// Characters of a subject or a reason that are shown.
const TEXT_CHARS_MAX: usize = 200;

admin_command! {
/// Tell which sessions of a running daemon would get an event, and why, or why not. Nothing is published.
#[argh(
    subcommand,
    name = "why",
    example = "{command_name} --subject 5f243438-1 wazo '{{\"name\":\"call_created\",\"data\":{{}}}}'\n\
               {command_name} --id 0-17-42 event/john.doe '{{\"Type\":\"chat\",\"Object\":\"general\"}}'",
    note = "The manual: fanfare help admin"
)]
pub WhyCommand shows {
        /// the address of the event, as in a line of a feed
        #[argh(positional, arg_name = "ADDRESS")]
        to: String,
        /// the event
        #[argh(positional, arg_name = "JSON")]
        event: String,
        /// the session, as `fanfare sessions` lists it; without it, those of the other options
        #[argh(option)]
        id: Option<ConnectionRef>,
        /// only sessions of this dialect; by default that of the address
        #[argh(option, arg_name = "name")]
        dialect: Option<String>,
        /// only sessions with this subject, as they are listed with it
        #[argh(option, arg_name = "text")]
        subject: Option<String>,
        /// at most so many, 100 by default
        #[argh(option)]
        count: Option<u32>,
    }
}

impl WhyCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn run(self) -> Result<(), CliError> {
        let id = self.id.map(|id| id.to_string()).unwrap_or_default();
        let count = self.count.map(|count| count.to_string()).unwrap_or_default();
        // Sessions of other dialects could not get it anyway.
        let own = Kind::of_address(&self.to).map_or("", Kind::name);
        let dialect = self.dialect.as_deref().unwrap_or(own);
        let parameters = [
            ("address", &*self.to),
            ("id", &*id),
            ("dialect", if id.is_empty() { dialect } else { "" }),
            ("subject", self.subject.as_deref().unwrap_or_default()),
            ("count", &*count),
        ];
        let reach = self.reach()?;
        let answer = reach.send("POST", "/v1/why", &parameters, self.event.as_bytes())?.good()?;
        if self.json { put(&answer.text()?) } else { put(&shown(&answer.json()?)) }
    }
}

/// The sessions, a line each.
fn shown(answer: &Value) -> String {
    let rows = answer["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return "there is no such session\n".into();
    }
    let mut lines = vec![["id", "dialect", "subject", "gets it", "because"].map(str::to_owned)];
    for row in rows {
        lines.push([
            text(&row["id"]),
            text(&row["dialect"]),
            text(&row["subject"]),
            if row["gets"] == true { "yes" } else { "no" }.to_owned(),
            text(&row["because"]),
        ]);
    }
    columns(&lines, usize::MAX, TEXT_CHARS_MAX)
}

fn text(value: &Value) -> String {
    match value.as_str() {
        None | Some("") => "-".into(),
        Some(text) => printable(text, TEXT_CHARS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_session_is_a_line() {
        let answer = json!({ "sessions": [
            { "id": "0-1-1", "dialect": "wazo", "subject": "ann", "gets": true, "because": "a" },
            { "id": "1-7-9", "gets": false, "because": "b\u{7}" },
        ] });
        assert_eq!(
            shown(&answer),
            "id     dialect  subject  gets it  because\n\
             0-1-1  wazo     ann      yes      a\n\
             1-7-9  -        -        no       b\\u{7}\n"
        );
        assert_eq!(shown(&json!({ "sessions": [] })), "there is no such session\n");
    }
}
