//! Client addresses reported by proxies: the preamble of a connection, and headers that clients may
//! have written in part.

use super::Input;
use fanfare::proxy::forwarded::{self, ForwardedClient};
use fanfare::proxy::{Networks, preamble};

/// The first byte chooses: a preamble, or headers.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    match input.byte() & 1 {
        0 => preamble(input.0),
        _ => headers(&mut input),
    }
}

/// A preamble is found with its last byte, and is the same whatever follows.
fn preamble(bytes: &[u8]) {
    let whole = preamble::read(bytes);
    let found = (0..bytes.len()).map(|end| (end, preamble::read(&bytes[..end])));
    let first = found.into_iter().find(|(_, read)| !matches!(read, Ok(None)));
    match first {
        Some((end, Ok(Some(read)))) => {
            assert_eq!(read.length, end);
            assert_eq!(whole, Ok(Some(read)));
        }
        // More bytes do not mend a wrong start.
        Some((end, read)) => assert_eq!(whole, read, "at {end}"),
        None => {
            let length = whole.ok().flatten().map(|read| read.length);
            assert!(length.is_none_or(|length| length == bytes.len()), "{length:?}");
        }
    }
}

/// Lines of headers. The address that the last proxy appends takes precedence.
fn headers(input: &mut Input<'_>) {
    let trusted = Networks::try_from(vec!["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()]);
    let trusted = trusted.expect("networks");
    let text = String::from_utf8_lossy(input.0);
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let lines: Vec<(&str, &[u8])> = lines.map(|(name, value)| (name, value.as_bytes())).collect();
    if let ForwardedClient::At(remote) = forwarded::client(lines.iter().copied(), &trusted) {
        assert!(!lines.is_empty(), "no header names {remote:?}");
    }
    let has_other = lines.iter().any(|(name, _)| name.eq_ignore_ascii_case("forwarded"));
    let appended = [("X-Forwarded-For", &b"192.0.2.9"[..])];
    let told = forwarded::client(lines.iter().copied().chain(appended), &trusted);
    match told {
        ForwardedClient::At(remote) => assert_eq!(remote.ip.to_string(), "192.0.2.9"),
        told => assert!(has_other, "{told:?}"),
    }
}
