//! Why no messages come, and what whoever runs the daemon can do about it.
//!
//! What is said ends in logs, so the password is not in it.

use super::Redis;
use crate::feed::redis::RedisPlace;
use crate::text::excerpt;
use redis::{ErrorKind, RedisError};
use std::io;
use std::time::Duration;

/// Characters of a server's or a library's own words that are passed on.
pub(super) const WORDS_MAX: usize = 300;

/// Redis is given up when it has said nothing for so long, twice the interval.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(20);

/// What was being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RedisStep {
    /// Telling who we are.
    Login,
    /// Subscribing to a channel or a pattern.
    Subscribe(String),
    /// Publishing what clients say.
    Publish,
}

/// Why no messages come.
#[derive(Debug)]
pub(super) enum RedisFault {
    /// The server takes connections and says nothing.
    Mute,
    /// The server has said nothing for a long time.
    Silent,
    /// The connection has ended.
    Lost,
    /// The server sends more than can be taken.
    Flooded,
    /// There is no connection.
    Connect(io::Error),
    /// There is one, and no TLS.
    Tls(io::Error),
    /// Anything that the client reports.
    Redis(RedisStep, RedisError),
}

impl RedisFault {
    pub(super) fn at(step: RedisStep) -> impl FnOnce(RedisError) -> Self {
        move |error| Self::Redis(step, error)
    }

    /// What is wrong and what to do, in one line.
    pub(super) fn advice(&self, redis: &Redis) -> String {
        match self {
            Self::Mute => format!(
                "whoever listens there takes connections but says nothing: is it Redis, and does {} go to the right \
                 one of its ports (feed.redis.url)?",
                if redis.server.is_encrypted() { "rediss" } else { "redis" }
            ),
            Self::Silent => format!(
                "it has been silent for {} s: it hangs, or a network between lets nothing pass",
                SILENCE_MAX.as_secs()
            ),
            Self::Lost => {
                "it has ended the connection: it stops, an operator said so (CLIENT KILL), or this \
                           daemon was slower than its client-output-buffer-limit for pubsub allows"
                    .into()
            }
            Self::Flooded => {
                "it sends more at once than any message that is taken: see what is published".into()
            }
            Self::Connect(error) => unreachable(error, redis.server.place()),
            Self::Tls(error) => format!(
                "no TLS ({}): correct the host and port in feed.redis.url, or name whoever has signed the server's \
                 certificate in feed.redis.ca_file",
                excerpt(&error.to_string(), WORDS_MAX)
            ),
            Self::Redis(step, error) => refused(step, error, redis),
        }
    }
}

fn unreachable(error: &io::Error, place: &RedisPlace) -> String {
    let words = excerpt(&error.to_string(), WORDS_MAX);
    match (error.kind(), place) {
        (io::ErrorKind::ConnectionRefused, _) => {
            "nobody listens there: start Redis, or correct feed.redis.url".into()
        }
        (io::ErrorKind::NotFound, RedisPlace::Unix(_)) => {
            "there is no such socket: start Redis with `unixsocket`, or correct feed.redis.url".into()
        }
        (io::ErrorKind::PermissionDenied, RedisPlace::Unix(_)) => {
            "this daemon may not use the socket: make its user a member of the socket's group (for Debian's Redis, \
             `usermod -aG redis fanfare`) and let `unixsocketperm` be 770"
                .into()
        }
        (io::ErrorKind::TimedOut, _) => {
            "it cannot be reached: correct feed.redis.url, or let a firewall between pass it".into()
        }
        _ => format!("it cannot be reached ({words}): correct the host in feed.redis.url"),
    }
}

fn refused(step: &RedisStep, error: &RedisError, redis: &Redis) -> String {
    let mut words = excerpt(&error.to_string(), WORDS_MAX);
    // A server could say anything.
    if redis.server.login().password().is_some_and(|password| words.contains(password)) {
        words.clear();
    }
    let code = error.code().unwrap_or_default();
    match (step, error.kind()) {
        (_, ErrorKind::AuthenticationFailed) => "it refuses the user or the password: correct feed.redis.url, or \
                                                 see `ACL LIST` and `requirepass`; a Redis without passwords wants \
                                                 none"
            .into(),
        _ if code == "NOAUTH" => {
            "it wants a password (NOAUTH): write it in feed.redis.url, or better in the file of feed.redis.url_file"
                .into()
        }
        (RedisStep::Subscribe(channel), _) if code == "NOPERM" => format!(
            "the user may not subscribe to {channel:?}: `ACL SETUSER … +subscribe +psubscribe +ping &{channel}` \
             ({words})"
        ),
        _ if code == "LOADING" => "it still loads its data".into(),
        (RedisStep::Publish, _) => format!("it does not take what clients say any more ({words})"),
        (_, ErrorKind::Parse) => not_redis(&words),
        _ if error.is_io_error() => not_redis(&words),
        _ => format!("it refuses: {words}"),
    }
}

fn not_redis(words: &str) -> String {
    format!(
        "whoever listens there does not speak as Redis does, or ended the connection at once ({words}): is it \
         Redis, and is its port for TLS another one (feed.redis.url)?"
    )
}
