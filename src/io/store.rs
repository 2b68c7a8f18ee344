//! The store: one thread that owns the durable topics and writes what they decide.
//!
//! It works in rounds: take what waits, let the topics decide, make everything that was appended safe with one sync of
//! the disk, then tell the producers and deliver. While the disk works, more comes in: that is the next group.
//!
//! Shards and feeds put what they want into an inbox and are answered through the shards' mailboxes, feeds and the
//! admin listener by a channel of their own.

use super::Shared;
use super::clock;
use super::handoff::Parcel;
use crate::roster::Seat;
use crate::topic::{Archive, Delivery, Draft, Inquiry, Outgoing, Reply, Request, Rules, TopicName, Topics};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Requests that wait for the store before the shards read no more from clients.
const REQUESTS_MAX: usize = 50_000;
/// Bytes of them.
const REQUESTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that are delivered before requests are looked at again.
const ROUND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The shard that stands for askers that are no connections.
const NO_SHARD: u16 = u16::MAX;
/// How long the store waits before it looks again whether a shard has room.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// A status, and JSON or a sentence.
pub(super) type Answer = (u16, Box<[u8]>);
/// What has become of each of some messages.
pub(super) type Receipts = Vec<Result<(), Box<str>>>;

/// The other threads' end of the store.
#[derive(Default)]
pub(super) struct Store {
    inbox: Mutex<Inbox>,
    posted: Condvar,
    running: AtomicBool,
}

/// What the thread has not taken yet.
#[derive(Default)]
struct Inbox {
    requests: Vec<(Seat, Request)>,
    bytes: usize,
    outside: Vec<Outside>,
    rules: Option<Rules>,
    over: bool,
}

#[allow(dead_code, reason = "its askers are still to come")]
/// What is asked by somebody who is no connection.
enum Outside {
    /// A feed's messages; one result for each.
    Append(Vec<(TopicName, Draft)>, oneshot::Sender<Receipts>),
    /// The admin listener's question: a status, and JSON or a sentence.
    Inquire(Inquiry, oneshot::Sender<Answer>),
}

#[allow(dead_code, reason = "its askers are still to come")]
impl Store {
    /// Whether shards may ask more.
    pub(super) fn has_room(&self) -> bool {
        if !self.running.load(Relaxed) {
            return true;
        }
        let inbox = self.lock();
        inbox.requests.len() < REQUESTS_MAX && inbox.bytes < REQUESTS_BYTES_MAX
    }

    /// Asks for connections of a shard. Without a store there is nobody to ask, and no dialect that does.
    pub(super) fn ask(&self, requests: Vec<(Seat, Request)>) {
        if !requests.is_empty() && self.running.load(Relaxed) {
            self.post(|inbox| {
                inbox.bytes += requests.iter().map(|(_, request)| request.weight()).sum::<usize>();
                inbox.requests.extend(requests);
            });
        }
    }

    /// Appends what a feed has. What comes back is in the order of the messages; nothing comes back without a store.
    pub(super) fn append(&self, messages: Vec<(TopicName, Draft)>) -> oneshot::Receiver<Receipts> {
        let (sender, receiver) = oneshot::channel();
        if self.running.load(Relaxed) {
            self.post(|inbox| inbox.outside.push(Outside::Append(messages, sender)));
        }
        receiver
    }

    /// Asks for the admin listener; nothing comes back without a store.
    pub(super) fn inquire(&self, inquiry: Inquiry) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        if self.running.load(Relaxed) {
            self.post(|inbox| inbox.outside.push(Outside::Inquire(inquiry, sender)));
        }
        receiver
    }

    /// Copies the store while it runs; nothing comes back without one.
    pub(super) fn backup(&self) -> oneshot::Receiver<Answer> {
        oneshot::channel().1
    }

    fn post(&self, put: impl FnOnce(&mut Inbox)) {
        put(&mut self.lock());
        self.posted.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever outside waits for answers.
#[derive(Default)]
struct Waiting {
    serial: u32,
    appends: BTreeMap<u32, Appending>,
    inquiries: BTreeMap<u32, oneshot::Sender<Answer>>,
}

/// A feed's messages that are being stored.
struct Appending {
    results: Receipts,
    count: usize,
    sender: oneshot::Sender<Receipts>,
}

impl Waiting {
    /// The requests that somebody outside makes, with the seat to which their answers go.
    fn requests(&mut self, outside: Outside) -> Vec<(Seat, Request)> {
        self.serial = self.serial.wrapping_add(1);
        let seat = Seat { shard: NO_SHARD, id: self.serial, serial: 0 };
        match outside {
            Outside::Append(messages, sender) => {
                let count = messages.len();
                self.appends
                    .insert(self.serial, Appending { results: Vec::with_capacity(count), count, sender });
                messages.into_iter().map(|(topic, draft)| (seat, Request::Append(topic, draft))).collect()
            }
            Outside::Inquire(inquiry, sender) => {
                self.inquiries.insert(self.serial, sender);
                vec![(seat, Request::Inquire(inquiry))]
            }
        }
    }

    /// An answer for somebody outside. Whoever has left meanwhile gets none.
    fn answer(&mut self, id: u32, reply: Reply) {
        let result = match reply {
            Reply::Answer(status, body) => {
                if let Some(sender) = self.inquiries.remove(&id) {
                    let _ = sender.send((status, body));
                }
                return;
            }
            Reply::Stored { .. } => Ok(()),
            Reply::NotStored { reason, .. } => Err(reason),
            _ => return,
        };
        let Some(appending) = self.appends.get_mut(&id) else { return };
        appending.results.push(result);
        if appending.results.len() == appending.count
            && let Some(Appending { results, sender, .. }) = self.appends.remove(&id)
        {
            let _ = sender.send(results);
        }
    }
}

/// Rounds until the daemon is over. `commit` makes safe what was appended.
#[expect(dead_code, reason = "the archive is still to come")]
fn run<A: Archive>(
    shared: &Shared,
    topics: &mut Topics<A>,
    mut commit: impl FnMut(&mut A) -> Result<(), Box<str>>,
) {
    let mut waiting = Waiting::default();
    let mut more = false;
    loop {
        let mut inbox = shared.store.lock();
        while !more
            && inbox.requests.is_empty()
            && inbox.outside.is_empty()
            && inbox.rules.is_none()
            && !inbox.over
        {
            let due = topics.next_tick_ns().map(|at_ns| at_ns.saturating_sub(clock::now().monotonic_ns));
            let wait = due.map_or(Duration::from_secs(3600), Duration::from_nanos);
            if wait.is_zero() {
                break;
            }
            let waited = shared.store.posted.wait_timeout(inbox, wait);
            inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let taken = std::mem::take(&mut *inbox);
        drop(inbox);
        let now = clock::now();
        if let Some(rules) = taken.rules {
            topics.configure(rules);
        }
        for (seat, request) in taken.requests {
            topics.take(seat, request, now);
        }
        for outside in taken.outside {
            for (seat, request) in waiting.requests(outside) {
                topics.take(seat, request, now);
            }
        }
        topics.tick(now);
        if topics.has_uncommitted() {
            let result = commit(topics.archive());
            topics.committed(result.as_ref().copied().map_err(|reason| &**reason), clock::now());
        }
        let has_room = shared.all_have_room();
        more = has_room && topics.deliver(ROUND_BYTES_MAX, now);
        post(shared, topics.take_outgoing(), &mut waiting);
        if taken.over {
            topics.save(clock::now());
            let _ = commit(topics.archive());
            return;
        }
        if !has_room {
            std::thread::sleep(ROOM_PAUSE);
            more = true;
        }
    }
}

/// Hands to the shards what is for them, each in order.
fn post(shared: &Shared, outgoing: Vec<Outgoing>, waiting: &mut Waiting) {
    let mut parcels: Vec<Vec<Parcel>> = shared.mailboxes.iter().map(|_| Vec::new()).collect();
    for outgoing in outgoing {
        match outgoing {
            Outgoing::Reply(seat, reply) if seat.shard == NO_SHARD => waiting.answer(seat.id, reply),
            Outgoing::Reply(seat, reply) => parcels[usize::from(seat.shard)].push(Parcel::Told(seat, reply)),
            Outgoing::Deliver(message, taker) => {
                let parcels = &mut parcels[usize::from(taker.seat.shard)];
                match parcels.last_mut() {
                    Some(Parcel::Delivery(last)) if Arc::ptr_eq(&last.message, &message) => {
                        last.takers.push(taker);
                    }
                    _ => parcels.push(Parcel::Delivery(Delivery { message, takers: vec![taker] })),
                }
            }
        }
    }
    for (mailbox, parcels) in shared.mailboxes.iter().zip(parcels) {
        if !parcels.is_empty() {
            mailbox.post(parcels.into_iter());
        }
    }
}
