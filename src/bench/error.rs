//! What can go wrong in a measurement, each with what to do next. What goes wrong in one place
//! alone is told there.

use crate::cli::CliError;
use crate::cli::resources::descriptor_limit;
use rustix::io::Errno;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// Names what a failed system call was for, or its cure where a user has one.
pub(super) fn failed<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> CliError + Copy {
    move |error| {
        let error = error.into();
        match Errno::from_io_error(&error) {
            Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => CliError::new(
                "no source port is left: widen the range \
                 (`sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`), wait a minute for \
                 ports in TIME_WAIT, or give fewer connections",
            ),
            Some(Errno::MFILE) => {
                let have = descriptor_limit();
                too_few_descriptors(have.saturating_mul(2), have)
            }
            _ => CliError::new(format!("cannot {what}: {error}")),
        }
    }
}

/// More files would be open than the system allows.
pub(super) fn too_few_descriptors(need: usize, have: usize) -> CliError {
    CliError::new(format!(
        "{need} open files are needed and {have} are allowed: raise the limit \
         (`ulimit -n {need}`, as root or in /etc/security/limits.conf if the hard limit is \
         lower) or give fewer connections"
    ))
}

/// No token could be made.
pub(super) fn no_token_made(error: impl Display) -> CliError {
    CliError::new(format!("cannot make a token: {error}"))
}

/// A daemon is measured that this program has not started, and its feed was not given.
pub(super) fn no_feed() -> CliError {
    CliError::usage(
        "events are published through the unix feed: give --socket, the path of [feed.unix] in \
         its configuration",
    )
}

/// TLS with the daemon failed.
pub(super) fn no_tls(error: impl Display) -> CliError {
    CliError::new(format!(
        "no TLS with the daemon: {error}; see the daemon's log with level \"debug\""
    ))
}

/// The daemon's address does not answer.
pub(super) fn unreachable(address: SocketAddr, reason: impl Display) -> CliError {
    CliError::try_again(format!(
        "no answer at {address} ({reason}): is the daemon running, and does it listen there?"
    ))
}

/// The daemon answered a command with an error.
pub(super) fn command_refused(reply: &str) -> CliError {
    CliError::new(format!("the daemon refused a command: {reply}"))
}

/// A connection ended during the measurement.
pub(super) fn closed(how: impl Display) -> CliError {
    CliError::new(format!(
        "the daemon closed a subscriber ({how}): 1013 means that its outbox was full, so give a \
         lower --in-flight or --rate, or raise the limit; else see the daemon's log"
    ))
}

/// The daemon stopped reading.
pub(super) fn not_read() -> CliError {
    CliError::new("the daemon does not read what a subscriber sends: is it stopped or overloaded?")
}

/// No connection made progress any more.
pub(super) fn stalled(ready: usize, total: usize) -> CliError {
    CliError::new(format!(
        "only {ready} of {total} connections were subscribed and none got on for a minute: is \
         the daemon stopped, or its backlog too short (net.core.somaxconn)?"
    ))
}

/// The unix feed could not be connected to.
pub(super) fn feed_unreachable(path: &Path) -> impl Fn(io::Error) -> CliError {
    move |error| {
        CliError::new(format!(
            "the feed {} cannot be reached ({error}): give the path of [feed.unix] with --socket \
             and check the socket's mode and group",
            path.display()
        ))
    }
}

/// The daemon rejected a published event.
pub(super) fn feed_rejected(reply: &[u8]) -> CliError {
    let reply = String::from_utf8_lossy(reply);
    CliError::new(format!("the feed rejected an event: {}", reply.trim()))
}

/// The daemon closed the feed.
pub(super) fn feed_ended() -> CliError {
    CliError::new(
        "the daemon closed the feed: see its log; the allowed peers of [feed.unix] may not \
         include this user",
    )
}

/// The floor's child process ended.
pub(super) fn floor_ended() -> CliError {
    CliError::new("the floor's sender ended early: its reason stands above")
}

/// The figures of a process could not be read.
pub(super) fn unreadable(pid: u32) -> impl Fn(io::Error) -> CliError {
    move |error| {
        CliError::new(format!(
            "the figures of process {pid} cannot be read ({error}): give the daemon's number with \
             --pid, and run as its user or as root"
        ))
    }
}
