//! What brokers have for dialects: a message as a dialect reads it, and where it is looked for.

use super::fed::Unusable;
use smallvec::SmallVec;

/// What a header says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmqpHeader<'a> {
    /// UTF-8.
    Text(&'a str),
    /// Yes or no.
    Bool(bool),
    /// Nothing, and says so.
    Null,
    /// Anything else.
    Other,
}

/// A message as the broker delivers it.
#[derive(Clone, Debug, Default)]
pub struct AmqpMessage<'a> {
    /// Names and values; a name comes once.
    pub headers: SmallVec<[(&'a str, AmqpHeader<'a>); 12]>,
    /// What clients get, byte for byte.
    pub body: &'a [u8],
    /// Whether its headers could not be read, so that there are none.
    pub is_refused: bool,
}

impl<'a> AmqpMessage<'a> {
    /// The value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<AmqpHeader<'a>> {
        self.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }

    /// The value of a header that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.get(name) {
            Some(AmqpHeader::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// Makes the line of a feed of what was published on a Redis channel under a prefix: prefix, channel and payload go in.
/// `None` when it is nothing for the dialect: others may publish under the same prefix.
pub type RedisCodec = fn(&str, &str, &[u8]) -> Result<Option<String>, Unusable>;

/// Where back ends publish the events of a dialect in Redis.
#[derive(Clone, Debug)]
pub struct RedisSource {
    /// The address that the events would have in a line of a feed.
    pub address: String,
    /// The channels of Redis.
    pub channels: RedisChannels,
}

/// Some channels of Redis.
#[derive(Clone, Debug)]
pub enum RedisChannels {
    /// The one that has this name behind the prefix of the feed. What is published there is as a line of a feed.
    Named(&'static str),
    /// All whose names begin so.
    Under(String, RedisCodec),
}

impl RedisSource {
    /// What to subscribe to, as a pattern of Redis, where it is all channels under a prefix.
    #[must_use]
    pub fn pattern(&self) -> Option<String> {
        let RedisChannels::Under(prefix, _) = &self.channels else { return None };
        let mut pattern = String::with_capacity(prefix.len() + 1);
        for character in prefix.chars() {
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
