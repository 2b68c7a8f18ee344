//! Socket ids, by which publishers and signatures name a connection.

use std::fmt;

/// Most digits of one half.
const DIGITS_MAX: usize = 10;

/// The id of one connection among all of the daemon's: two decimals with a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId(pub u64);

impl SocketId {
    /// Reads an id as publishers write it: digits, a dot, digits.
    ///
    /// # Errors
    /// When it is malformed. A well-formed id that cannot be one of ours is `Ok(None)`.
    pub fn read(text: &str) -> Result<Option<Self>, NoSocketId> {
        let (high, low) = text.split_once('.').ok_or(NoSocketId)?;
        let (high, low) = (half(high)?, half(low)?);
        Ok(high.zip(low).map(|(high, low)| Self(u64::from(high) << 32 | u64::from(low))))
    }
}

/// Reads one half of an id; `None` when it does not fit into 32 bits.
fn half(digits: &str) -> Result<Option<u32>, NoSocketId> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NoSocketId);
    }
    // Ids of other servers may be longer than ours: they are valid, and exclude no connection here.
    Ok((digits.len() <= DIGITS_MAX).then(|| digits.parse().ok()).flatten())
}

/// Why a text names no connection.
#[derive(Debug, PartialEq, Eq)]
pub struct NoSocketId;

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

/// The receivers of a channel's publication, or its effect besides being delivered; the
/// publication's [`meta`](crate::frame::Publication::meta).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoReach {
    /// For all subscribers.
    All,
    /// For all but this connection.
    AllBut(SocketId),
    /// For all, as the last that they receive: the app has terminated their connections.
    Last,
}

impl EchoReach {
    /// Its encoding, and the length of that.
    #[must_use]
    pub fn meta(self) -> ([u8; 9], usize) {
        let mut bytes = [0; 9];
        match self {
            Self::All => (bytes, 0),
            // A byte before the id tells it from `Last`, which has that byte alone.
            Self::AllBut(SocketId(id)) => {
                bytes[1..].copy_from_slice(&id.to_be_bytes());
                (bytes, 9)
            }
            Self::Last => (bytes, 1),
        }
    }

    /// Decodes the bytes.
    #[must_use]
    pub fn of(meta: &[u8]) -> Self {
        match meta {
            [] => Self::All,
            [_, id @ ..] => id
                .try_into()
                .map_or(Self::Last, |id| Self::AllBut(SocketId(u64::from_be_bytes(id)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        for id in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(SocketId::read(&SocketId(id).to_string()), Ok(Some(SocketId(id))));
        }
        assert_eq!(SocketId::read("1394211398.6599677993"), Ok(None));
        assert_eq!(SocketId::read("1.00000000000000000000002"), Ok(None));
        for bad in ["", ".", "1", "1.", ".1", "1.2.3", "1.a", "-1.2", "1.2\n", " 1.2", "1,2"] {
            assert_eq!(SocketId::read(bad), Err(NoSocketId), "{bad}");
        }
    }

    #[test]
    fn a_reach_is_read_as_it_is_written() {
        for reach in [EchoReach::All, EchoReach::Last, EchoReach::AllBut(SocketId(7))] {
            let (bytes, length) = reach.meta();
            assert_eq!(EchoReach::of(&bytes[..length]), reach);
        }
    }
}
