//! What the metrics tell of the store beside its counters. Looking it up takes longer than counting, so it is done when
//! somebody asks, and not again for a while.

use super::archive::Disk;
use crate::topic::{Backlog, Topics};
use std::time::{Duration, Instant};

/// For how long a survey is good: looking at the files and at thousands of subscriptions takes the store's thread a
/// fraction of a millisecond, and nobody scrapes more often.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Clone, Debug, Default)]
pub(in crate::io) struct Survey {
    /// Bytes of the store's files.
    pub(in crate::io) size_bytes: u64,
    /// Bytes that are free on its file system.
    pub(in crate::io) free_bytes: u64,
    /// The largest backlogs.
    pub(in crate::io) backlogs: Vec<Backlog>,
}

impl Survey {
    /// One of those of all owners.
    pub(super) fn of_all(surveys: Vec<Self>) -> Self {
        let mut all = Self { free_bytes: u64::MAX, ..Self::default() };
        for survey in surveys {
            all.size_bytes += survey.size_bytes;
            // They are on one file system, and have looked at different times.
            all.free_bytes = all.free_bytes.min(survey.free_bytes);
            all.backlogs.extend(survey.backlogs);
        }
        Backlog::keep_largest(&mut all.backlogs);
        all
    }
}

/// The last survey.
#[derive(Default)]
pub(super) struct Surveyor {
    made: Option<(Instant, Survey)>,
}

impl Surveyor {
    /// The last survey if it is good enough, else another.
    pub(super) fn survey(&mut self, topics: &mut Topics<Disk>) -> Survey {
        let now = Instant::now();
        match &self.made {
            Some((made, survey)) if now - *made < GOOD_FOR => survey.clone(),
            last => {
                let (size_bytes, free_bytes) = topics.archive().room();
                // What cannot be looked up is as it was.
                let before = last.as_ref().map(|(_, survey)| survey);
                let survey = Survey {
                    size_bytes: size_bytes.or(before.map(|survey| survey.size_bytes)).unwrap_or(0),
                    free_bytes: free_bytes.or(before.map(|survey| survey.free_bytes)).unwrap_or(0),
                    backlogs: topics.backlogs(),
                };
                self.made = Some((now, survey.clone()));
                survey
            }
        }
    }
}
