//! Events of publishers, from all sources: which are valid, and the publications made of them.

use super::app::{App, AppSettings};
use super::limit::is_over;
use super::name::{Access, ChannelKind};
use super::socket::{EchoReach, SocketId};
use super::topic::topic;
use crate::dialect::Unusable;
use crate::event::{Object, TypedScalarValue as _, Value, ValueIntoString as _, entries};
use crate::frame::{Draft, Publication};
use crate::service::presence::WantedCounts;
use crate::wheel::Now;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::atomic::Ordering::Relaxed;

/// The prefixes of the server's own event names, which publishers may not use.
const OURS: [&str; 2] = ["pusher:", "pusher_internal:"];

/// The form of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BroadcastForm {
    /// As the body of a request.
    Request,
    /// As one of a batch, for one channel.
    Batch,
    /// As a line of a feed, where `data` may be any JSON.
    Feed,
}

/// A valid event, whose data may still be too long.
pub(super) struct Broadcast<'a> {
    /// As written, quotes and escapes included.
    name: &'a [u8],
    /// As written; a string.
    data: Cow<'a, [u8]>,
    /// Of the data, decoded.
    data_bytes: usize,
    /// Without repetitions.
    pub(super) channels: SmallVec<[(&'a str, ChannelKind); 1]>,
    reach: EchoReach,
    /// The counts that the publisher asks for, if any.
    pub(super) info: Option<WantedCounts>,
}

/// The fields of an event; the last of a repeated name counts.
#[derive(Default)]
struct BroadcastFields<'a> {
    name: BroadcastField<'a>,
    data: BroadcastField<'a>,
    channels: BroadcastField<'a>,
    channel: BroadcastField<'a>,
    socket_id: BroadcastField<'a>,
    info: BroadcastField<'a>,
}

/// A value with its text; `None` when it is absent, or null and not the data.
type BroadcastField<'a> = Option<(Value<'a, 'a>, &'a [u8])>;

impl<'a> BroadcastFields<'a> {
    fn read(object: &Object<'a, 'a>, text: &'a [u8]) -> Self {
        let mut fields = Self::default();
        for (key, value, written) in entries(object, text) {
            let field = match key {
                "name" => &mut fields.name,
                // In a feed null is data like any other.
                "data" => {
                    fields.data = Some((value, written));
                    continue;
                }
                "channels" => &mut fields.channels,
                "channel" => &mut fields.channel,
                "socket_id" => &mut fields.socket_id,
                "info" => &mut fields.info,
                _ => continue,
            };
            *field = (!value.is_null()).then_some((value, written));
        }
        fields
    }
}

impl<'a> Broadcast<'a> {
    /// Reads an event, written as `text`.
    ///
    /// # Errors
    /// When it is not an event, or beyond the app's limits: the reason.
    pub(super) fn read(
        object: &Object<'a, 'a>,
        text: &'a [u8],
        form: BroadcastForm,
        app: &AppSettings,
    ) -> Result<Self, Unusable> {
        let fields = BroadcastFields::read(object, text);
        let name = string(fields.name.as_ref()).filter(|name| !name.is_empty());

        let name = name.ok_or_else(|| bad("\"name\" must be a string that is not empty"))?;
        // A client could not tell a forged "subscription_succeeded" from ours.
        if OURS.iter().any(|ours| name.starts_with(ours)) {
            return Err(bad(
                "names that begin with \"pusher:\" or \"pusher_internal:\" are the server's own",
            ));
        }
        if is_over(name.chars().count(), app.event_name_chars_max) {
            return Err(bad(&format!(
                "\"name\" is longer than {} characters",
                app.event_name_chars_max
            )));
        }

        let (data, data_bytes) = data(fields.data.as_ref(), form)?;

        let channels = match &fields.channels {
            Some((list, _)) if form != BroadcastForm::Batch => channels(*list, app)?,
            _ => {
                let name = string(fields.channel.as_ref()).ok_or_else(|| bad("no channel"))?;
                SmallVec::from_iter([(name, kind(name)?)])
            }
        };

        let reach = match &fields.socket_id {
            None => EchoReach::All,
            Some((id, _)) => {
                // An id that is well-formed and none of ours excludes nobody: it may be another
                // daemon's.
                let id = id.into_string().and_then(|id| SocketId::read(id).ok());
                let id = id.ok_or_else(|| bad("\"socket_id\" must be two numbers with a dot"))?;
                id.map_or(EchoReach::All, EchoReach::AllBut)
            }
        };

        let info = match &fields.info {
            None => None,
            Some((info, _)) => Some(wanted(&words(*info)?)),
        };
        Ok(Self { name: written(fields.name.as_ref()), data, data_bytes, channels, reach, info })
    }

    /// Whether the data is longer than the app allows.
    pub(super) fn is_too_long(&self, app: &AppSettings) -> bool {
        is_over(self.data_bytes, app.data_bytes_max)
    }

    /// Publishes to each channel in order.
    pub(super) fn publish(
        &self,
        app: &App,
        now: Now,
        draft: &mut Draft,
        publish: &mut dyn FnMut(Publication),
    ) {
        app.events.fetch_add(1, Relaxed);
        let (meta, length) = self.reach.meta();
        for (channel, kind) in &self.channels {
            draft.address(&topic(&app.settings.id, channel), b"");
            // The connection that has caused the event does not get it, see `EchoReach`.
            draft.meta(&meta[..length]);
            if kind.is_cache {
                // No limit is the longest time that can be given.
                draft.retain(if app.settings.cache_ttl_s == 0 {
                    u32::MAX
                } else {
                    app.settings.cache_ttl_s
                });
            }
            draft.text(|out| {
                out.extend_from_slice(br#"{"event":"#);
                out.extend_from_slice(self.name);
                out.extend_from_slice(br#","channel":"#);
                serde_json::to_writer(&mut *out, channel).expect("writing to a Vec cannot fail");
                out.extend_from_slice(br#","data":"#);
                out.extend_from_slice(&self.data);
                out.push(b'}');
            });
            publish(draft.finish(now));
        }
    }
}

/// The counts in a list of them.
pub(super) fn wanted(info: &str) -> WantedCounts {
    let has = |name| info.split(',').any(|word| word.trim() == name);
    WantedCounts {
        users: has("user_count"),
        subscriptions: has("subscription_count"),
        kept: has("cache"),
    }
}

/// The words of `info`: a string with commas, or a list, as PHP's library passes it on.
fn words<'a>(info: Value<'a, 'a>) -> Result<Cow<'a, str>, Unusable> {
    if let Some(text) = info.into_string() {
        return Ok(Cow::Borrowed(text));
    }
    let words = info.as_array().map(|list| list.iter().map(Value::into_string).collect());
    let words: Option<Vec<&str>> = words.flatten();
    Ok(Cow::Owned(
        words.ok_or_else(|| bad("\"info\" must be a string or a list of them"))?.join(","),
    ))
}

/// The counts that a publisher gets for a channel of this kind: only presence channels have users,
/// and it knows the event that it publishes.
pub(super) fn of_kind(wanted: WantedCounts, kind: ChannelKind) -> WantedCounts {
    WantedCounts { users: wanted.users && kind.access == Access::Presence, kept: false, ..wanted }
}

/// The kind of a channel by its name.
pub(super) fn kind(name: &str) -> Result<ChannelKind, Unusable> {
    ChannelKind::of(name).ok_or_else(|| bad("a channel's name has 1 to 164 of -a-zA-Z0-9_=@,.;"))
}

pub(super) fn bad(reason: &str) -> Unusable {
    Unusable(reason.into())
}

fn string<'a>(field: Option<&(Value<'a, 'a>, &'a [u8])>) -> Option<&'a str> {
    field.and_then(|(value, _)| value.into_string())
}

fn written<'a>(field: Option<&(Value<'a, 'a>, &'a [u8])>) -> &'a [u8] {
    field.map_or(b"\"\"", |(_, written)| written)
}

/// The data as a JSON string, and their length decoded.
fn data<'a>(
    field: Option<&(Value<'a, 'a>, &'a [u8])>,
    form: BroadcastForm,
) -> Result<(Cow<'a, [u8]>, usize), Unusable> {
    if let Some(data) = string(field) {
        return Ok((Cow::Borrowed(written(field)), data.len()));
    }
    match field {
        Some((_, written)) if form == BroadcastForm::Feed => {
            // Laravel's Redis broadcaster publishes an object, which clients expect as a string.
            let text = String::from_utf8_lossy(written);
            let string = serde_json::to_vec(&text).map_err(|error| Unusable(error.to_string()))?;
            Ok((Cow::Owned(string), text.len()))
        }
        _ if form == BroadcastForm::Feed => Err(bad("\"data\" is missing")),
        _ => Err(bad("\"data\" must be a string")),
    }
}

/// The channels of a list, without repetitions.
fn channels<'a>(
    list: Value<'a, 'a>,
    app: &AppSettings,
) -> Result<SmallVec<[(&'a str, ChannelKind); 1]>, Unusable> {
    let list = list.as_array().ok_or_else(|| bad("\"channels\" must be a list of names"))?;
    if list.is_empty() {
        return Err(bad("no channel"));
    }
    if is_over(list.len(), app.channels_per_event_max) {
        return Err(bad(&format!("more than {} channels", app.channels_per_event_max)));
    }

    let mut seen = ahash::AHashSet::new();
    let mut channels = SmallVec::new();
    for name in list.iter() {
        let name = name.into_string().ok_or_else(|| bad("\"channels\" must be a list of names"))?;
        let kind = kind(name)?;
        if seen.insert(name) {
            channels.push((name, kind));
        }
    }
    Ok(channels)
}
