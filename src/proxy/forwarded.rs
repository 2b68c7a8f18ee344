//! The headers in which proxies name the client: `X-Forwarded-For`, and `Forwarded` of RFC 7239.
//!
//! Each proxy appends the address that it was asked from, so the list is read from its end: as long
//! as an address is a trusted proxy's own, the one before it was written by that proxy. The first
//! untrusted address is the client; what stands before it, the client may have written itself.
//!
//! A proxy that sets one of the two passes the other on as the client sent it. When both are there
//! and name different clients, neither is trusted.

use super::{Networks, Remote};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Maximum number of proxies in a row that are followed; more are a loop, or made up.
const HOPS_MAX: usize = 32;

/// The client that the headers of a request from a trusted proxy name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedClient {
    /// No readable address: the client is the proxy itself.
    Unnamed,
    /// The client at this address.
    At(Remote),
    /// The two headers name different clients.
    Contradicted,
}

/// Finds the client of a request from a trusted proxy in its headers, given in their order.
pub fn client<'a>(
    headers: impl DoubleEndedIterator<Item = (&'a str, &'a [u8])> + Clone,
    trusted: &Networks,
) -> ForwardedClient {
    let by_list = values_from_last(headers.clone(), "x-forwarded-for")
        .flat_map(|line| line.rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|hop| !hop.is_empty());
    let first = last_untrusted(by_list.map(node), trusted);
    let by_element = values_from_last(headers, "forwarded").flat_map(elements);
    let second = last_untrusted(by_element, trusted);

    match (first, second) {
        // One of them may be the client's own, and nothing tells which.
        (Some(first), Some(second)) if first.ip != second.ip => ForwardedClient::Contradicted,
        (Some(first), Some(second)) => {
            ForwardedClient::At(if first.port.is_some() { first } else { second })
        }
        (Some(one), None) | (None, Some(one)) => ForwardedClient::At(one),
        (None, None) => ForwardedClient::Unnamed,
    }
}

/// The values of a header, the last first. A header on several lines is one list (RFC 9110 section
/// 5.3).
fn values_from_last<'a>(
    headers: impl DoubleEndedIterator<Item = (&'a str, &'a [u8])>,
    name: &'static str,
) -> impl Iterator<Item = &'a [u8]> {
    headers.rev().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The first address that is not trusted, or the last one before what cannot be read.
fn last_untrusted(
    hops: impl Iterator<Item = Option<Remote>>,
    trusted: &Networks,
) -> Option<Remote> {
    let mut client = None;
    for hop in hops.take(HOPS_MAX) {
        let Some(remote) = hop else { break };
        client = Some(remote);
        if !trusted.contains(remote.ip) {
            break;
        }
    }
    client
}

/// The nodes after `for=` in the elements of one line of `Forwarded`, the last first.
fn elements(line: &[u8]) -> impl Iterator<Item = Option<Remote>> + use<'_> {
    let mut nodes = Vec::new();
    // Quotes can only be read from the left: from the right, a comma inside of them would end an
    // element.
    let mut rest = line;
    loop {
        let Some((element, more)) = split(rest, b',') else {
            // A quote without its end: no element of the line can be told from another.
            nodes = vec![None];
            break;
        };
        if !element.trim_ascii().is_empty() {
            nodes.push(for_of(element));
        }
        let Some(more) = more else { break };
        rest = more;
    }
    nodes.into_iter().rev()
}

/// The node after `for=` of an element; `None` when there is none, or two.
fn for_of(element: &[u8]) -> Option<Remote> {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(pairs) = rest {
        let (pair, more) = split(pairs, b';')?;
        rest = more;
        let at = memchr::memchr(b'=', pair);
        let Some(at) = at.filter(|at| pair[..*at].trim_ascii().eq_ignore_ascii_case(b"for")) else {
            continue;
        };
        if found.is_some() {
            // The proxy writes one; the other was smuggled in.
            return None;
        }
        found = Some(node(unquoted(pair[at + 1..].trim_ascii())?)?);
    }
    found
}

/// The text before a separator outside of quotes, and the text after it if there is one; `None`
/// when a quote does not end.
fn split(text: &[u8], separator: u8) -> Option<(&[u8], Option<&[u8]>)> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            byte if *byte == separator && !is_quoted => {
                return Some((&text[..at], Some(&text[at + 1..])));
            }
            _ => {}
        }
    }
    (!is_quoted).then_some((text, None))
}

/// A value without its quotes. No address needs an escape, so a value with one is none.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    match value {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') && !inner.contains(&b'"') => {
            Some(inner)
        }
        [b'"', ..] => None,
        value => Some(value),
    }
}

/// An address as either header writes it, with its port if given. `None` for hidden ones
/// (`unknown`, `_name`).
fn node(text: &[u8]) -> Option<Remote> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(inner) = text.strip_prefix('[') {
        let (address, port) = inner.split_once(']')?;
        let ip: Ipv6Addr = address.parse().ok()?;
        return with_port(ip.into(), port.strip_prefix(':').or(port.is_empty().then_some(""))?);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(Remote::at(ip));
    }
    let (address, port) = text.split_once(':')?;
    let ip: Ipv4Addr = address.parse().ok()?;
    with_port(ip.into(), port)
}

/// An address with the text of its port, which may be hidden (`_name`).
fn with_port(ip: IpAddr, port: &str) -> Option<Remote> {
    if port.is_empty() || port.starts_with('_') {
        return Some(Remote::at(ip));
    }
    // `parse` takes a plus sign too.
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number)?;
    Some(Remote { port: Some(port), ..Remote::at(ip) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted() -> Networks {
        Networks::try_from(vec!["10.0.0.0/8".to_owned(), "2001:db8:f::/48".to_owned()]).unwrap()
    }

    fn read(headers: &[(&str, &str)]) -> String {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        match client(headers, &trusted()) {
            ForwardedClient::At(remote) => remote.to_string(),
            ForwardedClient::Unnamed => "unnamed".into(),
            ForwardedClient::Contradicted => "contradicted".into(),
        }
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_trusted() {
        for (list, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
            ("6.6.6.6, 192.0.2.1, 10.1.1.1,10.2.2.2", "192.0.2.1"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
            (" , 192.0.2.1 ,, ", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1:4711"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:4711, 2001:db8:f::1", "[2001:db8::1]:4711"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("6.6.6.6, unknown, 10.1.1.1", "10.1.1.1"),
            ("6.6.6.6, what is this", "unnamed"),
            ("", "unnamed"),
            ("192.0.2.1:", "192.0.2.1"),
            ("192.0.2.1:+5", "unnamed"),
            ("192.0.2.1:65536", "unnamed"),
            ("[2001:db8::1", "unnamed"),
            ("[2001:db8::1]x", "unnamed"),
            ("192.0.2.01", "unnamed"),
        ] {
            assert_eq!(read(&[("X-Forwarded-For", list)]), expected, "{list:?}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [
            ("X-Forwarded-For", "6.6.6.6, 192.0.2.1"),
            ("Host", "x"),
            ("x-forwarded-for", "10.1.1.1"),
        ];
        assert_eq!(read(&lines), "192.0.2.1");
        let lines = [("Forwarded", "for=6.6.6.6, for=192.0.2.1"), ("forwarded", "for=10.1.1.1")];
        assert_eq!(read(&lines), "192.0.2.1");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (line, expected) in [
            ("for=192.0.2.43", "192.0.2.43"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "[2001:db8:cafe::17]:4711"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("by=10.1.1.1; for = 192.0.2.43", "192.0.2.43"),
            ("for=192.0.2.43;ext=\"a,b;for=6.6.6.6\", for=10.1.1.1", "192.0.2.43"),
            ("for=192.0.2.43;ext=\"\\\",for=6.6.6.6\"", "192.0.2.43"),
            ("for=\"_gazonk\"", "unnamed"),
            ("for=\"192.0.2.43:_port\"", "192.0.2.43"),
            ("for=6.6.6.6, for=unknown, for=10.1.1.1", "10.1.1.1"),
            ("proto=https", "unnamed"),
            ("for=192.0.2.43;for=6.6.6.6", "unnamed"),
            ("for=192.0.2.43, for=\"10.1.1.1", "unnamed"),
            ("for=\"192.0.2.43\\\"\"", "unnamed"),
        ] {
            assert_eq!(read(&[("Forwarded", line)]), expected, "{line}");
        }
    }

    #[test]
    fn a_header_that_the_client_has_sent_beside_the_proxys_is_not_believed() {
        let of = |list, forwarded| read(&[("Forwarded", forwarded), ("X-Forwarded-For", list)]);
        assert_eq!(of("192.0.2.1", "for=6.6.6.6"), "contradicted");
        assert_eq!(of("192.0.2.1", "for=\"192.0.2.1:80\""), "192.0.2.1:80");
        assert_eq!(of("192.0.2.1", "proto=https"), "192.0.2.1");
    }

    #[test]
    fn a_list_without_end_is_not_followed() {
        let list = vec!["10.1.1.1"; 10_000].join(",");
        assert_eq!(read(&[("X-Forwarded-For", &format!("6.6.6.6,{list}"))]), "10.1.1.1");
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_breaks_it(list in "[ ,:.0-9a-f\\[\\]\"]{0,40}", line in "[ ,;=\"\\\\for0-9.:_\\[\\]]{0,60}") {
            read(&[("x-forwarded-for", &list), ("forwarded", &line)]);
        }

        #[test]
        fn what_the_proxy_appends_decides_whatever_stands_before(before in "[ -~]{0,40}") {
            let appended = format!("{before}, 192.0.2.1");
            prop_assert_eq!(read(&[("X-Forwarded-For", &appended)]), "192.0.2.1");
        }
    }
}
