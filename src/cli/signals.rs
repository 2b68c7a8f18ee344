//! The signals that the daemon takes.

use super::CliError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long after the first signal to stop another counts. `timeout` of coreutils, shells and some container runtimes
/// send two for one: to the process and to its group.
const SECOND_AFTER: Duration = Duration::from_secs(1);

/// What has been received and not been taken.
pub(super) struct Received {
    signals: Signals,
    /// Becomes true when a stop is asked for, whether or not anybody takes it.
    pub(super) asked_to_stop: Arc<AtomicBool>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The configuration is to be read again.
    Reload,
    /// The daemon is to stop.
    Stop,
}

impl Received {
    /// Receives signals from now on; has to be called before any thread is started, so that every thread leaves them to
    /// this one.
    ///
    /// # Errors
    /// When the system does not let signals be received.
    pub(super) fn start() -> Result<Self, CliError> {
        let start = || -> io::Result<Self> {
            let asked_to_stop = Arc::<AtomicBool>::default();
            for stop in [SIGTERM, SIGINT] {
                flag::register(stop, Arc::clone(&asked_to_stop))?;
            }
            // SIGUSR1 and SIGUSR2 are meant for other programs, which some send them to by habit. A file that may not
            // grow further (RLIMIT_FSIZE) is told to whoever writes it.
            for ignored in [SIGUSR1, SIGUSR2, SIGXFSZ] {
                flag::register(ignored, Arc::default())?;
            }
            Ok(Self { signals: Signals::new([SIGTERM, SIGINT, SIGHUP])?, asked_to_stop })
        };
        start().map_err(|error| CliError::new(format!("signals cannot be received: {error}")))
    }

    /// Waits for the next.
    pub(super) fn next(&mut self) -> Wish {
        match self.signals.forever().next() {
            Some(SIGHUP) => Wish::Reload,
            _ => Wish::Stop,
        }
    }

    /// Waits for a signal to stop that counts as a second one, when the first came then.
    pub(super) fn second(&mut self, first: Instant) {
        while self.next() != Wish::Stop || first.elapsed() < SECOND_AFTER {}
    }
}
