//! A check of the addresses and the socket of a start, without listening and without leaving
//! anything behind.
//!
//! Ports are bound for a moment. That takes nothing away: connections go to sockets that listen,
//! and a starting daemon retries for a second.

use super::listen::{self, ListenError, SocketKey};
use crate::feed::unix;
use rustix::fs::Access;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Directories that the shipped systemd unit makes before a start.
const OF_THE_UNIT: [&str; 2] = ["/run/fanfare", "/var/lib/fanfare"];

/// The occupancy of an address or path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupancy {
    /// Free for a start.
    Free,
    /// In use by a daemon of this user.
    ByOwn,
    /// In use by another program, or by another user's daemon.
    ByAnother,
}

/// Whether an address is free.
///
/// # Errors
/// When it cannot be listened on even if it is free.
pub fn tcp(address: SocketAddr) -> Result<Occupancy, ListenError> {
    match listen::tcp_socket(address, false) {
        Ok(_) => Ok(Occupancy::Free),
        // The kernel shares a port among one user's sockets only, so a shared bind tells whose it
        // is.
        Err(ListenError::PortTaken(_)) => match listen::tcp_socket(address, true) {
            Ok(_) => Ok(Occupancy::ByOwn),
            Err(ListenError::PortTaken(_)) => Ok(Occupancy::ByAnother),
            Err(error) => Err(error),
        },
        // A port below 1024 of fanfare.socket, to which its daemon needs no right.
        Err(ListenError::PortForbidden(_)) if is_listened_on(address) => Ok(Occupancy::ByAnother),
        Err(error) => Err(error),
    }
}

/// Whether something listens on an address, or on all addresses with its port.
fn is_listened_on(address: SocketAddr) -> bool {
    const LISTENING: &str = "0A";
    let listeners = ["tcp", "tcp6"].map(|name| {
        // Without the second file there is no IPv6.
        fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default()
    });
    let own: String = match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let words = octets.as_chunks::<4>().0.iter();
            words.map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect()
        }
    };
    let is_meant = |ip: &str| ip == own || ip.bytes().all(|digit| digit == b'0');

    listeners.iter().flat_map(|text| text.lines().skip(1)).any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, state) = (columns.next().unwrap_or_default(), columns.nth(1));
        let Some((ip, port)) = local.split_once(':') else { return false };
        let is_port = u16::from_str_radix(port, 16) == Ok(address.port());
        state == Some(LISTENING) && is_port && is_meant(ip)
    })
}

/// Two addresses of a list that exclude each other, because one of them stands for all of the
/// machine's.
#[must_use]
pub fn overlapping(addresses: &[SocketAddr]) -> Option<(SocketAddr, SocketAddr)> {
    // Without the file there is no IPv6.
    let v6_only =
        fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|text| text.trim() == "1");
    for (at, first) in addresses.iter().enumerate() {
        for second in &addresses[at + 1..] {
            // Port 0 becomes another port for each.
            let shares_port = first.port() == second.port() && first.port() != 0;
            if shares_port && (covers(first, second, v6_only) || covers(second, first, v6_only)) {
                return Some((*first, *second));
            }
        }
    }
    None
}

/// Whether `all` is unspecified and stands for `other` too; `[::]` takes IPv4 as well unless the
/// system says otherwise.
fn covers(all: &SocketAddr, other: &SocketAddr, v6_only: bool) -> bool {
    let same_family = all.is_ipv4() == other.is_ipv4();
    all.ip().is_unspecified() && (same_family || (all.is_ipv6() && !v6_only))
}

/// Whether the feed's socket can be made. Returns its group too, if one is configured, for a check
/// against the user's groups.
///
/// # Errors
/// When it cannot be made, with what to do about it.
pub fn unix(
    settings: &unix::UnixFeedSettings,
    path: &Path,
) -> Result<(Occupancy, Option<u32>), ListenError> {
    unix::mode(&settings.mode).ok_or_else(|| ListenError::BadMode(settings.mode.clone()))?;
    let group = settings.group.as_deref().map(listen::group_number).transpose()?;
    Ok((unix_path(SocketKey::Feed, path)?, group))
}

/// Whether a socket can be made at a path.
///
/// # Errors
/// When it cannot be made, with what to do about it.
pub fn unix_path(key: SocketKey, path: &Path) -> Result<Occupancy, ListenError> {
    let address = listen::unix_address(key, path)?;
    let held = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Occupancy::Free,
        Err(error) => return Err(listen::path_error(key, "cannot make", path, error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket(key, path.into()));
        }
        Ok(_) if is_left_over(&address) => Occupancy::Free,
        Ok(_) => Occupancy::ByOwn,
    };
    writable(path.parent().unwrap_or(Path::new(".")))
        .map_err(|error| listen::path_error(key, "cannot make", path, error))?;
    Ok(held)
}

/// Whether an existing socket has no listener.
fn is_left_over(address: &SocketAddrUnix) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    probe.is_ok_and(|probe| connect(&probe, address) == Err(rustix::io::Errno::CONNREFUSED))
}

/// Checks that a directory can be written, or made and written.
///
/// # Errors
/// When it cannot.
pub fn writable(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let existing = existing_part(directory)?;
    // The unit makes these, and gives them to a user that the check may not be.
    if existing != directory && OF_THE_UNIT.iter().any(|made| directory.starts_with(made)) {
        return Ok(());
    }

    let allowed = if existing.is_dir() {
        rustix::fs::access(&existing, Access::WRITE_OK | Access::EXEC_OK)
    } else {
        Err(rustix::io::Errno::NOTDIR)
    };
    allowed.map_err(|error| {
        let error = io::Error::from(error);
        let text = format!("the directory {} cannot be written: {error}", existing.display());
        io::Error::new(error.kind(), text)
    })
}

/// The path itself, or its nearest ancestor that exists.
fn existing_part(path: &Path) -> io::Result<PathBuf> {
    let mut at = path;
    loop {
        match fs::metadata(at) {
            Ok(_) => return Ok(at.into()),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", at.display())));
            }
            Err(_) => {}
        }
        at = match at.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => return Ok(PathBuf::from(".")),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_all_overlaps_every_other_of_its_port() {
        let found = |list: &[&str]| {
            overlapping(&list.iter().map(|address| address.parse().unwrap()).collect::<Vec<_>>())
                .is_some()
        };
        assert!(found(&["0.0.0.0:80", "127.0.0.1:80"]) && found(&["[::1]:80", "[::]:80"]));
        assert!(
            !found(&["0.0.0.0:80", "127.0.0.1:81"]) && !found(&["127.0.0.1:80", "127.0.0.2:80"])
        );
        assert!(!found(&["0.0.0.0:80", "[::1]:80"]) && !found(&["0.0.0.0:0", "0.0.0.0:0"]));
    }

    #[test]
    fn a_port_is_told_to_be_free_or_whose_it_is() {
        let own = listen::tcp(([127, 0, 0, 1], 0).into(), 1).unwrap();
        let address = listen::local_address(&own[0]).unwrap();
        assert_eq!(tcp(address).unwrap(), Occupancy::ByOwn);
        drop(own);
        assert_eq!(tcp(address).unwrap(), Occupancy::Free);
        let another = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(tcp(another.local_addr().unwrap()).unwrap(), Occupancy::ByAnother);
    }

    #[test]
    fn a_listener_is_found_by_its_address_or_as_that_of_all() {
        for (listens, meant) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("0.0.0.0:0", "127.0.0.1:0"),
            ("[::]:0", "127.0.0.1:0"),
            ("[::1]:0", "[::1]:0"),
        ] {
            // Without IPv6 there is nothing to be found.
            let Ok(listener) = std::net::TcpListener::bind(listens) else { continue };
            let mut meant: SocketAddr = meant.parse().unwrap();
            meant.set_port(listener.local_addr().unwrap().port());
            assert!(is_listened_on(meant), "{listens}");
            drop(listener);
            assert!(!is_listened_on(meant), "{listens}");
        }
        let loopback = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = loopback.local_addr().unwrap().port();
        assert!(!is_listened_on(([192, 0, 2, 1], port).into()));
    }
}
