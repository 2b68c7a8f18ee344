//! Operators who see events pass: over the API and with `fanfare tap`.

use crate::harness::{DEADLINE, Daemon, Echo, command, echo_setup, eventually};
use crate::v1::{TOKEN, every_dialect, followers};
use crate::v1_events::{event_for, publish};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

/// A reader of the events that pass.
struct Reader(BufReader<TcpStream>);

impl Reader {
    /// A reader whose tap is open.
    #[track_caller]
    fn open(daemon: &Daemon, address: &str) -> Self {
        let (status, reader) = Self::try_open(daemon, address);
        assert_eq!(status, "200");
        reader
    }

    fn try_open(daemon: &Daemon, address: &str) -> (String, Self) {
        let mut socket = TcpStream::connect(daemon.admin).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!(
            "GET /v1/tap?address={address} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \
             {TOKEN}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut reader = Self(BufReader::new(socket));
        let status = reader.line()[9..12].to_owned();
        while !reader.line().is_empty() {}
        (status, reader)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What is told next.
    fn next(&mut self) -> Value {
        loop {
            if let Some(data) = self.line().strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

#[test]
fn the_events_of_every_dialect_are_seen_passing_with_the_addresses_that_find_them() {
    let daemon = every_dialect();
    let all = followers(&daemon);
    let mut every = Reader::open(&daemon, "");
    for (dialect, _, _, topic, _) in &all {
        // The Object that is published is not the one that is asked for there.
        let topic = topic.trim_end_matches("/b");
        let encoded: String = form_urlencoded::byte_serialize(topic.as_bytes()).collect();
        let mut one = Reader::open(&daemon, &encoded);
        let mut other = Reader::open(&daemon, &format!("{encoded}x"));
        let (address, event) = event_for(dialect);
        assert_eq!(publish(&daemon, address, "application/json", &event.to_string()).0, 200);

        let seen = one.next();
        assert_eq!(every.next(), seen);
        assert_eq!(seen["address"], topic, "{seen}");
        let sign = if *dialect == "pulsar" { "aGVsbG8=" } else { "hello" };
        assert!(seen["event"].is_object() && seen["event"].to_string().contains(sign), "{seen}");
        assert!(seen["at_ms"].as_u64().unwrap() > 1_500_000_000_000, "{seen}");

        // The next event is the first that the other reader sees.
        if *dialect == "personium-event" {
            let event = json!({ "Type": "chat", "Object": "https://x/ax", "Info": "" });
            assert_eq!(publish(&daemon, address, "application/json", &event.to_string()).0, 200);
            assert_eq!(other.next()["address"], format!("{topic}x"));
            assert_eq!(every.next()["address"], format!("{topic}x"));
        }
    }
}

#[test]
fn readers_are_few_and_a_slow_one_is_told_how_much_it_has_missed_and_holds_up_nothing() {
    let daemon = echo_setup().set("admin.token", TOKEN).start();
    let mut echo = Echo::connect(&daemon);
    echo.join("room", None);
    let mut readers: Vec<Reader> = (0..8).map(|_| Reader::open(&daemon, "echo/7")).collect();
    assert_eq!(Reader::try_open(&daemon, "echo/7").0, "503");

    // More than sockets and queue hold of events that are larger than any buffer.
    let event = |number: u64| json!({ "name": "e", "channels": ["room"], "data": { "n": number, "x": "x".repeat(9000) } });
    let mut slow = readers.pop().unwrap();
    drop(readers);
    let sent = 3000;
    for from in (0..sent).step_by(100) {
        let lines: String =
            (from..from + 100).map(|number| format!("{}\n", event(number))).collect();
        let (status, told) = publish(&daemon, "echo/7", "application/x-ndjson", &lines);
        assert_eq!((status, &told["accepted"]), (200, &json!(100)), "{told}");
    }
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < sent {
        let told = slow.next();
        if let Some(count) = told["missed"].as_u64() {
            missed += count;
            continue;
        }
        // In order, and nothing is left out without a word.
        let data: Value = serde_json::from_str(told["event"]["data"].as_str().unwrap()).unwrap();
        assert_eq!(data["n"], seen + missed);
        seen += 1;
    }
    assert!(missed > 0 && seen > 0, "{seen} {missed}");

    // The others have gone, and their places are free.
    eventually("a reader is let in", || Reader::try_open(&daemon, "echo/7").0 == "200");
}

#[test]
fn the_command_shows_what_passes_and_says_where_else_to_look() {
    let daemon = echo_setup().set("admin.token", TOKEN).start();
    let mut echo = Echo::connect(&daemon);
    echo.join("room", None);
    let file = daemon.path("admin.token");
    std::fs::write(&file, TOKEN).unwrap();
    let admin = daemon.admin.to_string();
    let at = ["--admin", &admin, "--token-file", file.to_str().unwrap()];
    let run =
        |words: &[&str]| command(&[words, &at].concat()).stdin(Stdio::null()).output().unwrap();

    let event = json!({ "name": "e", "channels": ["room"], "data": "hello" }).to_string();
    for (words, sign) in [
        (&["tap", "echo/7/room", "--count", "2"][..], "  echo/7/room  {\"event\":\"e\""),
        (&["tap", "--count", "2", "--json"], "\"address\":\"echo/7/room\",\"bytes\":"),
    ] {
        let mut tap = command(&[words, &at].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(tap.stdout.take().unwrap()).lines();
        // Until it is there.
        let mut ended = None;
        eventually("two events were seen", || {
            publish(&daemon, "echo/7", "application/json", &event);
            ended = tap.try_wait().unwrap();
            ended.is_some()
        });
        assert!(ended.unwrap().success());
        let lines: Vec<String> = lines.map(Result::unwrap).collect();
        assert!(lines.len() == 2 && lines.iter().all(|line| line.contains(sign)), "{lines:?}");
    }

    for (words, said) in [
        (&["tap", "pulsar/persistent/t/n/x"][..], "fanfare topics peek"),
        (&["tap", "eco"], "begins with one of event"),
        (&["tap", "--count", "0"], "would show nothing"),
    ] {
        let output = run(words);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(said), "{words:?}: {error}");
    }
}
