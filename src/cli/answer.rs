//! One request of ours over HTTP/1.1, and its answer as far as it has come.

use std::io::{self, Read, Write};

/// Headers that an answer may have: the daemon's have ten at most.
const HEADERS_MAX: usize = 32;

/// The longest answer: a hundred messages of a MiB each, as JSON.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Sends a request that asks for the connection's end, and returns all that comes before it. The
/// socket has a time-out: a daemon that is stopped keeps its connections open.
pub(crate) fn exchange(mut socket: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    socket.write_all(request)?;
    let mut bytes = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An answer whose head has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HttpAnswer {
    /// The status.
    pub(crate) status: u16,
    /// Bytes of the head.
    pub(crate) head_bytes: usize,
    /// Bytes of the body, if they are told beforehand.
    pub(crate) body_bytes: Option<usize>,
}

/// What came is no answer of HTTP/1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoHttpAnswer;

impl HttpAnswer {
    /// Reads the head; `None` while it has not come as a whole.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, NoHttpAnswer> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) =
            response.parse(bytes).map_err(|_| NoHttpAnswer)?
        else {
            return Ok(None);
        };
        let mut headers = response.headers.iter();
        let length = headers.find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let body_bytes =
            length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
        let status = response.code.ok_or(NoHttpAnswer)?;
        Ok(Some(Self { status, head_bytes, body_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_the_status_and_how_long_head_and_body_are() {
        let good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let answer = HttpAnswer { status: 200, head_bytes: good.len() - 2, body_bytes: Some(2) };
        assert_eq!(HttpAnswer::read(good), Ok(Some(answer)));
        assert_eq!(HttpAnswer::read(&good[..20]), Ok(None));
        assert_eq!(HttpAnswer::read(b"hello, who is there?\r\n\r\n"), Err(NoHttpAnswer));
    }
}
