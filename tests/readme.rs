//! Runs what README.md, tuning.md and the pages of the manual show, and compares what it prints. Each is run by
//! itself.
//!
//! A fenced block that opens with `console` is a piece of a terminal's transcript: `$ ` starts a command, `> `
//! goes on with it, `^C` interrupts what runs, anything else is output. All blocks share one shell, except
//! those with `terminal:NAME`: each name is a shell of its own, whose last command is left running, and whose
//! output is waited for rather than compared whole. `needs:NAME` names a program or a Python module.
//!
//! The daemon gets free ports and a state directory of its own; in the commands and in the output they take
//! the places of those that the page names. `…` stands for any text within a line, and times and the seconds
//! of a new session are not compared.

use fanfare::manual::{ManualPage, PAGES};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const README: Document =
    Document { name: "README.md", folder: ".", text: include_str!("../README.md") };
const TUNING: Document =
    Document { name: "tuning.md", folder: ".", text: include_str!("../tuning.md") };
/// As many lines as a newcomer reads before the first command.
const README_LINES_MAX: usize = 200;
const PROGRAM: &str = env!("CARGO_BIN_EXE_fanfare");
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Far longer than anything here takes: what is waited for on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Printed by the shell after each command's output.
const MARK: &str = "-- end of command --";

/// A page for readers.
#[derive(Clone, Copy)]
struct Document {
    name: &'static str,
    /// Where its links start.
    folder: &'static str,
    text: &'static str,
}

impl Document {
    fn of(page: &ManualPage) -> Self {
        Self { name: page.name, folder: "src/manual", text: page.source }
    }

    fn page(name: &str) -> Self {
        Self::of(ManualPage::named(name).unwrap_or_else(|| panic!("there is no page {name}")))
    }

    fn all() -> Vec<Self> {
        [README, TUNING].into_iter().chain(PAGES.iter().map(Self::of)).collect()
    }
}

struct Block {
    line: usize,
    terminal: Option<&'static str>,
    needs: Option<&'static str>,
    steps: Vec<Step>,
}

#[derive(Default)]
struct Step {
    command: String,
    output: Vec<&'static str>,
}

fn fenced(document: Document, language: &str) -> Vec<(usize, &'static str, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut lines = document.text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let (name, attributes) = info.split_once(' ').unwrap_or((info, ""));
        if name == language {
            blocks.push((number + 1, attributes, body));
        }
    }
    blocks
}

fn blocks(document: Document) -> Vec<Block> {
    let block = |(line, attributes, body): (usize, &'static str, Vec<&'static str>)| {
        let attribute = |name: &str| {
            attributes.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix(':'))
        };
        let mut steps = vec![Step::default()];
        for text in body {
            let current = steps.last_mut().expect("there is at least one step");
            if let Some(command) = text.strip_prefix("$ ").or((text == "^C").then_some(text)) {
                steps.push(Step { command: command.into(), output: vec![] });
            } else if let Some(more) = text.strip_prefix("> ") {
                current.command += "\n";
                current.command += more;
            } else {
                current.output.push(text);
            }
        }
        steps.retain(|step| !step.command.is_empty() || !step.output.is_empty());
        Block { line, terminal: attribute("terminal"), needs: attribute("needs"), steps }
    };
    fenced(document, "console").into_iter().map(block).collect()
}

/// Ports that the daemons get. The system gives others to connections and to listeners that ask for any, and
/// the tests of the whole daemon take lower ones, so that few are taken between the choice and the start.
const PORTS: Range<usize> = 30_200..32_700;
/// Ports that a daemon needs.
const PORTS_EACH: usize = 4;

/// An address that no other page of this process gets, and none of the processes started beside it.
fn free_address() -> String {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let own = std::process::id() as usize * PORTS_EACH;
    let mut addresses = std::iter::repeat_with(|| own + GIVEN.fetch_add(1, Ordering::Relaxed))
        .take(PORTS.len())
        .map(|number| format!("127.0.0.1:{}", PORTS.start + number % PORTS.len()));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a port is free")
}

/// Where things are in this run, and what a page calls them.
struct Place {
    state: tempfile::TempDir,
    clients: String,
    wazo: String,
    over_tls: String,
    admin: String,
    path: String,
}

impl Place {
    fn new() -> Self {
        let [clients, wazo, over_tls, admin] = [(); PORTS_EACH].map(|()| free_address());
        let directory = Path::new(PROGRAM).parent().expect("a program is in a directory").display();
        let mut path = format!("{directory}:{}", std::env::var("PATH").expect("there is a PATH"));
        if !has_module("python3", "websocket") && has_module("/usr/bin/python3", "websocket") {
            path = format!("{directory}:/usr/bin:{path}");
        }
        Self {
            state: tempfile::tempdir().expect("there is room in /tmp"),
            clients,
            wazo,
            over_tls,
            admin,
            path,
        }
    }

    fn state(&self) -> String {
        self.state.path().display().to_string()
    }

    /// A command of a page as it is run here.
    fn command(&self, command: &str) -> String {
        let directory = Path::new(PROGRAM).parent().expect("a program is in a directory").display();
        command
            .replace("cargo run --release --", "fanfare")
            .replace("$PWD/target/release", &directory.to_string())
            .replace("$HOME/.local/state", &self.state())
            .replace("~/.local/state", &self.state())
            .replace("127.0.0.1:8080", &self.clients)
            .replace("127.0.0.1:9502", &self.wazo)
            .replace("127.0.0.1:8443", &self.over_tls)
            .replace("localhost:8443", &self.over_tls.replace("127.0.0.1", "localhost"))
            .replace("127.0.0.1:9500", &self.admin)
    }

    /// A line of output as a page shows it.
    fn output(&self, line: &str) -> String {
        let relative =
            PROGRAM.strip_prefix(HERE).map_or(PROGRAM, |path| path.trim_start_matches('/'));
        line.replace(&self.clients, "127.0.0.1:8080")
            .replace(&self.wazo, "127.0.0.1:9502")
            .replace(&self.over_tls, "127.0.0.1:8443")
            .replace(&self.admin, "127.0.0.1:9500")
            .replace(&self.state(), "/home/ann/.local/state")
            .replace(PROGRAM, "target/release/fanfare")
            .replace(relative, "target/release/fanfare")
            // Where io_uring is refused.
            .replace("driver=\"epoll\"", "driver=\"io_uring\"")
    }

    fn has(&self, name: &str) -> bool {
        let script = format!("command -v {name} || python3 -c 'import {name}'");
        let shell = Command::new("sh").args(["-c", &script]).env("PATH", &self.path).output();
        shell.is_ok_and(|output| output.status.success())
    }
}

fn has_module(python: &str, module: &str) -> bool {
    let output = Command::new(python).args(["-c", &format!("import {module}")]).output();
    output.is_ok_and(|output| output.status.success())
}

/// A shell that is fed commands, and what it prints.
struct Terminal {
    shell: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Terminal {
    fn open(place: &Place, is_daemon: bool) -> Self {
        let mut shell = Command::new("sh");
        shell.current_dir(HERE).env("PATH", &place.path).env("XDG_STATE_HOME", place.state.path());
        if is_daemon {
            shell
                .env("FANFARE_LISTEN_0_ADDRESS", &place.clients)
                .env("FANFARE_LISTEN_1_ADDRESS", &place.wazo);
            shell
                .env("FANFARE_LISTEN_2_ADDRESS", &place.over_tls)
                .env("FANFARE_ADMIN_ADDRESS", &place.admin);
        }
        let mut shell =
            shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a shell");
        let output = BufReader::new(shell.stdout.take().expect("it is piped"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        let mut terminal = Self { input: shell.stdin.take(), shell, lines, seen: vec![] };
        terminal.type_in("exec 2>&1");
        terminal
    }

    fn type_in(&mut self, text: &str) {
        let input =
            self.input.as_mut().expect("the shell has not been replaced by a command that stays");
        writeln!(input, "{text}").expect("the shell reads");
    }

    /// Runs a command to its end and returns what it printed.
    fn run(&mut self, command: &str) -> Vec<String> {
        self.type_in(&format!("{{ {command}\n}} </dev/null; printf '\\n%s\\n' '{MARK}'"));
        let mut output = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while let Some(line) = self.next(deadline) {
            if line == MARK {
                // The line end that was printed before the mark, unless the output lacked one.
                if output.last().is_some_and(String::is_empty) {
                    output.pop();
                }
                return output;
            }
            output.push(line);
        }
        panic!("`{command}` does not end; it has printed {output:#?}");
    }

    /// Starts a command that stays, in the place of the shell, so that the shell's number is the command's.
    fn start(&mut self, command: &str) {
        self.type_in(&format!("exec {command} </dev/null"));
        self.input = None;
    }

    fn interrupt(&self) {
        let process = rustix::process::Pid::from_child(&self.shell);
        rustix::process::kill_process(process, rustix::process::Signal::INT).expect("it runs");
    }

    fn next(&mut self, deadline: Instant) -> Option<String> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Waits until the expected line is printed.
    fn await_line(&mut self, expected: &str, place: &Place) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(line) = self.next(deadline) {
            if matches(expected, &place.output(&line)) {
                return;
            }
        }
        panic!("never printed: {expected}\nprinted: {:#?}", self.seen);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Whether a line is what a page shows.
fn matches(expected: &str, actual: &str) -> bool {
    let (expected, actual) = (without_times(expected), without_times(actual));
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = actual.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The line without its times: numbers of ten digits or more, and what is left of a new session's hour.
fn without_times(line: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for character in line.chars().chain(['\0']) {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        let is_left = digits.parse().is_ok_and(|seconds: u64| (3590..=3600).contains(&seconds));
        let is_time = digits.len() >= 10 || is_left;
        out += if is_time { "TIME" } else { &digits };
        digits.clear();
        out.push(character);
    }
    out.pop();
    out
}

#[test]
fn what_the_readme_shows_is_what_happens() {
    let count = blocks(README).len();
    assert!(count >= 8, "README.md has only {count} console blocks");
    perform(README);
}

#[test]
fn what_the_page_on_tuning_shows_of_fanfare_is_what_it_prints() {
    let count = blocks(TUNING).len();
    assert!(count >= 3, "tuning.md has only {count} console blocks");
    perform(TUNING);
}

/// A test for each page, so that they run side by side.
macro_rules! run {
    ($($test:ident: $name:literal;)+) => {
        const RUN: &[&str] = &[$($name),+];

        $(#[test]
        fn $test() {
            perform(Document::page($name));
        })+
    };
}

run! {
    the_page_on_commands_is_what_happens: "commands";
    the_page_on_feeds_is_what_happens: "feeds";
    the_page_on_personiums_event_bus_is_what_happens: "personium-event";
    the_page_on_personiums_topics_is_what_happens: "personium-topic";
    the_page_on_wazo_is_what_happens: "wazo";
    the_page_on_channels_is_what_happens: "channel";
    the_page_on_echo_is_what_happens: "echo";
    the_page_on_pulsar_is_what_happens: "pulsar";
    the_page_on_the_store_is_what_happens: "store";
    the_page_on_tokens_is_what_happens: "tokens";
    the_page_on_the_configuration_is_what_happens: "configuration";
    the_page_on_tls_is_what_happens: "tls";
    the_page_on_the_service_is_what_happens: "service";
    the_page_on_operators_is_what_happens: "admin";
}

#[test]
fn every_page_that_shows_a_terminal_is_run() {
    let shows = |page: &&ManualPage| !blocks(Document::of(page)).is_empty();
    let shown: Vec<&str> = PAGES.iter().filter(shows).map(|page| page.name).collect();
    assert_eq!(shown, RUN);
}

#[test]
fn the_readme_is_short_and_lists_every_page() {
    assert!(README.text.lines().count() <= README_LINES_MAX);
    let row = |page: &ManualPage| {
        format!("| [{}](src/manual/{}.md) | {} |\n", page.name, page.name, page.title())
    };
    let rows: String = PAGES.iter().map(row).collect();
    assert!(README.text.contains(&rows), "README.md, The manual:\n{rows}");
}

/// What needs a proxy, a sandbox or a slow network to be printed is looked up where it is written.
#[test]
fn what_the_page_on_tuning_quotes_is_in_the_source() {
    let mut source = String::new();
    for path in ["src/cli/serve.rs", "src/cli/subscribe.rs"] {
        let text = std::fs::read_to_string(Path::new(HERE).join(path)).expect("it is there");
        // Of a long literal the lines, and of what stands for a value a gap.
        let joined: Vec<&str> = text.split("\\\n").map(str::trim_start).collect();
        source += &joined.concat().replace("\\\"", "\"");
    }
    let quoted = TUNING
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("WARN ").or_else(|| line.strip_prefix("fanfare: ")));
    let mut count = 0;
    for line in quoted {
        count += 1;
        for part in line.split('…') {
            assert!(source.contains(part), "no command prints {part:?}");
        }
    }
    assert!(count >= 2, "tuning.md quotes nothing");
}

/// Runs the console blocks of a page, from the first to the last.
fn perform(document: Document) {
    use fanfare::cli::locate::{SERVICE_CONFIGURATION, SERVICE_SOCKET};
    if [SERVICE_CONFIGURATION, SERVICE_SOCKET].iter().any(|path| Path::new(path).exists()) {
        eprintln!("skipped: a fanfare service runs here, and the commands would publish to it");
        return;
    }
    let name = document.name;
    let place = Place::new();
    let blocks = blocks(document);
    for needed in blocks.iter().filter_map(|block| block.needs) {
        assert!(place.has(needed), "{name} needs {needed}: install it, as tests/run does");
    }
    let mut shell = Terminal::open(&place, false);
    let mut terminals: HashMap<&str, Terminal> = HashMap::new();
    for Block { line, terminal, steps, .. } in blocks {
        eprintln!("{name}:{line}");
        let Some(name) = terminal else {
            for step in steps {
                compare(&step, &shell.run(&place.command(&step.command)), &place);
            }
            continue;
        };
        let terminal =
            terminals.entry(name).or_insert_with(|| Terminal::open(&place, name == "daemon"));
        let last = steps.len() - 1;
        for (index, step) in steps.iter().enumerate() {
            match step.command.as_str() {
                "" => {}
                "^C" => terminal.interrupt(),
                command if index == last => terminal.start(&place.command(command)),
                command => compare(step, &terminal.run(&place.command(command)), &place),
            }
            if index == last {
                step.output.iter().for_each(|expected| terminal.await_line(expected, &place));
            }
        }
    }
}

fn compare(step: &Step, actual: &[String], place: &Place) {
    let actual: Vec<String> = actual.iter().map(|line| place.output(line)).collect();
    let same = step.output.len() == actual.len()
        && step.output.iter().zip(&actual).all(|(expected, actual)| matches(expected, actual));
    assert!(same, "$ {}\nexpected {:#?}\nprinted {actual:#?}", step.command, step.output);
}

#[test]
fn every_configuration_that_is_shown_can_run() {
    let mut count = 0;
    for document in Document::all() {
        for (line, _, body) in fenced(document, "toml") {
            let name = document.name;
            count += 1;
            let config = fanfare::config::Config::read(&body.join("\n"), std::iter::empty());
            let config = config.unwrap_or_else(|error| panic!("{name}:{line}: {error:?}"));
            assert_eq!(config.problems(), Vec::<String>::new(), "{name}:{line}");
        }
    }
    assert!(count >= 10, "only {count} configurations are shown");
}

/// How forges name a heading in links.
fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    words.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn the_files_that_the_documents_name_exist() {
    for Document { name, folder, text } in Document::all() {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let definitions =
            text.lines().filter_map(|line| Some(line.strip_prefix('[')?.split_once("]: ")?.1));
        for link in links.chain(definitions) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") || path.is_empty() {
                continue;
            }
            let text = std::fs::read_to_string(Path::new(HERE).join(folder).join(path));
            let text = text.unwrap_or_else(|error| panic!("{name}: {path}: {error}"));
            let is_there = anchor.is_empty() || text.lines().any(|line| anchor == slug(line));
            assert!(is_there, "{name}: {path} has no heading for #{anchor}");
        }
    }
}

#[test]
fn a_line_is_compared_with_its_gaps() {
    assert!(matches("…  INFO x, …!", "2026-01-01T00:00:00.5Z  INFO x, y z!"));
    assert!(matches("{\"timestamp\":1518612600}", "{\"timestamp\":1795249993}"));
    assert!(matches("{\"expires_in\":3600}", "{\"expires_in\":3599}"));
    assert!(!matches("code 1001", "code 1000"));
    assert!(!matches("36 sessions", "35999 sessions"));
    assert!(!matches("a…b", "ac"));
    assert!(!matches("a", "ab"));
}
