//! Clients that other people wrote, unmodified, with TLS and without; `tests/run` installs them.

use crate::harness::{Authority, PATH, Setup, skip, token, tools};
use std::path::Path;
use std::process::Command;

/// Runs a client over TCP, then over TLS; `ca` is the variable that names whom it trusts.
fn converse(name: &str, installed: &Path, ca: &str, command: impl Fn() -> Command) {
    if !installed.exists() {
        return skip(name, "it is not installed; tests/run does it");
    }
    let setup = || {
        let setup = Setup::new().set("threads", 2);
        setup.set("personium.ping_interval_s", 1).set("personium.ping_misses_max", 2)
    };
    converse_with(name, setup(), "ws", &mut command());
    let setup = setup().tls(&Authority::new());
    let trusted = setup.path("ca.pem");
    converse_with(name, setup, "wss", command().env(ca, trusted));
}

fn converse_with(name: &str, setup: Setup, scheme: &str, command: &mut Command) {
    let daemon = setup.start();
    command.arg(format!("{scheme}://{}{PATH}", daemon.address)).arg(daemon.socket()).arg(token());
    let output = command.output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
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
    converse("websocket-client", &python, "WEBSOCKET_CLIENT_CA_BUNDLE", || {
        let mut command = Command::new(&python);
        command.arg(script("websocket_client.py"));
        command
    });
}

#[test]
fn ws_of_npm_follows_the_event_bus_and_publishes() {
    let modules = tools().join("node_modules");
    converse("ws", &modules.join("ws"), "NODE_EXTRA_CA_CERTS", || {
        let mut node = Command::new("node");
        node.arg(script("ws.js")).env("NODE_PATH", &modules);
        node
    });
}
