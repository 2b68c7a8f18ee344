//! The client of the webhooks.

#[cfg(test)]
mod tests;

use super::client::{Client, tls_of_the_system};
use crate::service::webhook::Recipients;
use std::io;

/// Connections that are kept to a host; a callback has as many requests under way by default.
const KEPT_MAX: usize = 16;

/// Whom to tell, and the client to do it with.
pub(super) struct WebhookClient {
    pub(super) recipients: Recipients,
    pub(super) client: Client,
}

impl WebhookClient {
    /// # Errors
    /// When a recipient cannot be told over TLS for want of certificates.
    pub(super) fn new(recipients: Recipients) -> io::Result<Self> {
        let secure = recipients.endpoints().find(|endpoint| endpoint.is_https());
        let tls = tls_of_the_system(secure.as_ref().map(|endpoint| endpoint.host()))?;
        Ok(Self { recipients, client: Client::new(tls, KEPT_MAX) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recipients.is_empty()
    }
}
