//! The trait of all protocols, their inputs and actions, and the list of protocols.
//!
//! A dialect is a state machine without I/O: one value per connection, fed with [`Input`],
//! answering with [`Actions`]. A conversation with it is data, so its tests need no socket and no
//! clock. Anything slow (a remote token check, presence, the store) is an action out and an input
//! back.
//!
//! Adding a protocol is a file and a folder in `dialect/` with its `mod`, and one line in
//! `with_dialects!` at the top of this file, which makes the closed enum that a shard stores (no
//! allocation and no virtual call per connection), the settings of all, and the tables of the
//! configuration. What the rest of the daemon has to know of a protocol is in its [`Dialect`], its
//! [`DialectTable`](config_table::DialectTable) and its [`DialectClient`](client::DialectClient);
//! [development](crate::manual::development) goes through it step by step.

/// The list of protocols, handed to a macro behind what else it is given in brackets.
///
/// A line has the variant of [`Kind`], the type of a session, and where the protocol has settings,
/// the name of their table in the configuration and their type: `Echo: echo::Echo, [echo]
/// echo::EchoSettings;`. A listener asks its protocols in this order.
macro_rules! with_dialects {
    ($make:ident $($argument:tt)*) => {
        $make! {
            [$($argument)*]
            PersoniumEvent: personium::event::PersoniumEvent,
                [personium] personium::PersoniumSettings;
            PersoniumTopic: personium::topic::PersoniumTopic;
            Channel: channel::Channel, [channel] channel::ChannelSettings;
            Echo: echo::Echo, [echo] echo::EchoSettings;
            Pulsar: pulsar::Pulsar, [pulsar] pulsar::PulsarSettings;
            #[cfg(feature = "conformance")]
            Mirror: mirror::Mirror;
            // Takes any path, so it is asked last.
            Wazo: wazo::Wazo, [wazo] wazo::WazoSettings;
        }
    };
}
pub(crate) use with_dialects;

mod action;
mod broker;
pub mod channel;
pub mod client;
pub mod config_table;
mod early;
pub mod echo;
mod fed;
mod grants;
mod input;
#[cfg(feature = "conformance")]
pub mod mirror;
pub mod personium;
mod protocol;
pub mod pulsar;
mod settings;
mod small_list;
mod upgrade;
pub mod wazo;

pub use self::action::{Action, Actions, DialectTally};
pub use self::broker::{AmqpHeader, AmqpMessage, RedisChannels, RedisCodec, RedisSource, RedisUse};
pub use self::config_table::AppFacts;
pub use self::fed::{AskedTopic, FeedAddress, Unusable};
pub use self::input::{Context, Input, PerShard, Rng};
pub use self::protocol::{Admission, DeliveryForm, Dialect, Explanation, FORMS_MAX};
pub use self::settings::Settings;
pub use self::upgrade::{ClaimedPaths, Request, Served, Upgrade};

use crate::event::Event;
use crate::frame::{Draft, Publication};
use crate::json::RawValue;
use crate::service::DialectId;
use crate::service::presence::{PresenceAnswer, PresenceQuestion, PresenceVoice};
use crate::service::topic::{MessageDraft, Recipient, StoredMessage, TopicName};
use crate::service::webhook::Recipients;
use crate::token::{Grant, Verifier};
use crate::wheel::Now;
use std::borrow::Cow;
use std::fmt;

/// Makes the closed set of dialects from the list, and the enum of all sessions.
macro_rules! dialects {
    ([] $(
        $(#[$attribute:meta])*
        $variant:ident: $type:ty $(, [$table:ident] $settings:ty)?;
    )+) => {
        /// A protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $(
                $(#[$attribute])*
                #[doc = concat!("See [`", stringify!($type), "`].")]
                $variant,
            )+
        }

        impl Kind {
            /// All, in the order a listener asks them.
            pub const ALL: &'static [Kind] = &[$($(#[$attribute])* Kind::$variant,)+];

            /// The dialect that a topic belongs to.
            #[must_use]
            pub fn of_topic(topic: &[u8]) -> Option<Self> {
                match *topic.first()? {
                    $($(#[$attribute])* <$type as Dialect>::TOPIC => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Claims a request; see [`Dialect::open`].
            pub fn open(
                self,
                upgrade: &Upgrade<'_>,
                context: &mut Context<'_>,
                out: &mut Actions,
            ) -> Option<AnyDialect> {
                match self {
                    $($(#[$attribute])* Kind::$variant => {
                        <$type as Dialect>::open(upgrade, context, out).map(AnyDialect::$variant)
                    })+
                }
            }
        }

        impl Kind {
            /// Takes a session over from another process; see [`Dialect::thaw`].
            pub fn thaw(
                self,
                frozen: &RawValue,
                context: &mut Context<'_>,
                out: &mut Actions,
            ) -> Option<AnyDialect> {
                match self {
                    $($(#[$attribute])* Kind::$variant => {
                        <$type as Dialect>::thaw(frozen, context, out).map(AnyDialect::$variant)
                    })+
                }
            }
        }

        /// A session of any protocol.
        pub enum AnyDialect {
            $(
                $(#[$attribute])*
                #[doc = concat!("See [`", stringify!($type), "`].")]
                $variant($type),
            )+
        }

        impl AnyDialect {
            /// Which protocol it is.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $($(#[$attribute])* AnyDialect::$variant(_) => Kind::$variant,)+ }
            }
        }
    };
}

/// A constant of a [`Kind`]'s protocol.
macro_rules! constant {
    ([$kind:ident $name:ident] $(
        $(#[$attribute:meta])*
        $variant:ident: $type:ty $(, [$table:ident] $settings:ty)?;
    )+) => {
        match $kind { $($(#[$attribute])* Kind::$variant => <$type as Dialect>::$name,)+ }
    };
}

/// Calls a function of a [`Kind`]'s protocol.
macro_rules! function {
    ([$kind:ident $name:ident $arguments:tt] $(
        $(#[$attribute:meta])*
        $variant:ident: $type:ty $(, [$table:ident] $settings:ty)?;
    )+) => {
        match $kind {
            $($(#[$attribute])* Kind::$variant => <$type as Dialect>::$name $arguments,)+
        }
    };
}

/// Calls a method of a session.
macro_rules! method {
    ([$session:ident $name:ident $arguments:tt] $(
        $(#[$attribute:meta])*
        $variant:ident: $type:ty $(, [$table:ident] $settings:ty)?;
    )+) => {
        match $session {
            $($(#[$attribute])* AnyDialect::$variant(session) => session.$name $arguments,)+
        }
    };
}

with_dialects!(dialects);

impl Kind {
    /// The name in configuration and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        with_dialects!(constant self NAME)
    }

    /// See [`Dialect::TABLE`].
    #[must_use]
    pub const fn table(self) -> &'static str {
        with_dialects!(constant self TABLE)
    }

    /// See [`Dialect::FEED`].
    #[must_use]
    pub const fn feed(self) -> FeedAddress {
        with_dialects!(constant self FEED)
    }

    /// See [`Dialect::PATHS`].
    #[must_use]
    pub const fn paths(self) -> ClaimedPaths {
        with_dialects!(constant self PATHS)
    }

    /// See [`Dialect::FED_BY_BUS`].
    #[must_use]
    pub const fn is_fed_by_bus(self) -> bool {
        with_dialects!(constant self FED_BY_BUS)
    }

    /// See [`Dialect::CLOSE_BUS_LOST`].
    #[must_use]
    pub const fn close_bus_lost(self) -> Option<(u16, &'static str)> {
        with_dialects!(constant self CLOSE_BUS_LOST)
    }

    /// See [`Dialect::CLOSE_ISOLATED`].
    #[must_use]
    pub const fn close_isolated(self) -> Option<(u16, &'static str)> {
        with_dialects!(constant self CLOSE_ISOLATED)
    }

    /// See [`Dialect::FORMS`].
    #[must_use]
    pub const fn forms(self) -> usize {
        with_dialects!(constant self FORMS)
    }

    /// See [`Dialect::TOPIC`].
    #[must_use]
    pub const fn topic(self) -> u8 {
        with_dialects!(constant self TOPIC)
    }

    /// See [`Dialect::TALLIES`].
    #[must_use]
    pub const fn tallies(self) -> &'static [(DialectTally, &'static str)] {
        with_dialects!(constant self TALLIES)
    }

    /// See [`Dialect::append`].
    #[must_use]
    pub fn append(
        self,
        place: &str,
        event: &Event<'_, '_>,
        now: Now,
    ) -> Option<Result<(TopicName, MessageDraft), Unusable>> {
        with_dialects!(function self append (place, event, now))
    }

    /// See [`Dialect::publish_message`].
    ///
    /// # Errors
    /// As [`Dialect::publish_message`].
    pub fn publish_message(
        self,
        message: &AmqpMessage<'_>,
        has_headers: bool,
        event: &Event<'_, '_>,
        draft: &mut Draft,
    ) -> Result<(), Unusable> {
        with_dialects!(function self publish_message (message, has_headers, event, draft))
    }

    /// See [`Dialect::publish_relayed`].
    ///
    /// # Errors
    /// As [`Dialect::publish_relayed`].
    pub fn publish_relayed(
        self,
        json: &[u8],
        settings: &Settings,
        draft: &mut Draft,
    ) -> Result<(), Unusable> {
        with_dialects!(function self publish_relayed (json, settings, draft))
    }

    /// See [`Dialect::carry_on`].
    pub fn carry_on(self, before: &Settings, after: &Settings) {
        with_dialects!(function self carry_on (before, after))
    }

    /// See [`Dialect::HAS_TOPICS`].
    #[must_use]
    pub const fn has_topics(self) -> bool {
        with_dialects!(constant self HAS_TOPICS)
    }

    /// The names of the dialects with durable topics, for advice: `one or another`.
    #[must_use]
    pub fn names_with_topics() -> String {
        let names: Vec<&str> =
            Self::ALL.iter().filter(|kind| kind.has_topics()).map(|kind| kind.name()).collect();
        names.join(" or ")
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
        with_dialects!(function self publish (place, event, settings, now, draft, publish))
    }

    /// The status for a request without a WebSocket; see [`Dialect::plain`].
    #[must_use]
    pub fn plain(self, method: &str, path: &str) -> u16 {
        with_dialects!(function self plain (method, path))
    }

    /// See [`Dialect::body_bytes_max`].
    #[must_use]
    pub fn body_bytes_max(self, method: &str, path: &str, settings: &Settings) -> Option<usize> {
        with_dialects!(function self body_bytes_max (method, path, settings))
    }

    /// See [`Dialect::serve`].
    pub fn serve(
        self,
        request: &Request<'_>,
        context: &mut Context<'_>,
        out: &mut Actions,
    ) -> Served {
        with_dialects!(function self serve (request, context, out))
    }

    /// See [`Dialect::answer`].
    #[must_use]
    pub fn answer(
        self,
        asked: &PresenceQuestion,
        answer: &PresenceAnswer,
        context: &Context<'_>,
    ) -> Vec<u8> {
        with_dialects!(function self answer (asked, answer, context))
    }

    /// See [`Dialect::verifier`].
    #[must_use]
    pub fn verifier(self, settings: &Settings) -> Option<&Verifier> {
        with_dialects!(function self verifier (settings))
    }

    /// See [`Dialect::granted`].
    ///
    /// # Errors
    /// As [`Dialect::granted`].
    pub fn granted(self, grant: &Grant, settings: &Settings) -> Result<String, String> {
        with_dialects!(function self granted (grant, settings))
    }

    /// See [`Dialect::WITHOUT_TOKENS`].
    #[must_use]
    pub const fn without_tokens(self) -> &'static str {
        with_dialects!(constant self WITHOUT_TOKENS)
    }

    /// See [`Dialect::freeze_shared`].
    #[must_use]
    pub fn freeze_shared(self, shared: &mut PerShard) -> Option<Box<RawValue>> {
        with_dialects!(function self freeze_shared (shared))
    }

    /// See [`Dialect::thaw_shared`].
    pub fn thaw_shared(self, frozen: &RawValue, shared: &mut PerShard) {
        with_dialects!(function self thaw_shared (frozen, shared));
    }

    /// See [`Dialect::presence`].
    #[must_use]
    pub fn presence(self, settings: &Settings) -> Option<&dyn PresenceVoice> {
        with_dialects!(function self presence (settings))
    }

    /// See [`Dialect::add_recipients`].
    pub fn add_recipients(self, settings: &Settings, recipients: &mut Recipients) {
        with_dialects!(function self add_recipients (settings, recipients))
    }

    /// See [`Dialect::deliver`].
    #[must_use]
    pub fn deliver(
        self,
        message: &StoredMessage,
        form: DeliveryForm,
        draft: &mut Draft,
        now: Now,
    ) -> Publication {
        with_dialects!(function self deliver (message, form, draft, now))
    }

    /// The longest message of a client, in bytes.
    #[must_use]
    pub fn message_bytes_max(self, settings: &Settings) -> usize {
        with_dialects!(function self message_bytes_max (settings))
    }

    /// See [`Dialect::too_long`].
    #[must_use]
    pub fn too_long(self, bytes: u64, bytes_max: usize) -> String {
        with_dialects!(function self too_long (bytes, bytes_max))
    }

    /// See [`Dialect::CLOSE_SLOW`].
    #[must_use]
    pub const fn close_slow(self) -> (u16, &'static str) {
        with_dialects!(constant self CLOSE_SLOW)
    }

    /// See [`Dialect::close_stopping`].
    #[must_use]
    pub fn close_stopping(self, settings: &Settings) -> (u16, &'static str) {
        with_dialects!(function self close_stopping (settings))
    }

    /// See [`Dialect::CLOSE_KICKED`].
    #[must_use]
    pub const fn close_kicked(self) -> (u16, &'static str) {
        with_dialects!(constant self CLOSE_KICKED)
    }

    /// The topic of an address that an operator asks about, such as `wazo/user_created`; see
    /// [`Dialect::topic`].
    ///
    /// # Errors
    /// When no publication has this topic: what to write instead.
    pub fn asked_topic(address: &str) -> Result<AskedTopic, String> {
        let Some(kind) = Self::of_address(address) else {
            let words: Vec<_> = Self::ALL.iter().map(|kind| kind.feed().word).collect();
            return Err(format!("it begins with one of {}, and a slash", words.join(", ")));
        };
        let (_, place) = address.split_once('/').unwrap_or((address, ""));
        with_dialects!(function kind topic (place)).map_err(Into::into)
    }

    /// The address of a publication of this dialect, as operators read it.
    #[must_use]
    pub fn address_of(self, publication: &Publication) -> String {
        let topic = publication.topic().get(1..).unwrap_or_default();
        let topic = String::from_utf8_lossy(topic);
        format!("{}/{}", self.feed().word, with_dialects!(function self place (&topic)))
    }

    /// The clients' end of the protocol.
    #[must_use]
    pub const fn client(self) -> &'static dyn client::DialectClient {
        with_dialects!(constant self CLIENT)
    }

    /// Payload of the pings.
    #[must_use]
    pub const fn ping(self) -> &'static [u8] {
        with_dialects!(constant self PING)
    }

    /// Whether the first offered subprotocol is accepted.
    #[must_use]
    pub const fn echoes_subprotocol(self) -> bool {
        with_dialects!(constant self ECHOES_SUBPROTOCOL)
    }

    /// The code and reason for unanswered pings.
    #[must_use]
    pub const fn close_unanswered(self) -> (u16, &'static str) {
        with_dialects!(constant self CLOSE_UNANSWERED)
    }
}

impl AnyDialect {
    /// See [`Dialect::handle`].
    pub fn handle(&mut self, input: Input<'_>, context: &mut Context<'_>, out: &mut Actions) {
        with_dialects!(method self handle (input, context, out))
    }

    /// See [`Dialect::own_message_bytes_max`].
    #[must_use]
    pub fn message_bytes_max(&self, settings: &Settings) -> usize {
        with_dialects!(method self own_message_bytes_max (settings))
    }

    /// See [`Dialect::subject`].
    #[must_use]
    pub fn subject(&self) -> Option<Cow<'_, str>> {
        with_dialects!(method self subject ())
    }

    /// See [`Dialect::explain`].
    #[must_use]
    pub fn explain(&self, publication: &Publication, now: Now) -> Explanation {
        with_dialects!(method self explain (publication, now))
    }

    /// See [`Dialect::subscriptions`].
    pub fn subscriptions(&self, visit: &mut dyn FnMut(fmt::Arguments<'_>)) {
        with_dialects!(method self subscriptions (visit))
    }

    /// See [`Dialect::freeze`].
    #[must_use]
    pub fn freeze(&self) -> Option<Box<RawValue>> {
        with_dialects!(method self freeze ())
    }

    /// See [`Dialect::delivery_form`].
    #[inline]
    #[must_use]
    pub fn delivery_form(&self, recipient: &Recipient, now: Now) -> DeliveryForm {
        with_dialects!(method self delivery_form (recipient, now))
    }

    /// See [`Dialect::admits`].
    #[inline]
    #[must_use]
    pub fn admits(&self, publication: &Publication, now: Now) -> Admission {
        with_dialects!(method self admits (publication, now))
    }
}

/// All recipients of webhooks in these settings.
#[must_use]
pub fn webhook_recipients(settings: &Settings) -> Recipients {
    let mut recipients = Recipients::default();
    Kind::ALL.iter().for_each(|kind| kind.add_recipients(settings, &mut recipients));
    recipients
}

impl Kind {
    /// The dialect with a configured name.
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The dialect whose feed lines have this address.
    #[must_use]
    pub fn of_address(address: &str) -> Option<Kind> {
        let word = address.split('/').next()?;
        Kind::ALL.iter().copied().find(|kind| kind.feed().word == word)
    }

    /// The dialects of a table of the configuration.
    pub fn of_table(table: &dyn config_table::DialectTable) -> impl Iterator<Item = Kind> {
        Kind::ALL.iter().copied().filter(|kind| kind.table() == table.name())
    }

    /// The dialects that a bus feeds.
    pub fn fed_by_bus() -> impl Iterator<Item = Kind> {
        Kind::ALL.iter().copied().filter(|kind| kind.is_fed_by_bus())
    }

    /// The number by which services know it.
    #[must_use]
    pub const fn id(self) -> DialectId {
        DialectId(self as u8)
    }

    /// The dialect with a service's number.
    #[must_use]
    pub fn of(id: DialectId) -> Option<Kind> {
        Kind::ALL.get(usize::from(id.0)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_that_of_a_dialect() {
        for table in Settings::default().tables() {
            assert!(Kind::of_table(table).next().is_some(), "[{}]", table.name());
        }
    }

    #[test]
    fn a_session_of_any_protocol_takes_at_most_40_bytes_beside_what_it_boxes() {
        assert!(size_of::<Option<AnyDialect>>() <= 40, "{}", size_of::<Option<AnyDialect>>());
    }
}
