//! A session's output: the actions that it asks for, in order.

use crate::frame::{Publication, put_text};
use crate::reason::Reason;
use crate::service::Question;
use crate::service::verification::TokenQuestion;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// An action that a session asks for. Ranges point into [`Actions::bytes`].
#[derive(Debug)]
pub enum Action {
    /// Answer the handshake with 101.
    Accept,
    /// Answer the handshake with this HTTP status and, unless empty, a line that says why, and end.
    Refuse(u16, Cow<'static, str>),
    /// Queue this ready frame.
    Send(Range<u32>),
    /// Queue this form of a publication.
    Forward(Arc<Publication>, u8),
    /// Queue a close frame; end when the peer has answered it, or after `close_timeout_s`. Before
    /// `Accept` the connection ends without an HTTP answer: `Refuse` there.
    Close(u16, Cow<'static, str>),
    /// Receive what is published under this prefix and facet prefix. Where there is no room for it
    /// the session ends with code 1013.
    Subscribe(Range<u32>, Range<u32>),
    /// Undo exactly one subscription.
    Unsubscribe(Range<u32>, Range<u32>),
    /// Publish to every session of every shard whose subscription matches, this one included.
    Publish(Box<Publication>),
    /// Ask a service; [`Input::Answer`](super::Input::Answer) follows, at once or later, if the
    /// question has an answer. A question that begins something comes before any action that may
    /// end the session, which asks for its end.
    Ask(Question),
    /// Send [`Input::Deadline`](super::Input::Deadline) at this monotonic moment (ns), rounded up
    /// to the next quarter of a second; replaces the one before.
    Deadline(u64),
    /// Ping every `interval_s` from now on; end when `misses_max` in a row stay unanswered. Asked
    /// again, it starts anew; a session that wants no pings does not ask.
    Keepalive {
        /// Seconds between pings, at least 1.
        interval_s: u32,
        /// Unanswered pings in a row that end the session.
        misses_max: u8,
    },
}

impl Action {
    /// Queues a close frame with a fixed text.
    #[must_use]
    pub const fn close(code: u16, text: &'static str) -> Self {
        Self::Close(code, Cow::Borrowed(text))
    }
}

/// The actions of one input, in order, with the bytes they refer to. A shard reuses one value.
#[derive(Default)]
pub struct Actions {
    /// In order.
    pub list: Vec<Action>,
    /// The bytes that ranges point into.
    pub bytes: Vec<u8>,
    /// The reason to refuse or close, where the input does not tell it by itself.
    pub reason: Option<Reason>,
    /// Events to be counted.
    pub tallies: Vec<DialectTally>,
}

impl Actions {
    /// Clears everything, keeping the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.reason = None;
        self.tallies.clear();
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

    /// Queues a frame that is complete.
    pub fn send_ready(&mut self, frame: &[u8]) {
        let range = self.keep(&[frame]);
        self.list.push(Action::Send(range));
    }

    /// Sets the reason of the following refusal or close.
    pub fn because(&mut self, reason: Reason) -> &mut Self {
        self.reason = Some(reason);
        self
    }

    /// Counts an event.
    pub fn count(&mut self, tally: DialectTally) {
        self.tallies.push(tally);
    }

    /// Refuses the handshake with a status and a line that says why, if not empty.
    pub fn refuse_saying(&mut self, status: u16, reason: impl Into<Cow<'static, str>>) {
        self.list.push(Action::Refuse(status, reason.into()));
    }

    /// Closes with a code; the text is that of the [`Reason`] from 1001 to 3999, and empty
    /// otherwise.
    pub fn close(&mut self, code: u16) {
        self.list.push(Action::close(code, ""));
    }

    /// Closes with a code and a reason.
    pub fn close_saying(&mut self, code: u16, reason: impl Into<Cow<'static, str>>) {
        self.list.push(Action::Close(code, reason.into()));
    }

    /// Asks a service.
    pub fn ask(&mut self, question: Question) {
        self.list.push(Action::Ask(question));
    }

    /// Subscribes to a prefix, given in parts, and a facet prefix, empty where a dialect has none:
    /// `out.subscribe(&[&[TOPIC], room, b"\0"], b"")`.
    ///
    /// It is a prefix of bytes, not of names: `room` also matches `rooms`. A dialect whose names
    /// are whole ends them with a byte that no name contains.
    /// [`PREFIX_BYTES_MAX`](crate::trie::PREFIX_BYTES_MAX) bounds its length.
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
        self.ask(Question::Token(TokenQuestion::verify(token)));
    }

    /// The bytes of a range.
    #[must_use]
    pub fn get(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// Copies bytes whose range an action keeps: 32 bits are enough, see
    /// [`LONGEST_MESSAGE_BYTES`](crate::setting::LONGEST_MESSAGE_BYTES).
    fn keep(&mut self, parts: &[&[u8]]) -> Range<u32> {
        let start = self.bytes.len() as u32;
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        start..self.bytes.len() as u32
    }
}

/// An event that a dialect counts; see [`Actions::count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DialectTally {
    /// A message of an unknown kind, which was ignored.
    Ignored,
    /// A subscription refused for lack of a valid signature.
    Unauthorized,
    /// A subscription to a name that no channel can have.
    BadName,
    /// A subscription beyond a limit.
    OverLimit,
    /// A client's event for other clients that was refused.
    ClientEvent,
}

impl DialectTally {
    /// The number of them.
    pub const COUNT: usize = DialectTally::ClientEvent as usize + 1;
}
