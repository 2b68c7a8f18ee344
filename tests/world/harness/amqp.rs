//! A publisher on RabbitMQ that puts its frames together by itself, and so may say what no client library would.

use super::DEADLINE;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// A connection with one channel.
pub(crate) struct RawPublisher(TcpStream);

impl RawPublisher {
    /// Connects to the broker at a port of loopback.
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut publisher = Self(stream);
        publisher.0.write_all(b"AMQP\0\0\x09\x01").unwrap();
        publisher.await_method(0, [10, 10]);
        let start =
            [&[0, 0, 0, 0][..], &short(b"PLAIN"), &long(b"\0guest\0guest"), &short(b"en_US")]
                .concat();
        publisher.method(0, [10, 11], &start);
        publisher.await_method(0, [10, 30]);
        publisher.method(0, [10, 31], &[0, 10, 0, 2, 0, 0, 0, 0]);
        publisher.method(0, [10, 40], &[&short(b"/")[..], &[0, 0]].concat());
        publisher.await_method(0, [10, 41]);
        publisher.method(1, [20, 10], &[0]);
        publisher.await_method(1, [20, 11]);
        publisher
    }

    /// Publishes a message with these headers, which are the bytes of a table without its length.
    pub(crate) fn publish(&mut self, exchange: &str, key: &[u8], headers: &[u8], body: &[u8]) {
        let target = [&[0, 0][..], &short(exchange.as_bytes()), &short(key), &[0]].concat();
        self.method(1, [60, 40], &target);
        let content =
            [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), &[0x20, 0], &long(headers)]
                .concat();
        self.frame(2, 1, &content);
        self.frame(3, 1, body);
    }

    fn method(&mut self, channel: u8, [class, method]: [u8; 2], arguments: &[u8]) {
        self.frame(1, channel, &[&[0, class, 0, method][..], arguments].concat());
    }

    fn frame(&mut self, kind: u8, channel: u8, payload: &[u8]) {
        let size = (payload.len() as u32).to_be_bytes();
        self.0.write_all(&[&[kind, 0, channel][..], &size, payload, &[0xCE]].concat()).unwrap();
    }

    fn await_method(&mut self, channel: u8, [class, method]: [u8; 2]) {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes(head[3..].try_into().unwrap()) as usize + 1];
        self.0.read_exact(&mut payload).unwrap();
        assert_eq!((&head[..3], &payload[..4]), (&[1, 0, channel][..], &[0, class, 0, method][..]));
    }
}

/// A text behind its length of one byte.
pub(crate) fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

/// Bytes behind their length of four.
pub(crate) fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}
