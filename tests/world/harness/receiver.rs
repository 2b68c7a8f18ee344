//! A service that is told things over HTTP, by the script `tests/clients/receiver.py`.

use super::eventually;
use super::script::ScriptServer;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::Path;

/// A running receiver; killed when dropped.
pub(crate) struct Receiver(ScriptServer);

impl Receiver {
    /// One that listens on any port.
    pub(crate) fn start() -> Self {
        Self::at(0)
    }

    /// One that listens on this port.
    pub(crate) fn at(port: u16) -> Self {
        Self(ScriptServer::run("receiver", &[&port.to_string()]))
    }

    /// One that listens on any port of an address.
    pub(crate) fn on(address: Ipv4Addr) -> Self {
        let mut server = ScriptServer::run("receiver", &[&format!("{address}:0")]);
        server.address.set_ip(address.into());
        Self(server)
    }

    /// One that listens on any port with TLS.
    pub(crate) fn over_tls(certificate: &Path, key: &Path) -> Self {
        let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
        Self(ScriptServer::run("receiver", &["0", files[0], files[1]]))
    }

    /// The URL of a path of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
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
    pub(crate) fn kill(self) -> u16 {
        self.0.kill()
    }
}

impl Deref for Receiver {
    type Target = ScriptServer;

    fn deref(&self) -> &ScriptServer {
        &self.0
    }
}
