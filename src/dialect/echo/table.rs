//! The settings of `echo` as the rest of the daemon uses them.

use super::app::{App, AppSettings, EchoSettings};
use super::topic::TOPIC;
use super::{problems, redis};
use crate::dialect::broker::{RedisChannels, RedisSource, RedisUse};
use crate::dialect::config_table::{AppFacts, DialectTable, SecretReader};
use crate::setting::Secret;
use crate::text::digest_of;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl DialectTable for EchoSettings {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn problems(&self, is_spoken: bool) -> Vec<String> {
        problems::of(self, is_spoken)
    }

    /// Its clients have no tokens.
    fn decisive_claims(&self) -> &'static [&'static str] {
        &[]
    }

    fn outbox_problems(&self, outbox_bytes_max: usize) -> Vec<String> {
        self.app.iter().flat_map(|app| unsendable(app, outbox_bytes_max)).collect()
    }

    fn read_secrets(&mut self, read: &SecretReader<'_>) -> Vec<String> {
        let mut problems = Vec::new();
        for settings in &self.app {
            match secret(settings, read) {
                Ok(Some(secret)) => {
                    self.apps.push(Arc::new(App::new(settings.clone(), secret)));
                }
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        problems
    }

    fn longest_messages(&self) -> Vec<(&'static str, usize)> {
        let limits = self.app.iter().flat_map(|app| {
            [
                ("echo.app.message_bytes_max", app.message_bytes_max),
                ("echo.app.request_bytes_max", app.request_bytes_max),
            ]
        });
        limits.collect()
    }

    fn redis(&self) -> Option<RedisUse> {
        let source = self.redis.as_ref().map(|broadcaster| RedisSource {
            address: format!("echo/{}", broadcaster.app),
            channels: RedisChannels::Under(broadcaster.prefix.clone(), redis::event),
        });
        Some(RedisUse {
            feeds: "echo by [echo.redis]",
            needed_by: source.is_some().then_some("[echo.redis]"),
            source,
            relay: None,
        })
    }

    fn common(&self) -> Value {
        let mut apps: Vec<Value> = self.apps.iter().map(|app| common(app)).collect();
        apps.sort_by_key(ToString::to_string);
        Value::Array(apps)
    }

    fn describe(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();

        for app in &self.apps {
            let AppSettings { id, key, enabled, webhook, .. } = &app.settings;
            let state = if *enabled { "" } else { ", not enabled" };
            lines.push(("app", format!("echo: {id} at {}/app/{key}{state}", self.path)));
            for hook in webhook {
                let endpoint = hook.url.endpoint();
                let host = endpoint.as_ref().map_or("no host", |endpoint| endpoint.host());
                let told = format!("echo: {host}, what happens in the channels of {id}");
                lines.push(("tells", told));
            }
        }
        lines
    }

    fn apps(&self) -> Vec<AppFacts> {
        let facts = self.apps.iter().map(|app| AppFacts {
            id: Arc::clone(&app.id),
            connections: app.connections.load(Relaxed) as u64,
            events: app.events.load(Relaxed),
        });
        facts.collect()
    }

    /// The number of events that the cache channels of the topic's app keep.
    fn retained_max(&self, topic: &[u8]) -> Option<usize> {
        // The id is all that precedes the first NUL.
        let id = topic.strip_prefix(&[TOPIC])?.split(|byte| *byte == 0).next()?;
        Some(self.by_id(std::str::from_utf8(id).ok()?)?.settings.cache_entries_max)
    }
}

/// What all nodes must agree on about an app: whoever is let in by one is let in by all, and what
/// members may be and channels keep does not depend on the node. Limits on what one connection or
/// request does may differ, as those of the machine may.
fn common(app: &App) -> Value {
    let of = &app.settings;
    let mut webhooks: Vec<Value> = of
        .webhook
        .iter()
        .map(|hook| json!({ "url": hook.url.digest(), "events": hook.events }))
        .collect();
    webhooks.sort_by_key(ToString::to_string);
    json!({
        "id": of.id,
        "key": of.key,
        "secret": digest_of(&app.secret.0),
        "enabled": of.enabled,
        "client_events": [of.client_events, of.public_client_events],
        "subscription_count": of.subscription_count,
        "presence_members_max": of.presence_members_max,
        "member_bytes_max": of.member_bytes_max,
        "user_id_chars_max": of.user_id_chars_max,
        "cache": [u64::from(of.cache_ttl_s), of.cache_entries_max as u64],
        "event": [of.data_bytes_max, of.event_name_chars_max, of.channels_per_event_max],
        "webhooks": webhooks,
    })
}

/// The secret of an app; `None` when its settings have none.
fn secret(app: &AppSettings, read: &SecretReader<'_>) -> Result<Option<Secret>, String> {
    let Some(path) = &app.secret_file else { return Ok(app.secret.clone()) };
    read(&format!("[[echo.app]] {:?} secret_file", app.id), path).map(Some)
}

/// Limits of an app that promise more than a client could be sent.
fn unsendable(app: &AppSettings, outbox: usize) -> Vec<String> {
    let name = format!("[[echo.app]] {:?}", app.id);
    let mut problems = Vec::new();
    let list = app.list_bytes();
    if list > outbox {
        problems.push(format!(
            "{name}: the list of {} members of {} bytes each may have {list} bytes, but \
             limits.outbox_bytes_max is {outbox}: raise that, or lower presence_members_max or \
             member_bytes_max",
            app.presence_members_max, app.member_bytes_max
        ));
    }

    let event = app.event_bytes();
    if event > outbox {
        problems.push(format!(
            "{name}: an event may have {event} bytes, but limits.outbox_bytes_max is {outbox}, \
             so one event could close every client: raise that, or lower data_bytes_max or \
             request_bytes_max"
        ));
    }
    problems
}
