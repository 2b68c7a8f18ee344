//! The unix feed's sockets: a task per publisher, of which there are few. Lines are read and
//! replies made in `feed/unix`.
//!
//! A publisher is read only while every shard has room, so a shard that lags slows its publishers
//! and loses nothing. Publishers take turns, each with a limit of bytes and of lines. Those that
//! send only rejected lines share a part of the shard's time, however many they are.
//!
//! Replies are sent as fast as the publisher reads them. A slow reader is waited for before more is
//! read from it; for one that does not read at all, replies beyond a limit are dropped and counted,
//! events never.
//!
//! Messages of durable topics go to the store, one chunk of a publisher at a time: it is read on
//! when the store has answered, so that the store holds no more of a publisher than one chunk and
//! one line.

mod handover;

use super::clock;
use super::groups::{self, Groups};
use super::inherited::FeedSocket;
use super::watch::Watched;
use super::worker::Worker;
use super::{Hub, ROOM_PAUSE};
use crate::dialect::Kind;
use crate::feed::Intake;
use crate::feed::unix::{Publisher, TOO_MANY_PUBLISHERS, UnixCounts, UnixFeedSettings};
use crate::frame::Tally;
use crate::metrics::{Metrics, Origin, Outcome};
use crate::throttle::LogLine;
use monoio::time::sleep;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, sockopt};
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Time that a stop grants to read what publishers have already sent.
pub(super) const FEEDS_STOP_MAX: Duration = Duration::from_secs(1);
/// Bytes read at once, and so handed on without asking for room again.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of queued replies at which a publisher is waited for. Those of one turn may come on top.
const REPLY_BYTES_MAX: usize = 256 * 1024;
/// Time that a publisher with so many replies is waited for while it reads none. After that, and
/// until it reads again, further replies are dropped.
const REPLIES_WAIT: Duration = Duration::from_secs(1);
/// Time that a publisher has to read its replies after it has sent everything.
const REPLIES_PATIENCE: Duration = Duration::from_secs(5);
/// Interval between checks that a publisher has read its replies.
const REPLIES_PAUSE: Duration = Duration::from_millis(10);
/// One part in this many of the shard's time is for all publishers together that send only rejected
/// lines. The other publishers and the clients do not notice then how many of them there are.
const IDLE_TALK_PARTS: u64 = 5;
/// Longest time until a publisher that waits for its turn learns that the daemon stops.
const PAUSE_PART: Duration = Duration::from_millis(20);
/// Interval between checks that every shard has delivered what a receipt counts.
const REACHED_PAUSE: Duration = Duration::from_millis(1);
/// The pause in accepting when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// The state that all publishers of a shard share.
pub(super) struct Feed {
    settings: RefCell<Arc<UnixFeedSettings>>,
    worker: Rc<RefCell<Worker>>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    intake: RefCell<Intake>,
    scratch: RefCell<Vec<u8>>,
    open: RefCell<Vec<Rc<Peer>>>,
    /// Those of them that were frozen for the next process.
    frozen: RefCell<Vec<Rc<Peer>>>,
    /// The next turn of a publisher that sends only rejected lines, in monotonic nanoseconds.
    idle_talk_at_ns: Cell<u64>,
    /// The number of publishers that wait for the store or the shards.
    settling: Cell<usize>,
    /// The listener of the feed, if there is one.
    listener: Option<Watched>,
    /// Whether publishers that wait to be accepted when the daemon stops can wait for the next.
    keeps_backlog: bool,
    /// The moment at which the daemon began to stop.
    stopped: Cell<Option<Instant>>,
}

/// One publisher's socket and its queued replies.
struct Peer {
    socket: Watched,
    publisher: RefCell<Publisher>,
    replies: RefCell<Vec<u8>>,
    replying: Cell<bool>,
    /// Bytes of replies that it has read.
    taken: Cell<u64>,
    /// Whether it was waited for in vain, so that replies are dropped.
    is_deaf: Cell<bool>,
    /// The counter of its deliveries, once it has asked for one.
    tally: OnceCell<Arc<Tally>>,
    /// Sessions reached in the process before.
    reached: u64,
    /// Whether another process has it.
    is_passed: Cell<bool>,
    _place: Place,
}

/// One of the places for publishers, which all shards share; freed when dropped.
struct Place(Arc<Hub>);

impl Place {
    /// Takes a place, if fewer than `places` are taken.
    fn take(hub: &Arc<Hub>, places: usize) -> Option<Self> {
        // Made first: dropping it takes the count back when there was none left.
        let place = Self(Arc::clone(hub));
        (hub.publishers.fetch_add(1, Relaxed) < places).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.publishers.fetch_sub(1, Relaxed);
    }
}

/// The outcome of a publisher's turn.
enum PublisherTurn {
    /// Another turn may follow after this time.
    Next(Duration),
    /// The publisher has gone.
    Over,
}

impl Feed {
    pub(super) fn new(
        spoken: Vec<Kind>,
        worker: Rc<RefCell<Worker>>,
        hub: Arc<Hub>,
        metrics: Arc<Metrics>,
        socket: Option<FeedSocket>,
    ) -> io::Result<Rc<Self>> {
        let intake = Intake::new(spoken, Arc::clone(worker.borrow().settings()));
        let keeps_backlog = socket.as_ref().is_some_and(|socket| !socket.is_own);
        let listener = socket.map(|socket| Watched::new(socket.socket)).transpose()?;
        Ok(Rc::new(Self {
            settings: RefCell::new(hub.feed()),
            worker,
            hub,
            metrics,
            intake: RefCell::new(intake),
            scratch: RefCell::new(vec![0; READ_BYTES]),
            open: RefCell::default(),
            frozen: RefCell::default(),
            idle_talk_at_ns: Cell::new(0),
            settling: Cell::new(0),
            listener,
            keeps_backlog,
            stopped: Cell::new(None),
        }))
    }

    /// Whether a publisher still awaits word of stored messages, or has sent lines before the stop
    /// that are not read yet and has time left.
    pub(super) fn owes(&self) -> bool {
        let has_time = self.stopped.get().is_some_and(|since| since.elapsed() < FEEDS_STOP_MAX);
        self.settling.get() > 0 || (has_time && !self.open.borrow().is_empty())
    }

    /// Reads no more of publishers than they have already sent, and accepts no more of them.
    pub(super) fn stop(self: &Rc<Self>) {
        // The path is removed, so those in the backlog connected before the stop.
        let keeps_backlog = self.keeps_backlog || self.hub.has_handed_over();
        if let Some(listener) = self.listener.as_ref().filter(|_| !keeps_backlog) {
            while let Ok(socket) = accept(listener) {
                self.admit(socket);
            }
        }

        self.stopped.set(Some(Instant::now()));
        for peer in self.open.borrow().iter() {
            // Bytes before the shutdown can still be read; the end follows them.
            let _ = rustix::net::shutdown(&peer.socket, Shutdown::Read);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// Accepts publishers until the daemon stops.
    pub(super) async fn accept(self: Rc<Self>) {
        let Some(listener) = &self.listener else { return };
        while listener.readable().await.is_ok() && !self.is_stopping() {
            if self.hub.holds_feeds() {
                sleep(ROOM_PAUSE).await;
                continue;
            }
            match accept(listener) {
                Ok(socket) => self.admit(socket),
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    self.metrics.accept_errors.add(1);
                    // The listener stays readable: without a pause this would spin.
                    LogLine::PublisherNotAccepted.warn(clock::now(), || {
                        format!("a publisher could not be accepted: {error}; trying again")
                    });
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Rc<Self>, socket: OwnedFd) {
        let place =
            Place::take(&self.hub, self.hub.feed().publishers_max * self.hub.mailboxes.len());
        let refusal = match &place {
            Some(_) => self.refusal(&socket),
            None => Some(TOO_MANY_PUBLISHERS.into()),
        };
        if let Some(refusal) = refusal {
            LogLine::PublisherRefused.warn(clock::now(), || refusal.clone());
            let reply = serde_json::json!({ "error": refusal }).to_string() + "\n";
            let _ = rustix::net::send(&socket, reply.as_bytes(), SendFlags::NOSIGNAL);
            return;
        }
        let (Some(place), Ok(socket)) = (place, Watched::new(socket)) else {
            return self.metrics.accept_errors.add(1);
        };
        self.begin(socket, place, Publisher::default(), Vec::new());
    }

    fn begin(
        self: &Rc<Self>,
        socket: Watched,
        place: Place,
        publisher: Publisher,
        replies: Vec<u8>,
    ) {
        let peer = Rc::new(Peer {
            socket,
            reached: publisher.reached().unwrap_or(0),
            publisher: RefCell::new(publisher),
            replying: Cell::new(!replies.is_empty()),
            replies: RefCell::new(replies),
            taken: Cell::new(0),
            is_deaf: Cell::new(false),
            tally: OnceCell::new(),
            is_passed: Cell::new(false),
            _place: place,
        });
        if peer.replying.get() {
            monoio::spawn(Rc::clone(&peer).keep_replying());
        }
        self.open.borrow_mut().push(Rc::clone(&peer));
        self.metrics.publishers.add(1);
        monoio::spawn(Rc::clone(self).serve(peer));
    }

    fn refusal(&self, socket: &OwnedFd) -> Option<String> {
        let settings = self.hub.feed();
        if settings.allow_uids.is_empty() && settings.allow_gids.is_empty() {
            return None;
        }
        let Ok(peer) = sockopt::socket_peercred(socket) else {
            return Some("the kernel does not tell the publisher's user; connect again".into());
        };
        let (uid, gid) = (peer.uid.as_raw(), peer.gid.as_raw());
        if settings.allow_uids.contains(&uid) || settings.allow_gids.contains(&gid) {
            return None;
        }
        // Looked up last: this reads a file in /proc.
        let groups = if settings.allow_gids.is_empty() {
            Groups::Known(Vec::new())
        } else {
            groups::of(&peer)
        };
        let hint = match &groups {
            Groups::Known(groups)
                if groups.iter().any(|group| settings.allow_gids.contains(group)) =>
            {
                return None;
            }
            Groups::Known(_) => "",
            Groups::Gone => {
                "; its supplementary groups are unknown, because the process that connected has \
                 ended"
            }
            Groups::Hidden => {
                "; its supplementary groups are unknown, because other users' processes are hidden \
                 from this one (ProtectProc= of the service, hidepid= of /proc)"
            }
        };
        Some(format!(
            "user {uid} with group {gid} may not publish (feed.unix.allow_uids, \
             feed.unix.allow_gids){hint}"
        ))
    }

    async fn serve(self: Rc<Self>, peer: Rc<Peer>) {
        loop {
            while !self.hub.feeds_have_room() && !self.hub.has_handed_over() {
                sleep(ROOM_PAUSE).await;
            }
            // Lines beyond the last turn's limit are still here, and come before the socket's.
            let has_more = peer.publisher.borrow().has_more();
            if has_more {
                yield_now().await;
            } else if peer.socket.readable().await.is_err() {
                break;
            }
            if self.hub.has_handed_over() {
                break;
            }
            if self.hub.holds_feeds() {
                continue;
            }
            let PublisherTurn::Next(pause) = self.read(&peer) else { break };
            let owes = peer.publisher.borrow().owes();
            if owes {
                self.settle(&peer).await;
            }
            self.await_reader(&peer).await;
            self.pause(pause).await;
        }
        if !peer.is_passed.get() {
            self.end(&peer).await;
        }
    }

    /// Ends a publisher's connection, once it has read its replies.
    async fn end(self: &Rc<Self>, peer: &Rc<Peer>) {
        let mut replies = Vec::new();
        self.count(peer.publisher.borrow_mut().end(&mut replies));
        self.reply(peer, &replies);
        // A publisher that has only shut its sending side may still read.
        let start = Instant::now();
        while peer.replying.get() && start.elapsed() < REPLIES_PATIENCE {
            sleep(REPLIES_PAUSE).await;
        }
        self.open.borrow_mut().retain(|open| !Rc::ptr_eq(open, peer));
        self.metrics.publishers.sub(1);
        let _ = rustix::net::shutdown(&peer.socket, Shutdown::Both);
    }

    /// Takes one turn: reads available bytes and hands events on.
    fn read(self: &Rc<Self>, peer: &Rc<Peer>) -> PublisherTurn {
        let mut publisher = peer.publisher.borrow_mut();
        let mut scratch = self.scratch.borrow_mut();
        let count = if publisher.has_more() {
            0
        } else {
            match rustix::net::recv(&peer.socket, &mut scratch[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return PublisherTurn::Over,
                Ok((_, count)) => count,
                Err(Errno::AGAIN | Errno::INTR) => return PublisherTurn::Next(Duration::ZERO),
                Err(_) => return PublisherTurn::Over,
            }
        };

        let (mut publications, mut replies) = (Vec::new(), Vec::new());
        let mut intake = self.intake.borrow_mut();
        if intake.configure(self.worker.borrow().settings()) {
            // The feed's own settings come with the reload that changed the dialects'.
            *self.settings.borrow_mut() = self.hub.feed();
        }
        let now = clock::now();
        let tally =
            publisher.wants_reached().then(|| Arc::clone(peer.tally.get_or_init(Arc::default)));
        let counts = publisher.read(
            &scratch[..count],
            self.settings.borrow().line_bytes_max,
            &mut intake,
            now,
            |mut publication| {
                publication.tally.clone_from(&tally);
                publications.push(publication);
            },
            &mut replies,
        );
        self.count(counts);
        if !publications.is_empty() {
            let mut worker = self.worker.borrow_mut();
            worker.broadcast(publications);
            // Delivered at once on this shard, instead of after a wake-up.
            worker.turn_aside();
        }
        self.reply(peer, &replies);
        PublisherTurn::Next(if publisher.is_idle_talk() {
            self.pause_after(now.monotonic_ns)
        } else {
            Duration::ZERO
        })
    }

    /// The pause after a turn of rejected lines that began at `since_ns`: a multiple of the time
    /// that it took, behind the other publishers that pause.
    fn pause_after(&self, since_ns: u64) -> Duration {
        let now_ns = clock::now().monotonic_ns;
        let took_ns = now_ns.saturating_sub(since_ns);
        let at_ns = self.idle_talk_at_ns.get().max(now_ns) + took_ns * (IDLE_TALK_PARTS - 1);
        self.idle_talk_at_ns.set(at_ns);
        Duration::from_nanos(at_ns - now_ns)
    }

    /// Waits for `time`, or until the daemon stops, which grants too little time for pauses.
    async fn pause(&self, time: Duration) {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero())
            && !self.is_stopping()
        {
            sleep(left.min(PAUSE_PART)).await;
        }
    }

    /// Waits until a publisher has read enough of its replies, for as long as it reads any.
    async fn await_reader(&self, peer: &Peer) {
        let (mut taken, mut since) = (peer.taken.get(), Instant::now());
        while peer.replies.borrow().len() > REPLY_BYTES_MAX
            && !peer.is_deaf.get()
            && !self.is_stopping()
        {
            sleep(REPLIES_PAUSE).await;
            if peer.taken.get() != taken {
                (taken, since) = (peer.taken.get(), Instant::now());
            } else if since.elapsed() > REPLIES_WAIT {
                peer.is_deaf.set(true);
            }
        }
    }

    /// Has the store append messages, waits for the shards to deliver counted events, and replies
    /// with the outcome.
    async fn settle(self: &Rc<Self>, peer: &Rc<Peer>) {
        self.settling.set(self.settling.get() + 1);
        let appends = peer.publisher.borrow_mut().take_appends();
        // Without a running store there are no results, and each message gets an error.
        let results = match appends.is_empty() {
            true => Vec::new(),
            false => self.hub.store.append(appends).await.unwrap_or_default(),
        };
        if let Some(tally) = peer.tally.get() {
            // A stop may leave deliveries undone, and their parts never come.
            while !tally.is_complete() && !self.is_stopping() {
                sleep(REACHED_PAUSE).await;
            }
            peer.publisher.borrow_mut().reach(peer.reached + tally.reached());
        }
        let mut replies = Vec::new();
        self.count(peer.publisher.borrow_mut().settle(results, &mut replies));
        self.reply(peer, &replies);
        self.settling.set(self.settling.get() - 1);
    }

    fn count(&self, counts: UnixCounts) {
        let events = &self.metrics.events[Origin::Unix as usize];
        events[Outcome::Accepted as usize].add(counts.accepted);
        events[Outcome::NoListener as usize].add(counts.no_listener);
        events[Outcome::Rejected as usize].add(counts.rejected);
    }

    /// Queues whole lines of replies and sends what the socket takes. For a publisher that does not
    /// read, lines without room are dropped and counted.
    fn reply(self: &Rc<Self>, peer: &Rc<Peer>, mut lines: &[u8]) {
        while !lines.is_empty() {
            let room = if peer.is_deaf.get() {
                REPLY_BYTES_MAX.saturating_sub(peer.replies.borrow().len()).min(lines.len())
            } else {
                lines.len()
            };
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

fn accept(listener: &Watched) -> rustix::io::Result<OwnedFd> {
    rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

/// Yields to the other tasks of this thread.
async fn yield_now() {
    monoio::spawn(async {}).await;
}

impl Peer {
    /// Sends queued replies. Returns whether none are left, be it that the publisher has gone.
    fn send(&self) -> bool {
        let mut replies = self.replies.borrow_mut();
        let sent =
            rustix::net::send(&self.socket, &replies, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        match sent {
            Ok(count) => {
                drop(replies.drain(..count));
                self.taken.set(self.taken.get() + count as u64);
                self.is_deaf.set(self.is_deaf.get() && count == 0);
            }
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
