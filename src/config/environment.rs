//! What the environment overrides: which keys, and how a variable's text becomes a value.

use super::{ConfigError, nearest};
use toml::{Table, Value};

/// Starts the name of an environment variable that overrides a key.
pub const ENVIRONMENT_PREFIX: &str = "FANFARE_";

/// Places of a list that a variable may name: more than there may be listeners, and more than anybody sets so.
const PLACES_MAX: usize = 64;

/// Every key that the environment may override; a number stands for the place of a listener or an app.
pub const KEYS: &[&str] = &[
    "threads",
    "cpus",
    "pin",
    "driver",
    "max_connections",
    "trusted_proxies",
    "drain_s",
    "listen.0.address",
    "listen.0.dialects",
    "listen.0.proxy_protocol",
    "listen.0.tls.certificate",
    "listen.0.tls.key",
    "listen.0.tls.client_ca",
    "listen.0.tls.client_certificate",
    "admin.address",
    "admin.token",
    "admin.token_file",
    "feed.unix.path",
    "feed.unix.mode",
    "feed.unix.group",
    "feed.unix.allow_uids",
    "feed.unix.allow_gids",
    "feed.unix.line_bytes_max",
    "feed.unix.publishers_max",
    "feed.amqp.url",
    "feed.amqp.url_file",
    "feed.amqp.exchange",
    "feed.amqp.exchange_type",
    "feed.amqp.origin_uuid",
    "feed.amqp.prefetch",
    "feed.amqp.ca_file",
    "feed.amqp.on_bus_loss",
    "feed.redis.url",
    "feed.redis.url_file",
    "feed.redis.prefix",
    "feed.redis.ca_file",
    "limits.outbox_bytes_max",
    "limits.subscriptions_max",
    "limits.handshake_timeout_s",
    "limits.head_bytes_max",
    "limits.partial_bytes_max",
    "limits.close_timeout_s",
    "limits.connections_per_address_max",
    "log.level",
    "log.format",
    "personium.anonymous",
    "personium.session_s_max",
    "personium.token_timeout_s",
    "personium.ping_interval_s",
    "personium.ping_misses_max",
    "personium.text_bytes_max",
    "personium.subscriptions_max",
    "personium.topics",
    "personium.token.jwt.algorithms",
    "personium.token.jwt.secret",
    "personium.token.jwt.secret_file",
    "personium.token.jwt.public_key_file",
    "personium.token.jwt.jwks_file",
    "personium.token.jwt.leeway_s",
    "personium.token.static.file",
    "personium.token.introspection.url",
    "personium.token.introspection.client_id",
    "personium.token.introspection.client_secret",
    "personium.token.introspection.client_secret_file",
    "personium.token.introspection.recheck_s",
    "personium.token.introspection.timeout_ms",
    "personium.token.introspection.concurrency_max",
    "personium.token.introspection.cache_s",
    "personium.token.introspection.grace_s",
    "personium.token.introspection.ca_file",
    "channel.close_on_expiry",
    "channel.targeted",
    "channel.shape",
    "channel.relay",
    "channel.origins",
    "channel.ping_interval_s",
    "channel.ping_misses_max",
    "channel.message_bytes_max",
    "channel.channel_bytes_max",
    "channel.token.jwt.algorithms",
    "channel.token.jwt.secret",
    "channel.token.jwt.secret_file",
    "channel.token.jwt.public_key_file",
    "channel.token.jwt.jwks_file",
    "channel.token.jwt.leeway_s",
    "channel.token.static.file",
    "channel.callback.url",
    "channel.callback.kinds",
    "channel.callback.timeout_s",
    "channel.callback.concurrency",
    "channel.callback.queue_max",
    "echo.path",
    "echo.drain_code",
    "echo.redis.app",
    "echo.redis.prefix",
    "echo.app.0.id",
    "echo.app.0.key",
    "echo.app.0.secret",
    "echo.app.0.secret_file",
    "echo.app.0.enabled",
    "echo.app.0.client_events",
    "echo.app.0.public_client_events",
    "echo.app.0.subscription_count",
    "echo.app.0.allowed_origins",
    "echo.app.0.max_connections",
    "echo.app.0.subscriptions_max",
    "echo.app.0.message_bytes_max",
    "echo.app.0.request_bytes_max",
    "echo.app.0.data_bytes_max",
    "echo.app.0.event_name_chars_max",
    "echo.app.0.channels_per_event_max",
    "echo.app.0.batch_events_max",
    "echo.app.0.presence_members_max",
    "echo.app.0.member_bytes_max",
    "echo.app.0.user_id_chars_max",
    "echo.app.0.client_events_per_s_max",
    "echo.app.0.cache_ttl_s",
    "echo.app.0.cache_entries_max",
    "echo.app.0.activity_timeout_s",
    "echo.app.0.pong_timeout_s",
    "echo.app.0.webhook",
    "store.path",
    "store.durability",
    "store.interval_ms",
    "store.writers",
    "store.free_bytes_min",
    "store.cache_bytes",
    "store.backup_path",
    "pulsar.anonymous",
    "pulsar.default_rights",
    "pulsar.auth_challenge_s",
    "pulsar.ping_interval_s",
    "pulsar.ping_misses_max",
    "pulsar.idle_timeout_s",
    "pulsar.retention_s",
    "pulsar.retention_bytes",
    "pulsar.message_ttl_s",
    "pulsar.backlog_quota_bytes",
    "pulsar.backlog_quota_policy",
    "pulsar.unacked_max",
    "pulsar.idle_delete_s",
    "pulsar.subscription_expiry_s",
    "pulsar.topics_max",
    "pulsar.new_topics_max",
    "pulsar.partitioned",
    "pulsar.token.jwt.algorithms",
    "pulsar.token.jwt.secret",
    "pulsar.token.jwt.secret_file",
    "pulsar.token.jwt.public_key_file",
    "pulsar.token.jwt.jwks_file",
    "pulsar.token.jwt.leeway_s",
    "pulsar.token.static.file",
    "pulsar.token.introspection.url",
    "pulsar.token.introspection.client_id",
    "pulsar.token.introspection.client_secret",
    "pulsar.token.introspection.client_secret_file",
    "pulsar.token.introspection.recheck_s",
    "pulsar.token.introspection.timeout_ms",
    "pulsar.token.introspection.concurrency_max",
    "pulsar.token.introspection.cache_s",
    "pulsar.token.introspection.grace_s",
    "pulsar.token.introspection.ca_file",
    "wazo.anonymous",
    "wazo.master_tenant_uuid",
    "wazo.ping_interval_s",
    "wazo.ping_misses_max",
    "wazo.message_bytes_max",
    "wazo.subscriptions_max",
    "wazo.token.jwt.algorithms",
    "wazo.token.jwt.secret",
    "wazo.token.jwt.secret_file",
    "wazo.token.jwt.public_key_file",
    "wazo.token.jwt.jwks_file",
    "wazo.token.jwt.leeway_s",
    "wazo.token.static.file",
    "wazo.token.wazo_auth.url",
    "wazo.token.wazo_auth.auth_check",
    "wazo.token.wazo_auth.auth_check_interval_s",
    "wazo.token.wazo_auth.timeout_ms",
    "wazo.token.wazo_auth.concurrency_max",
    "wazo.token.wazo_auth.cache_s",
    "wazo.token.wazo_auth.grace_s",
    "wazo.token.wazo_auth.ca_file",
];

/// The variables that are overrides, in order.
pub(super) fn overrides(environment: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut overrides: Vec<_> = environment
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX) && name != "FANFARE_TOKEN")
        .collect();
    overrides.sort();
    overrides
}

/// The key that an environment variable means.
pub(super) fn path_of(name: &str) -> Result<Vec<String>, ConfigError> {
    let wanted = name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase();
    let mut words: Vec<&str> = wanted.split('_').collect();
    let mut places = Vec::new();
    for word in words.iter_mut().skip(1) {
        if word.parse::<usize>().is_ok_and(|place| place < PLACES_MAX) {
            places.push(std::mem::replace(word, "0").to_owned());
        }
    }
    let wanted = words.join("_");
    let variable = |key: &str| key.replace('.', "_");
    match KEYS.iter().find(|key| variable(key) == wanted) {
        Some(key) => {
            let mut places = places.into_iter();
            let part = |part: &str| if part == "0" { places.next() } else { Some(part.to_owned()) };
            Ok(key.split('.').filter_map(part).collect())
        }
        None => {
            let near = nearest(
                &wanted,
                KEYS.iter().map(|key| variable(key)).collect::<Vec<_>>().iter().map(String::as_str),
            );
            let near = near
                .to_ascii_uppercase()
                .replace("DID YOU MEAN \"", &format!("did you mean \"{ENVIRONMENT_PREFIX}"));
            Err(ConfigError::Environment(format!("{name} is not a setting{near}")))
        }
    }
}

/// Numbers, booleans, lists and tables as TOML writes them, everything else as text.
pub(super) fn typed(value: &str) -> Value {
    let as_toml =
        toml::from_str::<Table>(&format!("value = {value}")).ok().and_then(|mut table| table.remove("value"));
    match as_toml {
        Some(typed @ (Value::Integer(_) | Value::Boolean(_) | Value::Array(_) | Value::Table(_))) => typed,
        _ => Value::String(value.into()),
    }
}

pub(super) fn put(table: &mut Table, path: &[String], value: Value) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    if let [place, rest @ ..] = rest
        && let Ok(place) = place.parse::<usize>()
    {
        let list = table.entry(first.clone()).or_insert_with(|| Value::Array(vec![]));
        if let Value::Array(list) = list {
            while list.len() <= place {
                list.push(Value::Table(Table::new()));
            }
            if let Value::Table(inner) = &mut list[place] {
                put(inner, rest, value);
            }
        }
        return;
    }
    let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        put(inner, rest, value);
    }
}
