//! The apps that `echo` serves, isolated from each other: names, secrets and limits.

use super::limit::MESSAGE_BYTES_MAX;
use crate::service::webhook::{WebhookApp, WebhookSettings};
use crate::setting::{LONGEST_MESSAGE_BYTES, Secret};
use schemars::JsonSchema;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// The dialect echo: Laravel Echo by the protocol of Pusher Channels, with its HTTP API for
/// publishers on the same port.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EchoSettings {
    /// The prefix of every path; Echo's wsPath. In config/broadcasting.php it ends with a slash:
    /// 'path' => '/ws/'.
    pub path: String,
    /// The code that sessions end with when the daemon stops: 1001, or 4100.
    #[schemars(with = "u16", extend("default" = 1001, "enum" = [1001, 4100]))]
    pub drain_code: DrainCode,
    /// Laravel's `redis` broadcaster: the app whose channels get what is published in the Redis of
    /// [feed.redis] on channels with this prefix, which is that of the application's Redis
    /// connection. No other application's prefix on that Redis may begin like it.
    #[schemars(extend("x-restart" = true))]
    pub redis: Option<Broadcaster>,
    /// As many [[echo.app]] as there are applications; they never see each other. Their files are
    /// read where some [[listen]] has echo among its dialects. A limit of 0 is none.
    #[allow(rustdoc::broken_intra_doc_links)]
    // The sample has this text, where brackets are those of TOML.
    pub app: Vec<AppSettings>,
    /// Made from `app` when the daemon starts.
    #[serde(skip)]
    pub apps: Vec<Arc<App>>,
}

/// The code that sessions end with when the daemon stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "u16")]
pub enum DrainCode {
    /// 1001: clients come back after a second.
    #[default]
    GoingAway,
    /// 4100: clients come back after a second, and say why.
    ComeBack,
}

impl TryFrom<u16> for DrainCode {
    type Error = &'static str;

    fn try_from(code: u16) -> Result<Self, Self::Error> {
        match code {
            1001 => Ok(Self::GoingAway),
            4100 => Ok(Self::ComeBack),
            _ => Err("drain_code is 1001 or 4100"),
        }
    }
}

/// Where the events of Laravel's `redis` broadcaster go: `[echo.redis]`.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Broadcaster {
    /// The app's id.
    #[schemars(example = &"app-id")]
    pub app: String,
    /// The prefix of the Laravel Redis connection.
    #[schemars(example = &"laravel-database-")]
    pub prefix: String,
}

/// One `[[echo.app]]`. A limit of 0 is none.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AppSettings {
    /// The app's id, for publishers: letters, digits, "-", "_" and ".". Some publishers accept
    /// digits only.
    #[schemars(extend("x-sample" = "app-id"))]
    pub id: String,
    /// The app's key, for clients, with the same characters.
    #[schemars(extend("x-sample" = "app-key"))]
    pub key: String,
    /// The file with the secret for signatures, which the application has too. Let the file belong
    /// to the daemon's user with mode 0400.
    #[schemars(extend("x-sample" = "/etc/fanfare/echo.secret"))]
    pub secret_file: Option<PathBuf>,
    /// The same, in this file, which is then a secret too.
    pub secret: Option<Secret>,
    /// false ends the app's sessions and refuses its clients.
    pub enabled: bool,
    /// Whether clients may send events to each other (whisper).
    pub client_events: bool,
    /// Whether they may on public channels too, which any client with the key can subscribe to.
    pub public_client_events: bool,
    /// Whether subscribers are sent the number of subscribers.
    pub subscription_count: bool,
    /// The origins of pages that may connect, where * stands for any text.
    pub allowed_origins: Vec<String>,
    /// Maximum number of connections.
    pub max_connections: usize,
    /// Maximum number of channels of a connection.
    pub subscriptions_max: usize,
    /// Maximum bytes of a client's message.
    #[schemars(range(max = LONGEST_MESSAGE_BYTES))]
    pub message_bytes_max: usize,
    /// Maximum bytes of the body of a publisher's request.
    #[schemars(range(max = LONGEST_MESSAGE_BYTES))]
    pub request_bytes_max: usize,
    /// Maximum bytes of an event's data, decoded.
    pub data_bytes_max: usize,
    /// Maximum characters of an event's name.
    pub event_name_chars_max: usize,
    /// Maximum number of channels of an event.
    pub channels_per_event_max: usize,
    /// Maximum number of events of a batch.
    pub batch_events_max: usize,
    /// Maximum number of users of a presence channel. Their list is sent as one message, which must
    /// fit into limits.outbox_bytes_max.
    pub presence_members_max: u32,
    /// Maximum bytes of a user's channel_data.
    pub member_bytes_max: usize,
    /// Maximum characters of a user's id.
    pub user_id_chars_max: usize,
    /// Maximum number of events from one client in a second.
    pub client_events_per_s_max: u32,
    /// Seconds for which a cache channel keeps its last event.
    pub cache_ttl_s: u32,
    /// Maximum number of cache channels that keep one.
    pub cache_entries_max: usize,
    /// Seconds of silence after which the daemon pings a client, and a client the daemon. Reverb's
    /// default, below the timeouts of proxies; Pusher's is 120.
    #[schemars(range(min = 1, max = 3600))]
    pub activity_timeout_s: u32,
    /// Seconds that a client has to answer a ping.
    #[schemars(range(min = 1))]
    pub pong_timeout_s: u32,
    /// A URL to which events of the app's channels are posted; without `events`, all of them.
    #[schemars(example = &json!([{ "url": "http://127.0.0.1:8000/pusher/webhooks", "events": ["channel_occupied", "channel_vacated"] }]))]
    pub webhook: Vec<WebhookSettings>,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            id: String::new(),
            key: String::new(),
            secret: None,
            secret_file: None,
            enabled: true,
            client_events: true,
            public_client_events: false,
            subscription_count: false,
            allowed_origins: vec!["*".into()],
            max_connections: 0,
            subscriptions_max: 100,
            message_bytes_max: 65_536,
            request_bytes_max: 1024 * 1024,
            data_bytes_max: 10_240,
            event_name_chars_max: 200,
            channels_per_event_max: 100,
            batch_events_max: 10,
            presence_members_max: 100,
            member_bytes_max: 1024,
            user_id_chars_max: 128,
            client_events_per_s_max: 10,
            cache_ttl_s: 1800,
            cache_entries_max: 10_000,
            activity_timeout_s: 30,
            pong_timeout_s: 30,
            webhook: vec![],
        }
    }
}

/// An app in service.
#[derive(Debug)]
pub struct App {
    /// Its id, as notes to the owner of its presence have it.
    pub id: Arc<str>,
    /// Its settings.
    pub settings: AppSettings,
    /// The key of signatures.
    pub secret: Secret,
    /// Sessions of the whole daemon that were admitted under these settings. A reload makes new
    /// settings, to which each session moves.
    pub connections: AtomicUsize,
    /// Events that were taken for it, from all sides.
    pub events: AtomicU64,
}

impl AppSettings {
    /// Largest size of a full presence channel's list, in bytes; 0 where one of its limits is none.
    /// In the frame it is a JSON string, in which a quote takes two bytes.
    #[must_use]
    pub fn list_bytes(&self) -> usize {
        (self.presence_members_max as usize).saturating_mul(self.member_bytes_max).saturating_mul(2)
    }

    /// Largest size of an event, in bytes: its data as written, up to six bytes for each, and never
    /// more than the request. 0 where neither has a limit.
    #[must_use]
    pub fn event_bytes(&self) -> usize {
        // Six bytes is "\u0000", the longest escape.
        let written = self.data_bytes_max.saturating_mul(6);
        [written, self.request_bytes_max].into_iter().filter(|max| *max > 0).min().unwrap_or(0)
    }
}

impl App {
    /// An app with its secret.
    #[must_use]
    pub fn new(settings: AppSettings, secret: Secret) -> Self {
        let id = settings.id.as_str().into();
        Self { id, settings, secret, connections: AtomicUsize::new(0), events: AtomicU64::new(0) }
    }

    /// The longest message of a client.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        // The app's "no limit" cannot exceed what the ranges of actions can address.
        match self.settings.message_bytes_max {
            0 => MESSAGE_BYTES_MAX,
            max => max.min(MESSAGE_BYTES_MAX),
        }
    }

    /// Whether the app has any webhooks.
    #[must_use]
    pub fn has_webhooks(&self) -> bool {
        !self.settings.webhook.is_empty()
    }
}

impl EchoSettings {
    /// The app with a client's key.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<&Arc<App>> {
        self.apps.iter().find(|app| app.settings.key == key)
    }

    /// The app with a publisher's id.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<&Arc<App>> {
        self.apps.iter().find(|app| app.settings.id == id)
    }

    /// The webhooks of the enabled apps.
    pub(in crate::dialect) fn webhooks(
        &self,
    ) -> impl Iterator<Item = (WebhookApp, WebhookSettings)> {
        self.apps.iter().filter(|app| app.settings.enabled).flat_map(|app| {
            let AppSettings { id, key, webhook, .. } = &app.settings;
            let of = WebhookApp {
                id: id.as_str().into(),
                key: key.as_str().into(),
                secret: app.secret.0.as_str().into(),
            };
            webhook.iter().map(move |hook| (of.clone(), hook.clone()))
        })
    }
}
