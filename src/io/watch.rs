//! Waiting for one descriptor in a monoio task.
//!
//! monoio waits for its own types only, so a duplicate of the descriptor is lent to one of them: it is only
//! ever asked whether it is ready, and that works for whatever can be polled, an epoll set included.

use monoio::net::UnixStream;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io;

/// A descriptor that tasks of this thread wait for.
pub(super) struct Watched {
    fd: OwnedFd,
    watch: UnixStream,
}

impl Watched {
    /// Takes over a descriptor. Has to be called inside the runtime that waits.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let watch = UnixStream::from_std(fd.try_clone()?.into())?;
        Ok(Self { fd, watch })
    }

    /// Returns when there is something to read, or the end, or an error to be had by reading.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.watch.readable(false).await
    }

    /// Returns when there is room to write.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.watch.writable(false).await
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
