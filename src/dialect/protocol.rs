//! What every protocol implements.

use super::client::DialectClient;
use super::{
    Actions, AmqpMessage, ClaimedPaths, Context, DialectTally, FeedAddress, Input, Request, Served,
    Settings, Unusable, Upgrade,
};
use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::reason::Reason;
use crate::service::presence::{PresenceAnswer, PresenceQuestion, PresenceVoice};
use crate::service::topic::{MessageDraft, Recipient, StoredMessage, TopicName};
use crate::service::webhook::Recipients;
use crate::token::{Grant, Verifier};
use crate::wheel::Now;
use std::borrow::Cow;

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

/// Which bytes a durable message has for a session. Sessions with the same form share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryForm {
    /// How often it came before.
    pub redeliveries: u32,
    /// The partition in its id.
    pub partition: Option<u32>,
    /// What else tells its bytes apart; the dialect's to say.
    pub variant: u8,
}

/// One protocol: the state of one connection and the rules for events.
pub trait Dialect: Sized {
    /// The name that configuration and metrics use.
    const NAME: &'static str;
    /// The addresses of its lines in a feed.
    const FEED: FeedAddress;
    /// The paths that it takes.
    const PATHS: ClaimedPaths = ClaimedPaths::Own;
    /// Whether its sessions ask for durable topics, so that a store is opened; they are told where the client is.
    const HAS_TOPICS: bool = false;
    /// Why its clients have no tokens, behind that they have none; empty where they have.
    const WITHOUT_TOKENS: &'static str = "";
    /// Its clients' end.
    const CLIENT: &'static dyn DialectClient;
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
    /// The code and reason that end a session when the bus is away that feeds its dialect; `None` where none does.
    const CLOSE_BUS_LOST: Option<(u16, &'static str)> = None;
    /// What its sessions count, with the word by which the client is told, if it is.
    const TALLIES: &'static [(DialectTally, &'static str)] = &[];
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

    /// The body that answers a request which has asked for presence.
    fn answer(_: &PresenceQuestion, _: &PresenceAnswer, _: &Context<'_>) -> Vec<u8> {
        b"{}".to_vec()
    }

    /// The verifier of its tokens; `None` when it takes none.
    fn verifier(_settings: &Settings) -> Option<&Verifier> {
        None
    }

    /// What a token that its verifier has found good lets its bearer do, in words, or why it opens no session all the
    /// same.
    ///
    /// # Errors
    /// What is missing in it.
    fn granted(_grant: &Grant, _settings: &Settings) -> Result<String, String> {
        Ok("everything: its clients have no tokens".into())
    }

    /// How it tells of presence; `None` when it has none.
    fn presence(_settings: &Settings) -> Option<&dyn PresenceVoice> {
        None
    }

    /// Adds those who are told by webhooks.
    fn add_recipients(_settings: &Settings, _recipients: &mut Recipients) {}

    /// The next step of the conversation.
    fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions);

    /// The exact filter, asked once per publication whose address matched a subscription.
    fn admits(&self, publication: &Publication, now: Now) -> Admission;

    /// Which bytes a durable message has for this session, which gets it now.
    fn delivery_form(&self, recipient: &Recipient, _now: Now) -> DeliveryForm {
        DeliveryForm {
            redeliveries: recipient.redeliveries,
            partition: recipient.partition,
            variant: 0,
        }
    }

    /// The bytes of a durable message in a form, as the one form of a publication; else its payload as it is.
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

    /// What an event comes to that is fed for `place` and is stored before it is delivered; `None` where it is
    /// published at once.
    fn append(
        _place: &str,
        _event: &Event<'_, '_>,
        _now: Now,
    ) -> Option<Result<(TopicName, MessageDraft), Unusable>> {
        None
    }

    /// Fills `draft` with the event in the body of a message of the bus, addressed by its headers, or by the body alone.
    ///
    /// # Errors
    /// When it is no event of the dialect.
    fn publish_message(
        _message: &AmqpMessage<'_>,
        _has_headers: bool,
        _event: &Event<'_, '_>,
        _draft: &mut Draft,
    ) -> Result<(), Unusable> {
        Err(Unusable("no bus feeds this dialect".into()))
    }

    /// Fills `draft` with what a client of another daemon has said, as a session has it relayed.
    ///
    /// # Errors
    /// When it is no such thing.
    fn publish_relayed(
        _json: &[u8],
        _settings: &Settings,
        _draft: &mut Draft,
    ) -> Result<(), Unusable> {
        Err(Unusable("nothing is relayed in this dialect".into()))
    }

    /// Lets what is counted go on where settings take the place of others.
    fn carry_on(_before: &Settings, _after: &Settings) {}
}
