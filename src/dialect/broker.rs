//! Brokers' messages as dialects read them, and where a dialect's are found.

use super::fed::Unusable;
use smallvec::SmallVec;

/// A header's value, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmqpHeader<'a> {
    /// UTF-8.
    Text(&'a str),
    /// Yes or no.
    Bool(bool),
    /// Explicitly nothing.
    Null,
    /// Anything else.
    Other,
}

/// A message as the broker delivers it.
#[derive(Clone, Debug, Default)]
pub struct AmqpMessage<'a> {
    /// Names and values; names are unique.
    pub headers: SmallVec<[(&'a str, AmqpHeader<'a>); 12]>,
    /// The text for clients, byte for byte.
    pub body: &'a [u8],
    /// Whether its headers could not be read, and are missing here.
    pub is_refused: bool,
}

impl<'a> AmqpMessage<'a> {
    /// The value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<AmqpHeader<'a>> {
        self.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }

    /// The value of a header that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.get(name) {
            Some(AmqpHeader::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// Makes a feed line's event of what was published on a Redis channel under a prefix: prefix,
/// channel and payload go in. `None` when it is not for the dialect: other programs may publish
/// under the prefix.
pub type RedisCodec = fn(&str, &str, &[u8]) -> Result<Option<String>, Unusable>;

/// What a dialect does with the Redis of `[feed.redis]`.
#[derive(Clone, Debug)]
pub struct RedisUse {
    /// Itself as what Redis feeds, in words.
    pub feeds: &'static str,
    /// Where back ends publish its events, if configured.
    pub source: Option<RedisSource>,
    /// The key or table that is set and needs a Redis.
    pub needed_by: Option<&'static str>,
    /// The key by which daemons relay their clients' messages over it, if set.
    pub relay: Option<&'static str>,
}

/// Where back ends publish a dialect's events in Redis.
#[derive(Clone, Debug)]
pub struct RedisSource {
    /// The address that the events would have in a line of a feed.
    pub address: String,
    /// The channels of Redis.
    pub channels: RedisChannels,
}

/// A set of Redis channels.
#[derive(Clone, Debug)]
pub enum RedisChannels {
    /// The channel with this name after the feed's prefix. Its messages are like a feed line's
    /// events.
    Named(&'static str),
    /// All channels whose names begin so.
    Under(String, RedisCodec),
}

impl RedisSource {
    /// The Redis pattern to subscribe to, for channels under a prefix.
    #[must_use]
    pub fn pattern(&self) -> Option<String> {
        let RedisChannels::Under(prefix, _) = &self.channels else { return None };

        let mut pattern = String::with_capacity(prefix.len() + 1);
        for character in prefix.chars() {
            // Redis' glob characters; an application's name may contain them.
            if matches!(character, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        Some(pattern + "*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_taken_literally() {
        for (prefix, pattern) in [
            ("", "*"),
            ("laravel-database-", "laravel-database-*"),
            ("a*b?c[d]e\\f^g-", "a\\*b\\?c\\[d\\]e\\\\f^g-*"),
            ("é:", "é:*"),
        ] {
            let channels = RedisChannels::Under(prefix.into(), |_, _, _| Ok(None));
            let source = RedisSource { address: "a".into(), channels };
            assert_eq!(source.pattern().as_deref(), Some(pattern));
        }
    }
}
