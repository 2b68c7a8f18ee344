//! What a command says when it cannot go on: one message that names what to do next, and the exit
//! status by which a script tells the kinds apart.
//!
//! A command's errors end at a person's eyes, never in another function's `match`, so they are
//! text.

use crate::io::store::OpenError;
use std::process::ExitCode;

/// A command's failure, told to the person who typed it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    message: String,
    status: CliStatus,
}

/// What a command exits with, after `sysexits.h` where that has a number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CliStatus {
    /// The reader of the output has gone, so there is nothing more to do.
    Closed = 0,
    /// Anything that has no number of its own.
    Failure = 1,
    /// The command line is wrong, as shells and most programs have it.
    Usage = 2,
    /// The daemon does not run, is full or is stopping; the same command may succeed later
    /// (`EX_TEMPFAIL`).
    TryAgain = 75,
    /// The configuration, or a file that it names, is wrong (`EX_CONFIG`).
    Configuration = 78,
}

impl From<&OpenError> for CliStatus {
    fn from(error: &OpenError) -> Self {
        match error {
            OpenError::InUse(_) | OpenError::Full(..) => Self::TryAgain,
            OpenError::Damaged(..) | OpenError::Missing(..) => Self::Failure,
            OpenError::NoPath
            | OpenError::Directory(..)
            | OpenError::Foreign(_)
            | OpenError::Newer(..)
            | OpenError::Older(..)
            | OpenError::Writers(..) => Self::Configuration,
        }
    }
}

impl CliError {
    /// An error that reads `message`; say what happened, then what to do about it.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: CliStatus::Failure }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(message).with(CliStatus::Usage)
    }

    /// The configuration is wrong.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(message).with(CliStatus::Configuration)
    }

    /// The same command may succeed later.
    pub fn try_again(message: impl Into<String>) -> Self {
        Self::new(message).with(CliStatus::TryAgain)
    }

    /// The reader of standard output has gone.
    #[must_use]
    pub fn closed() -> Self {
        Self::new("standard output is closed").with(CliStatus::Closed)
    }

    /// The same message with another status.
    #[must_use]
    pub fn with(self, status: CliStatus) -> Self {
        Self { status, ..self }
    }

    /// What the program exits with.
    #[must_use]
    pub fn status(&self) -> CliStatus {
        self.status
    }
}

impl From<CliStatus> for ExitCode {
    fn from(status: CliStatus) -> Self {
        Self::from(status as u8)
    }
}

/// `text` made fit for a line of a terminal: control characters are escaped, so that what came from
/// elsewhere cannot move the cursor, and what goes on beyond `chars_max` is cut off.
///
/// ```
/// # use fanfare::cli::error::printable;
/// assert_eq!(printable("a\u{1b}[2Jb", 99), "a\\u{1b}[2Jb");
/// assert_eq!(printable("abcdef", 3), "abc…");
/// ```
pub fn printable(text: &str, chars_max: usize) -> String {
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == chars_max {
            shown.push('…');
            break;
        }
        // An escape sequence could move the cursor, and rewrite what stands above.
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
