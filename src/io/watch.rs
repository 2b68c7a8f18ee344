//! Waiting for one descriptor in a monoio task.
//!
//! monoio waits for its own types only, so one of them gets a duplicate of the descriptor. It is
//! only ever asked whether it is ready, which works for anything that can be polled, an epoll set
//! included.

use monoio::net::UnixStream;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io;

/// A descriptor that tasks of this thread wait for.
pub(super) struct Watched {
    fd: OwnedFd,
    watch: UnixStream,
}

impl Watched {
    /// Wraps a descriptor. Call it inside the runtime that waits.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let watch = UnixStream::from_std(fd.try_clone()?.into())?;
        Ok(Self { fd, watch })
    }

    /// Waits until the descriptor has bytes, an end or an error to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        // `false`: on epoll monoio remembers readiness, and must ask the kernel whether that still
        // holds.
        self.watch.readable(false).await
    }

    /// Waits until the descriptor takes bytes.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.watch.writable(false).await
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
