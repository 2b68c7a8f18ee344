//! The supplementary groups of the process at the other end of a unix socket.
//!
//! The kernel has an option for them (`SO_PEERGROUPS`), but no safe wrapper does; so they are read
//! from `/proc`, under the process ID that the socket reports along with user and group. By then
//! that process may have ended and its ID be another's. One read of the file is of one
//! process, and is rejected unless user and group both match. What is left is another process of
//! one user, which the publisher controls anyway.

use crate::feed::unix::UnixFeedSettings;
use rustix::net::UCred;

/// The groups, or why they are not known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Groups {
    /// The supplementary groups; the primary one is the socket's.
    Known(Vec<u32>),
    /// The process has ended, or another has its number by now.
    Gone,
    /// Other users' processes are hidden.
    Hidden,
}

/// The supplementary groups of a peer.
pub(super) fn of(peer: &UCred) -> Groups {
    match std::fs::read_to_string(format!("/proc/{}/status", peer.pid.as_raw_nonzero())) {
        Ok(status) => {
            read(&status, peer.uid.as_raw(), peer.gid.as_raw()).map_or(Groups::Gone, Groups::Known)
        }
        // Under hidepid= a hidden process looks as one that has ended.
        Err(_) if see_others() => Groups::Gone,
        Err(_) => Groups::Hidden,
    }
}

/// Warns at start when a configured `allow_gids` cannot see supplementary groups.
pub(super) fn note_hidden(feed: &UnixFeedSettings) {
    if feed.path.is_some() && !feed.allow_gids.is_empty() && !see_others() {
        tracing::warn!(
            "feed.unix.allow_gids sees only the primary group of publishers, because processes of \
             other users are hidden from this one: set ProtectProc=default in the service, or \
             mount /proc without hidepid="
        );
    }
}

/// Whether processes of other users are visible: process 1 is root's.
fn see_others() -> bool {
    std::fs::exists("/proc/1/status").unwrap_or(false)
}

/// The groups in a process's status, if its user and group are these.
fn read(status: &str, uid: u32, gid: u32) -> Option<Vec<u32>> {
    if effective(status, "Uid")? != uid || effective(status, "Gid")? != gid {
        return None;
    }
    line(status, "Groups")?.split_whitespace().map(|group| group.parse().ok()).collect()
}

fn line<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn effective(status: &str, name: &str) -> Option<u32> {
    // Real, effective, saved, and that of the file system; the socket tells the effective one.
    line(status, name)?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::socket_peercred;
    use std::os::unix::net::UnixStream;

    const STATUS: &str =
        "Name:\tperl\nUid:\t1000\t1001\t1000\t1001\nGid:\t100\t101\t100\t101\nGroups:\t4 27 101 \n";

    #[test]
    fn the_groups_of_a_process_are_those_of_its_status() {
        assert_eq!(read(STATUS, 1001, 101), Some(vec![4, 27, 101]));
        assert_eq!(read(&STATUS.replace("4 27 101 ", ""), 1001, 101), Some(vec![]));
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut expected: Vec<u32> = rustix::process::getgroups()
            .unwrap()
            .into_iter()
            .map(rustix::process::Gid::as_raw)
            .collect();
        expected.sort_unstable();
        let Groups::Known(mut found) = of(&socket_peercred(&ours).unwrap()) else {
            panic!("not told")
        };
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_process_of_another_user_or_group_is_not_believed() {
        for (uid, gid) in [(1000, 101), (1001, 100), (0, 0)] {
            assert_eq!(read(STATUS, uid, gid), None);
        }
        assert_eq!(read("", 1001, 101), None);
        assert_eq!(read(&STATUS.replace("27", "x"), 1001, 101), None);
    }
}
