//! The state of `fanfare top`: what the daemon has told, and what the person at the terminal has
//! chosen. A value, which is given answers and keys, and drawn.

use crate::dialect::Kind;
use crate::metrics::quantile;
use core::net::IpAddr;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// Maximum number of samples: one for each column of the widest plot that makes sense, a second
/// each.
const SAMPLES_MAX: usize = 241;
/// Samples whose latencies are taken together: percentiles of one second of a quiet daemon say
/// nothing.
const LATENCY_SAMPLES: usize = 10;

/// Counts since the start of the daemon, at some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TopSample {
    at: Duration,
    counts: [u64; TopRate::ALL.len()],
    latency: Vec<u64>,
}

/// What is told as a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopRate {
    Events,
    Deliveries,
    BytesOut,
    Ends,
}

impl TopRate {
    pub(super) const ALL: [Self; 4] = [Self::Events, Self::Deliveries, Self::BytesOut, Self::Ends];

    /// Its value in a sample of the history, which is that of so many seconds.
    fn past(self, series: &Value, sample: usize, seconds: usize) -> f64 {
        let value = |values: &Value| values[sample].as_f64().unwrap_or(0.0);
        match self {
            Self::Events => value(&series["events_s"]) + value(&series["rejected_s"]),
            Self::Deliveries => value(&series["deliveries_s"]),
            Self::BytesOut => value(&series["bytes_out_s"]),
            Self::Ends => {
                let all = series.as_object().into_iter().flatten();
                let ends = all
                    .filter(|(name, _)| name.starts_with("ends.") || name.starts_with("refusals."));
                ends.map(|(_, values)| value(values)).sum::<f64>() / seconds as f64
            }
        }
    }
}

/// What is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TopTab {
    #[default]
    Sessions,
    Backlogs,
    Ended,
}

impl TopTab {
    pub(super) const ALL: [Self; 3] = [Self::Sessions, Self::Backlogs, Self::Ended];

    /// The member of the answer that has the rows.
    pub(super) fn rows(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Backlogs => "backlogs",
            Self::Ended => "ended",
        }
    }
}

/// What the person is asked, or types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum TopPrompt {
    #[default]
    None,
    /// A filter.
    Filter(String),
    /// Whether to end this session.
    Kick(String),
}

/// What the daemon has told.
pub(super) enum TopNews {
    /// The answer about its state.
    Status(Value),
    /// The rows of a list, as it was asked for.
    Rows(TopList, Vec<Value>),
    /// The number of sessions ended.
    Kicked(u64),
    /// It has refused something, and why.
    Refused(String),
    /// It does not answer.
    Silent(String),
}

/// A list as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TopList {
    pub(super) tab: TopTab,
    /// Whether the oldest sessions come first, and not the slowest.
    pub(super) is_by_age: bool,
    /// The filter, as it was typed.
    pub(super) filter: String,
}

impl TopList {
    /// The parameters of its request. A word of the filter says by its form what it is, unless a
    /// name and an equals sign stand before it.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        if self.tab == TopTab::Sessions {
            all.push(("sort", if self.is_by_age { "age" } else { "backlog" }.to_owned()));
        }
        let known: &[&str] = match self.tab {
            TopTab::Sessions => &["dialect", "address", "subject", "topic"],
            TopTab::Backlogs => &[],
            TopTab::Ended => &["dialect", "address", "subject", "reason"],
        };
        for word in self.filter.split_whitespace() {
            let named = word.split_once('=').and_then(|(name, value)| {
                known.iter().find(|known| **known == name).map(|name| (*name, value))
            });
            let (name, value) = named.unwrap_or((sort_of(word), word));
            if known.contains(&name) {
                all.push((name, value.to_owned()));
            }
        }
        all
    }
}

/// What a word of a filter is by its form.
fn sort_of(word: &str) -> &'static str {
    if Kind::named(word).is_some() {
        "dialect"
    } else if word.parse::<IpAddr>().is_ok() {
        "address"
    } else if word.contains('/') && Kind::of_address(word).is_some() {
        "topic"
    } else {
        "subject"
    }
}

/// All that is drawn.
#[derive(Default)]
pub(super) struct TopState {
    pub(super) status: Value,
    pub(super) list: TopList,
    pub(super) prompt: TopPrompt,
    /// What has become of the last order.
    pub(super) message: String,
    /// Why what is shown is old.
    pub(super) silence: Option<String>,
    samples: VecDeque<TopSample>,
    /// What the rates were before the first sample, a second each.
    past: VecDeque<[f64; TopRate::ALL.len()]>,
    rows: Vec<Value>,
    /// The id of the chosen session.
    chosen: Option<String>,
}

impl TopState {
    /// Takes in what the daemon has told at a time since some start.
    pub(super) fn hear(&mut self, news: TopNews, at: Duration) {
        match news {
            TopNews::Silent(reason) => self.silence = Some(reason),
            TopNews::Refused(reason) => self.message = reason,
            TopNews::Kicked(count) => self.message = format!("ended {count}"),
            TopNews::Status(status) => {
                if self.status["pid"] != status["pid"] {
                    // Another daemon counts from zero.
                    self.samples.clear();
                    self.past.clear();
                }
                self.samples.push_back(TopSample::of(&status, at));
                if self.samples.len() > SAMPLES_MAX {
                    self.samples.pop_front();
                }
                self.forget();
                self.status = status;
                self.silence = None;
            }
            // The answer to an older question is no longer wanted.
            TopNews::Rows(list, rows) if list == self.list => self.rows = rows,
            TopNews::Rows(..) => {}
        }
    }

    /// Takes in what the daemon has kept of the time before.
    pub(super) fn recall(&mut self, history: &Value) {
        let seconds = history["step_s"].as_u64().unwrap_or(0).min(SAMPLES_MAX as u64) as usize;
        let count = history["at_ms"].as_array().map_or(0, Vec::len);
        for index in 0..count {
            let rates = TopRate::ALL.map(|rate| rate.past(&history["series"], index, seconds));
            self.past.extend(std::iter::repeat_n(rates, seconds));
        }
        self.forget();
    }

    /// Forgets the oldest of what no plot has room for.
    fn forget(&mut self) {
        let most = SAMPLES_MAX.saturating_sub(self.samples.len());
        self.past.drain(..self.past.len().saturating_sub(most));
    }

    /// Shows another list, or the same in another way. Nothing is known of it yet.
    pub(super) fn show(&mut self, list: TopList) {
        if list.tab != self.list.tab {
            self.rows.clear();
        }
        self.list = list;
        self.message.clear();
    }

    /// The rows that are listed.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Value> {
        // The daemon filters the others.
        let is_meant = |row: &&Value| {
            let is_in =
                |text: &Value, word: &str| text.as_str().is_some_and(|it| it.contains(word));
            let mut words = self.list.filter.split_whitespace();
            words.all(|word| is_in(&row["topic"], word) || is_in(&row["subscription"], word))
        };
        self.rows.iter().filter(move |row| self.list.tab != TopTab::Backlogs || is_meant(row))
    }

    /// The place of the chosen row among them.
    pub(super) fn chosen(&self) -> Option<usize> {
        let place = self.rows().position(|row| row["id"].as_str() == self.chosen.as_deref());
        // One that has gone is replaced by the first.
        place.filter(|_| self.chosen.is_some()).or(self.rows().next().map(|_| 0))
    }

    /// The chosen session.
    pub(super) fn session(&self) -> Option<&Value> {
        let is_listed = self.list.tab == TopTab::Sessions;
        self.chosen().and_then(|place| self.rows().nth(place)).filter(|_| is_listed)
    }

    /// Chooses the row that stands so many places below, or above.
    pub(super) fn choose(&mut self, step: isize) {
        let last = self.rows().count().saturating_sub(1);
        let place = self.chosen().unwrap_or(0).saturating_add_signed(step).min(last);
        let chosen = self.rows().nth(place).and_then(|row| Some(row["id"].as_str()?.to_owned()));
        self.chosen = chosen;
    }

    /// The last value of a rate.
    pub(super) fn rate(&self, rate: TopRate) -> f64 {
        self.rates(rate).last().unwrap_or(0.0)
    }

    /// The values of a rate, the oldest first.
    pub(super) fn rates(&self, rate: TopRate) -> impl Iterator<Item = f64> {
        let before = self.samples.iter();
        let seen = before.zip(self.samples.iter().skip(1)).map(move |(before, now)| {
            let seconds = (now.at - before.at).as_secs_f64().max(0.001);
            now.counts[rate as usize].saturating_sub(before.counts[rate as usize]) as f64 / seconds
        });
        self.past.iter().map(move |rates| rates[rate as usize]).chain(seen)
    }

    /// The latency that a share of the last events did not exceed, in microseconds.
    pub(super) fn latency(&self, share: f64) -> Option<f64> {
        let now = self.samples.back()?;
        let from = self.samples.len().saturating_sub(1 + LATENCY_SAMPLES);
        let before = &self.samples[from];
        let counts = now.latency.iter().zip(&before.latency);
        let counts: Vec<u64> = counts.map(|(now, before)| now.saturating_sub(*before)).collect();
        quantile(&counts, share)
    }
}

impl TopSample {
    fn of(status: &Value, at: Duration) -> Self {
        let totals = &status["totals"];
        // Of counts by source, dialect or reason.
        let sum = |name: &str| {
            let counts = totals[name].as_object().into_iter().flatten();
            counts.filter_map(|(_, count)| count.as_u64()).sum::<u64>()
        };
        let latency = status["latency"]["counts"].as_array().into_iter().flatten();
        Self {
            at,
            counts: TopRate::ALL.map(|rate| match rate {
                TopRate::Events => sum("events"),
                TopRate::Deliveries => sum("deliveries"),
                TopRate::BytesOut => totals["bytes_out"].as_u64().unwrap_or(0),
                TopRate::Ends => sum("ends") + sum("refusals"),
            }),
            latency: latency.map(|count| count.as_u64().unwrap_or(0)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(pid: u32, events: u64) -> TopNews {
        let mut latency = vec![0; 17];
        latency[1] = events;
        TopNews::Status(json!({
            "pid": pid, "latency": { "counts": latency },
            "totals": { "events": { "unix": events, "http": 0 }, "bytes_out": 10 * events },
        }))
    }

    #[test]
    fn rates_are_between_two_answers_and_begin_anew_with_another_daemon() {
        let mut state = TopState::default();
        assert_eq!((state.rate(TopRate::Events), state.latency(0.5)), (0.0, None));
        for (second, events) in [(1, 100), (2, 150), (4, 150)] {
            state.hear(status(7, events), Duration::from_secs(second));
        }
        assert_eq!(state.rates(TopRate::Events).collect::<Vec<_>>(), [50.0, 0.0]);
        state.hear(status(7, 160), Duration::from_secs(5));
        assert_eq!(state.rate(TopRate::BytesOut), 100.0);
        assert_eq!(state.latency(0.5), Some(37.5));

        state.hear(TopNews::Silent("gone".into()), Duration::from_secs(6));
        assert!(state.silence.is_some());
        state.hear(status(8, 3), Duration::from_secs(9));
        assert_eq!((state.rates(TopRate::Events).count(), state.silence.take()), (0, None));
        (10..400).for_each(|second| state.hear(status(8, 3), Duration::from_secs(second)));
        assert_eq!(state.samples.len(), SAMPLES_MAX);
    }

    #[test]
    fn plots_begin_with_what_the_daemon_has_kept() {
        let history = json!({ "step_s": 5, "at_ms": [1000, 6000], "series": {
            "events_s": [3.0, 4.5], "rejected_s": [1.0, 0.0], "bytes_out_s": [null, 7.0],
            "ends.slow": [10, 0], "refusals.token": [0, 5], "sessions.echo": [9, 9],
        }});
        let mut state = TopState::default();
        state.hear(status(7, 100), Duration::from_secs(1));
        state.recall(&history);
        let rates = |state: &TopState, rate| state.rates(rate).collect::<Vec<_>>();
        assert_eq!(rates(&state, TopRate::Events), [[4.0; 5], [4.5; 5]].concat());
        assert_eq!(rates(&state, TopRate::BytesOut), [[0.0; 5], [7.0; 5]].concat());
        assert_eq!(rates(&state, TopRate::Ends), [[2.0; 5], [1.0; 5]].concat());
        assert_eq!(state.rate(TopRate::Events), 4.5);

        state.hear(status(7, 150), Duration::from_secs(2));
        assert_eq!(rates(&state, TopRate::Events)[9..], [4.5, 50.0]);
        (3..240).for_each(|second| state.hear(status(7, 150), Duration::from_secs(second)));
        assert_eq!(rates(&state, TopRate::Events)[..2], [4.5, 4.5], "the oldest have gone");
        state.hear(status(8, 3), Duration::from_secs(300));
        assert!(rates(&state, TopRate::Events).is_empty());
    }

    #[test]
    fn the_words_of_a_filter_say_by_their_form_what_they_are() {
        let parameters = |tab, filter: &str| {
            let list = TopList { tab, filter: filter.into(), is_by_age: true };
            let all = list.parameters();
            all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        for (tab, filter, expected) in [
            (TopTab::Sessions, "", "sort=age"),
            (TopTab::Sessions, "echo ::1", "sort=age dialect=echo address=::1"),
            (TopTab::Sessions, "echo/7/room ann", "sort=age topic=echo/7/room subject=ann"),
            (
                TopTab::Sessions,
                "subject=echo reason=slow",
                "sort=age subject=echo subject=reason=slow",
            ),
            (TopTab::Ended, "reason=slow wazo/call", "reason=slow"),
            (TopTab::Backlogs, "orders", ""),
        ] {
            assert_eq!(parameters(tab, filter), expected, "{filter}");
        }
    }

    #[test]
    fn the_chosen_session_stays_chosen_wherever_it_moves() {
        let mut state = TopState::default();
        let rows = |ids: &[&str]| ids.iter().map(|id| json!({ "id": id })).collect();
        assert_eq!((state.chosen(), state.session()), (None, None));
        state.hear(TopNews::Rows(TopList::default(), rows(&["a", "b", "c"])), Duration::ZERO);
        assert_eq!(state.chosen(), Some(0));
        state.choose(1);
        state.hear(TopNews::Rows(TopList::default(), rows(&["c", "a", "b"])), Duration::ZERO);
        assert_eq!(state.session(), Some(&json!({ "id": "b" })));
        state.choose(5);
        assert_eq!(state.chosen(), Some(2));
        state.choose(-1);
        state.hear(TopNews::Rows(TopList::default(), rows(&["c"])), Duration::ZERO);
        assert_eq!(state.chosen(), Some(0), "it has gone");
        let other = TopList { is_by_age: true, ..TopList::default() };
        state.hear(TopNews::Rows(other, rows(&["x"])), Duration::ZERO);
        assert_eq!(state.session().unwrap()["id"], "c", "that was not asked for");
    }
}
