//! One shard at work: the turn.
//!
//! A turn takes from the mailbox and the sockets (bounded), lets the shard decide, and writes each
//! touched connection once. Nothing here waits: the loop around it does.

use super::Hub;
use super::clock;
use super::connection::Sockets;
use super::handoff::Parcel;
use super::handoff::inbox::Wake;
use super::handoff::merge::{MergedReader, NextRead};
use crate::dialect::{Kind, Settings};
use crate::frame::Publication;
use crate::service::topic::{Routes, TopicAnswer};
use crate::service::{Answer, ConnectionRef, Question};
use crate::shard::{Shard, settle_reports};
use crate::throttle;
use crate::wheel::{Now, Tick};
use rustix::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Maximum number of publications in one turn, so that a burst does not keep the sockets waiting.
const TURN_EVENTS_MAX: usize = 64;
/// Bytes of a turn's frames and tables at which it ends, and so what an outbox may hold beyond its
/// limit before the first of it is offered to a socket.
const TURN_BYTES_MAX: usize = 1024 * 1024;

/// A shard with its sockets and its reading of the hand-off.
pub(super) struct Worker {
    shard: Shard,
    sockets: Sockets,
    hub: Arc<Hub>,
    /// The owners of topics that each connection has asked, when there are several.
    routes: Routes,
    number: usize,
    /// The publications and messages for this shard.
    merge: MergedReader<Arc<Publication>, Parcel>,
    ticked: Tick,
    /// Whether a task gives this shard a turn at every tick.
    ticking: bool,
    /// Whether connections and publishers are no longer accepted.
    pub(super) draining: bool,
    /// Whether every session has been closed.
    pub(super) closing: bool,
}

impl Worker {
    pub(super) fn new(shard: Shard, sockets: Sockets, hub: Arc<Hub>, number: usize) -> Self {
        Self {
            shard,
            sockets,
            routes: Routes::new(hub.store.owners()),
            hub,
            number,
            merge: MergedReader::new(number, Kind::ALL.len()),
            ticked: clock::now().tick(),
            ticking: false,
            draining: false,
            closing: false,
        }
    }

    /// A descriptor that is readable when any socket is ready.
    pub(super) fn set(&self) -> BorrowedFd<'_> {
        self.sockets.set()
    }

    /// The current settings.
    pub(super) fn settings(&self) -> &Arc<Settings> {
        self.shard.settings()
    }

    /// Whether this shard may end. It waits for all others, because it may own the presence that
    /// another's last request asks for, and until the owner of the topics has heard of every
    /// session's end.
    pub(super) fn is_over(&self) -> bool {
        self.closing && self.shard.is_empty() && !self.has_questions() && self.sockets.total() == 0
    }

    /// Whether every shard has room for more publications.
    pub(super) fn all_have_room(&self) -> bool {
        self.hub.all_have_room()
    }

    /// Publishes to every shard that follows. This shard reads its own part in its next turn.
    pub(super) fn broadcast(&self, publications: Vec<Publication>) {
        self.hub.broadcast(publications, Some(self.number));
    }

    /// Whether publications or questions of clients wait for room elsewhere. Until it is there no
    /// more is read from this shard's clients, so nothing of theirs is dropped and nothing grows.
    pub(super) fn holds_back(&self) -> bool {
        self.shard.holds_back() || self.sockets.has_waiting()
    }

    /// Hands on publications and questions of clients as far as there is room; returns whether
    /// there was.
    fn drain(&mut self) -> bool {
        let shards_have_room = self.all_have_room();
        if shards_have_room {
            self.route();
        }
        self.ask() && shards_have_room
    }

    /// Hands questions to the services; returns whether all had room. Questions of one turn may go
    /// beyond it, and wait here.
    fn ask(&mut self) -> bool {
        if !self.has_questions() {
            return true;
        }
        let mut kept = Vec::new();
        let (mut tokens, mut webhooks, mut relays) = (Vec::new(), Vec::new(), Vec::new());
        let verifiers_have_room = self.hub.bridge.has_room();
        let shards_have_room = self.all_have_room();
        let topics_have_room = self.hub.store.has_room();
        let mut questions = self.shard.take_questions();
        // Rooms are looked at once, so that of one service either all questions leave or all wait,
        // in order.
        for (from, question) in questions.drain(..) {
            match question {
                Question::Token(question) if verifiers_have_room => tokens.push((from, question)),
                Question::Presence(question) if shards_have_room => {
                    self.hub.ask_presence(from, question, self.number);
                }
                Question::Topic(question) if topics_have_room => self.routes.ask(from, question),
                Question::Webhook(webhook) => webhooks.push((from, *webhook)),
                Question::Relay(text) => relays.push(text),
                question => kept.push((from, question)),
            }
        }
        let had_room = kept.is_empty();
        questions.append(&mut kept);
        self.shard.keep_questions(questions);

        if topics_have_room {
            for (owner, questions) in self.routes.take_asked().enumerate() {
                self.hub.store.ask(owner, questions);
            }
        }
        self.hub.ask_verifiers(tokens);
        self.hub.bridge.notify(webhooks);
        self.hub.relay(self.number, relays);
        had_room
    }

    /// Whether questions wait to be handed on.
    fn has_questions(&self) -> bool {
        self.shard.has_questions() || self.routes.has_asked()
    }

    /// Passes an answer of an owner of topics to its connection.
    fn tell(&mut self, connection: ConnectionRef, reply: TopicAnswer, now: Now) {
        // Several owners answer a question about many topics in parts, which are joined here.
        let is_whole = self.hub.store.owners() == 1;
        let reply = if is_whole { Some(reply) } else { self.routes.answered(connection, reply) };
        if let Some(reply) = reply {
            self.shard.answer(connection, Answer::Topic(reply), now);
        }
    }

    /// Publishes for the clients of this shard.
    fn route(&mut self) {
        let outgoing = self.shard.take_outgoing();
        self.hub.route(outgoing, Some(self.number));
    }

    /// Takes one turn. Returns whether there is more to do at once.
    pub(super) fn turn(&mut self) -> bool {
        let now = clock::now();
        self.hub.pulses.shards[self.number].beat(now);
        // Before the mailbox is read: posts from here on need no wake-up.
        self.hub.mailboxes[self.number].mark_awake();
        if !self.draining && self.hub.draining.load(Relaxed) {
            self.draining = true;
            self.sockets.stop_accepting(&mut self.shard, now);
        }

        let delivered = self.deliver(now);
        self.follow();
        let has_room = self.drain();
        let (more, woken) = self.sockets.poll(&mut self.shard, has_room, now);
        for (shard, number, socket) in self.sockets.take_passed() {
            self.hub.post(shard, [Parcel::Accepted(number, socket)]);
        }
        if woken {
            self.hub.mailboxes[self.number].waker().clear_wakeups();
        }
        // Before questions of new sessions leave this shard: the answers may cause publications
        // that are for them.
        self.follow();
        if now.tick() != self.ticked {
            self.ticked = now.tick();
            self.shard.tick(now);
            self.sockets.tick(now);
            throttle::settle(now);
            settle_reports(now);
        }
        if has_room {
            // Even if the room is gone meanwhile: a request is answered once every shard has its
            // publications.
            self.route();
            self.ask();
        }
        self.flush(now, delivered);
        // Receipts of this flush, and the last questions of sessions whose sockets it found broken.
        self.ask();
        let has_completed = self.sockets.submit();
        more || has_completed
            || self.merge.has_messages()
            || (has_room && self.sockets.has_waiting())
    }

    /// Takes a turn from another task than the one that waits for the sockets; that one is woken
    /// if there is more to do, and sleeps on otherwise.
    pub(super) fn turn_aside(&mut self) {
        let more = self.turn() || self.is_over() || self.draining || self.holds_back();
        // Only that task can spawn the one for ticks.
        let is_to_tick = !self.ticking && !self.is_idle();
        if more || is_to_tick || !self.sleep() {
            self.hub.mailboxes[self.number].waker().wake();
        }
    }

    /// Whether nothing timed exists, so that the shard need not turn at every tick.
    pub(super) fn is_idle(&self) -> bool {
        self.shard.is_idle() && self.sockets.is_idle() && !self.draining && !self.holds_back()
    }

    /// Whether this shard has to turn at every tick from now on.
    pub(super) fn begins_ticking(&mut self) -> bool {
        let begins = !self.ticking && !self.is_idle();
        self.ticking |= begins;
        begins
    }

    /// Notes that the task for ticks has ended; a shard that is no longer idle is woken to start
    /// another.
    pub(super) fn end_ticking(&mut self) {
        self.ticking = false;
        if !self.is_idle() {
            self.hub.mailboxes[self.number].waker().wake();
        }
    }

    /// Shows that this thread lives, and logs the counts of suppressed lines.
    pub(super) fn beat(&self) {
        let now = clock::now();
        self.hub.pulses.shards[self.number].beat(now);
        throttle::settle(now);
        settle_reports(now);
    }

    /// Marks this shard as asleep, unless something waits for it. Returns whether it may sleep.
    pub(super) fn sleep(&mut self) -> bool {
        self.merge.sleep(&self.hub.mailboxes[self.number])
    }

    /// Follows the dialects that this shard has sessions of, and leaves the others once it has read
    /// their earlier publications.
    fn follow(&mut self) {
        for &kind in Kind::ALL {
            self.merge.follow(&self.hub.log, kind as usize, self.shard.has_sessions(kind));
        }
    }

    /// Delivers publications and opens messages. Returns the number of publications.
    fn deliver(&mut self, now: Now) -> usize {
        self.merge.take(&self.hub.log, &self.hub.mailboxes[self.number]);
        let (mut delivered, mut is_first) = (0, true);
        while delivered < TURN_EVENTS_MAX && self.shard.turn_bytes() < TURN_BYTES_MAX {
            // The first is taken even while nothing can be routed: shards could wait for each other
            // for ever. Publications need no room at the owner of the topics, or a slow disk would
            // slow the clients of every protocol.
            if !std::mem::take(&mut is_first)
                && !self.shard.takes_more()
                && (!self.shard.has_outgoing_room() || self.merge.is_message_next())
            {
                break;
            }

            match self.merge.pop() {
                // The time of a stop is better spent on close frames, which let clients reconnect
                // elsewhere.
                Some(NextRead::Item(_)) if self.hub.hurrying.load(Relaxed) => {}
                Some(NextRead::Item(publication)) => {
                    delivered += 1;
                    self.shard.deliver(publication, now);
                }
                Some(NextRead::Message(parcel)) => delivered += self.open(parcel, now),
                None => break,
            }
        }
        delivered
    }

    /// Handles a message to this shard. Returns the number of publications delivered.
    fn open(&mut self, parcel: Parcel, now: Now) -> usize {
        match parcel {
            Parcel::Publication(_) | Parcel::Delivery(_) if self.hub.hurrying.load(Relaxed) => {}
            Parcel::Publication(publication) => {
                self.shard.deliver(&publication, now);
                return 1;
            }
            Parcel::Retain(publication) => self.shard.retain(&publication, now),
            Parcel::Delivery(delivery) => {
                self.shard.take_delivery(&delivery, now);
                return 1;
            }
            Parcel::Answer(connection, Answer::Topic(answer)) => self.tell(connection, answer, now),
            Parcel::Answer(connection, answer) => self.shard.answer(connection, answer, now),
            Parcel::Presence(from, question) => self.shard.ask_presence(from, *question, now),
            Parcel::Outage(kind, outage) => self.shard.outage(kind, outage, now),
            Parcel::Isolated(part, parts) => self.shard.isolate(part, parts, now),
            Parcel::Configure(settings, limits) => {
                self.shard.configure(settings, limits, now);
                self.sockets.configure(&self.shard);
            }
            // Accepting has ended for good, and the sockets of a late listener close with the
            // parcel.
            Parcel::Listener(..) if self.draining => {}
            Parcel::Listener(number, change) => {
                self.sockets.change(number, change, &mut self.shard, now)
            }
            Parcel::Inspect(inquiry, asker) => {
                // One who has given up must not have sessions ended any more.
                if !asker.is_closed() {
                    let answer = self.sockets.inspect(&mut self.shard, &inquiry, now);
                    // Or it has given up just now.
                    let _ = asker.send(answer);
                }
            }
            Parcel::Accepted(number, socket) => {
                self.sockets.admit(socket, number, &mut self.shard, now);
                // By a shard that lags: nothing else would end it.
                if self.closing {
                    self.shard.drain(now);
                }
            }
            Parcel::Farewell(part, parts) => self.shard.farewell(part, parts, now),
            Parcel::Close => {
                self.closing = true;
                self.shard.drain(now);
            }
        }
        0
    }

    fn flush(&mut self, now: Now, delivered: usize) {
        let Self { shard, sockets, .. } = self;
        shard.flush(now, sockets);
        sockets.settle(shard);
        self.hub.ends.keep(sockets.take_ended());
        // The clock again only where a latency is measured.
        shard.end_turn(if delivered > 0 { clock::now() } else { now });
    }
}

#[cfg(test)]
mod tests {
    use super::super::clients::Clients;
    use super::super::foundation::drivers;
    use super::super::handoff::MAILBOX;
    use super::super::listen;
    use super::super::listen::{Acceptor, Listener, Turns};
    use super::super::runtime::ChosenDriver;
    use super::super::transport::Transport;
    use super::*;
    use crate::dialect::{Kind, pulsar};
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
        let sockets =
            Sockets::new(vec![listener], transport, Arc::default(), clients, metrics).unwrap();
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
                connections
                    .extend(asked(&mut worker).into_iter().map(|(connection, _)| connection));
            }
            hub.post(
                0,
                connections.iter().map(|connection| {
                    Parcel::Answer(*connection, Answer::Topic(TopicAnswer::Opened))
                }),
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
            assert_eq!(
                heard.len(),
                clients.len(),
                "each was read once, though all had more to say"
            );
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
            let clients: Vec<_> =
                (0..100).filter_map(|_| TcpStream::connect(address).ok()).collect();
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
}
