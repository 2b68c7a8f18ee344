//! A cable that is long, or a server that says another version: a relay between daemons and one server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Bytes on their way, and when they arrive.
type Parcel = (Instant, Vec<u8>);

/// What a relay does.
#[derive(Clone, Default)]
pub(crate) struct RelayWish {
    /// How long bytes take in each direction.
    pub(crate) delay: Duration,
    /// The version that the server shall seem to have.
    pub(crate) version: Option<&'static str>,
}

/// Starts a relay at an address, to a server; it is there until the tests end. Returns where it listens.
pub(crate) fn relay(at: Ipv4Addr, to: SocketAddr, wish: RelayWish) -> SocketAddr {
    let listener = TcpListener::bind((at, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect_timeout(&to, Duration::from_secs(2)) else {
                continue;
            };
            let wish = wish.clone();
            std::thread::spawn(move || connect(&client, server, &wish));
        }
    });
    address
}

fn connect(client: &TcpStream, server: TcpStream, wish: &RelayWish) {
    let (to_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let mut from_server = BufReader::new(server);
    let mut first = String::new();
    if let Some(version) = wish.version {
        let _ = from_server.read_line(&mut first);
        let (head, rest) = first.split_once(r#""version":""#).unwrap_or((&first, r#"""#));
        let rest = rest.split_once('"').map_or("", |(_, rest)| rest);
        first = format!(r#"{head}"version":"{version}"{rest}"#);
    }
    let delay = wish.delay;
    carry(from_server, to_client, delay, first.into_bytes());
    carry(client.try_clone().unwrap(), to_server, delay, Vec::new());
}

/// Carries bytes one way, on two threads: one reads, one waits until they are due.
fn carry(
    mut from: impl std::io::Read + Send + 'static,
    mut to: TcpStream,
    delay: Duration,
    first: Vec<u8>,
) {
    let (send, parcels) = channel::<Parcel>();
    let arrive: Receiver<Parcel> = parcels;
    std::thread::spawn(move || {
        let mut chunk = [0; 16 * 1024];
        let _ = send.send((Instant::now() + delay, first));
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if send.send((Instant::now() + delay, chunk[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in arrive {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
