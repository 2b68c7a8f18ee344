//! The new process: what it makes of what the old one passes, or has left.

use super::channel::{self, HandoverChannel};
use super::error::HandoverError;
use super::shard::{AdoptedPart, Gate, GateStep, ShardPart};
use super::word::{NewWord, OldWord};
use crate::handover::{self, FORMAT, HandoverRecord, OLDEST, RecordPlace, STATE_BYTES_MAX};
use crate::io::clock;
use crate::io::hub::Hub;
use crate::io::inherited::Inherited;
use crate::io::store::PassedTopics;
use crate::metrics::HandoverOutcome;
use crate::service::NewRefs;
use crate::service::topic::FrozenTopics;
use rustix::fd::{AsFd as _, OwnedFd};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

/// Time for the old process to say its next word; longer than the longest of its own waits.
const WORD_MAX: Duration = Duration::from_secs(30);
/// Time for a descriptor that is in a queue already.
const QUEUED_MAX: Duration = Duration::from_secs(1);
/// Time after which nothing is taken over that a process has left: its clients have given up by
/// then, or wait in vain for something that they were to be told meanwhile.
const LEFT_MAX: Duration = Duration::from_secs(60);
/// The index of no owner of topics.
const NO_OWNER: u8 = u8::MAX;
/// Time for a shard to take over its part.
const ADOPT_MAX: Duration = Duration::from_secs(4);

/// A hand-over in which this is the new process.
pub struct NewProcess {
    channel: HandoverChannel,
    /// Whether the old process has gone, and has left everything in the channel.
    is_alone: bool,
    gates: Vec<Sender<GateStep>>,
}

/// What is taken over.
#[derive(Default)]
struct NewState {
    /// When the pause began.
    paused_ns: u64,
    /// The part of each shard.
    parts: Vec<ShardPart>,
    /// What comes after the connections.
    later: Vec<HandoverRecord>,
    /// The number of connections that the old process has told to come back, if it has gone.
    told: usize,
}

impl NewState {
    /// Leaves out what is about topics, unless there were as many owners: others would find nothing
    /// of their connections, and these are told to come back.
    fn suit(&mut self, owners: usize) {
        let is_of_topics = |record: &HandoverRecord| matches!(record, HandoverRecord::Topics(_));
        if self.later.iter().filter(|record| is_of_topics(record)).count() == owners {
            return;
        }
        self.later.retain(|record| !is_of_topics(record));
        for (connection, _) in self.parts.iter_mut().flat_map(|part| &mut part.connections) {
            let owner = &mut connection.session.topics_owner;
            *owner = owner.map(|_| NO_OWNER);
        }
    }
}

impl NewProcess {
    /// Greets the old process at the other end of a socket. Returns the listeners that it passes
    /// too.
    ///
    /// # Errors
    /// When it does not.
    pub fn greet(socket: OwnedFd) -> Result<(Self, Inherited), HandoverError> {
        let channel = HandoverChannel::of(socket)?;
        let release = env!("CARGO_PKG_VERSION").into();
        channel.say(&NewWord::Hello { oldest: OLDEST, newest: FORMAT, release }, &[])?;
        let mut inherited = Inherited::default();
        let process = Self { channel, is_alone: false, gates: Vec::new() };
        process.hear_listeners(&mut inherited)?;
        Ok((process, inherited))
    }

    /// Takes the end of a channel in which a process that has gone has left everything. Adds its
    /// listeners to those that are there.
    ///
    /// # Errors
    /// When it has not left even these.
    pub fn after_one_that_has_gone(
        end: OwnedFd,
        inherited: &mut Inherited,
    ) -> Result<Self, HandoverError> {
        let channel = HandoverChannel::of(end)?;
        let process = Self { channel, is_alone: true, gates: Vec::new() };
        process.hear_listeners(inherited)?;
        Ok(process)
    }

    fn hear_listeners(&self, inherited: &mut Inherited) -> Result<(), HandoverError> {
        loop {
            let (word, sockets) = self.next()?;
            let OldWord::Listeners { listeners, follow } = word else {
                return Err(HandoverError::Refused("the old process passes no listeners".into()));
            };
            for (listener, socket) in listeners.into_iter().zip(sockets) {
                inherited.add(listener, socket)?;
            }
            if !follow {
                return Ok(());
            }
        }
    }

    /// What tells the old process that this one could not start.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn apology(&self) -> io::Result<Apology> {
        Ok(Apology(HandoverChannel::of(self.channel.as_fd().try_clone_to_owned()?)?))
    }

    /// Where the next shard waits until it may begin.
    pub(in crate::io) fn gate(&mut self) -> Gate {
        let (gate, steps) = mpsc::channel();
        self.gates.push(gate);
        Gate(steps)
    }

    /// Takes everything over, and has the shards begin. Returns what the store takes over once the
    /// old process has closed it.
    ///
    /// # Errors
    /// Why the old process goes on; if that has gone, why this one cannot.
    pub(in crate::io) fn take_over(&self, hub: &Hub) -> Result<PassedTopics, HandoverError> {
        let state = match self.hear_state(hub.store.running()) {
            Err(error) if self.is_alone => {
                tracing::warn!(
                    "what the process before has left is not taken over, and its clients have to \
                     come back: {error}"
                );
                self.begin();
                return Ok(PassedTopics::default());
            }
            state => state?,
        };
        let paused_ns = state.paused_ns;
        let AdoptedPart { refs, connections, refused } = self.adopt(state.parts)?;
        let refs = Arc::new(refs);
        let (of_bridge, owners) = self.know(state.later, &refs)?;
        // An owner that the old process did not have would find nothing of its connections.
        let wanted = hub.store.running();
        if !owners.is_empty() && wanted != 0 && owners.len() != wanted {
            let reason = format!(
                "it has {} store.writers, and this configuration {wanted}: restart the service for \
                 another number",
                owners.len()
            );
            return Err(HandoverError::Refused(reason));
        }
        let told = match self.is_alone {
            true => state.told + refused.len(),
            false => self.await_go(connections, &refused)?,
        };

        let paused = clock::now().monotonic_ns.saturating_sub(paused_ns);
        let _ = hub.paused_at.set(Instant::now() - Duration::from_nanos(paused));
        // Only now: it asks verifiers, and calls webhooks. Before the sessions ask anything of it.
        hub.bridge.import(of_bridge, Arc::clone(&refs));
        self.begin();
        let pause_us = clock::now().monotonic_ns.saturating_sub(paused_ns) / 1000;
        let metrics = hub.admin_metrics();
        metrics.handovers[HandoverOutcome::Taken as usize].add(1);
        metrics.handover_passed.add(connections.into());
        metrics.handover_told.add(told as u64);
        metrics.handover_pause_us.set(pause_us);
        let paused_ms = pause_us / 1000;
        tracing::info!(
            "{connections} connections of the process before go on here, after a pause of \
             {paused_ms} ms"
        );
        Ok(PassedTopics { owners, refs })
    }

    /// Has the shards begin.
    fn begin(&self) {
        self.gates.iter().for_each(|gate| drop(gate.send(GateStep::Go)));
    }

    /// Hears the state, for so many owners of topics.
    ///
    /// # Errors
    /// When it cannot be taken over.
    fn hear_state(&self, owners: usize) -> Result<NewState, HandoverError> {
        if !self.is_alone {
            self.channel.say(&NewWord::Ready, &[])?;
        }
        let (word, files) = self.next()?;
        let OldWord::State { paused_ns } = word else {
            return Err(HandoverError::Refused("the old process passes no state".into()));
        };
        let told = if self.is_alone { self.hear_go()? } else { 0 };
        let age = clock::now().monotonic_ns.checked_sub(paused_ns);
        if self.is_alone && age.is_none_or(|age| Duration::from_nanos(age) > LEFT_MAX) {
            let most = LEFT_MAX.as_secs();
            return Err(HandoverError::Refused(format!("it was left more than {most} s ago")));
        }
        let (parts, later) = self.parts(files)?;
        let mut state = NewState { paused_ns, parts, later, told };
        if self.is_alone {
            state.suit(owners);
        }
        Ok(state)
    }

    /// Tells the old process what has been taken over, and waits until this one may begin. Returns
    /// the number of connections that are told to come back.
    fn await_go(&self, connections: u32, refused: &[(u16, u32)]) -> Result<usize, HandoverError> {
        let refused = serde_json::to_vec(refused).map_err(io::Error::other)?;
        let file = channel::sealed(&[&refused])?;
        self.channel.say(&NewWord::Taken { connections }, &[file.as_fd()])?;
        self.hear_go()
    }

    fn hear_go(&self) -> Result<usize, HandoverError> {
        match self.next()?.0 {
            OldWord::Go { told } => Ok(told),
            _ => Err(HandoverError::Refused("the old process goes on".into())),
        }
    }

    /// The next word.
    fn next(&self) -> Result<(OldWord, Vec<OwnedFd>), HandoverError> {
        // What one has left who has gone is there, or never comes.
        let time = if self.is_alone { QUEUED_MAX } else { WORD_MAX };
        let heard = self.channel.hear(time);
        heard.map_err(|error| HandoverError::Refused(format!("the old process is silent: {error}")))
    }

    /// The state, by the shard that each part is for; and what comes after the connections.
    fn parts(
        &self,
        files: Vec<OwnedFd>,
    ) -> Result<(Vec<ShardPart>, Vec<HandoverRecord>), HandoverError> {
        let malformed = |what: &str| HandoverError::Refused(what.into());
        let mut files = files.into_iter();
        let state = files.next().ok_or_else(|| malformed("the state is missing"))?;
        let state = channel::unsealed(state, STATE_BYTES_MAX)?;
        let mut queues = files.map(received).collect::<Result<Vec<_>, HandoverError>>()?;
        let mut take = |shard: u16, number: u32| {
            let queue = queues.get_mut(usize::from(shard));
            let place = queue.and_then(|queue| queue.get_mut(number as usize));
            place.and_then(Option::take).ok_or_else(|| malformed("a descriptor is missing"))
        };

        let (mut parts, mut later): (Vec<ShardPart>, _) = (Vec::new(), Vec::new());
        let is_alone = self.is_alone;
        parts.resize_with(self.gates.len(), || ShardPart { is_alone, ..ShardPart::default() });
        let (header, mut rest) = handover::open(&state)?;
        if header.boot_id != clock::boot_id() {
            return Err(malformed("the state is from another boot of the machine"));
        }
        loop {
            let (record, behind) = handover::read(rest)?;
            rest = behind;
            let place = match record.place(parts.len()) {
                RecordPlace::Shard(shard) => Some(&mut parts[shard]),
                _ => None,
            };
            match (record, place) {
                (HandoverRecord::End, _) => return Ok((parts, later)),
                (HandoverRecord::Connection(connection), Some(part)) => {
                    let socket = take(connection.session.old.shard, connection.fd)?;
                    part.connections.push((*connection, socket));
                }
                (HandoverRecord::Publisher(publisher), Some(part)) => {
                    let socket = take(publisher.shard, publisher.fd)?;
                    part.publishers.push((*publisher, socket));
                }
                (shared @ HandoverRecord::Shared(..), Some(part)) => part.shared.push(shared),
                (record, _) => later.push(record),
            }
        }
    }

    /// Has each shard take over its part.
    fn adopt(&self, parts: Vec<ShardPart>) -> Result<AdoptedPart, HandoverError> {
        let (reply, answers) = mpsc::channel();
        for (gate, part) in self.gates.iter().zip(parts) {
            gate.send(GateStep::Adopt(part, reply.clone())).map_err(|_| HandoverError::Shard)?;
        }
        let mut all = AdoptedPart::default();
        for _ in &self.gates {
            let part = answers.recv_timeout(ADOPT_MAX).map_err(|_| HandoverError::Shard)?;
            all.refs.merge(part.refs);
            all.connections += part.connections;
            all.refused.extend(part.refused);
        }
        Ok(all)
    }

    /// Has the shards take over what is about connections of all of them. Returns what is for the
    /// bridge, and for the owners of topics, in their order.
    fn know(
        &self,
        records: Vec<HandoverRecord>,
        refs: &Arc<NewRefs>,
    ) -> Result<(Vec<HandoverRecord>, Vec<FrozenTopics>), HandoverError> {
        let (mut of_bridge, mut owners) = (Vec::new(), Vec::new());
        let mut parts: Vec<Vec<HandoverRecord>> = self.gates.iter().map(|_| Vec::new()).collect();
        for record in records {
            match (record.place(parts.len()), record) {
                (RecordPlace::Shard(shard), record) => parts[shard].push(record),
                (RecordPlace::EveryShard, HandoverRecord::Retained(publication)) => {
                    for part in &mut parts {
                        part.push(HandoverRecord::Retained(Arc::clone(&publication)));
                    }
                }
                (RecordPlace::Bridge, record) => of_bridge.push(record),
                (_, HandoverRecord::Topics(topics)) => owners.push(*topics),
                _ => {}
            }
        }
        let (reply, answers) = mpsc::channel();
        for (gate, part) in self.gates.iter().zip(parts) {
            let step = GateStep::Know(part, Arc::clone(refs), reply.clone());
            gate.send(step).map_err(|_| HandoverError::Shard)?;
        }
        for _ in &self.gates {
            answers.recv_timeout(ADOPT_MAX).map_err(|_| HandoverError::Shard)?;
        }
        Ok((of_bridge, owners))
    }
}

/// What tells the old process that this one could not start.
pub struct Apology(HandoverChannel);

impl Apology {
    /// Tells it the reason.
    pub fn say(&self, reason: &str) {
        // The old process may have gone, or have given up.
        let _ = self.0.say(&NewWord::Sorry { reason: reason.into() }, &[]);
    }
}

/// All descriptors of a queue, in order.
fn received(queue: OwnedFd) -> Result<Vec<Option<OwnedFd>>, HandoverError> {
    let queue = HandoverChannel::of(queue)?;
    let mut descriptors = Vec::new();
    loop {
        match queue.receive(QUEUED_MAX) {
            Ok(message) => descriptors.extend(message.descriptors.into_iter().map(Some)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(descriptors),
            Err(error) => return Err(error.into()),
        }
    }
}
