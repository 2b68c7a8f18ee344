//! A listener of a running daemon, as reloads see it.

use crate::dialect::Kind;
use std::net::SocketAddr;
use std::sync::Arc;

/// A listener of a running daemon.
pub(super) struct Slot {
    /// The configured address, which identifies it in a reload.
    pub(super) asked: SocketAddr,
    /// The address with the port that was chosen for port 0.
    pub(super) actual: SocketAddr,
    pub(super) kinds: Arc<[Kind]>,
    pub(super) is_open: bool,
}

impl Slot {
    /// An open listener.
    pub(super) fn new(asked: SocketAddr, actual: SocketAddr, kinds: Arc<[Kind]>) -> Self {
        Self { asked, actual, kinds, is_open: true }
    }
}
