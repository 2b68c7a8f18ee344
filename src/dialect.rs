//! The trait that every protocol implements, what goes in and what comes out, and the list of protocols.
//!
//! A dialect is a state machine without I/O: one value per connection, fed with [`Input`], answering with
//! [`Actions`]. A conversation with it is data, so its tests need no socket and no clock. Whatever is slow
//! (verifying a token at a remote service, one day a store) is an action out and an input back.
//!
//! Adding a protocol is one file in `dialect/` and one line in the list at the end of this file, which
//! makes the closed enum that a shard stores: no allocation and no virtual call per connection.

pub mod channel;
pub mod client;
mod early;
pub mod echo;
pub mod grants;
#[cfg(feature = "conformance")]
pub mod mirror;
pub mod personium;
pub mod personium_event;
pub mod personium_topic;
pub mod pulsar;
pub mod wazo;

pub use self::channel::publish_relayed;
pub use self::echo::{SocketId, hides_private};
pub use self::wazo::{Acls, Addressed, RequiredAcl, Scope, name as event_name};

use crate::event::{Event, Parser};
use crate::frame::{Draft, Publication, put_text};
use crate::proxy::Networks;
use crate::reason::Reason;
use crate::retained::Retained;
use crate::service::presence::{Inquiry, Note, Reply};
use crate::service::topic::{TopicAnswer, TopicInquiry, TopicQuestion};
use crate::service::webhook::Webhook;
use crate::token::{Verdict, Verifier};
use crate::wheel::Now;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A request to switch to WebSocket, as far as a dialect looks at it.
#[derive(Clone, Copy, Default)]
pub struct Upgrade<'a> {
    /// The path without the query, as sent.
    pub path: &'a str,
    /// The query without `?`; it may hold a token, so it is never logged.
    pub query: &'a str,
    /// The `Host` header, or nothing.
    pub host: &'a str,
    /// The `X-Auth-Token` header, or nothing; it is never logged either.
    pub auth_token: &'a str,
    /// The `Authorization` header, or nothing; it is never logged either.
    pub authorization: &'a str,
    /// The client's address and port, as the log would show it.
    pub remote: &'a str,
    /// The `Origin` header, if there is one: it may be empty, and it need not be text.
    pub origin: Option<&'a [u8]>,
    /// The `Sec-WebSocket-Protocol` header, or nothing: what the client offers, separated by commas.
    pub subprotocols: &'a str,
}

impl<'a> Upgrade<'a> {
    /// The first subprotocol that is offered.
    #[must_use]
    pub fn first_subprotocol(&self) -> Option<&'a str> {
        self.subprotocols.split(',').map(str::trim).next().filter(|first| !first.is_empty())
    }
}

/// A whole HTTP request that asks for no WebSocket.
#[derive(Clone, Copy, Default)]
pub struct Request<'a> {
    /// The method; `GET` for `HEAD` too.
    pub method: &'a str,
    /// Whether the method was `HEAD`, whose answer is that of `GET` without the body.
    pub is_head: bool,
    /// The path without the query, as sent.
    pub path: &'a str,
    /// The query without `?`; it may hold a signature, so it is never logged.
    pub query: &'a str,
    /// The `Authorization` header, or nothing; it is never logged either.
    pub authorization: &'a str,
    /// The body, whatever way it came.
    pub body: &'a [u8],
}

/// What a dialect says to a request.
#[derive(Debug)]
pub enum Served {
    /// This.
    Answer {
        /// The HTTP status.
        status: u16,
        /// What the body is.
        content_type: &'static str,
        /// The body.
        body: Vec<u8>,
    },
    /// 405: the path takes only these methods.
    NotAllowed(&'static str),
    /// What the owner of the presence of the app with this id says: 200 with JSON.
    Asked(Arc<str>, Inquiry),
    /// What the owner of the topics says.
    Inquired(Box<TopicInquiry>),
}

/// What a session is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping or a pong: the client lives.
    Alive,
    /// The answer to [`Action::Verify`]; never [`Verdict::Ask`].
    Verified(Verdict),
    /// What the owner of an app's presence says to an [`Action::Note`].
    Reply(Reply),
    /// What the owner of the topics says to an [`Action::Ask`].
    Told(TopicAnswer),
    /// The settings have been replaced.
    Configured,
    /// A remote verifier has taken back the token it granted last.
    Revoked,
    /// The moment asked for by [`Action::Deadline`] has come.
    Deadline,
    /// The session is over, whoever ended it. The last input: whatever is subscribed is given back by
    /// [`Action::Unsubscribe`] and told by [`Action::Note`] and [`Action::Ask`], and no other action is done.
    Gone,
}

/// What a session asks for. Ranges point into [`Actions::bytes`].
#[derive(Debug)]
pub enum Action {
    /// Answer the handshake with 101.
    Accept,
    /// Answer the handshake with this HTTP status and end.
    Refuse(u16),
    /// The same, with a line of text that says why.
    RefuseSaying(u16, Range<u32>),
    /// Queue this ready frame.
    Send(Range<u32>),
    /// Queue this form of a publication.
    Forward(Arc<Publication>, u8),
    /// Queue a close frame, end when the peer has answered it.
    Close(u16, &'static str),
    /// The same, with a reason of its own.
    CloseSaying(u16, Range<u32>),
    /// Receive what is published under this prefix and facet prefix.
    Subscribe(Range<u32>, Range<u32>),
    /// The opposite; exactly what was subscribed.
    Unsubscribe(Range<u32>, Range<u32>),
    /// Publish to everybody.
    Publish(Box<Publication>),
    /// Tell the owner of the presence of the app with this id. A note of something that begins stands before whatever
    /// may end the session, which notes the end of it.
    Note(Arc<str>, Box<Note>),
    /// Ask the owner of the topics. [`Input::Gone`] is answered with [`TopicQuestion::Gone`] by whoever has asked.
    Ask(TopicQuestion),
    /// Tell another service; nothing comes back.
    Notify(Box<Webhook>),
    /// Tell the other nodes; nothing comes back. The text is a JSON object, to which the node's name is added.
    Relay(Box<str>),
    /// Verify a token; answered by [`Input::Verified`], at once or later.
    Verify(Range<u32>),
    /// Count this.
    Count(Tally),
    /// Send [`Input::Deadline`] at this monotonic moment (ns); replaces the one before.
    Deadline(u64),
    /// Ping every `interval_s` from now on; end when `misses_max` in a row stay unanswered.
    Keepalive {
        /// Seconds between pings.
        interval_s: u32,
        /// Unanswered pings in a row that end the session.
        misses_max: u8,
    },
}

/// The actions of one input, in order, with the bytes they refer to. A shard keeps one and reuses it.
#[derive(Default)]
pub struct Actions {
    /// In the order they are to be done.
    pub list: Vec<Action>,
    /// What their ranges point into.
    pub bytes: Vec<u8>,
    /// Why they refuse or close, where the input does not tell that by itself.
    pub reason: Option<Reason>,
}

impl Actions {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.reason = None;
    }

    /// Adds an action that needs no bytes.
    pub fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    /// Queues a text message whose payload `fill` appends.
    pub fn send(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let range = put_text(&mut self.bytes, fill);
        self.list.push(Action::Send(range));
    }

    /// Queues a frame that is ready.
    pub fn send_ready(&mut self, frame: &[u8]) {
        let range = self.keep(&[frame]);
        self.list.push(Action::Send(range));
    }

    /// Says why what follows refuses or closes.
    pub fn because(&mut self, reason: Reason) -> &mut Self {
        self.reason = Some(reason);
        self
    }

    /// Refuses the handshake with a status and a line that says why.
    pub fn refuse_saying(&mut self, status: u16, reason: &str) {
        let range = self.keep(&[reason.as_bytes()]);
        self.list.push(Action::RefuseSaying(status, range));
    }

    /// Closes with a code and a reason of its own.
    pub fn close_saying(&mut self, code: u16, reason: &str) {
        let range = self.keep(&[reason.as_bytes()]);
        self.list.push(Action::CloseSaying(code, range));
    }

    /// Closes with a code and no reason.
    pub fn close(&mut self, code: u16) {
        self.list.push(Action::Close(code, ""));
    }

    /// Subscribes to a prefix, given in parts, and a facet prefix.
    pub fn subscribe(&mut self, prefix: &[&[u8]], facet: &[u8]) {
        let (prefix, facet) = (self.keep(prefix), self.keep(&[facet]));
        self.list.push(Action::Subscribe(prefix, facet));
    }

    /// Unsubscribes what [`Actions::subscribe`] subscribed.
    pub fn unsubscribe(&mut self, prefix: &[&[u8]], facet: &[u8]) {
        let (prefix, facet) = (self.keep(prefix), self.keep(&[facet]));
        self.list.push(Action::Unsubscribe(prefix, facet));
    }

    /// Asks for a token to be verified.
    pub fn verify(&mut self, token: &str) {
        let token = self.keep(&[token.as_bytes()]);
        self.list.push(Action::Verify(token));
    }

    /// The bytes of a range.
    #[must_use]
    pub fn get(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    fn keep(&mut self, parts: &[&[u8]]) -> Range<u32> {
        let start = self.bytes.len() as u32;
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        start..self.bytes.len() as u32
    }
}

/// Whether a publication that matched a subscription goes to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Not to this one.
    No,
    /// Not to this one, because its token does not let it have the event.
    Denied,
    /// In this form (see [`Publication::frame`]).
    Form(u8),
    /// No, and the session ends with this code and text, for this reason.
    Close(u16, &'static str, Reason),
    /// In this form, and then the session ends with this code and reason.
    Last(u8, u16, &'static str),
}

/// Why a fed event cannot be published. The reason is shown to the publisher.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Unusable(pub String);

/// What a dialect is given beside its input.
pub struct Context<'a> {
    /// The moment of the turn.
    pub now: Now,
    /// The settings of every dialect.
    pub settings: &'a Settings,
    /// Reads JSON with the shard's own buffers.
    pub parser: &'a mut Parser,
    /// Builds publications with the shard's own buffers.
    pub draft: &'a mut Draft,
    /// What tokens of `wazo` allow, shared by the sessions of this shard that are allowed the same.
    pub acls: &'a mut Acls,
    /// The last publications of topics, as far as they are kept.
    pub retained: &'a Retained,
    /// Draws numbers that nobody outside can guess.
    pub rng: &'a mut Rng,
}

/// Seconds between pings where the reference has one a minute. nginx cuts a connection that has carried nothing for
/// 60 s (`proxy_read_timeout`), so a minute is exactly too long; this leaves 10 s to a slow timer or network.
pub const PING_INTERVAL_S: u32 = 50;

/// A source of numbers that nobody outside can guess, each drawn once. Tests give one that counts.
pub type Rng = Box<dyn FnMut() -> u64>;

/// What a dialect counts of its own; see [`Action::Count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tally {
    /// A message of a kind that is not known, which was ignored.
    Ignored,
    /// A subscription that was refused for want of a good signature.
    Unauthorized,
    /// A subscription to a name that no channel can have.
    BadName,
    /// A subscription beyond a limit.
    OverLimit,
    /// A client's event for other clients that was refused.
    ClientEvent,
}

impl Tally {
    /// How many there are.
    pub const COUNT: usize = Tally::ClientEvent as usize + 1;
}

/// One protocol: the state of one connection and the rules for events.
pub trait Dialect: Sized {
    /// Its clients' end.
    const CLIENT: &'static dyn client::DialectClient;
    /// The first byte of its topics, which no other dialect has.
    const TOPIC: u8;
    /// Payload of its pings.
    const PING: &'static [u8];
    /// The code and reason that end a session whose pings stay unanswered.
    const CLOSE_UNANSWERED: (u16, &'static str);
    /// Whether the first subprotocol that is offered is agreed to; none is otherwise.
    const ECHOES_SUBPROTOCOL: bool = false;
    /// The code and reason that end a session which reads too slowly.
    const CLOSE_SLOW: (u16, &'static str) = (1013, "too slow");
    /// The longest message a client may send, in bytes.
    fn message_bytes_max(settings: &Settings) -> usize;

    /// The longest message that this client may send, where they differ.
    fn own_message_bytes_max(&self, settings: &Settings) -> usize {
        Self::message_bytes_max(settings)
    }

    /// Who is at the other end, for the log: the subject of the token, or what is as good.
    fn subject(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// The reason that ends a session, with code 1009, whose client sends a message of so many bytes where so many are
    /// allowed.
    fn too_long(_bytes: u64, _bytes_max: usize) -> String {
        String::new()
    }

    /// The code and reason that end sessions when the daemon stops.
    fn close_stopping(_settings: &Settings) -> (u16, &'static str) {
        (1001, "")
    }

    /// Claims the request, or declines so that the next dialect of the listener is asked.
    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self>;

    /// The HTTP status for a request that it would claim but that asks for no WebSocket.
    fn plain(_method: &str, _path: &str) -> u16 {
        405
    }

    /// The longest body of a request that it answers itself; `None` when there is nothing of its own at this path.
    fn body_bytes_max(_method: &str, _path: &str, _settings: &Settings) -> Option<usize> {
        None
    }

    /// Answers a request that asks for no WebSocket, at a path that [`Dialect::body_bytes_max`] has taken. Of the
    /// actions, publications and webhooks are done.
    fn serve(_request: &Request<'_>, _context: &mut Context<'_>, _out: &mut Actions) -> Served {
        Served::Answer { status: 404, content_type: "text/plain; charset=utf-8", body: Vec::new() }
    }

    /// The next step of the conversation.
    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions);

    /// The exact filter, asked once per publication whose address matched a subscription.
    fn admits(&self, publication: &Publication, now: Now) -> Admission;

    /// Gives `publish` what an event comes to that was fed for `place` (the part of the feed's address after the
    /// dialect's word): one publication, or in order as many as there are channels that it is for. Runs once per
    /// event, however many receive it.
    ///
    /// # Errors
    /// When the place is malformed or the dialect cannot use the event; then nothing is published.
    fn publish(
        place: &str,
        event: &Event<'_, '_>,
        settings: &Settings,
        now: Now,
        draft: &mut Draft,
        publish: &mut dyn FnMut(Publication),
    ) -> Result<(), Unusable>;
}

/// Makes the closed set of dialects from the list below: the names that configuration uses, the words that
/// start a feed's address, and the enum that holds any session.
macro_rules! dialects {
    ($($(#[$attribute:meta])* $variant:ident: $type:ty, $name:literal, word $word:literal;)+) => {
        /// Which protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($(#[$attribute])* #[doc = $name] $variant,)+ }

        impl Kind {
            /// All, in the order a listener asks them.
            pub const ALL: &'static [Kind] = &[$($(#[$attribute])* Kind::$variant,)+];

            /// The name that configuration and metrics use.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $($(#[$attribute])* Kind::$variant => $name,)+ } }

            /// The word that starts a feed's address.
            #[must_use]
            pub const fn word(self) -> &'static str { match self { $($(#[$attribute])* Kind::$variant => $word,)+ } }

            /// The dialect that a topic belongs to.
            #[must_use]
            pub fn of_topic(topic: &[u8]) -> Option<Self> {
                match *topic.first()? {
                    $($(#[$attribute])* <$type as Dialect>::TOPIC => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Publishes an event fed for `place`; see [`Dialect::publish`].
            ///
            /// # Errors
            /// As [`Dialect::publish`].
            pub fn publish(
                self,
                place: &str,
                event: &Event<'_, '_>,
                settings: &Settings,
                now: Now,
                draft: &mut Draft,
                publish: &mut dyn FnMut(Publication),
            ) -> Result<(), Unusable> {
                match self {
                    $($(#[$attribute])* Kind::$variant => <$type as Dialect>::publish(place, event, settings, now, draft, publish),)+
                }
            }

            /// Claims a request; see [`Dialect::open`].
            pub fn open(self, upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<AnyDialect> {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::open(upgrade, context, out).map(AnyDialect::$variant),)+ }
            }

            /// The status for a request without a WebSocket; see [`Dialect::plain`].
            #[must_use]
            pub fn plain(self, method: &str, path: &str) -> u16 {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::plain(method, path),)+ }
            }

            /// See [`Dialect::body_bytes_max`].
            #[must_use]
            pub fn body_bytes_max(self, method: &str, path: &str, settings: &Settings) -> Option<usize> {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::body_bytes_max(method, path, settings),)+ }
            }

            /// See [`Dialect::serve`].
            pub fn serve(self, request: &Request<'_>, context: &mut Context<'_>, out: &mut Actions) -> Served {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::serve(request, context, out),)+ }
            }

            /// The longest message of a client.
            #[must_use]
            pub fn message_bytes_max(self, settings: &Settings) -> usize {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::message_bytes_max(settings),)+ }
            }

            /// See [`Dialect::too_long`].
            #[must_use]
            pub fn too_long(self, bytes: u64, bytes_max: usize) -> String {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::too_long(bytes, bytes_max),)+ }
            }

            /// See [`Dialect::CLOSE_SLOW`].
            #[must_use]
            pub const fn close_slow(self) -> (u16, &'static str) {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::CLOSE_SLOW,)+ }
            }

            /// See [`Dialect::close_stopping`].
            #[must_use]
            pub fn close_stopping(self, settings: &Settings) -> (u16, &'static str) {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::close_stopping(settings),)+ }
            }

            /// The clients' end of the protocol.
            #[must_use]
            pub const fn client(self) -> &'static dyn client::DialectClient {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::CLIENT,)+ }
            }

            /// Payload of the pings.
            #[must_use]
            pub const fn ping(self) -> &'static [u8] { match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::PING,)+ } }

            /// Whether the first subprotocol that is offered is agreed to.
            #[must_use]
            pub const fn echoes_subprotocol(self) -> bool {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::ECHOES_SUBPROTOCOL,)+ }
            }

            /// The code and reason for unanswered pings.
            #[must_use]
            pub const fn close_unanswered(self) -> (u16, &'static str) {
                match self { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::CLOSE_UNANSWERED,)+ }
            }
        }

        /// A session of any protocol.
        pub enum AnyDialect { $($(#[$attribute])* #[doc = $name] $variant($type),)+ }

        impl AnyDialect {
            /// Which protocol it is.
            #[must_use]
            pub const fn kind(&self) -> Kind { match self { $($(#[$attribute])* AnyDialect::$variant(_) => Kind::$variant,)+ } }

            /// See [`Dialect::handle`].
            pub fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
                match self { $($(#[$attribute])* AnyDialect::$variant(session) => session.handle(input, context, out),)+ }
            }

            /// See [`Dialect::own_message_bytes_max`].
            #[must_use]
            pub fn message_bytes_max(&self, settings: &Settings) -> usize {
                match self { $($(#[$attribute])* AnyDialect::$variant(session) => session.own_message_bytes_max(settings),)+ }
            }

            /// See [`Dialect::subject`].
            #[must_use]
            pub fn subject(&self) -> Option<Cow<'_, str>> {
                match self { $($(#[$attribute])* AnyDialect::$variant(session) => session.subject(),)+ }
            }

            /// See [`Dialect::admits`].
            #[inline]
            #[must_use]
            pub fn admits(&self, publication: &Publication, now: Now) -> Admission {
                match self { $($(#[$attribute])* AnyDialect::$variant(session) => session.admits(publication, now),)+ }
            }
        }
    };
}

dialects! {
    PersoniumEvent: personium_event::PersoniumEvent, "personium-event", word "event";
    PersoniumTopic: personium_topic::PersoniumTopic, "personium-topic", word "topic";
    Channel: channel::Channel, "channel", word "channel";
    Echo: echo::Echo, "echo", word "echo";
    Pulsar: pulsar::Pulsar, "pulsar", word "pulsar";
    #[cfg(feature = "conformance")]
    Mirror: mirror::Mirror, "mirror", word "mirror";
    // Takes any path, so it is asked last.
    Wazo: wazo::Wazo, "wazo", word "wazo";
}

/// The settings of every dialect, with the verifier of its tokens.
#[derive(Default)]
pub struct Settings {
    /// Of both Personium dialects.
    pub personium: personium::PersoniumSettings,
    /// Of `channel`.
    pub channel: channel::ChannelSettings,
    /// Of `echo`.
    pub echo: echo::EchoSettings,
    /// Of `pulsar`.
    pub pulsar: pulsar::PulsarSettings,
    /// Of `wazo`.
    pub wazo: wazo::WazoSettings,
    /// The proxies that are believed when they name their clients.
    pub trusted_proxies: Networks,
}

impl Settings {
    /// How many publications may be kept of the topics that one of them belongs to, any number when 0; nothing when
    /// none is to be kept.
    #[must_use]
    pub fn retained_max(&self, topic: &[u8]) -> Option<usize> {
        // Echo's are the only ones that are kept.
        self.echo.retained_max(topic)
    }
}

impl Kind {
    /// The dialect of a configured name.
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The verifier of the dialect's tokens; `None` when it takes none.
    #[must_use]
    pub fn verifier(self, settings: &Settings) -> Option<&Verifier> {
        match self {
            Kind::PersoniumEvent | Kind::PersoniumTopic => settings.personium.verifier.as_ref(),
            Kind::Channel => settings.channel.verifier.as_ref(),
            Kind::Echo => None,
            Kind::Pulsar => settings.pulsar.verifier.as_ref(),
            Kind::Wazo => settings.wazo.verifier.as_ref(),
            #[cfg(feature = "conformance")]
            Kind::Mirror => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_any_protocol_takes_at_most_40_bytes_beside_what_it_boxes() {
        assert!(size_of::<Option<AnyDialect>>() <= 40, "{}", size_of::<Option<AnyDialect>>());
    }
}
