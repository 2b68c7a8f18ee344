//! Names and numbers of topics: which are loaded, how many there are, and which are partitioned.

use super::handles::TopicId;
use super::{Archive, Cause, Position, TopicName, TopicRefusal, TopicRules};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Names that are read from the archive at once.
const NAMES_AT_ONCE: usize = 10_000;

/// Names and numbers of the topics of one owner.
#[derive(Debug)]
pub(super) struct TopicCatalog {
    /// Loaded topics.
    pub(super) names: HashMap<Box<str>, TopicId, ahash::RandomState>,
    /// Topics that are stored, loaded or not.
    pub(super) count: usize,
    /// Those of all owners.
    all_count: Arc<AtomicUsize>,
    /// After all positions of topics that were deleted in this run.
    pub(super) fresh: Position,
    /// Numbers of partitions, by topic.
    partitioned: HashMap<Box<str>, u32, ahash::RandomState>,
    /// The last topic that the sweep has looked at.
    pub(super) swept: Box<str>,
}

impl TopicCatalog {
    /// The catalog of an archive, of which nothing is loaded.
    pub(super) fn new(rules: &TopicRules, archive: &mut impl Archive) -> Self {
        let (mut count, mut after) = (0, Box::default());
        // What cannot be read is not counted; the archive tells what is wrong.
        while let Ok(names) = archive.names("", &after, NAMES_AT_ONCE) {
            count += names.len();
            match names.into_iter().next_back() {
                Some(last) => after = last,
                None => break,
            }
        }
        let mut catalog = Self {
            names: HashMap::default(),
            count,
            all_count: Arc::new(AtomicUsize::new(count)),
            fresh: Position::FIRST,
            partitioned: HashMap::default(),
            swept: "".into(),
        };
        catalog.configure(rules);
        catalog
    }

    /// Takes the partitioned topics of the rules.
    pub(super) fn configure(&mut self, rules: &TopicRules) {
        let partitioned = rules.partitioned.iter();
        self.partitioned =
            partitioned.map(|(name, count)| (name.as_str().into(), *count)).collect();
    }

    /// Counts its topics together with those of other owners.
    pub(super) fn share(&mut self, all_count: &Arc<AtomicUsize>) {
        all_count.fetch_add(self.count, Relaxed);
        self.all_count = Arc::clone(all_count);
    }

    /// Topics of all owners. Two that create some at the same time may each not know of the other's yet.
    pub(super) fn count_of_all(&self) -> usize {
        self.all_count.load(Relaxed)
    }

    /// Counts a topic that was created.
    pub(super) fn add(&mut self) {
        self.count += 1;
        self.all_count.fetch_add(1, Relaxed);
    }

    /// Takes a topic out that was deleted.
    pub(super) fn remove(&mut self, name: &TopicName) {
        self.names.remove(name.as_str());
        self.count = self.count.saturating_sub(1);
        self.all_count.fetch_sub(1, Relaxed);
    }

    /// The topics that a name stands for, with the partitions in their messages' ids.
    pub(super) fn expand(&self, name: &TopicName) -> Vec<(TopicName, Option<u32>)> {
        match self.partitions(name) {
            Some(count) => {
                (0..count).map(|number| (name.partition(number), Some(number))).collect()
            }
            None => vec![(name.clone(), name.partition_number())],
        }
    }

    /// How many partitions a topic has, if it is partitioned.
    pub(super) fn partitions(&self, name: &TopicName) -> Option<u32> {
        self.partitioned.get(name.as_str()).copied()
    }

    /// The name of the partitioned topic of which this is a partition.
    pub(super) fn whole<'a>(&self, name: &'a TopicName) -> Option<&'a str> {
        let (base, _) = name.as_str().rsplit_once("-partition-")?;
        (name.partition_number().is_some() && self.partitioned.contains_key(base)).then_some(base)
    }

    /// The name under which connections know a topic: that of the whole for a partition.
    pub(super) fn known_name<'a>(&self, name: &'a TopicName) -> &'a str {
        self.whole(name).unwrap_or(name.as_str())
    }

    /// Refuses a partition beyond the number that its topic has: no consumer of the topic would ever get its messages.
    pub(super) fn check_partition(&self, name: &TopicName) -> Result<(), TopicRefusal> {
        let Some(whole) = self.whole(name) else { return Ok(()) };
        let count = self.partitioned.get(whole).copied().unwrap_or(0);
        match name.partition_number().filter(|number| *number >= count) {
            Some(number) => {
                let reason = format!(
                    "there is no partition {number}: the topic has {count}, counted from 0"
                );
                Err(Cause::NotFound.because(&reason))
            }
            None => Ok(()),
        }
    }
}
