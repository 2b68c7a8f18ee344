//! The client of the webhooks, and what is told of them at a stop.

#[cfg(test)]
mod tests;

use super::calls::Caller;
use super::client::{Client, tls_of_the_system};
use crate::service::webhook::{Recipients, WebhookKind, WebhookService};
use std::io;
use std::time::Instant;

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

/// Tells what can be told at once, until `end` at the latest; what would have to be told again is lost.
pub(super) async fn finish(webhooks: &mut Caller<WebhookService>, end: Instant) {
    webhooks.change(|service, now, _| service.hurry(now));
    webhooks.finish(end).await;
    let left: usize =
        WebhookKind::ALL.into_iter().map(|(kind, _)| webhooks.service().waiting(kind)).sum();
    if left > 0 {
        tracing::warn!(
            "{left} webhooks were not delivered: at a stop nothing is tried again, and nothing is waited for beyond drain_s"
        );
    }
}
