//! Facts about the process and its configuration, looked up for each scrape of the metrics.

use super::Hub;
use super::configured::LastConfiguration;
use super::log;
use crate::dialect::AppFacts;
use crate::dialect::{Kind, Settings};
use crate::http::{Facts, Process};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::time::Duration;

/// Apps with metrics of their own, in the order of the configuration: each is two lines of every
/// scrape.
const APPS_MAX: usize = 100;
/// How long a scrape waits for the store, which may be busy; the other facts are worth telling
/// without it.
const STORE_PATIENCE: Duration = Duration::from_millis(200);

impl Hub {
    /// The facts at this moment.
    pub(super) async fn facts(&self) -> Facts {
        // A store that is slow to answer leaves its metrics out, rather than the whole scrape.
        let survey = tokio::time::timeout(STORE_PATIENCE, self.store.survey()).await;
        let survey = survey.ok().and_then(Result::ok);
        let (room, backlogs) = survey.map(|survey| (survey.room, survey.backlogs)).unzip();

        let LastConfiguration { is_good, taken_s, limits, certificates } =
            self.configured.lock().clone();
        let settings = self.settings();
        let has_topics = self.spoken.iter().any(|kind| kind.has_topics());

        Facts {
            process: Process { start_s: self.started_ms as f64 / 1e3, ..process() },
            connections_max: limits.connections_max as u64,
            subscriptions_max: limits.subscriptions_max as u64,
            outbox_bytes_max: limits.outbox_bytes_max as u64,
            partial_bytes_max: limits.partial_bytes_max as u64,
            // 0 is no limit, which has no metric; as a value it would look like one that is
            // exceeded.
            connections_per_address_max: (limits.connections_per_address_max > 0)
                .then_some(limits.connections_per_address_max as u64),
            topics_max: has_topics.then(|| settings.topic_rules().topics_max as u64),
            is_configured: is_good,
            configured_s: taken_s,
            certificates,
            log_lines_dropped: log::dropped(),
            exports: self.ends.export_facts(),
            room,
            backlogs: backlogs.unwrap_or_default(),
            apps: apps(&settings, &self.spoken),
        }
    }
}

/// The apps of the spoken dialects, and those beyond the limit summed up as one without an id.
fn apps(settings: &Settings, spoken: &[Kind]) -> Vec<AppFacts> {
    let tables = settings.tables();
    let tables = tables.filter(|table| Kind::of_table(*table).any(|kind| spoken.contains(&kind)));
    let mut apps: Vec<AppFacts> = tables.flat_map(|table| table.apps()).collect();
    let others = apps.split_off(apps.len().min(APPS_MAX));
    let others = others.into_iter().reduce(|all, app| AppFacts {
        connections: all.connections + app.connections,
        events: all.events + app.events,
        ..all
    });

    apps.extend(others.map(|others| AppFacts { id: "".into(), ..others }));
    apps
}

/// The system's figures of this process; zeros where it has none.
fn process() -> Process {
    Process {
        open_fds: open_descriptors(),
        max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        ..usage()
    }
}

/// Those of them that cost as much on any kernel, however many connections there are.
pub(super) fn usage() -> Process {
    let (ticks, page) = (clock_ticks_per_second().max(1) as f64, page_size() as u64);
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // From the third field on, after the name, which may contain spaces (proc(5)).
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let fields: Vec<u64> =
        fields.split(' ').map(|field| field.trim().parse().unwrap_or(0)).collect();

    // The numbers of proc(5), where the first of these is field 3.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    Process {
        cpu_s: (field(14) + field(15)) as f64 / ticks,
        resident_bytes: field(24) * page,
        virtual_bytes: field(23),
        threads: field(20),
        ..Process::default()
    }
}

/// The number of open descriptors. Linux 6.2 and later tell it as the size of the directory, in
/// microseconds; reading the directory takes milliseconds with some thousand of them.
fn open_descriptors() -> u64 {
    let directory = "/proc/self/fd";
    match fs::metadata(directory) {
        Ok(metadata) if metadata.len() > 0 => metadata.len(),
        _ => fs::read_dir(directory).map_or(0, |entries| entries.count() as u64),
    }
}
