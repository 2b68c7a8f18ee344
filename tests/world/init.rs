//! `fanfare init`: what it writes can run, and what is there stays.

use crate::cli::run;
use crate::harness::command;
use fanfare::dialect::Kind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Runs `fanfare init` for protocols in a directory: the status, what it prints and what it says.
fn init(protocols: &[&str], directory: &Path) -> (Option<i32>, String, String) {
    let mut words = vec!["init"];
    words.extend(protocols);
    words.extend(["--directory", directory.to_str().unwrap()]);
    run(&mut command(&words))
}

/// What a start would say to the configuration, with a socket and a store where a test may have them.
#[track_caller]
fn assert_can_run(directory: &Path) -> String {
    let file = directory.join("fanfare.toml");
    let mut check = command(&["check", "--config", file.to_str().unwrap()]);
    check.env("FANFARE_FEED_UNIX_PATH", directory.join("events.sock"));
    check.env("FANFARE_ADMIN_SOCKET", directory.join("admin.sock"));
    check.env("FANFARE_STORE_PATH", directory.join("store"));
    let (code, told, said) = run(&mut check);
    assert_eq!(code, Some(0), "{said}");
    told
}

#[test]
fn what_is_written_for_each_protocol_can_run() {
    for kind in Kind::ALL.iter().filter(|kind| kind.name() != "mirror") {
        let directory = tempfile::tempdir().unwrap();
        let (code, told, said) = init(&[kind.name()], directory.path());
        assert_eq!(code, Some(0), "{said}");
        assert!(told.contains(&format!("fanfare help {}\n", kind.name())), "{told}");
        let checked = assert_can_run(directory.path());
        assert!(checked.contains(&format!(": {}\n", kind.name())), "{checked}");
    }
}

#[test]
fn all_protocols_go_together_and_secrets_are_their_owners() {
    let directory = tempfile::tempdir().unwrap();
    let protocols = ["wazo", "echo", "channel", "pulsar", "personium-event", "personium-topic"];
    let (code, _, said) = init(&protocols, directory.path());
    assert_eq!(code, Some(0), "{said}");
    let checked = assert_can_run(directory.path());
    assert!(checked.contains("0.0.0.0:9502: wazo\n"), "{checked}");
    let mut secrets = Vec::new();
    for name in ["admin.token", "jwt.secret", "echo.secret"] {
        let path = directory.path().join(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        secrets.push(std::fs::read_to_string(path).unwrap());
    }
    secrets.sort();
    secrets.dedup();
    assert!(secrets.len() == 3 && secrets.iter().all(|secret| secret.trim().len() == 64));
}

#[test]
fn what_is_there_stays() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("echo.secret"), "known to the application\n").unwrap();
    let (code, told, said) = init(&["echo"], directory.path());
    assert!(code == Some(0) && !told.contains("echo.secret"), "{told} {said}");
    let kept = std::fs::read_to_string(directory.path().join("echo.secret")).unwrap();
    assert_eq!(kept, "known to the application\n");

    let file = directory.path().join("fanfare.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let (code, _, said) = init(&["wazo"], directory.path());
    assert!(code == Some(78) && said.contains("is there already, and stays as it is"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert!(!directory.path().join("jwt.secret").exists());
}

#[test]
fn a_protocol_that_does_not_exist_is_told_with_those_that_do() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("new");
    for (protocols, expected) in
        [(&["ecko"][..], "no protocol \"ecko\": there are"), (&[], "name the protocols")]
    {
        let (code, _, said) = init(protocols, &inside);
        assert!(code == Some(2) && said.contains(expected) && said.contains("echo"), "{said}");
    }
    assert!(!inside.exists());
    let (code, _, said) = init(&["echo"], Path::new("/dev/null/x"));
    assert!(code == Some(1) && said.contains("cannot write"), "{said}");
}

#[test]
fn clients_connect_where_it_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let (code, _, said) =
        run(command(&["init", "echo", "--listen", "::1", "--directory"]).arg(directory.path()));
    assert_eq!(code, Some(0), "{said}");
    assert!(assert_can_run(directory.path()).contains("listen [::1]:8080: echo\n"));
}
