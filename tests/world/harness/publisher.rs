//! A publisher on the unix feed.

use super::DEADLINE;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A feed line for the cell of the tests, its line end included.
pub(crate) fn event(object: &str, info: &str) -> String {
    format!("event/demo {{\"Type\":\"chat\",\"Object\":\"{object}\",\"Info\":\"{info}\"}}\n")
}

pub(crate) struct Publisher {
    stream: UnixStream,
    replies: BufReader<UnixStream>,
}

impl Publisher {
    /// Connects.
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let replies = BufReader::new(stream.try_clone().unwrap());
        Self { stream, replies }
    }

    /// Writes lines, or parts of lines.
    pub(crate) fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    /// The next reply; `Null` at the end.
    pub(crate) fn reply(&mut self) -> Value {
        let mut line = String::new();
        match self.replies.read_line(&mut line).unwrap() {
            0 => Value::Null,
            _ => serde_json::from_str(&line).unwrap(),
        }
    }

    /// Asks for a receipt and returns what was accepted and rejected; there may be no errors before it.
    #[track_caller]
    pub(crate) fn receipt(&mut self) -> (u64, u64) {
        self.send("\n");
        let reply = self.reply();
        let number =
            |name: &str| reply[name].as_u64().unwrap_or_else(|| panic!("no receipt: {reply}"));
        (number("accepted"), number("rejected"))
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }
}
