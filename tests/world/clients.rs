//! Clients that other people wrote, unmodified; `tests/run` installs them.

use crate::harness::{PATH, Setup, skip, token, tools};
use std::path::Path;
use std::process::Command;

fn converse(name: &str, installed: &Path, command: &mut Command) {
    if !installed.exists() {
        return skip(name, "it is not installed; tests/run does it");
    }
    let daemon = Setup::new()
        .set("threads", 2)
        .set("personium.ping_interval_s", 1)
        .set("personium.ping_misses_max", 2)
        .start();
    command.arg(format!("ws://{}{PATH}", daemon.address)).arg(daemon.socket()).arg(token());
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.ends_with("ok\n"), "{name}: {out}\n{err}");
    daemon.await_metric("connections", 0);
    assert_eq!(daemon.metric("session_ends_total{reason=\"unanswered\"}"), 0);
}

fn script(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn websocket_client_of_pypi_follows_the_event_bus() {
    let python = tools().join("python/bin/python");
    converse("websocket-client", &python, Command::new(&python).arg(script("websocket_client.py")));
}

#[test]
fn ws_of_npm_follows_the_event_bus_and_publishes() {
    let modules = tools().join("node_modules");
    let mut node = Command::new("node");
    converse("ws", &modules.join("ws"), node.arg(script("ws.js")).env("NODE_PATH", modules));
}
