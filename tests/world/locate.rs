//! Which daemon a command means when none is named: beside a system service and a development daemon.

use crate::cli::{Trial, run};
use crate::harness::{Daemon, Setup, clean, event, root, skip};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Runs a program where `/etc/fanfare` has only this configuration.
const PLACED: &str = r#"
etc=$(mktemp -d) && cp -a /etc/. "$etc" && rm -rf "$etc/fanfare" && mkdir "$etc/fanfare" || exit 99
if [ -n "$1" ]; then cp "$1" "$etc/fanfare/fanfare.toml" || exit 99; fi
mount --bind "$etc" /etc || exit 99
shift
"$@"
status=$?
umount /etc && rm -rf "$etc"
exit $status
"#;

fn placed(configuration: Option<&Path>, state: &Path, words: &[&str]) -> Command {
    let file = configuration.map_or("", |path| path.to_str().unwrap());
    let start = ["--mount", "sh", "-c", PLACED, "sh", file, env!("CARGO_BIN_EXE_fanfare")];
    let mut command = clean("unshare", &[&start[..], words].concat());
    command.env("XDG_STATE_HOME", state);
    command
}

/// A daemon, and a configuration of a service that says where it is.
fn service() -> Daemon {
    let setup = Setup::new();
    let file = setup.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let token = "token = \"0123456789abcdef\"";
    let address = "[admin]\naddress = \"127.0.0.1:0\"\n";
    std::fs::write(&file, text.replace(address, &format!("{address}{token}\n"))).unwrap();
    let daemon = setup.start();
    let known =
        text.replace(address, &format!("[admin]\naddress = \"{}\"\n{token}\n", daemon.admin));
    std::fs::write(daemon.path("service.toml"), known).unwrap();
    daemon
}

#[test]
fn every_command_finds_the_same_daemon_and_says_which_where_there_are_two() {
    if !root() {
        return skip(
            "finding a service",
            "only root can put a configuration into /etc for a while",
        );
    }
    let daemon = service();
    let file = daemon.path("service.toml");
    let empty = tempfile::tempdir().unwrap();
    let in_service = |words: &[&str]| run(&mut placed(Some(&file), empty.path(), words));
    let (code, out, said) = in_service(&["check"]);
    assert!(
        code == Some(0) && out.starts_with("/etc/fanfare/fanfare.toml is good."),
        "{code:?} {out}{said}"
    );
    let (code, token, said) = in_service(&["token", "--cell", "demo"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let mut client = daemon.client();
    client.follow_with(token.trim());
    let line = event("one", "of the service");
    let words: Vec<&str> = line.trim().splitn(2, ' ').collect();
    let (code, _, said) = in_service(&["publish", words[0], words[1]]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(client.text().contains("of the service"));
    // It has no topics, and that is all that is wrong.
    let (code, _, said) = in_service(&["topics", "list"]);
    assert!(code == Some(1) && !said.contains("where is"), "{said}");

    let (trial, _) = Trial::start();
    let state = trial.state.path();
    let with_both = |words: &[&str]| run(&mut placed(Some(&file), state, words));
    let note = "note: this is for the development daemon, which runs with its state in ";
    let (code, _, said) = with_both(&["publish", "event/demo", r#"{"Type":"a","Object":"b"}"#]);
    assert!(
        code == Some(0) && said.starts_with(note) && said.contains("--socket names another"),
        "{said}"
    );
    let (code, out, said) = with_both(&["topics", "list"]);
    assert!(code == Some(0) && out.is_empty() && said.starts_with(note), "{said}");
    let (code, token, said) = with_both(&["token", "--cell", "demo"]);
    assert!(code == Some(0) && said.starts_with(note), "{said}");
    let mut stranger = daemon.client();
    stranger.show(token.trim());
    assert_eq!(stranger.close_code(), 1000, "it was signed with the other secret");

    drop(trial);
    let nothing = |words: &[&str]| run(&mut placed(None, empty.path(), words));
    let (code, _, said) = nothing(&["check"]);
    assert!(
        code == Some(78) && said.contains("there is no /etc/fanfare/fanfare.toml: give the file"),
        "{said}"
    );
    let (code, _, said) = nothing(&["publish", "event/demo", "{}"]);
    let about = "This was for the development daemon, which would have its state in ";
    assert!(
        code == Some(75) && said.contains(about) && said.contains("--socket names another"),
        "{said}"
    );
    let (code, _, said) = nothing(&["topics", "list"]);
    assert!(code == Some(75) && said.contains(about), "{said}");
    let (code, _, said) = nothing(&["token"]);
    assert!(code == Some(1) && said.contains(about), "{said}");
}

#[test]
fn a_development_daemon_leaves_no_address_behind() {
    let (mut trial, _) = Trial::start();
    let file = |name: &str| trial.state.path().join("fanfare").join(name);
    let files = [file("admin.address"), file("feed.address")];
    assert!(files.iter().all(|file| file.exists()));
    let pid = rustix::process::Pid::from_child(&trial.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(trial.child.wait().unwrap().success());
    assert!(files.iter().all(|file| !file.exists()));
}

#[test]
fn a_state_directory_that_others_can_enter_is_closed_and_its_secrets_are_made_anew() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join("fanfare");
    std::fs::create_dir(&directory).unwrap();
    let set = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    set(&directory, 0o777);
    let secrets = ["jwt.secret", "echo.secret", "admin.token", "tls.key.pem"]
        .map(|name| directory.join(name));
    for secret in &secrets {
        std::fs::write(secret, "0123456789abcdef0123456789abcdef").unwrap();
        set(secret, 0o644);
    }
    let serve = |state: &Path| {
        let mut serve = clean(env!("CARGO_BIN_EXE_fanfare"), &["serve"]);
        serve.env("XDG_STATE_HOME", state).env("FANFARE_LISTEN_0_ADDRESS", "192.0.2.1:1");
        run(&mut serve)
    };
    let (_, _, said) = serve(state.path());
    assert!(said.contains("(mode 0777): it is 0700 now"), "{said}");
    assert_eq!(said.matches("(mode 0644): a new one is made").count(), 4, "{said}");
    assert_eq!(mode(&directory), 0o700);
    for secret in &secrets {
        assert_eq!(mode(secret), 0o600, "{secret:?}");
        assert!(
            !std::fs::read_to_string(secret).unwrap().contains("0123456789abcdef0123456789abcdef")
        );
    }
    let (_, _, said) = serve(state.path());
    assert!(!said.contains("warning"), "once is enough: {said}");
    if root() {
        std::os::unix::fs::chown(&secrets[0], Some(65_534), None).unwrap();
        let (_, _, said) = serve(state.path());
        assert!(said.contains("belongs to user 65534, who may know it"), "{said}");
        std::os::unix::fs::chown(&directory, Some(65_534), None).unwrap();
        let (_, _, said) = serve(state.path());
        assert!(said.contains("it belongs to user 65534"), "{said}");
    }
}
