//! The journals of the partitions on JetStream: one stream each, with the epoch record on one
//! subject and the entries on another.
//!
//! Each partition has a task, so that its operations are sent in order; acknowledgements come back
//! in any. Reads go to the stream's leader: a replica may lag behind what its owner has been told.

use super::journal_fault::JournalFault;
use crate::cluster::{JournalCall, JournalOutcome};
use async_nats::Client;
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, LastRawMessageErrorKind, RawMessageError, StorageType, Stream,
};
use async_nats::jetstream::{Context, message::StreamMessage};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The number of partitions. It is part of the streams' metadata: a service cannot change it.
pub(super) const PARTITIONS: u8 = 16;
/// The key of that number in the metadata.
const PARTITIONS_KEY: &str = "fanfare.partitions";
/// How long an operation waits for its answer. An election of a stream's leader takes 5 to 9 s:
/// it is waited for by asking again, so that an answer that was lost costs less.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Operations of one partition that may wait to be sent: more than an owner has in flight.
const CALLS_MAX: usize = 64;
/// Entries that are read at the same time: the leader answers one in 0.15 ms.
const READS_MAX: usize = 64;
/// How long a fault is told. An owner asks again within seconds; what is older belongs to a partition
/// that another node owns by now.
const FAULT_MAX: Duration = Duration::from_secs(15);
/// Limit on the bytes of a journal that is read: many times what a snapshot and the entries after
/// it come to.
const JOURNAL_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The journals of all partitions.
pub(super) struct Journals {
    tasks: Vec<mpsc::Sender<JournalCall>>,
    outcomes: mpsc::Receiver<JournalOutcome>,
    /// Operations that found no room.
    refused: Vec<JournalOutcome>,
    faults: JournalFaults,
}

/// Why the last operation of each partition failed, and when, until one succeeds there.
#[derive(Clone, Default)]
struct JournalFaults(Arc<Mutex<[LastFault; PARTITIONS as usize]>>);

type LastFault = Option<(JournalFault, Instant)>;

impl JournalFaults {
    fn note(&self, partition: u8, fault: Option<JournalFault>) {
        let fault = fault.map(|fault| (fault, Instant::now()));
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults[usize::from(partition)] = fault;
    }

    fn first(&self, is_meant: impl Fn(&JournalFault) -> bool) -> Option<String> {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recent = faults.iter().flatten().filter(|(_, at)| at.elapsed() < FAULT_MAX);
        recent.find(|(fault, _)| is_meant(fault)).map(|(fault, _)| fault.to_string())
    }
}

impl Journals {
    /// The journals of the service with this name, kept in so many copies.
    pub(super) fn new(client: &Client, name: &str, replicas: usize) -> Self {
        let context =
            ContextBuilder::new().timeout(ANSWER_MAX).ack_timeout(ANSWER_MAX).build(client.clone());
        let (sender, outcomes) = mpsc::channel(usize::from(PARTITIONS) * CALLS_MAX);
        let faults = JournalFaults::default();

        let tasks = (0..PARTITIONS).map(|partition| {
            let (calls, queue) = mpsc::channel(CALLS_MAX);
            let journal = Journal {
                context: context.clone(),
                partition,
                stream_name: format!("FF_{name}_{partition:02}"),
                prefix: format!("ff.{name}.p.{partition:02}"),
                replicas,
                stream: None,
                faults: faults.clone(),
                outcomes: sender.clone(),
            };
            tokio::spawn(journal.run(queue));
            calls
        });
        Self { tasks: tasks.collect(), outcomes, refused: Vec::new(), faults }
    }

    /// Begins an operation. Those of one partition are sent in the order of these calls.
    pub(super) fn begin(&mut self, call: JournalCall) {
        let Some(task) = self.tasks.get(usize::from(partition_of(&call))) else { return };
        if let Err(error) = task.try_send(call) {
            self.refused.extend(failed(&error.into_inner()));
        }
    }

    /// The next outcome. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> JournalOutcome {
        match self.refused.pop() {
            Some(refused) => refused,
            None => match self.outcomes.recv().await {
                Some(outcome) => outcome,
                // The tasks live as long as this.
                None => std::future::pending().await,
            },
        }
    }

    /// Why the last operation of some partition failed, with what to do; `None` when none did.
    pub(super) fn fault(&self) -> Option<String> {
        self.faults.first(|_| true)
    }

    /// Whether some partition's last operation had no answer.
    pub(super) fn is_silent(&self) -> bool {
        self.faults.first(|fault| matches!(fault, JournalFault::Silent)).is_some()
    }
}

/// The journal of one partition.
struct Journal {
    context: Context,
    partition: u8,
    stream_name: String,
    /// The subjects' common beginning.
    prefix: String,
    replicas: usize,
    /// The stream, once it is known to be there and as it should be.
    stream: Option<Stream>,
    faults: JournalFaults,
    outcomes: mpsc::Sender<JournalOutcome>,
}

impl Journal {
    async fn run(mut self, mut calls: mpsc::Receiver<JournalCall>) {
        while let Some(operation) = calls.recv().await {
            let outcome = failed(&operation);
            match self.carry_out(operation).await {
                Ok(Some(outcome)) => {
                    self.faults.note(self.partition, None);
                    let _ = self.outcomes.send(outcome).await;
                }
                Ok(None) => {}
                Err(fault) => {
                    self.faults.note(self.partition, Some(fault));
                    // It may have been removed, or changed.
                    self.stream = None;
                    if let Some(outcome) = outcome {
                        let _ = self.outcomes.send(outcome).await;
                    }
                }
            }
        }
    }

    /// Carries out an operation, or sends it: then its outcome follows.
    async fn carry_out(
        &mut self,
        operation: JournalCall,
    ) -> Result<Option<JournalOutcome>, JournalFault> {
        match operation {
            JournalCall::Take { call, record, after, .. } => {
                self.open().await?;
                let message = PublishMessage::build()
                    .payload(record.into())
                    .header("Nats-Rollup", "sub")
                    .expected_last_subject_sequence(after);
                let stored = self.send(self.epoch_subject(), message).await?;
                self.await_stored(call, stored);
                Ok(None)
            }
            JournalCall::Append { call, entry, after, .. } => {
                let message =
                    PublishMessage::build().payload(entry.into()).expected_last_sequence(after);
                let stored = self.send(self.entry_subject(), message).await?;
                self.await_stored(call, stored);
                Ok(None)
            }
            JournalCall::Load { call, .. } => self.read(call, 0).await.map(Some),
            JournalCall::Look { call, after, .. } => self.read(call, after).await.map(Some),
            JournalCall::Purge { below, .. } => {
                let subject = self.entry_subject();
                let stream = self.open().await?;
                // What is left stays readable, and goes with the next snapshot.
                stream.purge().filter(subject).sequence(below).await?;
                Ok(None)
            }
        }
    }

    fn epoch_subject(&self) -> String {
        format!("{}.e", self.prefix)
    }

    fn entry_subject(&self) -> String {
        format!("{}.j", self.prefix)
    }

    /// The stream, created if it is missing.
    async fn open(&mut self) -> Result<&Stream, JournalFault> {
        if self.stream.is_none() {
            let wanted = self.config();
            let stream = self.context.get_or_create_stream(wanted).await?;
            self.check(&stream.cached_info().config)?;
            self.stream = Some(stream);
        }
        // It was just put there.
        self.stream.as_ref().ok_or(JournalFault::Missing)
    }

    fn config(&self) -> Config {
        Config {
            name: self.stream_name.clone(),
            subjects: vec![self.epoch_subject(), self.entry_subject()],
            storage: StorageType::File,
            num_replicas: self.replicas,
            allow_rollup: true,
            metadata: [(PARTITIONS_KEY.to_owned(), PARTITIONS.to_string())].into(),
            description: Some("fanfare: who is present, and webhooks to be told".into()),
            ..Config::default()
        }
    }

    /// Whether a stream that was there is this service's.
    fn check(&self, found: &Config) -> Result<(), JournalFault> {
        let stream = self.stream_name.clone();
        let partitions = found.metadata.get(PARTITIONS_KEY);
        if partitions.is_none_or(|partitions| *partitions != PARTITIONS.to_string()) {
            return Err(JournalFault::Foreign(stream));
        }
        if found.num_replicas != self.replicas {
            let (found, asked) = (found.num_replicas, self.replicas);
            return Err(JournalFault::Replicas { stream, found, asked });
        }
        Ok(())
    }

    async fn send(
        &self,
        subject: String,
        message: PublishMessage,
    ) -> Result<PublishAckFuture, JournalFault> {
        Ok(self.context.send_publish(subject, message.expected_stream(&self.stream_name)).await?)
    }

    /// Tells the outcome of a write when its acknowledgement is there.
    fn await_stored(&self, call: u64, stored: PublishAckFuture) {
        let (partition, outcomes, faults) =
            (self.partition, self.outcomes.clone(), self.faults.clone());
        tokio::spawn(async move {
            let outcome = match stored.await.map_err(JournalFault::from) {
                Ok(stored) => {
                    faults.note(partition, None);
                    JournalOutcome::Stored { partition, call, sequence: stored.sequence }
                }
                Err(refused) if refused.is_wrong_sequence() => {
                    faults.note(partition, None);
                    JournalOutcome::Refused { partition, call }
                }
                Err(error) => {
                    faults.note(partition, Some(error));
                    JournalOutcome::Failed { partition, call }
                }
            };
            let _ = outcomes.send(outcome).await;
        });
    }

    /// Reads the last sequence, then the epoch record, then the entries above `after`: an owner
    /// that finds its own epoch may append after that last sequence.
    async fn read(&mut self, call: u64, after: u64) -> Result<JournalOutcome, JournalFault> {
        let (partition, subject) = (self.partition, self.epoch_subject());
        let stream = self.open().await?;
        let last = stream.get_info().await?.state.last_sequence;
        let epoch = found(stream.get_last_raw_message_by_subject(&subject).await)?;
        let epoch = epoch.map(|message| (message.payload.to_vec(), message.sequence));
        let entries = self.entries(after, last).await?;
        Ok(JournalOutcome::Read { partition, call, epoch, entries, last })
    }

    /// The entries above `after`, up to `last`.
    async fn entries(
        &mut self,
        after: u64,
        last: u64,
    ) -> Result<Vec<(u64, Vec<u8>)>, JournalFault> {
        let subject = self.entry_subject();
        let stream = self.open().await?.clone();
        if after >= last {
            return Ok(Vec::new());
        }
        // Most of what is below may have been purged.
        let first = stream.raw_message_builder().sequence(after + 1).next_by_subject(&subject);
        let Some(first) = found(first.send().await)? else { return Ok(Vec::new()) };

        let (mut entries, mut bytes) = (BTreeMap::new(), 0);
        let mut next = first.sequence;
        let mut reads = JoinSet::new();
        loop {
            while next <= last && reads.len() < READS_MAX {
                let (stream, sequence) = (stream.clone(), next);
                reads.spawn(async move { stream.get_raw_message(sequence).await });
                next += 1;
            }
            let Some(read) = reads.join_next().await else { break };
            let read = read.map_err(|_| JournalFault::Missing)?;
            // Epochs stand among the entries, and earlier ones have been replaced.
            let Some(message) = found(read)?.filter(|message| *message.subject == *subject) else {
                continue;
            };
            bytes += message.payload.len();
            if bytes > JOURNAL_BYTES_MAX {
                return Err(JournalFault::Long(self.stream_name.clone()));
            }
            entries.insert(message.sequence, message.payload.to_vec());
        }
        Ok(entries.into_iter().collect())
    }
}

/// A message, or `None` where there is none.
fn found(
    read: Result<StreamMessage, RawMessageError>,
) -> Result<Option<StreamMessage>, JournalFault> {
    match read {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn partition_of(call: &JournalCall) -> u8 {
    match call {
        JournalCall::Take { partition, .. }
        | JournalCall::Load { partition, .. }
        | JournalCall::Append { partition, .. }
        | JournalCall::Look { partition, .. }
        | JournalCall::Purge { partition, .. } => *partition,
    }
}

/// The outcome of an operation that could not be carried out; a purge has none.
fn failed(operation: &JournalCall) -> Option<JournalOutcome> {
    let call = match operation {
        JournalCall::Take { call, .. }
        | JournalCall::Load { call, .. }
        | JournalCall::Append { call, .. }
        | JournalCall::Look { call, .. } => *call,
        JournalCall::Purge { .. } => return None,
    };
    Some(JournalOutcome::Failed { partition: partition_of(operation), call })
}

#[cfg(test)]
mod tests;
