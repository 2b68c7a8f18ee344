//! The store's metrics beyond its counters: its size, and its largest topics. Computing these takes
//! longer than counting, so it is done piece by piece on demand, and cached for a while; before the
//! volume is full it is done once for a warning in the log.

use super::archive::Disk;
use super::health::StoreVolume;
use super::segment::files_bytes;
use crate::http::Room;
use crate::service::topic::{
    Archive as _, Holding, Position, TopicBacklog, TopicNumber, TopicOwner,
};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a survey is cached: visiting the files and thousands of subscriptions takes the store's
/// thread a fraction of a millisecond, and scrapes are rarer.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// Limit on the largest topics reported: each is two lines of every scrape.
const HOLDINGS_MAX: usize = 20;
/// Limit on the largest topics logged.
pub(super) const LARGEST: usize = 3;
/// Topics visited at once.
const TOPICS_AT_ONCE: usize = 1024;
/// How long a survey may keep the store's thread while ranking topics; the rest is done in later
/// rounds.
const AT_ONCE: Duration = Duration::from_millis(2);
/// How often the volume's usage is checked.
const WATCH_EVERY: Duration = Duration::from_secs(10);
/// The usage of the volume in percent, as `df` computes it, that triggers a warning, and the usage
/// below which it may be repeated.
const FULL_PERCENT: u64 = 80;
const RELIEVED_PERCENT: u64 = 75;

/// The result of a survey.
#[derive(Clone, Debug, Default)]
pub(in crate::io) struct Survey {
    /// The space that the store uses.
    pub(in crate::io) room: Room,
    /// The largest backlogs.
    pub(in crate::io) backlogs: Vec<TopicBacklog>,
}

impl Survey {
    /// Merges the surveys of all owners.
    pub(super) fn of_all(surveys: Vec<Self>) -> Self {
        let mut all =
            Self { room: Room { free_bytes: u64::MAX, ..Room::default() }, backlogs: Vec::new() };
        for Survey { room, backlogs } in surveys {
            all.room.size_bytes += room.size_bytes;
            all.room.needed_bytes += room.needed_bytes;
            all.room.segments += room.segments;
            all.room.delayed += room.delayed;
            // All are on one file system, queried at different times.
            all.room.free_bytes = all.room.free_bytes.min(room.free_bytes);
            all.room.volume_bytes = all.room.volume_bytes.max(room.volume_bytes);
            all.room.holdings.extend(room.holdings);
            all.backlogs.extend(backlogs);
        }
        Holding::keep_largest(&mut all.room.holdings, HOLDINGS_MAX);
        TopicBacklog::keep_largest(&mut all.backlogs);
        all
    }
}

/// The surveys of one owner.
pub(super) struct Surveyor {
    made: Option<(Instant, Survey)>,
    /// The largest topics in descending order, as of the last ranking.
    largest: Vec<SurveyResult>,
    ranking: Option<Ranking>,
    watched: Instant,
    /// Whether a warning about the volume was logged, or soon will be.
    is_alarmed: bool,
    /// Whether the ranking in progress is for that warning.
    is_for_warning: bool,
}

/// A topic that uses space.
#[derive(Clone)]
struct SurveyResult {
    number: TopicNumber,
    holding: Holding,
    /// The position of its first message.
    first: Option<Position>,
}

/// A ranking of the topics by size.
#[derive(Default)]
struct Ranking {
    /// The last topic visited; `None` after the last.
    after: Option<Arc<str>>,
    is_ranked: bool,
    found: Vec<SurveyResult>,
    /// Number of topics found whose first message's date is known.
    dated: usize,
}

/// The owners' largest topics, collected for a warning about the volume. The last owner logs it.
#[derive(Debug)]
pub(super) struct LargestTopics(Mutex<Vec<Option<Vec<Holding>>>>);

impl LargestTopics {
    pub(super) fn new(owners: usize) -> Self {
        Self(Mutex::new(vec![None; owners]))
    }

    /// Adds an owner's topics. Returns the largest of all owners if it is the last.
    fn put(&self, owner: usize, holdings: Option<Vec<Holding>>) -> Option<Vec<Holding>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *places.get_mut(owner)? = holdings;
        let mut all: Vec<Holding> = places.iter().cloned().collect::<Option<Vec<_>>>()?.concat();
        Holding::keep_largest(&mut all, LARGEST);
        Some(all)
    }
}

/// Topics with their sizes, for a log line.
pub(super) fn listed(holdings: &[Holding]) -> String {
    let listed =
        holdings.iter().map(|Holding { topic, bytes, .. }| format!("{topic} ({bytes} bytes)"));
    listed.collect::<Vec<_>>().join(", ")
}

impl Surveyor {
    pub(super) fn new() -> Self {
        Self {
            made: None,
            largest: Vec::new(),
            ranking: None,
            watched: Instant::now(),
            is_alarmed: false,
            is_for_warning: false,
        }
    }

    /// The cached survey while it is fresh, otherwise a new one. With too many topics to visit at
    /// once, the largest topics are those of the last ranking.
    pub(super) fn survey(&mut self, topics: &mut TopicOwner<Disk>) -> Survey {
        let now = Instant::now();
        match &self.made {
            Some((made, survey)) if now - *made < GOOD_FOR => {
                // The ranking in progress then may be finished by now.
                let room = Room { holdings: self.holdings(), ..survey.room.clone() };
                Survey { room, backlogs: survey.backlogs.clone() }
            }
            last => {
                // Values that cannot be determined stay as they were.
                let before =
                    last.as_ref().map(|(_, survey)| survey.room.clone()).unwrap_or_default();
                self.ranking.get_or_insert_default();
                while self.ranking.is_some() && now.elapsed() < AT_ONCE {
                    self.go_on(topics.archive());
                }
                let backlogs = topics.backlogs();
                let disk = topics.archive();
                let (free_bytes, volume_bytes) = StoreVolume::of(&disk.directory)
                    .map_or((before.free_bytes, before.volume_bytes), |volume| {
                        (volume.free, volume.used + volume.free)
                    });
                let room = Room {
                    size_bytes: files_bytes(&disk.log.directory).unwrap_or(before.size_bytes),
                    needed_bytes: needed_bytes(disk),
                    free_bytes,
                    volume_bytes,
                    segments: disk.catalog.segments.len() as u64,
                    delayed: disk.catalog.delayed as u64,
                    holdings: self.holdings(),
                };
                let survey = Survey { room, backlogs };
                self.made = Some((now, survey.clone()));
                survey
            }
        }
    }

    /// The largest topics, as of the last ranking.
    fn holdings(&self) -> Vec<Holding> {
        self.largest.iter().map(|found| found.holding.clone()).collect()
    }

    /// Whether a ranking is in progress.
    pub(super) fn is_busy(&self) -> bool {
        self.ranking.is_some()
    }

    /// When to call [`Surveyor::watch`] next.
    pub(super) fn due(&self) -> Instant {
        self.watched + WATCH_EVERY
    }

    /// Checks the volume's usage from time to time, and continues a ranking in progress. `index` is
    /// the owner's.
    pub(super) fn watch(&mut self, disk: &mut Disk, all_largest: &LargestTopics, index: usize) {
        let now = Instant::now();
        if now >= self.due() {
            self.watched = now;
            match StoreVolume::of(&disk.directory).map(|volume| volume.percent()) {
                // Logged once, and again only after usage fell well below.
                Some(FULL_PERCENT..) if !self.is_alarmed => {
                    (self.is_alarmed, self.is_for_warning) = (true, true);
                    self.ranking = Some(Ranking::default());
                }
                Some(..RELIEVED_PERCENT) if self.is_alarmed => {
                    (self.is_alarmed, self.is_for_warning) = (false, false);
                    all_largest.put(index, None);
                }
                _ => {}
            }
        }
        if self.ranking.is_some() {
            self.go_on(disk);
        }
        if self.is_for_warning && self.ranking.is_none() {
            self.is_for_warning = false;
            let largest = self.holdings();
            if let Some(largest) = all_largest.put(index, Some(largest)) {
                warn(disk, &largest);
            }
        }
    }

    /// Visits the next topics, or determines the date of one.
    fn go_on(&mut self, disk: &mut Disk) {
        let Some(ranking) = &mut self.ranking else { return };
        if !ranking.is_ranked {
            ranking.rank_some(disk);
        } else if let Some(found) = ranking.found.get_mut(ranking.dated) {
            ranking.dated += 1;
            let known = self.largest.iter().find(|known| known.number == found.number);
            found.date(disk, known);
        } else {
            self.largest = self.ranking.take().unwrap_or_default().found;
        }
    }
}

impl Ranking {
    fn rank_some(&mut self, disk: &Disk) {
        let bound = self.after.as_deref().map_or(Unbounded, Excluded);
        let mut last = None;
        for (name, number) in
            disk.catalog.names.range::<str, _>((bound, Unbounded)).take(TOPICS_AT_ONCE)
        {
            last = Some(name.clone());
            let bytes = disk.held(*number);
            if bytes > 0 {
                let holding = Holding { topic: name[..].into(), bytes, oldest_ms: None };
                self.found.push(SurveyResult { number: *number, holding, first: None });
            }
        }
        self.found.sort_by_key(|found| std::cmp::Reverse(found.holding.bytes));
        self.found.truncate(HOLDINGS_MAX);
        self.is_ranked = last.is_none();
        self.after = last;
    }
}

impl SurveyResult {
    /// Determines when its first message was published, unless known from before.
    fn date(&mut self, disk: &mut Disk, known: Option<&Self>) {
        let topic = disk.catalog.topics.get_mut(&self.number);
        self.first = topic.and_then(|topic| topic.first());
        if let Some(known) =
            known.filter(|known| known.first.is_some() && known.first == self.first)
        {
            self.holding.oldest_ms = known.holding.oldest_ms;
            return;
        }
        // An unreadable message is reported where it matters.
        let read = disk.read(self.number, Position::FIRST, 1, 1).unwrap_or_default();
        self.holding.oldest_ms = read.first().map(|message| message.message().published_ms);
    }
}

/// Bytes of segments that are needed. The length of the segment being written is unknown until it
/// is full.
fn needed_bytes(disk: &Disk) -> u64 {
    let (active, segments) = (disk.log.active.number, &disk.catalog.segments);
    let newest = segments.get(&active).map_or(0, |segment| segment.live + segment.delayed);
    newest + segments.range(..active).map(|(_, segment)| segment.needed()).sum::<u64>()
}

fn warn(disk: &Disk, largest: &[Holding]) {
    let Some(volume) = StoreVolume::of(&disk.directory) else { return };
    let (percent, StoreVolume { used, free }) = (volume.percent(), volume);
    let most = if largest.is_empty() {
        "the store holds no messages".to_owned()
    } else {
        format!("its largest topics are {}", listed(largest))
    };
    tracing::warn!(
        used,
        free,
        "the store's file system is {percent} % full, {used} bytes are used and {free} are free: \
         {most}; let consumers catch up, purge or delete topics, or make room on it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(topic: &str, bytes: u64) -> Holding {
        Holding { topic: topic.into(), bytes, oldest_ms: None }
    }

    #[test]
    fn the_last_of_several_owners_tells_the_topics_that_hold_most_of_all() {
        let all_largest = LargestTopics::new(2);
        let first = vec![holding("a", 9), holding("b", 7)];
        assert_eq!(all_largest.put(0, Some(first)), None);
        let all = all_largest.put(1, Some(vec![holding("c", 8), holding("d", 1)])).unwrap();
        assert_eq!(listed(&all), "a (9 bytes), c (8 bytes), b (7 bytes)");
        // After it fell, all of them have to tell anew.
        assert_eq!(all_largest.put(0, None), None);
        assert_eq!(all_largest.put(1, None), None);
        assert_eq!(all_largest.put(0, Some(Vec::new())), None);
    }

    #[test]
    fn a_volume_is_as_full_as_df_says() {
        let percent = |used, free| StoreVolume { used, free }.percent();
        assert_eq!([percent(0, 0), percent(0, 9), percent(79, 21), percent(1, 999)], [0, 0, 79, 1]);
    }

    #[test]
    fn surveys_of_several_owners_are_one() {
        let one = |topic, bytes, free_bytes| Survey {
            room: Room {
                size_bytes: 10,
                needed_bytes: 5,
                free_bytes,
                volume_bytes: 100,
                segments: 3,
                delayed: 1,
                holdings: vec![holding(topic, bytes)],
            },
            backlogs: Vec::new(),
        };
        let all = Survey::of_all(vec![one("a", 1, 70), one("b", 2, 60)]).room;
        assert_eq!((all.size_bytes, all.needed_bytes, all.segments, all.delayed), (20, 10, 6, 2));
        assert_eq!((all.free_bytes, all.volume_bytes), (60, 100));
        assert_eq!(listed(&all.holdings), "b (2 bytes), a (1 bytes)");
    }
}
