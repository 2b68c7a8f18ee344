//! Who is told what: the settings of callbacks and webhooks, and the apps that webhooks belong to.
//!
//! No `Debug` of this file shows a secret, or more of a URL than its host: whoever calls may have put a password
//! into the query.

use super::question::WebhookName;
use crate::endpoint::{Endpoint, UrlError};
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;

/// Longest time for one request, in seconds. What takes longer holds up whatever is told after it.
const TIMEOUT_S_MAX: u64 = 60;
/// Calls at the same time; more than a server of ours has descriptors to spare is a slip of the pen.
const CONCURRENCY_MAX: usize = 1024;
/// Longest queue that may be asked for; at a KiB each it is a GiB.
const QUEUE_MAX: usize = 1_000_000;

/// Seconds for one request, where no others are set.
const TIMEOUT_S: u64 = 5;
/// Places in a queue, where no others are set: a burst of ten seconds at a thousand calls a second.
const QUEUE_DEFAULT: usize = 10_000;

/// A URL as it is configured; what is wrong with it is told by the `problems` of the settings around it, because an
/// error while TOML is read quotes its line.
#[derive(Clone, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(transparent)]
pub struct WebhookUrl(String);

impl WebhookUrl {
    /// It, taken apart.
    ///
    /// # Errors
    /// When nobody can be told anything there.
    pub fn endpoint(&self) -> Result<Endpoint, UrlError> {
        Endpoint::new(&self.0)
    }

    fn problem(&self) -> Option<String> {
        match self.endpoint().err()? {
            // There are no keys for them here.
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

/// `[channel.callback]`: where the messages of clients are told.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct CallbackSettings {
    /// An http or https URL without a password.
    #[schemars(example = &"http://127.0.0.1/api/chat")]
    pub url: WebhookUrl,
    /// The kinds of channels whose messages are posted: the part of a channel's name before the first colon.
    pub kinds: Vec<String>,
    /// Timeout of a call in seconds. Without an answer, or with 5xx, it is made once more.
    #[schemars(range(min = 1, max = TIMEOUT_S_MAX))]
    pub timeout_s: u64,
    /// Maximum number of concurrent calls; those of one channel are made one after another.
    #[schemars(range(min = 1, max = CONCURRENCY_MAX))]
    pub concurrency: usize,
    /// Maximum number of waiting calls. One more is dropped; no client notices.
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
    /// Whether the messages of this channel are told.
    #[must_use]
    pub fn wants(&self, channel: &str) -> bool {
        let kind = channel.split_once(':').map_or(channel, |(kind, _)| kind);
        self.kinds.iter().any(|wanted| wanted == kind)
    }

    /// What is readable but cannot be, each with what to do. The texts begin with the key.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.url.problem().into_iter().collect();
        if self.kinds.is_empty() {
            problems.push(
                "kinds is empty, so nothing would be told: name kinds of channel, as in \
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

/// `[[echo.app.webhook]]`: where the events of an app are told.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// An http or https URL without a password.
    pub url: WebhookUrl,
    /// Which; all when absent.
    pub events: Option<Vec<WebhookName>>,
    /// Seconds for a whole request.
    #[schemars(range(min = 1, max = TIMEOUT_S_MAX))]
    pub timeout_s: u64,
    /// Events that wait; more push the oldest out.
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
    /// Whether events of this name are told.
    #[must_use]
    pub fn wants(&self, name: WebhookName) -> bool {
        self.events.as_ref().is_none_or(|events| events.contains(&name))
    }

    /// What is readable but cannot be, each with what to do. The texts begin with the key.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.url.problem().into_iter().collect();
        if self.events.as_ref().is_some_and(Vec::is_empty) {
            problems.push(
                "events is empty, so nothing would be told: name some, or leave the key out to be \
                 told all"
                    .into(),
            );
        }
        problems
    }
}

/// The app that a webhook belongs to.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookApp {
    /// What its webhooks name it by.
    pub id: Box<str>,
    /// What it calls itself in `X-Pusher-Key`.
    pub key: Box<str>,
    /// What its requests are signed with; never shown.
    pub secret: Box<str>,
}

impl fmt::Debug for WebhookApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookApp").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Everybody who is told anything.
#[derive(Clone, Debug, Default)]
pub struct Recipients {
    /// The callback of `channel`.
    pub callback: Option<CallbackSettings>,
    /// The webhooks of the apps of `echo`.
    pub webhooks: Vec<(WebhookApp, WebhookSettings)>,
}

impl Recipients {
    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.callback.is_none() && self.webhooks.is_empty()
    }

    /// Where they are, as far as their URLs can be read.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        let urls = self.callback.iter().map(|callback| &callback.url);
        urls.chain(self.webhooks.iter().map(|(_, webhook)| &webhook.url))
            .filter_map(|url| url.endpoint().ok())
    }
}
