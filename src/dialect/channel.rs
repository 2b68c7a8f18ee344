//! The channels of a Laravel application: a token in the request names the one channel of the
//! connection; what a client says there goes to all its members, and so does what the back end
//! says.
//!
//! An invalid token is reported after the handshake, by a close frame. Each message is acknowledged
//! to its sender first. The sender's identity comes from the token and never from the message;
//! which of its data are passed on depends on the channel's kind, the part before the colon, and
//! their values are passed on verbatim.
//!
//! A channel's topic is its name and a NUL, so it matches no other. A publication for one user
//! carries that user's id, and the filter of each session compares it with its own.

mod client;
mod settings;
mod shape;
mod target;

pub use self::settings::{CHANNEL_BYTES_MAX, ChannelSettings, Relay};

use self::shape::Shaped;
use crate::dialect::{
    Action, Actions, Admission, AskedTopic, ClaimedPaths, Context, Dialect, Explanation,
    FeedAddress, Input, Unusable, Upgrade,
};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::json::{self, DEPTH_MAX, RawValue};
use crate::reason::Reason;
use crate::service::verification::TokenAnswer;
use crate::service::webhook::{self, Recipients, Webhook};
use crate::service::{Answer, Question};
use crate::token::{Grant, NEVER_MS, Refusal, Verifier};
use crate::wheel::Now;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::to_raw_value;
use std::borrow::Cow;
use std::fmt;

/// The byte that starts this dialect's topics.
const TOPIC: u8 = b'c';
/// The only path.
const PATH: &str = "/";
/// Longest fed message, as long as a line of the unix feed may be; Redis would accept 512 MB.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// The sender of fed messages.
const SYSTEM: &str = r#"{"name":"System","id":0}"#;

const MISSING: Action = Action::close(1008, "token missing");
const INVALID: Action = Action::close(1008, "token invalid");
/// Code and reason of an expired token.
const EXPIRED: (u16, &str) = (1008, "token expired");

/// One connection, which belongs to one channel.
///
/// Most connections are idle: everything that a session keeps is one text.
#[derive(Serialize, Deserialize)]
pub struct Channel {
    /// The first moment, in unix milliseconds, at which the token is no longer valid.
    expires_at_ms: u64,
    /// Of an open session: the channel, the id and the name of its user as JSON, and the token if a
    /// callback needs it; separated by NULs. While the token is verified it is the token alone.
    texts: Box<str>,
    stage: ChannelStage,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum ChannelStage {
    /// The token is being verified.
    Asking,
    Open,
    /// Not open, or no longer.
    Refused,
}

impl Dialect for Channel {
    const NAME: &'static str = "channel";
    const FEED: FeedAddress =
        FeedAddress { word: "channel", parts: (0, 0), shape: "write channel alone" };
    const CLIENT: &'static dyn crate::dialect::client::DialectClient = &client::ChannelClient;
    const TOPIC: u8 = TOPIC;
    const PING: &'static [u8] = b"";
    const CLOSE_UNANSWERED: (u16, &'static str) = (1001, "ping timeout");
    const ECHOES_SUBPROTOCOL: bool = true;
    const PATHS: ClaimedPaths = ClaimedPaths::Root;

    fn message_bytes_max(settings: &crate::dialect::Settings) -> usize {
        settings.channel.message_bytes_max
    }

    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        if upgrade.path != PATH {
            return None;
        }
        let settings = &context.settings.channel;

        let mut session =
            Self { expires_at_ms: 0, texts: Box::default(), stage: ChannelStage::Refused };
        if !settings.lets_in(upgrade.origin) {
            out.because(Reason::Origin).push(Action::Refuse(403, Cow::Borrowed("")));
            return Some(session);
        }

        out.push(Action::Accept);
        // Browsers cannot read a refused handshake's status, so from here on a close code says what
        // is wrong.
        let mut parameters = form_urlencoded::parse(upgrade.query.as_bytes());
        match parameters.find(|(key, _)| key == "token").filter(|(_, token)| !token.is_empty()) {
            None => out.because(Reason::TokenMissing).push(MISSING),
            Some((_, token)) => {
                session.stage = ChannelStage::Asking;
                // The callback sends the token on, and the verifier's answer does not repeat it.
                if settings.callback.is_some() {
                    session.texts = (&*token).into();
                }
                out.verify(&token);
            }
        }
        Some(session)
    }

    fn plain(_: &str, _: &str) -> u16 {
        426
    }

    fn subject(&self) -> Option<Cow<'_, str>> {
        (self.stage == ChannelStage::Open).then(|| Cow::Owned(self.sender()))
    }

    fn subscriptions(&self, visit: &mut dyn FnMut(fmt::Arguments<'_>)) {
        if self.stage == ChannelStage::Open {
            visit(format_args!("{}", self.channel()));
        }
    }

    fn topic(place: &str) -> Result<AskedTopic, &'static str> {
        let topic = is_channel(place).then(|| AskedTopic::new(&subscription(place)));
        topic.ok_or("write channel/NAME")
    }

    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
        let settings = &context.settings.channel;
        match input {
            Input::Text(text) => self.message(Some(text), context, out),
            Input::Binary(bytes) => self.message(std::str::from_utf8(bytes).ok(), context, out),
            Input::Alive if self.stage == ChannelStage::Open => keep_alive(settings, out),
            Input::Answer(Answer::Token(_, answer)) => match answer {
                TokenAnswer::Granted(grant) => self.admit(&grant, settings, context.now, out),
                TokenAnswer::Refused(Refusal::Expired) => out.push(expired()),
                TokenAnswer::Refused(_) | TokenAnswer::Revoked => out.push(INVALID),
            },
            Input::Alive | Input::Answer(_) | Input::Configured => {}
            Input::Deadline if self.has_expired(context.now) => out.push(expired()),
            Input::Deadline => self.wait_for_expiry(context.now, out),
            Input::Gone if self.stage == ChannelStage::Open => {
                self.stage = ChannelStage::Refused;
                // Only open sessions have subscribed.
                out.unsubscribe(&subscription(self.channel()), b"");
            }
            Input::Gone => {}
        }
    }

    fn freeze(&self) -> Option<Box<RawValue>> {
        if self.stage == ChannelStage::Refused { None } else { to_raw_value(self).ok() }
    }

    fn thaw(frozen: &RawValue, _: &mut Context<'_>, out: &mut Actions) -> Option<Self> {
        let session: Self = serde_json::from_str(frozen.get()).ok()?;
        match session.stage {
            ChannelStage::Asking => {}
            ChannelStage::Open => out.subscribe(&subscription(session.channel()), b""),
            ChannelStage::Refused => return None,
        }
        Some(session)
    }

    fn verifier(settings: &crate::dialect::Settings) -> Option<&Verifier> {
        settings.channel.verifier.as_ref()
    }

    fn add_recipients(settings: &crate::dialect::Settings, recipients: &mut Recipients) {
        recipients.callback.clone_from(&settings.channel.callback);
    }

    fn granted(grant: &Grant, settings: &crate::dialect::Settings) -> Result<String, String> {
        place_of(grant, &settings.channel)
    }

    fn admits(&self, publication: &Publication, now: Now) -> Admission {
        if self.stage != ChannelStage::Open {
            return Admission::No;
        }
        if self.has_expired(now) {
            return Admission::Close(EXPIRED.0, EXPIRED.1, Reason::Expired);
        }
        // A fed or relayed message for one user is compared by the id's one spelling.
        let meta = publication.meta();
        if meta.is_empty() || target::is_for(meta, self.id()) {
            Admission::Form(0)
        } else {
            Admission::No
        }
    }

    fn explain(&self, publication: &Publication, now: Now) -> Explanation {
        match self.admits(publication, now) {
            Admission::No if self.stage == ChannelStage::Open => {
                let id = if self.id().is_empty() { "none" } else { self.id() };
                Explanation::no(format!("it is for one user, and the id of this one is {id}"))
            }
            admission => Explanation::of(admission),
        }
    }

    fn publish(
        _: &str,
        event: &Event<'_, '_>,
        settings: &crate::dialect::Settings,
        now: Now,
        draft: &mut Draft,
        publish: &mut dyn FnMut(Publication),
    ) -> Result<(), Unusable> {
        let Fed { channel, data, .. } = Fed::read(event.json, PAYLOAD_BYTES_MAX)?;
        put_broadcast(&channel, SYSTEM, data, &settings.channel, draft);
        publish(draft.finish(now));
        Ok(())
    }

    /// Reads an object with the channel, its sender and the data as its client has sent them.
    fn publish_relayed(
        json: &[u8],
        settings: &crate::dialect::Settings,
        draft: &mut Draft,
    ) -> Result<(), Unusable> {
        let settings = &settings.channel;
        let bytes_max = PAYLOAD_BYTES_MAX + settings.message_bytes_max;
        let Fed { channel, sender, data } = Fed::read(json, bytes_max)?;
        // Relayed by another daemon, which has taken the sender from a token.
        let sender = sender.filter(|sender| json::is_object(sender));
        let sender = sender.ok_or_else(|| Unusable("\"sender\" must be an object".into()))?;
        put_broadcast(&channel, sender.get(), data, settings, draft);
        Ok(())
    }
}

impl Channel {
    /// The `index`th text of an open session.
    fn text(&self, index: usize) -> &str {
        self.texts.splitn(4, '\0').nth(index).unwrap_or_default()
    }

    fn channel(&self) -> &str {
        self.text(0)
    }

    /// The user's id in its one spelling; empty when the token has none.
    fn id(&self) -> &str {
        self.text(1)
    }

    /// The user of the connection, as JSON.
    fn sender(&self) -> String {
        let (id, name) = (self.id(), self.text(2));
        let name = if name.is_empty() { "null" } else { name };
        if id.is_empty() {
            format!(r#"{{"name":{name}}}"#)
        } else {
            format!(r#"{{"name":{name},"id":{id}}}"#)
        }
    }

    fn has_expired(&self, now: Now) -> bool {
        now.unix_ms >= self.expires_at_ms
    }

    /// Opens the session with a valid token, if its claims are valid too.
    fn admit(&mut self, grant: &Grant, settings: &ChannelSettings, now: Now, out: &mut Actions) {
        let Some(texts) = self.texts_of(grant, settings) else { return out.push(INVALID) };
        self.texts = texts;
        self.stage = ChannelStage::Open;
        self.expires_at_ms = if settings.close_on_expiry { grant.expires_at_ms } else { NEVER_MS };
        // The subscription first: a keepalive or deadline means nothing without it.
        out.subscribe(&subscription(self.channel()), b"");
        keep_alive(settings, out);
        self.wait_for_expiry(now, out);
    }

    /// The texts that the session keeps; `None` when a claim is invalid.
    fn texts_of(&self, grant: &Grant, settings: &ChannelSettings) -> Option<Box<str>> {
        let channel = grant.text("channel")?;
        if !is_channel(channel) || channel.len() > settings.channel_bytes_max {
            return None;
        }
        // A user of the application may have neither yet.
        let is_said = |claim: &&Value| !claim.is_null();
        let id = grant.claim("id").filter(is_said).map_or(Some(String::new()), target::id)?;
        let name = match grant.claim("name").filter(is_said) {
            None => String::new(),
            Some(Value::String(name)) => json::quoted(name),
            Some(_) => return None,
        };
        let token = if settings.calls_back(channel) { &*self.texts } else { "" };

        Some([channel, &id, &name, token].join("\0").into())
    }

    fn wait_for_expiry(&self, now: Now, out: &mut Actions) {
        if self.stage == ChannelStage::Open && self.expires_at_ms != NEVER_MS {
            let left_ms = self.expires_at_ms.saturating_sub(now.unix_ms);
            let at_ns = now.monotonic_ns.saturating_add(left_ms.saturating_mul(1_000_000));
            out.push(Action::Deadline(at_ns));
        }
    }

    /// Handles a client's message; `None` when it is not even text.
    fn message(&mut self, json: Option<&str>, context: &mut Context<'_>, out: &mut Actions) {
        let (settings, now) = (&context.settings.channel, context.now);
        if self.stage != ChannelStage::Open {
            return;
        }
        if self.has_expired(now) {
            return out.because(Reason::Expired).push(expired());
        }
        // As in the reference, any message shows that the client is there.
        keep_alive(settings, out);
        // A message that cannot be used is acknowledged too, with ok false.
        let Some(data) = json.and_then(said) else {
            return out.send(|out| out.extend_from_slice(br#"{"type":"sended","ok":false}"#));
        };
        out.send(|out| out.extend_from_slice(br#"{"type":"sended","ok":true}"#));

        // Published after the acknowledgement, so the sender sees both in the reference's order.
        let (channel, sender) = (self.channel(), self.sender());
        put_broadcast(channel, &sender, data, settings, context.draft);
        let publication = context.draft.finish(now);
        let publication = match settings.relay {
            Relay::Cluster => publication,
            Relay::None | Relay::Redis => publication.for_this_node(),
        };
        out.push(Action::Publish(Box::new(publication)));
        let token = self.text(3);
        let calls_back = !token.is_empty() && settings.calls_back(channel);
        if !calls_back && settings.relay != Relay::Redis {
            return;
        }

        let body = format!(
            r#"{{"channel":{},"sender":{sender},"data":{}}}"#,
            json::quoted(channel),
            data.get()
        );
        if calls_back {
            let (channel, token, body) = (channel.into(), token.into(), body.as_str().into());
            let callback = webhook::Callback { channel, token, body, client: None };
            out.ask(Question::Webhook(Box::new(Webhook::Callback(callback))));
        }
        if settings.relay == Relay::Redis {
            out.ask(Question::Relay(body.into()));
        }
    }
}

/// A fed message.
struct Fed<'a> {
    channel: Cow<'a, str>,
    sender: Option<&'a RawValue>,
    data: &'a RawValue,
}

impl<'a> Fed<'a> {
    fn read(json: &'a [u8], bytes_max: usize) -> Result<Self, Unusable> {
        if json.len() > bytes_max {
            return Err(Unusable(format!("a message has at most {bytes_max} bytes")));
        }

        let json = std::str::from_utf8(json).map_err(|_| Unusable("it is not UTF-8".into()))?;
        // Browsers' JSON parsers may give up on more; the values are passed on unread.
        if !json::is_shallow(json) {
            return Err(Unusable(format!("nested deeper than {DEPTH_MAX}")));
        }
        let [channel, sender, data] =
            json::last(json, ["channel", "sender", "data"]).ok_or_else(|| {
                Unusable("not a JSON object: write {\"channel\":\"…\",\"data\":{…}}".into())
            })?;

        let channel = channel.and_then(json::text).filter(|channel| is_channel(channel));
        let channel = channel.ok_or_else(|| {
            Unusable(
                "\"channel\" must be the name of a channel: a string, not empty, without NUL"
                    .into(),
            )
        })?;

        let data = data.filter(|data| json::is_object(data));
        let data = data.ok_or_else(|| Unusable("\"data\" must be an object".into()))?;
        Ok(Self { channel, sender, data })
    }
}

/// The data of a client's message; `None` when it is not acknowledged with `ok`.
fn said(json: &str) -> Option<&RawValue> {
    if !json::is_shallow(json) {
        return None;
    }
    let [data] = json::last(json, ["data"])?;
    data.filter(|data| json::is_object(data))
}

/// Fills `draft` with a message to a channel. `sender` is JSON.
fn put_broadcast(
    channel: &str,
    sender: &str,
    data: &RawValue,
    settings: &ChannelSettings,
    draft: &mut Draft,
) {
    let shaped = Shaped::new(channel, data, settings);
    draft.address(&subscription(channel), b"");
    draft.meta(shaped.target().as_meta());
    draft.text(|out| {
        for part in [r#"{"type":"message","sender":"#, sender, r#","data":"#] {
            out.extend_from_slice(part.as_bytes());
        }
        shaped.put(out);
        out.push(b'}');
    });
}

/// Restarts the pings: any message shows that the client is there.
fn keep_alive(settings: &ChannelSettings, out: &mut Actions) {
    if settings.ping_interval_s > 0 {
        out.push(Action::Keepalive {
            interval_s: settings.ping_interval_s,
            misses_max: settings.ping_misses_max,
        });
    }
}

fn expired() -> Action {
    Action::close(EXPIRED.0, EXPIRED.1)
}

/// The place that a grant opens and the identity it gives, in words, from the claims that open a
/// session.
fn place_of(grant: &Grant, settings: &ChannelSettings) -> Result<String, String> {
    let channel = grant.text("channel").ok_or("it names no channel, as a text")?;
    if !is_channel(channel) || channel.len() > settings.channel_bytes_max {
        return Err(format!(
            "its channel is empty, has a NUL, or has more than {} bytes",
            settings.channel_bytes_max
        ));
    }

    let said = |claim: &str| grant.claim(claim).filter(|value| !value.is_null());
    if said("id").is_some_and(|id| target::id(id).is_none()) {
        return Err("its id is neither an integer nor a text".into());
    }
    if said("name").is_some_and(|name| !name.is_string()) {
        return Err("its name is no text".into());
    }
    let shown = |claim: &str| said(claim).map_or_else(|| "none".into(), Value::to_string);
    Ok(format!(
        "receive and say in {channel}, as id {} with the name {}",
        shown("id"),
        shown("name")
    ))
}

/// Whether this can be a channel's name.
fn is_channel(name: &str) -> bool {
    !name.is_empty() && !name.contains('\0')
}

/// The topic of a channel, in parts; no other topic begins so.
fn subscription(channel: &str) -> [&[u8]; 3] {
    [&[TOPIC], channel.as_bytes(), b"\0"]
}
