//! What commands print: results on standard output, everything else on standard error.
//!
//! A reader that has seen enough closes the pipe (`| head -1`); that is no failure, and the command
//! ends quietly. A full disk is one. The macros of the standard library panic at both, and a panic
//! aborts this program, so nothing else in it prints.

use super::CliError;
use std::io::{self, ErrorKind, Write as _};

/// Prints a result.
///
/// # Errors
/// [`CliError::closed`] when the reader has gone, else the reason of the system.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // `head` has seen enough; that is no failure.
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

/// A size as people say it.
///
/// ```
/// # use fanfare::cli::output::size;
/// assert_eq!([0, 1023, 1024, 3 << 29].map(size), ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
/// ```
#[must_use]
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 || unit == "TiB" {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    String::new()
}

/// Lines of cells in columns, two spaces apart: from column `right_from` on aligned to the right. A
/// cell wider than `chars_max` does not widen its column and moves the rest of its line.
///
/// ```
/// # use fanfare::cli::output::columns;
/// let lines = [["what", "count"], ["häuser", "7"]].map(|line| line.map(str::to_owned));
/// assert_eq!(columns(&lines, 1, 60), "what    count\nhäuser      7\n");
/// ```
#[must_use]
pub fn columns(lines: &[impl AsRef<[String]>], right_from: usize, chars_max: usize) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        for (column, cell) in line.as_ref().iter().enumerate() {
            // Lines need not all be of one length.
            widths.resize(widths.len().max(column + 1), 0);
            widths[column] = widths[column].max(cell.chars().count().min(chars_max));
        }
    }

    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (column, (cell, &width)) in line.as_ref().iter().zip(&widths).enumerate() {
            shown += if column == 0 { "" } else { "  " };
            shown += &match column < right_from {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            };
        }
        text += shown.trim_end();
        text.push('\n');
    }
    text
}
