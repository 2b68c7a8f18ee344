//! The parameters of a request, with the reference's checks and messages. Of a repeated key the
//! first value counts; unknown ones are ignored.

use super::jackson::shown;
use crate::dialect::Rng;
use crate::service::topic::{
    ConsumerOptions, Flow, Hashing, MessageId, PAGE_TOPICS_MAX, ProducerOptions, ReaderOptions,
    ReaderStart, SubscriptionType, TopicDomain, TopicName, TopicPattern, WantedTopics,
};
use crate::text::LENIENT_BASE64;
use base64::Engine as _;
use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

/// Most messages that may be with a push consumer; the reference's bound.
const WINDOW_MAX: i32 = 1000;
/// Least milliseconds of an acknowledgement time-out; the reference's bound.
const ACK_TIMEOUT_MS_MIN: i32 = 1000;
/// The reference's default for a consumer with dead letters.
const DEAD_LETTER_ACK_TIMEOUT_MS: i32 = 30_000;
/// Longest name of a producer, consumer or reader, in bytes: names are stored with messages, and
/// part of statistics.
const NAME_BYTES_MAX: usize = 255;
/// Longest pattern of topics, in bytes; longer ones are lists rather than patterns.
const PATTERN_BYTES_MAX: usize = 1024;
/// Longest map of encryption keys, in bytes; each is 32 bytes encrypted by RSA, some hundred
/// characters.
const ENCRYPTION_BYTES_MAX: usize = 8 * 1024;

/// The reference's message about a parameter that it cannot use.
pub(super) type ParamError = String;

/// The parameters of one request.
pub(super) struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Params<'a> {
    pub(super) fn read(query: &'a str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| &**value)
    }

    /// Like Java's `Boolean.parseBoolean`.
    fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>, ParamError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| format!("For input string: {}", shown(value)))
    }

    /// A number of at least `least`; `what` is the reference's message otherwise.
    fn at_least<T: FromStr + PartialOrd + Display>(
        &self,
        key: &str,
        least: T,
        what: &str,
    ) -> Result<Option<T>, ParamError> {
        match self.number::<T>(key)? {
            Some(number) if number < least => Err(what.into()),
            number => Ok(number),
        }
    }

    fn one_of<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, ParamError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == value);
        found
            .map(|(_, meaning)| Some(*meaning))
            .ok_or_else(|| format!("Invalid {key} {}", shown(value)))
    }

    fn name(&self, key: &str) -> Result<Option<Box<str>>, ParamError> {
        let Some(name) = self.get(key) else { return Ok(None) };
        if name.trim().is_empty() {
            return Err(format!("{key} cannot be blank"));
        }
        if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(format!(
                "{key} has more than {NAME_BYTES_MAX} bytes, or control characters"
            ));
        }
        Ok(Some(name.into()))
    }
}

/// The page of the statistics of all topics that a query asks for: the topics after a name, and how
/// many at most.
pub(super) fn page(params: &Params<'_>) -> Result<(Box<str>, usize), ParamError> {
    let wrong = format!("count: write a number from 1 to {PAGE_TOPICS_MAX}");
    let count = match params.get("count") {
        Some(count) => count.parse().map_err(|_| wrong.clone())?,
        None => PAGE_TOPICS_MAX,
    };
    if !(1..=PAGE_TOPICS_MAX).contains(&count) {
        return Err(wrong);
    }
    Ok((params.get("after").unwrap_or_default().into(), count))
}

/// A producer's options, and the keys with which its messages are encrypted, as JSON.
pub(super) fn producing(
    params: &Params<'_>,
    topic: TopicName,
    remote: &str,
) -> Result<(ProducerOptions, Option<Box<str>>), ParamError> {
    let hashing = [("JavaStringHash", Hashing::Java), ("Murmur3_32Hash", Hashing::Murmur3)];
    let routing =
        [("SinglePartition", false), ("RoundRobinPartition", true), ("CustomPartition", false)];
    let compression = ["NONE", "LZ4", "ZLIB", "ZSTD", "SNAPPY"].map(|word| (word, ()));
    // Batching happens in the reference's proxy; here the values are only checked, so that clients
    // see the same errors.
    params.at_least("sendTimeoutMillis", 0, "sendTimeout needs to be >= 0")?;
    if params.is_true("batchingEnabled") {
        params.at_least("batchingMaxMessages", 0, "batchingMaxMessages needs to be >= 0")?;
        params.at_least("maxPendingMessages", 0, "maxPendingMessages needs to be >= 0")?;
        let delay = "configured value for batch delay must be at least 1ms";
        params.at_least("batchingMaxPublishDelay", 1, delay)?;
    }
    params.one_of("compressionType", &compression)?;
    let producing = ProducerOptions {
        topic,
        name: params.name("producerName")?,
        initial_sequence: params.number("initialSequenceId")?,
        round_robin: params.one_of("messageRoutingMode", &routing)?.unwrap_or_default(),
        hashing: params.one_of("hashingScheme", &hashing)?.unwrap_or_default(),
        remote: remote.into(),
    };
    Ok((producing, encryption(params)?))
}

/// The keys with which a producer's clients encrypt, as one line of JSON.
fn encryption(params: &Params<'_>) -> Result<Option<Box<str>>, ParamError> {
    let Some(given) = params.get("encryptionKeys").filter(|given| !given.trim().is_empty()) else {
        return Ok(None);
    };
    // An unencoded plus sign of base64 has become a space.
    let map = LENIENT_BASE64.decode(given.replace(' ', "+")).ok();
    let map = map.and_then(|map| serde_json::from_slice::<serde_json::Map<String, _>>(&map).ok());
    match map {
        Some(map) if !map.is_empty() && given.len() <= ENCRYPTION_BYTES_MAX => {
            Ok(Some(serde_json::Value::Object(map).to_string().into()))
        }
        _ => Err(
            "encryptionKeys: the daemon has no keys to encrypt with; encrypt in the client, and \
          give the keys as base64 of a JSON object with at most 8 KiB"
                .into(),
        ),
    }
}

/// A consumer's options.
pub(super) fn consuming(
    params: &Params<'_>,
    topics: WantedTopics,
    subscription: &str,
    remote: &str,
    rng: &mut Rng,
) -> Result<ConsumerOptions, ParamError> {
    let kinds = [
        ("Exclusive", SubscriptionType::Exclusive),
        ("Shared", SubscriptionType::Shared),
        ("Failover", SubscriptionType::Failover),
        ("Key_Shared", SubscriptionType::KeyShared),
    ];
    let mut ack_timeout_ms = params.number("ackTimeoutMillis")?.unwrap_or(0);
    if ack_timeout_ms != 0 && ack_timeout_ms < ACK_TIMEOUT_MS_MIN {
        return Err(format!("Ack timeout should be greater than {ACK_TIMEOUT_MS_MIN} ms"));
    }
    let kind = params.one_of(subscription_type(params), &kinds)?.unwrap_or_default();
    let durable = params.one_of("subscriptionMode", &[("Durable", true), ("NonDurable", false)])?;
    let positions = [("Latest", false), ("Earliest", true)];
    let earliest = params.one_of("subscriptionInitialPosition", &positions)?;

    let window = window(params)?;
    let name = params.name("consumerName")?;
    let priority = params.at_least("priorityLevel", 0, "priorityLevel needs to be >= 0")?;
    let nack_delay =
        params.at_least("negativeAckRedeliveryDelay", 0_i32, "redeliveryDelay needs to be >= 0")?;
    let redeliveries_max: u32 =
        params.number::<i32>("maxRedeliverCount")?.unwrap_or(0).try_into().unwrap_or(0);

    let dead_letters = params.get("deadLetterTopic").map(full_name).transpose()?;
    if dead_letters.is_some() || params.get("maxRedeliverCount").is_some() {
        // As in Pulsar: a dead-letter policy without a positive count is an error, and needs a
        // time-out to count by.
        if redeliveries_max == 0 {
            return Err("MaxRedeliverCount must be > 0.".into());
        }
        if ack_timeout_ms == 0 {
            ack_timeout_ms = DEAD_LETTER_ACK_TIMEOUT_MS;
        }
    }
    // A dead letter has to outlive its consumer.
    if dead_letters.as_ref().is_some_and(|topic| topic.domain() == TopicDomain::NonPersistent) {
        return Err("deadLetterTopic must be persistent".into());
    }
    if redeliveries_max > 0 && dead_letters.is_none() {
        check_dead_letters(&topics, subscription)?;
    }
    Ok(ConsumerOptions {
        topics,
        subscription: subscription.into(),
        kind,
        durable: durable.unwrap_or(true),
        earliest: earliest.unwrap_or(false),
        flow: if params.is_true("pullMode") { Flow::Pull } else { Flow::Push(window) },
        ack_timeout_ms: ack_timeout_ms.unsigned_abs().into(),
        nack_delay_ms: nack_delay.unwrap_or(60_000).unsigned_abs().into(),
        redeliveries_max,
        dead_letters,
        name: name.unwrap_or_else(|| drawn(rng)),
        priority: priority.unwrap_or(0),
        remote: remote.into(),
        rights: None,
        window: None,
    })
}

/// The query's spelling of the subscription's type: the first versions of the API used the misspelt
/// one, so there are clients that write it.
fn subscription_type(params: &Params<'_>) -> &'static str {
    let spellings = ["subscriptionType", "suscriptionType"];
    spellings.into_iter().find(|key| params.get(key).is_some()).unwrap_or(spellings[0])
}

/// Checks that dead-letter topics named after a subscription are valid topics.
fn check_dead_letters(topics: &WantedTopics, subscription: &str) -> Result<(), ParamError> {
    let known: Vec<TopicName> = match topics {
        WantedTopics::One(topic) => vec![topic.clone()],
        WantedTopics::Several(topics) => topics.clone(),
        // Their names are unknown yet; they all have this form.
        WantedTopics::Matching { namespace, .. } => {
            TopicName::read(&format!("{namespace}x")).into_iter().collect()
        }
    };
    let bad = known
        .iter()
        .find_map(|topic| TopicName::read(topic.dead_letters(subscription).as_str()).err());
    bad.map_or(Ok(()), |error| {
        Err(format!("the topic for dead letters needs a deadLetterTopic: {error}"))
    })
}

/// A reader's options.
pub(super) fn reading(
    params: &Params<'_>,
    topic: TopicName,
    remote: &str,
    rng: &mut Rng,
) -> Result<ReaderOptions, ParamError> {
    let start = match params.get("messageId").filter(|id| !id.trim().is_empty()) {
        None | Some("latest") => ReaderStart::Latest,
        Some("earliest") => ReaderStart::Earliest,
        // An unencoded plus sign of base64 has become a space.
        Some(id) => ReaderStart::After(MessageId::read(&id.replace(' ', "+"))?),
    };
    let name = params.name("readerName")?;
    let name = name.unwrap_or_else(|| drawn(rng));
    Ok(ReaderOptions { topic, start, window: window(params)?, name, remote: remote.into() })
}

/// The topics in the query of a consumer of several.
pub(super) fn wanted(params: &Params<'_>) -> Result<WantedTopics, ParamError> {
    match (params.get("topics"), params.get("topicsPattern")) {
        (Some(_), Some(_)) => Err("Topics must be null when use topicsPattern".into()),
        (None, None) => Err("Should set topics or topicsPattern".into()),
        (None, Some(text)) => pattern(text),
        (Some(list), None) => {
            let mut topics = Vec::new();
            let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
            for name in names {
                topics.push(full_name(name)?);
            }
            // Without repetitions, in order.
            let mut seen = std::collections::HashSet::new();
            topics.retain(|topic| seen.insert(topic.clone()));
            // A session listens to one non-persistent topic at most, see `volatile`.
            if topics.iter().any(|topic| topic.domain() == TopicDomain::NonPersistent) {
                return Err(
                    "topics: each must be persistent; a non-persistent one is consumed by \
                     /ws/v2/consumer"
                        .into(),
                );
            }
            if topics.is_empty() {
                Err("topics is empty".into())
            } else {
                Ok(WantedTopics::Several(topics))
            }
        }
    }
}

/// All topics of a namespace with a matching name. Without a namespace it is Pulsar's default.
fn pattern(text: &str) -> Result<WantedTopics, ParamError> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(format!("topicsPattern has more than {PATTERN_BYTES_MAX} bytes"));
    }
    let short = match text.split_once("://") {
        Some(("persistent", short)) => short,
        Some(_) => return Err("topicsPattern is for persistent:// topics".into()),
        None => text,
    };
    let mut parts = short.splitn(3, '/');
    let (namespace, pattern) = match (parts.next(), parts.next(), parts.next()) {
        (Some(tenant), Some(space), Some(pattern)) => {
            (format!("persistent://{tenant}/{space}/"), pattern)
        }
        (Some(pattern), None, None) => ("persistent://public/default/".into(), pattern),
        _ => return Err("topicsPattern is persistent://TENANT/NAMESPACE/PATTERN".into()),
    };
    // The parts follow the rules of any topic.
    TopicName::read(&format!("{namespace}x")).map_err(|error| error.0)?;
    // Anchored, because Java's `matches` is; the group keeps alternatives within.
    let whole = format!("^{}(?:{pattern})$", regex::escape(&namespace));
    let pattern = TopicPattern::new(&whole).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "topicsPattern is too complex".to_owned(),
        _ => {
            format!("topicsPattern {} is no regular expression that is known here", shown(pattern))
        }
    })?;
    Ok(WantedTopics::Matching { namespace: namespace.into(), pattern })
}

/// A topic by its full name, without its domain, or by its own name only, as Pulsar's clients write
/// it.
fn full_name(name: &str) -> Result<TopicName, ParamError> {
    let full = match (name.contains("://"), name.matches('/').count()) {
        (true, _) => Cow::Borrowed(name),
        (false, 0) => Cow::Owned(format!("persistent://public/default/{name}")),
        (false, _) => Cow::Owned(format!("persistent://{name}")),
    };
    TopicName::read(&full).map_err(|error| format!("Invalid topic name {}: {error}", shown(name)))
}

/// Messages that may be with the client.
fn window(params: &Params<'_>) -> Result<u32, ParamError> {
    let size = params.at_least("receiverQueueSize", 0, "receiverQueueSize needs to be >= 0")?;
    Ok(size.unwrap_or(WINDOW_MAX).clamp(1, WINDOW_MAX).unsigned_abs())
}

/// A random name for a client without one.
fn drawn(rng: &mut Rng) -> Box<str> {
    format!("{:010x}", rng() & 0xff_ffff_ffff).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(query: &str) -> Result<ConsumerOptions, ParamError> {
        let topic = TopicName::read("persistent://t/n/x").unwrap();
        let mut rng: Rng = Box::new(|| 0xabc);
        consuming(&Params::read(query), WantedTopics::One(topic), "sub", "127.0.0.1:5", &mut rng)
    }

    fn producer(query: &str) -> Result<(ProducerOptions, Option<Box<str>>), ParamError> {
        let topic = TopicName::read("persistent://t/n/x").unwrap();
        producing(&Params::read(query), topic, "127.0.0.1:5")
    }

    fn reader(query: &str) -> Result<ReaderOptions, ParamError> {
        let topic = TopicName::read("persistent://t/n/x").unwrap();
        let mut rng: Rng = Box::new(|| 0xabc);
        reading(&Params::read(query), topic, "127.0.0.1:5", &mut rng)
    }

    #[test]
    fn a_consumer_is_exclusive_durable_and_pushed_to_unless_it_says_else() {
        let plain = consumer("").unwrap();
        assert_eq!(
            (plain.kind, plain.durable, plain.earliest),
            (SubscriptionType::Exclusive, true, false)
        );
        assert_eq!(
            (plain.flow, plain.ack_timeout_ms, plain.nack_delay_ms),
            (Flow::Push(1000), 0, 60_000)
        );
        assert_eq!((plain.redeliveries_max, plain.dead_letters, plain.priority), (0, None, 0));
        assert_eq!((&*plain.name, &*plain.remote), ("0000000abc", "127.0.0.1:5"));
        let other = consumer(
            "subscriptionType=Key_Shared&subscriptionMode=NonDurable&subscriptionInitialPosition=Earliest&\
             receiverQueueSize=5&ackTimeoutMillis=1000&negativeAckRedeliveryDelay=0&consumerName=c+1&priorityLevel=3&\
             pullMode=TRUE&cryptoFailureAction=nonsense&unknown=1&consumerName=later",
        )
        .unwrap();
        assert_eq!(
            (other.kind, other.durable, other.earliest),
            (SubscriptionType::KeyShared, false, true)
        );
        assert_eq!((other.flow, other.ack_timeout_ms, other.nack_delay_ms), (Flow::Pull, 1000, 0));
        assert_eq!((&*other.name, other.priority), ("c 1", 3));
        for (query, window) in [("0", 1), ("1", 1), ("1000", 1000), ("2147483647", 1000)] {
            let flow = consumer(&format!("receiverQueueSize={query}&pullMode=1")).unwrap().flow;
            assert_eq!(flow, Flow::Push(window), "{query}");
        }
    }

    #[test]
    fn the_type_of_a_subscription_may_be_misspelt_as_in_the_first_daemons() {
        assert_eq!(consumer("suscriptionType=Shared").unwrap().kind, SubscriptionType::Shared);
        assert_eq!(
            consumer("suscriptionType=Shared&subscriptionType=Failover").unwrap().kind,
            SubscriptionType::Failover
        );
        assert_eq!(consumer("suscriptionType=x").unwrap_err(), "Invalid suscriptionType \"x\"");
    }

    #[test]
    fn dead_letters_go_only_where_somebody_can_fetch_them() {
        let topic = || TopicName::read("persistent://t/n/x").unwrap();
        let of = |topics: WantedTopics, subscription: &str, query: &str| {
            let mut rng: Rng = Box::new(|| 0xabc);
            consuming(&Params::read(query), topics, subscription, "127.0.0.1:5", &mut rng)
        };
        let long = "s".repeat(255);
        for subscription in ["a//b", "a/../b", &*long] {
            let several = WantedTopics::Several(vec![topic()]);
            let matching = wanted(&Params::read("topicsPattern=t/n/.*")).unwrap();
            for topics in [WantedTopics::One(topic()), several, matching] {
                let wrong = of(topics, subscription, "maxRedeliverCount=1").unwrap_err();
                assert!(wrong.contains("deadLetterTopic"), "{subscription}: {wrong}");
            }
            let named = of(
                WantedTopics::One(topic()),
                subscription,
                "maxRedeliverCount=1&deadLetterTopic=d",
            );
            assert!(named.is_ok() && of(WantedTopics::One(topic()), subscription, "").is_ok());
        }
        assert!(of(WantedTopics::One(topic()), "a/b", "maxRedeliverCount=1").is_ok());
    }

    #[test]
    fn any_setting_of_dead_letters_brings_an_ack_timeout() {
        let dead = consumer("maxRedeliverCount=3").unwrap();
        assert_eq!(
            (dead.redeliveries_max, dead.ack_timeout_ms, dead.dead_letters),
            (3, 30_000, None)
        );
        let dead =
            consumer("maxRedeliverCount=3&deadLetterTopic=dlq&ackTimeoutMillis=5000").unwrap();
        assert_eq!(
            (dead.ack_timeout_ms, dead.dead_letters.unwrap().as_str()),
            (5000, "persistent://public/default/dlq")
        );
        let dead = consumer("maxRedeliverCount=1&deadLetterTopic=a/b/c").unwrap();
        assert_eq!(dead.dead_letters.unwrap().as_str(), "persistent://a/b/c");
    }

    #[test]
    fn what_a_consumer_cannot_be_is_told_in_the_words_of_the_reference() {
        for (query, reason) in [
            ("subscriptionType=shared", "Invalid subscriptionType \"shared\""),
            ("subscriptionMode=x", "Invalid subscriptionMode \"x\""),
            ("subscriptionInitialPosition=", "Invalid subscriptionInitialPosition \"\""),
            ("receiverQueueSize=-1", "receiverQueueSize needs to be >= 0"),
            ("receiverQueueSize=99999999999", "For input string: \"99999999999\""),
            ("ackTimeoutMillis=999", "Ack timeout should be greater than 1000 ms"),
            ("ackTimeoutMillis=-1", "Ack timeout should be greater than 1000 ms"),
            ("ackTimeoutMillis=x", "For input string: \"x\""),
            ("negativeAckRedeliveryDelay=-1", "redeliveryDelay needs to be >= 0"),
            ("priorityLevel=-1", "priorityLevel needs to be >= 0"),
            ("maxRedeliverCount=0", "MaxRedeliverCount must be > 0."),
            ("maxRedeliverCount=-5", "MaxRedeliverCount must be > 0."),
            ("deadLetterTopic=d", "MaxRedeliverCount must be > 0."),
            (
                "maxRedeliverCount=1&deadLetterTopic=non-persistent://a/b/c",
                "deadLetterTopic must be persistent",
            ),
            ("consumerName=+", "consumerName cannot be blank"),
            ("consumerName=a%0ab", "consumerName has more than 255 bytes, or control characters"),
        ] {
            assert_eq!(consumer(query).unwrap_err(), reason, "{query}");
        }
    }

    #[test]
    fn a_producers_parameters_are_checked_even_where_they_mean_nothing() {
        let (plain, keys) = producer("").unwrap();
        assert_eq!((plain.name, plain.initial_sequence, plain.round_robin), (None, None, false));
        assert_eq!((plain.hashing, keys), (Hashing::Java, None));
        let (other, _) = producer(
            "producerName=p&initialSequenceId=-1&hashingScheme=Murmur3_32Hash&messageRoutingMode=RoundRobinPartition&\
             compressionType=LZ4&batchingMaxMessages=x",
        )
        .unwrap();
        assert_eq!((other.name.as_deref(), other.initial_sequence), (Some("p"), Some(-1)));
        assert_eq!((other.hashing, other.round_robin), (Hashing::Murmur3, true));
        for (query, reason) in [
            ("hashingScheme=x", "Invalid hashingScheme \"x\""),
            ("messageRoutingMode=x", "Invalid messageRoutingMode \"x\""),
            ("compressionType=lz4", "Invalid compressionType \"lz4\""),
            ("initialSequenceId=", "For input string: \"\""),
            ("sendTimeoutMillis=-1", "sendTimeout needs to be >= 0"),
            ("batchingEnabled=true&batchingMaxMessages=x", "For input string: \"x\""),
            (
                "batchingEnabled=True&batchingMaxPublishDelay=0",
                "configured value for batch delay must be at least 1ms",
            ),
        ] {
            assert_eq!(producer(query).unwrap_err(), reason, "{query}");
        }
    }

    #[test]
    fn keys_of_the_server_are_refused_and_those_of_a_client_are_passed_on() {
        assert!(
            producer("encryptionKeys=a,b")
                .unwrap_err()
                .starts_with("encryptionKeys: the daemon has no keys")
        );
        let map = r#"{"k": {"keyValue":"QQ==","metadata":{}}}"#;
        let encoded = LENIENT_BASE64.encode(map).replace('+', "%2B");
        let (_, keys) = producer(&format!("encryptionKeys={encoded}")).unwrap();
        assert_eq!(keys.as_deref(), Some(r#"{"k":{"keyValue":"QQ==","metadata":{}}}"#));
    }

    #[test]
    fn a_reader_begins_after_a_message_or_at_an_end() {
        let plain = reader("").unwrap();
        assert_eq!(
            (plain.start, plain.window, &*plain.name),
            (ReaderStart::Latest, 1000, "0000000abc")
        );
        assert_eq!(
            reader("messageId=earliest&receiverQueueSize=3&readerName=r").unwrap().start,
            ReaderStart::Earliest
        );
        let ReaderStart::After(id) = reader("messageId=CAAQAw%3D%3D").unwrap().start else {
            panic!()
        };
        assert_eq!(id.text(), "CAAQAw==");
        for bad in ["messageId=nonsense!", "messageId=AAAA", "receiverQueueSize=-1"] {
            assert!(reader(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn several_topics_are_a_list_or_a_pattern() {
        let of = |query: &str| wanted(&Params::read(query));
        let Ok(WantedTopics::Several(topics)) = of("topics=a,persistent://t/n/b,t/n/c,a,") else {
            panic!()
        };
        let names: Vec<_> = topics.iter().map(TopicName::as_str).collect();
        assert_eq!(
            names,
            ["persistent://public/default/a", "persistent://t/n/b", "persistent://t/n/c"]
        );
        for (query, name, matches) in [
            ("persistent://t.1/n/a.*", "persistent://t.1/n/ab/c", true),
            ("persistent://t.1/n/a.*", "persistent://t01/n/ab", false),
            ("t/n/a|b", "persistent://t/n/b", true),
            ("t/n/a|b", "persistent://t/n/bb", false),
            ("a.*", "persistent://public/default/ax", true),
        ] {
            let Ok(WantedTopics::Matching { namespace, pattern }) =
                of(&format!("topicsPattern={query}"))
            else {
                panic!()
            };
            assert_eq!(pattern.matches(name), matches, "{query}");
            assert!(!matches || name.starts_with(&*namespace), "{namespace}");
        }
        let long = "x".repeat(2000);
        for bad in [
            "",
            "topics=",
            "topics=a&topicsPattern=b",
            "topics=a//b",
            "topics=non-persistent://a/b/c",
            "topicsPattern=t/n",
            "topicsPattern=t/n/(",
            "topicsPattern=non-persistent://t/n/.*",
            "topicsPattern=(?=x)",
            "topicsPattern=../n/x",
            "topicsPattern=((a{1000}){1000}){1000}",
            &format!("topicsPattern={long}"),
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
