//! Listening: TCP sockets on a port that all shards share, and the unix feed's socket.
//!
//! Errors say what to do next: they are the first thing an operator sees.

use crate::dialect::Kind;
use crate::feed::unix;
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    sockopt,
};
use rustls::ServerConfig;
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of connections that wait to be accepted; the kernel lowers it to
/// net.core.somaxconn.
const BACKLOG: i32 = 65_535;
/// Time for an address to become free. The kernel takes a killed process's rings down after the
/// process itself, and the sockets that a ring waited for live on until then: an immediate restart
/// would meet its predecessor.
const TAKEN_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two attempts; each is a connection to a daemon that may be alive.
const TAKEN_PAUSE: Duration = Duration::from_millis(50);

/// A listener of this shard.
pub struct Listener {
    /// The socket, one of several on its port.
    pub(super) socket: OwnedFd,
    /// The dialects that it speaks.
    pub(super) kinds: Arc<[Kind]>,
    /// The configuration of TLS, if it speaks TLS.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Whether every connection begins with the PROXY protocol.
    pub(super) proxied: bool,
    /// The shard that accepts from the socket.
    pub(super) acceptor: Acceptor,
}

impl Listener {
    /// How connections begin.
    pub(super) fn terms(&self) -> ListenerTerms {
        let Self { kinds, tls, proxied, .. } = self;
        ListenerTerms { kinds: Arc::clone(kinds), tls: tls.clone(), proxied: *proxied }
    }

    /// Whether this shard accepts from the socket.
    pub(super) fn accepts(&self) -> bool {
        !matches!(self.acceptor, Acceptor::Another)
    }
}

/// How the connections of a listener begin. Outlives the listener, because those that are accepted
/// may reach their shard after its end.
pub(super) struct ListenerTerms {
    /// As of [`Listener`].
    pub(super) kinds: Arc<[Kind]>,
    /// As of [`Listener`].
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// As of [`Listener`].
    pub(super) proxied: bool,
}

/// The shard that accepts the connections of a listener. Several that wait for one socket would not
/// share them: the kernel wakes the same one each time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Acceptor {
    /// This one, for itself: every shard has a socket on the port.
    Own,
    /// This one, for all.
    ForAll(Turns),
    /// Another one.
    Another,
}

impl Acceptor {
    /// The shard that the next accepted connection is for, if it is not the one that accepts.
    pub(super) fn take_turn(&mut self) -> Option<usize> {
        match self {
            Self::ForAll(turns) => turns.take(),
            Self::Own | Self::Another => None,
        }
    }
}

/// Whose turn it is to have the next connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// The shard that accepts.
    pub(super) own: usize,
    pub(super) next: usize,
    pub(super) shards: usize,
}

impl Turns {
    /// The shard of the next connection, if it is not the one that accepts.
    pub(super) fn take(&mut self) -> Option<usize> {
        let shard = self.next;
        self.next = (shard + 1) % self.shards;
        (shard != self.own).then_some(shard)
    }
}

/// The key of the configuration that names the path of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKey {
    /// The unix feed's.
    Feed,
    /// The admin listener's.
    Admin,
}

impl fmt::Display for SocketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Feed => "feed.unix.path",
            Self::Admin => "admin.socket",
        })
    }
}

/// Why listening failed, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program has the port.
    #[error(
        "{0} is taken by another program: stop it, or choose another port (who has it: ss -ltnp)"
    )]
    PortTaken(SocketAddr),
    /// The service manager listens on the port, for every address of this machine.
    #[error(
        "the service manager listens on {1}, which includes {0}: let [[listen]] and the socket unit \
         name the same address"
    )]
    Covered(SocketAddr, SocketAddr),
    /// The service manager has more sockets of an address than there are shards.
    #[error(
        "the service manager has {1} sockets of {0}, of which {2} shards can accept from {2}: name \
         the address in the socket unit only once"
    )]
    TooManySockets(SocketAddr, usize, usize),
    /// The process that hands over has more shards.
    #[error(
        "the process before listens on {0} with {1} threads, and this one would with {2}, so that \
         clients of the others waited in vain: leave `threads` as it was, or restart the service"
    )]
    FewerThreads(SocketAddr, usize, usize),
    /// A port below 1024 without the right to it.
    #[error("no permission to listen on {0}: use a port above 1023, or grant CAP_NET_BIND_SERVICE")]
    PortForbidden(SocketAddr),
    /// An address that this machine does not have.
    #[error("{0} is not an address of this machine: use one that `ip address` shows, or 0.0.0.0")]
    NoSuchAddress(SocketAddr),
    /// A daemon answers on the socket that the key names.
    #[error(
        "{path} is in use by a running daemon: stop it, or give {key} another value",
        key = .0, path = .1.display()
    )]
    SocketTaken(SocketKey, PathBuf),
    /// Something else has the path.
    #[error(
        "{path} exists and is not a socket: remove it, or give {key} another value",
        key = .0, path = .1.display()
    )]
    NotASocket(SocketKey, PathBuf),
    /// The path does not fit into a socket's address.
    #[error(
        "{key}: {path} is too long: a socket's path may have 107 bytes",
        key = .0, path = .1.display()
    )]
    LongPath(SocketKey, PathBuf),
    /// The group cannot be found.
    #[error("feed.unix.group: there is no group \"{0}\": create it, or give its number")]
    NoSuchGroup(String),
    /// The mode is not octal.
    #[error("feed.unix.mode: \"{0}\" is not a file mode: write it in octal, like \"0660\"")]
    BadMode(String),
    /// Any other error.
    #[error("{0}: {1}")]
    Other(String, io::Error),
}

/// Listens on `address` once per shard. A first exclusive bind makes sure that no other program
/// listens there: with `SO_REUSEPORT` the kernel would split the connections between the two.
///
/// # Errors
/// When the address cannot be had.
pub fn tcp(address: SocketAddr, shards: usize) -> Result<Vec<OwnedFd>, ListenError> {
    let actual = free_address(address)?;
    (0..shards).map(|_| shared_listener(actual)).collect()
}

/// Listens on `address` once. Returns the address too, with the port that was chosen for port 0.
///
/// # Errors
/// When the address cannot be had.
pub(super) fn tcp_one(address: SocketAddr) -> Result<(OwnedFd, SocketAddr), ListenError> {
    let actual = free_address(address)?;
    Ok((shared_listener(actual)?, actual))
}

/// The address, with a port chosen for port 0, once no other program listens there.
fn free_address(address: SocketAddr) -> Result<SocketAddr, ListenError> {
    let probe = patiently(|| tcp_socket(address, false))?;
    // Kept, the probe would take its share of the connections and never accept one.
    local_address(&probe).map_err(|error| other(address, error))
}

fn shared_listener(address: SocketAddr) -> Result<OwnedFd, ListenError> {
    let socket = tcp_socket(address, true)?;
    listen(&socket, BACKLOG).map_err(|error| classify(address, error))?;
    Ok(socket)
}

/// The address that a listener has, with the port that was chosen for port 0.
///
/// # Errors
/// When it is no internet socket.
pub fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?)?)
}

pub(super) fn tcp_socket(address: SocketAddr, shared: bool) -> Result<OwnedFd, ListenError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket =
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
            .map_err(|error| other(address, error))?;
    bind_tcp(&socket, address, shared).map_err(|error| classify(address, error))?;
    Ok(socket)
}

fn bind_tcp(socket: &OwnedFd, address: SocketAddr, shared: bool) -> rustix::io::Result<()> {
    // A restart must not wait for the old connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(socket, true)?;
    sockopt::set_socket_reuseport(socket, shared)?;
    // Accepted sockets inherit it.
    sockopt::set_tcp_nodelay(socket, true)?;
    bind(socket, &address)
}

fn classify(address: SocketAddr, error: rustix::io::Errno) -> ListenError {
    match error {
        rustix::io::Errno::ADDRINUSE => ListenError::PortTaken(address),
        rustix::io::Errno::ACCESS => ListenError::PortForbidden(address),
        rustix::io::Errno::ADDRNOTAVAIL => ListenError::NoSuchAddress(address),
        error => other(address, error),
    }
}

fn other(address: SocketAddr, error: impl Into<io::Error>) -> ListenError {
    ListenError::Other(format!("cannot listen on {address}"), error.into())
}

/// Listens on the feed's path: removes what a dead daemon left, refuses what a live one holds.
///
/// # Errors
/// When the path cannot be had, with what to do about it.
pub fn unix(settings: &unix::UnixFeedSettings, path: &Path) -> Result<OwnedFd, ListenError> {
    // Checked before anything is removed or made.
    unix::mode(&settings.mode).ok_or_else(|| ListenError::BadMode(settings.mode.clone()))?;
    settings.group.as_deref().map(group_number).transpose()?;
    let key = SocketKey::Feed;
    let socket = bind_unix(key, path)?;
    permit(settings, path)?;
    listen(&socket, BACKLOG).map_err(|error| path_error(key, "cannot listen on", path, error))?;
    Ok(socket)
}

/// Listens on a path that only the daemon's user, and root, can connect to.
///
/// # Errors
/// As [`unix()`].
pub fn private_unix(key: SocketKey, path: &Path) -> Result<OwnedFd, ListenError> {
    let socket = bind_unix(key, path)?;
    listen(&socket, BACKLOG).map_err(|error| path_error(key, "cannot listen on", path, error))?;
    Ok(socket)
}

/// Makes a socket at a path, for its owner alone.
fn bind_unix(key: SocketKey, path: &Path) -> Result<OwnedFd, ListenError> {
    let address = unix_address(key, path)?;
    patiently(|| remove_stale(key, path, &address))?;
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        fs::create_dir_all(directory)
            .map_err(|error| path_error(key, "cannot make the directory of", path, error))?;
    }

    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| path_error(key, "cannot make", path, error))?;
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = bind(&socket, &address);
    rustix::process::umask(umask);
    bound.map_err(|error| path_error(key, "cannot make", path, error))?;
    Ok(socket)
}

/// Whether there is a socket at a path.
pub(super) fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Gives the feed's socket the mode and the group of its settings; without a group the daemon's
/// own.
///
/// # Errors
/// When that is not possible, with what to do about it.
pub(super) fn permit(settings: &unix::UnixFeedSettings, path: &Path) -> Result<(), ListenError> {
    let mode =
        unix::mode(&settings.mode).ok_or_else(|| ListenError::BadMode(settings.mode.clone()))?;
    let group = settings.group.as_deref().map(group_number).transpose()?;
    let group = group.unwrap_or_else(|| rustix::process::getegid().as_raw());

    // An ordinary user may chown to a group of its own only, so not without need.
    if fs::metadata(path).is_ok_and(|socket| socket.gid() != group) {
        std::os::unix::fs::chown(path, None, Some(group)).map_err(|error| {
            path_error(SocketKey::Feed, "cannot give to feed.unix.group", path, error)
        })?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| path_error(SocketKey::Feed, "cannot set feed.unix.mode of", path, error))
}

/// The address of a socket in the file system.
pub(super) fn unix_address(key: SocketKey, path: &Path) -> Result<SocketAddrUnix, ListenError> {
    SocketAddrUnix::new(path).map_err(|error| match error {
        rustix::io::Errno::NAMETOOLONG => ListenError::LongPath(key, path.into()),
        error => path_error(key, "cannot use", path, error),
    })
}

pub(super) fn path_error(
    key: SocketKey,
    what: &str,
    path: &Path,
    error: impl Into<io::Error>,
) -> ListenError {
    ListenError::Other(format!("{key}: {what} {}", path.display()), error.into())
}

/// Repeats an attempt while the address is taken, for [`TAKEN_PATIENCE`].
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, ListenError>) -> Result<T, ListenError> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(ListenError::PortTaken(_) | ListenError::SocketTaken(..))
                if start.elapsed() < TAKEN_PATIENCE =>
            {
                std::thread::sleep(TAKEN_PAUSE);
            }
            done => return done,
        }
    }
}

/// Removes the socket of a dead daemon.
fn remove_stale(key: SocketKey, path: &Path, address: &SocketAddrUnix) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(path_error(key, "cannot remove", path, error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket(key, path.into()));
        }
        Ok(_) => {}
    }

    // Without NONBLOCK the probe would wait for ever for a daemon that hangs with a full backlog.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| path_error(key, "cannot remove", path, error))?;
    match connect(&probe, address) {
        // Refused means that no process has it open; a full backlog is a living daemon's.
        Err(rustix::io::Errno::CONNREFUSED) => {
            fs::remove_file(path).map_err(|error| path_error(key, "cannot remove", path, error))
        }
        _ => Err(ListenError::SocketTaken(key, path.into())),
    }
}

/// The number of a group, from /etc/group.
pub(super) fn group_number(name: &str) -> Result<u32, ListenError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 3 && fields[0] == name)
        .and_then(|fields| fields[2].parse().ok())
        .ok_or_else(|| ListenError::NoSuchGroup(name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_a_daemon_is_just_giving_back_is_waited_for() {
        let before = tcp("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = local_address(&before[0]).unwrap();
        assert!(matches!(tcp(address, 1), Err(ListenError::PortTaken(_))));
        let giving_back = std::thread::spawn(move || {
            std::thread::sleep(TAKEN_PAUSE / 2);
            drop(before);
        });
        assert_eq!(tcp(address, 2).unwrap().len(), 2);
        giving_back.join().unwrap();
    }
}
