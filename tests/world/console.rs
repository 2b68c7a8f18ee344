//! The console: a page for operators in Chromium, and what it lets in.

use crate::harness::{
    Echo, Setup, echo_setup, http, npm, skip, succeed, token_with_subject, tools,
};
use crate::v1::{TOKEN, rows};
use fanfare::dialect::client::ClientWish;
use std::path::Path;

#[test]
fn an_operator_sees_searches_publishes_and_kicks_in_chromium() {
    let missing = match tools().join("node_modules/playwright-core").exists() {
        true if Path::new("/usr/bin/chromium").exists() => None,
        true => Some("chromium"),
        false => Some("playwright-core"),
    };
    if let Some(missing) = missing {
        return skip("the console in Chromium", &format!("{missing} is not installed"));
    }
    let daemon = echo_setup()
        .set("admin.token", TOKEN)
        .set("listen.0.dialects", r#"["personium-event", "echo"]"#)
        .start();
    let mut echo = Echo::connect(&daemon);
    echo.join("room", None);
    // What a client calls itself may be anything.
    let wish = ClientWish {
        token: Some(token_with_subject(r#"<img src=x onerror="window.wasRun=1">"#)),
        ..ClientWish::default()
    };
    let mut follower =
        crate::harness::Client::following(daemon.address, "personium-event", "/demo/__event", wish);
    let id = rows(&daemon, "dialect=echo")[0]["id"].as_str().unwrap().to_owned();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    std::fs::create_dir_all(&directory).unwrap();

    let port = daemon.admin.port().to_string();
    let arguments = [&port, TOKEN, &id, directory.to_str().unwrap()];
    succeed(npm("console_page.js").args(arguments));
    assert!(follower.text().contains("from the console"));
    assert_eq!(echo.client.close_code(), 4009);
}

#[test]
fn the_page_is_for_known_hosts_and_other_pages_have_no_access_even_with_the_token() {
    let daemon = Setup::new()
        .set("admin.token", TOKEN)
        .set("admin.console_hosts", r#"["ops.example"]"#)
        .start();
    let status = |path: &str, host: &str, lines: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
        http(daemon.admin, request.as_bytes())
    };
    let here = daemon.admin.to_string();
    let (code, page) = status("/console", &here, "");
    assert!(
        code == 200 && page.contains("Content-Security-Policy: default-src 'none'; "),
        "{page}"
    );
    assert!(page.contains("X-Content-Type-Options: nosniff") && !page.contains(TOKEN), "{page}");
    assert_eq!(status("/console", "ops.example", "").0, 200);
    assert_eq!(status("/console", "evil.example", "").0, 421);

    let with = |origin: &str| format!("Authorization: Bearer {TOKEN}\r\nOrigin: {origin}\r\n");
    for (host, origin, expected) in [
        (&*here, format!("http://{here}"), 200),
        ("ops.example", "https://ops.example".into(), 200),
        (&here, "http://evil.example".into(), 403),
        ("evil.example", "http://evil.example".into(), 403),
        (&here, "null".into(), 403),
    ] {
        assert_eq!(status("/v1/status", host, &with(&origin)).0, expected, "{origin}");
    }
    let own = format!("Origin: http://{here}\r\n");
    assert_eq!(status("/v1/status", &here, &own).0, 401, "a page has no other right");
}
