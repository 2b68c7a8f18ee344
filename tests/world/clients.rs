//! Clients that other people wrote, unmodified, with TLS and without; `tests/run` installs them.

use crate::harness::{Authority, PATH, Setup, npm, pypi, skip, succeed, token, tools};
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
    converse_with(setup(), "ws", &mut command());
    let setup = setup().tls(&Authority::new());
    let trusted = setup.path("ca.pem");
    converse_with(setup, "wss", command().env(ca, trusted));
}

fn converse_with(setup: Setup, scheme: &str, command: &mut Command) {
    let daemon = setup.start();
    let url = format!("{scheme}://{}{PATH}", daemon.address);
    succeed(command.arg(url).arg(daemon.socket()).arg(token()));
    daemon.await_metric("connections", 0);
    assert_eq!(daemon.metric("session_ends_total{reason=\"unanswered\"}"), 0);
}

#[test]
fn websocket_client_of_pypi_follows_the_event_bus() {
    let python = tools().join("python/bin/python");
    converse("websocket-client", &python, "WEBSOCKET_CLIENT_CA_BUNDLE", || {
        pypi("websocket_client.py")
    });
}

#[test]
fn ws_of_npm_follows_the_event_bus_and_publishes() {
    converse("ws", &tools().join("node_modules/ws"), "NODE_EXTRA_CA_CERTS", || npm("ws.js"));
}
