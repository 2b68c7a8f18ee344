//! What a node's part of the cluster is given: its plan once, its host at each step.

use super::boundary::ClusterOutput;
use crate::frame::{Draft, Publication};
use crate::service::presence::{PresenceAnswer, PresenceVoice};
use crate::service::{Answer, ConnectionRef, DialectId, Effect};
use crate::wheel::Now;

/// How a node takes part in the cluster, for its whole life.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Whether a dialect has presence. Without it the node takes no partition.
    pub has_presence: bool,
    /// A hash of the settings that all nodes must have in common.
    pub settings_hash: u64,
    /// Versions of live packets that the node reads.
    pub versions: Vec<u8>,
}

/// What the cluster's thread lends for one step.
pub struct ClusterHost<'a> {
    /// The wording and rules of a dialect; `None` for one without presence.
    pub voice: &'a dyn Fn(DialectId) -> Option<&'a dyn PresenceVoice>,
    /// Builds publications.
    pub draft: &'a mut Draft,
    /// The limit on bytes queued for one client.
    pub outbox_bytes_max: usize,
    /// Counts this node's connections by app.
    pub connections: &'a dyn Fn() -> Vec<(Box<str>, u64)>,
    /// Notes that nothing was found of a topic, whose group remembers at most so many. Returns
    /// whether nothing is retained of it and this is the first miss since something was.
    pub misses: &'a mut dyn FnMut(&[u8], usize, Now) -> bool,
    /// Receives the outputs, in order.
    pub out: &'a mut Vec<ClusterOutput>,
}

impl<'a> ClusterHost<'a> {
    pub(super) fn news(&mut self, is_good: bool, text: String) {
        self.out.push(ClusterOutput::News(is_good, text));
    }

    /// Answers a connection.
    pub(super) fn answer(&mut self, connection: ConnectionRef, answer: PresenceAnswer) {
        let answer = Answer::Presence(answer);
        self.out.push(ClusterOutput::Effect(Effect::Answer(connection, answer)));
    }

    /// Publishes to this node's connections.
    pub(super) fn publish(&mut self, publication: Option<Publication>) {
        let publication = publication.map(Effect::Publication);
        self.out.extend(publication.map(ClusterOutput::Effect));
    }

    /// The dialects' wording and rules.
    pub(super) fn words(&self) -> PresenceWords<'a> {
        PresenceWords { voice: self.voice, outbox_bytes_max: self.outbox_bytes_max }
    }
}

/// The dialects' wording and rules.
#[derive(Clone, Copy)]
pub(super) struct PresenceWords<'a> {
    voice: &'a dyn Fn(DialectId) -> Option<&'a dyn PresenceVoice>,
    /// The limit on bytes queued for one client.
    pub(super) outbox_bytes_max: usize,
}

impl<'a> PresenceWords<'a> {
    /// The wording and rules of a dialect; `None` for one without presence.
    pub(super) fn voice(&self, dialect: DialectId) -> Option<&'a dyn PresenceVoice> {
        (self.voice)(dialect)
    }
}
