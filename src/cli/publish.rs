//! `fanfare publish`: hands events to a running daemon over its unix feed.
//!
//! Events come from the arguments (one) or from standard input (a line each). One loop waits on
//! standard input and on the socket together, so a daemon that slows us down, or answers while we
//! write, never stands against a publisher that does not listen. At the end an empty line asks for
//! the receipt, which tells how many sessions were reached, because a first line has asked for
//! that.
//!
//! Deliberately not here: whether an address or its JSON is good. The daemon alone decides that,
//! except that JSON over several lines has to be valid to become one.

mod progress;
mod reaching;

use self::progress::PublishProgress;
use self::reaching::connect;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, ErrorKind, IsTerminal, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use argh::{ArgsInfo, FromArgs};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::printable;
use super::{CliError, locate::Located, output::note};
use crate::feed::unix::TOO_MANY_PUBLISHERS;

/// Publish events to a running daemon over its unix socket: one from the arguments, or one per line
/// of standard input.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(
    subcommand,
    name = "publish",
    example = "{command_name} event/john.doe \
               '{{\"Type\":\"chat\",\"Object\":\"general\",\"Info\":\"Hello\"}}'\n\
               {command_name} < events.txt     # each line: ADDRESS JSON",
    note = "Exits 0 when the daemon accepted every event, 1 when it rejected one, 75 when it is \
            out of reach or never gave its receipt.",
    note = "Without --socket: $FANFARE_FEED_UNIX_PATH, else the development daemon's if it runs, \
            else that of the system service (/etc/fanfare/fanfare.toml).",
    note = "The manual: fanfare help feeds"
)]
pub struct Publish {
    /// the daemon's unix socket
    #[argh(option, arg_name = "path")]
    socket: Option<PathBuf>,

    /// the event's ADDRESS and its JSON; without them, lines of standard input
    #[argh(positional, arg_name = "ADDRESS JSON")]
    event: Vec<String>,
}

/// The first line.
const REACHED: &[u8] = b"reached\n";

/// The addresses of what is stored for later subscribers, so that none has to be there now.
const STORED: &[u8] = b"pulsar/persistent/";

/// Bytes read from standard input, or from the socket, at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// How many of the latest events' addresses are kept, to name one that is rejected. More events
/// than the kernel's two socket buffers hold cannot be under way: about 20,000 of the shortest at
/// Linux's default.
const RECENT_EVENTS_MAX: usize = 65_536;

/// Characters of an address that are kept and shown.
const ADDRESS_CHARS_MAX: usize = 120;

/// Characters of a reason that are shown.
const REASON_CHARS_MAX: usize = 500;

/// The longest answer that is awaited; a reason with a line of JSON in it would be far shorter.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// How long the daemon may be silent once everything was read from standard input. A feed is slowed
/// while shards lag, so this is longer than any lag that a healthy daemon has.
const SILENCE_S_MAX: u64 = 60;

impl Publish {
    /// Publishes and waits for the receipt.
    ///
    /// # Errors
    /// The arguments make no event, the daemon is out of reach, or it went away before the receipt.
    pub fn run(self) -> Result<ExitCode, CliError> {
        let named = self.socket.clone().or_else(socket_variable);
        let located = if named.is_none() { Some(Located::find()) } else { None };
        let path = named.unwrap_or_else(|| located.as_ref().map(Located::feed).unwrap_or_default());
        let mut lines = Lines::default();
        let mut out = REACHED.to_vec();
        let input = match self.event.as_slice() {
            [] => Some(standard_input()?),
            event => {
                lines.from_arguments = true;
                lines.feed(event_line(event)?.as_bytes(), &mut out);
                lines.finish(&mut out);
                None
            }
        };
        let from_stdin = input.is_some();
        // Before the connection, so that it stands above an error about it.
        if let Some(located) = &located {
            located.tell("--socket");
        }
        let socket = connect(&path).map_err(|error| match &located {
            Some(located) => located.about(&error, "--socket"),
            None => error,
        })?;
        let mut progress = PublishProgress::new(input.as_ref());
        let outcome = Exchange {
            socket,
            input,
            lines,
            out,
            replies: Vec::new(),
            is_old: false,
            turned_away: None,
        }
        .run(&mut progress);
        progress.finish();
        let receipt = outcome?;
        if from_stdin {
            note(&format!("accepted {}, rejected {}", receipt.accepted, receipt.rejected));
        }
        // What is stored waits for subscribers; all else is gone.
        if receipt.reached == Some(0) && receipt.accepted > receipt.stored {
            note(&format!(
                "fanfare: warning: accepted, but no session got {}: none that may see it follows \
                 what was addressed, or no [[listen]] speaks the dialect",
                if from_stdin { "any of it" } else { "it" }
            ));
        }
        Ok(if receipt.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The socket that the environment names.
fn socket_variable() -> Option<PathBuf> {
    std::env::var_os("FANFARE_FEED_UNIX_PATH").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The feed line of the two arguments. Line ends between the tokens of the JSON become spaces.
fn event_line(words: &[String]) -> Result<String, CliError> {
    let [address, json] = words else {
        return Err(CliError::usage(match words.len() {
            1 => "give ADDRESS and JSON as two arguments, or nothing to read lines from standard \
                 input"
                .into(),
            n => format!(
                "{n} arguments where ADDRESS and JSON were expected: put the JSON in single quotes"
            ),
        }));
    };
    if address.is_empty() || address.contains(char::is_whitespace) {
        return Err(CliError::usage(
            "the ADDRESS is one word such as event/john.doe; the JSON is a second argument",
        ));
    }
    // Between its tokens a line end is a blank; inside a string JSON does not allow one (RFC 8259,
    // section 7).
    if json.contains(['\n', '\r'])
        && let Err(error) = serde_json::from_str::<IgnoredAny>(json)
    {
        return Err(CliError::usage(format!(
            "the JSON over several lines is not valid: {error}; a line end inside a string is \
             spelled \\n (or \\r)"
        )));
    }
    let json = json.replace(['\n', '\r'], " ");
    if json.trim().is_empty() {
        return Err(CliError::usage("the JSON is empty; give an object such as '{}'"));
    }
    Ok(format!("{address} {json}\n"))
}

fn standard_input() -> Result<File, CliError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        note("reading events from the terminal: one `ADDRESS JSON` per line, Ctrl-D ends");
    }
    let fd = stdin.as_fd().try_clone_to_owned();
    let fd = fd.map_err(|error| CliError::new(format!("cannot read standard input: {error}")))?;
    Ok(File::from(fd))
}

/// What is sent, and where each event came from. Takes the bytes of standard input in pieces of any
/// size and gives the bytes of the feed: blank lines and leading blanks are dropped, because an
/// empty line is the feed's word for a receipt.
#[derive(Default)]
struct Lines {
    /// There is one event and it has no line in any file.
    from_arguments: bool,
    /// Line ends seen in the input.
    line_ends: u64,
    /// Events sent, the unfinished one included.
    sent: u64,
    /// Those of them that are to be stored.
    stored: u64,
    in_event: bool,
    in_address: bool,
    /// The latest events' line in the input and their address; the last is number `sent`.
    recent: VecDeque<(u64, Vec<u8>)>,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = bytes.first() {
            if !self.in_event {
                if first == b'\n' {
                    self.line_ends += 1;
                }
                // An empty line would ask for a receipt, and blanks are no address.
                if first.is_ascii_whitespace() {
                    bytes = &bytes[1..];
                    continue;
                }
                self.start_event();
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let part = &bytes[..end.map_or(bytes.len(), |end| end + 1)];
            self.note_address(part);
            out.extend_from_slice(part);
            if end.is_some() {
                self.line_ends += 1;
                self.in_event = false;
            }
            bytes = &bytes[part.len()..];
        }
    }

    /// Ends an unended last line and asks for the receipt.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let end: &[u8] = if std::mem::take(&mut self.in_event) { b"\n\n" } else { b"\n" };
        out.extend_from_slice(end);
    }

    fn start_event(&mut self) {
        (self.in_event, self.in_address) = (true, true);
        self.sent += 1;
        // The oldest can no longer be rejected: the daemon has read past it.
        if self.recent.len() == RECENT_EVENTS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((self.line_ends + 1, Vec::new()));
    }

    /// Keeps what belongs to the address; without a space after it, it was none and is forgotten.
    fn note_address(&mut self, part: &[u8]) {
        if !self.in_address {
            return;
        }
        let Some((_, address)) = self.recent.back_mut() else { return };
        let end = part.iter().position(|&byte| byte == b' ' || byte == b'\n');
        let room = (ADDRESS_CHARS_MAX * 4).saturating_sub(address.len());
        address.extend_from_slice(&part[..end.unwrap_or(part.len()).min(room)]);
        if let Some(end) = end {
            self.in_address = false;
            self.stored += u64::from(address.starts_with(STORED));
            if part[end] == b'\n' {
                address.clear();
            }
        }
    }

    /// Names the `number`th event of the connection, by its line and address in the input. The
    /// event itself may be confidential and is never shown; neither is a first word that looks
    /// like JSON.
    fn describe(&self, number: u64) -> String {
        let back = self.sent.checked_sub(number).and_then(|back| usize::try_from(back).ok());
        let found = back.and_then(|back| self.recent.iter().rev().nth(back));
        let Some((line, address)) = found else { return format!("event {number}") };
        let address = String::from_utf8_lossy(address);
        if address.is_empty() || address.contains(['{', '"', '[']) {
            format!("line {line} (no address)")
        } else if self.from_arguments {
            printable(&address, ADDRESS_CHARS_MAX)
        } else {
            format!("line {line} ({})", printable(&address, ADDRESS_CHARS_MAX))
        }
    }
}

/// One answer of the daemon.
#[derive(Deserialize, Debug, PartialEq)]
#[serde(untagged)]
enum FeedReply {
    Rejected { error: String, line: Option<u64> },
    Receipt(Receipt),
}

#[derive(Deserialize, Debug, PartialEq, Clone, Copy)]
struct Receipt {
    accepted: u64,
    rejected: u64,
    /// Sessions that got the events.
    reached: Option<u64>,
    /// Events among those that were sent that are stored, with subscribers or without.
    #[serde(skip)]
    stored: u64,
}

/// The conversation with the daemon, from the first byte to the receipt.
struct Exchange {
    socket: UnixStream,
    /// Standard input, until its end.
    input: Option<File>,
    lines: Lines,
    /// Bytes not yet written; at most one chunk's, because nothing is read while there are any.
    out: Vec<u8>,
    /// The beginning of an answer.
    replies: Vec<u8>,
    /// Whether the daemon has refused our first line.
    is_old: bool,
    /// Why the daemon takes nothing from us at all.
    turned_away: Option<String>,
}

impl Exchange {
    fn run(mut self, progress: &mut PublishProgress) -> Result<Receipt, CliError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut heard = Instant::now();
        loop {
            let (read_input, read_socket, write_socket) = self.wait(heard)?;
            if write_socket && self.write()? {
                heard = Instant::now();
            }
            if read_socket {
                heard = Instant::now();
                if let Some(receipt) = self.read_replies(&mut chunk, progress)? {
                    return self.check(receipt);
                }
            }
            if read_input {
                let read = self.read_input(&mut chunk)?;
                progress.advance(read, self.lines.sent);
                heard = Instant::now();
            }
        }
    }

    /// Waits until something can be done: (read standard input, read the socket, write to it).
    fn wait(&self, heard: Instant) -> Result<(bool, bool, bool), CliError> {
        let wanted =
            if self.out.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        // Nothing more is read while the daemon takes nothing, so that memory does not grow with
        // the input.
        let input = self.input.as_ref().filter(|_| self.out.is_empty());
        let mut watched = vec![PollFd::new(&self.socket, wanted)];
        watched.extend(input.map(|input| PollFd::new(input, PollFlags::IN)));
        let limit = Timespec { tv_sec: SILENCE_S_MAX as i64, tv_nsec: 0 };
        // A person at a terminal may take as long as they like.
        let limit = Some(&limit).filter(|_| self.input.is_none());
        match poll(&mut watched, limit) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(CliError::new(format!("cannot wait for the socket: {error}")));
            }
        }
        if self.input.is_none() && heard.elapsed() >= Duration::from_secs(SILENCE_S_MAX) {
            return Err(CliError::try_again(format!(
                "no receipt: the daemon was silent for {SILENCE_S_MAX} s; is it stopped or \
                 overloaded? Events may have been lost"
            )));
        }
        let socket = watched[0].revents();
        let read_input = watched.get(1).is_some_and(|input| !input.revents().is_empty());
        let ended = PollFlags::HUP | PollFlags::ERR;
        Ok((read_input, socket.intersects(PollFlags::IN | ended), socket.contains(PollFlags::OUT)))
    }

    /// Writes what the socket takes; says whether it took any.
    fn write(&mut self) -> Result<bool, CliError> {
        match self.socket.write(&self.out) {
            Ok(written) => {
                self.out.drain(..written);
                Ok(written > 0)
            }
            Err(error) if again(&error) => Ok(false),
            // The daemon hung up. What it said before that is still to be read, and says why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.out.clear();
                self.input = None;
                Ok(true)
            }
            Err(error) => {
                Err(CliError::new(format!("cannot write to the daemon's socket: {error}")))
            }
        }
    }

    /// Reads a chunk of standard input, or its end; returns the bytes read.
    fn read_input(&mut self, chunk: &mut [u8]) -> Result<u64, CliError> {
        let Some(input) = &mut self.input else { return Ok(0) };
        match input.read(chunk) {
            Ok(0) => {
                self.input = None;
                self.lines.finish(&mut self.out);
                Ok(0)
            }
            Ok(read) => {
                self.lines.feed(&chunk[..read], &mut self.out);
                Ok(read as u64)
            }
            Err(error) if again(&error) => Ok(0),
            Err(error) => Err(CliError::new(format!("cannot read standard input: {error}"))),
        }
    }

    /// Takes what the daemon answered: prints rejections, returns the receipt.
    fn read_replies(
        &mut self,
        chunk: &mut [u8],
        progress: &PublishProgress,
    ) -> Result<Option<Receipt>, CliError> {
        let read = match self.socket.read(chunk) {
            Ok(0) => return Err(self.hung_up()),
            Ok(read) => read,
            Err(error) if again(&error) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(self.hung_up()),
            Err(error) => {
                return Err(CliError::new(format!("cannot read the daemon's socket: {error}")));
            }
        };
        let mut receipt = None;
        for part in chunk[..read].split_inclusive(|&byte| byte == b'\n') {
            self.replies.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let reply = serde_json::from_slice(&self.replies).map_err(|_| not_a_feed())?;
                self.replies.clear();
                match reply {
                    FeedReply::Receipt(counts) => {
                        receipt = Some(Receipt { stored: self.lines.stored, ..counts })
                    }
                    // A daemon from before an update, which still runs.
                    FeedReply::Rejected { line: Some(1), .. } => self.is_old = true,
                    FeedReply::Rejected { error, line: None } => self.turned_away = Some(error),
                    FeedReply::Rejected { error, line: Some(line) } => {
                        // Ours was one more.
                        progress.print(&self.rejection(&error, line.saturating_sub(1)));
                    }
                }
            } else if self.replies.len() > REPLY_BYTES_MAX {
                // Something else listens there, and may talk without end.
                return Err(not_a_feed());
            }
        }
        Ok(receipt)
    }

    fn rejection(&self, reason: &str, number: u64) -> String {
        let reason = printable(reason, REASON_CHARS_MAX);
        let program = if self.lines.from_arguments { "fanfare: " } else { "" };
        format!("{program}{}: {reason}", self.lines.describe(number))
    }

    /// A receipt counts every event of the connection; fewer means that some were lost on the way.
    fn check(&self, mut receipt: Receipt) -> Result<Receipt, CliError> {
        receipt.rejected = receipt.rejected.saturating_sub(u64::from(self.is_old));
        let counted = receipt.accepted.saturating_add(receipt.rejected);
        if counted == self.lines.sent {
            return Ok(receipt);
        }
        Err(CliError::new(format!(
            "the daemon's receipt counts {counted} events (accepted {}, rejected {}), but {} were \
             sent",
            receipt.accepted, receipt.rejected, self.lines.sent
        )))
    }

    fn hung_up(&self) -> CliError {
        match &self.turned_away {
            Some(reason) if reason == TOO_MANY_PUBLISHERS => {
                CliError::try_again(format!("the daemon took nothing: {reason}"))
            }
            Some(reason) => CliError::new(format!(
                "the daemon took nothing: {}",
                printable(reason, REASON_CHARS_MAX)
            )),
            None => CliError::try_again(format!(
                "no receipt: the daemon closed the connection; how many of the {} events it took \
                 is unknown. Did it stop (see its log)?",
                self.lines.sent
            )),
        }
    }
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn not_a_feed() -> CliError {
    CliError::new(
        "what answered is not fanfare's unix feed; check --socket against [feed.unix] path",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pieces: &[&str]) -> (Lines, String) {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        pieces.iter().for_each(|piece| lines.feed(piece.as_bytes(), &mut out));
        lines.finish(&mut out);
        (lines, String::from_utf8(out).unwrap())
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.into()).collect()
    }

    #[test]
    fn lines_pass_as_they_are_and_the_last_asks_for_the_receipt() {
        assert_eq!(sent(&["a {}\nb {}\n"]).1, "a {}\nb {}\n\n");
        assert_eq!(sent(&["a {}\nb {\"x\": 1} "]).1, "a {}\nb {\"x\": 1} \n\n");
        assert_eq!(sent(&[]).1, "\n");
    }

    #[test]
    fn blank_lines_are_not_sent_but_counted() {
        let (lines, out) = sent(&["\n  \r\na {}\r\n\n\t b {}"]);
        assert_eq!(out, "a {}\r\nb {}\n\n");
        assert_eq!(lines.sent, 2);
        assert_eq!(lines.describe(1), "line 3 (a)");
        assert_eq!(lines.describe(2), "line 5 (b)");
    }

    #[test]
    fn how_the_input_is_cut_into_pieces_does_not_matter() {
        let text = "event/a {\"n\":1}\n\n  event/b {}\nnone\nevent/c {}";
        let (whole, bytes) = sent(&[text]);
        let pieces: Vec<String> = text.chars().map(String::from).collect();
        let (cut, cut_bytes) = sent(&pieces.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(bytes, cut_bytes);
        assert_eq!(whole.recent, cut.recent);
        assert_eq!(cut.describe(2), "line 3 (event/b)");
    }

    #[test]
    fn a_rejected_line_is_named_without_its_content() {
        let (lines, _) = sent(&["{\"password\": 1}\nhunter2\nevent/\u{1b}x {}\n"]);
        assert_eq!(lines.describe(1), "line 1 (no address)");
        assert_eq!(lines.describe(2), "line 2 (no address)");
        assert_eq!(lines.describe(3), "line 3 (event/\\u{1b}x)");
        assert_eq!(lines.describe(4), "event 4");
        assert_eq!(lines.describe(0), "event 0");
    }

    #[test]
    fn what_is_stored_is_told_from_what_needs_a_subscriber_now() {
        let (lines, _) = sent(&[
            "pulsar/persistent/a/b/c {}\npulsar/non-persistent/a/b/c {}\nevent/x {}\npulsar/persis",
        ]);
        assert_eq!((lines.sent, lines.stored), (4, 1));
    }

    #[test]
    fn only_the_latest_addresses_are_kept() {
        let (lines, _) = sent(&[&"e {}\n".repeat(RECENT_EVENTS_MAX + 1)]);
        assert_eq!(lines.recent.len(), RECENT_EVENTS_MAX);
        assert_eq!(lines.describe(1), "event 1");
        assert_eq!(lines.describe(2), "line 2 (e)");
        let (lines, _) = sent(&[&"long".repeat(1 << 16), " {}"]);
        assert!(lines.recent[0].1.len() <= ADDRESS_CHARS_MAX * 4);
    }

    #[test]
    fn json_over_several_lines_becomes_one_without_changing_a_string() {
        let line =
            event_line(&words(&["event/a", "{\r\n  \"a\": \"x\\\"y\\\\\",\n  \"b\": \"\\n\"\n}"]));
        assert_eq!(line.unwrap(), "event/a {    \"a\": \"x\\\"y\\\\\",   \"b\": \"\\n\" }\n");
        assert!(event_line(&words(&["event/a", "{\"a\":\"x\ny\"}"])).is_err());
        assert!(event_line(&words(&["event/a", "{\"a\":\"\\\\\",\n\"b\":1}"])).is_ok());
    }

    #[test]
    fn arguments_that_make_no_event_say_what_to_do() {
        let error = |list: &[&str]| event_line(&words(list)).unwrap_err().to_string();
        assert!(error(&["event/a {}"]).contains("two arguments"));
        assert!(error(&["event/a", "{a:", "1}"]).contains("single quotes"));
        assert!(error(&["event a", "{}"]).contains("one word"));
        assert!(error(&["", "{}"]).contains("one word"));
        assert!(error(&["event/a", " "]).contains("empty"));
    }

    #[test]
    fn answers_are_told_apart() {
        let reply = |text: &str| serde_json::from_str::<FeedReply>(text);
        let rejected = FeedReply::Rejected { error: "no".into(), line: Some(3) };
        assert_eq!(reply(r#"{"error":"no","line":3}"#).unwrap(), rejected);
        let receipt =
            FeedReply::Receipt(Receipt { accepted: 1, rejected: 2, reached: None, stored: 0 });
        assert_eq!(reply(r#"{"accepted":1,"rejected":2}"#).unwrap(), receipt);
        let FeedReply::Receipt(receipt) =
            reply(r#"{"accepted":1,"rejected":2,"reached":3}"#).unwrap()
        else {
            panic!("no receipt")
        };
        assert_eq!(receipt.reached, Some(3));
        assert!(reply("{}").is_err());
    }
}
