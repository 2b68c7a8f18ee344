//! The trait that every protocol implements.

use super::client::DialectClient;
use super::{
    Actions, AmqpMessage, AskedTopic, ClaimedPaths, Context, DialectTally, FeedAddress, Input,
    PerShard, Request, Served, Settings, Unusable, Upgrade,
};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::json::RawValue;
use crate::reason::Reason;
use crate::service::presence::{PresenceAnswer, PresenceQuestion, PresenceVoice};
use crate::service::topic::{MessageDraft, Recipient, StoredMessage, TopicName};
use crate::service::webhook::Recipients;
use crate::token::{Grant, Verifier};
use crate::wheel::Now;
use std::borrow::Cow;
use std::fmt;

/// Forms that one publication may have, as a shard keeps a frame for each while it delivers.
pub const FORMS_MAX: usize = 4;

/// Whether a publication that matched a subscription goes to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Not to this one.
    No,
    /// Not to this one, because its token does not permit the event.
    Denied,
    /// In this form (see [`Publication::frame`]), below [`FORMS_MAX`].
    Form(u8),
    /// No, and the session ends with this code and text, for this reason.
    Close(u16, &'static str, Reason),
    /// In this form, and then the session ends with this code and reason.
    Last(u8, u16, &'static str),
}

/// Whether a session would get an event, and why, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it would.
    pub gets: bool,
    /// Why.
    pub because: Cow<'static, str>,
}

impl Explanation {
    /// Of a session that gets the event.
    pub fn yes(because: impl Into<Cow<'static, str>>) -> Self {
        Self { gets: true, because: because.into() }
    }

    /// Of a session that does not.
    pub fn no(because: impl Into<Cow<'static, str>>) -> Self {
        Self { gets: false, because: because.into() }
    }

    /// What an admission tells by itself.
    #[must_use]
    pub fn of(admission: Admission) -> Self {
        match admission {
            Admission::Form(_) => Self::yes("a subscription matches"),
            Admission::Last(..) => Self::yes("a subscription matches; it ends the session"),
            Admission::No => Self::no("it is not addressed to this client"),
            Admission::Denied => Self::no("the token does not permit it"),
            Admission::Close(.., reason) => {
                Self::no(format!("it would end the session: {}", reason.words()))
            }
        }
    }
}

/// The form of a durable message for a session. Sessions with equal forms share the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryForm {
    /// Earlier deliveries.
    pub redeliveries: u32,
    /// The partition in its id.
    pub partition: Option<u32>,
    /// Any other difference in the bytes; defined by the dialect.
    pub variant: u8,
}

/// One protocol: the state of one connection and the rules for events.
///
/// A value is stored for each connection: at most 40 bytes with the tag of the enum, which a test
/// holds. Box what is larger or rare.
pub trait Dialect: Sized {
    /// The name in configuration and metrics.
    const NAME: &'static str;
    /// The name of its table in the configuration; several dialects may have one.
    const TABLE: &'static str = Self::NAME;
    /// The addresses of its feed lines.
    const FEED: FeedAddress;
    /// The paths that it takes.
    const PATHS: ClaimedPaths = ClaimedPaths::Own;
    /// Whether its sessions ask for durable topics: a store is opened for them, and
    /// [`Upgrade::remote`] says where the client is.
    const HAS_TOPICS: bool = false;
    /// What follows "the clients of NAME have no tokens", such as ": all that reach the listener
    /// are let in"; empty where they have tokens.
    const WITHOUT_TOKENS: &'static str = "";
    /// The other end: a client of the protocol, for `subscribe`, `bench` and the tests.
    const CLIENT: &'static dyn DialectClient;
    /// The first byte of its topics, which no other dialect has: two equal ones are an unreachable
    /// pattern in `Kind::of_topic`. The dialect itself puts it first in [`Draft::address`] and
    /// [`Actions::subscribe`].
    const TOPIC: u8;
    /// The forms of each of its publications, at most [`FORMS_MAX`]. Replies to one session and
    /// durable messages have one.
    const FORMS: usize = 1;
    /// Payload of its pings, at most 125 bytes.
    const PING: &'static [u8];
    /// The code and reason that end a session with unanswered pings.
    const CLOSE_UNANSWERED: (u16, &'static str);
    /// Whether the first offered subprotocol is accepted; otherwise none is.
    const ECHOES_SUBPROTOCOL: bool = false;
    /// The code and reason that end a session which reads too slowly.
    const CLOSE_SLOW: (u16, &'static str) = (1013, "too slow");
    /// Whether the bus feeds it: [`Dialect::publish_message`] reads the messages.
    const FED_BY_BUS: bool = false;
    /// The code and reason that end a session when the bus that feeds its dialect is away; `None`
    /// where sessions stay.
    const CLOSE_BUS_LOST: Option<(u16, &'static str)> = None;
    /// The code and reason that end a session while this node is cut off from the others of its
    /// cluster; `None` where sessions stay.
    const CLOSE_ISOLATED: Option<(u16, &'static str)> = Some((1013, "cut off from other nodes"));
    /// The code and reason that end a session which an operator ends without naming a code.
    const CLOSE_KICKED: (u16, &'static str) = (1008, "");
    /// The events that its sessions count, with the word by which the client is told, if it is.
    const TALLIES: &'static [(DialectTally, &'static str)] = &[];
    /// The longest message of a client, in bytes.
    fn message_bytes_max(settings: &Settings) -> usize;

    /// The longest message of this client, where they differ.
    fn own_message_bytes_max(&self, settings: &Settings) -> usize {
        Self::message_bytes_max(settings)
    }

    /// The identity of the client, for the log: the subject of the token, or an equivalent.
    fn subject(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Visits what the session is subscribed to, for operators: each as a place of
    /// [`Dialect::topic`], where a star stands for any text. Visiting costs no more than a step as
    /// long as the visitor does not write the text.
    fn subscriptions(&self, _visit: &mut dyn FnMut(fmt::Arguments<'_>)) {}

    /// The topic of a place that an operator asks about: what follows the dialect's word in the
    /// address of a feed line, and behind it what the line's JSON may name, such as the channel.
    ///
    /// # Errors
    /// When no publication has this topic: what to write instead.
    fn topic(_place: &str) -> Result<AskedTopic, &'static str> {
        Err("the topics of this dialect have no addresses")
    }

    /// The place of a publication's topic, without its first byte, as [`Dialect::subscriptions`]
    /// has it.
    fn place(topic: &str) -> String {
        topic.trim_end_matches('\0').replace('\0', "/")
    }

    /// The text of the close frame (code 1009) after a message of `bytes` where `bytes_max` are
    /// allowed; empty for the usual words. The shard closes; the session does not see the message.
    fn too_long(_bytes: u64, _bytes_max: usize) -> String {
        String::new()
    }

    /// The code and reason that end sessions when the daemon stops.
    fn close_stopping(_settings: &Settings) -> (u16, &'static str) {
        (1001, "")
    }

    /// Claims the request with a session and [`Action::Accept`](super::Action::Accept), now or
    /// later; or claims it with a session and [`Action::Refuse`](super::Action::Refuse); or
    /// declines with `None`, so that the next dialect of the listener is asked (404 when all
    /// decline).
    ///
    /// Also called for requests that ask for no WebSocket, to learn whose path it is: session and
    /// actions are dropped then without [`Input::Gone`], so it changes nothing outside of them.
    fn open(upgrade: &Upgrade<'_>, context: &mut Context<'_>, out: &mut Actions) -> Option<Self>;

    /// The HTTP status for a request that it would claim but that is no WebSocket handshake.
    fn plain(_method: &str, _path: &str) -> u16 {
        405
    }

    /// The longest body of a request that it answers itself; `None` when it has no resource at this
    /// path.
    fn body_bytes_max(_method: &str, _path: &str, _settings: &Settings) -> Option<usize> {
        None
    }

    /// Answers a request without a WebSocket, at a path that [`Dialect::body_bytes_max`] has
    /// claimed. Of the actions, only publications and webhooks take effect.
    fn serve(_request: &Request<'_>, _context: &mut Context<'_>, _out: &mut Actions) -> Served {
        Served::Answer { status: 404, content_type: "text/plain; charset=utf-8", body: Vec::new() }
    }

    /// The body of the response to a request that has asked for presence.
    fn answer(_: &PresenceQuestion, _: &PresenceAnswer, _: &Context<'_>) -> Vec<u8> {
        b"{}".to_vec()
    }

    /// The verifier of its tokens; `None` when it takes none.
    fn verifier(_settings: &Settings) -> Option<&Verifier> {
        None
    }

    /// What a valid token permits, in words, or why it opens no session nevertheless.
    ///
    /// # Errors
    /// What the token lacks.
    fn granted(_grant: &Grant, _settings: &Settings) -> Result<String, String> {
        Ok("everything: its clients have no tokens".into())
    }

    /// The dialect's wording of presence; `None` when it has none.
    fn presence(_settings: &Settings) -> Option<&dyn PresenceVoice> {
        None
    }

    /// Adds the recipients of its webhooks.
    fn add_recipients(_settings: &Settings, _recipients: &mut Recipients) {}

    /// The next step of the conversation. After it has closed or refused, only [`Input::Gone`]
    /// follows.
    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions);

    /// The exact filter, asked once per publication whose address matched a subscription; `Form(0)`
    /// where there is nothing to filter.
    fn admits(&self, publication: &Publication, now: Now) -> Admission;

    /// Whether a publication that matched a subscription would go to the session, for an operator:
    /// [`Dialect::admits`] in words, and without any effect.
    fn explain(&self, publication: &Publication, now: Now) -> Explanation {
        Explanation::of(self.admits(publication, now))
    }

    /// The session as JSON, for another process; `None` where it cannot go on there: then its
    /// client is told to come back. A question about a token may be open, which is asked again
    /// there; answers to other questions would be lost.
    fn freeze(&self) -> Option<Box<RawValue>> {
        None
    }

    /// A session of another process again, which subscribes to what it was subscribed to, and says
    /// again which channels without members it is in; its pings and its deadline go on as they
    /// were. `None`: it cannot go on with these settings, or the
    /// JSON is none of [`Dialect::freeze`]; then nothing has changed outside of it.
    fn thaw(_frozen: &RawValue, _context: &mut Context<'_>, _out: &mut Actions) -> Option<Self> {
        None
    }

    /// What the sessions of one shard share, as JSON for another process; `None` where that is
    /// nothing.
    fn freeze_shared(_shared: &mut PerShard) -> Option<Box<RawValue>> {
        None
    }

    /// Keeps what sessions of another process share, for those that are about to be taken over.
    fn thaw_shared(_frozen: &RawValue, _shared: &mut PerShard) {}

    /// The form of a durable message for this session, which gets it now.
    fn delivery_form(&self, recipient: &Recipient, _now: Now) -> DeliveryForm {
        DeliveryForm {
            redeliveries: recipient.redeliveries,
            partition: recipient.partition,
            variant: 0,
        }
    }

    /// A durable message in a form, as the only form of a publication; by default its payload.
    fn deliver(
        message: &StoredMessage,
        _form: DeliveryForm,
        draft: &mut Draft,
        now: Now,
    ) -> Publication {
        draft.address(&[], b"");
        draft.text(|out| out.extend_from_slice(message.message().payload));
        draft.finish(now)
    }

    /// Turns an event that was fed for `place` into publications, given to `publish` in order:
    /// usually one, or one for each channel that it is for. Runs once per event, however many
    /// receive it.
    ///
    /// `place` is the feed's address without the dialect's word, as it was written: nothing is
    /// percent-decoded, it has as many parts as [`FeedAddress`] says, none of them empty, in at
    /// most 1,024 bytes.
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

    /// The message to store of an event that is fed for `place`; `None` where it is published at
    /// once.
    fn append(
        _place: &str,
        _event: &Event<'_, '_>,
        _now: Now,
    ) -> Option<Result<(TopicName, MessageDraft), Unusable>> {
        None
    }

    /// Fills `draft` with the event in the body of a message of the bus, addressed by its headers,
    /// or by its body alone.
    ///
    /// # Errors
    /// When it is not an event of the dialect.
    fn publish_message(
        _message: &AmqpMessage<'_>,
        _has_headers: bool,
        _event: &Event<'_, '_>,
        _draft: &mut Draft,
    ) -> Result<(), Unusable> {
        Err(Unusable("no bus feeds this dialect".into()))
    }

    /// Fills `draft` with a message of another daemon's client, in the form in which a session
    /// relays it.
    ///
    /// # Errors
    /// When it is not such a message.
    fn publish_relayed(
        _json: &[u8],
        _settings: &Settings,
        _draft: &mut Draft,
    ) -> Result<(), Unusable> {
        Err(Unusable("nothing is relayed in this dialect".into()))
    }

    /// Carries counters over when settings are replaced.
    fn carry_on(_before: &Settings, _after: &Settings) {}
}
