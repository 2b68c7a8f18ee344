//! The old process: what it says to the new one, and what it makes of the answers.
//!
//! Beside it is what it does for either kind of hand-over, this one and that of `keep`: it passes
//! its listeners, comes to rest, and freezes everything.

use super::channel::{self, HandoverChannel};
use super::error::{HandoverError, SHARDS_MAX};
use super::order::{FrozenShard, HandoverOrder, ShardReply, ShardRest};
use super::word::{ListenerPlace, NewWord, OldWord, PassedListener};
use crate::handover::{self, FORMAT, HandoverHeader, HandoverRecord, STATE_BYTES_MAX};
use crate::io::handoff::Parcel;
use crate::io::handoff::inbox::Wake as _;
use crate::io::{Daemon, clock};
use crate::metrics::HandoverOutcome;
use crate::service::topic::FrozenTopics;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use serde::de::DeserializeOwned;
use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Time for the new process to start. Nothing pauses meanwhile.
const START_MAX: Duration = Duration::from_secs(20);
/// Time for a shard to do what it is told; it turns every millisecond in a pause.
const SHARD_MAX: Duration = Duration::from_secs(2);
/// Time for what is on its way to arrive; without an end of it there is no hand-over.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Time for answers to sessions. One that awaits its answer for longer is told to come back.
const SETTLE_MAX: Duration = Duration::from_millis(100);
/// Time for the store to answer what it was asked, which it may have to write first.
const STORE_MAX: Duration = Duration::from_secs(1);
/// Time for it to save and close. A disk that hangs keeps the other process waiting for longer.
const STORE_STOP_MAX: Duration = Duration::from_secs(5);
/// Time for the last answers of the bridge, which are in mailboxes already.
const LAST_MAX: Duration = Duration::from_millis(10);
/// Time for the answers to publishers, which the store may have to write first. One that waits for
/// longer is closed after its answer.
const ANSWERS_MAX: Duration = Duration::from_secs(2);
/// Interval between two looks at what is on its way.
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// Time for the new process to take over, which is a pause for all clients.
const TAKEN_MAX: Duration = Duration::from_secs(5);
/// A hand-over that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// The number of connections that go on in the new process.
    pub passed: usize,
    /// The number of connections that are told to come back.
    pub told: usize,
    /// How long no client was served.
    pub pause: Duration,
}

/// Everything that is passed, frozen until it is clear who goes on.
pub(super) struct FrozenState {
    /// When the pause began.
    begun: Instant,
    /// The same by the clock of the machine.
    paused_ns: u64,
    /// The records.
    file: OwnedFd,
    /// The queue of each shard's descriptors.
    queues: Vec<OwnedFd>,
    /// The number of connections that were frozen, by shard.
    connections: Vec<usize>,
    /// The number of those that were not.
    pub(super) told: usize,
    /// Tells the bridge that another has what it knew.
    bridge: oneshot::Sender<()>,
}

impl FrozenState {
    /// The number of connections that were frozen.
    pub(super) fn sessions(&self) -> usize {
        self.connections.iter().sum()
    }

    /// Puts it into a channel.
    pub(super) fn say(&self, channel: &HandoverChannel) -> io::Result<()> {
        let mut descriptors = vec![self.file.as_fd()];
        descriptors.extend(self.queues.iter().map(OwnedFd::as_fd));
        channel.say(&OldWord::State { paused_ns: self.paused_ns }, &descriptors)
    }
}

impl Daemon {
    /// Why this daemon cannot be handed over; `None` when it can.
    #[must_use]
    pub fn handover_obstacle(&self) -> Option<&'static str> {
        // Its journals, leases and names are of the process.
        self.hub.cluster.is_some().then_some(
            "a daemon with [cluster] is not handed over: restart it, and its clients go to the \
             others",
        )
    }

    /// Hands everything over to the process at the other end of a channel. It is asked to begin
    /// after `before_go`; this one has to be stopped then.
    ///
    /// # Errors
    /// Why this process goes on as if nothing had been.
    pub fn pass_to(
        &self,
        channel: &HandoverChannel,
        before_go: impl FnOnce(),
    ) -> Result<HandedOver, HandoverError> {
        self.has_few_shards()?;
        match heard(channel, START_MAX, "started")?.0 {
            NewWord::Hello { oldest, newest, .. } if (oldest..=newest).contains(&FORMAT) => {}
            NewWord::Hello { oldest, newest, release } => {
                return Err(HandoverError::Format { release, oldest, newest });
            }
            other => return Err(unexpected(other)),
        }
        let listeners = self.passed_listeners(true)?;
        pass_listeners(channel, &listeners)
            .map_err(|error| HandoverError::Silent("become ready", error))?;
        match heard(channel, START_MAX, "become ready")?.0 {
            NewWord::Ready => {}
            other => return Err(unexpected(other)),
        }

        let frozen = self.freeze()?;
        let refused = match self.passed(channel, &frozen) {
            Ok(refused) => refused,
            Err(error) => {
                drop(frozen);
                self.resume();
                return Err(error);
            }
        };
        let count = refused.iter().map(Vec::len).sum::<usize>();
        let (passed, told) = (frozen.sessions() - count, frozen.told + count);

        before_go();
        if let Err(error) = channel.say(&OldWord::Go { told }, &[]) {
            drop(frozen);
            self.resume();
            return Err(error.into());
        }
        let pause = frozen.begun.elapsed();
        self.release(frozen, &refused);
        Ok(HandedOver { passed, told, pause })
    }

    /// Has the new process take over what is frozen. Returns the numbers of the connections that it
    /// could not take over, by shard.
    fn passed(
        &self,
        channel: &HandoverChannel,
        frozen: &FrozenState,
    ) -> Result<Vec<Vec<u32>>, HandoverError> {
        frozen.say(channel).map_err(|error| HandoverError::Silent("taken over", error))?;
        let (word, files) = heard(channel, TAKEN_MAX, "taken over")?;
        match word {
            NewWord::Taken { .. } => {}
            other => return Err(unexpected(other)),
        }
        let refused: Vec<(u16, u32)> = self.refused(files)?;
        let mut by_shard = vec![Vec::new(); self.threads.len()];
        for (shard, number) in refused {
            // What it says of others is not of ours.
            if let Some(numbers) = by_shard.get_mut(usize::from(shard)) {
                numbers.push(number);
            }
        }
        for (numbers, connections) in by_shard.iter_mut().zip(&frozen.connections) {
            numbers.sort_unstable();
            numbers.dedup();
            numbers.retain(|number| (*number as usize) < *connections);
        }
        Ok(by_shard)
    }

    /// Begins the pause, and freezes everything.
    ///
    /// # Errors
    /// Why it cannot be; then everything goes on.
    pub(super) fn freeze(&self) -> Result<FrozenState, HandoverError> {
        self.hub.held.store(true, SeqCst);
        let frozen = self.await_answers().and_then(|()| self.frozen());
        frozen.inspect_err(|_| self.resume())
    }

    /// Gives what was frozen to the process that goes on with it, but for the connections of these
    /// numbers, by shard. What is left here is to be stopped.
    pub(super) fn release(&self, frozen: FrozenState, refused: &[Vec<u32>]) {
        // The other opens it as soon as it is closed here. What sessions that are told to come back
        // still ask is not answered any more.
        self.hub.store.stop(STORE_STOP_MAX);
        // Each shard by itself: one that hangs must not have its connections ended twice.
        let _ = self
            .ask(|shard, reply| HandoverOrder::Release(refused[shard].as_slice().into(), reply));
        // It may have ended.
        let _ = frozen.bridge.send(());
        self.hub.handed_over.store(true, Relaxed);
        self.hub.admin_end.notify_one();
        self.hub.mailboxes.iter().for_each(|mailbox| mailbox.waker().wake());
    }

    fn frozen(&self) -> Result<FrozenState, HandoverError> {
        let (begun, paused_ns) = (Instant::now(), clock::now().monotonic_ns);
        self.hub.post_to_all(|| Parcel::Handover(HandoverOrder::Pause));
        self.settle(SETTLE_MAX)?;
        // Before the shards, which take the last of its answers.
        let frozen = self.hub.bridge.freeze(SHARD_MAX).map_err(|_| HandoverError::Bridge)?;
        let (of_bridge, bridge) = frozen;
        self.settle(LAST_MAX)?;
        // After what sessions have asked it because of the bridge's answers.
        let topics = self.hub.store.freeze(STORE_MAX).map_err(|_| HandoverError::Store)?;
        self.settle(LAST_MAX)?;

        let mut ends = Vec::new();
        let mut queues = Vec::new();
        for _ in 0..self.threads.len() {
            let (sending, receiving) = HandoverChannel::pair()?;
            ends.push(Some(sending.into_descriptor()));
            queues.push(receiving.into_descriptor());
        }
        let frozen: Vec<FrozenShard> = self.ask(|shard, reply| {
            // Each is asked once.
            ends[shard].take().map_or(HandoverOrder::Pause, |end| HandoverOrder::Freeze(end, reply))
        })?;

        let file = self.state(&frozen, &of_bridge, topics)?;
        let connections = frozen.iter().map(|frozen| frozen.connections).collect();
        let told = frozen.iter().map(|frozen| frozen.told).sum();
        Ok(FrozenState { begun, paused_ns, file, queues, connections, told, bridge })
    }

    /// The file of the state.
    fn state(
        &self,
        frozen: &[FrozenShard],
        bridge: &[u8],
        topics: Vec<FrozenTopics>,
    ) -> io::Result<OwnedFd> {
        let (mut beginning, mut end) = (Vec::new(), Vec::new());
        let header = HandoverHeader {
            release: env!("CARGO_PKG_VERSION").into(),
            boot_id: clock::boot_id(),
            shards: self.threads.len() as u16,
        };
        handover::begin(&header, &mut beginning);
        for topics in topics {
            handover::write(&HandoverRecord::Topics(Box::new(topics)), &mut end);
        }
        handover::end(&mut end);
        let mut parts = vec![&beginning[..]];
        parts.extend(frozen.iter().map(|frozen| &frozen.records[..]));
        parts.extend([bridge, &end]);
        if parts.iter().map(|part| part.len()).sum::<usize>() > STATE_BYTES_MAX {
            return Err(io::Error::other("too much waits for slow clients to be handed over"));
        }
        channel::sealed(&parts)
    }

    /// The connections that the new process could not take over.
    fn refused(&self, files: Vec<OwnedFd>) -> Result<Vec<(u16, u32)>, HandoverError> {
        let Some(file) = files.into_iter().next() else { return Ok(Vec::new()) };
        let bytes = channel::unsealed(file, STATE_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|error| HandoverError::Io(io::Error::other(error)))
    }

    /// Waits until no publisher awaits an answer, or for as long as it may take; clients are served
    /// meanwhile.
    fn await_answers(&self) -> Result<(), HandoverError> {
        let start = Instant::now();
        while start.elapsed() < ANSWERS_MAX {
            let rest: Vec<ShardRest> = self.ask(|_, reply| HandoverOrder::Look(reply))?;
            if rest.iter().all(|rest| rest.has_answered) {
                break;
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(())
    }

    /// Waits until nothing is on its way, and for so long for answers to sessions.
    ///
    /// # Errors
    /// When there is no end of it.
    fn settle(&self, answers_max: Duration) -> Result<(), HandoverError> {
        let start = Instant::now();
        let mut before: Option<u64> = None;
        loop {
            let rest: Vec<ShardRest> = self.ask(|_, reply| HandoverOrder::Look(reply))?;
            let read: u64 = rest.iter().map(|rest| rest.read).sum();
            // The looks themselves are read too.
            let looks = self.threads.len() as u64;
            let is_drained = self.hub.batches() == 0 && rest.iter().all(|rest| rest.is_drained);
            // Twice, and nothing was read between: whatever one shard had for another before its
            // first answer was read by the other before its second.
            let is_steady = is_drained && before.is_some_and(|before| before + looks == read);
            let is_settled = rest.iter().all(|rest| rest.is_settled);
            if is_steady && (is_settled || start.elapsed() > answers_max) {
                return Ok(());
            }
            if start.elapsed() > DRAIN_MAX {
                return Err(HandoverError::Busy);
            }
            before = is_drained.then_some(read);
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// Whether the queues of all shards come in one message.
    pub(super) fn has_few_shards(&self) -> Result<(), HandoverError> {
        (self.threads.len() <= SHARDS_MAX).then_some(()).ok_or(HandoverError::Shards)
    }

    /// Goes on as if nothing had been.
    pub(super) fn resume(&self) {
        self.hub.admin_metrics().handovers[HandoverOutcome::GivenBack as usize].add(1);
        self.hub.store.resume();
        self.hub.post_to_all(|| Parcel::Handover(HandoverOrder::Resume));
        self.hub.held.store(false, SeqCst);
    }

    /// Gives each shard an order that it answers. Returns the answers, by shard.
    pub(super) fn ask<T>(
        &self,
        mut order: impl FnMut(usize, ShardReply<T>) -> HandoverOrder,
    ) -> Result<Vec<T>, HandoverError> {
        let (reply, answers) = mpsc::channel();
        for shard in 0..self.threads.len() {
            self.hub.post(shard, [Parcel::Handover(order(shard, reply.clone()))]);
        }
        drop(reply);
        let start = Instant::now();
        let mut by_shard: Vec<Option<T>> = (0..self.threads.len()).map(|_| None).collect();
        while by_shard.iter().any(Option::is_none) {
            let left = SHARD_MAX.saturating_sub(start.elapsed());
            let (shard, answer) = answers.recv_timeout(left).map_err(|_| HandoverError::Shard)?;
            by_shard[shard] = Some(answer);
        }
        Ok(by_shard.into_iter().flatten().collect())
    }

    /// The listeners that are passed, so that none of them is closed for a moment: those of this
    /// process, and those of the service manager if these are to be.
    pub(super) fn passed_listeners(
        &self,
        with_managers: bool,
    ) -> Result<Vec<(PassedListener, OwnedFd)>, HandoverError> {
        let mut passed: Vec<(PassedListener, OwnedFd)> =
            if with_managers { self.inherited.passed()? } else { Vec::new() };
        for open in self.ask(|_, reply| HandoverOrder::Listeners(reply))? {
            for (number, socket) in open {
                let Some(slot) = self.slots.get(number) else { continue };
                // The manager's are among those above, or come from the manager itself.
                if self.inherited.has(slot.asked) {
                    continue;
                }
                let place = ListenerPlace::Clients { asked: slot.asked, actual: slot.actual };
                passed.push((PassedListener { place, is_managers: false }, socket?));
            }
        }
        passed.extend(self.own_listeners()?);
        Ok(passed)
    }

    /// The listeners of publishers and operators that this process has made.
    fn own_listeners(&self) -> io::Result<Vec<(PassedListener, OwnedFd)>> {
        let mut own = Vec::new();
        if let (Some(path), Some(feed)) = (&self.socket, &self.feed) {
            own.push((ListenerPlace::Publishers(path.clone()), feed.try_clone()?.socket));
        }
        if let Some(admin) = &self.admin_sockets {
            let tcp = admin.tcp().try_clone_to_owned()?;
            own.push((ListenerPlace::Admin(admin.asked()), tcp));
            if let (Some(unix), Some(path)) = (admin.unix(), &self.admin_socket) {
                let unix = unix.try_clone_to_owned()?;
                own.push((ListenerPlace::AdminSocket(path.clone()), unix));
            }
        }
        let own = own.into_iter();
        Ok(own.map(|(place, fd)| (PassedListener { place, is_managers: false }, fd)).collect())
    }
}

/// Puts listeners into a channel, in as many messages as they need.
pub(super) fn pass_listeners(
    channel: &HandoverChannel,
    passed: &[(PassedListener, OwnedFd)],
) -> io::Result<()> {
    let mut parts = passed.chunks(channel::DESCRIPTORS_MAX).peekable();
    loop {
        let part = parts.next().unwrap_or_default();
        let listeners = part.iter().map(|(listener, _)| listener.clone()).collect();
        let sockets: Vec<BorrowedFd<'_>> = part.iter().map(|(_, fd)| fd.as_fd()).collect();
        let follow = parts.peek().is_some();
        channel.say(&OldWord::Listeners { listeners, follow }, &sockets)?;
        if !follow {
            return Ok(());
        }
    }
}

fn heard<T: DeserializeOwned>(
    channel: &HandoverChannel,
    time: Duration,
    what: &'static str,
) -> Result<(T, Vec<OwnedFd>), HandoverError> {
    channel.hear(time).map_err(|error| HandoverError::Silent(what, error))
}

fn unexpected(word: NewWord) -> HandoverError {
    match word {
        NewWord::Sorry { reason } => HandoverError::Refused(reason),
        other => HandoverError::Refused(format!("it says {other:?} out of turn")),
    }
}
