//! One thread of a daemon that stands still, as one does that waits for ever. SIGSTOP stops all threads of a process;
//! a tracer stops one.

use super::{Daemon, eventually, skip};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Seizes a thread, stops it, and keeps it until standard input ends. Perl is on every Debian. It waits for the thread's
/// end too (`__WALL`, `WNOHANG`): a traced thread that has ended and nobody has waited for keeps its process from being
/// gone.
const FREEZE: &str = r#"
    my ($ptrace, $thread) = @ARGV;
    for my $request (0x4206, 0x4207) {
        syscall($ptrace, $request, $thread + 0, 0, 0) == 0 or do { print "$!\n"; exit 1 };
    }
    $| = 1;
    print "stopped\n";
    my $in = "";
    do { vec($in = "", fileno(STDIN), 1) = 1; waitpid($thread, 0x40000001) } until select($in, undef, undef, 0.05);
"#;

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
