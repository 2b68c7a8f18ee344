//! What a quiet day logs, and that logcheck leaves it out: the patterns of `systemd/fanfare.logcheck`, by grep as
//! logcheck uses them.

use crate::harness::{Client, Daemon, Setup, eventually, http};
use fanfare::reason::{Reason, Volume};
use rustix::process::Signal;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const PATTERNS: &str = include_str!("../../systemd/fanfare.logcheck");

/// The lines of a log as syslog has them, each with its level.
fn lines(daemon: &Daemon) -> Vec<(String, String)> {
    let entries = daemon.log().into_iter();
    entries
        .map(|line| {
            let line: Value = serde_json::from_str(&line).unwrap();
            let message = line["fields"]["message"].as_str().unwrap();
            let shown = format!("Nov 30 14:27:05 web-1 fanfare[4711]: {message}");
            (line["level"].as_str().unwrap().to_owned(), shown)
        })
        .collect()
}

/// Those of the lines that logcheck would report.
fn reported<'a>(setup: &Path, lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let patterns: Vec<&str> = PATTERNS.lines().filter(|line| !line.starts_with('#')).collect();
    let file = setup.with_file_name("patterns");
    std::fs::write(&file, patterns.join("\n")).unwrap();
    let mut grep = Command::new("grep");
    grep.args(["--extended-regexp", "--invert-match", "--file"]).arg(file);
    let mut grep = grep.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let text: Vec<&str> = lines.collect();
    grep.stdin.take().unwrap().write_all(text.join("\n").as_bytes()).unwrap();
    let output = grep.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Of what is logged, the warnings and errors are reported, and nothing else.
#[track_caller]
pub(crate) fn assert_reported(daemon: &Daemon) {
    let lines = lines(daemon);
    let (plain, loud): (Vec<_>, Vec<_>) = lines.iter().partition(|(level, _)| level == "INFO");
    let file = daemon.path("fanfare.toml");
    let of = |lines: &[&(String, String)]| -> Vec<String> {
        reported(&file, lines.iter().map(|(_, line)| line.as_str()))
    };
    assert_eq!(of(&plain), Vec::<String>::new());
    let loud_lines: Vec<String> = loud.iter().map(|(_, line)| line.clone()).collect();
    assert_eq!(of(&loud), loud_lines);
}

#[test]
fn clients_that_come_and_go_leave_no_line_and_a_quiet_day_is_left_out_by_logcheck() {
    let setup = Setup::new();
    let store = setup.path("store").display().to_string();
    let setup = setup
        .set("listen.0.dialects", r#"["personium-event", "pulsar"]"#)
        .set("pulsar.anonymous", true)
        .set("store.path", store)
        .set("admin.token", "0123456789abcdef0123456789abcdef");
    let mut daemon = setup.start();
    let started = daemon.log().len();
    daemon.assert_works();
    drop(Client::upgraded(daemon.address, "/ws/v2/producer/persistent/t/n/orders"));
    assert_eq!(daemon.log().len(), started, "{:?}", daemon.log());

    // What the world does to a port.
    for request in ["GET /none HTTP/1.1\r\nHost: x\r\n\r\n", "nonsense\r\n\r\n"] {
        http(daemon.address, request.as_bytes());
    }
    let mut stranger = Client::connect(daemon.address);
    stranger.show("no.token.atall");
    eventually("all are logged", || daemon.logged("refused: ").len() >= 2);
    eventually("the end is logged", || !daemon.logged("token_invalid").is_empty());
    let kick = format!(
        "POST /v1/kick?dialect=personium-event HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Length: 0\r\n\r\n",
        "0123456789abcdef0123456789abcdef"
    );
    let follower = daemon.subscriber();
    assert_eq!(http(daemon.admin, kick.as_bytes()).0, 200);
    eventually("it is logged", || !daemon.logged("kicked").is_empty());
    drop(follower);
    daemon.signal(Signal::HUP);
    eventually("the reload is logged", || !daemon.logged("reloaded: ").is_empty());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(!daemon.logged("the store ").is_empty() && !daemon.logged("\"stopped\"").is_empty());
    assert_reported(&daemon);
}

#[test]
fn what_an_operator_may_have_to_mend_is_reported() {
    let setup = Setup::new().set("feed.redis.url", "redis://127.0.0.1:1");
    let mut daemon = setup.set("feed.amqp.url", "amqp://127.0.0.1:1").start();
    let mut client = Client::raw(daemon.address);
    client.bytes(&[0x16, 3, 1, 2, 0, 1]);
    eventually("it is told apart", || !daemon.logged("tls_unexpected").is_empty());
    for broker in ["from Redis", "from RabbitMQ"] {
        eventually("it is away", || !daemon.logged(broker).is_empty());
    }
    let file = daemon.path("fanfare.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("drain_s", "drian_s")).unwrap();
    daemon.signal(Signal::HUP);
    eventually("the reload is refused", || !daemon.logged("not reloaded").is_empty());
    assert!(Client::try_connect(daemon.address).is_ok());
    daemon.signal(Signal::TERM);
    daemon.wait();
    assert_reported(&daemon);
}

#[test]
fn the_reasons_that_are_left_out_are_those_that_are_no_warnings() {
    let plain = Reason::ALL.iter().filter(|reason| reason.volume() == Volume::Plain);
    let plain = format!("({})", plain.map(|reason| reason.name()).collect::<Vec<_>>().join("|"));
    assert_eq!(PATTERNS.lines().filter(|line| line.contains(&plain)).count(), 2, "{plain}");
}
