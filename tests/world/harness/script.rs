//! The scripts of `tests/clients`, and a server for tests that is one of them in a process of its own.

use super::http;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// Where a file of `tests/clients` is.
pub(crate) fn script(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A running server; killed when dropped.
pub(crate) struct ScriptServer {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
}

impl ScriptServer {
    /// Runs `tests/clients/NAME.py` with these arguments: the port, any for 0, and for TLS the files of a certificate
    /// and its key. Its first line is the port.
    pub(crate) fn run(name: &str, arguments: &[&str]) -> Self {
        let mut python = Command::new("python3");
        python
            .arg(script(&format!("{name}.py")))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = python.spawn().expect("python3 runs the script");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let port: u16 = port.trim().parse().expect("the script tells its port");
        Self { address: ([127, 0, 0, 1], port).into(), child }
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
        let (_, text) =
            http(self.address, b"GET /tests/seen HTTP/1.1\r\nConnection: close\r\n\r\n");
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Ends it; its port is free afterwards.
    pub(crate) fn kill(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.address.port()
    }
}

impl Drop for ScriptServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
