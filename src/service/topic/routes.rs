//! A shard's routing to several owners of topics: which of them serves a connection.
//!
//! The topic names in a connection's first request determine its owner; later requests carry only
//! the connection's id and go to the same owner. Producers, readers and consumers of one topic or
//! its partitions have one owner.
//!
//! A consumer of several topics may have several owners, and one with a pattern has all, since any
//! may get a new topic. It is a consumer at each, for the topics there:
//!
//! - It joins one owner after another, always in the same order, so that two consumers with the
//!   same wishes do not each get a part; and none before all have found no obstacle, so that a
//!   refused consumer leaves nothing behind.
//! - Its unacknowledged messages, or its permits, are counted over all owners together
//!   ([`ConsumerWindow`]).
//! - An acknowledgement goes to the owner of the topic that the label in the message id identifies.
//! - Answers are sent once: that it is open when all owners opened it, that a topic has ended when
//!   all ended.
//!
//! Differences for such a consumer: each owner deletes the subscription for itself, so if one
//! fails, others may have deleted it; and while it waits for one owner, its place at others may be
//! taken, which refuses it. The order of messages is per topic, as always.
//!
//! Queries about all topics go to all owners, and their answers are merged ([`Merge`]).

use super::{
    ConsumerOptions, ConsumerWindow, Merge, MessageId, OwnerIndex, Rights, TopicAnswer,
    TopicDomain, TopicInquiry, TopicQuestion, WantedTopics,
};
use crate::service::ConnectionRef;
use std::collections::HashMap;
use std::sync::Arc;

/// Marks a connection with several owners.
const SEVERAL: u8 = u8::MAX;

/// The routes of one shard's connections. With one owner they are empty.
#[derive(Debug)]
pub struct Routes {
    /// The owner of each connection by its id, or [`SEVERAL`]: a byte each. The next connection
    /// with the same id overwrites it with its first request.
    owners: Vec<u8>,
    spans: HashMap<u32, RouteSpan, ahash::RandomState>,
    /// Queries of connections to all owners, with the answers so far.
    gathered: HashMap<ConnectionRef, Gathered, ahash::RandomState>,
    asked: OwnerQuestions,
}

/// Requests for each owner, in order.
#[derive(Debug)]
struct OwnerQuestions(Box<[Vec<(ConnectionRef, TopicQuestion)>]>);

impl OwnerQuestions {
    /// Number of owners.
    fn of(&self) -> usize {
        self.0.len()
    }

    fn put(&mut self, owner: impl Into<usize>, from: ConnectionRef, question: TopicQuestion) {
        self.0[owner.into()].push((from, question));
    }
}

/// A consumer with several owners.
#[derive(Debug)]
struct RouteSpan {
    connection: ConnectionRef,
    window: Arc<ConsumerWindow>,
    /// Its owners, in order.
    owners: Vec<u8>,
    stage: RouteStage,
    /// Its request; `None` once all owners have it.
    wanted: Option<Box<ConsumerOptions>>,
    /// Rights that were replaced before it was open.
    rights: Option<Box<Rights>>,
    /// Number of open `AskEnd` requests, and the index of the owner being asked.
    asks: (u32, usize),
}

/// How far a consumer is, with the index of the current owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RouteStage {
    Checking(usize),
    Joining(usize),
    Open,
}

/// The answers of the owners to one query.
#[derive(Debug)]
struct Gathered {
    merge: Merge,
    answers: Vec<(u16, Box<[u8]>)>,
}

impl Routes {
    /// The routes of a shard without connections, to `of` owners.
    #[must_use]
    pub fn new(of: usize) -> Self {
        Self {
            owners: Vec::new(),
            spans: HashMap::default(),
            gathered: HashMap::default(),
            asked: OwnerQuestions(OwnerIndex::all(of).map(|_| Vec::new()).collect()),
        }
    }

    /// Whether there are requests to send.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        self.asked.0.iter().any(|asked| !asked.is_empty())
    }

    /// Takes the requests for each owner since the last call, in order.
    pub fn take_asked(&mut self) -> impl Iterator<Item = Vec<(ConnectionRef, TopicQuestion)>> {
        self.asked.0.iter_mut().map(std::mem::take)
    }

    /// Routes a request of a connection.
    pub fn ask(&mut self, connection: ConnectionRef, request: TopicQuestion) {
        let of = self.asked.of();
        match request {
            _ if of == 1 => self.asked.put(0usize, connection, request),
            TopicQuestion::Produce(ref producing) => {
                self.begin(connection, OwnerIndex::of_topic(&producing.topic, of), request);
            }
            TopicQuestion::Read(ref reading) => {
                self.begin(connection, OwnerIndex::of_topic(&reading.topic, of), request);
            }
            TopicQuestion::Consume(consuming) => self.consume(connection, consuming),
            TopicQuestion::Append(ref name, _) => {
                self.asked.put(OwnerIndex::of_topic(name, of), connection, request);
            }
            TopicQuestion::Inquire(inquiry) => self.inquire(connection, *inquiry),
            request => match self.owners.get(connection.id as usize).copied() {
                Some(SEVERAL) => self.ask_several(connection, request),
                owner => self.asked.put(owner.unwrap_or(0), connection, request),
            },
        }
    }

    /// Handles an owner's answer to a connection. Returns the answer to pass on, if any.
    pub fn answered(
        &mut self,
        connection: ConnectionRef,
        reply: TopicAnswer,
    ) -> Option<TopicAnswer> {
        if let TopicAnswer::Answer(status, body) = reply {
            return self.gather(connection, status, body);
        }
        // Another connection may have the id by now: this answer is not for that one's consumer.
        let span = self.spans.get_mut(&connection.id).filter(|span| span.connection == connection);
        let Some(span) = span else { return Some(reply) };
        let (answer, is_over) = span.answered(reply, &mut self.asked);
        if is_over {
            self.end(connection);
        }
        answer
    }

    /// The owner of a connection that has asked one; `None` for one with several.
    #[must_use]
    pub fn only_owner(&self, connection: ConnectionRef) -> Option<u8> {
        let owner = self.owners.get(connection.id as usize).copied().unwrap_or(0);
        (owner != SEVERAL).then_some(owner)
    }

    /// Routes the requests of a connection of another process to its owner.
    pub fn adopt(&mut self, connection: ConnectionRef, owner: u8) {
        if self.asked.of() > 1 {
            self.set_owner(connection, owner);
        }
    }

    fn set_owner(&mut self, connection: ConnectionRef, owner: u8) {
        let at = connection.id as usize;
        if self.owners.len() <= at {
            self.owners.resize(at + 1, 0);
        }
        self.owners[at] = owner;
    }

    /// Routes the first request of a connection with one owner.
    fn begin(&mut self, connection: ConnectionRef, owner: usize, request: TopicQuestion) {
        self.set_owner(connection, owner as u8);
        self.asked.put(owner, connection, request);
    }

    /// Removes a consumer with several owners.
    fn end(&mut self, connection: ConnectionRef) {
        self.spans.remove(&connection.id);
        self.set_owner(connection, 0);
    }

    fn consume(&mut self, connection: ConnectionRef, mut consuming: Box<ConsumerOptions>) {
        let owners = owners_of(&consuming.topics, self.asked.of());
        if let [owner] = owners[..] {
            return self.begin(connection, usize::from(owner), TopicQuestion::Consume(consuming));
        }
        let window = Arc::new(ConsumerWindow::new(consuming.flow));
        consuming.window = Some(Arc::clone(&window));
        let (stage, wanted) = (RouteStage::Checking(0), Some(consuming));
        let mut span =
            RouteSpan { connection, window, owners, stage, wanted, rights: None, asks: (0, 0) };
        span.check(0, &mut self.asked);
        self.spans.insert(connection.id, span);
        self.set_owner(connection, SEVERAL);
    }

    fn ask_several(&mut self, connection: ConnectionRef, request: TopicQuestion) {
        let span = self.spans.get_mut(&connection.id).filter(|span| span.connection == connection);
        let Some(span) = span else { return };
        let is_last = matches!(request, TopicQuestion::Gone);
        span.ask(request, &mut self.asked);
        if is_last {
            self.end(connection);
        }
    }

    fn inquire(&mut self, connection: ConnectionRef, inquiry: TopicInquiry) {
        let Some(merge) = Merge::of(&inquiry) else {
            let owner = inquiry.owner(self.asked.of());
            let question = TopicQuestion::Inquire(Box::new(inquiry));
            return self.asked.put(owner, connection, question);
        };
        // Registered before the requests leave, since owners answer in any order.
        self.gathered.insert(connection, Gathered { merge, answers: Vec::new() });
        for owner in 0..self.asked.of() {
            let question = TopicQuestion::Inquire(Box::new(inquiry.clone()));
            self.asked.put(owner, connection, question);
        }
    }

    /// Collects an owner's answer to a query; returns the merged answer after the last.
    fn gather(
        &mut self,
        connection: ConnectionRef,
        status: u16,
        body: Box<[u8]>,
    ) -> Option<TopicAnswer> {
        let Some(gathered) = self.gathered.get_mut(&connection) else {
            return Some(TopicAnswer::Answer(status, body));
        };
        gathered.answers.push((status, body));
        if gathered.answers.len() < self.asked.of() {
            return None;
        }

        let Gathered { merge, answers } = self.gathered.remove(&connection)?;
        let (status, body) = merge.all(answers);
        Some(TopicAnswer::Answer(status, body))
    }
}

impl RouteSpan {
    /// Routes a request of its connection.
    fn ask(&mut self, request: TopicQuestion, asked: &mut OwnerQuestions) {
        match request {
            TopicQuestion::Ack(id) | TopicQuestion::Nack(id) => {
                asked.put(self.owner_of(id, asked.of()), self.connection, request);
            }
            TopicQuestion::Permit(count) => self.turn(self.window.permit(count), asked),
            TopicQuestion::Took => self.turn(self.window.took(), asked),
            TopicQuestion::AskEnd => {
                self.asks.0 = self.asks.0.saturating_add(1);
                // One round at a time, so that the answers come in the order of the questions.
                if self.asks.0 == 1 {
                    self.ask_end(0, asked);
                }
            }
            // Owners that do not know the consumer yet would ignore it.
            TopicQuestion::Renew(rights) if self.stage != RouteStage::Open => {
                self.rights = Some(rights);
            }
            TopicQuestion::Renew(rights) => self.renew(&rights, asked),
            TopicQuestion::Unsubscribe => self.each(|| TopicQuestion::Unsubscribe, asked),
            TopicQuestion::Probed { is_closing } => {
                self.each(|| TopicQuestion::Probed { is_closing }, asked);
            }
            TopicQuestion::Gone => self.each(|| TopicQuestion::Gone, asked),
            // Other requests never come from a connection.
            _ => {}
        }
    }

    /// Handles an answer of one of its owners. Returns the answer to pass on, if any, and whether
    /// the consumer is over.
    fn answered(
        &mut self,
        reply: TopicAnswer,
        asked: &mut OwnerQuestions,
    ) -> (Option<TopicAnswer>, bool) {
        let last = self.owners.len() - 1;
        match (&reply, self.stage) {
            (TopicAnswer::Ready, RouteStage::Checking(at)) if at < last => {
                self.check(at + 1, asked);
            }
            (TopicAnswer::Ready, RouteStage::Checking(_)) => self.join(0, asked),
            (TopicAnswer::Opened, RouteStage::Joining(at)) if at < last => self.join(at + 1, asked),
            (TopicAnswer::Opened, RouteStage::Joining(_)) => {
                self.stage = RouteStage::Open;
                if let Some(rights) = self.rights.take() {
                    self.renew(&rights, asked);
                }
                self.turn(self.window.open(), asked);
                return (Some(reply), false);
            }
            (TopicAnswer::EndOfTopic(true), _) if self.asks.1 < last => {
                self.ask_end(self.asks.1 + 1, asked);
            }
            (TopicAnswer::EndOfTopic(_), _) => {
                self.asks.0 = self.asks.0.saturating_sub(1);
                if self.asks.0 > 0 {
                    self.ask_end(0, asked);
                }
                return (Some(reply), false);
            }
            // It leaves all owners, including those that have admitted it, so that nothing is left
            // behind.
            (TopicAnswer::Refused(_), _) => {
                self.each(|| TopicQuestion::Gone, asked);
                return (Some(reply), true);
            }
            _ => return (Some(reply), false),
        }
        (None, false)
    }

    /// The owner of a message; for an unknown id any one, which counts the acknowledgement.
    fn owner_of(&self, id: MessageId, of: usize) -> usize {
        let owner = OwnerIndex::of_label(id.partition, of);
        let owner = owner.filter(|owner| self.owners.contains(&(*owner as u8)));
        owner.unwrap_or_else(|| usize::from(self.owners[0]))
    }

    /// Makes an owner check for obstacles.
    fn check(&mut self, at: usize, asked: &mut OwnerQuestions) {
        self.stage = RouteStage::Checking(at);
        let owner = usize::from(self.owners[at]);
        let Some(wanted) = &self.wanted else { return };
        let mut part = wanted.clone();
        if let WantedTopics::Several(topics) = &mut part.topics {
            topics.retain(|topic| OwnerIndex::of_topic(topic, asked.of()) == owner);
        }
        asked.put(owner, self.connection, TopicQuestion::Consume(part));
        if at + 1 == self.owners.len() {
            self.wanted = None;
        }
    }

    fn join(&mut self, at: usize, asked: &mut OwnerQuestions) {
        self.stage = RouteStage::Joining(at);
        asked.put(self.owners[at], self.connection, TopicQuestion::Join);
    }

    fn ask_end(&mut self, at: usize, asked: &mut OwnerQuestions) {
        self.asks.1 = at;
        asked.put(self.owners[at], self.connection, TopicQuestion::AskEnd);
    }

    fn renew(&self, rights: &Rights, asked: &mut OwnerQuestions) {
        self.each(|| TopicQuestion::Renew(Box::new(rights.clone())), asked);
    }

    /// Gives an owner its turn.
    fn turn(&self, owner: Option<usize>, asked: &mut OwnerQuestions) {
        if let Some(owner) = owner {
            asked.put(owner, self.connection, TopicQuestion::Turn);
        }
    }

    fn each(&self, request: impl Fn() -> TopicQuestion, asked: &mut OwnerQuestions) {
        for owner in &self.owners {
            asked.put(*owner, self.connection, request());
        }
    }
}

/// The owners of a consumer's topics, in order; at least one. A list that includes non-persistent
/// topics belongs to the first owner, which serves or refuses it.
fn owners_of(topics: &WantedTopics, of: usize) -> Vec<u8> {
    match topics {
        WantedTopics::One(topic) => vec![OwnerIndex::of_topic(topic, of) as u8],
        WantedTopics::Several(topics) => {
            let is_stored = topics.iter().all(|topic| topic.domain() == TopicDomain::Persistent);
            let count = if is_stored { topics.len() } else { 0 };
            let topics = topics.iter().take(count);
            let mut owners: Vec<u8> =
                topics.map(|topic| OwnerIndex::of_topic(topic, of) as u8).collect();
            owners.sort_unstable();
            owners.dedup();
            if owners.is_empty() { vec![0] } else { owners }
        }
        WantedTopics::Matching { namespace, .. }
            if namespace.starts_with(TopicDomain::NonPersistent.word()) =>
        {
            vec![0]
        }
        WantedTopics::Matching { .. } => (0..of as u8).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::topic::{
        Flow, Hashing, Position, ProducerOptions, SubscriptionType, TopicName, TopicRefusal,
    };

    fn connection(id: u32) -> ConnectionRef {
        ConnectionRef { shard: 0, id, serial: 1 }
    }

    fn topic(name: &str) -> TopicName {
        TopicName::read(&format!("persistent://t/n/{name}")).unwrap()
    }

    fn produce(name: &str) -> TopicQuestion {
        let (name, initial_sequence) = (topic(name), None);
        let hashing = Hashing::Java;
        let remote = "127.0.0.1:1".into();
        TopicQuestion::Produce(Box::new(ProducerOptions {
            topic: name,
            name: None,
            initial_sequence,
            round_robin: false,
            hashing,
            remote,
        }))
    }

    fn consume(topics: WantedTopics) -> TopicQuestion {
        TopicQuestion::Consume(Box::new(ConsumerOptions {
            topics,
            subscription: "s".into(),
            kind: SubscriptionType::Shared,
            durable: true,
            earliest: false,
            flow: Flow::Push(10),
            ack_timeout_ms: 0,
            nack_delay_ms: 0,
            redeliveries_max: 0,
            dead_letters: None,
            name: "c".into(),
            priority: 0,
            remote: "127.0.0.1:1".into(),
            rights: None,
            window: None,
        }))
    }

    /// What each owner is asked, in short.
    fn asked(routes: &mut Routes) -> Vec<Vec<String>> {
        let short = |(_, request): (ConnectionRef, TopicQuestion)| {
            let text = format!("{request:?}");
            text.split(['(', ' ']).next().unwrap_or_default().to_owned()
        };
        routes.take_asked().map(|asked| asked.into_iter().map(short).collect()).collect()
    }

    /// Names of topics of the first owner of two and of the second.
    const NAMES: [&str; 2] = ["a", "b"];

    #[test]
    fn all_that_a_connection_says_goes_to_the_owner_of_its_topic() {
        let mut routes = Routes::new(2);
        for (id, name) in NAMES.into_iter().enumerate() {
            assert_eq!(OwnerIndex::of_topic(&topic(name), 2), id);
            routes.ask(connection(id as u32), produce(name));
        }
        assert_eq!(asked(&mut routes), [["Produce"], ["Produce"]]);
        routes.ask(connection(1), TopicQuestion::Took);
        routes.ask(connection(1), TopicQuestion::Gone);
        assert_eq!(asked(&mut routes), [vec![], vec!["Took", "Gone"]]);
        // Another connection with its number.
        routes.ask(
            ConnectionRef { serial: 2, ..connection(1) },
            consume(WantedTopics::One(topic(NAMES[0]).partition(7))),
        );
        routes.ask(ConnectionRef { serial: 2, ..connection(1) }, TopicQuestion::AskEnd);
        assert_eq!(asked(&mut routes), [vec!["Consume", "AskEnd"], vec![]]);
        assert!(!routes.has_asked());
    }

    #[test]
    fn a_consumer_of_several_owners_goes_from_one_to_the_other_and_ends_at_both() {
        let mut routes = Routes::new(2);
        let both = || consume(WantedTopics::Several(NAMES.map(topic).into()));
        routes.ask(connection(3), both());
        assert_eq!(asked(&mut routes), [vec!["Consume"], vec![]]);
        assert!(routes.answered(connection(3), TopicAnswer::Ready).is_none());
        assert_eq!(asked(&mut routes), [vec![], vec!["Consume"]]);
        assert!(routes.answered(connection(3), TopicAnswer::Ready).is_none());
        assert_eq!(asked(&mut routes), [vec!["Join"], vec![]]);
        assert!(routes.answered(connection(3), TopicAnswer::Opened).is_none());
        assert_eq!(asked(&mut routes), [vec![], vec!["Join"]]);
        assert!(matches!(
            routes.answered(connection(3), TopicAnswer::Opened),
            Some(TopicAnswer::Opened)
        ));
        for (number, owner) in [(2, 0), (3, 1)] {
            let (position, partition) = (Position::FIRST, MessageId::topic_label(number));
            routes.ask(connection(3), TopicQuestion::Ack(MessageId { position, partition }));
            assert_eq!(asked(&mut routes)[owner], ["Ack"]);
        }
        // Of no topic: it makes room all the same.
        routes.ask(
            connection(3),
            TopicQuestion::Ack(MessageId { position: Position::END, partition: None }),
        );
        assert_eq!(asked(&mut routes), [vec!["Ack"], vec![]]);
        let refusal =
            || TopicRefusal { cause: crate::service::topic::Cause::NotFound, reason: "".into() };
        assert!(matches!(
            routes.answered(connection(3), TopicAnswer::Refused(refusal())),
            Some(TopicAnswer::Refused(_))
        ));
        assert_eq!(asked(&mut routes), [["Gone"], ["Gone"]]);
        assert!(routes.spans.is_empty());
        // One that leaves on its way is heard of by both too, and what an owner still says is for
        // nobody else.
        routes.ask(connection(4), both());
        routes.ask(connection(4), TopicQuestion::Gone);
        assert_eq!(asked(&mut routes), [vec!["Consume", "Gone"], vec!["Gone"]]);
        let other = ConnectionRef { serial: 2, ..connection(4) };
        routes.ask(other, both());
        asked(&mut routes);
        routes.answered(connection(4), TopicAnswer::Ready);
        assert!(!routes.has_asked());
    }
}
