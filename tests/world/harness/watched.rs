//! The metrics that the dashboard and the alert rules look at.

use std::collections::BTreeSet;
use std::path::Path;

/// Where the dashboard and the alert rules are.
pub(crate) const WATCHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/monitoring");

/// The names of the metrics that they look at, as `# TYPE` has them.
pub(crate) fn watched_metrics() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in ["dashboard.json", "alerts.yml"] {
        let text = std::fs::read_to_string(Path::new(WATCHED).join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics =
            words.filter(|word| word.starts_with("fanfare_") || word.starts_with("process_"));
        names.extend(metrics.map(|name| name.trim_end_matches("_bucket").to_owned()));
    }
    assert!(names.len() > 30, "{names:?}");
    names
}
