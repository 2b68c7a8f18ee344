//! The watchdog: a thread that notices hung threads, and the forced exit of a process whose stop
//! hangs.
//!
//! Every serving thread notes its turns ([`Pulse`](super::pulse::Pulse)). The watchdog looks at all
//! of them. One that has not turned for [`TURN_MAX`](super::pulse::TURN_MAX) hangs: readiness and
//! the log name it. One that goes on hanging is stuck: the service manager is asked for a restart.
//! Until then it is told that all is well, so that its own patience is only for a process that
//! stands still as a whole and can tell nothing.
//! The watchdog takes no lock that a hanging thread may hold, and leaves anything that may block
//! (an exit) to a detached thread.

use super::Hub;
use super::clock;
use super::log;
use super::pulse::{LOOK, PulseChange, PulseNews};
use rustix::process::Signal;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Longest delay of a look that still counts: one that comes later was held up itself, as the
/// threads probably were (the process was stopped, the machine slept).
const LOOK_LATE_MAX: Duration = Duration::from_secs(1);
/// The log's time to write why the process is going to be ended, which follows at once.
const LOG_MOMENT: Duration = Duration::from_millis(100);
/// Time beyond its own that a stop is granted before the process exits.
const EXIT_AFTER: Duration = Duration::from_secs(3);
/// Longest exit before the kernel kills the process.
const EXIT_MAX: Duration = Duration::from_secs(1);

/// What the watchdog has to say to a service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// No thread is stuck. Said at every look.
    Well,
    /// A thread is stuck, and the process should be ended and started again. Said once of each, and
    /// never during a stop, which has its own end.
    Stuck,
}

/// Starts the watchdog, which calls `say` at its looks.
///
/// # Errors
/// When no thread can be started.
pub(super) fn start(hub: &Arc<Hub>, mut say: impl FnMut(Beat) + Send + 'static) -> io::Result<()> {
    let hub = Arc::clone(hub);
    hub.pulses.watchdog.beat(clock::now());
    let thread = std::thread::Builder::new().name("watchdog".into());
    thread.spawn(move || watch(&hub, &mut say)).map(|_| ())
}

fn watch(hub: &Hub, say: &mut impl FnMut(Beat)) {
    loop {
        let slept = Instant::now();
        std::thread::sleep(LOOK);
        if slept.elapsed() < LOOK + LOOK_LATE_MAX {
            let news = hub.pulses.look(clock::now());
            let found_stuck = news.iter().any(|news| news.change == PulseChange::Stuck);
            news.iter().for_each(PulseNews::tell);
            if found_stuck && !hub.draining.load(Relaxed) {
                std::thread::sleep(LOG_MOMENT);
                say(Beat::Stuck);
            }
        } else {
            // All threads get the time until the next look to turn.
            hub.pulses.watchdog.beat(clock::now());
        }

        if !hub.pulses.any_is_stuck() {
            say(Beat::Well);
        }
    }
}

/// Runs something that may block on a detached thread.
fn aside(act: impl FnOnce() + Send + 'static) {
    // Without a free thread it is left undone: the caller must not hang with it.
    let _ = std::thread::Builder::new().name("aside".into()).spawn(act);
}

/// Ends the process less than five seconds after `drain`, unless it has ended by then: by an exit,
/// or when even that hangs, by the kernel. Returns at once.
pub fn end_after(drain: Duration) {
    aside(move || {
        std::thread::sleep(drain + EXIT_AFTER);
        // On another thread again: an exit handler may be what hangs.
        aside(|| {
            tracing::error!("the stop hangs; the process ends without it");
            log::exit_failed();
        });
        std::thread::sleep(EXIT_MAX);
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    });
}
