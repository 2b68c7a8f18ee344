//! `fanfare check` does what a start does, up to listening, and says as which user.

use crate::cli::run;
use crate::harness::{Setup, command, root, skip};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

/// The user and the group that everything here is judged as.
const NOBODY: u32 = 65_534;

/// A configuration whose files everybody may read.
fn setup() -> Setup {
    let setup = Setup::new();
    set_mode(setup.path("fanfare.toml").parent().unwrap(), 0o755);
    ["fanfare.toml", "jwt.secret"].iter().for_each(|name| set_mode(&setup.path(name), 0o644));
    setup
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Keys for a daemon with durable topics, and more.
fn pulsar<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("listen.0.dialects", "[\"pulsar\"]"), ("pulsar.anonymous", "true")], more].concat()
}

/// Judges a configuration as nobody, with some keys set.
fn verified(setup: &Setup, keys: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let file = setup.path("fanfare.toml");
    let mut check = command(&["check", "--config", file.to_str().unwrap(), "--user", "nobody"]);
    // What the daemon's user may write, unless it is said otherwise.
    check.env("FANFARE_FEED_UNIX_PATH", "/tmp/fanfare-checked.sock");
    check.envs(
        keys.iter().map(|(key, value)| {
            (format!("FANFARE_{}", key.replace('.', "_").to_uppercase()), value)
        }),
    );
    run(&mut check)
}

#[test]
fn what_the_daemons_user_may_not_do_is_told_before_a_start() {
    if !root() {
        return skip("verifying as another user", "only root can");
    }
    let setup = setup();
    let private = setup.path("private");
    std::fs::create_dir(&private).unwrap();
    set_mode(&private, 0o700);
    let path = |name: &str| private.join(name).to_str().unwrap().to_owned();
    let (inside, long) = (path("events.sock"), format!("/tmp/{}", "x".repeat(120)));
    let secret = setup.path("jwt.secret").to_str().unwrap().to_owned();
    let secret_file = "personium.token.jwt.secret_file";
    for (keys, said) in [
        (vec![("feed.unix.path", &*long)], "is too long: a socket's path may have 107 bytes"),
        (vec![("feed.unix.path", &*inside)], "feed.unix.path: cannot make "),
        (vec![("feed.unix.path", &*secret)], "exists and is not a socket"),
        (vec![("feed.unix.group", "nonesuch")], "there is no group \"nonesuch\""),
        (
            vec![("feed.unix.group", "daemon")],
            "user nobody (65534) is no member of the group \"daemon\"",
        ),
        (
            vec![("admin.address", "192.0.2.1:9500")],
            "192.0.2.1:9500 is not an address of this machine",
        ),
        (vec![("listen.0.address", "127.0.0.1:80")], "no permission to listen on 127.0.0.1:80"),
        (
            vec![("listen.0.address", "0.0.0.0:5555"), ("admin.address", "127.0.0.1:5555")],
            "0.0.0.0:5555 and 127.0.0.1:5555 overlap",
        ),
        (pulsar(&[("store.path", &path("store"))]), "store.path: "),
        (
            pulsar(&[("store.path", "/proc/store")]),
            "store.path: the directory /proc cannot be written",
        ),
        (
            pulsar(&[("store.path", "/tmp/fanfare-no-store"), ("store.backup_path", "/proc/b")]),
            "store.backup_path: the directory /proc cannot be written",
        ),
        (vec![(secret_file, &*path("none"))], "user 65534 may not read"),
    ] {
        let (code, out, stderr) = verified(&setup, &keys);
        assert_eq!((code, out.as_str()), (Some(78), ""), "{keys:?}: {stderr}");
        assert!(stderr.contains(said), "{keys:?}: {stderr}");
        assert!(stderr.contains("This is judged as user nobody (65534)"), "{stderr}");
    }
    let (code, out, said) = verified(&setup, &[]);
    assert!(
        code == Some(0) && out.contains("is good.\njudged as user nobody (65534)\n"),
        "{out}{said}"
    );
}

#[test]
fn what_the_units_directories_will_be_is_not_asked_for_before_they_are_there() {
    if !root() || Path::new("/run/fanfare").exists() || Path::new("/var/lib/fanfare").exists() {
        return skip("the unit's directories", "they are there, or this is not root");
    }
    let (code, _, said) = verified(
        &setup(),
        &[
            ("feed.unix.path", "/run/fanfare/events.sock"),
            ("listen.0.dialects", "[\"pulsar\"]"),
            ("pulsar.anonymous", "true"),
            ("store.path", "/var/lib/fanfare/store"),
        ],
    );
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_daemon_that_runs_is_in_nobodys_way_and_another_program_is_noted() {
    let daemon = setup().start();
    let config = daemon.path("fanfare.toml");
    let check = |listen: &str, admin: &str| {
        let mut check = command(&["check", "--config", config.to_str().unwrap()]);
        run(check.env("FANFARE_LISTEN_0_ADDRESS", listen).env("FANFARE_ADMIN_ADDRESS", admin))
    };
    let (listen, admin) = (daemon.address.to_string(), daemon.admin.to_string());
    let (code, out, said) = check(&listen, &admin);
    assert!(code == Some(0) && !out.contains("is taken"), "{out}{said}");
    daemon.assert_works();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let (code, out, said) = check(&listen, &taken);
    assert!(
        code == Some(0) && out.contains(&format!("note: {taken} is taken, by another program")),
        "{out}{said}"
    );
}

/// As the daemon's user may not listen there itself.
#[test]
fn a_port_below_1024_that_the_service_manager_has_is_only_noted() {
    let Ok(other) = std::net::TcpListener::bind("127.0.0.1:81") else {
        return skip("a port below 1024 of another", "only root can listen there");
    };
    let (code, out, said) = verified(&setup(), &[("listen.0.address", "127.0.0.1:81")]);
    assert!(code == Some(0) && out.contains("note: 127.0.0.1:81 is taken"), "{out}{said}");
    drop(other);
}

#[test]
fn only_root_verifiers_as_another_user() {
    let setup = setup();
    let file = setup.path("fanfare.toml");
    let (code, _, said) =
        run(&mut command(&["check", "--config", file.to_str().unwrap(), "--user", "nonesuch"]));
    assert!(code == Some(2) && said.contains("there is no user \"nonesuch\""), "{said}");
    if !root() {
        return;
    }
    let program = setup.path("fanfare");
    std::fs::copy(env!("CARGO_BIN_EXE_fanfare"), &program).unwrap();
    chown(&program, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut check = Command::new("setpriv");
    check.args([
        &format!("--reuid={NOBODY}"),
        &format!("--regid={NOBODY}"),
        "--clear-groups",
        "--",
    ]);
    check.arg(&program).args(["check", "--user", "root", "--config"]).arg(&file);
    let (code, _, said) = run(&mut check);
    assert!(code == Some(2) && said.contains("only root can check as another user"), "{said}");
}
