//! The presence: what the sessions of this shard note for their owners, and what this shard says as an owner.

use super::{Id, Outbound, Outgoing, Shard, Shared};
use crate::dialect::{Input, echo};
use crate::frame::Publication;
use crate::service::ConnectionRef;
use crate::service::presence::{Change, Inquiry, Joined, Newcomer, Note, Reply};
use crate::service::webhook::Webhook;
use crate::wheel::Now;
use std::sync::Arc;

impl Shard {
    /// What the owners of presence are to be told since the last call: the connection, the app's id, the note.
    pub fn take_notes(&mut self) -> Vec<(ConnectionRef, Arc<str>, Note)> {
        std::mem::take(&mut self.notes)
    }

    /// Keeps a note of a session for the owner of its app's presence.
    pub(super) fn note(&mut self, id: Id, app: &Arc<str>, note: Note) {
        let serial = self.sessions[id as usize].serial;
        self.notes.push((ConnectionRef { shard: self.number, id, serial }, Arc::clone(app), note));
    }

    /// As the owner of an app's presence, takes a note of some shard's.
    pub fn take_note(&mut self, connection: ConnectionRef, app: &str, note: &Note, now: Now) {
        if let Note::Miss(channel) = note {
            return self.take_miss(app, channel, now);
        }
        let Self { shared, presence, outgoing, webhooks, limits, .. } = self;
        let rules = shared.settings.echo.rules(app, limits.outbox_bytes_max);
        let now_ms = now.monotonic_ns / 1_000_000;
        let of_app = match presence.get_mut(app) {
            Some(of_app) => of_app,
            None => presence.entry(app.into()).or_default(),
        };
        let joined = announcing(shared, outgoing, webhooks, app, now, |tell| match note {
            Note::Enter(channel) => {
                of_app.enter(channel, rules, now_ms, tell);
                None
            }
            Note::Leave(channel) => {
                of_app.leave(connection, channel, rules, now_ms, tell);
                None
            }
            Note::Join { channel, user, info } => {
                let listed_bytes = echo::listed_bytes(user, info);
                Some((
                    channel,
                    of_app.join(connection, Newcomer { channel, user, info, listed_bytes }, rules, tell),
                ))
            }
            Note::Miss(_) | Note::Inquire(_) => None,
        });
        if let Note::Inquire(Inquiry::Dismiss(user)) = note {
            // A connection that hears of it twice has gone by then.
            of_app
                .connections(user)
                .for_each(|connection| outgoing.push(Outgoing::Reply(connection, Reply::Dismissed)));
        }
        let reply = match (note, joined) {
            (_, Some((channel, Joined::Present))) => {
                let list = echo::succeeded(app, channel, of_app, &mut shared.draft, now);
                Some(Reply::Present(channel.clone(), Box::new(list)))
            }
            (_, Some((channel, Joined::Full))) => Some(Reply::Full(channel.clone())),
            (_, Some((channel, Joined::TooLong))) => Some(Reply::TooLong(channel.clone())),
            (Note::Inquire(inquiry), None) => {
                let kept = |channel: &str| echo::kept(app, channel, &shared.retained, now);
                Some(Reply::Answer(echo::answer(inquiry, of_app, &kept)))
            }
            _ => None,
        };
        if of_app.is_empty() {
            presence.remove(app);
        }
        if let Some(reply) = reply {
            outgoing.push(Outgoing::Reply(connection, reply));
        }
    }

    /// A connection of some shard has found nothing kept in a channel. It is told once, until something is: what has
    /// come here meanwhile is on its way to that connection too.
    fn take_miss(&mut self, app: &str, channel: &str, now: Now) {
        let Self { shared, outgoing, webhooks, .. } = self;
        let topic = echo::topic_of(app, channel);
        let entries_max = shared.settings.retained_max(&topic);
        if entries_max.is_some_and(|max| shared.retained.miss(&topic, max, now)) {
            announcing(shared, outgoing, webhooks, app, now, |tell| tell(Change::Missed(channel)));
        }
    }

    /// What the owner of an app's presence says to a connection of this shard, if it is still the same.
    pub fn take_reply(&mut self, connection: ConnectionRef, reply: Reply, now: Now) {
        if self
            .sessions
            .get(connection.id as usize)
            .is_some_and(|session| session.serial == connection.serial)
        {
            match reply {
                Reply::Answer(body) => self.answer_inquiry(connection.id, 200, &body, now),
                reply => self.tell(connection.id, Input::Reply(reply), now),
            }
        }
    }

    /// Tells the counts whose moment has come.
    pub(super) fn tick_presence(&mut self, now: Now) {
        let Self { shared, presence, outgoing, webhooks, .. } = self;
        let now_ms = now.monotonic_ns / 1_000_000;
        for (app, presence) in presence.iter_mut().filter(|(_, presence)| presence.is_due(now_ms)) {
            announcing(shared, outgoing, webhooks, app, now, |tell| presence.tick(now_ms, tell));
        }
    }
}

/// Runs something that changes the presence of an app, and says what it has changed.
fn announcing<R>(
    shared: &mut Shared,
    outgoing: &mut Outbound,
    webhooks: &mut Vec<Webhook>,
    app: &str,
    now: Now,
    change: impl FnOnce(&mut dyn FnMut(Change<'_>)) -> R,
) -> R {
    let is_told = shared.settings.echo.by_id(app).is_some_and(|app| app.has_webhooks());
    let publications = &mut |publication: Publication| outgoing.push(Outgoing::Publication(publication));
    let webhooks = is_told.then_some(webhooks);
    let mut announcer = echo::Announcer { app, now, draft: &mut shared.draft, publications, webhooks };
    change(&mut |change| announcer.tell(&change))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::service::presence::Wanted;
    use crate::shard::Limits;

    const NOW: Now = Now { monotonic_ns: 0, unix_ms: 0 };

    fn shard() -> Shard {
        Shard::new(Arc::default(), Limits::default(), Arc::new(Metrics::default()), NOW)
    }

    fn connection(id: u32) -> ConnectionRef {
        ConnectionRef { shard: 0, id, serial: 0 }
    }

    fn join(user: &str, info: &str) -> Note {
        Note::Join { channel: "presence-a".into(), user: user.into(), info: info.into() }
    }

    #[test]
    fn nothing_is_kept_of_an_app_in_which_nobody_is() {
        let mut shard = shard();
        let inquiry = || Note::Inquire(Inquiry::Channel("room".into(), Wanted::default()));
        for app in ["1", "2"] {
            shard.take_note(connection(0), app, &inquiry(), NOW);
            shard.take_note(connection(1), app, &Note::Enter("room".into()), NOW);
            shard.take_note(connection(1), app, &join("7", "null"), NOW);
            shard.take_note(connection(0), app, &inquiry(), NOW);
        }
        assert_eq!(shard.presence.len(), 2);
        for channel in ["room", "presence-a", "presence-a"] {
            shard.take_note(connection(1), "1", &Note::Leave(channel.into()), NOW);
        }
        assert_eq!(shard.presence.keys().map(|app| &**app).collect::<Vec<_>>(), ["2"]);
    }

    #[test]
    fn an_owner_that_has_much_to_say_hands_it_on_before_it_takes_more_notes() {
        let mut shard = shard();
        let info = format!("\"{}\"", "x".repeat(1000));
        let mut taken = 0;
        while shard.takes_more() {
            shard.take_note(connection(taken), "1", &join(&(taken % 100).to_string(), &info), NOW);
            taken += 1;
        }
        let told: usize = shard.take_outgoing().iter().map(Outgoing::weight).sum();
        assert!((4 << 20..5 << 20).contains(&told), "{taken} notes come to {told} bytes");
        assert!(shard.takes_more());
    }
}
