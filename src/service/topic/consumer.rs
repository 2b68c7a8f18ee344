//! A consumer or reader: its subscriptions and its flow control.

use super::handles::SubId;
use super::source::ConsumerSources;
use super::window::{PERMITS_MAX, UNRECEIVED_BYTES_MAX};
use super::{
    ConsumerOptions, ConsumerWindow, Flow, MessageId, Position, ReaderOptions, Right,
    SubscriptionType, TopicName, TopicPattern, WantedTopics,
};
use crate::service::ConnectionRef;

/// A consumer or a reader.
#[derive(Debug)]
pub(super) struct TopicConsumer {
    pub(super) connection: ConnectionRef,
    /// What it has asked for. Of its topics only a pattern is kept, which new topics have to match to be among its
    /// sources; a reader has a subscription of its own.
    pub(super) options: ConsumerOptions,
    pub(super) is_reader: bool,
    /// Topics that are not there yet and are among its sources as soon as they are; only a reader has such.
    pub(super) awaits: Vec<TopicName>,
    /// Where its messages come from.
    pub(super) sources: ConsumerSources,
    /// Subscriptions that wait until it takes more.
    pub(super) blocked: Vec<SubId>,
    /// Messages that it has got, ever.
    pub(super) delivered: u64,
    /// This owner's place among those that it has: a byte where there is room for one.
    owner: u8,
    /// Whether it was told that it is a consumer: its connection has no use for messages before.
    is_told: bool,
    /// Whether its connection is over, and it has still topics to leave.
    is_over: bool,
    /// Messages that fill its window.
    outstanding: u32,
    /// Messages that it has asked for.
    permits: u32,
    unreceived_bytes: usize,
    awaits_receipt: bool,
}

impl TopicConsumer {
    pub(super) fn new(
        connection: ConnectionRef,
        mut options: ConsumerOptions,
        owner: usize,
    ) -> Self {
        // A list may have thousands of names, and its topics are known by its sources from now on.
        if !matches!(options.topics, WantedTopics::Matching { .. }) {
            options.topics = WantedTopics::Several(Vec::new());
        }
        Self {
            connection,
            options,
            is_reader: false,
            awaits: Vec::new(),
            sources: ConsumerSources::default(),
            blocked: Vec::new(),
            delivered: 0,
            owner: owner as u8,
            is_told: false,
            is_over: false,
            outstanding: 0,
            permits: 0,
            unreceived_bytes: 0,
            awaits_receipt: false,
        }
    }

    /// A reader, whose subscription is its own.
    pub(super) fn reader(
        connection: ConnectionRef,
        reading: ReaderOptions,
        subscription: Box<str>,
    ) -> Self {
        let options = ConsumerOptions {
            topics: WantedTopics::One(reading.topic),
            subscription,
            kind: SubscriptionType::Exclusive,
            durable: false,
            earliest: false,
            flow: Flow::Push(reading.window),
            ack_timeout_ms: 0,
            nack_delay_ms: 0,
            redeliveries_max: 0,
            dead_letters: None,
            name: reading.name,
            priority: 0,
            remote: reading.remote,
            rights: None,
            window: None,
        };
        Self { is_reader: true, ..Self::new(connection, options, 0) }
    }

    /// The pattern of its topics, if it has one.
    pub(super) fn pattern(&self) -> Option<(&str, &TopicPattern)> {
        match &self.options.topics {
            WantedTopics::Matching { namespace, pattern } => Some((namespace, pattern)),
            _ => None,
        }
    }

    /// Whether its rights let it have a topic that its pattern matches.
    pub(super) fn may_have(&self, topic: &TopicName) -> bool {
        self.options.rights.as_ref().is_none_or(|rights| rights.allow(Right::Consume, topic))
    }

    /// Whether it takes a message.
    pub(super) fn has_room(&self) -> bool {
        // Deliveries before the answer that it is a consumer would be lost on the way.
        if !self.is_told || self.is_over {
            return false;
        }
        match (&self.options.window, self.options.flow) {
            (Some(window), _) => window.has_room(self.owner.into()),
            // Its shard has as much as it should hold of this connection.
            (None, _) if self.awaits_receipt => false,
            (None, Flow::Push(window)) => self.outstanding < window.max(1),
            (None, Flow::Pull) => self.permits > 0,
        }
    }

    /// What it takes of several owners together, if it has to do with several.
    pub(super) fn window(&self) -> Option<&ConsumerWindow> {
        self.options.window.as_deref()
    }

    /// It has got a topic.
    pub(super) fn has_joined(&self) {
        if let Some(window) = &self.options.window {
            window.has_joined();
        }
    }

    /// It knows now that it is a consumer.
    pub(super) fn tell(&mut self) {
        self.is_told = true;
    }

    /// It gets a message of so many bytes. Returns whether its receipt is wanted; nothing when another owner has taken the
    /// room that there was.
    pub(super) fn give(&mut self, bytes: usize) -> Option<bool> {
        let shared = match &self.options.window {
            Some(window) => Some(window.take(self.owner.into(), bytes)?),
            None => None,
        };
        self.outstanding = self.outstanding.saturating_add(1);
        self.permits = self.permits.saturating_sub(1);
        self.delivered += 1;

        if shared.is_none() {
            self.unreceived_bytes += bytes;
            self.awaits_receipt = self.unreceived_bytes >= UNRECEIVED_BYTES_MAX;
        }
        Some(shared.unwrap_or(self.awaits_receipt))
    }

    /// So many messages fill its window no more.
    pub(super) fn free(&mut self, count: u32) {
        // Clients may acknowledge what they never got.
        self.outstanding = self.outstanding.saturating_sub(count);
        if let Some(window) = &self.options.window {
            window.free(count);
        }
    }

    /// It asks for more.
    pub(super) fn permit(&mut self, count: u32) {
        if self.options.flow == Flow::Pull {
            self.permits = self.permits.saturating_add(count).min(PERMITS_MAX);
        }
    }

    /// Everything has left for it.
    pub(super) fn took(&mut self) {
        self.unreceived_bytes = 0;
        self.awaits_receipt = false;
    }

    /// Its connection is over.
    pub(super) fn part(&mut self) {
        self.is_over = true;
    }

    /// Whether its connection is over.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether its messages' ids tell partitions, or nothing, and not topics.
    pub(super) fn is_of_one_topic(&self) -> bool {
        let first = self.sources.next(None);
        first.is_some_and(|first| {
            !MessageId { position: Position::FIRST, partition: first.label }.names_topic()
        })
    }

    /// What fills its window, and what it has asked for.
    pub(super) fn fill(&self) -> (u32, u32) {
        (self.outstanding, self.permits)
    }
}
