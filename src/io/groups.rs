//! The supplementary groups of the process at the other end of a unix socket.
//!
//! The kernel would tell them (`SO_PEERGROUPS`), but nothing safe asks it; so they are read in `/proc`, under the process
//! number that it tells together with user and group. By then that process may have ended and its number be another's.
//! One read of the file is of one process, and one that has not both, user and group, is not believed. What is left is
//! another process of the same user, over which the publisher has power anyway.

use crate::feed::unix::UnixFeedSettings;
use rustix::net::UCred;

/// The groups, or why they cannot be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Groups {
    /// All but the first, which the socket tells.
    Known(Vec<u32>),
    /// The process has ended, or its number is another's by now.
    Gone,
    /// Processes of others cannot be seen from here.
    Hidden,
}

/// The supplementary groups of a peer.
pub(super) fn of(peer: &UCred) -> Groups {
    match std::fs::read_to_string(format!("/proc/{}/status", peer.pid.as_raw_nonzero())) {
        Ok(status) => {
            read(&status, peer.uid.as_raw(), peer.gid.as_raw()).map_or(Groups::Gone, Groups::Known)
        }
        Err(_) if see_others() => Groups::Gone,
        Err(_) => Groups::Hidden,
    }
}

/// Says at start when a configured `allow_gids` cannot see all that it should.
pub(super) fn note_hidden(feed: &UnixFeedSettings) {
    if feed.path.is_some() && !feed.allow_gids.is_empty() && !see_others() {
        tracing::warn!(
            "feed.unix.allow_gids knows publishers by their first group only: processes of others are hidden from this \
             one; ProtectProc=default in the service, or /proc without hidepid=, shows their other groups"
        );
    }
}

/// Whether processes of other users can be seen: the first one is root's.
fn see_others() -> bool {
    std::fs::exists("/proc/1/status").unwrap_or(false)
}

/// The groups that a status tells of a process, if it has this user and this group.
fn read(status: &str, uid: u32, gid: u32) -> Option<Vec<u32>> {
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    // Real, effective, saved, and that of the file system.
    let effective = |name: &str| line(name)?.split_whitespace().nth(1)?.parse::<u32>().ok();
    if effective("Uid") != Some(uid) || effective("Gid") != Some(gid) {
        return None;
    }
    line("Groups")?.split_whitespace().map(|group| group.parse().ok()).collect()
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
