//! The hand-off between threads: the log of publications, which shards read at their own pace, and an inbox for what is
//! for one thread only.

pub mod inbox;
pub mod log;
pub mod merge;
mod sync;

use self::inbox::{Bounds, Fill, Inbox, Wake, Weigh};
use self::log::Stamped;
use super::listen::Listener;
use crate::dialect::{Kind, Settings};
use crate::frame::Publication;
use crate::service::presence::PresenceQuestion;
use crate::service::topic::TopicDelivery;
use crate::service::{Answer, ConnectionRef};
use crate::shard::Limits;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use tokio::sync::Notify;

/// What waits for one shard, beside publications, before others are made to wait: half a second of deliveries at a
/// hundred thousand a second.
pub(crate) const MAILBOX: Bounds = Bounds { count: 50_000, bytes: 64 * 1024 * 1024 };

/// What becomes of a listener.
pub enum Change {
    /// It is new.
    Open(Listener),
    /// It speaks these dialects from now on, with this TLS or without, to a proxy or to anybody.
    Serve {
        /// As of [`Listener`].
        kinds: Arc<[Kind]>,
        /// As of [`Listener`].
        tls: Option<Arc<ServerConfig>>,
        /// As of [`Listener`].
        proxied: bool,
    },
    /// It goes; its connections stay.
    Close,
}

/// What a shard can be sent.
pub enum Parcel {
    /// One that each shard keeps, for a shard that does not follow its lane.
    Publication(Arc<Publication>),
    /// New settings.
    Configure(Arc<Settings>, Limits),
    /// What becomes of the listener with this number.
    Listener(usize, Change),
    /// What a service says to a connection of this shard.
    Answer(ConnectionRef, Answer),
    /// What a connection asks this shard, which owns the channel.
    Presence(ConnectionRef, Box<PresenceQuestion>),
    /// A message of a topic for connections of this shard.
    Delivery(TopicDelivery),
    /// A dialect's feed is lost: its sessions end with this code and reason until it is back.
    Outage(Kind, Option<(u16, &'static str)>),
    /// Close every session; end when all are gone.
    Close,
}

/// A shard's inbox.
pub type Mailbox = Inbox<Stamped<Parcel>, EventFd>;

/// An empty mailbox, which counts in `fill` while it is full.
///
/// # Errors
/// When the system gives no event descriptor.
pub fn mailbox(fill: &Fill) -> io::Result<Mailbox> {
    Ok(Inbox::new(EventFd::new()?, MAILBOX, fill))
}

impl Weigh for Stamped<Parcel> {
    fn weight(&self) -> usize {
        match &self.message {
            Parcel::Publication(publication) => publication.weight(),
            Parcel::Answer(_, answer) => answer.weight(),
            Parcel::Presence(_, question) => question.weight(),
            Parcel::Delivery(delivery) => delivery.weight(),
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
    /// Waits until something waits here. May be dropped while it does.
    pub async fn posted(&self) {
        while self.sleep(|| true) {
            self.waker().notified().await;
        }
    }
}

/// What wakes a shard: a descriptor that its set of sockets waits for too.
pub struct EventFd(OwnedFd);

impl EventFd {
    fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Takes back the wake-ups that were written.
    pub fn clear_wakeups(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        // The counter can only be full if 2^64 - 2 wake-ups were never read: then it is readable anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
