//! What the thread of a shard stands on: its runtime and what carries its sockets, both on io_uring
//! or both on epoll.

use super::ring::Ring;
use super::runtime::{AnyRuntime, ChosenDriver, Driver};
use super::transport::Transport;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::io;

/// The runtime of a shard, and its transport.
pub(super) struct Foundation {
    pub(super) runtime: AnyRuntime,
    pub(super) transport: Transport,
    /// Why it is not on io_uring, where that would do.
    pub(super) refusal: Option<io::Error>,
}

impl Foundation {
    /// Builds both. Call it on the thread of the shard.
    ///
    /// # Errors
    /// When the driver that is demanded cannot be had.
    pub(super) fn build(driver: Driver, wake: BorrowedFd<'_>) -> io::Result<Self> {
        match driver {
            Driver::IoUring => Self::on(ChosenDriver::IoUring, wake),
            Driver::Epoll => Self::on(ChosenDriver::Epoll, wake),
            Driver::Auto => Self::on(ChosenDriver::IoUring, wake).or_else(|refusal| {
                let epoll = Self::on(ChosenDriver::Epoll, wake)?;
                Ok(Self { refusal: Some(refusal), ..epoll })
            }),
        }
    }

    fn on(driver: ChosenDriver, wake: BorrowedFd<'_>) -> io::Result<Self> {
        let runtime = AnyRuntime::build(driver)?;
        Ok(Self { runtime, transport: Transport::new(driver, wake)?, refusal: None })
    }
}

/// What shards are on, by the refusals of io_uring that some of them have met; and these.
pub(super) fn in_use(
    asked: Driver,
    shards: usize,
    refusals: Vec<io::Error>,
) -> (&'static str, Option<IoUringRefusal>) {
    let refused = refusals.len();
    let name = match asked {
        Driver::Epoll => "epoll",
        _ if refused == shards => "epoll",
        _ if refused > 0 => "io_uring and epoll",
        _ => "io_uring",
    };
    let first = refusals.into_iter().next();
    (name, first.map(|error| IoUringRefusal { refused, shards, error }))
}

/// Tries whether io_uring can be had for so many shards at once.
///
/// # Errors
/// Why not.
pub fn try_io_uring(shards: usize) -> io::Result<()> {
    let tried: io::Result<Vec<_>> = (0..shards)
        .map(|_| Ok((AnyRuntime::build(ChosenDriver::IoUring)?, Ring::new(1)?)))
        .collect();
    tried.map(drop)
}

/// The refusal of io_uring to shards that epoll serves instead.
#[derive(Debug, thiserror::Error)]
#[error("io_uring is refused to {refused} of {shards} shards ({error}: {})", advice(error))]
pub struct IoUringRefusal {
    /// The number of these shards.
    pub refused: usize,
    /// The number of all shards.
    pub shards: usize,
    /// Why the first of them was refused it.
    pub error: io::Error,
}

/// What to do about a refusal of io_uring.
#[must_use]
pub fn advice(refusal: &io::Error) -> &'static str {
    match Errno::from_io_error(refusal) {
        Some(Errno::NOMEM) => {
            "each shard's rings take about 144 KiB of locked memory: raise LimitMEMLOCK= (or \
             ulimit -l)"
        }
        // Podman's profile answers as a kernel without io_uring does.
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => {
            "a sandbox, such as a container's seccomp profile, or kernel.io_uring_disabled forbids it"
        }
        _ => "it takes Linux 6.0",
    }
}

/// The drivers that tests run on: both, where this machine has both.
#[cfg(test)]
pub(super) fn drivers() -> Vec<ChosenDriver> {
    let io_uring = try_io_uring(1).inspect_err(|error| eprintln!("skipped: io_uring: {error}"));
    let io_uring = io_uring.is_ok().then_some(ChosenDriver::IoUring);
    io_uring.into_iter().chain([ChosenDriver::Epoll]).collect()
}
