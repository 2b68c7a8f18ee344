//! `fanfare token --check` says of a token what the daemon does with it.

use crate::cli::run;
use crate::harness::{Daemon, SECRET, Setup, Verifier, command, token_with};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;

fn check(config: &Path, token: &str) -> (Option<i32>, String, String) {
    let told =
        run(&mut command(&["token", "--config", config.to_str().unwrap(), "--check", token]));
    assert!(
        !token.contains('.') || !format!("{told:?}").contains(token),
        "the token is printed back: {told:?}"
    );
    told
}

/// Makes a token with these words behind `fanfare token`.
fn made(config: &Path, words: &[&str]) -> String {
    let all = [&["token", "--config", config.to_str().unwrap()], words].concat();
    let (code, token, said) = run(&mut command(&all));
    assert_eq!(code, Some(0), "{said}");
    token.trim().to_owned()
}

/// Whether the daemon answers the token, and does not close.
fn opens(daemon: &Daemon, token: &str) -> bool {
    let mut client = daemon.client();
    client.show(token);
    client.next().is_some_and(|frame| frame.first == 0x81)
}

#[test]
fn what_a_token_grants_and_why_another_does_not_is_told_for_each_dialect() {
    let setup = Setup::new();
    let file = setup.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let verifier = format!(
        "{{ jwt = {{ algorithms = [\"HS256\"], secret_file = {:?} }} }}",
        setup.path("jwt.secret")
    );
    let both = "[\"personium-event\", \"personium-topic\", \"channel\", \"pulsar\", \"echo\"]";
    let text = text.replace("[\"personium-event\"]", both)
        + &format!(
            "[channel]\ntoken = {verifier}\n[pulsar]\ntoken = {verifier}\ndefault_rights = \"none\"\n"
        )
        + &format!("[store]\npath = {:?}\n", setup.path("store"))
        + "[[echo.app]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n"
        + "[[listen]]\naddress = \"127.0.0.1:0\"\ndialects = [\"wazo\"]\n"
        + &format!("[wazo]\ntoken = {verifier}\n");
    std::fs::write(&file, text).unwrap();
    let lines = |words: &[&str]| check(&file, &made(&file, words));
    for (words, expected) in [
        (&["--cell", "demo"][..], "personium-event  receive events of the cell demo; for 3"),
        (
            &["--cell", "demo", "--scope", "event"],
            "receive and publish events of the cell demo; for 3",
        ),
        (
            &["--cell", "demo"],
            "personium-topic  refused: its scope has neither read with stream-receive nor all",
        ),
        (
            &["--cell", "demo", "--scope", "all"],
            "personium-topic  follow topics of the cell demo; for 3",
        ),
        (&["--scope", "event"], "personium-event  refused: it names no cell"),
        (
            &["--channel", "chat:1", "--id", "7"],
            "channel          receive and say in chat:1, as id 7 with the name none",
        ),
        (&["--pulsar"], "pulsar           refused: it has none of pulsar_produce"),
        (&["--produce", "a/b/*"], "pulsar           produce a/b/*; for 3"),
        (
            &["--acl", "websocketd", "--acl", "events.#"],
            "wazo             receive events whose required_acl matches websocketd, events.#",
        ),
        (&["--acl", "events.#"], "wazo             refused: its acl does not allow websocketd"),
        (&["--cell", "demo"], "wazo             refused: it has no acl"),
        (&["--cell", "demo"], "echo             refused: the clients of echo have no tokens"),
        (
            &["--cell", "demo", "--claim", "exp=5"],
            "personium-event  refused: the token has expired",
        ),
    ] {
        let (_, out, said) = lines(words);
        assert!(out.contains(expected), "{words:?}: {out}{said}");
    }
    let (code, out, _) = check(&file, "nonsense.of.anybody");
    assert!(
        code == Some(1) && out.contains("personium-event  refused: the token is not well formed"),
        "{out}"
    );
    let other = token_with("another-secret-of-32-bytes-at-least!", "event");
    assert!(check(&file, &other).1.contains("the token's signature does not hold"));
}

#[test]
fn a_token_may_come_from_a_file_or_from_standard_input() {
    let setup = Setup::new();
    let file = setup.path("fanfare.toml");
    let token = made(&file, &["--cell", "demo"]);
    std::fs::write(setup.path("token"), format!("{token}\n")).unwrap();
    let (config, kept) = (file.to_str().unwrap(), setup.path("token"));
    let from_file =
        command(&["token", "--config", config, "--check-file", kept.to_str().unwrap()]).output();
    let mut from_input = command(&["token", "--config", config, "--check", "-"]);
    from_input.stdin(Stdio::from(std::fs::File::open(&kept).unwrap()));
    for told in [from_file.unwrap(), from_input.output().unwrap()] {
        let out = String::from_utf8(told.stdout).unwrap();
        assert!(told.status.success() && out.contains("receive events of the cell demo"), "{out}");
    }
    let (code, _, said) = check(&file, "");
    assert!(code == Some(2) && said.contains("the token is empty"), "{said}");
}

#[test]
fn what_is_told_is_what_the_daemon_does() {
    let daemon = Setup::new().start();
    let file = daemon.path("fanfare.toml");
    for (secret, scope) in [
        (SECRET, "event-read"),
        (SECRET, "mail"),
        ("another-secret-of-32-bytes-at-least!", "event"),
    ] {
        let token = token_with(secret, scope);
        let (code, out, _) = check(&file, &token);
        assert_eq!(code == Some(0), opens(&daemon, &token), "{out}");
    }
}

#[test]
fn a_remote_verifier_is_asked_and_a_dead_one_is_no_refusal() {
    let verifier = Verifier::start();
    verifier.set(&json!({ "good": { "aud": "demo", "scope": "event-read" } }));
    let setup = Setup::new().verified_by(&verifier.introspection(""));
    let file = setup.path("fanfare.toml");
    let (code, out, said) = check(&file, "good");
    assert!(code == Some(0) && out.contains("events of the cell demo; for 3"), "{out}{said}");
    let (code, out, _) = check(&file, "unknown");
    assert!(
        code == Some(1) && out.contains("refused: the verifier says that the token is not valid"),
        "{out}"
    );
    drop(verifier);
    let (code, out, _) = check(&file, "good");
    assert!(
        code == Some(1) && out.contains("refused: asking ") && out.contains(" failed: "),
        "{out}"
    );
}
