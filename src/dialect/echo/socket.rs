//! Socket ids: how publishers and signatures name a connection.

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
    /// When it is none. One that is well-formed and cannot be any of ours is nobody's: `Ok(None)`.
    pub fn read(text: &str) -> Result<Option<Self>, NoSocketId> {
        let (high, low) = text.split_once('.').ok_or(NoSocketId)?;
        let is_number =
            |half: &str| !half.is_empty() && half.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(high) || !is_number(low) {
            return Err(NoSocketId);
        }
        let half =
            |half: &str| (half.len() <= DIGITS_MAX).then(|| half.parse::<u32>().ok()).flatten();
        Ok(half(high)
            .zip(half(low))
            .map(|(high, low)| Self(u64::from(high) << 32 | u64::from(low))))
    }
}

/// Why a text names no connection.
#[derive(Debug, PartialEq, Eq)]
pub struct NoSocketId;

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

/// For whom a channel's publication is not, or what it does beside being delivered; its
/// [`meta`](crate::frame::Publication::meta).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoReach {
    /// For all subscribers.
    All,
    /// For all but this connection.
    AllBut(SocketId),
    /// For all, and it is the last that they get: the app has terminated their connections.
    Last,
}

impl EchoReach {
    /// The bytes that say so.
    #[must_use]
    pub fn meta(self) -> ([u8; 9], usize) {
        let mut bytes = [0; 9];
        match self {
            Self::All => (bytes, 0),
            Self::AllBut(SocketId(id)) => {
                bytes[1..].copy_from_slice(&id.to_be_bytes());
                (bytes, 9)
            }
            Self::Last => (bytes, 1),
        }
    }

    /// What the bytes say.
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
