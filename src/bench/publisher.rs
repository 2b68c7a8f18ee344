//! Publishing: events written as lines to the daemon's unix feed, many in one write.
//!
//! The socket never blocks the generator, which must go on receiving while the daemon slows a feed
//! down.

use super::error::{failed, feed_ended, feed_rejected, feed_unreachable};
use super::wire::Template;
use crate::cli::CliError;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to the unix feed.
#[derive(Debug)]
pub(super) struct UnixFeed {
    socket: UnixStream,
    line: Template,
    /// The topic of each event in turn: event `n` goes to `order[(n - 1) % order.len()]`.
    order: Vec<u32>,
    unsent: Unsent,
}

impl UnixFeed {
    /// Connects to the feed at `path`; `line` is the event, `order` the topics in turn (`[0]` for
    /// one).
    pub(super) fn connect(path: &Path, line: Template, order: Vec<u32>) -> Result<Self, CliError> {
        let socket = UnixStream::connect(path).map_err(feed_unreachable(path))?;
        socket.set_nonblocking(true).map_err(feed_unreachable(path))?;
        Ok(Self { socket, line, order, unsent: Unsent::default() })
    }

    /// Queues `count` events numbered from `first` and writes what the daemon takes now.
    pub(super) fn publish(&mut self, first: u64, count: u64) -> Result<(), CliError> {
        let topics = self.order.len() as u64;
        for sequence in first..first + count {
            let topic = self.order[((sequence - 1) % topics) as usize];
            self.line.append(topic as usize, sequence, &mut self.unsent.bytes);
        }
        self.unsent.flush(&self.socket)
    }

    /// The socket is ready: goes on writing, and reads a reply, which can only be a rejection.
    pub(super) fn ready(&mut self) -> Result<(), CliError> {
        let mut reply = [0; 1024];
        // No receipt is asked for, so that only a rejection can come.
        match recv(&self.socket, &mut reply, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((0, _)) | Err(_) => return Err(feed_ended()),
            Ok((length, _)) => return Err(feed_rejected(&reply[..length])),
        }
        self.unsent.flush(&self.socket)
    }
}

/// Bytes on their way to a daemon that takes them when it likes.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    pub(super) bytes: Vec<u8>,
    sent: usize,
}

impl Unsent {
    /// Writes what the socket takes now.
    pub(super) fn flush(&mut self, socket: impl AsFd) -> Result<(), CliError> {
        while self.sent < self.bytes.len() {
            match send(&socket, &self.bytes[self.sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            {
                Ok(length) => self.sent += length,
                // The daemon slows the feed down; the rest leaves when the socket can be written
                // again.
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(feed_ended()),
                Err(error) => return Err(failed("write to the daemon")(error)),
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Ok(())
    }
}

impl AsFd for UnixFeed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
