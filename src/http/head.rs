//! The head of a request, on every listener: parsed once, when its end has come, however small the
//! pieces it comes in.
//!
//! A header that decides something occurs once and is readable, or the request is refused: of two
//! lines a proxy may read the first and a server the last (RFC 9110 section 5.3, RFC 9112 sections
//! 3.2 and 6.3). Headers that are lists are one list, however many lines they take.
//!
//! This file does not know what is asked for, nor who answers.

use std::borrow::Cow;

/// Maximum number of header fields. Browsers send about 15, proxies add some; nginx and Apache
/// allow 100.
pub(crate) const HEADERS_MAX: usize = 100;
/// Longest `Host` in bytes: a DNS name has 253, a port five. A session may keep it.
const HOST_BYTES_MAX: usize = 253 + 1 + 5;
/// The schemes of a target that is a whole URL.
const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

/// A fault of a request: the status that refuses it, and a sentence for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

const NO_REQUEST: Fault = Fault { status: 400, reason: "This is not a valid HTTP request." };
/// A head that is longer than allowed, or has too many fields.
pub(crate) const TOO_LARGE: Fault =
    Fault { status: 431, reason: "The request line and headers are too large." };
const BARE_LINE_FEED: Fault = Fault {
    status: 400,
    reason: "A line of the request does not end with CR LF (RFC 9112 section 2.2).",
};
const BAD_LENGTH: Fault = Fault {
    status: 400,
    reason: "The length of the body is invalid: send one Content-Length of digits only, or \
             Transfer-Encoding: chunked (RFC 9112 section 6.3).",
};
const OTHER_CODING: Fault =
    Fault { status: 501, reason: "The only supported transfer coding is chunked." };
const BAD_TARGET: Fault = Fault {
    status: 400,
    reason: "The request URL has no host, or an invalid one (RFC 9112 section 3.2.2).",
};
const BAD_HOST: Fault = Fault {
    status: 400,
    reason: "The Host header is missing, invalid or repeated (RFC 9112 section 3.2).",
};
const BAD_CREDENTIALS: Fault =
    Fault { status: 400, reason: "A header with a token is invalid or repeated." };

/// A whole head.
pub(crate) struct Head<'a> {
    /// The method; `GET` for `HEAD`, which is answered alike (RFC 9110 section 9.3.2).
    pub(crate) method: &'a str,
    /// Whether the method was `HEAD`, so that the answer has no body.
    pub(crate) is_head: bool,
    /// The path, without the query.
    pub(crate) path: &'a str,
    /// The query without `?`.
    pub(crate) query: &'a str,
    /// Whether the version is HTTP/1.0 or earlier.
    pub(crate) is_old: bool,
    /// The host of a target that is a whole URL.
    authority: Option<&'a str>,
    fields: &'a [httparse::Header<'a>],
}

/// The header fields that decide something on any listener.
pub(crate) struct HeadFields<'a> {
    /// The host that the request is for; empty when it names none.
    pub(crate) host: &'a str,
    /// `Authorization`, or empty.
    pub(crate) authorization: &'a str,
    /// `X-Auth-Token`, or empty.
    pub(crate) auth_token: &'a str,
    /// `Origin`, if present; not necessarily text, and empty when it occurs twice.
    pub(crate) origin: Option<&'a [u8]>,
    /// The framing of the body.
    pub(crate) coding: Coding,
}

/// The end of a head, as far as it has come.
pub(crate) enum HeadEnd {
    /// Not there yet.
    Part,
    /// After this many bytes.
    At(usize),
    /// Beyond the limit.
    TooLong,
}

/// Looks for the end of the head that `bytes` begin with. `searched` counts the bytes that were
/// searched before, so that a head in many pieces is searched once.
pub(crate) fn end(bytes: &[u8], searched: &mut usize, bytes_max: usize) -> HeadEnd {
    // The four bytes of the end may have come in two pieces.
    let from = std::mem::take(searched).saturating_sub(3).min(bytes.len());
    match memchr::memmem::find(&bytes[from..], b"\r\n\r\n").map(|at| from + at + 4) {
        Some(end) if end <= bytes_max => HeadEnd::At(end),
        None if bytes.len() < bytes_max => {
            *searched = bytes.len();
            HeadEnd::Part
        }
        _ => HeadEnd::TooLong,
    }
}

impl<'a> Head<'a> {
    /// Parses a whole head; `fields` provides room for its headers.
    ///
    /// # Errors
    /// When it is malformed.
    pub(crate) fn read(
        bytes: &'a [u8],
        fields: &'a mut [httparse::Header<'a>],
    ) -> Result<Self, Fault> {
        let mut request = httparse::Request::new(fields);
        match request.parse(bytes) {
            Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
            Ok(httparse::Status::Complete(_)) if has_bare_line_feed(bytes) => {
                return Err(BARE_LINE_FEED);
            }
            Ok(httparse::Status::Complete(_)) => {}
            _ => return Err(NO_REQUEST),
        }

        let httparse::Request { method, path, version, headers } = request;
        let (path, query, authority) = parts(path.unwrap_or("/"));
        let (is_head, is_old) = (method == Some("HEAD"), version != Some(1));
        let method = if is_head { "GET" } else { method.unwrap_or("") };
        Ok(Self { method, is_head, path, query, is_old, authority, fields: headers })
    }

    /// Reads and checks the header fields that decide something.
    ///
    /// # Errors
    /// When one of them is malformed or occurs twice; the request must be refused.
    pub(crate) fn fields(&self) -> Result<HeadFields<'a>, Fault> {
        Ok(HeadFields {
            host: self.host()?,
            authorization: self.text("authorization")?,
            auth_token: self.text("x-auth-token")?,
            // Some libraries send an Origin of their own beside the one that they are given, so two
            // are not refused here; no list of allowed origins contains the empty one.
            origin: self.single("origin").unwrap_or(Some(b"")),
            coding: Coding::of(self)?,
        })
    }

    /// Name and value of every line, in order.
    pub(crate) fn all(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&'a str, &'a [u8])> + Clone + use<'a> {
        self.fields.iter().map(|field| (field.name, field.value))
    }

    /// The value of every line of a header.
    pub(crate) fn lines(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let named = self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.trim_ascii())
    }

    /// The value of a header that occurs at most once.
    ///
    /// # Errors
    /// When it occurs twice.
    pub(crate) fn single(&self, name: &'static str) -> Result<Option<&'a [u8]>, TwoLines> {
        let mut lines = self.lines(name);
        let first = lines.next();
        if lines.next().is_some() { Err(TwoLines) } else { Ok(first) }
    }

    /// Whether a header that is a list contains a word.
    pub(crate) fn lists(&self, name: &'static str, word: &[u8]) -> bool {
        let mut items = self.lines(name).flat_map(|line| line.split(|byte| *byte == b','));
        items.any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
    }

    /// A header that is a list, as one line, without lines that are not UTF-8.
    pub(crate) fn list(&self, name: &'static str) -> Cow<'a, str> {
        let mut lines = self.lines(name).filter_map(|line| std::str::from_utf8(line).ok());
        let first = Cow::Borrowed(lines.next().unwrap_or_default());
        lines.fold(first, |list, line| Cow::Owned(format!("{list},{line}")))
    }

    /// The text of a header with credentials; empty when it is missing.
    fn text(&self, name: &'static str) -> Result<&'a str, Fault> {
        let value = self.single(name).map_err(|TwoLines| BAD_CREDENTIALS)?.unwrap_or_default();
        std::str::from_utf8(value).map_err(|_| BAD_CREDENTIALS)
    }

    /// The host of the request: that of a whole URL goes before the header (RFC 9112 section
    /// 3.2.2).
    fn host(&self) -> Result<&'a str, Fault> {
        if self.authority.is_some_and(|authority| authority.is_empty() || !is_host(authority)) {
            return Err(BAD_TARGET);
        }
        let named = self.single("host").map_err(|_| BAD_HOST)?;
        if named.is_none() && !self.is_old {
            return Err(BAD_HOST);
        }

        // Checked even where the URL wins: a proxy in front may have gone by the header.
        let named = std::str::from_utf8(named.unwrap_or_default())
            .ok()
            .filter(|host| is_host(host))
            .ok_or(BAD_HOST)?;
        Ok(self.authority.unwrap_or(named))
    }
}

/// The framing of a body, as its head announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// A body of this many bytes; 0 when the head announces none.
    Length(u64),
    /// A body in chunks.
    Chunked,
}

impl Coding {
    /// The framing that a head announces.
    ///
    /// # Errors
    /// When it is ambiguous or not supported.
    pub(crate) fn of(head: &Head<'_>) -> Result<Self, Fault> {
        let coding = head.single("transfer-encoding").map_err(|TwoLines| BAD_LENGTH)?;
        let length = head.single("content-length").map_err(|TwoLines| BAD_LENGTH)?;

        match (coding, length) {
            (None, None) => Ok(Self::Length(0)),
            (None, Some(length)) => digits(length).map(Self::Length).ok_or(BAD_LENGTH),
            (Some(coding), None) if !head.is_old => {
                let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
                if is_chunked { Ok(Self::Chunked) } else { Err(OTHER_CODING) }
            }
            // Both together, or chunks of HTTP/1.0: the classic ways to smuggle a second request
            // past a proxy.
            _ => Err(BAD_LENGTH),
        }
    }

    /// Whether there is no body.
    pub(crate) fn is_none(self) -> bool {
        self == Self::Length(0)
    }
}

/// The number of a value of digits alone, which every reader takes for the same; `u64::MAX` for
/// greater ones.
pub(crate) fn digits(value: &[u8]) -> Option<u64> {
    // `parse` takes a plus sign too.
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
    Some(number.unwrap_or(u64::MAX))
}

/// A header that occurs twice but may not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TwoLines;

/// Whether a line ends with a line feed alone. The parser takes that for a line end, and a proxy in
/// front may not: the next line would be a header to one and another request to the other (RFC 9112
/// section 11.2).
fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

/// Whether a text can be a host, with its port or without (RFC 3986 section 3.2.2). An empty one
/// can, too: clients send it for a URL without a host.
fn is_host(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= HOST_BYTES_MAX
        && bytes.all(|byte| byte.is_ascii_graphic() && !br#"/?#@\<>"{}|^`,"#.contains(&byte))
}

/// Path, query and host of a target, which may be a whole URL (RFC 9112 section 3.2.2).
fn parts(target: &str) -> (&str, &str, Option<&str>) {
    // Only these schemes: a path may contain `://` as well.
    let whole = target
        .split_once("://")
        .filter(|(scheme, _)| SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)));
    let (target, root, authority) = match whole {
        None => (target, "", None),
        Some((_, rest)) => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (rest, "/", Some(authority))
        }
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    (if path.is_empty() { root } else { path }, query, authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_or_a_whole_url() {
        for (target, path, query, authority) in [
            ("/up", "/up", "", None),
            ("/app/k?a=b?c", "/app/k", "a=b?c", None),
            ("/up?next=http://x/y", "/up", "next=http://x/y", None),
            ("http://host:80/up?x", "/up", "x", Some("host:80")),
            ("HTTPS://host", "/", "", Some("host")),
            ("ws://host/a", "/a", "", Some("host")),
            ("http://host?x=/y", "/", "x=/y", Some("host")),
            ("ftp://host/x", "ftp://host/x", "", None),
            ("*", "*", "", None),
        ] {
            assert_eq!(parts(target), (path, query, authority), "{target}");
        }
    }

    /// The fields of a head with these lines, or the status that refuses it.
    fn fields<R>(head: &str, read: impl FnOnce(&Head<'_>, &HeadFields<'_>) -> R) -> Result<R, u16> {
        let bytes = format!("{head}\r\n\r\n").into_bytes();
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let head = Head::read(&bytes, &mut fields).map_err(|fault| fault.status)?;
        let fields = head.fields().map_err(|fault| fault.status)?;
        Ok(read(&head, &fields))
    }

    #[test]
    fn the_host_of_a_whole_url_goes_before_the_header() {
        let host = |head: &str| fields(head, |_, fields| fields.host.to_owned());
        assert_eq!(host("GET / HTTP/1.1\r\nHost: a.example:80").unwrap(), "a.example:80");
        assert_eq!(host("GET http://b.example/ HTTP/1.1\r\nHost: a").unwrap(), "b.example");
        assert_eq!(host("GET / HTTP/1.1\r\nHost:").unwrap(), "");
        assert_eq!(host("GET / HTTP/1.0").unwrap(), "");
        for bad in [
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b",
            "GET / HTTP/1.1\r\nHost: a, b",
            "GET / HTTP/1.1\r\nHost: a b",
            "GET / HTTP/1.1\r\nHost: a/b",
            "GET / HTTP/1.1\r\nHost: user@a",
            "GET / HTTP/1.1\r\nHost: \u{e4}",
            "GET http://a/ HTTP/1.1",
            "GET http://user@a/ HTTP/1.1\r\nHost: a",
            "GET http:///x HTTP/1.1\r\nHost: a",
        ] {
            assert_eq!(host(bad), Err(400), "{bad}");
        }
    }

    #[test]
    fn what_decides_something_stands_there_once_and_can_be_read() {
        let status = |lines: &[u8]| {
            let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n\r\n"].concat();
            let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let head = Head::read(&head, &mut fields).unwrap();
            head.fields().map_or_else(|fault| fault.status, |_| 200)
        };
        for name in ["Authorization", "X-Auth-Token", "Content-Length", "Transfer-Encoding"] {
            let value = match name {
                "Content-Length" => "0",
                "Transfer-Encoding" => "chunked",
                _ => "x",
            };
            let line = format!("{name}: {value}");
            assert_eq!(status(line.as_bytes()), 200, "{name}");
            assert_eq!(status(format!("{line}\r\nX: y\r\n{line}").as_bytes()), 400, "{name}");
        }
        assert_eq!(status(b"Authorization: Bearer \xff"), 400);
        assert_eq!(status(b"X-Auth-Token: \xff"), 400);
        assert_eq!(status(b"Origin: \xff"), 200, "the dialect says what becomes of it");
    }

    #[test]
    fn an_origin_is_there_whatever_it_is() {
        let origin = |line: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a{line}");
            fields(&head, |_, fields| fields.origin.map(<[u8]>::to_vec)).unwrap()
        };
        assert_eq!(origin(""), None);
        assert_eq!(origin("\r\nOrigin:"), Some(vec![]));
        assert_eq!(origin("\r\norigin: null "), Some(b"null".to_vec()));
        assert_eq!(
            origin("\r\nOrigin: https://a\r\nOrigin: https://b"),
            Some(vec![]),
            "listed nowhere"
        );
    }

    #[test]
    fn a_list_is_one_however_many_lines_it_takes() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive ,x\r\nProtocol: a\r\nconnection:  Upgrade\r\n\
                    protocol: b, c";
        fields(head, |head, _| {
            for word in ["upgrade", "keep-alive", "x"] {
                assert!(head.lists("connection", word.as_bytes()), "{word}");
            }
            assert!(!head.lists("connection", b"alive") && !head.lists("upgrade", b"upgrade"));
            assert_eq!(head.list("protocol"), "a,b, c");
            assert_eq!(head.list("upgrade"), "");
        })
        .unwrap();
    }
}
