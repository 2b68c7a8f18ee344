//! Both transports under random use, with a ring whose kernel is unkind.

use super::super::foundation::drivers;
use super::super::ring::faults::Faults;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// Connections at a time.
const SOCKETS: Id = 4;

#[derive(Clone, Debug)]
enum Step {
    /// The client says this many bytes.
    Say(Id, usize),
    /// The client reads what there is.
    Hear(Id),
    /// The client shuts its side.
    Shut(Id),
    /// The socket is read, or is not.
    Read(Id, bool),
    /// Each of these sockets is sent this many bytes.
    Send(Vec<(Id, usize)>),
    /// Events are received with a buffer of this size, but for the last ones.
    Wait(usize, usize),
    /// The connection is closed, and another one gets its number.
    Renew(Id),
    /// Nothing is received for a while, in which the client says this many bytes.
    Pause(Id, usize),
}

/// A connection, from both sides.
struct Connection {
    socket: OwnedFd,
    client: TcpStream,
    said: Vec<u8>,
    received: Vec<u8>,
    sent: Vec<u8>,
    heard: Vec<u8>,
    reads: bool,
    is_shut: bool,
    has_ended: bool,
}

struct Stage {
    transport: Transport,
    _wake: OwnedFd,
    listener: TcpListener,
    connections: BTreeMap<Id, Connection>,
    said: u8,
}

impl Stage {
    fn new(mut transport: Transport, wake: OwnedFd) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        // As a shard does where there is room: an order for one connection ends with it.
        transport.accept_ahead(true);
        transport.listen(0, listener.as_fd()).unwrap();
        let connections = BTreeMap::new();
        let mut stage = Self { transport, _wake: wake, listener, connections, said: 0 };
        (0..SOCKETS).for_each(|id| stage.connect(id));
        stage
    }

    fn connect(&mut self, id: Id) {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let socket = loop {
            self.wait(0, usize::MAX);
            match self.transport.accept(0, self.listener.as_fd()) {
                Ok(accepted) => break accepted,
                Err(error) => assert_eq!(error, Errno::AGAIN),
            }
        };
        self.transport.add(id, socket.as_fd()).unwrap();
        let connection = Connection {
            socket,
            client,
            said: vec![],
            received: vec![],
            sent: vec![],
            heard: vec![],
            reads: true,
            is_shut: false,
            has_ended: false,
        };
        self.connections.insert(id, connection);
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| {
                self.said = self.said.wrapping_add(1);
                self.said
            })
            .collect()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Say(id, count) => {
                let bytes = self.bytes(count);
                let connection = self.connections.get_mut(&id).unwrap();
                if !connection.is_shut {
                    let count = connection.client.write(&bytes).unwrap_or(0);
                    connection.said.extend_from_slice(&bytes[..count]);
                }
            }
            Step::Hear(id) => self.connections.get_mut(&id).unwrap().hear(),
            Step::Shut(id) => {
                let connection = self.connections.get_mut(&id).unwrap();
                connection.is_shut = true;
                let _ = connection.client.shutdown(std::net::Shutdown::Write);
            }
            Step::Read(id, reads) => {
                let connection = self.connections.get_mut(&id).unwrap();
                connection.reads = reads;
                let interest = SocketInterest { reads, writes: false };
                self.transport.interest(id, connection.socket.as_fd(), interest);
            }
            Step::Send(lengths) => self.send(&lengths),
            Step::Wait(size, leave) => self.wait(size, leave),
            Step::Renew(id) => {
                let connection = self.connections.remove(&id).unwrap();
                self.transport.close(id, connection.socket);
                self.connect(id);
            }
            Step::Pause(id, count) => self.pause(id, count),
        }
    }

    /// Pauses, and looks where the bytes are that were not received.
    fn pause(&mut self, id: Id, count: usize) {
        self.transport.pause();
        let start = std::time::Instant::now();
        while !self.transport.is_quiet() {
            assert!(start.elapsed().as_secs() < 5, "orders to receive go on");
        }
        let unread = |stage: &Self| {
            let ids = stage.connections.keys();
            ids.map(|id| stage.transport.unread(*id).unwrap()).collect::<Vec<_>>()
        };
        let before = unread(self);
        self.take(Step::Say(id, count));
        self.wait(64 * 1024, 0);
        assert!(unread(self) == before, "something is received all the same");
        for (mut bytes, connection) in before.into_iter().zip(self.connections.values()) {
            let mut socket = vec![0; 1 << 20];
            let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
            let left = rustix::net::recv(&connection.socket, &mut socket[..], flags);
            bytes.extend_from_slice(&socket[..left.map_or(0, |(_, count)| count)]);
            // What does not fit into the socket is still the client's.
            assert!(connection.said[connection.received.len()..].starts_with(&bytes));
        }
        self.transport.resume();
    }

    fn send(&mut self, lengths: &[(Id, usize)]) {
        let parts: Vec<(Id, Vec<u8>)> =
            lengths.iter().map(|(id, length)| (*id, self.bytes(*length))).collect();
        let mut sent = vec![];
        let sends =
            parts.iter().map(|(id, bytes)| (self.connections[id].socket.as_fd(), &bytes[..]));
        let batch = self.transport.batch_max();
        for number in 0..parts.len().div_ceil(batch) {
            self.transport.send_all(sends.clone().skip(number * batch).take(batch), &mut sent);
        }
        assert_eq!(sent.len(), parts.len());
        for ((id, bytes), sent) in parts.iter().zip(sent) {
            match sent {
                Sent::Bytes(count) => {
                    let connection = self.connections.get_mut(id).unwrap();
                    connection.sent.extend_from_slice(&bytes[..count]);
                }
                Sent::Blocked => {}
                Sent::Broken => panic!("no client has gone"),
            }
        }
    }

    /// Receives the events but for those that are left.
    fn wait(&mut self, size: usize, leave: usize) {
        let Self { transport, connections, .. } = self;
        let descriptor = |id: Id| connections.get(&id).map(|connection| connection.socket.as_fd());
        let mut events = vec![];
        transport.submit(descriptor);
        transport.wait(&mut events, None, descriptor);
        let mut buffer = vec![0; size];
        let taken = events.len().saturating_sub(leave);
        for event in &events[..taken] {
            let SocketEvent::Socket(Readiness { id, is_readable: true, is_broken, .. }) = *event
            else {
                continue;
            };
            assert!(!is_broken, "no client has gone");
            let connection = connections.get_mut(&id).unwrap();
            if !connection.reads || size == 0 {
                continue;
            }
            match transport.receive(id, connection.socket.as_fd(), &mut buffer) {
                Ok(0) => connection.has_ended = true,
                Ok(count) => {
                    assert!(!connection.has_ended, "bytes behind the end");
                    connection.received.extend_from_slice(&buffer[..count]);
                }
                Err(error) => assert_eq!(error, Errno::AGAIN),
            }
        }
    }

    /// Sends until the socket takes no more.
    fn fill(&mut self, id: Id) {
        let mut sent = vec![];
        while !matches!(sent.last(), Some(Sent::Blocked)) {
            let socket = self.connections[&id].socket.as_fd();
            self.transport.send_all([(socket, &[7; 100_000][..])].into_iter(), &mut sent);
        }
    }

    /// Lets everything arrive, and compares.
    fn settle(mut self) {
        for id in 0..SOCKETS {
            self.take(Step::Read(id, true));
        }
        let start = std::time::Instant::now();
        while !self.connections.values().all(Connection::is_settled) {
            self.wait(64 * 1024, 0);
            self.connections.values_mut().for_each(Connection::hear);
            assert!(start.elapsed().as_secs() < 20, "something does not arrive");
        }
        assert_eq!(self.transport.all_kept_bytes(), 0);
        for (_, connection) in self.connections {
            assert_eq!(connection.received, connection.said);
            assert_eq!(connection.heard, connection.sent);
        }
    }
}

impl Connection {
    fn hear(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.client.read(&mut buffer) {
                Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
                Err(error) => return assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.received.len() >= self.said.len()
            && self.heard.len() >= self.sent.len()
            && self.has_ended == self.is_shut
    }
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..SOCKETS;
    prop_oneof![
        5 => (id.clone(), 1usize..20_000).prop_map(|(id, count)| Step::Say(id, count)),
        2 => id.clone().prop_map(Step::Hear),
        1 => id.clone().prop_map(Step::Shut),
        3 => (id.clone(), any::<bool>()).prop_map(|(id, reads)| Step::Read(id, reads)),
        4 => prop::collection::vec((id.clone(), 1usize..30_000), 1..8).prop_map(Step::Send),
        8 => (1usize..70_000, 0usize..3).prop_map(|(size, leave)| Step::Wait(size, leave)),
        1 => id.clone().prop_map(Step::Renew),
        1 => (id, 1usize..20_000).prop_map(|(id, count)| Step::Pause(id, count)),
    ]
}

fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_bytes_arrive_in_order_and_at_no_other_connection(
        steps in prop::collection::vec(step(), 1..60),
        buffers in 0u32..4,
        seed in any::<u64>(),
    ) {
        let wake = eventfd();
        let epoll = Transport::new(ChosenDriver::Epoll, wake.as_fd()).unwrap();
        let mut ring = ring(wake.as_fd(), 1 << buffers);
        ring.iter_mut().for_each(|ring| ring.inject(Faults::new(seed)));
        let ring = ring.map(|ring| Transport::Ring(Box::new(ring)));
        for transport in [epoll].into_iter().chain(ring) {
            let mut stage = Stage::new(transport, wake.try_clone().unwrap());
            steps.iter().for_each(|step| stage.take(step.clone()));
            stage.settle();
        }
    }
}

/// Does something in another thread, most likely when this one waits.
fn after_a_while(does: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        does();
    })
}

/// A transport of each kind, with the descriptor that wakes it.
fn both() -> Vec<(Transport, OwnedFd)> {
    let kinds = drivers().into_iter().map(|driver| {
        let wake = eventfd();
        (Transport::new(driver, wake.as_fd()).unwrap(), wake)
    });
    kinds.collect()
}

/// A ring with so many buffers, where this machine has io_uring.
fn ring(wake: BorrowedFd<'_>, buffers: u16) -> Option<RingSockets> {
    let has_rings = drivers().contains(&ChosenDriver::IoUring);
    has_rings.then(|| RingSockets::with_buffers(wake, buffers).unwrap())
}

/// Waits until there are events, as a shard does, and returns them.
fn events(transport: &mut Transport, socket: Option<BorrowedFd<'_>>) -> Vec<SocketEvent> {
    let mut events = vec![];
    if transport.submit(|_| socket) {
        transport.wait(&mut events, None, |_| socket);
        return events;
    }
    let mut set =
        [rustix::event::PollFd::from_borrowed_fd(transport.set(), rustix::event::PollFlags::IN)];
    let second = rustix::time::Timespec { tv_sec: 5, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut set, Some(&second)), Ok(1), "nothing happens");
    transport.wait(&mut events, None, |_| socket);
    events
}

#[test]
fn a_shard_that_sleeps_is_woken_by_clients_and_by_other_threads() {
    for (transport, wake) in both() {
        let mut stage = Stage::new(transport, wake.try_clone().unwrap());
        for round in 0..3 {
            let waker = wake.try_clone().unwrap();
            let thread = after_a_while(move || {
                rustix::io::write(&waker, &1u64.to_ne_bytes()).unwrap();
            });
            assert_eq!(events(&mut stage.transport, None), [SocketEvent::Wake], "round {round}");
            thread.join().unwrap();
            rustix::io::read(&wake, &mut [0; 8]).unwrap();
            let connection = &stage.connections[&2];
            let mut client = connection.client.try_clone().unwrap();
            let thread = after_a_while(move || client.write_all(b"hello").unwrap());
            let found = events(&mut stage.transport, Some(connection.socket.as_fd()));
            assert!(matches!(
                found[..],
                [SocketEvent::Socket(Readiness { id: 2, is_readable: true, .. })]
            ));
            let mut buffer = [0; 64];
            let count = stage.transport.receive(2, connection.socket.as_fd(), &mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"hello");
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_socket_that_is_not_read_tells_only_that_it_is_broken() {
    for (transport, wake) in both() {
        let mut stage = Stage::new(transport, wake);
        stage.take(Step::Read(1, false));
        stage.take(Step::Say(1, 1000));
        stage.take(Step::Wait(10, 0));
        stage.take(Step::Wait(10, 0));
        assert_eq!(stage.connections[&1].received, b"");
        let Connection { socket, client, .. } = stage.connections.remove(&1).unwrap();
        // Bytes that it has not read make the kernel reset the connection.
        stage.transport.send_all([(socket.as_fd(), &b"unread"[..])].into_iter(), &mut vec![]);
        drop(client);
        let found = events(&mut stage.transport, Some(socket.as_fd()));
        assert!(
            matches!(found[..], [SocketEvent::Socket(Readiness { id: 1, is_broken: true, .. })]),
            "{found:?}"
        );
        stage.transport.close(1, socket);
    }
}

#[test]
fn a_full_socket_tells_when_it_takes_bytes_again() {
    for (transport, wake) in both() {
        let mut stage = Stage::new(transport, wake);
        stage.fill(3);
        let interest = SocketInterest { reads: true, writes: true };
        let connection = stage.connections.get_mut(&3).unwrap();
        stage.transport.interest(3, connection.socket.as_fd(), interest);
        stage.transport.submit(|_| None);
        connection.hear();
        connection.hear();
        let found = events(&mut stage.transport, None);
        assert!(
            matches!(found[..], [SocketEvent::Socket(Readiness { id: 3, is_writable: true, .. })]),
            "{found:?}"
        );
    }
}

#[test]
fn the_end_of_a_peers_side_is_no_event_for_a_socket_that_waits_to_write() {
    for (transport, wake) in both() {
        let mut stage = Stage::new(transport, wake);
        stage.fill(3);
        let interest = SocketInterest { reads: false, writes: true };
        let connection = &stage.connections[&3];
        stage.transport.interest(3, connection.socket.as_fd(), interest);
        connection.client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut events = vec![];
        for _ in 0..20 {
            stage.transport.submit(|_| None);
            stage.transport.wait(&mut events, None, |_| None);
            assert_eq!(events, []);
        }
        assert!(!stage.transport.submit(|_| None), "there is nothing to be done");
        // What it waits for is told all the same.
        stage.connections.get_mut(&3).unwrap().hear();
        stage.connections.get_mut(&3).unwrap().hear();
        stage.transport.wait(&mut events, None, |_| None);
        assert!(matches!(
            events[..],
            [SocketEvent::Socket(Readiness { id: 3, is_writable: true, .. })]
        ));
    }
}

#[test]
fn those_that_say_little_are_heard_beside_one_that_says_much() {
    let wake = eventfd();
    let Some(ring) = ring(wake.as_fd(), 2) else { return };
    let mut stage = Stage::new(Transport::Ring(Box::new(ring)), wake);
    let connection = stage.connections.get_mut(&0).unwrap();
    let mut flooding = connection.client.try_clone().unwrap();
    flooding.set_nonblocking(false).unwrap();
    let flood = std::thread::spawn(move || {
        // Ends with the connection.
        while flooding.write_all(&[1; 100_000]).is_ok() {}
    });
    for round in 0..20 {
        stage.take(Step::Say(1, 10));
        let mut turns = 0;
        while stage.connections[&1].received.len() < 10 * (round + 1) {
            stage.wait(8192, 0);
            turns += 1;
            assert!(turns < 1000, "nothing of the other is received");
        }
    }
    let Connection { socket, client, .. } = stage.connections.remove(&0).unwrap();
    stage.transport.close(0, socket);
    stage.transport.submit(|_| None);
    drop(client);
    flood.join().unwrap();
}

#[test]
fn descriptors_of_closed_connections_are_free_again() {
    for (transport, wake) in both() {
        let mut stage = Stage::new(transport, wake);
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let numbers = |stage: &Stage| {
            use std::os::fd::AsRawFd as _;
            stage.connections.values().map(|it| it.socket.as_raw_fd()).max().unwrap()
        };
        let before = (open(), numbers(&stage));
        for round in 0..200 {
            stage.take(Step::Say(round % SOCKETS, 10));
            stage.take(Step::Read(round % SOCKETS, round % 3 == 0));
            stage.take(Step::Renew(round % SOCKETS));
        }
        stage.take(Step::Wait(10, 0));
        // Other tests of this process open some too.
        assert!(numbers(&stage) < before.1 + 100 && open() < before.0 + 100);
    }
}
