//! `fanfare upgrade`: has a running daemon hand over to a new process.

use super::CliError;
use super::output::{grouped, print as put};
use super::reach::admin_command;
use std::path::PathBuf;

admin_command! {
/// Have a running daemon hand over to a new process of its program, which may be a new release by
/// now: clients keep their connections, and notice a pause at most. What cannot be passed on is
/// told to come back. If the new process cannot run, the old one goes on.
#[argh(
    subcommand,
    name = "upgrade",
    example = "{command_name}\n{command_name} --binary /usr/local/bin/fanfare-next",
    note = "The manual: fanfare help service has what is passed on, and what is not"
)]
pub UpgradeCommand shows {
        /// another program than the one that runs; only over the path of admin.socket
        #[argh(option, arg_name = "path")]
        binary: Option<PathBuf>,
    }
}

impl UpgradeCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Why the daemon goes on as it was.
    pub fn run(self) -> Result<(), CliError> {
        let binary = self.binary.as_deref().map(|path| path.to_string_lossy().into_owned());
        let binary = binary.unwrap_or_default();
        let answer = self.reach()?.ask("POST", "/v1/upgrade", &[("binary", &binary)])?.good()?;
        if self.json {
            return put(&answer.text()?);
        }
        let answer = answer.json()?;
        let count = |name: &str| grouped(answer[name].as_u64().unwrap_or(0));
        put(&format!(
            "process {} goes on with {} connections, after a pause of {:.1} ms; {} are told to \
             come back\n",
            answer["pid"],
            count("passed"),
            answer["pause_ms"].as_f64().unwrap_or(0.0),
            count("told")
        ))
    }
}
