//! How far a long standard input has been published, for a person who watches.

use super::super::output::note;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Input that takes longer than this gets a progress display, if a person is watching.
const PROGRESS_AFTER: Duration = Duration::from_millis(800);

/// The progress display of a long standard input. Shown only where a person watches standard error
/// and is not typing the input, and only when it takes a while.
pub(super) struct PublishProgress {
    bar: ProgressBar,
    possible: bool,
    bytes_total: Option<u64>,
    bytes: u64,
    started: Instant,
}

impl PublishProgress {
    pub(super) fn new(input: Option<&File>) -> Self {
        // A bar would run into what a person types.
        let possible =
            input.is_some_and(|input| !input.is_terminal()) && io::stderr().is_terminal();
        let metadata = input.and_then(|input| input.metadata().ok());
        let bytes_total = metadata.filter(fs::Metadata::is_file).map(|metadata| metadata.len());
        PublishProgress {
            bar: ProgressBar::hidden(),
            possible,
            bytes_total,
            bytes: 0,
            started: Instant::now(),
        }
    }

    pub(super) fn advance(&mut self, bytes: u64, events: u64) {
        self.bytes += bytes;
        if self.possible && self.bar.is_hidden() && self.started.elapsed() >= PROGRESS_AFTER {
            let (bar, template) = match self.bytes_total {
                Some(total) => {
                    (ProgressBar::new(total), "{bar:30} {bytes}/{total_bytes}, {msg}, {eta} left")
                }
                None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {msg}, {elapsed}"),
            };
            let style = ProgressStyle::with_template(template);
            self.bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{events} events"));
            self.bar.set_position(self.bytes);
        }
    }

    /// Prints a line on standard error, above the display if there is one.
    pub(super) fn print(&self, line: &str) {
        self.bar.suspend(|| note(line));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
