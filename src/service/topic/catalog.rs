//! Topic names and numbers: which topics are loaded, how many exist, and which are partitioned.

use super::handles::TopicId;
use super::{Archive, Cause, Position, TopicName, TopicRefusal, TopicRules};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Names read from the archive in one step.
const NAMES_AT_ONCE: usize = 10_000;

/// The topic names and counts of one owner.
#[derive(Debug)]
pub(super) struct TopicCatalog {
    /// Loaded topics by name.
    pub(super) names: HashMap<Box<str>, TopicId, ahash::RandomState>,
    /// Number of stored topics, loaded or not.
    pub(super) count: usize,
    /// Number of stored topics of all owners.
    all_count: Arc<AtomicUsize>,
    /// A position after all those of topics deleted in this run.
    pub(super) fresh: Position,
    /// Number of partitions, by topic.
    partitioned: HashMap<Box<str>, u32, ahash::RandomState>,
    /// The last topic visited by the sweep.
    pub(super) swept: Box<str>,
}

impl TopicCatalog {
    /// The catalog of an archive, with nothing loaded.
    pub(super) fn new(rules: &TopicRules, archive: &mut impl Archive) -> Self {
        let (mut count, mut after) = (0, Box::default());
        // Names that cannot be read are not counted; the archive logs the error.
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

    /// Adopts the partitioned topics of the rules.
    pub(super) fn configure(&mut self, rules: &TopicRules) {
        let partitioned = rules.partitioned.iter();
        self.partitioned =
            partitioned.map(|(name, count)| (name.as_str().into(), *count)).collect();
    }

    /// Merges its count into the one shared by all owners.
    pub(super) fn share(&mut self, all_count: &Arc<AtomicUsize>) {
        all_count.fetch_add(self.count, Relaxed);
        self.all_count = Arc::clone(all_count);
    }

    /// Number of topics of all owners. Owners that create topics concurrently may exceed a limit on
    /// it slightly.
    pub(super) fn count_of_all(&self) -> usize {
        // Relaxed suffices: the limit that it serves may be exceeded slightly.
        self.all_count.load(Relaxed)
    }

    /// Counts a created topic.
    pub(super) fn add(&mut self) {
        self.count += 1;
        self.all_count.fetch_add(1, Relaxed);
    }

    /// Removes a deleted topic.
    pub(super) fn remove(&mut self, name: &TopicName) {
        self.names.remove(name.as_str());
        self.count = self.count.saturating_sub(1);
        self.all_count.fetch_sub(1, Relaxed);
    }

    /// The topics that a name refers to, with their partition numbers in message ids.
    pub(super) fn expand(&self, name: &TopicName) -> Vec<(TopicName, Option<u32>)> {
        match self.partitions(name) {
            Some(count) => {
                (0..count).map(|number| (name.partition(number), Some(number))).collect()
            }
            None => vec![(name.clone(), name.partition_number())],
        }
    }

    /// Number of partitions of a topic; `None` when it is not partitioned.
    pub(super) fn partitions(&self, name: &TopicName) -> Option<u32> {
        self.partitioned.get(name.as_str()).copied()
    }

    /// The partitioned topic that this is a partition of.
    pub(super) fn whole<'a>(&self, name: &'a TopicName) -> Option<&'a str> {
        let (base, _) = name.as_str().rsplit_once("-partition-")?;
        (name.partition_number().is_some() && self.partitioned.contains_key(base)).then_some(base)
    }

    /// The name by which connections know a topic: a partition's is that of the whole.
    pub(super) fn known_name<'a>(&self, name: &'a TopicName) -> &'a str {
        self.whole(name).unwrap_or(name.as_str())
    }

    /// Refuses a partition beyond the configured number: no consumer of the topic would ever get
    /// its messages.
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
