//! The HTTP API of publishers, Pusher's: routes, checks and responses.

use super::announce::{self, question};
use super::app::{App, EchoSettings};
use super::closes::TERMINATED;
use super::event::{Broadcast, BroadcastForm, bad, kind, of_kind, wanted};
use super::limit::is_over;
use super::message::put_error;
use super::name::{Access, ChannelKind, channel_of, user_of};
use super::signature::{self, Query};
use super::socket::EchoReach;
use super::topic::topic;
use crate::dialect::{Action, Actions, Context, Request, Served, Unusable};
use crate::event::{Event, elements};
use crate::frame::Draft;
use crate::service::presence::{
    ChannelInquiry, PresenceAnswer, PresenceQuestion, PresenceRequest, WantedCounts,
};
use crate::text::percent_decoded;
use crate::wheel::Now;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// The longest body where an app sets no limit: it is held until it is complete, and anybody may
/// send it.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The longest body of a request that names no app.
const NAMELESS_BYTES_MAX: usize = 1024 * 1024;

/// The longest body of a request, if its path is part of the API.
pub(super) fn body_bytes_max(path: &str, settings: &EchoSettings) -> Option<usize> {
    let path = own_path(path, settings)?;
    if let Some(rest) = path.strip_prefix("/apps/") {
        // Before the signature is checked, which covers the body: an unknown app's limit must not
        // be larger than known ones'.
        let id = rest.split('/').next().and_then(percent_decoded).unwrap_or_default();
        let limit = settings.by_id(&id).map(|app| app.settings.request_bytes_max);
        return Some(match limit {
            Some(0) => BODY_BYTES_MAX,
            Some(limit) => limit.min(BODY_BYTES_MAX),
            None => NAMELESS_BYTES_MAX,
        });
    }
    Some(NAMELESS_BYTES_MAX)
}

/// The path without `[echo] path`, if it is part of the API. Requests are served with that prefix
/// and without: PHP's library drops it where it resolves the path of a batch, or a `path` without a
/// slash at its end (RFC 3986 section 5.3).
fn own_path<'a>(path: &'a str, settings: &EchoSettings) -> Option<&'a str> {
    let is_ours =
        |path: &&str| *path == "/up" || path.starts_with("/apps/") || path.starts_with("/users/");
    path.strip_prefix(&*settings.path).filter(is_ours).or(Some(path).filter(is_ours))
}

/// Answers a request.
pub(super) fn serve(request: &Request<'_>, context: &mut Context<'_>, out: &mut Actions) -> Served {
    let settings = &context.settings.echo;
    let path = own_path(request.path, settings).unwrap_or_default();
    let Some(route) = Route::of(path) else {
        return refusal(404, "There is nothing at this path.");
    };

    let method = route.method();
    if request.method != method {
        return Served::NotAllowed(method);
    }
    // Load balancers ask without a signature.
    if matches!(route, Route::Up) {
        return json(br#"{"health":"OK"}"#);
    }

    let query = Query::of(request.query);
    let (app, unknown) = match route.app() {
        Some(id) => (settings.by_id(id), (404, "There is no such app.")),
        None => (settings.by_key(query.text("auth_key")), (401, "auth_key is no app's key.")),
    };
    let Some(app) = app else { return refusal(unknown.0, unknown.1) };
    // After the key, so that a disabled app is told apart from a wrong one.
    if !app.settings.enabled {
        return refusal(403, "The app is not enabled.");
    }

    let paths = signature::Paths { sent: request.path, own: path, prefix: &settings.path };
    if let Err(reason) = signature::check(request, paths, &query, app, context.now) {
        return refusal(401, &format!("The request is not signed as it should be: {reason}."));
    }
    let served = match &route {
        // Answered above.
        Route::Up => Ok(json(b"{}")),
        Route::Events(_) => publish(request.body, app, context, out),
        Route::Batch(_) => publish_batch(request.body, app, context, out),
        Route::Channels(_) => channels(&query, app),
        Route::Channel(_, name) => channel(name, &query, app),
        Route::Members(_, name) => members(name, app),
        Route::Connections(_) => Ok(connections(app)),
        Route::Terminate(_, user) => terminate(user, request.body, app, context, out),
    };
    served.unwrap_or_else(|RequestRefused(status, reason)| refusal(status, &reason))
}

/// A route; the first part is the app's id.
enum Route<'a> {
    Up,
    Events(Cow<'a, str>),
    Batch(Cow<'a, str>),
    Channels(Cow<'a, str>),
    Channel(Cow<'a, str>, Cow<'a, str>),
    Members(Cow<'a, str>, Cow<'a, str>),
    Connections(Cow<'a, str>),
    /// Without an id, the key names the app.
    Terminate(Option<Cow<'a, str>>, Cow<'a, str>),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        if path == "/up" {
            return Some(Self::Up);
        }

        let mut parts = path.strip_prefix('/')?.split('/');
        // Six parts are the longest route and one more, so that a longer path matches none.
        let parts: [Option<&str>; 6] = [(); 6].map(|()| parts.next());
        match parts.map(Option::unwrap_or_default) {
            ["users", user, "terminate_connections", ..] if parts[3].is_none() => {
                Some(Self::Terminate(None, percent_decoded(user)?))
            }
            ["apps", id, rest @ ..] => {
                let id = percent_decoded(id)?;
                let count = parts.iter().flatten().count() - 2;
                match (count, rest) {
                    (1, ["events", ..]) => Some(Self::Events(id)),
                    (1, ["batch_events", ..]) => Some(Self::Batch(id)),
                    (1, ["channels", ..]) => Some(Self::Channels(id)),
                    (1, ["connections", ..]) => Some(Self::Connections(id)),
                    (2, ["channels", name, ..]) => Some(Self::Channel(id, percent_decoded(name)?)),
                    (3, ["channels", name, "users", ..]) => {
                        Some(Self::Members(id, percent_decoded(name)?))
                    }
                    (3, ["users", user, "terminate_connections", ..]) => {
                        Some(Self::Terminate(Some(id), percent_decoded(user)?))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Its one method.
    fn method(&self) -> &'static str {
        match self {
            Self::Events(_) | Self::Batch(_) | Self::Terminate(..) => "POST",
            Self::Up | Self::Channels(_) | Self::Channel(..) => "GET",
            Self::Members(..) | Self::Connections(_) => "GET",
        }
    }

    fn app(&self) -> Option<&str> {
        match self {
            Self::Up => None,
            Self::Events(id) | Self::Batch(id) | Self::Channels(id) | Self::Connections(id) => {
                Some(id)
            }
            Self::Channel(id, _) | Self::Members(id, _) => Some(id),
            Self::Terminate(id, _) => id.as_deref(),
        }
    }
}

/// A status and its reason.
struct RequestRefused(u16, String);

impl From<Unusable> for RequestRefused {
    fn from(Unusable(reason): Unusable) -> Self {
        Self(400, format!("The request cannot be used: {reason}."))
    }
}

/// Publishes one event.
fn publish(
    body: &[u8],
    app: &Arc<App>,
    context: &mut Context<'_>,
    out: &mut Actions,
) -> Result<Served, RequestRefused> {
    let (now, draft) = (context.now, &mut *context.draft);
    read(context.parser.parse(body, |event| {
        let broadcast =
            Broadcast::read(event.object(), event.json, BroadcastForm::Request, &app.settings)?;
        // All of a request's publications are made before its counts are asked for: they include
        // nobody who comes later.
        send(std::slice::from_ref(&broadcast), app, now, draft, out)?;
        let Some(info) = broadcast.info else { return Ok(json(b"{}")) };
        let channels = broadcast.channels.iter();
        let counts = channels.map(|(name, kind)| ((*name).into(), of_kind(info, *kind))).collect();
        Ok(asked(app, ChannelInquiry::Counts(counts)))
    }))
}

/// Publishes several events, each for one channel.
fn publish_batch(
    body: &[u8],
    app: &Arc<App>,
    context: &mut Context<'_>,
    out: &mut Actions,
) -> Result<Served, RequestRefused> {
    let (now, draft) = (context.now, &mut *context.draft);
    read(context.parser.parse(body, |event| {
        let broadcasts = batch(event, app)?;

        send(&broadcasts, app, now, draft, out)?;
        if broadcasts.iter().all(|broadcast| broadcast.info.is_none()) {
            return Ok(json(b"{}"));
        }
        // Answers are in the order of the events, with an empty object for each that asks for
        // nothing.
        let wishes = broadcasts.iter().map(|broadcast| {
            let (name, kind) = broadcast.channels.first()?;
            Some(((*name).into(), of_kind(broadcast.info?, *kind)))
        });
        Ok(asked(app, ChannelInquiry::Batch(wishes.collect())))
    }))
}

fn batch<'a>(event: &Event<'a, 'a>, app: &App) -> Result<Vec<Broadcast<'a>>, RequestRefused> {
    let list = event.last("batch").and_then(|list| list.as_array());
    let list = list.ok_or_else(|| bad("\"batch\" must be a list of events"))?;
    if is_over(list.len(), app.settings.batch_events_max) {
        // Clients of the reference look for its first words.
        return Err(bad(&format!(
            "Batch too large: at most {} events",
            app.settings.batch_events_max
        ))
        .into());
    }

    let texts = elements(event.written("batch").unwrap_or_default());
    let broadcasts = list.iter().zip(texts).map(|(one, text)| {
        let object = one.as_object().ok_or_else(|| bad("an event must be an object"))?;
        Ok(Broadcast::read(&object, text, BroadcastForm::Batch, &app.settings)?)
    });
    broadcasts.collect()
}

/// Publishes all, or none if the data of one is too long.
fn send(
    broadcasts: &[Broadcast<'_>],
    app: &App,
    now: Now,
    draft: &mut Draft,
    out: &mut Actions,
) -> Result<(), RequestRefused> {
    if broadcasts.iter().any(|broadcast| broadcast.is_too_long(&app.settings)) {
        // Clients of the reference look for its first words.
        let bytes_max = app.settings.data_bytes_max;
        let reason = format!(
            "The data content of this event exceeds the allowed maximum ({bytes_max} bytes)."
        );
        return Err(RequestRefused(413, reason));
    }

    let publish = &mut |publication| out.push(Action::Publish(Box::new(publication)));
    broadcasts.iter().for_each(|broadcast| broadcast.publish(app, now, draft, publish));
    Ok(())
}

/// The occupied channels.
fn channels(query: &Query<'_>, app: &App) -> Result<Served, RequestRefused> {
    let (prefix, wanted) = (query.text("filter_by_prefix"), wanted(query.text("info")));
    if wanted.users && !prefix.starts_with("presence-") {
        return Err(bad("user_count needs a filter_by_prefix that begins with presence-").into());
    }
    // The kept events of all channels would make a response without bound.
    let wanted = WantedCounts { kept: false, ..wanted };
    Ok(asked(app, ChannelInquiry::Channels { prefix: prefix.into(), wanted }))
}

/// One channel.
fn channel(name: &str, query: &Query<'_>, app: &App) -> Result<Served, RequestRefused> {
    let (kind, wanted): (ChannelKind, WantedCounts) = (kind(name)?, wanted(query.text("info")));
    if wanted.users && kind.access != Access::Presence {
        return Err(bad("only presence channels have a user_count").into());
    }
    if wanted.kept && !kind.is_cache {
        return Err(bad("only cache channels keep an event").into());
    }
    Ok(asked(app, ChannelInquiry::Channel(name.into(), wanted)))
}

/// The number of the app's connections.
fn connections(app: &App) -> Served {
    asked(app, ChannelInquiry::Connections(app.connections.load(Relaxed) as u64))
}

/// The users of a presence channel.
fn members(name: &str, app: &App) -> Result<Served, RequestRefused> {
    if kind(name)?.access != Access::Presence {
        return Err(bad("only presence channels have users").into());
    }
    Ok(asked(app, ChannelInquiry::Users(name.into())))
}

/// Ends every connection of a user: here the signed-in ones, and at the channels' owners those that
/// are members of a presence channel as this user.
fn terminate(
    user: &str,
    body: &[u8],
    app: &App,
    context: &mut Context<'_>,
    out: &mut Actions,
) -> Result<Served, RequestRefused> {
    let channel = channel_of(user);
    if user_of(&channel).is_none() {
        return Err(bad("a user's id has 1 to 128 characters, none of them a NUL").into());
    }
    // Pusher's libraries send "{}"; anything else that is JSON is as good.
    if !body.is_empty() {
        read(context.parser.parse(body, |_| Ok(json(b"{}"))))?;
    }

    // Signed-in connections subscribe to the user's own channel, so one publication reaches them on
    // all shards.
    let draft = &mut *context.draft;
    draft.address(&topic(&app.settings.id, &channel), b"");
    let (meta, length) = EchoReach::Last.meta();
    draft.meta(&meta[..length]);
    draft.text(|out| put_error(None, TERMINATED.0, TERMINATED.1, out));
    out.push(Action::Publish(Box::new(draft.finish(context.now))));
    Ok(asked(app, ChannelInquiry::Dismiss(user.into())))
}

fn read(
    parsed: Result<Result<Served, RequestRefused>, crate::event::EventError>,
) -> Result<Served, RequestRefused> {
    parsed.unwrap_or_else(|error| Err(Unusable(error.to_string()).into()))
}

fn asked(app: &App, inquiry: ChannelInquiry) -> Served {
    Served::Asked(question(&app.id, PresenceRequest::Inquire(inquiry)))
}

fn json(body: &[u8]) -> Served {
    Served::Answer { status: 200, content_type: JSON, body: body.into() }
}

fn refusal(status: u16, reason: &str) -> Served {
    Served::Answer { status, content_type: TEXT, body: format!("{reason}\n").into_bytes() }
}

/// The body of the response to an inquiry about presence.
pub(super) fn answer(
    asked: &PresenceQuestion,
    answer: &PresenceAnswer,
    context: &Context<'_>,
) -> Vec<u8> {
    let PresenceRequest::Inquire(inquiry) = &asked.request else { return Vec::new() };
    announce::answer(&asked.app, inquiry, answer, context.retained, context.now).into_bytes()
}
