//! What happens meanwhile, on standard error: a bar on a terminal, plain lines elsewhere. Standard
//! output is for results alone.

use crate::cli::output::note;
use indicatif::{ProgressBar, ProgressStyle};

/// Waiting for a processor for this share of a run is worth a remark.
const CONTENTION_NOTED: f64 = 0.05;

/// The progress of one command.
#[derive(Debug)]
pub(super) struct BenchProgress {
    /// Hidden where standard error is no terminal.
    bar: ProgressBar,
}

impl BenchProgress {
    /// Progress over `steps` steps.
    pub(super) fn new(steps: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::new(steps as u64).with_style(style) }
    }

    /// The next step begins.
    pub(super) fn step(&self, text: &str) {
        self.bar.inc(1);
        self.bar.set_message(text.to_owned());
        if self.bar.is_hidden() {
            note(text);
        }
    }

    /// How far the present step is: on a terminal only.
    pub(super) fn within(&self, text: &str, done: usize, total: usize) {
        // Told very often: elsewhere not even the text is made.
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{text} {done}/{total}"));
        }
    }

    /// Says so when other programs took much of the processors during the runs.
    pub(super) fn note_contention(&self, shares: impl Iterator<Item = f64>) {
        let most = shares.fold(0.0, f64::max);
        // Every machine has some, and a remark at each run would not be read.
        if most < CONTENTION_NOTED {
            return;
        }

        let text = format!(
            "note: other programs kept the server or the generator waiting for up to {:.0} % of a \
             run: rates and latencies suffer from that most, ratios of processor time least",
            most * 100.0
        );
        self.bar.suspend(|| note(&text));
    }
}

impl Drop for BenchProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
