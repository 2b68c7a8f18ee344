//! The worker on sockets of the system.

use super::*;
use crate::dialect::{Kind, pulsar};
use crate::io::clients::Clients;
use crate::io::foundation::drivers;
use crate::io::handoff::MAILBOX;
use crate::io::listen;
use crate::io::listen::{Acceptor, Listener, Turns};
use crate::io::runtime::ChosenDriver;
use crate::io::transport::Transport;
use crate::service::ConnectionRef;
use crate::service::topic::{
    MessageDraft, Position, Recipient, TopicAnswer, TopicDelivery, TopicMessage, TopicQuestion,
};
use crate::shard::Limits;
use rustix::fd::AsFd as _;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const UP: &str = "GET /up HTTP/1.1\r\nHost: x\r\n\r\n";

/// The first of two shards, with a connection that has sent something; nobody takes what the
/// other is posted.
fn worker(driver: ChosenDriver, sent: &str) -> (Worker, TcpStream) {
    accepting(driver, sent, Acceptor::Own)
}

fn accepting(driver: ChosenDriver, sent: &str, acceptor: Acceptor) -> (Worker, TcpStream) {
    let pulsar = pulsar::PulsarSettings { anonymous: true, ..Default::default() };
    let settings = Arc::new(Settings { pulsar, ..Settings::default() });
    let hub = Arc::new(Hub::new(2, 1, &[], &settings).unwrap());
    let socket = listen::tcp(([127, 0, 0, 1], 0).into(), 1).unwrap().remove(0);
    let mut client = TcpStream::connect(listen::local_address(&socket).unwrap()).unwrap();
    client.set_nonblocking(true).unwrap();
    client.write_all(sent.as_bytes()).unwrap();
    let metrics = Arc::clone(&hub.metrics[0]);
    let shard = Shard::new(settings, Limits::default(), Arc::clone(&metrics), clock::now());
    let kinds = ["echo", "pulsar"].map(|name| Kind::named(name).unwrap()).into();
    let listener = Listener { socket, kinds, tls: None, proxied: false, acceptor };
    let wake = hub.mailboxes[0].waker().as_fd();
    let clients = Clients::new(Arc::default());
    let transport = Transport::new(driver, wake).unwrap();
    let mut sockets = Sockets::new(vec![listener], transport, Arc::default(), clients, metrics);
    sockets.listen().unwrap();
    (Worker::new(shard, sockets, Arc::clone(&hub), 0), client)
}

#[test]
fn a_request_waits_without_work_while_a_shard_has_no_room_and_is_answered_afterwards() {
    for driver in drivers() {
        let (mut worker, mut client) = worker(driver, &UP.repeat(3));
        let hub = Arc::clone(&worker.hub);
        hub.post(1, (0..MAILBOX.count).map(|_| Parcel::Close));
        while !worker.holds_back() {
            worker.turn();
        }
        let mut answers = [0; 4096];
        for _ in 0..10 {
            assert!(!worker.turn() && worker.holds_back(), "there is nothing to be done");
            assert_eq!(client.read(&mut answers).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        client.write_all(UP.as_bytes()).unwrap();
        hub.mailboxes[1].take(&mut VecDeque::new());
        let mut text = String::new();
        while text.matches("{\"health\":\"OK\"}").count() < 4 {
            worker.turn();
            match client.read(&mut answers) {
                Ok(count) => text += std::str::from_utf8(&answers[..count]).unwrap(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(!worker.turn() && !worker.holds_back());
    }
}

const CONSUMER: &str = "GET /ws/v2/consumer/persistent/t/n/x/s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
                        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Takes turns until the owner of the topics has been asked something.
fn asked(worker: &mut Worker) -> Vec<(ConnectionRef, TopicQuestion)> {
    loop {
        worker.turn();
        let requests = worker.hub.store.take();
        if !requests.is_empty() {
            return requests;
        }
    }
}

#[test]
fn what_is_asked_of_the_owner_of_the_topics_waits_without_work_while_it_has_no_room() {
    for driver in drivers() {
        let (mut worker, _client) = worker(driver, CONSUMER);
        let hub = Arc::clone(&worker.hub);
        hub.store.pretend();
        let connection = ConnectionRef { shard: 1, id: 0, serial: 0 };
        let many = || (0..50_000).map(|_| (connection, TopicQuestion::Took)).collect();
        hub.store.ask(0, many());
        assert!(!hub.store.has_room());
        while !worker.holds_back() {
            worker.turn();
        }
        for _ in 0..10 {
            assert!(!worker.turn() && worker.holds_back(), "there is nothing to be done");
        }
        assert_eq!(hub.store.take().len(), 50_000, "nothing was put on top");
        let requests = asked(&mut worker);
        assert!(
            matches!(&requests[..], [(connection, TopicQuestion::Consume(_))] if connection.shard == 0)
        );
        assert!(!worker.turn() && !worker.holds_back());
    }
}

#[test]
fn a_session_that_begins_with_more_than_its_socket_takes_is_told_the_rest() {
    for driver in drivers() {
        let (mut worker, mut client) = worker(driver, CONSUMER);
        let hub = Arc::clone(&worker.hub);
        hub.store.pretend();
        let connection = asked(&mut worker)[0].0;
        // More than a socket of this machine ever holds, in the turn in which the handshake is
        // answered.
        let payload = vec![b'x'; 16 << 20];
        let draft =
            MessageDraft::new(&TopicMessage { payload: &payload, ..TopicMessage::default() });
        let recipient =
            Recipient { connection, redeliveries: 0, partition: None, wants_receipt: true };
        let message = Arc::new(draft.store(Position::FIRST, 0, 0));
        let delivery = TopicDelivery { message, recipients: vec![recipient] };
        let parcels = [
            Parcel::Answer(connection, Answer::Topic(TopicAnswer::Opened)),
            Parcel::Delivery(delivery),
        ];
        hub.post(0, parcels);
        while worker.turn() {}
        let (mut chunk, mut turns_in_vain) = (vec![0; 1 << 20], 0);
        while hub.store.take().is_empty() {
            match client.read(&mut chunk) {
                Ok(_) => turns_in_vain = 0,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    std::thread::sleep(Duration::from_millis(1));
                    turns_in_vain += 1;
                }
            }
            assert!(turns_in_vain < 5000, "the rest is never written");
            worker.turn();
        }
    }
}

#[test]
fn a_stop_is_over_only_when_the_owner_of_the_topics_knows_that_everybody_has_gone() {
    for driver in drivers() {
        let (mut worker, mut client) = worker(driver, CONSUMER);
        let hub = Arc::clone(&worker.hub);
        hub.store.pretend();
        let connection = asked(&mut worker)[0].0;
        hub.post(0, [Parcel::Answer(connection, Answer::Topic(TopicAnswer::Opened))]);
        worker.turn();
        let mut answer = [0; 1024];
        let count = client.read(&mut answer).unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 101"), "answered in the same turn");
        hub.store.ask(0, (0..50_000).map(|_| (connection, TopicQuestion::Took)).collect());
        hub.post(0, [Parcel::Close]);
        worker.turn();
        drop(client);
        while worker.sockets.total() > 0 {
            worker.turn();
        }
        for _ in 0..3 {
            worker.turn();
            assert!(!worker.is_over(), "the owner of the topics has not heard of it");
        }
        hub.store.take();
        let requests = asked(&mut worker);
        assert!(matches!(requests[..], [(gone, TopicQuestion::Gone)] if gone == connection));
        worker.turn();
        assert!(worker.is_over());
    }
}

#[test]
fn nobody_keeps_others_from_being_read_by_asking_much() {
    for driver in drivers() {
        let request =
            CONSUMER.replace("/consumer/persistent/t/n/x/s", "/producer/persistent/t/n/x");
        let (mut worker, first) = worker(driver, &request);
        let hub = Arc::clone(&worker.hub);
        hub.store.pretend();
        let address = first.peer_addr().unwrap();
        let mut clients = vec![first];
        for _ in 1..4 {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_nonblocking(true).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            clients.push(client);
        }
        let mut connections = Vec::new();
        while connections.len() < clients.len() {
            connections.extend(asked(&mut worker).into_iter().map(|(connection, _)| connection));
        }
        hub.post(
            0,
            connections
                .iter()
                .map(|connection| Parcel::Answer(*connection, Answer::Topic(TopicAnswer::Opened))),
        );
        worker.turn();
        // More of each than is read at once, and more requests in that than one turn takes.
        let message = b"\x81\x8e\0\0\0\0{\"payload\":\"\"}";
        for client in &mut clients {
            // As much of it as there is room for on the way.
            assert!(client.write(&message.repeat(20_000)).unwrap() > 0);
        }
        let mut heard = std::collections::HashSet::new();
        for _ in 0..2 * clients.len() {
            worker.turn();
            heard.extend(hub.store.take().into_iter().map(|(connection, _)| connection));
        }
        assert_eq!(heard.len(), clients.len(), "each was read once, though all had more to say");
    }
}

/// Takes turns until there is nothing to be done, which must not take many.
fn rest(worker: &mut Worker) {
    assert!((0..10_000).any(|_| !worker.turn()), "there is always something to be done");
    assert!(!worker.turn() && !worker.turn(), "there is something to be done again");
}

#[test]
fn a_client_that_reads_no_answer_and_has_shut_its_side_is_no_work() {
    for driver in drivers() {
        let (mut worker, mut client) = worker(driver, UP);
        let requests = UP.repeat(1000);
        // More than its answers have room for on the way.
        for _ in 0..200 {
            let _ = client.write(requests.as_bytes());
            worker.turn();
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
        rest(&mut worker);
        assert_eq!(worker.sockets.total(), 1);
    }
}

#[test]
fn a_shard_that_accepts_for_others_gives_each_its_turn() {
    for driver in drivers() {
        let turns = Turns { own: 0, next: 0, shards: 2 };
        let (mut worker, first) = accepting(driver, UP, Acceptor::ForAll(turns));
        let address = first.peer_addr().unwrap();
        let clients: Vec<_> = (1..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        rest(&mut worker);
        assert_eq!(worker.sockets.total(), 10);
        assert_eq!(worker.hub.mailboxes[1].depth(), 10);
        drop(clients);
    }
}

#[test]
fn connections_that_come_as_the_daemon_stops_are_no_work() {
    for driver in drivers() {
        let (mut worker, first) = worker(driver, UP);
        rest(&mut worker);
        let address = first.peer_addr().unwrap();
        let clients: Vec<_> = (0..100).filter_map(|_| TcpStream::connect(address).ok()).collect();
        worker.hub.draining.store(true, Relaxed);
        rest(&mut worker);
        assert_eq!(clients.len(), 100);
        // One that another shard has accepted before is let in.
        let before = worker.sockets.total();
        let (passed, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        worker.hub.post(0, [Parcel::Accepted(0, passed.into())]);
        rest(&mut worker);
        assert_eq!(worker.sockets.total(), before + 1);
    }
}
