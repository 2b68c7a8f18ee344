//! The signals that the daemon takes.
//!
//! Two threads wait for those to stop: the one that does so, and one that ends the process when the
//! other does not come to it, because it starts or reloads.

use super::CliError;
use crate::io;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long after the first signal to stop another counts. `timeout` of coreutils, shells and some
/// container runtimes send two for one: to the process and to its group.
const SECOND_AFTER: Duration = Duration::from_secs(1);

/// How long after a signal to stop the thread that takes it may take to come to it, before it
/// counts as hanging.
const BEGUN_AFTER_MAX: Duration = Duration::from_secs(1);

/// What has been received and not been taken.
pub(super) struct ReceivedSignal {
    signals: Signals,
    drain: Arc<Drain>,
}

/// What the thread that does not stop the daemon itself goes by.
#[derive(Default)]
struct Drain {
    /// Seconds that a stop may take; none while the daemon starts and has no clients.
    seconds: AtomicU64,
    /// Whether the other has come to it.
    has_begun: AtomicBool,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalWish {
    /// Read the configuration again.
    Reload,
    /// Hand over, if an operator has asked for it.
    Upgrade,
    /// Stop.
    Stop,
}

impl ReceivedSignal {
    /// Receives signals from now on.
    ///
    /// # Errors
    /// When the system does not let signals be received.
    pub(super) fn start() -> Result<Self, CliError> {
        Self::receive()
            .map_err(|error| CliError::new(format!("signals cannot be received: {error}")))
    }

    fn receive() -> std::io::Result<Self> {
        // SIGUSR1 is meant for other programs, which some send it to by habit, and so is SIGUSR2
        // where no operator has asked for a hand-over. A file that may not grow further
        // (RLIMIT_FSIZE) is an error of the write.
        for ignored in [SIGUSR1, SIGXFSZ] {
            flag::register(ignored, Arc::default())?;
        }

        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2])?;
        let stops = Signals::new([SIGTERM, SIGINT])?;
        let drain = Arc::<Drain>::default();
        let for_thread = Arc::clone(&drain);
        let thread = std::thread::Builder::new().name("stopper".into());
        thread.spawn(move || for_thread.insist(stops))?;
        Ok(Self { signals, drain })
    }

    /// A stop may take so long from now on.
    pub(super) fn drain_takes(&self, drain: Duration) {
        self.drain.seconds.store(drain.as_secs(), Relaxed);
    }

    /// Waits for the next.
    pub(super) fn next(&mut self) -> SignalWish {
        match self.signals.forever().next() {
            Some(SIGHUP) => SignalWish::Reload,
            Some(SIGUSR2) => SignalWish::Upgrade,
            _ => {
                self.drain.has_begun.store(true, Relaxed);
                SignalWish::Stop
            }
        }
    }

    /// Whether a reload was asked for that this process does not come to; it takes no other signal
    /// from here on but those to stop.
    pub(super) fn reload_is_left(&mut self) -> bool {
        self.signals.pending().any(|signal| signal == SIGHUP)
    }

    /// Waits for a signal to stop that counts as a second one, when the first came then.
    pub(super) fn second(&mut self, first: Instant) {
        while self.next() != SignalWish::Stop || first.elapsed() < SECOND_AFTER {}
    }
}

impl Drain {
    /// Ends the process when the other thread does not begin to stop it.
    fn insist(&self, mut stops: Signals) {
        if stops.forever().next().is_some() {
            std::thread::sleep(BEGUN_AFTER_MAX);
            // The other thread is at it, and has its own end.
            if !self.has_begun.load(Relaxed) {
                let drain = Duration::from_secs(self.seconds.load(Relaxed));
                io::end_after(drain.saturating_sub(BEGUN_AFTER_MAX));
            }
        }
    }
}
