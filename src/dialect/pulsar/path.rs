//! The paths of the API: `/ws/…` of the first version, `/ws/v2/…`, `/ws/v3/…`, and those of the
//! statistics.

use crate::service::topic::{TopicDomain, TopicName};
use percent_encoding::percent_decode;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Longest subscription name, in bytes: as long as a part of a topic's name.
const SUBSCRIPTION_BYTES_MAX: usize = 255;

/// The version of the API of a path; it determines the form of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ApiVersion {
    /// That of 2016.
    First,
    /// All since.
    Later,
}

/// The role and topic that a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PulsarEndpoint {
    /// A connection that only answers pings.
    PingPong,
    /// A producer of this topic.
    Producer(TopicName),
    /// A consumer of this topic, by this subscription.
    Consumer(TopicName, String),
    /// A consumer of the topics that the query names, by this subscription.
    Several(String),
    /// A reader of this topic.
    Reader(TopicName),
}

/// Why a path is invalid.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PathError {
    /// The path itself.
    Malformed(&'static str),
    /// Its subscription.
    Subscription(&'static str),
}

/// Reads the path of a WebSocket; `None` for one outside this API.
pub(super) fn read(path: &str) -> Option<(ApiVersion, Result<PulsarEndpoint, PathError>)> {
    let parts: Vec<&str> = path.strip_prefix("/ws/")?.split('/').collect();
    Some(match parts[..] {
        ["pingpong"] => (ApiVersion::First, Ok(PulsarEndpoint::PingPong)),
        ["v2", "pingpong"] => (ApiVersion::Later, Ok(PulsarEndpoint::PingPong)),
        ["v2", role, ref rest @ ..] => (ApiVersion::Later, endpoint(role, rest, 2)),
        ["v3", "consumer", subscription] => {
            (ApiVersion::Later, subscription_of(subscription).map(PulsarEndpoint::Several))
        }
        ["v3", ..] => (
            ApiVersion::Later,
            Err(PathError::Malformed("the path is /ws/v3/consumer/SUBSCRIPTION")),
        ),
        // The names of the roles keep other dialects' paths below /ws/ out.
        [role @ ("producer" | "consumer" | "reader"), ref rest @ ..] => {
            (ApiVersion::First, endpoint(role, rest, 3))
        }
        // It may be another dialect's.
        _ => return None,
    })
}

const SHAPE: &str = "the path is /ws/v2/producer, consumer or reader, then \
                     /persistent/TENANT/NAMESPACE/TOPIC, and /SUBSCRIPTION";

/// The endpoint of a role and the rest of a path, with this many parts before the topic's own name.
fn endpoint(role: &str, rest: &[&str], spaces: usize) -> Result<PulsarEndpoint, PathError> {
    let (topic, subscription) = match (role, rest) {
        // Exactly these parts: a topic with a slash could not be told from a subscription.
        ("consumer", [topic @ .., subscription]) if topic.len() == spaces + 2 => {
            (topic, Some(subscription))
        }
        ("producer" | "reader", topic) if topic.len() >= spaces + 2 => (topic, None),
        _ => return Err(PathError::Malformed(SHAPE)),
    };
    let topic = topic_of(topic, spaces).map_err(PathError::Malformed)?;
    Ok(match (role, subscription) {
        (_, Some(subscription)) => PulsarEndpoint::Consumer(topic, subscription_of(subscription)?),
        ("producer", _) => PulsarEndpoint::Producer(topic),
        _ => PulsarEndpoint::Reader(topic),
    })
}

/// The topic of a domain, a number of spaces and the rest, which may have slashes.
fn topic_of(parts: &[&str], spaces: usize) -> Result<TopicName, &'static str> {
    let (domain, parts) = parts.split_first().ok_or(SHAPE)?;
    let domain = TopicDomain::named(domain).ok_or("the domain is persistent or non-persistent")?;
    let (spaces, own) = parts.split_at_checked(spaces).ok_or(SHAPE)?;
    let mut own = own.iter().enumerate();
    let mut name = String::new();
    // The reference drops empty parts within a topic's name, but not its first.
    for (at, part) in own.by_ref().filter(|(at, part)| *at == 0 || !part.is_empty()) {
        name.push_str(if at == 0 { "" } else { "/" });
        name.push_str(part);
    }
    let name = decoded(&name).ok_or("the name of the topic is not UTF-8 in percent-encoding")?;
    let parts: Vec<&str> = spaces.iter().copied().chain([&*name]).collect();
    TopicName::of(domain, &parts).map_err(|error| error.0)
}

fn subscription_of(part: &str) -> Result<String, PathError> {
    let name = decoded(part)
        .ok_or(PathError::Subscription("the name of the subscription is not UTF-8"))?;
    match &*name {
        "" => Err(PathError::Subscription("Empty subscription name")),
        name if name.len() > SUBSCRIPTION_BYTES_MAX => {
            Err(PathError::Subscription("the name of the subscription has more than 255 bytes"))
        }
        name if name.chars().any(char::is_control) => {
            Err(PathError::Subscription("the name of the subscription has control characters"))
        }
        name => Ok(name.into()),
    }
}

/// The requested statistics.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statistics {
    /// Metrics of namespaces.
    Metrics,
    /// All topics.
    All,
    /// This topic.
    Of(TopicName),
}

/// The statistics that the path of a request names.
pub(super) fn statistics(path: &str) -> Option<Statistics> {
    let parts: Vec<&str> = path.strip_prefix("/admin/")?.split('/').collect();
    let (parts, spaces) = match parts[..] {
        // Two parts of a namespace, or three with the cluster of old.
        ["v2", "proxy-stats", ref rest @ ..] => (rest, 2),
        ["proxy-stats", ref rest @ ..] => (rest, 3),
        _ => return None,
    };
    match parts {
        ["metrics"] => Some(Statistics::Metrics),
        ["stats"] => Some(Statistics::All),
        [topic @ .., "stats"] if topic.len() >= spaces + 2 => {
            topic_of(topic, spaces).ok().map(Statistics::Of)
        }
        _ => None,
    }
}

/// A part of a path as Java decodes it: a plus sign is a space. `None` when it is malformed.
fn decoded(part: &str) -> Option<Cow<'_, str>> {
    // The decoder passes on a percent sign without digits, where Java refuses it.
    let is_encoded = part.split('%').skip(1).all(|rest| {
        rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    });
    if !is_encoded {
        return None;
    }
    let spaced = part.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8().ok()?;
    Some(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::read(name).unwrap()
    }

    #[test]
    fn paths_of_all_versions_name_what_they_are_for() {
        let old = || topic("persistent://my-property/us-west/my-ns/my-topic1");
        let new = || topic("persistent://t/n/x");
        for (path, version, endpoint) in [
            (
                "/ws/producer/persistent/my-property/us-west/my-ns/my-topic1",
                ApiVersion::First,
                PulsarEndpoint::Producer(old()),
            ),
            (
                "/ws/reader/persistent/my-property/us-west/my-ns/my-topic1/",
                ApiVersion::First,
                PulsarEndpoint::Reader(old()),
            ),
            (
                "/ws/consumer/persistent/my-property/us-west/my-ns/my-topic1/my-sub1",
                ApiVersion::First,
                PulsarEndpoint::Consumer(old(), "my-sub1".into()),
            ),
            (
                "/ws/v2/producer/persistent/t/n/x",
                ApiVersion::Later,
                PulsarEndpoint::Producer(new()),
            ),
            (
                "/ws/v2/producer/persistent/t/n/a//b/",
                ApiVersion::Later,
                PulsarEndpoint::Producer(topic("persistent://t/n/a/b")),
            ),
            (
                "/ws/v2/reader/persistent/t/n/a%2Fb+c",
                ApiVersion::Later,
                PulsarEndpoint::Reader(topic("persistent://t/n/a/b c")),
            ),
            (
                "/ws/v2/reader/non-persistent/t/n/x",
                ApiVersion::Later,
                PulsarEndpoint::Reader(topic("non-persistent://t/n/x")),
            ),
            (
                "/ws/v2/consumer/persistent/t/n/x/a%20b",
                ApiVersion::Later,
                PulsarEndpoint::Consumer(new(), "a b".into()),
            ),
            ("/ws/v3/consumer/sub", ApiVersion::Later, PulsarEndpoint::Several("sub".into())),
            ("/ws/pingpong", ApiVersion::First, PulsarEndpoint::PingPong),
            ("/ws/v2/pingpong", ApiVersion::Later, PulsarEndpoint::PingPong),
        ] {
            assert_eq!(read(path), Some((version, Ok(endpoint))), "{path}");
        }
        for path in [
            "/",
            "/ws",
            "/ws/",
            "/ws/app/key",
            "/wsx/producer",
            "/app/key",
            "/admin/v2/proxy-stats/stats",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
    }

    #[test]
    fn odd_paths_are_refused() {
        let long = format!("/ws/v2/producer/persistent/t/n/{}", "x".repeat(256));
        for path in [
            "/ws/v2/",
            "/ws/producer",
            "/ws/v2/other/persistent/t/n/x",
            "/ws/producer/persistent/p/c/n",
            "/ws/producer/other/p/c/n/x",
            "/ws/consumer/persistent/p/c/n/x",
            "/ws/consumer/persistent/p/c/n/x/y/sub",
            "/ws/v2/producer/persistent/t/n",
            "/ws/v2/producer/persistent/t/n/",
            "/ws/v2/producer/persistent/../n/x",
            "/ws/v2/producer/persistent/t/n/..",
            "/ws/v2/producer/persistent/t/n/%2e%2e",
            "/ws/v2/producer/persistent/t/n/a%2F..%2Fb",
            "/ws/v2/producer/persistent/t/n/a%00b",
            "/ws/v2/producer/persistent/t/n/%zz",
            "/ws/v2/producer/persistent/t/n/%ff",
            "/ws/v2/producer/persistent/t/n/%",
            "/ws/v2/producer/persistent/t%20/n/x",
            "/ws/v2/consumer/persistent/t/n/x",
            "/ws/v3/producer/x",
            "/ws/v3/consumer",
            "/ws/v3/consumer/sub/x",
            &long,
        ] {
            let (_, read) = read(path).unwrap();
            assert!(matches!(read, Err(PathError::Malformed(_))), "{path}: {read:?}");
        }
        let long = format!("/ws/v3/consumer/{}", "x".repeat(256));
        for path in [
            "/ws/v2/consumer/persistent/t/n/x/",
            "/ws/consumer/persistent/p/c/n/x/",
            "/ws/v3/consumer/",
            "/ws/v3/consumer/%0a",
            "/ws/v3/consumer/%ff",
            &long,
        ] {
            let (_, read) = read(path).unwrap();
            assert!(matches!(read, Err(PathError::Subscription(_))), "{path}: {read:?}");
        }
    }

    #[test]
    fn statistics_are_of_all_topics_or_of_one() {
        let of = |path| format!("{:?}", statistics(path));
        assert_eq!(of("/admin/v2/proxy-stats/metrics"), "Some(Metrics)");
        assert_eq!(of("/admin/proxy-stats/stats"), "Some(All)");
        assert_eq!(
            of("/admin/v2/proxy-stats/persistent/t/n/x/stats"),
            "Some(Of(\"persistent://t/n/x\"))"
        );
        assert_eq!(
            of("/admin/proxy-stats/persistent/p/c/n/x/stats"),
            "Some(Of(\"persistent://p/c/n/x\"))"
        );
        for path in [
            "/admin/",
            "/admin/v2/proxy-stats",
            "/admin/v2/proxy-stats/t/n/x/stats",
            "/admin/v2/clusters",
        ] {
            assert_eq!(of(path), "None", "{path}");
        }
    }
}
