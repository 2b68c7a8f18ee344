//! Maintenance: timers of redeliveries and delayed messages, saving, expiry, retention and quotas.

use super::handles::{SubId, TopicId};
use super::mark::Mark;
use super::owner::TopicOwner;
use super::pending::PendingState;
use super::state::LogPlace;
use super::timers::{IDLE_NS, Timer};
use super::{Archive, ArchiveError, Position, Saved, TopicName, TopicRules};

/// Timer steps, of about a microsecond, before other work has its turn; very many topics may be due
/// at once.
const TICK_STEPS: usize = 256;
/// The cost of unloading a topic, in steps.
const UNLOAD_STEPS: usize = 8;
/// The cost of checking a topic for deletable messages, which reads the archive, in steps.
const TEND_STEPS: usize = 64;
/// Subscriptions and topics saved before other work has its turn.
const SAVES_AT_ONCE: usize = 128;
/// Entries of the index of delayed messages deleted at once, and pending messages of a subscription
/// dropped at once: each takes some microseconds.
const TRIM_AT_ONCE: usize = 2000;
/// Bytes published to a topic, or acknowledged by one of its subscriptions, after which it is
/// checked for deletable messages at once: with timers alone, a queue that keeps up would grow by a
/// gigabyte between two checks. A check takes some microseconds, and at this volume there are at
/// most some tens a second.
pub(super) const TEND_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes that such a check may leave, to save the reads of the archive that would find them.
const NEAR_BYTES: u64 = 4 * 1024 * 1024;
/// As many more for each subscription, since a check visits them all.
const TEND_SUBSCRIPTION_BYTES: u64 = 8 * 1024;
/// Time from a change to a check for deletable messages.
const TEND_NS: u64 = 5_000_000_000;
/// Pause between two slices of deletion.
const TRIM_PAUSE_NS: u64 = 20_000_000;
/// Unloaded topics visited in one slice of the sweep.
const SWEEP_AT_ONCE: usize = 8;
/// Pause between two slices of the sweep.
const SWEEP_PAUSE_NS: u64 = 125_000_000;
/// Minimum time from a change to a check, however soon messages expire.
const TEND_NS_MIN: u64 = 1_000_000_000;
/// Pause between two sweeps over all topics.
const SWEEP_REST_NS: u64 = 60_000_000_000;

impl<A: Archive> TopicOwner<A> {
    /// Fires the timers that are due, up to the limit of steps.
    pub(super) fn fire_timers(&mut self) {
        let mut steps = 0;
        while steps < TICK_STEPS {
            let Some((at_ns, timer)) = self.loaded.timers.first().copied() else { break };
            if at_ns > self.now.monotonic_ns {
                break;
            }
            self.loaded.timers.remove(&(at_ns, timer));
            steps += match timer {
                Timer::Pending(..) | Timer::Wake(_) | Timer::Probe(_) => 1,
                Timer::Idle(_) => UNLOAD_STEPS,
                Timer::Tend(_) => TEND_STEPS,
                Timer::Sweep => TEND_STEPS * SWEEP_AT_ONCE,
            };
            match timer {
                Timer::Pending(sub, position) => self.time_out(sub, position, at_ns),
                Timer::Wake(id) => {
                    if let Some(sub) = self.loaded.subs.get_mut(id) {
                        // Computed anew, because the wall clock may have gone back.
                        (sub.due_ms, sub.wake_ns) = (0, None);
                    }
                    self.loaded.ready(id);
                }
                Timer::Idle(topic) => self.unload_idle(topic, IDLE_NS),
                // The check was brought forward and is done by now.
                Timer::Tend(id)
                    if self
                        .loaded
                        .topics
                        .get(id)
                        .is_some_and(|topic| topic.tend_due_ns > at_ns) => {}
                Timer::Tend(topic) => self.tend(topic),
                Timer::Sweep => self.sweep(),
                Timer::Probe(holder) => self.confirm(holder),
            }
        }
    }

    /// Saves some of the changes, when they are due.
    pub(super) fn save_due(&mut self) {
        if self.commits.save_due_ns.is_some_and(|due_ns| due_ns <= self.now.monotonic_ns) {
            self.save_some(SAVES_AT_ONCE);
        }
    }

    /// Saves all unsaved changes.
    pub fn save(&mut self, now: crate::wheel::Now) {
        self.set_time(now);
        self.save_some(usize::MAX);
    }

    fn save_some(&mut self, count: usize) {
        for _ in 0..count {
            let saved = if let Some(sub) = self.commits.dirty_subs.pop_front() {
                self.save_sub(sub).inspect_err(|_| self.touch(sub))
            } else if let Some(topic) = self.commits.dirty_topics.pop_front() {
                self.save_topic(topic).inspect_err(|_| self.touch_topic(topic))
            } else {
                self.commits.save_due_ns = None;
                return;
            };
            if saved.is_err() {
                // A transient error; retry later.
                self.commits.save_due_ns = None;
                return self.commits.save_soon(self.now.monotonic_ns);
            }
        }
    }

    /// Saves a subscription.
    pub(super) fn save_sub(&mut self, id: SubId) -> Result<(), ArchiveError> {
        let Some(sub) = self.loaded.subs.get_mut(id).filter(|sub| sub.durable) else {
            return Ok(());
        };
        sub.is_dirty = false;
        let Some(topic) = self.loaded.topics.get(sub.topic).filter(|topic| !topic.is_gone) else {
            return Ok(());
        };
        // After a failed sync the file's content is unknown; the state is saved after recovery.
        if self.commits.broken.is_some() {
            return Ok(());
        }
        let bytes = sub.state.write(&sub.pending);
        self.archive.save(topic.number, Saved::Subscription(&sub.name, &bytes))?;
        self.commits.is_uncommitted = true;
        Ok(())
    }

    /// Saves a topic's state.
    pub(super) fn save_topic(&mut self, id: TopicId) -> Result<(), ArchiveError> {
        let Some(topic) = self.loaded.topics.get_mut(id).filter(|topic| !topic.is_gone) else {
            return Ok(());
        };
        topic.is_dirty = false;
        if self.commits.broken.is_some() {
            return Ok(());
        }
        self.archive.save(topic.number, Saved::Topic(&topic.state.write()))?;
        self.commits.is_uncommitted = true;
        Ok(())
    }

    /// Schedules a check for deletable messages.
    pub(super) fn arm_tend(&mut self, id: TopicId) {
        self.arm_tend_after(id, self.tend_ns());
    }

    /// Time from a change to a check: shorter where messages expire sooner.
    fn tend_ns(&self) -> u64 {
        let TopicRules { message_ttl_s, retention_s, .. } = self.rules;
        let shortest_s =
            if message_ttl_s > 0 { message_ttl_s.min(retention_s) } else { retention_s };
        shortest_s.saturating_mul(1_000_000_000).clamp(TEND_NS_MIN, TEND_NS)
    }

    pub(super) fn arm_tend_after(&mut self, id: TopicId, after_ns: u64) {
        let due_ns = self.now.monotonic_ns.saturating_add(after_ns);
        if let Some(topic) =
            self.loaded.topics.get_mut(id).filter(|topic| due_ns < topic.tend_due_ns)
        {
            // One timer per topic, the earlier one.
            let old_ns = std::mem::replace(&mut topic.tend_due_ns, due_ns);
            self.loaded.timers.remove(&(old_ns, Timer::Tend(id)));
            self.arm(after_ns, Timer::Tend(id));
        }
    }

    /// Checks a topic now: messages were purged, and their room may be needed.
    pub(super) fn tend_now(&mut self, id: TopicId) {
        self.arm_tend_after(id, 0);
    }

    /// Checks a topic now, because much was published or acknowledged.
    pub(super) fn hurry(&mut self, id: TopicId) {
        let Some(topic) = self.loaded.topics.get_mut(id) else { return };
        let most = TEND_BYTES + topic.subs.len() as u64 * TEND_SUBSCRIPTION_BYTES;
        let is_acknowledged = topic.untended_bytes < TEND_BYTES;
        // A check visits all subscriptions, so the more there are, the fewer checks.
        if is_acknowledged || topic.untended_bytes >= most {
            topic.is_hurried = true;
            self.arm_tend_after(id, 0);
        }
    }

    /// Deletes what is too old or too much.
    fn tend(&mut self, id: TopicId) {
        let (now_ns, tend_ns) = (self.now.monotonic_ns, self.tend_ns());
        let Some(topic) = self.loaded.topics.get_mut(id).filter(|topic| !topic.is_gone) else {
            return;
        };
        topic.tend_due_ns = u64::MAX;
        topic.untended_bytes = 0;
        // However much is published, the thorough check keeps its interval.
        let is_due = now_ns.saturating_sub(topic.tended_ns) >= tend_ns;
        let is_hurried = std::mem::take(&mut topic.is_hurried) && !is_due;
        topic.tended_ns = if is_hurried { topic.tended_ns } else { now_ns };
        if self.commits.broken.is_some() {
            return;
        }
        // Expired messages have waited long, and can wait for the thorough check.
        let expired = if is_hurried { Ok(Some(tend_ns)) } else { self.expire(id) };
        // The archive has logged the error; the next change retries.
        let Ok(expired) = expired else { return };
        let Ok(trimmed) = self.trim(id, is_hurried) else { return };
        if let Some(after_ns) = expired.into_iter().chain(trimmed).min() {
            self.arm_tend_after(id, after_ns);
        }
    }

    /// Drops messages that are too old from their subscriptions. Returns when to check again.
    fn expire(&mut self, id: TopicId) -> Result<Option<u64>, ArchiveError> {
        let mut is_more = false;
        if self.rules.message_ttl_s > 0 {
            let cutoff_ms =
                self.wall_ms.saturating_sub(self.rules.message_ttl_s.saturating_mul(1000));
            let subs: Vec<SubId> = self.loaded.topics[id].subs.values().copied().collect();
            let needed = subs
                .iter()
                .filter_map(|sub| self.loaded.subs.get(*sub))
                .map(|sub| sub.needs_from())
                .min();
            if let Some(from) = needed {
                let place = self.search(id, from, |mark| mark.published_ms >= cutoff_ms)?;
                let place = place.map_or(self.loaded.topics[id].visible, |mark| mark.place);
                for sub in subs {
                    is_more |= self.give_up(sub, &place);
                }
            }
        }
        self.over_quota(id);
        Ok(is_more.then_some(TRIM_PAUSE_NS))
    }

    /// Advances a subscription to `place` and drops what it has pending from before, up to a limit.
    /// Returns whether there may be more.
    pub(super) fn give_up(&mut self, id: SubId, place: &LogPlace) -> bool {
        let Some(sub) = self.loaded.subs.get_mut(id) else { return false };
        let old = sub.pending.range(..place.position);
        let old = old
            .filter(|(_, pending)| pending.deliver_ms == 0 && pending.state != PendingState::Dying);
        let old: Vec<Position> = old.map(|(position, _)| *position).take(TRIM_AT_ONCE).collect();
        let is_behind = sub.state.read.position < place.position;
        // Nothing changes, so nothing needs saving.
        if old.is_empty() && !is_behind {
            return false;
        }
        let is_more = old.len() >= TRIM_AT_ONCE;
        if is_behind {
            sub.state.read = *place;
        }
        for position in old {
            self.settle(id, position, None);
        }
        self.touch(id);
        self.loaded.ready(id);
        is_more
    }

    /// The first message at or after `from` for which `is_past` holds; it holds for all after that.
    /// Known marks shorten the search, and are often its answer.
    pub(super) fn search(
        &mut self,
        id: TopicId,
        from: Position,
        is_past: impl Fn(&Mark) -> bool,
    ) -> Result<Option<Mark>, ArchiveError> {
        let topic = &self.loaded.topics[id];
        let (number, from, end) =
            (topic.number, from.max(topic.state.first), topic.visible.position);
        let (before, mut found) = topic.marks.around(from, end, &is_past);
        let mut low = before.map_or(from, |before| before.place.position.after()).number();
        let mut high = found.map_or(end, |found| found.place.position).number();
        // The first candidate is often the answer.
        let mut middle = if before.is_none() { low } else { low + high.saturating_sub(low) / 2 };
        // Positions have gaps: a read at one finds the next message, which may be beyond `high`.
        while low < high {
            let read = self.archive.read(number, Position::of_number(middle), 1, 1)?;
            let mark = read.first().map(|message| Mark::of(message));
            match mark.filter(|mark| mark.place.position.number() < high) {
                Some(mark) if !is_past(&mark) => low = mark.place.position.after().number(),
                Some(mark) => (high, found) = (middle, Some(mark)),
                None => high = middle,
            }
            middle = low + high.saturating_sub(low) / 2;
        }
        Ok(found)
    }

    /// Deletes messages that neither a subscription nor the retention needs; when hurried, only
    /// what is found without reads, which is little less. Returns when to check again.
    fn trim(&mut self, id: TopicId, is_hurried: bool) -> Result<Option<u64>, ArchiveError> {
        let topic = &self.loaded.topics[id];
        let (number, first, visible) = (topic.number, topic.state.first, topic.visible);
        let (mut bound, mut delayed) = (visible, (u64::MAX, Position::END));
        for sub in topic.subs.values() {
            let Some(sub) = self.loaded.subs.get_mut(*sub).filter(|sub| sub.durable) else {
                continue;
            };
            sub.untended_bytes = 0;
            bound.position = bound.position.min(sub.needs_from());
            bound.bytes = bound.bytes.min(sub.state.read.bytes);
            if sub.state.by_index {
                delayed = delayed.min(sub.needs_delayed_from());
            }
        }
        let kept_ms = self.rules.retention_s.saturating_mul(1000);
        let cutoff_ms = self.wall_ms.saturating_sub(kept_ms);
        let kept_bytes = self.rules.retention_bytes;
        let is_kept = |mark: &Mark| {
            mark.place.position >= bound.position
                || mark.published_ms > cutoff_ms
                    && mark.end_bytes.saturating_add(kept_bytes) > bound.bytes
        };
        let (before, after) = topic.marks.around(first, visible.position, is_kept);
        let after_bytes = after.map_or(visible.bytes, |after| after.place.bytes);
        let near = before.filter(|before| {
            is_hurried && after_bytes.saturating_sub(before.place.bytes) <= NEAR_BYTES
        });
        let kept = if near.is_some() { near } else { self.search(id, first, is_kept)? };
        let to = kept.map_or(visible.position, |kept| kept.place.position).min(bound.position);
        self.loaded.topics[id].marks.trim(to, kept);
        // Delayed messages are published before their delivery time, so entries due before the
        // first retained message are obsolete.
        let kept_from_ms = kept.map_or(self.wall_ms, |kept| kept.published_ms);
        let delayed = delayed.min((kept_from_ms, Position::FIRST));
        let is_delayed_untrimmed =
            self.archive.trim_delayed(number, delayed, TRIM_AT_ONCE)? >= TRIM_AT_ONCE;
        let topic = &mut self.loaded.topics[id];
        if to > first {
            topic.state.first = to;
            topic.is_untrimmed = true;
            topic.forget_read();
            // Saved before the messages are deleted: afterwards nothing else says how many there
            // were.
            self.save_topic(id)?;
        }
        let topic = &mut self.loaded.topics[id];
        // Includes what an earlier run recorded as deleted and did not finish deleting.
        if topic.is_untrimmed {
            self.archive.trim(number, to)?;
            topic.is_untrimmed = false;
        }
        if is_delayed_untrimmed {
            return Ok(Some(TRIM_PAUSE_NS));
        }
        // Retained messages are due again when their time is over.
        let expires = self.rules.message_ttl_s > 0 && to < visible.position;
        let again_ns = kept_ms.saturating_mul(1_000_000).clamp(self.tend_ns(), SWEEP_REST_NS);
        Ok(if expires { Some(self.tend_ns()) } else { (to < bound.position).then_some(again_ns) })
    }

    /// Whether a topic accepts no more messages because its backlog is over the quota; if so, the
    /// reason. With eviction configured, drops the oldest messages of the slowest subscriptions
    /// instead.
    pub(super) fn over_quota(&mut self, id: TopicId) -> Option<Box<str>> {
        let quota = self.rules.backlog_quota_bytes;
        let topic = &self.loaded.topics[id];
        let next = topic.state.next;
        // Below this size, no backlog can have reached the quota since the last check.
        if quota == 0 || next.bytes < topic.quota_check_bytes {
            return None;
        }
        let (mut over, mut slowest) = (Vec::new(), 0);
        for id in topic.subs.values() {
            // Subscriptions that end with their consumers do not hold producers up.
            let Some(sub) = self.loaded.subs.get(*id).filter(|sub| sub.durable) else { continue };
            let backlog = sub.backlog_bytes(&next);
            slowest = slowest.max(backlog);
            over.extend((backlog >= quota).then_some(*id));
        }
        if over.is_empty() {
            // A backlog grows at most as much as its topic.
            self.loaded.topics[id].quota_check_bytes = next.bytes + (quota - slowest);
            return None;
        }
        if !self.rules.backlog_eviction {
            return Some("Cannot create producer on topic with backlog quota exceeded".into());
        }
        // Evicts a tenth more, so as not to repeat this for every message.
        let kept = quota - quota / 10;
        for sub in over {
            let from = self.loaded.subs[sub].needs_from();
            let found =
                self.search(id, from, |mark| mark.place.bytes.saturating_add(kept) >= next.bytes);
            // When the search fails, the next check evicts.
            if let Ok(found) = found {
                let place = found.map_or(self.loaded.topics[id].visible, |mark| mark.place);
                self.give_up(sub, &place);
            }
        }
        None
    }

    /// Visits the next topics: unloaded ones for all maintenance, loaded ones for expired
    /// subscriptions only.
    fn sweep(&mut self) {
        let swept = std::mem::take(&mut self.catalog.swept);
        let names = if self.commits.broken.is_some() {
            Vec::new()
        } else {
            self.archive.names("", &swept, SWEEP_AT_ONCE).unwrap_or_default()
        };
        for name in names.iter().filter_map(|name| TopicName::read(name).ok()) {
            if let Some(id) = self.catalog.names.get(name.as_str()).copied() {
                self.expire_subs(id);
            } else if let Ok(Some(id)) = self.find_topic(&name) {
                self.expire_subs(id);
                self.tend(id);
                // A topic with more to delete stays loaded until that is done.
                if self.loaded.topics.get(id).is_some_and(|topic| !topic.is_untrimmed) {
                    self.unload_idle(id, 0);
                }
            }
        }
        let is_full = names.len() >= SWEEP_AT_ONCE;
        self.catalog.swept = names.into_iter().next_back().filter(|_| is_full).unwrap_or_default();
        self.arm(if is_full { SWEEP_PAUSE_NS } else { SWEEP_REST_NS }, Timer::Sweep);
    }
}
