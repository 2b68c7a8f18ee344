//! The presence of the channels that this shard owns: questions to it, and their effects.

use super::{Id, Outgoing, Shard};
use crate::dialect::Kind;
use crate::service::presence::{Presence, PresenceHost, PresenceQuestion};
use crate::service::{ConnectionRef, Effect, Service as _};
use crate::wheel::Now;

impl Shard {
    /// Asks this shard, as the owner of a channel, a question of any shard's connection.
    pub fn ask_presence(&mut self, from: ConnectionRef, question: PresenceQuestion, now: Now) {
        let Some(dialect) = Kind::of(question.dialect) else { return };
        self.with_presence(dialect, |presence, host| presence.ask(from, question, now, host));
    }

    /// Announces the member counts that are due.
    pub(super) fn tick_presence(&mut self, now: Now) {
        for &kind in Kind::ALL {
            self.with_presence(kind, |presence, host| presence.tick(now, host));
        }
    }

    /// Runs a step of a dialect's presence, and carries out its effects.
    pub(super) fn with_presence(
        &mut self,
        kind: Kind,
        step: impl FnOnce(&mut Presence, &mut PresenceHost<'_>),
    ) {
        let Self { shared, presence, outgoing, questions, limits, number, .. } = self;
        // An owner's own questions, such as webhooks, belong to no connection.
        let from = ConnectionRef { shard: *number, id: Id::MAX, serial: 0 };
        let mut say = |effect| match effect {
            Effect::Publication(publication) => {
                // Only this node's sessions are members of what a shard owns.
                outgoing.push(Outgoing::Publication(publication.for_this_node()));
            }
            Effect::Answer(connection, answer) => {
                outgoing.push(Outgoing::Answer(connection, answer))
            }
            Effect::Ask(question) => questions.push((from, question)),
        };
        let mut host = PresenceHost {
            voice: kind.presence(&shared.settings),
            retained: &mut shared.retained,
            draft: &mut shared.draft,
            outbox_bytes_max: limits.outbox_bytes_max,
            say: &mut say,
        };
        step(&mut presence[kind as usize], &mut host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::service::presence::{ChannelInquiry, PresenceRequest, WantedCounts};
    use crate::shard::Limits;
    use std::sync::Arc;

    const NOW: Now = Now { monotonic_ns: 0, unix_ms: 0 };

    fn shard() -> Shard {
        Shard::new(Arc::default(), Limits::default(), Arc::new(Metrics::default()), NOW)
    }

    /// Something that the connection with this number asks about an app.
    fn ask(shard: &mut Shard, id: u32, app: &str, request: PresenceRequest) {
        let dialect =
            *Kind::ALL.iter().find(|kind| kind.presence(shard.settings()).is_some()).unwrap();
        let question = PresenceQuestion { dialect: dialect.id(), app: app.into(), request };
        shard.ask_presence(ConnectionRef { shard: 0, id, serial: 0 }, question, NOW);
    }

    fn join(user: &str, info: &str) -> PresenceRequest {
        PresenceRequest::Join { channel: "presence-a".into(), user: user.into(), info: info.into() }
    }

    #[test]
    fn nothing_is_kept_of_an_app_without_subscriptions() {
        let mut shard = shard();
        let inquiry = || {
            let channel = ChannelInquiry::Channel("room".into(), WantedCounts::default());
            PresenceRequest::Inquire(channel)
        };
        for app in ["1", "2"] {
            ask(&mut shard, 0, app, inquiry());
            ask(&mut shard, 1, app, PresenceRequest::Enter("room".into()));
            ask(&mut shard, 1, app, join("7", "null"));
            ask(&mut shard, 0, app, inquiry());
        }
        let apps = |shard: &Shard| shard.presence.iter().flat_map(Presence::apps).count();
        assert_eq!(apps(&shard), 2);
        for channel in ["room", "presence-a", "presence-a"] {
            ask(&mut shard, 1, "1", PresenceRequest::Leave(channel.into()));
        }
        assert!(!shard.is_idle(), "there is another app");
        assert_eq!(shard.presence.iter().flat_map(Presence::apps).collect::<Vec<_>>(), ["2"]);
        for channel in ["room", "presence-a", "presence-a"] {
            ask(&mut shard, 1, "2", PresenceRequest::Leave(channel.into()));
        }
        assert!(shard.is_idle(), "such a shard need not turn at every tick");
    }

    #[test]
    fn an_owner_that_has_much_to_say_hands_it_on_before_it_takes_more_questions() {
        let mut shard = shard();
        let info = format!("\"{}\"", "x".repeat(1000));
        let mut taken = 0;
        while shard.takes_more() {
            ask(&mut shard, taken, "1", join(&(taken % 100).to_string(), &info));
            taken += 1;
        }
        let told: usize = shard.take_outgoing().iter().map(Outgoing::weight).sum();
        assert!((4 << 20..5 << 20).contains(&told), "{taken} questions come to {told} bytes");
        assert!(shard.takes_more());
    }
}
