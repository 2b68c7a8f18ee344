//! A service that is told things over HTTP, in a process of its own, by the script `tests/clients/receiver.py`.

use super::{eventually, http};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running receiver; killed when dropped.
pub(crate) struct Receiver {
    /// Where it is told.
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Receiver {
    /// One that listens on any port.
    pub(crate) fn start() -> Self {
        Self::at(0)
    }

    /// One that listens on this port.
    pub(crate) fn at(port: u16) -> Self {
        Self::run(&[&port.to_string()])
    }

    /// One that listens on any port with TLS.
    pub(crate) fn over_tls(certificate: &Path, key: &Path) -> Self {
        Self::run(&["0", certificate.to_str().unwrap(), key.to_str().unwrap()])
    }

    fn run(arguments: &[&str]) -> Self {
        let script = format!("{}/tests/clients/receiver.py", env!("CARGO_MANIFEST_DIR"));
        let mut python = Command::new("python3");
        python.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("python3 runs the receiver");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let port: u16 = port.trim().parse().expect("the receiver listens");
        Self { address: ([127, 0, 0, 1], port).into(), child }
    }

    /// The URL of a path of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Changes what it does; the keys are told in the script.
    pub(crate) fn set(&self, setup: &Value) {
        let body = setup.to_string();
        let length = body.len();
        let head = "POST /tests/setup HTTP/1.1\r\nConnection: close\r\n";
        let (status, _) =
            http(self.address, format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes());
        assert_eq!(status, 200);
    }

    /// Everything it knows.
    pub(crate) fn seen(&self) -> Value {
        let (_, text) = http(self.address, b"GET /tests/seen HTTP/1.1\r\nConnection: close\r\n\r\n");
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.seen()["requests"].as_array().unwrap().clone()
    }

    /// Waits for so many requests, and returns all.
    #[track_caller]
    pub(crate) fn await_requests(&self, count: usize) -> Vec<Value> {
        let mut requests = Vec::new();
        eventually(&format!("{count} requests have come"), || {
            requests = self.requests();
            requests.len() >= count
        });
        requests
    }

    /// Ends it; its port is free afterwards.
    pub(crate) fn kill(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.address.port()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
