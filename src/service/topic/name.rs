//! The full name of a topic: `persistent://tenant/namespace/topic`, or the old form with a cluster,
//! `persistent://property/cluster/namespace/topic`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Limit on a part of a name, in bytes: that of a file name on Linux, a familiar bound.
const PART_BYTES_MAX: usize = 255;
/// Limit on a name, in bytes: names are keys in the archive and part of every statistic.
const NAME_BYTES_MAX: usize = 1024;

/// Whether a topic's messages are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicDomain {
    /// Messages are stored.
    Persistent,
    /// Messages are not stored: absent consumers miss them.
    NonPersistent,
}

impl TopicDomain {
    /// The scheme of the names.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Persistent => "persistent",
            Self::NonPersistent => "non-persistent",
        }
    }

    /// The domain with this scheme.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::Persistent, Self::NonPersistent].into_iter().find(|domain| domain.word() == word)
    }
}

/// Why a text is not a topic name, addressed to its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub &'static str);

/// A valid topic name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

impl TryFrom<String> for TopicName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::read(&text)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.as_str().into()
    }
}

impl TopicName {
    /// The topic of a domain and decoded parts: three, or four with a cluster.
    ///
    /// # Errors
    /// Describes what is wrong with the parts.
    pub fn of(domain: TopicDomain, parts: &[&str]) -> Result<Self, NameError> {
        if !(3..=4).contains(&parts.len()) {
            return Err(NameError(
                "a topic is tenant/namespace/topic, or property/cluster/namespace/topic",
            ));
        }
        let (topic, spaces) = parts.split_last().unwrap_or((&"", &[]));
        for part in parts {
            check(part)?;
        }
        let mut space_bytes = spaces.iter().flat_map(|part| part.bytes());
        if !space_bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-=:._".contains(&byte)) {
            return Err(NameError(
                "tenant, cluster and namespace may contain letters, digits and -=:._",
            ));
        }
        if topic.split('/').any(|part| check(part).is_err()) {
            return Err(NameError("a topic may not contain empty parts or \"..\""));
        }
        let name = format!("{}://{}", domain.word(), parts.join("/"));
        if name.len() > NAME_BYTES_MAX {
            return Err(NameError("the name of a topic may have at most 1024 bytes"));
        }
        Ok(Self(name.into()))
    }

    /// Parses a full name.
    ///
    /// # Errors
    /// Describes what is wrong with it.
    pub fn read(text: &str) -> Result<Self, NameError> {
        let (word, rest) =
            text.split_once("://").ok_or(NameError("write persistent://tenant/namespace/topic"))?;
        let domain = TopicDomain::named(word)
            .ok_or(NameError("a topic is persistent:// or non-persistent://"))?;
        let parts: Vec<&str> = rest.splitn(4, '/').collect();
        Self::of(domain, &parts)
    }

    /// The full name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its messages are stored.
    #[must_use]
    pub fn domain(&self) -> TopicDomain {
        if self.0.starts_with("persistent") {
            TopicDomain::Persistent
        } else {
            TopicDomain::NonPersistent
        }
    }

    /// The part between `://` and the topic's own name: `tenant/namespace`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let start = self.domain().word().len() + 3;
        let end = self.0.rfind('/').unwrap_or(self.0.len());
        &self.0[start.min(end)..end]
    }

    /// The part after `://`: `tenant/namespace/topic`.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.split_once("://").map_or(&self.0, |(_, short)| short)
    }

    /// The [`TopicName::short`] of a partition's topic; `None` for other topics.
    #[must_use]
    pub fn whole(&self) -> Option<&str> {
        self.partition_number()?;
        self.short().rsplit_once("-partition-").map(|(whole, _)| whole)
    }

    /// The topic of a partition; `None` for other topics.
    pub(super) fn without_partition(&self) -> Option<Self> {
        self.partition_number()?;
        self.0.rsplit_once("-partition-").map(|(whole, _)| Self(whole.into()))
    }

    /// The name of one of its partitions.
    #[must_use]
    pub fn partition(&self, number: u32) -> Self {
        Self(format!("{}-partition-{number}", self.0).into())
    }

    /// The number of a partition; `None` for other topics.
    #[must_use]
    pub fn partition_number(&self) -> Option<u32> {
        let (_, number) = self.0.rsplit_once("-partition-")?;
        number.parse().ok().filter(|parsed: &u32| parsed.to_string() == number)
    }

    /// The dead-letter topic of one of its subscriptions.
    #[must_use]
    pub fn dead_letters(&self, subscription: &str) -> Self {
        Self(format!("{}-{subscription}-DLQ", self.0).into())
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

fn check(part: &str) -> Result<(), NameError> {
    match part {
        "" => Err(NameError("no part of a topic's name may be empty")),
        "." | ".." => Err(NameError("no part of a topic's name may be \".\" or \"..\"")),
        _ if part.len() > PART_BYTES_MAX => {
            Err(NameError("no part of a topic's name may have more than 255 bytes"))
        }
        _ if part.chars().any(char::is_control) => {
            Err(NameError("a topic's name may not contain control characters"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_three_parts_or_four_with_a_cluster() {
        let name = TopicName::read("persistent://tenant/ns/topic").unwrap();
        assert_eq!((name.domain(), name.namespace()), (TopicDomain::Persistent, "tenant/ns"));
        assert_eq!(name.partition(3).partition_number(), Some(3));
        assert_eq!(name.partition_number(), None);
        assert_eq!((name.short(), name.whole()), ("tenant/ns/topic", None));
        assert_eq!(name.partition(3).whole(), Some("tenant/ns/topic"));
        assert_eq!(name.dead_letters("sub").as_str(), "persistent://tenant/ns/topic-sub-DLQ");
        let old = TopicName::read("non-persistent://property/us-west/ns/topic").unwrap();
        assert_eq!(
            (old.domain(), old.namespace()),
            (TopicDomain::NonPersistent, "property/us-west/ns")
        );
    }

    #[test]
    fn odd_names_are_refused() {
        let long = format!("persistent://t/n/{}", "x".repeat(256));
        for bad in [
            "topic",
            "other://t/n/x",
            "persistent://t/n",
            "persistent://t/n/",
            "persistent://t//x",
            "persistent://t/../x",
            "persistent://t/n/..",
            "persistent://t/n/a\0b",
            "persistent://t é/n/x",
            &long,
        ] {
            assert!(TopicName::read(bad).is_err(), "{bad}");
        }
        assert!(TopicName::read("persistent://t/n/été").is_ok());
    }
}
