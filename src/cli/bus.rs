//! From the tables `[feed.amqp]` and `[feed.redis]` to what these feeds need: reads the files that
//! they name.

use super::certificates::certificates;
use super::paths;
use super::trust::machine_roots;
use crate::config::Config;
use crate::dialect::Kind;
use crate::feed::amqp::{AmqpBroker, AmqpFeedSettings};
use crate::feed::redis::{RedisTopics, Server};
use crate::io::{Bus, Redis};
use crate::setting::Secret;
use crate::trust;
use rustls::ClientConfig;
use std::path::Path;
use std::sync::Arc;

/// What the RabbitMQ feed needs; nothing when there is to be none.
///
/// # Errors
/// What is wrong with a file.
pub(super) fn bus(settings: &AmqpFeedSettings) -> Result<Option<Bus>, String> {
    let found = url("feed.amqp", settings.url.as_ref(), settings.url_file.as_deref())?;
    let Some((key, text)) = found else { return Ok(None) };
    let broker = AmqpBroker::read(&text).map_err(|problem| format!("{key}: {problem}"))?;
    let trust = trust("feed.amqp", "amqps", broker.is_encrypted(), settings.ca_file.as_deref())?;
    Ok(Some(Bus { broker, settings: settings.clone(), trust }))
}

/// What the Redis feed needs, whatever is spoken; nothing when there is to be none.
///
/// # Errors
/// What is wrong with a file.
pub(super) fn redis(config: &Config) -> Result<Option<Redis>, String> {
    let settings = &config.feed.redis;
    let found = url("feed.redis", settings.url.as_ref(), settings.url_file.as_deref())?;
    let Some((key, text)) = found else { return Ok(None) };
    let server = Server::read(&text).map_err(|problem| format!("{key}: {problem}"))?;
    let trust = trust("feed.redis", "rediss", server.is_encrypted(), settings.ca_file.as_deref())?;
    let tables = config.dialects();
    let relaying =
        tables.iter().find(|table| table.redis().is_some_and(|redis| redis.relay.is_some()));
    let topics = RedisTopics {
        prefix: settings.prefix.clone(),
        sources: tables.iter().filter_map(|table| table.redis()?.source).collect(),
        relay: relaying.and_then(|table| Kind::of_table(*table).next()),
    };
    Ok(Some(Redis { server, topics, trust }))
}

/// The URL of a broker, given or in a file, and what an error about it begins with.
pub(super) fn url(
    table: &str,
    given: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Option<(String, String)>, String> {
    // Both together are told as a problem of the settings.
    if let Some(Secret(url)) = given {
        return Ok(Some((format!("{table}.url"), url.clone())));
    }
    let Some(path) = file else { return Ok(None) };
    let key = format!("{table}.url_file");
    let text = paths::read_text(path, &key).map_err(|error| error.to_string())?;
    Ok(Some((format!("{key}: {}", path.display()), text)))
}

/// Trusts the servers that a file names, and no others; without one, those that the system trusts.
/// Where no TLS is spoken, none has to be trusted.
pub(super) fn trust(
    table: &str,
    scheme: &str,
    is_encrypted: bool,
    ca_file: Option<&Path>,
) -> Result<Option<Arc<ClientConfig>>, String> {
    let key = format!("{table}.ca_file");
    let config = match ca_file {
        // To ignore it would look like safety.
        Some(_) if !is_encrypted => {
            return Err(format!(
                "{key} is of use with TLS only: write {scheme}:// in the url, or leave it out"
            ));
        }
        None if !is_encrypted => return Ok(None),
        Some(path) => trust::named(certificates(path, &key)?)
            .map_err(|error| format!("{key}: {}: {error}", path.display())),
        None => trust::signed_by(machine_roots().ok_or_else(|| {
            format!(
                "{table}: this system trusts no authority: install ca-certificates, or set ca_file"
            )
        })?)
        .map_err(|error| format!("{table}: no TLS: {error}")),
    };
    config.map(|config| Some(Arc::new(config)))
}
