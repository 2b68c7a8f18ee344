//! The settings of callbacks and webhooks, and the apps that webhooks belong to.
//!
//! No `Debug` output of this file shows a secret or more of a URL than its host: a URL's query may
//! contain a password.

use super::question::WebhookName;
use crate::endpoint::{Endpoint, UrlError};
use crate::text::digest_of;
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;

/// Limit on a request's timeout, in seconds. A slow request delays all that follow it.
const TIMEOUT_S_MAX: u64 = 60;
/// Limit on concurrent calls; more than our servers have descriptors to spare is a typing error.
const CONCURRENCY_MAX: usize = 1024;
/// Limit on a queue's entries; at a KiB each it takes a GiB.
const QUEUE_MAX: usize = 1_000_000;

/// Default timeout of a request, in seconds.
const TIMEOUT_S: u64 = 5;
/// Default limit on a queue's entries: ten seconds of a burst of a thousand calls a second.
const QUEUE_DEFAULT: usize = 10_000;

/// A URL as configured. It is not checked while TOML is read, because a TOML error quotes its line;
/// the `problems` of the settings around it report what is wrong.
#[derive(Clone, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(transparent)]
pub struct WebhookUrl(String);

impl WebhookUrl {
    /// The parts of the URL.
    ///
    /// # Errors
    /// When it is not an http or https URL that requests can be sent to.
    pub fn endpoint(&self) -> Result<Endpoint, UrlError> {
        Endpoint::new(&self.0)
    }

    /// A digest of the URL, whose query may contain a password.
    #[must_use]
    pub fn digest(&self) -> String {
        digest_of(&self.0)
    }

    fn problem(&self) -> Option<String> {
        match self.endpoint().err()? {
            // Webhooks have no setting that would send them.
            UrlError::Credentials => {
                Some("url has credentials in it (user:password@): leave them out".into())
            }
            UrlError::Scheme => Some(
                "url begins with neither https:// nor http://; write it like \
                 \"http://127.0.0.1/hook\""
                    .into(),
            ),
            error => Some(error.to_string()),
        }
    }
}

impl From<&str> for WebhookUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.endpoint() {
            Ok(endpoint) => f.write_str(endpoint.host()),
            Err(_) => f.write_str("[no URL]"),
        }
    }
}

/// `[channel.callback]`: the application's endpoint for client messages.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct CallbackSettings {
    /// An http or https URL without a password.
    #[schemars(example = &"http://127.0.0.1/api/chat")]
    pub url: WebhookUrl,
    /// The kinds of channels whose messages are posted: the part of a channel's name before the
    /// first colon.
    pub kinds: Vec<String>,
    /// Timeout of a call in seconds. Without an answer, or with a 5xx, it is retried once.
    #[schemars(range(min = 1, max = TIMEOUT_S_MAX))]
    pub timeout_s: u64,
    /// Maximum number of concurrent calls; those of one channel are made one after another.
    #[schemars(range(min = 1, max = CONCURRENCY_MAX))]
    pub concurrency: usize,
    /// Maximum number of waiting calls. Further ones are dropped, without notice to the client.
    #[schemars(range(min = 1, max = QUEUE_MAX))]
    pub queue_max: usize,
}

impl Default for CallbackSettings {
    fn default() -> Self {
        Self {
            url: WebhookUrl::default(),
            kinds: vec!["chat".into()],
            timeout_s: TIMEOUT_S,
            concurrency: 16,
            queue_max: QUEUE_DEFAULT,
        }
    }
}

impl CallbackSettings {
    /// Whether messages of this channel are posted.
    #[must_use]
    pub fn wants(&self, channel: &str) -> bool {
        let kind = channel.split_once(':').map_or(channel, |(kind, _)| kind);
        self.kinds.iter().any(|wanted| wanted == kind)
    }

    /// Values that parse but cannot work, each with advice. Each text starts with the key.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.url.problem().into_iter().collect();
        if self.kinds.is_empty() {
            problems.push(
                "kinds is empty, so no message would be posted: name kinds of channel, as in \
                 [\"chat\"], or leave the callback out"
                    .into(),
            );
        }
        if let Some(kind) = self.kinds.iter().find(|kind| kind.contains(':')) {
            let (part, _) = kind.split_once(':').unwrap_or((kind, ""));
            problems.push(format!(
                "kinds: no kind has a colon; write the part before it, \"{part}\", instead of \
                 \"{kind}\""
            ));
        }
        problems
    }
}

/// `[[echo.app.webhook]]`: an endpoint for events of an app.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// An http or https URL without a password.
    pub url: WebhookUrl,
    /// Events to send; all when absent.
    pub events: Option<Vec<WebhookName>>,
    /// Timeout of one request in seconds.
    #[schemars(range(min = 1, max = TIMEOUT_S_MAX))]
    pub timeout_s: u64,
    /// Events waiting. When the queue is full, the oldest are dropped.
    #[schemars(range(min = 1, max = QUEUE_MAX))]
    pub queue_max: usize,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            url: WebhookUrl::default(),
            events: None,
            timeout_s: TIMEOUT_S,
            queue_max: QUEUE_DEFAULT,
        }
    }
}

impl WebhookSettings {
    /// Whether this webhook subscribes to the event.
    #[must_use]
    pub fn wants(&self, name: WebhookName) -> bool {
        self.events.as_ref().is_none_or(|events| events.contains(&name))
    }

    /// Values that parse but cannot work, each with advice. Each text starts with the key.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.url.problem().into_iter().collect();
        if self.events.as_ref().is_some_and(Vec::is_empty) {
            problems.push(
                "events is empty, so no event would be sent: name some, or leave the key out to \
                 send all"
                    .into(),
            );
        }
        problems
    }
}

/// The app a webhook belongs to.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookApp {
    /// The app's id.
    pub id: Box<str>,
    /// The app's key, sent in `X-Pusher-Key`.
    pub key: Box<str>,
    /// The key of the requests' signatures; never logged.
    pub secret: Box<str>,
}

impl fmt::Debug for WebhookApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookApp").field("id", &self.id).finish_non_exhaustive()
    }
}

/// All configured recipients.
#[derive(Clone, Debug, Default)]
pub struct Recipients {
    /// The callback of `channel`.
    pub callback: Option<CallbackSettings>,
    /// The webhooks of the apps of `echo`.
    pub webhooks: Vec<(WebhookApp, WebhookSettings)>,
}

impl Recipients {
    /// Whether there are no recipients.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.callback.is_none() && self.webhooks.is_empty()
    }

    /// The endpoints of all recipients with valid URLs.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        let urls = self.callback.iter().map(|callback| &callback.url);
        urls.chain(self.webhooks.iter().map(|(_, webhook)| &webhook.url))
            .filter_map(|url| url.endpoint().ok())
    }
}
