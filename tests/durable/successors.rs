//! Who comes in the place of somebody that has just died: an exclusive consumer, a producer with a name.

use crate::client::{Socket, setup};
use crate::harness::{Client, Daemon, head};
use std::time::Duration;

/// Rounds in a row; before there was somebody who looks, one in twelve was refused.
const ROUNDS: usize = 300;

/// How a client ends without a word.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// As a process that is killed.
    Fin,
    /// As one that has unread data, or whose machine has forgotten the connection.
    Reset,
    /// A close frame, and the socket closed without waiting for its answer.
    Hasty,
    /// A close frame whose answer is not waited for, as a page does it that reconnects; the socket stays.
    Close,
}

impl Death {
    /// Ends a client. What is returned is still open.
    fn strike(self, mut socket: Socket) -> Option<Socket> {
        match self {
            Self::Fin => {}
            Self::Reset => {
                let linger = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(socket.client.stream(), linger).unwrap();
            }
            Self::Hasty => socket.client.frame(0x88, b"\x03\xe8"),
            Self::Close => {
                socket.client.frame(0x88, b"\x03\xe8");
                return Some(socket);
            }
        }
        None
    }
}

/// So many of the rounds in which a successor was refused.
fn refused(daemon: &Daemon, path: &str, death: Death) -> usize {
    let mut holder = Socket::open(daemon.address, path);
    let mut refused = 0;
    for _ in 0..ROUNDS {
        let _open = death.strike(holder);
        holder = loop {
            let mut client = Client::raw(daemon.address);
            client.bytes(head(path).as_bytes());
            match client.accepted() {
                (101, _) => break Socket { client },
                (409, _) => refused += 1,
                other => panic!("{path}: {other:?}"),
            }
        };
    }
    holder.leave();
    refused
}

#[test]
fn nobody_is_refused_because_of_the_dead() {
    let daemon = setup().set("threads", 2).start();
    for path in [
        "/ws/v2/consumer/persistent/public/default/t/s",
        "/ws/v2/producer/persistent/public/default/t?producerName=ann",
        "/ws/v3/consumer/several?topics=a,b,c",
        "/ws/v2/consumer/non-persistent/public/default/t/s",
        "/ws/v2/producer/non-persistent/public/default/t?producerName=ann",
    ] {
        for death in [Death::Fin, Death::Reset, Death::Hasty, Death::Close] {
            assert_eq!(refused(&daemon, path, death), 0, "of {ROUNDS}, {path} {death:?}");
        }
    }
}

#[test]
fn the_living_keep_what_they_hold() {
    let daemon = setup().set("threads", 2).start();
    for path in [
        "/ws/v2/consumer/persistent/public/default/t/s",
        "/ws/v2/producer/persistent/public/default/t?producerName=ann",
    ] {
        let holder = Socket::open(daemon.address, path);
        for _ in 0..20 {
            assert_eq!(Socket::refused(daemon.address, path).0, 409, "{path}");
        }
        holder.leave();
        Socket::open(daemon.address, path);
    }
}
