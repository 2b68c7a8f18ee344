//! Results as people and machines read them: one aligned table, or JSON.

use crate::cli::output::grouped;
use serde::Serialize;
use std::fmt::Write;

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

impl Summary {
    /// Summarises figures of several runs; `None` when there are none.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self { median: median(&sorted)?, min: *sorted.first()?, max: *sorted.last()? })
    }
}

impl Row {
    /// A figure of several runs, with the floor's figure of the same runs if it has one.
    pub(super) fn new(
        what: impl Into<String>,
        unit: &'static str,
        measured: &[f64],
        floor: &[f64],
    ) -> Option<Self> {
        let mut ratios: Vec<f64> =
            measured.iter().zip(floor).map(|(measured, floor)| measured / floor).collect();
        ratios.sort_by(f64::total_cmp);
        Some(Self {
            what: what.into(),
            unit,
            measured: Summary::of(measured)?,
            floor: Summary::of(floor),
            ratio: median(&ratios).filter(|ratio| ratio.is_finite()),
            target: None,
            ok: None,
        })
    }

    /// A figure that is one number.
    pub(super) fn single(what: impl Into<String>, unit: &'static str, value: f64) -> Self {
        let measured = Summary { median: value, min: value, max: value };
        Self { what: what.into(), unit, measured, floor: None, ratio: None, target: None, ok: None }
    }

    /// Verifiers the figure.
    pub(super) fn against(mut self, target: Goal) -> Self {
        self.target = Some(target);
        self.ok = match target {
            Goal::RatioAtMost(limit) => self.ratio.map(|ratio| ratio <= limit),
            Goal::RatioAtLeast(limit) => self.ratio.map(|ratio| ratio >= limit),
            Goal::AtMost(limit) => Some(self.measured.median <= limit),
            Goal::AtLeast(limit) => Some(self.measured.median >= limit),
        };
        self
    }

    /// The same where there is a goal.
    pub(super) fn maybe_against(self, goal: Option<Goal>) -> Self {
        match goal {
            Some(goal) => self.against(goal),
            None => self,
        }
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

/// The rows as an aligned table; a figure is its median, with the minimum behind it when they differ.
pub(super) fn table(rows: &[&Row]) -> String {
    let heads = ["what", "measured (min)", "floor (min)", "ratio", "target", ""];
    let mut lines = vec![heads.map(str::to_owned)];
    for row in rows {
        lines.push([
            row.what.clone(),
            summary(&row.measured, row.unit),
            row.floor.as_ref().map(|floor| summary(floor, row.unit)).unwrap_or_default(),
            row.ratio.map(|ratio| format!("{ratio:.3} ×")).unwrap_or_default(),
            row.target.map(|target| target.text(row.unit)).unwrap_or_default(),
            row.verdict().to_owned(),
        ]);
    }
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = format!("{:<width$}", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
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

    #[test]
    fn the_ratio_is_the_median_of_the_runs_ratios_not_the_ratio_of_the_medians() {
        let row = Row::new("x", "ns", &[10.0, 30.0, 20.0], &[10.0, 10.0, 20.0]).unwrap();
        assert_eq!(row.ratio, Some(1.0));
        assert_eq!(row.measured, Summary { median: 20.0, min: 10.0, max: 30.0 });
        assert_eq!(row.floor.unwrap().median, 10.0);
    }

    #[test]
    fn a_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_target_is_judged_on_the_figure_or_on_the_ratio() {
        let row = || Row::new("x", "ns", &[11.0], &[10.0]).unwrap();
        assert_eq!(row().against(Goal::RatioAtMost(1.1)).ok, Some(true));
        assert_eq!(row().against(Goal::RatioAtLeast(1.2)).ok, Some(false));
        assert_eq!(row().against(Goal::AtMost(10.0)).ok, Some(false));
        assert_eq!(Row::single("x", "", 3.0).against(Goal::RatioAtMost(1.0)).ok, None);
    }

    #[test]
    fn numbers_are_short_and_grouped() {
        let texts: Vec<String> = [0.0, 0.754, 42.26, 999.0, 1234567.8].map(number).to_vec();
        assert_eq!(texts, ["0", "0.75", "42.3", "999", "1,234,568"]);
    }

    #[test]
    fn the_table_is_aligned() {
        let first = Row::new("fanout", "ns", &[10.0, 12.0], &[10.0, 10.0]).unwrap();
        let rows = [first.against(Goal::RatioAtMost(1.2)), Row::single("lost", "", 0.0)];
        let text = table(&rows.iter().collect::<Vec<_>>());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("1.100 ×") && lines[1].ends_with("ok"), "{text}");
        let end =
            |line: &str, word: &str| line.split(word).next().unwrap().chars().count() + word.len();
        assert_eq!(end(lines[0], "measured (min)"), end(lines[1], "11 ns (10)"));
    }
}
