//! From the tables `[feed.amqp]` and `[feed.redis]` to what these feeds need: reads the files that they name.

use super::certificates::certificates;
use super::paths;
use crate::config::Config;
use crate::dialect::Kind;
use crate::feed::amqp::{AmqpBroker, AmqpFeedSettings};
use crate::feed::redis::{RedisTopics, Server};
use crate::io::{Bus, Redis};
use crate::trust;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// What the RabbitMQ feed needs; nothing when there is to be none.
///
/// # Errors
/// What is wrong with a file.
pub(super) fn bus(settings: &AmqpFeedSettings) -> Result<Option<Bus>, String> {
    let in_file =
        settings.url_file.as_deref().map(|path| read(path, "feed.amqp.url_file")).transpose()?;
    let Some(text) = settings.url.as_ref().map(|url| url.0.clone()).or(in_file) else {
        return Ok(None);
    };
    let broker = AmqpBroker::read(&text).map_err(|problem| match &settings.url_file {
        Some(path) => format!("feed.amqp.url_file: {}: {problem}", path.display()),
        None => format!("feed.amqp.url: {problem}"),
    })?;
    let trust = trust("feed.amqp", "amqps", broker.is_encrypted(), settings.ca_file.as_deref())?;
    Ok(Some(Bus { broker, settings: settings.clone(), trust }))
}

/// What the Redis feed needs, whoever speaks what; nothing when there is to be none.
///
/// # Errors
/// What is wrong with a file.
pub(super) fn redis(config: &Config) -> Result<Option<Redis>, String> {
    let settings = &config.feed.redis;
    let in_file =
        settings.url_file.as_deref().map(|path| read(path, "feed.redis.url_file")).transpose()?;
    let Some(text) = settings.url.as_ref().map(|url| url.0.clone()).or(in_file) else {
        return Ok(None);
    };
    let server = Server::read(&text).map_err(|problem| match &settings.url_file {
        Some(path) => format!("feed.redis.url_file: {}: {problem}", path.display()),
        None => format!("feed.redis.url: {problem}"),
    })?;
    let trust = trust("feed.redis", "rediss", server.is_encrypted(), settings.ca_file.as_deref())?;
    let tables = config.dialects();
    let relaying = tables.iter().find(|table| table.relay().is_some());
    let topics = RedisTopics {
        prefix: settings.prefix.clone(),
        sources: tables.iter().filter_map(|table| table.redis_source()).collect(),
        relay: relaying.and_then(|table| Kind::of_table(*table).next()),
    };
    Ok(Some(Redis { server, topics, trust }))
}

fn read(path: &Path, key: &str) -> Result<String, String> {
    let bytes = paths::read_small(path, key).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| format!("{key}: {} is not UTF-8 text", path.display()))
}

/// Trusts who is named in a file, and nobody else; without it, whom the system trusts. Nobody has to be trusted
/// where no TLS is spoken.
fn trust(
    table: &str,
    scheme: &str,
    is_encrypted: bool,
    ca_file: Option<&Path>,
) -> Result<Option<Arc<ClientConfig>>, String> {
    let key = format!("{table}.ca_file");
    match ca_file {
        Some(_) if !is_encrypted => Err(format!(
            "{key} is of use with TLS only: write {scheme}:// in the url, or leave it out"
        )),
        None if !is_encrypted => Ok(None),
        Some(path) => {
            let named = certificates(path, &key)?;
            let unusable = |error| format!("{key}: {}: {error}", path.display());
            trust::named(named).map(|config| Some(Arc::new(config))).map_err(unusable)
        }
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(format!(
                    "{table}: this system trusts nobody: install ca-certificates, or set ca_file"
                ));
            }
            let impossible = |error| format!("{table}: no TLS: {error}");
            trust::signed_by(roots).map(|config| Some(Arc::new(config))).map_err(impossible)
        }
    }
}
