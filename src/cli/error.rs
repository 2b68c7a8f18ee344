//! What a command says when it cannot go on: one message that names what to do next.
//!
//! A command's errors end at a person's eyes, never in another function's `match`, so they are text.

/// A command's failure, told to the person who typed it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CliError(String);

impl CliError {
    /// An error that reads `message`; say what happened, then what to do about it.
    pub fn new(message: impl Into<String>) -> Self {
        CliError(message.into())
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
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
