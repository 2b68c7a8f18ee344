//! The rosters: what the sessions of this shard note for their owners, and what this shard says as an owner.

use super::{Id, Outgoing, Shard};
use crate::courier::Notice;
use crate::dialect::{Input, echo};
use crate::frame::Publication;
use crate::roster::{Change, Joined, Note, Reply, Roster, Seat};
use crate::wheel::Now;
use std::sync::Arc;

impl Shard {
    /// What the owners of rosters are to be told since the last call: the connection, the app's id, the note.
    pub fn take_notes(&mut self) -> Vec<(Seat, Arc<str>, Note)> {
        std::mem::take(&mut self.notes)
    }

    /// Keeps a note of a session for the owner of its app's rosters.
    pub(super) fn note(&mut self, id: Id, app: &Arc<str>, note: Note) {
        let serial = self.sessions[id as usize].serial;
        self.notes.push((Seat { shard: self.number, id, serial }, Arc::clone(app), note));
    }

    /// As the owner of an app's rosters, takes a note of some shard's.
    pub fn take_note(&mut self, seat: Seat, app: &str, note: &Note, now: Now) {
        let rules = self.shared.settings.echo.rules(app);
        let now_ms = now.monotonic_ns / 1_000_000;
        let (key, mut roster) =
            self.rosters.remove_entry(app).unwrap_or_else(|| (app.into(), Roster::default()));
        let reply = self.announcing(app, now, |tell| match note {
            Note::Enter(channel) => {
                roster.enter(channel, rules, now_ms, tell);
                None
            }
            Note::Leave(channel) => {
                roster.leave(seat, channel, rules, now_ms, tell);
                None
            }
            Note::Join { channel, user, info } => {
                Some(match roster.join(seat, [channel, user, info], rules, tell) {
                    Joined::Present => Reply::Present(channel.clone(), echo::succeeded(channel, &roster)),
                    Joined::Full => Reply::Full(channel.clone()),
                })
            }
            Note::Inquire(inquiry) => Some(Reply::Answer(echo::answer(inquiry, &roster))),
        });
        self.outgoing.extend(reply.map(|reply| Outgoing::Reply(seat, reply)));
        if !roster.is_empty() {
            self.rosters.insert(key, roster);
        }
    }

    /// What the owner of an app's rosters says to a connection of this shard, if it is still the same.
    pub fn take_reply(&mut self, seat: Seat, reply: Reply, now: Now) {
        if self.sessions.get(seat.id as usize).is_some_and(|session| session.serial == seat.serial) {
            match reply {
                Reply::Answer(body) => self.answer_inquiry(seat.id, &body, now),
                reply => self.tell(seat.id, Input::Reply(reply), now),
            }
        }
    }

    /// Tells the counts whose moment has come.
    pub(super) fn tick_rosters(&mut self, now: Now) {
        let apps: Vec<Box<str>> = self.rosters.keys().cloned().collect();
        for app in apps {
            let Some(mut roster) = self.rosters.remove(&app) else { continue };
            self.announcing(&app, now, |tell| roster.tick(now.monotonic_ns / 1_000_000, tell));
            self.rosters.insert(app, roster);
        }
    }

    /// Runs something that changes the rosters of an app, and says what it has changed.
    fn announcing<R>(
        &mut self,
        app: &str,
        now: Now,
        change: impl FnOnce(&mut dyn FnMut(Change<'_>)) -> R,
    ) -> R {
        let Self { shared, outgoing, notices, .. } = self;
        let is_told = shared.settings.echo.by_id(app).is_some_and(|app| !app.settings.webhook.is_empty());
        let publications = &mut |publication: Publication| outgoing.push(Outgoing::Publication(publication));
        let notices: Option<&mut Vec<Notice>> = is_told.then_some(notices);
        let mut announcer = echo::Announcer { app, now, draft: &mut shared.draft, publications, notices };
        change(&mut |change| announcer.tell(&change))
    }
}
