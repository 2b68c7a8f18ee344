//! What the daemon has done in the last hour, in samples: rates, gauges and latencies, for plots.
//!
//! The admin thread adds a sample every [`SAMPLE_S`] seconds. A rate is that of the time since the
//! sample before, however long that was.

use super::reply::respond;
use crate::counter::Counter;
use crate::dialect::Kind;
use crate::http::metrics::Process;
use crate::http::status::DaemonStatus;
use crate::metrics::{LATENCY_BOUNDS_US, Metrics, Outcome, quantile};
use crate::reason::Reason;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Seconds between samples: fine enough for a person to see what has happened when.
pub const SAMPLE_S: u64 = 5;
/// Maximum number of samples: an hour. Each takes some 250 bytes, and 8 for each reason for which
/// sessions have ended in it.
const SAMPLES_MAX: usize = 720;

/// Counts since the start of the daemon.
#[derive(Clone)]
struct HistoryTotals {
    at_ms: u64,
    /// In the order of [`RATES`].
    counts: [u64; RATES.len()],
    cpu_s: f64,
    latency: [u64; LATENCY_BOUNDS_US.len() + 1],
    ends: [u64; Reason::COUNT],
    refusals: [u64; Reason::COUNT],
}

/// A count of one thread.
type CountOf = fn(&Metrics) -> u64;

/// What is told as a rate, by its name.
const RATES: [(&str, CountOf); 6] = [
    ("events_s", |it| {
        it.events.iter().map(|outcomes| outcomes[Outcome::Accepted as usize].get()).sum()
    }),
    ("rejected_s", |it| {
        it.events.iter().map(|outcomes| outcomes[Outcome::Rejected as usize].get()).sum()
    }),
    ("deliveries_s", |it| it.deliveries.iter().map(Counter::get).sum()),
    ("messages_s", |it| it.messages.iter().map(Counter::get).sum()),
    ("bytes_in_s", |it| it.bytes_in.get()),
    ("bytes_out_s", |it| it.bytes_out.get()),
];

/// The latencies that are told, by their names.
const LATENCIES: [(&str, f64); 3] =
    [("latency_p50_us", 0.5), ("latency_p99_us", 0.99), ("latency_p999_us", 0.999)];

/// A sort of end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HistoryEnd {
    /// A session has ended.
    Ended,
    /// A connection or a request was refused.
    Refused,
}

impl HistoryEnd {
    fn name(self) -> &'static str {
        match self {
            Self::Ended => "ends",
            Self::Refused => "refusals",
        }
    }
}

/// A point of time, and what was so since the one before.
struct HistorySample {
    at_ms: u64,
    rates: [f32; RATES.len()],
    latencies: [Option<f32>; LATENCIES.len()],
    /// Cores that the process has used.
    cpu: f32,
    memory_bytes: u64,
    connections: u64,
    sessions: [u32; Kind::ALL.len()],
    outbox_bytes: u64,
    waiting: u64,
    /// Sessions that have ended, and connections and requests that were refused, by reason.
    ends: Box<[(HistoryEnd, Reason, u32)]>,
}

/// The samples of the last hour.
#[derive(Default)]
pub struct History {
    last: Option<HistoryTotals>,
    samples: VecDeque<HistorySample>,
    spoken: Vec<Kind>,
}

impl History {
    /// Adds a sample. The first call is only where the first sample begins.
    pub fn add(&mut self, status: &DaemonStatus, process: &Process) {
        let totals = HistoryTotals::of(status, process);
        let before = self.last.replace(totals.clone());
        let Some(before) = before.filter(|before| before.at_ms < totals.at_ms) else { return };
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.spoken.clone_from(&status.spoken);
        self.samples.push_back(HistorySample::new(&before, &totals, status, process));
    }

    /// The answer with the samples after a time, in milliseconds of unix time.
    #[must_use]
    pub fn answer(&self, after_ms: u64) -> Vec<u8> {
        let samples = || self.samples.iter().filter(|sample| sample.at_ms > after_ms);
        let mut series = HistorySeries::new();
        let mut add = |name: &str, value: &dyn Fn(&HistorySample) -> Option<f32>| {
            series.insert(name.into(), samples().map(value).collect());
        };
        for (index, (name, _)) in RATES.iter().enumerate() {
            add(name, &|it| Some(it.rates[index]));
        }
        for (index, (name, _)) in LATENCIES.iter().enumerate() {
            add(name, &|it| it.latencies[index]);
        }
        add("cpu", &|it| Some(it.cpu));
        add("memory_bytes", &|it| Some(it.memory_bytes as f32));
        add("connections", &|it| Some(it.connections as f32));
        add("outbox_bytes", &|it| Some(it.outbox_bytes as f32));
        add("waiting", &|it| Some(it.waiting as f32));
        for kind in &self.spoken {
            let name = format!("sessions.{}", kind.name());
            add(&name, &|it| Some(it.sessions[*kind as usize] as f32));
        }
        for end in [HistoryEnd::Ended, HistoryEnd::Refused] {
            for reason in Reason::ALL {
                let count = |it: &HistorySample| {
                    let found = it.ends.iter().find(|it| (it.0, it.1) == (end, *reason));
                    found.map_or(0, |(.., count)| *count)
                };
                if samples().any(|it| count(it) > 0) {
                    add(&format!("{}.{}", end.name(), reason.name()), &|it| Some(count(it) as f32));
                }
            }
        }
        let at_ms = samples().map(|sample| sample.at_ms).collect();
        respond(200, "", &V1History { step_s: SAMPLE_S, at_ms, series })
    }
}

/// Values by the name of their series.
type HistorySeries = BTreeMap<String, Vec<Option<f32>>>;

/// What the daemon has done in the last hour.
#[derive(Serialize, JsonSchema)]
pub(super) struct V1History {
    /// Seconds between samples.
    step_s: u64,
    /// The times of the samples, in milliseconds of unix time.
    at_ms: Vec<u64>,
    /// The values of the samples by the name of their series. Names that end in _s are rates per
    /// second; sessions.DIALECT are gauges; ends.REASON and refusals.REASON are counts, and absent
    /// where all are 0. A latency is null where nothing was delivered.
    series: HistorySeries,
}

impl HistoryTotals {
    fn of(status: &DaemonStatus, process: &Process) -> Self {
        let sum = |value: &dyn Fn(&Metrics) -> u64| -> u64 {
            status.threads.iter().map(|thread| value(thread)).sum()
        };
        Self {
            at_ms: status.now_ms,
            counts: RATES.map(|(_, value)| sum(&value)),
            cpu_s: process.cpu_s,
            latency: std::array::from_fn(|class| sum(&|it| it.latency[class].get())),
            ends: std::array::from_fn(|reason| sum(&|it| it.ends[reason].get())),
            refusals: std::array::from_fn(|reason| sum(&|it| it.refusals[reason].get())),
        }
    }
}

impl HistorySample {
    fn new(
        before: &HistoryTotals,
        now: &HistoryTotals,
        status: &DaemonStatus,
        process: &Process,
    ) -> Self {
        let seconds = (now.at_ms - before.at_ms) as f64 / 1000.0;
        let sum = |value: fn(&Metrics) -> &Counter| -> u64 {
            status.threads.iter().map(|thread| value(thread).get()).sum()
        };
        let latency: [u64; LATENCY_BOUNDS_US.len() + 1] =
            std::array::from_fn(|class| now.latency[class].saturating_sub(before.latency[class]));
        let mut ends = Vec::new();
        for reason in Reason::ALL {
            for (end, now, before) in [
                (HistoryEnd::Ended, &now.ends, &before.ends),
                (HistoryEnd::Refused, &now.refusals, &before.refusals),
            ] {
                let count = now[*reason as usize].saturating_sub(before[*reason as usize]);
                if count > 0 {
                    ends.push((end, *reason, count as u32));
                }
            }
        }
        Self {
            at_ms: now.at_ms,
            rates: std::array::from_fn(|rate| {
                (now.counts[rate].saturating_sub(before.counts[rate]) as f64 / seconds) as f32
            }),
            latencies: LATENCIES
                .map(|(_, share)| quantile(&latency, share).map(|value| value as f32)),
            cpu: ((now.cpu_s - before.cpu_s) / seconds) as f32,
            memory_bytes: process.resident_bytes,
            connections: sum(|it| &it.connections),
            sessions: std::array::from_fn(|kind| {
                status.threads.iter().map(|thread| thread.sessions[kind].get()).sum::<u64>() as u32
            }),
            outbox_bytes: sum(|it| &it.outbox_bytes),
            waiting: status.waiting,
            ends: ends.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Origin;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn told(history: &History, after_ms: u64) -> Value {
        let response = String::from_utf8(history.answer(after_ms)).unwrap();
        serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    #[test]
    fn a_sample_has_what_happened_since_the_one_before_and_an_hour_is_kept() {
        let (metrics, wazo) = (Arc::new(Metrics::default()), Kind::named("wazo").unwrap());
        let status = |now_ms| DaemonStatus {
            threads: vec![Arc::default(), Arc::clone(&metrics)],
            now_ms,
            spoken: vec![wazo],
            waiting: 3,
            ..DaemonStatus::default()
        };
        let used = |cpu_s| Process { cpu_s, resident_bytes: 7, ..Process::default() };
        let mut history = History::default();
        history.add(&status(1000), &used(1.0));
        assert_eq!(told(&history, 0)["at_ms"], json!([]));

        metrics.events[Origin::Unix as usize][Outcome::Accepted as usize].add(50);
        metrics.bytes_out.add(1000);
        metrics.sessions[wazo as usize].set(9);
        metrics.ends[Reason::Slow as usize].add(2);
        (0..100).for_each(|_| metrics.latency(40_000));
        history.add(&status(6000), &used(1.5));
        history.add(&status(11_000), &used(1.5));
        let all = told(&history, 0);
        assert_eq!((&all["step_s"], &all["at_ms"]), (&json!(5), &json!([6000, 11_000])));
        let series = all["series"].as_object().unwrap();
        for (name, values) in [
            ("events_s", json!([10.0, 0.0])),
            ("bytes_out_s", json!([200.0, 0.0])),
            ("sessions.wazo", json!([9.0, 9.0])),
            ("ends.slow", json!([2.0, 0.0])),
            ("latency_p50_us", json!([37.5, null])),
            ("cpu", json!([0.1, 0.0])),
            ("memory_bytes", json!([7.0, 7.0])),
            ("waiting", json!([3.0, 3.0])),
        ] {
            let found = series[name].as_array().unwrap();
            let is_near = |(a, b): (&Value, &Value)| match (a.as_f64(), b.as_f64()) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-6,
                (a, b) => a == b,
            };
            assert!(found.iter().zip(values.as_array().unwrap()).all(is_near), "{name}: {found:?}");
        }
        assert!(!series.contains_key("ends.client") && !series.contains_key("sessions.echo"));
        assert_eq!(told(&history, 6000)["at_ms"], json!([11_000]));

        (3..=1000).for_each(|n| history.add(&status(6000 + n * 5000), &used(2.0)));
        // A clock that is set back makes no sample.
        history.add(&status(4_000), &used(2.0));
        assert_eq!(history.samples.len(), SAMPLES_MAX);
        assert!(told(&history, 0)["series"].get("ends.slow").is_none());
    }
}
