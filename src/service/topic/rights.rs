//! What a connection may do with topics: three lists of globs of `TENANT/NAMESPACE/TOPIC`, and what they mean for a
//! request, for a connection that gets other rights while it is open, and for statistics.
//!
//! Where rights come from is not known here.

use super::consumer::ConsumerId;
use super::owner::{ConnectionRole, TopicOwner};
use super::source::Label;
use super::work::{AT_ONCE_MAX, Slice, TOPIC_STEPS, TopicWork, WorkProgress};
use super::{Archive, TopicAnswer, TopicName, TopicQuestion, WantedTopics};
use crate::service::ConnectionRef;
use crate::wildcard;

/// Globs in one list. Statistics try each for every topic there is; whoever needs more names a namespace.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    produce: Globs,
    consume: Globs,
    read: Globs,
}

/// Which topics.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        globs.match_name(topic.short()) || topic.whole().is_some_and(|whole| globs.match_name(whole))
    }

    /// Whether the first request of a connection may be made. A pattern stands for those of its topics that may be
    /// consumed, and wants a namespace where there can be some.
    #[must_use]
    pub fn allow_request(&self, request: &TopicQuestion) -> bool {
        match request {
            TopicQuestion::Produce(producing) => self.allow(Right::Produce, &producing.topic),
            TopicQuestion::Consume(consuming) => {
                let may = match &consuming.topics {
                    WantedTopics::One(topic) => self.allow(Right::Consume, topic),
                    WantedTopics::Several(topics) => {
                        topics.iter().all(|topic| self.allow(Right::Consume, topic))
                    }
                    WantedTopics::Matching { namespace, .. } => self.consume.reach(namespace),
                };
                may && self.allow_dead_letters(consuming.dead_letters.as_ref())
            }
            TopicQuestion::Read(reading) => self.allow(Right::Read, &reading.topic),
            _ => true,
        }
    }

    /// Whether messages may be given up into this topic: it is written then. The one that a subscription has of its own
    /// stands beside what may be consumed.
    fn allow_dead_letters(&self, topic: Option<&TopicName>) -> bool {
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

/// A consumer whose topics are being held against its new rights.
pub(super) struct Narrowing {
    connection: ConnectionRef,
    id: ConsumerId,
    /// The last one that was.
    after: Option<Label>,
    /// Its rights, unless it has a pattern, which keeps them.
    rights: Option<Box<Rights>>,
}

impl<A: Archive> TopicOwner<A> {
    /// A connection has other rights from now on: what it does has to be among them.
    pub(super) fn renew_rights(&mut self, connection: ConnectionRef, rights: Box<Rights>) {
        let may = match self.connections.get(&connection).copied() {
            Some(ConnectionRole::Producer(id)) => self.producers.get(id).is_none_or(|producer| {
                let mut topics = producer.targets.iter().filter_map(|(id, _)| self.topics.get(*id));
                topics.all(|topic| rights.allow(Right::Produce, &topic.name))
            }),
            Some(ConnectionRole::Consumer(id)) => return self.narrow(connection, id, rights),
            Some(ConnectionRole::Transient(id)) => self.transient.all.get(id).is_none_or(|one| {
                let right = match one.kind {
                    None => Right::Produce,
                    Some(_) if one.is_reader => Right::Read,
                    Some(_) => Right::Consume,
                };
                let topics = one.topics.split(',').filter_map(|name| TopicName::read(name).ok());
                topics.into_iter().all(|topic| rights.allow(right, &topic))
            }),
            // What it waits for is as it was when it asked, and is not had with less.
            Some(ConnectionRole::Waiting(holder)) => self.probes.get(&holder).is_none_or(|probe| {
                probe.request_of(connection).is_none_or(|request| rights.allow_request(request))
            }),
            Some(ConnectionRole::Opening) => {
                self.opening_of(connection).is_none_or(|request| rights.allow_request(request))
            }
            None => true,
        };
        if !may {
            self.reply(connection, TopicAnswer::Forbidden);
        }
    }

    /// A consumer or reader has other rights from now on. A pattern goes on with what is left of it.
    fn narrow(&mut self, connection: ConnectionRef, id: ConsumerId, rights: Box<Rights>) {
        let Some(consumer) = self.consumers.get_mut(id) else { return };
        let may_await = consumer.awaits.iter().all(|topic| rights.allow(Right::Read, topic));
        if !may_await || !rights.allow_dead_letters(consumer.dead_letters.as_ref()) {
            return self.reply(connection, TopicAnswer::Forbidden);
        }
        let is_short = consumer.sources.len() <= AT_ONCE_MAX;
        let rights = match &consumer.wanted {
            Some(_) => {
                consumer.rights = Some(rights);
                None
            }
            None => Some(rights),
        };
        let mut narrowing = Narrowing { connection, id, after: None, rights };
        if is_short {
            self.go_on_narrowing(&mut narrowing, &mut Slice::whole());
        } else if self.take_on(TopicWork::Narrow(narrowing)).is_err() {
            // What cannot be looked at is not allowed.
            self.reply(connection, TopicAnswer::Forbidden);
        }
    }

    /// Holds some of a consumer's topics against its new rights.
    pub(super) fn go_on_narrowing(&mut self, narrowing: &mut Narrowing, slice: &mut Slice) -> WorkProgress {
        let Narrowing { connection, id, .. } = *narrowing;
        while matches!(self.connections.get(&connection), Some(ConnectionRole::Consumer(known)) if *known == id)
        {
            let Some(consumer) = self.consumers.get(id) else { break };
            let Some(source) = consumer.sources.next(narrowing.after) else { break };
            if slice.is_over() {
                return WorkProgress::More;
            }
            slice.spend(TOPIC_STEPS);
            narrowing.after = Some(source.label);
            let rights = narrowing.rights.as_deref().or(consumer.rights.as_deref());
            let right = if consumer.is_reader { Right::Read } else { Right::Consume };
            let topic = self.topics.get(source.topic);
            let may = topic.zip(rights).is_none_or(|(topic, rights)| rights.allow(right, &topic.name));
            match (may, &narrowing.rights) {
                (true, _) => {}
                (false, None) => self.part(id, source),
                (false, Some(_)) => {
                    self.reply(connection, TopicAnswer::Forbidden);
                    break;
                }
            }
        }
        WorkProgress::Done
    }
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
            assert!(!rights.allow(Right::Produce, &topic(name)) && !rights.allow(Right::Read, &topic(name)));
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
            assert_eq!(consumer_of(&[glob]).allow_namespace(namespace), expected, "{glob} {namespace}");
        }
    }
}
