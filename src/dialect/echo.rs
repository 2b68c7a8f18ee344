//! Laravel Echo: Pusher Channels, protocol 7.
//!
//! An app's topics begin with its id, so apps never meet. A channel's topic is the id, a NUL, the channel's name
//! and a NUL. Subscriptions, cached events and the rate of client events are this shard's; who is in which channel
//! is known to the shard that owns the app's rosters (see [`roster`](crate::roster)), which every subscription is
//! noted to. A presence channel is joined when that shard has answered, any other at once.

mod announce;
mod app;
mod event;
mod name;
mod problems;
mod rest;
mod signature;
mod socket;

pub use self::announce::{Announcer, answer, succeeded};
pub use self::app::{App, AppSettings, Broadcaster, DrainCode, Secret, Settings, WebhookSettings};
pub use self::name::{Access, ChannelKind, NAME_BYTES_MAX, USER_CHARS_MAX, channel_of, user_of};
pub use self::socket::{NoSocketId, Reach, SocketId};

use self::event::{Broadcast, Form};
use crate::dialect::{Actions, Admission, Context, Dialect, Input, Request, Served, Unusable, Upgrade};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::roster::Rules;
use crate::wheel::Now;
use std::sync::Arc;

/// The byte that starts this dialect's topics.
const TOPIC: u8 = b'e';

/// One connection of Laravel Echo.
pub struct Echo {
    app: Arc<App>,
}

impl Dialect for Echo {
    const PING: &'static [u8] = b"";
    const CLOSE_UNANSWERED: (u16, &'static str) = (4201, "Pong reply not received.");

    fn message_bytes_max(settings: &crate::dialect::Settings) -> usize {
        settings.echo.apps.iter().map(|app| app.settings.message_bytes_max).max().unwrap_or(0)
    }

    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, _: &mut Actions) -> Option<Self> {
        let key = upgrade.path.strip_prefix(&*context.settings.echo.path)?.strip_prefix("/app/")?;
        let app = context.settings.echo.by_key(key)?;
        Some(Self { app: Arc::clone(app) })
    }

    fn plain(_: &str, _: &str) -> u16 {
        426
    }

    fn body_bytes_max(_: &str, path: &str, settings: &crate::dialect::Settings) -> Option<usize> {
        rest::body_bytes_max(path, &settings.echo)
    }

    fn serve(request: &Request<'_>, context: &mut Context<'_>, out: &mut Actions) -> Served {
        rest::serve(request, context, out)
    }

    fn handle(&mut self, _: Input<'_>, _: &mut Context<'_>, _: &mut Actions) {}

    fn admits(&self, _: &Publication, _: Now) -> Admission {
        let _ = &self.app;
        Admission::No
    }

    fn publish(
        place: &str,
        event: &Event<'_, '_>,
        settings: &crate::dialect::Settings,
        now: Now,
        draft: &mut Draft,
        publish: &mut dyn FnMut(Publication),
    ) -> Result<(), Unusable> {
        let app =
            settings.echo.by_id(place).ok_or_else(|| Unusable(format!("there is no app \"{place}\"")))?;
        if !app.settings.enabled {
            return Err(Unusable(format!("the app \"{place}\" is not enabled")));
        }
        let broadcast = Broadcast::read(event.object(), event.json, Form::Feed, &app.settings)?;
        if broadcast.is_too_long(&app.settings) {
            return Err(Unusable(format!("the data is longer than {} bytes", app.settings.data_bytes_max)));
        }
        broadcast.publish(app, now, draft, publish);
        Ok(())
    }
}

/// The frame's payload that tells an error.
fn put_error(code: u16, message: &str, out: &mut Vec<u8>) {
    let error = format!(r#"{{"event":"pusher:error","data":{{"code":{code},"message":"{message}"}}}}"#);
    out.extend_from_slice(error.as_bytes());
}

/// The topic of a channel, in parts.
fn topic<'a>(app: &'a str, channel: &'a str) -> [&'a [u8]; 5] {
    [&[TOPIC], app.as_bytes(), b"\0", channel.as_bytes(), b"\0"]
}

impl Settings {
    /// What the rosters of an app go by.
    #[must_use]
    pub fn rules(&self, app: &str) -> Rules {
        let settings = self.by_id(app).map(|app| &app.settings);
        settings.map_or_else(Rules::default, |app| Rules {
            members_max: app.presence_members_max,
            counts: app.subscription_count,
        })
    }
}
