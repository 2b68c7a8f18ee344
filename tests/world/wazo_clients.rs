//! Wazo's own clients, unmodified, over wss: the JavaScript SDK, and the documentation's page in a browser.

use crate::harness::{Authority, SECRET, Setup, npm, script, skip, succeed, tools};
use crate::wazo::setup;
use fanfare::token::{Algorithm, mint};
use std::path::Path;

fn over_tls() -> Setup {
    setup(r#"["wazo"]"#).set("threads", 2).tls(&Authority::new())
}

/// A token whose list has this pattern beside the one that every client needs.
fn token(pattern: &str) -> String {
    let claims = serde_json::json!({ "acl": ["websocketd", pattern], "sub": "ann", "exp": 4_000_000_000u64 });
    mint(Algorithm::HS256, SECRET.as_bytes(), claims.as_object().unwrap()).unwrap()
}

#[test]
fn the_sdk_of_npm_follows_both_protocols_and_renews_its_token() {
    let modules = tools().join("node_modules");
    if !modules.join("@wazo/sdk").exists() {
        return skip("@wazo/sdk", "it is not installed; tests/run does it");
    }
    let setup = over_tls();
    let authority = setup.path("ca.pem");
    let daemon = setup.start();
    succeed(
        npm("wazo_sdk.js")
            .arg(daemon.address.to_string())
            .arg(daemon.socket())
            .args([token("events.endpoints.#"), token("events.calls.#")])
            .env("NODE_EXTRA_CA_CERTS", authority),
    );
    daemon.await_metric("connections", 0);
}

#[test]
fn the_page_of_the_documentation_follows_in_chromium() {
    let modules = tools().join("node_modules");
    if !modules.join("playwright-core").exists() || !Path::new("/usr/bin/chromium").exists() {
        return skip("the example page in Chromium", "it is not installed; tests/run does it");
    }
    let daemon = over_tls().start();
    succeed(
        npm("wazo_page.js")
            .arg(daemon.address.port().to_string())
            .arg(daemon.socket())
            .arg(token("events.#"))
            .arg(script("wazo_page.html")),
    );
    daemon.await_metric("connections", 0);
}
