//! Conversations with the WebSocket API of Pulsar, as data. The owner of the topics is played by the tests: they look
//! at what it is asked, and say what it says.
//!
//! Here: the stage. `session`: from the request to the end. `tokens`: who may. `producer` and `consumer`: what they say
//! and are told, byte for byte. `volatile`: topics that are not persistent, and what is fed. `statistics`: what is asked
//! over HTTP. `hostile`: what nobody means well.

#![allow(clippy::unwrap_used)]

#[path = "../conversation/mod.rs"]
mod conversation;

mod consumer;
mod hostile;
mod producer;
mod session;
mod statistics;
mod tokens;
mod volatile;

pub(crate) use conversation::{Bus, NOW_S, verifier};
use fanfare::dialect::{Settings, pulsar};
use fanfare::service::topic::{
    MessageDraft, MessageId, Position, Recipient, StoredMessage, TopicAnswer, TopicDelivery,
    TopicMessage, TopicQuestion, TopicRefusal,
};
use fanfare::service::{Answer, ConnectionRef, Question};
use std::sync::Arc;

const PATH: &str = PRODUCER_1;
const HOST: &str = "localhost:8080";
const KIND: fanfare::dialect::Kind = fanfare::dialect::Kind::Pulsar;

/// The paper's own paths.
const PRODUCER_1: &str = "/ws/producer/persistent/my-property/us-west/my-ns/my-topic1";
const CONSUMER_1: &str = "/ws/consumer/persistent/my-property/us-west/my-ns/my-topic1/my-sub1";
const READER_1: &str = "/ws/reader/persistent/my-property/us-west/my-ns/my-topic1";
/// The same of the second version.
const PRODUCER_2: &str = "/ws/v2/producer/persistent/t/n/x";
const CONSUMER_2: &str = "/ws/v2/consumer/persistent/t/n/x/sub";
const READER_2: &str = "/ws/v2/reader/persistent/t/n/x";

/// A bus, and the words of the owner of the topics.
pub(crate) struct Stage {
    pub(crate) bus: Bus,
}

impl Stage {
    /// Everybody may come.
    pub(crate) fn open() -> Self {
        Self::of(|settings| settings.anonymous = true)
    }

    pub(crate) fn of(change: impl FnOnce(&mut pulsar::PulsarSettings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings.pulsar);
        let mut bus = Bus::of(settings);
        bus.remote = "127.0.0.1:5";
        Self { bus }
    }

    /// Somebody comes; returns what the owner is asked then, and forgets what it was before.
    pub(crate) fn comes(
        &mut self,
        name: &str,
        path: &str,
    ) -> Option<(ConnectionRef, TopicQuestion)> {
        self.take_questions();
        self.bus.connect(name, path, HOST);
        let mut asked = self.take_questions();
        assert!(asked.len() <= 1, "{asked:?}");
        asked.pop()
    }

    /// Somebody comes and is let in.
    pub(crate) fn joins(&mut self, name: &str, path: &str) -> ConnectionRef {
        let (connection, _) =
            self.comes(name, path).unwrap_or_else(|| panic!("{path}: {}", self.refusal(name)));
        assert_eq!(self.bus.heard(name), Vec::<String>::new(), "not before the owner has spoken");
        self.told(connection, TopicAnswer::Opened);
        assert_eq!(self.bus.heard(name), ["101"], "{path}");
        connection
    }

    /// Somebody comes and is let in by nobody: the status and the line that says why.
    pub(crate) fn refused(&mut self, path: &str) -> (String, String) {
        assert!(self.comes("refused", path).is_none(), "{path}");
        (self.bus.heard("refused").join(" "), self.refusal("refused"))
    }

    pub(crate) fn refusal(&self, name: &str) -> String {
        self.bus.clients[name].page.trim_end().to_owned()
    }

    /// What the owner is asked since somebody looked.
    pub(crate) fn asked(&mut self) -> Vec<TopicQuestion> {
        self.take_questions().into_iter().map(|(_, question)| question).collect()
    }

    pub(crate) fn take_questions(&mut self) -> Vec<(ConnectionRef, TopicQuestion)> {
        self.bus.flush();
        let mut topics = Vec::new();
        for (from, question) in std::mem::take(&mut self.bus.questions) {
            match question {
                Question::Topic(question) => topics.push((from, question)),
                question => self.bus.questions.push((from, question)),
            }
        }
        topics
    }

    /// The same, to be read.
    pub(crate) fn asked_in_words(&mut self) -> String {
        self.asked().iter().map(|request| format!("{request:?}")).collect::<Vec<_>>().join(" ")
    }

    /// What a client says is answered so.
    pub(crate) fn says(&mut self, name: &str, text: &str) -> Vec<String> {
        self.bus.say(name, text);
        self.bus.heard(name)
    }

    pub(crate) fn told(&mut self, connection: ConnectionRef, reply: TopicAnswer) {
        self.bus.shard.answer(connection, Answer::Topic(reply), self.bus.now);
        self.bus.flush();
    }

    pub(crate) fn refuses(&mut self, connection: ConnectionRef, refusal: &TopicRefusal) {
        self.told(connection, TopicAnswer::Refused(refusal.clone()));
    }

    /// The owner delivers a message to some.
    pub(crate) fn delivers(&mut self, message: &TopicMessage<'_>, recipients: &[Recipient]) {
        let message = Arc::new(stored(message));
        let delivery = TopicDelivery { message, recipients: recipients.to_vec() };
        self.bus.shard.take_delivery(&delivery, self.bus.now);
        self.bus.flush();
    }
}

/// The paper's message, at the paper's place.
pub(crate) fn stored(message: &TopicMessage<'_>) -> StoredMessage {
    MessageDraft::new(message).store(Position::new(0, 3).unwrap(), 3, 100)
}

/// The paper's message.
pub(crate) fn paper() -> TopicMessage<'static> {
    TopicMessage {
        published_ms: 1_472_575_557_785,
        context: Some("1"),
        properties: vec![("key1", "value1"), ("key2", "value2")],
        payload: b"Hello World",
        ..TopicMessage::default()
    }
}

pub(crate) fn id(text: &str) -> MessageId {
    MessageId::read(text).unwrap()
}

pub(crate) fn recipient(connection: ConnectionRef) -> Recipient {
    Recipient { connection, redeliveries: 0, partition: None, wants_receipt: false }
}
