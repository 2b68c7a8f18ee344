//! The store of a process that has taken over from another: opened once the other has closed it, so
//! that never two write to it. Until then requests wait.

use super::archive::Disk;
use super::format::OpenError;
use super::owner::{self, PassedTopics};
use super::settings::StoreSettings;
use crate::dialect;
use crate::io::hub::Hub;
use crate::io::log;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for the process before to close it: an older release does so only after the goodbyes of its
/// sessions.
const CLOSED_MAX: Duration = Duration::from_secs(120);
/// Interval between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(10);

/// Opens the store as soon as it is free, and starts its threads, whose owners take over what those
/// of the process before have passed. A process that cannot open it ends, as one whose start has
/// failed.
///
/// # Errors
/// When no thread can be started.
pub(in crate::io) fn start_late(
    hub: &Arc<Hub>,
    settings: StoreSettings,
    dialects: Arc<dialect::Settings>,
    passed: PassedTopics,
) -> io::Result<()> {
    let hub = Arc::clone(hub);
    let thread = std::thread::Builder::new().name("store-opener".into());
    thread.spawn(move || {
        let start = Instant::now();
        let disks = loop {
            match Disk::open_all(&settings) {
                Err(OpenError::InUse(_)) if start.elapsed() < CLOSED_MAX => {
                    std::thread::sleep(ATTEMPT_PAUSE);
                }
                opened => break opened,
            }
        };
        let started = match disks {
            Ok(disks) => owner::start(&hub, &settings, &dialects, disks, passed)
                .map_err(|error| format!("its threads cannot be started: {error}")),
            Err(error) => Err(error.to_string()),
        };
        match started {
            Ok(()) => {
                let waited_ms = start.elapsed().as_millis();
                tracing::info!(
                    "the store is open, {waited_ms} ms after this process began to serve"
                );
            }
            Err(error) => {
                tracing::error!("the daemon ends: {error}");
                log::exit_failed();
            }
        }
    })?;
    Ok(())
}
