//! The watchdog: a thread that notices when another hangs, and what ends the process when a stop does.
//!
//! Every thread that serves anybody notes when it has last turned ([`Pulse`](super::pulse::Pulse)). The watchdog looks at
//! all of them; while one has not turned for [`TURN_MAX`](super::pulse::TURN_MAX), readiness and the log name it, and the
//! service manager is told nothing, so that it ends the process when that lasts. It takes no lock that another thread may hold while it hangs, and whatever may
//! block (the log, an exit) it leaves to a thread that nobody waits for.

use super::Hub;
use super::clock;
use super::pulse::PulseNews;
use rustix::process::Signal;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the threads are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How much later than it wanted a look may come and still count: one that comes later was held up itself, as all the
/// others probably were (the process was stopped, the machine slept).
const LOOK_LATE_MAX: Duration = Duration::from_secs(1);
/// How much longer than it may a stop takes before the process exits whatever hangs.
const EXIT_AFTER: Duration = Duration::from_secs(3);
/// How long an exit may take, before the kernel is asked for it.
const EXIT_MAX: Duration = Duration::from_secs(1);

/// Starts the watchdog. While no thread hangs it calls `beat`, at every look.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(hub: &Arc<Hub>, mut beat: impl FnMut() + Send + 'static) -> io::Result<()> {
    let hub = Arc::clone(hub);
    hub.pulses.watchdog.beat(clock::now());
    let run = move || {
        loop {
            let slept = Instant::now();
            std::thread::sleep(LOOK);
            if slept.elapsed() < LOOK + LOOK_LATE_MAX {
                let news = hub.pulses.look(clock::now());
                if !news.is_empty() {
                    aside(move || news.iter().for_each(PulseNews::tell));
                }
            } else {
                hub.pulses.watchdog.beat(clock::now());
            }
            if hub.pulses.all_turn() {
                beat();
            }
        }
    };
    std::thread::Builder::new().name("watchdog".into()).spawn(run).map(|_| ())
}

/// Does something that may block on a thread that nobody waits for.
fn aside(act: impl FnOnce() + Send + 'static) {
    // Without a thread to be had it is left undone: whoever calls must not hang with it.
    let _ = std::thread::Builder::new().name("aside".into()).spawn(act);
}

/// Ends the process after that time and some seconds, fewer than five in all, unless it has ended by then: by an exit,
/// or when even that hangs, by the kernel. Returns at once.
pub fn end_after(drain: Duration) {
    aside(move || {
        std::thread::sleep(drain + EXIT_AFTER);
        aside(|| {
            tracing::error!("the stop hangs; the process ends without it");
            std::process::exit(1);
        });
        std::thread::sleep(EXIT_MAX);
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    });
}
