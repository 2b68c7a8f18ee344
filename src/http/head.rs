//! The head of a request, on every listener: parsed once, when its end has come, however small the pieces it comes in.
//!
//! A header that decides something stands there once and can be read, or the request is refused: whoever looks at the
//! first line of two may be a proxy, and whoever looks at the last may be somebody else (RFC 9110 section 5.3,
//! RFC 9112 sections 3.2 and 6.3). Headers that are lists are one list, however many lines they take.
//!
//! This file does not know what is asked for, nor who answers.

use std::borrow::Cow;

/// Most header fields of a request. Browsers send about 15, proxies add some; nginx and Apache allow 100.
pub(crate) const HEADERS_MAX: usize = 100;
/// Longest `Host`: a name of the DNS has 253 characters, a port five. A session may keep it.
const HOST_BYTES_MAX: usize = 253 + 1 + 5;
/// The schemes of a target that is a whole URL.
const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

/// What is wrong with a request: the status that refuses it, and a sentence for whoever has sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

const NO_REQUEST: Fault = Fault { status: 400, reason: "This is not a correct HTTP request." };
/// A head that is longer than allowed, or has too many fields.
pub(crate) const TOO_LARGE: Fault =
    Fault { status: 431, reason: "The head of the request is too large." };
const BARE_LINE_FEED: Fault = Fault {
    status: 400,
    reason: "A line of the request does not end with CR and LF (RFC 9112 section 2.2).",
};
const BAD_LENGTH: Fault = Fault {
    status: 400,
    reason: "The length of the body is not told as it should be: one Content-Length of digits alone, or \
             Transfer-Encoding: chunked (RFC 9112 section 6.3).",
};
const OTHER_CODING: Fault =
    Fault { status: 501, reason: "The one transfer coding that is read is chunked." };
const BAD_TARGET: Fault = Fault {
    status: 400,
    reason: "The URL of the request names no host, or names it wrongly (RFC 9112 section 3.2.2).",
};
const BAD_HOST: Fault = Fault {
    status: 400,
    reason: "The header Host is missing, wrong or stands there twice (RFC 9112 section 3.2).",
};
const BAD_CREDENTIALS: Fault =
    Fault { status: 400, reason: "A header with a token cannot be read, or stands there twice." };

/// A whole head.
pub(crate) struct Head<'a> {
    /// The method; `GET` for `HEAD`, which asks for the same (RFC 9110 section 9.3.2).
    pub(crate) method: &'a str,
    /// Whether the answer is to have no body.
    pub(crate) is_head: bool,
    /// The path, without the query.
    pub(crate) path: &'a str,
    /// The query without `?`.
    pub(crate) query: &'a str,
    /// Whether it is of HTTP/1.0, or a version before.
    pub(crate) is_old: bool,
    /// The host of a target that is a whole URL.
    authority: Option<&'a str>,
    fields: &'a [httparse::Header<'a>],
}

/// The header fields that decide something on any listener.
pub(crate) struct HeadFields<'a> {
    /// Whom the request is for; nothing when it does not say.
    pub(crate) host: &'a str,
    /// `Authorization`, or nothing.
    pub(crate) authorization: &'a str,
    /// `X-Auth-Token`, or nothing.
    pub(crate) auth_token: &'a str,
    /// `Origin`, if it is there; it need not be text, and is empty where two lines contradict each other.
    pub(crate) origin: Option<&'a [u8]>,
    /// How the body comes.
    pub(crate) coding: Coding,
}

/// How far a head has come.
pub(crate) enum HeadEnd {
    /// Its end is still to come.
    Part,
    /// It has so many bytes.
    At(usize),
    /// It is longer than allowed.
    TooLong,
}

/// Looks for the end of the head that bytes begin with. `searched` counts the bytes of it that have been looked through
/// before.
pub(crate) fn end(bytes: &[u8], searched: &mut usize, bytes_max: usize) -> HeadEnd {
    // The end may lie across the seam.
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
    /// Reads a whole head; `fields` has room for what it has.
    ///
    /// # Errors
    /// When it is none.
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

    /// Verifiers the header fields that decide something.
    ///
    /// # Errors
    /// When one of them is not as it should be; then nothing of the request may be done.
    pub(crate) fn fields(&self) -> Result<HeadFields<'a>, Fault> {
        let text = |name| self.text(name).ok_or(BAD_CREDENTIALS);
        Ok(HeadFields {
            host: self.host()?,
            authorization: text("authorization")?,
            auth_token: text("x-auth-token")?,
            // Libraries send their own beside the one that they are given. No list of origins has the empty one.
            origin: self.single("origin").unwrap_or(Some(b"")),
            coding: Coding::of(self)?,
        })
    }

    /// The name and value of every line, in order.
    pub(crate) fn all(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&'a str, &'a [u8])> + Clone + use<'a> {
        self.fields.iter().map(|field| (field.name, field.value))
    }

    /// Every line of a header.
    pub(crate) fn lines(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let named = self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.trim_ascii())
    }

    /// The one line of a header, if there is any.
    ///
    /// # Errors
    /// When there are more.
    pub(crate) fn single(&self, name: &'static str) -> Result<Option<&'a [u8]>, TwoLines> {
        let mut lines = self.lines(name);
        let first = lines.next();
        if lines.next().is_some() { Err(TwoLines) } else { Ok(first) }
    }

    /// Whether a header that is a list has a word in it.
    pub(crate) fn lists(&self, name: &'static str, word: &[u8]) -> bool {
        let mut items = self.lines(name).flat_map(|line| line.split(|byte| *byte == b','));
        items.any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
    }

    /// A header that is a list, as one line. What is no text is left out.
    pub(crate) fn list(&self, name: &'static str) -> Cow<'a, str> {
        let mut lines = self.lines(name).filter_map(|line| std::str::from_utf8(line).ok());
        let first = Cow::Borrowed(lines.next().unwrap_or_default());
        lines.fold(first, |list, line| Cow::Owned(format!("{list},{line}")))
    }

    /// The text of a header that may be missing; `None` when it is no text, or stands there twice.
    fn text(&self, name: &'static str) -> Option<&'a str> {
        match self.single(name) {
            Ok(None) => Some(""),
            Ok(Some(value)) => std::str::from_utf8(value).ok(),
            Err(TwoLines) => None,
        }
    }

    /// Whom the request is for: what a whole URL names goes before the header (RFC 9112 section 3.2.2).
    fn host(&self) -> Result<&'a str, Fault> {
        if self.authority.is_some_and(|authority| authority.is_empty() || !is_host(authority)) {
            return Err(BAD_TARGET);
        }
        let named = self.single("host").map_err(|_| BAD_HOST)?;
        if named.is_none() && !self.is_old {
            return Err(BAD_HOST);
        }
        let named =
            std::str::from_utf8(named.unwrap_or_default()).ok().filter(|host| is_host(host));
        Ok(self.authority.unwrap_or(named.ok_or(BAD_HOST)?))
    }
}

/// How a body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// At once, so many bytes; none when the head says nothing of a body.
    Length(u64),
    /// In chunks.
    Chunked,
}

impl Coding {
    /// What a head says.
    ///
    /// # Errors
    /// When it can be taken for more than one thing.
    pub(crate) fn of(head: &Head<'_>) -> Result<Self, Fault> {
        let single = |name| head.single(name).map_err(|TwoLines| BAD_LENGTH);
        match (single("transfer-encoding")?, single("content-length")?) {
            (None, None) => Ok(Self::Length(0)),
            (None, Some(length)) => digits(length).map(Self::Length).ok_or(BAD_LENGTH),
            (Some(coding), None) if !head.is_old => {
                let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
                if is_chunked { Ok(Self::Chunked) } else { Err(OTHER_CODING) }
            }
            _ => Err(BAD_LENGTH),
        }
    }

    /// Whether there is none.
    pub(crate) fn is_none(self) -> bool {
        self == Self::Length(0)
    }
}

/// The number that digits alone make, so that nobody reads another; the greatest for one that is greater.
pub(crate) fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
    Some(number.unwrap_or(u64::MAX))
}

/// A header stands there twice that may not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TwoLines;

/// Whether a line ends with a line feed alone. The parser takes that for an end, of the head too, and a proxy in front
/// may not: what follows would be a header to one and another request to the other (RFC 9112 section 11.2).
fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

/// Whether a text can be a host, with its port or without (RFC 3986 section 3.2.2). Nothing can, too: that is what a
/// client sends for a URL without one.
fn is_host(text: &str) -> bool {
    let is_foreign = |byte: u8| !byte.is_ascii_graphic() || br#"/?#@\<>"{}|^`,"#.contains(&byte);
    text.len() <= HOST_BYTES_MAX && !text.bytes().any(is_foreign)
}

/// Path, query and host of a target, which may be a whole URL (RFC 9112 section 3.2.2).
fn parts(target: &str) -> (&str, &str, Option<&str>) {
    let whole = target.split_once("://");
    let whole =
        whole.filter(|(scheme, _)| SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)));
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
