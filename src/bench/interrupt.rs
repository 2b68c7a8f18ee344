//! Being stopped: the first SIGINT or SIGTERM ends the measurement in order, so that the daemon
//! started for it ends too; a second one ends this process at once.

use super::error::failed;
use crate::cli::CliError;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static STOPPED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The exit status that shells give to a process ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Begins to watch for signals.
pub(super) fn watch() -> Result<(), CliError> {
    let stopped = STOPPED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // Registered first: at the first signal it must find the flag unset.
        flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, Arc::clone(stopped))
            .and_then(|_| flag::register(signal, Arc::clone(stopped)))
            .map_err(failed("watch for signals"))?;
    }
    Ok(())
}

/// An error once a signal has come.
pub(super) fn check() -> Result<(), CliError> {
    match STOPPED.get() {
        Some(stopped) if stopped.load(Ordering::Relaxed) => Err(CliError::new("interrupted")),
        _ => Ok(()),
    }
}
