//! What commands print: results on standard output, everything else on standard error.
//!
//! A reader that has seen enough closes the pipe (`| head -1`); that is no failure, and the command ends quietly.
//! A full disk is one. The macros of the standard library panic at both, and a panic aborts this program, so
//! nothing else in it prints.

use super::CliError;
use std::io::{self, ErrorKind, Write as _};

/// Prints a result.
///
/// # Errors
/// [`CliError::closed`] when nobody reads any more, else what stands against it.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(CliError::closed()),
        Err(error) => Err(CliError::new(format!("cannot write to standard output: {error}"))),
    }
}

/// Prints a line for the person at the terminal. There is nowhere to tell that this failed.
pub fn note(line: &str) {
    ask(&format!("{line}\n"));
}

/// The same without the end of the line, for a question.
pub fn ask(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// A count with its thousands apart.
///
/// ```
/// # use fanfare::cli::output::grouped;
/// assert_eq!([0, 999, 1000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
/// ```
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
