//! `fanfare kick`: ends sessions of a running daemon, over its admin listener.

use super::CliError;
use super::confirm::confirm;
use super::output::{grouped, print as put};
use super::reach::admin_command;
use super::sessions::session_command;
use crate::service::ConnectionRef;

session_command! {
/// End a session of a running daemon, or all that the options mean. Clients may connect again.
#[argh(
    subcommand,
    name = "kick",
    example = "{command_name} 0-17-42\n\
               {command_name} --subject 5f243438-1 --code 4003 --reason 'signed out'\n\
               {command_name} --topic echo/app-id/private-room --yes",
    note = "The manual: fanfare help admin"
)]
pub KickCommand has {
        /// the session, as `fanfare sessions` lists it
        #[argh(positional, arg_name = "ID")]
        id: Option<ConnectionRef>,
    } and {
        /// the close code; the dialect's own by default
        #[argh(option)]
        code: Option<u16>,
        /// the text of the close frame
        #[argh(option, default = "String::new()", arg_name = "text")]
        reason: String,
        /// at most so many sessions, 10,000 by default
        #[argh(option)]
        limit: Option<u32>,
        /// do not ask first
        #[argh(switch)]
        yes: bool,
    }
}

impl KickCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn run(self) -> Result<(), CliError> {
        let code = self.code.map(|code| code.to_string()).unwrap_or_default();
        let limit = self.limit.map(|limit| limit.to_string()).unwrap_or_default();
        let filter = self.filter();

        let how = [("code", &*code), ("reason", &*self.reason)];
        let answer = match &self.id {
            Some(_) if !(filter.is_empty() && limit.is_empty()) => {
                return Err(CliError::usage("give either the ID of a session, or options"));
            }
            Some(id) => self.reach()?.ask("DELETE", &format!("/v1/sessions/{id}"), &how)?,
            None if filter.is_empty() => {
                return Err(CliError::usage(
                    "which sessions? Give an ID, or one of --dialect, --address, --subject and \
                     --topic",
                ));
            }
            None => {
                let meant: Vec<String> =
                    filter.iter().map(|(name, value)| format!("{name} {value}")).collect();
                let question = format!("end every session with {}", meant.join(" and "));
                confirm(&question, self.yes)?;
                let all = [&filter[..], &how, &[("limit", &*limit)]].concat();
                self.reach()?.ask("POST", "/v1/kick", &all)?
            }
        };

        let answer = answer.good()?;
        if self.json {
            return put(&answer.text()?);
        }
        let count = answer.json()?["kicked"].as_u64().unwrap_or(0);
        put(&format!("ended {}\n", grouped(count)))
    }
}
