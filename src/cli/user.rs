//! The user that a daemon runs as, and becoming that user for a look at what it may do.
//!
//! Users are those of /etc/passwd and /etc/group, as everywhere in this program.

use super::CliError;
use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fmt;

/// The user that the shipped unit runs the service as.
const SERVICE_USER: &str = "fanfare";

/// A user with its groups.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl User {
    /// The user of this process.
    pub(super) fn own() -> Self {
        let uid = geteuid().as_raw();
        let groups = getgroups().unwrap_or_default().iter().map(|group| group.as_raw()).collect();
        let name = name_of(uid, "/etc/passwd").unwrap_or_default();
        Self { name, uid, gid: getegid().as_raw(), groups }
    }

    /// Its id, and that of its own group.
    pub(super) fn ids(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// The user that a check is about: the named one; the service's where root asks, who may do
    /// everything; else the user of this process.
    ///
    /// # Errors
    /// When there is no such user.
    pub(super) fn verified(named: Option<&str>) -> Result<Self, CliError> {
        let passwd = lines("/etc/passwd");
        match named {
            Some(name) => Self::of(name, &passwd).ok_or_else(|| {
                CliError::usage(format!("--user: there is no user \"{name}\" in /etc/passwd"))
            }),
            // Root may do everything, so its own view says nothing about the service.
            None if geteuid().is_root() => {
                Ok(Self::of(SERVICE_USER, &passwd).unwrap_or_else(Self::own))
            }
            None => Ok(Self::own()),
        }
    }

    fn of(name: &str, passwd: &[Vec<String>]) -> Option<Self> {
        let found = passwd
            .iter()
            .find(|fields| fields[0] == name || fields.get(2).is_some_and(|uid| uid == name))?;
        let mut groups = lines("/etc/group");
        groups.retain(|fields| {
            fields.get(3).is_some_and(|members| members.split(',').any(|member| member == found[0]))
        });

        Some(Self {
            name: found[0].clone(),
            uid: number(found, 2)?,
            gid: number(found, 3)?,
            groups: groups.iter().filter_map(|fields| number(fields, 2)).collect(),
        })
    }

    /// Is this user from now on, with the thread that calls: commands have no other.
    ///
    /// # Errors
    /// When only root could.
    pub(super) fn become_it(&self) -> Result<(), CliError> {
        // Groups can be set by root alone, even to what they are.
        if self.uid == geteuid().as_raw() {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        // Groups first: they cannot be set without root's rights.
        set_thread_groups(&groups)
            .and_then(|()| set_thread_res_gid(gid, gid, gid))
            .and_then(|()| set_thread_res_uid(uid, uid, uid))
            .map_err(|_| {
                CliError::usage(format!(
                    "--user {}: only root can check as another user",
                    self.name
                ))
            })
    }

    /// Whether files may be given to a group.
    pub(super) fn may_give_to(&self, group: u32) -> bool {
        self.uid == 0 || self.gid == group || self.groups.contains(&group)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => write!(f, "user {}", self.uid),
            name => write!(f, "user {name} ({})", self.uid),
        }
    }
}

/// The name of the user or group of this number, in such a file.
pub(super) fn name_of(id: u32, database: &str) -> Option<String> {
    let mut lines = lines(database).into_iter();
    lines.find(|fields| number(fields, 2) == Some(id)).map(|fields| fields[0].clone())
}

/// The lines of such a file, each taken apart at its colons.
fn lines(path: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}

fn number(fields: &[String], place: usize) -> Option<u32> {
    fields.get(place)?.parse().ok()
}
