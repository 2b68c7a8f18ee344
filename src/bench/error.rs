//! What can go wrong in a measurement, each with what to do next.

use super::wire::EventTooSmall;
use crate::cli::CliError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a measurement gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A system call of the generator failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A signal ended the measurement.
    #[error("interrupted")]
    Interrupted,
    /// Too few file descriptors.
    #[error(
        "{need} open files are needed and {have} are allowed: raise the limit (`ulimit -n {need}`, as root \
             or in /etc/security/limits.conf if the hard limit is lower) or give fewer connections"
    )]
    FdLimit {
        /// Descriptors needed.
        need: u64,
        /// Descriptors allowed.
        have: u64,
    },
    /// No source port is left.
    #[error(
        "no source port is left: widen the range (`sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`), \
             wait a minute for ports in TIME_WAIT, or give fewer connections"
    )]
    Ports,
    /// More shards than processors.
    #[error(
        "{shards} shards need as many processors and {have} are available: give --shards {have} or fewer"
    )]
    TooFewCpus {
        /// Processors available.
        have: usize,
        /// Shards asked for.
        shards: usize,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Argument(String),
    /// The daemon's address is not usable.
    #[error("{url:?} is not an address to measure: give --url ws://HOST:PORT/CELL/__event")]
    Url {
        /// What was given.
        url: String,
    },
    /// A running daemon is measured and no token was given.
    #[error(
        "a running daemon is measured with a token of its own: give --token, `fanfare token` mints one"
    )]
    NoToken,
    /// A running daemon is measured and its feed was not given.
    #[error(
        "events are published through the unix feed: give --socket, the path of [feed.unix] in its configuration"
    )]
    NoSocket,
    /// Signing a token or drawing a secret failed.
    #[error("cannot make a token: {reason}")]
    Sign {
        /// Why.
        reason: String,
    },
    /// TLS failed.
    #[error("no TLS with the daemon: {reason}; see the daemon's log with level \"debug\"")]
    Tls {
        /// Why.
        reason: String,
    },
    /// Our own daemon did not start.
    #[error("the daemon {} before /readyz answered 200; it said:\n{log}", if *ended { "ended" } else { "took too long" })]
    DaemonNotReady {
        /// Whether it has ended.
        ended: bool,
        /// The end of its log.
        log: String,
    },
    /// Nobody answers at the daemon's address.
    #[error(
        "nobody answers at {address} ({reason}): is the daemon running, and does it listen there?"
    )]
    Unreachable {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        reason: String,
    },
    /// The upgrade was not answered with 101.
    #[error(
        "the upgrade to WebSocket was refused with {answer:?}: check the path (such as /CELL/__event) and that the \
             listener speaks the dialect of --dialect; 503 means that max_connections is reached"
    )]
    HandshakeRefused {
        /// The status line.
        answer: String,
    },
    /// The connection was closed on the token.
    #[error(
        "the token was refused ({how}): it must not have expired; a cell's token names it in aud and has event-read, \
             or read and stream-receive, in its scope; wazo's has websocketd in its acl"
    )]
    TokenRefused {
        /// How the connection ended.
        how: String,
    },
    /// A command was answered with an error.
    #[error("the daemon refused a command: {reply}")]
    CommandRefused {
        /// The answer.
        reply: String,
    },
    /// A connection ended during the measurement.
    #[error(
        "the daemon closed a subscriber ({how}): 1013 means that its outbox was full, so give a lower --in-flight \
             or --rate, or raise the limit; else see the daemon's log"
    )]
    Closed {
        /// How it ended.
        how: String,
    },
    /// A peer does not read what is sent to it.
    #[error("the daemon does not read what a subscriber sends: is it stopped or overloaded?")]
    NotRead,
    /// No connection gets on.
    #[error(
        "only {ready} of {total} connections were subscribed and none got on for a minute: is the daemon \
             stopped, or its backlog too short (net.core.somaxconn)?"
    )]
    Stalled {
        /// Connections that are ready.
        ready: usize,
        /// Connections asked for.
        total: usize,
    },
    /// The unix feed cannot be reached.
    #[error("the feed {} cannot be reached ({source}): give the path of [feed.unix] with --socket and check the \
             socket's mode and group", path.display())]
    FeedUnreachable {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The daemon rejected a published line.
    #[error("the feed rejected an event: {reply}")]
    FeedRejected {
        /// The daemon's reply.
        reply: String,
    },
    /// The daemon closed the feed.
    #[error(
        "the daemon closed the feed: see its log; the allowed peers of [feed.unix] may not include this user"
    )]
    FeedEnded,
    /// The floor's child process ended.
    #[error("the floor's sender ended early: its reason stands above")]
    FloorEnded,
    /// A process cannot be read.
    #[error(
        "the figures of process {pid} cannot be read ({source}): give the daemon's number with --pid, and run as \
             its user or as root"
    )]
    Process {
        /// The process.
        pid: u32,
        /// The system's reason.
        source: io::Error,
    },
}

impl From<BenchError> for CliError {
    fn from(error: BenchError) -> Self {
        let text = error.to_string();
        match error {
            BenchError::Argument(_)
            | BenchError::Url { .. }
            | BenchError::NoToken
            | BenchError::NoSocket
            | BenchError::TooFewCpus { .. } => Self::usage(text),
            BenchError::Unreachable { .. } => Self::try_again(text),
            _ => Self::new(text),
        }
    }
}

impl From<EventTooSmall> for BenchError {
    fn from(error: EventTooSmall) -> Self {
        BenchError::Argument(error.to_string())
    }
}

/// Makes an error of a failed system call, naming those that a user can cure.
pub(super) fn io_error(what: &'static str) -> impl Fn(rustix::io::Errno) -> BenchError + Copy {
    move |errno| match errno {
        rustix::io::Errno::ADDRNOTAVAIL | rustix::io::Errno::ADDRINUSE => BenchError::Ports,
        rustix::io::Errno::MFILE => {
            let have = super::proc::raise_fd_limit();
            BenchError::FdLimit { need: have * 2, have }
        }
        errno => BenchError::Io { what, source: errno.into() },
    }
}
