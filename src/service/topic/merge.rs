//! Merging the answers of all owners to queries about all topics.

use super::TopicInquiry;
use super::inquiry::{NAMES_MAX, PAGE_TOPICS_MAX};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How to merge answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Names in order, up to a maximum number.
    Names(usize),
    /// A page of statistics, up to a maximum number of topics.
    Page(usize),
    /// Numbers by namespace, to be added up.
    Metrics,
}

/// Status of an owner's page that is not its last.
pub(super) const PARTIAL: u16 = 206;

impl Merge {
    /// How to merge the answers to a query; `None` for a query about one topic, which its owner
    /// answers.
    #[must_use]
    pub fn of(inquiry: &TopicInquiry) -> Option<Self> {
        match inquiry {
            TopicInquiry::List { count, .. } => Some(Self::Names((*count).min(NAMES_MAX))),
            TopicInquiry::ProxyStats { count, .. } => {
                Some(Self::Page((*count).clamp(1, PAGE_TOPICS_MAX)))
            }
            TopicInquiry::ProxyMetrics(_) => Some(Self::Metrics),
            _ => None,
        }
    }

    /// Merges the answers of all owners. If one is a failure, it is the answer.
    #[must_use]
    pub fn all(self, answers: Vec<(u16, Box<[u8]>)>) -> (u16, Box<[u8]>) {
        // Without one owner's part, the rest would look complete.
        if let Some(failed) =
            answers.iter().position(|(status, _)| ![200, PARTIAL].contains(status))
        {
            return answers.into_iter().nth(failed).unwrap_or_default();
        }
        let merged = match self {
            Self::Names(count) => names(&answers, count),
            Self::Page(count) => page(&answers, count),
            Self::Metrics => metrics(&answers).to_string().into_bytes(),
        };
        (200, merged.into())
    }
}

fn names(answers: &[(u16, Box<[u8]>)], count: usize) -> Vec<u8> {
    let lists =
        answers.iter().filter_map(|(_, list)| serde_json::from_slice::<Vec<String>>(list).ok());
    let mut names: Vec<String> = lists.flatten().collect();
    names.sort_unstable();
    names.truncate(count);
    serde_json::to_vec(&names).unwrap_or_default()
}

/// Merges pages. Topics after the end of an owner's incomplete page are left to the next page: that
/// owner may have topics in between. The statistics are copied unparsed: a page may have megabytes,
/// and a shard merges it.
fn page(answers: &[(u16, Box<[u8]>)], count: usize) -> Vec<u8> {
    let (mut topics, mut until) = (BTreeMap::new(), None::<String>);
    for (status, page) in answers {
        let page: BTreeMap<String, &RawValue> = serde_json::from_slice(page).unwrap_or_default();
        if *status == PARTIAL
            && let Some((last, _)) = page.last_key_value()
            && until.as_ref().is_none_or(|until| last < until)
        {
            until = Some(last.clone());
        }
        topics.extend(page);
    }
    let in_page =
        topics.into_iter().take_while(|(name, _)| until.as_ref().is_none_or(|until| name <= until));
    serde_json::to_vec(&in_page.take(count).collect::<BTreeMap<_, _>>()).unwrap_or_default()
}

fn metrics(answers: &[(u16, Box<[u8]>)]) -> Value {
    let mut spaces: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let lists =
        answers.iter().filter_map(|(_, list)| serde_json::from_slice::<Vec<Value>>(list).ok());
    for space in lists.flatten() {
        let Some(name) = space["dimensions"]["namespace"].as_str() else { continue };
        let Some(metrics) = space["metrics"].as_object() else { continue };
        let sums = spaces.entry(name.to_owned()).or_default();
        for (metric, value) in metrics {
            let sum = sums.entry(metric.clone()).or_insert(Value::from(0));
            *sum = match (sum.as_u64(), value.as_u64()) {
                (Some(one), Some(other)) => Value::from(one + other),
                _ => Value::from(sum.as_f64().unwrap_or(0.0) + value.as_f64().unwrap_or(0.0)),
            };
        }
    }
    let merged = spaces.into_iter().map(|(name, metrics)| {
        serde_json::json!({"metrics": metrics, "dimensions": {"namespace": name}})
    });
    merged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(merge: Merge, answers: &[(u16, &str)]) -> (u16, Value) {
        let answers =
            answers.iter().map(|(status, body)| (*status, body.as_bytes().into())).collect();
        let (status, body) = merge.all(answers);
        (
            status,
            serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()),
        )
    }

    #[test]
    fn names_of_all_owners_are_one_list_in_order() {
        let answers = [(200, r#"["a","d"]"#), (200, "[]"), (200, r#"["b","c"]"#)];
        assert_eq!(all(Merge::Names(3), &answers), (200, serde_json::json!(["a", "b", "c"])));
        let broken = [(200, r#"["a"]"#), (503, "the disk is full")];
        assert_eq!(all(Merge::Names(3), &broken), (503, "the disk is full".into()));
    }

    #[test]
    fn no_topic_is_left_out_between_two_pages() {
        let one = [(PARTIAL, r#"{"a":1,"c":1}"#), (200, r#"{"b":1,"d":1}"#)];
        assert_eq!(all(Merge::Page(10), &one).1, serde_json::json!({"a": 1, "b": 1, "c": 1}));
        let whole = [(200, r#"{"a":1,"c":1}"#), (200, r#"{"b":1,"d":1}"#)];
        assert_eq!(all(Merge::Page(10), &whole).1.as_object().unwrap().len(), 4);
        assert_eq!(all(Merge::Page(2), &whole).1, serde_json::json!({"a": 1, "b": 1}));
        let last = [(200, "{}"), (200, "{}")];
        assert_eq!(all(Merge::Page(10), &last), (200, serde_json::json!({})));
    }

    #[test]
    fn numbers_of_a_namespace_are_added_up() {
        let of = |name: &str, count: u32| {
            format!(
                r#"[{{"metrics":{{"rate":{count}.5,"count":{count}}},"dimensions":{{"namespace":"{name}"}}}}]"#
            )
        };
        let answers = [(200, &*of("t/n", 1)), (200, &*of("t/n", 2)), (200, &*of("t/m", 3))];
        let (_, sum) = all(Merge::Metrics, &answers);
        assert_eq!(sum.as_array().unwrap().len(), 2);
        assert_eq!(sum[1]["metrics"], serde_json::json!({"rate": 4.0, "count": 3}));
        assert_eq!(sum[0]["dimensions"]["namespace"], "t/m");
    }
}
