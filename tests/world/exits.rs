//! How commands end: the status of each kind of failure, and an output that is closed or full.

use crate::cli::run;
use crate::harness::{PATH, Setup, command, eventually, http, token};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A file on a disk without room.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// A secret's file and a configuration's, as arguments.
fn files(setup: &Setup) -> [String; 2] {
    ["jwt.secret", "fanfare.toml"].map(|name| setup.path(name).to_str().unwrap().to_owned())
}

/// Commands that print something and end.
fn printing(setup: &Setup) -> Vec<Command> {
    let [secret, config] = files(setup);
    let all: [&[&str]; 7] = [
        &["--help"],
        &["--version"],
        &[],
        &["check", "--help"],
        &["check", "--config", &config],
        &["token", "--secret-file", &secret, "--cell", "demo"],
        &["topics", "list", "-h"],
    ];
    all.into_iter().map(command).collect()
}

#[test]
fn an_output_that_nobody_reads_any_more_is_no_failure() {
    let setup = Setup::new();
    for mut command in printing(&setup) {
        let ended =
            command.stdin(Stdio::null()).stdout(closed()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{command:?}: {ended:?}");
        assert_eq!(ended.stderr, b"", "{command:?}: {ended:?}");
    }
}

#[test]
fn an_output_on_a_full_disk_is_a_failure_that_says_so() {
    let setup = Setup::new();
    for mut command in printing(&setup) {
        let ended =
            command.stdin(Stdio::null()).stdout(full()).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{command:?}: {ended:?}");
        assert!(
            said.contains("cannot write to standard output: No space left"),
            "{command:?}: {said}"
        );
    }
}

#[test]
fn a_standard_error_that_cannot_be_written_changes_no_status() {
    let setup = Setup::new();
    let [secret, _] = files(&setup);
    for stderr in [closed, full] {
        for (words, code) in [
            (&["token", "--secret-file", &secret][..], 0),
            (&["servce"], 2),
            (&["check", "--config", "/none"], 78),
            (&["publish", "--socket", "/none", "event/a", "{}"], 75),
        ] {
            let mut command = command(words);
            let Output { status, .. } =
                command.stdin(Stdio::null()).stderr(stderr()).output().unwrap();
            assert_eq!(status.code(), Some(code), "{words:?}: {status:?}");
        }
    }
}

#[test]
fn a_daemon_lives_on_though_its_log_and_its_welcome_cannot_be_written() {
    for output in [closed, full] {
        let state = tempfile::tempdir().unwrap();
        // Its log, which says where it listens, is not to be had.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut serve = command(&["serve"]);
        serve.env("XDG_STATE_HOME", state.path()).env("FANFARE_LOG_FORMAT", "text");
        for listener in ["LISTEN_0", "LISTEN_1", "LISTEN_2"] {
            serve.env(format!("FANFARE_{listener}_ADDRESS"), "127.0.0.1:0");
        }
        serve.env("FANFARE_ADMIN_ADDRESS", address.to_string());
        let mut child = serve.stdout(output()).stderr(output()).spawn().unwrap();
        eventually("it listens", || {
            assert_eq!(child.try_wait().unwrap(), None, "the daemon has ended");
            TcpStream::connect(address).is_ok()
        });
        let ready = || http(address, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").0;
        assert_eq!(ready(), 200);
        let pid = Pid::from_child(&child);
        // It has nothing to reload, and says so where nobody hears it.
        kill_process(pid, Signal::HUP).unwrap();
        assert_eq!(ready(), 200);
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_wrong_command_line_exits_2_and_says_what_was_meant() {
    for (words, said) in [
        (&["servce"][..], "there is no command \"servce\"; did you mean \"serve\"?"),
        (
            &["xyzzy"],
            "there is no command \"xyzzy\"; there are serve, check, doctor, init, config, publish, ",
        ),
        (&["topics", "lst"], "did you mean \"list\"?"),
        (&["bench", "fanot"], "did you mean \"fanout\"?"),
        (&["check", "--confg", "x"], "there is no option \"--confg\"; did you mean \"--config\"?"),
        (&["check", "--config"], "No value provided for option '--config'"),
        (&["check", "--config", "x", "y"], "\"y\" is one word more than there may be"),
        (&["token", "--expires-in-s", "x"], "it takes a whole number"),
        (&["token", "--expires-in-s=0"], "--expires-in-s must be at least 1"),
        (&["token", "--secret-file", "a", "--key-file", "b"], "exclude each other"),
        (&["topics"], "One of the following subcommands must be present"),
        (&["subscribe", "http://x/"], "write ws:// instead"),
        (&["publish", "event/a", "{", "}"], "single quotes"),
        (&["publish", "event/a", "{\n\"Type\":"], "the JSON over several lines is not valid"),
        (&["bench", "fanout", "--in-flight", "0"], "--in-flight must be at least 1"),
    ] {
        let (code, out, stderr) = run(&mut command(words));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{words:?}: {stderr}");
        assert!(stderr.contains(said), "{words:?}: {stderr}");
    }
}

#[test]
fn help_and_version_have_their_usual_short_names() {
    let long = run(&mut command(&["check", "--help"]));
    assert_eq!(run(&mut command(&["check", "-h"])), long);
    assert!(long.1.contains("  -h, --help, help"), "{}", long.1);
    let (code, help, _) = run(&mut command(&["-h"]));
    assert!(code == Some(0) && help.contains("Exit codes:"), "{help}");
    assert_eq!(run(&mut command(&["-V"])), run(&mut command(&["--version"])));
    assert_eq!(run(&mut command(&["topics", "list", "-h"])).0, Some(0));
}

#[test]
fn an_option_takes_its_value_behind_an_equals_sign_too() {
    let setup = Setup::new();
    let [secret, config] = files(&setup);
    assert_eq!(run(&mut command(&["check", &format!("--config={config}")])).0, Some(0));
    let (code, _, said) = run(&mut command(&[
        "token",
        &format!("--secret-file={secret}"),
        "--cell=a",
        "--claim=x={\"y\":1}",
    ]));
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn a_daemon_that_does_not_run_or_is_full_exits_75() {
    let nowhere = |words: &[&str]| run(command(words).env("XDG_STATE_HOME", "/none"));
    for words in [
        &["publish", "--socket", "/none/x.sock", "event/a", "{}"][..],
        &["subscribe", "ws://127.0.0.1:1/a/__event"],
        &["topics", "list", "--admin", "127.0.0.1:1"],
    ] {
        let (code, _, said) = nowhere(words);
        assert_eq!(code, Some(75), "{words:?}: {said}");
    }
    let (code, _, said) = nowhere(&["publish", "--socket", "/tmp", "event/a", "{}"]);
    assert!(code == Some(1) && said.contains("/tmp is not a socket"), "{said}");
    let daemon = Setup::new().set("max_connections", 1).start();
    let _first = daemon.client();
    let url = format!("ws://{}{PATH}", daemon.address);
    let (code, _, said) = run(&mut command(&["subscribe", &url]));
    assert!(code == Some(75) && said.contains("503"), "{said}");

    let daemon = Setup::new().set("limits.connections_per_address_max", 1).start();
    let _first = daemon.client();
    let url = format!("ws://{}{PATH}", daemon.address);
    let (code, _, said) = run(&mut command(&["subscribe", &url]));
    assert!(code == Some(75) && said.contains("429"), "{said}");

    let daemon = Setup::new().set("feed.unix.publishers_max", 1).start();
    let _first = daemon.publisher();
    daemon.await_metric("publishers", 1);
    let socket = daemon.socket().display().to_string();
    let (code, _, said) = run(&mut command(&["publish", "--socket", &socket, "event/a", "{}"]));
    assert!(code == Some(75) && said.contains("took nothing: too many publishers"), "{said}");
}

#[test]
fn a_start_that_fails_takes_two_seconds_where_a_service_manager_repeats_it() {
    let fails = |setup: Setup| {
        std::fs::remove_file(setup.path("jwt.secret")).unwrap();
        let start = Instant::now();
        assert_eq!(setup.command().output().unwrap().status.code(), Some(78));
        start.elapsed()
    };
    assert!(fails(Setup::new()) < Duration::from_secs(2));
    assert!(fails(Setup::new().with("NOTIFY_SOCKET", "/none")) >= Duration::from_secs(2));
}

#[test]
fn a_file_that_a_configuration_names_and_nobody_can_read_exits_78() {
    let setup = Setup::new();
    let file = setup.path("other.toml");
    let text = "[[listen]]\naddress = \"127.0.0.1:0\"\ndialects = [\"personium-event\"]\n\
                [admin]\naddress = \"127.0.0.1:1\"\ntoken_file = \"/none/admin.token\"\n\
                [personium.token.jwt]\nsecret_file = \"/none/jwt.secret\"\n";
    std::fs::write(&file, text).unwrap();
    let config = file.to_str().unwrap();
    let (code, _, said) = run(&mut command(&["topics", "list", "--config", config]));
    assert!(code == Some(78) && said.contains("no file /none/admin.token"), "{said}");
    let (code, _, said) = run(&mut command(&["token", "--config", config, "--cell", "a"]));
    assert!(code == Some(78) && said.contains("no file /none/jwt.secret"), "{said}");
}

#[test]
fn a_publisher_who_may_not_publish_exits_1_and_is_told_why() {
    let daemon = Setup::new().set("feed.unix.allow_uids", "[4242]").start();
    let socket = daemon.socket().display().to_string();
    let (code, _, said) = run(&mut command(&["publish", "--socket", &socket, "event/a", "{}"]));
    assert!(
        code == Some(1) && said.contains("took nothing: user ") && said.contains("allow_uids"),
        "{said}"
    );
    assert!(!said.contains("Did it stop"), "{said}");
}

#[test]
fn a_follower_whose_daemon_stops_exits_75() {
    let mut daemon = Setup::new().start();
    let url = format!("ws://{}{PATH}", daemon.address);
    let mut follower = command(&["subscribe", &url, "--token", &token()]);
    let follower = follower.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    daemon.await_metric("subscriptions", 1);
    daemon.signal(Signal::TERM);
    let ended = follower.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(75), "{ended:?}");
    assert!(daemon.wait().success());
}
