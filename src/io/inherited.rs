//! Sockets that the service manager listens with, and hands over at a start (sd_listen_fds(3)):
//! clients and publishers that come while no daemon runs wait in them for the next.
//!
//! They are found by their addresses, whatever their names and order. What is not among them is
//! listened on here, as it is without a service manager.

use super::handover::{ListenerPlace, PassedListener};
use super::listen::{self, Acceptor, ListenError, SocketKey, Turns};
use crate::feed::unix::UnixFeedSettings;
use listenfd::ListenFd;
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The listening socket of the unix feed.
pub(super) struct FeedSocket {
    pub(super) socket: OwnedFd,
    /// Whether this process has made it, and so decides its mode and its end.
    pub(super) is_own: bool,
}

impl FeedSocket {
    /// The same for another shard.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, is_own: self.is_own })
    }
}

/// The sockets that this process was given.
#[derive(Default)]
pub struct Inherited {
    tcp: Vec<(SocketAddr, OwnedFd)>,
    unix: Vec<(PathBuf, OwnedFd)>,
    /// The number of descriptors that nothing can be accepted from.
    unusable: usize,
    /// What the process before has made itself, until this one has started.
    made: Vec<(ListenerPlace, OwnedFd)>,
    /// Where a process that has gone has left what is to go on.
    left_behind: Option<OwnedFd>,
    /// Whether `made` is of a process that has gone, and may have had more shards.
    is_after_one: bool,
}

/// The name that the service manager keeps it by (`FDNAME=` of sd_notify(3)).
pub const LEFT_BEHIND: &str = "fanfare-left";

impl Inherited {
    /// The sockets that the environment tells of, which it does not any more afterwards. To be
    /// called before any thread is started, because others may read the environment.
    #[must_use]
    pub fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut given = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..given.len() {
            if names.next() == Some(LEFT_BEHIND) {
                inherited.left_behind = channel(&mut given, index);
            } else if inherited.take_tcp(&mut given, index).is_none()
                && inherited.take_unix(&mut given, index).is_none()
            {
                inherited.unusable += 1;
            }
        }
        inherited
    }

    /// Where a process that has gone has left what is to go on, for the one who asks first.
    pub fn take_left_behind(&mut self) -> Option<OwnedFd> {
        self.is_after_one = self.left_behind.is_some();
        self.left_behind.take()
    }

    /// Adds a listener of the process before.
    ///
    /// # Errors
    /// When it does not listen.
    pub(super) fn add(&mut self, listener: PassedListener, socket: OwnedFd) -> io::Result<()> {
        let socket = ready(socket).ok_or_else(|| io::Error::other("it does not listen"))?;
        match listener.place {
            ListenerPlace::Clients { actual, .. } if listener.is_managers => {
                self.tcp.push((actual, socket));
            }
            ListenerPlace::Publishers(path) if listener.is_managers => {
                self.unix.push((path, socket));
            }
            place => self.made.push((place, socket)),
        }
        Ok(())
    }

    /// The sockets of the service manager, for the next process.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn passed(&self) -> io::Result<Vec<(PassedListener, OwnedFd)>> {
        let tcp = self.tcp.iter().map(|(actual, socket)| {
            (ListenerPlace::Clients { asked: *actual, actual: *actual }, socket)
        });
        let unix = self.unix.iter();
        let unix = unix.map(|(path, socket)| (ListenerPlace::Publishers(path.clone()), socket));
        let all = tcp.chain(unix).map(|(place, socket)| {
            Ok((PassedListener { place, is_managers: true }, socket.try_clone()?))
        });
        all.collect()
    }

    /// Takes the listeners of the process before that were made for a place.
    pub(super) fn take(&mut self, is_place: impl Fn(&ListenerPlace) -> bool) -> Vec<OwnedFd> {
        let made = std::mem::take(&mut self.made);
        let (taken, left): (Vec<_>, Vec<_>) =
            made.into_iter().partition(|(place, _)| is_place(place));
        self.made = left;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }

    /// Closes the listeners of a process that has gone which this one has no use for: addresses that
    /// are new may have their ports, and could not be bound beside them.
    pub(super) fn close_unwanted(&mut self, clients: &[SocketAddr], admin: Option<SocketAddr>) {
        // A process that hands over goes on with all of them if this one fails.
        if self.is_after_one {
            self.made.retain(|(place, _)| match place {
                ListenerPlace::Clients { asked, .. } => clients.contains(asked),
                ListenerPlace::Admin(asked) => admin == Some(*asked),
                ListenerPlace::Publishers(_) | ListenerPlace::AdminSocket(_) => true,
            });
        }
    }

    /// Closes what the process before has made and this one has no use for.
    pub(super) fn close_left(&mut self) {
        self.made = Vec::new();
    }

    fn take_tcp(&mut self, given: &mut ListenFd, index: usize) -> Option<()> {
        let socket = OwnedFd::from(given.take_tcp_listener(index).ok()??);
        let address = listen::local_address(&socket).ok()?;
        // Connections inherit it, and a unit may lack NoDelay=.
        sockopt::set_tcp_nodelay(&socket, true).ok()?;
        self.tcp.push((address, ready(socket)?));
        Some(())
    }

    fn take_unix(&mut self, given: &mut ListenFd, index: usize) -> Option<()> {
        let listener: UnixListener = given.take_unix_listener(index).ok()??;
        let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
        self.unix.push((path, ready(listener.into())?));
        Some(())
    }

    /// A socket for each shard that listens on `address`, with the shard that accepts from it:
    /// those of the service manager, or new ones.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(super) fn tcp(
        &self,
        address: SocketAddr,
        shards: usize,
    ) -> Result<Vec<(OwnedFd, Acceptor)>, ListenError> {
        let made = self.made.iter().filter_map(|(place, socket)| match place {
            ListenerPlace::Clients { asked, .. } if *asked == address => Some(socket),
            _ => None,
        });
        let mut made: Vec<&OwnedFd> = made.collect();
        if self.is_after_one {
            // A socket too many ends with those who wait in it, and nothing else would let the
            // daemon start with fewer threads.
            made.truncate(shards);
        }
        if made.len() > shards {
            return Err(ListenError::FewerThreads(address, made.len(), shards));
        }
        let managers = self.tcp.iter();
        let managers = managers.filter(|(actual, socket)| is_meant(address, *actual, socket));
        let given = made.into_iter().chain(managers.map(|(_, socket)| socket));
        let given: Vec<&OwnedFd> = given.collect();
        if given.is_empty() {
            // Told here, because a bind would take it for another program's.
            let mut all = self.tcp.iter().map(|(actual, _)| *actual);
            if let Some(all) =
                all.find(|all| all.ip().is_unspecified() && all.port() == address.port())
            {
                return Err(ListenError::Covered(address, all));
            }
            let own = listen::tcp(address, shards)?;
            return Ok(own.into_iter().map(|socket| (socket, Acceptor::Own)).collect());
        }
        // The kernel gives each its part of the clients, whether anything accepts them or not.
        if given.len() > shards {
            return Err(ListenError::TooManySockets(address, given.len(), shards));
        }

        (0..shards)
            .map(|shard| {
                let acceptor = match shard {
                    _ if given.len() == shards => Acceptor::Own,
                    own if own < given.len() => Acceptor::ForAll(Turns { own, next: own, shards }),
                    _ => Acceptor::Another,
                };
                Ok((given[shard % given.len()].try_clone()?, acceptor))
            })
            .collect::<io::Result<_>>()
            .map_err(|error| ListenError::Other(format!("cannot listen on {address}"), error))
    }

    /// The socket of the feed: the service manager's, or a new one.
    ///
    /// # Errors
    /// When the path cannot be had.
    pub(super) fn feed(
        &mut self,
        settings: &UnixFeedSettings,
    ) -> Result<Option<FeedSocket>, ListenError> {
        let Some(path) = settings.path.as_deref() else { return Ok(None) };
        let is_place =
            |place: &ListenerPlace| matches!(place, ListenerPlace::Publishers(it) if it == path);
        // Without its path, by which publishers find it, it is of no use.
        if let Some(socket) = self.take(is_place).pop().filter(|_| listen::is_socket(path)) {
            // The configuration may have changed since it was made.
            listen::permit(settings, path)?;
            return Ok(Some(FeedSocket { socket, is_own: true }));
        }
        let Some((_, given)) = self.unix.iter().find(|(actual, _)| actual == path) else {
            return Ok(Some(FeedSocket { socket: listen::unix(settings, path)?, is_own: true }));
        };
        let socket = given.try_clone();
        let socket = socket.map_err(|error| {
            listen::path_error(SocketKey::Feed, "cannot listen on", path, error)
        })?;
        Ok(Some(FeedSocket { socket, is_own: false }))
    }

    /// Whether clients of `address` wait in a socket of the service manager.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.tcp.iter().any(|(actual, socket)| is_meant(address, *actual, socket))
    }

    /// What was given for none of these addresses, nor for the path.
    pub(super) fn left(&self, addresses: &[SocketAddr], path: Option<&Path>) -> Vec<String> {
        let tcp = self.tcp.iter().filter(|(actual, socket)| {
            !addresses.iter().any(|address| is_meant(*address, *actual, socket))
        });
        let unix = self.unix.iter().filter(|(actual, _)| Some(actual.as_path()) != path);
        let mut left: Vec<String> = tcp.map(|(actual, _)| actual.to_string()).collect();
        left.extend(unix.map(|(actual, _)| actual.display().to_string()));
        if self.unusable > 0 {
            left.push(format!("{} descriptors that do not listen", self.unusable));
        }
        left
    }
}

/// The end of a channel of the hand-over.
fn channel(given: &mut ListenFd, index: usize) -> Option<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX.as_raw().into(), SocketType::SEQPACKET.as_raw());
    given.take_custom(index, family, kind as i32, "the end of a channel").ok()?
}

/// The socket, if it listens, so that accepting from it never blocks.
fn ready(socket: OwnedFd) -> Option<OwnedFd> {
    let listens = sockopt::socket_acceptconn(&socket).ok()?;
    rustix::io::ioctl_fionbio(&socket, true).ok()?;
    listens.then_some(socket)
}

/// Whether a socket with the address `actual` is the one that `asked` is configured for. A unit's
/// `ListenStream=8080` is `[::]:8080` and takes IPv4 too, so it is also the one of `0.0.0.0:8080`.
fn is_meant(asked: SocketAddr, actual: SocketAddr, socket: &OwnedFd) -> bool {
    let is_both = asked.is_ipv4()
        && asked.ip().is_unspecified()
        && actual.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && sockopt::ipv6_v6only(socket) == Ok(false);
    asked.port() == actual.port() && (asked.ip() == actual.ip() || is_both)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a service manager would have handed over.
    fn given(sockets: Vec<OwnedFd>) -> Inherited {
        let tcp = sockets.into_iter().map(|it| (listen::local_address(&it).unwrap(), it));
        Inherited { tcp: tcp.collect(), ..Inherited::default() }
    }

    fn acceptors(inherited: &Inherited, address: SocketAddr, shards: usize) -> String {
        let of = |(_, acceptor): &(OwnedFd, Acceptor)| match acceptor {
            Acceptor::Own => 'o',
            Acceptor::ForAll(turns) if turns.shards == shards => 'a',
            Acceptor::ForAll(_) | Acceptor::Another => '-',
        };
        inherited.tcp(address, shards).unwrap().iter().map(of).collect()
    }

    #[test]
    fn each_socket_has_one_shard_that_accepts_and_every_shard_gets_clients() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = listen::tcp(address, 2).unwrap();
        let address = listen::local_address(&sockets[0]).unwrap();
        let inherited = given(sockets);
        assert_eq!(acceptors(&inherited, address, 4), "aa--");
        assert_eq!(acceptors(&inherited, address, 2), "oo");
        let error = inherited.tcp(address, 1).unwrap_err();
        assert!(matches!(error, ListenError::TooManySockets(_, 2, 1)), "{error}");
        let elsewhere = ([127, 0, 0, 1], 0).into();
        assert_eq!(acceptors(&inherited, elsewhere, 3), "ooo", "it is bound here");
        assert_eq!(inherited.left(&[address], None), Vec::<String>::new());
        assert_eq!(inherited.left(&[elsewhere], None).len(), 2);
    }

    #[test]
    fn a_socket_of_every_address_is_that_of_ipv4_too_and_not_of_one_address() {
        // Where there is no IPv6 there is nothing to confuse.
        let Ok(sockets) = listen::tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), 1) else {
            return;
        };
        let port = listen::local_address(&sockets[0]).unwrap().port();
        let is_both = sockopt::ipv6_v6only(&sockets[0]) == Ok(false);
        let inherited = given(sockets);
        assert_eq!(acceptors(&inherited, (Ipv6Addr::UNSPECIFIED, port).into(), 1), "o");
        assert_eq!(inherited.has(([0, 0, 0, 0], port).into()), is_both);
        let error = inherited.tcp(([127, 0, 0, 1], port).into(), 1).unwrap_err();
        assert!(matches!(error, ListenError::Covered(..)), "{error}");
    }
}
