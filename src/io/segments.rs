//! One test: whatever is asked, the answer is the same however the request is cut into segments.

use super::Hub;
use super::clients::Clients;
use super::clock;
use super::connection::Sockets;
use super::foundation::drivers;
use super::listen;
use super::listen::{Acceptor, Listener};
use super::runtime::ChosenDriver;
use super::transport::Transport;
use super::worker::Worker;
use crate::dialect::{Kind, Settings};
use crate::shard::{Limits, Shard};
use rustix::fd::AsFd;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// What follows each request, so that an answer tells where it was taken to end.
const NEXT: &str = "GET /up HTTP/1.1\r\nHost: next\r\n\r\n";

/// A shard of a daemon, and where it listens.
fn worker(driver: ChosenDriver) -> (Worker, SocketAddr) {
    let settings: Arc<Settings> = Arc::default();
    let hub = Arc::new(Hub::new(1, 1, &[], &settings).unwrap());
    let socket = listen::tcp(([127, 0, 0, 1], 0).into(), 1).unwrap().remove(0);
    let address = listen::local_address(&socket).unwrap();
    let metrics = Arc::clone(&hub.metrics[0]);
    let limits = Limits { head_bytes_max: 400, ..Limits::default() };
    let shard = Shard::new(settings, limits, Arc::clone(&metrics), clock::now());
    let kinds = ["personium-event", "echo", "pulsar"].map(|name| Kind::named(name).unwrap()).into();
    let wake = hub.mailboxes[0].waker().as_fd();
    let acceptor = Acceptor::Own;
    let listener = Listener { socket, kinds, tls: None, proxied: false, acceptor };
    let clients = Clients::new(Arc::default());
    let transport = Transport::new(driver, wake).unwrap();
    let mut sockets = Sockets::new(vec![listener], transport, Arc::default(), clients, metrics);
    sockets.listen().unwrap();
    (Worker::new(shard, sockets, Arc::clone(&hub), 0), address)
}

/// What is answered to bytes that come in these pieces.
fn answer<'a>(
    worker: &mut Worker,
    address: SocketAddr,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_nonblocking(true).unwrap();
    for piece in pieces {
        // Who has been told that it is over may be cut off.
        let _ = client.write_all(piece);
        while worker.turn() {}
    }
    let mut bytes = Vec::new();
    for _ in 0..3 {
        while worker.turn() {}
        match client.read_to_end(&mut bytes) {
            Ok(_) => break,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset))
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn requests() -> Vec<Vec<u8>> {
    let post = |headers: &str, body: &str| {
        format!("POST /apps/7/events HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}").into_bytes()
    };
    let shake = |lines: &str| {
        format!(
            "GET /demo/__event HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        )
    };
    let good = "Host: x\r\nConnection: Upgrade\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut requests = vec![
        "GET /up HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "HEAD /up HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "GET http://x/up HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "GET /up HTTP/1.0\r\n\r\n".into(),
        "GET /up HTTP/1.1\nHost: x\n\n".into(),
        "GET /up HTTP/1.1\r\nHost: x\nX: y\r\n\r\n".into(),
        "GET /up HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n".into(),
        "GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "\r\nGET /up HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "\r\n\r\n".into(),
        "\u{16}\u{3}\u{1}\u{2}".into(),
        "GET /up HTTP/1.1\r\nHost: x\r\n\r\n\u{16}\u{3}\u{1}\u{2}".into(),
        "GET /demo/__event HTTP/1.0\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n\r\n".into(),
        format!("GET /up HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(400)).into_bytes(),
        post("Content-Length: 2\r\n", "{}"),
        post("Content-Length: 0\r\n", ""),
        post("Content-Length: -2\r\n", "{}"),
        post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"),
        post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "{}"),
        post("Content-Length: 99999999999999999999\r\n", "{}"),
        post("Expect: 200-ok\r\n", ""),
        post(chunked, "1\r\n{\r\n1;a=b\r\n}\r\n0\r\n\r\n"),
        post(chunked, "2\r\n{}\r\n0\r\nX: y\r\n\r\n"),
        post(chunked, "2\r\n{}\r\n0\r\nX: y\n\r\n"),
        post(chunked, "2\r\n{}\r\n0\r\n\n"),
        post(chunked, "2;a\n{}\r\n0\r\n\r\n"),
        post(chunked, "2\r\n{}x\r\n0\r\n\r\n"),
        post(chunked, &format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(300))),
        post(chunked, "ffffffff\r\n{}"),
    ];
    requests.extend([good, "Host: x\r\nConnection: keep-alive\r\nConnection: upgrade\r\n"].map(
        |lines| {
            // A ping and a close behind it.
            [shake(lines).as_bytes(), b"\x89\x80\0\0\0\0", b"\x88\x82\0\0\0\0\x03\xe8"].concat()
        },
    ));
    requests.extend(
        ["", "Host: x\r\n", "Host: x\r\nHost: y\r\nConnection: Upgrade\r\n"]
            .map(|lines| shake(lines).into_bytes()),
    );
    requests.push(shake(&format!("{good}Content-Length: 6\r\n")).into_bytes());
    requests.push([shake(good).as_bytes(), b"no frames"].concat());
    requests
}

#[test]
fn no_answer_depends_on_how_a_request_is_cut() {
    drivers().into_iter().for_each(cut_everywhere);
}

fn cut_everywhere(driver: ChosenDriver) {
    let (mut worker, address) = worker(driver);
    let mut answers = std::collections::BTreeMap::new();
    for request in requests() {
        let bytes = [&request, NEXT.as_bytes()].concat();
        let whole = answer(&mut worker, address, std::iter::once(&bytes[..]));
        let shown = String::from_utf8_lossy(&request).into_owned();
        for cut in 1..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let cut_up = answer(&mut worker, address, [first, second].into_iter());
            assert_eq!(cut_up, whole, "{shown:?}, cut at {cut}");
        }
        assert_eq!(answer(&mut worker, address, bytes.chunks(1)), whole, "{shown:?}, byte by byte");
        *answers.entry(whole.get(9..12).unwrap_or_default().to_owned()).or_insert(0) += 1;
    }
    let statuses: Vec<&str> = answers.keys().map(String::as_str).collect();
    assert_eq!(statuses, ["", "101", "200", "400", "404", "413", "417", "426", "431"]);
}
