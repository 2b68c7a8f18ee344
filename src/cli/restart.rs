//! A restart by the service manager: the connections stay open while no process runs, because the
//! manager keeps them for the next.
//!
//! A stop of the service looks the same to the daemon, and is one for its clients. So the unit says
//! which it is: its `ExecStop=` makes a directory of this name before the manager sends SIGTERM.

use super::notify::{forget, keep};
use super::reload::Running;
use super::{CliError, handover};
use crate::io::handover::{HandoverChannel, LeftBehind, NewProcess};
use crate::io::{Daemon, Inherited, LEFT_BEHIND, StopTimes};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The name of the directory, in the one that the unit has for the service.
const SIGN: &str = "restart";
/// Time for the program to check the configuration; it has less where a stop has.
const CHECK_MAX: Duration = Duration::from_secs(5);
/// Time for it where a stop has none.
const CHECK_MIN: Duration = Duration::from_secs(1);

/// Time in which the service manager closes what it does not keep: systemd 254 and later do so by
/// another process, which may come to it after the word that everything is taken.
const REFUSED_MAX: Duration = Duration::from_millis(200);

/// Whether the stop that comes now is that of a restart. It is asked once.
pub(super) fn is_wanted() -> bool {
    sign().is_some_and(|sign| fs::remove_dir(sign).is_ok())
}

/// Where the unit says so. There may be several directories, of which the first is meant.
fn sign() -> Option<PathBuf> {
    let directories = std::env::var_os("RUNTIME_DIRECTORY")?;
    let first = std::env::split_paths(&directories).next()?;
    first.is_absolute().then(|| first.join(SIGN))
}

/// Leaves everything to the process that the service manager starts next. The daemon has to be
/// stopped then, as one that has left everything.
///
/// # Errors
/// Why its clients have to be told to come back instead.
pub(super) fn leave(
    daemon: &Daemon,
    configuration: &Running,
    times: StopTimes,
) -> Result<LeftBehind, CliError> {
    let start = Instant::now();
    let file = handover::passable(daemon, configuration)?;
    // One that cannot start would let the clients wait for nothing.
    handover::check(&handover::own_program(), file, (times.drain / 2).clamp(CHECK_MIN, CHECK_MAX))?;
    let failed = |error: std::io::Error| {
        CliError::new(format!("the service manager keeps nothing: {error}"))
    };
    let (channel, end) = HandoverChannel::pair().map_err(failed)?;
    let end = end.into_descriptor();
    keep(LEFT_BEHIND, std::os::fd::AsFd::as_fd(&end)).map_err(failed)?;
    // Its own is the only other one.
    drop(end);
    if !channel.is_held_for(REFUSED_MAX) {
        return Err(CliError::new(
            "the service manager keeps nothing: the unit lacks FileDescriptorStoreMax=",
        ));
    }

    let drain = times.drain.saturating_sub(start.elapsed());
    daemon.leave_in(&channel, StopTimes { drain, ..times }).map_err(|error| {
        forget(LEFT_BEHIND);
        CliError::new(error.to_string())
    })
}

/// What the process before has left, if it has. It counts for this process alone, whatever becomes
/// of it: the service manager forgets it. What is wrong with it is said once there is a log.
pub(super) fn take_up(inherited: &mut Inherited) -> (Option<NewProcess>, Option<String>) {
    // A sign from before is of a stop that came to nothing.
    is_wanted();
    let Some(end) = inherited.take_left_behind() else { return (None, None) };
    forget(LEFT_BEHIND);
    match NewProcess::after_one_that_has_gone(end, inherited) {
        Ok(process) => (Some(process), None),
        Err(error) => {
            (None, Some(format!("what the process before has left is not taken over: {error}")))
        }
    }
}
