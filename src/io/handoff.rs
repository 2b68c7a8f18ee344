//! The one way between threads: a bounded mailbox per shard, and a wake-up that is written only when the
//! shard sleeps.
//!
//! Whether the reader sleeps is part of what the mutex guards, so there is no moment in which a parcel is
//! posted and nobody is woken. The lock is held for a push or a swap of two vectors, never for work.

use super::connection::Listener;
use crate::dialect::{Kind, Settings};
use crate::frame::Publication;
use crate::service::ConnectionRef;
use crate::service::presence::{Note, Reply};
use crate::service::topic::{TopicAnswer, TopicDelivery};
use crate::service::verification::{Ticket, TokenAnswer};
use crate::shard::Limits;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustls::ServerConfig;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

/// Publications that wait for one shard before feeds are made to wait. A shard takes 64 a turn; this is
/// half a second of them at a hundred thousand a second.
pub(crate) const MAILBOX_EVENTS_MAX: usize = 50_000;
/// Bytes that wait for one shard before feeds are made to wait.
pub(crate) const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

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
    /// To be delivered.
    Publication(Arc<Publication>),
    /// New settings.
    Configure(Arc<Settings>, Limits),
    /// What becomes of the listener with this number.
    Listener(usize, Change),
    /// What a remote verifier says.
    Answer(Ticket, TokenAnswer),
    /// What a connection's shard tells this one, which owns the presence of the app with this id.
    Note(ConnectionRef, Arc<str>, Note),
    /// What the owner of an app's presence says to a connection of this shard.
    Reply(ConnectionRef, Reply),
    /// What the owner of the topics says to a connection of this shard.
    Told(ConnectionRef, TopicAnswer),
    /// A message of a topic for connections of this shard.
    Delivery(TopicDelivery),
    /// A dialect's feed is lost: its sessions end with this code and reason until it is back.
    Outage(Kind, Option<(u16, &'static str)>),
    /// Close every session; end when all are gone.
    Close,
}

/// A shard's mailbox.
pub struct Mailbox {
    state: Mutex<State>,
    wake: OwnedFd,
    /// Parcels posted and not yet taken, for those who only want to know.
    depth: AtomicUsize,
}

#[derive(Default)]
struct State {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    sleeping: bool,
}

impl Mailbox {
    /// An empty mailbox.
    ///
    /// # Errors
    /// When the system gives no event descriptor.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { state: Mutex::default(), wake, depth: AtomicUsize::new(0) })
    }

    /// The descriptor that becomes readable when the shard is to wake up.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Posts from another thread: wakes the shard if it sleeps.
    pub fn post(&self, parcels: impl Iterator<Item = Parcel>) {
        let mut state = self.lock();
        self.put(&mut state, parcels);
        if std::mem::take(&mut state.sleeping) {
            drop(state);
            self.wake();
        }
    }

    /// Posts from the shard's own thread, which looks by itself afterwards.
    pub fn post_quietly(&self, parcels: impl Iterator<Item = Parcel>) {
        self.put(&mut self.lock(), parcels);
    }

    /// Wakes the shard.
    pub fn wake(&self) {
        // The counter can only be full if 2^64 - 2 wake-ups were never read: then it is readable anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Takes everything; `into` must be empty and lends its memory to the next parcels.
    pub fn take(&self, into: &mut VecDeque<Parcel>) {
        let mut state = self.lock();
        std::mem::swap(&mut state.parcels, into);
        state.bytes = 0;
        self.depth.store(0, Relaxed);
    }

    /// Goes to sleep unless something waits. Returns whether the shard may sleep.
    pub fn sleep(&self) -> bool {
        let mut state = self.lock();
        state.sleeping = state.parcels.is_empty();
        state.sleeping
    }

    /// The shard is awake, for whatever reason: nobody needs to wake it.
    pub fn mark_awake(&self) {
        self.lock().sleeping = false;
    }

    /// Takes back the wake-ups that were written.
    pub fn clear_wakeups(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
    }

    /// Whether feeds may post more. A feed asks before it reads, so the bound is passed by what the feeds'
    /// buffers hold at most.
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.parcels.len() < MAILBOX_EVENTS_MAX && state.bytes < MAILBOX_BYTES_MAX
    }

    /// Parcels that wait.
    pub fn depth(&self) -> usize {
        self.depth.load(Relaxed)
    }

    fn put(&self, state: &mut State, parcels: impl Iterator<Item = Parcel>) {
        for parcel in parcels {
            state.bytes += match &parcel {
                Parcel::Publication(publication) => publication.weight(),
                Parcel::Note(_, _, note) => note.weight(),
                Parcel::Reply(_, reply) => reply.weight(),
                Parcel::Told(_, reply) => reply.weight(),
                Parcel::Delivery(delivery) => delivery.weight(),
                _ => 0,
            };
            state.parcels.push_back(parcel);
        }
        self.depth.store(state.parcels.len(), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held would have ended the process.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
