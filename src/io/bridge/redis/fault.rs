//! Why no messages come, and what the operator can do about it.
//!
//! All texts end in logs, so none contains the password.

use super::Redis;
use crate::feed::redis::RedisPlace;
use crate::text::excerpt;
use redis::{ErrorKind, RedisError};
use std::io;
use std::time::Duration;

/// Characters quoted from a server's or the library's messages.
pub(super) const WORDS_MAX: usize = 300;

/// Redis is given up after this much silence, twice the ping interval.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(20);

/// The step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RedisStep {
    /// Logging in.
    Login,
    /// Subscribing to a channel or a pattern.
    Subscribe(String),
    /// Publishing clients' messages.
    Publish,
}

/// Why no messages come.
#[derive(Debug)]
pub(super) enum RedisFault {
    /// The server accepts connections and sends nothing.
    Mute,
    /// The server has been silent for a long time.
    Silent,
    /// The connection has ended.
    Lost,
    /// The server sends more than can be taken.
    Flooded,
    /// There is no connection.
    Connect(io::Error),
    /// There is a connection, but no TLS.
    Tls(io::Error),
    /// Any error of the client.
    Redis(RedisStep, RedisError),
}

impl RedisFault {
    pub(super) fn at(step: RedisStep) -> impl FnOnce(RedisError) -> Self {
        move |error| Self::Redis(step, error)
    }

    /// The problem and what to do, in one line.
    pub(super) fn advice(&self, redis: &Redis) -> String {
        match self {
            Self::Mute => format!(
                "it accepts connections but sends nothing: is it Redis, and is {} right for this \
                 port (feed.redis.url)?",
                if redis.server.is_encrypted() { "rediss" } else { "redis" }
            ),
            Self::Silent => format!(
                "it has been silent for {} s: it hangs, or the network in between has failed",
                SILENCE_MAX.as_secs()
            ),
            Self::Lost => {
                "it has closed the connection: it stops, an operator did it (CLIENT KILL), or \
                 this daemon was slower than its client-output-buffer-limit for pubsub allows"
                    .into()
            }
            Self::Flooded => {
                "it sends more at once than the longest message allowed: check what is published"
                    .into()
            }
            Self::Connect(error) => unreachable(error, redis.server.place()),
            Self::Tls(error) => format!(
                "no TLS ({}): correct the host and port in feed.redis.url, or set \
                 feed.redis.ca_file to the certificate of the authority that signed the server's",
                excerpt(&error.to_string(), WORDS_MAX)
            ),
            Self::Redis(step, error) => refused(step, error, redis),
        }
    }
}

fn unreachable(error: &io::Error, place: &RedisPlace) -> String {
    // By kind and place: a socket's file has other causes than a host.
    let words = excerpt(&error.to_string(), WORDS_MAX);
    match (error.kind(), place) {
        (io::ErrorKind::ConnectionRefused, _) => {
            "nothing listens there: start Redis, or correct feed.redis.url".into()
        }
        (io::ErrorKind::NotFound, RedisPlace::Unix(_)) => {
            "there is no such socket: start Redis with `unixsocket`, or correct feed.redis.url"
                .into()
        }
        (io::ErrorKind::PermissionDenied, RedisPlace::Unix(_)) => {
            "this daemon may not use the socket: add its user to the socket's group (for \
             Debian's Redis, `usermod -aG redis fanfare`) and set `unixsocketperm` to 770"
                .into()
        }
        (io::ErrorKind::TimedOut, _) => {
            "it cannot be reached: correct feed.redis.url, or open the firewall for it".into()
        }
        _ => format!("it cannot be reached ({words}): correct the host in feed.redis.url"),
    }
}

fn refused(step: &RedisStep, error: &RedisError, redis: &Redis) -> String {
    let mut words = excerpt(&error.to_string(), WORDS_MAX);
    // A server could quote anything.
    if redis.server.login().password().is_some_and(|password| words.contains(password)) {
        words.clear();
    }

    let code = error.code().unwrap_or_default();
    // Codes before kinds: the client knows only some of the codes as kinds.
    match (step, error.kind()) {
        (_, ErrorKind::AuthenticationFailed) => "it refuses the user or the password: correct \
                                         feed.redis.url, or see `ACL LIST` and `requirepass`; a \
                                         Redis without passwords accepts none"
            .into(),
        _ if code == "NOAUTH" => {
            "it requires a password (NOAUTH): add it to feed.redis.url, or better to the file of \
             feed.redis.url_file"
                .into()
        }
        (RedisStep::Subscribe(channel), _) if code == "NOPERM" => format!(
            "the user may not subscribe to {channel:?}: `ACL SETUSER … +subscribe +psubscribe \
             +ping &{channel}` ({words})"
        ),
        _ if code == "LOADING" => "it is still loading its data".into(),
        (RedisStep::Publish, _) => format!("it no longer accepts relayed messages ({words})"),
        // An HTTP server, or TLS spoken to in plain text.
        (_, ErrorKind::Parse) => not_redis(&words),
        _ if error.is_io_error() => not_redis(&words),
        _ => format!("it refuses: {words}"),
    }
}

fn not_redis(words: &str) -> String {
    format!(
        "it does not speak the Redis protocol, or closed the connection at once ({words}): is it \
         Redis, or does TLS have another port (feed.redis.url)?"
    )
}
