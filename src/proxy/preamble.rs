//! The PROXY protocol, versions 1 and 2: the preamble that a proxy sends before the client's bytes.
//!
//! <https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>. A listener that expects it demands it of every
//! connection, because a client's own bytes could look the same.

use super::Remote;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest preamble in bytes. A line of version 1 has at most 107, version 2 has 16 and at most 216
/// for the addresses; the rest is for what proxies add (TLS, host names). nginx allows 4 KiB too.
pub const PREAMBLE_BYTES_MAX: usize = 4096;

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The first bytes of version 1.
const WORD: &[u8; 6] = b"PROXY ";
/// Longest line of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;
/// Bytes of version 2 before the addresses.
const FIXED_BYTES: usize = 16;

/// A whole preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Its length in bytes; the client's own follow.
    pub length: usize,
    /// The client; `None` when the proxy speaks for itself, as in a health check.
    pub client: Option<Remote>,
}

/// Why bytes are not a preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedPreamble {
    /// They begin like neither version.
    #[error(
        "no PROXY protocol: let the proxy send it (HAProxy: send-proxy-v2, nginx: proxy_protocol \
         on), or set proxy_protocol = false"
    )]
    Absent,
    /// A line of version 1 that is too long or malformed.
    #[error("a malformed line of the PROXY protocol, version 1")]
    Line,
    /// Version 2 with an unknown command or family, or a wrong length.
    #[error("a malformed header of the PROXY protocol, version 2")]
    Binary,
    /// Longer than [`PREAMBLE_BYTES_MAX`].
    #[error("a header of the PROXY protocol over {PREAMBLE_BYTES_MAX} bytes")]
    Long,
}

/// Reads the preamble at the start of a connection; `None` while it is incomplete.
///
/// # Errors
/// At the first byte that rules it out.
pub fn read(bytes: &[u8]) -> Result<Option<Preamble>, MalformedPreamble> {
    if begins(bytes, SIGNATURE) {
        return binary(bytes);
    }
    if begins(bytes, WORD) {
        return line(bytes);
    }
    Err(MalformedPreamble::Absent)
}

/// Whether bytes begin with `start`, as far as they have come.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let length = bytes.len().min(start.len());
    bytes[..length] == start[..length]
}

fn line(bytes: &[u8]) -> Result<Option<Preamble>, MalformedPreamble> {
    let looked_at = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', looked_at) else {
        return if looked_at.len() == LINE_BYTES_MAX {
            Err(MalformedPreamble::Line)
        } else {
            Ok(None)
        };
    };
    let text = looked_at[..end]
        .strip_suffix(b"\r")
        .and_then(|text| text.strip_prefix(WORD))
        .and_then(|text| std::str::from_utf8(text).ok())
        .ok_or(MalformedPreamble::Line)?;

    let words: Vec<&str> = text.split(' ').collect();
    let client = match words[..] {
        // A proxy that does not know the client; the receiver must ignore the rest of the line.
        ["UNKNOWN", ..] => None,
        ["TCP4", source, target, port, target_port] => {
            Some(source_of::<Ipv4Addr>(source, target, port, target_port)?)
        }
        ["TCP6", source, target, port, target_port] => {
            Some(source_of::<Ipv6Addr>(source, target, port, target_port)?)
        }
        _ => return Err(MalformedPreamble::Line),
    };
    Ok(Some(Preamble { length: end + 1, client }))
}

/// The source of a line of version 1. The target is read too: a line that is wrong anywhere is not
/// trusted.
fn source_of<A: std::str::FromStr + Into<IpAddr>>(
    source: &str,
    target: &str,
    port: &str,
    target_port: &str,
) -> Result<Remote, MalformedPreamble> {
    let source: A = source.parse().map_err(|_| MalformedPreamble::Line)?;
    let _: A = target.parse().map_err(|_| MalformedPreamble::Line)?;
    read_port(target_port)?;
    Ok(SocketAddr::new(source.into(), read_port(port)?).into())
}

fn read_port(text: &str) -> Result<u16, MalformedPreamble> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // The specification rules out leading zeros, which `parse` takes.
    let is_plain = is_number && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(MalformedPreamble::Line)
}

fn binary(bytes: &[u8]) -> Result<Option<Preamble>, MalformedPreamble> {
    let Some(version_and_command) = bytes.get(12) else { return Ok(None) };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(MalformedPreamble::Binary),
    };
    let Some(&[family, high, low]) = bytes.get(13..FIXED_BYTES) else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    let length = FIXED_BYTES + rest;
    if length > PREAMBLE_BYTES_MAX {
        // Before any of it is waited for: 64 KiB could be announced for each connection.
        return Err(MalformedPreamble::Long);
    }

    // Unspecified, TCP over IPv4 and IPv6, and streams of unix sockets, which have no address of
    // use.
    let addresses = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        // A health check may have any family.
        _ if is_local => 0,
        _ => return Err(MalformedPreamble::Binary),
    };
    if !is_local && rest < addresses {
        return Err(MalformedPreamble::Binary);
    }

    let Some(body) = bytes.get(FIXED_BYTES..length) else { return Ok(None) };
    let client = match family {
        _ if is_local => None,
        0x11 => address::<4>(body)
            .map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(ip).into(), port).into()),
        0x21 => address::<16>(body)
            .map(|(ip, port)| SocketAddr::new(Ipv6Addr::from(ip).into(), port).into()),
        _ => None,
    };
    Ok(Some(Preamble { length, client }))
}

/// The source in the addresses of version 2: source, target, the port of each.
fn address<const N: usize>(body: &[u8]) -> Option<([u8; N], u16)> {
    let ip = body.first_chunk()?;
    let port = body.get(2 * N..)?.first_chunk()?;
    Some((*ip, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    fn tcp4() -> Vec<u8> {
        version_2(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0x01, 0xbb, 0x04, 0, 1, 0])
    }

    /// What whole bytes come to, after it was seen that no part of them comes to anything.
    fn whole(bytes: &[u8]) -> Result<(usize, String), MalformedPreamble> {
        let read_whole = read(bytes);
        for length in 0..bytes.len() {
            match (read(&bytes[..length]), read_whole) {
                (Ok(None), _) => {}
                (Ok(Some(part)), Ok(Some(all))) => assert!(part == all && part.length <= length),
                (Err(part), Err(all)) => assert_eq!(part, all, "after {length} bytes"),
                other => panic!("after {length} bytes: {other:?}"),
            }
        }
        let preamble = read_whole?.expect("it is whole");
        let client =
            preamble.client.map_or_else(|| "the proxy".to_owned(), |client| client.to_string());
        Ok((preamble.length, client))
    }

    fn told(length: usize, client: &str) -> Result<(usize, String), MalformedPreamble> {
        Ok((length, client.to_owned()))
    }

    #[test]
    fn a_line_of_version_1_tells_the_client_however_it_is_cut() {
        let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n";
        assert_eq!(whole(line), told(line.len(), "192.0.2.1:4711"));
        assert_eq!(
            whole(&[line, &b"GET / HTTP/1.1\r\n"[..]].concat()),
            told(line.len(), "192.0.2.1:4711")
        );
        let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n";
        assert_eq!(whole(line), told(line.len(), "[2001:db8::1]:0"));
        let line = b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n";
        assert_eq!(whole(line), told(line.len(), "192.0.2.1:1"));
        assert_eq!(whole(b"PROXY UNKNOWN\r\n"), told(15, "the proxy"));
        assert_eq!(whole(b"PROXY UNKNOWN ffff:f ::1 1 2\r\n"), told(30, "the proxy"));
    }

    #[test]
    fn a_line_that_is_wrong_anywhere_is_refused() {
        for wrong in [
            "PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 4711 443 1\r\n",
            "PROXY TCP4  192.0.2.1 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 04711 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +1 443\r\n",
            "PROXY TCP4 2001:db8::1 ::1 4711 443\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 192.0.2.1 nobody 4711 443\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 4711 443\r\n",
            "PROXY tcp4 192.0.2.1 10.0.0.1 4711 443\r\n",
            "PROXY \r\n",
            "PROXY \u{e4}\r\n",
        ] {
            assert_eq!(whole(wrong.as_bytes()), Err(MalformedPreamble::Line), "{wrong:?}");
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
        assert_eq!(whole(endless.as_bytes()), Err(MalformedPreamble::Line));
        assert_eq!(read(&endless.as_bytes()[..LINE_BYTES_MAX - 1]), Ok(None));
    }

    #[test]
    fn version_2_tells_the_client_however_it_is_cut() {
        assert_eq!(whole(&tcp4()), told(32, "192.0.2.1:4711"));
        assert_eq!(whole(&[&tcp4()[..], b"\x16\x03\x01"].concat()), told(32, "192.0.2.1:4711"));
        let mut body = [0; 36];
        body[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        body[32..34].copy_from_slice(&4711u16.to_be_bytes());
        assert_eq!(whole(&version_2(0x21, 0x21, &body)), told(52, "[2001:db8::1]:4711"));
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        assert_eq!(whole(&version_2(0x20, 0, &[])), told(16, "the proxy"));
        assert_eq!(whole(&version_2(0x20, 0x11, &[1; 12])), told(28, "the proxy"));
        assert_eq!(whole(&version_2(0x20, 0x12, &[])), told(16, "the proxy"));
        assert_eq!(whole(&version_2(0x21, 0, &[7; 5])), told(21, "the proxy"));
        assert_eq!(whole(&version_2(0x21, 0x31, &[0; 216])), told(232, "the proxy"));
    }

    #[test]
    fn version_2_with_what_there_is_not_is_refused() {
        for (command, family, body) in [
            (0x22, 0x11, 12),
            (0x11, 0x11, 12),
            (0x21, 0x12, 12),
            (0x21, 0x41, 12),
            (0x21, 0x11, 11),
            (0x21, 0x21, 35),
        ] {
            let bytes = version_2(command, family, &vec![0; body]);
            assert_eq!(
                whole(&bytes),
                Err(MalformedPreamble::Binary),
                "{command:x} {family:x} {body}"
            );
        }
        let long = version_2(0x21, 0x11, &vec![0; PREAMBLE_BYTES_MAX - FIXED_BYTES + 1]);
        assert_eq!(whole(&long), Err(MalformedPreamble::Long));
        assert!(whole(&version_2(0x21, 0x11, &vec![0; PREAMBLE_BYTES_MAX - FIXED_BYTES])).is_ok());
    }

    #[test]
    fn what_begins_like_neither_version_is_refused_at_once() {
        for wrong in ["GET / HTTP/1.1\r\n", "P", "PROXY", "PROXYTCP4", "\r\n\r\nX", "\x16\x03\x01"]
        {
            let expected =
                if "PROXY ".starts_with(wrong) { Ok(None) } else { Err(MalformedPreamble::Absent) };
            assert_eq!(read(wrong.as_bytes()), expected, "{wrong:?}");
        }
        assert_eq!(read(b""), Ok(None));
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_breaks_it(start in 0..3usize, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let start: &[u8] = [&b""[..], WORD, SIGNATURE][start];
            let bytes = [start, &bytes].concat();
            if let Ok(Some(preamble)) = read(&bytes) {
                prop_assert!(preamble.length <= bytes.len());
            }
        }
    }
}
