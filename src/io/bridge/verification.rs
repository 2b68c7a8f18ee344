//! HTTP clients for the remote verifiers.

use super::client::{Client, tls_of_the_system};
use crate::dialect::{Kind, Settings};
use crate::io::clock;
use crate::service::verification::{Remotes, places};
use crate::token::{Finding, RemoteVerifier, TokenInquiry, Verdict, Verifier};
use rustls::ClientConfig;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The remote verifiers of a configuration, with their HTTP clients.
pub(super) struct Verifiers {
    pub(super) remotes: Remotes,
    pub(super) clients: Vec<Option<Client>>,
}

impl Verifiers {
    /// # Errors
    /// When a verifier is to be asked over TLS and there are no certificates.
    pub(super) fn new(settings: &Settings) -> io::Result<Self> {
        let remotes: Remotes = Kind::ALL
            .iter()
            .map(|kind| kind.verifier(settings).and_then(Verifier::remote).map(Arc::clone))
            .collect();

        // Dialects with equal verifiers share the client, and the connections, of the first of
        // them.
        let mut clients = Vec::new();
        for (place, (own, remote)) in places(&remotes).into_iter().zip(&remotes).enumerate() {
            let remote = remote.as_ref().filter(|_| own == Some(place));
            clients.push(remote.map(|remote| client(remote)).transpose()?);
        }
        Ok(Self { remotes, clients })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clients.iter().all(Option::is_none)
    }
}

/// Asks a remote verifier about one token, once, for a command.
///
/// # Errors
/// Why there is no answer, or none that can be parsed; the token is not in it.
pub fn ask_once(remote: &RemoteVerifier, token: &str) -> Result<Verdict, String> {
    let client = client(remote).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;

    let timeout = Duration::from_millis(remote.timing().timeout_ms);
    let request = remote.request(TokenInquiry::Grant, token);

    let (status, body) = runtime.block_on(async { client.send(request, timeout, true).await })?;
    match remote.read(TokenInquiry::Grant, status, &body, clock::now().unix_ms) {
        Finding::Granted(grant) => Ok(Verdict::Granted(grant)),
        Finding::Refused(refusal) => Ok(Verdict::Refused(refusal)),
        // The answer to a later inquiry, not to the first.
        Finding::Confirmed => Err("it confirms what it has not granted".into()),
        Finding::Unclear(reason) => Err(reason),
    }
}

/// The client for a verifier, which trusts the configured certificates, or else the system's
/// authorities.
pub(super) fn client(remote: &RemoteVerifier) -> io::Result<Client> {
    let tls = match remote.trusted() {
        Some(config) => ClientConfig::clone(config),
        None => tls_of_the_system(remote.is_https().then(|| remote.host()))?,
    };
    Ok(Client::new(tls, remote.timing().concurrency_max))
}
