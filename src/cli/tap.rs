//! `fanfare tap`: the events that pass in a running daemon, over its admin listener.

use super::CliError;
use super::error::printable;
use super::output::{grouped, note, print as put};
use super::reach::admin_command;
use crate::calendar::Utc;
use crate::json;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Characters of an address that are shown; most have a few dozen.
const ADDRESS_CHARS_MAX: usize = 200;
/// Characters of an event that are shown: a screen full. `--json` has all that the daemon tells.
const EVENT_CHARS_MAX: usize = 2000;

admin_command! {
/// Show the events that pass in a running daemon, until ctrl-C. Messages of durable topics are
/// stored, and do not pass here: see `fanfare topics peek`.
#[argh(
    subcommand,
    name = "tap",
    example = "{command_name}\n\
               {command_name} echo/app-id/private-room\n\
               {command_name} 'wazo/call_*' --count 10\n\
               {command_name} event/john.doe --json",
    note = "The manual: fanfare help admin"
)]
pub TapCommand shows {
        /// only events of this address, as `fanfare sessions --topic` takes it, and of all that go
        /// on behind it; a star stands for any text
        #[argh(positional, arg_name = "ADDRESS")]
        of: Option<String>,
        /// stop after so many
        #[argh(option)]
        count: Option<u64>,
    }
}

impl TapCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn run(self) -> Result<(), CliError> {
        let address = self.of.as_deref().unwrap_or_default();
        let mut left = self.count.unwrap_or(u64::MAX);
        if left == 0 {
            return Err(CliError::usage("--count 0 would show nothing"));
        }
        self.reach()?.follow("/v1/tap", &[("address", address)], &mut |line| {
            // Between events, and as a sign of life, there are other lines.
            let Some(data) = line.strip_prefix("data: ") else { return Ok(true) };
            let [missed, ..] = members(data);
            left -= u64::from(missed.is_none());
            match missed.and_then(|missed| missed.get().parse().ok()) {
                _ if self.json => put(&format!("{data}\n"))?,
                Some(missed) => note(&format!("missed {}", grouped(missed))),
                None => put(&shown(data))?,
            }
            Ok(left > 0)
        })
    }
}

/// What the daemon tells of an event, or of those that were missed: none of it where it is no JSON.
fn members(data: &str) -> [Option<&RawValue>; 4] {
    json::last(data, ["missed", "at_ms", "address", "event"]).unwrap_or_default()
}

/// An event as a person reads it.
fn shown(data: &str) -> String {
    let [_, at_ms, address, event] = members(data);
    let at = Utc::of(at_ms.and_then(|at_ms| at_ms.get().parse().ok()).unwrap_or(0)).to_string();
    // The date of what is seen now is known.
    let time = at.split_once(' ').map_or(&*at, |(_, time)| time);
    let text = |member: Option<&RawValue>, chars_max| {
        let text = member.map(|member| json::text(member).unwrap_or(Cow::Borrowed(member.get())));
        printable(&text.unwrap_or_default(), chars_max)
    };
    let (address, event) = (text(address, ADDRESS_CHARS_MAX), text(event, EVENT_CHARS_MAX));
    format!("{time}  {address}  {event}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_as_it_was_written_and_cannot_move_the_cursor() {
        let passed = |event: &str| {
            let data = format!(
                r#"{{"at_ms":1518612600007,"address":"echo/7/a\u001b","bytes":9,"event":{event}}}"#
            );
            shown(&data)
        };
        assert_eq!(
            passed(r#"{ "b": 1.0, "a": "\u001b[2J" }"#),
            "12:50:00.007  echo/7/a\\u{1b}  { \"b\": 1.0, \"a\": \"\\u001b[2J\" }\n"
        );
        assert!(passed(r#""no\u0007 json""#).ends_with("  no\\u{7} json\n"));
        assert_eq!(shown("{"), "00:00:00.000    \n");
    }
}
