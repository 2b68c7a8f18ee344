//! A client of NATS that says exactly what it is told, and hears what comes: for what no client library says,
//! and to ask servers how they are.

use crate::harness::DEADLINE;
use crate::server::{PASSWORD, USER};
use serde_json::Value;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A message as it comes: subject, headers with their first line, payload.
#[derive(Debug)]
pub(crate) struct NatsMessage {
    pub(crate) subject: String,
    pub(crate) headers: String,
    pub(crate) payload: Vec<u8>,
}

/// A connection to a server.
pub(crate) struct NatsClient {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    inboxes: u64,
}

impl NatsClient {
    /// Connects as the user of the daemons.
    pub(crate) fn connect(server: Ipv4Addr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&(server, 4222).into(), Duration::from_secs(2))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        let lines = BufReader::new(stream.try_clone()?);
        let mut client = Self { stream, lines, inboxes: 0 };
        client.line()?;
        client.say(&format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\"user\":\"{USER}\",\
             \"pass\":\"{PASSWORD}\"}}\r\nPING\r\n"
        ))?;
        while client.line()?.trim_end() != "PONG" {}
        Ok(client)
    }

    /// Waits at most so long for what comes next.
    pub(crate) fn patience(&self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
    }

    /// Publishes, and waits until the server has it.
    pub(crate) fn publish(&mut self, subject: &str, payload: &[u8]) -> io::Result<()> {
        self.send(subject, "", payload)?;
        self.say("PING\r\n")?;
        while self.line()?.trim_end() != "PONG" {}
        Ok(())
    }

    /// Subscribes.
    pub(crate) fn subscribe(&mut self, subject: &str) -> io::Result<()> {
        self.inboxes += 1;
        self.say(&format!("SUB {subject} {}\r\n", self.inboxes))
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> io::Result<NatsMessage> {
        loop {
            let line = self.line()?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |back: usize| words[words.len() - back].parse::<usize>().unwrap();
            let (headers, whole) = match words.first() {
                Some(&"MSG") => (0, number(1)),
                Some(&"HMSG") => (number(2), number(1)),
                Some(&"PING") => {
                    self.say("PONG\r\n")?;
                    continue;
                }
                _ => continue,
            };
            let mut bytes = vec![0; whole + 2];
            self.lines.read_exact(&mut bytes)?;
            let headers_text = String::from_utf8_lossy(&bytes[..headers]).into_owned();
            let payload = bytes[headers..whole].to_vec();
            return Ok(NatsMessage { subject: words[1].into(), headers: headers_text, payload });
        }
    }

    /// Asks, and returns the answer.
    pub(crate) fn ask(&mut self, subject: &str, payload: &str) -> io::Result<NatsMessage> {
        let inbox = format!("_INBOX.tests.{}.{}", std::process::id(), self.inboxes);
        self.subscribe(&inbox)?;
        self.send(subject, &format!("{inbox} "), payload.as_bytes())?;
        loop {
            let message = self.next()?;
            if message.subject == inbox {
                return Ok(message);
            }
        }
    }

    /// Asks JetStream, whose answers are JSON.
    pub(crate) fn ask_jetstream(&mut self, call: &str, request: &Value) -> io::Result<Value> {
        let answer = self.ask(&format!("$JS.API.{call}"), &request.to_string())?;
        serde_json::from_slice(&answer.payload)
            .map_err(|_| io::Error::other(format!("{call}: {}", answer.headers.trim())))
    }

    fn send(&mut self, subject: &str, reply: &str, payload: &[u8]) -> io::Result<()> {
        let head = format!("PUB {subject} {reply}{}\r\n", payload.len());
        self.stream.write_all(&[head.as_bytes(), payload, b"\r\n"].concat())
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if line.starts_with("-ERR") => Err(io::Error::other(line)),
            _ => Ok(line),
        }
    }
}
