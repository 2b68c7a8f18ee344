//! The unix feed's sockets: a task per publisher, of which there are few.
//!
//! A publisher is read only while every shard has room, so a shard that lags slows its publishers and loses
//! nothing. Replies go out as far as the publisher reads them; beyond a limit they are dropped and counted,
//! events never.
//!
//! What is to be stored goes to the store, one chunk of a publisher at a time: nothing more of it is read before the
//! store has answered, so that it holds no more of a publisher than one chunk and one line.

use super::ROOM_PAUSE;
use super::Shared;
use super::clock;
use super::watch::Watched;
use super::worker::Worker;
use crate::dialect::Kind;
use crate::feed::Intake;
use crate::feed::unix::{Counts, Publisher, Settings};
use crate::metrics::{Metrics, Origin, Outcome};
use crate::throttle::LogLine;
use crate::topic::{Draft, TopicName};
use monoio::time::sleep;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, sockopt};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes read at once, and so the most that is handed on without asking for room again.
const READ_BYTES: usize = 64 * 1024;
/// Replies kept for a publisher that does not read them.
const REPLY_BYTES_MAX: usize = 256 * 1024;
/// How long a publisher that has sent everything has to read its replies.
const REPLIES_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at whether it has.
const REPLIES_PAUSE: Duration = Duration::from_millis(10);
/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What every publisher of a shard shares.
pub(super) struct Feed {
    settings: Settings,
    worker: Rc<RefCell<Worker>>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    intake: RefCell<Intake>,
    scratch: RefCell<Vec<u8>>,
    open: RefCell<Vec<Rc<Peer>>>,
    /// Publishers that wait for the store.
    storing: Cell<usize>,
    stopping: Cell<bool>,
}

/// One publisher's socket and the replies that wait for it.
struct Peer {
    socket: Watched,
    replies: RefCell<Vec<u8>>,
    replying: Cell<bool>,
}

impl Feed {
    pub(super) fn new(
        settings: Settings,
        spoken: Vec<Kind>,
        worker: Rc<RefCell<Worker>>,
        shared: Arc<Shared>,
        metrics: Arc<Metrics>,
    ) -> Rc<Self> {
        let intake = Intake::new(spoken, Arc::clone(worker.borrow().settings()));
        Rc::new(Self {
            settings,
            worker,
            shared,
            metrics,
            intake: RefCell::new(intake),
            scratch: RefCell::new(vec![0; READ_BYTES]),
            open: RefCell::default(),
            storing: Cell::new(0),
            stopping: Cell::new(false),
        })
    }

    /// Whether some publisher is still to be told what was stored of its lines.
    pub(super) fn owes(&self) -> bool {
        self.storing.get() > 0
    }

    /// Lets every publisher finish what it has sent, and takes no more.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        for peer in self.open.borrow().iter() {
            let _ = rustix::net::shutdown(&peer.socket, Shutdown::Read);
        }
    }

    /// Accepts publishers for as long as the daemon takes any.
    pub(super) async fn accept(self: Rc<Self>, listener: Watched) {
        while listener.readable().await.is_ok() && !self.stopping.get() {
            match rustix::net::accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => self.admit(socket),
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    self.metrics.accept_errors.add(1);
                    LogLine::PublisherNotAccepted.warn(clock::now(), || {
                        format!("a publisher could not be accepted: {error}; trying again")
                    });
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Rc<Self>, socket: OwnedFd) {
        if let Some(refusal) = self.refusal(&socket) {
            LogLine::PublisherRefused.warn(clock::now(), || refusal.clone());
            let reply = serde_json::json!({ "error": refusal }).to_string() + "\n";
            let _ = rustix::net::send(&socket, reply.as_bytes(), SendFlags::NOSIGNAL);
            return;
        }
        let Ok(socket) = Watched::new(socket) else {
            return self.metrics.accept_errors.add(1);
        };
        let peer = Rc::new(Peer { socket, replies: RefCell::default(), replying: Cell::new(false) });
        self.open.borrow_mut().push(Rc::clone(&peer));
        self.metrics.publishers.add(1);
        monoio::spawn(Rc::clone(self).serve(peer));
    }

    fn refusal(&self, socket: &OwnedFd) -> Option<String> {
        let settings = &self.settings;
        if self.open.borrow().len() >= settings.publishers_max {
            return Some("too many publishers (feed.unix.publishers_max)".into());
        }
        if settings.allow_uids.is_empty() && settings.allow_gids.is_empty() {
            return None;
        }
        let Ok(peer) = sockopt::socket_peercred(socket) else {
            return Some("the publisher's user cannot be told".into());
        };
        let (uid, gid) = (peer.uid.as_raw(), peer.gid.as_raw());
        let allowed = settings.allow_uids.contains(&uid) || settings.allow_gids.contains(&gid);
        (!allowed).then(|| {
            format!(
                "user {uid} with group {gid} may not publish (feed.unix.allow_uids, feed.unix.allow_gids)"
            )
        })
    }

    async fn serve(self: Rc<Self>, peer: Rc<Peer>) {
        let mut publisher = Publisher::default();
        loop {
            while !self.worker.borrow().all_have_room() {
                sleep(ROOM_PAUSE).await;
            }
            if peer.socket.readable().await.is_err() || !self.read(&peer, &mut publisher) {
                break;
            }
            let appends = publisher.take_appends();
            if !appends.is_empty() {
                self.store(&peer, &mut publisher, appends).await;
            }
        }
        let mut replies = Vec::new();
        self.count(publisher.end(&mut replies));
        self.reply(&peer, &replies);
        // Who has only stopped writing may still read.
        let start = Instant::now();
        while peer.replying.get() && start.elapsed() < REPLIES_PATIENCE {
            sleep(REPLIES_PAUSE).await;
        }
        self.open.borrow_mut().retain(|open| !Rc::ptr_eq(open, &peer));
        self.metrics.publishers.sub(1);
        let _ = rustix::net::shutdown(&peer.socket, Shutdown::Both);
    }

    /// Reads what is there and hands it on. Returns whether more can come.
    fn read(self: &Rc<Self>, peer: &Rc<Peer>, publisher: &mut Publisher) -> bool {
        let mut scratch = self.scratch.borrow_mut();
        let count = match rustix::net::recv(&peer.socket, &mut scratch[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return false,
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        };
        let (mut publications, mut replies) = (Vec::new(), Vec::new());
        let mut intake = self.intake.borrow_mut();
        intake.configure(self.worker.borrow().settings());
        let counts = publisher.read(
            &scratch[..count],
            self.settings.line_bytes_max,
            &mut intake,
            clock::now(),
            |publication| publications.push(publication),
            &mut replies,
        );
        self.count(counts);
        let mut worker = self.worker.borrow_mut();
        worker.hand_out(publications);
        worker.turn_aside();
        drop(worker);
        self.reply(peer, &replies);
        true
    }

    /// Has the store append messages, and says what has become of them.
    async fn store(
        self: &Rc<Self>,
        peer: &Rc<Peer>,
        publisher: &mut Publisher,
        appends: Vec<(TopicName, Draft)>,
    ) {
        self.storing.set(self.storing.get() + 1);
        // Nothing comes of a store that does not run.
        let results = self.shared.store.append(appends).await.unwrap_or_default();
        let mut replies = Vec::new();
        self.count(publisher.settle(results, &mut replies));
        self.reply(peer, &replies);
        self.storing.set(self.storing.get() - 1);
    }

    fn count(&self, counts: Counts) {
        let events = &self.metrics.events[Origin::Unix as usize];
        events[Outcome::Accepted as usize].add(counts.accepted);
        events[Outcome::Unspoken as usize].add(counts.unspoken);
        events[Outcome::Rejected as usize].add(counts.rejected);
    }

    /// Queues as many whole lines as there is room for and sends what the socket takes; counts the others.
    fn reply(self: &Rc<Self>, peer: &Rc<Peer>, mut lines: &[u8]) {
        while !lines.is_empty() {
            let room = REPLY_BYTES_MAX.saturating_sub(peer.replies.borrow().len()).min(lines.len());
            let Some(end) = lines[..room].iter().rposition(|byte| *byte == b'\n') else { break };
            let (fitting, rest) = lines.split_at(end + 1);
            lines = rest;
            peer.replies.borrow_mut().extend_from_slice(fitting);
            if !peer.send() && !peer.replying.replace(true) {
                monoio::spawn(Rc::clone(peer).keep_replying());
            }
        }
        let dropped = lines.iter().filter(|byte| **byte == b'\n').count();
        self.metrics.replies_dropped.add(dropped as u64);
    }
}

impl Peer {
    /// Sends what it can. Returns whether nothing is left, or nobody to have it.
    fn send(&self) -> bool {
        let mut replies = self.replies.borrow_mut();
        let sent = rustix::net::send(&self.socket, &replies, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        match sent {
            Ok(count) => drop(replies.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => replies.clear(),
        }
        replies.is_empty()
    }

    async fn keep_replying(self: Rc<Self>) {
        while self.socket.writable().await.is_ok() && !self.send() {}
        self.replying.set(false);
    }
}
