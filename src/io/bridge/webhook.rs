//! The HTTP client of the webhooks.

#[cfg(test)]
mod tests;

use super::client::{Client, tls_of_the_system};
use crate::service::webhook::Recipients;
use std::io;

/// Connections kept to a host: as many requests as a callback has under way by default.
const KEPT_MAX: usize = 16;

/// The recipients of webhooks, and the client for them.
pub(super) struct WebhookClient {
    pub(super) recipients: Recipients,
    pub(super) client: Client,
}

impl WebhookClient {
    /// # Errors
    /// When a recipient is reached over TLS and there are no certificates.
    pub(super) fn new(recipients: Recipients) -> io::Result<Self> {
        // One recipient with https is enough to need the system's authorities.
        let secure = recipients.endpoints().find(|endpoint| endpoint.is_https());
        let tls = tls_of_the_system(secure.as_ref().map(|endpoint| endpoint.host()))?;
        Ok(Self { recipients, client: Client::new(tls, KEPT_MAX) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recipients.is_empty()
    }
}
