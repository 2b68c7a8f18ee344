//! The Redis feed's settings, and the meaning of a message on one of its channels.
//!
//! Back ends publish on channels that begin with a prefix, each dialect's on those of its
//! [`RedisSource`]; on `<prefix>relay` daemons pass on messages of their own clients. A message
//! that cannot be used is refused, one that is not meant for this feed is ignored; Redis keeps
//! neither.
//!
//! No connections here: channels and bytes go in, publications come out.

mod node;
mod server;

pub use self::node::RelayNode;
pub use self::server::{RedisPlace, Server};

use super::{Intake, Rejection};
use crate::dialect::{Kind, Unusable};
use crate::dialect::{RedisChannels, RedisSource};
use crate::frame::Publication;
use crate::json::{self, DEPTH_MAX};
use crate::setting::Secret;
use crate::wheel::Now;
use schemars::JsonSchema;
use std::borrow::Cow;
use std::path::PathBuf;

/// Longest message, in bytes: as long as a line of the unix feed may be.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// The Redis that Laravel publishes on. Redis keeps nothing: what is published while it is away is
/// missed, and clients stay; meanwhile /readyz?dialect=channel (or echo) answers 503 and says why.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisFeedSettings {
    /// The server's URL; without it there is no feed. For TLS use rediss://, for a unix socket
    /// redis+unix:///run/redis/redis-server.sock, with a user in ?user=…&pass=… and the daemon's
    /// user in the socket's group. The user needs +subscribe, +psubscribe, +ping and
    /// &laravel-database-* of its ACL, and +publish for channel.relay.
    #[schemars(example = &"redis://fanfare:password@127.0.0.1:6379")]
    pub url: Option<Secret>,
    /// A file that holds the URL, which keeps the password out of this one.
    #[schemars(example = &"/etc/fanfare/redis.url")]
    pub url_file: Option<PathBuf>,
    /// What Laravel puts before the names of its channels: REDIS_PREFIX, or the slug of APP_NAME
    /// and "-database-" (in older releases "_database_").
    pub prefix: String,
    /// The authorities that may sign the server's certificate, in PEM, instead of the system's.
    #[schemars(example = &"/etc/fanfare/redis.pem")]
    pub ca_file: Option<PathBuf>,
}

impl Default for RedisFeedSettings {
    fn default() -> Self {
        Self { url: None, url_file: None, prefix: "laravel-database-".into(), ca_file: None }
    }
}

impl RedisFeedSettings {
    /// Settings that contradict each other or cannot work, each with what to do.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.url.is_some() && self.url_file.is_some() {
            problems.push("feed.redis: url and url_file are both set: keep one".into());
        }
        if self.prefix.len() > PREFIX_BYTES_MAX || self.prefix.contains(char::is_control) {
            problems.push(format!(
                "feed.redis.prefix: write the prefix of Laravel's Redis connection \
                 (REDIS_PREFIX, by default the slug of APP_NAME and \"-database-\"), at most \
                 {PREFIX_BYTES_MAX} bytes without control characters"
            ));
        }
        problems
    }
}

/// Longest prefix, in bytes: Redis sets no limit, and prefixes in use are far shorter.
const PREFIX_BYTES_MAX: usize = 256;

/// The name, after the prefix, of the channel on which daemons relay.
const RELAY: &str = "relay";

/// The Redis channels and patterns that are subscribed to.
#[derive(Clone, Debug, Default)]
pub struct RedisTopics {
    /// The prefix that Laravel puts before the names of its channels.
    pub prefix: String,
    /// Sources of the dialects' messages.
    pub sources: Vec<RedisSource>,
    /// The dialect whose clients' messages daemons relay to each other.
    pub relay: Option<Kind>,
}

/// A message as Redis delivers it.
#[derive(Clone, Copy, Debug)]
pub struct RedisMessage<'a> {
    /// The Redis channel on which it was published.
    pub channel: &'a str,
    /// Whether it was delivered for a pattern. A channel under both comes twice.
    pub by_pattern: bool,
    /// The published text.
    pub payload: &'a [u8],
}

/// The outcome of a message.
#[derive(Debug)]
pub enum RedisTaken {
    /// To be delivered.
    Publication(Publication),
    /// Valid, and no listener speaks its dialect.
    NoListener,
    /// Not for this feed.
    Ignored,
    /// This daemon's own.
    Own,
}

impl RedisTopics {
    /// The Redis channel on which daemons relay.
    #[must_use]
    pub fn relays(&self) -> String {
        format!("{}{RELAY}", self.prefix)
    }

    /// The Redis channels to subscribe to.
    #[must_use]
    pub fn channels(&self) -> Vec<String> {
        let named = self.sources.iter().filter_map(|source| match source.channels {
            RedisChannels::Named(name) => Some(format!("{}{name}", self.prefix)),
            RedisChannels::Under(..) => None,
        });
        named.chain(self.relay.map(|_| self.relays())).collect()
    }

    /// The patterns to subscribe to.
    #[must_use]
    pub fn patterns(&self) -> Vec<String> {
        self.sources.iter().filter_map(RedisSource::pattern).collect()
    }

    /// The dialects that may get messages from here.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        let fed = self.sources.iter().filter_map(|source| Kind::of_address(&source.address));
        let mut kinds: Vec<Kind> = fed.chain(self.relay).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it is for this feed and cannot be used; the reason is for the log.
    pub fn take(
        &self,
        message: &RedisMessage<'_>,
        node: &RelayNode,
        intake: &mut Intake,
        now: Now,
    ) -> Result<RedisTaken, Rejection> {
        let RedisMessage { channel, by_pattern, payload } = *message;
        // A message that matches a pattern as well comes twice; only the plain one is the relay's.
        let name = channel.strip_prefix(&self.prefix).unwrap_or_default();
        let relay = self.relay.filter(|_| !by_pattern && name == RELAY);
        // Redis delivers to the publisher too, which has served its own clients already.
        if relay.is_some() && node.is_own(payload) {
            return Ok(RedisTaken::Own);
        }
        // After that check, so that a daemon does not complain about its own messages.
        if payload.len() > PAYLOAD_BYTES_MAX {
            let bytes = payload.len();
            let reason =
                format!("the message has {bytes} bytes; at most {PAYLOAD_BYTES_MAX} are taken");
            return Err(Unusable(reason).into());
        }
        if let Some(kind) = relay {
            let taken = intake.take_relay(kind, payload, now)?;
            return Ok(taken.map_or(RedisTaken::NoListener, RedisTaken::Publication));
        }

        let line = if by_pattern {
            self.rewritten(channel, payload)?
        } else {
            self.named(name).map(|address| (address, Cow::Borrowed(payload)))
        };
        let Some((address, event)) = line else { return Ok(RedisTaken::Ignored) };

        let mut taken = None;
        intake.take(address, &event, now, &mut |publication| taken = Some(publication))?;
        Ok(taken.map_or(RedisTaken::NoListener, RedisTaken::Publication))
    }

    /// The address of what is published on the channel with this name behind the prefix.
    fn named(&self, name: &str) -> Option<&str> {
        // Ends of other dialects' channels may look alike, so a name is compared as a whole.
        let source = self
            .sources
            .iter()
            .find(|it| matches!(it.channels, RedisChannels::Named(own) if own == name))?;
        Some(&source.address)
    }

    /// The feed line that a message comes to for the first source that takes it: its address and
    /// event.
    fn rewritten<'a>(
        &self,
        channel: &str,
        payload: &'a [u8],
    ) -> Result<Option<FeedLine<'_, 'a>>, Unusable> {
        for RedisSource { address, channels } in &self.sources {
            let RedisChannels::Under(prefix, codec) = channels else { continue };
            let Some(event) = codec(prefix, channel, payload)? else { continue };
            // After the codec, which knows foreign messages by their outside: those are no errors.
            if !json::is_shallow(payload) {
                return Err(Unusable(format!("nested deeper than {DEPTH_MAX}")));
            }
            return Ok(Some((address, Cow::Owned(event.into_bytes()))));
        }
        Ok(None)
    }
}

/// The address and the event of a feed line.
type FeedLine<'s, 'p> = (&'s str, Cow<'p, [u8]>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Settings;
    use std::sync::Arc;

    fn topics() -> RedisTopics {
        let mut settings = Settings::default();
        let redis = settings.echo.redis.get_or_insert_default();
        (redis.app, redis.prefix) = ("app".into(), "p-".into());
        let sources = settings.tables().filter_map(|table| table.redis()?.source).collect();
        RedisTopics { prefix: "p-".into(), sources, relay: Kind::named("channel") }
    }

    /// What a message comes to when nobody speaks anything.
    fn take(channel: &str, by_pattern: bool, payload: &[u8]) -> Result<&'static str, String> {
        let message = RedisMessage { channel, by_pattern, payload };
        let node = RelayNode::new([7; 16]);
        match topics().take(
            &message,
            &node,
            &mut Intake::new(vec![], Arc::default()),
            Now::default(),
        ) {
            Ok(RedisTaken::Publication(_)) => Ok("publication"),
            Ok(RedisTaken::NoListener) => Ok("no_listener"),
            Ok(RedisTaken::Ignored) => Ok("ignored"),
            Ok(RedisTaken::Own) => Ok("own"),
            Err(rejection) => Err(rejection.to_string()),
        }
    }

    #[test]
    fn only_what_is_wanted_is_subscribed_to() {
        assert_eq!(topics().channels(), ["p-broadcast", "p-relay"]);
        assert_eq!(topics().patterns(), ["p-*"]);
        assert_eq!(RedisTopics { relay: None, ..topics() }.channels(), ["p-broadcast"]);
        assert_eq!(
            RedisTopics { sources: vec![], relay: None, ..topics() }.channels(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_channel_says_whom_a_message_is_for() {
        let (of_channel, of_echo) =
            (br#"{"channel":"c","data":{}}"#, br#"{"event":"e","data":{}}"#);
        assert_eq!(take("p-broadcast", false, of_channel), Ok("no_listener"));
        let of_client = br#"{"node":"n","channel":"c","sender":{},"data":{}}"#;
        assert_eq!(take("p-relay", false, of_client), Ok("no_listener"));
        // Under a pattern the same messages come once more, for whoever they are not.
        assert_eq!(take("p-broadcast", true, of_channel), Ok("ignored"));
        assert_eq!(take("p-relay", true, of_channel), Ok("ignored"));
        assert_eq!(take("p-orders", true, of_echo), Ok("no_listener"));
        assert_eq!(take("p-orders", true, b"no JSON"), Ok("ignored"));
        let own = RelayNode::new([7; 16]).sign("{\"channel\":\"c\"}").unwrap();
        assert_eq!(take("p-relay", false, own.as_bytes()), Ok("own"));
    }

    #[test]
    fn what_may_be_another_applications_private_event_is_refused() {
        let event = br#"{"event":"e","data":{}}"#;
        assert_eq!(take("p-private-x", true, event), Ok("no_listener"));
        assert!(take("p-staging-private-x", true, event).unwrap_err().contains("longer prefix"));
    }

    #[test]
    fn what_is_garbage_too_long_or_too_deep_is_refused() {
        let long = vec![b' '; PAYLOAD_BYTES_MAX + 1];
        for (channel, no_json, no_object) in [
            ("p-broadcast", "not valid JSON", "not an object"),
            ("p-relay", "not a JSON object", "not a JSON object"),
        ] {
            assert!(take(channel, false, b"no JSON").unwrap_err().contains(no_json));
            assert!(take(channel, false, b"[]").unwrap_err().contains(no_object));
            assert!(take(channel, false, &long).unwrap_err().contains("at most 1048576 are taken"));
        }
        assert!(take("p-x", true, &long).unwrap_err().contains("at most 1048576 are taken"));
        let nested = |levels: usize| {
            let (open, close) = ("[".repeat(levels - 2), "]".repeat(levels - 2));
            format!("{{\"event\":\"e\",\"data\":{{\"x\":{open}{close},\"y\":\"[[\\\"[\"}}}}")
        };
        assert_eq!(take("p-x", true, nested(DEPTH_MAX).as_bytes()), Ok("no_listener"));
        let deep = nested(DEPTH_MAX + 1);
        assert_eq!(take("p-x", true, deep.as_bytes()), Err("nested deeper than 128".into()));
        for channel in ["p-broadcast", "p-relay"] {
            assert!(
                take(channel, false, deep.as_bytes())
                    .unwrap_err()
                    .contains("nested deeper than 128")
            );
        }
    }

    #[test]
    fn what_cannot_run_is_told_with_what_to_do() {
        assert_eq!(RedisFeedSettings::default().problems(), Vec::<String>::new());
        assert_eq!(
            RedisFeedSettings { prefix: String::new(), ..RedisFeedSettings::default() }.problems(),
            Vec::<String>::new()
        );
        let both = RedisFeedSettings {
            url: Some(Secret("redis://host".into())),
            url_file: Some("file".into()),
            prefix: "a\nb".into(),
            ..RedisFeedSettings::default()
        };
        let problems = both.problems();
        assert!(
            problems[0].contains("keep one") && problems[1].contains("REDIS_PREFIX"),
            "{problems:?}"
        );
    }

    #[test]
    fn an_address_is_not_shown() {
        let settings = RedisFeedSettings {
            url: Some(Secret("redis://:hunter2@host".into())),
            ..RedisFeedSettings::default()
        };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
