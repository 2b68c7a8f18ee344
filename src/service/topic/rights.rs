//! What a connection may do with topics: three lists of globs of `TENANT/NAMESPACE/TOPIC`.
//!
//! Where rights come from is not known here.

use super::TopicName;
use crate::wildcard;
use serde::{Deserialize, Serialize};

/// Globs in one list. Statistics try each for every topic there is; a token that needs more names a namespace.
pub const GLOBS_MAX: usize = 100;
/// Longest glob, which is as long as the longest name of a topic.
const GLOB_BYTES_MAX: usize = 1024;

/// What is done with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Messages are sent to it.
    Produce,
    /// A subscription of it is consumed; its statistics are seen.
    Consume,
    /// It is read.
    Read,
}

/// What a connection may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    produce: Globs,
    consume: Globs,
    read: Globs,
}

/// Which topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Globs {
    All,
    Matching(Box<[Box<str>]>),
}

impl Rights {
    /// Everything with all topics.
    pub const ALL: Self = Self { produce: Globs::All, consume: Globs::All, read: Globs::All };

    /// What these globs name. What is no glob names nothing, and neither does a list of more than [`GLOBS_MAX`].
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

    /// Whether nothing is forbidden.
    #[must_use]
    pub fn are_all(&self) -> bool {
        *self == Self::ALL
    }

    /// Whether something may be done with a topic. A partition is as its topic.
    #[must_use]
    pub fn allow(&self, right: Right, topic: &TopicName) -> bool {
        let globs = self.of(right);
        globs.match_name(topic.short())
            || topic.whole().is_some_and(|whole| globs.match_name(whole))
    }

    /// Whether there can be topics of a namespace, told as `persistent://tenant/ns/`, that may be consumed.
    pub(super) fn reach(&self, namespace: &str) -> bool {
        self.consume.reach(namespace)
    }

    /// Whether messages may be given up into this topic: it is written then. The one that a subscription has of its own
    /// stands beside what may be consumed.
    pub(super) fn allow_dead_letters(&self, topic: Option<&TopicName>) -> bool {
        topic.is_none_or(|topic| self.allow(Right::Produce, topic))
    }

    /// Whether every topic of a namespace may be consumed, whatever it is called.
    pub(super) fn allow_namespace(&self, namespace: &str) -> bool {
        match &self.consume {
            Globs::All => true,
            // What matches without a name goes on to match with one if it ends in a star.
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
        if globs.len() > GLOBS_MAX { Self::Matching([].into()) } else { Self::Matching(globs) }
    }

    fn match_name(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Matching(globs) => globs.iter().any(|glob| matches(glob, name)),
        }
    }

    /// Whether there can be topics of a namespace, told as `persistent://tenant/ns/`, that match.
    fn reach(&self, namespace: &str) -> bool {
        let Self::Matching(globs) = self else { return true };
        let spaces = namespace.split_once("://").map_or(namespace, |(_, rest)| rest);
        let mut spaces = spaces.split('/');
        let (tenant, space) = (spaces.next().unwrap_or(""), spaces.next().unwrap_or(""));
        globs.iter().filter_map(|glob| parts(glob)).any(|[of_tenant, of_space, _]| {
            wildcard::matches(of_tenant, tenant) && wildcard::matches(of_space, space)
        })
    }
}

/// Whether a text is a glob of topics.
#[must_use]
pub fn is_glob(text: &str) -> bool {
    text.len() <= GLOB_BYTES_MAX && parts(text).is_some()
}

/// Tenant, namespace and the rest, which has slashes where the topic's own name has some. So have the names of the first
/// version of the API, with the cluster in the second place.
fn parts(glob: &str) -> Option<[&str; 3]> {
    let mut parts = glob.splitn(3, '/');
    let parts = [parts.next()?, parts.next()?, parts.next()?];
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

/// Whether a glob matches `tenant/namespace/topic`. A star of the first two parts does not reach over their slash: what
/// is granted of a namespace never grows by another.
fn matches(glob: &str, name: &str) -> bool {
    let mut names = name.splitn(3, '/');
    is_glob(glob)
        && parts(glob).is_some_and(|parts| {
            parts.iter().all(|part| names.next().is_some_and(|name| wildcard::matches(part, name)))
        })
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
