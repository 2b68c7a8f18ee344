//! A WebSocket client that does exactly what it is told, right or wrong, over TCP or TLS.

use super::{DEADLINE, PATH, token};
use fanfare::dialect::Kind;
use fanfare::dialect::client::{ClientHeard, ClientStage, ClientTalk, ClientWish};
use rustix::net::{AddressFamily, SocketType};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A frame from the daemon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN and reserved bits and opcode.
    pub(crate) first: u8,
    /// The payload.
    pub(crate) payload: Vec<u8>,
}

/// A correct request for a path.
pub(crate) fn head(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Sends raw bytes and reads to the end: the status and everything after the status line.
pub(crate) fn http(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut client = Client::raw(address);
    client.bytes(request);
    client.response()
}

pub(crate) struct Client {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    received: Vec<u8>,
}

impl Client {
    /// A connection on which nothing has been said.
    pub(crate) fn raw(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// The same from an address of loopback.
    pub(crate) fn raw_from(from: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((from, 0))).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, tls: None, received: Vec::new() }
    }

    /// A connection whose TLS handshake was made with whoever `localhost` is for, or why it was not.
    pub(crate) fn secure(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        Self::raw(address).encrypted(config)
    }

    /// The same connection, after its TLS handshake.
    pub(crate) fn encrypted(mut self, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = Box::new(ClientConnection::new(Arc::clone(config), name).unwrap());
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(tls);
        Ok(self)
    }

    /// The same with an accepted handshake of WebSocket.
    pub(crate) fn secure_session(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let mut client = Self::secure(address, config)?;
        client.bytes(head(PATH).as_bytes());
        match client.answer() {
            101 => Ok(client),
            status => Err(io::Error::other(format!("status {status}"))),
        }
    }

    /// What TLS has agreed on.
    pub(crate) fn tls(&mut self) -> &mut ClientConnection {
        self.tls.as_mut().expect("a connection with TLS")
    }

    /// Reads as it comes: `Ok(0)` is an end that was announced, where TLS wants one to be.
    pub(crate) fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.tls {
                None => self.stream.read(chunk),
                Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(chunk),
            };
            // By the end of a ring of io_uring, when a test has tried one: with a time-out, the kernel
            // does not go on by itself.
            if !read.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
                return read;
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).write_all(bytes),
        }
    }

    /// A connection whose handshake was accepted.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the handshake was refused")
    }

    /// The same at a path.
    #[track_caller]
    pub(crate) fn upgraded(address: SocketAddr, path: &str) -> Self {
        let mut client = Self::raw(address);
        client.bytes(head(path).as_bytes());
        assert_eq!(client.answer(), 101, "{path}");
        client
    }

    /// The same, or the status that refused it.
    pub(crate) fn try_connect(address: SocketAddr) -> Result<Self, u16> {
        let mut client = Self::raw(address);
        client.bytes(head(PATH).as_bytes());
        match client.answer() {
            101 => Ok(client),
            status => Err(status),
        }
    }

    /// Reads the head of the answer; returns its status, or 0 when the connection ended without any.
    pub(crate) fn answer(&mut self) -> u16 {
        self.accepted().0
    }

    /// Reads the head of the answer: its status and its text.
    pub(crate) fn accepted(&mut self) -> (u16, String) {
        loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                let text = String::from_utf8(head).unwrap();
                return (text[9..12].parse().unwrap(), text);
            }
            if !self.more() {
                return (0, String::new());
            }
        }
    }

    /// The status of the answer, if it comes within a time (and at least a millisecond).
    pub(crate) fn answer_within(&mut self, time: Duration) -> Option<u16> {
        let silent =
            self.received.is_empty() && self.is_silent_for(time.max(Duration::from_millis(1)));
        (!silent).then(|| self.answer())
    }

    /// Reads so many bytes.
    #[track_caller]
    pub(crate) fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(self.more(), "the connection ended");
        }
        self.received.drain(..length).collect()
    }

    /// Reads a whole answer that ends the connection.
    pub(crate) fn response(&mut self) -> (u16, String) {
        while self.more() {}
        let text = String::from_utf8(std::mem::take(&mut self.received)).unwrap();
        let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, text.split_once("\r\n").map_or(String::new(), |(_, rest)| rest.into()))
    }

    /// Sends bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.write(bytes).unwrap();
    }

    /// Sends bytes that the daemon may refuse to take. Returns whether it took them.
    pub(crate) fn try_bytes(&mut self, bytes: &[u8]) -> bool {
        self.write(bytes).is_ok()
    }

    /// Sends a frame with a first byte as told, masked, with the shortest length.
    pub(crate) fn frame(&mut self, first: u8, payload: &[u8]) {
        self.bytes(&frame(first, payload));
    }

    /// Sends a text message.
    pub(crate) fn say(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes());
    }

    /// Sends a text message and returns the answer.
    pub(crate) fn ask(&mut self, text: &str) -> String {
        self.say(text);
        self.text()
    }

    /// Sends a token and subscribes to everything, in the classic spelling.
    pub(crate) fn follow(&mut self) {
        self.follow_with(&token());
    }

    /// The same with a token of one's own.
    #[track_caller]
    pub(crate) fn follow_with(&mut self, token: &str) {
        self.speak(
            "personium-event",
            ClientWish { token: Some(token.into()), ..ClientWish::default() },
        );
    }

    /// Connects and follows what is wanted, in the words of a dialect's own client.
    #[track_caller]
    pub(crate) fn following(
        address: SocketAddr,
        dialect: &str,
        path: &str,
        wish: ClientWish,
    ) -> Self {
        let mut client = Self::raw(address);
        let profile = Kind::named(dialect).unwrap().client().profile();
        let (path, token) = profile.request(path, wish.token.as_deref());
        let mut request = head(&path);
        if let Some(token) = token {
            request.insert_str(request.len() - 2, &format!("X-Auth-Token: {token}\r\n"));
        }
        client.bytes(request.as_bytes());
        assert_eq!(client.answer(), 101, "{path}");
        client.speak(dialect, wish);
        client
    }

    /// Follows what is wanted, in the words of a dialect's own client.
    #[track_caller]
    pub(crate) fn speak(&mut self, dialect: &str, wish: ClientWish) {
        let mut talk = ClientTalk::new(Kind::named(dialect).unwrap().client(), wish);
        let mut say = talk.open();
        loop {
            say.iter().for_each(|text| self.say(text));
            if talk.stage() == ClientStage::Following {
                return;
            }
            let text = self.text();
            let (heard, next) = talk.hear(&text);
            assert!(matches!(heard, ClientHeard::Success(_)), "{text}");
            say = next;
        }
    }

    /// Sends a token.
    pub(crate) fn show(&mut self, token: &str) {
        self.say(&format!("{{\"access_token\":\"{token}\"}}"));
    }

    /// The next frame; `None` at the end of the connection.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Some(frame);
            }
            if !self.more() {
                assert!(self.received.is_empty(), "the connection ended inside a frame");
                return None;
            }
        }
    }

    /// The next text message; pings are passed over.
    #[track_caller]
    pub(crate) fn text(&mut self) -> String {
        loop {
            let frame = self.next().expect("the connection ended");
            match frame.first {
                0x81 => return String::from_utf8(frame.payload).unwrap(),
                0x89 => {}
                _ => panic!("not a text: {frame:?}"),
            }
        }
    }

    /// Whether a whole event comes next rather than another frame; `None` at the end, even inside a frame.
    pub(crate) fn event_or_end(&mut self) -> Option<bool> {
        loop {
            if let Some((frame, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Some(frame.first == 0x81);
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// The code of the close frame that comes next.
    #[track_caller]
    pub(crate) fn close_code(&mut self) -> u16 {
        let frame = self.next().expect("the connection ended without a close frame");
        assert_eq!(frame.first, 0x88, "{frame:?}");
        u16::from_be_bytes(frame.payload[..2].try_into().unwrap())
    }

    /// Whether the connection ends, with or without further frames, within a time.
    pub(crate) fn ends_within(&mut self, time: Duration) -> bool {
        let start = Instant::now();
        self.stream.set_read_timeout(Some(time)).unwrap();
        let ended = loop {
            match self.read(&mut [0; 4096]) {
                Ok(0) => break true,
                Ok(_) if start.elapsed() < time => {}
                Ok(_) => break false,
                Err(error) => break !timed_out(&error),
            }
        };
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        ended
    }

    /// Whether nothing comes within a time.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        self.received.is_empty() && peeked.is_err_and(|error| timed_out(&error))
    }

    /// Whether a frame, or the end, has come already.
    // For the tests of the cluster.
    #[allow(dead_code)]
    pub(crate) fn has_news(&mut self) -> bool {
        parse(&self.received).is_some() || !self.is_silent_for(Duration::from_millis(1))
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads more; `false` at the end or after a reset.
    fn more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.read(&mut chunk) {
            Ok(count) => {
                self.received.extend_from_slice(&chunk[..count]);
                count > 0
            }
            Err(error) if timed_out(&error) => panic!("nothing came for {DEADLINE:?}"),
            Err(_) => false,
        }
    }
}

fn timed_out(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    // Sixteen at once: some tests send gigabytes, without optimisation.
    let mask = u128::from_ne_bytes(std::array::from_fn(|at| MASK[at % MASK.len()]));
    let (whole, rest) = payload.as_chunks();
    whole.iter().for_each(|word| {
        bytes.extend_from_slice(&(u128::from_ne_bytes(*word) ^ mask).to_ne_bytes());
    });
    bytes.extend(rest.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A whole frame at the start of `bytes`, and its length.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert!(second < 0x80, "a server's frame is masked");
    let (length, start) = match second {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into(), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
        length => (length.into(), 2),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    Some((Frame { first, payload }, start + length))
}
