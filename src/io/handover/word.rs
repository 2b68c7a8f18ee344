//! What the two processes say to each other.

use super::channel::{HandoverChannel, ReceivedMessage};
use rustix::fd::{BorrowedFd, OwnedFd};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum NewWord {
    /// It is there, and reads states of these formats.
    Hello { oldest: u32, newest: u32, release: String },
    /// It waits for the state.
    Ready,
    /// It can go on with so many connections; with the message comes a file with the numbers of
    /// those that it cannot go on with, by shard.
    Taken { connections: u32 },
    /// It cannot, and says why.
    Sorry { reason: String },
}

/// What the old process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum OldWord {
    /// Listeners, whose descriptors come with the message; whether others follow.
    Listeners { listeners: Vec<PassedListener>, follow: bool },
    /// The state; with the message come its file, and the queue of each shard.
    State { paused_ns: u64 },
    /// The new process goes on from here; the old one tells so many clients to come back.
    Go { told: usize },
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::io) struct PassedListener {
    pub(in crate::io) place: ListenerPlace,
    /// Whether the service manager has it too.
    pub(in crate::io) is_managers: bool,
}

/// What a listener is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::io) enum ListenerPlace {
    /// Clients; the address as it is configured, and as it is.
    Clients { asked: SocketAddr, actual: SocketAddr },
    /// Publishers.
    Publishers(PathBuf),
    /// Operators, by address.
    Admin(SocketAddr),
    /// Operators, by path.
    AdminSocket(PathBuf),
}

impl HandoverChannel {
    /// Says something.
    pub(super) fn say(
        &self,
        word: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(word).map_err(io::Error::other)?;
        self.send(&bytes, descriptors)
    }

    /// Hears the next word within `time`.
    pub(super) fn hear<T: DeserializeOwned>(
        &self,
        time: Duration,
    ) -> io::Result<(T, Vec<OwnedFd>)> {
        let ReceivedMessage { bytes, descriptors } = self.receive(time)?;
        Ok((serde_json::from_slice(&bytes).map_err(io::Error::other)?, descriptors))
    }
}
