//! References to connections and dialects, as services see them.

use ahash::AHashMap;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A connection of the daemon, by location. Numbers are reused once a connection is gone; the
/// serial distinguishes its successors, so a late answer never reaches another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionRef {
    /// The number of its shard.
    pub shard: u16,
    /// Its number within the shard.
    pub id: u32,
    /// Distinguishes it from earlier connections with the same number.
    pub serial: u32,
}

impl fmt::Display for ConnectionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, id, serial } = self;
        write!(f, "{shard}-{id}-{serial}")
    }
}

/// Why a text is no reference; shown to its writer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write the id of a session, such as 0-17-42")]
pub struct NoConnectionRef;

impl FromStr for ConnectionRef {
    type Err = NoConnectionRef;

    fn from_str(text: &str) -> Result<Self, NoConnectionRef> {
        // `parse` takes a plus sign too.
        if text.contains('+') {
            return Err(NoConnectionRef);
        }
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(NoConnectionRef);
        let (shard, id, serial) = (part()?, part()?, part()?);
        if parts.next().is_some() {
            return Err(NoConnectionRef);
        }
        Ok(Self {
            shard: shard.parse().map_err(|_| NoConnectionRef)?,
            id: id.parse().map_err(|_| NoConnectionRef)?,
            serial: serial.parse().map_err(|_| NoConnectionRef)?,
        })
    }
}

/// A dialect, by its index in the list of dialects. Services do not know the dialects themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DialectId(pub u8);

/// What has become of the connections that one process has passed to the next: the reference of
/// each, old to new, and the number of them in each channel without members.
#[derive(Clone, Debug, Default)]
pub struct NewRefs {
    connections: AHashMap<ConnectionRef, ConnectionRef>,
    entered: AHashMap<(DialectId, Box<str>, Box<str>), u32>,
}

impl NewRefs {
    /// Notes the new reference of a connection that has been passed.
    pub fn put(&mut self, old: ConnectionRef, new: ConnectionRef) {
        self.connections.insert(old, new);
    }

    /// Notes a connection that is in a channel of an app.
    pub fn enter(&mut self, dialect: DialectId, app: &str, channel: &str) {
        *self.entered.entry((dialect, app.into(), channel.into())).or_default() += 1;
    }

    /// Adds those that another shard has taken over.
    pub fn merge(&mut self, other: Self) {
        self.connections.extend(other.connections);
        for (channel, count) in other.entered {
            *self.entered.entry(channel).or_default() += count;
        }
    }

    /// The new reference of a connection; `None` when it was not passed.
    #[must_use]
    pub fn of(&self, old: ConnectionRef) -> Option<ConnectionRef> {
        self.connections.get(&old).copied()
    }

    /// The number of connections that are in a channel of an app.
    #[must_use]
    pub fn entered(&self, dialect: DialectId, app: &str, channel: &str) -> u32 {
        self.entered.get(&(dialect, app.into(), channel.into())).copied().unwrap_or(0)
    }

    /// The number of connections that have been passed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether none has been passed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_is_written_and_nothing_else_is() {
        let all = ConnectionRef { shard: 3, id: 17, serial: u32::MAX };
        assert_eq!(all.to_string(), "3-17-4294967295");
        assert_eq!(all.to_string().parse(), Ok(all));
        for wrong in
            ["", "3", "3-17", "3-17-42-1", "3-17-4294967296", "70000-1-1", "3--1", "+3-1-1"]
        {
            assert_eq!(wrong.parse::<ConnectionRef>(), Err(NoConnectionRef), "{wrong}");
        }
    }
}
