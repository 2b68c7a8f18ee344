//! What is told of the store beside its counters: its room, and the topics that hold most of it. Looking that up takes
//! longer than counting, so it is done a piece at a time when it is asked for, and not again for a while; and before the
//! volume is full it is done once to be said in the log.

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

/// For how long a survey is good: looking at the files and at thousands of subscriptions takes the store's thread a
/// fraction of a millisecond, and scrapes are rarer.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// Topics that are told because they hold most: each is two lines of every scrape.
const HOLDINGS_MAX: usize = 20;
/// Topics that are printed because they hold most.
pub(super) const LARGEST: usize = 3;
/// Topics that are looked at at once.
const TOPICS_AT_ONCE: usize = 1024;
/// How long a survey keeps the store's thread for the topics that hold most; longer work goes on in later rounds.
const AT_ONCE: Duration = Duration::from_millis(2);
/// How often it is looked how full the volume is.
const WATCH_EVERY: Duration = Duration::from_secs(10);
/// Of a hundred parts of the volume, as `df` counts them, at how many there is a warning, and below how many it may come
/// again.
const FULL_PERCENT: u64 = 80;
const RELIEVED_PERCENT: u64 = 75;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(in crate::io) struct Survey {
    /// The room that the store takes.
    pub(in crate::io) room: Room,
    /// The largest backlogs.
    pub(in crate::io) backlogs: Vec<TopicBacklog>,
}

impl Survey {
    /// One of those of all owners.
    pub(super) fn of_all(surveys: Vec<Self>) -> Self {
        let mut all =
            Self { room: Room { free_bytes: u64::MAX, ..Room::default() }, backlogs: Vec::new() };
        for Survey { room, backlogs } in surveys {
            all.room.size_bytes += room.size_bytes;
            all.room.needed_bytes += room.needed_bytes;
            all.room.segments += room.segments;
            all.room.delayed += room.delayed;
            // They are on one file system, and have looked at different times.
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

/// What an owner's surveyor has found, and is looking for.
pub(super) struct Surveyor {
    made: Option<(Instant, Survey)>,
    /// The topics that hold most, the largest first, as they were last.
    largest: Vec<SurveyResult>,
    ranking: Option<Ranking>,
    watched: Instant,
    /// Whether the log has told, or soon will, that the volume is nearly full.
    is_alarmed: bool,
    /// Whether the topics that hold most are wanted for that.
    is_telling: bool,
}

/// A topic that holds room.
#[derive(Clone)]
struct SurveyResult {
    number: TopicNumber,
    holding: Holding,
    /// Its first message.
    first: Option<Position>,
}

/// The search for the topics that hold most.
#[derive(Default)]
struct Ranking {
    /// The last topic that was looked at; nothing more when all were.
    after: Option<Arc<str>>,
    is_ranked: bool,
    found: Vec<SurveyResult>,
    /// Of how many of those found it is known when their first message was published.
    dated: usize,
}

/// What the owners say of the topics that hold most of a volume that is nearly full. The last one tells it.
#[derive(Debug)]
pub(super) struct Board(Mutex<Vec<Option<Vec<Holding>>>>);

impl Board {
    pub(super) fn new(owners: usize) -> Self {
        Self(Mutex::new(vec![None; owners]))
    }

    /// An owner has found these. Returns those of all when it is the last.
    fn put(&self, owner: usize, holdings: Option<Vec<Holding>>) -> Option<Vec<Holding>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *places.get_mut(owner)? = holdings;
        let mut all: Vec<Holding> = places.iter().cloned().collect::<Option<Vec<_>>>()?.concat();
        Holding::keep_largest(&mut all, LARGEST);
        Some(all)
    }
}

/// Topics with what they hold, for people.
pub(super) fn told(holdings: &[Holding]) -> String {
    let told =
        holdings.iter().map(|Holding { topic, bytes, .. }| format!("{topic} ({bytes} bytes)"));
    told.collect::<Vec<_>>().join(", ")
}

impl Surveyor {
    pub(super) fn new() -> Self {
        Self {
            made: None,
            largest: Vec::new(),
            ranking: None,
            watched: Instant::now(),
            is_alarmed: false,
            is_telling: false,
        }
    }

    /// The last survey if it is good enough, else another. The topics that hold most are those that were found last when
    /// there are too many to look at all at once.
    pub(super) fn survey(&mut self, topics: &mut TopicOwner<Disk>) -> Survey {
        let now = Instant::now();
        match &self.made {
            Some((made, survey)) if now - *made < GOOD_FOR => {
                // What was being looked for then may have been found.
                let room = Room { holdings: self.holdings(), ..survey.room.clone() };
                Survey { room, backlogs: survey.backlogs.clone() }
            }
            last => {
                // What cannot be looked up is as it was.
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

    /// The topics that hold most, as they were last.
    fn holdings(&self) -> Vec<Holding> {
        self.largest.iter().map(|found| found.holding.clone()).collect()
    }

    /// Whether there is more to look for.
    pub(super) fn is_busy(&self) -> bool {
        self.ranking.is_some()
    }

    /// When [`Surveyor::watch`] wants to be called.
    pub(super) fn due(&self) -> Instant {
        self.watched + WATCH_EVERY
    }

    /// Looks how full the volume is, from time to time, and does a piece of the work that there is. `index` is that of the
    /// owner.
    pub(super) fn watch(&mut self, disk: &mut Disk, board: &Board, index: usize) {
        let now = Instant::now();
        if now >= self.due() {
            self.watched = now;
            match StoreVolume::of(&disk.directory).map(|volume| volume.percent()) {
                // Told once, and again only after it fell well below.
                Some(FULL_PERCENT..) if !self.is_alarmed => {
                    (self.is_alarmed, self.is_telling) = (true, true);
                    self.ranking = Some(Ranking::default());
                }
                Some(..RELIEVED_PERCENT) if self.is_alarmed => {
                    (self.is_alarmed, self.is_telling) = (false, false);
                    board.put(index, None);
                }
                _ => {}
            }
        }
        if self.ranking.is_some() {
            self.go_on(disk);
        }
        if self.is_telling && self.ranking.is_none() {
            self.is_telling = false;
            let largest = self.holdings();
            if let Some(largest) = board.put(index, Some(largest)) {
                warn(disk, &largest);
            }
        }
    }

    /// Looks at some topics, or for the date of one.
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
    /// Finds out when its first message was published, unless that is known from before.
    fn date(&mut self, disk: &mut Disk, known: Option<&Self>) {
        let topic = disk.catalog.topics.get_mut(&self.number);
        self.first = topic.and_then(|topic| topic.first());
        if let Some(known) =
            known.filter(|known| known.first.is_some() && known.first == self.first)
        {
            self.holding.oldest_ms = known.holding.oldest_ms;
            return;
        }
        // What cannot be read is told where it matters.
        let read = disk.read(self.number, Position::FIRST, 1, 1).unwrap_or_default();
        self.holding.oldest_ms = read.first().map(|message| message.message().published_ms);
    }
}

/// Bytes of the segments that are needed. How long the one is that is written is known only when it is full.
fn needed_bytes(disk: &Disk) -> u64 {
    let (active, segments) = (disk.log.active.number, &disk.catalog.segments);
    let newest = segments.get(&active).map_or(0, |segment| segment.live + segment.delayed);
    newest + segments.range(..active).map(|(_, segment)| segment.needed()).sum::<u64>()
}

fn warn(disk: &Disk, largest: &[Holding]) {
    let Some(volume) = StoreVolume::of(&disk.directory) else { return };
    let (percent, StoreVolume { used, free }) = (volume.percent(), volume);
    let most = if largest.is_empty() {
        "the store's messages take none of it".to_owned()
    } else {
        format!("most of the store is held by {}", told(largest))
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
        let board = Board::new(2);
        let first = vec![holding("a", 9), holding("b", 7)];
        assert_eq!(board.put(0, Some(first)), None);
        let all = board.put(1, Some(vec![holding("c", 8), holding("d", 1)])).unwrap();
        assert_eq!(told(&all), "a (9 bytes), c (8 bytes), b (7 bytes)");
        // After it fell, all of them have to tell anew.
        assert_eq!(board.put(0, None), None);
        assert_eq!(board.put(1, None), None);
        assert_eq!(board.put(0, Some(Vec::new())), None);
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
        assert_eq!(told(&all.holdings), "b (2 bytes), a (1 bytes)");
    }
}
