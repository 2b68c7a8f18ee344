//! The hand-off between threads: the log of publications, which shards read at their own pace, and
//! an inbox for messages to one thread.

pub mod inbox;
pub mod log;
pub mod merge;
mod primitives;

use self::inbox::{Bounds, Fill, Inbox, Wake, Weigh};
use self::log::Stamped;
use super::handover::HandoverOrder;
use super::listen::Listener;
use crate::dialect::{Kind, Settings};
use crate::frame::Publication;
use crate::inspect::{SessionAnswer, SessionInquiry};
use crate::service::presence::PresenceQuestion;
use crate::service::topic::TopicDelivery;
use crate::service::{Answer, ConnectionRef};
use crate::shard::Limits;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// Bounds of one shard's mailbox, at which others wait: half a second of deliveries at a hundred
/// thousand a second.
pub(crate) const MAILBOX: Bounds = Bounds { count: 50_000, bytes: 64 * 1024 * 1024 };

/// A reload's change of a listener.
pub enum Change {
    /// A new listener.
    Open(Listener),
    /// New settings of a listener.
    Serve {
        /// As of [`Listener`].
        kinds: Arc<[Kind]>,
        /// As of [`Listener`].
        tls: Option<Arc<ServerConfig>>,
        /// As of [`Listener`].
        proxied: bool,
    },
    /// The end of a listener; its connections stay.
    Close,
}

/// A message to one shard.
pub enum Parcel {
    /// A retained publication, for a shard that does not follow its lane.
    Publication(Arc<Publication>),
    /// A publication of another node that is retained, and not for subscribers of now.
    Retain(Arc<Publication>),
    /// New settings.
    Configure(Arc<Settings>, Limits),
    /// A change of the listener with this number.
    Listener(usize, Change),
    /// A connection of the listener with this number, accepted by another shard. Each is a
    /// descriptor, so there are no more of them than the process may have.
    Accepted(u8, OwnedFd),
    /// A service's answer to a connection of this shard.
    Answer(ConnectionRef, Answer),
    /// A connection's question to this shard, as the owner of a channel.
    Presence(ConnectionRef, Box<PresenceQuestion>),
    /// A message of a topic for connections of this shard.
    Delivery(TopicDelivery),
    /// A dialect's feed is lost: its sessions end with this code and reason until it is back.
    Outage(Kind, Option<(u16, &'static str)>),
    /// The node is cut off from the others: end the sessions of this part, of so many.
    Isolated(u32, u32),
    /// An operator's question about sessions.
    Inspect(Box<SessionInquiry>, oneshot::Sender<SessionAnswer>),
    /// An order of a hand-over to the next process.
    Handover(HandoverOrder),
    /// The daemon stops: end the sessions of this part, of so many.
    Farewell(u32, u32),
    /// Close every session; end when all are gone.
    Close,
}

/// A shard's inbox.
pub type Mailbox = Inbox<Stamped<Parcel>, EventFd>;

/// An empty mailbox, which counts in `fill` while it is full.
///
/// # Errors
/// When no event descriptor is available.
pub fn mailbox(fill: &Fill) -> io::Result<Mailbox> {
    Ok(Inbox::new(EventFd::new()?, MAILBOX, fill))
}

impl Weigh for Stamped<Parcel> {
    fn weight(&self) -> usize {
        match &self.message {
            Parcel::Publication(publication) | Parcel::Retain(publication) => publication.weight(),
            Parcel::Answer(_, answer) => answer.weight(),
            Parcel::Presence(_, question) => question.weight(),
            Parcel::Delivery(delivery) => delivery.weight(),
            // Settings, changes and operators' questions are few.
            _ => 0,
        }
    }
}

impl Weigh for Arc<Publication> {
    fn weight(&self) -> usize {
        Publication::weight(self)
    }
}

impl Weigh for Box<str> {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Wake for Notify {
    fn wake(&self) {
        self.notify_one();
    }
}

impl<T: Weigh> Inbox<T, Notify> {
    /// Waits until the inbox has an item. May be dropped while it waits.
    pub async fn posted(&self) {
        // A `Notify` keeps a wake-up from before the wait, perhaps one for items that were taken
        // since.
        while self.sleep(|| true) {
            self.waker().notified().await;
        }
    }
}

/// The waker of a shard: a descriptor that it waits for.
pub struct EventFd(OwnedFd);

impl EventFd {
    fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Clears the wake-ups so far.
    pub fn clear_wakeups(&self) {
        // One read takes the whole count; without any it fails, as the descriptor does not block.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        // It fails only after 2^64 - 2 wake-ups without a read, and is readable then anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
