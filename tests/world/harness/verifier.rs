//! A remote verifier, by the script `tests/clients/verifier.py`.

use super::eventually;
use super::script::ScriptServer;
use std::ops::Deref;
use std::path::Path;

/// A running verifier; killed when dropped.
pub(crate) struct Verifier(ScriptServer);

impl Verifier {
    /// One that listens on any port.
    pub(crate) fn start() -> Self {
        Self::at(0)
    }

    /// One that listens on this port.
    pub(crate) fn at(port: u16) -> Self {
        Self(ScriptServer::run("verifier", &[&port.to_string()]))
    }

    /// One that listens on any port with TLS.
    pub(crate) fn over_tls(certificate: &Path, key: &Path) -> Self {
        let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
        Self(ScriptServer::run("verifier", &["0", files[0], files[1]]))
    }

    /// The daemon's `token` that asks it by introspection, with more keys.
    pub(crate) fn introspection(&self, more: &str) -> String {
        format!("introspection = {{ url = \"http://{}/introspect\"{more} }}", self.address)
    }

    /// How often it has been asked about a token.
    pub(crate) fn asked(&self, token: &str) -> u64 {
        self.seen()["by_token"][token].as_u64().unwrap_or(0)
    }

    /// Waits until it has been asked about a token so often.
    #[track_caller]
    pub(crate) fn await_asked(&self, token: &str, count: u64) {
        eventually(&format!("asked {count} times"), || self.asked(token) >= count);
    }

    /// Ends it; its port is free afterwards.
    pub(crate) fn kill(self) -> u16 {
        self.0.kill()
    }
}

impl Deref for Verifier {
    type Target = ScriptServer;

    fn deref(&self) -> &ScriptServer {
        &self.0
    }
}
