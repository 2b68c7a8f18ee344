//! A remote verifier in a process of its own, by the script `tests/clients/verifier.py`.

use super::{DEADLINE, http};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running verifier; killed when dropped.
pub(crate) struct Verifier {
    /// Where it is asked.
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Verifier {
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
        let script = format!("{}/tests/clients/verifier.py", env!("CARGO_MANIFEST_DIR"));
        let mut python = Command::new("python3");
        python.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("python3 runs the verifier");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let port: u16 = port.trim().parse().expect("the verifier listens");
        Self { address: ([127, 0, 0, 1], port).into(), child }
    }

    /// The daemon's `token` that asks it by introspection, with more keys.
    pub(crate) fn introspection(&self, more: &str) -> String {
        format!("introspection = {{ url = \"http://{}/introspect\"{more} }}", self.address)
    }

    /// Changes what it does.
    pub(crate) fn set(&self, setup: &Value) {
        let body = setup.to_string();
        let length = body.len();
        let head = "POST /tests/setup HTTP/1.1\r\nConnection: close\r\n";
        let (status, _) =
            http(self.address, format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes());
        assert_eq!(status, 200);
    }

    /// What it has been asked.
    pub(crate) fn seen(&self) -> Value {
        let (_, text) = http(self.address, b"GET /tests/seen HTTP/1.1\r\nConnection: close\r\n\r\n");
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// How often it has been asked about a token.
    pub(crate) fn asked(&self, token: &str) -> u64 {
        self.seen()["by_token"][token].as_u64().unwrap_or(0)
    }

    /// Waits until it has been asked about a token so often.
    #[track_caller]
    pub(crate) fn await_asked(&self, token: &str, count: u64) {
        super::eventually(&format!("asked {count} times within {DEADLINE:?}"), || self.asked(token) >= count);
    }

    /// Ends it; its port is free afterwards.
    pub(crate) fn kill(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.address.port()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
