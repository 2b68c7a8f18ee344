//! Laravel Echo: Pusher Channels, protocol 7.
//!
//! An app's topics begin with its id, so apps never meet. A channel's topic is the id, a NUL, the
//! channel's name and a NUL. Subscriptions, cached events and the rate of client events are this
//! shard's; who is in which channel is known to the shard that owns the channel's presence (see
//! [`presence`](crate::service::presence)), which is told of every subscription. A presence
//! channel is joined when that shard has answered, any other at once.
//!
//! In reading order: `app`, `limit`, `table` and `problems` are the settings, `name`, `topic` and
//! `socket` what channels and connections are called, `signature` the HMAC and publishers'
//! requests. Of a session, `entrance` lets a client in, `live` is what it has then, `message` reads
//! what it says, `auth` checks what was signed for it, `member` is who it is, `subscription` and
//! `presence` handle its channels, `refusal` says why it does not get one, `client_event` and
//! `signin` the rest of what it can do, `closes` its end; `handover` is a session as data. `event`, `rest` and `redis` are the
//! publishers' side, `announce` the owner's.

mod announce;
mod app;
mod auth;
pub mod client;
mod client_event;
mod closes;
mod entrance;
mod event;
mod handover;
mod limit;
mod live;
mod member;
mod message;
mod name;
mod presence;
mod problems;
mod redis;
mod refusal;
mod rest;
mod signature;
mod signin;
mod socket;
mod subscription;
mod table;
mod topic;

pub use self::announce::listed_bytes;
pub use self::app::{App, AppSettings, Broadcaster, DrainCode, EchoSettings};
pub use self::socket::{EchoReach, NoSocketId, SocketId};
pub use self::topic::topic_of;

use self::closes::{TERMINATED, send_away};
use self::entrance::AppPlace;
use self::event::{Broadcast, BroadcastForm};
use self::live::EchoLive;
use self::message::EchoMessage;
use self::name::{ChannelKind, channel_of};
use crate::dialect::{
    Action, Actions, Admission, AskedTopic, Context, Dialect, DialectTally, Explanation,
    FeedAddress, Input, Request, Served, Unusable, Upgrade,
};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::json::RawValue;
use crate::reason::Reason;
use crate::service::Answer;
use crate::service::presence::{PresenceAnswer, PresenceQuestion, PresenceVoice};
use crate::service::webhook::Recipients;
use crate::wheel::{Now, SECOND_NS};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The code of what is no message. The reference has none for it.
const MALFORMED: u16 = 4300;

/// One connection of Laravel Echo. One that was not let in has nothing but its end before it.
pub struct Echo {
    live: Option<Box<EchoLive>>,
}

impl Dialect for Echo {
    const NAME: &'static str = "echo";
    const FEED: FeedAddress =
        FeedAddress { word: "echo", parts: (1, 1), shape: "write echo/APP-ID" };
    const WITHOUT_TOKENS: &'static str = ": the app's secret signs for them";
    const CLIENT: &'static dyn crate::dialect::client::DialectClient = &client::EchoClient;
    const TOPIC: u8 = topic::TOPIC;
    const CLOSE_ISOLATED: Option<(u16, &'static str)> = Some((4200, "Cut off from other nodes."));
    const PING: &'static [u8] = b"";
    const CLOSE_UNANSWERED: (u16, &'static str) = (4201, "Pong reply not received.");
    const CLOSE_SLOW: (u16, &'static str) = (4100, "Slow consumer.");
    const CLOSE_KICKED: (u16, &'static str) = (TERMINATED.0, "Ended by an operator.");
    const TALLIES: &'static [(DialectTally, &'static str)] = &[
        (DialectTally::Ignored, ""),
        (DialectTally::Unauthorized, "AuthError"),
        (DialectTally::BadName, "InvalidChannel"),
        (DialectTally::OverLimit, "LimitReached"),
        (DialectTally::ClientEvent, ""),
    ];

    fn message_bytes_max(settings: &crate::dialect::Settings) -> usize {
        settings.echo.apps.iter().map(|app| app.message_bytes_max()).max().unwrap_or(0)
    }

    fn own_message_bytes_max(&self, _: &crate::dialect::Settings) -> usize {
        self.live.as_ref().map_or(0, |live| live.place.message_bytes_max())
    }

    fn close_stopping(settings: &crate::dialect::Settings) -> (u16, &'static str) {
        match settings.echo.drain_code {
            DrainCode::GoingAway => (1001, ""),
            DrainCode::ComeBack => (4100, "Server restarting."),
        }
    }

    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let settings = &context.settings.echo;
        let key = entrance::key_of(upgrade.path, settings)?;
        out.push(Action::Accept);
        match entrance::admit(key, upgrade, settings) {
            Ok(place) => Some(Self { live: Some(Box::new(EchoLive::begin(place, context, out))) }),
            Err((code, message)) => {
                send_away(code, &message, out);
                Some(Self { live: None })
            }
        }
    }

    /// Upgrade Required.
    fn plain(_: &str, _: &str) -> u16 {
        426
    }

    fn subject(&self) -> Option<Cow<'_, str>> {
        let user = self.live.as_ref()?.rare.as_ref()?.user.as_ref()?;
        Some(Cow::Borrowed(&*user.user))
    }

    fn subscriptions(&self, visit: &mut dyn FnMut(fmt::Arguments<'_>)) {
        let Some(live) = &self.live else { return };
        let app = &live.place.id;
        for channel in live.channels.iter().filter(|channel| channel.is_in) {
            visit(format_args!("{app}/{}", channel.name));
        }
        if let Some(member) = live.rare.as_ref().and_then(|rare| rare.user.as_ref()) {
            visit(format_args!("{app}/{}", channel_of(&member.user)));
        }
    }

    fn topic(place: &str) -> Result<AskedTopic, &'static str> {
        let parts = place.split_once('/').filter(|(_, channel)| ChannelKind::of(channel).is_some());
        let (app, channel) = parts.ok_or("write echo/APP-ID/CHANNEL")?;
        Ok(AskedTopic::new(&topic::topic(app, channel)))
    }

    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
        let Some(live) = &mut self.live else { return };
        match input {
            Input::Text(text) => live.message(text.as_bytes(), context, out),
            Input::Binary(bytes) => live.message(bytes, context, out),
            Input::Alive => live.hear(context.now, out),
            Input::Answer(Answer::Presence(answer)) => live.answer(answer, context, out),
            Input::Configured => live.configure(&context.settings.echo, out),
            Input::Deadline => live.deadline(context.now, out),
            Input::Answer(_) => {}
            Input::Gone => {
                live.leave_all(out);
                self.live = None;
            }
        }
    }

    fn admits(&self, publication: &Publication, _: Now) -> Admission {
        let Some(live) = &self.live else { return Admission::No };
        match EchoReach::of(publication.meta()) {
            EchoReach::AllBut(socket) if socket == live.socket => Admission::No,
            EchoReach::All | EchoReach::AllBut(_) => Admission::Form(0),
            EchoReach::Last => Admission::Last(0, TERMINATED.0, TERMINATED.1),
        }
    }

    fn explain(&self, publication: &Publication, now: Now) -> Explanation {
        match self.admits(publication, now) {
            Admission::No => Explanation::no("its own socket_id is excluded"),
            admission => Explanation::of(admission),
        }
    }

    fn freeze(&self) -> Option<Box<RawValue>> {
        self.live.as_ref()?.freeze()
    }

    fn thaw(frozen: &RawValue, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let live = EchoLive::thaw(frozen, context, out)?;
        Some(Self { live: Some(Box::new(live)) })
    }

    fn presence(settings: &crate::dialect::Settings) -> Option<&dyn PresenceVoice> {
        Some(&settings.echo)
    }

    fn add_recipients(settings: &crate::dialect::Settings, recipients: &mut Recipients) {
        recipients.webhooks.extend(settings.echo.webhooks());
    }

    fn answer(asked: &PresenceQuestion, answer: &PresenceAnswer, context: &Context<'_>) -> Vec<u8> {
        rest::answer(asked, answer, context)
    }

    fn body_bytes_max(_: &str, path: &str, settings: &crate::dialect::Settings) -> Option<usize> {
        rest::body_bytes_max(path, &settings.echo)
    }

    fn serve(request: &Request<'_>, context: &mut Context<'_>, out: &mut Actions) -> Served {
        rest::serve(request, context, out)
    }

    fn publish(
        place: &str,
        event: &Event<'_, '_>,
        settings: &crate::dialect::Settings,
        now: Now,
        draft: &mut Draft,
        publish: &mut dyn FnMut(Publication),
    ) -> Result<(), Unusable> {
        let app = settings
            .echo
            .by_id(place)
            .ok_or_else(|| Unusable(format!("there is no app \"{place}\"")))?;
        if !app.settings.enabled {
            return Err(Unusable(format!("the app \"{place}\" is not enabled")));
        }
        let broadcast =
            Broadcast::read(event.object(), event.json, BroadcastForm::Feed, &app.settings)?;
        if broadcast.is_too_long(&app.settings) {
            return Err(Unusable(format!(
                "the data is longer than {} bytes",
                app.settings.data_bytes_max
            )));
        }
        broadcast.publish(app, now, draft, publish);
        Ok(())
    }

    fn carry_on(before: &crate::dialect::Settings, after: &crate::dialect::Settings) {
        for app in &after.echo.apps {
            let known = before.echo.by_id(&app.id).filter(|known| !Arc::ptr_eq(known, app));
            if let Some(known) = known {
                app.events.store(known.events.load(Relaxed), Relaxed);
            }
        }
    }
}

impl EchoLive {
    fn begin(place: AppPlace, context: &mut Context<'_>, out: &mut Actions) -> Self {
        let socket = SocketId((context.rng)());
        message::established(&socket.to_string(), place.settings.activity_timeout_s, out);
        let heard_ns = context.now.monotonic_ns;
        out.push(Action::Deadline(heard_ns + activity_timeout_ns(&place)));
        let channels = SmallVec::new();
        Self { place, socket, heard_ns, is_asked: false, asked: 0, channels, rare: None }
    }

    fn message(&mut self, json: &[u8], context: &mut Context<'_>, out: &mut Actions) {
        self.hear(context.now, out);
        match EchoMessage::read(json, context.parser) {
            Ok(EchoMessage::Ping) => message::event("pusher:pong", "{}", out),
            Ok(EchoMessage::Pong) => {}
            Ok(EchoMessage::Subscribe(wish)) => self.subscribe(&wish, context, out),
            Ok(EchoMessage::Unsubscribe(channel)) => self.unsubscribe(&channel, out),
            Ok(EchoMessage::SignIn(wish)) => self.sign_in(&wish, context, out),
            Ok(EchoMessage::Client(event)) => self.client_event(&event, context, out),
            Ok(EchoMessage::Unknown) => out.count(DialectTally::Ignored),
            Err(message::MalformedMessage) => {
                message::error(MALFORMED, "Invalid message format", out)
            }
        }
    }

    fn hear(&mut self, now: Now, out: &mut Actions) {
        self.heard_ns = now.monotonic_ns;
        // The time for the answer may well be longer than the silence after which it is asked
        // again.
        if std::mem::take(&mut self.is_asked) {
            out.push(Action::Deadline(now.monotonic_ns + activity_timeout_ns(&self.place)));
        }
    }

    /// Asks a client that has been silent whether it is there, and ends one that has not said so.
    /// One that was heard meanwhile is looked at again when it could have been silent for long
    /// enough.
    fn deadline(&mut self, now: Now, out: &mut Actions) {
        if self.is_asked {
            let (code, reason) = Echo::CLOSE_UNANSWERED;
            return out.because(Reason::Unanswered).push(Action::close(code, reason));
        }
        let silent_ns = activity_timeout_ns(&self.place);
        let due_ns = self.heard_ns + silent_ns;
        if now.monotonic_ns < due_ns {
            return out.push(Action::Deadline(due_ns));
        }
        message::event("pusher:ping", "{}", out);
        let pong_s = u64::from(self.place.settings.pong_timeout_s);
        self.is_asked = pong_s > 0;
        let wait_ns = if self.is_asked { pong_s * SECOND_NS } else { silent_ns };
        out.push(Action::Deadline(now.monotonic_ns + wait_ns));
    }

    /// Goes on under new settings, unless its app is served no more.
    fn configure(&mut self, settings: &EchoSettings, out: &mut Actions) {
        match settings.by_id(&self.place.settings.id).filter(|app| app.settings.enabled) {
            Some(app) => self.place.move_to(app),
            None => {
                let (code, message) = entrance::not_enabled();
                send_away(code, &message, out);
            }
        }
    }
}

fn activity_timeout_ns(app: &App) -> u64 {
    u64::from(app.settings.activity_timeout_s.max(1)) * SECOND_NS
}
