//! The settings of all protocols.

use super::{channel, echo, personium, pulsar, wazo};
use crate::proxy::Networks;
use crate::service::topic::TopicRules;

/// The settings of every dialect, with the verifier of its tokens.
#[derive(Default)]
pub struct Settings {
    /// Of both Personium dialects.
    pub personium: personium::PersoniumSettings,
    /// Of `channel`.
    pub channel: channel::ChannelSettings,
    /// Of `echo`.
    pub echo: echo::EchoSettings,
    /// Of `pulsar`.
    pub pulsar: pulsar::PulsarSettings,
    /// Of `wazo`.
    pub wazo: wazo::WazoSettings,
    /// The proxies that are believed when they name their clients.
    pub trusted_proxies: Networks,
}

impl Settings {
    /// How many publications may be kept of the topics that one of them belongs to, any number when 0; nothing when
    /// none is to be kept.
    #[must_use]
    pub fn retained_max(&self, topic: &[u8]) -> Option<usize> {
        // Echo's are the only ones that are kept.
        self.echo.retained_max(topic)
    }

    /// The rules of the durable topics.
    #[must_use]
    pub fn topic_rules(&self) -> TopicRules {
        self.pulsar.rules()
    }
}
