//! The addresses of a shard's clients, and the number of connections of each address in the whole
//! daemon.
//!
//! Most connections need no entry here: the socket knows the address. An entry of some 40 bytes is
//! kept while addresses are counted (`limits.connections_per_address_max`), and for clients of
//! proxies, whose sockets know only the proxy.

use crate::proxy::forwarded::{self, ForwardedClient};
use crate::proxy::preamble::{self, MalformedPreamble, Preamble};
use crate::proxy::{Networks, Remote};
use crate::shard::{Id, Limits};
use ahash::AHashMap;
use rustix::fd::BorrowedFd;
use rustix::net::SocketAddrAny;
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts of the count, each with its lock, so that shards that accept at once seldom wait for each
/// other.
const PARTS: usize = 16;
/// Entries kept allocated when the last client has gone.
const KNOWN_KEPT: usize = 64;

/// Connections by address, of all shards.
#[derive(Default)]
pub(super) struct Addresses {
    parts: [Mutex<AHashMap<IpAddr, usize>>; PARTS],
}

impl Addresses {
    /// Counts one more connection of a subscriber, unless it has `most` already.
    fn take(&self, subscriber: IpAddr, most: usize) -> bool {
        let mut part = self.part(subscriber);
        let count = part.entry(subscriber).or_default();
        let has_room = *count < most;
        *count += usize::from(has_room);
        has_room
    }

    fn give_back(&self, subscriber: IpAddr) {
        let mut part = self.part(subscriber);
        if let Some(count) = part.get_mut(&subscriber) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                // Or the map would grow with every address that ever connected.
                part.remove(&subscriber);
            }
        }
    }

    fn part(&self, subscriber: IpAddr) -> MutexGuard<'_, AHashMap<IpAddr, usize>> {
        // The last bytes of what is counted differ most: of an IPv6 subscriber, its /64.
        let number = match subscriber {
            IpAddr::V4(ip) => usize::from(ip.octets()[3]),
            IpAddr::V6(ip) => usize::from(ip.octets()[7]),
        };
        self.parts[number % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client of a connection.
struct KnownClient {
    remote: Remote,
    is_counted: bool,
    /// Whether the headers of a request have named it, so that the connection is a trusted proxy's.
    is_told: bool,
    /// Whether those headers contradict each other, so that the address is the proxy's.
    is_contradicted: bool,
}

impl KnownClient {
    /// A client whose address is the connection's own, or its preamble's.
    fn new(Admitted { remote, is_counted }: Admitted) -> Self {
        Self { remote, is_counted, is_told: false, is_contradicted: false }
    }
}

/// A connection that has passed the limit, but is not accepted yet.
#[derive(Clone, Copy)]
pub(super) struct Admitted {
    remote: Remote,
    is_counted: bool,
}

/// The outcome of reading the client from a request's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForwardedOutcome {
    /// The client is known, or no header names one.
    Fine,
    /// The headers contradict each other, so the proxy is taken for the client.
    Contradicted,
}

/// The clients of one shard.
pub(super) struct Clients {
    addresses: Arc<Addresses>,
    /// Borrowed for look-ups only, never across a call.
    known: RefCell<AHashMap<Id, KnownClient>>,
    /// Incomplete preambles of the PROXY protocol, from trusted proxies only; each has a limit.
    preambles: AHashMap<Id, Vec<u8>>,
    /// Whether new connections are counted.
    is_counting: bool,
}

impl Clients {
    pub(super) fn new(addresses: Arc<Addresses>) -> Self {
        Self {
            addresses,
            known: RefCell::default(),
            preambles: AHashMap::new(),
            is_counting: false,
        }
    }

    /// The address of a connection's client; `None` when it has gone and had no entry.
    pub(super) fn remote(&self, id: Id, socket: BorrowedFd<'_>) -> Option<Remote> {
        let known = self.known.borrow().get(&id).map(|known| known.remote);
        known.or_else(|| peer(socket))
    }

    /// Counts a connection from an address, unless it has `most` already; with 0 there is no limit
    /// and no count. A trusted proxy's address is never counted, as it stands for many clients.
    pub(super) fn admit(
        &self,
        remote: Remote,
        trusted: &Networks,
        most: usize,
    ) -> Option<Admitted> {
        let counts = most > 0 && !trusted.contains(remote.ip);
        let may_come = !counts || self.addresses.take(remote.subscriber(), most);
        may_come.then_some(Admitted { remote, is_counted: counts })
    }

    /// Keeps the entry of an accepted connection, if it needs one.
    pub(super) fn keep(&self, id: Id, admitted: Admitted) {
        if admitted.is_counted {
            self.known.borrow_mut().insert(id, KnownClient::new(admitted));
        }
    }

    /// Takes back the count of a connection that was admitted but not accepted.
    pub(super) fn dismiss(&self, Admitted { remote, is_counted }: Admitted) {
        if is_counted {
            self.addresses.give_back(remote.subscriber());
        }
    }

    /// Copies the incomplete preamble of a connection to the start of a buffer. Returns its length.
    pub(super) fn recall(&self, id: Id, buffer: &mut [u8]) -> usize {
        let Some(part) = self.preambles.get(&id) else { return 0 };
        buffer[..part.len()].copy_from_slice(part);
        part.len()
    }

    /// Reads the preamble of a connection from all its bytes, and keeps these while it is
    /// incomplete.
    ///
    /// # Errors
    /// When the bytes are no preamble.
    pub(super) fn preamble(
        &mut self,
        id: Id,
        bytes: &[u8],
    ) -> Result<Option<Preamble>, MalformedPreamble> {
        let read = preamble::read(bytes)?;
        match read {
            Some(_) => drop(self.preambles.remove(&id)),
            None => drop(self.preambles.insert(id, bytes.to_vec())),
        }
        Ok(read)
    }

    /// Keeps the client that a preamble names, and counts it. Returns whether it is within the
    /// limit.
    pub(super) fn adopt(&self, id: Id, client: Remote, trusted: &Networks, most: usize) -> bool {
        let admitted = self.admit(client, trusted, most);
        let is_counted = admitted.is_some_and(|admitted| admitted.is_counted);
        let known = KnownClient::new(Admitted { remote: client, is_counted });
        let before = self.known.borrow_mut().insert(id, known);
        // A reload may have counted the proxy itself, if it was not trusted then.
        if let Some(proxy) = before.filter(|before| before.is_counted) {
            self.addresses.give_back(proxy.remote.subscriber());
        }
        admitted.is_some()
    }

    /// Learns the client behind a trusted proxy from the headers of a request; from other peers
    /// they are ignored.
    pub(super) fn learn<'a>(
        &self,
        id: Id,
        socket: BorrowedFd<'_>,
        trusted: &Networks,
        headers: impl DoubleEndedIterator<Item = (&'a str, &'a [u8])> + Clone,
    ) -> ForwardedOutcome {
        // Asked first, because most daemons trust no proxy.
        if trusted.is_empty() || !self.is_proxy(id, socket, trusted) {
            return ForwardedOutcome::Fine;
        }

        let (remote, told) = match forwarded::client(headers, trusted) {
            ForwardedClient::At(remote) => (Some(remote), ForwardedOutcome::Fine),
            ForwardedClient::Unnamed => return ForwardedOutcome::Fine,
            ForwardedClient::Contradicted => {
                (self.remote(id, socket), ForwardedOutcome::Contradicted)
            }
        };
        if let Some(remote) = remote {
            let is_contradicted = told == ForwardedOutcome::Contradicted;
            let known = KnownClient { remote, is_counted: false, is_told: true, is_contradicted };
            self.known.borrow_mut().insert(id, known);
        }
        told
    }

    fn is_proxy(&self, id: Id, socket: BorrowedFd<'_>, trusted: &Networks) -> bool {
        match self.known.borrow().get(&id) {
            // Only clients are counted, never proxies.
            Some(known) if known.is_counted => return false,
            // The entry is a client's by now, but an earlier request came through a proxy.
            Some(known) if known.is_told => return true,
            _ => {}
        }
        self.remote(id, socket).is_some_and(|remote| trusted.contains(remote.ip))
    }

    /// Counts the session of a client that headers have named; others are counted when they
    /// connect. Clients with contradictory headers count as one, the proxy: else a made-up header
    /// would evade the limit. Returns whether the session is within the limit.
    pub(super) fn admit_session(&self, id: Id, trusted: &Networks, most: usize) -> bool {
        let mut known = self.known.borrow_mut();
        let Some(known) = known.get_mut(&id).filter(|known| known.is_told && !known.is_counted)
        else {
            return true;
        };
        let counts = most > 0 && (known.is_contradicted || !trusted.contains(known.remote.ip));
        known.is_counted = counts && self.addresses.take(known.remote.subscriber(), most);
        known.is_counted || !counts
    }

    /// The client of a connection, if a preamble or the headers of a request have named it, and
    /// whether it was those.
    pub(super) fn told(&self, id: Id) -> (Option<Remote>, bool) {
        let known = self.known.borrow();
        known.get(&id).map_or((None, false), |known| (Some(known.remote), known.is_told))
    }

    /// Keeps what the process before has known of a connection's client, and counts it without a
    /// limit: it is here already.
    pub(super) fn take_over(
        &self,
        id: Id,
        socket: BorrowedFd<'_>,
        (remote, is_told): (Option<Remote>, bool),
        trusted: &Networks,
        most: usize,
    ) {
        let counted = if most > 0 { remote.or_else(|| peer(socket)) } else { remote };
        let Some(remote) = counted else { return };
        let is_counted = most > 0
            && !trusted.contains(remote.ip)
            && self.addresses.take(remote.subscriber(), usize::MAX);
        let known = KnownClient { remote, is_counted, is_told, is_contradicted: false };
        self.known.borrow_mut().insert(id, known);
    }

    /// Begins to count when a reload has set a limit: open connections are counted, but none is
    /// closed.
    pub(super) fn configure<'a>(
        &mut self,
        limits: &Limits,
        trusted: &Networks,
        sockets: impl Iterator<Item = (Id, BorrowedFd<'a>)>,
    ) {
        let is_counting = limits.connections_per_address_max > 0;
        let was_counting = std::mem::replace(&mut self.is_counting, is_counting);
        if was_counting || !self.is_counting {
            return;
        }
        for (id, socket) in sockets {
            if self.known.borrow().get(&id).is_some_and(|known| known.is_counted) {
                continue;
            }
            let Some(remote) = self.remote(id, socket) else { continue };
            if let Some(admitted) = self.admit(remote, trusted, usize::MAX) {
                self.keep(id, admitted);
            }
        }
    }

    /// Drops the entry of a connection that is gone.
    pub(super) fn forget(&mut self, id: Id) {
        self.preambles.remove(&id);
        if let Some(known) = self.known.get_mut().remove(&id).filter(|known| known.is_counted) {
            self.addresses.give_back(known.remote.subscriber());
        }
        if self.known.get_mut().is_empty() {
            self.known.get_mut().shrink_to(KNOWN_KEPT);
        }
    }
}

/// The log's detail for a client that has reached the limit.
pub(super) fn full(remote: Remote, most: usize) -> String {
    format!("{} has {most} already (limits.connections_per_address_max)", remote.subscriber())
}

/// The address of a socket's peer, unless that has gone.
pub(super) fn peer(socket: BorrowedFd<'_>) -> Option<Remote> {
    address(rustix::net::getpeername(socket).ok()?)
}

/// The address of an internet socket.
fn address(address: Option<SocketAddrAny>) -> Option<Remote> {
    SocketAddr::try_from(address?).ok().map(Remote::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    fn at(text: &str) -> Remote {
        Remote::at(text.parse().unwrap())
    }

    fn trusted(text: &str) -> Networks {
        Networks::try_from(vec![text.to_owned()]).unwrap()
    }

    /// A shard's clients, and a connection from loopback as the daemon sees it.
    fn clients() -> (Clients, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Clients::new(Arc::default()), listener.accept().unwrap().0, client)
    }

    fn for_client(address: &str) -> Vec<(&'static str, Vec<u8>)> {
        vec![("X-Forwarded-For", address.as_bytes().to_vec())]
    }

    fn learn(
        clients: &Clients,
        id: Id,
        socket: &TcpStream,
        networks: &Networks,
        address: &str,
    ) -> String {
        let headers = for_client(address);
        let headers = headers.iter().map(|(name, value)| (*name, &value[..]));
        assert_eq!(clients.learn(id, socket.as_fd(), networks, headers), ForwardedOutcome::Fine);
        clients.remote(id, socket.as_fd()).unwrap().ip.to_string()
    }

    #[test]
    fn an_address_has_so_many_connections_and_an_ipv6_subscriber_too() {
        let (mut clients, ..) = clients();
        let none = Networks::default();
        for (id, text) in
            [(1, "192.0.2.1"), (2, "192.0.2.1"), (3, "2001:db8::1"), (4, "2001:db8::ffff:2")]
        {
            clients.keep(id, clients.admit(at(text), &none, 2).unwrap());
        }
        assert!(clients.admit(at("::ffff:192.0.2.1"), &none, 2).is_none());
        assert!(clients.admit(at("2001:db8::5:6:7:8"), &none, 2).is_none());
        clients.dismiss(clients.admit(at("2001:db8:0:1::1"), &none, 2).unwrap());
        assert!(clients.admit(at("192.0.2.1"), &trusted("192.0.2.0/24"), 2).is_some(), "a proxy");
        clients.forget(2);
        clients.forget(2);
        clients.dismiss(clients.admit(at("192.0.2.1"), &none, 2).unwrap());
        (1..5).for_each(|id| clients.forget(id));
        assert!(clients.known.borrow().is_empty());
        assert!(clients.addresses.parts.iter().all(|part| part.lock().unwrap().is_empty()));
    }

    #[test]
    fn nothing_is_remembered_of_a_connection_while_nothing_is_counted() {
        let (clients, socket, client) = clients();
        let none = Networks::default();
        clients.keep(1, clients.admit(at("127.0.0.1"), &none, 0).unwrap());
        assert_eq!(learn(&clients, 1, &socket, &none, "6.6.6.6"), "127.0.0.1");
        assert_eq!(learn(&clients, 1, &socket, &trusted("10.0.0.0/8"), "6.6.6.6"), "127.0.0.1");
        assert!(clients.known.borrow().is_empty());
        let remote = clients.remote(1, socket.as_fd()).unwrap();
        assert_eq!(remote.to_string(), client.local_addr().unwrap().to_string());
    }

    #[test]
    fn each_request_over_a_proxys_connection_tells_its_own_client_until_one_is_a_session() {
        let (mut clients, socket, _client) = clients();
        let proxies = trusted("127.0.0.0/8");
        assert_eq!(learn(&clients, 1, &socket, &proxies, "192.0.2.1"), "192.0.2.1");
        assert_eq!(learn(&clients, 1, &socket, &proxies, "192.0.2.2"), "192.0.2.2");
        assert!(clients.admit_session(1, &proxies, 1));
        assert_eq!(learn(&clients, 2, &socket, &proxies, "192.0.2.2"), "192.0.2.2");
        assert!(!clients.admit_session(2, &proxies, 1));
        assert!(clients.admit_session(2, &proxies, 0), "no limit");
        assert_eq!(learn(&clients, 3, &socket, &proxies, "192.0.2.3"), "192.0.2.3");
        assert!(clients.admit_session(3, &proxies, 1));
        clients.forget(1);
        assert!(clients.admit_session(2, &proxies, 1));
    }

    #[test]
    fn clients_that_contradict_their_proxy_count_as_one_whatever_they_name() {
        let (mut clients, socket, _client) = clients();
        let proxies = trusted("127.0.0.0/8");
        let contradict = |clients: &Clients, id: Id| {
            let forged = format!("for=203.0.113.{id}");
            let headers =
                [("X-Forwarded-For", &b"192.0.2.1"[..]), ("Forwarded", forged.as_bytes())];
            let told = clients.learn(id, socket.as_fd(), &proxies, headers.into_iter());
            assert_eq!(told, ForwardedOutcome::Contradicted);
            assert_eq!(clients.remote(id, socket.as_fd()).unwrap().ip.to_string(), "127.0.0.1");
            clients.admit_session(id, &proxies, 2)
        };
        assert_eq!([1, 2, 3].map(|id| contradict(&clients, id)), [true, true, false]);
        assert_eq!(learn(&clients, 4, &socket, &proxies, "192.0.2.1"), "192.0.2.1");
        assert!(clients.admit_session(4, &proxies, 2), "others note nothing");
        assert!(clients.admit(at("127.0.0.1"), &proxies, 2).is_some(), "nor does the proxy itself");
        clients.forget(3);
        assert!(!contradict(&clients, 5));
        clients.forget(1);
        assert!(contradict(&clients, 6));
        (1..7).for_each(|id| clients.forget(id));
        assert!(clients.addresses.parts.iter().all(|part| part.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_client_that_a_preamble_names_is_not_believed_about_others_unless_it_is_a_proxy() {
        let (clients, socket, _client) = clients();
        let proxies = trusted("127.0.0.0/8");
        assert!(clients.adopt(1, at("192.0.2.1"), &proxies, 1));
        assert_eq!(learn(&clients, 1, &socket, &proxies, "6.6.6.6"), "192.0.2.1");
        assert!(clients.admit_session(1, &proxies, 1), "it counts once");
        assert!(!clients.adopt(2, at("192.0.2.1"), &proxies, 1));
        assert!(clients.adopt(3, at("127.1.1.1"), &proxies, 1));
        assert_eq!(learn(&clients, 3, &socket, &proxies, "192.0.2.3"), "192.0.2.3");
    }

    #[test]
    fn a_preamble_is_put_together_from_its_parts() {
        let (mut clients, ..) = clients();
        let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n";
        let mut buffer = [0; 256];
        for (at, byte) in line.iter().enumerate() {
            let kept = clients.recall(1, &mut buffer);
            assert_eq!(kept, at);
            buffer[kept] = *byte;
            let read = clients.preamble(1, &buffer[..=kept]).unwrap();
            assert_eq!(read.is_some(), at + 1 == line.len());
        }
        assert!(clients.preambles.is_empty());
    }

    #[test]
    fn a_limit_that_comes_later_counts_those_that_are_here() {
        let (mut clients, socket, _client) = clients();
        let none = Networks::default();
        clients.configure(&Limits::default(), &none, std::iter::empty());
        let limits = Limits { connections_per_address_max: 1, ..Limits::default() };
        clients.configure(&limits, &none, [(1, socket.as_fd())].into_iter());
        assert!(clients.admit(at("127.0.0.1"), &none, 1).is_none());
        clients.configure(&limits, &none, [(1, socket.as_fd())].into_iter());
        clients.forget(1);
        assert!(clients.admit(at("127.0.0.1"), &none, 1).is_some());
        clients.keep(2, clients.admit(at("127.0.0.2"), &none, 1).unwrap());
        assert!(
            clients.adopt(2, at("192.0.2.1"), &none, 1),
            "a proxy that is counted tells its client"
        );
        assert!(clients.admit(at("127.0.0.2"), &none, 1).is_some());
    }
}
