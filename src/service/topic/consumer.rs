//! A consumer or reader: its subscriptions and flow control.

use super::handles::{ConsumerId, SubId};
use super::source::ConsumerSources;
use super::window::{PERMITS_MAX, UNRECEIVED_BYTES_MAX};
use super::{
    ConsumerOptions, ConsumerWindow, Flow, MessageId, Position, ReaderOptions, Right,
    SubscriptionType, TopicName, TopicPattern, WantedTopics,
};
use crate::service::ConnectionRef;
use serde::{Deserialize, Serialize};

/// A consumer or reader.
#[derive(Debug)]
pub(super) struct TopicConsumer {
    pub(super) connection: ConnectionRef,
    /// Its options. Of the topics only a pattern is kept, for matching new topics; a reader has a
    /// subscription of its own.
    pub(super) options: ConsumerOptions,
    pub(super) is_reader: bool,
    /// Topics to join as soon as they exist; only readers wait for topics.
    pub(super) awaits: Vec<TopicName>,
    /// The topics its messages come from.
    pub(super) sources: ConsumerSources,
    /// Subscriptions waiting for it to have room.
    pub(super) blocked: Vec<SubId>,
    /// Messages delivered in total.
    pub(super) delivered: u64,
    /// The index of this owner; a byte suffices.
    owner: u8,
    /// Whether its connection knows that it is a consumer: earlier messages would be discarded
    /// there.
    is_confirmed: bool,
    /// Whether its connection is gone while it still has topics to leave.
    is_over: bool,
    /// Unacknowledged messages, which fill its window.
    outstanding: u32,
    /// Messages the client has asked for (pull mode).
    permits: u32,
    unreceived_bytes: usize,
    awaits_receipt: bool,
}

/// A consumer or reader as data for another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FrozenConsumer {
    /// Its handle in the process that has written it.
    pub(super) id: ConsumerId,
    pub(super) connection: ConnectionRef,
    /// Whether it joins topics that are created later.
    pub(super) is_matching: bool,
    /// The topics that it joins as soon as they exist.
    pub(super) awaits: Vec<TopicName>,
    options: ConsumerOptions,
    is_reader: bool,
    delivered: u64,
    outstanding: u32,
    permits: u32,
}

impl TopicConsumer {
    /// It as data, without its topics.
    pub(super) fn freeze(&self, id: ConsumerId, is_matching: bool) -> FrozenConsumer {
        let Self { connection, is_reader, delivered, outstanding, permits, .. } = *self;
        let (options, awaits) = (self.options.clone(), self.awaits.clone());
        FrozenConsumer {
            id,
            connection,
            is_matching,
            awaits,
            options,
            is_reader,
            delivered,
            outstanding,
            permits,
        }
    }

    /// A consumer of another process, whose connection has this reference here. It is open, and
    /// what was sent to it there, its shard has: that owes a receipt for it.
    pub(super) fn thaw(frozen: FrozenConsumer, connection: ConnectionRef, owner: usize) -> Self {
        let FrozenConsumer { options, is_reader, delivered, outstanding, permits, .. } = frozen;
        let new = Self::new(connection, options, owner);
        let (is_confirmed, awaits_receipt) = (true, true);
        Self { is_reader, delivered, outstanding, permits, is_confirmed, awaits_receipt, ..new }
    }

    pub(super) fn new(
        connection: ConnectionRef,
        mut options: ConsumerOptions,
        owner: usize,
    ) -> Self {
        // The list may have thousands of names; the sources identify its topics from now on.
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
            is_confirmed: false,
            is_over: false,
            outstanding: 0,
            permits: 0,
            unreceived_bytes: 0,
            awaits_receipt: false,
        }
    }

    /// A reader, with a subscription of its own.
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

    /// The pattern of its topics, with its namespace; `None` for a list.
    pub(super) fn pattern(&self) -> Option<(&str, &TopicPattern)> {
        match &self.options.topics {
            WantedTopics::Matching { namespace, pattern } => Some((namespace, pattern)),
            _ => None,
        }
    }

    /// Whether its rights include a topic that its pattern matches.
    pub(super) fn may_have(&self, topic: &TopicName) -> bool {
        self.options.rights.as_ref().is_none_or(|rights| rights.allow(Right::Consume, topic))
    }

    /// Whether it can be given a message.
    pub(super) fn has_room(&self) -> bool {
        // Deliveries before the confirmation would be lost on the way.
        if !self.is_confirmed || self.is_over {
            return false;
        }
        match (&self.options.window, self.options.flow) {
            (Some(window), _) => window.has_room(self.owner.into()),
            // Its shard already holds as many bytes of this connection as it should.
            (None, _) if self.awaits_receipt => false,
            (None, Flow::Push(window)) => self.outstanding < window.max(1),
            (None, Flow::Pull) => self.permits > 0,
        }
    }

    /// The window shared with other owners, for a consumer that spans several.
    pub(super) fn window(&self) -> Option<&ConsumerWindow> {
        self.options.window.as_deref()
    }

    /// Records in the shared window that it has joined a topic.
    pub(super) fn has_joined(&self) {
        if let Some(window) = &self.options.window {
            window.has_joined();
        }
    }

    /// Records that the connection knows it is a consumer.
    pub(super) fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// Accounts for a message of `bytes`. Returns whether the shard should confirm it, or `None`
    /// when another owner has taken the last room in the shared window.
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

    /// Frees `count` places in its window.
    pub(super) fn free(&mut self, count: u32) {
        // Saturates, because clients may acknowledge messages they never received.
        self.outstanding = self.outstanding.saturating_sub(count);
        if let Some(window) = &self.options.window {
            window.free(count);
        }
    }

    /// Adds permits that the client sent (pull mode).
    pub(super) fn permit(&mut self, count: u32) {
        if self.options.flow == Flow::Pull {
            self.permits = self.permits.saturating_add(count).min(PERMITS_MAX);
        }
    }

    /// Records that its shard has sent everything to the client.
    pub(super) fn took(&mut self) {
        self.unreceived_bytes = 0;
        self.awaits_receipt = false;
    }

    /// Records the end of its connection.
    pub(super) fn part(&mut self) {
        self.is_over = true;
    }

    /// Whether its connection is gone.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether its message ids carry a partition or nothing, rather than a topic.
    pub(super) fn is_of_one_topic(&self) -> bool {
        let first = self.sources.next(None);
        first.is_some_and(|first| {
            !MessageId { position: Position::FIRST, partition: first.label }.names_topic()
        })
    }

    /// Unacknowledged messages and open permits.
    pub(super) fn fill(&self) -> (u32, u32) {
        (self.outstanding, self.permits)
    }
}
