//! The settings of `echo` as the rest of the daemon uses them.

use super::app::{App, AppSettings, EchoSettings};
use super::topic::TOPIC;
use super::{problems, redis};
use crate::dialect::broker::{RedisChannels, RedisSource, RedisUse};
use crate::dialect::config_table::{AppFacts, DialectTable, SecretReader};
use crate::setting::Secret;
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
