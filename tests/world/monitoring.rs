//! The dashboard and the alert rules, held against Prometheus's own tool and against the metrics that there are.

use crate::harness::{
    Authority, Client, DEADLINE, Setup, WATCHED, eventually_well, shown, skip, watched_metrics,
};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What `promtool` says to these words in a directory; `None` where it is not installed.
fn promtool(directory: &Path, words: &[&str]) -> Option<(bool, String)> {
    let Ok(output) = Command::new("promtool").args(words).current_dir(directory).output() else {
        skip(
            "the alert rules by promtool",
            "promtool is not installed (Debian's package prometheus)",
        );
        return None;
    };
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    Some((output.status.success(), said))
}

#[test]
fn the_rules_raise_the_alerts_that_their_tests_expect() {
    if let Some((is_right, said)) =
        promtool(Path::new(WATCHED), &["test", "rules", "alerts_test.yml"])
    {
        assert!(is_right, "{said}");
    }
}

#[test]
fn a_rule_that_raises_another_alert_fails_its_test() {
    let setup = Setup::new();
    let rules = std::fs::read_to_string(Path::new(WATCHED).join("alerts.yml")).unwrap();
    std::fs::write(
        setup.path("alerts.yml"),
        rules.replace("fanfare_hung_threads > 0", "fanfare_hung_threads > 2"),
    )
    .unwrap();
    std::fs::copy(Path::new(WATCHED).join("alerts_test.yml"), setup.path("alerts_test.yml"))
        .unwrap();
    let directory = setup.path("alerts.yml").parent().unwrap().to_owned();
    if let Some((is_right, said)) = promtool(&directory, &["test", "rules", "alerts_test.yml"]) {
        assert!(!is_right && said.contains("FanfareThreadHung"), "{said}");
    }
}

/// With the files that it names.
#[test]
fn prometheus_takes_the_configurations_of_the_manual() {
    for page in ["service", "recipes"] {
        let shown = shown(page, "yaml");
        assert_eq!(shown.len(), 1, "{page}");
        let setup = Setup::new();
        let rules = Path::new(WATCHED).join("alerts.yml").display().to_string();
        let text = shown[0].replace("/etc/prometheus/fanfare-alerts.yml", &rules);
        std::fs::write(setup.path("prometheus.yml"), text).unwrap();
        let directory = setup.path("prometheus.yml").parent().unwrap().to_owned();
        if let Some((is_right, said)) = promtool(&directory, &["check", "config", "prometheus.yml"])
        {
            assert!(is_right, "{said}");
        }
    }
}

/// The queries of a dashboard, with values in the place of its variables.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let filled = |target: &Value| {
        let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
        query.replace("$job", "fanfare").replace("$instance", ".*")
    };
    targets.map(filled).collect()
}

#[test]
fn prometheus_understands_every_query_of_the_dashboard() {
    let text = std::fs::read_to_string(Path::new(WATCHED).join("dashboard.json")).unwrap();
    let queries = queries(&serde_json::from_str(&text).unwrap());
    assert!(queries.len() > 30, "{}", queries.len());
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(number, query)| serde_json::json!({ "record": format!("query:{number}"), "expr": query }))
        .collect();
    let setup = Setup::new();
    let file = setup.path("queries.yml");
    // JSON is YAML, too.
    let groups = serde_json::json!({ "groups": [{ "name": "queries", "rules": rules }] });
    std::fs::write(&file, groups.to_string()).unwrap();
    if let Some((is_right, said)) =
        promtool(file.parent().unwrap(), &["check", "rules", "queries.yml"])
    {
        assert!(is_right, "{said}");
    }
}

#[test]
fn what_is_watched_exists() {
    let setup = Setup::new();
    let store = setup.path("store").display().to_string();
    let daemon = setup
        .set("listen.0.dialects", r#"["personium-event", "pulsar"]"#)
        .set("pulsar.anonymous", true)
        .set("store.path", store)
        .start();
    // So that there is a backlog.
    let open = |path| Client::upgraded(daemon.address, path);
    drop(open("/ws/v2/consumer/persistent/t/n/orders/billing"));
    let sent = open("/ws/v2/producer/persistent/t/n/orders").ask(r#"{"payload":"eA=="}"#);
    assert!(sent.contains("ok"), "{sent}");
    let secure = Setup::new().tls(&Authority::new()).start();

    let watched: Vec<String> = watched_metrics()
        .into_iter()
        .filter(|name| !name.starts_with("fanfare_cluster_"))
        .collect();
    eventually_well(DEADLINE, || {
        let pages = [&daemon, &secure].map(|daemon| daemon.page("/metrics").1).concat();
        let is_missing = |name: &&String| !pages.contains(&format!("# TYPE {name} "));
        let missing: Vec<&String> = watched.iter().filter(is_missing).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are missing")) }
    });
}
