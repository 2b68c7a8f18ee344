//! Which node owns which partition: taking, handing over, and losing one.
//!
//! No clock and no lease keeps two owners apart: the journal does, which takes the writes of the
//! newest epoch alone. What is here only decides who tries: the first of the live nodes in the
//! partition's own order, and only from an owner that is gone or has let go.

use super::Cluster;
use super::boundary::{ClusterOutput, Destination, JournalCall, JournalOutcome};
use super::host::ClusterHost;
use super::journal::{self, JournalError};
use super::node::{NodeId, NodeName};
use super::owner::PartitionOwner;
use super::partition::{ClusterPartition, PartitionStage};
use super::partition_number::PartitionNumber;
use super::peers::{ClusterPeer, PeerNumber, SELF};
use super::rounds::{OUTCOME_NS, RoundsOutcome};
use super::wire::ControlKind;
use crate::wheel::{Now, SECOND_NS};

/// Time after a failed try before the next.
const RETRY_NS: u64 = SECOND_NS / 2;
/// A journal is read in this time, or not at all: one of the largest takes some seconds.
const LOADING_NS: u64 = 120 * SECOND_NS;
/// A partition is handed over for balance though webhooks are to be told, if it has waited for so
/// long for a moment without: those under way are told again.
const QUIET_NS: u64 = 10 * SECOND_NS;
/// Time before a journal of another release is tried again.
const RETRY_UNREADABLE_NS: u64 = 10 * SECOND_NS;
/// A node from which a partition was taken leaves it alone for so long: two nodes that do not see
/// each other would take it in turns.
const BARRED_NS: u64 = 10 * SECOND_NS;
/// A partition is handed over without what the engine has not stored by then.
const RELEASE_NS: u64 = SECOND_NS / 2;
/// A node has to live for so long before partitions are handed to it.
const STEADY_NS: u64 = 5 * SECOND_NS;
/// Between two partitions that are handed over for balance.
const BALANCE_NS: u64 = SECOND_NS;

impl Cluster {
    /// Begins to take the partitions that fall to this node.
    pub(super) fn take_vacant(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        for number in PartitionNumber::all() {
            if self.may_take(number, now) {
                self.look(number, None, now, host);
            }
        }
    }

    /// Whether a partition without an owner falls to this node.
    fn may_take(&self, number: PartitionNumber, now: Now) -> bool {
        let partition = &self.partitions[number.index()];
        let is_barred = partition.barred.is_some_and(|(_, until)| now.monotonic_ns < until);
        matches!(partition.stage, PartitionStage::Elsewhere)
            && partition.known.is_none()
            && !is_barred
            && now.monotonic_ns >= partition.retry_ns
            && self.can_take(now)
            && self.first(number) == Some(SELF)
    }

    /// Whether this node may own partitions at all.
    fn can_take(&self, now: Now) -> bool {
        self.plan.has_presence
            && !self.is_stopped
            && self.peers.is_settled(now)
            && !self.peers.is_doubled(now)
    }

    /// The node to which a partition falls: the first in its order of those that are able to take
    /// it and are not being emptied. Where there is no such node, one that is being emptied keeps it,
    /// and one that was not able to take tries.
    fn first(&self, number: PartitionNumber) -> Option<PeerNumber> {
        let able = self.takes.is_able();
        let own = self.plan.has_presence.then_some((SELF, &self.me.name, able, self.is_draining));
        let others = self.peers.live().filter(|peer| peer.heartbeat.presence).map(|peer| {
            let heartbeat = &peer.heartbeat;
            (peer.number, &peer.id.name, heartbeat.able, heartbeat.draining)
        });
        let rank = |(_, name, able, draining): &(PeerNumber, &NodeName, bool, bool)| {
            (*able, !draining, number.rank(name), (*name).clone())
        };
        own.into_iter().chain(others).max_by_key(rank).map(|(node, ..)| node)
    }

    fn call(&mut self, host: &mut ClusterHost<'_>, call: impl FnOnce(u64) -> JournalCall) -> u64 {
        self.last_call += 1;
        host.out.push(ClusterOutput::Journal(call(self.last_call)));
        self.last_call
    }

    fn look(
        &mut self,
        number: PartitionNumber,
        after: Option<u64>,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let partition = number.get();
        // No entries are wanted.
        let after_entries = u64::MAX;
        let call =
            self.call(host, |call| JournalCall::Look { partition, call, after: after_entries });
        let since_ns = now.monotonic_ns;
        self.stage(number, PartitionStage::Looking { call, since_ns, after });
    }

    fn load(&mut self, number: PartitionNumber, epoch: u64, now: Now, host: &mut ClusterHost<'_>) {
        let partition = number.get();
        let call = self.call(host, |call| JournalCall::Load { partition, call });
        let since_ns = now.monotonic_ns;
        self.stage(number, PartitionStage::Loading { call, since_ns, epoch });
    }

    fn stage(&mut self, number: PartitionNumber, stage: PartitionStage) {
        self.partitions[number.index()].stage = stage;
    }

    /// A try has failed.
    fn failed(&mut self, number: PartitionNumber, now: Now) {
        self.takes.failed(now);
        self.retry(number, RETRY_NS, now);
    }

    /// Leaves a partition alone for a while.
    fn retry(&mut self, number: PartitionNumber, in_ns: u64, now: Now) {
        let partition = &mut self.partitions[number.index()];
        partition.stage = PartitionStage::Elsewhere;
        partition.retry_ns = now.monotonic_ns + in_ns;
    }

    /// Handles the outcome of a call.
    pub(super) fn journal(
        &mut self,
        outcome: JournalOutcome,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let (JournalOutcome::Stored { partition, call, .. }
        | JournalOutcome::Refused { partition, call }
        | JournalOutcome::Failed { partition, call }
        | JournalOutcome::Read { partition, call, .. }) = outcome;
        let Ok(number) = PartitionNumber::try_from(partition) else { return };
        match &self.partitions[number.index()].stage {
            PartitionStage::Looking { call: made, after, .. } if *made == call => {
                self.looked(number, *after, outcome, now, host);
            }
            PartitionStage::Taking { call: made, after, .. } if *made == call => {
                let after = *after;
                match outcome {
                    JournalOutcome::Stored { sequence, .. } => {
                        self.load(number, sequence, now, host);
                    }
                    // A copy of it may be stored all the same, or yet come.
                    JournalOutcome::Failed { .. } => {
                        self.takes.failed(now);
                        self.look(number, Some(after), now, host);
                    }
                    _ => self.look(number, Some(after), now, host),
                }
            }
            PartitionStage::Loading { call: made, epoch, since_ns } if *made == call => {
                self.loaded(number, (*epoch, *since_ns), outcome, now, host);
            }
            PartitionStage::Owned(_) | PartitionStage::Releasing(..) => {
                self.appended(number, call, outcome, now, host);
            }
            // Of a stage that is over.
            _ => {}
        }
    }

    /// The epoch record that is to be replaced.
    fn looked(
        &mut self,
        number: PartitionNumber,
        after: Option<u64>,
        outcome: JournalOutcome,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let JournalOutcome::Read { epoch, .. } = outcome else {
            return self.failed(number, now);
        };
        // A look after a take of unknown outcome says nothing about takes.
        if after.is_none() {
            self.takes.looked();
        }
        let (record, sequence) = epoch.unwrap_or_default();
        // Nothing but an unanswered take of this node writes its name after that.
        let owner = journal::owner_of(&record);
        if after.is_some_and(|after| sequence > after) && owner.as_ref() == Ok(&self.me) {
            return self.load(number, sequence, now, host);
        }
        if owner == Err(JournalError::Version) && sequence > 0 {
            return self.unreadable_journal(number, now, host);
        }

        self.stage(number, PartitionStage::Elsewhere);
        if !self.may_take(number, now) {
            return;
        }
        let record = journal::epoch_record(&self.me);
        let partition = number.get();
        let call =
            self.call(host, |call| JournalCall::Take { partition, call, record, after: sequence });
        let since_ns = now.monotonic_ns;
        self.stage(number, PartitionStage::Taking { call, since_ns, after: sequence });
    }

    fn unreadable_journal(
        &mut self,
        number: PartitionNumber,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let partition = number.get();
        host.news(false, format!("the journal of partition {partition} is of another release"));
        self.takes.is_outdated = true;
        self.retry(number, RETRY_UNREADABLE_NS, now);
    }

    /// The journal of a partition that this node has taken.
    fn loaded(
        &mut self,
        number: PartitionNumber,
        (taken, asked_ns): (u64, u64),
        outcome: JournalOutcome,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let JournalOutcome::Read { epoch, entries, last, .. } = outcome else {
            return self.failed(number, now);
        };
        // A server that lags behind does not have all entries.
        if last < taken {
            return self.failed(number, now);
        }
        let record = epoch.as_ref().map(|(record, _)| record.as_slice());
        if epoch.as_ref().map(|(_, sequence)| *sequence) != Some(taken) {
            return self.deposed(number, record, now, host);
        }
        let words = host.words();
        match PartitionOwner::load(number, taken, &entries, last, &words, asked_ns, now) {
            Ok((owner, damaged)) => {
                if damaged > 0 {
                    host.news(
                        false,
                        format!(
                            "{damaged} entries of the journal of partition {} are damaged, and \
                             left out",
                            number.get()
                        ),
                    );
                }
                let partition = &mut self.partitions[number.index()];
                partition.stage = PartitionStage::Owned(Box::new(owner));
                (partition.known, partition.rival) = (Some((SELF, taken)), None);
                partition.barred = None;
                self.totals.takeovers += 1;
                self.takes.succeeded();
                self.is_claiming = true;
            }
            Err(_) => self.unreadable_journal(number, now, host),
        }
    }

    /// The outcome of an owner's call.
    fn appended(
        &mut self,
        number: PartitionNumber,
        call: u64,
        outcome: JournalOutcome,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let Some(owner) = self.partitions[number.index()].owner() else { return };
        let effects = match outcome {
            JournalOutcome::Stored { sequence, .. } => owner.stored(call, sequence, now),
            JournalOutcome::Refused { .. } | JournalOutcome::Failed { .. } => {
                return owner.failed(call, now);
            }
            JournalOutcome::Read { epoch, entries, last, .. } => {
                let sequence = epoch.as_ref().map(|(_, sequence)| *sequence);
                match owner.looked(call, sequence, &entries, last, now) {
                    RoundsOutcome::Stored(effects) => effects,
                    RoundsOutcome::Deposed => {
                        let record = epoch.as_ref().map(|(record, _)| record.as_slice());
                        return self.deposed(number, record, now, host);
                    }
                }
            }
        };
        // What was ready before these effects leaves before them.
        let ready = owner.take_ready(now).into_iter().map(|effect| (0, effect));
        let effects = ready.chain(effects).collect();
        self.carry_out(number, effects, host);
    }

    /// Another node has taken a partition from this one; `record` is its epoch record.
    fn deposed(
        &mut self,
        number: PartitionNumber,
        record: Option<&[u8]>,
        now: Now,
        host: &mut ClusterHost<'_>,
    ) {
        let taker: Option<NodeId> = record.and_then(|record| journal::owner_of(record).ok());
        let peer = taker.as_ref().and_then(|taker| self.peers.live().find(|p| p.id == *taker));
        let peer = peer.map(|peer| peer.number);
        let partition = &mut self.partitions[number.index()];
        partition.barred = Some((peer, now.monotonic_ns + BARRED_NS));
        self.drop_owner(number, host);
        self.totals.fenced += 1;
        let taker = taker.map_or("another node".to_owned(), |taker| format!("node {}", taker.name));
        host.news(false, format!("{taker} has taken partition {} from this one", number.get()));
    }

    /// Forgets all that this node knows as the owner of a partition.
    fn drop_owner(&mut self, number: PartitionNumber, host: &mut ClusterHost<'_>) {
        let partition = &mut self.partitions[number.index()];
        partition.stage = PartitionStage::Elsewhere;
        if partition.known.is_some_and(|(node, _)| node == SELF) {
            partition.known = partition.rival.take();
        }
        self.is_claiming = true;
        host.out.push(ClusterOutput::ForgetWebhooks(number.get()));
    }

    /// A node says what it owns.
    pub(super) fn note_owned(
        &mut self,
        node: PeerNumber,
        owned: &[(PartitionNumber, u64)],
        now: Now,
    ) {
        for partition in &mut self.partitions {
            let claimed = owned.iter().find(|(number, _)| *number == partition.number);
            let epoch = claimed.map(|(_, epoch)| *epoch);
            match (epoch, partition.known) {
                (None, Some((known, _))) if known == node => partition.known = None,
                (None, _) => {}
                (Some(epoch), Some((SELF, own))) => {
                    // The journal knows which of both it is.
                    if epoch > own
                        && let Some(owner) = partition.owned()
                    {
                        owner.doubt(now);
                        partition.rival = Some((node, epoch));
                    }
                }
                (Some(epoch), Some((known, before))) if known != node && before > epoch => {}
                (Some(epoch), _) => partition.known = Some((node, epoch)),
            }
        }
    }

    /// A node has let go of a partition.
    pub(super) fn note_release(&mut self, node: PeerNumber, number: PartitionNumber, epoch: u64) {
        let partition = &mut self.partitions[number.index()];
        if partition.known == Some((node, epoch)) {
            partition.known = None;
            (partition.barred, partition.retry_ns) = (None, 0);
        }
    }

    /// A node is gone: what it owned has no owner.
    pub(super) fn note_gone(&mut self, node: PeerNumber) {
        for partition in &mut self.partitions {
            for known in [&mut partition.known, &mut partition.rival] {
                known.take_if(|(known, _)| *known == node);
            }
            if partition.barred.is_some_and(|(taker, _)| taker == Some(node)) {
                partition.barred = None;
            }
        }
    }

    /// Begins to hand a partition over.
    fn release(&mut self, number: PartitionNumber, now: Now) {
        let partition = &mut self.partitions[number.index()];
        let stage = std::mem::replace(&mut partition.stage, PartitionStage::Elsewhere);
        partition.stage = match stage {
            PartitionStage::Owned(mut owner) => {
                owner.end();
                PartitionStage::Releasing(owner, now.monotonic_ns + RELEASE_NS)
            }
            other => other,
        };
    }

    /// Hands everything over that falls to another node. What no other node could take stays.
    pub(super) fn release_all(&mut self, now: Now) {
        for number in PartitionNumber::all() {
            if self.heir(number).is_some() {
                self.release(number, now);
            }
        }
    }

    /// Lets go of the partitions whose decisions are stored.
    pub(super) fn finish_releases(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        for number in PartitionNumber::all() {
            let PartitionStage::Releasing(owner, until_ns) = &self.partitions[number.index()].stage
            else {
                continue;
            };
            if owner.is_stored() || now.monotonic_ns >= *until_ns {
                let release = ControlKind::Release { partition: number, epoch: owner.epoch() };
                self.drop_owner(number, host);
                self.send(Destination::All, &release, host);
            }
        }
    }

    /// Hands over what falls to other nodes, gives up partitions that have become too heavy, and what
    /// the engine has not answered.
    pub(super) fn tick_ownership(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        if now.monotonic_ns >= self.next_balance_ns {
            self.next_balance_ns = now.monotonic_ns + BALANCE_NS;
            self.balance(now);
        }
        if self.is_draining {
            self.release_all(now);
        }
        if self.takes.is_probe_due(now) {
            self.probe(now, host);
        }
        for number in PartitionNumber::all() {
            let partition = &mut self.partitions[number.index()];
            let is_overfull = partition.owned().is_some_and(|owner| owner.is_overfull());
            if is_overfull {
                self.drop_owner(number, host);
                self.retry(number, RETRY_UNREADABLE_NS, now);
                continue;
            }
            let (PartitionStage::Looking { since_ns, .. }
            | PartitionStage::Taking { since_ns, .. }
            | PartitionStage::Loading { since_ns, .. }) = partition.stage
            else {
                continue;
            };
            let is_loading = matches!(partition.stage, PartitionStage::Loading { .. });
            let within_ns = if is_loading { LOADING_NS } else { OUTCOME_NS };
            if now.monotonic_ns >= since_ns + within_ns {
                self.failed(number, now);
            }
        }
    }

    /// Looks whether this node is able to take a partition again.
    fn probe(&mut self, now: Now, host: &mut ClusterHost<'_>) {
        let mut idle = PartitionNumber::all().filter(|number| {
            matches!(self.partitions[number.index()].stage, PartitionStage::Elsewhere)
        });
        if let Some(number) = idle.next() {
            self.look(number, None, now, host);
        }
    }

    /// Hands one partition over that falls to another node, when no webhook of it is to be told. The
    /// one before must have been taken: a node that turns out not to be able to gets no more.
    fn balance(&mut self, now: Now) {
        let is_taken = |number: PartitionNumber| self.partitions[number.index()].known.is_some();
        if self.handed.is_some_and(|number| !is_taken(number)) {
            return;
        }
        let numbers = PartitionNumber::all();
        let falling: Vec<_> =
            numbers.filter(|number| self.falls_to_another(*number, now)).collect();
        if falling.is_empty() {
            self.falling_since_ns = now.monotonic_ns;
        }
        let quiet = falling.iter().copied().find(|number| {
            let owner = self.partitions[number.index()].owned();
            owner.is_some_and(|owner| owner.webhooks() == 0)
        });
        let is_overdue = now.monotonic_ns >= self.falling_since_ns + QUIET_NS;
        let chosen = quiet.or_else(|| falling.first().copied().filter(|_| is_overdue));
        if let Some(number) = chosen {
            (self.handed, self.falling_since_ns) = (Some(number), now.monotonic_ns);
            self.release(number, now);
        }
    }

    /// Whether a partition that this node owns and knows whole falls to another node.
    fn falls_to_another(&mut self, number: PartitionNumber, now: Now) -> bool {
        let owned = self.partitions[number.index()].owned();
        if !owned.is_some_and(|owner| owner.is_settled()) {
            return false;
        }
        let steady_ns = now.monotonic_ns.saturating_sub(STEADY_NS);
        self.heir(number).is_some_and(|peer| peer.live_since_ns <= steady_ns)
    }

    /// The other node to which a partition falls, if it is able to take it and is not being emptied.
    fn heir(&self, number: PartitionNumber) -> Option<&ClusterPeer> {
        let first = self.first(number).and_then(|first| self.peers.by_number(first));
        first.filter(|peer| peer.heartbeat.able && !peer.heartbeat.draining)
    }

    /// What this node owns, with the epochs.
    pub(super) fn owned(&self) -> Vec<(PartitionNumber, u64)> {
        let owned = |partition: &ClusterPartition| Some((partition.number, partition.own_epoch()?));
        self.partitions.iter().filter_map(owned).collect()
    }
}
