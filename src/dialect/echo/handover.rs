//! Sessions as data, for another process.

use super::announce::question;
use super::entrance::AppPlace;
use super::live::{EchoChannel, EchoLive, Rare};
use super::member::EchoMember;
use super::name::channel_of;
use super::socket::SocketId;
use super::topic::topic;
use crate::dialect::{Actions, Context};
use crate::json::RawValue;
use crate::service::presence::PresenceRequest;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use std::borrow::Cow;
use std::collections::VecDeque;

/// A session as data. The app is known by its id: its settings are the other process's.
#[derive(Serialize, Deserialize)]
struct FrozenEcho<'a> {
    app: Cow<'a, str>,
    socket: u64,
    heard_ns: u64,
    is_asked: bool,
    asked: u32,
    channels: Cow<'a, [EchoChannel]>,
    user: Option<Cow<'a, EchoMember>>,
    sent_ns: Cow<'a, VecDeque<u64>>,
}

impl EchoLive {
    /// The session as data; `None` while it waits to join a presence channel.
    pub(super) fn freeze(&self) -> Option<Box<RawValue>> {
        let rare = self.rare.as_deref();
        // The owner's answer to a wish would be lost, and the client wait for it.
        if rare.is_some_and(|rare| !rare.joins.is_empty()) {
            return None;
        }
        let frozen = FrozenEcho {
            app: Cow::Borrowed(&self.place.id),
            socket: self.socket.0,
            heard_ns: self.heard_ns,
            is_asked: self.is_asked,
            asked: self.asked,
            channels: Cow::Borrowed(&self.channels),
            user: rare.and_then(|rare| rare.user.as_ref()).map(Cow::Borrowed),
            sent_ns: rare.map(|rare| Cow::Borrowed(&rare.sent_ns)).unwrap_or_default(),
        };
        to_raw_value(&frozen).ok()
    }

    /// The session again; `None` when its app is served no more.
    pub(super) fn thaw(
        frozen: &RawValue,
        context: &Context<'_>,
        out: &mut Actions,
    ) -> Option<Self> {
        let frozen: FrozenEcho<'_> = serde_json::from_str(frozen.get()).ok()?;
        let app = context.settings.echo.by_id(&frozen.app).filter(|app| app.settings.enabled)?;
        let user = frozen.user.map(Cow::into_owned);
        // What is yet to come is counted on from, and no sum may be too large.
        let now_ns = context.now.monotonic_ns;
        let mut sent_ns = frozen.sent_ns.into_owned();
        sent_ns.retain(|at_ns| *at_ns <= now_ns);
        for channel in frozen.channels.iter().filter(|channel| channel.is_in) {
            out.subscribe(&topic(&app.id, &channel.name), b"");
            if channel.user.is_none() {
                // For the owner of its presence, who counts them.
                out.ask(question(&app.id, PresenceRequest::Enter(channel.name.clone())));
            }
        }
        if let Some(member) = &user {
            out.subscribe(&topic(&app.id, &channel_of(&member.user)), b"");
        }

        let is_rare = user.is_some() || !sent_ns.is_empty();
        let rare = is_rare.then(|| Box::new(Rare { user, joins: VecDeque::new(), sent_ns }));
        Some(Self {
            place: AppPlace::keep(app),
            socket: SocketId(frozen.socket),
            heard_ns: frozen.heard_ns.min(now_ns),
            is_asked: frozen.is_asked,
            asked: frozen.asked,
            channels: frozen.channels.iter().cloned().collect(),
            rare,
        })
    }
}
