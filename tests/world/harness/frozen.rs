//! One thread of a daemon that stands still, as one does that waits for ever. SIGSTOP stops all threads of a process;
//! a tracer stops one.

use super::{Daemon, eventually, skip};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Perl is on every Debian.
const FREEZE: &str = include_str!("freeze.pl");

/// It goes on when this is dropped.
pub(crate) struct Frozen {
    tracer: Child,
    hold: Option<ChildStdin>,
}

impl Frozen {
    /// Stops the thread with this name; nothing, and a note, where tracing is not allowed.
    pub(crate) fn thread(daemon: &Daemon, name: &str) -> Option<Self> {
        // A thread names itself when it first runs, which may be after the daemon listens.
        eventually(&format!("a thread is named {name}"), || daemon.thread(name).is_some());
        let number = daemon.thread(name).unwrap();
        let ptrace = if cfg!(target_arch = "aarch64") { "117" } else { "101" };
        let mut command = Command::new("perl");
        command.args(["-e", FREEZE, ptrace, &number.to_string()]);
        let mut tracer = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(tracer.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let hold = tracer.stdin.take();
        let frozen = Self { tracer, hold };
        if line.trim() != "stopped" {
            skip("a thread that hangs", &format!("ptrace: {}", line.trim()));
            return None;
        }
        let stat = format!("/proc/{number}/stat");
        let is_stopped = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") t "));
        eventually("the thread stands still", is_stopped);
        Some(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.hold.take());
        let _ = self.tracer.wait();
    }
}
