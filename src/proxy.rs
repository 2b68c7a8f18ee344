//! The addresses of clients behind proxies, and the proxies trusted to tell them.
//!
//! In the order things happen: a connection comes from an address; when that is a trusted proxy's
//! ([`Networks`], the configuration's `trusted_proxies`), the client's own address is in the PROXY
//! protocol's [`preamble`], or in the headers of the request ([`forwarded`]). A client could write
//! the same bytes, so from any other address they are ignored.
//!
//! Addresses are values here; sockets are not known.

pub mod forwarded;
pub mod preamble;

use crate::text::start;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Maximum number of trusted networks. The largest content networks publish some hundreds.
const NETWORKS_MAX: usize = 1024;
/// Bits of an IPv6 address that tell one subscriber from another: providers assign at least a /64
/// to each.
const SUBSCRIBER_BITS: u32 = 64;

/// The address of a client, and its port as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// The address; an IPv4-mapped IPv6 address as IPv4.
    pub ip: IpAddr,
    /// The port, which headers seldom give.
    pub port: Option<u16>,
}

impl Remote {
    /// An address without a port.
    #[must_use]
    pub fn at(ip: IpAddr) -> Self {
        Self { ip: ip.to_canonical(), port: None }
    }

    /// The unit that counts as one client: an IPv4 address, or the /64 of an IPv6 one.
    #[must_use]
    pub fn subscriber(&self) -> IpAddr {
        match self.ip {
            IpAddr::V4(_) => self.ip,
            IpAddr::V6(ip) => IpAddr::V6(masked(ip, SUBSCRIBER_BITS)),
        }
    }
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip().to_canonical(), port: Some(address.port()) }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

fn masked(ip: Ipv6Addr, bits: u32) -> Ipv6Addr {
    // A shift by all 128 bits, for a prefix of length 0, is `None`.
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Ipv6Addr::from_bits(ip.to_bits() & mask)
}

/// A network: its first address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    /// IPv4 networks are IPv4-mapped, so that one comparison serves both families.
    first: Ipv6Addr,
    bits: u32,
}

/// Why a text is not a network; shown to the writer of the configuration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NetworkError {
    /// Not an address, with or without a number of bits.
    #[error("{0:?} is no address and no network: write 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32")]
    Text(String),
    /// Bits beyond the network's are set, so another network may have been meant.
    #[error("{0:?} has bits beyond its /{1}: write {2}/{1}, or the number of bits that is meant")]
    Beyond(String, u32, IpAddr),
    /// Over [`NETWORKS_MAX`].
    #[error("more than {NETWORKS_MAX} networks: merge neighbouring ones into larger ones")]
    TooMany,
}

impl Network {
    fn read(text: &str) -> Result<Self, NetworkError> {
        let shown = start(text, 64);
        let (first, whole, given) =
            Self::parts(text).ok_or_else(|| NetworkError::Text(shown.into()))?;

        // Behind an IPv4-mapped prefix of 96 bits come the 32 of the address.
        let bits = given + 128 - whole;
        let begin = masked(first, bits);
        if begin != first {
            let begin = IpAddr::V6(begin).to_canonical();
            return Err(NetworkError::Beyond(shown.into(), given, begin));
        }
        Ok(Self { first, bits })
    }

    /// The address of `ADDRESS[/BITS]`, IPv4 as mapped, the bits of its family, and those given.
    fn parts(text: &str) -> Option<(Ipv6Addr, u32, u32)> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let (first, whole) = match address.parse().ok()? {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped(), 32),
            IpAddr::V6(ip) => (ip, 128),
        };

        let given = match bits {
            // `parse` takes a plus sign too.
            Some(bits) if !bits.bytes().all(|byte| byte.is_ascii_digit()) => return None,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= whole)?,
            None => whole,
        };
        Some((first, whole, given))
    }

    fn contains(&self, ip: Ipv6Addr) -> bool {
        masked(ip, self.bits) == self.first
    }
}

/// The networks of trusted proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Networks(Box<[Network]>);

impl Networks {
    /// Whether an address is in one of the networks.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.0.iter().any(|network| network.contains(ip))
    }

    /// Whether no proxy is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of networks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl TryFrom<Vec<String>> for Networks {
    type Error = NetworkError;

    fn try_from(texts: Vec<String>) -> Result<Self, NetworkError> {
        // Each connection is compared with every one of them.
        if texts.len() > NETWORKS_MAX {
            return Err(NetworkError::TooMany);
        }
        texts.iter().map(|text| Network::read(text)).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Result<Networks, NetworkError> {
        Networks::try_from(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        let trusted = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"]).unwrap();
        for inside in [
            "10.0.0.0",
            "10.255.255.255",
            "192.0.2.7",
            "2001:db8:ffff::1",
            "::1",
            "::ffff:10.1.2.3",
        ] {
            assert!(trusted.contains(ip(inside)), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.8", "2001:db9::", "::2", "::10.1.2.3"]
        {
            assert!(!trusted.contains(ip(outside)), "{outside}");
        }
        assert!(!Networks::default().contains(ip("::")));
        assert!(networks(&["0.0.0.0/0"]).unwrap().contains(ip("255.1.2.3")));
        assert!(!networks(&["0.0.0.0/0"]).unwrap().contains(ip("2001:db8::1")));
        assert!(networks(&["::/0"]).unwrap().contains(ip("1.2.3.4")));
    }

    #[test]
    fn what_is_no_network_is_told_with_what_to_write() {
        for wrong in
            ["", "x", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "10.0.0/8", "::/129", "1.2.3.4:80"]
        {
            assert_eq!(networks(&[wrong]), Err(NetworkError::Text(wrong.into())), "{wrong}");
        }
        let beyond = networks(&["10.1.2.3/8"]).unwrap_err().to_string();
        assert!(beyond.contains("write 10.0.0.0/8"), "{beyond}");
        assert_eq!(networks(&["::1"; NETWORKS_MAX + 1]), Err(NetworkError::TooMany));
    }

    #[test]
    fn a_subscriber_is_an_ipv4_address_or_a_64_of_ipv6() {
        let subscriber = |text| Remote::at(ip(text)).subscriber().to_string();
        assert_eq!(subscriber("192.0.2.7"), "192.0.2.7");
        assert_eq!(subscriber("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(subscriber("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    #[test]
    fn an_address_is_shown_with_the_port_that_is_known() {
        assert_eq!(Remote::at(ip("::ffff:192.0.2.7")).to_string(), "192.0.2.7");
        assert_eq!(
            Remote::from("[2001:db8::1]:80".parse::<SocketAddr>().unwrap()).to_string(),
            "[2001:db8::1]:80"
        );
    }
}
