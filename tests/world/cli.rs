//! The commands as a person meets them: what they print, how they exit, what they advise.

use crate::harness::{PATH, SECRET, Setup, command, event, eventually};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs to the end: exit code, standard output, standard error.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.code(), text(&stdout), text(&stderr))
}

/// Runs to the end with an input.
fn run_with(command: &mut Command, input: &str) -> (Option<i32>, String, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), text(&stdout), text(&stderr))
}

#[test]
fn every_command_explains_itself_with_an_example() {
    for name in ["serve", "check", "doctor", "publish", "subscribe", "token"] {
        let (code, help, _) = run(&mut command(&[name, "--help"]));
        assert_eq!(code, Some(0));
        assert!(help.contains("Examples:") && help.contains(&format!("fanfare {name}")), "{help}");
    }
    let (code, help, _) = run(&mut command(&[]));
    assert!(code == Some(0) && help.contains("Commands:"), "{help}");
    let (code, version, _) = run(&mut command(&["--version"]));
    assert!(code == Some(0) && version.starts_with("fanfare 0."), "{version}");
}

#[test]
fn check_prints_what_would_run() {
    let setup = Setup::new();
    let file = setup.path("fanfare.toml");
    let (code, out, said) = run(&mut command(&["check", "--config", file.to_str().unwrap()]));
    assert_eq!(code, Some(0), "{said}");
    for part in
        ["is good", "1 shards", "listen 127.0.0.1:0: personium-event", "admin", "events.sock"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!setup.path("events.sock").exists(), "check must not run anything");
}

#[test]
fn check_tells_what_is_wrong_where_and_what_was_meant() {
    let setup = Setup::new();
    let file = setup.path("fanfare.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    for (from, to, expected) in [
        (
            "drain_s",
            "drian_s",
            "fanfare.toml:3: unknown key \"drian_s\" at the top level; did you mean \"drain_s\"?",
        ),
        (
            "address =",
            "adress =",
            "fanfare.toml:5: unknown key \"adress\" in [[listen]]; did you mean \"address\"?",
        ),
        ("threads = 1", "threads = \"many\"", "fanfare.toml:1: "),
        ("personium-event", "personium-evnet", "did you mean \"personium-event\"?"),
        ("HS256", "HS257", "fanfare.toml:14: "),
        ("[[listen]]", "[[listen]", "fanfare.toml:4: "),
        ("127.0.0.1:0", "localhost", "fanfare.toml:5: "),
        ("jwt.secret", "no.secret", "there is no file"),
        ("token = ", "# token = ", "no token verifier"),
    ] {
        std::fs::write(&file, good.replacen(from, to, 1)).unwrap();
        let (code, _, said) = run(&mut command(&["check", "--config", file.to_str().unwrap()]));
        assert_eq!(code, Some(78), "{to}: {said}");
        assert!(said.contains(expected), "{to}: {said}");
        let (code, _, said) = run(&mut setup.command());
        assert!(code == Some(78) && said.contains(expected), "{to}: {said}");
    }
    std::fs::write(&file, &good).unwrap();
    std::fs::write(setup.path("jwt.secret"), "short").unwrap();
    let (_, _, said) = run(&mut command(&["check", "--config", file.to_str().unwrap()]));
    assert!(said.contains("HS256 needs at least 32"), "{said}");
    let (_, _, said) =
        run(command(&["check", "--config", file.to_str().unwrap()])
            .env("FANFARE_FED_UNIX_PATH", "x"));
    assert!(said.contains("did you mean \"FANFARE_FEED_UNIX_PATH\"?"), "{said}");
}

#[test]
fn a_key_file_that_cannot_be_read_is_named_with_the_user() {
    let setup = Setup::new();
    std::fs::set_permissions(setup.path("jwt.secret"), std::fs::Permissions::from_mode(0o000))
        .unwrap();
    // Even root may not read everything: a capability less and the mode counts.
    let setup = if crate::harness::root() {
        setup.by(&["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--"])
    } else {
        setup
    };
    let (code, _, said) = run(&mut setup.command());
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("may not read") && said.contains("jwt.secret; see `ls -l"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let (code, _, said) = run(&mut Setup::new().set("listen.0.address", address).command());
    assert_eq!(code, Some(75));
    assert!(
        said.contains(&format!("{address} is taken by another program: stop it, or")),
        "{said}"
    );
    let daemon = Setup::new().start();
    let (_, _, said) = run(&mut Setup::new().set("listen.0.address", daemon.address).command());
    assert!(said.contains("is taken by another program"), "{said}");
    let (_, _, said) = run(&mut Setup::new().set("admin.address", daemon.admin).command());
    assert!(said.contains("is taken by another program"), "{said}");
    let (code, _, said) = run(&mut Setup::new().set("listen.0.address", "192.0.2.1:80").command());
    assert!(
        code == Some(78) && said.contains("192.0.2.1:80 is not an address of this machine"),
        "{said}"
    );
    daemon.assert_works();
}

#[test]
fn a_port_of_another_kind_is_told_apart_from_a_refused_token() {
    let daemon = Setup::new().start();
    let (code, _, said) =
        run(&mut command(&["subscribe", &format!("wss://{}{PATH}", daemon.address), "--insecure"]));
    assert!(
        code == Some(1) && said.contains("a listener without TLS does: use ws:// there"),
        "{said}"
    );
    assert!(!said.contains("certificate of the client"), "{said}");
    let setup = Setup::new().set("listen.0.dialects", "[\"channel\"]");
    let secret = format!("{:?}", setup.path("jwt.secret"));
    let token = format!("{{ jwt = {{ algorithms = [\"HS256\"], secret_file = {secret} }} }}");
    let file = setup.path("fanfare.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[channel]\ntoken = {token}\n")).unwrap();
    let daemon = setup.start();
    let url = format!("ws://{}/", daemon.address);
    let (_, _, said) = run(&mut command(&["subscribe", &url, "--event", "*", "--token", "x"]));
    assert!(
        said.contains("speaks the channels of a Laravel application and not Wazo's protocol"),
        "{said}"
    );
}

#[test]
fn publish_exits_by_what_the_daemon_says() {
    let daemon = Setup::new().start();
    let mut subscriber = daemon.subscriber();
    let socket = daemon.socket();
    let publish = |words: &[&str]| {
        command(&[&["publish", "--socket", socket.to_str().unwrap()], words].concat())
    };
    let (code, _, said) =
        run(&mut publish(&["event/demo", "{\"Type\":\"chat\",\n\"Object\":\"one\"}"]));
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(subscriber.text().contains("one"));
    let (code, _, said) = run(&mut publish(&["event/demo", "{\"Type\":7}"]));
    assert!(code == Some(1) && said.contains("event/demo") && said.contains("string"), "{said}");
    let (code, _, said) = run(&mut publish(&["event/demo"]));
    assert!(code == Some(2) && said.contains("ADDRESS and JSON"), "{said}");
    let lines: String = (0..5000).map(|n| event("lines", &n.to_string())).collect();
    let (code, _, said) = run_with(&mut publish(&[]), &lines);
    assert_eq!((code, said.trim()), (Some(0), "accepted 5000, rejected 0"));
    for n in 0..5000 {
        assert!(subscriber.text().contains(&format!("\"Info\":\"{n}\"")));
    }
    let (code, _, said) =
        run_with(&mut publish(&[]), &format!("{}\n\nnonsense {{}}\n", event("a", "b")));
    assert!(code == Some(1) && said.contains("line 4 (nonsense)"), "{said}");
    let (code, _, said) =
        run(command(&["publish", "event/demo", "{}"]).env("FANFARE_FEED_UNIX_PATH", "/none"));
    assert!(code == Some(75) && said.contains("/none"), "{said}");
}

#[test]
fn token_and_subscribe_work_hand_in_hand() {
    let daemon = Setup::new().start();
    let secret = daemon.path("jwt.secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let secret = secret.to_str().unwrap().to_owned();
    let (code, token, said) =
        run(&mut command(&["token", "--secret-file", &secret, "--cell", "demo"]));
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let token = token.trim();
    let url = format!("ws://{}{PATH}", daemon.address);
    let mut child = command(&["subscribe", &url, "--count", "2", "--type", "chat"])
        .env("FANFARE_TOKEN", token)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    daemon.await_metric("subscriptions", 1);
    daemon.publisher().send(
        [event("one", "1"), event("x", "2").replace("chat", "other"), event("two", "3")].concat(),
    );
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success());
    let expected = [event("one", "1"), event("two", "3")].concat().replace("event/demo ", "");
    assert_eq!(out, expected);

    let (code, _, said) = run(&mut command(&["subscribe", &url, "--token", "nonsense"]));
    assert!(
        code == Some(1) && said.contains("the token was refused") && !said.contains("nonsense"),
        "{said}"
    );
    let (code, _, said) = run(&mut command(&["subscribe", &url]));
    assert!(code == Some(1) && said.contains("no token was given"), "{said}");
    let (code, _, said) = run(&mut command(&["subscribe", &format!("ws://{}/x", daemon.address)]));
    assert!(code == Some(1) && said.contains("404"), "{said}");
    let (code, _, said) = run(&mut command(&["subscribe", "ws://127.0.0.1:1/x"]));
    assert_eq!(code, Some(75), "{said}");
    let config = daemon.path("fanfare.toml");
    let words = ["token", "--config", config.to_str().unwrap(), "--cell", "demo", "--claim", "x"];
    let (code, out, said) = run(&mut command(&words));
    assert!(code == Some(2) && out.is_empty() && said.contains("key=json"), "{said}");
}

/// The development set-up, in a directory of its own.
pub(crate) struct Trial {
    pub(crate) child: Child,
    pub(crate) state: tempfile::TempDir,
}

impl Trial {
    pub(crate) fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("XDG_STATE_HOME", self.state.path())
            .env("FANFARE_LISTEN_0_ADDRESS", "127.0.0.1:0")
            .env("FANFARE_LISTEN_1_ADDRESS", "127.0.0.1:0")
            .env("FANFARE_LISTEN_2_ADDRESS", "127.0.0.1:0")
            .env("FANFARE_ADMIN_ADDRESS", "127.0.0.1:0")
            .env_remove("FANFARE_LONG")
            .env_remove("FANFARE_TEST_DRIVER")
            .env_remove("JOURNAL_STREAM")
    }

    /// Starts it where the program is; returns it with what it printed.
    pub(crate) fn start() -> (Self, String) {
        let none = Command::new("true").stdout(Stdio::null()).spawn().unwrap();
        let mut trial = Self { child: none, state: tempfile::tempdir().unwrap() };
        trial.child.wait().unwrap();
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_fanfare"));
        let mut serve = Command::new(program);
        serve.arg("serve").current_dir(program.parent().unwrap()).stdout(Stdio::piped());
        serve.env("FANFARE_FEED_UNIX_PATH", trial.state.path().join("its socket"));
        trial.child = trial.environment(&mut serve).spawn().unwrap();
        let mut printed = String::new();
        let mut lines = BufReader::new(trial.child.stdout.take().unwrap());
        while !printed.contains("Ctrl-C") {
            assert!(lines.read_line(&mut printed).unwrap() > 0, "ended after {printed}");
        }
        (trial, printed)
    }

    /// What stands behind a word at the start of a printed line, to be pasted into a shell.
    fn paste(&self, printed: &str, word: &str) -> Command {
        let line = printed.lines().find_map(|line| line.trim().strip_prefix(word)).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {}", line.trim())]);
        shell.current_dir(std::path::Path::new(env!("CARGO_BIN_EXE_fanfare")).parent().unwrap());
        self.environment(&mut shell).stdin(Stdio::null());
        shell
    }

    /// Pastes what is printed to follow a dialect and to publish to it; the follower goes on.
    fn follow_and_publish(&self, printed: &str, ready: &str) -> Child {
        self.follow_and_publish_what(printed, ready, "Hello World")
    }

    /// The same, where what is published says it in its own way.
    fn follow_and_publish_what(&self, printed: &str, ready: &str, said_as: &str) -> Child {
        let mut follow = self.paste(printed, "follow it");
        let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut webhooks = BufReader::new(follow.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(ready) {
            assert!(webhooks.read_line(&mut said).unwrap() > 0, "{said}");
        }
        let (code, _, said) = run(&mut self.paste(printed, "publish"));
        assert_eq!(code, Some(0), "{said}");
        let mut event = String::new();
        BufReader::new(follow.stdout.take().unwrap()).read_line(&mut event).unwrap();
        assert!(event.contains(said_as), "{event}");
        follow
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_printed_commands_of_the_development_set_up_work_when_pasted() {
    let (trial, printed) = Trial::start();
    let directory = trial.state.path().join("fanfare");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("jwt.secret")), 0o600);
    assert_eq!(mode(&trial.state.path().join("its socket")), 0o600);
    assert_eq!(mode(&directory.join("tls.key.pem")), 0o600);
    let of = |dialect: &str| printed.split_once(&format!("\n{dialect}\n")).unwrap().1;
    let ca = printed.lines().find_map(|line| line.split_once("--ca ")).unwrap().1;
    let over_tls = |printed: &str| {
        let url = |word: &str| {
            printed.lines().find_map(|line| line.trim().strip_prefix(word)).unwrap().trim()
        };
        printed.replace(
            &format!("subscribe {}", url("url")),
            &format!("subscribe {} --ca {ca}", url("with TLS")),
        )
    };
    let topic = of("personium-topic");
    for (printed, ready) in [
        (over_tls(of("personium-event")), "subscribed:"),
        (topic.to_owned(), "token accepted:"),
        (over_tls(topic), "token accepted:"),
    ] {
        let mut other = trial.follow_and_publish(&printed, ready);
        other.kill().unwrap();
        other.wait().unwrap();
    }
    let mut follow = trial.follow_and_publish(of("personium-event"), "subscribed:");
    let mut wazo = trial.follow_and_publish(of("wazo"), "subscribed:");
    wazo.kill().unwrap();
    wazo.wait().unwrap();
    let pulsar = of("pulsar");
    let mut consumer = trial.follow_and_publish_what(pulsar, "connected to", "SGVsbG8gV29ybGQ=");
    let (code, out, said) = run(&mut trial.paste(pulsar, "look at it"));
    assert!(code == Some(0) && out == "persistent://public/default/demo\n", "{out}{said}");
    assert_eq!(mode(&directory.join("admin.token")), 0o600);
    for word in ["producer", "consumer"] {
        let url = pulsar.lines().find_map(|line| line.trim().strip_prefix(word)).unwrap().trim();
        assert!(url.contains(&format!("/ws/v2/{word}/persistent/public/default/demo")), "{url}");
        let mut connect = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        connect.args(["subscribe", &url.replace("/my-sub", "/another"), "--count", "0"]);
        let (code, _, said) = run(&mut connect);
        assert_eq!(code, Some(0), "{said}");
    }
    consumer.kill().unwrap();
    consumer.wait().unwrap();
    let (code, _, said) = run(&mut trial.paste(of("echo"), "publish"));
    assert_eq!(code, Some(0), "{said}");
    let secret = std::fs::read_to_string(directory.join("echo.secret")).unwrap();
    assert!(of("echo").contains(&format!("\nPUSHER_APP_SECRET={}\n", secret.trim())));
    assert_eq!(mode(&directory.join("echo.secret")), 0o600);
    let metrics = printed.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let shows = |metric: &str| {
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        crate::harness::http(metrics.parse().unwrap(), request).1.contains(metric)
    };
    eventually("one follower is left", || shows("fanfare_sessions{dialect=\"personium-event\"} 1"));
    follow.kill().unwrap();
    follow.wait().unwrap();
    // A token of the command itself is as good.
    let mut token = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let (code, token, _) = run(trial.environment(token.args(["token", "--cell", "demo"])));
    assert!(code == Some(0) && token.trim().split('.').count() == 3);
    eventually("the follower is gone", || shows("fanfare_connections 0"));
}
