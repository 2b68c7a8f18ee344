//! A monoio runtime for one thread: on io_uring where the kernel permits it, else on epoll.

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder, time::TimeDriver};
use std::future::Future;
use std::io;

/// The driver of monoio's runtime.
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
    /// io_uring, and epoll where it is refused.
    #[default]
    Auto,
    /// io_uring or nothing.
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

/// Entries of the ring. A shard waits for a handful of descriptors: its epoll set, the feed's
/// listener, publishers; submissions beyond this are flushed, not lost.
const RING_ENTRIES: u32 = 256;

impl AnyRuntime {
    /// Builds the runtime. Call it on the thread that runs it.
    ///
    /// # Errors
    /// When io_uring is demanded and refused, or epoll fails.
    pub fn build(driver: Driver) -> io::Result<Self> {
        if driver != Driver::Epoll {
            match ring() {
                Ok(runtime) => return Ok(Self::IoUring(Box::new(runtime))),
                Err(error) if driver == Driver::IoUring => return Err(error),
                Err(_) => {}
            }
        }

        let runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
        Ok(Self::Epoll(Box::new(runtime)))
    }

    /// The driver's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::IoUring(_) => "io_uring",
            Self::Epoll(_) => "epoll",
        }
    }

    /// Runs a future to its end.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::IoUring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

/// A runtime on the newest flags that the kernel knows. DEFER_TASKRUN is not among them: with
/// monoio 0.2 completions would not be reaped while tasks stay ready.
fn ring() -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let mut coop_single = io_uring::IoUring::builder();
    coop_single.setup_coop_taskrun().setup_single_issuer();
    let mut coop = io_uring::IoUring::builder();
    coop.setup_coop_taskrun();

    // A kernel refuses the whole ring for one flag that it does not know: 5.19 has the first, 6.0
    // both.
    let mut refused = io::Error::other("no ring was tried");
    for builder in [coop_single, coop, io_uring::IoUring::builder()] {
        // A sandbox may permit setting a ring up but not entering it, which a runtime would meet
        // only when it waits.
        if let Err(error) = builder.build(1).and_then(|ring| ring.submit()) {
            refused = error;
            continue;
        }
        let runtime = RuntimeBuilder::<IoUringDriver>::new()
            .uring_builder(builder)
            .with_entries(RING_ENTRIES)
            .enable_timer()
            .build();
        match runtime {
            Ok(runtime) => return Ok(runtime),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}
