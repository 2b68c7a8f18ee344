//! A connection's rights to topics: three lists of globs for `TENANT/NAMESPACE/TOPIC`.
//!
//! This file does not know where rights come from.

use super::TopicName;
use crate::wildcard;
use serde::{Deserialize, Serialize};

/// Limit on the globs of one list. Statistics test each against every topic; a token that needs
/// more should name a namespace.
pub const GLOBS_MAX: usize = 100;
/// Limit on a glob, in bytes: that of a topic's name.
const GLOB_BYTES_MAX: usize = 1024;

/// A kind of access to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Publish messages.
    Produce,
    /// Consume a subscription, and see the statistics.
    Consume,
    /// Read without a subscription.
    Read,
}

/// The rights of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    produce: Globs,
    consume: Globs,
    read: Globs,
}

/// A set of topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Globs {
    All,
    Matching(Box<[Box<str>]>),
}

impl Rights {
    /// Full access to all topics.
    pub const ALL: Self = Self { produce: Globs::All, consume: Globs::All, read: Globs::All };

    /// The rights to topics matching these globs. An invalid glob matches nothing, and so does a
    /// list longer than [`GLOBS_MAX`].
    ///
    /// ```
    /// use fanfare::service::topic::{Right, Rights, TopicName};
    ///
    /// let rights = Rights::new(["acme/orders/*"], [], []);
    /// let topic = TopicName::read("persistent://acme/orders/eu/new").unwrap();
    /// assert!(rights.allow(Right::Produce, &topic) && !rights.allow(Right::Consume, &topic));
    /// ```
    pub fn new<'a>(
        produce: impl IntoIterator<Item = &'a str>,
        consume: impl IntoIterator<Item = &'a str>,
        read: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self {
            produce: Globs::new(produce.into_iter()),
            consume: Globs::new(consume.into_iter()),
            read: Globs::new(read.into_iter()),
        }
    }

    /// Whether they are unrestricted.
    #[must_use]
    pub fn are_all(&self) -> bool {
        *self == Self::ALL
    }

    /// Whether they allow a kind of access to a topic. A partition is allowed if its whole is.
    #[must_use]
    pub fn allow(&self, right: Right, topic: &TopicName) -> bool {
        let globs = self.of(right);
        globs.match_name(topic.short())
            || topic.whole().is_some_and(|whole| globs.match_name(whole))
    }

    /// Whether they may allow consuming any topic of a namespace, given as
    /// `persistent://tenant/ns/`.
    pub(super) fn reach(&self, namespace: &str) -> bool {
        self.consume.reach(namespace)
    }

    /// Whether they allow a dead-letter topic: it is written to. A subscription's default one needs
    /// no right of its own.
    pub(super) fn allow_dead_letters(&self, topic: Option<&TopicName>) -> bool {
        topic.is_none_or(|topic| self.allow(Right::Produce, topic))
    }

    /// Whether they allow consuming every topic of a namespace, whatever its name.
    pub(super) fn allow_namespace(&self, namespace: &str) -> bool {
        match &self.consume {
            Globs::All => true,
            // A glob that matches the empty name and ends in a star matches any name.
            Globs::Matching(globs) => {
                let empty = format!("{namespace}/");
                globs.iter().any(|glob| glob.ends_with('*') && matches(glob, &empty))
            }
        }
    }

    fn of(&self, right: Right) -> &Globs {
        match right {
            Right::Produce => &self.produce,
            Right::Consume => &self.consume,
            Right::Read => &self.read,
        }
    }
}

impl Globs {
    fn new<'a>(globs: impl Iterator<Item = &'a str>) -> Self {
        let globs: Box<[Box<str>]> = globs.take(GLOBS_MAX + 1).map(Box::from).collect();
        // Too long a list grants nothing, rather than what happens to be listed first.
        if globs.len() > GLOBS_MAX { Self::Matching([].into()) } else { Self::Matching(globs) }
    }

    fn match_name(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Matching(globs) => globs.iter().any(|glob| matches(glob, name)),
        }
    }

    /// Whether any topic of a namespace, given as `persistent://tenant/ns/`, may match.
    fn reach(&self, namespace: &str) -> bool {
        let Self::Matching(globs) = self else { return true };
        let spaces = namespace.split_once("://").map_or(namespace, |(_, rest)| rest);
        let mut spaces = spaces.split('/');
        let (tenant, space) = (spaces.next().unwrap_or(""), spaces.next().unwrap_or(""));
        globs.iter().filter_map(|glob| wildcard::parts(glob)).any(|[of_tenant, of_space, _]| {
            wildcard::matches(of_tenant, tenant) && wildcard::matches(of_space, space)
        })
    }
}

/// Whether a text is a valid glob for topics.
#[must_use]
pub fn is_glob(text: &str) -> bool {
    text.len() <= GLOB_BYTES_MAX && wildcard::parts(text).is_some()
}

/// Whether a glob matches `tenant/namespace/topic`. The last part contains slashes if the topic's
/// own name does, or if it is in the old form with a cluster in second place.
fn matches(glob: &str, name: &str) -> bool {
    glob.len() <= GLOB_BYTES_MAX && wildcard::match_parts(glob, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::read(name).unwrap()
    }

    fn consumer_of(globs: &[&'static str]) -> Rights {
        Rights::new([], globs.iter().copied(), [])
    }

    #[test]
    fn a_star_stays_in_its_tenant_and_namespace_and_reaches_over_the_slashes_of_a_topic() {
        for (glob, name, expected) in [
            ("t/n/x", "persistent://t/n/x", true),
            ("t/n/x", "non-persistent://t/n/x", true),
            ("t/n/x", "persistent://t/n/xy", false),
            ("t/n/*", "persistent://t/n/x", true),
            ("t/n/*", "persistent://t/n/a/b", true),
            ("t/n/*", "persistent://t/m/x", false),
            ("t/n/a*", "persistent://t/n/b", false),
            ("t/*/x", "persistent://t/n/x", true),
            ("*/*/*", "persistent://t/n/x", true),
            ("t*/n/x", "persistent://t1/n/x", true),
            ("t/n/x", "persistent://t/n/x-partition-3", true),
            ("t/n/x-partition-3", "persistent://t/n/x-partition-3", true),
            ("t/n/x-partition-3", "persistent://t/n/x-partition-4", false),
            // The first version's names, with a cluster.
            ("p/c/n/x", "persistent://p/c/n/x", true),
            ("p/c/*", "persistent://p/c/n/x", true),
            ("p/n/x", "persistent://p/c/n/x", false),
            // None of these is a glob of topics.
            ("*", "persistent://t/n/x", false),
            ("t/*", "persistent://t/n/x", false),
            ("t//x", "persistent://t/n/x", false),
            ("t/n/", "persistent://t/n/x", false),
            ("persistent://t/n/*", "persistent://t/n/x", false),
            ("", "persistent://t/n/x", false),
        ] {
            let rights = consumer_of(&[glob]);
            assert_eq!(rights.allow(Right::Consume, &topic(name)), expected, "{glob} {name}");
            assert!(
                !rights.allow(Right::Produce, &topic(name))
                    && !rights.allow(Right::Read, &topic(name))
            );
        }
        assert!(Rights::ALL.allow(Right::Produce, &topic("persistent://t/n/x")));
    }

    #[test]
    fn too_many_globs_and_too_long_ones_open_nothing() {
        let all = |count: usize| Rights::new([], std::iter::repeat_n("t/n/*", count), []);
        assert!(all(GLOBS_MAX).allow(Right::Consume, &topic("persistent://t/n/x")));
        assert!(!all(GLOBS_MAX + 1).allow(Right::Consume, &topic("persistent://t/n/x")));
        let long = format!("t/n/{}", "*".repeat(GLOB_BYTES_MAX));
        assert!(!Rights::new([], [&*long], []).allow(Right::Consume, &topic("persistent://t/n/x")));
    }

    #[test]
    fn a_namespace_is_open_when_all_its_topics_are() {
        for (glob, namespace, expected) in [
            ("t/n/*", "t/n", true),
            ("t/*/*", "t/n", true),
            ("t/n/a*", "t/n", false),
            ("t/n/*a", "t/n", false),
            ("t/n/*", "t/m", false),
            ("p/c/*", "p/c/n", true),
            ("p/c/n/*", "p/c/n", true),
            ("p/c/m/*", "p/c/n", false),
        ] {
            assert_eq!(
                consumer_of(&[glob]).allow_namespace(namespace),
                expected,
                "{glob} {namespace}"
            );
        }
    }
}
