//! Maintenance: timers of redeliveries and delayed messages, saving, expiry, retention and quotas.

use super::handles::{SubId, TopicId};
use super::mark::Mark;
use super::owner::TopicOwner;
use super::pending::PendingState;
use super::state::LogPlace;
use super::timers::{IDLE_NS, Timer};
use super::{Archive, ArchiveError, Position, Saved, TopicName, TopicRules};

/// Steps of timers before something else is done, each about a microsecond; very many topics may be due at a time.
const TICK_STEPS: usize = 256;
/// What it counts as to have a topic leave the memory.
const UNLOAD_STEPS: usize = 8;
/// What it counts as to look for what a topic may give up, which reads the archive.
const TEND_STEPS: usize = 64;
/// Subscriptions and topics that are saved before something else is done.
const SAVES_AT_ONCE: usize = 128;
/// Entries of the index of delayed messages that are deleted at once, and pending messages of a subscription that are
/// given up at once: each is some microseconds.
const TRIM_AT_ONCE: usize = 2000;
/// Bytes that come to a topic, or that one of its subscriptions acknowledges, after which it is looked at for what may be
/// given up at once: by the time alone a queue that is only passed through would grow by a gigabyte between two looks. A
/// look is some microseconds, and with so many bytes there are no more than some tens of them a second.
pub(super) const TEND_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes that such a look may leave, to save the reads of the archive that would find them.
const NEAR_BYTES: u64 = 4 * 1024 * 1024;
/// As many more for each subscription, all of which are gone through.
const TEND_SUBSCRIPTION_BYTES: u64 = 8 * 1024;
/// How long after a change a topic is looked at for what may be given up.
const TEND_NS: u64 = 5_000_000_000;
/// Between two slices of deleting.
const TRIM_PAUSE_NS: u64 = 20_000_000;
/// Topics that are not loaded and are looked at at once.
const SWEEP_AT_ONCE: usize = 8;
/// Between two slices of that.
const SWEEP_PAUSE_NS: u64 = 125_000_000;
/// How soon after a change a topic is looked at, however soon messages are given up.
const TEND_NS_MIN: u64 = 1_000_000_000;
/// Between two rounds through all topics.
const SWEEP_REST_NS: u64 = 60_000_000_000;

impl<A: Archive> TopicOwner<A> {
    /// Does what is due by the time.
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
                        // Looked up again, because the clock of the world may have gone back.
                        (sub.due_ms, sub.wake_ns) = (0, None);
                    }
                    self.loaded.ready(id);
                }
                Timer::Idle(topic) => self.unload_idle(topic, IDLE_NS),
                // What was brought forward is over by now.
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

    /// Saves some of what has changed, when it is time.
    pub(super) fn save_due(&mut self) {
        if self.commits.save_due_ns.is_some_and(|due_ns| due_ns <= self.now.monotonic_ns) {
            self.save_some(SAVES_AT_ONCE);
        }
    }

    /// Saves all that has changed and is not saved yet.
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
                // What cannot be written now is tried again later.
                self.commits.save_due_ns = None;
                return self.commits.save_soon(self.now.monotonic_ns);
            }
        }
    }

    /// Saves a subscription if it has changed or is new.
    pub(super) fn save_sub(&mut self, id: SubId) -> Result<(), ArchiveError> {
        let Some(sub) = self.loaded.subs.get_mut(id).filter(|sub| sub.durable) else {
            return Ok(());
        };
        sub.is_dirty = false;
        let Some(topic) = self.loaded.topics.get(sub.topic).filter(|topic| !topic.is_gone) else {
            return Ok(());
        };
        // What a failed sync has left is not known; it is saved after the recovery.
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

    /// Looks at a topic before long for what may be given up.
    pub(super) fn arm_tend(&mut self, id: TopicId) {
        self.arm_tend_after(id, self.tend_ns());
    }

    /// How long after a change a topic is looked at: sooner where messages are given up sooner.
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
            // There is one timer for each topic, the earlier one.
            let old_ns = std::mem::replace(&mut topic.tend_due_ns, due_ns);
            self.loaded.timers.remove(&(old_ns, Timer::Tend(id)));
            self.arm(after_ns, Timer::Tend(id));
        }
    }

    /// Looks at a topic now: messages were purged, and their room may be awaited.
    pub(super) fn tend_now(&mut self, id: TopicId) {
        self.arm_tend_after(id, 0);
    }

    /// So much came to a topic, or was acknowledged, that it is looked at now.
    pub(super) fn hurry(&mut self, id: TopicId) {
        let Some(topic) = self.loaded.topics.get_mut(id) else { return };
        let most = TEND_BYTES + topic.subs.len() as u64 * TEND_SUBSCRIPTION_BYTES;
        let is_acknowledged = topic.untended_bytes < TEND_BYTES;
        // A look goes through all subscriptions, so with more of them there are fewer.
        if is_acknowledged || topic.untended_bytes >= most {
            topic.is_hurried = true;
            self.arm_tend_after(id, 0);
        }
    }

    /// Gives up what is too old or too much.
    fn tend(&mut self, id: TopicId) {
        let (now_ns, tend_ns) = (self.now.monotonic_ns, self.tend_ns());
        let Some(topic) = self.loaded.topics.get_mut(id).filter(|topic| !topic.is_gone) else {
            return;
        };
        topic.tend_due_ns = u64::MAX;
        topic.untended_bytes = 0;
        // However much comes, it is looked at in time without hurry.
        let is_due = now_ns.saturating_sub(topic.tended_ns) >= tend_ns;
        let is_hurried = std::mem::take(&mut topic.is_hurried) && !is_due;
        topic.tended_ns = if is_hurried { topic.tended_ns } else { now_ns };
        if self.commits.broken.is_some() {
            return;
        }
        // What is too old has waited for long, and waits for the look that is not in a hurry.
        let expired = if is_hurried { Ok(Some(tend_ns)) } else { self.expire(id) };
        // A fault is told by the archive; the next change tries again.
        let Ok(expired) = expired else { return };
        let Ok(trimmed) = self.trim(id, is_hurried) else { return };
        if let Some(after_ns) = expired.into_iter().chain(trimmed).min() {
            self.arm_tend_after(id, after_ns);
        }
    }

    /// Messages that have waited for too long are given up for their subscriptions. Returns when to look again.
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

    /// A subscription goes on there; what it has from before is given up, so much at once. Returns whether there may be
    /// more.
    pub(super) fn give_up(&mut self, id: SubId, place: &LogPlace) -> bool {
        let Some(sub) = self.loaded.subs.get_mut(id) else { return false };
        let old = sub.pending.range(..place.position);
        let old = old
            .filter(|(_, pending)| pending.deliver_ms == 0 && pending.state != PendingState::Dying);
        let old: Vec<Position> = old.map(|(position, _)| *position).take(TRIM_AT_ONCE).collect();
        let is_behind = sub.state.read.position < place.position;
        // Nothing changes, and nothing is saved for it.
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

    /// The first message at a position or after it of which something is true; it is of all after one. What is known of
    /// others shortens the search, and is often the answer.
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
        // Often it is the first.
        let mut middle = if before.is_none() { low } else { low + high.saturating_sub(low) / 2 };
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

    /// Deletes messages that neither a subscription nor the retention needs; in a hurry what is found without reads, which is
    /// little less. Returns when to look again.
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
        // A delayed message was published before its time: those of a time before the first that is kept are not kept.
        let kept_from_ms = kept.map_or(self.wall_ms, |kept| kept.published_ms);
        let delayed = delayed.min((kept_from_ms, Position::FIRST));
        let is_delayed_untrimmed =
            self.archive.trim_delayed(number, delayed, TRIM_AT_ONCE)? >= TRIM_AT_ONCE;
        let topic = &mut self.loaded.topics[id];
        if to > first {
            topic.state.first = to;
            topic.is_untrimmed = true;
            topic.forget_read();
            // Before the messages go, because without them nothing else tells how many there were.
            self.save_topic(id)?;
        }
        let topic = &mut self.loaded.topics[id];
        // Also what an earlier run has said is gone and not trimmed.
        if topic.is_untrimmed {
            self.archive.trim(number, to)?;
            topic.is_untrimmed = false;
        }
        if is_delayed_untrimmed {
            return Ok(Some(TRIM_PAUSE_NS));
        }
        // What is kept for a time goes when that is over.
        let expires = self.rules.message_ttl_s > 0 && to < visible.position;
        let again_ns = kept_ms.saturating_mul(1_000_000).clamp(self.tend_ns(), SWEEP_REST_NS);
        Ok(if expires { Some(self.tend_ns()) } else { (to < bound.position).then_some(again_ns) })
    }

    /// Whether a topic takes nothing more because too much waits in it, and why. Where its slowest subscriptions lose
    /// something instead, they do so now.
    pub(super) fn over_quota(&mut self, id: TopicId) -> Option<Box<str>> {
        let quota = self.rules.backlog_quota_bytes;
        let topic = &self.loaded.topics[id];
        let next = topic.state.next;
        // Below that no backlog can have reached the quota since it was looked at.
        if quota == 0 || next.bytes < topic.quota_check_bytes {
            return None;
        }
        let (mut over, mut slowest) = (Vec::new(), 0);
        for id in topic.subs.values() {
            // What does not outlast its consumers does not hold producers up.
            let Some(sub) = self.loaded.subs.get(*id).filter(|sub| sub.durable) else { continue };
            let backlog = sub.backlog_bytes(&next);
            slowest = slowest.max(backlog);
            over.extend((backlog >= quota).then_some(*id));
        }
        if over.is_empty() {
            // No backlog grows by more than the topic does.
            self.loaded.topics[id].quota_check_bytes = next.bytes + (quota - slowest);
            return None;
        }
        if !self.rules.backlog_eviction {
            return Some("Cannot create producer on topic with backlog quota exceeded".into());
        }
        // A tenth more, so that it is not done for every message.
        let kept = quota - quota / 10;
        for sub in over {
            let from = self.loaded.subs[sub].needs_from();
            let found =
                self.search(id, from, |mark| mark.place.bytes.saturating_add(kept) >= next.bytes);
            // What cannot be searched is given up the next time.
            if let Ok(found) = found {
                let place = found.map_or(self.loaded.topics[id].visible, |mark| mark.place);
                self.give_up(sub, &place);
            }
        }
        None
    }

    /// Looks after some topics: after those that are not loaded in every way, after others for subscriptions that
    /// had no consumer for too long.
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
                // One that has more to trim stays until that is done.
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
