//! Asking before something is ended or deleted.

use super::error::{CliError, printable};
use super::output::ask;
use std::io::{self, IsTerminal as _};

/// Characters of a question; two names of topics have up to 1,024 each.
const QUESTION_CHARS_MAX: usize = 2048;

/// Asks the person at the terminal whether to go on.
pub(super) fn confirm(what: &str, yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    let what = printable(what, QUESTION_CHARS_MAX);
    // A script that goes on without an answer would delete what its author never saw.
    if !io::stdin().is_terminal() {
        return Err(CliError::usage(format!("this would {what}: say --yes if it is to")));
    }
    ask(&format!("{what}? [y/N] "));
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    read.map_err(|error| CliError::new(format!("cannot read the answer: {error}")))?;
    if matches!(line.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(CliError::new("nothing was changed"))
    }
}
