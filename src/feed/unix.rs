//! The unix feed's codec: one event per line, `<address> <json>\n`.
//!
//! A bad line is answered with its reason and number and the next is read as usual. An empty line asks for a
//! receipt, which is written after everything before it has been handed on. A line that is longer than
//! allowed is skipped as it comes, without being kept.
//!
//! This file does not know the socket: bytes come in, publications and reply bytes go out.

use super::Intake;
use crate::frame::Publication;
use crate::wheel::Now;
use std::path::PathBuf;

/// The table `[feed.unix]` of the configuration.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the socket is made; no feed without it.
    pub path: Option<PathBuf>,
    /// Its permissions, octal.
    pub mode: String,
    /// The group that owns it, by name or number.
    pub group: Option<String>,
    /// The user numbers that may publish; everyone whom the mode lets in when empty.
    pub allow_uids: Vec<u32>,
    /// The group numbers that may publish; a peer passes by user or by group.
    pub allow_gids: Vec<u32>,
    /// Longest line, in bytes.
    pub line_bytes_max: usize,
    /// Publishers connected to one shard at once.
    pub publishers_max: usize,
}

impl Default for Settings {
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

/// The number of a file mode written in octal, such as `0660`; `None` when it is none.
#[must_use]
pub fn mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
}

/// What reading found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handed on.
    pub accepted: u64,
    /// Good, but nobody speaks the dialect. Counted as accepted in receipts.
    pub unspoken: u64,
    /// Answered with an error.
    pub rejected: u64,
}

/// One publisher's connection.
#[derive(Default)]
pub struct Publisher {
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    /// Whether the rest of an overlong line is being skipped.
    skipping: bool,
    lines: u64,
    total: Counts,
}

impl Publisher {
    /// Reads what has come: publications go to `publish` in order, replies are appended to `replies`.
    /// Returns what these bytes held.
    pub fn read(
        &mut self,
        bytes: &[u8],
        line_bytes_max: usize,
        intake: &mut Intake,
        now: Now,
        mut publish: impl FnMut(Publication),
        replies: &mut Vec<u8>,
    ) -> Counts {
        let before = self.total;
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            self.lines += 1;
            if std::mem::take(&mut self.skipping) {
                self.reject(&overlong(line_bytes_max), replies);
            } else if self.partial.is_empty() {
                self.line(line, line_bytes_max, intake, now, &mut publish, replies);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole, line_bytes_max, intake, now, &mut publish, replies);
                whole.clear();
                whole.shrink_to(64 * 1024);
                self.partial = whole;
            }
        }
        if !self.skipping && self.partial.len() + rest.len() > line_bytes_max {
            self.partial = Vec::new();
            self.skipping = true;
        } else if !self.skipping {
            self.partial.extend_from_slice(rest);
        }
        self.since(before)
    }

    /// The publisher has gone: a line that it did not finish is refused.
    pub fn end(&mut self, replies: &mut Vec<u8>) -> Counts {
        let before = self.total;
        if self.skipping || !self.partial.is_empty() {
            self.lines += 1;
            self.reject("the line has no end: the connection was closed in the middle of it", replies);
            self.partial = Vec::new();
            self.skipping = false;
        }
        self.since(before)
    }

    fn since(&self, before: Counts) -> Counts {
        Counts {
            accepted: self.total.accepted - before.accepted,
            unspoken: self.total.unspoken - before.unspoken,
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
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let Counts { accepted, unspoken, rejected } = self.total;
            let receipt = format!("{{\"accepted\":{},\"rejected\":{rejected}}}\n", accepted + unspoken);
            return replies.extend_from_slice(receipt.as_bytes());
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
            Ok(true) => self.total.accepted += 1,
            Ok(false) => self.total.unspoken += 1,
            Err(rejection) => self.reject(&rejection.to_string(), replies),
        }
    }

    fn reject(&mut self, reason: &str, replies: &mut Vec<u8>) {
        self.total.rejected += 1;
        let reply = serde_json::json!({ "error": reason, "line": self.lines });
        replies.extend_from_slice(reply.to_string().as_bytes());
        replies.push(b'\n');
    }
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
        let mut intake = Intake::new(vec![Kind::PersoniumEvent], std::sync::Arc::default());
        let (mut published, mut replies) = (0, Vec::new());
        publisher.read(bytes, 1000, &mut intake, Now::default(), |_| published += 1, &mut replies);
        (published, String::from_utf8(replies).unwrap())
    }

    #[test]
    fn lines_are_published_in_order_and_an_empty_line_asks_for_a_receipt() {
        let mut publisher = Publisher::default();
        let (published, replies) = feed(&mut publisher, format!("{GOOD}\n{GOOD}\r\n\n{GOOD}\n").as_bytes());
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
    fn an_overlong_line_is_refused_without_being_kept() {
        let mut publisher = Publisher::default();
        let (_, replies) = feed(&mut publisher, format!("event/c {}\n", "x".repeat(2000)).as_bytes());
        assert!(replies.contains("longer than 1000 bytes"), "{replies}");
        for _ in 0..1000 {
            assert_eq!(feed(&mut publisher, &[b'x'; 700]).1, "");
            assert!(publisher.partial.len() <= 1000);
        }
        let (published, replies) = feed(&mut publisher, format!("end\n{GOOD}\n").as_bytes());
        assert_eq!(published, 1);
        assert!(replies.contains("longer than 1000 bytes") && replies.contains("\"line\":2"), "{replies}");
    }

    #[test]
    fn a_publisher_that_leaves_in_the_middle_of_a_line_is_counted() {
        let mut publisher = Publisher::default();
        feed(&mut publisher, b"event/c {\"Ty");
        let mut replies = Vec::new();
        assert_eq!(publisher.end(&mut replies).rejected, 1);
        assert!(String::from_utf8(replies).unwrap().contains("no end"));
        assert_eq!(publisher.end(&mut Vec::new()), Counts::default());
    }
}
