//! Autobahn's fuzzing client against the dialect `mirror`: WebSocket itself, case by case (RFC 6455). The daemon sends
//! each message back by way of trie, outbox and shared frames.
//!
//! <https://github.com/crossbario/autobahn-testsuite>; `tests/run` installs it where there is a CPython 2.7.

use crate::harness::{Authority, Daemon, Setup, skip, tools};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Cases of Autobahn 0.8.2 without those of long messages and of compression, which is not spoken.
const CASES: usize = 247;
/// Cases of long messages and of many.
const LONG_CASES: usize = 54;
/// What the RFC leaves open, so that Autobahn only notes it: data after a close frame, and close codes that nobody has
/// registered.
const INFORMATIONAL: [&str; 3] = ["7.1.6", "7.13.1", "7.13.2"];

fn setup() -> Setup {
    Setup::new()
        .set("threads", 2)
        .set("listen.0.dialects", "[\"mirror\"]")
        // The longest message of the cases has 16 MiB.
        .set("limits.outbox_bytes_max", 64 << 20)
}

/// Runs cases over plain connections and over TLS, and returns what became of them by agent and case.
fn run(cases: &[&str], excluded: &[&str]) -> Option<BTreeMap<String, BTreeMap<String, Value>>> {
    let program = tools().join("autobahn/bin/wstest");
    if !program.exists() {
        skip(
            "autobahn",
            "autobahntestsuite is not installed; tests/run does it where there is CPython 2.7",
        );
        return None;
    }
    let (plain, tls) = (setup().start(), setup().tls(&Authority::new()).start());
    let server = |scheme: &str, daemon: &Daemon| json!({ "agent": scheme, "url": format!("{scheme}://{}/mirror", daemon.address) });
    let specification = json!({
        "outdir": plain.path("reports"),
        "servers": [server("ws", &plain), server("wss", &tls)],
        "cases": cases,
        "exclude-cases": excluded,
        "exclude-agent-cases": {},
    });
    let file = plain.path("fuzzingclient.json");
    std::fs::write(&file, specification.to_string()).unwrap();

    let mut client = Command::new(program);
    client.args(["-m", "fuzzingclient", "-s"]).arg(file).current_dir(plain.directory());
    let output = client.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = std::fs::read_to_string(plain.path("reports/index.json")).unwrap();
    Some(serde_json::from_str(&report).unwrap())
}

/// So many cases have run with each agent, and each has gone as the RFC wants it.
#[track_caller]
fn assert_strict(report: &BTreeMap<String, BTreeMap<String, Value>>, cases: usize) {
    assert_eq!(report.keys().collect::<Vec<_>>(), ["ws", "wss"]);
    let mut wrong = Vec::new();
    for (agent, results) in report {
        assert_eq!(results.len(), cases, "cases over {agent}");
        for (case, result) in results {
            let expected = if INFORMATIONAL.contains(&&**case) { "INFORMATIONAL" } else { "OK" };
            let (behaviour, close) = (&result["behavior"], &result["behaviorClose"]);
            if behaviour != expected || close != expected {
                wrong.push(format!("{agent} {case}: {behaviour}, its end {close}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_case_of_autobahn_goes_as_the_rfc_wants_it() {
    if let Some(report) = run(&["*"], &["9.*", "12.*", "13.*"]) {
        assert_strict(&report, CASES);
    }
}

/// With `FANFARE_LONG=1`: it takes minutes.
#[test]
fn long_messages_and_many_of_them_come_back_whole() {
    if std::env::var("FANFARE_LONG").is_ok_and(|long| long == "1")
        && let Some(report) = run(&["9.*"], &[])
    {
        assert_strict(&report, LONG_CASES);
    }
}
