//! Results as people and machines read them: one aligned table, or JSON.

use crate::cli::output::{columns, grouped};
use serde::Serialize;

/// What one command measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BenchReport {
    /// The command.
    pub(super) bench: &'static str,
    /// Its settings, as it understood them.
    pub(super) settings: serde_json::Value,
    /// The measurements.
    pub(super) rows: Vec<Row>,
}

/// One figure, beside the floor's of the same runs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) unit: &'static str,
    pub(super) measured: Summary,
    pub(super) floor: Option<Summary>,
    /// The median of the ratios of each run.
    pub(super) ratio: Option<f64>,
    pub(super) target: Option<Goal>,
    /// Whether the target is reached.
    pub(super) ok: Option<bool>,
}

/// One figure over several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// What a figure should reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Goal {
    /// The ratio to the floor is at most this.
    RatioAtMost(f64),
    /// The ratio to the floor is at least this.
    RatioAtLeast(f64),
    /// The figure itself is at most this.
    AtMost(f64),
    /// The figure itself is at least this.
    AtLeast(f64),
}

impl BenchReport {
    /// A report without rows.
    pub(super) fn new(bench: &'static str, settings: serde_json::Value) -> Self {
        Self { bench, settings, rows: Vec::new() }
    }

    /// Adds a figure of several runs, with the floor's figures of the same runs if it has one. A
    /// figure that could not be read in any run has no row.
    pub(super) fn add(
        &mut self,
        what: String,
        unit: &'static str,
        measured: &[f64],
        floor: &[f64],
        goal: Option<Goal>,
    ) {
        // Nothing could be read, as of a daemon whose process is not known.
        let Some(summary) = Summary::of(measured) else { return };
        let mut ratios: Vec<f64> =
            measured.iter().zip(floor).map(|(measured, floor)| measured / floor).collect();
        ratios.sort_by(f64::total_cmp);

        let mut row = Row {
            what,
            unit,
            measured: summary,
            floor: Summary::of(floor),
            // A floor of nothing has no ratio, and JSON no number for it.
            ratio: median(&ratios).filter(|ratio| ratio.is_finite()),
            target: None,
            ok: None,
        };
        if let Some(goal) = goal {
            row.aim(goal);
        }
        self.rows.push(row);
    }
}

impl Summary {
    /// Summarises figures of several runs; `None` when there are none.
    fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self { median: median(&sorted)?, min: *sorted.first()?, max: *sorted.last()? })
    }
}

impl Row {
    /// Holds the figure against a goal.
    pub(super) fn aim(&mut self, goal: Goal) {
        self.target = Some(goal);
        self.ok = match goal {
            Goal::RatioAtMost(limit) => self.ratio.map(|ratio| ratio <= limit),
            Goal::RatioAtLeast(limit) => self.ratio.map(|ratio| ratio >= limit),
            Goal::AtMost(limit) => Some(self.measured.median <= limit),
            Goal::AtLeast(limit) => Some(self.measured.median >= limit),
        };
    }

    fn verdict(&self) -> &'static str {
        match (self.ok, self.target) {
            (Some(true), _) => "ok",
            (Some(false), Some(Goal::RatioAtLeast(_) | Goal::AtLeast(_))) => "under",
            (Some(false), _) => "over",
            (None, _) => "",
        }
    }
}

impl Goal {
    fn text(self, unit: &str) -> String {
        match self {
            Goal::RatioAtMost(limit) => format!("≤ {limit:.2} ×"),
            Goal::RatioAtLeast(limit) => format!("≥ {limit:.2} ×"),
            Goal::AtMost(limit) => format!("≤ {}", figure(limit, unit)),
            Goal::AtLeast(limit) => format!("≥ {}", figure(limit, unit)),
        }
    }
}

/// The rows as an aligned table; a figure is its median, with the minimum behind it when they
/// differ.
pub(super) fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let heads = ["what", "measured (min)", "floor (min)", "ratio", "target", ""];
    let mut lines = vec![heads.map(str::to_owned)];
    lines.extend(rows.map(|row| {
        [
            row.what.clone(),
            summary(&row.measured, row.unit),
            row.floor.as_ref().map(|floor| summary(floor, row.unit)).unwrap_or_default(),
            row.ratio.map(|ratio| format!("{ratio:.3} ×")).unwrap_or_default(),
            row.target.map(|target| target.text(row.unit)).unwrap_or_default(),
            row.verdict().to_owned(),
        ]
    }));
    columns(&lines, 1, usize::MAX)
}

fn summary(summary: &Summary, unit: &str) -> String {
    let median = figure(summary.median, unit);
    if summary.min == summary.max { median } else { format!("{median} ({})", number(summary.min)) }
}

fn figure(value: f64, unit: &str) -> String {
    format!("{} {unit}", number(value)).trim_end().to_owned()
}

/// Three significant digits where they matter, thousands separated.
fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 100.0 && value.fract() != 0.0 {
        return if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") };
    }
    let sign = if value < 0.0 { "-" } else { "" };
    sign.to_owned() + &grouped(value.abs().round_ties_even() as u64)
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, figures, figures of the floor, and the goal.
    type Figure<'a> = (&'a str, &'a [f64], &'a [f64], Option<Goal>);

    fn report(figures: &[Figure<'_>]) -> BenchReport {
        let mut report = BenchReport::new("test", serde_json::Value::Null);
        for &(what, measured, floor, goal) in figures {
            report.add(what.into(), "ns", measured, floor, goal);
        }
        report
    }

    #[test]
    fn the_ratio_is_the_median_of_the_runs_ratios_not_the_ratio_of_the_medians() {
        let report = report(&[("x", &[10.0, 30.0, 20.0], &[10.0, 10.0, 20.0], None)]);
        let row = &report.rows[0];
        assert_eq!(row.ratio, Some(1.0));
        assert_eq!(row.measured, Summary { median: 20.0, min: 10.0, max: 30.0 });
        assert_eq!(row.floor.unwrap().median, 10.0);
    }

    #[test]
    fn a_figure_that_was_never_read_has_no_row() {
        assert!(report(&[("x", &[], &[1.0], None)]).rows.is_empty());
    }

    #[test]
    fn a_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_target_is_judged_on_the_figure_or_on_the_ratio() {
        let ok = |goal| report(&[("x", &[11.0], &[10.0], Some(goal))]).rows[0].ok;
        assert_eq!(ok(Goal::RatioAtMost(1.1)), Some(true));
        assert_eq!(ok(Goal::RatioAtLeast(1.2)), Some(false));
        assert_eq!(ok(Goal::AtMost(10.0)), Some(false));
        let alone = report(&[("x", &[3.0], &[], Some(Goal::RatioAtMost(1.0)))]);
        assert_eq!(alone.rows[0].ok, None);
    }

    #[test]
    fn numbers_are_short_and_grouped() {
        let texts: Vec<String> = [0.0, 0.754, 42.26, 999.0, 1234567.8].map(number).to_vec();
        assert_eq!(texts, ["0", "0.75", "42.3", "999", "1,234,568"]);
    }

    #[test]
    fn the_table_is_aligned() {
        let goal = Some(Goal::RatioAtMost(1.2));
        let report =
            report(&[("fanout", &[10.0, 12.0], &[10.0, 10.0], goal), ("lost", &[0.0], &[], None)]);
        let text = table(report.rows.iter());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("1.100 ×") && lines[1].ends_with("ok"), "{text}");
        let end =
            |line: &str, word: &str| line.split(word).next().unwrap().chars().count() + word.len();
        assert_eq!(end(lines[0], "measured (min)"), end(lines[1], "11 ns (10)"));
    }
}
