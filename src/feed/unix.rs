//! The unix feed's codec: one event per line, `<address> <json>\n`.
//!
//! A bad line is answered with its reason and number, and reading goes on with the next. An empty
//! line asks for a receipt, which is written after everything before it has been handed on. An
//! overlong line is skipped as it arrives, without being kept.
//!
//! The line `reached` asks for receipts that count the sessions reached by the events before them.
//! Such a receipt is owed until the shards have reported, and a turn ends with it.
//!
//! Whether a line to be stored is accepted is known only once the store has answered. Until then
//! all replies to later lines are held back, so that replies stay in the order of the lines and a
//! receipt counts what was stored.
//!
//! There is no socket here: bytes come in; publications, messages to store and reply bytes go out.

mod handover;

pub use self::handover::FrozenPublisher;

use super::{Intake, Taken};
use crate::frame::Publication;
use crate::service::topic::{MessageDraft, TopicName};
use crate::setting::LONGEST_MESSAGE_BYTES;
use crate::wheel::Now;
use schemars::JsonSchema;
use std::path::PathBuf;

/// The reply to a publisher over the limit; it may come again.
pub const TOO_MANY_PUBLISHERS: &str = "too many publishers (feed.unix.publishers_max)";

/// The socket that publishers write events to.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnixFeedSettings {
    /// The path of the socket; without it there is no socket.
    #[schemars(extend("x-sample" = "/run/fanfare/events.sock", "x-restart" = true))]
    pub path: Option<PathBuf>,
    /// The socket's permissions in octal. 0660 admits the daemon's user and the socket's group.
    pub mode: String,
    /// The socket's group, by name or number; by default the daemon's own, under systemd `fanfare`.
    #[schemars(example = &"fanfare")]
    pub group: Option<String>,
    /// User ids that may publish, among those that the mode admits: a publisher passes by this list
    /// or the next. If both are empty, every publisher that the mode admits may publish.
    pub allow_uids: Vec<u32>,
    /// Group ids that may publish. All groups of a publisher count where /proc shows them; see
    /// ProtectProc= in fanfare.service.
    pub allow_gids: Vec<u32>,
    /// Maximum bytes of a line. A longer one is rejected, and reading goes on with the next.
    #[schemars(range(min = 1, max = LONGEST_MESSAGE_BYTES))]
    pub line_bytes_max: usize,
    /// Maximum number of connected publishers, multiplied by the number of shards; they may all be
    /// on one shard. One more gets an error and is closed.
    #[schemars(range(min = 1))]
    pub publishers_max: usize,
}

impl Default for UnixFeedSettings {
    fn default() -> Self {
        Self {
            path: None,
            mode: "0660".into(),
            group: None,
            allow_uids: vec![],
            allow_gids: vec![],
            line_bytes_max: 1024 * 1024,
            publishers_max: 1024,
        }
    }
}

/// The number of a file mode written in octal, such as `0660`; `None` for other text.
#[must_use]
pub fn mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
}

/// Lines of one turn, however short they are: other publishers wait some hundreds of microseconds
/// at most.
const TURN_LINES_MAX: u64 = 512;
/// Lines of the first turn, so that publishers that reconnect for every batch get no more than
/// others.
const FIRST_LINES_MAX: u64 = 16;
/// Lines without an event that a turn may always have: a receipt now and then, a mistake.
const IDLE_LINES_FEW: u64 = 8;

/// The line that asks for receipts with the number of sessions reached.
const REACHED: &[u8] = b"reached";

/// The reply to a line for which the store has no answer.
const UNKNOWN: &str = "the store has ended: whether this was stored is unknown";

/// The outcome of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnixCounts {
    /// Handed on.
    pub accepted: u64,
    /// Valid, and no listener speaks the dialect. Counted as accepted in receipts.
    pub no_listener: u64,
    /// Answered with an error.
    pub rejected: u64,
}

/// One publisher's connection.
#[derive(Default)]
pub struct Publisher {
    /// The start of an unfinished line.
    partial: Vec<u8>,
    /// Whether the rest of an overlong line is being skipped.
    skipping: bool,
    /// Lines of a later turn, from `unread_at` on; empty unless it has a whole line.
    unread: Vec<u8>,
    unread_at: usize,
    is_idle_talk: bool,
    /// Sessions reached by the events, as far as is known; `None` unless asked for.
    reached: Option<u64>,
    /// Whether the turn ends before its limit.
    ends_turn: bool,
    lines: u64,
    /// Of the lines whose outcome is known.
    total: UnixCounts,
    /// Replies from the first line on that the store has, in order.
    owed: Vec<Owed>,
    appends: Vec<(TopicName, MessageDraft)>,
}

/// A reply that waits for the outcome of the lines before it.
enum Owed {
    /// The reply to a line that the store refuses; there is none to a stored line.
    Append { line: u64 },
    /// Ready lines.
    Reply(Vec<u8>),
    /// A receipt: the totals known when it was asked for, and whether it counts the sessions
    /// reached.
    Receipt { total: UnixCounts, tells_reached: bool },
}

impl Publisher {
    /// Reads bytes for one turn: publications go to `publish` in order, replies are appended to
    /// `replies`. Lines beyond the turn's limit are kept and read when the next call has no bytes;
    /// see [`Publisher::has_more`]. Returns the outcome of these lines, as far as it is known:
    /// before more is read, the store has to get [`Publisher::take_appends`], and its answers go to
    /// [`Publisher::settle`].
    pub fn read(
        &mut self,
        bytes: &[u8],
        line_bytes_max: usize,
        intake: &mut Intake,
        now: Now,
        mut publish: impl FnMut(Publication),
        replies: &mut Vec<u8>,
    ) -> UnixCounts {
        let (before, first) = (self.total, self.lines);
        let held = std::mem::take(&mut self.unread);
        debug_assert!(held.is_empty() || bytes.is_empty(), "kept lines come first");
        let from = if held.is_empty() { bytes } else { &held[self.unread_at..] };

        let end = first + if first == 0 { FIRST_LINES_MAX } else { TURN_LINES_MAX };
        let mut rest = from;
        self.ends_turn = false;
        while self.lines < end
            && !self.ends_turn
            && let Some(length) = memchr::memchr(b'\n', rest)
        {
            let line = &rest[..length];
            rest = &rest[length + 1..];
            self.lines += 1;

            if std::mem::take(&mut self.skipping) {
                // The end of a line that was too long to keep; only now is its number known.
                self.reject(&overlong(line_bytes_max), replies);
            } else if self.partial.is_empty() {
                self.line(line, line_bytes_max, intake, now, &mut publish, replies);
            } else {
                // A line cut by the socket's reads: rare, and so is copied.
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole, line_bytes_max, intake, now, &mut publish, replies);
                // One long line must not cost an idle connection its memory.
                whole.clear();
                whole.shrink_to(64 * 1024);
                self.partial = whole;
            }
        }

        let counts = self.since(before);
        let events = counts.accepted + counts.no_listener + self.appends.len() as u64;
        // Receipts and mistakes cost turns too; the caller lets such a publisher wait.
        self.is_idle_talk =
            (self.lines - first).saturating_sub(events) > events.max(IDLE_LINES_FEW);

        if memchr::memchr(b'\n', rest).is_some() {
            // Bytes of the socket are copied once; what is kept from before stays where it is.
            self.unread_at = if held.is_empty() { 0 } else { held.len() - rest.len() };
            self.unread = if held.is_empty() { rest.to_vec() } else { held };
        } else if !self.skipping && self.partial.len() + rest.len() > line_bytes_max + 1 {
            // One byte more may be the carriage return of a line's end.
            self.partial = Vec::new();
            self.skipping = true;
        } else if !self.skipping {
            self.partial.extend_from_slice(rest);
        }
        counts
    }

    /// Whether the publisher wants to know how many sessions its events reach.
    #[must_use]
    pub fn wants_reached(&self) -> bool {
        self.reached.is_some()
    }

    /// Whether replies wait for the outcome of lines; [`Publisher::settle`] writes them.
    #[must_use]
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Sets the number of sessions reached by now.
    pub fn reach(&mut self, sessions: u64) {
        self.reached = self.reached.map(|_| sessions);
    }

    /// Whether there are lines for another turn.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether the last turn was mostly lines without an event: bad ones and requests for receipts.
    #[must_use]
    pub fn is_idle_talk(&self) -> bool {
        self.is_idle_talk
    }

    /// The messages to store since the last call, in order.
    pub fn take_appends(&mut self) -> Vec<(TopicName, MessageDraft)> {
        std::mem::take(&mut self.appends)
    }

    /// Takes the outcome of each message of the last [`Publisher::take_appends`], in order; one
    /// without a result was not stored. Writes the replies owed, and returns the outcome of these
    /// lines.
    pub fn settle(
        &mut self,
        results: Vec<Result<(), Box<str>>>,
        replies: &mut Vec<u8>,
    ) -> UnixCounts {
        let mut results = results.into_iter();
        let mut settled = UnixCounts::default();

        for owed in std::mem::take(&mut self.owed) {
            match owed {
                Owed::Append { line } => match results.next() {
                    Some(Ok(())) => settled.accepted += 1,
                    Some(Err(reason)) => {
                        settled.rejected += 1;
                        put_error(&reason, line, replies);
                    }
                    // The store thread ended in between: stored or not, the publisher has to know
                    // that it is unknown.
                    None => {
                        settled.rejected += 1;
                        put_error(UNKNOWN, line, replies);
                    }
                },
                Owed::Reply(lines) => replies.extend_from_slice(&lines),
                Owed::Receipt { total, tells_reached } => {
                    // What was stored since counts as well: the receipt is about all lines before
                    // it.
                    let accepted = total.accepted + total.no_listener + settled.accepted;
                    let reached = self.reached.filter(|_| tells_reached);
                    put_receipt(accepted, total.rejected + settled.rejected, reached, replies);
                }
            }
        }

        self.total.accepted += settled.accepted;
        self.total.rejected += settled.rejected;
        settled
    }

    /// The publisher has gone: its unfinished line is refused.
    pub fn end(&mut self, replies: &mut Vec<u8>) -> UnixCounts {
        let before = self.total;
        if self.skipping || !self.partial.is_empty() {
            self.lines += 1;
            self.reject(
                "the line has no end: the connection was closed in the middle of it",
                replies,
            );
            self.partial = Vec::new();
            self.skipping = false;
        }
        self.since(before)
    }

    fn since(&self, before: UnixCounts) -> UnixCounts {
        UnixCounts {
            accepted: self.total.accepted - before.accepted,
            no_listener: self.total.no_listener - before.no_listener,
            rejected: self.total.rejected - before.rejected,
        }
    }

    fn line(
        &mut self,
        line: &[u8],
        line_bytes_max: usize,
        intake: &mut Intake,
        now: Now,
        publish: &mut impl FnMut(Publication),
        replies: &mut Vec<u8>,
    ) {
        // Windows' line ends, and `nc -C`.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let total = self.total;
            // The shards report between turns, so a receipt that counts sessions cannot be of this
            // one.
            self.ends_turn = self.wants_reached();
            if self.owed.is_empty() && !self.wants_reached() {
                return put_receipt(
                    total.accepted + total.no_listener,
                    total.rejected,
                    None,
                    replies,
                );
            }

            let tells_reached = self.wants_reached();
            return self.owed.push(Owed::Receipt { total, tells_reached });
        }
        if line == REACHED {
            // Counting starts here, without the events before it.
            self.ends_turn = true;
            self.reached.get_or_insert(0);
            return;
        }
        if line.len() > line_bytes_max {
            return self.reject(&overlong(line_bytes_max), replies);
        }
        let space = memchr::memchr(b' ', line).unwrap_or(line.len());
        let (address, json) = (&line[..space], line.get(space + 1..).unwrap_or_default());
        let Ok(address) = std::str::from_utf8(address) else {
            return self.reject("the address is not UTF-8", replies);
        };
        match intake.take(address, json, now, publish) {
            Ok(Taken::Published) => self.total.accepted += 1,
            Ok(Taken::NoListener) => self.total.no_listener += 1,
            Ok(Taken::Append(topic, message)) => {
                self.owed.push(Owed::Append { line: self.lines });
                self.appends.push((topic, message));
            }
            Err(rejection) => self.reject(&rejection.to_string(), replies),
        }
    }

    fn reject(&mut self, reason: &str, replies: &mut Vec<u8>) {
        self.total.rejected += 1;
        // After everything owed, or replies would overtake those to earlier lines.
        match self.owed.last_mut() {
            None => put_error(reason, self.lines, replies),
            Some(Owed::Reply(lines)) => put_error(reason, self.lines, lines),
            Some(_) => {
                let mut lines = Vec::new();
                put_error(reason, self.lines, &mut lines);
                self.owed.push(Owed::Reply(lines));
            }
        }
    }
}

fn put_error(reason: &str, line: u64, replies: &mut Vec<u8>) {
    let reply = serde_json::json!({ "error": reason, "line": line });
    replies.extend_from_slice(reply.to_string().as_bytes());
    replies.push(b'\n');
}

fn put_receipt(accepted: u64, rejected: u64, reached: Option<u64>, replies: &mut Vec<u8>) {
    let reached = reached.map_or(String::new(), |reached| format!(",\"reached\":{reached}"));
    let receipt = format!("{{\"accepted\":{accepted},\"rejected\":{rejected}{reached}}}\n");
    replies.extend_from_slice(receipt.as_bytes());
}

fn overlong(line_bytes_max: usize) -> String {
    format!("the line is longer than {line_bytes_max} bytes (feed.unix.line_bytes_max)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Kind;

    const GOOD: &str = r#"event/c {"Type":"t","Object":"o","Info":"i"}"#;

    fn feed(publisher: &mut Publisher, bytes: &[u8]) -> (usize, String) {
        let mut intake =
            Intake::new(vec![Kind::named("personium-event").unwrap()], std::sync::Arc::default());
        let (mut published, mut replies) = (0, Vec::new());
        publisher.read(bytes, 1000, &mut intake, Now::default(), |_| published += 1, &mut replies);
        (published, String::from_utf8(replies).unwrap())
    }

    #[test]
    fn lines_are_published_in_order_and_an_empty_line_asks_for_a_receipt() {
        let mut publisher = Publisher::default();
        let (published, replies) =
            feed(&mut publisher, format!("{GOOD}\n{GOOD}\r\n\n{GOOD}\n").as_bytes());
        assert_eq!((published, replies.as_str()), (3, "{\"accepted\":2,\"rejected\":0}\n"));
        assert_eq!(feed(&mut publisher, b"\n").1, "{\"accepted\":3,\"rejected\":0}\n");
    }

    #[test]
    fn lines_may_come_byte_by_byte() {
        let mut publisher = Publisher::default();
        let mut published = 0;
        for byte in format!("{GOOD}\n{GOOD}\n").bytes() {
            published += feed(&mut publisher, &[byte]).0;
        }
        assert_eq!(published, 2);
    }

    #[test]
    fn the_longest_line_may_end_with_a_carriage_return_wherever_it_is_cut() {
        let head = r#"event/c {"Type":"t","Object":"o","Info":""#;
        let line = format!("{head}{}\"}}\r\n", "x".repeat(1000 - head.len() - 2));
        for cut in 1..line.len() {
            let mut publisher = Publisher::default();
            let (first, second) = line.as_bytes().split_at(cut);
            let replies = feed(&mut publisher, first).1 + &feed(&mut publisher, second).1;
            assert_eq!((publisher.total.accepted, replies.as_str()), (1, ""), "cut at {cut}");
        }
    }

    #[test]
    fn a_receipt_asked_for_before_sessions_are_to_be_told_does_not_tell_them() {
        let (mut publisher, mut replies) = (Publisher::default(), Vec::new());
        let mut intake =
            Intake::new(vec![Kind::named("pulsar").unwrap()], std::sync::Arc::default());
        let lines = b"pulsar/persistent/t/n/x {\"payload\":\"\"}\n\nreached\n";
        publisher.read(lines, 1000, &mut intake, Now::default(), |_| (), &mut replies);
        assert!(publisher.owes() && publisher.wants_reached());
        publisher.settle(vec![Ok(())], &mut replies);
        assert_eq!(String::from_utf8(replies).unwrap(), "{\"accepted\":1,\"rejected\":0}\n");
    }

    #[test]
    fn a_turn_has_a_limit_of_lines_and_the_others_are_read_in_the_next_ones() {
        let mut publisher = Publisher::default();
        let lines = format!("{GOOD}\n").repeat(3000) + &GOOD[..10];
        let mut turns = vec![feed(&mut publisher, lines.as_bytes()).0];
        while publisher.has_more() {
            turns.push(feed(&mut publisher, b"").0);
        }
        assert_eq!(turns, [16, 512, 512, 512, 512, 512, 424]);
        assert!(!publisher.is_idle_talk());
        assert_eq!(feed(&mut publisher, format!("{}\n\n", &GOOD[10..]).as_bytes()).0, 1);
        assert_eq!(feed(&mut publisher, b"\n").1, "{\"accepted\":3001,\"rejected\":0}\n");
    }

    #[test]
    fn a_turn_of_lines_that_come_to_nothing_is_told_from_one_with_events() {
        let mut publisher = Publisher::default();
        for (lines, idle) in [
            ("x\n".repeat(8), false),
            ("x\n".repeat(9), true),
            ("\n".repeat(9), true),
            (format!("{GOOD}\n\n").repeat(20), false),
            (format!("{GOOD}\n\nx\n").repeat(20), true),
            (format!("{GOOD}\nx\n").repeat(20), false),
        ] {
            feed(&mut publisher, lines.as_bytes());
            while publisher.has_more() {
                feed(&mut publisher, b"");
            }
            assert_eq!(publisher.is_idle_talk(), idle, "{lines}");
        }
    }

    #[test]
    fn a_bad_line_is_answered_by_number_and_the_next_is_read() {
        let mut publisher = Publisher::default();
        for (bad, reason) in [
            ("nonsense {}", "unknown address"),
            ("event {}", "malformed address"),
            ("event/a/b {}", "malformed address"),
            ("event/ {}", "malformed address"),
            ("event/c", "not valid JSON"),
            ("event/c  ", "not valid JSON"),
            ("event/c [1]", "not an object"),
            ("event/c {\"Type\":1,\"Object\":\"o\"}", "must be a string or null"),
            ("event/c {\"Type\":\"a\",\"Type\":\"b\",\"Object\":\"o\"}", "written twice"),
            ("topic/c {}", "malformed address"),
            ("channel/x {}", "malformed address"),
        ] {
            let before = publisher.lines;
            let (published, replies) = feed(&mut publisher, format!("{bad}\n{GOOD}\n").as_bytes());
            assert_eq!(published, 1, "{bad}");
            assert!(replies.contains(reason), "{bad}: {replies}");
            assert!(replies.contains(&format!("\"line\":{}", before + 1)), "{bad}: {replies}");
        }
        let (_, replies) = feed(&mut publisher, b"event/\xff {}\nevent/c {\"a\":\"\xff\"}\n");
        assert_eq!(replies.matches("UTF-8").count(), 2, "{replies}");
    }

    #[test]
    fn a_dialect_that_nobody_speaks_is_accepted_but_its_json_must_be_good() {
        let mut publisher = Publisher::default();
        let lines = "wazo {\"name\":\"x\"}\nchannel {}\ntopic/a/b/c {}\necho/app {}\npulsar/persistent/a/b/c {}\nwazo {\n\n";
        let (published, replies) = feed(&mut publisher, lines.as_bytes());
        assert_eq!(published, 0);
        assert!(replies.ends_with("{\"accepted\":5,\"rejected\":1}\n"), "{replies}");
    }

    #[test]
    fn a_receipt_that_tells_how_many_were_reached_waits_until_that_is_known() {
        let mut publisher = Publisher::default();
        let lines = format!("{GOOD}\n\nreached\n{GOOD}\nbad {{}}\n\n{GOOD}\n\n");
        let mut told = feed(&mut publisher, lines.as_bytes());
        assert_eq!(
            told,
            (1, "{\"accepted\":1,\"rejected\":0}\n".into()),
            "before it all is as ever"
        );
        assert!(publisher.wants_reached() && !publisher.owes() && publisher.has_more());
        told = feed(&mut publisher, b"");
        assert_eq!(told.0, 1);
        assert!(told.1.contains("\"line\":5") && publisher.owes(), "{}", told.1);
        publisher.reach(7);
        assert_eq!(
            settle(&mut publisher, vec![]).1,
            "{\"accepted\":2,\"rejected\":1,\"reached\":7}\n"
        );
        assert_eq!(feed(&mut publisher, b""), (1, String::new()));
        publisher.reach(9);
        assert_eq!(
            settle(&mut publisher, vec![]).1,
            "{\"accepted\":3,\"rejected\":1,\"reached\":9}\n"
        );
        assert!(!publisher.has_more());
    }

    /// Feeds bytes to a publisher while somebody speaks `pulsar`.
    fn feed_topics(publisher: &mut Publisher, bytes: &[u8]) -> (UnixCounts, String) {
        let spoken = vec![Kind::named("personium-event").unwrap(), Kind::named("pulsar").unwrap()];
        let (mut intake, mut replies) =
            (Intake::new(spoken, std::sync::Arc::default()), Vec::new());
        let counts = publisher.read(bytes, 1000, &mut intake, Now::default(), drop, &mut replies);
        (counts, String::from_utf8(replies).unwrap())
    }

    fn settle(
        publisher: &mut Publisher,
        results: Vec<Result<(), Box<str>>>,
    ) -> (UnixCounts, String) {
        let mut replies = Vec::new();
        let counts = publisher.settle(results, &mut replies);
        (counts, String::from_utf8(replies).unwrap())
    }

    #[test]
    fn replies_behind_a_line_that_is_to_be_stored_wait_for_the_store_and_keep_their_order() {
        const STORED: &str = r#"pulsar/persistent/t/n/x {"payload":"eA=="}"#;
        let mut publisher = Publisher::default();
        let lines = format!("{GOOD}\n\n{STORED}\nbad {{}}\n\n{STORED}\n{STORED}\n\nworse {{}}\n");
        let (counts, replies) = feed_topics(&mut publisher, lines.as_bytes());
        assert_eq!(
            replies, "{\"accepted\":1,\"rejected\":0}\n",
            "what came before it is answered at once"
        );
        assert_eq!(counts, UnixCounts { accepted: 1, no_listener: 0, rejected: 2 });
        let appends = publisher.take_appends();
        assert_eq!(appends.len(), 3);
        assert!(appends.iter().all(|(topic, _)| topic.as_str() == "persistent://t/n/x"));
        let (counts, replies) = settle(&mut publisher, vec![Ok(()), Err("full".into()), Ok(())]);
        assert_eq!(counts, UnixCounts { accepted: 2, no_listener: 0, rejected: 1 });
        let replies: Vec<&str> = replies.lines().collect();
        assert!(
            replies[0].contains("unknown address") && replies[0].ends_with("\"line\":4}"),
            "{replies:?}"
        );
        assert_eq!(replies[1], "{\"accepted\":2,\"rejected\":1}");
        assert_eq!(replies[2], "{\"error\":\"full\",\"line\":6}");
        assert_eq!(replies[3], "{\"accepted\":3,\"rejected\":2}");
        assert!(
            replies[4].contains("unknown address") && replies[4].ends_with("\"line\":9}"),
            "{replies:?}"
        );
        assert_eq!(replies.len(), 5);
        assert_eq!(feed_topics(&mut publisher, b"\n").1, "{\"accepted\":3,\"rejected\":3}\n");
    }

    #[test]
    fn lines_that_the_store_never_answers_for_are_rejected() {
        let mut publisher = Publisher::default();
        feed_topics(&mut publisher, b"pulsar/persistent/t/n/x {\"payload\":\"\"}\n\n");
        assert_eq!(publisher.take_appends().len(), 1);
        let (counts, replies) = settle(&mut publisher, vec![]);
        assert_eq!(counts, UnixCounts { accepted: 0, no_listener: 0, rejected: 1 });
        assert!(
            replies.contains("is unknown")
                && replies.ends_with("{\"accepted\":0,\"rejected\":1}\n")
        );
        assert!(publisher.take_appends().is_empty());
    }

    #[test]
    fn an_overlong_line_is_refused_without_being_kept() {
        let mut publisher = Publisher::default();
        let (_, replies) =
            feed(&mut publisher, format!("event/c {}\n", "x".repeat(2000)).as_bytes());
        assert!(replies.contains("longer than 1000 bytes"), "{replies}");
        for _ in 0..1000 {
            assert_eq!(feed(&mut publisher, &[b'x'; 700]).1, "");
            assert!(publisher.partial.len() <= 1000);
        }
        let (published, replies) = feed(&mut publisher, format!("end\n{GOOD}\n").as_bytes());
        assert_eq!(published, 1);
        assert!(
            replies.contains("longer than 1000 bytes") && replies.contains("\"line\":2"),
            "{replies}"
        );
    }

    #[test]
    fn a_publisher_that_leaves_in_the_middle_of_a_line_is_counted() {
        let mut publisher = Publisher::default();
        feed(&mut publisher, b"event/c {\"Ty");
        let mut replies = Vec::new();
        assert_eq!(publisher.end(&mut replies).rejected, 1);
        assert!(String::from_utf8(replies).unwrap().contains("no end"));
        assert_eq!(publisher.end(&mut Vec::new()), UnixCounts::default());
    }
}
