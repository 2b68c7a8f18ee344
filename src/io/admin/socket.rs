//! The sockets of the admin listener: on an address, and on a path, where the kernel tells the
//! peer's user.

use crate::io::handover::ListenerPlace;
use crate::io::inherited::Inherited;
use crate::io::listen::{self, ListenError, SocketKey};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use smallvec::SmallVec;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The listening sockets, before there is a runtime.
pub(in crate::io) struct AdminListeners {
    /// The address, with the port that was chosen for port 0.
    pub(in crate::io) address: SocketAddr,
    /// The configured address.
    asked: SocketAddr,
    tcp: OwnedFd,
    unix: Option<OwnedFd>,
}

impl AdminListeners {
    /// Listens on the address, and on the path if there is one, unless the process before does.
    ///
    /// # Errors
    /// When one of them cannot be had.
    pub(in crate::io) fn listen(
        asked: SocketAddr,
        path: Option<&Path>,
        inherited: &mut Inherited,
    ) -> Result<Self, ListenError> {
        let passed = path.and_then(|path| {
            let is_place = |place: &ListenerPlace| {
                matches!(place, ListenerPlace::AdminSocket(it) if it == path)
            };
            // Without its path, by which operators find it, it is of no use.
            inherited.take(is_place).pop().filter(|_| listen::is_socket(path))
        });
        let unix = match (passed, path) {
            (None, Some(path)) => Some(listen::private_unix(SocketKey::Admin, path)?),
            (passed, _) => passed,
        };
        let is_place = |place: &ListenerPlace| *place == ListenerPlace::Admin(asked);
        let (tcp, address) = match inherited.take(is_place).pop() {
            Some(tcp) => {
                let address = listen::local_address(&tcp).unwrap_or(asked);
                (tcp, address)
            }
            None => listen::tcp_one(asked)?,
        };
        Ok(Self { address, asked, tcp, unix })
    }

    /// The sockets of the runtime that this is called in.
    pub(super) fn open(self) -> io::Result<AdminSockets> {
        let unix = self.unix.map(|socket| UnixListener::from_std(socket.into())).transpose()?;
        let tcp = TcpListener::from_std(self.tcp.into())?;
        Ok(AdminSockets { asked: self.asked, tcp, unix })
    }
}

/// The listening sockets.
pub(in crate::io) struct AdminSockets {
    /// The configured address.
    asked: SocketAddr,
    tcp: TcpListener,
    unix: Option<UnixListener>,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminPeer {
    /// An address of the network.
    Address(IpAddr),
    /// A user of this machine.
    User(u32),
}

impl AdminPeer {
    /// Whether it needs no token: such a user could read it, and trace the daemon.
    pub(super) fn is_admitted(self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        matches!(self, Self::User(user) if user == 0 || user == own)
    }
}

impl AdminSockets {
    /// The configured address.
    pub(in crate::io) fn asked(&self) -> SocketAddr {
        self.asked
    }

    /// The socket on the address.
    pub(in crate::io) fn tcp(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }

    /// The socket on the path.
    pub(in crate::io) fn unix(&self) -> Option<BorrowedFd<'_>> {
        self.unix.as_ref().map(AsFd::as_fd)
    }

    /// Whether a client waits for being accepted.
    pub(super) fn are_awaited(&self) -> bool {
        let sockets = [Some(self.tcp()), self.unix()].into_iter().flatten();
        let mut sockets: SmallVec<[PollFd<'_>; 2]> =
            sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)).collect();
        rustix::event::poll(&mut sockets, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
            .is_ok_and(|awaited| awaited > 0)
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<(AdminStream, AdminPeer)> {
        let tcp = async {
            let (socket, peer) = self.tcp.accept().await?;
            Ok((AdminStream::Tcp(socket), AdminPeer::Address(peer.ip().to_canonical())))
        };
        let Some(unix) = &self.unix else { return tcp.await };
        let unix = async {
            let (socket, _) = unix.accept().await?;
            let user = socket.peer_cred()?.uid();
            Ok((AdminStream::Unix(socket), AdminPeer::User(user)))
        };
        tokio::select! {
            accepted = tcp => accepted,
            accepted = unix => accepted,
        }
    }
}

/// A connection.
pub(super) enum AdminStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AdminStream {
    /// Reads what there is, once there is something; 0 bytes are the end.
    pub(super) async fn read(&self, chunk: &mut [u8]) -> io::Result<usize> {
        loop {
            // Readiness may be spurious, hence `try_read`.
            let read = match self {
                Self::Tcp(socket) => {
                    socket.readable().await?;
                    socket.try_read(chunk)
                }
                Self::Unix(socket) => {
                    socket.readable().await?;
                    socket.try_read(chunk)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Sends all bytes.
    pub(super) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = match self {
                Self::Tcp(socket) => {
                    socket.writable().await?;
                    socket.try_write(bytes)
                }
                Self::Unix(socket) => {
                    socket.writable().await?;
                    socket.try_write(bytes)
                }
            };
            match sent {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
