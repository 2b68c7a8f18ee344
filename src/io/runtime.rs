//! A monoio runtime for one thread, on io_uring or on epoll.

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder, time::TimeDriver};
use std::future::Future;
use std::io;

/// What shards wait, receive and send with, as it is asked for.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring, and epoll where it cannot be had.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// Its name in a configuration.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// What shards wait, receive and send with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenDriver {
    /// io_uring.
    IoUring,
    /// epoll.
    Epoll,
}

/// A runtime with timers on either driver.
pub enum AnyRuntime {
    /// On io_uring.
    IoUring(Box<Runtime<TimeDriver<IoUringDriver>>>),
    /// On epoll.
    Epoll(Box<Runtime<TimeDriver<LegacyDriver>>>),
}

/// Entries of the ring. A shard waits for a handful of descriptors: one for its sockets, the feed's
/// listener, publishers; submissions beyond this are flushed, not lost.
const RING_ENTRIES: u32 = 256;

impl AnyRuntime {
    /// Builds the runtime. Call it on the thread that runs it.
    ///
    /// # Errors
    /// When the kernel or a sandbox refuses the driver.
    pub fn build(driver: ChosenDriver) -> io::Result<Self> {
        if driver == ChosenDriver::Epoll {
            let runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
            return Ok(Self::Epoll(Box::new(runtime)));
        }

        // Not DEFER_TASKRUN: with monoio 0.2 completions would not be reaped while tasks stay
        // ready.
        let mut ring = io_uring::IoUring::builder();
        ring.setup_coop_taskrun().setup_single_issuer();
        // A sandbox may permit setting a ring up but not entering it, which a runtime would meet
        // only when it waits.
        ring.build(1).and_then(|ring| ring.submit())?;
        let runtime = RuntimeBuilder::<IoUringDriver>::new()
            .uring_builder(ring)
            .with_entries(RING_ENTRIES)
            .enable_timer()
            .build()?;
        Ok(Self::IoUring(Box::new(runtime)))
    }

    /// Runs a future to its end.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::IoUring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }
}
