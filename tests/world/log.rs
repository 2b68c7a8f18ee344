//! A log that is not read: clients do not notice, what is lost is told, and nothing else is lost.

use crate::harness::{Client, Publisher, Setup, event, eventually, http};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStderr, Stdio};

const TOKEN: &str = "admin-token-0123456789abcdef";
/// Listeners of a configuration that is refused, for each of them, in one line of the log.
const LISTENERS: usize = 1000;
/// At least so long is that.
const LINE_BYTES: usize = LISTENERS * 50;

/// A daemon whose log is read when a test does so.
struct Unread {
    setup: Setup,
    child: Child,
    log: BufReader<ChildStderr>,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Unread {
    fn start() -> Self {
        let setup = Setup::new();
        // Not by the environment, which would be a part of the configuration that is refused.
        let file = setup.path("fanfare.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let with_token = format!("[admin]\ntoken = {TOKEN:?}\n");
        std::fs::write(file, text.replace("[admin]\n", &with_token)).unwrap();
        let mut command = setup.command();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let nowhere = ([0; 4], 0).into();
        let mut daemon = Self { setup, child, log, address: nowhere, admin: nowhere };
        let listening = daemon.read_until("\"listening on ").pop().unwrap();
        let listening: Value = serde_json::from_str(&listening).unwrap();
        let address = |name: &str| listening["fields"][name].as_str().unwrap().parse().unwrap();
        (daemon.address, daemon.admin) = (address("addresses"), address("admin"));
        daemon
    }

    /// Reads the log to a line with this text.
    fn read_until(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.contains(text)) {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "no {text}: {lines:?}");
            lines.push(line);
        }
        lines
    }

    fn page(&self, path: &str) -> (u16, String) {
        http(self.admin, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    fn dropped(&self) -> usize {
        let page = self.page("/metrics").1;
        let name = "fanfare_log_lines_dropped_total ";
        page.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
    }

    /// Has it say a long line.
    fn refuse_reload(&self) {
        let listener = |port| format!("[[listen]]\naddress = \"[::1]:{port}\"\ndialects = []\n");
        let listeners: String = (1..=LISTENERS).map(listener).collect();
        std::fs::write(self.setup.path("fanfare.toml"), listeners).unwrap();
        let request = format!(
            "POST /v1/reload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let (status, answer) = http(self.admin, request.as_bytes());
        assert!(status >= 400 && answer.len() > LINE_BYTES, "{status} {answer}");
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const REFUSED: &str = "not reloaded";
const TOLD: &str = "lines of the log were dropped while its reader was behind";

#[test]
fn clients_are_served_while_nobody_reads_the_log_and_what_was_dropped_is_told_then() {
    let mut daemon = Unread::start();
    let mut reloads = 0;
    // More than the pipe takes, and more than waits for it.
    while daemon.dropped() < 3 {
        daemon.refuse_reload();
        reloads += 1;
        assert!(reloads < 100, "the log takes everything");
    }

    // A shard has something to say too.
    let mut nonsense = Client::raw(daemon.address);
    nonsense.bytes(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(nonsense.answer(), 404);
    let mut client = Client::connect(daemon.address);
    client.follow();
    let mut publisher = Publisher::connect(&daemon.setup.path("events.sock"));
    publisher.send(event("served", "now"));
    assert!(client.text().contains("\"Info\":\"now\""));
    let (status, page) = daemon.page("/healthz");
    assert_eq!(status, 200, "{page}");

    let dropped = daemon.dropped();
    let lines = daemon.read_until(TOLD);
    let told: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(told["fields"]["dropped"], dropped, "{told}");
    let written = lines.iter().filter(|line| line.contains(REFUSED)).count();
    assert!(written < reloads && written + dropped >= reloads, "{written} {dropped} {reloads}");
    assert!(written * LINE_BYTES > 512 * 1024, "{written} of {reloads}");

    daemon.refuse_reload();
    assert!(daemon.read_until(REFUSED).len() <= 2);
    assert_eq!(daemon.dropped(), dropped);
}

#[test]
fn a_stop_waits_for_a_reader_of_its_last_lines() {
    let mut daemon = Unread::start();
    for _ in 0..5 {
        daemon.refuse_reload();
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.read_until(REFUSED).len(), 1);
    let lines = daemon.read_until("\"stopped\"");
    assert_eq!(lines.iter().filter(|line| line.contains(REFUSED)).count(), 4);
    let mut rest = String::new();
    assert_eq!(daemon.log.read_line(&mut rest).unwrap(), 0, "{rest}");
    eventually("it has ended", || daemon.child.try_wait().unwrap().is_some());
}

#[test]
fn a_start_that_fails_has_its_reason_behind_the_log() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let setup = Setup::new().set("listen.0.address", taken.local_addr().unwrap());
    let output = setup.command().stdin(Stdio::null()).output().unwrap();
    let lines = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].contains(" starts with "), "{lines:?}");
    assert!(lines.last().unwrap().starts_with("fanfare: "), "{lines:?}");
}
