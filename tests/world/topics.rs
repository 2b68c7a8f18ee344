//! Operators at the admin listener and `fanfare topics`: who may ask, and what is said to whom.

use crate::harness::{Daemon, Setup, command, http};
use std::process::{Command, Stdio};

const TOKEN: &str = "admin-token-0123456789abcdef";

fn ask(daemon: &Daemon, method: &str, target: &str, headers: &str) -> (u16, String) {
    http(daemon.admin, format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes())
}

/// Code and standard output and error of `fanfare topics` with these words.
fn topics(words: &[&str]) -> (Option<i32>, String, String) {
    run(command(&[&["topics"], words].concat()).env("XDG_STATE_HOME", "/nonexistent"))
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn topics_are_told_to_whoever_has_the_token_and_health_to_everybody() {
    let mut daemon = Setup::new().set("admin.token", TOKEN).set("log.level", "debug").start();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for (headers, status, said) in [
        (String::new(), 401, "send Authorization: Bearer"),
        (bearer("admin-token-0123456789abcdeF"), 401, "not the token"),
        (bearer(TOKEN) + "Origin: https://page.example\r\n", 403, "pages"),
        (bearer(TOKEN), 503, "no [[listen]] has pulsar"),
    ] {
        for (method, target) in [("GET", "/topics?prefix=x"), ("POST", "/topics/backup")] {
            let (found, body) = ask(&daemon, method, target, &headers);
            assert!(found == status && body.contains(said), "{target}: {found} {body}");
        }
    }
    let (status, body) = ask(&daemon, "GET", "/topics/stats?topic=x", &bearer(TOKEN));
    assert!(status == 400 && body.contains("persistent://tenant/namespace/topic"), "{status} {body}");
    let form = "topic=persistent%3A%2F%2Ft%2Fn%2Fx";
    let with_body = format!("{}Content-Length: {}\r\n\r\n{form}", bearer(TOKEN), form.len());
    assert_eq!(ask(&daemon, "POST", "/topics/terminate", &with_body).0, 503);
    let too_long = format!("{}Content-Length: 100000\r\n", bearer(TOKEN));
    assert_eq!(ask(&daemon, "POST", "/topics/terminate", &too_long).0, 413);
    assert_eq!(daemon.page("/healthz").0, 200);
    assert_eq!(daemon.page("/nonsense").0, 404);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait();
    assert!(!daemon.log().join("\n").contains(TOKEN));
}

#[test]
fn without_a_token_nobody_is_told_of_topics_and_a_weak_one_is_refused_at_the_start() {
    let daemon = Setup::new().start();
    let (status, body) = ask(&daemon, "GET", "/topics", "Authorization: Bearer x\r\n");
    assert!(status == 403 && body.contains("token_file in [admin]"), "{status} {body}");
    let weak = Setup::new();
    std::fs::write(weak.path("admin.token"), "hunter2\n").unwrap();
    let file = weak.path("admin.token").display().to_string();
    let (code, _, said) = run(&mut weak.set("admin.token_file", file).command());
    assert!(code == Some(1) && said.contains("fewer than 16 characters"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn the_command_says_what_stands_in_its_way() {
    let setup = Setup::new();
    std::fs::write(setup.path("admin.token"), format!("{TOKEN}\n")).unwrap();
    std::fs::write(setup.path("other.token"), "another-token-0123456789").unwrap();
    let (right, wrong) = (setup.path("admin.token"), setup.path("other.token"));
    let daemon = setup.set("admin.token_file", right.display()).start();
    let admin = daemon.admin.to_string();
    let refused = |words: &[&str], expected: &str| {
        let (code, out, said) = topics(words);
        assert!(code == Some(1) && out.is_empty() && said.contains(expected), "{words:?}: {code:?} {said}");
        assert!(!said.contains(TOKEN), "{said}");
    };
    let (right, wrong) = (right.to_str().unwrap(), wrong.to_str().unwrap());
    refused(&["list", "--admin", &admin, "--token-file", right], "no [[listen]] has pulsar");
    refused(&["stats", "t/n/x", "--admin", &admin, "--token-file", wrong], "refuses the token");
    refused(&["list", "--admin", &admin], "send Authorization: Bearer");
    refused(&["list", "--admin", &admin, "--token-file", "/nonexistent"], "there is no file /nonexistent");
    refused(&["list", "--admin", "127.0.0.1:1", "--token-file", right], "nobody listens on 127.0.0.1:1");
    refused(&["list", "--admin", "nonsense", "--token-file", right], "is no address");
    refused(&["list"], "where is the daemon?");
    for words in [
        &["purge", "t/n/x"][..],
        &["terminate", "t/n/x"],
        &["reset", "t/n/x", "s", "latest"],
        &["forget", "t/n/x", "s"],
    ] {
        refused(words, "say --yes");
    }
    // Both from the daemon's configuration, but for the port, which was chosen at its start.
    let config = daemon.path("fanfare.toml");
    let config = config.to_str().unwrap();
    let mut list = command(&["topics", "list", "--config", config]);
    let (_, _, said) = run(list.env("FANFARE_ADMIN_ADDRESS", &admin).env("FANFARE_ADMIN_TOKEN_FILE", right));
    assert!(said.contains("no [[listen]] has pulsar"), "{said}");
}
